//! How the ranks of one step find each other, and what the end of one means for the rest: this node's part of it. Pure,
//! as everything here: [`super::SlotCore`] brings what ranks, other nodes and the PMIx helper say, and carries out the
//! [`WireAct`]s.
//!
//! A rank *speaks* once it has said init over PMI or has connected to PMIx. From then until it says finalize the others
//! count on it: an end without that ends the step everywhere. A rank that ends without ever having spoken ends the step
//! only if another one speaks, which would wait for it for ever; the step's first node puts the two together.

use super::gather::{GatherAct, Gathers};
use super::names::{pmi_words, pmix_words};
use super::pmi::{PmiAct, PmiFacts, PmiServer, process_mapping};
use super::pmix_groups;
use super::verdict::Verdict;
use super::wire_acts::{Asked, WireAct};
use super::wire_facts::WireFacts;
use crate::model::job::ExitStatus;
use crate::model::signal::signal_name;
use crate::model::step::Mpi;
use crate::model::time::Timestamp;
use crate::wire::codec::REPORT_MAX;
use crate::wire::peer::{Collective, Group, PART_MAX, PeerMessage, StepFailure};
use crate::wire::pmix::{Blob, FromPmix, NameRequest, Names, ToPmix, status};
use std::collections::BTreeMap;

/// How long a rank that has closed its connection has to end, before that alone counts as its end.
const VANISHED_MS: u64 = 1_000;
/// More than this no node's reckoning lags.
const LAG_MAX_MS: i64 = 60_000;
/// How long ranks of a step over several nodes wait in a fence that brings nothing new, before they are let go on.
const HELD_UP_MS: u64 = 1_000;
/// Most bytes of a collective that leave a node at once: as a report, with room for what is around them.
const GATHERED_MAX: usize = REPORT_MAX - 1024 * 1024;
/// Questions to other nodes that are open at once.
const ASKS_MAX: usize = 65_536;

/// A rank of this node.
#[derive(Debug, Clone, Copy)]
struct Local {
    rank: u32,
    speaks: bool,
    finalised: bool,
    over: bool,
    /// It has closed its PMI connection too early; when that counts as its end.
    vanished: Option<u64>,
}

/// This node's part of a step's wiring.
#[derive(Debug)]
pub(super) struct Wiring {
    facts: WireFacts,
    locals: Vec<Local>,
    pmi: PmiServer,
    gathers: Gathers,
    /// Who waits for a collective.
    pending: BTreeMap<Collective, Asked>,
    /// Questions to other nodes, by our number.
    asks: BTreeMap<u64, Asked>,
    /// Questions of other nodes to our helper, by our number.
    wanted: BTreeMap<u64, (u32, u64)>,
    serial: u64,
    /// The time of what is being handled.
    now: u64,
    /// How far our reckoning of the controller's time was found to lag; milliseconds.
    lead_ms: i64,
    verdict: Verdict,
    begun: bool,
    silent: bool,
    /// When ranks that wait in a fence are let go on without the others ([`PmiServer::hurry`]).
    held_up: Option<u64>,
    /// Why nobody serves PMIx here.
    without_pmix: Option<String>,
    /// On the first node: somebody speaks; somebody ended without.
    leader: (bool, Option<(u32, ExitStatus)>),
}

impl Wiring {
    pub(super) fn new(facts: WireFacts) -> Self {
        let ranks = facts.placement.ranks_on(facts.me);
        let local = |rank: &u32| Local {
            rank: *rank,
            speaks: false,
            finalised: false,
            over: false,
            vanished: None,
        };
        let apps = facts.app_numbers();
        let app_of = |rank: &u32| apps.get(*rank as usize).copied().unwrap_or(0);
        let pmi = PmiServer::new(PmiFacts {
            kvs_name: facts.kvs_name.clone(),
            size: facts.placement.size(),
            app_numbers: ranks.iter().map(app_of).collect(),
            universe: facts.universe,
            mapping: process_mapping(&facts.placement.numbers()),
            ranks: ranks.clone(),
            spawner: facts.spawner.clone(),
            pairs: facts
                .options
                .spawned()
                .map_or_else(Vec::new, |spawned| spawned.request.pairs.clone()),
        });
        Wiring {
            locals: ranks.iter().map(local).collect(),
            pmi,
            gathers: Gathers::new(facts.me),
            pending: BTreeMap::new(),
            asks: BTreeMap::new(),
            wanted: BTreeMap::new(),
            serial: 0,
            now: 0,
            lead_ms: 0,
            verdict: Verdict::default(),
            begun: false,
            silent: false,
            held_up: None,
            without_pmix: None,
            leader: (false, None),
            facts,
        }
    }

