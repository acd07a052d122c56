//! What runs, and until when at the latest: what the planner counts on to become free.

use super::nodes::Parts;
use crate::model::ids::SlotKey;
use crate::model::job::Slot;
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

/// Since when what a slot runs counts its time.
pub(super) fn slot_start(slot: &Slot) -> Timestamp {
    let began = slot.current.map_or(slot.granted, |current| current.started);
    began.max(slot.granted)
}

/// How long what a slot runs stays at the most: its time counts from its grant, or from its current element's start. What
/// was told to end is thought to do so.
#[must_use]
pub fn slot_stay(slot: &Slot, limit_s: Option<u32>) -> Stay {
    let since = slot_start(slot);
    let latest = match limit_s {
        Some(seconds) => since.plus_ms(i64::from(seconds) * 1000),
        None => NEVER,
    };
    let leaves = slot.leaves();
    Stay {
        since,
        ends: leaves.map_or(latest, |at| at.min(latest)),
        leaves: leaves.is_some(),
    }
}
