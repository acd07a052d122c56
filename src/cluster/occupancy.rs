//! The books that follow what runs: until when at the latest, what is in use of limits, who is charged.

use super::Cluster;
use crate::model::fading::Fading;
use crate::model::history::EndedJob;
use crate::model::ids::{JobId, NodeId, SlotId, SlotKey};
use crate::model::job::{Job, Slot};
use crate::model::node::Node;
use crate::model::time::Timestamp;
use crate::scheduler::bookings::Bookings;
use crate::scheduler::limits::Held;
use crate::scheduler::nodes::NodePool;
use crate::scheduler::queue::Class;
use crate::scheduler::shares::Member;
use std::sync::Arc;

/// How many run times are remembered.
const PARTS_RUN_MAX: usize = 1_000;
/// For how long standings are good.
const STANDINGS_MS: i64 = 200;
/// How often the books of those are stored for whom something runs.
const STORED_MS: i64 = 60_000;
/// How often it is worked out when what is reserved comes again.
const BOOKED_MS: i64 = 86_400_000;

impl Cluster {
    /// A slot holds its nodes: from `now` on, or as before a restart.
    pub(super) fn occupy(&mut self, job: &Job, slot: &Slot, now: Option<Timestamp>) {
        let key = SlotKey {
            job: job.id,
            slot: slot.id,
        };
        let parts = self.all_parts(job, slot);
        let stay = self.stay_of(job, slot);
        self.recount(slot);
        self.charge(job, slot, now);
        self.tally
            .add(&Class::of(job), Held::by_slot(&slot.allocation, stay.limit));
        self.occupancy.enter(key, stay, parts);
        if !job.spec.request.wishes.licenses.is_empty() {
            self.count_licenses();
        }
        self.loans_stale |= slot.stops.depth > 0;
    }

    /// The nodes have changed: what is free on them is counted anew.
    pub(super) fn survey(&mut self) {
        self.pool = NodePool::under(&self.rules, &self.nodes);
        self.emptied = self.pool.emptied();
        self.count_licenses();
        self.booked_until = Timestamp::default();
    }

    /// A node was lost so often of late.
    pub(super) fn failures_changed(&mut self, node: NodeId, failures: Fading) {
        if let Some(known) = self.nodes.get_mut(&node) {
            Arc::make_mut(known).failures = failures;
            self.touched.nodes.insert(node);
            self.survey();
        }
    }

    /// The clock was set: when nodes failed is told by it.
    pub(super) fn failures_step(&mut self, by_ms: i64) {
        let failed = |node: &&Arc<Node>| node.failures.amount > 0.0;
        let ids: Vec<NodeId> = self
            .nodes
            .values()
            .filter(failed)
            .map(|node| node.id)
            .collect();
        for id in &ids {
            if let Some(node) = self.nodes.get_mut(id) {
                let failures = &mut Arc::make_mut(node).failures;
                failures.at = failures.at.plus_ms(by_ms);
                self.touched.nodes.insert(*id);
            }
        }
        if !ids.is_empty() {
            self.survey();
        }
    }

    /// What is reserved, as seen from now on.
    pub(super) fn book(&mut self, now: Timestamp) {
        if now >= self.booked_until {
            self.bookings = Bookings::of(&self.rules, &self.nodes, &self.pool, now);
            // A day from now there are others, of those that come again.
            self.booked_until = now.plus_ms(BOOKED_MS);
        }
    }

    /// Licences that are free are counted anew.
    fn count_licenses(&mut self) {
        let parts = self.occupancy.iter().map(|(.., parts)| parts);
        self.pool.count_licenses(parts);
    }

