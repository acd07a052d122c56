//! The loop: wait for something, turn it into inputs of the core, carry out its effects.

mod reaping;

use super::journal_file::JournalFile;
use super::launchers;
use super::lease_timer::LeaseTimer;
use super::link::{Link, Received};
use super::notes::{self, Target};
use super::pmi_port::PmiPort;
use super::pmi_sockets::PmiSockets;
use super::pmix_doors::PmixDoors;
use super::pmix_helpers::{self, Ground, PmixHelpers};
use super::processes::{Ended, Processes};
use super::spawners::Spawners;
use super::stdin::Inputs;
use super::streams::Streams;
use super::{ShepherdError, ShepherdOptions};
use crate::model::ids::StepId;
use crate::model::job::{ExitStatus, Launch};
use crate::steps::journal::{Opened, Record};
use crate::steps::{Effect, Input, LaunchPlan, Machine, Output, SlotCore, TaskId, blob_bytes};
use crate::sys::clock::boottime_ms;
use crate::sys::files::{bind_unix, in_words};
use crate::sys::identity::peer_credentials;
use crate::sys::reap::KillSweep;
use crate::sys::signals::Signals;
use crate::wire::hello::VERSION;
use crate::wire::pmix::PmixStart;
use crate::wire::shepherd::{
    Assignment, FromShepherd, JOURNAL, LEASED, SCRIPT, SOCKET, ToShepherd, WORDS,
};
use crate::wire::spawner::SpawnOrder;
use crate::wire::worker::{FromSlot, ToSlot};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::signal::{SigSet, Signal};
use std::collections::{BTreeMap, VecDeque};
use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::{PipeReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

/// The longest sleep while a deadline is set: `epoll` sleeps on a clock that a suspended machine stops, ours goes on.
const SLEEP_MOST_MS: u64 = 60_000;
/// How often a sweep looks again while processes are dying.
const SWEEP_AGAIN_MS: u64 = 20;
/// Events taken at once.
const EVENTS: usize = 64;

/// What an event of the poll is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Signals,
    Listener,
    Agent,
    Lease,
    Output(u64),
    Input(u64),
    Pmi(u64),
    Pmix(u64),
    Door(u64),
    PmiPort(u64),
    Spawner(u64),
}

impl Token {
    const KIND: u64 = 1 << 60;

    fn number(self) -> u64 {
        match self {
            Token::Signals => 0,
            Token::Listener => 1,
            Token::Agent => 2,
            Token::Lease => 3,
            Token::Output(serial) => Self::KIND + serial,
            Token::Input(serial) => 2 * Self::KIND + serial,
            Token::Pmi(serial) => 3 * Self::KIND + serial,
            Token::Pmix(serial) => 4 * Self::KIND + serial,
            Token::Door(serial) => 5 * Self::KIND + serial,
            Token::PmiPort(serial) => 6 * Self::KIND + serial,
            Token::Spawner(serial) => 7 * Self::KIND + serial,
        }
    }

    fn of(number: u64) -> Option<Token> {
        match (number / Self::KIND, number) {
            (0, 0) => Some(Token::Signals),
            (0, 1) => Some(Token::Listener),
            (0, 2) => Some(Token::Agent),
            (0, 3) => Some(Token::Lease),
            (1, _) => Some(Token::Output(number - Self::KIND)),
            (2, _) => Some(Token::Input(number - 2 * Self::KIND)),
            (3, _) => Some(Token::Pmi(number - 3 * Self::KIND)),
            (4, _) => Some(Token::Pmix(number - 4 * Self::KIND)),
            (5, _) => Some(Token::Door(number - 5 * Self::KIND)),
            (6, _) => Some(Token::PmiPort(number - 6 * Self::KIND)),
            (7, _) => Some(Token::Spawner(number - 7 * Self::KIND)),
            _ => None,
        }
    }
}

