//! THE CONTROLLER'S CORE. Pure: no clock, file, socket, environment or random number.
//!
//! ```text
//!   Command ──decide──▶ Events ──apply──▶ Cluster', Effects
//!               │                   │
//!            Refusal          consequences ──▶ more Events (a slot is idle, a job is over, dependants wake)
//! ```
//! [`Cluster::handle`] is all a shell calls, then [`Cluster::take_changes`] for the rows to commit; effects
//! are carried out only after the commit. [`apply`] is the one place that changes a `Cluster`.
//!
//! Read [`command`], [`event`], [`effect`] first, then [`apply`], then [`admission`], [`control`],
//! [`lifecycle`], [`gang`], [`leases`], [`adopt`], [`nodes`] as you need them. What queries see is in [`snapshot`],
//! [`views`] and [`rule_views`].

pub mod admission;
pub mod adopt;
mod apply;
pub mod changes;
pub mod command;
pub mod control;
pub mod dependency;
pub mod effect;
pub mod event;
mod gang;
mod hearsay;
pub mod invariants;
pub mod launch;
pub mod leases;
mod lending;
pub mod lifecycle;
pub mod membership;
pub mod nodes;
mod occupancy;
mod reservations;
pub mod rule_views;
mod rules;
pub mod select;
pub mod snapshot;
mod spread;
pub mod step_places;
pub mod step_within;
mod steps;
mod tally;
pub mod views;

pub use command::{Command, Principal, Reply};
pub use effect::Effect;
pub use event::Event;
pub use snapshot::Snapshot;

use crate::model::identity::{Invitation, KeyId, KnownKey, TokenHash};
use crate::model::ids::{JobId, NodeId, SlotKey, StepId};
use crate::model::job::{Commons, ExitStatus, Hold, Job, JobState, Reason};
use crate::model::node::{Link, Node};
use crate::model::refusal::Refusal;
use crate::model::rules::{Noun, Rules};
use crate::model::time::Timestamp;
use crate::scheduler::bookings::Bookings;
use crate::scheduler::explain::Experience;
use crate::scheduler::forecast::Outlook;
use crate::scheduler::limits::{Held, Tally};
use crate::scheduler::nodes::NodePool;
use crate::scheduler::occupancy::Occupancy;
use crate::scheduler::order::Orders;
use crate::scheduler::plan::Promise;
use crate::scheduler::priority::Usage;
use crate::scheduler::queue::{Class, Queue};
use crate::scheduler::shares::{Books, Member, Standings};
use crate::scheduler::{Plan, Policy, View, evict, plan_again};
use crate::wire::worker::{StepOrder, ToSlot};
use changes::Counters;
use command::Outcome;
use imbl::OrdMap;
use smallvec::SmallVec;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// What may be set from outside; all durations in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Name of the cluster.
    pub name: String,
    /// A silent node is declared DOWN after this long.
    pub node_timeout_ms: i64,
    /// What may run again is ended by its node when cut off for this long.
    pub lease_ms: u64,
    /// Most hot jobs.
    pub jobs_max: usize,
    /// Largest array index plus one.
    pub array_max: u32,
    /// A slot that was silent this long with more than one position gives the rest back.
    pub retract_after_ms: i64,
    /// How long a certificate is good.
    pub certificate_life_ms: i64,
    /// Whether jobs of root are taken.
    pub allow_root_jobs: bool,
    /// Who goes first and who starts.
    pub policy: Policy,
    /// What was used counts half for fair share after so many seconds.
    pub half_life_s: u32,
    /// How long all nodes of a gang may take to say that they have its slot.
    pub gang_start_ms: i64,
    /// Whether nodes that fail are remembered, and jobs kept off them.
    pub remember_failures: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            name: "hpc".to_owned(),
            node_timeout_ms: 300_000,
            lease_ms: 600_000,
            jobs_max: 1_000_000,
            array_max: 4_000_001,
            retract_after_ms: 300,
            certificate_life_ms: 90 * 86_400_000,
            allow_root_jobs: true,
            policy: Policy::default(),
            half_life_s: 7 * 86_400,
            gang_start_ms: 30_000,
            remember_failures: true,
        }
    }
}

/// When the grace ends of what a slot was warned of and nobody was told to end.
fn grace_ends(slot: &crate::model::job::Slot) -> Option<Timestamp> {
    let warned = slot
        .warned()
        .filter(|(positions, ..)| !slot.untold(positions).is_empty());
    warned.map(|(_, until, ..)| until).min()
}

