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

pub mod backfill;
pub mod feasible;
pub mod limits;
pub mod nodes;
pub mod occupancy;
pub mod order;
pub mod pace;
pub mod packing;
pub mod place;
pub mod plan;
pub mod pool;
pub mod predict;
pub mod priority;
pub mod queue;
pub mod shares;
pub mod timeline;
pub mod view;

pub use plan::{Entry, Plan};
pub use view::View;

use crate::model::allocation::Allocation;
use crate::model::ids::{JobId, SlotKey};
use crate::model::job::{Job, Reason, Slot};
use crate::model::time::Timestamp;
use backfill::{Pass, Running};
use limits::{Check, Held, Tally};
use nodes::{Ask, NodePool, Parts, admits, is_open};
use order::{OrderKey, Ranker};
use place::Picks;
use priority::Weights;
use queue::GroupKey;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

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
    if view.queue.is_empty() {
        return Plan::default();
    }
    Planner::new(view, now, policy).run()
}

/// A group during a pass.
struct Candidates<'a> {
    key: &'a GroupKey,
    /// Jobs behind the first that is being looked at.
    rest: std::collections::btree_set::Iter<'a, (Timestamp, JobId)>,
    /// Groups that ask for the same of the same nodes.
    shape: usize,
}

/// A group in the heap: when its turn comes, and its place among the groups.
type Turn = Reverse<(i64, OrderKey, usize)>;

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

/// One pass over the groups.
struct Planner<'a> {
    view: View<'a>,
    now: Timestamp,
    policy: Policy,
    ranker: Ranker<'a>,
    pass: Pass<NodePool<'a>>,
    groups: Vec<Candidates<'a>>,
    turns: BinaryHeap<Turn>,
    /// By shape: the ask, once somebody needed it.
    asks: Vec<Option<Ask<'a>>>,
    /// By shape: the shortest job for which there was no room. There is none for longer ones either: room only shrinks.
    failed: Vec<i64>,
    picks: Picks,
    /// Granted in this pass.
    added: Tally,
    has_limits: bool,
    /// Ends and shares of what this pass started.
    started: Vec<(Timestamp, Parts)>,
    /// Partitions of which a job waits for room.
    blocked: Vec<&'a str>,
    plan: Plan,
}

impl<'a> Planner<'a> {
    fn new(view: &View<'a>, now: Timestamp, policy: Policy) -> Self {
        let pool = NodePool::of(view.nodes.values().map(|node| &**node));
        let ranker = Ranker::new(*view, &pool, policy.weights, now);
        let mut groups: Vec<Candidates<'a>> = Vec::new();
        let mut turns = Vec::new();
        let mut shapes = 0;
        for (key, jobs) in view.queue.groups() {
            let mut rest = jobs.iter();
            let Some((submitted, id)) = rest.next() else {
                continue;
            };
            let same = groups.last().is_some_and(|before| {
                let one = before.key;
                Arc::ptr_eq(&one.request, &key.request)
                    && one.class.partition == key.class.partition
                    && one.class.user == key.class.user
                    && one.class.uid == key.class.uid
            });
            if !same {
                shapes += 1;
            }
            turns.push(Reverse((0, ranker.key(key, *submitted, *id), groups.len())));
            groups.push(Candidates {
                key,
                rest,
                shape: shapes - 1,
            });
        }
        let rules = view.rules;
        let levels = rules.partitions.values().map(|one| &one.limits);
        let levels = levels.chain(rules.qos.values().map(|one| &one.limits));
        let levels = levels.chain(rules.users.values().map(|one| &one.limits));
        let mut levels = levels.chain(rules.accounts.values().map(|one| &one.limits));
        Planner {
            view: *view,
            now,
            policy,
            ranker,
            pass: Pass::new(now.0, pool),
            groups,
            turns: turns.into(),
            asks: vec![None; shapes],
            failed: vec![i64::MAX; shapes],
            picks: Picks::default(),
            added: Tally::default(),
            has_limits: levels.any(|limits| !limits.is_empty()),
            started: Vec::new(),
            blocked: Vec::new(),
            plan: Plan::default(),
        }
    }

    fn run(mut self) -> Plan {
        let mut by_length = false;
        while self.plan.entries.len() < STARTS_MAX
            && let Some(Reverse((_, order, at))) = self.turns.pop()
        {
            let Some(job) = self.view.jobs.get(&order.id) else {
                self.next_of_group(at, by_length);
                continue;
            };
            match self.advance(at, job) {
                Advance::Satisfied => self.next_of_group(at, by_length),
                Advance::Held(reason) => {
                    self.plan.blocked.push((job.id, reason));
                    self.next_of_group(at, by_length);
                }
                Advance::GroupHeld(reason) => {
                    self.plan.held.push((self.groups[at].key.clone(), reason));
                }
                Advance::NoRoom => {
                    self.no_room(at, job);
                    if self.policy.rule == Rule::EasySjbf
                        && !by_length
                        && !self.pass.kept().is_empty()
                    {
                        by_length = true;
                        self.shortest_first();
                    }
                }
            }
        }
        self.plan
    }