    /// Whether its ranks get a PMI socket each. Where PMI is not served, they do too, so that one that asks for it is
    /// noticed: without, it would run alone and call that a success.
    pub(super) fn has_sockets(&self) -> bool {
        self.facts.options.mpi() != Mpi::None
    }

    /// Says what time it is.
    pub(super) fn at(&mut self, now: u64) -> &mut Self {
        self.now = now;
        self
    }

    /// Whether something went wrong, so that the step is ended or about to be.
    pub(super) fn has_failed(&self) -> bool {
        self.verdict.is_some()
    }

    /// Whether it is still to be settled what went wrong first.
    pub(super) fn is_undecided(&self) -> bool {
        self.verdict.is_open()
    }

    /// Whether the step has one rank and no more.
    pub(super) fn is_alone(&self) -> bool {
        self.facts.placement.size() <= 1
    }

    /// Whether this node is the first of those that have ranks.
    pub(super) fn is_on_first_node(&self) -> bool {
        self.facts.placement.nodes().first() == Some(&self.facts.me)
    }

    /// Whether it is what a remote shell would start.
    pub(super) fn is_remote_shell(&self) -> bool {
        self.facts.options.remote_shell().is_some()
    }

    /// Whether its ranks must not start without PMIx.
    pub(super) fn needs_pmix(&self) -> bool {
        self.facts.options.mpi() == Mpi::Pmix
    }

    /// Nobody serves PMIx here, for this reason; nobody answers other nodes.
    pub(super) fn without_pmix(&mut self, text: String, out: &mut Vec<WireAct>) {
        self.without_pmix = Some(text);
        let step = self.facts.step;
        for (to, ask) in std::mem::take(&mut self.wanted).into_values() {
            let outcome = Err(status::NOT_FOUND);
            let message = PeerMessage::ModexFound { step, ask, outcome };
            out.push(WireAct::Peer { to, message });
        }
    }

    /// A rank asks for PMIx, which nobody serves here.
    pub(super) fn asked_for_pmix(&mut self, out: &mut Vec<WireAct>) {
        let node = &self.facts.node;
        let text = match &self.without_pmix {
            Some(why) => {
                let alone = if self.is_alone() {
                    ""
                } else {
                    ", and would run alone without"
                };
                format!(
                    "its program asks for PMIx, as Open MPI does{alone}; node {node} cannot serve it: {why}"
                )
            }
            None => {
                let mpi = self.facts.options.mpi();
                format!(
                    "its program asks for PMIx, as Open MPI does, which --mpi={mpi} does not serve, and would run alone; leave \
                     --mpi out, or say --mpi=pmix"
                )
            }
        };
        self.fail(1, text, false, out);
    }

    /// Seconds that the others have after the first task's end.
    pub(super) fn wait_s(&self) -> Option<u32> {
        self.facts.options.wait_s()
    }

    /// They have had them.
    pub(super) fn waited(&mut self, out: &mut Vec<WireAct>) {
        let seconds = self.wait_s().unwrap_or_default();
        let text = format!("its first task ended {seconds} s ago (--wait)");
        self.fail(1, text, false, out);
    }

    // ---- what ranks say over PMI

    pub(super) fn pmi_said(&mut self, rank: u32, bytes: &[u8], out: &mut Vec<WireAct>) {
        let Some(local) = self.local(rank).filter(|_| !self.verdict.is_some()) else {
            return;
        };
        self.ask_pmi(out, |pmi, acts| pmi.receive(local, bytes, acts));
        // On one node ranks find each other in memory, and nothing is held up.
        if self.facts.placement.nodes().len() > 1 && self.pmi.is_held_up() {
            self.held_up.get_or_insert(self.now + HELD_UP_MS);
        } else {
            self.held_up = None;
        }
    }

    pub(super) fn pmi_closed(&mut self, rank: u32, out: &mut Vec<WireAct>) {
        let Some(local) = self.local(rank) else {
            return;
        };
        self.ask_pmi(out, |pmi, acts| pmi.closed(local, acts));
    }

