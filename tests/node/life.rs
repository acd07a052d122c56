//! Straight paths: a job, an array, a cancel, a limit.

use crate::fake::{Node, Order, eventually};
use hpc::model::index_set::IndexSet;
use hpc::model::job::{JobState, KillCause, Reason};
use hpc::wire::worker::{FromSlot, FromWorker, ToSlot, ToWorker};
use std::collections::BTreeSet;

#[test]
fn a_script_runs_in_its_directory_with_its_environment_and_ends() {
    let mut node = Node::up();
    let order = Order::script(
        &node,
        7,
        "pwd; echo id $SLURM_JOB_ID; echo $0; umask; exit 3",
    );
    let key = node.launch(order.launch);
    let end = node.end();
    assert_eq!(
        (end.state, end.exit.code, end.reason),
        (JobState::Failed, 3, Reason::NonZeroExitCode)
    );
    let output = node.read("slurm-7.out");
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(
        lines[0],
        node.work().canonicalize().unwrap().to_str().unwrap()
    );
    assert_eq!(lines[1], "id 7");
    assert!(
        lines[2].ends_with("/worker/slots/7.0/script"),
        "{}",
        lines[2]
    );
    assert_eq!(lines[3], "0022");
    assert!(end.usage.max_rss_kib > 500);
    node.order(key, ToSlot::Close);
    eventually("the directory is gone", || !node.slot_dir(key).exists());
}

#[test]
fn fifty_elements_run_in_one_slot_in_order_each_once() {
    let mut node = Node::up();
    let order = Order::script(
        &node,
        100,
        "echo $SLURM_ARRAY_TASK_ID >> all; exit $((SLURM_ARRAY_TASK_ID % 2))",
    )
    .array(20);
    let key = node.launch(order.launch);
    for (start, end) in [(20, 30), (25, 50)] {
        node.order(
            key,
            ToSlot::Extend {
                positions: IndexSet::from_range(start, end),
                restarts: Vec::new(),
            },
        );
    }
    let ends = node.ends(50);
    assert_eq!(
        ends.iter().map(|end| end.position).collect::<Vec<_>>(),
        (0..50).collect::<Vec<_>>()
    );
    assert!(
        ends.iter()
            .all(|end| u32::from(end.exit.code) == end.position % 2)
    );
    let all: Vec<u32> = node
        .read("all")
        .lines()
        .map(|line| line.parse().unwrap())
        .collect();
    assert_eq!(all, (0..50).collect::<Vec<_>>());
    assert!(node.work().join("slurm-100_49.out").exists());
}

#[test]
fn positions_that_wait_are_given_back() {
    let mut node = Node::up();
    let order = Order::command(&node, 5, &["sleep", "0.3"]).array(10);
    let key = node.launch(order.launch);
    node.started();
    node.order(
        key,
        ToSlot::Retract {
            positions: IndexSet::from_range(0, 10),
        },
    );
    let given = node.until(|message| match message {
        FromWorker::Slot {
            report: FromSlot::Retracted { positions, .. },
            ..
        } => Some(positions.clone()),
        _ => None,
    });
    assert_eq!(given.to_string(), "1-9");
    assert_eq!(node.end().position, 0);
}

#[test]
fn a_cancel_leaves_nothing_not_even_what_forked_twice_and_ignores_term() {
    let mut node = Node::up();
    let deaf = "(setsid bash -c 'trap \"\" TERM; sleep 1000 & while :; do sleep 1; done' &) ; trap '' TERM; echo up; while :; do sleep 1; done";
    let mut order = Order::script(&node, 8, deaf);
    order.spec().kill_wait_s = 1;
    let key = node.launch(order.launch);
    eventually("the script is up", || {
        std::fs::read_to_string(node.work().join("slurm-8.out"))
            .is_ok_and(|text| text.contains("up"))
    });
    eventually("all are there", || node.processes().len() >= 4);
    node.kill(key, 0, 1, KillCause::Cancel { by: 42 });
    let end = node.end();
    assert_eq!(
        (end.state, end.cancelled_by),
        (JobState::Cancelled, Some(42))
    );
    assert_eq!(node.processes(), Vec::<i32>::new());
    let output = node.read("slurm-8.out");
    assert!(
        output.contains("slurmstepd: error: *** JOB 8 ON n1 CANCELLED AT "),
        "{output}"
    );
}

#[test]
fn the_time_limit_ends_a_job_and_keeps_its_output() {
    let mut node = Node::up();
    let mut order = Order::script(
        &node,
        9,
        "echo before; trap 'exit 0' TERM; while :; do sleep 0.1; done",
    );
    order.launch.time_limit_s = Some(1);
    node.launch(order.launch);
    let end = node.end();
    assert_eq!(
        (end.state, end.reason),
        (JobState::Timeout, Reason::TimeLimit)
    );
    let took = end.ended.minus(end.started.unwrap());
    assert!((1000..2000).contains(&took), "{took}");
    let output = node.read("slurm-9.out");
    assert!(
        output.starts_with("before\n") && output.contains("DUE TO TIME LIMIT ***"),
        "{output}"
    );
}

