//! Steps of `hpc run`: which rank goes where, a program and files for each, and several beside each other in one job.

use crate::support::{
    Answer, Cluster, PATIENCE, Running, code_of, finish, kill, rows, wait_child, wait_until,
};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

/// What a rank says of where it is.
const WHERE: &str = "echo $SLURMD_NODENAME $SLURM_NODEID $SLURM_LOCALID $SLURM_GTIDS $SLURM_STEP_TASKS_PER_NODE $SLURM_DISTRIBUTION";

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}

/// A job that holds its allocation, and `hpc run` of these words inside it.
fn inside(cluster: &Cluster, job: u32, words: &[&str]) -> Command {
    let mut command = cluster.hpc(&[&["run"], words].concat());
    command.env("SLURM_JOB_ID", job.to_string());
    command
}

fn step(cluster: &Cluster, job: u32, words: &[&str]) -> Answer {
    finish(&mut inside(cluster, job, words), b"")
}

#[test]
fn ranks_are_dealt_to_nodes_as_asked() {
    let cluster = Cluster::up(4);
    let _agent = cluster.another_agent("n2", 4);
    let run = |words: &[&str]| {
        let words = [&["run", "-l"], words, &["sh", "-c", WHERE]].concat();
        let answer = cluster.run(&words);
        assert_eq!(answer.code, 0, "{answer:?}");
        answer
    };
    let two = ["-N", "2", "--ntasks-per-node", "3"];
    let cyclic = run(&[&two[..], &["-m", "cyclic"]].concat());
    let lines = [
        "0: n1 0 0 0,2,4 3(x2) cyclic",
        "1: n2 1 0 1,3,5 3(x2) cyclic",
        "2: n1 0 1 0,2,4 3(x2) cyclic",
        "3: n2 1 1 1,3,5 3(x2) cyclic",
        "4: n1 0 2 0,2,4 3(x2) cyclic",
        "5: n2 1 2 1,3,5 3(x2) cyclic",
    ];
    assert_eq!(sorted(&cyclic.out), lines);
    let plane = run(&[&two[..], &["-v", "--distribution=plane=2"]].concat());
    assert!(
        sorted(&plane.out)[1].starts_with("1: n1 0 1 0,1,4 "),
        "{plane:?}"
    );
    let job = 2;
    assert_eq!(
        sorted(&plane.err),
        [
            format!("hpc run: step {job}.0 (plane=2) on n1: ranks 0-1,4, cpus 0-2"),
            format!("hpc run: step {job}.0 (plane=2) on n2: ranks 2-3,5, cpus 0-2"),
        ],
        "{plane:?}"
    );
    fs::write(cluster.work.join("hosts"), "n2\nn1 # leads\nn2\n").unwrap();
    let words = ["run", "-l", "-m", "arbitrary", "sh", "-c", WHERE];
    let mut command = cluster.hpc(&words);
    let hosts = cluster.work.join("hosts");
    let listed = finish(command.env("SLURM_HOSTFILE", &hosts), b"");
    let lines = [
        "0: n2 1 0 0,2 1,2 arbitrary",
        "1: n1 0 0 1 1,2 arbitrary",
        "2: n2 1 1 0,2 1,2 arbitrary",
    ];
    assert_eq!(sorted(&listed.out), lines, "{listed:?}");
}

