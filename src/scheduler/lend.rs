//! Who stands still for whom.
//!
//! Where a partition or QOS makes room by `suspend`, its jobs lend their cpus: they are stopped, keep their memory, GPUs and
//! licences, and go on when whoever borrowed them has ended. What one that stands still does not lend is kept for it
//! against everybody for whom it does not stand still anyway. Nobody ends for this, so it is tried before others are asked
//! to leave; and nobody who waits already is held up by those who end later for it.

use super::backfill::Pass;
use super::evict::{TRIES_MAX, yields};
use super::nodes::{Ask, NodePool, Part, Parts, cpus_among, less, plus};
pub use super::occupancy::Loans;
use super::occupancy::Sharing;
use super::plan::Entry;
use super::pool::Pool;
use super::queue::{Class, Group};
use super::{Planner, Sketched};
use crate::model::allocation::Allocation;
use crate::model::cpu_set::CpuSet;
use crate::model::ids::{NodeId, SlotKey};
use crate::model::job::{Job, Reason};
use crate::model::preempt::{PreemptMode, Yielding};
use crate::model::rules::Rules;
use crate::model::time::Timestamp;
use std::collections::BTreeMap;

/// Whether any jobs stand still for others.
pub(super) fn any_stands_still(rules: &Rules) -> bool {
    let by_tier = rules.partitions.values().map(|one| one.yields.mode);
    let by_qos = rules.qos.values().map(|one| one.yields.mode);
    by_tier
        .chain(by_qos)
        .any(|mode| mode == PreemptMode::Suspend)
}

/// How a job of `holder` stands still for one of `taker`; `None` = it does not.
#[must_use]
pub fn stands_still(rules: &Rules, taker: &Class, holder: &Class) -> Option<Yielding> {
    yields(rules, taker, holder).filter(|one| one.mode == PreemptMode::Suspend)
}

/// What of these parts is not borrowed.
#[must_use]
pub fn own_of(parts: &Parts, loans: &Loans) -> Parts {
    let lent = loans.iter().map(|(_, lent)| lent);
    lent.fold(parts.clone(), |own, lent| less(&own, lent))
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
    /// Its end at the latest, as long as it lends no more.
    ends: i64,
    /// When all have left to whom it lends already.
    back: i64,
}

