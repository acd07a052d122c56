//! The long-lived processes that `hpc up` and the agent start: `hpc controller`, `hpc worker`, `hpc shepherd`.
//!
//! Hidden from the help, as is `hpc pmix-server`, which a shepherd starts; service units start the first two directly.

use super::Verb;
use super::connection::Target;
use super::exit::{self, Failure, Outcome};
use super::numbers::argument;
use super::output;
use super::paths;
use crate::config::Config;
use crate::controller::{self, ControllerOptions, Listen};
use crate::model::node::{NODE_NAME_MAX, is_node_name};
use crate::model::size::parse_memory_mib;
use crate::model::topology::{Declared, DeclaredGpus};
use crate::net::identity::{self, Member};
use crate::pmix;
use crate::shepherd::{self, ShepherdOptions};
use crate::sys::inherited;
use crate::telemetry;
use crate::worker::{self, WorkerError, WorkerOptions};
use anyhow::Context;
use clap::Args;
use std::ffi::OsString;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process;

/// Run the controller in the foreground (`hpc up` does)
///
/// Examples:
///   hpc controller --state-dir /var/lib/hpc
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Controller {
    /// Name of the cluster
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Socket to listen on; by default where clients look for it
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Where other machines are heard: ADDR:PORT, or none
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<String>,
    /// Configuration file [env: HPC_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Descriptor that gets one byte once ready
    #[arg(long, value_name = "FD")]
    ready_fd: Option<i32>,
    /// Leave the session and the terminal of the caller
    #[arg(long)]
    own_session: bool,
}

