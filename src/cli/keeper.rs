//! Keeping the processes of a state directory: started one by one, and, in the foreground, started again when they die
//! until a signal ends it all.

use super::connection::Target;
use super::down;
use super::exit::{self, Outcome};
use super::paths::{self, Places};
use super::process::{self, Kind};
use anyhow::Context;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

/// How long processes may take to be ready.
pub(super) const START: Duration = Duration::from_secs(10);
/// Between looks at processes that are not our children.
const LOOK: Duration = Duration::from_secs(2);
/// Between restarts of a process that ends again and again, at most.
const RESTART_PAUSE_MAX: Duration = Duration::from_secs(30);

/// The processes of a state directory.
pub(super) struct Keeper {
    pub(super) places: Places,
    /// Which ones, with their arguments.
    kinds: Vec<(Kind, Vec<OsString>)>,
    /// Those that are our own children.
    children: Vec<(Kind, Child)>,
}

impl Keeper {
    pub(super) fn new(places: Places, kinds: Vec<(Kind, Vec<OsString>)>) -> Self {
        Keeper {
            places,
            kinds,
            children: Vec::new(),
        }
    }

    /// The controller of this state directory.
    pub(super) fn target(&self) -> Target {
        Target::at(&self.places.socket)
    }

    /// Taken while processes of a state directory are being started.
    pub(super) fn lock(&self) -> Outcome<File> {
        let path = self.places.state.join("up.lock");
        let file = File::options()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(|error| paths::unusable(&path, "open", &error))?;
        file.lock()
            .with_context(|| format!("cannot lock {}", path.display()))?;
        down::unmark(&self.places.state);
        Ok(file)
    }

    /// Starts one and waits until it is ready.
    pub(super) fn start(&mut self, kind: Kind, deadline: Instant) -> Outcome<()> {
        let arguments = self
            .kinds
            .iter()
            .find(|(known, _)| *known == kind)
            .map(|(_, arguments)| arguments.as_slice())
            .unwrap_or_default();
        let child = process::start(kind, &self.places, arguments)?.wait_ready(deadline)?;
        self.children.push((kind, child));
        Ok(())
    }

    /// Stays until a signal; restarts what dies.
    pub(super) fn watch(&mut self) -> Outcome {
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
            let kinds: Vec<Kind> = self.kinds.iter().map(|(kind, _)| *kind).collect();
            for kind in &kinds {
                let ours = self.children.iter().any(|(child, _)| child == kind);
                if ours || process::running(*kind, &self.places).is_some() {
                    continue;
                }
                // Of several the first ends last, when `hpc down` was called elsewhere: then all are gone, on purpose.
                if kinds.first() == Some(kind) && down::is_marked(&self.places) {
                    return Ok(exit::DONE);
                }
                if last.elapsed() > RESTART_PAUSE_MAX {
                    pause = Duration::from_millis(100);
                }
                thread::sleep(pause);
                pause = (pause * 2).min(RESTART_PAUSE_MAX);
                last = Instant::now();
                eprintln!("hpc: the {} has ended; starting it again", kind.word());
                if let Err(failure) = self.start(*kind, Instant::now() + START) {
                    eprintln!("hpc: {failure}");
                }
            }
        }
    }
}
