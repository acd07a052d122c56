//! Whole lives in virtual time: jobs come, run until their end or their limit, and go; nodes are drained and come back.
//!
//! The groups are those of `tests/sim/properties/`. After every instant: nothing is granted twice (1), what started was
//! allowed to, there and then (2), nobody waits who could start (5), and no limit is exceeded (10). In the end all jobs
//! have run and all is free (1, 9). The head of the queue starts by the time it was told first (3), and the order in
//! which the ends of one instant are heard of makes no difference (7).

use super::*;
use crate::model::account::{Account, User};
use crate::model::allocation::Allocation;
use crate::model::job::Slot;
use crate::model::limits::{LimitKind, Limits};
use crate::model::partition::Partition;
use crate::model::qos::Qos;
use crate::model::resource::{GpuCount, GpuRequest};
use crate::model::rules::NORMAL;
use crate::model::topology::Gpu;
use crate::scheduler::priority::Weights;
use crate::scheduler::{Entry, Rule};
use crate::wire::client::NodeChange;
use proptest::prelude::*;

pub(super) const BEGIN: Timestamp = Timestamp(1_700_000_000_000);

/// Something that is submitted.
#[derive(Debug, Clone)]
pub(super) struct Wish {
    /// After the one before it; seconds.
    pub(super) gap_s: i64,
    pub(super) run_s: i64,
    pub(super) limit_s: u32,
    pub(super) cpus: u32,
    pub(super) nodes: u32,
    pub(super) gpu: bool,
    pub(super) user: u32,
    pub(super) high: bool,
    pub(super) second: bool,
    pub(super) elements: u32,
    pub(super) throttle: Option<u32>,
    /// Not before so many seconds after its submission.
    pub(super) begin_s: Option<u32>,
    /// After the end of an earlier one.
    pub(super) after: Option<u8>,
    /// Only there, or not there.
    pub(super) node: Option<(bool, u32)>,
}

/// A cluster and what becomes of it.
#[derive(Debug, Clone)]
struct Story {
    /// Cpus and GPUs of each node.
    nodes: Vec<(u32, u32)>,
    /// Each kind of limit at one level only, kinds of a group at any.
    limits: Vec<(LimitKind, u8, u64)>,
    wishes: Vec<Wish>,
    /// When a node is drained, which, and for how long; seconds.
    drains: Vec<(i64, u32, i64)>,
}

fn wish() -> impl Strategy<Value = Wish> {
    let gap = prop_oneof![2 => Just(0i64), 1 => 1i64..60];
    let limit = prop::sample::select(vec![30u32, 60, 120, 240]);
    let elements = prop_oneof![3 => Just(1u32), 1 => 2u32..5];
    let rarely = |most| prop_oneof![5 => Just(None), 1 => (1..most).prop_map(Some)];
    let after = prop_oneof![5 => Just(None), 1 => any::<u8>().prop_map(Some)];
    let node = prop_oneof![5 => Just(None), 1 => (any::<bool>(), 1u32..4).prop_map(Some)];
    let nodes = prop_oneof![4 => Just(1u32), 1 => Just(2)];
    let size = (1u32..4, nodes, prop::bool::weighted(0.2));
    let class = (0u32..3, any::<bool>(), any::<bool>());
    let array = (elements, rarely(4u32));
    (
        gap,
        1i64..150,
        limit,
        size,
        class,
        array,
        rarely(100u32),
        after,
        node,
    )
        .prop_map(
            |(gap_s, run_s, limit_s, size, class, array, begin_s, after, node)| Wish {
                gap_s,
                run_s,
                limit_s,
                cpus: size.0,
                nodes: size.1,
                gpu: size.2,
                user: class.0,
                high: class.1,
                second: class.2,
                elements: array.0,
                throttle: array.1,
                begin_s,
                after,
                node,
            },
        )
}

