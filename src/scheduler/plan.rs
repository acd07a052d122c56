//! What the planner says.

use super::nodes::Parts;
use super::queue::GroupKey;
use crate::model::allocation::Allocation;
use crate::model::ids::{JobId, SlotId};
use crate::model::job::{Reason, Slot};
use crate::model::time::Timestamp;

/// One proposal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// Grant a new slot and give it this many waiting positions.
    Start {
        /// The job.
        job: JobId,
        /// Where.
        allocation: Allocation,
        /// How many positions.
        count: u32,
    },
    /// Give a slot more positions.
    Extend {
        /// The job.
        job: JobId,
        /// Its slot.
        slot: SlotId,
        /// How many positions.
        count: u32,
    },
    /// Have a slot make room.
    Evict {
        /// Whose.
        job: JobId,
        /// Which.
        slot: SlotId,
        /// For whom.
        by: JobId,
        /// So long after its warning; milliseconds. 0 = at once.
        grace_ms: i64,
        /// It waits and runs again.
        again: bool,
    },
    /// Have a slot stand still, so that others may have its cpus meanwhile.
    Suspend {
        /// Whose.
        job: JobId,
        /// Which.
        slot: SlotId,
        /// For whom.
        to: JobId,
    },
}

impl Plan {
    /// With what another says beside it.
    pub fn extend(&mut self, other: Plan) {
        self.entries.extend(other.entries);
        self.blocked.extend(other.blocked);
        self.held.extend(other.held);
        self.kept.extend(other.kept);
        self.promised.extend(other.promised);
        self.again = self.again.into_iter().chain(other.again).min();
    }
}

/// A place that others were told to leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Promise {
    /// Whose.
    pub job: JobId,
    /// What it will have.
    pub parts: Parts,
}

impl Promise {
    /// Whether it counts on what this slot holds.
    #[must_use]
    pub fn touches(&self, slot: &Slot) -> bool {
        let nodes = self.parts.iter().map(|part| part.node);
        let licenses = self.parts.iter().any(|part| !part.is_of_node());
        licenses
            || nodes
                .into_iter()
                .any(|node| slot.allocation.share(node).is_some())
    }
}

/// A plan: proposals in order, and the jobs that block.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// Proposals, to be adopted in this order.
    pub entries: Vec<Entry>,
    /// Jobs that could not go on, and why; every eligible job not named waits for Priority.
    pub blocked: Vec<(JobId, Reason)>,
    /// Groups of which none can go on, and why.
    pub held: Vec<(GroupKey, Reason)>,
    /// Jobs that are kept a place, and when they will start at the latest.
    pub kept: Vec<(JobId, Timestamp)>,
    /// For whom others make room, in their order: an entry for each element. They come first until they have started.
    pub promised: Vec<Promise>,
    /// When there will be something else to say though nothing happens until then.
    pub again: Option<Timestamp>,
}
