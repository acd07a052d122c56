//! The core by its words: *expect* these effects *when* this input.

mod lease;
mod limits;
mod reports;
mod spawns;
mod wires;

use super::*;
use crate::model::allocation::NodeShare;
use crate::model::array::ArraySpec;
use crate::model::ids::{BlobId, JobId, NodeId, SlotId, SlotKey};
use crate::model::job::{JobSpec, JobState, Owner, Reason, Surroundings};
use crate::model::resource::{GpuCount, GpuRequest};
use crate::model::signal::SignalSpec;
use std::sync::Arc;

fn blob<T: serde::Serialize>(value: &T) -> (BlobId, Vec<u8>) {
    let bytes = postcard::to_allocvec(value).unwrap();
    (BlobId::of(&bytes), bytes)
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// A launch of a command on one node.
fn command() -> SlotLaunch {
    let arguments = blob(&words(&["/bin/true"]));
    let around = Surroundings {
        environment: vec![
            (b"HOME".to_vec(), b"/home/ada".to_vec()),
            (b"SLURM_ARRAY_TASK_ID".to_vec(), b"9".to_vec()),
            (b"BASH_FUNC_module%%".to_vec(), b"() { a\n}".to_vec()),
        ],
        umask: 0o22,
        limits: Vec::new(),
    };
    let around = blob(&around);
    let spec = JobSpec {
        name: "job".into(),
        partition: "batch".into(),
        account: "default".into(),
        qos: "normal".into(),
        launch: Launch::Command {
            arguments: arguments.0,
        },
        surroundings: around.0,
        command: "true".into(),
        request: Default::default(),
        array: None,
        dependency: None,
        kill_on_invalid_dependency: false,
        begin: None,
        time_limit_s: None,
        hold: false,
        requeue: false,
        nice: 0,
        signal: None,
        work_dir: "/work".into(),
        output: None,
        error: None,
        input: None,
        open_mode: Default::default(),
        kill_wait_s: 30,
        comment: None,
        submit_host: "ws1".into(),
    };
    let share = NodeShare {
        node: NodeId(1),
        tasks: 1,
        cpus: (0..4u16).collect(),
        memory_mib: 100,
        gpus: Vec::new(),
    };
    SlotLaunch {
        key: SlotKey {
            job: JobId(12),
            slot: SlotId(0),
        },
        spec: Arc::new(spec),
        owner: Owner {
            uid: 1000,
            gid: 1000,
            name: "ada".into(),
        },
        cluster: "lab".into(),
        granted: Timestamp(1_000_000),
        granted_age_ms: 0,
        nodes: vec!["n1".into()],
        shares: vec![share],
        node_index: 0,
        time_limit_s: None,
        blobs: vec![arguments, around],
        positions: IndexSet::from_range(0, 1),
        restarts: Vec::new(),
    }
}

/// The same as an array with these positions.
fn array(positions: u32) -> SlotLaunch {
    let mut launch = command();
    spec(&mut launch).array = Some(Box::new(ArraySpec::parse("10-19", 1000).unwrap()));
    launch.positions = IndexSet::from_range(0, positions);
    launch
}

fn spec(launch: &mut SlotLaunch) -> &mut JobSpec {
    Arc::make_mut(&mut launch.spec)
}

/// A core under test, with its clock.
struct Fixture {
    core: SlotCore,
    now: u64,
    /// Helpers that serve PMIx can be started.
    library: bool,
    /// No doors can be made.
    doorless: bool,
}

const BATCH: TaskId = TaskId {
    step: StepId::BATCH,
    rank: 0,
};

impl Fixture {
    fn new(launch: SlotLaunch) -> (Self, Vec<Effect>) {
        let site = Site {
            node: "n1".into(),
            state_id: "x".into(),
            script: "/spool/script".into(),
            ..Site::default()
        };
        let mut fixture = Fixture {
            core: SlotCore::new(0, launch, site),
            now: 0,
            library: false,
            doorless: false,
        };
        let effects = fixture.when(Input::Begin);
        (fixture, effects)
    }

    fn when(&mut self, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.core.handle(self.now, input, &mut effects);
        let mut next = 0;
        while let Some(effect) = effects.get(next) {
            next += 1;
            let answer = match effect {
                // There is no library here, unless a test has one.
                Effect::PmixStart { step, .. } if !self.library => Input::PmixGone {
                    step: *step,
                    text: Some("there is no library".to_owned()),
                },
                Effect::PmixDoor { step, promise, .. } => Input::PmixDoor {
                    step: *step,
                    variables: match promise {
                        _ if self.doorless => Vec::new(),
                        Some(promise) => promise.variables(4_711),
                        None => vec![("PMIX_NAMESPACE".to_owned(), "nobody".to_owned())],
                    },
                },
                _ => continue,
            };
            self.core.handle(self.now, answer, &mut effects);
        }
        effects
    }

    fn order(&mut self, order: ToSlot) -> Vec<Effect> {
        self.when(Input::Order(order))
    }

    fn exits(&mut self, task: TaskId, code: u8, signal: u8) -> Vec<Effect> {
        let usage = Usage {
            cpu_ms: 5,
            ..Usage::default()
        };
        self.when(Input::TaskExited {
            task,
            exit: ExitStatus { code, signal },
            usage,
        })
    }

    /// The time of the next deadline comes.
    fn time_passes(&mut self) -> Vec<Effect> {
        self.now = self.core.next_deadline().expect("a deadline");
        self.when(Input::Timer)
    }
}

fn spawned(effects: &[Effect]) -> Vec<&LaunchPlan> {
    effects
        .iter()
        .filter_map(|effect| {
            if let Effect::Spawn(plan) = effect {
                Some(&**plan)
            } else {
                None
            }
        })
        .collect()
}

fn ends(effects: &[Effect]) -> Vec<&crate::model::job::ElementEnd> {
    let reports = effects.iter().filter_map(|effect| match effect {
        Effect::Report(FromSlot::Ended { ends, .. }) => Some(ends),
        _ => None,
    });
    reports.flatten().collect()
}

fn signals(effects: &[Effect]) -> Vec<(i32, &Recipients)> {
    let signals = effects.iter().filter_map(|effect| match effect {
        Effect::Signal { signal, to } => Some((*signal, to)),
        _ => None,
    });
    signals.collect()
}

fn variable<'a>(plan: &'a LaunchPlan, name: &str) -> Option<&'a str> {
    let prefix = format!("{name}=");
    plan.environment
        .iter()
        .find_map(|line| line.to_str().ok()?.strip_prefix(&prefix))
}

