//! Stored rows as bytes: one byte of version, then the fields in postcard.
//!
//! The shapes here are the store's own, so that a field added to the model is a decision about the file: the
//! compiler leads from `Job` or `EndedJob` to this page. A new shape gets the next version byte; the decoder
//! keeps reading the old ones, and `migrate.rs` rewrites them when it suits. A version from the future is an
//! error that says so. Every `decode_*` takes any bytes at all and answers with an error rather than a panic;
//! what it allocates is bounded by the length of its input. Ends of elements are packed in `columns.rs`.

use crate::cluster::changes::Counters;
use crate::model::allocation::Allocation;
use crate::model::audit::AuditRecord;
use crate::model::bounded;
use crate::model::fading::Fading;
use crate::model::history::{EndedJob, Granted, StepRow};
use crate::model::identity::{Invitation, KnownKey};
use crate::model::ids::{JobId, NodeId, SlotId, StepId};
use crate::model::index_set::IndexSet;
use crate::model::job::{
    EndSummary, ExitStatus, Hold, Job, JobSpec, JobState, Kill, NodeEnd, Owner, Reason, Slot, Usage,
};
use crate::model::node::{Inventory, Link, Node, Serves};
use crate::model::rare::Rare;
use crate::model::rules::{Noun, Setting};
use crate::model::step::StepOptions;
use crate::model::stops::Stops;
use crate::model::time::Timestamp;
use crate::scheduler::priority;
use crate::wire::worker::{StepLaunch, StepOrder};
use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned};
use std::borrow::Cow;
use std::sync::Arc;

/// Why bytes are no record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Nothing there.
    #[error("empty record")]
    Empty,
    /// Written by a later release.
    #[error(
        "record version {found}, but this hpc reads up to {known}: use the release that wrote it, or a later one"
    )]
    Newer {
        /// The record's version.
        found: u8,
        /// The newest that is understood.
        known: u8,
    },
    /// The fields do not add up.
    #[error("malformed {what} record: {detail}")]
    Malformed {
        /// Which kind of record.
        what: &'static str,
        /// What does not.
        detail: String,
    },
}

impl RecordError {
    pub(super) fn malformed(what: &'static str, detail: impl ToString) -> Self {
        RecordError::Malformed {
            what,
            detail: detail.to_string(),
        }
    }
}

/// The first version of every record on this page, and the only one of most.
const V1: u8 = 1;
/// Of hot jobs: slots say whether they have begun, which steps run in them and which leases they have. Of ended ones: the
/// last slot. Of nodes: whose jobs they run.
const V2: u8 = 2;
/// Of hot jobs of which slots are or were stopped: beside version 2, how, slot by slot. Of nodes that have
/// failed of late: how often.
const V3: u8 = 3;

/// The fields of a version-1 record.
pub(super) fn body(bytes: &[u8]) -> Result<&[u8], RecordError> {
    versioned(bytes, V1).map(|(_, body)| body)
}

/// The version of a record that has been written in versions up to `known`, and its fields.
fn versioned(bytes: &[u8], known: u8) -> Result<(u8, &[u8]), RecordError> {
    match bytes.split_first() {
        None => Err(RecordError::Empty),
        Some((&0, _)) => Err(RecordError::malformed("version-0", "versions count from 1")),
        Some((&found, body)) if found <= known => Ok((found, body)),
        Some((&found, _)) => Err(RecordError::Newer { found, known }),
    }
}

/// One record, appended to an empty buffer that callers keep between records.
pub(super) fn encode_into<T: Serialize>(buffer: &mut Vec<u8>, value: &T) {
    encode_version(buffer, V1, value);
}

fn encode_version<T: Serialize>(buffer: &mut Vec<u8>, version: u8, value: &T) {
    buffer.clear();
    buffer.push(version);
    let taken = std::mem::take(buffer);
    *buffer = postcard::to_extend(value, taken).expect("writing into memory cannot fail");
}

fn decode<T: DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<T, RecordError> {
    fields(what, body(bytes)?)
}

/// Fields that are all there is.
fn fields<T: DeserializeOwned>(what: &'static str, body: &[u8]) -> Result<T, RecordError> {
    let (value, rest) =
        postcard::take_from_bytes(body).map_err(|error| RecordError::malformed(what, error))?;
    if rest.is_empty() {
        Ok(value)
    } else {
        Err(RecordError::malformed(what, "bytes behind its end"))
    }
}

