//! What one member, well or ill, can cost the controller and others: a bound, whatever it sends or does not read.

use crate::support::{
    Cluster, Member, PATIENCE, kill_and_wait, peak_kib, rows, wait_child, wait_until,
};
use hpc::model::ids::{SlotKey, StepId};
use hpc::model::index_set::IndexSet;
use hpc::model::job::{ElementEnd, ExitStatus, JobState, Reason, Usage};
use hpc::model::node::Inventory;
use hpc::model::time::Timestamp;
use hpc::model::topology::{LogicalCpu, NumaNode, Topology};
use hpc::net::Stream;
use hpc::net::client::{Credentials, Route, dial};
use hpc::net::identity::{self, Kind};
use hpc::net::membership::{greet, read_one};
use hpc::wire::client::{Filter, PIECE_MAX, Request};
use hpc::wire::codec::{self, FRAME_MAX, encode};
use hpc::wire::hello::{Hello, HelloReply, Role};
use hpc::wire::worker::{FromSlot, FromWorker, OpenStream, StepEnd, ToSlot, ToWorker};
use std::io::{ErrorKind, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;

/// A connection that has said hello.
fn greeted(cluster: &Cluster) -> UnixStream {
    let mut stream = UnixStream::connect(cluster.socket()).unwrap();
    stream
        .write_all(&encode(&Hello::new(Role::Client)))
        .unwrap();
    stream
}

/// What the controller says to a hello, once something has been asked.
fn welcomed(stream: &mut UnixStream) -> Result<(), String> {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    match codec::read::<HelloReply>(stream, 1 << 16) {
        Ok(Some(HelloReply::Welcome { .. })) => Ok(()),
        Ok(Some(HelloReply::Refused(refusal))) => Err(refusal.to_string()),
        other => panic!("{other:?}"),
    }
}

/// That this person is served, and soon.
fn is_served(person: &Member, queued: usize) {
    let begun = Instant::now();
    let queue = rows(&person.json(&["queue"]));
    assert_eq!(queue.len(), queued);
    person.ok(&["history"]);
    let job = person.submit(&["--hold", "--wrap", "true"]);
    person.ok(&["job", &job.to_string()]);
    person.ok(&["cancel", &job.to_string()]);
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
}

#[test]
fn listings_that_nobody_reads_do_not_stop_others() {
    let cluster = Cluster::up(1);
    let alice = cluster.person("alice", "user");
    cluster.submit(&["--hold", "-a", "1-200000", "--wrap", "true"]);
    let unread: Vec<UnixStream> = (0..600)
        .map(|_| {
            let mut stream = greeted(&cluster);
            let filter = Filter {
                expand_arrays: true,
                ..Filter::default()
            };
            stream.write_all(&encode(&Request::Queue(filter))).unwrap();
            stream
        })
        .collect();
    is_served(&alice, 1);
    // Nor what asks for no listing of the same account.
    let job = cluster.submit(&["-o", "out", "--wrap", "echo it runs"]);
    assert_eq!(cluster.run(&["wait", &job.to_string()]).code, 0);
    assert_eq!(cluster.read("out"), "it runs\n");
    // One more of its own is told why.
    let said = cluster.refused(1, &["queue"]);
    assert!(said.contains("32 long answers of yours are open"), "{said}");
    drop(unread);
    wait_until("they are over", PATIENCE, || {
        cluster.run(&["queue"]).code == 0
    });
}

#[test]
fn connections_of_one_account_leave_room_for_others() {
    let cluster = Cluster::up(1);
    let alice = cluster.person("alice", "user");
    let mut open = Vec::new();
    let said = loop {
        let mut stream = UnixStream::connect(cluster.socket()).unwrap();
        let hello = stream.write_all(&encode(&Hello::new(Role::Client)));
        let asked = hello.and_then(|()| stream.write_all(&encode(&Request::Status)));
        match welcomed(&mut stream) {
            Ok(()) => asked.unwrap(),
            Err(said) => break said,
        }
        open.push(stream);
        assert!(open.len() <= 4096, "there is no end");
    };
    assert!(said.contains("connections of yours are open"), "{said}");
    // As many as a busy account needs, where the system gives the files for them.
    assert!(open.len() > 400, "{}", open.len());
    let said = cluster.refused(1, &["queue"]);
    assert!(said.contains("wait for some to end"), "{said}");
    is_served(&alice, 0);
    drop(open);
    wait_until("there is room again", PATIENCE, || {
        cluster.run(&["queue"]).code == 0
    });
}

#[test]
fn strangers_from_one_address_do_not_keep_members_from_elsewhere_out() {
    let cluster = Cluster::up(1);
    let alice = cluster.person("alice", "user");
    let listen = std::fs::read_to_string(cluster.state().join("controller/listen")).unwrap();
    let port: SocketAddr = listen.trim().parse().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    // They say nothing, for as long as they are suffered.
    let begun = Instant::now();
    let silent = runtime.block_on(async {
        let mut silent = Vec::new();
        for _ in 0..400 {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
            silent.push(socket.connect(port).await.unwrap());
        }
        silent
    });
    alice.ok(&["queue"]);
    assert!(begun.elapsed() < Duration::from_secs(8), "they were gone");
    drop(silent);
}

#[test]
fn requests_that_never_end_hold_little_memory_and_no_others() {
    let cluster = Cluster::up(1);
    let alice = cluster.person("alice", "user");
    let before = peak_kib(cluster.controller());
    let mut open = Vec::new();
    for _ in 0..100 {
        let stream = greeted(&cluster);
        stream.set_nonblocking(true).unwrap();
        let mut left = vec![0; 15 << 20];
        left[..4].copy_from_slice(&(16u32 << 20).to_le_bytes());
        open.push((stream, left));
    }
    // As much as is taken within a while.
    let mut sent = 0;
    let mut quiet = Instant::now();
    while quiet.elapsed() < Duration::from_secs(2) {
        for (stream, left) in &mut open {
            match stream.write(left) {
                Ok(count) => {
                    sent += count;
                    left.drain(..count);
                    if count > 0 {
                        quiet = Instant::now();
                    }
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        }
    }
    // Four may be under way, the others wait in the kernel's buffers.
    assert!(sent > 50 << 20, "{sent}");
    assert!(sent < 150 << 20, "{sent}");
    let grown = peak_kib(cluster.controller()) - before;
    assert!(grown < 300 * 1024, "the controller grew by {grown} KiB");
    is_served(&alice, 0);
}

// ---- a worker that has gone bad

/// Cpus of a member's machine.
const CPUS: u32 = 40;

/// What a member's machine says of itself.
fn inventory(name: &str) -> Inventory {
    let cpu = |id| LogicalCpu {
        id,
        core: id,
        package: 0,
        numa: 0,
        real: false,
    };
    Inventory {
        name: name.to_owned(),
        topology: Topology {
            cpus: (0..CPUS).map(cpu).collect(),
            numa_nodes: vec![NumaNode {
                id: 0,
                cpus: (0..CPUS).collect(),
                memory_mib: 8192,
                distances: Vec::new(),
            }],
            memory_mib: 8192,
            gpus: Vec::new(),
        },
        boot_id: "made up".to_owned(),
        version: "0".to_owned(),
        uid: 0,
        remarks: Vec::new(),
    }
}

/// A machine whose agent is gone and whose key somebody else uses.
struct Rogue {
    runtime: tokio::runtime::Runtime,
    route: Route,
    control: Box<dyn Stream>,
}

impl Rogue {
    fn instead_of(member: &Member, name: &str) -> Self {
        kill_and_wait(member.agent());
        // With a thread of its own: what was said goes on its way while the test does something else.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let (route, control) = runtime.block_on(async {
            let known = identity::Member::open(member.state(), Kind::Node)
                .unwrap()
                .unwrap();
            let credentials = Credentials::of(&known).unwrap();
            let route = dial(&credentials, &known.kept.addresses).await.unwrap();
            let (mut control, _) = greet(&route, Role::Worker).await.unwrap();
            let introduced = FromWorker::Introduce {
                inventory: inventory(name),
                slots: Vec::new(),
                user: None,
            };
            control.write_all(&encode(&introduced)).await.unwrap();
            control.flush().await.unwrap();
            (route, control)
        });
        Rogue {
            runtime,
            route,
            control,
        }
    }

    fn say(&mut self, message: &FromWorker) -> std::io::Result<()> {
        let frame = encode(message);
        self.runtime.block_on(async {
            self.control.write_all(&frame).await?;
            self.control.flush().await
        })
    }

    fn report(&mut self, key: SlotKey, report: FromSlot) {
        self.say(&FromWorker::Slot { key, report }).unwrap();
    }

    /// The next order that is meant.
    fn order<T>(&mut self, meant: impl Fn(ToWorker) -> Option<T>) -> T {
        let control = &mut self.control;
        self.runtime.block_on(async {
            let found = async {
                loop {
                    let order = read_one(control, FRAME_MAX).await.unwrap();
                    if let Some(found) = meant(order) {
                        return found;
                    }
                }
            };
            tokio::time::timeout(PATIENCE, found)
                .await
                .expect("an order")
        })
    }

    /// Waits for a job and says that it has begun.
    fn begin(&mut self) -> SlotKey {
        let key = self.order(|order| match order {
            ToWorker::Slot {
                key,
                order: ToSlot::Launch(launch),
            } => {
                assert!(launch.blobs.iter().any(|(_, bytes)| !bytes.is_empty()));
                Some(key)
            }
            _ => None,
        });
        let at = Timestamp(i64::MIN);
        self.report(key, FromSlot::Started { position: 0, at });
        key
    }
}

/// A job on n2, and what its rogue node was told of it.
fn with_a_job(cluster: &Cluster) -> (Member, Rogue, SlotKey, u32) {
    let member = cluster.member("n2", 1);
    let mut rogue = Rogue::instead_of(&member, "n2");
    let job = cluster.submit(&["-w", "n2", "--wrap", "true"]);
    let key = rogue.begin();
    cluster.wait_for_state(job, "RUNNING");
    (member, rogue, key, job)
}

#[test]
fn what_a_worker_says_is_cut_and_steps_that_it_made_up_are_none() {
    let cluster = Cluster::up(1);
    let (_member, mut rogue, key, job) = with_a_job(&cluster);
    let store = cluster.state().join("controller/hpc.redb");
    let size = || std::fs::metadata(&store).unwrap().len();
    let before = size();
    let long = "x".repeat(1 << 20);
    for number in (0..20_000).chain([StepId::BATCH.0]) {
        let end = StepEnd {
            step: StepId(number),
            tasks: vec![(0, ExitStatus::default())],
            name: if number < 5 || number == StepId::BATCH.0 {
                long.clone()
            } else {
                "made up".to_owned()
            },
            started: Timestamp(i64::MIN),
            ended: Timestamp(i64::MAX),
            usage: Usage::default(),
            failure: None,
        };
        let report = u64::from(number) + 1;
        rogue.report(key, FromSlot::StepEnded { report, end });
    }
    let end = ElementEnd {
        position: 0,
        state: JobState::Failed,
        reason: Reason::JobLaunchFailure(long),
        exit: ExitStatus { code: 7, signal: 0 },
        cancelled_by: None,
        started: Some(Timestamp(i64::MIN)),
        ended: Timestamp(i64::MAX),
        usage: Usage::default(),
        restarts: 0,
    };
    let ends = vec![end];
    rogue.report(key, FromSlot::Ended { report: 1, ends });
    cluster.wait_for_state(job, "FAILED");
    let shown = cluster.job(job);
    assert_eq!(shown["exit_code"], 7);
    let steps = rows(&shown["steps"]);
    assert_eq!(steps.len(), 1, "{shown}");
    let listing = cluster.ok(&["history", "--json"]);
    assert!(listing.len() < 10_000, "{}", listing.len());
    assert!(
        shown.to_string().len() < 5_000,
        "{}",
        shown.to_string().len()
    );
    assert!(shown.to_string().contains("bytes more)"), "{shown}");
    assert!(size() < before + (4 << 20), "{before} -> {}", size());
}

#[test]
fn a_worker_that_floods_the_controller_is_slowed_down_and_nobody_else() {
    let cluster = Cluster::up(1);
    let alice = cluster.person("alice", "user");
    let (_member, mut rogue, key, job) = with_a_job(&cluster);
    let before = peak_kib(cluster.controller());
    let end = ElementEnd {
        position: 77,
        state: JobState::Failed,
        reason: Reason::None,
        exit: ExitStatus::default(),
        cancelled_by: None,
        started: None,
        ended: Timestamp(0),
        usage: Usage::default(),
        restarts: 0,
    };
    let wide = FromSlot::Ended {
        report: 1,
        ends: vec![end; 60_000],
    };
    let status = FromSlot::Status {
        key,
        queue: IndexSet::new(),
        current: None,
    };
    let mut flood = Vec::new();
    flood.extend(encode(&FromWorker::Slot { key, report: wide }));
    for _ in 0..5_000 {
        let report = status.clone();
        flood.extend(encode(&FromWorker::Slot { key, report }));
    }
    // It answers nothing and reads nothing.
    let flooding = std::thread::spawn(move || {
        let begun = Instant::now();
        rogue.runtime.block_on(async {
            while begun.elapsed() < Duration::from_secs(5) {
                let written = rogue.control.write_all(&flood);
                match tokio::time::timeout(Duration::from_secs(5), written).await {
                    Ok(Ok(())) => {}
                    _ => break,
                }
            }
        });
        rogue
    });
    while !flooding.is_finished() {
        is_served(&alice, 1);
    }
    drop(flooding.join().unwrap());
    let grown = peak_kib(cluster.controller()) - before;
    assert!(grown < 200 * 1024, "the controller grew by {grown} KiB");
    cluster.ok(&["node", "remove", "--force", "n2"]);
    assert_eq!(cluster.state_of(job), "NODE_FAIL");
}

#[test]
fn a_worker_that_sends_more_output_than_fits_its_window_is_cut_off() {
    let cluster = Cluster::up(1);
    let (_member, mut rogue, _, job) = with_a_job(&cluster);
    let before = peak_kib(cluster.controller());
    // A reader that is stopped takes nothing.
    let mut reader = cluster
        .hpc(&["logs", "-f", &job.to_string()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let stream = rogue.order(|order| match order {
        ToWorker::OpenStream(OpenStream { stream, .. }) => Some(stream),
        _ => None,
    });
    let (mut data, _) = rogue
        .runtime
        .block_on(greet(&rogue.route, Role::WorkerData))
        .unwrap();
    let pieces = rogue.runtime.block_on(async {
        for piece in 0..4_000u64 {
            let message = FromWorker::StreamData {
                stream,
                offset: piece * PIECE_MAX as u64,
                bytes: vec![b'x'; PIECE_MAX],
            };
            let sent = async {
                data.write_all(&encode(&message)).await?;
                data.flush().await
            };
            if sent.await.is_err() {
                return piece;
            }
        }
        4_000
    });
    assert!(pieces < 4_000, "it was never cut off");
    let grown = peak_kib(cluster.controller()) - before;
    assert!(grown < 100 * 1024, "the controller grew by {grown} KiB");
    let _ = reader.kill();
    let _ = wait_child(&mut reader, PATIENCE);
    cluster.ok(&["node", "remove", "--force", "n2"]);
}

#[test]
fn what_jobs_start_with_does_not_pile_up_before_a_worker_that_reads_nothing() {
    // It says nothing more, and that is no reason to drop its link.
    let cluster = Cluster::configured(1, "node_silent_after_s = 120\n");
    let member = cluster.member("n2", 1);
    let rogue = Rogue::instead_of(&member, "n2");
    wait_until("it is there", PATIENCE, || {
        cluster.json(&["node", "n2"])["cpus"] == CPUS
    });
    let submit = |number: u32| {
        let mut script = format!("#!/bin/sh\n# {number}\n").into_bytes();
        script.resize(3 << 20, b'#');
        let answer = cluster.run_with(&["submit", "--mem", "10M", "-w", "n2"], &script);
        assert_eq!(answer.code, 0, "{answer:?}");
    };
    submit(0);
    let before = peak_kib(cluster.controller());
    for number in 1..20 {
        submit(number);
    }
    wait_until("all are on their way", PATIENCE, || {
        let queue = rows(&cluster.json(&["queue"]));
        queue.iter().all(|job| job["state"] == "RUNNING")
    });
    let grown = peak_kib(cluster.controller()) - before;
    assert!(grown < 40 * 1024, "the controller grew by {grown} KiB");
    drop(rogue);
    cluster.ok(&["node", "remove", "--force", "n2"]);
}
