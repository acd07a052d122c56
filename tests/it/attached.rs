//! Being with a job: `run`, `alloc`, `logs -f`, `attach`, and steps inside a job.

use crate::support::{Cluster, PATIENCE, Running, code_of, kill, wait_child, wait_until};
use nix::sys::signal::Signal;
use std::fs;
use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

#[test]
fn run_hands_over_streams_and_the_code() {
    let cluster = Cluster::up(4);
    let answer = cluster.run_with(&["run", "cat"], b"hi\n");
    assert_eq!(
        (answer.code, answer.out.as_str(), answer.err.as_str()),
        (0, "hi\n", ""),
        "{answer:?}"
    );
    let answer = cluster.run(&["run", "sh", "-c", "echo out; echo err >&2; exit 9"]);
    assert_eq!(
        (answer.code, answer.out.as_str(), answer.err.as_str()),
        (9, "out\n", "err\n"),
        "{answer:?}"
    );
    assert_eq!(cluster.run(&["run", "sh", "-c", "kill -SEGV $$"]).code, 139);
    let missing = cluster.run(&["run", "/no/such/program"]);
    assert_eq!(missing.code, 127);
    assert!(missing.err.contains("/no/such/program"), "{missing:?}");
    // Much at once, in both directions.
    let much = b"0123456789abcdef\n".repeat(64 * 1024);
    let answer = cluster.run_with(&["run", "cat"], &much);
    assert_eq!((answer.code, answer.out.len()), (0, much.len()));
    assert!(answer.out.as_bytes() == much);
}

#[test]
fn input_that_is_there_before_the_ranks_reaches_all_of_them() {
    let cluster = Cluster::up(4);
    // Several ranks start only once the process that serves them PMIx is ready.
    let answer = cluster.run_with(&["run", "-n", "3", "cat"], b"hi\n");
    assert_eq!(
        (answer.code, answer.out.as_str()),
        (0, "hi\nhi\nhi\n"),
        "{answer:?}"
    );
}

#[test]
fn run_labels_and_starts_as_many_as_asked() {
    let cluster = Cluster::up(4);
    let task =
        "echo rank $SLURM_PROCID of $SLURM_NTASKS; echo e$SLURM_PROCID >&2; exit $SLURM_PROCID";
    let answer = cluster.run(&["run", "-n", "2", "--label", "sh", "-c", task]);
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(answer.code, 1, "{answer:?}");
    assert_eq!(sorted(&answer.out), ["0: rank 0 of 2", "1: rank 1 of 2"]);
    let named = "hpc run: rank 1 on n1 exited with 1";
    assert_eq!(sorted(&answer.err), ["0: e0", "1: e1", named]);
}

#[test]
fn run_passes_signals_on() {
    let cluster = Cluster::up(2);
    let mut command = cluster.hpc(&[
        "run",
        "sh",
        "-c",
        "trap 'exit 33' USR1; touch ready; while :; do sleep 0.05; done",
    ]);
    let mut client = Running::start(&mut command);
    wait_until("it listens", PATIENCE, || cluster.exists("ready"));
    kill(i32::try_from(client.0.id()).unwrap(), Signal::SIGUSR1);
    assert_eq!(wait_child(&mut client.0, PATIENCE).map(code_of), Some(33));
}

#[test]
fn a_run_that_waits_says_so_and_can_be_given_up() {
    let cluster = Cluster::up(1);
    let busy = cluster.submit(&["--wrap", "sleep 1000"]);
    cluster.wait_for_state(busy, "RUNNING");
    let error = fs::File::create(cluster.work.join("error")).unwrap();
    let mut command = cluster.hpc(&["run", "true"]);
    let mut client = Running::start(command.stderr(error));
    wait_until("it says that it waits", PATIENCE, || {
        cluster.read("error").contains("queued and waiting")
    });
    let pid = i32::try_from(client.0.id()).unwrap();
    kill(pid, Signal::SIGINT);
    assert!(wait_child(&mut client.0, PATIENCE).is_some());
    cluster.wait_for_state(2, "CANCELLED");
}

#[test]
fn a_run_whose_client_is_killed_ends() {
    let cluster = Cluster::up(2);
    let mut command = cluster.hpc(&["run", "sh", "-c", "touch ready; sleep 1000"]);
    let client = Running::start(&mut command);
    wait_until("it runs", PATIENCE, || cluster.exists("ready"));
    drop(client);
    cluster.wait_empty(PATIENCE);
    assert_eq!(cluster.state_of(1), "CANCELLED");
}

#[test]
fn run_outlives_controller_and_agent() {
    let cluster = Cluster::up(2);
    let mut command = cluster.hpc(&["run", "sh", "-c", "cat; echo end; exit 6"]);
    let output = fs::File::create(cluster.work.join("output")).unwrap();
    let mut client = Running::start(command.stdin(Stdio::piped()).stdout(output));
    let mut stdin = client.0.stdin.take().unwrap();
    let mut say = |line: &str, expected: &str| {
        stdin.write_all(line.as_bytes()).unwrap();
        wait_until(line, PATIENCE, || cluster.read("output") == expected);
    };
    say("one\n", "one\n");
    cluster.kill_controller();
    cluster.start();
    say("two\n", "one\ntwo\n");
    cluster.kill_agent();
    cluster.start();
    say("three\n", "one\ntwo\nthree\n");
    drop(stdin);
    assert_eq!(wait_child(&mut client.0, PATIENCE).map(code_of), Some(6));
    assert_eq!(cluster.read("output"), "one\ntwo\nthree\nend\n");
}

