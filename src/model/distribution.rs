//! In which order the ranks of a step go to its nodes, and how many of them each node gets: `--distribution`.
//!
//! How many tasks there may be on a node, and which nodes there are, is for those who call this.

use super::bounded;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// The most ranks that a list of hosts places: as many items as any list from outside may have.
pub const HOSTS_MAX: usize = bounded::ITEMS_MAX;

/// The node of each rank, by name: what `--distribution=arbitrary` reads from a file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HostRanks {
    /// Names, each once.
    #[serde(deserialize_with = "bounded::list")]
    names: Vec<String>,
    /// For each rank, which of them.
    #[serde(deserialize_with = "bounded::list")]
    of_rank: Vec<u32>,
}

impl HostRanks {
    /// From one name for each rank.
    ///
    /// # Errors
    /// There are more than [`HOSTS_MAX`].
    pub fn of(hosts: &[impl AsRef<str>]) -> Result<Self, String> {
        if hosts.len() > HOSTS_MAX {
            return Err(format!(
                "{} hosts are listed, the most is {HOSTS_MAX}",
                hosts.len()
            ));
        }
        let mut known: BTreeMap<&str, u32> = BTreeMap::new();
        let mut list = HostRanks::default();
        for host in hosts {
            let host = host.as_ref();
            let next = u32::try_from(list.names.len()).unwrap_or(u32::MAX);
            let at = *known.entry(host).or_insert_with(|| {
                list.names.push(host.to_owned());
                next
            });
            list.of_rank.push(at);
        }
        Ok(list)
    }

    /// The hosts, each once, in the order in which they are first named.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// How many ranks are placed.
    #[must_use]
    pub fn len(&self) -> u32 {
        u32::try_from(self.of_rank.len()).unwrap_or(u32::MAX)
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.of_rank.is_empty()
    }

    /// The most ranks that one host has.
    #[must_use]
    pub fn most_on_one(&self) -> u32 {
        let mut counts = vec![0_u32; self.names.len()];
        for at in &self.of_rank {
            if let Some(count) = counts.get_mut(*at as usize) {
                *count += 1;
            }
        }
        counts.into_iter().max().unwrap_or(0)
    }

    /// About how many bytes it has.
    #[must_use]
    pub fn weight(&self) -> usize {
        let names: usize = self.names.iter().map(|name| name.len() + 24).sum();
        names + self.of_rank.len() * 4
    }

    /// Each rank's place among these nodes.
    fn places(&self, nodes: &[String]) -> Result<Vec<u32>, String> {
        let place = |name: &String| {
            let same = |node: &String| {
                node == name || node.split('.').next() == Some(name.as_str()) && !name.contains('.')
            };
            let exact = nodes.iter().position(|node| node == name);
            let at = exact.or_else(|| nodes.iter().position(same));
            at.and_then(|at| u32::try_from(at).ok())
                .ok_or_else(|| format!("node {name} is not one of the job's"))
        };
        let places = self
            .names
            .iter()
            .map(place)
            .collect::<Result<Vec<_>, _>>()?;
        let of_rank = self.of_rank.iter().map(|at| places.get(*at as usize));
        of_rank
            .map(|place| {
                place
                    .copied()
                    .ok_or_else(|| "the list of hosts is damaged".to_owned())
            })
            .collect()
    }
}

/// Where ranks go.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Distribution {
    /// One node after another is filled.
    #[default]
    Block,
    /// One rank to each node in turn, as long as there is room.
    Cyclic,
    /// So many ranks to each node in turn.
    Plane(u32),
    /// As a list of hosts says.
    Arbitrary(HostRanks),
}

impl Distribution {
    /// Reads a word of `--distribution`; `None` = whatever is usual. `arbitrary` comes without its hosts.
    ///
    /// # Errors
    /// What is not known, or not honoured.
    pub fn parse(text: &str) -> Result<Option<Self>, String> {
        let lower = text.to_ascii_lowercase();
        let (levels, option) = match lower.split_once(',') {
            Some((levels, option)) => (levels, Some(option)),
            None => (lower.as_str(), None),
        };
        if let Some(option) = option {
            return Err(format!(
                "`{option}` is not part of this version: how many tasks a node gets is said by --nodes and --ntasks-per-node"
            ));
        }
        let mut levels = levels.split(':');
        let first = levels.next().unwrap_or_default();
        for (what, level) in ["sockets", "cores"].into_iter().zip(levels.by_ref()) {
            match level {
                "block" | "*" => {}
                "cyclic" | "fcyclic" => {
                    return Err(format!(
                        "`{level}` for {what} is not part of this version: the cpus of a task lie next to each other on its \
                         node, which is `block` or `*`"
                    ));
                }
                _ => {
                    return Err(format!(
                        "`{level}` is not known for {what}: write block or *"
                    ));
                }
            }
        }
        if levels.next().is_some() {
            return Err(format!("\"{text}\" has more than three levels"));
        }
        let (word, size) = match first.split_once('=') {
            Some((word, size)) => (word, Some(size)),
            None => (first, None),
        };
        match (word, size) {
            ("*", None) => Ok(None),
            ("block", None) => Ok(Some(Distribution::Block)),
            ("cyclic", None) => Ok(Some(Distribution::Cyclic)),
            ("arbitrary", None) => Ok(Some(Distribution::Arbitrary(HostRanks::default()))),
            ("plane", Some(size)) => match size.parse::<u32>() {
                Ok(size) if size > 0 => Ok(Some(Distribution::Plane(size))),
                _ => Err(format!(
                    "plane={size}: write how many ranks go to a node at once, from 1 on"
                )),
            },
            ("plane", None) => Err("plane needs a size: plane=4".to_owned()),
            _ => Err(format!(
                "\"{text}\": write block, cyclic, plane=SIZE or arbitrary"
            )),
        }
    }

