//! decide: where a reservation is, and who may ask for one.
//!
//! What is wanted is worked out once, when the reservation is made or changed: on nodes that are free from its start to
//! its end as far as that is known. So nothing that runs stands in its way when it begins; what waits goes around it.

use super::Cluster;
use super::command::Principal;
use crate::model::account::DEFAULT;
use crate::model::ids::{JobId, NodeId};
use crate::model::job::{JobSpec, Owner};
use crate::model::node::Node;
use crate::model::refusal::{Code, Refusal};
use crate::model::reservation::{KeptPart, Purpose, Repeat, Reservation};
use crate::model::rules::{Act, NORMAL, Noun, RuleChange, Rules};
use crate::model::time::{Timestamp, format_duration};
use crate::scheduler::bookings::parts_of;
use crate::scheduler::limits::{Check, Held, Tally};
use crate::scheduler::nodes::{Free, NodePool, Parts, Site, plus, serving};
use crate::scheduler::occupancy::NEVER;
use crate::scheduler::pool::Pool;
use crate::scheduler::queue::Class;
use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;

/// How far ahead reservations that come again are held against each other; milliseconds.
const AHEAD_MS: i64 = 62 * 86_400_000;
/// Most times of each, and most times that are tried for one that does not fit.
const TIMES_MAX: usize = 64;
const TRIED_MAX: usize = 256;

/// Most reservations that are not over of somebody who made them, and how far ahead they begin.
const OWN_MAX: usize = 2;
const OWN_AHEAD_MS: i64 = 14 * 86_400_000;

/// A change of a reservation with what is left out of it: who asks is who it is for.
pub(super) fn complete(who: &Principal, change: &RuleChange) -> Result<RuleChange, Refusal> {
    let mut change = change.clone();
    if change.settings.iter().any(|(key, _)| key == "on") {
        let what = format!("reservation {}: on: it is worked out", change.name);
        let hint = "say what is kept by nodes=, node-count=, gpus= or cpus=";
        return Err(Refusal::new(Code::Invalid, what, hint));
    }
    let says = |wanted: &str| change.settings.iter().any(|(key, _)| key == wanted);
    let nobody = !["users", "accounts", "purpose"].into_iter().any(says);
    if change.act == Act::Add && nobody {
        let own = who.owner.name.to_string();
        change.settings.push(("users".to_owned(), own));
    }
    Ok(change)
}

/// Whether somebody who is no operator may change a reservation so: one for oneself alone, as long as the account allows.
pub(super) fn may_alone(
    cluster: &Cluster,
    now: Timestamp,
    who: &Principal,
    change: &RuleChange,
    rules: &Rules,
) -> Result<(), Refusal> {
    let me = &*who.owner.name;
    let refuse = |what: String, hint: &str| Err(Refusal::new(Code::NotPermitted, what, hint));
    let name = &change.name;
    let account = rules.users.get(me).map_or(DEFAULT, |user| &user.account);
    let mut lineage = cluster.rules.lineage(account);
    let most_s = lineage.find_map(|one| one.reserve_time_s).unwrap_or(0);
    if most_s == 0 {
        let what = format!("{me} may not change a reservation");
        let hint = "ask an operator, or an administrator for \
                    `hpc account set ACCOUNT reserve-time=4h`; `hpc reserve list` shows what there is";
        return refuse(what, hint);
    }
    let is_mine = |one: &Reservation| is_for(one, me);
    let before = cluster.rules.reservations.get(name);
    if before.is_some_and(|before| !is_mine(before)) {
        let what = format!("reservation {name} is not for {me} alone");
        return refuse(what, "an operator may change it");
    }
    let Some(after) = rules.reservations.get(name) else {
        return Ok(());
    };
    if !is_mine(after) || after.repeat != Repeat::Once {
        let what = format!("{me} may reserve for {me} alone, and once");
        return refuse(what, "an operator may reserve for others, and weekly");
    }
    if after.end.minus(after.start) > i64::from(most_s) * 1000 {
        let what = format!(
            "{me} may reserve for {} at the longest",
            format_duration(u64::from(most_s))
        );
        return refuse(what, "ask an operator for longer, or for a maintenance");
    }
    if after.start > now.plus_ms(OWN_AHEAD_MS) {
        let what = format!(
            "{me} may reserve until {} ahead",
            show(now.plus_ms(OWN_AHEAD_MS))
        );
        return refuse(what, "ask an operator, or later");
    }
    let mine = rules.reservations.values();
    let mine = mine.filter(|one| is_mine(one) && one.end > now);
    let names: Vec<&str> = mine.map(|one| one.name.as_str()).collect();
    if change.act == Act::Add && names.len() > OWN_MAX {
        let others = names.into_iter().filter(|one| one != name);
        let others: Vec<&str> = others.collect();
        let what = format!(
            "{me} has {} reservations that are not over, which is the most: {}",
            others.len(),
            others.join(", ")
        );
        return refuse(what, "remove one with `hpc reserve remove`");
    }
    Ok(())
}

