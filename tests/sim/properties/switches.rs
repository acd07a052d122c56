//! Nodes close together, against all choices there are on small clusters.

use super::views::NOW;
use hpc::model::ids::NodeId;
use hpc::model::license::NodeRule;
use hpc::model::node::{Link, Node, Serves};
use hpc::model::resource::{MemoryRequest, Request};
use hpc::model::rules::Rules;
use hpc::model::switches::{SwitchWish, parse_path};
use hpc::model::wishes::Wishes;
use hpc::scheduler::nodes::NodePool;
use hpc::scheduler::pool::Pool;
use hpc::sim::cluster_file::Machine;
use imbl::OrdMap;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::sync::Arc;

const PATHS: [&str; 7] = ["", "a", "b", "a/x", "a/y", "c/x/1", "c/x/2"];

/// Nodes: their cpus, of which so many are free, and their switches.
type Nodes = Vec<(u32, u32, usize)>;

fn cluster(nodes: &Nodes) -> (Rules, OrdMap<NodeId, Arc<Node>>) {
    let mut rules = Rules::initial();
    let mut all = OrdMap::new();
    for ((cpus, free, path), id) in nodes.iter().zip(1..) {
        let machine = Machine {
            cpus: *cpus,
            numa: 1,
            memory_mib: 1024,
            gpus: Vec::new(),
        };
        let mut node = Node {
            id: NodeId(id),
            inventory: Arc::new(machine.inventory(&format!("n{id}"))),
            link: Link::Up,
            drain: None,
            serves: Serves::Everyone,
            failures: Default::default(),
            cpus_free: Default::default(),
            memory_granted_mib: 0,
            gpus_free: Vec::new(),
            gives_leases: false,
        };
        node.reset_free();
        let cpus = node.cpus_free.iter();
        node.cpus_free = cpus.take(*free as usize).collect();
        let mut rule = NodeRule::named(node.name());
        rule.switch = parse_path(PATHS[*path]).unwrap();
        rules.nodes.insert(rule.name.clone(), rule);
        all.insert(node.id, Arc::new(node));
    }
    (rules, all)
}

/// How far apart nodes under these switches are: 0 under one, else by how low the switch is above all of them; and under
/// how many they are.
fn distance(used: &BTreeSet<usize>) -> (usize, usize) {
    if used.len() == 1 {
        return (0, 1);
    }
    let mut paths = used.iter().map(|at| {
        let names = PATHS[*at].split('/').filter(|name| !name.is_empty());
        names.collect::<Vec<_>>()
    });
    let mut common = paths.next().unwrap();
    for path in paths {
        let same = common
            .iter()
            .zip(&path)
            .take_while(|(one, other)| one == other);
        let same = same.count();
        common.truncate(same);
    }
    (10 - common.len(), used.len())
}

/// The least distance of any nodes that do, all choices looked at.
fn closest(nodes: &Nodes, request: &Request, most: Option<u32>) -> Option<(usize, usize)> {
    let tasks = request.ntasks_or_default();
    let (least_nodes, most_nodes) = (request.nodes_min.max(2), request.nodes_max.unwrap_or(tasks));
    let holds = |at: usize| nodes[at].1 / request.cpus_per_task_or_default();
    let mut best = None;
    for chosen in 1u32..1 << nodes.len() {
        let count = chosen.count_ones();
        if !(least_nodes..=most_nodes.min(tasks)).contains(&count) {
            continue;
        }
        let places: Vec<usize> = (0..nodes.len())
            .filter(|at| chosen >> at & 1 == 1)
            .collect();
        let room: u32 = places.iter().map(|at| holds(*at)).sum();
        if room < tasks || places.iter().any(|at| holds(*at) == 0) {
            continue;
        }
        let used: BTreeSet<usize> = places.iter().map(|at| nodes[*at].2).collect();
        if most.is_some_and(|most| used.len() > most as usize) {
            continue;
        }
        let far = distance(&used);
        if best.is_none_or(|best| far < best) {
            best = Some(far);
        }
    }
    best
}

fn nodes() -> impl Strategy<Value = Nodes> {
    let node = (1u32..5, 0u32..5, 0usize..PATHS.len());
    let node = node.prop_map(|(cpus, free, path)| (cpus, free.min(cpus), path));
    prop::collection::vec(node, 2..10)
}

fn request() -> impl Strategy<Value = Request> {
    let nodes = (2u32..6, prop::option::of(0u32..3));
    (nodes, 0u32..5, 1u32..3).prop_map(|((nodes_min, more), tasks, cpus)| Request {
        nodes_min,
        nodes_max: more.map(|more| nodes_min + more),
        ntasks: Some(nodes_min + tasks),
        cpus_per_task: Some(cpus),
        memory: MemoryRequest::PerNode(1),
        ..Request::default()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    /// Nodes are as close together as any that would do, under as few switches; and where only few are accepted there is
    /// room if any choice has it.
    #[test]
    fn group_2_nodes_are_as_close_as_can_be(nodes in nodes(), request in request(), most in prop::option::of(1u32..4)) {
        let (rules, all) = cluster(&nodes);
        let pool = NodePool::under(&rules, &all);
        let switches = most.map(|most| SwitchWish { most, wait_s: 0 });
        let request = Request { wishes: Wishes { switches, ..Wishes::default() }, ..request };
        let ask = pool.ask_anywhere(&request);
        let found = pool.find(&ask);
        prop_assert_eq!(pool.fits(&ask), found.is_some());
        let used = |parts: &hpc::scheduler::nodes::Parts| -> BTreeSet<usize> {
            parts.iter().map(|part| nodes[part.node.0 as usize - 1].2).collect()
        };
        let far = found.as_ref().map(|parts| distance(&used(parts)));
        prop_assert_eq!(far, closest(&nodes, &request, most), "{:?} at {}", found, NOW);
        // Later and beside others by the same rule.
        let later = pool.find_for_later(&[&pool], &pool, &ask);
        prop_assert_eq!(later.as_ref().map(|parts| distance(&used(parts))), far);
    }

    /// Where all nodes lie under one switch, whatever its name, all is as if there were none.
    #[test]
    fn group_7_one_switch_makes_no_difference(nodes in nodes(), request in request()) {
        let under = |path| -> Nodes { nodes.iter().map(|(cpus, free, _)| (*cpus, *free, path)).collect() };
        let found = |path| {
            let (rules, all) = cluster(&under(path));
            let pool = NodePool::under(&rules, &all);
            pool.find(&pool.ask_anywhere(&request))
        };
        prop_assert_eq!(found(3), found(0));
    }
}
