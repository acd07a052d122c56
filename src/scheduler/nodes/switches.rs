//! Nodes close together: which switches the nodes of a job lie under.
//!
//! Under one lowest switch if they fit there, of several the one with the least room; else under the lowest switch above
//! several of them, and there under as few lowest switches as can be. Slurm's tree plugin has the same order; it takes the
//! switches with most room until there is enough, which may be one more than needed. In a lab there are so few that all
//! choices of so many can be looked at; beyond [`TRIES_MAX`] the first ones with most room are taken here too.

use smallvec::SmallVec;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// Most choices of switches that are looked at for one job.
const TRIES_MAX: u64 = 4096;

/// A node with room: for so many tasks, and its place.
pub(super) type Room = (u32, u32);

/// A switch above several lowest ones.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Above {
    /// How many lie above it.
    depth: usize,
    lowest: Vec<usize>,
}

/// The switches of a cluster that has several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Switches {
    /// By place of a node: the number of its lowest switch.
    lowest: Vec<usize>,
    /// How many of those there are.
    count: usize,
    /// Switches above several of them, the lowest first.
    above: Vec<Above>,
}

/// What nodes must have together.
#[derive(Debug, Clone, Copy)]
pub(super) struct Need {
    /// So many nodes at least and at most.
    pub(super) nodes: (usize, usize),
    /// Room for so many tasks.
    pub(super) tasks: u32,
    /// At most so many lowest switches.
    pub(super) switches: Option<u32>,
}

/// Nodes with room under one lowest switch, those with most room first.
#[derive(Debug, Clone, Default)]
struct Leaf {
    nodes: Vec<Room>,
    room: u64,
    /// Room on as many as a job may have.
    best: u64,
}

impl Switches {
    /// From the paths of all nodes, in the order of their places. Where all lie under one switch there is nothing to choose.
    pub(super) fn of<'p>(paths: impl Iterator<Item = Option<&'p str>>) -> Option<Self> {
        let paths: Vec<Vec<&str>> = paths
            .map(|path| path.map_or_else(Vec::new, |path| path.split('/').collect()))
            .collect();
        let named: BTreeSet<&[&str]> = paths.iter().map(Vec::as_slice).collect();
        if named.len() < 2 {
            return None;
        }
        let numbers: BTreeMap<&[&str], usize> = named.iter().copied().zip(0..).collect();
        let mut tops: BTreeSet<&[&str]> = BTreeSet::new();
        for path in &named {
            tops.extend((0..=path.len()).map(|depth| &path[..depth]));
        }
        let mut above: Vec<Above> = Vec::new();
        let mut tops: Vec<&[&str]> = tops.into_iter().collect();
        tops.sort_by_key(|top| Reverse(top.len()));
        for top in tops {
            let beneath = numbers.iter().filter(|(path, _)| path.starts_with(top));
            let lowest: Vec<usize> = beneath.map(|(_, number)| *number).collect();
            // One above the same ones is no closer.
            if lowest.len() > 1 && !above.iter().any(|known| known.lowest == lowest) {
                let depth = top.len();
                above.push(Above { depth, lowest });
            }
        }
        Some(Switches {
            lowest: paths.iter().map(|path| numbers[path.as_slice()]).collect(),
            count: numbers.len(),
            above,
        })
    }

    /// The closest of these nodes that do, as `pack` has them.
    pub(super) fn nearest<T>(
        &self,
        rooms: &[Room],
        need: Need,
        pack: impl Fn(Vec<Room>) -> Option<T>,
    ) -> Option<T> {
        let anywhere = pack(rooms.to_vec())?;
        let leaves = self.leaves(rooms, need);
        let mut single: Vec<usize> = (0..self.count).collect();
        single.sort_by_key(|at| leaves[*at].room);
        for at in single {
            let one = [at];
            if need.is_met(&leaves, &one)
                && let Some(found) = pack(gathered(&leaves, &one))
            {
                return Some(found);
            }
        }
        let most = need.switches.map_or(usize::MAX, |most| most as usize);
        for level in self.above.chunk_by(|one, other| one.depth == other.depth) {
            let room = |above: &&Above| -> u64 {
                let lowest = above.lowest.iter();
                lowest.map(|at| leaves[*at].room).sum()
            };
            let mut level: Vec<&Above> = level.iter().collect();
            level.sort_by_key(room);
            for above in level {
                if let Some(found) = fewest(&leaves, &above.lowest, most, need, &pack) {
                    return Some(found);
                }
            }
        }
        need.switches.is_none().then_some(anywhere)
    }

    fn leaves(&self, rooms: &[Room], need: Need) -> Vec<Leaf> {
        let mut leaves = vec![Leaf::default(); self.count];
        for (holds, at) in rooms {
            if let Some(lowest) = self.lowest.get(*at as usize) {
                leaves[*lowest].nodes.push((*holds, *at));
            }
        }
        for leaf in &mut leaves {
            leaf.nodes.sort_by_key(|(holds, at)| (Reverse(*holds), *at));
            leaf.room = sum(leaf.nodes.iter());
            leaf.best = sum(leaf.nodes.iter().take(need.nodes.1));
        }
        leaves
    }
}