/// A slot as version 1 had it: nothing was known of steps, and a gang's nodes began each by itself.
#[derive(Clone, Serialize, Deserialize)]
struct SlotV1 {
    id: SlotId,
    allocation: Arc<Allocation>,
    granted: Timestamp,
    queue: IndexSet,
    given: IndexSet,
    confirmed: bool,
    kills: Vec<Kill>,
    suspended: bool,
    released: Option<u8>,
    node_ends: Vec<NodeEnd>,
}

impl From<SlotV1> for Slot {
    fn from(slot: SlotV1) -> Self {
        Slot {
            id: slot.id,
            allocation: slot.allocation,
            granted: slot.granted,
            queue: slot.queue,
            given: slot.given,
            confirmed: slot.confirmed,
            current: None,
            kills: slot.kills,
            suspended: slot.suspended,
            stops: Stops::default(),
            released: slot.released,
            node_ends: slot.node_ends,
            ended_count: 0,
            heard: Timestamp::default(),
            retracting: false,
            gone: false,
            leases: Vec::new(),
            begun: true,
            steps: Vec::new(),
            present: Vec::new(),
            told_to_end: Timestamp::default(),
        }
    }
}

/// A hot job without its number (the key) and spec (a table of its own).
#[derive(Serialize, Deserialize)]
#[serde(bound(serialize = "S: Serialize", deserialize = "S: Deserialize<'de>"))]
struct JobRow<'a, S: Clone> {
    owner: Cow<'a, Owner>,
    submitted: Timestamp,
    hold: Hold,
    reason: Cow<'a, Reason>,
    pending: Cow<'a, IndexSet>,
    waiting: Cow<'a, IndexSet>,
    slots: Cow<'a, [S]>,
    slot_next: u32,
    restarts: Cow<'a, [(u32, u32)]>,
    ends: Cow<'a, EndSummary>,
    granted: Cow<'a, Granted>,
    row_next: u32,
    not_before: Option<Timestamp>,
    waits_for: Cow<'a, [u32]>,
    step_next: u32,
}

/// A job's hot record.
pub fn encode_job(buffer: &mut Vec<u8>, job: &Job) {
    // Every field is named, so that a new one is a decision here: stored, or known to be rebuilt.
    let Job {
        id: _,
        spec: _,
        owner,
        submitted,
        hold,
        reason,
        pending,
        waiting,
        slots,
        slot_next,
        restarts,
        ends,
        granted,
        row_next,
        not_before,
        waits_for,
        step_next,
        unsuccessful: _,
        pace_us: _,
    } = job;
    let row = JobRow {
        owner: Cow::Borrowed(owner),
        submitted: *submitted,
        hold: *hold,
        reason: Cow::Borrowed(reason),
        pending: Cow::Borrowed(pending),
        waiting: Cow::Borrowed(waiting),
        slots: Cow::Borrowed(slots),
        slot_next: *slot_next,
        restarts: Cow::Borrowed(restarts),
        ends: Cow::Borrowed(ends),
        granted: Cow::Borrowed(granted),
        row_next: *row_next,
        not_before: *not_before,
        waits_for: Cow::Borrowed(waits_for),
        step_next: *step_next,
    };
    if slots.iter().all(|slot| slot.stops == Stops::default()) {
        return encode_version(buffer, V2, &row);
    }
    let stops: Vec<Stops> = slots.iter().map(|slot| slot.stops).collect();
    encode_version(buffer, V3, &(row, stops));
}