#[test]
fn a_job_is_journaled_started_swept_and_reported() {
    let (mut slot, effects) = Fixture::new(command());
    assert!(matches!(
        effects[0],
        Effect::Journal(Entry::Started { position: 0, .. })
    ));
    assert_eq!(
        effects[1],
        Effect::Report(FromSlot::Started {
            position: 0,
            at: Timestamp(1_000_000)
        })
    );
    assert!(matches!(effects[2], Effect::Spawn(_)));
    slot.now = 40;
    assert_eq!(slot.exits(BATCH, 0, 0), [Effect::Sweep]);
    slot.when(Input::OrphanReaped {
        usage: Usage {
            cpu_ms: 2,
            ..Usage::default()
        },
    });
    slot.now = 50;
    let effects = slot.when(Input::Swept);
    assert!(matches!(effects[0], Effect::Journal(Entry::Ended(_))));
    let end = ends(&effects)[0];
    assert_eq!(
        (end.state, &end.reason, end.usage.cpu_ms),
        (JobState::Completed, &Reason::None, 7)
    );
    assert_eq!(
        (end.started, end.ended),
        (Some(Timestamp(1_000_000)), Timestamp(1_000_050))
    );
    assert_eq!(slot.core.next_deadline(), None);
    assert_eq!(slot.core.unacknowledged().count(), 1);
    let effects = slot.order(ToSlot::Acknowledge { report: 1 });
    assert_eq!(
        effects,
        [Effect::Journal(Entry::Acknowledged { report: 1, ends: 1 })]
    );
    assert_eq!(slot.core.unacknowledged().count(), 0);
    assert_eq!(
        slot.order(ToSlot::Close),
        [Effect::Journal(Entry::Closed), Effect::Exit]
    );
}

