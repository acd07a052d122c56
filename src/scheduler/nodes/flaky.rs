//! Nodes that fail, and whom they are kept from.
//!
//! A node whose failures of late add up to `c`, each counting half after a week, fails as one does that fails `c ln 2 / week`
//! times in the mean: so many failures are to be expected in the time that a job may run there, a week at most. A job for
//! which that is more than [`RISK_MAX`] on a node, so that it would be lost there in one of ten cases, is kept off it as long
//! as other nodes could hold it were they empty; where they could not, it may be on those that fail up to twice as often as the
//! best that are needed. Where it finds no room on them for more than a tenth of its time, it takes the others
//! (`Planner::find_on_flaky`): so it waits for nothing that does not come. Jobs over several nodes and long ones take nodes that
//! do not fail first where it makes no other difference, and short ones leave those to them. A tenth of a failure counts as
//! none, and a chance of less than two in a hundred.

use super::{Ask, Free, NodePool, Places, Site};
use crate::model::node::FAILURES_HALF_LIFE_S;
use crate::model::time::Timestamp;
use crate::scheduler::pool::Pool;
use std::sync::Arc;

/// The most failures that may be expected in a job's time on a node: 1 - e^-0.10536 = 10 %.
const RISK_MAX: f64 = 0.105_360_5;
/// Fewer failures than that are no reason to prefer another node.
const RISK_LEAST: f64 = 0.02;
/// Of longer times this counts; milliseconds.
const LENGTH_MAX_MS: i64 = 7 * 86_400_000;
/// Jobs of one node that may run for longer keep off nodes that fail; milliseconds.
const SHORT_MS: i64 = 3_600_000;

/// What a job makes of nodes that fail.
#[derive(Debug, Clone)]
pub(super) struct Care {
    /// By place of a node: its failures of late, in tenths.
    failures: Arc<[u32]>,
    /// The same where they matter to this job.
    risky: Arc<[u32]>,
    is_long: bool,
    /// Where it might be but for its chance to be lost.
    kept_from: Option<Places>,
}

impl Care {
    /// For a job over several nodes: those that fail least come first.
    pub(super) fn failures(&self, at: u32) -> u32 {
        self.risky.get(at as usize).copied().unwrap_or(0)
    }

    /// For a job on one node: what comes before how full nodes are, and what comes last.
    pub(super) fn of_one(&self, at: u32) -> (u32, u32) {
        let failures = self.failures.get(at as usize).copied().unwrap_or(0);
        match self.is_long {
            true => (self.failures(at), 0),
            false => (0, u32::MAX - failures),
        }
    }
}

/// How many failures are to be expected in so long a time, after so many of late.
fn risk(failures: f64, length_ms: i64) -> f64 {
    let half_life_ms = f64::from(FAILURES_HALF_LIFE_S) * 1000.0;
    let length_ms = length_ms.clamp(0, LENGTH_MAX_MS);
    failures * std::f64::consts::LN_2 * (length_ms as f64 / half_life_ms)
}

/// The chance to be lost in so long a time on a node that failed so often of late; percent.
#[must_use]
pub fn chance_percent(failures: f64, length_ms: i64) -> u32 {
    let chance = 1.0 - (-risk(failures, length_ms)).exp();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 0 and 100"
    )]
    let percent = (chance * 100.0).round() as u32;
    percent
}

fn tenths(failures: f64) -> u32 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a count is not negative, and one too large is the largest"
    )]
    let tenths = (failures * 10.0) as u32;
    tenths
}

impl NodePool {
    /// Whether any node has failed of late.
    #[must_use]
    pub fn is_flaky(&self, now: Timestamp) -> bool {
        let failed = |site: &Site| tenths(site.failures.at(now, FAILURES_HALF_LIFE_S)) > 0;
        self.ground.has_failed && self.ground.sites.iter().any(failed)
    }