/// A job from its number, its hot record and its spec; what is not stored is empty.
pub fn decode_job(id: JobId, bytes: &[u8], spec: Arc<JobSpec>) -> Result<Job, RecordError> {
    match versioned(bytes, V3)? {
        (V1, body) => fields::<JobRow<'static, SlotV1>>("job", body).map(|row| job(id, row, spec)),
        (V3, body) => {
            let (row, stops) = fields::<(JobRow<'static, Slot>, Vec<Stops>)>("job", body)?;
            let mut job = job(id, row, spec);
            if stops.len() != job.slots.len() {
                return Err(RecordError::malformed("job", "stops of other slots"));
            }
            for (slot, stops) in job.slots.iter_mut().zip(stops) {
                slot.stops = stops;
            }
            Ok(job)
        }
        (_, body) => fields::<JobRow<'static, Slot>>("job", body).map(|row| job(id, row, spec)),
    }
}

fn job<S: Clone + Into<Slot>>(id: JobId, row: JobRow<'static, S>, spec: Arc<JobSpec>) -> Job {
    Job {
        id,
        spec,
        owner: row.owner.into_owned(),
        submitted: row.submitted,
        hold: row.hold,
        reason: row.reason.into_owned(),
        pending: row.pending.into_owned(),
        waiting: row.waiting.into_owned().into(),
        slots: row.slots.into_owned().into_iter().map(S::into).collect(),
        slot_next: row.slot_next,
        restarts: row.restarts.into_owned().into(),
        ends: row.ends.into_owned().into(),
        granted: row.granted.into_owned().shared(),
        row_next: row.row_next,
        not_before: row.not_before,
        waits_for: row.waits_for.into_owned().into(),
        step_next: row.step_next,
        unsuccessful: Rare::default(),
        pace_us: 0,
    }
}

/// What was asked for.
pub fn decode_spec(bytes: &[u8]) -> Result<JobSpec, RecordError> {
    decode("spec", bytes)
}

/// An ended job without its number and spec.
#[derive(Serialize, Deserialize)]
struct EndedRow<'a> {
    /// First, for [`decode_ended_at`].
    ended: Timestamp,
    owner: Cow<'a, Owner>,
    submitted: Timestamp,
    started: Option<Timestamp>,
    state: JobState,
    reason: Cow<'a, Reason>,
    exit: ExitStatus,
    cancelled_by: Option<u32>,
    usage: Usage,
    granted: Cow<'a, Granted>,
    restarts: u32,
    completed: u32,
    unsuccessful: u32,
    rows: u32,
}

/// An ended job's record.
pub fn encode_ended(buffer: &mut Vec<u8>, ended: &EndedJob) {
    let EndedJob {
        id: _,
        spec: _,
        owner,
        submitted,
        started,
        ended,
        state,
        reason,
        exit,
        cancelled_by,
        usage,
        granted,
        slot,
        restarts,
        completed,
        unsuccessful,
        rows,
    } = ended;
    let row = EndedRow {
        owner: Cow::Borrowed(owner),
        submitted: *submitted,
        started: *started,
        ended: *ended,
        state: *state,
        reason: Cow::Borrowed(reason),
        exit: *exit,
        cancelled_by: *cancelled_by,
        usage: *usage,
        granted: Cow::Borrowed(granted),
        restarts: *restarts,
        completed: *completed,
        unsuccessful: *unsuccessful,
        rows: *rows,
    };
    encode_version(buffer, V2, &(row, *slot));
}

/// An ended job from its number, its record and its spec.
pub fn decode_ended(id: JobId, bytes: &[u8], spec: Arc<JobSpec>) -> Result<EndedJob, RecordError> {
    let (row, slot) = match versioned(bytes, V2)? {
        (V1, body) => {
            let row: EndedRow<'static> = fields("history", body)?;
            // Each time it was put back it had got another.
            let slot = SlotId(row.restarts);
            (row, slot)
        }
        (_, body) => fields::<(EndedRow<'static>, SlotId)>("history", body)?,
    };
    Ok(EndedJob {
        id,
        spec,
        owner: row.owner.into_owned(),
        submitted: row.submitted,
        started: row.started,
        ended: row.ended,
        state: row.state,
        reason: row.reason.into_owned(),
        exit: row.exit,
        cancelled_by: row.cancelled_by,
        usage: row.usage,
        granted: Arc::new(row.granted.into_owned()),
        slot,
        restarts: row.restarts,
        completed: row.completed,
        unsuccessful: row.unsuccessful,
        rows: row.rows,
    })
}

/// When an ended job ended: its place in the index.
pub fn decode_ended_at(bytes: &[u8]) -> Result<Timestamp, RecordError> {
    let (_, body) = versioned(bytes, V2)?;
    let (ended, _) = postcard::take_from_bytes(body)
        .map_err(|error| RecordError::malformed("history", error))?;
    Ok(ended)
}

/// How a job ended, as the index by end carries it.
pub fn decode_outcome(bytes: &[u8]) -> Result<(JobState, ExitStatus), RecordError> {
    decode("outcome", bytes)
}

#[derive(Serialize, Deserialize)]
struct StepBody<'a> {
    name: Cow<'a, str>,
    ntasks: u32,
    exit: ExitStatus,
    started: Timestamp,
    ended: Timestamp,
    usage: Usage,
}

/// The key of a step's row.
pub(super) fn step_key(step: &StepRow) -> (u32, u32, u32, u32) {
    (step.job.0, step.slot.0, step.node.0, step.step.0)
}

