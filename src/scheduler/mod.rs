//! THE PLAN. Pure: what is free and who waits go in, what to start comes out.
//!
//! [`plan`] is called by the live controller and by the simulator alike. It reads no clock and keeps no
//! state between calls; its work is bounded by counts, so the same view always gives the same plan. Its
//! answer is only a proposal: the cluster checks every entry against the present before it adopts it.
//!
//! Jobs that are alike are one group ([`queue`]), and groups are looked at in the order of their first jobs ([`order`]:
//! tier, priority, submission, number). The first job of a partition that does not fit is kept a place, and others start
//! in the gaps before it ([`backfill`]); what a limit holds back waits alone ([`limits`]).
//!
//! Read [`view`] (what it sees), [`plan`](Plan) (what it says), then [`backfill`] over a [`pool`]: of [`nodes`] here, of
//! processors without places in the replay of a trace, which has [`timeline`] and [`predict`] besides. [`place`] picks the
//! cores, [`priority`] and [`shares`] say who goes first, [`feasible`] what could never run. [`packing`] has
//! the rules by which shares of GPUs are given out, for the simulator so far.

mod asking;
pub mod backfill;
pub mod bookings;
mod ends;
pub mod evict;
pub mod explain;
pub mod feasible;
pub mod forecast;
pub mod lend;
pub mod limits;
mod lineup;
pub mod nodes;
pub mod occupancy;
pub mod order;
pub mod pace;
pub mod packing;
mod patience;
pub mod place;
pub mod plan;
pub mod pool;
pub mod predict;
pub mod priority;
pub mod queue;
pub mod shares;
pub mod timeline;
mod turns;
pub mod view;

pub use asking::{jobs_ahead, would_place};
pub use occupancy::slot_stay;
pub use plan::{Entry, Plan};
pub use view::View;

use crate::model::allocation::Allocation;
use crate::model::ids::{JobId, SlotKey};
use crate::model::job::{Job, Reason, Slot};
use crate::model::resource::Request;
use crate::model::rules::Rules;
use crate::model::time::Timestamp;
use backfill::{Pass, Running};
use bookings::{Booking, Stage};
use ends::{added, merged};
use evict::Evictions;
use lend::Loans;
use limits::{Check, Held, Tally};
use nodes::{Ask, NodePool, Parts};
use order::{ClassRank, Orders, Ranker};
use place::Picks;
use pool::Pool;
use priority::Weights;
use queue::{Group, GroupKey};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use turns::{Turn, Turns};

/// Which rule starts jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rule {
    /// In order; the first that does not fit blocks its partition.
    Fcfs,
    /// The first of each partition that does not fit is kept a place; others start in the gaps, in order.
    #[default]
    Easy,
    /// The same, gaps filled with the shortest first.
    EasySjbf,
    /// Each that does not fit is kept a place, up to [`KEPT_MAX`].
    Conservative,
}

/// How jobs are ordered and started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Policy {
    /// Who starts when.
    pub rule: Rule,
    /// Who goes first.
    pub weights: Weights,
}

/// Bounds on the work of one pass, in counts rather than seconds.
const STARTS_MAX: usize = 4096;
/// Most places kept in one pass.
pub const KEPT_MAX: usize = 100;

/// Milliseconds that a job may run.
fn length_ms(limit_s: Option<u32>) -> i64 {
    limit_s.map_or(occupancy::NEVER.0, |seconds| i64::from(seconds) * 1000)
}

/// What to start, extend, and why the rest waits.
#[must_use]
pub fn plan(view: &View<'_>, now: Timestamp, policy: Policy) -> Plan {
    plan_again(view, now, policy, &mut Orders::default())
}

/// The same, with what an earlier pass over the same queue found out.
#[must_use]
pub fn plan_again(view: &View<'_>, now: Timestamp, policy: Policy, orders: &mut Orders) -> Plan {
    if view.queue.is_empty() {
        return Plan::default();
    }
    run(view, now, policy, Some(Picks::default()), orders).0
}

/// The same without cores: which jobs would start, and how much of which nodes each would have.
#[must_use]
pub fn sketch(view: &View<'_>, now: Timestamp, policy: Policy) -> (Plan, Vec<Sketched>) {
    sketch_again(view, now, policy, &mut Orders::default())
}

