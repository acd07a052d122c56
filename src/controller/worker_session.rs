//! The link to one worker: its reports become commands, its streams go to their readers.
//!
//! Heartbeats are answered here and never wait for a commit. A beat that was answered had come before the link was
//! found lost: on that rest the leases of jobs that may run again (see `cluster/leases.rs`).

use super::act;
use super::links::{Links, StdinTaken, StreamEvent};
use super::run::{Message, Shared, now};
use super::safe_reports::{self, SafeReports};
use super::session::{Incoming, Outgoing};
use crate::cluster::Command;
use crate::model::ids::{NodeId, SlotKey};
use crate::model::node::{Inventory, Serves};
use crate::net::server::Peer;
use crate::wire::codec::{CodecError, REPORT_MAX};
use crate::wire::hello::VERSION_BEATS;
use crate::wire::older;
use crate::wire::worker::{FromSlot, FromWorker, ToSlot, ToWorker};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::Instant;

/// Between looks at whether a certificate still holds.
const LOOK: Duration = Duration::from_secs(600);
/// Longest frame of output alone.
const DATA_FRAME_MAX: usize = 1024 * 1024;
/// Orders written together at most, and bytes: those of launches may be long, and are not gathered first.
const WRITE_MAX: usize = 256;
const WRITE_BYTES: usize = 256 * 1024;
/// Bytes of a node's reports that may wait for the loop; then nothing more is heard of it until some were taken.
const REPORTS_MAX: usize = REPORT_MAX;
/// What a report weighs beside its bytes.
const REPORT_LEAST: usize = 512;
/// Longest name of a user that a worker may say; accounts of other systems may be longer than ours.
const NAME_MAX: usize = 256;
/// Longest text about a stream's end.
const ERROR_MAX: usize = 4096;

/// A worker on another machine: the node that its key stands for.
pub(super) struct From {
    pub(super) node: String,
    pub(super) peer: Arc<Peer>,
}

/// What a worker says of itself first, if that is in order.
fn introduced(
    from: Option<&From>,
    message: FromWorker,
) -> Option<(Inventory, Serves, Vec<SlotKey>)> {
    match (from, message) {
        (None, FromWorker::Register { inventory, slots }) => {
            let serves = Serves::local(inventory.uid);
            Some((inventory, serves, slots))
        }
        (
            Some(from),
            FromWorker::Introduce {
                inventory,
                slots,
                user,
            },
        ) => {
            if let Some(why) = inventory.unbelievable() {
                tracing::warn!(node = %from.node, why, "a worker says what cannot be");
                return None;
            }
            if inventory.name != from.node {
                // Its key speaks for that node and no other.
                tracing::warn!(node = %from.node, claims = %inventory.name, "a worker calls itself by another's name");
                return None;
            }
            if user.as_ref().is_some_and(|user| user.len() > NAME_MAX) {
                tracing::warn!(node = %from.node, "a worker serves a user with a name that is none");
                return None;
            }
            let serves = user.map_or(Serves::Everyone, Serves::User);
            Some((inventory, serves, slots))
        }
        _ => None,
    }
}

