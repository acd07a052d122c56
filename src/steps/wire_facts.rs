//! What the wiring of a step knows from its beginning.

use super::placement::Placement;
use crate::model::ids::StepId;
use crate::model::step::StepOptions;
use crate::model::time::Timestamp;

/// What a [`super::wiring::Wiring`] must know.
#[derive(Debug, Clone)]
pub(super) struct WireFacts {
    /// Which step.
    pub(super) step: StepId,
    /// This node's number in the slot, and its name.
    pub(super) me: u32,
    /// For messages.
    pub(super) node: String,
    /// Where all ranks are.
    pub(super) placement: Placement,
    /// Name of the key space: unique per step and attempt.
    pub(super) kvs_name: String,
    /// Tasks that the allocation has room for.
    pub(super) universe: u32,
    /// Name of the key space of the step whose rank has asked for this one.
    pub(super) spawner: Option<String>,
    /// What was said of the step.
    pub(super) options: StepOptions,
    /// Controller time and our own at the same moment.
    pub(super) epoch: (Timestamp, u64),
}

impl WireFacts {
    /// The number of the program of each rank, where there are several.
    pub(super) fn app_numbers(&self) -> Vec<u32> {
        let ranks = 0..self.placement.size();
        if let Some(programs) = self.options.programs() {
            let number = |rank| programs.number_of(rank).unwrap_or(0);
            return ranks.map(number).collect();
        }
        let Some(spawned) = self.options.spawned() else {
            return Vec::new();
        };
        let number = |rank| spawned.request.command_of(rank).map_or(0, |(one, _)| one);
        ranks.map(number).collect()
    }
}
