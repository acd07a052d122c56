//! Amounts of resources: what a job asks for ([`Request`]), and its normal form ([`Shape`]) that the
//! scheduler compares and groups by. Arithmetic is checked or saturating; nothing wraps.

use super::bounded;
use super::gres::GresRequest;
use super::wishes::Wishes;
use serde::{Deserialize, Serialize};

/// How memory was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum MemoryRequest {
    /// Not said: the node's schedulable memory divided by its cpus, times the cpus granted there.
    Default,
    /// MiB on each node; 0 = all of the node's.
    PerNode(u64),
    /// MiB for each cpu.
    PerCpu(u64),
}

/// How GPUs were asked for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum GpuRequest {
    /// None.
    None,
    /// This many on each node.
    PerNode(GpuCount),
    /// This many for each task.
    PerTask(GpuCount),
    /// This many over the whole job.
    Total(GpuCount),
}

/// A number of GPUs, of one kind or any.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct GpuCount {
    /// `a100`, or any.
    pub kind: Option<String>,
    /// How many.
    pub count: u32,
}

impl From<&GresRequest> for GpuCount {
    fn from(gres: &GresRequest) -> Self {
        GpuCount {
            kind: gres.kind.clone(),
            count: gres.count,
        }
    }
}

/// Resources as asked for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Request {
    /// Fewest nodes; 1 when not said.
    pub nodes_min: u32,
    /// Most nodes; `None` = as few as serve.
    pub nodes_max: Option<u32>,
    /// Tasks, when said.
    pub ntasks: Option<u32>,
    /// Tasks on each node, when said.
    pub ntasks_per_node: Option<u32>,
    /// Cpus of each task, when said.
    pub cpus_per_task: Option<u32>,
    /// Memory.
    pub memory: MemoryRequest,
    /// GPUs.
    pub gpus: GpuRequest,
    /// Whole nodes, shared with nobody.
    pub exclusive: bool,
    /// Only these nodes (all of them, when as many nodes are asked for).
    #[serde(deserialize_with = "bounded::list")]
    pub nodelist: Vec<String>,
    /// Never these nodes.
    #[serde(deserialize_with = "bounded::list")]
    pub exclude: Vec<String>,
    /// What is asked for beside amounts.
    pub wishes: Wishes,
}

impl Default for Request {
    fn default() -> Self {
        Request {
            nodes_min: 1,
            nodes_max: None,
            ntasks: None,
            ntasks_per_node: None,
            cpus_per_task: None,
            memory: MemoryRequest::Default,
            gpus: GpuRequest::None,
            exclusive: false,
            nodelist: Vec::new(),
            exclude: Vec::new(),
            wishes: Wishes::default(),
        }
    }
}

impl Request {
    /// Whether it asks for nothing that others could miss: no cpu, and so no memory, and no GPU. Such a job only carries
    /// files (`hpc cp`); it starts at once, on full and on drained nodes too.
    #[must_use]
    pub fn takes_nothing(&self) -> bool {
        self.cpus_per_task == Some(0)
            && self.memory == MemoryRequest::Default
            && self.gpus == GpuRequest::None
            && !self.exclusive
    }

    /// Cpus of each task: as said, or 1; 0 where nothing is asked for.
    #[must_use]
    pub fn cpus_per_task_or_default(&self) -> u32 {
        if self.takes_nothing() {
            0
        } else {
            self.cpus_per_task.unwrap_or(1).max(1)
        }
    }

    /// Tasks of the whole job on the fewest nodes: as said, or one for each node.
    #[must_use]
    pub fn ntasks_or_default(&self) -> u32 {
        match (self.ntasks, self.ntasks_per_node) {
            (Some(tasks), _) => tasks.max(1),
            (None, Some(per_node)) => per_node.max(1).saturating_mul(self.nodes_min.max(1)),
            (None, None) => self.nodes_min.max(1),
        }
    }

    /// GPUs the whole job asks for, as far as that can be said before it is placed.
    #[must_use]
    pub fn gpus_total(&self) -> u32 {
        match &self.gpus {
            GpuRequest::None => 0,
            GpuRequest::Total(count) => count.count,
            GpuRequest::PerNode(count) => count.count.saturating_mul(self.nodes_min.max(1)),
            GpuRequest::PerTask(count) => count.count.saturating_mul(self.ntasks_or_default()),
        }
    }

    /// Cpus of the whole job: tasks times cpus of a task.
    #[must_use]
    pub fn cpus_total(&self) -> u32 {
        self.ntasks_or_default()
            .saturating_mul(self.cpus_per_task_or_default())
    }
}
