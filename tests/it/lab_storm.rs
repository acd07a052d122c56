//! The storm of `crash_storm.rs` over eight machines: the controller is killed at random moments, and besides links are
//! cut at random, in one direction or both.

use crate::crash_storm::{Acknowledged, Head, check, submit, task};
use crate::lab::{Host, Lab};
use crate::support::{Answer, PATIENCE, Random, amount, rows, wait_until};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

const SUBMITTERS: usize = 3;

impl Head for Host {
    fn run(&self, words: &[&str]) -> Answer {
        Host::run(self, words)
    }
}

fn start(head: &Host) {
    let words = [
        "up",
        "--detach",
        "--config",
        "/tmp/hpc.toml",
        "--cpus",
        "2",
        "--memory",
        "64G",
    ];
    head.ok(&words);
}

#[test]
fn over_eight_machines_with_links_cut_nothing_acknowledged_is_lost_and_nothing_runs_twice() {
    let test =
        "over_eight_machines_with_links_cut_nothing_acknowledged_is_lost_and_nothing_runs_twice";
    let Some(lab) = Lab::new(test) else { return };
    let kills = amount("HPC_STORM", 6);
    let mut random = Random::seeded(test);
    println!("{kills} kills of the controller; HPC_STORM=50 for the full storm");
    let names: Vec<String> = (1..=8).map(|number| format!("ws{number}")).collect();
    let hosts = lab.hosts(&names);
    let head = &hosts[0];
    head.write("/tmp/hpc.toml", "node_silent_after_s = 1\n");
    start(head);
    for host in &hosts[1..] {
        let line = head.ok(&["invite", "--parsable"]);
        host.ok(&[
            "join",
            "--detach",
            "--cpus",
            "2",
            "--memory",
            "64G",
            line.trim(),
        ]);
    }
    wait_until("all respond", PATIENCE, || head.responding().len() == 8);
    let acknowledged = Acknowledged::default();
    let stop = AtomicBool::new(false);
    let mut cuts = 0;
    thread::scope(|scope| {
        for _ in 0..SUBMITTERS {
            let mut random = random.fork();
            let (stop, acknowledged) = (&stop, &acknowledged);
            let task = task("/mnt/lines");
            scope.spawn(move || submit(head, &task, &mut random, stop, acknowledged));
        }
        let mut cutter_random = random.fork();
        let (lab, hosts, stop_cuts) = (&lab, &hosts, &stop);
        let cutter = scope.spawn(move || {
            let random = &mut cutter_random;
            let mut cuts = 0;
            while cuts < 3 || !stop_cuts.load(Ordering::Relaxed) {
                random.sleep(50, 500);
                let host = &hosts[1 + usize::try_from(random.from(0, 6)).unwrap()];
                match random.from(0, 2) {
                    0 => lab.cut(host),
                    1 => lab.cut_from(host),
                    _ => lab.cut_to(host),
                }
                cuts += 1;
                random.sleep(100, 2500);
                lab.mend(host);
            }
            cuts
        });
        let killed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..kills {
                random.sleep(200, 1500);
                assert_eq!(
                    head.call(&["pkill", "-KILL", "-f", "hpc controller"]).code,
                    0
                );
                start(head);
            }
        }));
        stop.store(true, Ordering::Relaxed);
        cuts = cutter.join().unwrap();
        killed.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    wait_until("the queue is empty", PATIENCE * 3, || {
        rows(&head.json(&["queue"])).is_empty()
    });
    wait_until("all respond", PATIENCE, || head.responding().len() == 8);
    let history = rows(&head.json(&["history", "--array", "--limit", "0"]));
    let acknowledged = acknowledged.into_inner().unwrap();
    println!(
        "{} jobs acknowledged, {} tasks ended, {cuts} cuts",
        acknowledged.len(),
        history.len()
    );
    let lines = std::fs::read_to_string(lab.shared("lines")).unwrap();
    check(&history, &lines, &acknowledged);
    assert!(
        acknowledged.len() > usize::try_from(kills).unwrap() && cuts > 2,
        "too little happened"
    );
    let used: std::collections::BTreeSet<&str> = history
        .iter()
        .filter_map(|row| row["nodes"][0].as_str())
        .collect();
    assert!(used.len() > 4, "{used:?}");
}
