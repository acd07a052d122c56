//! Why a job waits, until when, and what would start it sooner.
//!
//! Everything said here is planned, not guessed: the start is a [`forecast`], and each suggestion is a forecast of the job
//! as it would be.

use super::backfill::{Pass, Running};
use super::bookings::{self, Stage};
use super::evict::takes;
use super::forecast::{Assume, Forecast, Outlook, forecast};
use super::lend::stands_still;
use super::length_ms;
use super::nodes::{Parts, cpus_among, less};
use super::pool::Pool;
use super::queue::Class;
use crate::model::ids::{JobId, NodeId, SlotKey};
use crate::model::job::{Job, JobSpec};
use crate::model::resource::{GpuCount, GpuRequest, Request};
use crate::model::time::{Timestamp, format_duration};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

/// How run times have compared with limits, in thousandths of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Experience {
    /// A twentieth of the jobs ran for a smaller part.
    pub low_milli: u32,
    /// The mean: how soon a queue shrinks is a matter of sums, and few long jobs hold more than many short ones.
    pub mean_milli: u32,
    /// All but a twentieth ran for a smaller part.
    pub high_milli: u32,
}

impl Default for Experience {
    /// Before anything has ended: people ask for about three times what they need, and some for all of it.
    fn default() -> Self {
        Experience {
            low_milli: 10,
            mean_milli: 300,
            high_milli: 1000,
        }
    }
}

impl Experience {
    /// From the parts of their limits that jobs ran for, in thousandths; too few of them say nothing.
    #[must_use]
    pub fn of(mut parts_milli: Vec<u32>) -> Self {
        if parts_milli.len() < 20 {
            return Experience::default();
        }
        parts_milli.sort_unstable();
        let at = |part: usize| parts_milli[parts_milli.len() * part / 100].clamp(1, 1000);
        let sum: u64 = parts_milli.iter().map(|part| u64::from(*part)).sum();
        let mean = sum / parts_milli.len() as u64;
        Experience {
            low_milli: at(5),
            mean_milli: u32::try_from(mean).unwrap_or(1000).clamp(1, 1000),
            high_milli: at(95),
        }
    }
}

/// When a job starts, by what runs and waits now. What comes later and goes before it is not foreseen.
///
/// How often it starts within the interval, `hpc sim --foretell` counts. All others are thought to run for the same part of
/// their limits. Draws for each by itself give intervals half as wide, which hold in 6 of 10 cases only: jobs of one time are
/// alike, and later ones go before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    /// If all run for the mean part of their limits.
    pub expected: Timestamp,
    /// If all end as early as a twentieth did.
    pub earliest: Timestamp,
    /// If all run as long as a twentieth did.
    pub latest: Timestamp,
}

/// Who holds what a job waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The job.
    pub job: JobId,
    /// Where.
    pub node: NodeId,
    /// Until then at the latest.
    pub until: Timestamp,
}

/// A change of the request, and when the job would start with it at the latest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suggestion {
    /// As an option: `--time=1:00:00`.
    pub option: String,
    /// The specification with it.
    pub spec: Arc<JobSpec>,
    /// The start at the latest.
    pub starts: Timestamp,
}

/// What is to say of a job that waits for its turn or for room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Why {
    /// When it starts; none = nothing that runs or waits will ever let it.
    pub start: Option<Start>,
    /// Jobs that start before it, in order.
    pub ahead: Vec<JobId>,
    /// How many there are.
    pub ahead_count: usize,
    /// Who holds the nodes that it is first to get, last to end first.
    pub holders: Vec<Holder>,
    /// The nodes that it is first to get, were it alone.
    pub nodes: Vec<NodeId>,
    /// Changes that would start it sooner, the least first.
    pub suggestions: Vec<Suggestion>,
    /// Licences that it lacks: how many are free, and how many there are.
    pub licenses: Vec<(String, u32, u32)>,
    /// Reservations of others on those nodes before it would have ended: name, begin, end.
    pub reservations: Vec<(String, Timestamp, Timestamp)>,
}

/// Most jobs and holders that are named.
const NAMED_MAX: usize = 5;
/// Most changes that are planned, and that are suggested.
const TRIED_MAX: usize = 16;
const SUGGESTED_MAX: usize = 3;
/// A suggestion must save this part of the wait, in percent.
const SAVES_PERCENT: i64 = 20;

