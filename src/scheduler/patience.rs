//! Jobs that want other nodes than those that are free: under few switches, for a time; off those that fail.
//!
//! How long one has waited counts from when it may start. That is not stored: after a restart of the controller it waits
//! at most once more. Until then it is looked for room under few switches, from then on under any.

use super::bookings::Bookings;
use super::nodes::{Ask, NodePool, Parts, chance_percent, patience_ms};
use super::pool::Pool;
use super::queue::{self, Group};
use super::{Planner, View, length_ms};
use crate::model::ids::JobId;
use crate::model::job::{Job, Reason};
use crate::model::node::FAILURES_HALF_LIFE_S;
use crate::model::switches::SwitchWish;
use crate::model::time::Timestamp;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Most nodes that are named.
const NAMED_MAX: usize = 5;

/// Who waits for few switches, and since when.
#[derive(Debug, Clone, Default)]
pub(super) struct Patience {
    /// Jobs of the queue, how long they wait, and in which reservation they are to run.
    wishes: BTreeMap<JobId, (SwitchWish, Option<Arc<str>>)>,
    /// As it was noted. Who leaves the queue and is back at once, as a job does that changes, waits since then.
    since: BTreeMap<JobId, Timestamp>,
}

impl Patience {
    /// A job may start.
    pub(super) fn enter(&mut self, job: &Job) {
        if let Some(wish) = job.spec.request.wishes.switches {
            let reservation = job.spec.request.wishes.reservation.as_deref();
            self.wishes
                .insert(job.id, (wish, reservation.map(Arc::from)));
        }
    }

    /// It may not, or has.
    pub(super) fn leave(&mut self, job: &Job) {
        if job.spec.request.wishes.switches.is_some() {
            self.wishes.remove(&job.id);
        }
    }

    /// Notes who waits from now on, and forgets who does not any more.
    pub(super) fn note(&mut self, now: Timestamp, bookings: &Bookings) {
        if self.wishes.is_empty() && self.since.is_empty() {
            return;
        }
        self.since.retain(|id, _| self.wishes.contains_key(id));
        for (id, (_, reservation)) in &self.wishes {
            // Before its reservation it waits for that.
            let name = reservation.as_deref();
            if name.is_none_or(|name| bookings.find_on(name, now).is_some()) {
                self.since.entry(*id).or_insert(now);
            }
        }
    }

    /// The clock was set.
    pub(super) fn clock_stepped(&mut self, by_ms: i64) {
        for since in self.since.values_mut() {
            *since = since.plus_ms(by_ms);
        }
    }

    /// When a job takes any switches.
    fn ends(&self, id: JobId) -> Option<Timestamp> {
        let (wish, _) = self.wishes.get(&id)?;
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

impl<'a> Planner<'a> {
    /// Room now on nodes that fail too, for one that finds none on others for long. One that rather waits for those says so:
    /// others that ask for the same may not.
    pub(super) fn find_on_flaky(&mut self, ask: &Ask<'a>, length: i64) -> Option<Parts> {
        let wide = ask.on_flaky_too()?;
        // Those who wait before it have their places.
        self.keep_places();
        let found = self.pass.find(&wide, length)?;
        let before = self.pass.clone();
        let shadow = self.reserve(Ok(ask), length);
        self.pass = before;
        let soon = shadow.is_some_and(|shadow| shadow <= self.patient_until(length));
        self.rather_waits = soon;
        (!soon).then_some(found)
    }

    /// Keeps a place on nodes that do not fail, or, where there is none for long, where there is one sooner.
    pub(super) fn reserve_off_flaky(&mut self, ask: &Ask<'a>, length: i64) -> Option<i64> {
        let Some(wide) = ask.on_flaky_too() else {
            return self.reserve(Ok(ask), length);
        };
        let before = self.pass.clone();
        let steady = self.reserve(Ok(ask), length);
        if steady.is_some_and(|shadow| shadow <= self.patient_until(length)) {
            return steady;
        }
        let kept = std::mem::replace(&mut self.pass, before);
        let sooner = self.reserve(Ok(&wide), length);
        match (steady, sooner) {
            (Some(steady), Some(sooner)) if steady <= sooner => {
                self.pass = kept;
                Some(steady)
            }
            _ => sooner,
        }
    }

    fn patient_until(&self, length: i64) -> i64 {
        self.now.0.saturating_add(patience_ms(length))
    }

    /// Whether there is room for this now where it would rather not be. Nobody else has to go for that.
    pub(super) fn fits_elsewhere(&self, ask: &Ask<'_>, length: i64) -> bool {
        let fits = |ask: &Ask<'_>| self.pass.find(ask, length).is_some();
        ask.on_flaky_too().is_some_and(|wide| fits(&wide))
            || (ask.is_for_few_switches() && fits(&ask.clone().under_any_switches()))
    }

    /// The first of a group may wait for few switches while others of it have done so for long enough.
    pub(super) fn next_patient(
        &mut self,
        at: usize,
        group: &'a Group,
        (submitted, id): (Timestamp, JobId),
    ) {
        if group.key.request.wishes.switches.is_none() || self.view.takes_any_switches(id, self.now)
        {
            return;
        }
        let behind = |one: &queue::Member| (one.submitted, one.id) > (submitted, id);
        let patient = |one: &queue::Member| self.view.takes_any_switches(one.id, self.now);
        let next = group.jobs().find(|one| behind(one) && patient(one));
        if let Some(next) = next {
            let rank = &self.ranks[self.class_of(at)];
            let order = self.ranker.key(rank, &group.key, &next);
            self.push(Reverse((0, order, at)));
        }
    }
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
