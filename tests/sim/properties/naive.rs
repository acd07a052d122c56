//! A planner without shortcuts: every job by itself in its order, no groups, nothing remembered of what failed, and
//! shadow times found by looking at every end in turn. Which nodes hold a job is asked of the same pool.
//!
//! Of places that are kept it knows what [`hpc::scheduler::backfill`] says: whoever starts must leave each place that
//! begins before its own end. It keeps one as soon as somebody waits, also where nobody is there who could take it.

use hpc::model::ids::{JobId, NodeId, SlotKey};
use hpc::model::job::Job;
use hpc::model::time::Timestamp;
use hpc::scheduler::limits::{Check, Held, Tally};
use hpc::scheduler::nodes::{Ask, NodePool, Parts, admits, is_open, patience_ms};
use hpc::scheduler::order::{OrderKey, Ranker};
use hpc::scheduler::place::Picks;
use hpc::scheduler::pool::Pool;
use hpc::scheduler::queue::{Class, GroupKey, Member};
use hpc::scheduler::{Entry, Policy, Rule, View, occupancy, pace};
use std::collections::{BTreeMap, BTreeSet};

/// What it would do.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Planned {
    pub(super) entries: Vec<Entry>,
    /// Those who wait for room and stand before others.
    pub(super) heads: Vec<JobId>,
    /// Those of them who are kept a place, each as soon as it waits.
    pub(super) kept: Vec<(JobId, Timestamp)>,
}

/// A place that is kept.
struct Place {
    shadow: i64,
    until: i64,
    parts: Parts,
}

impl Place {
    fn holds_at(&self, time: i64) -> bool {
        (self.shadow..self.until).contains(&time)
    }
}

pub(super) struct Naive<'a> {
    view: View<'a>,
    now: i64,
    rule: Rule,
    /// As it was, less what was started.
    free: NodePool,
    picks: Picks,
    /// All that runs, and when it has ended at the latest.
    running: BTreeMap<SlotKey, (i64, Parts)>,
    started: Vec<(i64, Parts)>,
    places: Vec<Place>,
    blocked: BTreeSet<String>,
    added: Tally,
    pub(super) planned: Planned,
}

fn length_ms(job: &Job) -> i64 {
    let limit_s = job.spec.time_limit_s;
    limit_s.map_or(occupancy::NEVER.0, |seconds| i64::from(seconds) * 1000)
}

/// A job's place in the order.
pub(super) fn order_key(ranker: &Ranker<'_>, job: &Job) -> OrderKey {
    let key = GroupKey::of(job);
    let member = Member {
        submitted: job.submitted,
        id: job.id,
        runs: job.is_running(),
    };
    ranker.key(&ranker.class(&key.class), &key, &member)
}

