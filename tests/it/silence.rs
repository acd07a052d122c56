//! Nodes that fall silent: seen, waited for, given up; and jobs of `--requeue`, which start elsewhere once their first
//! copy is surely gone.

use crate::support::{
    Cluster, PATIENCE, command_line, is_alive, kill, kill_and_wait, rows, wait_until, with_argument,
};
use nix::sys::signal::Signal;
use std::time::{SystemTime, UNIX_EPOCH};

/// Silent after a second, so that nobody has to wait; the rest as said.
fn cluster(cpus: u32, settings: &str) -> Cluster {
    Cluster::configured(cpus, &format!("node_silent_after_s = 1\n{settings}"))
}

fn responds(cluster: &Cluster, node: &str) -> bool {
    cluster.json(&["node", node])["responding"] == true
}

fn wait_for(cluster: &Cluster, node: &str, responding: bool) {
    wait_until(
        &format!("{node} responding: {responding}"),
        PATIENCE,
        || responds(cluster, node) == responding,
    );
}

fn now() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs_f64()
}

fn lines(cluster: &Cluster, name: &str) -> Vec<String> {
    if !cluster.exists(name) {
        return Vec::new();
    }
    cluster.read(name).lines().map(str::to_owned).collect()
}

/// Runs until there is `go`, holding a lock with all its processes; says where and when it started, and that it lives.
const EXCLUSIVE: &str = "exec 9> lock; flock -n 9 || { echo $SLURMD_NODENAME >> contended; exit 99; }; \
    echo $PPID > shepherd; echo $SLURMD_NODENAME ${SLURM_RESTART_COUNT:-0} $(date +%s.%N) >> starts; \
    while [ ! -e go ]; do date +%s.%N >> lives.$SLURMD_NODENAME; sleep 0.05; done; exit 3";

/// Where, for the how manyeth time and when each copy of [`EXCLUSIVE`] has started.
fn starts(cluster: &Cluster) -> Vec<(String, u32, f64)> {
    let parse = |line: String| {
        let words: Vec<&str> = line.split(' ').collect();
        let (count, at) = (words[1].parse().unwrap(), words[2].parse().unwrap());
        (words[0].to_owned(), count, at)
    };
    lines(cluster, "starts").into_iter().map(parse).collect()
}

fn last_life(cluster: &Cluster, node: &str) -> f64 {
    let lives = lines(cluster, &format!("lives.{node}"));
    lives.last().unwrap().parse().unwrap()
}

/// Whether every process of the copy that ran is gone.
fn is_unlocked(cluster: &Cluster) -> bool {
    let lock = std::fs::File::open(cluster.work.join("lock")).unwrap();
    lock.try_lock().is_ok()
}

fn ended_once(cluster: &Cluster, job: u32, state: &str, restarts: u32) {
    let history = cluster.history();
    let of_job: Vec<_> = history.iter().filter(|row| row["id"] == job).collect();
    assert_eq!(of_job.len(), 1, "{history:?}");
    assert_eq!(of_job[0]["state"], state, "{history:?}");
    assert_eq!(of_job[0]["restarts"], restarts, "{history:?}");
}

#[test]
fn a_frozen_agent_is_noticed_and_its_jobs_go_on() {
    let cluster = cluster(2, "");
    let agent = cluster.another_agent("n2", 2);
    // A link on which only hearts beat is not dropped.
    assert_eq!(cluster.run(&["run", "-w", "n2", "sleep", "3"]).code, 0);
    let log = std::fs::read_to_string(cluster.state().join("controller/controller.log")).unwrap();
    assert!(!log.contains("link was dropped"), "{log}");
    let until = |name: &str, code: u32| {
        let task =
            format!("touch {name}.ready; while [ ! -e {name} ]; do sleep 0.02; done; exit {code}");
        cluster.submit(&["-w", "n2", "--wrap", &task])
    };
    let (one, two) = (until("one", 2), until("two", 4));
    wait_until("they run", PATIENCE, || {
        cluster.exists("one.ready") && cluster.exists("two.ready")
    });
    kill(agent, Signal::SIGSTOP);
    wait_for(&cluster, "n2", false);
    assert!(responds(&cluster, "n1"));
    // One ends while nobody can say so.
    std::fs::write(cluster.work.join("one"), "").unwrap();
    kill(agent, Signal::SIGCONT);
    wait_for(&cluster, "n2", true);
    assert_eq!(cluster.run(&["wait", &one.to_string()]).code, 2);
    assert_eq!(cluster.state_of(two), "RUNNING");
    std::fs::write(cluster.work.join("two"), "").unwrap();
    assert_eq!(cluster.run(&["wait", &two.to_string()]).code, 4);
    ended_once(&cluster, one, "FAILED", 0);
    ended_once(&cluster, two, "FAILED", 0);
}

