//! Collectives of a step between its nodes: each node's part goes to the first node of the group, the parts of all come
//! back.
//!
//! Up to [`FLAT_MAX`] nodes send straight to the first; beyond that they form a tree in which each has [`FANOUT`] below it,
//! so no node handles more messages than that. A group's collectives are counted by each node alone, as each of its ranks
//! must enter all of them in the same order. Only for groups with names, of which a program may make any number, a node
//! begins anew once it has none open: nobody enters such a group's next collective before its last one is through.

use crate::wire::peer::{Collective, Group, Part};
use std::collections::BTreeMap;

/// Up to so many nodes there is one that all others send to.
const FLAT_MAX: usize = 64;
/// Nodes below each in a tree.
const FANOUT: usize = 32;

/// What is to be done about a collective.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum GatherAct {
    /// These parts go to the node above us.
    Up {
        /// That node.
        to: u32,
        /// Which.
        collective: Collective,
        /// Ours and those below us.
        parts: Vec<Part>,
    },
    /// All parts go to a node below us.
    Down {
        /// That node.
        to: u32,
        /// Which.
        collective: Collective,
        /// All.
        parts: Vec<Part>,
    },
    /// All parts are here, in the order of nodes.
    Complete {
        /// Which.
        collective: Collective,
        /// All.
        parts: Vec<Part>,
    },
}

/// A collective that is not complete.
#[derive(Debug, Default)]
struct Open {
    /// Parts of our own and of those below, by node.
    parts: BTreeMap<u32, Vec<u8>>,
    /// Nodes directly below us that have sent theirs.
    below: usize,
    /// Our own ranks have entered.
    entered: bool,
    /// What we have went up.
    sent: bool,
}

/// The collectives of one step on one node.
#[derive(Debug)]
pub(super) struct Gathers {
    me: u32,
    open: BTreeMap<Collective, Open>,
    /// The next collective of each group that our own ranks enter.
    next: BTreeMap<Group, u32>,
}

/// Where a node is among those of a group.
struct Place {
    above: Option<u32>,
    below: Vec<u32>,
}

fn place(me: u32, nodes: &[u32]) -> Option<Place> {
    let at = nodes.iter().position(|node| *node == me)?;
    let fanout = if nodes.len() <= FLAT_MAX {
        nodes.len()
    } else {
        FANOUT
    };
    let first = at * fanout + 1;
    let below = nodes.iter().skip(first).take(fanout);
    Some(Place {
        above: (at > 0).then(|| nodes[(at - 1) / fanout]),
        below: below.copied().collect(),
    })
}

impl Gathers {
    pub(super) fn new(me: u32) -> Self {
        Gathers {
            me,
            open: BTreeMap::new(),
            next: BTreeMap::new(),
        }
    }

    /// The group's ranks here have all entered its next collective, which is returned. `nodes` are those of the group, in
    /// order; we are one of them.
    pub(super) fn enter(
        &mut self,
        group: Group,
        nodes: &[u32],
        bytes: Vec<u8>,
        out: &mut Vec<GatherAct>,
    ) -> Collective {
        let next = self.next.entry(group.clone()).or_default();
        let collective = Collective {
            group,
            epoch: *next,
        };
        *next += 1;
        let me = self.me;
        let open = self.open.entry(collective.clone()).or_default();
        open.entered = true;
        open.parts.insert(me, bytes);
        self.advance(&collective, nodes, out);
        collective
    }

    /// Parts from a node below.
    pub(super) fn entered(
        &mut self,
        collective: &Collective,
        nodes: &[u32],
        parts: Vec<Part>,
        out: &mut Vec<GatherAct>,
    ) {
        let open = self.open.entry(collective.clone()).or_default();
        open.below += 1;
        open.parts
            .extend(parts.into_iter().map(|part| (part.node, part.bytes)));
        self.advance(collective, nodes, out);
    }

    /// The parts of all have come from above.
    pub(super) fn completed(
        &mut self,
        collective: Collective,
        nodes: &[u32],
        parts: Vec<Part>,
        out: &mut Vec<GatherAct>,
    ) {
        if self.open.remove(&collective).is_none() {
            return;
        }
        self.forget(&collective);
        if let Some(place) = place(self.me, nodes) {
            complete(&place, collective, parts, out);
        }
    }

    /// A collective is through here. What comes of the same name later cannot be taken for it: whoever enters has what it
    /// brought, and so has every node on the way to the first one.
    fn forget(&mut self, done: &Collective) {
        if matches!(done.group, Group::PmixGroup { .. })
            && self.next.get(&done.group).copied() == done.epoch.checked_add(1)
        {
            self.next.remove(&done.group);
        }
    }

    fn advance(&mut self, collective: &Collective, nodes: &[u32], out: &mut Vec<GatherAct>) {
        let (Some(place), Some(open)) = (place(self.me, nodes), self.open.get_mut(collective))
        else {
            return;
        };
        if !open.entered || open.below < place.below.len() || open.sent {
            return;
        }
        open.sent = true;
        let parts = std::mem::take(&mut open.parts);
        let parts: Vec<Part> = parts
            .into_iter()
            .map(|(node, bytes)| Part { node, bytes })
            .collect();
        let collective = collective.clone();
        match place.above {
            Some(to) => out.push(GatherAct::Up {
                to,
                collective,
                parts,
            }),
            None => {
                self.open.remove(&collective);
                self.forget(&collective);
                complete(&place, collective, parts, out);
            }
        }
    }
}

