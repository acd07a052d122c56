//! What was asked ([`JobSpec`]) and what is known ([`Job`]) of a job, its states and reasons.
//!
//! A job is a set of *elements* at positions `0..count`: one for a plain job, one per index for an array.
//! Elements wait in `pending` (a run-length set, so a million of them cost one run), are given to a
//! [`Slot`] in blocks, and leave through an end. Ends are rows of the store, not of this record.
//!
//! ```text
//!   submit        grant/extend            end reported
//!  ────────▶ pending ────────▶ slot.queue ────────────▶ ended (counted here, stored as rows)
//!               ▲                  │ retract, requeue
//!               └──────────────────┘
//! ```

use super::allocation::Allocation;
use super::array::ArraySpec;
use super::dependency::Dependency;
use super::history::Granted;
use super::ids::{BlobId, JobId, NodeId, SlotId, StepId};
use super::index_set::IndexSet;
use super::limits::LimitHit;
use super::rare::{Blank, Rare};
use super::resource::Request;
use super::shared::{Pool, Text};
use super::signal::SignalSpec;
use super::stops::Stops;
use super::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

pub use super::launch::{Launch, OpenMode, Surroundings};

/// A user as the controller knows them: from the kernel or a certificate, never from a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The uid on the machine that vouched for the user.
    pub uid: u32,
    /// The primary group there.
    pub gid: u32,
    /// The account's name.
    pub name: Arc<str>,
}

impl Owner {
    /// The uid of somebody who has no account on the controller's machine: no process can have it.
    pub const NO_UID: u32 = u32::MAX;

    /// Whether both are the same person. Names decide: uids differ between the machines of a lab, and a name is vouched
    /// for by the kernel or by a certificate.
    #[must_use]
    pub fn is(&self, other: &Owner) -> bool {
        self.name == other.name
    }
}

/// What was asked for. Immutable once admitted; `hpc update` makes a new one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSpec {
    /// Shown name.
    pub name: Text,
    /// Partition; filled with the default at admission when empty.
    pub partition: Text,
    /// Account; filled at admission when empty.
    pub account: Text,
    /// QOS; filled at admission when empty.
    pub qos: Text,
    /// What to start.
    pub launch: Launch,
    /// Environment, umask, limits: a postcard [`Surroundings`].
    pub surroundings: BlobId,
    /// What the user typed, for people to read (script path or command, cut to 512 bytes).
    pub command: Text,
    /// Resources.
    pub request: Arc<Request>,
    /// Indices, for an array.
    pub array: Option<Box<ArraySpec>>,
    /// Jobs that must start or end first.
    pub dependency: Option<Box<Dependency>>,
    /// End a job whose dependency can never be met instead of leaving it pending.
    pub kill_on_invalid_dependency: bool,
    /// Not before this time.
    pub begin: Option<Timestamp>,
    /// Run time after which it is ended; seconds; `None` = the partition's limit.
    pub time_limit_s: Option<u32>,
    /// Submitted held.
    pub hold: bool,
    /// May be put back and run again when its node is lost or on request.
    pub requeue: bool,
    /// Lowers priority among the owner's jobs; signed as in `nice`.
    pub nice: i32,
    /// A warning before the limit.
    pub signal: Option<SignalSpec>,
    /// Directory the processes start in.
    pub work_dir: Text,
    /// Standard output, a filename pattern; `None` = the default name.
    pub output: Option<Text>,
    /// Standard error; `None` = with standard output.
    pub error: Option<Text>,
    /// Standard input; `None` = /dev/null.
    pub input: Option<Text>,
    /// How output files are opened.
    pub open_mode: OpenMode,
    /// Between SIGTERM and SIGKILL; seconds.
    pub kill_wait_s: u32,
    /// Free text.
    pub comment: Option<Text>,
    /// Name of the submitting host.
    pub submit_host: Text,
}

/// What the specifications of many jobs have in common.
#[derive(Debug, Clone, Default)]
pub struct Commons {
    texts: Pool<str>,
    requests: Pool<Request>,
}

