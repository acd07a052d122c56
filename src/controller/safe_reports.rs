//! Words to a worker that its reports are safe. They need not travel alone: all that a shepherd does with one is to forget
//! what it would say again to the next agent or controller.

use crate::model::ids::SlotKey;
use crate::wire::worker::{ToSlot, ToWorker};
use std::collections::BTreeMap;
use std::time::Duration;

/// Longest wait for an order to travel with. Each word wakes the agent and a shepherd, which notes it in its journal; of
/// short tasks there would be one for every ten or so.
pub(super) const WAIT: Duration = Duration::from_millis(250);

/// Words that wait. Of one slot the last, which says what those before it said.
#[derive(Debug, Default)]
pub(super) struct SafeReports(BTreeMap<SlotKey, u64>);

impl SafeReports {
    /// Keeps back what may wait of these orders. If anything is left all goes, the kept words first: what ends a slot comes
    /// after them.
    pub(super) fn keep_back(&mut self, orders: &mut Vec<ToWorker>) {
        orders.retain(|order| match order {
            ToWorker::Slot {
                key,
                order: ToSlot::Acknowledge { report },
            } => {
                let last = self.0.entry(*key).or_default();
                *last = (*last).max(*report);
                false
            }
            _ => true,
        });
        if !orders.is_empty() {
            orders.splice(0..0, self.take());
        }
    }

    /// All that waits.
    pub(super) fn take(&mut self) -> impl Iterator<Item = ToWorker> + use<> {
        let words = std::mem::take(&mut self.0).into_iter();
        words.map(|(key, report)| ToWorker::Slot {
            key,
            order: ToSlot::Acknowledge { report },
        })
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::{JobId, SlotId};

    fn to(slot: u32, order: ToSlot) -> ToWorker {
        let key = SlotKey {
            job: JobId(7),
            slot: SlotId(slot),
        };
        ToWorker::Slot { key, order }
    }

    fn safe(slot: u32, report: u64) -> ToWorker {
        to(slot, ToSlot::Acknowledge { report })
    }

    #[test]
    fn words_wait_for_an_order_and_go_before_it() {
        let mut words = SafeReports::default();
        let mut orders = vec![safe(1, 4), safe(2, 1), safe(1, 5)];
        words.keep_back(&mut orders);
        assert_eq!((orders, words.is_empty()), (vec![], false));
        let end = to(1, ToSlot::Close);
        let mut orders = vec![end.clone(), safe(2, 2)];
        words.keep_back(&mut orders);
        assert_eq!(orders, [safe(1, 5), safe(2, 2), end]);
        assert!(words.is_empty());
    }

    #[test]
    fn words_that_have_waited_enough_go_alone_and_once() {
        let mut words = SafeReports::default();
        words.keep_back(&mut vec![safe(3, 9), safe(3, 8)]);
        assert_eq!(words.take().collect::<Vec<_>>(), [safe(3, 9)]);
        assert_eq!(words.take().count(), 0);
    }
}
