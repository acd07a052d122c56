//! Preemption, on random states of a cluster in which some may take the places of others.

use super::plans::{GOING, RULES, adopted, order_key, planned, started};
use super::quiet;
use super::views::{Lab, NOW, State, labs};
use hpc::model::allocation::NodeShare;
use hpc::model::ids::{JobId, SlotKey};
use hpc::model::job::{Job, Reason, Slot};
use hpc::model::preempt::{PreemptMode, Yielding};
use hpc::model::rules::NORMAL;
use hpc::scheduler::evict::yields;
use hpc::scheduler::nodes::{admits, is_open};
use hpc::scheduler::pool::Pool;
use hpc::scheduler::queue::{Class, GroupKey};
use hpc::scheduler::{Entry, Plan, Rule};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use std::collections::BTreeSet;

/// How partitions and the QOS of most make room.
#[derive(Debug, Clone)]
pub(super) struct Terms {
    partitions: Vec<Yielding>,
    /// Whether the higher QOS preempts the other.
    by_qos: bool,
    qos: Yielding,
}

fn yielding() -> impl Strategy<Value = Yielding> {
    let modes = vec![PreemptMode::Off, PreemptMode::Requeue, PreemptMode::Cancel];
    let grace = prop_oneof![2 => Just(0u32), 1 => 1u32..600];
    let exempt = prop_oneof![1 => Just(0u32), 1 => 1u32..400];
    (prop::sample::select(modes), grace, exempt).prop_map(|(mode, grace_s, exempt_s)| Yielding {
        mode,
        grace_s,
        exempt_s,
    })
}

pub(super) fn terms() -> impl Strategy<Value = Terms> {
    let partitions = prop::collection::vec(yielding(), 3);
    let by_qos = prop::bool::weighted(0.75);
    (partitions, by_qos, yielding(), 0u8..8).prop_map(|(partitions, by_qos, mut qos, odd)| {
        // Rarely they are left alone.
        if odd > 0 && qos.mode == PreemptMode::Off {
            qos.mode = PreemptMode::Cancel;
        }
        if odd > 1 {
            qos.exempt_s = 0;
        }
        Terms {
            partitions,
            by_qos,
            qos,
        }
    })
}

pub(super) fn state(lab: &Lab, terms: &Terms) -> State {
    let lab = if terms.by_qos {
        lab.clone().by_qos()
    } else {
        lab.clone()
    };
    let mut state = lab.state(NOW);
    for (at, yields) in terms.partitions.iter().enumerate() {
        if let Some(one) = state.rules.partitions.get_mut(&format!("p{at}")) {
            one.yields = *yields;
        }
    }
    if terms.by_qos {
        let high = state.rules.qos.get_mut("high").unwrap();
        high.preempts = vec![NORMAL.to_owned()];
        state.rules.qos.get_mut(NORMAL).unwrap().yields = terms.qos;
    }
    state
}

/// An entry that has somebody make room.
struct Evicted {
    key: SlotKey,
    by: JobId,
    grace_ms: i64,
    again: bool,
}

fn evicted(plan: &Plan) -> Vec<Evicted> {
    let entries = plan.entries.iter();
    let evicted = entries.filter_map(|entry| match entry {
        Entry::Evict {
            job,
            slot,
            by,
            grace_ms,
            again,
        } => Some(Evicted {
            key: SlotKey {
                job: *job,
                slot: *slot,
            },
            by: *by,
            grace_ms: *grace_ms,
            again: *again,
        }),
        _ => None,
    });
    evicted.collect()
}

/// Whether there is room for an element of this job, with what is free in this state.
fn has_room(state: &State, job: &Job) -> bool {
    let request = &*job.spec.request;
    let partition = state.rules.partitions.get(job.spec.partition.as_str());
    let view = state.view();
    let ask = view.pool.ask(request, |id| {
        let node = &state.nodes[&id];
        is_open(request, node) && admits(request, &job.owner, partition, node)
    });
    let length = job.spec.time_limit_s;
    let length = length.map_or(i64::MAX, |seconds| i64::from(seconds) * 1000);
    let ask = view.pool.kept_off_flaky(ask, view.emptied, length, NOW);
    view.pool.find(&ask).is_some()
}