/// An ended step's record.
pub fn encode_step(buffer: &mut Vec<u8>, step: &StepRow) {
    let StepRow {
        job: _,
        slot: _,
        node: _,
        step: _,
        name,
        ntasks,
        exit,
        started,
        ended,
        usage,
    } = step;
    let row = StepBody {
        name: Cow::Borrowed(name),
        ntasks: *ntasks,
        exit: *exit,
        started: *started,
        ended: *ended,
        usage: *usage,
    };
    encode_into(buffer, &row);
}

/// A step from its key and record.
pub fn decode_step(key: (u32, u32, u32, u32), bytes: &[u8]) -> Result<StepRow, RecordError> {
    let row: StepBody<'static> = decode("step", bytes)?;
    Ok(StepRow {
        job: JobId(key.0),
        slot: SlotId(key.1),
        node: NodeId(key.2),
        step: StepId(key.3),
        name: row.name.into_owned(),
        ntasks: row.ntasks,
        exit: row.exit,
        started: row.started,
        ended: row.ended,
        usage: row.usage,
    })
}

/// A running step without its number (a part of the key).
#[derive(Serialize, Deserialize)]
struct OrderRow<'a> {
    arguments: Cow<'a, [String]>,
    environment: Cow<'a, [(Vec<u8>, Vec<u8>)]>,
    work_dir: Cow<'a, str>,
    tasks: Cow<'a, [u32]>,
    cpus_per_task: u32,
    options: Cow<'a, StepOptions>,
}

/// The record of a step that runs, as it was ordered.
pub fn encode_order(buffer: &mut Vec<u8>, order: &StepOrder) {
    let StepOrder {
        launch:
            StepLaunch {
                step: _,
                arguments,
                environment,
                work_dir,
                tasks,
                cpus_per_task,
            },
        options,
    } = order;
    let row = OrderRow {
        arguments: Cow::Borrowed(arguments),
        environment: Cow::Borrowed(environment),
        work_dir: Cow::Borrowed(work_dir),
        tasks: Cow::Borrowed(tasks),
        cpus_per_task: *cpus_per_task,
        options: Cow::Borrowed(options),
    };
    encode_into(buffer, &row);
}

/// How a step that runs was ordered, from its number and its record.
pub fn decode_order(step: StepId, bytes: &[u8]) -> Result<StepOrder, RecordError> {
    let row: OrderRow<'static> = decode("step order", bytes)?;
    Ok(StepOrder {
        launch: StepLaunch {
            step,
            arguments: row.arguments.into_owned(),
            environment: row.environment.into_owned(),
            work_dir: row.work_dir.into_owned(),
            tasks: row.tasks.into_owned(),
            cpus_per_task: row.cpus_per_task,
        },
        options: row.options.into_owned(),
    })
}

#[derive(Serialize, Deserialize)]
struct NodeRow<'a> {
    inventory: Cow<'a, Inventory>,
    link: Link,
    drain: Cow<'a, Option<String>>,
    serves: Cow<'a, Serves>,
}

/// As long as every agent was on the controller's own machine.
#[derive(Deserialize)]
struct NodeRowV1 {
    inventory: Inventory,
    link: Link,
    drain: Option<String>,
}

/// A node's record.
pub fn encode_node(buffer: &mut Vec<u8>, node: &Node) {
    let Node {
        id: _,
        inventory,
        link,
        drain,
        serves,
        failures,
        cpus_free: _,
        memory_granted_mib: _,
        gpus_free: _,
        gives_leases: _,
    } = node;
    let row = NodeRow {
        inventory: Cow::Borrowed(inventory),
        link: *link,
        drain: Cow::Borrowed(drain),
        serves: Cow::Borrowed(serves),
    };
    if failures.amount > 0.0 {
        encode_version(buffer, V3, &(row, failures));
    } else {
        encode_version(buffer, V2, &row);
    }
}

