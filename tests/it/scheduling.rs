//! Who starts when: shares, limits, gaps, and what is said to those who wait.

use crate::support::{Cluster, PATIENCE, is_root, wait_until};
use serde_json::Value;
use std::time::Duration;

/// For what takes its time: a minute of work on a machine that is busy with other tests.
const LONG: Duration = Duration::from_secs(120);

/// A user that every distribution has: its number and its group's.
fn account(name: &str) -> (u32, u32) {
    let user = nix::unistd::User::from_name(name)
        .unwrap()
        .unwrap_or_else(|| panic!("no account {name}"));
    (user.uid.as_raw(), user.gid.as_raw())
}

/// What people have used, in cpu seconds.
fn used(cluster: &Cluster, user: &str) -> f64 {
    let rows = cluster.json(&["share"]);
    let mut rows = rows.as_array().unwrap().iter();
    let row = rows.find(|row| row["user"] == user);
    row.map_or(0.0, |row| row["usage_cpu_s"].as_f64().unwrap())
}

fn pending_reason(cluster: &Cluster, job: u32) -> Value {
    cluster.job(job)["reason"].clone()
}

#[test]
fn shares_of_two_to_one_are_used_two_to_one_needs_root() {
    if !is_root("shares_of_two_to_one_are_used_two_to_one_needs_root") {
        return;
    }
    let mut cluster = Cluster::prepared(2);
    cluster.open_to_all();
    cluster.start();
    for name in ["second", "third", "fourth"] {
        cluster.another_agent(name, 2);
    }
    wait_until("four workers are there", PATIENCE, || {
        let nodes = cluster.json(&["nodes"]);
        nodes.as_array().unwrap().len() == 4
    });
    cluster.ok(&["user", "set", "daemon", "shares=2"]);
    cluster.ok(&["user", "set", "nobody", "shares=1"]);
    for user in ["daemon", "nobody"] {
        let (uid, gid) = account(user);
        let seen = cluster.seen_by(uid, gid);
        // More than can be done meanwhile: both always have something that waits.
        seen.submit(&[
            "-a",
            "0-9999",
            "-t",
            "1",
            "-o",
            "/dev/null",
            "--wrap",
            "sleep 0.2",
        ]);
    }
    let total = || used(&cluster, "daemon") + used(&cluster, "nobody");
    // Fifteen seconds of eight cpus.
    wait_until("much is used", LONG, || total() >= 120.0);
    let (two, one) = (used(&cluster, "daemon"), used(&cluster, "nobody"));
    let ratio = two / one;
    assert!((1.8..=2.2).contains(&ratio), "{two} to {one} is {ratio}");
}

#[test]
fn the_limits_of_a_course_hold() {
    let cluster = Cluster::up(4);
    let settings = ["max-jobs-per-user=1", "max-submit-per-user=3"];
    cluster.ok(&[&["qos", "set", "normal"], &settings[..]].concat());
    let sleeps = |more: &[&str]| {
        let words = [more, &["-o", "/dev/null", "--wrap", "sleep 1000"]].concat();
        cluster.submit(&words)
    };
    let array = sleeps(&["-a", "0-2"]);
    wait_until("all of it run", PATIENCE, || {
        let tasks = cluster.json(&["queue"]);
        let tasks = tasks.as_array().unwrap();
        tasks.len() == 3 && tasks.iter().all(|task| task["state"] == "RUNNING")
    });
    let (second, third) = (sleeps(&[]), sleeps(&[]));
    for held in [second, third] {
        wait_until("it says which limit", PATIENCE, || {
            pending_reason(&cluster, held) == "QOSMaxJobsPerUserLimit"
        });
    }
    let why = cluster.ok(&["why", &second.to_string()]);
    assert!(
        why.contains("QOS normal sets max-jobs-per-user=1: 1 in use, 1 more asked for"),
        "{why}"
    );
    let refused = cluster.refused(1, &["submit", "--wrap", "true"]);
    for said in [
        "QOSMaxSubmitJobPerUserLimit",
        "max-submit-per-user=3",
        "3 in use",
        "hpc limits",
    ] {
        assert!(refused.contains(said), "{said}: {refused}");
    }
    // One has to go before the next comes.
    cluster.ok(&["cancel", &array.to_string()]);
    cluster.wait_for_state(second, "RUNNING");
    assert_eq!(pending_reason(&cluster, third), "QOSMaxJobsPerUserLimit");
    cluster.ok(&["cancel", &second.to_string(), &third.to_string()]);
    cluster.wait_empty(PATIENCE);
    // 24 hours and 7 days.
    let long = ["submit", "-t", "1-00:01:00", "--wrap", "true"];
    let refused = cluster.refused(1, &long);
    assert!(refused.contains("1-00:00:00"), "{refused}");
    let week = ["-p", "interactive", "-t", "7-00:00:00", "-o", "/dev/null"];
    cluster.submit(&[&week[..], &["--wrap", "true"]].concat());
    let longer = ["submit", "-p", "interactive", "-t", "7-00:01:00"];
    cluster.refused(1, &[&longer[..], &["--wrap", "true"]].concat());
}