/// The same, with what an earlier pass over the same queue found out.
#[must_use]
pub fn sketch_again(
    view: &View<'_>,
    now: Timestamp,
    policy: Policy,
    orders: &mut Orders,
) -> (Plan, Vec<Sketched>) {
    if view.queue.is_empty() {
        return (Plan::default(), Vec::new());
    }
    run(view, now, policy, None, orders)
}

/// A pass inside each reservation that is on, and one over all that is not reserved.
fn run(
    view: &View<'_>,
    now: Timestamp,
    policy: Policy,
    picks: Option<Picks>,
    orders: &mut Orders,
) -> (Plan, Vec<Sketched>) {
    let (mut plan, sketched) = stages(view, now, policy, picks, orders);
    plan.again = plan.again.into_iter().chain(view.next_patience(now)).min();
    (plan, sketched)
}

fn stages(
    view: &View<'_>,
    now: Timestamp,
    policy: Policy,
    picks: Option<Picks>,
    orders: &mut Orders,
) -> (Plan, Vec<Sketched>) {
    orders.renew(now, policy.weights, view.queue.heads().len());
    if view.bookings.is_empty() {
        let mut planner = Planner::new(view, now, policy, picks, None, orders);
        planner.run();
        *orders = planner.orders;
        return (planner.plan, planner.sketched);
    }
    let mut sum = (Plan::default(), Vec::new());
    let mut carried = (picks, Tally::default(), Parts::new());
    let reserved = view.queue.heads().iter().any(|head| head.is_reserved);
    let inside = view.bookings.on(now).filter(|_| reserved);
    for booking in inside.map(Some).chain([None]) {
        let stage = match booking {
            Some(booking) => Stage::inside(view, booking, now),
            None => Stage::open(view, now),
        };
        let staged = stage.view(view);
        let mut planner = Planner::new(&staged, now, policy, carried.0, booking, orders);
        planner.added = carried.1;
        planner.pass.free.take(&carried.2);
        planner.licensed = carried.2;
        planner.run();
        *orders = planner.orders;
        sum.0.extend(planner.plan);
        sum.1.extend(planner.sketched);
        carried = (planner.picks, planner.added, planner.licensed);
    }
    let edge = view.bookings.next_edge(now);
    sum.0.again = sum.0.again.into_iter().chain(edge).min();
    sum
}

/// An element that would start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sketched {
    /// Whose.
    pub job: JobId,
    /// What it would have.
    pub parts: Parts,
    /// What of that others would lend it.
    pub loans: Loans,
}

/// What became of a job's turn.
enum Advance {
    /// Everything it asked for is granted.
    Satisfied,
    /// It waits for something that others of its group need not wait for.
    Held(Reason),
    /// It waits, and so do all of its group.
    GroupHeld(Reason),
    /// It waits for room, and so do all of its group.
    NoRoom,
}

/// What is known of a shape during a pass.
#[derive(Clone)]
struct ShapeState<'a> {
    /// Where it may go, once somebody needed that.
    ask: Option<Ask<'a>>,
    /// The shortest job for which there was no room. There is none for longer ones either: room only shrinks.
    failed: i64,
}

/// One pass over the groups.
struct Planner<'a> {
    view: View<'a>,
    now: Timestamp,
    policy: Policy,
    ranker: Ranker<'a>,
    ranks: Vec<ClassRank>,
    pass: Pass<NodePool>,
    turns: Turns,
    /// What is known of the order.
    orders: Orders,
    /// By class: the number of its partition.
    partitions: Vec<usize>,
    /// By shape: whether there might be room for it at all.
    might: Vec<bool>,
    /// By partition: the first of the groups for which there can be no room. Only that can matter, as the one that is kept
    /// a place.
    aside: Vec<Option<Turn>>,
    /// By partition: whether a job of it waits for room.
    has_head: Vec<bool>,
    /// By shape, or by group where it matters who asks.
    shapes: Vec<ShapeState<'a>>,
    everyone: bool,
    /// Whether jobs of any class may take places of others.
    some_take: bool,
    /// By group, where it matters to nodes how long a job runs: the number of its shape and its time.
    by_time: Option<Vec<usize>>,
    /// None = which cores is of no interest.
    picks: Option<Picks>,
    sketched: Vec<Sketched>,
    /// Granted in this pass.
    added: Tally,
    has_limits: bool,
    /// Slots that were given more in this pass, and when they end now.
    extended: BTreeMap<SlotKey, i64>,
    evictions: Evictions<'a>,
    /// The reservation that this is about; none = all that is not reserved.
    inside: Option<&'a Booking>,
    /// Licences that were taken.
    licensed: Parts,
    /// Ends and shares of what this pass started.
    started: Vec<(i64, Parts)>,
    /// Partitions of which a job waits for room.
    blocked: Vec<&'a str>,
    /// Jobs that are to be kept a place as soon as somebody else could take it.
    waiting: Vec<(usize, &'a Job)>,
    by_length: bool,
    /// There was room for the job that is looked at where it would rather not be.
    rather_waits: bool,
    plan: Plan,
}