/// For how long a plan that started nothing holds for more of the same: the order changes with time.
const SETTLED_MS: i64 = 1_000;

/// How many ended jobs are remembered for those that may come to depend on them.
const RECENT_MAX: usize = 10_000;

/// How many closed slots are remembered for what may still be said of them.
const CLOSED_MAX: usize = 1_024;

/// What is remembered of a slot that was closed.
#[derive(Debug)]
struct ClosedSlot {
    key: SlotKey,
    nodes: SmallVec<[NodeId; 4]>,
    /// How many steps its job had begun.
    steps_begun: u32,
}

/// Rows touched since the last commit.
#[derive(Debug, Default)]
struct Touched {
    jobs: BTreeSet<JobId>,
    nodes: BTreeSet<NodeId>,
    counters: bool,
    keys: BTreeSet<KeyId>,
    invitations: BTreeSet<TokenHash>,
    rules: BTreeSet<(Noun, String)>,
    members: BTreeSet<Member>,
    orders: BTreeSet<(SlotKey, StepId)>,
    changes: changes::Changes,
}

/// The whole state of the controller.
#[derive(Debug)]
pub struct Cluster {
    settings: Settings,
    counters: Counters,
    jobs: OrdMap<JobId, Arc<Job>>,
    nodes: OrdMap<NodeId, Arc<Node>>,
    rules: Arc<Rules>,
    /// The nodes as a pool: how much is free on each.
    pool: NodePool,
    /// The same with nothing granted.
    emptied: NodePool,
    /// Eligible jobs, by what they have in common.
    queue: Queue,
    /// What runs, by its end.
    occupancy: Occupancy,
    /// What is in use of limits.
    tally: Tally,
    /// For what part of their limits the last jobs ran; thousandths.
    parts_run: VecDeque<u32>,
    /// Who has used how much.
    books: Books,
    /// Where everybody stood, and when.
    standings: Arc<Standings>,
    standings_at: Timestamp,
    /// When the books of those were stored for whom something runs.
    members_stored_at: Timestamp,
    /// Who waits for whom.
    dependants: BTreeMap<JobId, BTreeSet<JobId>>,
    /// Jobs that wait to be the only one of their name.
    singletons: BTreeSet<JobId>,
    /// Jobs that may not start before a time.
    timed: BTreeSet<(Timestamp, JobId)>,
    /// Slots whose queue is empty.
    idle: BTreeSet<SlotKey>,
    /// Slots that hold more than one position.
    stocked: BTreeSet<SlotKey>,
    /// Slots with a lease, of jobs that may run again.
    leased: BTreeSet<SlotKey>,
    /// Nodes that do not respond, and since when as this controller counts: from its own start at the earliest.
    cut_off: BTreeMap<NodeId, Timestamp>,
    /// Gangs that have not begun.
    gathering: BTreeSet<SlotKey>,
    /// Slots that will have to make room, by the end of their grace.
    warned: BTreeSet<(Timestamp, SlotKey)>,
    /// Slots that are stopped for others.
    lending: BTreeSet<SlotKey>,
    /// Who has lent what is to be drawn up anew.
    loans_stale: bool,
    /// Whether there has been a plan since the start.
    has_planned: bool,
    /// When the last plan started nothing, if nothing has changed since that could make another.
    settled: Option<Timestamp>,
    /// What the planner has found out of the order.
    orders: Orders,
    /// What is reserved, and until when that is worked out.
    bookings: Bookings,
    booked_until: Timestamp,
    /// For whom others make room, as the last plan had it.
    promised: Vec<Promise>,
    /// When a plan would say something else though nothing has happened.
    plan_again: Option<Timestamp>,
    /// Jobs that ended lately, oldest first in the queue beside it.
    recent: OrdMap<JobId, Outcome>,
    recent_order: VecDeque<JobId>,
    /// What the last plan could not start, and why.
    blocked: Arc<snapshot::Blocked>,
    touched: Touched,
    /// Steps that run, as they were ordered: said again to a worker that comes back, and what they hold of their job.
    steps: OrdMap<SlotKey, Vec<Arc<StepOrder>>>,
    /// Slots closed lately and their nodes, oldest first: a step's end may still come from there.
    closed: VecDeque<ClosedSlot>,
    /// What jobs have in common, to be kept once.
    commons: Commons,
    /// Keys that speak for machines and people.
    keys: OrdMap<KeyId, Arc<KnownKey>>,
    /// Invitations, by the hash of their secrets.
    invitations: OrdMap<TokenHash, Arc<Invitation>>,
}