#[test]
fn who_waits_hears_why_until_when_and_what_would_help() {
    let cluster = Cluster::up(2);
    let sleeps = |more: &[&str]| {
        let words = [more, &["-o", "/dev/null", "--wrap", "sleep 1000"]].concat();
        cluster.submit(&words)
    };
    let holder = sleeps(&["-t", "60"]);
    cluster.wait_for_state(holder, "RUNNING");
    let wide = sleeps(&["-c", "2", "-t", "60"]);
    let long = sleeps(&["-t", "120"]);
    // It ends before the wide one can begin.
    let short = sleeps(&["-t", "30"]);
    cluster.wait_for_state(short, "RUNNING");
    assert_eq!(pending_reason(&cluster, wide), "Resources");
    assert_eq!(pending_reason(&cluster, long), "Priority");
    wait_until("starts are expected", PATIENCE, || {
        let known = |job| !cluster.job(job)["expected_start"].is_null();
        known(wide) && known(long)
    });
    let why = cluster.json(&["why", &wide.to_string()]);
    assert_eq!(why["reason"], "Resources");
    let held = why["holders"].as_array().unwrap();
    assert!(held.iter().any(|one| one["job"] == holder), "{why}");
    let suggestions = why["suggestions"].as_array().unwrap().clone();
    let text = cluster.ok(&["why", &long.to_string()]);
    assert!(text.contains("will start before it"), "{text}");
    // What is suggested is done: it starts no later than was promised.
    cluster.ok(&["cancel", &short.to_string()]);
    cluster.wait_for_state(short, "CANCELLED");
    let help = cluster.json(&["why", &wide.to_string()]);
    let helps = help["suggestions"].as_array().unwrap();
    let one = helps
        .iter()
        .find(|one| one["option"] == "--cpus-per-task=1")
        .unwrap_or_else(|| panic!("{help} after {suggestions:?}"));
    let promised = one["starts"].as_str().unwrap().to_owned();
    cluster.ok(&["cancel", &wide.to_string(), &long.to_string()]);
    let narrow = sleeps(&["-c", "1", "-t", "60"]);
    cluster.wait_for_state(narrow, "RUNNING");
    let submitted = cluster.job(narrow)["submit_time"]
        .as_str()
        .unwrap()
        .to_owned();
    let in_time = promised.parse::<jiff::Timestamp>().unwrap()
        <= submitted.parse::<jiff::Timestamp>().unwrap();
    assert!(
        in_time,
        "it was promised now: {promised}, submitted {submitted}"
    );
    // Of what does not wait there is not much to say.
    let text = cluster.ok(&["why", &narrow.to_string()]);
    assert!(text.contains("does not wait: it is RUNNING"), "{text}");
    let held = sleeps(&["--hold"]);
    assert_eq!(
        cluster.json(&["why", &held.to_string()])["reason"],
        "JobHeldUser"
    );
    cluster.refused(1, &["why", "4000"]);
}

#[test]
fn a_priority_is_told_term_by_term() {
    let cluster = Cluster::up(1);
    let sleeps = |more: &[&str]| {
        let words = [more, &["-o", "/dev/null", "--wrap", "sleep 1000"]].concat();
        cluster.submit(&words)
    };
    cluster.ok(&["qos", "add", "urgent", "priority=10"]);
    let running = sleeps(&[]);
    cluster.wait_for_state(running, "RUNNING");
    let plain = sleeps(&["--nice=5"]);
    let urgent = sleeps(&["-q", "urgent"]);
    let told = |job: u32| cluster.json(&["job", &job.to_string(), "--priority"]);
    let (first, second) = (told(urgent), told(plain));
    assert_eq!((&first["qos"], &second["qos"]), (&50_000.into(), &0.into()));
    assert_eq!(second["nice"], -5);
    assert_eq!((&first["ahead"], &second["ahead"]), (&0.into(), &1.into()));
    cluster.ok(&["cancel", &running.to_string()]);
    cluster.wait_for_state(urgent, "RUNNING");
    cluster.refused(1, &["job", &urgent.to_string(), "--priority"]);
}
