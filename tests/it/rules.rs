//! Partitions, accounts, users, QOS and limits: what an administrator says holds at once, for whom it is said, and after
//! any crash.

use crate::support::{Cluster, PATIENCE, is_root, wait_until};
use serde_json::Value;
use std::fs;

/// Exit code of what is not permitted.
const NOT_PERMITTED: i32 = 4;
/// Exit code of a command line that is wrong.
const USAGE: i32 = 2;

/// A setting as `show` has it.
fn setting(cluster: &Cluster, noun: &str, name: &str, key: &str) -> Value {
    cluster.json(&[noun, "show", name])["settings"][key].clone()
}

/// Names in a listing.
fn names(cluster: &Cluster, noun: &str) -> Vec<String> {
    let all = cluster.json(&[noun, "list"]);
    let all = all.as_array().unwrap().iter();
    all.map(|one| one["name"].as_str().unwrap().to_owned())
        .collect()
}

fn audit(cluster: &Cluster) -> Vec<(String, Value)> {
    let lines = cluster.json(&["audit", "--limit", "100"]);
    let lines = lines.as_array().unwrap().iter();
    lines
        .map(|line| {
            (
                line["what"].as_str().unwrap().to_owned(),
                line["refused"].clone(),
            )
        })
        .collect()
}

#[test]
fn what_is_said_holds_at_once_and_after_a_crash() {
    let cluster = Cluster::up(2);
    let me = cluster.json(&["limits"])["user"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(names(&cluster, "partition"), ["batch", "interactive"]);
    assert_eq!(names(&cluster, "account"), ["default", "root"]);
    assert_eq!(names(&cluster, "qos"), ["normal"]);

    cluster.ok(&["account", "add", "physics", "shares=3"]);
    cluster.ok(&["account", "add", "optics", "parent=physics", "group-cpus=8"]);
    cluster.ok(&["qos", "add", "urgent", "priority=10", "max-time=1h"]);
    cluster.ok(&["user", "set", &me, "accounts=optics,physics"]);
    cluster.ok(&["user", "add", "ann", "account=physics"]);
    let partition = ["nodes=n[1-2]", "max-time=2h", "accounts=optics"];
    cluster.ok(&[&["partition", "add", "lab"], &partition[..]].concat());
    assert_eq!(setting(&cluster, "account", "physics", "shares"), "3");
    assert_eq!(names(&cluster, "account").len(), 4);

    // Without a restart: who may use it does, others are told who may.
    let refused = cluster.refused(NOT_PERMITTED, &["submit", "-p", "lab", "--", "true"]);
    assert!(
        refused.contains("account `default` may not use partition `lab`")
            && refused.contains("is for: optics"),
        "{refused}"
    );
    let words = ["-p", "lab", "-A", "optics", "-q", "urgent", "--hold"];
    let submit = [&["submit"], &words[..], &["--", "true"]].concat();
    let refused = cluster.refused(1, &submit);
    assert!(
        refused.contains("QOS urgent sets max-time=01:00:00"),
        "the partition's longest time is beyond it: {refused}"
    );
    let job = cluster.submit(&[&words[..], &["-t", "30", "--", "true"]].concat());
    let view = cluster.job(job);
    assert_eq!(view["time_limit_s"], 1800, "{view}");
    assert_eq!(view["account"], "optics");

    // What a job needs stays, and what others name.
    for (noun, name, why) in [
        ("qos", "urgent", "1 jobs of qos `urgent` have not ended"),
        ("partition", "lab", "1 jobs of partition `lab`"),
        ("account", "optics", "partition `lab` names it"),
        ("account", "physics", "names it"),
    ] {
        let refused = cluster.refused(1, &[noun, "remove", name]);
        assert!(refused.contains(why), "{refused}");
    }

    let limits = cluster.json(&["limits", "-A", "optics", "-q", "urgent", "-p", "lab"]);
    let found = limits["limits"].as_array().unwrap().iter();
    let found: Vec<(&str, u64, &str)> = found
        .filter_map(|one| {
            let (limit, level) = (one["limit"].as_str()?, one["level"].as_str()?);
            Some((limit, one["value"].as_u64()?, level))
        })
        .collect();
    assert_eq!(
        found,
        [
            ("max-time", 7200, "partition lab"),
            ("max-time", 3600, "QOS urgent"),
            ("group-cpus", 8, "account optics"),
        ]
    );

    let before: Vec<Value> = ["partition", "account", "qos"]
        .map(|noun| cluster.json(&[noun, "list"]))
        .into();
    let users = cluster.json(&["user", "list"])["users"].clone();
    assert_eq!(users.as_array().unwrap().len(), 2, "{users}");
    cluster.kill_controller();
    cluster.start();
    let after: Vec<Value> = ["partition", "account", "qos"]
        .map(|noun| cluster.json(&[noun, "list"]))
        .into();
    assert_eq!(after, before);
    assert_eq!(cluster.json(&["user", "list"])["users"], users);

    // The job gone, they go, and what is gone is gone after a crash too.
    cluster.ok(&["cancel", &job.to_string()]);
    for (noun, name) in [
        ("qos", "urgent"),
        ("partition", "lab"),
        ("user", "ann"),
        ("user", me.as_str()),
        ("account", "optics"),
        ("account", "physics"),
    ] {
        cluster.ok(&[noun, "remove", name]);
    }
    cluster.kill_controller();
    cluster.start();
    assert_eq!(names(&cluster, "partition"), ["batch", "interactive"]);
    assert_eq!(names(&cluster, "account"), ["default", "root"]);
    assert_eq!(names(&cluster, "qos"), ["normal"]);

    let lines = audit(&cluster);
    let said = |what: &str| -> Vec<Value> {
        let said = lines.iter().filter(|(line, _)| line == what);
        said.map(|(_, refused)| refused.clone()).collect()
    };
    let done = [Value::Null];
    assert_eq!(said("account add physics shares=3"), done);
    assert_eq!(
        said(&format!("user set {me} accounts=optics,physics")),
        done
    );
    let refused_first = [Value::from("HPC-E0015"), Value::Null];
    assert_eq!(said("qos remove urgent"), refused_first);
}

#[test]
fn partitions_are_shown_with_their_nodes_and_state() {
    let cluster = Cluster::up(2);
    cluster.ok(&["partition", "set", "interactive", "state=down"]);
    cluster.ok(&["partition", "add", "far", "nodes=n7", "default=yes"]);
    let shown = cluster.json(&["partitions"]);
    let shown: Vec<String> = shown
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            format!(
                "{} {} {} {}",
                one["name"], one["state"], one["default"], one["nodes"]
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            r#""batch" "UP" false ["n1"]"#,
            r#""far" "UP" true []"#,
            r#""interactive" "DOWN" false ["n1"]"#,
        ]
    );
    let table = cluster.ok(&["partition", "list"]);
    assert!(table.contains("far*"), "{table}");
}