    fn ask_pmi(
        &mut self,
        out: &mut Vec<WireAct>,
        ask: impl FnOnce(&mut PmiServer, &mut Vec<PmiAct>),
    ) {
        let mut acts = Vec::new();
        ask(&mut self.pmi, &mut acts);
        self.on_pmi(acts, out);
    }

    fn on_pmi(&mut self, acts: Vec<PmiAct>, out: &mut Vec<WireAct>) {
        for act in acts {
            match act {
                PmiAct::Answer { local, bytes } => {
                    if let Some(known) = self.locals.get(local as usize) {
                        let rank = known.rank;
                        out.push(WireAct::Pmi { rank, bytes });
                    }
                }
                PmiAct::Initialised { local } => self.on_init(local, out),
                PmiAct::Finalised { local } => {
                    if let Some(known) = self.locals.get_mut(local as usize) {
                        known.finalised = true;
                    }
                }
                PmiAct::Fence { epoch, fresh } => {
                    self.enter(Group::Pmi, fresh, Asked::Pmi(u64::from(epoch)), out);
                }
                PmiAct::Name { ask, request } => {
                    let rank = self.pmi_asker();
                    self.ask_for_name(Asked::Pmi(ask), rank, pmix_words(request), out);
                }
                PmiAct::Spawn {
                    ask,
                    local,
                    request,
                } => {
                    let (rank, ask) = (self.rank_of(local), Asked::Pmi(ask));
                    out.push(WireAct::Spawn { rank, ask, request });
                }
                PmiAct::Abort { local, code, text } => {
                    let rank = self.rank_of(local);
                    self.abort(rank, code, &text, out);
                }
                PmiAct::Broken { local, text } => {
                    let rank = self.rank_of(local);
                    out.push(WireAct::ClosePmi { rank });
                    let text = format!("{} spoke nonsense over PMI: {text}", self.who(rank));
                    self.fail(1, text, false, out);
                }
                PmiAct::Vanished { local } => {
                    if let Some(known) = self.locals.get_mut(local as usize) {
                        known.vanished.get_or_insert(self.now + VANISHED_MS);
                    }
                }
            }
        }
    }

    fn on_init(&mut self, local: u32, out: &mut Vec<WireAct>) {
        let mpi = self.facts.options.mpi();
        if !mpi.serves_pmi() && self.facts.placement.size() > 1 {
            let who = self.who(self.rank_of(local));
            let text = format!(
                "{who} asks for PMI, which --mpi={mpi} does not serve, and would run alone; leave --mpi out, or say --mpi=pmi1"
            );
            return self.fail(1, text, false, out);
        }
        self.speaks(local, out);
    }

    // ---- what the PMIx helper says

    pub(super) fn pmix_said(&mut self, message: FromPmix, out: &mut Vec<WireAct>) {
        match message {
            // The core's own business.
            FromPmix::Ready { .. } | FromPmix::Failed { .. } => {}
            FromPmix::Fence {
                ask,
                purpose,
                everyone,
                ranks,
                bytes,
                timeout_s: _,
            } => {
                let group = if everyone {
                    Group::Pmix { purpose }
                } else {
                    Group::PmixRanks { purpose, ranks }
                };
                self.enter(group, bytes.0, Asked::Pmix(ask), out);
            }
            FromPmix::Modex { ask, rank, .. } => {
                let node = self.facts.placement.node_of(rank);
                match node.filter(|node| *node != self.facts.me) {
                    Some(to) if self.asks.len() < ASKS_MAX => {
                        let ask = self.remember(Asked::Pmix(ask));
                        let step = self.facts.step;
                        let message = PeerMessage::Modex { step, ask, rank };
                        out.push(WireAct::Peer { to, message });
                    }
                    _ => out.push(WireAct::Pmix(ToPmix::Modexed {
                        ask,
                        outcome: Err(status::NOT_FOUND),
                    })),
                }
            }
            FromPmix::ModexFound { ask, outcome } => {
                if let Some((to, ask)) = self.wanted.remove(&ask) {
                    let step = self.facts.step;
                    let message = PeerMessage::ModexFound { step, ask, outcome };
                    out.push(WireAct::Peer { to, message });
                }
            }
            FromPmix::Connected { rank } => {
                if let Some(local) = self.local(rank) {
                    self.speaks(local, out);
                }
            }
            FromPmix::Finalised { rank } => {
                let local = self.local(rank);
                if let Some(known) = local.and_then(|at| self.locals.get_mut(at as usize)) {
                    known.finalised = true;
                }
            }
            FromPmix::Abort { rank, status, text } => self.abort(rank, status, &text, out),
            FromPmix::Log { rank, error, text } => out.push(WireAct::Words { rank, error, text }),
            FromPmix::Name { ask, rank, request } => {
                self.ask_for_name(Asked::Pmix(ask), rank, request, out);
            }
            FromPmix::Spawn { ask, rank, request } => {
                let ask = Asked::Pmix(ask);
                if self.local(rank).is_some() && !self.verdict.is_some() {
                    out.push(WireAct::Spawn { rank, ask, request });
                } else {
                    self.spawned(ask, Err("its rank is not here"), out);
                }
            }
            FromPmix::Group {
                ask,
                name,
                ends,
                everyone,
                ranks,
                context,
                bytes,
                timeout_s: _,
            } => {
                let ranks = if everyone { Vec::new() } else { ranks };
                let group = Group::PmixGroup { name, ends, ranks };
                let bytes = pmix_groups::part(context, bytes.0);
                self.enter(group, bytes, Asked::Pmix(ask), out);
            }
        }
    }

