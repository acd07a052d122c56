//! Reservations, licences and features on a live cluster.

use crate::support::{Cluster, PATIENCE, wait_until};
use serde_json::Value;
use std::fs;

fn sleeps(cluster: &Cluster, more: &[&str]) -> u32 {
    let words = [more, &["-o", "/dev/null", "--wrap", "sleep 1000"]].concat();
    cluster.submit(&words)
}

fn waits_for(cluster: &Cluster, job: u32, reason: &str) {
    wait_until(&format!("{job} waits for {reason}"), PATIENCE, || {
        cluster.job(job)["reason"] == reason
    });
}

fn in_seconds(seconds: i64) -> String {
    let at = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(seconds);
    let at = at.round(jiff::Unit::Second).unwrap();
    at.to_string()
}

#[test]
fn what_is_reserved_is_for_those_it_is_for_and_only_while_it_lasts() {
    let cluster = Cluster::up(2);
    let me = cluster.json(&["limits"])["user"]
        .as_str()
        .unwrap()
        .to_owned();
    // In words, for oneself: half of the node from now on.
    let said = cluster.ok(&["reserve", "1", "cpu", "now", "10m", "as", "mine"]);
    assert!(
        said.contains("reservation mine: ") && said.contains("(1 cpu)"),
        "{said}"
    );
    let show = |name: &str| cluster.json(&["reserve", "show", name])["settings"].clone();
    assert_eq!(show("mine")["users"], *me);
    let one = sleeps(&cluster, &["-t", "5"]);
    cluster.wait_for_state(one, "RUNNING");
    let other = sleeps(&cluster, &["-t", "5"]);
    waits_for(&cluster, other, "Resources");
    let inside = sleeps(&cluster, &["-t", "5", "--reservation", "mine"]);
    cluster.wait_for_state(inside, "RUNNING");
    assert_eq!(cluster.job(other)["state"], "PENDING");
    // Too long for what is left of it, or at all.
    let words = [
        "submit",
        "-t",
        "10",
        "--reservation",
        "mine",
        "--wrap",
        "true",
    ];
    let refused = cluster.refused(1, &words);
    assert!(refused.contains("are left of it"), "{refused}");
    let big = [
        "submit",
        "-c",
        "2",
        "-t",
        "5",
        "--reservation",
        "mine",
        "--wrap",
        "true",
    ];
    let refused = cluster.refused(1, &big);
    assert!(
        refused.contains("it does not fit into reservation `mine`"),
        "{refused}"
    );
    // Without a limit it is what is left.
    let rest = sleeps(&cluster, &["--reservation", "mine", "--hold"]);
    assert_eq!(cluster.job(rest)["time_limit_s"], 9 * 60);
    // Its own jobs are not in the way of a change, and it stays where it is.
    cluster.ok(&["reserve", "set", "mine", "end=+20m", "description=longer"]);
    assert_eq!(show("mine")["description"], "longer");
    let words = [
        "submit",
        "-t",
        "21",
        "--reservation",
        "mine",
        "--wrap",
        "true",
    ];
    let refused = cluster.refused(1, &words);
    assert!(
        refused.contains("it lasts 00:20:00") || refused.contains("are left of it"),
        "{refused}"
    );
    // It is changed while all runs; what jobs ask for is not taken away.
    let refused = cluster.refused(1, &["reserve", "remove", "mine"]);
    assert!(
        refused.contains("jobs of reservation `mine` have not ended"),
        "{refused}"
    );
    cluster.ok(&["cancel", &rest.to_string(), &inside.to_string()]);
    wait_until("it is not needed", PATIENCE, || {
        cluster.run(&["reserve", "remove", "mine"]).code == 0
    });
    cluster.wait_for_state(other, "RUNNING");
    let refused = cluster.refused(1, &["submit", "--reservation", "mine", "--wrap", "true"]);
    assert!(
        refused.contains("there is no reservation `mine`"),
        "{refused}"
    );
    // Not while others run there.
    let refused = cluster.refused(1, &["reserve", "1", "node", "now", "2m"]);
    assert!(
        refused.contains(&format!("in the way: job {one}")) && refused.contains("it is free from"),
        "{refused}"
    );
    // In the audit as said.
    let audit = cluster.json(&["audit", "--limit", "20"]);
    let audit: Vec<&str> = audit
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|one| one["what"].as_str())
        .collect();
    assert!(
        audit
            .iter()
            .any(|what| what.starts_with("reservation add mine cpus=1")),
        "{audit:?}"
    );
}

