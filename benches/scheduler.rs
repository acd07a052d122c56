//! What a pass of the planner costs: `cargo bench --bench scheduler`.
//!
//! A cluster of 1,000 nodes with cpus, memory and GPUs, nearly full, and a long queue of 200 shapes by 20 users. A full
//! pass plans from nothing but the view. "One submit" and "one end" are the passes that follow these, as the loop of the
//! controller makes them: none where nothing can have changed, and what they start is adopted.
#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a bench measures and prints"
)]
#![expect(unsafe_code, reason = "an allocator that counts is one")]

use hpc::cluster::changes::Counters;
use hpc::cluster::{Cluster, Command, Effect, Principal, Settings};
use hpc::model::identity::Role;
use hpc::model::ids::{BlobId, JobId, NodeId, SlotKey};
use hpc::model::job::{
    ElementEnd, ExitStatus, Job, JobSpec, JobState, Launch, OpenMode, Owner, Reason, Usage,
};
use hpc::model::node::{Inventory, Serves};
use hpc::model::resource::{GpuCount, GpuRequest, MemoryRequest, Request};
use hpc::model::time::Timestamp;
use hpc::model::topology::{Gpu, LogicalCpu, NumaNode, Topology};
use hpc::scheduler::forecast::{Assume, forecast};
use hpc::wire::worker::FromSlot;
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const NODES: u32 = 1_000;
const USERS: u32 = 20;
const SHAPES: u32 = 200;

/// The system's allocator, and how much of it is in use.
struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static COUNTING: Counting = Counting;

/// What glibc takes for so much: a word in front, in units of two.
fn chunk(size: usize) -> usize {
    (size + 8).next_multiple_of(16).max(32)
}

/// There is one thread, so this need not be atomic and costs nothing.
fn count(gone: usize, come: usize) {
    let before = IN_USE.load(Ordering::Relaxed);
    let after = before.wrapping_add(come).wrapping_sub(gone);
    IN_USE.store(after, Ordering::Relaxed);
}

// SAFETY: all is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(0, chunk(layout.size()));
        // SAFETY: the caller's promise is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(chunk(layout.size()), 0);
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(0, chunk(layout.size()));
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(chunk(layout.size()), chunk(size));
        // SAFETY: as above.
        unsafe { System.realloc(at, layout, size) }
    }
}

fn in_use() -> usize {
    IN_USE.load(Ordering::Relaxed)
}

/// Bytes of a job's record, as the cluster has it: without what it shares with others.
fn record_bytes(cluster: &Cluster) -> usize {
    let waiting = cluster.jobs().filter(|job| job.slots.is_empty());
    let mut copies: Vec<Arc<Job>> = Vec::with_capacity(100_000);
    let before = in_use();
    for job in waiting.take(100_000) {
        let mut copy = Job::clone(job);
        copy.spec = Arc::new(JobSpec::clone(&job.spec));
        copies.push(Arc::new(copy));
    }
    (in_use() - before) / copies.len().max(1)
}

/// splitmix64 (Steele, Lea and Flood, OOPSLA 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u32) -> u32 {
        u32::try_from(self.next() % u64::from(bound)).unwrap_or(0)
    }
}

fn inventory(at: u32) -> Inventory {
    let cpus = 64;
    let gpus = if at.is_multiple_of(4) { 8 } else { 0 };
    let numa = |cpu: u32| cpu / (cpus / 2);
    Inventory {
        name: format!("n{at}"),
        topology: Topology {
            cpus: (0..cpus)
                .map(|id| LogicalCpu {
                    id,
                    core: id,
                    package: numa(id),
                    numa: numa(id),
                    real: true,
                })
                .collect(),
            numa_nodes: (0..2)
                .map(|id| NumaNode {
                    id,
                    cpus: (0..cpus).filter(|cpu| numa(*cpu) == id).collect(),
                    memory_mib: 128 * 1024,
                    distances: vec![10, 20],
                })
                .collect(),
            memory_mib: 256 * 1024,
            gpus: (0..gpus)
                .map(|index| Gpu {
                    index,
                    kind: "a100".to_owned(),
                    uuid: String::new(),
                    memory_mib: 40_960,
                    numa: Some(index / 4),
                    minor: None,
                    real: true,
                })
                .collect(),
        },
        boot_id: String::new(),
        version: String::new(),
        uid: 0,
        remarks: Vec::new(),
    }
}

