//! The questions that are open: what ranks here have asked of other nodes. Each is answered once, by its number.

use crate::sys::pmix::{
    BytesReply, DoneReply, Found, FoundReply, GroupReply, GroupUpcall, Process, Published, Upcall,
};
use crate::wire::pmix::{
    BYTES_MAX, Blob, FromPmix, NameEntry, NameFound, NameRequest, Names, Outcome, PmixStart,
    Purpose, status,
};
use std::collections::BTreeMap;

/// Whom an answer is for.
#[derive(Debug)]
enum Open {
    /// Bytes.
    Bytes(BytesReply),
    /// Only that it is done.
    Done(DoneReply),
    /// What a lookup found.
    Found(FoundReply),
    /// That a group is there, or no more.
    Group(GroupReply),
}

impl Open {
    /// Nothing of the kind.
    fn refuse(self, status: i32) {
        match self {
            Open::Bytes(reply) => reply.answer(Err(status)),
            Open::Done(reply) => reply.answer(Err(status)),
            Open::Found(reply) => reply.answer(Err(status)),
            Open::Group(reply) => reply.answer(Err(status)),
        }
    }
}

/// All that is open. Bounded by what the library lets its clients ask.
#[derive(Debug)]
pub(super) struct Desk {
    nspace: String,
    /// Ranks of this node, in order.
    local: Vec<u32>,
    size: usize,
    next: u64,
    open: BTreeMap<u64, Open>,
    /// The next group that gets a number from here, as which of all nodes this one counts, and how many there are.
    numbers: (u64, u64, u64),
}

impl Desk {
    pub(super) fn new(start: &PmixStart) -> Self {
        let nodes = u64::try_from(start.nodes.len()).unwrap_or(u64::MAX);
        Desk {
            nspace: start.nspace.clone(),
            local: start.local().to_vec(),
            size: start.size(),
            next: 1,
            open: BTreeMap::new(),
            numbers: (1, u64::from(start.node_index), nodes),
        }
    }

    fn ask(&mut self, open: Open) -> u64 {
        let ask = self.next;
        self.next += 1;
        self.open.insert(ask, open);
        ask
    }

    /// What the shepherd is to hear of this. Where nobody else is needed it is answered here.
    pub(super) fn take(&mut self, upcall: Upcall) -> Option<FromPmix> {
        match upcall {
            Upcall::Connected(process) => {
                self.ours(&process).map(|rank| FromPmix::Connected { rank })
            }
            Upcall::Fence {
                nspace,
                ranks,
                bytes,
                timeout_s,
                reply,
            } => self.gather(
                Purpose::Fence,
                (&nspace, ranks),
                bytes,
                timeout_s,
                Open::Bytes(reply),
            ),
            Upcall::Connect {
                apart,
                nspace,
                ranks,
                timeout_s,
                reply,
            } => {
                let purpose = if apart {
                    Purpose::Disconnect
                } else {
                    Purpose::Connect
                };
                let open = Open::Done(reply);
                self.gather(purpose, (&nspace, ranks), Vec::new(), timeout_s, open)
            }
            Upcall::Group(group) => self.group(group),
            Upcall::Modex {
                process,
                timeout_s,
                reply,
            } => {
                let Some(rank) = self.ours(&process) else {
                    reply.answer(Err(status::NOT_FOUND));
                    return None;
                };
                let ask = self.ask(Open::Bytes(reply));
                Some(FromPmix::Modex {
                    ask,
                    rank,
                    timeout_s,
                })
            }
            Upcall::Put { ask, outcome } => Some(FromPmix::ModexFound {
                ask,
                outcome: outcome.and_then(blob),
            }),
            // Answered once the shepherd has been told: `told` in `serve.rs`.
            Upcall::Finalised { reply, .. }
            | Upcall::Abort { reply, .. }
            | Upcall::Log { reply, .. } => {
                reply.answer(Ok(()));
                None
            }
            Upcall::Publish {
                process,
                entries,
                range,
                persistence,
                reply,
            } => {
                let entries = entries.into_iter().map(entry_out).collect();
                let request = NameRequest::Publish {
                    entries,
                    range,
                    persistence,
                };
                self.name(&process, request, Open::Done(reply))
            }
            Upcall::Lookup {
                process,
                keys,
                range,
                wait,
                timeout_s,
                reply,
            } => {
                let request = NameRequest::Lookup {
                    keys,
                    range,
                    wait,
                    timeout_s,
                };
                self.name(&process, request, Open::Found(reply))
            }
            Upcall::Unpublish {
                process,
                keys,
                range,
                reply,
            } => {
                let request = NameRequest::Unpublish { keys, range };
                self.name(&process, request, Open::Done(reply))
            }
        }
    }

    /// The rank, where this is a process of our step.
    pub(super) fn ours(&self, process: &Process) -> Option<u32> {
        let at = usize::try_from(process.rank).ok()?;
        (process.nspace == self.nspace && at < self.size).then_some(process.rank)
    }

