//! A named set of nodes with a time limit, and what else holds for jobs there.

use super::limits::Limits;
use super::preempt::{PreemptMode, Yielding};

/// A partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Its name.
    pub name: String,
    /// Used when a job names none.
    pub default: bool,
    /// Longest run time; seconds.
    pub max_time_s: Option<u32>,
    /// The limit of a job that names none; seconds; `None` = the longest.
    pub default_time_s: Option<u32>,
    /// Names of its nodes; none = all there are.
    pub nodes: Vec<String>,
    /// Whether jobs of it start.
    pub up: bool,
    /// What it adds to the priority of its jobs, beside the largest of all partitions.
    pub priority: u32,
    /// Jobs of a higher tier go before all of a lower one, and may take their places.
    pub tier: u32,
    /// How its jobs make room for those of a higher tier.
    pub yields: Yielding,
    /// Accounts that may use it; none = all.
    pub accounts: Vec<String>,
    /// QOS that may be used in it; none = all.
    pub qos: Vec<String>,
    /// Limits of jobs in it.
    pub limits: Limits,
}

impl Partition {
    /// One over all nodes without any limit.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Partition {
            name: name.to_owned(),
            default: false,
            max_time_s: None,
            default_time_s: None,
            nodes: Vec::new(),
            up: true,
            priority: 0,
            tier: 1,
            yields: Yielding::at_once(PreemptMode::Off),
            accounts: Vec::new(),
            qos: Vec::new(),
            limits: Limits::default(),
        }
    }

    /// The two that exist from the start: `batch` (24 h) and `interactive` (7 days), over all nodes.
    #[must_use]
    pub fn initial() -> Vec<Partition> {
        let limited = |name, days: u32| Partition {
            max_time_s: Some(days * 86_400),
            ..Partition::named(name)
        };
        vec![
            Partition {
                default: true,
                ..limited("batch", 1)
            },
            limited("interactive", 7),
        ]
    }

    /// Whether this node is one of its.
    #[must_use]
    pub fn has_node(&self, name: &str) -> bool {
        self.nodes.is_empty() || self.nodes.iter().any(|known| known == name)
    }

    /// The limit of a job that names none; seconds.
    #[must_use]
    pub fn time_unasked_s(&self) -> Option<u32> {
        self.default_time_s.or(self.max_time_s)
    }
}
