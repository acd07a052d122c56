//! THE PMI SERVER of one step on one node. Pure: bytes of ranks in, acts out.
//!
//! MPI libraries find their peers through it: each rank has a stream socket, on which it puts addresses into a key
//! space, waits at a fence until all ranks of the step have done so, and gets those of others. A get never
//! leaves the node. Ranks may speak PMI-1 (lines) or PMI-2 (frames), also mixed within a step. A second start after
//! a finalize is served, since MPI sessions do that.
//!
//! The shell ([`crate::shepherd`]) owns the sockets, brings parts of fences between nodes, answers for published
//! names and ends steps. What it hears of a rank after [`PmiAct::Broken`], [`PmiAct::Vanished`] or
//! [`PmiAct::Abort`] is ignored here. A client waits for each answer, or with PMI-2 each of its threads does, so
//! answers need no bound of their own.
//!
//! Read next: `ask.rs` (what both dialects can say), `pmi1.rs`, `pmi2.rs`, `kvs.rs` (pairs, and parts of fences),
//! `mapping.rs` (which ranks share a node).

mod ask;
mod kvs;
mod mapping;
mod pmi1;
mod pmi2;
mod spawning;
#[cfg(test)]
mod tests;

pub use kvs::{FENCE_PART_MAX, KEY_MAX, KEY_SPACE_MAX, VALUE_MAX, pairs};
pub use mapping::process_mapping;
pub use pmi1::{port_answer, port_hello};

use crate::model::spawn::{SpawnPair, SpawnRequest};
use ask::{Answer, Ask, NameKind, Tag};
use kvs::{KeySpace, Pairs, PutError};
use std::collections::BTreeMap;

/// Longest line or frame of a rank. Clients of PMI-2 can write no longer ones.
pub const REQUEST_MAX: usize = 64 * 1024;
/// Most that the ranks of a node may tell each other as node attributes.
const NODE_ATTRIBUTES_MAX: usize = 4 * 1024 * 1024;
/// Fences of a start that ranks are never let out of early.
const HURRY_FROM: u32 = 2;
/// Requests of a rank that may wait for their answer: one for each thread of a client.
const WAITS_MAX: u32 = 256;

/// What the server of one step on one node must know.
#[derive(Debug, Clone, Default)]
pub struct PmiFacts {
    /// Name of the key space: unique per job, step and attempt. Clients name shared memory after it, so one that was
    /// used before finds what a killed step has left behind, and fails.
    pub kvs_name: String,
    /// Ranks of the whole step.
    pub size: u32,
    /// The ranks that run here, by local number.
    pub ranks: Vec<u32>,
    /// Their component in an MPMD launch, by local number (0 for all else).
    pub app_numbers: Vec<u32>,
    /// Slots of the allocation (universe size).
    pub universe: u32,
    /// `PMI_process_mapping`; absent where it would be too long.
    pub mapping: Option<String>,
    /// Name of the key space of who asked for the step, where that was a rank of another.
    pub spawner: Option<String>,
    /// What every rank finds there from the beginning.
    pub pairs: Vec<SpawnPair>,
}

/// What is to be done about what was heard; in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PmiAct {
    /// Write these bytes to a local rank's socket.
    Answer {
        /// Whose.
        local: u32,
        /// Whole lines or frames.
        bytes: Vec<u8>,
    },
    /// Every local rank has entered this fence; what they have put since the last one, encoded.
    Fence {
        /// Counts fences, from 0.
        epoch: u32,
        /// At most [`FENCE_PART_MAX`] bytes.
        fresh: Vec<u8>,
    },
    /// A request about published names; answered by [`PmiServer::named`].
    Name {
        /// What the answer has to bear.
        ask: u64,
        /// What is wanted.
        request: NameRequest,
    },
    /// A rank asks for further processes; answered by [`PmiServer::spawned`].
    Spawn {
        /// What the answer has to bear.
        ask: u64,
        /// Which rank.
        local: u32,
        /// What is wanted.
        request: Box<SpawnRequest>,
    },
    /// The rank has begun to speak PMI: its init was answered.
    Initialised {
        /// Which.
        local: u32,
    },
    /// The rank has said finalize.
    Finalised {
        /// Which.
        local: u32,
    },
    /// The rank asks that the whole step be ended with this code.
    Abort {
        /// Which.
        local: u32,
        /// As it was given, which may be 0; 1 where none was.
        code: i32,
        /// What it says, on one line; may be empty.
        text: String,
    },
    /// The rank spoke nonsense (framing, oversize, wrong order): its socket is to be closed and the step fails, with
    /// this reason.
    Broken {
        /// Which; for parts of other nodes that make no sense, one that waits for them.
        local: u32,
        /// Why, on one line.
        text: String,
    },
    /// The rank closed its socket after init without finalize.
    Vanished {
        /// Which.
        local: u32,
    },
}