/// Whether all that somebody has reserved alone is no more than one may run.
pub(super) fn within_limits(
    cluster: &Cluster,
    now: Timestamp,
    who: &Principal,
    rules: &Rules,
) -> Result<(), Refusal> {
    let me = &*who.owner.name;
    let user = rules.users.get(me);
    let qos = user.and_then(|user| user.default_qos.clone());
    let partition = rules.default_partition().map(|one| one.name.as_str());
    let class = Class {
        partition: partition.unwrap_or_default().into(),
        account: user.map_or(DEFAULT, |user| &user.account).into(),
        qos: qos.as_deref().unwrap_or(NORMAL).into(),
        user: Arc::clone(&who.owner.name),
        uid: who.owner.uid,
    };
    let (nothing, mut sum) = (Tally::default(), Parts::new());
    let mut end = now;
    let mine = rules.reservations.values();
    for one in mine.filter(|one| is_for(one, me) && one.end > now) {
        sum = plus(&sum, &parts_of(one, &cluster.nodes, &cluster.emptied));
        end = end.max(one.end);
    }
    let check = Check {
        rules,
        tally: &nothing,
        now,
    };
    match check.holds(&class, &Held::by_parts(&sum, end), &nothing) {
        None => Ok(()),
        Some(hit) => {
            let what = format!("{me} would have reserved more than {me} may run: {hit}");
            let hint = "reserve less; `hpc limits` shows what holds for you";
            Err(Refusal::new(Code::NotPermitted, what, hint))
        }
    }
}

fn is_for(one: &Reservation, me: &str) -> bool {
    one.users.iter().eq([me]) && one.accounts.is_empty() && one.purpose == Purpose::Jobs
}

/// The rules with a place for this reservation.
pub(super) fn place(
    cluster: &Cluster,
    now: Timestamp,
    rules: Rules,
    name: &str,
) -> Result<Rules, Refusal> {
    let Some(wanted) = rules.reservations.get(name).cloned() else {
        return Ok(rules);
    };
    if wanted
        .times(now, Timestamp(i64::MAX / 4), 1)
        .next()
        .is_none()
    {
        let what = format!(
            "reservation {name} ends at {}, which has passed",
            show(wanted.end)
        );
        return Err(Refusal::new(
            Code::Invalid,
            what,
            "give an end that lies ahead",
        ));
    }
    for node in &wanted.nodes {
        if !cluster.nodes.values().any(|known| known.name() == node) {
            let what = format!("reservation {name}: there is no node `{node}`");
            return Err(Refusal::new(
                Code::UnknownNode,
                what,
                "`hpc nodes` lists them",
            ));
        }
    }
    let search = Search {
        cluster,
        now,
        rules: &rules,
        wanted: &wanted,
    };
    let before = cluster.rules.reservations.get(name);
    let Some(on) = search
        .stays(before)
        .or_else(|| search.at(wanted.start, wanted.end))
    else {
        return Err(search.refusal());
    };
    if let Some(before) = before.filter(|before| before.on != on)
        && search.is_in_use()
    {
        let names = |parts: &[KeptPart]| {
            let names = parts.iter().map(|part| part.node.as_str());
            names.collect::<Vec<_>>().join(",")
        };
        let what = format!(
            "reservation {name}: jobs run inside on {}, and it would be on {}",
            names(&before.on),
            names(&on),
        );
        let hint = "wait for their ends, or make another reservation beside it";
        return Err(Refusal::new(Code::Conflict, what, hint));
    }
    let mut rules = rules;
    if let Some(one) = rules.reservations.get_mut(name) {
        one.on = on;
    }
    Ok(rules)
}

