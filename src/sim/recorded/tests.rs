//! A history is made by the simulator itself, so that what it says is known.

use super::*;
use crate::scheduler::Rule;
use crate::sim::{cluster_file, jobs_file, simulate};
use crate::wire::view::GpuView;

const CLUSTER: &str =
    "[[node]]\nname = \"n[1-4]\"\ncpus = 4\nnuma = 2\nmemory = \"8G\"\ngpus = \"a100:1\"\n";
const JOBS: &str = "[[job]]\nuser = \"ann\"\ncount = 40\nevery = \"7m\"\nrun = { from = \"5m\", to = \"80m\" }\nlimit = \"2h\"\ncpus = 2\n\
    [[job]]\nuser = \"bob\"\ncount = 12\nevery = \"25m\"\nrun = \"40m\"\nlimit = \"1h\"\ncpus = 3\nnodes = 3\n\
    [[job]]\nuser = \"cyn\"\ncount = 12\nevery = \"23m\"\nrun = \"50m\"\nlimit = \"1h\"\ngpus = 1\nmemory = \"1G\"\n\
    [[job]]\nuser = \"cyn\"\ncount = 3\nat = \"30m\"\nevery = \"1h\"\nrun = \"9m\"\nlimit = \"1h\"\narray = \"0-9\"\n";

fn setup(rule: Rule) -> Setup {
    let read = cluster_file::parse(CLUSTER).unwrap();
    let mut setup = Setup {
        settings: read.settings,
        rules: read.rules,
        nodes: read.nodes,
        check: true,
        ..Setup::default()
    };
    setup.settings.policy.rule = rule;
    setup
}

fn blank(id: u32, user: &str) -> JobView {
    JobView {
        id,
        array_task: None,
        array_tasks: None,
        raw_id: id,
        name: "job".into(),
        user: user.into(),
        uid: 7,
        gid: 7,
        account: "default".into(),
        qos: "normal".into(),
        partition: "batch".into(),
        state: "COMPLETED".into(),
        reason: None,
        reason_detail: None,
        exit_code: Some(0),
        signal: None,
        cancelled_by: None,
        submit_time: Timestamp(0),
        start_time: None,
        end_time: None,
        expected_start: None,
        begin_time: None,
        time_limit_s: Some(3600),
        nodes: vec!["n1".into()],
        nodes_requested: 1,
        ntasks: 1,
        cpus: 1,
        cpus_per_task: 1,
        memory_mib: 100,
        gpus: 0,
        restarts: 0,
        dependency: None,
        work_dir: "/".into(),
        stdout_path: None,
        stderr_path: None,
        command: "true".into(),
        comment: None,
        priority: 0,
        elements: None,
        placement: Vec::new(),
        steps: Vec::new(),
        usage: None,
    }
}

/// What the history would say of this outcome.
fn rows(workload: &Workload, outcome: &Outcome) -> Vec<JobView> {
    let row = |one: &crate::sim::outcome::Element| {
        let job = &workload.jobs[one.job as usize];
        let spec = &workload.specs[job.spec as usize];
        let place = &outcome.places[one.place as usize];
        let names = place.iter().map(|at| outcome.nodes[*at as usize].clone());
        let request = &spec.request;
        JobView {
            array_task: spec.array.is_some().then_some(one.position),
            raw_id: one.id,
            submit_time: one.submitted,
            start_time: Some(one.started),
            end_time: Some(one.ended),
            time_limit_s: spec.time_limit_s,
            nodes: names.collect(),
            nodes_requested: request.nodes_min,
            ntasks: request.ntasks_or_default(),
            cpus: one.cpus,
            cpus_per_task: request.cpus_per_task_or_default(),
            memory_mib: match request.memory {
                MemoryRequest::PerNode(mib) => mib * place.len() as u64,
                _ => 2048 * u64::from(one.cpus),
            },
            gpus: one.gpus,
            ..blank(
                one.id - one.position,
                &workload.owners[job.owner as usize].name,
            )
        }
    };
    outcome.elements.iter().map(row).collect()
}

#[test]
fn a_history_replayed_as_it_was_waits_as_it_did() {
    let workload = jobs_file::parse(JOBS, 1).unwrap();
    let live = simulate(setup(Rule::Fcfs), &workload).unwrap();
    let mut recorder = Recorder::default();
    // The newest first, as the controller tells it.
    for row in rows(&workload, &live).iter().rev() {
        recorder.push(row).unwrap();
    }
    let past = recorder.finish();
    assert_eq!(past.workload.jobs.len(), 40 + 12 + 12 + 3);
    let again = |rule| {
        let mut setup = setup(rule);
        setup.rules = rules(Rules::initial(), &[], &past);
        simulate(setup, &past.workload).unwrap()
    };
    let same = again(Rule::Fcfs);
    assert_eq!(same.fingerprint(), live.fingerprint());
    let changes = compare(&past, &same);
    assert!(changes[0].before_ms > 0, "they waited");
    assert!(
        changes
            .iter()
            .all(|change| change.before_ms == change.after_ms)
    );
    let changes = compare(&past, &again(Rule::Easy));
    assert_eq!(changes[0].elements, 94);
    assert!(changes[0].after_ms < changes[0].before_ms, "{changes:?}");
    let users: i128 = changes[1..].iter().map(|change| change.after_ms).sum();
    assert_eq!(users, changes[0].after_ms);
    let worse = |change: &Change| change.after_ms - change.before_ms;
    assert!(worse(&changes[1]) >= worse(&changes[3]), "{changes:?}");
}

