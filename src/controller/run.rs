//! The loop: take, decide, apply, plan, commit, publish, act.

use super::callers;
use super::clock::Steps;
use super::links::Links;
use super::listening::{self, Listen};
use super::relays::Relays;
use super::shares::Shares;
use super::{act, audit, rules};
use crate::cluster::{Cluster, Command, Effect, Reply, Settings, Snapshot};
use crate::config::{self, Config};
use crate::model::audit::AuditRecord;
use crate::model::identity::Identity;
use crate::model::ids::{BlobId, JobId, NodeId};
use crate::model::refusal::{Code, Refusal};
use crate::model::time::Timestamp;
use crate::net::identity::{Authority, IdentityError};
use crate::net::server::{Cutter, Peer, Server, ServerError};
use crate::scheduler::explain::Experience;
use crate::scheduler::forecast::{Forecast, Outlook};
use crate::scheduler::priority::{SizeRule, Weights};
use crate::scheduler::{Policy, Rule};
use crate::store::{Reader, Store, StoreError, StoreOptions};
use crate::sys::{clock, files};
use crate::wire::worker::ToWorker;
use arc_swap::{ArcSwap, ArcSwapOption};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

/// Commands that wait for the loop; senders wait when it is full.
const INBOX_MAX: usize = 65_536;
/// Commands of one turn, so that a commit stays bounded.
const TURN_MAX: usize = 4_096;
/// Between two pieces of upkeep.
const TIDY_PAUSE_MS: i64 = 20;
/// Rows touched by one piece of upkeep.
const TIDY_ROWS: usize = 512;
/// Ended jobs kept, whatever their age.
const HISTORY_MAX: u64 = 10_000_000;
/// Quiet time after which the store is settled.
const SETTLE_AFTER_MS: i64 = 1_000;
/// Between attempts to open the store again after it failed.
const STORE_RETRY: Duration = Duration::from_secs(1);

/// How to start a controller.
#[derive(Debug, Clone)]
pub struct ControllerOptions {
    /// Where its state lives.
    pub state_dir: PathBuf,
    /// Its local socket.
    pub socket: PathBuf,
    /// Where other machines are heard.
    pub listen: Listen,
    /// Name of the cluster.
    pub cluster_name: Option<String>,
    /// What the configuration file says.
    pub config: Config,
    /// Gets one byte when the controller answers.
    pub ready_fd: Option<i32>,
    /// Make every sync of the store this much slower, as on a lab's disk. For benches.
    pub sync_delay: Option<Duration>,
}

