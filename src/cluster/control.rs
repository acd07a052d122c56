//! decide: what people ask of jobs that exist: cancel, signal, hold, release, requeue, suspend, update.

use super::admission;
use super::command::{Gone, Principal};
use super::select::{Selected, Target, permitted, select};
use super::{Cluster, Event, Reply, dependency};
use crate::model::history::NeverStarted;
use crate::model::ids::{JobId, SlotId, StepId};
use crate::model::index_set::IndexSet;
use crate::model::job::{Hold, Job, JobState, Kill, KillCause, Launch, Reason, Slot};
use crate::model::refusal::{Code, Refusal};
use crate::model::time::Timestamp;
use crate::wire::client::{Filter, JobChange};
use crate::wire::worker::SignalTarget;
use std::sync::Arc;

type Decided = Result<(Reply, Vec<Event>), Refusal>;

fn targets(cluster: &Cluster, who: &Principal, filter: &Filter) -> Result<Selected, Refusal> {
    let selected = select(&cluster.jobs, cluster.counters.job_next, filter);
    permitted(
        who,
        filter,
        selected.map_err(|refusal| all_or_nothing(refusal, filter))?,
    )
}

/// Of several operands one is wrong: the others were left alone too, which must be said.
fn all_or_nothing(mut refusal: Refusal, filter: &Filter) -> Refusal {
    if filter.jobs.len() > 1 {
        refusal.what.push_str("; nothing was changed");
    }
    refusal
}

fn touched(count: u32, selected: &Selected, mut notes: Vec<String>) -> Reply {
    notes.extend(
        selected
            .ended
            .iter()
            .map(|job| format!("job {job} has already ended")),
    );
    Reply::Touched { count, notes }
}

/// Refuses when jobs were named and none of them is in the right state.
fn some_or_refuse(
    count: u32,
    filter: &Filter,
    selected: &Selected,
    notes: Vec<String>,
    hint: &str,
) -> Result<Reply, Refusal> {
    let reply = touched(count, selected, notes);
    match &reply {
        Reply::Touched { count: 0, notes } if !filter.jobs.is_empty() && !notes.is_empty() => {
            Err(Refusal::new(Code::WrongState, notes.join("; "), hint))
        }
        _ => Ok(reply),
    }
}

fn waiting_of(job: &Job) -> IndexSet {
    let mut waiting = job.pending.clone();
    waiting.union_with(&job.waiting);
    waiting
}

/// The end of everything of a job that waits.
pub(super) fn end_waiting(now: Timestamp, job: &Job, by: Option<u32>, reason: Reason) -> Event {
    end_positions(now, job.id, waiting_of(job), by, reason)
}

/// The end of these positions of a job, which wait.
pub(super) fn end_positions(
    now: Timestamp,
    job: JobId,
    positions: IndexSet,
    by: Option<u32>,
    reason: Reason,
) -> Event {
    let ended = NeverStarted {
        positions,
        state: JobState::Cancelled,
        reason,
        cancelled_by: by,
        at: now,
    };
    Event::WaitingEnded { job, ended }
}

/// Ends elements that wait and orders the end of those that run.
fn end_target(now: Timestamp, target: &Target, cause: KillCause, by: Option<u32>) -> Vec<Event> {
    let job = &target.job;
    let mut events = Vec::new();
    let waiting = target.among(&waiting_of(job));
    if !waiting.is_empty() {
        events.push(end_positions(now, job.id, waiting, by, Reason::None));
    }
    events.extend(kill_running(now, target, cause, false));
    events
}

/// Orders the end of what a target has in slots, unless it is ordered already.
fn kill_running(now: Timestamp, target: &Target, cause: KillCause, at_once: bool) -> Vec<Event> {
    let job = &target.job;
    let mut events = Vec::new();
    for slot in &job.slots {
        let mut positions = target.among(&slot.queue);
        for kill in slot.kills.iter().filter(|kill| kill.cause == cause) {
            positions.subtract(&kill.positions);
        }
        if !positions.is_empty() {
            let kill = Kill { positions, cause };
            events.push(Event::KillOrdered {
                job: job.id,
                slot: slot.id,
                kill,
                at_once,
                at: now,
            });
        }
    }
    events
}

fn elements_of(events: &[Event]) -> u32 {
    events.iter().fold(0u32, |sum, event| {
        sum.saturating_add(match event {
            Event::WaitingEnded { ended, .. } => ended.positions.len(),
            Event::KillOrdered { kill, .. } => kill.positions.len(),
            _ => 0,
        })
    })
}

