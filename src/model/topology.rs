//! What a node is made of: logical cpus, cores, packages, NUMA nodes, memory and GPUs, and which of them are close
//! together.
//!
//! This is plain data. `worker/discover/` measures it on a real machine; [`Topology::declared`] changes the amounts
//! for somebody who wants to try a large node on a small one. Placement (`scheduler/place.rs`) and pinning
//! (`shepherd/affinity.rs`) read it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// One logical cpu: a hardware thread, the unit that jobs are given and pinned to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LogicalCpu {
    /// The kernel's number, as in `/proc/cpuinfo`, `taskset` and `cpuset.cpus`.
    pub id: u32,
    /// The core; numbered from 0 without gaps over the whole node, so unlike the kernel's `core_id` it is unique.
    pub core: u32,
    /// The package (socket).
    pub package: u32,
    /// The NUMA node whose memory is local: the `id` of one of [`Topology::numa_nodes`].
    pub numa: u32,
    /// False for a cpu that was declared and not found: it counts, and nothing can be pinned to it.
    pub real: bool,
}

/// One NUMA node: memory and the cpus to which it is local.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NumaNode {
    /// The kernel's number. Numbers may have gaps.
    pub id: u32,
    /// The cpus of which this is the node, ascending. Each cpu is in exactly one node's list; a node that is only
    /// memory (CXL, high-bandwidth memory) has none.
    pub cpus: Vec<u32>,
    /// The memory of the node in MiB; 0 where the machine does not say.
    pub memory_mib: u64,
    /// Distance to each node, itself included, in the order of [`Topology::numa_nodes`]; 10 is local. Empty where
    /// the machine does not say.
    pub distances: Vec<u32>,
}

/// One graphics card or other accelerator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gpu {
    /// The driver's number, in the order of the PCI bus.
    pub index: u32,
    /// What users ask for in `--gpus KIND:N`: `a100`, `rtx_4090`; `gpu` where unknown.
    pub kind: String,
    /// The driver's unique name, which stays with the card; empty where unknown.
    pub uuid: String,
    /// The card's memory in MiB; 0 where unknown.
    pub memory_mib: u64,
    /// The NUMA node that the card is attached to.
    pub numa: Option<u32>,
    /// The minor number of the device file (`/dev/nvidia<minor>`).
    pub minor: Option<u32>,
    /// False for a card that was declared and not found.
    pub real: bool,
}

/// What a node has that jobs may use, and how it lies together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topology {
    /// The cpus that jobs may use, ascending by id.
    #[serde(deserialize_with = "super::bounded::list")]
    pub cpus: Vec<LogicalCpu>,
    /// The NUMA nodes, ascending by id; at least one where there is a cpu.
    #[serde(deserialize_with = "super::bounded::few")]
    pub numa_nodes: Vec<NumaNode>,
    /// Memory of the node in MiB; less than the sum over `numa_nodes` where a cgroup limits it.
    pub memory_mib: u64,
    /// The GPUs, ascending by index.
    #[serde(deserialize_with = "super::bounded::few")]
    pub gpus: Vec<Gpu>,
}

/// A number of GPUs of one kind, as declared in place of what was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeclaredGpus {
    /// The kind; the first real cards of this kind are used before any are invented.
    pub kind: String,
    /// How many.
    pub count: u32,
}

/// Amounts declared in place of those measured (`--cpus`, `--memory`, `--gpus`); `None` keeps what was measured.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Declared {
    /// Number of logical cpus.
    pub cpus: Option<u32>,
    /// Memory in MiB.
    pub memory_mib: Option<u64>,
    /// The GPUs, all of them: an empty list means none.
    pub gpus: Option<Vec<DeclaredGpus>>,
}

impl Topology {
    /// Number of logical cpus.
    pub fn cpu_count(&self) -> usize {
        self.cpus.len()
    }

