//! The agent dies, the shepherd dies, a start fails.

use crate::fake::{Node, Order, eventually};
use hpc::model::index_set::IndexSet;
use hpc::model::job::{JobState, Reason};
use hpc::wire::worker::{FromSlot, FromWorker, ToSlot};
use std::collections::BTreeMap;

#[test]
fn an_agent_killed_again_and_again_loses_no_end_and_repeats_no_task() {
    let mut node = Node::up();
    let order =
        Order::script(&node, 200, "echo $SLURM_ARRAY_TASK_ID >> all; sleep 0.01").array(120);
    let key = node.launch(order.launch);
    let mut seen: BTreeMap<u32, u32> = BTreeMap::new();
    let mut rounds = 0;
    while seen.len() < 120 {
        for end in node.ends(1) {
            *seen.entry(end.position).or_default() += 1;
        }
        if rounds < 5 {
            rounds += 1;
            node.kill_agent();
            node.start_agent();
            node.welcome();
            assert_eq!(node.registered, [key]);
        }
    }
    // An end may be said twice when its acknowledgement was cut off, but it was run once.
    let all: Vec<u32> = node
        .read("all")
        .lines()
        .map(|line| line.parse().unwrap())
        .collect();
    assert_eq!(all, (0..120).collect::<Vec<_>>());
    assert_eq!(
        seen.keys().copied().collect::<Vec<_>>(),
        (0..120).collect::<Vec<_>>()
    );
}

#[test]
fn a_controller_that_comes_back_hears_what_it_missed_once_acknowledged_never_again() {
    let mut node = Node::up();
    node.acknowledge = false;
    let order = Order::command(&node, 201, &["true"]);
    let key = node.launch(order.launch);
    assert_eq!(node.end().state, JobState::Completed);
    node.hang_up();
    node.welcome();
    node.acknowledge = true;
    assert_eq!(node.end().state, JobState::Completed);
    node.order(
        key,
        ToSlot::Signal {
            signal: 10,
            to: hpc::wire::worker::SignalTarget::All,
        },
    );
    node.hang_up();
    node.welcome();
    node.order(
        key,
        ToSlot::Retract {
            positions: IndexSet::new(),
        },
    );
    // The answer to this comes after anything unacknowledged would have.
    node.until(|message| match message {
        FromWorker::Slot {
            report: FromSlot::Retracted { .. },
            ..
        } => Some(()),
        FromWorker::Slot {
            report: FromSlot::Ended { .. },
            ..
        } => panic!("said again"),
        _ => None,
    });
}

#[test]
fn a_killed_shepherd_is_reported_and_leaves_nothing() {
    let mut node = Node::up();
    let order = Order::script(
        &node,
        202,
        "(setsid sleep 1000 &); if [ $SLURM_ARRAY_TASK_ID = 1 ]; then sleep 1000; fi",
    )
    .array(5);
    let key = node.launch(order.launch);
    assert_eq!(node.end().position, 0);
    node.started();
    eventually("all are there", || node.processes().len() >= 3);
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(node.shepherd_of(key)),
        nix::sys::signal::Signal::SIGKILL,
    )
    .unwrap();
    let (positions, ends) = node.until(|message| match message {
        FromWorker::Slot {
            report: FromSlot::Lost {
                positions, ends, ..
            },
            ..
        } => Some((positions.clone(), ends.clone())),
        _ => None,
    });
    assert_eq!(positions.to_string(), "2-4");
    assert_eq!(
        ends.iter()
            .map(|end| (end.position, end.state))
            .collect::<Vec<_>>(),
        [(1, JobState::NodeFail)]
    );
    assert!(
        matches!(&ends[0].reason, Reason::SystemFailure(text) if text.contains("shepherd was killed"))
    );
    assert_eq!(node.processes(), Vec::<i32>::new());
    node.order(key, ToSlot::Close);
    eventually("the directory is gone", || !node.slot_dir(key).exists());
}

#[test]
fn a_shepherd_killed_while_no_agent_lives_is_found_dead_by_the_next() {
    let mut node = Node::up();
    node.acknowledge = false;
    let order = Order::script(
        &node,
        203,
        "if [ $SLURM_ARRAY_TASK_ID = 1 ]; then sleep 1000; fi",
    )
    .array(3);
    let key = node.launch(order.launch);
    assert_eq!(node.end().position, 0);
    node.started();
    let shepherd = node.shepherd_of(key);
    node.kill_agent();
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(shepherd),
        nix::sys::signal::Signal::SIGKILL,
    )
    .unwrap();
    node.start_agent();
    node.welcome();
    assert_eq!(node.registered, [key]);
    node.acknowledge = true;
    let ends = node.ends(2);
    let told: Vec<_> = ends.iter().map(|end| (end.position, end.state)).collect();
    assert_eq!(told, [(0, JobState::Completed), (1, JobState::NodeFail)]);
    // The acknowledged end is not said again by another agent; the loss is, until the slot is closed.
    std::thread::sleep(std::time::Duration::from_millis(50));
    node.kill_agent();
    node.start_agent();
    node.welcome();
    assert_eq!(
        node.ends(1)
            .iter()
            .map(|end| end.position)
            .collect::<Vec<_>>(),
        [1]
    );
}

