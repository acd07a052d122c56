//! Random states of a cluster, as the planner sees them.

use hpc::model::account::Account;
use hpc::model::allocation::Allocation;
use hpc::model::array::ArraySpec;
use hpc::model::cpu_set::CpuSet;
use hpc::model::history::Granted;
use hpc::model::ids::{BlobId, JobId, NodeId, SlotId, SlotKey};
use hpc::model::index_set::IndexSet;
use hpc::model::job::{Hold, Job, JobSpec, Launch, Owner, Reason, Slot};
use hpc::model::license::NodeRule;
use hpc::model::limits::LimitKind;
use hpc::model::node::{Inventory, Link, Node, Serves};
use hpc::model::partition::Partition;
use hpc::model::qos::Qos;
use hpc::model::rare::Rare;
use hpc::model::resource::{GpuCount, GpuRequest, MemoryRequest, Request};
use hpc::model::rules::{NORMAL, Rules};
use hpc::model::switches::{self, SwitchWish};
use hpc::model::time::Timestamp;
use hpc::model::topology::{Gpu, LogicalCpu, NumaNode, Topology};
use hpc::model::wishes::Wishes;
use hpc::scheduler::bookings::Bookings;
use hpc::scheduler::limits::{Held, Tally};
use hpc::scheduler::nodes::{NodePool, Parts, admits, is_open};
use hpc::scheduler::occupancy::Occupancy;
use hpc::scheduler::place::Picks;
use hpc::scheduler::plan::Promise;
use hpc::scheduler::pool::Pool;
use hpc::scheduler::priority::Usage;
use hpc::scheduler::queue::{Class, Queue};
use hpc::scheduler::shares::{Books, Standings};
use hpc::scheduler::{View, slot_stay};
use imbl::OrdMap;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::sync::Arc;

/// When it is now, unless a test says otherwise.
pub(super) const NOW: Timestamp = Timestamp(1_700_000_000_000);

const KINDS: [&str; 2] = ["a100", "t4"];
const USERS: [&str; 3] = ["ann", "bob", "eve"];
/// Paths of switches; the first has no name.
const SWITCHES: [&str; 4] = ["none", "a/x", "a/y", "b"];

/// A cluster in numbers, small enough to shrink well.
#[derive(Debug, Clone)]
pub(super) struct Lab {
    pub(super) machines: Vec<Machine>,
    pub(super) partitions: Vec<Division>,
    /// Limits that hold, by level.
    pub(super) limits: Vec<(u8, LimitKind, u64)>,
    pub(super) requests: Vec<Request>,
    pub(super) running: Vec<Going>,
    pub(super) waiting: Vec<Waiting>,
    /// What the three users have used.
    pub(super) used: [u32; 3],
}

#[derive(Debug, Clone)]
pub(super) struct Machine {
    numa_nodes: u32,
    pub(super) cpus_each: u32,
    pub(super) memory_each: u64,
    /// Kinds of its GPUs.
    gpus: Vec<usize>,
    /// Every ninth is drained, the next silent.
    state: u8,
    /// Every eighth serves one user only.
    serves: u8,
    /// Under which switch: one without a name, or one of several.
    switch: usize,
    /// How often it failed just now.
    failures: u32,
}

#[derive(Debug, Clone)]
pub(super) struct Division {
    /// Which machines it has.
    nodes: u8,
    up: bool,
    tier: u32,
    priority: u32,
}

/// Something that runs.
#[derive(Debug, Clone)]
pub(super) struct Going {
    what: What,
    /// For how long; seconds.
    age_s: u32,
    /// It has run what it was given and waits for more of its array.
    idle: bool,
}

/// Something that waits.
#[derive(Debug, Clone)]
pub(super) struct Waiting {
    what: What,
    waited_s: u32,
    count: u32,
    throttle: Option<u32>,
    /// Its request is a copy, not shared with others that ask for the same.
    copied: bool,
}

/// What is asked for, and by whom.
#[derive(Debug, Clone)]
struct What {
    request: usize,
    partition: usize,
    user: usize,
    qos: bool,
    nice: i32,
    limit_s: Option<u32>,
}