impl<'a> Naive<'a> {
    pub(super) fn plan(view: View<'a>, now: Timestamp, policy: Policy) -> Self {
        let free = NodePool::under(view.rules, view.nodes);
        let ranker = view.ranker(policy.weights, now);
        let waits = view.jobs.values().filter(|job| !job.pending.is_empty());
        let mut order: Vec<(OrderKey, &'a Job)> =
            waits.map(|job| (order_key(&ranker, job), &**job)).collect();
        order.sort_by_key(|(key, _)| *key);
        let running = view.occupancy.iter().map(|(ends, key, parts)| {
            let ends = if view.idle.contains(&key) { now } else { ends };
            (key, (ends.0.max(now.0), parts.clone()))
        });
        let mut naive = Naive {
            view,
            now: now.0,
            rule: policy.rule,
            running: running.collect(),
            free,
            picks: Picks::default(),
            started: Vec::new(),
            places: Vec::new(),
            blocked: BTreeSet::new(),
            added: Tally::default(),
            planned: Planned::default(),
        };
        while !order.is_empty() {
            let (_, job) = order.remove(0);
            naive.advance(job);
            if policy.rule == Rule::EasySjbf {
                // In partitions of which somebody waits for room, gaps are filled.
                let fills = |job: &Job| naive.blocked.contains(job.spec.partition.as_str());
                let length = |job: &Job| if fills(job) { length_ms(job) } else { 0 };
                order.sort_by_key(|(key, job)| (length(job), *key));
            }
        }
        naive
    }

    fn ask(&self, job: &'a Job) -> Ask<'a> {
        let partition = self.view.rules.partitions.get(job.spec.partition.as_str());
        let request = &job.spec.request;
        let there = |id: NodeId| {
            let node = &self.view.nodes[&id];
            is_open(request, node) && admits(request, &job.owner, partition, node)
        };
        let ask = self.free.ask(request, there);
        let (view, now) = (&self.view, Timestamp(self.now));
        let length = length_ms(job);
        view.pool.kept_off_flaky(ask, view.emptied, length, now)
    }

    fn advance(&mut self, job: &'a Job) {
        let partition = self.view.rules.partitions.get(job.spec.partition.as_str());
        let strict = self.rule == Rule::Fcfs && !job.spec.request.takes_nothing();
        if partition.is_some_and(|one| !one.up)
            || (strict && self.blocked.contains(job.spec.partition.as_str()))
        {
            return;
        }
        let (ask, length) = (self.ask(job), length_ms(job));
        let mut waiting = job.pending.len();
        let mut slots = u32::try_from(job.slots.len()).unwrap();
        for slot in job.slots.iter().take(job.spec.throttle() as usize) {
            let now = Timestamp(self.now);
            let count = pace::extension(job, slot, u64::from(waiting), slots, now);
            let key = SlotKey {
                job: job.id,
                slot: slot.id,
            };
            if waiting > 0 && count > 0 && self.goes_on(key, length) {
                waiting -= count;
                let slot = slot.id;
                self.planned.entries.push(Entry::Extend {
                    job: job.id,
                    slot,
                    count,
                });
            }
        }
        while waiting > 0 && slots < job.spec.throttle() {
            let class = Class::of(job);
            let ends = Timestamp(self.now).plus_ms(length);
            let more = Held::by_request(&job.spec.request, ends).with_job(false, slots == 0);
            let check = Check {
                rules: self.view.rules,
                tally: self.view.tally,
                now: Timestamp(self.now),
            };
            if check.holds(&class, &more, &self.added).is_some() {
                return;
            }
            let parts = self.room(&ask, length);
            let Some(parts) = parts.or_else(|| self.room_on_flaky(&ask, length)) else {
                return self.no_room(job, &ask, length);
            };
            // Once more with what it would really be given.
            let more = Held::by_parts(&parts, ends).with_job(false, slots == 0);
            if check.holds(&class, &more, &self.added).is_some() {
                return;
            }
            self.free.take(&parts);
            let allocation = self
                .picks
                .pick(self.view.nodes, &self.free, &parts)
                .unwrap();
            self.started.push((self.now.saturating_add(length), parts));
            let held = Held::by_slot(&allocation, ends).with_job(false, slots == 0);
            self.added.add(&class, held);
            (waiting, slots) = (waiting - 1, slots + 1);
            self.planned.entries.push(Entry::Start {
                job: job.id,
                allocation,
                count: 1,
            });
        }
    }

    /// Whether an idle slot may go on for so long: it leaves everybody who is kept a place what they count on.
    fn goes_on(&mut self, key: SlotKey, length: i64) -> bool {
        let until = self.now.saturating_add(length);
        let (ends, parts) = self.running[&key].clone();
        let counts_on_it = |place: &&Place| (ends..until).contains(&place.shadow);
        let mut places = self.places.iter().filter(counts_on_it);
        let open = parts
            .iter()
            .all(|part| self.view.nodes[&part.node].accepts_work());
        if !open || !places.all(|place| self.beside(place).holds(&parts)) {
            return false;
        }
        self.running.insert(key, (until, parts));
        true
    }

    /// Room now that leaves alone every place that begins before the job's end.
    fn room(&self, ask: &Ask<'a>, length: i64) -> Option<Parts> {
        let until = self.now.saturating_add(length);
        let in_the_way = self.places.iter().filter(|place| place.shadow < until);
        let beside: Vec<NodePool> = in_the_way.map(|place| self.beside(place)).collect();
        self.free
            .find_in_all(&beside.iter().collect::<Vec<_>>(), ask)
    }

    /// All ends of what runs.
    fn ends(&self) -> impl Iterator<Item = &(i64, Parts)> {
        self.running.values().chain(&self.started)
    }

    /// What is free at this time, before any place is taken.
    fn free_at(&self, time: i64) -> NodePool {
        let mut pool = self.free.clone();
        for (_, parts) in self.ends().filter(|(ends, _)| *ends <= time) {
            pool.give(parts);
        }
        pool
    }

    /// What is free when a kept place begins, beside it.
    fn beside(&self, place: &Place) -> NodePool {
        let mut pool = self.free_at(place.shadow);
        for other in &self.places {
            if std::ptr::eq(place, other) || other.holds_at(place.shadow) {
                pool.take(&other.parts);
            }
        }
        pool
    }

    /// Room on nodes that fail too, where there is none on others for long.
    fn room_on_flaky(&self, ask: &Ask<'a>, length: i64) -> Option<Parts> {
        let found = self.room(&ask.on_flaky_too()?, length)?;
        let until = self.now.saturating_add(patience_ms(length));
        let place = self.earliest(ask, length);
        let soon = place.is_some_and(|place| place.shadow <= until);
        (!soon).then_some(found)
    }

    fn no_room(&mut self, job: &'a Job, ask: &Ask<'a>, length: i64) {
        let partition = job.spec.partition.as_str();
        if self.rule != Rule::Conservative && self.blocked.contains(partition) {
            return;
        }
        if self.free.emptied().find(ask).is_none() {
            // Not even on an empty cluster: others need not wait for it.
            return;
        }
        self.blocked.insert(partition.to_owned());
        self.planned.heads.push(job.id);
        if self.rule == Rule::Fcfs {
            return;
        }
        let mut place = self.earliest(ask, length);
        if let Some(wide) = ask.on_flaky_too() {
            let until = self.now.saturating_add(patience_ms(length));
            let steady = place.as_ref().map_or(i64::MAX, |place| place.shadow);
            let other = self.earliest(&wide, length);
            if steady > until && other.as_ref().is_none_or(|other| other.shadow < steady) {
                place = other;
            }
        }
        if let Some(place) = place {
            if Timestamp(place.shadow) < occupancy::NEVER {
                self.planned.kept.push((job.id, Timestamp(place.shadow)));
            }
            self.places.push(place);
        }
    }

    /// The first place there is.
    fn earliest(&self, ask: &Ask<'a>, length: i64) -> Option<Place> {
        let places = self.places.iter();
        let changes = places.flat_map(|place| [place.shadow, place.until]);
        let ends = self.ends().map(|(ends, _)| *ends);
        let times: BTreeSet<i64> = changes.chain(ends).collect();
        for time in times {
            let until = time.saturating_add(length);
            let mut pool = self.free_at(time);
            for place in self.places.iter().filter(|place| place.holds_at(time)) {
                pool.take(&place.parts);
            }
            let later = self
                .places
                .iter()
                .filter(|place| time < place.shadow && place.shadow < until);
            let later: Vec<NodePool> = later.map(|place| self.beside(place)).collect();
            if let Some(parts) =
                pool.find_for_later(&later.iter().collect::<Vec<_>>(), &self.free, ask)
            {
                return Some(Place {
                    shadow: time,
                    until,
                    parts,
                });
            }
        }
        None
    }

    /// Whether this job could start beside all that was started, by the rule.
    pub(super) fn could_start(&self, job: &'a Job) -> bool {
        let blocked = self.blocked.contains(job.spec.partition.as_str());
        let strict = self.rule == Rule::Fcfs && !job.spec.request.takes_nothing();
        let (ask, length) = (self.ask(job), length_ms(job));
        let room = self.room(&ask, length);
        !(strict && blocked) && room.or_else(|| self.room_on_flaky(&ask, length)).is_some()
    }
}