    /// The next job of a group waits for its turn.
    fn next_of_group(&mut self, at: usize, by_length: bool) {
        let group = &mut self.groups[at];
        if let Some((submitted, id)) = group.rest.next() {
            let order = self.ranker.key(group.key, *submitted, *id);
            let length = if by_length {
                length_ms(group.key.limit_s)
            } else {
                0
            };
            self.turns.push(Reverse((length, order, at)));
        }
    }

    /// From now on gaps are filled, the shortest first.
    fn shortest_first(&mut self) {
        let turns = std::mem::take(&mut self.turns).into_vec();
        let turns = turns.into_iter().map(|Reverse((_, order, at))| {
            Reverse((length_ms(self.groups[at].key.limit_s), order, at))
        });
        self.turns = turns.collect::<Vec<_>>().into();
    }

    /// A job found no room: it is kept a place, or stands in the way of those behind it.
    fn no_room(&mut self, at: usize, job: &'a Job) {
        let key = self.groups[at].key;
        let partition: &'a str = &key.class.partition;
        let is_first = !self.blocked.contains(&partition);
        let keeps = match self.policy.rule {
            Rule::Fcfs | Rule::Easy | Rule::EasySjbf => is_first,
            Rule::Conservative => self.pass.kept().len() < KEPT_MAX,
        };
        if !keeps {
            return;
        }
        let ask = self.ask(at, job);
        let length = length_ms(key.limit_s);
        let mut running: Vec<(i64, &Parts)> = Vec::new();
        let mut idle = Vec::new();
        for (ends, slot, parts) in self.view.occupancy.iter() {
            if self.view.idle.contains(&slot) {
                idle.push((self.now.0, parts));
            } else {
                running.push((ends.0.max(self.now.0), parts));
            }
        }
        idle.extend(running);
        let mut running = idle;
        if !self.started.is_empty() {
            running.extend(self.started.iter().map(|(ends, parts)| (ends.0, parts)));
            running.sort_by_key(|(ends, _)| *ends);
        }
        let running: Vec<Running<'_, Parts>> = running
            .into_iter()
            .map(|(ends, share)| Running { ends, share })
            .collect();
        match self.pass.reserve(&ask, length, &running) {
            Some(shadow) => {
                self.plan.blocked.push((job.id, Reason::Resources));
                self.plan.kept.push((job.id, Timestamp(shadow)));
                self.blocked.push(partition);
            }
            // Its nodes are away: others need not wait for it.
            None => self.plan.held.push((key.clone(), Reason::ReqNodeNotAvail)),
        }
    }

