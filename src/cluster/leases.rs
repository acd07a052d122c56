//! decide: jobs that may run again and whose nodes are out of reach: when is the old copy surely gone?
//!
//! A shepherd that takes a lease ends its element when it was cut off from us for that long. We rely on that where an
//! agent that gives leases was told of the launch (nothing starts there before its lease is said), and where a shepherd
//! said that it has one ([`FromSlot::Leased`](crate::wire::worker::FromSlot)). The time runs from a
//! moment at which a heartbeat left that we have answered. We answer none on a link that is lost, so that moment
//! was before we took the node for silent; and what counts as silent since before our own start counts from there.
//! Both sides measure a duration on a clock of their own, so ours is a little longer.
//!
//! ```text
//!   shepherd    beat leaves ─────────── lease ──────────▶ SIGTERM ── kill wait ──▶ nothing left
//!   controller     ├─ answered … link lost ─────────── 1.2 × (lease + kill wait) + 5 s ──────────▶ goes back
//! ```
//! A gang goes back as a whole: once every node of it that is out of reach is past its lease, its parts within reach
//! are ended, and when they have said so nothing of it is left anywhere.
//!
//! **Limit:** what outlives its lease: processes that SIGKILL does not end (an uninterruptible wait); what the tasks of a
//! shepherd have started, when that was killed or stopped and no agent is left to find it; a virtual machine that was
//! paused from outside, until it goes on and sees the time.

use super::{Cluster, Event, launch, lifecycle, nodes};
use crate::model::ids::NodeId;
use crate::model::index_set::IndexSet;
use crate::model::job::{ElementEnd, Job, Kill, KillCause, NodeEnd, Slot};
use crate::model::time::Timestamp;
use std::collections::BTreeSet;

/// One part in so many is added: clocks differ by 18 % while two machines' are slewed as fast as chrony ever does, in
/// opposite directions. They are never stepped: steps do not reach the clocks that leases are measured on.
const RATE_PART: u64 = 5;
/// And so much: for timers, for processes to die, for a loaded machine.
const MARGIN_MS: u64 = 5_000;

/// How long we wait for the end of what a node ends after `ends_after_ms`.
fn wait_ms(ends_after_ms: u64) -> i64 {
    let wait = ends_after_ms
        .saturating_add(ends_after_ms / RATE_PART)
        .saturating_add(MARGIN_MS);
    // A thousand years are enough, and no sum of times overflows.
    i64::try_from(wait).unwrap_or(i64::MAX).min(1 << 45)
}

/// When nothing of a slot is left on a node out of reach; `None` while that is not known.
fn gone_at(cluster: &Cluster, slot: &Slot, node: NodeId) -> Option<Timestamp> {
    let since = cluster.cut_off.get(&node)?;
    Some(since.plus_ms(wait_ms(slot.lease_on(node)?)))
}

/// A slot with nodes out of reach: what is to be done about it, and when.
struct Absence {
    at: Timestamp,
    /// Positions of which nothing is left then.
    back: IndexSet,
    /// Positions whose parts within reach have to be ended first.
    end: IndexSet,
}

impl Absence {
    /// `None` where all nodes are there, or one of those that are not has no lease.
    fn of(cluster: &Cluster, slot: &Slot) -> Option<Self> {
        let nodes = || slot.allocation.nodes.iter().map(|share| share.node);
        let mut at: Option<Timestamp> = None;
        for node in nodes().filter(|node| cluster.cut_off.contains_key(node)) {
            at = at.max(Some(gone_at(cluster, slot, node)?));
        }
        let at = at?;
        let mut back = slot.queue.clone();
        for node in nodes().filter(|node| !cluster.cut_off.contains_key(node)) {
            back.intersect(&ended_on(slot, node));
        }
        let mut end = slot.queue.clone();
        end.subtract(&back);
        for kill in slot.kills.iter().filter(|kill| kill.is_told()) {
            end.subtract(&kill.positions);
        }
        Some(Absence { at, back, end })
    }

    fn is_idle(&self) -> bool {
        self.back.is_empty() && self.end.is_empty()
    }
}

/// Positions whose part on this node has ended.
fn ended_on(slot: &Slot, node: NodeId) -> IndexSet {
    let ends = slot.node_ends.iter().filter(|known| known.node == node);
    ends.map(|known| known.end.position).collect()
}