/// The state after the plan's starts, with these, what has nothing to do and what is at its limit gone.
fn after(state: &State, plan: &Plan, gone: impl Iterator<Item = SlotKey>) -> State {
    let mut after = adopted(state, plan);
    let goes_on = |key: &SlotKey| {
        plan.entries.iter().any(|entry| {
            matches!(entry, Entry::Extend { job, slot, .. } if *key == SlotKey { job: *job, slot: *slot })
        })
    };
    let slots = after.jobs.values().flat_map(|job| {
        let key = |slot: &Slot| SlotKey {
            job: job.id,
            slot: slot.id,
        };
        job.slots
            .iter()
            .map(move |slot| (key(slot), slot.queue.is_empty()))
    });
    let over = |key| after.occupancy.ends(key).is_some_and(|ends| ends <= NOW);
    let goes = slots.filter(|(key, idle)| (over(*key) || *idle) && !goes_on(key));
    let mut goes: BTreeSet<SlotKey> = goes.map(|(key, _)| key).collect();
    goes.extend(gone);
    goes.into_iter().for_each(|key| after.vacate(key));
    after
}

/// The one for whom all of a plan's evictions are, if nobody else waits for a place.
fn alone(plan: &Plan) -> Option<JobId> {
    let by: BTreeSet<JobId> = evicted(plan).iter().map(|one| one.by).collect();
    let kept: Vec<JobId> = plan.kept.iter().map(|(id, _)| *id).collect();
    let first = by.first().copied()?;
    (by.len() == 1 && kept == [first]).then_some(first)
}

/// Whether some make room, and all of them at once. What is granted meanwhile may end before a grace is over.
fn at_once(gone: &[Evicted]) -> bool {
    !gone.is_empty() && gone.iter().all(|one| one.grace_ms == 0)
}

