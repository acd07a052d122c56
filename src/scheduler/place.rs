//! Which nodes, cores, memory and GPUs a job gets.
//!
//! One node where one serves: the one with the fewest free cpus that still holds all tasks, so that room
//! stays together for wide jobs. Else as few nodes as hold the tasks, those with most room first; each gets
//! at least one task and the first ones are filled (Slurm's order: 3 + 1, not 2 + 2). On a node, cpus of
//! one NUMA node where it has enough, GPUs beside them.

use super::fit::{FreeNode, FreeNodes};
use crate::model::allocation::{Allocation, NodeShare};
use crate::model::cpu_set::CpuSet;
use crate::model::job::Owner;
use crate::model::resource::{GpuCount, GpuRequest, MemoryRequest, Request};

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoPlace {
    /// Others hold it now.
    NotNow,
    /// Nodes that it needs are down, silent or drained.
    NotAvailable,
}

/// Memory that `tasks` tasks take on a node; MiB.
#[must_use]
pub fn memory_for(request: &Request, cpus: u32, memory_total_mib: u64, cpus_total: u32) -> u64 {
    let cpus = u64::from(cpus);
    match request.memory {
        MemoryRequest::Default => memory_total_mib / u64::from(cpus_total.max(1)) * cpus,
        MemoryRequest::PerNode(0) => memory_total_mib,
        MemoryRequest::PerNode(mib) => mib,
        MemoryRequest::PerCpu(mib) => mib.saturating_mul(cpus),
    }
}

/// Whether this node may serve this job at all, free or not.
#[must_use]
pub fn admits(request: &Request, owner: &Owner, node: &crate::model::node::Node) -> bool {
    let named = |list: &[String]| list.iter().any(|name| name == node.name());
    node.serves.admits(owner)
        && (request.nodelist.is_empty() || named(&request.nodelist))
        && !named(&request.exclude)
}

/// Whether this node may be given this job now, as far as its state goes. Files are carried from drained nodes too.
#[must_use]
pub fn is_open(request: &Request, node: &crate::model::node::Node) -> bool {
    node.accepts_work() || (request.takes_nothing() && node.is_up())
}

fn gpus_of_kind(free: &FreeNode<'_>, kind: Option<&str>) -> Vec<u32> {
    free.node
        .inventory
        .topology
        .gpus
        .iter()
        .filter(|gpu| kind.is_none_or(|kind| kind.eq_ignore_ascii_case(&gpu.kind)))
        .map(|gpu| gpu.index)
        .filter(|index| free.gpus.contains(index))
        .collect()
}

fn gpu_kind(request: &Request) -> Option<&str> {
    match &request.gpus {
        GpuRequest::None => None,
        GpuRequest::PerNode(GpuCount { kind, .. })
        | GpuRequest::PerTask(GpuCount { kind, .. })
        | GpuRequest::Total(GpuCount { kind, .. }) => kind.as_deref(),
    }
}

/// How many tasks of this request a node with these free resources holds.
#[must_use]
pub fn capacity(request: &Request, free: &FreeNode<'_>) -> u32 {
    let node = free.node;
    let cpus_free = free.cpus.len();
    if request.exclusive && cpus_free != node.cpus_total() {
        return 0;
    }
    let per_task = request.cpus_per_task_or_default();
    let mut tasks = cpus_free.checked_div(per_task).unwrap_or(u32::MAX);
    match request.memory {
        MemoryRequest::PerNode(_) => {
            let need = memory_for(request, 0, node.memory_total_mib(), node.cpus_total());
            if need > free.memory_mib {
                return 0;
            }
        }
        MemoryRequest::Default | MemoryRequest::PerCpu(_) => {
            let one = memory_for(
                request,
                per_task,
                node.memory_total_mib(),
                node.cpus_total(),
            );
            if let Some(most) = free.memory_mib.checked_div(one) {
                tasks = tasks.min(u32::try_from(most).unwrap_or(u32::MAX));
            }
        }
    }
    let gpus = || u32::try_from(gpus_of_kind(free, gpu_kind(request)).len()).unwrap_or(u32::MAX);
    match &request.gpus {
        GpuRequest::None => {}
        GpuRequest::PerNode(wanted) if gpus() < wanted.count => return 0,
        GpuRequest::PerTask(wanted) if wanted.count > 0 => tasks = tasks.min(gpus() / wanted.count),
        GpuRequest::PerNode(_) | GpuRequest::PerTask(_) | GpuRequest::Total(_) => {}
    }
    request
        .ntasks_per_node
        .map_or(tasks, |most| tasks.min(most))
}

/// How many nodes at least and at most.
fn node_range(request: &Request) -> (usize, usize) {
    let tasks = request.ntasks_or_default();
    let mut least = request.nodes_min.max(1);
    if let Some(per_node) = request.ntasks_per_node {
        least = least.max(tasks.div_ceil(per_node.max(1)));
    }
    if request.nodes_max.is_none() {
        // A list of nodes means all of them, as far as there are tasks for them.
        let listed = u32::try_from(request.nodelist.len()).unwrap_or(u32::MAX);
        least = least.max(listed.min(tasks));
    }
    let most = request.nodes_max.unwrap_or(tasks).max(least);
    (least as usize, most as usize)
}