impl<'a> Planner<'a> {
    fn new(
        view: &View<'a>,
        now: Timestamp,
        policy: Policy,
        picks: Option<Picks>,
        inside: Option<&'a Booking>,
        orders: &mut Orders,
    ) -> Self {
        let ranker = view.ranker(policy.weights, orders.at(now));
        let classes = view.queue.classes();
        let ranks =
            classes.map(|class| class.map_or_else(ClassRank::default, |class| ranker.class(class)));
        let everyone = view.pool.serves_everyone();
        let by_time = patience::shapes_by_time(view, now);
        let classes = view.queue.classes();
        let takes = classes.map(|class| class.is_some_and(|class| evict::takes(view.rules, class)));
        let evictions = Evictions::new(takes.collect(), view, now);
        let blank = ShapeState {
            ask: None,
            failed: i64::MAX,
        };
        let mut count = if let Some((_, count)) = by_time.as_ref().filter(|_| everyone) {
            *count
        } else if everyone {
            view.queue.shapes().count()
        } else {
            view.queue.heads().len()
        };
        if !view.queue.patience().is_empty() {
            count *= 2;
        }
        let mut planner = Planner {
            view: *view,
            now,
            policy,
            ranker,
            ranks: ranks.collect(),
            pass: Pass::new(now.0, view.pool.for_pass()),
            turns: Turns::default(),
            orders: std::mem::take(orders),
            partitions: Vec::new(),
            might: Vec::new(),
            aside: Vec::new(),
            has_head: Vec::new(),
            shapes: vec![blank; count],
            everyone,
            some_take: false,
            by_time: by_time.map(|(places, _)| places),
            picks,
            sketched: Vec::new(),
            added: Tally::default(),
            has_limits: has_limits(view.rules),
            extended: BTreeMap::new(),
            evictions,
            inside,
            licensed: Parts::new(),
            started: Vec::new(),
            blocked: Vec::new(),
            waiting: Vec::new(),
            by_length: false,
            rather_waits: false,
            plan: Plan::default(),
        };
        if inside.is_none() {
            bookings::book(&mut planner.pass, view, now);
        }
        planner.line_up();
        planner
    }

    fn push(&mut self, turn: Turn) {
        let Reverse((_, order, at)) = turn;
        let head = &self.view.queue.heads()[at];
        // A partition of which nobody waits for room yet is still looked at in order.
        let fills = self.by_length && self.has_head[self.partitions[head.class as usize]];
        let length = if fills { length_ms(head.limit_s) } else { 0 };
        self.turns.push(Reverse((length, order, at)));
    }

    fn run(&mut self) {
        self.keep_promises();
        while self.plan.entries.len() + self.sketched.len() < STARTS_MAX
            && let Some((Reverse((_, order, at)), row)) = self.next_turn()
        {
            if self.is_hopeless(at, order.id) {
                if let Some(row) = row {
                    self.thin(row);
                }
                continue;
            }
            let Some(group) = self.view.queue.group(at) else {
                continue;
            };
            let one = (order.submitted, order.id);
            let Some(job) = self.view.jobs.get(&order.id) else {
                self.next_of_group(at, group, one);
                continue;
            };
            self.rather_waits = false;
            match self.advance(at, group, job) {
                Advance::Satisfied => self.next_of_group(at, group, one),
                Advance::Held(reason) => {
                    self.plan.blocked.push((job.id, reason));
                    self.next_of_group(at, group, one);
                }
                Advance::GroupHeld(reason) => {
                    // What runs already may go on: that adds nothing.
                    if matches!(&reason, Reason::Limit(_)) {
                        self.next_running(at, group, job);
                    }
                    let mut held = self.plan.held.iter().rev();
                    if !held.any(|(key, _)| *key == *group.key) {
                        self.plan.held.push(((*group.key).clone(), reason));
                    }
                    self.bring_back(self.class_of(at));
                }
                Advance::NoRoom => {
                    self.no_room(at, group, job);
                    match self.policy.rule {
                        // All of its group have their turns.
                        Rule::Conservative => {}
                        _ if self.rather_waits => self.next_of_group(at, group, one),
                        _ => {
                            self.next_patient(at, group, one);
                            self.next_running(at, group, job);
                        }
                    }
                    if let Some(row) = row {
                        self.thin(row);
                    }
                }
            }
        }
    }

