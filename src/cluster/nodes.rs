//! decide: machines that come, go silent, return, are drained or removed.

use super::command::Principal;
use super::{Cluster, Event, Reply, gang, leases, lifecycle, membership};
use crate::model::ids::{NodeId, SlotKey};
use crate::model::index_set::IndexSet;
use crate::model::job::{ElementEnd, ExitStatus, Job, JobState, Reason, Slot, Usage};
use crate::model::node::{Inventory, Link, Node, Serves};
use crate::model::refusal::{Code, Refusal};
use crate::model::time::Timestamp;
use crate::wire::client::NodeChange;
use std::collections::BTreeSet;
use std::sync::Arc;

/// A machine introduces itself: new, or back.
pub(super) fn register(
    cluster: &Cluster,
    now: Timestamp,
    inventory: Inventory,
    serves: Serves,
    slots: &[SlotKey],
    gives_leases: bool,
) -> (Reply, Vec<Event>) {
    let known = cluster
        .nodes
        .values()
        .find(|node| node.name() == inventory.name);
    let id = known.map_or(NodeId(cluster.counters.node_next), |node| node.id);
    let rebooted = known.is_some_and(|node| node.inventory.boot_id != inventory.boot_id);
    let mut node = Node {
        id,
        inventory: Arc::new(inventory),
        link: Link::Up,
        drain: known.and_then(|node| node.drain.clone()),
        serves,
        failures: known.map(|node| node.failures).unwrap_or_default(),
        cpus_free: crate::model::cpu_set::CpuSet::new(),
        memory_granted_mib: 0,
        gpus_free: Vec::new(),
        gives_leases,
    };
    node.reset_free();
    // One that is down was counted then, or has left.
    let was_there = known.is_some_and(|node| !matches!(node.link, Link::Down(_)));
    if rebooted && was_there && is_failure(cluster, &node, &BTreeSet::new()) {
        node.fail(now);
    }
    let mut events = vec![Event::NodeRegistered(Box::new(node))];
    let there: BTreeSet<SlotKey> = slots.iter().copied().collect();
    let mut ours = BTreeSet::new();
    for job in cluster.jobs.values() {
        for slot in job
            .slots
            .iter()
            .filter(|slot| slot.allocation.share(id).is_some())
        {
            let key = SlotKey {
                job: job.id,
                slot: slot.id,
            };
            ours.insert(key);
            if there.contains(&key) {
                continue;
            }
            // Nothing of a gang that has not begun can have run there, whatever has become of it.
            if slot.begun && (slot.confirmed || rebooted) {
                // It had it and has no trace of it left.
                let why = "the node has no trace of it";
                events.extend(if slot.is_gang() {
                    lifecycle::part_lost(cluster, now, job, slot, id, Vec::new(), why)
                } else {
                    lost(now, job, slot, why)
                });
                events.push(Event::SlotUnknown {
                    node: id,
                    job: job.id,
                    slot: slot.id,
                });
            } else {
                events.push(Event::SlotRepeated {
                    job: job.id,
                    slot: slot.id,
                    node: id,
                    launch: true,
                });
            }
        }
    }
    events.extend(leases::renewed(cluster, id));
    for key in there.difference(&ours) {
        events.push(Event::SlotUnknown {
            node: id,
            job: key.job,
            slot: key.slot,
        });
    }
    (Reply::Registered(id), events)
}

/// These nodes have failed, if it is their fault that they are lost.
pub(super) fn have_failed(
    cluster: &Cluster,
    now: Timestamp,
    gone: &BTreeSet<NodeId>,
) -> Vec<Event> {
    let nodes = gone.iter().filter_map(|id| cluster.nodes.get(id));
    let failed = nodes.filter(|node| is_failure(cluster, node, gone));
    let events = failed.map(|node| {
        let mut after = Node::clone(node);
        after.fail(now);
        Event::FailuresChanged {
            node: after.id,
            failures: after.failures,
        }
    });
    events.collect()
}