    /// Number of cores that have at least one cpu here.
    pub fn core_count(&self) -> usize {
        self.cpus
            .iter()
            .map(|cpu| cpu.core)
            .collect::<BTreeSet<_>>()
            .len()
    }

    /// Number of packages (sockets) that have at least one cpu here.
    pub fn package_count(&self) -> usize {
        self.cpus
            .iter()
            .map(|cpu| cpu.package)
            .collect::<BTreeSet<_>>()
            .len()
    }

    /// The cpu with this id.
    pub fn cpu(&self, id: u32) -> Option<&LogicalCpu> {
        let at = self.cpus.binary_search_by_key(&id, |cpu| cpu.id).ok()?;
        self.cpus.get(at)
    }

    /// The NUMA node with this id.
    pub fn numa_node(&self, id: u32) -> Option<&NumaNode> {
        let at = self
            .numa_nodes
            .binary_search_by_key(&id, |node| node.id)
            .ok()?;
        self.numa_nodes.get(at)
    }

    /// All cpu ids, ordered so that neighbours in the list are close: threads of a core, then cores of a NUMA node,
    /// then NUMA nodes of a package. (The package leads because some boards number their NUMA nodes across packages
    /// in turn; within one package the order is by NUMA node, core and thread.)
    pub fn cpus_by_closeness(&self) -> Vec<u32> {
        let mut cpus: Vec<&LogicalCpu> = self.cpus.iter().collect();
        cpus.sort_by_key(|cpu| (cpu.package, cpu.numa, cpu.core, cpu.id));
        cpus.into_iter().map(|cpu| cpu.id).collect()
    }

    /// True where every cpu and GPU was found rather than declared.
    pub fn is_real(&self) -> bool {
        self.cpus.iter().all(|cpu| cpu.real) && self.gpus.iter().all(|gpu| gpu.real)
    }

    /// This topology with declared amounts in place of measured ones.
    ///
    /// Fewer cpus than found: the first in the order of closeness stay. More: further cpus, marked as not real, each
    /// a core of its own, fill the NUMA nodes evenly. Memory is shared out over the NUMA nodes as the measured memory
    /// was. GPUs are the declared ones; real cards of the kind serve first.
    pub fn declared(mut self, declared: &Declared) -> Self {
        if let Some(count) = declared.cpus {
            self.declare_cpus(count);
        }
        if let Some(memory_mib) = declared.memory_mib {
            self.declare_memory(memory_mib);
        }
        if let Some(gpus) = &declared.gpus {
            self.gpus = declare_gpus(&self.gpus, gpus);
        }
        self
    }

    fn declare_cpus(&mut self, count: u32) {
        let wanted = count as usize;
        if wanted < self.cpus.len() {
            let kept: BTreeSet<u32> = self.cpus_by_closeness().into_iter().take(wanted).collect();
            self.cpus.retain(|cpu| kept.contains(&cpu.id));
        } else {
            self.invent_cpus(wanted - self.cpus.len());
        }
        let mut cpus_of: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for cpu in &self.cpus {
            cpus_of.entry(cpu.numa).or_default().push(cpu.id);
        }
        for node in &mut self.numa_nodes {
            node.cpus = cpus_of.remove(&node.id).unwrap_or_default();
        }
    }

