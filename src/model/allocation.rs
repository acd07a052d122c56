//! Exactly which cores, memory and GPUs on which nodes were granted.

use super::cpu_set::CpuSet;
use super::ids::NodeId;
use serde::{Deserialize, Serialize};

/// One node's part of an allocation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeShare {
    /// The node.
    pub node: NodeId,
    /// Tasks to run there, at least 1.
    pub tasks: u32,
    /// Logical cpus.
    pub cpus: CpuSet,
    /// Memory; MiB.
    pub memory_mib: u64,
    /// GPU indices.
    pub gpus: Vec<u32>,
}

/// What a slot holds; the first node leads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allocation {
    /// Its parts, in rank order.
    pub nodes: Vec<NodeShare>,
}

impl Allocation {
    /// Tasks on all nodes.
    #[must_use]
    pub fn tasks(&self) -> u32 {
        self.nodes.iter().map(|share| share.tasks).sum()
    }

    /// Cpus on all nodes.
    #[must_use]
    pub fn cpus(&self) -> u32 {
        self.nodes.iter().map(|share| share.cpus.len()).sum()
    }

    /// Memory on all nodes; MiB.
    #[must_use]
    pub fn memory_mib(&self) -> u64 {
        self.nodes.iter().map(|share| share.memory_mib).sum()
    }

    /// GPUs on all nodes.
    #[must_use]
    pub fn gpus(&self) -> u32 {
        self.nodes
            .iter()
            .map(|share| u32::try_from(share.gpus.len()).unwrap_or(u32::MAX))
            .sum()
    }

    /// This node's part.
    #[must_use]
    pub fn share(&self, node: NodeId) -> Option<&NodeShare> {
        self.nodes.iter().find(|share| share.node == node)
    }
}