/// A node from its number and record; what is free on it follows from the jobs.
pub fn decode_node(id: NodeId, bytes: &[u8]) -> Result<Node, RecordError> {
    let mut failures = Fading::default();
    let row = match versioned(bytes, V3)? {
        (V1, body) => {
            let row: NodeRowV1 = fields("node", body)?;
            let serves = Serves::local(row.inventory.uid);
            NodeRow {
                inventory: Cow::Owned(row.inventory),
                link: row.link,
                drain: Cow::Owned(row.drain),
                serves: Cow::Owned(serves),
            }
        }
        (V2, body) => fields::<NodeRow<'static>>("node", body)?,
        (_, body) => {
            let (row, known): (NodeRow<'static>, Fading) = fields("node", body)?;
            if !known.is_sound() {
                return Err(RecordError::malformed("node", known.amount));
            }
            failures = known;
            row
        }
    };
    Ok(Node {
        id,
        inventory: Arc::new(row.inventory.into_owned()),
        link: row.link,
        drain: row.drain.into_owned(),
        serves: row.serves.into_owned(),
        failures,
        cpus_free: Default::default(),
        memory_granted_mib: 0,
        gpus_free: Vec::new(),
        gives_leases: false,
    })
}

/// A known key's record.
pub fn decode_key(bytes: &[u8]) -> Result<KnownKey, RecordError> {
    decode("key", bytes)
}

/// An invitation's record.
pub fn decode_invitation(bytes: &[u8]) -> Result<Invitation, RecordError> {
    decode("invitation", bytes)
}

/// What is said of a partition, an account, a user or a QOS.
#[derive(Serialize, Deserialize)]
struct RuleRow<'a> {
    #[serde(deserialize_with = "few_settings")]
    settings: Cow<'a, [Setting]>,
}

fn few_settings<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Cow<'static, [Setting]>, D::Error> {
    bounded::few(deserializer).map(Cow::Owned)
}

/// The key of what is said of one: names hold no `/`.
pub(super) fn rule_key(noun: Noun, name: &str) -> String {
    format!("{noun}/{name}")
}

/// Of what, and of which.
pub(super) fn decode_rule_key(key: &str) -> Result<(Noun, &str), RecordError> {
    let parts = key.split_once('/');
    let known = parts.and_then(|(word, name)| Some((Noun::parse(word)?, name)));
    known.ok_or_else(|| RecordError::malformed("rule", "its key begins with no known noun"))
}

/// The record of what is said of one.
pub fn encode_rule(buffer: &mut Vec<u8>, settings: &[Setting]) {
    let settings = Cow::Borrowed(settings);
    encode_into(buffer, &RuleRow { settings });
}

/// What is said of one. Whether it can be said is for all of it together.
pub fn decode_rule(bytes: &[u8]) -> Result<Vec<Setting>, RecordError> {
    let row: RuleRow<'static> = decode("rule", bytes)?;
    Ok(row.settings.into_owned())
}

/// What somebody has used.
pub fn decode_usage(bytes: &[u8]) -> Result<priority::Usage, RecordError> {
    let usage: priority::Usage = decode("usage", bytes)?;
    if usage.is_sound() {
        Ok(usage)
    } else {
        Err(RecordError::malformed("usage", usage.amount))
    }
}

/// A line of the audit.
pub fn decode_audit(bytes: &[u8]) -> Result<AuditRecord, RecordError> {
    decode("audit", bytes)
}

