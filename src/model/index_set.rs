//! A set of positions kept as runs, so that a million array tasks in a row cost one pair of numbers.
//!
//! Positions count from 0 within an array; which array index stands there is `array.rs`'s matter.

use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::rare::Blank;

/// One run, which is what most sets are, lies in the set itself.
type Runs = SmallVec<[(u32, u32); 1]>;

/// An ordered set of `u32` below `u32::MAX`, as sorted half-open runs with gaps between them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<(u32, u32)>", into = "Vec<(u32, u32)>")]
pub struct IndexSet {
    runs: Runs,
}

impl Blank for IndexSet {
    const BLANK: &'static Self = &IndexSet {
        runs: SmallVec::new_const(),
    };
}

/// Why stored runs are not an index set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "run {start}..{end} of an index set is empty or touches the run before it: write rising runs with gaps"
)]
pub struct IndexSetError {
    /// The first position of the offending run.
    pub start: u32,
    /// The position behind its last.
    pub end: u32,
}

impl TryFrom<Vec<(u32, u32)>> for IndexSet {
    type Error = IndexSetError;

    fn try_from(runs: Vec<(u32, u32)>) -> Result<Self, IndexSetError> {
        let mut behind = None;
        for &(start, end) in &runs {
            if start >= end || behind.is_some_and(|behind| start <= behind) {
                return Err(IndexSetError { start, end });
            }
            behind = Some(end);
        }
        Ok(Self { runs: runs.into() })
    }
}

impl From<IndexSet> for Vec<(u32, u32)> {
    fn from(set: IndexSet) -> Self {
        set.runs.into_vec()
    }
}

impl IndexSet {
    /// The empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// The positions from `start` up to but without `end`.
    pub fn from_range(start: u32, end: u32) -> Self {
        Self {
            runs: (start < end).then_some((start, end)).into_iter().collect(),
        }
    }

    /// The sorted half-open runs, with at least one missing position between two of them.
    pub fn runs(&self) -> &[(u32, u32)] {
        &self.runs
    }

    /// Whether the set has no position.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// How many positions the set has.
    pub fn len(&self) -> u32 {
        self.runs.iter().map(|(start, end)| end - start).sum()
    }

    /// The smallest position.
    pub fn first(&self) -> Option<u32> {
        self.runs.first().map(|&(start, _)| start)
    }

    /// The largest position.
    pub fn last(&self) -> Option<u32> {
        self.runs.last().map(|&(_, end)| end - 1)
    }

    /// Whether the position is in the set.
    pub fn contains(&self, position: u32) -> bool {
        let after = self.runs.partition_point(|&(start, _)| start <= position);
        after > 0 && position < self.runs[after - 1].1
    }

