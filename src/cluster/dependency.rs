//! When a job's dependency is met, can never be met, or is still open.

use super::command::{Gone, GoneElements, Outcome};
use super::{Cluster, Event};
use crate::model::dependency::{Dependency, DependencyKind, Term};
use crate::model::ids::JobId;
use crate::model::index_set::IndexSet;
use crate::model::job::{ExitStatus, Job, JobState, Reason};
use crate::model::refusal::{Code, Refusal};
use crate::model::time::Timestamp;

/// How one term stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Met,
    Open,
    Never,
}

/// Jobs whose fate this one waits for.
pub(super) fn targets(job: &Job) -> Vec<JobId> {
    let Some(dependency) = &job.spec.dependency else {
        return Vec::new();
    };
    let open = |at: &usize| {
        job.waits_for.iter().any(|term| *term as usize == *at)
            || (dependency.terms[*at].kind == DependencyKind::AfterCorr && !job.waiting.is_empty())
    };
    (0..dependency.terms.len())
        .filter(open)
        .filter_map(|at| dependency.terms[at].job.map(|job| JobId(job.job)))
        .collect()
}

/// Whether it waits for others of its name and owner to end.
pub(super) fn waits_alone(job: &Job) -> bool {
    job.spec.dependency.as_ref().is_some_and(|dependency| {
        job.waits_for.iter().any(|at| {
            dependency
                .terms
                .get(*at as usize)
                .is_some_and(|term| term.kind == DependencyKind::Singleton)
        })
    })
}

/// What admission needs to know of a new dependency.
pub(super) struct Start {
    /// Terms that are open.
    pub waits_for: Vec<u32>,
    /// Set when it can never be met.
    pub never: bool,
    /// Every element waits for its counterpart.
    pub by_element: bool,
    /// Positions whose counterparts have ended, and not well.
    pub lost: IndexSet,
    /// A delay that begins now.
    pub not_before: Option<Timestamp>,
}

/// Judges a dependency at submission.
///
/// # Errors
/// A term that names a job that never existed.
pub(super) fn begin(
    cluster: &Cluster,
    now: Timestamp,
    job: &Job,
    dependency: &Dependency,
    ended: &[Gone],
) -> Result<Start, Refusal> {
    let lost = lost_counterparts(job, dependency, ended);
    let mut standings = Vec::new();
    let mut not_before = None;
    for term in &dependency.terms {
        if let Some(target) = &term.job {
            let id = JobId(target.job);
            let gone = || elements_of(ended, id).map(|elements| elements.array.as_ref());
            let hot = || Some(cluster.job(id)?.spec.array.as_deref());
            if let Some(index) = target.index
                && let Some(array) = hot().or_else(gone)
                && array.is_none_or(|array| array.position_of(index).is_none())
            {
                return Err(Refusal::new(
                    Code::Dependency,
                    format!("dependency `{dependency}`: job {id} has no element {index}"),
                    match array {
                        Some(array) => format!("its indices are {array}"),
                        None => "it is not an array: leave out the index".to_owned(),
                    },
                ));
            }
            if id == job.id || !is_known(cluster, id, ended) {
                return Err(Refusal::new(
                    Code::Dependency,
                    format!("dependency `{dependency}`: there is no job {id}"),
                    "name a job that `hpc queue` or `hpc history` shows",
                ));
            }
        }
        let mut standing = standing(cluster, job, term, ended);
        if term.kind == DependencyKind::AfterCorr
            && standing == Standing::Never
            && !lost.is_empty()
            && lost.len() < job.spec.count()
        {
            // Not as a whole: the others have what they waited for.
            standing = Standing::Met;
        }
        if standing == Standing::Met {
            not_before = not_before.max(delay(now, term));
        }
        standings.push(standing);
    }
    let by_element = job.spec.array.is_some()
        && dependency
            .terms
            .iter()
            .zip(&standings)
            .any(|(term, standing)| {
                term.kind == DependencyKind::AfterCorr
                    && *standing == Standing::Open
                    && is_array(cluster, term)
            });
    let (waits_for, never) = sum(dependency, &standings, by_element);
    Ok(Start {
        waits_for,
        never,
        by_element,
        lost,
        not_before,
    })
}

fn elements_of(ended: &[Gone], id: JobId) -> Option<&GoneElements> {
    let gone = ended.iter().find(|gone| gone.id == id)?;
    gone.elements.as_ref()
}

/// Positions of an array whose counterparts in arrays that have ended did not end well, or never were.
fn lost_counterparts(job: &Job, dependency: &Dependency, ended: &[Gone]) -> IndexSet {
    let mut lost = IndexSet::new();
    let Some(array) = job.spec.array.as_ref().filter(|_| !dependency.any) else {
        return lost;
    };
    let by_element = |term: &&Term| term.kind == DependencyKind::AfterCorr;
    for term in dependency.terms.iter().filter(by_element) {
        let elements = term.job.filter(|target| target.index.is_none());
        let elements = elements.and_then(|target| elements_of(ended, JobId(target.job)));
        let Some(elements) = elements.filter(|elements| elements.array.is_some()) else {
            continue;
        };
        for position in 0..array.count() {
            if elements.ended_well(array.index_at(position)) != Some(true) {
                lost.insert(position);
            }
        }
    }
    lost
}

