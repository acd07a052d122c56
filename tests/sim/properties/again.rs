//! What a pass remembers of earlier ones makes it quicker and nothing else.

use super::evictions::{state, terms};
use super::plans::{ALL, GOING, RULES, adopted};
use super::views::{Lab, NOW, State, labs};
use hpc::model::ids::{JobId, SlotKey};
use hpc::model::time::Timestamp;
use hpc::scheduler::order::Orders;
use hpc::scheduler::priority::Weights;
use hpc::scheduler::{Plan, Policy, Rule, plan, plan_again};
use proptest::prelude::*;

/// Something that happens between two passes: what, to whom, and after how long.
type Step = (u8, usize, i64);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec((0u8..8, 0usize..64, 0i64..1500), 1..10)
}

fn picked<T>(from: Vec<T>, which: usize) -> Option<T> {
    let at = which.checked_rem(from.len())?;
    from.into_iter().nth(at)
}

fn happens(state: &mut State, plan: &Plan, (what, which, _): Step, lab: &Lab) {
    let waiting = |state: &State| -> Vec<JobId> {
        let jobs = state.jobs.values().filter(|job| job.slots.is_empty());
        jobs.map(|job| job.id).collect()
    };
    match what {
        0 | 1 => *state = adopted(state, plan),
        2 | 3 => {
            if let Some(id) = picked(waiting(state), which) {
                state.leave(id);
            }
        }
        4 => {
            if let Some(id) = picked(waiting(state), which) {
                state.submitted_earlier(id);
            }
        }
        5 | 6 => {
            let keys: Vec<SlotKey> = state.occupancy.stays().map(|(key, _)| key).collect();
            if let Some(key) = picked(keys, which) {
                state.vacate(key);
            }
        }
        _ => {
            let mut used = lab.used;
            used.rotate_left(which % 3);
            let lab = Lab {
                used,
                ..lab.clone()
            };
            state.standings = lab.state(NOW).standings;
        }
    }
}

/// Plans with what was found out before and without, through all that happens.
fn goes_on(start: &State, lab: &Lab, steps: &[Step], policy: Policy) -> Result<(), TestCaseError> {
    let mut orders = Orders::default();
    let (mut state, mut now) = (start.clone(), NOW);
    let look = |state: &State, now: Timestamp, orders: &mut Orders| {
        let view = state.view();
        let again = plan_again(&view, now, policy, orders);
        prop_assert_eq!(&again, &plan(&view, now, policy), "{:?}", policy.rule);
        Ok(again)
    };
    for step in steps {
        let known = look(&state, now, &mut orders)?;
        // Somebody tries what would happen on a copy, and what is known of that one is not taken for the other.
        let mut copy = state.clone();
        happens(&mut copy, &known, *step, lab);
        if step.1.is_multiple_of(2) {
            look(&copy, now, &mut orders)?;
        }
        if step.1.is_multiple_of(3) {
            happens(&mut state, &known, (step.0, step.1 / 3, step.2), lab);
        } else {
            state = copy;
        }
        now = now.plus_ms(step.2);
    }
    look(&state, now, &mut orders)?;
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn group_7_what_earlier_passes_found_makes_no_other_plan(
        lab in labs(ALL),
        steps in steps(),
        size in prop_oneof![2 => Just(0u32), 1 => Just(1_000_000)],
    ) {
        let state = lab.state(NOW);
        let weights = Weights { size, ..Weights::default() };
        for rule in RULES {
            goes_on(&state, &lab, &steps, Policy { rule, weights })?;
        }
    }

    #[test]
    fn group_7_nor_where_some_take_the_places_of_others(
        lab in labs(GOING),
        terms in terms(),
        steps in steps(),
    ) {
        let weights = Weights::default();
        for rule in [Rule::Easy, Rule::EasySjbf] {
            goes_on(&state(&lab, &terms), &lab, &steps, Policy { rule, weights })?;
        }
    }
}