impl JobSpec {
    /// How many elements: 1, or the number of indices.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.array.as_ref().map_or(1, |array| array.count())
    }

    /// How many elements may hold a slot at once.
    #[must_use]
    pub fn throttle(&self) -> u32 {
        self.array
            .as_ref()
            .and_then(|array| array.throttle)
            .unwrap_or(u32::MAX)
    }

    /// Makes it share what it has in common with other jobs. The name is left out: it is a job's own.
    pub fn share(&mut self, commons: &mut Commons) {
        let texts = [
            &mut self.partition,
            &mut self.account,
            &mut self.qos,
            &mut self.command,
            &mut self.work_dir,
            &mut self.submit_host,
        ];
        let named = [&mut self.output, &mut self.error, &mut self.input];
        for text in texts.into_iter().chain(named.into_iter().flatten()) {
            text.share(&mut commons.texts);
        }
        commons.requests.share(&mut self.request);
    }

    /// All blobs this job needs until it has ended.
    #[must_use]
    pub fn blobs(&self) -> Vec<BlobId> {
        let mut blobs = self.launch.blobs();
        blobs.push(self.surroundings);
        blobs
    }
}

/// A job's or element's state, in Slurm's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum JobState {
    /// Waiting.
    Pending,
    /// Has an allocation.
    Running,
    /// Stopped, keeps its allocation.
    Suspended,
    /// Its first process is gone, the rest is being ended.
    Completing,
    /// Ended with code 0.
    Completed,
    /// Ended with another code or by a signal.
    Failed,
    /// Ended by a person.
    Cancelled,
    /// Ended at its time limit.
    Timeout,
    /// Ended by the memory limit.
    OutOfMemory,
    /// Its node was lost.
    NodeFail,
    /// Ended in favour of another job.
    Preempted,
}

impl JobState {
    /// Every state, in the order of declaration.
    pub const ALL: [JobState; 11] = [
        JobState::Pending,
        JobState::Running,
        JobState::Suspended,
        JobState::Completing,
        JobState::Completed,
        JobState::Failed,
        JobState::Cancelled,
        JobState::Timeout,
        JobState::OutOfMemory,
        JobState::NodeFail,
        JobState::Preempted,
    ];

    /// The long word: `PENDING`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            JobState::Pending => "PENDING",
            JobState::Running => "RUNNING",
            JobState::Suspended => "SUSPENDED",
            JobState::Completing => "COMPLETING",
            JobState::Completed => "COMPLETED",
            JobState::Failed => "FAILED",
            JobState::Cancelled => "CANCELLED",
            JobState::Timeout => "TIMEOUT",
            JobState::OutOfMemory => "OUT_OF_MEMORY",
            JobState::NodeFail => "NODE_FAIL",
            JobState::Preempted => "PREEMPTED",
        }
    }

    /// The compact word: `PD`.
    #[must_use]
    pub fn compact(self) -> &'static str {
        match self {
            JobState::Pending => "PD",
            JobState::Running => "R",
            JobState::Suspended => "S",
            JobState::Completing => "CG",
            JobState::Completed => "CD",
            JobState::Failed => "F",
            JobState::Cancelled => "CA",
            JobState::Timeout => "TO",
            JobState::OutOfMemory => "OOM",
            JobState::NodeFail => "NF",
            JobState::Preempted => "PR",
        }
    }

    /// Whether nothing will happen to it any more.
    #[must_use]
    pub fn is_ended(self) -> bool {
        !matches!(
            self,
            JobState::Pending | JobState::Running | JobState::Suspended | JobState::Completing
        )
    }

    /// Either form, any letter case.
    #[must_use]
    pub fn parse(word: &str) -> Option<JobState> {
        Self::ALL.into_iter().find(|state| {
            word.eq_ignore_ascii_case(state.word()) || word.eq_ignore_ascii_case(state.compact())
        })
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// Why a job waits, or why it ended as it did; Slurm's spellings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// Nothing to say.
    None,
    /// Others go first.
    Priority,
    /// Not enough is free now.
    Resources,
    /// Waits for other jobs.
    Dependency,
    /// Waits for something that can no longer happen.
    DependencyNeverSatisfied,
    /// Its begin time has not come.
    BeginTime,
    /// Held by its owner.
    JobHeldUser,
    /// Held by an operator.
    JobHeldAdmin,
    /// The array's own throttle.
    JobArrayTaskLimit,
    /// Every node that could run it is down or drained.
    ReqNodeNotAvail,
    /// Its limit exceeds the partition's.
    PartitionTimeLimit,
    /// Its last start did not succeed; the text says why.
    JobLaunchFailure(String),
    /// Ended with a code other than 0.
    NonZeroExitCode,
    /// Ended at the limit.
    TimeLimit,
    /// Ended by the memory limit.
    OutOfMemory,
    /// Its node was lost.
    NodeDown,
    /// Something of ours failed; the text says what.
    SystemFailure(String),
    /// A limit is reached; it says which.
    Limit(Box<LimitHit>),
    /// Its partition starts nothing.
    PartitionDown,
    /// The licences it asks for are in use.
    Licenses,
    /// Its reservation does not let it start; the text says why.
    Reservation(String),
    /// There is room, but under more switches than it accepts; the text says how long it waits for that.
    Switches(String),
    /// There is room, but on nodes that fail too often for so long a job; the text names them.
    FlakyNodes(String),
}

