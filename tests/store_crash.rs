//! The store on a disk that fails at every operation in turn: the longer run of `src/store/crash_tests.rs`.
//!
//! `HPC_CRASH_SEEDS=100 cargo test --release --test store_crash` runs more seeds; a failure names its seed.

#![allow(
    clippy::disallowed_methods,
    reason = "a test reads how long it may run"
)]

#[allow(unused_imports, reason = "the shared pages name these as their own")]
use hpc::{cluster, model, store, wire};

#[path = "../src/store/crash_script.rs"]
mod crash_script;
#[path = "../src/store/fixtures.rs"]
mod fixtures;
#[path = "../src/store/power_loss.rs"]
mod power_loss;

#[test]
fn a_crash_at_any_point_of_a_longer_life_loses_nothing_acknowledged() {
    let seeds = std::env::var("HPC_CRASH_SEEDS")
        .ok()
        .and_then(|seeds| seeds.parse().ok())
        .unwrap_or(2);
    let acts = crash_script::script(4, 6);
    let mut points = 0;
    for seed in 1..=seeds {
        points += crash_script::crash_everywhere(&acts, seed);
    }
    println!(
        "{points} crash points over {seeds} seeds and {} acts, each as a kill and as a power loss",
        acts.len()
    );
}
