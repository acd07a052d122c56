//! The store as a file: one controller at a time, damage told with the way out, and backups of a live one.

use crate::support::{Cluster, PATIENCE, wait_until};
use serde_json::Value;
use std::fs;

#[test]
fn a_second_controller_and_a_second_agent_are_refused() {
    let cluster = Cluster::up(2);
    let state = cluster.state().to_str().unwrap();
    let error = cluster.refused(
        1,
        &[
            "controller",
            "--state-dir",
            state,
            "--socket",
            "/tmp/hpc-it-other.sock",
        ],
    );
    let pid = cluster.controller().to_string();
    for part in ["another controller", state, &pid, "hpc down", "--state-dir"] {
        assert!(error.contains(part), "{part} is not in: {error}");
    }
    let error = cluster.refused(1, &["worker", "--state-dir", state]);
    assert!(error.contains("agent.pid"), "{error}");
    // The first ones never noticed.
    cluster.ok(&["submit", "--wait", "--", "true"]);
}

#[test]
fn a_damaged_store_is_refused_with_the_way_out() {
    let cluster = Cluster::up(2);
    cluster.ok(&["submit", "--wait", "--", "true"]);
    let backup = cluster.path("backup.redb");
    cluster.ok(&["backup", backup.to_str().unwrap()]);
    cluster.ok(&["down", "--yes"]);
    let store = cluster.state().join("controller/hpc.redb");
    let good = fs::read(&store).unwrap();
    let mut torn = good.clone();
    torn.truncate(good.len() / 2);
    let mut scribbled = good.clone();
    scribbled[64..].fill(0x5a);
    let damages: [(&str, Vec<u8>, &str); 3] = [
        ("half of it", torn, "damaged"),
        ("scribbled over", scribbled, "damaged"),
        (
            "something else",
            b"PRETTY_NAME=\"a text file\"\n".repeat(400),
            "is not an hpc store",
        ),
    ];
    for (how, bytes, said) in damages {
        fs::write(&store, bytes).unwrap();
        let answer = cluster.try_start();
        assert_eq!(answer.code, 1, "{how}: {answer:?}");
        assert!(
            answer.err.contains(said) && answer.err.contains("hpc.redb"),
            "{how}: {answer:?}"
        );
        assert!(answer.err.contains("move it away"), "{how}: {answer:?}");
        assert!(!answer.err.contains("panicked"), "{how}: {answer:?}");
    }
    // The way out that it names.
    fs::copy(&backup, &store).unwrap();
    cluster.start();
    assert_eq!(cluster.state_of(1), "COMPLETED");
}

/// What must be the same in a copy: everything but what tells of the present.
fn told(listing: &Value) -> Vec<Value> {
    let mut jobs = listing.as_array().unwrap().clone();
    for job in &mut jobs {
        job.as_object_mut()
            .unwrap()
            .retain(|key, _| key != "expected_start");
    }
    jobs
}

#[test]
fn a_backup_of_a_live_controller_opens_with_the_same_queue() {
    let cluster = Cluster::up(4);
    cluster.submit(&[
        "-o",
        "/dev/null",
        "-a",
        "0-19",
        "--wrap",
        "exit $((SLURM_ARRAY_TASK_ID % 3))",
    ]);
    let held = cluster.submit(&[
        "--hold",
        "-J",
        "held",
        "-o",
        "/dev/null",
        "-a",
        "0-999%7",
        "--wrap",
        "true",
    ]);
    let last = cluster.submit(&[
        "-d",
        &format!("afterok:{held}"),
        "-c",
        "2",
        "--comment",
        "third",
        "--",
        "true",
    ]);
    wait_until("the first has ended", PATIENCE, || {
        cluster.history().len() == 20
    });
    let backup = cluster.path("backup.redb");
    let backup = backup.to_str().unwrap();
    cluster.ok(&["backup", backup]);
    assert!(
        cluster
            .refused(1, &["backup", backup])
            .contains("not overwritten")
    );

    let copy = Cluster::prepared(4);
    let place = copy.state().join("controller");
    fs::create_dir_all(&place).unwrap();
    fs::copy(backup, place.join("hpc.redb")).unwrap();
    copy.start();
    assert_eq!(
        told(&copy.json(&["queue"])),
        told(&cluster.json(&["queue"]))
    );
    assert_eq!(copy.history(), cluster.history());
    // And it goes on from there.
    assert!(copy.submit(&["--hold", "--", "true"]) > last);
    copy.ok(&["release", &held.to_string()]);
    copy.ok(&["wait", &last.to_string()]);
}
