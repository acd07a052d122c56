//! Standard output and error without the line buffer of the standard library: what tasks write is passed on in the
//! pieces in which it comes, small ones gathered until they are flushed.

use std::io::{self, Write};
use std::os::fd::AsFd;

/// Small pieces are gathered up to this.
const GATHER: usize = 16 * 1024;

/// One of the two, or nothing.
pub(super) struct Descriptor {
    to: To,
    held: Vec<u8>,
}

#[derive(Clone, Copy)]
enum To {
    Output,
    Error,
    Nothing,
}

impl Descriptor {
    /// Standard output; with `false`, what is written is dropped.
    pub(super) fn output(shown: bool) -> Self {
        Descriptor::new(if shown { To::Output } else { To::Nothing })
    }

    /// Standard error; with `false`, what is written is dropped.
    pub(super) fn error(shown: bool) -> Self {
        Descriptor::new(if shown { To::Error } else { To::Nothing })
    }

    fn new(to: To) -> Self {
        let held = Vec::new();
        Descriptor { to, held }
    }

    fn write_through(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = match self.to {
                To::Output => nix::unistd::write(io::stdout().as_fd(), bytes),
                To::Error => nix::unistd::write(io::stderr().as_fd(), bytes),
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

impl Write for Descriptor {
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
