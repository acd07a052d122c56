//! Our own cost per task: the controller's core, its scheduler and the store, with durable commits, and ends that
//! nobody had to run for.

use hpc::cluster::{Cluster, Command, Effect, Principal, Reply, Settings};
use hpc::model::array::ArraySpec;
use hpc::model::ids::{BlobId, SlotKey};
use hpc::model::job::{ElementEnd, ExitStatus, JobSpec, JobState, Launch, Owner, Reason, Usage};
use hpc::model::node::Inventory;
use hpc::model::time::Timestamp;
use hpc::model::topology::{LogicalCpu, NumaNode, Topology};
use hpc::store::{Store, StoreOptions};
use hpc::wire::worker::FromSlot;
use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

const TASKS: u32 = 64_000;
const BATCH: usize = 64;

fn inventory() -> Inventory {
    let topology = Topology {
        cpus: (0..2)
            .map(|id| LogicalCpu {
                id,
                core: id,
                package: 0,
                numa: 0,
                real: true,
            })
            .collect(),
        numa_nodes: vec![NumaNode {
            id: 0,
            cpus: vec![0, 1],
            memory_mib: 4096,
            distances: vec![10],
        }],
        memory_mib: 4096,
        gpus: Vec::new(),
    };
    Inventory {
        name: "zero".into(),
        topology,
        boot_id: String::new(),
        version: String::new(),
        uid: 0,
        remarks: Vec::new(),
    }
}

fn spec() -> JobSpec {
    JobSpec {
        name: "zero".into(),
        partition: Default::default(),
        account: Default::default(),
        qos: Default::default(),
        launch: Launch::Command {
            arguments: BlobId([1; 32]),
        },
        surroundings: BlobId([2; 32]),
        command: "true".into(),
        request: Default::default(),
        array: Some(Box::new(
            ArraySpec::parse(&format!("1-{TASKS}"), 4_000_000).expect("an array"),
        )),
        dependency: None,
        kill_on_invalid_dependency: false,
        begin: None,
        time_limit_s: None,
        hold: false,
        requeue: false,
        nice: 0,
        signal: None,
        work_dir: "/tmp".into(),
        output: None,
        error: None,
        input: None,
        open_mode: Default::default(),
        kill_wait_s: 30,
        comment: None,
        submit_host: "bench".into(),
    }
}

fn process_cpu_us() -> u64 {
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF)
        .expect("our own usage");
    let us = |time: nix::sys::time::TimeVal| {
        u64::try_from(time.tv_sec()).unwrap_or(0) * 1_000_000
            + u64::try_from(time.tv_usec()).unwrap_or(0)
    };
    us(usage.user_time()) + us(usage.system_time())
}

/// One turn as the controller takes it; what was granted is appended to `work`.
fn turn(cluster: &mut Cluster, store: &mut Store, now: Timestamp, command: Command) -> Reply {
    let handled = cluster.handle(now, command).expect("the command holds");
    if handled.effects.contains(&Effect::Plan) {
        cluster.schedule(now);
    }
    let changes = cluster.take_changes();
    if !changes.is_empty() {
        let blobs: [(BlobId, Arc<[u8]>); 2] = [
            (BlobId([1; 32]), Arc::from(&b"true"[..])),
            (BlobId([2; 32]), Arc::from(&b"env"[..])),
        ];
        store.commit(&changes, &blobs).expect("the commit holds");
    }
    std::hint::black_box(cluster.snapshot());
    handled.reply
}

/// Prints cpu and wall time per task with durable ends in batches of 64.
pub(crate) fn measure(scratch: &Path) {
    let (mut store, loaded) =
        Store::open(&scratch.join("zero.redb"), StoreOptions::default()).expect("a new store");
    let mut now = Timestamp(1_700_000_000_000);
    let mut cluster = Cluster::new(
        Settings::default(),
        loaded.counters,
        vec![],
        vec![],
        vec![],
        now,
    );
    let register = Command::Register {
        inventory: Box::new(inventory()),
        serves: hpc::model::node::Serves::Everyone,
        slots: vec![],
        gives_leases: true,
    };
    turn(&mut cluster, &mut store, now, register);
    let who = Principal {
        owner: Owner {
            uid: 1000,
            gid: 1000,
            name: "bench".into(),
        },
        role: hpc::model::identity::Role::User,
        from: "local".into(),
    };
    let submit = Command::Submit {
        who,
        spec: Box::new(spec()),
        ended: vec![],
        dry_run: false,
    };
    let Reply::Submitted(job) = turn(&mut cluster, &mut store, now, submit) else {
        panic!("not submitted")
    };
    let node = cluster
        .snapshot()
        .nodes
        .keys()
        .copied()
        .next()
        .expect("one node");
    let (begin, mut report, mut done) = (std::time::Instant::now(), 0, 0u32);
    let cpu = process_cpu_us();
    while let Some(known) = cluster.job(job) {
        // The fullest slot has the most to say.
        let slot = known
            .slots
            .iter()
            .max_by_key(|slot| slot.queue.len())
            .expect("a job that goes on has a slot");
        let key = SlotKey { job, slot: slot.id };
        let positions: VecDeque<u32> = slot.queue.iter().take(BATCH).collect();
        now = now.plus_ms(1);
        let end = |position| ElementEnd {
            position,
            state: JobState::Completed,
            reason: Reason::None,
            exit: ExitStatus::default(),
            cancelled_by: None,
            started: Some(now),
            ended: now,
            usage: Usage {
                cpu_ms: 1,
                max_rss_kib: 1800,
                read_bytes: 0,
                write_bytes: 0,
            },
            restarts: 0,
        };
        let ends: Vec<ElementEnd> = positions.into_iter().map(end).collect();
        done += u32::try_from(ends.len()).expect("a batch");
        report += 1;
        let report = FromSlot::Ended { report, ends };
        turn(
            &mut cluster,
            &mut store,
            now,
            Command::Report { node, key, report },
        );
    }
    assert_eq!(done, TASKS, "every task ended once");
    #[allow(clippy::cast_precision_loss, reason = "microseconds of one run")]
    let per_task = |us: u64| us as f64 / f64::from(TASKS);
    let wall = u64::try_from(begin.elapsed().as_micros()).unwrap_or(0);
    println!(
        "zero-worker, ends in batches   {:8.1} us cpu a task ({:.1} us wall; {} reports for {TASKS} tasks)",
        per_task(process_cpu_us() - cpu),
        per_task(wall),
        report
    );
}
