//! `hpc cp`: files between this machine and nodes, where no file system is shared.
//!
//! The far end is a job of the user's that asks for nothing (no cpu, no memory) and so starts at once: `tar` on the
//! node, with its account, through the streams of a run. What users may touch there is what their jobs may.

mod archive;
mod place;

use super::Verb;
use super::attached::{Attachment, Ends, block_signals};
use super::connection::Target;
use super::draft::{Draft, Program};
use super::exit::{self, Failure, Outcome};
use super::queue::collect;
use super::run::surrounding_job;
use super::selection::selector;
use super::submit::queue;
use crate::model::export::ExportSpec;
use crate::model::hostlist;
use crate::model::ids::StepId;
use crate::model::refusal::Code;
use crate::wire::client::Request;
use anyhow::Context;
pub(super) use archive::name_of;
use clap::Args;
use nix::fcntl::OFlag;
use place::{Nodes, Place};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::BufWriter;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::thread;

/// The far ends, for `sh`.
const PUT: &str = include_str!("put.sh");
const GET: &str = include_str!("get.sh");
const REMOVE: &str = "rm -rf -- \"$1\"";
/// What is gathered before it is passed to the other thread; bytes.
const PIECE: usize = 64 * 1024;

/// Copy files to nodes and from them, as yourself
///
/// A place on nodes is NODES:PATH; NODES is a name or a list (ws[1-4]), @JOB for the nodes of a job, or @ inside one.
/// Relative paths there start at your home. Files replace others when they are whole. Nothing is asked of the nodes
/// but to be up: full and drained ones copy too.
///
/// Examples:
///   hpc cp data.csv ws2:/scratch/me/
///   hpc cp -r input ws[1-4]:/scratch/me/run7
///   hpc cp 'ws3:results/*.csv' .
///   hpc cp -r @12:/scratch/me/out results
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Cp {
    /// What to copy, and last where to
    #[arg(value_name = "PLACE", required = true, num_args = 2..)]
    places: Vec<String>,
    /// Directories with all that is in them; symbolic links stay what they are
    #[arg(short, long)]
    recursive: bool,
}

impl Verb for Cp {
    fn run(self, target: &Target) -> Outcome {
        let mut places = self
            .places
            .iter()
            .map(|text| Place::parse(text))
            .collect::<Outcome<Vec<_>>>()?;
        let Some(to) = places.pop() else {
            return Err(Failure::Usage("name what to copy and where to".into()));
        };
        let copy = Copy {
            target,
            verb: "cp",
            deep: self.recursive,
            quiet: false,
        };
        match to {
            Place::There(nodes, path) => copy.to_nodes(places, &nodes, &path)?,
            Place::Here(path) => copy.to_here(places, &path)?,
        }
        Ok(exit::DONE)
    }
}

/// What all copies of one command have in common.
pub(super) struct Copy<'a> {
    pub(super) target: &'a Target,
    /// Our command, for messages.
    pub(super) verb: &'static str,
    /// Enter directories.
    pub(super) deep: bool,
    pub(super) quiet: bool,
}

/// What the place of a copy on a node may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Where {
    /// A directory to put into, or the copy's own name.
    Given,
    /// The copy's own name.
    File,
    /// The copy's own name, in a directory to be made for us alone.
    Private,
}

