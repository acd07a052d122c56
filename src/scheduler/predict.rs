//! How long a job will run, from what its user ran before.
//!
//! Tsafrir, Etsion and Feitelson, "Backfilling Using System-Generated Predictions Rather than User Runtime Estimates",
//! IEEE TPDS 18(6), 2007: the mean of the user's last two run times, raised in steps when a job outlives it.

use std::collections::BTreeMap;

/// By how much a prediction is raised, one step after the other; seconds.
const STEPS: [i64; 11] = [
    60, 300, 900, 1800, 3600, 7200, 18_000, 36_000, 72_000, 180_000, 360_000,
];

/// The last two run times of each user; seconds.
#[derive(Debug, Default)]
pub struct History(BTreeMap<i64, [Option<i64>; 2]>);

impl History {
    /// A job of this user has ended, after so many seconds.
    pub fn ended(&mut self, user: i64, run: i64) {
        let known = self.0.entry(user).or_default();
        *known = [known[1], Some(run)];
    }

    /// How long the next one is thought to run: the limit until two are known, and never longer.
    #[must_use]
    pub fn predict(&self, user: i64, limit: i64) -> i64 {
        let known = match self.0.get(&user) {
            Some([Some(one), Some(other)]) => (one + other) / 2,
            _ => limit,
        };
        known.min(limit).max(1)
    }
}

/// How long a job that has run for `age` and was first thought to run for `first` is thought to run now.
#[must_use]
pub fn raised(first: i64, age: i64, limit: i64) -> i64 {
    let steps = std::iter::once(0).chain(STEPS);
    let mut lengths = steps.map(|step| (first + step).min(limit));
    lengths.find(|length| *length > age).unwrap_or(limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_two_count_and_the_limit_is_the_most() {
        let mut history = History::default();
        assert_eq!(history.predict(1, 100), 100);
        history.ended(1, 10);
        assert_eq!(history.predict(1, 100), 100);
        history.ended(1, 21);
        history.ended(2, 1000);
        assert_eq!(history.predict(1, 100), 15);
        assert_eq!(history.predict(1, 5), 5);
        history.ended(1, 0);
        history.ended(1, 0);
        assert_eq!(history.predict(1, 100), 1);
    }

    #[test]
    fn what_is_outlived_is_raised_step_by_step() {
        assert_eq!(raised(10, 9, 1000), 10);
        assert_eq!(raised(10, 10, 1000), 70);
        assert_eq!(raised(10, 70, 1000), 310);
        assert_eq!(raised(10, 310, 400), 400);
        assert_eq!(raised(10, 400, 400), 400);
    }
}
