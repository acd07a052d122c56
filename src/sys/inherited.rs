//! Descriptors that a process was started with, known by number.
#![expect(
    unsafe_code,
    reason = "numbers become owned descriptors, or are closed"
)]

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

/// Closes all that our starter left open beyond the standard streams, but for this number: a process that stays must not
/// hold the caller's locks and pipes. To be called before anything else is opened.
pub fn close_all_but(kept: Option<RawFd>) {
    let open = std::fs::read_dir("/proc/self/fd").into_iter().flatten();
    let numbers = open.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    // Read to its end first, which also closes the directory that was read.
    let numbers: Vec<RawFd> = numbers.collect();
    for number in numbers {
        if number > 2 && Some(number) != kept {
            // SAFETY: nothing of ours is open yet, so nobody owns the number; one that is closed already is an error.
            let _ = unsafe { libc::close(number) };
        }
    }
}
