//! What a worker is told to start a slot.

use super::Cluster;
use super::apply::restarts_among;
use crate::model::job::{Job, JobSpec, Slot};
use crate::wire::worker::SlotLaunch;
use std::sync::Arc;

/// The launch of `slot` for its node number `index`; the shell adds the blobs' bytes and the age.
pub(super) fn of(cluster: &Cluster, job: &Job, slot: &Slot, index: usize) -> SlotLaunch {
    let name = |id| {
        cluster
            .nodes
            .get(&id)
            .map_or_else(String::new, |node| node.name().to_owned())
    };
    SlotLaunch {
        key: crate::model::ids::SlotKey {
            job: job.id,
            slot: slot.id,
        },
        spec: Arc::clone(&job.spec),
        owner: job.owner.clone(),
        cluster: cluster.settings.name.clone(),
        granted: slot.granted,
        granted_age_ms: 0,
        nodes: slot
            .allocation
            .nodes
            .iter()
            .map(|share| name(share.node))
            .collect(),
        shares: slot.allocation.nodes.clone(),
        node_index: u32::try_from(index).unwrap_or(u32::MAX),
        time_limit_s: cluster.time_limit_s(job),
        blobs: Vec::new(),
        positions: slot.queue.clone(),
        restarts: restarts_among(job, &slot.queue),
    }
}

/// After how many milliseconds what may run again ends where it is cut off, with the time to follow SIGTERM.
pub(super) fn lease_ms(lease_ms: u64, spec: &JobSpec) -> Option<u64> {
    let kill_wait_ms = u64::from(spec.kill_wait_s) * 1000;
    spec.requeue.then(|| lease_ms.saturating_add(kill_wait_ms))
}

impl Cluster {
    /// The run time limit in force: the job's own, else its partition's.
    #[must_use]
    pub fn time_limit_s(&self, job: &Job) -> Option<u32> {
        super::views::time_limit_s(&self.rules, job)
    }
}
