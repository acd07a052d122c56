//! Other machines and people: one pasted line, then jobs there, from there, and over the network. Here all of them are
//! state directories on one machine; tests with hosts of their own are in `lab_*.rs`.

use crate::support::{Cluster, PATIENCE, code_of, finish, rows, wait_child, wait_until};
use std::process::Stdio;

#[test]
fn a_machine_joins_with_one_line_and_runs_a_job() {
    let cluster = Cluster::up(1);
    let line = cluster.ok(&["invite"]);
    assert_eq!(line.lines().count(), 1, "{line}");
    assert!(line.starts_with("hpc join 127.0.0.1:"), "{line}");
    assert!(line.contains("# worker, one use, expires in 1 h"), "{line}");
    let member = cluster.member("n2", 2);
    let task = "echo $SLURMD_NODENAME $SLURM_JOB_NODELIST $SLURM_CPUS_ON_NODE";
    let job = cluster.submit(&["-w", "n2", "-n", "2", "-o", "out", "--wrap", task]);
    assert_eq!(cluster.run(&["wait", &job.to_string()]).code, 0);
    assert_eq!(cluster.read("out"), "n2 n2 2\n");
    // Attached, with both streams, and the exit code.
    let script = "read line; echo got $line; echo oops >&2; exit 5";
    let answer = cluster.run_with(&["run", "-w", "n2", "sh", "-c", script], b"this\n");
    assert_eq!(
        (answer.code, answer.out.as_str(), answer.err.as_str()),
        (5, "got this\n", "oops\n")
    );
    assert_eq!(cluster.ok(&["logs", &job.to_string()]), "n2 n2 2\n");
    let node = cluster.json(&["node", "n2"]);
    assert_eq!(node["path"], "quic", "{node}");
    assert!(
        cluster
            .ok(&["node", "n2"])
            .contains("over quic, at 127.0.0.1:")
    );
    assert_eq!(cluster.json(&["node", "n1"])["path"], "unix");
    // Of an ended job the machine keeps the log that a reader may want, and no credential.
    let slots = member.state().join("worker/slots");
    let kept = || {
        let slots = std::fs::read_dir(&slots).unwrap().flatten();
        let files = slots.filter_map(|slot| std::fs::read_dir(slot.path()).ok());
        let names = files.flatten().flatten().map(|file| file.file_name());
        names.collect::<Vec<_>>()
    };
    wait_until("what jobs had here is gone", PATIENCE, || {
        kept() == ["step.0.log"]
    });
    drop(member);
}

#[test]
fn a_workers_directory_takes_no_cluster_of_its_own_and_no_person() {
    let cluster = Cluster::up(1);
    let member = cluster.member("n2", 1);
    let said = cluster.refused(1, &["node", "drain", "n[1-3]", "--reason", "typo"]);
    assert!(said.contains("there is no node n3"), "{said}");
    assert_eq!(
        cluster.json(&["node", "n1"])["state"],
        "IDLE",
        "all or none"
    );
    cluster.ok(&["node", "drain", "n[1-2]"]);
    for name in ["n1", "n2"] {
        assert_eq!(cluster.json(&["node", name])["state"], "DRAINED", "{name}");
    }
    cluster.ok(&["node", "resume", "n[1-2]"]);
    let line = cluster.invite(&["--role", "user", "--user", "olga"]);
    for runs in [true, false] {
        let said = member.refused(1, &["up", "--detach"]);
        assert!(said.contains("has joined cluster hpc"), "{said}");
        assert!(said.contains("`hpc join`, without a line"), "{said}");
        let said = member.refused(1, &["login", &line]);
        assert!(said.contains("has joined cluster hpc"), "{said}");
        if runs {
            member.ok(&["down"]);
        }
    }
    assert!(!member.state().join("controller/hpc.redb").exists());
    // The invitation is as good as new, and who used it is known.
    let olga = cluster.stranger("olga");
    olga.ok(&["login", &line]);
    let audit = rows(&cluster.json(&["audit"]));
    let joined =
        |row: &&serde_json::Value| row["what"].as_str().unwrap().starts_with("join with key");
    let who: Vec<_> = audit.iter().filter(joined).map(|row| &row["who"]).collect();
    assert!(
        who.contains(&&"olga".into()) && who.contains(&&"n2".into()),
        "{who:?}"
    );
    let said = olga.refused(2, &["join"]);
    assert!(said.contains("has not joined a cluster"), "{said}");
}

