//! Names the ranks of a step that end badly while the others go on: whoever waits for many wants to know which it was.
//!
//! Each node speaks of its own ranks. Those that end alike at about the same time share a line. Nothing is said of a step
//! of one task, whose status says it, nor of ranks that were ended with their step or their job.

use super::element::{Phase, Step};
use super::{Effect, SlotCore, TaskId, earliest};
use crate::model::ids::StepId;
use crate::model::index_set::IndexSet;
use crate::model::job::ExitStatus;
use crate::model::signal::signal_name;
use std::collections::BTreeMap;

/// How long a rank that has ended is not spoken of: others may end as it did.
const GATHER_MS: u64 = 200;

/// Ranks of a step on this node that have ended badly and were not named yet.
#[derive(Debug, Default)]
pub(super) struct Fates {
    /// By signal and code.
    unsaid: BTreeMap<(u8, u8), IndexSet>,
    /// When they are named at the latest.
    say_at: Option<u64>,
}

impl Fates {
    fn add(&mut self, now: u64, rank: u32, exit: ExitStatus) {
        let alike = self.unsaid.entry((exit.signal, exit.code)).or_default();
        alike.insert(rank);
        self.say_at.get_or_insert(now.saturating_add(GATHER_MS));
    }

    fn take(&mut self, node: &str) -> Vec<String> {
        self.say_at = None;
        let unsaid = std::mem::take(&mut self.unsaid).into_iter();
        let line = |((signal, code), ranks): ((u8, u8), IndexSet)| {
            format!(
                "hpc run: {} on {node} {}\n",
                in_words(&ranks),
                how(signal, code, ranks.len())
            )
        };
        unsaid.map(line).collect()
    }
}

fn how(signal: u8, code: u8, ranks: u32) -> String {
    let were = if ranks == 1 { "was" } else { "were" };
    match signal {
        0 => format!("exited with {code}"),
        _ => format!(
            "{were} killed by signal {signal} (SIG{})",
            signal_name(i32::from(signal))
        ),
    }
}

/// `rank 3`, `ranks 0-2,5`.
fn in_words(ranks: &IndexSet) -> String {
    let word = if ranks.len() == 1 { "rank" } else { "ranks" };
    format!("{word} {ranks}")
}

impl SlotCore {
    /// A task has ended by itself: if that is worth a word, it is said soon.
    pub(super) fn note_fate(&mut self, now: u64, task: TaskId, exit: ExitStatus) {
        let Some(element) = self.element.as_mut() else {
            return;
        };
        let by_itself = element.phase == Phase::Running;
        let Some(step) = element.step_mut(task.step) else {
            return;
        };
        let one_of_many = step
            .wiring
            .as_ref()
            .is_some_and(|wiring| !wiring.is_alone());
        // What ended the whole step, or kept it from starting, is said by that.
        let explained = step.has_failed() || step.failure.is_some();
        if by_itself && one_of_many && !explained && !exit.is_success() {
            step.fates.add(now, task.rank, exit);
        }
    }

    /// Names the ranks of this step that are to be named.
    pub(super) fn say_fates(&mut self, id: StepId, out: &mut Vec<Effect>) {
        let node = &self.site.node;
        let step = self.element.as_mut().and_then(|e| e.step_mut(id));
        let lines = step.map(|step| step.fates.take(node)).unwrap_or_default();
        out.extend(
            lines
                .into_iter()
                .map(|text| Effect::OwnWords { step: id, text }),
        );
    }

    pub(super) fn fates_deadline(&self) -> Option<u64> {
        let steps = self.element.iter().flat_map(|element| &element.steps);
        steps.fold(None, |at, step: &Step| earliest(at, step.fates.say_at))
    }

    pub(super) fn fates_on_time(&mut self, now: u64, out: &mut Vec<Effect>) {
        let steps = self.element.iter().flat_map(|element| &element.steps);
        let due = steps.filter(|step| step.fates.say_at.is_some_and(|at| at <= now));
        for id in due.map(|step| step.id).collect::<Vec<_>>() {
            self.say_fates(id, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_that_end_alike_share_a_line() {
        let mut fates = Fates::default();
        let exit = |code, signal| ExitStatus { code, signal };
        for rank in [5, 1, 2] {
            fates.add(rank.into(), rank, exit(3, 0));
        }
        fates.add(9, 7, exit(0, 9));
        assert_eq!(fates.say_at, Some(5 + GATHER_MS));
        let lines = [
            "hpc run: ranks 1-2,5 on n1 exited with 3\n",
            "hpc run: rank 7 on n1 was killed by signal 9 (SIGKILL)\n",
        ];
        assert_eq!(fates.take("n1"), lines);
        assert_eq!((fates.say_at, fates.take("n1").len()), (None, 0));
    }
}
