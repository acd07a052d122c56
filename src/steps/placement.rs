//! Which rank of a step runs where: the tasks of each node, numbered.

use crate::wire::peer::Group;

/// Where the ranks of a step are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Placement {
    /// The node of each rank, by its number in the slot.
    node_of_rank: Vec<u32>,
    /// The nodes that have ranks, in order.
    nodes: Vec<u32>,
}

impl Placement {
    /// One node after another is filled, with so many ranks each.
    pub(super) fn block(counts: &[u32]) -> Self {
        let numbered = counts.iter().zip(0_u32..);
        let node_of_rank: Vec<u32> = numbered
            .flat_map(|(count, node)| std::iter::repeat_n(node, *count as usize))
            .collect();
        Self::of(node_of_rank)
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
            Group::PmixRanks { ranks, .. } => {
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
        let placement = Placement::block(&[2, 0, 1, 3]);
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
}
