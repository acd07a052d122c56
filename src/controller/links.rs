//! The live connections to workers, and the streams that run over them beside the owner loop.

use crate::model::ids::{NodeId, SlotKey, StepId};
use crate::net::server::Peer;
use crate::wire::client::{PIECE_MAX, STREAM_WINDOW};
use crate::wire::worker::{OpenStream, ToWorker};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{mpsc, watch};

/// Orders on their way to one worker; when full the link is dropped and everything is said again. Each is small: the
/// bytes that a job starts with are added when its launch is written, and what a step starts with is there once.
const OUTBOX_MAX: usize = 32_768;
/// Pieces of one stream on their way to its reader; the window keeps it far below.
const STREAM_MAX: usize = 1024;

/// What a stream's reader hears.
#[derive(Debug)]
pub(super) enum StreamEvent {
    /// Bytes at an offset.
    Data { offset: u64, bytes: Vec<u8> },
    /// It is over.
    End { error: Option<String> },
    /// The worker's link is gone; ask again when it is back.
    LinkLost,
}

/// What the provider of a standard input hears.
#[derive(Debug, Clone, Copy)]
pub(super) struct StdinTaken {
    pub(super) node: NodeId,
    pub(super) offset: u64,
    pub(super) closed: bool,
}

/// What was last said of a standard input, by node.
pub(super) type TakenByNode = BTreeMap<NodeId, StdinTaken>;

#[derive(Debug)]
struct Link {
    id: u64,
    outbox: mpsc::Sender<ToWorker>,
    /// Over the network, and who is there; `None` = the local socket.
    peer: Option<Arc<Peer>>,
}

#[derive(Debug)]
struct Stream {
    node: NodeId,
    reader: mpsc::Sender<StreamEvent>,
    /// The next byte.
    next: u64,
    /// What its reader has taken, as the node was told.
    taken: u64,
}

impl Stream {
    /// Whether a piece is the next one, and within the window that the node was given.
    fn admit(&mut self, offset: u64, length: usize) -> bool {
        let most = self.taken.saturating_add(STREAM_WINDOW + PIECE_MAX as u64);
        let end = offset.checked_add(length as u64);
        let Some(end) = end.filter(|end| offset == self.next && *end <= most) else {
            return false;
        };
        self.next = end;
        true
    }
}

/// A node does not keep to what was agreed: its link is to be dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unruly;

#[derive(Debug, Default)]
struct Inner {
    links: BTreeMap<NodeId, Link>,
    streams: BTreeMap<u64, Stream>,
    stdin: BTreeMap<(SlotKey, StepId), (u64, watch::Sender<TakenByNode>)>,
}

impl Inner {
    /// Ends the streams of a node: their readers ask again.
    fn end_streams(&mut self, node: NodeId) {
        self.streams.retain(|_, stream| {
            let stays = stream.node != node;
            if !stays {
                _ = stream.reader.try_send(StreamEvent::LinkLost);
            }
            stays
        });
    }
}

/// Provides a step's standard input while it lives. One that came later is not disturbed by the end of an earlier one.
pub(super) struct Provider {
    links: Arc<Links>,
    place: (SlotKey, StepId),
    number: u64,
}

impl Drop for Provider {
    fn drop(&mut self) {
        let mut inner = self.links.inner();
        let known = inner.stdin.get(&self.place);
        if known.is_some_and(|(number, _)| *number == self.number) {
            inner.stdin.remove(&self.place);
        }
    }
}

/// All links and streams; shared by the loop and the sessions.
#[derive(Debug)]
pub(super) struct Links {
    inner: Mutex<Inner>,
    next: AtomicU64,
    changed: watch::Sender<u64>,
    /// Held by the loop from the publishing of a snapshot until it has sent what follows.
    turn: Mutex<()>,
}

impl Links {
    pub(super) fn new() -> Self {
        Links {
            inner: Mutex::default(),
            next: AtomicU64::new(1),
            changed: watch::Sender::new(0),
            turn: Mutex::default(),
        }
    }