pub(super) async fn serve(
    shared: &Arc<Shared>,
    from: Option<From>,
    version: u16,
    mut incoming: Incoming,
    mut outgoing: Outgoing,
) -> Result<(), CodecError> {
    incoming.allow(REPORT_MAX);
    let Some(first) = incoming.next::<FromWorker>().await? else {
        return Ok(());
    };
    let Some((inventory, serves, slots)) = introduced(from.as_ref(), first) else {
        return Ok(());
    };
    let peer = from.map(|from| from.peer);
    let name = inventory.name.clone();
    let link = shared.links.number();
    let (outbox, mut orders) = Links::outbox();
    // Held weakly: whoever drops the link drops its outbox, and then nothing may be answered any more.
    let answers = outbox.downgrade();
    if version >= VERSION_BEATS {
        let config = &shared.options.config;
        let silent_after_ms = u64::from(config.node_silent_after_s) * 1000;
        let terms = ToWorker::Terms {
            silent_after_ms,
            lease_ms: u64::from(config.lease_s) * 1000,
        };
        _ = outbox.try_send(terms);
        incoming.expect_within(Duration::from_millis(silent_after_ms));
    }
    let (answer, heard) = oneshot::channel();
    let command = Command::Register {
        inventory: Box::new(inventory),
        serves,
        slots,
        gives_leases: version >= VERSION_BEATS,
    };
    _ = shared
        .inbox
        .send(Message::Register {
            command,
            link,
            outbox,
            peer: peer.clone(),
            answer,
        })
        .await;
    let Ok(Ok(node)) = heard.await else {
        return Ok(());
    };
    tracing::info!(node = %name, "worker registered");
    let (way, mut passing) = shared.relays.open(node, link, version);
    let mut writer = tokio::spawn({
        let shared = Arc::clone(shared);
        async move {
            let mut batch = Vec::new();
            let mut safe = SafeReports::default();
            let mut due = Instant::now();
            loop {
                let written = tokio::select! {
                    biased;
                    () = tokio::time::sleep_until(due), if !safe.is_empty() => {
                        write(&shared, safe.take(), &mut outgoing).await
                    }
                    count = orders.recv_many(&mut batch, WRITE_MAX) => {
                        if count == 0 {
                            return;
                        }
                        if safe.is_empty() {
                            due = Instant::now() + safe_reports::WAIT;
                        }
                        safe.keep_back(&mut batch);
                        let orders = batch.drain(..).map(|order| understood(version, order));
                        write(&shared, orders.flatten(), &mut outgoing).await
                    }
                    Some(frame) = passing.recv() => {
                        write(&shared, std::iter::once(frame.order), &mut outgoing).await
                    }
                };
                if written.is_err() {
                    return;
                }
            }
        }
    });
    let result = tokio::select! {
        result = listen(shared, node, link, &mut incoming, &answers) => result,
        () = until_expired(shared, peer.as_deref()) => Ok(()),
        () = until_cut(peer.as_deref()) => Ok(()),
        // The link was dropped by us: the worker is to register again.
        _ = &mut writer => Ok(()),
    };
    writer.abort();
    drop(way);
    _ = shared.inbox.send(Message::LinkLost { node, link }).await;
    match &result {
        Err(CodecError::Io(error)) if error.kind() == std::io::ErrorKind::TimedOut => {
            tracing::warn!(node = %name, "nothing came from the worker for too long; its link was dropped");
        }
        _ => tracing::info!(node = %name, "worker's link is gone"),
    }
    result
}

/// Writes orders, many at a time while they are short.
async fn write(
    shared: &Shared,
    orders: impl Iterator<Item = ToWorker>,
    outgoing: &mut Outgoing,
) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    for mut order in orders {
        if let ToWorker::Slot {
            key,
            order: ToSlot::Launch(launch),
        } = &mut order
            && let Err(refusal) = act::fill(shared, launch).await
        {
            tracing::error!(slot = %key, %refusal, "cannot read what the job starts with");
            continue;
        }
        bytes.extend_from_slice(&crate::wire::codec::encode(&order));
        if bytes.len() >= WRITE_BYTES {
            outgoing.send_bytes(&std::mem::take(&mut bytes)).await?;
        }
    }
    if bytes.is_empty() {
        return Ok(());
    }
    outgoing.send_bytes(&bytes).await
}

/// What is done about a node that sends output which nobody has asked for.
fn unruly(node: NodeId) -> Result<(), CodecError> {
    tracing::warn!(%node, "a worker sent more output than was asked for; its link was dropped");
    Ok(())
}

/// A stream's end, with a word about it that is no longer than ours.
fn end_of_stream(error: Option<String>) -> StreamEvent {
    let too_long = |error: &String| error.len() > ERROR_MAX;
    let error = match error {
        Some(error) if too_long(&error) => Some("its node cannot read it".to_owned()),
        error => error,
    };
    StreamEvent::End { error }
}

/// An order in words that a worker of this version knows.
fn understood(version: u16, order: ToWorker) -> Option<ToWorker> {
    match order {
        ToWorker::Slot { key, order } => {
            older::order_for(version, order).map(|order| ToWorker::Slot { key, order })
        }
        order => Some(order),
    }
}

/// Whether a slot has this node.
fn holds(shared: &Shared, node: NodeId, key: SlotKey) -> bool {
    let snapshot = shared.snapshot.load();
    let job = snapshot.jobs.get(&key.job);
    job.and_then(|job| job.slot(key.slot))
        .is_some_and(|slot| slot.allocation.share(node).is_some())
}

/// Returns once the key of this link was revoked, or its process is gone.
async fn until_cut(peer: Option<&Peer>) {
    match peer {
        Some(peer) => peer.until_cut().await,
        None => std::future::pending().await,
    }
}

