//! How often nodes were lost, and who is kept off them.

use super::*;
use crate::model::node::FAILURES_HALF_LIFE_S;
use crate::model::refusal::Code;
use crate::model::rules::{Act, Noun, RuleChange};
use crate::wire::client::NodeChange;

const HALF_LIFE_MS: i64 = FAILURES_HALF_LIFE_S as i64 * 1000;

fn failures(f: &Fixture, node: u32) -> f64 {
    let node = &f.cluster.nodes[&NodeId(node)];
    node.failures.at(f.now, FAILURES_HALF_LIFE_S)
}

fn lost(f: &mut Fixture, node: u32) {
    f.run(Command::LinkLost { node: NodeId(node) }).unwrap();
}

/// Something runs there.
fn busy(f: &mut Fixture, name: &str) {
    let request = crate::model::resource::Request {
        nodelist: vec![name.to_owned()],
        ..Default::default()
    };
    let job = f.submit(JobSpec {
        request: request.into(),
        ..spec()
    });
    assert!(!f.cluster.job(job).unwrap().slots.is_empty());
}

/// It reboots, and what it ran is lost.
fn reboots(f: &mut Fixture, name: &str, boot: &str) {
    busy(f, name);
    back(f, name, boot);
}

fn back(f: &mut Fixture, name: &str, boot: &str) {
    let mut inventory = inventory(name, 2);
    inventory.boot_id = boot.to_owned();
    f.run(Command::Register {
        inventory: Box::new(inventory),
        serves: Serves::Everyone,
        slots: vec![],
        gives_leases: false,
    })
    .unwrap();
}

fn change(f: &mut Fixture, change: NodeChange) {
    let name = "ws1".to_owned();
    f.run(Command::ChangeNode {
        who: user(0),
        name,
        change,
    })
    .unwrap();
}

fn set(f: &mut Fixture, who: u32, settings: &[(&str, &str)]) -> Result<Reply, Refusal> {
    let settings = settings.iter();
    let settings = settings.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    f.run(Command::ChangeRule {
        who: user(who),
        change: RuleChange {
            noun: Noun::Node,
            act: Act::Set,
            name: "ws1".to_owned(),
            settings: settings.collect(),
        },
    })
}

#[test]
fn a_loss_that_nobody_asked_for_is_counted_once_and_fades() {
    let mut f = Fixture::new(&[("ws1", 2)]);
    // Cut off and back: nothing was lost.
    lost(&mut f, 1);
    back(&mut f, "ws1", "boot");
    assert_eq!(failures(&f, 1), 0.0);
    // Rebooted before anybody noticed, and while it was silent.
    reboots(&mut f, "ws1", "2");
    busy(&mut f, "ws1");
    lost(&mut f, 1);
    back(&mut f, "ws1", "3");
    assert_eq!(failures(&f, 1), 2.0);
    f.now = f.now.plus_ms(HALF_LIFE_MS);
    assert_eq!(failures(&f, 1), 1.0);
    // Where nothing ran it was switched off.
    back(&mut f, "ws1", "off and on");
    assert_eq!(failures(&f, 1), 1.0);
    // Silent too long, and another boot afterwards: once.
    busy(&mut f, "ws1");
    lost(&mut f, 1);
    f.now = f.cluster.next_deadline().unwrap();
    f.run(Command::Tick).unwrap();
    f.run(Command::Tick).unwrap();
    back(&mut f, "ws1", "4");
    assert!((1.99..2.0).contains(&failures(&f, 1)));
    invariants::check(&f.cluster).unwrap();
    // It is stored with the node.
    let node = f.cluster.nodes[&NodeId(1)].clone();
    let changes = f.cluster.take_changes();
    assert_eq!(changes.nodes, [(1, Some(node))]);
}