    /// The same for a job that may run for so long, kept off nodes on which it would too likely be lost; `emptied` are the
    /// same nodes with nothing granted.
    #[must_use]
    pub fn kept_off_flaky<'r>(
        &self,
        ask: Ask<'r>,
        emptied: &NodePool,
        length_ms: i64,
        now: Timestamp,
    ) -> Ask<'r> {
        if !self.is_flaky(now) || ask.request.takes_nothing() {
            return ask;
        }
        let sites = self.ground.sites.iter();
        let failures: Vec<f64> = sites
            .map(|site| site.failures.at(now, FAILURES_HALF_LIFE_S))
            .collect();
        let nodes = f64::from(ask.request.nodes_min.max(1));
        let matters = |count: f64| {
            // Of many nodes one is enough to lose the job.
            let is_some = risk(count, length_ms) * nodes >= RISK_LEAST;
            if is_some { tenths(count) } else { 0 }
        };
        let care = Care {
            failures: failures.iter().map(|count| tenths(*count)).collect(),
            risky: failures.iter().map(|count| matters(*count)).collect(),
            is_long: length_ms > SHORT_MS,
            kept_from: None,
        };
        let ask = Ask {
            care: Some(care.clone()),
            ..ask
        };
        let mut most = RISK_MAX;
        loop {
            let places = (0..).take(failures.len());
            let risk_at = |at: u32| risk(failures[at as usize], length_ms);
            let open = Places::of(places.map(|at| ask.open.has(at) && risk_at(at) <= most));
            if open == ask.open {
                return ask;
            }
            let others = ask.open.iter().filter(|at| !open.has(*at));
            let least = others.map(risk_at).min_by(f64::total_cmp);
            let less = Ask {
                open,
                care: Some(Care {
                    kept_from: Some(ask.open.clone()),
                    ..care.clone()
                }),
                ..ask.clone()
            };
            if emptied.fits(&less) {
                return less;
            }
            most = least.map_or(f64::INFINITY, |least| least * 2.0);
        }
    }

    /// Nodes that an ask is kept off, by their number, with what is free there.
    pub fn kept_from(&self, ask: &Ask<'_>) -> impl Iterator<Item = (&Site, Free)> {
        let kept_from = ask.care.as_ref().and_then(|care| care.kept_from.clone());
        let open = ask.open.clone();
        let sites = self.ground.sites.iter().zip(&self.free).zip(0..);
        sites
            .filter(move |(_, at)| {
                let kept_from = kept_from.as_ref();
                kept_from.is_some_and(|all| all.has(*at) && !open.has(*at))
            })
            .map(|((site, free), _)| (site, *free))
    }
}

impl Ask<'_> {
    /// The same without care for nodes that fail, if there are any that it is kept off.
    #[must_use]
    pub fn on_flaky_too(&self) -> Option<Self> {
        let care = self.care.as_ref()?;
        let open = care.kept_from.clone()?;
        Some(Ask {
            open,
            care: Some(Care {
                kept_from: None,
                ..care.clone()
            }),
            ..self.clone()
        })
    }
}

/// How long a job rather waits for nodes that do not fail than start on others: a tenth of its time.
#[must_use]
pub fn patience_ms(length_ms: i64) -> i64 {
    length_ms.clamp(0, LENGTH_MAX_MS) / 10
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: i64 = 3_600_000;

    #[test]
    fn one_failure_keeps_jobs_of_more_than_a_day_away() {
        assert!(risk(1.0, 25 * HOUR_MS) < RISK_MAX);
        assert!(risk(1.0, 26 * HOUR_MS) > RISK_MAX);
        assert!(risk(2.0, 13 * HOUR_MS) > RISK_MAX);
        assert_eq!(chance_percent(1.0, 26 * HOUR_MS), 10);
        assert_eq!(chance_percent(1.0, i64::MAX), 50, "a week at most");
        assert_eq!(chance_percent(0.0, i64::MAX), 0);
    }
}