/// Whether it is a failure of a node that it is lost, with these others. It is none where somebody has drained it, where
/// nothing ran there that could be lost, as on one that was switched off, nor where most are lost together: that is the
/// network or the power.
fn is_failure(cluster: &Cluster, node: &Node, gone: &BTreeSet<NodeId>) -> bool {
    let away = cluster.nodes.values();
    let away =
        away.filter(|other| !other.is_up() && other.id != node.id && !gone.contains(&other.id));
    let silent = away
        .filter(|other| matches!(other.link, Link::Silent(_)))
        .count()
        + gone.len();
    let alone = cluster.nodes.len() < 3 || silent * 2 <= cluster.nodes.len();
    let holds = |slot: &Slot| slot.allocation.share(node.id).is_some();
    // What it was lost with may be back in the queue by now: that was counted then.
    let counted = cluster.cut_off.get(&node.id);
    let counted =
        counted.is_some_and(|since| node.failures.amount > 0.0 && node.failures.at > *since);
    cluster.settings.remember_failures
        && node.drain.is_none()
        && alone
        && !counted
        && cluster.running().any(|(_, _, slot)| holds(slot))
}

/// Everything a slot held ends as NODE_FAIL, or goes back to the queue where the job allows it.
pub(super) fn lost(now: Timestamp, job: &Job, slot: &Slot, why: &str) -> Vec<Event> {
    positions_lost(now, job, slot, slot.queue.clone(), why)
}

/// These of the positions that a slot holds end as NODE_FAIL, or go back. What was to be ended anyway ends as asked.
pub(super) fn positions_lost(
    now: Timestamp,
    job: &Job,
    slot: &Slot,
    positions: IndexSet,
    why: &str,
) -> Vec<Event> {
    if job.spec.requeue {
        return lifecycle::put_back(now, job, slot, positions, true);
    }
    failed(now, job, slot, positions, why)
}

/// They end as NODE_FAIL.
fn failed(
    now: Timestamp,
    job: &Job,
    slot: &Slot,
    mut positions: IndexSet,
    why: &str,
) -> Vec<Event> {
    positions.intersect(&slot.queue);
    if positions.is_empty() {
        return Vec::new();
    }
    let end = |position| lost_end(now, job, slot, position, why);
    let ends = positions.iter().map(end).collect();
    vec![Event::ElementsEnded {
        job: job.id,
        slot: slot.id,
        ends,
        at: now,
    }]
}

/// The end of what a node lost.
pub(super) fn lost_end(
    now: Timestamp,
    job: &Job,
    slot: &Slot,
    position: u32,
    why: &str,
) -> ElementEnd {
    ElementEnd {
        position,
        state: JobState::NodeFail,
        reason: if why.is_empty() {
            Reason::NodeDown
        } else {
            Reason::SystemFailure(why.to_owned())
        },
        exit: ExitStatus::default(),
        cancelled_by: None,
        started: Some(
            slot.current
                .filter(|current| current.position == position)
                .map_or(slot.granted, |c| c.started),
        ),
        ended: now,
        usage: Usage::default(),
        restarts: job.restarts_of(position),
    }
}

pub(super) fn link_lost(cluster: &Cluster, now: Timestamp, id: NodeId) -> Vec<Event> {
    match cluster.nodes.get(&id).map(|node| node.link) {
        Some(Link::Up) => vec![Event::LinkChanged {
            node: id,
            link: Link::Silent(now),
        }],
        _ => Vec::new(),
    }
}

/// A machine stops with nothing left of its slots: what they held is lost at once, and may run elsewhere.
pub(super) fn leaves(cluster: &Cluster, now: Timestamp, id: NodeId) -> Vec<Event> {
    if !cluster.nodes.contains_key(&id) {
        return Vec::new();
    }
    let mut events = vec![Event::LinkChanged {
        node: id,
        link: Link::Down(now),
    }];
    for job in cluster.jobs.values() {
        let there = |slot: &&Slot| slot.allocation.share(id).is_some();
        for slot in job.slots.iter().filter(there) {
            let why = "its node was taken out of service";
            events.extend(if !slot.begun {
                gang::disband(now, job, slot)
            } else if slot.is_gang() {
                lifecycle::part_lost(cluster, now, job, slot, id, Vec::new(), why)
            } else {
                lost(now, job, slot, why)
            });
        }
    }
    events
}

