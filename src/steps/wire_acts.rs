//! What a [`super::wiring::Wiring`] wants to be done.

use crate::model::spawn::SpawnRequest;
use crate::wire::peer::{PeerMessage, StepFailure};
use crate::wire::pmix::ToPmix;

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum WireAct {
    /// Say this to another node of the slot, or, for names, perhaps to ourselves.
    Peer {
        /// Its number in the slot.
        to: u32,
        /// What.
        message: PeerMessage,
    },
    /// Write to a rank's PMI socket.
    Pmi {
        /// Which.
        rank: u32,
        /// What.
        bytes: Vec<u8>,
    },
    /// Close a rank's PMI socket.
    ClosePmi {
        /// Which.
        rank: u32,
    },
    /// Say this to the PMIx helper.
    Pmix(ToPmix),
    /// A rank asks for further processes.
    Spawn {
        /// Which.
        rank: u32,
        /// By this number.
        ask: Asked,
        /// What.
        request: Box<SpawnRequest>,
    },
    /// Words for people belong into a rank's output.
    Words {
        /// Whose.
        rank: u32,
        /// Into standard error.
        error: bool,
        /// The words.
        text: String,
    },
    /// End the step here.
    End {
        /// Why.
        failure: StepFailure,
        /// It happened on this node.
        ours: bool,
    },
}

/// Whose question is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// Of a rank, over PMI.
    Pmi(u64),
    /// Of the PMIx helper.
    Pmix(u64),
}