#[test]
fn a_node_that_is_silent_for_too_long_is_down_and_its_jobs_are_lost() {
    let cluster = cluster(2, "node_timeout_s = 5\n");
    let agent = cluster.another_agent("n2", 2);
    let job = cluster.submit(&["-w", "n2", "--wrap", "sleep 86400.0071"]);
    wait_until("it runs", PATIENCE, || {
        !with_argument("86400.0071").is_empty()
    });
    let copy = with_argument("86400.0071");
    kill(agent, Signal::SIGSTOP);
    cluster.wait_for_state(job, "NODE_FAIL");
    assert_eq!(cluster.json(&["node", "n2"])["state"], "DOWN");
    assert!(
        copy.iter().all(|pid| is_alive(*pid)),
        "it is not ended for silence"
    );
    kill(agent, Signal::SIGCONT);
    wait_until("it is ended when its node is back", PATIENCE, || {
        with_argument("86400.0071").is_empty()
    });
    wait_until("its node is free", PATIENCE, || {
        let node = cluster.json(&["node", "n2"]);
        node["state"] == "IDLE" && node["responding"] == true
    });
    ended_once(&cluster, job, "NODE_FAIL", 0);
    // It is remembered, also by the next controller, until somebody has it forgotten.
    let failures = || cluster.json(&["node", "n2"])["failures"].as_f64().unwrap();
    assert!((0.99..=1.0).contains(&failures()), "{}", failures());
    cluster.kill_controller();
    cluster.start();
    wait_for(&cluster, "n2", true);
    assert!((0.99..=1.0).contains(&failures()), "{}", failures());
    let table = cluster.ok(&["nodes"]);
    assert!(table.contains("flaky: lost 1.00 times"), "{table}");
    assert_eq!(cluster.json(&["node", "n1"])["failures"], 0.0);
    cluster.ok(&["node", "set", "n2", "failures=0"]);
    assert!(failures() == 0.0);
    let audit = cluster.ok(&["audit"]);
    assert!(audit.contains("node set n2 failures=0"), "{audit}");
}

/// A job that may run again, on `n2`, with `n1` free for it.
fn on_second(cluster: &Cluster) -> u32 {
    let first = cluster.submit(&["-w", "n1", "-c", "2", "--wrap", "sleep 86400.0072"]);
    cluster.wait_for_state(first, "RUNNING");
    let words = [
        "--requeue",
        "-c",
        "2",
        "--kill-wait",
        "0",
        "-o",
        "/dev/null",
    ];
    let job = cluster.submit(&[&words[..], &["--wrap", EXCLUSIVE]].concat());
    wait_until("it runs", PATIENCE, || cluster.exists("lives.n2"));
    cluster.ok(&["cancel", &first.to_string()]);
    cluster.wait_for_state(first, "CANCELLED");
    job
}

fn starts_elsewhere(cluster: &Cluster, lost: f64) {
    wait_until("it runs elsewhere", PATIENCE, || starts(cluster).len() > 1);
    let starts = starts(cluster);
    assert_eq!((starts[1].0.as_str(), starts[1].1), ("n1", 1), "{starts:?}");
    let last = last_life(cluster, "n2");
    assert!(last - lost > 1.0, "it had its lease: {}", last - lost);
    assert!(last < starts[1].2, "{last} {starts:?}");
    assert!(!cluster.exists("contended"));
}

#[test]
fn a_job_that_may_run_again_does_so_when_its_agent_is_killed_and_its_first_copy_gone() {
    let cluster = cluster(2, "lease_s = 2\n");
    let agent = cluster.another_agent("n2", 2);
    let job = on_second(&cluster);
    // Longer than its lease: heartbeats keep it.
    assert_eq!(cluster.run(&["run", "-w", "n1", "sleep", "3"]).code, 0);
    assert_eq!(starts(&cluster).len(), 1);
    let lost = now();
    kill_and_wait(agent);
    wait_for(&cluster, "n2", false);
    starts_elsewhere(&cluster, lost);
    cluster.another_agent("n2", 2);
    wait_until("what is left is cleaned up", PATIENCE, || {
        cluster.json(&["node", "n2"])["state"] == "IDLE"
    });
    std::fs::write(cluster.work.join("go"), "").unwrap();
    assert_eq!(cluster.run(&["wait", &job.to_string()]).code, 3);
    ended_once(&cluster, job, "FAILED", 1);
    assert_eq!(starts(&cluster).len(), 2);
}

#[test]
fn a_job_that_may_run_again_does_so_when_its_agent_is_frozen() {
    let cluster = cluster(2, "lease_s = 2\n");
    let agent = cluster.another_agent("n2", 2);
    let job = on_second(&cluster);
    let lost = now();
    kill(agent, Signal::SIGSTOP);
    starts_elsewhere(&cluster, lost);
    kill(agent, Signal::SIGCONT);
    wait_for(&cluster, "n2", true);
    // What it reports of the first copy interests nobody.
    assert_eq!(cluster.run(&["run", "-w", "n2", "true"]).code, 0);
    assert_eq!(cluster.state_of(job), "RUNNING");
    std::fs::write(cluster.work.join("go"), "").unwrap();
    assert_eq!(cluster.run(&["wait", &job.to_string()]).code, 3);
    ended_once(&cluster, job, "FAILED", 1);
    assert_eq!(starts(&cluster).len(), 2);
}