#[test]
fn a_step_chooses_among_the_nodes_of_its_job() {
    let cluster = Cluster::up(4);
    let _agent = cluster.another_agent("n2", 4);
    let job = cluster.submit(&["-N", "2", "-n", "6", "--wrap", "sleep 1000"]);
    cluster.wait_for_state(job, "RUNNING");
    let names = |words: &[&str]| {
        let words = [words, &["sh", "-c", "echo $SLURMD_NODENAME"]].concat();
        let answer = step(&cluster, job, &words);
        assert_eq!(answer.code, 0, "{answer:?}");
        sorted(&answer.out).join(" ")
    };
    assert_eq!(names(&["-n", "1", "-w", "n2"]), "n2");
    assert_eq!(names(&["-n", "2", "-x", "n1"]), "n2 n2");
    assert_eq!(names(&["-n", "1", "-r", "1"]), "n2");
    assert_eq!(names(&["--ntasks-per-node", "1"]), "n1 n2");
    assert_eq!(names(&["-n", "4", "-m", "cyclic"]), "n1 n1 n2 n2");
    let answer = step(&cluster, job, &["-w", "n3", "true"]);
    assert_eq!(answer.code, 1);
    assert!(
        answer.err.contains("node n3 is not one of the job's") && answer.err.contains("n[1-2]"),
        "{answer:?}"
    );
    fs::write(cluster.work.join("hosts"), "n2\nn1\nn2").unwrap();
    let words = ["-l", "-m", "arbitrary", "sh", "-c", WHERE];
    let mut command = inside(&cluster, job, &words);
    command.env("SLURM_HOSTFILE", cluster.work.join("hosts"));
    let listed = finish(&mut command, b"");
    assert_eq!(
        sorted(&listed.out)[1],
        "1: n1 0 0 1 1,2 arbitrary",
        "{listed:?}"
    );
    cluster.ok(&["cancel", &job.to_string()]);
}

#[test]
fn variables_that_the_user_sets_shape_a_step_and_those_of_the_job_do_not() {
    let cluster = Cluster::up(4);
    let hpc = cluster.hpc(&[]).get_program().to_owned();
    let hpc = hpc.to_str().unwrap();
    let shape = "echo $SLURM_NTASKS $SLURM_CPUS_PER_TASK";
    let script = format!(
        "run() {{ echo $(env \"$@\" {hpc} run sh -c '{shape}'); }}\n\
         run A=; run HPC_NTASKS=1; run SLURM_NTASKS=1; run HPC_NTASKS=1 HPC_CPUS_PER_TASK=3\n\
         run SRUN_CPUS_PER_TASK=2 SLURM_NTASKS=2; run HPC_NTASKS_PER_NODE=3\n\
         {hpc} run -n 1 sh -c 'echo in; {hpc} run printenv SLURM_NTASKS'"
    );
    fs::write(
        cluster.work.join("script"),
        format!("#!/bin/sh\n{script}\n"),
    )
    .unwrap();
    let job = cluster.submit(&["-n", "4", "-o", "out", "script"]);
    cluster.wait_for_state(job, "COMPLETED");
    let lines = [
        "4 1 4 1 4 1 4 1",
        "1 1",
        "1 1",
        "1 3",
        "2 2 2 2",
        "3 1 3 1 3 1",
        "in",
        "1",
    ];
    assert_eq!(cluster.read("out").lines().collect::<Vec<_>>(), lines);
}

