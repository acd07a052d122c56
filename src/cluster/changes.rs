//! What a batch of events changed: the rows that the one write path stores in one transaction.

use crate::model::audit::AuditRecord;
use crate::model::history::{ElementRow, EndedJob, StepRow};
use crate::model::identity::{Invitation, KeyId, KnownKey, TokenHash};
use crate::model::ids::{JobId, SlotKey, StepId};
use crate::model::job::Job;
use crate::model::node::Node;
use crate::model::rules::{Noun, Setting};
use crate::scheduler::priority::Usage;
use crate::scheduler::shares::Member;
use crate::wire::worker::StepOrder;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Counters of the cluster that must survive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// The next job's number.
    pub job_next: u32,
    /// The next node's number.
    pub node_next: u32,
}

impl Default for Counters {
    fn default() -> Self {
        Counters {
            job_next: 1,
            node_next: 1,
        }
    }
}

/// Rows to store, in one transaction.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Changes {
    /// Hot jobs as they are now; `None` = gone from the hot state (its end is in `ended`).
    pub jobs: Vec<(JobId, Option<Arc<Job>>)>,
    /// Ends of elements: job, row number, row. Appended, never changed.
    pub rows: Vec<(JobId, u32, ElementRow)>,
    /// Jobs that ended.
    pub ended: Vec<EndedJob>,
    /// Steps that ended.
    pub steps: Vec<StepRow>,
    /// Steps that run, as they were ordered; `None` = over.
    pub orders: Vec<(SlotKey, StepId, Option<Arc<StepOrder>>)>,
    /// Nodes as they are now; `None` = removed.
    pub nodes: Vec<(u32, Option<Arc<Node>>)>,
    /// The counters, when they moved.
    pub counters: Option<Counters>,
    /// Keys as they are known now; `None` = no more.
    pub keys: Vec<(KeyId, Option<Arc<KnownKey>>)>,
    /// Invitations as they are now; `None` = forgotten.
    pub invitations: Vec<(TokenHash, Option<Arc<Invitation>>)>,
    /// Settings of partitions, accounts, users and QOS as they are now; `None` = removed.
    pub rules: Vec<(Noun, String, Option<Vec<Setting>>)>,
    /// Usage of those whose books moved.
    pub usage: Vec<(Member, Usage)>,
    /// Who asked for what, in order. The shell adds these: the cluster itself does not look back.
    pub audit: Vec<AuditRecord>,
}

impl Changes {
    /// Whether there is nothing to store.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
            && self.rows.is_empty()
            && self.ended.is_empty()
            && self.steps.is_empty()
            && self.orders.is_empty()
            && self.nodes.is_empty()
            && self.counters.is_none()
            && self.keys.is_empty()
            && self.invitations.is_empty()
            && self.rules.is_empty()
            && self.usage.is_empty()
            && self.audit.is_empty()
    }
}