pub(super) fn cancel(
    cluster: &Cluster,
    now: Timestamp,
    who: &Principal,
    filter: &Filter,
) -> Decided {
    let selected = targets(cluster, who, filter)?;
    let by = who.owner.uid;
    let events: Vec<Event> = selected
        .targets
        .iter()
        .flat_map(|target| end_target(now, target, KillCause::Cancel { by }, Some(by)))
        .collect();
    Ok((touched(elements_of(&events), &selected, Vec::new()), events))
}

pub(super) fn client_gone(cluster: &Cluster, now: Timestamp, job: JobId) -> Vec<Event> {
    let Some(job) = cluster.job(job).filter(|job| job.spec.launch.is_attached()) else {
        return Vec::new();
    };
    end_target(
        now,
        &Target {
            job: Arc::clone(job),
            positions: None,
        },
        KillCause::ClientGone,
        None,
    )
}

pub(super) fn end_allocation(cluster: &Cluster, who: &Principal, job: JobId, code: u8) -> Decided {
    let Some(known) = cluster.job(job) else {
        return Ok((Reply::Done, Vec::new()));
    };
    if !super::select::may(who, known) {
        return Err(Refusal::new(
            Code::NotPermitted,
            format!("job {job} is not yours"),
            "only its owner may end it",
        ));
    }
    if known.spec.launch != Launch::Hold {
        let what = format!("job {job} is no allocation");
        return Err(Refusal::new(Code::WrongState, what, "use `hpc cancel`"));
    }
    let events = known
        .slots
        .iter()
        .filter(|slot| slot.released.is_none())
        .map(|slot| Event::SlotReleased {
            job,
            slot: slot.id,
            code,
        })
        .collect();
    Ok((Reply::Done, events))
}

/// SIGCONT.
const SIGCONT: i32 = 18;

fn made_room(job: JobId, to: JobId) -> String {
    format!("job {job} made room for job {to} and goes on by itself")
}

pub(super) fn signal(
    cluster: &Cluster,
    who: &Principal,
    filter: &Filter,
    signal: i32,
    to: SignalTarget,
) -> Decided {
    if !(1..=64).contains(&signal) {
        let what = format!("signal {signal}, it must be 1 to 64");
        return Err(Refusal::new(
            Code::Invalid,
            what,
            "give a name such as USR1",
        ));
    }
    let selected = targets(cluster, who, filter)?;
    let step = match to {
        SignalTarget::Step(step) | SignalTarget::EndStep(step) => Some(step),
        SignalTarget::Steps | SignalTarget::Batch | SignalTarget::All => None,
    };
    let mut events = Vec::new();
    let mut notes = Vec::new();
    for target in &selected.targets {
        let before = events.len();
        let lent = |slot: &Slot| slot.stops.lent_to.filter(|_| slot.is_stopped());
        let mut stopped = target.job.slots.iter().filter_map(lent);
        if signal == SIGCONT
            && let Some(to) = stopped.next()
        {
            notes.push(made_room(target.job.id, to));
            continue;
        }
        for slot in &target.job.slots {
            let meant = match slot.current {
                Some(current) => target.means(current.position),
                None => slot
                    .queue
                    .iter()
                    .next()
                    .is_some_and(|position| target.means(position)),
            };
            if meant && step.is_none_or(|step| has_step(&target.job, slot, step)) {
                events.push(Event::SignalOrdered {
                    job: target.job.id,
                    slot: slot.id,
                    signal,
                    to,
                });
            }
        }
        if events.len() == before && !filter.jobs.is_empty() {
            let id = target.job.id;
            notes.push(match step {
                Some(step) => format!("job {id} has no running step {step}"),
                None => format!("job {id} is pending execution"),
            });
        }
    }
    let count = u32::try_from(events.len()).unwrap_or(u32::MAX);
    let hint = match step {
        Some(_) => "`hpc job` shows the steps of a job",
        None => "signals reach running jobs only",
    };
    let reply = some_or_refuse(count, filter, &selected, notes, hint)?;
    Ok((reply, events))
}

/// Whether a step runs in this slot: one that was started in its job, or what a job of `hpc run` is.
fn has_step(job: &Job, slot: &Slot, step: StepId) -> bool {
    let own = job.spec.launch.is_step() && step == StepId(0);
    own || slot.steps.iter().any(|running| running.step == step)
}

