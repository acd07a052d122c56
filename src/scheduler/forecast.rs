//! When jobs that wait will start, if nothing else comes: the planner run forward on a copy of the books.
//!
//! At each step of time what has ended by then is given back and the planner is asked again; what it would start is
//! entered as running until its limit, or for a part of it ([`Assume`]). Steps are short at first and grow with the
//! distance where many wait, so that a queue of a hundred thousand takes a second; a start is told as the step at which it is
//! due.

use super::bookings::Bookings;
use super::lend::{Loans, own_of};
use super::limits::{Held, Tally};
use super::nodes::{NodePool, Parts, cpus_among, less, plus};
use super::occupancy::slot_start;
use super::occupancy::{NEVER, Occupancy, Sharing, Stay};
use super::order::Orders;
use super::plan::{Entry, Promise};
use super::pool::Pool;
use super::queue::{Class, Queue};
use super::shares::Standings;
use super::view::View;
use super::{Policy, has_limits, length_ms, sketch_again};
use crate::model::ids::{JobId, NodeId, SlotId, SlotKey};
use crate::model::index_set::IndexSet;
use crate::model::job::{Hold, Job};
use crate::model::node::Node;
use crate::model::rules::Rules;
use crate::model::time::Timestamp;
use imbl::OrdMap;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The first steps; milliseconds.
const STEP_MS: i64 = 1_000;
/// Later steps are such a part of the time from now.
const STEP_PART: i64 = 120;
/// Up to so many jobs are forecast to the end of each.
const SHORT: usize = 1_000;
/// Most elements that are started in a forecast.
const STARTS_MAX: usize = 250_000;
/// Most steps.
const STEPS_MAX: usize = 20_000;

/// A copy of what the planner sees, to be changed.
#[derive(Debug, Clone)]
pub struct Outlook {
    /// All nodes.
    pub nodes: OrdMap<NodeId, Arc<Node>>,
    /// All hot jobs.
    pub jobs: OrdMap<JobId, Arc<Job>>,
    /// Eligible jobs.
    pub queue: Queue,
    /// What runs.
    pub occupancy: Occupancy,
    /// What is free.
    pub pool: NodePool,
    /// The same with nothing granted.
    pub emptied: NodePool,
    /// Slots whose work is done.
    pub idle: BTreeSet<SlotKey>,
    /// For whom others were told to make room.
    pub promised: Vec<Promise>,
    /// What is reserved.
    pub bookings: Bookings,
    /// What an administrator decided.
    pub rules: Arc<Rules>,
    /// Where everybody stands.
    pub standings: Arc<Standings>,
    /// Who goes first and who starts.
    pub policy: Policy,
    /// What is in use of limits.
    pub tally: Tally,
}

impl Outlook {
    /// What the planner sees of it.
    #[must_use]
    pub fn view(&self) -> View<'_> {
        self.view_with(&self.tally)
    }

    fn view_with<'a>(&'a self, tally: &'a Tally) -> View<'a> {
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
            tally,
            standings: &self.standings,
        }
    }
}

/// What is assumed of run times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Assume {
    /// Jobs run for such a part of their limits; thousandths.
    pub part_milli: u32,
}

impl Assume {
    /// Every job runs until its limit: the latest starts there can be.
    pub const LIMITS: Assume = Assume { part_milli: 1000 };

    fn part_of(self, span_ms: i64) -> i64 {
        if span_ms >= NEVER.0 {
            return span_ms;
        }
        (span_ms / 1000)
            .saturating_mul(i64::from(self.part_milli))
            .max(1)
    }
}

/// When jobs start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Forecast {
    /// When this was seen.
    pub at: Timestamp,
    /// Starts, of arrays the next element's. Who is not named waits for something else, or for longer than was looked.
    pub starts: BTreeMap<JobId, Timestamp>,
}

/// The run forward.
struct Run {
    outlook: Outlook,
    tally: Tally,
    /// What limits count: whose, what, and until when.
    counted: BTreeMap<SlotKey, (Class, Parts, Timestamp)>,
    has_limits: bool,
    next_slot: u32,
    assume: Assume,
    /// What passes find out of the order.
    orders: Orders,
    /// Elements that made room and wait again once they have gone.
    again: BTreeSet<SlotKey>,
    /// What others lent.
    loans: BTreeMap<SlotKey, Loans>,
}

