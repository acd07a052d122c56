//! Placement and order on small hand-made clusters.

use super::nodes::{admits, is_open};
use super::pool::Pool;
use super::*;
use crate::model::allocation::Allocation;
use crate::model::cpu_set::CpuSet;
use crate::model::ids::NodeId;
use crate::model::job::Owner;
use crate::model::node::{Inventory, Link, Node, Serves};
use crate::model::resource::{GpuCount, GpuRequest, MemoryRequest, Request};
use crate::model::topology::{Gpu, LogicalCpu, NumaNode, Topology};
use imbl::OrdMap;
use proptest::prelude::*;
use std::sync::Arc;

/// A node with two NUMA nodes of `cpus / 2` cpus and a GPU beside each.
fn node(id: u32, name: &str, cpus: u32) -> Arc<Node> {
    let numa_of = |cpu: u32| u32::from(cpu >= cpus.div_ceil(2));
    let topology = Topology {
        cpus: (0..cpus)
            .map(|id| LogicalCpu {
                id,
                core: id,
                package: 0,
                numa: numa_of(id),
                real: true,
            })
            .collect(),
        numa_nodes: (0..2)
            .map(|id| NumaNode {
                id,
                cpus: (0..cpus).filter(|cpu| numa_of(*cpu) == id).collect(),
                memory_mib: 512 * u64::from(cpus),
                distances: vec![10, 20],
            })
            .collect(),
        memory_mib: 1024 * u64::from(cpus),
        gpus: (0..2)
            .map(|index| Gpu {
                index,
                kind: "a100".to_owned(),
                uuid: String::new(),
                memory_mib: 40_000,
                numa: Some(index),
                minor: None,
                real: true,
            })
            .collect(),
    };
    let mut node = Node {
        serves: Serves::Everyone,
        id: NodeId(id),
        inventory: Arc::new(Inventory {
            name: name.to_owned(),
            topology,
            boot_id: String::new(),
            version: String::new(),
            uid: 0,
            remarks: Vec::new(),
        }),
        link: Link::Up,
        drain: None,
        failures: Default::default(),
        cpus_free: CpuSet::new(),
        memory_granted_mib: 0,
        gpus_free: Vec::new(),
        gives_leases: false,
    };
    node.reset_free();
    Arc::new(node)
}

struct Nodes {
    nodes: OrdMap<NodeId, Arc<Node>>,
}

impl Nodes {
    fn new(sizes: &[u32]) -> Self {
        let nodes = sizes
            .iter()
            .zip(1..)
            .map(|(cpus, id)| (NodeId(id), node(id, &format!("n{id}"), *cpus)))
            .collect();
        Nodes { nodes }
    }

    fn room(&self) -> Room<'_> {
        Room {
            nodes: &self.nodes,
            pool: NodePool::of(self.nodes.values().map(|node| &**node)),
            picks: Picks::default(),
        }
    }
}

/// What is free, less what was given.
struct Room<'a> {
    nodes: &'a OrdMap<NodeId, Arc<Node>>,
    pool: NodePool,
    picks: Picks,
}

impl Room<'_> {
    /// A place for this, which is taken.
    fn take(&mut self, request: &Request, owner: &Owner) -> Option<Allocation> {
        let there = |id: NodeId| {
            let node = &self.nodes[&id];
            is_open(request, node) && admits(request, owner, None, node)
        };
        let parts = self.pool.find(&self.pool.ask(request, there))?;
        let allocation = self
            .picks
            .pick(self.nodes, &self.pool, &parts)
            .expect("what fits can be picked");
        self.pool.take(&parts);
        Some(allocation)
    }
}

fn user(uid: u32) -> Owner {
    Owner {
        uid,
        gid: uid,
        name: format!("user{uid}").into(),
    }
}

fn shares(allocation: &Allocation) -> Vec<(u32, u32, String)> {
    allocation
        .nodes
        .iter()
        .map(|share| (share.node.0, share.tasks, share.cpus.to_string()))
        .collect()
}

#[test]
fn a_job_goes_to_the_fullest_node_that_holds_it_and_stays_in_one_numa_node() {
    let nodes = Nodes::new(&[8, 4]);
    let two = Request {
        cpus_per_task: Some(2),
        ..Request::default()
    };
    assert_eq!(
        shares(&nodes.room().take(&two, &user(0)).unwrap()),
        [(2, 1, "0-1".to_owned())]
    );
    let three = Request {
        cpus_per_task: Some(3),
        ..Request::default()
    };
    assert_eq!(
        shares(&nodes.room().take(&three, &user(0)).unwrap())[0].0,
        2,
        "the smaller node holds it, over its halves"
    );
    let mut room = nodes.room();
    room.take(&two, &user(0)).unwrap();
    assert_eq!(
        shares(&room.take(&two, &user(0)).unwrap()),
        [(2, 1, "2-3".to_owned())]
    );
}

