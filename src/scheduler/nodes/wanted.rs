//! What of a request is the same on every node, and what it takes of one.

use super::{Free, Part, Parts, Site, narrow};
use crate::model::resource::{GpuCount, GpuRequest, MemoryRequest, Request};

fn gpu_count(request: &Request) -> Option<&GpuCount> {
    match &request.gpus {
        GpuRequest::None => None,
        GpuRequest::PerNode(count) | GpuRequest::PerTask(count) | GpuRequest::Total(count) => {
            Some(count)
        }
    }
}

/// How many nodes at least and at most.
pub(super) fn node_range(request: &Request) -> (usize, usize) {
    let tasks = request.ntasks_or_default();
    let mut least = request.nodes_min.max(1);
    if let Some(per_node) = request.ntasks_per_node {
        least = least.max(tasks.div_ceil(per_node.max(1)));
    }
    if request.nodes_max.is_none() {
        // A list of nodes means all of them, as far as there are tasks for them.
        let listed = narrow(request.nodelist.len());
        least = least.max(listed.min(tasks));
    }
    // Where fewer are allowed than are needed there is no place.
    let most = request.nodes_max.unwrap_or(tasks.max(least));
    (least as usize, most as usize)
}

/// Whether a task of this could be on a node with so much free, if nothing else were in its way. `most` as
/// [`NodePool::most`] says.
#[must_use]
pub fn might_fit(request: &Request, most: &Free) -> bool {
    let per_task = request.cpus_per_task_or_default();
    let memory = match request.memory {
        MemoryRequest::PerNode(mib) => mib,
        MemoryRequest::PerCpu(mib) => mib.saturating_mul(u64::from(per_task)),
        MemoryRequest::Default => 0,
    };
    let gpus = match &request.gpus {
        GpuRequest::PerNode(count) | GpuRequest::PerTask(count) => count.count,
        GpuRequest::Total(_) | GpuRequest::None => 0,
    };
    per_task <= most.cpus && memory <= most.memory_mib && gpus <= u32::from(most.gpus[0])
}

/// What of a request is the same on every node.
pub(super) struct Wanted<'r> {
    pub(super) request: &'r Request,
    pub(super) per_task: u32,
    pub(super) tasks: u32,
    pub(super) gpus: Option<&'r GpuCount>,
}

impl<'r> Wanted<'r> {
    pub(super) fn of(request: &'r Request) -> Self {
        Wanted {
            request,
            per_task: request.cpus_per_task_or_default(),
            tasks: request.ntasks_or_default(),
            gpus: gpu_count(request),
        }
    }

    /// Free GPUs of the kind that is asked for.
    pub(super) fn gpus_free(&self, site: &Site, free: &Free) -> u32 {
        let Some(wanted) = self.gpus else { return 0 };
        site.gpus_free(free, wanted.kind.as_deref())
    }

    /// Memory of so many cpus on this node; MiB.
    fn memory(&self, site: &Site, cpus: u32) -> u64 {
        match self.request.memory {
            MemoryRequest::Default => site.memory_per_cpu.saturating_mul(u64::from(cpus)),
            MemoryRequest::PerNode(0) => site.all.memory_mib,
            MemoryRequest::PerNode(mib) => mib,
            MemoryRequest::PerCpu(mib) => mib.saturating_mul(u64::from(cpus)),
        }
    }

    /// How many tasks a node with so much free holds.
    pub(super) fn capacity(&self, site: &Site, free: &Free) -> u32 {
        let request = self.request;
        if request.exclusive && free.cpus != site.all.cpus {
            return 0;
        }
        let mut tasks = free.cpus.checked_div(self.per_task).unwrap_or(u32::MAX);
        if tasks == 0 {
            return 0;
        }
        let one = self.memory(site, self.per_task);
        match request.memory {
            MemoryRequest::PerNode(_) if one > free.memory_mib => return 0,
            MemoryRequest::PerNode(_) => {}
            MemoryRequest::Default | MemoryRequest::PerCpu(_) => {
                if one.saturating_mul(u64::from(tasks)) > free.memory_mib {
                    let most = free.memory_mib.checked_div(one).unwrap_or(u64::MAX);
                    tasks = tasks.min(u32::try_from(most).unwrap_or(u32::MAX));
                }
            }
        }
        match &request.gpus {
            GpuRequest::None => {}
            GpuRequest::PerNode(wanted) if self.gpus_free(site, free) < wanted.count => return 0,
            GpuRequest::PerTask(wanted) if wanted.count > 0 => {
                tasks = tasks.min(self.gpus_free(site, free) / wanted.count);
            }
            GpuRequest::PerNode(_) | GpuRequest::PerTask(_) | GpuRequest::Total(_) => {}
        }
        request
            .ntasks_per_node
            .map_or(tasks, |most| tasks.min(most))
    }

    /// What so many tasks take on a node; `gpus` of those that are asked for over the whole job.
    pub(super) fn part(
        &self,
        site: &Site,
        free: &Free,
        tasks: u32,
        gpus_total: u32,
    ) -> Option<Part> {
        let request = self.request;
        let asked = tasks.saturating_mul(self.per_task);
        let cpus = if request.exclusive { free.cpus } else { asked };
        let memory_mib = if request.exclusive && request.memory == MemoryRequest::Default {
            free.memory_mib
        } else {
            self.memory(site, asked)
        };
        let gpus = match &request.gpus {
            GpuRequest::None => 0,
            GpuRequest::PerNode(wanted) => wanted.count,
            GpuRequest::PerTask(wanted) => wanted.count.saturating_mul(tasks),
            GpuRequest::Total(_) => gpus_total,
        };
        let kind = self.gpus.and_then(|wanted| wanted.kind.as_deref());
        let amount = Free {
            cpus,
            memory_mib,
            gpus: site.take_gpus(free, kind, gpus)?,
        };
        let fits = cpus <= free.cpus && memory_mib <= free.memory_mib;
        fits.then_some(Part {
            node: site.id,
            tasks,
            amount,
        })
    }

    /// The parts of these nodes with so many tasks each.
    pub(super) fn parts(&self, chosen: &[(&Site, Free, u32)]) -> Option<Parts> {
        let mut total = match &self.request.gpus {
            GpuRequest::Total(wanted) => wanted.count,
            _ => 0,
        };
        let mut parts = Parts::new();
        for (at, (site, free, tasks)) in chosen.iter().enumerate() {
            // Spread evenly over the nodes that are left, as far as they have them.
            let left = narrow(chosen.len() - at);
            let share = total.div_ceil(left).min(self.gpus_free(site, free));
            parts.push(self.part(site, free, *tasks, share)?);
            total -= share;
        }
        (total == 0).then_some(parts)
    }
}