/// What a random cluster may have.
#[derive(Debug, Clone, Copy)]
pub(super) struct Features {
    pub(super) partitions: usize,
    /// Slots that have run what they were given, of arrays with more to run.
    pub(super) idle: bool,
    /// GPUs counted over all nodes of a job.
    pub(super) gpus_in_total: bool,
    /// Nodes under several switches, and jobs that accept few of them.
    pub(super) switches: bool,
    /// In half of the cases nodes that have failed.
    pub(super) flaky: bool,
}

pub(super) const PLAIN: Features = Features {
    partitions: 2,
    idle: false,
    gpus_in_total: false,
    switches: false,
    flaky: false,
};

fn machine() -> impl Strategy<Value = Machine> {
    let gpus = prop_oneof![2 => Just(vec![]), 2 => prop::collection::vec(0usize..2, 1..4)];
    let memory = prop_oneof![Just(512u64), Just(1000)];
    let switch = 0usize..SWITCHES.len();
    let failures = prop_oneof![2 => Just(0u32), 1 => 1u32..4];
    let wear = (switch, failures);
    (1u32..4, 1u32..6, memory, gpus, 0u8..9, 0u8..8, wear).prop_map(
        |(numa_nodes, cpus_each, memory_each, gpus, state, serves, (switch, failures))| Machine {
            numa_nodes,
            cpus_each,
            memory_each,
            gpus,
            state,
            serves,
            switch,
            failures,
        },
    )
}

fn gpus(in_total: bool) -> impl Strategy<Value = GpuRequest> {
    let kind = prop::option::of(0usize..2);
    (0u8..8, kind, 1u32..3).prop_map(move |(how, kind, count)| {
        let kind = kind.map(|kind| KINDS[kind].to_owned());
        let count = GpuCount { kind, count };
        match how {
            0 => GpuRequest::PerNode(count),
            1 => GpuRequest::PerTask(count),
            2 if in_total => GpuRequest::Total(count),
            _ => GpuRequest::None,
        }
    })
}

/// Nodes that so many tasks need with at most `per_node + 1` on each: who allows fewer contradicts himself.
fn least(tasks: Option<u32>, per_node: Option<u32>) -> u32 {
    let (tasks, most) = (
        tasks.unwrap_or(1),
        per_node.map_or(u32::MAX, |most| most + 1),
    );
    tasks.div_ceil(most)
}

fn request(features: Features) -> impl Strategy<Value = Request> {
    let nodes = prop_oneof![3 => Just(1u32), 1 => 2u32..4];
    let tasks = prop::option::of(1u32..5);
    let cpus = prop_oneof![1 => Just(0u32), 8 => Just(1u32), 6 => 2u32..6];
    let memory = prop_oneof![
        3 => Just(MemoryRequest::Default),
        1 => Just(MemoryRequest::PerNode(0)),
        1 => (1u64..3000).prop_map(MemoryRequest::PerNode),
        1 => (1u64..1000).prop_map(MemoryRequest::PerCpu),
    ];
    let few = prop_oneof![3 => Just(None), 1 => (0u32..3).prop_map(Some)];
    let name =
        || prop_oneof![7 => Just(vec![]), 1 => (1u32..4).prop_map(|id| vec![format!("n{id}")])];
    let whole = prop_oneof![7 => Just(false), 1 => Just(true)];
    let wish = |most| SwitchWish { most, wait_s: 300 };
    let switches =
        prop_oneof![1 => Just(None), 1 => (1u32..3).prop_map(move |most| Some(wish(most)))];
    let switches = switches.prop_map(move |wish| wish.filter(|_| features.switches));
    (
        nodes,
        tasks,
        cpus,
        memory,
        gpus(features.gpus_in_total),
        few.clone(),
        few,
        whole,
        (name(), name(), switches),
    )
        .prop_map(
            |(
                nodes_min,
                tasks,
                cpus,
                memory,
                gpus,
                more,
                per_node,
                exclusive,
                (nodelist, exclude, switches),
            )| Request {
                nodes_min,
                nodes_max: more.map(|more| nodes_min.max(least(tasks, per_node)) + more),
                ntasks: tasks.map(|tasks| tasks.max(nodes_min)),
                ntasks_per_node: per_node.map(|most| most + 1),
                cpus_per_task: Some(cpus),
                memory,
                gpus,
                exclusive,
                nodelist,
                exclude,
                wishes: Wishes {
                    switches,
                    ..Wishes::default()
                },
            },
        )
}

