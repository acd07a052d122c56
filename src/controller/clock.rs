//! The controller's clock shows the time of day, which somebody may set. This notices when that has happened.

use crate::sys::clock::{boottime_ms, wall_ms};

/// Less than this is no step: NTP moves a clock that much without setting it, and both clocks alike.
const STEP_MS: i64 = 100;
/// Two readings further apart than this say nothing of each other.
const APART_MS: u64 = 10;

/// How far the time of day is ahead of a clock that nobody sets.
#[derive(Debug)]
pub(super) struct Steps {
    ahead_ms: i64,
}

impl Steps {
    pub(super) fn new() -> Self {
        loop {
            if let Some(ahead_ms) = ahead_ms() {
                return Steps { ahead_ms };
            }
        }
    }

    /// By how much the clock was set since the last call, if it was.
    pub(super) fn taken(&mut self) -> Option<i64> {
        let by_ms = ahead_ms()?.saturating_sub(self.ahead_ms);
        self.step(by_ms)
    }

    fn step(&mut self, by_ms: i64) -> Option<i64> {
        (by_ms.abs() >= STEP_MS).then(|| {
            self.ahead_ms = self.ahead_ms.saturating_add(by_ms);
            by_ms
        })
    }
}

/// `None` when something came between the readings.
fn ahead_ms() -> Option<i64> {
    let before = boottime_ms();
    let wall = wall_ms();
    let signed = |ms| i64::try_from(ms).unwrap_or(i64::MAX);
    (boottime_ms() - before <= APART_MS).then(|| signed(wall).saturating_sub(signed(before)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_told_once_and_none_is_seen_where_none_was() {
        let mut steps = Steps::new();
        assert_eq!(steps.taken(), None);
        assert_eq!(steps.step(99), None);
        steps.ahead_ms -= 3_600_000;
        let by = (0..100).find_map(|_| steps.taken()).unwrap();
        assert!((3_599_900..3_600_100).contains(&by), "{by}");
        assert_eq!(steps.taken(), None);
    }
}
