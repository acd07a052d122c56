//! `hpc alloc`: hold an allocation while a command runs here.
//!
//! The command belongs to the allocation: it gets the environment and the directory that a job would, what ends
//! us is passed on to it, and the allocation is given back only when it has gone.

use super::attached::SAY_WAITING;
use super::connection::{Connection, RECONNECT, Target, unexpected};
use super::draft::{Blobs, Draft, Program};
use super::exit::{self, Failure, Outcome};
use super::job_options::{self, ALLOC, Setting};
use super::script::title_of;
use super::submit::{augment, queue, settings, would_run};
use super::{Verb, launchers, modes, paths, submit, surroundings};
use crate::model::job::{JobSpec, JobState};
use crate::sys::reap;
use crate::sys::signals::Signals;
use crate::wire::client::{Request, ToClient};
use anyhow::Context;
use clap::{ArgMatches, Args, Command, FromArgMatches};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid, waitpid};
use nix::unistd::Pid;
use std::env;
use std::ffi::OsString;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{self, Child, ExitStatus};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// Between losing the allocation, or being told to end, and being made to.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long ranks without a launcher have to end by themselves, and the end of their allocation to be known.
const RANKS_PATIENCE: Duration = Duration::from_secs(2);
/// Between two looks at them.
const LOOK: Duration = Duration::from_millis(20);
/// Where the cluster is: what lets `hpc run` inside find it, whatever `--export` says.
const CLUSTER_VARIABLES: [&[u8]; 3] = [b"HPC_CONTROLLER", b"HPC_SOCKET", b"HPC_STATE_DIR"];

/// Arguments of `hpc alloc`: the table of job options, then a command.
#[derive(Debug)]
pub(super) struct Alloc {
    settings: Vec<Setting>,
    words: Vec<String>,
}

impl Verb for Alloc {
    fn run(self, target: &Target) -> Outcome {
        let mut given = Draft::default();
        job_options::apply(
            &mut given,
            job_options::from_variables(ALLOC, |name| env::var(name).ok())?,
        )?;
        job_options::apply(&mut given, self.settings)?;
        let words = if self.words.is_empty() {
            vec![shell()]
        } else {
            self.words
        };
        let title = if words.len() == 1 && words[0] == shell() {
            "interactive".to_owned()
        } else {
            title_of(&words[0])
        };
        let (spec, blobs) = given.build(Program::Hold, &title, &words.join(" "))?;
        if given.dry_run || given.test_only {
            return would_run(target, "alloc", &given, spec, blobs);
        }
        let mut command = command(&words, &given, target)?;
        let job = queue(target, spec, blobs)?;
        let held = Held {
            target,
            job,
            verb: "alloc",
            quiet: given.quiet,
        };
        let (connection, environment) = held.granted()?;
        // Until the command has gone.
        let _files = match launchers::prepare(job, &environment, &mut command) {
            Ok(files) => Some(files),
            Err(error) => {
                held.say(&format!("mpirun will not know its hosts: {error:#}"));
                None
            }
        };
        command.envs(environment);
        held.run(&words[0], command, connection)
    }
}

/// The user's shell.
fn shell() -> String {
    paths::variable("SHELL").map_or_else(
        || "/bin/sh".into(),
        |shell| shell.to_string_lossy().into_owned(),
    )
}

/// The command, where and with what a job of this request would start; nothing of a job around us.
fn command(words: &[String], given: &Draft, target: &Target) -> Outcome<process::Command> {
    let ours = surroundings::environment();
    let cluster = ours
        .iter()
        .filter(|(name, _)| CLUSTER_VARIABLES.contains(&name.as_slice()))
        .cloned()
        .collect::<Vec<_>>();
    let passed = given.export.clone().unwrap_or_default().apply(ours);
    // It starts with the signals blocked that we block; this mode of ours opens them again.
    let mut command = process::Command::new("/proc/self/exe");
    command
        .arg(modes::EXEC)
        .args(words)
        .current_dir(given.directory()?)
        .env_clear()
        .envs(
            cluster
                .into_iter()
                .chain(passed)
                .map(|(name, value)| (OsString::from_vec(name), OsString::from_vec(value))),
        );
    if let Some(address) = target.address()? {
        command.env("HPC_CONTROLLER", address);
    }
    Ok(command)
}

/// A queued allocation that is ours to hold.
pub(super) struct Held<'a> {
    target: &'a Target,
    job: u32,
    /// Our command, for messages.
    verb: &'static str,
    quiet: bool,
}

impl<'a> Held<'a> {
    /// Queues the allocation that a run makes for a step of its own.
    pub(super) fn of_run(
        target: &'a Target,
        given: &Draft,
        spec: JobSpec,
        blobs: Blobs,
    ) -> Outcome<Self> {
        let job = queue(target, spec, blobs)?;
        Ok(Held {
            target,
            job,
            verb: "run",
            quiet: given.quiet,
        })
    }