#[test]
fn a_machine_that_is_taken_down_is_down_at_once_and_comes_back() {
    let cluster = Cluster::up(1);
    let member = cluster.member("n2", 1);
    let job = cluster.submit(&["-w", "n2", "--wrap", "exec sleep 1000"]);
    let again = cluster.submit(&[
        "-w",
        "n2",
        "--requeue",
        "--wrap",
        "[ -e ran ] || { touch ran; exec sleep 1000; }",
    ]);
    cluster.wait_for_state(job, "RUNNING");
    member.ok(&["down"]);
    cluster.wait_for_state(job, "NODE_FAIL");
    let state = |node: &str| {
        cluster.json(&["node", node])["state"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(state("n2"), "DOWN");
    // The same machine is the same node, without another line.
    let said = member.ok(&["join", "--detach", "--memory", "64G", "--cpus", "1"]);
    assert!(
        said.contains("the worker of node n2 in cluster hpc runs again"),
        "{said}"
    );
    wait_until("it is back", PATIENCE, || state("n2") != "DOWN");
    wait_until("the other job runs there", PATIENCE, || {
        cluster.exists("ran")
    });
    assert_eq!(cluster.state_of(again), "RUNNING");
    let said = member.ok(&["join", "--detach"]);
    assert!(said.contains("runs already"), "{said}");
    let said = member.refused(1, &["join", "--detach", "--cpus", "2"]);
    assert!(
        said.contains("the worker of this machine runs already"),
        "{said}"
    );
    member.ok(&["down"]);
    // It may run again, and its node said itself that nothing is left of it.
    assert_eq!(cluster.state_of(again), "PENDING");
    assert_eq!(cluster.job(again)["restarts"], 1);
    cluster.ok(&["cancel", &again.to_string()]);
}

#[test]
fn from_within_a_job_there_jobs_are_submitted_and_steps_run() {
    let cluster = Cluster::up(1);
    let _member = cluster.member("n2", 2);
    let hpc = env!("CARGO_BIN_EXE_hpc");
    let script = format!(
        "unset HPC_STATE_DIR; {hpc} run -n 2 sh -c 'echo step $SLURM_PROCID'; \
         {hpc} submit --wait --parsable -w n1 -o inner --wrap 'echo $SLURMD_NODENAME $HPC_CREDENTIAL'; \
         {hpc} queue -h -o %i 2>&1; {hpc} node drain n1; echo $?"
    );
    let job = cluster.submit(&["-w", "n2", "-n", "2", "-o", "out", "--wrap", &script]);
    assert_eq!(cluster.run(&["wait", &job.to_string()]).code, 0);
    let out = cluster.read("out");
    let lines: Vec<&str> = out.lines().collect();
    assert!(
        lines.contains(&"step 0") && lines.contains(&"step 1"),
        "{out}"
    );
    assert!(lines.contains(&(job + 1).to_string().as_str()), "{out}");
    // As itself, whoever had submitted it: the owner of a job is no operator within it.
    assert_eq!(lines.last(), Some(&"4"), "{out}");
    assert_eq!(cluster.read("inner"), "n1\n", "its credential is its own");
    let audit = cluster.ok(&["audit"]);
    let from = format!("job {job} on n2");
    assert!(
        audit
            .lines()
            .any(|line| line.contains("submit wrap") && line.contains(&from)),
        "{audit}"
    );
}

#[test]
fn a_person_elsewhere_logs_in_and_does_what_the_role_allows() {
    let cluster = Cluster::up(2);
    let me = cluster.ok(&["submit", "--wait", "-o", "who", "--wrap", "id -un"]);
    drop(me);
    let me = cluster.read("who").trim().to_owned();
    if me == "root" {
        // root comes from the controller's own machine only.
        let words = ["invite", "--role", "user", "--user", "root"];
        assert!(cluster.refused(1, &words).contains("root comes from"));
    } else {
        let person = cluster.person(&me, "user");
        let answer = person.run(&["run", "sh", "-c", "cat; id -un; exit 3"]);
        assert_eq!(
            (answer.code, answer.out.trim()),
            (3, me.as_str()),
            "{answer:?}"
        );
    }
    let alice = cluster.person("alice", "user");
    let theirs = cluster.submit(&["--hold", "--wrap", "true"]);
    assert!(
        alice
            .refused(4, &["cancel", &theirs.to_string()])
            .contains("you are alice")
    );
    assert!(
        alice
            .refused(4, &["invite"])
            .contains("alice may not invite")
    );
    assert!(
        alice
            .refused(4, &["down", "--yes", "--controller", &far(&cluster)])
            .contains("alice")
    );
    let own = alice.submit(&["--hold", "--wrap", "true"]);
    assert_eq!(alice.job(own)["user"], "alice");
    let watcher = cluster.person("walter", "viewer");
    assert_eq!(rows(&watcher.json(&["queue"])).len(), 2);
    assert!(
        watcher
            .refused(4, &["submit", "--wrap", "true"])
            .contains("may look only")
    );
    assert!(
        watcher
            .refused(4, &["cancel", &own.to_string()])
            .contains("may look only")
    );
    let boss = cluster.person("olga", "operator");
    boss.ok(&["node", "drain", "n1"]);
    boss.ok(&["cancel", &own.to_string(), &theirs.to_string()]);
    assert!(
        boss.refused(4, &["invite", "--role", "user", "--user", "mallory"])
            .contains("olga may not")
    );
    boss.ok(&["node", "resume", "n1"]);
    // Nobody who runs jobs here has that account.
    let answer = alice.run(&["submit", "--wait", "--wrap", "true"]);
    assert_eq!(answer.code, 1, "{answer:?}");
}

/// Whether a process has a connection that its kernel closes with it; datagrams have none.
fn has_tcp_connection(pid: u32) -> bool {
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let sockets: Vec<String> = descriptors
        .flatten()
        .filter_map(|entry| std::fs::read_link(entry.path()).ok())
        .filter_map(|link| {
            let inode = link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
            Some(inode.to_owned())
        })
        .collect();
    let connections = std::fs::read_to_string(format!("/proc/{pid}/net/tcp")).unwrap();
    connections.lines().any(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let established = words.get(3) == Some(&"01");
        established
            && sockets
                .iter()
                .any(|inode| words.get(9) == Some(&inode.as_str()))
    })
}

/// Where a cluster hears others.
fn far(cluster: &Cluster) -> String {
    let address = std::fs::read_to_string(cluster.state().join("controller/listen")).unwrap();
    format!("quic://{}", address.trim())
}

#[test]
fn a_stream_over_the_network_is_followed_and_ends_with_its_client() {
    let cluster = Cluster::up(1);
    let _member = cluster.member("n2", 1);
    let watcher = cluster.person("olga", "operator");
    let job = cluster.submit(&[
        "-w",
        "n2",
        "-o",
        "out",
        "--wrap",
        "echo one; while [ ! -e go ]; do sleep 0.02; done; echo two",
    ]);
    let mut follower = watcher
        .hpc(&["logs", "-f", &job.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    cluster.wait_for_state(job, "RUNNING");
    std::fs::write(cluster.work.join("go"), "").unwrap();
    let status = wait_child(&mut follower, PATIENCE).expect("it ends with the job");
    assert_eq!(code_of(status), 0);
    let mut text = String::new();
    std::io::Read::read_to_string(&mut follower.stdout.take().unwrap(), &mut text).unwrap();
    assert_eq!(text, "one\ntwo\n");
    // A client that goes ends its job, over the network too. Somebody with an account here, and not root, who comes from
    // the controller's own machine only.
    let runs = match cluster.ok(&["run", "id", "-un"]).trim() {
        "root" => cluster.person("nobody", "user"),
        me => cluster.person(me, "user"),
    };
    let mut runner = runs.hpc(&["run", "sleep", "1000"]).spawn().unwrap();
    wait_until("the job runs", PATIENCE, || {
        let jobs = rows(&cluster.json(&["queue"]));
        jobs.iter().any(|job| job["state"] == "RUNNING")
    });
    // One that is killed in its first half second is missed only after 30 s of silence.
    wait_until("its kernel would tell of its end", PATIENCE, || {
        has_tcp_connection(runner.id())
    });
    runner.kill().unwrap();
    runner.wait().unwrap();
    // Killed, it said nothing: its kernel did. Where it had not come to that, it is waited for a while.
    cluster.wait_empty(PATIENCE);
}

#[test]
fn a_run_that_cannot_start_says_why_and_names_no_file() {
    let cluster = Cluster::up(1);
    let person = cluster.person("olga", "user");
    let words = ["run", "--quiet", "true"];
    for round in 0..6 {
        // Every other one waits first, so that its client is there when it fails.
        let waits = round % 2 == 1;
        if waits {
            cluster.ok(&["node", "drain", "n1"]);
        }
        let mut command = person.hpc(&words);
        let runner = command.stderr(Stdio::piped()).spawn().unwrap();
        if waits {
            wait_until("it waits", PATIENCE, || {
                !rows(&cluster.json(&["queue"])).is_empty()
            });
            cluster.ok(&["node", "resume", "n1"]);
        }
        let output = runner.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.starts_with("hpc run: error: "), "{said}");
        assert!(said.contains("olga"), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert_eq!(output.status.code(), Some(1), "{said}");
    }
}

#[test]
fn the_port_is_kept_and_members_come_back_after_a_restart() {
    let cluster = Cluster::up(1);
    let _member = cluster.member("n2", 1);
    let before = far(&cluster);
    let job = cluster.submit(&[
        "-w",
        "n2",
        "-o",
        "out",
        "--wrap",
        "while [ ! -e go ]; do sleep 0.02; done; echo done",
    ]);
    cluster.wait_for_state(job, "RUNNING");
    cluster.kill_controller();
    // As a person would type it, without an address.
    let words = [
        "up", "--detach", "--name", "n1", "--memory", "64G", "--cpus", "1",
    ];
    assert_eq!(cluster.run(&words).code, 0);
    assert_eq!(far(&cluster), before);
    wait_until("the member is back", PATIENCE, || {
        cluster.json(&["node", "n2"])["responding"] == true
    });
    std::fs::write(cluster.work.join("go"), "").unwrap();
    assert_eq!(
        finish(&mut cluster.hpc(&["wait", &job.to_string()]), b"").code,
        0
    );
    assert_eq!(cluster.read("out"), "done\n");
}
