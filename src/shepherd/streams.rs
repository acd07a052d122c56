//! Output of attached tasks: pipes in, the step's log out.
//!
//! A log is a sequence of [`LogChunk`] headers and bytes, addressed by offset, so attaching, reconnecting and
//! replaying are one mechanism. A full disk ends the log at its last whole chunk; tasks go on unhindered, and readers are
//! told that the rest is lost.

use super::ShepherdError;
use super::stdin::set_nonblocking;
use crate::model::ids::StepId;
use crate::steps::TaskId;
use crate::wire::shepherd::{LOG_LOST, step_log_name};
use crate::wire::worker::LogChunk;
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{ErrorKind, PipeReader, PipeWriter, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Bytes that a pipe holds unless somebody wants otherwise.
const PIPE_SIZE: usize = 64 * 1024;

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

    /// Reads from this pipe, as [`pipe`] makes them, from now on.
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
        if read_once(source, &mut self.buffer, &mut self.logs) == Piece::End {
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
            // More than a pipe holds was not written by then. What the task has left behind may never stop.
            let mut left = capacity(&source.pipe);
            while left > 0 {
                match read_once(source, &mut self.buffer, &mut self.logs) {
                    Piece::Bytes(count) => left = left.saturating_sub(count),
                    Piece::Nothing => break,
                    Piece::End => {
                        self.remove(token, poll);
                        break;
                    }
                }
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

/// A pipe whose reading end does not block us and whose writing end is the task's.
///
/// That a poll has found bytes in it does not say that they are still there: the end of a task takes them early.
pub(super) fn pipe() -> std::io::Result<(PipeReader, PipeWriter)> {
    let (reader, writer) = std::io::pipe()?;
    set_nonblocking(&reader)?;
    Ok((reader, writer))
}

/// What one reading of a pipe brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece {
    Bytes(usize),
    Nothing,
    End,
}

/// Moves one piece from the pipe to its log.
fn read_once(source: &mut Source, buffer: &mut [u8], logs: &mut BTreeMap<StepId, Log>) -> Piece {
    let count = match source.pipe.read(&mut buffer[LogChunk::SIZE..]) {
        Ok(0) => return Piece::End,
        Ok(count) => count,
        Err(error) => {
            return match error.kind() {
                ErrorKind::Interrupted | ErrorKind::WouldBlock => Piece::Nothing,
                _ => Piece::End,
            };
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
    Piece::Bytes(count)
}

/// Bytes that a pipe can hold. Whoever writes to it may have changed that.
fn capacity(pipe: &PipeReader) -> usize {
    use nix::fcntl::{FcntlArg, fcntl};
    let size = fcntl(pipe, FcntlArg::F_GETPIPE_SZ).ok();
    size.and_then(|size| usize::try_from(size).ok())
        .unwrap_or(PIPE_SIZE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::epoll::EpollCreateFlags;

    const TASK: TaskId = TaskId {
        step: StepId(0),
        rank: 0,
    };

    /// Streams with one pipe, and its writing end.
    fn streams(poll: &Epoll) -> (Streams, PipeWriter, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let mut streams = Streams::new(folder.path());
        streams.open_log(TASK.step).unwrap();
        let (reader, writer) = pipe().unwrap();
        streams.add(1, TASK, 1, reader, poll);
        (streams, writer, folder)
    }

    fn logged(folder: &tempfile::TempDir) -> u64 {
        let log = folder.path().join(step_log_name(TASK.step));
        std::fs::metadata(log).unwrap().len()
    }

    #[test]
    fn bytes_that_were_found_and_then_taken_early_are_not_waited_for() {
        let poll = Epoll::new(EpollCreateFlags::empty()).unwrap();
        let (mut streams, mut writer, folder) = streams(&poll);
        writer.write_all(b"words").unwrap();
        streams.drain(|task| task == TASK, &poll);
        let size = u64::try_from(LogChunk::SIZE).unwrap();
        assert_eq!(logged(&folder), size + 5);
        // The poll's word of them comes after that, and somebody still holds the pipe.
        streams.ready(1, &poll);
        assert_eq!(logged(&folder), size + 5);
        drop(writer);
        streams.ready(1, &poll);
        assert!(streams.sources.is_empty());
    }

    #[test]
    fn what_a_task_leaves_behind_may_write_for_ever() {
        let poll = Epoll::new(EpollCreateFlags::empty()).unwrap();
        let (mut streams, mut writer, folder) = streams(&poll);
        let flood = std::thread::spawn(move || while writer.write_all(&[b'y'; 65_536]).is_ok() {});
        let most = u64::try_from(3 * PIPE_SIZE).unwrap();
        let mut before = 0;
        while before < 64 * most {
            streams.drain(|_| true, &poll);
            let now = logged(&folder);
            assert!(now - before <= most, "{before} {now}");
            before = now;
        }
        drop(streams);
        flood.join().unwrap();
    }
}
