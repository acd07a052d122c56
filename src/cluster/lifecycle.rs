//! decide: what slots report, what time brings, and what follows from an event.

use super::{Cluster, Event, dependency, gang, hearsay, leases, nodes};
use crate::model::history::{EndedJob, StepRow};
use crate::model::ids::{JobId, NodeId, SlotId, SlotKey};
use crate::model::index_set::IndexSet;
use crate::model::job::{
    Current, ElementEnd, ExitStatus, Job, JobState, Kill, KillCause, Reason, Slot, Usage,
};
use crate::model::time::Timestamp;
use crate::wire::worker::FromSlot;
use std::collections::BTreeSet;

/// What an event may lead to, remembered before the event is consumed.
#[derive(Debug, Clone, Copy)]
pub(super) enum Trigger {
    /// Something of this job started.
    Started(JobId),
    /// Something of this job ended or went back.
    Moved(JobId),
    /// This job is gone.
    Gone(JobId),
    /// Something that this slot holds is to end.
    ToEnd(SlotKey),
    /// Nothing follows.
    Nothing,
}

impl Trigger {
    pub(super) fn of(event: &Event) -> Self {
        match event {
            Event::SlotGranted {
                job, allocation, ..
            } if allocation.nodes.len() == 1 => Trigger::Started(*job),
            Event::GangBegun { job, .. } => Trigger::Started(*job),
            Event::KillOrdered { job, slot, .. } => Trigger::ToEnd(SlotKey {
                job: *job,
                slot: *slot,
            }),
            Event::ElementsEnded { job, .. }
            | Event::WaitingEnded { job, .. }
            | Event::PutBack { job, .. } => Trigger::Moved(*job),
            Event::JobEnded(ended) => Trigger::Gone(ended.id),
            _ => Trigger::Nothing,
        }
    }
}

/// What follows from an event that has just been applied.
pub(super) fn consequences(cluster: &Cluster, now: Timestamp, trigger: Trigger) -> Vec<Event> {
    match trigger {
        Trigger::Nothing => Vec::new(),
        Trigger::ToEnd(key) => {
            let job = cluster.job(key.job);
            let found = job.and_then(|job| Some((job, job.slot(key.slot)?)));
            // Nobody has to be asked: nothing of it runs.
            let gathering = found.filter(|(_, slot)| !slot.begun);
            gathering.map_or_else(Vec::new, |(job, slot)| gang::disband(now, job, slot))
        }
        Trigger::Started(id) => dependency::wake(cluster, now, id),
        Trigger::Moved(id) => {
            // Before its end: which of its elements ended well is known only as long as it is hot.
            let mut events = dependency::wake(cluster, now, id);
            events.extend(finish(cluster, now, id));
            events
        }
        Trigger::Gone(id) => {
            let mut events = dependency::wake(cluster, now, id);
            events.extend(dependency::wake_singletons(cluster, now));
            events
        }
    }
}

/// The end of a job that has nothing left, and of its slots.
fn finish(cluster: &Cluster, now: Timestamp, id: JobId) -> Vec<Event> {
    let Some(job) = cluster.job(id) else {
        return Vec::new();
    };
    if !job.pending.is_empty() || !job.waiting.is_empty() {
        return Vec::new();
    }
    let mut events: Vec<Event> = job
        .slots
        .iter()
        .filter(|slot| slot.queue.is_empty())
        .map(|slot| Event::SlotClosed {
            job: id,
            slot: slot.id,
            at: now,
        })
        .collect();
    if events.len() == job.slots.len() {
        events.push(Event::JobEnded(Box::new(ended(now, job))));
    }
    events
}

fn ended(now: Timestamp, job: &Job) -> EndedJob {
    let (state, reason, exit, cancelled_by) = job.ends.worst.clone().unwrap_or((
        JobState::Completed,
        Reason::None,
        Default::default(),
        None,
    ));
    EndedJob {
        id: job.id,
        spec: job.spec.clone(),
        owner: job.owner.clone(),
        submitted: job.submitted,
        started: job.ends.first_start,
        ended: job.ends.last_end.unwrap_or(now),
        state,
        reason,
        exit,
        cancelled_by,
        usage: job.ends.usage,
        granted: job.granted.clone(),
        slot: SlotId(job.slot_next.saturating_sub(1)),
        restarts: job
            .restarts
            .iter()
            .map(|(_, count)| *count)
            .max()
            .unwrap_or(0),
        completed: job.ends.completed,
        unsuccessful: job.ends.unsuccessful,
        rows: job.row_next,
    }
}

/// Slots with nothing to do whose job was given nothing more.
pub(super) fn close_idle(cluster: &Cluster, now: Timestamp) -> Vec<Event> {
    cluster
        .idle
        .iter()
        .map(|key| Event::SlotClosed {
            job: key.job,
            slot: key.slot,
            at: now,
        })
        .collect()
}

