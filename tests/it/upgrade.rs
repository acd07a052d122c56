//! Two builds in one cluster: the one of `tests/it/old-build` (`packaging/old-build.sh` makes it) and this one, either way
//! round, while jobs run.

use crate::support::{Cluster, PATIENCE, Running, kill_and_wait, rows, wait_until};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The earlier build; says that a test was not run where it is not there.
fn old_build(test: &str) -> Option<PathBuf> {
    let target = Path::new(env!("CARGO_BIN_EXE_hpc"))
        .ancestors()
        .nth(2)
        .unwrap();
    let path = target.join("old/hpc");
    if path.exists() {
        return Some(path);
    }
    println!(
        "SKIPPED: {test} needs {} (packaging/old-build.sh makes it)",
        path.display()
    );
    None
}

/// `hpc` of the earlier build, for a cluster.
fn old(cluster: &Cluster, program: &Path, words: &[&str]) -> Command {
    let ours = cluster.hpc(words);
    let mut command = Command::new(program);
    command.args(words).env_clear().current_dir(&cluster.work);
    for (name, value) in ours.get_envs() {
        if let Some(value) = value {
            command.env(name, value);
        }
    }
    command.stdin(std::process::Stdio::null());
    command
}

fn ok(mut command: Command) -> String {
    let answer = crate::support::finish(&mut command, b"");
    assert_eq!(answer.code, 0, "{command:?}: {answer:?}");
    answer.out
}

const UNTIL_GO: &str = "echo began >> $0; while [ ! -e go ]; do sleep 0.02; done; exit 7";

fn until_go(name: &str) -> String {
    UNTIL_GO.replace("$0", name)
}

const MACHINE: [&str; 6] = ["--name", "n1", "--cpus", "4", "--memory", "64G"];

#[test]
fn an_older_cluster_is_upgraded_piece_by_piece_while_its_jobs_run() {
    let Some(program) = old_build("an_older_cluster_is_upgraded_piece_by_piece_while_its_jobs_run")
    else {
        return;
    };
    let cluster = Cluster::prepared(4);
    ok(old(
        &cluster,
        &program,
        &[&["up", "--detach"], &MACHINE[..]].concat(),
    ));
    let submit = |name: &str| -> u32 {
        let words = [
            "submit",
            "--parsable",
            "-o",
            "none",
            "--wrap",
            &until_go(name),
        ];
        ok(old(&cluster, &program, &words)).trim().parse().unwrap()
    };
    let first = submit("first");
    wait_until("it runs", PATIENCE, || cluster.exists("first"));
    // The controller alone.
    cluster.kill_controller();
    cluster.start();
    wait_until("the older agent is back", PATIENCE, || {
        cluster.json(&["node", "n1"])["responding"] == true
    });
    assert_eq!(cluster.state_of(first), "RUNNING");
    assert_eq!(
        cluster.ok(&["run", "hostname"]),
        ok(old(&cluster, &program, &["run", "hostname"]))
    );
    // By the older client, through the older agent.
    let second = submit("second");
    let third = cluster.submit(&["--requeue", "-o", "none", "--wrap", &until_go("third")]);
    wait_until("they run", PATIENCE, || {
        cluster.exists("second") && cluster.exists("third")
    });
    let rows_of = |text: String| rows(&serde_json::from_str(&text).unwrap()).len();
    assert_eq!(
        rows_of(ok(old(&cluster, &program, &["queue", "--json"]))),
        3
    );
    // Then the agent; the shepherds are older still.
    cluster.kill_agent();
    cluster.start();
    wait_until("the new agent is there", PATIENCE, || {
        cluster.json(&["node", "n1"])["responding"] == true
    });
    for job in [first, second, third] {
        assert_eq!(cluster.state_of(job), "RUNNING");
    }
    std::fs::write(cluster.work.join("go"), "").unwrap();
    for job in [first, second, third] {
        assert_eq!(cluster.run(&["wait", &job.to_string()]).code, 7);
    }
    for name in ["first", "second", "third"] {
        assert_eq!(cluster.read(name), "began\n", "{name} ran once");
    }
    let history = ok(old(&cluster, &program, &["history", "--json"]));
    assert_eq!(rows_of(history), 5);
}

