//! What one member, well or ill, can cost the controller and others: a bound, whatever it sends or does not read.

use crate::support::{Cluster, Member, PATIENCE, peak_kib, rows, wait_until};
use hpc::wire::client::{Filter, Request};
use hpc::wire::codec::{self, encode};
use hpc::wire::hello::{Hello, HelloReply, Role};
use std::io::{ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

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