/// A place for one slot of this request, or why there is none now.
///
/// # Errors
/// [`NoPlace`].
pub fn place(
    request: &Request,
    owner: &Owner,
    free: &FreeNodes<'_>,
) -> Result<Allocation, NoPlace> {
    let admitted = || {
        free.nodes
            .iter()
            .filter(|node| admits(request, owner, node.node))
    };
    let candidates: Vec<(&FreeNode<'_>, u32)> = admitted()
        .filter(|node| is_open(request, node.node))
        .map(|node| (node, capacity(request, node)))
        .filter(|(_, tasks)| *tasks > 0)
        .collect();
    choose(request, &candidates).ok_or_else(|| {
        let away = admitted().any(|node| !is_open(request, node.node));
        if away && !super::feasible::fits_on_available(request, owner, free) {
            NoPlace::NotAvailable
        } else {
            NoPlace::NotNow
        }
    })
}

/// The choice among nodes that hold at least one task each.
#[must_use]
pub fn choose(request: &Request, candidates: &[(&FreeNode<'_>, u32)]) -> Option<Allocation> {
    let tasks = request.ntasks_or_default();
    let (least, most) = node_range(request);
    if least <= 1 {
        let one = candidates
            .iter()
            .filter(|(_, holds)| *holds >= tasks)
            .filter(|(node, _)| shares(request, &[(*node, tasks)]).is_some())
            .min_by_key(|(node, _)| (node.cpus.len(), node.node.id));
        if let Some((node, _)) = one {
            return shares(request, &[(*node, tasks)]);
        }
    }
    let mut by_room: Vec<_> = candidates.to_vec();
    by_room.sort_by_key(|(node, holds)| (std::cmp::Reverse(*holds), node.node.id));
    for count in least.max(2)..=most.min(by_room.len()) {
        let mut chosen: Vec<_> = by_room[..count].to_vec();
        let room: u64 = chosen.iter().map(|(_, holds)| u64::from(*holds)).sum();
        if room < u64::from(tasks) || (count as u64) > u64::from(tasks) {
            continue;
        }
        chosen.sort_by_key(|(node, _)| node.node.id);
        let mut rest = tasks - u32::try_from(count).ok()?;
        let filled: Vec<(&FreeNode<'_>, u32)> = chosen
            .into_iter()
            .map(|(node, holds)| {
                let more = rest.min(holds - 1);
                rest -= more;
                (node, 1 + more)
            })
            .collect();
        if let Some(allocation) = shares(request, &filled) {
            return Some(allocation);
        }
    }
    None
}

/// Picks cpus, memory and GPUs on the chosen nodes.
fn shares(request: &Request, chosen: &[(&FreeNode<'_>, u32)]) -> Option<Allocation> {
    let mut gpus_wanted_total = match &request.gpus {
        GpuRequest::Total(wanted) => wanted.count,
        _ => 0,
    };
    let mut nodes = Vec::with_capacity(chosen.len());
    for (at, (free, tasks)) in chosen.iter().enumerate() {
        let node = free.node;
        let cpu_count = tasks.saturating_mul(request.cpus_per_task_or_default());
        let cpus = if request.exclusive {
            free.cpus.clone()
        } else {
            pick_cpus(free, cpu_count as usize)
        };
        let granted = cpus.len();
        let memory_mib = if request.exclusive && request.memory == MemoryRequest::Default {
            free.memory_mib
        } else {
            memory_for(
                request,
                granted.min(cpu_count),
                node.memory_total_mib(),
                node.cpus_total(),
            )
        };
        let available = gpus_of_kind(free, gpu_kind(request));
        let gpu_count = match &request.gpus {
            GpuRequest::None => 0,
            GpuRequest::PerNode(wanted) => wanted.count,
            GpuRequest::PerTask(wanted) => wanted.count.saturating_mul(*tasks),
            GpuRequest::Total(_) => {
                // Spread evenly over the nodes that are left, as far as they have them.
                let left = u32::try_from(chosen.len() - at).ok()?;
                let part = gpus_wanted_total
                    .div_ceil(left)
                    .min(u32::try_from(available.len()).ok()?);
                gpus_wanted_total -= part;
                part
            }
        };
        if memory_mib > free.memory_mib || available.len() < gpu_count as usize {
            return None;
        }
        let gpus = pick_gpus(free, &available, &cpus, gpu_count as usize);
        nodes.push(NodeShare {
            node: node.id,
            tasks: *tasks,
            cpus,
            memory_mib,
            gpus,
        });
    }
    (gpus_wanted_total == 0).then_some(Allocation { nodes })
}

/// Cpus of one NUMA node where one has enough (the tightest), else in the machine's order.
fn pick_cpus(free: &FreeNode<'_>, count: usize) -> CpuSet {
    let topology = &free.node.inventory.topology;
    let free_of = |numa: u32| {
        topology
            .cpus
            .iter()
            .filter(move |cpu| cpu.numa == numa && free.cpus.contains_id(cpu.id))
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
            .filter(|id| free.cpus.contains_id(*id))
            .take(count)
            .collect(),
    }
}

/// GPUs beside the chosen cpus first.
fn pick_gpus(free: &FreeNode<'_>, available: &[u32], cpus: &CpuSet, count: usize) -> Vec<u32> {
    let topology = &free.node.inventory.topology;
    let beside = |index: u32| {
        let numa = topology
            .gpus
            .iter()
            .find(|gpu| gpu.index == index)
            .and_then(|gpu| gpu.numa);
        numa.is_some_and(|numa| {
            topology
                .cpus
                .iter()
                .any(|cpu| cpu.numa == numa && cpus.contains_id(cpu.id))
        })
    };
    let mut order: Vec<u32> = available.to_vec();
    order.sort_by_key(|index| (!beside(*index), *index));
    order.truncate(count);
    order.sort_unstable();
    order
}