#[test]
fn what_a_history_says_besides_is_heeded() {
    let at = |seconds| Some(Timestamp::from_seconds(seconds));
    let ran = |id, user, submit, start, end| JobView {
        submit_time: Timestamp::from_seconds(submit),
        start_time: at(start),
        end_time: at(end),
        ..blank(id, user)
    };
    let mut recorder = Recorder::default();
    let list = [
        ran(1, "ann", 0, 0, 100),
        JobView {
            dependency: Some("afterok:1".into()),
            account: "physics".into(),
            qos: "high".into(),
            partition: "old".into(),
            time_limit_s: Some(9 * 86_400),
            ..ran(2, "ann", 10, 120, 130)
        },
        // All four cpus of its node.
        JobView {
            cpus: 4,
            ..ran(3, "bob", 10, 10, 20)
        },
        // A copy, and one that was cancelled while it waited.
        JobView {
            cpus: 0,
            cpus_per_task: 0,
            ..ran(4, "bob", 10, 10, 20)
        },
        JobView {
            start_time: None,
            ..ran(5, "bob", 10, 10, 20)
        },
    ];
    for row in &list {
        recorder.push(row).unwrap();
    }
    let past = recorder.finish();
    assert_eq!((past.workload.jobs.len(), past.left_out), (3, 2));
    assert_eq!(past.waits, [[0], [110_000], [0]]);
    let mut setup = setup(Rule::Easy);
    let partition = PartitionView {
        name: "batch".into(),
        default: true,
        state: "UP".into(),
        max_time_s: Some(7200),
        nodes: vec!["n1".into()],
    };
    setup.rules = rules(Rules::initial(), &[partition], &past);
    assert_eq!(setup.rules.partitions["batch"].max_time_s, Some(7200));
    let outcome = simulate(setup, &past.workload).unwrap();
    assert_eq!(outcome.refused.len(), 0, "{:?}", outcome.refused);
    let starts: Vec<i64> = outcome
        .elements
        .iter()
        .map(|one| one.started.seconds())
        .collect();
    assert_eq!(starts, [0, 100, 10]);
    assert_eq!(outcome.elements[2].cpus, 4);
}

#[test]
fn machines_are_those_that_are_known_now() {
    let gpu = |index, kind: &str| GpuView {
        index,
        kind: kind.into(),
        uuid: String::new(),
        memory_mib: 0,
        free: true,
    };
    let node = NodeView {
        name: "g1".into(),
        state: "IDLE".into(),
        responding: true,
        reason: None,
        cpus: 8,
        cpus_free: 3,
        memory_mib: 4096,
        memory_free_mib: 0,
        gpus: vec![gpu(0, "t4"), gpu(1, "a100"), gpu(2, "t4")],
        numa_nodes: 2,
        jobs: Vec::new(),
        version: String::new(),
        uid: 0,
        remarks: Vec::new(),
    };
    let machines = nodes(&[node]);
    let topology = &machines[0].topology;
    assert_eq!((topology.cpu_count(), topology.numa_nodes.len()), (8, 2));
    let kinds: Vec<&str> = topology.gpus.iter().map(|gpu| gpu.kind.as_str()).collect();
    assert_eq!(kinds, ["a100", "t4", "t4"]);
}

#[test]
fn decisions_are_those_of_the_run_that_was_recorded() {
    let workload = jobs_file::parse(JOBS, 5).unwrap();
    let live = simulate(setup(Rule::EasySjbf), &workload).unwrap();
    let ran = |at: u32| {
        let its = live.elements.iter().filter(move |one| one.job == at);
        // By number, so by position.
        its.map(|one| (one.started, one.ended)).collect()
    };
    let list = workload.jobs.iter().zip(0..).map(|(job, at)| Submission {
        at: job.at,
        owner: workload.owners[job.owner as usize].clone(),
        spec: workload.specs[job.spec as usize].clone(),
        ran: ran(at),
    });
    let starts = decisions(setup(Rule::EasySjbf), list.collect()).unwrap();
    assert_eq!(starts.len(), live.elements.len());
    for one in &live.elements {
        let place = &live.places[one.place as usize];
        let nodes = place.iter().map(|at| live.nodes[*at as usize].clone());
        let start = Start {
            job: one.job as usize,
            position: one.position,
            at: one.started,
            nodes: nodes.collect(),
        };
        assert!(starts.binary_search(&start).is_ok(), "{start:?}");
    }
}
