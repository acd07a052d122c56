//! What the cluster shows: the objects of `--json`, the same over the wire.
//!
//! Fields are only ever added. Times are RFC 3339 in JSON and milliseconds on the wire.

use crate::model::bounded;
use crate::model::cpu_set::CpuSet;
use crate::model::ids::StepId;
use crate::model::index_set::IndexSet;
use crate::model::job::JobState;
use crate::model::limits::{Level, LimitKind};
use crate::model::rules::{Noun, Setting};
use crate::model::shared::Text;
use crate::model::time::Timestamp;
use serde::{Deserialize, Serialize};

/// A job, an array element, or the pending rest of an array.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct JobView {
    /// Job number (of the array, for an element).
    pub id: u32,
    /// Index of an element.
    pub array_task: Option<u32>,
    /// Indices of the pending rest, as `3-9%2`.
    pub array_tasks: Option<String>,
    /// The element's own number (`SLURM_JOB_ID`).
    pub raw_id: u32,
    /// Name.
    pub name: String,
    /// Owner.
    pub user: String,
    /// Owner's uid.
    pub uid: u32,
    /// Owner's gid.
    pub gid: u32,
    /// Account.
    pub account: String,
    /// QOS.
    pub qos: String,
    /// Partition.
    pub partition: String,
    /// State word.
    pub state: String,
    /// Reason word; `None` when there is nothing to say.
    pub reason: Option<String>,
    /// The reason in a sentence, where there is more to say.
    pub reason_detail: Option<String>,
    /// Exit code once ended by exiting.
    pub exit_code: Option<u8>,
    /// Signal that ended it.
    pub signal: Option<u8>,
    /// uid that cancelled it.
    pub cancelled_by: Option<u32>,
    /// Admitted.
    pub submit_time: Timestamp,
    /// Started.
    pub start_time: Option<Timestamp>,
    /// Ended.
    pub end_time: Option<Timestamp>,
    /// Will start, as planned now.
    pub expected_start: Option<Timestamp>,
    /// Not before.
    pub begin_time: Option<Timestamp>,
    /// Limit; seconds.
    pub time_limit_s: Option<u32>,
    /// Node names.
    pub nodes: Vec<String>,
    /// Nodes asked for.
    pub nodes_requested: u32,
    /// Tasks.
    pub ntasks: u32,
    /// Cpus.
    pub cpus: u32,
    /// Cpus of a task.
    pub cpus_per_task: u32,
    /// Memory on all nodes; MiB.
    pub memory_mib: u64,
    /// GPUs.
    pub gpus: u32,
    /// Times put back.
    pub restarts: u32,
    /// Dependency as asked.
    pub dependency: Option<String>,
    /// Working directory.
    pub work_dir: String,
    /// Output path, expanded.
    pub stdout_path: Option<String>,
    /// Error path, expanded.
    pub stderr_path: Option<String>,
    /// Command line or script.
    pub command: String,
    /// Comment.
    pub comment: Option<String>,
    /// Priority.
    pub priority: i64,
    /// Numbers of elements by fate, for an array as a whole.
    pub elements: Option<ElementsView>,
    /// Which cpus on which node: `ws1: 0-3`.
    pub placement: Vec<PlacementView>,
    /// Steps seen so far.
    pub steps: Vec<StepView>,
    /// Consumed, once ended.
    pub usage: Option<UsageView>,
}

/// A row of a listing for people: what a table of the queue shows of a job, and no more. Ten thousand of these are
/// a tenth of as many [`JobView`]s.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobLine {
    /// Job number (of the array, for an element).
    pub id: u32,
    /// Index of an element.
    pub array_task: Option<u32>,
    /// Indices of the pending rest, as `3-9%2`.
    pub array_tasks: Option<String>,
    /// Partition.
    pub partition: Text,
    /// Name.
    pub name: Text,
    /// Owner.
    pub user: String,
    /// State.
    pub state: JobState,
    /// Seconds it has run by the controller's clock: the reader's may be off.
    pub run_s: u32,
    /// Limit; seconds.
    pub time_limit_s: Option<u32>,
    /// Nodes held, or asked for.
    pub nodes: u32,
    /// Cpus.
    pub cpus: u32,
    /// Folded names of its nodes, or in parentheses why it has none.
    pub place: String,
}

/// How an array's elements fare.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ElementsView {
    /// In all.
    pub total: u32,
    /// Waiting.
    pub pending: u32,
    /// Given to slots.
    pub running: u32,
    /// Ended COMPLETED.
    pub completed: u32,
    /// Ended otherwise.
    pub unsuccessful: u32,
}