#[test]
fn the_end_follows_the_exit_of_the_script() {
    for (code, signal, state, reason) in [
        (0, 0, JobState::Completed, Reason::None),
        (3, 0, JobState::Failed, Reason::NonZeroExitCode),
        (0, 11, JobState::Failed, Reason::NonZeroExitCode),
    ] {
        let (mut slot, _) = Fixture::new(command());
        slot.exits(BATCH, code, signal);
        let effects = slot.when(Input::Swept);
        let end = ends(&effects)[0];
        assert_eq!(
            (end.state, end.reason.clone(), end.exit),
            (state, reason, ExitStatus { code, signal })
        );
    }
}

#[test]
fn elements_follow_at_once_and_their_ends_travel_together() {
    let (mut slot, _) = Fixture::new(array(3));
    slot.exits(BATCH, 0, 0);
    let effects = slot.when(Input::Swept);
    assert_eq!(ends(&effects).len(), 0, "the end waits for company");
    assert_eq!(
        variable(spawned(&effects)[0], "SLURM_ARRAY_TASK_ID"),
        Some("11")
    );
    assert_eq!(slot.core.next_deadline(), Some(GATHER_MS));
    slot.now = 3;
    slot.exits(BATCH, 0, 0);
    slot.when(Input::Swept);
    slot.now = 10;
    let effects = slot.when(Input::Timer);
    assert_eq!(
        ends(&effects)
            .iter()
            .map(|end| end.position)
            .collect::<Vec<_>>(),
        [0, 1]
    );
    assert_eq!(
        effects.len(),
        1,
        "its end may come before its start is said"
    );
    let effects = slot.time_passes();
    assert!(
        matches!(
            effects[..],
            [Effect::Report(FromSlot::Started { position: 2, .. })]
        ),
        "{effects:?}"
    );
    assert!(slot.now <= 3 + 2 * TICK_MS);
    slot.exits(BATCH, 0, 0);
    let effects = slot.when(Input::Swept);
    assert_eq!(ends(&effects).len(), 1, "the last one does not wait");
}

#[test]
fn positions_had_before_are_ignored_and_new_ones_start_at_once() {
    let (mut slot, _) = Fixture::new(array(1));
    slot.exits(BATCH, 0, 0);
    slot.when(Input::Swept);
    let extend = |start, end| ToSlot::Extend {
        positions: IndexSet::from_range(start, end),
        restarts: vec![(4, 2)],
    };
    assert_eq!(slot.order(extend(0, 1)), []);
    let effects = slot.order(extend(0, 2));
    assert!(
        matches!(&effects[0], Effect::Journal(Entry::Extended { positions, .. }) if positions.len() == 1)
    );
    assert_eq!(spawned(&effects).len(), 1);
    slot.order(extend(4, 5));
    slot.exits(BATCH, 0, 0);
    let effects = slot.when(Input::Swept);
    let plan = spawned(&effects)[0];
    assert_eq!(variable(plan, "SLURM_RESTART_COUNT"), Some("2"));
    assert!(
        matches!(plan.stdout, Output::File { append: true, .. }),
        "a second life appends"
    );
}

#[test]
fn what_has_not_started_is_given_back_and_the_rest_is_kept() {
    let (mut slot, _) = Fixture::new(array(5));
    let effects = slot.order(ToSlot::Retract {
        positions: IndexSet::from_range(0, 3),
    });
    let given = IndexSet::from_range(1, 3);
    assert_eq!(
        effects,
        [
            Effect::Journal(Entry::Retracted {
                positions: given.clone()
            }),
            Effect::Report(FromSlot::Retracted {
                report: 1,
                positions: given
            })
        ]
    );
    let FromSlot::Status { queue, current, .. } = slot.core.status() else {
        panic!()
    };
    assert_eq!(
        (
            queue.to_string().as_str(),
            current.map(|(position, _)| position)
        ),
        ("0,3-4", Some(0))
    );
}