/// Forecasts all starts, or those until this job's.
#[must_use]
pub fn forecast(
    outlook: &Outlook,
    now: Timestamp,
    assume: Assume,
    until: Option<JobId>,
) -> Forecast {
    let mut run = Run::new(outlook.clone(), now, assume);
    let mut starts = BTreeMap::new();
    let mut started = 0;
    let mut at = now;
    let is_short = run.outlook.queue.len() <= SHORT;
    for _ in 0..STEPS_MAX {
        let (begun, again) = run.step(at);
        started += begun.len();
        for id in begun {
            starts.entry(id).or_insert(at);
        }
        let is_known = until.is_some_and(|id| starts.contains_key(&id));
        if is_known || run.outlook.queue.is_empty() || started >= STARTS_MAX {
            break;
        }
        let edge = run.outlook.bookings.next_edge(at);
        let again = again.filter(|again| *again > at);
        let Some(next) = run.next_end().into_iter().chain(edge).chain(again).min() else {
            break;
        };
        // What is reserved later is not known.
        if next > run.outlook.bookings.known_until() {
            break;
        }
        let step = STEP_MS.max(at.minus(now) / STEP_PART);
        // Of few jobs each end is looked at by itself.
        at = if is_short {
            next
        } else {
            next.max(at.plus_ms(step))
        };
        run.end_until(at);
    }
    Forecast { at: now, starts }
}

impl Run {
    fn new(mut outlook: Outlook, now: Timestamp, assume: Assume) -> Self {
        let has_limits = has_limits(&outlook.rules);
        let mut tally = Tally::default();
        if has_limits {
            for job in outlook.jobs.values() {
                tally.add(&Class::of(job), Held::by_job(job));
            }
        }
        let running: Vec<(Timestamp, SlotKey)> = outlook
            .occupancy
            .iter()
            .map(|(ends, key, _)| (ends, key))
            .collect();
        let mut counted = BTreeMap::new();
        let mut loans: BTreeMap<SlotKey, Loans> = BTreeMap::new();
        let mut lenders = Vec::new();
        for (latest, key) in running {
            let job = outlook.jobs.get(&key.job);
            let slot = job.and_then(|job| job.slot(key.slot));
            let ends = match slot {
                _ if outlook.idle.contains(&key) => now,
                Some(slot) => expected_end(slot_start(slot), latest, now, assume),
                None => latest,
            };
            if let Some(sharing) = outlook.occupancy.sharing(key) {
                if let Some(back) = sharing.back {
                    lenders.push((back, key, latest));
                }
                if !sharing.from.is_empty() {
                    loans.insert(key, sharing.from.clone());
                }
            }
            if let Some(stay) = outlook.occupancy.stay(key) {
                outlook.occupancy.moves(key, Stay { ends, ..stay });
            }
            if let (true, Some(job), Some(parts)) = (has_limits, job, outlook.occupancy.parts(key))
            {
                tally.add(&Class::of(job), Held::by_parts(parts, ends));
                counted.insert(key, (Class::of(job), parts.clone(), ends));
            }
        }
        // Who stands still goes on when those have ended who have its cpus.
        lenders.sort_unstable();
        for (back, key, latest) in lenders {
            let borrowers = loans.iter();
            let has = |from: &Loans| from.iter().any(|(lender, _)| *lender == key);
            let borrowers = borrowers.filter(|(_, from)| has(from));
            let until = borrowers.filter_map(|(borrower, _)| outlook.occupancy.ends(*borrower));
            let until = until.max().unwrap_or(now);
            let left = assume.part_of(latest.minus(back).max(0));
            if let Some(stay) = outlook.occupancy.stay(key) {
                let ends = until.plus_ms(left).min(NEVER);
                outlook.occupancy.moves(key, Stay { ends, ..stay });
            }
        }
        outlook.idle.clear();
        outlook.queue.note(now, &outlook.bookings);
        let mut run = Run {
            outlook,
            tally,
            counted,
            has_limits,
            next_slot: 1 << 30,
            assume,
            orders: Orders::pinned(now),
            again: BTreeSet::new(),
            loans,
        };
        // From here on each element is by itself: slots are not given more.
        let arrays: Vec<Arc<Job>> = run
            .outlook
            .queue
            .groups()
            .flat_map(|(_, group)| group.jobs())
            .filter(|member| member.runs)
            .filter_map(|member| run.outlook.jobs.get(&member.id).cloned())
            .collect();
        for job in arrays {
            run.change(&job, |job| {
                job.slots = Vec::new();
                job.pace_us = 0;
            });
        }
        run.end_until(now);
        run
    }