/// One of 200 shapes: cpus, memory, GPUs, nodes, limit.
fn shape(at: u32) -> (Request, u32) {
    let mut random = Random(u64::from(at) + 1);
    let gpus = match at % 5 {
        0 => 1 + random.below(8),
        _ => 0,
    };
    let nodes = if at % 20 == 7 {
        2 + random.below(15)
    } else {
        1
    };
    let request = Request {
        nodes_min: nodes,
        ntasks: Some(nodes),
        cpus_per_task: Some(1 + random.below(32)),
        memory: MemoryRequest::PerNode(u64::from(1 + random.below(64)) * 1024),
        gpus: match gpus {
            0 => GpuRequest::None,
            count => GpuRequest::PerNode(GpuCount { kind: None, count }),
        },
        ..Request::default()
    };
    (request, 600 * (1 + random.below(140)))
}

fn spec(at: u32) -> JobSpec {
    let (request, limit_s) = shape(at);
    JobSpec {
        name: "job".into(),
        partition: Default::default(),
        account: Default::default(),
        qos: Default::default(),
        launch: Launch::Command {
            arguments: BlobId([1; 32]),
        },
        surroundings: BlobId([2; 32]),
        command: "true".into(),
        request: request.into(),
        array: None,
        dependency: None,
        kill_on_invalid_dependency: false,
        begin: None,
        time_limit_s: Some(limit_s),
        hold: false,
        requeue: false,
        nice: 0,
        signal: None,
        work_dir: "/tmp".into(),
        output: None,
        error: None,
        input: None,
        open_mode: OpenMode::Usual,
        kill_wait_s: 30,
        comment: None,
        submit_host: "here".into(),
    }
}

struct Bench {
    cluster: Cluster,
    now: Timestamp,
    random: Random,
    reports: u64,
}

impl Bench {
    fn new(nodes: u32) -> Self {
        let now = Timestamp(1_000_000_000);
        let settings = Settings {
            jobs_max: 10_000_000,
            ..Settings::default()
        };
        let cluster = Cluster::new(settings, Counters::default(), vec![], vec![], vec![], now);
        let mut bench = Bench {
            cluster,
            now,
            random: Random(7),
            reports: 0,
        };
        for at in 0..nodes {
            bench.handle(Command::Register {
                inventory: Box::new(inventory(at)),
                serves: Serves::Everyone,
                slots: vec![],
                gives_leases: false,
            });
        }
        bench
    }

    fn handle(&mut self, command: Command) -> Vec<Effect> {
        let handled = self.cluster.handle(self.now, command);
        handled.expect("a bench asks for what is granted").effects
    }

    fn submit(&mut self) -> Vec<Effect> {
        let user = 1000 + self.random.below(USERS);
        let at = self.random.below(SHAPES);
        let who = Principal {
            owner: Owner {
                uid: user,
                gid: user,
                name: format!("user{user}").into(),
            },
            role: Role::User,
            from: "local".into(),
        };
        self.handle(Command::Submit {
            who,
            spec: Box::new(spec(at)),
            ended: vec![],
            dry_run: false,
        })
    }

    /// As the loop of the controller does: a plan, if what was done asks for one.
    fn turn(&mut self, act: impl FnOnce(&mut Self) -> Vec<Effect>) -> Duration {
        let effects = act(self);
        let begun = Instant::now();
        if effects.contains(&Effect::Plan) {
            self.cluster.schedule(self.now);
        }
        begun.elapsed()
    }

    fn pass(&mut self) -> Duration {
        let begun = Instant::now();
        self.cluster.schedule(self.now);
        begun.elapsed()
    }

    /// Fills the nodes, with everybody's clock moving on between.
    fn fill(&mut self, jobs: u32) {
        for at in 0..jobs {
            self.submit();
            if at % 1000 == 999 {
                self.now = self.now.plus_ms(1000);
                self.pass();
            }
        }
        while self.cluster.plan(self.now).entries.iter().any(|_| true) {
            self.pass();
        }
        drop(self.cluster.take_changes());
    }

    /// A job that runs on one node ends.
    fn end_one(&mut self) -> Vec<Effect> {
        let running: Vec<(JobId, SlotKey, NodeId)> = self
            .cluster
            .jobs()
            .filter(|job| job.slots.len() == 1 && job.slots[0].allocation.nodes.len() == 1)
            .map(|job| {
                let slot = &job.slots[0];
                let key = SlotKey {
                    job: job.id,
                    slot: slot.id,
                };
                (job.id, key, slot.allocation.nodes[0].node)
            })
            .take(2000)
            .collect();
        let at = self.random.below(u32::try_from(running.len()).unwrap_or(1));
        let (_, key, node) = running[at as usize];
        self.reports += 1;
        let end = ElementEnd {
            position: 0,
            state: JobState::Completed,
            reason: Reason::None,
            exit: ExitStatus::default(),
            cancelled_by: None,
            started: Some(self.now),
            ended: self.now,
            usage: Usage::default(),
            restarts: 0,
        };
        let report = FromSlot::Ended {
            report: self.reports,
            ends: vec![end],
        };
        self.handle(Command::Report { node, key, report })
    }
}

