//! What is always true; run by tests and the simulator after every command.

use super::Cluster;
use crate::model::cpu_set::CpuSet;
use crate::model::ids::{JobId, NodeId, SlotKey};
use crate::model::node::Link;
use crate::scheduler::limits::{Held, Tally};
use crate::scheduler::nodes::NodePool;
use crate::scheduler::queue::Class;
use std::collections::{BTreeMap, BTreeSet};

/// The first sentence that does not hold, if any.
///
/// # Errors
/// That sentence, with the numbers.
pub fn check(cluster: &Cluster) -> Result<(), String> {
    nothing_granted_twice(cluster)?;
    positions_are_in_one_place(cluster)?;
    orders_are_of_running_steps(cluster)?;
    indexes_are_true(cluster)
}

/// One that is left behind would hold cpus for ever, and start a step anew on a node that comes back.
fn orders_are_of_running_steps(cluster: &Cluster) -> Result<(), String> {
    for (key, orders) in &cluster.steps {
        let running = cluster.slot(*key).map(|slot| slot.steps.as_slice());
        let mut running = orders.iter().map(|order| {
            let step = order.launch.step;
            let running = running.unwrap_or_default().iter();
            (step, running.filter(|known| known.step == step).count())
        });
        if let Some((step, times)) = running.find(|(_, times)| *times != 1) {
            return Err(format!(
                "step {step} of {key:?} is ordered and runs {times} times"
            ));
        }
    }
    Ok(())
}

fn nothing_granted_twice(cluster: &Cluster) -> Result<(), String> {
    let mut cpus: BTreeMap<NodeId, CpuSet> = BTreeMap::new();
    let mut running: BTreeMap<NodeId, CpuSet> = BTreeMap::new();
    let mut stacks: BTreeMap<NodeId, Vec<(u32, bool, CpuSet)>> = BTreeMap::new();
    let mut memory: BTreeMap<NodeId, u64> = BTreeMap::new();
    let mut gpus: BTreeSet<(NodeId, u32)> = BTreeSet::new();
    for job in cluster.jobs.values() {
        let slots = job.slots.iter();
        let shares = slots.flat_map(|slot| {
            let (lends, depth) = (slot.stops.lent_to.is_some(), slot.stops.depth);
            let shares = slot.allocation.nodes.iter();
            shares.map(move |share| (lends, depth, share))
        });
        for (lends, depth, share) in shares {
            // What stands still lends its cpus.
            let held = running.entry(share.node).or_default();
            if !lends && !held.is_disjoint(&share.cpus) {
                return Err(format!(
                    "cpus {} of node {} are granted twice",
                    share.cpus, share.node
                ));
            }
            if !lends {
                *held = held.union(&share.cpus);
            }
            let layers = stacks.entry(share.node).or_default();
            layers.push((depth, lends, share.cpus.clone()));
            let held = cpus.entry(share.node).or_default();
            *held = held.union(&share.cpus);
            *memory.entry(share.node).or_default() += share.memory_mib;
            if let Some(gpu) = share
                .gpus
                .iter()
                .find(|gpu| !gpus.insert((share.node, **gpu)))
            {
                return Err(format!("GPU {gpu} of node {} is granted twice", share.node));
            }
        }
    }
    for (id, layers) in &stacks {
        for (depth, lends, cpus) in layers {
            let mut others = layers.iter();
            if !lends && others.any(|(other, _, more)| other > depth && !more.is_disjoint(cpus)) {
                return Err(format!("cpus {cpus} of node {id} run below others"));
            }
        }
    }
    for (id, node) in &cluster.nodes {
        let held = cpus.get(id).cloned().unwrap_or_default();
        let all: CpuSet = node
            .inventory
            .topology
            .cpus
            .iter()
            .map(|cpu| cpu.id)
            .collect();
        if !node.cpus_free.is_disjoint(&held) || node.cpus_free.union(&held.intersect(&all)) != all
        {
            return Err(format!(
                "node {id}: free {} and granted {held} are not {all}",
                node.cpus_free
            ));
        }
        let used = memory.get(id).copied().unwrap_or(0);
        let granted = node.memory_granted_mib;
        if granted != used {
            return Err(format!(
                "node {id}: {granted} MiB are counted as granted, its jobs have {used}"
            ));
        }
    }
    Ok(())
}

