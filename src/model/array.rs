//! Which indices a job array has: `0-15:4`, `1,3,5%2`, kept as ranges however many indices they cover.
//!
//! A *position* counts an array's tasks from 0 in rising order of their *index*. Which positions still wait
//! or run is an `IndexSet` elsewhere.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::index_set::IndexSet;
use super::text::{excerpt, number};

/// The largest index any array may have, whatever a cluster's own limit is.
pub const MAX_INDEX: u32 = 4_000_000;
/// The most indices one array may have, as written: an index named twice counts twice.
pub const MAX_INDICES: u32 = MAX_INDEX + 1;
/// The most ranges an array may have, as written and as kept.
pub const MAX_RANGES: usize = 10_000;

/// Why a text is not an array specification.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArrayError {
    /// A part is not an index, a rising range or a range with a step.
    #[error(
        "\"{range}\" is not an array index or range: write 7, 0-15 or 0-15:4, joined by commas"
    )]
    BadRange {
        /// The offending part.
        range: String,
    },
    /// The number of tasks that may run at once is missing or zero.
    #[error(
        "array throttle \"{throttle}\" is not a number above 0: write how many may run at once, as in 0-99%5"
    )]
    BadThrottle {
        /// What follows the percent sign.
        throttle: String,
    },
    /// An index beyond the cluster's limit.
    #[error("array index {index} is above the largest allowed, {max_index}: use smaller indices")]
    IndexTooLarge {
        /// The offending index.
        index: u64,
        /// The largest index allowed.
        max_index: u32,
    },
    /// More ranges than are kept.
    #[error(
        "array \"{text}\" needs more than {MAX_RANGES} ranges: write fewer, or split it into several arrays"
    )]
    TooManyRanges {
        /// The beginning of the offending text.
        text: String,
    },
    /// Ranges that arrived in a form which nobody of ours writes.
    #[error(
        "array \"{text}\" names indices twice or out of order: send rising ranges that do not reach into one another"
    )]
    NotRising {
        /// The beginning of the offending text.
        text: String,
    },
    /// More indices than any array, or list of arrays, may have.
    #[error("array \"{text}\" names more than {max_indices} indices: split it into several arrays")]
    TooManyIndices {
        /// The beginning of the offending text.
        text: String,
        /// The most that were allowed.
        max_indices: u32,
    },
}

/// The indices from `first` to `last`, `step` apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ArrayRange {
    first: u32,
    /// Reached exactly by steps from `first`.
    last: u32,
    /// At least 1, and 1 where there is one index alone.
    step: u32,
}

impl ArrayRange {
    /// A range whose last index may be written too large for its step.
    fn new(first: u32, end: u32, step: u32) -> Self {
        let last = end - (end - first) % step;
        Self {
            first,
            last,
            step: if first == last { 1 } else { step },
        }
    }

    fn count(&self) -> u32 {
        (self.last - self.first) / self.step + 1
    }

    fn indices(&self) -> impl Iterator<Item = u32> + use<> {
        (self.first..=self.last).step_by(self.step as usize)
    }
}

impl fmt::Display for ArrayRange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.first == self.last, self.step) {
            (true, _) => write!(formatter, "{}", self.first),
            (false, 1) => write!(formatter, "{}-{}", self.first, self.last),
            (false, step) => write!(formatter, "{}-{}:{step}", self.first, self.last),
        }
    }
}

/// The indices of a job array in rising order, and how many of its tasks may run at once.
///
/// It travels and is stored as its text, so that whatever arrives has passed the parser.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ArraySpec {
    /// Never empty; rising, and no range begins before the one ahead of it has ended.
    ranges: Vec<ArrayRange>,
    /// The position of each range's first index.
    starts: Vec<u32>,
    /// How many tasks may run at once; none means as many as fit.
    pub throttle: Option<u32>,
}

impl ArraySpec {
    /// Reads ranges joined by commas and an optional `%max`; no index may be above `max_index`.
    pub fn parse(text: &str, max_index: u32) -> Result<Self, ArrayError> {
        let mut budget = MAX_INDICES;
        Self::parse_within(text, max_index, &mut budget)
    }

