//! A quality of service: limits and standing that a job chooses beside its partition.

use super::limits::Limits;
use super::preempt::{PreemptMode, Yielding};

/// A QOS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Qos {
    /// Its name.
    pub name: String,
    /// What it adds to the priority of its jobs, beside the largest of all QOS.
    pub priority: u32,
    /// Limits of its jobs.
    pub limits: Limits,
    /// QOS whose jobs have to make room for its own.
    pub preempts: Vec<String>,
    /// How its jobs make room for those of a QOS that says so.
    pub yields: Yielding,
    /// How much of what its jobs use counts for fair share; thousandths. 0 = nothing, for what only fills gaps.
    pub usage_factor_milli: u32,
}

impl Qos {
    /// One without limits.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Qos {
            name: name.to_owned(),
            priority: 0,
            limits: Limits::default(),
            preempts: Vec::new(),
            yields: Yielding::at_once(PreemptMode::Requeue),
            usage_factor_milli: 1000,
        }
    }
}
