//! Jobs that may run again, on nodes that fell silent.

use super::*;
use crate::model::job::KillCause;
use crate::model::node::Link;

fn again() -> JobSpec {
    JobSpec {
        requeue: true,
        kill_wait_s: 30,
        ..spec()
    }
}

/// Over this many nodes, a whole one each.
fn gang(nodes: u32, launch: Launch) -> JobSpec {
    let mut spec = JobSpec { launch, ..again() };
    let request = Arc::make_mut(&mut spec.request);
    request.nodes_min = nodes;
    request.ntasks_per_node = Some(1);
    spec
}

const LEASE_MS: u64 = 600_000;
/// (600 s + 30 s) * 1.2 + 5 s.
const WAIT_MS: i64 = 761_000;

impl Fixture {
    fn lose(&mut self, node: u32) {
        let node = NodeId(node);
        self.run(Command::LinkLost { node }).unwrap();
    }

    fn says(&mut self, node: u32, job: JobId, slot: u32, report: FromSlot) {
        let (node, slot) = (NodeId(node), SlotId(slot));
        let key = SlotKey { job, slot };
        self.run(Command::Report { node, key, report }).unwrap();
    }

    fn leased(&mut self, node: u32, job: JobId, slot: u32) {
        let ends_after_ms = LEASE_MS + 30_000;
        self.says(node, job, slot, FromSlot::Leased { ends_after_ms });
    }

    fn part_ends(&mut self, node: u32, job: JobId, state: JobState) {
        self.reports += 1;
        let end = ElementEnd {
            state,
            ..self.end(0, 143)
        };
        let report = FromSlot::Ended {
            report: self.reports,
            ends: vec![end],
        };
        self.says(node, job, 0, report);
    }

    /// All nodes of its slot say that they have it: it begins.
    fn gathers(&mut self, job: JobId) {
        let key = self.running_key(job);
        let allocation = Arc::clone(&self.cluster.slot(key).unwrap().allocation);
        for share in &allocation.nodes {
            self.present(key, share.node.0);
        }
        assert!(self.cluster.slot(key).unwrap().begun);
    }

    fn registers(&mut self, name: &str, slots: Vec<SlotKey>, gives_leases: bool) {
        self.run(Command::Register {
            inventory: Box::new(inventory(name, 1)),
            serves: Serves::Everyone,
            slots,
            gives_leases,
        })
        .unwrap();
    }

    fn returns(&mut self, name: &str, slots: Vec<SlotKey>) {
        self.registers(name, slots, false);
    }

    /// Time passes, each deadline in between is met.
    fn wait_until(&mut self, at: Timestamp) {
        while let Some(next) = self.cluster.next_deadline().filter(|next| *next <= at) {
            assert!(next >= self.now, "a deadline that was met comes again");
            self.now = next;
            self.run(Command::Tick).unwrap();
            assert_ne!(self.cluster.next_deadline(), Some(next));
        }
        self.now = at;
        self.run(Command::Tick).unwrap();
    }

    fn reload(&mut self, settings: Settings) {
        self.cluster = Cluster::new(
            settings,
            self.cluster.counters.clone(),
            self.cluster.jobs().cloned().collect(),
            self.cluster.nodes.values().cloned().collect(),
            vec![],
            self.now,
        );
        invariants::check(&self.cluster).unwrap();
    }

    fn slots_of(&self, job: JobId) -> Vec<(u32, u32)> {
        let job = self.cluster.job(job).unwrap();
        let slots = job.slots.iter();
        slots
            .map(|slot| (slot.id.0, slot.allocation.nodes[0].node.0))
            .collect()
    }

    fn restarts(&self, job: JobId) -> u32 {
        self.cluster.job(job).unwrap().restarts_of(0)
    }
}

#[test]
fn the_second_copy_starts_when_the_first_is_surely_gone() {
    let mut f = Fixture::new(&[("a", 1), ("b", 1)]);
    let job = f.submit(again());
    f.leased(1, job, 0);
    f.lose(1);
    let lost = f.now;
    f.wait_until(lost.plus_ms(WAIT_MS - 1));
    assert_eq!(f.slots_of(job), [(0, 1)], "also when the node is long DOWN");
    assert!(matches!(f.cluster.nodes[&NodeId(1)].link, Link::Down(_)));
    f.launched.clear();
    f.wait_until(lost.plus_ms(WAIT_MS));
    assert_eq!(f.slots_of(job), [(1, 2)]);
    assert_eq!(f.restarts(job), 1);
    assert_eq!(f.launched.len(), 1);
    assert_eq!(f.launched[0].1.restarts, [(0, 1)]);

    // The first node is back with what it had.
    f.told.clear();
    let key = SlotKey {
        job,
        slot: SlotId(0),
    };
    f.returns("a", vec![key]);
    assert_eq!(f.told, [(key, ToSlot::Close)]);
    f.part_ends(1, job, JobState::NodeFail);
    f.part_ends(1, job, JobState::Completed);
    assert_eq!(f.slots_of(job), [(1, 2)]);
    assert_eq!(f.restarts(job), 1);
    f.report_end(job, 1, 0, 0);
    assert_eq!(f.state(job), Some(JobState::Completed));
}

