//! `hpc down`: stop what `hpc up` started.

use super::connection::{Target, unexpected};
use super::exit::{self, Failure, Outcome};
use super::output::words;
use super::paths::{self, Places};
use super::process::{self, Kind};
use super::{Verb, output, service, status};
use crate::net::identity::{self, Member};
use crate::wire::client::{Request, ToClient};
use clap::Args;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::signalfd::SignalFd;
use nix::unistd::Pid;
use std::fs;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

/// Jobs get this long to end before we stop waiting for the controller.
const PATIENCE: Duration = Duration::from_secs(120);
/// A worker whose jobs have ended gets this long.
const LEAVE: Duration = Duration::from_secs(25);
/// In the state directory: stopped on purpose, so that a foreground `hpc up` does not start it again.
const MARK: &str = "down";

/// End the jobs of this machine's cluster, and stop its controller and worker
///
/// On a machine that has joined a cluster elsewhere it ends the jobs of this machine and stops its worker.
/// Of systemd's units it stops those that run; they stay enabled and start at the next boot.
/// On a terminal it asks first when jobs run or wait: both end.
///
/// Examples:
///   hpc down
///   hpc down --keep-jobs --state-dir /tmp/lab
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Down {
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// Leave jobs running; the next `hpc up` finds them again. One of `--requeue` is ended when its lease runs out meanwhile, and runs again
    #[arg(long)]
    keep_jobs: bool,
}

impl Verb for Down {
    fn run(self, target: &Target) -> Outcome {
        let places = paths::places(target.state_dir.as_deref())?;
        let target = if target.controller.is_some() {
            target.clone()
        } else {
            Target::at(&places.socket)
        };
        if !self.yes && !self.keep_jobs && !agreed(&target, None)? {
            return Err(Failure::Other(anyhow::anyhow!("nothing was stopped")));
        }
        stop(&target, &places, self.keep_jobs)
    }
}

/// Whether jobs may be ended: asked on a terminal when there are some. A second Ctrl-C means yes.
pub(super) fn agreed(target: &Target, signals: Option<&SignalFd>) -> Outcome<bool> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Ok(true);
    }
    let jobs =
        status::ask(target).map_or((0, 0), |status| (status.jobs_running, status.jobs_pending));
    let Some(question) = question(jobs) else {
        return Ok(true);
    };
    eprint!("{question} Stop? [y/N] ");
    if let Some(signals) = signals {
        let stdin = io::stdin();
        let mut waiting = [
            PollFd::new(stdin.as_fd(), PollFlags::POLLIN),
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
        ];
        poll(&mut waiting, PollTimeout::NONE).map_err(io::Error::from)?;
        if waiting[1].any().unwrap_or(false) {
            eprintln!();
            return Ok(true);
        }
    }
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// What would become of so many running and pending jobs; nothing to say when there are none.
fn question((running, pending): (u64, u64)) -> Option<String> {
    let running =
        (running > 0).then(|| format!("{} would be ended", words::counted(running, "running job")));
    let pending = (pending > 0).then(|| {
        format!(
            "{} would be cancelled",
            words::counted(pending, "pending job")
        )
    });
    let parts: Vec<String> = running.into_iter().chain(pending).collect();
    (!parts.is_empty()).then(|| format!("{}.", parts.join(", ")))
}