#[test]
fn each_rank_has_its_program_and_its_files() {
    let cluster = Cluster::up(4);
    let programs = "# who  what\n0 echo first of $SLURM_NTASKS\n1,3 echo \"rank %t\" is %o\n* sh \\\n -c 'echo rest; exit 4'\n";
    fs::write(cluster.work.join("programs"), programs).unwrap();
    let answer = cluster.run(&["run", "-n", "4", "-l", "--multi-prog", "programs"]);
    assert_eq!(answer.code, 4, "{answer:?}");
    let lines = [
        "0: first of $SLURM_NTASKS",
        "1: rank 1 is 0",
        "2: rest",
        "3: rank 3 is 1",
    ];
    assert_eq!(sorted(&answer.out), lines);
    fs::write(cluster.work.join("few"), "0-1 true\n").unwrap();
    let answer = cluster.run(&["run", "-n", "3", "--multi-prog", "few"]);
    assert!(
        answer.err.contains("no program is named for rank 2"),
        "{answer:?}"
    );

    let task = "echo out $SLURM_PROCID; echo err $SLURM_PROCID >&2; cat";
    let words = [
        "run",
        "-n",
        "2",
        "-o",
        "%N-%t.out",
        "-e",
        "all",
        "-i",
        "1",
        "sh",
        "-c",
        task,
    ];
    let answer = cluster.run_with(&words, b"to one\n");
    assert_eq!((answer.code, answer.out.as_str()), (0, ""), "{answer:?}");
    assert_eq!(sorted(&answer.err), ["err 0", "err 1"]);
    assert_eq!(cluster.read("n1-0.out"), "out 0\n");
    assert_eq!(cluster.read("n1-1.out"), "out 1\nto one\n");
    fs::write(cluster.work.join("in"), "for all\n").unwrap();
    let words = [
        "run",
        "-n",
        "2",
        "-l",
        "-o",
        "%j.%s.txt",
        "-i",
        "in",
        "sh",
        "-c",
        task,
    ];
    let answer = cluster.run(&words);
    assert_eq!(
        (answer.code, answer.out.as_str(), answer.err.as_str()),
        (0, "", "")
    );
    let all = cluster.read("3.0.txt");
    let lines = [
        "0: err 0",
        "0: for all",
        "0: out 0",
        "1: err 1",
        "1: for all",
        "1: out 1",
    ];
    assert_eq!(sorted(&all), lines);
    let words = [
        "run",
        "-n",
        "2",
        "-o",
        "none",
        "-e",
        "e%t",
        "--open-mode=append",
    ];
    for _ in 0..2 {
        let answer = cluster.run(&[&words[..], &["sh", "-c", task]].concat());
        assert_eq!(
            (answer.code, answer.out.as_str(), answer.err.as_str()),
            (0, "", "")
        );
    }
    assert_eq!(cluster.read("e1"), "err 1\nerr 1\n");
}

#[test]
fn a_rank_that_fails_is_named() {
    let cluster = Cluster::up(6);
    let task = "case $SLURM_PROCID in 1|2|5) exit 3;; 3) kill -9 $$;; esac";
    let answer = cluster.run(&["run", "-n", "6", "-e", "err.%t", "sh", "-c", task]);
    let lines = [
        "hpc run: rank 3 on n1 was killed by signal 9 (SIGKILL)",
        "hpc run: ranks 1-2,5 on n1 exited with 3",
    ];
    assert_eq!((answer.code, sorted(&answer.err)), (137, lines.to_vec()));
    // While the others go on, too.
    let goes_on = "[ $SLURM_PROCID = 1 ] && exit 3; while [ ! -e go ]; do sleep 0.02; done";
    let error = fs::File::create(cluster.work.join("error")).unwrap();
    let mut command = cluster.hpc(&["run", "-n", "2", "sh", "-c", goes_on]);
    let mut running = Running::start(command.stderr(error));
    wait_until("the rank is named", PATIENCE, || {
        cluster.read("error") == "hpc run: rank 1 on n1 exited with 3\n"
    });
    fs::write(cluster.work.join("go"), "").unwrap();
    assert_eq!(wait_child(&mut running.0, PATIENCE).map(code_of), Some(3));
    let alone = cluster.run(&["run", "sh", "-c", "exit 3"]);
    assert_eq!((alone.code, alone.err.as_str()), (3, ""));
}

