//! A full disk on one machine of several: under its state, or under a job's output. Its jobs say so, those of others
//! notice nothing, and with room again it goes on by itself.

use crate::lab::{HOME, Host, Lab};
use crate::support::{PATIENCE, finish, rows, wait_until};
use std::collections::BTreeSet;
use std::fs;

/// Two machines, the second with a small disk at these paths of its own.
fn lab_of_two(test: &str) -> Option<(Lab, Host, Host, String)> {
    let lab = Lab::new(test)?;
    let [head, small] = &lab.hosts(&["ws1", "ws2"])[..] else {
        unreachable!("two were asked for")
    };
    let state = if lab.has_users() {
        "/var/lib/hpc".to_owned()
    } else {
        format!("{HOME}/.local/state/hpc")
    };
    Some((lab.clone(), head.clone(), small.clone(), state))
}

fn start(head: &Host, other: &Host) {
    let machine = ["--detach", "--cpus", "4", "--memory", "64G"];
    head.ok(&[&["up"], &machine[..]].concat());
    let line = head.ok(&["invite", "--parsable"]);
    other.ok(&[&["join"], &machine[..], &[line.trim()]].concat());
    wait_until("both respond", PATIENCE, || head.responding().len() == 2);
}

/// Takes all the room that is left there.
fn fill(host: &Host, directory: &str) {
    let script = "for size in 65536 4096 1; do dd if=/dev/zero bs=$size of=$0/ballast.$size; done";
    let answer = host.call(&["sh", "-c", script, directory]);
    assert!(answer.err.contains("No space left"), "{answer:?}");
}

fn empty(host: &Host, directory: &str) {
    let answer = host.call(&["sh", "-c", "rm $0/ballast.*", directory]);
    assert_eq!(answer.code, 0, "{answer:?}");
}

/// Its number. A user's state is below one directory more, named after the machine.
fn agent(host: &Host, state: &str) -> String {
    let answer = host.call(&[
        "find",
        state,
        "-name",
        "agent.pid",
        "-exec",
        "cat",
        "{}",
        ";",
    ]);
    assert!(answer.code == 0 && !answer.out.is_empty(), "{answer:?}");
    answer.out
}

/// State, exit code, reason and its words, of what has ended.
fn end(head: &Host, job: u32) -> (String, u64, String) {
    let view = head.json(&["job", &job.to_string()]);
    let text = |key: &str| view[key].as_str().unwrap_or_default().to_owned();
    let why = format!("{}: {}", text("reason"), text("reason_detail"));
    (text("state"), view["exit_code"].as_u64().unwrap_or(99), why)
}

/// Runs until the common disk says go.
fn until_go(lab: &Lab, head: &Host, node: &str, name: &str, then: &str) -> u32 {
    let script =
        format!("touch /mnt/{name}.began; while [ ! -e /mnt/go ]; do sleep 0.02; done; {then}");
    let job = head.submit(&["-w", node, "-o", "/dev/null", "--wrap", &script]);
    wait_until("it has begun", PATIENCE, || began(lab, name));
    job
}

fn began(lab: &Lab, name: &str) -> bool {
    lab.shared(&format!("{name}.began")).exists()
}

