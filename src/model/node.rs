//! A machine of the cluster: what it has, whether it answers, whether jobs may go there.
//!
//! ```text
//!             register                  silent too long
//!   (unknown) ────────▶ up, responding ────────────────▶ DOWN
//!                        │  ▲     ▲                        │
//!             link lost  ▼  │     └────────────────────────┘ register
//!                       up, not responding (keeps its jobs)
//! ```
//! Draining is beside this: a drained node starts nothing new, whatever its link does.

use super::cpu_set::CpuSet;
use super::fading::Fading;
use super::ids::NodeId;
use super::job::Owner;
use super::time::Timestamp;
use super::topology::Topology;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A failure of a node counts half after so long; seconds.
pub const FAILURES_HALF_LIFE_S: u32 = 7 * 86_400;

/// Longest name of a node; bytes.
pub const NODE_NAME_MAX: usize = 64;

/// Whether a node may be called so: as hosts are, since its name stands in lists, in the environment of jobs and in
/// the names of files.
#[must_use]
pub fn is_node_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    let begins_well = name.starts_with(|first: char| first.is_ascii_alphanumeric());
    begins_well && name.len() <= NODE_NAME_MAX && name.bytes().all(allowed)
}

/// What a worker says of its machine when it registers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// The node's name.
    pub name: String,
    /// The cores, memory and GPUs that may be scheduled.
    pub topology: Topology,
    /// Changes with every boot of the machine.
    pub boot_id: String,
    /// Version of the worker.
    pub version: String,
    /// The uid the agent runs as: 0 starts jobs of every user, another only its own.
    pub uid: u32,
    /// What cannot be enforced or measured there, for people to read.
    #[serde(deserialize_with = "super::bounded::few")]
    pub remarks: Vec<String>,
}

/// Most cpus, NUMA nodes and GPUs of a machine that we believe, and longest text.
const CPUS_MAX: usize = 65_536;
const PARTS_MAX: usize = 1_024;
const TEXT_MAX: usize = 1_024;

impl Inventory {
    /// What of it cannot be, for one that comes from another machine; `None` = nothing.
    #[must_use]
    pub fn unbelievable(&self) -> Option<&'static str> {
        let topology = &self.topology;
        let ids: std::collections::BTreeSet<u32> = topology.cpus.iter().map(|cpu| cpu.id).collect();
        let long = |text: &String| text.len() > TEXT_MAX;
        let cases = [
            (topology.cpus.len() > CPUS_MAX, "too many cpus"),
            (ids.len() < topology.cpus.len(), "a cpu twice"),
            (
                ids.last().is_some_and(|id| *id as usize > CPUS_MAX),
                "a cpu's number is too large",
            ),
            (topology.numa_nodes.len() > PARTS_MAX, "too many NUMA nodes"),
            (
                topology
                    .numa_nodes
                    .iter()
                    .any(|node| node.cpus.len() > CPUS_MAX || node.distances.len() > PARTS_MAX),
                "too much in a NUMA node",
            ),
            (topology.gpus.len() > PARTS_MAX, "too many GPUs"),
            (topology.memory_mib > 1 << 40, "too much memory"),
            (
                self.remarks.len() > 64 || self.remarks.iter().any(long),
                "too long remarks",
            ),
            (long(&self.version) || long(&self.boot_id), "too long texts"),
            (
                topology
                    .gpus
                    .iter()
                    .any(|gpu| long(&gpu.kind) || long(&gpu.uuid)),
                "too long names of GPUs",
            ),
        ];
        cases
            .into_iter()
            .find(|(wrong, _)| *wrong)
            .map(|(_, why)| why)
    }
}

/// Whose jobs an agent can run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Serves {
    /// Everybody's: it is root.
    Everyone,
    /// Those of one uid: an agent on the controller's own machine, run by that user.
    Uid(u32),
    /// Those of one user of the cluster: an agent elsewhere, run by that person.
    User(String),
}

impl Serves {
    /// Of an agent on the controller's own machine that runs as this uid.
    #[must_use]
    pub fn local(uid: u32) -> Self {
        match uid {
            0 => Serves::Everyone,
            uid => Serves::Uid(uid),
        }
    }