/// Nodes silent for too long are lost, and with them what must not run twice.
pub(super) fn time_out(cluster: &Cluster, now: Timestamp) -> Vec<Event> {
    let late = |node: &&Arc<Node>| match node.link {
        Link::Silent(since) => now.minus(since) >= cluster.settings.node_timeout_ms,
        Link::Up | Link::Down(_) => false,
    };
    let gone: BTreeSet<NodeId> = cluster
        .nodes
        .values()
        .filter(late)
        .map(|node| node.id)
        .collect();
    if gone.is_empty() {
        return Vec::new();
    }
    let down = |node: &NodeId| Event::LinkChanged {
        node: *node,
        link: Link::Down(now),
    };
    let mut events: Vec<Event> = gone.iter().map(down).collect();
    events.extend(have_failed(cluster, now, &gone));
    // Slot by slot: one may lose several of its nodes at once, and ends once.
    let hit = |slot: &&Slot| {
        let mut nodes = slot.allocation.nodes.iter();
        nodes.any(|share| gone.contains(&share.node))
    };
    for job in cluster.jobs.values() {
        for slot in job.slots.iter().filter(hit) {
            if !slot.begun {
                events.extend(gang::disband(now, job, slot));
            } else if !job.spec.requeue {
                events.extend(lost(now, job, slot, ""));
            }
            // What may run again waits for its lease or its node: its first copy may still be running.
        }
    }
    events
}

/// A node goes, and with it the keys that speak for it.
fn removal(cluster: &Cluster, node: &Node) -> Vec<Event> {
    let keys = membership::keys_of(cluster, node.name());
    let revoked = keys.into_iter().map(|key| Event::KeyRevoked { key });
    std::iter::once(Event::NodeRemoved { node: node.id })
        .chain(revoked)
        .collect()
}

pub(super) fn change(
    cluster: &Cluster,
    now: Timestamp,
    who: &Principal,
    name: &str,
    change: NodeChange,
) -> Result<(Reply, Vec<Event>), Refusal> {
    if !who.is_operator() {
        let what = format!("{} may not change node {name}", who.owner.name);
        return Err(Refusal::new(
            Code::NotPermitted,
            what,
            "only an operator may",
        ));
    }
    let Some(node) = cluster.nodes.values().find(|node| node.name() == name) else {
        let known: Vec<&str> = cluster.nodes.values().map(|node| node.name()).collect();
        let hint = format!("there are: {}", known.join(", "));
        return Err(Refusal::new(
            Code::UnknownNode,
            format!("there is no node `{name}`"),
            hint,
        ));
    };
    let events = match change {
        NodeChange::Drain { reason } => vec![Event::DrainChanged {
            node: node.id,
            drain: Some(reason),
        }],
        NodeChange::Resume => vec![Event::DrainChanged {
            node: node.id,
            drain: None,
        }],
        NodeChange::Remove => {
            let holds = cluster
                .jobs
                .values()
                .flat_map(|job| &job.slots)
                .any(|slot| slot.allocation.share(node.id).is_some());
            if holds || node.link == Link::Up {
                let what = format!(
                    "node {name} is {} and {}",
                    node.state().word(),
                    if holds { "has jobs" } else { "answers" }
                );
                return Err(Refusal::new(
                    Code::WrongState,
                    what,
                    "drain it, wait for its jobs, stop its worker first; --force does it at once",
                ));
            }
            removal(cluster, node)
        }
        NodeChange::Expel => {
            if node.link == Link::Up && membership::keys_of(cluster, name).is_empty() {
                return Err(Refusal::new(
                    Code::WrongState,
                    format!("node {name} is the controller's own machine"),
                    "stop its worker first",
                ));
            }
            let mut events = Vec::new();
            for job in cluster.jobs.values() {
                let there = |slot: &&Slot| slot.allocation.share(node.id).is_some();
                for slot in job.slots.iter().filter(there) {
                    if !slot.begun {
                        events.extend(gang::disband(now, job, slot));
                        continue;
                    }
                    // Not put back, whatever the job allows: nobody will say when the old copy is over.
                    events.extend(failed(
                        now,
                        job,
                        slot,
                        slot.queue.clone(),
                        "its node was removed",
                    ));
                    events.push(Event::SlotUnknown {
                        node: node.id,
                        job: job.id,
                        slot: slot.id,
                    });
                }
            }
            events.extend(removal(cluster, node));
            events
        }
    };
    Ok((
        Reply::Touched {
            count: 1,
            notes: Vec::new(),
        },
        events,
    ))
}
