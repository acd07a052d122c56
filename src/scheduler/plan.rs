//! What the planner says.

use super::queue::GroupKey;
use crate::model::allocation::Allocation;
use crate::model::ids::{JobId, SlotId};
use crate::model::job::Reason;
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
}
