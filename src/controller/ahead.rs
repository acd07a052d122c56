//! What lies ahead: when jobs will start, why they wait, who stands where. Worked out beside the loop, on a copy of its
//! books.

use super::queries::blocking;
use super::run::{Message, Shared, now};
use crate::cluster::rule_views::{self, JobOf};
use crate::cluster::views::pending_reason;
use crate::cluster::{Principal, Snapshot, select};
use crate::model::ids::JobId;
use crate::model::job::{Job, JobState, Owner, Reason, Slot};
use crate::model::refusal::{Code, Refusal};
use crate::model::time::Timestamp;
use crate::scheduler::explain::{self, Experience, Why};
use crate::scheduler::forecast::{Assume, Forecast, Outlook, forecast};
use crate::scheduler::nodes::Part;
use crate::scheduler::queue::Class;
use crate::scheduler::{jobs_ahead, occupancy};
use crate::wire::client::ToClient;
use crate::wire::view::{
    HolderView, JobOfView, PriorityView, ShareView, StartView, SuggestionView, WhyView,
};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Between two looks ahead.
const PAUSE: Duration = Duration::from_secs(2);
/// A look may take such a part of the time: one in so many.
const PAUSE_FACTOR: u32 = 20;

async fn outlook(shared: &Shared) -> Result<(Box<Outlook>, Experience), Refusal> {
    let (answer, heard) = oneshot::channel();
    let stopping = || {
        let what = "the controller is stopping";
        Refusal::new(Code::Failed, what, "try again once it is back")
    };
    let message = Message::Outlook { answer };
    shared.inbox.send(message).await.map_err(|_| stopping())?;
    heard.await.map_err(|_| stopping())
}

/// Runs what takes long where it may.
async fn worked_out<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refusal> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Refusal::new(Code::Failed, format!("it failed: {error}"), "report this"))
}

/// Keeps the expected starts of all jobs fresh, as long as any waits.
pub(super) async fn keep_looking(shared: Arc<Shared>) {
    let mut pause = PAUSE;
    loop {
        tokio::time::sleep(pause).await;
        pause = PAUSE;
        let snapshot = shared.snapshot.load_full();
        let waits = |job: &Arc<Job>| !job.pending.is_empty();
        if !snapshot.jobs.values().any(waits) {
            if !snapshot.forecast.starts.is_empty() {
                publish(&shared, Forecast::default());
            }
            continue;
        }
        let Ok((outlook, experience)) = outlook(&shared).await else {
            return;
        };
        let begun = Instant::now();
        let assume = Assume {
            part_milli: experience.mean_milli,
        };
        let seen = worked_out(move || forecast(&outlook, now(), assume, None)).await;
        if let Ok(seen) = seen {
            publish(&shared, seen);
        }
        pause = PAUSE.max(begun.elapsed() * PAUSE_FACTOR);
    }
}

fn publish(shared: &Shared, seen: Forecast) {
    let seen = Arc::new(seen);
    shared.forecast.store(Arc::clone(&seen));
    shared.snapshot.rcu(|known| {
        let mut snapshot = Snapshot::clone(known);
        snapshot.forecast = Arc::clone(&seen);
        snapshot
    });
}

/// A hot job, by its number or an element's.
fn hot(snapshot: &Snapshot, number: u32) -> Option<Arc<Job>> {
    snapshot.by_raw_id(number).map(|(job, _)| Arc::clone(job))
}

