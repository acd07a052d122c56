//! Whose turn it is among steps that wait for cpus of their job. Clients ask again and again, and narrow steps would pass a
//! wide one for ever; so one that has waited for long holds up those that need fewer cpus than it.
//!
//! It does so for a time, and lets others pass for a moment then: what it waits for may wait for one of them. Each time it
//! holds them up for longer.

use super::run::Shared;
use crate::cluster::{Command, Principal, Reply, step_within};
use crate::model::refusal::Refusal;
use crate::model::step::{BUSY, StepOptions};
use crate::wire::client::{StepRequest, ToClient};
use crate::wire::codec;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A step that has waited for so long holds up narrower ones.
const LONG: Duration = Duration::from_secs(10);
/// For how long at first; twice as long each time after.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long the others may pass in between: their clients ask at least each second.
const MOMENT: Duration = Duration::from_secs(5);
/// A client that does not ask again within this has gone.
const GONE: Duration = Duration::from_secs(5);
/// Steps that wait, of all jobs together, whose order is kept.
const WAITERS_MAX: usize = 4096;

/// A step that waits.
#[derive(Debug)]
struct Waiter {
    /// Cpus that it needs.
    width: u64,
    since: Instant,
    /// When it was last asked for.
    seen: Instant,
}

/// What a step is known by from one request for it to the next: its job, and a number made of all that it is.
type Ticket = (u32, u64);

/// Steps that wait, of all jobs.
#[derive(Debug, Default)]
pub(super) struct StepTurns(Mutex<BTreeMap<Ticket, Waiter>>);

impl StepTurns {
    fn waiters(&self) -> MutexGuard<'_, BTreeMap<Ticket, Waiter>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether one that is wider is to have the next cpus.
    fn is_held_up(&self, ticket: Ticket, width: u64, now: Instant) -> bool {
        let mut waiters = self.waiters();
        waiters.retain(|_, waiter| now.saturating_duration_since(waiter.seen) < GONE);
        let of_job = waiters.range((ticket.0, 0)..=(ticket.0, u64::MAX));
        of_job.into_iter().any(|(other, waiter)| {
            let waited = now.saturating_duration_since(waiter.since);
            *other != ticket && waiter.width > width && insists(waited)
        })
    }

    /// It was told to ask again.
    fn waits(&self, ticket: Ticket, width: u64, now: Instant) {
        let mut waiters = self.waiters();
        if waiters.len() < WAITERS_MAX || waiters.contains_key(&ticket) {
            let since = now;
            let new = Waiter {
                width,
                since,
                seen: now,
            };
            waiters.entry(ticket).or_insert(new).seen = now;
        }
    }

    fn is_served(&self, ticket: Ticket) {
        self.waiters().remove(&ticket);
    }
}

/// Whether a step that has waited so long holds up others now.
fn insists(waited: Duration) -> bool {
    let Some(mut left) = waited.checked_sub(LONG) else {
        return false;
    };
    let mut patience = PATIENCE;
    while let Some(after) = left.checked_sub(patience) {
        match after.checked_sub(MOMENT) {
            Some(after) => left = after,
            None => return false,
        }
        patience *= 2;
    }
    true
}

/// How many cpus a step needs; what is as wide as its job is wider than all.
fn width(request: &StepRequest, options: &StepOptions) -> u64 {
    let on_each = options.tasks_per_node();
    let tasks = request
        .ntasks
        .or_else(|| Some(on_each?.saturating_mul(request.nodes?)));
    let cpus = u64::from(request.cpus_per_task.unwrap_or(1));
    tasks.map_or(u64::MAX, |tasks| u64::from(tasks) * cpus)
}

/// What a step is known by; `None` = it takes no turns. One that is asked for by a task of another step must not wait for
/// what that one holds up.
fn ticket(request: &StepRequest, options: &StepOptions) -> Option<Ticket> {
    if options.overlaps()
        || options.remote_shell().is_some()
        || step_within::caller(request).is_some()
    {
        return None;
    }
    let mut hasher = DefaultHasher::new();
    hasher.write(&codec::encode(request));
    hasher.write(&codec::encode(options));
    Some((request.raw_job, hasher.finish()))
}

/// Has a step started, if it is its turn.
pub(super) async fn start(
    shared: &Arc<Shared>,
    who: Principal,
    request: Box<StepRequest>,
    options: StepOptions,
) -> Result<ToClient, Refusal> {
    let ticket = ticket(&request, &options);
    let width = width(&request, &options);
    let turns = &shared.step_turns;
    if ticket.is_some_and(|ticket| turns.is_held_up(ticket, width, Instant::now())) {
        let what = "a wider step of the job has waited for long and is to have the next cpus";
        let hint = "wait for it, or share cpus by --overlap";
        return Err(Refusal::new(BUSY, what, hint));
    }
    let command = Command::StartStep {
        who,
        request,
        options,
    };
    match shared.ask(command).await {
        Err(refusal) if refusal.code == BUSY => {
            if let Some(ticket) = ticket {
                turns.waits(ticket, width, Instant::now());
            }
            Err(refusal)
        }
        answer => {
            ticket
                .into_iter()
                .for_each(|ticket| turns.is_served(ticket));
            answer.map(|reply| match reply {
                Reply::StepStarted { step, .. } => ToClient::StepStarted { step },
                _ => ToClient::Done {
                    count: 0,
                    notes: Vec::new(),
                },
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wide_step_that_has_waited_holds_up_narrower_ones_of_its_job() {
        let turns = StepTurns::default();
        let begin = Instant::now();
        let at = |seconds: u64| begin + Duration::from_secs(seconds);
        let wide = |seconds: u64| turns.waits((1, 7), 4, at(seconds));
        wide(0);
        assert!(!turns.is_held_up((1, 8), 1, at(1)), "it is new");
        (1..=12).for_each(wide);
        assert!(turns.is_held_up((1, 8), 1, at(12)));
        assert!(!turns.is_held_up((1, 8), 4, at(12)), "as wide as it");
        assert!(!turns.is_held_up((1, 7), 4, at(12)), "the same");
        assert!(!turns.is_held_up((2, 8), 1, at(12)), "of another job");
        // Its client has gone.
        assert!(!turns.is_held_up((1, 8), 1, at(18)));
        wide(20);
        assert!(!turns.is_held_up((1, 8), 1, at(20)), "it is new again");
        (21..=31).for_each(wide);
        assert!(turns.is_held_up((1, 8), 1, at(31)));
        turns.is_served((1, 7));
        assert!(!turns.is_held_up((1, 8), 1, at(31)));
    }

    #[test]
    fn others_may_pass_for_a_moment_ever_more_seldom() {
        let seconds = (0..200).filter(|seconds| !insists(Duration::from_secs(*seconds)));
        let expected = (0..10).chain(40..45).chain(105..110);
        assert_eq!(seconds.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
    }
}
