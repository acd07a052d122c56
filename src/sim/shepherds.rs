//! The shepherds of a simulated cluster: what each node was told to run, and when that ends.
//!
//! They take the controller's own orders ([`ToSlot`]) and answer with its own reports ([`FromSlot`]), in no time. Nothing
//! can fail to start, a signal ends what it is meant to end, and an element that was put back runs from its beginning.

use super::workload::Workload;
use crate::model::ids::{JobId, NodeId, SlotKey};
use crate::model::index_set::IndexSet;
use crate::model::job::{ElementEnd, ExitStatus, JobState, KillCause, Reason, Usage};
use crate::model::time::Timestamp;
use crate::wire::worker::{FromSlot, SlotLaunch, ToSlot};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

/// What a node says of a slot.
pub(super) type Said = (NodeId, SlotKey, FromSlot);

/// The element that runs.
#[derive(Debug, Clone, Copy)]
struct Running {
    position: u32,
    started: Timestamp,
    /// In the order of all starts.
    serial: u64,
    /// How long it would run if nobody ended it.
    run_ms: i64,
    /// How long it has run before `since`.
    done_ms: i64,
    /// Since when it runs; `None` while it is stopped.
    since: Option<Timestamp>,
    /// When it ends, as entered in the heap.
    ends: Option<Timestamp>,
}

/// One slot on one node.
#[derive(Debug)]
struct Shepherd {
    /// Its place in the workload.
    job: usize,
    /// Positions it was ever given.
    had: IndexSet,
    /// Positions that wait here.
    queue: IndexSet,
    restarts: Vec<(u32, u32)>,
    limit_ms: i64,
    /// The first of its nodes.
    leads: bool,
    /// It runs something of its own: what only holds room for a script elsewhere goes on until it is closed.
    ends_by_itself: bool,
    /// All its nodes have it.
    may_begin: bool,
    is_stopped: bool,
    current: Option<Running>,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Shepherds<'a> {
    workload: &'a Workload,
    /// Places in the workload of jobs that have not ended.
    jobs: BTreeMap<JobId, usize>,
    slots: BTreeMap<(NodeId, SlotKey), Shepherd>,
    ends: BinaryHeap<Reverse<(Timestamp, u64, NodeId, SlotKey)>>,
    starts: u64,
    reports: u64,
    /// Elements that run.
    running: u64,
}

impl<'a> Shepherds<'a> {
    pub(super) fn new(workload: &'a Workload) -> Self {
        Shepherds {
            workload,
            jobs: BTreeMap::new(),
            slots: BTreeMap::new(),
            ends: BinaryHeap::new(),
            starts: 0,
            reports: 0,
            running: 0,
        }
    }

    /// A job of the workload was admitted under this number.
    pub(super) fn admit(&mut self, id: JobId, job: usize) {
        self.jobs.insert(id, job);
    }

    /// Its place in the workload, while it has not ended.
    pub(super) fn place(&self, id: JobId) -> Option<usize> {
        self.jobs.get(&id).copied()
    }

    pub(super) fn forget(&mut self, id: JobId) {
        self.jobs.remove(&id);
    }

    pub(super) fn running(&self) -> u64 {
        self.running
    }

    /// When something ends next.
    pub(super) fn next_time(&mut self) -> Option<Timestamp> {
        while let Some(Reverse((at, serial, node, key))) = self.ends.peek().copied() {
            if self.is_valid(at, serial, node, key) {
                return Some(at);
            }
            self.ends.pop();
        }
        None
    }

    fn is_valid(&self, at: Timestamp, serial: u64, node: NodeId, key: SlotKey) -> bool {
        let current = self
            .slots
            .get(&(node, key))
            .and_then(|slot| slot.current.as_ref());
        current.is_some_and(|current| current.serial == serial && current.ends == Some(at))
    }

    /// What ends next, if that is now: its end, and the start of what its slot does next.
    pub(super) fn take_end(&mut self, now: Timestamp, said: &mut Vec<Said>) -> bool {
        if self.next_time().is_none_or(|at| at > now) {
            return false;
        }
        let Some(Reverse((_, _, node, key))) = self.ends.pop() else {
            return false;
        };
        let Some(slot) = self.slots.get_mut(&(node, key)) else {
            return true;
        };
        let Some(current) = slot.current.take() else {
            return true;
        };
        self.running -= u64::from(slot.leads);
        let in_time = current.run_ms <= slot.limit_ms;
        let (state, reason, signal) = if in_time {
            (JobState::Completed, Reason::None, 0)
        } else {
            (JobState::Timeout, Reason::TimeLimit, 15)
        };
        let end = ElementEnd {
            position: current.position,
            state,
            reason,
            exit: ExitStatus { code: 0, signal },
            cancelled_by: None,
            started: Some(current.started),
            ended: now,
            usage: Usage::default(),
            restarts: restarts_of(&slot.restarts, current.position),
        };
        self.report(node, key, vec![end], said);
        self.go_on(node, key, now, said);
        true
    }

