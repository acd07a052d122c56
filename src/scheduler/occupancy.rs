//! What runs, and until when at the latest: what the planner counts on to become free.

use super::nodes::Parts;
use crate::model::ids::SlotKey;
use crate::model::time::Timestamp;
use std::collections::BTreeMap;

/// Later than anything: of what has no limit.
pub const NEVER: Timestamp = Timestamp(i64::MAX / 4);

/// Slots by their ends.
#[derive(Debug, Clone, Default)]
pub struct Occupancy {
    by_end: BTreeMap<(Timestamp, SlotKey), Parts>,
    ends: BTreeMap<SlotKey, Timestamp>,
}

impl Occupancy {
    /// A slot holds these parts until then at the latest.
    pub fn enter(&mut self, key: SlotKey, ends: Timestamp, parts: Parts) {
        self.leave(key);
        self.ends.insert(key, ends);
        self.by_end.insert((ends, key), parts);
    }

    /// A slot that is known ends at another time.
    pub fn moves(&mut self, key: SlotKey, ends: Timestamp) {
        if let Some(parts) = self.leave(key) {
            self.enter(key, ends, parts);
        }
    }

    /// A slot is closed; what it held.
    pub fn leave(&mut self, key: SlotKey) -> Option<Parts> {
        let ends = self.ends.remove(&key)?;
        self.by_end.remove(&(ends, key))
    }

    /// When a slot ends at the latest.
    #[must_use]
    pub fn ends(&self, key: SlotKey) -> Option<Timestamp> {
        self.ends.get(&key).copied()
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
}
