//! What ends when, as a pass sees it: the books, and what the pass itself has changed.

use super::nodes::Parts;
use super::occupancy::Occupancy;
use crate::model::ids::SlotKey;
use std::borrow::Cow;
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
) -> Vec<(i64, Cow<'p, Parts>)> {
    let started = started.iter();
    let mut added: Vec<(i64, Cow<'_, Parts>)> = started
        .map(|(ends, parts)| (*ends, Cow::Borrowed(parts)))
        .collect();
    let given_up = idle.iter().filter(|key| !extended.contains_key(*key));
    added.extend(given_up.filter_map(|key| Some((now, slots.frees(*key)?))));
    let later = extended.iter();
    added.extend(
        later.filter_map(|(key, ends)| Some(((*ends).max(now), Cow::Borrowed(slots.parts(*key)?)))),
    );
    // What others have of it is theirs then.
    added.extend(
        told.iter()
            .filter_map(|(key, ends)| Some(((*ends).max(now), slots.frees(*key)?))),
    );
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
