//! The PMI sockets of ranks: a connected pair for each, whose other end the rank inherits. Bytes go to the core and back;
//! nothing is looked into here.

use crate::steps::{Input, TaskId};
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use std::collections::{BTreeMap, VecDeque};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

/// Bytes read at once.
const READ: usize = 64 * 1024;

/// Our end of a rank's pair, or of its connection to the port.
#[derive(Debug)]
struct Socket {
    task: TaskId,
    stream: Stream,
    /// It has said something.
    spoken: bool,
    /// What did not fit yet; a client asks once and waits, so it is one answer at most.
    unsent: VecDeque<u8>,
}

#[derive(Debug)]
enum Stream {
    Pair(UnixStream),
    Port(TcpStream),
}

impl Stream {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Stream::Pair(stream) => stream.read(buffer),
            Stream::Port(stream) => stream.read(buffer),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Stream::Pair(stream) => stream.write(bytes),
            Stream::Port(stream) => stream.write(bytes),
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Stream::Pair(stream) => stream.as_fd(),
            Stream::Port(stream) => stream.as_fd(),
        }
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct PmiSockets {
    sockets: BTreeMap<u64, Socket>,
    tokens: BTreeMap<TaskId, u64>,
}

/// A pair: our end and the rank's.
pub(super) fn pair() -> std::io::Result<(UnixStream, OwnedFd)> {
    let (ours, theirs) = UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    Ok((ours, theirs.into()))
}

impl PmiSockets {
    /// Listens to a rank that was started.
    pub(super) fn add(&mut self, token: u64, task: TaskId, stream: UnixStream, poll: &Epoll) {
        self.listen(token, task, Stream::Pair(stream), poll);
    }

    /// Whether a rank is there that has said nothing yet.
    pub(super) fn is_silent(&self, task: TaskId) -> bool {
        let token = self.tokens.get(&task);
        let socket = token.and_then(|token| self.sockets.get(token));
        socket.is_some_and(|socket| !socket.spoken)
    }

    /// Listens to a rank by this from now on, in place of the pair's end.
    pub(super) fn replace(&mut self, token: u64, task: TaskId, stream: TcpStream, poll: &Epoll) {
        self.close(task, poll);
        self.listen(token, task, Stream::Port(stream), poll);
    }

    fn listen(&mut self, token: u64, task: TaskId, stream: Stream, poll: &Epoll) {
        let _ = poll.add(&stream, EpollEvent::new(EpollFlags::EPOLLIN, token));
        let unsent = VecDeque::new();
        self.tokens.insert(task, token);
        self.sockets.insert(
            token,
            Socket {
                task,
                stream,
                spoken: false,
                unsent,
            },
        );
    }

    /// A socket has bytes, room, or its end.
    pub(super) fn ready(&mut self, token: u64, poll: &Epoll, inputs: &mut VecDeque<Input>) {
        self.flush(token, poll);
        self.read(token, poll, inputs);
    }

    /// Takes everything that a rank has said so far.
    pub(super) fn drain(&mut self, task: TaskId, poll: &Epoll, inputs: &mut VecDeque<Input>) {
        if let Some(token) = self.tokens.get(&task).copied() {
            self.read(token, poll, inputs);
        }
    }

    fn read(&mut self, token: u64, poll: &Epoll, inputs: &mut VecDeque<Input>) {
        let mut buffer = [0; READ];
        loop {
            let Some(socket) = self.sockets.get_mut(&token) else {
                return;
            };
            let task = socket.task;
            match socket.stream.read(&mut buffer) {
                Ok(0) => {
                    self.close(task, poll);
                    return inputs.push_back(Input::PmiClosed { task });
                }
                Ok(count) => {
                    socket.spoken = true;
                    let bytes = buffer[..count].to_vec();
                    inputs.push_back(Input::PmiSaid { task, bytes });
                    if count < READ {
                        return;
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.close(task, poll);
                    return inputs.push_back(Input::PmiClosed { task });
                }
            }
        }
    }

    /// Writes to a rank; one that has gone is noticed when it is read from.
    pub(super) fn write(&mut self, task: TaskId, bytes: &[u8], poll: &Epoll) {
        let Some(token) = self.tokens.get(&task).copied() else {
            return;
        };
        if let Some(socket) = self.sockets.get_mut(&token) {
            socket.unsent.extend(bytes);
            self.flush(token, poll);
        }
    }

    fn flush(&mut self, token: u64, poll: &Epoll) {
        let Some(socket) = self.sockets.get_mut(&token) else {
            return;
        };
        let had = !socket.unsent.is_empty();
        while !socket.unsent.is_empty() {
            let (front, _) = socket.unsent.as_slices();
            match socket.stream.write(front) {
                Ok(count) => drop(socket.unsent.drain(..count)),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(_) => socket.unsent.clear(),
            }
        }
        if had {
            let mut flags = EpollFlags::EPOLLIN;
            flags.set(EpollFlags::EPOLLOUT, !socket.unsent.is_empty());
            let _ = poll.modify(&socket.stream, &mut EpollEvent::new(flags, token));
        }
    }

    /// Closes a rank's socket.
    pub(super) fn close(&mut self, task: TaskId, poll: &Epoll) {
        if let Some(token) = self.tokens.remove(&task)
            && let Some(socket) = self.sockets.remove(&token)
        {
            let _ = poll.delete(&socket.stream);
        }
    }
}
