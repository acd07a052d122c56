//! Between a shepherd and the process that starts a step for a rank which asked for it (`hpc spawn-step`): one order, one
//! answer. Both are of the same build.

use crate::model::ids::StepId;
use crate::model::spawn::Spawned;
use crate::model::step::Mpi;
use serde::{Deserialize, Serialize};

/// Hidden word of that process.
pub const WORD: &str = "spawn-step";
/// The descriptor at which that process finds its socket.
pub const SPAWNER_FD: i32 = 3;

/// What it is to do; said once, and first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpawnOrder {
    /// How the ranks find each other, as in the step of who asks.
    pub mpi: Mpi,
    /// What was asked for, and by whom.
    pub spawned: Spawned,
}

/// What came of it; its end says how the step ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromSpawner {
    /// The step is on its way to its nodes.
    Started {
        /// Its number.
        step: StepId,
    },
    /// There is none.
    Refused {
        /// Why, in one line.
        text: String,
    },
}
