//! Who makes room for whom.
//!
//! A job of a higher tier, or of a QOS that says so, may take the places of others where it finds no room. Those of the
//! lowest tier and priority go first, of equal ones the youngest; whoever turns out not to be needed stays. The place is
//! kept for the job until they have gone, and what leaves already is counted on before anybody else has to.
//!
//! A lower tier never takes from a higher one, and no QOS preempts itself through others ([`Rules::change`] refuses
//! that): so nobody can be evicted by whom they evicted.

use super::backfill::Pass;
use super::bookings::crowded;
use super::nodes::{Ask, NodePool, Parts, serving};
use super::occupancy::Sharing;
use super::order::OrderKey;
use super::plan::{Entry, Promise};
use super::pool::Pool;
use super::queue::{Class, Group, GroupKey, Member};
use super::{Planner, View, lend, occupancy};
use crate::model::ids::{JobId, NodeId, SlotKey};
use crate::model::job::{Job, Reason};
use crate::model::node::Link;
use crate::model::preempt::{PreemptMode, Yielding};
use crate::model::rules::Rules;
use crate::model::time::Timestamp;
use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Most elements for which a pass looks for places to take.
pub(super) const TRIES_MAX: usize = 64;

/// How a job of `holder` makes room for one of `taker`; `None` = it does not.
#[must_use]
pub fn yields(rules: &Rules, taker: &Class, holder: &Class) -> Option<Yielding> {
    let partition = |class: &Class| rules.partitions.get(class.partition.as_str());
    let tier = |class: &Class| partition(class).map_or(1, |one| one.tier);
    if tier(taker) < tier(holder) {
        return None;
    }
    let on = |yields: &Yielding| yields.mode != PreemptMode::Off;
    let qos = rules.qos.get(taker.qos.as_str());
    let named = qos.is_some_and(|qos| qos.preempts.iter().any(|name| **name == *holder.qos));
    let by_qos = rules.qos.get(holder.qos.as_str()).map(|one| one.yields);
    let by_tier = partition(holder).map(|one| one.yields);
    let by_qos = by_qos.filter(|yields| named && on(yields));
    by_qos.or_else(|| by_tier.filter(|yields| tier(taker) > tier(holder) && on(yields)))
}

/// Whether jobs of this class may take the place of any others.
#[must_use]
pub fn takes(rules: &Rules, class: &Class) -> bool {
    let qos = rules.qos.get(class.qos.as_str());
    let tier = rules.partitions.get(class.partition.as_str());
    let tier = tier.map_or(1, |one| one.tier);
    let mut partitions = rules.partitions.values();
    qos.is_some_and(|qos| !qos.preempts.is_empty())
        || partitions.any(|one| one.tier < tier && one.yields.mode != PreemptMode::Off)
}

/// Whether something that ends then stays into a reservation, on a node where that lacks room.
fn stays_into(crowded: &[(NodeId, Timestamp)], parts: &Parts, ends: Timestamp) -> bool {
    let mut crowded = crowded.iter();
    crowded.any(|(node, from)| ends > *from && parts.iter().any(|part| part.node == *node))
}

/// Something that runs, as somebody who may have to make room.
pub(super) struct Holder<'a> {
    pub(super) key: SlotKey,
    pub(super) class: Class,
    /// Whether it would run again.
    requeue: bool,
    pub(super) since: Timestamp,
    pub(super) ends: Timestamp,
    /// What would be free without it.
    parts: Cow<'a, Parts>,
}

/// What of evictions a pass has to remember.
#[derive(Default)]
pub(super) struct Evictions<'a> {
    /// By class: whether its jobs may take places.
    takes: Vec<bool>,
    /// Nodes on which what leaves leaves room for a reservation only, and from when on.
    crowded: Vec<(NodeId, Timestamp)>,
    /// Whom to ask first; drawn up once somebody is to be asked.
    pub(super) holders: Option<Vec<Holder<'a>>>,
    /// Who was told to go, and when they have.
    pub(super) told: BTreeMap<SlotKey, i64>,
    /// Who stands still in this pass, and what it could still lend.
    pub(super) stopped: BTreeMap<SlotKey, Sharing>,
    /// By class: who stands still for it, as places among the holders, and for how long after its start it does not.
    pub(super) lenders: BTreeMap<usize, Vec<(usize, u32)>>,
    /// How often nobody could lend what was needed.
    pub(super) lend_tries: usize,
    /// Whether anybody stands still for others.
    pub(super) stands_still: bool,
    /// What those who made room are to leave, as it was promised.
    promised: Vec<Parts>,
    /// Elements that this pass started, or keeps a place, because room was made for them.
    served: BTreeMap<JobId, u32>,
    tries: usize,
}