/// A node's part of an allocation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacementView {
    /// Node.
    pub node: String,
    /// Cpu list.
    pub cpus: String,
    /// MiB.
    pub memory_mib: u64,
    /// GPU indices.
    pub gpus: Vec<u32>,
    /// Tasks there.
    pub tasks: u32,
}

/// A step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepView {
    /// `0`, `1`, ... or `batch`.
    pub id: String,
    /// Program.
    pub name: String,
    /// State word.
    pub state: String,
    /// Worst exit code.
    pub exit_code: Option<u8>,
    /// Signal.
    pub signal: Option<u8>,
    /// Tasks.
    pub ntasks: u32,
    /// Started.
    pub start_time: Option<Timestamp>,
    /// Ended.
    pub end_time: Option<Timestamp>,
    /// Consumed.
    pub usage: Option<UsageView>,
}

/// Where the ranks of a running step are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepPlaceView {
    /// Which step.
    pub step: StepId,
    /// Program.
    pub name: String,
    /// How its ranks were dealt to nodes.
    pub distribution: String,
    /// Its nodes, in order.
    pub nodes: Vec<StepNodeView>,
}

/// The part of a running step on one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepNodeView {
    /// Name.
    pub node: String,
    /// Its ranks.
    pub ranks: IndexSet,
    /// The step's cpus there.
    pub cpus: CpuSet,
}

/// Consumed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UsageView {
    /// Cpu seconds.
    pub cpu_s: f64,
    /// Peak resident MiB of the largest process.
    pub max_rss_mib: f64,
    /// Joules; `None` = not measured.
    pub energy_j: Option<f64>,
    /// Bytes read from storage.
    pub read_bytes: u64,
    /// Bytes written to storage.
    pub write_bytes: u64,
    /// From start to end; seconds.
    pub wall_s: f64,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeView {
    /// Name.
    pub name: String,
    /// State word.
    pub state: String,
    /// Does its worker answer?
    pub responding: bool,
    /// Why drained or down.
    pub reason: Option<String>,
    /// Cpus in all.
    pub cpus: u32,
    /// Cpus free.
    pub cpus_free: u32,
    /// MiB in all.
    pub memory_mib: u64,
    /// MiB free.
    pub memory_free_mib: u64,
    /// GPUs.
    pub gpus: Vec<GpuView>,
    /// NUMA nodes.
    pub numa_nodes: u32,
    /// Jobs there, as `12` or `12_3`.
    pub jobs: Vec<String>,
    /// Worker's version.
    pub version: String,
    /// uid the agent runs as.
    pub uid: u32,
    /// What it cannot enforce or measure.
    pub remarks: Vec<String>,
}

/// A GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuView {
    /// Index on the node.
    pub index: u32,
    /// Kind.
    pub kind: String,
    /// UUID.
    pub uuid: String,
    /// MiB.
    pub memory_mib: u64,
    /// Granted to a job?
    pub free: bool,
}

/// A partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionView {
    /// Name.
    pub name: String,
    /// Used when none is named.
    pub default: bool,
    /// `UP`, or `DOWN`: its jobs do not start.
    pub state: String,
    /// Longest run time.
    pub max_time_s: Option<u32>,
    /// Nodes.
    pub nodes: Vec<String>,
}

/// `hpc status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusView {
    /// Cluster name.
    pub cluster: String,
    /// Version of the controller.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// State directory.
    pub state_dir: String,
    /// Socket.
    pub socket: String,
    /// Up since.
    pub started: Timestamp,
    /// Now, by its clock.
    pub now: Timestamp,
    /// Nodes in all and responding.
    pub nodes: (u32, u32),
    /// Cpus in all and free.
    pub cpus: (u32, u32),
    /// Jobs pending.
    pub jobs_pending: u64,
    /// Jobs running.
    pub jobs_running: u64,
    /// Array elements pending.
    pub elements_pending: u64,
    /// The next job's number.
    pub next_job: u32,
}

/// How a node is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkView {
    /// Its name.
    pub node: String,
    /// `unix`, `quic` or `tcp`; empty = it is not connected.
    pub path: String,
    /// Its address, where it has one.
    pub address: Option<String>,
    /// When its certificate expires, where it has one.
    pub certificate_until: Option<Timestamp>,
}