impl Lender<'_> {
    /// How much later it ends if it lends until then.
    fn longer(&self, until: i64) -> i64 {
        until.saturating_sub(self.back).max(0)
    }
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
        let class = self.class_of(at);
        let may = self.evictions.may_take(class) && self.evictions.stands_still;
        if !may || self.evictions.lend_tries >= TRIES_MAX {
            return Ok(None);
        }
        // Those who wait before it have their places.
        self.keep_places();
        let ask = self.ask(at, group, job);
        if !self.view.emptied.fits(&ask) || self.fits_elsewhere(&ask, length) {
            return Ok(None);
        }
        self.draw_up_lenders(class, group);
        let until = self.now.0.saturating_add(length);
        let release = |pass: &mut Pass<NodePool>, one: &Lender<'_>| {
            pass.release(&one.idle, one.ends.min(until));
        };
        let mut pass = self.pass.clone();
        let mut chosen: Vec<Lender<'a>> = Vec::new();
        let mut found = false;
        let local = NodePool::is_local(&ask);
        for at in 0..self.evictions.lenders.get(&class).map_or(0, Vec::len) {
            let Some(lender) = self.lender(class, at, &ask) else {
                continue;
            };
            if !self.may_end_later(&lender, until) {
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
        // One that stands still already is no trouble: what it lends is taken first.
        chosen.sort_by_key(|one| !one.stopped);
        if found {
            // The dearest first.
            for at in (0..chosen.len()).rev() {
                let one = &chosen[at];
                pass.hold(&one.idle, one.ends.min(until));
                if pass.find(&ask, length).is_some() {
                    chosen.remove(at);
                } else {
                    release(&mut pass, one);
                }
            }
        }
        let parts = if found { pass.find(&ask, length) } else { None };
        let Some(parts) = parts else {
            self.evictions.lend_tries += 1;
            return Ok(None);
        };
        if let Some(reason) = self.over_limit_with(&group.key, &parts, is_new) {
            return Err(reason);
        }
        let started = self.start_on_loan(job, pass, parts, chosen, length);
        self.evictions.lend_tries += usize::from(started.is_none());
        Ok(started)
    }

    /// Whether nobody who waits is held up, and no reservation outlived, if this lends all it has until then. What lies
    /// below it, and has lent to it, ends so much later too.
    fn may_end_later(&self, lender: &Lender<'_>, until: i64) -> bool {
        let longer = lender.longer(until);
        let late = lender.ends.saturating_add(longer);
        if self.inside.is_some_and(|booking| late > booking.end.0) {
            return false;
        }
        let left = less(lender.parts, &lender.idle);
        let pass = &self.pass;
        pass.may_stand_still(lender.parts, &left, lender.ends, longer, until)
            && self
                .below(lender.key)
                .all(|(_, ends, parts)| pass.may_stand_still(parts, parts, ends, longer, until))
    }

    /// Those who have lent to a slot: when they end, and what they hold.
    fn below(&self, key: SlotKey) -> impl Iterator<Item = (SlotKey, i64, &'a Parts)> {
        let occupancy = self.view.occupancy;
        let from = occupancy.sharing(key).map(|sharing| &sharing.from);
        let keys = from.into_iter().flatten().map(|(below, _)| *below);
        keys.filter_map(|below| {
            let ends = self.extended.get(&below).copied();
            let ends = ends.or_else(|| occupancy.ends(below).map(|ends| ends.0))?;
            Some((below, ends, occupancy.parts(below)?))
        })
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
        let own: Vec<BTreeMap<NodeId, CpuSet>> =
            lenders.iter().map(|one| self.cpus_of(one.key)).collect();
        let mut cpus: BTreeMap<NodeId, CpuSet> = BTreeMap::new();
        for (node, more) in own.iter().flatten() {
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
        let loans = match &allocation {
            Some(allocation) => picked_of(&lenders, &own, allocation),
            None => self.counted_of(&lenders, &parts),
        };
        let Some(moved) = self.ends_later(&mut pass, &lenders, &loans, until) else {
            if let (Some(picks), Some(allocation)) = (&mut self.picks, &allocation) {
                picks.put_back(allocation);
            }
            return None;
        };
        self.pass = pass;
        self.extended.extend(moved);
        for ((one, (key, loan)), mut cpus) in lenders.iter().zip(&loans).zip(own) {
            for share in allocation.iter().flat_map(|allocation| &allocation.nodes) {
                if let Some(left) = cpus.get_mut(&share.node) {
                    *left = left.subtract(&share.cpus);
                }
            }
            let sharing = Sharing {
                back: Some(Timestamp(one.back.max(until))),
                idle: less(&one.idle, loan),
                cpus,
                ..Sharing::default()
            };
            self.evictions.stopped.insert(*key, sharing);
            if !one.stopped {
                self.plan.entries.push(Entry::Suspend {
                    job: key.job,
                    slot: key.slot,
                    to: job.id,
                });
            }
        }
        self.started.push((until, own_of(&parts, &loans)));
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

    /// Holds back what these do not lend, and has them, and those below them, end later: when each does. Nothing where
    /// somebody who waits would be held up.
    fn ends_later(
        &self,
        pass: &mut Pass<NodePool>,
        lenders: &[Lender<'_>],
        loans: &Loans,
        until: i64,
    ) -> Option<Vec<(SlotKey, i64)>> {
        let mut moved = Vec::new();
        for (one, (_, loan)) in lenders.iter().zip(loans) {
            pass.hold(&less(&one.idle, loan), one.ends.min(until));
            let longer = one.longer(until);
            let left = less(one.parts, loan);
            let mut goes = pass.stands_still(one.parts, &left, one.ends, longer, until);
            moved.push((one.key, one.ends.saturating_add(longer)));
            for (below, ends, parts) in self.below(one.key) {
                goes &= pass.stands_still(parts, parts, ends, longer, until);
                moved.push((below, ends.saturating_add(longer)));
            }
            if !goes {
                return None;
            }
        }
        Some(moved)
    }

    /// What of these parts each lends, where cpus are only counted.
    fn counted_of(&self, lenders: &[Lender<'_>], parts: &Parts) -> Loans {
        let mut missing = self.beyond_free(parts);
        let mut loans = Loans::new();
        for one in lenders {
            let lent = one.idle.iter().map(|part| {
                let missing = missing.entry(part.node).or_default();
                let count = part.amount.cpus.min(*missing);
                *missing -= count;
                Part::of_cpus(part.node, count)
            });
            loans.push((one.key, lent.collect()));
        }
        loans
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

    /// Draws up, once for each class, who stands still for it: those first that do already, then the least important.
    fn draw_up_lenders(&mut self, class: usize, group: &Group) {
        if self.evictions.lenders.contains_key(&class) {
            return;
        }
        let holders = match self.evictions.holders.take() {
            Some(holders) => holders,
            None => self.holders(),
        };
        let occupancy = self.view.occupancy;
        let mut places: Vec<(bool, usize, u32)> = Vec::new();
        for (holder, place) in holders.iter().zip(0..) {
            let yields = stands_still(self.view.rules, &group.key.class, &holder.class);
            if let Some(yields) = yields {
                let sharing = occupancy.sharing(holder.key);
                let stopped = sharing.is_some_and(|sharing| sharing.back.is_some());
                places.push((!stopped, place, yields.exempt_s));
            }
        }
        places.sort_unstable();
        let places = places.into_iter();
        let lenders = places.map(|(_, place, exempt_s)| (place, exempt_s));
        self.evictions.lenders.insert(class, lenders.collect());
        self.evictions.holders = Some(holders);
    }

    /// One of those, if it has something for this.
    fn lender(&mut self, class: usize, at: usize, ask: &Ask<'_>) -> Option<Lender<'a>> {
        let (place, exempt_s) = *self.evictions.lenders.get(&class)?.get(at)?;
        let holder = self.evictions.holders.as_deref()?.get(place)?;
        let key = holder.key;
        let occupancy = self.view.occupancy;
        if self.evictions.told.contains_key(&key) {
            return None;
        }
        let parts = occupancy.parts(key)?;
        let known = self.evictions.stopped.get(&key);
        let known = known.or_else(|| occupancy.sharing(key));
        let extended = self.extended.get(&key);
        let ends = extended.copied().unwrap_or(holder.ends.0);
        if let Some((back, known)) = known.and_then(|known| Some((known.back?, known))) {
            let lender = Lender {
                key,
                stopped: true,
                parts,
                idle: known.idle.clone(),
                // Nobody has its cpus any more: the rest of its time begins now.
                ends: ends.saturating_add(self.now.minus(back).max(0)),
                back: back.0.max(self.now.0),
            };
            return Some(lender).filter(|one| self.view.pool.touches(&one.idle, ask));
        }
        if extended.is_some() {
            return None;
        }
        // It may have borrowed itself: then those cpus are lent on.
        let mut idle = cpus_among(parts);
        for (_, loan) in known.into_iter().flat_map(|known| &known.from) {
            idle = plus(&idle, loan);
        }
        if !self.view.pool.touches(&idle, ask) {
            return None;
        }
        let asked_from = holder.since.plus_ms(i64::from(exempt_s) * 1000);
        if asked_from > self.now {
            let again = self.plan.again.get_or_insert(asked_from);
            *again = asked_from.min(*again);
            return None;
        }
        Some(Lender {
            key,
            stopped: false,
            parts,
            idle,
            ends,
            back: self.now.0,
        })
    }

    /// The cpus that a slot could lend; none in a forecast, where they are only counted.
    fn cpus_of(&self, key: SlotKey) -> BTreeMap<NodeId, CpuSet> {
        let known = self.evictions.stopped.get(&key);
        let known = known.or_else(|| self.view.occupancy.sharing(key));
        if let Some(known) = known.filter(|known| known.back.is_some()) {
            return known.cpus.clone();
        }
        let job = self.view.jobs.get(&key.job);
        let slot = job.and_then(|job| job.slot(key.slot));
        let shares = slot.into_iter().flat_map(|slot| &slot.allocation.nodes);
        shares
            .map(|share| (share.node, share.cpus.clone()))
            .collect()
    }
}

/// What of an allocation each of these lends, of its own cpus.
fn picked_of(
    lenders: &[Lender<'_>],
    own: &[BTreeMap<NodeId, CpuSet>],
    allocation: &Allocation,
) -> Loans {
    let mut loans = Loans::new();
    for (one, cpus) in lenders.iter().zip(own) {
        let lent = one.idle.iter().map(|part| {
            let share = allocation.share(part.node);
            let own = cpus.get(&part.node);
            let used = share.zip(own).map(|(share, own)| share.cpus.intersect(own));
            Part::of_cpus(part.node, used.map_or(0, |used| used.len()))
        });
        loans.push((one.key, lent.collect()));
    }
    loans
}