fn story() -> impl Strategy<Value = Story> {
    let kinds = vec![
        LimitKind::MaxJobsPerUser,
        LimitKind::MaxSubmitPerUser,
        LimitKind::MaxCpusPerUser,
        LimitKind::MaxGpusPerUser,
        LimitKind::MaxNodesPerUser,
        LimitKind::MaxJobsPerAccount,
        LimitKind::MaxSubmitPerAccount,
        LimitKind::MaxCpusPerAccount,
        LimitKind::GroupJobs,
        LimitKind::GroupSubmit,
        LimitKind::GroupCpus,
        LimitKind::GroupGpus,
        LimitKind::GroupNodes,
    ];
    let limit = (prop::sample::select(kinds), 0u8..6, 1u64..6);
    let limits = prop::collection::vec(limit, 0..4).prop_map(|mut limits| {
        let all = limits.clone();
        let first =
            |at: usize, kind: LimitKind| !all[..at].iter().any(|(known, ..)| *known == kind);
        let mut at = 0;
        limits.retain(|(kind, ..)| {
            at += 1;
            kind.is_of_group() || first(at - 1, *kind)
        });
        limits
    });
    (
        prop::collection::vec((1u32..5, 0u32..3), 1..4),
        limits,
        prop::collection::vec(wish(), 1..9),
        prop::collection::vec((0i64..200, 1u32..4, 1i64..200), 0..3),
    )
        .prop_map(|(nodes, limits, wishes, drains)| Story {
            nodes,
            limits,
            wishes,
            drains,
        })
}

/// One that starts, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Start {
    job: JobId,
    position: u32,
    at: Timestamp,
    allocation: Arc<Allocation>,
}

/// A cluster, its clock, and workers that do as they are told.
pub(super) struct Life {
    pub(super) cluster: Cluster,
    pub(super) now: Timestamp,
    reports: u64,
    /// When each job's elements would end by themselves.
    run_ms: BTreeMap<JobId, i64>,
    /// What runs: since when, and when it ends.
    pub(super) running: BTreeMap<(SlotKey, u32), (Timestamp, Timestamp)>,
    pub(super) starts: Vec<Start>,
    /// All that ever began, to see that none does twice.
    begun: BTreeSet<(JobId, u32)>,
    /// What each job was told first.
    told: BTreeMap<JobId, Timestamp>,
    /// Ends of one instant are reported last one first.
    backwards: bool,
}

impl Story {
    fn rules(&self) -> Rules {
        let mut rules = Rules::initial();
        // Not the second node, if there are more.
        let some = Partition {
            nodes: vec!["n1".to_owned(), "n3".to_owned()],
            max_time_s: Some(86_400),
            ..Partition::named("some")
        };
        rules.partitions.insert(some.name.clone(), some);
        let high = Qos {
            priority: 1,
            ..Qos::named("high")
        };
        rules.qos.insert(high.name.clone(), high);
        let lab = Account::named("lab");
        rules.accounts.insert(lab.name.clone(), lab);
        let third = User {
            account: "lab".to_owned(),
            ..User::named("user1002")
        };
        rules.users.insert(third.name.clone(), third);
        for (kind, level, most) in &self.limits {
            level_of(&mut rules, *level).set(*kind, Some(*most));
        }
        rules
    }
}

fn level_of(rules: &mut Rules, level: u8) -> &mut Limits {
    match level {
        0 => &mut rules.partitions.get_mut("some").unwrap().limits,
        1 => &mut rules.qos.get_mut(NORMAL).unwrap().limits,
        2 => &mut rules.qos.get_mut("high").unwrap().limits,
        3 => &mut rules.users.get_mut("user1002").unwrap().limits,
        4 => &mut rules.accounts.get_mut("lab").unwrap().limits,
        _ => &mut rules.accounts.get_mut("root").unwrap().limits,
    }
}

/// Whether what is set at a level is meant for this job: said once more, by hand.
fn is_within(job: &Job, level: u8) -> bool {
    match level {
        0 => job.spec.partition == *"some",
        1 => job.spec.qos == *NORMAL,
        2 => job.spec.qos == *"high",
        3 => *job.owner.name == *"user1002",
        4 => job.spec.account == *"lab",
        _ => true,
    }
}

