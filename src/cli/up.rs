//! `hpc up`: this machine becomes a cluster of one, controller and worker.

use super::Verb;
use super::connection::Target;
use super::exit::{self, Failure, Outcome};
use super::modes::{Machine, read_config};
use super::output::{self, words};
use super::paths::{self, Places};
use super::process::{self, Kind};
use super::{down, host_name, status};
use crate::config::check_name;
use crate::model::refusal::Code;
use crate::wire::view::NodeView;
use anyhow::Context;
use clap::Args;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

/// How long both processes may take to be ready.
const START: Duration = Duration::from_secs(10);
/// Between looks at processes that are not our children.
const LOOK: Duration = Duration::from_secs(2);
/// Between restarts of a process that ends again and again, at most.
const RESTART_PAUSE_MAX: Duration = Duration::from_secs(30);

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
    /// Address for other machines; not part of this version
    #[arg(long, value_name = "ADDR:PORT", hide = true)]
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
        let mut cluster = Cluster {
            arguments: self.arguments()?,
            name: self.node_name(),
            asked: Asked {
                machine: self.machine,
                cluster: self.cluster,
                config: self.config.is_some(),
            },
            places,
            children: Vec::new(),
        };
        cluster.start()?;
        if self.detach {
            Ok(exit::DONE)
        } else {
            cluster.watch()
        }
    }
}

impl Up {
    fn check(&self) -> Outcome<()> {
        if let Some(address) = &self.listen {
            return Err(Failure::refused(
                Code::Unsupported,
                format!("--listen {address}: other machines are not part of this version"),
                "leave it out: this machine alone is the cluster, reached by its socket",
            ));
        }
        if let Some(name) = &self.cluster {
            check_name(name).map_err(|error| Failure::Usage(error.to_string()))?;
        }
        // A mistake in the file is told here rather than in a log.
        read_config(self.config.as_deref())?;
        self.machine.check()
    }

    fn node_name(&self) -> String {
        self.machine.name.clone().unwrap_or_else(host_name)
    }

