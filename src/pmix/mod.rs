//! THE PMIX SERVER (`hpc pmix-server`): one process for each step and node that wants PMIx, started by the shepherd as
//! the step's user, and the shell around [`crate::sys::pmix`].
//!
//! It is a process of its own because a library of the machine's runs in it, with threads and state for the whole
//! process; a fault there costs one step. It decides little: what ranks of this node ask each other the library answers
//! itself, and what concerns other nodes goes to the shepherd in the words of [`crate::wire::pmix`].
//!
//! One loop over two descriptors: the shepherd's socket, and the one by which the library's threads say that they have
//! asked something. It ends when the shepherd says so or is gone. Signals do nothing to it but SIGKILL: ranks that are
//! asked to end may still need it.
//!
//! Mostly it is started once a rank has asked for it, and is given the socket at which that one waits.
//!
//! `program.rs` finds where a program's libraries are, `job.rs` has what the library is told of a step, `serve.rs` the
//! loop, `desk.rs` the questions that are open, `relay.rs` the way to the library for ranks that were there first.
#![allow(
    clippy::disallowed_methods,
    reason = "a shell: it touches files and the clock of the machine"
)]

mod desk;
mod job;
mod program;
mod relay;
mod serve;

use crate::wire::codec::CodecError;

/// Why a server ended early.
#[derive(Debug, thiserror::Error)]
pub enum PmixError {
    /// A system call failed.
    #[error("cannot {doing}")]
    System {
        /// What was being done.
        doing: &'static str,
        /// The kernel's answer.
        #[source]
        source: std::io::Error,
    },
    /// The shepherd speaks nonsense.
    #[error("the shepherd's words make no sense")]
    Protocol(#[from] CodecError),
    /// The shepherd said something else first.
    #[error("the shepherd's first word was no start")]
    Order,
}

impl PmixError {
    fn system<E: Into<std::io::Error>>(doing: &'static str) -> impl FnOnce(E) -> Self {
        move |source| PmixError::System {
            doing,
            source: source.into(),
        }
    }
}

/// Serves one step on this node, from the descriptor [`crate::wire::pmix::HELPER_FD`].
///
/// # Errors
/// When it cannot begin or its shepherd cannot be understood. That there is no library is said to the shepherd.
pub fn run() -> Result<(), PmixError> {
    serve::run()
}