    fn report(&mut self, node: NodeId, key: SlotKey, ends: Vec<ElementEnd>, said: &mut Vec<Said>) {
        self.reports += 1;
        let report = self.reports;
        said.push((node, key, FromSlot::Ended { report, ends }));
    }

    /// Starts the next that waits in a slot, if it may.
    fn go_on(&mut self, node: NodeId, key: SlotKey, now: Timestamp, said: &mut Vec<Said>) {
        let Some(slot) = self.slots.get_mut(&(node, key)) else {
            return;
        };
        if !slot.may_begin || slot.is_stopped || slot.current.is_some() {
            return;
        }
        let Some(position) = slot.queue.take_first(1).first() else {
            return;
        };
        self.starts += 1;
        let began = self.workload.began(slot.job, position, now);
        slot.current = Some(Running {
            position,
            started: began,
            serial: self.starts,
            run_ms: self.workload.run_ms(slot.job, position, now),
            done_ms: 0,
            since: Some(now),
            ends: None,
        });
        self.running += u64::from(slot.leads);
        said.push((
            node,
            key,
            FromSlot::Started {
                position,
                at: began,
            },
        ));
        self.enter_end(node, key);
    }

    /// Enters when what runs will end, as far as can be said now.
    fn enter_end(&mut self, node: NodeId, key: SlotKey) {
        let Some(slot) = self.slots.get_mut(&(node, key)) else {
            return;
        };
        let Some(current) = &mut slot.current else {
            return;
        };
        current.ends = None;
        if let Some(since) = current.since.filter(|_| slot.ends_by_itself) {
            let left = current.run_ms.min(slot.limit_ms) - current.done_ms;
            let at = since.plus_ms(left.max(0));
            current.ends = Some(at);
            self.ends.push(Reverse((at, current.serial, node, key)));
        }
    }

    /// A node is told to run a slot.
    pub(super) fn launch(
        &mut self,
        node: NodeId,
        launch: SlotLaunch,
        now: Timestamp,
        said: &mut Vec<Said>,
    ) {
        let key = launch.key;
        let Some(job) = self.place(key.job) else {
            return;
        };
        if self.slots.contains_key(&(node, key)) {
            return;
        }
        let leads = launch.node_index == 0;
        let slot = Shepherd {
            job,
            had: launch.positions.clone(),
            queue: launch.positions,
            restarts: launch.restarts,
            limit_ms: limit_ms(launch.time_limit_s),
            leads,
            ends_by_itself: leads || launch.spec.launch.is_step(),
            may_begin: launch.shares.len() == 1,
            is_stopped: false,
            current: None,
        };
        let queue = slot.queue.clone();
        self.slots.insert((node, key), slot);
        let current = None;
        said.push((
            node,
            key,
            FromSlot::Status {
                key,
                queue,
                current,
            },
        ));
        self.go_on(node, key, now, said);
    }

    /// A slot is told something.
    pub(super) fn tell(
        &mut self,
        node: NodeId,
        key: SlotKey,
        order: ToSlot,
        now: Timestamp,
        said: &mut Vec<Said>,
    ) {
        let Some(slot) = self.slots.get_mut(&(node, key)) else {
            return;
        };
        match order {
            ToSlot::Launch(launch) => self.launch(node, *launch, now, said),
            ToSlot::Extend {
                mut positions,
                restarts,
            } => {
                positions.subtract(&slot.had);
                slot.had.union_with(&positions);
                slot.queue.union_with(&positions);
                slot.restarts.extend(restarts);
                self.go_on(node, key, now, said);
            }
            ToSlot::Retract { mut positions } => {
                positions.intersect(&slot.queue);
                slot.queue.subtract(&positions);
                self.reports += 1;
                let report = self.reports;
                said.push((node, key, FromSlot::Retracted { report, positions }));
            }
            ToSlot::Kill {
                positions,
                cause,
                at_once,
            } => self.kill(node, key, &positions, cause, at_once, now, said),
            ToSlot::Suspend { stop } => self.suspend(node, key, stop, now, said),
            ToSlot::Release { code } => {
                if let Some(position) = slot.current.map(|current| current.position) {
                    let exit = ExitStatus { code, signal: 0 };
                    self.let_go(node, key, position, exit, now, said);
                }
            }
            ToSlot::Limit { seconds } => {
                slot.limit_ms = limit_ms(seconds);
                self.enter_end(node, key);
            }
            ToSlot::Go => {
                slot.may_begin = true;
                self.go_on(node, key, now, said);
            }
            ToSlot::Close => self.close(node, key),
            // Of processes, which there are none of, or of what is never lost here.
            ToSlot::Signal { .. }
            | ToSlot::StartStep(_)
            | ToSlot::StartStepAs(_)
            | ToSlot::Peer { .. }
            | ToSlot::Stdin { .. }
            | ToSlot::Acknowledge { .. }
            | ToSlot::Lease { .. } => {}
        }
    }

    fn close(&mut self, node: NodeId, key: SlotKey) {
        if let Some(slot) = self.slots.remove(&(node, key)) {
            self.running -= u64::from(slot.leads && slot.current.is_some());
        }
    }

