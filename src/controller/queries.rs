//! Answers that need no decision: from the published snapshot and the store, never through the loop. Those that may
//! be long are in `listing.rs`.

use super::act::Listener;
use super::run::{Message, Shared, now};
use super::session::{Incoming, Outgoing, code_of};
use super::shares::SMALL;
use crate::cluster::Principal;
use crate::cluster::select::{positions, unknown};
use crate::cluster::step_places;
use crate::cluster::views;
use crate::model::history::EndedJob;
use crate::model::ids::JobId;
use crate::model::index_set::IndexSet;
use crate::model::job::{ExitStatus, JobState, Launch};
use crate::model::node::Link;
use crate::model::refusal::{Code, Refusal};
use crate::store::{Reader, StoreError};
use crate::wire::client::{FromClient, Selector, ToClient};
use crate::wire::codec::CodecError;
use crate::wire::view::{LinkView, StatusView};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use tokio::sync::{Notify, mpsc};

impl Shared {
    /// The store, unless it is being opened again.
    pub(super) fn store(&self) -> Result<Arc<Reader>, Refusal> {
        self.reader.load_full().ok_or_else(|| {
            Refusal::new(
                Code::Failed,
                "the store is being opened again",
                "try again in a moment",
            )
        })
    }
}

/// What is said of a store that cannot be read.
pub(super) fn unreadable(why: &dyn std::fmt::Display) -> Refusal {
    let what = format!("the store could not be read: {why}");
    Refusal::new(Code::Failed, what, "")
}

/// Runs a read of the store where it may block.
pub(super) async fn blocking<T: Send + 'static>(
    shared: &Shared,
    read: impl FnOnce(&Reader) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, Refusal> {
    let reader = shared.store()?;
    match tokio::task::spawn_blocking(move || read(&reader)).await {
        Ok(result) => result.map_err(|error| unreadable(&error)),
        Err(error) => Err(unreadable(&error)),
    }
}

/// The ended job that has this number, or an element of this raw id.
pub(super) fn find_ended(reader: &Reader, raw: u32) -> Result<Option<EndedJob>, StoreError> {
    if let Some(ended) = reader.ended(JobId(raw))? {
        return Ok(Some(ended));
    }
    reader.ended_around(JobId(raw))
}

/// Nodes.
pub(super) fn nodes(shared: &Shared) -> ToClient {
    let snapshot = shared.snapshot.load();
    ToClient::Nodes(
        snapshot
            .nodes
            .values()
            .map(|node| views::node_view(&snapshot, node))
            .collect(),
    )
}

/// Where the ranks of a job's running steps are.
pub(super) fn step_places(shared: &Shared, job: u32) -> Result<ToClient, Refusal> {
    let snapshot = shared.snapshot.load();
    step_places::running(&snapshot, job).map(ToClient::StepPlaces)
}

/// How nodes are reached.
pub(super) fn links(shared: &Shared) -> ToClient {
    let snapshot = shared.snapshot.load();
    let links = snapshot.nodes.values().map(|node| {
        let reached = shared.links.reached(node.id);
        let peer = reached.clone().flatten();
        let known = peer.as_ref().and_then(|peer| snapshot.keys.get(&peer.key));
        LinkView {
            node: node.name().to_owned(),
            path: match (&reached, &peer) {
                (None, _) => "",
                (Some(_), None) => "unix",
                (Some(_), Some(peer)) => peer.path.word(),
            }
            .to_owned(),
            address: peer.as_ref().map(|peer| peer.address.to_string()),
            certificate_until: known.map(|known| known.expires),
        }
    });
    ToClient::Links(links.collect())
}

/// The latest lines of the audit.
pub(super) async fn audit(shared: &Shared, limit: u32) -> Result<ToClient, Refusal> {
    let limit = limit.clamp(1, AUDIT_LINES_MAX) as usize;
    let lines = blocking(shared, move |reader| reader.audit(limit)).await?;
    Ok(ToClient::Audit(lines))
}

/// Most lines of the audit in one answer.
const AUDIT_LINES_MAX: u32 = 10_000;

/// Partitions.
pub(super) fn partitions(shared: &Shared) -> ToClient {
    let snapshot = shared.snapshot.load();
    ToClient::Partitions(
        snapshot
            .rules
            .partitions
            .values()
            .map(|known| views::partition_view(&snapshot, known))
            .collect(),
    )
}