fn delay(now: Timestamp, term: &Term) -> Option<Timestamp> {
    (term.delay_min > 0).then(|| now.plus_ms(i64::from(term.delay_min) * 60_000))
}

fn is_array(cluster: &Cluster, term: &Term) -> bool {
    term.job.is_some_and(|target| {
        target.index.is_none()
            && cluster
                .job(JobId(target.job))
                .is_some_and(|job| job.spec.array.is_some())
    })
}

/// Open terms, and whether all is lost.
fn sum(dependency: &Dependency, standings: &[Standing], by_element: bool) -> (Vec<u32>, bool) {
    let any_met = standings.contains(&Standing::Met);
    let all_never = !standings.is_empty()
        && standings
            .iter()
            .all(|standing| *standing == Standing::Never);
    let some_never = standings.contains(&Standing::Never);
    if dependency.any && any_met {
        return (Vec::new(), false);
    }
    let never = if dependency.any {
        all_never
    } else {
        some_never
    };
    let open = standings
        .iter()
        .enumerate()
        .filter(|(_, standing)| **standing == Standing::Open)
        // Counterparts are waited for element by element, not by the job as a whole.
        .filter(|(at, _)| !(by_element && dependency.terms[*at].kind == DependencyKind::AfterCorr))
        .map(|(at, _)| u32::try_from(at).unwrap_or(u32::MAX))
        .collect();
    (open, never)
}

fn is_known(cluster: &Cluster, id: JobId, ended: &[Gone]) -> bool {
    cluster.jobs.contains_key(&id)
        || cluster.recent.contains_key(&id)
        || ended.iter().any(|gone| gone.id == id)
        || cluster.by_raw_id(id.0).is_some()
}

fn standing(cluster: &Cluster, job: &Job, term: &Term, ended: &[Gone]) -> Standing {
    let Some(target) = &term.job else {
        let other = cluster.jobs.values().any(|other| {
            other.id < job.id && other.spec.name == job.spec.name && other.owner.is(&job.owner)
        });
        return if other { Standing::Open } else { Standing::Met };
    };
    let id = JobId(target.job);
    if let Some((hot, position)) = cluster.by_raw_id(id.0) {
        let position = match target.index {
            Some(index) => match hot
                .spec
                .array
                .as_ref()
                .and_then(|array| array.position_of(index))
            {
                Some(position) => Some(position),
                None => return Standing::Never,
            },
            None if hot.id != id => Some(position),
            None => None,
        };
        return standing_hot(hot, position, term.kind);
    }
    let of_element = target.index.and_then(|index| {
        let well = elements_of(ended, id)?.ended_well(index)?;
        Some(Outcome {
            state: if well {
                JobState::Completed
            } else {
                JobState::Failed
            },
            exit: ExitStatus::default(),
        })
    });
    let of_job = || {
        let gone = ended.iter().find(|gone| gone.id == id);
        let recent = cluster.recent.get(&id).copied();
        recent.or_else(|| gone.map(|gone| gone.outcome))
    };
    let outcome = of_element.or_else(of_job);
    outcome.map_or(Standing::Never, |outcome| {
        standing_ended(outcome, term.kind)
    })
}

fn standing_ended(outcome: Outcome, kind: DependencyKind) -> Standing {
    let well = outcome.state == JobState::Completed;
    let met = match kind {
        DependencyKind::After | DependencyKind::AfterAny | DependencyKind::Singleton => true,
        DependencyKind::AfterOk | DependencyKind::AfterCorr => well,
        DependencyKind::AfterNotOk => !well,
    };
    if met { Standing::Met } else { Standing::Never }
}

fn standing_hot(target: &Job, position: Option<u32>, kind: DependencyKind) -> Standing {
    let waits = |at: u32| target.pending.contains(at) || target.waiting.contains(at);
    let Some(at) = position else {
        let started = target.pending.is_empty()
            && target.waiting.is_empty()
            && target.slots.iter().all(|slot| slot.begun);
        let spoiled = !target.unsuccessful.is_empty();
        return match kind {
            DependencyKind::After if started => Standing::Met,
            // One element that ended badly settles it before the rest has ended.
            DependencyKind::AfterOk if spoiled => Standing::Never,
            _ => Standing::Open,
        };
    };
    let held = target.slots.iter().any(|slot| slot.queue.contains(at));
    if waits(at) {
        return Standing::Open;
    }
    if held {
        let running = target
            .slots
            .iter()
            .any(|slot| slot.current.is_some_and(|current| current.position == at));
        return if kind == DependencyKind::After && running {
            Standing::Met
        } else {
            Standing::Open
        };
    }
    let state = if target.unsuccessful.contains(at) {
        JobState::Failed
    } else {
        JobState::Completed
    };
    standing_ended(
        Outcome {
            state,
            exit: ExitStatus::default(),
        },
        kind,
    )
}

