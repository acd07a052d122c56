//! What jobs that wait are told of their start holds.

use super::cluster::{bare, beginning};
use hpc::scheduler::priority::Weights;
use hpc::scheduler::{Policy, Rule};
use hpc::sim::foresight::{Foresight, foresee};
use hpc::sim::workload::Workload;

/// The log of a real machine at its own pace. Later jobs that go before others are in no forecast: fair share lets more of
/// them do so than the order of submission.
#[test]
fn nine_of_ten_jobs_start_when_they_were_told_they_would() {
    let trace = beginning(6_000, 128, 1);
    for weights in [None, Some(Weights::default())] {
        let mut setup = bare(1, 128, Rule::Easy);
        if let Some(weights) = weights {
            setup.settings.policy = Policy {
                rule: Rule::Easy,
                weights,
            };
        }
        let (_, told) = foresee(setup, &Workload::of_trace(&trace), 4).unwrap();
        let seen = Foresight::of(&told);
        assert!(seen.asked > 300, "{} asked", seen.asked);
        assert!(seen.coverage() >= 0.85, "{}", seen.text());
        // An interval that holds everything would say nothing.
        assert!(
            seen.width.median < 5.0 * seen.wait.median,
            "{}",
            seen.text()
        );
    }
}