/// When a job starts.
#[must_use]
pub fn start(
    outlook: &Outlook,
    now: Timestamp,
    experience: Experience,
    id: JobId,
) -> Option<Start> {
    let at = |part_milli| {
        let seen = forecast(outlook, now, Assume { part_milli }, Some(id));
        seen.starts.get(&id).copied()
    };
    let expected = at(experience.mean_milli)?;
    Some(Start {
        expected,
        earliest: at(experience.low_milli).unwrap_or(expected).min(expected),
        latest: at(experience.high_milli).unwrap_or(expected).max(expected),
    })
}

/// Why this job waits. It must be in the queue.
#[must_use]
pub fn why(outlook: &Outlook, now: Timestamp, experience: Experience, job: &Arc<Job>) -> Why {
    let latest = forecast(outlook, now, Assume::LIMITS, Some(job.id));
    let promised = latest.starts.get(&job.id).copied();
    let (ahead, ahead_count) = ahead(&latest, job.id, promised);
    let (nodes, holders) = holders(outlook, now, job);
    let reservations = in_the_way(outlook, now, job);
    Why {
        start: start(outlook, now, experience, job.id),
        ahead,
        ahead_count,
        holders,
        nodes,
        suggestions: suggestions(outlook, now, job, promised),
        licenses: lacking(outlook, job),
        reservations,
    }
}

fn ahead(seen: &Forecast, id: JobId, promised: Option<Timestamp>) -> (Vec<JobId>, usize) {
    let before = |at: Timestamp| promised.is_none_or(|promised| at <= promised);
    let mut ahead: Vec<(Timestamp, JobId)> = seen
        .starts
        .iter()
        .filter(|(other, at)| **other != id && before(**at))
        .map(|(other, at)| (*at, *other))
        .collect();
    ahead.sort_unstable();
    let named = ahead.iter().take(NAMED_MAX).map(|(_, id)| *id);
    (named.collect(), ahead.len())
}

/// Licences of which too few are free.
fn lacking(outlook: &Outlook, job: &Job) -> Vec<(String, u32, u32)> {
    let wanted = job.spec.request.wishes.licenses.iter();
    let lacking = wanted.filter_map(|wish| {
        let mut known = outlook.pool.licenses();
        let (name, free, all) = known.find(|(name, ..)| *name == wish.name)?;
        (free < wish.count).then(|| (name.to_owned(), free, all))
    });
    lacking.collect()
}

/// Reservations of others without which the job would start sooner, were it alone.
fn in_the_way(outlook: &Outlook, now: Timestamp, job: &Job) -> Vec<(String, Timestamp, Timestamp)> {
    if job.spec.request.wishes.reservation.is_some() || outlook.bookings.is_empty() {
        return Vec::new();
    }
    let length = length_ms(job.spec.time_limit_s);
    let alone = |view: &super::View<'_>| {
        let stage = Stage::open(view, now);
        let view = stage.view(view);
        let ask = view.ask_of(job, now);
        let mut pass = Pass::new(now.0, view.pool.clone());
        bookings::book(&mut pass, &view, now);
        if pass.find(&ask, length).is_some() {
            return Some(now.0);
        }
        let running = view.occupancy.iter().map(|(ends, _, share)| Running {
            ends: ends.0.max(now.0),
            share,
        });
        pass.reserve(&ask, length, running)
    };
    let view = outlook.view();
    let nothing = bookings::Bookings::default();
    let free = alone(&super::View {
        bookings: &nothing,
        ..view
    });
    let Some(free) = free.filter(|free| alone(&view) != Some(*free)) else {
        return Vec::new();
    };
    // Those that overlap with the time it would have then.
    let until = free.saturating_add(length);
    let mut seen: Vec<(String, Timestamp, Timestamp)> = Vec::new();
    for one in view.bookings.after(now) {
        let meets = one.start.0 < until && one.end.0 > free;
        if meets && !seen.iter().any(|(name, ..)| **name == *one.name) {
            seen.push((one.name.to_string(), one.start, one.end));
        }
    }
    seen.truncate(NAMED_MAX);
    seen
}

