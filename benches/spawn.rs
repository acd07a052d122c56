//! How many processes a second one thread can start, run and reap: `cargo bench --bench spawn`.
//!
//! The yardstick of the throughput figure: `hpc` should keep 60 % of this rate while it also schedules, records
//! and supervises. `std::process::Command` (posix_spawn) is measured beside it in the same run.
#![allow(
    clippy::disallowed_methods,
    reason = "a program of its own, outside the library's layers"
)]
#![expect(clippy::print_stdout, reason = "a bench reports to its terminal")]
#![expect(
    clippy::zombie_processes,
    reason = "`rate` waits for every child by its pid"
)]

use std::collections::VecDeque;
use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt;
use std::process::Command;
use std::time::Instant;

use hpc::sys::spawn::{FileUse, SpawnRequest, Stdio, c_strings, spawn};

/// Ours and the comparison take turns, because a shared machine's speed drifts.
const ROUNDS: usize = 7;

fn main() {
    let count = std::env::var("SPAWN_COUNT")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(500_u32);
    let directory = std::env::temp_dir().join(format!("hpc-bench-spawn-{}", std::process::id()));
    std::fs::create_dir(&directory).expect("a scratch directory");
    let environment = c_strings(std::env::vars_os().map(|(name, value)| {
        let mut pair = name;
        pair.push("=");
        pair.push(value);
        pair
    }))
    .expect("no zero bytes in the environment");
    let file = |index: u32| {
        let path = directory.join(format!("out-{index}"));
        CString::new(path.as_os_str().as_bytes()).expect("no zero byte in the path")
    };

    println!(
        "{count} x /bin/true, one parent thread, per second: best (median) of {ROUNDS} rounds"
    );
    for (to_file, in_flight) in [(false, 1), (false, 2), (true, 1), (true, 2)] {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            ours.push(rate(count, in_flight, |index| {
                let path = to_file.then(|| file(index));
                start_ours(&environment, path.as_deref())
            }));
            clean(&directory);
            theirs.push(rate(count, in_flight, |index| {
                let path = to_file.then(|| directory.join(format!("out-{index}")));
                start_std(path.as_deref())
            }));
            clean(&directory);
        }
        let target = if to_file { "new file " } else { "/dev/null" };
        let (ours, theirs) = (summary(ours), summary(theirs));
        println!("  stdout {target}, {in_flight} in flight: hpc {ours}   std {theirs}");
    }
    std::fs::remove_dir_all(&directory).expect("the scratch directory can be removed");
}

/// Processes a second with at most `in_flight` at once; the oldest is waited for.
fn rate(count: u32, in_flight: usize, start: impl Fn(u32) -> i32) -> f64 {
    let mut running = VecDeque::new();
    let begin = Instant::now();
    for index in 0..count {
        running.push_back(start(index));
        if running.len() >= in_flight {
            wait(running.pop_front());
        }
    }
    while !running.is_empty() {
        wait(running.pop_front());
    }
    f64::from(count) / begin.elapsed().as_secs_f64()
}

fn summary(mut rates: Vec<f64>) -> String {
    rates.sort_by(f64::total_cmp);
    let best = rates.last().copied().unwrap_or(0.0);
    format!("{best:5.0} ({:5.0})", rates[rates.len() / 2])
}

fn wait(pid: Option<i32>) {
    let pid = nix::unistd::Pid::from_raw(pid.expect("a process in flight"));
    nix::sys::wait::waitpid(pid, None).expect("our own child");
}

fn start_ours(environment: &[CString], path: Option<&CStr>) -> i32 {
    let arguments = [c"true".to_owned()];
    let mut request = SpawnRequest::new(c"/bin/true", &arguments, environment);
    if let Some(path) = path {
        request.stdout = Stdio::File {
            path,
            usage: FileUse::Truncate,
        };
        request.stderr = Stdio::SameAsStdout;
    }
    spawn(&request).expect("/bin/true starts").pid
}

fn start_std(path: Option<&std::path::Path>) -> i32 {
    let mut command = Command::new("/bin/true");
    command.stdin(std::process::Stdio::null());
    if let Some(path) = path {
        let file = std::fs::File::create(path).expect("a new file");
        command.stderr(file.try_clone().expect("a copy"));
        command.stdout(file);
    } else {
        command.stdout(std::process::Stdio::null());
        command.stderr(std::process::Stdio::null());
    }
    let child = command.spawn().expect("/bin/true starts");
    i32::try_from(child.id()).expect("a pid")
}

fn clean(directory: &std::path::Path) {
    for entry in std::fs::read_dir(directory).expect("the scratch directory") {
        std::fs::remove_file(entry.expect("an entry").path()).expect("a file of ours");
    }
}
