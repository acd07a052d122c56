//! One node as the pool sees it: what it has in numbers, and what is a part of it.

use crate::model::allocation::NodeShare;
use crate::model::fading::Fading;
use crate::model::ids::NodeId;
use crate::model::node::{Node, Serves};
use smallvec::SmallVec;
use std::sync::Arc;

/// Kinds of GPU told apart on one node; further ones are not given to jobs.
pub const KINDS: usize = 4;

/// GPUs by kind, in the order of the node's kinds.
pub type Gpus = [u16; KINDS];

pub(super) fn sum(gpus: &Gpus) -> u32 {
    gpus.iter().map(|count| u32::from(*count)).sum()
}

pub(super) fn narrow(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// What all nodes of a cluster have together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Nodes.
    pub nodes: u32,
    /// Cpus.
    pub cpus: u32,
    /// GPUs.
    pub gpus: u32,
}

/// What is free on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Free {
    /// Cpus.
    pub cpus: u32,
    /// Memory; MiB.
    pub memory_mib: u64,
    /// GPUs.
    pub gpus: Gpus,
}

impl Free {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Free) -> Free {
        let mut gpus = self.gpus;
        for (count, other) in gpus.iter_mut().zip(other.gpus) {
            *count = count.saturating_add(other);
        }
        Free {
            cpus: self.cpus.saturating_add(other.cpus),
            memory_mib: self.memory_mib.saturating_add(other.memory_mib),
            gpus,
        }
    }

    /// What is left of it without the other.
    #[must_use]
    pub fn minus(self, other: Free) -> Free {
        let mut gpus = self.gpus;
        for (count, other) in gpus.iter_mut().zip(other.gpus) {
            *count = count.saturating_sub(other);
        }
        Free {
            cpus: self.cpus.saturating_sub(other.cpus),
            memory_mib: self.memory_mib.saturating_sub(other.memory_mib),
            gpus,
        }
    }

    /// The smaller of each amount.
    #[must_use]
    pub fn least(self, other: Free) -> Free {
        let mut gpus = self.gpus;
        for (count, other) in gpus.iter_mut().zip(other.gpus) {
            *count = (*count).min(other);
        }
        Free {
            cpus: self.cpus.min(other.cpus),
            memory_mib: self.memory_mib.min(other.memory_mib),
            gpus,
        }
    }
}

/// What does not change of a node while a pool is in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// The node's number.
    pub id: NodeId,
    pub(super) all: Free,
    /// Memory that goes with each cpu where none is asked for; MiB.
    pub(super) memory_per_cpu: u64,
    pub(super) kinds: SmallVec<[Arc<str>; 1]>,
    pub(super) accepts_work: bool,
    pub(super) serves_everyone: bool,
    /// How often it was lost of late.
    pub(super) failures: Fading,
}

impl Site {
    /// Of this node.
    #[must_use]
    pub fn of(node: &Node) -> Self {
        let gpus = &node.inventory.topology.gpus;
        let mut kinds: SmallVec<[Arc<str>; 1]> = SmallVec::new();
        for gpu in gpus {
            if kinds.len() < KINDS && !kinds.iter().any(|kind| **kind == *gpu.kind) {
                kinds.push(gpu.kind.as_str().into());
            }
        }
        let all = Free {
            cpus: node.cpus_total(),
            memory_mib: node.memory_total_mib(),
            gpus: Gpus::default(),
        };
        let mut site = Site {
            id: node.id,
            all,
            memory_per_cpu: all.memory_mib / u64::from(all.cpus.max(1)),
            kinds,
            accepts_work: node.accepts_work(),
            serves_everyone: node.serves == Serves::Everyone,
            failures: node.failures,
        };
        let indices: Vec<u32> = gpus.iter().map(|gpu| gpu.index).collect();
        site.all.gpus = site.count_gpus(node, &indices);
        site
    }

    /// GPUs of the node with these indices, by kind.
    pub(super) fn count_gpus(&self, node: &Node, indices: &[u32]) -> Gpus {
        let mut gpus = Gpus::default();
        if indices.is_empty() {
            return gpus;
        }
        for gpu in &node.inventory.topology.gpus {
            if indices.contains(&gpu.index)
                && let Some(kind) = self.kind_of(&gpu.kind)
            {
                gpus[kind] = gpus[kind].saturating_add(1);
            }
        }
        gpus
    }

    /// What a share of this node holds, in numbers.
    #[must_use]
    pub fn part_of(&self, node: &Node, share: &NodeShare) -> Part {
        Part {
            node: share.node,
            tasks: share.tasks,
            amount: Free {
                cpus: share.cpus.len(),
                memory_mib: share.memory_mib,
                gpus: self.count_gpus(node, &share.gpus),
            },
        }
    }

    /// How often it was lost of late.
    #[must_use]
    pub fn failures(&self) -> Fading {
        self.failures
    }

    /// How large the node is: GPUs first, then cpus, then memory.
    #[must_use]
    pub fn cost_of_all(&self) -> (u32, u32, u64) {
        (sum(&self.all.gpus), self.all.cpus, self.all.memory_mib)
    }

