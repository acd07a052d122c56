//! How well starts are foretold: what jobs that had to wait were told when they came, and when they started.
//!
//! The cluster is asked as `hpc why` asks a live one: by [`explain::start`] over its own outlook, with the experience that the
//! ends so far have given it and nothing of what comes later.

use super::cluster::{Broken, Setup, simulate_watched};
use super::draw::Draw;
use super::outcome::Outcome;
use super::report::{Spread, float, spread};
use super::workload::Workload;
use crate::model::time::Timestamp;
use crate::scheduler::explain::{self, Start};
use std::collections::BTreeMap;
use std::fmt::Write;

/// What one job was told, and what came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// When it was: once it had been submitted and could not start.
    pub at: Timestamp,
    /// The answer; `None` = never, as far as could be seen.
    pub start: Option<Start>,
    /// When it started.
    pub started: Timestamp,
}

/// Runs a workload, and asks for the start of one in `every` of the jobs that cannot start at once, arrays aside. Which they
/// are is left to the seed of the workload.
///
/// # Errors
/// When the cluster breaks a rule of its own.
pub fn foresee(
    setup: Setup,
    workload: &Workload,
    every: u32,
) -> Result<(Outcome, Vec<Told>), Broken> {
    let mut asked: BTreeMap<usize, (Timestamp, Option<Start>)> = BTreeMap::new();
    let outcome = simulate_watched(setup, workload, &mut |moment| {
        for (place, id) in moment.admitted {
            let mut draw = Draw::stream(workload.seed ^ 0xf07e, *place as u64);
            let job = moment.cluster.job(*id);
            let waits = job.is_some_and(|job| !job.pending.is_empty() && job.spec.array.is_none());
            if draw.below(u64::from(every.max(1))) == 0 && waits {
                let (outlook, experience) = (moment.cluster.outlook(), moment.cluster.experience());
                let start = explain::start(&outlook, moment.now, experience, *id);
                asked.insert(*place, (moment.now, start));
            }
        }
    })?;
    let told = outcome.elements.iter().filter_map(|one| {
        let (at, start) = asked.get(&usize::try_from(one.job).ok()?)?;
        Some(Told {
            at: *at,
            start: *start,
            started: one.started,
        })
    });
    let told = told.collect();
    Ok((outcome, told))
}

/// Figures of what was told. Means are over jobs; times in seconds.
#[derive(Debug, Clone, PartialEq)]
pub struct Foresight {
    /// Jobs that asked.
    pub asked: usize,
    /// Those that started within the interval they were told.
    pub inside: usize,
    /// Before it.
    pub before: usize,
    /// After it.
    pub after: usize,
    /// Those that started though they were told no time.
    pub untold: usize,
    /// From the earliest to the latest start that was told.
    pub width: Spread,
    /// How long they really waited.
    pub wait: Spread,
    /// Between the expected and the true start.
    pub error: Spread,
}

impl Foresight {
    /// Of these jobs.
    #[must_use]
    pub fn of(told: &[Told]) -> Self {
        let (mut inside, mut before, mut after, mut untold) = (0, 0, 0, 0);
        let (mut widths, mut waits, mut errors) = (Vec::new(), Vec::new(), Vec::new());
        for one in told {
            waits.push(one.started.minus(one.at));
            let Some(start) = one.start else {
                untold += 1;
                continue;
            };
            if one.started < start.earliest {
                before += 1;
            } else if one.started > start.latest {
                after += 1;
            } else {
                inside += 1;
            }
            widths.push(start.latest.minus(start.earliest));
            errors.push(one.started.minus(start.expected).abs());
        }
        Foresight {
            asked: told.len(),
            inside,
            before,
            after,
            untold,
            width: of_spans(&widths),
            wait: of_spans(&waits),
            error: of_spans(&errors),
        }
    }

    /// The part of the jobs that started within the interval.
    #[must_use]
    pub fn coverage(&self) -> f64 {
        self.part(self.inside)
    }

    fn part(&self, count: usize) -> f64 {
        let float = |count: usize| float(i64::try_from(count).unwrap_or(i64::MAX));
        float(count) / float(self.asked.max(1))
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: String| {
            // Writing to a text cannot fail.
            let _ = writeln!(text, "{name:<28}{value}");
        };
        line("starts foretold", self.asked.to_string());
        line("  as told", format!("{:.3}", self.coverage()));
        line("  sooner", format!("{:.3}", self.part(self.before)));
        line("  later", format!("{:.3}", self.part(self.after)));
        if self.untold > 0 {
            line("  told no time", format!("{:.3}", self.part(self.untold)));
        }
        for (name, spread) in [
            ("their wait", &self.wait),
            ("interval told", &self.width),
            ("off the expected", &self.error),
        ] {
            line(&format!("{name}, mean (s)"), format!("{:.0}", spread.mean));
            line(
                &format!("{name}, median (s)"),
                format!("{:.0}", spread.median),
            );
        }
        text
    }
}

/// Of spans in milliseconds; seconds.
fn of_spans(spans_ms: &[i64]) -> Spread {
    let sum: i64 = spans_ms.iter().fold(0, |sum, ms| sum.saturating_add(*ms));
    let count = i64::try_from(spans_ms.len()).unwrap_or(i64::MAX).max(1);
    let seconds = spans_ms.iter().map(|ms| float(*ms) / 1000.0);
    spread(seconds.collect(), float(sum) / float(count) / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_a_few_answers_are_those_of_a_hand() {
        let at = Timestamp::from_seconds;
        let told = |interval: Option<(i64, i64, i64)>, started| Told {
            at: at(10),
            start: interval.map(|(earliest, expected, latest)| Start {
                earliest: at(earliest),
                expected: at(expected),
                latest: at(latest),
            }),
            started: at(started),
        };
        let figures = Foresight::of(&[
            told(Some((20, 30, 60)), 20),
            told(Some((20, 30, 60)), 60),
            told(Some((20, 30, 60)), 61),
            told(Some((20, 30, 120)), 19),
            told(None, 110),
        ]);
        let counts = (
            figures.inside,
            figures.before,
            figures.after,
            figures.untold,
        );
        assert_eq!(counts, (2, 1, 1, 1));
        assert_eq!(figures.coverage(), 0.4);
        assert_eq!((figures.width.mean, figures.width.max), (55.0, 100.0));
        assert_eq!((figures.wait.mean, figures.error.max), (44.0, 31.0));
        assert!(
            figures
                .text()
                .contains("  as told                   0.400\n")
        );
    }
}
