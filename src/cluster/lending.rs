//! apply and decide: slots that are stopped, and whose cpus are lent to others meanwhile.
//!
//! Whoever lends keeps its allocation. Cpus that several slots have are counted as held by the one that was granted first,
//! and used by the one that was granted last; at most one of them runs. So the sum of what is free and what is held stays
//! what the nodes have, and a borrower gives nothing back that is not its own.

use super::adopt::Given;
use super::{Cluster, Effect, Event};
use crate::model::allocation::NodeShare;
use crate::model::cpu_set::CpuSet;
use crate::model::ids::{JobId, NodeId, SlotId, SlotKey};
use crate::model::job::{Job, Slot};
use crate::model::preempt::PreemptMode;
use crate::model::time::Timestamp;
use crate::scheduler::evict::yields;
use crate::scheduler::limits::Held;
use crate::scheduler::nodes::{Part, Parts, Site};
use crate::scheduler::occupancy::{Sharing, Stay};
use crate::scheduler::queue::Class;
use crate::scheduler::shares::rate_milli;
use crate::scheduler::slot_stay;
use crate::wire::worker::ToSlot;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Cpus by node.
type Cpus = BTreeMap<NodeId, CpuSet>;

fn cpus_of(slot: &Slot) -> Cpus {
    let shares = slot.allocation.nodes.iter();
    shares
        .map(|share| (share.node, share.cpus.clone()))
        .collect()
}

fn overlap(one: &Cpus, other: &Cpus) -> bool {
    one.iter().any(|(node, cpus)| {
        let others = other.get(node);
        others.is_some_and(|others| !others.is_disjoint(cpus))
    })
}

fn unite(one: &mut Cpus, other: &Cpus) {
    for (node, cpus) in other {
        let known = one.entry(*node).or_default();
        *known = known.union(cpus);
    }
}

fn without(one: &Cpus, other: &Cpus) -> Cpus {
    let left = one.iter().map(|(node, cpus)| {
        let left = match other.get(node) {
            Some(others) => cpus.subtract(others),
            None => cpus.clone(),
        };
        (*node, left)
    });
    left.filter(|(_, cpus)| !cpus.is_empty()).collect()
}

fn as_parts(cpus: &Cpus) -> Parts {
    let parts = cpus
        .iter()
        .map(|(node, cpus)| Part::of_cpus(*node, cpus.len()));
    parts.collect()
}

/// A slot that shares cpus with others, or lends them.
struct Sharer {
    job: Arc<Job>,
    slot: SlotId,
    key: SlotKey,
    cpus: Cpus,
    lends: bool,
}

impl Sharer {
    fn slot(&self) -> Option<&Slot> {
        self.job.slot(self.slot)
    }
}

impl Cluster {
    /// Somebody asked to have a slot stopped, or go on.
    pub(super) fn suspended(
        &mut self,
        job: JobId,
        slot: SlotId,
        stop: bool,
        at: Timestamp,
        effects: &mut Vec<Effect>,
    ) {
        self.stops(job, slot, at, effects, |slot| slot.suspended = stop);
        self.end_moves(job, slot);
    }

    /// A slot lends its cpus to a job, or has them again (`None`).
    pub(super) fn lends(
        &mut self,
        job: JobId,
        slot: SlotId,
        to: Option<JobId>,
        at: Timestamp,
        effects: &mut Vec<Effect>,
    ) {
        self.stops(job, slot, at, effects, |slot| slot.stops.lent_to = to);
        if let Some(known) = self.jobs.get(&job).cloned()
            && let Some(slot) = known.slot(slot)
        {
            self.charge(&known, slot, Some(at));
        }
        self.recount_loans(Some(at));
        self.end_moves(job, slot);
        effects.push(Effect::Plan);
    }

    fn stops(
        &mut self,
        job: JobId,
        slot: SlotId,
        at: Timestamp,
        effects: &mut Vec<Effect>,
        change: impl FnOnce(&mut Slot),
    ) {
        self.change_slot(job, slot, |job, place| {
            let slot = &mut job.slots[place];
            change(slot);
            let stopped = slot.suspended || slot.stops.lent_to.is_some();
            slot.stops.turn(stopped, at);
        });
        self.tell(job, slot, effects, |_, slot| ToSlot::Suspend {
            stop: slot.is_stopped(),
        });
    }

    /// What a slot costs is charged from now on, or as before a restart: all that it holds, or what it keeps while it
    /// lends its cpus.
    pub(super) fn charge(&mut self, job: &Job, slot: &Slot, now: Option<Timestamp>) {
        let key = SlotKey {
            job: job.id,
            slot: slot.id,
        };
        let mut parts = self.all_parts(job, slot);
        if slot.stops.lent_to.is_some() {
            for part in parts.iter_mut().filter(|part| part.is_of_node()) {
                part.amount.cpus = 0;
            }
        }
        let factor = self.rules.qos.get(job.spec.qos.as_str());
        let factor = factor.map_or(1000, |qos| u64::from(qos.usage_factor_milli));
        let rate = rate_milli(&parts, &self.pool).saturating_mul(factor) / 1000;
        let member = (job.spec.account.clone(), Arc::clone(&job.owner.name));
        match now {
            Some(now) => self.books.begin(key, member, rate, now),
            None => self.books.resume(key, member, rate, slot.granted),
        }
    }