    /// The PMIx helper has ended before its ranks.
    pub(super) fn pmix_gone(&mut self, out: &mut Vec<WireAct>) {
        if self.locals.iter().any(|known| !known.over) {
            let text = format!(
                "the process that serves PMIx to the step on node {} ended unexpectedly",
                self.facts.node
            );
            self.fail(1, text, false, out);
        }
    }

    // ---- what other nodes say

    pub(super) fn peer_said(&mut self, from: u32, message: PeerMessage, out: &mut Vec<WireAct>) {
        match message {
            PeerMessage::Enter {
                collective, parts, ..
            } => {
                let nodes = self.facts.placement.nodes_of(&collective.group);
                let mut acts = Vec::new();
                self.gathers.entered(&collective, &nodes, parts, &mut acts);
                self.on_gather(acts, out);
            }
            PeerMessage::Complete {
                collective, parts, ..
            } => {
                let nodes = self.facts.placement.nodes_of(&collective.group);
                let mut acts = Vec::new();
                self.gathers.completed(collective, &nodes, parts, &mut acts);
                self.on_gather(acts, out);
            }
            PeerMessage::Failed { failure, .. } => self.settle(failure, false, out),
            PeerMessage::Begun { at, .. } => {
                // What was said before it came was said earlier: where our clock says otherwise, it lags.
                let lag = at.minus(self.reckoned()).clamp(0, LAG_MAX_MS);
                self.lead_ms += lag;
                if lag > 0 {
                    self.leader.0 = false;
                }
                self.on_begun(out);
            }
            PeerMessage::Silent { rank, exit, .. } => self.on_silent(rank, exit, out),
            PeerMessage::Modex { ask, rank, .. } => {
                if self.wanted.len() < ASKS_MAX && self.local(rank).is_some() {
                    self.serial += 1;
                    self.wanted.insert(self.serial, (from, ask));
                    let ask = self.serial;
                    out.push(WireAct::Pmix(ToPmix::ModexWanted { ask, rank }));
                } else {
                    let (step, outcome) = (self.facts.step, Err(status::NOT_FOUND));
                    let message = PeerMessage::ModexFound { step, ask, outcome };
                    out.push(WireAct::Peer { to: from, message });
                }
            }
            PeerMessage::ModexFound { ask, outcome, .. } => {
                if let Some(Asked::Pmix(ask)) = self.asks.remove(&ask) {
                    out.push(WireAct::Pmix(ToPmix::Modexed { ask, outcome }));
                }
            }
            PeerMessage::Named { ask, answer, .. } => {
                if let Some(asked) = self.asks.remove(&ask) {
                    self.answer_name(asked, answer, out);
                }
            }
            // Kept by the slot.
            PeerMessage::Name { .. } | PeerMessage::Spawns { .. } => {}
        }
    }

    // ---- what becomes of ranks