/// What a rank wants of published names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NameRequest {
    /// Makes a port known by the name of a service.
    Publish {
        /// The name.
        service: String,
        /// The port.
        port: String,
    },
    /// Takes it back.
    Unpublish {
        /// The name.
        service: String,
    },
    /// Asks for the port.
    Lookup {
        /// The name.
        service: String,
    },
}

/// What it is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NameAnswer {
    /// Published, or taken back.
    Done,
    /// The port.
    Found(String),
    /// There is no such name.
    NotFound,
    /// Not done, and why.
    Refused(String),
}

/// How far a rank is.
///
/// ```text
///   Silent ──init──▶ Speaking ──finalize──▶ Finalised
///                        ▲                      │
///                        └─────────init─────────┘
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Silent,
    Speaking,
    Finalised,
}

/// How the next bytes of a rank are cut into requests.
#[derive(Debug)]
enum Framing {
    Lines,
    /// Lines that belong to a spawn request.
    Spawn(Box<pmi1::SpawnLines>),
    Frames,
}

impl Framing {
    /// The first request of these bytes and how many it takes, if it is whole. The first `searched` bytes were
    /// looked at before.
    fn cut<'a>(
        &self,
        bytes: &'a [u8],
        searched: usize,
    ) -> Result<Option<(&'a [u8], usize)>, String> {
        let (start, end, taken) = match self {
            Framing::Lines | Framing::Spawn(_) => {
                let more = bytes.get(searched..).unwrap_or_default();
                let end = more.iter().position(|byte| *byte == b'\n');
                let length = end.map_or(bytes.len(), |end| searched + end);
                if length > REQUEST_MAX {
                    return Err(format!("a line of more than {REQUEST_MAX} bytes"));
                }
                if end.is_none() {
                    return Ok(None);
                }
                (0, length, length + 1)
            }
            Framing::Frames => {
                let Some(header) = bytes.get(..pmi2::LENGTH_WIDTH) else {
                    return Ok(None);
                };
                let end = pmi2::LENGTH_WIDTH + pmi2::length(header, REQUEST_MAX)?;
                (pmi2::LENGTH_WIDTH, end, end)
            }
        };
        Ok(bytes.get(start..end).map(|request| (request, taken)))
    }
}

/// One local rank.
#[derive(Debug)]
struct Rank {
    phase: Phase,
    /// It is not listened to any more.
    is_over: bool,
    framing: Framing,
    /// The beginning of a request.
    held: Vec<u8>,
    /// The fence it is in, and how to answer.
    inside: Option<(u32, Tag)>,
    /// It was let out of the present fence before all were in.
    is_ahead: bool,
    /// Requests that wait for their answer, other than for the fence.
    waits: u32,
}

/// A request about names that waits for its answer.
#[derive(Debug)]
struct NameWait {
    local: u32,
    kind: NameKind,
    tag: Tag,
}

