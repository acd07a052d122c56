//! Jobs and steps over several nodes: they begin together or not at all, their streams come together, and what is lost
//! on one node ends the rest.

use crate::support::{
    Answer, Cluster, PATIENCE, Running, code_of, command_line, kill, kill_and_wait, parent, rows,
    wait_child, wait_until, with_argument,
};
use nix::sys::signal::Signal;
use std::fs;
use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

/// A cluster of `n1` to `n3` with two cpus each.
fn three() -> (Cluster, [Running; 2]) {
    let cluster = Cluster::up(2);
    let others = ["n2", "n3"].map(|name| cluster.join(name, 2));
    (cluster, others)
}

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}

fn pid(agent: &Running) -> i32 {
    i32::try_from(agent.0.id()).unwrap()
}

#[test]
fn run_hands_over_the_streams_of_all_nodes_and_the_worst_code() {
    let (cluster, _others) = three();
    let task = "read word; echo $SLURM_PROCID $SLURM_NODEID $SLURM_LOCALID $SLURM_NNODES $SLURM_STEP_NODELIST \
                $SLURM_NTASKS $SLURM_STEP_TASKS_PER_NODE $SLURMD_NODENAME $word; echo e$SLURM_PROCID >&2; \
                [ $SLURM_PROCID != 2 ] || exit 9";
    let words = ["run", "-N", "3", "-n", "4", "--label", "sh", "-c", task];
    let answer = cluster.run_with(&words, b"hi\n");
    assert_eq!(answer.code, 9, "{answer:?}");
    let line = |rank: u32, node: u32, local: u32| {
        let name = node + 1;
        format!("{rank}: {rank} {node} {local} 3 n[1-3] 4 2,1(x2) n{name} hi")
    };
    let expected = [line(0, 0, 0), line(1, 0, 1), line(2, 1, 0), line(3, 2, 0)];
    assert_eq!(sorted(&answer.out), expected);
    let named = "hpc run: rank 2 on n2 exited with 9";
    let errors = ["0: e0", "1: e1", "2: e2", "3: e3", named];
    assert_eq!(sorted(&answer.err), errors);
    // More tasks than one node holds spread by themselves.
    let answer = cluster.run(&["run", "-n", "5", "sh", "-c", "echo $SLURM_NNODES"]);
    assert_eq!((answer.code, answer.out), (0, "3\n".repeat(5)));
    let answer = cluster.run(&["run", "-N", "2", "/no/such/program"]);
    assert_eq!(answer.code, 127, "{answer:?}");
    assert_eq!(
        answer.err.matches("/no/such/program").count(),
        2,
        "{answer:?}"
    );
}

#[test]
fn much_goes_through_in_both_directions_and_comes_whole() {
    let (cluster, _others) = three();
    let much = b"0123456789abcdef\n".repeat(64 * 1024);
    let answer = cluster.run_with(&["run", "-N", "3", "sh", "-c", "cat; echo done"], &much);
    assert_eq!((answer.code, answer.out.len()), (0, 3 * (much.len() + 5)));
    assert_eq!(answer.out.matches('\n').count(), 3 * (64 * 1024 + 1));
    // One that reads nothing and goes does not keep the others from theirs.
    let task = "[ $SLURM_NODEID = 1 ] || cat";
    let answer = cluster.run_with(&["run", "-N", "2", "sh", "-c", task], &much);
    assert_eq!((answer.code, answer.out.len()), (0, much.len()));
}

