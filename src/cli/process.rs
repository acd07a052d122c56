//! The controller and agent processes of a state directory: start them, find them, end them.
//!
//! They are this same program in another mode, in sessions of their own, their words going to a log file.
//! A pid file alone proves nothing, since numbers are used again: the process must also look like ours.

use super::exit::{Failure, Outcome};
use super::paths::{self, Places};
use crate::sys::files;
use anyhow::Context;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, PipeReader, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `hpc controller`.
    Controller,
    /// `hpc worker`.
    Worker,
}

impl Kind {
    /// Its mode on the command line.
    pub(super) fn word(self) -> &'static str {
        match self {
            Kind::Controller => "controller",
            Kind::Worker => "worker",
        }
    }

    fn log(self, places: &Places) -> std::path::PathBuf {
        match self {
            Kind::Controller => places.controller_log(),
            Kind::Worker => places.worker_log(),
        }
    }

    fn pid_file(self, places: &Places) -> std::path::PathBuf {
        match self {
            Kind::Controller => places.controller_pid(),
            Kind::Worker => places.worker_pid(),
        }
    }
}

/// One that was started and has not said yet that it is ready.
pub(super) struct Starting {
    kind: Kind,
    /// The process; ours to wait for.
    pub(super) child: Child,
    ready: PipeReader,
    log: std::path::PathBuf,
    log_start: u64,
}

/// Starts one with these further arguments.
pub(super) fn start(kind: Kind, places: &Places, arguments: &[OsString]) -> Outcome<Starting> {
    let log = kind.log(places);
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o640)
        .open(&log)
        .with_context(|| format!("cannot write to {}", log.display()))?;
    let log_start = file.seek(SeekFrom::End(0)).unwrap_or(0);
    let (ready, ready_writer) = io::pipe().context("cannot make a pipe")?;
    fcntl(&ready_writer, FcntlArg::F_SETFD(FdFlag::empty()))
        .map_err(io::Error::from)
        .context("cannot hand a pipe on")?;
    let program = files::own_program().context("cannot find this program")?;
    let errors = file.try_clone().context("cannot write to the log twice")?;
    let child = Command::new(&program)
        .arg(kind.word())
        .arg("--own-session")
        .arg("--state-dir")
        .arg(&places.state)
        .arg("--socket")
        .arg(&places.socket)
        .arg("--ready-fd")
        .arg(ready_writer.as_raw_fd().to_string())
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(file)
        .stderr(errors)
        // They belong to no directory of the caller's, which may be unmounted or removed.
        .current_dir("/")
        .spawn()
        .with_context(|| format!("cannot start {} {}", program.display(), kind.word()))?;
    drop(ready_writer);
    Ok(Starting {
        kind,
        child,
        ready,
        log,
        log_start,
    })
}

impl Starting {
    /// Waits for its word until the deadline; the running process.
    pub(super) fn wait_ready(mut self, deadline: Instant) -> Outcome<Child> {
        let mut byte = [0];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
            let mut waiting = [PollFd::new(self.ready.as_fd(), PollFlags::POLLIN)];
            match poll(&mut waiting, timeout) {
                Ok(0) => return Err(self.failed("is not ready in time")),
                Ok(_) => {}
                Err(nix::errno::Errno::EINTR) => continue,
                Err(error) => return Err(io::Error::from(error).into()),
            }
            return match self.ready.read(&mut byte) {
                Ok(0) => {
                    let _ = self.child.wait();
                    Err(self.failed("ended while starting"))
                }
                Ok(_) => Ok(self.child),
                Err(error) => Err(error.into()),
            };
        }
    }

    fn failed(&self, what: &str) -> Failure {
        let said = last_words(&self.log, self.log_start);
        let said = if said.is_empty() {
            format!("its log is {}", self.log.display())
        } else {
            said
        };
        Failure::Other(anyhow::anyhow!("the {} {what}: {said}", self.kind.word()))
    }
}

/// What a process wrote to its log since it was started, at most the last lines.
fn last_words(log: &Path, start: u64) -> String {
    let read = || -> io::Result<String> {
        let mut file = File::open(log)?;
        let length = file.seek(SeekFrom::End(0))?;
        file.seek(SeekFrom::Start(start.max(length.saturating_sub(4096))))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(5)..].join("\n  ")
}

/// The running process of a state directory, if there is one.
pub(super) fn running(kind: Kind, places: &Places) -> Option<Pid> {
    let text = fs::read_to_string(kind.pid_file(places)).ok()?;
    let pid: i32 = text
        .split_whitespace()
        .next()?
        .parse()
        .ok()
        .filter(|pid| *pid > 1)?;
    is_ours(pid, kind, &places.state).then(|| Pid::from_raw(pid))
}

/// Whether a process is `hpc KIND` of this state directory.
fn is_ours(pid: i32, kind: Kind, state: &Path) -> bool {
    let Ok(line) = fs::read(format!("/proc/{pid}/cmdline")) else {
        return false;
    };
    let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
    let state = state.as_os_str().as_encoded_bytes();
    if words
        .get(1)
        .is_none_or(|word| *word != kind.word().as_bytes())
    {
        return false;
    }
    let named = |word: &&[u8]| word.starts_with(b"--state-dir");
    words.contains(&state) || !words.iter().any(named) && is_started_for(pid, state)
}

/// Whether a process has this state directory by its environment, or the default one.
fn is_started_for(pid: i32, state: &[u8]) -> bool {
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    let variable = environment
        .split(|byte| *byte == 0)
        .find_map(|line| line.strip_prefix(b"HPC_STATE_DIR="));
    match variable {
        Some(named) => named == state,
        None => paths::default_state()
            .is_ok_and(|default| default.as_os_str().as_encoded_bytes() == state),
    }
}

/// Waits until it is gone; whether it is.
pub(super) fn wait_gone(kind: Kind, places: &Places, pid: Pid, patience: Duration) -> bool {
    let deadline = Instant::now() + patience;
    let mut pause = Duration::from_millis(2);
    while is_ours(pid.as_raw(), kind, &places.state) {
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
    true
}

/// Asks it to end, and makes it after a while.
pub(super) fn end(kind: Kind, places: &Places, pid: Pid) {
    // Gone already is as good.
    let _ = kill(pid, Signal::SIGTERM);
    if !wait_gone(kind, places, pid, Duration::from_secs(5)) {
        let _ = kill(pid, Signal::SIGKILL);
        wait_gone(kind, places, pid, Duration::from_secs(5));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_used_again_is_not_taken_for_ours() {
        let dir = tempfile::tempdir().unwrap();
        let places = Places {
            state: dir.path().to_owned(),
            socket: dir.path().join("hpc.sock"),
        };
        assert_eq!(running(Kind::Worker, &places), None);
        fs::create_dir(places.worker_dir()).unwrap();
        fs::write(places.worker_pid(), format!("{}\n", std::process::id())).unwrap();
        assert_eq!(running(Kind::Worker, &places), None);
        fs::write(places.worker_pid(), "garbage").unwrap();
        assert_eq!(running(Kind::Worker, &places), None);
    }

    #[test]
    fn the_last_words_are_those_since_the_start() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "old\nnew 1\nnew 2\n").unwrap();
        assert_eq!(last_words(file.path(), 4), "new 1\n  new 2");
        assert_eq!(last_words(Path::new("/no/such"), 0), "");
    }
}