#[test]
fn without_the_word_of_its_shepherd_nothing_is_counted_on() {
    let mut f = Fixture::new(&[("a", 1), ("b", 1)]);
    let (job, plain) = (f.submit(again()), f.submit(spec()));
    // A job that may not run again has none, whatever anybody says.
    f.leased(2, plain, 0);
    f.lose(1);
    f.wait_until(f.now.plus_ms(100 * WAIT_MS));
    assert_eq!(f.slots_of(job), [(0, 1)]);
    assert_eq!(f.slots_of(plain), [(0, 2)]);
    assert!(
        f.cluster
            .slot(f.running_key(plain))
            .unwrap()
            .leases
            .is_empty()
    );
}

#[test]
fn a_controller_that_starts_counts_anew() {
    let mut f = Fixture::new(&[("a", 1), ("b", 1)]);
    let job = f.submit(again());
    f.leased(1, job, 0);
    f.lose(1);
    f.wait_until(f.now.plus_ms(WAIT_MS - 1));
    let restarted = f.now;
    f.reload(Settings::default());
    f.returns("b", vec![]);
    f.wait_until(restarted.plus_ms(WAIT_MS - 1));
    assert_eq!(f.slots_of(job), [(0, 1)]);
    f.wait_until(restarted.plus_ms(WAIT_MS));
    assert_eq!(f.slots_of(job), [(1, 2)]);
}

#[test]
fn a_clock_that_is_set_changes_no_duration() {
    let mut f = Fixture::new(&[("a", 1), ("b", 1)]);
    let (job, plain) = (f.submit(again()), f.submit(spec()));
    f.leased(1, job, 0);
    f.lose(1);
    f.lose(2);
    let lost = f.now;
    for by_ms in [3_600_000, -7_200_000] {
        f.now = f.now.plus_ms(by_ms);
        f.run(Command::ClockStepped { by_ms }).unwrap();
        f.run(Command::Tick).unwrap();
        assert_eq!(f.state(plain), None);
    }
    let lost = lost.plus_ms(3_600_000 - 7_200_000);
    f.wait_until(lost.plus_ms(299_999));
    assert_eq!(f.state(plain), None);
    f.wait_until(lost.plus_ms(300_000));
    assert_eq!(f.state(plain), Some(JobState::NodeFail));
    f.returns("b", vec![]);
    f.wait_until(lost.plus_ms(WAIT_MS - 1));
    assert_eq!(f.slots_of(job), [(0, 1)]);
    f.wait_until(lost.plus_ms(WAIT_MS));
    assert_eq!(f.slots_of(job), [(1, 2)]);
}

#[test]
fn a_node_that_is_back_before_that_reports_once() {
    let mut f = Fixture::new(&[("a", 1), ("b", 1)]);
    let job = f.submit(again());
    f.leased(1, job, 0);
    f.lose(1);
    f.wait_until(f.now.plus_ms(WAIT_MS - 1));
    let key = f.running_key(job);
    f.returns("a", vec![key]);
    assert_eq!(f.slots_of(job), [(0, 1)]);
    // Its shepherd had ended it, and says so until it is heard.
    f.part_ends(1, job, JobState::NodeFail);
    f.part_ends(1, job, JobState::NodeFail);
    assert_eq!(f.restarts(job), 1);
    // Elsewhere: that one was lost, and its limit is long.
    assert_eq!(f.slots_of(job), [(1, 2)]);
    f.wait_until(f.now.plus_ms(100 * WAIT_MS));
    assert_eq!(f.restarts(job), 1);
}

#[test]
fn one_that_ran_on_is_left_alone() {
    let mut f = Fixture::new(&[("a", 1), ("b", 1)]);
    let job = f.submit(again());
    f.leased(1, job, 0);
    f.lose(1);
    f.wait_until(f.now.plus_ms(WAIT_MS - 1));
    let key = f.running_key(job);
    f.returns("a", vec![key]);
    f.wait_until(f.now.plus_ms(100 * WAIT_MS));
    assert_eq!(f.slots_of(job), [(0, 1)]);
    f.report_end(job, 0, 0, 0);
    assert_eq!(f.state(job), Some(JobState::Completed));
}

