//! Promise 6: on a cluster that several users share, one cannot touch what is another's, and what runs as a user is
//! that user's.

use crate::support::{Cluster, PATIENCE, finish, is_root, rows, script, wait_until};
use std::os::unix::fs::MetadataExt;
use std::process::Command;

/// Exit code of what is not permitted.
const NOT_PERMITTED: i32 = 4;

/// A user that every distribution has: its number and its group's.
fn account(name: &str) -> (u32, u32) {
    let user = nix::unistd::User::from_name(name)
        .unwrap()
        .unwrap_or_else(|| panic!("no account {name}"));
    (user.uid.as_raw(), user.gid.as_raw())
}

/// A cluster of root's, as a service has it.
fn system() -> Cluster {
    let mut cluster = Cluster::prepared(4);
    cluster.open_to_all();
    cluster.start();
    cluster
}

/// What the cluster shows of its jobs and nodes, less what changes by itself.
fn state(cluster: &Cluster) -> String {
    let mut queue = cluster.json(&["queue"]);
    for job in queue.as_array_mut().unwrap() {
        job.as_object_mut()
            .unwrap()
            .retain(|key, _| key != "usage" && key != "expected_start");
    }
    format!("{queue}\n{}", cluster.json(&["nodes"]))
}

#[test]
fn what_is_anothers_is_refused_and_stays_as_it_is_needs_root() {
    if !is_root("what_is_anothers_is_refused_and_stays_as_it_is_needs_root") {
        return;
    }
    let cluster = system();
    let (daemon, daemon_group) = account("daemon");
    let owners = [cluster.seen_by(0, 0), cluster.seen_by(daemon, daemon_group)];
    let (mut running_jobs, mut jobs) = (Vec::new(), Vec::new());
    for owner in &owners {
        let running = owner.submit(&[
            "-o",
            "/dev/null",
            "--wrap",
            "trap 'exit 99' USR1 TERM; while :; do sleep 0.1; done",
        ]);
        let held = owner.submit(&["--hold", "-o", "/dev/null", "--wrap", "echo secret"]);
        let array = owner.submit(&[
            "-d",
            &format!("afterok:{running}"),
            "-o",
            "/dev/null",
            "-a",
            "0-3",
            "--wrap",
            "true",
        ]);
        running_jobs.push(running);
        jobs.extend([running, held, array]);
    }
    let attached = cluster.submit(&["-o", "secret.out", "--wrap", "echo secret; sleep 1000"]);
    running_jobs.push(attached);
    jobs.push(attached);
    for job in running_jobs {
        cluster.wait_for_state(job, "RUNNING");
    }
    wait_until("the output is there", PATIENCE, || {
        cluster.exists("secret.out") && !cluster.read("secret.out").is_empty()
    });
    let before = state(&cluster);
    let (nobody, nobody_group) = account("nobody");
    // One with an account and one without.
    for (uid, gid) in [(nobody, nobody_group), (12_345, 12_345)] {
        let other = cluster.seen_by(uid, gid);
        for job in &jobs {
            let job = job.to_string();
            let table: [&[&str]; 14] = [
                &["cancel", &job],
                &["cancel", "--signal", "USR1", &job],
                &["hold", &job],
                &["release", &job],
                &["requeue", &job],
                &["requeue", "--hold", &job],
                &["suspend", &job],
                &["resume", &job],
                &["update", &job, "name=mine"],
                &["signal", "USR1", &job],
                &["signal", "--full", "KILL", &job],
                &["logs", &job],
                &["attach", &job],
                &["job", &job, "--script"],
            ];
            for words in table {
                let error = other.refused(NOT_PERMITTED, words);
                assert!(error.contains("HPC-E0003"), "{words:?}: {error}");
            }
        }
        let backup = cluster.work.join(format!("backup-{uid}"));
        let table: [&[&str]; 6] = [
            &["node", "drain", "n1"],
            &["node", "resume", "n1"],
            &["node", "remove", "n1"],
            &["down", "--yes"],
            &["down", "--yes", "--keep-jobs"],
            &["backup", backup.to_str().unwrap()],
        ];
        for words in table {
            other.refused(NOT_PERMITTED, words);
        }
        assert!(!backup.exists());
        // Bulk verbs mean one's own jobs, of which there are none.
        let bulk: [&[&str]; 3] = [
            &["cancel", "--me"],
            &["hold", "--user", "root"],
            &["cancel", "--state", "RUNNING"],
        ];
        for words in bulk {
            let answer = other.run(words);
            assert!(
                [0, NOT_PERMITTED].contains(&answer.code),
                "{words:?}: {answer:?}"
            );
        }
        // Nor may it run another controller on that state.
        let state_dir = cluster.state().to_str().unwrap();
        assert_ne!(other.run(&["controller", "--state-dir", state_dir]).code, 0);
        // Nor be one of its workers: that ends, and says why.
        let own_dir = cluster.path(&format!("worker-of-{uid}"));
        std::fs::create_dir(&own_dir).unwrap();
        std::os::unix::fs::chown(&own_dir, Some(uid), Some(gid)).unwrap();
        let worker = other.run(&[
            "worker",
            "--name",
            "mine",
            "--state-dir",
            own_dir.to_str().unwrap(),
            "--socket",
            cluster.socket().to_str().unwrap(),
        ]);
        assert_eq!(worker.code, NOT_PERMITTED, "{worker:?}");
        assert!(
            worker
                .err
                .contains("may not be a worker of this controller"),
            "{worker:?}"
        );
    }
    assert_eq!(state(&cluster), before);
    // The owner may, and root may all.
    owners[1].ok(&["cancel", &jobs[4].to_string()]);
    cluster.ok(&["cancel", "--state", "PENDING,RUNNING"]);
    cluster.wait_empty(PATIENCE);
}