#[test]
fn a_stopped_agent_holds_a_gang_back_and_nothing_of_it_runs_before_it_is_back() {
    let mut cluster = Cluster::prepared(2);
    cluster.configure("gang_start_s = 1\n");
    cluster.start();
    let second = cluster.join("n2", 2);
    kill(pid(&second), Signal::SIGSTOP);
    let task = "echo $SLURM_NODEID >> ran";
    let mut client = Running::start(&mut cluster.hpc(&["run", "-Q", "-N", "2", "sh", "-c", task]));
    let batch = cluster.submit(&["-N", "2", "-o", "out", "--wrap", "echo ran; touch began"]);
    wait_until("the gang is given up", PATIENCE, || {
        cluster.json(&["node", "n2"])["responding"] == false
    });
    wait_until("it waits", PATIENCE, || cluster.state_of(1) == "PENDING");
    assert!(client.0.try_wait().unwrap().is_none());
    // One node has had the gang's part for a second by now, and has not begun.
    assert!(!cluster.exists("ran") && !cluster.exists("began"));
    // With another node it begins there.
    let _third = cluster.join("n3", 2);
    assert_eq!(wait_child(&mut client.0, PATIENCE).map(code_of), Some(0));
    assert_eq!(sorted(&cluster.read("ran")), ["0", "1"]);
    assert_eq!(cluster.job(1)["nodes"], serde_json::json!(["n1", "n3"]));
    cluster.wait_for_state(batch, "COMPLETED");
    kill(pid(&second), Signal::SIGCONT);
    wait_until("it is back", PATIENCE, || {
        cluster.json(&["node", "n2"])["responding"] == true
    });
    let words = ["run", "-N", "3", "sh", "-c", "echo $SLURM_RESTART_COUNT-"];
    assert_eq!(cluster.ok(&words), "-\n-\n-\n");
    assert_eq!(cluster.job(1)["restarts"], 0);
    assert_eq!(cluster.read("out"), "ran\n");
}

#[test]
fn a_gang_that_waits_for_a_stopped_agent_begins_when_it_goes_on() {
    let cluster = Cluster::up(2);
    let second = cluster.join("n2", 2);
    kill(pid(&second), Signal::SIGSTOP);
    let task = "echo $SLURM_NODEID >> ran; sleep 86400.0051";
    let mut client = Running::start(&mut cluster.hpc(&["run", "-Q", "-N", "2", "sh", "-c", task]));
    wait_until("it is granted", PATIENCE, || {
        rows(&cluster.json(&["nodes"]))
            .iter()
            .all(|node| node["jobs"][0] == "1")
    });
    // A controller that forgets who has answered asks again.
    cluster.kill_controller();
    cluster.start();
    assert!(!cluster.exists("ran"));
    kill(pid(&second), Signal::SIGCONT);
    wait_until("both run", PATIENCE, || {
        with_argument("86400.0051").len() == 2
    });
    cluster.ok(&["cancel", "1"]);
    assert_eq!(wait_child(&mut client.0, PATIENCE).map(code_of), Some(143));
    assert_eq!(with_argument("86400.0051"), Vec::<i32>::new());
}

#[test]
fn a_run_over_nodes_outlives_controller_and_agents() {
    let (cluster, others) = three();
    let task =
        "i=0; while read word; do echo $SLURM_NODEID $word; done; echo end $SLURM_NODEID; exit 6";
    let mut command = cluster.hpc(&["run", "-N", "2", "sh", "-c", task]);
    let output = fs::File::create(cluster.work.join("output")).unwrap();
    let mut client = Running::start(command.stdin(Stdio::piped()).stdout(output));
    let mut stdin = client.0.stdin.take().unwrap();
    let mut expected = Vec::new();
    let mut say = |word: &str| {
        stdin.write_all(format!("{word}\n").as_bytes()).unwrap();
        expected.extend([format!("0 {word}"), format!("1 {word}")]);
        expected.sort_unstable();
        wait_until(word, PATIENCE, || {
            sorted(&cluster.read("output")) == expected
        });
    };
    say("one");
    cluster.kill_controller();
    cluster.start();
    say("two");
    let [second, _third] = others;
    kill_and_wait(pid(&second));
    drop(second);
    let _second = cluster.join("n2", 2);
    say("three");
    drop(stdin);
    assert_eq!(wait_child(&mut client.0, PATIENCE).map(code_of), Some(6));
    expected.extend(["end 0", "end 1"].map(str::to_owned));
    expected.sort_unstable();
    assert_eq!(sorted(&cluster.read("output")), expected);
}

