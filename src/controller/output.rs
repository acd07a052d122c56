//! `hpc logs` and `hpc attach`: the bytes of a job's output, from whichever node has them.

use super::act::Listener;
use super::attach::{OUTPUT_PATIENCE, out_of_reach};
use super::links::StreamEvent;
use super::queries::{blocking, find_ended};
use super::run::{Message, Shared};
use super::session::{Incoming, Outgoing};
use crate::cluster::{Principal, views};
use crate::model::ids::{JobId, NodeId, SlotKey, StepId};
use crate::model::job::{JobSpec, Launch, Owner};
use crate::model::refusal::{Code, Refusal};
use crate::wire::client::{FromClient, OutputKind, Selector, ToClient};
use crate::wire::codec::CodecError;
use crate::wire::worker::{LogChunk, OpenStream, StreamSource};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// What is asked for.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) selector: Selector,
    pub(super) kind: OutputKind,
    pub(super) offset: u64,
    pub(super) follow: bool,
}

/// Where it is.
struct Found {
    key: SlotKey,
    position: u32,
    node: NodeId,
    owner: Owner,
    source: StreamSource,
    /// It may still grow.
    live: bool,
    /// How many nodes it ran on.
    on_nodes: usize,
}

/// Serves the bytes.
pub(super) async fn serve(
    shared: &Arc<Shared>,
    who: &Principal,
    wanted: Wanted,
    incoming: &mut Incoming,
    outgoing: &mut Outgoing,
) -> Result<(), CodecError> {
    let news = Arc::new(Notify::new());
    let listener = Listener::Wake {
        whom: Arc::downgrade(&news),
        elements: true,
    };
    let number = wanted.selector.job;
    let id = shared
        .snapshot
        .load()
        .by_raw_id(number)
        .map_or(JobId(number), |(job, _)| job.id);
    _ = shared
        .inbox
        .send(Message::Watch { job: id, listener })
        .await;
    let found = loop {
        match find(shared, who, &wanted).await {
            Ok(Some(found)) => break found,
            Ok(None) if wanted.follow => tokio::select! {
                () = news.notified() => {}
                frame = incoming.next::<FromClient>() => if frame?.is_none() { return Ok(()) },
            },
            Ok(None) => {
                let what = format!("job {number} has not started");
                let refusal =
                    Refusal::new(Code::WrongState, what, "wait for it with `hpc logs -f`");
                return Ok(outgoing.send(&ToClient::Refused(refusal)).await?);
            }
            Err(refusal) => return Ok(outgoing.send(&ToClient::Refused(refusal)).await?),
        }
    };
    if found.on_nodes > 1 && matches!(found.source, StreamSource::StepLog(_)) {
        let raw_job = found.key.job.raw(found.position);
        return Ok(outgoing.send(&ToClient::OnNodes { raw_job }).await?);
    }
    // Nobody waits for more.
    drop(news);
    let _room = match shared.shares.logs.try_take(incoming.holder(), 1) {
        Ok(room) => room,
        Err(refusal) => return Ok(outgoing.send(&ToClient::Refused(refusal)).await?),
    };
    relay(shared, &found, &wanted, incoming, outgoing).await
}

/// Between looks at whether the job of a silent node has ended.
const LOOK: Duration = Duration::from_secs(1);