/// The server of one step on one node.
#[derive(Debug)]
pub struct PmiServer {
    facts: PmiFacts,
    ranks: Vec<Rank>,
    space: KeySpace,
    node_attributes: Pairs,
    /// Who waits for a node attribute.
    node_waits: BTreeMap<Vec<u8>, Vec<(u32, Tag)>>,
    name_waits: BTreeMap<u64, NameWait>,
    /// Who waits for further processes.
    spawn_waits: BTreeMap<u64, (u32, Tag)>,
    ask_next: u64,
    /// The fence that is gathering or under way.
    epoch: u32,
    /// It is under way: our part has been given out.
    is_under_way: bool,
    /// Ranks inside the next fence to be given out.
    entered: usize,
    /// Ranks that a fence waits for: all that have not finalised.
    taking_part: usize,
    /// Ranks that wait for the fence that is gathering or under way.
    waiting: usize,
    /// Our part of the fence under way was empty.
    is_empty_part: bool,
    /// What ranks that are ahead ask for and cannot have before the others are there.
    held: Vec<(u32, Held)>,
}

/// What a rank that is ahead waits for.
#[derive(Debug)]
enum Held {
    Get(Vec<u8>, Tag),
    Fence(Tag),
    /// It has finalised, and counts until the fence is complete.
    Leave,
}

impl PmiServer {
    /// For ranks that have said nothing yet.
    #[must_use]
    pub fn new(facts: PmiFacts) -> Self {
        let mut space = KeySpace::new();
        if let Some(mapping) = &facts.mapping {
            space.preset(b"PMI_process_mapping", mapping.as_bytes());
        }
        for (key, value) in &facts.pairs {
            space.preset(key, value);
        }
        let rank = |_| Rank {
            phase: Phase::Silent,
            is_over: false,
            framing: Framing::Lines,
            held: Vec::new(),
            inside: None,
            is_ahead: false,
            waits: 0,
        };
        let ranks: Vec<Rank> = facts.ranks.iter().map(rank).collect();
        Self {
            taking_part: ranks.len(),
            ranks,
            space,
            node_attributes: Pairs::new(NODE_ATTRIBUTES_MAX),
            node_waits: BTreeMap::new(),
            name_waits: BTreeMap::new(),
            spawn_waits: BTreeMap::new(),
            ask_next: 0,
            epoch: 0,
            is_under_way: false,
            entered: 0,
            waiting: 0,
            is_empty_part: true,
            held: Vec::new(),
            facts,
        }
    }

    /// Whether the rank has said init.
    #[must_use]
    pub fn is_initialised(&self, local: u32) -> bool {
        let rank = self.ranks.get(local as usize);
        rank.is_some_and(|rank| rank.phase != Phase::Silent)
    }

    /// Whether the rank has said finalize, and no init since.
    #[must_use]
    pub fn is_finalised(&self, local: u32) -> bool {
        let rank = self.ranks.get(local as usize);
        rank.is_some_and(|rank| rank.phase == Phase::Finalised)
    }

    /// Bytes that came from a rank, cut anyhow.
    pub fn receive(&mut self, local: u32, bytes: &[u8], out: &mut Vec<PmiAct>) {
        let Some(rank) = self.listened_to(local) else {
            return;
        };
        // Most often nothing is held, and requests are read where they lie.
        let mut held = std::mem::take(&mut rank.held);
        let mut searched = held.len();
        if searched > 0 {
            held.extend_from_slice(bytes);
        }
        let input = if searched > 0 { &held } else { bytes };
        let mut at = 0;
        while let Some(rank) = self.listened_to(local) {
            let request = match rank.framing.cut(&input[at..], searched) {
                Ok(Some((request, taken))) => {
                    at += taken;
                    searched = 0;
                    self.request(local, request, out)
                }
                Ok(None) => break,
                Err(text) => Err(text),
            };
            if let Err(text) = request {
                self.broken(local, text, out);
                return;
            }
        }
        let kept_from = at;
        let was_held = !held.is_empty();
        if let Some(rank) = self.listened_to(local) {
            if was_held {
                held.drain(..kept_from);
                rank.held = held;
            } else {
                rank.held = bytes[kept_from..].to_vec();
            }
        }
    }

