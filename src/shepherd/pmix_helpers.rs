//! The processes that serve PMIx to steps (`hpc pmix-server`, [`crate::pmix`]), one for each: started as the slot's owner,
//! spoken with over a socket, ended with their step. A fault in the library that they load costs that step alone.

use super::link::{Link, Received};
use super::pmix_doors::Given;
use super::processes::Processes;
use crate::model::ids::StepId;
use crate::steps::Input;
use crate::sys::files::in_words;
use crate::wire::pmix::{FromPmix, PmixStart, ToPmix};
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use std::collections::{BTreeMap, VecDeque};
use std::ffi::CString;
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// Variables of the job's that the helper gets: where libraries are, and how they are to behave.
const PASSED_ON: [&str; 6] = [
    "PATH=",
    "LD_LIBRARY_PATH=",
    "HOME=",
    "LANG=",
    "PMIX_MCA_",
    "HWLOC_",
];
/// Names the library to use, where it is found by no other way.
const LIBRARY: &str = "HPC_PMIX_LIBRARY=";
/// Longest folder in which the library may still make sockets.
const FOLDER_MAX: usize = 60;

/// One helper.
#[derive(Debug)]
struct Helper {
    token: u64,
    link: Link,
    folder: PathBuf,
    /// It has closed its end.
    gone: bool,
}

/// What a helper is started with and on.
pub(super) struct Ground<'a> {
    /// The slot's folder.
    pub(super) slot: &'a Path,
    /// Where it is known as a process of ours.
    pub(super) processes: &'a mut Processes,
    /// Where its words are waited for.
    pub(super) poll: &'a Epoll,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct PmixHelpers {
    helpers: BTreeMap<StepId, Helper>,
}

impl PmixHelpers {
    /// Starts one, with the door at which ranks wait for it, if they do; why it cannot be started.
    pub(super) fn start(
        &mut self,
        step: StepId,
        token: u64,
        mut start: PmixStart,
        environment: &[CString],
        door: Option<Given>,
        ground: Ground<'_>,
    ) -> Result<(), String> {
        let Ground {
            slot,
            processes,
            poll,
        } = ground;
        let folder = folder(slot, step, processes)
            .map_err(|error| format!("cannot make a folder for PMIx: {}", in_words(&error)))?;
        (start.uid, start.gid) = processes.owner();
        start.directory = folder.to_string_lossy().into_owned();
        if let Some(named) = named(environment) {
            (start.libraries, start.only_these) = (vec![named], true);
        }
        let own = start.node_index as usize;
        if let (Some(node), Ok(host)) = (start.nodes.get_mut(own), nix::unistd::gethostname()) {
            let host = host.to_string_lossy().into_owned();
            if host != node.name {
                node.aliases.push(host);
            }
        }
        let cannot =
            |error: &dyn std::fmt::Display| format!("cannot start the PMIx server: {error}");
        let (ours, theirs) = UnixStream::pair().map_err(|error| cannot(&error))?;
        let mut link = Link::new(ours).map_err(|error| cannot(&error))?;
        start.visitors = door.as_ref().map(Given::visitors);
        let mut kept = vec![theirs.as_fd()];
        kept.extend(door.iter().flat_map(Given::fds));
        let arguments = [c"hpc".to_owned(), c"pmix-server".to_owned()];
        let passed = |line: &&CString| {
            let line = line.as_bytes();
            PASSED_ON
                .iter()
                .any(|name| line.starts_with(name.as_bytes()))
        };
        let mut environment: Vec<CString> = environment.iter().filter(passed).cloned().collect();
        environment.extend(CString::new(format!("TMPDIR={}", start.directory)));
        processes
            .start_helper(&arguments, &environment, &kept)
            .map_err(|error| cannot(&error))?;
        drop(kept);
        drop((theirs, door));
        link.push(&ToPmix::Start(Box::new(start)));
        let _ = poll.add(link.fd(), EpollEvent::new(EpollFlags::EPOLLIN, token));
        let mut helper = Helper {
            token,
            link,
            folder,
            gone: false,
        };
        helper.flush(poll);
        self.helpers.insert(step, helper);
        Ok(())
    }