/// The cluster's counters.
pub fn decode_counters(bytes: &[u8]) -> Result<Counters, RecordError> {
    decode("counters", bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{decode_blob, fixtures};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_are_a_record_or_an_error(mut bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let spec = Arc::new(fixtures::spec("a", None));
            for version in [None, Some(1), Some(2), Some(3)] {
                if let (Some(first), Some(version)) = (bytes.first_mut(), version) {
                    *first = version;
                }
                let _ = decode_job(JobId(1), &bytes, spec.clone());
                let _ = decode_spec(&bytes);
                let _ = decode_ended(JobId(1), &bytes, spec.clone());
                let _ = decode_ended_at(&bytes);
                let _ = decode_outcome(&bytes);
                let _ = decode_step((1, 2, 3, 4), &bytes);
                let _ = decode_order(StepId(4), &bytes);
                let _ = decode_node(NodeId(1), &bytes);
                let _ = decode_counters(&bytes);
                let _ = decode_key(&bytes);
                let _ = decode_invitation(&bytes);
                let _ = decode_audit(&bytes);
                let _ = decode_rule(&bytes);
                let _ = decode_blob(&bytes);
            }
        }

        #[test]
        fn a_damaged_record_is_a_record_or_an_error(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let job = fixtures::started(&fixtures::pending(1, fixtures::spec("a", Some("0-9"))), 1);
            let mut bytes = Vec::new();
            encode_job(&mut bytes, &job);
            let at = at.index(bytes.len());
            prop_assert!(decode_job(job.id, &bytes[..at], job.spec.clone()).is_err());
            bytes[at] = byte;
            let _ = decode_job(job.id, &bytes, job.spec.clone());
        }
    }

    #[test]
    fn what_is_stopped_is_so_after_a_restart() {
        let mut job = fixtures::started(&fixtures::pending(1, fixtures::spec("a", None)), 1);
        let mut bytes = Vec::new();
        encode_job(&mut bytes, &job);
        assert_eq!(
            bytes[0], V2,
            "others can be read by releases that know of no stops"
        );
        job.slots[0].stops = Stops {
            lent_to: Some(JobId(7)),
            since: Some(Timestamp(5000)),
            past_ms: 300,
            depth: 1,
        };
        encode_job(&mut bytes, &job);
        let read = decode_job(job.id, &bytes, job.spec.clone()).unwrap();
        assert_eq!(read, job);
    }

    #[test]
    fn failures_of_a_node_are_kept_and_cost_nothing_where_there_are_none() {
        let mut node = fixtures::node(1);
        let mut bytes = Vec::new();
        encode_node(&mut bytes, &node);
        assert_eq!(bytes[0], V2, "as it was before failures were counted");
        let before = bytes.len();
        assert_eq!(decode_node(node.id, &bytes).unwrap(), node);
        node.fail(Timestamp(fixtures::START));
        encode_node(&mut bytes, &node);
        assert_eq!((bytes[0], bytes.len() > before), (V3, true));
        assert_eq!(decode_node(node.id, &bytes).unwrap(), node);
        for amount in [f64::NAN, -1.0, f64::INFINITY] {
            node.failures.amount = f64::MAX;
            encode_node(&mut bytes, &node);
            let at = bytes
                .windows(8)
                .rposition(|eight| eight == f64::MAX.to_le_bytes());
            bytes[at.unwrap()..][..8].copy_from_slice(&amount.to_le_bytes());
            assert!(decode_node(node.id, &bytes).is_err(), "{amount}");
        }
    }

    #[test]
    fn records_of_the_first_version_are_read() {
        let job = fixtures::started(&fixtures::pending(1, fixtures::spec("a", None)), 1);
        let known = &job.slots[0];
        let slot = SlotV1 {
            id: known.id,
            allocation: known.allocation.clone(),
            granted: known.granted,
            queue: known.queue.clone(),
            given: known.given.clone(),
            confirmed: known.confirmed,
            kills: known.kills.clone(),
            suspended: known.suspended,
            released: known.released,
            node_ends: known.node_ends.clone(),
        };
        let mut bytes = Vec::new();
        encode_job(&mut bytes, &job);
        let now: JobRow<'_, Slot> = fields("job", versioned(&bytes, V2).unwrap().1).unwrap();
        let before = JobRow {
            slots: Cow::Owned(vec![slot]),
            owner: now.owner,
            submitted: now.submitted,
            hold: now.hold,
            reason: now.reason,
            pending: now.pending,
            waiting: now.waiting,
            slot_next: now.slot_next,
            restarts: now.restarts,
            ends: now.ends,
            granted: now.granted,
            row_next: now.row_next,
            not_before: now.not_before,
            waits_for: now.waits_for,
            step_next: now.step_next,
        };
        encode_into(&mut bytes, &before);
        let read = decode_job(job.id, &bytes, job.spec.clone()).unwrap();
        assert_eq!(read, job, "its slot has begun, and no step is known");
        let ended = EndedJob {
            restarts: 2,
            ..fixtures::ended(&job, 5000, 0)
        };
        encode_ended(&mut bytes, &ended);
        let row: (EndedRow<'_>, SlotId) =
            fields("history", versioned(&bytes, V2).unwrap().1).unwrap();
        encode_into(&mut bytes, &row.0);
        let read = decode_ended(ended.id, &bytes, ended.spec.clone()).unwrap();
        assert_eq!(read.slot, SlotId(2), "as many as it was put back");
        assert_eq!(decode_ended_at(&bytes).unwrap(), ended.ended);
    }

    #[test]
    fn a_record_from_the_future_says_so() {
        let mut bytes = Vec::new();
        encode_job(&mut bytes, &fixtures::pending(1, fixtures::spec("a", None)));
        bytes[0] = 9;
        let error = decode_job(JobId(1), &bytes, Arc::new(fixtures::spec("a", None))).unwrap_err();
        assert_eq!(error, RecordError::Newer { found: 9, known: 3 });
        assert!(error.to_string().contains("use the release that wrote it"));
    }
}
