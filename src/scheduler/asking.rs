//! What is asked of a job that is not queued yet, or of its place among others.

use super::priority::Weights;
use super::queue::{self, GroupKey};
use super::{Entry, Policy, View, plan};
use crate::model::allocation::Allocation;
use crate::model::job::Job;
use crate::model::time::Timestamp;
use std::sync::Arc;

/// Where a job would run now if nobody else waited, for `--dry-run`; `None` when it would wait.
#[must_use]
pub fn would_place(view: &View<'_>, job: &Job, now: Timestamp) -> Option<Allocation> {
    let mut queue = queue::Queue::default();
    queue.enter(job);
    let mut jobs = view.jobs.clone();
    jobs.insert(job.id, Arc::new(job.clone()));
    let alone = View {
        queue: &queue,
        jobs: &jobs,
        promised: &[],
        ..*view
    };
    let plan = plan(&alone, now, Policy::default());
    plan.entries.into_iter().find_map(|entry| match entry {
        Entry::Start { allocation, .. } => Some(allocation),
        Entry::Extend { .. } | Entry::Evict { .. } => None,
    })
}

/// Jobs ahead of this one in its partition's order.
#[must_use]
pub fn jobs_ahead(view: &View<'_>, weights: Weights, job: &Job, now: Timestamp) -> usize {
    let ranker = view.ranker(weights, now);
    let place =
        |key: &GroupKey, member: &queue::Member| ranker.key(&ranker.class(&key.class), key, member);
    let own = queue::Member {
        submitted: job.submitted,
        id: job.id,
        runs: false,
    };
    let own = place(&GroupKey::of(job), &own);
    let groups = view.queue.groups().map(|(_, group)| group);
    let same = groups.filter(|group| group.key.class.partition == job.spec.partition);
    same.map(|group| {
        let rank = ranker.class(&group.key.class);
        let ahead = |member: &queue::Member| ranker.key(&rank, &group.key, member) < own;
        group.jobs().take_while(ahead).count()
    })
    .sum()
}