    fn ask(&mut self, at: usize, job: &'a Job) -> Ask<'a> {
        let Candidates { key, shape, .. } = &self.groups[at];
        let (view, pool) = (&self.view, &self.pass.free);
        let request: &'a crate::model::resource::Request = &key.request;
        let ask = self.asks[*shape].get_or_insert_with(|| {
            let partition = view.rules.partitions.get(key.class.partition.as_str());
            let there = |node: &crate::model::node::Node| {
                is_open(request, node) && admits(request, &job.owner, partition, node)
            };
            pool.ask(request, there)
        });
        ask.clone()
    }

    /// Gives one job what it can have now: more positions for its slots, then new slots.
    fn advance(&mut self, at: usize, job: &'a Job) -> Advance {
        let key = self.groups[at].key;
        let partition = self.view.rules.partitions.get(key.class.partition.as_str());
        if partition.is_some_and(|partition| !partition.up) {
            return Advance::GroupHeld(Reason::PartitionDown);
        }
        let strict = self.policy.rule == Rule::Fcfs && !key.request.takes_nothing();
        if strict && self.blocked.contains(&&*key.class.partition) {
            return Advance::NoRoom;
        }
        let length = length_ms(key.limit_s);
        let mut waiting = u64::from(job.pending.len());
        let mut slots = u32::try_from(job.slots.len()).unwrap_or(u32::MAX);
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
        while waiting > 0 {
            if slots >= job.spec.throttle() {
                return Advance::Held(Reason::JobArrayTaskLimit);
            }
            if self.plan.entries.len() >= STARTS_MAX {
                return Advance::Held(Reason::Priority);
            }
            if let Some(reason) = self.over_limit(key, slots == 0) {
                return Advance::GroupHeld(reason);
            }
            let Some(allocation) = self.place(at, job, length) else {
                return Advance::NoRoom;
            };
            self.count_in(key, &allocation, slots == 0);
            slots += 1;
            let count = pace::first_block(job, waiting, slots, allocation.nodes.len());
            waiting -= u64::from(count);
            self.plan.entries.push(Entry::Start {
                job: job.id,
                allocation,
                count,
            });
        }
        Advance::Satisfied
    }

    fn place(&mut self, at: usize, job: &'a Job, length: i64) -> Option<Allocation> {
        let shape = self.groups[at].shape;
        if length >= self.failed[shape] {
            return None;
        }
        let ask = self.ask(at, job);
        let found = self.pass.start(&ask, length);
        let Some(parts) = found else {
            self.failed[shape] = length;
            return None;
        };
        let allocation = self.picks.pick(&self.pass.free, &parts)?;
        self.started.push((self.now.plus_ms(length), parts));
        Some(allocation)
    }

    /// Whether a slot may be given more, as far as its nodes and those who wait for it go.
    fn may_go_on(&mut self, job: &Job, slot: &Slot, length: i64) -> bool {
        let open = |id| {
            self.view
                .nodes
                .get(&id)
                .is_some_and(|node| node.accepts_work())
        };
        if !slot.allocation.nodes.iter().all(|share| open(share.node)) {
            return false;
        }
        if self.pass.kept().is_empty() {
            return true;
        }
        let key = SlotKey {
            job: job.id,
            slot: slot.id,
        };
        let (Some(ends), Some(parts)) = (
            self.view.occupancy.ends(key),
            self.view.occupancy.parts(key),
        ) else {
            return false;
        };
        let ends = if slot.queue.is_empty() {
            self.now
        } else {
            ends
        };
        self.pass.extend(parts, ends.0, length)
    }

    fn over_limit(&self, key: &GroupKey, is_new: bool) -> Option<Reason> {
        if !self.has_limits {
            return None;
        }
        let ends = self.now.plus_ms(length_ms(key.limit_s));
        let more = Held::by_request(&key.request, ends).with_job(false, is_new);
        let check = Check {
            rules: self.view.rules,
            tally: self.view.tally,
            now: self.now,
        };
        let hit = check.holds(&key.class, &more, &self.added)?;
        Some(Reason::Limit(Box::new(hit)))
    }

    fn count_in(&mut self, key: &GroupKey, allocation: &Allocation, is_new: bool) {
        if !self.has_limits {
            return;
        }
        let ends = self.now.plus_ms(length_ms(key.limit_s));
        let held = Held::by_slot(allocation, ends).with_job(false, is_new);
        self.added.add(&key.class, held);
    }
}

/// Where a job would run now, for `--dry-run`; `None` when it would wait.
#[must_use]
pub fn would_place(view: &View<'_>, job: &Job) -> Option<Allocation> {
    use pool::Pool;
    let pool = NodePool::of(view.nodes.values().map(|node| &**node));
    let partition = view.rules.partitions.get(job.spec.partition.as_str());
    let request = &job.spec.request;
    let there = |node: &crate::model::node::Node| {
        is_open(request, node) && admits(request, &job.owner, partition, node)
    };
    let parts = pool.find(&pool.ask(request, there))?;
    Picks::default().pick(&pool, &parts)
}

/// Jobs ahead of this one in its partition's order.
#[must_use]
pub fn jobs_ahead(view: &View<'_>, weights: Weights, job: &Job, now: Timestamp) -> usize {
    let pool = NodePool::of(view.nodes.values().map(|node| &**node));
    let ranker = Ranker::new(*view, &pool, weights, now);
    let own = ranker.key(&GroupKey::of(job), job.submitted, job.id);
    let groups = view.queue.groups();
    let same = groups.filter(|(key, _)| key.class.partition == job.spec.partition);
    same.map(|(key, jobs)| {
        jobs.iter()
            .take_while(|(submitted, id)| ranker.key(key, *submitted, *id) < own)
            .count()
    })
    .sum()
}

/// When what a slot runs has ended at the latest: its time counts from its grant, or from its current element's start.
#[must_use]
pub fn slot_ends(slot: &Slot, limit_s: Option<u32>) -> Timestamp {
    let began = slot.current.map_or(slot.granted, |current| current.started);
    let began = began.max(slot.granted);
    match limit_s {
        Some(seconds) => began.plus_ms(i64::from(seconds) * 1000),
        None => occupancy::NEVER,
    }
}

#[cfg(test)]
mod tests;