fn what() -> impl Strategy<Value = What> {
    let limit = prop_oneof![
        Just(Some(60u32)),
        Just(Some(120)),
        Just(Some(300)),
        Just(Some(3600)),
        Just(None)
    ];
    let nice = prop_oneof![2 => Just(0i32), 1 => Just(3), 1 => Just(-70_000)];
    (0usize..4, 0usize..3, 0usize..3, any::<bool>(), nice, limit).prop_map(
        |(request, partition, user, qos, nice, limit_s)| What {
            request,
            partition,
            user,
            qos,
            nice,
            limit_s,
        },
    )
}

fn limits() -> impl Strategy<Value = Vec<(u8, LimitKind, u64)>> {
    let kind = prop::sample::select(vec![
        LimitKind::MaxJobsPerUser,
        LimitKind::MaxCpusPerUser,
        LimitKind::MaxNodesPerUser,
        LimitKind::MaxMemoryPerUser,
        LimitKind::MaxJobsPerAccount,
        LimitKind::MaxCpusPerAccount,
        LimitKind::GroupJobs,
        LimitKind::GroupCpus,
        LimitKind::GroupGpus,
        LimitKind::GroupRunningCpuMinutes,
    ]);
    let some = prop::collection::vec((0u8..6, kind, 0u64..8), 1..4);
    prop_oneof![1 => Just(vec![]), 1 => some]
}

/// Random clusters in the middle of their work.
pub(super) fn labs(features: Features) -> impl Strategy<Value = Lab> {
    let priority = prop_oneof![2 => Just(0u32), 1 => 1u32..5];
    let division =
        (any::<u8>(), 0u8..8, 0u32..3, priority).prop_map(|(nodes, up, tier, priority)| Division {
            nodes,
            up: up > 0,
            tier,
            priority,
        });
    let going = (what(), 0u32..400, any::<bool>()).prop_map(move |(what, age_s, idle)| Going {
        what,
        age_s,
        idle: idle && features.idle,
    });
    let throttle = prop_oneof![2 => Just(None), 1 => (1u32..3).prop_map(Some)];
    let count = prop_oneof![2 => Just(1u32), 1 => 2u32..5];
    let waiting = (what(), 0u32..6, count, throttle, any::<bool>()).prop_map(
        |(what, waited, count, throttle, copied)| Waiting {
            what,
            // Some of the same second.
            waited_s: waited * 500,
            count,
            throttle,
            copied,
        },
    );
    (
        prop::collection::vec(machine(), 1..5),
        prop::collection::vec(division, features.partitions),
        limits(),
        prop::collection::vec(request(features), 1..5),
        prop::collection::vec(going, 0..7),
        prop::collection::vec(waiting, 1..16),
        prop::array::uniform3(0u32..1000),
        any::<bool>(),
    )
        .prop_map(
            move |(mut machines, partitions, limits, requests, running, waiting, used, crowded)| {
                if !features.switches {
                    machines.iter_mut().for_each(|one| one.switch = 0);
                }
                if !features.flaky || used[0] % 2 == 0 {
                    machines.iter_mut().for_each(|one| one.failures = 0);
                }
                let lab = Lab {
                    machines,
                    partitions,
                    limits,
                    requests,
                    running,
                    waiting,
                    used,
                };
                if crowded { lab.crowded() } else { lab }
            },
        )
}

impl Machine {
    /// The same with so many cpus and one GPU.
    pub(super) fn with_gpu(&self, cpus: u32) -> Machine {
        Machine {
            cpus_each: cpus,
            gpus: vec![0],
            ..self.clone()
        }
    }
}