    /// The rank's socket has come to its end.
    pub fn closed(&mut self, local: u32, out: &mut Vec<PmiAct>) {
        let Some(rank) = self.listened_to(local) else {
            return;
        };
        rank.is_over = true;
        rank.held = Vec::new();
        if rank.phase == Phase::Speaking {
            out.push(PmiAct::Vanished { local });
        }
    }

    /// Every node has entered: all parts, in the order of nodes, our own among them. An epoch that is not the one
    /// waited for is ignored.
    pub fn fenced(&mut self, epoch: u32, parts: &[Vec<u8>], out: &mut Vec<PmiAct>) {
        if !self.is_under_way || epoch != self.epoch {
            return;
        }
        let merge = |(node, part): (usize, &Vec<u8>)| {
            let merged = self.space.merge(part);
            merged.map_err(|why| format!("what node {node} of the step brought to a fence: {why}"))
        };
        let merged = parts.iter().enumerate().try_for_each(merge);
        let mut inside = Vec::new();
        for (local, rank) in (0..).zip(&mut self.ranks) {
            let here = rank.inside.take_if(|(entered, _)| *entered == epoch);
            inside.extend(here.map(|(_, tag)| (local, tag)));
            rank.is_ahead = false;
        }
        self.is_under_way = false;
        self.epoch = epoch.wrapping_add(1);
        self.waiting = self.entered;
        if let Err(text) = merged {
            // The step ends; nobody is to go on from a fence that has failed.
            let waits = inside.first().map_or(0, |(local, _)| *local);
            self.broken(waits, text, out);
            return;
        }
        for (local, tag) in inside {
            self.answer(local, &tag, &Answer::Fence(Ok(())), out);
        }
        self.catch_up(out);
        self.advance(out);
    }

    /// Whether ranks wait in a fence that [`PmiServer::hurry`] would let them out of.
    #[must_use]
    pub fn is_held_up(&self) -> bool {
        let nothing_put = if self.is_under_way {
            self.is_empty_part
        } else {
            !self.space.has_fresh()
        };
        self.waiting > 0 && nothing_put && self.epoch >= HURRY_FROM
    }

    /// Lets ranks out of a fence in which not all are, for the sake of MPICH 4.0 and 4.1 over UCX. At their end they take
    /// their connections down, for which the other side must work along, and a rank of theirs that waits in the last
    /// fence does not: without this some wait there, and the others for them, for ever.
    ///
    /// A fence that brings nothing new is only a meeting, and who is let out early learns nothing wrong: what it asks for
    /// and is not there yet is answered once all are in. The first fences of a start are left as they are.
    pub fn hurry(&mut self, out: &mut Vec<PmiAct>) {
        if !self.is_held_up() {
            return;
        }
        let epoch = self.epoch;
        let mut early = Vec::new();
        for (local, rank) in (0..).zip(&mut self.ranks) {
            let waits = |(entered, tag): &mut (u32, Tag)| *entered == epoch && tag.is_line();
            if let Some((_, tag)) = rank.inside.take_if(waits) {
                rank.is_ahead = true;
                early.push((local, tag));
            }
        }
        self.waiting = 0;
        for (local, tag) in early {
            self.answer(local, &tag, &Answer::Fence(Ok(())), out);
        }
    }

    /// A fence is complete: those that were ahead of it have what they asked for.
    fn catch_up(&mut self, out: &mut Vec<PmiAct>) {
        let epoch = self.epoch;
        for (local, held) in std::mem::take(&mut self.held) {
            match held {
                Held::Get(key, tag) => {
                    let bytes = tag.write(&Answer::Got(self.space.get(&key)));
                    if let Some(rank) = self.listened_to(local) {
                        rank.waits = rank.waits.saturating_sub(1);
                        out.push(PmiAct::Answer { local, bytes });
                    }
                }
                Held::Fence(tag) => {
                    if let Some(rank) = self.listened_to(local) {
                        rank.inside = Some((epoch, tag));
                        self.entered += 1;
                        self.waiting += 1;
                    }
                }
                Held::Leave => self.taking_part -= 1,
            }
        }
    }

