//! A quality of service: limits and standing that a job chooses beside its partition.

use super::limits::Limits;
use super::partition::PreemptMode;

/// A QOS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Qos {
    /// Its name.
    pub name: String,
    /// What it adds to the priority of its jobs, beside the largest of all QOS.
    pub priority: u32,
    /// Limits of its jobs.
    pub limits: Limits,
    /// QOS whose jobs may have to make room for its own.
    pub preempts: Vec<String>,
    /// What becomes of its jobs when they have to make room.
    pub preempt_mode: PreemptMode,
    /// Between the warning and the end of a job that has to make room; seconds.
    pub grace_s: u32,
    /// A job is left alone for so long after its start; seconds.
    pub exempt_s: u32,
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
            preempt_mode: PreemptMode::Off,
            grace_s: 0,
            exempt_s: 0,
            usage_factor_milli: 1000,
        }
    }
}