#[test]
fn logs_follow_until_the_end() {
    let cluster = Cluster::up(2);
    let job = cluster.submit(&[
        "-e",
        "errors",
        "--wrap",
        "echo first; echo wrong >&2; while [ ! -e go ]; do sleep 0.02; done; echo last",
    ]);
    let output = fs::File::create(cluster.work.join("followed")).unwrap();
    let mut command = cluster.hpc(&["logs", "-f", "1"]);
    let mut client = Running::start(command.stdout(output));
    wait_until("the first line is there", PATIENCE, || {
        cluster.read("followed") == "first\n"
    });
    assert!(client.0.try_wait().unwrap().is_none());
    // A controller that goes and comes back is no end, and nothing comes twice.
    cluster.kill_controller();
    cluster.start();
    fs::write(cluster.work.join("go"), "").unwrap();
    assert_eq!(wait_child(&mut client.0, PATIENCE).map(code_of), Some(0));
    assert_eq!(cluster.read("followed"), "first\nlast\n");
    assert_eq!(
        cluster.ok(&["logs", "--stderr", &job.to_string()]),
        "wrong\n"
    );
    assert_eq!(cluster.ok(&["logs", &job.to_string()]), "first\nlast\n");
}

#[test]
fn attach_replays_from_the_first_byte() {
    let cluster = Cluster::up(2);
    let mut command = cluster.hpc(&[
        "run",
        "sh",
        "-c",
        "echo first; touch ready; while [ ! -e go ]; do sleep 0.02; done; echo last; exit 4",
    ]);
    let mut owner = Running::start(command.stdout(Stdio::null()));
    wait_until("it runs", PATIENCE, || cluster.exists("ready"));
    let output = fs::File::create(cluster.work.join("attached")).unwrap();
    let mut command = cluster.hpc(&["attach", "1"]);
    let mut watcher = Running::start(command.stdout(output));
    wait_until("what came before is shown", PATIENCE, || {
        cluster.read("attached") == "first\n"
    });
    fs::write(cluster.work.join("go"), "").unwrap();
    assert!(wait_child(&mut watcher.0, PATIENCE).is_some());
    assert_eq!(wait_child(&mut owner.0, PATIENCE).map(code_of), Some(4));
    assert_eq!(cluster.read("attached"), "first\nlast\n");
    // A batch job's, while it runs and after.
    let job = cluster.submit(&["--wrap", "echo batch"]).to_string();
    cluster.ok(&["wait", &job]);
    assert_eq!(cluster.ok(&["attach", &job]), "batch\n");
    // And of the ended run.
    assert_eq!(cluster.run(&["attach", "1"]).out, "first\nlast\n");
}

#[test]
fn alloc_holds_an_allocation_for_a_command() {
    let cluster = Cluster::up(4);
    let answer = cluster.run(&[
        "alloc",
        "-n",
        "2",
        "--",
        "sh",
        "-c",
        "echo $SLURM_JOB_ID $SLURM_NTASKS; exit 5",
    ]);
    assert_eq!(
        (answer.code, answer.out.as_str()),
        (5, "1 2\n"),
        "{answer:?}"
    );
    wait_until("it is given back", PATIENCE, || {
        cluster.json(&["node", "n1"])["cpus_free"] == 4
    });
    // Steps of it.
    let hpc = env!("CARGO_BIN_EXE_hpc");
    let answer = cluster.run(&[
        "alloc",
        "-n",
        "2",
        "--",
        hpc,
        "run",
        "--label",
        "sh",
        "-c",
        "echo $SLURM_JOB_ID.$SLURM_STEP_ID",
    ]);
    let mut lines: Vec<&str> = answer.out.lines().collect();
    lines.sort_unstable();
    assert_eq!(
        (answer.code, lines),
        (0, vec!["0: 2.0", "1: 2.0"]),
        "{answer:?}"
    );
}

#[test]
fn steps_run_inside_a_job() {
    let cluster = Cluster::up(4);
    let hpc = env!("CARGO_BIN_EXE_hpc");
    let task = format!(
        "{hpc} run sh -c 'echo step $SLURM_STEP_ID rank $SLURM_PROCID' | sort\n\
         {hpc} run -n 1 sh -c 'exit 8'\n\
         echo code $?\n\
         echo from the script | {hpc} run -n 1 cat\n"
    );
    let answer = cluster.run(&["submit", "--wait", "-n", "2", "-o", "out", "--wrap", &task]);
    assert_eq!(answer.code, 0, "{answer:?}");
    assert_eq!(
        cluster.read("out"),
        "step 0 rank 0\nstep 0 rank 1\ncode 8\nfrom the script\n"
    );
    let job = cluster.job(1);
    let steps: Vec<(&str, Option<i64>)> = job["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| (step["id"].as_str().unwrap(), step["exit_code"].as_i64()))
        .collect();
    for expected in [("0", Some(0)), ("1", Some(8)), ("2", Some(0))] {
        assert!(steps.contains(&expected), "{expected:?}: {steps:?}");
    }
}

#[test]
fn wait_survives_a_restart() {
    let cluster = Cluster::up(2);
    cluster.submit(&["--wrap", "while [ ! -e go ]; do sleep 0.02; done; exit 17"]);
    let mut client = Running::start(&mut cluster.hpc(&["wait", "1"]));
    std::thread::sleep(Duration::from_millis(100));
    cluster.kill_controller();
    cluster.start();
    fs::write(cluster.work.join("go"), "").unwrap();
    assert_eq!(wait_child(&mut client.0, PATIENCE).map(code_of), Some(17));
}
