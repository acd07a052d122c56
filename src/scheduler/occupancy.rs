//! What runs, and until when at the latest: what the planner counts on to become free.

use super::nodes::Parts;
use crate::model::ids::SlotKey;
use crate::model::time::Timestamp;
use std::collections::BTreeMap;

/// Later than anything: of what has no limit.
pub const NEVER: Timestamp = Timestamp(i64::MAX / 4);

/// For how long something holds its nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stay {
    /// Since when what it runs does.
    pub since: Timestamp,
    /// Until then at the latest.
    pub ends: Timestamp,
    /// It was told to end, or warned that it will be.
    pub leaves: bool,
}

impl Stay {
    /// From then on, until its end.
    #[must_use]
    pub fn new(since: Timestamp, ends: Timestamp) -> Self {
        Stay {
            since,
            ends,
            leaves: false,
        }
    }
}

/// Slots by their ends.
#[derive(Debug, Clone, Default)]
pub struct Occupancy {
    by_end: BTreeMap<(Timestamp, SlotKey), Parts>,
    stays: BTreeMap<SlotKey, Stay>,
}

impl Occupancy {
    /// A slot holds these parts for so long.
    pub fn enter(&mut self, key: SlotKey, stay: Stay, parts: Parts) {
        self.leave(key);
        self.stays.insert(key, stay);
        self.by_end.insert((stay.ends, key), parts);
    }

    /// A slot that is known stays for another time.
    pub fn moves(&mut self, key: SlotKey, stay: Stay) {
        if let Some(parts) = self.leave(key) {
            self.enter(key, stay, parts);
        }
    }

    /// A slot is closed; what it held.
    pub fn leave(&mut self, key: SlotKey) -> Option<Parts> {
        let stay = self.stays.remove(&key)?;
        self.by_end.remove(&(stay.ends, key))
    }

    /// How long a slot stays.
    #[must_use]
    pub fn stay(&self, key: SlotKey) -> Option<Stay> {
        self.stays.get(&key).copied()
    }

    /// When a slot ends at the latest.
    #[must_use]
    pub fn ends(&self, key: SlotKey) -> Option<Timestamp> {
        Some(self.stays.get(&key)?.ends)
    }

    /// What a slot holds.
    #[must_use]
    pub fn parts(&self, key: SlotKey) -> Option<&Parts> {
        self.by_end.get(&(self.ends(key)?, key))
    }

    /// All slots, soonest end first.
    pub fn iter(&self) -> impl Iterator<Item = (Timestamp, SlotKey, &Parts)> {
        let entries = self.by_end.iter();
        entries.map(|((ends, key), parts)| (*ends, *key, parts))
    }

    /// How long each slot stays, by its key.
    pub fn stays(&self) -> impl Iterator<Item = (SlotKey, Stay)> {
        self.stays.iter().map(|(key, stay)| (*key, *stay))
    }
}