/// What the passing of time brings.
pub(super) fn tick(cluster: &Cluster, now: Timestamp) -> Vec<Event> {
    let mut events: Vec<Event> = cluster
        .timed
        .iter()
        .take_while(|(at, _)| *at <= now)
        .map(|(_, job)| Event::TimeReached { job: *job })
        .collect();
    events.extend(gang::overdue(cluster, now));
    events.extend(grace_over(cluster, now));
    if cluster.plan_again.is_some_and(|at| at <= now) {
        events.push(Event::PlanDue);
    }
    events.extend(nodes::time_out(cluster, now));
    events.extend(leases::run_out(cluster, now));
    for key in &cluster.stocked {
        let Some(slot) = cluster.slot(*key) else {
            continue;
        };
        if !slot.retracting && now.minus(slot.heard) >= cluster.settings.retract_after_ms {
            events.push(Event::RetractOrdered {
                job: key.job,
                slot: key.slot,
            });
        }
    }
    events
}

/// What was warned and is still there is ended.
fn grace_over(cluster: &Cluster, now: Timestamp) -> Vec<Event> {
    let due = cluster.warned.iter().take_while(|(at, _)| *at <= now);
    let mut events = Vec::new();
    for key in due.map(|(_, key)| *key) {
        let Some(slot) = cluster.slot(key) else {
            continue;
        };
        // Before the first plan after a restart nobody was promised anything anew.
        let waits = |by: JobId| cluster.job(by).is_some_and(|job| !job.pending.is_empty());
        let needed = if cluster.has_planned {
            cluster.promised.iter().any(|promise| promise.touches(slot))
        } else {
            slot.warned().any(|(.., by)| waits(by))
        };
        if !needed {
            events.push(Event::Spared {
                job: key.job,
                slot: key.slot,
            });
            continue;
        }
        for (positions, until, again, _) in slot.warned() {
            let mut positions = slot.untold(positions);
            positions.intersect(&slot.queue);
            if until <= now && !positions.is_empty() {
                events.push(Event::KillOrdered {
                    job: key.job,
                    slot: key.slot,
                    kill: Kill {
                        positions,
                        cause: evicts(again),
                    },
                    // It has had its time since the warning.
                    at_once: true,
                    at: now,
                });
            }
        }
    }
    events
}

/// Why what has to make room is ended.
pub(super) fn evicts(again: bool) -> KillCause {
    if again {
        KillCause::PreemptAgain
    } else {
        KillCause::Preempt
    }
}

