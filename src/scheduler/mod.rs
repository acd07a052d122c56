//! THE PLAN. Pure: what is free and who waits go in, what to start comes out.
//!
//! [`plan`] is called by the live controller and by the simulator alike. It reads no clock and keeps no
//! state between calls; its work is bounded by counts, so the same view always gives the same plan. Its
//! answer is only a proposal: the cluster checks every entry against the present before it adopts it.
//!
//! This version starts jobs strictly in order of (priority, submission, number) within a partition: the
//! first job that does not fit blocks those behind it, so nothing starves. Backfill and the other policies
//! are further functions beside [`fcfs`].
//!
//! Read [`view`] (what it sees), [`plan`](Plan) (what it says), [`fit`] and [`place`]. [`backfill`], [`timeline`] and
//! [`predict`] are those further policies, over a [`pool`] of what jobs are placed on; so far the simulator alone calls
//! them, over processors without places. [`packing`] has the rules by which GPUs are shared out, for the simulator too.

pub mod backfill;
pub mod feasible;
pub mod fit;
pub mod pace;
pub mod packing;
pub mod place;
pub mod plan;
pub mod pool;
pub mod predict;
pub mod timeline;
pub mod view;

pub use plan::{Entry, Plan};
pub use view::{QueueKey, View};

use crate::model::ids::JobId;
use crate::model::job::{Job, Reason};
use crate::model::time::Timestamp;
use fit::FreeNodes;

/// Which rule orders and starts jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// In order; the first that does not fit blocks its partition.
    Fcfs,
}

/// Bounds on the work of one pass, in counts rather than seconds.
const STARTS_MAX: usize = 4096;

/// What to start, extend, and why the rest waits.
#[must_use]
pub fn plan(view: &View<'_>, now: Timestamp, policy: Policy) -> Plan {
    match policy {
        Policy::Fcfs => fcfs(view, now),
    }
}

/// Jobs in order; a blocked one blocks its partition.
fn fcfs(view: &View<'_>, now: Timestamp) -> Plan {
    let mut free = FreeNodes::of(view);
    let mut plan = Plan::default();
    let mut heads: Vec<_> = view
        .queues
        .values()
        .map(|queue| queue.iter().peekable())
        .collect();
    while plan.entries.len() < STARTS_MAX {
        // The partition whose next job comes first. A blocked partition's iterator has been emptied.
        let next = heads
            .iter_mut()
            .enumerate()
            .filter_map(|(at, queue)| queue.peek().map(|(key, _)| (**key, at)))
            .min();
        let Some((_, at)) = next else { break };
        let Some((_, job_id)) = heads[at].next() else {
            break;
        };
        let Some(job) = view.jobs.get(job_id) else {
            continue;
        };
        match advance(job, now, &mut free, &mut plan) {
            Advance::Satisfied => {}
            Advance::Held(reason) => plan.blocked.push((job.id, reason)),
            Advance::Blocked(reason) => {
                plan.blocked.push((job.id, reason));
                drop(heads.swap_remove(at));
            }
        }
    }
    plan
}

enum Advance {
    /// Everything it asked for is granted.
    Satisfied,
    /// It waits for something that others need not wait for.
    Held(Reason),
    /// It waits for resources; those behind it wait too.
    Blocked(Reason),
}

/// Gives one job what it can have now: more positions for its slots, then new slots.
fn advance(job: &Job, now: Timestamp, free: &mut FreeNodes<'_>, plan: &mut Plan) -> Advance {
    let mut waiting = u64::from(job.pending.len());
    let mut slots = u32::try_from(job.slots.len()).unwrap_or(u32::MAX);
    // A throttle may have been lowered since: slots beyond it run out.
    let most = usize::try_from(job.spec.throttle()).unwrap_or(usize::MAX);
    for slot in job.slots.iter().take(most) {
        if waiting == 0 {
            return Advance::Satisfied;
        }
        if !free.all_accept_work(&slot.allocation) {
            continue;
        }
        let count = pace::extension(job, slot, waiting, slots, now);
        if count > 0 {
            waiting -= u64::from(count);
            plan.entries.push(Entry::Extend {
                job: job.id,
                slot: slot.id,
                count,
            });
        }
    }
    while waiting > 0 {
        if slots >= job.spec.throttle() {
            return Advance::Held(Reason::JobArrayTaskLimit);
        }
        if plan.entries.len() >= STARTS_MAX {
            return Advance::Held(Reason::Priority);
        }
        let allocation = match place::place(&job.spec.request, &job.owner, free) {
            Ok(allocation) => allocation,
            Err(place::NoPlace::NotNow) => return Advance::Blocked(Reason::Resources),
            // Its nodes are away: others need not wait for them.
            Err(place::NoPlace::NotAvailable) => return Advance::Held(Reason::ReqNodeNotAvail),
        };
        free.take(&allocation);
        slots += 1;
        let count = pace::first_block(job, waiting, slots, allocation.nodes.len());
        waiting -= u64::from(count);
        plan.entries.push(Entry::Start {
            job: job.id,
            allocation,
            count,
        });
    }
    Advance::Satisfied
}

/// Where a job would run now, for `--dry-run`; `None` when it would wait.
#[must_use]
pub fn would_place(view: &View<'_>, job: &Job) -> Option<crate::model::allocation::Allocation> {
    let free = FreeNodes::of(view);
    place::place(&job.spec.request, &job.owner, &free).ok()
}

/// Jobs ahead of this one in its partition's order.
#[must_use]
pub fn jobs_ahead(view: &View<'_>, partition: &str, id: JobId) -> usize {
    view.queues.get(partition).map_or(0, |queue| {
        queue.iter().take_while(|(_, other)| **other != id).count()
    })
}

#[cfg(test)]
mod tests;