    /// All that a slot was granted.
    pub(super) fn all_parts(&self, job: &Job, slot: &Slot) -> Parts {
        let shares = slot.allocation.nodes.iter();
        let of_nodes = shares.filter_map(|share| {
            let node = self.nodes.get(&share.node)?;
            Some(Site::of(node).part_of(node, share))
        });
        of_nodes.chain(self.pool.licenses_of(job)).collect()
    }

    /// How long a slot stays, as far as is known.
    pub(super) fn stay_of(&self, job: &Job, slot: &Slot) -> Stay {
        let key = SlotKey {
            job: job.id,
            slot: slot.id,
        };
        let back = self.occupancy.sharing(key).and_then(|one| one.back);
        slot_stay(slot, self.time_limit_s(job), back)
    }

    /// Cpus of these that others hold too are not free.
    pub(super) fn keep_lent(&mut self, closed: SlotKey, shares: &[NodeShare]) {
        if self.lending.is_empty() {
            return;
        }
        let others: Vec<SlotKey> = self.occupancy.stays().map(|(key, _)| key).collect();
        for key in others.into_iter().filter(|key| *key != closed) {
            let Some(slot) = self.slot(key) else { continue };
            let held = slot.allocation.clone();
            for share in shares {
                if let Some(other) = held.share(share.node)
                    && let Some(node) = self.nodes.get_mut(&share.node)
                    && !node.cpus_free.is_disjoint(&other.cpus)
                {
                    let node = Arc::make_mut(node);
                    node.cpus_free = node.cpus_free.subtract(&other.cpus);
                }
            }
        }
    }

    /// Those who lend cpus and those who have borrowed them, the first granted first; and who did so before.
    fn sharers(&self) -> Vec<Sharer> {
        let is_known = |key: &SlotKey| self.occupancy.stay(*key).is_some();
        let lending = self.lending.iter().filter(|key| is_known(key));
        let lent: Vec<Cpus> = lending
            .filter_map(|key| self.slot(*key))
            .map(cpus_of)
            .collect();
        let mut found = Vec::new();
        for (key, _) in self.occupancy.stays() {
            let Some(job) = self.jobs.get(&key.job) else {
                continue;
            };
            let Some(slot) = job.slot(key.slot) else {
                continue;
            };
            let known = self.occupancy.sharing(key).is_some();
            let cpus = cpus_of(slot);
            if known || lent.iter().any(|lent| overlap(lent, &cpus)) {
                let lends = self.lending.contains(&key);
                let order = (slot.granted, slot.stops.since.is_none(), key);
                found.push((
                    order,
                    Sharer {
                        job: Arc::clone(job),
                        slot: key.slot,
                        key,
                        cpus,
                        lends,
                    },
                ));
            }
        }
        found.sort_by_key(|(order, _)| *order);
        found.into_iter().map(|(_, sharer)| sharer).collect()
    }

    /// Draws up anew who has lent what, and until when that holds everybody up. `now` where that is known: one whose cpus
    /// nobody has goes on from then.
    pub(super) fn recount_loans(&mut self, now: Option<Timestamp>) {
        if self.lending.is_empty() && self.occupancy.shares_nothing() {
            return;
        }
        let sharers = self.sharers();
        let mut ends: Vec<Timestamp> = Vec::new();
        for (at, one) in sharers.iter().enumerate().rev() {
            let Some(slot) = one.slot() else { continue };
            let (mut below, mut above) = (Cpus::new(), Cpus::new());
            let others = |other: &&Sharer| overlap(&other.cpus, &one.cpus);
            let (before, after) = (&sharers[..at], &sharers[at + 1..]);
            before
                .iter()
                .filter(others)
                .for_each(|other| unite(&mut below, &other.cpus));
            after
                .iter()
                .filter(others)
                .for_each(|other| unite(&mut above, &other.cpus));
            let own = without(&one.cpus, &below);
            let mut parts = self.all_parts(&one.job, slot);
            for part in parts.iter_mut().filter(|part| part.is_of_node()) {
                part.amount.cpus = own.get(&part.node).map_or(0, CpuSet::len);
            }
            let idle = without(&one.cpus, &above);
            let lent = as_parts(&without(&own, &idle));
            // Those behind it were looked at before.
            let behind = after.iter().rev().zip(&ends);
            let back = behind.filter(|(other, _)| others(other));
            let back = back.map(|(_, ends)| *ends).max();
            let known = self.occupancy.sharing(one.key).and_then(|one| one.back);
            let back = back.or(now).or(known).or(slot.stops.since);
            let back = one.lends.then(|| back.unwrap_or(slot.granted));
            let stay = slot_stay(slot, self.time_limit_s(&one.job), back);
            ends.push(stay.ends);
            self.stays(&one.job, slot, stay);
            self.occupancy.enter(one.key, stay, parts);
            let shares = one.lends || !lent.is_empty() || !below.is_empty();
            if shares {
                let sharing = Sharing {
                    back,
                    idle: if one.lends {
                        as_parts(&idle)
                    } else {
                        Parts::new()
                    },
                    lent,
                    cpus: if one.lends { idle } else { Cpus::new() },
                };
                self.occupancy.share(one.key, sharing);
            }
        }
        let parts = self.occupancy.iter().map(|(.., parts)| parts);
        self.pool.count_licenses(parts);
    }

