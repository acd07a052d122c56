//! The key space of a step as one node knows it, and what goes between nodes at a fence.
//!
//! A put is seen at once by all ranks of its own node and by the others after the next fence. That is more than the
//! dialects promise, and it lets one map serve both. What was put since the last fence is written down as it
//! comes, in the form in which it travels, so a fence encodes nothing. A part is a row of pairs, each: length of the key (one
//! byte), length of the value (two bytes, little-endian), key, value.

use crate::wire::peer::PART_MAX;
use hashbrown::HashTable;
use std::hash::{DefaultHasher, Hasher};

/// Longest key, in bytes.
pub const KEY_MAX: usize = 64;
/// Longest value, in bytes.
pub const VALUE_MAX: usize = 1024;
/// Most that one node may bring to a fence: far above what 1,000 ranks put, far below a frame between nodes.
pub const FENCE_PART_MAX: usize = PART_MAX;
/// Most that all pairs of a step may take on a node.
pub const KEY_SPACE_MAX: usize = 64 * 1024 * 1024;
/// What a pair takes beyond its bytes, about.
const PAIR_OVERHEAD: usize = 16;
/// Fewer bytes out of date than this are not worth tidying.
const STALE_MIN: usize = 64 * 1024;
const HEADER: usize = 3;

/// Why a pair was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PutError {
    /// The client is told; this one cannot go on the wire.
    Refused(&'static str),
    /// There is no more room: nothing good can follow.
    Full,
}

/// Pairs with a bound on what they take. All lie one after another in one buffer, and a table tells where: every node of a
/// step holds the pairs of all nodes, so what a pair costs is paid as often as there are nodes.
#[derive(Debug)]
pub(super) struct Pairs {
    bytes: Vec<u8>,
    /// Where in `bytes` pairs begin. What is not listed here is out of date.
    places: HashTable<u32>,
    /// Bytes that are out of date.
    stale: usize,
    held: usize,
    most: usize,
}

impl Pairs {
    pub(super) fn new(most: usize) -> Self {
        Self {
            bytes: Vec::new(),
            places: HashTable::new(),
            stale: 0,
            held: 0,
            most,
        }
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<&[u8]> {
        let is_key = |place: &u32| pair_at(&self.bytes, *place).0 == key;
        let place = self.places.find(hash(key), is_key)?;
        Some(pair_at(&self.bytes, *place).1)
    }

    /// The last to put a key is right: a library that starts a second time puts the same keys anew.
    pub(super) fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), PutError> {
        check(key, value).map_err(PutError::Refused)?;
        self.insert(key, value)
    }

    /// For a pair that has been checked.
    fn insert(&mut self, key: &[u8], value: &[u8]) -> Result<(), PutError> {
        let hash = hash(key);
        let bytes = &self.bytes;
        let is_key = |place: &u32| pair_at(bytes, *place).0 == key;
        let known = self.places.find_mut(hash, is_key);
        let replaced = known.as_ref().map(|place| pair_at(bytes, **place).1);
        if replaced == Some(value) {
            return Ok(());
        }
        let more = match replaced {
            Some(replaced) => value.len().saturating_sub(replaced.len()),
            None => key.len() + value.len() + PAIR_OVERHEAD,
        };
        if self.held + more > self.most {
            return Err(PutError::Full);
        }
        let less = replaced.map_or(0, |replaced| replaced.len().saturating_sub(value.len()));
        let stale = replaced.map_or(0, |replaced| HEADER + key.len() + replaced.len());
        let place = u32::try_from(bytes.len()).map_err(|_| PutError::Full)?;
        match known {
            Some(known) => *known = place,
            None => {
                let again = |place: &u32| self::hash(pair_at(bytes, *place).0);
                self.places.insert_unique(hash, place, again);
            }
        }
        append(key, value, &mut self.bytes);
        self.held = self.held + more - less;
        self.stale += stale;
        if self.stale > STALE_MIN && self.stale > self.bytes.len() / 2 {
            self.tidy();
        }
        Ok(())
    }

    /// Leaves out what is out of date.
    fn tidy(&mut self) {
        let mut bytes = Vec::with_capacity(self.bytes.len() - self.stale);
        for place in &mut self.places {
            let (key, value) = pair_at(&self.bytes, *place);
            // The new buffer is no longer than the old one.
            *place = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            append(key, value, &mut bytes);
        }
        self.bytes = bytes;
        self.stale = 0;
    }
}

/// Without a secret: who would make keys collide keeps but the own step from going on.
fn hash(key: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(key);
    hasher.finish()
}