/// Run this machine's agent in the foreground (`hpc up` does)
///
/// Examples:
///   hpc worker --state-dir /var/lib/hpc
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Worker {
    #[command(flatten)]
    machine: Machine,
    /// Socket of the controller, or, on a machine that has joined one elsewhere, of this worker
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Configuration file [env: HPC_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Descriptor that gets one byte once registered
    #[arg(long, value_name = "FD")]
    ready_fd: Option<i32>,
    /// Leave the session and the terminal of the caller
    #[arg(long)]
    own_session: bool,
}

/// What is said of this machine instead of measured.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "This machine")]
pub(super) struct Machine {
    /// Name of this node; the host's when not said
    #[arg(long, value_name = "NAME")]
    pub(super) name: Option<String>,
    /// Declare so many cpus for jobs instead of the measured ones
    #[arg(long, value_name = "N", value_parser = |text: &str| argument(text, 1, 65_535))]
    pub(super) cpus: Option<u32>,
    /// Declare so much memory for jobs, such as 64G
    #[arg(long, value_name = "SIZE")]
    pub(super) memory: Option<String>,
    /// Declare so many GPUs
    #[arg(long, value_name = "N", value_parser = |text: &str| argument(text, 0, 1024))]
    pub(super) gpus: Option<u32>,
}

/// Refuses what cannot name a node.
fn check_node_name(name: &str) -> Outcome<()> {
    if is_node_name(name) {
        return Ok(());
    }
    Err(Failure::Usage(format!(
        "--name \"{}\" cannot name a node: write 1 to {NODE_NAME_MAX} letters, digits, '-', '.' and '_', a letter or digit \
         first\n  without --name the node has the host's name",
        output::clean(name)
    )))
}

impl Machine {
    /// Refuses what cannot be said of a machine.
    pub(super) fn check(&self) -> Outcome<()> {
        self.name.as_deref().map_or(Ok(()), check_node_name)?;
        self.memory_mib().map(|_| ())
    }

    /// For a worker's command line.
    pub(super) fn arguments(&self) -> Vec<OsString> {
        let options = [
            ("--name", self.name.clone()),
            ("--cpus", self.cpus.map(|cpus| cpus.to_string())),
            ("--memory", self.memory.clone()),
            ("--gpus", self.gpus.map(|gpus| gpus.to_string())),
        ];
        let given = options
            .into_iter()
            .filter_map(|(option, value)| Some([option.into(), value?.into()]));
        given.flatten().collect()
    }

    /// Refuses a reserve that this machine cannot keep, which its worker would refuse too: here it is told on the
    /// terminal, and before an invitation is used up.
    pub(super) fn check_reserve(&self, config: &Config, file: Option<&Path>) -> Outcome<()> {
        let declared = Declared {
            cpus: self.cpus,
            memory_mib: self.memory_mib()?,
            gpus: None,
        };
        match worker::check_reserve(&config.reserve(), &declared) {
            Ok(()) => Ok(()),
            Err(WorkerError::Reserve(error)) => {
                let file = paths::config_file(file).unwrap_or_default();
                Err(Failure::Usage(format!("{}: {error}", file.display())))
            }
            Err(error) => Err(Failure::Other(error.into())),
        }
    }

    /// The declared memory in MiB.
    pub(super) fn memory_mib(&self) -> Outcome<Option<u64>> {
        let parse = |text: &String| match parse_memory_mib(text) {
            Ok(0) => Err(Failure::Usage(
                "--memory: 0 is too little: write 1M or more".into(),
            )),
            Ok(mib) => Ok(mib),
            Err(error) => Err(Failure::Usage(format!("--memory: {error}"))),
        };
        self.memory.as_ref().map(parse).transpose()
    }
}

impl Verb for Controller {
    fn run(self, target: &Target) -> Outcome {
        leave_session(self.own_session, self.ready_fd);
        let places = paths::places(target.state_dir.as_deref())?;
        let config = read_config(self.config.as_deref())?;
        telemetry::to_standard_error();
        controller::run(ControllerOptions {
            state_dir: places.state,
            socket: self.socket.unwrap_or(places.socket),
            listen: match &self.listen {
                Some(address) => address.parse().map_err(Failure::Usage)?,
                None => Listen::default(),
            },
            cluster_name: self.name,
            config,
            ready_fd: self.ready_fd,
            sync_delay: None,
        })
        .map_err(anyhow::Error::from)?;
        Ok(exit::DONE)
    }
}

impl Verb for Worker {
    fn run(self, target: &Target) -> Outcome {
        leave_session(self.own_session, self.ready_fd);
        let places = paths::places(target.state_dir.as_deref())?;
        self.machine.check()?;
        let memory_mib = self.machine.memory_mib()?;
        let config = read_config(self.config.as_deref())?;
        // A machine that has joined a cluster is a worker of that one.
        let joined = Member::open(&places.state, identity::Kind::Node)
            .context("cannot use this machine's membership")?;
        let controller = match joined {
            Some(_) => worker::Controller::Elsewhere,
            None => worker::Controller::Here,
        };
        telemetry::to_standard_error();
        worker::run(WorkerOptions {
            state_dir: places.state,
            controller,
            socket: self.socket.unwrap_or(places.socket),
            name: self.machine.name,
            cpus: self.machine.cpus,
            memory_mib,
            gpus: self.machine.gpus.map(|count| {
                vec![DeclaredGpus {
                    kind: "gpu".into(),
                    count,
                }]
            }),
            ready_fd: self.ready_fd,
            reserve: config.reserve(),
            users: config.users,
            allow_root: config.allow_root_jobs,
            ..WorkerOptions::default()
        })
        .map_err(|error| match error {
            // Its exit code says whether it makes sense to try again; systemd's unit goes by that.
            WorkerError::Refused(mut refusal) => {
                refusal.what = format!("the controller refuses this worker: {}", refusal.what);
                Failure::from(refusal)
            }
            error => Failure::from(anyhow::Error::from(error)),
        })?;
        Ok(exit::DONE)
    }
}

/// `hpc shepherd ... FD`: one for each job and node, started by the agent.
pub(super) fn shepherd(arguments: &[OsString]) -> u8 {
    let Some(agent_fd) = arguments
        .last()
        .and_then(|word| word.to_str())
        .and_then(|word| word.parse().ok())
    else {
        eprintln!("hpc shepherd: started by the agent, not by hand");
        return exit::USAGE;
    };
    match shepherd::run(&ShepherdOptions { agent_fd }) {
        Ok(()) => exit::DONE,
        Err(error) => {
            eprintln!("hpc shepherd: {:#}", anyhow::Error::from(error));
            exit::REFUSED
        }
    }
}

/// Hidden word of the process that serves PMIx.
pub(super) const PMIX: &str = "pmix-server";

/// `hpc pmix-server`: one for each step and node that wants PMIx, started by the shepherd.
pub(super) fn pmix_server() -> u8 {
    match pmix::run() {
        Ok(()) => exit::DONE,
        Err(error) => {
            eprintln!("hpc pmix-server: {:#}", anyhow::Error::from(error));
            exit::REFUSED
        }
    }
}

/// Hidden word before a command of `hpc alloc`.
pub(super) const EXEC: &str = "exec";

/// `hpc exec COMMAND ARGS`: becomes that command, with no signal blocked. `hpc alloc` blocks some for itself
/// before it starts its command, which inherits that.
pub(super) fn exec(words: &[OsString]) -> u8 {
    let Some((program, arguments)) = words.split_first() else {
        eprintln!("hpc exec: started by `hpc alloc`, not by hand");
        return exit::USAGE;
    };
    // What fails here leaves signals blocked: better than no command.
    let _ = nix::sys::signal::SigSet::empty().thread_set_mask();
    let error = process::Command::new(program).args(arguments).exec();
    eprintln!(
        "hpc alloc: cannot run {}: {}",
        program.display(),
        exit::plain(&error)
    );
    127
}

/// The configuration file's contents, or the defaults where there is none.
pub(super) fn read_config(given: Option<&Path>) -> Outcome<Config> {
    let Some(file) = paths::config_file(given) else {
        return Ok(Config::default());
    };
    let text =
        fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    Config::parse(&text).map_err(|error| Failure::Usage(format!("{}: {error}", file.display())))
}

/// A session of our own, so that the caller's terminal and its signals do not reach us.
/// The first thing that a process does which may stay when its caller is gone.
fn leave_session(wanted: bool, ready_fd: Option<i32>) {
    // A foreground `hpc up` blocks signals for itself, and what it starts inherits that.
    let _ = nix::sys::signal::SigSet::empty().thread_set_mask();
    if wanted {
        // Fails only where we lead a group already; then we are apart as it is.
        let _ = nix::unistd::setsid();
        inherited::close_all_but(ready_fd);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_named_as_hosts_are() {
        for name in ["ws1", "node-7.lab", "a_b", &"x".repeat(64)] {
            assert!(check_node_name(name).is_ok(), "{name}");
        }
        for name in ["", "a b", "x[1]", "-x", ".", "a/b", "é", &"x".repeat(65)] {
            let text = check_node_name(name).unwrap_err().to_string();
            assert!(text.contains(name) && text.contains("1 to 64"), "{text}");
        }
    }
}
