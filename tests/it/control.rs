//! Order among jobs: dependencies, arrays with a throttle, hold and release, requeue, suspend, drain.

use crate::support::{Cluster, PATIENCE, is_alive, rows, wait_until};

#[test]
fn dependencies_are_met_or_never_satisfied() {
    let cluster = Cluster::up(4);
    let after = |kind: &str, job: u32| {
        let task = format!("echo {kind}-{job} >> order");
        cluster.submit(&[
            "-o",
            "/dev/null",
            "-d",
            &format!("{kind}:{job}"),
            "--wrap",
            &task,
        ])
    };
    let good = cluster.submit(&["--hold", "-o", "/dev/null", "--wrap", "echo good >> order"]);
    let bad = cluster.submit(&["--hold", "-o", "/dev/null", "--wrap", "exit 4"]);
    let met = [
        after("afterok", good),
        after("afternotok", bad),
        after("afterany", bad),
    ];
    let last = after("afterok", met[0]);
    let never = [after("afterok", bad), after("afternotok", good)];
    for row in rows(&cluster.json(&["queue"])) {
        let held = row["id"] == good || row["id"] == bad;
        assert_eq!(
            row["reason"],
            if held { "JobHeldUser" } else { "Dependency" },
            "{row}"
        );
    }
    cluster.ok(&["release", &format!("{good},{bad}")]);
    for job in met.iter().chain([&last]) {
        cluster.wait_for_state(*job, "COMPLETED");
    }
    let order = cluster.read("order");
    let at = |word: &str| {
        order
            .lines()
            .position(|line| line == word)
            .unwrap_or_else(|| panic!("{word}: {order}"))
    };
    assert!(at("good") < at(&format!("afterok-{good}")), "{order}");
    assert!(
        at(&format!("afterok-{good}")) < at(&format!("afterok-{}", met[0])),
        "{order}"
    );
    assert_eq!(order.lines().count(), 5);
    for job in never {
        let job = cluster.job(job);
        assert_eq!(
            (job["state"].as_str(), job["reason"].as_str()),
            (Some("PENDING"), Some("DependencyNeverSatisfied")),
            "{job}"
        );
    }
    // Of a job that has long ended, and one that is to go with its hope.
    let known = after("afterok", good);
    cluster.wait_for_state(known, "COMPLETED");
    let gone = cluster.submit(&[
        "-d",
        &format!("afterok:{bad}"),
        "--kill-on-invalid-dep",
        "yes",
        "--",
        "true",
    ]);
    cluster.wait_for_state(gone, "CANCELLED");
}

