//! Between a command and the controller. One connect, one write, one read for most requests; `Wait`,
//! `Output`, `Run` and `Backup` are followed by a stream of [`ToClient`] frames.

use super::view::{
    JobLine, JobView, LimitsView, LinkView, MembersView, NodeView, PartitionView, PriorityView,
    RuleView, ShareView, StatusView, StepPlaceView, WhyView,
};
use crate::model::array::ArraySpec;
use crate::model::audit::AuditRecord;
use crate::model::bounded;
use crate::model::dependency::Dependency;
use crate::model::identity::Grant;
use crate::model::ids::{BlobId, StepId};
use crate::model::job::{JobSpec, JobState};
use crate::model::job_ref::MAX_LIST_INDICES;
use crate::model::refusal::Refusal;
use crate::model::rules::{Noun, RuleChange};
use crate::model::step::StepOptions;
use crate::model::time::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};

/// Jobs or elements meant by an operand such as `12`, `12_3` or `12_[1-4]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selector {
    /// The job (or an element's raw id).
    pub job: u32,
    /// Its elements; `None` = all.
    pub indices: Option<ArraySpec>,
}

/// Reads operands: as many of them, and with as many indices together, as a command may name.
fn selectors<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Selector>, D::Error> {
    let selectors: Vec<Selector> = bounded::list(deserializer)?;
    let named = selectors
        .iter()
        .filter_map(|selector| selector.indices.as_ref());
    let indices: u64 = named.map(|indices| u64::from(indices.count())).sum();
    if indices > u64::from(MAX_LIST_INDICES) {
        let most =
            format!("operands that name {indices} array tasks, the most is {MAX_LIST_INDICES}");
        return Err(serde::de::Error::custom(most));
    }
    Ok(selectors)
}

/// Which jobs a listing or a bulk verb means.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Filter {
    /// These, or all when empty.
    #[serde(deserialize_with = "selectors")]
    pub jobs: Vec<Selector>,
    /// Of these users (names or uids), or all when empty.
    #[serde(deserialize_with = "bounded::few")]
    pub users: Vec<String>,
    /// In these states, or all when empty.
    #[serde(deserialize_with = "bounded::few")]
    pub states: Vec<JobState>,
    /// In these partitions, or all when empty.
    #[serde(deserialize_with = "bounded::few")]
    pub partitions: Vec<String>,
    /// With these names, or all when empty.
    #[serde(deserialize_with = "bounded::few")]
    pub names: Vec<String>,
    /// Ended after this time (history).
    pub since: Option<Timestamp>,
    /// Submitted before this time (history).
    pub until: Option<Timestamp>,
    /// A row for every array element that waits.
    pub expand_arrays: bool,
    /// Most rows; 0 = all.
    pub limit: u32,
}

/// A change by `hpc update`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum JobChange {
    /// New limit in seconds; `None` = the partition's.
    TimeLimit(Option<u32>),
    /// Added to the limit in seconds (may be negative).
    TimeLimitBy(i64),
    /// New name.
    Name(String),
    /// New partition.
    Partition(String),
    /// New comment.
    Comment(String),
    /// New `nice`.
    Nice(i32),
    /// New begin time.
    Begin(Timestamp),
    /// New dependency, or none.
    Dependency(Option<Dependency>),
    /// New throttle of an array; 0 = none.
    ArrayThrottle(u32),
}

/// A change of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodeChange {
    /// Start nothing new there.
    Drain {
        /// Why.
        reason: String,
    },
    /// Start work there again.
    Resume,
    /// Forget it; it must be down or gone and hold no jobs.
    Remove,
    /// Forget it at once: its jobs are NODE_FAIL, its key is known no more, its connection ends.
    Expel,
}

/// Which output is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum OutputKind {
    /// Standard output (with standard error, where they share a file).
    Stdout,
    /// Standard error.
    Stderr,
}