    /// Whether those without room are passed over: where there are limits, one of them may be the reason.
    fn skips_hopeless(&self) -> bool {
        !self.has_limits && self.policy.rule != Rule::Conservative
    }

    /// Whether it is known without a look at the job that there is no room for it and nothing more to say of it.
    fn is_hopeless(&self, at: usize, id: JobId) -> bool {
        let head = &self.view.queue.heads()[at];
        let runs = head.first.runs || head.first.id != id;
        let takes = self.evictions.may_take(head.class as usize);
        if runs || takes || !self.skips_hopeless() {
            return false;
        }
        let partition = self.partitions[head.class as usize];
        self.has_head[partition]
            && length_ms(head.limit_s) >= self.shapes[self.shape_of(at, id)].failed
    }

    /// The next job of a group waits for its turn, the one behind this.
    fn next_of_group(&mut self, at: usize, group: &Group, (submitted, id): (Timestamp, JobId)) {
        let one = queue::Member {
            submitted,
            id,
            runs: false,
        };
        if let Some(next) = group.after(&one) {
            let rank = &self.ranks[self.class_of(at)];
            let order = self.ranker.key(rank, &group.key, &next);
            self.push(Reverse((0, order, at)));
        }
    }

    /// The next job of a group that holds something already waits for its turn.
    fn next_running(&mut self, at: usize, group: &Group, job: &Job) {
        if let Some(next) = group.running_after((job.submitted, job.id)) {
            let rank = &self.ranks[self.class_of(at)];
            let order = self.ranker.key(rank, &group.key, &next);
            self.push(Reverse((0, order, at)));
        }
    }

    fn class_of(&self, at: usize) -> usize {
        self.view.queue.heads()[at].class as usize
    }

    /// From now on gaps are filled, the shortest first.
    fn shortest_first(&mut self) {
        self.by_length = true;
        for turn in self.all_turns() {
            self.push(turn);
        }
    }

    /// A job found no room: it is kept a place, or stands in the way of those behind it.
    fn no_room(&mut self, at: usize, group: &'a Group, job: &'a Job) {
        let partition: &'a str = &group.key.class.partition;
        let is_first = !self.blocked.contains(&partition);
        let keeps = match self.policy.rule {
            Rule::Fcfs | Rule::Easy | Rule::EasySjbf => is_first,
            Rule::Conservative => self.blocked.len() < KEPT_MAX,
        };
        if !keeps {
            return;
        }
        let ask = self.ask(at, group, job);
        if !self.view.emptied.fits(&ask) {
            // Its nodes are away: others need not wait for it.
            let switches = self.waits_for_switches(self.view.emptied, &ask, job.id);
            let reason = switches.unwrap_or(Reason::ReqNodeNotAvail);
            self.plan.held.push(((*group.key).clone(), reason));
            self.bring_back(self.class_of(at));
            return;
        }
        let lacks = self.pass.free.lacks_licenses(&ask)
            && self
                .pass
                .free
                .find(&NodePool::without_licenses(&ask))
                .is_some();
        let reason = if lacks {
            Reason::Licenses
        } else {
            self.waits_for_others(&ask, job)
        };
        self.plan.blocked.push((job.id, reason));
        self.blocked.push(partition);
        let number = self.partitions[self.class_of(at)];
        self.has_head[number] = true;
        if self.policy.rule != Rule::Fcfs {
            self.waiting.push((at, job));
        }
        match self.policy.rule {
            Rule::EasySjbf => self.shortest_first(),
            // Each of its group is kept a place of its own.
            Rule::Conservative => self.next_of_group(at, group, (job.submitted, job.id)),
            Rule::Fcfs | Rule::Easy => {}
        }
    }