#[test]
fn a_job_runs_as_its_user_needs_root() {
    if !is_root("a_job_runs_as_its_user_needs_root") {
        return;
    }
    let cluster = system();
    for name in ["nobody", "daemon"] {
        let (uid, gid) = account(name);
        let user = cluster.seen_by(uid, gid);
        let out = format!("{name}.out");
        script(
            &cluster.work.join("who.sh"),
            "#!/bin/bash\nid -u; id -g; id -G; echo $USER; umask; grep -E '^(NoNewPrivs|CapEff)' /proc/self/status\n",
        );
        let answer = user.run(&["submit", "--wait", "-o", &out, "who.sh"]);
        assert_eq!(answer.code, 0, "{answer:?}");
        let groups = finish(Command::new("id").args(["-G", name]), b"").out;
        let text = cluster.read(&out);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[..4],
            [&uid.to_string(), &gid.to_string(), groups.trim(), name],
            "{text}"
        );
        assert!(
            text.contains("CapEff:\t0000000000000000") && text.contains("NoNewPrivs:\t1"),
            "{text}"
        );
        let file = std::fs::metadata(cluster.work.join(&out)).unwrap();
        assert_eq!((file.uid(), file.gid()), (uid, gid));
        // Its own it may see and steer.
        assert_eq!(
            user.ok(&[
                "logs",
                &answer.out.trim().replace("Submitted batch job ", "")
            ]),
            text
        );
        let own = user
            .submit(&["--hold", "-o", "/dev/null", "--wrap", "true"])
            .to_string();
        user.ok(&["update", &own, "name=renamed"]);
        user.ok(&["release", &own]);
        user.ok(&["wait", &own]);
        // And tasks that are attached are the user's too.
        assert_eq!(user.ok(&["run", "id", "-u"]).trim(), uid.to_string());
        // Root's files stay root's.
        let answer = user.run(&[
            "submit",
            "--wait",
            "-o",
            "/root/hpc-it-not-mine",
            "--",
            "true",
        ]);
        assert_ne!(answer.code, 0, "{answer:?}");
        assert!(!std::path::Path::new("/root/hpc-it-not-mine").exists());
    }
}

#[test]
fn who_one_is_comes_from_the_kernel_needs_root() {
    if !is_root("who_one_is_comes_from_the_kernel_needs_root") {
        return;
    }
    let cluster = system();
    let (uid, gid) = account("nobody");
    let user = cluster.seen_by(uid, gid);
    let mut lying = user.hpc(&["submit", "--parsable", "--hold", "--wrap", "true"]);
    for (name, value) in [
        ("USER", "root"),
        ("LOGNAME", "root"),
        ("SUDO_UID", "0"),
        ("HPC_USER", "root"),
        ("UID", "0"),
    ] {
        lying.env(name, value);
    }
    let answer = finish(&mut lying, b"");
    assert_eq!(answer.code, 0, "{answer:?}");
    let job = &rows(&cluster.json(&["queue"]))[0];
    assert_eq!(
        (job["user"].as_str(), job["uid"].as_u64()),
        (Some("nobody"), Some(uid.into())),
        "{job}"
    );
}

#[test]
fn a_private_cluster_is_closed_to_others_needs_root() {
    if !is_root("a_private_cluster_is_closed_to_others_needs_root") {
        return;
    }
    // Under a user the directories are that user's alone: the others do not even reach the socket.
    let mut cluster = Cluster::prepared(2);
    cluster.open_to_all();
    let (nobody, nobody_group) = account("nobody");
    let (daemon, daemon_group) = account("daemon");
    std::os::unix::fs::chown(cluster.path(""), Some(nobody), Some(nobody_group)).unwrap();
    let owner = cluster.seen_by(nobody, nobody_group);
    let answer = owner.run(&["up", "--detach", "--cpus", "2"]);
    assert_eq!(answer.code, 0, "{answer:?}");
    let other = cluster.seen_by(daemon, daemon_group);
    let error = other.refused(NOT_PERMITTED, &["queue"]);
    assert!(error.contains("belongs to another user"), "{error}");
    assert_eq!(owner.ok(&["run", "id", "-u"]).trim(), nobody.to_string());
    let mode = std::fs::metadata(cluster.state()).unwrap().mode() & 0o777;
    assert_eq!(mode, 0o700);
}