    /// A request about published names has been answered. One that is not waited for is ignored.
    pub fn named(&mut self, ask: u64, answer: NameAnswer, out: &mut Vec<PmiAct>) {
        let Some(NameWait { local, kind, tag }) = self.name_waits.remove(&ask) else {
            return;
        };
        let fits = |port: &str| !port.contains(['\n', '\0']);
        let answer = match answer {
            NameAnswer::Found(port) if !fits(&port) => NameAnswer::NotFound,
            answer => answer,
        };
        self.answer_wait(local, &tag, &Answer::Name(kind, &answer), out);
    }

    /// A request for further processes has been answered: the name of the step that they are, or why there is none.
    pub fn spawned(&mut self, ask: u64, answer: Result<&str, &str>, out: &mut Vec<PmiAct>) {
        if let Some((local, tag)) = self.spawn_waits.remove(&ask) {
            self.answer_wait(local, &tag, &Answer::Spawned(answer), out);
        }
    }

    fn next_ask(&mut self) -> u64 {
        self.ask_next += 1;
        self.ask_next - 1
    }

    fn listened_to(&mut self, local: u32) -> Option<&mut Rank> {
        let rank = self.ranks.get_mut(local as usize);
        rank.filter(|rank| !rank.is_over)
    }

    fn broken(&mut self, local: u32, text: String, out: &mut Vec<PmiAct>) {
        if let Some(rank) = self.listened_to(local) {
            rank.is_over = true;
            rank.held = Vec::new();
            out.push(PmiAct::Broken { local, text });
        }
    }

    fn answer(&mut self, local: u32, tag: &Tag, answer: &Answer<'_>, out: &mut Vec<PmiAct>) {
        if self.listened_to(local).is_some() {
            let bytes = tag.write(answer);
            out.push(PmiAct::Answer { local, bytes });
        }
    }

    /// Answers a request that was counted as one that waits.
    fn answer_wait(&mut self, local: u32, tag: &Tag, answer: &Answer<'_>, out: &mut Vec<PmiAct>) {
        if let Some(rank) = self.listened_to(local) {
            rank.waits = rank.waits.saturating_sub(1);
        }
        self.answer(local, tag, answer, out);
    }

    /// # Errors
    /// Why the rank is not to be listened to any more; so with all below that can fail.
    fn request(&mut self, local: u32, request: &[u8], out: &mut Vec<PmiAct>) -> Result<(), String> {
        let Some(rank) = self.listened_to(local) else {
            return Ok(());
        };
        let (ask, tag) = match &mut rank.framing {
            Framing::Lines => (pmi1::read(request)?, Tag::Line),
            Framing::Frames => pmi2::read(request)?,
            Framing::Spawn(lines) => {
                if !lines.take(request) {
                    return Ok(());
                }
                let ask = std::mem::take(&mut **lines).ask();
                rank.framing = Framing::Lines;
                (ask, Tag::Line)
            }
        };
        match ask {
            Ask::Init { .. } | Ask::Abort { .. } => {}
            _ if rank.phase != Phase::Silent => {}
            _ => return Err(format!("{} before init", ask::excerpt(request))),
        }
        self.heed(local, ask, tag, out)
    }