    /// Says something to one.
    pub(super) fn say(&mut self, step: StepId, message: &ToPmix, poll: &Epoll) {
        if let Some(helper) = self.helpers.get_mut(&step) {
            helper.link.push(message);
            helper.flush(poll);
        }
    }

    /// One has said something, has room, or is gone.
    pub(super) fn ready(&mut self, token: u64, poll: &Epoll, inputs: &mut VecDeque<Input>) {
        let mut helpers = self.helpers.iter_mut();
        let known = helpers.find(|(_, helper)| helper.token == token && !helper.gone);
        let Some((step, helper)) = known else {
            return;
        };
        let step = *step;
        helper.flush(poll);
        let mut messages: Vec<FromPmix> = Vec::new();
        let received = helper.link.receive(&mut messages);
        let said = messages.into_iter();
        inputs.extend(said.map(|message| Input::PmixSaid { step, message }));
        if received == Received::Gone {
            helper.gone = true;
            let _ = poll.delete(helper.link.fd());
            inputs.push_back(Input::PmixGone { step, text: None });
        }
    }

    /// Takes everything that a step's helper has said so far.
    pub(super) fn drain(&mut self, step: StepId, poll: &Epoll, inputs: &mut VecDeque<Input>) {
        if let Some(token) = self.helpers.get(&step).map(|helper| helper.token) {
            self.ready(token, poll, inputs);
        }
    }

    /// A step is over: its helper goes, and what it kept.
    pub(super) fn stop(&mut self, step: StepId, processes: &Processes, poll: &Epoll) {
        if let Some(mut helper) = self.helpers.remove(&step) {
            helper.link.push(&ToPmix::Stop);
            helper.flush(poll);
            let _ = poll.delete(helper.link.fd());
            let removed = processes.as_owner(|| std::fs::remove_dir_all(&helper.folder));
            if let Ok(Err(error)) | Err(error) = removed {
                tracing::debug!(%error, folder = %helper.folder.display(), "a folder of PMIx is left");
            }
        }
    }
}

impl Helper {
    fn flush(&mut self, poll: &Epoll) {
        // One that is gone is noticed when it is read from.
        let _ = self.link.flush_on(poll, self.token);
    }
}

/// A folder for the library, the owner's alone: in the slot's, or, where that has a long name, among temporary files.
fn folder(slot: &Path, step: StepId, processes: &Processes) -> std::io::Result<PathBuf> {
    let name = format!("pmix.{}", step.label());
    let near = slot.join(&name);
    let (uid, gid) = processes.owner();
    let short = near.as_os_str().len() <= FOLDER_MAX;
    let folder = if short {
        near
    } else {
        let pid = std::process::id();
        std::env::temp_dir().join(format!("hpc-{name}.{pid}"))
    };
    std::fs::DirBuilder::new().mode(0o700).create(&folder)?;
    if crate::sys::identity::is_root() {
        std::os::unix::fs::lchown(&folder, Some(uid), Some(gid))?;
    }
    Ok(folder)
}

/// Whether a helper would find its library in this environment, as far as can be told without opening it.
pub(super) fn has_library(environment: &[CString]) -> bool {
    if let Some(named) = named(environment) {
        return crate::sys::pmix::is_there(&[named], true);
    }
    let folders = value(environment, "LD_LIBRARY_PATH=").unwrap_or_default();
    let folders: Vec<String> = folders.split(':').map(str::to_owned).collect();
    crate::sys::pmix::is_there(&folders, false)
}

/// Where the job says that the library is.
fn named(environment: &[CString]) -> Option<String> {
    value(environment, LIBRARY).filter(|path| !path.is_empty())
}

fn value(environment: &[CString], name: &str) -> Option<String> {
    let lines = environment.iter().map(|line| line.as_bytes());
    let mut values = lines.filter_map(|line| line.strip_prefix(name.as_bytes()));
    let value = values.next()?;
    Some(String::from_utf8_lossy(value).into_owned())
}