/// Why a controller does not run.
#[derive(Debug, thiserror::Error)]
pub enum ControllerError {
    /// A directory could not be made private.
    #[error("cannot use the state directory {path}")]
    StateDir {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: files::FilesError,
    },
    /// The state directory is on a network file system.
    #[error(
        "the state directory {path} is on {kind}: put it on a local disk with --state-dir or HPC_STATE_DIR"
    )]
    NetworkFileSystem {
        /// Which.
        path: PathBuf,
        /// `nfs` and so on.
        kind: String,
    },
    /// Another controller has it.
    #[error(
        "another controller runs on {path}{holder}: stop it with `hpc down`, or use another --state-dir"
    )]
    Locked {
        /// Which.
        path: PathBuf,
        /// ` (process 12)` or nothing.
        holder: String,
    },
    /// The store does not open.
    #[error("cannot open the store")]
    Store(#[from] StoreError),
    /// The socket does not bind.
    #[error("cannot listen on {path}")]
    Socket {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// What the configuration says of partitions and so on does not fit together.
    #[error("cannot begin with the configuration: {}", .0.what)]
    Rules(Refusal),
    /// Keys cannot be used.
    #[error("cannot use the keys of this cluster")]
    Keys(#[from] IdentityError),
    /// The port for other machines.
    #[error(
        "cannot listen for other machines: choose another address with --listen, or `--listen none`"
    )]
    Port(#[from] ServerError),
    /// No threads, no signals.
    #[error("cannot start")]
    Runtime(#[source] std::io::Error),
}

/// What sessions share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) options: ControllerOptions,
    pub(super) inbox: mpsc::Sender<Message>,
    pub(super) snapshot: ArcSwap<Snapshot>,
    pub(super) reader: ArcSwapOption<Reader>,
    pub(super) links: Arc<Links>,
    /// What nodes of a slot say to each other.
    pub(super) relays: Relays,
    pub(super) step_turns: super::step_turns::StepTurns,
    pub(super) attached: super::attach::Attached,
    pub(super) started: Timestamp,
    pub(super) uid: u32,
    pub(super) names: callers::Names,
    pub(super) shares: Shares,
    pub(super) authority: Authority,
    /// Where other machines are heard.
    pub(super) listening: Option<SocketAddr>,
    pub(super) cutter: Cutter,
    /// When jobs will start, as last looked.
    pub(super) forecast: ArcSwap<Forecast>,
}

/// What comes to the loop.
#[derive(Debug)]
pub(super) enum Message {
    /// A command that somebody waits for.
    Ask {
        command: Command,
        blobs: Vec<(BlobId, Arc<[u8]>)>,
        answer: oneshot::Sender<Result<Reply, Refusal>>,
    },
    /// A command that nobody waits for.
    Tell(Command),
    /// What a worker says of a slot; room for it is given back once it was taken.
    Report {
        command: Command,
        room: OwnedSemaphorePermit,
    },
    /// A worker registers over this link.
    Register {
        command: Command,
        link: u64,
        outbox: mpsc::Sender<ToWorker>,
        peer: Option<Arc<Peer>>,
        answer: oneshot::Sender<Result<NodeId, Refusal>>,
    },
    /// A worker's link is gone.
    LinkLost { node: NodeId, link: u64 },
    /// Somebody wants to hear of a job.
    Watch { job: JobId, listener: act::Listener },
    /// Somebody wants to look ahead.
    Outlook {
        answer: oneshot::Sender<(Box<Outlook>, Experience)>,
    },
    /// Start nothing more.
    Freeze,
    /// Stop.
    Stop,
}

impl Shared {
    /// Asks the loop; the answer comes after the commit.
    pub(super) async fn ask(&self, command: Command) -> Result<Reply, Refusal> {
        self.ask_with(command, Vec::new()).await
    }

    /// Asks the loop and hands it blobs to store in the same commit.
    pub(super) async fn ask_with(
        &self,
        command: Command,
        blobs: Vec<(BlobId, Arc<[u8]>)>,
    ) -> Result<Reply, Refusal> {
        let (answer, heard) = oneshot::channel();
        let stopping = || {
            Refusal::new(
                Code::Failed,
                "the controller is stopping",
                "try again once it is back",
            )
        };
        self.inbox
            .send(Message::Ask {
                command,
                blobs,
                answer,
            })
            .await
            .map_err(|_| stopping())?;
        heard.await.map_err(|_| stopping())?
    }

    pub(super) async fn tell(&self, command: Command) {
        _ = self.inbox.send(Message::Tell(command)).await;
    }
}

/// The controller's clock.
pub(super) fn now() -> Timestamp {
    Timestamp(i64::try_from(clock::wall_ms()).unwrap_or(i64::MAX))
}

/// Runs a controller until it is told to stop.
///
/// # Errors
/// When it cannot start; what fails later is mended or logged.
pub fn run(options: ControllerOptions) -> Result<(), ControllerError> {
    let directory = options.state_dir.join("controller");
    prepare(&options.state_dir, &directory)?;
    let mut lock = lock(&directory)?;
    let (store, loaded) = Store::open(&directory.join("hpc.redb"), store_options(&options))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(ControllerError::Runtime)?;
    let (inbox, messages) = mpsc::channel(INBOX_MAX);
    let started = now();
    let cluster = build_cluster(&options, loaded, started).map_err(ControllerError::Rules)?;
    let authority = Authority::open(&options.state_dir, &cluster.snapshot().name, started)?;
    let server = {
        let _guard = runtime.enter();
        listening::listen(options.listen, &directory, &authority, started)?
    };
    let shared = Arc::new(Shared {
        inbox,
        snapshot: ArcSwap::from_pointee(cluster.snapshot()),
        reader: ArcSwapOption::from_pointee(store.reader()),
        links: Arc::new(Links::new()),
        relays: Relays::default(),
        step_turns: Default::default(),
        attached: super::attach::Attached::default(),
        started,
        uid: nix::unistd::geteuid().as_raw(),
        names: callers::Names::default(),
        shares: Shares::new(),
        authority,
        listening: server.as_ref().map(Server::address),
        cutter: server.as_ref().map(Server::cutter).unwrap_or_default(),
        forecast: ArcSwap::default(),
        options,
    });
    let listener = {
        let _guard = runtime.enter();
        listen(&shared.options.socket)?
    };
    runtime.spawn(callers::accept(Arc::clone(&shared), listener));
    if let Some(server) = server {
        let _guard = runtime.enter();
        runtime.spawn(callers::accept_remote(Arc::clone(&shared), server.start()));
    }
    runtime.spawn(super::ahead::keep_looking(Arc::clone(&shared)));
    runtime.spawn(stop_on_signal(Arc::clone(&shared)));
    runtime.spawn(super::attach::end_orphans(Arc::clone(&shared)));
    tell_ready(shared.options.ready_fd);
    let listening = shared.listening.map(|address| address.to_string());
    tracing::info!(socket = %shared.options.socket.display(), listening, "controller ready");
    let owner = Owner {
        store: Some(store),
        cluster,
        shared: Arc::clone(&shared),
        watchers: BTreeMap::new(),
        runtime: runtime.handle().clone(),
        frozen: false,
        strangers: audit::Strangers::default(),
        settle_at: None,
        steps: Steps::new(),
    };
    // The loop has a thread of its own: a commit blocks it and nothing else.
    let local = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .map_err(ControllerError::Runtime)?;
    local.block_on(owner.run(messages));
    shared.links.drop_all();
    _ = std::fs::remove_file(&shared.options.socket);
    runtime.shutdown_timeout(Duration::from_millis(500));
    if let Err(error) = lock.clear_pid() {
        tracing::warn!(%error, "the pid file keeps our number");
    }
    tracing::info!("controller stopped");
    Ok(())
}

fn store_options(options: &ControllerOptions) -> StoreOptions {
    StoreOptions {
        cache_bytes: options.config.store_cache_mib * 1024 * 1024,
        sync_delay: options.sync_delay,
    }
}

fn build_cluster(
    options: &ControllerOptions,
    loaded: crate::store::Loaded,
    now: Timestamp,
) -> Result<Cluster, Refusal> {
    let settings = Settings {
        name: options
            .cluster_name
            .clone()
            .unwrap_or_else(|| options.config.cluster_name.clone()),
        node_timeout_ms: i64::from(options.config.node_timeout_s) * 1000,
        lease_ms: u64::from(options.config.lease_s) * 1000,
        gang_start_ms: i64::from(options.config.gang_start_s) * 1000,
        jobs_max: options.config.jobs_max as usize,
        array_max: options.config.array_index_max.saturating_add(1),
        certificate_life_ms: i64::from(options.config.certificate_life_s) * 1000,
        allow_root_jobs: options.config.allow_root_jobs,
        policy: policy(&options.config),
        half_life_s: options.config.usage_half_life_s,
        ..Settings::default()
    };
    let recent = loaded
        .recent
        .into_iter()
        .map(|(id, state, exit, _)| (id, state, exit))
        .collect();
    let (rules, new) = rules::begin(loaded.rules, &options.config)?;
    let cluster = Cluster::with_rules(
        rules,
        settings,
        loaded.counters,
        loaded.jobs,
        loaded.nodes,
        recent,
        now,
    )
    .with_members(loaded.keys, loaded.invitations)
    .with_usage(loaded.usage)
    .with_orders(loaded.orders);
    Ok(if new {
        cluster.storing_rules()
    } else {
        cluster
    })
}

/// Who goes first and who starts, as the configuration says.
fn policy(config: &Config) -> Policy {
    let rule = match config.policy {
        config::Policy::Fcfs => Rule::Fcfs,
        config::Policy::Easy => Rule::Easy,
        config::Policy::EasySjbf => Rule::EasySjbf,
        config::Policy::Conservative => Rule::Conservative,
    };
    let weights = &config.priority;
    Policy {
        rule,
        weights: Weights {
            age: weights.age,
            fair_share: weights.fair_share,
            size: weights.size,
            partition: weights.partition,
            qos: weights.qos,
            tres_cpu: weights.cpus,
            tres_gpu: weights.gpus,
            max_age_s: weights.max_age_s,
            size_rule: if weights.favour_small {
                SizeRule::Small
            } else {
                SizeRule::Large
            },
        },
    }
}

fn prepare(state_dir: &Path, directory: &Path) -> Result<(), ControllerError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| ControllerError::StateDir { path, source }
    };
    let mode = if nix::unistd::geteuid().is_root() {
        0o755
    } else {
        0o700
    };
    files::private_dir(state_dir, mode).map_err(failed(state_dir))?;
    files::private_dir(directory, 0o700).map_err(failed(directory))?;
    // Where that cannot be told the lock and the store will say what is wrong.
    if let Ok(Some(kind)) = files::is_network_filesystem(directory) {
        return Err(ControllerError::NetworkFileSystem {
            path: state_dir.to_owned(),
            kind: kind.to_owned(),
        });
    }
    Ok(())
}