/// All that a view borrows from.
#[derive(Debug, Clone)]
pub(super) struct State {
    pub(super) nodes: OrdMap<NodeId, Arc<Node>>,
    /// The nodes as they are now.
    pool: NodePool,
    /// The same with nothing granted.
    emptied: NodePool,
    pub(super) jobs: OrdMap<JobId, Arc<Job>>,
    queue: Queue,
    pub(super) occupancy: Occupancy,
    idle: BTreeSet<SlotKey>,
    pub(super) promised: Vec<Promise>,
    pub(super) bookings: Bookings,
    pub(super) rules: Rules,
    tally: Tally,
    pub(super) standings: Standings,
}

impl State {
    pub(super) fn view(&self) -> View<'_> {
        View {
            nodes: &self.nodes,
            pool: &self.pool,
            emptied: &self.emptied,
            jobs: &self.jobs,
            queue: &self.queue,
            occupancy: &self.occupancy,
            idle: &self.idle,
            promised: &self.promised,
            bookings: &self.bookings,
            rules: &self.rules,
            tally: &self.tally,
            standings: &self.standings,
        }
    }

    /// Enters a job without slots.
    fn enter(&mut self, job: Job) {
        if !job.pending.is_empty() {
            self.queue.enter(&job);
        }
        self.tally.add(&Class::of(&job), Held::by_job(&job));
        self.jobs.insert(job.id, Arc::new(job));
    }

    /// Takes a job out that has no slots.
    pub(super) fn leave(&mut self, id: JobId) {
        let job = self.jobs.remove(&id).unwrap();
        assert!(job.slots.is_empty());
        self.queue.leave(&job);
        self.tally.remove(&Class::of(&job), Held::by_job(&job));
    }

    /// A job without slots was submitted a second before now.
    pub(super) fn submitted_earlier(&mut self, id: JobId) {
        let mut job = Job::clone(&self.jobs[&id]);
        self.leave(id);
        job.submitted = job.submitted.plus_ms(-1000);
        self.enter(job);
    }

    /// Gives a job a slot and so many of what waits of it.
    pub(super) fn grant(&mut self, id: JobId, allocation: Allocation, count: u32, at: Timestamp) {
        let mut job = Job::clone(&self.jobs[&id]);
        let class = Class::of(&job);
        self.queue.leave(&job);
        self.tally.remove(&class, Held::by_job(&job));
        for share in &allocation.nodes {
            let node = Arc::make_mut(self.nodes.get_mut(&share.node).unwrap());
            assert!(
                share.cpus.is_subset(&node.cpus_free),
                "cpus are granted twice"
            );
            assert!(
                share.memory_mib <= node.memory_free_mib(),
                "memory is granted twice"
            );
            node.cpus_free = node.cpus_free.subtract(&share.cpus);
            node.memory_granted_mib += share.memory_mib;
            let before = node.gpus_free.len();
            node.gpus_free.retain(|gpu| !share.gpus.contains(gpu));
            assert_eq!(
                before - node.gpus_free.len(),
                share.gpus.len(),
                "a GPU is granted twice"
            );
        }
        self.pool = NodePool::under(&self.rules, &self.nodes);
        let parts = allocation.nodes.iter().map(|share| {
            let site = self.pool.site(share.node).unwrap();
            site.part_of(&self.nodes[&share.node], share)
        });
        let parts: Parts = parts.collect();
        let slot = slot(
            SlotId(job.slot_next),
            allocation,
            job.pending.take_first(count),
            at,
        );
        let stay = slot_stay(&slot, job.spec.time_limit_s, None);
        let key = SlotKey {
            job: id,
            slot: slot.id,
        };
        self.tally
            .add(&class, Held::by_slot(&slot.allocation, stay.ends));
        self.occupancy.enter(key, stay, parts);
        job.slot_next += 1;
        job.slots.push(slot);
        self.tally.add(&class, Held::by_job(&job));
        if !job.pending.is_empty() {
            self.queue.enter(&job);
        }
        self.jobs.insert(id, Arc::new(job));
    }

    /// What a slot holds is given back, and nothing of it is left.
    pub(super) fn vacate(&mut self, key: SlotKey) {
        let mut job = Job::clone(&self.jobs[&key.job]);
        let class = Class::of(&job);
        self.queue.leave(&job);
        self.tally.remove(&class, Held::by_job(&job));
        let at = job
            .slots
            .iter()
            .position(|slot| slot.id == key.slot)
            .unwrap();
        let slot = job.slots.remove(at);
        for share in &slot.allocation.nodes {
            let node = Arc::make_mut(self.nodes.get_mut(&share.node).unwrap());
            node.cpus_free = node.cpus_free.union(&share.cpus);
            node.memory_granted_mib -= share.memory_mib;
            node.gpus_free.extend(&share.gpus);
            node.gpus_free.sort_unstable();
        }
        self.pool = NodePool::under(&self.rules, &self.nodes);
        let ends = self.occupancy.ends(key).unwrap();
        self.tally
            .remove(&class, Held::by_slot(&slot.allocation, ends));
        self.occupancy.leave(key);
        self.idle.remove(&key);
        if job.slots.is_empty() && job.pending.is_empty() {
            self.jobs.remove(&key.job);
            return;
        }
        self.tally.add(&class, Held::by_job(&job));
        if !job.pending.is_empty() {
            self.queue.enter(&job);
        }
        self.jobs.insert(key.job, Arc::new(job));
    }

    /// The same, made by entering everything the other way round.
    pub(super) fn entered_in_reverse(&self) -> State {
        let nodes = self
            .nodes
            .iter()
            .rev()
            .map(|(id, node)| (*id, Arc::clone(node)))
            .collect();
        let pool = NodePool::under(&self.rules, &nodes);
        let mut other = State {
            nodes,
            emptied: pool.emptied(),
            pool,
            jobs: OrdMap::new(),
            queue: Queue::default(),
            occupancy: Occupancy::default(),
            idle: self.idle.iter().rev().copied().collect(),
            promised: self.promised.clone(),
            bookings: self.bookings.clone(),
            rules: self.rules.clone(),
            tally: Tally::default(),
            standings: self.standings.clone(),
        };
        for job in self.jobs.values().rev() {
            if !job.pending.is_empty() {
                other.queue.enter(job);
            }
            let class = Class::of(job);
            other.tally.add(&class, Held::by_job(job));
            for slot in &job.slots {
                let key = SlotKey {
                    job: job.id,
                    slot: slot.id,
                };
                let ends = self.occupancy.ends(key).unwrap();
                other
                    .tally
                    .add(&class, Held::by_slot(&slot.allocation, ends));
            }
            other.jobs.insert(job.id, Arc::clone(job));
        }
        let occupied: Vec<_> = self.occupancy.iter().collect();
        for (_, key, parts) in occupied.into_iter().rev() {
            let stay = self.occupancy.stay(key).unwrap();
            other.occupancy.enter(key, stay, parts.clone());
        }
        other
    }

    /// The first slot of this job has run what it was given; more of it waits.
    fn rest(&mut self, id: JobId) {
        let mut job = Job::clone(&self.jobs[&id]);
        job.slots[0].queue = IndexSet::new();
        let slot = job.slots[0].id;
        self.idle.insert(SlotKey { job: id, slot });
        self.jobs.insert(id, Arc::new(job));
    }
}

