//! Between controller and agent, and, in the same words, between agent and shepherd.
//!
//! The agent adds nothing to what concerns a slot: it passes [`ToSlot`] down to the slot's shepherd and
//! [`FromSlot`] up to the controller. A shepherd keeps each report that must not be lost until the
//! controller has acknowledged it, so the agent holds no state and may die at any moment.
//!
//! Old agents meet newer shepherds' binaries' messages for a whole major version: variants and fields are
//! appended, never changed (postcard tells variants by position).

use crate::model::allocation::NodeShare;
use crate::model::bounded;
use crate::model::ids::{BlobId, JobId, SlotKey, StepId};
use crate::model::index_set::IndexSet;
use crate::model::job::{ElementEnd, JobSpec, KillCause, Owner};
use crate::model::node::Inventory;
use crate::model::step::StepOptions;
use crate::model::time::Timestamp;
use crate::wire::join::Credential;
use crate::wire::peer::PeerFrame;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Everything a shepherd needs to run elements of one slot on one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotLaunch {
    /// Which slot.
    pub key: SlotKey,
    /// What was asked.
    pub spec: Arc<JobSpec>,
    /// Whose it is. The agent looks up the account itself; a uid here grants nothing it did not have.
    pub owner: Owner,
    /// Name of this cluster.
    pub cluster: String,
    /// The controller's clock at the grant; element times are this plus what the machine measured.
    pub granted: Timestamp,
    /// Milliseconds of the controller's clock since `granted` when this was sent.
    pub granted_age_ms: u64,
    /// Names of all nodes of the slot, leader first.
    pub nodes: Vec<String>,
    /// Every node's part, in the same order.
    pub shares: Vec<NodeShare>,
    /// Which of them this node is.
    pub node_index: u32,
    /// Time limit in force for each element; seconds.
    pub time_limit_s: Option<u32>,
    /// Scripts, arguments, surroundings.
    pub blobs: Vec<(BlobId, Vec<u8>)>,
    /// Positions to run, in order, each with its restart count when not 0.
    pub positions: IndexSet,
    /// (position, restarts), only those above 0.
    pub restarts: Vec<(u32, u32)>,
}

/// Orders for one slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToSlot {
    /// Start it. Known already: ignored.
    Launch(Box<SlotLaunch>),
    /// More positions. Positions it has had already are ignored.
    Extend {
        /// Which.
        positions: IndexSet,
        /// (position, restarts), only those above 0.
        restarts: Vec<(u32, u32)>,
    },
    /// Give back these positions if they have not started; answered by [`FromSlot::Retracted`].
    Retract {
        /// Which.
        positions: IndexSet,
    },
    /// End these positions: those that wait end at once, the running one by SIGTERM, then SIGKILL.
    Kill {
        /// Which.
        positions: IndexSet,
        /// Why.
        cause: KillCause,
        /// Skip SIGTERM.
        at_once: bool,
    },
    /// Send a signal to the running element's processes.
    Signal {
        /// Signal number.
        signal: i32,
        /// To whom.
        to: SignalTarget,
    },
    /// Stop (SIGSTOP) or go on (SIGCONT).
    Suspend {
        /// Stop?
        stop: bool,
    },
    /// The allocation's client is done: the element ends with this code.
    Release {
        /// Exit code.
        code: u8,
    },
    /// Start a step in the running element.
    StartStep(Arc<StepLaunch>),
    /// Bytes for a step's standard input.
    Stdin {
        /// Which step.
        step: StepId,
        /// Offset of the first byte.
        offset: u64,
        /// The bytes; empty with `end` = nothing more.
        #[serde(with = "super::bytes")]
        bytes: Vec<u8>,
        /// No more follows.
        end: bool,
    },
    /// Reports up to this number are safe; they need not be said again.
    Acknowledge {
        /// The number.
        report: u64,
    },
    /// The slot is over: end what is left, clean up, go.
    Close,
    /// The time limit of its elements from now on, the running one included; seconds.
    Limit {
        /// `None` = no limit.
        seconds: Option<u32>,
    },
    /// The slot's job may run again elsewhere once nothing was heard of it for its lease: so the shepherd ends its
    /// element when this moment passes without another such order, and starts nothing before the first. A moment that
    /// is earlier than one said before changes nothing. Said by the agent, and to a shepherd that takes it alone
    /// ([`super::shepherd::LEASED`]).
    Lease {
        /// Milliseconds of the machine's CLOCK_BOOTTIME; `None` = the controller knows no leases, go on without.
        until_ms: Option<u64>,
        /// How long a lease is; milliseconds.
        lease_ms: u64,
    },
    /// Every node of the slot has it: begin. A slot on one node begins without it.
    Go,
    /// Start a step of which more was said. Over links of [`super::hello::VERSION_PEERS`] or later.
    StartStepAs(Arc<StepOrder>),
    /// From another node of the slot. Over links of [`super::hello::VERSION_PEERS`] or later.
    Peer {
        /// That node, by its number in the slot.
        from: u32,
        /// What it says.
        frame: PeerFrame,
    },
}