/// Refuses what can only be done to a whole array.
fn whole_only(selected: &Selected, verb: &str) -> Result<(), Refusal> {
    let part = selected
        .targets
        .iter()
        .find(|target| target.positions.is_some() && target.job.spec.array.is_some());
    match part {
        None => Ok(()),
        Some(target) => Err(Refusal::new(
            Code::Unsupported,
            format!(
                "one element of array {} cannot be {verb} by itself",
                target.job.id
            ),
            format!("name the array as a whole: {}", target.job.id),
        )),
    }
}

pub(super) fn hold(cluster: &Cluster, who: &Principal, filter: &Filter) -> Decided {
    let selected = targets(cluster, who, filter)?;
    whole_only(&selected, "held")?;
    let mut events = Vec::new();
    let mut notes = Vec::new();
    for target in &selected.targets {
        let job = &target.job;
        let own = job.owner.is(&who.owner);
        if waiting_of(job).is_empty() {
            notes.push(format!("job {} is not pending", job.id));
        } else if job.hold == Hold::None || (job.hold == Hold::User && !own) {
            let hold = if own { Hold::User } else { Hold::Admin };
            events.push(Event::HoldChanged { job: job.id, hold });
        }
    }
    let count = u32::try_from(events.len()).unwrap_or(u32::MAX);
    Ok((
        some_or_refuse(
            count,
            filter,
            &selected,
            notes,
            "only what is pending can be held",
        )?,
        events,
    ))
}

pub(super) fn release(cluster: &Cluster, who: &Principal, filter: &Filter) -> Decided {
    let selected = targets(cluster, who, filter)?;
    whole_only(&selected, "released")?;
    let mut events = Vec::new();
    let mut notes = Vec::new();
    for target in &selected.targets {
        let job = &target.job;
        match job.hold {
            Hold::None => notes.push(format!("job {} is not held", job.id)),
            Hold::Admin if !who.is_operator() => {
                let what = format!("job {} is held by an operator", job.id);
                return Err(Refusal::new(
                    Code::NotPermitted,
                    what,
                    "ask an operator to release it",
                ));
            }
            Hold::User | Hold::Admin => events.push(Event::HoldChanged {
                job: job.id,
                hold: Hold::None,
            }),
        }
    }
    let count = u32::try_from(events.len()).unwrap_or(u32::MAX);
    Ok((
        some_or_refuse(
            count,
            filter,
            &selected,
            notes,
            "`hpc queue` shows the state",
        )?,
        events,
    ))
}

pub(super) fn requeue(
    cluster: &Cluster,
    now: Timestamp,
    who: &Principal,
    filter: &Filter,
    hold: bool,
) -> Decided {
    let selected = targets(cluster, who, filter)?;
    let mut events = Vec::new();
    let mut notes = Vec::new();
    for target in &selected.targets {
        let job = &target.job;
        if !job.spec.requeue {
            notes.push(format!("job {} was not submitted with --requeue", job.id));
            continue;
        }
        let orders = kill_running(now, target, KillCause::Requeue, false);
        if orders.is_empty() {
            notes.push(format!("job {} is not running", job.id));
        }
        events.extend(orders);
        if hold {
            events.push(Event::HoldChanged {
                job: job.id,
                hold: Hold::User,
            });
        }
    }
    let count = elements_of(&events);
    let hint = "only a running job that was submitted with --requeue can be put back";
    Ok((
        some_or_refuse(count, filter, &selected, notes, hint)?,
        events,
    ))
}

pub(super) fn suspend(
    cluster: &Cluster,
    now: Timestamp,
    who: &Principal,
    filter: &Filter,
    stop: bool,
) -> Decided {
    let selected = targets(cluster, who, filter)?;
    let mut events = Vec::new();
    let mut notes = Vec::new();
    for target in &selected.targets {
        let slots: Vec<SlotId> = target
            .job
            .slots
            .iter()
            .filter(|slot| slot.suspended != stop && !target.among(&slot.queue).is_empty())
            .map(|slot| slot.id)
            .collect();
        if slots.is_empty() {
            let id = target.job.id;
            let mut lent = target
                .job
                .slots
                .iter()
                .filter_map(|slot| slot.stops.lent_to);
            notes.push(match lent.next().filter(|_| !stop) {
                Some(to) => made_room(id, to),
                None if stop => format!("job {id} is not running"),
                None => format!("job {id} is not suspended"),
            });
        }
        events.extend(slots.into_iter().map(|slot| Event::SlotSuspended {
            job: target.job.id,
            slot,
            stop,
            at: now,
        }));
    }
    let count = u32::try_from(events.len()).unwrap_or(u32::MAX);
    Ok((
        some_or_refuse(
            count,
            filter,
            &selected,
            notes,
            "`hpc queue` shows the state",
        )?,
        events,
    ))
}

