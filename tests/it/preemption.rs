//! More important jobs take the places of others: at once, after a warning, and what becomes of those who had them.

use crate::support::{Cluster, PATIENCE, wait_until};
use std::fs;
use std::path::Path;

/// Waits until a job has written its first line.
fn begun(file: &Path) {
    wait_until("it has begun", PATIENCE, || {
        fs::read_to_string(file).is_ok_and(|text| text.contains("begins"))
    });
}

/// A job that writes when it begins and runs for long.
fn long(cluster: &Cluster, file: &Path, options: &[&str], script: &str) -> u32 {
    let out = file.to_str().unwrap();
    let words = ["-o", out, "-t", "60"];
    let job = cluster.submit(&[&words, options, &["--wrap", script]].concat());
    begun(file);
    job
}

const SLEEPS: &str = "echo begins; sleep 1000";

#[test]
fn an_urgent_job_takes_a_place_and_the_other_runs_again() {
    let cluster = Cluster::up(2);
    cluster.ok(&["qos", "add", "urgent", "preempts=normal"]);
    let file = |name: &str| cluster.path(name);
    let older = long(&cluster, &file("older"), &["--requeue"], SLEEPS);
    let younger = long(&cluster, &file("younger"), &["--requeue"], SLEEPS);
    let urgent = cluster.submit(&["-q", "urgent", "-t", "10", "--wrap", "sleep 1000"]);
    cluster.wait_for_state(urgent, "RUNNING");
    let view = cluster.job(younger);
    assert_eq!(
        (&view["state"], &view["restarts"]),
        (&"PENDING".into(), &1.into()),
        "{view}"
    );
    assert_eq!(cluster.job(older)["state"], "RUNNING");
    let said = fs::read_to_string(file("younger")).unwrap();
    assert!(said.contains("DUE TO PREEMPTION"), "{said}");
    cluster.ok(&["cancel", &urgent.to_string()]);
    cluster.wait_for_state(younger, "RUNNING");
    // Its file goes on where it was.
    wait_until("it begins again", PATIENCE, || {
        let text = fs::read_to_string(file("younger")).unwrap();
        text.matches("begins").count() == 2
    });
    // One that may not run twice is over.
    cluster.ok(&["cancel", &younger.to_string(), &older.to_string()]);
    cluster.wait_empty(PATIENCE);
    let once = long(
        &cluster,
        &file("once"),
        &["-c", "2", "--no-requeue"],
        SLEEPS,
    );
    let urgent = cluster.submit(&["-q", "urgent", "-t", "10", "--wrap", "true"]);
    cluster.wait_for_state(once, "PREEMPTED");
    cluster.wait_for_state(urgent, "COMPLETED");
}

#[test]
fn who_is_warned_has_its_grace_and_may_use_it() {
    let cluster = Cluster::up(1);
    let settings = ["grace-time=300s", "preempt-mode=requeue"];
    cluster.ok(&[&["qos", "set", "normal"], &settings[..]].concat());
    cluster.ok(&["qos", "add", "urgent", "preempts=normal"]);
    let file = cluster.path("file");
    // It writes what it has and ends well: it is to run again all the same.
    let script = "trap 'echo saves; exit 0' TERM; echo begins; sleep 1000 & wait; wait";
    let job = long(&cluster, &file, &["--requeue"], script);
    let urgent = cluster.submit(&["-q", "urgent", "-t", "10", "--wrap", "true"]);
    cluster.wait_for_state(urgent, "COMPLETED");
    let said = fs::read_to_string(&file).unwrap();
    assert!(said.contains("saves"), "{said}");
    cluster.wait_for_state(job, "RUNNING");
    assert_eq!(cluster.job(job)["restarts"], 1);
    cluster.ok(&["cancel", &job.to_string()]);
    cluster.wait_empty(PATIENCE);
    // One that does not listen is ended when its grace is over, also by a controller that has started since.
    cluster.ok(&["qos", "set", "normal", "grace-time=3s"]);
    let deaf = cluster.path("deaf");
    let script = "trap '' TERM; echo begins; while :; do sleep 1; done";
    let job = long(&cluster, &deaf, &["--kill-wait", "1"], script);
    let urgent = cluster.submit(&["-q", "urgent", "-t", "10", "--wrap", "true"]);
    wait_until("it is warned", PATIENCE, || {
        cluster.job(urgent)["reason"] == "Resources"
    });
    assert_eq!(cluster.job(job)["state"], "RUNNING");
    cluster.kill_controller();
    cluster.start();
    cluster.wait_for_state(job, "PREEMPTED");
    cluster.wait_for_state(urgent, "COMPLETED");
}

#[test]
fn who_was_warned_goes_on_when_nobody_needs_the_place_any_more() {
    let cluster = Cluster::up(1);
    cluster.ok(&["qos", "set", "normal", "grace-time=4s"]);
    cluster.ok(&["qos", "add", "urgent", "preempts=normal"]);
    let script = "trap '' TERM; echo begins; while :; do sleep 1; done";
    let options = ["--requeue", "--kill-wait", "1"];
    let job = long(&cluster, &cluster.path("deaf"), &options, script);
    let urgent = cluster.submit(&["-q", "urgent", "-t", "10", "--wrap", "true"]);
    let said = || cluster.job(job)["reason_detail"].clone();
    let makes_room = format!("makes room for job {urgent} by ");
    wait_until("it is said for whom", PATIENCE, || {
        said()
            .as_str()
            .is_some_and(|said| said.starts_with(&makes_room))
    });
    let why = cluster.ok(&["why", &job.to_string()]);
    assert!(why.contains(&makes_room), "{why}");
    cluster.ok(&["cancel", &urgent.to_string()]);
    wait_until("it is left alone", PATIENCE, || said().is_null());
    let view = cluster.job(job);
    assert_eq!(
        (&view["state"], &view["restarts"]),
        (&"RUNNING".into(), &0.into()),
        "{view}"
    );
}