/// How it all stands.
pub(super) fn status(shared: &Shared) -> StatusView {
    let snapshot = shared.snapshot.load();
    let narrow = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let up = snapshot
        .nodes
        .values()
        .filter(|node| node.link == Link::Up)
        .count();
    let (mut pending, mut running, mut elements) = (0, 0, 0);
    for job in snapshot.jobs.values() {
        pending += u64::from(!job.pending.is_empty() || !job.waiting.is_empty());
        running += u64::from(job.is_running());
        elements += u64::from(job.pending.len()) + u64::from(job.waiting.len());
    }
    StatusView {
        cluster: snapshot.name.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        state_dir: shared.options.state_dir.display().to_string(),
        socket: shared.options.socket.display().to_string(),
        started: shared.started,
        now: now(),
        nodes: (narrow(snapshot.nodes.len()), narrow(up)),
        cpus: (
            snapshot.nodes.values().map(|node| node.cpus_total()).sum(),
            snapshot
                .nodes
                .values()
                .filter(|node| node.link == Link::Up)
                .map(|node| node.cpus_free.len())
                .sum(),
        ),
        jobs_pending: pending,
        jobs_running: running,
        elements_pending: elements,
        next_job: snapshot.job_next,
    }
}

/// The script of a job, for its owner.
pub(super) async fn script(
    shared: &Arc<Shared>,
    who: &Principal,
    number: u32,
) -> Result<ToClient, Refusal> {
    let snapshot = shared.snapshot.load_full();
    let hot = snapshot
        .by_raw_id(number)
        .map(|(job, _)| (Arc::clone(&job.spec), job.owner.clone()));
    let found = blocking(shared, move |reader| {
        let (spec, owner) = match hot {
            Some(hot) => hot,
            None => match find_ended(reader, number)? {
                Some(ended) => (ended.spec, ended.owner),
                None => return Ok(None),
            },
        };
        let script = match &spec.launch {
            Launch::Script { script, .. } => reader.blob(*script)?,
            Launch::Command { .. } | Launch::Tasks { .. } | Launch::Step { .. } | Launch::Hold => {
                None
            }
        };
        Ok(Some((owner, script)))
    })
    .await?;
    let Some((owner, script)) = found else {
        return Err(unknown(number));
    };
    if !who.is_operator() && !who.owner.is(&owner) {
        let what = format!("job {number} belongs to {}", owner.name);
        return Err(Refusal::new(
            Code::NotPermitted,
            what,
            "only its owner may read its script",
        ));
    }
    script.map(ToClient::Script).ok_or_else(|| {
        Refusal::new(
            Code::WrongState,
            format!("job {number} has no script"),
            "it runs a command",
        )
    })
}

/// What became of a job or element, if it has ended.
async fn outcome(
    shared: &Arc<Shared>,
    selector: &Selector,
) -> Result<Option<(JobState, ExitStatus)>, Refusal> {
    let snapshot = shared.snapshot.load_full();
    if let Some((job, _)) = snapshot.by_raw_id(selector.job) {
        let Some(meant) = positions(job.id, &job.spec, selector)? else {
            return Ok(None);
        };
        let here = |set: &IndexSet| {
            let mut both = meant.clone();
            both.intersect(set);
            !both.is_empty()
        };
        if here(&job.pending)
            || here(&job.waiting)
            || job.slots.iter().any(|slot| here(&slot.queue))
        {
            return Ok(None);
        }
        let id = job.id;
        return blocking(shared, move |reader| worst_element(reader, id, &meant))
            .await
            .map(Some);
    }
    let number = selector.job;
    let Some(ended) = blocking(shared, move |reader| find_ended(reader, number)).await? else {
        return Ok(Some((JobState::Failed, ExitStatus { code: 1, signal: 0 })));
    };
    match positions(ended.id, &ended.spec, selector)? {
        Some(meant) if ended.spec.array.is_some() => blocking(shared, move |reader| {
            worst_element(reader, ended.id, &meant)
        })
        .await
        .map(Some),
        _ => Ok(Some((ended.state, ended.exit))),
    }
}

fn worst_element(
    reader: &Reader,
    id: JobId,
    meant: &IndexSet,
) -> Result<(JobState, ExitStatus), StoreError> {
    let mut bad = reader.unsuccessful(id)?;
    bad.intersect(meant);
    let mut worst = (JobState::Completed, ExitStatus::default());
    let (Some(first), Some(last)) = (bad.first(), bad.last()) else {
        return Ok(worst);
    };
    let mut note = |position: u32, state: JobState, exit: ExitStatus| {
        let worse = worst.0 == JobState::Completed || exit.shell_code() > worst.1.shell_code();
        if state != JobState::Completed && bad.contains(position) && worse {
            worst = (state, exit);
        }
    };
    reader.element_rows_within(id, first..last + 1, &mut |_, row| {
        for end in &row.ends {
            note(end.position, end.state, end.exit);
        }
        if let Some(never) = &row.never_started {
            for position in never.positions.iter() {
                let end = never.end_at(position);
                note(position, end.state, end.exit);
            }
        }
        ControlFlow::Continue(())
    })?;
    Ok(worst)
}

