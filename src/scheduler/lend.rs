//! Who stands still for whom.
//!
//! Where a partition or QOS makes room by `suspend`, its jobs lend their cpus: they are stopped, keep their memory, GPUs and
//! licences, and go on when whoever borrowed them has ended. What one that stands still does not lend is kept for it
//! against everybody for whom it does not stand still anyway. Nobody ends for this, so it is tried before others are asked
//! to leave; and nobody who waits already is held up by those who end later for it.

use super::backfill::Pass;
use super::evict::{TRIES_MAX, yields};
use super::nodes::{NodePool, Part, Parts, cpus_among, less};
use super::occupancy::Sharing;
use super::plan::Entry;
use super::pool::Pool;
use super::queue::Group;
use super::{Planner, Sketched};
use crate::model::allocation::Allocation;
use crate::model::cpu_set::CpuSet;
use crate::model::ids::{NodeId, SlotKey};
use crate::model::job::{Job, Reason};
use crate::model::preempt::PreemptMode;
use crate::model::rules::Rules;
use crate::model::time::Timestamp;
use std::collections::BTreeMap;

/// Cpus that are lent, slot by slot.
pub type Loans = Vec<(SlotKey, Parts)>;

/// Whether any jobs stand still for others.
pub(super) fn any_stands_still(rules: &Rules) -> bool {
    let by_tier = rules.partitions.values().map(|one| one.yields.mode);
    let by_qos = rules.qos.values().map(|one| one.yields.mode);
    by_tier
        .chain(by_qos)
        .any(|mode| mode == PreemptMode::Suspend)
}

/// Somebody who stands still, or would.
struct Lender<'a> {
    key: SlotKey,
    /// It does already.
    stopped: bool,
    /// What it holds.
    parts: &'a Parts,
    /// Its cpus that a job could have.
    idle: Parts,
    cpus: BTreeMap<NodeId, CpuSet>,
    /// Its end at the latest, as long as it lends no more.
    ends: i64,
    /// When all have left to whom it lends already.
    back: i64,
}

/// Where an element starts on borrowed cpus.
pub(super) struct Borrowed {
    pub(super) parts: Parts,
    /// Cores and GPUs; `None` where these are of no interest.
    pub(super) allocation: Option<Allocation>,
}