pub(super) fn run(options: &ShepherdOptions) -> Result<(), ShepherdError> {
    // Nothing but SIGKILL ends a shepherd. Blocked rather than ignored: that is what its children can undo.
    SigSet::all()
        .thread_block()
        .map_err(ShepherdError::system("block signals"))?;
    crate::sys::reap::set_child_subreaper().map_err(ShepherdError::system("become a subreaper"))?;
    let agent = crate::sys::inherited::take_socket(options.agent_fd)
        .map_err(ShepherdError::system("find the agent's socket"))?;
    let Some(assignment) = first_word(&agent)? else {
        return Ok(());
    };
    match Shepherd::begin(*assignment, agent) {
        Ok(mut shepherd) => shepherd.live(),
        Err((error @ ShepherdError::Taken, _)) => Err(error),
        Err((error, mut agent)) => {
            let said = FromShepherd::Failed(error_text(&error));
            let _ = agent.write_all(&crate::wire::codec::encode(&said));
            Err(error)
        }
    }
}

/// Waits for the assignment; `None` when the agent goes without one.
fn first_word(agent: &UnixStream) -> Result<Option<Box<Assignment>>, ShepherdError> {
    // Exactly one frame is taken, byte for byte: what follows belongs to the loop.
    match crate::wire::codec::read(&mut &*agent, crate::wire::codec::FRAME_MAX) {
        Ok(Some(ToShepherd::Assign(assignment))) => Ok(Some(assignment)),
        Ok(None) => Ok(None),
        Ok(Some(_)) => Err(ShepherdError::Protocol),
        Err(crate::wire::codec::CodecError::Io(_)) => Ok(None),
        Err(_) => Err(ShepherdError::Protocol),
    }
}

/// A shepherd with a slot.
struct Shepherd {
    core: SlotCore,
    directory: PathBuf,
    node: String,
    journal: JournalFile,
    processes: Processes,
    streams: Streams,
    stdin: Inputs,
    pmi: PmiSockets,
    pmi_port: PmiPort,
    pmix: PmixHelpers,
    doors: PmixDoors,
    spawners: Spawners,
    /// When steps began whose ranks are wired.
    wired: BTreeMap<StepId, SystemTime>,
    /// When the slot began, if its job has several tasks, which a launcher may start unseen: in a script, or for `hpc
    /// alloc` beside the job.
    launchers_since: Option<SystemTime>,
    poll: Epoll,
    signals: Signals,
    listener: UnixListener,
    link: Option<Link>,
    /// The poll waits for room in the agent's socket.
    inputs: VecDeque<Input>,
    effects: Vec<Effect>,
    ended: Vec<Ended>,
    /// The sweep that goes on, and when it looks again.
    sweep: Option<(KillSweep, u64)>,
    /// The same of what steps have left, while others run.
    leftovers: Vec<(KillSweep, u64)>,
    /// Of a slot whose job may run again.
    lease: Option<LeaseTimer>,
    /// Where notes for the running element go.
    notes_to: Option<Target>,
    /// Files that running tasks write to.
    output_files: BTreeMap<TaskId, Vec<PathBuf>>,
    /// The next pipe's number.
    serial: u64,
    over: bool,
}

impl Shepherd {
    /// Takes a slot on: its journal exists, its socket listens, its script is spooled; nothing runs yet.
    fn begin(
        assignment: Assignment,
        agent: UnixStream,
    ) -> Result<Self, (ShepherdError, UnixStream)> {
        match Self::prepare(assignment) {
            Ok(mut shepherd) => match Link::new(agent) {
                Ok(link) => {
                    shepherd.adopt(link);
                    Ok(shepherd)
                }
                // Without this agent the next one finds the socket.
                Err(_) => Ok(shepherd),
            },
            Err(error) => Err((error, agent)),
        }
    }