/// From a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Who are you?
    Status,
    /// Queue a job.
    Submit {
        /// What is asked.
        spec: Box<JobSpec>,
        /// The bytes behind its blob ids.
        blobs: Vec<(BlobId, Vec<u8>)>,
        /// Check and answer only; nothing is queued.
        dry_run: bool,
    },
    /// End jobs.
    Cancel {
        /// Which.
        filter: Filter,
    },
    /// Send a signal to running jobs.
    Signal {
        /// Which.
        filter: Filter,
        /// Signal number.
        signal: i32,
        /// To whom.
        to: super::worker::SignalTarget,
    },
    /// Hold pending jobs.
    Hold(Filter),
    /// Let held jobs go.
    Release(Filter),
    /// Put jobs back.
    Requeue {
        /// Which.
        filter: Filter,
        /// And hold them.
        hold: bool,
    },
    /// Stop running jobs, or let them go on.
    Suspend {
        /// Which.
        filter: Filter,
        /// Stop?
        stop: bool,
    },
    /// Change jobs.
    Update {
        /// Which.
        filter: Filter,
        /// How.
        #[serde(deserialize_with = "bounded::few")]
        changes: Vec<JobChange>,
    },
    /// Jobs that have not ended.
    Queue(Filter),
    /// One job, whether or not it has ended; every element row if it is an array and `elements`.
    Job {
        /// Which.
        selector: Selector,
    },
    /// Ended jobs.
    History(Filter),
    /// Nodes.
    Nodes,
    /// Change a node.
    Node {
        /// Its name.
        name: String,
        /// How.
        change: NodeChange,
    },
    /// Partitions.
    Partitions,
    /// Answer when all of these have ended, with [`ToClient::Ended`] for each.
    Wait(#[serde(deserialize_with = "selectors")] Vec<Selector>),
    /// Bytes of a job's output.
    Output {
        /// Which job or element.
        selector: Selector,
        /// Which output.
        kind: OutputKind,
        /// First byte.
        offset: u64,
        /// Go on until the end of the job.
        follow: bool,
    },
    /// Be the client of a job of `hpc run`: its step log, and its standard input from here.
    Attach {
        /// Which job.
        job: u32,
        /// Its step; 0 for a job of `hpc run`.
        step: StepId,
        /// First byte of the log wanted.
        offset: u64,
        /// Does this client provide standard input and decide the job's life?
        owner: bool,
    },
    /// Be the client of an allocation of `hpc alloc`: answers when granted, ends it when gone.
    HoldAllocation {
        /// Which job.
        job: u32,
    },
    /// The allocation's client is done.
    EndAllocation {
        /// Which job.
        job: u32,
        /// Its exit code.
        code: u8,
    },
    /// Start a step inside a running job.
    StartStep(Box<StepRequest>),
    /// A consistent copy of the store, as a stream.
    Backup,
    /// Stop the controller; jobs first, unless they are to be kept.
    Shutdown {
        /// Leave jobs running.
        keep_jobs: bool,
    },
    /// The script of a job.
    Script {
        /// Which job.
        job: u32,
    },
    /// Jobs that have not ended, as a table shows them: answered with [`ToClient::Lines`].
    QueueLines(Filter),
    /// How nodes are reached: answered with [`ToClient::Links`].
    Links,
    /// Make an invitation: answered with [`ToClient::Invited`].
    Invite {
        /// What it admits.
        grant: Grant,
        /// How long it is good; seconds.
        ttl_s: u32,
        /// How often.
        uses: u32,
    },
    /// Who is known: answered with [`ToClient::Members`].
    Members,
    /// Take back the keys of a person.
    RevokeUser {
        /// Whose.
        name: String,
    },
    /// The latest lines of the audit: answered with [`ToClient::Audit`].
    Audit {
        /// Most lines.
        limit: u32,
    },
    /// Be the client of a job of `hpc run` or of a step, on all its nodes: a log from each, told apart by the node's
    /// place among those of the job, leader first. What `Attach` is for one node.
    AttachNodes {
        /// Which job.
        job: u32,
        /// Its step; 0 for a job of `hpc run`.
        step: StepId,
        /// First byte wanted of each node's log; of those not listed, from the beginning.
        #[serde(deserialize_with = "bounded::list")]
        offsets: Vec<u64>,
        /// Does this client provide standard input and decide the job's life?
        owner: bool,
        /// Go on until the step ends; else what is there now.
        follow: bool,
    },
    /// Take back the open invitations that admit this.
    Withdraw {
        /// What they admit.
        grant: Grant,
    },
    /// Decide something of partitions, accounts, users and QOS.
    ChangeRule(RuleChange),
    /// What is decided: answered with [`ToClient::Rules`].
    Rules {
        /// Of which noun; `None` = of all.
        noun: Option<Noun>,
    },
    /// Which limits hold for a job: answered with [`ToClient::Limits`]. What is not named is as for a job that does not
    /// name it.
    Limits {
        /// Of whom; `None` = of who asks.
        user: Option<String>,
        /// In which account.
        account: Option<String>,
        /// In which partition.
        partition: Option<String>,
        /// With which QOS.
        qos: Option<String>,
    },
    /// Why a job waits, until when, and what would start it sooner: answered with [`ToClient::Explained`].
    Explain {
        /// Which, or an element's raw id.
        job: u32,
    },
    /// Where everybody stands: answered with [`ToClient::Shares`].
    Shares,
    /// What a waiting job's priority is made of: answered with [`ToClient::Priority`].
    Priority {
        /// Which, or an element's raw id.
        job: u32,
    },
    /// As `StartStep`, with something said about the step. Earlier builds know it not.
    StartStepAs(Box<StepWish>),
    /// Where the ranks of a job's running steps are: answered with [`ToClient::StepPlaces`].
    StepPlaces {
        /// Which, or an element's raw id.
        job: u32,
    },
}

