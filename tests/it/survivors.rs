//! Promise 5: when a job ends, nothing of it is left running, whatever it did to stay.

use crate::support::{
    Cluster, Random, amount, command_line, marked, rows, wait_until, with_argument,
};
use std::collections::BTreeSet;
use std::time::Duration;

/// Ways to stay. Each says `ready` once everything that should be gone later is there.
const WAYS: [&str; 6] = [
    // A daemon by the book: two forks and a session of its own.
    "( setsid sh -c 'trap \"\" TERM HUP INT; sleep {s} & echo >> ready.$SLURM_JOB_ID; sleep {s}' & )",
    // Deaf children, some of them orphans.
    "trap '' TERM; ( ( trap '' TERM; sleep {s} ) & ); ( trap '' TERM INT HUP; sleep {s} ) & echo >> ready.$SLURM_JOB_ID",
    // Without the environment that it came with.
    "( setsid env -i sh -c 'trap \"\" TERM; sleep {s}; :' & ); echo >> ready.$SLURM_JOB_ID",
    // A chain of sessions.
    "setsid setsid setsid sh -c 'trap \"\" TERM; setsid sleep {s} & echo >> ready.$SLURM_JOB_ID; sleep {s}' &",
    // One that starts others again and again.
    "( setsid sh -c 'trap \"\" TERM; while :; do sleep {s} & sleep 0.05; done' & ); sleep 0.2; echo >> ready.$SLURM_JOB_ID",
    // Stopped: a signal would not be noticed.
    "( setsid sh -c 'sleep {s} & kill -STOP $!; echo >> ready.$SLURM_JOB_ID; kill -STOP $$' & )",
];

/// How a job is brought to its end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Cancel,
    Limit,
    Itself,
}

const ENDS: [(End, &str); 3] = [
    (End::Cancel, "CANCELLED"),
    (End::Limit, "TIMEOUT"),
    (End::Itself, "COMPLETED"),
];

#[test]
fn whatever_a_job_does_to_stay_it_goes() {
    let jobs = u32::try_from(amount("HPC_SURVIVORS", 100)).unwrap();
    println!("{jobs} jobs; HPC_SURVIVORS=1000 for the full number");
    let mut random = Random::seeded("survivors");
    let cluster = Cluster::up(24);
    let seconds = format!("86400.{}", std::process::id());
    let mut ends = Vec::new();
    for _ in 0..jobs {
        // Most are cancelled or reach their limit; some go by themselves.
        let end = ENDS[usize::try_from(random.from(0, 4)).unwrap() / 2].0;
        let way = WAYS[usize::try_from(random.from(0, 5)).unwrap()];
        let last = match end {
            End::Itself => "while [ ! -e ready.$SLURM_JOB_ID ]; do sleep 0.02; done".to_owned(),
            End::Cancel | End::Limit => "trap '' TERM; sleep {s}; sleep {s}".to_owned(),
        };
        let task = format!("{way}\n{last}\n").replace("{s}", &seconds);
        let mut words = vec![
            "-o",
            "/dev/null",
            "--export",
            "ALL,SURVIVOR=yes",
            "--kill-wait",
            "1",
        ];
        if end == End::Limit {
            words.extend(["-t", "0:01"]);
        }
        words.extend(["--wrap", &task]);
        ends.push((cluster.submit(&words), end));
    }
    let mut cancelled = BTreeSet::new();
    wait_until(
        "all jobs have ended",
        Duration::from_secs(60 + u64::from(jobs) / 4),
        || {
            let ready = |job: u32| cluster.exists(&format!("ready.{job}"));
            let due: Vec<String> = ends
                .iter()
                .filter(|(job, end)| *end == End::Cancel && ready(*job) && cancelled.insert(*job))
                .map(|(job, _)| job.to_string())
                .collect();
            if !due.is_empty() {
                let due: Vec<&str> = due.iter().map(String::as_str).collect();
                cluster.ok(&[&["cancel"], &due[..]].concat());
            }
            rows(&cluster.json(&["queue"])).is_empty()
        },
    );
    let left: BTreeSet<i32> = with_argument(&seconds)
        .into_iter()
        .chain(marked("SURVIVOR", "yes"))
        .collect();
    let left: Vec<String> = left
        .into_iter()
        .map(|pid| format!("{pid}: {}", command_line(pid)))
        .collect();
    assert!(left.is_empty(), "{} survivors: {left:?}", left.len());
    for row in cluster.history() {
        let (_, end) = ends[usize::try_from(row["id"].as_u64().unwrap()).unwrap() - 1];
        let word = ENDS.iter().find(|(one, _)| *one == end).unwrap().1;
        assert_eq!(row["state"], word, "{row}");
    }
    assert_eq!(cluster.history().len(), ends.len());
}