impl Life {
    pub(super) fn new(nodes: &[(u32, u32)], rules: Rules, settings: Settings) -> Self {
        let counters = Counters::default();
        let cluster = Cluster::with_rules(rules, settings, counters, vec![], vec![], vec![], BEGIN);
        let mut life = Life {
            cluster,
            now: BEGIN,
            reports: 0,
            run_ms: BTreeMap::new(),
            running: BTreeMap::new(),
            starts: Vec::new(),
            begun: BTreeSet::new(),
            told: BTreeMap::new(),
            backwards: false,
        };
        for ((cpus, gpus), id) in nodes.iter().zip(1..) {
            let mut inventory = inventory(&format!("n{id}"), *cpus);
            let gpu = |index| Gpu {
                index,
                kind: "a100".to_owned(),
                uuid: String::new(),
                memory_mib: 0,
                numa: Some(0),
                minor: None,
                real: true,
            };
            inventory.topology.gpus = (0..*gpus).map(gpu).collect();
            life.handle(Command::Register {
                inventory: Box::new(inventory),
                serves: Serves::Everyone,
                slots: vec![],
                gives_leases: false,
            })
            .unwrap();
        }
        life
    }

    fn handle(&mut self, command: Command) -> Result<Reply, Refusal> {
        Ok(self.cluster.handle(self.now, command)?.reply)
    }

    /// What was refused is none of ours.
    pub(super) fn submit(&mut self, wish: &Wish) -> Option<JobId> {
        let mut request = Request {
            ntasks: Some(wish.nodes),
            nodes_min: wish.nodes,
            nodes_max: Some(wish.nodes),
            cpus_per_task: Some(wish.cpus),
            ..Request::default()
        };
        if wish.gpu {
            let (kind, count) = (None, 1);
            request.gpus = GpuRequest::PerNode(GpuCount { kind, count });
        }
        match wish.node {
            Some((true, id)) => request.nodelist = vec![format!("n{id}")],
            Some((false, id)) => request.exclude = vec![format!("n{id}")],
            None => {}
        }
        let known: Vec<JobId> = self.run_ms.keys().copied().collect();
        let after = wish.after.filter(|_| !known.is_empty());
        let after = after.map(|pick| known[usize::from(pick) % known.len()]);
        let array = (wish.elements > 1).then(|| {
            let mut array = ArraySpec::parse(&format!("0-{}", wish.elements - 1), 100).unwrap();
            array.throttle = wish.throttle;
            Box::new(array)
        });
        let spec = JobSpec {
            request: request.into(),
            array,
            qos: if wish.high { "high" } else { NORMAL }.into(),
            partition: if wish.second { "some" } else { "batch" }.into(),
            time_limit_s: Some(wish.limit_s),
            begin: wish
                .begin_s
                .map(|wait_s| self.now.plus_ms(i64::from(wait_s) * 1000)),
            dependency: after
                .map(|id| Box::new(Dependency::parse(&format!("afterany:{id}")).unwrap())),
            ..spec()
        };
        let submitted = self.handle(Command::Submit {
            who: user(1000 + wish.user),
            spec: Box::new(spec),
            ended: vec![],
            dry_run: false,
        });
        let Ok(Reply::Submitted(id)) = submitted else {
            return None;
        };
        self.run_ms.insert(id, wish.run_s * 1000);
        Some(id)
    }

    fn report(&mut self, node: NodeId, key: SlotKey, report: FromSlot) {
        self.handle(Command::Report { node, key, report }).unwrap();
    }

    /// All that ends now.
    pub(super) fn end_what_is_due(&mut self) {
        let due = self
            .running
            .iter()
            .filter(|(_, (_, ends))| *ends == self.now);
        let mut due: Vec<(SlotKey, u32)> = due.map(|(what, _)| *what).collect();
        if self.backwards {
            due.reverse();
        }
        for (key, position) in due {
            let (started, ended) = self.running.remove(&(key, position)).unwrap();
            let end = ElementEnd {
                position,
                state: JobState::Completed,
                reason: Reason::None,
                exit: ExitStatus::default(),
                cancelled_by: None,
                started: Some(started),
                ended,
                usage: Usage::default(),
                restarts: 0,
            };
            self.reports += 1;
            let node = self.cluster.slot(key).unwrap().allocation.nodes[0].node;
            let (report, ends) = (self.reports, vec![end]);
            self.report(node, key, FromSlot::Ended { report, ends });
        }
    }

