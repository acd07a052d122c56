//! The loop: events from the controller, from shepherds and from the kernel, one after another.

use super::accounts::Accounts;
use super::heartbeat::Heartbeat;
use super::leftovers::{self, ASIDE, Found};
use super::membership::Reached;
use super::relay;
use super::session::{self, Place, Session};
use super::slots::{Begin, Life, Slot, link, parse_key};
use super::spare::{self, Spare};
use super::streams::Serving;
use super::{Controller, WorkerError, WorkerOptions, inventory, kept_logs};
use crate::model::ids::SlotKey;
use crate::model::index_set::IndexSet;
use crate::model::job::{ElementEnd, ExitStatus, JobState, Reason, Usage};
use crate::model::node::Inventory;
use crate::model::refusal::{Code, Refusal};
use crate::model::time::Timestamp;
use crate::sys::clock::boottime_ms;
use crate::sys::files::{boot_id, flock_exclusive, in_words, private_dir};
use crate::sys::identity::is_root;
use crate::sys::spawn::CpuMask;
use crate::wire::hello::VERSION_GANGS;
use crate::wire::join::Credential;
use crate::wire::shepherd::{Assignment, SCRIPT, Site};
use crate::wire::worker::{FromSlot, FromWorker, OpenStream, SlotLaunch, ToSlot, ToWorker};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;

/// Events that may wait for the loop; more make their senders wait.
const EVENTS: usize = 1024;
/// Before a shepherd that lives but does not answer is tried again.
const RELINK: Duration = Duration::from_millis(20);
/// How long a shutdown waits for slots to end.
const SHUTDOWN_MOST: Duration = Duration::from_secs(20);

/// How long the controller may take to hear that nothing is left here.
const LEAVE_MOST: Duration = Duration::from_secs(3);

/// Credentials kept for launches to come.
const CREDENTIALS_MAX: usize = 4096;

/// What the loop is told.
pub(super) enum Event {
    /// The controller welcomed us.
    Found(Reached),
    /// The controller does not want us, and asking again would not change that.
    Refused(Refusal),
    /// An order came over the session with this number.
    Controller(u64, ToWorker),
    /// The session with this number is over, and why.
    ControllerGone(u64, String),
    /// A report came over the link with this number.
    Report(SlotKey, u64, FromSlot),
    /// The link with this number is over; the shepherd's last words, if it could not take its slot.
    LinkGone(SlotKey, u64, Option<String>),
    /// Somebody looked at a slot without a link.
    Looked(SlotKey, Found),
}

/// Whether and how the agent is to stop.
#[derive(Debug)]
enum Stop {
    No,
    /// Once no slot is left.
    WhenEmpty,
    Now,
    /// The controller does not want this worker. Its jobs go on under their shepherds.
    Refused(Refusal),
    /// The cluster has removed this node: its jobs are ended, then the agent goes.
    Removed(Refusal),
}

pub(super) fn run(options: WorkerOptions) -> Result<(), WorkerError> {
    let worker_dir = options.state_dir.join("worker");
    // Under root, owners must reach their scripts through these directories.
    let mode = if is_root() { 0o711 } else { 0o700 };
    private_dir(&worker_dir, mode).map_err(WorkerError::Directory)?;
    let slots_dir = worker_dir.join("slots");
    private_dir(&slots_dir, mode).map_err(WorkerError::Directory)?;
    let mut lock =
        flock_exclusive(&worker_dir.join("agent.pid")).map_err(WorkerError::Directory)?;
    lock.write_pid().map_err(WorkerError::Directory)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(WorkerError::system("start the runtime"))?;
    let outcome = runtime.block_on(async {
        let mut agent = Agent::new(options, worker_dir, slots_dir)?;
        agent.live().await
    });
    // A read from a file system that hangs must not keep us.
    runtime.shutdown_background();
    outcome
}