fn slot(id: SlotId, allocation: Allocation, queue: IndexSet, granted: Timestamp) -> Slot {
    Slot {
        id,
        allocation: Arc::new(allocation),
        granted,
        given: queue.clone(),
        queue,
        confirmed: true,
        current: None,
        kills: Vec::new(),
        suspended: false,
        stops: Default::default(),
        released: None,
        node_ends: Vec::new(),
        ended_count: 0,
        heard: granted,
        retracting: false,
        gone: false,
        leases: Vec::new(),
        begun: true,
        steps: Vec::new(),
        present: Vec::new(),
        told_to_end: granted,
    }
}

fn node(id: u32, machine: &Machine, now: Timestamp) -> Node {
    let each = machine.cpus_each;
    let cpu = |id: u32| LogicalCpu {
        id,
        core: id,
        package: 0,
        numa: id / each,
        real: true,
    };
    let numa_node = |id: u32| NumaNode {
        id,
        cpus: (id * each..(id + 1) * each).collect(),
        memory_mib: machine.memory_each,
        distances: Vec::new(),
    };
    let gpu = |(index, kind): (u32, &usize)| Gpu {
        index,
        kind: KINDS[*kind].to_owned(),
        uuid: String::new(),
        memory_mib: 0,
        numa: Some(index % machine.numa_nodes),
        minor: None,
        real: true,
    };
    let topology = Topology {
        cpus: (0..machine.numa_nodes * each).map(cpu).collect(),
        numa_nodes: (0..machine.numa_nodes).map(numa_node).collect(),
        memory_mib: machine.memory_each * u64::from(machine.numa_nodes),
        gpus: (0..).zip(&machine.gpus).map(gpu).collect(),
    };
    let mut node = Node {
        id: NodeId(id),
        inventory: Arc::new(Inventory {
            name: format!("n{id}"),
            topology,
            boot_id: String::new(),
            version: String::new(),
            uid: 0,
            remarks: Vec::new(),
        }),
        link: if machine.state == 6 {
            Link::Silent(now)
        } else {
            Link::Up
        },
        failures: Default::default(),
        drain: (machine.state == 5).then(String::new),
        serves: match machine.serves {
            5 => Serves::Uid(1001),
            _ => Serves::Everyone,
        },
        cpus_free: CpuSet::new(),
        memory_granted_mib: 0,
        gpus_free: Vec::new(),
        gives_leases: false,
    };
    node.reset_free();
    (0..machine.failures).for_each(|_| node.fail(now));
    node
}

