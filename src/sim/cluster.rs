//! A whole cluster under virtual time: the live controller's own core, with nodes that only pretend to run what they are
//! told to.
//!
//! ```text
//!   the next instant ─▶ ends, submissions, nodes that fail or return, deadlines ─▶ Cluster::handle each
//!        ▲                                                                              │ Effect::Plan?
//!        │                                                                              ▼
//!        └── nothing more is said now ◀── reports of nodes ◀── effects ◀── Cluster::schedule, once
//! ```
//! An instant has the shape of the live controller's turn (`controller/run.rs`): whatever comes together is decided one
//! after another, then there is one plan, then nodes hear of it. What they answer at the same instant is a turn of its own.
//! Ends come in the order of their starts, then submissions in their order, then nodes, then time. Everything takes no
//! time but what runs: so the same input gives the same outcome, byte for byte.
//!
//! Read [`super::workload`] (what comes in), [`super::shepherds`] (what nodes do), [`super::outcome`] (what is kept).

use super::cluster_file::Reserved;
use super::curve::Level;
use super::outages::{Outages, Timetable, Turn};
use super::outcome::{Gathering, Outcome};
use super::shepherds::{Said, Shepherds};
use super::workload::Workload;
use crate::cluster::changes::Counters;
use crate::cluster::{Cluster, Command, Effect, Principal, Reply, Settings, invariants};
use crate::model::identity::Role;
use crate::model::ids::{JobId, NodeId, SlotKey};
use crate::model::job::Owner;
use crate::model::node::{Inventory, Serves};
use crate::model::rules::{Act, Noun, RuleChange, Rules};
use crate::model::time::Timestamp;
use crate::wire::worker::ToSlot;
use std::collections::BTreeMap;

/// Most turns of one instant: more means that the controller and its nodes never agree.
const TURNS_MAX: u32 = 10_000;
/// How often one element is put back at most, and after how many instants that is looked at.
const RESTARTS_MAX: u32 = 2_000;
const LOOK_EVERY: u64 = 4_096;
/// So often may nodes fail and return after everything else has stopped, for each node and besides.
const IDLE_MAX: usize = 8;

/// A cluster before anything has happened.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    /// The controller's settings, its policy among them.
    pub settings: Settings,
    /// Partitions, accounts, users and QOS.
    pub rules: Rules,
    /// The nodes.
    pub nodes: Vec<Inventory>,
    /// What goes wrong.
    pub outages: Outages,
    /// What is reserved.
    pub reservations: Vec<Reserved>,
    /// Whether to check after every turn what must always hold; slow.
    pub check: bool,
}

/// Our own mistake: what must hold does not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{sentence}, {after_s} s after the beginning")]
pub struct Broken {
    /// What does not hold.
    pub sentence: String,
    /// When.
    pub after_s: i64,
}

/// Runs a workload on a cluster until nothing more can happen.
///
/// # Errors
/// When the cluster breaks a rule of its own.
pub fn simulate(setup: Setup, workload: &Workload) -> Result<Outcome, Broken> {
    simulate_watched(setup, workload, &mut |_| {})
}

/// The same, looked at after each instant.
///
/// # Errors
/// When the cluster breaks a rule of its own.
pub fn simulate_watched(
    setup: Setup,
    workload: &Workload,
    watch: &mut dyn FnMut(&Moment<'_>),
) -> Result<Outcome, Broken> {
    let begin = workload
        .jobs
        .first()
        .map_or(Timestamp::default(), |job| job.at);
    Engine::new(setup, workload, begin, watch)?.run()
}

/// The cluster once everything of an instant is done.
#[derive(Debug)]
pub struct Moment<'a> {
    /// When.
    pub now: Timestamp,
    /// The controller's core.
    pub cluster: &'a Cluster,
    /// What was admitted in this instant: places in the workload, and the numbers they were given.
    pub admitted: &'a [(usize, JobId)],
}

/// A node of the cluster, as its machine.
#[derive(Debug)]
struct Machine {
    id: NodeId,
    inventory: Inventory,
    boots: u32,
}