fn lock(directory: &Path) -> Result<files::LockedFile, ControllerError> {
    let path = directory.join("controller.pid");
    files::flock_exclusive(&path)
        .map_err(|error| match error {
            files::FilesError::Held { pid, .. } => ControllerError::Locked {
                path: directory.to_owned(),
                holder: pid.map_or_else(String::new, |pid| format!(" (process {pid})")),
            },
            source => ControllerError::StateDir {
                path: path.clone(),
                source,
            },
        })
        .and_then(|mut lock| match lock.write_pid() {
            Ok(()) => Ok(lock),
            Err(source) => Err(ControllerError::StateDir { path, source }),
        })
}

fn listen(socket: &Path) -> Result<tokio::net::UnixListener, ControllerError> {
    let failed = |source| ControllerError::Socket {
        path: socket.to_owned(),
        source,
    };
    let directory = socket.parent().unwrap_or(Path::new("/"));
    let name = socket
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    if !directory.exists() {
        std::fs::create_dir_all(directory).map_err(failed)?;
    }
    // We hold the lock of the state directory, so a socket left behind is our own.
    _ = std::fs::remove_file(socket);
    let listener = files::bind_unix(directory, &name).map_err(failed)?;
    let mode = if nix::unistd::geteuid().is_root() {
        0o666
    } else {
        0o600
    };
    std::fs::set_permissions(socket, std::os::unix::fs::PermissionsExt::from_mode(mode))
        .map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    tokio::net::UnixListener::from_std(listener).map_err(failed)
}

