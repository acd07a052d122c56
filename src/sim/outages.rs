//! When nodes of a simulated cluster fail and return: as written down, and by chance from a seed.

use super::draw::Draw;
use crate::model::time::Timestamp;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A node fails and returns; a place among the nodes, and milliseconds since the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outage {
    /// Which node.
    pub node: usize,
    /// When it fails.
    pub at_ms: i64,
    /// For how long.
    pub for_ms: i64,
}

/// Every node fails now and then, none because of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chance {
    /// Mean time from a return to the next failure; milliseconds.
    pub mtbf_ms: i64,
    /// From a failure to the return; milliseconds.
    pub repair_ms: i64,
}

/// All that goes wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outages {
    /// As written down.
    pub planned: Vec<Outage>,
    /// By chance.
    pub chance: Option<Chance>,
}

/// Something happens to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Turn {
    /// It is there again.
    Returns,
    /// It fails.
    Fails,
}

/// What happens to nodes, in order.
#[derive(Debug)]
pub(super) struct Timetable {
    /// When, what, with which node, and whether that was by chance.
    events: BinaryHeap<Reverse<(Timestamp, Turn, usize, bool)>>,
    chance: Option<Chance>,
    draws: Vec<Draw>,
    /// How many causes keep each node away.
    away: Vec<u32>,
}

impl Timetable {
    pub(super) fn new(outages: &Outages, nodes: usize, seed: u64, begin: Timestamp) -> Self {
        let mut events = BinaryHeap::new();
        for one in outages.planned.iter().filter(|one| one.node < nodes) {
            let at = begin.plus_ms(one.at_ms);
            events.push(Reverse((at, Turn::Fails, one.node, false)));
            let back = at.plus_ms(one.for_ms.max(1));
            events.push(Reverse((back, Turn::Returns, one.node, false)));
        }
        // A stream for each node: a larger cluster has the same failures and more.
        let draws = (0..nodes).map(|node| Draw::stream(seed ^ 0xfa11, node as u64));
        let mut table = Timetable {
            events,
            chance: outages.chance,
            draws: draws.collect(),
            away: vec![0; nodes],
        };
        for node in 0..nodes {
            table.fails_next(node, begin);
        }
        table
    }

    fn fails_next(&mut self, node: usize, now: Timestamp) {
        if let (Some(chance), Some(draw)) = (self.chance, self.draws.get_mut(node)) {
            let at = now.plus_ms(draw.exponential(chance.mtbf_ms));
            self.events.push(Reverse((at, Turn::Fails, node, true)));
        }
    }

    pub(super) fn next_time(&self) -> Option<Timestamp> {
        self.events.peek().map(|Reverse((at, ..))| *at)
    }

    /// Whether every node is there.
    pub(super) fn all_there(&self) -> bool {
        self.away.iter().all(|causes| *causes == 0)
    }

    pub(super) fn is_there(&self, node: usize) -> bool {
        self.away.get(node) == Some(&0)
    }

    /// The next node that was there and is not any more, or the other way round, at this time.
    pub(super) fn take(&mut self, now: Timestamp) -> Option<(usize, Turn)> {
        while self.next_time()? <= now {
            let Reverse((at, turn, node, by_chance)) = self.events.pop()?;
            let causes = &mut self.away[node];
            let moved = match turn {
                Turn::Fails => {
                    *causes += 1;
                    *causes == 1
                }
                Turn::Returns => {
                    *causes = causes.saturating_sub(1);
                    *causes == 0
                }
            };
            match (self.chance.filter(|_| by_chance), turn) {
                (Some(chance), Turn::Fails) => {
                    let back = at.plus_ms(chance.repair_ms.max(1));
                    self.events.push(Reverse((back, Turn::Returns, node, true)));
                }
                (Some(_), Turn::Returns) => self.fails_next(node, at),
                (None, _) => {}
            }
            if moved {
                return Some((node, turn));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_with_two_reasons_to_be_away_returns_once() {
        let outage = |at_ms, for_ms| Outage {
            node: 0,
            at_ms,
            for_ms,
        };
        let outages = Outages {
            planned: vec![outage(10, 20), outage(15, 30)],
            chance: None,
        };
        let mut table = Timetable::new(&outages, 1, 1, Timestamp(1000));
        let mut seen = Vec::new();
        while let Some(now) = table.next_time() {
            while let Some((_, turn)) = table.take(now) {
                seen.push((now.0, turn));
            }
        }
        assert_eq!(seen, [(1010, Turn::Fails), (1045, Turn::Returns)]);
        assert!(table.all_there());
    }

    #[test]
    fn chance_follows_the_seed_and_goes_on() {
        let chance = Chance {
            mtbf_ms: 1_000_000,
            repair_ms: 50,
        };
        let outages = Outages {
            planned: Vec::new(),
            chance: Some(chance),
        };
        let events = |nodes, seed| {
            let mut table = Timetable::new(&outages, nodes, seed, Timestamp(0));
            let mut seen = Vec::new();
            while let Some(now) = table.next_time()
                && now.0 < 100_000_000
            {
                while let Some((node, turn)) = table.take(now) {
                    seen.push((now, node, turn));
                }
            }
            seen
        };
        let seen = events(3, 1);
        assert_eq!(seen, events(3, 1));
        assert_ne!(seen, events(3, 2));
        assert!((400..800).contains(&seen.len()), "{}", seen.len());
        let first = |seen: Vec<(Timestamp, usize, Turn)>| {
            let mut of_first = seen.into_iter().filter(|(_, node, _)| *node == 0);
            of_first.next()
        };
        assert_eq!(first(events(1, 1)), first(seen));
    }
}