fn show(at: Timestamp) -> String {
    at.to_rfc3339(&jiff::tz::TimeZone::UTC)
}

/// The search for a place.
struct Search<'a> {
    cluster: &'a Cluster,
    now: Timestamp,
    rules: &'a Rules,
    wanted: &'a Reservation,
}

impl Search<'_> {
    /// Where it is already, if what it wants is the same and that is free for as long as it wants it now.
    fn stays(&self, before: Option<&Reservation>) -> Option<Vec<KeptPart>> {
        let (before, wanted) = (before?, self.wanted);
        let what = |one: &Reservation| {
            let gpus = (one.gpus, one.gpu_kind.clone());
            (one.nodes.clone(), one.node_count, gpus, one.cpus)
        };
        let when = |one: &Reservation| (one.start, one.end, one.repeat, one.purpose);
        if what(before) != what(wanted) || before.on.is_empty() {
            return None;
        }
        let parts = parts_of(before, &self.cluster.nodes, &self.cluster.emptied);
        let same = when(before) == when(wanted);
        let free = || self.free(wanted.start, wanted.end).holds(&parts);
        (same || free()).then(|| before.on.clone())
    }

    /// Whether this is a job that runs inside.
    fn is_own(&self, id: JobId) -> bool {
        let job = self.cluster.job(id);
        let wish = job.and_then(|job| job.spec.request.wishes.reservation.as_ref());
        wish == Some(&self.wanted.name)
    }

    fn is_in_use(&self) -> bool {
        let mut running = self.cluster.occupancy.stays();
        running.any(|(key, _)| self.is_own(key.job))
    }

    /// What is free all the time from one point to another, and every time that comes after it.
    fn free(&self, start: Timestamp, end: Timestamp) -> NodePool {
        let mut pool = self.cluster.emptied.clone();
        if self.wanted.purpose == Purpose::Jobs {
            for (ends, key, parts) in self.cluster.occupancy.iter() {
                if ends > start && !self.is_own(key.job) {
                    pool.take(parts);
                }
            }
        }
        let moved = Reservation {
            start,
            end,
            ..self.wanted.clone()
        };
        for other in self.rules.reservations.values() {
            if other.name != self.wanted.name && self.meet(&moved, other) {
                pool.take(&parts_of(other, &self.cluster.nodes, &pool));
            }
        }
        pool
    }

    /// Whether two are ever on at once.
    fn meet(&self, one: &Reservation, other: &Reservation) -> bool {
        let until = self.now.plus_ms(AHEAD_MS).max(one.end);
        let others: Vec<_> = other.times(self.now, until, TIMES_MAX).collect();
        let mut times = one.times(self.now, until, TIMES_MAX);
        times.any(|(start, end)| others.iter().any(|(from, to)| start < *to && *from < end))
    }

    /// Where it would be then.
    fn at(&self, start: Timestamp, end: Timestamp) -> Option<Vec<KeptPart>> {
        let pool = self.free(start, end);
        let nodes = self.cluster.nodes.values();
        let there: Vec<(&Node, &Site, Free)> = nodes
            .filter_map(|node| {
                let site = pool.site(node.id)?;
                Some((&**node, site, pool.free_on(node.id)))
            })
            .collect();
        let whole = |(_, site, free): &&(&Node, &Site, Free)| *free == site.all();
        let kept = |(node, site, free): &(&Node, &Site, Free)| kept_part(node, site, *free);
        let wanted = self.wanted;
        if !wanted.nodes.is_empty() {
            let named = |(node, ..): &&(&Node, &Site, Free)| {
                wanted.nodes.iter().any(|name| name == node.name())
            };
            let parts: Vec<KeptPart> = there.iter().filter(named).filter(whole).map(kept).collect();
            return (parts.len() == wanted.nodes.len()).then_some(parts);
        }
        let working = there.iter().filter(|(node, ..)| node.accepts_work());
        if wanted.node_count > 0 {
            let count = wanted.node_count as usize;
            // The smallest first: larger ones serve others.
            let mut free: Vec<_> = working.filter(whole).collect();
            free.sort_by_key(|(node, site, _)| (site.cost_of_all(), node.id));
            let parts: Vec<KeptPart> = free.into_iter().take(count).map(kept).collect();
            return (parts.len() == count).then_some(parts);
        }
        let room = |site: &Site, free: Free| match wanted.gpus {
            0 => free.cpus,
            _ => site.gpus_free(&free, wanted.gpu_kind.as_deref()),
        };
        let total = if wanted.gpus > 0 {
            wanted.gpus
        } else {
            wanted.cpus
        };
        let mut shares: Vec<(u32, &Node, &Site, Free)> = working
            .map(|(node, site, free)| (room(site, *free), *node, *site, *free))
            .filter(|(room, ..)| *room > 0)
            .collect();
        // One node where one serves, the tightest; else those with most.
        let alone = shares.iter().filter(|(room, ..)| *room >= total);
        let alone = alone.filter_map(|one| Some((one.0, one.1.id, self.part(one, total)?)));
        if let Some((.., part)) = alone.min_by_key(|(room, id, _)| (*room, *id)) {
            return Some(vec![part]);
        }
        shares.sort_by_key(|(room, node, ..)| (Reverse(*room), node.id));
        let (mut left, mut parts) = (total, Vec::new());
        for one in &shares {
            let count = one.0.min(left);
            if let Some(part) = self.part(one, count).filter(|_| count > 0) {
                parts.push(part);
                left -= count;
            }
        }
        (left == 0).then_some(parts)
    }

    /// So many cpus or GPUs of a node, with their part of the rest of it, if that is free.
    fn part(
        &self,
        (_, node, site, free): &(u32, &Node, &Site, Free),
        count: u32,
    ) -> Option<KeptPart> {
        let all = site.all();
        let gpus_all: u32 = all.gpus.iter().map(|count| u32::from(*count)).sum();
        let (of, whole) = match self.wanted.gpus {
            0 => (count, all.cpus),
            _ => (count, gpus_all),
        };
        let share = |amount: u64| amount * u64::from(of) / u64::from(whole.max(1));
        let mut amount = Free {
            cpus: u32::try_from(share(u64::from(all.cpus)))
                .unwrap_or(u32::MAX)
                .max(1),
            memory_mib: share(all.memory_mib),
            ..Free::default()
        };
        if self.wanted.gpus > 0 {
            amount.gpus = site.take_gpus(free, self.wanted.gpu_kind.as_deref(), count)?;
        }
        (amount.least(*free) == amount).then(|| kept_part(node, site, amount))
    }

    /// What there is too little of, whoever has it.
    fn too_much(&self) -> Option<String> {
        let wanted = self.wanted;
        let nodes = self
            .cluster
            .nodes
            .values()
            .filter(|node| node.accepts_work());
        let sites = nodes.filter_map(|node| self.cluster.emptied.site(node.id));
        let (mut count, mut cpus, mut gpus) = (0u32, 0u32, 0u32);
        for site in sites {
            count += 1;
            cpus = cpus.saturating_add(site.all().cpus);
            gpus = gpus.saturating_add(site.gpus_free(&site.all(), wanted.gpu_kind.as_deref()));
        }
        let kind = wanted
            .gpu_kind
            .as_deref()
            .map_or(String::new(), |kind| format!("{kind} "));
        let beyond = [
            (wanted.gpus, gpus, format!("{kind}GPUs")),
            (wanted.cpus, cpus, "cpus".to_owned()),
            (wanted.node_count, count, "nodes".to_owned()),
        ];
        let mut beyond = beyond.into_iter().filter(|(asked, there, _)| asked > there);
        let (asked, there, what) = beyond.next()?;
        Some(format!(
            "{asked} {what} are wanted, nodes that take work have {there}"
        ))
    }

    fn refusal(&self) -> Refusal {
        let wanted = self.wanted;
        if let Some(why) = self.too_much() {
            let what = format!("reservation {}: {why}", wanted.name);
            return Refusal::new(Code::Impossible, what, "see `hpc nodes` for what there is");
        }
        let (start, end) = (wanted.start, wanted.end);
        let what = format!(
            "reservation {}: what it wants is not free from {} to {}{}",
            wanted.name,
            show(start),
            show(end),
            self.holders(),
        );
        let length_ms = end.minus(start);
        let from = start.max(self.now);
        // Something changes only when something ends.
        let ends = self.cluster.occupancy.iter().map(|(ends, ..)| ends);
        let others = self.rules.reservations.values().flat_map(|other| {
            let until = self.now.plus_ms(AHEAD_MS);
            other.times(self.now, until, TIMES_MAX).map(|(_, end)| end)
        });
        let ends: BTreeSet<Timestamp> = ends
            .chain(others)
            .filter(|at| *at > from && *at < NEVER)
            .collect();
        let mut tried = ends.into_iter().take(TRIED_MAX);
        let earliest = tried.find(|at| self.at(*at, at.plus_ms(length_ms)).is_some());
        let hint = match earliest {
            Some(at) => format!(
                "for {} it is free from {}",
                format_duration(u64::try_from(length_ms / 1000).unwrap_or(0)),
                show(at)
            ),
            None => {
                "ask for less: `hpc nodes` shows what there is, `hpc reserve list` what is taken"
                    .to_owned()
            }
        };
        Refusal::new(Code::Conflict, what, hint)
    }

    /// Who holds what it names.
    fn holders(&self) -> String {
        let nodes: Vec<NodeId> = self
            .cluster
            .nodes
            .values()
            .filter(|node| {
                let names = &self.wanted.nodes;
                names.is_empty() || names.iter().any(|name| name == node.name())
            })
            .map(|node| node.id)
            .collect();
        let holds = |parts: &Parts| parts.iter().any(|part| nodes.contains(&part.node));
        let start = self.wanted.start;
        let jobs: BTreeSet<JobId> = self
            .cluster
            .occupancy
            .iter()
            .filter(|(ends, key, parts)| *ends > start && holds(parts) && !self.is_own(key.job))
            .map(|(_, key, _)| key.job)
            .collect();
        let reserved = self
            .rules
            .reservations
            .values()
            .filter(|other| other.name != self.wanted.name && self.meet(self.wanted, other));
        let jobs = jobs.iter().take(5).map(|id| format!("job {id}"));
        let all: Vec<String> = jobs
            .chain(
                reserved
                    .take(5)
                    .map(|one| format!("reservation {}", one.name)),
            )
            .collect();
        match all.as_slice() {
            [] => String::new(),
            all => format!(" (in the way: {})", all.join(", ")),
        }
    }
}

