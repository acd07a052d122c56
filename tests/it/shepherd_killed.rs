//! A shepherd that is killed takes its job with it, and the cluster knows.

use crate::support::{
    Cluster, PATIENCE, command_line, kill_and_wait, parent, wait_until, with_argument,
};

/// A job whose processes are hard to find: one that left its session and parent, and one that ignores SIGTERM.
/// A second run ends at once.
fn stubborn(seconds: &str) -> String {
    format!(
        "echo run ${{SLURM_RESTART_COUNT:-0}} >> runs\n\
         [ -z \"$SLURM_RESTART_COUNT\" ] || exit 0\n\
         (setsid sh -c 'sleep {seconds} & sleep {seconds}' &)\n\
         trap '' TERM\n\
         echo $$ > pid\n\
         sleep {seconds}\n"
    )
}

/// Waits until the job is there as a whole; its shepherd.
fn shepherd(cluster: &Cluster, seconds: &str) -> i32 {
    wait_until("the job has begun", PATIENCE, || {
        cluster.exists("pid") && with_argument(seconds).len() == 3
    });
    let shepherd = parent(cluster.read("pid").trim().parse().unwrap());
    assert!(
        command_line(shepherd).contains("shepherd"),
        "{}",
        command_line(shepherd)
    );
    shepherd
}

#[test]
fn its_job_ends_as_node_fail_and_nothing_survives() {
    let cluster = Cluster::up(2);
    let seconds = "86400.0041";
    let job = cluster.submit(&["-o", "out", "--wrap", &stubborn(seconds)]);
    kill_and_wait(shepherd(&cluster, seconds));
    cluster.wait_for_state(job, "NODE_FAIL");
    assert_eq!(with_argument(seconds), Vec::<i32>::new());
    assert_eq!(cluster.read("runs"), "run 0\n");
    // The node goes on.
    cluster.ok(&["submit", "--wait", "--", "true"]);
}

#[test]
fn a_job_that_may_be_requeued_runs_again() {
    let cluster = Cluster::up(2);
    let seconds = "86400.0042";
    let job = cluster.submit(&["--requeue", "-o", "out", "--wrap", &stubborn(seconds)]);
    kill_and_wait(shepherd(&cluster, seconds));
    cluster.wait_for_state(job, "COMPLETED");
    assert_eq!(with_argument(seconds), Vec::<i32>::new());
    assert_eq!(cluster.read("runs"), "run 0\nrun 1\n");
    assert_eq!(cluster.job(job)["restarts"], 1);
}

#[test]
fn it_is_noticed_after_the_agent_was_gone_too() {
    let cluster = Cluster::up(2);
    let seconds = "86400.0043";
    let job = cluster.submit(&["-o", "out", "--wrap", &stubborn(seconds)]);
    let shepherd = shepherd(&cluster, seconds);
    cluster.kill_agent();
    kill_and_wait(shepherd);
    cluster.start();
    cluster.wait_for_state(job, "NODE_FAIL");
    assert_eq!(with_argument(seconds), Vec::<i32>::new());
}