impl Reason {
    /// The word, without the text.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Reason::None => "None",
            Reason::Priority => "Priority",
            Reason::Resources => "Resources",
            Reason::Dependency => "Dependency",
            Reason::DependencyNeverSatisfied => "DependencyNeverSatisfied",
            Reason::BeginTime => "BeginTime",
            Reason::JobHeldUser => "JobHeldUser",
            Reason::JobHeldAdmin => "JobHeldAdmin",
            Reason::JobArrayTaskLimit => "JobArrayTaskLimit",
            Reason::ReqNodeNotAvail => "ReqNodeNotAvail",
            Reason::PartitionTimeLimit => "PartitionTimeLimit",
            Reason::JobLaunchFailure(_) => "JobLaunchFailure",
            Reason::NonZeroExitCode => "NonZeroExitCode",
            Reason::TimeLimit => "TimeLimit",
            Reason::OutOfMemory => "OutOfMemory",
            Reason::NodeDown => "NodeDown",
            Reason::SystemFailure(_) => "SystemFailure",
            Reason::Limit(hit) => hit.word(),
            Reason::PartitionDown => "PartitionDown",
            Reason::Licenses => "Licenses",
            Reason::Reservation(_) => "Reservation",
            Reason::Switches(_) => "Switches",
            Reason::FlakyNodes(_) => "FlakyNodes",
        }
    }

    /// The text beside the word, where there is one.
    #[must_use]
    pub fn detail(&self) -> Option<String> {
        match self {
            Reason::JobLaunchFailure(text)
            | Reason::SystemFailure(text)
            | Reason::Reservation(text)
            | Reason::Switches(text)
            | Reason::FlakyNodes(text) => Some(text.clone()),
            Reason::Limit(hit) => Some(hit.to_string()),
            _ => None,
        }
    }
}

/// What an element's processes consumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Usage {
    /// User and system cpu time of all processes; milliseconds.
    pub cpu_ms: u64,
    /// Peak resident memory of the largest process; KiB.
    pub max_rss_kib: u64,
    /// Bytes read from storage.
    pub read_bytes: u64,
    /// Bytes written to storage.
    pub write_bytes: u64,
}

impl Usage {
    /// Both together: sums, and the larger peak.
    #[must_use]
    pub fn plus(self, other: Usage) -> Usage {
        Usage {
            cpu_ms: self.cpu_ms.saturating_add(other.cpu_ms),
            max_rss_kib: self.max_rss_kib.max(other.max_rss_kib),
            read_bytes: self.read_bytes.saturating_add(other.read_bytes),
            write_bytes: self.write_bytes.saturating_add(other.write_bytes),
        }
    }
}

/// How processes ended: Slurm's `code:signal`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct ExitStatus {
    /// Exit code, 0-255.
    pub code: u8,
    /// Ending signal, 0 = none.
    pub signal: u8,
}

