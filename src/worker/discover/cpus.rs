//! Cpus and NUMA nodes as hwloc sees them.
//!
//! Only cores, packages and NUMA nodes are asked for: caches and devices cost time and nobody reads them yet. The
//! `x86` component is left out, since it moves this thread over every cpu of the machine to ask each by `cpuid`, and
//! Linux tells the same in sysfs.

use std::collections::{BTreeMap, BTreeSet};

use hwlocality::Topology as Hwloc;
use hwlocality::object::TopologyObject;
use hwlocality::object::attributes::ObjectAttributes;
use hwlocality::object::types::ObjectType;
use hwlocality::topology::builder::{TopologyBuilder, TypeFilter};

use super::{DiscoverError, memory};
use crate::model::topology::{LogicalCpu, NumaNode, Topology};

/// Which machine to describe.
pub(super) enum Source {
    /// This one, or what hwloc's variables name.
    Environment,
    /// One described in hwloc's synthetic notation.
    #[cfg(test)]
    Synthetic(&'static str),
}

/// Everything of the topology but the GPUs.
pub(super) fn discover(source: &Source) -> Result<Topology, DiscoverError> {
    let hwloc = load(source)?;
    let allowed = if hwloc.is_this_system() {
        allowed_cpus()
    } else {
        None
    };
    let mut topology = describe(&hwloc, allowed.as_ref().map(|allowed| &allowed.ids));
    if topology.cpus.is_empty() {
        return Err(DiscoverError::NoCpus {
            allowed: allowed.map_or_else(|| "none".into(), |allowed| allowed.text),
        });
    }
    if hwloc.is_this_system() {
        let only_node = topology.numa_nodes.len() == 1 && memory::is_in_one_node();
        let physical = memory::physical_mib(topology.memory_mib, only_node);
        if only_node {
            topology.numa_nodes[0].memory_mib = physical;
        }
        topology.memory_mib = memory::limited_mib(physical);
    }
    Ok(topology)
}

fn load(source: &Source) -> Result<Hwloc, DiscoverError> {
    let mut builder = TopologyBuilder::new();
    builder = match source {
        Source::Environment => builder,
        #[cfg(test)]
        Source::Synthetic(description) => builder
            .from_synthetic(description)
            .map_err(|error| hwloc_failed("read the synthetic description", error))?,
    };
    builder = builder
        .without_component("x86")
        .map_err(|error| hwloc_failed("leave out a component", error))?;
    builder = builder
        .with_common_type_filter(TypeFilter::KeepNone)
        .map_err(|error| hwloc_failed("set a filter", error))?;
    // Without groups hwloc attaches a NUMA node that is only a part of a package to the whole of it.
    for (object, filter) in [
        (ObjectType::Core, TypeFilter::KeepAll),
        (ObjectType::Package, TypeFilter::KeepAll),
        (ObjectType::Group, TypeFilter::KeepStructure),
    ] {
        builder = builder
            .with_type_filter(object, filter)
            .map_err(|error| hwloc_failed("set a filter", error))?;
    }
    builder
        .build()
        .map_err(|error| hwloc_failed("look at this machine", error))
}

fn hwloc_failed(
    doing: &'static str,
    source: impl std::error::Error + Send + Sync + 'static,
) -> DiscoverError {
    DiscoverError::Hwloc {
        doing,
        source: Box::new(source),
    }
}

fn describe(hwloc: &Hwloc, allowed: Option<&BTreeSet<u32>>) -> Topology {
    let mut numa_objects: Vec<(u32, &TopologyObject)> = hwloc
        .objects_with_type(ObjectType::NUMANode)
        .filter_map(|object| Some((os_index(object)?, object)))
        .collect();
    numa_objects.sort_by_key(|&(id, _)| id);

    let mut cores = Numbers::default();
    let mut cpus = Vec::new();
    for pu in hwloc.objects_with_type(ObjectType::PU) {
        // Numbered before any cpu is dropped, so that a core keeps its number whatever the process is limited to.
        let core = cores.number(pu.first_ancestor_with_type(ObjectType::Core).unwrap_or(pu));
        let Some(id) = os_index(pu) else { continue };
        if allowed.is_some_and(|allowed| !allowed.contains(&id)) {
            continue;
        }
        let package = pu
            .first_ancestor_with_type(ObjectType::Package)
            .and_then(os_index)
            .unwrap_or(0);
        cpus.push(LogicalCpu {
            id,
            core,
            package,
            numa: numa_of(pu, &numa_objects),
            real: true,
        });
    }
    cpus.sort_by_key(|cpu| cpu.id);

    let distances = distances(hwloc, &numa_objects);
    let numa_nodes: Vec<NumaNode> = numa_objects
        .iter()
        .enumerate()
        .map(|(at, &(id, object))| NumaNode {
            id,
            cpus: cpus
                .iter()
                .filter(|cpu| cpu.numa == id)
                .map(|cpu| cpu.id)
                .collect(),
            memory_mib: local_memory_bytes(object) >> 20,
            distances: distances.get(at).cloned().unwrap_or_default(),
        })
        .collect();
    let memory_bytes: u64 = numa_objects
        .iter()
        .map(|&(_, object)| local_memory_bytes(object))
        .sum();
    Topology {
        cpus,
        numa_nodes,
        memory_mib: memory_bytes >> 20,
        gpus: Vec::new(),
    }
}

/// Dense numbers for objects, in the order in which they are met (hwloc's order, which is the order of closeness).
#[derive(Default)]
struct Numbers(BTreeMap<u64, u32>);

impl Numbers {
    fn number(&mut self, object: &TopologyObject) -> u32 {
        let next = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        *self
            .0
            .entry(object.global_persistent_index())
            .or_insert(next)
    }
}

fn os_index(object: &TopologyObject) -> Option<u32> {
    u32::try_from(object.os_index()?).ok()
}

/// The node whose memory is local to this cpu: of several (fast memory beside ordinary) the lowest number, which is
/// the ordinary one. A cpu without local memory counts to the first node.
fn numa_of(pu: &TopologyObject, numa_objects: &[(u32, &TopologyObject)]) -> u32 {
    let local = pu.nodeset().and_then(|nodes| {
        numa_objects
            .iter()
            .find(|&&(_, object)| object.nodeset().is_some_and(|own| nodes.includes(own)))
    });
    local.or(numa_objects.first()).map_or(0, |&(id, _)| id)
}

fn local_memory_bytes(numa: &TopologyObject) -> u64 {
    match numa.attributes() {
        Some(ObjectAttributes::NUMANode(numa)) => numa.local_memory().map_or(0, u64::from),
        _ => 0,
    }
}

/// One row a node, in the order given; empty where the machine tells no distances for exactly these nodes.
fn distances(hwloc: &Hwloc, numa_objects: &[(u32, &TopologyObject)]) -> Vec<Vec<u32>> {
    let Ok(matrices) = hwloc.distances_with_type(None, ObjectType::NUMANode) else {
        return Vec::new();
    };
    for matrix in &matrices {
        let at: BTreeMap<u32, usize> = matrix
            .objects()
            .enumerate()
            .filter_map(|(at, object)| Some((os_index(object?)?, at)))
            .collect();
        let Some(order) = numa_objects
            .iter()
            .map(|(id, _)| at.get(id).copied())
            .collect::<Option<Vec<usize>>>()
        else {
            continue;
        };
        let width = matrix.num_objects();
        let values = matrix.distances();
        return order
            .iter()
            .map(|from| {
                order
                    .iter()
                    .map(|to| u32::try_from(values[from * width + to]).unwrap_or(u32::MAX))
                    .collect()
            })
            .collect();
    }
    Vec::new()
}

/// The cpus that this process may use.
struct AllowedCpus {
    ids: BTreeSet<u32>,
    text: String,
}

/// Affinity and cpuset together, from the kernel's own list: unlike the buffer of `sched_getaffinity` it has no size
/// to guess. `None` where the list cannot be read: then hwloc's restriction by the cpuset alone holds.
fn allowed_cpus() -> Option<AllowedCpus> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let text = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?
        .trim();
    Some(AllowedCpus {
        ids: parse_cpu_list(text)?,
        text: text.into(),
    })
}

