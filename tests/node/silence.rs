//! Heartbeats and leases at the wire: who drops whom, and builds that know neither.

use crate::fake::{Node, Order, PATIENCE};
use hpc::model::job::JobState;
use hpc::model::node::Inventory;
use hpc::model::topology::{LogicalCpu, NumaNode, Topology};
use hpc::wire::codec::{self, FRAME_MAX};
use hpc::wire::hello::{Hello, HelloReply, Role};
use hpc::wire::worker::{FromSlot, FromWorker, ToWorker};
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

fn beat(node: &mut Node) -> u64 {
    node.until(|message| match message {
        FromWorker::Beat { number } => Some(*number),
        _ => None,
    })
}

#[test]
fn a_controller_that_says_nothing_is_dropped_and_looked_for_again() {
    let mut node = Node::new();
    node.terms = Some((1_000, 60_000));
    node.start_agent();
    node.welcome();
    for expected in 1..8 {
        let number = beat(&mut node);
        assert_eq!(number, expected);
        node.send(ToWorker::Heard { number });
    }
    let said = Instant::now();
    while node.next().is_some() {}
    assert!(said.elapsed() >= Duration::from_millis(900));
    node.welcome();
    assert_eq!(beat(&mut node), 1, "every link counts for itself");
}

#[test]
fn a_lease_rests_on_answered_beats_and_not_on_a_link_that_stands() {
    let mut node = Node::new();
    node.terms = Some((1_000, 2_000));
    node.start_agent();
    node.welcome();
    let mut order = Order::command(&node, 7, &["sleep", "86400"]);
    order.spec().requeue = true;
    order.spec().kill_wait_s = 1;
    node.launch(order.launch);
    let mut leased = 0;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(3) {
        match node.next() {
            Some(FromWorker::Beat { number }) => node.send(ToWorker::Heard { number }),
            Some(FromWorker::Slot {
                report: FromSlot::Leased { ends_after_ms },
                ..
            }) => {
                assert_eq!(ends_after_ms, 3_000);
                leased += 1;
            }
            Some(FromWorker::Slot {
                report: FromSlot::Started { .. } | FromSlot::Status { .. },
                ..
            }) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(leased, 1, "said once a link");
    let end = loop {
        match node.next().unwrap() {
            // Here, but not that the beat has been heard.
            FromWorker::Beat { number } => node.send(ToWorker::Ping { nonce: number }),
            FromWorker::Slot {
                report: FromSlot::Ended { ends, .. },
                ..
            } => break ends[0].clone(),
            _ => {}
        }
    };
    assert_eq!(end.state, JobState::NodeFail);
}

#[test]
fn what_may_run_again_runs_without_a_lease_where_the_controller_knows_none() {
    let mut node = Node::up();
    let mut order = Order::command(&node, 7, &["true"]);
    order.spec().requeue = true;
    node.launch(order.launch);
    assert_eq!(node.end().state, JobState::Completed);
}

struct Controller(Child);

impl Drop for Controller {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An agent of the test, which speaks these versions and has registered.
fn agent(socket: &Path, name: &str, versions: (u16, u16)) -> UnixStream {
    let begun = Instant::now();
    let mut stream = loop {
        match UnixStream::connect(socket) {
            Ok(stream) => break stream,
            Err(error) => assert!(begun.elapsed() < PATIENCE, "{error}"),
        }
        std::thread::yield_now();
    };
    let hello = Hello {
        versions,
        ..Hello::new(Role::Worker)
    };
    codec::write(&mut stream, &hello).unwrap();
    let reply: HelloReply = codec::read(&mut stream, FRAME_MAX).unwrap().unwrap();
    let HelloReply::Welcome { version, .. } = reply else {
        panic!("{reply:?}")
    };
    assert_eq!(version, versions.1);
    let topology = Topology {
        cpus: vec![LogicalCpu {
            id: 0,
            core: 0,
            package: 0,
            numa: 0,
            real: true,
        }],
        numa_nodes: vec![NumaNode {
            id: 0,
            cpus: vec![0],
            memory_mib: 1024,
            distances: vec![10],
        }],
        memory_mib: 1024,
        gpus: Vec::new(),
    };
    let inventory = Inventory {
        name: name.into(),
        topology,
        boot_id: "boot".into(),
        version: "0".into(),
        uid: 0,
        remarks: Vec::new(),
    };
    let slots = Vec::new();
    codec::write(&mut stream, &FromWorker::Register { inventory, slots }).unwrap();
    stream
}

fn next(stream: &mut UnixStream) -> ToWorker {
    codec::read(stream, FRAME_MAX).unwrap().unwrap()
}

#[test]
fn a_silent_agent_is_dropped_and_one_that_knows_no_beats_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let (socket, config) = (dir.path().join("sock"), dir.path().join("hpc.toml"));
    std::fs::write(&config, "node_silent_after_s = 1").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_hpc"));
    command.arg("controller").env("HPC_STATE_DIR", dir.path());
    command.arg("--socket").arg(&socket);
    command.arg("--config").arg(&config);
    let _controller = Controller(command.spawn().unwrap());
    let mut older = agent(&socket, "older", (1, 1));
    assert_eq!(next(&mut older), ToWorker::Registered { slots: vec![] });
    let mut silent = agent(&socket, "silent", (1, 2));
    assert_eq!(
        next(&mut silent),
        ToWorker::Terms {
            silent_after_ms: 1_000,
            lease_ms: 600_000
        }
    );
    assert_eq!(next(&mut silent), ToWorker::Registered { slots: vec![] });
    codec::write(&mut silent, &FromWorker::Beat { number: 41 }).unwrap();
    let said = Instant::now();
    assert_eq!(next(&mut silent), ToWorker::Heard { number: 41 });
    assert_eq!(silent.read(&mut [0]).unwrap(), 0, "it is dropped");
    let after = said.elapsed();
    assert!(after >= Duration::from_millis(900), "{after:?}");
    assert!(after < PATIENCE, "{after:?}");
    // The other was silent for longer.
    older
        .set_read_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    let error = older.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
}