impl ExitStatus {
    /// Code 0, no signal.
    #[must_use]
    pub fn is_success(self) -> bool {
        self.code == 0 && self.signal == 0
    }

    /// What a shell would show: the code, or 128 + signal.
    #[must_use]
    pub fn shell_code(self) -> u8 {
        if self.signal != 0 {
            128u8.saturating_add(self.signal)
        } else {
            self.code
        }
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.code, self.signal)
    }
}

/// Why an element is being ended before its own end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum KillCause {
    /// By this user.
    Cancel {
        /// The uid that asked.
        by: u32,
    },
    /// To wait and run again.
    Requeue,
    /// Its time was over (the shepherd's own decision).
    TimeLimit,
    /// Another job needs the place.
    Preempt,
    /// The client of `hpc run` or `hpc alloc` has gone.
    ClientGone,
    /// Its node was declared lost and has come back.
    NodeLost,
    /// Another job needs the place, and this one is to wait and run again. Never told to a node.
    PreemptAgain,
    /// It was warned (SIGTERM) that another job needs the place. Never told to a node.
    Warned {
        /// It is to be over by then, or it is ended.
        until: Timestamp,
        /// It is to wait and run again.
        again: bool,
        /// For whom.
        by: JobId,
    },
}

impl KillCause {
    /// As nodes are told it: to them it makes no difference what becomes of the element afterwards. `None` = they have
    /// nothing to do.
    #[must_use]
    pub fn as_told(self) -> Option<KillCause> {
        match self {
            KillCause::PreemptAgain => Some(KillCause::Preempt),
            KillCause::Warned { .. } => None,
            told => Some(told),
        }
    }

    /// Whether an element that had started waits and runs again afterwards.
    #[must_use]
    pub fn goes_back(self) -> bool {
        matches!(
            self,
            KillCause::Requeue | KillCause::PreemptAgain | KillCause::Warned { again: true, .. }
        )
    }

    /// Whether it is to make room for another job.
    #[must_use]
    pub fn makes_room(self) -> bool {
        matches!(
            self,
            KillCause::Preempt | KillCause::PreemptAgain | KillCause::Warned { .. }
        )
    }
}

/// The end of one element, as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ElementEnd {
    /// Position within the job.
    pub position: u32,
    /// How it ended.
    pub state: JobState,
    /// Why.
    pub reason: Reason,
    /// Exit code and signal.
    pub exit: ExitStatus,
    /// Who cancelled it.
    pub cancelled_by: Option<u32>,
    /// When its first process started; `None` = it never did.
    pub started: Option<Timestamp>,
    /// When its last process was gone.
    pub ended: Timestamp,
    /// What it consumed.
    pub usage: Usage,
    /// How often it had been put back.
    pub restarts: u32,
}

/// How far a slot's current element has come, as last reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Current {
    /// Its position.
    pub position: u32,
    /// When it started.
    pub started: Timestamp,
}