/// Stops controller and worker of a state directory, jobs first unless they are kept.
pub(super) fn stop(target: &Target, places: &Places, keep_jobs: bool) -> Outcome {
    if has_joined(places) {
        return leave(places, keep_jobs);
    }
    let pids = [Kind::Worker, Kind::Controller].map(|kind| (kind, process::running(kind, places)));
    if pids.iter().all(|(_, pid)| pid.is_none()) && !target.is_up() {
        // Another user's looks the same to us.
        let private = identity::private_place(&places.state);
        if let Err(error) = fs::read_dir(&private)
            && error.kind() == io::ErrorKind::PermissionDenied
        {
            return Err(paths::unusable(&private, "look into", &error));
        }
        output::line(&format!("nothing runs in {}", places.state.display()))?;
        return Ok(exit::DONE);
    }
    let units = kept_by_systemd(places);
    // Best effort: without it a foreground `hpc up` starts the controller again.
    let _ = fs::write(places.state.join(MARK), b"");
    let mut ended = false;
    match target.ask(&Request::Shutdown { keep_jobs }) {
        Ok(ToClient::Done { notes, .. }) => {
            notes.iter().for_each(|note| eprintln!("{note}"));
            ended = !keep_jobs;
        }
        Ok(other) => return Err(unexpected(&other)),
        // It may close the connection instead of an answer.
        Err(Failure::Lost(_)) => {}
        Err(Failure::Unreachable(_)) if keep_jobs => {}
        Err(Failure::Unreachable(_)) => {
            eprintln!(
                "hpc down: the controller does not answer: jobs that run are left running, the next `hpc up` finds them"
            );
        }
        Err(failure) => {
            unmark(&places.state);
            return Err(failure);
        }
    }
    let [(_, worker), (_, controller)] = pids;
    if let Some(pid) = controller
        && !process::wait_gone(Kind::Controller, places, pid, PATIENCE)
    {
        process::end(Kind::Controller, places, pid);
    }
    if let Some(pid) = worker {
        if ended {
            // The jobs have ended, but that their slots are closed may not have reached it.
            take_leave(places, pid, LEAVE);
        }
        process::end(Kind::Worker, places, pid);
    }
    stop_units(&units)
}

/// Has a worker close what slots it has, and waits until it is gone.
fn take_leave(places: &Places, worker: Pid, patience: Duration) {
    // Gone already is as good.
    let _ = kill(worker, Signal::SIGUSR1);
    process::wait_gone(Kind::Worker, places, worker, patience);
}

/// Which of our processes systemd would start again.
fn kept_by_systemd(places: &Places) -> Vec<Kind> {
    let kept = |kind: &Kind| {
        process::running(*kind, places).is_some_and(|pid| service::keeps(*kind, places, pid))
    };
    [Kind::Worker, Kind::Controller]
        .into_iter()
        .filter(kept)
        .collect()
}

/// Tells systemd that they ended on purpose.
fn stop_units(units: &[Kind]) -> Outcome {
    for kind in units {
        service::stop(*kind)?;
    }
    Ok(exit::DONE)
}

/// Whether this state directory is that of a worker whose controller is elsewhere.
fn has_joined(places: &Places) -> bool {
    matches!(
        Member::open(&places.state, identity::Kind::Node),
        Ok(Some(_))
    )
}

/// Stops the worker of a machine that has joined; its jobs end first, and the controller hears of that, unless they
/// are kept.
fn leave(places: &Places, keep_jobs: bool) -> Outcome {
    let Some(worker) = process::running(Kind::Worker, places) else {
        output::line(&format!("nothing runs in {}", places.state.display()))?;
        return Ok(exit::DONE);
    };
    let units = kept_by_systemd(places);
    // Best effort: without it a foreground `hpc join` starts the worker again.
    let _ = fs::write(places.state.join(MARK), b"");
    if !keep_jobs {
        take_leave(places, worker, PATIENCE);
    }
    process::end(Kind::Worker, places, worker);
    stop_units(&units)
}

/// Whether it was stopped on purpose.
pub(super) fn is_marked(places: &Places) -> bool {
    places.state.join(MARK).exists()
}

/// It is being started again.
pub(super) fn unmark(state: &Path) {
    // Not there is as good.
    let _ = fs::remove_file(state.join(MARK));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_asks_about_running_and_pending_jobs() {
        let asked = |running, pending| question((running, pending)).unwrap_or_default();
        assert_eq!(asked(0, 0), "");
        assert_eq!(asked(1, 0), "1 running job would be ended.");
        assert_eq!(asked(0, 2), "2 pending jobs would be cancelled.");
        assert_eq!(
            asked(2, 1),
            "2 running jobs would be ended, 1 pending job would be cancelled."
        );
    }
}
