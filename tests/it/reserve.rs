//! What a machine keeps from its jobs: taken off what it offers, refused where it cannot be kept, and where the agent runs.

use crate::support::{Answer, Cluster, finish, rows};
use std::fs;

/// Two packages of four cores with two threads each, and a NUMA node of 64 GiB in each; the kernel's usual numbers.
const MACHINE: &str =
    "pack:2 [numa(memory=64GiB)] core:4 pu:2(indexes=0,8,1,9,2,10,3,11,4,12,5,13,6,14,7,15)";

/// `hpc up` with this configuration, on a machine of which nothing is declared besides `words`.
fn up(cluster: &Cluster, config: &str, machine: Option<&str>, words: &[&str]) -> Answer {
    let file = cluster.path("hpc.toml");
    fs::write(&file, config).unwrap();
    let up = ["up", "--detach", "--listen", "127.0.0.1:0", "--name", "n1"];
    let mut command = cluster.hpc(&[&up, words].concat());
    command.arg("--config").arg(&file);
    if let Some(machine) = machine {
        command.env("HWLOC_SYNTHETIC", machine);
    }
    finish(&mut command, b"")
}

/// The cpus that a job of so many tasks is given.
fn given(cluster: &Cluster, tasks: u32) -> String {
    let tasks = tasks.to_string();
    let job = cluster.submit(&["-n", &tasks, "--wrap", "exec sleep 1000"]);
    cluster.wait_for_state(job, "RUNNING");
    let view = cluster.job(job);
    cluster.ok(&["cancel", &job.to_string()]);
    cluster.wait_for_state(job, "CANCELLED");
    view["placement"][0]["cpus"].as_str().unwrap().to_owned()
}

#[test]
fn jobs_are_given_what_the_reserve_leaves_and_the_node_shows_it() {
    let cluster = Cluster::prepared(1);
    let config = "reserve_cpus = 3\nreserve_memory_mib = 4096\n";
    let answer = up(&cluster, config, Some(MACHINE), &[]);
    assert_eq!(answer.code, 0, "{answer:?}");
    let nodes = rows(&cluster.json(&["nodes"]));
    assert_eq!(
        (&nodes[0]["cpus"], &nodes[0]["memory_mib"]),
        (&12.into(), &(124 * 1024).into()),
        "two whole cores: {nodes:?}"
    );
    let shown = cluster.ok(&["node", "n1"]);
    let note = "Note:         reserved for the system and hpc, not given to jobs: cpus 0-1,8-9 and 4G of memory";
    assert!(shown.lines().any(|line| line == note), "{shown}");
    // All that is left, and not one more.
    assert_eq!(given(&cluster, 12), "2-7,10-15");
    let error = cluster.refused(1, &["submit", "-n", "13", "--wrap", "true"]);
    assert!(error.contains("13") && error.contains("12"), "{error}");
    let error = cluster.refused(1, &["submit", "--mem", "125G", "--wrap", "true"]);
    assert!(error.contains("126976 MiB"), "{error}");
}

#[test]
fn a_reserve_that_cannot_be_kept_is_refused_at_the_start() {
    let cluster = Cluster::prepared(1);
    for (config, words, said) in [
        (
            "reserve_cpus = 15",
            &[][..],
            "hpc.toml: reserve_cpus = 15 leaves jobs nothing of this machine's 16 cpus in 8 cores, which are kept \
             whole: write 14 or less",
        ),
        (
            "reserve_memory_mib = 131072",
            &[],
            "reserve_memory_mib = 131072 leaves jobs nothing of this machine's 131072 MiB: write 131071 or less",
        ),
        (
            "reserve_cpus = 2",
            &["--cpus", "15"],
            "--cpus 15 is more than reserve_cpus = 2 leaves of this machine, which is 14: declare that or less, or \
             leave one of the two out",
        ),
        (
            "reserve_memory_mib = 1024",
            &["--memory", "128G"],
            "--memory 128G is more than reserve_memory_mib = 1024 leaves of this machine, which is 127G",
        ),
    ] {
        let answer = up(&cluster, config, Some(MACHINE), words);
        assert_eq!(answer.code, 2, "{config}: {answer:?}");
        assert!(answer.err.contains(said), "{config}: {}", answer.err);
        assert!(cluster.processes().len() <= 1, "nothing was started");
    }
    // A declared number is what jobs get, of the cores that are left.
    let answer = up(
        &cluster,
        "reserve_cpus = 2",
        Some(MACHINE),
        &["--cpus", "4"],
    );
    assert_eq!(answer.code, 0, "{answer:?}");
    assert_eq!(given(&cluster, 4), "1-2,9-10");
}

/// The cpus that a process may run on.
fn allowed(status: &str) -> String {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    line.expect(status).trim().to_owned()
}

#[test]
fn the_agent_runs_on_the_reserved_cores_and_jobs_and_their_shepherds_do_not() {
    let cluster = Cluster::prepared(1);
    let answer = up(&cluster, "reserve_cpus = 1", None, &[]);
    if answer.code == 2 && answer.err.contains("in 1 core") {
        println!(
            "SKIPPED: the_agent_runs_on_the_reserved_cores_and_jobs_and_their_shepherds_do_not needs two cores"
        );
        return;
    }
    assert_eq!(answer.code, 0, "{answer:?}");
    let status = |pid: i32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        allowed(&status)
    };
    let note = cluster.ok(&["node", "n1"]);
    let (_, kept) = note.split_once("not given to jobs: cpu").expect(&note);
    let kept = kept.lines().next().unwrap();
    assert_eq!(status(cluster.agent()), kept.trim_start_matches('s').trim());
    // As many tasks as there are cpus: together they are bound to all that jobs get.
    let cpus = rows(&cluster.json(&["nodes"]))[0]["cpus"].to_string();
    let given = given(&cluster, cpus.parse().unwrap());
    let script =
        "cat /proc/self/status; grep Cpus_allowed_list: /proc/$PPID/status | sed s/^/shepherd/";
    let batch = cluster.submit(&["-n", &cpus, "-o", "out", "--wrap", script]);
    assert_eq!(cluster.run(&["wait", &batch.to_string()]).code, 0);
    let out = cluster.read("out");
    assert_eq!(given, allowed(&out), "exactly its own binding");
    let shepherd = out
        .lines()
        .find_map(|line| line.strip_prefix("shepherdCpus_allowed_list:"));
    assert_eq!(given, shepherd.expect(&out).trim(), "its shepherd");
    let attached = cluster.ok(&["run", "-c", &cpus, "cat", "/proc/self/status"]);
    assert_eq!(given, allowed(&attached));
}