/// What an operand of `hpc wait` takes up while it waits.
const SELECTOR_BYTES: usize = 64;

/// Answers each time one of them has ended, until all have.
pub(super) async fn wait(
    shared: &Arc<Shared>,
    selectors: &[Selector],
    incoming: &mut Incoming,
    outgoing: &mut Outgoing,
) -> Result<(), CodecError> {
    // Kept as long as it waits, beside what is kept for all others of the same caller.
    let kept = selectors.len() * SELECTOR_BYTES;
    let frames = &shared.shares.frames;
    let room = (kept > SMALL).then(|| frames.try_take(incoming.holder(), kept));
    let _room = match room.transpose() {
        Ok(room) => room,
        Err(refusal) => return Ok(outgoing.send(&ToClient::Refused(refusal)).await?),
    };
    let news = Arc::new(Notify::new());
    let mut open: Vec<&Selector> = Vec::new();
    // Whole jobs are heard of once they end; where elements are named, every end is looked at.
    let mut jobs: BTreeMap<JobId, bool> = BTreeMap::new();
    for selector in selectors {
        let snapshot = shared.snapshot.load_full();
        if selector.job == 0 || selector.job >= snapshot.job_next {
            return Ok(outgoing
                .send(&ToClient::Refused(unknown(selector.job)))
                .await?);
        }
        let (job, element) = snapshot
            .by_raw_id(selector.job)
            .map_or((JobId(selector.job), false), |(job, _)| {
                (job.id, job.id.0 != selector.job)
            });
        *jobs.entry(job).or_default() |= element || selector.indices.is_some();
        open.push(selector);
    }
    for (job, elements) in jobs {
        let listener = Listener::Wake {
            whom: Arc::downgrade(&news),
            elements,
        };
        // Told once it is heard, and then looked at again, so that no end falls between.
        let watch = Message::Watch { job, listener };
        _ = shared.inbox.send(watch).await;
    }
    loop {
        let mut left = Vec::new();
        for selector in open {
            match outcome(shared, selector).await {
                Ok(Some((state, exit))) => {
                    let code = code_of(state, exit);
                    outgoing
                        .send(&ToClient::Ended {
                            job: selector.job,
                            state,
                            code,
                        })
                        .await?;
                }
                Ok(None) => left.push(selector),
                Err(refusal) => return Ok(outgoing.send(&ToClient::Refused(refusal)).await?),
            }
        }
        if left.is_empty() {
            return Ok(());
        }
        open = left;
        loop {
            tokio::select! {
                () = news.notified() => break,
                // It says nothing while it waits: this is its end.
                frame = incoming.next::<FromClient>() => if frame?.is_none() { return Ok(()) },
            }
        }
    }
}

/// A consistent copy of the store.
pub(super) async fn backup(
    shared: &Arc<Shared>,
    who: &Principal,
    outgoing: &mut Outgoing,
) -> Result<(), CodecError> {
    if !who.is_operator() {
        let what = format!("{} may not copy the store", who.owner.name);
        let refusal = Refusal::new(Code::NotPermitted, what, "only an operator may");
        return Ok(outgoing.send(&ToClient::Refused(refusal)).await?);
    }
    let reader = match shared.store() {
        Ok(reader) => reader,
        Err(refusal) => return Ok(outgoing.send(&ToClient::Refused(refusal)).await?),
    };
    let (sender, mut pieces) = mpsc::channel::<Vec<u8>>(8);
    let scratch = shared.options.state_dir.join("controller");
    let work = tokio::task::spawn_blocking(move || reader.backup(&scratch, &mut ToChannel(sender)));
    let mut offset = 0;
    while let Some(bytes) = pieces.recv().await {
        let length = bytes.len() as u64;
        outgoing.send(&ToClient::Data { offset, bytes }).await?;
        offset += length;
    }
    let error = match work.await {
        Ok(Ok(_)) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(error) => Some(error.to_string()),
    };
    Ok(outgoing.send(&ToClient::DataEnd { error }).await?)
}

/// Writes pieces into a channel.
struct ToChannel(mpsc::Sender<Vec<u8>>);

impl std::io::Write for ToChannel {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let piece = &bytes[..bytes.len().min(256 * 1024)];
        self.0
            .blocking_send(piece.to_vec())
            .map_err(|_| std::io::Error::from(std::io::ErrorKind::BrokenPipe))?;
        Ok(piece.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
