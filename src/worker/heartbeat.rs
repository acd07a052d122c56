//! Heartbeats on the link to the controller, and the leases that rest on them.
//!
//! A beat that the controller answers had reached it, so it knew of us at least as late as when the beat left here.
//! Whatever may run again elsewhere is therefore good for one lease from that moment, by this machine's own clock and
//! however long the answer took. The agent passes such a moment on to the shepherds; they end their elements when it
//! goes by, also when no agent is left to say so.

use super::slots::Slot;
use crate::model::ids::SlotKey;
use crate::wire::worker::{FromWorker, ToSlot};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use tokio::time::Instant;

/// Beats in the time that silence may last.
const BEATS: u32 = 3;
/// Beats without an answer that are remembered; a link with more of them is dropped before.
const UNANSWERED_MAX: usize = 64;
/// A lease is passed on once it has grown by this part of itself.
const WORTH_SAYING: u64 = 10;

/// The beats of one link, and what their answers have proved.
#[derive(Debug)]
pub(super) struct Heartbeat {
    interval: Duration,
    lease_ms: u64,
    number: u64,
    /// Number of a beat without an answer, and when it left.
    unanswered: VecDeque<(u64, u64)>,
    /// The latest moment at which something left that has surely reached the controller.
    proved_ms: u64,
    /// When the next beat is due.
    next: Instant,
}

impl Heartbeat {
    /// On these terms; the controller has answered what was said at `registered_ms`.
    pub(super) fn new(silent_after_ms: u64, lease_ms: u64, registered_ms: u64) -> Self {
        Heartbeat {
            interval: (Duration::from_millis(silent_after_ms) / BEATS)
                .max(Duration::from_millis(100)),
            lease_ms,
            number: 0,
            unanswered: VecDeque::new(),
            proved_ms: registered_ms,
            next: Instant::now(),
        }
    }

    pub(super) fn next(&self) -> Instant {
        self.next
    }

    /// The beat that leaves now.
    pub(super) fn beat(&mut self, now_ms: u64) -> FromWorker {
        self.next = Instant::now() + self.interval;
        self.number += 1;
        self.unanswered.push_back((self.number, now_ms));
        if self.unanswered.len() > UNANSWERED_MAX {
            self.unanswered.pop_front();
        }
        FromWorker::Beat {
            number: self.number,
        }
    }

    /// The controller has this one.
    pub(super) fn heard(&mut self, number: u64) {
        while let Some((first, sent_ms)) = self.unanswered.front().copied()
            && first <= number
        {
            self.unanswered.pop_front();
            if first == number {
                self.proved_ms = self.proved_ms.max(sent_ms);
            }
        }
    }

    /// Tells a shepherd until when its slot is good, where that is worth saying.
    pub(super) fn pass_on(&self, slot: &mut Slot) {
        let until_ms = self.proved_ms.saturating_add(self.lease_ms);
        let grown = until_ms.saturating_sub(slot.leased_until_ms);
        if slot.takes_lease && !slot.closing && grown > self.lease_ms / WORTH_SAYING {
            slot.lease(until_ms, self.lease_ms);
        }
    }

    /// Tells all shepherds, also those that may have forgotten to answer.
    pub(super) fn pass_on_again(&self, slots: &mut BTreeMap<SlotKey, Slot>) {
        for slot in slots.values_mut() {
            slot.leased_until_ms = 0;
            self.pass_on(slot);
        }
    }

    /// Tells all shepherds for which it is worth saying.
    pub(super) fn pass_on_to_all(&self, slots: &mut BTreeMap<SlotKey, Slot>) {
        slots.values_mut().for_each(|slot| self.pass_on(slot));
    }
}

impl Slot {
    /// Orders the slot's shepherd to go on though its controller knows no leases.
    pub(super) fn go_without_lease(&self) {
        if self.takes_lease && !self.closing {
            self.order(ToSlot::Lease {
                until_ms: None,
                lease_ms: 0,
            });
        }
    }

    /// Orders the slot's shepherd to end its element when this moment has passed.
    fn lease(&mut self, until_ms: u64, lease_ms: u64) {
        if self.is_live() {
            self.leased_until_ms = until_ms;
            self.order(ToSlot::Lease {
                until_ms: Some(until_ms),
                lease_ms,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_proves_when_its_own_beat_left_and_not_when_it_came() {
        let mut beats = Heartbeat::new(3_000, 60_000, 100);
        assert_eq!(beats.proved_ms, 100);
        for sent in [1_000, 2_000, 3_000] {
            assert!(matches!(beats.beat(sent), FromWorker::Beat { .. }));
        }
        beats.heard(2);
        assert_eq!(beats.proved_ms, 2_000);
        // One that was never sent, or was answered before, proves nothing.
        beats.heard(1);
        beats.heard(77);
        assert_eq!(beats.proved_ms, 2_000);
        assert!(beats.unanswered.is_empty());
    }
}