#[test]
fn a_full_disk_under_one_nodes_state_fails_its_jobs_with_a_reason_and_no_others() {
    let test = "a_full_disk_under_one_nodes_state_fails_its_jobs_with_a_reason_and_no_others";
    let Some((lab, head, small, state)) = lab_of_two(test) else {
        return;
    };
    small.small_disk(&state, 16);
    start(&head, &small);
    let pid = agent(&small, &state);
    let there = until_go(&lab, &head, "ws2", "there", "exit 3");
    let elsewhere = until_go(&lab, &head, "ws1", "elsewhere", "exit 4");
    let script = "echo before; touch /mnt/attached.began; while [ ! -e /mnt/go ]; do sleep 0.02; done; \
                  seq 100000; exit 5";
    let mut attached = head.hpc(&["run", "-w", "ws2", "sh", "-c", script]);
    let attached = std::thread::spawn(move || finish(&mut attached, b""));
    wait_until("the run has begun", PATIENCE, || began(&lab, "attached"));
    fill(&small, &state);

    // What is given to it now ends at once, and says why.
    let no_room = |why: &str| {
        let told = why.to_lowercase();
        assert!(told.contains("no space left on device"), "{why}");
        assert!(why.contains(&state), "{why}");
        assert!(!why.contains("os error"), "{why}");
    };
    let answer = head.run(&[
        "submit", "--wait", "-w", "ws2", "-o", "out.%j", "--wrap", "true",
    ]);
    assert_eq!(answer.code, 1, "{answer:?}");
    let number = answer.out.split_whitespace().last().unwrap();
    let (how, code, why) = end(&head, number.parse().unwrap());
    assert_eq!((how.as_str(), code), ("FAILED", 1), "{why}");
    assert!(why.starts_with("JobLaunchFailure: "), "{why}");
    no_room(&why);
    let answer = head.run(&["run", "-w", "ws2", "true"]);
    assert_eq!(
        (answer.code, answer.err.lines().count()),
        (1, 1),
        "{answer:?}"
    );
    no_room(&answer.err);
    let array = head.submit(&[
        "-w",
        "ws2",
        "--array",
        "1-20",
        "-o",
        "/dev/null",
        "--wrap",
        "true",
    ]);
    let answer = head.run(&["wait", &array.to_string()]);
    assert_eq!(answer.code, 1, "{answer:?}");
    // The other machine works.
    assert_eq!(head.ok(&["run", "-w", "ws1", "echo", "fine"]), "fine\n");

    // What runs there already goes on, and its ends are told although there is no room to note them.
    fs::write(lab.shared("go"), "").unwrap();
    let answer = attached.join().unwrap();
    assert_eq!(answer.code, 5, "{}", answer.err);
    assert!(answer.out.starts_with("before\n"), "{}", answer.out);
    assert!(
        answer.err.contains("ws2: the rest of the output is lost"),
        "{}",
        answer.err
    );
    assert_eq!(answer.err.lines().count(), 1, "{}", answer.err);
    for (job, code) in [(there, 3), (elsewhere, 4)] {
        assert_eq!(head.run(&["wait", &job.to_string()]).code, code);
    }

    // With room again it is as before, without a restart.
    empty(&small, &state);
    let out = head.ok(&["run", "-w", "ws2", "seq", "3"]);
    assert_eq!(out, "1\n2\n3\n");
    let job = head.submit(&[
        "-w",
        "ws2",
        "--array",
        "1-20",
        "-o",
        "/dev/null",
        "--wrap",
        "true",
    ]);
    assert_eq!(head.run(&["wait", &job.to_string()]).code, 0);
    assert_eq!(agent(&small, &state), pid, "the same agent");
    // Nothing but logs is left of the jobs there, their credentials least of all.
    let left = format!("find {state} -path '*/slots/*' -type f ! -name '*.log' | grep .");
    wait_until("ended jobs are cleaned up", PATIENCE, || {
        small.call(&["sh", "-c", &left]).code == 1
    });
    // And all of it is in the history, once each.
    let history = rows(&head.json(&["history", "--array", "--limit", "0"]));
    let ids: BTreeSet<u64> = history
        .iter()
        .filter_map(|row| row["raw_id"].as_u64())
        .collect();
    assert_eq!((ids.len(), history.len()), (47, 47));
}

