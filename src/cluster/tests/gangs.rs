//! Slots over several nodes: together or not at all, from the first process to the last.

use super::*;
use crate::model::node::Link;

/// Two nodes of two cpus and a third beside them.
pub(super) fn three() -> Fixture {
    Fixture::new(&[("a", 2), ("b", 2), ("c", 2)])
}

pub(super) fn gang_of(launch: Launch, requeue: bool) -> JobSpec {
    JobSpec {
        request: Request {
            nodes_min: 2,
            nodes_max: Some(2),
            ntasks: Some(4),
            ..Request::default()
        }
        .into(),
        launch,
        requeue,
        ..spec()
    }
}

fn tasks() -> Launch {
    Launch::Tasks {
        arguments: BlobId([1; 32]),
    }
}

fn gang() -> JobSpec {
    gang_of(tasks(), false)
}

fn first(job: JobId) -> SlotKey {
    let slot = SlotId(0);
    SlotKey { job, slot }
}

impl Fixture {
    /// Orders to begin, by slot.
    fn gone(&self, key: SlotKey) -> usize {
        let go = |(to, order): &&(SlotKey, ToSlot)| *to == key && *order == ToSlot::Go;
        self.told.iter().filter(go).count()
    }

    /// A gang that has begun on nodes 1 and 2.
    pub(super) fn begun(&mut self, spec: JobSpec) -> SlotKey {
        let key = first(self.submit(spec));
        self.present(key, 1);
        self.present(key, 2);
        assert!(self.cluster.slot(key).unwrap().begun);
        key
    }

    pub(super) fn part_ended(&mut self, key: SlotKey, node: u32, code: u8) {
        self.reports += 1;
        let (report, ends) = (self.reports, vec![self.end(0, code)]);
        self.report(key, node, FromSlot::Ended { report, ends });
    }

    fn was_told(&self, key: SlotKey, meant: impl Fn(&ToSlot) -> bool) -> bool {
        self.told
            .iter()
            .any(|(to, order)| *to == key && meant(order))
    }
}

#[test]
fn a_gang_begins_when_all_its_nodes_have_it() {
    let mut f = three();
    let key = first(f.submit(gang()));
    f.present(key, 1);
    assert_eq!(f.gone(key), 0, "one node has not said that it has it");
    f.present(key, 1);
    assert_eq!(f.gone(key), 0, "the same one again");
    f.present(key, 2);
    assert_eq!(f.gone(key), 2, "both are told");
    let stored = f.cluster.take_changes().jobs;
    let (_, job) = stored.last().unwrap();
    assert!(job.as_ref().unwrap().slots[0].begun, "and it is kept");
    // A node that comes back without having heard is told again, one that runs is not.
    f.present(key, 2);
    assert_eq!(f.gone(key), 3);
    let (queue, current) = (IndexSet::from_range(0, 1), Some((0, f.now)));
    f.report(
        key,
        1,
        FromSlot::Status {
            key,
            queue,
            current,
        },
    );
    assert_eq!(f.gone(key), 3);
}

#[test]
fn a_gang_that_cannot_gather_goes_back_and_starts_elsewhere() {
    let mut f = three();
    let job = f.submit(gang());
    f.present(first(job), 1);
    f.now = f.cluster.next_deadline().unwrap();
    f.run(Command::Tick).unwrap();
    assert!(f.was_told(first(job), |order| *order == ToSlot::Close));
    assert_eq!(f.gone(first(job)), 0);
    let link = f.cluster.nodes[&NodeId(2)].link;
    assert_eq!(link, Link::Silent(f.now), "the one that did not answer");
    let known = f.cluster.job(job).unwrap();
    assert_eq!(known.restarts_of(0), 0, "it had not begun");
    let nodes: Vec<NodeId> = known.slots[0]
        .allocation
        .nodes
        .iter()
        .map(|share| share.node)
        .collect();
    assert_eq!(nodes, [NodeId(1), NodeId(3)]);
    // What the silent node had is closed when it returns.
    f.told.clear();
    f.run(Command::Register {
        inventory: Box::new(inventory("b", 2)),
        serves: Serves::Everyone,
        gives_leases: false,
        slots: vec![first(job)],
    })
    .unwrap();
    assert!(f.was_told(first(job), |order| *order == ToSlot::Close));
}

