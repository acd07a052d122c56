//! decide: slots over more than one node. They begin together or not at all, and end together.
//!
//! ```text
//!   granted ──▶ each node says that it has the slot ──▶ GangBegun ──▶ Go to all ──▶ parts end ──▶ the whole ends
//!                  │ not all in time, or one is lost                                   │ one is lost
//!                  ▼                                                                   ▼
//!               back to the queue, never begun                                      the others are ended
//! ```
//!
//! Before [`Event::GangBegun`] is committed no node hears Go, so nothing of the job has run anywhere: whatever happens
//! until then, its positions go back without counting a restart, and a node that returns later closes what it has.

use super::{Cluster, Event, lifecycle};
use crate::model::ids::{NodeId, SlotKey};
use crate::model::index_set::IndexSet;
use crate::model::job::{ElementEnd, Job, JobState, Kill, KillCause, NodeEnd, Reason, Slot};
use crate::model::node::Link;
use crate::model::time::Timestamp;

/// What follows when a node says that it has a slot, and whether something of it runs there.
pub(super) fn present(job: &Job, slot: &Slot, node: NodeId, runs: bool) -> Vec<Event> {
    let (job, id) = (job.id, slot.id);
    if !slot.is_gang() {
        return Vec::new();
    }
    if slot.begun {
        // It may not have heard Go. One that runs has, or is of a build that waits for nothing.
        let again = Event::GoRepeated {
            job,
            slot: id,
            node,
        };
        return if runs { Vec::new() } else { vec![again] };
    }
    if runs {
        return vec![Event::GangBegun { job, slot: id }];
    }
    let mut events = vec![Event::NodePresent {
        job,
        slot: id,
        node,
    }];
    let has = |other: NodeId| other == node || slot.present.contains(&other);
    if slot.allocation.nodes.iter().all(|share| has(share.node)) {
        events.push(Event::GangBegun { job, slot: id });
    }
    events
}

/// A gang that has not begun gives back what it holds, as if it had never been granted.
pub(super) fn disband(now: Timestamp, job: &Job, slot: &Slot) -> Vec<Event> {
    let mut events = lifecycle::put_back(now, job, slot, slot.queue.clone(), false);
    events.push(Event::SlotClosed {
        job: job.id,
        slot: slot.id,
        at: now,
    });
    events
}

/// When a gang that has not begun is waited for no longer.
pub(super) fn deadline(cluster: &Cluster, slot: &Slot) -> Timestamp {
    slot.heard.plus_ms(cluster.settings.gang_start_ms)
}

/// Gangs that could not begin in time. A node that has not answered for so long has its link dropped: until it is heard
/// of again nothing more is placed there.
pub(super) fn overdue(cluster: &Cluster, now: Timestamp) -> Vec<Event> {
    let mut events = Vec::new();
    for key in &cluster.gathering {
        let Some((job, slot)) = find(cluster, *key) else {
            continue;
        };
        if deadline(cluster, slot) > now {
            continue;
        }
        let missing = slot.allocation.nodes.iter().map(|share| share.node);
        for node in missing.filter(|node| !slot.present.contains(node)) {
            if cluster.nodes.get(&node).map(|node| node.link) == Some(Link::Up) {
                events.push(Event::LinkDropped { node, at: now });
            }
        }
        events.extend(disband(now, job, slot));
    }
    events
}

fn find(cluster: &Cluster, key: SlotKey) -> Option<(&Job, &Slot)> {
    let job = cluster.jobs.get(&key.job)?;
    Some((job, job.slot(key.slot)?))
}

/// The end of an element as a whole, or `None` while nodes of its gang have not ended their part.
pub(super) fn whole(
    now: Timestamp,
    job: &Job,
    slot: &Slot,
    node: NodeId,
    end: ElementEnd,
    events: &mut Vec<Event>,
) -> Option<ElementEnd> {
    let nodes = &slot.allocation.nodes;
    // Of one that has not begun a node says so when it cannot begin, and no other has to be asked.
    if nodes.len() == 1 || !slot.begun {
        return Some(end);
    }
    let others: Vec<&NodeEnd> = slot
        .node_ends
        .iter()
        .filter(|known| known.node != node && known.end.position == end.position)
        .collect();
    let leads = nodes.first().is_some_and(|share| share.node == node);
    let broken = is_broken(&end) || others.iter().any(|other| is_broken(&other.end));
    let of_tasks = job.spec.launch.is_step();
    let goes_back = goes_back(slot, end.position);
    // A script lives on the leader; the others hold room for its steps and are closed after it. Else the whole is over
    // once nothing of it is left anywhere.
    if leads && !of_tasks && !broken && !goes_back {
        return Some(end);
    }
    if others.len() + 1 < nodes.len() {
        if broken {
            events.extend(end_the_rest(now, job, slot, end.position));
        }
        events.push(Event::NodePartEnded {
            job: job.id,
            slot: slot.id,
            end: NodeEnd { node, end },
        });
        return None;
    }
    let mut whole = end;
    for other in others {
        if weight(&other.end) > weight(&whole) {
            whole.state = other.end.state;
            whole.reason = other.end.reason.clone();
            whole.exit = other.end.exit;
            whole.cancelled_by = other.end.cancelled_by;
        }
        whole.started = match (whole.started, other.end.started) {
            (Some(one), Some(two)) => Some(one.min(two)),
            (one, two) => one.or(two),
        };
        whole.ended = whole.ended.max(other.end.ended);
        whole.usage = whole.usage.plus(other.end.usage);
    }
    Some(whole)
}

/// Whether a part ended in a way that the others cannot do without it: its node lost it, or it could not start.
fn is_broken(end: &ElementEnd) -> bool {
    end.state == JobState::NodeFail || matches!(end.reason, Reason::JobLaunchFailure(_))
}

/// Which part's end says most: the one that brought the others down, then what went wrong, then the highest code.
fn weight(end: &ElementEnd) -> (bool, bool, bool, u8) {
    let told = matches!(
        end.reason,
        Reason::SystemFailure(_) | Reason::JobLaunchFailure(_)
    );
    (
        end.state == JobState::NodeFail && told,
        told,
        end.state != JobState::Completed,
        end.exit.shell_code(),
    )
}

/// Whether its nodes were told to end it so that it runs again. On a warning only the leader's processes end.
fn goes_back(slot: &Slot, position: u32) -> bool {
    let mut kills = slot.kills.iter().filter(|kill| kill.is_told());
    kills.any(|kill| kill.cause.goes_back() && kill.positions.contains(position))
}

/// One part is lost: orders the end of the others, unless that is ordered already.
fn end_the_rest(now: Timestamp, job: &Job, slot: &Slot, position: u32) -> Option<Event> {
    let mut kills = slot.kills.iter();
    if kills.any(|kill| kill.is_told() && kill.positions.contains(position)) {
        return None;
    }
    let positions: IndexSet = [position].into_iter().collect();
    let cause = KillCause::NodeLost;
    Some(Event::KillOrdered {
        job: job.id,
        slot: slot.id,
        kill: Kill { positions, cause },
        at_once: true,
        at: now,
    })
}