impl<'a> Planner<'a> {
    /// Starts an element on cpus of others, who stand still meanwhile. Nothing where that does not help; a reason where a
    /// limit holds it then.
    pub(super) fn borrow(
        &mut self,
        at: usize,
        group: &'a Group,
        job: &'a Job,
        length: i64,
        is_new: bool,
    ) -> Result<Option<Borrowed>, Reason> {
        let may = self.evictions.may_take(self.class_of(at)) && self.evictions.stands_still;
        if !may || self.evictions.tries >= TRIES_MAX {
            return Ok(None);
        }
        self.evictions.tries += 1;
        // Those who wait before it have their places.
        self.keep_places();
        let ask = self.ask(at, group, job);
        if !self.view.emptied.fits(&ask) {
            return Ok(None);
        }
        let until = self.now.0.saturating_add(length);
        let release = |pass: &mut Pass<NodePool>, one: &Lender<'_>| {
            pass.release(&one.idle, one.ends.min(until));
        };
        let mut pass = self.pass.clone();
        let mut chosen: Vec<Lender<'a>> = Vec::new();
        let mut found = false;
        let local = NodePool::is_local(&ask);
        for lender in self.lenders(group) {
            // What runs in a reservation has to be over with it.
            let late = lender
                .ends
                .saturating_add(until.saturating_sub(lender.back).max(0));
            let too_late = self.inside.is_some_and(|booking| late > booking.end.0);
            if too_late || !self.view.pool.touches(&lender.idle, &ask) {
                continue;
            }
            release(&mut pass, &lender);
            let may_fit = !local || pass.free.fits_at(&lender.idle, &ask);
            chosen.push(lender);
            found = may_fit && pass.find(&ask, length).is_some();
            if found {
                break;
            }
        }
        if !found {
            return Ok(None);
        }
        // The dearest first. The last is needed: without it there was no room.
        for at in (0..chosen.len().saturating_sub(1)).rev() {
            let one = &chosen[at];
            pass.hold(&one.idle, one.ends.min(until));
            if pass.find(&ask, length).is_some() {
                chosen.remove(at);
            } else {
                release(&mut pass, one);
            }
        }
        let Some(parts) = pass.find(&ask, length) else {
            return Ok(None);
        };
        if let Some(reason) = self.over_limit_with(&group.key, &parts, is_new) {
            return Err(reason);
        }
        Ok(self.start_on_loan(job, pass, parts, chosen, length))
    }

    /// Takes what was found in a pass in which these have given all they can.
    fn start_on_loan(
        &mut self,
        job: &Job,
        mut pass: Pass<NodePool>,
        parts: Parts,
        lenders: Vec<Lender<'a>>,
        length: i64,
    ) -> Option<Borrowed> {
        let until = self.now.0.saturating_add(length);
        pass.take(&parts, length);
        let mut cpus: BTreeMap<NodeId, CpuSet> = BTreeMap::new();
        for (node, more) in lenders.iter().flat_map(|one| &one.cpus) {
            let known = cpus.entry(*node).or_default();
            *known = known.union(more);
        }
        let allocation = match &mut self.picks {
            None => None,
            Some(picks) => {
                let nodes = self.view.nodes;
                Some(picks.pick_with(nodes, &pass.free, &parts, &cpus)?)
            }
        };
        let mut missing = self.beyond_free(&parts);
        let mut loans = Loans::new();
        let mut stopped = Vec::new();
        for one in lenders {
            let mut cpus = one.cpus;
            let loan: Parts = match &allocation {
                Some(allocation) => one
                    .idle
                    .iter()
                    .map(|part| {
                        let had = cpus.entry(part.node).or_default();
                        let share = allocation.share(part.node);
                        let used = share.map(|share| share.cpus.intersect(had));
                        let used = used.unwrap_or_default();
                        *had = had.subtract(&used);
                        Part::of_cpus(part.node, used.len())
                    })
                    .collect(),
                None => one
                    .idle
                    .iter()
                    .map(|part| {
                        let missing = missing.entry(part.node).or_default();
                        let count = part.amount.cpus.min(*missing);
                        *missing -= count;
                        Part::of_cpus(part.node, count)
                    })
                    .collect(),
            };
            let idle = less(&one.idle, &loan);
            pass.hold(&idle, one.ends.min(until));
            // It ends so much later.
            let longer = until.saturating_sub(one.back).max(0);
            let left = less(one.parts, &loan);
            if !pass.stands_still(one.parts, &left, one.ends, longer, until) {
                return None;
            }
            let sharing = Sharing {
                back: Some(Timestamp(one.back.max(until))),
                idle,
                lent: Parts::new(),
                cpus,
            };
            stopped.push((
                one.key,
                one.stopped,
                sharing,
                one.ends.saturating_add(longer),
            ));
            loans.push((one.key, loan));
        }
        self.pass = pass;
        for (key, was_stopped, sharing, ends) in stopped {
            if !was_stopped {
                self.plan.entries.push(Entry::Suspend {
                    job: key.job,
                    slot: key.slot,
                    to: job.id,
                });
            }
            self.evictions.stopped.insert(key, sharing);
            self.extended.insert(key, ends);
        }
        let lent = loans.iter().map(|(_, parts)| parts);
        let own = lent.fold(parts.clone(), |own, lent| less(&own, lent));
        self.started.push((until, own));
        let licenses = parts.iter().filter(|part| !part.is_of_node());
        self.licensed.extend(licenses.copied());
        if allocation.is_none() {
            self.sketched.push(Sketched {
                job: job.id,
                parts: parts.clone(),
                loans,
            });
        }
        Some(Borrowed { parts, allocation })
    }

    /// How many cpus of these are not free, node by node.
    fn beyond_free(&self, parts: &Parts) -> BTreeMap<NodeId, u32> {
        let parts = parts.iter().filter(|part| part.is_of_node());
        parts
            .map(|part| {
                let free = self.pass.free.free_on(part.node).cpus;
                (part.node, part.amount.cpus.saturating_sub(free))
            })
            .collect()
    }

    /// Who stands still for jobs of a group: those first that do already, then the least important ones.
    fn lenders(&mut self, group: &Group) -> Vec<Lender<'a>> {
        self.evictions.holders = Some(match self.evictions.holders.take() {
            Some(holders) => holders,
            None => self.holders(),
        });
        let occupancy = self.view.occupancy;
        let holders = self.evictions.holders.as_deref().unwrap_or_default();
        let (mut stopped, mut running) = (Vec::new(), Vec::new());
        let mut again = self.plan.again;
        for holder in holders {
            let yields = yields(self.view.rules, &group.key.class, &holder.class);
            let Some(yields) = yields.filter(|one| one.mode == PreemptMode::Suspend) else {
                continue;
            };
            let Some(parts) = occupancy.parts(holder.key) else {
                continue;
            };
            if self.evictions.told.contains_key(&holder.key) {
                continue;
            }
            let known = self.evictions.stopped.get(&holder.key);
            let known = known.or_else(|| occupancy.sharing(holder.key));
            let extended = self.extended.get(&holder.key);
            let ends = extended.copied().unwrap_or(holder.ends.0);
            if let Some((back, known)) = known.and_then(|known| Some((known.back?, known))) {
                stopped.push(Lender {
                    key: holder.key,
                    stopped: true,
                    parts,
                    idle: known.idle.clone(),
                    cpus: known.cpus.clone(),
                    // Nobody has its cpus any more: the rest of its time begins now.
                    ends: ends.saturating_add(self.now.minus(back).max(0)),
                    back: back.0.max(self.now.0),
                });
                continue;
            }
            if extended.is_some() {
                continue;
            }
            let asked_from = holder.since.plus_ms(i64::from(yields.exempt_s) * 1000);
            if asked_from > self.now {
                again = Some(again.map_or(asked_from, |again| asked_from.min(again)));
                continue;
            }
            let slot = self.view.jobs.get(&holder.key.job);
            let slot = slot.and_then(|job| job.slot(holder.key.slot));
            let cpus: BTreeMap<NodeId, CpuSet> = match slot {
                Some(slot) => {
                    let shares = slot.allocation.nodes.iter();
                    shares
                        .map(|share| (share.node, share.cpus.clone()))
                        .collect()
                }
                None => BTreeMap::new(),
            };
            // In a forecast cpus are only counted.
            let idle = if cpus.is_empty() {
                cpus_among(parts)
            } else {
                let counts = cpus.iter();
                counts
                    .map(|(node, cpus)| Part::of_cpus(*node, cpus.len()))
                    .collect()
            };
            running.push(Lender {
                key: holder.key,
                stopped: false,
                parts,
                idle,
                cpus,
                ends,
                back: self.now.0,
            });
        }
        self.plan.again = again;
        stopped.extend(running);
        stopped
    }
}