fn complete(place: &Place, collective: Collective, parts: Vec<Part>, out: &mut Vec<GatherAct>) {
    out.extend(place.below.iter().map(|to| GatherAct::Down {
        to: *to,
        collective: collective.clone(),
        parts: parts.clone(),
    }));
    out.push(GatherAct::Complete { collective, parts });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::pmix::Purpose;
    use std::collections::VecDeque;

    /// Runs one collective of all nodes, which enter in this order; messages handled and the most of one node.
    fn run(nodes: &[u32], order: &[u32]) -> (usize, usize) {
        run_one(&mut all_of(nodes), &Group::Pmi, nodes, order)
    }

    fn all_of(nodes: &[u32]) -> BTreeMap<u32, Gathers> {
        let new = |node: &u32| (*node, Gathers::new(*node));
        nodes.iter().map(new).collect()
    }

    fn run_one(
        gathers: &mut BTreeMap<u32, Gathers>,
        group: &Group,
        nodes: &[u32],
        order: &[u32],
    ) -> (usize, usize) {
        let mut complete = BTreeMap::new();
        let mut handled: BTreeMap<u32, usize> = BTreeMap::new();
        let mut acts: VecDeque<(u32, GatherAct)> = VecDeque::new();
        let mut messages = 0;
        for node in order {
            let mut out = Vec::new();
            let bytes = node.to_le_bytes().to_vec();
            let gather = gathers.get_mut(node).unwrap();
            gather.enter(group.clone(), nodes, bytes, &mut out);
            acts.extend(out.into_iter().map(|act| (*node, act)));
            while let Some((at, act)) = acts.pop_front() {
                let mut out = Vec::new();
                let to = match act {
                    GatherAct::Up {
                        to,
                        collective,
                        parts,
                    } => {
                        let gather = gathers.get_mut(&to).unwrap();
                        gather.entered(&collective, nodes, parts, &mut out);
                        to
                    }
                    GatherAct::Down {
                        to,
                        collective,
                        parts,
                    } => {
                        let gather = gathers.get_mut(&to).unwrap();
                        gather.completed(collective, nodes, parts, &mut out);
                        to
                    }
                    GatherAct::Complete { parts, .. } => {
                        assert!(complete.insert(at, parts).is_none(), "twice on {at}");
                        continue;
                    }
                };
                messages += 1;
                *handled.entry(to).or_default() += 1;
                acts.extend(out.into_iter().map(|act| (to, act)));
            }
        }
        let wanted: Vec<Part> = nodes
            .iter()
            .map(|node| Part {
                node: *node,
                bytes: node.to_le_bytes().to_vec(),
            })
            .collect();
        assert_eq!(complete.len(), nodes.len());
        assert!(complete.values().all(|parts| *parts == wanted));
        assert!(gathers.values().all(|gather| gather.open.is_empty()));
        (messages, handled.values().copied().max().unwrap_or(0))
    }

    #[test]
    fn all_get_the_parts_of_all_in_the_order_of_nodes() {
        assert_eq!(run(&[7], &[7]), (0, 0));
        assert_eq!(run(&[0, 2, 5], &[5, 0, 2]), (4, 2));
        let few: Vec<u32> = (0..64).collect();
        let back: Vec<u32> = (0..64).rev().collect();
        assert_eq!(run(&few, &back), (126, 63));
    }

    #[test]
    fn beyond_a_few_nodes_none_handles_messages_of_all() {
        let many: Vec<u32> = (0..1000).collect();
        let back: Vec<u32> = (0..1000).rev().collect();
        let (messages, most) = run(&many, &back);
        assert_eq!(messages, 2 * 999);
        assert!(most <= FANOUT + 1, "{most}");
        assert_eq!(run(&many, &many).0, 2 * 999);
    }

    #[test]
    fn of_groups_with_names_nothing_is_kept_however_many_there_are() {
        let many: Vec<u32> = (0..100).collect();
        let back: Vec<u32> = (0..100).rev().collect();
        let mut gathers = all_of(&many);
        for name in ["ocean", "ice", "ocean", "ocean"] {
            let group = Group::PmixGroup {
                name: name.to_owned(),
                ends: false,
                ranks: Vec::new(),
            };
            run_one(&mut gathers, &group, &many, &back);
            run_one(&mut gathers, &group, &many, &many);
        }
        assert!(gathers.values().all(|gather| gather.next.is_empty()));
        // All others are counted for ever, as nodes of earlier builds do.
        run_one(&mut gathers, &PMIX, &many, &back);
        assert!(gathers.values().all(|gather| gather.next[&PMIX] == 1));
    }

    const PMIX: Group = Group::Pmix {
        purpose: Purpose::Fence,
    };

    #[test]
    fn a_node_that_is_ahead_waits_for_no_stranger() {
        // The second collective's part of node 1 comes before node 0 has entered the first.
        let nodes = [0, 1];
        let (mut first, mut second) = (Gathers::new(0), Gathers::new(1));
        let mut out = Vec::new();
        let one = second.enter(PMIX, &nodes, vec![1], &mut out);
        let two = second.enter(PMIX, &nodes, vec![2], &mut out);
        assert_eq!((one.epoch, two.epoch), (0, 1));
        let mut acts = Vec::new();
        for act in out.into_iter().rev() {
            let GatherAct::Up {
                collective, parts, ..
            } = act
            else {
                panic!("{act:?}");
            };
            first.entered(&collective, &nodes, parts, &mut acts);
        }
        assert!(acts.is_empty());
        first.enter(PMIX, &nodes, vec![0], &mut acts);
        assert_eq!(acts.len(), 2);
        assert!(matches!(&acts[1], GatherAct::Complete { collective, .. } if *collective == one));
    }
}