fn sum<'r>(rooms: impl Iterator<Item = &'r Room>) -> u64 {
    rooms.map(|(holds, _)| u64::from(*holds)).sum()
}

/// The nodes under these switches.
fn gathered(leaves: &[Leaf], chosen: &[usize]) -> Vec<Room> {
    let nodes = chosen.iter().flat_map(|at| &leaves[*at].nodes);
    nodes.copied().collect()
}

impl Need {
    /// Whether there are nodes and room enough under these switches.
    fn is_met(self, leaves: &[Leaf], chosen: &[usize]) -> bool {
        let (least, most) = self.nodes;
        let count: usize = chosen.iter().map(|at| leaves[*at].nodes.len()).sum();
        let tasks = u64::from(self.tasks);
        if count < least || chosen.iter().map(|at| leaves[*at].best).sum::<u64>() < tasks {
            return false;
        }
        let mut nodes = gathered(leaves, chosen);
        nodes.sort_unstable_by_key(|room| Reverse(*room));
        sum(nodes.iter().take(most)) >= tasks
    }
}

/// The nodes under as few of these switches as can be, of equally many those with least room.
fn fewest<T>(
    leaves: &[Leaf],
    among: &[usize],
    most: usize,
    need: Need,
    pack: &impl Fn(Vec<Room>) -> Option<T>,
) -> Option<T> {
    let mut among: Vec<usize> = among
        .iter()
        .copied()
        .filter(|at| !leaves[*at].nodes.is_empty())
        .collect();
    among.sort_by_key(|at| {
        (
            Reverse(leaves[*at].best),
            Reverse(leaves[*at].nodes.len()),
            *at,
        )
    });
    let most = most.min(among.len());
    let mut tries = TRIES_MAX;
    for count in least_count(leaves, &among, need)..=most {
        let choices = choices(among.len(), count);
        if choices > tries {
            return greedily(leaves, &among, most, need, pack);
        }
        tries -= choices;
        let mut met: Vec<(u64, SmallVec<[usize; 8]>)> = Vec::new();
        each_choice(&among, count, &mut |chosen| {
            if need.is_met(leaves, chosen) {
                let room = chosen.iter().map(|at| leaves[*at].room).sum();
                met.push((room, chosen.into()));
            }
        });
        met.sort();
        let mut found = met.iter();
        if let Some(found) = found.find_map(|(_, chosen)| pack(gathered(leaves, chosen))) {
            return Some(found);
        }
    }
    None
}

/// With fewer than so many of these switches, those with most room first, there cannot be enough.
fn least_count(leaves: &[Leaf], among: &[usize], need: Need) -> usize {
    let mut counts: Vec<usize> = among.iter().map(|at| leaves[*at].nodes.len()).collect();
    counts.sort_unstable_by_key(|count| Reverse(*count));
    let (mut nodes, mut room) = (0, 0);
    for (at, count) in among.iter().zip(counts).zip(1..) {
        let ((at, more), count) = (at, count);
        nodes += more;
        room += leaves[*at].best;
        if nodes >= need.nodes.0 && room >= u64::from(need.tasks) {
            return count.max(2);
        }
    }
    usize::MAX
}

/// In how many ways so many can be chosen, as far as that matters.
fn choices(of: usize, count: usize) -> u64 {
    let mut ways: u64 = 1;
    for at in 0..count.min(of - count.min(of)) {
        ways = ways * (of - at) as u64 / (at as u64 + 1);
        if ways > TRIES_MAX {
            break;
        }
    }
    ways
}

/// Calls back with each choice of so many of them, in order.
fn each_choice(of: &[usize], count: usize, found: &mut impl FnMut(&[usize])) {
    let mut places: Vec<usize> = (0..count).collect();
    let mut chosen: Vec<usize> = Vec::with_capacity(count);
    loop {
        chosen.clear();
        chosen.extend(places.iter().map(|place| of[*place]));
        found(&chosen);
        // The last that can still move, and those behind it close after.
        let movable = |at: &usize| places[*at] < of.len() - count + at;
        let Some(at) = (0..count).rev().find(movable) else {
            return;
        };
        places[at] += 1;
        for next in at + 1..count {
            places[next] = places[next - 1] + 1;
        }
    }
}