    #[expect(clippy::too_many_arguments, reason = "an order, and where it goes")]
    fn kill(
        &mut self,
        node: NodeId,
        key: SlotKey,
        positions: &IndexSet,
        cause: KillCause,
        at_once: bool,
        now: Timestamp,
        said: &mut Vec<Said>,
    ) {
        let Some(slot) = self.slots.get_mut(&(node, key)) else {
            return;
        };
        let mut waiting = positions.clone();
        waiting.intersect(&slot.queue);
        slot.queue.subtract(&waiting);
        let running = slot
            .current
            .take_if(|current| positions.contains(current.position));
        self.running -= u64::from(slot.leads && running.is_some());
        let (state, reason) = killed(cause);
        let end = |position, started: Option<Timestamp>| ElementEnd {
            position,
            state,
            reason: reason.clone(),
            exit: ExitStatus {
                code: 0,
                signal: match started {
                    None => 0,
                    Some(_) if at_once => 9,
                    Some(_) => 15,
                },
            },
            cancelled_by: match cause {
                KillCause::Cancel { by } => Some(by),
                _ => None,
            },
            started,
            ended: now,
            usage: Usage::default(),
            restarts: restarts_of(&slot.restarts, position),
        };
        let ran = running.map(|current| end(current.position, Some(current.started)));
        let ends = ran
            .into_iter()
            .chain(waiting.iter().map(|position| end(position, None)));
        let ends: Vec<ElementEnd> = ends.collect();
        if !ends.is_empty() {
            self.report(node, key, ends, said);
        }
        self.go_on(node, key, now, said);
    }

    fn suspend(
        &mut self,
        node: NodeId,
        key: SlotKey,
        stop: bool,
        now: Timestamp,
        said: &mut Vec<Said>,
    ) {
        let Some(slot) = self.slots.get_mut(&(node, key)) else {
            return;
        };
        if slot.is_stopped == stop {
            return;
        }
        slot.is_stopped = stop;
        match &mut slot.current {
            None => {}
            Some(current) if stop => {
                if let Some(since) = current.since.take() {
                    current.done_ms += now.minus(since);
                }
            }
            Some(current) => current.since = Some(now),
        }
        self.enter_end(node, key);
        self.go_on(node, key, now, said);
    }

    /// What holds an allocation for a client ends when that is done with it.
    fn let_go(
        &mut self,
        node: NodeId,
        key: SlotKey,
        position: u32,
        exit: ExitStatus,
        now: Timestamp,
        said: &mut Vec<Said>,
    ) {
        let Some(slot) = self.slots.get_mut(&(node, key)) else {
            return;
        };
        let Some(current) = slot.current.take() else {
            return;
        };
        self.running -= u64::from(slot.leads);
        let (state, reason) = if exit.is_success() {
            (JobState::Completed, Reason::None)
        } else {
            (JobState::Failed, Reason::NonZeroExitCode)
        };
        let end = ElementEnd {
            position,
            state,
            reason,
            exit,
            cancelled_by: None,
            started: Some(current.started),
            ended: now,
            usage: Usage::default(),
            restarts: restarts_of(&slot.restarts, position),
        };
        self.report(node, key, vec![end], said);
        self.go_on(node, key, now, said);
    }

    /// A node fails: nothing of its slots is left. How much they had run; milliseconds of leading elements.
    pub(super) fn lose(&mut self, node: NodeId, now: Timestamp) -> i64 {
        let first = SlotKey {
            job: JobId(0),
            slot: crate::model::ids::SlotId(0),
        };
        let after = self.slots.range((node, first)..);
        let there = after.take_while(|((at, _), _)| *at == node);
        let keys: Vec<SlotKey> = there.map(|((_, key), _)| *key).collect();
        let mut lost_ms = 0_i64;
        for key in keys {
            if let Some(slot) = self.slots.get(&(node, key))
                && let Some(current) = slot.current.filter(|_| slot.leads)
            {
                let since = current.since.map_or(0, |since| now.minus(since));
                lost_ms = lost_ms.saturating_add(current.done_ms.saturating_add(since));
            }
            self.close(node, key);
        }
        lost_ms
    }
}

fn limit_ms(seconds: Option<u32>) -> i64 {
    seconds.map_or(i64::MAX, |seconds| i64::from(seconds) * 1000)
}

fn restarts_of(restarts: &[(u32, u32)], position: u32) -> u32 {
    let mut known = restarts.iter().rev();
    known
        .find(|(known, _)| *known == position)
        .map_or(0, |(_, count)| *count)
}

/// State and reason of what was ended for this cause, as real shepherds report them.
fn killed(cause: KillCause) -> (JobState, Reason) {
    match cause {
        KillCause::Cancel { .. } | KillCause::Requeue | KillCause::ClientGone => {
            (JobState::Cancelled, Reason::None)
        }
        KillCause::TimeLimit => (JobState::Timeout, Reason::TimeLimit),
        KillCause::Preempt | KillCause::PreemptAgain | KillCause::Warned { .. } => {
            (JobState::Preempted, Reason::None)
        }
        KillCause::NodeLost => (JobState::NodeFail, Reason::NodeDown),
    }
}