/// A step asked for from inside a job, and what was said of it beyond its program and amounts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepWish {
    /// The step.
    pub request: StepRequest,
    /// What was said.
    pub options: StepOptions,
}

/// A step asked for from inside a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRequest {
    /// The raw id of the job or element (`SLURM_JOB_ID`).
    pub raw_job: u32,
    /// Argument vector.
    #[serde(deserialize_with = "bounded::list")]
    pub arguments: Vec<String>,
    /// Environment of the caller.
    #[serde(deserialize_with = "bounded::list")]
    pub environment: Vec<(Vec<u8>, Vec<u8>)>,
    /// Working directory.
    pub work_dir: String,
    /// Tasks; `None` = as the job.
    pub ntasks: Option<u32>,
    /// Nodes; `None` = all of the job's.
    pub nodes: Option<u32>,
    /// Cpus of each task.
    pub cpus_per_task: Option<u32>,
}

/// From the controller.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ToClient {
    /// No.
    Refused(Refusal),
    /// Done; for bulk verbs, how many jobs or elements it touched.
    Done {
        /// Jobs or elements touched.
        count: u32,
        /// Jobs that were named but not touched, and why.
        notes: Vec<String>,
    },
    /// Queued.
    Submitted {
        /// Its number.
        job: u32,
    },
    /// It would be queued; where and when it would run.
    WouldRun {
        /// Words for people.
        text: String,
    },
    /// Status.
    Status(Box<StatusView>),
    /// A part of a listing; the last part has `last`.
    Jobs {
        /// Rows.
        jobs: Vec<JobView>,
        /// Nothing follows.
        last: bool,
    },
    /// Nodes.
    Nodes(Vec<NodeView>),
    /// Partitions.
    Partitions(Vec<PartitionView>),
    /// One of the awaited has ended.
    Ended {
        /// Its number.
        job: u32,
        /// State word.
        state: JobState,
        /// Exit code as a shell shows it.
        code: u8,
    },
    /// The job has started, on these nodes (attached clients).
    Started {
        /// Raw id.
        raw_job: u32,
        /// Array of pairs for the environment of an allocation's client.
        environment: Vec<(String, String)>,
    },
    /// A step was started under this number.
    StepStarted {
        /// Its number.
        step: StepId,
    },
    /// Bytes of an output.
    Data {
        /// Offset of the first byte.
        offset: u64,
        /// The bytes.
        #[serde(with = "super::bytes")]
        bytes: Vec<u8>,
    },
    /// An output or backup is complete.
    DataEnd {
        /// What went wrong, if so.
        error: Option<String>,
    },
    /// How much of the standard input was taken.
    StdinTaken {
        /// Bytes.
        offset: u64,
        /// Nobody reads any more.
        closed: bool,
    },
    /// A script's bytes.
    Script(Vec<u8>),
    /// A part of a table; the last part has `last`.
    Lines {
        /// Rows.
        lines: Vec<JobLine>,
        /// Nothing follows.
        last: bool,
    },
    /// How nodes are reached.
    Links(Vec<LinkView>),
    /// An invitation.
    Invited {
        /// The line to paste.
        line: String,
        /// When it ends.
        expires: Timestamp,
    },
    /// Known keys and open invitations.
    Members(Box<MembersView>),
    /// Lines of the audit, oldest first.
    Audit(Vec<AuditRecord>),
    /// Bytes of one node's log.
    NodeData {
        /// The node's place.
        node: u32,
        /// Offset of the first byte.
        offset: u64,
        /// The bytes.
        #[serde(with = "super::bytes")]
        bytes: Vec<u8>,
    },
    /// One node's log is complete. [`ToClient::DataEnd`] follows when all are.
    NodeEnd {
        /// The node's place.
        node: u32,
        /// Its name.
        name: String,
        /// What went wrong, if so.
        error: Option<String>,
    },
    /// Why the job ended as it did, for people; said before [`ToClient::Ended`].
    Why {
        /// One sentence.
        text: String,
    },
    /// The output asked for is in logs on several nodes: ask with [`Request::AttachNodes`].
    OnNodes {
        /// The raw id to ask for.
        raw_job: u32,
    },
    /// Partitions, accounts, users and QOS, by noun and name.
    Rules(#[serde(deserialize_with = "bounded::list")] Vec<RuleView>),
    /// Limits.
    Limits(Box<LimitsView>),
    /// Why a job waits.
    Explained(Box<WhyView>),
    /// Accounts and the people in them, each account before what is in it.
    Shares(Vec<ShareView>),
    /// A priority.
    Priority(Box<PriorityView>),
    /// Running steps.
    StepPlaces(#[serde(deserialize_with = "bounded::list")] Vec<StepPlaceView>),
}

/// From a client after its request, while a stream is open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromClient {
    /// Everything below this offset was taken; opens the window.
    Taken {
        /// Offset.
        offset: u64,
    },
    /// Standard input.
    Stdin {
        /// Offset of the first byte.
        offset: u64,
        /// The bytes.
        #[serde(with = "super::bytes")]
        bytes: Vec<u8>,
        /// No more follows.
        end: bool,
    },
    /// Pass this signal to the job's tasks.
    Signal(i32),
    /// End it.
    Cancel,
    /// Of one node's log everything below this offset was taken.
    NodeTaken {
        /// The node's place.
        node: u32,
        /// Offset.
        offset: u64,
    },
}

