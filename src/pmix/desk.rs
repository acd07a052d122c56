//! The questions that are open: what ranks here have asked of other nodes. Each is answered once, by its number.

use crate::sys::pmix::{
    BytesReply, DoneReply, Found, FoundReply, GroupReply, GroupUpcall, MeetReply, Members, Process,
    Published, SpawnReply, SpawnUpcall, Upcall,
};
use crate::wire::pmix::{
    BRING_BYTES_MAX, BYTES_MAX, Blob, FromPmix, MeetMembers, NameEntry, NameFound, NameRequest,
    Names, Outcome, PmixStart, Purpose, status,
};
use std::collections::{BTreeMap, BTreeSet};

/// Added to the numbers by which ranks here are asked for what they have put, other than for other nodes.
const OUR_ASKS: u64 = 1 << 63;
/// Namespaces that ranks here have met.
const OTHERS_MAX: usize = 65_536;

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
    /// That ranks of several namespaces have met.
    Meet(MeetReply),
    /// What further processes are called.
    Spawn(SpawnReply),
}

impl Open {
    /// Nothing of the kind.
    fn refuse(self, status: i32) {
        match self {
            Open::Bytes(reply) => reply.answer(Err(status)),
            Open::Done(reply) => reply.answer(Err(status)),
            Open::Found(reply) => reply.answer(Err(status)),
            Open::Group(reply) => reply.answer(Err(status)),
            Open::Meet(reply) => reply.answer(Err(status)),
            Open::Spawn(reply) => reply.answer(Err(status)),
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
    /// Ranks here that were asked for what they have put, for those of other namespaces, by our numbers.
    bringing: BTreeMap<u64, u32>,
    /// Namespaces that ranks here have met.
    others: BTreeSet<String>,
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
            bringing: BTreeMap::new(),
            others: BTreeSet::new(),
            numbers: (1, u64::from(start.node_index), nodes),
        }
    }

    fn number_of_ask(&mut self) -> u64 {
        let ask = self.next;
        self.next += 1;
        ask
    }

    fn ask(&mut self, open: Open) -> u64 {
        let ask = self.number_of_ask();
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
            Upcall::Meet {
                purpose,
                members,
                reply,
            } => self.meet(purpose, members, reply),
            Upcall::Spawn(SpawnUpcall {
                process,
                request,
                reply,
            }) => {
                let Some(rank) = self.ours(&process) else {
                    reply.answer(Err(status::NOT_SUPPORTED));
                    return None;
                };
                Some(FromPmix::Spawn {
                    ask: self.ask(Open::Spawn(reply)),
                    rank,
                    request: Box::new(request),
                })
            }
            Upcall::Group(group) => self.group(group),
            Upcall::Modex {
                process,
                timeout_s,
                reply,
            } => {
                let Some(rank) = self.ours(&process) else {
                    return self.fetch(process, reply);
                };
                let ask = self.ask(Open::Bytes(reply));
                Some(FromPmix::Modex {
                    ask,
                    rank,
                    timeout_s,
                })
            }
            Upcall::Put { ask, outcome } if ask & OUR_ASKS != 0 => self.brought(ask, outcome),
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
                Open::Meet(reply) => reply.answer(Ok(())),
                other @ Open::Spawn(_) => other.refuse(status::ERROR),
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

    /// Namespaces among these that were not met before, and the ranks here that bring what they have put.
    pub(super) fn news_of(&mut self, members: &[Members]) -> (Vec<String>, Vec<u32>) {
        let mut new = Vec::new();
        for (nspace, _) in members {
            let room = self.others.len() < OTHERS_MAX;
            if *nspace != self.nspace && room && self.others.insert(nspace.clone()) {
                new.push(nspace.clone());
            }
        }
        (new, self.members_here(members))
    }

    /// A rank here is asked for what it has put; by this number.
    pub(super) fn brings(&mut self, rank: u32) -> u64 {
        let ask = OUR_ASKS | self.number_of_ask();
        self.bringing.insert(ask, rank);
        ask
    }

    /// It has, or cannot.
    pub(super) fn brought(&mut self, ask: u64, outcome: Result<Vec<u8>, i32>) -> Option<FromPmix> {
        let rank = self.bringing.remove(&ask)?;
        let outcome = outcome.and_then(|bytes| match bytes.len() {
            0..=BRING_BYTES_MAX => Ok(Blob(bytes)),
            _ => Err(status::OUT_OF_RESOURCE),
        });
        Some(FromPmix::Name {
            // Nobody waits for the answer.
            ask: self.number_of_ask(),
            rank,
            request: NameRequest::Bring { outcome },
        })
    }

    /// Ranks of this node among these.
    fn members_here(&self, members: &[Members]) -> Vec<u32> {
        let own = members.iter().find(|(nspace, _)| *nspace == self.nspace);
        let is_one = |rank: &u32, ranks: &[u32]| ranks.is_empty() || ranks.contains(rank);
        own.map_or_else(Vec::new, |(_, ranks)| {
            let local = self.local.iter().copied();
            local.filter(|rank| is_one(rank, ranks)).collect()
        })
    }

    fn meet(
        &mut self,
        purpose: Purpose,
        members: Vec<Members>,
        reply: MeetReply,
    ) -> Option<FromPmix> {
        let here = self.members_here(&members);
        let own = members.iter().find(|(nspace, _)| *nspace == self.nspace);
        let own = own.filter(|(nspace, ranks)| self.place(nspace, ranks).is_some());
        let (Some((_, ranks)), Some(&rank)) = (own, here.first()) else {
            reply.answer(Err(status::NOT_SUPPORTED));
            return None;
        };
        let all = if ranks.is_empty() {
            self.size
        } else {
            ranks.len()
        };
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let members = members.into_iter();
        let request = NameRequest::Meet {
            purpose,
            here: count(here.len()),
            all: count(all),
            members: members
                .map(|(nspace, ranks)| MeetMembers { nspace, ranks })
                .collect(),
        };
        let ask = self.ask(Open::Meet(reply));
        Some(FromPmix::Name { ask, rank, request })
    }

    /// A rank here wants what one of another namespace has put.
    fn fetch(&mut self, process: Process, reply: BytesReply) -> Option<FromPmix> {
        let asker = self.local.first().copied();
        let known = self.others.contains(&process.nspace);
        let Some(asker) = asker.filter(|_| known) else {
            reply.answer(Err(status::NOT_FOUND));
            return None;
        };
        Some(FromPmix::Name {
            ask: self.ask(Open::Bytes(reply)),
            rank: asker,
            request: NameRequest::Fetch {
                nspace: process.nspace,
                rank: process.rank,
            },
        })
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
            Some(Open::Meet(reply)) => reply.answer(answer.map(|_| ())),
            Some(Open::Bytes(reply)) => reply.answer(answer.and_then(|names| {
                let first = names.found.into_iter().next();
                let found = first.ok_or(status::NOT_FOUND)?;
                Ok(found.entry.value.0)
            })),
            Some(other) => other.refuse(status::ERROR),
            None => {}
        }
    }

    /// As [`Desk::bytes`], for further processes.
    pub(super) fn spawned(&mut self, ask: u64, answer: Result<&str, i32>) {
        match self.open.remove(&ask) {
            Some(Open::Spawn(reply)) => reply.answer(answer),
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