#[test]
fn suspended_elements_stand_still() {
    let mut node = Node::up();
    let order = Order::script(&node, 10, "while :; do echo x; sleep 0.01; done");
    let key = node.launch(order.launch);
    let size = |node: &Node| {
        std::fs::metadata(node.work().join("slurm-10.out")).map_or(0, |data| data.len())
    };
    eventually("it writes", || size(&node) > 10);
    node.order(key, ToSlot::Suspend { stop: true });
    eventually("it stands", || {
        let before = size(&node);
        std::thread::sleep(std::time::Duration::from_millis(80));
        size(&node) == before
    });
    let before = size(&node);
    node.order(key, ToSlot::Suspend { stop: false });
    eventually("it goes on", || size(&node) > before);
}

#[test]
fn a_slot_the_controller_does_not_know_is_ended() {
    let mut node = Node::up();
    let order = Order::command(&node, 11, &["sleep", "1000"]);
    let key = node.launch(order.launch);
    node.started();
    node.known.clear();
    node.hang_up();
    node.welcome();
    assert_eq!(node.registered, [key]);
    eventually("it is gone", || {
        !node.slot_dir(key).exists() && node.processes().is_empty()
    });
}

#[test]
fn a_shutdown_ends_jobs_or_keeps_them() {
    let mut node = Node::up();
    let order = Order::command(&node, 12, &["sleep", "1000"]);
    let key = node.launch(order.launch);
    node.started();
    node.send(ToWorker::Shutdown { keep_jobs: true });
    while node.next().is_some() {}
    assert_eq!(node.processes().len(), 1);
    node.kill_agent();
    node.start_agent();
    node.welcome();
    assert_eq!(node.registered, [key]);
    node.send(ToWorker::Shutdown { keep_jobs: false });
    while node.next().is_some() {}
    assert_eq!(node.processes(), Vec::<i32>::new());
    let left: BTreeSet<_> = std::fs::read_dir(node.state().join("worker/slots"))
        .unwrap()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn an_agent_that_is_told_to_leave_closes_what_its_controller_had_no_time_to_close() {
    let mut node = Node::up();
    let order = Order::command(&node, 13, &["true"]);
    let key = node.launch(order.launch);
    node.end();
    let shepherd = format!("/proc/{}", node.shepherd_of(key));
    assert!(
        std::fs::exists(&shepherd).unwrap(),
        "its slot is not closed"
    );
    node.dismiss_agent();
    eventually("its shepherd has gone", || {
        !std::fs::exists(&shepherd).unwrap()
    });
    assert!(!node.slot_dir(key).exists());
}

#[test]
fn a_gang_waits_for_the_word_unless_the_controller_knows_of_none() {
    let mut node = Node::up();
    let gang = |node: &Node, job| {
        let mut order = Order::script(node, job, "touch began; sleep 1000");
        order.launch.nodes.push("n2".into());
        let share = order.launch.shares[0].clone();
        order.launch.shares.push(share);
        order.launch
    };
    let launch = gang(&node, 5);
    let key = node.launch(launch);
    node.until(|message| {
        let FromWorker::Slot { report, .. } = message else {
            return None;
        };
        matches!(report, FromSlot::Status { current: None, .. }).then_some(())
    });
    node.order(key, ToSlot::Go);
    eventually("it began", || node.work().join("began").exists());
    node.order(key, ToSlot::Close);
    eventually("it is over", || !node.slot_dir(key).exists());
    std::fs::remove_file(node.work().join("began")).unwrap();
    // A controller of an earlier build says no such word, to what it finds and to what it launches.
    let launch = gang(&node, 6);
    let key = node.launch(launch);
    node.until(|message| {
        let FromWorker::Slot { report, .. } = message else {
            return None;
        };
        matches!(report, FromSlot::Status { current: None, .. }).then_some(())
    });
    assert!(!node.work().join("began").exists());
    node.hang_up();
    node.welcome_as(1);
    eventually("it began", || node.work().join("began").exists());
    node.order(key, ToSlot::Close);
    eventually("it is over", || !node.slot_dir(key).exists());
    std::fs::remove_file(node.work().join("began")).unwrap();
    let launch = gang(&node, 7);
    let key = node.launch(launch);
    eventually("it began", || node.work().join("began").exists());
    node.order(key, ToSlot::Close);
    eventually("it is over", || !node.slot_dir(key).exists());
}
