//! `hpc alloc`: hold an allocation while a command runs here.

use super::connection::{Connection, RECONNECT, Target, unexpected};
use super::draft::{Draft, Program};
use super::exit::{self, Failure, Outcome};
use super::job_options::{self, ALLOC, Setting};
use super::script::title_of;
use super::submit::{augment, queue, settings, would_run};
use super::{Verb, paths, submit};
use crate::model::job::JobState;
use crate::wire::client::{Request, ToClient};
use anyhow::Context;
use clap::{ArgMatches, Args, Command, FromArgMatches};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;
use std::env;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// Between losing the allocation and being made to end.
const AFTER_REVOKED: Duration = Duration::from_secs(30);

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
            job_options::from_variables(ALLOC, |name| env::var(name).ok()),
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
        let job = queue(target, spec, blobs)?;
        let held = Held {
            target,
            job,
            quiet: given.quiet,
        };
        let (connection, environment) = held.granted()?;
        held.run(&words, environment, connection)
    }
}

/// The user's shell.
fn shell() -> String {
    paths::variable("SHELL").map_or_else(
        || "/bin/sh".into(),
        |shell| shell.to_string_lossy().into_owned(),
    )
}

/// A queued allocation that is ours to hold.
struct Held<'a> {
    target: &'a Target,
    job: u32,
    quiet: bool,
}

impl Held<'_> {
    fn say(&self, text: &str) {
        if !self.quiet {
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
    fn run(
        &self,
        words: &[String],
        environment: Vec<(String, String)>,
        connection: Connection,
    ) -> Outcome {
        let child = std::process::Command::new(&words[0])
            .args(&words[1..])
            .envs(environment)
            .spawn();
        let child = match child.with_context(|| format!("cannot run {}", words[0])) {
            Ok(child) => child,
            Err(error) => {
                self.end(127);
                return Err(error.into());
            }
        };
        ignore_terminal_signals();
        let code = self.watch(child, connection)?;
        self.end(code);
        Ok(code)
    }

    /// Waits for the command while another thread watches the allocation.
    fn watch(&self, mut child: Child, connection: Connection) -> Outcome {
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX));
        let (done, is_done) = mpsc::channel::<()>();
        let (target, job, quiet) = (self.target.clone(), self.job, self.quiet);
        // It ends with the process at the latest: a blocked read holds nothing up.
        thread::spawn(move || {
            let state = hold(&target, job, connection);
            let Some(state) = state else { return };
            if is_done.try_recv() == Err(mpsc::TryRecvError::Disconnected) {
                return;
            }
            if !quiet {
                eprintln!("hpc alloc: Job allocation {job} has been revoked: {state}");
            }
            // As when a terminal closes; then as at a time limit.
            let _ = kill(pid, Signal::SIGHUP);
            if is_done.recv_timeout(AFTER_REVOKED) == Err(mpsc::RecvTimeoutError::Timeout) {
                let _ = kill(pid, Signal::SIGKILL);
            }
        });
        let status = child.wait()?;
        drop(done);
        Ok(code_of(status))
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
            eprintln!("hpc alloc: {failure}");
        }
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

/// They are for the command, which has the terminal.
fn ignore_terminal_signals() {
    let mut set = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTSTP] {
        set.add(signal);
    }
    // Without it a Ctrl-C ends us and with us the allocation: unpleasant, not wrong.
    let _ = set.thread_block();
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
