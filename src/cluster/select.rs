//! Which hot jobs and elements a filter means, and who may touch them.

use super::command::Principal;
use super::snapshot::by_raw_id;
use crate::model::ids::JobId;
use crate::model::index_set::IndexSet;
use crate::model::job::{Job, JobSpec, JobState, Kill, Owner};
use crate::model::refusal::{Code, Refusal};
use crate::wire::client::{Filter, Selector};
use imbl::OrdMap;
use std::sync::Arc;

/// A job and the positions of it that are meant; `None` = all.
#[derive(Debug, Clone)]
pub struct Target {
    /// The job.
    pub job: Arc<Job>,
    /// Positions, when not all are meant.
    pub positions: Option<IndexSet>,
}

impl Target {
    /// Whether this position is meant.
    #[must_use]
    pub fn means(&self, position: u32) -> bool {
        self.positions
            .as_ref()
            .is_none_or(|positions| positions.contains(position))
    }

    /// Those of `set` that are meant.
    #[must_use]
    pub fn among(&self, set: &IndexSet) -> IndexSet {
        let mut meant = set.clone();
        if let Some(positions) = &self.positions {
            meant.intersect(positions);
        }
        meant
    }
}

/// What a filter means, and remarks on operands that mean nothing any more.
#[derive(Debug, Default)]
pub struct Selected {
    /// Hot targets.
    pub targets: Vec<Target>,
    /// Numbers given out once that are not hot: ended.
    pub ended: Vec<u32>,
}

/// Resolves operands and conditions.
///
/// # Errors
/// A number that was never given out; an index that the array does not have.
pub fn select(
    jobs: &OrdMap<JobId, Arc<Job>>,
    job_next: u32,
    filter: &Filter,
) -> Result<Selected, Refusal> {
    let mut selected = Selected::default();
    if filter.jobs.is_empty() {
        selected.targets = jobs
            .values()
            .map(|job| Target {
                job: Arc::clone(job),
                positions: None,
            })
            .collect();
    }
    for selector in &filter.jobs {
        match target(jobs, job_next, selector)? {
            Some(target) => selected.targets.push(target),
            None => selected.ended.push(selector.job),
        }
    }
    selected
        .targets
        .retain(|target| matches(filter, &target.job));
    Ok(selected)
}

/// Whether a job meets the conditions beside the operands.
#[must_use]
pub fn matches(filter: &Filter, job: &Job) -> bool {
    let state = filter.states.is_empty()
        || filter.states.iter().any(|state| match state {
            JobState::Pending => !job.pending.is_empty() || !job.waiting.is_empty(),
            JobState::Running => job.slots.iter().any(|slot| !slot.is_stopped()),
            JobState::Suspended => job.slots.iter().any(|slot| slot.is_stopped()),
            JobState::Completing => job
                .slots
                .iter()
                .any(|slot| slot.kills.iter().any(Kill::is_told)),
            _ => false,
        });
    state && is_named(filter, &job.owner, &job.spec)
}

/// Whether a job, hot or ended, is of the users, partitions and names that a filter asks for.
#[must_use]
pub fn is_named(filter: &Filter, owner: &Owner, spec: &JobSpec) -> bool {
    let user = filter.users.is_empty()
        || filter
            .users
            .iter()
            .any(|user| *user == *owner.name || user.parse() == Ok(owner.uid));
    let partition = filter.partitions.is_empty()
        || filter.partitions.iter().any(|name| spec.partition == *name);
    let name = filter.names.is_empty() || filter.names.iter().any(|name| spec.name == *name);
    user && partition && name
}

/// Never given out.
#[must_use]
pub fn unknown(job: u32) -> Refusal {
    Refusal::new(
        Code::UnknownJob,
        format!("there is no job {job}"),
        "`hpc queue` and `hpc history` list jobs",
    )
}

fn target(
    jobs: &OrdMap<JobId, Arc<Job>>,
    job_next: u32,
    selector: &Selector,
) -> Result<Option<Target>, Refusal> {
    if selector.job == 0 || selector.job >= job_next {
        return Err(unknown(selector.job));
    }
    let Some((job, _)) = by_raw_id(jobs, selector.job) else {
        return Ok(None);
    };
    Ok(Some(Target {
        job: Arc::clone(job),
        positions: positions(job.id, &job.spec, selector)?,
    }))
}

/// The positions of the job with this number that a selector means; `None` = all of them.
///
/// # Errors
/// An index that the job does not have.
pub fn positions(
    id: JobId,
    spec: &JobSpec,
    selector: &Selector,
) -> Result<Option<IndexSet>, Refusal> {
    let (indices, array) = match (&selector.indices, &spec.array) {
        (None, _) if id.0 == selector.job => return Ok(None),
        (None, _) => {
            let position = selector.job - id.0;
            return Ok(Some(IndexSet::from_range(position, position + 1)));
        }
        (Some(_), None) => {
            let what = format!("job {} is not an array", selector.job);
            return Err(Refusal::new(Code::UnknownJob, what, "leave out the index"));
        }
        (Some(indices), Some(array)) => (indices, array),
    };
    let mut positions = IndexSet::new();
    for at in 0..indices.count() {
        let index = indices.index_at(at);
        let Some(position) = array.position_of(index) else {
            let what = format!("job {} has no element {index}", selector.job);
            let hint = format!("its indices are {array}");
            return Err(Refusal::new(Code::UnknownJob, what, hint));
        };
        positions.insert(position);
    }
    Ok(Some(positions))
}

/// Whether `who` may touch this job.
#[must_use]
pub fn may(who: &Principal, job: &Job) -> bool {
    who.is_operator() || who.owner.is(&job.owner)
}

/// Splits what a filter means into what `who` may touch; foreign jobs named by number are an error, those
/// met by a condition are passed over where there are own ones beside them.
///
/// # Errors
/// A job named by number that belongs to another user; a user named whose jobs one may not touch.
pub fn permitted(
    who: &Principal,
    filter: &Filter,
    selected: Selected,
) -> Result<Selected, Refusal> {
    let named = !filter.jobs.is_empty();
    let (own, foreign): (Vec<_>, Vec<_>) = selected
        .targets
        .into_iter()
        .partition(|target| may(who, &target.job));
    // Naming a user whose jobs one may not touch is refused too: nothing would be done, and silently.
    if (named || (own.is_empty() && !filter.users.is_empty()))
        && let Some(target) = foreign.first()
    {
        return Err(Refusal::new(
            Code::NotPermitted,
            format!(
                "job {} belongs to {}, you are {}",
                target.job.id, target.job.owner.name, who.owner.name
            ),
            "only its owner or an operator may do this",
        ));
    }
    Ok(Selected {
        targets: own,
        ended: selected.ended,
    })
}