/// The shepherd of node 1 of a run whose tasks write their process ids to `pid0` and `pid1`.
fn shepherd_of_second(cluster: &Cluster, seconds: &str, processes: usize) -> i32 {
    wait_until("all run", PATIENCE, || {
        cluster.exists("pid1") && with_argument(seconds).len() == processes
    });
    let shepherd = parent(cluster.read("pid1").trim().parse().unwrap());
    assert!(command_line(shepherd).contains("shepherd"));
    shepherd
}

#[test]
fn a_shepherd_killed_on_one_node_ends_the_job_on_all() {
    let (cluster, _others) = three();
    let seconds = "86400.0052";
    let task = format!(
        "echo $$ > p$SLURM_NODEID; mv p$SLURM_NODEID pid$SLURM_NODEID; trap '' TERM; \
         (setsid sleep {seconds} &); sleep {seconds}; sleep {seconds}"
    );
    let words = ["run", "-N", "2", "--kill-wait", "1000", "sh", "-c", &task];
    let mut command = cluster.hpc(&words);
    let errors = fs::File::create(cluster.work.join("errors")).unwrap();
    let mut client = Running::start(command.stderr(errors));
    kill_and_wait(shepherd_of_second(&cluster, seconds, 4));
    let code = wait_child(&mut client.0, PATIENCE).map(code_of);
    assert_eq!(code, Some(137), "{}", cluster.read("errors"));
    let errors = cluster.read("errors");
    assert!(
        errors.contains("shepherd was killed") && errors.contains("job 1 ended NODE_FAIL"),
        "{errors}"
    );
    cluster.wait_for_state(1, "NODE_FAIL");
    assert_eq!(with_argument(seconds), Vec::<i32>::new());
    cluster.ok(&["run", "-N", "3", "true"]);
}

#[test]
fn one_that_may_run_again_does_so_once_all_of_it_has_ended() {
    let (cluster, _others) = three();
    let seconds = "86400.0053";
    // As steps of a batch job: its script on the first node, and a part of each step on both.
    let inner = format!(
        "echo $$ > p$SLURM_NODEID; mv p$SLURM_NODEID pid$SLURM_NODEID; trap '' TERM; sleep {seconds}; sleep {seconds}"
    );
    let script = format!(
        "echo run ${{SLURM_RESTART_COUNT:-0}} >> runs\n[ -z \"$SLURM_RESTART_COUNT\" ] || exit 0\n\
         {} run -N 2 -n 2 sh -c '{inner}'",
        env!("CARGO_BIN_EXE_hpc")
    );
    let words = ["-N", "2", "--requeue", "-o", "out", "--wrap", &script];
    let job = cluster.submit(&words);
    kill_and_wait(shepherd_of_second(&cluster, seconds, 2));
    cluster.wait_for_state(job, "COMPLETED");
    assert_eq!(with_argument(seconds), Vec::<i32>::new());
    assert_eq!(cluster.read("runs"), "run 0\nrun 1\n");
    assert_eq!(cluster.job(job)["restarts"], 1);
}