/// What a command led to.
#[derive(Debug)]
pub struct Handled {
    /// The answer.
    pub reply: Reply,
    /// What to do after the commit.
    pub effects: Vec<Effect>,
}

impl Cluster {
    /// From what the store holds, under the rules of the beginning.
    #[must_use]
    pub fn new(
        settings: Settings,
        counters: Counters,
        jobs: Vec<Arc<Job>>,
        nodes: Vec<Arc<Node>>,
        recent: Vec<(JobId, JobState, ExitStatus)>,
        now: Timestamp,
    ) -> Self {
        let rules = Rules::initial();
        Cluster::with_rules(rules, settings, counters, jobs, nodes, recent, now)
    }

    /// From what the store holds. Its rules come first: how long what runs may take, and what it is charged, goes by them.
    #[must_use]
    pub fn with_rules(
        rules: Rules,
        settings: Settings,
        counters: Counters,
        jobs: Vec<Arc<Job>>,
        nodes: Vec<Arc<Node>>,
        recent: Vec<(JobId, JobState, ExitStatus)>,
        now: Timestamp,
    ) -> Self {
        let half_life_s = settings.half_life_s;
        let mut cluster = Cluster {
            settings,
            counters,
            jobs: OrdMap::new(),
            nodes: OrdMap::new(),
            rules: Arc::new(rules),
            pool: NodePool::default(),
            emptied: NodePool::default(),
            queue: Queue::default(),
            occupancy: Occupancy::default(),
            tally: Tally::default(),
            parts_run: VecDeque::new(),
            books: Books::new(half_life_s),
            standings: Arc::default(),
            standings_at: Timestamp::default(),
            members_stored_at: now,
            dependants: BTreeMap::new(),
            singletons: BTreeSet::new(),
            timed: BTreeSet::new(),
            idle: BTreeSet::new(),
            stocked: BTreeSet::new(),
            leased: BTreeSet::new(),
            cut_off: BTreeMap::new(),
            gathering: BTreeSet::new(),
            warned: BTreeSet::new(),
            lending: BTreeSet::new(),
            loans_stale: true,
            has_planned: false,
            settled: None,
            orders: Orders::default(),
            bookings: Bookings::default(),
            booked_until: Timestamp::default(),
            promised: Vec::new(),
            plan_again: None,
            recent: OrdMap::new(),
            recent_order: VecDeque::new(),
            blocked: Arc::default(),
            touched: Touched::default(),
            steps: OrdMap::new(),
            closed: VecDeque::new(),
            commons: Commons::default(),
            keys: OrdMap::new(),
            invitations: OrdMap::new(),
        };
        for mut node in nodes {
            let known = Arc::make_mut(&mut node);
            known.reset_free();
            // Until its worker speaks again nobody knows; the time runs from now, also for one that was silent before:
            // it could not be heard while there was no controller.
            if matches!(known.link, Link::Up | Link::Silent(_)) {
                known.link = Link::Silent(now);
            }
            cluster.cut_off.insert(node.id, now);
            cluster.nodes.insert(node.id, node);
        }
        // Before the jobs: what each costs is a part of its nodes.
        cluster.survey();
        for mut job in jobs {
            if !job.slots.is_empty() {
                for slot in &mut Arc::make_mut(&mut job).slots {
                    slot.heard = now;
                    // Releases before did not say since when.
                    let stopped = slot.is_to_stop();
                    slot.stops.turn(stopped, now);
                    cluster.take_off(&slot.allocation);
                }
            }
            cluster.index_in(&job);
            for slot in &job.slots {
                cluster.occupy(&job, slot, None);
            }
            cluster.jobs.insert(job.id, job);
        }
        cluster.recount_loans(now);
        cluster.survey();
        for (id, state, exit) in recent {
            cluster.remember(id, Outcome { state, exit });
        }
        cluster
    }

    /// With what the store holds of keys and invitations.
    #[must_use]
    pub fn with_members(
        mut self,
        keys: Vec<(KeyId, Arc<KnownKey>)>,
        invitations: Vec<(TokenHash, Arc<Invitation>)>,
    ) -> Self {
        self.keys = keys.into_iter().collect();
        self.invitations = invitations.into_iter().collect();
        self
    }