/// Who gets a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SignalTarget {
    /// Tasks of steps, not the batch shell (Slurm's default).
    Steps,
    /// The batch shell alone.
    Batch,
    /// Every process of the element.
    All,
    /// Tasks of this step alone. To builds of [`super::hello::VERSION_PLACES`] or later.
    Step(StepId),
    /// This step is to end, whatever the signal: SIGTERM to its tasks, and SIGKILL to those left after the job's kill wait.
    /// To builds of [`super::hello::VERSION_PLACES`] or later.
    EndStep(StepId),
}

/// A step to start within a slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepLaunch {
    /// Its number.
    pub step: StepId,
    /// Argument vector.
    pub arguments: Vec<String>,
    /// Environment of the caller.
    pub environment: Vec<(Vec<u8>, Vec<u8>)>,
    /// Working directory.
    pub work_dir: String,
    /// Tasks on each node of the slot, in the slot's order; 0 = none there.
    pub tasks: Vec<u32>,
    /// Cpus of each task.
    pub cpus_per_task: u32,
}

/// A step to start within a slot, and what was said of it beyond its program and amounts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepOrder {
    /// The step.
    pub launch: StepLaunch,
    /// What was said.
    pub options: StepOptions,
}

impl StepOrder {
    /// The order to start it, in the words of an earlier build where those suffice.
    #[must_use]
    pub fn order(self: &Arc<Self>) -> ToSlot {
        if self.options.is_empty() {
            ToSlot::StartStep(Arc::new(self.launch.clone()))
        } else {
            ToSlot::StartStepAs(Arc::clone(self))
        }
    }
}

/// Reports of one slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromSlot {
    /// Who I am and how far I am; the first word on every new connection.
    Status {
        /// Which slot.
        key: SlotKey,
        /// Positions held and not ended.
        queue: IndexSet,
        /// The running one and when it started.
        current: Option<(u32, Timestamp)>,
    },
    /// An element started.
    Started {
        /// Its position.
        position: u32,
        /// When.
        at: Timestamp,
    },
    /// Elements ended. Said again until acknowledged.
    Ended {
        /// Number of this report.
        report: u64,
        /// The ends, in order.
        #[serde(deserialize_with = "bounded::list")]
        ends: Vec<ElementEnd>,
    },
    /// Positions given back, never started. Said again until acknowledged.
    Retracted {
        /// Number of this report.
        report: u64,
        /// Which.
        positions: IndexSet,
    },
    /// A step ended. Said again until acknowledged.
    StepEnded {
        /// Number of this report.
        report: u64,
        /// How.
        end: StepEnd,
    },
    /// How much of a step's standard input was taken; opens the window.
    StdinTaken {
        /// Which step.
        step: StepId,
        /// Bytes taken so far.
        offset: u64,
        /// Nobody reads any more.
        closed: bool,
    },
    /// The shepherd died (said by the agent, after ending what it left behind): these positions had not
    /// started, `ends` those that had.
    Lost {
        /// Never started.
        positions: IndexSet,
        /// Ended as NODE_FAIL.
        #[serde(deserialize_with = "bounded::list")]
        ends: Vec<ElementEnd>,
        /// Whether what is named in neither never started. Not after another boot: what was written last may be missing.
        certain: bool,
    },
    /// The slot's shepherd ends its element when it was cut off from the controller for so long; nothing of the
    /// element is left then. Said over links of [`super::hello::VERSION_BEATS`] or later.
    Leased {
        /// Milliseconds, the time to follow SIGTERM included.
        ends_after_ms: u64,
    },
    /// For another node of the slot; the controller passes it on. Over links of [`super::hello::VERSION_PEERS`] or later.
    Peer {
        /// That node, by its number in the slot.
        to: u32,
        /// What is said to it.
        frame: PeerFrame,
    },
}

/// The end of a step on one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepEnd {
    /// Which.
    pub step: StepId,
    /// Every task's rank and status.
    #[serde(deserialize_with = "bounded::list")]
    pub tasks: Vec<(u32, crate::model::job::ExitStatus)>,
    /// Name shown: the program.
    pub name: String,
    /// First start.
    pub started: Timestamp,
    /// Last end.
    pub ended: Timestamp,
    /// Used by its processes.
    pub usage: crate::model::job::Usage,
    /// Why it could not start, if so.
    pub failure: Option<String>,
}