#[test]
fn failed_starts_say_what_and_why() {
    let mut node = Node::up();
    let mut missing_dir = Order::command(&node, 204, &["true"]);
    missing_dir.spec().output = Some("no/such/dir/out".into());
    let cases = [
        (missing_dir, 1, "no/such/dir/out"),
        (
            Order::command(&node, 205, &["no-such-program-here"]),
            127,
            "no-such-program-here",
        ),
        (
            Order::command(&node, 206, &["/etc/passwd"]),
            126,
            "/etc/passwd",
        ),
    ];
    for (order, code, what) in cases {
        node.launch(order.launch);
        let end = node.end();
        assert_eq!(
            (end.state, end.exit.code),
            (JobState::Failed, code),
            "{what}"
        );
        assert!(
            matches!(&end.reason, Reason::JobLaunchFailure(text) if text.contains(what)),
            "{:?}",
            end.reason
        );
    }
}

#[test]
fn a_missing_work_directory_falls_back_and_says_so() {
    let mut node = Node::up();
    let mut order = Order::command(&node, 207, &["pwd"]);
    order.spec().output = Some(
        node.work()
            .join("out")
            .to_string_lossy()
            .into_owned()
            .into(),
    );
    order.spec().work_dir = "/no/such/directory".into();
    node.launch(order.launch);
    assert_eq!(node.end().state, JobState::Completed);
    let output = node.read("out");
    assert!(
        output.contains("/tmp") && output.contains("couldn't chdir to `/no/such/directory'"),
        "{output}"
    );
}

#[test]
fn foreign_users_are_refused_or_served_as_themselves() {
    let mut node = Node::up();
    let mut order = Order::command(&node, 208, &["id", "-u"]);
    order.launch.owner.uid = 65534;
    order.launch.owner.gid = 65534;
    order.launch.owner.name = "nobody".into();
    if nix::unistd::geteuid().is_root() {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(node.dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
        std::fs::set_permissions(node.work(), PermissionsExt::from_mode(0o777)).unwrap();
        std::fs::set_permissions(node.state(), PermissionsExt::from_mode(0o755)).unwrap();
        node.launch(order.launch);
        assert_eq!(node.end().state, JobState::Completed);
        assert_eq!(node.read("slurm-208.out"), "65534\n");
        let mut script = Order::script(
            &node,
            209,
            "cat $0 | wc -l; cat $(dirname $0)/journal && echo open",
        );
        script.launch.owner.uid = 65534;
        script.launch.owner.gid = 65534;
        script.launch.owner.name = "nobody".into();
        node.launch(script.launch);
        node.end();
        let output = node.read("slurm-209.out");
        assert!(
            output.starts_with("2\n") && !output.contains("open"),
            "{output}"
        );
    } else {
        node.launch(order.launch);
        let end = node.end();
        assert!(
            matches!(&end.reason, Reason::JobLaunchFailure(text) if text.contains("starts nothing for user 65534"))
        );
    }
    let mut stranger = Order::command(&node, 210, &["true"]);
    stranger.launch.owner.uid = 3_999_999;
    node.launch(stranger.launch);
    assert!(matches!(node.end().reason, Reason::JobLaunchFailure(_)));
}

#[test]
fn a_controller_that_goes_just_after_a_launch_does_not_cost_the_slot_its_shepherd() {
    let mut node = Node::up();
    for job in 1..=60 {
        let order = Order::script(&node, job, "echo $SLURM_JOB_ID >> runs");
        let key = node.launch(order.launch.clone());
        node.hang_up();
        node.welcome();
        if !node.registered.contains(&key) {
            // It did not arrive, and the controller says it again.
            node.launch(order.launch);
        }
        node.until(|message| match message {
            FromWorker::Slot { key: of, report } if *of == key => match report {
                FromSlot::Ended { .. } => Some(()),
                FromSlot::Lost { .. } => panic!("slot {key} was given up for lost while it began"),
                _ => None,
            },
            _ => None,
        });
    }
    let runs = node.read("runs");
    let expected: Vec<String> = (1..=60).map(|job| job.to_string()).collect();
    assert_eq!(runs.lines().collect::<Vec<_>>(), expected);
}