/// A job that may run again and one that may not lose their controller, and `also`, for longer than a lease.
fn without_controller(also: impl FnOnce(&Cluster)) {
    let cluster = cluster(2, "lease_s = 2\n");
    let plain = "echo once >> plain; while [ ! -e go ]; do sleep 0.02; done; exit 4";
    let plain = cluster.submit(&["-o", "/dev/null", "--wrap", plain]);
    let words = ["--requeue", "--kill-wait", "0", "-o", "/dev/null", "--wrap"];
    let job = cluster.submit(&[&words[..], &[EXCLUSIVE]].concat());
    wait_until("both run", PATIENCE, || {
        cluster.exists("lives.n1") && cluster.exists("plain")
    });
    // The lease has reached its shepherd once something that came later has gone the same way.
    assert_eq!(cluster.run(&["signal", "CONT", &job.to_string()]).code, 0);
    cluster.kill_controller();
    also(&cluster);
    wait_until("its lease runs out", PATIENCE, || is_unlocked(&cluster));
    assert_eq!(starts(&cluster).len(), 1);
    cluster.start();
    wait_until("it runs again", PATIENCE, || starts(&cluster).len() == 2);
    std::fs::write(cluster.work.join("go"), "").unwrap();
    assert_eq!(cluster.run(&["wait", &job.to_string()]).code, 3);
    assert_eq!(cluster.run(&["wait", &plain.to_string()]).code, 4);
    ended_once(&cluster, job, "FAILED", 1);
    ended_once(&cluster, plain, "FAILED", 0);
    assert_eq!(lines(&cluster, "plain"), ["once"]);
    assert_eq!(starts(&cluster).len(), 2);
    assert!(!cluster.exists("contended"));
}

#[test]
fn a_controller_that_is_away_for_longer_than_a_lease_finds_one_job_ended_and_the_other_running() {
    without_controller(|_| {});
}

#[test]
fn a_lease_runs_out_also_where_no_agent_is_left() {
    without_controller(Cluster::kill_agent);
}

#[test]
fn a_lease_runs_out_also_where_somebody_has_stopped_the_shepherd() {
    without_controller(|cluster| {
        let shepherd = cluster.read("shepherd").trim().parse().unwrap();
        assert!(command_line(shepherd).contains("shepherd"));
        kill(shepherd, Signal::SIGSTOP);
    });
}

#[test]
fn a_controller_that_is_back_within_the_lease_finds_all_running() {
    let cluster = cluster(2, "lease_s = 60\n");
    let job = cluster.submit(&["--requeue", "-o", "/dev/null", "--wrap", EXCLUSIVE]);
    wait_until("it runs", PATIENCE, || cluster.exists("lives.n1"));
    cluster.kill_controller();
    cluster.kill_agent();
    cluster.start();
    wait_for(&cluster, "n1", true);
    std::fs::write(cluster.work.join("go"), "").unwrap();
    assert_eq!(cluster.run(&["wait", &job.to_string()]).code, 3);
    ended_once(&cluster, job, "FAILED", 0);
    assert_eq!(starts(&cluster).len(), 1);
}

#[test]
fn a_gang_with_a_lost_node_goes_back_as_a_whole() {
    let cluster = cluster(2, "lease_s = 2\n");
    let agent = cluster.another_agent("n2", 2);
    let words = [
        "--requeue",
        "-N",
        "2",
        "--kill-wait",
        "0",
        "-o",
        "/dev/null",
    ];
    let job = cluster.submit(&[&words[..], &["--wrap", EXCLUSIVE]].concat());
    wait_until("it runs on its first node", PATIENCE, || {
        cluster.exists("lives.n1")
    });
    assert_eq!(cluster.run(&["signal", "CONT", &job.to_string()]).code, 0);
    kill_and_wait(agent);
    wait_for(&cluster, "n2", false);
    wait_until("it waits for two nodes", PATIENCE, || {
        cluster.state_of(job) == "PENDING"
    });
    assert!(is_unlocked(&cluster), "its part on n1 has ended before");
    cluster.another_agent("n2", 2);
    wait_until("it runs again", PATIENCE, || starts(&cluster).len() == 2);
    std::fs::write(cluster.work.join("go"), "").unwrap();
    assert_eq!(cluster.run(&["wait", &job.to_string()]).code, 3);
    ended_once(&cluster, job, "FAILED", 1);
    assert!(!cluster.exists("contended"));
    wait_until("both are free", PATIENCE, || {
        let nodes = rows(&cluster.json(&["nodes"]));
        nodes.iter().all(|node| node["state"] == "IDLE")
    });
}
