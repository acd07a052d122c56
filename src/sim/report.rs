//! What is said of a replay.

use super::replay::Replay;
use super::swf::Trace;
use std::fmt::Write;

/// Run times below this count as this in a slowdown; seconds (Feitelson et al., JSSPP 1997).
pub(super) const BOUND_S: i64 = 10;

/// Figures of a replay. Means are over jobs, each counting as much as any other.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Jobs.
    pub jobs: usize,
    /// From submission to start; seconds.
    pub wait: Spread,
    /// (wait + run) / run, of runs below 10 s (wait + run) / 10, and at least 1.
    pub slowdown: Spread,
    /// Processor seconds used, of those there were until the last end.
    pub utilisation: f64,
    /// From the first submission to the last end; seconds.
    pub makespan: i64,
    /// FNV-1a, 64 bits, over a line `ID START` for each job.
    pub fingerprint: u64,
}

/// How something is spread over jobs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// Mean.
    pub mean: f64,
    /// That of the job in the middle.
    pub median: f64,
    /// Above that of 95 in a hundred.
    pub p95: f64,
    /// Most.
    pub max: f64,
}

impl Report {
    /// Of this replay of this trace.
    #[must_use]
    pub fn of(trace: &Trace, replay: &Replay) -> Self {
        let pairs = || trace.jobs.iter().zip(&replay.starts);
        let waits: Vec<i64> = pairs().map(|(job, start)| start - job.submit).collect();
        let total: i128 = waits.iter().map(|wait| i128::from(*wait)).sum();
        let slowdowns: Vec<f64> = trace
            .jobs
            .iter()
            .zip(&waits)
            .map(|(job, wait)| (float(wait + job.run) / float(job.run.max(BOUND_S))).max(1.0))
            .collect();
        let slowed: f64 = slowdowns.iter().sum();
        let count = float(i64::try_from(trace.jobs.len()).unwrap_or(i64::MAX));
        let used: i128 = trace
            .jobs
            .iter()
            .map(|job| i128::from(job.run) * i128::from(job.processors))
            .sum();
        let first = trace.jobs.first().map_or(0, |job| job.submit);
        let last = pairs().map(|(job, start)| start + job.run).max();
        let makespan = last.map_or(0, |last| last - first);
        Report {
            jobs: trace.jobs.len(),
            wait: spread(waits.iter().map(|wait| float(*wait)).collect(), {
                #[expect(clippy::cast_precision_loss, reason = "a mean is a float")]
                let total = total as f64;
                total / count
            }),
            slowdown: spread(slowdowns, slowed / count),
            utilisation: {
                #[expect(clippy::cast_precision_loss, reason = "a share is a float")]
                let used = used as f64;
                used / (float(makespan) * f64::from(trace.processors))
            },
            makespan,
            fingerprint: fingerprint(pairs().map(|(job, start)| (job.id, *start))),
        }
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: String| {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{name:<28}{value}");
        };
        line("jobs", self.jobs.to_string());
        line("wait, mean (s)", format!("{:.3}", self.wait.mean));
        line("wait, median (s)", format!("{:.0}", self.wait.median));
        line("wait, 95 % below (s)", format!("{:.0}", self.wait.p95));
        line("wait, most (s)", format!("{:.0}", self.wait.max));
        line("slowdown, mean", format!("{:.6}", self.slowdown.mean));
        line("slowdown, 95 % below", format!("{:.1}", self.slowdown.p95));
        line("slowdown, most", format!("{:.1}", self.slowdown.max));
        line("utilisation", format!("{:.6}", self.utilisation));
        line("makespan (s)", self.makespan.to_string());
        line("fingerprint", format!("{:016x}", self.fingerprint));
        text
    }
}

#[expect(clippy::cast_precision_loss, reason = "seconds are far below 2^53")]
pub(super) fn float(value: i64) -> f64 {
    value as f64
}

pub(super) fn spread(mut values: Vec<f64>, mean: f64) -> Spread {
    values.sort_unstable_by(f64::total_cmp);
    let at = |place: usize| values.get(place).copied().unwrap_or(0.0);
    let count = values.len();
    Spread {
        mean,
        median: at(count / 2),
        p95: at(count * 95 / 100),
        max: at(count.saturating_sub(1)),
    }
}

/// By which two schedules are told apart.
fn fingerprint(starts: impl Iterator<Item = (i64, i64)>) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut line = String::new();
    for (id, start) in starts {
        line.clear();
        let _ = writeln!(line, "{id} {start}");
        for byte in line.bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::{Rule, replay};

    #[test]
    fn figures_of_a_small_trace_are_those_of_a_hand() {
        // Two processors. The second waits for the first; the third fits beside the first under EASY.
        let text = "1 0 -1 100 1 -1 -1 1 100\n2 10 -1 50 2 -1 -1 2 50\n3 20 -1 5 1 -1 -1 1 60\n";
        let trace = Trace::parse(text, Some(2)).unwrap();
        let report = |rule| Report::of(&trace, &replay(&trace, rule));
        let strict = report(Rule::Fcfs);
        assert_eq!(strict.wait.max, 130.0);
        assert_eq!(strict.makespan, 155);
        let easy = report(Rule::Easy);
        assert_eq!((easy.wait.mean, easy.wait.max), (30.0, 90.0));
        assert_eq!(easy.slowdown.mean, (1.0 + 140.0 / 50.0 + 1.0) / 3.0);
        assert_eq!(easy.makespan, 150);
        assert_eq!(easy.utilisation, 205.0 / 300.0);
        assert_ne!(easy.fingerprint, strict.fingerprint);
    }
}