    /// The same for one text of several, which together may name as many indices as `budget` has left.
    pub(super) fn parse_within(
        text: &str,
        max_index: u32,
        budget: &mut u32,
    ) -> Result<Self, ArrayError> {
        let (written, throttle) = read_ranges(text, max_index, budget)?;
        let ranges = disentangle(written);
        if ranges.len() > MAX_RANGES {
            return Err(ArrayError::TooManyRanges {
                text: excerpt(text),
            });
        }
        Ok(Self::from_ranges(ranges, throttle))
    }

    fn from_ranges(ranges: Vec<ArrayRange>, throttle: Option<u32>) -> Self {
        let starts = ranges.iter().scan(0, |next, range| {
            let start = *next;
            *next += range.count();
            Some(start)
        });
        Self {
            starts: starts.collect(),
            ranges,
            throttle,
        }
    }

    /// How many tasks the array has.
    pub fn count(&self) -> u32 {
        let last = self.starts.last().zip(self.ranges.last());
        last.map_or(0, |(start, range)| start + range.count())
    }

    /// The index at a position, which must be below `count`.
    pub fn index_at(&self, position: u32) -> u32 {
        assert!(
            position < self.count(),
            "a position of an array is below its count"
        );
        let place = self.starts.partition_point(|&start| start <= position) - 1;
        let range = &self.ranges[place];
        range.first + (position - self.starts[place]) * range.step
    }

    /// The position of an index; none where the array does not have it.
    pub fn position_of(&self, index: u32) -> Option<u32> {
        let place = self
            .ranges
            .partition_point(|range| range.first <= index)
            .checked_sub(1)?;
        let range = &self.ranges[place];
        let offset = index - range.first;
        let held = index <= range.last && offset.is_multiple_of(range.step);
        held.then(|| self.starts[place] + offset / range.step)
    }

    /// The smallest index.
    pub fn min(&self) -> u32 {
        self.ranges.first().map_or(0, |range| range.first)
    }

    /// The largest index.
    pub fn max(&self) -> u32 {
        self.ranges.last().map_or(0, |range| range.last)
    }

    /// The distance between neighbours where all are equally far apart, and 1 otherwise.
    pub fn step(&self) -> u32 {
        let inside = self
            .ranges
            .iter()
            .filter(|range| range.count() > 1)
            .map(|range| range.step);
        let between = self
            .ranges
            .windows(2)
            .map(|pair| pair[1].first - pair[0].last);
        let mut distances = inside.chain(between);
        let first = distances.next().unwrap_or(1);
        if distances.all(|distance| distance == first) {
            first
        } else {
            1
        }
    }

    /// Every index in rising order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.ranges.iter().flat_map(ArrayRange::indices)
    }

    /// The indices at some of the positions, as the queue shows the waiting rest of an array: `3,5-9`.
    pub fn describe(&self, positions: &IndexSet) -> String {
        let mut shown = Vec::new();
        let mut place = 0;
        for &(start, end) in positions.runs() {
            while place < self.ranges.len() {
                let (range, range_start) = (&self.ranges[place], self.starts[place]);
                let (from, to) = (start.max(range_start), end.min(range_start + range.count()));
                if from < to {
                    let index = |position: u32| range.first + (position - range_start) * range.step;
                    shown.push(ArrayRange::new(index(from), index(to - 1), range.step));
                }
                if range_start + range.count() > end {
                    break;
                }
                place += 1;
            }
        }
        join(&shown)
    }
}

/// The ranges as written, and the throttle; together they may name as many indices as `budget` has left.
fn read_ranges(
    text: &str,
    max_index: u32,
    budget: &mut u32,
) -> Result<(Vec<ArrayRange>, Option<u32>), ArrayError> {
    let (list, throttle) = match text.trim().split_once('%') {
        Some((list, throttle)) => (list, Some(parse_throttle(throttle)?)),
        None => (text.trim(), None),
    };
    let max_indices = *budget;
    let mut written = Vec::new();
    for part in list.split(',') {
        if written.len() == MAX_RANGES {
            return Err(ArrayError::TooManyRanges {
                text: excerpt(text),
            });
        }
        let range = parse_range(part, max_index.min(MAX_INDEX))?;
        *budget = budget
            .checked_sub(range.count())
            .ok_or_else(|| ArrayError::TooManyIndices {
                text: excerpt(text),
                max_indices,
            })?;
        written.push(range);
    }
    Ok((written, throttle))
}