#[test]
fn a_reservation_begins_and_ends_by_itself_and_outlives_a_crash() {
    let cluster = Cluster::up(2);
    let node = cluster.json(&["nodes"])[0]["name"]
        .as_str()
        .unwrap()
        .to_owned();
    let times = [
        format!("start={}", in_seconds(6)),
        format!("end={}", in_seconds(14)),
    ];
    let nodes = format!("nodes={node}");
    cluster.ok(&["reserve", "add", "soon", &times[0], &times[1], &nodes]);
    // It would still run when that begins.
    let long = sleeps(&cluster, &["-t", "1"]);
    waits_for(&cluster, long, "Resources");
    let expected = |job: u32| cluster.job(job)["expected_start"].clone();
    wait_until("it knows when", PATIENCE, || expected(long) != Value::Null);
    let told: jiff::Timestamp = expected(long).as_str().unwrap().parse().unwrap();
    let end: jiff::Timestamp = times[1][4..].parse().unwrap();
    assert!(told >= end, "{told} is before {end}");
    let inside = cluster.submit(&["-t", "0:05", "--reservation", "soon", "--wrap", "true"]);
    waits_for(&cluster, inside, "Reservation");
    cluster.kill_controller();
    cluster.start();
    cluster.wait_for_state(inside, "COMPLETED");
    cluster.wait_for_state(long, "RUNNING");
    let start = |job: u32| -> jiff::Timestamp {
        cluster.job(job)["start_time"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap()
    };
    assert!(
        start(inside) >= times[0][6..].parse().unwrap(),
        "it began before its reservation"
    );
    assert!(start(long) >= end, "it began while others had the node");
    let listed = cluster.ok(&["reserve", "list"]);
    assert!(listed.contains("over"), "{listed}");
    let calendar = cluster.ok(&["reserve", "calendar"]);
    assert!(
        calendar.contains("SUMMARY:soon") && calendar.ends_with("END:VCALENDAR\r\n"),
        "{calendar}"
    );
    // Of what has passed none can be made.
    let past = [
        format!("start={}", in_seconds(-60)),
        format!("end={}", in_seconds(-30)),
    ];
    let refused = cluster.refused(1, &["reserve", "add", "past", &past[0], &past[1], &nodes]);
    assert!(refused.contains("which has passed"), "{refused}");
}

#[test]
fn licences_and_features_are_held_and_found() {
    let cluster = Cluster::up(4);
    let node = cluster.json(&["nodes"])[0]["name"]
        .as_str()
        .unwrap()
        .to_owned();
    let refused = cluster.refused(1, &["submit", "-L", "matlab", "--wrap", "true"]);
    assert!(
        refused.contains("there is no license `matlab`; there are none"),
        "{refused}"
    );
    cluster.ok(&["license", "add", "matlab", "count=2"]);
    let out = cluster.path("out");
    let words = ["-L", "matlab:2", "-o", out.to_str().unwrap()];
    let script = "echo $SLURM_JOB_LICENSES $HPC_JOB_LICENSES; sleep 1000";
    let both = cluster.submit(&[&words[..], &["--wrap", script]].concat());
    cluster.wait_for_state(both, "RUNNING");
    let next = sleeps(&cluster, &["-L", "matlab"]);
    waits_for(&cluster, next, "Licenses");
    let free = sleeps(&cluster, &[]);
    cluster.wait_for_state(free, "RUNNING");
    let refused = cluster.refused(1, &["license", "remove", "matlab"]);
    assert!(refused.contains("have not ended"), "{refused}");
    // More of them help at once, also after a crash.
    cluster.kill_controller();
    cluster.start();
    waits_for(&cluster, next, "Licenses");
    cluster.ok(&["license", "set", "matlab", "count=3"]);
    cluster.wait_for_state(next, "RUNNING");
    let last = sleeps(&cluster, &["-L", "matlab"]);
    waits_for(&cluster, last, "Licenses");
    cluster.ok(&["cancel", &both.to_string()]);
    cluster.wait_for_state(last, "RUNNING");
    wait_until("it has written", PATIENCE, || {
        fs::read_to_string(&out).is_ok_and(|text| text.starts_with("matlab:2 matlab:2\n"))
    });

    let refused = cluster.refused(1, &["submit", "-C", "fast", "--wrap", "true"]);
    assert!(
        refused.contains("no node has the feature `fast`"),
        "{refused}"
    );
    cluster.ok(&["node", "set", &node, "features=fast,big"]);
    assert_eq!(cluster.json(&["node", &node])["features"][0], "fast");
    let featured = cluster.submit(&[
        "-C",
        "fast&(big|small)",
        "-o",
        "/dev/null",
        "--wrap",
        "true",
    ]);
    cluster.wait_for_state(featured, "COMPLETED");
    let refused = cluster.refused(2, &["submit", "-C", "fast&!big", "--wrap", "true"]);
    assert!(refused.contains("not expected"), "{refused}");
}

#[test]
fn people_reserve_for_themselves_where_their_account_allows_it() {
    let cluster = Cluster::up(2);
    let ann = cluster.person("ann", "user");
    let refused = ann.refused(4, &["reserve", "1", "cpu", "now", "1h", "as", "mine"]);
    assert!(
        refused.contains("ann may not change a reservation") && refused.contains("reserve-time=4h"),
        "{refused}"
    );
    cluster.ok(&["account", "set", "root", "reserve-time=2h"]);
    ann.ok(&["reserve", "1", "cpu", "now", "1h", "as", "mine"]);
    let shown = cluster.json(&["reserve", "show", "mine"]);
    assert_eq!(shown["settings"]["users"], "ann");
    let sleeps = [
        "submit",
        "-o",
        "/dev/null",
        "-t",
        "5",
        "--reservation",
        "mine",
    ];
    ann.ok(&[&sleeps[..], &["--wrap", "true"]].concat());
    // Not for longer, not for others, not for ever, and not somebody else's.
    let day = [
        "reserve", "1", "cpu", "tomorrow", "9:00", "3h", "as", "long",
    ];
    let refused = ann.refused(4, &day);
    assert!(
        refused.contains("ann may reserve for 02:00:00 at the longest"),
        "{refused}"
    );
    for more in [&["for", "bob"][..], &["weekly"]] {
        let words = ["reserve", "1", "cpu", "tomorrow", "9:00", "1h"];
        let refused = ann.refused(4, &[&words[..], more].concat());
        assert!(refused.contains("for ann alone, and once"), "{refused}");
    }
    let far = ["start=now+2hours", "end=+1h", "cpus=1"];
    cluster.ok(&[&["reserve", "add", "theirs", "users=bob"], &far[..]].concat());
    for words in [&["remove", "theirs"][..], &["set", "theirs", "end=+2h"]] {
        let refused = ann.refused(4, &[&["reserve"], words].concat());
        assert!(refused.contains("theirs is not for ann alone"), "{refused}");
    }
    let refused = ann.refused(4, &["reserve", "set", "mine", "accounts=default"]);
    assert!(refused.contains("for ann alone"), "{refused}");
    // Two at a time.
    ann.ok(&[
        "reserve", "1", "cpu", "tomorrow", "9:00", "1h", "as", "next",
    ]);
    let third = [
        "reserve", "1", "cpu", "tomorrow", "12:00", "1h", "as", "third",
    ];
    let refused = ann.refused(4, &third);
    assert!(
        refused.contains("ann has 2 reservations that are not over")
            && refused.contains("mine, next"),
        "{refused}"
    );
    ann.ok(&["reserve", "remove", "next"]);
    // No more than one may run.
    cluster.ok(&["user", "set", "ann", "max-cpus-per-user=1"]);
    let refused = ann.refused(4, &third);
    assert!(refused.contains("more than ann may run"), "{refused}");
    cluster.ok(&["user", "set", "ann", "max-cpus-per-user=2"]);
    ann.ok(&third);
    // An account can be left out.
    cluster.ok(&["account", "set", "default", "reserve-time=off"]);
    let refused = ann.refused(4, &["reserve", "remove", "third"]);
    assert!(
        refused.contains("may not change a reservation"),
        "{refused}"
    );
}