fn spread(name: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |part: usize| times[(times.len() * part / 100).min(times.len() - 1)];
    let us = |time: Duration| time.as_secs_f64() * 1e6;
    println!(
        "{name:<34} median {:>9.1} us   p99 {:>9.1} us   max {:>9.1} us   ({} times)",
        us(at(50)),
        us(at(99)),
        us(*times.last().unwrap_or(&Duration::ZERO)),
        times.len()
    );
}

/// How often a pass is measured; more of them are for a profiler.
fn asked_passes() -> u32 {
    let asked = std::env::var("HPC_PASSES").ok();
    asked.and_then(|asked| asked.parse().ok()).unwrap_or(200)
}

fn measure(queued: u32) {
    let mut bench = Bench::new(NODES);
    bench.fill(20_000);
    let before = in_use();
    let waiting = bench.cluster.view().queue.len();
    let more = queued.saturating_sub(u32::try_from(waiting).unwrap_or(0));
    for _ in 0..more {
        bench.submit();
    }
    drop(bench.cluster.take_changes());
    let grown = in_use().saturating_sub(before) / more.max(1) as usize;
    let record = record_bytes(&bench.cluster);
    let view = bench.cluster.view();
    let free: u32 = view.nodes.values().map(|node| node.cpus_free.len()).sum();
    println!(
        "\n{} jobs queued in {} groups, {} slots run, {} of {} cpus are free",
        view.queue.len(),
        view.queue.groups().count(),
        view.occupancy.iter().count(),
        free,
        NODES * 64,
    );
    if more > 0 {
        let beyond = grown.saturating_sub(record);
        println!("a queued job takes {grown} B: {record} B of its record, {beyond} B beyond");
    }
    let passes = (0..200).map(|_| {
        // Everybody's standing is drawn up anew in each.
        bench.now = bench.now.plus_ms(201);
        bench.pass()
    });
    spread("full pass, standings anew", passes.collect());
    let passes = (0..asked_passes()).map(|_| bench.pass());
    spread("pass", passes.collect());
    let turns = (0..200).map(|_| bench.turn(Bench::submit));
    spread("pass after one submit", turns.collect());
    let turns = (0..asked_passes()).map(|_| bench.turn(Bench::end_one));
    spread("pass after one end", turns.collect());
    if queued <= 100_000 {
        let outlook = bench.cluster.outlook();
        let begun = Instant::now();
        let assume = Assume { part_milli: 300 };
        let seen = forecast(&outlook, bench.now, assume, None);
        println!(
            "{} expected starts in {:.0} ms",
            seen.starts.len(),
            begun.elapsed().as_secs_f64() * 1e3
        );
    }
}

/// A trace without places.
fn replays() {
    use flate2::read::GzDecoder;
    use hpc::sim::replay::{Rule, replay};
    use hpc::sim::swf::Trace;
    use std::io::Read;
    let file = "tests/data/SDSC-SP2-1998-4.2-cln.swf.gz";
    let Ok(file) = std::fs::File::open(file) else {
        println!("{file} is not there");
        return;
    };
    let begun = Instant::now();
    let mut text = String::new();
    if GzDecoder::new(file).read_to_string(&mut text).is_err() {
        return;
    }
    let Ok(trace) = Trace::parse(&text, None) else {
        return;
    };
    let jobs = trace.jobs.len();
    let read = begun.elapsed().as_secs_f64();
    println!(
        "\n{jobs} jobs of a trace are unpacked and read in {:.0} ms",
        read * 1e3
    );
    for rule in [
        Rule::Fcfs,
        Rule::Easy,
        Rule::EasySjbf,
        Rule::EasyPredicted,
        Rule::Conservative,
    ] {
        let mut times: Vec<f64> = (0..5)
            .map(|_| {
                let begun = Instant::now();
                std::hint::black_box(replay(&trace, rule));
                begun.elapsed().as_secs_f64()
            })
            .collect();
        times.sort_by(f64::total_cmp);
        let jobs_s = jobs as f64 / times[2];
        println!(
            "replayed, {rule:?}: {:.0} ms, {jobs_s:.0} jobs a second",
            times[2] * 1e3
        );
    }
}

fn main() {
    let asked = std::env::var("HPC_QUEUED").ok();
    if let Some(queued) = asked.and_then(|asked| asked.parse().ok()) {
        measure(queued);
        return;
    }
    replays();
    for queued in [10_000, 100_000, 1_000_000] {
        measure(queued);
    }
}
