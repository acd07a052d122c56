//! THE AGENT (`hpc worker`), one per node: between the controller and the shepherds of that node.
//!
//! It holds nothing that would be lost with it. Orders for a slot go down to the slot's shepherd, reports come
//! up, and what the controller has not acknowledged the shepherd says again on every new connection. So the
//! agent makes its connections to shepherds anew whenever it reaches the controller anew, and that is the whole
//! of its recovery.
//!
//! Its directory is `STATE/worker/`: `agent.pid` (locked), `slots/JOB.SLOT/` (see the shepherd), `shepherd.log`.
//!
//! Read next: `run.rs` (the loop), `session.rs` (the controller), `heartbeat.rs`
//! (silence and leases), `slots.rs` (the shepherds), `spare.rs` (how one
//! is started), `leftovers.rs` (what a dead one leaves), `streams.rs` (output), and [`discover`]: what this
//! machine has that jobs may use.
#![allow(
    clippy::disallowed_methods,
    reason = "a shell: it touches clock, files and environment so that the cores need not"
)]

mod accounts;
pub mod discover;
mod frames;
mod heartbeat;
mod inventory;
mod kept_logs;
mod leftovers;
mod membership;
mod relay;
mod run;
mod session;
mod slots;
mod spare;
mod streams;

use crate::model::reserve::{Reserve, ReserveError};
use crate::model::topology::{Declared, DeclaredGpus};
use crate::model::user_map::UserMap;
use std::os::fd::RawFd;
use std::path::PathBuf;

/// Where an agent's controller is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Controller {
    /// On this machine: at the socket.
    Here,
    /// Elsewhere: as the membership in the state directory says.
    Elsewhere,
}

/// How an agent is started.
#[derive(Debug, Clone)]
pub struct WorkerOptions {
    /// The state directory; ours is `worker/` in it.
    pub state_dir: PathBuf,
    /// The controller.
    pub controller: Controller,
    /// Where jobs and people of this machine reach the controller: on its own machine the controller's socket, elsewhere
    /// one of ours, which only relays.
    pub socket: PathBuf,
    /// The node's name; the host's when not said.
    pub name: Option<String>,
    /// Declared number of cpus.
    pub cpus: Option<u32>,
    /// Declared memory; MiB.
    pub memory_mib: Option<u64>,
    /// Declared GPUs.
    pub gpus: Option<Vec<DeclaredGpus>>,
    /// What is kept from jobs.
    pub reserve: Reserve,
    /// Keep a shepherd started ahead of need.
    pub spare: bool,
    /// Gets one byte when the node is registered for the first time.
    pub ready_fd: Option<RawFd>,
    /// Users whose account here has another name.
    pub users: UserMap,
    /// Whether jobs of root run.
    pub allow_root: bool,
    /// The program that shepherds run: this one.
    pub executable: PathBuf,
}

impl WorkerOptions {
    /// The amounts that are declared.
    fn declared(&self) -> Declared {
        Declared {
            cpus: self.cpus,
            memory_mib: self.memory_mib,
            gpus: self.gpus.clone(),
        }
    }
}

impl Default for WorkerOptions {
    fn default() -> Self {
        WorkerOptions {
            state_dir: PathBuf::new(),
            controller: Controller::Here,
            socket: PathBuf::new(),
            name: None,
            cpus: None,
            memory_mib: None,
            gpus: None,
            reserve: Reserve::default(),
            spare: true,
            ready_fd: None,
            users: UserMap::default(),
            allow_root: true,
            executable: PathBuf::from("/proc/self/exe"),
        }
    }
}

/// Why an agent cannot run.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The state directory.
    #[error("cannot use the worker's directory")]
    Directory(#[source] crate::sys::files::FilesError),
    /// A file or a system call.
    #[error("cannot {doing}")]
    System {
        /// What was being done.
        doing: &'static str,
        /// The kernel's answer.
        #[source]
        source: std::io::Error,
    },
    /// The machine could not be measured.
    #[error("cannot measure this machine")]
    Discover(#[source] discover::DiscoverError),
    /// The reserve is more than the machine can keep.
    #[error("cannot keep the reserve")]
    Reserve(#[source] ReserveError),
    /// Keys or membership.
    #[error("cannot use this machine's membership")]
    Membership(#[source] crate::net::identity::IdentityError),
    /// Whose jobs it would run.
    #[error("cannot serve this user: {0}")]
    Serves(String),
    /// This machine has not joined.
    #[error(
        "this machine has not joined a cluster: use `hpc join LINE` with a line from `hpc invite`"
    )]
    NotJoined,
    /// The controller does not take this worker; its jobs go on, and a later agent finds them.
    #[error("the controller refuses this worker: {0}")]
    Refused(crate::model::refusal::Refusal),
}

impl WorkerError {
    fn system<E: Into<std::io::Error>>(doing: &'static str) -> impl FnOnce(E) -> Self {
        move |source| WorkerError::System {
            doing,
            source: source.into(),
        }
    }
}

/// Whether this machine can keep such a reserve beside what is declared, as the agent will find at its start.
///
/// # Errors
/// When it cannot, or cannot be measured.
pub fn check_reserve(reserve: &Reserve, declared: &Declared) -> Result<(), WorkerError> {
    if reserve.is_none() {
        return Ok(());
    }
    let measured = discover::discover_cpus_and_memory().map_err(WorkerError::Discover)?;
    measured
        .without(reserve, declared)
        .map(|_| ())
        .map_err(WorkerError::Reserve)
}

/// Runs an agent until it is told to stop: by the controller, by SIGTERM or by SIGINT.
///
/// # Errors
/// When it cannot begin, or the controller refuses it; a lost controller is not an error, it is looked for again.
pub fn run(options: WorkerOptions) -> Result<(), WorkerError> {
    run::run(options)
}
