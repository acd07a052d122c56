//! What a job starts first, and the surroundings it starts in.

use super::ids::BlobId;
use super::step::StepOptions;
use serde::{Deserialize, Serialize};

/// What the first process (or processes) of a job are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Launch {
    /// A script, copied at submission, run on the first node with these arguments.
    Script {
        /// The script's bytes.
        script: BlobId,
        /// Arguments, a postcard `Vec<String>`.
        arguments: BlobId,
    },
    /// A command, run once on the first node.
    Command {
        /// Argument vector, a postcard `Vec<String>`.
        arguments: BlobId,
    },
    /// One process per task on all nodes, as step 0, its streams relayed to the client (`hpc run`).
    Tasks {
        /// Argument vector, a postcard `Vec<String>`.
        arguments: BlobId,
    },
    /// Nothing: the allocation is held for a client (`hpc alloc`).
    Hold,
    /// As `Tasks`, with something said about the step. Earlier builds know it not.
    Step {
        /// Argument vector, a postcard `Vec<String>`.
        arguments: BlobId,
        /// What was said.
        options: StepOptions,
    },
}

impl Launch {
    /// The blobs this launch reads.
    #[must_use]
    pub fn blobs(&self) -> Vec<BlobId> {
        match self {
            Launch::Script { script, arguments } => vec![*script, *arguments],
            Launch::Command { arguments }
            | Launch::Tasks { arguments }
            | Launch::Step { arguments, .. } => vec![*arguments],
            Launch::Hold => Vec::new(),
        }
    }

    /// Whether a client must stay connected for the job to go on.
    #[must_use]
    pub fn is_attached(&self) -> bool {
        self.is_step() || matches!(self, Launch::Hold)
    }

    /// Whether it is one process for each task, step 0 of the job.
    #[must_use]
    pub fn is_step(&self) -> bool {
        matches!(self, Launch::Tasks { .. } | Launch::Step { .. })
    }

    /// What was said about the step that it is.
    #[must_use]
    pub fn step_options(&self) -> StepOptions {
        match self {
            Launch::Step { options, .. } => options.clone(),
            Launch::Script { .. }
            | Launch::Command { .. }
            | Launch::Tasks { .. }
            | Launch::Hold => StepOptions::default(),
        }
    }
}

/// How a job's output files are opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum OpenMode {
    /// Anew at the first start, and at their end when the job was put back and starts again.
    #[default]
    Usual,
    /// At their end.
    Append,
    /// Anew at every start.
    Truncate,
}

impl OpenMode {
    /// Whether a job that was put back so often writes at the end of its files.
    #[must_use]
    pub fn appends(self, restarts: u32) -> bool {
        match self {
            OpenMode::Usual => restarts > 0,
            OpenMode::Append => true,
            OpenMode::Truncate => false,
        }
    }
}

/// The surroundings a job's processes start in; stored as a blob because many jobs share one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Surroundings {
    /// Environment, byte for byte as the submitter exported it.
    pub environment: Vec<(Vec<u8>, Vec<u8>)>,
    /// File mode creation mask.
    pub umask: u32,
    /// Soft resource limits to restore: (RLIMIT number, value; `u64::MAX` = unlimited).
    pub limits: Vec<(u32, u64)>,
}