#[test]
fn mistakes_are_told_and_change_nothing() {
    let cluster = Cluster::up(2);
    for (words, code, said) in [
        (&["qos", "set", "normal"][..], USAGE, "KEY=VALUE"),
        (&["qos", "set", "normal", "fast"], USAGE, "write KEY=VALUE"),
        (&["qos", "set", "normal", "=1"], USAGE, "write KEY=VALUE"),
        (
            &["qos", "set", "normal", "max-jobs-per-user=1", "speed=9"],
            1,
            "no such key",
        ),
        (
            &["qos", "set", "fast", "priority=1"],
            1,
            "there is no QOS `fast`",
        ),
        (&["qos", "show", "fast"], 1, "there are: normal"),
        (
            &["account", "add", "a", "parent=b"],
            1,
            "`b`, which does not exist",
        ),
        (&["partition", "remove", "batch"], 1, "must be the default"),
        (&["user", "remove", "ann"], 1, "there is no user `ann`"),
        (&["limits", "--qos", "fast"], 1, "there is no QOS `fast`"),
    ] {
        let err = cluster.refused(code, words);
        assert!(err.contains(said), "{words:?}: {err}");
    }
    // Settings that came with one that was wrong are not there.
    assert!(setting(&cluster, "qos", "normal", "max-jobs-per-user").is_null());
}

