//! apply and decide: slots that are stopped, and whose cpus are lent to others meanwhile.
//!
//! Whoever lends keeps its allocation. Slots that have the same cpus lie above each other, the one that had them first at
//! the bottom: that one holds them, the one on top uses them, and only that may run. So the sum of what is free and what
//! is held stays what the nodes have, and a borrower gives nothing back that is not its own.

use super::adopt::Given;
use super::{Cluster, Effect, Event};
use crate::model::allocation::{Allocation, NodeShare};
use crate::model::cpu_set::CpuSet;
use crate::model::ids::{JobId, NodeId, SlotId, SlotKey};
use crate::model::job::{Job, Kill, Slot};
use crate::model::time::Timestamp;
use crate::scheduler::lend::stands_still;
use crate::scheduler::limits::Held;
use crate::scheduler::nodes::{Part, Parts, Site};
use crate::scheduler::occupancy::{Sharing, Stay};
use crate::scheduler::queue::Class;
use crate::scheduler::shares::rate_milli;
use crate::scheduler::slot_stay;
use crate::wire::worker::{SignalTarget, ToSlot};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What the processes of a job hear that will have to make room.
pub(super) const WARNING: ToSlot = ToSlot::Signal {
    signal: 15,
    to: SignalTarget::All,
};

/// Cpus by node.
type Cpus = BTreeMap<NodeId, CpuSet>;

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

/// The place of a slot among those above each other. Clocks are set and grants fall into one instant, so that the depth
/// at which it was granted decides first.
type Order = (u32, Timestamp, SlotKey);

fn order(key: SlotKey, slot: &Slot) -> Order {
    (slot.stops.depth, slot.granted, key)
}

/// What slots have of nodes, the lowest first.
#[derive(Debug, Default)]
pub(super) struct Stacks(BTreeMap<NodeId, Vec<(Order, CpuSet)>>);

impl Stacks {
    /// Of all nodes, or of those alone of which this is true.
    fn of(cluster: &Cluster, is_wanted: impl Fn(NodeId) -> bool) -> Self {
        let mut stacks = Stacks::default();
        for (key, _, slot) in cluster.running() {
            let shares = slot.allocation.nodes.iter();
            for share in shares.filter(|share| is_wanted(share.node)) {
                let stack = stacks.0.entry(share.node).or_default();
                stack.push((order(key, slot), share.cpus.clone()));
            }
        }
        for stack in stacks.0.values_mut() {
            stack.sort_unstable_by_key(|(order, _)| *order);
        }
        stacks
    }

    fn on(&self, node: NodeId) -> &[(Order, CpuSet)] {
        self.0.get(&node).map_or(&[], Vec::as_slice)
    }

    /// What lies above a slot on a node.
    fn above(&self, node: NodeId, order: Order) -> &[(Order, CpuSet)] {
        let stack = self.on(node);
        &stack[stack.partition_point(|(other, _)| *other <= order)..]
    }

    /// What lies below it.
    fn below(&self, node: NodeId, order: Order) -> &[(Order, CpuSet)] {
        let stack = self.on(node);
        &stack[..stack.partition_point(|(other, _)| *other < order)]
    }
}

/// Those of a stack that have any of these cpus.
fn overlapping<'s>(
    stack: &'s [(Order, CpuSet)],
    cpus: &'s CpuSet,
) -> impl Iterator<Item = &'s (Order, CpuSet)> {
    stack.iter().filter(|(_, other)| !other.is_disjoint(cpus))
}

/// A slot that shares cpus with others, or lends them.
#[derive(Default)]
struct Sharer {
    /// What it holds: nobody below it has that.
    own: Cpus,
    /// What nobody above it has.
    idle: Cpus,
    above: BTreeSet<SlotKey>,
    /// Of those below it: how many cpus of theirs it has, where they hold them.
    from: BTreeMap<SlotKey, Cpus>,
}

impl Cluster {
    /// Slots that hold something, with their jobs.
    pub(super) fn running(&self) -> impl Iterator<Item = (SlotKey, &Arc<Job>, &Slot)> {
        let mut last = None;
        let keys = self.occupancy.stays().map(|(key, _)| key.job);
        let jobs = keys.filter(move |job| last.replace(*job) != Some(*job));
        let slots = jobs
            .filter_map(|job| self.jobs.get(&job))
            .flat_map(|job| job.slots.iter().map(move |slot| (job, slot)));
        slots.filter_map(|(job, slot)| {
            let key = SlotKey {
                job: job.id,
                slot: slot.id,
            };
            self.occupancy.stay(key).map(|_| (key, job, slot))
        })
    }

