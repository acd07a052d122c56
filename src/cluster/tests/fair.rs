//! Fair share at work: two users who always have something waiting get what their shares promise.
//!
//! Group 9 of `tests/sim/properties/`. That the tree ranks as it should is shown beside it, in
//! `src/scheduler/priority/fair_share/tests.rs`; here the books are kept and the jobs are run by the cluster itself.

use super::virtual_time::{BEGIN, Life, Wish};
use super::*;
use crate::model::account::User;
use crate::model::rules::Rules;
use crate::scheduler::shares::Books;
use proptest::prelude::*;

/// What the two have used by now, as the books say.
fn used(life: &mut Life) -> [f64; 2] {
    life.cluster.books.settle(life.now);
    [1000, 1001].map(|uid| {
        let member = ("default".into(), format!("user{uid}").into());
        let usage = life.cluster.books.usage(&member);
        usage.map_or(0.0, |usage| usage.amount)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// Usage by shares is never further apart than one job on each processor: so the ratio tends to that of the shares,
    /// 1 for equal ones, 2 for two to one; whether usage is ever forgotten or not.
    #[test]
    fn group_9_usage_follows_shares(
        shares in prop_oneof![Just([1u32, 1]), Just([2, 1]), Just([1, 2]), prop::array::uniform2(1u32..5)],
        processors in 1u32..4, run_s in 60u32..4000, half_life_s in prop_oneof![Just(0u32), Just(7 * 86_400), any::<u32>()],
    ) {
        let mut rules = Rules::initial();
        for (uid, shares) in [1000, 1001].into_iter().zip(shares) {
            let someone = User { shares, ..User::named(&format!("user{uid}")) };
            rules.users.insert(someone.name.clone(), someone);
        }
        let settings = Settings { half_life_s, ..Settings::default() };
        let mut life = Life::new(&[(processors, 0)], rules, settings);
        for user in [0, 1] {
            for _ in 0..16 * processors {
                let wish = Wish {
                    gap_s: 0,
                    run_s: i64::from(run_s),
                    limit_s: 4000,
                    cpus: 1,
                    nodes: 1,
                    gpu: false,
                    user,
                    high: false,
                    second: false,
                    elements: 1,
                    throttle: None,
                    begin_s: None,
                    after: None,
                    node: None,
                };
                life.submit(&wish);
            }
        }
        let weights = shares.map(f64::from);
        let most = f64::from(processors * run_s) / weights[0].min(weights[1]);
        life.settle();
        // Before either has nothing left: whoever has more shares gets at most four jobs of five.
        for _ in 0..16 {
            life.now = life.running.values().map(|(_, ends)| *ends).min().unwrap();
            life.end_what_is_due();
            let used = used(&mut life);
            let apart = used[0] / weights[0] - used[1] / weights[1];
            prop_assert!(apart.abs() <= most * (1.0 + 1e-9), "{used:?} after {}", life.now.minus(BEGIN));
            life.settle();
        }
        if half_life_s == 0 {
            let used = used(&mut life);
            // Seconds, since nothing is forgotten.
            let all = f64::from(processors * run_s) * 16.0;
            prop_assert!((used[0] + used[1] - all).abs() < 1e-6 * all);
            let fair = weights[0] / (weights[0] + weights[1]);
            let off = weights[0] * weights[1] / (weights[0] + weights[1]) * most;
            prop_assert!((used[0] - fair * all).abs() <= off * (1.0 + 1e-9));
        }
    }

    /// What somebody has used halves with every half-life in which nothing of theirs runs, to the last bit.
    #[test]
    fn group_9_usage_halves_in_a_half_life(
        half_life_s in 1u32.., rate_milli in 1u64..1_000_000, ran_ms in 1i64..10_000_000_000, halves in 1i64..20,
    ) {
        let mut books = Books::new(half_life_s);
        let member = ("default".into(), "ann".into());
        let key = SlotKey { job: JobId(1), slot: SlotId(0) };
        books.begin(key, Clone::clone(&member), rate_milli, BEGIN);
        let end = BEGIN.plus_ms(ran_ms);
        books.end(key, end);
        let used = books.usage(&member).unwrap();
        prop_assert_eq!(used.at, end);
        let later = end.plus_ms(halves * i64::from(half_life_s) * 1000);
        books.settle(later);
        let left = books.usage(&member).unwrap().at(later, half_life_s);
        prop_assert_eq!(left, used.amount / (1u64 << halves) as f64);
    }
}
