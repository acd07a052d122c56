//! What the shell must do after the commit. Every effect may safely be repeated.

use crate::model::identity::KeyId;
use crate::model::ids::{BlobId, JobId, NodeId, SlotKey, StepId};
use crate::model::job::{ExitStatus, JobState};
use crate::wire::worker::{SlotLaunch, ToSlot};

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Launch a slot on a node; the shell adds the bytes behind the blobs.
    Launch {
        /// Where.
        node: NodeId,
        /// What, its `blobs` still empty.
        launch: Box<SlotLaunch>,
        /// Blobs to add.
        blobs: Vec<BlobId>,
    },
    /// Tell a slot's shepherd.
    Tell {
        /// Where.
        node: NodeId,
        /// Which slot.
        key: SlotKey,
        /// What.
        order: ToSlot,
    },
    /// Drop the link to a node, so that it registers again.
    DropLink {
        /// Which.
        node: NodeId,
    },
    /// A slot was granted, and of a gang that it begins (for attached clients).
    SlotGranted {
        /// Which.
        key: SlotKey,
    },
    /// A step ended on all its nodes (for attached clients).
    StepEnded {
        /// Where.
        key: SlotKey,
        /// Which.
        step: StepId,
        /// The worst exit.
        exit: ExitStatus,
    },
    /// A step could not start on a node (for attached clients).
    StepFailed {
        /// Whose.
        job: JobId,
        /// On which node.
        node: NodeId,
        /// Which.
        step: StepId,
        /// Why.
        text: String,
    },
    /// An element ended (for attached and waiting clients).
    ElementEnded {
        /// Its job.
        job: JobId,
        /// Its position.
        position: u32,
        /// State.
        state: JobState,
        /// Exit.
        exit: ExitStatus,
    },
    /// A job ended (for waiting clients).
    JobEnded {
        /// Which.
        job: JobId,
        /// State.
        state: JobState,
        /// Exit.
        exit: ExitStatus,
    },
    /// Connections of this key are to end: it is known no more.
    Cut {
        /// Which.
        key: KeyId,
    },
    /// Something is free or waits: plan.
    Plan,
}