#[test]
fn an_older_agent_and_a_newer_one_serve_beside_each_other() {
    let Some(program) = old_build("an_older_agent_and_a_newer_one_serve_beside_each_other") else {
        return;
    };
    // A new controller with an older agent, then an older one with a new agent.
    for new_controller in [true, false] {
        let cluster = Cluster::prepared(4);
        let state = cluster.path("second");
        std::fs::create_dir_all(&state).unwrap();
        let (state, socket) = (state.to_str().unwrap().to_owned(), cluster.socket());
        let words = [
            "worker",
            "--state-dir",
            &state,
            "--socket",
            socket.to_str().unwrap(),
        ];
        let worker = [
            &words[..],
            &["--name", "n2", "--cpus", "4", "--memory", "64G"],
        ]
        .concat();
        let agent = if new_controller {
            cluster.start();
            Running::start(&mut old(&cluster, &program, &worker))
        } else {
            ok(old(
                &cluster,
                &program,
                &[&["up", "--detach"], &MACHINE[..]].concat(),
            ));
            Running::start(&mut cluster.hpc(&worker))
        };
        let hpc = |words: &[&str]| {
            if new_controller {
                cluster.hpc(words)
            } else {
                old(&cluster, &program, words)
            }
        };
        let nodes = || rows(&serde_json::from_str(&ok(hpc(&["nodes", "--json"]))).unwrap());
        wait_until("both are there", PATIENCE, || {
            nodes()
                .iter()
                .filter(|node| node["responding"] == true)
                .count()
                == 2
        });
        for node in ["n1", "n2"] {
            let script = "read word; echo $word from $SLURMD_NODENAME; exit 5";
            let answer = crate::support::finish(
                &mut hpc(&["run", "-w", node, "sh", "-c", script]),
                b"hello\n",
            );
            assert_eq!(
                (answer.code, answer.out),
                (5, format!("hello from {node}\n"))
            );
        }
        if new_controller {
            // Tasks on both that need nothing of each other, and ranks that do, which would wait for ever.
            let both = ok(hpc(&[
                "run",
                "-N",
                "2",
                "sh",
                "-c",
                "echo $SLURMD_NODENAME",
            ]));
            let mut both: Vec<&str> = both.lines().collect();
            both.sort_unstable();
            assert_eq!(both, ["n1", "n2"]);
            let rank = cluster.path("rank.py");
            let meets = "time.sleep(0.5)\nask('cmd=barrier_in')\n";
            std::fs::write(&rank, format!("{}{meets}", crate::wiring::RANK)).unwrap();
            let words = format!(
                "[ -n \"$PMI_FD\" ] || exec sleep 1; exec python3 {}",
                rank.display()
            );
            let answer =
                crate::support::finish(&mut hpc(&["run", "-N", "2", "sh", "-c", &words]), b"");
            assert_eq!(answer.code, 1, "{answer:?}");
            assert!(answer.err.contains("earlier build"), "{answer:?}");
        }
        // A gang over both, of a script on the first with a step there.
        let words = [
            "submit",
            "--parsable",
            "-N",
            "2",
            "-o",
            "gang",
            "--wrap",
            "echo $SLURM_JOB_NODELIST; exit 3",
        ];
        let gang = ok(hpc(&words)).trim().to_owned();
        let code = crate::support::finish(&mut hpc(&["wait", &gang]), b"").code;
        assert_eq!((code, cluster.read("gang").as_str()), (3, "n[1-2]\n"));
        // An agent that is killed and comes back as the other build.
        let words_job = [
            "submit",
            "--parsable",
            "-w",
            "n2",
            "-o",
            "none",
            "--wrap",
            &until_go("stays"),
        ];
        let job = ok(hpc(&words_job)).trim().to_owned();
        wait_until("it runs", PATIENCE, || cluster.exists("stays"));
        kill_and_wait(i32::try_from(agent.0.id()).unwrap());
        let next = if new_controller {
            Running::start(&mut cluster.hpc(&worker))
        } else {
            Running::start(&mut old(&cluster, &program, &worker))
        };
        std::fs::write(cluster.work.join("go"), "").unwrap();
        let view = || {
            serde_json::from_str::<serde_json::Value>(&ok(hpc(&["job", &job, "--json"]))).unwrap()
        };
        wait_until("it has ended", PATIENCE, || view()["state"] == "FAILED");
        assert_eq!(view()["exit_code"], 7);
        assert_eq!(cluster.read("stays"), "began\n");
        wait_until("nothing is left of it", PATIENCE, || {
            nodes().iter().all(|node| node["state"] == "IDLE")
        });
        drop(next);
        drop(agent);
        if !new_controller {
            // Whoever stops it must speak its words.
            ok(old(&cluster, &program, &["down", "--yes"]));
        }
    }
}
