//! Which rank of a step runs where: the tasks of each node, numbered.

use crate::model::distribution::Distribution;
use crate::model::step::StepOptions;
use crate::wire::peer::Group;
use crate::wire::worker::SlotLaunch;

/// Where the ranks of a step are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Placement {
    /// The node of each rank, by its number in the slot.
    node_of_rank: Vec<u32>,
    /// The nodes that have ranks, in order.
    nodes: Vec<u32>,
}

impl Placement {
    /// Ranks dealt to nodes as was said of the step, so many to each.
    ///
    /// # Errors
    /// A list of hosts names one that the slot has not.
    pub(super) fn new(
        counts: &[u32],
        options: &StepOptions,
        nodes: &[String],
    ) -> Result<Self, String> {
        let block = Distribution::Block;
        let distribution = options.distribution().unwrap_or(&block);
        distribution.deal(counts, nodes).map(Self::of)
    }

    /// The ranks of the step that a job is.
    ///
    /// # Errors
    /// As [`Placement::new`].
    pub(super) fn main(launch: &SlotLaunch) -> Result<Self, String> {
        let counts: Vec<u32> = launch.shares.iter().map(|share| share.tasks).collect();
        let options = launch.spec.launch.step_options();
        Self::new(&counts, &options, &launch.nodes)
    }

    fn of(node_of_rank: Vec<u32>) -> Self {
        let mut nodes = node_of_rank.clone();
        nodes.sort_unstable();
        nodes.dedup();
        Placement {
            node_of_rank,
            nodes,
        }
    }

    /// Ranks in all.
    pub(super) fn size(&self) -> u32 {
        u32::try_from(self.node_of_rank.len()).unwrap_or(u32::MAX)
    }

    /// Ranks on each of so many nodes of the slot.
    pub(super) fn counts(&self, nodes: usize) -> Vec<u32> {
        let mut counts = vec![0; nodes];
        for node in &self.node_of_rank {
            if let Some(count) = counts.get_mut(*node as usize) {
                *count += 1;
            }
        }
        counts
    }

    /// The nodes that have ranks, by their numbers in the slot.
    pub(super) fn nodes(&self) -> &[u32] {
        &self.nodes
    }

    /// Ranks of a node, in order.
    pub(super) fn ranks_on(&self, node: u32) -> Vec<u32> {
        let ranks = self.node_of_rank.iter().zip(0_u32..);
        ranks
            .filter(|(at, _)| **at == node)
            .map(|(_, rank)| rank)
            .collect()
    }

    /// A node's number in the step, which counts only nodes that have ranks of it.
    pub(super) fn number_of(&self, node: u32) -> u32 {
        let before = self.nodes.partition_point(|other| *other < node);
        u32::try_from(before).unwrap_or(u32::MAX)
    }

    /// The node of a rank.
    pub(super) fn node_of(&self, rank: u32) -> Option<u32> {
        self.node_of_rank.get(rank as usize).copied()
    }

    /// Each rank's node, by the node's number in the step.
    pub(super) fn numbers(&self) -> Vec<u32> {
        let nodes = self.node_of_rank.iter();
        nodes.map(|node| self.number_of(*node)).collect()
    }

    /// The nodes whose ranks make up a group, in order.
    pub(super) fn nodes_of(&self, group: &Group) -> Vec<u32> {
        match group {
            Group::Pmi | Group::Pmix { .. } => self.nodes.clone(),
            Group::PmixGroup { ranks, .. } if ranks.is_empty() => self.nodes.clone(),
            Group::PmixRanks { ranks, .. } | Group::PmixGroup { ranks, .. } => {
                let mut nodes: Vec<u32> = ranks
                    .iter()
                    .filter_map(|rank| self.node_of(*rank))
                    .collect();
                nodes.sort_unstable();
                nodes.dedup();
                nodes
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::pmix::Purpose;

    #[test]
    fn nodes_without_ranks_have_no_number() {
        let placement = Placement::new(&[2, 0, 1, 3], &StepOptions::default(), &[]).unwrap();
        assert_eq!(placement.size(), 6);
        assert_eq!(placement.nodes(), [0, 2, 3]);
        assert_eq!(placement.ranks_on(0), [0, 1]);
        assert_eq!(placement.ranks_on(1), [] as [u32; 0]);
        assert_eq!(placement.ranks_on(3), [3, 4, 5]);
        assert_eq!(placement.number_of(3), 2);
        assert_eq!(placement.node_of(2), Some(2));
        assert_eq!(placement.node_of(6), None);
        assert_eq!(placement.numbers(), [0, 0, 1, 2, 2, 2]);
        let some = Group::PmixRanks {
            purpose: Purpose::Fence,
            ranks: vec![1, 3, 5, 9],
        };
        assert_eq!(placement.nodes_of(&some), [0, 3]);
    }

    #[test]
    fn a_cyclic_placement_is_what_clients_read_from_the_mapping() {
        use crate::model::step::StepOption;
        use crate::steps::pmi::process_mapping;
        let mut options = StepOptions::default();
        options.say(StepOption::Distribution(Distribution::Cyclic));
        let placement = Placement::new(&[2, 0, 2], &options, &[]).unwrap();
        assert_eq!(placement.ranks_on(0), [0, 2]);
        assert_eq!(placement.ranks_on(2), [1, 3]);
        assert_eq!(placement.counts(3), [2, 0, 2]);
        let mapping = process_mapping(&placement.numbers());
        assert_eq!(mapping.as_deref(), Some("(vector,(0,2,1),(0,2,1))"));
    }
}
