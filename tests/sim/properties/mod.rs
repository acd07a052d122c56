//! What must hold of every schedule, for any jobs: the twelve groups of invariants of the planner, on random inputs.
//!
//! The names of the tests begin with the number of their group:
//!
//!  1. Capacity: never more is given out than there is, and in the end all of it is free.
//!  2. A job starts once, not before it may, where it may, and runs until its end or its limit.
//!  3. Strict order, and EASY's promise to the head of the queue.
//!  4. Conservative backfill's promise to everybody.
//!  5. A pass leaves nobody waiting who could start by the policy's own rule.
//!  6. Where no gap can be misjudged, backfill is list scheduling.
//!  7. The same input gives the same output, in whatever order it was entered.
//!  8. Shifted, scaled and longer inputs; and a planner without any shortcut gives the same.
//!  9. Fairness: beside the code, in `src/scheduler/priority/` (the tree, half-lives) and `src/cluster/tests/fair.rs`.
//! 10. Limits: here that who is held delays nobody, in `src/cluster/tests/virtual_time.rs` that none is exceeded.
//! 11. Preemption: who makes room has to, and was needed ([`evictions`]); in whole lives in `tests/sim/cluster.rs`.
//! 12. Malleable jobs and power: they come with the features.
//!
//! [`traces`] has random traces and the plainest simulator there can be, [`replays`] holds the six policies of the
//! simulator against it. [`backfill`] looks at a single pass, over processors and over nodes, and breaks the rule on
//! purpose to see that the check finds it. [`views`] has random states of a cluster, [`naive`] a planner that looks at
//! each job by itself, [`plans`] compares, and [`again`] holds passes that
//! remember earlier ones against those that do not. [`switches`]
//! holds the nodes of a job against the closest there are.

mod again;
mod backfill;
mod evictions;
mod naive;
mod plans;
mod replays;
mod switches;
mod traces;
mod views;

use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// For a check that is to fail: always the same cases, and what it finds is not written down.
fn quiet() -> TestRunner {
    let config = Config {
        cases: 1000,
        failure_persistence: None,
        ..Config::default()
    };
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
}