    /// Every position in rising order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.runs.iter().flat_map(|&(start, end)| start..end)
    }

    /// Adds a position and says whether it was missing.
    pub fn insert(&mut self, position: u32) -> bool {
        assert!(
            position < u32::MAX,
            "an index set holds positions below u32::MAX"
        );
        let missing = !self.contains(position);
        if missing {
            self.insert_range(position, position + 1);
        }
        missing
    }

    /// Adds the positions from `start` up to but without `end`.
    pub fn insert_range(&mut self, start: u32, end: u32) {
        if start >= end {
            return;
        }
        // Runs that overlap or touch the new one melt into it.
        let from = self.runs.partition_point(|run| run.1 < start);
        let to = self.runs.partition_point(|run| run.0 <= end);
        let merged = match self.runs.get(from..to) {
            Some([first, .., last]) => (start.min(first.0), end.max(last.1)),
            Some([only]) => (start.min(only.0), end.max(only.1)),
            _ => (start, end),
        };
        self.replace(from..to, [merged]);
    }

    /// Removes a position and says whether it was there.
    pub fn remove(&mut self, position: u32) -> bool {
        let present = self.contains(position);
        if present {
            self.remove_range(position, position + 1);
        }
        present
    }

    /// Removes the positions from `start` up to but without `end`.
    pub fn remove_range(&mut self, start: u32, end: u32) {
        if start >= end {
            return;
        }
        let from = self.runs.partition_point(|run| run.1 <= start);
        let to = self.runs.partition_point(|run| run.0 < end);
        if from >= to {
            return;
        }
        let before = (self.runs[from].0, start);
        let behind = (end, self.runs[to - 1].1);
        let left = [before, behind].into_iter();
        self.replace(from..to, left.filter(|(start, end)| start < end));
    }

    /// Puts other runs in the place of these.
    fn replace(&mut self, place: Range<usize>, by: impl IntoIterator<Item = (u32, u32)>) {
        let start = place.start;
        self.runs.drain(place);
        self.runs.insert_many(start, by);
    }

    /// Removes up to `count` of the smallest positions and returns them.
    #[must_use]
    pub fn take_first(&mut self, count: u32) -> Self {
        let mut wanted = count;
        let mut taken = Runs::new();
        let mut whole_runs = 0;
        for run in &mut self.runs {
            let length = run.1 - run.0;
            if wanted < length {
                if wanted > 0 {
                    taken.push((run.0, run.0 + wanted));
                    run.0 += wanted;
                }
                break;
            }
            wanted -= length;
            taken.push(*run);
            whole_runs += 1;
        }
        self.runs.drain(..whole_runs);
        Self { runs: taken }
    }

    /// Adds every position of `other`.
    pub fn union_with(&mut self, other: &Self) {
        let mut sorted = [self.runs.as_slice(), &other.runs].concat();
        sorted.sort_unstable();
        self.runs.clear();
        for (start, end) in sorted {
            match self.runs.last_mut() {
                Some(last) if start <= last.1 => last.1 = last.1.max(end),
                _ => self.runs.push((start, end)),
            }
        }
    }

    /// Removes every position of `other`.
    pub fn subtract(&mut self, other: &Self) {
        let mut left = Runs::with_capacity(self.runs.len());
        let mut holes = other.runs.iter().copied().peekable();
        for &(mut start, end) in &self.runs {
            while holes.next_if(|hole| hole.1 <= start).is_some() {}
            while let Some(&(hole_start, hole_end)) = holes.peek() {
                if hole_start >= end {
                    break;
                }
                if start < hole_start {
                    left.push((start, hole_start));
                }
                start = hole_end;
                if start >= end {
                    break;
                }
                holes.next();
            }
            if start < end {
                left.push((start, end));
            }
        }
        self.runs = left;
    }

    /// Keeps only the positions that `other` has too.
    pub fn intersect(&mut self, other: &Self) {
        let mut both = Runs::new();
        let (mut left, mut right) = (self.runs.iter().peekable(), other.runs.iter().peekable());
        while let (Some(&&(left_start, left_end)), Some(&&(right_start, right_end))) =
            (left.peek(), right.peek())
        {
            let (start, end) = (left_start.max(right_start), left_end.min(right_end));
            if start < end {
                both.push((start, end));
            }
            if left_end <= right_end {
                left.next();
            } else {
                right.next();
            }
        }
        self.runs = both;
    }
}

impl FromIterator<u32> for IndexSet {
    fn from_iter<I: IntoIterator<Item = u32>>(positions: I) -> Self {
        let mut set = Self::new();
        for position in positions {
            set.insert(position);
        }
        set
    }
}

impl fmt::Display for IndexSet {
    /// Inclusive ranges: `0-3,8`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, &(start, end)) in self.runs.iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            match end - start {
                1 => write!(formatter, "{comma}{start}")?,
                _ => write!(formatter, "{comma}{start}-{}", end - 1)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_million_in_a_row_cost_one_run() {
        let mut set = IndexSet::from_range(0, 1_000_000);
        let taken = set.take_first(1000);
        assert_eq!(
            (taken.runs(), set.runs()),
            (&[(0, 1000)][..], &[(1000, 1_000_000)][..])
        );
        assert_eq!(set.len(), 999_000);
        let in_order: IndexSet = (0..1000).collect();
        assert_eq!(in_order.runs().len(), 1);
    }