    /// A slot stays until another time: what limits count follows.
    pub(super) fn stays(&mut self, job: &Job, slot: &Slot, after: Stay) {
        let key = SlotKey {
            job: job.id,
            slot: slot.id,
        };
        let Some(before) = self.occupancy.stay(key) else {
            return;
        };
        if before.ends != after.ends {
            let class = Class::of(job);
            let held = |ends| Held::by_slot(&slot.allocation, ends);
            self.tally.remove(&class, held(before.ends));
            self.tally.add(&class, held(after.ends));
        }
        if before != after {
            self.occupancy.moves(key, after);
        }
    }

    /// Slots that run on a node, but for those that are about to lend.
    fn users<'c>(
        &'c self,
        given: &'c Given,
        node: NodeId,
    ) -> impl Iterator<Item = (SlotKey, &'c NodeShare)> {
        let keys = self.occupancy.stays().map(|(key, _)| key);
        let runs = move |key: &SlotKey| !self.lending.contains(key) && !given.lent.contains(key);
        keys.filter(runs).filter_map(move |key| {
            let share = self.slot(key)?.allocation.share(node)?;
            Some((key, share))
        })
    }

    /// Cpus of a node that this job may have of those who are stopped.
    pub(super) fn lendable(&self, given: &Given, job: &Job, node: NodeId) -> CpuSet {
        let mut cpus = CpuSet::new();
        let class = Class::of(job);
        for key in self.lending.iter().chain(&given.lent) {
            let Some(lender) = self.jobs.get(&key.job) else {
                continue;
            };
            let yields = yields(&self.rules, &class, &Class::of(lender));
            if yields.is_some_and(|yields| yields.mode == PreemptMode::Suspend)
                && let Some(slot) = lender.slot(key.slot)
                && let Some(share) = slot.allocation.share(node)
            {
                cpus = cpus.union(&share.cpus);
            }
        }
        if !cpus.is_empty() {
            for (_, share) in self.users(given, node) {
                cpus = cpus.subtract(&share.cpus);
            }
        }
        cpus
    }
}

/// decide: whoever was stopped for others goes on once its cpus are its own again; the last that was stopped goes first.
pub(super) fn go_on(cluster: &Cluster, now: Timestamp, given: &Given) -> Vec<Event> {
    let mut stopped: Vec<(Timestamp, SlotKey)> = cluster
        .lending
        .iter()
        .filter(|key| !given.lent.contains(key))
        .filter_map(|key| Some((cluster.slot(*key)?.granted, *key)))
        .collect();
    stopped.sort_by_key(|order| std::cmp::Reverse(*order));
    let mut taken = Cpus::new();
    let mut events = Vec::new();
    for (_, key) in stopped {
        let Some(slot) = cluster.slot(key) else {
            continue;
        };
        let is_free = slot.allocation.nodes.iter().all(|share| {
            let granted = given.nodes.get(&share.node);
            let taken = taken.get(&share.node);
            granted.is_none_or(|(cpus, ..)| cpus.is_disjoint(&share.cpus))
                && taken.is_none_or(|cpus| cpus.is_disjoint(&share.cpus))
                && cluster
                    .users(given, share.node)
                    .all(|(_, other)| other.cpus.is_disjoint(&share.cpus))
        });
        if is_free {
            unite(&mut taken, &cpus_of(slot));
            events.push(Event::SlotGoesOn {
                job: key.job,
                slot: key.slot,
                at: now,
            });
        }
    }
    events
}

/// decide: a slot stops, so that others may have its cpus.
pub(super) fn lend(
    cluster: &Cluster,
    now: Timestamp,
    given: &mut Given,
    key: SlotKey,
    to: JobId,
) -> Option<Event> {
    let slot = cluster.slot(key)?;
    if slot.queue.is_empty() || slot.leaves().is_some() || slot.stops.lent_to.is_some() {
        return None;
    }
    given.lent.insert(key);
    Some(Event::SlotLends {
        job: key.job,
        slot: key.slot,
        to,
        at: now,
    })
}