    /// What each of the two processes is told besides its places.
    fn arguments(&self) -> Outcome<[Vec<OsString>; 2]> {
        let mut controller = Vec::new();
        let mut worker = Vec::new();
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
        // They start in another directory.
        let config = self
            .config
            .as_deref()
            .map(std::path::absolute)
            .transpose()
            .context("cannot find the config file")?;
        add(&mut controller, "--config", config.map(Into::into));
        add(
            &mut worker,
            "--name",
            self.machine.name.clone().map(Into::into),
        );
        add(
            &mut worker,
            "--cpus",
            self.machine.cpus.map(|cpus| cpus.to_string().into()),
        );
        add(
            &mut worker,
            "--memory",
            self.machine.memory.clone().map(Into::into),
        );
        add(
            &mut worker,
            "--gpus",
            self.machine.gpus.map(|gpus| gpus.to_string().into()),
        );
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

/// Options for a process that runs with others.
fn already(process: &str, differing: &str) -> Failure {
    Failure::refused(
        Code::Conflict,
        format!("the {process} already runs, and is not as asked: {differing}"),
        "leave the options out, or stop it with `hpc down` first and start it again with them",
    )
}

/// The processes of this state directory.
struct Cluster {
    places: Places,
    /// Of the controller, of the worker.
    arguments: [Vec<OsString>; 2],
    /// This node's name.
    name: String,
    asked: Asked,
    /// Those that are our own children.
    children: Vec<(Kind, Child)>,
}

impl Cluster {
    fn target(&self) -> Target {
        Target::at(&self.places.socket)
    }

    /// Starts what does not run, and says what is there.
    fn start(&mut self) -> Outcome<()> {
        // Two that start at once take turns; the second finds everything running.
        let lock = lock(&self.places.state)?;
        let deadline = Instant::now() + START;
        self.start_controller(deadline)?;
        output::line(&format!(
            "controller ready on unix:{}",
            self.places.socket.display()
        ))?;
        let runs = process::running(Kind::Worker, &self.places).is_some();
        if !runs {
            let child = process::start(Kind::Worker, &self.places, &self.arguments[1])?
                .wait_ready(deadline)?;
            self.children.push((Kind::Worker, child));
        }
        drop(lock);
        let node = self.node(deadline, runs)?;
        if runs {
            self.asked.check_node(&node)?;
        }
        output::line(&words::node_line(&node))
    }

    fn start_controller(&mut self, deadline: Instant) -> Outcome<()> {
        while process::running(Kind::Controller, &self.places).is_some() {
            if let Ok(status) = status::ask(&self.target()) {
                if self.asked.config {
                    eprintln!(
                        "hpc up: the controller already runs: --config counts from its next start, after `hpc down`"
                    );
                }
                return self.asked.check_controller(&status.cluster);
            }
            if Instant::now() >= deadline {
                return Err(Failure::Unreachable(format!(
                    "a controller of {} runs but does not answer on {}\n  its log is {}",
                    self.places.state.display(),
                    self.places.socket.display(),
                    self.places.controller_log().display()
                )));
            }
            thread::sleep(Duration::from_millis(20));
        }
        if self.target().is_up() {
            return Err(Failure::refused(
                Code::Conflict,
                format!(
                    "another cluster's controller listens on {}",
                    self.places.socket.display()
                ),
                "use its state directory, or choose another socket with HPC_SOCKET",
            ));
        }
        let child = process::start(Kind::Controller, &self.places, &self.arguments[0])?
            .wait_ready(deadline)?;
        self.children.push((Kind::Controller, child));
        Ok(())
    }

    /// This machine as the controller sees it. A worker that ran before may have another name than the one asked for.
    fn node(&self, deadline: Instant, ran_before: bool) -> Outcome<NodeView> {
        loop {
            let mut nodes = super::nodes::all(&self.target())?;
            let here = nodes
                .iter()
                .position(|node| node.name == self.name && node.responding);
            let here = here.or_else(|| {
                let mut responding = (0..nodes.len()).filter(|&node| nodes[node].responding);
                let only = responding.next().filter(|_| responding.next().is_none());
                only.filter(|_| ran_before || nodes.len() == 1)
            });
            if let Some(here) = here {
                return Ok(nodes.swap_remove(here));
            }
            if Instant::now() >= deadline {
                let text = format!(
                    "the worker has not registered node {} in time; its log is {}",
                    self.name,
                    self.places.worker_log().display()
                );
                return Err(Failure::Other(anyhow::anyhow!(text)));
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Stays until a signal; restarts what dies.
    fn watch(&mut self) -> Outcome {
        let mut set = SigSet::empty();
        for signal in [
            Signal::SIGINT,
            Signal::SIGTERM,
            Signal::SIGHUP,
            Signal::SIGCHLD,
        ] {
            set.add(signal);
        }
        set.thread_block().map_err(io::Error::from)?;
        let signals = SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
            .map_err(io::Error::from)?;
        let mut pause = Duration::from_millis(100);
        let mut last = Instant::now();
        loop {
            let mut waiting = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
            // Interrupted or not, what matters is looked at below.
            let _ = poll(
                &mut waiting,
                PollTimeout::try_from(LOOK).unwrap_or(PollTimeout::MAX),
            );
            while let Ok(Some(signal)) = signals.read_signal() {
                let signal = i32::try_from(signal.ssi_signo).unwrap_or(0);
                if signal == Signal::SIGINT as i32 && !down::agreed(&self.target(), Some(&signals))?
                {
                    continue;
                }
                if signal != Signal::SIGCHLD as i32 {
                    return down::stop(&self.target(), &self.places, false);
                }
            }
            self.children
                .retain_mut(|(_, child)| matches!(child.try_wait(), Ok(None)));
            for kind in [Kind::Controller, Kind::Worker] {
                let ours = self.children.iter().any(|(child, _)| *child == kind);
                if ours || process::running(kind, &self.places).is_some() {
                    continue;
                }
                if kind == Kind::Controller && self.stopped() {
                    return Ok(exit::DONE);
                }
                if last.elapsed() > RESTART_PAUSE_MAX {
                    pause = Duration::from_millis(100);
                }
                thread::sleep(pause);
                pause = (pause * 2).min(RESTART_PAUSE_MAX);
                last = Instant::now();
                eprintln!("hpc up: the {} has ended; starting it again", kind.word());
                let place = usize::from(kind == Kind::Worker);
                match process::start(kind, &self.places, &self.arguments[place])
                    .and_then(|started| started.wait_ready(Instant::now() + START))
                {
                    Ok(child) => self.children.push((kind, child)),
                    Err(failure) => eprintln!("hpc up: {failure}"),
                }
            }
        }
    }

    /// Whether `hpc down` was called elsewhere: then both are gone, and on purpose.
    fn stopped(&self) -> bool {
        down::is_marked(&self.places)
    }
}

/// Taken while processes of a state directory are being started.
fn lock(state: &Path) -> Outcome<File> {
    let path = state.join("up.lock");
    let file = File::options()
        .create(true)
        .append(true)
        .open(&path)
        .map_err(|error| paths::unusable(&path, "open", &error))?;
    file.lock()
        .with_context(|| format!("cannot lock {}", path.display()))?;
    down::unmark(state);
    Ok(file)
}