impl Lab {
    /// One node of so many cpus with so many partitions, and jobs of one cpu.
    pub(super) fn of_one_node(partitions: usize, cpus: u32) -> Lab {
        let machine = Machine {
            numa_nodes: 1,
            cpus_each: cpus,
            memory_each: 512,
            gpus: Vec::new(),
            state: 0,
            serves: 0,
            switch: 0,
            failures: 0,
        };
        let division = Division {
            nodes: u8::MAX,
            up: true,
            tier: 1,
            priority: 0,
        };
        Lab {
            machines: vec![machine],
            partitions: vec![division; partitions],
            limits: Vec::new(),
            requests: vec![Request::default()],
            running: Vec::new(),
            waiting: Vec::new(),
            used: [0; 3],
        }
    }

    /// One machine, one kind of job that takes two thirds of it and others that are narrow: more of them fit beside what
    /// runs than beside the wide one's place, and those that stay too long are in its way.
    fn crowded(mut self) -> Lab {
        self.machines.truncate(1);
        let machine = &mut self.machines[0];
        (machine.state, machine.serves) = (0, 0);
        machine.cpus_each += 2;
        let mut wide = (machine.numa_nodes * machine.cpus_each * 2).div_ceil(3);
        for request in &mut self.requests {
            *request = Request {
                cpus_per_task: Some(wide),
                memory: MemoryRequest::PerCpu(1),
                ..Request::default()
            };
            wide = 1;
        }
        self
    }

    /// All that runs is of the lower QOS, and all that waits of the higher.
    pub(super) fn by_qos(mut self) -> Lab {
        self.machines.truncate(2);
        self.limits.clear();
        self.partitions[0].up = true;
        for machine in &mut self.machines {
            (machine.state, machine.serves) = (0, 0);
        }
        for going in &mut self.running {
            (going.what.qos, going.what.partition) = (false, 0);
        }
        for waiting in &mut self.waiting {
            waiting.what.qos = true;
        }
        self
    }

    fn what(partition: usize, limit_s: u32) -> What {
        What {
            request: 0,
            partition,
            user: 0,
            qos: false,
            nice: 0,
            limit_s: Some(limit_s),
        }
    }

    /// With a job that has just started; it may be an array's that has run what it was given.
    pub(super) fn running(mut self, partition: usize, limit_s: u32, idle: bool) -> Lab {
        let what = Lab::what(partition, limit_s);
        self.running.push(Going {
            what,
            age_s: 0,
            idle,
        });
        self
    }