struct Agent {
    options: WorkerOptions,
    worker_dir: PathBuf,
    slots_dir: PathBuf,
    state_id: String,
    boot_id: String,
    inventory: Inventory,
    /// Where shepherds run, unless that is anywhere.
    cpus_of_jobs: Option<CpuMask>,
    slots: BTreeMap<SlotKey, Slot>,
    /// Shepherds that are our children, to be reaped.
    children: BTreeSet<i32>,
    spare: Option<Spare>,
    session: Option<Session>,
    streams: BTreeMap<u64, (watch::Sender<u64>, AbortHandle)>,
    /// Since when logs of ended slots are kept.
    logs_since: kept_logs::Since,
    events: mpsc::Sender<Event>,
    queue: Option<mpsc::Receiver<Event>>,
    /// Links and sessions are numbered.
    serial: u64,
    ready_fd: Option<i32>,
    stop: Stop,
    accounts: Arc<Accounts>,
    /// Whose jobs alone are run here.
    serves: Option<String>,
    /// Of slots that are about to be launched.
    credentials: BTreeMap<SlotKey, Credential>,
}

impl Agent {
    fn new(
        options: WorkerOptions,
        worker_dir: PathBuf,
        slots_dir: PathBuf,
    ) -> Result<Self, WorkerError> {
        let data = std::fs::metadata(&worker_dir)
            .map_err(WorkerError::system("look at the worker's directory"))?;
        let boot_id = boot_id().map_err(WorkerError::system("read the boot id"))?;
        let (mut inventory, kept) = inventory::inventory(&options, &boot_id)?;
        let cpus_of_jobs = inventory::keep_to(&kept, &inventory);
        let accounts = Accounts {
            controller: options.controller,
            users: options.users.clone(),
            allow_root: options.allow_root,
        };
        let mut serves = None;
        if options.controller == Controller::Elsewhere {
            // The name that the cluster knows this machine's key by.
            inventory.name = inventory::member_name(&options)?;
            serves = accounts.serves().map_err(WorkerError::Serves)?;
        }
        let (events, queue) = mpsc::channel(EVENTS);
        let mut agent = Agent {
            ready_fd: options.ready_fd,
            state_id: format!("{:x}-{:x}", data.dev(), data.ino()),
            options,
            worker_dir,
            slots_dir,
            boot_id,
            inventory,
            cpus_of_jobs,
            slots: BTreeMap::new(),
            children: BTreeSet::new(),
            spare: None,
            session: None,
            streams: BTreeMap::new(),
            logs_since: kept_logs::Since::new(),
            events,
            queue: Some(queue),
            serial: 0,
            stop: Stop::No,
            accounts: Arc::new(accounts),
            serves,
            credentials: BTreeMap::new(),
        };
        agent.find_slots();
        agent.restock();
        Ok(agent)
    }