#[test]
fn what_somebody_asked_for_is_no_failure() {
    let mut f = Fixture::new(&[("ws1", 2), ("ws2", 2)]);
    let reason = "new disk".to_owned();
    change(&mut f, NodeChange::Drain { reason });
    lost(&mut f, 1);
    f.now = f.cluster.next_deadline().unwrap();
    f.run(Command::Tick).unwrap();
    back(&mut f, "ws1", "2");
    change(&mut f, NodeChange::Resume);
    f.run(Command::NodeLeaves { node: NodeId(1) }).unwrap();
    back(&mut f, "ws1", "3");
    assert_eq!(failures(&f, 1), 0.0);
    assert_eq!(failures(&f, 2), 0.0);
}

#[test]
fn an_operator_has_it_forgotten() {
    let mut f = Fixture::new(&[("ws1", 2)]);
    reboots(&mut f, "ws1", "2");
    let refused = set(&mut f, 1000, &[("failures", "0")]).unwrap_err();
    assert_eq!(refused.code, Code::NotPermitted);
    let refused = set(&mut f, 0, &[("failures", "3")]).unwrap_err();
    assert!(refused.what.contains("counted, not set"), "{refused}");
    assert_eq!(failures(&f, 1), 1.0);
    set(&mut f, 0, &[("failures", "0")]).unwrap();
    assert_eq!(failures(&f, 1), 0.0);
    assert!(f.cluster.rules().nodes.is_empty(), "it is no rule");
    reboots(&mut f, "ws1", "3");
    set(&mut f, 0, &[("switch", "a"), ("failures", "0")]).unwrap();
    assert_eq!(failures(&f, 1), 0.0);
    let rule = &f.cluster.rules().nodes["ws1"];
    assert_eq!(rule.switch.as_deref(), Some("a"));
    invariants::check(&f.cluster).unwrap();
}

/// A cluster that takes jobs of any length.
fn unlimited(nodes: &[(&str, u32)]) -> Fixture {
    let mut f = Fixture::new(nodes);
    let change = RuleChange {
        noun: Noun::Partition,
        act: Act::Set,
        name: "batch".to_owned(),
        settings: vec![("max-time".to_owned(), "none".to_owned())],
    };
    let who = user(0);
    f.run(Command::ChangeRule { who, change }).unwrap();
    f
}

/// Where a job of so many hours would be, on so many nodes.
fn place(f: &mut Fixture, hours: u32, nodes: u32) -> Vec<u32> {
    let request = crate::model::resource::Request {
        nodes_min: nodes,
        nodes_max: Some(nodes),
        ntasks: Some(nodes),
        ..Default::default()
    };
    let job = f.submit(JobSpec {
        time_limit_s: Some(hours * 3600),
        request: request.into(),
        hold: true,
        ..spec()
    });
    let job = f.cluster.job(job).unwrap();
    let policy = f.cluster.policy();
    let place = crate::scheduler::would_place(&f.cluster.view(), job, f.now, policy).unwrap();
    let mut nodes: Vec<u32> = place.nodes.iter().map(|share| share.node.0).collect();
    nodes.sort_unstable();
    nodes
}

#[test]
fn long_and_wide_jobs_keep_off_and_short_ones_do_not() {
    let mut f = unlimited(&[("ws1", 2), ("ws2", 2), ("ws3", 2)]);
    assert_eq!(place(&mut f, 1, 1), [1]);
    reboots(&mut f, "ws2", "2");
    assert_eq!(
        place(&mut f, 1, 1),
        [2],
        "short: where others would rather not be"
    );
    assert_eq!(place(&mut f, 2, 1), [1]);
    assert_eq!(place(&mut f, 1, 2), [1, 2], "a chance of 1 % is none");
    assert_eq!(place(&mut f, 3, 2), [1, 3], "wide");
    // Enough others there are not: then it may be there, however likely it is lost.
    assert_eq!(place(&mut f, 100, 3), [1, 2, 3]);
    reboots(&mut f, "ws1", "2");
    reboots(&mut f, "ws1", "3");
    assert_eq!(
        place(&mut f, 100, 2),
        [2, 3],
        "the least flaky that is needed"
    );
}