#[test]
fn tasks_fill_the_first_node_and_leave_one_for_each_other() {
    let nodes = Nodes::new(&[4, 4]);
    let request = Request {
        nodes_min: 2,
        nodes_max: Some(2),
        ntasks: Some(4),
        ..Request::default()
    };
    let tasks: Vec<u32> = nodes
        .room()
        .take(&request, &user(0))
        .unwrap()
        .nodes
        .iter()
        .map(|share| share.tasks)
        .collect();
    assert_eq!(tasks, [3, 1]);
    let even = Request {
        ntasks_per_node: Some(2),
        nodes_min: 2,
        nodes_max: Some(2),
        ..Request::default()
    };
    let tasks: Vec<u32> = nodes
        .room()
        .take(&even, &user(0))
        .unwrap()
        .nodes
        .iter()
        .map(|share| share.tasks)
        .collect();
    assert_eq!(tasks, [2, 2]);
}

#[test]
fn memory_and_gpus_are_counted_and_gpus_lie_beside_the_cpus() {
    let nodes = Nodes::new(&[4]);
    let request = Request {
        gpus: GpuRequest::PerNode(GpuCount {
            kind: Some("A100".into()),
            count: 1,
        }),
        memory: MemoryRequest::PerNode(3000),
        ..Request::default()
    };
    let mut room = nodes.room();
    let first = room.take(&request, &user(0)).unwrap();
    assert_eq!(
        (first.nodes[0].gpus.clone(), first.memory_mib()),
        (vec![0], 3000)
    );
    assert_eq!(room.take(&request, &user(0)), None, "1096 MiB are left");
    let other = Request {
        gpus: GpuRequest::Total(GpuCount {
            kind: Some("h100".into()),
            count: 1,
        }),
        ..request.clone()
    };
    assert_eq!(nodes.room().take(&other, &user(0)), None);
    assert!(
        feasible::never(
            &other,
            &user(0),
            (&Rules::initial(), ""),
            &[&nodes.nodes[&NodeId(1)]],
            &nodes.room().pool.emptied()
        )
        .is_some()
    );
}

#[test]
fn a_worker_that_is_not_root_serves_its_own_user_only() {
    let mut nodes = Nodes::new(&[4]);
    let mut own = (*nodes.nodes[&NodeId(1)]).clone();
    own.serves = Serves::Uid(1000);
    nodes.nodes.insert(NodeId(1), Arc::new(own));
    let request = Request::default();
    assert!(nodes.room().take(&request, &user(1000)).is_some());
    assert!(nodes.room().take(&request, &user(1001)).is_none());
}

proptest! {
    /// Whatever is asked for: what is granted was free, is what was asked for, and nothing is granted twice.
    #[test]
    fn grants_fit_and_never_overlap(
        sizes in prop::collection::vec(1u32..9, 1..5),
        wishes in prop::collection::vec((1u32..4, 1u32..4, 1u32..3, 0u64..3000, 0u32..3, any::<bool>()), 1..12),
    ) {
        let nodes = Nodes::new(&sizes);
        let requests: Vec<Request> = wishes
            .iter()
            .map(|(tasks, cpus, least, memory, gpus, exclusive)| Request {
                ntasks: Some(*tasks.max(least)),
                nodes_min: *least,
                cpus_per_task: Some(*cpus),
                memory: if *memory == 0 { MemoryRequest::Default } else { MemoryRequest::PerCpu(*memory) },
                gpus: if *gpus == 0 { GpuRequest::None } else { GpuRequest::Total(GpuCount { kind: None, count: *gpus }) },
                exclusive: *exclusive,
                ..Request::default()
            })
            .collect();
        let mut room = nodes.room();
        let mut granted: Vec<Allocation> = Vec::new();
        for request in &requests {
            let Some(allocation) = room.take(request, &user(0)) else { continue };
            prop_assert_eq!(allocation.tasks(), request.ntasks.unwrap());
            prop_assert!(allocation.nodes.len() >= request.nodes_min as usize);
            if let GpuRequest::Total(wanted) = &request.gpus {
                prop_assert_eq!(allocation.gpus(), wanted.count);
            }
            let per_task = request.cpus_per_task.unwrap();
            for share in &allocation.nodes {
                prop_assert!(share.tasks >= 1 && share.cpus.len() >= share.tasks * per_task);
                let others = granted.iter().filter_map(|other| other.share(share.node));
                let mut memory_mib = share.memory_mib;
                for other in others {
                    prop_assert!(share.cpus.is_disjoint(&other.cpus));
                    prop_assert!(share.gpus.iter().all(|gpu| !other.gpus.contains(gpu)));
                    memory_mib += other.memory_mib;
                }
                let node = &nodes.nodes[&share.node];
                prop_assert!(share.cpus.is_subset(&node.cpus_free));
                prop_assert!(memory_mib <= node.memory_total_mib());
                prop_assert!(share.gpus.iter().all(|gpu| node.gpus_free.contains(gpu)));
            }
            granted.push(allocation);
        }
    }
}
