//! What remains of jobs that have ended: the rows of accounting.

use super::ids::{JobId, NodeId, SlotId, StepId};
use super::index_set::IndexSet;
use super::job::{ElementEnd, ExitStatus, JobSpec, JobState, Owner, Reason, Usage};
use super::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::sync::{Arc, LazyLock};

/// What an ended job or a batch of elements had been granted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Granted {
    /// Names of the nodes.
    pub nodes: Vec<String>,
    /// Cpus on all of them.
    pub cpus: u32,
    /// Memory on all of them; MiB.
    pub memory_mib: u64,
    /// GPUs on all of them.
    pub gpus: u32,
    /// Tasks.
    pub ntasks: u32,
}

static NOTHING: LazyLock<Arc<Granted>> = LazyLock::new(Arc::default);

impl Granted {
    /// Shared by all that have the same, when that is nothing: nearly all of a long queue.
    #[must_use]
    pub fn shared(self) -> Arc<Granted> {
        if self == **NOTHING {
            Arc::clone(&NOTHING)
        } else {
            Arc::new(self)
        }
    }
}

/// Ends of elements of one slot, appended to the store together. The store packs them in columns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ElementRow {
    /// Where they ran; `None` = they never did (cancelled while pending).
    pub slot: Option<SlotId>,
    /// What the slot held.
    pub granted: Arc<Granted>,
    /// The ends.
    pub ends: Vec<ElementEnd>,
    /// Positions that ended without ever starting, together: a cancelled array of a million is one row.
    pub never_started: Option<NeverStarted>,
}

/// Positions ended together while they waited.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NeverStarted {
    /// Which.
    pub positions: IndexSet,
    /// As what.
    pub state: JobState,
    /// Why.
    pub reason: Reason,
    /// Who cancelled them.
    pub cancelled_by: Option<u32>,
    /// When.
    pub at: Timestamp,
}

impl NeverStarted {
    /// The end of one of the positions.
    #[must_use]
    pub fn end_at(&self, position: u32) -> ElementEnd {
        ElementEnd {
            position,
            state: self.state,
            reason: self.reason.clone(),
            exit: ExitStatus::default(),
            cancelled_by: self.cancelled_by,
            started: None,
            ended: self.at,
            usage: Usage::default(),
            restarts: 0,
        }
    }
}

/// A step that has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRow {
    /// Its job.
    pub job: JobId,
    /// Its slot.
    pub slot: SlotId,
    /// Its node.
    pub node: NodeId,
    /// Its number.
    pub step: StepId,
    /// The program.
    pub name: String,
    /// Tasks there.
    pub ntasks: u32,
    /// The worst exit.
    pub exit: ExitStatus,
    /// Started.
    pub started: Timestamp,
    /// Ended.
    pub ended: Timestamp,
    /// Used.
    pub usage: Usage,
}

/// A job that has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedJob {
    /// Its number.
    pub id: JobId,
    /// What was asked.
    pub spec: Arc<JobSpec>,
    /// Whose it was.
    pub owner: Owner,
    /// Admitted.
    pub submitted: Timestamp,
    /// First start of an element.
    pub started: Option<Timestamp>,
    /// Last end.
    pub ended: Timestamp,
    /// How it ended; of an array, as its worst element did.
    pub state: JobState,
    /// Why.
    pub reason: Reason,
    /// Exit code and signal.
    pub exit: ExitStatus,
    /// Who cancelled it.
    pub cancelled_by: Option<u32>,
    /// Sum, and largest peak.
    pub usage: Usage,
    /// What it had, as last granted.
    pub granted: Arc<Granted>,
    /// Its last slot: where its nodes keep what it left.
    pub slot: SlotId,
    /// Times put back (a plain job).
    pub restarts: u32,
    /// Elements that ended COMPLETED, and otherwise.
    pub completed: u32,
    /// Elements that ended otherwise.
    pub unsuccessful: u32,
    /// Element rows 0..this in the store (0 for a plain job that never was put back).
    pub rows: u32,
}
