//! `cargo bench --bench throughput`: what a user waits for, measured on a real cluster of one, beside the bare
//! machine and beside `hq` and `sbatch` where those are on PATH, in the same run.
//!
//! The machine is noisy: compare ratios within one run. `HPC_BENCH_ELEMENTS` sets the size of the arrays (2000),
//! `HPC_BENCH_SUBMITS` the number of sequential submissions (200). The zero-worker part drives the controller's
//! core and the store in this process, with ends that no process stands behind: our own cost per task.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program that measures and prints"
)]

#[path = "throughput/others.rs"]
mod others;
#[path = "throughput/slow_disk.rs"]
mod slow_disk;
#[path = "throughput/zero_worker.rs"]
mod zero_worker;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const HPC: &str = env!("CARGO_BIN_EXE_hpc");

fn number(name: &str, default: u32) -> u32 {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

/// Runs to the end and says how long that took; a failure ends the bench.
fn timed(program: &str, arguments: &[&str], state: &Path) -> Duration {
    let begin = Instant::now();
    let output = Command::new(program)
        .args(arguments)
        .env("HPC_STATE_DIR", state)
        .current_dir(
            state
                .parent()
                .expect("the state directory lies in a scratch one"),
        )
        .stdin(Stdio::null())
        .output()
        .expect("the program starts");
    let took = begin.elapsed();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    took
}

fn ms(took: Duration) -> f64 {
    took.as_secs_f64() * 1000.0
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn rate(count: u32, took: Duration) -> f64 {
    f64::from(count) / took.as_secs_f64()
}

/// `true` started and awaited, two at a time, as two slots do.
fn bare_spawns(count: u32) -> f64 {
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..count / 2 {
                    let status = Command::new("/bin/true").stdout(Stdio::null()).status();
                    assert!(status.is_ok_and(|status| status.success()));
                }
            });
        }
    });
    rate(count, begin.elapsed())
}

fn rss_kib(pid: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|rest| rest.split_whitespace().next())
        .and_then(|text| text.parse().ok())
        .unwrap_or(0)
}

fn cpu_ms(pid: &str) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after = stat.rsplit(')').next().unwrap_or_default();
    let fields: Vec<u64> = after
        .split_whitespace()
        .filter_map(|field| field.parse().ok())
        .collect();
    // The state letter does not parse, so utime and stime are the 11th and 12th numbers.
    fields.iter().skip(10).take(2).sum::<u64>() * 10
}

fn pid(state: &Path, file: &str) -> String {
    std::fs::read_to_string(state.join(file))
        .unwrap_or_default()
        .trim()
        .to_owned()
}

/// A controller alone, started as `hq server start` is, until a client had an answer.
fn start_of_controller(scratch: &Path) -> f64 {
    let state = scratch.join("start");
    std::fs::create_dir_all(&state).expect("a state directory");
    let status = || {
        Command::new(HPC)
            .arg("status")
            .env("HPC_STATE_DIR", &state)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    };
    // Later starts are meant: the first makes the store.
    let starts: Vec<f64> = (0..5)
        .map(|_| {
            let begin = Instant::now();
            let mut controller = Command::new(HPC)
                .arg("controller")
                .env("HPC_STATE_DIR", &state)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("a controller starts");
            while !status() {}
            let took = ms(begin.elapsed());
            timed(HPC, &["down", "--yes"], &state);
            let _ = controller.wait();
            took
        })
        .collect();
    median(starts[1..].to_vec())
}

