//! Machines that come, fall silent, return, are drained.

use super::*;

#[test]
fn a_node_that_comes_back_is_told_again_what_it_missed() {
    let mut f = Fixture::new(&[("ws1", 2)]);
    let job = f.submit(spec());
    f.run(Command::LinkLost { node: NodeId(1) }).unwrap();
    assert!(f.cluster.next_deadline().is_some(), "the silence is timed");
    f.launched.clear();
    f.run(Command::Register {
        inventory: Box::new(inventory("ws1", 2)),
        slots: vec![],
    })
    .unwrap();
    assert_eq!(
        f.launched.len(),
        1,
        "a launch it never confirmed is said again"
    );
    let key = SlotKey {
        job,
        slot: SlotId(0),
    };
    let report = FromSlot::Status {
        key,
        queue: IndexSet::from_range(0, 1),
        current: Some((0, f.now)),
    };
    f.run(Command::Report {
        node: NodeId(1),
        key,
        report,
    })
    .unwrap();
    f.launched.clear();
    f.run(Command::Register {
        inventory: Box::new(inventory("ws1", 2)),
        slots: vec![],
    })
    .unwrap();
    assert!(
        f.launched.is_empty(),
        "one that it had confirmed is never run twice"
    );
    assert_eq!(f.state(job), Some(JobState::NodeFail));
}

#[test]
fn a_slot_the_controller_does_not_know_is_ended() {
    let mut f = Fixture::new(&[("ws1", 2)]);
    let key = SlotKey {
        job: JobId(77),
        slot: SlotId(3),
    };
    f.run(Command::Register {
        inventory: Box::new(inventory("ws1", 2)),
        slots: vec![key],
    })
    .unwrap();
    assert_eq!(f.told, [(key, ToSlot::Close)]);
}

#[test]
fn a_silent_node_is_lost_after_its_time_and_its_jobs_with_it() {
    let mut f = Fixture::new(&[("ws1", 2)]);
    let (plain, again) = (
        f.submit(spec()),
        f.submit(JobSpec {
            requeue: true,
            ..spec()
        }),
    );
    f.run(Command::LinkLost { node: NodeId(1) }).unwrap();
    f.now = f.cluster.next_deadline().unwrap();
    f.run(Command::Tick).unwrap();
    assert_eq!(f.state(plain), Some(JobState::NodeFail));
    assert_eq!(
        f.cluster.job(again).unwrap().slots.len(),
        1,
        "one that may run again waits: its first copy may live"
    );
}

#[test]
fn a_drained_node_starts_nothing_and_a_resumed_one_does() {
    use crate::wire::client::NodeChange;
    let mut f = Fixture::new(&[("ws1", 1)]);
    let drain = NodeChange::Drain {
        reason: "disk".into(),
    };
    assert!(
        f.run(Command::ChangeNode {
            who: user(1000),
            name: "ws1".into(),
            change: drain.clone()
        })
        .is_err()
    );
    f.run(Command::ChangeNode {
        who: user(0),
        name: "ws1".into(),
        change: drain,
    })
    .unwrap();
    let job = f.submit(spec());
    let snapshot = f.cluster.snapshot();
    assert_eq!(
        views::pending_reason(&snapshot, &snapshot.jobs[&job]),
        Reason::ReqNodeNotAvail
    );
    f.run(Command::ChangeNode {
        who: user(0),
        name: "ws1".into(),
        change: NodeChange::Resume,
    })
    .unwrap();
    assert_eq!(f.running().len(), 1);
}