    /// A rank has ended, after everything that it had said.
    pub(super) fn rank_over(&mut self, rank: u32, exit: ExitStatus, out: &mut Vec<WireAct>) {
        let Some(at) = self.local(rank) else { return };
        let Some(known) = self.locals.get_mut(at as usize) else {
            return;
        };
        known.over = true;
        known.vanished = None;
        let (speaks, finalised) = (known.speaks, known.finalised);
        if self.verdict.is_some() {
            return;
        }
        let bad = !exit.is_success();
        let kill = self.facts.options.kill_on_bad_exit();
        let counts = !self.is_alone() || self.facts.spawner.is_some();
        if speaks && !finalised && kill != Some(false) && counts {
            let text = format!(
                "{} {} before MPI_Finalize; the others would wait for it",
                self.who(rank),
                how(exit)
            );
            out.push(WireAct::Pmix(ToPmix::RankGone { rank }));
            self.fail_with(bad_of(exit), text, false, out);
        } else if bad && kill == Some(true) {
            let text = format!("{} {} (--kill-on-bad-exit)", self.who(rank), how(exit));
            self.fail_with(exit, text, false, out);
        } else if !speaks && !self.silent && self.facts.placement.size() > 1 {
            self.silent = true;
            self.tell_leader(
                PeerMessage::Silent {
                    step: self.facts.step,
                    rank,
                    exit,
                },
                out,
            );
        }
    }

    /// When [`Wiring::on_time`] is due.
    pub(super) fn next_deadline(&self) -> Option<u64> {
        if self.verdict.is_some() {
            return self.verdict.deadline();
        }
        let vanished = self.locals.iter().filter_map(|known| known.vanished);
        vanished.chain(self.held_up).min()
    }

    pub(super) fn on_time(&mut self, out: &mut Vec<WireAct>) {
        let now = self.now;
        self.decide(out);
        if self.held_up.is_some_and(|at| at <= now) {
            self.held_up = None;
            self.ask_pmi(out, PmiServer::hurry);
        }
        let vanished = |known: &&Local| known.vanished.is_some_and(|at| at <= now);
        if let Some(rank) = self.locals.iter().find(vanished).map(|known| known.rank)
            && !self.verdict.is_some()
        {
            let text = format!(
                "{} closed its PMI connection before MPI_Finalize and went on; the others would wait for it",
                self.who(rank)
            );
            self.fail(1, text, false, out);
        }
    }

    /// The step is to be ended for a reason of the core's.
    pub(super) fn fail(&mut self, code: u8, text: String, at_once: bool, out: &mut Vec<WireAct>) {
        self.fail_with(ExitStatus { code, signal: 0 }, text, at_once, out);
    }

    pub(super) fn fail_with(
        &mut self,
        exit: ExitStatus,
        text: String,
        at_once: bool,
        out: &mut Vec<WireAct>,
    ) {
        if self.verdict.is_some() {
            return;
        }
        let failure = StepFailure {
            exit,
            text,
            at_once,
            at: self.reckoned(),
        };
        let others = self.other_nodes().into_iter();
        out.extend(others.map(|to| WireAct::Peer {
            to,
            message: PeerMessage::Failed {
                step: self.facts.step,
                failure: failure.clone(),
            },
        }));
        self.settle(failure, true, out);
    }

    /// A step that one of its ranks asked for has failed.
    pub(super) fn child_failed(
        &mut self,
        exit: ExitStatus,
        text: String,
        at_once: bool,
        out: &mut Vec<WireAct>,
    ) {
        if self.facts.options.kill_on_bad_exit() != Some(false) {
            self.fail_with(exit, text, at_once, out);
        }
    }

    /// What a rank asked for is the step of this name, or is not to be had.
    pub(super) fn spawned(
        &mut self,
        ask: Asked,
        answer: Result<&str, &str>,
        out: &mut Vec<WireAct>,
    ) {
        match ask {
            Asked::Pmi(ask) => self.ask_pmi(out, |pmi, acts| pmi.spawned(ask, answer, acts)),
            Asked::Pmix(ask) => {
                let answer = answer.map(str::to_owned).map_err(|_| status::ERROR);
                out.push(WireAct::Pmix(ToPmix::Spawned { ask, answer }));
            }
        }
    }

    /// How its ranks find each other.
    pub(super) fn mpi(&self) -> Mpi {
        self.facts.options.mpi()
    }

