//! THE WORKER'S CORE. Pure: the life of one slot on one node, without clock, file, socket or environment.
//!
//! One shepherd process serves one slot on one node, not one job: so every descendant of a shepherd belongs to
//! the element that runs, and ending an element is ending all of them. The elements of an array run one after
//! another in the slot's shepherd, which draws the next position itself and never waits for the controller
//! while it has some. The shell ([`crate::shepherd`]) feeds [`Input`]s and carries out [`Effect`]s.
//!
//! An element is its *main step* (the batch script on the leading node, or this node's ranks of step 0 of an
//! attached job) and any *extra steps* started meanwhile. The main step's end is the element's: what else is
//! left then is killed, reaped, and only then is the end journaled and reported. An element without a main
//! step (`hpc alloc`, or a batch job's further nodes) runs until it is released, killed or closed.
//!
//! The ranks of a step find each other through a *wiring* (`wiring.rs`), which each node has a part of. The parts speak
//! with each other in messages that agents and controller pass on (`peers.rs`); collectives of all nodes are `gather.rs`,
//! groups that PMIx makes `pmix_groups.rs`, names that programs publish `names.rs`, ranks of several steps that meet
//! `meets.rs`, and which of several failures ends a step is for `verdict.rs`.
//!
//! Read next: `vocabulary.rs` (inputs, effects), `element.rs` (verdicts), `lease.rs` (cut off from the controller), `outbox.rs` (reports),
//! `launch_plan.rs`, `environment.rs` (what is started), `wires.rs` (wired steps), `pmi/` (what ranks say), `spawns.rs` (ask for).

mod clocks;
mod element;
mod environment;
mod fates;
mod gather;
pub mod journal;
mod launch_plan;
mod lease;
mod meets;
mod names;
mod outbox;
mod peers;
mod placement;
pub mod pmi;
mod pmix_groups;
mod pmix_libraries;
mod spawns;
#[cfg(test)]
mod tests;
mod verdict;
mod vocabulary;
mod wire_acts;
mod wire_facts;
mod wires;
mod wiring;

pub use launch_plan::{InputFrom, LaunchPlan, Output, PMI_FD, SlotPlan, blob_bytes};
pub use outbox::{GATHER_MOST, GATHER_MS, TICK_MS};
pub use vocabulary::{Effect, Entry, Input, LaunchFailure, Recipients, TaskId};

use crate::model::ids::StepId;
use crate::model::index_set::IndexSet;
use crate::model::job::{ExitStatus, KillCause, Launch, Usage};
use crate::model::step::StepOptions;
use crate::model::time::Timestamp;
use crate::wire::shepherd::Site;
use crate::wire::worker::{
    FromSlot, SignalTarget, SlotLaunch, StepEnd, StepLaunch, StepOrder, ToSlot, element_raw_id,
};
use element::{Element, Held, Phase, Step, Stopwatch, Task, Verdict};
use environment::ElementFacts;
pub use environment::Machine;
use lease::Lease;
use names::NameBook;
use outbox::Outbox;
use peers::Peers;
use placement::Placement;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use wires::Early;

const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;
const SIGCONT: i32 = 18;
pub(crate) const SIGSTOP: i32 = 19;

/// The life of one slot on one node.
///
/// ```text
///       next position, gangs: Go        main step over, launch failed, released, SIGKILL at once
///   (waiting) ─────────────▶ Running ───────────────────────────────────────────▶ Sweeping ──▶ end journaled,
///       ▲                     │   ▲                                                 ▲   Swept    reported
///       │               limit │   │ Suspend stops and                               │                │
///       │               Kill  ▼   │ resumes its clock       main step over, or      │                │
///       │                    Ending ─────────────────────────────────────────────────                │
///       │                    (SIGTERM sent)                 kill_wait later                          │
///       └────────────────────────────────────────────────────────────────────────────────────────────┘
///                        and, once closed with nothing running: Exit
/// ```
#[derive(Debug)]
pub struct SlotCore {
    launch: SlotLaunch,
    site: Site,
    plan: Result<SlotPlan, String>,
    /// Controller time and our own at the same moment.
    epoch: (Timestamp, u64),
    /// Positions given and not started.
    waiting: IndexSet,
    /// Positions ever given.
    seen: IndexSet,
    restarts: BTreeMap<u32, u32>,
    element: Option<Element>,
    /// Steps ever ordered: an order may be said again after its step has ended.
    steps_seen: BTreeSet<StepId>,
    outbox: Outbox,
    lease: Lease,
    suspended: bool,
    /// A gang's part waits until all its nodes have the slot.
    may_begin: bool,
    closing: bool,
    exited: bool,
    /// The other nodes of the slot.
    peers: Peers,
    /// What they have said of steps that have not begun here.
    early: Early,
    /// On the first node: what programs have published.
    names: NameBook,
    /// What the machine really has, where the shell has said so.
    machine: Machine,
    /// Steps that ranks here have asked for.
    spawns: spawns::Spawns,
}