#[test]
fn steps_beside_each_other_have_cpus_of_their_own() {
    let cluster = Cluster::up(2);
    let job = cluster.submit(&["-n", "2", "--wrap", "sleep 1000"]);
    cluster.wait_for_state(job, "RUNNING");
    let waits = |name: &str| format!("touch {name}; while [ ! -e go-{name} ]; do sleep 0.02; done");
    let start = |words: &[&str], name: &str| {
        let error = fs::File::create(cluster.work.join(format!("error-{name}"))).unwrap();
        let text = waits(name);
        let mut command = inside(&cluster, job, &[words, &["sh", "-c", &text]].concat());
        Running::start(command.stderr(error))
    };
    let mut one = start(&["-v", "-n", "1"], "a");
    wait_until("the first runs", PATIENCE, || cluster.exists("a"));
    let mut two = start(&["-v", "-n", "1"], "b");
    wait_until("the second runs", PATIENCE, || cluster.exists("b"));
    // It is said once the client has asked for it, and the programs may be faster.
    wait_until("both say where they are", PATIENCE, || {
        cluster.read("error-a").ends_with("rank 0, cpus 0\n")
            && cluster.read("error-b").ends_with("rank 0, cpus 1\n")
    });
    let shown = cluster.ok(&["job", &job.to_string()]);
    assert!(
        shown.contains("Running step: 0 sh on n1: rank 0, cpus 0\n")
            && shown.contains("Running step: 1 sh on n1: rank 0, cpus 1\n"),
        "{shown}"
    );
    let mut three = start(&["-n", "1"], "c");
    let said = format!(
        "hpc run: job {job} step creation temporarily disabled, retrying (Requested nodes are busy)\n\
         hpc run: it waits for cpus of steps 0-1 of job {job}\n"
    );
    let listed = cluster.json(&["job", &job.to_string()]);
    let steps = rows(&listed["steps"]);
    let shown = |step: &Value| {
        (
            step["id"].clone(),
            step["cpus"].clone(),
            step["nodes"].clone(),
        )
    };
    let expected = |id: &str| (Value::from(id), Value::from(1), Value::from(vec!["n1"]));
    assert_eq!(
        steps.iter().map(shown).collect::<Vec<_>>(),
        ["0", "1"].map(expected)
    );
    assert_eq!(steps[1]["state"], "RUNNING");
    assert_eq!(steps[1]["placement"][0]["cpus"], "1");
    wait_until("the third says that it waits", PATIENCE, || {
        cluster.read("error-c") == said
    });
    // One that shares does not wait.
    let shared = step(&cluster, job, &["--overlap", "-n", "2", "echo", "here"]);
    assert_eq!(
        (shared.code, shared.out.as_str()),
        (0, "here\nhere\n"),
        "{shared:?}"
    );
    assert!(!cluster.exists("c"));
    fs::write(cluster.work.join("go-a"), "").unwrap();
    wait_until("the third runs", PATIENCE, || cluster.exists("c"));
    for name in ["b", "c"] {
        fs::write(cluster.work.join(format!("go-{name}")), "").unwrap();
    }
    for client in [&mut one, &mut two, &mut three] {
        assert_eq!(wait_child(&mut client.0, PATIENCE).map(code_of), Some(0));
    }
    assert_eq!(cluster.read("error-c"), said);
    let too_many = step(&cluster, job, &["-n", "3", "true"]);
    assert!(
        too_many.err.contains("3 tasks of 1 cpus are asked for"),
        "{too_many:?}"
    );
    cluster.ok(&["cancel", &job.to_string()]);
}

#[test]
fn a_step_that_would_wait_for_the_one_around_it_is_refused() {
    let cluster = Cluster::up(2);
    let job = two_cpus(&cluster);
    let hpc = cluster.hpc(&[]).get_program().to_owned();
    let hpc = hpc.to_str().unwrap();
    let within =
        format!("{hpc} run -n 2 true; {hpc} run echo here; {hpc} run -n 2 --overlap echo shared");
    let answer = step(&cluster, job, &["-n", "1", "sh", "-c", &within]);
    let what = "step 0, inside which this one is asked for, has the cpus that it would need";
    assert!(
        answer.err.contains(what) && answer.err.contains("--overlap"),
        "{answer:?}"
    );
    assert_eq!(
        (answer.code, answer.out.as_str()),
        (0, "here\nshared\nshared\n")
    );
    cluster.ok(&["cancel", &job.to_string()]);
}