    fn gather(
        &mut self,
        purpose: Purpose,
        (nspace, ranks): (&str, Vec<u32>),
        bytes: Vec<u8>,
        timeout_s: Option<u32>,
        open: Open,
    ) -> Option<FromPmix> {
        let Some((everyone, is_local)) = self.place(nspace, &ranks) else {
            open.refuse(status::NOT_SUPPORTED);
            return None;
        };
        if is_local {
            match open {
                Open::Bytes(reply) => reply.answer(Ok(bytes)),
                Open::Done(reply) => reply.answer(Ok(())),
                Open::Found(reply) => reply.answer(Ok(Vec::new())),
                Open::Group(reply) => reply.answer(Ok((None, bytes))),
            }
            return None;
        }
        let bytes = match blob(bytes) {
            Ok(bytes) => bytes,
            Err(status) => {
                open.refuse(status);
                return None;
            }
        };
        Some(FromPmix::Fence {
            ask: self.ask(open),
            purpose,
            everyone,
            ranks: if everyone { Vec::new() } else { ranks },
            bytes,
            timeout_s,
        })
    }

    /// Whether these are all ranks of the step, and whether they are all here; no ranks = all. `None` = they are not of the
    /// step.
    fn place(&self, nspace: &str, ranks: &[u32]) -> Option<(bool, bool)> {
        let known = |rank: &u32| usize::try_from(*rank).is_ok_and(|at| at < self.size);
        if nspace != self.nspace || !ranks.iter().all(known) {
            return None;
        }
        let everyone = ranks.is_empty() || ranks.len() == self.size;
        let here = |rank: &u32| self.local.binary_search(rank).is_ok();
        let is_local = if everyone {
            self.local.len() == self.size
        } else {
            ranks.iter().all(here)
        };
        Some((everyone, is_local))
    }

    fn group(&mut self, group: GroupUpcall) -> Option<FromPmix> {
        let GroupUpcall {
            name,
            ends,
            nspace,
            ranks,
            is_local,
            wants_context,
            bytes,
            timeout_s,
            reply,
        } = group;
        let Some((everyone, all_here)) = self.place(&nspace, &ranks) else {
            reply.answer(Err(status::NOT_SUPPORTED));
            return None;
        };
        let context = (wants_context && !ends).then(|| self.number());
        if is_local || all_here {
            reply.answer(Ok((context, bytes)));
            return None;
        }
        let bytes = match blob(bytes) {
            Ok(bytes) => bytes,
            Err(status) => {
                reply.answer(Err(status));
                return None;
            }
        };
        Some(FromPmix::Group {
            ask: self.ask(Open::Group(reply)),
            name,
            ends,
            everyone,
            ranks: if everyone { Vec::new() } else { ranks },
            context,
            bytes,
            timeout_s,
        })
    }

    /// A number for a group that no other group of the step ever has: nodes count in turn, each in numbers of its own.
    /// Small ones, as there are libraries that hold them in 32 bits; 0 is that of no group.
    fn number(&mut self) -> u64 {
        let (count, node, nodes) = &mut self.numbers;
        let number = count.saturating_mul(*nodes).saturating_add(*node);
        *count += 1;
        number
    }

    fn name(&mut self, process: &Process, request: NameRequest, open: Open) -> Option<FromPmix> {
        let Some(rank) = self.ours(process) else {
            open.refuse(status::NOT_SUPPORTED);
            return None;
        };
        let ask = self.ask(open);
        Some(FromPmix::Name { ask, rank, request })
    }

    /// The bytes that were asked for by this number; a number that is not open changes nothing.
    pub(super) fn bytes(&mut self, ask: u64, outcome: Outcome) {
        match self.open.remove(&ask) {
            Some(Open::Bytes(reply)) => reply.answer(outcome.map(|Blob(bytes)| bytes)),
            Some(Open::Done(reply)) => reply.answer(outcome.map(|_| ())),
            Some(other) => other.refuse(status::ERROR),
            None => {}
        }
    }

    /// As [`Desk::bytes`], for groups.
    pub(super) fn grouped(&mut self, ask: u64, context: Option<u64>, outcome: Outcome) {
        match self.open.remove(&ask) {
            Some(Open::Group(reply)) => {
                reply.answer(outcome.map(|Blob(bytes)| (context, bytes)));
            }
            Some(other) => other.refuse(status::ERROR),
            None => {}
        }
    }

    /// As [`Desk::bytes`], for names.
    pub(super) fn names(&mut self, ask: u64, answer: Result<Names, i32>) {
        match self.open.remove(&ask) {
            Some(Open::Found(reply)) => {
                reply.answer(answer.map(|names| names.found.into_iter().map(found_in).collect()));
            }
            Some(Open::Done(reply)) => reply.answer(answer.map(|_| ())),
            Some(other) => other.refuse(status::ERROR),
            None => {}
        }
    }
}

fn blob(bytes: Vec<u8>) -> Outcome {
    if bytes.len() > BYTES_MAX {
        return Err(status::OUT_OF_RESOURCE);
    }
    Ok(Blob(bytes))
}

fn entry_out(entry: Published) -> NameEntry {
    NameEntry {
        key: entry.key,
        kind: entry.kind,
        value: Blob(entry.bytes),
    }
}

fn found_in(found: NameFound) -> Found {
    Found {
        process: Process {
            nspace: found.nspace,
            rank: found.rank,
        },
        entry: Published {
            key: found.entry.key,
            kind: found.entry.kind,
            bytes: found.entry.value.0,
        },
    }
}
