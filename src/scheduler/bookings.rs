//! Reservations as the planner sees them: parts of nodes that are kept for some from one time to another.
//!
//! To jobs of nobody a reservation is a job that exists already: before it begins a place that is kept, while it is on
//! something that holds what its own jobs do not. To its own jobs it is a cluster of its own ([`Stage::inside`]): they are
//! planned on what it has, and only while it is on.

use super::backfill::{Pass, Running};
use super::nodes::{Free, NodePool, Part, Parts};
use super::occupancy::{Occupancy, Stay};
use super::pool::Pool;
use super::queue::GroupKey;
use super::{View, length_ms};
use crate::model::ids::{JobId, NodeId, SlotId, SlotKey};
use crate::model::job::Job;
use crate::model::node::Node;
use crate::model::reservation::Reservation;
use crate::model::rules::Rules;
use crate::model::time::Timestamp;
use imbl::OrdMap;
use std::collections::BTreeMap;
use std::sync::Arc;

/// How far ahead reservations are looked at; milliseconds.
const AHEAD_MS: i64 = 62 * 86_400_000;
/// How far ahead starts are told where something comes again; milliseconds.
const KNOWN_MS: i64 = 31 * 86_400_000;
/// Most times of one reservation that are looked at, and of all.
const TIMES_MAX: usize = 64;
const ALL_MAX: usize = 256;

/// A reservation at one of its times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Booking {
    /// Which reservation.
    pub name: Arc<str>,
    /// When it begins.
    pub start: Timestamp,
    /// When it ends.
    pub end: Timestamp,
    /// What it has.
    pub parts: Parts,
}

/// All that is booked, by start.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Bookings {
    list: Vec<Booking>,
    /// Of what comes again later nothing is known here.
    until: Option<Timestamp>,
}

/// What a reservation has, in numbers; of nodes that there are.
#[must_use]
pub fn parts_of(
    reservation: &Reservation,
    nodes: &OrdMap<NodeId, Arc<Node>>,
    pool: &NodePool,
) -> Parts {
    let kept = reservation.on.iter();
    kept.filter_map(|kept| {
        let node = nodes.values().find(|node| node.name() == kept.node)?;
        let site = pool.site(node.id)?;
        let mut amount = Free {
            cpus: kept.cpus,
            memory_mib: kept.memory_mib,
            ..Free::default()
        };
        for (kind, count) in &kept.gpus {
            // A kind that has gone keeps nothing; the rest is kept.
            if let Some(at) = site.kind_of(kind) {
                amount.gpus[at] = u16::try_from(*count).unwrap_or(u16::MAX);
            }
        }
        Some(Part {
            node: node.id,
            tasks: 0,
            amount,
        })
    })
    .collect()
}

impl Bookings {
    /// As the rules have them, from now on.
    #[must_use]
    pub fn of(
        rules: &Rules,
        nodes: &OrdMap<NodeId, Arc<Node>>,
        pool: &NodePool,
        now: Timestamp,
    ) -> Self {
        let until = now.plus_ms(AHEAD_MS);
        let mut list = Vec::new();
        for reservation in rules.reservations.values() {
            let parts = parts_of(reservation, nodes, pool);
            let name: Arc<str> = reservation.name.as_str().into();
            for (start, end) in reservation.times(now, until, TIMES_MAX) {
                list.push(Booking {
                    name: Arc::clone(&name),
                    start,
                    end,
                    parts: parts.clone(),
                });
            }
        }
        list.sort_by(|one, other| (one.start, &one.name).cmp(&(other.start, &other.name)));
        list.truncate(ALL_MAX);
        let repeats = |one: &Reservation| one.repeat.period_ms().is_some();
        let repeats = rules.reservations.values().any(repeats);
        let known = now.plus_ms(KNOWN_MS);
        Bookings {
            list,
            until: repeats.then_some(known),
        }
    }

    /// Until when a start can be told: jobs that start later may meet what is not seen yet.
    #[must_use]
    pub fn known_until(&self) -> Timestamp {
        self.until.unwrap_or(super::occupancy::NEVER)
    }

    /// Whether nothing is booked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Those that have not ended, by start.
    pub fn after(&self, now: Timestamp) -> impl Iterator<Item = &Booking> {
        self.list.iter().filter(move |one| one.end > now)
    }

    /// Those that are on.
    pub fn on(&self, now: Timestamp) -> impl Iterator<Item = &Booking> {
        self.after(now).filter(move |one| one.start <= now)
    }

    /// This reservation, if it is on.
    #[must_use]
    pub fn find_on(&self, name: &str, now: Timestamp) -> Option<&Booking> {
        self.on(now).find(|one| *one.name == *name)
    }

    /// The next time at which one begins or ends.
    #[must_use]
    pub fn next_edge(&self, now: Timestamp) -> Option<Timestamp> {
        let edges = self.list.iter().flat_map(|one| [one.start, one.end]);
        edges.filter(|at| *at > now).min()
    }

    /// Why a job of this reservation does not start now though others may.
    #[must_use]
    pub fn why(&self, rules: &Rules, key: &GroupKey, now: Timestamp) -> String {
        let name = key.reservation().unwrap_or_default();
        let Some(known) = rules.reservations.get(name) else {
            return format!("reservation {name} was removed");
        };
        if !known.admits(&key.class.user, &key.class.account) {
            return format!("reservation {name} is for others");
        }
        if length_ms(key.limit_s) > known.end.minus(known.start) {
            return format!("its time limit is longer than reservation {name}");
        }
        let next = known.times(now, Timestamp(i64::MAX / 4), 1).next();
        match next {
            Some((start, _)) if start > now => format!(
                "reservation {name} begins at {}",
                start.to_rfc3339(&jiff::tz::TimeZone::UTC)
            ),
            Some(_) => format!("the nodes of reservation {name} are not there"),
            None => format!("reservation {name} is over: cancel the job"),
        }
    }
}