async fn relay(
    shared: &Arc<Shared>,
    found: &Found,
    wanted: &Wanted,
    incoming: &mut Incoming,
    outgoing: &mut Outgoing,
) -> Result<(), CodecError> {
    let logs = matches!(found.source, StreamSource::StepLog(_));
    let mut plain = Plain {
        kind: wanted.kind,
        held: Vec::new(),
        skip: if logs { wanted.offset } else { 0 },
    };
    let mut offset = if logs { 0 } else { wanted.offset };
    let mut sent = wanted.offset;
    let mut links = shared.links.changes();
    // Since when it is known that nothing runs there that would have the node waited for.
    let mut ended_at: Option<tokio::time::Instant> = None;
    loop {
        let open = OpenStream {
            stream: 0,
            key: found.key,
            position: found.position,
            source: found.source.clone(),
            offset,
            follow: wanted.follow && found.live,
            owner: found.owner.clone(),
        };
        let Some((number, mut events)) = shared.links.open(found.node, open) else {
            if !wanted.follow {
                let what = "the node that has the output does not answer";
                let refusal = Refusal::new(
                    Code::Failed,
                    what,
                    "try again when `hpc nodes` shows it responding",
                );
                return Ok(outgoing.send(&ToClient::Refused(refusal)).await?);
            }
            tokio::select! {
                _ = links.changed() => {}
                () = tokio::time::sleep(LOOK) => {}
                frame = incoming.next::<FromClient>() => if frame?.is_none() { return Ok(()) },
            }
            let hot = shared
                .snapshot
                .load()
                .jobs
                .get(&found.key.job)
                .is_some_and(|job| job.slot(found.key.slot).is_some());
            if hot {
                ended_at = None;
            } else if ended_at
                .get_or_insert_with(tokio::time::Instant::now)
                .elapsed()
                >= OUTPUT_PATIENCE
            {
                let error = Some(out_of_reach());
                return Ok(outgoing.send(&ToClient::DataEnd { error }).await?);
            }
            continue;
        };
        loop {
            tokio::select! {
                event = events.recv() => match event {
                    Some(StreamEvent::Data { offset: at, bytes }) => {
                        offset = at + bytes.len() as u64;
                        let bytes = if logs { plain.take(&bytes) } else { bytes };
                        // The window of a step log counts its headers, which the client never sees.
                        if logs {
                            shared.links.taken(found.node, number, offset);
                        }
                        if !bytes.is_empty() {
                            let length = bytes.len() as u64;
                            outgoing.send(&ToClient::Data { offset: sent, bytes }).await?;
                            sent += length;
                        }
                    }
                    Some(StreamEvent::End { error }) => {
                        return Ok(outgoing.send(&ToClient::DataEnd { error }).await?);
                    }
                    Some(StreamEvent::LinkLost) | None => break,
                },
                frame = incoming.next::<FromClient>() => match frame? {
                    None => {
                        shared.links.close(found.node, number);
                        return Ok(());
                    }
                    Some(FromClient::Taken { offset: taken }) if !logs => {
                        shared.links.taken(found.node, number, taken.min(offset));
                    }
                    Some(_) => {}
                },
            }
        }
    }
}

/// Strips the headers of a step's log and keeps one of its two streams.
struct Plain {
    kind: OutputKind,
    held: Vec<u8>,
    skip: u64,
}

impl Plain {
    fn take(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.held.extend_from_slice(bytes);
        let wanted = match self.kind {
            OutputKind::Stdout => 1,
            OutputKind::Stderr => 2,
        };
        let mut out = Vec::new();
        let mut at = 0;
        while let Some(header) = self.held[at..].first_chunk::<{ LogChunk::SIZE }>() {
            let Some(chunk) = LogChunk::decode(header) else {
                at = self.held.len();
                break;
            };
            let Some(body) = self
                .held
                .get(at + LogChunk::SIZE..at + LogChunk::SIZE + chunk.length as usize)
            else {
                break;
            };
            if chunk.stream == wanted {
                let skipped =
                    usize::try_from(self.skip.min(body.len() as u64)).unwrap_or(body.len());
                self.skip -= skipped as u64;
                out.extend_from_slice(&body[skipped..]);
            }
            at += LogChunk::SIZE + body.len();
        }
        self.held.drain(..at);
        out
    }
}

fn source_of(
    spec: &JobSpec,
    id: u32,
    position: u32,
    restarts: u32,
    node: &str,
    user: &str,
    kind: OutputKind,
) -> StreamSource {
    let error = kind == OutputKind::Stderr;
    match views::output_path(spec, id, position, restarts, node, user, error) {
        Some(path) if !matches!(spec.launch, Launch::Hold) => StreamSource::File(path),
        _ => StreamSource::StepLog(StepId(0)),
    }
}

fn check(
    who: &Principal,
    number: u32,
    owner: &Owner,
    spec: &JobSpec,
    whole: bool,
) -> Result<(), Refusal> {
    if !who.is_operator() && !who.owner.is(owner) {
        let what = format!("job {number} belongs to {}", owner.name);
        return Err(Refusal::new(
            Code::NotPermitted,
            what,
            "only its owner may read its output",
        ));
    }
    if matches!(spec.launch, Launch::Hold) {
        let what =
            format!("job {number} is an allocation: its shell's output went to its terminal");
        return Err(Refusal::new(
            Code::WrongState,
            what,
            "name the job of a script or of `hpc run`",
        ));
    }
    match &spec.array {
        Some(array) if whole && array.count() > 1 => {
            let what = format!("job {number} is an array with {} elements", array.count());
            let hint = format!("name one, as in {number}_{}", array.min());
            Err(Refusal::new(Code::Invalid, what, hint))
        }
        _ => Ok(()),
    }
}