#[test]
fn an_array_keeps_its_throttle_and_each_element_its_code() {
    let cluster = Cluster::up(8);
    let task = "mkdir running.$SLURM_ARRAY_TASK_ID; ls -d running.* | wc -l >> seen; sleep 0.15; \
                rmdir running.$SLURM_ARRAY_TASK_ID; exit $SLURM_ARRAY_TASK_ID";
    let job = cluster
        .submit(&["-a", "0-11%2", "-o", "out-%A-%a", "--wrap", task])
        .to_string();
    let pending = rows(&cluster.json(&["queue"]));
    assert!(
        pending.iter().any(|row| row["array_tasks"]
            .as_str()
            .is_some_and(|tasks| tasks.ends_with("%2"))),
        "{pending:?}"
    );
    assert_eq!(cluster.run(&["wait", &job]).code, 11);
    let seen: Vec<u32> = cluster
        .read("seen")
        .lines()
        .map(|line| line.trim().parse().unwrap())
        .collect();
    assert_eq!(seen.len(), 12);
    assert!(seen.iter().all(|count| *count <= 2), "{seen:?}");
    for row in cluster.history() {
        assert_eq!(row["exit_code"], row["array_task"], "{row}");
        assert!(cluster.exists(&format!("out-{job}-{}", row["array_task"])));
    }
    // Single elements.
    let job = cluster.submit(&["--hold", "-a", "1-5", "-o", "/dev/null", "--wrap", "exit 9"]);
    cluster.ok(&["cancel", &format!("{job}_[2-3]")]);
    cluster.ok(&["release", &job.to_string()]);
    assert_eq!(cluster.run(&["wait", &format!("{job}_5")]).code, 9);
    cluster.wait_empty(PATIENCE);
    let states: Vec<String> = (1..=5)
        .map(|index| {
            let row = cluster.json(&["job", &format!("{job}_{index}")]);
            row["state"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(
        states,
        ["FAILED", "CANCELLED", "CANCELLED", "FAILED", "FAILED"]
    );
}

#[test]
fn a_held_job_waits_and_a_released_one_runs() {
    let cluster = Cluster::up(2);
    let job = cluster.submit(&["--hold", "--", "true"]);
    let other = cluster.submit(&["--begin", "now+1hour", "--", "true"]);
    cluster.ok(&["submit", "--wait", "--", "true"]);
    assert_eq!(
        (
            cluster.job(job)["state"].as_str(),
            cluster.job(job)["reason"].as_str()
        ),
        (Some("PENDING"), Some("JobHeldUser"))
    );
    assert_eq!(cluster.job(other)["reason"], "BeginTime");
    cluster.ok(&["release", &job.to_string()]);
    cluster.wait_for_state(job, "COMPLETED");
    cluster.ok(&["update", &other.to_string(), "begin=now"]);
    cluster.wait_for_state(other, "COMPLETED");
}

#[test]
fn a_requeued_job_counts_and_appends() {
    let cluster = Cluster::up(2);
    let task = "echo run ${SLURM_RESTART_COUNT:-none}; [ -z \"$SLURM_RESTART_COUNT\" ] || exit 0; touch began; sleep 1000";
    let job = cluster.submit(&["--requeue", "-o", "out", "--wrap", task]);
    wait_until("the first run has begun", PATIENCE, || {
        cluster.exists("began")
    });
    cluster.ok(&["requeue", &job.to_string()]);
    cluster.wait_for_state(job, "COMPLETED");
    let out = cluster.read("out");
    let runs: Vec<&str> = out
        .lines()
        .filter(|line| line.starts_with("run "))
        .collect();
    assert_eq!(runs, ["run none", "run 1"], "{out}");
    assert_eq!(cluster.job(job)["restarts"], 1);
}

#[test]
fn a_job_may_requeue_itself() {
    let cluster = Cluster::up(2);
    let hpc = env!("CARGO_BIN_EXE_hpc");
    let task = format!(
        "echo run ${{SLURM_RESTART_COUNT:-0}}; [ \"${{SLURM_RESTART_COUNT:-0}}\" -ge 2 ] || {{ {hpc} requeue $SLURM_JOB_ID; sleep 1000; }}"
    );
    let job = cluster.submit(&["--requeue", "-o", "out", "--wrap", &task]);
    cluster.wait_for_state(job, "COMPLETED");
    let out = cluster.read("out");
    let runs: Vec<&str> = out
        .lines()
        .filter(|line| line.starts_with("run "))
        .collect();
    assert_eq!(runs, ["run 0", "run 1", "run 2"], "{out}");
}

#[test]
fn a_suspended_job_stands_still() {
    let cluster = Cluster::up(2);
    let job = cluster
        .submit(&[
            "-o",
            "/dev/null",
            "--wrap",
            "while [ ! -e go ]; do date +%N > beat; sleep 0.02; done",
        ])
        .to_string();
    wait_until("it runs", PATIENCE, || cluster.exists("beat"));
    cluster.ok(&["suspend", &job]);
    cluster.wait_for_state(1, "SUSPENDED");
    let mut before = String::new();
    wait_until("it stands still", PATIENCE, || {
        let now = cluster.read("beat");
        std::thread::sleep(std::time::Duration::from_millis(150));
        std::mem::replace(&mut before, now) == cluster.read("beat")
    });
    cluster.ok(&["resume", &job]);
    std::fs::write(cluster.work.join("go"), "").unwrap();
    assert_eq!(cluster.run(&["wait", &job]).code, 0);
}

#[test]
fn a_drained_node_starts_nothing() {
    let cluster = Cluster::up(2);
    cluster.ok(&["node", "drain", "n1", "--reason", "new disk"]);
    let job = cluster.submit(&["--", "true"]);
    let node = cluster.json(&["node", "n1"]);
    assert_eq!(
        (node["state"].as_str(), node["reason"].as_str()),
        (Some("DRAINED"), Some("new disk")),
        "{node}"
    );
    assert_eq!(cluster.state_of(job), "PENDING");
    // It stays so over a restart of both.
    cluster.kill_controller();
    cluster.kill_agent();
    cluster.start();
    assert_eq!(cluster.json(&["node", "n1"])["state"], "DRAINED");
    assert_eq!(cluster.state_of(job), "PENDING");
    cluster.ok(&["node", "resume", "n1"]);
    cluster.wait_for_state(job, "COMPLETED");
}

#[test]
fn a_down_that_is_interrupted_is_carried_out_all_the_same() {
    let cluster = Cluster::up(2);
    let task = "trap '' TERM; touch ready; sleep 86400.0061; sleep 86400.0061";
    cluster.submit(&["--kill-wait", "1", "-o", "/dev/null", "--wrap", task]);
    wait_until("it runs", PATIENCE, || cluster.exists("ready"));
    let controller = cluster.controller();
    let mut down = cluster.hpc(&["down", "--yes"]).spawn().unwrap();
    wait_until("its jobs are being ended", PATIENCE, || {
        let queue = rows(&cluster.json(&["queue"]));
        queue.iter().all(|row| row["state"] == "COMPLETING")
    });
    down.kill().unwrap();
    down.wait().unwrap();
    wait_until("the controller has gone", PATIENCE, || {
        !is_alive(controller)
    });
}