    /// Plans, and workers start what they are given.
    pub(super) fn settle(&mut self) {
        self.cluster.schedule(self.now);
        let slots = self.cluster.jobs().flat_map(|job| {
            let key = |slot: &Slot| SlotKey {
                job: job.id,
                slot: slot.id,
            };
            job.slots.iter().filter_map(move |slot| {
                Some((key(slot), slot.queue.first()?, slot.allocation.clone()))
            })
        });
        let slots: Vec<(SlotKey, u32, Arc<Allocation>)> = slots.collect();
        for (key, position, allocation) in slots {
            if self.running.contains_key(&(key, position)) {
                continue;
            }
            self.check_start(key, position, &allocation);
            let queue = IndexSet::from_range(position, position + 1);
            for share in allocation
                .nodes
                .iter()
                .filter(|_| allocation.nodes.len() > 1)
            {
                let queue = queue.clone();
                let current = None;
                self.report(
                    share.node,
                    key,
                    FromSlot::Status {
                        key,
                        queue,
                        current,
                    },
                );
            }
            let at = self.now;
            self.report(
                allocation.nodes[0].node,
                key,
                FromSlot::Started { position, at },
            );
            let limit_s = self
                .cluster
                .job(key.job)
                .unwrap()
                .spec
                .time_limit_s
                .unwrap();
            let run_ms = self.run_ms[&key.job].min(i64::from(limit_s) * 1000);
            self.running
                .insert((key, position), (at, at.plus_ms(run_ms)));
            let job = key.job;
            self.starts.push(Start {
                job,
                position,
                at,
                allocation,
            });
        }
        let kept = &self.cluster.blocked.kept;
        if let Some((head, latest)) = kept.first_key_value() {
            self.told.entry(*head).or_insert(*latest);
        }
    }

    /// Group 2: it was allowed to start, there and then.
    fn check_start(&mut self, key: SlotKey, position: u32, allocation: &Allocation) {
        let job = self.cluster.job(key.job).unwrap();
        let id = job.id;
        assert!(self.begun.insert((id, position)), "{id} starts twice");
        assert!(self.now >= job.submitted);
        assert!(
            job.spec.begin.is_none_or(|begin| self.now >= begin),
            "{id} is early"
        );
        if let Some(dependency) = &job.spec.dependency {
            let first = dependency.to_string();
            let first = first.strip_prefix("afterany:").unwrap().parse().unwrap();
            assert!(
                self.cluster.job(JobId(first)).is_none(),
                "{id} did not wait for {first}"
            );
        }
        let request = &job.spec.request;
        let partition = &self.cluster.rules.partitions[job.spec.partition.as_str()];
        for share in &allocation.nodes {
            let node = &self.cluster.nodes[&share.node];
            let name = node.name().to_owned();
            assert!(node.accepts_work(), "{id} starts on {name}");
            assert!(partition.nodes.is_empty() || partition.nodes.contains(&name));
            assert!(request.nodelist.is_empty() || request.nodelist.contains(&name));
            assert!(!request.exclude.contains(&name));
        }
    }

    /// Group 1, said by hand: what runs on each node is no more than it has.
    fn check_capacity(&self) {
        let mut held: BTreeMap<NodeId, (u32, u64, usize)> = BTreeMap::new();
        for slot in self.cluster.jobs().flat_map(|job| &job.slots) {
            for share in &slot.allocation.nodes {
                let sum = held.entry(share.node).or_default();
                sum.0 += share.cpus.len();
                sum.1 += share.memory_mib;
                sum.2 += share.gpus.len();
            }
        }
        for (id, (cpus, memory_mib, gpus)) in held {
            let node = &self.cluster.nodes[&id];
            assert!(cpus <= node.cpus_total() && memory_mib <= node.memory_total_mib());
            assert!(gpus <= node.inventory.topology.gpus.len());
        }
    }

