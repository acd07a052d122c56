//! How many positions of an array a slot gets at once.
//!
//! A slot must not wait for a commit between two short tasks, so it is given work for about
//! [`TARGET_US`] ahead; long tasks are given one at a time, so that order and fairness are decided afresh
//! at every end. The more slots a job has the more each is given ([`TARGET_OF_SLOT_US`]), so that the controller hears
//! no more often of many than of few; who waits for room waits no longer for that, since of more slots the first runs out
//! as early. Near the end of an array blocks shrink, so that slots finish together, give or take [`LEAST_US`].

use crate::model::job::{Job, Slot};
use crate::model::time::Timestamp;

/// Run time to give ahead: covers ten commits at 10 ms each.
const TARGET_US: u64 = 100_000;
/// Run time to give ahead for each slot that the job has, if that is more: half of it used up, a slot speaks.
const TARGET_OF_SLOT_US: u64 = 5_000;
/// But no more than this: it is what one may have to wait who needs all the slots.
const TARGET_MOST_US: u64 = 400_000;
/// Run time that is given ahead also near the end of an array, where blocks shrink: a commit on a slow disk.
const LEAST_US: u64 = 10_000;
/// Most positions in one block.
const BLOCK_MAX: u64 = 1024;

fn narrow(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Run time to give ahead to each of so many slots.
fn target_us(slots: u32) -> u64 {
    (TARGET_OF_SLOT_US * u64::from(slots)).clamp(TARGET_US, TARGET_MOST_US)
}

/// A full block for this job, by the pace of its tasks so far; 1 while unknown.
fn block(job: &Job, waiting: u64, slots: u32) -> u64 {
    if job.pace_us == 0 {
        return 1;
    }
    let by_time = (target_us(slots) / job.pace_us).clamp(1, BLOCK_MAX);
    let by_balance = waiting / (2 * u64::from(slots.max(1)));
    by_time.min(by_balance.max(LEAST_US / job.pace_us).max(1))
}

/// Positions for a new slot.
#[must_use]
pub fn first_block(job: &Job, waiting: u64, slots: u32, nodes: usize) -> u32 {
    if nodes > 1 {
        1
    } else {
        narrow(block(job, waiting, slots).min(waiting))
    }
}

/// More positions for a slot that has some left; 0 = enough for now.
#[must_use]
pub fn extension(job: &Job, slot: &Slot, waiting: u64, slots: u32, now: Timestamp) -> u32 {
    if slot.is_stopped() || slot.retracting || slot.gone || !slot.kills.is_empty() {
        return 0;
    }
    let held = u64::from(slot.queue.len());
    // A gang begins together: the next element gets a slot of its own, and a beginning of its own.
    if slot.is_gang() {
        return 0;
    }
    // Its running task is slower than the pace says: what it has is enough.
    let silent_us = u64::try_from(now.minus(slot.heard))
        .unwrap_or(0)
        .saturating_mul(1000);
    if held > 0 && silent_us >= target_us(slots) {
        return 0;
    }
    let block = block(job, waiting, slots);
    if held * 2 > block || (held > 0 && block == 1) {
        return 0;
    }
    narrow((block - held).max(1).min(waiting))
}