#[test]
fn who_waits_for_steadier_nodes_is_told_so_and_gets_them() {
    let mut f = unlimited(&[("ws1", 1), ("ws2", 1)]);
    let long = |hours: u32| JobSpec {
        time_limit_s: Some(hours * 3600),
        ..spec()
    };
    let first = f.submit(long(2));
    assert_eq!(f.running()[0].0, first);
    busy(&mut f, "ws2");
    lost(&mut f, 2);
    let mut again = inventory("ws2", 1);
    again.boot_id = "2".to_owned();
    f.run(Command::Register {
        inventory: Box::new(again),
        serves: Serves::Everyone,
        slots: vec![],
        gives_leases: false,
    })
    .unwrap();
    let waits = f.submit(long(30));
    let snapshot = f.cluster.snapshot();
    let reason = views::pending_reason(&snapshot, &snapshot.jobs[&waits]);
    let Reason::FlakyNodes(what) = &reason else {
        panic!("{reason:?}")
    };
    assert!(what.ends_with("too high on ws2 (12 %)"), "{what}");
    let shorter = f.submit(long(20));
    assert_eq!(f.cluster.job(shorter).unwrap().slots.len(), 1, "it passes");
    // In less than a tenth of its time the other is free: for one that ends later it does not wait.
    let view = f.cluster.view();
    let start = view.occupancy.iter().map(|(ends, ..)| ends).next().unwrap();
    assert_eq!(start.minus(f.now), 2 * 3_600_000);
    f.present(f.running_key(first), 1);
    f.report_end(first, 0, 0, 0);
    let slots = &f.cluster.job(waits).unwrap().slots;
    assert_eq!(slots[0].allocation.nodes[0].node, NodeId(1));
}

#[test]
fn nobody_waits_long_for_steadier_nodes() {
    let mut f = unlimited(&[("ws1", 1), ("ws2", 1)]);
    let long = |hours: u32| JobSpec {
        time_limit_s: Some(hours * 3600),
        ..spec()
    };
    f.submit(long(4));
    reboots(&mut f, "ws2", "2");
    let waits = f.submit(long(30));
    let slots = &f.cluster.job(waits).unwrap().slots;
    assert_eq!(
        slots[0].allocation.nodes[0].node,
        NodeId(2),
        "4 h are more than a tenth of 30"
    );
}

#[test]
fn equally_flaky_nodes_are_all_taken() {
    let names: Vec<String> = (1..=9).map(|at| format!("ws{at}")).collect();
    let nodes: Vec<(&str, u32)> = names.iter().map(|name| (name.as_str(), 2)).collect();
    let mut f = unlimited(&nodes);
    for name in &names {
        busy(&mut f, name);
    }
    for name in &names {
        f.now = f.now.plus_ms(1000);
        back(&mut f, name, "after the power cut");
    }
    for _ in 0..9 {
        f.submit(JobSpec {
            time_limit_s: Some(7 * 86_400),
            request: crate::model::resource::Request {
                cpus_per_task: Some(2),
                ..Default::default()
            }
            .into(),
            ..spec()
        });
    }
    assert_eq!(f.running().len(), 9);
}

#[test]
fn when_most_are_lost_together_it_is_the_network() {
    let mut f = Fixture::new(&[("ws1", 2), ("ws2", 2), ("ws3", 2)]);
    for name in ["ws1", "ws2", "ws3"] {
        busy(&mut f, name);
    }
    lost(&mut f, 1);
    lost(&mut f, 2);
    f.now = f.cluster.next_deadline().unwrap();
    f.run(Command::Tick).unwrap();
    assert_eq!((failures(&f, 1), failures(&f, 2)), (0.0, 0.0));
    // One alone is.
    lost(&mut f, 3);
    back(&mut f, "ws1", "boot");
    back(&mut f, "ws2", "boot");
    f.now = f.cluster.next_deadline().unwrap();
    f.run(Command::Tick).unwrap();
    assert_eq!(failures(&f, 3), 1.0);
}