    /// The host of each rank, where there is a list of them.
    #[must_use]
    pub fn hosts_in_order(&self) -> Vec<&str> {
        let Distribution::Arbitrary(hosts) = self else {
            return Vec::new();
        };
        let names = hosts.of_rank.iter();
        names
            .filter_map(|at| hosts.names.get(*at as usize).map(String::as_str))
            .collect()
    }

    /// The word that tasks find in `SLURM_DISTRIBUTION`.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Distribution::Block => "block",
            Distribution::Cyclic => "cyclic",
            Distribution::Plane(_) => "plane",
            Distribution::Arbitrary(_) => "arbitrary",
        }
    }

    /// About how many bytes it has.
    #[must_use]
    pub fn weight(&self) -> usize {
        match self {
            Distribution::Arbitrary(hosts) => hosts.weight(),
            _ => 8,
        }
    }

    /// Tasks on each node, where each has room for so many; `None` = there is not enough room.
    #[must_use]
    pub fn counts(&self, wanted: u32, room: &[u32]) -> Option<Vec<u32>> {
        let most: u64 = room.iter().map(|room| u64::from(*room)).sum();
        if u64::from(wanted) > most {
            return None;
        }
        let mut left = wanted;
        let mut counts = vec![0_u32; room.len()];
        // At least one on each node as far as there are tasks, then the first nodes are filled.
        let (mut each, later) = match self {
            Distribution::Cyclic => (1, 1),
            Distribution::Plane(size) => ((*size).max(1), (*size).max(1)),
            Distribution::Block | Distribution::Arbitrary(_) => (1, u32::MAX),
        };
        while left > 0 {
            for (count, room) in counts.iter_mut().zip(room) {
                let more = each.min(left).min(room - *count);
                *count += more;
                left -= more;
            }
            each = later;
        }
        Some(counts)
    }

    /// The node of each rank, by its place, where each node has so many. With a list of hosts that is what counts.
    ///
    /// # Errors
    /// A host that is none of these nodes.
    pub fn deal(&self, counts: &[u32], nodes: &[String]) -> Result<Vec<u32>, String> {
        let size = match self {
            Distribution::Block => u32::MAX,
            Distribution::Cyclic => 1,
            Distribution::Plane(size) => (*size).max(1),
            Distribution::Arbitrary(hosts) => return hosts.places(nodes),
        };
        let mut left = counts.to_vec();
        let mut node_of_rank = Vec::new();
        while left.iter().any(|left| *left > 0) {
            for (left, node) in left.iter_mut().zip(0_u32..) {
                let some = size.min(*left);
                node_of_rank.extend(std::iter::repeat_n(node, some as usize));
                *left -= some;
            }
        }
        Ok(node_of_rank)
    }
}