    fn prepare(assignment: Assignment) -> Result<Self, ShepherdError> {
        let Assignment {
            directory,
            boot_id,
            site,
            become_owner,
            launch,
        } = assignment;
        let directory = PathBuf::from(directory);
        let now = boottime_ms();
        let mut journal = JournalFile::create(&directory)?;
        let age = i64::try_from(launch.granted_age_ms).unwrap_or(0);
        journal.push(&Record::Opened(Box::new(Opened {
            key: launch.key,
            owner: launch.owner.clone(),
            boot_id,
            mark: format!("{}:{}", site.state_id, launch.key),
            epoch: (launch.granted.plus_ms(age), now),
            positions: launch.positions.clone(),
            restarts: launch.restarts.clone(),
        })));
        journal.flush();
        if let Some(source) = journal.failed() {
            // Nobody could tell after our death that the slot was here.
            return Err(ShepherdError::File {
                doing: "write",
                path: directory.join(JOURNAL),
                source,
            });
        }
        let account = site.account.as_ref().filter(|_| become_owner);
        if launch.spec.requeue {
            // Before anybody can find us: an agent that sees this gives leases and goes on giving them.
            File::create(directory.join(LEASED)).map_err(|source| ShepherdError::File {
                doing: "write",
                path: directory.join(LEASED),
                source,
            })?;
        }
        let words = directory.join(WORDS);
        if let Err(error) = std::os::unix::fs::symlink(VERSION.to_string(), words) {
            tracing::warn!(slot = %launch.key, %error, "a later agent will take this build for an earlier one");
        }
        if let Launch::Script { script, .. } = &launch.spec.launch
            && let Some(bytes) = blob_bytes(&launch, *script)
        {
            spool(
                &directory.join(SCRIPT),
                bytes,
                account.map(|account| (account.uid, account.gid)),
            )?;
        }
        if let Err(error) = launchers::prepare(&directory, &launch) {
            // A full disk, say. Few jobs call mpirun, and one that does is told by it which file is missing.
            tracing::warn!(
                error = error_text(&error),
                "mpirun will not know its hosts in this slot"
            );
        }
        let listener = listen(&directory)?;
        let poll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)
            .map_err(ShepherdError::system("make a poll"))?;
        let signals = Signals::new(&[Signal::SIGCHLD])
            .map_err(ShepherdError::system("make a signal descriptor"))?;
        let add = |fd: std::os::fd::BorrowedFd<'_>, token: Token| {
            poll.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, token.number()))
                .map_err(ShepherdError::system("fill the poll"))
        };
        use std::os::fd::AsFd;
        add(signals.as_fd(), Token::Signals)?;
        add(listener.as_fd(), Token::Listener)?;
        let lease = if launch.spec.requeue {
            Some(LeaseTimer::new(&poll, Token::Lease.number())?)
        } else {
            None
        };
        let processes = Processes::new(account);
        let node = site.node.clone();
        let tasks: u32 = launch.shares.iter().map(|share| share.tasks).sum();
        let mut core = SlotCore::new(now, launch, site);
        core.drop_blobs();
        // Not those that we are bound to: which of them exist is the question.
        let cpus = nix::unistd::sysconf(nix::unistd::SysconfVar::_NPROCESSORS_ONLN);
        let cpus = cpus
            .ok()
            .flatten()
            .and_then(|cpus| u32::try_from(cpus).ok());
        core.set_machine(Machine {
            cpus: cpus.unwrap_or(u32::MAX),
            is_one_numa_node: is_one_numa_node(),
            has_rdma: has_rdma(),
        });
        Ok(Shepherd {
            core,
            node,
            journal,
            processes,
            streams: Streams::new(&directory),
            stdin: Inputs::default(),
            pmi: PmiSockets::default(),
            pmi_port: PmiPort::default(),
            pmix: PmixHelpers::default(),
            doors: PmixDoors::default(),
            spawners: Spawners::default(),
            wired: BTreeMap::new(),
            launchers_since: (tasks > 1).then(SystemTime::now),
            poll,
            signals,
            listener,
            link: None,
            inputs: VecDeque::from([Input::Begin]),
            effects: Vec::new(),
            ended: Vec::new(),
            sweep: None,
            leftovers: Vec::new(),
            lease,
            notes_to: None,
            output_files: BTreeMap::new(),
            serial: 0,
            over: false,
            directory,
        })
    }

    /// The loop.
    fn live(&mut self) -> Result<(), ShepherdError> {
        let mut events = [EpollEvent::empty(); EVENTS];
        loop {
            self.think();
            if self.over {
                self.leave();
                return Ok(());
            }
            let count = match self.poll.wait(&mut events, self.sleep()) {
                Ok(count) => count,
                Err(nix::errno::Errno::EINTR) => 0,
                Err(errno) => {
                    return Err(ShepherdError::System {
                        doing: "wait for events",
                        source: errno.into(),
                    });
                }
            };
            for event in &events[..count] {
                self.on_event(*event);
            }
            let now = boottime_ms();
            if self.core.next_deadline().is_some_and(|at| at <= now) {
                self.inputs.push_back(Input::Timer);
            }
            if self.next_sweep().is_some_and(|at| at <= now) {
                self.reap();
            }
        }
    }

    /// How long the poll may sleep.
    fn sleep(&self) -> EpollTimeout {
        let deadline = [self.core.next_deadline(), self.next_sweep()]
            .into_iter()
            .flatten()
            .min();
        let Some(deadline) = deadline else {
            return EpollTimeout::NONE;
        };
        let ms = deadline.saturating_sub(boottime_ms()).min(SLEEP_MOST_MS);
        EpollTimeout::try_from(ms).unwrap_or(EpollTimeout::ZERO)
    }

    /// When a sweep looks again.
    fn next_sweep(&self) -> Option<u64> {
        let sweeps = self.sweep.iter().chain(&self.leftovers);
        sweeps.map(|(_, at)| *at).min()
    }

    fn on_event(&mut self, event: EpollEvent) {
        let flags = event.events();
        match Token::of(event.data()) {
            Some(Token::Signals) => {
                while matches!(self.signals.read(), Ok(Some(_))) {}
                self.reap();
            }
            Some(Token::Listener) => self.accept(),
            Some(Token::Agent) => self.on_agent(flags),
            Some(Token::Lease) => {
                if let Some(timer) = &self.lease {
                    timer.take();
                }
            }
            Some(Token::Output(_)) => self.streams.ready(event.data(), &self.poll),
            Some(Token::Input(_)) => {
                let gone = flags.contains(EpollFlags::EPOLLERR);
                let report = self.stdin.ready(event.data(), gone, &self.poll);
                self.report(report);
            }
            Some(Token::Pmi(_)) => self.pmi.ready(event.data(), &self.poll, &mut self.inputs),
            Some(Token::PmiPort(_)) => self.visit_pmi_port(event.data()),
            Some(Token::Pmix(_)) => self.pmix.ready(event.data(), &self.poll, &mut self.inputs),
            Some(Token::Spawner(_)) => {
                let token = event.data();
                self.spawners.ready(token, &self.poll, &mut self.inputs);
            }
            Some(Token::Door(_)) => {
                let knocked = self.doors.ready(event.data(), &self.poll);
                let inputs = knocked.map(|step| Input::PmixKnocked { step });
                self.inputs.extend(inputs);
            }
            None => {}
        }
    }

    // ---- the core

    /// Feeds the core until it has nothing more to say, then writes what is to be written.
    fn think(&mut self) {
        while let Some(input) = self.inputs.pop_front() {
            let mut effects = std::mem::take(&mut self.effects);
            self.core.handle(boottime_ms(), input, &mut effects);
            for effect in effects.drain(..) {
                self.carry_out(effect);
            }
            self.effects = effects;
        }
        for report in self.stdin.settle(&self.poll) {
            self.report(Some(report));
        }
        self.journal.flush();
        self.flush_link();
        if let Some(timer) = &mut self.lease {
            timer.set(self.core.lease_deadline(), self.core.lease_end());
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Journal(entry) => self.journal.push(&Record::Entry(entry)),
            Effect::Spawn(plan) => self.start(*plan),
            Effect::Signal { signal, to } => self.processes.signal(signal, &to),
            Effect::Sweep => self.sweep(),
            Effect::Note { raw_job, cause, at } => {
                let line = notes::ended_line(raw_job, &self.node, cause, at);
                self.note(&line);
            }
            Effect::Report(report) => self.report(Some(report)),
            Effect::PmiWrite { task, bytes } => self.pmi.write(task, &bytes, &self.poll),
            Effect::PmiClose(task) => self.pmi.close(task, &self.poll),
            Effect::PmixStart {
                step,
                start,
                environment,
            } => self.start_pmix(step, *start, &environment),
            Effect::PmixDoor {
                step,
                promise,
                sought,
            } => {
                let token = Token::Door(self.next_serial()).number();
                let (user, _) = self.processes.owner();
                let variables = if sought.is_none_or(|sought| pmix_helpers::has_library(&sought)) {
                    let promise = promise.as_deref();
                    self.doors.open(step, promise, user, token, &self.poll)
                } else {
                    Vec::new()
                };
                self.inputs.push_back(Input::PmixDoor { step, variables });
            }
            Effect::PmixSay { step, message } => self.pmix.say(step, &message, &self.poll),
            Effect::Words { task, error, text } => {
                if !self.streams.words(task, error, &text) {
                    self.note(&text);
                }
            }
            Effect::StepNote { step, text } => {
                let line = notes::launch_line(&text);
                // One that ends before its tasks have begun has no log yet, and its client waits for one.
                let begins = step != StepId::BATCH && self.streams.open_log(step).is_ok();
                if !begins || !self.streams.note(step, &line) {
                    self.note(&line);
                }
            }
            Effect::Spawner {
                serial,
                asker,
                order,
            } => self.start_spawner(serial, asker, &order),
            Effect::EndSpawner { serial, signal } => {
                self.processes.signal_spawner(serial, signal);
            }
            Effect::OwnWords { step, text } => {
                self.streams.own_words(step, &text);
            }
            Effect::SweepStep(step) => {
                let sweep = self.processes.leftovers(step, boottime_ms());
                self.leftovers.extend(sweep.map(|sweep| (sweep, 0)));
                self.reap();
            }
            Effect::StepOver(step) => {
                self.spawners.forget(step);
                self.processes.forget(step);
                self.stdin.close(step);
                self.doors.close(step, &self.poll);
                self.pmix.stop(step, &self.processes, &self.poll);
                if let Some(since) = self.wired.remove(&step) {
                    self.sweep_memory(since);
                }
            }
            Effect::Exit => self.over = true,
        }
    }

    fn start_pmix(&mut self, step: StepId, start: PmixStart, environment: &[CString]) {
        let token = Token::Pmix(self.next_serial()).number();
        let started = self.pmix.start(
            step,
            token,
            start,
            environment,
            self.doors.give(step, &self.poll),
            Ground {
                slot: &self.directory,
                processes: &mut self.processes,
                poll: &self.poll,
            },
        );
        if let Err(text) = started {
            let text = Some(text);
            self.inputs.push_back(Input::PmixGone { step, text });
        }
    }

    /// Somebody comes to the port for ranks that have no socket, or says something there.
    fn visit_pmi_port(&mut self, token: u64) {
        let (user, _) = self.processes.owner();
        let pmi = &self.pmi;
        let silent = |task| pmi.is_silent(task);
        if let Some((task, stream)) = self.pmi_port.ready(token, user, silent, &self.poll) {
            let token = Token::Pmi(self.next_serial()).number();
            self.pmi.replace(token, task, stream, &self.poll);
        }
    }

    /// Tells a rank how to come where it does not inherit its socket.
    fn show_pmi_port(&mut self, plan: &mut LaunchPlan) {
        let lines = plan.environment.iter();
        let mut sizes = lines.filter_map(|line| line.to_str().ok()?.strip_prefix("PMI_SIZE="));
        let size = sizes.next().and_then(|size| size.parse().ok());
        if let (true, Some(size)) = (plan.pmi, size) {
            let token = Token::PmiPort(self.next_serial()).number();
            let shown = self.pmi_port.expect(plan.task, size, token, &self.poll);
            Arc::make_mut(&mut plan.environment).extend(shown);
        }
    }

    fn start(&mut self, mut plan: LaunchPlan) {
        self.show_pmi_port(&mut plan);
        let plan = &plan;
        // The start must be in the journal before it can have happened.
        self.journal.flush();
        let task = plan.task;
        if let Some(error) = self.journal.failed() {
            let path = self.directory.join(JOURNAL);
            let text = format!("cannot write {}: {}", path.display(), in_words(&error));
            return self.start_failed(plan, text);
        }
        if self.notes_to.is_none() {
            self.notes_to = notes::target(plan);
        }
        // The client of a step looks for its log, also where all that tasks write goes elsewhere.
        let logs = plan.stdout == Output::Log || plan.stderr == Output::Log;
        if (logs || task.step != StepId::BATCH)
            && let Err(error) = self.streams.open_log(task.step)
        {
            return self.start_failed(plan, error_text(&error));
        }
        let begun = SystemTime::now();
        match self.processes.start(plan) {
            Ok(started) => {
                let files = [&plan.stdout, &plan.stderr]
                    .into_iter()
                    .filter_map(|output| {
                        let Output::File { path, .. } = output else {
                            return None;
                        };
                        Some(notes::file_in(plan.directory.as_bytes(), path.as_bytes()))
                    });
                self.output_files.insert(task, files.collect());
                self.spawners.remember(plan);
                if let Some(pipe) = started.pipes.stdin {
                    let token = Token::Input(self.next_serial()).number();
                    self.stdin.add(task.step, token, pipe, &self.poll);
                } else if task.step != StepId::BATCH {
                    self.stdin.without(task.step);
                }
                if let Some(socket) = started.pipes.pmi {
                    self.wired.entry(task.step).or_insert(begun);
                    let token = Token::Pmi(self.next_serial()).number();
                    self.pmi.add(token, task, socket, &self.poll);
                }
                self.listen_to(task, [started.pipes.stdout, started.pipes.stderr]);
                if started.used_fallback {
                    self.note(&notes::directory_line(plan.directory.as_bytes()));
                }
            }
            Err(failure) => {
                let line = notes::launch_line(&failure.text);
                if plan.stderr == Output::Log || task.step != StepId::BATCH {
                    // Its client is to see it, whatever files job and step write to.
                    self.streams.note(task.step, &line);
                } else {
                    self.note(&line);
                }
                self.inputs.push_back(Input::SpawnFailed { task, failure });
            }
        }
    }

    /// What comes out of these pipes is a task's standard output and error.
    fn listen_to(&mut self, task: TaskId, pipes: [Option<PipeReader>; 2]) {
        for (stream, pipe) in (1..).zip(pipes) {
            if let Some(pipe) = pipe {
                let token = Token::Output(self.next_serial()).number();
                self.streams.add(token, task, stream, pipe, &self.poll);
            }
        }
    }

    fn start_spawner(&mut self, serial: u64, asker: TaskId, order: &SpawnOrder) {
        let numbers = (serial, Token::Spawner(self.next_serial()).number());
        let (processes, poll) = (&mut self.processes, &self.poll);
        match self.spawners.start(numbers, asker, order, processes, poll) {
            Ok(started) => self.listen_to(asker, [started.pipes.stdout, started.pipes.stderr]),
            Err(text) => self.inputs.push_back(Input::SpawnerGone {
                serial,
                exit: ExitStatus { code: 1, signal: 0 },
                text: Some(text),
            }),
        }
    }

    /// A task that something of ours keeps from starting.
    fn start_failed(&mut self, plan: &LaunchPlan, text: String) {
        let failure = crate::steps::LaunchFailure { code: 1, text };
        let task = plan.task;
        self.inputs.push_back(Input::SpawnFailed { task, failure });
    }

    fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    fn note(&mut self, line: &str) {
        match &self.notes_to {
            Some(Target::File(path)) => {
                let written = self.processes.as_owner(|| notes::append(path, line));
                if let Err(error) = written.and_then(|written| written) {
                    tracing::warn!(%error, path = %path.display(), "a note cannot be written");
                }
            }
            Some(Target::Log(step)) => {
                self.streams.note(*step, line);
            }
            None => {}
        }
    }

    // ---- the agent

    fn adopt(&mut self, link: Link) {
        if let Some(old) = self.link.take() {
            let _ = self.poll.delete(old.fd());
        }
        let event = EpollEvent::new(EpollFlags::EPOLLIN, Token::Agent.number());
        if self.poll.add(link.fd(), event).is_err() {
            return;
        }
        self.link = Some(link);
        self.say_all();
    }

    /// Says how the slot stands and what nobody has acknowledged.
    fn say_all(&mut self) {
        let reports: Vec<FromSlot> = std::iter::once(self.core.status())
            .chain(self.core.unacknowledged().cloned())
            .collect();
        for report in reports {
            self.report(Some(report));
        }
        self.inputs.push_back(Input::Relinked);
    }

    fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            match peer_credentials(&stream) {
                Ok(peer) if peer.uid == 0 || peer.uid == nix::unistd::geteuid().as_raw() => {
                    if let Ok(link) = Link::new(stream) {
                        self.adopt(link);
                    }
                }
                _ => tracing::warn!(
                    "a stranger connected to the shepherd's socket and was sent away"
                ),
            }
        }
    }

    fn on_agent(&mut self, flags: EpollFlags) {
        let Some(link) = &mut self.link else { return };
        if flags.intersects(EpollFlags::EPOLLIN | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR) {
            let mut messages = Vec::new();
            let received = link.receive(&mut messages);
            for message in messages {
                self.on_message(message);
            }
            if received == Received::Gone {
                self.drop_link();
            }
        }
        self.flush_link();
    }

    fn on_message(&mut self, message: ToShepherd) {
        match message {
            ToShepherd::Slot(ToSlot::Stdin {
                step,
                offset,
                bytes,
                end,
            }) => {
                // What was ordered before comes first: the step may be about to start.
                self.think();
                let report = self.stdin.take(step, offset, &bytes, end, &self.poll);
                self.report(report);
            }
            ToShepherd::Slot(order) => self.inputs.push_back(Input::Order(order)),
            ToShepherd::Repeat => {
                // What was ordered before is part of how it stands.
                self.think();
                self.say_all();
            }
            ToShepherd::Assign(_) => tracing::warn!("a second assignment was ignored"),
        }
    }

    fn report(&mut self, report: Option<FromSlot>) {
        if let (Some(link), Some(report)) = (&mut self.link, report) {
            link.push(&FromShepherd::Slot(report));
        }
    }

    fn flush_link(&mut self) {
        let Some(link) = &mut self.link else { return };
        if link.flush_on(&self.poll, Token::Agent.number()).is_err() {
            self.drop_link();
        }
    }

    fn drop_link(&mut self) {
        if let Some(link) = self.link.take() {
            let _ = self.poll.delete(link.fd());
        }
    }

    /// Everything is said and done: no new agent finds this slot alive.
    fn leave(&mut self) {
        let _ = std::fs::remove_file(self.directory.join(SOCKET));
        // A full disk or a slow agent: what is unsaid is in the journal.
        self.journal.flush();
        self.flush_link();
    }
}