    /// Group 10: of each limit no more is in use than it says. Whom it is about is said by hand.
    fn check_limits(&self, limits: &[(LimitKind, u8, u64)]) {
        for (kind, level, most) in limits {
            // Said twice of one level, the last counts.
            let mut rules = Rules::clone(&self.cluster.rules);
            let most = level_of(&mut rules, *level).get(*kind).unwrap_or(*most);
            let mut used: BTreeMap<String, u64> = BTreeMap::new();
            for job in self.cluster.jobs().filter(|job| is_within(job, *level)) {
                let who = match kind.word() {
                    word if word.ends_with("per-user") => job.owner.name.to_string(),
                    word if word.ends_with("per-account") => job.spec.account.to_string(),
                    _ => String::new(),
                };
                let slots = job.slots.iter().map(|slot| &slot.allocation);
                let count = match kind.word() {
                    word if word.contains("submit") => 1,
                    word if word.contains("jobs") => u64::from(job.is_running()),
                    word if word.contains("cpus") => slots.map(|one| u64::from(one.cpus())).sum(),
                    word if word.contains("gpus") => slots.map(|one| u64::from(one.gpus())).sum(),
                    _ => slots.map(|one| one.nodes.len() as u64).sum(),
                };
                *used.entry(who).or_default() += count;
            }
            for (who, used) in used {
                assert!(
                    used <= most,
                    "{kind} at {level}: {who} has {used} of {most}"
                );
            }
        }
    }

    /// Group 5: where nobody stands before others, a second plan starts nothing. Where somebody does and nobody behind could
    /// start, so it is without limits: by them the first may be held by then, and stands before nobody.
    fn check_nobody_could_start(&self, limits: &[(LimitKind, u8, u64)]) {
        let blocked = &self.cluster.blocked;
        let waits = |reason: &Reason| *reason == Reason::Resources;
        let stands_before = blocked.jobs.values().any(waits);
        if !stands_before || (blocked.kept.is_empty() && limits.is_empty()) {
            let again = self.cluster.plan(self.now);
            let starts = |entry: &Entry| matches!(entry, Entry::Start { .. });
            assert!(!again.entries.iter().any(starts), "{again:?}");
        }
    }

    /// Everything happens, until nothing is left to happen.
    fn live(&mut self, story: &Story) {
        let admin = || user(0);
        let mut submits = Vec::new();
        let mut at = BEGIN;
        for wish in &story.wishes {
            at = at.plus_ms(wish.gap_s * 1000);
            submits.push((at, wish));
        }
        let mut submits = submits.into_iter().peekable();
        let mut changes: BTreeSet<(Timestamp, u32, bool)> = BTreeSet::new();
        for (from_s, node, for_s) in &story.drains {
            if *node as usize <= story.nodes.len() {
                let from = BEGIN.plus_ms(from_s * 1000);
                changes.insert((from, *node, true));
                changes.insert((from.plus_ms(for_s * 1000), *node, false));
            }
        }
        for turn in 0.. {
            assert!(turn < 10_000, "it goes on for ever");
            let ends = self.running.values().map(|(_, ends)| *ends);
            let submit = submits.peek().map(|(at, _)| *at);
            let change = changes.first().map(|(at, ..)| *at);
            let due = self.cluster.next_deadline();
            let next = ends.chain(submit).chain(change).chain(due).min();
            let Some(next) = next else { break };
            self.now = self.now.max(next);
            self.end_what_is_due();
            while let Some((_, wish)) = submits.next_if(|(at, _)| *at == self.now) {
                self.submit(wish);
            }
            while let Some((_, node, drains)) =
                changes.first().copied().filter(|(at, ..)| *at == self.now)
            {
                changes.pop_first();
                let reason = String::new();
                let drain = NodeChange::Drain { reason };
                let change = if drains { drain } else { NodeChange::Resume };
                let name = format!("n{node}");
                let who = admin();
                _ = self.handle(Command::ChangeNode { who, name, change });
            }
            if self.cluster.next_deadline() <= Some(self.now) {
                self.handle(Command::Tick).unwrap();
            }
            self.settle();
            if let Err(sentence) = invariants::check(&self.cluster) {
                panic!("{sentence}");
            }
            self.check_capacity();
            self.check_limits(&story.limits);
            self.check_nobody_could_start(&story.limits);
        }
        // Groups 9 and 1: all that was admitted has run, and everything is free again.
        let left: Vec<JobId> = self.cluster.jobs().map(|job| job.id).collect();
        assert!(left.is_empty(), "{left:?} never started");
        for node in self.cluster.nodes.values() {
            assert_eq!(node.cpus_free.len(), node.cpus_total());
            assert_eq!(node.memory_granted_mib, 0);
            assert_eq!(node.gpus_free.len(), node.inventory.topology.gpus.len());
        }
        assert!(self.cluster.tally.iter().next().is_none() && self.cluster.queue.is_empty());
    }
}

