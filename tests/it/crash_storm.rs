//! Promises 1 to 3: a controller that is killed at random moments loses nothing that it acknowledged, runs nothing
//! twice, and knows every exit code.

use crate::support::{Answer, Cluster, PATIENCE, Random, amount, rows};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

const SUBMITTERS: usize = 3;
/// Each submitter stops here, so that a quick machine does not do more than a slow one can.
const JOBS_MAX: usize = 250;

/// What a task does: one line in the common file, and a code that its job's name and its index determine.
pub(crate) fn task(lines: &str) -> String {
    format!(
        "echo ${{SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}}_${{SLURM_ARRAY_TASK_ID:-x}} >> {lines}; \
         exit $(( (${{SLURM_JOB_NAME#c}} + ${{SLURM_ARRAY_TASK_ID:-0}}) % 11 ))"
    )
}

/// Where a storm is: commands go to its controller.
pub(crate) trait Head: Sync {
    fn run(&self, words: &[&str]) -> Answer;
}

impl Head for Cluster {
    fn run(&self, words: &[&str]) -> Answer {
        Cluster::run(self, words)
    }
}

/// What was acknowledged: jobs with their number of elements (0: no array).
pub(crate) type Acknowledged = Mutex<BTreeMap<u32, u64>>;

fn expected_code(name: &str, index: u64) -> u64 {
    let base: u64 = name.trim_start_matches('c').parse().unwrap();
    (base + index) % 11
}

/// Submits until told to stop; acknowledged jobs with their number of elements (0: no array).
pub(crate) fn submit(
    head: &dyn Head,
    task: &str,
    random: &mut Random,
    stop: &AtomicBool,
    acknowledged: &Acknowledged,
) {
    for _ in 0..JOBS_MAX {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let name = format!("c{}", random.from(0, 10));
        let elements = if random.from(0, 3) == 0 {
            random.from(2, 12)
        } else {
            0
        };
        let range = format!("0-{}", elements.saturating_sub(1));
        let mut words = vec!["submit", "--parsable", "-o", "/dev/null", "-J", &name];
        if elements > 0 {
            words.extend(["-a", &range]);
        }
        words.extend(["--wrap", task]);
        let answer = head.run(&words);
        match answer.code {
            0 => {
                let job = answer.out.trim().parse().unwrap();
                let known = acknowledged.lock().unwrap().insert(job, elements);
                assert_eq!(known, None, "job {job} was acknowledged twice");
            }
            // No controller just now, or it went away: nothing was promised.
            3 => random.sleep(5, 30),
            _ => panic!("{answer:?}"),
        }
        random.sleep(0, 60);
    }
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_runs_twice() {
    let kills = amount("HPC_STORM", 12);
    let mut random = Random::seeded("crash_storm");
    println!("{kills} kills of the controller; HPC_STORM=50 for the full storm");
    let cluster = Cluster::up(8);
    let agent = cluster.agent();
    let acknowledged = Mutex::new(BTreeMap::new());
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..SUBMITTERS {
            let mut random = random.fork();
            let (cluster, stop, acknowledged) = (&cluster, &stop, &acknowledged);
            let task = task("lines");
            scope.spawn(move || submit(cluster, &task, &mut random, stop, acknowledged));
        }
        // However a kill fails, the submitters must be let go.
        let killed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..kills {
                random.sleep(20, 400);
                cluster.kill_controller();
                if random.from(0, 2) == 0 {
                    random.sleep(0, 100);
                }
                cluster.start();
            }
        }));
        stop.store(true, Ordering::Relaxed);
        killed.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    cluster.wait_empty(Duration::from_secs(60) + PATIENCE);
    let acknowledged = acknowledged.into_inner().unwrap();
    let history = cluster.history();
    println!(
        "{} jobs acknowledged, {} tasks ended",
        acknowledged.len(),
        history.len()
    );

    check(&history, &cluster.read("lines"), &acknowledged);
    assert!(
        acknowledged.len() > usize::try_from(kills).unwrap(),
        "too little was submitted to say anything"
    );

    // The worker was there all the time.
    assert_eq!(cluster.agent(), agent);
    let node = &rows(&cluster.json(&["nodes"]))[0];
    assert_eq!(
        (node["state"].as_str(), node["responding"].as_bool()),
        (Some("IDLE"), Some(true)),
        "{node}"
    );
}

/// Nothing lost, nothing twice, every code right.
pub(crate) fn check(history: &[Value], lines: &str, acknowledged: &BTreeMap<u32, u64>) {
    // Each task that the history knows ran once, with the code that it should have.
    let mut tasks_ended = BTreeSet::new();
    for row in history {
        let job = row["id"].as_u64().unwrap();
        let index = row["array_task"].as_u64();
        let code = expected_code(row["name"].as_str().unwrap(), index.unwrap_or(0));
        assert_eq!(row["exit_code"].as_u64(), Some(code), "{row}");
        assert_eq!(
            row["state"],
            if code == 0 { "COMPLETED" } else { "FAILED" },
            "{row}"
        );
        assert_eq!(row["restarts"], 0, "{row}");
        let task = format!(
            "{job}_{}",
            index.map_or_else(|| "x".to_owned(), |index| index.to_string())
        );
        assert!(tasks_ended.insert(task), "twice in the history: {row}");
    }
    let mut ran: Vec<&str> = lines.lines().collect();
    ran.sort_unstable();
    assert_eq!(
        ran,
        tasks_ended.iter().map(String::as_str).collect::<Vec<_>>(),
        "what ran, and what is in the history"
    );

    // All that was acknowledged is there.
    for (job, elements) in acknowledged {
        for task in expected_tasks(*job, *elements) {
            assert!(tasks_ended.contains(&task), "acknowledged and lost: {task}");
        }
    }
}

fn expected_tasks(job: u32, elements: u64) -> Vec<String> {
    if elements == 0 {
        return vec![format!("{job}_x")];
    }
    (0..elements)
        .map(|index| format!("{job}_{index}"))
        .collect()
}