    fn heed(
        &mut self,
        local: u32,
        ask: Ask<'_>,
        tag: Tag,
        out: &mut Vec<PmiAct>,
    ) -> Result<(), String> {
        let index = local as usize;
        let app_number = self.facts.app_numbers.get(index).copied().unwrap_or(0);
        match ask {
            Ask::Init {
                version,
                subversion,
            } => return self.init(local, version, subversion, out),
            Ask::FullInit => {
                let bytes = tag.write(&Answer::FullInit {
                    rank: self.facts.ranks[index],
                    size: self.facts.size,
                    app_number,
                    spawner: self.facts.spawner.as_deref(),
                });
                out.push(PmiAct::Answer { local, bytes });
            }
            Ask::Maxes => self.answer(local, &tag, &Answer::Maxes, out),
            Ask::AppNumber => self.answer(local, &tag, &Answer::AppNumber(app_number), out),
            Ask::Universe => {
                let answer = Answer::Universe(self.facts.universe);
                self.answer(local, &tag, &answer, out);
            }
            Ask::SpaceName => {
                let bytes = tag.write(&Answer::SpaceName(&self.facts.kvs_name));
                out.push(PmiAct::Answer { local, bytes });
            }
            Ask::Put { space, key, value } => {
                let put = if self.is_ours(&space) {
                    self.space.put(&key, &value)
                } else {
                    Err(PutError::Refused("no such key space"))
                };
                let put = told(put)?;
                self.answer(local, &tag, &Answer::Put(put), out);
            }
            Ask::Get { space, key } => {
                // Nothing is known of other spaces, and a miss is what clients can handle.
                let ours = self.is_ours(&space);
                let value = ours.then(|| self.space.get(&key)).flatten();
                if ours && value.is_none() && self.ranks[index].is_ahead {
                    self.waits_more(local)?;
                    self.held.push((local, Held::Get(key.into_owned(), tag)));
                    return Ok(());
                }
                let bytes = tag.write(&Answer::Got(value));
                out.push(PmiAct::Answer { local, bytes });
            }
            Ask::JobAttribute { key } => {
                let universe = self.facts.universe.to_string();
                let value = match &*key {
                    b"universeSize" => Some(universe.as_bytes()),
                    b"PMI_process_mapping" => self.space.get(&key),
                    _ if self.facts.spawner.is_some() => self.space.get(&key),
                    _ => None,
                };
                let bytes = tag.write(&Answer::JobAttribute(value));
                out.push(PmiAct::Answer { local, bytes });
            }
            Ask::NodePut { key, value } => {
                let put = told(self.node_attributes.put(&key, &value))?;
                self.answer(local, &tag, &Answer::NodePut(put), out);
                if put.is_ok() {
                    for (local, tag) in self.node_waits.remove(&*key).unwrap_or_default() {
                        self.answer_wait(local, &tag, &Answer::NodeGot(Some(&value)), out);
                    }
                }
            }
            Ask::NodeGet { key, wait } => {
                let value = self.node_attributes.get(&key);
                if value.is_none() && wait {
                    self.waits_more(local)?;
                    let waits = self.node_waits.entry(key.into_owned()).or_default();
                    waits.push((local, tag));
                } else {
                    let bytes = tag.write(&Answer::NodeGot(value));
                    out.push(PmiAct::Answer { local, bytes });
                }
            }
            Ask::Fence => return self.enter(local, tag, out),
            Ask::Finalise => return self.finalise(local, &tag, out),
            Ask::Abort { code, text } => {
                self.ranks[index].is_over = true;
                out.push(PmiAct::Abort { local, code, text });
            }
            Ask::Name(request) => {
                self.waits_more(local)?;
                let ask = self.next_ask();
                let kind = request.kind();
                self.name_waits.insert(ask, NameWait { local, kind, tag });
                out.push(PmiAct::Name { ask, request });
            }
            Ask::SpawnBegins => {
                self.ranks[index].framing = Framing::Spawn(Box::default());
            }
            Ask::Spawn(Err(why)) => self.answer(local, &tag, &Answer::Spawned(Err(why)), out),
            Ask::Spawn(Ok(request)) => {
                self.waits_more(local)?;
                let ask = self.next_ask();
                self.spawn_waits.insert(ask, (local, tag));
                let request = Box::new(request);
                out.push(PmiAct::Spawn {
                    ask,
                    local,
                    request,
                });
            }
            Ask::Refused { answer, why } => {
                let answer = Answer::Refused {
                    answer: &answer,
                    why,
                };
                self.answer(local, &tag, &answer, out);
            }
        }
        Ok(())
    }

    /// Clients that know of no other space leave the name out.
    fn is_ours(&self, space: &[u8]) -> bool {
        space.is_empty() || space == self.facts.kvs_name.as_bytes()
    }