impl Evictions<'_> {
    /// How many elements of this job had their turn before all others.
    pub(super) fn served(&self, id: JobId) -> u32 {
        self.served.get(&id).copied().unwrap_or(0)
    }

    pub(super) fn new(takes: Vec<bool>, view: &View<'_>, now: Timestamp) -> Self {
        let any = takes.contains(&true);
        Evictions {
            stands_still: any && lend::any_stands_still(view.rules),
            takes,
            crowded: if any { crowded(view, now) } else { Vec::new() },
            ..Evictions::default()
        }
    }

    /// Whether jobs of the class with this number may take places.
    pub(super) fn may_take(&self, class: usize) -> bool {
        self.takes.get(class).copied().unwrap_or(false)
    }
}

/// A pass as it would be if some had gone.
struct Trial {
    pass: Pass<NodePool>,
    length: i64,
    /// When the last of those has gone that are about to.
    latest: i64,
}

impl Trial {
    fn fits(&self, ask: &Ask<'_>) -> Option<Parts> {
        self.pass.find(ask, self.length)
    }
}

impl<'a> Planner<'a> {
    /// Those for whom room was made come before all others: nobody else is to have it.
    pub(super) fn keep_promises(&mut self) {
        let inside = self.inside.map(|booking| &*booking.name);
        let view = self.view;
        for promise in view.promised {
            let (id, queue) = (promise.job, view.queue);
            let open = |job: &&std::sync::Arc<Job>| {
                queue.has(job) && job.spec.request.wishes.reservation.as_deref() == inside
            };
            let Some(job) = view.jobs.get(&id).filter(open) else {
                continue;
            };
            let Some(at) = queue.place(&GroupKey::of(job)) else {
                continue;
            };
            let Some(group) = queue.group(at) else {
                continue;
            };
            let partition = view.rules.partitions.get(job.spec.partition.as_str());
            let out = self
                .inside
                .and_then(|booking| self.kept_out(booking, &group.key));
            if out.is_some() || partition.is_some_and(|partition| !partition.up) {
                continue;
            }
            let served = self.evictions.served(id);
            if served >= job.pending.len() {
                continue;
            }
            let slots = u32::try_from(job.slots.len()).unwrap_or(u32::MAX);
            let one = (1, slots.saturating_add(served));
            let open = view.open_to(job);
            let mut nodes = promise.parts.iter().filter(|part| part.is_of_node());
            let there = nodes.all(|part| open(part.node));
            let rather = Some(&promise.parts).filter(|_| there);
            if self.start_some(at, group, job, one, rather).1 == 0 {
                self.evictions.served.insert(id, served + 1);
            }
        }
    }

