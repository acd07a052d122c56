//! A quality of service: limits and standing that a job chooses beside its partition.

use super::limits::Limits;

/// A QOS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Qos {
    /// Its name.
    pub name: String,
    /// What it adds to the priority of its jobs, beside the largest of all QOS.
    pub priority: u32,
    /// Limits of its jobs.
    pub limits: Limits,
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
            usage_factor_milli: 1000,
        }
    }
}