/// A cpu list as the kernel writes it: `0-3,8,10-11`; an empty one is no cpus.
pub(super) fn parse_cpu_list(text: &str) -> Option<BTreeSet<u32>> {
    let mut ids = BTreeSet::new();
    for part in text
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
    {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        // The kernel's own limit is 8192; a longer list is not one of cpus.
        if last < first || last > 1 << 20 {
            return None;
        }
        ids.extend(first..=last);
    }
    Some(ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn synthetic(description: &'static str) -> Topology {
        discover(&Source::Synthetic(description)).expect(description)
    }

    /// What a synthetic description must come out as.
    struct Expected {
        cpus: usize,
        cores: usize,
        packages: usize,
        numa_nodes: usize,
        mib_each: u64,
    }

    #[test]
    fn synthetic_machines() {
        let expected = |cpus, cores, packages, numa_nodes, mib_each| Expected {
            cpus,
            cores,
            packages,
            numa_nodes,
            mib_each,
        };
        let cases = [
            (
                "pack:2 [numa(memory=64GiB)] l3:4 core:4 pu:2",
                expected(64, 32, 2, 2, 64 << 10),
            ),
            (
                "numa:1(memory=16GiB) core:8 pu:1",
                expected(8, 8, 1, 1, 16 << 10),
            ),
            (
                "pack:2 group:4 [numa(memory=32GiB)] core:8 pu:2",
                expected(128, 64, 2, 8, 32 << 10),
            ),
            (
                "pack:1 [numa(memory=1GiB)] core:1 pu:1",
                expected(1, 1, 1, 1, 1 << 10),
            ),
            (
                "pack:1 [numa(memory=4GiB)] pu:4",
                expected(4, 4, 1, 1, 4 << 10),
            ),
            (
                "pack:4 [numa(memory=2GiB)] core:32 pu:2",
                expected(256, 128, 4, 4, 2 << 10),
            ),
        ];
        for (description, expected) in cases {
            let found = synthetic(description);
            assert_eq!(found.cpu_count(), expected.cpus, "{description}");
            assert_eq!(found.core_count(), expected.cores, "{description}");
            assert_eq!(found.package_count(), expected.packages, "{description}");
            assert_eq!(found.numa_nodes.len(), expected.numa_nodes, "{description}");
            for node in &found.numa_nodes {
                assert_eq!(
                    node.cpus.len(),
                    expected.cpus / expected.numa_nodes,
                    "{description}"
                );
                assert_eq!(node.memory_mib, expected.mib_each, "{description}");
            }
            assert_eq!(
                found.memory_mib,
                expected.mib_each * expected.numa_nodes as u64,
                "{description}"
            );
        }
    }

    #[test]
    fn threads_numbered_apart_are_neighbours_in_the_order_of_closeness() {
        // The kernel's usual numbering: all first threads, then all second ones.
        let found = synthetic("pack:2 [numa] core:2 pu:2(indexes=0,4,1,5,2,6,3,7)");
        assert_eq!(found.cpus_by_closeness(), [0, 4, 1, 5, 2, 6, 3, 7]);
        assert_eq!(found.cpu(4).map(|cpu| cpu.core), Some(0));
        assert_eq!(found.numa_nodes[1].cpus, [2, 3, 6, 7]);
    }

    #[test]
    fn sparse_numa_numbers_are_kept() {
        let found = synthetic("pack:2 [numa(indexes=0,8)] core:2 pu:1");
        assert_eq!(
            found
                .numa_nodes
                .iter()
                .map(|node| node.id)
                .collect::<Vec<_>>(),
            [0, 8]
        );
        assert_eq!(found.cpus[3].numa, 8);
    }

    #[test]
    fn fast_memory_beside_ordinary_has_no_cpus_of_its_own() {
        let found = synthetic("pack:1 [numa(memory=8GiB)] [numa(memory=2GiB)] core:4 pu:1");
        let shown: Vec<_> = found
            .numa_nodes
            .iter()
            .map(|node| (node.id, node.cpus.len(), node.memory_mib))
            .collect();
        assert_eq!(shown, [(0, 4, 8192), (1, 0, 2048)]);
        assert_eq!(found.memory_mib, 10240);
    }

    #[test]
    fn a_restriction_keeps_core_numbers() {
        let hwloc = load(&Source::Synthetic("pack:2 [numa] core:2 pu:2")).unwrap();
        let found = describe(&hwloc, Some(&BTreeSet::from([3, 6])));
        let shown: Vec<_> = found
            .cpus
            .iter()
            .map(|cpu| (cpu.id, cpu.core, cpu.package, cpu.numa))
            .collect();
        assert_eq!(shown, [(3, 1, 0, 0), (6, 3, 1, 1)]);
        assert_eq!(found.numa_nodes[0].cpus, [3]);
        assert_eq!(found.numa_nodes.len(), 2, "memory stays usable");
    }

    #[test]
    fn nonsense_is_an_error() {
        assert!(discover(&Source::Synthetic("pack:two")).is_err());
    }

    #[test]
    fn cpu_lists() {
        let list = |text| parse_cpu_list(text).map(|ids| ids.into_iter().collect::<Vec<_>>());
        assert_eq!(list("0-2,8,10-11"), Some(vec![0, 1, 2, 8, 10, 11]));
        assert_eq!(list(""), Some(vec![]));
        for bad in ["x", "3-1", "1-", "0-4294967295"] {
            assert_eq!(list(bad), None, "{bad}");
        }
    }
}