    /// Taken by the loop around publishing a snapshot and sending what follows. A session that has seen a slot in the
    /// snapshot must not speak to a node that has not heard of it: for the node there is no such output then, for good.
    pub(super) fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits, some milliseconds at most, until what follows from a snapshot that one has seen was sent.
    pub(super) fn settle(&self) {
        drop(self.turn());
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number that was not given out before.
    pub(super) fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// An outbox for a new link.
    pub(super) fn outbox() -> (mpsc::Sender<ToWorker>, mpsc::Receiver<ToWorker>) {
        mpsc::channel(OUTBOX_MAX)
    }

    /// This link speaks for the node from now on.
    pub(super) fn connect(
        &self,
        node: NodeId,
        id: u64,
        outbox: mpsc::Sender<ToWorker>,
        peer: Option<Arc<Peer>>,
    ) {
        let mut inner = self.inner();
        // Those of the link before were served over that one.
        inner.end_streams(node);
        inner.links.insert(node, Link { id, outbox, peer });
        drop(inner);
        self.changed.send_modify(|count| *count += 1);
    }

    /// This link is gone; false when another speaks for the node by now. One that [`Links::send`] found gone before is
    /// the node's last too.
    pub(super) fn disconnect(&self, node: NodeId, id: u64) -> bool {
        let mut inner = self.inner();
        let ours = inner.links.get(&node).is_none_or(|link| link.id == id);
        if ours {
            inner.links.remove(&node);
            inner.end_streams(node);
        }
        ours
    }

    /// Whether this link speaks for the node.
    pub(super) fn is_current(&self, node: NodeId, id: u64) -> bool {
        self.inner()
            .links
            .get(&node)
            .is_some_and(|link| link.id == id)
    }

    /// Drops the link to a node: its worker connects again and all is said anew.
    pub(super) fn drop_node(&self, node: NodeId) {
        let id = self.inner().links.get(&node).map(|link| link.id);
        if let Some(id) = id {
            self.disconnect(node, id);
        }
    }

    /// Drops every link: their workers connect again and all is said anew.
    pub(super) fn drop_all(&self) {
        let nodes: Vec<(NodeId, u64)> = self
            .inner()
            .links
            .iter()
            .map(|(node, link)| (*node, link.id))
            .collect();
        for (node, id) in nodes {
            self.disconnect(node, id);
        }
    }

    /// How a node is reached: not at all, by the local socket, or over the network.
    pub(super) fn reached(&self, node: NodeId) -> Option<Option<Arc<Peer>>> {
        self.inner().links.get(&node).map(|link| link.peer.clone())
    }

    /// Hears of every connect.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Sends to a node; a node without a link hears it when it registers.
    pub(super) fn send(&self, node: NodeId, message: ToWorker) -> bool {
        let mut inner = self.inner();
        let Some(link) = inner.links.get(&node) else {
            return false;
        };
        if link.outbox.try_send(message).is_err() {
            // Full or closed: the worker must register again to hear everything.
            inner.links.remove(&node);
            return false;
        }
        true
    }

    /// Opens a stream on a node, which has heard of the slot by then; `None` while it has no link.
    pub(super) fn open(
        &self,
        node: NodeId,
        mut open: OpenStream,
    ) -> Option<(u64, mpsc::Receiver<StreamEvent>)> {
        self.settle();
        let number = self.number();
        let (reader, events) = mpsc::channel(STREAM_MAX);
        open.stream = number;
        let stream = Stream {
            node,
            reader,
            next: open.offset,
            taken: open.offset,
        };
        self.inner().streams.insert(number, stream);
        if self.send(node, ToWorker::OpenStream(open)) {
            Some((number, events))
        } else {
            self.inner().streams.remove(&number);
            None
        }
    }

    /// The reader has gone.
    pub(super) fn close(&self, node: NodeId, number: u64) {
        if self.inner().streams.remove(&number).is_some() {
            self.send(node, ToWorker::CloseStream { stream: number });
        }
    }

    /// The reader has taken everything below this offset: the node may send on.
    pub(super) fn taken(&self, node: NodeId, number: u64, offset: u64) {
        if let Some(stream) = self.inner().streams.get_mut(&number) {
            // No more than has come, whatever a reader says: what is on its way stays within one window.
            stream.taken = stream.taken.max(offset.min(stream.next));
        }
        let taken = ToWorker::StreamTaken {
            stream: number,
            offset,
        };
        self.send(node, taken);
    }

    /// Passes an event to a stream's reader. A reader that does not keep up is dropped, and asks again where it was.
    ///
    /// # Errors
    /// When the node sends what was not asked for, or more than it may.
    pub(super) fn stream_event(
        &self,
        node: NodeId,
        number: u64,
        event: StreamEvent,
    ) -> Result<(), Unruly> {
        let mut inner = self.inner();
        let over = matches!(event, StreamEvent::End { .. });
        // Streams are numbered for all nodes: another node's is none of its concern.
        let stream = inner.streams.get_mut(&number);
        let Some(stream) = stream.filter(|stream| stream.node == node) else {
            return Ok(());
        };
        if let StreamEvent::Data { offset, bytes } = &event
            && !stream.admit(*offset, bytes.len())
        {
            let error = Some("its node sends more than was asked for".to_owned());
            _ = stream.reader.try_send(StreamEvent::End { error });
            inner.streams.remove(&number);
            return Err(Unruly);
        }
        let full = stream.reader.try_send(event).is_err();
        if full || over {
            inner.streams.remove(&number);
        }
        drop(inner);
        if full && !over {
            self.send(node, ToWorker::CloseStream { stream: number });
        }
        Ok(())
    }

    /// Registers who provides a step's standard input.
    pub(super) fn provide_stdin(
        self: &Arc<Self>,
        key: SlotKey,
        step: StepId,
    ) -> (Provider, watch::Receiver<TakenByNode>) {
        let (sender, receiver) = watch::channel(TakenByNode::new());
        let number = self.number();
        self.inner().stdin.insert((key, step), (number, sender));
        let provider = Provider {
            links: Arc::clone(self),
            place: (key, step),
            number,
        };
        (provider, receiver)
    }

    /// A shepherd took some of a standard input.
    pub(super) fn stdin_taken(&self, key: SlotKey, step: StepId, taken: StdinTaken) {
        if let Some((_, provider)) = self.inner().stdin.get(&(key, step)) {
            provider.send_modify(|nodes| _ = nodes.insert(taken.node, taken));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::{JobId, SlotId};
    use crate::model::job::Owner;
    use crate::wire::worker::StreamSource;

    fn stream_from(offset: u64) -> OpenStream {
        OpenStream {
            stream: 0,
            key: SlotKey {
                job: JobId(1),
                slot: SlotId(0),
            },
            position: 0,
            source: StreamSource::StepLog(StepId(0)),
            offset,
            follow: true,
            owner: Owner {
                uid: 1,
                gid: 1,
                name: "ada".into(),
            },
        }
    }

    #[test]
    fn a_stream_is_opened_after_what_the_turn_has_sent() {
        let (links, node) = (Links::new(), NodeId(1));
        let (outbox, mut orders) = Links::outbox();
        links.connect(node, 7, outbox, None);
        let (begins, begun) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            let turn = links.turn();
            let links = &links;
            scope.spawn(move || {
                begins.send(()).unwrap();
                assert!(links.open(node, stream_from(0)).is_some());
            });
            begun.recv().unwrap();
            for nonce in 0..50 {
                std::thread::yield_now();
                assert!(links.send(node, ToWorker::Ping { nonce }));
            }
            drop(turn);
        });
        for nonce in 0..50 {
            assert_eq!(orders.try_recv(), Ok(ToWorker::Ping { nonce }));
        }
        assert!(matches!(orders.try_recv(), Ok(ToWorker::OpenStream(_))));
    }

    #[test]
    fn a_node_that_ignores_the_window_is_told_from_one_that_fills_it() {
        let (links, node) = (Links::new(), NodeId(1));
        let (outbox, _orders) = Links::outbox();
        links.connect(node, 7, outbox, None);
        let open = |offset| links.open(node, stream_from(offset)).unwrap();
        let send = |number, offset, length| {
            let bytes = vec![0; length];
            links.stream_event(node, number, StreamEvent::Data { offset, bytes })
        };
        let (number, _events) = open(10);
        let mut at = 10;
        while at < 10 + STREAM_WINDOW {
            assert_eq!(send(number, at, PIECE_MAX), Ok(()));
            at += PIECE_MAX as u64;
        }
        // A reader that says it has taken what never came opens the window no further.
        links.taken(node, number, u64::MAX);
        for _ in 0..5 {
            assert_eq!(send(number, at, PIECE_MAX), Ok(()));
            at += PIECE_MAX as u64;
        }
        assert_eq!(send(number, at, 1), Err(Unruly));
        assert_eq!(send(number, at, 1), Ok(()), "nobody reads it any more");
        for (offset, length) in [(9, 1), (11, 1), (u64::MAX, 2)] {
            let (number, mut events) = open(10);
            assert_eq!(send(number, offset, length), Err(Unruly));
            let said = events.try_recv().unwrap();
            assert!(matches!(said, StreamEvent::End { error: Some(_) }));
        }
    }

    #[test]
    fn a_link_found_gone_while_sending_is_still_the_nodes_last() {
        let (links, node) = (Links::new(), NodeId(1));
        let (outbox, orders) = Links::outbox();
        links.connect(node, 7, outbox, None);
        drop(orders);
        assert!(!links.send(node, ToWorker::Ping { nonce: 1 }));
        assert!(
            links.disconnect(node, 7),
            "the node must be said to be silent"
        );
        let (outbox, _orders) = Links::outbox();
        links.connect(node, 8, outbox, None);
        assert!(!links.disconnect(node, 7), "another link speaks for it");
        assert!(links.send(node, ToWorker::Ping { nonce: 2 }));
    }
}