    /// With the orders of running steps that the store holds.
    #[must_use]
    pub fn with_orders(mut self, orders: Vec<(SlotKey, Arc<StepOrder>)>) -> Self {
        for (key, order) in orders {
            self.steps.entry(key).or_default().push(order);
        }
        self
    }

    /// With the usage that the store holds.
    #[must_use]
    pub fn with_usage(mut self, usage: Vec<(Member, Usage)>) -> Self {
        for (member, usage) in usage {
            self.books.restore(member, usage);
        }
        self
    }

    /// Who goes first and who starts.
    #[must_use]
    pub fn policy(&self) -> Policy {
        self.settings.policy
    }

    /// With its rules among the next rows to commit, as no store holds them yet.
    #[must_use]
    pub fn storing_rules(mut self) -> Self {
        let rules = Arc::clone(&self.rules);
        for noun in Noun::ALL {
            let names = rules.names(noun).into_iter();
            self.touched
                .rules
                .extend(names.map(|name| (noun, name.to_owned())));
        }
        self
    }

    /// What an administrator decided.
    #[must_use]
    pub fn rules(&self) -> &Arc<Rules> {
        &self.rules
    }

    /// Decides, applies, and follows up until nothing more follows.
    ///
    /// # Errors
    /// A [`Refusal`]; nothing has changed then.
    pub fn handle(&mut self, now: Timestamp, command: Command) -> Result<Handled, Refusal> {
        let (reply, events) = self.decide(now, command)?;
        let mut effects = Vec::new();
        let mut queue: VecDeque<Event> = events.into();
        while let Some(event) = queue.pop_front() {
            let follows_from = lifecycle::Trigger::of(&event);
            let before = effects.len();
            self.apply(event, &mut effects);
            if effects[before..].contains(&Effect::Plan) {
                self.settled = None;
            }
            queue.extend(lifecycle::consequences(self, now, follows_from));
        }
        self.recount_loans(now);
        Ok(Handled { reply, effects })
    }

    /// The one place where commands are judged.
    fn decide(&self, now: Timestamp, command: Command) -> Result<(Reply, Vec<Event>), Refusal> {
        let quiet = |events| Ok((Reply::Done, events));
        match command {
            Command::Submit {
                who,
                spec,
                ended,
                dry_run,
            } => admission::submit(self, now, &who, *spec, &ended, dry_run),
            Command::Cancel { who, filter } => control::cancel(self, now, &who, &filter),
            Command::Signal {
                who,
                filter,
                signal,
                to,
            } => control::signal(self, &who, &filter, signal, to),
            Command::Hold { who, filter } => control::hold(self, &who, &filter),
            Command::Release { who, filter } => control::release(self, &who, &filter),
            Command::Requeue { who, filter, hold } => {
                control::requeue(self, now, &who, &filter, hold)
            }
            Command::Suspend { who, filter, stop } => {
                control::suspend(self, now, &who, &filter, stop)
            }
            Command::Update {
                who,
                filter,
                changes,
                ended,
            } => control::update(self, now, &who, &filter, &changes, &ended),
            Command::StartStep {
                who,
                request,
                options,
            } => steps::start(self, &who, *request, options),
            Command::EndAllocation { who, job, code } => {
                control::end_allocation(self, &who, job, code)
            }
            Command::ClientGone { job } => quiet(control::client_gone(self, now, job)),
            Command::ChangeNode { who, name, change } => {
                nodes::change(self, now, &who, &name, change)
            }
            Command::Register {
                inventory,
                serves,
                slots,
                gives_leases,
            } => Ok(nodes::register(
                self,
                now,
                *inventory,
                serves,
                &slots,
                gives_leases,
            )),
            Command::LinkLost { node } => quiet(nodes::link_lost(self, now, node)),
            Command::NodeLeaves { node } => quiet(nodes::leaves(self, now, node)),
            Command::Report { node, key, report } => {
                quiet(lifecycle::report(self, now, node, key, report))
            }
            Command::Adopt(plan) => quiet(adopt::adopt(self, now, plan)),
            Command::CloseIdle => quiet(lifecycle::close_idle(self, now)),
            Command::ClockStepped { by_ms } => quiet(vec![Event::ClockStepped { by_ms }]),
            Command::Tick => quiet(lifecycle::tick(self, now)),
            Command::Invite {
                who,
                token,
                grant,
                ttl_ms,
                uses,
            } => membership::invite(self, now, &who, token, grant, ttl_ms, uses),
            Command::Join(newcomer) => membership::join(self, now, &newcomer),
            Command::ChangeRule { who, change } => rules::change(self, now, &who, &change),
            Command::Renew { key } => membership::renew(self, now, key),
            Command::Withdraw { who, grant } => membership::withdraw(self, &who, &grant),
            Command::RevokeUser { who, name } => membership::revoke_user(self, &who, &name),
        }
    }