    /// Keeps places for those that wait for one, now that somebody else could take it.
    fn keep_places(&mut self) {
        for (at, job) in std::mem::take(&mut self.waiting) {
            let Some(group) = self.view.queue.group(at) else {
                continue;
            };
            let ask = self.ask(at, group, job);
            let length = length_ms(group.key.limit_s);
            if let Some(shadow) = self.reserve_off_flaky(&ask, length)
                && shadow < occupancy::NEVER.0
            {
                self.plan.kept.push((job.id, Timestamp(shadow)));
            }
        }
    }

    /// Keeps a place, as early as there is one: where it is asked for, or just these parts.
    fn reserve(&mut self, ask: Result<&Ask<'_>, &Parts>, length: i64) -> Option<i64> {
        let now = self.now.0;
        let (idle, slots) = (self.view.idle, self.view.occupancy);
        let (extended, told) = (&self.extended, &self.evictions.told);
        let added = added(&self.started, extended, told, idle, slots, now);
        let known = |key: &SlotKey| {
            idle.contains(key) || extended.contains_key(key) || told.contains_key(key)
        };
        let running = slots
            .iter()
            .filter(|(_, key, _)| !known(key))
            .map(|(ends, _, parts)| (ends.0.max(now), parts));
        let added = added.iter().map(|(ends, parts)| (*ends, &**parts));
        let running = merged(running, added);
        let running = running.map(|(ends, share)| Running { ends, share });
        match ask {
            Ok(ask) => self.pass.reserve(ask, length, running),
            Err(parts) => self.pass.reserve_exactly(parts, length, running),
        }
    }

    /// Where what is known of the asks of a job of a group stands. Whoever takes any switches by now has the second half.
    fn shape_of(&self, at: usize, id: JobId) -> usize {
        let place = match &self.by_time {
            Some(places) if self.everyone => places[at],
            None if self.everyone => self.view.queue.heads()[at].shape as usize,
            _ => at,
        };
        match self.view.takes_any_switches(id, self.now) {
            true => place + self.shapes.len() / 2,
            false => place,
        }
    }

    /// Whether it may be on any node that accepts work, whoever asks.
    fn goes_anywhere(&self, request: &Request, partition: &str) -> bool {
        let partition = self.view.rules.partitions.get(partition);
        self.everyone
            && partition.is_none_or(|partition| partition.nodes.is_empty())
            && request.nodelist.is_empty()
            && request.exclude.is_empty()
            && request.wishes.constraint.is_none()
            && request.wishes.switches.is_none()
            && !request.takes_nothing()
    }