impl SlotCore {
    /// A slot that has just been launched; nothing starts before [`Input::Begin`].
    #[must_use]
    pub fn new(now: u64, launch: SlotLaunch, site: Site) -> Self {
        let age = i64::try_from(launch.granted_age_ms).unwrap_or(0);
        let plan = SlotPlan::new(&launch, &site);
        SlotCore {
            epoch: (launch.granted.plus_ms(age), now),
            plan,
            waiting: launch.positions.clone(),
            seen: launch.positions.clone(),
            restarts: launch.restarts.iter().copied().collect(),
            element: None,
            steps_seen: BTreeSet::new(),
            outbox: Outbox::new(&site.state_id),
            lease: Lease::new(launch.spec.requeue),
            suspended: false,
            may_begin: launch.nodes.len() <= 1,
            closing: false,
            exited: false,
            peers: Peers::default(),
            early: Early::default(),
            names: NameBook::default(),
            machine: Machine::default(),
            spawns: spawns::Spawns::default(),
            launch,
            site,
        }
    }

    /// Takes one input in; what is to be done about it is appended to `out`.
    pub fn handle(&mut self, now: u64, input: Input, out: &mut Vec<Effect>) {
        match input {
            Input::Begin => {}
            Input::Order(order) => self.order(now, order, out),
            Input::SpawnFailed { task, failure } => self.spawn_failed(now, task, failure, out),
            Input::OutputLost { task, text } => {
                let step = self.element.as_mut().and_then(|e| e.step_mut(task.step));
                if let Some(step) = step {
                    step.output_lost.get_or_insert(text);
                }
            }
            Input::TaskExited { task, exit, usage } => {
                self.task_exited(now, task, exit, usage, out)
            }
            Input::OrphanReaped { usage } => {
                if let Some(element) = &mut self.element {
                    element.usage = element.usage.plus(usage);
                }
            }
            Input::Swept => self.swept(now, out),
            Input::PmiSaid { task, bytes } => self.pmi_said(now, task, &bytes, out),
            Input::PmiClosed { task } => self.pmi_closed(now, task, out),
            Input::PmixSaid { step, message } => self.pmix_said(now, step, message, out),
            Input::PmixGone { step, text } => self.pmix_gone(now, step, text, out),
            Input::PmixDoor { step, variables } => {
                self.pmix_door(now, step, &variables, out);
            }
            Input::PmixKnocked { step } => self.pmix_knocked(now, step, out),
            Input::SpawnerSaid { serial, said } => self.spawner_said(now, serial, said, out),
            Input::SpawnerGone { serial, exit, text } => {
                self.spawner_gone(now, serial, exit, text, out);
            }
            Input::Relinked => self.relinked(now, out),
            Input::Timer => self.timer(now, out),
        }
        self.start_next(now, out);
        if self.closing && self.element.is_none() && !self.exited {
            self.exited = true;
            self.with_outbox(out, |outbox, reports| outbox.flush(reports));
            out.push(Effect::Journal(Entry::Closed));
            out.push(Effect::Exit);
        }
    }

