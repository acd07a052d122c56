//! `PMI_process_mapping`: which ranks share a node, in the words that clients parse.
//!
//! Blocks are walked in order; a block is a row of nodes with so many ranks on each. Clients take ranks of one node to
//! share memory. Some begin again at the first block where the blocks end before the ranks do; others fall over
//! (Intel MPI 2021.18 does), so each rank is written out.

use std::fmt::Write;

/// Longest mapping, in bytes. The answer that brings it has to fit the lines of old clients, which are of 1,024.
const MAPPING_MAX: usize = 960;

/// A row of nodes, each with as many ranks.
struct Block {
    node_first: u32,
    nodes: u32,
    ranks_each: u32,
}

/// `PMI_process_mapping` for ranks placed on nodes: `node_of_rank[rank]` is the node's number in the step. None when
/// it would not fit into a value; clients then tell each other their hosts.
#[must_use]
pub fn process_mapping(node_of_rank: &[u32]) -> Option<String> {
    if node_of_rank.is_empty() {
        return None;
    }
    let mut blocks: Vec<Block> = Vec::new();
    for run in node_of_rank.chunk_by(|one, next| one == next) {
        let (node, ranks) = (run[0], u32::try_from(run.len()).ok()?);
        match blocks.last_mut() {
            Some(block)
                if block.ranks_each == ranks
                    && block.node_first.checked_add(block.nodes) == Some(node) =>
            {
                block.nodes += 1;
            }
            _ => blocks.push(Block {
                node_first: node,
                nodes: 1,
                ranks_each: ranks,
            }),
        }
    }
    let mut text = "(vector".to_owned();
    for block in blocks {
        let Block {
            node_first,
            nodes,
            ranks_each,
        } = block;
        write!(text, ",({node_first},{nodes},{ranks_each})").expect("writes to memory");
        if text.len() >= MAPPING_MAX {
            return None;
        }
    }
    text.push(')');
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Walks the blocks as a client does.
    fn walked(mapping: &str) -> Vec<u32> {
        let blocks = mapping.strip_prefix("(vector,(").unwrap();
        let blocks = blocks.strip_suffix("))").unwrap().split("),(");
        let blocks = blocks.map(|block| {
            let numbers = block.split(',').map(|number| number.parse().unwrap());
            <[u32; 3]>::try_from(numbers.collect::<Vec<u32>>()).unwrap()
        });
        let nodes = blocks.flat_map(|[first, nodes, each]| {
            let nodes = first..first + nodes;
            nodes.flat_map(move |node| std::iter::repeat_n(node, each as usize))
        });
        nodes.collect()
    }

    #[test]
    fn usual_placements() {
        let blocks: Vec<u32> = (0..32).map(|rank| rank / 8).collect();
        for (node_of_rank, mapping) in [
            (blocks.as_slice(), "(vector,(0,4,8))"),
            (&[0, 0, 0, 1, 1], "(vector,(0,1,3),(1,1,2))"),
            (&[0, 1, 2, 3, 0, 1, 2, 3], "(vector,(0,4,1),(0,4,1))"),
            (&[0], "(vector,(0,1,1))"),
            (&[2, 0, 1], "(vector,(2,1,1),(0,2,1))"),
        ] {
            assert_eq!(process_mapping(node_of_rank).as_deref(), Some(mapping));
        }
    }

    #[test]
    fn large_steps_are_short_and_wild_ones_left_out() {
        let blocks: Vec<u32> = (0..4096).map(|rank| rank / 64).collect();
        assert_eq!(
            process_mapping(&blocks).as_deref(),
            Some("(vector,(0,64,64))")
        );
        let cyclic: Vec<u32> = (0..4096).map(|rank| rank % 64).collect();
        assert_eq!(walked(&process_mapping(&cyclic).unwrap()), cyclic);
        let wild: Vec<u32> = (0..4096).map(|rank| rank * 37 % 64).collect();
        assert_eq!(process_mapping(&wild), None);
    }

    proptest! {
        #[test]
        fn a_walk_gives_the_placement(node_of_rank in proptest::collection::vec(0_u32..5, 1..200)) {
            if let Some(mapping) = process_mapping(&node_of_rank) {
                prop_assert!(mapping.len() <= MAPPING_MAX);
                prop_assert_eq!(walked(&mapping), node_of_rank);
            }
        }

        #[test]
        fn short_ones_always_fit(node_of_rank in proptest::collection::vec(0_u32..100, 1..80)) {
            prop_assert!(process_mapping(&node_of_rank).is_some());
        }
    }
}