/// Why a job waits.
pub(super) async fn why(shared: &Arc<Shared>, number: u32) -> Result<ToClient, Refusal> {
    let snapshot = shared.snapshot.load_full();
    let Some(job) = hot(&snapshot, number) else {
        if number == 0 || number >= snapshot.job_next {
            return Err(select::unknown(number));
        }
        let found = blocking(shared, move |reader| {
            super::queries::find_ended(reader, number)
        });
        let ended = found.await?.ok_or_else(|| select::unknown(number))?;
        return Ok(explained(blank(ended.id, ended.state)));
    };
    // An element that is meant by its own number; the first has the number of the whole.
    let position = number - job.id.0;
    let mut held = job.slots.iter();
    let held = held.find(|slot| position > 0 && slot.queue.contains(position));
    if held.is_some() || (job.pending.is_empty() && job.waiting.is_empty()) {
        let slots = || {
            held.into_iter()
                .chain(job.slots.iter().filter(|_| held.is_none()))
        };
        let suspended = slots().any(Slot::is_stopped);
        let state = if suspended {
            JobState::Suspended
        } else {
            JobState::Running
        };
        let warned = slots().find_map(|slot| {
            let first = held.map(|_| position).or_else(|| slot.queue.first())?;
            crate::cluster::views::warning(slot, first)
        });
        let mut view = blank(job.id, state);
        view.job = number;
        view.detail = warned;
        return Ok(explained(view));
    }
    let reason = pending_reason(&snapshot, &job);
    let mut view = WhyView {
        reason: Some(reason.word().to_owned()),
        detail: reason.detail(),
        ..blank(job.id, JobState::Pending)
    };
    let (outlook, experience) = outlook(shared).await?;
    // As it is by now.
    let Some(job) = outlook.jobs.get(&job.id).cloned() else {
        return Ok(explained(view));
    };
    if !outlook.queue.has(&job) {
        view.start = job
            .not_before
            .filter(|_| reason == Reason::BeginTime)
            .map(|at| StartView {
                expected: at,
                earliest: at,
                latest: at,
            });
        return Ok(explained(view));
    }
    let (seen, outlook) = worked_out(move || {
        let seen = explain::why(&outlook, now(), experience, &job);
        (seen, outlook)
    })
    .await?;
    say(&mut view, &outlook, seen);
    Ok(explained(view))
}

fn explained(view: WhyView) -> ToClient {
    ToClient::Explained(Box::new(view))
}

fn blank(id: JobId, state: JobState) -> WhyView {
    WhyView {
        job: id.0,
        state: state.word().to_owned(),
        reason: None,
        detail: None,
        start: None,
        ahead: Vec::new(),
        ahead_count: 0,
        nodes: Vec::new(),
        holders: Vec::new(),
        suggestions: Vec::new(),
    }
}

fn say(view: &mut WhyView, outlook: &Outlook, why: Why) {
    let user = |id: JobId| {
        let job = outlook.jobs.get(&id);
        job.map_or_else(String::new, |job| job.owner.name.to_string())
    };
    let node = |id| {
        let node = outlook.nodes.get(&id);
        node.map_or_else(|| format!("node-{id}"), |node| node.name().to_owned())
    };
    let license = |at: usize| {
        let name = outlook.pool.licenses().nth(at).map(|(name, ..)| name);
        format!("license {}", name.unwrap_or_default())
    };
    let lacking = why
        .licenses
        .iter()
        .map(|(name, free, all)| format!("{free} of {all} of license {name} are free"));
    let reserved = why.reservations.iter().map(|(name, start, end)| {
        let show = |at: &Timestamp| at.to_rfc3339(&jiff::tz::TimeZone::UTC);
        format!(
            "reservation {name} from {} to {} is in the way",
            show(start),
            show(end)
        )
    });
    let more: Vec<String> = lacking.chain(reserved).collect();
    if !more.is_empty() {
        let said = view.detail.take().into_iter().chain(more);
        view.detail = Some(said.collect::<Vec<_>>().join("; "));
    }
    view.start = why.start.map(|start| StartView {
        expected: start.expected,
        earliest: start.earliest,
        latest: start.latest,
    });
    let ahead = why.ahead.iter().map(|id| JobOfView {
        job: id.0,
        user: user(*id),
    });
    view.ahead = ahead.collect();
    view.ahead_count = u32::try_from(why.ahead_count).unwrap_or(u32::MAX);
    view.nodes = why.nodes.iter().map(|id| node(*id)).collect();
    let never: Timestamp = occupancy::NEVER;
    let holders = why.holders.iter().map(|holder| HolderView {
        job: holder.job.0,
        user: user(holder.job),
        node: match Part::license_at(holder.node) {
            Some(at) => license(at),
            None => node(holder.node),
        },
        until: Some(holder.until).filter(|until| *until < never),
    });
    view.holders = holders.collect();
    let suggestions = why.suggestions.into_iter().map(|one| SuggestionView {
        option: one.option,
        starts: one.starts,
    });
    view.suggestions = suggestions.collect();
}