    /// When [`Input::Timer`] is due next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        let element = self
            .element
            .as_ref()
            .and_then(|element| match &element.phase {
                Phase::Running => earliest(self.limit_at(element), self.warn_at(element)),
                Phase::Ending { kill_at, .. } => Some(*kill_at),
                Phase::Sweeping { .. } => None,
            });
        let element = earliest(element, self.lease_deadline());
        let element = earliest(element, self.wires_deadline());
        let element = earliest(element, self.fates_deadline());
        earliest(element, self.outbox.next_deadline())
    }

    /// When the running element is to be ended for want of a lease, or what it left of that. A shell must wake for
    /// this also when the machine has slept.
    #[must_use]
    pub fn lease_deadline(&self) -> Option<u64> {
        match &self.element.as_ref()?.phase {
            Phase::Running => self.lease.until(),
            Phase::Ending { .. } => self.lease_end(),
            Phase::Sweeping { .. } => None,
        }
    }

    /// When nothing of the running element may be left for want of a lease.
    #[must_use]
    pub fn lease_end(&self) -> Option<u64> {
        match &self.element.as_ref()?.phase {
            Phase::Running | Phase::Ending { .. } => self.lease.dead_at(self.kill_wait_ms()),
            Phase::Sweeping { .. } => None,
        }
    }

    /// Who and how far: the first word on a new connection.
    #[must_use]
    pub fn status(&self) -> FromSlot {
        let mut queue = self.waiting.clone();
        let current = self
            .element
            .as_ref()
            .map(|element| (element.facts.position, element.started));
        if let Some((position, _)) = current {
            queue.insert(position);
        }
        FromSlot::Status {
            key: self.launch.key,
            queue,
            current,
        }
    }

    /// Reports that are not acknowledged, for a new connection.
    pub fn unacknowledged(&self) -> impl Iterator<Item = &FromSlot> {
        self.outbox.unacknowledged()
    }

    /// What was ordered.
    #[must_use]
    pub fn launch(&self) -> &SlotLaunch {
        &self.launch
    }

    /// Frees the stored bytes that came with the launch; the plan has what it needs of them.
    pub fn drop_blobs(&mut self) {
        self.launch.blobs = Vec::new();
    }

    // ---- orders

    fn order(&mut self, now: u64, order: ToSlot, out: &mut Vec<Effect>) {
        match order {
            // Known already, or bytes for a pipe, which the shell feeds itself.
            ToSlot::Launch(_) | ToSlot::Stdin { .. } => {}
            ToSlot::Extend {
                positions,
                restarts,
            } => self.extend(positions, restarts, out),
            ToSlot::Retract { positions } => self.retract(positions, out),
            ToSlot::Kill {
                positions,
                cause,
                at_once,
            } => self.kill(now, &positions, cause, at_once, out),
            ToSlot::Signal { signal, to } => self.signal(now, signal, to, out),
            ToSlot::Suspend { stop } => self.suspend(now, stop, out),
            ToSlot::Release { code } => self.release(code, out),
            ToSlot::Limit { seconds } => self.launch.time_limit_s = seconds,
            ToSlot::StartStep(step) => {
                let step = Arc::unwrap_or_clone(step);
                self.start_step(now, step, StepOptions::default(), out);
            }
            ToSlot::StartStepAs(order) => {
                let StepOrder { launch, options } = Arc::unwrap_or_clone(order);
                self.start_step(now, launch, options, out);
            }
            ToSlot::Peer { from, frame } => self.peer_said(now, from, frame, out),
            ToSlot::Acknowledge { report } => {
                if let Some(ends) = self.outbox.acknowledge(report) {
                    out.push(Effect::Journal(Entry::Acknowledged { report, ends }));
                }
            }
            ToSlot::Close => self.close(out),
            ToSlot::Lease { until_ms, lease_ms } => {
                self.lease.extend(until_ms);
                if until_ms.is_some() {
                    let ends_after_ms = lease_ms.saturating_add(self.kill_wait_ms());
                    out.push(Effect::Report(FromSlot::Leased { ends_after_ms }));
                }
            }
            ToSlot::Go => self.may_begin = true,
        }
    }

    fn extend(
        &mut self,
        mut positions: IndexSet,
        restarts: Vec<(u32, u32)>,
        out: &mut Vec<Effect>,
    ) {
        positions.subtract(&self.seen);
        if positions.is_empty() || self.closing {
            return;
        }
        self.seen.union_with(&positions);
        self.waiting.union_with(&positions);
        self.restarts.extend(
            restarts
                .iter()
                .copied()
                .filter(|(position, _)| positions.contains(*position)),
        );
        out.push(Effect::Journal(Entry::Extended {
            positions,
            restarts,
        }));
    }

    fn retract(&mut self, mut positions: IndexSet, out: &mut Vec<Effect>) {
        positions.intersect(&self.waiting);
        self.waiting.subtract(&positions);
        out.push(Effect::Journal(Entry::Retracted {
            positions: positions.clone(),
        }));
        self.with_outbox(out, |outbox, reports| outbox.retracted(positions, reports));
    }

    fn kill(
        &mut self,
        now: u64,
        positions: &IndexSet,
        cause: KillCause,
        at_once: bool,
        out: &mut Vec<Effect>,
    ) {
        let mut waiting = positions.clone();
        waiting.intersect(&self.waiting);
        if !waiting.is_empty() {
            self.waiting.subtract(&waiting);
            let at = self.controller_time(now);
            let restarts = |position| self.restarts.get(&position).copied().unwrap_or(0);
            let ends: Vec<_> = waiting
                .iter()
                .map(|position| element::never_started(position, restarts(position), cause, at))
                .collect();
            out.extend(
                ends.iter()
                    .cloned()
                    .map(|end| Effect::Journal(Entry::Ended(end))),
            );
            self.with_outbox(out, |outbox, reports| outbox.ended_together(ends, reports));
        }
        if self
            .element
            .as_ref()
            .is_some_and(|element| positions.contains(element.facts.position))
        {
            self.end_element(now, cause, at_once, out);
        }
    }

    fn signal(&mut self, now: u64, signal: i32, to: SignalTarget, out: &mut Vec<Effect>) {
        if let SignalTarget::Step(id) = to
            && [SIGTERM, SIGKILL].contains(&signal)
            && self.end_unbegun(now, id, out)
        {
            return;
        }
        if let SignalTarget::EndStep(id) = to {
            return self.cancel_step(now, id, out);
        }
        let Some(element) = &self.element else { return };
        let recipients = match to {
            SignalTarget::All => Some(Recipients::Everything),
            SignalTarget::Batch => element.batch_shell().map(Recipients::Process),
            SignalTarget::Steps => groups(element.step_tasks()),
            SignalTarget::Step(id) | SignalTarget::EndStep(id) => {
                let of_step = |task: &TaskId| task.step == id;
                groups(element.step_tasks().into_iter().filter(of_step).collect())
            }
        };
        out.extend(recipients.map(|to| Effect::Signal { signal, to }));
    }

    fn suspend(&mut self, now: u64, stop: bool, out: &mut Vec<Effect>) {
        if self.suspended == stop {
            return;
        }
        self.suspended = stop;
        let Some(element) = self
            .element
            .as_mut()
            .filter(|element| element.phase == Phase::Running)
        else {
            return;
        };
        let signal = if stop {
            element.clock.stop(now);
            SIGSTOP
        } else {
            element.clock.resume(now);
            SIGCONT
        };
        out.push(Effect::Signal {
            signal,
            to: Recipients::Everything,
        });
    }

    fn release(&mut self, code: u8, out: &mut Vec<Effect>) {
        if let Some(element) = self
            .element
            .as_mut()
            .filter(|e| e.main.is_none() && e.phase == Phase::Running)
        {
            element.phase = Phase::Sweeping {
                verdict: Verdict::Released(code),
            };
            out.push(Effect::Sweep);
        }
    }

    fn close(&mut self, out: &mut Vec<Effect>) {
        self.closing = true;
        self.waiting = IndexSet::new();
        let Some(element) = &mut self.element else {
            return;
        };
        let verdict = match (&element.phase, element.main) {
            (Phase::Sweeping { .. }, _) => return,
            (Phase::Ending { verdict, .. }, _) => verdict.clone(),
            // Nobody asks how it ends: the slot is over for the controller.
            (Phase::Running, Some(_)) => Verdict::Killed(KillCause::ClientGone),
            (Phase::Running, None) => Verdict::Released(0),
        };
        element.phase = Phase::Sweeping { verdict };
        out.push(Effect::Sweep);
    }

    // ---- the running element

    /// Starts the next position when nothing runs.
    fn start_next(&mut self, now: u64, out: &mut Vec<Effect>) {
        let held = self.suspended || self.closing || !self.may_begin || !self.lease.is_good(now);
        if self.element.is_some() || held {
            return;
        }
        let Some(position) = self.waiting.first() else {
            return;
        };
        self.waiting.remove(position);
        let started = self.controller_time(now);
        let restarts = self.restarts.get(&position).copied().unwrap_or(0);
        let facts = ElementFacts {
            position,
            restarts,
            started_s: started.seconds(),
        };
        let (main, plans) = self.main_plans(facts);
        let (phase, plans) = match plans {
            Ok(plans) => (Phase::Running, plans),
            Err(text) => {
                let verdict = Verdict::LaunchFailed(LaunchFailure { code: 1, text });
                (Phase::Sweeping { verdict }, Vec::new())
            }
        };
        out.push(Effect::Journal(Entry::Started {
            position,
            at: started,
        }));
        let left = self.waiting.len();
        self.with_outbox(out, |outbox, reports| {
            outbox.started(now, (position, started), left, reports);
        });
        if phase != Phase::Running {
            out.push(Effect::Sweep);
        }
        let steps = main
            .map(|id| step_of(id, &plans, started))
            .into_iter()
            .collect();
        let clock = Stopwatch::started(now);
        let element = Element {
            facts,
            started,
            phase,
            clock,
            main,
            steps,
            usage: Usage::default(),
            warned: false,
        };
        self.element = Some(element);
        self.names = NameBook::default();
        match main.filter(|_| !plans.is_empty()) {
            Some(step) if step != StepId::BATCH => {
                let options = self.launch.spec.launch.step_options();
                // Without a placement there are no plans.
                if let Ok(placement) = Placement::main(&self.launch) {
                    self.begin_step(now, step, &placement, options, plans, out);
                }
            }
            _ => wires::spawn_all(plans, out),
        }
    }

    /// What the element runs of its own, and the step it is.
    fn main_plans(
        &mut self,
        facts: ElementFacts,
    ) -> (Option<StepId>, Result<Vec<LaunchPlan>, String>) {
        let plan = match &mut self.plan {
            Ok(plan) => plan,
            Err(text) => return (None, Err(text.clone())),
        };
        let leads = self.launch.node_index == 0;
        match &self.launch.spec.launch {
            Launch::Script { .. } | Launch::Command { .. } if leads => (
                Some(StepId::BATCH),
                plan.batch(&self.launch, facts).map(|plan| vec![plan]),
            ),
            Launch::Tasks { .. } | Launch::Step { .. } => {
                let plans = Placement::main(&self.launch)
                    .and_then(|placement| plan.tasks(&self.launch, facts, &placement));
                (Some(StepId(0)), plans)
            }
            Launch::Script { .. } | Launch::Command { .. } | Launch::Hold => (None, Ok(Vec::new())),
        }
    }

    fn start_step(
        &mut self,
        now: u64,
        step: StepLaunch,
        options: StepOptions,
        out: &mut Vec<Effect>,
    ) {
        if !self.steps_seen.insert(step.step) {
            return;
        }
        let at = self.controller_time(now);
        let name = step.arguments.first().cloned().unwrap_or_default();
        let Some(element) = self
            .element
            .as_mut()
            .filter(|element| element.phase == Phase::Running)
        else {
            let failure = Some("the job runs nothing now that a step could be part of".to_owned());
            let end = StepEnd {
                step: step.step,
                tasks: Vec::new(),
                name,
                started: at,
                ended: at,
                usage: Usage::default(),
                failure,
            };
            self.with_outbox(out, |outbox, reports| outbox.step_ended(end, reports));
            return;
        };
        let placement = Placement::new(&step.tasks, &options, &self.launch.nodes);
        let plans = placement.and_then(|placement| {
            let plan = self.plan.as_ref().map_err(Clone::clone)?;
            let order = (&step, &options);
            let plans = plan.step(&self.launch, order, element.facts, &placement, &self.site)?;
            Ok((placement, plans))
        });
        match plans {
            Ok((_, plans)) if plans.is_empty() => {}
            Ok((placement, plans)) => {
                element.steps.push(step_of(step.step, &plans, at));
                self.begin_step(now, step.step, &placement, options, plans, out);
                if self.suspended {
                    out.push(Effect::Signal {
                        signal: SIGSTOP,
                        to: Recipients::Everything,
                    });
                }
            }
            Err(text) => {
                let end = StepEnd {
                    step: step.step,
                    tasks: Vec::new(),
                    name,
                    started: at,
                    ended: at,
                    usage: Usage::default(),
                    failure: Some(text),
                };
                self.with_outbox(out, |outbox, reports| outbox.step_ended(end, reports));
            }
        }
    }

    fn spawn_failed(
        &mut self,
        now: u64,
        task: TaskId,
        failure: LaunchFailure,
        out: &mut Vec<Effect>,
    ) {
        let Some(element) = &mut self.element else {
            return;
        };
        let is_main = element.main == Some(task.step);
        if is_main && element.phase == Phase::Running {
            let verdict = Verdict::LaunchFailed(failure.clone());
            element.phase = Phase::Sweeping { verdict };
            out.push(Effect::Sweep);
        }
        let Some(step) = element.step_mut(task.step) else {
            return;
        };
        let exit = ExitStatus {
            code: failure.code,
            signal: 0,
        };
        step.failure.get_or_insert(failure);
        if !is_main {
            // A step with a missing rank would wait for it for ever.
            let others: Vec<TaskId> = step.running().filter(|other| *other != task).collect();
            out.extend(groups(others).map(|to| Effect::Signal {
                signal: SIGKILL,
                to,
            }));
        }
        self.task_exited(now, task, exit, Usage::default(), out);
    }

    fn task_exited(
        &mut self,
        now: u64,
        id: TaskId,
        exit: ExitStatus,
        usage: Usage,
        out: &mut Vec<Effect>,
    ) {
        let Some(step) = self.element.as_mut().and_then(|e| e.step_mut(id.step)) else {
            return;
        };
        step.usage = step.usage.plus(usage);
        let late = step.has_failed();
        if let Some(task) = step.tasks.iter_mut().find(|task| task.rank == id.rank) {
            task.exit = Some(exit);
            task.late = late;
        }
        if !late {
            self.rank_over(now, id, exit, out);
            self.note_fate(now, id, exit);
        }
        self.step_over(now, id.step, out);
    }

    /// Looks whether a step is over, and what follows from that.
    fn step_over(&mut self, now: u64, id: StepId, out: &mut Vec<Effect>) {
        let at = self.controller_time(now);
        let step = self.element.as_mut().and_then(|e| e.step_mut(id));
        if !step.is_some_and(|step| step.is_over()) {
            return;
        }
        self.say_fates(id, out);
        let Some(element) = &mut self.element else {
            return;
        };
        let main = element.main;
        let all_over = element.steps.iter().all(Step::is_over);
        let Some(step) = element.step_mut(id) else {
            return;
        };
        if main == Some(id) {
            let verdict = match &element.phase {
                Phase::Running => Verdict::Own,
                // The others were told to end as it was, and have as long for it.
                Phase::Ending { .. } if !all_over => return,
                Phase::Ending { verdict, .. } => verdict.clone(),
                Phase::Sweeping { .. } => return,
            };
            element.phase = Phase::Sweeping { verdict };
            out.push(Effect::Sweep);
        } else if !step.reported {
            step.reported = true;
            let end = step.end(at);
            // What a remote shell has started may be the daemon of a launcher, which outlives it by design.
            let leaves = step.wiring.as_ref();
            if !leaves.is_some_and(|wiring| wiring.is_remote_shell()) {
                out.push(Effect::SweepStep(id));
            }
            out.push(Effect::StepOver(id));
            // An element that is being ended has nothing to wait for once its last step is over.
            if all_over && let Phase::Ending { verdict, .. } = &element.phase {
                element.phase = Phase::Sweeping {
                    verdict: verdict.clone(),
                };
                out.push(Effect::Sweep);
            }
            self.with_outbox(out, |outbox, reports| outbox.step_ended(end, reports));
        }
    }

    /// Ends the running element for this cause: SIGTERM and a time to follow it, or SIGKILL at once.
    fn end_element(&mut self, now: u64, cause: KillCause, at_once: bool, out: &mut Vec<Effect>) {
        let at = self.controller_time(now);
        let kill_wait_ms = self.kill_wait_ms();
        let Some(element) = &mut self.element else {
            return;
        };
        let verdict = match &element.phase {
            Phase::Sweeping { .. } => return,
            Phase::Ending { .. } if !at_once => return,
            Phase::Ending { verdict, .. } => verdict.clone(),
            Phase::Running => {
                let raw_job = element_raw_id(self.launch.key.job, element.facts.position);
                out.push(Effect::Note { raw_job, cause, at });
                Verdict::Killed(cause)
            }
        };
        let idle = element.steps.iter().all(Step::is_over);
        if at_once || kill_wait_ms == 0 || idle {
            element.phase = Phase::Sweeping { verdict };
            out.push(Effect::Sweep);
            return;
        }
        element.phase = Phase::Ending {
            verdict,
            kill_at: now.saturating_add(kill_wait_ms),
        };
        out.push(Effect::Signal {
            signal: SIGTERM,
            to: Recipients::Everything,
        });
        // Stopped processes act on SIGTERM only once they go on.
        out.push(Effect::Signal {
            signal: SIGCONT,
            to: Recipients::Everything,
        });
    }

    fn swept(&mut self, now: u64, out: &mut Vec<Effect>) {
        let at = self.controller_time(now);
        let Some(mut element) = self.element.take() else {
            return;
        };
        let Phase::Sweeping { verdict } = element.phase.clone() else {
            self.element = Some(element);
            return;
        };
        for step in element
            .steps
            .iter_mut()
            .filter(|step| !step.reported && step.id != StepId::BATCH)
        {
            step.reported = true;
            out.push(Effect::StepOver(step.id));
            let end = step.end(at);
            self.with_outbox(out, |outbox, reports| outbox.step_ended(end, reports));
        }
        let end = element.end(verdict, at);
        out.push(Effect::Journal(Entry::Ended(end.clone())));
        let left = self.waiting.len();
        self.with_outbox(out, |outbox, reports| outbox.ended(now, end, left, reports));
    }

    fn timer(&mut self, now: u64, out: &mut Vec<Effect>) {
        self.with_outbox(out, |outbox, reports| outbox.on_time(now, reports));
        self.wires_on_time(now, out);
        self.fates_on_time(now, out);
        let Some(element) = &self.element else { return };
        let must_be_dead = self
            .lease
            .dead_at(self.kill_wait_ms())
            .is_some_and(|at| at <= now);
        match &element.phase {
            Phase::Running if self.lease.is_over(now) => {
                self.end_element(now, KillCause::NodeLost, must_be_dead, out);
            }
            Phase::Running if self.limit_at(element).is_some_and(|at| at <= now) => {
                self.end_element(now, KillCause::TimeLimit, false, out);
            }
            Phase::Running if self.warn_at(element).is_some_and(|at| at <= now) => self.warn(out),
            Phase::Ending { verdict, kill_at } if *kill_at <= now || must_be_dead => {
                let verdict = verdict.clone();
                if let Some(element) = &mut self.element {
                    element.phase = Phase::Sweeping { verdict };
                }
                out.push(Effect::Sweep);
            }
            Phase::Running | Phase::Ending { .. } | Phase::Sweeping { .. } => {}
        }
    }

    /// The signal before the limit: to the batch shell alone if so asked, else to the tasks of steps.
    fn warn(&mut self, out: &mut Vec<Effect>) {
        let (Some(element), Some(asked)) = (&mut self.element, &self.launch.spec.signal) else {
            return;
        };
        element.warned = true;
        let to = if asked.batch_only {
            element.batch_shell().map(Recipients::Process)
        } else {
            groups(element.step_tasks())
        };
        out.extend(to.map(|to| Effect::Signal {
            signal: asked.signal.into(),
            to,
        }));
    }

    /// Lets the outbox make reports and passes them on.
    fn with_outbox(
        &mut self,
        out: &mut Vec<Effect>,
        act: impl FnOnce(&mut Outbox, &mut Vec<FromSlot>),
    ) {
        let mut reports = Vec::new();
        act(&mut self.outbox, &mut reports);
        out.extend(reports.into_iter().map(Effect::Report));
    }
}

/// A step with these tasks.
fn step_of(id: StepId, plans: &[LaunchPlan], started: Timestamp) -> Step {
    let program = plans.first().and_then(|plan| plan.arguments.first());
    Step {
        id,
        name: program
            .map(|program| program.to_string_lossy().into_owned())
            .unwrap_or_default(),
        started,
        tasks: plans
            .iter()
            .map(|plan| Task {
                rank: plan.task.rank,
                exit: None,
                late: false,
            })
            .collect(),
        usage: Usage::default(),
        failure: None,
        output_lost: None,
        fates: Default::default(),
        reported: false,
        wiring: None,
        held: Held::No,
        ending: None,
        wait_until: None,
        kin: spawns::Kin::default(),
    }
}

fn groups(tasks: Vec<TaskId>) -> Option<Recipients> {
    (!tasks.is_empty()).then_some(Recipients::Groups(tasks))
}

fn earliest(left: Option<u64>, right: Option<u64>) -> Option<u64> {
    match (left, right) {
        (Some(left), Some(right)) => Some(left.min(right)),
        (left, right) => left.or(right),
    }
}
