//! `hpc up`: this machine becomes a cluster of one, controller and worker.

use super::Verb;
use super::connection::Target;
use super::exit::{self, Failure, Outcome};
use super::join::{holds_cluster, joined_cluster};
use super::keeper::{Keeper, START};
use super::modes::{Machine, read_config};
use super::output::{self, words};
use super::paths::{self, Places};
use super::process::{self, Kind};
use super::{host_name, invite, status};
use crate::config::check_name;
use crate::controller::Listen;
use crate::model::identity::Grant;
use crate::model::refusal::Code;
use crate::wire::view::NodeView;
use anyhow::Context;
use clap::Args;
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

/// How long the invitation that is shown is good; seconds.
const TTL_S: u32 = 3600;

/// Start controller and worker on this machine; needs no file and no root
///
/// What runs already is left alone, so it may be repeated. Without --detach it stays in the foreground,
/// restarts what dies, and stops everything on Ctrl-C.
///
/// Examples:
///   hpc up
///   hpc up --detach --state-dir /tmp/lab --cpus 8 --memory 16G
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Up {
    /// Return once everything is ready
    #[arg(long, short)]
    detach: bool,
    #[command(flatten)]
    machine: Machine,
    /// Name of the cluster, as jobs see it [default: hpc, or as configured]
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,
    /// Where other machines are heard, or `none` [default: all addresses, port 7420 or the one of earlier starts]
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<String>,
    /// Configuration file [env: HPC_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Verb for Up {
    fn run(self, target: &Target) -> Outcome {
        self.check()?;
        let places = paths::places(target.state_dir.as_deref())?;
        places.create()?;
        refuse_worker(&places)?;
        let [controller, worker] = self.arguments()?;
        let mut cluster = Cluster {
            keeper: Keeper::new(
                places,
                vec![(Kind::Controller, controller), (Kind::Worker, worker)],
            ),
            name: self.node_name(),
            asked: Asked {
                machine: self.machine,
                cluster: self.cluster,
                config: self.config.is_some(),
            },
        };
        cluster.start()?;
        if self.detach {
            Ok(exit::DONE)
        } else {
            cluster.keeper.watch()
        }
    }
}

impl Up {
    fn check(&self) -> Outcome<()> {
        if let Some(address) = &self.listen {
            address.parse::<Listen>().map_err(Failure::Usage)?;
        }
        if let Some(name) = &self.cluster {
            check_name(name).map_err(|error| Failure::Usage(error.to_string()))?;
        }
        // A mistake in the file is told here rather than in a log.
        let config = read_config(self.config.as_deref())?;
        self.machine.check()?;
        self.machine.check_reserve(&config, self.config.as_deref())
    }

    fn node_name(&self) -> String {
        self.machine.name.clone().unwrap_or_else(host_name)
    }

    /// What each of the two processes is told besides its places.
    fn arguments(&self) -> Outcome<[Vec<OsString>; 2]> {
        let mut controller = Vec::new();
        let mut worker = self.machine.arguments();
        let add = |list: &mut Vec<OsString>, option: &str, value: Option<OsString>| {
            if let Some(value) = value {
                list.extend([OsString::from(option), value]);
            }
        };
        add(
            &mut controller,
            "--name",
            self.cluster.clone().map(Into::into),
        );
        add(
            &mut controller,
            "--listen",
            self.listen.clone().map(Into::into),
        );
        // They start in another directory.
        let config = self
            .config
            .as_deref()
            .map(std::path::absolute)
            .transpose()
            .context("cannot find the config file")?;
        add(&mut controller, "--config", config.clone().map(Into::into));
        add(&mut worker, "--config", config.map(Into::into));
        Ok([controller, worker])
    }
}

/// What was asked for besides that it runs, to be held against what runs already.
struct Asked {
    machine: Machine,
    cluster: Option<String>,
    config: bool,
}

impl Asked {
    /// Refuses a name that the running controller does not have.
    fn check_controller(&self, running: &str) -> Outcome<()> {
        match &self.cluster {
            Some(name) if name != running => Err(already(
                "controller",
                &format!("its cluster is {running}, not {name}"),
            )),
            _ => Ok(()),
        }
    }

    /// Refuses what the running worker's node is not declared to be.
    fn check_node(&self, node: &NodeView) -> Outcome<()> {
        let Machine {
            name, cpus, gpus, ..
        } = &self.machine;
        let memory = self.machine.memory_mib()?;
        let mut differing = Vec::new();
        if name.as_ref().is_some_and(|name| *name != node.name) {
            differing.push(format!("its node is {}", node.name));
        }
        if cpus.is_some_and(|cpus| cpus != node.cpus) {
            differing.push(format!("it has {}", words::counted(node.cpus, "cpu")));
        }
        if memory.is_some_and(|memory| memory != node.memory_mib) {
            differing.push(format!("it has {} memory", words::memory(node.memory_mib)));
        }
        let held = u32::try_from(node.gpus.len()).unwrap_or(u32::MAX);
        if gpus.is_some_and(|gpus| gpus != held) {
            differing.push(format!("it has {}", words::counted(held, "GPU")));
        }
        if differing.is_empty() {
            return Ok(());
        }
        Err(already("worker", &differing.join(", ")))
    }
}