    fn invent_cpus(&mut self, count: usize) {
        if self.numa_nodes.is_empty() {
            self.numa_nodes.push(NumaNode {
                id: 0,
                cpus: Vec::new(),
                memory_mib: self.memory_mib,
                distances: vec![10],
            });
        }
        // Nodes that are only memory stay so, unless there is no other.
        let mut places: Vec<Place> = self
            .numa_nodes
            .iter()
            .filter(|node| !node.cpus.is_empty())
            .map(|node| Place {
                cpus: node.cpus.len(),
                numa: node.id,
                package: self
                    .cpus
                    .iter()
                    .find(|cpu| cpu.numa == node.id)
                    .map_or(0, |cpu| cpu.package),
            })
            .collect();
        if places.is_empty() {
            places.push(Place {
                cpus: 0,
                numa: self.numa_nodes[0].id,
                package: 0,
            });
        }
        let first_id = self.cpus.last().map_or(0, |cpu| cpu.id + 1);
        let first_core = self.cpus.iter().map(|cpu| cpu.core + 1).max().unwrap_or(0);
        for (id, core) in (first_id..).zip(first_core..).take(count) {
            let Some(place) = places.iter_mut().min_by_key(|place| place.cpus) else {
                return;
            };
            place.cpus += 1;
            self.cpus.push(LogicalCpu {
                id,
                core,
                package: place.package,
                numa: place.numa,
                real: false,
            });
        }
    }

    fn declare_memory(&mut self, memory_mib: u64) {
        let measured: u64 = self.numa_nodes.iter().map(|node| node.memory_mib).sum();
        let nodes = self.numa_nodes.len() as u64;
        let mut left = memory_mib;
        let mut weight_left = if measured > 0 { measured } else { nodes };
        for node in &mut self.numa_nodes {
            let weight = if measured > 0 { node.memory_mib } else { 1 };
            // The last node of any weight takes what rounding left over, so the sum is exact.
            let share = if weight == 0 {
                0
            } else {
                u64::try_from(u128::from(left) * u128::from(weight) / u128::from(weight_left))
                    .unwrap_or(left)
            };
            node.memory_mib = share;
            left -= share;
            weight_left -= weight;
        }
        self.memory_mib = memory_mib;
    }
}

/// Where invented cpus can go, and how many cpus are there already.
struct Place {
    cpus: usize,
    numa: u32,
    package: u32,
}

