//! A set of logical cpu numbers, read and written as Linux writes cpu lists: `0-3,8`.
//!
//! Which of them share a core or a NUMA node is topology's matter.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::text::{excerpt, number};

const WORD_BITS: u32 = u64::BITS;
/// Words for every cpu number that fits in 16 bits.
const MAX_WORDS: usize = 1024;
/// The longest cpu list that is looked at, enough for every second cpu by its own number.
const MAX_TEXT_BYTES: usize = 1 << 18;

/// A set of cpus numbered 0 to 65,535, one bit each.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<u64>", into = "Vec<u64>")]
pub struct CpuSet {
    /// Bit `n % 64` of word `n / 64` is cpu `n`; the last word is never zero.
    words: Vec<u64>,
}

/// Why a text or stored words are not a set of cpus.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CpuSetError {
    /// Part of a list is not a number or a rising range.
    #[error(
        "\"{range}\" in a cpu list is not a number up to 65535 or a rising range: write it as 3 or 3-5"
    )]
    BadRange {
        /// The offending part.
        range: String,
    },
    /// The text or the stored set is larger than any set of cpus.
    #[error("cpu set of {bytes} bytes is longer than any can be: name cpus up to 65535 once each")]
    TooLong {
        /// The length that was given.
        bytes: usize,
    },
}

impl TryFrom<Vec<u64>> for CpuSet {
    type Error = CpuSetError;

    fn try_from(words: Vec<u64>) -> Result<Self, CpuSetError> {
        if words.len() > MAX_WORDS {
            return Err(CpuSetError::TooLong {
                bytes: words.len().saturating_mul(8),
            });
        }
        Ok(Self::trimmed(words))
    }
}

impl From<CpuSet> for Vec<u64> {
    fn from(set: CpuSet) -> Self {
        set.words
    }
}

impl CpuSet {
    /// The empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads a Linux cpu list such as `0-3,8`; an empty text is the empty set.
    pub fn parse(text: &str) -> Result<Self, CpuSetError> {
        if text.len() > MAX_TEXT_BYTES {
            return Err(CpuSetError::TooLong { bytes: text.len() });
        }
        let mut set = Self::new();
        let trimmed = text.trim();
        if trimmed.is_empty() {
            return Ok(set);
        }
        for part in trimmed.split(',') {
            let (low, high) = part.split_once('-').unwrap_or((part, part));
            match (number::<u16>(low), number::<u16>(high)) {
                (Some(low), Some(high)) if low <= high => set.insert_run(low, high),
                _ => {
                    return Err(CpuSetError::BadRange {
                        range: excerpt(part),
                    });
                }
            }
        }
        Ok(set)
    }

    fn trimmed(mut words: Vec<u64>) -> Self {
        let used = words
            .iter()
            .rposition(|&word| word != 0)
            .map_or(0, |last| last + 1);
        words.truncate(used);
        Self { words }
    }

    /// Where a cpu's bit is: the word, and the bit as a mask.
    fn place(cpu: u16) -> (usize, u64) {
        (
            usize::from(cpu) / WORD_BITS as usize,
            1 << (u32::from(cpu) % WORD_BITS),
        )
    }

    /// Sets every bit from `low` to `high`, a word at a time so that long lists of long ranges stay cheap.
    fn insert_run(&mut self, low: u16, high: u16) {
        let ((first, low_bit), (last, high_bit)) = (Self::place(low), Self::place(high));
        if self.words.len() <= last {
            self.words.resize(last + 1, 0);
        }
        let from_low = !(low_bit - 1);
        let to_high = high_bit | (high_bit - 1);
        for (offset, word) in self.words[first..=last].iter_mut().enumerate() {
            let mut mask = u64::MAX;
            if offset == 0 {
                mask &= from_low;
            }
            if first + offset == last {
                mask &= to_high;
            }
            *word |= mask;
        }
    }

    /// Adds a cpu and says whether it was missing.
    pub fn insert(&mut self, cpu: u16) -> bool {
        let missing = !self.contains(cpu);
        self.insert_run(cpu, cpu);
        missing
    }

    /// Removes a cpu and says whether it was there.
    pub fn remove(&mut self, cpu: u16) -> bool {
        let present = self.contains(cpu);
        if present {
            let (word, bit) = Self::place(cpu);
            self.words[word] &= !bit;
            *self = Self::trimmed(std::mem::take(&mut self.words));
        }
        present
    }

    /// Whether the cpu is in the set.
    pub fn contains(&self, cpu: u16) -> bool {
        let (word, bit) = Self::place(cpu);
        self.words.get(word).is_some_and(|word| word & bit != 0)
    }

    /// Whether the cpu of this topology number is in the set.
    pub fn contains_id(&self, cpu: u32) -> bool {
        u16::try_from(cpu).is_ok_and(|cpu| self.contains(cpu))
    }

    /// How many cpus the set has.
    pub fn len(&self) -> u32 {
        self.words.iter().map(|word| word.count_ones()).sum()
    }

    /// Whether the set has no cpu.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// The lowest cpu.
    pub fn first(&self) -> Option<u16> {
        self.iter().next()
    }

