//! apply: what ends add to their job, and what is then over.

use super::Cluster;
use super::apply::{forget_kills, forget_parts};
use super::effect::Effect;
use crate::model::history::{ElementRow, NeverStarted};
use crate::model::ids::{JobId, SlotId};
use crate::model::job::{ElementEnd, EndSummary, ExitStatus, Job, JobState, Reason};
use crate::model::time::Timestamp;
use std::sync::Arc;

impl Cluster {
    pub(super) fn elements_ended(
        &mut self,
        id: JobId,
        slot_id: SlotId,
        ends: Vec<ElementEnd>,
        at: Timestamp,
        effects: &mut Vec<Effect>,
    ) {
        let Some(job) = self.jobs.get(&id) else {
            return;
        };
        let (row, is_array) = (job.row_next, job.spec.array.is_some());
        // Of its slot: an array's slots lie on several machines.
        let granted = match job.slot(slot_id).filter(|_| is_array) {
            Some(slot) => match self.granted_by(&slot.allocation) {
                same if same == *job.granted => Arc::clone(&job.granted),
                other => other.shared(),
            },
            None => Arc::clone(&job.granted),
        };
        for end in &ends {
            effects.push(Effect::ElementEnded {
                job: id,
                position: end.position,
                state: end.state,
                exit: end.exit,
            });
        }
        self.change_slot(id, slot_id, |job, at_slot| {
            for end in &ends {
                tally(&mut job.ends, end);
                if end.state != JobState::Completed {
                    job.unsuccessful.insert(end.position);
                }
                note_pace(job, end);
            }
            let slot = &mut job.slots[at_slot];
            for end in &ends {
                slot.queue.remove(end.position);
                if slot
                    .current
                    .is_some_and(|current| current.position == end.position)
                {
                    slot.current = None;
                    slot.stops.forget(at);
                }
            }
            forget_parts(slot);
            slot.ended_count = slot
                .ended_count
                .saturating_add(u32::try_from(ends.len()).unwrap_or(u32::MAX));
            slot.heard = at;
            slot.confirmed = true;
            forget_kills(slot);
            job.row_next += u32::from(is_array);
        });
        if is_array {
            let row_of = ElementRow {
                slot: Some(slot_id),
                granted,
                ends,
                never_started: None,
            };
            self.touched.changes.rows.push((id, row, row_of));
        }
        effects.push(Effect::Plan);
    }

    pub(super) fn waiting_ended(
        &mut self,
        id: JobId,
        ended: NeverStarted,
        effects: &mut Vec<Effect>,
    ) {
        let Some(job) = self.jobs.get(&id) else {
            return;
        };
        let (row, is_array) = (job.row_next, job.spec.array.is_some());
        if job.spec.array.is_none() || ended.positions.len() < 1000 {
            for position in ended.positions.iter() {
                let exit = ExitStatus::default();
                effects.push(Effect::ElementEnded {
                    job: id,
                    position,
                    state: ended.state,
                    exit,
                });
            }
        }
        self.change(id, |job| {
            job.pending.subtract(&ended.positions);
            job.waiting.subtract(&ended.positions);
            job.unsuccessful.union_with(&ended.positions);
            let ends = &mut job.ends;
            ends.unsuccessful = ends.unsuccessful.saturating_add(ended.positions.len());
            worsen(
                ends,
                ended.state,
                &ended.reason,
                ExitStatus::default(),
                ended.cancelled_by,
            );
            ends.last_end = ends.last_end.max(Some(ended.at));
            job.row_next += u32::from(is_array);
        });
        if is_array {
            let row_of = ElementRow {
                slot: None,
                granted: Arc::default(),
                ends: Vec::new(),
                never_started: Some(ended),
            };
            self.touched.changes.rows.push((id, row, row_of));
        }
        effects.push(Effect::Plan);
    }
}

/// Which end says most about a job as a whole.
fn severity(state: JobState) -> u8 {
    match state {
        JobState::Pending | JobState::Running | JobState::Suspended | JobState::Completing => 0,
        JobState::Completed => 1,
        JobState::Preempted => 2,
        JobState::Cancelled => 3,
        JobState::Failed => 4,
        JobState::Timeout => 5,
        JobState::OutOfMemory => 6,
        JobState::NodeFail => 7,
    }
}

fn worsen(
    ends: &mut EndSummary,
    state: JobState,
    reason: &Reason,
    exit: ExitStatus,
    by: Option<u32>,
) {
    let known = ends.worst.as_ref().map_or((0, 0), |(state, _, exit, _)| {
        (severity(*state), exit.shell_code())
    });
    if (severity(state), exit.shell_code()) > known {
        ends.worst = Some((state, reason.clone(), exit, by));
    }
}

fn tally(ends: &mut EndSummary, end: &ElementEnd) {
    if end.state == JobState::Completed {
        ends.completed = ends.completed.saturating_add(1);
    } else {
        ends.unsuccessful = ends.unsuccessful.saturating_add(1);
        worsen(ends, end.state, &end.reason, end.exit, end.cancelled_by);
    }
    if let Some(started) = end.started {
        ends.first_start = Some(ends.first_start.map_or(started, |first| first.min(started)));
    }
    ends.last_end = ends.last_end.max(Some(end.ended));
    ends.usage = ends.usage.plus(end.usage);
}

/// A longer run time says no more of the pace; and no sum of times overflows, whatever a node says.
const TOOK_MAX_US: u64 = 1 << 50;

/// Keeps a decaying mean of run times: each end weighs one eighth.
fn note_pace(job: &mut Job, end: &ElementEnd) {
    let Some(started) = end.started else { return };
    let took_us = u64::try_from(end.ended.minus(started))
        .unwrap_or(0)
        .saturating_mul(1000)
        .clamp(300, TOOK_MAX_US);
    job.pace_us = if job.pace_us == 0 {
        took_us
    } else {
        (job.pace_us * 7 + took_us) / 8
    };
}