#[test]
fn cancel_ends_the_waiting_at_once_and_the_running_by_term_then_kill() {
    let (mut slot, _) = Fixture::new(array(3));
    slot.now = 1000;
    let cause = KillCause::Cancel { by: 77 };
    let positions = IndexSet::from_range(0, 2);
    let effects = slot.order(ToSlot::Kill {
        positions,
        cause,
        at_once: false,
    });
    let end = ends(&effects)[0];
    assert_eq!(
        (end.position, end.state, end.cancelled_by, end.started),
        (1, JobState::Cancelled, Some(77), None)
    );
    assert!(
        effects
            .iter()
            .any(|effect| matches!(effect, Effect::Note { raw_job: 12, .. }))
    );
    assert_eq!(
        signals(&effects),
        [
            (SIGTERM, &Recipients::Everything),
            (SIGCONT, &Recipients::Everything)
        ]
    );
    assert_eq!(slot.core.next_deadline(), Some(31_000));
    assert_eq!(slot.time_passes(), [Effect::Sweep]);
    assert_eq!(slot.exits(BATCH, 0, 9), []);
    let effects = slot.when(Input::Swept);
    let Effect::Journal(Entry::Ended(end)) = &effects[0] else {
        panic!("{effects:?}")
    };
    assert_eq!(
        (end.state, end.exit.signal, end.cancelled_by),
        (JobState::Cancelled, 9, Some(77))
    );
    assert_eq!(spawned(&effects).len(), 1, "position 2 was not meant");
}

#[test]
fn at_once_skips_term_also_when_term_was_sent_before() {
    let (mut slot, _) = Fixture::new(command());
    let kill = |at_once| ToSlot::Kill {
        positions: IndexSet::from_range(0, 1),
        cause: KillCause::Requeue,
        at_once,
    };
    slot.order(kill(false));
    assert_eq!(slot.order(kill(false)), []);
    assert_eq!(slot.order(kill(true)), [Effect::Sweep]);
    slot.exits(BATCH, 0, 9);
    let effects = slot.when(Input::Swept);
    assert_eq!(
        (ends(&effects)[0].state, ends(&effects)[0].cancelled_by),
        (JobState::Cancelled, None)
    );
}

#[test]
fn an_allocation_that_is_cancelled_ends_with_its_last_step() {
    let mut launch = command();
    spec(&mut launch).launch = Launch::Hold;
    let (mut slot, _) = Fixture::new(launch);
    slot.order(ToSlot::StartStep(std::sync::Arc::new(step(1))));
    let effects = slot.order(ToSlot::Kill {
        positions: IndexSet::from_range(0, 1),
        cause: KillCause::Cancel { by: 1000 },
        at_once: false,
    });
    assert!(signals(&effects).contains(&(SIGTERM, &Recipients::Everything)));
    let effects = slot.when(Input::TaskExited {
        task: TaskId {
            step: StepId(1),
            rank: 0,
        },
        exit: ExitStatus {
            code: 0,
            signal: 15,
        },
        usage: Usage::default(),
    });
    assert!(effects.contains(&Effect::Sweep), "{effects:?}");
    let effects = slot.when(Input::Swept);
    assert_eq!(ends(&effects)[0].state, JobState::Cancelled);
}