fn lived(story: &Story, policy: Policy, backwards: bool) -> Life {
    let settings = Settings {
        policy,
        ..Settings::default()
    };
    let mut life = Life::new(&story.nodes, story.rules(), settings);
    life.backwards = backwards;
    life.live(story);
    life
}

fn rule(rule: Rule) -> Policy {
    Policy {
        rule,
        ..Policy::default()
    }
}

/// Nobody goes before anybody but by submission.
fn in_order(rule: Rule) -> Policy {
    let weights = Weights {
        age: 0,
        fair_share: 0,
        size: 0,
        partition: 0,
        qos: 0,
        ..Weights::default()
    };
    Policy { rule, weights }
}

/// One partition, one order, no arrays and nothing that holds anybody back but room.
fn queue_story() -> impl Strategy<Value = Story> {
    story().prop_map(|mut story| {
        story.limits.clear();
        story.drains.clear();
        for wish in &mut story.wishes {
            (wish.elements, wish.second) = (1, false);
            (wish.begin_s, wish.after) = (None, None);
        }
        story
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn groups_1_2_5_9_10_hold_for_fcfs(story in story()) {
        lived(&story, rule(Rule::Fcfs), false);
    }

    #[test]
    fn groups_1_2_5_9_10_hold_for_easy(story in story()) {
        lived(&story, rule(Rule::Easy), false);
    }

    #[test]
    fn groups_1_2_5_9_10_hold_for_easy_sjbf(story in story()) {
        lived(&story, rule(Rule::EasySjbf), false);
    }

    #[test]
    fn groups_1_2_5_9_10_hold_for_conservative(story in story()) {
        lived(&story, rule(Rule::Conservative), false);
    }

    /// Under every rule: what the first in the queue is told when it becomes the first is the latest it starts.
    #[test]
    fn group_3_the_head_starts_by_the_time_it_was_told(story in queue_story()) {
        for rule in [Rule::Fcfs, Rule::Easy, Rule::EasySjbf, Rule::Conservative] {
            let life = lived(&story, in_order(rule), false);
            for start in &life.starts {
                let told = life.told.get(&start.job);
                prop_assert!(told.is_none_or(|told| start.at <= *told), "{rule:?}: {start:?}, told {told:?}");
            }
        }
    }

    /// Ends of one instant may be heard of in any order.
    #[test]
    fn group_7_the_order_of_what_ends_together_makes_no_difference(story in story()) {
        for kind in [Rule::Easy, Rule::Conservative] {
            let (one, other) = (lived(&story, rule(kind), false), lived(&story, rule(kind), true));
            prop_assert_eq!(&one.starts, &other.starts, "{:?}", kind);
        }
    }
}

/// A job that is given more than it named is counted for what it is given.
#[test]
fn group_10_what_a_job_will_be_given_is_held_against_limits() {
    let one = || Request {
        cpus_per_task: Some(1),
        ..Request::default()
    };
    let whole = Request {
        exclusive: true,
        ..one()
    };
    let spread = Request {
        ntasks: Some(4),
        ntasks_per_node: Some(2),
        nodes_min: 1,
        ..one()
    };
    let cases = [
        (LimitKind::MaxCpusPerUser, 2, whole),
        (LimitKind::MaxMemoryPerUser, 100, one()),
        (LimitKind::MaxNodesPerUser, 1, spread),
    ];
    let mut exceeded = Vec::new();
    for (kind, most, request) in cases {
        let story = Story {
            nodes: vec![(3, 0), (3, 0)],
            limits: vec![(kind, 5, most)],
            wishes: vec![],
            drains: vec![],
        };
        let mut life = Life::new(&story.nodes, story.rules(), Settings::default());
        // One that can never keep a limit may as well be refused.
        _ = life.handle(Command::Submit {
            who: user(1000),
            spec: Box::new(JobSpec {
                request: request.into(),
                ..spec()
            }),
            ended: vec![],
            dry_run: false,
        });
        life.cluster.schedule(life.now);
        let slots = life.cluster.jobs().flat_map(|job| &job.slots);
        let held = slots.map(|slot| format!("{kind} {most}: {:?}", slot.allocation));
        exceeded.extend(held);
    }
    assert!(exceeded.is_empty(), "{exceeded:#?}");
}
