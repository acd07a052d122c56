//! How long a slot may go on without its controller.
//!
//! The controller starts elsewhere what may run again once it has heard nothing for a lease. So a shepherd that was
//! told of a lease ends its element when that has run out, whoever else is dead by then, and starts nothing more
//! until it hears that the lease goes on. Moments are this machine's CLOCK_BOOTTIME, which no change of the date moves
//! and which goes on while the machine sleeps.

/// The lease of a slot.
///
/// ```text
///   Awaited ──▶ None ──▶ Until(moment), and then only later moments
///       └──────────────────▲
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lease {
    /// The job may run again, and nobody has said yet how long the slot may go on. So nothing starts: whoever would
    /// end it later could not know when.
    Awaited,
    /// Not for this job, or not with this controller.
    None,
    /// It is good until then.
    Until(u64),
}

impl Lease {
    /// Of a slot that was just launched.
    pub(super) fn new(requeue: bool) -> Self {
        if requeue { Lease::Awaited } else { Lease::None }
    }

    /// It is good until then; `None` where there are no leases. What was said before and lasts longer stays.
    pub(super) fn extend(&mut self, until: Option<u64>) {
        *self = match (*self, until) {
            (Lease::Until(known), Some(until)) => Lease::Until(known.max(until)),
            (Lease::Until(known), None) => Lease::Until(known),
            (Lease::Awaited | Lease::None, Some(until)) => Lease::Until(until),
            (Lease::Awaited | Lease::None, None) => Lease::None,
        };
    }

    /// When SIGTERM is due.
    pub(super) fn until(self) -> Option<u64> {
        match self {
            Lease::Awaited | Lease::None => None,
            Lease::Until(until) => Some(until),
        }
    }

    /// When nothing may be left, with so much time to follow SIGTERM.
    pub(super) fn dead_at(self, kill_wait: u64) -> Option<u64> {
        self.until().map(|until| until.saturating_add(kill_wait))
    }

    pub(super) fn is_over(self, now: u64) -> bool {
        self.until().is_some_and(|until| until <= now)
    }

    /// Whether an element may start.
    pub(super) fn is_good(self, now: u64) -> bool {
        self != Lease::Awaited && !self.is_over(now)
    }
}
