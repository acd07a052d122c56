//! What the nodes of a slot say to each other passes here, from the session of one worker to that of another, and never
//! through the loop. Nothing is kept: what finds no room is dropped, and its sender says it again (`steps/peers.rs`).
//!
//! A node speaks only for the slots that it has, and only with the other nodes of the same slot.

use crate::model::allocation::NodeShare;
use crate::model::ids::{NodeId, SlotKey};
use crate::wire::peer::PeerFrame;
use crate::wire::worker::{ToSlot, ToWorker};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// Bytes that may wait to be written to one worker.
const ROOM: usize = 64 * 1024 * 1024;
/// What a frame takes up beside its bytes.
const FRAME_LEAST: usize = 256;
/// Frames that may wait, whatever their size.
const FRAMES_MAX: usize = ROOM / FRAME_LEAST / 16;

/// A frame on its way, and the room it takes.
pub(super) struct Passing {
    pub(super) order: ToWorker,
    _room: OwnedSemaphorePermit,
}

/// The way to one worker.
#[derive(Debug)]
struct Way {
    link: u64,
    version: u16,
    frames: mpsc::Sender<Passing>,
    room: Arc<Semaphore>,
}

/// The ways to all workers.
#[derive(Debug, Default)]
pub(super) struct Relays {
    ways: Mutex<BTreeMap<NodeId, Way>>,
}

/// A way that is open as long as this lives.
pub(super) struct Opened<'a> {
    relays: &'a Relays,
    node: NodeId,
    link: u64,
}

impl Drop for Opened<'_> {
    fn drop(&mut self) {
        let mut ways = self.relays.ways();
        if ways
            .get(&self.node)
            .is_some_and(|way| way.link == self.link)
        {
            ways.remove(&self.node);
        }
    }
}

impl Relays {
    fn ways(&self) -> MutexGuard<'_, BTreeMap<NodeId, Way>> {
        self.ways.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Frames for this node go over this link from now on.
    pub(super) fn open(
        &self,
        node: NodeId,
        link: u64,
        version: u16,
    ) -> (Opened<'_>, mpsc::Receiver<Passing>) {
        let (frames, passing) = mpsc::channel(FRAMES_MAX);
        let way = Way {
            link,
            version,
            frames,
            room: Arc::new(Semaphore::new(ROOM)),
        };
        self.ways().insert(node, way);
        let opened = Opened {
            relays: self,
            node,
            link,
        };
        (opened, passing)
    }

    /// Passes a frame of `length` bytes from one node of a slot, which has these, to the one with this number in it.
    pub(super) fn pass(
        &self,
        shares: &[NodeShare],
        key: SlotKey,
        from: NodeId,
        to: u32,
        frame: PeerFrame,
        length: usize,
    ) {
        let mut numbered = shares.iter().zip(0_u32..);
        let number = numbered.find(|(share, _)| share.node == from);
        let (Some((_, sender)), Some(share)) = (number, shares.get(to as usize)) else {
            return;
        };
        if share.node == from {
            return;
        }
        let mut ways = self.ways();
        let (version, cannot) = frame.needs();
        match ways.get(&share.node) {
            Some(way) if way.version >= version => send(way, key, sender, frame, length),
            // It does not know that it is spoken to, so this is said for it.
            Some(_) => {
                let text = format!(
                    "node number {to} of the job runs an earlier build of hpc, which cannot {cannot}; restart its agent with \
                     this build"
                );
                let answer = frame.refused(text);
                if let (Some(way), Some(answer)) = (ways.get_mut(&from), answer) {
                    send(way, key, to, answer, FRAME_LEAST);
                }
            }
            None => {}
        }
    }
}