    /// The other nodes that have ranks of it.
    pub(super) fn other_nodes(&self) -> Vec<u32> {
        let nodes = self.facts.placement.nodes().iter().copied();
        nodes.filter(|node| *node != self.facts.me).collect()
    }

    fn settle(&mut self, failure: StepFailure, ours: bool, out: &mut Vec<WireAct>) {
        let alone = self.facts.placement.nodes().len() <= 1;
        self.verdict.hear(self.now, failure, ours, alone);
        self.decide(out);
    }

    fn decide(&mut self, out: &mut Vec<WireAct>) {
        if let Some((failure, ours)) = self.verdict.decide(self.now) {
            out.push(WireAct::End { failure, ours });
        }
    }

    fn abort(&mut self, rank: u32, code: i32, text: &str, out: &mut Vec<WireAct>) {
        // What a process can exit with, and never success.
        let code = u8::try_from(code & 0xff).unwrap_or(1).max(1);
        // Open MPI has nothing to say then, and says so.
        let words = if text.is_empty() || text == "N/A" {
            String::new()
        } else {
            format!(": {}", text.trim_end())
        };
        let text = format!(
            "{} called MPI_Abort with code {code}{words}",
            self.who(rank)
        );
        self.fail(code, text, true, out);
    }

    fn speaks(&mut self, local: u32, out: &mut Vec<WireAct>) {
        if let Some(known) = self.locals.get_mut(local as usize) {
            known.speaks = true;
            known.finalised = false;
        }
        if !self.begun {
            self.begun = true;
            let (step, at) = (self.facts.step, self.reckoned());
            self.tell_leader(PeerMessage::Begun { step, at }, out);
        }
    }

    fn tell_leader(&mut self, message: PeerMessage, out: &mut Vec<WireAct>) {
        match self.facts.placement.nodes().first() {
            Some(to) if *to != self.facts.me => out.push(WireAct::Peer { to: *to, message }),
            _ => match message {
                PeerMessage::Begun { .. } => self.on_begun(out),
                PeerMessage::Silent { rank, exit, .. } => self.on_silent(rank, exit, out),
                _ => {}
            },
        }
    }

    /// The controller's time, as far as it is known here.
    fn reckoned(&self) -> Timestamp {
        let (then, mark) = self.facts.epoch;
        let passed = i64::try_from(self.now.saturating_sub(mark)).unwrap_or(i64::MAX);
        then.plus_ms(passed).plus_ms(self.lead_ms)
    }

    fn on_begun(&mut self, out: &mut Vec<WireAct>) {
        let nodes = self.facts.placement.nodes();
        if !std::mem::replace(&mut self.leader.0, true) && nodes.first() == Some(&self.facts.me) {
            // All will be spoken to. One that cannot be, of an earlier build, would be waited for in vain.
            let (step, at) = (self.facts.step, self.reckoned());
            out.extend(nodes.iter().skip(1).map(|to| WireAct::Peer {
                to: *to,
                message: PeerMessage::Begun { step, at },
            }));
        }
        self.judge(out);
    }

    fn on_silent(&mut self, rank: u32, exit: ExitStatus, out: &mut Vec<WireAct>) {
        self.leader.1.get_or_insert((rank, exit));
        self.judge(out);
    }

    /// On the first node: whether a rank is waited for that will never come.
    fn judge(&mut self, out: &mut Vec<WireAct>) {
        if let (true, Some((rank, exit))) = self.leader {
            let text = format!(
                "rank {rank} {} without MPI_Init, for which others wait",
                how(exit)
            );
            self.fail_with(bad_of(exit), text, false, out);
        }
    }

    // ---- between nodes

    fn enter(&mut self, group: Group, bytes: Vec<u8>, asked: Asked, out: &mut Vec<WireAct>) {
        if bytes.len() > PART_MAX {
            let text = format!(
                "the ranks on node {} put {} bytes into one fence, the most is {PART_MAX}",
                self.facts.node,
                bytes.len()
            );
            return self.fail(1, text, false, out);
        }
        let nodes = self.facts.placement.nodes_of(&group);
        if !nodes.contains(&self.facts.me) {
            return;
        }
        let mut acts = Vec::new();
        let collective = self.gathers.enter(group, &nodes, bytes, &mut acts);
        self.pending.insert(collective, asked);
        self.on_gather(acts, out);
    }

