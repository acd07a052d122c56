//! A named set of nodes with a time limit.

use serde::{Deserialize, Serialize};

/// A partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partition {
    /// Its name.
    pub name: String,
    /// Used when a job names none.
    pub default: bool,
    /// Longest run time, and the limit of a job that names none; seconds.
    pub max_time_s: Option<u32>,
}

impl Partition {
    /// The two that exist from the start: `batch` (24 h) and `interactive` (7 days), over all nodes.
    #[must_use]
    pub fn initial() -> Vec<Partition> {
        vec![
            Partition {
                name: "batch".into(),
                default: true,
                max_time_s: Some(86_400),
            },
            Partition {
                name: "interactive".into(),
                default: false,
                max_time_s: Some(7 * 86_400),
            },
        ]
    }
}