/// One allocation of a job and the elements given to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    /// Its number; never used again within the job.
    pub id: SlotId,
    /// What was granted, node by node; the first node leads.
    pub allocation: Arc<Allocation>,
    /// When.
    pub granted: Timestamp,
    /// Positions given and not ended.
    pub queue: IndexSet,
    /// Positions it was ever given: none is given to it twice, so that (slot, position) names one attempt.
    pub given: IndexSet,
    /// The worker has said that it has this slot; without that a launch may safely be said again.
    pub confirmed: bool,
    /// The one that runs, as last reported. Not stored: the shepherd says it again.
    #[serde(skip)]
    pub current: Option<Current>,
    /// What is being ended, and why; kept so that the order survives a restart.
    pub kills: Vec<Kill>,
    /// Somebody asked to have it stopped.
    pub suspended: bool,
    /// For whom else it is stopped, and for how long it was. Stored beside the slot.
    #[serde(skip)]
    pub stops: Stops,
    /// Its client (of `hpc run`, `hpc alloc`) ended it with this code.
    pub released: Option<u8>,
    /// Ends reported by some nodes of a gang, until all have.
    pub node_ends: Vec<NodeEnd>,
    /// Ends since the grant, for the pace. Not stored.
    #[serde(skip)]
    pub ended_count: u32,
    /// When an end or start was last heard. Not stored.
    #[serde(skip)]
    pub heard: Timestamp,
    /// Asked back from the shepherd and not answered yet. Not stored.
    #[serde(skip)]
    pub retracting: bool,
    /// Its node has no trace of it: it gets nothing more, and is closed once it is empty. Not stored: a worker that
    /// registers says again what it has.
    #[serde(skip)]
    pub gone: bool,
    /// Nodes whose shepherds end this slot's elements when cut off from the controller, and after how many
    /// milliseconds.
    pub leases: Vec<(NodeId, u64)>,
    /// Its nodes may have begun. On one node that is so from the grant on; a gang begins once all its nodes have said
    /// that they have the slot, and until then nothing of it has run anywhere.
    pub begun: bool,
    /// Steps that were started in it and have not ended on all their nodes.
    pub steps: Vec<RunningStep>,
    /// Nodes of a gang that have the slot and wait for the word to begin. Not stored: they say it again.
    #[serde(skip)]
    pub present: Vec<NodeId>,
    /// When its end was ordered last. Not stored.
    #[serde(skip)]
    pub told_to_end: Timestamp,
}

impl Slot {
    /// Whether it was asked to stand still: by somebody, or for others that have its cpus.
    #[must_use]
    pub fn is_to_stop(&self) -> bool {
        self.suspended || self.stops.lent_to.is_some()
    }

    /// Whether what it runs stands still: somebody asked for that, or others have its cpus. What is to end does not, so that
    /// it can use its grace.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.is_to_stop() && self.leaves().is_none()
    }

    /// When all that it holds is to be over because that was ordered, or it was warned that it will be; `None` = of some
    /// of it nothing was said.
    #[must_use]
    pub fn leaves(&self) -> Option<Timestamp> {
        let mut left = self.queue.clone();
        let mut at = None;
        for kill in &self.kills {
            left.subtract(&kill.positions);
            let over = match kill.cause {
                KillCause::Warned { until, .. } => until,
                _ => self.told_to_end,
            };
            // An order counts from when it was given, whatever was said before.
            at = Some(at.map_or(over, |at: Timestamp| at.min(over)));
        }
        at.filter(|_| left.is_empty())
    }

    /// Those of these positions that nodes were not told to end.
    #[must_use]
    pub fn untold(&self, positions: &IndexSet) -> IndexSet {
        let mut left = positions.clone();
        for kill in self.kills.iter().filter(|kill| kill.is_told()) {
            left.subtract(&kill.positions);
        }
        left
    }

    /// What it was warned of: the positions, until when, whether they run again, and for whom.
    pub fn warned(&self) -> impl Iterator<Item = (&IndexSet, Timestamp, bool, JobId)> {
        self.kills.iter().filter_map(|kill| match kill.cause {
            KillCause::Warned { until, again, by } => Some((&kill.positions, until, again, by)),
            _ => None,
        })
    }

    /// After how many milliseconds this node's shepherd ends what runs, if it is known to do so.
    #[must_use]
    pub fn lease_on(&self, node: NodeId) -> Option<u64> {
        let found = self.leases.iter().find(|(known, _)| *known == node);
        found.map(|(_, ends_after_ms)| *ends_after_ms)
    }

    /// Whether it holds more than one node.
    #[must_use]
    pub fn is_gang(&self) -> bool {
        self.allocation.nodes.len() > 1
    }

    /// The place of a node in its allocation, leader first.
    #[must_use]
    pub fn place_of(&self, node: NodeId) -> Option<u32> {
        let at = self
            .allocation
            .nodes
            .iter()
            .position(|share| share.node == node)?;
        u32::try_from(at).ok()
    }
}

/// A step inside a job, while it runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningStep {
    /// Which.
    pub step: StepId,
    /// Places of the nodes that have tasks of it.
    pub nodes: Vec<u32>,
    /// Those of them that have not ended their part.
    pub left: Vec<u32>,
    /// The worst exit of those that have.
    pub worst: ExitStatus,
}

