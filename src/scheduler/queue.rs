//! Jobs that wait, in groups of those that are alike to the planner.
//!
//! All jobs of a group ask for the same, of the same partition, account and QOS, by the same user. So when one of them
//! does not fit, none does; and since all of them age alike, the one that was submitted first is always the first. The
//! planner looks at the first of each group: its work grows with the number of groups, not with that of jobs.

use crate::model::ids::JobId;
use crate::model::job::Job;
use crate::model::resource::Request;
use crate::model::shared::Text;
use crate::model::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Whose jobs, and under which rules.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Class {
    /// Partition.
    pub partition: Text,
    /// Account.
    pub account: Text,
    /// QOS.
    pub qos: Text,
    /// Owner's name.
    pub user: Arc<str>,
    /// Owner's uid: a node that serves one uid tells it from others of this name.
    pub uid: u32,
}

impl Class {
    /// Of this job.
    #[must_use]
    pub fn of(job: &Job) -> Self {
        Class {
            partition: job.spec.partition.clone(),
            account: job.spec.account.clone(),
            qos: job.spec.qos.clone(),
            user: Arc::clone(&job.owner.name),
            uid: job.owner.uid,
        }
    }
}

/// What jobs of a group have in common.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct GroupKey {
    /// What they ask for; first, so that groups that ask for the same lie together.
    pub request: Arc<Request>,
    /// Whose they are.
    pub class: Class,
    /// Their time limit; seconds.
    pub limit_s: Option<u32>,
    /// Their `nice`.
    pub nice: i32,
}

impl GroupKey {
    /// Of this job.
    #[must_use]
    pub fn of(job: &Job) -> Self {
        GroupKey {
            request: Arc::clone(&job.spec.request),
            class: Class::of(job),
            limit_s: job.spec.time_limit_s,
            nice: job.spec.nice,
        }
    }
}

/// Jobs of a group, the first first.
pub type Group = BTreeSet<(Timestamp, JobId)>;

/// All eligible jobs.
#[derive(Debug, Clone, Default)]
pub struct Queue {
    groups: BTreeMap<GroupKey, Group>,
    jobs: usize,
}

impl Queue {
    /// Enters a job.
    pub fn enter(&mut self, job: &Job) {
        let group = self.groups.entry(GroupKey::of(job)).or_default();
        self.jobs += usize::from(group.insert((job.submitted, job.id)));
    }

    /// Takes a job out.
    pub fn leave(&mut self, job: &Job) {
        let key = GroupKey::of(job);
        if let Some(group) = self.groups.get_mut(&key) {
            self.jobs -= usize::from(group.remove(&(job.submitted, job.id)));
            if group.is_empty() {
                self.groups.remove(&key);
            }
        }
    }

    /// Whether this job is there.
    #[must_use]
    pub fn has(&self, job: &Job) -> bool {
        let group = self.groups.get(&GroupKey::of(job));
        group.is_some_and(|group| group.contains(&(job.submitted, job.id)))
    }

    /// The groups, in the order of their keys.
    pub fn groups(&self) -> impl Iterator<Item = (&GroupKey, &Group)> {
        self.groups.iter()
    }

    /// How many jobs there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.jobs
    }

    /// Whether nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.jobs == 0
    }
}
