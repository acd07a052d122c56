//! The link to one worker: its reports become commands, its streams go to their readers.

use super::links::{Links, StdinTaken, StreamEvent};
use super::run::{Message, Shared};
use super::session::{Incoming, Outgoing};
use crate::cluster::Command;
use crate::model::ids::NodeId;
use crate::wire::codec::{CodecError, FRAME_MAX};
use crate::wire::worker::{FromSlot, FromWorker};
use std::sync::Arc;
use tokio::sync::oneshot;

/// Orders written together at most.
const WRITE_MAX: usize = 256;

pub(super) async fn serve(
    shared: &Arc<Shared>,
    mut incoming: Incoming,
    mut outgoing: Outgoing,
) -> Result<(), CodecError> {
    incoming.allow(FRAME_MAX);
    let Some(FromWorker::Register { inventory, slots }) = incoming.next::<FromWorker>().await?
    else {
        return Ok(());
    };
    let name = inventory.name.clone();
    let link = shared.links.number();
    let (outbox, mut orders) = Links::outbox();
    let (answer, heard) = oneshot::channel();
    let command = Command::Register {
        inventory: Box::new(inventory),
        slots,
    };
    _ = shared
        .inbox
        .send(Message::Register {
            command,
            link,
            outbox,
            answer,
        })
        .await;
    let Ok(Ok(node)) = heard.await else {
        return Ok(());
    };
    tracing::info!(node = %name, "worker registered");
    let writer = tokio::spawn(async move {
        let mut batch = Vec::new();
        loop {
            batch.clear();
            if orders.recv_many(&mut batch, WRITE_MAX).await == 0 {
                return;
            }
            let mut bytes = Vec::new();
            for order in &batch {
                bytes.extend_from_slice(&crate::wire::codec::encode(order));
            }
            if outgoing.send_bytes(&bytes).await.is_err() {
                return;
            }
        }
    });
    let mut writer = writer;
    let result = tokio::select! {
        result = listen(shared, node, &mut incoming) => result,
        // The link was dropped by us: the worker is to register again.
        _ = &mut writer => Ok(()),
    };
    writer.abort();
    _ = shared.inbox.send(Message::LinkLost { node, link }).await;
    tracing::info!(node = %name, "worker's link is gone");
    result
}

async fn listen(shared: &Shared, node: NodeId, incoming: &mut Incoming) -> Result<(), CodecError> {
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
                shared
                    .links
                    .stdin_taken(key, step, StdinTaken { offset, closed });
            }
            FromWorker::Slot { key, report } => {
                shared.tell(Command::Report { node, key, report }).await
            }
            FromWorker::StreamData {
                stream,
                offset,
                bytes,
            } => {
                shared
                    .links
                    .stream_event(stream, StreamEvent::Data { offset, bytes });
            }
            FromWorker::StreamEnd { stream, error } => {
                shared
                    .links
                    .stream_event(stream, StreamEvent::End { error });
            }
            FromWorker::Pong { .. } => {}
            // A worker introduces itself once a link.
            FromWorker::Register { .. } => return Ok(()),
        }
    }
    Ok(())
}
