//! What queries see: the state as last committed, sharing its parts with the live one.

use super::command::Outcome;
use crate::model::identity::{Invitation, KeyId, KnownKey, TokenHash};
use crate::model::ids::{JobId, NodeId};
use crate::model::job::{Job, Reason};
use crate::model::node::Node;
use crate::model::rules::Rules;
use imbl::OrdMap;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A committed state, for reading.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Name of the cluster.
    pub name: String,
    /// Hot jobs.
    pub jobs: OrdMap<JobId, Arc<Job>>,
    /// Nodes.
    pub nodes: OrdMap<NodeId, Arc<Node>>,
    /// What was decided of partitions, accounts, users and QOS.
    pub rules: Arc<Rules>,
    /// Why the heads of the queues wait.
    pub blocked: Arc<BTreeMap<JobId, Reason>>,
    /// Jobs that ended lately.
    pub recent: OrdMap<JobId, Outcome>,
    /// The next job's number: everything below was given out.
    pub job_next: u32,
    /// Keys that are known.
    pub keys: OrdMap<KeyId, Arc<KnownKey>>,
    /// Invitations, by the hash of their secrets.
    pub invitations: OrdMap<TokenHash, Arc<Invitation>>,
}

/// The hot job with this number or with an element of this raw id, and the position.
pub(super) fn by_raw_id(jobs: &OrdMap<JobId, Arc<Job>>, raw: u32) -> Option<(&Arc<Job>, u32)> {
    let (id, job) = jobs.get_prev(&JobId(raw))?;
    let position = raw - id.0;
    (position < job.spec.count()).then_some((job, position))
}

impl Snapshot {
    /// The hot job with this number or with an element of this raw id, and the position.
    #[must_use]
    pub fn by_raw_id(&self, raw: u32) -> Option<(&Arc<Job>, u32)> {
        by_raw_id(&self.jobs, raw)
    }

    /// Names of nodes.
    #[must_use]
    pub fn node_name(&self, id: NodeId) -> String {
        self.nodes
            .get(&id)
            .map_or_else(|| format!("node-{id}"), |node| node.name().to_owned())
    }
}
