//! Long answers, sent as they are made: the queue, the history, the elements of one array.
//!
//! An array may have millions of elements, so no listing is ever held whole. A thread that may block makes rows and
//! hands them on in parts; a slow reader slows it, one that has gone ends it. So one that does not read keeps a thread:
//! `session.rs` lets few be under way at once, and fewer of one caller.

use super::queries::{find_ended, unreadable};
use super::run::{Shared, now};
use super::session::Outgoing;
use crate::cluster::Snapshot;
use crate::cluster::select::{is_named, matches, positions, select, unknown};
use crate::cluster::views::{self, ElementOf};
use crate::model::history::EndedJob;
use crate::model::ids::JobId;
use crate::model::index_set::IndexSet;
use crate::model::job::Job;
use crate::model::refusal::Refusal;
use crate::model::time::Timestamp;
use crate::store::{Reader, StoreError};
use crate::wire::client::{Filter, Selector, ToClient};
use crate::wire::codec::CodecError;
use crate::wire::view::{JobLine, JobView, StepView};
use std::ops::ControlFlow;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Parts on their way to a reader.
const PARTS_MAX: usize = 4;
/// Positions of an array whose ends are put in order at once.
const WINDOW: u32 = 16_384;

/// What a listing consists of.
pub(super) trait Row: Send + Sized + 'static {
    /// Rows in one frame, as heavy as usual ones.
    const PART: usize;

    /// How many usual rows it is worth.
    fn weight(&self) -> usize {
        1
    }

    /// A frame of them.
    fn frame(rows: Vec<Self>, last: bool) -> ToClient;
}

impl Row for JobView {
    const PART: usize = 512;

    fn weight(&self) -> usize {
        1 + self.steps.len() / 4
    }

    fn frame(jobs: Vec<Self>, last: bool) -> ToClient {
        ToClient::Jobs { jobs, last }
    }
}

impl Row for JobLine {
    const PART: usize = 1024;

    fn frame(lines: Vec<Self>, last: bool) -> ToClient {
        ToClient::Lines { lines, last }
    }
}

/// Where rows go as they are made.
struct Rows<T> {
    part: Vec<T>,
    weight: usize,
    /// How many more are wanted.
    left: u64,
    out: mpsc::Sender<Vec<T>>,
    any: bool,
}

impl<T: Row> Rows<T> {
    /// Takes a row; breaks when no more are wanted, or when the reader has gone.
    fn push(&mut self, row: T) -> ControlFlow<()> {
        if self.left == 0 {
            return ControlFlow::Break(());
        }
        self.any = true;
        self.left -= 1;
        self.weight += row.weight();
        self.part.push(row);
        if self.weight >= T::PART {
            self.weight = 0;
            let part = std::mem::take(&mut self.part);
            if self.out.blocking_send(part).is_err() {
                return ControlFlow::Break(());
            }
        }
        if self.left == 0 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }
}

/// Why a listing ends early.
enum Stop {
    /// Nobody wants more.
    Enough,
    Refused(Refusal),
    Failed(StoreError),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Stop::Refused(refusal)
    }
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Stop::Failed(error)
    }
}

fn go_on(flow: ControlFlow<()>) -> Result<(), Stop> {
    match flow {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(Stop::Enough),
    }
}

/// Sends what `make` makes, at most `limit` rows (0: all).
async fn send<T: Row>(
    outgoing: &mut Outgoing,
    limit: u32,
    make: impl FnOnce(&mut Rows<T>) -> Result<(), Stop> + Send + 'static,
) -> Result<(), CodecError> {
    let (out, mut parts) = mpsc::channel(PARTS_MAX);
    let maker = tokio::task::spawn_blocking(move || {
        let mut rows = Rows {
            part: Vec::new(),
            weight: 0,
            left: if limit == 0 { u64::MAX } else { limit.into() },
            out,
            any: false,
        };
        let made = make(&mut rows);
        (made, rows.part)
    });
    while let Some(part) = parts.recv().await {
        outgoing.send(&T::frame(part, false)).await?;
    }
    let last = match maker.await {
        Ok((Ok(()) | Err(Stop::Enough), rest)) => T::frame(rest, true),
        Ok((Err(Stop::Refused(refusal)), _)) => ToClient::Refused(refusal),
        Ok((Err(Stop::Failed(error)), _)) => ToClient::Refused(unreadable(&error)),
        Err(error) => ToClient::Refused(unreadable(&error)),
    };
    Ok(outgoing.send(&last).await?)
}