    /// With a job that waits, behind those before it.
    pub(super) fn waiting(mut self, partition: usize, limit_s: u32, count: u32) -> Lab {
        let what = Lab::what(partition, limit_s);
        self.waiting.push(Waiting {
            what,
            waited_s: 0,
            count,
            throttle: None,
            copied: false,
        });
        self
    }

    /// The one that waits last asks for so many cpus.
    pub(super) fn asking(mut self, cpus: u32) -> Lab {
        let request = Request {
            cpus_per_task: Some(cpus),
            ..Request::default()
        };
        self.waiting.last_mut().unwrap().what.request = self.requests.len();
        self.requests.push(request);
        self
    }

    /// The same with nodes and jobs so many times as large.
    pub(super) fn scaled(&self, times: u32) -> Lab {
        let mut lab = self.clone();
        let many = u64::from(times);
        for machine in &mut lab.machines {
            machine.cpus_each *= times;
            machine.memory_each *= many;
            machine.gpus = machine
                .gpus
                .iter()
                .flat_map(|kind| vec![*kind; times as usize])
                .collect();
        }
        for request in &mut lab.requests {
            if !request.takes_nothing() {
                request.cpus_per_task = Some(request.cpus_per_task_or_default() * times);
            }
            if let MemoryRequest::PerNode(mib) = &mut request.memory {
                *mib *= many;
            }
            if let GpuRequest::PerNode(count) | GpuRequest::PerTask(count) = &mut request.gpus {
                count.count *= times;
            }
        }
        lab.limits
            .retain(|(_, kind, _)| *kind != LimitKind::GroupRunningCpuMinutes);
        for (_, kind, value) in &mut lab.limits {
            let counts = kind.word();
            if ["cpus", "gpus", "memory"]
                .iter()
                .any(|what| counts.contains(what))
            {
                *value *= many;
            }
        }
        lab
    }

    fn rules(&self) -> Rules {
        let mut rules = Rules::initial();
        rules.partitions.clear();
        for (machine, id) in self.machines.iter().zip(1..) {
            let mut node = NodeRule::named(&format!("n{id}"));
            let path = SWITCHES[machine.switch];
            node.switch = switches::parse_path(path).unwrap();
            rules.nodes.insert(node.name.clone(), node);
        }
        for (at, division) in self.partitions.iter().enumerate() {
            let mut partition = Partition::named(&format!("p{at}"));
            let named = (1..=self.machines.len()).filter(|id| division.nodes & (1 << id) != 0);
            // The first has all of them.
            partition.nodes = if at == 0 {
                Vec::new()
            } else {
                named.map(|id| format!("n{id}")).collect()
            };
            (partition.up, partition.tier) = (division.up, division.tier);
            partition.priority = division.priority;
            rules.partitions.insert(partition.name.clone(), partition);
        }
        let high = Qos {
            priority: 1,
            ..Qos::named("high")
        };
        rules.qos.insert("high".to_owned(), high);
        rules
            .accounts
            .insert("lab".to_owned(), Account::named("lab"));
        for (level, kind, value) in &self.limits {
            let limits = match level {
                0 => rules.partitions.get_mut("p0").map(|one| &mut one.limits),
                1 => rules.qos.get_mut(NORMAL).map(|one| &mut one.limits),
                2 => rules.qos.get_mut("high").map(|one| &mut one.limits),
                3 => rules.accounts.get_mut("lab").map(|one| &mut one.limits),
                4 => rules.accounts.get_mut("default").map(|one| &mut one.limits),
                _ => rules.accounts.get_mut("root").map(|one| &mut one.limits),
            };
            limits.unwrap().set(*kind, Some(*value));
        }
        rules
    }

