//! Turns of groups: whose job is looked at next.
//!
//! Groups that ask for the same lie in a row, and only the first of a row is in an order with those of other rows. Where a
//! pass finds no room for it there is none for the others either, so they leave together, mostly before anybody has looked
//! at them: of a few thousand groups a pass looks at a few hundred.

use super::order::OrderKey;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// When a turn comes, which job's it is, and the place of its group. The greatest comes first.
pub(super) type Turn = Reverse<(i64, OrderKey, usize)>;

/// Turns of groups that ask for the same, without the first.
#[derive(Debug, Default)]
struct Row {
    /// The last comes first once they are in order.
    turns: Vec<Turn>,
    in_order: bool,
    /// The first, where nobody has looked at the others yet.
    alone: Option<usize>,
}

impl Row {
    fn next(&mut self) -> Option<Turn> {
        if !self.in_order {
            self.turns.sort_unstable();
            self.in_order = true;
        }
        self.turns.pop()
    }
}

/// All turns to come.
#[derive(Debug, Default)]
pub(super) struct Turns {
    rows: Vec<Row>,
    /// The first of each row.
    firsts: BinaryHeap<(Turn, usize)>,
    /// Those that came later, or that are in no row.
    others: BinaryHeap<Turn>,
    /// The row whose first was taken last: its next is looked for once somebody asks.
    open: Option<usize>,
}

impl Turns {
    /// So many rows, all empty.
    pub(super) fn with_rows(count: usize) -> Self {
        let mut turns = Turns::default();
        turns.rows.resize_with(count, Row::default);
        turns
    }

    /// Rows, the first of each: either all of a row, or the first and that the others have not been looked at.
    pub(super) fn begin(&mut self, leading: Vec<(usize, Turn)>) {
        let mut firsts = Vec::with_capacity(self.rows.len());
        for (at, turn) in leading {
            let Reverse((.., group)) = turn;
            if let Some(row) = self.rows.get_mut(at) {
                row.alone = Some(group);
                firsts.push((turn, at));
            }
        }
        for (row, at) in self.rows.iter_mut().zip(0..) {
            let turns = row.turns.iter().enumerate();
            if let Some((first, _)) = turns.max_by_key(|(_, turn)| **turn) {
                firsts.push((row.turns.swap_remove(first), at));
            }
        }
        self.firsts = firsts.into();
    }

    /// One more in a row: before the beginning, or of a row that has not been looked at but for its first.
    pub(super) fn line_up(&mut self, row: usize, turn: Turn) {
        match self.rows.get_mut(row) {
            Some(row) => row.turns.push(turn),
            None => self.others.push(turn),
        }
    }

    /// One more, in no row.
    pub(super) fn push(&mut self, turn: Turn) {
        self.others.push(turn);
    }

    /// The row that is to be looked at before the next turn, but for this group of it.
    pub(super) fn unseen(&mut self) -> Option<(usize, usize)> {
        let row = self.open?;
        let group = self.rows.get_mut(row)?.alone.take()?;
        Some((row, group))
    }

    /// All rows that have not been looked at, but for these groups of them.
    pub(super) fn all_unseen(&mut self) -> Vec<(usize, usize)> {
        let rows = self.rows.iter_mut().enumerate();
        rows.filter_map(|(at, row)| Some((at, row.alone.take()?)))
            .collect()
    }

    /// The next, and the row in which it was.
    pub(super) fn pop(&mut self) -> Option<(Turn, Option<usize>)> {
        if let Some(at) = self.open.take()
            && let Some(next) = self.rows.get_mut(at).and_then(Row::next)
        {
            self.firsts.push((next, at));
        }
        let is_other = match (self.firsts.peek(), self.others.peek()) {
            (Some((first, _)), Some(other)) => other > first,
            (first, _) => first.is_none(),
        };
        if is_other {
            return Some((self.others.pop()?, None));
        }
        let (turn, at) = self.firsts.pop()?;
        self.open = Some(at);
        Some((turn, Some(at)))
    }

    /// Those of the row whose first was taken last go, unless they are to stay.
    pub(super) fn retain(&mut self, row: usize, stays: impl Fn(&Turn) -> bool) {
        if let Some(row) = self.rows.get_mut(row) {
            row.turns.retain(stays);
        }
    }

    /// All that are left, in no order. All rows have been looked at.
    pub(super) fn take(&mut self) -> impl Iterator<Item = Turn> + use<> {
        let Turns {
            rows,
            firsts,
            others,
            ..
        } = std::mem::take(self);
        let rows = rows.into_iter().flat_map(|row| row.turns);
        let firsts = firsts.into_iter().map(|(turn, _)| turn);
        rows.chain(firsts).chain(others)
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
        /// Rows change nothing in the order, whoever comes later, leaves with its row, is put anew, or is looked at late.
        #[test]
        fn turns_come_as_from_one_heap(
            first in prop::collection::vec((0usize..5, 0i64..20), 0..40),
            late in prop::collection::vec(any::<bool>(), 4),
            then in prop::collection::vec((0u8..8, 0i64..30), 0..80),
        ) {
            let mut turns = Turns::with_rows(4);
            let mut plain = BinaryHeap::new();
            let mut rows: Vec<Vec<Turn>> = vec![Vec::new(); 4];
            for (at, (row, when)) in first.iter().enumerate() {
                let turn = turn(at, *when);
                plain.push(turn);
                match rows.get_mut(*row).filter(|_| late[*row]) {
                    Some(row) => row.push(turn),
                    None => turns.line_up(*row, turn),
                }
            }
            let leading = rows.iter().enumerate();
            let leading = leading.filter_map(|(at, row)| Some((at, *row.iter().max()?)));
            turns.begin(leading.collect());
            let row_of = |at: usize| first.get(at).map(|(row, _)| *row).filter(|row| *row < 4);
            // Whoever has left a row is not lined up when it is looked at.
            let look = |turns: &mut Turns, unseen: &[(usize, usize)], plain: &BinaryHeap<Turn>| {
                for (row, except) in unseen {
                    for turn in rows[*row].iter().filter(|turn| turn.0.2 != *except) {
                        if plain.iter().any(|left| left == turn) {
                            turns.line_up(*row, *turn);
                        }
                    }
                }
            };
            for (what, when) in then {
                match what {
                    0 => {
                        turns.push(turn(1000, when));
                        plain.push(turn(1000, when));
                    }
                    1 => {
                        let unseen = turns.all_unseen();
                        look(&mut turns, &unseen, &plain);
                        let left: Vec<Turn> = turns.take().collect();
                        prop_assert_eq!(left.len(), plain.len());
                        left.into_iter().for_each(|turn| turns.push(turn));
                    }
                    _ => {
                        let unseen: Vec<_> = turns.unseen().into_iter().collect();
                        look(&mut turns, &unseen, &plain);
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
            loop {
                let unseen: Vec<_> = turns.unseen().into_iter().collect();
                look(&mut turns, &unseen, &plain);
                let next = turns.pop().map(|(turn, _)| turn);
                prop_assert_eq!(next, plain.pop());
                if next.is_none() {
                    break;
                }
            }
        }
    }
}