/// Those with most room until one more is enough, which is the one with least.
fn greedily<T>(
    leaves: &[Leaf],
    among: &[usize],
    most: usize,
    need: Need,
    pack: &impl Fn(Vec<Room>) -> Option<T>,
) -> Option<T> {
    let start = least_count(leaves, among, need);
    for count in start..=most {
        let (first, rest) = among.split_at(count - 1);
        let mut rest: Vec<usize> = rest.to_vec();
        rest.sort_by_key(|at| leaves[*at].room);
        for last in rest {
            let chosen: Vec<usize> = first.iter().copied().chain([last]).collect();
            if need.is_met(leaves, &chosen)
                && let Some(found) = pack(gathered(leaves, &chosen))
            {
                return Some(found);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn switches(paths: &[&str]) -> Option<Switches> {
        let paths = paths
            .iter()
            .map(|path| Some(*path).filter(|path| !path.is_empty()));
        Switches::of(paths)
    }

    /// The places that are chosen where each node holds one task.
    fn placed(paths: &[&str], full: &[u32], nodes: usize, most: Option<u32>) -> Option<Vec<u32>> {
        let known = switches(paths).unwrap();
        let places = (0..u32::try_from(paths.len()).unwrap()).filter(|at| !full.contains(at));
        let rooms: Vec<Room> = places.map(|at| (1, at)).collect();
        let need = Need {
            nodes: (nodes, nodes),
            tasks: u32::try_from(nodes).unwrap(),
            switches: most,
        };
        known.nearest(&rooms, need, |mut rooms| {
            rooms.truncate(nodes);
            let mut places: Vec<u32> = rooms.iter().map(|(_, at)| *at).collect();
            places.sort_unstable();
            (places.len() == nodes).then_some(places)
        })
    }

    #[test]
    fn one_switch_is_no_choice() {
        assert_eq!(switches(&[]), None);
        assert_eq!(switches(&["", "", ""]), None);
        assert_eq!(switches(&["a/b", "a/b"]), None);
        assert!(switches(&["a", ""]).is_some());
    }

    #[test]
    fn under_one_switch_where_least_room_is_left() {
        let paths = ["a", "a", "a", "b", "b", "", "", "", ""];
        assert_eq!(placed(&paths, &[], 2, None).unwrap(), [3, 4]);
        assert_eq!(placed(&paths, &[4], 2, None).unwrap(), [0, 1]);
        assert_eq!(placed(&paths, &[0, 3], 3, None).unwrap(), [5, 6, 7]);
    }

    #[test]
    fn under_the_lowest_common_switch_and_there_under_few() {
        let paths = [
            "x/a", "x/b", "x/b", "y/c", "y/c", "y/d", "y/d", "z", "z", "z",
        ];
        // Two of y's leaves are closer than z with another.
        assert_eq!(placed(&paths, &[], 4, None).unwrap(), [3, 4, 5, 6]);
        // Only the top has five: z and one of the others, that with least room.
        assert_eq!(placed(&paths, &[], 5, None).unwrap(), [1, 2, 7, 8, 9]);
        assert_eq!(placed(&paths, &[7], 3, None).unwrap(), [0, 1, 2]);
    }

    #[test]
    fn no_more_switches_than_are_accepted() {
        let paths = ["a/a", "a/b", "a/c", "b", "b", "c"];
        // Under a there are three leaves: two are to be had only under the top.
        assert_eq!(placed(&paths, &[], 3, None).unwrap(), [0, 1, 2]);
        assert_eq!(placed(&paths, &[], 3, Some(2)).unwrap(), [0, 3, 4]);
        assert_eq!(placed(&paths, &[], 3, Some(1)), None);
        assert_eq!(placed(&paths, &[3], 3, Some(2)), None);
    }

    #[test]
    fn of_many_switches_those_with_most_room_are_taken() {
        let names: Vec<String> = (0..60).map(|at| format!("s{}", at / 2)).collect();
        let paths: Vec<&str> = names.iter().map(String::as_str).collect();
        let full: Vec<u32> = (0..30).map(|at| at * 2).take(8).collect();
        let placed = placed(&paths, &full, 21, None).unwrap();
        let used: BTreeSet<u32> = placed.iter().map(|at| at / 2).collect();
        assert_eq!(used.len(), 11);
        assert!(used.contains(&0), "the last is one with little room");
    }

    #[test]
    fn each_choice_is_made_once() {
        for (of, count) in [(5, 2), (5, 5), (6, 3), (1, 1)] {
            let all: Vec<usize> = (0..of).collect();
            let mut seen = BTreeSet::new();
            each_choice(&all, count, &mut |chosen| {
                assert!(seen.insert(chosen.to_vec()));
            });
            assert_eq!(seen.len() as u64, choices(of, count));
        }
        assert!(choices(200, 100) > TRIES_MAX);
    }
}
