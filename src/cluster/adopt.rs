//! decide: which parts of a plan still hold. The planner may have seen an older state; every start is
//! checked against the present, and what no longer fits is dropped (the next plan says it better).

use super::lending::{self, Stacks};
use super::{Cluster, Event, lifecycle};
use crate::model::allocation::Allocation;
use crate::model::cpu_set::CpuSet;
use crate::model::ids::{JobId, NodeId, SlotId, SlotKey};
use crate::model::index_set::IndexSet;
use crate::model::job::{Job, Kill, KillCause};
use crate::model::time::Timestamp;
use crate::scheduler::nodes::is_open;
use crate::scheduler::{Entry, Plan};
use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What this adoption has already handed out, on top of the cluster's state.
#[derive(Default)]
pub(super) struct Given {
    positions: BTreeMap<JobId, IndexSet>,
    slots: BTreeMap<JobId, u32>,
    pub(super) nodes: BTreeMap<NodeId, (CpuSet, u64, Vec<u32>)>,
    /// Slots that lend their cpus from now on.
    pub(super) lent: BTreeSet<SlotKey>,
    /// Who had which cpus before.
    pub(super) stacks: OnceCell<Stacks>,
}

pub(super) fn adopt(cluster: &Cluster, now: Timestamp, plan: Plan) -> Vec<Event> {
    let mut given = Given::default();
    let mut events = Vec::with_capacity(plan.entries.len() + 1);
    // Those who are to lend, until it is sure that what borrows starts.
    let mut lent = Vec::new();
    for entry in plan.entries {
        let event = match entry {
            Entry::Start {
                job,
                allocation,
                count,
            } => {
                let started = start(cluster, now, &mut given, job, allocation, count);
                for (key, event) in lent.drain(..) {
                    if started.is_some() {
                        events.push(event);
                    } else {
                        given.lent.remove(&key);
                    }
                }
                started
            }
            Entry::Extend { job, slot, count } => extend(cluster, &mut given, job, slot, count),
            Entry::Evict {
                job,
                slot,
                grace_ms,
                again,
                by,
            } => evict(cluster, now, (job, slot), by, grace_ms, again),
            Entry::Suspend { job, slot, to } => {
                let key = SlotKey { job, slot };
                lent.extend(
                    lending::lend(cluster, now, &mut given, key, to).map(|event| (key, event)),
                );
                None
            }
        };
        events.extend(event);
    }
    events.extend(lending::go_on(cluster, now, &given));
    events.push(Event::Blocked {
        jobs: plan.blocked,
        groups: plan.held,
        kept: plan.kept,
        promised: plan.promised,
        again: plan.again,
    });
    events
}

/// The first `count` waiting positions, without those that a slot has had before.
fn take_positions(
    cluster: &Cluster,
    given: &mut Given,
    id: JobId,
    count: u32,
    had: &IndexSet,
) -> Option<IndexSet> {
    let job = cluster.job(id).filter(|job| Cluster::is_eligible(job))?;
    let left = given
        .positions
        .entry(id)
        .or_insert_with(|| job.pending.clone());
    let mut new = left.clone();
    new.subtract(had);
    let positions = new.take_first(count);
    left.subtract(&positions);
    (!positions.is_empty()).then_some(positions)
}

fn start(
    cluster: &Cluster,
    now: Timestamp,
    given: &mut Given,
    id: JobId,
    allocation: Allocation,
    count: u32,
) -> Option<Event> {
    let job = cluster.job(id)?;
    if !still_free(cluster, given, job, &allocation) {
        return None;
    }
    let more = given.slots.entry(id).or_default();
    let held = u32::try_from(job.slots.len()).unwrap_or(u32::MAX);
    if held.saturating_add(*more) >= job.spec.throttle() {
        return None;
    }
    let slot = SlotId(job.slot_next + *more);
    *more += 1;
    let positions = take_positions(cluster, given, id, count, &IndexSet::new())?;
    for share in &allocation.nodes {
        let (cpus, memory, gpus) = given.nodes.entry(share.node).or_default();
        *cpus = cpus.union(&share.cpus);
        *memory += share.memory_mib;
        gpus.extend(&share.gpus);
    }
    Some(Event::SlotGranted {
        job: id,
        slot,
        allocation: Arc::new(allocation),
        positions,
        at: now,
    })
}

fn still_free(cluster: &Cluster, given: &Given, job: &Job, allocation: &Allocation) -> bool {
    let nothing = (CpuSet::new(), 0, Vec::new());
    !allocation.nodes.is_empty()
        && allocation.nodes.iter().all(|share| {
            let Some(node) = cluster.nodes.get(&share.node) else {
                return false;
            };
            let (cpus, memory, gpus) = given.nodes.get(&share.node).unwrap_or(&nothing);
            let free = |cpus: &CpuSet| {
                cpus.is_subset(&node.cpus_free) || {
                    let lendable = cluster.lendable(given, job, share.node);
                    cpus.is_subset(&node.cpus_free.union(&lendable))
                }
            };
            is_open(&job.spec.request, node)
                && free(&share.cpus)
                && share.cpus.is_disjoint(cpus)
                && node.memory_free_mib() >= memory.saturating_add(share.memory_mib)
                && share
                    .gpus
                    .iter()
                    .all(|gpu| node.gpus_free.contains(gpu) && !gpus.contains(gpu))
        })
}

/// What makes room is warned, or ended at once.
fn evict(
    cluster: &Cluster,
    now: Timestamp,
    (id, slot): (JobId, SlotId),
    by: JobId,
    grace_ms: i64,
    again: bool,
) -> Option<Event> {
    let held = cluster.job(id)?.slot(slot)?;
    if held.queue.is_empty() || held.leaves().is_some() {
        return None;
    }
    let positions = held.queue.clone();
    if grace_ms > 0 {
        let until = now.plus_ms(grace_ms);
        let cause = KillCause::Warned { until, again, by };
        let kill = Kill { positions, cause };
        return Some(Event::Warned {
            job: id,
            slot,
            kill,
        });
    }
    let cause = lifecycle::evicts(again);
    Some(Event::KillOrdered {
        job: id,
        slot,
        kill: Kill { positions, cause },
        at_once: false,
        at: now,
    })
}

fn extend(
    cluster: &Cluster,
    given: &mut Given,
    id: JobId,
    slot: SlotId,
    count: u32,
) -> Option<Event> {
    let job = cluster.job(id)?;
    let held = job.slot(slot)?;
    let key = SlotKey { job: id, slot };
    if given.lent.contains(&key)
        || held.is_stopped()
        || held.retracting
        || held.gone
        || !held.kills.is_empty()
    {
        return None;
    }
    let positions = take_positions(cluster, given, id, count, &held.given)?;
    Some(Event::SlotExtended {
        job: id,
        slot,
        positions,
    })
}
