//! Terminals: raw mode while a user is attached, the window's size, and a fresh pseudo terminal for a task.
//!
//! Making a terminal the controlling one of a new session belongs to [`super::spawn`].
#![expect(unsafe_code, reason = "window sizes travel through ioctl")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::fcntl::{OFlag, open};
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::stat::Mode;
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

/// Columns and rows of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowSize {
    /// Characters in a line.
    pub columns: u16,
    /// Lines.
    pub rows: u16,
}

/// The size of the window behind a terminal.
pub fn window_size(terminal: impl AsFd) -> io::Result<WindowSize> {
    let mut size = libc::winsize {
        ws_row: 0,
        ws_col: 0,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let fd = terminal.as_fd().as_raw_fd();
    // SAFETY: TIOCGWINSZ fills the winsize it is given.
    if unsafe { libc::ioctl(fd, libc::TIOCGWINSZ, &raw mut size) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(WindowSize {
        columns: size.ws_col,
        rows: size.ws_row,
    })
}

/// Tells a terminal its size; the processes in its foreground get SIGWINCH.
pub fn set_window_size(terminal: impl AsFd, size: WindowSize) -> io::Result<()> {
    let size = libc::winsize {
        ws_row: size.rows,
        ws_col: size.columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let fd = terminal.as_fd().as_raw_fd();
    // SAFETY: TIOCSWINSZ reads the winsize it is given.
    if unsafe { libc::ioctl(fd, libc::TIOCSWINSZ, &raw const size) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// A new pseudo terminal: our side and the task's side, both close-on-exec and nobody's controlling terminal.
pub fn open_terminal_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let master = posix_openpt(flags)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let slave = open(ptsname_r(&master)?.as_str(), flags, Mode::empty())?;
    Ok((OwnedFd::from(master), slave))
}

/// A terminal in raw mode until dropped.
pub struct RawMode<F: AsFd> {
    terminal: F,
    before: Termios,
}

impl<F: AsFd> RawMode<F> {
    /// Keys arrive one by one and unchanged, Ctrl-C included; fails with ENOTTY on anything but a terminal.
    pub fn enter(terminal: F) -> io::Result<Self> {
        let before = tcgetattr(&terminal)?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(&terminal, SetArg::TCSADRAIN, &raw)?;
        Ok(Self { terminal, before })
    }
}

impl<F: AsFd> Drop for RawMode<F> {
    fn drop(&mut self) {
        let _ = tcsetattr(&self.terminal, SetArg::TCSADRAIN, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::termios::LocalFlags;

    #[test]
    fn raw_mode_ends_with_its_guard_and_sizes_travel() {
        let (master, slave) = open_terminal_pair().unwrap();
        let size = WindowSize {
            columns: 132,
            rows: 43,
        };
        set_window_size(&master, size).unwrap();
        assert_eq!(window_size(&slave).unwrap(), size);
        let echoes = |fd: &OwnedFd| {
            let flags = tcgetattr(fd).unwrap().local_flags;
            flags.contains(LocalFlags::ECHO)
        };
        assert!(echoes(&slave));
        let guard = RawMode::enter(slave.as_fd()).unwrap();
        assert!(!echoes(&slave));
        drop(guard);
        assert!(echoes(&slave));
        let null = std::fs::File::open("/dev/null").unwrap();
        assert!(RawMode::enter(null.as_fd()).is_err());
        assert!(window_size(&null).is_err());
    }
}
