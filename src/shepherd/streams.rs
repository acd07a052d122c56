//! Output of attached tasks: pipes in, the step's log out.
//!
//! A log is a sequence of [`LogChunk`] headers and bytes, addressed by offset, so attaching, reconnecting and
//! replaying are one mechanism. A full disk ends the log at its last whole chunk; tasks go on unhindered, and readers are
//! told that the rest is lost.

use super::ShepherdError;
use crate::model::ids::StepId;
use crate::steps::TaskId;
use crate::wire::shepherd::{LOG_LOST, step_log_name};
use crate::wire::worker::LogChunk;
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{PipeReader, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// One pipe from a task.
#[derive(Debug)]
struct Source {
    task: TaskId,
    /// 1 = standard output, 2 = standard error.
    stream: u8,
    pipe: PipeReader,
}

/// A step's log.
#[derive(Debug)]
struct Log {
    file: File,
    length: u64,
    failed: bool,
}

/// All pipes and logs of the slot.
#[derive(Debug)]
pub(super) struct Streams {
    directory: PathBuf,
    sources: BTreeMap<u64, Source>,
    logs: BTreeMap<StepId, Log>,
    buffer: Vec<u8>,
}

impl Streams {
    pub(super) fn new(directory: &Path) -> Self {
        Streams {
            directory: directory.to_owned(),
            sources: BTreeMap::new(),
            logs: BTreeMap::new(),
            buffer: vec![0; LogChunk::SIZE + LogChunk::LENGTH_MAX as usize],
        }
    }

    /// Makes sure that the step has a log, so that a reader finds one even when nothing is ever written.
    pub(super) fn open_log(&mut self, step: StepId) -> Result<(), ShepherdError> {
        if self.logs.contains_key(&step) {
            return Ok(());
        }
        let path = self.directory.join(step_log_name(step));
        let opened = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&path);
        let file = opened.map_err(|source| ShepherdError::File {
            doing: "create",
            path,
            source,
        })?;
        self.logs.insert(
            step,
            Log {
                file,
                length: 0,
                failed: false,
            },
        );
        Ok(())
    }

    /// Reads from this pipe from now on.
    pub(super) fn add(
        &mut self,
        token: u64,
        task: TaskId,
        stream: u8,
        pipe: PipeReader,
        poll: &Epoll,
    ) {
        let _ = poll.add(&pipe, EpollEvent::new(EpollFlags::EPOLLIN, token));
        self.sources.insert(token, Source { task, stream, pipe });
    }

    /// A pipe has bytes, or its end.
    pub(super) fn ready(&mut self, token: u64, poll: &Epoll) {
        let Some(source) = self.sources.get_mut(&token) else {
            return;
        };
        if !read_once(source, &mut self.buffer, &mut self.logs) {
            self.remove(token, poll);
        }
    }

    /// Takes everything the task has written so far.
    pub(super) fn drain(&mut self, wanted: impl Fn(TaskId) -> bool, poll: &Epoll) {
        let tokens: Vec<u64> = self
            .sources
            .iter()
            .filter(|(_, source)| wanted(source.task))
            .map(|(token, _)| *token)
            .collect();
        for token in tokens {
            let Some(source) = self.sources.get_mut(&token) else {
                continue;
            };
            let mut open = true;
            while open && is_readable(source) {
                open = read_once(source, &mut self.buffer, &mut self.logs);
            }
            if !open {
                self.remove(token, poll);
            }
        }
    }

    /// Takes the rest of every pipe and closes all: no process of the element is left.
    pub(super) fn finish(&mut self, poll: &Epoll) {
        if self.sources.is_empty() {
            return;
        }
        self.drain(|_| true, poll);
        for token in self.sources.keys().copied().collect::<Vec<_>>() {
            self.remove(token, poll);
        }
    }

    /// A line of ours among a step's standard error; whether the step has a log.
    pub(super) fn note(&mut self, step: StepId, line: &str) -> bool {
        self.words(TaskId { step, rank: 0 }, true, line)
    }

    /// Lines for whoever looks on at the step, which are none of its output.
    pub(super) fn own_words(&mut self, step: StepId, lines: &str) -> bool {
        let rank = LogChunk::NO_RANK;
        self.words(TaskId { step, rank }, true, lines)
    }

    /// Words among a task's output that it has not written itself; whether its step has a log.
    pub(super) fn words(&mut self, task: TaskId, error: bool, line: &str) -> bool {
        let Some(log) = self.logs.get_mut(&task.step) else {
            return false;
        };
        let length = u32::try_from(line.len())
            .unwrap_or(0)
            .min(LogChunk::LENGTH_MAX);
        let mut bytes = LogChunk {
            rank: task.rank,
            stream: if error { 2 } else { 1 },
            length,
        }
        .encode()
        .to_vec();
        bytes.extend_from_slice(&line.as_bytes()[..length as usize]);
        log.append(&bytes);
        true
    }

    fn remove(&mut self, token: u64, poll: &Epoll) {
        if let Some(source) = self.sources.remove(&token) {
            let _ = poll.delete(&source.pipe);
        }
    }
}

impl Log {
    /// Appends a whole chunk or nothing.
    fn append(&mut self, bytes: &[u8]) {
        if self.failed {
            return;
        }
        if let Err(error) = self.file.write_all(bytes) {
            self.failed = true;
            let _ = self.file.set_len(self.length);
            // What needs no room says so to readers: a log that nobody may write has lost the rest.
            let _ = self.file.set_permissions(Permissions::from_mode(LOG_LOST));
            tracing::error!(%error, "a step's log cannot be written; the rest of its output is lost");
            return;
        }
        self.length += bytes.len() as u64;
    }
}

/// Moves one piece from the pipe to its log; false at the pipe's end.
fn read_once(source: &mut Source, buffer: &mut [u8], logs: &mut BTreeMap<StepId, Log>) -> bool {
    let count = match source.pipe.read(&mut buffer[LogChunk::SIZE..]) {
        Ok(0) => return false,
        Ok(count) => count,
        Err(error) => {
            return matches!(
                error.kind(),
                std::io::ErrorKind::Interrupted | std::io::ErrorKind::WouldBlock
            );
        }
    };
    let length = u32::try_from(count).unwrap_or(0);
    let header = LogChunk {
        rank: source.task.rank,
        stream: source.stream,
        length,
    }
    .encode();
    buffer[..LogChunk::SIZE].copy_from_slice(&header);
    if let Some(log) = logs.get_mut(&source.task.step) {
        log.append(&buffer[..LogChunk::SIZE + count]);
    }
    true
}

/// Whether a read would return at once, with bytes or the end.
fn is_readable(source: &Source) -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd;
    let mut fds = [PollFd::new(source.pipe.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|count| count > 0)
}