#[test]
fn gpus_asked_for_by_task_are_seen_by_one_task_each() {
    let mut launch = command();
    let Launch::Command { arguments } = launch.spec.launch else {
        panic!("a command")
    };
    launch.shares[0].tasks = 2;
    launch.shares[0].gpus = vec![1, 3, 4, 6];
    let seen = |launch: &SlotLaunch| {
        let (_, effects) = Fixture::new(launch.clone());
        spawned(&effects)
            .into_iter()
            .map(|plan| variable(plan, "CUDA_VISIBLE_DEVICES").unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(seen(&launch), ["1,3,4,6"], "a script sees all");
    spec(&mut launch).launch = Launch::Tasks { arguments };
    assert_eq!(seen(&launch), ["1,3,4,6", "1,3,4,6"]);
    let asked = GpuCount {
        kind: None,
        count: 2,
    };
    Arc::make_mut(&mut spec(&mut launch).request).gpus = GpuRequest::PerTask(asked);
    assert_eq!(seen(&launch), ["1,3", "4,6"]);
}

fn step(tasks: u32) -> StepLaunch {
    StepLaunch {
        step: StepId(1),
        arguments: words(&["prog"]),
        environment: vec![(b"FOO".to_vec(), b"bar".to_vec())],
        work_dir: "/tmp".into(),
        tasks: vec![tasks],
        cpus_per_task: 2,
    }
}

#[test]
fn a_step_runs_beside_the_script_and_is_reported_when_its_tasks_are_over() {
    let (mut slot, _) = Fixture::new(command());
    let effects = slot.order(ToSlot::StartStep(std::sync::Arc::new(step(2))));
    let plans = spawned(&effects);
    assert_eq!(variable(plans[1], "SLURM_PROCID"), Some("1"));
    assert_eq!(variable(plans[1], "SLURM_STEP_ID"), Some("1"));
    assert_eq!(variable(plans[1], "FOO"), Some("bar"));
    assert_eq!(plans[1].cpus.to_string(), "2-3");
    assert_eq!(
        slot.order(ToSlot::StartStep(std::sync::Arc::new(step(2)))),
        [],
        "known already"
    );
    let task = |rank| TaskId {
        step: StepId(1),
        rank,
    };
    assert_eq!(slot.exits(task(1), 4, 0), []);
    let effects = slot.exits(task(0), 0, 0);
    let named = Effect::OwnWords {
        step: StepId(1),
        text: "hpc run: rank 1 on n1 exited with 4\n".to_owned(),
    };
    assert_eq!(effects[0], named);
    let Effect::Report(FromSlot::StepEnded { end, .. }) = &effects[3] else {
        panic!("{effects:?}")
    };
    assert_eq!(
        end.tasks,
        [
            (0, ExitStatus::default()),
            (1, ExitStatus { code: 4, signal: 0 })
        ]
    );
    assert_eq!(slot.exits(BATCH, 0, 0), [Effect::Sweep]);
}

#[test]
fn variables_of_a_step_on_some_nodes_speak_of_it_and_those_of_the_job_of_the_job() {
    let mut launch = command();
    launch.nodes = words(&["n1", "n2", "n3"]);
    let share = launch.shares[0].clone();
    launch.shares = vec![share; 3];
    launch.node_index = 2;
    let (mut slot, _) = Fixture::new(launch);
    slot.order(ToSlot::Go);
    let step = StepLaunch {
        tasks: vec![0, 1, 1],
        ..step(2)
    };
    let effects = slot.order(ToSlot::StartStep(std::sync::Arc::new(step)));
    let plan = spawned(&effects)[0];
    for (name, value) in [
        ("NODELIST", "n[2-3]"),
        ("NNODES", "2"),
        ("NTASKS", "2"),
        ("NPROCS", "2"),
        ("TASKS_PER_NODE", "1(x2)"),
        ("STEP_NODELIST", "n[2-3]"),
        ("STEP_NUM_NODES", "2"),
        ("STEP_NUM_TASKS", "2"),
        ("STEP_TASKS_PER_NODE", "1(x2)"),
        ("NODEID", "1"),
        ("JOB_NODELIST", "n[1-3]"),
        ("JOB_NUM_NODES", "3"),
        ("JOB_CPUS_PER_NODE", "4(x3)"),
    ] {
        for prefix in ["SLURM", "HPC"] {
            let name = format!("{prefix}_{name}");
            assert_eq!(variable(plan, &name), Some(value), "{name}");
        }
    }
}

#[test]
fn a_step_left_over_is_swept_and_reported_before_its_element() {
    let (mut slot, _) = Fixture::new(command());
    slot.order(ToSlot::StartStep(std::sync::Arc::new(step(1))));
    assert_eq!(slot.exits(BATCH, 0, 0), [Effect::Sweep]);
    slot.exits(
        TaskId {
            step: StepId(1),
            rank: 0,
        },
        0,
        9,
    );
    let effects = slot.when(Input::Swept);
    let reports: Vec<_> = effects
        .iter()
        .filter(|effect| matches!(effect, Effect::Report(_)))
        .collect();
    assert_eq!(
        reports.len(),
        1,
        "the step was reported when it was reaped: {reports:?}"
    );
    let again = slot.order(ToSlot::StartStep(std::sync::Arc::new(step(1))));
    assert_eq!(again, [], "said again after it has ended");
    let other = StepLaunch {
        step: StepId(2),
        ..step(1)
    };
    let late = slot.order(ToSlot::StartStep(std::sync::Arc::new(other)));
    assert!(
        matches!(&late[0], Effect::Report(FromSlot::StepEnded { end, .. }) if end.failure.is_some())
    );
}

#[test]
fn attached_tasks_report_each_rank_and_the_worst_code() {
    let mut launch = command();
    let arguments = blob(&words(&["prog"]));
    spec(&mut launch).launch = Launch::Tasks {
        arguments: arguments.0,
    };
    launch.blobs.push(arguments);
    launch.nodes = words(&["n1", "n2"]);
    launch.shares.push(launch.shares[0].clone());
    launch.shares[0].tasks = 2;
    launch.shares[1].tasks = 2;
    launch.node_index = 1;
    let (mut slot, effects) = Fixture::new(launch);
    assert_eq!(effects, [], "the other node may not have it yet");
    let effects = slot.order(ToSlot::Go);
    assert_eq!(slot.order(ToSlot::Go), [], "said again");
    let plans = spawned(&effects);
    assert_eq!(
        plans.iter().map(|plan| plan.task.rank).collect::<Vec<_>>(),
        [2, 3]
    );
    assert_eq!(
        (&plans[0].stdin, &plans[0].stdout),
        (&InputFrom::Client, &Output::Log)
    );
    for (name, value) in [
        ("SLURM_PROCID", "3"),
        ("SLURM_LOCALID", "1"),
        ("SLURM_NODEID", "1"),
        ("SLURM_GTIDS", "2,3"),
        ("SLURM_NTASKS", "4"),
    ] {
        assert_eq!(variable(plans[1], name), Some(value), "{name}");
    }
    let task = |rank| TaskId {
        step: StepId(0),
        rank,
    };
    slot.exits(task(3), 2, 0);
    slot.exits(task(2), 0, 6);
    let effects = slot.when(Input::Swept);
    assert!(
        matches!(&effects[1], Effect::Report(FromSlot::StepEnded { end, .. }) if end.tasks.len() == 2),
        "{effects:?}"
    );
    assert_eq!(ends(&effects)[0].exit, ExitStatus { code: 0, signal: 6 });
}

#[test]
fn further_nodes_of_a_batch_job_and_held_allocations_run_nothing_until_let_go() {
    let mut further = command();
    further.nodes = words(&["n1", "n2"]);
    further.shares.push(further.shares[0].clone());
    further.node_index = 1;
    let (mut unheard, _) = Fixture::new(further.clone());
    let effects = unheard.order(ToSlot::Close);
    assert!(ends(&effects).is_empty(), "it has never begun");
    assert_eq!(effects.last(), Some(&Effect::Exit));
    let (mut slot, _) = Fixture::new(further);
    let effects = slot.order(ToSlot::Go);
    assert_eq!(spawned(&effects).len(), 0);
    assert_eq!(slot.order(ToSlot::Close), [Effect::Sweep]);
    let effects = slot.when(Input::Swept);
    assert_eq!(ends(&effects)[0].state, JobState::Completed);
    assert_eq!(effects.last(), Some(&Effect::Exit));

    let mut held = command();
    spec(&mut held).launch = Launch::Hold;
    let (mut slot, _) = Fixture::new(held);
    assert_eq!(slot.order(ToSlot::Release { code: 4 }), [Effect::Sweep]);
    let effects = slot.when(Input::Swept);
    assert_eq!(
        (ends(&effects)[0].state, ends(&effects)[0].exit.code),
        (JobState::Failed, 4)
    );
}

#[test]
fn a_failed_start_is_an_end_that_says_why() {
    let (mut slot, _) = Fixture::new(command());
    let failure = LaunchFailure {
        code: 127,
        text: "cannot run /x: No such file or directory".into(),
    };
    let effects = slot.when(Input::SpawnFailed {
        task: BATCH,
        failure: failure.clone(),
    });
    assert_eq!(effects, [Effect::Sweep]);
    let effects = slot.when(Input::Swept);
    let end = ends(&effects)[0];
    assert_eq!(
        (end.state, &end.reason, end.exit.code),
        (
            JobState::Failed,
            &Reason::JobLaunchFailure(failure.text),
            127
        )
    );

    let mut without = command();
    without.blobs.clear();
    let (_, effects) = Fixture::new(without);
    assert_eq!(effects.last(), Some(&Effect::Sweep));
}

#[test]
fn output_without_room_is_the_reason_of_a_bad_end_alone() {
    for (code, state, reason) in [
        (1, JobState::Failed, Reason::SystemFailure("no room".into())),
        (0, JobState::Completed, Reason::None),
    ] {
        let (mut slot, _) = Fixture::new(command());
        slot.when(Input::OutputLost {
            task: BATCH,
            text: "no room".into(),
        });
        slot.when(Input::TaskExited {
            task: BATCH,
            exit: ExitStatus { code, signal: 0 },
            usage: Usage::default(),
        });
        let effects = slot.when(Input::Swept);
        let end = ends(&effects)[0];
        assert_eq!(
            (end.state, &end.reason, end.exit.code),
            (state, &reason, code)
        );
    }
}

#[test]
fn the_environment_is_the_jobs_own() {
    let (_, effects) = Fixture::new(array(2));
    let plan = spawned(&effects)[0];
    for (name, value) in [
        ("HOME", "/home/ada"),
        ("BASH_FUNC_module%%", "() { a\n}"),
        ("SLURM_JOB_ID", "12"),
        ("HPC_JOB_ID", "12"),
        ("SLURM_ARRAY_JOB_ID", "12"),
        ("SLURM_ARRAY_TASK_ID", "10"),
        ("SLURM_ARRAY_TASK_COUNT", "10"),
        ("SLURM_ARRAY_TASK_MAX", "19"),
        ("SLURM_JOB_CPUS_PER_NODE", "4"),
        ("SLURM_PROCID", "0"),
        ("ENVIRONMENT", "BATCH"),
        ("HPC_SLOT", "x:12.0"),
        ("SLURMD_NODENAME", "n1"),
    ] {
        assert_eq!(variable(plan, name), Some(value), "{name}");
    }
    assert_eq!(variable(plan, "SLURM_NTASKS"), None, "only when asked for");
    assert_eq!(
        plan.stdout,
        Output::File {
            path: c"slurm-12_10.out".into(),
            append: false
        }
    );
    let (_, effects) = Fixture::new(command());
    let plan = spawned(&effects)[0];
    assert_eq!(
        variable(plan, "SLURM_ARRAY_TASK_ID"),
        None,
        "the submitting job's never leak"
    );
    assert_eq!(
        plan.stdout,
        Output::File {
            path: c"slurm-12.out".into(),
            append: false
        }
    );
}

#[test]
fn a_stopped_slot_starts_nothing_and_a_closing_one_drops_what_waits() {
    let (mut slot, _) = Fixture::new(array(3));
    slot.order(ToSlot::Suspend { stop: true });
    slot.exits(BATCH, 0, 9);
    assert_eq!(spawned(&slot.when(Input::Swept)).len(), 0);
    assert_eq!(
        spawned(&slot.order(ToSlot::Suspend { stop: false })).len(),
        1
    );
    assert_eq!(slot.order(ToSlot::Close), [Effect::Sweep]);
    let effects = slot.when(Input::Swept);
    assert_eq!(effects.last(), Some(&Effect::Exit));
    assert_eq!(spawned(&effects).len(), 0);
}