    /// Has others make room for an element: what it will have, once they have gone. Nothing when nobody has to, or may be
    /// asked to, or when it would not help; a reason when a limit would hold it then.
    pub(super) fn make_room(
        &mut self,
        at: usize,
        group: &'a Group,
        job: &'a Job,
        length: i64,
        (is_new, rather): (bool, Option<&Parts>),
    ) -> Result<Option<Parts>, Reason> {
        let may = self.evictions.may_take(self.class_of(at));
        if !may || self.evictions.tries >= TRIES_MAX {
            return Ok(None);
        }
        self.evictions.tries += 1;
        // Those who wait before it have their places.
        self.keep_places();
        let ask = self.ask(at, group, job);
        if !self.view.emptied.fits(&ask) || self.fits_elsewhere(&ask, length) {
            return Ok(None);
        }
        let mut trial = self.trial(length);
        let same = rather.filter(|parts| trial.pass.holds(parts, length));
        let mut found = same.cloned().or_else(|| trial.fits(&ask));
        let mut chosen = Vec::new();
        if found.is_none() {
            if self.may_be_on_silent(&trial, group, job) {
                return Ok(None);
            }
            chosen = self.choose(&mut trial, &ask, &group.key);
            found = trial.fits(&ask);
        }
        let Some(parts) = found else {
            return Ok(None);
        };
        if let Some(reason) = self.over_limit_with(&group.key, &parts, is_new) {
            return Err(reason);
        }
        let graces = chosen.iter().map(|(_, grace_ms, _)| *grace_ms);
        let grace_ms = graces.max().unwrap_or(0);
        if grace_ms > 0 && self.starts_by_itself(&ask, length, grace_ms) {
            return Ok(None);
        }
        // Nobody goes before it is sure that it helps.
        let before = (self.pass.clone(), self.evictions.told.clone());
        for (place, grace_ms, _) in &chosen {
            self.tell(*place, *grace_ms);
        }
        let latest = self.now.plus_ms(grace_ms).0.max(trial.latest);
        let shadow = self.reserve(Err(&parts), length);
        let too_long = |shadow: i64| {
            let ends = Timestamp(shadow.saturating_add(length));
            self.inside.is_some_and(|booking| ends > booking.end)
        };
        let shadow = shadow.filter(|shadow| *shadow <= latest && !too_long(*shadow));
        let Some(shadow) = shadow else {
            (self.pass, self.evictions.told) = before;
            return Ok(None);
        };
        for (place, grace_ms, again) in chosen {
            self.evict(place, grace_ms, again, job.id);
        }
        self.plan.kept.push((job.id, Timestamp(shadow)));
        self.evictions.promised.push(parts.clone());
        self.plan.promised.push(Promise {
            job: job.id,
            parts: parts.clone(),
        });
        Ok(Some(parts))
    }

    /// Whether there would be room on nodes that do not answer but may yet: after a restart most have not spoken.
    fn may_be_on_silent(&self, trial: &Trial, group: &'a Group, job: &Job) -> bool {
        let view = self.view;
        let request = &*group.key.request;
        let serves = serving(request, &job.owner, view.rules, &job.spec.partition);
        let silent = |id| {
            view.nodes.get(&id).is_some_and(|node| {
                matches!(node.link, Link::Silent(_)) && node.drain.is_none() && serves(node)
            })
        };
        let ask = view.pool.ask(request, silent);
        trial.pass.free.fits(&view.as_wanted(ask, job, self.now))
    }