fn position_of(spec: &JobSpec, id: JobId, selector: &Selector) -> Result<u32, Refusal> {
    match (&selector.indices, &spec.array) {
        (Some(indices), Some(array)) => {
            let index = indices.min();
            array
                .position_of(index)
                .filter(|_| indices.count() == 1)
                .ok_or_else(|| {
                    let what = format!("job {id} has no single element {indices}");
                    Refusal::new(Code::UnknownJob, what, format!("its indices are {array}"))
                })
        }
        (Some(_), None) => Err(Refusal::new(
            Code::UnknownJob,
            format!("job {id} is not an array"),
            "leave out the index",
        )),
        (None, _) => Ok(selector.job - id.0),
    }
}

/// Where the output is; `None` while the job or element waits.
async fn find(
    shared: &Arc<Shared>,
    who: &Principal,
    wanted: &Wanted,
) -> Result<Option<Found>, Refusal> {
    let snapshot = shared.snapshot.load_full();
    let (number, kind) = (wanted.selector.job, wanted.kind);
    let whole = |id: JobId| wanted.selector.indices.is_none() && number == id.0;
    if number == 0 || number >= snapshot.job_next {
        return Err(crate::cluster::select::unknown(number));
    }
    if let Some((job, _)) = snapshot.by_raw_id(number) {
        check(who, number, &job.owner, &job.spec, whole(job.id))?;
        let position = position_of(&job.spec, job.id, &wanted.selector)?;
        if let Some(slot) = job.slots.iter().find(|slot| slot.queue.contains(position)) {
            let Some(lead) = slot.allocation.nodes.first() else {
                return Ok(None);
            };
            let name = snapshot.node_name(lead.node);
            let restarts = job.restarts_of(position);
            return Ok(Some(Found {
                key: SlotKey {
                    job: job.id,
                    slot: slot.id,
                },
                position,
                node: lead.node,
                owner: job.owner.clone(),
                source: source_of(
                    &job.spec,
                    job.id.0,
                    position,
                    restarts,
                    &name,
                    &job.owner.name,
                    kind,
                ),
                live: true,
                on_nodes: slot.allocation.nodes.len(),
            }));
        }
        if job.pending.contains(position) || job.waiting.contains(position) {
            return Ok(None);
        }
        return ended_element(shared, job.id, position, &job.spec, &job.owner, kind)
            .await
            .map(Some);
    }
    let Some(ended) = blocking(shared, move |reader| find_ended(reader, number)).await? else {
        return Err(crate::cluster::select::unknown(number));
    };
    check(who, number, &ended.owner, &ended.spec, whole(ended.id))?;
    let position = position_of(&ended.spec, ended.id, &wanted.selector)?;
    if ended.spec.array.is_some() {
        return ended_element(shared, ended.id, position, &ended.spec, &ended.owner, kind)
            .await
            .map(Some);
    }
    let name = ended.granted.nodes.first().cloned();
    let Some(node) = snapshot
        .nodes
        .values()
        .find(|node| Some(node.name()) == name.as_deref())
    else {
        return Err(no_node(ended.id, name));
    };
    Ok(Some(Found {
        key: SlotKey {
            job: ended.id,
            slot: ended.slot,
        },
        position,
        node: node.id,
        owner: ended.owner.clone(),
        source: source_of(
            &ended.spec,
            ended.id.0,
            position,
            ended.restarts,
            node.name(),
            &ended.owner.name,
            kind,
        ),
        live: false,
        on_nodes: ended.granted.nodes.len(),
    }))
}

fn no_node(id: JobId, name: Option<String>) -> Refusal {
    match name {
        Some(name) => Refusal::new(
            Code::UnknownNode,
            format!("job {id} ran on {name}, which is gone"),
            "",
        ),
        None => Refusal::new(
            Code::WrongState,
            format!("job {id} ended without running"),
            "it has no output",
        ),
    }
}

async fn ended_element(
    shared: &Arc<Shared>,
    id: JobId,
    position: u32,
    spec: &JobSpec,
    owner: &Owner,
    kind: OutputKind,
) -> Result<Found, Refusal> {
    let at = blocking(shared, move |reader| reader.element_end(id, position)).await?;
    let (slot, granted, restarts) = match at {
        Some(at) => (at.slot, at.granted, at.end.restarts),
        None => return Err(no_node(id, None)),
    };
    let (Some(slot), Some(name)) = (slot, granted.nodes.first()) else {
        return Err(no_node(id, None));
    };
    let snapshot = shared.snapshot.load_full();
    let Some(node) = snapshot.nodes.values().find(|node| node.name() == name) else {
        return Err(no_node(id, Some(name.clone())));
    };
    Ok(Found {
        key: SlotKey { job: id, slot },
        position,
        node: node.id,
        owner: owner.clone(),
        source: source_of(spec, id.0, position, restarts, name, &owner.name, kind),
        live: false,
        on_nodes: granted.nodes.len(),
    })
}
