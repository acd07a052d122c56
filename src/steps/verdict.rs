//! What ends a step, of all that goes wrong in it.
//!
//! Of what went wrong on several nodes the first counts: ranks that lose a peer fail in their own ways, and what became of
//! it is mostly on its way to us then. So a step goes on for a moment in which to hear of it.

use crate::model::time::Timestamp;
use crate::wire::peer::StepFailure;

/// How long a step over several nodes goes on once one of them has failed, to hear of what may have been first.
const DECIDE_MS: u64 = 500;

/// What went wrong first, as far as is known.
#[derive(Debug)]
struct Failing {
    failure: StepFailure,
    /// It happened on this node.
    ours: bool,
    /// When that is settled, and whether it is.
    decide_at: u64,
    decided: bool,
}

/// What a node holds to be the cause of a step's end; nothing as long as all goes well.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    known: Option<Failing>,
}

impl Verdict {
    /// Whether anything went wrong.
    pub(super) fn is_some(&self) -> bool {
        self.known.is_some()
    }

    /// Whether something went wrong, and it is still to be settled what was first.
    pub(super) fn is_open(&self) -> bool {
        self.known.as_ref().is_some_and(|known| !known.decided)
    }

    /// When [`Verdict::decide`] is due.
    pub(super) fn deadline(&self) -> Option<u64> {
        let open = self.known.as_ref().filter(|known| !known.decided);
        open.map(|known| known.decide_at)
    }

    /// Something went wrong, here or elsewhere; where a node is `alone` nobody else can tell of more.
    pub(super) fn hear(&mut self, now: u64, failure: StepFailure, ours: bool, alone: bool) {
        // What is said for a node that cannot speak is nobody's own, and somebody must tell it.
        let ours = ours || failure.at == Timestamp(0);
        match &mut self.known {
            Some(known) => {
                if !known.decided && weight(&failure) < weight(&known.failure) {
                    (known.failure, known.ours) = (failure, ours);
                }
            }
            None => {
                self.known = Some(Failing {
                    failure,
                    ours,
                    decided: false,
                    decide_at: now + if alone { 0 } else { DECIDE_MS },
                });
            }
        }
    }

    /// What it is, once, when it is time: the failure, and whether it happened here.
    pub(super) fn decide(&mut self, now: u64) -> Option<(StepFailure, bool)> {
        let known = self.known.as_mut();
        let known = known.filter(|known| !known.decided && known.decide_at <= now)?;
        known.decided = true;
        Some((known.failure.clone(), known.ours))
    }
}

/// Of several failures the least counts. A crash is nobody's answer to what happens elsewhere, and clocks of nodes agree to
/// some milliseconds only; beyond that the first.
fn weight(failure: &StepFailure) -> (bool, Timestamp) {
    const CRASHES: [u8; 5] = [4, 7, 8, 9, 11];
    (!CRASHES.contains(&failure.exit.signal), failure.at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::job::ExitStatus;

    fn failure(at: i64, code: u8, signal: u8) -> StepFailure {
        StepFailure {
            exit: ExitStatus { code, signal },
            text: format!("at {at}"),
            at_once: false,
            at: Timestamp(at),
        }
    }

    #[test]
    fn the_first_counts_though_it_is_heard_of_later_and_a_crash_before_all() {
        let mut verdict = Verdict::default();
        verdict.hear(100, failure(50, 1, 0), true, false);
        assert_eq!(verdict.decide(100 + DECIDE_MS - 1), None);
        verdict.hear(101, failure(60, 2, 0), false, false);
        verdict.hear(102, failure(40, 3, 0), false, false);
        let mut crashed = Verdict::default();
        crashed.hear(100, failure(50, 1, 0), true, false);
        crashed.hear(100, failure(55, 0, 11), false, false);
        let due = verdict.deadline().unwrap();
        assert_eq!(due, 100 + DECIDE_MS);
        assert_eq!(verdict.decide(due), Some((failure(40, 3, 0), false)));
        assert_eq!(crashed.decide(due), Some((failure(55, 0, 11), false)));
        // It is said once, and stays.
        verdict.hear(due, failure(10, 4, 0), true, false);
        assert_eq!((verdict.decide(due + 1), verdict.is_open()), (None, false));
        assert!(verdict.is_some() && verdict.deadline().is_none());
    }

    #[test]
    fn who_is_alone_waits_for_nobody() {
        let mut verdict = Verdict::default();
        verdict.hear(7, failure(5, 9, 0), true, true);
        assert_eq!(verdict.decide(7), Some((failure(5, 9, 0), true)));
    }
}