fn kept_part(node: &Node, site: &Site, amount: Free) -> KeptPart {
    let kinds = site.kinds().iter().zip(amount.gpus);
    KeptPart {
        node: node.name().to_owned(),
        cpus: amount.cpus,
        memory_mib: amount.memory_mib,
        gpus: kinds
            .filter(|(_, count)| *count > 0)
            .map(|(kind, count)| (kind.to_string(), u32::from(count)))
            .collect(),
    }
}

/// The time limit of a job that says none: what there is of its reservation.
pub(super) fn time_unasked_s(cluster: &Cluster, now: Timestamp, spec: &JobSpec) -> Option<u32> {
    let name = spec.request.wishes.reservation.as_ref()?;
    let known = cluster.rules.reservations.get(name)?;
    let next = known.times(now, Timestamp(i64::MAX / 4), 1).next();
    let (start, end) = next?;
    // Whole minutes, and a little of it is gone by the time it starts.
    let minutes = (end.minus(start.max(now)) - 5_000).max(60_000) / 60_000;
    u32::try_from(minutes * 60).ok()
}

/// Whether this person may submit into the reservation that is asked for.
pub(super) fn check_asked(
    cluster: &Cluster,
    now: Timestamp,
    owner: &Owner,
    spec: &JobSpec,
) -> Result<(), Refusal> {
    let Some(name) = &spec.request.wishes.reservation else {
        return Ok(());
    };
    let rules = &cluster.rules;
    let Some(known) = rules.reservations.get(name) else {
        return Err(rules.unknown(Noun::Reservation, name));
    };
    if !known.admits(&owner.name, &spec.account) {
        let what = format!(
            "reservation `{name}` is not for {} in account {}",
            owner.name, spec.account
        );
        let hint = match known.purpose {
            Purpose::Maintenance => "it is for work on the machines".to_owned(),
            Purpose::Jobs => format!(
                "it is for: {}",
                [known.users.join(", "), known.accounts.join(", ")].join(" ")
            ),
        };
        return Err(Refusal::new(Code::NotPermitted, what, hint.trim_end()));
    }
    let length_ms = known.end.minus(known.start);
    if known
        .times(now, Timestamp(i64::MAX / 4), 1)
        .next()
        .is_none()
    {
        let what = format!("reservation `{name}` ended at {}", show(known.end));
        return Err(Refusal::new(
            Code::Invalid,
            what,
            "`hpc reserve list` shows those that have not",
        ));
    }
    let parts = parts_of(known, &cluster.nodes, &cluster.emptied);
    let pool = cluster.emptied.only(&parts);
    let serves = serving(&spec.request, owner, rules, &spec.partition);
    let there = |id| cluster.nodes.get(&id).is_some_and(|node| serves(node));
    if !pool.fits(&pool.ask(&spec.request, there)) {
        let what = format!("it does not fit into reservation `{name}`");
        let on = crate::model::reservation::show_on(&known.on);
        return Err(Refusal::new(
            Code::Impossible,
            what,
            format!("that has {on}"),
        ));
    }
    let limit_ms = spec
        .time_limit_s
        .map_or(i64::MAX, |limit_s| i64::from(limit_s) * 1000);
    let left_ms = match known.repeat {
        Repeat::Once => known.end.minus(now.max(known.start)),
        Repeat::Daily | Repeat::Weekly => length_ms,
    };
    if limit_ms > left_ms && left_ms < length_ms {
        let left = format_duration(u64::try_from(left_ms / 1000).unwrap_or(0));
        let what = format!("reservation `{name}` ends before the job might: {left} are left of it");
        return Err(Refusal::new(
            Code::Invalid,
            what,
            format!("give a --time of at most {left}"),
        ));
    }
    if limit_ms > length_ms {
        let what = format!(
            "a time limit of {} is longer than reservation `{name}`",
            spec.time_limit_s.map_or_else(
                || "none".to_owned(),
                |limit_s| format_duration(u64::from(limit_s))
            ),
        );
        let length = format_duration(u64::try_from(length_ms / 1000).unwrap_or(0));
        return Err(Refusal::new(
            Code::Invalid,
            what,
            format!("it lasts {length}: give a --time within that"),
        ));
    }
    Ok(())
}