/// Writes the script, for its owner alone to read and execute.
fn spool(path: &Path, bytes: &[u8], owner: Option<(u32, u32)>) -> Result<(), ShepherdError> {
    let write = || -> std::io::Result<()> {
        let mut file: File = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o500)
            .open(path)?;
        file.write_all(bytes)?;
        if let Some((uid, gid)) = owner {
            std::os::unix::fs::fchown(&file, Some(uid), Some(gid))?;
        }
        Ok(())
    };
    write().map_err(|source| ShepherdError::File {
        doing: "spool the script to",
        path: path.to_owned(),
        source,
    })
}

/// The socket at which a later agent finds this slot.
fn listen(directory: &Path) -> Result<UnixListener, ShepherdError> {
    let bind = || -> std::io::Result<UnixListener> {
        let listener = bind_unix(directory, SOCKET)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    bind().map_err(|source| ShepherdError::File {
        doing: "listen in",
        path: directory.to_owned(),
        source,
    })
}

/// Whether no part of the machine is nearer to a cpu than to another. A kernel without NUMA has no such file.
fn is_one_numa_node() -> bool {
    let online = std::fs::read_to_string("/sys/devices/system/node/online");
    online.map_or(true, |text| text.trim().parse::<u32>().is_ok())
}

/// Whether a device or a module of the kernel reads memory of programs without asking them.
fn has_rdma() -> bool {
    let modules = ["/dev/xpmem", "/dev/knem", "/dev/gdrdrv"];
    let classes = ["/sys/class/infiniband", "/sys/class/cxi"];
    let devices = classes
        .iter()
        .filter_map(|path| std::fs::read_dir(path).ok());
    devices.flatten().next().is_some() || modules.iter().any(|path| Path::new(path).exists())
}

/// An error with its causes, in one line.
fn error_text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = match error.downcast_ref() {
            Some(error) => format!("{text}: {}", in_words(error)),
            None => format!("{text}: {error}"),
        };
        cause = error.source();
    }
    text
}
