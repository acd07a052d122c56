//! The logs of one step, one from each of its nodes, read side by side.
//!
//! Each node's log has offsets and a window of its own, so a slow one holds up no other. Nothing is kept here but where
//! each is: a link that breaks is opened again at the next byte. What is under way is bounded by the windows, for the
//! agents send no more than that ahead of what the client has taken.

use super::links::{StdinTaken, StreamEvent};
use super::run::Shared;
use crate::model::ids::{NodeId, SlotKey, StepId};
use crate::model::job::Owner;
use crate::wire::worker::{OpenStream, StreamSource};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use tokio::sync::mpsc;

/// A node of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NodeOf {
    /// Its place among the job's nodes, leader first.
    pub(super) place: u32,
    /// Its name.
    pub(super) name: String,
    /// `None` when it is no node of the cluster any more.
    pub(super) id: Option<NodeId>,
}

/// Which step, and as whom it is read.
#[derive(Debug, Clone)]
pub(super) struct Subject {
    pub(super) key: SlotKey,
    pub(super) position: u32,
    pub(super) step: StepId,
    pub(super) owner: Owner,
}

/// What came from one of the logs.
#[derive(Debug)]
pub(super) enum Piece {
    /// Bytes at an offset.
    Data { offset: u64, bytes: Vec<u8> },
    /// It is complete.
    End { error: Option<String> },
    /// The link is gone; the log will be opened again.
    Broken,
}

/// Most bytes of input on their way to a node that has not taken them; twice what our own clients keep.
const INPUT_MAX: u64 = 1024 * 1024;

/// How much of a standard input each node has taken: the client may forget what all have.
#[derive(Debug, Default)]
pub(super) struct Inputs {
    /// By node: bytes taken, and whether nobody reads there any more.
    nodes: BTreeMap<NodeId, (u64, bool)>,
    told: (u64, bool),
    /// Where this client began.
    first: Option<u64>,
}

impl Inputs {
    pub(super) fn of(nodes: &[NodeOf]) -> Self {
        let ids = nodes.iter().filter_map(|node| node.id);
        Inputs {
            nodes: ids.map(|id| (id, (0, false))).collect(),
            told: (0, false),
            first: None,
        }
    }

    /// Whether a client may send up to `behind` now, beginning at `offset`: it keeps what was not taken, and may keep
    /// only so much. What it says first on a connection may be what was taken long ago.
    pub(super) fn has_room(&mut self, offset: u64, behind: u64) -> bool {
        let first = *self.first.get_or_insert(offset);
        let taken = self.nodes.values().filter(|(_, closed)| !closed);
        let least = taken.map(|(offset, _)| *offset).min().unwrap_or(u64::MAX);
        behind <= least.max(first).saturating_add(INPUT_MAX)
    }

    /// Whether nothing need be sent to this node.
    pub(super) fn is_closed(&self, node: NodeId) -> bool {
        self.nodes.get(&node).is_none_or(|(_, closed)| *closed)
    }

    /// A node has taken some; what to tell the client, if that is news.
    pub(super) fn taken(&mut self, taken: StdinTaken) -> Option<(u64, bool)> {
        let known = self.nodes.get_mut(&taken.node)?;
        known.0 = known.0.max(taken.offset);
        known.1 |= taken.closed;
        self.news()
    }

    /// Nobody reads on this node any more.
    pub(super) fn closed(&mut self, node: &NodeOf) -> Option<(u64, bool)> {
        self.nodes.get_mut(&node.id?)?.1 = true;
        self.news()
    }

    fn news(&mut self) -> Option<(u64, bool)> {
        let open = self.nodes.values().filter(|(_, closed)| !closed);
        let most = self.nodes.values().map(|(offset, _)| *offset).max();
        let now = match open.map(|(offset, _)| *offset).min() {
            Some(least) => (least, false),
            None => (most.unwrap_or(0), true),
        };
        let news = now != self.told;
        self.told = now;
        news.then_some(now)
    }
}

/// One node's log.
struct NodeLog {
    node: NodeOf,
    /// The next byte.
    offset: u64,
    stream: Option<(u64, mpsc::Receiver<StreamEvent>)>,
    over: bool,
}

/// The logs of a step.
pub(super) struct StepLogs {
    shared: Arc<Shared>,
    subject: Subject,
    logs: Vec<NodeLog>,
    /// Who is asked first for the next piece.
    turn: usize,
}