fn tell_ready(fd: Option<i32>) {
    let written = match fd {
        // Through /proc, because a bare number is no descriptor of ours by right.
        Some(fd) => std::fs::OpenOptions::new()
            .write(true)
            .open(format!("/proc/self/fd/{fd}"))
            .and_then(|mut pipe| std::io::Write::write_all(&mut pipe, b"1")),
        // Started by systemd, perhaps; what `hpc up` starts says it to `hpc up` alone.
        None => crate::sys::notify::ready(),
    };
    if let Err(error) = written {
        tracing::warn!(%error, "nobody heard that the controller is ready");
    }
}

async fn stop_on_signal(shared: Arc<Shared>) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut term), Ok(mut int)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        return;
    };
    tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
    _ = shared.inbox.send(Message::Stop).await;
}

/// The one owner of the cluster and the store.
struct Owner {
    /// `None` while it failed and has not been opened again.
    store: Option<Store>,
    cluster: Cluster,
    shared: Arc<Shared>,
    watchers: act::Watchers,
    /// Where sessions run.
    runtime: tokio::runtime::Handle,
    /// The jobs are being ended: start nothing more.
    frozen: bool,
    /// Refused newcomers, who must not fill the audit.
    strangers: audit::Strangers,
    /// When to leave the store quick to open, unless something is committed before.
    settle_at: Option<Timestamp>,
    steps: Steps,
}