    /// Whether a job that is about to be queued waits like others that are alike, so that no plan need be made for it:
    /// nothing has changed since the last one found that none of them can start.
    fn waits_like_others(&self, job: &Job) -> bool {
        let fresh = |at: Timestamp| (0..SETTLED_MS).contains(&job.submitted.minus(at));
        let waits_by_time = job.spec.request.wishes.switches.is_some();
        if waits_by_time || !self.settled.is_some_and(fresh) || !Self::is_eligible(job) {
            return false;
        }
        let key = crate::scheduler::queue::GroupKey::of(job);
        let place = self
            .queue
            .place(&key)
            .filter(|_| !evict::takes(&self.rules, &key.class));
        // One that holds something already may only wait for its own throttle.
        let first = place.map(|at| self.queue.heads()[at].first);
        first.is_some_and(|first| {
            !first.runs && first.id < job.id && first.submitted <= job.submitted
        })
    }

    /// What to start now.
    #[must_use]
    pub fn plan(&self, now: Timestamp) -> Plan {
        crate::scheduler::plan(&self.view(), now, self.settings.policy)
    }

    /// Plans, adopts, and gives back what idle slots hold; again when that made room. The end of every turn.
    pub fn schedule(&mut self, now: Timestamp) -> Vec<Effect> {
        let mut effects = self.round(now);
        // Closing idle slots made room that the plan did not see. A second round closes nothing that waits.
        if effects.iter().any(|effect| {
            matches!(
                effect,
                Effect::Tell {
                    order: ToSlot::Close,
                    ..
                }
            )
        }) {
            effects.extend(self.round(now));
        }
        effects
    }

    fn round(&mut self, now: Timestamp) -> Vec<Effect> {
        self.stand(now);
        self.book(now);
        self.queue.note(now, &self.bookings);
        let mut orders = std::mem::take(&mut self.orders);
        let plan = plan_again(&self.view(), now, self.settings.policy, &mut orders);
        self.orders = orders;
        let nothing = plan.entries.is_empty();
        let mut effects = Vec::new();
        for command in [Command::Adopt(plan), Command::CloseIdle] {
            if let Ok(handled) = self.handle(now, command) {
                effects.extend(handled.effects);
            }
        }
        // What is to be done again at a time, or because of what was just done, is not settled.
        let later = |at: Timestamp| at.minus(now) > SETTLED_MS;
        let settled =
            nothing && !effects.contains(&Effect::Plan) && self.plan_again.is_none_or(later);
        self.settled = settled.then_some(now);
        self.has_planned = true;
        effects
    }