impl StepLogs {
    /// Those of these nodes, from these offsets on; of places that are not listed from the beginning.
    pub(super) fn new(
        shared: &Arc<Shared>,
        subject: Subject,
        nodes: &[NodeOf],
        offsets: &[u64],
    ) -> Self {
        let logs = nodes.iter().map(|node| NodeLog {
            node: node.clone(),
            offset: offsets.get(node.place as usize).copied().unwrap_or(0),
            stream: None,
            over: false,
        });
        StepLogs {
            shared: Arc::clone(shared),
            subject,
            logs: logs.collect(),
            turn: 0,
        }
    }

    /// Opens what is neither open nor over, where the node has a link; how many were opened.
    pub(super) fn open(&mut self, follow: bool) -> usize {
        let mut opened = 0;
        for log in self
            .logs
            .iter_mut()
            .filter(|log| !log.over && log.stream.is_none())
        {
            let Some(node) = log.node.id else { continue };
            let open = OpenStream {
                stream: 0,
                key: self.subject.key,
                position: self.subject.position,
                source: StreamSource::StepLog(self.subject.step),
                offset: log.offset,
                follow,
                owner: self.subject.owner.clone(),
            };
            log.stream = self.shared.links.open(node, open);
            opened += usize::from(log.stream.is_some());
        }
        opened
    }

    /// Whether all are complete.
    pub(super) fn are_over(&self) -> bool {
        self.logs.iter().all(|log| log.over)
    }

    /// Whether some are out of reach now.
    pub(super) fn wait(&self) -> bool {
        self.logs
            .iter()
            .any(|log| !log.over && log.stream.is_none())
    }

    /// Waits no longer for those that are out of reach; whose they are.
    pub(super) fn give_up(&mut self) -> Vec<NodeOf> {
        let lost = self
            .logs
            .iter_mut()
            .filter(|log| !log.over && log.stream.is_none());
        lost.map(|log| {
            log.over = true;
            log.node.clone()
        })
        .collect()
    }

    /// The next piece of any of them, each in its turn; for ever when none is open. Dropped half-way it loses nothing.
    pub(super) async fn next(&mut self) -> (NodeOf, Piece) {
        let (at, event) = poll_fn(|context| {
            let count = self.logs.len();
            for at in (self.turn..count).chain(0..self.turn.min(count)) {
                let Some((_, events)) = &mut self.logs[at].stream else {
                    continue;
                };
                if let Poll::Ready(event) = events.poll_recv(context) {
                    self.turn = at + 1;
                    return Poll::Ready((at, event));
                }
            }
            Poll::Pending
        })
        .await;
        let log = &mut self.logs[at];
        let piece = match event {
            Some(StreamEvent::Data { offset, bytes }) => {
                log.offset = offset + bytes.len() as u64;
                Piece::Data { offset, bytes }
            }
            Some(StreamEvent::End { error }) => {
                (log.over, log.stream) = (true, None);
                Piece::End { error }
            }
            Some(StreamEvent::LinkLost) | None => {
                log.stream = None;
                Piece::Broken
            }
        };
        (log.node.clone(), piece)
    }

    /// The client has taken everything below this offset of one node's log.
    pub(super) fn taken(&self, place: u32, offset: u64) {
        let mut logs = self.logs.iter();
        if let Some(log) = logs.find(|log| log.node.place == place)
            && let (Some(node), Some((stream, _))) = (log.node.id, &log.stream)
        {
            self.shared
                .links
                .taken(node, *stream, offset.min(log.offset));
        }
    }
}

impl Drop for StepLogs {
    fn drop(&mut self) {
        for log in &self.logs {
            if let (Some(node), Some((stream, _))) = (log.node.id, &log.stream) {
                self.shared.links.close(node, *stream);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_is_taken_when_the_slowest_node_that_reads_has_it() {
        let node = |place: u32| NodeOf {
            place,
            name: String::new(),
            id: Some(NodeId(place + 1)),
        };
        let mut inputs = Inputs::of(&[node(0), node(1)]);
        let mut taken = |id: u32, offset, closed| {
            let node = NodeId(id);
            inputs.taken(StdinTaken {
                node,
                offset,
                closed,
            })
        };
        assert_eq!(taken(1, 50, false), None);
        assert_eq!(taken(2, 20, false), Some((20, false)));
        assert_eq!(taken(9, 99, true), None, "none of these nodes");
        assert_eq!(taken(2, 20, true), Some((50, false)), "it reads no more");
        assert!(inputs.is_closed(NodeId(2)) && !inputs.is_closed(NodeId(1)));
        assert_eq!(inputs.closed(&node(0)), Some((50, true)));
        assert_eq!(inputs.closed(&node(0)), None);
    }
}
