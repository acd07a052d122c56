//! What the planner sees: the cluster's own ordered maps, borrowed, nothing copied.

use crate::model::ids::{JobId, NodeId};
use crate::model::job::Job;
use crate::model::node::Node;
use crate::model::time::Timestamp;
use imbl::OrdMap;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A job's place in the order of its partition: higher priority first, then earlier submission, then number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct QueueKey {
    /// Priority, negated so that the highest sorts first.
    pub priority_negated: i64,
    /// Submission.
    pub submitted: Timestamp,
    /// Number.
    pub id: JobId,
}

impl QueueKey {
    /// Of this job.
    #[must_use]
    pub fn of(job: &Job) -> Self {
        QueueKey {
            priority_negated: if job.spec.request.takes_nothing() {
                // It keeps nobody waiting, so it need not wait for anybody.
                i64::MIN
            } else {
                -priority(job)
            },
            submitted: job.submitted,
            id: job.id,
        }
    }
}

/// A job's priority: so far its `nice` alone, negated.
#[must_use]
pub fn priority(job: &Job) -> i64 {
    -i64::from(job.spec.nice)
}

/// Eligible jobs of each partition, in order.
pub type Queues = BTreeMap<String, OrdMap<QueueKey, JobId>>;

/// What the planner sees.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// All nodes.
    pub nodes: &'a OrdMap<NodeId, Arc<Node>>,
    /// All hot jobs.
    pub jobs: &'a OrdMap<JobId, Arc<Job>>,
    /// Those with positions that could start now if there were room.
    pub queues: &'a Queues,
}
