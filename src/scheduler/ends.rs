//! What ends when, as a pass sees it: the books, and what the pass itself has changed.

use super::nodes::Parts;
use super::occupancy::Occupancy;
use crate::model::ids::SlotKey;
use std::collections::{BTreeMap, BTreeSet};

/// What ends at another time than the books say, soonest first: what this pass started, extended, told to go, or leaves
/// to be given up.
pub(super) fn added<'p>(
    started: &'p [(i64, Parts)],
    extended: &BTreeMap<SlotKey, i64>,
    told: &BTreeMap<SlotKey, i64>,
    idle: &BTreeSet<SlotKey>,
    slots: &'p Occupancy,
    now: i64,
) -> Vec<(i64, &'p Parts)> {
    let mut added: Vec<(i64, &Parts)> =
        started.iter().map(|(ends, parts)| (*ends, parts)).collect();
    let given_up = idle.iter().filter(|key| !extended.contains_key(*key));
    added.extend(given_up.filter_map(|key| Some((now, slots.parts(*key)?))));
    let moved = extended.iter().chain(told);
    added.extend(moved.filter_map(|(key, ends)| Some(((*ends).max(now), slots.parts(*key)?))));
    added.sort_by_key(|(ends, _)| *ends);
    added
}

/// Two rows in the order of their times as one; of equal times the first row's come first.
pub(super) fn merged<T>(
    one: impl Iterator<Item = (i64, T)>,
    other: impl Iterator<Item = (i64, T)>,
) -> impl Iterator<Item = (i64, T)> {
    let (mut one, mut other) = (one.peekable(), other.peekable());
    std::iter::from_fn(move || match (one.peek(), other.peek()) {
        (Some((first, _)), Some((second, _))) if second < first => other.next(),
        (Some(_), _) => one.next(),
        (None, _) => other.next(),
    })
}
