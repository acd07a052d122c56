//! Machines that come, fall silent, return, are drained.

use super::*;
use crate::model::step::StepOptions;

#[test]
fn a_node_that_comes_back_is_told_again_what_it_missed() {
    let mut f = Fixture::new(&[("ws1", 2)]);
    let job = f.submit(spec());
    f.run(Command::LinkLost { node: NodeId(1) }).unwrap();
    assert!(f.cluster.next_deadline().is_some(), "the silence is timed");
    f.launched.clear();
    f.run(Command::Register {
        inventory: Box::new(inventory("ws1", 2)),
        serves: Serves::Everyone,
        slots: vec![],
        gives_leases: false,
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
        serves: Serves::Everyone,
        slots: vec![],
        gives_leases: false,
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
        serves: Serves::Everyone,
        slots: vec![key],
        gives_leases: false,
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

fn cancel(f: &mut Fixture, job: JobId) {
    let (who, filter) = (user(1000), Fixture::only(job));
    f.run(Command::Cancel { who, filter }).unwrap();
}

fn report(f: &mut Fixture, job: JobId, slot: u32, report: FromSlot) {
    let key = SlotKey {
        job,
        slot: SlotId(slot),
    };
    let node = NodeId(1);
    f.run(Command::Report { node, key, report }).unwrap();
}

#[test]
fn what_was_cancelled_never_goes_back_to_the_queue() {
    let again = || JobSpec {
        requeue: true,
        ..spec()
    };
    // Its node was reset meanwhile.
    let mut f = Fixture::new(&[("ws1", 1)]);
    let job = f.submit(again());
    f.run(Command::LinkLost { node: NodeId(1) }).unwrap();
    cancel(&mut f, job);
    let mut reset = inventory("ws1", 1);
    reset.boot_id = "another".into();
    f.launched.clear();
    f.run(Command::Register {
        inventory: Box::new(reset),
        serves: Serves::Everyone,
        slots: vec![],
        gives_leases: false,
    })
    .unwrap();
    assert_eq!(
        (f.state(job), f.launched.len()),
        (Some(JobState::Cancelled), 0)
    );

    // Its shepherd was killed.
    let mut f = Fixture::new(&[("ws1", 1)]);
    let job = f.submit(again());
    cancel(&mut f, job);
    let lost = FromSlot::Lost {
        positions: IndexSet::from_range(0, 1),
        ends: vec![],
        certain: true,
    };
    report(&mut f, job, 0, lost);
    assert_eq!(f.state(job), Some(JobState::Cancelled));

    // It was to be put back before.
    let mut f = Fixture::new(&[("ws1", 1)]);
    let job = f.submit(again());
    f.run(Command::Requeue {
        who: user(1000),
        filter: Fixture::only(job),
        hold: false,
    })
    .unwrap();
    cancel(&mut f, job);
    f.report_end(job, 0, 0, 143);
    assert!(f.state(job).is_some(), "it has ended");

    // The shepherd had given it back when the order came.
    let mut f = Fixture::new(&[("ws1", 1)]);
    let job = f.stocked();
    let (_, slot, held) = f.running()[0].clone();
    cancel(&mut f, job);
    let retracted = FromSlot::Retracted {
        report: 900,
        positions: held[1..].iter().copied().collect(),
    };
    report(&mut f, job, slot.0, retracted);
    assert_eq!(f.running()[0].2, held[..1], "what runs is being ended");
    f.report_end(job, slot.0, held[0], 143);
    assert!(f.running().is_empty(), "{:?}", f.running());
    assert!(f.state(job).is_some());
}

#[test]
fn positions_that_a_dead_shepherd_never_heard_of_go_back() {
    let mut f = Fixture::new(&[("ws1", 1)]);
    let job = f.stocked();
    let (_, slot, held) = f.running()[0].clone();
    assert!(held.len() > 1);
    // Its journal knows the first alone: the others were on their way.
    let of_first = |f: &mut Fixture| ElementEnd {
        state: JobState::NodeFail,
        ..f.end(held[0], 9)
    };
    let ends = vec![of_first(&mut f)];
    let lost = FromSlot::Lost {
        positions: IndexSet::new(),
        ends,
        certain: true,
    };
    report(&mut f, job, slot.0, lost);
    let known = f.cluster.job(job).unwrap();
    let mut left = known.pending.clone();
    known
        .slots
        .iter()
        .for_each(|slot| left.union_with(&slot.queue));
    assert_eq!(
        left,
        IndexSet::from_range(held[1], 100),
        "none of them is lost"
    );
    assert!(
        known
            .slots
            .iter()
            .all(|other| other.id != slot || other.queue.is_empty())
    );
}

#[test]
fn after_a_power_loss_what_may_have_run_is_not_run_again() {
    let mut f = Fixture::new(&[("ws1", 1)]);
    let job = f.submit(array("0-3"));
    let (_, slot, held) = f.running()[0].clone();
    let lost = FromSlot::Lost {
        positions: IndexSet::new(),
        ends: vec![],
        certain: false,
    };
    report(&mut f, job, slot.0, lost);
    let known = f.cluster.job(job).unwrap();
    assert!(
        held.iter()
            .all(|position| known.unsuccessful.contains(*position))
    );
}

#[test]
fn a_controller_that_starts_gives_a_silent_node_its_whole_time() {
    let mut f = Fixture::new(&[("ws1", 1)]);
    let job = f.submit(spec());
    f.run(Command::LinkLost { node: NodeId(1) }).unwrap();
    let much_later = f.now.plus_ms(f.cluster.settings.node_timeout_ms * 2);
    f.cluster = Cluster::new(
        Settings::default(),
        f.cluster.counters.clone(),
        f.cluster.jobs().cloned().collect(),
        f.cluster.nodes.values().cloned().collect(),
        vec![],
        much_later,
    );
    f.now = much_later;
    f.run(Command::Tick).unwrap();
    assert_eq!(f.state(job), None, "it could not be heard until now");
    assert!(f.cluster.next_deadline() > Some(much_later));
}

#[test]
fn a_worker_that_comes_back_hears_of_steps_and_that_it_may_go_on() {
    let mut f = Fixture::new(&[("ws1", 1)]);
    let job = f.submit(spec());
    let current = Some((0, f.now));
    let key = SlotKey {
        job,
        slot: SlotId(0),
    };
    let status = FromSlot::Status {
        key,
        queue: IndexSet::from_range(0, 1),
        current,
    };
    report(&mut f, job, 0, status.clone());
    f.run(Command::StartStep {
        who: user(1000),
        options: StepOptions::default(),
        request: Box::new(crate::wire::client::StepRequest {
            raw_job: job.0,
            arguments: vec!["true".into()],
            environment: vec![],
            work_dir: "/".into(),
            ntasks: None,
            nodes: None,
            cpus_per_task: None,
        }),
    })
    .unwrap();
    f.told.clear();
    report(&mut f, job, 0, status.clone());
    let told =
        |f: &Fixture, meant: fn(&ToSlot) -> bool| f.told.iter().any(|(_, order)| meant(order));
    assert!(told(&f, |order| matches!(order, ToSlot::StartStep(_))));
    assert!(told(&f, |order| *order == ToSlot::Suspend { stop: false }));
    let end = crate::wire::worker::StepEnd {
        step: crate::model::ids::StepId(0),
        tasks: vec![],
        name: "true".into(),
        started: f.now,
        ended: f.now,
        usage: Usage::default(),
        failure: None,
    };
    report(&mut f, job, 0, FromSlot::StepEnded { report: 1, end });
    f.told.clear();
    report(&mut f, job, 0, status);
    assert!(!told(&f, |order| matches!(order, ToSlot::StartStep(_))));
}

#[test]
fn steps_that_run_are_bounded_in_what_they_start_with() {
    let mut f = Fixture::new(&[("ws1", 1)]);
    let job = f.submit(spec());
    let current = Some((0, f.now));
    let status = FromSlot::Status {
        key: SlotKey {
            job,
            slot: SlotId(0),
        },
        queue: IndexSet::from_range(0, 1),
        current,
    };
    report(&mut f, job, 0, status);
    let mut options = StepOptions::default();
    options.say(crate::model::step::StepOption::Overlap);
    let start = |f: &mut Fixture| {
        f.run(Command::StartStep {
            who: user(1000),
            options: options.clone(),
            request: Box::new(crate::wire::client::StepRequest {
                raw_job: job.0,
                arguments: vec!["true".into()],
                environment: vec![(b"BIG".to_vec(), vec![b'x'; 12 << 20])],
                work_dir: "/".into(),
                ntasks: None,
                nodes: None,
                cpus_per_task: None,
            }),
        })
    };
    start(&mut f).unwrap();
    start(&mut f).unwrap();
    let refusal = start(&mut f).unwrap_err();
    assert_eq!(refusal.code, crate::model::refusal::Code::TooMuch);
    assert!(
        refusal.what.contains("the most together is 33554432"),
        "{refusal}"
    );
    let end = crate::wire::worker::StepEnd {
        step: crate::model::ids::StepId(0),
        tasks: vec![],
        name: "true".into(),
        started: f.now,
        ended: f.now,
        usage: Usage::default(),
        failure: None,
    };
    report(&mut f, job, 0, FromSlot::StepEnded { report: 1, end });
    start(&mut f).unwrap();
}

#[test]
fn memory_that_a_node_no_longer_has_is_not_granted_when_a_job_ends() {
    let mut f = Fixture::new(&[("ws1", 4)]);
    let with_memory = |mib| JobSpec {
        request: crate::model::resource::Request {
            memory: crate::model::resource::MemoryRequest::PerNode(mib),
            ..Default::default()
        }
        .into(),
        ..spec()
    };
    let (long, short) = (f.submit(with_memory(2048)), f.submit(with_memory(1024)));
    // It comes back with 2 of 4 GiB, and 3 are in use.
    let mut less = inventory("ws1", 4);
    less.topology.memory_mib = 2048;
    let slots = [long, short].map(|job| f.running_key(job)).to_vec();
    for key in &slots {
        f.present(*key, 1);
    }
    f.run(Command::Register {
        inventory: Box::new(less),
        serves: Serves::Everyone,
        slots,
        gives_leases: false,
    })
    .unwrap();
    f.report_end(short, 0, 0, 0);
    let waits = f.submit(with_memory(512));
    let runs = |f: &Fixture, id| f.running().iter().any(|(job, ..)| *job == id);
    assert!(!runs(&f, waits), "2 of 2 GiB are in use");
    f.report_end(long, 0, 0, 0);
    assert!(runs(&f, waits));
}