/// What a slot holds on one node: cpus and GPUs.
type Held = BTreeMap<(NodeId, SlotKey), (u64, u64)>;

struct Engine<'a> {
    cluster: Cluster,
    workload: &'a Workload,
    begin: Timestamp,
    now: Timestamp,
    submitted: usize,
    shepherds: Shepherds<'a>,
    machines: Vec<Machine>,
    /// Places of machines, by their number in the cluster.
    places: BTreeMap<NodeId, usize>,
    timetable: Timetable,
    gathering: Gathering,
    held: Held,
    level: Level,
    /// The deadline of the last tick.
    ticked: Option<Timestamp>,
    check: bool,
    /// What this instant brought.
    admitted: Vec<(usize, JobId)>,
    watch: &'a mut dyn FnMut(&Moment<'_>),
}

impl<'a> Engine<'a> {
    fn new(
        setup: Setup,
        workload: &'a Workload,
        begin: Timestamp,
        watch: &'a mut dyn FnMut(&Moment<'_>),
    ) -> Result<Self, Broken> {
        let Setup {
            settings,
            rules,
            nodes,
            outages,
            reservations,
            check,
        } = setup;
        let counters = Counters::default();
        let (jobs, known, recent) = (Vec::new(), Vec::new(), Vec::new());
        let cluster = Cluster::with_rules(rules, settings, counters, jobs, known, recent, begin);
        let gathering = Gathering::new(&nodes, begin);
        let timetable = Timetable::new(&outages, nodes.len(), workload.seed, begin);
        let machine = |inventory| Machine {
            id: NodeId(0),
            inventory,
            boots: 0,
        };
        let mut engine = Engine {
            cluster,
            workload,
            begin,
            now: begin,
            submitted: 0,
            shepherds: Shepherds::new(workload),
            machines: nodes.into_iter().map(machine).collect(),
            places: BTreeMap::new(),
            timetable,
            gathering,
            held: Held::new(),
            level: Level::default(),
            ticked: None,
            check,
            admitted: Vec::new(),
            watch,
        };
        let mut effects = Vec::new();
        for at in 0..engine.machines.len() {
            engine.boot(at, &mut effects);
        }
        for reserved in reservations {
            engine.reserve(reserved)?;
        }
        Ok(engine)
    }

    fn run(mut self) -> Result<Outcome, Broken> {
        let (mut idle, mut instants) = (0, 0u64);
        let patience = IDLE_MAX * (self.machines.len() + IDLE_MAX);
        while let Some(now) = self.next_instant() {
            self.now = now;
            let before = (self.submitted, self.gathering.open);
            self.instant()?;
            instants += 1;
            if instants % LOOK_EVERY == 0 {
                self.ends_some_day()?;
            }
            (self.watch)(&Moment {
                now,
                cluster: &self.cluster,
                admitted: &self.admitted,
            });
            self.admitted.clear();
            let is_idle = before == (self.workload.jobs.len(), self.gathering.open)
                && self.shepherds.running() == 0;
            idle = if is_idle { idle + 1 } else { 0 };
            if idle > patience {
                break;
            }
        }
        Ok(self.gathering.finish())
    }

    /// Refuses a job that is lost again and again: it would never end.
    fn ends_some_day(&self) -> Result<(), Broken> {
        for job in self.cluster.jobs() {
            let restarts = job.restarts.iter().map(|(_, count)| *count).max();
            if let Some(count) = restarts.filter(|count| *count > RESTARTS_MAX) {
                let what = format!(
                    "job {} was put back {count} times and has not ended: nodes fail more often than it can run \
                     through; give it a shorter `run`, nodes a longer `mtbf`, or `requeue = false`",
                    job.id
                );
                return Err(self.broken(&what));
            }
        }
        Ok(())
    }

    /// When something happens next; `None` when nothing more can.
    fn next_instant(&mut self) -> Option<Timestamp> {
        let submission = self.workload.jobs.get(self.submitted).map(|job| job.at);
        let end = self.shepherds.next_time();
        let work = submission.into_iter().chain(end).min();
        if work.is_none() && self.gathering.open == 0 {
            return None;
        }
        // One that is still the same after its tick had nothing to do: it is not asked for again.
        let deadline = self.cluster.next_deadline();
        let deadline = deadline.filter(|at| *at > self.now || self.ticked != Some(*at));
        if work.is_none() && deadline.is_none() && self.timetable.all_there() {
            // What waits now waits for ever.
            return None;
        }
        let next = work.into_iter().chain(deadline);
        let next = next.chain(self.timetable.next_time()).min();
        next.map(|at| at.max(self.now))
    }

    /// Everything of one instant.
    fn instant(&mut self) -> Result<(), Broken> {
        let mut effects = Vec::new();
        let mut said: Vec<Said> = Vec::new();
        while self.shepherds.take_end(self.now, &mut said) {
            self.hear(&mut said, &mut effects);
        }
        while let Some(job) = self.workload.jobs.get(self.submitted)
            && job.at <= self.now
        {
            self.submit(&mut effects);
            self.submitted += 1;
        }
        while let Some((node, turn)) = self.timetable.take(self.now) {
            match turn {
                Turn::Fails => self.fail(node, &mut effects),
                Turn::Returns => self.boot(node, &mut effects),
            }
        }
        let due = self.cluster.next_deadline().filter(|at| *at <= self.now);
        if due.is_some() {
            self.ticked = due;
            self.command(Command::Tick, &mut effects);
        }
        for _ in 0..TURNS_MAX {
            self.plan_and_act(effects, &mut said)?;
            if said.is_empty() {
                self.gathering.outcome.curve.step(self.now, self.level());
                return Ok(());
            }
            effects = Vec::new();
            self.hear(&mut said, &mut effects);
        }
        Err(self.broken("the controller and its nodes go on talking"))
    }

    /// The end of a turn: one plan, what is to be kept, and what nodes are told.
    fn plan_and_act(
        &mut self,
        mut effects: Vec<Effect>,
        said: &mut Vec<Said>,
    ) -> Result<(), Broken> {
        if effects.contains(&Effect::Plan) {
            self.gathering.outcome.passes += 1;
            effects.extend(self.cluster.schedule(self.now));
        }
        let changes = self.cluster.take_changes();
        let mut gone = Vec::new();
        let shepherds = &self.shepherds;
        self.gathering.take(
            &changes,
            self.workload,
            |id| shepherds.place(id),
            |id| gone.push(id),
        );
        gone.into_iter().for_each(|id| self.shepherds.forget(id));
        for effect in effects {
            self.act(effect, said);
        }
        if self.check {
            invariants::check(&self.cluster).map_err(|sentence| self.broken(&sentence))?;
        }
        Ok(())
    }

    fn act(&mut self, effect: Effect, said: &mut Vec<Said>) {
        match effect {
            Effect::Launch { node, launch, .. } => {
                if let Some(share) = launch.shares.iter().find(|share| share.node == node) {
                    let held = (u64::from(share.cpus.len()), share.gpus.len() as u64);
                    if self.held.insert((node, launch.key), held).is_none() {
                        self.level.cpus += held.0;
                        self.level.gpus += held.1;
                    }
                }
                if self.is_there(node) {
                    self.shepherds.launch(node, *launch, self.now, said);
                }
            }
            Effect::Tell { node, key, order } => {
                if order == ToSlot::Close
                    && let Some(held) = self.held.remove(&(node, key))
                {
                    self.level.cpus -= held.0;
                    self.level.gpus -= held.1;
                }
                if self.is_there(node) {
                    self.shepherds.tell(node, key, order, self.now, said);
                }
            }
            // For people and links, of which there are none.
            Effect::DropLink { .. }
            | Effect::SlotGranted { .. }
            | Effect::StepEnded { .. }
            | Effect::StepFailed { .. }
            | Effect::ElementEnded { .. }
            | Effect::JobEnded { .. }
            | Effect::Cut { .. }
            | Effect::Plan => {}
        }
    }

    fn is_there(&self, node: NodeId) -> bool {
        let place = self.places.get(&node);
        place.is_some_and(|at| self.timetable.is_there(*at))
    }

    fn level(&self) -> Level {
        Level {
            waiting: self.gathering.open.saturating_sub(self.shepherds.running()),
            ..self.level
        }
    }

    /// The controller takes what nodes say.
    fn hear(&mut self, said: &mut Vec<Said>, effects: &mut Vec<Effect>) {
        for (node, key, report) in said.drain(..) {
            let command = Command::Report { node, key, report };
            self.command(command, effects);
        }
    }

    /// A command that cannot be refused.
    fn command(&mut self, command: Command, effects: &mut Vec<Effect>) -> Option<Reply> {
        let handled = self.cluster.handle(self.now, command).ok()?;
        effects.extend(handled.effects);
        Some(handled.reply)
    }

    fn submit(&mut self, effects: &mut Vec<Effect>) {
        let job = &self.workload.jobs[self.submitted];
        let place = |at: u32| usize::try_from(at).unwrap_or(usize::MAX);
        let (Some(owner), Some(spec)) = (
            self.workload.owners.get(place(job.owner)),
            self.workload.specs.get(place(job.spec)),
        ) else {
            return;
        };
        let command = Command::Submit {
            who: Principal {
                owner: owner.clone(),
                role: Role::User,
                from: "sim".into(),
            },
            spec: Box::new(spec.clone()),
            ended: Vec::new(),
            dry_run: false,
        };
        match self.cluster.handle(self.now, command) {
            Ok(handled) => {
                effects.extend(handled.effects);
                if let Reply::Submitted(id) = handled.reply {
                    self.gathering.open += u64::from(spec.count());
                    self.shepherds.admit(id, self.submitted);
                    self.admitted.push((self.submitted, id));
                }
            }
            Err(refusal) => self.gathering.refuse(refusal),
        }
    }

    /// A reservation is made as an operator would.
    fn reserve(&mut self, reserved: Reserved) -> Result<(), Broken> {
        let point = |ms: i64| {
            let at = self.begin.plus_ms(ms);
            at.to_rfc3339(&jiff::tz::TimeZone::UTC)
        };
        let times = [
            ("start".to_owned(), point(reserved.at_ms)),
            ("end".to_owned(), point(reserved.at_ms + reserved.for_ms)),
        ];
        let owner = Owner {
            uid: 0,
            gid: 0,
            name: "root".into(),
        };
        let command = Command::ChangeRule {
            who: Principal {
                owner,
                role: Role::Admin,
                from: "sim".into(),
            },
            change: RuleChange {
                noun: Noun::Reservation,
                act: Act::Add,
                name: reserved.name,
                settings: times.into_iter().chain(reserved.settings).collect(),
            },
        };
        let made = self.cluster.handle(self.now, command);
        made.map(|_| ()).map_err(|refusal| {
            let sentence = refusal.to_string();
            self.broken(&sentence)
        })
    }

    /// A node is there, for the first time or again: nothing of before is left on it.
    fn boot(&mut self, at: usize, effects: &mut Vec<Effect>) {
        let machine = &mut self.machines[at];
        machine.boots += 1;
        machine.inventory.boot_id = format!("{}", machine.boots);
        let register = Command::Register {
            inventory: Box::new(machine.inventory.clone()),
            serves: Serves::Everyone,
            slots: Vec::new(),
            gives_leases: true,
        };
        if let Some(Reply::Registered(id)) = self.command(register, effects) {
            self.machines[at].id = id;
            self.places.insert(id, at);
        }
    }

    /// A node fails, with all that runs there; its link is gone at once.
    fn fail(&mut self, at: usize, effects: &mut Vec<Effect>) {
        let node = self.machines[at].id;
        let lost_ms = self.shepherds.lose(node, self.now);
        let outcome = &mut self.gathering.outcome;
        outcome.failures += 1;
        outcome.lost_ms = outcome.lost_ms.saturating_add(lost_ms);
        self.command(Command::LinkLost { node }, effects);
    }

    fn broken(&self, sentence: &str) -> Broken {
        Broken {
            sentence: sentence.to_owned(),
            after_s: self.now.minus(self.begin) / 1000,
        }
    }
}

#[cfg(test)]
mod tests;
