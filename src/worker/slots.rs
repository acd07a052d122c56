//! The slots of this node, and the link to each one's shepherd.

use super::accounts::Accounts;
use super::frames::{self, FrameReader};
use super::run::Event;
use super::spare::Spare;
use crate::model::ids::{JobId, SlotId, SlotKey, StepId};
use crate::model::index_set::IndexSet;
use crate::sys::files::{connect_unix, in_words};
use crate::wire::codec::FRAME_MAX;
use crate::wire::hello::{VERSION, VERSION_GANGS};
use crate::wire::join::Credential;
use crate::wire::older;
use crate::wire::shepherd::{
    Assignment, CREDENTIAL, FromShepherd, LEASED, SOCKET, ToShepherd, WORDS,
};
use crate::wire::worker::{FromSlot, ToSlot};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;

/// Orders written together at most.
const ORDERS_TOGETHER: usize = 16;

/// How far a slot is, for those who follow its output.
#[derive(Debug, Clone, Default)]
pub(super) struct Progress {
    /// Of a slot found again only its shepherd knows, and has not said so yet.
    pub(super) known: bool,
    /// Positions held and not ended.
    pub(super) queue: IndexSet,
    /// Steps that have ended here.
    pub(super) steps_over: BTreeSet<StepId>,
}

/// A slot of this node.
pub(super) struct Slot {
    pub(super) directory: PathBuf,
    pub(super) progress: watch::Sender<Progress>,
    pub(super) life: Life,
    /// Why it could not begin, and how many reports have said so.
    pub(super) failed: Option<(String, u64)>,
    /// The controller does not know it, or has closed it: its reports interest nobody.
    pub(super) closing: bool,
    /// The version of the words that its shepherd knows.
    version: u16,
    /// Its job may run again, and its shepherd takes a lease.
    pub(super) takes_lease: bool,
    /// The moment last said to the shepherd over the present link; 0 = none.
    pub(super) leased_until_ms: u64,
    /// The session in which the controller was told that the shepherd has a lease.
    pub(super) lease_said_in: Option<u64>,
}

/// Whether a slot has a shepherd.
pub(super) enum Life {
    /// Yes, and this is the way to it.
    Live(Link),
    /// Nobody looked yet, or somebody is looking now.
    Unknown,
    /// No: these reports remain, to be said on every registration until the slot is closed.
    Dead {
        reports: Vec<FromSlot>,
        /// Keeps a late starter out.
        _lock: Option<File>,
    },
}

/// A link to a shepherd; orders may be given before it stands.
pub(super) struct Link {
    /// Distinguishes it from earlier ones.
    pub(super) number: u64,
    orders: mpsc::UnboundedSender<ToShepherd>,
    task: AbortHandle,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// How a link begins.
pub(super) enum Begin {
    /// With a shepherd that has no slot yet: it gets this one.
    Assign(Spare, Box<Assignment>, Arc<Accounts>, Option<Credential>),
    /// At the socket of a slot that has one, after this pause.
    Connect(Duration),
}

impl Slot {
    pub(super) fn new(directory: PathBuf, queue: IndexSet) -> Self {
        let (progress, _) = watch::channel(Progress {
            known: true,
            queue,
            steps_over: BTreeSet::new(),
        });
        Slot {
            directory,
            progress,
            life: Life::Unknown,
            failed: None,
            closing: false,
            version: VERSION,
            takes_lease: false,
            leased_until_ms: 0,
            lease_said_in: None,
        }
    }

    /// One that an earlier agent has left.
    pub(super) fn found(directory: PathBuf) -> Self {
        let mut slot = Slot::new(directory, IndexSet::new());
        slot.takes_lease = slot.directory.join(LEASED).exists();
        let words = std::fs::read_link(slot.directory.join(WORDS)).ok();
        slot.version = words
            .and_then(|version| version.to_str()?.parse().ok())
            .unwrap_or(VERSION_GANGS);
        slot.progress.send_modify(|progress| progress.known = false);
        slot
    }

    /// Whether there is a link to its shepherd.
    pub(super) fn is_live(&self) -> bool {
        matches!(self.life, Life::Live(_))
    }

    /// From now on the shepherd is spoken to over this link.
    pub(super) fn connect(&mut self, link: Link) {
        self.life = Life::Live(link);
        self.leased_until_ms = 0;
    }

    /// Gives an order, if there is somebody to take it.
    pub(super) fn order(&self, order: ToSlot) {
        if let ToSlot::Extend { positions, .. } = &order {
            self.progress
                .send_modify(|progress| progress.queue.union_with(positions));
        }
        if let Life::Live(link) = &self.life
            && let Some(order) = older::order_for(self.version, order)
        {
            let _ = link.orders.send(ToShepherd::Slot(order));
        }
    }

    /// Asks the shepherd to say everything again; whether there is a link to ask over.
    pub(super) fn ask_again(&self) -> bool {
        match &self.life {
            Life::Live(link) => link.orders.send(ToShepherd::Repeat).is_ok(),
            Life::Unknown | Life::Dead { .. } => false,
        }
    }

