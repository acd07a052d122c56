//! A shepherd that is killed takes its job with it, and the cluster knows.

use crate::support::{
    Cluster, PATIENCE, Random, command_line, kill_and_wait, parent, rows, wait_until, with_argument,
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

#[test]
fn an_array_goes_on_without_it_and_no_element_is_lost_or_run_twice() {
    const KILLS: u64 = 8;
    let mut random = Random::seeded("shepherd_killed");
    let cluster = Cluster::up(2);
    let task = "echo $PPID > pid; echo $SLURM_ARRAY_TASK_ID >> lines; sleep 0.005";
    cluster.submit(&["-a", "0-299", "-o", "/dev/null", "--wrap", task]);
    let mut killed = 0;
    while killed < KILLS {
        random.sleep(20, 90);
        assert!(
            !rows(&cluster.json(&["queue"])).is_empty(),
            "it ended before its shepherds were killed {KILLS} times"
        );
        let pid = cluster.exists("pid").then(|| cluster.read("pid"));
        let pid = pid.and_then(|text| text.trim().parse().ok());
        if let Some(pid) = pid.filter(|pid| command_line(*pid).contains("shepherd")) {
            kill_and_wait(pid);
            killed += 1;
        }
    }
    cluster.wait_empty(PATIENCE);
    let mut ran: Vec<u64> = cluster
        .read("lines")
        .lines()
        .map(|line| line.parse().unwrap())
        .collect();
    ran.sort_unstable();
    assert!(ran.windows(2).all(|two| two[0] < two[1]), "twice: {ran:?}");
    let history = cluster.history();
    assert_eq!(history.len(), 300);
    let mut lost = 0;
    for row in &history {
        let began = ran.binary_search(&row["array_task"].as_u64().unwrap());
        match row["state"].as_str().unwrap() {
            "COMPLETED" => assert!(began.is_ok(), "{row}"),
            "NODE_FAIL" => lost += 1,
            _ => panic!("{row}"),
        }
    }
    assert!(
        (1..=KILLS).contains(&lost),
        "{lost} elements ended with a shepherd"
    );
}