    /// Every cpu in rising order.
    pub fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        let words = (0..=u16::MAX).step_by(WORD_BITS as usize).zip(&self.words);
        words
            .filter(|&(_, &word)| word != 0)
            .flat_map(|(base, &word)| {
                (0_u16..64)
                    .filter(move |bit| word >> bit & 1 == 1)
                    .map(move |bit| base + bit)
            })
    }

    /// The cpus of either set.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let (longer, shorter) = if self.words.len() < other.words.len() {
            (other, self)
        } else {
            (self, other)
        };
        let mut words = longer.words.clone();
        words
            .iter_mut()
            .zip(&shorter.words)
            .for_each(|(word, more)| *word |= more);
        Self { words }
    }

    /// The cpus of this set that the other has not.
    #[must_use]
    pub fn subtract(&self, other: &Self) -> Self {
        let mut words = self.words.clone();
        words
            .iter_mut()
            .zip(&other.words)
            .for_each(|(word, less)| *word &= !less);
        Self::trimmed(words)
    }

    /// The cpus of both sets.
    #[must_use]
    pub fn intersect(&self, other: &Self) -> Self {
        Self::trimmed(
            self.words
                .iter()
                .zip(&other.words)
                .map(|(word, same)| word & same)
                .collect(),
        )
    }

    /// Whether the two sets share no cpu.
    pub fn is_disjoint(&self, other: &Self) -> bool {
        self.words
            .iter()
            .zip(&other.words)
            .all(|(word, same)| word & same == 0)
    }

    /// Whether every cpu of this set is in the other.
    pub fn is_subset(&self, other: &Self) -> bool {
        self.subtract(other).is_empty()
    }

    /// Up to `count` of the lowest cpus.
    #[must_use]
    pub fn first_n(&self, count: u32) -> Self {
        self.iter().take(count as usize).collect()
    }
}

impl FromIterator<u16> for CpuSet {
    fn from_iter<I: IntoIterator<Item = u16>>(cpus: I) -> Self {
        let mut set = Self::new();
        for cpu in cpus {
            set.insert(cpu);
        }
        set
    }
}

impl FromIterator<u32> for CpuSet {
    /// Topology numbers cpus with 32 bits; no machine has cpus beyond 65,535, and such numbers are left out.
    fn from_iter<I: IntoIterator<Item = u32>>(cpus: I) -> Self {
        cpus.into_iter()
            .filter_map(|cpu| u16::try_from(cpu).ok())
            .collect()
    }
}

impl fmt::Display for CpuSet {
    /// A Linux cpu list: `0-3,8`; nothing for the empty set.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut cpus = self.iter().peekable();
        let mut comma = "";
        while let Some(low) = cpus.next() {
            let mut high = low;
            while let Some(next) = cpus.next_if(|&next| next - 1 == high) {
                high = next;
            }
            write!(formatter, "{comma}{low}")?;
            if high > low {
                write!(formatter, "-{high}")?;
            }
            comma = ",";
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
    fn reads_and_writes_cpu_lists() {
        let table = [
            ("", ""),
            ("0", "0"),
            ("0-3,8\n", "0-3,8"),
            ("8,1-2,0", "0-2,8"),
            ("63-64", "63-64"),
            ("65535", "65535"),
            ("3-3", "3"),
        ];
        for (text, list) in table {
            assert_eq!(CpuSet::parse(text).unwrap().to_string(), list);
        }
        assert_eq!(CpuSet::parse("0-65535").unwrap().len(), 65_536);
        for text in [",", "1,", "-1", "1-", "3-1", "65536", "a", "0-3:1", "1 2"] {
            assert!(CpuSet::parse(text).is_err(), "{text}");
        }
        assert!(CpuSet::parse(&"1,".repeat(MAX_TEXT_BYTES)).is_err());
    }

    #[test]
    fn stored_words_are_trimmed_and_bounded() {
        assert_eq!(
            CpuSet::try_from(vec![5, 0, 0]),
            Ok(CpuSet::parse("0,2").unwrap())
        );
        assert!(CpuSet::try_from(vec![1; MAX_WORDS + 1]).is_err());
        assert_eq!(
            CpuSet::parse("0-65535").unwrap().iter().last(),
            Some(65_535)
        );
    }

    fn cpus() -> impl Strategy<Value = BTreeSet<u16>> {
        prop::collection::btree_set(prop_oneof![0_u16..200, any::<u16>()], 0..60)
    }

    fn assert_same(set: &CpuSet, model: &BTreeSet<u16>) {
        assert!(set.iter().eq(model.iter().copied()));
        assert_eq!(set.len() as usize, model.len());
        assert_eq!(set.is_empty(), model.is_empty());
        assert_eq!(set.first(), model.first().copied());
        assert_eq!(set, &model.iter().copied().collect());
        assert_eq!(CpuSet::parse(&set.to_string()).as_ref(), Ok(set));
    }

    proptest! {
        #[test]
        fn behaves_like_a_set(left in cpus(), right in cpus(), cpu in 0_u16..200, count in 0_u32..70) {
            let (left_set, right_set): (CpuSet, CpuSet) = (left.iter().copied().collect(), right.iter().copied().collect());
            assert_same(&left_set.union(&right_set), &(&left | &right));
            assert_same(&left_set.subtract(&right_set), &(&left - &right));
            assert_same(&left_set.intersect(&right_set), &(&left & &right));
            assert_same(&left_set.first_n(count), &left.iter().copied().take(count as usize).collect());
            prop_assert_eq!(left_set.is_disjoint(&right_set), left.is_disjoint(&right));
            prop_assert_eq!(left_set.is_subset(&right_set), left.is_subset(&right));
            let (mut set, mut model) = (left_set, left);
            prop_assert_eq!(set.contains(cpu), model.contains(&cpu));
            prop_assert_eq!(set.insert(cpu), model.insert(cpu));
            assert_same(&set, &model);
            let highest = model.last().copied().unwrap_or(0);
            prop_assert_eq!(set.remove(highest), model.remove(&highest));
            assert_same(&set, &model);
        }

        #[test]
        fn never_panics(text in any::<String>(), hostile in "[0-9,-]{0,40}") {
            let _ = CpuSet::parse(&text);
            let _ = CpuSet::parse(&hostile);
        }
    }
}
