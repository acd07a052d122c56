//! Mailboxes between the nodes of a slot, over agents and a controller that may lose what they carry: nothing is lost,
//! nothing comes twice, and what one node says to another comes in its order.
//!
//! Each message is kept until the other side has said that it took it. What is not taken is said again: at once over a
//! new link, and else after a time that doubles. There is one mailbox for each pair of nodes that have something to say,
//! so a node that is silent holds up nobody else.

use crate::wire::peer::{PeerFrame, PeerMessage};
use std::collections::{BTreeMap, VecDeque};

/// How long is waited for the other side before a message is said again; first and longest, milliseconds.
const AGAIN_MS: (u64, u64) = (1_000, 30_000);
/// How long a word that a message came may wait to travel with one that goes the same way; milliseconds.
const TAKEN_MS: u64 = 100;
/// Bytes that may wait for one node; a step that needs more is ended.
const WAITING_MAX: usize = 64 * 1024 * 1024;

/// A frame and where it goes.
pub(super) type Outgoing = (u32, PeerFrame);

/// One node's mailbox.
#[derive(Debug, Default)]
struct Mailbox {
    /// Number of the last message sent.
    sent: u64,
    /// Those not yet taken, with their numbers.
    kept: VecDeque<(u64, PeerMessage)>,
    /// Bytes in them.
    weight: usize,
    /// When they are said again, and how long was waited.
    again: Option<(u64, u64)>,
    /// Everything up to here has come.
    taken: u64,
    /// When the other side must hear of that.
    say_taken_at: Option<u64>,
}

/// The mailboxes of one node.
#[derive(Debug, Default)]
pub(super) struct Peers {
    boxes: BTreeMap<u32, Mailbox>,
}

impl Peers {
    /// Sends a message; false when too much waits for that node already.
    pub(super) fn send(
        &mut self,
        now: u64,
        to: u32,
        message: PeerMessage,
        out: &mut Vec<Outgoing>,
    ) -> bool {
        let mailbox = self.boxes.entry(to).or_default();
        let weight = message.weight();
        if mailbox.weight + weight > WAITING_MAX {
            return false;
        }
        mailbox.sent += 1;
        mailbox.weight += weight;
        mailbox.kept.push_back((mailbox.sent, message.clone()));
        mailbox
            .again
            .get_or_insert((now.saturating_add(AGAIN_MS.0), AGAIN_MS.0));
        mailbox.say_taken_at = None;
        let frame = PeerFrame {
            number: mailbox.sent,
            taken: mailbox.taken,
            message: Some(message),
        };
        out.push((to, frame));
        true
    }

    /// Takes a frame in; the message in it, if it is the next one. With `room` unset it is left to be said again.
    pub(super) fn receive(
        &mut self,
        now: u64,
        from: u32,
        frame: PeerFrame,
        room: bool,
    ) -> Option<PeerMessage> {
        let mailbox = self.boxes.entry(from).or_default();
        while let Some((number, message)) = mailbox.kept.front() {
            if *number > frame.taken {
                break;
            }
            mailbox.weight -= message.weight();
            mailbox.kept.pop_front();
            // It answers: the rest need not wait long.
            mailbox.again = Some((now.saturating_add(AGAIN_MS.0), AGAIN_MS.0));
        }
        if mailbox.kept.is_empty() {
            mailbox.again = None;
        }
        let message = frame.message?;
        if frame.number > mailbox.taken + 1 || (frame.number == mailbox.taken + 1 && !room) {
            return None;
        }
        mailbox
            .say_taken_at
            .get_or_insert(now.saturating_add(TAKEN_MS));
        if frame.number <= mailbox.taken {
            // Said again, so the other side does not know.
            mailbox.say_taken_at = Some(now);
            return None;
        }
        mailbox.taken = frame.number;
        Some(message)
    }

    /// Says what is due.
    pub(super) fn on_time(&mut self, now: u64, out: &mut Vec<Outgoing>) {
        for (to, mailbox) in &mut self.boxes {
            match mailbox.again {
                Some((at, waited)) if at <= now => {
                    let wait = (waited * 2).min(AGAIN_MS.1);
                    mailbox.again = Some((now.saturating_add(wait), wait));
                    mailbox.say_again(*to, out);
                }
                _ if mailbox.say_taken_at.is_some_and(|at| at <= now) => {
                    mailbox.say_taken_at = None;
                    let frame = PeerFrame {
                        number: 0,
                        taken: mailbox.taken,
                        message: None,
                    };
                    out.push((*to, frame));
                }
                _ => {}
            }
        }
    }

    /// Says everything again that may be lost: there is a new way to the controller.
    pub(super) fn over_new_link(&mut self, now: u64, out: &mut Vec<Outgoing>) {
        for (to, mailbox) in &mut self.boxes {
            if mailbox.again.is_some() {
                mailbox.again = Some((now.saturating_add(AGAIN_MS.0), AGAIN_MS.0));
                mailbox.say_again(*to, out);
            }
        }
    }