/// A worker speaks of a slot.
pub(super) fn report(
    cluster: &Cluster,
    now: Timestamp,
    node: NodeId,
    key: SlotKey,
    report: FromSlot,
) -> Vec<Event> {
    let (job_id, slot_id) = (key.job, key.slot);
    let report = hearsay::believed(now, report);
    let taken = |report: &FromSlot| match report {
        FromSlot::Ended { report, .. }
        | FromSlot::Retracted { report, .. }
        | FromSlot::StepEnded { report, .. } => Some(Event::ReportTaken {
            node,
            job: job_id,
            slot: slot_id,
            report: *report,
        }),
        FromSlot::Status { .. }
        | FromSlot::Started { .. }
        | FromSlot::StdinTaken { .. }
        | FromSlot::Leased { .. }
        | FromSlot::Peer { .. }
        | FromSlot::Lost { .. } => None,
    };
    let taken = taken(&report);
    let known = cluster
        .job(job_id)
        .and_then(|job| job.slot(slot_id).map(|slot| (job, slot)));
    let Some((job, slot)) = known.filter(|(_, slot)| slot.allocation.share(node).is_some()) else {
        // A step's end may follow its job's; it is still accounted, if the node had that slot.
        let closed = cluster.closed.iter();
        let had = closed.rev().find(|closed| closed.key == key);
        let had = had.filter(|closed| closed.nodes.contains(&node));
        let mut events: Vec<Event> = step_row(node, key, &report)
            .filter(|row| had.is_some_and(|had| hearsay::has_step(had.steps_begun, row.step)))
            .into_iter()
            .map(Event::StepEnded)
            .collect();
        events.extend(taken);
        events.push(Event::SlotUnknown {
            node,
            job: job_id,
            slot: slot_id,
        });
        return events;
    };
    let report = match report {
        // A node may say what it likes; of positions that the slot does not hold nothing is believed.
        FromSlot::Lost {
            positions,
            mut ends,
            certain,
        } => {
            ends.retain(|end| slot.queue.contains(end.position));
            FromSlot::Lost {
                positions,
                ends,
                certain,
            }
        }
        report => report,
    };
    let mut events = match report {
        FromSlot::Status { current, .. } => {
            let runs = current.is_some();
            let current = current.map(|(position, started)| Current { position, started });
            let mut events = vec![Event::SlotConfirmed {
                job: job_id,
                slot: slot_id,
                // Of a gang another node may have said it.
                current: current.or(slot.current.filter(|_| slot.is_gang())),
            }];
            events.extend(gang::present(job, slot, node, runs));
            events.push(Event::SlotRepeated {
                job: job_id,
                slot: slot_id,
                node,
                launch: false,
            });
            events
        }
        FromSlot::Started { position, at } if slot.queue.contains(position) => {
            let current = Current {
                position,
                started: at,
            };
            let started = Event::ElementStarted {
                job: job_id,
                slot: slot_id,
                current,
            };
            // One of a build that does not wait for the others.
            let mut events = if slot.begun {
                Vec::new()
            } else {
                gang::present(job, slot, node, true)
            };
            events.push(started);
            events
        }
        FromSlot::Started { .. } | FromSlot::StdinTaken { .. } | FromSlot::Peer { .. } => {
            Vec::new()
        }
        FromSlot::Leased { ends_after_ms } => {
            leases::taken(cluster, job, slot, node, ends_after_ms)
                .into_iter()
                .collect()
        }
        FromSlot::Ended { ends, .. } => elements_ended(cluster, job, slot, node, ends, now),
        FromSlot::Retracted { positions, .. } => put_back(now, job, slot, positions, false),
        // A step that the job has not begun did not end either.
        FromSlot::StepEnded { ref end, .. } if !hearsay::has_step(job.step_next, end.step) => {
            Vec::new()
        }
        FromSlot::StepEnded { ref end, .. } => {
            // Of a task that could not start the step's log tells.
            let failed = end.failure.clone().filter(|_| end.tasks.is_empty());
            let failed = failed.map(|text| Event::StepFailed {
                node,
                job: job_id,
                step: end.step,
                text,
            });
            let over = step_row(node, key, &report).map(Event::StepEnded);
            failed.into_iter().chain(over).collect()
        }
        FromSlot::Lost { .. } if !slot.begun => gang::disband(now, job, slot),
        FromSlot::Lost { ends, .. } if slot.is_gang() => {
            let why = "the node lost its part of it";
            let mut events = part_lost(cluster, now, job, slot, node, ends, why);
            events.push(Event::SlotUnknown {
                node,
                job: job_id,
                slot: slot_id,
            });
            events
        }
        FromSlot::Lost {
            positions,
            ends,
            certain,
        } => {
            // Of the rest, orders on their way too, the journal knows nothing: it never began, where the journal is whole.
            let mut rest = slot.queue.clone();
            rest.subtract(&ends.iter().map(|end| end.position).collect());
            let mut waiting = positions;
            if certain {
                waiting.union_with(&rest);
            }
            rest.subtract(&waiting);
            let mut events = put_back(now, job, slot, waiting, false);
            events.extend(elements_ended(cluster, job, slot, node, ends, now));
            let why = "the node lost what it knew of it";
            events.extend(nodes::positions_lost(now, job, slot, rest, why));
            events.push(Event::SlotUnknown {
                node,
                job: job_id,
                slot: slot_id,
            });
            events
        }
    };
    events.extend(taken);
    events
}

/// A node has lost its part of a gang that had begun: whether it had started there or not, it has with the others.
pub(super) fn part_lost(
    cluster: &Cluster,
    now: Timestamp,
    job: &Job,
    slot: &Slot,
    node: NodeId,
    mut ends: Vec<ElementEnd>,
    why: &str,
) -> Vec<Event> {
    let mut rest = slot.queue.clone();
    rest.subtract(&ends.iter().map(|end| end.position).collect());
    ends.extend(
        rest.iter()
            .map(|position| nodes::lost_end(now, job, slot, position, why)),
    );
    elements_ended(cluster, job, slot, node, ends, now)
}

/// What a slot held waits again. What somebody had asked to end ends instead.
pub(super) fn put_back(
    now: Timestamp,
    job: &Job,
    slot: &Slot,
    mut positions: IndexSet,
    restarted: bool,
) -> Vec<Event> {
    positions.intersect(&slot.queue);
    let mut events = Vec::new();
    for kill in slot.kills.iter().filter(|kill| is_final(kill)) {
        let mut killed = kill.positions.clone();
        killed.intersect(&positions);
        positions.subtract(&killed);
        let started = |position| {
            slot.current
                .filter(|current| current.position == position)
                .map(|current| current.started)
        };
        let end = |position| ElementEnd {
            position,
            state: JobState::Cancelled,
            reason: Reason::None,
            exit: ExitStatus::default(),
            cancelled_by: match kill.cause {
                KillCause::Cancel { by } => Some(by),
                _ => None,
            },
            started: started(position),
            ended: now,
            usage: Usage::default(),
            restarts: job.restarts_of(position),
        };
        if !killed.is_empty() {
            events.push(Event::ElementsEnded {
                job: job.id,
                slot: slot.id,
                ends: killed.iter().map(end).collect(),
                at: now,
            });
        }
    }
    if !positions.is_empty() || slot.retracting {
        events.push(goes_back(job, slot, positions, restarted));
    }
    events
}