/// Refuses the state directory of a machine that has joined a cluster elsewhere: one of its own would get its worker.
fn refuse_worker(places: &Places) -> Outcome<()> {
    if holds_cluster(places) {
        return Ok(());
    }
    match joined_cluster(places) {
        None => Ok(()),
        Some(cluster) => Err(Failure::refused(
            Code::Conflict,
            format!(
                "{} is a worker's: this machine has joined cluster {cluster}",
                places.state.display()
            ),
            "start its worker with `hpc join`, without a line; for a cluster of its own name another --state-dir",
        )),
    }
}

/// Where the controller of a state directory hears other machines.
fn listening(places: &Places) -> Option<String> {
    let text = fs::read_to_string(places.listening()).ok()?;
    let address = text.trim();
    (!address.is_empty()).then(|| address.to_owned())
}

/// Options for a process that runs with others.
fn already(process: &str, differing: &str) -> Failure {
    Failure::refused(
        Code::Conflict,
        format!("the {process} already runs, and is not as asked: {differing}"),
        "leave the options out, or stop it with `hpc down` first and start it again with them",
    )
}

/// The cluster that is brought up.
struct Cluster {
    keeper: Keeper,
    /// This node's name.
    name: String,
    asked: Asked,
}

impl Cluster {
    fn target(&self) -> Target {
        self.keeper.target()
    }

    fn places(&self) -> &Places {
        &self.keeper.places
    }

    /// Starts what does not run, and says what is there.
    fn start(&mut self) -> Outcome<()> {
        // Two that start at once take turns; the second finds everything running.
        let lock = self.keeper.lock()?;
        let deadline = Instant::now() + START;
        let started = self.start_controller(deadline)?;
        let socket = self.places().socket.display().to_string();
        let port = listening(self.places());
        output::line(&match &port {
            Some(port) => format!("controller ready on {port} and unix:{socket}"),
            None => format!("controller ready on unix:{socket}"),
        })?;
        let runs = process::running(Kind::Worker, self.places()).is_some();
        if !runs {
            self.keeper.start(Kind::Worker, deadline)?;
        }
        drop(lock);
        let node = self.node(deadline, runs)?;
        if runs {
            self.asked.check_node(&node)?;
        }
        output::line(&words::node_line(&node))?;
        if started && port.is_some() {
            // For machines of a lab the next step; one that is never used expires.
            let line = invite::ask(&self.target(), Grant::Worker, TTL_S, 1)?;
            output::line(&format!(
                "add a machine:  hpc join {line}   (one use, expires in 1 h)"
            ))?;
        }
        Ok(())
    }

    /// Whether it was started now.
    fn start_controller(&mut self, deadline: Instant) -> Outcome<bool> {
        while process::running(Kind::Controller, self.places()).is_some() {
            if let Ok(status) = status::ask(&self.target()) {
                if self.asked.config {
                    eprintln!(
                        "hpc up: the controller already runs: --config counts from its next start, after `hpc down`"
                    );
                }
                return self.asked.check_controller(&status.cluster).map(|()| false);
            }
            if Instant::now() >= deadline {
                return Err(Failure::Unreachable(format!(
                    "a controller of {} runs but does not answer on {}\n  its log is {}",
                    self.places().state.display(),
                    self.places().socket.display(),
                    self.places().controller_log().display()
                )));
            }
            thread::sleep(Duration::from_millis(20));
        }
        if self.target().is_up() {
            return Err(Failure::refused(
                Code::Conflict,
                format!(
                    "another cluster's controller listens on {}",
                    self.places().socket.display()
                ),
                "use its state directory, or choose another socket with HPC_SOCKET",
            ));
        }
        self.keeper.start(Kind::Controller, deadline)?;
        Ok(true)
    }

    /// This machine as the controller sees it. A worker that ran before may have another name than the one asked for.
    fn node(&self, deadline: Instant, ran_before: bool) -> Outcome<NodeView> {
        loop {
            let mut nodes = super::nodes::all(&self.target())?;
            let here = nodes
                .iter()
                .position(|node| node.name == self.name && node.responding);
            // A node of the asked name that is silent may be about to answer: others are not taken for it.
            let silent = nodes.iter().any(|node| node.name == self.name);
            let here = here.or_else(|| {
                let mut responding = (0..nodes.len()).filter(|&node| nodes[node].responding);
                let only = responding.next().filter(|_| responding.next().is_none());
                only.filter(|_| !silent && (ran_before || nodes.len() == 1))
            });
            if let Some(here) = here {
                return Ok(nodes.swap_remove(here));
            }
            if Instant::now() >= deadline {
                let text = format!(
                    "the worker has not registered node {} in time; its log is {}",
                    self.name,
                    self.places().worker_log().display()
                );
                return Err(Failure::Other(anyhow::anyhow!(text)));
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}