/// Somebody who waits, and what they will hear.
type Answer = (
    oneshot::Sender<Result<Reply, Refusal>>,
    Result<Reply, Refusal>,
);

/// A worker that was taken in this turn.
struct Registered {
    node: NodeId,
    link: u64,
    outbox: mpsc::Sender<ToWorker>,
    peer: Option<Arc<Peer>>,
    answer: oneshot::Sender<Result<NodeId, Refusal>>,
}

/// What one turn gathers before its commit.
#[derive(Default)]
struct Turn {
    effects: Vec<Effect>,
    blobs: Vec<(BlobId, Arc<[u8]>)>,
    answers: Vec<Answer>,
    audit: Vec<AuditRecord>,
    registered: Vec<Registered>,
    /// Listeners that hear from this turn on.
    watching: Vec<(JobId, act::Listener)>,
    stop: bool,
}

impl Owner {
    async fn run(mut self, mut messages: mpsc::Receiver<Message>) {
        let mut batch = Vec::with_capacity(TURN_MAX);
        loop {
            batch.clear();
            let deadline = self
                .cluster
                .next_deadline()
                .into_iter()
                .chain(self.settle_at)
                .min();
            let wait = deadline
                .map(|at| Duration::from_millis(u64::try_from(at.minus(now())).unwrap_or(0)));
            let due = match wait {
                None => {
                    messages.recv_many(&mut batch, TURN_MAX).await;
                    false
                }
                Some(wait) => tokio::select! {
                    biased;
                    _ = messages.recv_many(&mut batch, TURN_MAX) => false,
                    () = tokio::time::sleep(wait) => true,
                },
            };
            if self.turn(&mut batch, due) {
                return;
            }
            if self.store.is_none() && self.reopen(&mut messages).await {
                return;
            }
        }
    }

    /// One turn; true when it was the last.
    fn turn(&mut self, batch: &mut Vec<Message>, due: bool) -> bool {
        let mut turn = Turn::default();
        if let Some(by_ms) = self.steps.taken() {
            tracing::warn!(by_ms, "the clock of this machine was set");
            self.handle(now(), Command::ClockStepped { by_ms }, &mut turn);
        }
        let now = now();
        for message in batch.drain(..) {
            self.take(now, message, &mut turn);
        }
        if due {
            self.handle(now, Command::Tick, &mut turn);
            self.settle(now);
        }
        if turn.effects.contains(&Effect::Plan) {
            if self.frozen {
                self.handle(now, Command::CloseIdle, &mut turn);
            } else {
                turn.effects.extend(self.cluster.schedule(now));
            }
        }
        self.commit_and_act(turn)
    }