fn goes_back(job: &Job, slot: &Slot, positions: IndexSet, restarted: bool) -> Event {
    Event::PutBack {
        job: job.id,
        slot: slot.id,
        positions,
        restarted,
        not_before: None,
    }
}

/// Whether what is ended for this cause must not run again, whatever the job allows.
fn is_final(kill: &Kill) -> bool {
    matches!(kill.cause, KillCause::Cancel { .. } | KillCause::ClientGone)
}

/// The end of an element that had to make room, and whether it waits again. What ended by itself before it was told is
/// over, and what had not begun only waits on; between warning and order an end is thought to be the answer to the
/// warning.
fn evicted(slot: &Slot, mut end: ElementEnd) -> (ElementEnd, bool) {
    let of_this = |kill: &&Kill| kill.cause.makes_room() && kill.positions.contains(end.position);
    let kills: Vec<KillCause> = slot
        .kills
        .iter()
        .filter(of_this)
        .map(|kill| kill.cause)
        .collect();
    if kills.is_empty() {
        return (end, false);
    }
    if end.started.is_none() {
        return (end, true);
    }
    let warned = kills.iter().any(|cause| cause.as_told().is_none());
    let again = kills.iter().any(|cause| cause.goes_back());
    let answers = match end.state {
        JobState::Preempted => true,
        JobState::Completed | JobState::Failed => warned,
        _ => false,
    };
    if answers && !again {
        end.state = JobState::Preempted;
        end.reason = Reason::None;
    }
    (end, answers && again)
}

/// Ends as reported: those already known are dropped, those ordered to be put back go back, parts of a gang
/// wait for the others.
fn elements_ended(
    cluster: &Cluster,
    job: &Job,
    slot: &Slot,
    node: NodeId,
    ends: Vec<ElementEnd>,
    now: Timestamp,
) -> Vec<Event> {
    let mut seen = BTreeSet::new();
    let mut over = Vec::new();
    let mut again = [IndexSet::new(), IndexSet::new()];
    let mut events = Vec::new();
    for end in ends {
        if !slot.queue.contains(end.position) || !seen.insert(end.position) {
            continue;
        }
        let position = end.position;
        let ordered = |meant: &dyn Fn(&Kill) -> bool| {
            let mut kills = slot.kills.iter();
            kills.any(|kill| meant(kill) && kill.positions.contains(position))
        };
        let requeued = ordered(&|kill| kill.cause == KillCause::Requeue);
        let (end, evicted) = evicted(slot, end);
        let requeued = requeued || evicted;
        // Its node was cut off from us for its lease, or its shepherd was killed.
        let cut_off = job.spec.requeue && end.state == JobState::NodeFail;
        // A cancel that came after it holds.
        if (cut_off || requeued && !ordered(&is_final)) && slot.begun {
            // It runs again once nothing of it is left anywhere.
            if leases::is_over_elsewhere(cluster, slot, node, end.position, now) {
                again[usize::from(end.started.is_some())].insert(end.position);
            } else {
                events.extend(leases::part_over(now, job, slot, node, end));
            }
            continue;
        }
        let Some(end) = gang::whole(now, job, slot, node, end, &mut events) else {
            continue;
        };
        if (cut_off || requeued) && !ordered(&is_final) {
            again[usize::from(end.started.is_some())].insert(end.position);
        } else {
            over.push(end);
        }
    }
    if !over.is_empty() {
        events.push(Event::ElementsEnded {
            job: job.id,
            slot: slot.id,
            ends: over,
            at: now,
        });
    }
    for (restarted, positions) in [false, true].into_iter().zip(again) {
        if !positions.is_empty() {
            events.extend(put_back(now, job, slot, positions, restarted));
        }
    }
    events
}

fn step_row(node: NodeId, key: SlotKey, report: &FromSlot) -> Option<StepRow> {
    let FromSlot::StepEnded { end, .. } = report else {
        return None;
    };
    let worst = end
        .tasks
        .iter()
        .map(|(_, exit)| *exit)
        .max_by_key(|exit| exit.shell_code())
        .unwrap_or(ExitStatus {
            // No task of it came to be.
            code: u8::from(end.failure.is_some()),
            signal: 0,
        });
    Some(StepRow {
        job: key.job,
        slot: key.slot,
        node,
        step: end.step,
        name: end.name.clone(),
        ntasks: u32::try_from(end.tasks.len()).unwrap_or(u32::MAX),
        exit: worst,
        started: end.started,
        ended: end.ended,
        usage: end.usage,
    })
}