impl fmt::Display for Distribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Distribution::Plane(size) => write!(f, "plane={size}"),
            other => f.write_str(other.word()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names(count: usize) -> Vec<String> {
        (1..=count).map(|number| format!("n{number}")).collect()
    }

    /// The ranks of each node.
    fn ranks(distribution: &Distribution, counts: &[u32]) -> Vec<Vec<u32>> {
        let places = distribution.deal(counts, &names(counts.len())).unwrap();
        let mut ranks = vec![Vec::new(); counts.len()];
        for (rank, node) in (0..).zip(places) {
            ranks[node as usize].push(rank);
        }
        ranks
    }

    #[test]
    fn ranks_lie_as_in_the_examples_of_slurm() {
        let block: [&[u32]; 4] = [&[0, 1, 2, 3, 4, 5], &[6, 7, 8, 9, 10], &[11, 12], &[13]];
        assert_eq!(ranks(&Distribution::Block, &[6, 5, 2, 1]), block);
        let cyclic: [&[u32]; 4] = [&[0, 4], &[1, 5], &[2], &[3]];
        assert_eq!(ranks(&Distribution::Cyclic, &[2, 2, 1, 1]), cyclic);
        // 21 tasks on 4 nodes, as its page on plane distributions has them.
        let four: [&[u32]; 4] = [
            &[0, 1, 2, 3, 16, 17, 18, 19],
            &[4, 5, 6, 7, 20],
            &[8, 9, 10, 11],
            &[12, 13, 14, 15],
        ];
        let plane = Distribution::Plane(4);
        assert_eq!(plane.counts(21, &[8; 4]).unwrap(), [8, 5, 4, 4]);
        assert_eq!(ranks(&plane, &[8, 5, 4, 4]), four);
        let two: [&[u32]; 4] = [
            &[0, 1, 8, 9, 16, 17],
            &[2, 3, 10, 11, 18, 19],
            &[4, 5, 12, 13, 20],
            &[6, 7, 14, 15],
        ];
        let plane = Distribution::Plane(2);
        assert_eq!(plane.counts(21, &[8; 4]).unwrap(), [6, 6, 5, 4]);
        assert_eq!(ranks(&plane, &[6, 6, 5, 4]), two);
    }

    #[test]
    fn counts_fill_or_go_round() {
        let room = [4, 1, 3];
        let table = [
            (Distribution::Block, 2, [1, 1, 0]),
            (Distribution::Block, 5, [3, 1, 1]),
            (Distribution::Cyclic, 5, [2, 1, 2]),
            (Distribution::Cyclic, 8, [4, 1, 3]),
            (Distribution::Plane(2), 4, [2, 1, 1]),
            (Distribution::Plane(9), 5, [4, 1, 0]),
        ];
        for (distribution, wanted, counts) in table {
            let found = distribution.counts(wanted, &room).unwrap();
            assert_eq!(found, counts, "{distribution} of {wanted}");
        }
        assert_eq!(Distribution::Cyclic.counts(9, &room), None);
    }

    #[test]
    fn hosts_place_each_rank() {
        let hosts = HostRanks::of(&["n2", "n1", "n2"]).unwrap();
        assert_eq!(
            (hosts.names().len(), hosts.len(), hosts.most_on_one()),
            (2, 3, 2)
        );
        let arbitrary = Distribution::Arbitrary(hosts);
        assert_eq!(arbitrary.deal(&[], &names(2)), Ok(vec![1, 0, 1]));
        let missing = arbitrary.deal(&[], &names(1)).unwrap_err();
        assert_eq!(missing, "node n2 is not one of the job's");
        let long = ["n2.lab".to_owned(), "n1.lab".to_owned()];
        assert_eq!(arbitrary.deal(&[], &long), Ok(vec![0, 1, 0]));
        assert!(HostRanks::of(&vec!["n1"; HOSTS_MAX + 1]).is_err());
    }

    #[test]
    fn words_are_those_of_slurm_as_far_as_they_are_honoured() {
        for (text, meant) in [
            ("block", Some(Distribution::Block)),
            ("Cyclic", Some(Distribution::Cyclic)),
            ("plane=4", Some(Distribution::Plane(4))),
            ("cyclic:block:*", Some(Distribution::Cyclic)),
            ("*:block", None),
        ] {
            assert_eq!(Distribution::parse(text), Ok(meant), "{text}");
        }
        for (text, word) in [
            ("block:cyclic", "`cyclic` for sockets"),
            ("block:block:fcyclic", "`fcyclic` for cores"),
            ("block,pack", "`pack` is not part"),
            ("plane", "plane needs a size"),
            ("plane=0", "from 1 on"),
            ("random", "write block, cyclic"),
            ("block:block:block:block", "three levels"),
        ] {
            let error = Distribution::parse(text).unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    fn any_distribution() -> impl Strategy<Value = Distribution> {
        prop_oneof![
            Just(Distribution::Block),
            Just(Distribution::Cyclic),
            (1_u32..9).prop_map(Distribution::Plane),
        ]
    }

    proptest! {
        #[test]
        fn every_rank_is_somewhere_once_and_counts_stay(
            distribution in any_distribution(),
            counts in prop::collection::vec(0_u32..9, 1..8),
        ) {
            let mut all_ranks: Vec<u32> = Vec::new();
            for (on_node, count) in ranks(&distribution, &counts).into_iter().zip(&counts) {
                prop_assert_eq!(on_node.len(), *count as usize);
                prop_assert!(on_node.is_sorted());
                all_ranks.extend(on_node);
            }
            all_ranks.sort_unstable();
            let all: Vec<u32> = (0..counts.iter().sum()).collect();
            prop_assert_eq!(all_ranks, all);
        }

        #[test]
        fn counts_are_as_many_as_wanted_and_have_room(
            distribution in any_distribution(),
            room in prop::collection::vec(0_u32..9, 1..8),
            wanted in 0_u32..80,
        ) {
            match distribution.counts(wanted, &room) {
                Some(counts) => {
                    prop_assert_eq!(counts.iter().sum::<u32>(), wanted);
                    prop_assert!(counts.iter().zip(&room).all(|(count, room)| count <= room));
                }
                None => prop_assert!(room.iter().sum::<u32>() < wanted),
            }
        }
    }
}
