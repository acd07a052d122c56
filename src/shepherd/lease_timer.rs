//! What wakes a shepherd when its lease runs out, and what ends it where nothing can wake it.

use super::ShepherdError;
use crate::sys::clock::{LastResort, Timer, boottime_ms};
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use std::os::fd::AsFd;

/// So long after the moment at which nothing may be left, the kernel ends the shepherd itself. That is within what the
/// controller adds to every lease, and the agent still has time to end what the shepherd leaves.
const LAST_RESORT_MS: u64 = 2_000;

/// The timers of a slot with a lease.
#[derive(Debug)]
pub(super) struct LeaseTimer {
    /// Wakes also when the machine has slept.
    wake: Timer,
    /// A shepherd that somebody has stopped could not end its element: then it goes, and its tasks with it.
    last_resort: LastResort,
    set: (Option<u64>, Option<u64>),
}

impl LeaseTimer {
    /// Nothing is set; the poll gets `token` when it is time.
    pub(super) fn new(poll: &Epoll, token: u64) -> Result<Self, ShepherdError> {
        let wake = Timer::new().map_err(ShepherdError::system("make a timer"))?;
        poll.add(wake.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, token))
            .map_err(ShepherdError::system("fill the poll"))?;
        Ok(LeaseTimer {
            wake,
            last_resort: LastResort::new().map_err(ShepherdError::system("make a timer"))?,
            set: (None, None),
        })
    }

    /// Sets both, where that changes anything: when something is to be done next, and when nothing may be left.
    pub(super) fn set(&mut self, next: Option<u64>, end: Option<u64>) {
        if self.set == (next, end) {
            return;
        }
        self.set = (next, end);
        let woken = match next {
            Some(at) => self.wake.set_at(at),
            None => self.wake.unset(),
        };
        // Never at once: one that comes too late for its end still ends in order.
        let ahead = |at: u64| at.saturating_sub(boottime_ms());
        let last = end.map(|at| ahead(at).saturating_add(LAST_RESORT_MS));
        // Without them the poll's own time serves, which a sleeping machine stretches.
        if let Err(error) = woken.and(self.last_resort.set(last)) {
            tracing::warn!(%error, "a timer for the lease cannot be set");
        }
    }

    /// It has woken us, and that is all: what is due follows from the core.
    pub(super) fn take(&self) {
        let _ = self.wake.take();
    }
}