    /// Waits for the allocation and runs a step in it.
    pub(super) fn run_step(self, words: &[String], given: &Draft) -> Outcome {
        let mut command = command(words, given, self.target)?;
        let (granted, is_granted) = mpsc::channel::<()>();
        let (job, quiet) = (self.job, self.quiet);
        let waiting = thread::spawn(move || {
            if is_granted.recv_timeout(SAY_WAITING) == Err(mpsc::RecvTimeoutError::Timeout)
                && !quiet
            {
                eprintln!("hpc run: job {job} queued and waiting for resources");
            }
        });
        let outcome = self.granted();
        drop(granted);
        // It has nothing left to do but to see that.
        let _ = waiting.join();
        let (connection, environment) = outcome?;
        command.envs(environment);
        self.run("hpc run", command, connection)
    }

    /// What is said of an allocation that the user has asked for; a run's goes without saying.
    fn say(&self, text: &str) {
        if !self.quiet && self.verb == "alloc" {
            eprintln!("hpc alloc: {text}");
        }
    }

    /// Waits for the grant; what the command's environment gets.
    fn granted(&self) -> Outcome<(Connection, Vec<(String, String)>)> {
        let request = Request::HoldAllocation { job: self.job };
        self.say(&format!("Pending job allocation {}", self.job));
        let mut answers = self.target.request(&request)?;
        loop {
            match answers.answer() {
                Ok(ToClient::Started { environment, .. }) => {
                    self.say(&format!("Granted job allocation {}", self.job));
                    return Ok((answers, environment));
                }
                Ok(ToClient::Ended { state, code, .. }) => {
                    self.say(&format!(
                        "job {} ended {state} before it was granted",
                        self.job
                    ));
                    return Err(Failure::Other(anyhow::anyhow!(
                        "there is no allocation (code {code})"
                    )));
                }
                Ok(ToClient::Done { .. }) => {}
                Ok(other) => return Err(unexpected(&other)),
                Err(Failure::Lost(_)) => {
                    answers = self.target.request_again(&request)?;
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    /// Runs the command, then gives the allocation back.
    fn run(&self, name: &str, mut command: process::Command, connection: Connection) -> Outcome {
        // Set before the command starts, so that no signal ends us and leaves it behind.
        let signals = Signals::new(&WATCHED)?;
        // A launcher that ends leaves its ranks to us, and not to the first process of the machine.
        let _ = reap::set_child_subreaper();
        let child = match command
            .spawn()
            .with_context(|| format!("cannot run {name}"))
        {
            Ok(child) => child,
            Err(error) => {
                self.end(127);
                return Err(error.into());
            }
        };
        let (ended, has_ended) = mpsc::channel::<JobState>();
        let code = self.watch(child, &signals, connection, ended)?;
        self.end(code);
        hang_up(&has_ended);
        Ok(code)
    }

    /// Waits for the command while another thread watches the allocation, and says how that has ended.
    fn watch(
        &self,
        mut child: Child,
        signals: &Signals,
        connection: Connection,
        ended: mpsc::Sender<JobState>,
    ) -> Outcome {
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX));
        let (done, is_done) = mpsc::channel::<()>();
        let (target, job, quiet, verb) = (self.target.clone(), self.job, self.quiet, self.verb);
        // It ends with the process at the latest: a blocked read holds nothing up.
        thread::spawn(move || {
            let state = hold(&target, job, connection);
            let Some(state) = state else { return };
            let _ = ended.send(state);
            if is_done.try_recv() == Err(mpsc::TryRecvError::Disconnected) {
                return;
            }
            if !quiet {
                eprintln!("hpc {verb}: Job allocation {job} has been revoked: {state}");
            }
            // As when a terminal closes; then as at a time limit.
            let _ = kill(pid, Signal::SIGHUP);
            if is_done.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
                let _ = kill(pid, Signal::SIGKILL);
            }
        });
        let code = wait(&mut child, pid, signals)?;
        drop(done);
        Ok(code)
    }

    /// Gives the allocation back; the command's code is what remains of it.
    fn end(&self, code: u8) {
        self.say(&format!("Relinquishing job allocation {}", self.job));
        let request = Request::EndAllocation {
            job: self.job,
            code,
        };
        let answer = self
            .target
            .request_patiently(&request, Instant::now() + RECONNECT)
            .and_then(|mut answers| answers.answer());
        // The allocation also ends without us, and then there is nothing to give back.
        if let Err(failure @ (Failure::Unreachable(_) | Failure::Lost(_))) = answer {
            eprintln!("hpc {}: {failure}", self.verb);
        }
    }
}

/// What the command has left behind hears of an allocation that was taken away as if a terminal had closed, and what means
/// to stay, stays, as it does there. But a rank whose launcher has ended waits for the others for ever, and Open MPI 5 has
/// its ranks take no notice of that signal: they end all the same.
fn hang_up(has_ended: &mpsc::Receiver<JobState>) {
    let own = i32::try_from(process::id()).unwrap_or(i32::MAX);
    let until = Instant::now() + RANKS_PATIENCE;
    let state = loop {
        while reap::wait_any_nohang().is_some() {}
        if reap::descendants(own).is_empty() || Instant::now() >= until {
            return;
        }
        match has_ended.recv_timeout(LOOK) {
            Ok(state) => break state,
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => return,
        }
    };
    if !matches!(state, JobState::Completed | JobState::Failed) {
        for pid in reap::descendants(own) {
            // Gone already is as good.
            let _ = kill(Pid::from_raw(pid), Signal::SIGHUP);
            let _ = kill(Pid::from_raw(pid), Signal::SIGCONT);
        }
        end_ranks(own);
    }
}

/// Ends what a launcher has started as a rank and left to us.
fn end_ranks(own: i32) {
    let names = ["PMIX_RANK", "PMI_RANK"];
    let is_rank = |pid: &i32| {
        let mut names = names.into_iter();
        names.any(|name| reap::read_environ_marker(*pid, name).is_some())
    };
    let until = Instant::now() + RANKS_PATIENCE;
    loop {
        while reap::wait_any_nohang().is_some() {}
        let mut ranks = reap::descendants(own);
        ranks.retain(is_rank);
        if ranks.is_empty() {
            return;
        }
        if Instant::now() >= until {
            for pid in ranks {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            return;
        }
        thread::sleep(LOOK);
    }
}

/// Keeps the allocation's connection until it ends, across restarts of the controller; how it ended.
fn hold(target: &Target, job: u32, mut connection: Connection) -> Option<JobState> {
    loop {
        match connection.answer() {
            Ok(ToClient::Ended { state, .. }) => return Some(state),
            Ok(_) => {}
            Err(Failure::Lost(_)) => {
                let request = Request::HoldAllocation { job };
                connection = target.request_again(&request).ok()?;
            }
            Err(_) => return None,
        }
    }
}

/// Signals that we wait for or keep from ourselves while the command runs. Those of the terminal's keys reach the
/// command without us.
const WATCHED: [Signal; 8] = [
    Signal::SIGCHLD,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTSTP,
];

/// Waits for the command, passing signals on; after one that ends us it has a bounded time. Its code, or the signal's.
fn wait(child: &mut Child, pid: Pid, signals: &Signals) -> Outcome {
    let mut told: Option<(Signal, Instant)> = None;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(told.map_or_else(|| code_of(status), |(signal, _)| exit::of_signal(signal)));
        }
        collect_orphans(pid);
        let timeout = match told {
            Some((_, when)) => {
                let left = (when + PATIENCE).saturating_duration_since(Instant::now());
                if left.is_zero() {
                    child.kill()?;
                }
                // Killed, it leaves at once, but for the kernel's own waits.
                PollTimeout::try_from(left.max(Duration::from_millis(50)))
                    .unwrap_or(PollTimeout::MAX)
            }
            None => PollTimeout::NONE,
        };
        let mut waiting = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        // Interrupted or not, the loop looks at everything.
        let _ = poll(&mut waiting, timeout);
        while let Some(caught) = signals.read()? {
            match caught.signal {
                signal @ (Signal::SIGTERM | Signal::SIGHUP) => {
                    told.get_or_insert((signal, Instant::now()));
                    // Gone already is as good, here and below.
                    let _ = kill(pid, signal);
                }
                signal @ (Signal::SIGUSR1 | Signal::SIGUSR2) => {
                    let _ = kill(pid, signal);
                }
                _ => {}
            }
        }
    }
}

/// Takes leave of ended processes that the command has left to us; its own end is not taken.
fn collect_orphans(command: Pid) {
    let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    while let Ok(status) = waitid(Id::All, look) {
        match status.pid() {
            Some(pid) if pid != command => {
                let _ = waitpid(pid, Some(WaitPidFlag::WNOHANG));
            }
            _ => return,
        }
    }
}

fn code_of(status: ExitStatus) -> u8 {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok())
        .unwrap_or(exit::REFUSED)
}

impl FromArgMatches for Alloc {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Alloc {
            settings: settings(matches, ALLOC)?,
            words: submit::words(matches),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for Alloc {
    fn augment_args(command: Command) -> Command {
        let command = command
            .about("Hold an allocation while a command, or a shell, runs here")
            .after_help(
                "`hpc run` inside starts tasks on the allocated nodes.\n\n\
             Examples:\n  hpc alloc -n 8 -t 1:00:00\n  hpc alloc --gpus 1 make check",
            );
        augment(
            command,
            ALLOC,
            "COMMAND [ARGS]",
            "Command and its arguments; none = your shell",
        )
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}
