//! The names of things: newtypes, never bare integers.
//!
//! A *slot* is one allocation of a job. A plain job has one slot and runs its one task set in it; an
//! array has as many slots as fit, and each slot runs elements one after another from the positions it
//! was given. A slot number is never used twice within a job, so (job, slot, position) names one attempt
//! for ever: every message, journal line and fence carries it.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u32);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id!(
    /// A job, counted from 1 and never given out twice. An array takes one number per element: the
    /// array is known by the first, the element at position `p` by `id + p` (its raw id).
    JobId
);
id!(
    /// One allocation of a job; the generation that fences an attempt.
    SlotId
);
id!(
    /// A machine of the cluster, numbered in order of first registration.
    NodeId
);
id!(
    /// A step within a slot: 0, 1, ... for `hpc run`, [`StepId::BATCH`] for the script itself.
    StepId
);

impl StepId {
    /// The step that runs the batch script.
    pub const BATCH: StepId = StepId(u32::MAX - 1);

    /// `batch` or the number, as shown after the dot of `12.batch`.
    #[must_use]
    pub fn label(self) -> String {
        if self == Self::BATCH {
            "batch".to_owned()
        } else {
            self.0.to_string()
        }
    }
}

impl JobId {
    /// The raw id of the element at `position` of this array (`SLURM_JOB_ID` of the element).
    #[must_use]
    pub fn raw(self, position: u32) -> u32 {
        self.0.saturating_add(position)
    }
}

/// The name of one slot anywhere in the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SlotKey {
    /// The job.
    pub job: JobId,
    /// Its slot.
    pub slot: SlotId,
}

impl fmt::Display for SlotKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.job, self.slot)
    }
}

/// The SHA-256 of stored bytes (a script, an environment, an argument vector): equal bytes are stored once.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BlobId(pub [u8; 32]);

impl fmt::Debug for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in &self.0[..6] {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl BlobId {
    /// The name of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest;
        BlobId(sha2::Sha256::digest(bytes).into())
    }
}