fn parse_throttle(text: &str) -> Result<u32, ArrayError> {
    let throttle = number(text).filter(|&throttle| throttle > 0);
    throttle.ok_or_else(|| ArrayError::BadThrottle {
        throttle: excerpt(text),
    })
}

fn parse_range(text: &str, max_index: u32) -> Result<ArrayRange, ArrayError> {
    let bad = || ArrayError::BadRange {
        range: excerpt(text),
    };
    let (ends, step) = match text.split_once(':') {
        Some((ends, step)) => (
            ends,
            Some(
                number::<u32>(step)
                    .filter(|&step| step > 0)
                    .ok_or_else(bad)?,
            ),
        ),
        None => (text, None),
    };
    let (first, last) = match ends.split_once('-') {
        Some((first, last)) => (first, last),
        None if step.is_some() => return Err(bad()),
        None => (ends, ends),
    };
    let first: u64 = number(first).ok_or_else(bad)?;
    let last: u64 = number(last).ok_or_else(bad)?;
    if first > last {
        return Err(bad());
    }
    match (u32::try_from(first), u32::try_from(last)) {
        (Ok(first), Ok(last)) if last <= max_index => {
            Ok(ArrayRange::new(first, last, step.unwrap_or(1)))
        }
        _ => Err(ArrayError::IndexTooLarge {
            index: last,
            max_index,
        }),
    }
}

/// Sorts ranges, takes apart those that reach into one another, and joins those that touch.
fn disentangle(mut written: Vec<ArrayRange>) -> Vec<ArrayRange> {
    written.sort_unstable_by_key(|range| (range.first, range.last));
    let mut ranges = Vec::new();
    let mut rest = written.as_slice();
    while let Some(first) = rest.first() {
        let mut end = first.last;
        let mut tangled = 1;
        while let Some(range) = rest.get(tangled).filter(|range| range.first <= end) {
            end = end.max(range.last);
            tangled += 1;
        }
        let (tangle, behind) = rest.split_at(tangled);
        rest = behind;
        if tangled == 1 || tangle.iter().all(|range| range.step == 1) {
            ranges.push(ArrayRange {
                last: end,
                ..*first
            });
        } else {
            ranges.extend(untangle(tangle));
        }
    }
    ranges.dedup_by(|next, range| {
        let touches = range.step == 1 && next.step == 1 && range.last + 1 == next.first;
        if touches {
            range.last = next.last;
        }
        touches
    });
    ranges
}

/// Writes ranges that reach into one another as ranges that do not; it gives up beyond `MAX_RANGES`.
fn untangle(tangle: &[ArrayRange]) -> Vec<ArrayRange> {
    let mut indices: Vec<u32> = tangle.iter().flat_map(ArrayRange::indices).collect();
    // The stable sort merges what is sorted already, so this costs little more than a copy.
    indices.sort();
    let mut ranges = Vec::new();
    let mut run: Option<ArrayRange> = None;
    for index in indices {
        match &mut run {
            Some(run) if index <= run.last + 1 => run.last = index,
            _ => {
                if let Some(run) = run.replace(ArrayRange::new(index, index, 1)) {
                    push_run(&mut ranges, run);
                }
                if ranges.len() > MAX_RANGES {
                    break;
                }
            }
        }
    }
    if let Some(run) = run {
        push_run(&mut ranges, run);
    }
    // Two indices alone read better one by one.
    let one_by_one = |range: ArrayRange| match (range.step, range.count()) {
        (2.., 2) => vec![
            ArrayRange::new(range.first, range.first, 1),
            ArrayRange::new(range.last, range.last, 1),
        ],
        _ => vec![range],
    };
    ranges.into_iter().flat_map(one_by_one).collect()
}