#[test]
fn wherever_the_room_ends_a_job_says_so_or_succeeds() {
    let test = "wherever_the_room_ends_a_job_says_so_or_succeeds";
    let Some((_lab, head, small, state)) = lab_of_two(test) else {
        return;
    };
    small.small_disk(&state, 8);
    start(&head, &small);
    let said = |text: &str| {
        let text = text.to_lowercase();
        text.contains("no space left on device") || text.contains("its disk was full")
    };
    let (mut failed, mut done) = (0, 0);
    // One page for each of credential, journal, script or log, and two that mpirun's hosts take; with one more there is room
    // for all.
    for pages in 0..7 {
        for kind in ["run", "submit"] {
            fill(&small, &state);
            let free = format!("truncate -s -{} {state}/ballast.65536", pages * 4096);
            assert_eq!(small.call(&["sh", "-c", &free]).code, 0);
            let words = match kind {
                "run" => vec!["run", "-w", "ws2", "echo", "word"],
                _ => vec![
                    "submit",
                    "--wait",
                    "-w",
                    "ws2",
                    "-o",
                    "/dev/null",
                    "--wrap",
                    "true",
                ],
            };
            let answer = head.run(&words);
            if answer.code == 0 && answer.err.is_empty() {
                done += 1;
                continue;
            }
            failed += 1;
            // With no room for its output alone, the command itself is done.
            let told = match kind {
                "run" => answer.err.clone(),
                _ => {
                    end(
                        &head,
                        answer
                            .out
                            .split_whitespace()
                            .last()
                            .unwrap()
                            .parse()
                            .unwrap(),
                    )
                    .2
                }
            };
            assert!(said(&told), "{kind} with {pages} pages: {told} {answer:?}");
            assert!(
                answer.code <= 1 && answer.err.lines().count() <= 1,
                "{answer:?}"
            );
            println!("{kind} with {pages} pages: {told}");
        }
    }
    assert!(failed >= 4 && done >= 2, "{failed} failed, {done} did not");
    empty(&small, &state);
    assert_eq!(head.ok(&["run", "-w", "ws2", "echo", "word"]), "word\n");
}

#[test]
fn a_full_disk_under_a_jobs_output_is_the_reason_it_fails_with() {
    let test = "a_full_disk_under_a_jobs_output_is_the_reason_it_fails_with";
    let Some((lab, head, small, state)) = lab_of_two(test) else {
        return;
    };
    let disk = format!("{HOME}/results");
    small.small_disk(&disk, 1);
    fs::create_dir_all(head.path(&disk)).unwrap();
    start(&head, &small);
    let pid = agent(&small, &state);
    let file = format!("{disk}/out.%j");
    let writer = "echo begins; touch /mnt/writer.began; while [ ! -e /mnt/go ]; do sleep 0.02; done; \
                  seq 100000; exit $?";
    let job = head.submit(&["-w", "ws2", "-o", &file, "--wrap", writer]);
    wait_until("it has begun", PATIENCE, || began(&lab, "writer"));
    fill(&small, &disk);
    fs::write(lab.shared("go"), "").unwrap();
    assert_eq!(head.run(&["wait", &job.to_string()]).code, 1);
    let (how, code, why) = end(&head, job);
    assert_eq!((how.as_str(), code), ("FAILED", 1), "{why}");
    let said = format!("SystemFailure: no space is left on the disk of {disk}/out.{job}");
    assert_eq!(why, said);
    // One that has nothing to say is no worse for it, and one that fails elsewhere has no such reason.
    let quiet = head.run(&[
        "submit", "--wait", "-w", "ws2", "-o", &file, "--wrap", "true",
    ]);
    assert_eq!(quiet.code, 0, "{quiet:?}");
    let other = head.submit(&["-w", "ws2", "-o", "/dev/null", "--wrap", "exit 7"]);
    assert_eq!(head.run(&["wait", &other.to_string()]).code, 7);
    assert_eq!(end(&head, other).2, "NonZeroExitCode: ");
    empty(&small, &disk);
    let job = head.submit(&["-w", "ws2", "-o", &file, "--wrap", writer]);
    assert_eq!(head.run(&["wait", &job.to_string()]).code, 0);
    let path = format!("{disk}/out.{job}");
    let answer = small.call(&["tail", "-n", "1", &path]);
    assert_eq!(answer.out, "100000\n", "{answer:?}");
    assert_eq!(agent(&small, &state), pid, "the same agent");
}