/// The same for what is made from the store too.
async fn send_from_store(
    shared: &Shared,
    outgoing: &mut Outgoing,
    limit: u32,
    make: impl FnOnce(&Snapshot, &Reader, &mut Rows<JobView>) -> Result<(), Stop> + Send + 'static,
) -> Result<(), CodecError> {
    let snapshot = shared.snapshot.load_full();
    match shared.store() {
        Ok(reader) => send(outgoing, limit, move |rows| make(&snapshot, &reader, rows)).await,
        Err(refusal) => Ok(outgoing.send(&ToClient::Refused(refusal)).await?),
    }
}

/// Shows every hot job that a filter means, and which parts of it.
fn each_target(
    snapshot: &Snapshot,
    filter: &Filter,
    mut show: impl FnMut(&Job, views::Which<'_>) -> ControlFlow<()>,
) -> Result<(), Stop> {
    let selected = select(&snapshot.jobs, snapshot.job_next, filter)?;
    selected.targets.iter().try_for_each(|target| {
        let which = views::Which {
            expand: filter.expand_arrays,
            meant: target.positions.as_ref(),
            states: &filter.states,
        };
        go_on(show(&target.job, which))
    })
}

/// Jobs that have not ended, for a table.
pub(super) async fn queue_lines(
    shared: &Shared,
    filter: Filter,
    outgoing: &mut Outgoing,
) -> Result<(), CodecError> {
    let (snapshot, at) = (shared.snapshot.load_full(), now());
    send(outgoing, filter.limit, move |rows: &mut Rows<JobLine>| {
        each_target(&snapshot, &filter, |job, which| {
            views::hot_lines(&snapshot, at, job, which, &mut |line| rows.push(line))
        })
    })
    .await
}

/// Jobs that have not ended.
pub(super) async fn queue(
    shared: &Shared,
    filter: Filter,
    outgoing: &mut Outgoing,
) -> Result<(), CodecError> {
    let snapshot = shared.snapshot.load_full();
    send(outgoing, filter.limit, move |rows| {
        each_target(&snapshot, &filter, |job, which| {
            views::hot_rows(&snapshot, job, which, &mut |row| rows.push(row))
        })
    })
    .await
}

/// Ended jobs and elements, newest first; of named jobs in the order named.
pub(super) async fn history(
    shared: &Shared,
    filter: Filter,
    outgoing: &mut Outgoing,
) -> Result<(), CodecError> {
    let limit = filter.limit;
    send_from_store(shared, outgoing, limit, move |snapshot, reader, rows| {
        if filter.jobs.is_empty() {
            return all_history(snapshot, reader, &filter, rows);
        }
        let mut named = filter.jobs.iter();
        named.try_for_each(|selector| history_of(snapshot, reader, &filter, selector, rows))
    })
    .await
}

/// Passes on the rows that a history query is about.
fn wanted<'a>(
    filter: &'a Filter,
    rows: &'a mut Rows<JobView>,
) -> impl FnMut(JobView) -> ControlFlow<()> + 'a {
    move |row| {
        let states = &filter.states;
        if states.is_empty() || states.iter().any(|state| state.word() == row.state) {
            rows.push(row)
        } else {
            ControlFlow::Continue(())
        }
    }
}

/// One job's, named by an operand. What runs of it is part of its history.
fn history_of(
    snapshot: &Snapshot,
    reader: &Reader,
    filter: &Filter,
    selector: &Selector,
    rows: &mut Rows<JobView>,
) -> Result<(), Stop> {
    if selector.job == 0 || selector.job >= snapshot.job_next {
        return Err(unknown(selector.job).into());
    }
    if let Some((job, _)) = snapshot.by_raw_id(selector.job) {
        if !is_named(filter, &job.owner, &job.spec) {
            return Ok(());
        }
        let meant = positions(job.id, &job.spec, selector)?;
        if job.spec.array.is_some() {
            elements(
                reader,
                element_of(job),
                meant.as_ref(),
                &mut wanted(filter, rows),
            )?;
        }
        let which = views::Which {
            expand: false,
            meant: meant.as_ref(),
            states: &filter.states,
        };
        go_on(views::hot_rows(snapshot, job, which, &mut |row| {
            rows.push(row)
        }))
    } else if let Some(ended) = find_ended(reader, selector.job)? {
        if !is_named(filter, &ended.owner, &ended.spec) {
            return Ok(());
        }
        let meant = positions(ended.id, &ended.spec, selector)?;
        of_ended(reader, &ended, meant.as_ref(), &mut wanted(filter, rows))
    } else {
        Ok(())
    }
}

