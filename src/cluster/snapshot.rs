//! What queries see: the state as last committed, sharing its parts with the live one.

use super::command::Outcome;
use crate::model::identity::{Invitation, KeyId, KnownKey, TokenHash};
use crate::model::ids::{JobId, NodeId, SlotKey};
use crate::model::job::{Job, Reason};
use crate::model::node::Node;
use crate::model::rules::Rules;
use crate::model::time::Timestamp;
use crate::scheduler::forecast::Forecast;
use crate::scheduler::nodes::Totals;
use crate::scheduler::order::Ranker;
use crate::scheduler::priority::{Parts, Weights};
use crate::scheduler::queue::GroupKey;
use crate::scheduler::shares::Standings;
use crate::wire::worker::StepOrder;
use imbl::OrdMap;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What the last plan could not start, and why. Whoever is not named waits behind others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Blocked {
    /// Jobs by themselves.
    pub jobs: BTreeMap<JobId, Reason>,
    /// All jobs of these groups.
    pub groups: BTreeMap<GroupKey, Reason>,
    /// Jobs that are kept a place, and when they start at the latest.
    pub kept: BTreeMap<JobId, Timestamp>,
}

impl Blocked {
    pub(super) fn is_empty(&self) -> bool {
        self.jobs.is_empty() && self.groups.is_empty()
    }

    /// Why this job waits.
    #[must_use]
    pub fn reason(&self, job: &Job) -> Option<&Reason> {
        let own = self.jobs.get(&job.id);
        own.or_else(|| {
            // Few groups are held, so most jobs are spared the making of a key.
            let any = !self.groups.is_empty();
            any.then(|| self.groups.get(&GroupKey::of(job))).flatten()
        })
    }
}

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
    /// Where everybody stood of late.
    pub standings: Arc<Standings>,
    /// What all nodes have together.
    pub totals: Totals,
    /// What the factors of priority are worth.
    pub weights: Weights,
    /// When jobs will start, as seen a moment ago. The shell adds it.
    pub forecast: Arc<Forecast>,
    /// Why jobs wait.
    pub blocked: Arc<Blocked>,
    /// Steps that run, as they were ordered.
    pub steps: OrdMap<SlotKey, Vec<Arc<StepOrder>>>,
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

    /// The priority of a job at this time, term by term.
    #[must_use]
    pub fn priority(&self, job: &Job, now: Timestamp) -> Parts {
        let ranker = Ranker::new(&self.rules, &self.standings, self.totals, self.weights, now);
        ranker.parts(&GroupKey::of(job), job.submitted)
    }

    /// Names of nodes.
    #[must_use]
    pub fn node_name(&self, id: NodeId) -> String {
        self.nodes
            .get(&id)
            .map_or_else(|| format!("node-{id}"), |node| node.name().to_owned())
    }
}