#[test]
fn words_that_mean_nothing_for_a_step_are_refused_and_files_that_cannot_be_opened_are_named() {
    let cluster = Cluster::up(2);
    let job = two_cpus(&cluster);
    let refused = |words: &[&str], what: &str| {
        let answer = step(&cluster, job, &[words, &["-n", "1", "true"]].concat());
        assert!(answer.code != 0 && answer.err.contains(what), "{answer:?}");
    };
    refused(
        &["-x", "n9"],
        "node n9, which is to be left out, does not exist",
    );
    refused(&["-w", ""], "--nodelist: it is empty");
    refused(&["-J", "name"], "--job-name cannot be set for a step");
    fs::create_dir(cluster.work.join("made.0")).unwrap();
    refused(&["-o", "made.%t"], "made.0: Is a directory");
    // As getopt has it; the program's own stays.
    let words = [
        "-n",
        "2",
        "-K0",
        "sh",
        "-c",
        "echo $0; exit $SLURM_PROCID",
        "-K0",
    ];
    let answer = step(&cluster, job, &words);
    assert_eq!((answer.code, answer.out.as_str()), (1, "-K0\n-K0\n"));
    let labelled = step(&cluster, job, &["-n", "1", "-l", "-o", "f.%t", "true"]);
    assert!(
        labelled.err.contains("--label marks lines that come here"),
        "{labelled:?}"
    );
    cluster.ok(&["cancel", &job.to_string()]);
}

/// A job of 2 cpus that holds its allocation.
fn two_cpus(cluster: &Cluster) -> u32 {
    let job = cluster.submit(&["-n", "2", "--wrap", "sleep 1000"]);
    cluster.wait_for_state(job, "RUNNING");
    job
}

#[test]
fn what_ends_one_step_leaves_the_others_alone() {
    let cluster = Cluster::up(2);
    let job = two_cpus(&cluster);
    let wait = "touch here.$0; while [ ! -e go ]; do sleep 0.02; done; echo over";
    let start = |number: &str, script: &str| {
        let words = ["-n", "1", "sh", "-c", script, number];
        let mut command = inside(&cluster, job, &words);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        wait_until("the step runs", PATIENCE, || {
            cluster.exists(&format!("here.{number}"))
        });
        child
    };
    let other = start("1", wait);
    let tidies =
        "trap 'echo tidied > tidied; exit 3' TERM; touch here.$0; while :; do sleep 0.02; done";
    // As Ctrl-C does, twice.
    let mut one = start("2", tidies);
    let pid = i32::try_from(one.id()).unwrap();
    let mut said = BufReader::new(one.stderr.take().unwrap());
    let mut line = String::new();
    kill(pid, Signal::SIGINT);
    said.read_line(&mut line).unwrap();
    assert!(line.contains(&format!("ends step {job}.")), "{line}");
    kill(pid, Signal::SIGINT);
    let code = wait_child(&mut one, PATIENCE).map(code_of);
    assert!(code.is_some_and(|code| code != 0), "{code:?}");
    assert_eq!(cluster.read("tidied"), "tidied\n");
    // And one that ends by no signal but the last.
    let stubborn = "trap '' TERM INT; touch here.$0; while :; do sleep 0.02; done";
    let mut one = start("3", stubborn);
    let pid = i32::try_from(one.id()).unwrap();
    let mut said = BufReader::new(one.stderr.take().unwrap());
    kill(pid, Signal::SIGINT);
    said.read_line(&mut line).unwrap();
    kill(pid, Signal::SIGINT);
    assert_eq!(wait_child(&mut one, PATIENCE).map(code_of), Some(137));
    fs::write(cluster.work.join("go"), "").unwrap();
    let output = other.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text == "over\n", "{output:?}");
}