/// Where everybody stands.
pub(super) fn shares(shared: &Shared) -> ToClient {
    let snapshot = shared.snapshot.load();
    let finite = |value: f64| value.is_finite().then_some(value);
    let rows = snapshot.standings.rows.iter().map(|row| ShareView {
        account: row.account.to_string(),
        user: row.user.as_ref().map(ToString::to_string),
        depth: row.depth,
        shares: row.shares,
        share_norm: row.standing.shares_norm,
        usage_cpu_s: row.usage,
        usage_norm: row.standing.usage_norm,
        level_fair_share: finite(row.standing.level_fair_share),
        factor: row.standing.factor,
    });
    ToClient::Shares(rows.collect())
}

/// Where and when a job would run that is not submitted.
pub(super) async fn would_run(
    shared: &Arc<Shared>,
    text: String,
    job: Option<Box<Job>>,
) -> ToClient {
    let at = now();
    let start = match (job, outlook(shared).await) {
        (Some(job), Ok((mut outlook, experience))) => worked_out(move || {
            let id = job.id;
            outlook.queue.enter(&job);
            outlook.jobs.insert(id, Arc::new(*job));
            explain::start(&outlook, at, experience, id)
        })
        .await
        .ok()
        .flatten(),
        _ => None,
    };
    let text = match start {
        Some(start) if start.expected.minus(at) >= 1000 => {
            let (expected, latest) = (start.expected, start.latest);
            format!("{text}; expected to start at {expected}, by {latest} in nine of ten cases")
        }
        _ => text,
    };
    ToClient::WouldRun { text }
}

/// Which limits hold for such a job, and how much of each is in use.
pub(super) async fn limits(
    shared: &Shared,
    who: &Principal,
    of: JobOf,
) -> Result<ToClient, Refusal> {
    let (outlook, _) = outlook(shared).await?;
    let mut view = rule_views::limits_view(&outlook.rules, who, of)?;
    let class = Class {
        partition: view.partition.as_str().into(),
        account: view.account.as_str().into(),
        qos: view.qos.as_str().into(),
        user: view.user.as_str().into(),
        uid: Owner::NO_UID,
    };
    for limit in &mut view.limits {
        if let Some(level) = &limit.level
            && limit.kind.is_of_many()
        {
            let tally = &outlook.tally;
            let used = tally.used(&outlook.rules, level, limit.kind, &class, now());
            limit.used = Some(used);
        }
    }
    Ok(ToClient::Limits(Box::new(view)))
}

/// What a waiting job's priority is made of.
pub(super) async fn priority(shared: &Arc<Shared>, number: u32) -> Result<ToClient, Refusal> {
    let snapshot = shared.snapshot.load_full();
    let job = hot(&snapshot, number).ok_or_else(|| select::unknown(number))?;
    if job.pending.is_empty() {
        let what = format!("job {} does not wait", job.id);
        let hint = "only what waits has a priority";
        return Err(Refusal::new(Code::WrongState, what, hint));
    }
    let (outlook, _) = outlook(shared).await?;
    let at = now();
    let parts = snapshot.priority(&job, at);
    let weights = snapshot.weights;
    let ahead = worked_out({
        let job = Arc::clone(&job);
        move || jobs_ahead(&outlook.view(), weights, &job, at)
    })
    .await?;
    let terms = [
        ("age", parts.age),
        ("fair share", parts.fair_share),
        ("size", parts.size),
        ("partition", parts.partition),
        ("QOS", parts.qos),
        ("resources", parts.tres),
        ("site", parts.site),
        ("nice", -parts.nice),
    ];
    Ok(ToClient::Priority(Box::new(PriorityView {
        job: job.id.0,
        terms: terms.map(|(word, points)| (word.to_owned(), points)).into(),
        sum: parts.sum,
        ahead: u32::try_from(ahead).unwrap_or(u32::MAX),
    })))
}
