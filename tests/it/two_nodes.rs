//! A second agent on the same controller: batch jobs over both nodes, and one that is lost. Next: `gangs.rs`.

use crate::support::{Cluster, PATIENCE, kill_and_wait, rows, wait_until};

/// A cluster of one with another node `n2` of two cpus.
fn two() -> (Cluster, i32) {
    let cluster = Cluster::up(2);
    let agent = cluster.another_agent("n2", 2);
    (cluster, agent)
}

#[test]
fn a_gang_holds_both_and_its_script_runs_on_the_first() {
    let (cluster, _agent) = two();
    let task = "echo $SLURM_JOB_NODELIST $SLURM_JOB_NUM_NODES $SLURM_NTASKS $SLURM_TASKS_PER_NODE $SLURMD_NODENAME; \
                while [ ! -e go ]; do sleep 0.02; done; exit 6";
    let words = [
        "submit",
        "--parsable",
        "-N",
        "2",
        "-n",
        "3",
        "-o",
        "out",
        "--wrap",
        task,
    ];
    let job: u32 = cluster.ok(&words).trim().parse().unwrap();
    cluster.wait_for_state(job, "RUNNING");
    let name = job.to_string();
    let nodes = rows(&cluster.json(&["nodes"]));
    assert!(
        nodes
            .iter()
            .all(|node| node["jobs"][0].as_str() == Some(name.as_str())),
        "{nodes:?}"
    );
    std::fs::write(cluster.work.join("go"), "").unwrap();
    assert_eq!(cluster.run(&["wait", &job.to_string()]).code, 6);
    assert_eq!(cluster.read("out"), "n[1-2] 2 3 2,1 n1\n");
    cluster.wait_empty(PATIENCE);
    wait_until("both are free again", PATIENCE, || {
        let nodes = rows(&cluster.json(&["nodes"]));
        nodes.iter().all(|node| node["state"] == "IDLE")
    });
}

#[test]
fn a_gang_ends_as_a_whole() {
    let (cluster, _agent) = two();
    let task = "trap '' TERM; (setsid sleep 86400.0045 &); touch ready; sleep 86400.0045; sleep 86400.0045";
    let words = [
        "-N",
        "2",
        "--kill-wait",
        "1",
        "-o",
        "/dev/null",
        "--wrap",
        task,
    ];
    let job = cluster.submit(&words);
    wait_until("it runs", PATIENCE, || cluster.exists("ready"));
    cluster.ok(&["cancel", &job.to_string()]);
    cluster.wait_for_state(job, "CANCELLED");
    assert_eq!(
        crate::support::with_argument("86400.0045"),
        Vec::<i32>::new()
    );
    wait_until("both are free again", PATIENCE, || {
        let nodes = rows(&cluster.json(&["nodes"]));
        nodes.iter().all(|node| node["state"] == "IDLE")
    });
}

#[test]
fn a_killed_agent_is_seen_and_comes_back() {
    let (cluster, agent) = two();
    let job = cluster.submit(&[
        "-w",
        "n2",
        "--wrap",
        "touch ready; while [ ! -e go ]; do sleep 0.02; done; echo here; exit 2",
    ]);
    // RUNNING is said as soon as it has its node; an agent that is killed before it handed the job on loses nothing
    // either, but then nothing runs until the agent is back.
    wait_until("it runs", PATIENCE, || cluster.exists("ready"));
    kill_and_wait(agent);
    wait_until("it does not respond", PATIENCE, || {
        cluster.json(&["node", "n2"])["responding"] == false
    });
    // Its job goes on, and ends while nobody can say so.
    std::fs::write(cluster.work.join("go"), "").unwrap();
    wait_until("it has ended", PATIENCE, || {
        cluster.exists("slurm-1.out") && cluster.read("slurm-1.out") == "here\n"
    });
    assert_eq!(cluster.state_of(job), "RUNNING");
    cluster.another_agent("n2", 2);
    assert_eq!(cluster.run(&["wait", &job.to_string()]).code, 2);
}