    #[test]
    fn both_ends_of_the_range() {
        let mut set = IndexSet::from_range(0, u32::MAX);
        assert_eq!((set.len(), set.last()), (u32::MAX, Some(u32::MAX - 1)));
        set.remove_range(1, u32::MAX - 1);
        assert_eq!(set.to_string(), "0,4294967294");
        assert!(!set.contains(u32::MAX));
    }

    #[test]
    fn stored_runs_are_checked() {
        for runs in [
            vec![(1, 1)],
            vec![(2, 1)],
            vec![(0, 2), (2, 3)],
            vec![(5, 6), (1, 2)],
        ] {
            assert!(IndexSet::try_from(runs).is_err());
        }
        let bytes = postcard::to_stdvec(&IndexSet::from_range(0, 1_000_000)).unwrap();
        assert!(bytes.len() <= 5);
        assert_eq!(
            postcard::from_bytes::<IndexSet>(&bytes),
            Ok(IndexSet::from_range(0, 1_000_000))
        );
    }

    #[derive(Debug, Clone)]
    enum Step {
        Insert(u32),
        InsertRange(u32, u32),
        Remove(u32),
        RemoveRange(u32, u32),
        TakeFirst(u32),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (0_u32..60).prop_map(Step::Insert),
            (0_u32..60, 0_u32..60).prop_map(|(start, end)| Step::InsertRange(start, end)),
            (0_u32..60).prop_map(Step::Remove),
            (0_u32..60, 0_u32..60).prop_map(|(start, end)| Step::RemoveRange(start, end)),
            (0_u32..10).prop_map(Step::TakeFirst),
        ];
        prop::collection::vec(step, 0..40)
    }

    fn build(steps: &[Step]) -> (IndexSet, BTreeSet<u32>) {
        let (mut set, mut model) = (IndexSet::new(), BTreeSet::new());
        for step in steps {
            match *step {
                Step::Insert(position) => assert_eq!(set.insert(position), model.insert(position)),
                Step::InsertRange(start, end) => {
                    set.insert_range(start, end);
                    model.extend(start..end);
                }
                Step::Remove(position) => assert_eq!(set.remove(position), model.remove(&position)),
                Step::RemoveRange(start, end) => {
                    set.remove_range(start, end);
                    model.retain(|position| !(start..end).contains(position));
                }
                Step::TakeFirst(count) => {
                    let taken: Vec<u32> = set.take_first(count).iter().collect();
                    let expected: Vec<u32> = model.iter().copied().take(count as usize).collect();
                    model.retain(|position| !expected.contains(position));
                    assert_eq!(taken, expected);
                }
            }
            assert_same(&set, &model);
        }
        (set, model)
    }

    fn assert_same(set: &IndexSet, model: &BTreeSet<u32>) {
        assert!(set.iter().eq(model.iter().copied()));
        assert_eq!(IndexSet::try_from(set.runs().to_vec()).as_ref(), Ok(set));
        assert_eq!(set.len() as usize, model.len());
        assert_eq!(set.is_empty(), model.is_empty());
        assert_eq!(
            (set.first(), set.last()),
            (model.first().copied(), model.last().copied())
        );
        assert!((0..62).all(|position| set.contains(position) == model.contains(&position)));
    }

    proptest! {
        #[test]
        fn behaves_like_a_set(left in steps(), right in steps()) {
            let ((left, left_model), (right, right_model)) = (build(&left), build(&right));
            let mut union = left.clone();
            union.union_with(&right);
            assert_same(&union, &(&left_model | &right_model));
            let mut difference = left.clone();
            difference.subtract(&right);
            assert_same(&difference, &(&left_model - &right_model));
            let mut common = left.clone();
            common.intersect(&right);
            assert_same(&common, &(&left_model & &right_model));
        }
    }
}