/// Who is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MembersView {
    /// Keys.
    pub keys: Vec<KeyView>,
    /// Invitations that can still be used.
    pub invitations: Vec<InvitationView>,
}

/// A key that is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyView {
    /// The beginning of its hash.
    pub key: String,
    /// `node` or a role.
    pub role: String,
    /// The node's or the user's name.
    pub name: String,
    /// When it was admitted.
    pub joined: Timestamp,
    /// From which address.
    pub from: String,
    /// Who had invited it.
    pub invited_by: String,
    /// When its certificate expires.
    pub expires: Timestamp,
}

/// An invitation that can still be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvitationView {
    /// What it admits, such as `worker` or `user alice`.
    pub admits: String,
    /// Who made it.
    pub by: String,
    /// When it ends.
    pub expires: Timestamp,
    /// How often it can still be used.
    pub uses_left: u32,
}

/// A partition, an account, a user or a QOS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleView {
    /// Which of the four.
    pub noun: Noun,
    /// Its name.
    pub name: String,
    /// All that holds for it, in the words that change it; of limits those that are set.
    #[serde(deserialize_with = "bounded::few")]
    pub settings: Vec<Setting>,
}

/// Which limits hold for a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitsView {
    /// Whose.
    pub user: String,
    /// In this account.
    pub account: String,
    /// In this partition.
    pub partition: String,
    /// With this QOS.
    pub qos: String,
    /// Every kind at least once; several times where several levels hold.
    #[serde(deserialize_with = "bounded::list")]
    pub limits: Vec<LimitView>,
}

/// A limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitView {
    /// What is limited.
    pub kind: LimitKind,
    /// The limit; `None` = there is none.
    pub value: Option<u64>,
    /// Where it is set.
    pub level: Option<Level>,
    /// How much of it is in use; `None` = not known.
    pub used: Option<u64>,
}

/// Why a job waits, until when, and what would start it sooner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhyView {
    /// Its number.
    pub job: u32,
    /// Its state; nothing but this is said of one that does not wait.
    pub state: String,
    /// The reason, in Slurm's words.
    pub reason: Option<String>,
    /// The same in a sentence.
    pub detail: Option<String>,
    /// When it starts; `None` = nothing that is known lets it.
    pub start: Option<StartView>,
    /// Jobs that start before it: the first few.
    pub ahead: Vec<JobOfView>,
    /// How many there are.
    pub ahead_count: u32,
    /// The nodes that it is first to get, were it alone.
    pub nodes: Vec<String>,
    /// Who holds those, last to end first: the first few.
    pub holders: Vec<HolderView>,
    /// Changes that would start it sooner, the least first.
    pub suggestions: Vec<SuggestionView>,
}

/// When a job starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartView {
    /// As jobs ran so far.
    pub expected: Timestamp,
    /// Sooner than this in one of twenty cases.
    pub earliest: Timestamp,
    /// Later than this in one of twenty cases.
    pub latest: Timestamp,
}

/// A job and its owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobOfView {
    /// Its number.
    pub job: u32,
    /// Whose.
    pub user: String,
}

/// Who holds what a job waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HolderView {
    /// The job.
    pub job: u32,
    /// Whose.
    pub user: String,
    /// Where.
    pub node: String,
    /// Until then at the latest; `None` = without limit.
    pub until: Option<Timestamp>,
}

/// A change of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SuggestionView {
    /// As an option.
    pub option: String,
    /// When the job would start at the latest, if nothing else comes.
    pub starts: Timestamp,
}

/// Where an account or a person in it stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShareView {
    /// The account.
    pub account: String,
    /// The person; `None` = the account itself.
    pub user: Option<String>,
    /// How many accounts are above it.
    pub depth: u32,
    /// Shares as set.
    pub shares: u32,
    /// Its shares, of those of all its siblings.
    pub share_norm: f64,
    /// Used, decayed until now; cpu seconds.
    pub usage_cpu_s: f64,
    /// Its usage, of its account's.
    pub usage_norm: f64,
    /// Above 1 it got less than its share, below 1 more; `None` = it used nothing.
    pub level_fair_share: Option<f64>,
    /// The person's rank among all, 1 for the first; accounts have none.
    pub factor: Option<f64>,
}

/// What a priority is made of; points.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PriorityView {
    /// The job.
    pub job: u32,
    /// The terms, in words.
    pub terms: Vec<(String, i64)>,
    /// Their sum, within its bounds.
    pub sum: i64,
    /// Jobs of its partition that go before it.
    pub ahead: u32,
}
