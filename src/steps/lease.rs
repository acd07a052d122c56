//! How long a slot may go on without its controller.
//!
//! The controller starts elsewhere what may run again once it has heard nothing for a lease. So a shepherd that was
//! told of a lease ends its element when that has run out, whoever else is dead by then, and starts nothing more
//! until it hears that the lease goes on. Moments are this machine's CLOCK_BOOTTIME, which no change of the date moves
//! and which goes on while the machine sleeps.

/// The lease of a slot, if it has one.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Lease {
    until: Option<u64>,
}

impl Lease {
    /// It is good until then; one that was said before and lasts longer stays.
    pub(super) fn extend(&mut self, until: u64) {
        self.until = self.until.max(Some(until));
    }

    /// When SIGTERM is due.
    pub(super) fn until(self) -> Option<u64> {
        self.until
    }

    /// When nothing may be left, with so much time to follow SIGTERM.
    pub(super) fn dead_at(self, kill_wait: u64) -> Option<u64> {
        self.until.map(|until| until.saturating_add(kill_wait))
    }

    pub(super) fn is_over(self, now: u64) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
}
