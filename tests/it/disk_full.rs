//! A full disk under the state directory: refusals in plain words, and nothing acknowledged is lost.

use crate::support::{Cluster, PATIENCE, is_root, wait_until};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

/// Mounts a small file system that only this thread and what it starts can see, so nothing stays mounted.
fn small_disk(place: &Path) -> bool {
    let none: Option<&str> = None;
    let private = unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS)
        .and_then(|()| mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none))
        .and_then(|()| {
            mount(
                Some("tmpfs"),
                place,
                Some("tmpfs"),
                MsFlags::empty(),
                Some("size=16m"),
            )
        });
    if let Err(error) = private {
        println!("SKIPPED: no mount of our own here: {error}");
    }
    private.is_ok()
}

/// Takes all the room there is.
fn fill(file: &Path) {
    let mut file = fs::File::options()
        .create(true)
        .append(true)
        .open(file)
        .unwrap();
    for size in [1 << 16, 1 << 12, 1 << 8, 1] {
        let block = vec![b'x'; size];
        while file.write_all(&block).is_ok() {}
    }
}

#[test]
fn a_full_disk_refuses_and_loses_nothing_needs_root() {
    if !is_root("a_full_disk_refuses_and_loses_nothing_needs_root") {
        return;
    }
    let dir = tempfile::Builder::new()
        .prefix("hpc-it-")
        .tempdir()
        .unwrap();
    let disk = dir.path().join("disk");
    fs::create_dir(&disk).unwrap();
    if !small_disk(&disk) {
        return;
    }
    let ballast = disk.join("ballast");
    let cluster = Cluster::at(dir, disk.join("state"), 4);
    cluster.start();
    let running = cluster.submit(&[
        "-o",
        "running",
        "--wrap",
        "while [ ! -e go ]; do sleep 0.02; done; exit 3",
    ]);
    cluster.wait_for_state(running, "RUNNING");
    fill(&ballast);

    // The store has some room of its own; then it is over, and said so.
    let script = format!("#!/bin/bash\n: {}\n", "0123456789abcdef".repeat(16 * 1024));
    let mut acknowledged = Vec::new();
    let mut refusals = Vec::new();
    for round in 0..400 {
        let answer = cluster.run_with(
            &[
                "submit",
                "--parsable",
                "--hold",
                "-o",
                "/dev/null",
                "-J",
                &format!("r{round}"),
            ],
            script.replace("012345", &format!("{round:06}")).as_bytes(),
        );
        if answer.code == 0 {
            acknowledged.push(answer.out.trim().parse::<u32>().unwrap());
        } else {
            refusals.push(answer);
            if refusals.len() == 3 {
                break;
            }
        }
    }
    println!(
        "{} acknowledged on the full disk; then: {}",
        acknowledged.len(),
        refusals[0].err
    );
    for refusal in &refusals {
        assert_eq!(refusal.code, 1, "{refusal:?}");
        assert!(
            refusal.err.contains("no space left") && refusal.err.contains("HPC-E0016"),
            "{refusal:?}"
        );
    }
    // The job that runs ends while there is no room to note it.
    fs::write(cluster.work.join("go"), "").unwrap();
    std::thread::sleep(Duration::from_millis(500));

    fs::remove_file(&ballast).unwrap();
    wait_until("there is room again", PATIENCE, || {
        let answer = cluster.run(&["submit", "--parsable", "--hold", "--", "true"]);
        if answer.code == 0 {
            acknowledged.push(answer.out.trim().parse().unwrap());
        }
        answer.code == 0
    });
    assert_eq!(cluster.run(&["wait", &running.to_string()]).code, 3);
    let mut held: Vec<u32> = cluster
        .json(&["queue"])
        .as_array()
        .unwrap()
        .iter()
        .map(|job| u32::try_from(job["id"].as_u64().unwrap()).unwrap())
        .collect();
    held.sort_unstable();
    assert_eq!(held, acknowledged);
    // Also after a crash.
    cluster.kill_controller();
    cluster.start();
    for job in &acknowledged {
        cluster.ok(&["release", &job.to_string()]);
    }
    cluster.wait_empty(PATIENCE);
    for row in cluster.history() {
        assert_eq!(
            row["state"],
            if row["id"] == running {
                "FAILED"
            } else {
                "COMPLETED"
            },
            "{row}"
        );
    }
}
