//! How much of an array a slot has ahead.

use super::*;

/// Positions in one slot once the pace of the elements is known, with so many nodes of one cpu.
fn ahead(nodes: u32, took_ms: i64) -> usize {
    let names: Vec<String> = (0..nodes).map(|node| format!("ws{node}")).collect();
    let nodes: Vec<(&str, u32)> = names.iter().map(|name| (&**name, 1)).collect();
    let mut f = Fixture::new(&nodes);
    let job = f.submit(array("0-99999"));
    for _ in 0..20 {
        let (_, slot, held) = f.running().swap_remove(0);
        let node = f.cluster.job(job).unwrap().slots[0].allocation.nodes[0].node;
        let end = ElementEnd {
            started: Some(f.now),
            ended: f.now.plus_ms(took_ms),
            ..f.end(held[0], 0)
        };
        f.now = end.ended;
        f.reports += 1;
        let report = FromSlot::Ended {
            report: f.reports,
            ends: vec![end],
        };
        f.report(SlotKey { job, slot }, node.0, report);
    }
    f.running()[0].2.len()
}

#[test]
fn slots_have_more_ahead_the_more_there_are_and_long_elements_come_one_by_one() {
    let (few, many) = (ahead(2, 30), ahead(60, 30));
    assert!((1..=4).contains(&few), "{few}");
    assert!((5..=12).contains(&many), "{many}");
    for nodes in [1, 60] {
        assert_eq!(ahead(nodes, 5_000), 1, "{nodes} nodes");
    }
}
