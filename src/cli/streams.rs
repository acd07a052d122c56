//! `--output`, `--error` and `--input` of `hpc run`. A name with `%t`, `%n` or `%N` is a file that each task opens on its
//! node; any other is one file for all tasks, which this command writes or reads itself, as if the shell had redirected it.

use super::attached::Ends;
use super::draft::{Draft, checked_file};
use super::exit::{Failure, Outcome};
use crate::model::filename::{self, FilenameContext};
use crate::model::ids::StepId;
use crate::model::job::OpenMode;
use crate::model::refusal::Code;
use crate::model::step::{StepOption, Stream};
use std::fs::{File, OpenOptions};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// What was said of the three streams.
#[derive(Debug, Default)]
pub(super) struct Streams {
    pub(super) output: Option<String>,
    pub(super) error: Option<String>,
    pub(super) input: Option<String>,
}

/// The files that this command itself is to open.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct OwnFiles {
    directory: PathBuf,
    append: bool,
    output: Option<String>,
    /// Standard error goes where standard output does.
    together: bool,
    error: Option<String>,
    input: Option<String>,
}

/// Who opens what a word names.
enum Opened {
    /// Nobody: it is a stream of this command.
    Not,
    /// This command.
    Here(String),
    /// Each task, or nobody.
    There(Stream),
}

impl Draft {
    /// Says to the step what its nodes are to open; the rest is for this command. `ntasks` where it is known.
    pub(super) fn streams(&mut self, ntasks: Option<u32>) -> Outcome<OwnFiles> {
        let directory = self.directory()?;
        let append = self.open_mode == OpenMode::Append;
        let who = |option: &str, word: &Option<String>| {
            let Some(word) = word else {
                return Ok(None);
            };
            let rank = word.parse::<u32>().ok();
            let rank = rank.filter(|rank| ntasks.is_none_or(|ntasks| *rank < ntasks));
            let opened = match (word.as_str(), rank) {
                ("all", _) => Opened::Not,
                ("none", _) => Opened::There(Stream::Nothing),
                (_, Some(rank)) => Opened::There(Stream::Rank(rank)),
                (name, None) => {
                    checked_file(option, Some(name), &directory)?;
                    if filename::has_task_pattern(name) {
                        let pattern = name.to_owned();
                        Opened::There(Stream::File { pattern, append })
                    } else {
                        Opened::Here(name.to_owned())
                    }
                }
            };
            Ok::<_, Failure>(Some(opened))
        };
        let output = who("output", &self.streams.output)?;
        let error = who("error", &self.streams.error)?;
        let input = who("input", &self.streams.input)?;
        let mut files = OwnFiles {
            directory: PathBuf::from(&directory),
            append,
            together: error.is_none(),
            ..OwnFiles::default()
        };
        match output {
            Some(Opened::There(stream)) => self.step.say(StepOption::Output(stream)),
            Some(Opened::Here(name)) => files.output = Some(name),
            Some(Opened::Not) | None => {}
        }
        let mut through_us = false;
        match error {
            Some(Opened::There(stream)) => self.step.say(StepOption::Error(stream)),
            Some(Opened::Here(name)) => {
                through_us = true;
                files.together = files.output.as_ref() == Some(&name);
                files.error = Some(name).filter(|_| !files.together);
            }
            Some(Opened::Not) => through_us = true,
            None => {}
        }
        if through_us && self.step.output().is_some() {
            // Else it would go where standard output goes.
            self.step.say(StepOption::Error(Stream::Client));
        }
        match input {
            Some(Opened::There(stream)) => {
                if !matches!(stream, Stream::Rank(_)) {
                    files.input = Some("/dev/null".to_owned());
                }
                self.step.say(StepOption::Input(stream));
            }
            Some(Opened::Here(name)) => files.input = Some(name),
            Some(Opened::Not) | None => {}
        }
        Ok(files)
    }
}

impl Draft {
    /// Says what `--label` does not reach, unless nothing is to be said.
    pub(super) fn say_unlabelled(&self) {
        let own = |stream: Option<&Stream>| matches!(stream, Some(Stream::File { .. }));
        if self.label && !self.quiet && (own(self.step.output()) || own(self.step.error())) {
            eprintln!(
                "hpc run: --label marks lines that come here; files that each task opens (%t, %N, %n) have none"
            );
        }
    }
}

