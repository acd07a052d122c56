//! Standard output and error without the line buffer of the standard library: what tasks write is passed on in the
//! pieces in which it comes, small ones gathered until they are flushed.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};

/// Small pieces are gathered up to this.
const GATHER: usize = 16 * 1024;

/// One of the two, another one, or nothing.
pub(super) struct Descriptor<'a> {
    to: To<'a>,
    held: Vec<u8>,
}

#[derive(Clone, Copy)]
enum To<'a> {
    Output,
    Error,
    Other(BorrowedFd<'a>),
    Nothing,
}

impl<'a> Descriptor<'a> {
    /// Standard output; with `false`, what is written is dropped.
    pub(super) fn output(shown: bool) -> Self {
        Descriptor::new(if shown { To::Output } else { To::Nothing })
    }

    /// Another descriptor.
    pub(super) fn other(descriptor: BorrowedFd<'a>) -> Self {
        Descriptor::new(To::Other(descriptor))
    }

    /// Standard error; with `false`, what is written is dropped.
    pub(super) fn error(shown: bool) -> Self {
        Descriptor::new(if shown { To::Error } else { To::Nothing })
    }

    fn new(to: To<'a>) -> Self {
        let held = Vec::new();
        Descriptor { to, held }
    }

    fn write_through(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = match self.to {
                To::Output => nix::unistd::write(io::stdout().as_fd(), bytes),
                To::Error => nix::unistd::write(io::stderr().as_fd(), bytes),
                To::Other(descriptor) => nix::unistd::write(descriptor, bytes),
                To::Nothing => return Ok(()),
            };
            match written {
                Ok(count) => bytes = &bytes[count..],
                Err(nix::errno::Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }
}

impl Write for Descriptor<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.held.len() + bytes.len() < GATHER {
            self.held.extend_from_slice(bytes);
        } else {
            self.flush()?;
            self.write_through(bytes)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let held = std::mem::take(&mut self.held);
        self.write_through(&held)
    }
}