#[test]
fn a_step_is_cancelled_and_signalled_by_its_number() {
    let cluster = Cluster::up(2);
    let job = two_cpus(&cluster);
    let waits = "trap 'touch usr1.$0' USR1; touch here.$0; while [ ! -e go ]; do sleep 0.02; done";
    let start = |name: &str| {
        let error = fs::File::create(cluster.work.join(format!("error.{name}"))).unwrap();
        let words = ["-n", "1", "sh", "-c", waits, name];
        let running = Running::start(inside(&cluster, job, &words).stderr(error));
        wait_until("the step runs", PATIENCE, || {
            cluster.exists(&format!("here.{name}"))
        });
        running
    };
    let (mut one, mut two) = (start("0"), start("1"));
    cluster.ok(&["signal", "USR1", &format!("{job}.1")]);
    wait_until("the signal arrives", PATIENCE, || cluster.exists("usr1.1"));
    cluster.ok(&["cancel", &format!("{job}.0")]);
    assert_eq!(wait_child(&mut one.0, PATIENCE).map(code_of), Some(143));
    let said = format!("slurmstepd: error: step {job}.0 is ended: it was cancelled\n");
    assert_eq!(cluster.read("error.0"), said);
    for verb in [&["cancel"][..], &["signal", "TERM"]] {
        let unknown = format!("{job}.0");
        let refused = cluster.run(&[verb, &[unknown.as_str()]].concat());
        let what = format!("job {job} has no running step 0");
        assert!(
            refused.code == 1 && refused.err.contains(&what),
            "{refused:?}"
        );
    }
    assert!(!cluster.exists("usr1.0"));
    fs::write(cluster.work.join("go"), "").unwrap();
    assert_eq!(wait_child(&mut two.0, PATIENCE).map(code_of), Some(0));
    cluster.wait_for_state(job, "RUNNING");
}

#[test]
fn what_a_step_leaves_behind_ends_with_it_and_nothing_else_does() {
    let cluster = Cluster::up(4);
    // The script leaves one behind too, which is the job's.
    let script = "sh -c 'sleep 1001 & echo $! > of-script' ; sleep 1000";
    let job = cluster.submit(&["-n", "4", "--wrap", script]);
    let leaves = "sleep 1002 > /dev/null 2>&1 & echo $! > $0.one; \
                  (setsid sh -c 'echo $$ > $0.two; exec sleep 1003' $0 > /dev/null 2>&1 &); \
                  while [ ! -e go-$0 ]; do sleep 0.02; done";
    let start = |name: &str| {
        let words = ["-n", "1", "sh", "-c", leaves, name];
        let running = Running::start(&mut inside(&cluster, job, &words));
        let written = |file: &str| {
            let file = cluster.work.join(format!("{name}.{file}"));
            fs::read(file).is_ok_and(|text| text.ends_with(b"\n"))
        };
        wait_until("the step runs", PATIENCE, || {
            written("one") && written("two")
        });
        running
    };
    cluster.wait_for_state(job, "RUNNING");
    let (mut one, mut two) = (start("a"), start("b"));
    let alive = |file: &str| {
        let pid = cluster.read(file);
        std::path::Path::new("/proc").join(pid.trim()).exists()
    };
    let all = ["of-script", "a.one", "a.two", "b.one", "b.two"];
    assert_eq!(all.map(alive), [true; 5]);
    fs::write(cluster.work.join("go-a"), "").unwrap();
    assert_eq!(wait_child(&mut one.0, PATIENCE).map(code_of), Some(0));
    wait_until("what the step left has ended", PATIENCE, || {
        all.map(alive) == [true, false, false, true, true]
    });
    fs::write(cluster.work.join("go-b"), "").unwrap();
    assert_eq!(wait_child(&mut two.0, PATIENCE).map(code_of), Some(0));
    wait_until("what the other left has ended", PATIENCE, || {
        all.map(alive) == [true, false, false, false, false]
    });
    cluster.ok(&["cancel", &job.to_string()]);
}

#[test]
fn a_step_whose_files_cannot_be_opened_holds_nothing() {
    let cluster = Cluster::up(2);
    let job = two_cpus(&cluster);
    for words in [
        ["-i", "missing"],
        ["-o", "/proc/no-such"],
        ["-e", "/proc/no-such"],
    ] {
        let refused = step(&cluster, job, &[&words[..], &["-n", "2", "cat"]].concat());
        assert!(
            refused.code == 1 && refused.err.contains(words[1]),
            "{refused:?}"
        );
        // All cpus are free again.
        let next = step(&cluster, job, &["-n", "2", "-Q", "echo", "here"]);
        assert_eq!(
            (next.code, next.out.as_str()),
            (0, "here\nhere\n"),
            "{next:?}"
        );
    }
}