fn send(way: &Way, key: SlotKey, from: u32, frame: PeerFrame, length: usize) {
    let weight = u32::try_from(length.saturating_add(FRAME_LEAST).min(ROOM)).unwrap_or(u32::MAX);
    let Ok(room) = Arc::clone(&way.room).try_acquire_many_owned(weight) else {
        return;
    };
    let order = ToWorker::Slot {
        key,
        order: ToSlot::Peer { from, frame },
    };
    _ = way.frames.try_send(Passing { order, _room: room });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::cpu_set::CpuSet;
    use crate::model::ids::{JobId, SlotId, StepId};
    use crate::model::time::Timestamp;
    use crate::wire::hello::{VERSION_GROUPS, VERSION_PEERS};
    use crate::wire::peer::{Collective, Group, PeerMessage};

    const KEY: SlotKey = SlotKey {
        job: JobId(4),
        slot: SlotId(0),
    };

    fn shares() -> Vec<NodeShare> {
        let share = |node| NodeShare {
            node: NodeId(node),
            tasks: 1,
            cpus: CpuSet::new(),
            memory_mib: 0,
            gpus: Vec::new(),
        };
        vec![share(7), share(3)]
    }

    fn word(step: u32) -> PeerFrame {
        PeerFrame {
            number: 9,
            taken: 2,
            message: Some(PeerMessage::Begun {
                step: StepId(step),
                at: Timestamp(0),
            }),
        }
    }

    fn heard(passing: &mut mpsc::Receiver<Passing>) -> Option<(u32, PeerFrame)> {
        match passing.try_recv().ok()?.order {
            ToWorker::Slot {
                key: KEY,
                order: ToSlot::Peer { from, frame },
            } => Some((from, frame)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn frames_pass_between_the_nodes_of_a_slot_alone() {
        let relays = Relays::default();
        let shares = shares();
        let (_seven, mut to_seven) = relays.open(NodeId(7), 1, VERSION_PEERS);
        let (_three, mut to_three) = relays.open(NodeId(3), 2, VERSION_PEERS);
        let pass = |from, to| relays.pass(&shares, KEY, NodeId(from), to, word(1), 10);
        pass(7, 1);
        assert_eq!(heard(&mut to_three), Some((0, word(1))));
        pass(3, 0);
        assert_eq!(heard(&mut to_seven), Some((1, word(1))));
        // A stranger, a number that there is not, oneself.
        pass(5, 0);
        pass(7, 2);
        pass(7, 0);
        assert_eq!(heard(&mut to_seven), None);
        assert_eq!(heard(&mut to_three), None);
    }

    #[test]
    fn what_finds_no_room_is_dropped_and_the_way_stays_open() {
        let relays = Relays::default();
        let shares = shares();
        let (_three, mut to_three) = relays.open(NodeId(3), 2, VERSION_PEERS);
        for step in 1..=3 {
            relays.pass(
                &shares,
                KEY,
                NodeId(7),
                1,
                word(step),
                ROOM / 2 - FRAME_LEAST,
            );
        }
        assert_eq!(heard(&mut to_three), Some((0, word(1))));
        relays.pass(&shares, KEY, NodeId(7), 1, word(4), ROOM / 2 - FRAME_LEAST);
        assert_eq!(heard(&mut to_three), Some((0, word(2))));
        assert_eq!(heard(&mut to_three), Some((0, word(4))));
    }

    #[test]
    fn for_a_node_of_an_earlier_build_it_is_said_that_it_cannot() {
        let relays = Relays::default();
        let shares = shares();
        let (_seven, mut to_seven) = relays.open(NodeId(7), 1, VERSION_PEERS);
        let (_three, mut to_three) = relays.open(NodeId(3), 2, VERSION_PEERS - 1);
        relays.pass(&shares, KEY, NodeId(7), 1, word(5), 10);
        assert!(to_three.try_recv().is_err());
        let (from, frame) = heard(&mut to_seven).unwrap();
        assert_eq!((from, frame.number), (1, 1));
        let Some(PeerMessage::Failed { step, failure }) = frame.message else {
            panic!("{frame:?}");
        };
        assert_eq!(step, StepId(5));
        assert!(failure.text.contains("earlier build"));
    }

    #[test]
    fn a_node_that_knows_no_groups_is_spoken_to_of_all_else() {
        let relays = Relays::default();
        let shares = shares();
        let (_seven, mut to_seven) = relays.open(NodeId(7), 1, VERSION_GROUPS);
        let (_three, mut to_three) = relays.open(NodeId(3), 2, VERSION_GROUPS - 1);
        let mut group = word(5);
        group.message = Some(PeerMessage::Enter {
            step: StepId(5),
            collective: Collective {
                group: Group::PmixGroup {
                    name: "ocean".to_owned(),
                    ends: false,
                    ranks: Vec::new(),
                },
                epoch: 0,
            },
            parts: Vec::new(),
        });
        relays.pass(&shares, KEY, NodeId(7), 1, word(5), 10);
        relays.pass(&shares, KEY, NodeId(7), 1, group.clone(), 10);
        assert_eq!(heard(&mut to_three), Some((0, word(5))));
        assert_eq!(heard(&mut to_three), None);
        let (_, frame) = heard(&mut to_seven).unwrap();
        let Some(PeerMessage::Failed { failure, .. }) = frame.message else {
            panic!("{frame:?}");
        };
        assert!(failure.text.contains("cannot make groups"), "{failure:?}");
        // The other way round it passes.
        relays.pass(&shares, KEY, NodeId(3), 0, group.clone(), 10);
        assert_eq!(heard(&mut to_seven), Some((1, group)));
    }

    #[test]
    fn a_new_link_replaces_the_old_one_whichever_ends_first() {
        let relays = Relays::default();
        let shares = shares();
        let (old, _) = relays.open(NodeId(3), 2, VERSION_PEERS);
        let (_new, mut to_three) = relays.open(NodeId(3), 5, VERSION_PEERS);
        drop(old);
        relays.pass(&shares, KEY, NodeId(7), 1, word(1), 10);
        assert!(heard(&mut to_three).is_some());
    }
}
