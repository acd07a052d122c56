//! What nodes bring to a group that PMIx makes of ranks: the number that each would give it, and bytes of its library's.
//!
//! A group has one number, which no other group of its step ever has. Each node counts in numbers of its own
//! (`pmix/desk.rs`), so nobody has to be asked for one: that of the group's first node counts, for all members alike.

/// Bytes of the number.
const NUMBER: usize = 8;

/// What this node brings; no group has the number 0.
pub(super) fn part(context: Option<u64>, bytes: Vec<u8>) -> Vec<u8> {
    let mut part = context.unwrap_or(0).to_le_bytes().to_vec();
    part.extend(bytes);
    part
}

/// Of what all nodes have brought, in their order: the number, and the bytes one after another.
pub(super) fn made(parts: impl Iterator<Item = Vec<u8>>) -> (Option<u64>, Vec<u8>) {
    let mut context = None;
    let mut all = Vec::new();
    for part in parts {
        let Some((number, bytes)) = part.split_first_chunk::<NUMBER>() else {
            continue;
        };
        let number = u64::from_le_bytes(*number);
        context = context.or((number != 0).then_some(number));
        all.extend_from_slice(bytes);
    }
    (context, all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::StepId;
    use crate::model::step::StepOptions;
    use crate::model::time::Timestamp;
    use crate::steps::placement::Placement;
    use crate::steps::wire_acts::WireAct;
    use crate::steps::wire_facts::WireFacts;
    use crate::steps::wiring::Wiring;
    use crate::wire::pmix::{Blob, FromPmix, ToPmix};
    use std::collections::VecDeque;

    /// The wirings of a step of three nodes, with two ranks each.
    fn three_nodes() -> Vec<Wiring> {
        let wiring = |me| {
            Wiring::new(WireFacts {
                step: StepId(0),
                me,
                node: format!("n{me}"),
                placement: Placement::new(&[2, 2, 2], &StepOptions::default(), &[]).unwrap(),
                kvs_name: "hpc-1".to_owned(),
                universe: 6,
                spawner: None,
                options: StepOptions::default(),
                epoch: (Timestamp(0), 0),
            })
        };
        (0..3).map(wiring).collect()
    }

    /// The helper of a node says that the members there want a group; what all helpers then hear, by node.
    fn wants(
        nodes: &mut [Wiring],
        node: u32,
        name: &str,
        ranks: &[u32],
        ends: bool,
    ) -> Vec<(u32, u64, Option<u64>, Vec<u8>)> {
        let message = FromPmix::Group {
            ask: 10 + u64::from(node),
            name: name.to_owned(),
            ends,
            everyone: ranks.is_empty(),
            ranks: ranks.to_vec(),
            context: (!ends).then(|| 100 + u64::from(node)),
            bytes: Blob(vec![b'a' + u8::try_from(node).unwrap()]),
            timeout_s: None,
        };
        let mut heard = Vec::new();
        let mut acts = Vec::new();
        nodes[node as usize].pmix_said(message, &mut acts);
        let mut acts: VecDeque<_> = acts.into_iter().map(|act| (node, act)).collect();
        while let Some((at, act)) = acts.pop_front() {
            match act {
                WireAct::Peer { to, message } => {
                    let mut more = Vec::new();
                    nodes[to as usize].peer_said(at, message, &mut more);
                    acts.extend(more.into_iter().map(|act| (to, act)));
                }
                WireAct::Pmix(ToPmix::Grouped {
                    ask,
                    context,
                    outcome: Ok(Blob(bytes)),
                }) => heard.push((at, ask, context, bytes)),
                other => panic!("{other:?}"),
            }
        }
        heard.sort();
        heard
    }

    #[test]
    fn members_of_all_nodes_have_one_number_and_what_all_bring() {
        let mut nodes = three_nodes();
        // Twice under one name, and another beside it.
        for _ in 0..2 {
            assert_eq!(wants(&mut nodes, 2, "ocean", &[], false), []);
            assert_eq!(wants(&mut nodes, 2, "ice", &[3, 5], false), []);
            assert_eq!(wants(&mut nodes, 0, "ocean", &[], false), []);
            let ice = wants(&mut nodes, 1, "ice", &[3, 5], false);
            let expected = |node, number| (node, 10 + u64::from(node), number);
            let of_ice = |node| {
                let (node, ask, number) = expected(node, Some(101));
                (node, ask, number, b"bc".to_vec())
            };
            assert_eq!(ice, [of_ice(1), of_ice(2)]);
            let of_ocean = |node| {
                let (node, ask, number) = expected(node, Some(100));
                (node, ask, number, b"abc".to_vec())
            };
            let ocean = wants(&mut nodes, 1, "ocean", &[], false);
            assert_eq!(ocean, [of_ocean(0), of_ocean(1), of_ocean(2)]);
            // The end of one is no other's beginning.
            assert_eq!(wants(&mut nodes, 0, "ocean", &[], true), []);
            assert_eq!(wants(&mut nodes, 1, "ocean", &[], true), []);
            let ended = wants(&mut nodes, 2, "ocean", &[], true);
            let whom: Vec<_> = ended
                .iter()
                .map(|(node, _, number, _)| (*node, *number))
                .collect();
            assert_eq!(whom, [(0, None), (1, None), (2, None)]);
        }
    }

    #[test]
    fn the_first_number_counts_and_all_bytes_come() {
        let parts = [part(Some(9), b"ab".to_vec()), part(Some(4), b"c".to_vec())];
        assert_eq!(made(parts.into_iter()), (Some(9), b"abc".to_vec()));
        // Whoever wants none names none; what is no part says nothing.
        let parts = [vec![1, 2], part(None, Vec::new()), part(Some(4), vec![0])];
        assert_eq!(made(parts.into_iter()), (Some(4), vec![0]));
        assert_eq!(made(std::iter::empty()), (None, Vec::new()));
    }
}
