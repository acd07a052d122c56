//! What is said of a simulated cluster, in numbers.

use super::outcome::{Outcome, Refused};
use super::report::{BOUND_S, Spread, float, spread};
use super::workload::Workload;
use crate::model::job::JobState;
use crate::model::refusal::Code;
use std::collections::BTreeMap;
use std::fmt::Write;

/// Figures of an outcome. Each element of an array counts as much as a job.
#[derive(Debug, Clone, PartialEq)]
pub struct Figures {
    /// Jobs that were submitted, refused ones too.
    pub jobs: usize,
    /// Elements that ran; a plain job is one.
    pub elements: usize,
    /// From submission to the last start; seconds.
    pub wait: Spread,
    /// (wait + run) / run, of runs below 10 s (wait + run) / 10, and at least 1.
    pub slowdown: Spread,
    /// Cpu seconds that were held, of those there were from the first submission to the last end.
    pub cpus: f64,
    /// GPU seconds, the same; `None` = there are none.
    pub gpus: Option<f64>,
    /// From the first submission to the last end; seconds.
    pub makespan_s: f64,
    /// How elements ended.
    pub states: BTreeMap<JobState, u64>,
    /// Elements that ended without having run.
    pub never_ran: u64,
    /// Elements that could not start to the end.
    pub left: u64,
    /// Submissions that were refused, by code and word.
    pub refused: BTreeMap<(Code, String), Refused>,
    /// Failures of nodes.
    pub failures: u64,
    /// How often something ran again.
    pub restarts: u64,
    /// What nodes had run when they failed; seconds of elements.
    pub lost_s: f64,
    /// Who had how much, the most first.
    pub users: Vec<UserFigures>,
    /// [`Outcome::fingerprint`].
    pub fingerprint: u64,
}

/// What one user had.
#[derive(Debug, Clone, PartialEq)]
pub struct UserFigures {
    /// The name.
    pub name: String,
    /// Elements that ran.
    pub elements: u64,
    /// Mean wait; seconds.
    pub wait_mean_s: f64,
    /// Cpus times the time they were held; seconds.
    pub cpu_s: f64,
    /// GPUs, the same.
    pub gpu_s: f64,
    /// Of the cpu seconds of all.
    pub share: f64,
}

/// Sums of one user.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    elements: u64,
    wait_ms: i128,
    cpu_ms: i128,
    gpu_ms: i128,
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a figure for people is a float, and 2^53 ms are long"
)]
fn seconds(ms: i128) -> f64 {
    ms as f64 / 1000.0
}

fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

impl Figures {
    /// Of this outcome of this workload.
    #[must_use]
    pub fn of(workload: &Workload, outcome: &Outcome) -> Self {
        let elements = &outcome.elements;
        let mut sums = vec![Sums::default(); workload.owners.len()];
        let mut states: BTreeMap<JobState, u64> = BTreeMap::new();
        let (mut waits, mut slowdowns) = (Vec::new(), Vec::new());
        for one in elements {
            *states.entry(one.state).or_default() += 1;
            let (wait_ms, run_ms) = (one.wait_ms(), one.run_ms());
            waits.push(float(wait_ms) / 1000.0);
            let bounded = float(run_ms.max(BOUND_S * 1000));
            slowdowns.push((float(wait_ms.saturating_add(run_ms)) / bounded).max(1.0));
            let job = usize::try_from(one.job).unwrap_or(usize::MAX);
            let owner = workload.jobs.get(job).map(|job| job.owner);
            let owner = owner.and_then(|at| usize::try_from(at).ok());
            if let Some(sum) = owner.and_then(|at| sums.get_mut(at)) {
                sum.elements += 1;
                sum.wait_ms += i128::from(wait_ms);
                sum.cpu_ms += i128::from(run_ms) * i128::from(one.cpus);
                sum.gpu_ms += i128::from(run_ms) * i128::from(one.gpus);
            }
        }
        let count = float(i64::try_from(elements.len()).unwrap_or(i64::MAX));
        let all: i128 = sums.iter().map(|sum| sum.wait_ms).sum();
        let slowed: f64 = slowdowns.iter().sum();
        let first = workload.jobs.first().map_or(0, |job| job.at.0);
        let last = elements.iter().map(|one| one.ended.0).max();
        let makespan_ms = last.map_or(0, |last| last - first);
        let held = outcome.curve.total();
        let part = |area: u128, count: u64| {
            let there = i128::from(makespan_ms) * i128::from(count);
            let area = i128::try_from(area).unwrap_or(i128::MAX);
            ratio(seconds(area), seconds(there))
        };
        Figures {
            jobs: workload.jobs.len(),
            elements: elements.len(),
            wait: spread(waits, ratio(seconds(all), count)),
            slowdown: spread(slowdowns, ratio(slowed, count)),
            cpus: part(held.cpus, outcome.cpus),
            gpus: (outcome.gpus > 0).then(|| part(held.gpus, outcome.gpus)),
            makespan_s: float(makespan_ms) / 1000.0,
            states,
            never_ran: outcome.never_ran,
            left: outcome.left,
            refused: outcome.refused.clone(),
            failures: outcome.failures,
            restarts: outcome.restarts,
            lost_s: float(outcome.lost_ms) / 1000.0,
            users: users(workload, &sums),
            fingerprint: outcome.fingerprint(),
        }
    }

