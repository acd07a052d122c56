//! `hpc join` makes this machine a worker of a cluster elsewhere; `hpc login` lets a person speak with one.

use super::connection::Target;
use super::exit::{self, Failure, Outcome};
use super::keeper::{Keeper, START};
use super::modes::{Machine, read_config};
use super::paths::{self, Places};
use super::process::{self, Kind};
use super::{Verb, host_name, output, service};
use crate::model::identity::Identity;
use crate::model::join_line::JoinLine;
use crate::model::refusal::Code;
use crate::net::bridge;
use crate::net::identity::{self, Member};
use crate::net::membership::MembershipError;
use crate::sys::files;
use anyhow::Context;
use clap::Args;
use std::ffi::OsString;
use std::io::BufRead;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

/// Make this machine a worker of a cluster: paste the line that `hpc invite` printed
///
/// Nothing else is needed. Without --detach it stays in the foreground, restarts what dies, and on Ctrl-C ends the jobs
/// of this machine and stops. Where root has installed systemd's units, it enables and starts hpc-worker.service instead
/// and returns. A machine that has joined needs no line to start its worker again.
///
/// Examples:
///   hpc join 10.0.0.5:7420#wkr_...
///   hpc join --detach --cpus 8 10.0.0.5:7420#wkr_...
///   hpc join --detach
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Join {
    /// The line; `-` reads it from standard input. Without one, the worker of a machine that has joined starts again
    #[arg(value_name = "LINE")]
    line: Option<String>,
    /// Look after the worker of a machine that has joined already
    #[arg(long, hide = true, conflicts_with_all = ["line", "detach"])]
    joined: bool,
    /// Return once the machine is known and its worker runs
    #[arg(long, short)]
    detach: bool,
    #[command(flatten)]
    machine: Machine,
    /// Configuration file [env: HPC_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Be known to a cluster elsewhere: paste the line that `hpc invite --role user --user NAME` printed
///
/// From then on commands here speak with that cluster, unless one of this machine is named.
///
/// Examples:
///   hpc login 10.0.0.5:7420#usr_...
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Login {
    /// The line; `-` reads it from standard input
    #[arg(value_name = "LINE")]
    line: String,
}

fn parse(text: &str, wanted: &[&str], other: &str) -> Outcome<JoinLine> {
    let line: JoinLine =
        text.parse()
            .map_err(|error: crate::model::join_line::JoinLineError| {
                Failure::Usage(error.to_string())
            })?;
    if wanted.contains(&line.prefix.as_str()) {
        Ok(line)
    } else {
        Err(Failure::Usage(format!(
            "this invitation ({}_...) is for `hpc {other}`",
            line.prefix
        )))
    }
}

impl From<MembershipError> for Failure {
    fn from(error: MembershipError) -> Self {
        match error {
            MembershipError::Refused(refusal) => refusal.into(),
            MembershipError::Dial(error) => Failure::Unreachable(error.to_string()),
            MembershipError::Broken(_) => Failure::Lost(error.to_string()),
            error => Failure::Other(anyhow::Error::from(error)),
        }
    }
}

impl Verb for Join {
    fn run(self, target: &Target) -> Outcome {
        if self.joined {
            let places = paths::places(target.state_dir.as_deref())?;
            return Keeper::new(places, vec![(Kind::Worker, self.arguments()?)]).watch();
        }
        self.machine.check()?;
        let config = read_config(self.config.as_deref())?;
        self.machine
            .check_reserve(&config, self.config.as_deref())?;
        let places = paths::places(target.state_dir.as_deref())?;
        let Some(text) = &self.line else {
            return self.again(places);
        };
        let line = parse(&read_line(text)?, &["wkr"], "login")?;
        let (mut keeper, as_service) = self.keeper(places)?;
        let lock = keeper.lock()?;
        check_free(&keeper.places)?;
        let name = self.machine.name.clone().unwrap_or_else(host_name);
        // Nodes are known by their short names, as Slurm's.
        let name = name.split('.').next().unwrap_or(&name).to_owned();
        let (kept, path) = bridge::join(&line, &name, &keeper.places.state, identity::Kind::Node)?;
        let node = match &kept.identity {
            Identity::Node(name) => name.clone(),
            Identity::User { .. } => name,
        };
        start(&mut keeper, as_service)?;
        drop(lock);
        output::line(&format!(
            "node {node} has joined cluster {} at {} over {}",
            kept.cluster,
            kept.addresses.first().map_or("", String::as_str),
            path.word()
        ))?;
        self.end(&keeper.places, as_service)
    }
}

/// Starts the worker, or has systemd do it.
fn start(keeper: &mut Keeper, as_service: bool) -> Outcome<()> {
    if as_service {
        service::enable(Kind::Worker)?;
        wait_served(keeper)
    } else {
        keeper.start(Kind::Worker, Instant::now() + START)
    }
}

/// The line itself, or the one on standard input.
fn read_line(text: &str) -> Outcome<String> {
    if text != "-" {
        return Ok(text.to_owned());
    }
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    Ok(line)
}

/// Whether a state directory has a cluster of its own.
pub(super) fn holds_cluster(places: &Places) -> bool {
    places.controller_dir().join("hpc.redb").exists()
}

/// The cluster that a state directory's machine has joined as a worker.
pub(super) fn joined_cluster(places: &Places) -> Option<String> {
    let known = Member::open(&places.state, identity::Kind::Node);
    known.ok().flatten().map(|member| member.kept.cluster)
}

/// Refuses a state directory that has a cluster of its own, or a worker that runs.
fn check_free(places: &Places) -> Outcome<()> {
    let taken = |what: String, hint: &str| Err(Failure::refused(Code::Conflict, what, hint));
    if holds_cluster(places) {
        return taken(
            format!("{} holds a cluster of its own", places.state.display()),
            "join with another --state-dir",
        );
    }
    if process::running(Kind::Worker, places).is_some() {
        return taken(
            format!(
                "this machine is a worker of cluster {} already",
                joined_cluster(places).unwrap_or_default()
            ),
            "stop it with `hpc down` first",
        );
    }
    Ok(())
}

/// Waits until the worker that systemd has started serves this machine; it looks for the controller by itself.
fn wait_served(keeper: &Keeper) -> Outcome<()> {
    let deadline = Instant::now() + START;
    let places = &keeper.places;
    // That somebody answers at the socket is enough: a worker's speaks with jobs alone.
    while process::running(Kind::Worker, places).is_none()
        || UnixStream::connect(&places.socket).is_err()
    {
        if Instant::now() >= deadline {
            let unit = service::unit(Kind::Worker);
            return Err(Failure::Other(anyhow::anyhow!(
                "this machine has joined, but {unit} is not up in time; see journalctl -u {unit}"
            )));
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

impl Join {
    /// Starts the worker of a machine that has joined before; one that runs is left alone.
    fn again(&self, places: Places) -> Outcome {
        let member = Member::open(&places.state, identity::Kind::Node)
            .map_err(|error| Failure::Other(error.into()))?;
        let Some(member) = member else {
            return Err(Failure::Usage(format!(
                "{} has not joined a cluster: paste the line that `hpc invite` printed",
                places.state.display()
            )));
        };
        let (mut keeper, as_service) = self.keeper(places)?;
        let lock = keeper.lock()?;
        let runs = process::running(Kind::Worker, &keeper.places).is_some();
        if runs && (self.declares() || self.machine.name.is_some()) {
            return Err(Failure::refused(
                Code::Conflict,
                "the worker of this machine runs already",
                "leave the options out, or stop it with `hpc down` first and start it again with them",
            ));
        }
        if !runs {
            start(&mut keeper, as_service)?;
        }
        drop(lock);
        output::line(&format!(
            "the worker of {} in cluster {} runs{}",
            member.kept.identity,
            member.kept.cluster,
            if runs { " already" } else { " again" }
        ))?;
        self.end(&keeper.places, as_service)
    }

    /// What will look after the worker: we, unless systemd has a unit for it.
    fn keeper(&self, places: Places) -> Outcome<(Keeper, bool)> {
        places.create()?;
        let as_service = service::is_installed(Kind::Worker, &places);
        if as_service {
            service::refuse_options(self.declares())?;
        }
        let keeper = Keeper::new(places, vec![(Kind::Worker, self.arguments()?)]);
        Ok((keeper, as_service))
    }

    /// Says who looks after the worker from now on, and does so where nobody else does.
    fn end(&self, places: &Places, as_service: bool) -> Outcome {
        if as_service {
            let unit = service::unit(Kind::Worker);
            output::line(&format!(
                "{unit} runs its worker, also after the next boot; its log: journalctl -u {unit}"
            ))?;
        }
        if self.detach || as_service {
            Ok(exit::DONE)
        } else {
            // Without the line, whose secret may still be good for others, on our command line.
            self.stay(places)
        }
    }

    /// Becomes the process that looks after the worker.
    fn stay(&self, places: &Places) -> Outcome {
        let program = files::own_program().context("cannot find this program")?;
        let error = std::process::Command::new(program)
            .args(["join", "--joined", "--state-dir"])
            .arg(&places.state)
            .args(self.arguments()?)
            .exec();
        Err(error.into())
    }

    /// Whether it says more of this machine than its name, which the cluster remembers.
    fn declares(&self) -> bool {
        let Machine {
            name: _,
            cpus,
            memory,
            gpus,
        } = &self.machine;
        cpus.is_some() || memory.is_some() || gpus.is_some() || self.config.is_some()
    }

    fn arguments(&self) -> Outcome<Vec<OsString>> {
        let mut words = self.machine.arguments();
        if let Some(config) = &self.config {
            // The worker starts in another directory.
            let config = std::path::absolute(config).context("cannot find the config file")?;
            words.extend([OsString::from("--config"), config.into_os_string()]);
        }
        Ok(words)
    }
}

impl Verb for Login {
    fn run(self, target: &Target) -> Outcome {
        let line = parse(
            &read_line(&self.line)?,
            &["vwr", "usr", "opr", "adm"],
            "join",
        )?;
        let places = paths::places(target.state_dir.as_deref())?;
        // Commands there would speak with the worker, and the invitation would be spent.
        if let Some(cluster) = joined_cluster(&places).filter(|_| !holds_cluster(&places)) {
            return Err(Failure::refused(
                Code::Conflict,
                format!(
                    "{} is a worker's: this machine has joined cluster {cluster}",
                    places.state.display()
                ),
                "log in with a --state-dir of your own, and name it to the commands that follow",
            ));
        }
        places.create_state()?;
        let (kept, path) = bridge::join(&line, "", &places.state, identity::Kind::User)?;
        output::line(&format!(
            "logged in to cluster {} at {} as {} over {}",
            kept.cluster,
            kept.addresses.first().map_or("", String::as_str),
            kept.identity,
            path.word()
        ))?;
        Ok(exit::DONE)
    }
}
