//! Real leftovers: orphans, daemons, deaf processes and a bounded fork chain. Each test runs in a process of its
//! own, a subreaper, because collecting children and killing descendants concerns the whole process.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

use super::process::Family;
use super::*;
use crate::sys::spawn::{SpawnRequest, c_strings, spawn};

/// Runs this very test again, alone in a process, and answers whether we are that process.
fn alone(test: &str) -> bool {
    const ALONE: &str = "HPC_TEST_ALONE";
    if std::env::var_os(ALONE).is_some_and(|name| name == test) {
        set_child_subreaper().unwrap();
        return true;
    }
    let full = format!("sys::reap::tests::{test}");
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &full, "--nocapture", "--test-threads=1"])
        .env(ALONE, test)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}\n{errors}"
    );
    false
}

fn start(script: &str, marker: &str) -> i32 {
    let arguments = c_strings(["sh", "-c", script]).unwrap();
    let environment = c_strings(["PATH=/usr/bin:/bin", marker]).unwrap();
    let request = SpawnRequest::new(c"/bin/sh", &arguments, &environment);
    spawn(&request).unwrap().pid
}

fn until<T>(mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "the condition never came true");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Sweeps to the end; gives what was collected. A child that its own parent collected, while both were being
/// killed, is not among it.
fn sweep(scope: SweepScope) -> Vec<Reaped> {
    let mut reaped = Vec::new();
    let mut sweep = KillSweep::new(scope, u64::MAX);
    until(|| (sweep.step(0, &mut reaped) == SweepState::Done).then_some(()));
    reaped
}

#[test]
fn collects_codes_signals_and_usage() {
    if !alone("collects_codes_signals_and_usage") {
        return;
    }
    assert_eq!(wait_any(), Waited::NoChildren);
    let code = start("exit 3", "A=1");
    let reaped = until(wait_any_nohang);
    assert_eq!(
        (reaped.pid, reaped.status),
        (code, ExitStatusRaw::Exited { code: 3 })
    );
    let killed = start("ulimit -c 0; kill -SEGV $$", "A=1");
    let status = ExitStatusRaw::Signaled {
        signal: 11,
        core: false,
    };
    assert_eq!(wait_for(killed).unwrap().status, status);
    let busy = start("i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done", "A=1");
    assert_eq!(wait_any(), Waited::NoneEnded);
    let usage = wait_for(busy).unwrap().usage;
    assert!(
        usage.utime_us + usage.stime_us > 10_000 && usage.max_rss_kib > 500,
        "{usage:?}"
    );
    assert_eq!(wait_for(busy), None);
}

#[test]
fn finds_descendants_by_lists_and_by_scanning() {
    if !alone("finds_descendants_by_lists_and_by_scanning") {
        return;
    }
    let own = nix::unistd::getpid().as_raw();
    let task = start("sh -c 'sleep 100; :' & sleep 100; :", "A=1");
    until(|| (descendants(task).len() == 3).then_some(()));
    let mut listed = descendants(own);
    let mut scanned = Family::look_by_scanning().descendants(own);
    assert_eq!(listed[0], task);
    listed.sort_unstable();
    scanned.sort_unstable();
    assert_eq!(listed, scanned);
    assert_eq!(ProcessStat::read(task).unwrap().session, task);
    sweep(SweepScope::Everything);
    assert_eq!(ProcessStat::read(task), None);
}

#[test]
fn nothing_survives_the_end() {
    if !alone("nothing_survives_the_end") {
        return;
    }
    let deaf = "trap '' TERM HUP INT; while :; do sleep 1; done";
    let tasks = [
        // A double fork into a session of its own, whose parents are gone.
        format!("(setsid sh -c \"{deaf}\" & ) ; exit 0"),
        format!("setsid setsid sh -c \"{deaf}\" & {deaf}"),
        "kill -STOP $$".to_owned(),
        "env -i setsid sleep 100 & exit 0".to_owned(),
    ];
    for task in &tasks {
        start(task, "TASK=1");
    }
    let own = nix::unistd::getpid().as_raw();
    until(|| (descendants(own).len() >= 7).then_some(()));
    sweep(SweepScope::Everything);
    assert!(descendants(own).is_empty());
    assert_eq!(wait_any(), Waited::NoChildren);
}

#[test]
fn a_chain_of_forks_is_caught() {
    if !alone("a_chain_of_forks_is_caught") {
        return;
    }
    // Each link starts two of the next and exits at once: 2^10 processes if nobody ends it, all orphans.
    let chain = "link() { [ $1 -gt 0 ] && { link $(($1-1)) & link $(($1-1)) & }; [ $1 -gt 0 ] || sleep 100; }; link 10";
    start(chain, "TASK=1");
    let own = nix::unistd::getpid().as_raw();
    until(|| (descendants(own).len() >= 20).then_some(()));
    sweep(SweepScope::Everything);
    assert!(descendants(own).is_empty());
    assert_eq!(wait_any(), Waited::NoChildren);
}

#[test]
fn one_task_ends_while_another_runs() {
    if !alone("one_task_ends_while_another_runs") {
        return;
    }
    let own = nix::unistd::getpid().as_raw();
    let leaves = "(setsid sleep 100 &); (env -i sleep 100 &);";
    let first = start(&format!("{leaves} exit 0"), "HPC_MARK=42.0");
    let second = start(&format!("{leaves} sleep 100; :"), "HPC_MARK=42.1");
    until(|| (descendants(own).len() >= 6).then_some(()));
    until(|| (wait_any_nohang()?.pid == first).then_some(()));
    until(|| (descendants(own).len() == 6).then_some(()));

    let marks = || {
        let mut marks: Vec<_> = descendants(own)
            .into_iter()
            .map(|pid| read_environ_marker(pid, "HPC_MARK"))
            .collect();
        marks.sort();
        marks
    };
    let mark = |text: &str| Some(text.to_owned());
    let before = [
        None,
        None,
        mark("42.0"),
        mark("42.1"),
        mark("42.1"),
        mark("42.1"),
    ];
    // Once every `env -i` has run its program.
    until(|| (marks() == before).then_some(()));

    let scope = SweepScope::Marked {
        name: "HPC_MARK".to_owned(),
        values: BTreeSet::from(["42.0".to_owned()]),
        sessions: BTreeSet::from([first]),
        spared: BTreeSet::from([second]),
    };
    // What wiped its environment is still found by its session.
    assert_eq!(sweep(scope).len(), 2);
    let after = [None, mark("42.1"), mark("42.1"), mark("42.1")];
    assert_eq!(marks(), after);

    // At the end of the job nothing needs to be attributed any more.
    assert_eq!(sweep(SweepScope::AllBut(BTreeSet::from([second]))).len(), 2);
    assert_eq!(descendants(own).len(), 2);
    sweep(SweepScope::Everything);
    assert_eq!(wait_any(), Waited::NoChildren);
}

#[test]
fn a_sweep_gives_up_at_its_deadline_and_names_the_rest() {
    if !alone("a_sweep_gives_up_at_its_deadline_and_names_the_rest") {
        return;
    }
    let task = start("exec sleep 100", "A=1");
    let mut reaped = Vec::new();
    let state = KillSweep::new(SweepScope::Everything, 5).step(5, &mut reaped);
    // Killed, but perhaps not gone within the same step.
    assert!(
        state == SweepState::Done || state == SweepState::Stuck(vec![task]),
        "{state:?}"
    );
    sweep(SweepScope::Everything);
    assert_eq!(wait_any(), Waited::NoChildren);
}