    /// What the planner sees.
    #[must_use]
    pub fn view(&self) -> View<'_> {
        View {
            nodes: &self.nodes,
            pool: &self.pool,
            emptied: &self.emptied,
            jobs: &self.jobs,
            queue: &self.queue,
            occupancy: &self.occupancy,
            idle: &self.idle,
            promised: &self.promised,
            bookings: &self.bookings,
            rules: &self.rules,
            tally: &self.tally,
            standings: &self.standings,
        }
    }

    /// A copy of what the planner sees, for forecasts.
    #[must_use]
    pub fn outlook(&self) -> Outlook {
        Outlook {
            nodes: self.nodes.clone(),
            jobs: self.jobs.clone(),
            queue: self.queue.clone(),
            occupancy: self.occupancy.clone(),
            pool: self.pool.clone(),
            emptied: self.emptied.clone(),
            idle: self.idle.clone(),
            promised: self.promised.clone(),
            bookings: self.bookings.clone(),
            rules: Arc::clone(&self.rules),
            standings: Arc::clone(&self.standings),
            policy: self.settings.policy,
            tally: self.tally.clone(),
        }
    }

    /// How run times have compared with limits of late.
    #[must_use]
    pub fn experience(&self) -> Experience {
        Experience::of(self.parts_run.iter().copied().collect())
    }

    /// When [`Command::Tick`] is next due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        let begin = self.timed.first().map(|(at, _)| *at);
        let silent = self.nodes.values().filter_map(|node| match node.link {
            Link::Silent(since) => Some(since.plus_ms(self.settings.node_timeout_ms)),
            Link::Up | Link::Down(_) => None,
        });
        let stocked = self
            .stocked
            .iter()
            .filter_map(|key| self.slot(*key))
            .filter(|slot| !slot.retracting)
            .map(|slot| slot.heard.plus_ms(self.settings.retract_after_ms));
        let leases = leases::next_deadline(self);
        let gathering = self
            .gathering
            .iter()
            .filter_map(|key| self.slot(*key))
            .map(|slot| gang::deadline(self, slot));
        let grace = self.warned.first().map(|(at, _)| *at);
        let again = grace.into_iter().chain(self.plan_again);
        begin
            .into_iter()
            .chain(silent)
            .chain(stocked)
            .chain(leases)
            .chain(gathering)
            .chain(again)
            .min()
    }

    /// What queries see from now on; cheap: maps share their parts.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            name: self.settings.name.clone(),
            jobs: self.jobs.clone(),
            nodes: self.nodes.clone(),
            rules: Arc::clone(&self.rules),
            standings: Arc::clone(&self.standings),
            totals: self.pool.totals(),
            weights: self.settings.policy.weights,
            forecast: Arc::default(),
            blocked: Arc::clone(&self.blocked),
            steps: self.steps.clone(),
            recent: self.recent.clone(),
            job_next: self.counters.job_next,
            keys: self.keys.clone(),
            invitations: self.invitations.clone(),
        }
    }

    /// How a step that runs was ordered.
    fn order_of(&self, key: SlotKey, step: StepId) -> Option<&Arc<StepOrder>> {
        let orders = self.steps.get(&key)?;
        orders.iter().find(|order| order.launch.step == step)
    }

    /// The rows that events since the last call changed.
    #[must_use]
    pub fn take_changes(&mut self) -> changes::Changes {
        let touched = std::mem::take(&mut self.touched);
        let mut changes = touched.changes;
        changes.jobs = touched
            .jobs
            .into_iter()
            .map(|id| (id, self.jobs.get(&id).cloned()))
            .collect();
        changes.orders = touched
            .orders
            .into_iter()
            .map(|(key, step)| (key, step, self.order_of(key, step).cloned()))
            .collect();
        changes.nodes = touched
            .nodes
            .into_iter()
            .map(|id| (id.0, self.nodes.get(&id).cloned()))
            .collect();
        changes.keys = touched
            .keys
            .into_iter()
            .map(|key| (key, self.keys.get(&key).cloned()))
            .collect();
        changes.invitations = touched
            .invitations
            .into_iter()
            .map(|token| (token, self.invitations.get(&token).cloned()))
            .collect();
        changes.rules = touched
            .rules
            .into_iter()
            .map(|(noun, name)| {
                let settings = self.rules.settings(noun, &name);
                (noun, name, settings)
            })
            .collect();
        changes.usage = touched
            .members
            .into_iter()
            .filter_map(|member| Some((member.clone(), self.books.usage(&member)?)))
            .collect();
        changes.counters = touched.counters.then(|| self.counters.clone());
        changes
    }

    /// What a key is known as.
    #[must_use]
    pub fn key(&self, key: KeyId) -> Option<&Arc<KnownKey>> {
        self.keys.get(&key)
    }

    /// A hot job.
    #[must_use]
    pub fn job(&self, id: JobId) -> Option<&Arc<Job>> {
        self.jobs.get(&id)
    }

    /// All hot jobs.
    pub fn jobs(&self) -> impl Iterator<Item = &Arc<Job>> {
        self.jobs.values()
    }

    /// A slot of a hot job.
    #[must_use]
    pub fn slot(&self, key: SlotKey) -> Option<&crate::model::job::Slot> {
        self.jobs.get(&key.job)?.slot(key.slot)
    }

    /// The hot job that has this number or the element with this raw id, and the position.
    #[must_use]
    pub fn by_raw_id(&self, raw: u32) -> Option<(&Arc<Job>, u32)> {
        snapshot::by_raw_id(&self.jobs, raw)
    }

    /// Whether the planner may start something of this job now.
    fn is_eligible(job: &Job) -> bool {
        job.hold == Hold::None
            && job.waits_for.is_empty()
            && job.not_before.is_none()
            && job.reason != Reason::DependencyNeverSatisfied
            && !job.pending.is_empty()
    }

    /// Enters a job in every index.
    fn index_in(&mut self, job: &Job) {
        if Self::is_eligible(job) {
            self.queue.enter(job);
        }
        self.tally.add(&Class::of(job), Held::by_job(job));
        if let Some(at) = job.not_before {
            self.timed.insert((at, job.id));
        }
        for target in dependency::targets(job) {
            self.dependants.entry(target).or_default().insert(job.id);
        }
        if dependency::waits_alone(job) {
            self.singletons.insert(job.id);
        }
        for slot in &job.slots {
            let key = SlotKey {
                job: job.id,
                slot: slot.id,
            };
            match slot.queue.len() {
                0 => _ = self.idle.insert(key),
                1 => {}
                _ => _ = self.stocked.insert(key),
            }
            if job.spec.requeue && !slot.leases.is_empty() {
                self.leased.insert(key);
            }
            if !slot.begun {
                self.gathering.insert(key);
            }
            if let Some(until) = grace_ends(slot) {
                self.warned.insert((until, key));
            }
            if slot.stops.lent_to.is_some() {
                self.lending.insert(key);
            }
        }
    }

    /// Takes a job out of every index.
    fn index_out(&mut self, job: &Job) {
        if Self::is_eligible(job) {
            self.queue.leave(job);
        }
        self.tally.remove(&Class::of(job), Held::by_job(job));
        if let Some(at) = job.not_before {
            self.timed.remove(&(at, job.id));
        }
        for target in dependency::targets(job) {
            if let Some(waiting) = self.dependants.get_mut(&target) {
                waiting.remove(&job.id);
                if waiting.is_empty() {
                    self.dependants.remove(&target);
                }
            }
        }
        self.singletons.remove(&job.id);
        for slot in &job.slots {
            let key = SlotKey {
                job: job.id,
                slot: slot.id,
            };
            self.idle.remove(&key);
            self.stocked.remove(&key);
            self.leased.remove(&key);
            self.gathering.remove(&key);
            if let Some(until) = grace_ends(slot) {
                self.warned.remove(&(until, key));
            }
            self.lending.remove(&key);
        }
    }

    fn remember(&mut self, id: JobId, outcome: Outcome) {
        if self.recent.insert(id, outcome).is_none() {
            self.recent_order.push_back(id);
        }
        while self.recent_order.len() > RECENT_MAX {
            if let Some(oldest) = self.recent_order.pop_front() {
                self.recent.remove(&oldest);
            }
        }
    }

    /// Takes a grant off what is free on its nodes.
    fn take_off(&mut self, allocation: &crate::model::allocation::Allocation) {
        for share in &allocation.nodes {
            if let Some(node) = self.nodes.get_mut(&share.node) {
                let node = Arc::make_mut(node);
                node.cpus_free = node.cpus_free.subtract(&share.cpus);
                node.memory_granted_mib = node.memory_granted_mib.saturating_add(share.memory_mib);
                node.gpus_free.retain(|gpu| !share.gpus.contains(gpu));
            }
        }
    }

    /// Gives it back. What the node no longer has (it registered with less) is not made up.
    fn give_back(&mut self, allocation: &crate::model::allocation::Allocation) {
        for share in &allocation.nodes {
            if let Some(node) = self.nodes.get_mut(&share.node) {
                let node = Arc::make_mut(node);
                let topology = &node.inventory.topology;
                let has: crate::model::cpu_set::CpuSet =
                    topology.cpus.iter().map(|cpu| cpu.id).collect();
                node.cpus_free = node.cpus_free.union(&share.cpus.intersect(&has));
                let there: Vec<u32> = topology.gpus.iter().map(|gpu| gpu.index).collect();
                for gpu in share.gpus.iter().filter(|gpu| there.contains(gpu)) {
                    if !node.gpus_free.contains(gpu) {
                        node.gpus_free.push(*gpu);
                    }
                }
                node.gpus_free.sort_unstable();
                node.memory_granted_mib = node.memory_granted_mib.saturating_sub(share.memory_mib);
            }
        }
    }
}

#[cfg(test)]
mod tests;
