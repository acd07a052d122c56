//! The times of a slot: the controller's by our own clock, and when an element meets its limit.

use super::SlotCore;
use super::element::Element;
use crate::model::time::Timestamp;

/// Run time before which no warning is sent.
const WARN_EARLIEST_MS: u64 = 1000;

impl SlotCore {
    pub(super) fn controller_time(&self, now: u64) -> Timestamp {
        let (then, mark) = self.epoch;
        then.plus_ms(i64::try_from(now.saturating_sub(mark)).unwrap_or(i64::MAX))
    }

    pub(super) fn kill_wait_ms(&self) -> u64 {
        u64::from(self.launch.spec.kill_wait_s) * 1000
    }

    pub(super) fn limit_ms(&self) -> Option<u64> {
        self.launch
            .time_limit_s
            .map(|limit| u64::from(limit) * 1000)
    }

    pub(super) fn limit_at(&self, element: &Element) -> Option<u64> {
        element.clock.shows_at(self.limit_ms()?)
    }

    pub(super) fn warn_at(&self, element: &Element) -> Option<u64> {
        let asked = self
            .launch
            .spec
            .signal
            .as_ref()
            .filter(|_| !element.warned)?;
        let before_ms = u64::from(asked.before_limit_s) * 1000;
        let limit_ms = self.limit_ms()?;
        // A script has to come as far as its trap: one that is shorter than its warning is not warned at once.
        let earliest_ms = WARN_EARLIEST_MS.min(limit_ms / 2);
        element
            .clock
            .shows_at(limit_ms.saturating_sub(before_ms).max(earliest_ms))
    }
}