#[test]
fn only_an_administrator_changes_them() {
    let cluster = Cluster::up(2);
    let me = cluster.json(&["limits"])["user"].clone();
    cluster.ok(&["user", "set", "alice", "max-jobs-per-user=4"]);
    for (name, role) in [
        ("vera", "viewer"),
        ("alice", "user"),
        ("olaf", "operator"),
        ("ada", "admin"),
    ] {
        let person = cluster.person(name, role);
        assert_eq!(names(&person, "qos"), ["normal"]);
        assert_eq!(person.json(&["limits"])["user"], name);
        let others = ["limits", "--user", me.as_str().unwrap()];
        let sees = matches!(role, "operator" | "admin");
        assert_eq!(
            person.run(&others).code,
            if sees { 0 } else { NOT_PERMITTED }
        );
        let limit = format!("max-jobs-per-user={}", name.len());
        let change = ["qos", "set", "normal", &limit];
        if role == "admin" {
            person.ok(&change);
        } else {
            person.refused(NOT_PERMITTED, &change);
            person.refused(NOT_PERMITTED, &["account", "add", "mine"]);
        }
    }
    let held = cluster.json(&["limits", "--user", "alice"]);
    assert_eq!(
        held["limits"][0]["value"], 3,
        "the QOS before the user: {held}"
    );
    assert_eq!(names(&cluster, "account"), ["default", "root"]);
    let lines = audit(&cluster);
    let refused = |what: &str| {
        let said = lines.iter().filter(|(line, _)| line == what);
        said.map(|(_, refused)| refused.clone()).collect::<Vec<_>>()
    };
    // A viewer's is turned away before it is a command.
    assert_eq!(refused("account add mine"), ["HPC-E0003", "HPC-E0003"]);
    assert_eq!(refused("qos set normal max-jobs-per-user=3"), [Value::Null]);
}

#[test]
fn another_user_of_the_machine_looks_only_needs_root() {
    if !is_root("another_user_of_the_machine_looks_only_needs_root") {
        return;
    }
    let mut cluster = Cluster::prepared(2);
    cluster.open_to_all();
    cluster.start();
    let daemon = nix::unistd::User::from_name("daemon").unwrap().unwrap();
    let other = cluster.seen_by(daemon.uid.as_raw(), daemon.gid.as_raw());
    other.refused(NOT_PERMITTED, &["partition", "set", "batch", "state=down"]);
    other.refused(NOT_PERMITTED, &["limits", "--user", "root"]);
    cluster.ok(&["user", "set", "daemon", "max-cpus-per-user=1"]);
    let limits = other.json(&["limits"]);
    let cpus = limits["limits"].as_array().unwrap().iter();
    let cpus: Vec<&Value> = cpus.filter(|one| one["level"] == "user daemon").collect();
    assert_eq!(cpus.len(), 1, "{limits}");
    assert_eq!(cpus[0]["limit"], "max-cpus-per-user");
}

#[test]
fn a_configuration_begins_a_cluster_and_is_compared_later() {
    let config = |hours: u32| {
        format!(
            "[partition.batch]\nmax-time = \"{hours}h\"\n[account.physics]\nshares = 3\n\
             [user.ann]\naccount = \"physics\"\n[qos.normal]\nmax-jobs-per-user = 4\n"
        )
    };
    let cluster = Cluster::configured(2, &config(2));
    assert_eq!(
        setting(&cluster, "partition", "batch", "max-time"),
        "02:00:00"
    );
    assert_eq!(setting(&cluster, "account", "physics", "shares"), "3");
    assert_eq!(setting(&cluster, "user", "ann", "account"), "physics");
    assert_eq!(setting(&cluster, "qos", "normal", "max-jobs-per-user"), "4");
    let log = || fs::read_to_string(cluster.state().join("controller/controller.log")).unwrap();
    assert!(!log().contains("the configuration"), "{}", log());

    cluster.ok(&["partition", "set", "batch", "max-time=3h"]);
    cluster.ok(&["user", "remove", "ann"]);
    fs::write(cluster.path("hpc.toml"), config(4)).unwrap();
    cluster.kill_controller();
    cluster.start();
    assert_eq!(
        setting(&cluster, "partition", "batch", "max-time"),
        "03:00:00"
    );
    wait_until("it is warned of", PATIENCE, || {
        log().contains("the configuration")
    });
    let log = log();
    for said in [
        "partition batch max-time: the configuration says 04:00:00, the cluster has 03:00:00",
        "change it with `hpc partition set batch max-time=04:00:00`",
        "add it with `hpc user add ann account=physics`",
    ] {
        assert!(log.contains(said), "{log}");
    }
    let warned = log
        .lines()
        .filter(|line| line.contains("the configuration"));
    assert_eq!(warned.count(), 2, "{log}");
}

#[test]
fn a_configuration_that_makes_no_sense_starts_nothing() {
    for (text, said) in [
        (
            "[user.ann]\naccount = \"physics\"",
            "user `ann` names account `physics`",
        ),
        (
            "[qos.normal]\nmax-jobs-per-user = \"many\"",
            "[qos.normal] max-jobs-per-user",
        ),
    ] {
        let mut cluster = Cluster::prepared(2);
        cluster.configure(text);
        let answer = cluster.try_start();
        assert_ne!(answer.code, 0, "{answer:?}");
        assert!(answer.err.contains(said), "{answer:?}");
        fs::write(cluster.path("hpc.toml"), "").unwrap();
        cluster.start();
    }
}