    /// After a quiet while: so that a controller killed now opens its store at once.
    fn settle(&mut self, now: Timestamp) {
        if self.settle_at.is_none_or(|at| at > now) {
            return;
        }
        self.settle_at = None;
        let Some(store) = &mut self.store else { return };
        let days = i64::from(self.shared.options.config.history_days);
        match tidy(store, now, days) {
            // More is left: go on after other work.
            Ok(true) => self.settle_at = Some(now.plus_ms(TIDY_PAUSE_MS)),
            Ok(false) => {}
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the store failed; opening it again"
                );
                self.store = None;
            }
        }
    }

    fn handle(&mut self, now: Timestamp, command: Command, turn: &mut Turn) {
        match self.cluster.handle(now, command) {
            Ok(handled) => turn.effects.extend(handled.effects),
            Err(refusal) => tracing::warn!(%refusal, "an internal command was refused"),
        }
    }

    fn take(&mut self, now: Timestamp, message: Message, turn: &mut Turn) {
        match message {
            Message::Ask {
                command,
                blobs,
                answer,
            } => {
                let draft = audit::draft(&command);
                let result = self.cluster.handle(now, command).map(|handled| {
                    turn.effects.extend(handled.effects);
                    turn.blobs.extend(blobs);
                    handled.reply
                });
                let line = draft.and_then(|draft| draft.finish(now, &result));
                turn.audit
                    .extend(line.filter(|line| self.strangers.admit(line)));
                turn.answers.push((answer, result));
            }
            Message::Tell(command) => self.handle(now, command, turn),
            Message::Report { command, room } => {
                self.handle(now, command, turn);
                drop(room);
            }
            Message::Register {
                command,
                link,
                outbox,
                peer,
                answer,
            } if peer
                .as_ref()
                .is_some_and(|peer| !self.still_knows(peer, &command)) =>
            {
                // Revoked between its hello and now.
                drop((link, outbox));
                _ = answer.send(Err(crate::cluster::membership::unknown_key()));
            }
            Message::Register {
                command,
                link,
                outbox,
                peer,
                answer,
            } => match self.cluster.handle(now, command) {
                Ok(handled) => {
                    turn.effects.extend(handled.effects);
                    if let Reply::Registered(node) = handled.reply {
                        turn.registered.push(Registered {
                            node,
                            link,
                            outbox,
                            peer,
                            answer,
                        });
                    }
                }
                Err(refusal) => _ = answer.send(Err(refusal)),
            },
            Message::LinkLost { node, link } => {
                let newer = turn
                    .registered
                    .iter()
                    .any(|new| new.node == node && new.link != link);
                if self.shared.links.disconnect(node, link) && !newer {
                    self.handle(now, Command::LinkLost { node }, turn);
                }
            }
            Message::Watch { job, listener } => {
                let listeners = self.watchers.entry(job).or_default();
                listeners.retain(act::Listener::is_there);
                listeners.push(listener.clone());
                turn.watching.push((job, listener));
            }
            Message::Outlook { answer } => {
                let seen = (Box::new(self.cluster.outlook()), self.cluster.experience());
                _ = answer.send(seen);
            }
            Message::Freeze => self.frozen = true,
            Message::Stop => turn.stop = true,
        }
    }

    /// Whether the key of a worker elsewhere still speaks for the node that it introduces.
    fn still_knows(&self, peer: &Peer, command: &Command) -> bool {
        let Command::Register { inventory, .. } = command else {
            return false;
        };
        let node = Identity::Node(inventory.name.clone());
        self.cluster
            .key(peer.key)
            .is_some_and(|known| known.identity == node)
    }

    /// The commit, then, only if it held, everything that others see.
    fn commit_and_act(&mut self, turn: Turn) -> bool {
        let mut changes = self.cluster.take_changes();
        changes.audit = turn.audit;
        if !changes.is_empty() {
            let Some(store) = &mut self.store else {
                return turn.stop;
            };
            if let Err(error) = store.commit(&changes, &turn.blobs) {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the store failed; opening it again"
                );
                self.store = None;
                refuse_all(turn.answers, &error);
                self.confirm(turn.watching);
                return turn.stop;
            }
            self.settle_at = Some(now().plus_ms(SETTLE_AFTER_MS));
        }
        let sending = self.shared.links.turn();
        let mut snapshot = self.cluster.snapshot();
        snapshot.forecast = self.shared.forecast.load_full();
        self.shared.snapshot.store(Arc::new(snapshot));
        for Registered {
            node,
            link,
            outbox,
            peer,
            answer,
        } in turn.registered
        {
            let ours = self
                .cluster
                .jobs()
                .flat_map(|job| job.slots.iter().map(move |slot| (job.id, slot)));
            let slots = ours
                .filter(|(_, slot)| slot.allocation.share(node).is_some())
                .map(|(job, slot)| crate::model::ids::SlotKey { job, slot: slot.id })
                .collect();
            _ = outbox.try_send(ToWorker::Registered { slots });
            self.shared.links.connect(node, link, outbox, peer);
            _ = answer.send(Ok(node));
        }
        act::act(&self.shared, &mut self.watchers, turn.effects);
        drop(sending);
        self.confirm(turn.watching);
        for (answer, result) in turn.answers {
            _ = answer.send(result);
        }
        turn.stop
    }

    /// Tells new listeners that they hear, after what they may look up is there to be seen. Of a job that has ended
    /// there is nothing more to hear.
    fn confirm(&mut self, watching: Vec<(JobId, act::Listener)>) {
        for (job, listener) in watching {
            listener.tell(&act::Notice::Watching);
            if self.cluster.job(job).is_none() {
                self.watchers.remove(&job);
            }
        }
    }

    /// Back to the last durable state: what failed was never acknowledged. True when it was told to stop meanwhile.
    async fn reopen(&mut self, messages: &mut mpsc::Receiver<Message>) -> bool {
        self.shared.links.drop_all();
        self.shared.reader.store(None);
        let path = self
            .shared
            .options
            .state_dir
            .join("controller")
            .join("hpc.redb");
        loop {
            match Store::open(&path, store_options(&self.shared.options)) {
                Ok((store, loaded)) => {
                    self.steps = Steps::new();
                    self.cluster = build_cluster(&self.shared.options, loaded, now())
                        .expect("what the configuration says fitted together at the start");
                    self.shared
                        .snapshot
                        .store(Arc::new(self.cluster.snapshot()));
                    self.shared.reader.store(Some(Arc::new(store.reader())));
                    self.store = Some(store);
                    // Clients may have gone in the turn that failed.
                    self.runtime
                        .spawn(super::attach::end_orphans(Arc::clone(&self.shared)));
                    tracing::info!("the store is open again");
                    return false;
                }
                Err(error) => {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "the store does not open"
                    );
                    tokio::time::sleep(STORE_RETRY).await;
                    while let Ok(message) = messages.try_recv() {
                        match message {
                            Message::Ask { answer, .. } => {
                                _ = answer.send(Err(store_failed(&error)));
                            }
                            Message::Stop => return true,
                            _ => {}
                        }
                    }
                }
            }
        }
    }
}

/// A bounded piece of the store's upkeep: forget what is too old, join short rows, leave it quick to open.
/// True when there is more to do.
fn tidy(store: &mut Store, now: Timestamp, history_days: i64) -> Result<bool, StoreError> {
    let before = if history_days == 0 {
        Timestamp(i64::MIN)
    } else {
        now.plus_ms(-history_days * 86_400_000)
    };
    let purged = store.purge(before, HISTORY_MAX, TIDY_ROWS)?;
    let more = store.merge_rows(TIDY_ROWS)? || purged.more;
    if !more {
        store.settle()?;
    }
    Ok(more)
}

fn store_failed(error: &StoreError) -> Refusal {
    use std::error::Error as _;
    let mut text = format!("the store could not be written: {error}");
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    Refusal::new(
        Code::Failed,
        text,
        "nothing was changed; make room on the disk of the state directory, then repeat",
    )
}

fn refuse_all(answers: Vec<Answer>, error: &StoreError) {
    for (answer, _) in answers {
        _ = answer.send(Err(store_failed(error)));
    }
}