    /// All that the node has.
    #[must_use]
    pub fn all(&self) -> Free {
        self.all
    }

    /// Kinds of its GPUs, in the order of the counts.
    #[must_use]
    pub fn kinds(&self) -> &[Arc<str>] {
        &self.kinds
    }

    /// The place of a kind among the node's.
    #[must_use]
    pub fn kind_of(&self, kind: &str) -> Option<usize> {
        let mut kinds = self.kinds.iter();
        kinds.position(|known| known.eq_ignore_ascii_case(kind))
    }

    /// Free GPUs, of one kind or of any.
    #[must_use]
    pub fn gpus_free(&self, free: &Free, kind: Option<&str>) -> u32 {
        match kind {
            None => sum(&free.gpus),
            Some(kind) => self.kind_of(kind).map_or(0, |at| u32::from(free.gpus[at])),
        }
    }

    /// So many of them, if they are there; of any kind those of the first kinds.
    #[must_use]
    pub fn take_gpus(&self, free: &Free, kind: Option<&str>, count: u32) -> Option<Gpus> {
        let mut left = u16::try_from(count).ok()?;
        let mut gpus = Gpus::default();
        let only = match kind {
            Some(kind) if left > 0 => Some(self.kind_of(kind)?),
            _ => None,
        };
        for (at, taken) in gpus.iter_mut().enumerate() {
            if only.is_none_or(|only| only == at) {
                *taken = left.min(free.gpus[at]);
                left -= *taken;
            }
        }
        (left == 0).then_some(gpus)
    }

    /// What this costs, in thousandths of a cpu of this node: the largest of its parts of cpus, memory and GPUs.
    #[must_use]
    pub fn cost_milli(&self, amount: &Free) -> u64 {
        let cpus = u64::from(self.all.cpus);
        let part = |count: u64, all: u64| match all {
            0 => 0,
            all => count.saturating_mul(cpus).saturating_mul(1000) / all,
        };
        let gpus = part(u64::from(sum(&amount.gpus)), u64::from(sum(&self.all.gpus)));
        let memory = part(amount.memory_mib, self.all.memory_mib);
        (u64::from(amount.cpus) * 1000).max(gpus).max(memory)
    }

    pub(super) fn free_now(&self, node: &Node) -> Free {
        Free {
            cpus: node.cpus_free.len(),
            memory_mib: node.memory_free_mib(),
            gpus: self.count_gpus(node, &node.gpus_free),
        }
    }
}

/// One node's part of what a job is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// The node.
    pub node: NodeId,
    /// Tasks there.
    pub tasks: u32,
    /// Cpus, memory and GPUs.
    pub amount: Free,
}

/// Above all nodes: pools of licences, as parts have them.
const LICENSES: u32 = 1 << 31;

impl Part {
    /// So many of the licences of a pool.
    #[must_use]
    pub fn of_license(at: usize, count: u32) -> Self {
        Part {
            node: NodeId(LICENSES.saturating_add(u32::try_from(at).unwrap_or(u32::MAX))),
            tasks: 0,
            amount: Free {
                cpus: count,
                ..Free::default()
            },
        }
    }

    /// So many cpus of a node, and nothing else.
    #[must_use]
    pub fn of_cpus(node: NodeId, cpus: u32) -> Self {
        Part {
            node,
            tasks: 0,
            amount: Free {
                cpus,
                ..Free::default()
            },
        }
    }

    /// The place of the pool that has this in the place of a node, if one has.
    #[must_use]
    pub fn license_at(node: NodeId) -> Option<usize> {
        let at = node.0.checked_sub(LICENSES)?;
        usize::try_from(at).ok()
    }

    /// The place of the pool, if these are licences.
    #[must_use]
    pub fn license(&self) -> Option<usize> {
        Part::license_at(self.node)
    }

    /// Whether it is a part of a node.
    #[must_use]
    pub fn is_of_node(&self) -> bool {
        self.node.0 < LICENSES
    }
}

/// What is left of these parts without those others, node by node.
#[must_use]
pub fn less(parts: &Parts, others: &Parts) -> Parts {
    let left = parts.iter().map(|part| {
        let same = others.iter().filter(|other| other.node == part.node);
        Part {
            amount: same.fold(part.amount, |left, other| left.minus(other.amount)),
            ..*part
        }
    });
    left.collect()
}

/// All these parts together, node by node.
#[must_use]
pub fn plus(parts: &Parts, others: &Parts) -> Parts {
    let mut sum = parts.clone();
    for other in others {
        match sum.iter_mut().find(|part| part.node == other.node) {
            Some(part) => part.amount = part.amount.plus(other.amount),
            None => sum.push(*other),
        }
    }
    sum
}

/// The cpus among these parts.
#[must_use]
pub fn cpus_among(parts: &Parts) -> Parts {
    let of_nodes = parts.iter().filter(|part| part.is_of_node());
    of_nodes
        .map(|part| Part::of_cpus(part.node, part.amount.cpus))
        .collect()
}

/// What a job is given; the first node leads. Licences come behind all nodes.
pub type Parts = SmallVec<[Part; 1]>;