/// The cases below are about something.
#[test]
fn group_11_there_are_enough_evictions() {
    let mut runner = quiet();
    let (mut some, mut several, mut only, mut sudden) = (0, 0, 0, 0);
    for _ in 0..1000 {
        let strategy = (labs(GOING), terms());
        let (lab, terms) = strategy.new_tree(&mut runner).unwrap().current();
        let plan = planned(&state(&lab, &terms), Rule::Easy);
        let gone = evicted(&plan);
        some += u32::from(!gone.is_empty());
        several += u32::from(gone.len() > 1);
        only += u32::from(alone(&plan).is_some() && at_once(&gone));
        sudden += u32::from(at_once(&gone));
    }
    let counts = [some, several, only, sudden];
    assert!(counts.iter().all(|count| *count >= 15), "{counts:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    /// Said once more, by hand: a lower tier takes nothing, and who takes has the right to by QOS or by tier.
    #[test]
    fn group_11_only_those_make_room_who_have_to(lab in labs(GOING), terms in terms()) {
        let state = state(&lab, &terms);
        for rule in RULES {
            let plan = planned(&state, rule);
            let mut seen = BTreeSet::new();
            for one in evicted(&plan) {
                prop_assert!(seen.insert(one.key), "{} goes twice", one.key);
                let (victim, taker) = (&state.jobs[&one.key.job], &state.jobs[&one.by]);
                let tier = |job: &Job| state.rules.partitions[job.spec.partition.as_str()].tier;
                prop_assert!(tier(taker) >= tier(victim));
                let by_qos = terms.by_qos && taker.spec.qos == *"high" && victim.spec.qos == *NORMAL
                    && terms.qos.mode != PreemptMode::Off;
                let of_tier = state.rules.partitions[victim.spec.partition.as_str()].yields;
                let by_tier = tier(taker) > tier(victim) && of_tier.mode != PreemptMode::Off;
                prop_assert!(by_qos || by_tier);
                let yields = if by_qos { terms.qos } else { of_tier };
                prop_assert_eq!(one.grace_ms, i64::from(yields.grace_s) * 1000);
                prop_assert_eq!(one.again, yields.mode == PreemptMode::Requeue && victim.spec.requeue);
                let granted = victim.slot(one.key.slot).unwrap().granted;
                prop_assert!(NOW.minus(granted) >= i64::from(yields.exempt_s) * 1000, "it was left no time");
                prop_assert!(state.nodes[&victim.slot(one.key.slot).unwrap().allocation.nodes[0].node].is_up());
            }
        }
    }

    /// Where one element only takes places, and nobody else waits for any: with all who make room gone it has room, and
    /// with any of them put back it has none.
    #[test]
    fn group_11_everyone_who_makes_room_is_needed(lab in labs(GOING), terms in terms()) {
        let state = state(&lab, &terms);
        for rule in RULES {
            let plan = planned(&state, rule);
            let gone = evicted(&plan);
            let Some(by) = alone(&plan).filter(|_| at_once(&gone)) else { continue };
            let job = &state.jobs[&by];
            let all = after(&state, &plan, gone.iter().map(|one| one.key));
            prop_assert!(has_room(&all, job), "{rule:?}: there is no room for {}: {plan:#?}", job.id);
            for back in &gone {
                let others = gone.iter().map(|one| one.key).filter(|key| *key != back.key);
                let less = after(&state, &plan, others);
                prop_assert!(!has_room(&less, job), "{rule:?}: {} was not needed: {plan:#?}", back.key);
            }
        }
    }

    /// Once all have gone, those for whom they went start, and nobody else has taken their places.
    #[test]
    fn group_11_those_start_for_whom_room_was_made(lab in labs(GOING), terms in terms()) {
        let state = state(&lab, &terms);
        for rule in RULES {
            let plan = planned(&state, rule);
            let gone = evicted(&plan);
            if !at_once(&gone) {
                continue;
            }
            let wanted: BTreeSet<JobId> = gone.iter().map(|one| one.by).collect();
            let then = after(&state, &plan, gone.iter().map(|one| one.key));
            let mut then = then;
            then.promised = plan.promised.clone();
            let next = planned(&then, rule);
            let started = started(&next);
            let limited = |id: &&JobId| {
                let key = GroupKey::of(&state.jobs[*id]);
                next.held.iter().any(|(held, reason)| *held == key && matches!(reason, Reason::Limit(_)))
            };
            for by in wanted.iter().filter(|id| !limited(id)) {
                prop_assert!(started.contains(by), "{rule:?}: {by} waits on: {plan:#?} {next:#?}");
            }
        }
    }
}

/// What these stand still for: slots, and for whom.
fn stopped(plan: &Plan) -> Vec<(SlotKey, JobId)> {
    let entries = plan.entries.iter();
    let stopped = entries.filter_map(|entry| match entry {
        Entry::Suspend { job, slot, to } => Some((
            SlotKey {
                job: *job,
                slot: *slot,
            },
            *to,
        )),
        _ => None,
    });
    stopped.collect()
}

/// A state in which the lower QOS, and the jobs of every partition, stand still for others.
fn still(lab: &Lab, mut terms: Terms) -> State {
    terms.qos.mode = PreemptMode::Suspend;
    for one in &mut terms.partitions {
        one.mode = PreemptMode::Suspend;
    }
    state(lab, &terms)
}

/// How plans with jobs that stand still are wrong, if they are. All that runs once the plan is adopted has cpus, memory and
/// GPUs of its own; who stands still has to, lends something to the job it does so for, and that starts.
fn wrong(state: &State, plan: &Plan) -> Option<String> {
    let stopped = stopped(plan);
    let mut seen = BTreeSet::new();
    for (id, node) in &state.nodes {
        let lent: BTreeSet<u16> = stopped
            .iter()
            .filter_map(|(key, _)| state.jobs[&key.job].slot(key.slot)?.allocation.share(*id))
            .flat_map(|share| share.cpus.iter())
            .collect();
        let mut free: BTreeSet<u16> = node.cpus_free.iter().chain(lent).collect();
        let mut memory_mib = node.memory_free_mib();
        let mut gpus: BTreeSet<u32> = node.gpus_free.iter().copied().collect();
        for entry in &plan.entries {
            let Entry::Start { allocation, .. } = entry else {
                continue;
            };
            let Some(share) = allocation.share(*id) else {
                continue;
            };
            if !share.cpus.iter().all(|cpu| free.remove(&cpu)) {
                return Some(format!("cpus {} of {id} are in use", share.cpus));
            }
            if share.memory_mib > memory_mib || !share.gpus.iter().all(|gpu| gpus.remove(gpu)) {
                return Some(format!("memory or GPUs of {id} are in use"));
            }
            memory_mib -= share.memory_mib;
        }
    }
    for (key, to) in stopped {
        let (victim, taker) = (&state.jobs[&key.job], &state.jobs[&to]);
        let yields = yields(&state.rules, &Class::of(taker), &Class::of(victim));
        if yields.is_none_or(|one| one.mode != PreemptMode::Suspend) || !seen.insert(key) {
            return Some(format!("{key} need not stand still for {to}"));
        }
        let slot = victim.slot(key.slot).unwrap();
        let lends = plan.entries.iter().any(|entry| match entry {
            Entry::Start {
                job, allocation, ..
            } => {
                let overlaps = |share: &NodeShare| {
                    let other = slot.allocation.share(share.node);
                    other.is_some_and(|other| !other.cpus.is_disjoint(&share.cpus))
                };
                *job == to && allocation.nodes.iter().any(overlaps)
            }
            _ => false,
        });
        if !lends {
            return Some(format!("{key} stands still and lends nothing to {to}"));
        }
    }
    None
}

#[test]
fn group_11_enough_stand_still() {
    let mut runner = quiet();
    let (mut some, mut several) = (0, 0);
    for _ in 0..1000 {
        let strategy = (labs(GOING), terms());
        let (lab, terms) = strategy.new_tree(&mut runner).unwrap().current();
        let stopped = stopped(&planned(&still(&lab, terms), Rule::Easy));
        some += u32::from(!stopped.is_empty());
        several += u32::from(stopped.len() > 1);
    }
    assert!(some >= 50 && several >= 15, "{some} {several}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn group_11_who_stands_still_has_to_and_lends(lab in labs(GOING), terms in terms()) {
        let state = still(&lab, terms);
        for rule in RULES {
            let plan = planned(&state, rule);
            let wrong = wrong(&state, &plan);
            prop_assert!(wrong.is_none(), "{rule:?}: {wrong:?} {plan:#?}");
            prop_assert!(evicted(&plan).is_empty(), "nobody has to end: {plan:#?}");
        }
    }

    /// Who is kept a place is not held up: with the same jobs and nobody who stands still it is kept none sooner.
    #[test]
    fn group_11_who_stands_still_holds_up_nobody_who_was_there_before(lab in labs(GOING), terms in terms()) {
        let state = still(&lab, terms);
        let mut before = state.clone();
        before.rules.partitions.values_mut().for_each(|one| one.yields.mode = PreemptMode::Off);
        before.rules.qos.values_mut().for_each(|one| one.yields.mode = PreemptMode::Off);
        let (plan, without) = (planned(&state, Rule::Easy), planned(&before, Rule::Easy));
        let Some((first, at)) = without.kept.first() else { return Ok(()) };
        // Who may take places has those that are left anyway before others.
        if !plan.promised.is_empty() {
            return Ok(());
        }
        // The first that waits in both, before anything was lent for anybody behind it.
        if let Some((_, then)) = plan.kept.iter().find(|(id, _)| id == first) {
            let order = |id: &JobId| order_key(&state, &state.jobs[id]);
            let mut borrowers = stopped(&plan).into_iter().map(|(_, to)| to);
            if borrowers.all(|to| order(&to) > order(first)) {
                prop_assert!(then <= at, "{first} waits until {then:?}, before until {at:?}: {plan:#?}");
            }
        }
    }
}
