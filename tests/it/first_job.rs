//! From `hpc up` to a finished job: output, exit codes, and what is refused before it can go wrong.

use crate::support::{Cluster, finish, script};

#[test]
fn a_job_runs_and_its_output_is_in_the_file() {
    let cluster = Cluster::up(2);
    let answer = cluster.run(&["submit", "--wait", "--", "hostname"]);
    assert_eq!(
        (answer.code, answer.out.as_str()),
        (0, "Submitted batch job 1\n"),
        "{answer:?}"
    );
    let name = nix::unistd::gethostname()
        .unwrap()
        .to_string_lossy()
        .into_owned();
    assert_eq!(cluster.read("slurm-1.out").trim(), name);
    assert_eq!(cluster.ok(&["logs", "1"]).trim(), name);
    let job = cluster.job(1);
    assert_eq!(
        (
            job["state"].as_str(),
            job["exit_code"].as_i64(),
            job["nodes"][0].as_str()
        ),
        (Some("COMPLETED"), Some(0), Some("n1")),
        "{job}"
    );
}

#[test]
fn up_may_be_repeated_and_down_leaves_nothing() {
    let cluster = Cluster::up(2);
    let before = (cluster.controller(), cluster.agent());
    cluster.start();
    assert_eq!((cluster.controller(), cluster.agent()), before);
    cluster.submit(&["--wrap", "sleep 1000"]);
    cluster.wait_for_state(1, "RUNNING");
    cluster.down();
    assert_eq!(cluster.refused(3, &["queue"]).lines().count(), 2);
    // Nothing was forgotten.
    cluster.start();
    assert_eq!(cluster.state_of(1), "CANCELLED");
}

#[test]
fn what_stays_after_up_holds_nothing_that_its_caller_had_open() {
    let cluster = Cluster::up(2);
    cluster.down();
    let lock = cluster.path("lock");
    let program = cluster.hpc(&[]).get_program().to_owned();
    let script = "exec 9>\"$1\"; flock 9; shift; \"$@\"; echo $? >&2";
    let words = ["up", "--detach", "--cpus", "2"];
    let mut command = cluster.hpc(&[]);
    let mut caller = std::process::Command::new("sh");
    caller.args(["-c", script, "sh"]).arg(&lock).arg(&program);
    caller.args(words).current_dir(&cluster.work);
    let variables = command.env("LC_ALL", "C").get_envs();
    caller.envs(variables.filter_map(|(name, value)| Some((name, value?))));
    let answer = finish(&mut caller, b"");
    assert!(answer.err.ends_with("0\n"), "{answer:?}");
    assert!(std::path::Path::new(&format!("/proc/{}", cluster.controller())).exists());
    for pid in cluster.processes() {
        let open = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
        let open = open.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
        let held: Vec<_> = open.filter(|path| *path == lock).collect();
        assert!(held.is_empty(), "{pid} has {lock:?} open");
    }
}

#[test]
fn jobs_kept_over_a_stop_are_found_again() {
    let cluster = Cluster::up(2);
    cluster.submit(&[
        "--wrap",
        "touch began; while [ ! -e go ]; do sleep 0.02; done; exit 5",
    ]);
    cluster.wait_for_state(1, "RUNNING");
    cluster.ok(&["down", "--keep-jobs"]);
    assert_eq!(cluster.refused(3, &["status"]).lines().count(), 2);
    assert!(!cluster.processes().is_empty());
    std::fs::write(cluster.work.join("go"), "").unwrap();
    cluster.start();
    assert_eq!(cluster.run(&["wait", "1"]).code, 5);
}