fn positions_are_in_one_place(cluster: &Cluster) -> Result<(), String> {
    for job in cluster.jobs.values() {
        let ended = job.ends.completed + job.ends.unsuccessful;
        let held: u32 = job.slots.iter().map(|slot| slot.queue.len()).sum();
        let sum = u64::from(ended)
            + u64::from(held)
            + u64::from(job.pending.len())
            + u64::from(job.waiting.len());
        if sum != u64::from(job.spec.count()) {
            return Err(format!(
                "job {}: {sum} positions are accounted for of {}",
                job.id,
                job.spec.count()
            ));
        }
        let mut all = job.pending.clone();
        for set in job
            .slots
            .iter()
            .map(|slot| &slot.queue)
            .chain([&*job.waiting])
        {
            let before = all.len();
            all.union_with(set);
            if all.len() != before + set.len() {
                return Err(format!("job {}: a position is in two places", job.id));
            }
        }
        let running = u32::try_from(job.slots.len()).unwrap_or(u32::MAX);
        if sum == u64::from(ended) && running == 0 {
            return Err(format!("job {} has ended and is still hot", job.id));
        }
    }
    Ok(())
}

fn books_are_true(cluster: &Cluster) -> Result<(), String> {
    let mut tally = Tally::default();
    for job in cluster.jobs.values() {
        let class = Class::of(job);
        tally.add(&class, Held::by_job(job));
        for slot in &job.slots {
            let key = SlotKey {
                job: job.id,
                slot: slot.id,
            };
            let Some(stay) = cluster.occupancy.stay(key) else {
                return Err(format!("slot {key} is not in the books"));
            };
            tally.add(&class, Held::by_slot(&slot.allocation, stay.limit));
        }
    }
    if tally != cluster.tally {
        let known = &cluster.tally;
        return Err(format!("counted is {known:?}, there is {tally:?}"));
    }
    let mut pool = NodePool::under(&cluster.rules, &cluster.nodes);
    let parts = cluster.occupancy.iter().map(|(.., parts)| parts);
    pool.count_licenses(parts);
    if pool != cluster.pool {
        let known = &cluster.pool;
        return Err(format!("free is {pool:?}, known is {known:?}"));
    }
    for (id, node) in &cluster.nodes {
        let parts = cluster.occupancy.iter().flat_map(|(.., parts)| parts);
        let held = parts.filter(|part| part.node == *id);
        let held: u32 = held.map(|part| part.amount.cpus).sum();
        let free = pool.free_on(*id).cpus;
        // A node may have come back with less than its jobs have.
        if held + free < node.cpus_total() {
            return Err(format!("node {id}: {held} cpus held and {free} free"));
        }
    }
    let gone = |key: &SlotKey| cluster.slot(*key).is_none();
    match cluster.occupancy.iter().find(|(_, key, _)| gone(key)) {
        Some((_, key, _)) => Err(format!("slot {key} is in the books and gone")),
        None => Ok(()),
    }
}

fn indexes_are_true(cluster: &Cluster) -> Result<(), String> {
    let queued: BTreeSet<JobId> = cluster
        .queue
        .groups()
        .flat_map(|(_, group)| group.jobs().map(|member| member.id))
        .collect();
    if queued.len() != cluster.queue.len() {
        return Err(format!("{} jobs are queued", cluster.queue.len()));
    }
    for job in cluster.jobs.values() {
        if queued.contains(&job.id) != Cluster::is_eligible(job) {
            return Err(format!(
                "job {}: queued is {}, eligible is not",
                job.id,
                queued.contains(&job.id)
            ));
        }
        if Cluster::is_eligible(job) && !cluster.queue.has(job) {
            return Err(format!("job {} is queued in the wrong place", job.id));
        }
        for slot in &job.slots {
            let key = SlotKey {
                job: job.id,
                slot: slot.id,
            };
            if cluster.idle.contains(&key) != slot.queue.is_empty() {
                return Err(format!("slot {key}: the idle index is wrong"));
            }
            let leased = job.spec.requeue && !slot.leases.is_empty();
            if cluster.leased.contains(&key) != leased {
                return Err(format!("slot {key}: the index of leases is wrong"));
            }
            if cluster.gathering.contains(&key) == slot.begun {
                return Err(format!("slot {key}: the index of gangs to begin is wrong"));
            }
            if !slot.begun && slot.current.is_some() {
                return Err(format!("slot {key} has not begun and runs something"));
            }
        }
    }
    books_are_true(cluster)?;
    for (id, node) in &cluster.nodes {
        let cut_off = cluster.cut_off.get(id);
        let counted = match node.link {
            Link::Up => cut_off.is_none(),
            Link::Silent(since) => cut_off == Some(&since),
            Link::Down(_) => cut_off.is_some(),
        };
        if !counted {
            let link = node.link;
            return Err(format!("node {id} is {link:?}, cut off {cut_off:?}"));
        }
    }
    let indexed = cluster.idle.iter().chain(&cluster.stocked);
    let mut indexed = indexed.chain(&cluster.gathering);
    let hot = |key: &&SlotKey| cluster.slot(**key).is_none();
    if let Some(key) = indexed.find(hot) {
        return Err(format!("slot {key} is indexed and gone"));
    }
    match queued.iter().find(|id| !cluster.jobs.contains_key(*id)) {
        Some(id) => Err(format!("job {id} is queued and gone")),
        None => Ok(()),
    }
}