impl Copy<'_> {
    fn to_nodes(&self, sources: Vec<Place>, nodes: &Nodes, path: &str) -> Outcome<()> {
        let nodes = self.names(nodes)?;
        let by_way_of = tempfile::tempdir().context("cannot make a temporary directory")?;
        let mut here = Vec::new();
        for (at, source) in sources.into_iter().enumerate() {
            match source {
                Place::Here(path) => {
                    archive::look(&path, self.deep)?;
                    archive::name_of(&path)?;
                    here.push(path);
                }
                Place::There(from, path) => {
                    let stop = by_way_of.path().join(at.to_string());
                    fs::create_dir(&stop)?;
                    for node in self.names(&from)? {
                        self.fetch(&node, &path, &stop)?;
                    }
                    for entry in fs::read_dir(&stop)? {
                        here.push(entry?.path());
                    }
                }
            }
        }
        self.put(&nodes, &here, path, Where::Given)
    }

    fn to_here(&self, sources: Vec<Place>, path: &Path) -> Outcome<()> {
        let mut from = Vec::new();
        for source in sources {
            match source {
                Place::There(nodes, path) => from.push((self.names(&nodes)?, path)),
                Place::Here(source) => {
                    return Err(Failure::Usage(format!(
                        "{} and {} are both here: one of them is to be NODE:PATH",
                        source.display(),
                        path.display()
                    )));
                }
            }
        }
        let is_directory = path.is_dir();
        let several = from.len() > 1 || from.iter().any(|(nodes, _)| nodes.len() > 1);
        let ends_in_slash = path.as_os_str().as_encoded_bytes().ends_with(b"/");
        if !is_directory && (several || ends_in_slash) {
            return Err(no_directory(path));
        }
        let around = match path.parent() {
            _ if is_directory => path,
            Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
            Some(parent) => parent,
            None => path,
        };
        if !around.is_dir() {
            return Err(no_directory(around));
        }
        let stage = tempfile::Builder::new()
            .prefix(".hpc-cp-")
            .tempdir_in(around)
            .with_context(|| format!("cannot write in {}", around.display()))?;
        for (at, (nodes, remote)) in from.iter().enumerate() {
            for node in nodes {
                let came = stage.path().join(format!("{at}-{node}"));
                fs::create_dir(&came)?;
                self.fetch(node, remote, &came)?;
                let mut into = path.to_owned();
                if nodes.len() > 1 {
                    into.push(node);
                    fs::create_dir_all(&into)?;
                }
                let inner = fs::read_dir(&came)?.collect::<std::io::Result<Vec<_>>>()?;
                if !is_directory && inner.len() > 1 {
                    return Err(no_directory(path));
                }
                for entry in inner {
                    let to = if is_directory {
                        into.join(entry.file_name())
                    } else {
                        into.clone()
                    };
                    archive::place(&entry.path(), &to)?;
                }
            }
        }
        Ok(())
    }

    /// The names of nodes, without repetition.
    fn names(&self, nodes: &Nodes) -> Outcome<Vec<String>> {
        let job = match nodes {
            Nodes::Named(names) => {
                let mut seen = BTreeSet::new();
                let mut names = names.clone();
                names.retain(|name| seen.insert(name.clone()));
                return Ok(names);
            }
            Nodes::OfJob(Some(job)) => job.clone(),
            Nodes::OfJob(None) => match surrounding_job()? {
                Some(raw) => raw.to_string(),
                None => {
                    return Err(Failure::Usage(
                        "@ is the job around this command, and here is none: write @JOB".into(),
                    ));
                }
            },
        };
        let selector = selector(&job)?;
        let jobs = collect(self.target.request(&Request::Job { selector })?)?;
        match jobs.first() {
            Some(job) if !job.nodes.is_empty() => Ok(job.nodes.clone()),
            _ => Err(Failure::refused(
                Code::WrongState,
                format!("job {job} has no nodes"),
                "name a job that runs or has run",
            )),
        }
    }

    /// Puts files in place on every one of these nodes.
    pub(super) fn put(
        &self,
        nodes: &[String],
        sources: &[PathBuf],
        path: &str,
        wanted: Where,
    ) -> Outcome<()> {
        let (read, write) = pipe()?;
        // One that came to the other thread would end us with everything half done.
        block_signals()?;
        let (sources, deep) = (sources.to_vec(), self.deep);
        let many = if sources.len() > 1 { "many" } else { "one" };
        let wanted = match wanted {
            Where::Given => "",
            Where::File => "file",
            Where::Private => "private",
        };
        let packer = thread::spawn(move || {
            let to = BufWriter::with_capacity(PIECE, File::from(write));
            archive::pack(to, &sources, deep)
        });
        let ends = Ends {
            input: Some(read),
            ..Ends::default()
        };
        let code = self.far_end(nodes, PUT, &[path, many, wanted], ends);
        let packed = packer
            .join()
            .unwrap_or_else(|_| Err(anyhow::anyhow!("it broke off")));
        match (code, packed) {
            (Ok(exit::DONE), packed) => packed.map_err(Failure::Other),
            // Nobody took it any more: the other end has said why.
            (Ok(code), Err(error)) if !is_broken_pipe(&error) => {
                let _ = code;
                Err(Failure::Other(error))
            }
            (Ok(_), _) => Err(not_copied(nodes)),
            (Err(failure), _) => Err(failure),
        }
    }

    /// Brings what matches a path on a node into an empty directory here.
    fn fetch(&self, node: &str, path: &str, into: &Path) -> Outcome<()> {
        let (read, write) = pipe()?;
        block_signals()?;
        let to = into.to_owned();
        let unpacker = thread::spawn(move || archive::unpack(File::from(read), &to));
        let deep = if self.deep { "deep" } else { "" };
        let ends = Ends {
            input: Some(File::open("/dev/null")?.into()),
            output: Some(write),
            ..Ends::default()
        };
        let nodes = [node.to_owned()];
        let code = self.far_end(&nodes, GET, &[deep, path], ends);
        let unpacked = unpacker
            .join()
            .unwrap_or_else(|_| Err(std::io::Error::other("it broke off")))
            .with_context(|| format!("cannot unpack what comes from {node}"));
        match (code, unpacked) {
            (Ok(exit::DONE), unpacked) => unpacked
                .and_then(|()| archive::check(into, path, self.deep))
                .with_context(|| format!("nothing from {node} was put in place"))
                .map_err(Failure::Other),
            (Err(Failure::PipeClosed), Err(error)) => Err(Failure::Other(error)),
            (Ok(_), _) => Err(not_copied(&nodes)),
            (Err(failure), _) => Err(failure),
        }
    }

    /// Removes a directory that [`Copy::put`] made for us alone.
    pub(super) fn remove(&self, nodes: &[String], path: &str) -> Outcome<()> {
        let ends = Ends {
            input: Some(File::open("/dev/null")?.into()),
            ..Ends::default()
        };
        self.far_end(nodes, REMOVE, &[path], ends).map(|_| ())
    }

    /// Runs one of the scripts on all of these nodes, once on each, and stays with it.
    fn far_end(&self, nodes: &[String], script: &str, arguments: &[&str], ends: Ends) -> Outcome {
        // The job would wait for it, and whoever copies with it.
        if let Some(lost) = super::nodes::all(self.target)?
            .iter()
            .find(|node| !node.responding && nodes.contains(&node.name))
        {
            return Err(Failure::refused(
                Code::WrongState,
                format!("node {} does not answer", lost.name),
                format!("`hpc node {}` says since when, and why", lost.name),
            ));
        }
        let count = u32::try_from(nodes.len()).unwrap_or(u32::MAX);
        let mut draft = Draft {
            name: Some("cp".to_owned()),
            export: Some(ExportSpec::Nil),
            // It is there on every machine.
            work_dir: Some("/".to_owned()),
            ..Draft::default()
        };
        draft.request.cpus_per_task = Some(0);
        draft.request.nodelist = nodes.to_vec();
        draft.request.nodes_min = count;
        draft.request.nodes_max = Some(count);
        draft.request.ntasks = Some(count);
        draft.request.ntasks_per_node = Some(1);
        let mut words: Vec<String> = ["/bin/sh", "-c", script, "hpc-cp"]
            .map(ToOwned::to_owned)
            .to_vec();
        words.extend(arguments.iter().map(ToString::to_string));
        let command = format!("hpc {}", self.verb);
        let (spec, blobs) = draft.build(Program::Tasks(words), self.verb, &command)?;
        let job = queue(self.target, spec, blobs)?;
        Attachment {
            verb: self.verb,
            job,
            step: StepId(0),
            owner: true,
            inside: false,
            unattended: false,
            patient: false,
            label: None,
            verbose: false,
            quiet: self.quiet,
            follow: true,
            only: None,
            ends,
        }
        .follow(self.target)
    }
}

fn pipe() -> Outcome<(OwnedFd, OwnedFd)> {
    Ok(nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(std::io::Error::from)?)
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|cause| cause.kind() == std::io::ErrorKind::BrokenPipe)
}

fn no_directory(path: &Path) -> Failure {
    Failure::refused(
        Code::Path,
        format!("there is no directory {}", path.display()),
        "make it first",
    )
}

/// The node has said why.
fn not_copied(nodes: &[String]) -> Failure {
    Failure::Other(anyhow::anyhow!(
        "not copied (nodes {})",
        hostlist::fold(nodes)
    ))
}
