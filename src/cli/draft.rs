//! From what the options said to a [`JobSpec`] and the bytes behind it, or a refusal that names what is wrong.
//!
//! Everything the client can see is checked here (directories, file name patterns, sizes); what only the
//! cluster knows (partitions, limits, features) is left to it.

use super::exit::{Failure, Outcome};
use super::job_options::Source;
use super::script::quoted;
use super::streams::Streams;
use super::surroundings;
use crate::model::array::ArraySpec;
use crate::model::dependency::Dependency;
use crate::model::export::ExportSpec;
use crate::model::filename;
use crate::model::ids::BlobId;
use crate::model::job::{JobSpec, Launch, OpenMode};
use crate::model::refusal::Code;
use crate::model::resource::{GpuRequest, MemoryRequest, Request};
use crate::model::shared::Text;
use crate::model::signal::SignalSpec;
use crate::model::step::StepOptions;
use crate::model::time::Timestamp;
use anyhow::Context;
use std::env;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Longest `command` kept for people to read; bytes.
const COMMAND_MAX: usize = 512;
/// Seconds between SIGTERM and SIGKILL when nothing else is said.
const KILL_WAIT_S: u32 = 30;

/// What the options of one submission said, before it is put together.
#[derive(Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "one field for each option of the table"
)]
pub(super) struct Draft {
    /// Where the option being applied was said.
    pub(super) source: Option<Source>,
    pub(super) request: Request,
    /// The memory option in force, to tell two that exclude one another.
    pub(super) memory_by: Option<(Source, &'static str)>,
    /// Likewise for GPUs.
    pub(super) gpus_by: Option<(Source, &'static str)>,
    pub(super) name: Option<String>,
    pub(super) partition: Option<String>,
    pub(super) account: Option<String>,
    pub(super) qos: Option<String>,
    pub(super) time_limit_s: Option<u32>,
    pub(super) begin: Option<Timestamp>,
    pub(super) dependency: Option<Dependency>,
    pub(super) kill_on_invalid_dependency: bool,
    pub(super) array: Option<ArraySpec>,
    pub(super) hold: bool,
    pub(super) nice: Option<i32>,
    pub(super) requeue: bool,
    pub(super) comment: Option<String>,
    pub(super) work_dir: Option<String>,
    pub(super) export: Option<ExportSpec>,
    pub(super) output: Option<String>,
    pub(super) error: Option<String>,
    pub(super) input: Option<String>,
    pub(super) open_mode: OpenMode,
    pub(super) signal: Option<SignalSpec>,
    pub(super) kill_wait_s: Option<u32>,
    pub(super) wrap: Option<String>,
    pub(super) parsable: bool,
    pub(super) wait: bool,
    pub(super) test_only: bool,
    pub(super) dry_run: bool,
    pub(super) quiet: bool,
    pub(super) label: bool,
    pub(super) verbose: bool,
    /// What stands in place of a program names one for each rank.
    pub(super) multi_prog: bool,
    /// Where the streams of tasks lead.
    pub(super) streams: Streams,
    /// How its tasks are to be started, beyond their program.
    pub(super) step: StepOptions,
    /// Copy the program to the nodes first; where to, or empty.
    pub(super) bcast: Option<String>,
}

/// What is to be started, before its bytes are named.
#[derive(Debug)]
pub(super) enum Program {
    /// A script and its arguments.
    Script {
        /// Its bytes.
        bytes: Vec<u8>,
        /// After its name.
        arguments: Vec<String>,
    },
    /// A command, once.
    Command(Vec<String>),
    /// A command, for every task, attached.
    Tasks(Vec<String>),
    /// Nothing; the allocation is held.
    Hold,
}

/// Bytes and their names.
pub(super) type Blobs = Vec<(BlobId, Vec<u8>)>;

impl Draft {
    /// Sets memory; two different memory options of one source exclude one another, a later source wins.
    pub(super) fn memory(
        &mut self,
        option: &'static str,
        request: MemoryRequest,
    ) -> Result<(), String> {
        claim(&mut self.memory_by, self.source, option)?;
        self.request.memory = request;
        Ok(())
    }

    /// Sets GPUs, likewise.
    pub(super) fn gpus(&mut self, option: &'static str, request: GpuRequest) -> Result<(), String> {
        claim(&mut self.gpus_by, self.source, option)?;
        self.request.gpus = request;
        Ok(())
    }

    /// Puts the job together. `title` names it when nothing else does, `command` shows what it runs.
    pub(super) fn build(
        &self,
        program: Program,
        title: &str,
        command: &str,
    ) -> Outcome<(JobSpec, Blobs)> {
        let batch = matches!(program, Program::Script { .. } | Program::Command(_));
        if !batch && self.signal.is_some_and(|signal| signal.batch_only) {
            return Err(Failure::Usage(
                "--signal=B:... is for the script of a batch job, and here is none: leave out B:, then the tasks get it"
                    .into(),
            ));
        }
        let mut blobs = Blobs::new();
        let launch = match program {
            Program::Script { bytes, arguments } => Launch::Script {
                arguments: add(&mut blobs, pack(&arguments)),
                script: add(&mut blobs, bytes),
            },
            Program::Command(arguments) => Launch::Command {
                arguments: add(&mut blobs, pack(&arguments)),
            },
            Program::Tasks(arguments) if self.step.is_empty() => Launch::Tasks {
                arguments: add(&mut blobs, pack(&arguments)),
            },
            Program::Tasks(arguments) => Launch::Step {
                arguments: add(&mut blobs, pack(&arguments)),
                options: self.step.clone(),
            },
            Program::Hold => Launch::Hold,
        };
        let surroundings = add(
            &mut blobs,
            pack(&surroundings::capture(self.export.as_ref())),
        );
        let work_dir = self.directory()?;
        let spec = JobSpec {
            name: self.name.as_deref().unwrap_or(title).into(),
            partition: self.partition.as_deref().unwrap_or_default().into(),
            account: self.account.as_deref().unwrap_or_default().into(),
            qos: self.qos.as_deref().unwrap_or_default().into(),
            launch,
            surroundings,
            command: cut(command, COMMAND_MAX).into(),
            request: Arc::new(self.request.clone()),
            array: self.array.clone().map(Box::new),
            dependency: self.dependency.clone().map(Box::new),
            kill_on_invalid_dependency: self.kill_on_invalid_dependency,
            begin: self.begin,
            time_limit_s: self.time_limit_s,
            hold: self.hold,
            requeue: self.requeue,
            nice: self.nice.unwrap_or(0),
            signal: self.signal,
            output: checked_file("output", self.output.as_deref(), &work_dir)?.map(Text::from),
            error: checked_file("error", self.error.as_deref(), &work_dir)?.map(Text::from),
            input: checked_file("input", self.input.as_deref(), &work_dir)?.map(Text::from),
            work_dir: work_dir.into(),
            open_mode: self.open_mode,
            kill_wait_s: self.kill_wait_s.unwrap_or(KILL_WAIT_S),
            comment: self.comment.as_deref().map(Text::from),
            submit_host: super::host_name().into(),
        };
        Ok((spec, blobs))
    }

    /// Where the processes start; it exists.
    pub(super) fn directory(&self) -> Outcome<String> {
        let here = current_dir()?;
        let dir = match &self.work_dir {
            None => here,
            Some(dir) => {
                let dir = here.join(dir);
                if !dir.is_dir() {
                    return Err(Failure::refused(
                        Code::Path,
                        format!("working directory {} does not exist", dir.display()),
                        "create it first, or name another with --chdir",
                    ));
                }
                dir
            }
        };
        match dir.into_os_string().into_string() {
            Ok(dir) => Ok(dir),
            Err(dir) => Err(Failure::refused(
                Code::Path,
                format!("working directory {} is not UTF-8", dir.display()),
                "submit from another directory or name one with --chdir",
            )),
        }
    }
}

fn claim(
    holder: &mut Option<(Source, &'static str)>,
    source: Option<Source>,
    option: &'static str,
) -> Result<(), String> {
    let source = source.unwrap_or(Source::CommandLine);
    match *holder {
        Some((same, other)) if same == source && other != option => Err(format!(
            "--{other} and --{option} exclude one another: say one of them"
        )),
        _ => {
            *holder = Some((source, option));
            Ok(())
        }
    }
}

fn add(blobs: &mut Blobs, bytes: Vec<u8>) -> BlobId {
    let id = BlobId::of(&bytes);
    blobs.push((id, bytes));
    id
}

fn pack<T: serde::Serialize>(value: &T) -> Vec<u8> {
    postcard::to_stdvec(value).expect("our own values serialise")
}

/// The present directory, by the name the shell gave it where that is true (automounts, links).
pub(super) fn current_dir() -> Outcome<PathBuf> {
    let here = env::current_dir().context("cannot tell the present directory")?;
    if let Some(shown) =
        super::paths::variable("PWD").filter(|shown| shown.is_absolute() && *shown != here)
        && let (Ok(one), Ok(other)) = (fs::metadata(&shown), fs::metadata(&here))
        && (one.dev(), one.ino()) == (other.dev(), other.ino())
    {
        return Ok(shown);
    }
    Ok(here)
}

/// A file name pattern that makes sense, in a directory that exists as far as can be told.
pub(super) fn checked_file(
    option: &str,
    pattern: Option<&str>,
    work_dir: &str,
) -> Outcome<Option<String>> {
    let Some(pattern) = pattern else {
        return Ok(None);
    };
    filename::validate(pattern).map_err(|error| Failure::Usage(format!("--{option}: {error}")))?;
    let path = Path::new(work_dir).join(pattern);
    if !pattern.contains('%') && path.is_dir() {
        return Err(Failure::refused(
            Code::Path,
            format!("--{option} {pattern}: {} is a directory", path.display()),
            "name a file in it, as in DIR/%j.out",
        ));
    }
    let parent = path.parent().unwrap_or(Path::new("/"));
    // A pattern in the directory part is only known when the job runs.
    if !parent.to_string_lossy().contains('%') && !parent.is_dir() {
        return Err(Failure::refused(
            Code::Path,
            format!(
                "--{option} {pattern}: directory {} does not exist",
                parent.display()
            ),
            format!(
                "create it first: mkdir -p {}",
                quoted(&parent.to_string_lossy())
            ),
        ));
    }
    Ok(Some(pattern.to_owned()))
}

/// At most so many bytes, whole characters.
fn cut(text: &str, most: usize) -> &str {
    let mut end = most.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_places_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let work = dir.path().to_str().unwrap();
        let refused = checked_file("output", Some("logs/%j.out"), work).unwrap_err();
        assert!(
            refused
                .to_string()
                .contains(&format!("directory {work}/logs does not exist")),
            "{refused}"
        );
        assert_eq!(refused.exit_code(), 1);
        for fine in ["%j.out", "%x/%j.out", "/dev/null"] {
            assert!(checked_file("output", Some(fine), work).is_ok(), "{fine}");
        }
        let draft = Draft {
            work_dir: Some("/no/such".into()),
            ..Draft::default()
        };
        let refused = draft.directory().unwrap_err();
        assert!(
            refused.to_string().contains("/no/such does not exist"),
            "{refused}"
        );
    }

    #[test]
    fn commands_are_cut_between_characters() {
        assert_eq!(cut("añb", 2), "a");
        assert_eq!(cut("ab", 512), "ab");
    }
}
