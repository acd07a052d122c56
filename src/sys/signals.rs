//! Signals as something to read: SIGCHLD, SIGTERM and the like arrive at a descriptor, in the event loop's own time.
//!
//! A signal must be blocked in **every** thread, so make [`Signals`] before starting any. Children do not inherit
//! the mask: [`super::spawn`] empties it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// A signal that was sent to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caught {
    /// Which.
    pub signal: Signal,
    /// Who sent it, 0 for the kernel; for SIGCHLD the child.
    pub pid: i32,
    /// The sender's user.
    pub uid: u32,
}

/// The chosen signals of this process, readable.
#[derive(Debug)]
pub struct Signals {
    fd: SignalFd,
}

impl Signals {
    /// Blocks the signals in this thread, and those it starts from now on, and gathers them here.
    pub fn new(signals: &[Signal]) -> io::Result<Self> {
        let mask: SigSet = signals.iter().copied().collect();
        mask.thread_block()?;
        let fd = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        Ok(Self { fd })
    }

    /// The next signal, if one has arrived. Several SIGCHLD may arrive as one.
    pub fn read(&self) -> io::Result<Option<Caught>> {
        let Some(info) = self.fd.read_signal()? else {
            return Ok(None);
        };
        let number = i32::try_from(info.ssi_signo).unwrap_or(0);
        Ok(Some(Caught {
            signal: Signal::try_from(number)?,
            pid: i32::try_from(info.ssi_pid).unwrap_or(0),
            uid: info.ssi_uid,
        }))
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_can_be_read() {
        let signals = Signals::new(&[Signal::SIGUSR1]).unwrap();
        assert_eq!(signals.read().unwrap(), None);
        // To this thread, where it is blocked; others of the harness do not block it.
        nix::sys::signal::raise(Signal::SIGUSR1).unwrap();
        let caught = signals.read().unwrap().unwrap();
        assert_eq!(caught.signal, Signal::SIGUSR1);
        assert_eq!(caught.pid, nix::unistd::getpid().as_raw());
        assert_eq!(caught.uid, nix::unistd::getuid().as_raw());
        assert_eq!(signals.read().unwrap(), None);
    }
}