fn main() {
    if slow_disk::be_the_controller() {
        return;
    }
    let scratch = std::env::temp_dir().join(format!("hpc-bench-throughput-{}", std::process::id()));
    let state = scratch.join("state");
    std::fs::create_dir_all(&scratch).expect("a scratch directory");
    let run = |arguments: &[&str]| timed(HPC, arguments, &state);
    let elements = number("HPC_BENCH_ELEMENTS", 2000);
    let submits = number("HPC_BENCH_SUBMITS", 200);

    let start = start_of_controller(&scratch);
    println!(
        "start to first answer          {start:8.1} ms (controller); {:.1} ms (`hpc up`, with an agent)",
        ms(run(&["up", "--detach"]) + run(&["status"]))
    );
    let controller = pid(&state, "controller/controller.pid");
    let single: Vec<f64> = (0..15)
        .map(|_| ms(run(&["submit", "--wait", "-o", "/dev/null", "--", "true"])))
        .collect();
    println!(
        "submit to end, one no-op       {:8.1} ms (median of 15)",
        median(single)
    );

    let array = format!("1-{elements}");
    let (mut ours, mut bare, mut cost) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..3 {
        bare.push(bare_spawns(elements));
        let before = cpu_ms(&controller);
        let took = run(&[
            "submit",
            "--wait",
            "-o",
            "/dev/null",
            "-a",
            &array,
            "--",
            "true",
        ]);
        ours.push(rate(elements, took));
        #[allow(clippy::cast_precision_loss, reason = "milliseconds of one run")]
        cost.push((cpu_ms(&controller) - before) as f64 * 1000.0 / f64::from(elements));
    }
    let (ours, bare) = (median(ours), median(bare));
    println!(
        "no-op array tasks              {ours:8.0} /s; bare spawns {bare:.0} /s; ratio {:.2}",
        ours / bare
    );
    println!(
        "controller cpu in that         {:8.0} us a task",
        median(cost)
    );

    let before = rss_kib(&controller);
    let begin = Instant::now();
    for at in 0..submits {
        run(&[
            "submit",
            "--hold",
            "-J",
            &format!("job{at}"),
            "-o",
            "/dev/null",
            "--",
            "true",
        ]);
    }
    println!(
        "sequential submits             {:8.0} /s",
        rate(submits, begin.elapsed())
    );
    let many = 10_000u32.saturating_sub(submits);
    let script = "i=0; while [ $i -lt \"$1\" ]; do \"$2\" submit --hold -J pending$i -- true; i=$((i+1)); done";
    if number("HPC_BENCH_PENDING", 1) == 1 {
        timed(
            "/bin/sh",
            &["-c", script, "sh", &many.to_string(), HPC],
            &state,
        );
        let grown = rss_kib(&controller).saturating_sub(before);
        println!(
            "memory per pending job         {:8.0} B ({grown} KiB for 10,000)",
            f64::from(u32::try_from(grown).unwrap_or(0)) * 1024.0 / 10_000.0
        );
        let queue: Vec<f64> = (0..9).map(|_| ms(run(&["queue"]))).collect();
        println!(
            "queue with 10,000 jobs         {:8.1} ms (median of 9)",
            median(queue)
        );
        run(&["down", "--keep-jobs"]);
        println!(
            "restart with 10,000 pending    {:8.1} ms to the first answer",
            ms(run(&["up", "--detach"]) + run(&["status"]))
        );
    }
    let controller = pid(&state, "controller/controller.pid");
    let before = rss_kib(&controller);
    println!(
        "submit an array of 1,000,000   {:8.1} ms",
        ms(run(&["submit", "--hold", "-a", "1-1000000", "--", "true"]))
    );
    println!(
        "  its memory                   {:8} KiB",
        rss_kib(&controller).saturating_sub(before)
    );
    println!(
        "queue -n of that array         {:8.1} ms",
        ms(run(&["queue", "-n", "true"]))
    );
    let (agent, idle) = (pid(&state, "worker/agent.pid"), Duration::from_secs(10));
    let before = cpu_ms(&controller) + cpu_ms(&agent);
    std::thread::sleep(idle);
    println!(
        "idle cpu of controller + agent {:8} ms in {} s",
        cpu_ms(&controller) + cpu_ms(&agent) - before,
        idle.as_secs()
    );
    run(&["down", "--yes"]);
    zero_worker::measure(&scratch);
    slow_disk::measure(elements, ours, &scratch);
    others::measure(elements, submits, &scratch);
    std::fs::remove_dir_all(&scratch).expect("the scratch directory can be removed");
}