/// Controller to agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToWorker {
    /// The registration was taken; slots not named here are unknown to the controller and must be ended.
    Registered {
        /// Slots the controller believes to be on this node.
        slots: Vec<SlotKey>,
    },
    /// For one slot.
    Slot {
        /// Which.
        key: SlotKey,
        /// What.
        order: ToSlot,
    },
    /// Are you there?
    Ping {
        /// Echoed.
        nonce: u64,
    },
    /// Read a file of a slot and, if asked, follow it: job output.
    OpenStream(OpenStream),
    /// The reader has taken everything below this offset.
    StreamTaken {
        /// Which stream.
        stream: u64,
        /// Offset.
        offset: u64,
    },
    /// Nobody reads it any more.
    CloseStream {
        /// Which stream.
        stream: u64,
    },
    /// End every slot on this node, then stop the agent.
    Shutdown {
        /// Leave the jobs running.
        keep_jobs: bool,
    },
    /// What a job that is about to be launched will show to speak with the controller from here.
    Credential(Credential),
    /// How long silence may last; the first word over links of [`super::hello::VERSION_BEATS`] or later.
    Terms {
        /// A link over which nothing has come for so long is dropped, by either side; milliseconds.
        silent_after_ms: u64,
        /// Jobs that may run again are ended by their shepherds when cut off for so long; milliseconds.
        lease_ms: u64,
    },
    /// The answer to [`FromWorker::Beat`]: the controller has received it.
    Heard {
        /// As sent.
        number: u64,
    },
}

/// Asks an agent for the bytes of one output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenStream {
    /// Number chosen by the controller.
    pub stream: u64,
    /// Whose it is: a slot that may still run, or one long gone.
    pub key: SlotKey,
    /// The element whose end ends the stream.
    pub position: u32,
    /// What to read.
    pub source: StreamSource,
    /// First byte wanted.
    pub offset: u64,
    /// Wait for more until the element ends.
    pub follow: bool,
    /// Read as this user.
    pub owner: Owner,
}

/// What a stream reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum StreamSource {
    /// A file by path, opened as the owner.
    File(String),
    /// The log of a step: a sequence of [`LogChunk`] headers and bytes.
    StepLog(StepId),
}

/// Header of one piece in a step's log: whose bytes follow. 12 bytes, little-endian: rank u32, length u32,
/// stream u8 (1 stdout, 2 stderr), three zero bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogChunk {
    /// Rank of the task.
    pub rank: u32,
    /// 1 = standard output, 2 = standard error.
    pub stream: u8,
    /// Bytes that follow.
    pub length: u32,
}

impl LogChunk {
    /// Size of a header.
    pub const SIZE: usize = 12;
    /// Stands for a rank where the words are ours, for whoever looks on. Earlier builds show them as a task's.
    pub const NO_RANK: u32 = u32::MAX;
    /// Longest piece.
    pub const LENGTH_MAX: u32 = 64 * 1024;

    /// Its bytes.
    #[must_use]
    pub fn encode(self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        bytes[..4].copy_from_slice(&self.rank.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.length.to_le_bytes());
        bytes[8] = self.stream;
        bytes
    }

    /// From its bytes; `None` when they are no header.
    #[must_use]
    pub fn decode(bytes: &[u8; Self::SIZE]) -> Option<Self> {
        let word = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let chunk = LogChunk {
            rank: word(0),
            length: word(4),
            stream: bytes[8],
        };
        (matches!(chunk.stream, 1 | 2) && chunk.length <= Self::LENGTH_MAX && bytes[9..] == [0; 3])
            .then_some(chunk)
    }
}

/// Agent to controller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromWorker {
    /// First word: what this machine is, and the slots found running here.
    Register {
        /// The machine.
        inventory: Inventory,
        /// Slots with a live shepherd or an unfinished journal.
        #[serde(deserialize_with = "bounded::list")]
        slots: Vec<SlotKey>,
    },
    /// From one slot.
    Slot {
        /// Which.
        key: SlotKey,
        /// What.
        report: FromSlot,
    },
    /// Here.
    Pong {
        /// As sent.
        nonce: u64,
    },
    /// Bytes of a stream.
    StreamData {
        /// Which.
        stream: u64,
        /// Offset of the first byte.
        offset: u64,
        /// The bytes.
        #[serde(with = "super::bytes")]
        bytes: Vec<u8>,
    },
    /// A stream is over.
    StreamEnd {
        /// Which.
        stream: u64,
        /// What went wrong, if so.
        error: Option<String>,
    },
    /// First word of an agent on another machine than the controller's: as [`FromWorker::Register`].
    Introduce {
        /// The machine.
        inventory: Inventory,
        /// Slots with a live shepherd or an unfinished journal.
        #[serde(deserialize_with = "bounded::list")]
        slots: Vec<SlotKey>,
        /// The user of the cluster whose jobs alone it runs; `None` = it is root and runs everybody's.
        user: Option<String>,
    },
    /// The agent stops for good, and nothing of its slots is left on the machine.
    Leave,
    /// Still here; answered at once by [`ToWorker::Heard`]. Only over links of [`super::hello::VERSION_BEATS`] or later.
    Beat {
        /// Counts up from 1 on every link.
        number: u64,
    },
}

/// The raw job number of an element, for its environment.
#[must_use]
pub fn element_raw_id(job: JobId, position: u32) -> u32 {
    job.raw(position)
}