    fn change(&mut self, before: &Arc<Job>, change: impl FnOnce(&mut Job)) {
        self.outlook.queue.leave(before);
        let mut after = (**before).clone();
        change(&mut after);
        if !after.pending.is_empty() {
            self.outlook.queue.enter(&after);
        }
        self.outlook.jobs.insert(after.id, Arc::new(after));
    }

    /// Starts what the planner would; which jobs, and when there will be more to say.
    fn step(&mut self, at: Timestamp) -> (Vec<JobId>, Option<Timestamp>) {
        let outlook = &mut self.outlook;
        outlook.queue.note(at, &outlook.bookings);
        let mut orders = std::mem::take(&mut self.orders);
        let view = self.outlook.view_with(&self.tally);
        let (plan, starts) = sketch_again(&view, at, self.outlook.policy, &mut orders);
        self.orders = orders;
        self.evict(&plan.entries, at);
        self.outlook.promised = plan.promised;
        let again = plan.again;
        let mut counts: BTreeMap<JobId, u32> = BTreeMap::new();
        let mut begun = Vec::with_capacity(starts.len());
        for one in starts {
            let (id, parts) = (one.job, one.parts);
            let Some(job) = self.outlook.jobs.get(&id) else {
                continue;
            };
            *counts.entry(id).or_default() += 1;
            begun.push(id);
            let length = self.assume.part_of(length_ms(job.spec.time_limit_s));
            let ends = at.plus_ms(length);
            let key = SlotKey {
                job: id,
                slot: SlotId(self.next_slot),
            };
            self.next_slot += 1;
            let own = own_of(&parts, &one.loans);
            self.outlook.pool.take(&own);
            if self.has_limits {
                let class = Class::of(job);
                self.tally.add(&class, Held::by_parts(&parts, ends));
                self.counted.insert(key, (class, parts, ends));
            }
            self.outlook.occupancy.enter(key, Stay::new(at, ends), own);
            self.lend(key, ends, one.loans, at);
        }
        for (id, count) in counts {
            let Some(job) = self.outlook.jobs.get(&id).cloned() else {
                continue;
            };
            // All of it has started: out of the queue nobody looks at it.
            if count >= job.pending.len() {
                self.outlook.queue.leave(&job);
            } else {
                self.change(&job, |job| {
                    let taken: IndexSet = job.pending.take_first(count);
                    job.pending.subtract(&taken);
                });
            }
        }
        (begun, again)
    }

    /// Has those make room that the planner wants gone.
    fn evict(&mut self, entries: &[Entry], at: Timestamp) {
        for entry in entries {
            let Entry::Evict {
                job,
                slot,
                grace_ms,
                again,
                ..
            } = entry
            else {
                continue;
            };
            let key = SlotKey {
                job: *job,
                slot: *slot,
            };
            let Some(stay) = self.outlook.occupancy.stay(key) else {
                continue;
            };
            let ends = at.plus_ms(*grace_ms).min(stay.ends);
            self.ends_at(
                key,
                Stay {
                    ends,
                    leaves: true,
                    ..stay
                },
            );
            if *again {
                self.again.insert(key);
            }
        }
    }

    /// One that made room is back in the queue.
    fn wait_again(&mut self, key: SlotKey) {
        let Some(job) = self.outlook.jobs.get(&key.job).cloned() else {
            return;
        };
        if job.hold != Hold::None {
            return;
        }
        // Which of the positions it was makes no difference here.
        let mut all = IndexSet::from_range(0, job.spec.count());
        // Of one that had started as a whole nothing waits, whatever its record says.
        let waits = self.outlook.queue.has(&job);
        if waits {
            all.subtract(&job.pending);
        }
        self.change(&job, |job| {
            if !waits {
                job.pending = IndexSet::new();
            }
            job.pending.union_with(&all.take_first(1));
            job.slots = Vec::new();
        });
    }