/// Most bytes on their way to a reader that has not taken them; the piece that fills the window may reach beyond it.
pub const STREAM_WINDOW: u64 = 1024 * 1024;
/// Longest piece of a node's output.
pub const PIECE_MAX: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::codec;

    fn arrives(request: &Request) -> bool {
        codec::decode::<Request>(&codec::encode(request)[4..]).is_ok()
    }

    fn waits(count: usize, indices: &str) -> Request {
        let indices = Some(ArraySpec::try_from(indices.to_owned()).unwrap());
        Request::Wait(vec![Selector { job: 1, indices }; count])
    }

    #[test]
    fn a_request_names_no_more_than_a_command_may() {
        assert!(arrives(&waits(2, "0-3999999")));
        assert!(!arrives(&waits(3, "0-3999999")));
        assert!(arrives(&waits(bounded::ITEMS_MAX, "7")));
        assert!(!arrives(&waits(bounded::ITEMS_MAX + 1, "7")));
        let of_users = |count| {
            Request::Queue(Filter {
                users: vec![String::new(); count],
                ..Filter::default()
            })
        };
        assert!(arrives(&of_users(bounded::FEW_ITEMS_MAX)));
        assert!(!arrives(&of_users(bounded::FEW_ITEMS_MAX + 1)));
    }
}