    /// For people, without the users.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: String| {
            // Writing to a text cannot fail.
            let _ = writeln!(text, "{name:<28}{value}");
        };
        line("jobs", self.jobs.to_string());
        line("elements that ran", self.elements.to_string());
        for (state, count) in &self.states {
            line(&format!("  {state}"), count.to_string());
        }
        let others = [
            ("ended without a start", self.never_ran),
            ("never started", self.left),
        ];
        for (name, count) in others.into_iter().filter(|(_, count)| *count > 0) {
            line(name, count.to_string());
        }
        for ((code, word), refused) in &self.refused {
            let word = if word.is_empty() {
                &refused.first
            } else {
                word
            };
            line("refused", format!("{} {word} [{code}]", refused.count));
        }
        if self.failures > 0 {
            line("failures of nodes", self.failures.to_string());
            line("  started again", self.restarts.to_string());
            line("  lost (h)", format!("{:.1}", self.lost_s / 3600.0));
        }
        line("wait, mean (s)", format!("{:.3}", self.wait.mean));
        line("wait, median (s)", format!("{:.0}", self.wait.median));
        line("wait, 95 % below (s)", format!("{:.0}", self.wait.p95));
        line("wait, most (s)", format!("{:.0}", self.wait.max));
        line("slowdown, mean", format!("{:.6}", self.slowdown.mean));
        line("slowdown, 95 % below", format!("{:.1}", self.slowdown.p95));
        line("slowdown, most", format!("{:.1}", self.slowdown.max));
        line("utilisation of cpus", format!("{:.6}", self.cpus));
        if let Some(gpus) = self.gpus {
            line("utilisation of GPUs", format!("{gpus:.6}"));
        }
        line("makespan (s)", format!("{:.0}", self.makespan_s));
        line("fingerprint", format!("{:016x}", self.fingerprint));
        text
    }
}

fn users(workload: &Workload, sums: &[Sums]) -> Vec<UserFigures> {
    let all: i128 = sums.iter().map(|sum| sum.cpu_ms).sum();
    let mut known: Vec<(&Sums, &str)> = workload
        .owners
        .iter()
        .zip(sums)
        .filter(|(_, sum)| sum.elements > 0)
        .map(|(owner, sum)| (sum, &*owner.name))
        .collect();
    known.sort_by_key(|(sum, name)| (-sum.cpu_ms, *name));
    let figures = known.into_iter().map(|(sum, name)| UserFigures {
        name: name.to_owned(),
        elements: sum.elements,
        wait_mean_s: ratio(
            seconds(sum.wait_ms),
            seconds(i128::from(sum.elements) * 1000),
        ),
        cpu_s: seconds(sum.cpu_ms),
        gpu_s: seconds(sum.gpu_ms),
        share: ratio(seconds(sum.cpu_ms), seconds(all)),
    });
    figures.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::cluster::Setup;
    use crate::sim::{cluster_file, jobs_file, simulate};

    #[test]
    fn figures_of_a_small_cluster_are_those_of_a_hand() {
        let cluster = "[[node]]\nname = \"n1\"\ncpus = 4\nmemory = \"4G\"\ngpus = 2\n";
        let jobs = "[[job]]\nuser = \"ann\"\nrun = \"100s\"\nlimit = \"1h\"\ncpus = 3\ngpus = 1\n\
            [[job]]\nuser = \"bob\"\nat = \"20s\"\nrun = \"5s\"\nlimit = \"1h\"\ncpus = 2\n\
            [[job]]\nuser = \"bob\"\nat = \"30s\"\nrun = \"5s\"\nlimit = \"1h\"\ncpus = 8\n";
        let read = cluster_file::parse(cluster).unwrap();
        let setup = Setup {
            nodes: read.nodes,
            ..Setup::default()
        };
        let workload = jobs_file::parse(jobs, 1).unwrap();
        let outcome = simulate(setup, &workload).unwrap();
        let figures = Figures::of(&workload, &outcome);
        assert_eq!((figures.jobs, figures.elements), (3, 2));
        assert_eq!((figures.wait.mean, figures.wait.max), (40.0, 80.0));
        assert_eq!(figures.slowdown.max, 8.5, "a run of 5 s counts as 10");
        assert_eq!(figures.makespan_s, 105.0);
        assert_eq!(figures.cpus, 310.0 / 420.0);
        assert_eq!(figures.gpus, Some(100.0 / 210.0));
        let users: Vec<_> = figures
            .users
            .iter()
            .map(|user| (user.name.as_str(), user.cpu_s, user.wait_mean_s))
            .collect();
        assert_eq!(users, [("ann", 300.0, 0.0), ("bob", 10.0, 80.0)]);
        let text = figures.text();
        assert!(text.contains("refused                     1 "), "{text}");
        assert!(text.contains("\n  COMPLETED                 2\n"), "{text}");
    }
}