#[test]
fn what_was_cancelled_meanwhile_does_not_start_again() {
    let mut f = Fixture::new(&[("a", 1), ("b", 1)]);
    let job = f.submit(again());
    f.leased(1, job, 0);
    f.lose(1);
    let (who, filter) = (user(1000), Fixture::only(job));
    f.run(Command::Cancel { who, filter }).unwrap();
    f.wait_until(f.now.plus_ms(WAIT_MS - 1));
    assert_eq!(f.state(job), None);
    f.wait_until(f.now.plus_ms(1));
    assert_eq!(f.state(job), Some(JobState::Cancelled));

    // Or its node is back, where it was ended by its shepherd before it heard of the order.
    let job = f.submit(again());
    f.leased(2, job, 0);
    f.lose(2);
    let (who, filter) = (user(1000), Fixture::only(job));
    f.run(Command::Cancel { who, filter }).unwrap();
    let key = f.running_key(job);
    f.returns("b", vec![key]);
    f.part_ends(2, job, JobState::NodeFail);
    assert_eq!(f.state(job), Some(JobState::Cancelled));
}

#[test]
fn a_longer_lease_counts_from_the_moment_it_may_have_been_passed_on() {
    let mut f = Fixture::new(&[("a", 1), ("b", 1)]);
    let job = f.submit(again());
    f.leased(1, job, 0);
    f.reload(Settings {
        lease_ms: 2 * LEASE_MS,
        ..Settings::default()
    });
    let key = f.running_key(job);
    f.returns("a", vec![key]);
    f.returns("b", vec![]);
    // And a shorter one does not: its shepherd may have heard of the longer one last.
    f.reload(Settings {
        lease_ms: LEASE_MS,
        ..Settings::default()
    });
    f.returns("b", vec![]);
    let wait = (2 * 600_000 + 30_000) * 6 / 5 + 5_000;
    let restarted = f.now;
    f.wait_until(restarted.plus_ms(wait - 1));
    assert_eq!(f.slots_of(job), [(0, 1)]);
    f.wait_until(restarted.plus_ms(wait));
    assert_eq!(f.slots_of(job), [(1, 2)]);
}

#[test]
fn a_gang_goes_back_when_nothing_of_it_is_left_anywhere() {
    for launch in [spec().launch, Launch::Hold] {
        for silent in [1, 2, 3] {
            let mut f = Fixture::new(&[("a", 1), ("b", 1), ("c", 1)]);
            let job = f.submit(gang(3, launch.clone()));
            f.gathers(job);
            for node in 1..=3 {
                f.leased(node, job, 0);
            }
            f.told.clear();
            f.lose(silent);
            f.wait_until(f.now.plus_ms(WAIT_MS - 1));
            assert_eq!(f.told, []);
            f.wait_until(f.now.plus_ms(1));
            let there: Vec<u32> = (1..=3).filter(|node| *node != silent).collect();
            assert!(
                f.told.iter().any(|(_, order)| matches!(
                    order,
                    ToSlot::Kill {
                        cause: KillCause::Requeue,
                        at_once: true,
                        ..
                    }
                )),
                "{:?}",
                f.told
            );
            f.part_ends(there[0], job, JobState::Cancelled);
            assert_eq!(f.restarts(job), 0, "a part of it may still run");
            f.part_ends(there[1], job, JobState::Cancelled);
            assert_eq!(f.restarts(job), 1);
            let known = f.cluster.job(job).unwrap();
            assert!(known.slots.is_empty(), "it waits for three nodes");
            assert_eq!(known.pending, IndexSet::from_range(0, 1));
            f.wait_until(f.now.plus_ms(10 * WAIT_MS));
            f.returns(["a", "b", "c"][silent as usize - 1], vec![]);
            assert_eq!(f.slots_of(job), [(1, 1)]);
        }
    }
}

