//! What runs, and until when at the latest: what the planner counts on to become free.

use super::nodes::{Parts, less};
use crate::model::cpu_set::CpuSet;
use crate::model::ids::{NodeId, SlotKey};
use crate::model::job::Slot;
use crate::model::time::Timestamp;
use std::borrow::Cow;
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
    /// The same if it had not to stand still: what limits count.
    pub limit: Timestamp,
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
            limit: ends,
            leaves: false,
        }
    }
}

/// How a slot shares cpus with others.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sharing {
    /// It stands still for others; when the last of them that has its cpus is gone at the latest.
    pub back: Option<Timestamp>,
    /// Of one that stands still: those of its cpus that nobody uses. They are for those it stands still for.
    pub idle: Parts,
    /// Of what it holds: what others have meanwhile.
    pub lent: Parts,
    /// The cpus behind `idle`; none in a forecast.
    pub cpus: BTreeMap<NodeId, CpuSet>,
    /// What it has of others, who stand still below it.
    pub from: Loans,
}

/// Cpus that are lent, slot by slot.
pub type Loans = Vec<(SlotKey, Parts)>;

/// Slots by their ends.
#[derive(Debug, Clone, Default)]
pub struct Occupancy {
    by_end: BTreeMap<(Timestamp, SlotKey), Parts>,
    stays: BTreeMap<SlotKey, Stay>,
    /// Of cpus that several slots have, the one that had them first holds them.
    sharing: BTreeMap<SlotKey, Sharing>,
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
        let sharing = self.sharing.remove(&key);
        if let Some(parts) = self.leave(key) {
            self.enter(key, stay, parts);
            self.sharing.extend(sharing.map(|sharing| (key, sharing)));
        }
    }

    /// A slot is closed; what it held.
    pub fn leave(&mut self, key: SlotKey) -> Option<Parts> {
        let stay = self.stays.remove(&key)?;
        self.sharing.remove(&key);
        self.by_end.remove(&(stay.ends, key))
    }

    /// A slot that is known shares cpus with others.
    pub fn share(&mut self, key: SlotKey, sharing: Sharing) {
        if self.stays.contains_key(&key) {
            self.sharing.insert(key, sharing);
        }
    }

    /// How a slot shares cpus with others, if it does.
    #[must_use]
    pub fn sharing(&self, key: SlotKey) -> Option<&Sharing> {
        self.sharing.get(&key)
    }

    /// Slots that share cpus with others.
    pub fn sharers(&self) -> impl Iterator<Item = SlotKey> {
        self.sharing.keys().copied()
    }

    /// What becomes free when a slot goes: what it holds, but for what others have.
    #[must_use]
    pub fn frees(&self, key: SlotKey) -> Option<Cow<'_, Parts>> {
        let parts = self.parts(key)?;
        match self.sharing.get(&key) {
            Some(sharing) if !sharing.lent.is_empty() => {
                Some(Cow::Owned(less(parts, &sharing.lent)))
            }
            _ => Some(Cow::Borrowed(parts)),
        }
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

/// How long what a slot runs stays at the most: its time counts from its grant, or from its current element's start, and
/// not while it is stopped. What was told to end is thought to do so. When somebody lets it go on again whom others asked
/// to stop is not known; one that is stopped for others goes on when it has its cpus `back`.
#[must_use]
pub fn slot_stay(slot: &Slot, limit_s: Option<u32>, back: Option<Timestamp>) -> Stay {
    let since = slot_start(slot);
    let limit = limit_s.map(|seconds| i64::from(seconds) * 1000 + slot.stops.past_ms);
    let latest = limit.map_or(NEVER, |ms| since.plus_ms(ms));
    let ends = match slot.stops.since {
        Some(_) if slot.suspended => NEVER,
        Some(stopped) => back
            .map_or(stopped, |back| back.max(stopped))
            .plus_ms(latest.minus(stopped).max(0)),
        None => latest,
    };
    let leaves = slot.leaves();
    let sooner = |ends: Timestamp| leaves.map_or(ends, |at| at.min(ends)).min(NEVER);
    Stay {
        since,
        ends: sooner(ends),
        limit: sooner(latest),
        leaves: leaves.is_some(),
    }
}
