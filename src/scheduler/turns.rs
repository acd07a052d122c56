//! Turns of groups: whose job is looked at next.
//!
//! Groups that ask for the same lie in a row. Where a pass finds no room for one of a row there is none for the others
//! either, so they leave together, and none of them is put into an order with all the rest before: of a few thousand
//! groups a pass looks at a few hundred.

use super::order::OrderKey;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

/// When a turn comes, which job's it is, and the place of its group. The greatest comes first.
pub(super) type Turn = Reverse<(i64, OrderKey, usize)>;

/// Turns of groups that ask for the same.
#[derive(Debug, Default)]
struct Row {
    /// The last comes first; the others are in order once somebody needed that.
    turns: Vec<Turn>,
    in_order: bool,
}

impl Row {
    fn first(&mut self) -> Option<Turn> {
        if !self.in_order {
            self.turns.sort_unstable();
            self.in_order = true;
        }
        self.turns.last().copied()
    }
}

/// All turns to come.
#[derive(Debug, Default)]
pub(super) struct Turns {
    rows: Vec<Row>,
    /// The first of each row that is not empty.
    firsts: BinaryHeap<(Turn, usize)>,
    /// Those that came later, or that are in no row.
    others: BinaryHeap<Turn>,
    /// The row whose first was taken last: its next is looked for once somebody asks.
    open: Option<usize>,
}

impl Turns {
    /// Rows of at most so many each, and empty so far.
    pub(super) fn with_rows(rows: impl Iterator<Item = usize>) -> Self {
        let rows = rows.map(|most| Row {
            turns: Vec::with_capacity(most),
            in_order: false,
        });
        Turns {
            rows: rows.collect(),
            ..Turns::default()
        }
    }

    /// One more in a row, before any turn is taken.
    pub(super) fn line_up(&mut self, row: usize, turn: Turn) {
        match self.rows.get_mut(row) {
            Some(row) => row.turns.push(turn),
            None => self.others.push(turn),
        }
    }

    /// All have been lined up.
    pub(super) fn begin(&mut self) {
        let rows = self.rows.iter_mut().enumerate();
        let firsts = rows.filter_map(|(at, row)| {
            let (first, _) = row
                .turns
                .iter()
                .enumerate()
                .max_by_key(|(_, turn)| **turn)?;
            let last = row.turns.len() - 1;
            row.turns.swap(first, last);
            Some((*row.turns.last()?, at))
        });
        self.firsts = firsts.collect();
    }

    /// One more.
    pub(super) fn push(&mut self, turn: Turn) {
        self.others.push(turn);
    }

    /// The next, and the row in which it was.
    pub(super) fn pop(&mut self) -> Option<(Turn, Option<usize>)> {
        if let Some(at) = self.open.take()
            && let Some(first) = self.rows.get_mut(at).and_then(Row::first)
        {
            self.firsts.push((first, at));
        }
        let is_other = match (self.firsts.peek(), self.others.peek()) {
            (Some((first, _)), Some(other)) => other > first,
            (first, _) => first.is_none(),
        };
        if is_other {
            return Some((self.others.pop()?, None));
        }
        let (turn, at) = PeekMut::pop(self.firsts.peek_mut()?);
        if let Some(row) = self.rows.get_mut(at) {
            row.turns.pop();
        }
        self.open = Some(at);
        Some((turn, Some(at)))
    }

    /// Those of the row whose first was taken last go, unless they are to stay.
    pub(super) fn retain(&mut self, row: usize, stays: impl Fn(&Turn) -> bool) {
        if let Some(row) = self.rows.get_mut(row).filter(|_| self.open == Some(row)) {
            row.turns.retain(stays);
        }
    }

    /// All that are left, in no order.
    pub(super) fn take(&mut self) -> impl Iterator<Item = Turn> + use<> {
        let Turns { rows, others, .. } = std::mem::take(self);
        let rows = rows.into_iter().flat_map(|row| row.turns);
        rows.chain(others)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::JobId;
    use crate::model::time::Timestamp;
    use proptest::prelude::*;

    fn turn(at: usize, when: i64) -> Turn {
        let order = OrderKey {
            tier_negated: 0,
            priority_negated: when,
            submitted: Timestamp(0),
            id: JobId(0),
        };
        Reverse((0, order, at))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        /// Rows change nothing in the order, whoever comes later, leaves with its row, or is put anew.
        #[test]
        fn turns_come_as_from_one_heap(
            first in prop::collection::vec((0usize..5, 0i64..20), 0..40),
            then in prop::collection::vec((0u8..8, 0i64..30), 0..80),
        ) {
            let mut turns = Turns::with_rows([40, 40, 0, 40].into_iter());
            let mut plain = BinaryHeap::new();
            for (at, (row, when)) in first.iter().enumerate() {
                turns.line_up(*row, turn(at, *when));
                plain.push(turn(at, *when));
            }
            turns.begin();
            let row_of = |at: usize| first.get(at).map(|(row, _)| *row).filter(|row| *row < 4);
            for (what, when) in then {
                match what {
                    0 => {
                        turns.push(turn(1000, when));
                        plain.push(turn(1000, when));
                    }
                    1 => {
                        let left: Vec<Turn> = turns.take().collect();
                        prop_assert_eq!(left.len(), plain.len());
                        left.into_iter().for_each(|turn| turns.push(turn));
                    }
                    _ => {
                        let next = turns.pop();
                        prop_assert_eq!(next.map(|(turn, _)| turn), plain.pop());
                        let Some((Reverse((.., at)), Some(row))) = next else { continue };
                        prop_assert_eq!(row_of(at), Some(row));
                        if what < 4 {
                            // Some of the row leave.
                            let stays = |turn: &Turn| turn.0.1.priority_negated > when;
                            let is_of_row = |turn: &Turn| row_of(turn.0.2) == Some(row);
                            turns.retain(row, stays);
                            plain.retain(|turn| !is_of_row(turn) || stays(turn));
                        }
                    }
                }
            }
            while let Some((turn, _)) = turns.pop() {
                prop_assert_eq!(Some(turn), plain.pop());
            }
            prop_assert_eq!(plain.pop(), None);
        }
    }
}