/// When [`run_out`] next has something to do.
pub(super) fn next_deadline(cluster: &Cluster) -> Option<Timestamp> {
    if cluster.cut_off.is_empty() {
        return None;
    }
    let slots = cluster.leased.iter().filter_map(|key| cluster.slot(*key));
    let absences = slots.filter_map(|slot| Absence::of(cluster, slot));
    absences
        .filter(|absence| !absence.is_idle())
        .map(|absence| absence.at)
        .min()
}

/// What was out of reach for longer than its lease goes back.
pub(super) fn run_out(cluster: &Cluster, now: Timestamp) -> Vec<Event> {
    let mut events = Vec::new();
    if cluster.cut_off.is_empty() {
        return events;
    }
    let mut lost = BTreeSet::new();
    for key in &cluster.leased {
        let Some((job, slot)) = cluster
            .job(key.job)
            .and_then(|job| job.slot(key.slot).map(|slot| (job, slot)))
        else {
            continue;
        };
        let Some(absence) = Absence::of(cluster, slot).filter(|absence| absence.at <= now) else {
            continue;
        };
        if !absence.back.is_empty() {
            events.extend(lifecycle::put_back(now, job, slot, absence.back, true));
        }
        events.extend(end_parts(now, job, slot, absence.end));
        let nodes = slot.allocation.nodes.iter().map(|share| share.node);
        lost.extend(nodes.filter(|node| cluster.cut_off.contains_key(node)));
    }
    events.extend(nodes::have_failed(cluster, now, &lost));
    events
}

/// Whether nothing of a position is left on the slot's nodes but perhaps this one.
pub(super) fn is_over_elsewhere(
    cluster: &Cluster,
    slot: &Slot,
    here: NodeId,
    position: u32,
    now: Timestamp,
) -> bool {
    slot.allocation
        .nodes
        .iter()
        .map(|share| share.node)
        .filter(|node| *node != here)
        .all(|node| {
            ended_on(slot, node).contains(position)
                || gone_at(cluster, slot, node).is_some_and(|at| at <= now)
        })
}

/// One node's part of a gang is over that is to run again: the others are to end too.
pub(super) fn part_over(
    now: Timestamp,
    job: &Job,
    slot: &Slot,
    node: NodeId,
    end: ElementEnd,
) -> Vec<Event> {
    let mut events = Vec::new();
    let mut others = IndexSet::from_range(end.position, end.position.saturating_add(1));
    for kill in slot.kills.iter().filter(|kill| kill.is_told()) {
        others.subtract(&kill.positions);
    }
    if !ended_on(slot, node).contains(end.position) {
        events.push(Event::NodePartEnded {
            job: job.id,
            slot: slot.id,
            end: NodeEnd { node, end },
        });
    }
    events.extend(end_parts(now, job, slot, others));
    events
}

fn end_parts(now: Timestamp, job: &Job, slot: &Slot, positions: IndexSet) -> Option<Event> {
    (!positions.is_empty()).then(|| Event::KillOrdered {
        job: job.id,
        slot: slot.id,
        kill: Kill {
            positions,
            cause: KillCause::Requeue,
        },
        at_once: true,
        at: now,
    })
}

/// A shepherd says that it has a lease. The longest that it may have heard of counts.
pub(super) fn taken(
    cluster: &Cluster,
    job: &Job,
    slot: &Slot,
    node: NodeId,
    ends_after_ms: u64,
) -> Option<Event> {
    let ours = launch::lease_ms(cluster.settings.lease_ms, &job.spec)?;
    let ends_after_ms = ends_after_ms.max(ours);
    let news = slot.lease_on(node).unwrap_or(0) < ends_after_ms;
    news.then_some(Event::LeaseTaken {
        job: job.id,
        slot: slot.id,
        node,
        ends_after_ms,
    })
}

/// An agent is back, and from now on it passes on leases as they are set today.
pub(super) fn renewed(cluster: &Cluster, node: NodeId) -> Vec<Event> {
    let slots = cluster.leased.iter().filter_map(|key| {
        let job = cluster.job(key.job)?;
        let slot = job.slot(key.slot)?;
        taken(cluster, job, slot, node, slot.lease_on(node)?)
    });
    slots.collect()
}
