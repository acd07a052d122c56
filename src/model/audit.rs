//! One line of the audit: who asked for what, when, from where, and whether it was granted.

use super::refusal::Code;
use super::time::Timestamp;
use serde::{Deserialize, Serialize};

/// A call that changed something, or was refused where that is worth knowing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRecord {
    /// When, by the controller's clock.
    pub at: Timestamp,
    /// Who, as the cluster knows them.
    pub who: String,
    /// From where: `local`, an address, or `job 12 on ws1`.
    pub from: String,
    /// What, in the words of the command line.
    pub what: String,
    /// Why not, if it was refused.
    pub refused: Option<Code>,
}

/// Longest text of one field; bytes. More is cut.
pub const TEXT_MAX: usize = 512;