#[test]
fn steps_run_on_all_nodes_of_their_job_or_on_some() {
    let (cluster, _others) = three();
    let hpc = env!("CARGO_BIN_EXE_hpc");
    let show = "echo $SLURM_STEP_ID $SLURM_PROCID $SLURM_NODEID $SLURM_LOCALID $SLURM_STEP_NUM_NODES \
                $SLURM_STEP_NODELIST $SLURMD_NODENAME; [ $SLURM_TASK_PID = $$ ] && exit $SLURM_PROCID";
    let script = format!(
        "{hpc} run sh -c '{show}' > all; echo $? > all.code\n\
         {hpc} run -N 2 -n 3 sh -c '{show}' > some; echo $? > some.code\n\
         {hpc} run -N 1 -n 1 sh -c '{show}' > one; echo $? > one.code\n\
         echo word | {hpc} run --label cat > input\n\
         {hpc} run -N 3 -n 3 sh -c '[ $SLURM_NODEID = 2 ] || exec sleep 0; exec /no/such' 2> missing; echo $? > missing.code\n"
    );
    let words = [
        "submit", "--wait", "-N", "3", "-n", "4", "-o", "out", "--wrap", &script,
    ];
    let answer = cluster.run(&words);
    assert_eq!(answer.code, 0, "{answer:?} {}", cluster.read("out"));
    let lines = |name: &str| {
        let text = cluster.read(name);
        sorted(&text).join("\n")
    };
    assert_eq!(
        lines("all"),
        "0 0 0 0 3 n[1-3] n1\n0 1 0 1 3 n[1-3] n1\n0 2 1 0 3 n[1-3] n2\n0 3 2 0 3 n[1-3] n3"
    );
    assert_eq!(
        lines("some"),
        "1 0 0 0 2 n[1-2] n1\n1 1 0 1 2 n[1-2] n1\n1 2 1 0 2 n[1-2] n2"
    );
    assert_eq!(lines("one"), "2 0 0 0 1 n1 n1");
    assert_eq!(lines("input"), "0: word\n1: word\n2: word\n3: word");
    let codes =
        ["all.code", "some.code", "one.code", "missing.code"].map(|name| cluster.read(name));
    assert_eq!(codes, ["3\n", "2\n", "0\n", "127\n"]);
    assert!(cluster.read("missing").contains("/no/such"));
}

#[test]
fn logs_and_attach_show_all_nodes() {
    let (cluster, _others) = three();
    let task = "echo out $SLURM_NODEID; echo err $SLURM_NODEID >&2; touch on$SLURM_NODEID; \
                while [ ! -e go ]; do sleep 0.02; done; echo late $SLURM_NODEID";
    let mut client = cluster.hpc(&["run", "-Q", "-N", "3", "sh", "-c", task]);
    let mut client = Running::start(client.stdout(Stdio::null()).stderr(Stdio::null()));
    wait_until("all are there", PATIENCE, || {
        (0..3).all(|node| cluster.exists(&format!("on{node}")))
    });
    let early = ["out 0", "out 1", "out 2"];
    let whole = ["late 0", "late 1", "late 2", "out 0", "out 1", "out 2"];
    wait_until("the logs have it", PATIENCE, || {
        sorted(&cluster.ok(&["logs", "1"])) == early
    });
    let follow = |words: &[&str], name: &str| {
        let file = fs::File::create(cluster.work.join(name)).unwrap();
        let mut command = cluster.hpc(words);
        let client = Running::start(command.stdout(file).stderr(Stdio::null()));
        wait_until(name, PATIENCE, || cluster.read(name).lines().count() == 3);
        client
    };
    let mut followers = [
        follow(&["logs", "-f", "1"], "followed"),
        follow(&["attach", "--label", "1"], "attached"),
    ];
    cluster.kill_controller();
    cluster.start();
    fs::write(cluster.work.join("go"), "").unwrap();
    for follower in &mut followers {
        assert_eq!(wait_child(&mut follower.0, PATIENCE).map(code_of), Some(0));
    }
    assert_eq!(wait_child(&mut client.0, PATIENCE).map(code_of), Some(0));
    assert_eq!(sorted(&cluster.read("followed")), whole);
    let labelled = (0..3).flat_map(|node| {
        [
            format!("{node}: late {node}"),
            format!("{node}: out {node}"),
        ]
    });
    assert_eq!(
        sorted(&cluster.read("attached")),
        labelled.collect::<Vec<_>>()
    );
    // And when all is over.
    let ended = |words: &[&str]| -> Answer { cluster.run(words) };
    assert_eq!(sorted(&ended(&["logs", "1"]).out), whole);
    assert_eq!(
        sorted(&ended(&["logs", "--stderr", "1"]).out),
        ["err 0", "err 1", "err 2"]
    );
    assert_eq!(sorted(&ended(&["attach", "1"]).out), whole);
}