/// What changes for the jobs that wait for `target` now that something of it has started or ended.
pub(super) fn wake(cluster: &Cluster, now: Timestamp, target: JobId) -> Vec<Event> {
    let waiting = cluster.dependants.get(&target).into_iter().flatten();
    waiting
        .filter_map(|id| cluster.job(*id))
        .flat_map(|job| review(cluster, now, job))
        .collect()
}

/// The same for jobs that wait to be alone.
pub(super) fn wake_singletons(cluster: &Cluster, now: Timestamp) -> Vec<Event> {
    cluster
        .singletons
        .iter()
        .filter_map(|id| cluster.job(*id))
        .flat_map(|job| review(cluster, now, job))
        .collect()
}

/// Looks again at the terms that were open. A term that was met stays met: its target may be forgotten.
fn review(cluster: &Cluster, now: Timestamp, job: &Job) -> Vec<Event> {
    let Some(dependency) = &job.spec.dependency else {
        return Vec::new();
    };
    if job.reason == Reason::DependencyNeverSatisfied {
        return Vec::new();
    }
    let mut events = counterparts(cluster, now, job, dependency);
    let standings: Vec<(u32, Standing, &Term)> = job
        .waits_for
        .iter()
        .filter_map(|at| dependency.terms.get(*at as usize).map(|term| (*at, term)))
        .map(|(at, term)| (at, standing(cluster, job, term, &[]), term))
        .collect();
    let met: Vec<_> = standings
        .iter()
        .filter(|(_, standing, _)| *standing == Standing::Met)
        .collect();
    let not_before = met.iter().filter_map(|(_, _, term)| delay(now, term)).max();
    let lost = standings
        .iter()
        .filter(|(_, standing, _)| *standing == Standing::Never)
        .count();
    let enough = dependency.any && !met.is_empty();
    let never = if dependency.any {
        lost > 0 && lost == standings.len()
    } else {
        lost > 0
    };
    if never {
        events.extend(never_met(now, job));
        return events;
    }
    let open = standings
        .iter()
        .filter(|(_, standing, _)| *standing == Standing::Open && !enough);
    let waits_for: Vec<u32> = open.map(|(at, _, _)| *at).collect();
    if waits_for != *job.waits_for {
        events.push(Event::DependencyDecided {
            job: job.id,
            waits_for,
            not_before,
        });
    }
    events
}

/// The end, or the reason, of a job whose dependency can never be met.
pub(super) fn never_met(now: Timestamp, job: &Job) -> Vec<Event> {
    let mut events = vec![Event::ReasonChanged {
        job: job.id,
        reason: Reason::DependencyNeverSatisfied,
    }];
    if job.spec.kill_on_invalid_dependency {
        events.push(super::control::end_waiting(
            now,
            job,
            None,
            Reason::DependencyNeverSatisfied,
        ));
    }
    events
}

/// The end, or the reason, of elements whose counterparts did not end well.
pub(super) fn counterparts_lost(now: Timestamp, job: &Job, lost: IndexSet) -> Event {
    if job.spec.kill_on_invalid_dependency {
        let reason = Reason::DependencyNeverSatisfied;
        super::control::end_positions(now, job.id, lost, None, reason)
    } else {
        Event::ReasonChanged {
            job: job.id,
            reason: Reason::Dependency,
        }
    }
}

/// Elements of this array whose counterpart has ended well.
fn counterparts(
    cluster: &Cluster,
    now: Timestamp,
    job: &Job,
    dependency: &Dependency,
) -> Vec<Event> {
    let Some(array) = job.spec.array.as_ref().filter(|_| !job.waiting.is_empty()) else {
        return Vec::new();
    };
    let mut ready = IndexSet::clone(&job.waiting);
    let mut lost = false;
    for term in dependency
        .terms
        .iter()
        .filter(|term| term.kind == DependencyKind::AfterCorr)
    {
        let Some(target) = term.job else { continue };
        let hot = cluster.job(JobId(target.job));
        let ended_well = cluster
            .recent
            .get(&JobId(target.job))
            .map(|outcome| outcome.state == JobState::Completed);
        let here = |position: u32| {
            let Some(hot) = hot else {
                return ended_well == Some(true);
            };
            let there = hot
                .spec
                .array
                .as_ref()
                .and_then(|there| there.position_of(array.index_at(position)));
            there.is_some_and(|at| {
                standing_hot(hot, Some(at), DependencyKind::AfterCorr) == Standing::Met
            })
        };
        ready = ready
            .iter()
            .filter(|position| here(*position))
            .collect::<IndexSet>();
        lost |= hot.is_none() && ended_well != Some(true);
    }
    let mut events = Vec::new();
    let all = ready.len() == job.waiting.len();
    if !ready.is_empty() {
        events.push(Event::CounterpartsEnded {
            job: job.id,
            positions: ready.clone(),
        });
    }
    // The others' counterparts are gone and did not end well.
    if lost && !all {
        let mut never = IndexSet::clone(&job.waiting);
        never.subtract(&ready);
        events.push(counterparts_lost(now, job, never));
    }
    events
}
