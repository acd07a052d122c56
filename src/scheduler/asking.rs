//! What is asked of a job that is not queued yet, or of its place among others.

use super::priority::Weights;
use super::queue::{self, GroupKey};
use super::{Entry, Policy, View, plan};
use crate::model::allocation::Allocation;
use crate::model::job::Job;
use crate::model::time::Timestamp;
use std::sync::Arc;

/// In queues up to so long a job is tried among all the others.
const QUEUE_MAX: usize = 50_000;

/// Where a job would run now, for `--dry-run`; `None` when it would wait. In a very long queue it is tried as if it were
/// alone, and only told where when nobody is ahead of it.
#[must_use]
pub fn would_place(
    view: &View<'_>,
    job: &Job,
    now: Timestamp,
    policy: Policy,
) -> Option<Allocation> {
    let mut queue = queue::Queue::default();
    if view.queue.len() <= QUEUE_MAX {
        queue = view.queue.clone();
    } else if jobs_ahead(view, policy.weights, job, now) > 0 {
        return None;
    }
    queue.enter(job);
    queue.note(now, view.bookings);
    let mut jobs = view.jobs.clone();
    jobs.insert(job.id, Arc::new(job.clone()));
    let with = View {
        queue: &queue,
        jobs: &jobs,
        ..*view
    };
    let plan = plan(&with, now, policy);
    plan.entries.into_iter().find_map(|entry| match entry {
        Entry::Start {
            job: id,
            allocation,
            ..
        } => (id == job.id).then_some(allocation),
        Entry::Extend { .. } | Entry::Evict { .. } | Entry::Suspend { .. } => None,
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
