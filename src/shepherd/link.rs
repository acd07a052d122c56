//! A connection to the agent or to a helper: frames each way over a non-blocking socket.
//!
//! What cannot be written now is kept. To the agent it is bounded by the positions that came down the same socket, to a
//! helper by the questions that it has asked.

use crate::wire::codec::{self, FRAME_MAX, FrameBuffer};
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

/// A connected peer.
#[derive(Debug)]
pub(super) struct Link {
    stream: UnixStream,
    incoming: FrameBuffer,
    outgoing: Vec<u8>,
    written: usize,
    /// The poll waits for room.
    full: bool,
}

/// What reading brought.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// Nothing more for now.
    Later,
    /// The peer has gone, or speaks nonsense.
    Gone,
}

impl Link {
    pub(super) fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Link {
            stream,
            incoming: FrameBuffer::default(),
            outgoing: Vec::new(),
            written: 0,
            full: false,
        })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// Queues a message; [`Link::flush`] writes it.
    pub(super) fn push<T: Serialize>(&mut self, message: &T) {
        self.outgoing.extend_from_slice(&codec::encode(message));
    }

    /// Writes what can be written; whether something is left.
    pub(super) fn flush(&mut self) -> io::Result<bool> {
        while self.written < self.outgoing.len() {
            match self.stream.write(&self.outgoing[self.written..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => self.written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(error),
            }
        }
        self.outgoing.clear();
        self.written = 0;
        Ok(false)
    }

    /// As [`Link::flush`], with the poll, which knows this link by `token`, waiting for room as long as something is left.
    pub(super) fn flush_on(&mut self, poll: &Epoll, token: u64) -> io::Result<()> {
        let flushed = self.flush();
        let full = matches!(flushed, Ok(true));
        if full != self.full {
            self.full = full;
            let mut flags = EpollFlags::EPOLLIN;
            flags.set(EpollFlags::EPOLLOUT, full);
            let _ = poll.modify(self.fd(), &mut EpollEvent::new(flags, token));
        }
        flushed.map(drop)
    }

    /// Reads what is there into `messages`.
    pub(super) fn receive<T: DeserializeOwned>(&mut self, messages: &mut Vec<T>) -> Received {
        let mut buffer = [0; 64 * 1024];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Received::Gone,
                Ok(count) => {
                    self.incoming.extend(&buffer[..count]);
                    if !self.take_frames(messages) {
                        return Received::Gone;
                    }
                    if count < buffer.len() {
                        return Received::Later;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Received::Later,
                Err(_) => return Received::Gone,
            }
        }
    }

    fn take_frames<T: DeserializeOwned>(&mut self, messages: &mut Vec<T>) -> bool {
        loop {
            match self.incoming.next(FRAME_MAX) {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => return true,
                Err(_) => return false,
            }
        }
    }
}