    /// How deep something lies that is granted these now: above all whose cpus it borrows.
    pub(super) fn depth_of(&self, allocation: &Allocation) -> u32 {
        let lenders = self.lending.iter().filter_map(|key| self.slot(*key));
        let below = lenders.filter(|lender| {
            allocation.nodes.iter().any(|share| {
                let other = lender.allocation.share(share.node);
                other.is_some_and(|other| !other.cpus.is_disjoint(&share.cpus))
            })
        });
        below
            .map(|lender| lender.stops.depth + 1)
            .max()
            .unwrap_or(0)
    }

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
        self.loans_stale = true;
        effects.push(Effect::Plan);
    }

    /// A slot is to make room by some time. One that is stopped could not use its grace: it goes on.
    pub(super) fn is_warned(
        &mut self,
        job: JobId,
        slot: SlotId,
        kill: Kill,
        effects: &mut Vec<Effect>,
    ) {
        let stopped = self
            .slot(SlotKey { job, slot })
            .is_some_and(Slot::is_stopped);
        self.change_slot(job, slot, |job, at| job.slots[at].kills.push(kill));
        self.end_moves(job, slot);
        if stopped {
            self.tell(job, slot, effects, |_, _| ToSlot::Suspend { stop: false });
        }
        self.tell(job, slot, effects, |_, _| WARNING);
    }

    /// Nobody needs its room any more.
    pub(super) fn spared(&mut self, job: JobId, slot: SlotId, effects: &mut Vec<Effect>) {
        self.change_slot(job, slot, |job, at| {
            job.slots[at].kills.retain(Kill::is_told);
        });
        self.end_moves(job, slot);
        if self
            .slot(SlotKey { job, slot })
            .is_some_and(Slot::is_stopped)
        {
            self.tell(job, slot, effects, |_, _| ToSlot::Suspend { stop: true });
        }
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
            let stopped = slot.is_to_stop();
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
        if self.occupancy.sharing(closed).is_none() {
            return;
        }
        let stacks = Stacks::of(self, |node| shares.iter().any(|share| share.node == node));
        for share in shares {
            let others = stacks.on(share.node).iter();
            let others = others.filter(|((.., key), _)| *key != closed);
            let held = others.fold(CpuSet::new(), |held, (_, cpus)| held.union(cpus));
            if let Some(node) = self.nodes.get_mut(&share.node) {
                let node = Arc::make_mut(node);
                node.cpus_free = node.cpus_free.subtract(&held);
            }
        }
    }

    /// Those who lend cpus and those who have borrowed them.
    fn sharers(&self) -> BTreeMap<SlotKey, Sharer> {
        let lending = self.lending.iter().filter_map(|key| self.slot(*key));
        let nodes = lending.flat_map(|slot| &slot.allocation.nodes);
        let nodes: BTreeSet<NodeId> = nodes.map(|share| share.node).collect();
        let stacks = Stacks::of(self, |node| nodes.contains(&node));
        let shares = |(own, _): &(Order, CpuSet), cpus: &CpuSet, node: NodeId| {
            self.lending.contains(&own.2)
                || overlapping(stacks.below(node, *own), cpus).next().is_some()
                || overlapping(stacks.above(node, *own), cpus).next().is_some()
        };
        let mut keys: BTreeSet<SlotKey> = self.occupancy.sharers().collect();
        for (node, stack) in &stacks.0 {
            let found = stack.iter().filter(|one| shares(one, &one.1, *node));
            keys.extend(found.map(|((.., key), _)| *key));
        }
        let mut sharers = BTreeMap::new();
        for key in keys {
            let Some(slot) = self.slot(key) else { continue };
            let mut one = Sharer::default();
            for share in &slot.allocation.nodes {
                let (node, own) = (share.node, order(key, slot));
                let mut left = share.cpus.clone();
                // The lowest holds what it has.
                for ((.., below), cpus) in overlapping(stacks.below(node, own), &share.cpus) {
                    let common = left.intersect(cpus);
                    left = left.subtract(&common);
                    one.from.entry(*below).or_default().insert(node, common);
                }
                one.own.insert(node, left);
                let mut idle = share.cpus.clone();
                for ((.., above), cpus) in overlapping(stacks.above(node, own), &share.cpus) {
                    idle = idle.subtract(cpus);
                    one.above.insert(*above);
                }
                one.idle.insert(node, idle);
            }
            sharers.insert(key, one);
        }
        sharers
    }

    /// Draws up anew who has lent what, and until when that holds everybody up, if that has changed. One whose cpus nobody
    /// has goes on from now.
    pub(super) fn recount_loans(&mut self, now: Timestamp) {
        if !std::mem::take(&mut self.loans_stale) {
            return;
        }
        let sharers = self.sharers();
        let mut orders: Vec<Order> = Vec::new();
        orders.extend(
            sharers
                .keys()
                .filter_map(|key| Some(order(*key, self.slot(*key)?))),
        );
        orders.sort_unstable();
        // Those on top first: when they end is when those below go on.
        for (.., key) in orders.into_iter().rev() {
            let (Some(one), Some(job)) = (sharers.get(&key), self.jobs.get(&key.job).cloned())
            else {
                continue;
            };
            let Some(slot) = job.slot(key.slot) else {
                continue;
            };
            let mut parts = self.all_parts(&job, slot);
            for part in parts.iter_mut().filter(|part| part.is_of_node()) {
                part.amount.cpus = one.own.get(&part.node).map_or(0, CpuSet::len);
            }
            let lends = self.lending.contains(&key);
            let above = one.above.iter();
            let above = above.filter_map(|above| self.occupancy.ends(*above)).max();
            let back = lends.then(|| above.unwrap_or(now));
            // Another than was named may have its cpus by now.
            let borrowers = one.above.iter().map(|above| above.job);
            let named = slot.stops.lent_to.filter(|_| lends);
            if let Some(to) = borrowers.clone().next()
                && named.is_some_and(|named| borrowers.clone().all(|one| one != named))
            {
                self.change_slot(key.job, key.slot, |job, at| {
                    job.slots[at].stops.lent_to = Some(to);
                });
            }
            let stay = slot_stay(slot, self.time_limit_s(&job), back);
            self.stays(&job, slot, stay);
            self.occupancy.enter(key, stay, parts);
            if !lends && one.above.is_empty() && one.from.is_empty() {
                continue;
            }
            let from = one
                .from
                .iter()
                .map(|(below, cpus)| (*below, as_parts(cpus)));
            let sharing = Sharing {
                back,
                idle: if lends {
                    as_parts(&one.idle)
                } else {
                    Parts::new()
                },
                lent: as_parts(&without(&one.own, &one.idle)),
                cpus: if lends { one.idle.clone() } else { Cpus::new() },
                from: from.collect(),
            };
            self.occupancy.share(key, sharing);
        }
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
        if before.limit != after.limit {
            let class = Class::of(job);
            let held = |limit| Held::by_slot(&slot.allocation, limit);
            self.tally.remove(&class, held(before.limit));
            self.tally.add(&class, held(after.limit));
        }
        if before != after {
            self.occupancy.moves(key, after);
        }
    }

    /// Cpus of a node that this job may have of those who stand still: where the topmost does so for it.
    pub(super) fn lendable(&self, given: &Given, job: &Job, node: NodeId) -> CpuSet {
        let stacks = given.stacks.get_or_init(|| Stacks::of(self, |_| true));
        let class = Class::of(job);
        let mut cpus = CpuSet::new();
        let lends = |key: &SlotKey| self.lending.contains(key) || given.lent.contains(key);
        let stack = stacks.on(node).iter();
        for (order, own) in stack.filter(|((.., key), _)| lends(key)) {
            let lender = self.jobs.get(&order.2.job);
            let lends = |one: &Arc<Job>| stands_still(&self.rules, &class, &Class::of(one));
            if lender.and_then(lends).is_some() {
                let above = overlapping(stacks.above(node, *order), own);
                let idle = above.fold(own.clone(), |idle, (_, cpus)| idle.subtract(cpus));
                cpus = cpus.union(&idle);
            }
        }
        cpus
    }
}

/// decide: whoever was stopped for others goes on once nobody has any of its cpus, running or stopped.
pub(super) fn go_on(cluster: &Cluster, now: Timestamp, given: &Given) -> Vec<Event> {
    if cluster.lending.is_empty() {
        return Vec::new();
    }
    let stacks = given.stacks.get_or_init(|| Stacks::of(cluster, |_| true));
    let mut events = Vec::new();
    for key in cluster
        .lending
        .iter()
        .filter(|key| !given.lent.contains(key))
    {
        let Some(slot) = cluster.slot(*key) else {
            continue;
        };
        let is_free = slot.allocation.nodes.iter().all(|share| {
            let above = stacks.above(share.node, order(*key, slot));
            let granted = given.nodes.get(&share.node);
            granted.is_none_or(|(cpus, ..)| cpus.is_disjoint(&share.cpus))
                && overlapping(above, &share.cpus).next().is_none()
        });
        if is_free {
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
