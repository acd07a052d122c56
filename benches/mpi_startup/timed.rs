//! A command with a deadline, to the millisecond; and medians.

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use std::fmt;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

pub(super) enum Outcome {
    Took(Duration),
    Failed(String),
    Endless(Duration),
}

impl fmt::Display for Outcome {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Took(time) => write!(out, "took {time:.1?}"),
            Outcome::Failed(why) => write!(out, "failed: {why}"),
            Outcome::Endless(limit) => write!(out, "did not end within {limit:?}"),
        }
    }
}

/// From just before it starts until it has ended. Whoever waits is asleep meanwhile.
pub(super) fn timed(command: &mut Command, limit: Duration) -> Outcome {
    command
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let begun = Instant::now();
    let mut child = command.spawn().expect("the program starts");
    let group = Pid::from_raw(child.id().try_into().expect("a process number"));
    let mut stderr = child.stderr.take().expect("a pipe");
    let (ended, watched) = mpsc::channel::<()>();
    let watch = std::thread::spawn(move || {
        let late = watched.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Timeout);
        if late {
            let _ = killpg(group, Signal::SIGKILL);
        }
        late
    });
    // What it says is read beside it, so that it never waits for us.
    let words = std::thread::spawn(move || {
        let mut said = [0; 4096];
        let (mut text, mut bytes) = (Vec::new(), 1);
        while bytes > 0 {
            bytes = stderr.read(&mut said).unwrap_or(0);
            text.extend(
                said[..bytes]
                    .iter()
                    .take(4096usize.saturating_sub(text.len())),
            );
        }
        String::from_utf8_lossy(&text).into_owned()
    });
    let status = child.wait().expect("our own child");
    let took = begun.elapsed();
    drop(ended);
    if watch.join().unwrap_or(true) {
        return Outcome::Endless(limit);
    }
    if status.success() {
        return Outcome::Took(took);
    }
    // A launcher may have left somebody who holds the pipe.
    let _ = killpg(group, Signal::SIGKILL);
    let said = words.join().unwrap_or_default();
    let line = said
        .lines()
        .find(|line| line.len() > 10)
        .unwrap_or_default();
    Outcome::Failed(format!("{status}: {line}"))
}

/// Ends every process of this program, wherever: a launcher that was killed leaves those on other machines.
pub(super) fn sweep(program: &str) {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    for pid in pids {
        let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        if words
            .split(|byte| *byte == 0)
            .any(|word| word == program.as_bytes())
        {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

/// The last words of a command, as somebody would type them.
pub(super) fn line(command: &Command) -> String {
    let words: Vec<_> = command
        .get_args()
        .map(|word| word.to_string_lossy())
        .collect();
    let from = words.len().saturating_sub(5);
    format!("... {}", words[from..].join(" "))
}

pub(super) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}