    /// The pass as it would be if all had gone that are about to.
    fn trial(&mut self, length: i64) -> Trial {
        let mut pass = self.pass.clone();
        let mut leaving: Vec<(i64, Cow<'_, Parts>)> = Vec::new();
        let occupancy = self.view.occupancy;
        for (key, stay) in occupancy.stays() {
            if self.extended.contains_key(&key) {
                continue;
            }
            let idle = self.view.idle.contains(&key);
            let told = self.evictions.told.get(&key);
            let goes = stay.leaves || idle || told.is_some() || stay.ends <= self.now;
            if goes
                && let Some(parts) = occupancy.frees(key)
                && !stays_into(&self.evictions.crowded, &parts, stay.ends)
            {
                let ends = if idle { self.now.0 } else { stay.ends.0 };
                leaving.push((told.copied().unwrap_or(ends), parts));
            }
        }
        let mut latest = self.now.0;
        for (ends, parts) in leaving {
            latest = latest.max(ends);
            pass.release(&parts, ends);
        }
        for parts in &self.evictions.promised {
            pass.free.take(parts);
        }
        Trial {
            pass,
            length,
            latest,
        }
    }

    /// The fewest of those who may be asked that make room: their places among the holders, their grace, and whether they
    /// run again. The trial is left with them gone; where nobody helps, it finds no room.
    fn choose(
        &mut self,
        trial: &mut Trial,
        ask: &Ask<'_>,
        key: &GroupKey,
    ) -> Vec<(usize, i64, bool)> {
        if self.evictions.holders.is_none() {
            self.evictions.holders = Some(self.holders());
        }
        let holders = self.evictions.holders.as_deref().unwrap_or_default();
        let mut chosen: Vec<(usize, i64, bool)> = Vec::new();
        let mut found = false;
        let local = NodePool::is_local(ask);
        for (holder, place) in holders.iter().zip(0..) {
            let Some(yields) = yields(self.view.rules, &key.class, &holder.class) else {
                continue;
            };
            let gone = self.evictions.told.contains_key(&holder.key)
                || self.extended.contains_key(&holder.key);
            // Those are asked by `borrow`.
            let stands_still = yields.mode == PreemptMode::Suspend;
            if gone || stands_still || !self.view.pool.touches(&holder.parts, ask) {
                continue;
            }
            let asked_from = holder.since.plus_ms(i64::from(yields.exempt_s) * 1000);
            if asked_from > self.now {
                let again = self.plan.again.get_or_insert(asked_from);
                *again = asked_from.min(*again);
                continue;
            }
            let again = yields.mode == PreemptMode::Requeue && holder.requeue;
            trial.pass.release(&holder.parts, holder.ends.0);
            chosen.push((place, i64::from(yields.grace_s) * 1000, again));
            let may_fit = !local || trial.pass.free.fits_at(&holder.parts, ask);
            found = may_fit && trial.fits(ask).is_some();
            if found {
                break;
            }
        }
        if !found {
            return Vec::new();
        }
        // The dearest first. The last is needed: without it there was no room.
        for at in (0..chosen.len().saturating_sub(1)).rev() {
            let holder = &holders[chosen[at].0];
            trial.pass.hold(&holder.parts, holder.ends.0);
            if trial.fits(ask).is_some() {
                chosen.remove(at);
            } else {
                trial.pass.release(&holder.parts, holder.ends.0);
            }
        }
        chosen
    }

    /// Whether there will be room before the grace of others would be over.
    fn starts_by_itself(&mut self, ask: &Ask<'_>, length: i64, grace_ms: i64) -> bool {
        let before = self.pass.clone();
        let shadow = self.reserve(Ok(ask), length);
        self.pass = before;
        shadow.is_some_and(|shadow| shadow <= self.now.plus_ms(grace_ms).0)
    }

    /// Counts on one to have gone once its grace is over.
    fn tell(&mut self, place: usize, grace_ms: i64) {
        let holders = self.evictions.holders.as_deref().unwrap_or_default();
        let Some(holder) = holders.get(place) else {
            return;
        };
        let ends = self.now.plus_ms(grace_ms).0.min(holder.ends.0);
        self.pass.leaves_at(&holder.parts, holder.ends.0, ends);
        self.evictions.told.insert(holder.key, ends);
    }

    fn evict(&mut self, place: usize, grace_ms: i64, again: bool, by: JobId) {
        let holders = self.evictions.holders.as_deref().unwrap_or_default();
        let Some(holder) = holders.get(place) else {
            return;
        };
        self.plan.entries.push(Entry::Evict {
            job: holder.key.job,
            slot: holder.key.slot,
            by,
            grace_ms,
            again,
        });
    }

    /// What runs and could be asked to go, the least first: lowest tier, lowest priority, youngest.
    pub(super) fn holders(&self) -> Vec<Holder<'a>> {
        let view = self.view;
        let mut orders: BTreeMap<JobId, OrderKey> = BTreeMap::new();
        let mut holders = Vec::new();
        for (key, stay) in view.occupancy.stays() {
            let idle = view.idle.contains(&key);
            if stay.leaves || idle || stay.ends <= self.now {
                continue;
            }
            let (Some(job), Some(parts)) = (view.jobs.get(&key.job), view.occupancy.frees(key))
            else {
                continue;
            };
            let heard = |part: &super::nodes::Part| {
                let node = view.nodes.get(&part.node);
                node.is_some_and(|node| node.is_up())
            };
            let nodes = parts.iter().filter(|part| part.is_of_node());
            let all_heard = nodes.into_iter().all(heard);
            // What stays into a reservation leaves its place to that.
            if stays_into(&self.evictions.crowded, &parts, stay.ends)
                || !all_heard
                || job.spec.request.takes_nothing()
            {
                continue;
            }
            let order = *orders.entry(key.job).or_insert_with(|| {
                let group = GroupKey::of(job);
                let rank = self.ranker.class(&group.class);
                let member = Member {
                    submitted: job.submitted,
                    id: job.id,
                    runs: true,
                };
                self.ranker.key(&rank, &group, &member)
            });
            let importance = (Reverse(order.tier_negated), Reverse(order.priority_negated));
            let holder = Holder {
                key,
                class: Class::of(job),
                requeue: job.spec.requeue,
                since: stay.since,
                ends: stay.ends.min(occupancy::NEVER),
                parts,
            };
            holders.push((importance, Reverse(stay.since), Reverse(key), holder));
        }
        holders.sort_by_key(|(importance, since, key, _)| (*importance, *since, *key));
        holders.into_iter().map(|(.., holder)| holder).collect()
    }
}