    /// Something ends at another time; what limits count follows.
    fn ends_at(&mut self, key: SlotKey, stay: Stay) {
        if let Some((class, parts, ends)) = self.counted.get_mut(&key) {
            self.tally.remove(class, Held::by_parts(parts, *ends));
            self.tally.add(class, Held::by_parts(parts, stay.ends));
            *ends = stay.ends;
        }
        self.outlook.occupancy.moves(key, stay);
    }

    /// These stand still until somebody has ended who has cpus of theirs.
    fn lend(&mut self, borrower: SlotKey, until: Timestamp, loans: Loans, at: Timestamp) {
        for (key, loan) in &loans {
            let occupancy = &mut self.outlook.occupancy;
            let Some(parts) = occupancy.parts(*key) else {
                continue;
            };
            let known = occupancy.sharing(*key).filter(|one| one.back.is_some());
            let known = known.cloned();
            let mut sharing = known.unwrap_or_else(|| Sharing {
                idle: cpus_among(parts),
                ..Sharing::default()
            });
            let back = sharing.back.unwrap_or(at).max(at);
            sharing.idle = less(&sharing.idle, loan);
            sharing.lent = plus(&sharing.lent, loan);
            sharing.back = Some(back.max(until));
            occupancy.share(*key, sharing);
            // It has come so far; what is left of its time begins then. So it is with those below it.
            let longer = until.minus(back).max(0);
            let below = self.loans.get(key).into_iter().flatten();
            let below: Vec<SlotKey> = below.map(|(below, _)| *below).collect();
            for key in below.into_iter().chain([*key]) {
                if let Some(stay) = self.outlook.occupancy.stay(key) {
                    let ends = stay.ends.plus_ms(longer).min(NEVER);
                    self.ends_at(key, Stay { ends, ..stay });
                }
            }
        }
        if !loans.is_empty() {
            self.loans.insert(borrower, loans);
        }
    }

    /// Somebody has ended: its lenders have their cpus again, and go on once they have all.
    fn give_back(&mut self, borrower: SlotKey) {
        for (key, loan) in self.loans.remove(&borrower).into_iter().flatten() {
            let occupancy = &mut self.outlook.occupancy;
            let Some(mut sharing) = occupancy.sharing(key).cloned() else {
                continue;
            };
            sharing.idle = plus(&sharing.idle, &loan);
            sharing.lent = less(&sharing.lent, &loan);
            if sharing.lent.iter().all(|part| part.amount.cpus == 0) {
                sharing = Sharing::default();
            }
            occupancy.share(key, sharing);
        }
    }

    fn next_end(&self) -> Option<Timestamp> {
        let first = self.outlook.occupancy.iter().next();
        first.map(|(ends, ..)| ends).filter(|ends| *ends < NEVER)
    }

    fn end_until(&mut self, at: Timestamp) {
        loop {
            let first = self.outlook.occupancy.iter().next();
            let Some((ends, key)) = first.map(|(ends, key, _)| (ends, key)) else {
                return;
            };
            if ends > at {
                return;
            }
            let Some(parts) = self.outlook.occupancy.leave(key) else {
                return;
            };
            self.outlook.pool.give(&parts);
            self.give_back(key);
            if let Some((class, parts, ends)) = self.counted.remove(&key) {
                self.tally.remove(&class, Held::by_parts(&parts, ends));
            }
            if self.again.remove(&key) {
                self.wait_again(key);
            }
        }
    }
}

/// When something that runs ends: after its part of its limit, or, if it has outlived that, after the same part of what is
/// left.
fn expected_end(began: Timestamp, latest: Timestamp, now: Timestamp, assume: Assume) -> Timestamp {
    if latest >= NEVER {
        return latest;
    }
    let first = began.plus_ms(assume.part_of(latest.minus(began)));
    if first > now {
        return first;
    }
    now.plus_ms(assume.part_of(latest.minus(now).max(0)))
}