#[test]
fn who_ends_well_on_the_warning_has_not_done_its_work() {
    let cluster = Cluster::up(1);
    cluster.ok(&["qos", "set", "normal", "grace-time=300s"]);
    cluster.ok(&["qos", "add", "urgent", "preempts=normal"]);
    let script = "trap 'exit 0' TERM; echo begins; sleep 1000 & wait; wait";
    let job = long(&cluster, &cluster.path("once"), &["--no-requeue"], script);
    let after = format!("afterok:{job}");
    let dependent = cluster.submit(&["-d", &after, "--wrap", "true"]);
    let urgent = cluster.submit(&["-q", "urgent", "-t", "10", "--wrap", "true"]);
    cluster.wait_for_state(job, "PREEMPTED");
    cluster.wait_for_state(urgent, "COMPLETED");
    wait_until("half results are not used", PATIENCE, || {
        cluster.job(dependent)["reason"] == "DependencyNeverSatisfied"
    });
}

/// The state letter of a process in /proc.
fn process_state(pid: &str) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

#[test]
fn who_stands_still_keeps_what_it_has_and_goes_on_by_itself() {
    let cluster = Cluster::up(2);
    cluster.ok(&["qos", "set", "normal", "preempt-mode=suspend"]);
    cluster.ok(&[
        "qos",
        "add",
        "urgent",
        "preempts=normal",
        "priority=1000000",
    ]);
    let file = cluster.path("file");
    // It ends once it is allowed to, having lost nothing.
    let free = cluster.path("free");
    let script = format!(
        "echo begins $$; n=0; while [ ! -e {} ]; do n=$((n+1)); sleep 0.1; done; echo done",
        free.display()
    );
    let options = ["-c", "2", "--mem", "100"];
    let job = long(&cluster, &file, &options, &script);
    let pid = || {
        let text = fs::read_to_string(&file).unwrap();
        text.split_whitespace().nth(1).unwrap().to_owned()
    };
    let begin = |name: &str, cpus: &str| {
        let out = cluster.path(name);
        let more = ["-q", "urgent", "-c", cpus, "--mem", "100"];
        long(&cluster, &out, &more, SLEEPS)
    };
    let urgent = begin("urgent", "1");
    cluster.wait_for_state(job, "SUSPENDED");
    wait_until("its processes are stopped", PATIENCE, || {
        process_state(&pid()) == Some('T')
    });
    let says = format!("stands still for job {urgent}, goes on when its cpus are free again");
    assert_eq!(cluster.job(job)["reason_detail"], says);
    assert!(cluster.ok(&["why", &job.to_string()]).contains(&says));
    // The cpu that nobody borrowed is kept for it, but not against another urgent job.
    let normal = cluster.submit(&["-c", "1", "--mem", "100", "--wrap", "true"]);
    let second = begin("second", "1");
    assert_eq!(cluster.job(normal)["state"], "PENDING");
    // Nobody but those who borrowed its cpus lets it go on.
    let refused = cluster.refused(1, &["resume", &job.to_string()]);
    assert!(
        refused.contains(&format!("job {job} made room for job {urgent}")),
        "{refused}"
    );
    // Nor does a controller that is started anew.
    cluster.kill_controller();
    cluster.start();
    cluster.ok(&["cancel", &urgent.to_string()]);
    cluster.wait_for_state(urgent, "CANCELLED");
    assert_eq!(cluster.job(job)["state"], "SUSPENDED");
    assert_eq!(process_state(&pid()), Some('T'));
    cluster.ok(&["cancel", &second.to_string()]);
    cluster.wait_for_state(job, "RUNNING");
    wait_until("its processes go on", PATIENCE, || {
        process_state(&pid()).is_some_and(|state| state != 'T')
    });
    fs::write(&free, "").unwrap();
    cluster.wait_for_state(job, "COMPLETED");
    cluster.wait_for_state(normal, "COMPLETED");
    assert_eq!(cluster.job(job)["restarts"], 0);
    let said = fs::read_to_string(&file).unwrap();
    assert!(
        said.starts_with("begins") && said.ends_with("done\n"),
        "{said}"
    );
}

#[test]
fn who_stands_still_can_be_ended() {
    let cluster = Cluster::up(1);
    cluster.ok(&["qos", "set", "normal", "preempt-mode=suspend"]);
    cluster.ok(&["qos", "add", "urgent", "preempts=normal"]);
    let options = ["-c", "1", "--mem", "100"];
    let script = "trap 'echo told; exit 0' TERM; echo begins; sleep 1000 & wait; wait";
    let file = cluster.path("file");
    let job = long(&cluster, &file, &options, script);
    let more = [&options[..], &["-q", "urgent"]].concat();
    let urgent = long(&cluster, &cluster.path("urgent"), &more, SLEEPS);
    cluster.wait_for_state(job, "SUSPENDED");
    cluster.ok(&["cancel", &job.to_string()]);
    cluster.wait_for_state(job, "CANCELLED");
    let said = fs::read_to_string(&file).unwrap();
    assert!(said.contains("told"), "{said}");
    assert_eq!(cluster.job(urgent)["state"], "RUNNING");
    // Its cpu is the other's own now, and free once that has ended.
    cluster.ok(&["cancel", &urgent.to_string()]);
    let next = cluster.submit(&["-c", "1", "--mem", "100", "--wrap", "true"]);
    cluster.wait_for_state(next, "COMPLETED");
}