pub(super) fn update(
    cluster: &Cluster,
    now: Timestamp,
    who: &Principal,
    filter: &Filter,
    changes: &[JobChange],
    ended: &[Gone],
) -> Decided {
    let selected = targets(cluster, who, filter)?;
    let mut events = Vec::new();
    for target in &selected.targets {
        if target.positions.is_some() {
            let what = format!("job {}: single elements cannot be changed", target.job.id);
            return Err(Refusal::new(
                Code::Unsupported,
                what,
                "change the array as a whole",
            ));
        }
        events.extend(changed(cluster, now, who, &target.job, changes, ended)?);
    }
    let count = u32::try_from(selected.targets.len()).unwrap_or(u32::MAX);
    Ok((
        some_or_refuse(
            count,
            filter,
            &selected,
            Vec::new(),
            "only jobs that have not ended can be changed",
        )?,
        events,
    ))
}

fn changed(
    cluster: &Cluster,
    now: Timestamp,
    who: &Principal,
    job: &Job,
    changes: &[JobChange],
    ended: &[Gone],
) -> Result<Vec<Event>, Refusal> {
    let mut spec = (*job.spec).clone();
    let mut not_before = job.not_before;
    let mut waits_for = job.waits_for.to_vec();
    let mut never = false;
    let started = !job.slots.is_empty() || job.ends.first_start.is_some();
    let pending_only = |what: &str| {
        let text = format!("job {} has started, its {what} cannot be changed", job.id);
        if started {
            Err(Refusal::new(Code::WrongState, text, "submit it again"))
        } else {
            Ok(())
        }
    };
    for change in changes {
        match change {
            JobChange::TimeLimit(limit) => spec.time_limit_s = *limit,
            JobChange::TimeLimitBy(by) => {
                let limit = i64::from(cluster.time_limit_s(job).unwrap_or(0)) + by;
                let Ok(limit @ 1..) = u32::try_from(limit) else {
                    let what = format!("a time limit of {limit} s");
                    return Err(Refusal::new(
                        Code::Invalid,
                        what,
                        "it must be at least one second",
                    ));
                };
                spec.time_limit_s = Some(limit);
            }
            JobChange::Name(name) => spec.name = name.into(),
            JobChange::Comment(comment) => spec.comment = Some(comment.into()),
            JobChange::Partition(partition) => {
                pending_only("partition")?;
                spec.partition = partition.into();
            }
            JobChange::Nice(nice) => {
                if *nice < spec.nice && !who.is_operator() {
                    let what = format!("nice {nice} is below the job's {}", spec.nice);
                    return Err(Refusal::new(
                        Code::NotPermitted,
                        what,
                        "only an operator may raise a job",
                    ));
                }
                spec.nice = *nice;
            }
            JobChange::Begin(begin) => {
                pending_only("begin time")?;
                spec.begin = Some(*begin);
                not_before = Some(*begin).filter(|begin| *begin > now);
            }
            JobChange::Dependency(wanted) => {
                pending_only("dependency")?;
                spec.dependency = wanted.clone().map(Box::new);
                waits_for.clear();
                if let Some(wanted) = wanted {
                    let start = dependency::begin(cluster, now, job, wanted, ended)?;
                    if start.by_element || !start.lost.is_empty() {
                        let what = "aftercorr can only be given at submission";
                        return Err(Refusal::new(
                            Code::Unsupported,
                            what,
                            "submit the array again",
                        ));
                    }
                    (waits_for, never) = (start.waits_for, start.never);
                    not_before = not_before.max(start.not_before);
                }
            }
            JobChange::ArrayThrottle(most) => match &mut spec.array {
                Some(array) => array.throttle = (*most > 0).then_some(*most),
                None => {
                    let what = format!("job {} is not an array", job.id);
                    return Err(Refusal::new(
                        Code::Invalid,
                        what,
                        "a throttle needs an array",
                    ));
                }
            },
        }
    }
    admission::check_partition(cluster, &spec)?;
    admission::check_time_limit(cluster, &spec)?;
    if job.slots.is_empty() {
        super::reservations::check_asked(cluster, now, &job.owner, &spec)?;
    }
    let mut events = vec![Event::SpecChanged {
        job: job.id,
        spec: Arc::new(spec),
        not_before,
        waits_for,
    }];
    if never {
        events.extend(dependency::never_met(now, job));
    }
    Ok(events)
}
