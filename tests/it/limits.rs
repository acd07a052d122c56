//! Time limits and signals: what a job is told before its end, and what stays of it.

use crate::support::{Cluster, PATIENCE, wait_until};

#[test]
fn a_time_limit_ends_the_job_and_keeps_its_output() {
    let cluster = Cluster::up(2);
    let answer = cluster.run(&[
        "submit",
        "--wait",
        "-t",
        "0:01",
        "-o",
        "out",
        "--wrap",
        "echo before; sleep 1000; echo never",
    ]);
    assert_ne!(answer.code, 0, "{answer:?}");
    let job = cluster.job(1);
    assert_eq!(
        (job["state"].as_str(), job["reason"].as_str()),
        (Some("TIMEOUT"), Some("TimeLimit")),
        "{job}"
    );
    let out = cluster.read("out");
    assert!(
        out.starts_with("before\n") && out.contains("TIME LIMIT") && !out.contains("never"),
        "{out}"
    );
    let took = job["usage"]["wall_s"].as_f64().unwrap();
    assert!((0.9..6.0).contains(&took), "{job}");
}

#[test]
fn what_ignores_sigterm_is_killed_after_the_kill_wait() {
    let cluster = Cluster::up(2);
    let job = cluster.submit(&[
        "-t",
        "0:01",
        "--kill-wait",
        "1",
        "--wrap",
        "trap 'echo deaf' TERM; while :; do sleep 0.1; done",
    ]);
    cluster.wait_for_state(job, "TIMEOUT");
    let job = cluster.job(job);
    assert_eq!(job["signal"], 9, "{job}");
    assert!(cluster.read("slurm-1.out").contains("deaf"));
}

#[test]
fn a_job_may_clean_up_at_its_limit() {
    let cluster = Cluster::up(2);
    let task = "trap 'echo saved; exit 0' TERM; while :; do sleep 0.1; done";
    let job = cluster.submit(&["-t", "0:01", "--wrap", task]);
    cluster.wait_for_state(job, "TIMEOUT");
    assert!(cluster.read("slurm-1.out").contains("saved"));
}

#[test]
fn the_warning_signal_reaches_the_batch_shell() {
    let cluster = Cluster::up(2);
    let task = "trap 'echo warned; exit 21' USR1; echo ready; while :; do sleep 0.1; done";
    let answer = cluster.run(&[
        "submit", "--wait", "-t", "0:03", "--signal", "B:USR1@1", "--wrap", task,
    ]);
    assert_eq!(answer.code, 21, "{answer:?}");
    assert_eq!(cluster.read("slurm-1.out"), "ready\nwarned\n");
    let took = cluster.job(1)["usage"]["wall_s"].as_f64().unwrap();
    assert!((1.5..2.9).contains(&took), "{took}");
}

#[test]
fn signals_and_cancel_reach_what_they_are_meant_for() {
    let cluster = Cluster::up(2);
    let task = "trap 'echo got usr2 >> got' USR2; trap 'echo got term >> got; exit 3' TERM; touch ready; while :; do sleep 0.05; done";
    let job = cluster.submit(&["--wrap", task]).to_string();
    wait_until("it listens", PATIENCE, || cluster.exists("ready"));
    cluster.ok(&["signal", "--batch", "USR2", &job]);
    wait_until("it got the signal", PATIENCE, || {
        cluster.exists("got") && cluster.read("got") == "got usr2\n"
    });
    cluster.ok(&["cancel", &job]);
    cluster.wait_for_state(1, "CANCELLED");
    assert_eq!(cluster.read("got"), "got usr2\ngot term\n");
    assert_eq!(
        cluster.job(1)["cancelled_by"],
        nix::unistd::getuid().as_raw()
    );
    // Cancelled before it ran.
    let waiting = cluster.submit(&["--hold", "--", "true"]).to_string();
    cluster.ok(&["cancel", &waiting]);
    assert_eq!(cluster.state_of(2), "CANCELLED");
    assert!(
        cluster
            .refused(1, &["signal", "USR1", &waiting])
            .contains("HPC-E0010")
    );
}

#[test]
fn a_limit_can_be_moved_while_the_job_runs() {
    let cluster = Cluster::up(2);
    let job = cluster.submit(&["--wrap", "sleep 1000"]).to_string();
    cluster.wait_for_state(1, "RUNNING");
    cluster.ok(&["update", &job, "time=0:01"]);
    cluster.wait_for_state(1, "TIMEOUT");
}