#[test]
fn a_reader_that_stops_holds_up_nobody_else() {
    let (cluster, _others) = three();
    let words = [
        "run",
        "-Q",
        "-N",
        "3",
        "sh",
        "-c",
        "head -c 30000000 /dev/zero; touch all$SLURM_NODEID",
    ];
    let mut command = cluster.hpc(&words);
    let mut stopped = Running::start(command.stdout(Stdio::piped()));
    wait_until("the tasks have written all they have", PATIENCE, || {
        (0..3).all(|node| cluster.exists(&format!("all{node}")))
    });
    // Nobody reads its output: its pipe is full, and it takes nothing more.
    assert!(stopped.0.try_wait().unwrap().is_none());
    let much = b"0123456789abcdef\n".repeat(64 * 1024);
    let answer = cluster.run_with(&["run", "-N", "3", "cat"], &much);
    assert_eq!((answer.code, answer.out.len()), (0, 3 * much.len()));
    let nodes = rows(&cluster.json(&["nodes"]));
    assert!(nodes.iter().all(|node| node["responding"] == true));
    let mut pipe = stopped.0.stdout.take().unwrap();
    let mut count = 0;
    let mut buffer = vec![0; 1 << 20];
    loop {
        match std::io::Read::read(&mut pipe, &mut buffer).unwrap() {
            0 => break,
            read => count += read,
        }
    }
    assert_eq!(count, 90_000_000);
    let code = wait_child(&mut stopped.0, Duration::from_secs(60)).map(code_of);
    assert_eq!(code, Some(0));
}

#[test]
fn a_step_whose_node_fails_says_so_to_its_client() {
    let (cluster, _others) = three();
    let seconds = "86400.0054";
    let inner = format!(
        "echo $$ > p$SLURM_NODEID; mv p$SLURM_NODEID pid$SLURM_NODEID; sleep {seconds}; sleep {seconds}"
    );
    let job = cluster.submit(&["-N", "2", "-o", "/dev/null", "--wrap", "sleep 1000"]);
    cluster.wait_for_state(job, "RUNNING");
    let mut command = cluster.hpc(&["run", "sh", "-c", &inner]);
    let errors = fs::File::create(cluster.work.join("errors")).unwrap();
    let command = command.env("SLURM_JOB_ID", job.to_string());
    let mut client = Running::start(command.stderr(errors));
    kill_and_wait(shepherd_of_second(&cluster, seconds, 2));
    let code = wait_child(&mut client.0, PATIENCE).map(code_of);
    let errors = cluster.read("errors");
    assert_eq!(code, Some(137), "{errors}");
    assert!(errors.contains("job 1 ended NODE_FAIL"), "{errors}");
    cluster.wait_for_state(job, "NODE_FAIL");
    assert_eq!(with_argument(seconds), Vec::<i32>::new());
}

#[test]
fn a_step_that_cannot_start_on_a_node_says_why_there() {
    let (cluster, _others) = three();
    let hpc = env!("CARGO_BIN_EXE_hpc");
    let script = format!("{hpc} run /no/such/program 2> errors; echo $? > code");
    let words = [
        "submit", "--wait", "-N", "2", "-o", "out", "--wrap", &script,
    ];
    assert_eq!(cluster.run(&words).code, 0);
    assert_eq!(cluster.read("code"), "127\n");
    let errors = cluster.read("errors");
    let line = "slurmstepd: error: cannot run /no/such/program: No such file or directory\n";
    assert_eq!(errors, line.repeat(2), "from each node");
}

#[test]
fn a_node_that_cannot_take_its_part_fails_the_run_before_it_begins() {
    let (cluster, _others) = three();
    // Where the slots of n2 are made there is a file.
    let slots = cluster.path("n2").join("worker/slots");
    fs::remove_dir_all(&slots).unwrap();
    fs::write(&slots, "").unwrap();
    let answer = cluster.run(&["run", "-N", "2", "sh", "-c", "touch ran"]);
    assert_eq!(answer.code, 1, "{answer:?}");
    assert!(answer.err.contains("cannot make"), "{answer:?}");
    assert!(!answer.err.contains("there is no file"), "{answer:?}");
    assert!(!cluster.exists("ran"));
    assert_eq!(cluster.state_of(1), "FAILED");
    cluster.ok(&["run", "-w", "n1,n3", "true"]);
}