#[test]
fn steps_of_a_script_have_time_to_end_when_their_job_is_cancelled() {
    let cluster = Cluster::up(2);
    let tidies = "trap 'sleep 0.3; echo tidied >> tidied; exit 3' TERM; touch here.$SLURM_PROCID; \
                  while :; do sleep 0.02; done";
    fs::write(cluster.work.join("rank.sh"), tidies).unwrap();
    let program = cluster.hpc(&[]).get_program().to_owned();
    let script = format!("{} run sh rank.sh", program.to_str().unwrap());
    let job = cluster.submit(&["-n", "2", "--wrap", &script]);
    wait_until("the ranks run", PATIENCE, || {
        cluster.exists("here.0") && cluster.exists("here.1")
    });
    // The script itself ends at once.
    cluster.ok(&["cancel", &job.to_string()]);
    cluster.wait_for_state(job, "CANCELLED");
    assert_eq!(cluster.read("tidied"), "tidied\ntidied\n");
}

#[test]
fn a_step_that_finds_no_controller_waits_for_it() {
    let cluster = Cluster::up(2);
    let job = two_cpus(&cluster);
    cluster.kill_controller();
    let child = inside(&cluster, job, &["-n", "1", "echo", "here"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    cluster.start();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text == "here\n", "{output:?}");
}

#[test]
fn a_controller_that_starts_anew_knows_the_steps_that_run_and_their_cpus() {
    let cluster = Cluster::up(2);
    let job = two_cpus(&cluster);
    let wait = "touch here.$0; while [ ! -e go.$0 ]; do sleep 0.02; done";
    let mut one = Running::start(&mut inside(
        &cluster,
        job,
        &["-n", "1", "sh", "-c", wait, "a"],
    ));
    wait_until("the first runs", PATIENCE, || cluster.exists("here.a"));
    let shown = || {
        let shown = cluster.ok(&["job", &job.to_string()]);
        let lines = shown.lines().filter(|line| line.contains("Running step:"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let before = shown();
    assert_eq!(before.len(), 1, "{before:?}");
    cluster.kill_controller();
    cluster.start();
    assert_eq!(shown(), before);
    // Where its ranks are is asked for once it has begun, so it does not end before that is said.
    let said = cluster.work.join("beside.err");
    let beside = ["-v", "-Q", "-n", "1", "sh", "-c", wait, "b"];
    let mut beside = inside(&cluster, job, &beside);
    let mut beside = Running::start(beside.stderr(fs::File::create(&said).unwrap()));
    let line = || fs::read_to_string(&said).unwrap();
    wait_until("it says where it is", PATIENCE, || line().ends_with('\n'));
    fs::write(cluster.work.join("go.b"), "").unwrap();
    assert_eq!(wait_child(&mut beside.0, PATIENCE).map(code_of), Some(0));
    assert_eq!(
        line(),
        format!("hpc run: step {job}.1 (block) on n1: rank 0, cpus 1\n"),
        "the cpu that the first does not hold"
    );
    let mut wide = Running::start(&mut inside(
        &cluster,
        job,
        &["-Q", "-n", "2", "sh", "-c", "touch here.wide.$SLURM_PROCID"],
    ));
    let shared = step(&cluster, job, &["--overlap", "-n", "2", "true"]);
    assert_eq!(shared.code, 0, "{shared:?}");
    assert!(!cluster.exists("here.wide.0"), "the first holds a cpu");
    fs::write(cluster.work.join("go.a"), "").unwrap();
    for client in [&mut one, &mut wide] {
        assert_eq!(wait_child(&mut client.0, PATIENCE).map(code_of), Some(0));
    }
    assert!(cluster.exists("here.wide.1"));
    assert_eq!(shown(), Vec::<String>::new());
}