    fn job(&self, id: u32, what: &What, submitted: Timestamp, count: u32) -> Job {
        let user = what.user;
        let request = Arc::new(self.requests[what.request % self.requests.len()].clone());
        let spec = JobSpec {
            name: "job".into(),
            partition: format!("p{}", what.partition % self.partitions.len()).into(),
            account: if user == 2 { "lab" } else { "default" }.into(),
            qos: if what.qos { "high" } else { NORMAL }.into(),
            launch: Launch::Command {
                arguments: BlobId([1; 32]),
            },
            surroundings: BlobId([2; 32]),
            command: "true".into(),
            request,
            array: None,
            dependency: None,
            kill_on_invalid_dependency: false,
            begin: None,
            time_limit_s: what.limit_s,
            hold: false,
            requeue: id.is_multiple_of(2),
            nice: what.nice,
            signal: None,
            work_dir: "/".into(),
            output: None,
            error: None,
            input: None,
            open_mode: Default::default(),
            kill_wait_s: 30,
            comment: None,
            submit_host: "here".into(),
        };
        let uid = 1000 + u32::try_from(user).unwrap();
        Job {
            id: JobId(id),
            spec: Arc::new(spec),
            owner: Owner {
                uid,
                gid: uid,
                name: USERS[user].into(),
            },
            submitted,
            hold: Hold::None,
            reason: Reason::None,
            pending: IndexSet::from_range(0, count),
            waiting: Rare::default(),
            slots: Vec::new(),
            slot_next: 0,
            restarts: Rare::default(),
            ends: Rare::default(),
            granted: Granted::default().shared(),
            row_next: 0,
            not_before: None,
            waits_for: Rare::default(),
            step_next: 0,
            unsuccessful: Rare::default(),
            pace_us: 0,
        }
    }

    /// The cluster at this time. What runs was placed as the planner would have.
    pub(super) fn state(&self, now: Timestamp) -> State {
        let rules = self.rules();
        let mut books = Books::new(1000);
        for (user, used) in USERS.iter().zip(self.used) {
            let account = if *user == "eve" { "lab" } else { "default" };
            let usage = Usage {
                amount: f64::from(used),
                at: now,
            };
            books.restore((account.into(), (*user).into()), usage);
        }
        let nodes = self.machines.iter().zip(1..);
        let nodes = nodes
            .map(|(machine, id)| (NodeId(id), Arc::new(node(id, machine, now))))
            .collect();
        let pool = NodePool::under(&rules, &nodes);
        let mut state = State {
            nodes,
            emptied: pool.emptied(),
            pool,
            jobs: OrdMap::new(),
            queue: Queue::default(),
            occupancy: Occupancy::default(),
            idle: BTreeSet::new(),
            promised: Vec::new(),
            bookings: Bookings::default(),
            standings: books.standings(&rules, now, []),
            rules,
            tally: Tally::default(),
        };
        let mut id = 0;
        for going in &self.running {
            id += 1;
            let granted = now.plus_ms(-1000 * i64::from(going.age_s));
            let count = if going.idle { 2 } else { 1 };
            let job = self.job(id, &going.what, granted, count);
            let Some(allocation) = place(&state, &job) else {
                continue;
            };
            let job_id = job.id;
            state.enter(job);
            state.grant(job_id, allocation, 1, granted);
            if going.idle {
                state.rest(job_id);
            }
        }
        let mut shared: Vec<Arc<Request>> = Vec::new();
        for waiting in &self.waiting {
            id += 1;
            let submitted = now.plus_ms(-1000 * i64::from(waiting.waited_s));
            let mut job = self.job(id, &waiting.what, submitted, waiting.count);
            let spec = Arc::make_mut(&mut job.spec);
            if waiting.count > 1 {
                let mut array = ArraySpec::parse(&format!("0-{}", waiting.count - 1), 100).unwrap();
                array.throttle = waiting.throttle;
                spec.array = Some(Box::new(array));
            }
            match shared.iter().find(|known| **known == spec.request) {
                Some(known) if !waiting.copied => spec.request = Arc::clone(known),
                _ => shared.push(Arc::clone(&spec.request)),
            }
            state.enter(job);
        }
        state
    }
}

/// A place for a job on what is free.
fn place(state: &State, job: &Job) -> Option<Allocation> {
    let pool = &state.pool;
    let partition = state.rules.partitions.get(job.spec.partition.as_str());
    let request = &job.spec.request;
    let there = |id: NodeId| {
        let node = &state.nodes[&id];
        is_open(request, node) && admits(request, &job.owner, partition, node)
    };
    let parts = pool.find(&pool.ask(request, there))?;
    Picks::default().pick(&state.nodes, pool, &parts)
}
