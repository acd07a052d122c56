//! THE SHEPHERD (`hpc shepherd`): parent of one slot's processes on one node, and the shell around
//! [`crate::steps`]. It outlives the agent, which may be killed, restarted or upgraded at any moment.
//!
//! Single-threaded, one epoll loop, no runtime. It begins as a *spare*: started ahead of need by the agent and
//! connected by a socket pair. An [`Assignment`](crate::wire::shepherd::Assignment)
//! makes it the shepherd of a slot. Its directory `STATE/worker/slots/JOB.SLOT/` then holds
//!
//! - `journal`: what happened, locked while the shepherd lives, so that its death can be told for certain
//! - `sock`: where a new agent finds it; peers must be root or the shepherd's own user
//! - `hpc-remote-shell` and two lists of hosts: what `mpirun` is told to use
//! - `words`: a link to the version of the words that the shepherd knows, for an agent of a later build
//! - `script`: the spooled copy of the batch script, the owner's alone
//! - `step.N.log`: output of attached tasks, a sequence of [`LogChunk`](crate::wire::worker::LogChunk)s
//!
//! Under root the directory can be passed through by the owner, who must execute the script; the rest in it is
//! root's. Signals other than SIGKILL and SIGSTOP do nothing to a shepherd: all are blocked.
//!
//! Read next: `run.rs` (the loop), `processes.rs` (start, signal, reap), `streams.rs` (pipes and logs),
//! `link.rs` (the agent), `journal_file.rs`, `notes.rs` (lines written into a job's standard error).
#![allow(
    clippy::disallowed_methods,
    reason = "a shell: it touches clock and files so that the core need not"
)]

mod journal_file;
mod launchers;
mod lease_timer;
mod link;
mod notes;
mod pmi_port;
mod pmi_sockets;
mod pmix_doors;
mod pmix_helpers;
mod processes;
mod run;
mod shared_memory;
mod spawners;
mod stdin;
mod streams;

use std::os::fd::RawFd;
use std::path::PathBuf;

/// How a shepherd is started.
#[derive(Debug, Clone)]
pub struct ShepherdOptions {
    /// The descriptor of the agent's socket pair.
    pub agent_fd: RawFd,
}

/// Why a shepherd ended early.
#[derive(Debug, thiserror::Error)]
pub enum ShepherdError {
    /// A system call failed.
    #[error("cannot {doing}")]
    System {
        /// What was being done.
        doing: &'static str,
        /// The kernel's answer.
        #[source]
        source: std::io::Error,
    },
    /// A file of the slot failed.
    #[error("cannot {doing} {path}")]
    File {
        /// What was being done.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: std::io::Error,
    },
    /// Another shepherd was faster; the agent, hearing nothing, looks and finds it.
    #[error("the slot has a shepherd already")]
    Taken,
    /// The agent said something else first.
    #[error("the agent's first word was no assignment")]
    Protocol,
}

impl ShepherdError {
    fn system<E: Into<std::io::Error>>(doing: &'static str) -> impl FnOnce(E) -> Self {
        move |source| ShepherdError::System {
            doing,
            source: source.into(),
        }
    }
}

/// Runs a shepherd until its slot is closed, or, while it has none, until its agent goes.
///
/// # Errors
/// When it cannot begin; afterwards failures are reported as ends of elements.
pub fn run(options: &ShepherdOptions) -> Result<(), ShepherdError> {
    run::run(options)
}