fn declare_gpus(found: &[Gpu], declared: &[DeclaredGpus]) -> Vec<Gpu> {
    let mut left: Vec<&Gpu> = found.iter().collect();
    let mut gpus = Vec::new();
    let mut next_index = found.iter().map(|gpu| gpu.index + 1).max().unwrap_or(0);
    for wanted in declared {
        for _ in 0..wanted.count {
            if let Some(at) = left.iter().position(|gpu| gpu.kind == wanted.kind) {
                gpus.push(left.remove(at).clone());
                continue;
            }
            gpus.push(Gpu {
                index: next_index,
                kind: wanted.kind.clone(),
                uuid: String::new(),
                memory_mib: 0,
                numa: None,
                minor: None,
                real: false,
            });
            next_index += 1;
        }
    }
    gpus.sort_by_key(|gpu| gpu.index);
    gpus
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two packages with a NUMA node each, ids 0 and 8; two cores of two threads in each. The kernel numbers first
    /// threads before second ones, as x86 machines do.
    fn machine() -> Topology {
        let cpu = |id, core, package, numa| LogicalCpu {
            id,
            core,
            package,
            numa,
            real: true,
        };
        let node = |id, cpus: &[u32], distances: &[u32]| NumaNode {
            id,
            cpus: cpus.to_vec(),
            memory_mib: 1000,
            distances: distances.to_vec(),
        };
        Topology {
            cpus: vec![
                cpu(0, 0, 0, 0),
                cpu(1, 1, 0, 0),
                cpu(2, 2, 1, 8),
                cpu(3, 3, 1, 8),
                cpu(4, 0, 0, 0),
                cpu(5, 1, 0, 0),
                cpu(6, 2, 1, 8),
                cpu(7, 3, 1, 8),
            ],
            numa_nodes: vec![
                node(0, &[0, 1, 4, 5], &[10, 21]),
                node(8, &[2, 3, 6, 7], &[21, 10]),
            ],
            memory_mib: 2000,
            gpus: vec![Gpu {
                index: 0,
                kind: "a100".into(),
                uuid: "GPU-1".into(),
                memory_mib: 81920,
                numa: Some(8),
                minor: Some(0),
                real: true,
            }],
        }
    }

    #[test]
    fn counts_and_look_ups() {
        let machine = machine();
        assert_eq!(
            (
                machine.cpu_count(),
                machine.core_count(),
                machine.package_count()
            ),
            (8, 4, 2)
        );
        assert_eq!(machine.cpu(6).map(|cpu| cpu.core), Some(2));
        assert_eq!(machine.cpu(99), None);
        assert_eq!(
            machine.numa_node(8).map(|node| node.cpus.len()),
            Some(4),
            "numbers may have gaps"
        );
        assert_eq!(machine.numa_node(1), None);
        assert!(machine.is_real());
    }

    #[test]
    fn neighbours_in_the_order_are_close() {
        assert_eq!(machine().cpus_by_closeness(), [0, 4, 1, 5, 2, 6, 3, 7]);
    }

    #[test]
    fn fewer_cpus_keep_the_close_ones_and_the_nodes_agree() {
        let small = machine().declared(&Declared {
            cpus: Some(5),
            ..Declared::default()
        });
        assert_eq!(
            small.cpus.iter().map(|cpu| cpu.id).collect::<Vec<_>>(),
            [0, 1, 2, 4, 5]
        );
        assert_eq!(small.numa_nodes[0].cpus, [0, 1, 4, 5]);
        assert_eq!(small.numa_nodes[1].cpus, [2]);
        assert!(small.is_real());
    }

    #[test]
    fn more_cpus_are_marked_and_spread_evenly() {
        let large = machine().declared(&Declared {
            cpus: Some(14),
            ..Declared::default()
        });
        assert_eq!(large.cpu_count(), 14);
        assert_eq!(
            large.core_count(),
            4 + 6,
            "an invented cpu is a core of its own"
        );
        assert_eq!(large.cpus.iter().filter(|cpu| cpu.real).count(), 8);
        assert_eq!(large.numa_nodes[0].cpus.len(), 7);
        assert_eq!(large.numa_nodes[1].cpus.len(), 7);
        assert!(large.cpus.is_sorted_by_key(|cpu| cpu.id));
        assert!(!large.is_real());
    }

    #[test]
    fn cpus_can_be_declared_out_of_nothing() {
        let made = Topology::default().declared(&Declared {
            cpus: Some(3),
            memory_mib: Some(100),
            gpus: None,
        });
        assert_eq!(made.cpus_by_closeness(), [0, 1, 2]);
        assert_eq!(made.numa_nodes[0].cpus, [0, 1, 2]);
        assert_eq!((made.memory_mib, made.numa_nodes[0].memory_mib), (100, 100));
    }

    #[test]
    fn declared_memory_adds_up_exactly() {
        for memory_mib in [0, 1, 7, 1001, 3001, u64::MAX / 2] {
            let made = machine().declared(&Declared {
                memory_mib: Some(memory_mib),
                ..Declared::default()
            });
            assert_eq!(made.memory_mib, memory_mib);
            assert_eq!(
                made.numa_nodes
                    .iter()
                    .map(|node| node.memory_mib)
                    .sum::<u64>(),
                memory_mib
            );
        }
    }

    #[test]
    fn declared_gpus_use_real_cards_first() {
        let gpus = |kind: &str, count| DeclaredGpus {
            kind: kind.into(),
            count,
        };
        let made = machine().declared(&Declared {
            gpus: Some(vec![gpus("h100", 1), gpus("a100", 2)]),
            ..Declared::default()
        });
        let shown: Vec<_> = made
            .gpus
            .iter()
            .map(|gpu| (gpu.index, gpu.kind.as_str(), gpu.real))
            .collect();
        assert_eq!(
            shown,
            [(0, "a100", true), (1, "h100", false), (2, "a100", false)]
        );
        let none = machine().declared(&Declared {
            gpus: Some(Vec::new()),
            ..Declared::default()
        });
        assert!(none.gpus.is_empty());
    }
}