/// Adds a run of neighbours, or lets a lone index go on in the even steps of those before it.
fn push_run(ranges: &mut Vec<ArrayRange>, run: ArrayRange) {
    match ranges.last_mut() {
        Some(open) if run.count() == 1 && open.step > 1 && open.last + open.step == run.first => {
            open.last = run.first
        }
        Some(open) if run.count() == 1 && open.count() == 1 => {
            *open = ArrayRange {
                first: open.first,
                last: run.first,
                step: run.first - open.first,
            };
        }
        _ => ranges.push(run),
    }
}

fn join(ranges: &[ArrayRange]) -> String {
    ranges
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(",")
}

impl fmt::Display for ArraySpec {
    /// Slurm's grammar: `0-12:4`, `1-3,7%2`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&join(&self.ranges))?;
        match self.throttle {
            Some(throttle) => write!(formatter, "%{throttle}"),
            None => Ok(()),
        }
    }
}

impl TryFrom<String> for ArraySpec {
    type Error = ArrayError;

    /// Reads what `Display` wrote. Ranges that reach into one another would have to be taken apart index by index,
    /// tens of milliseconds for twenty bytes; people may write them, but nobody of ours sends them.
    fn try_from(text: String) -> Result<Self, ArrayError> {
        let (ranges, throttle) = read_ranges(&text, MAX_INDEX, &mut { MAX_INDICES })?;
        if ranges.windows(2).any(|pair| pair[1].first <= pair[0].last) {
            return Err(ArrayError::NotRising {
                text: excerpt(&text),
            });
        }
        Ok(Self::from_ranges(disentangle(ranges), throttle))
    }
}

