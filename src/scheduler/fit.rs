//! What is free during one pass: the nodes' free resources, less what this pass has granted.

use super::view::View;
use crate::model::allocation::Allocation;
use crate::model::cpu_set::CpuSet;
use crate::model::ids::NodeId;
use crate::model::node::Node;

/// A node during a pass.
#[derive(Debug, Clone)]
pub struct FreeNode<'a> {
    /// The node itself, for what does not change during a pass.
    pub node: &'a Node,
    /// Cpus free.
    pub cpus: CpuSet,
    /// Memory free; MiB.
    pub memory_mib: u64,
    /// GPUs free, by index.
    pub gpus: Vec<u32>,
}

/// All nodes during a pass, ordered by number.
#[derive(Debug, Clone)]
pub struct FreeNodes<'a> {
    /// The nodes.
    pub nodes: Vec<FreeNode<'a>>,
}

impl<'a> FreeNodes<'a> {
    /// As the view says.
    #[must_use]
    pub fn of(view: &View<'a>) -> Self {
        let nodes = view
            .nodes
            .values()
            .map(|node| FreeNode {
                node,
                cpus: node.cpus_free.clone(),
                memory_mib: node.memory_free_mib(),
                gpus: node.gpus_free.clone(),
            })
            .collect();
        FreeNodes { nodes }
    }

    fn at(&self, id: NodeId) -> Option<usize> {
        self.nodes
            .binary_search_by_key(&id, |free| free.node.id)
            .ok()
    }

    /// Takes a grant off.
    ///
    /// # Panics
    /// When it was not free: the planner's own mistake.
    pub fn take(&mut self, allocation: &Allocation) {
        for share in &allocation.nodes {
            let at = self
                .at(share.node)
                .expect("a grant names a node of the view");
            let free = &mut self.nodes[at];
            free.cpus = free.cpus.subtract(&share.cpus);
            assert!(
                free.memory_mib >= share.memory_mib,
                "granted memory was free"
            );
            free.memory_mib -= share.memory_mib;
            free.gpus.retain(|gpu| !share.gpus.contains(gpu));
        }
    }

    /// Whether every node of this allocation may be given further work.
    #[must_use]
    pub fn all_accept_work(&self, allocation: &Allocation) -> bool {
        allocation.nodes.iter().all(|share| {
            self.at(share.node)
                .is_some_and(|at| self.nodes[at].node.accepts_work())
        })
    }
}