    /// Whether it runs this person's jobs.
    #[must_use]
    pub fn admits(&self, owner: &Owner) -> bool {
        match self {
            Serves::Everyone => true,
            Serves::Uid(uid) => owner.uid == *uid,
            Serves::User(name) => *name == *owner.name,
        }
    }
}

/// Whether a node can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Link {
    /// Its worker answers.
    Up,
    /// Silent since then; its jobs go on.
    Silent(Timestamp),
    /// Declared lost; its jobs are NODE_FAIL.
    Down(Timestamp),
}

/// A node as the controller knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its number.
    pub id: NodeId,
    /// What it said of itself last.
    pub inventory: Arc<Inventory>,
    /// Does it answer?
    pub link: Link,
    /// Drained by somebody, and why.
    pub drain: Option<String>,
    /// Whose jobs it runs.
    pub serves: Serves,
    /// How often it was lost of late though nobody had asked for it.
    pub failures: Fading,
    /// Cpus not granted. Not stored: follows from the jobs.
    #[serde(skip)]
    pub cpus_free: CpuSet,
    /// Memory granted; MiB. More than there is, where the node came back with less while jobs had it. Not stored.
    #[serde(skip)]
    pub memory_granted_mib: u64,
    /// GPUs not granted. Not stored.
    #[serde(skip)]
    pub gpus_free: Vec<u32>,
    /// Its agent gives a lease to what may run again before that starts. Not stored: an agent says so when it registers.
    #[serde(skip)]
    pub gives_leases: bool,
}

/// A node's state, in the contract's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodeState {
    /// Up, nothing granted.
    Idle,
    /// Up, partly granted.
    Mixed,
    /// Up, all cpus granted.
    Allocated,
    /// Drained, jobs still there.
    Draining,
    /// Drained, no jobs.
    Drained,
    /// Lost.
    Down,
}

impl NodeState {
    /// The word on screen.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            NodeState::Idle => "IDLE",
            NodeState::Mixed => "MIXED",
            NodeState::Allocated => "ALLOCATED",
            NodeState::Draining => "DRAINING",
            NodeState::Drained => "DRAINED",
            NodeState::Down => "DOWN",
        }
    }
}

impl Node {
    /// Name, short for the inventory's.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inventory.name
    }

    /// Cpus that may be granted in all.
    #[must_use]
    pub fn cpus_total(&self) -> u32 {
        u32::try_from(self.inventory.topology.cpus.len()).unwrap_or(u32::MAX)
    }

    /// Memory that may be granted in all; MiB.
    #[must_use]
    pub fn memory_total_mib(&self) -> u64 {
        self.inventory.topology.memory_mib
    }

    /// Memory not granted; MiB.
    #[must_use]
    pub fn memory_free_mib(&self) -> u64 {
        self.memory_total_mib()
            .saturating_sub(self.memory_granted_mib)
    }

    /// It was lost and nobody had asked for it.
    pub fn fail(&mut self, now: Timestamp) {
        self.failures.add(1.0, now, FAILURES_HALF_LIFE_S);
    }

    /// The state word, from link, drain and what is free.
    #[must_use]
    pub fn state(&self) -> NodeState {
        let free = self.cpus_free.len();
        let idle = free == self.cpus_total();
        match (self.link, &self.drain) {
            (Link::Down(_), _) => NodeState::Down,
            (_, Some(_)) if idle => NodeState::Drained,
            (_, Some(_)) => NodeState::Draining,
            _ if idle => NodeState::Idle,
            _ if free == 0 => NodeState::Allocated,
            _ => NodeState::Mixed,
        }
    }

    /// Whether new work may start there.
    #[must_use]
    pub fn accepts_work(&self) -> bool {
        self.drain.is_none() && self.is_up()
    }

    /// Whether it answers.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.link == Link::Up
    }

    /// Everything free again, before the jobs' shares are taken off.
    pub fn reset_free(&mut self) {
        self.cpus_free = self
            .inventory
            .topology
            .cpus
            .iter()
            .filter_map(|cpu| u16::try_from(cpu.id).ok())
            .collect();
        self.memory_granted_mib = 0;
        self.gpus_free = self
            .inventory
            .topology
            .gpus
            .iter()
            .map(|gpu| gpu.index)
            .collect();
    }
}