/// An order to end elements of a slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kill {
    /// Which.
    pub positions: IndexSet,
    /// Why.
    pub cause: KillCause,
}

impl Kill {
    /// Whether nodes were told to end it.
    #[must_use]
    pub fn is_told(&self) -> bool {
        self.cause.as_told().is_some()
    }
}

/// One node's part of a gang has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeEnd {
    /// The node.
    pub node: NodeId,
    /// What it reported.
    pub end: ElementEnd,
}

/// Who holds a job back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Hold {
    /// Nobody.
    None,
    /// Its owner.
    User,
    /// An operator; only an operator releases it.
    Admin,
}

/// How many elements ended how; what a job's own end is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct EndSummary {
    /// Elements that ended COMPLETED.
    pub completed: u32,
    /// Elements that ended otherwise.
    pub unsuccessful: u32,
    /// The worst of them: its state, reason, exit and who cancelled.
    pub worst: Option<(JobState, Reason, ExitStatus, Option<u32>)>,
    /// First start.
    pub first_start: Option<Timestamp>,
    /// Last end.
    pub last_end: Option<Timestamp>,
    /// Sum of usage, and the largest peak.
    pub usage: Usage,
}

impl Blank for EndSummary {
    const BLANK: &'static Self = &EndSummary {
        completed: 0,
        unsuccessful: 0,
        worst: None,
        first_start: None,
        last_end: None,
        usage: Usage {
            cpu_ms: 0,
            max_rss_kib: 0,
            read_bytes: 0,
            write_bytes: 0,
        },
    };
}

/// A job that has not ended: the controller's hot record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Its number.
    pub id: JobId,
    /// What was asked.
    pub spec: Arc<JobSpec>,
    /// Whose it is.
    pub owner: Owner,
    /// When it was admitted.
    pub submitted: Timestamp,
    /// Held?
    pub hold: Hold,
    /// Why the pending part waits.
    pub reason: Reason,
    /// Positions that wait and may start.
    pub pending: IndexSet,
    /// Positions that wait for their counterpart in another array (`aftercorr`).
    pub waiting: Rare<IndexSet>,
    /// Allocations, ordered by number.
    pub slots: Vec<Slot>,
    /// The next slot's number.
    pub slot_next: u32,
    /// Elements put back, and how often: (position, count), ordered.
    pub restarts: Rare<Vec<(u32, u32)>>,
    /// What has ended so far.
    pub ends: Rare<EndSummary>,
    /// What its latest slot held.
    pub granted: Arc<Granted>,
    /// The next element row's number.
    pub row_next: u32,
    /// Not before this time: the begin time, or the delay after a requeue.
    pub not_before: Option<Timestamp>,
    /// Dependency terms not yet decided; indexes into the spec's terms.
    pub waits_for: Rare<Vec<u32>>,
    /// Steps started so far, for the next number.
    pub step_next: u32,
    /// Positions that ended other than COMPLETED (for `aftercorr`). Not stored: read from the element rows.
    #[serde(skip)]
    pub unsuccessful: Rare<IndexSet>,
    /// Mean run time of its elements, decayed; microseconds, 0 = unknown. Not stored.
    #[serde(skip)]
    pub pace_us: u64,
}

impl Job {
    /// Whether anything of it holds an allocation.
    #[must_use]
    pub fn is_running(&self) -> bool {
        !self.slots.is_empty()
    }

    /// How often the element at `position` was put back.
    #[must_use]
    pub fn restarts_of(&self, position: u32) -> u32 {
        self.restarts
            .binary_search_by_key(&position, |(position, _)| *position)
            .map_or(0, |found| self.restarts[found].1)
    }

    /// The slot with this number.
    #[must_use]
    pub fn slot(&self, id: SlotId) -> Option<&Slot> {
        self.slots.iter().find(|slot| slot.id == id)
    }

    /// Array index shown for a position; `None` for a job that is no array.
    #[must_use]
    pub fn index_of(&self, position: u32) -> Option<u32> {
        self.spec
            .array
            .as_ref()
            .map(|array| array.index_at(position))
    }
}