/// The reservation a job asks for.
fn wish(job: &Job) -> Option<&str> {
    job.spec.request.wishes.reservation.as_deref()
}

/// What a pass is about: all that is not reserved, or a reservation.
#[derive(Debug)]
pub struct Stage {
    pool: NodePool,
    emptied: NodePool,
    occupancy: Occupancy,
}

/// The least of what is given and what is left, node by node.
fn least(parts: &Parts, of: impl Fn(&Part) -> Free) -> Parts {
    let parts = parts.iter().map(|part| Part {
        amount: part.amount.least(of(part)),
        ..*part
    });
    parts.collect()
}

impl Stage {
    /// What is not reserved now. What is reserved later is for [`book`].
    #[must_use]
    pub fn open(view: &View<'_>, now: Timestamp) -> Self {
        let mut pool = view.pool.clone();
        let mut occupancy = view.occupancy.clone();
        let inside = members(view, now);
        for keys in inside.values() {
            for key in keys {
                occupancy.leave(*key);
            }
        }
        for (booking, at) in view.bookings.on(now).zip(1..) {
            let used = used(view, inside.get(&*booking.name));
            let left = least(&booking.parts, |part| {
                let used = used.get(&part.node).copied().unwrap_or_default();
                part.amount.minus(used)
            });
            pool.take(&left);
            // It holds all of it until its end, whatever its own jobs do.
            let key = SlotKey {
                job: JobId(u32::MAX - at),
                slot: SlotId(0),
            };
            let stay = Stay::new(booking.start, booking.end);
            occupancy.enter(key, stay, booking.parts.clone());
        }
        Stage {
            pool,
            emptied: view.emptied.clone(),
            occupancy,
        }
    }

    /// What a reservation has, and what of it its jobs hold.
    #[must_use]
    pub fn inside(view: &View<'_>, booking: &Booking, now: Timestamp) -> Self {
        let inside = members(view, now);
        let keys = inside.get(&*booking.name);
        let used = used(view, keys);
        // Somebody else's may still run there.
        let free = least(&booking.parts, |part| {
            let used = used.get(&part.node).copied().unwrap_or_default();
            part.amount.minus(used).least(view.pool.free_on(part.node))
        });
        let mut occupancy = Occupancy::default();
        for key in keys.into_iter().flatten() {
            if let Some((stay, parts)) = view.occupancy.stay(*key).zip(view.occupancy.parts(*key)) {
                occupancy.enter(*key, stay, parts.clone());
                if let Some(sharing) = view.occupancy.sharing(*key) {
                    occupancy.share(*key, sharing.clone());
                }
            }
        }
        Stage {
            pool: view.pool.only(&free),
            emptied: view.emptied.only(&booking.parts),
            occupancy,
        }
    }

    /// The view with this in place of all.
    pub fn view<'s>(&'s self, view: &View<'s>) -> View<'s> {
        View {
            pool: &self.pool,
            emptied: &self.emptied,
            occupancy: &self.occupancy,
            ..*view
        }
    }
}

/// What runs inside reservations that are on, by their names.
fn members<'v>(view: &View<'v>, now: Timestamp) -> BTreeMap<&'v str, Vec<SlotKey>> {
    let mut inside: BTreeMap<&str, Vec<SlotKey>> = BTreeMap::new();
    for (key, _) in view.occupancy.stays() {
        let wish = view.jobs.get(&key.job).and_then(|job| wish(job));
        if let Some(name) = wish.filter(|name| view.bookings.find_on(name, now).is_some()) {
            inside.entry(name).or_default().push(key);
        }
    }
    inside
}

/// What these hold, node by node.
fn used(view: &View<'_>, keys: Option<&Vec<SlotKey>>) -> BTreeMap<NodeId, Free> {
    let mut used: BTreeMap<NodeId, Free> = BTreeMap::new();
    let parts = keys.into_iter().flatten();
    for part in parts.filter_map(|key| view.occupancy.parts(*key)).flatten() {
        let sum = used.entry(part.node).or_default();
        *sum = sum.plus(part.amount);
    }
    used
}

/// Nodes on which what runs stays into a reservation and takes of what that has, and from when on: whoever leaves there
/// leaves room for that and for nobody else.
#[must_use]
pub fn crowded(view: &View<'_>, now: Timestamp) -> Vec<(NodeId, Timestamp)> {
    let mut crowded = Vec::new();
    for booking in view.bookings.after(now) {
        let from = booking.start.max(now);
        for part in &booking.parts {
            let Some(site) = view.pool.site(part.node) else {
                continue;
            };
            let mut held = part.amount;
            for (ends, key, parts) in view.occupancy.iter() {
                let inside = view
                    .jobs
                    .get(&key.job)
                    .is_none_or(|job| wish(job).is_some_and(|name| *name == *booking.name));
                if ends > from && !inside {
                    let there = parts.iter().filter(|one| one.node == part.node);
                    there.for_each(|one| held = held.plus(one.amount));
                }
            }
            if held.least(site.all()) != held {
                crowded.push((part.node, from));
            }
        }
    }
    crowded
}

/// Keeps the places of what is booked for later.
pub fn book(pass: &mut Pass<NodePool>, view: &View<'_>, now: Timestamp) {
    for booking in view.bookings.after(now).filter(|one| one.start > now) {
        let running = view.occupancy.iter().map(|(ends, _, share)| Running {
            ends: ends.0.max(now.0),
            share,
        });
        pass.book(booking.start.0, booking.end.0, &booking.parts, running);
    }
}
