//! decide: what is believed of a report, before anything follows from it.
//!
//! A node may say what it likes. What it says is kept, shown in listings and counted with, so texts are cut where they
//! are longer than any of ours, times lie where a time can be, and an end is one. Lists are bounded where they are
//! decoded. A report that is changed here is still taken: nothing that has happened is lost over how it was told.

use crate::model::ids::StepId;
use crate::model::job::{ElementEnd, JobState, Reason};
use crate::model::time::Timestamp;
use crate::wire::worker::{FromSlot, StepEnd};

/// Longest reason; bytes.
const REASON_MAX: usize = 1024;
/// Longest name of a step; bytes.
const NAME_MAX: usize = 256;
/// So much may a node's times be ahead of ours: our clock may have been set back since it was told the time.
const AHEAD_MS: i64 = 7 * 86_400_000;

/// The report as it is believed.
pub(super) fn believed(now: Timestamp, report: FromSlot) -> FromSlot {
    match report {
        FromSlot::Status {
            key,
            queue,
            current,
        } => FromSlot::Status {
            key,
            queue,
            current: current.map(|(position, started)| (position, time(now, started))),
        },
        FromSlot::Started { position, at } => FromSlot::Started {
            position,
            at: time(now, at),
        },
        FromSlot::Ended { report, ends } => FromSlot::Ended {
            report,
            ends: ends.into_iter().map(|end| element(now, end)).collect(),
        },
        FromSlot::Lost {
            positions,
            ends,
            certain,
        } => FromSlot::Lost {
            positions,
            ends: ends.into_iter().map(|end| element(now, end)).collect(),
            certain,
        },
        FromSlot::StepEnded { report, end } => FromSlot::StepEnded {
            report,
            end: step(now, end),
        },
        as_it_is @ (FromSlot::Retracted { .. }
        | FromSlot::StdinTaken { .. }
        | FromSlot::Leased { .. }
        | FromSlot::Peer { .. }) => as_it_is,
    }
}

fn time(now: Timestamp, said: Timestamp) -> Timestamp {
    let latest = now.plus_ms(AHEAD_MS).max(Timestamp(0));
    said.clamp(Timestamp(0), latest)
}

/// Cuts a text to so many bytes, and says how many are missing.
fn cut(text: &mut String, most: usize) {
    if text.len() <= most {
        return;
    }
    let end = (0..=most).rev().find(|at| text.is_char_boundary(*at));
    let end = end.unwrap_or(0);
    let missing = text.len() - end;
    text.truncate(end);
    text.push_str(&format!("... ({missing} bytes more)"));
    text.shrink_to_fit();
}

fn element(now: Timestamp, mut end: ElementEnd) -> ElementEnd {
    end.started = end.started.map(|started| time(now, started));
    end.ended = time(now, end.ended);
    match end.state {
        JobState::Pending | JobState::Running | JobState::Suspended | JobState::Completing => {
            let what = format!("its node says that it ended as {}", end.state);
            end.reason = Reason::SystemFailure(what);
            end.state = JobState::NodeFail;
        }
        _ => match &mut end.reason {
            Reason::JobLaunchFailure(text) | Reason::SystemFailure(text) => cut(text, REASON_MAX),
            _ => {}
        },
    }
    end
}

fn step(now: Timestamp, mut end: StepEnd) -> StepEnd {
    end.started = time(now, end.started);
    end.ended = time(now, end.ended);
    cut(&mut end.name, NAME_MAX);
    if let Some(text) = &mut end.failure {
        cut(text, REASON_MAX);
    }
    end
}

/// Whether a job can have this step, having begun so many: a node cannot fill the history with made-up ones.
pub(super) fn has_step(begun: u32, step: StepId) -> bool {
    step == StepId::BATCH || step.0 < begun
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::job::{ExitStatus, Usage};

    #[test]
    fn what_cannot_be_is_told_as_what_can() {
        let now = Timestamp(1_000_000);
        let end = ElementEnd {
            position: 3,
            state: JobState::Failed,
            reason: Reason::JobLaunchFailure("ä".repeat(1 << 19)),
            exit: ExitStatus { code: 1, signal: 0 },
            cancelled_by: None,
            started: Some(Timestamp(i64::MIN)),
            ended: Timestamp(i64::MAX),
            usage: Usage::default(),
            restarts: 0,
        };
        let odd = ElementEnd {
            state: JobState::Pending,
            ..end.clone()
        };
        let said = FromSlot::Ended {
            report: 1,
            ends: vec![end, odd],
        };
        let FromSlot::Ended { report: 1, ends } = believed(now, said) else {
            panic!()
        };
        let text = ends[0].reason.detail().unwrap();
        assert!(text.len() <= REASON_MAX + 64, "{}", text.len());
        assert!(text.starts_with("ää"));
        assert!(text.ends_with("ä... (1047552 bytes more)"), "{text}");
        assert_eq!(ends[0].started, Some(Timestamp(0)));
        assert_eq!(ends[0].ended, now.plus_ms(AHEAD_MS));
        assert_eq!(ends[1].state, JobState::NodeFail);
        assert_eq!(
            ends[1].reason.detail().as_deref(),
            Some("its node says that it ended as PENDING")
        );
    }
}