/// A pair of ours.
fn pair_at(bytes: &[u8], place: u32) -> (&[u8], &[u8]) {
    let at = place as usize;
    let value_length = usize::from(u16::from_le_bytes([bytes[at + 1], bytes[at + 2]]));
    let key_at = at + HEADER;
    let value_at = key_at + usize::from(bytes[at]);
    let value = &bytes[value_at..value_at + value_length];
    (&bytes[key_at..value_at], value)
}

/// Whether a pair can be said in both dialects.
pub(super) fn check(key: &[u8], value: &[u8]) -> Result<(), &'static str> {
    if key.is_empty() || key.len() > KEY_MAX {
        return Err("invalid key length");
    }
    if value.len() > VALUE_MAX {
        return Err("invalid value length");
    }
    // The lines of PMI-1 could not carry it, and no string in C holds a zero byte.
    let unfit = |bytes: &[u8]| bytes.iter().any(|byte| matches!(byte, b'\n' | 0));
    if unfit(key) || unfit(value) {
        return Err("a line end or a zero byte within a pair");
    }
    Ok(())
}

/// The key space of the step.
#[derive(Debug)]
pub(super) struct KeySpace {
    pairs: Pairs,
    fresh: Vec<u8>,
}

impl KeySpace {
    pub(super) fn new() -> Self {
        Self {
            pairs: Pairs::new(KEY_SPACE_MAX),
            fresh: Vec::new(),
        }
    }

    /// A pair that each node knows by itself.
    pub(super) fn preset(&mut self, key: &[u8], value: &[u8]) {
        // One that is too long is not told: a client then asks its peers.
        let _ = self.pairs.put(key, value);
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<&[u8]> {
        self.pairs.get(key)
    }

    /// A pair of a local rank.
    pub(super) fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), PutError> {
        if self.fresh.len() + HEADER + key.len() + value.len() > FENCE_PART_MAX {
            return Err(PutError::Full);
        }
        self.pairs.put(key, value)?;
        append(key, value, &mut self.fresh);
        Ok(())
    }

    /// Whether something was put here since the last time.
    pub(super) fn has_fresh(&self) -> bool {
        !self.fresh.is_empty()
    }

    /// What was put here since the last time.
    pub(super) fn take_fresh(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.fresh)
    }

    /// Takes over what a node has brought to a fence.
    pub(super) fn merge(&mut self, part: &[u8]) -> Result<(), String> {
        if part.len() > FENCE_PART_MAX {
            return Err(format!(
                "{} bytes at one fence, the most is {FENCE_PART_MAX}",
                part.len()
            ));
        }
        for pair in pairs(part) {
            let (key, value) = pair?;
            self.pairs.insert(key, value).map_err(|_| full())?;
        }
        Ok(())
    }
}

/// What is said about a key space that has outgrown its bounds.
pub(super) fn full() -> String {
    format!(
        "the key space is full: {} MiB in all and {} MiB between two fences of a node",
        KEY_SPACE_MAX >> 20,
        FENCE_PART_MAX >> 20
    )
}

fn append(key: &[u8], value: &[u8], part: &mut Vec<u8>) {
    let key_length = u8::try_from(key.len()).expect("keys are bounded");
    let value_length = u16::try_from(value.len()).expect("values are bounded");
    part.push(key_length);
    part.extend_from_slice(&value_length.to_le_bytes());
    part.extend_from_slice(key);
    part.extend_from_slice(value);
}

/// The pairs of a node's part, until its end or the first that is none.
///
/// # Errors
/// Each item may say what is wrong; it is then the last.
pub fn pairs(mut part: &[u8]) -> impl Iterator<Item = Result<(&[u8], &[u8]), String>> {
    std::iter::from_fn(move || {
        if part.is_empty() {
            return None;
        }
        let pair = take_pair(&mut part);
        if pair.is_err() {
            part = &[];
        }
        Some(pair)
    })
}