    /// When something is due next.
    pub(super) fn next_deadline(&self) -> Option<u64> {
        let due = self.boxes.values().flat_map(|mailbox| {
            let again = mailbox.again.map(|(at, _)| at);
            [again, mailbox.say_taken_at].into_iter().flatten()
        });
        due.min()
    }

    /// Whether there is anything that another node has not taken yet.
    #[cfg(test)]
    fn is_idle(&self) -> bool {
        self.boxes
            .values()
            .all(|mailbox| mailbox.kept.is_empty() && mailbox.weight == 0)
    }
}

impl Mailbox {
    fn say_again(&mut self, to: u32, out: &mut Vec<Outgoing>) {
        self.say_taken_at = None;
        for (number, message) in &self.kept {
            let frame = PeerFrame {
                number: *number,
                taken: self.taken,
                message: Some(message.clone()),
            };
            out.push((to, frame));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::StepId;
    use crate::model::time::Timestamp;
    use crate::wire::pmix::Blob;
    use proptest::prelude::*;

    fn word(number: u32) -> PeerMessage {
        PeerMessage::Begun {
            step: StepId(number),
            at: Timestamp(0),
        }
    }

    /// Two nodes and what is under way between them.
    #[derive(Default)]
    struct Pair {
        now: u64,
        nodes: [Peers; 2],
        way: Vec<(usize, PeerFrame)>,
        heard: [Vec<PeerMessage>; 2],
    }

    impl Pair {
        fn say(&mut self, node: usize, message: PeerMessage) {
            let mut out = Vec::new();
            assert!(self.nodes[node].send(self.now, 1, message, &mut out));
            self.post(node, out);
        }

        fn post(&mut self, from: usize, out: Vec<Outgoing>) {
            let frames = out.into_iter().map(|(_, frame)| (1 - from, frame));
            self.way.extend(frames);
        }

        fn arrive(&mut self, at: usize) {
            let (to, frame) = self.way.remove(at);
            let message = self.nodes[to].receive(self.now, 1, frame, true);
            self.heard[to].extend(message);
        }

        fn pass(&mut self, ms: u64) {
            self.now += ms;
            for node in 0..2 {
                let mut out = Vec::new();
                self.nodes[node].on_time(self.now, &mut out);
                self.post(node, out);
            }
        }
    }

    #[test]
    fn a_word_that_it_came_travels_alone_when_nothing_else_goes() {
        let mut pair = Pair::default();
        pair.say(0, word(1));
        pair.arrive(0);
        assert!(pair.way.is_empty());
        pair.pass(TAKEN_MS);
        assert_eq!(pair.way.len(), 1);
        pair.arrive(0);
        assert!(pair.nodes[0].is_idle());
        assert_eq!(pair.nodes[0].next_deadline(), None);
        assert_eq!(pair.nodes[1].next_deadline(), None);
    }

    #[test]
    fn too_much_for_a_node_that_does_not_answer_is_not_kept() {
        let mut peers = Peers::default();
        let big = || PeerMessage::ModexFound {
            step: StepId(0),
            ask: 1,
            outcome: Ok(Blob(vec![0; WAITING_MAX / 2])),
        };
        let mut out = Vec::new();
        assert!(peers.send(0, 3, big(), &mut out));
        assert!(!peers.send(0, 3, big(), &mut out));
        assert!(peers.send(0, 4, big(), &mut out));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        /// Frames are lost, come twice and out of order: each message is heard once, in order.
        #[test]
        fn nothing_is_lost_and_nothing_comes_twice(
            fates in proptest::collection::vec((0_u8..6, 0_usize..8, 0_u64..3_000), 1..120),
        ) {
            let mut pair = Pair::default();
            let mut said = [0_u32; 2];
            for (fate, which, ms) in fates {
                match fate {
                    0 | 1 => {
                        let node = usize::from(fate);
                        said[node] += 1;
                        pair.say(node, word(said[node]));
                    }
                    2 if !pair.way.is_empty() => {
                        let at = which % pair.way.len();
                        pair.way.remove(at);
                    }
                    3 if !pair.way.is_empty() => {
                        let at = which % pair.way.len();
                        let again = pair.way[at].clone();
                        pair.way.push(again);
                    }
                    4 if !pair.way.is_empty() => {
                        let at = which % pair.way.len();
                        pair.arrive(at);
                    }
                    _ => pair.pass(ms),
                }
            }
            for _ in 0..100 {
                while !pair.way.is_empty() {
                    pair.arrive(0);
                }
                pair.pass(AGAIN_MS.1);
            }
            for (node, count) in said.into_iter().enumerate() {
                let wanted: Vec<PeerMessage> = (1..=count).map(word).collect();
                prop_assert_eq!(&pair.heard[1 - node], &wanted);
                prop_assert!(pair.nodes[node].is_idle());
            }
        }
    }
}