/// Returns once the key of this link is known no more, or its certificate has expired and was not renewed.
async fn until_expired(shared: &Shared, peer: Option<&Peer>) {
    let Some(peer) = peer else {
        return std::future::pending().await;
    };
    loop {
        let until = shared
            .snapshot
            .load()
            .keys
            .get(&peer.key)
            .map(|known| known.expires);
        let Some(left) = until
            .map(|until| until.minus(now()))
            .filter(|left| *left > 0)
        else {
            return;
        };
        // Looked at again now and then, for the clock may jump.
        let left = Duration::from_millis(left.unsigned_abs()) + Duration::from_millis(100);
        tokio::time::sleep(left.min(LOOK)).await;
    }
}

async fn listen(
    shared: &Shared,
    node: NodeId,
    link: u64,
    incoming: &mut Incoming,
    answers: &mpsc::WeakSender<ToWorker>,
) -> Result<(), CodecError> {
    let room = Arc::new(Semaphore::new(REPORTS_MAX));
    while let Some(message) = incoming.next::<FromWorker>().await? {
        match message {
            FromWorker::Slot {
                key,
                report:
                    FromSlot::StdinTaken {
                        step,
                        offset,
                        closed,
                    },
            } => {
                // Only a node that has the slot may speak of it.
                if holds(shared, node, key) {
                    let taken = StdinTaken {
                        node,
                        offset,
                        closed,
                    };
                    shared.links.stdin_taken(key, step, taken);
                }
            }
            FromWorker::Slot {
                key,
                report: FromSlot::Peer { to, frame },
            } => {
                let snapshot = shared.snapshot.load();
                let job = snapshot.jobs.get(&key.job);
                if let Some(slot) = job.and_then(|job| job.slot(key.slot)) {
                    let length = incoming.length();
                    let shares = &slot.allocation.nodes;
                    shared.relays.pass(shares, key, node, to, frame, length);
                }
            }
            FromWorker::Slot { key, report } => {
                let weight = (incoming.length() + REPORT_LEAST).min(REPORTS_MAX);
                let weight = u32::try_from(weight).unwrap_or(u32::MAX);
                let Ok(room) = Arc::clone(&room).acquire_many_owned(weight).await else {
                    return Ok(());
                };
                let command = Command::Report { node, key, report };
                _ = shared.inbox.send(Message::Report { command, room }).await;
            }
            FromWorker::StreamData {
                stream,
                offset,
                bytes,
            } => {
                let event = StreamEvent::Data { offset, bytes };
                if shared.links.stream_event(node, stream, event).is_err() {
                    return unruly(node);
                }
            }
            FromWorker::StreamEnd { stream, error } => {
                let event = end_of_stream(error);
                _ = shared.links.stream_event(node, stream, event);
            }
            FromWorker::Pong { .. } => {}
            FromWorker::Leave => {
                // Closing the link is the answer. One that was replaced has nothing to say.
                if shared.links.is_current(node, link) {
                    _ = shared.ask(Command::NodeLeaves { node }).await;
                }
                return Ok(());
            }
            FromWorker::Beat { number } => {
                if let Some(outbox) = answers.upgrade() {
                    // One that finds no room is made up for by the next.
                    _ = outbox.try_send(ToWorker::Heard { number });
                }
            }
            // A worker introduces itself once a link.
            FromWorker::Register { .. } | FromWorker::Introduce { .. } => return Ok(()),
        }
    }
    Ok(())
}

/// The second stream of a node, for bytes of output alone: a slow reader of them never stops what the first one says.
pub(super) async fn data(
    shared: &Shared,
    node: &str,
    mut incoming: Incoming,
) -> Result<(), CodecError> {
    incoming.allow(DATA_FRAME_MAX);
    let known = |shared: &Shared| {
        let snapshot = shared.snapshot.load();
        let mut nodes = snapshot.nodes.values();
        nodes.find(|known| known.name() == node).map(|node| node.id)
    };
    while let Some(message) = incoming.next::<FromWorker>().await? {
        let Some(node) = known(shared) else {
            return Ok(());
        };
        match message {
            FromWorker::StreamData {
                stream,
                offset,
                bytes,
            } => {
                let event = StreamEvent::Data { offset, bytes };
                if shared.links.stream_event(node, stream, event).is_err() {
                    return unruly(node);
                }
            }
            FromWorker::StreamEnd { stream, error } => {
                let event = end_of_stream(error);
                _ = shared.links.stream_event(node, stream, event);
            }
            _ => return Ok(()),
        }
    }
    Ok(())
}