    /// Follows a report.
    pub(super) fn follow(&self, report: &FromSlot) {
        self.progress.send_if_modified(|progress| match report {
            FromSlot::Status { queue, .. } => {
                progress.known = true;
                progress.queue = queue.clone();
                true
            }
            FromSlot::Ended { ends, .. } => {
                for end in ends {
                    progress.queue.remove(end.position);
                }
                true
            }
            FromSlot::Retracted { positions, .. } => {
                progress.queue.subtract(positions);
                true
            }
            FromSlot::StepEnded { end, .. } => progress.steps_over.insert(end.step),
            FromSlot::Lost { .. } => {
                progress.known = true;
                progress.queue = IndexSet::new();
                true
            }
            FromSlot::Started { .. }
            | FromSlot::StdinTaken { .. }
            | FromSlot::Leased { .. }
            | FromSlot::Peer { .. } => false,
        });
    }
}

/// Starts a link.
pub(super) fn link(
    key: SlotKey,
    number: u64,
    directory: PathBuf,
    begin: Begin,
    events: mpsc::Sender<Event>,
) -> Link {
    let (orders, queue) = mpsc::unbounded_channel();
    let task = tokio::spawn(async move {
        let failure = match serve(key, number, &directory, begin, queue, &events).await {
            Ok(failure) => failure,
            Err(error) => {
                tracing::debug!(%error, slot = %key, "a link to a shepherd ended");
                None
            }
        };
        let _ = events.send(Event::LinkGone(key, number, failure)).await;
    });
    Link {
        number,
        orders,
        task: task.abort_handle(),
    }
}

/// Passes orders and reports until the shepherd is gone; the reason, where it gave one.
async fn serve(
    key: SlotKey,
    number: u64,
    directory: &Path,
    begin: Begin,
    mut orders: mpsc::UnboundedReceiver<ToShepherd>,
    events: &mpsc::Sender<Event>,
) -> std::io::Result<Option<String>> {
    let stream = match begin {
        Begin::Connect(pause) => {
            tokio::time::sleep(pause).await;
            connect_unix(directory, SOCKET)?
        }
        Begin::Assign(ref spare, ..) => spare.stream.try_clone()?,
    };
    stream.set_nonblocking(true)?;
    let (reader, mut writer) = UnixStream::from_std(stream)?.into_split();
    if let Begin::Assign(spare, mut assignment, accounts, credential) = begin {
        drop(spare);
        let owner = assignment.launch.owner.clone();
        match tokio::task::spawn_blocking(move || accounts.look_up(&owner)).await {
            Ok(Ok(account)) => assignment.site.account = account,
            Ok(Err(refusal)) => assignment.site.refusal = Some(refusal),
            Err(error) => assignment.site.refusal = Some(error.to_string()),
        }
        if let Some(credential) = credential {
            let path = directory.join(CREDENTIAL);
            let account = assignment.site.account.as_ref();
            let account = account.map(|account| (account.uid, account.gid));
            if let Err(error) = write_credential(&path, &credential, account) {
                let (path, why) = (path.display(), in_words(&error));
                return Ok(Some(format!("cannot write {path}: {why}")));
            }
            let path = path.to_string_lossy().into_owned();
            let variable = ("HPC_CREDENTIAL".to_owned(), path);
            assignment.site.variables.push(variable);
        }
        frames::write(&mut writer, &ToShepherd::Assign(assignment)).await?;
    }
    let mut frames = FrameReader::new(reader, FRAME_MAX);
    let mut batch = Vec::new();
    loop {
        tokio::select! {
            message = frames.next::<FromShepherd>() => match message.map_err(std::io::Error::other)? {
                Some(FromShepherd::Slot(report)) => {
                    let _ = events.send(Event::Report(key, number, report)).await;
                }
                Some(FromShepherd::Failed(text)) => return Ok(Some(text)),
                None => return Ok(None),
            },
            1.. = orders.recv_many(&mut batch, ORDERS_TOGETHER) => {
                // Together, so that they wake it once.
                frames::write_all(&mut writer, &batch).await?;
                batch.clear();
            }
        }
    }
}

/// Keeps a job's credential where its account alone can read it. Never in its environment, which others may see.
fn write_credential(
    path: &Path,
    credential: &Credential,
    account: Option<(u32, u32)>,
) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o400)
        .open(path)?;
    file.write_all(&crate::wire::codec::encode(credential))?;
    match account.filter(|_| crate::sys::identity::is_root()) {
        Some((uid, gid)) => std::os::unix::fs::fchown(&file, Some(uid), Some(gid)),
        None => Ok(()),
    }
}

/// The slot a directory is named after.
pub(super) fn parse_key(directory: &Path) -> Option<SlotKey> {
    let (job, slot) = directory.file_name()?.to_str()?.split_once('.')?;
    Some(SlotKey {
        job: JobId(job.parse().ok()?),
        slot: SlotId(slot.parse().ok()?),
    })
}