#[test]
fn exit_codes_are_the_jobs_own() {
    let cluster = Cluster::up(2);
    let table: [(&[&str], i32); 6] = [
        (&["--wrap", "exit 0"], 0),
        (&["--wrap", "exit 7"], 7),
        (&["--wrap", "exit 255"], 255),
        (&["--wrap", "kill -SEGV $$"], 139),
        (&["--", "/no/such/program"], 127),
        (&["--", "/etc/hostname"], 126),
    ];
    for (words, code) in table {
        let all: Vec<&str> = ["submit", "--wait"].iter().chain(words).copied().collect();
        let answer = cluster.run(&all);
        assert_eq!(answer.code, code, "{words:?}: {answer:?}");
    }
    let segv = cluster.job(4);
    assert_eq!(
        (segv["exit_code"].as_i64(), segv["signal"].as_i64()),
        (None, Some(11)),
        "{segv}"
    );
    let missing = cluster.job(5);
    assert_eq!(missing["reason"], "JobLaunchFailure");
    let detail = missing["reason_detail"].as_str().unwrap_or_default();
    assert!(detail.contains("/no/such/program"), "{missing}");
}

#[test]
fn scripts_take_arguments_directives_and_standard_input() {
    let cluster = Cluster::up(4);
    script(
        &cluster.work.join("job.sh"),
        "#!/bin/bash\n#SBATCH --job-name=named --ntasks=2\n#SBATCH -o out-%x-%j.txt\necho \"$SLURM_JOB_NAME $SLURM_NTASKS $1\"\n",
    );
    cluster.ok(&["submit", "--wait", "job.sh", "first word"]);
    assert_eq!(cluster.read("out-named-1.txt"), "named 2 first word\n");
    let piped = cluster.run_with(
        &["submit", "--wait", "-o", "piped"],
        b"#!/bin/sh\necho from a pipe\n",
    );
    assert_eq!(piped.code, 0, "{piped:?}");
    assert_eq!(cluster.read("piped"), "from a pipe\n");
}

#[test]
fn what_cannot_work_is_refused_at_once_by_name() {
    let cluster = Cluster::up(2);
    script(&cluster.work.join("dos.sh"), "#!/bin/bash\r\necho hi\r\n");
    let table: [(&[&str], &[&str]); 6] = [
        (
            &["-o", "/no/such/place/%j.out", "--", "true"],
            &["/no/such/place", "HPC-E0012", "mkdir"],
        ),
        (&["dos.sh"], &["dos.sh", "DOS", "line 1", "HPC-E"]),
        (
            &["-n", "1000", "--", "true"],
            &["1000", "there are 2", "HPC-E0004"],
        ),
        (&["--mem", "9000G", "--", "true"], &["HPC-E0004"]),
        (&["-d", "afterok:999", "--", "true"], &["999", "HPC-E0009"]),
        (&["-p", "nowhere", "--", "true"], &["nowhere", "HPC-E0005"]),
    ];
    for (words, said) in table {
        let all: Vec<&str> = ["submit"].iter().chain(words).copied().collect();
        let error = cluster.refused(1, &all);
        for part in said {
            assert!(error.contains(part), "{words:?}: {part} is not in: {error}");
        }
    }
    assert!(cluster.history().is_empty());
    assert_eq!(
        cluster
            .refused(2, &["submit", "--no-such-option", "--", "true"])
            .lines()
            .count(),
        2
    );
    assert!(cluster.refused(1, &["job", "77"]).contains("HPC-E0002"));
}

#[test]
fn a_directory_that_goes_away_before_the_start_is_named() {
    let cluster = Cluster::up(2);
    std::fs::create_dir(cluster.work.join("short-lived")).unwrap();
    let job = cluster.submit(&["--hold", "-o", "short-lived/out", "--", "true"]);
    std::fs::remove_dir(cluster.work.join("short-lived")).unwrap();
    cluster.ok(&["release", "1"]);
    assert_ne!(cluster.run(&["wait", "1"]).code, 0);
    let job = cluster.job(job);
    assert_eq!(job["state"], "FAILED", "{job}");
    assert!(
        job["reason_detail"]
            .as_str()
            .unwrap_or_default()
            .contains("short-lived"),
        "{job}"
    );
}

#[test]
fn without_a_controller_the_code_is_3() {
    let cluster = Cluster::prepared(1);
    let error = cluster.refused(3, &["submit", "--", "true"]);
    assert!(
        error.contains("hpc.sock") && error.contains("hpc up"),
        "{error}"
    );
}