    /// There are other licences: what runs holds them by other places.
    pub(super) fn licenses_changed(&mut self) {
        self.survey();
        // Promised licences are known by their places too.
        let nodes_only = |promise: &crate::scheduler::plan::Promise| {
            promise.parts.iter().all(|part| part.is_of_node())
        };
        self.promised.retain(nodes_only);
        let licensed = |job: &&Arc<Job>| !job.spec.request.wishes.licenses.is_empty();
        let jobs: Vec<Arc<Job>> = self.jobs.values().filter(licensed).cloned().collect();
        for job in &jobs {
            for slot in &job.slots {
                let key = SlotKey {
                    job: job.id,
                    slot: slot.id,
                };
                let known = self.occupancy.stay(key).zip(self.occupancy.parts(key));
                if let Some((stay, parts)) = known {
                    let nodes = parts.iter().filter(|part| part.is_of_node()).copied();
                    let parts = nodes.chain(self.pool.licenses_of(job)).collect();
                    self.occupancy.enter(key, stay, parts);
                }
            }
        }
        self.count_licenses();
        self.loans_stale = true;
    }

    /// What is free on a slot's nodes has changed.
    fn recount(&mut self, slot: &Slot) {
        for share in &slot.allocation.nodes {
            if let Some(node) = self.nodes.get(&share.node) {
                self.pool.recount(node);
            }
        }
    }

    /// A slot holds nothing any more.
    pub(super) fn vacate(&mut self, job: &Job, slot: &Slot, now: Timestamp) {
        let key = SlotKey {
            job: job.id,
            slot: slot.id,
        };
        self.loans_stale |= self.occupancy.sharing(key).is_some();
        if let Some(stay) = self.occupancy.stay(key) {
            let held = Held::by_slot(&slot.allocation, stay.limit);
            self.tally.remove(&Class::of(job), held);
            self.occupancy.leave(key);
        }
        self.recount(slot);
        if !job.spec.request.wishes.licenses.is_empty() {
            self.count_licenses();
        }
        if let Some(member) = self.books.end(key, now) {
            self.touched.members.insert(member);
        }
    }

    /// A job's limit was changed: what it runs ends at another time.
    pub(super) fn ends_move(&mut self, id: JobId) {
        let Some(job) = self.jobs.get(&id) else {
            return;
        };
        let slots: Vec<SlotId> = job.slots.iter().map(|slot| slot.id).collect();
        for slot in slots {
            self.end_moves(id, slot);
        }
    }

    /// What a slot runs ends at another time: its next element has begun.
    pub(super) fn end_moves(&mut self, id: JobId, slot: SlotId) {
        let Some(job) = self.jobs.get(&id).cloned() else {
            return;
        };
        let Some(slot) = job.slot(slot) else { return };
        let after = self.stay_of(&job, slot);
        self.stays(&job, slot, after);
        self.loans_stale |= self
            .occupancy
            .sharing(SlotKey {
                job: id,
                slot: slot.id,
            })
            .is_some();
    }

    /// How long a job ran of what it might.
    pub(super) fn learn(&mut self, ended: &EndedJob) {
        let (Some(started), Some(limit_s)) = (ended.started, ended.spec.time_limit_s) else {
            return;
        };
        // Of an array the whole says nothing of its elements.
        if ended.spec.array.is_some() || limit_s == 0 {
            return;
        }
        let part_milli = ended.ended.minus(started).max(0) / i64::from(limit_s);
        self.parts_run
            .push_back(u32::try_from(part_milli).unwrap_or(1000).min(1000));
        if self.parts_run.len() > PARTS_RUN_MAX {
            self.parts_run.pop_front();
        }
    }

    /// Draws up where everybody stands, unless that was done a moment ago and nobody is new.
    pub(super) fn stand(&mut self, now: Timestamp) {
        let age_ms = now.minus(self.standings_at);
        let waiting = || {
            let classes = self.tally.iter();
            classes.map(|(class, _)| (class.account.clone(), Arc::clone(&class.user)))
        };
        let is_fresh = (0..STANDINGS_MS).contains(&age_ms);
        if is_fresh && waiting().all(|member| self.standings.knows(&member)) {
            return;
        }
        self.books.settle(now);
        let also: Vec<Member> = waiting().collect();
        self.standings = Arc::new(self.books.standings(&self.rules, now, also));
        self.standings_at = now;
        if now.minus(self.members_stored_at) >= STORED_MS {
            self.members_stored_at = now;
            self.touched.members.extend(self.books.busy().cloned());
        }
    }
}
