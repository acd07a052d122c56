//! Jobs that want other nodes than those that are free: under few switches, for a time; off those that fail.
//!
//! How long one has waited counts from when it may start. That is not stored: after a restart of the controller it waits
//! at most once more. Until then it is looked for room under few switches, from then on under any.

use super::nodes::{Ask, NodePool, chance_percent};
use super::pool::Pool;
use super::{Planner, View, length_ms};
use crate::model::ids::JobId;
use crate::model::job::{Job, Reason};
use crate::model::node::FAILURES_HALF_LIFE_S;
use crate::model::switches::SwitchWish;
use crate::model::time::Timestamp;
use std::collections::BTreeMap;

/// Most nodes that are named.
const NAMED_MAX: usize = 5;

/// Who waits for few switches, and since when.
#[derive(Debug, Clone, Default)]
pub(super) struct Patience {
    /// Jobs of the queue, and how long they wait.
    wishes: BTreeMap<JobId, SwitchWish>,
    /// As it was noted. Who leaves the queue and is back at once, as a job does that changes, waits since then.
    since: BTreeMap<JobId, Timestamp>,
}

impl Patience {
    /// A job may start.
    pub(super) fn enter(&mut self, job: &Job) {
        if let Some(wish) = job.spec.request.wishes.switches {
            self.wishes.insert(job.id, wish);
        }
    }

    /// It may not, or has.
    pub(super) fn leave(&mut self, job: &Job) {
        if job.spec.request.wishes.switches.is_some() {
            self.wishes.remove(&job.id);
        }
    }

    /// Notes who waits from now on, and forgets who does not any more.
    pub(super) fn note(&mut self, now: Timestamp) {
        if self.wishes.is_empty() && self.since.is_empty() {
            return;
        }
        self.since.retain(|id, _| self.wishes.contains_key(id));
        for id in self.wishes.keys() {
            self.since.entry(*id).or_insert(now);
        }
    }

    /// When a job takes any switches.
    fn ends(&self, id: JobId) -> Option<Timestamp> {
        let wish = self.wishes.get(&id)?;
        Some(self.since.get(&id)?.plus_ms(wish.wait_ms()))
    }

    /// The next time at which somebody does.
    fn next(&self, now: Timestamp) -> Option<Timestamp> {
        let ends = self.wishes.keys().filter_map(|id| self.ends(*id));
        ends.filter(|at| *at > now).min()
    }

    /// Whether anybody waits so.
    pub(super) fn is_empty(&self) -> bool {
        self.wishes.is_empty()
    }
}

/// Numbers of what groups ask for and for how long, by group, and how many there are, where nodes are flaky: which of
/// them are too flaky for a job goes by its time.
pub(super) fn shapes_by_time(view: &View<'_>, now: Timestamp) -> Option<(Vec<usize>, usize)> {
    if !view.pool.is_flaky(now) {
        return None;
    }
    let mut known: BTreeMap<(u32, Option<u32>), usize> = BTreeMap::new();
    let heads = view.queue.heads().iter();
    let places = heads.map(|head| {
        let next = known.len();
        *known.entry((head.shape, head.limit_s)).or_insert(next)
    });
    let places = places.collect();
    Some((places, known.len()))
}

impl View<'_> {
    /// What a job asks for now, and where it may go.
    #[must_use]
    pub fn ask_of<'j>(&self, job: &'j Job, now: Timestamp) -> Ask<'j> {
        let ask = self.pool.ask(&job.spec.request, self.open_to(job));
        self.as_wanted(ask, job, now)
    }

    /// An ask of a job, by how long it has waited and may run.
    pub(super) fn as_wanted<'r>(&self, ask: Ask<'r>, job: &Job, now: Timestamp) -> Ask<'r> {
        let ask = match self.takes_any_switches(job.id, now) {
            true => ask.under_any_switches(),
            false => ask,
        };
        let length = length_ms(job.spec.time_limit_s);
        self.pool.kept_off_flaky(ask, self.emptied, length, now)
    }

    /// Whether a job that wanted few switches has waited long enough for them.
    pub(super) fn takes_any_switches(&self, id: JobId, now: Timestamp) -> bool {
        let patience = self.queue.patience();
        !patience.is_empty() && patience.ends(id).is_some_and(|ends| ends <= now)
    }

    /// When the next one will have.
    pub(super) fn next_patience(&self, now: Timestamp) -> Option<Timestamp> {
        self.queue.patience().next(now)
    }
}

impl Planner<'_> {
    /// What an ask that found no room waits for, nodes or those that it wants.
    pub(super) fn waits_for_others(&self, ask: &Ask<'_>, job: &Job) -> Reason {
        let free = &self.pass.free;
        let switches = self.waits_for_switches(free, ask, job.id);
        let found = switches.or_else(|| self.waits_for_steady(free, ask, job));
        found.unwrap_or(Reason::Resources)
    }

    /// If there is room on nodes only that have failed too often of late.
    fn waits_for_steady(&self, free: &NodePool, ask: &Ask<'_>, job: &Job) -> Option<Reason> {
        let all = ask.on_flaky_too()?;
        if !free.fits(&all) {
            return None;
        }
        let length = length_ms(job.spec.time_limit_s);
        let named = free.kept_from(ask).filter(|(_, free)| free.cpus > 0);
        let named: Vec<String> = named
            .take(NAMED_MAX)
            .filter_map(|(site, _)| {
                let name = self.view.nodes.get(&site.id)?.name();
                let failures = site.failures().at(self.now, FAILURES_HALF_LIFE_S);
                let percent = chance_percent(failures, length);
                Some(format!("{name} ({percent} %)"))
            })
            .collect();
        let what = "for nodes that fail less: its chance to be lost is too high on";
        Some(Reason::FlakyNodes(format!("{what} {}", named.join(", "))))
    }

    /// What an ask that found no room among these nodes waits for, if it is few switches: under more of them there is room.
    pub(super) fn waits_for_switches(
        &self,
        pool: &NodePool,
        ask: &Ask<'_>,
        id: JobId,
    ) -> Option<Reason> {
        if !ask.is_for_few_switches() || !pool.fits(&ask.clone().under_any_switches()) {
            return None;
        }
        let wish = ask.request.wishes.switches?;
        let ends = self.view.queue.patience().ends(id);
        let until = ends.map_or_else(String::new, |ends| {
            let ends = ends.to_rfc3339(&jiff::tz::TimeZone::UTC);
            format!(" until {ends}, then for any")
        });
        let what = format!("for nodes under at most {}{until}", wish.counted());
        Some(Reason::Switches(what))
    }
}
