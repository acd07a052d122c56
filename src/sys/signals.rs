//! Signals as something to read: SIGCHLD, SIGTERM and the like arrive at a descriptor, in the event loop's own time.
//!
//! A signal must be blocked in **every** thread, so make [`Signals`] before starting any. Children do not inherit
//! the mask: [`super::spawn`] empties it.

#![expect(unsafe_code, reason = "nix sends no real-time signals")]

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

/// Who is to get a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To {
    /// The process with this id.
    Process(i32),
    /// All of the process group with this id.
    Group(i32),
}

/// Sends a signal by its number, real-time ones too.
///
/// # Errors
/// The kernel's; above all that there is no such process any more.
pub fn send(to: To, signal: i32) -> io::Result<()> {
    let pid = match to {
        // 0 and below mean groups to the kernel; nobody here means those by a process's id.
        To::Process(pid) | To::Group(pid) if pid <= 0 => {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        To::Process(pid) => pid,
        To::Group(pid) => -pid,
    };
    // SAFETY: the call takes two integers.
    match unsafe { libc::kill(pid, signal) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn real_time_signals_arrive_and_nobody_is_no_group() {
        use std::os::unix::process::ExitStatusExt;
        let mut child = std::process::Command::new("sleep")
            .arg("1000")
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        send(To::Process(pid), 40).unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(40));
        for nobody in [0, -1] {
            assert!(send(To::Process(nobody), 15).is_err());
            assert!(send(To::Group(nobody), 15).is_err());
        }
    }

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