#[test]
fn a_gang_waits_for_the_last_of_its_silent_nodes() {
    let mut f = Fixture::new(&[("a", 1), ("b", 1), ("c", 1)]);
    let job = f.submit(gang(2, spec().launch));
    f.gathers(job);
    f.leased(1, job, 0);
    f.leased(2, job, 0);
    f.lose(1);
    f.wait_until(f.now.plus_ms(WAIT_MS / 2));
    f.lose(2);
    let second = f.now;
    f.wait_until(second.plus_ms(WAIT_MS - 1));
    assert_eq!(f.restarts(job), 0);
    f.wait_until(second.plus_ms(WAIT_MS));
    assert_eq!(f.restarts(job), 1);

    // One that nothing is known of is waited for.
    let mut f = Fixture::new(&[("a", 1), ("b", 1)]);
    let job = f.submit(gang(2, spec().launch));
    f.gathers(job);
    f.leased(1, job, 0);
    f.lose(1);
    f.lose(2);
    f.wait_until(f.now.plus_ms(100 * WAIT_MS));
    assert_eq!(f.restarts(job), 0);
}

#[test]
fn a_part_that_was_ended_by_its_node_takes_the_others_along() {
    let mut f = Fixture::new(&[("a", 1), ("b", 1)]);
    let job = f.submit(gang(2, spec().launch));
    f.gathers(job);
    f.leased(1, job, 0);
    f.leased(2, job, 0);
    f.lose(2);
    f.wait_until(f.now.plus_ms(WAIT_MS - 1));
    let key = f.running_key(job);
    f.returns("b", vec![key]);
    f.told.clear();
    f.part_ends(2, job, JobState::NodeFail);
    assert_eq!(f.restarts(job), 0);
    let kills = |f: &Fixture| {
        let orders = f.told.iter();
        orders
            .filter(|(_, order)| matches!(order, ToSlot::Kill { at_once: true, .. }))
            .count()
    };
    assert_eq!(kills(&f), 2, "said to both of its nodes");
    f.part_ends(2, job, JobState::NodeFail);
    assert_eq!(kills(&f), 2, "and not again");
    f.part_ends(1, job, JobState::Cancelled);
    assert_eq!(f.restarts(job), 1);
    assert_eq!(f.slots_of(job), [(1, 1)]);
}

#[test]
fn a_launch_that_a_dying_node_never_confirmed_is_bound_by_its_lease_too() {
    let mut f = Fixture::new(&[]);
    f.registers("a", vec![], true);
    let job = f.submit(again());
    f.lose(1);
    let lost = f.now;
    f.registers("b", vec![], true);
    f.wait_until(lost.plus_ms(WAIT_MS - 1));
    assert_eq!(f.slots_of(job), [(0, 1)]);
    f.wait_until(lost.plus_ms(WAIT_MS));
    assert_eq!(f.slots_of(job), [(1, 2)]);
}

#[test]
fn a_launch_that_is_said_again_to_an_older_agent_has_none() {
    let mut f = Fixture::new(&[]);
    f.registers("a", vec![], true);
    let job = f.submit(again());
    let leases = |f: &Fixture| f.cluster.job(job).unwrap().slots[0].leases.clone();
    assert_eq!(leases(&f), [(NodeId(1), LEASE_MS + 30_000)]);
    f.lose(1);
    f.launched.clear();
    f.registers("a", vec![], false);
    assert_eq!((f.launched.len(), leases(&f)), (1, vec![]));
    f.lose(1);
    f.registers("a", vec![], true);
    assert_eq!((f.launched.len(), leases(&f).len()), (2, 1));
    // One that may not run again has none in any case.
    f.registers("b", vec![], true);
    let plain = f.submit(spec());
    assert_eq!(f.cluster.job(plain).unwrap().slots[0].leases, []);
}

#[test]
fn a_gang_that_loses_a_shepherd_goes_back_when_its_other_part_has_ended() {
    let mut f = Fixture::new(&[("a", 1), ("b", 1)]);
    let job = f.submit(gang(2, spec().launch));
    f.gathers(job);
    let lost = FromSlot::Lost {
        positions: IndexSet::new(),
        ends: vec![ElementEnd {
            state: JobState::NodeFail,
            ..f.end(0, 0)
        }],
        certain: true,
    };
    f.says(2, job, 0, lost);
    assert_eq!(f.restarts(job), 0, "its script still runs on the first");
    f.part_ends(1, job, JobState::Cancelled);
    assert_eq!(f.restarts(job), 1);
}

#[test]
fn a_node_that_was_given_up_has_failed_once() {
    let mut f = Fixture::new(&[("a", 1), ("b", 1)]);
    let job = f.submit(again());
    f.leased(1, job, 0);
    f.lose(1);
    let lost = f.now;
    f.wait_until(lost.plus_ms(2 * WAIT_MS));
    f.returns("a", vec![]);
    let failures = f.cluster.nodes[&NodeId(1)].failures.amount;
    assert!((0.9..=1.0).contains(&failures), "{failures}");
    assert_eq!(f.cluster.nodes[&NodeId(2)].failures.amount, 0.0);
}