#[test]
fn a_gang_whose_node_goes_down_before_it_began_waits_for_another() {
    let mut f = Fixture::new(&[("a", 2), ("b", 2)]);
    f.cluster.settings.gang_start_ms = 1_000_000;
    let job = f.submit(gang());
    f.present(first(job), 1);
    f.run(Command::LinkLost { node: NodeId(2) }).unwrap();
    f.now = f.cluster.next_deadline().unwrap();
    f.run(Command::Tick).unwrap();
    assert!(matches!(f.cluster.nodes[&NodeId(2)].link, Link::Down(_)));
    assert!(f.running().is_empty() && f.state(job).is_none(), "it waits");
    f.run(Command::Register {
        inventory: Box::new(inventory("b", 2)),
        serves: Serves::Everyone,
        gives_leases: false,
        slots: vec![],
    })
    .unwrap();
    assert_eq!(f.running(), [(job, SlotId(1), vec![0])]);
}

#[test]
fn a_cancel_before_the_start_asks_nobody() {
    let mut f = three();
    let job = f.submit(gang());
    f.run(Command::Cancel {
        who: user(1000),
        filter: Fixture::only(job),
    })
    .unwrap();
    assert_eq!(f.state(job), Some(JobState::Cancelled));
    assert!(f.running().is_empty());
}

#[test]
fn a_restart_of_the_controller_forgets_who_answered_and_nothing_else() {
    let mut f = Fixture::new(&[("a", 2), ("b", 2)]);
    let key = first(f.submit(gang()));
    f.present(key, 1);
    let changes = f.cluster.take_changes();
    let jobs = changes.jobs.into_iter().filter_map(|(_, job)| job);
    let jobs = jobs.map(|job| {
        let mut job = (*job).clone();
        job.slots[0].present.clear();
        Arc::new(job)
    });
    let nodes = changes.nodes.into_iter().filter_map(|(_, node)| node);
    f.now = f.now.plus_ms(3_600_000);
    f.cluster = Cluster::new(
        Settings::default(),
        changes.counters.unwrap(),
        jobs.collect(),
        nodes.collect(),
        vec![],
        f.now,
    );
    f.run(Command::Tick).unwrap();
    assert_eq!(f.running().len(), 1, "its time begins anew");
    f.present(key, 2);
    assert_eq!(f.gone(key), 0, "the first has not said it again");
    f.present(key, 1);
    assert_eq!(f.gone(key), 2);
}

#[test]
fn a_part_that_is_lost_takes_the_others_along() {
    let mut f = three();
    let key = f.begun(gang());
    f.shepherd_killed(key, 2);
    let ended = |order: &ToSlot| {
        matches!(
            order,
            ToSlot::Kill {
                cause: crate::model::job::KillCause::NodeLost,
                at_once: true,
                ..
            }
        )
    };
    assert!(f.was_told(key, ended));
    assert_eq!(f.state(key.job), None, "the other part still runs");
    // Said again, it is one part still.
    f.shepherd_killed(key, 2);
    assert_eq!(f.state(key.job), None);
    f.part_ended(key, 1, 137);
    assert_eq!(f.state(key.job), Some(JobState::NodeFail));
    assert!(f.running().is_empty());
    let ended = f.cluster.take_changes().ended;
    assert!(
        ended[0].reason.detail().is_some_and(|why| why == "killed"),
        "the one that was lost says why: {:?}",
        ended[0].reason
    );
}

#[test]
fn a_lost_part_of_a_job_that_may_run_again_puts_it_back_once_all_have_ended() {
    for launch in [tasks(), spec().launch] {
        let mut f = three();
        let key = f.begun(gang_of(launch, true));
        f.shepherd_killed(key, 1);
        assert_eq!(f.running(), [(key.job, SlotId(0), vec![0])]);
        f.part_ended(key, 2, 137);
        let known = f.cluster.job(key.job).unwrap();
        assert_eq!((known.restarts_of(0), known.slots[0].id), (1, SlotId(1)));
    }
}

#[test]
fn a_part_that_had_heard_go_and_lost_its_journal_counts_as_started() {
    let mut f = three();
    let key = f.begun(gang());
    let lost = FromSlot::Lost {
        positions: IndexSet::from_range(0, 1),
        ends: Vec::new(),
        certain: true,
    };
    f.report(key, 2, lost);
    f.part_ended(key, 1, 0);
    assert_eq!(f.state(key.job), Some(JobState::NodeFail));
}