    async fn live(&mut self) -> Result<(), WorkerError> {
        let Some(mut queue) = self.queue.take() else {
            return Ok(());
        };
        let catch = |kind| signal(kind).map_err(WorkerError::system("catch signals"));
        let mut child = catch(SignalKind::child())?;
        let mut terminate = catch(SignalKind::terminate())?;
        let mut interrupt = catch(SignalKind::interrupt())?;
        let mut leave = catch(SignalKind::user_defined1())?;
        if self.options.controller == Controller::Elsewhere {
            let listener = relay::bind(&self.options.socket)
                .map_err(WorkerError::system("open this machine's socket for jobs"))?;
            let relay = relay::Relay::new(&self.options.state_dir, &self.slots_dir);
            tokio::spawn(relay::serve(listener, relay));
        }
        self.search();
        let mut prune_in = self.prune();
        let mut deadline: Option<tokio::time::Instant> = None;
        loop {
            match &self.stop {
                Stop::Now => return Ok(()),
                Stop::Refused(refusal) => return Err(WorkerError::Refused(refusal.clone())),
                Stop::Removed(refusal) if self.slots.is_empty() => {
                    return Err(WorkerError::Refused(refusal.clone()));
                }
                Stop::WhenEmpty if self.slots.is_empty() => {
                    self.take_leave(&mut queue).await;
                    return Ok(());
                }
                Stop::WhenEmpty | Stop::Removed(_) => {
                    deadline.get_or_insert_with(|| tokio::time::Instant::now() + SHUTDOWN_MOST);
                }
                Stop::No => {}
            }
            let pause = async |until: Option<tokio::time::Instant>| match until {
                Some(until) => tokio::time::sleep_until(until).await,
                None => std::future::pending().await,
            };
            let slots_before = self.slots.len();
            tokio::select! {
                Some(event) = queue.recv() => self.on_event(event),
                _ = child.recv() => self.reap(),
                _ = terminate.recv() => return Ok(()),
                _ = interrupt.recv() => return Ok(()),
                _ = leave.recv() => self.leave(),
                () = pause(self.next_beat()) => self.beat(),
                () = pause(prune_in) => prune_in = self.prune(),
                () = pause(deadline) => return Ok(()),
            }
            if self.slots.len() < slots_before && prune_in.is_none() {
                prune_in = self.prune();
            }
        }
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Found(found) => self.on_found(found),
            Event::Refused(refusal) => self.on_refused(refusal),
            Event::Controller(number, order) if self.is_session(number) => self.on_order(order),
            Event::ControllerGone(number, why) if self.is_session(number) => {
                tracing::warn!(why, "the controller has gone; looking for it again");
                self.close_session();
                self.search();
            }
            Event::Controller(..) | Event::ControllerGone(..) => {}
            Event::Report(key, number, report) => {
                self.on_report(key, number, report);
                // Only now is the job on its way: to start a process takes the time of those who are to begin.
                self.restock();
            }
            Event::LinkGone(key, number, failure) => self.on_link_gone(key, number, failure),
            Event::Looked(key, found) => self.on_looked(key, found),
        }
    }

    // ---- the controller

    fn search(&self) {
        let events = self.events.clone();
        let place = match self.options.controller {
            Controller::Here => Place::Here(self.options.socket.clone()),
            Controller::Elsewhere => Place::Elsewhere(self.options.state_dir.clone()),
        };
        tokio::spawn(async move {
            let event = match session::find(place).await {
                Ok(found) => Event::Found(found),
                Err(refusal) => Event::Refused(refusal),
            };
            let _ = events.send(event).await;
        });
    }

    fn is_session(&self, number: u64) -> bool {
        self.session
            .as_ref()
            .is_some_and(|session| session.number == number)
    }

    fn on_refused(&mut self, refusal: Refusal) {
        self.stop = if refusal.code == Code::Revoked {
            tracing::error!(%refusal, "this node was removed; ending its jobs");
            self.leave();
            Stop::Removed(refusal)
        } else {
            Stop::Refused(refusal)
        };
    }

    fn on_found(&mut self, found: Reached) {
        let mut session = Session::start(found, self.next_serial(), self.events.clone());
        let slots = self
            .slots
            .iter()
            .filter(|(_, slot)| !slot.closing)
            .map(|(key, _)| *key)
            .collect();
        session.asked_ms = boottime_ms();
        let inventory = self.inventory.clone();
        session.say(match self.options.controller {
            Controller::Here => FromWorker::Register { inventory, slots },
            Controller::Elsewhere => FromWorker::Introduce {
                inventory,
                slots,
                user: self.serves.clone(),
            },
        });
        self.session = Some(session);
    }

    fn close_session(&mut self) {
        self.session = None;
        for (_, (_, task)) in std::mem::take(&mut self.streams) {
            task.abort();
        }
    }

    fn next_beat(&self) -> Option<tokio::time::Instant> {
        let session = self.session.as_ref()?;
        session.heartbeat.as_ref().map(Heartbeat::next)
    }

    fn beat(&mut self) {
        if let Some(session) = &mut self.session
            && let Some(heartbeat) = &mut session.heartbeat
        {
            let beat = heartbeat.beat(boottime_ms());
            session.say(beat);
        }
    }

    /// What is good for a lease longer is told so.
    fn on_heard(&mut self, number: u64) {
        let session = self.session.as_mut();
        if let Some(heartbeat) = session.and_then(|session| session.heartbeat.as_mut()) {
            heartbeat.heard(number);
            heartbeat.pass_on_to_all(&mut self.slots);
        }
    }

    /// Passes on, if there is somebody to hear it now; what must not be lost is said again later.
    fn say(&self, message: FromWorker) {
        if let Some(session) = self.session.as_ref().filter(|session| session.registered) {
            session.say(message);
        }
    }

    fn on_order(&mut self, order: ToWorker) {
        match order {
            ToWorker::Registered { slots } => self.on_registered(&slots),
            ToWorker::Slot { key, order } => self.on_slot_order(key, order),
            ToWorker::Credential(credential) => {
                // They come just before their launch; what is left over was never launched.
                if self.credentials.len() >= CREDENTIALS_MAX {
                    self.credentials.pop_first();
                }
                self.credentials.insert(credential.key, credential);
            }
            ToWorker::Ping { nonce } => self.say(FromWorker::Pong { nonce }),
            ToWorker::OpenStream(open) => self.open_stream(open),
            ToWorker::StreamTaken { stream, offset } => {
                if let Some((taken, _)) = self.streams.get(&stream) {
                    taken.send_replace(offset);
                }
            }
            ToWorker::CloseStream { stream } => {
                if let Some((_, task)) = self.streams.remove(&stream) {
                    task.abort();
                }
            }
            ToWorker::Terms {
                silent_after_ms,
                lease_ms,
            } => {
                if let Some(session) = &mut self.session {
                    session.terms = Some((silent_after_ms, lease_ms));
                }
            }
            ToWorker::Heard { number } => self.on_heard(number),
            ToWorker::Shutdown { keep_jobs: true } => self.stop = Stop::Now,
            ToWorker::Shutdown { keep_jobs: false } => self.leave(),
        }
    }

    /// Says that nothing is left here, and waits until that is safe with the controller: it closes the link.
    async fn take_leave(&mut self, queue: &mut mpsc::Receiver<Event>) {
        let Some(session) = self.session.as_ref().filter(|session| session.registered) else {
            return;
        };
        session.say(FromWorker::Leave);
        let number = session.number;
        let closed = async {
            while let Some(event) = queue.recv().await {
                if matches!(event, Event::ControllerGone(gone, _) if gone == number) {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(LEAVE_MOST, closed).await;
    }

    /// Ends every slot; the loop goes once none is left.
    fn leave(&mut self) {
        self.stop = Stop::WhenEmpty;
        for key in self.slots.keys().copied().collect::<Vec<_>>() {
            if let Some(slot) = self.slots.get_mut(&key) {
                // What they still say must not count as an end of their own.
                slot.closing = true;
            }
            self.close_slot(key);
        }
    }

    fn on_registered(&mut self, known: &[SlotKey]) {
        let Some(session) = &mut self.session else {
            return;
        };
        session.register();
        for key in self.slots.keys().copied().collect::<Vec<_>>() {
            self.say_again(key);
            self.go_unasked(key);
            if !known.contains(&key) {
                tracing::warn!(slot = %key, "the controller does not know this slot; ending it");
                if let Some(slot) = self.slots.get_mut(&key) {
                    slot.closing = true;
                }
                self.close_slot(key);
            }
        }
        // Only now: what the controller does not know must not hear that it may go on.
        match self.session.as_ref().and_then(|s| s.heartbeat.as_ref()) {
            Some(heartbeat) => heartbeat.pass_on_again(&mut self.slots),
            None => self.slots.values().for_each(Slot::go_without_lease),
        }
        if let Some(fd) = self.ready_fd.take()
            && let Ok(fd) = crate::sys::inherited::take(fd)
        {
            let _ = std::fs::File::from(fd).write_all(b"\n");
        }
    }

    fn on_slot_order(&mut self, key: SlotKey, order: ToSlot) {
        match (self.slots.get(&key), order) {
            // Nothing new begins on a machine that is being taken out of service.
            (None, ToSlot::Launch(_)) if !matches!(self.stop, Stop::No) => {}
            (None, ToSlot::Launch(launch)) => self.launch(*launch),
            (None, order) => {
                tracing::debug!(slot = %key, ?order, "an order for a slot that is not here")
            }
            (Some(_), ToSlot::Launch(_)) => {}
            (Some(_), ToSlot::Close) => self.close_slot(key),
            (Some(_), ToSlot::Acknowledge { report }) => self.acknowledge(key, report),
            (Some(slot), order) => {
                slot.order(order);
                // More for a slot that could not begin: the controller had not heard of that yet.
                if let Some((text, _)) = slot.failed.clone() {
                    self.fail(key, text);
                }
            }
        }
    }

    fn acknowledge(&mut self, key: SlotKey, report: u64) {
        let Some(slot) = self.slots.get_mut(&key) else {
            return;
        };
        let Life::Dead { reports, .. } = &mut slot.life else {
            return slot.order(ToSlot::Acknowledge { report });
        };
        let said = |other: &FromSlot| matches!(other, FromSlot::Ended { report: number, .. } if *number <= report);
        if reports.iter().any(said) {
            reports.retain(|other| !said(other));
            leftovers::note_acknowledged(&slot.directory, report);
        }
    }

    // ---- slots

    fn launch(&mut self, launch: SlotLaunch) {
        let key = launch.key;
        let directory = self.slots_dir.join(key.to_string());
        let mut slot = Slot::new(directory.clone(), launch.positions.clone());
        slot.takes_lease = launch.spec.requeue;
        self.slots.insert(key, slot);
        let mode = if is_root() { 0o711 } else { 0o700 };
        let made = std::fs::DirBuilder::new().mode(mode).create(&directory);
        if let Err(error) = made {
            return self.fail(
                key,
                format!("cannot make {}: {}", directory.display(), in_words(&error)),
            );
        }
        let spare = match self.spare.take().map_or_else(|| self.start_shepherd(), Ok) {
            Ok(spare) => spare,
            Err(error) => {
                let _ = std::fs::remove_dir(&directory);
                let cause = std::error::Error::source(&error)
                    .map(ToString::to_string)
                    .unwrap_or_default();
                return self.fail(key, format!("{error}: {cause}"));
            }
        };
        let assignment = Assignment {
            site: Site {
                node: self.inventory.name.clone(),
                state_id: self.state_id.clone(),
                script: directory.join(SCRIPT).to_string_lossy().into_owned(),
                account: None,
                variables: vec![(
                    "HPC_CONTROLLER".to_owned(),
                    format!("unix:{}", self.options.socket.to_string_lossy()),
                )],
                refusal: None,
            },
            directory: directory.to_string_lossy().into_owned(),
            boot_id: self.boot_id.clone(),
            become_owner: is_root(),
            launch,
        };
        let number = self.next_serial();
        let credential = self.credentials.remove(&key);
        let accounts = Arc::clone(&self.accounts);
        let begin = Begin::Assign(spare, Box::new(assignment), accounts, credential);
        let link = link(key, number, directory, begin, self.events.clone());
        if let Some(slot) = self.slots.get_mut(&key) {
            slot.connect(link);
            match self.session.as_ref().and_then(|s| s.heartbeat.as_ref()) {
                Some(heartbeat) => heartbeat.pass_on(slot),
                None => slot.go_without_lease(),
            }
        }
        self.go_unasked(key);
    }

    /// A controller of an earlier build never says to a gang that it may begin: with one its nodes do not wait.
    fn go_unasked(&self, key: SlotKey) {
        let mut session = self.session.iter();
        if session.any(|session| session.version < VERSION_GANGS)
            && let Some(slot) = self.slots.get(&key)
        {
            slot.order(ToSlot::Go);
        }
    }

    /// All that was given to a slot fails: it could not even begin.
    fn fail(&mut self, key: SlotKey, text: String) {
        tracing::error!(slot = %key, text, "a slot cannot begin");
        let Some(slot) = self.slots.get_mut(&key) else {
            return;
        };
        let queue = slot.progress.borrow().queue.clone();
        if queue.is_empty() && slot.failed.is_some() {
            return;
        }
        let report = slot.failed.take().map_or(1, |(_, said)| said + 1);
        slot.failed = Some((text.clone(), report));
        let mut reports = match std::mem::replace(&mut slot.life, Life::Unknown) {
            Life::Dead { reports, .. } => reports,
            Life::Unknown | Life::Live(_) => Vec::new(),
        };
        let ended = Timestamp(i64::try_from(crate::sys::clock::wall_ms()).unwrap_or(0));
        let ends = queue.iter().map(|position| ElementEnd {
            position,
            state: JobState::Failed,
            reason: Reason::JobLaunchFailure(text.clone()),
            exit: ExitStatus { code: 1, signal: 0 },
            cancelled_by: None,
            started: None,
            ended,
            usage: Usage::default(),
            restarts: 0,
        });
        reports.push(FromSlot::Ended {
            report,
            ends: ends.collect(),
        });
        self.bury(key, reports, None);
    }

    /// The slot has no shepherd any more; these reports remain.
    fn bury(&mut self, key: SlotKey, reports: Vec<FromSlot>, lock: Option<std::fs::File>) {
        let Some(slot) = self.slots.get_mut(&key) else {
            return;
        };
        for report in &reports {
            slot.follow(report);
        }
        let messages: Vec<FromSlot> = if slot.closing {
            Vec::new()
        } else {
            reports.clone()
        };
        slot.life = Life::Dead {
            reports,
            _lock: lock,
        };
        for report in messages {
            self.say(FromWorker::Slot { key, report });
        }
        if self.slots.get(&key).is_some_and(|slot| slot.closing) {
            self.forget(key);
        }
    }

    /// Ends a slot: its shepherd is told, or, where it is dead, what it left is cleaned up.
    fn close_slot(&mut self, key: SlotKey) {
        let Some(slot) = self.slots.get_mut(&key) else {
            return;
        };
        match &slot.life {
            Life::Live(_) => slot.order(ToSlot::Close),
            // Whoever looks will see it.
            Life::Unknown => slot.closing = true,
            Life::Dead { .. } => self.forget(key),
        }
    }

    fn forget(&mut self, key: SlotKey) {
        if let Some(slot) = self.slots.remove(&key) {
            leftovers::clean(&slot.directory);
        }
    }

    /// Has everything about a slot said that the controller may not have heard.
    fn say_again(&mut self, key: SlotKey) {
        // A link that stands is kept. One that is just handing a slot to its shepherd, above all: without it
        // nobody could tell whether the slot has begun.
        if !self.slots.get(&key).is_some_and(Slot::ask_again) {
            self.relink(key, Duration::ZERO);
        }
    }

    /// Makes the link to a slot's shepherd anew; a dead one's reports are said again.
    fn relink(&mut self, key: SlotKey, pause: Duration) {
        let number = self.next_serial();
        let Some(slot) = self.slots.get_mut(&key) else {
            return;
        };
        if let Life::Dead { reports, .. } = &slot.life {
            let reports = reports.clone();
            for report in reports {
                self.say(FromWorker::Slot { key, report });
            }
            return;
        }
        let begin = Begin::Connect(pause);
        slot.connect(link(
            key,
            number,
            slot.directory.clone(),
            begin,
            self.events.clone(),
        ));
        if slot.closing {
            slot.order(ToSlot::Close);
        }
        self.go_unasked(key);
    }

    fn on_report(&mut self, key: SlotKey, number: u64, report: FromSlot) {
        let Some(slot) = self.slots.get(&key) else {
            return;
        };
        let current = matches!(&slot.life, Life::Live(link) if link.number == number);
        if !current {
            return;
        }
        slot.follow(&report);
        // A controller of an earlier build passes nothing on, and does not understand that it is to.
        if let FromSlot::Peer { to, frame } = &report
            && let (needed, cannot) = frame.needs()
            && self
                .session
                .as_ref()
                .is_some_and(|session| session.version < needed)
        {
            let text = format!(
                "the controller is of an earlier build, which cannot {cannot}; restart it with this build"
            );
            if let Some(frame) = frame.refused(text) {
                slot.order(ToSlot::Peer { from: *to, frame });
            }
            return;
        }
        if !slot.closing && self.is_news(key, &report) {
            self.say(FromWorker::Slot { key, report });
        }
    }

    /// A shepherd says with every lease that it has one; once a session is enough, and some controllers know no leases.
    fn is_news(&mut self, key: SlotKey, report: &FromSlot) -> bool {
        if !matches!(report, FromSlot::Leased { .. }) {
            return true;
        }
        let session = self
            .session
            .as_ref()
            .filter(|session| session.heartbeat.is_some())
            .map(|session| session.number);
        let Some(slot) = self.slots.get_mut(&key) else {
            return false;
        };
        session.is_some() && std::mem::replace(&mut slot.lease_said_in, session) != session
    }

    fn on_link_gone(&mut self, key: SlotKey, number: u64, failure: Option<String>) {
        let Some(slot) = self.slots.get_mut(&key) else {
            return;
        };
        if !matches!(&slot.life, Life::Live(link) if link.number == number) {
            return;
        }
        slot.life = Life::Unknown;
        if let Some(text) = failure {
            return self.fail(key, text);
        }
        let (directory, events) = (slot.directory.clone(), self.events.clone());
        let (boot_id, state_id) = (self.boot_id.clone(), self.state_id.clone());
        tokio::spawn(async move {
            let looked = tokio::task::spawn_blocking(move || {
                leftovers::look(&directory, &boot_id, &state_id)
            })
            .await;
            let _ = events
                .send(Event::Looked(key, looked.unwrap_or(Found::Alive)))
                .await;
        });
    }

    fn on_looked(&mut self, key: SlotKey, found: Found) {
        let Some(slot) = self.slots.get(&key) else {
            return;
        };
        if !matches!(slot.life, Life::Unknown) {
            return;
        }
        match found {
            Found::Alive => self.relink(key, RELINK),
            Found::Closed => self.forget(key),
            Found::Dead { replay, lock } => {
                tracing::error!(slot = %key, "a shepherd was killed");
                let reports = leftovers::dead_reports(&replay, &self.boot_id);
                self.bury(key, reports, Some(lock));
            }
            Found::Nothing => {
                if !leftovers::has_logs(&slot.directory) && !leftovers::put_away(&slot.directory) {
                    // It had only been slow.
                    return self.relink(key, RELINK);
                }
                let positions = slot.progress.borrow().queue.clone();
                self.bury(
                    key,
                    vec![FromSlot::Lost {
                        positions,
                        ends: Vec::new(),
                        certain: true,
                    }],
                    None,
                );
            }
            Found::Unreadable { lock } => {
                tracing::error!(slot = %key, "a shepherd was killed, and its journal does not say what ran");
                let lost = FromSlot::Lost {
                    positions: IndexSet::new(),
                    ends: Vec::new(),
                    certain: false,
                };
                self.bury(key, vec![lost], Some(lock));
            }
        }
    }

    /// What an earlier agent has left.
    fn find_slots(&mut self) {
        for entry in std::fs::read_dir(&self.slots_dir)
            .into_iter()
            .flatten()
            .flatten()
        {
            let directory = entry.path();
            let Some(key) = parse_key(&directory) else {
                if entry.file_name().to_string_lossy().starts_with(ASIDE) {
                    let _ = std::fs::remove_dir_all(&directory);
                }
                continue;
            };
            let mut slot = Slot::found(directory.clone());
            match leftovers::look(&directory, &self.boot_id, &self.state_id) {
                Found::Alive => {}
                Found::Closed => {
                    leftovers::clean(&directory);
                    continue;
                }
                Found::Dead { replay, lock } => {
                    // Nobody will say more.
                    slot.progress.send_modify(|progress| progress.known = true);
                    slot.life = Life::Dead {
                        reports: leftovers::dead_reports(&replay, &self.boot_id),
                        _lock: Some(lock),
                    };
                }
                // Not listed, it is missing to the controller, which knows what that means.
                Found::Unreadable { .. } => {
                    leftovers::clean(&directory);
                    continue;
                }
                Found::Nothing if leftovers::has_logs(&directory) => continue,
                Found::Nothing => {
                    if leftovers::put_away(&directory) {
                        continue;
                    }
                }
            }
            self.slots.insert(key, slot);
        }
    }

    // ---- shepherds

    fn start_shepherd(&mut self) -> Result<Spare, WorkerError> {
        let spare = spare::start(&self.options, &self.worker_dir, self.cpus_of_jobs.as_ref())?;
        self.children.insert(spare.pid);
        Ok(spare)
    }

    fn restock(&mut self) {
        if self.options.spare && self.spare.is_none() {
            match self.start_shepherd() {
                Ok(spare) => self.spare = Some(spare),
                Err(error) => tracing::warn!(%error, "no spare shepherd could be started"),
            }
        }
    }

    /// Collects shepherds that have ended. Only ours: a program that runs an agent may have other children.
    fn reap(&mut self) {
        self.children.retain(|pid| {
            let status = waitpid(Pid::from_raw(*pid), Some(WaitPidFlag::WNOHANG));
            matches!(
                status,
                Ok(WaitStatus::StillAlive) | Err(nix::errno::Errno::EINTR)
            )
        });
        if self
            .spare
            .as_ref()
            .is_some_and(|spare| !self.children.contains(&spare.pid))
        {
            // Not replaced at once: one that cannot begin would be started for ever.
            self.spare = None;
        }
    }

    fn prune(&mut self) -> Option<tokio::time::Instant> {
        let next = kept_logs::prune(
            &self.slots_dir,
            |key| self.slots.contains_key(key),
            &mut self.logs_since,
            Duration::from_millis(boottime_ms()),
        )?;
        Some(tokio::time::Instant::now() + next.max(Duration::from_secs(1)))
    }

    // ---- output

    fn open_stream(&mut self, open: OpenStream) {
        let Some(session) = &self.session else { return };
        let stream = open.stream;
        let (taken, taken_by_reader) = watch::channel(open.offset);
        let serving = Serving {
            directory: self.slots_dir.join(open.key.to_string()),
            progress: self
                .slots
                .get(&open.key)
                .map(|slot| slot.progress.subscribe()),
            taken: taken_by_reader,
            data: session.data.clone(),
            open,
            accounts: Arc::clone(&self.accounts),
        };
        let task = tokio::spawn(serving.run());
        self.streams.retain(|_, (_, task)| !task.is_finished());
        if let Some((_, old)) = self.streams.insert(stream, (taken, task.abort_handle())) {
            old.abort();
        }
    }

    fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }
}
