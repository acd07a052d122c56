//! Descriptors that a process was started with, known by number.
#![expect(unsafe_code, reason = "a number becomes an owned descriptor")]

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

/// The connected Unix socket that our starter left open under this number. To be called once for a number, and
/// before anything else is opened: whoever calls owns it.
///
/// # Errors
/// When the descriptor is not open, or is no Unix socket.
pub fn take_socket(number: RawFd) -> io::Result<UnixStream> {
    nix::sys::socket::getpeername::<nix::sys::socket::UnixAddr>(number)?;
    // SAFETY: the descriptor is open, and by the contract of our command line nobody else owns it.
    Ok(unsafe { UnixStream::from_raw_fd(number) })
}

/// The descriptor that our starter left open under this number; as [`take_socket`].
///
/// # Errors
/// When it is not open.
pub fn take(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: asks only for the flags of a number.
    nix::errno::Errno::result(unsafe { libc::fcntl(number, libc::F_GETFD) })?;
    // SAFETY: the descriptor is open, and by the contract of our command line nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
