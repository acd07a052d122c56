//! Which cores and GPUs of its nodes a job gets, once it is known how many ([`super::nodes`]).
//!
//! On a node, cpus of one NUMA node where it has enough, the fullest that does; GPUs beside them.

use super::nodes::{NodePool, Part, Parts, Site};
use crate::model::allocation::{Allocation, NodeShare};
use crate::model::cpu_set::CpuSet;
use crate::model::ids::NodeId;
use crate::model::node::Node;
use crate::model::topology::Topology;
use imbl::OrdMap;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a pass has handed out of nodes' cpus and GPUs, on top of what they say is free.
#[derive(Debug, Default)]
pub struct Picks {
    taken: BTreeMap<NodeId, (CpuSet, Vec<u32>)>,
}

impl Picks {
    /// The cores and GPUs for these parts; they are taken from then on. `None` when a node has not so many: it came back
    /// with less than its jobs hold.
    pub fn pick(
        &mut self,
        nodes: &OrdMap<NodeId, Arc<Node>>,
        pool: &NodePool,
        parts: &Parts,
    ) -> Option<Allocation> {
        self.pick_with(nodes, pool, parts, &BTreeMap::new())
    }

    /// The same, where these cpus may be taken too.
    pub fn pick_with(
        &mut self,
        nodes: &OrdMap<NodeId, Arc<Node>>,
        pool: &NodePool,
        parts: &Parts,
        lent: &BTreeMap<NodeId, CpuSet>,
    ) -> Option<Allocation> {
        let known = nodes;
        let mut nodes = Vec::with_capacity(parts.len());
        for part in parts.iter().filter(|part| part.is_of_node()) {
            let (node, site) = (known.get(&part.node)?, pool.site(part.node)?);
            let lent = lent.get(&part.node);
            nodes.push(self.share(node, site, part, lent)?);
        }
        for share in &nodes {
            let (cpus, gpus) = self.taken.entry(share.node).or_default();
            *cpus = cpus.union(&share.cpus);
            gpus.extend(&share.gpus);
        }
        Some(Allocation { nodes })
    }

    /// What was picked is not taken after all.
    pub fn put_back(&mut self, allocation: &Allocation) {
        for share in &allocation.nodes {
            if let Some((cpus, gpus)) = self.taken.get_mut(&share.node) {
                *cpus = cpus.subtract(&share.cpus);
                gpus.retain(|gpu| !share.gpus.contains(gpu));
            }
        }
    }

    fn share(
        &self,
        node: &Node,
        site: &Site,
        part: &Part,
        lent: Option<&CpuSet>,
    ) -> Option<NodeShare> {
        let free = match lent {
            Some(lent) => node.cpus_free.union(lent),
            None => node.cpus_free.clone(),
        };
        let (cpus, gpus) = match self.taken.get(&part.node) {
            None => (free, node.gpus_free.clone()),
            Some((cpus, gpus)) => {
                let mut left = node.gpus_free.clone();
                left.retain(|gpu| !gpus.contains(gpu));
                (free.subtract(cpus), left)
            }
        };
        let count = part.amount.cpus as usize;
        let picked = pick_cpus(&node.inventory.topology, &cpus, count);
        let gpus = pick_gpus(&node.inventory.topology, site, &gpus, &picked, part)?;
        (picked.len() == part.amount.cpus).then_some(NodeShare {
            node: part.node,
            tasks: part.tasks,
            cpus: picked,
            memory_mib: part.amount.memory_mib,
            gpus,
        })
    }
}

/// Cpus of one NUMA node where one has enough (the tightest), else in the machine's order.
fn pick_cpus(topology: &Topology, free: &CpuSet, count: usize) -> CpuSet {
    let free_of = |numa: u32| {
        topology
            .cpus
            .iter()
            .filter(move |cpu| cpu.numa == numa && free.contains_id(cpu.id))
            .map(|cpu| cpu.id)
    };
    let tightest = topology
        .numa_nodes
        .iter()
        .map(|numa| (free_of(numa.id).count(), numa.id))
        .filter(|(room, _)| *room >= count)
        .min();
    match tightest {
        Some((_, numa)) => free_of(numa).take(count).collect(),
        None => topology
            .cpus
            .iter()
            .map(|cpu| cpu.id)
            .filter(|id| free.contains_id(*id))
            .take(count)
            .collect(),
    }
}

/// GPUs beside the chosen cpus first, so many of each kind.
fn pick_gpus(
    topology: &Topology,
    site: &Site,
    free: &[u32],
    cpus: &CpuSet,
    part: &Part,
) -> Option<Vec<u32>> {
    if part.amount.gpus.iter().all(|count| *count == 0) {
        return Some(Vec::new());
    }
    let beside = |numa: Option<u32>| {
        numa.is_some_and(|numa| {
            topology
                .cpus
                .iter()
                .any(|cpu| cpu.numa == numa && cpus.contains_id(cpu.id))
        })
    };
    let mut order: Vec<(bool, u32, usize)> = topology
        .gpus
        .iter()
        .filter(|gpu| free.contains(&gpu.index))
        .filter_map(|gpu| Some((!beside(gpu.numa), gpu.index, site.kind_of(&gpu.kind)?)))
        .collect();
    order.sort_unstable();
    let mut picked = Vec::new();
    for (kind, count) in part.amount.gpus.into_iter().enumerate() {
        let of_kind = order.iter().filter(|(_, _, at)| *at == kind);
        let before = picked.len();
        picked.extend(of_kind.map(|(_, index, _)| *index).take(usize::from(count)));
        if picked.len() - before < usize::from(count) {
            return None;
        }
    }
    picked.sort_unstable();
    Some(picked)
}