impl OwnFiles {
    /// Opens them, now that job and step have their numbers.
    pub(super) fn open(&self, job: u32, step: StepId, job_name: &str) -> Outcome<Ends> {
        if self.output.is_none() && self.error.is_none() && self.input.is_none() {
            return Ok(Ends::default());
        }
        let own = nix::unistd::User::from_uid(nix::unistd::getuid());
        let context = FilenameContext {
            job,
            array: None,
            step: Some(step.0),
            node_name: String::new(),
            node_index: 0,
            task_rank: 0,
            user: own.ok().flatten().map(|user| user.name).unwrap_or_default(),
            job_name: job_name.to_owned(),
            restart_count: 0,
        };
        let path = |name: &String| {
            let name = filename::expand(name, &context);
            let name = name.map_err(|error| Failure::Usage(error.to_string()))?;
            Ok::<_, Failure>(self.directory.join(name))
        };
        let write = |name: &String| {
            let path = path(name)?;
            let mut how = OpenOptions::new();
            how.create(true).write(true);
            how.append(self.append).truncate(!self.append);
            let opened = how.open(&path);
            opened
                .map(OwnedFd::from)
                .map_err(|error| failed(&path, &error))
        };
        let output = self.output.as_ref().map(write).transpose()?;
        let error = match &output {
            Some(output) if self.together => Some(output.try_clone()?),
            _ => self.error.as_ref().map(write).transpose()?,
        };
        let read = |name: &String| {
            let path = path(name)?;
            let opened = File::open(&path);
            opened
                .map(OwnedFd::from)
                .map_err(|error| failed(&path, &error))
        };
        Ok(Ends {
            input: self.input.as_ref().map(read).transpose()?,
            output,
            error,
        })
    }
}

fn failed(path: &Path, error: &std::io::Error) -> Failure {
    let what = format!("{}: {}", path.display(), super::exit::plain(error));
    Failure::refused(Code::Path, what, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(output: &str, error: &str, input: &str) -> (Draft, OwnFiles) {
        let word = |word: &str| (!word.is_empty()).then(|| word.to_owned());
        let mut draft = Draft {
            work_dir: Some("/".into()),
            streams: Streams {
                output: word(output),
                error: word(error),
                input: word(input),
            },
            ..Draft::default()
        };
        let files = draft.streams(Some(4)).unwrap();
        (draft, files)
    }

    #[test]
    fn files_for_each_task_are_opened_there_and_others_here() {
        let (draft, files) = said("%t.out", "", "");
        let pattern = "%t.out".to_owned();
        let file = Stream::File {
            pattern,
            append: false,
        };
        assert_eq!(draft.step.output(), Some(&file));
        assert_eq!((draft.step.error(), files.output), (None, None));
        let (draft, files) = said("%j.out", "", "in");
        assert!(draft.step.is_empty());
        assert_eq!(files.output.as_deref(), Some("%j.out"));
        assert!(files.together);
        assert_eq!(files.input.as_deref(), Some("in"));
        let (draft, files) = said("%N.out", "err", "2");
        assert_eq!(draft.step.error(), Some(&Stream::Client));
        assert_eq!(draft.step.input(), Some(&Stream::Rank(2)));
        assert_eq!((files.error.as_deref(), files.input), (Some("err"), None));
    }

    #[test]
    fn words_stand_for_all_none_and_one() {
        let (draft, files) = said("none", "all", "none");
        assert_eq!(draft.step.output(), Some(&Stream::Nothing));
        assert_eq!(draft.step.error(), Some(&Stream::Client));
        assert_eq!(files.input.as_deref(), Some("/dev/null"));
        let (draft, files) = said("3", "", "4");
        assert_eq!(draft.step.output(), Some(&Stream::Rank(3)));
        // There is no rank 4: it is a file.
        assert_eq!(
            (draft.step.input(), files.input.as_deref()),
            (None, Some("4"))
        );
    }
}