    fn ask(&mut self, at: usize, group: &'a Group, job: &Job) -> Ask<'a> {
        let place = self.shape_of(at, job.id);
        let request: &'a Request = &group.key.request;
        let anywhere = self.goes_anywhere(request, &group.key.class.partition);
        let (view, now) = (&self.view, self.now);
        let ask = self.shapes[place].ask.get_or_insert_with(|| {
            let ask = match anywhere {
                true => view.pool.ask_anywhere(request),
                false => view.pool.ask(request, view.open_to(job)),
            };
            view.as_wanted(ask, job, now)
        });
        ask.clone()
    }

    /// Gives one job what it can have now: more positions for its slots, then new slots.
    fn advance(&mut self, at: usize, group: &'a Group, job: &'a Job) -> Advance {
        let key = &*group.key;
        let partition = self.view.rules.partitions.get(key.class.partition.as_str());
        if partition.is_some_and(|partition| !partition.up) {
            return Advance::GroupHeld(Reason::PartitionDown);
        }
        if let Some(why) = self.inside.and_then(|booking| self.kept_out(booking, key)) {
            return Advance::GroupHeld(Reason::Reservation(why));
        }
        let strict = self.policy.rule == Rule::Fcfs && !key.request.takes_nothing();
        if strict && self.blocked.contains(&&*key.class.partition) {
            return Advance::NoRoom;
        }
        let length = length_ms(key.limit_s);
        let served = self.evictions.served(job.id);
        let mut waiting = u64::from(job.pending.len().saturating_sub(served));
        let slots = u32::try_from(job.slots.len()).unwrap_or(u32::MAX);
        let slots = slots.saturating_add(served);
        // A throttle may have been lowered since: slots beyond it run out.
        let most = usize::try_from(job.spec.throttle()).unwrap_or(usize::MAX);
        for slot in job.slots.iter().take(most) {
            if waiting == 0 {
                return Advance::Satisfied;
            }
            let count = pace::extension(job, slot, waiting, slots, self.now);
            if count > 0 && self.may_go_on(job, slot, length) {
                waiting -= u64::from(count);
                self.plan.entries.push(Entry::Extend {
                    job: job.id,
                    slot: slot.id,
                    count,
                });
            }
        }
        self.start_some(at, group, job, (waiting, slots), None).0
    }

    /// Why jobs of a group do not run in their reservation now.
    fn kept_out(&self, booking: &Booking, key: &GroupKey) -> Option<String> {
        let name = &booking.name;
        let known = self.view.rules.reservations.get(&**name);
        if !known.is_some_and(|one| one.admits(&key.class.user, &key.class.account)) {
            return Some(format!("reservation {name} is for others"));
        }
        let over = self.now.plus_ms(length_ms(key.limit_s)) > booking.end;
        over.then(|| format!("its time limit goes beyond the end of reservation {name}"))
    }

    /// Starts so many of a job's positions, as long as there is room; the other number is of slots
    /// that it has already. `rather` with just these parts. What came of it, and how many are left.
    fn start_some(
        &mut self,
        at: usize,
        group: &'a Group,
        job: &'a Job,
        (mut waiting, mut slots): (u64, u32),
        rather: Option<&Parts>,
    ) -> (Advance, u64) {
        let key = &*group.key;
        let length = length_ms(key.limit_s);
        while waiting > 0 {
            if slots >= job.spec.throttle() {
                return (Advance::Held(Reason::JobArrayTaskLimit), waiting);
            }
            if self.plan.entries.len() + self.sketched.len() >= STARTS_MAX {
                return (Advance::Held(Reason::Priority), waiting);
            }
            if let Some(reason) = self.over_limit(key, slots == 0) {
                return (Advance::GroupHeld(reason), waiting);
            }
            let Some(parts) = self.place(at, group, job, length, rather) else {
                // Others stand still, and it starts.
                match self.borrow(at, group, job, length, slots == 0) {
                    Ok(Some(borrowed)) => {
                        self.count_in(key, &borrowed.parts, slots == 0);
                        slots += 1;
                        waiting -= match borrowed.allocation {
                            Some(allocation) => self.grant(job, allocation, waiting, slots),
                            None => 1,
                        };
                        continue;
                    }
                    Ok(None) => {}
                    Err(reason) => return (Advance::GroupHeld(reason), waiting),
                }
                // Others make room: it is as good as started.
                match self.make_room(at, group, job, length, (slots == 0, rather)) {
                    Ok(Some(parts)) => {
                        self.plan.blocked.push((job.id, Reason::Resources));
                        self.count_in(key, &parts, slots == 0);
                        slots += 1;
                        waiting -= 1;
                        continue;
                    }
                    Ok(None) => {}
                    Err(reason) => return (Advance::GroupHeld(reason), waiting),
                }
                return (Advance::NoRoom, waiting);
            };
            // Once more with what it would really have: whole nodes, memory that goes with cpus.
            if let Some(reason) = self.over_limit_with(key, &parts, slots == 0) {
                return (Advance::GroupHeld(reason), waiting);
            }
            self.take(&parts, length);
            self.count_in(key, &parts, slots == 0);
            slots += 1;
            let Some(picks) = &mut self.picks else {
                waiting -= 1;
                self.sketched.push(Sketched {
                    job: job.id,
                    parts,
                    loans: Loans::new(),
                });
                continue;
            };
            let found = picks.pick(self.view.nodes, &self.pass.free, &parts);
            let Some(allocation) = found else {
                return (Advance::NoRoom, waiting);
            };
            waiting -= self.grant(job, allocation, waiting, slots);
        }
        (Advance::Satisfied, 0)
    }

    /// Starts a slot of a job; how many positions it takes of those that wait.
    fn grant(&mut self, job: &Job, allocation: Allocation, waiting: u64, slots: u32) -> u64 {
        let count = pace::first_block(job, waiting, slots, allocation.nodes.len());
        self.plan.entries.push(Entry::Start {
            job: job.id,
            allocation,
            count,
        });
        u64::from(count)
    }

    fn place(
        &mut self,
        at: usize,
        group: &'a Group,
        job: &'a Job,
        length: i64,
        rather: Option<&Parts>,
    ) -> Option<Parts> {
        if let Some(parts) = rather.filter(|parts| self.pass.holds(parts, length)) {
            return Some(parts.clone());
        }
        let shape = self.shape_of(at, job.id);
        if length >= self.shapes[shape].failed {
            return None;
        }
        let ask = self.ask(at, group, job);
        if !self.waiting.is_empty() && self.pass.free.fits(&ask) {
            self.keep_places();
        }
        // As long as no place is kept, there is no room for shorter ones either.
        let is_full = self.pass.kept().is_empty();
        let found = self.pass.find(&ask, length);
        let found = found.or_else(|| self.find_on_flaky(&ask, length));
        // Of one that is kept off nodes each has to be looked at.
        if found.is_none() && ask.on_flaky_too().is_none() {
            self.shapes[shape].failed = if is_full { 0 } else { length };
        }
        found
    }

    fn take(&mut self, parts: &Parts, length: i64) {
        self.pass.take(parts, length);
        let licenses = parts.iter().filter(|part| !part.is_of_node());
        self.licensed.extend(licenses.copied());
        self.started
            .push((self.now.plus_ms(length).0, parts.clone()));
    }

    /// Whether a slot may be given more, as far as its nodes and those who wait for it go.
    fn may_go_on(&mut self, job: &Job, slot: &Slot, length: i64) -> bool {
        let open = |id| {
            let node = self.view.nodes.get(&id);
            node.is_some_and(|node| node.accepts_work())
        };
        if !slot.allocation.nodes.iter().all(|share| open(share.node)) {
            return false;
        }
        self.keep_places();
        let key = SlotKey {
            job: job.id,
            slot: slot.id,
        };
        let gone = &self.evictions;
        if gone.told.contains_key(&key) || gone.stopped.contains_key(&key) {
            return false;
        }
        let (Some(ends), Some(parts)) = (
            self.view.occupancy.ends(key),
            self.view.occupancy.parts(key),
        ) else {
            return false;
        };
        let ends = if slot.queue.is_empty() {
            self.now
        } else {
            ends.max(self.now)
        };
        let goes_on = self.pass.extend(parts, ends.0, length);
        if goes_on {
            self.extended.insert(key, ends.plus_ms(length).0);
        }
        goes_on
    }

    fn over_limit(&self, key: &GroupKey, is_new: bool) -> Option<Reason> {
        let ends = self.now.plus_ms(length_ms(key.limit_s));
        self.beyond(key, Held::by_request(&key.request, ends), is_new)
    }

    fn over_limit_with(&self, key: &GroupKey, parts: &Parts, is_new: bool) -> Option<Reason> {
        let ends = self.now.plus_ms(length_ms(key.limit_s));
        self.beyond(key, Held::by_parts(parts, ends), is_new)
    }

    fn beyond(&self, key: &GroupKey, more: Held, is_new: bool) -> Option<Reason> {
        if !self.has_limits {
            return None;
        }
        let more = more.with_job(false, is_new);
        let check = Check {
            rules: self.view.rules,
            tally: self.view.tally,
            now: self.now,
        };
        let hit = check.holds(&key.class, &more, &self.added)?;
        Some(Reason::Limit(Box::new(hit)))
    }

    fn count_in(&mut self, key: &GroupKey, parts: &Parts, is_new: bool) {
        if !self.has_limits {
            return;
        }
        let ends = self.now.plus_ms(length_ms(key.limit_s));
        let held = Held::by_parts(parts, ends).with_job(false, is_new);
        self.added.add(&key.class, held);
    }
}

/// Whether any level says any limit.
fn has_limits(rules: &Rules) -> bool {
    let partitions = rules.partitions.values().map(|one| &one.limits);
    let qos = rules.qos.values().map(|one| &one.limits);
    let users = rules.users.values().map(|one| &one.limits);
    let accounts = rules.accounts.values().map(|one| &one.limits);
    let mut levels = partitions.chain(qos).chain(users).chain(accounts);
    levels.any(|limits| !limits.is_empty())
}

#[cfg(test)]
mod tests;