/// The nodes a job would be first to get, were it the only one that waits, and who is in its way there.
fn holders(outlook: &Outlook, now: Timestamp, job: &Job) -> (Vec<NodeId>, Vec<Holder>) {
    let whole = outlook.view();
    let inside = match &job.spec.request.wishes.reservation {
        Some(name) => match whole.bookings.find_on(name, now) {
            Some(booking) => Some(booking),
            None => return (Vec::new(), Vec::new()),
        },
        None => None,
    };
    let stage = match inside {
        Some(booking) => Stage::inside(&whole, booking, now),
        None => Stage::open(&whole, now),
    };
    let view = stage.view(&whole);
    let ask = view.ask_of(job, now);
    // Those who stand still for it lend their cpus at once, and keep the rest.
    let class = Class::of(job);
    let may = takes(view.rules, &class);
    let lends = |key: SlotKey| {
        let holder = view.jobs.get(&key.job).filter(|_| may);
        let holder = holder.map(|holder| Class::of(holder));
        holder.is_some_and(|holder| stands_still(view.rules, &class, &holder).is_some())
    };
    let mut pool = view.pool.clone();
    let mut slots: Vec<(i64, Cow<'_, Parts>)> = Vec::new();
    for (ends, key, parts) in view.occupancy.iter() {
        let mut held = Cow::Borrowed(parts);
        if let Some(frees) = view.occupancy.frees(key).filter(|_| lends(key)) {
            pool.give(&cpus_among(&frees));
            held = Cow::Owned(less(parts, &cpus_among(parts)));
        }
        slots.push((ends.0.max(now.0), held));
    }
    let running = slots.iter().map(|(ends, share)| Running {
        ends: *ends,
        share: &**share,
    });
    let mut pass = Pass::new(now.0, pool);
    if inside.is_none() {
        bookings::book(&mut pass, &view, now);
    }
    let Some(shadow) = pass.reserve(&ask, length_ms(job.spec.time_limit_s), running) else {
        return (Vec::new(), Vec::new());
    };
    let Some(kept) = pass.kept().last() else {
        return (Vec::new(), Vec::new());
    };
    // Licences are held like nodes.
    let nodes: Vec<NodeId> = kept.share.iter().map(|part| part.node).collect();
    let mut holders: Vec<Holder> = outlook
        .occupancy
        .iter()
        .take_while(|(ends, ..)| ends.0 <= shadow)
        .flat_map(|(until, key, parts)| {
            let parts = parts.iter().filter(|part| nodes.contains(&part.node));
            parts.map(move |part| Holder {
                job: key.job,
                node: part.node,
                until,
            })
        })
        .collect();
    holders.sort_by_key(|holder| (std::cmp::Reverse(holder.until), holder.job));
    holders.truncate(NAMED_MAX);
    let nodes = nodes
        .into_iter()
        .filter(|node| outlook.nodes.contains_key(node));
    (nodes.collect(), holders)
}

fn suggestions(
    outlook: &Outlook,
    now: Timestamp,
    job: &Arc<Job>,
    promised: Option<Timestamp>,
) -> Vec<Suggestion> {
    let wait = promised.map(|at| at.minus(now));
    let mut found: Vec<Suggestion> = Vec::new();
    let mut said: BTreeMap<&'static str, Timestamp> = BTreeMap::new();
    for (kind, option, spec) in candidates(outlook, now, job).into_iter().take(TRIED_MAX) {
        // A greater change of the same kind has to bring more.
        let best = said.get(kind).copied().or(promised);
        let spec = Arc::new(spec);
        let Some(starts) = with(outlook, now, job, &spec) else {
            continue;
        };
        let saves = |than: Timestamp| {
            let wait = wait.unwrap_or(i64::MAX / 200);
            than.minus(starts) * 100 >= wait.max(1) * SAVES_PERCENT
        };
        if best.is_some_and(|best| !saves(best)) {
            continue;
        }
        said.insert(kind, starts);
        found.push(Suggestion {
            option,
            spec,
            starts,
        });
        if found.len() >= SUGGESTED_MAX {
            break;
        }
    }
    found
}

/// When the job would start at the latest if it were asked for so.
#[must_use]
pub fn with(
    outlook: &Outlook,
    now: Timestamp,
    job: &Arc<Job>,
    spec: &Arc<JobSpec>,
) -> Option<Timestamp> {
    let mut other = outlook.clone();
    other.queue.leave(job);
    let mut after = (**job).clone();
    after.spec = Arc::clone(spec);
    other.queue.enter(&after);
    other.jobs.insert(after.id, Arc::new(after));
    let seen = forecast(&other, now, Assume::LIMITS, Some(job.id));
    seen.starts.get(&job.id).copied()
}

/// Changes worth a try, the least first: kind, option, specification.
fn candidates(
    outlook: &Outlook,
    now: Timestamp,
    job: &Job,
) -> Vec<(&'static str, String, JobSpec)> {
    let mut found = Vec::new();
    let spec = &*job.spec;
    for partition in outlook.rules.partitions.values() {
        let fits = partition
            .max_time_s
            .is_none_or(|most| spec.time_limit_s.is_some_and(|limit_s| limit_s <= most));
        let open = partition.up && partition.accounts.is_empty() && partition.qos.is_empty();
        if *partition.name != *spec.partition && fits && open {
            let other = JobSpec {
                partition: partition.name.as_str().into(),
                ..spec.clone()
            };
            found.push((
                "partition",
                format!("--partition={}", partition.name),
                other,
            ));
        }
    }
    if let Some(limit_s) = spec.time_limit_s {
        for limit_s in limits(outlook, now, limit_s) {
            let option = format!("--time={}", format_duration(u64::from(limit_s)));
            let other = JobSpec {
                time_limit_s: Some(limit_s),
                ..spec.clone()
            };
            found.push(("time", option, other));
        }
    }
    let request = &*spec.request;
    let mut ask = |kind, option: String, request: Request| {
        let other = JobSpec {
            request: Arc::new(request),
            ..spec.clone()
        };
        found.push((kind, option, other));
    };
    if request.exclusive {
        let other = Request {
            exclusive: false,
            ..request.clone()
        };
        ask("exclusive", "without --exclusive".to_owned(), other);
    }
    if request.wishes.switches.is_some() {
        let mut other = request.clone();
        other.wishes.switches = None;
        ask("switches", "without --switches".to_owned(), other);
    }
    if !request.nodelist.is_empty() {
        let other = Request {
            nodelist: Vec::new(),
            ..request.clone()
        };
        ask("nodelist", "without --nodelist".to_owned(), other);
    }
    if let GpuRequest::PerNode(count) | GpuRequest::PerTask(count) | GpuRequest::Total(count) =
        &request.gpus
    {
        let with = |count: GpuCount| match &request.gpus {
            GpuRequest::PerNode(_) => GpuRequest::PerNode(count),
            GpuRequest::PerTask(_) => GpuRequest::PerTask(count),
            GpuRequest::Total(_) | GpuRequest::None => GpuRequest::Total(count),
        };
        if count.kind.is_some() {
            let gpus = with(GpuCount {
                kind: None,
                count: count.count,
            });
            let other = Request {
                gpus,
                ..request.clone()
            };
            ask(
                "gpu kind",
                format!(
                    "any kind of GPU (now {})",
                    count.kind.as_deref().unwrap_or_default()
                ),
                other,
            );
        }
        for fewer in halves(count.count) {
            let gpus = with(GpuCount {
                kind: count.kind.clone(),
                count: fewer,
            });
            let other = Request {
                gpus,
                ..request.clone()
            };
            ask(
                "gpus",
                format!("{fewer} GPUs instead of {}", count.count),
                other,
            );
        }
    }
    for fewer in halves(request.cpus_per_task_or_default()) {
        let other = Request {
            cpus_per_task: Some(fewer),
            ..request.clone()
        };
        ask("cpus", format!("--cpus-per-task={fewer}"), other);
    }
    found
}

/// Shorter limits: such that the job would end before others begin that are kept a place, and halves.
fn limits(outlook: &Outlook, now: Timestamp, limit_s: u32) -> Vec<u32> {
    let mut limits: Vec<u32> = halves(limit_s)
        .into_iter()
        .filter(|half| *half >= 60)
        .collect();
    let (plan, _) = super::sketch(&outlook.view(), now, outlook.policy);
    for (_, shadow) in plan.kept {
        if let Ok(gap_s) = u32::try_from(shadow.minus(now) / 1000)
            && (60..limit_s).contains(&gap_s)
        {
            // People write minutes.
            limits.push(gap_s / 60 * 60);
        }
    }
    limits.sort_unstable_by_key(|limit| std::cmp::Reverse(*limit));
    limits.dedup();
    limits
}

/// A half, a quarter, and so on down to 1.
fn halves(count: u32) -> Vec<u32> {
    std::iter::successors(Some(count / 2), |half| Some(half / 2))
        .take_while(|half| *half >= 1)
        .take(4)
        .collect()
}