    /// Counts one more request that waits.
    fn waits_more(&mut self, local: u32) -> Result<(), String> {
        let rank = &mut self.ranks[local as usize];
        rank.waits += 1;
        if rank.waits > WAITS_MAX {
            return Err(format!("more than {WAITS_MAX} requests at once"));
        }
        Ok(())
    }

    /// The version spoken is the lower of what is asked for and what we know.
    fn init(
        &mut self,
        local: u32,
        version: u32,
        subversion: u32,
        out: &mut Vec<PmiAct>,
    ) -> Result<(), String> {
        let rank = &mut self.ranks[local as usize];
        if rank.inside.is_some() {
            return Err("init within a fence".to_owned());
        }
        let answer = match version {
            0 => Answer::InitRefused,
            1 => Answer::Init {
                version,
                subversion: subversion.min(1),
            },
            _ => Answer::Init {
                version: 2,
                subversion: 0,
            },
        };
        if version >= 2 {
            rank.framing = Framing::Frames;
        }
        let was = rank.phase;
        if version > 0 {
            rank.phase = Phase::Speaking;
        }
        self.answer(local, &Tag::Line, &answer, out);
        if version > 0 && was != Phase::Speaking {
            self.taking_part += usize::from(was == Phase::Finalised);
            out.push(PmiAct::Initialised { local });
        }
        Ok(())
    }

    fn finalise(&mut self, local: u32, tag: &Tag, out: &mut Vec<PmiAct>) -> Result<(), String> {
        let rank = &mut self.ranks[local as usize];
        if rank.inside.is_some() {
            return Err("finalize within a fence".to_owned());
        }
        let was = rank.phase;
        rank.phase = Phase::Finalised;
        // Should it start again, it begins with a line.
        rank.framing = Framing::Lines;
        let is_ahead = rank.is_ahead && !self.is_under_way;
        self.answer(local, tag, &Answer::Finalise, out);
        if was != Phase::Finalised {
            if is_ahead {
                // It is in the fence that the others are still to enter.
                self.held.push((local, Held::Leave));
            } else {
                self.taking_part -= 1;
            }
            out.push(PmiAct::Finalised { local });
            self.advance(out);
        }
        Ok(())
    }

    /// A rank enters a fence: the one that gathers, or the one after that which is under way.
    fn enter(&mut self, local: u32, tag: Tag, out: &mut Vec<PmiAct>) -> Result<(), String> {
        let epoch = self.epoch.wrapping_add(u32::from(self.is_under_way));
        let rank = &mut self.ranks[local as usize];
        if rank.inside.is_some() {
            return Err("a second fence within a fence".to_owned());
        }
        if rank.phase == Phase::Finalised {
            self.answer(local, &tag, &Answer::Fence(Err("after finalize")), out);
            return Ok(());
        }
        if rank.is_ahead && !self.is_under_way {
            self.held.push((local, Held::Fence(tag)));
            return Ok(());
        }
        rank.inside = Some((epoch, tag));
        self.entered += 1;
        self.waiting += usize::from(epoch == self.epoch);
        self.advance(out);
        Ok(())
    }

    /// Gives the fence out once all ranks are in it that take part.
    fn advance(&mut self, out: &mut Vec<PmiAct>) {
        if self.is_under_way || self.entered == 0 || self.entered < self.taking_part {
            return;
        }
        self.is_under_way = true;
        self.entered = 0;
        self.is_empty_part = !self.space.has_fresh();
        out.push(PmiAct::Fence {
            epoch: self.epoch,
            fresh: self.space.take_fresh(),
        });
    }
}

/// What a client is told of a put; an error where there is nothing more to say to it.
fn told(put: Result<(), PutError>) -> Result<Result<(), &'static str>, String> {
    match put {
        Ok(()) => Ok(Ok(())),
        Err(PutError::Refused(why)) => Ok(Err(why)),
        Err(PutError::Full) => Err(kvs::full()),
    }
}