impl From<ArraySpec> for String {
    fn from(spec: ArraySpec) -> Self {
        spec.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn parse(text: &str) -> Result<ArraySpec, ArrayError> {
        ArraySpec::parse(text, MAX_INDEX)
    }

    #[test]
    fn reads_the_grammar() {
        let table: &[(&str, &str, u32, u32)] = &[
            // text, as shown, count, step
            ("7", "7", 1, 1),
            ("0-0%1", "0%1", 1, 1),
            ("0-15:4", "0-12:4", 4, 4),
            ("1,3,5%2", "1,3,5%2", 3, 2),
            ("1-3,2", "1-3", 3, 1),
            ("5,1-3", "1-3,5", 4, 1),
            ("1,2,3", "1-3", 3, 1),
            ("1,4,7,10%2", "1,4,7,10%2", 4, 3),
            ("0-10:2,5", "0,2,4-6,8,10", 7, 1),
            ("0-6:2,1-7:2", "0-7", 8, 1),
            ("0-6:2,3", "0,2-4,6", 5, 1),
            ("0-999999:2,1", "0-2,4-999998:2", 500_001, 1),
            ("3-3:9", "3", 1, 1),
            ("1-2:7,4", "1,4", 2, 3),
        ];
        for (text, shown, count, step) in table {
            let spec = parse(text).unwrap();
            assert_eq!(
                (spec.to_string().as_str(), spec.count(), spec.step()),
                (*shown, *count, *step),
                "{text}"
            );
        }
    }

    #[test]
    fn refuses_the_rest() {
        for text in [
            "",
            ",",
            "1,",
            "abc",
            "5-1",
            "-1",
            "1-",
            "1:2",
            "1-5:0",
            "1-5:",
            "1-2-3",
            "1-5:2:2",
            "1 ,2",
            "%5",
            "1%",
            "1%0",
            "1%5%5",
            "1%x",
            "+1",
            "4000001",
            "0-4294967296",
            "99999999999999999999",
            "0-4000000,1",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert_eq!(
            ArraySpec::parse("0-1000", 999),
            Err(ArrayError::IndexTooLarge {
                index: 1000,
                max_index: 999
            })
        );
        let many = "1,".repeat(MAX_RANGES) + "1";
        assert!(matches!(
            parse(&many),
            Err(ArrayError::TooManyRanges { .. })
        ));
        assert!(matches!(
            parse("0-4000000:2,0-4000000:3"),
            Err(ArrayError::TooManyRanges { .. })
        ));
    }

    #[test]
    fn a_million_indices_cost_one_range() {
        let spec = parse("1-1000000%500").unwrap();
        assert_eq!(
            (spec.ranges.len(), spec.count(), spec.throttle),
            (1, 1_000_000, Some(500))
        );
        assert_eq!(
            (spec.index_at(999_999), spec.position_of(1_000_000)),
            (1_000_000, Some(999_999))
        );
        assert_eq!(parse("0-4000000").unwrap().count(), MAX_INDICES);
    }

    #[test]
    #[should_panic(expected = "below its count")]
    fn a_position_beyond_the_end_is_our_mistake() {
        parse("1-3").unwrap().index_at(3);
    }

    #[test]
    fn describes_what_is_left() {
        let spec = parse("0-3,10-30:5,40").unwrap();
        let table = [
            (vec![0, 1, 2, 3], "0-3"),
            (vec![1, 3, 4, 5], "1,3,10-15:5"),
            (vec![2, 7, 8, 9], "2,25-30:5,40"),
            (vec![], ""),
        ];
        for (positions, shown) in table {
            assert_eq!(spec.describe(&positions.into_iter().collect()), shown);
        }
        assert_eq!(
            spec.describe(&IndexSet::from_range(0, 1000)),
            "0-3,10-30:5,40"
        );
    }

    #[test]
    fn what_arrives_costs_no_more_than_its_length() {
        for text in ["0-2000000,0-3999999:2", "1-3,3", "5,3", "0-9:3,1-2"] {
            assert!(parse(text).is_ok(), "{text}");
            let arrived = ArraySpec::try_from(text.to_string());
            assert!(
                matches!(arrived, Err(ArrayError::NotRising { .. })),
                "{text}"
            );
        }
        for text in ["7", "0-9,12-20:4%3", "0-4000000"] {
            assert_eq!(ArraySpec::try_from(text.to_string()), parse(text), "{text}");
        }
    }

    fn written() -> impl Strategy<Value = Vec<(u32, u32, u32)>> {
        prop::collection::vec((0_u32..80, 0_u32..30, 1_u32..6), 1..8)
    }

    proptest! {
        #[test]
        fn holds_what_was_written(written in written(), throttle in prop::option::of(1_u32..100)) {
            let parts: Vec<String> = written.iter().map(|(first, more, step)| format!("{first}-{}:{step}", first + more)).collect();
            let text = parts.join(",") + &throttle.map(|throttle| format!("%{throttle}")).unwrap_or_default();
            let model: BTreeSet<u32> = written.iter().flat_map(|&(first, more, step)| (first..=first + more).step_by(step as usize)).collect();
            let spec = parse(&text).unwrap();

            prop_assert!(spec.iter().eq(model.iter().copied()));
            prop_assert_eq!(spec.count() as usize, model.len());
            prop_assert_eq!((Some(spec.min()), Some(spec.max())), (model.first().copied(), model.last().copied()));
            for (position, &index) in (0_u32..).zip(&model) {
                prop_assert_eq!(spec.index_at(position), index);
            }
            for index in 0..120 {
                let position = model.iter().position(|&held| held == index).map(|position| position as u64);
                prop_assert_eq!(spec.position_of(index).map(u64::from), position);
            }
            prop_assert_eq!(parse(&spec.to_string()), Ok(spec.clone()));
            let stored = postcard::to_stdvec(&spec).unwrap();
            prop_assert_eq!(postcard::from_bytes::<ArraySpec>(&stored), Ok(spec));
        }

        #[test]
        fn describes_exactly(written in written(), positions in prop::collection::btree_set(0_u32..60, 1..20)) {
            let parts: Vec<String> = written.iter().map(|(first, more, step)| format!("{first}-{}:{step}", first + more)).collect();
            let spec = parse(&parts.join(",")).unwrap();
            let positions: BTreeSet<u32> = positions.into_iter().filter(|&position| position < spec.count()).collect();
            prop_assume!(!positions.is_empty());
            let shown = spec.describe(&positions.iter().copied().collect());
            let indices: Vec<u32> = positions.iter().map(|&position| spec.index_at(position)).collect();
            prop_assert_eq!(parse(&shown).unwrap().iter().collect::<Vec<_>>(), indices);
        }

        #[test]
        fn never_panics(text in any::<String>(), hostile in "[0-9,:%-]{0,30}") {
            let _ = parse(&text);
            let _ = parse(&hostile);
        }
    }
}