fn take_pair<'a>(part: &mut &'a [u8]) -> Result<(&'a [u8], &'a [u8]), String> {
    let cut = || "a pair is cut short".to_owned();
    let ([key, low, high], rest) = part.split_first_chunk::<HEADER>().ok_or_else(cut)?;
    let value_length = usize::from(u16::from_le_bytes([*low, *high]));
    let (key, rest) = rest.split_at_checked(usize::from(*key)).ok_or_else(cut)?;
    let (value, rest) = rest.split_at_checked(value_length).ok_or_else(cut)?;
    check(key, value)?;
    *part = rest;
    Ok((key, value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_one_node_puts_another_learns_from_its_part() {
        let (mut here, mut there) = (KeySpace::new(), KeySpace::new());
        here.put(b"a", b"1").unwrap();
        here.put(b"b", b"").unwrap();
        here.put(b"a", b"2").unwrap();
        let part = here.take_fresh();
        assert!(here.take_fresh().is_empty());
        there.merge(&part).unwrap();
        assert_eq!(there.get(b"a"), Some(b"2".as_slice()));
        assert_eq!(there.get(b"b"), Some(b"".as_slice()));
        assert_eq!(there.get(b"c"), None);
        assert!(there.take_fresh().is_empty(), "what came is not sent on");
    }

    #[test]
    fn pairs_that_are_none_are_refused() {
        let mut space = KeySpace::new();
        let long = vec![b'x'; VALUE_MAX + 1];
        for (key, value) in [
            (b"".as_slice(), b"v".as_slice()),
            (&long[..=KEY_MAX], b"v"),
            (b"k", &long),
            (b"k", b"two\nlines"),
            (b"k\0", b"v"),
        ] {
            let refused = space.put(key, value);
            assert!(matches!(refused, Err(PutError::Refused(_))), "{refused:?}");
        }
        assert!(space.take_fresh().is_empty());
        space.put(&long[..KEY_MAX], &long[..VALUE_MAX]).unwrap();
    }

    #[test]
    fn parts_that_are_none_are_refused() {
        for part in [
            b"\x01".as_slice(),
            b"\x01\x01\x00k",
            b"\x00\x01\x00v",
            b"\x01\xff\xffk",
            b"\x01\x01\x00k\n",
        ] {
            assert!(KeySpace::new().merge(part).is_err(), "{part:?}");
        }
        let part = vec![0; FENCE_PART_MAX + 1];
        assert!(KeySpace::new().merge(&part).is_err());
    }

    #[test]
    fn there_is_an_end_to_what_may_be_put() {
        let mut space = KeySpace::new();
        let value = vec![b'v'; VALUE_MAX];
        let mut put = 0_u32;
        let full = loop {
            match space.put(put.to_string().as_bytes(), &value) {
                Ok(()) => put += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(full, PutError::Full);
        assert!(put > 4_000, "{put}");
        assert!(space.take_fresh().len() <= FENCE_PART_MAX);
        let all = std::iter::from_fn(|| {
            let key = put.to_string();
            put += 1;
            space.put(key.as_bytes(), &value).is_ok().then(|| {
                space.take_fresh();
            })
        });
        let all = all.count();
        assert!(all > 50_000 && all * VALUE_MAX < KEY_SPACE_MAX, "{all}");
    }

    proptest! {
        /// Values come and go in few keys, so that room is taken back many times.
        #[test]
        fn pairs_are_what_was_last_put(
            puts in proptest::collection::vec((0_u8..20, 0_usize..VALUE_MAX, any::<u8>()), 0..2_000),
        ) {
            const MOST: usize = 12 * 1024;
            let (mut pairs, mut model) = (Pairs::new(MOST), std::collections::BTreeMap::new());
            for (key, length, byte) in puts {
                let value = vec![byte.max(b' '); length];
                let fits = pairs.put(&[b'k', key + 1 + b'\n'], &value);
                let old = model.insert(key, value.clone());
                let held: usize = model.values().map(|value: &Vec<u8>| 2 + value.len() + PAIR_OVERHEAD).sum();
                prop_assert_eq!(fits.is_ok(), held <= MOST || old.as_ref() == Some(&value));
                if fits.is_err() {
                    match old {
                        Some(old) => model.insert(key, old),
                        None => model.remove(&key),
                    };
                }
                prop_assert!(pairs.bytes.len() <= 2 * (MOST + STALE_MIN));
            }
            for key in 0_u8..20 {
                let wanted = model.get(&key).map(Vec::as_slice);
                prop_assert_eq!(pairs.get(&[b'k', key + 1 + b'\n']), wanted);
            }
        }

        #[test]
        fn any_bytes_are_pairs_or_refused(part in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut again = Vec::new();
            let mut well = true;
            for pair in pairs(&part) {
                match pair {
                    Ok((key, value)) => append(key, value, &mut again),
                    Err(_) => well = false,
                }
            }
            prop_assert!(part.starts_with(&again));
            prop_assert_eq!(well, again.len() == part.len());
        }
    }
}
