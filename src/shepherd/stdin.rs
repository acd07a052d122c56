//! Standard input of steps: one run of bytes from the client, copied to every rank.
//!
//! Bytes stay until the slowest rank has them; how far that is opens the client's window.

use crate::model::ids::StepId;
use crate::wire::worker::FromSlot;
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::Write;
use std::os::fd::AsFd;

/// More than this is not taken from an agent that ignores the window.
const BUFFER_MOST: usize = 8 * 1024 * 1024;

/// One rank's end.
#[derive(Debug)]
struct Sink {
    token: u64,
    pipe: std::io::PipeWriter,
    /// Offset of the next byte for it.
    position: u64,
    /// The poll waits for room.
    waiting: bool,
}

/// The input of one step.
#[derive(Debug, Default)]
struct StepInput {
    sinks: Vec<Sink>,
    /// Offset of the first byte kept.
    base: u64,
    bytes: VecDeque<u8>,
    end: bool,
    /// Ranks were there, and have all gone.
    closed: bool,
    started: bool,
    reported: u64,
}

/// Standard input of all steps.
#[derive(Debug, Default)]
pub(super) struct Inputs {
    steps: BTreeMap<StepId, StepInput>,
    /// Those of which ranks were added since [`Inputs::settle`].
    begun: BTreeSet<StepId>,
}

impl Inputs {
    /// A rank reads from here.
    pub(super) fn add(
        &mut self,
        step: StepId,
        token: u64,
        pipe: std::io::PipeWriter,
        poll: &Epoll,
    ) {
        let input = self.steps.entry(step).or_default();
        input.started = true;
        self.begun.insert(step);
        // No flags: only an error, which is how a reader's end shows.
        let _ = poll.add(&pipe, EpollEvent::new(EpollFlags::empty(), token));
        input.sinks.push(Sink {
            token,
            pipe,
            position: input.base,
            waiting: false,
        });
    }

    /// A rank reads from elsewhere. Where all of a step do, nothing of what comes for it is kept.
    pub(super) fn without(&mut self, step: StepId) {
        self.steps.entry(step).or_default().started = true;
        self.begun.insert(step);
    }

    /// All ranks of the steps that have just begun are there: what came for them before is theirs.
    pub(super) fn settle(&mut self, poll: &Epoll) -> Vec<FromSlot> {
        let begun = std::mem::take(&mut self.begun);
        let steps = begun.into_iter();
        let reports = steps.filter_map(|step| {
            let input = self.steps.get_mut(&step)?;
            input.pump(step, poll)
        });
        reports.collect()
    }

    /// Bytes came for a step; what to say about it.
    pub(super) fn take(
        &mut self,
        step: StepId,
        offset: u64,
        bytes: &[u8],
        end: bool,
        poll: &Epoll,
    ) -> Option<FromSlot> {
        let input = self.steps.entry(step).or_default();
        let received = input.base + input.bytes.len() as u64;
        // Said again after a lost connection: skip what is here; a gap cannot be.
        let known = received.saturating_sub(offset);
        let fresh = usize::try_from(known)
            .ok()
            .and_then(|known| bytes.get(known..))
            .unwrap_or(&[]);
        if offset <= received && !input.closed && input.bytes.len() + fresh.len() <= BUFFER_MOST {
            input.bytes.extend(fresh);
            input.end |= end;
        }
        let told = input.pump(step, poll);
        // Whoever says it again may not have heard how far it was taken, and would wait for that.
        let again = known > 0 && input.started;
        told.or_else(|| again.then(|| input.report(step)))
    }

    /// A rank's pipe has room, or its reader has gone.
    pub(super) fn ready(&mut self, token: u64, gone: bool, poll: &Epoll) -> Option<FromSlot> {
        let owns = |input: &StepInput| input.sinks.iter().any(|sink| sink.token == token);
        let (step, input) = self.steps.iter_mut().find(|(_, input)| owns(input))?;
        if gone {
            input.remove(token, poll);
        }
        input.pump(*step, poll)
    }

    /// A step is over.
    pub(super) fn close(&mut self, step: StepId) {
        self.steps.remove(&step);
    }
}

impl StepInput {
    fn remove(&mut self, token: u64, poll: &Epoll) {
        if let Some(at) = self.sinks.iter().position(|sink| sink.token == token) {
            let sink = self.sinks.remove(at);
            let _ = poll.delete(sink.pipe.as_fd());
        }
    }

    /// Writes what ranks take, forgets what all have, closes at the end; the report, if there is news.
    fn pump(&mut self, step: StepId, poll: &Epoll) -> Option<FromSlot> {
        let (front, back) = self.bytes.as_slices();
        let base = self.base;
        let received = base + self.bytes.len() as u64;
        let mut gone = Vec::new();
        for sink in &mut self.sinks {
            let mut blocked = false;
            while sink.position < received && !blocked {
                let at = usize::try_from(sink.position - base).unwrap_or(usize::MAX);
                let piece = front.get(at..).filter(|piece| !piece.is_empty());
                let piece = piece
                    .unwrap_or_else(|| &back[at.saturating_sub(front.len()).min(back.len())..]);
                match sink.pipe.write(piece) {
                    Ok(count) => sink.position += count as u64,
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => blocked = true,
                    Err(_) => {
                        gone.push(sink.token);
                        break;
                    }
                }
            }
            if blocked != sink.waiting {
                sink.waiting = blocked;
                let flags = if blocked {
                    EpollFlags::EPOLLOUT
                } else {
                    EpollFlags::empty()
                };
                let _ = poll.modify(&sink.pipe, &mut EpollEvent::new(flags, sink.token));
            }
            if self.end && sink.position == received {
                gone.push(sink.token);
            }
        }
        for token in gone {
            self.remove(token, poll);
        }
        if self.started && self.sinks.is_empty() {
            self.closed = true;
            self.bytes.clear();
            self.base = received;
        } else if let Some(least) = self.sinks.iter().map(|sink| sink.position).min() {
            let done = usize::try_from(least - base)
                .unwrap_or(usize::MAX)
                .min(self.bytes.len());
            self.bytes.drain(..done);
            self.base = least;
        }
        let news = self.base > self.reported || self.closed;
        self.reported = self.base;
        news.then(|| self.report(step))
    }

    fn report(&self, step: StepId) -> FromSlot {
        FromSlot::StdinTaken {
            step,
            offset: self.base,
            closed: self.closed,
        }
    }
}

/// A pipe whose writing end does not block us and whose reading end is the task's.
pub(super) fn pipe() -> std::io::Result<(std::io::PipeReader, std::io::PipeWriter)> {
    let (reader, writer) = std::io::pipe()?;
    set_nonblocking(&writer)?;
    Ok((reader, writer))
}

/// Lets reads and writes here return instead of waiting.
pub(super) fn set_nonblocking(fd: &impl AsFd) -> std::io::Result<()> {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    let flags = OFlag::from_bits_truncate(fcntl(fd, FcntlArg::F_GETFL)?);
    fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}