fn all_history(
    snapshot: &Snapshot,
    reader: &Reader,
    filter: &Filter,
    rows: &mut Rows<JobView>,
) -> Result<(), Stop> {
    let since = filter.since.unwrap_or(Timestamp(i64::MIN));
    let until = filter.until.unwrap_or(Timestamp(i64::MAX));
    let of_hot = Filter {
        states: Vec::new(),
        ..filter.clone()
    };
    let begun = snapshot
        .jobs
        .values()
        .filter(|job| job.spec.array.is_some() && job.row_next > 0 && matches(&of_hot, job));
    for job in begun {
        let mut row_wanted = wanted(filter, rows);
        elements(reader, element_of(job), None, &mut |row| {
            if row.end_time.is_some_and(|end| end >= since) {
                row_wanted(row)
            } else {
                ControlFlow::Continue(())
            }
        })?;
    }
    let mut stop = None;
    reader.history(since, until, &mut |ended| {
        if !is_named(filter, &ended.owner, &ended.spec) {
            return ControlFlow::Continue(());
        }
        match of_ended(reader, &ended, None, &mut wanted(filter, rows)) {
            Ok(()) => ControlFlow::Continue(()),
            Err(why) => {
                stop = Some(why);
                ControlFlow::Break(())
            }
        }
    })?;
    stop.map_or(Ok(()), Err)
}

/// Rows of one ended job: itself, or the elements of an array.
fn of_ended(
    reader: &Reader,
    ended: &EndedJob,
    meant: Option<&IndexSet>,
    each: &mut dyn FnMut(JobView) -> ControlFlow<()>,
) -> Result<(), Stop> {
    if ended.spec.array.is_none() {
        return go_on(each(views::ended_view(ended)));
    }
    let of = ElementOf {
        id: ended.id.0,
        spec: &ended.spec,
        owner: &ended.owner,
        submitted: ended.submitted,
    };
    elements(reader, of, meant, each)
}

/// The ended elements of an array, by index. Their ends are stored in the order in which they happened, so a window
/// of positions at a time is gathered and put in order.
fn elements(
    reader: &Reader,
    of: ElementOf<'_>,
    meant: Option<&IndexSet>,
    each: &mut dyn FnMut(JobView) -> ControlFlow<()>,
) -> Result<(), Stop> {
    let count = of.spec.count();
    let windows = (0..count.div_ceil(WINDOW)).map(|number| {
        let start = number * WINDOW;
        start..start.saturating_add(WINDOW).min(count)
    });
    for window in windows {
        let mut here = IndexSet::from_range(window.start, window.end);
        if let Some(meant) = meant {
            here.intersect(meant);
        }
        if here.is_empty() {
            continue;
        }
        let mut rows = Vec::new();
        reader.element_rows_within(JobId(of.id), window, &mut |_, row| {
            rows.extend(views::element_views(of, &row, &here));
            ControlFlow::Continue(())
        })?;
        rows.sort_by_key(|row| (row.raw_id, row.restarts));
        for row in rows {
            go_on(each(row))?;
        }
    }
    Ok(())
}

fn element_of(job: &Job) -> ElementOf<'_> {
    ElementOf {
        id: job.id.0,
        spec: &job.spec,
        owner: &job.owner,
        submitted: job.submitted,
    }
}

/// One job, hot or ended.
pub(super) async fn job(
    shared: &Arc<Shared>,
    selector: Selector,
    outgoing: &mut Outgoing,
) -> Result<(), CodecError> {
    send_from_store(shared, outgoing, 0, move |snapshot, reader, rows| {
        about_job(snapshot, reader, &selector, rows)?;
        if rows.any {
            Ok(())
        } else {
            Err(unknown(selector.job).into())
        }
    })
    .await
}

fn about_job(
    snapshot: &Snapshot,
    reader: &Reader,
    selector: &Selector,
    rows: &mut Rows<JobView>,
) -> Result<(), Stop> {
    let with_steps = |mut row: JobView, steps: &[StepView]| {
        row.steps = steps.to_vec();
        row
    };
    let Some((job, _)) = snapshot.by_raw_id(selector.job) else {
        let Some(ended) = find_ended(reader, selector.job)? else {
            return Ok(());
        };
        let steps = views::step_views(&reader.steps(ended.id)?);
        return match positions(ended.id, &ended.spec, selector)? {
            Some(meant) if ended.spec.array.is_some() => {
                of_ended(reader, &ended, Some(&meant), &mut |row| {
                    rows.push(with_steps(row, &steps))
                })
            }
            _ => go_on(rows.push(with_steps(views::ended_view(&ended), &steps))),
        };
    };
    let steps = views::step_views(&reader.steps(job.id)?);
    let meant = positions(job.id, &job.spec, selector)?;
    let which = views::Which {
        expand: false,
        meant: meant.as_ref(),
        states: &[],
    };
    go_on(views::hot_rows(snapshot, job, which, &mut |row| {
        rows.push(with_steps(row, &steps))
    }))?;
    if !rows.any && meant.is_some() {
        elements(reader, element_of(job), meant.as_ref(), &mut |row| {
            rows.push(with_steps(row, &steps))
        })?;
    }
    Ok(())
}