    fn on_gather(&mut self, acts: Vec<GatherAct>, out: &mut Vec<WireAct>) {
        let step = self.facts.step;
        for act in acts {
            let (to, message) = match act {
                GatherAct::Up {
                    to,
                    collective,
                    parts,
                } => {
                    let message = PeerMessage::Enter {
                        step,
                        collective,
                        parts,
                    };
                    (to, message)
                }
                GatherAct::Down {
                    to,
                    collective,
                    parts,
                } => {
                    let message = PeerMessage::Complete {
                        step,
                        collective,
                        parts,
                    };
                    (to, message)
                }
                GatherAct::Complete { collective, parts } => {
                    let parts = parts.into_iter().map(|part| part.bytes);
                    match self.pending.remove(&collective) {
                        Some(Asked::Pmi(epoch)) => {
                            let parts: Vec<Vec<u8>> = parts.collect();
                            let epoch = u32::try_from(epoch).unwrap_or(u32::MAX);
                            self.ask_pmi(out, |pmi, acts| pmi.fenced(epoch, &parts, acts));
                        }
                        Some(Asked::Pmix(ask))
                            if matches!(collective.group, Group::PmixGroup { .. }) =>
                        {
                            let (context, all) = pmix_groups::made(parts);
                            let outcome = Ok(Blob(all));
                            out.push(WireAct::Pmix(ToPmix::Grouped {
                                ask,
                                context,
                                outcome,
                            }));
                        }
                        Some(Asked::Pmix(ask)) => {
                            let all: Vec<u8> = parts.flatten().collect();
                            let outcome = Ok(Blob(all));
                            out.push(WireAct::Pmix(ToPmix::Fenced { ask, outcome }));
                        }
                        None => {}
                    }
                    continue;
                }
            };
            let weight = message.weight();
            if weight > GATHERED_MAX {
                let text = format!(
                    "the ranks of the step put {weight} bytes into one fence, the most is {GATHERED_MAX}"
                );
                return self.fail(1, text, false, out);
            }
            out.push(WireAct::Peer { to, message });
        }
    }

    fn ask_for_name(
        &mut self,
        asked: Asked,
        rank: u32,
        request: NameRequest,
        out: &mut Vec<WireAct>,
    ) {
        if self.asks.len() >= ASKS_MAX {
            return self.answer_name(asked, Err(status::OUT_OF_RESOURCE), out);
        }
        let ask = self.remember(asked);
        out.push(WireAct::Peer {
            to: 0,
            message: PeerMessage::Name {
                step: self.facts.step,
                ask,
                rank,
                request,
            },
        });
    }

    fn answer_name(&mut self, asked: Asked, answer: Result<Names, i32>, out: &mut Vec<WireAct>) {
        match asked {
            Asked::Pmix(ask) => out.push(WireAct::Pmix(ToPmix::Named { ask, answer })),
            Asked::Pmi(ask) => {
                self.ask_pmi(out, |pmi, acts| pmi.named(ask, pmi_words(answer), acts));
            }
        }
    }

    fn remember(&mut self, asked: Asked) -> u64 {
        self.serial += 1;
        self.asks.insert(self.serial, asked);
        self.serial
    }

    // ---- ranks

    fn local(&self, rank: u32) -> Option<u32> {
        let found = self.locals.binary_search_by_key(&rank, |known| known.rank);
        u32::try_from(found.ok()?).ok()
    }

    fn rank_of(&self, local: u32) -> u32 {
        let known = self.locals.get(local as usize);
        known.map_or(u32::MAX, |known| known.rank)
    }

    fn who(&self, rank: u32) -> String {
        format!("rank {rank} on node {}", self.facts.node)
    }

    /// PMI does not tell whose names they are.
    fn pmi_asker(&self) -> u32 {
        self.locals.first().map_or(0, |known| known.rank)
    }
}

/// A status that is not success: a rank that ends too early has failed, whatever it says.
fn bad_of(exit: ExitStatus) -> ExitStatus {
    if exit.is_success() {
        ExitStatus { code: 1, signal: 0 }
    } else {
        exit
    }
}

pub(super) fn how(exit: ExitStatus) -> String {
    if exit.signal == 0 {
        return format!("exited with code {}", exit.code);
    }
    format!("was ended by SIG{}", signal_name(i32::from(exit.signal)))
}
