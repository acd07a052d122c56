//! The controller's core: given a state, expect effects when a command comes; and random lives.

use super::*;
use crate::model::array::ArraySpec;
use crate::model::dependency::Dependency;
use crate::model::identity::Role;
use crate::model::ids::{BlobId, NodeId, SlotId};
use crate::model::index_set::IndexSet;
use crate::model::job::{ElementEnd, JobSpec, Launch, Owner, Usage};
use crate::model::node::{Inventory, Serves};
use crate::model::refusal::Code;
use crate::model::resource::{MemoryRequest, Request};
use crate::model::topology::{LogicalCpu, NumaNode, Topology};
use crate::wire::client::{Filter, Selector};
use crate::wire::worker::{FromSlot, SlotLaunch};

pub(crate) fn inventory(name: &str, cpus: u32) -> Inventory {
    let topology = Topology {
        cpus: (0..cpus)
            .map(|id| LogicalCpu {
                id,
                core: id,
                package: 0,
                numa: 0,
                real: true,
            })
            .collect(),
        numa_nodes: vec![NumaNode {
            id: 0,
            cpus: (0..cpus).collect(),
            memory_mib: 1024,
            distances: vec![10],
        }],
        memory_mib: 1024 * u64::from(cpus),
        gpus: Vec::new(),
    };
    Inventory {
        name: name.to_owned(),
        topology,
        boot_id: "boot".to_owned(),
        version: "test".to_owned(),
        uid: 0,
        remarks: Vec::new(),
    }
}

pub(crate) fn spec() -> JobSpec {
    JobSpec {
        name: "test".into(),
        partition: Default::default(),
        account: Default::default(),
        qos: Default::default(),
        launch: Launch::Command {
            arguments: BlobId([1; 32]),
        },
        surroundings: BlobId([2; 32]),
        command: "true".into(),
        request: Default::default(),
        array: None,
        dependency: None,
        kill_on_invalid_dependency: false,
        begin: None,
        time_limit_s: None,
        hold: false,
        requeue: false,
        nice: 0,
        signal: None,
        work_dir: "/tmp".into(),
        output: None,
        error: None,
        input: None,
        open_mode: Default::default(),
        kill_wait_s: 30,
        comment: None,
        submit_host: "here".into(),
    }
}

fn array(text: &str) -> JobSpec {
    JobSpec {
        array: Some(Box::new(ArraySpec::parse(text, 4_000_000).unwrap())),
        ..spec()
    }
}

fn user(uid: u32) -> Principal {
    Principal {
        owner: Owner {
            uid,
            gid: uid,
            name: format!("user{uid}").into(),
        },
        role: if uid == 0 { Role::Admin } else { Role::User },
        from: "local".into(),
    }
}

/// A cluster with workers that live in the test: what is launched can be ended by hand.
struct Fixture {
    cluster: Cluster,
    now: Timestamp,
    reports: u64,
    launched: Vec<(NodeId, SlotLaunch)>,
    told: Vec<(SlotKey, ToSlot)>,
    ended: Vec<(JobId, JobState)>,
}

impl Fixture {
    fn new(nodes: &[(&str, u32)]) -> Self {
        let now = Timestamp(1_000_000);
        let cluster = Cluster::new(
            Settings::default(),
            Counters::default(),
            vec![],
            vec![],
            vec![],
            now,
        );
        let mut fixture = Fixture {
            cluster,
            now,
            reports: 0,
            launched: vec![],
            told: vec![],
            ended: vec![],
        };
        for (name, cpus) in nodes {
            fixture
                .run(Command::Register {
                    inventory: Box::new(inventory(name, *cpus)),
                    serves: Serves::Everyone,
                    slots: vec![],
                    gives_leases: false,
                })
                .unwrap();
        }
        fixture
    }

    /// A turn as the controller takes it: the command, a plan, idle slots closed.
    fn run(&mut self, command: Command) -> Result<Reply, Refusal> {
        let handled = self.cluster.handle(self.now, command)?;
        let mut effects = handled.effects;
        if effects.contains(&Effect::Plan) {
            effects.extend(self.cluster.schedule(self.now));
        }
        for effect in effects {
            match effect {
                Effect::Launch { node, launch, .. } => self.launched.push((node, *launch)),
                Effect::Tell { key, order, .. } => self.told.push((key, order)),
                Effect::JobEnded { job, state, .. } => self.ended.push((job, state)),
                _ => {}
            }
        }
        if let Err(sentence) = invariants::check(&self.cluster) {
            panic!("{sentence}");
        }
        Ok(handled.reply)
    }

    fn submit(&mut self, spec: JobSpec) -> JobId {
        self.submit_as(user(1000), spec).unwrap()
    }

    fn submit_as(&mut self, who: Principal, spec: JobSpec) -> Result<JobId, Refusal> {
        match self.run(Command::Submit {
            who,
            spec: Box::new(spec),
            ended: vec![],
            dry_run: false,
        })? {
            Reply::Submitted(id) => Ok(id),
            other => panic!("{other:?}"),
        }
    }

    fn end(&self, position: u32, code: u8) -> ElementEnd {
        let ok = code == 0;
        ElementEnd {
            position,
            state: if ok {
                JobState::Completed
            } else {
                JobState::Failed
            },
            reason: if ok {
                Reason::None
            } else {
                Reason::NonZeroExitCode
            },
            exit: ExitStatus { code, signal: 0 },
            cancelled_by: None,
            started: Some(self.now),
            ended: self.now.plus_ms(10),
            usage: Usage::default(),
            restarts: 0,
        }
    }

    fn report_end(&mut self, job: JobId, slot: u32, position: u32, code: u8) {
        self.reports += 1;
        let end = self.end(position, code);
        let key = SlotKey {
            job,
            slot: SlotId(slot),
        };
        let node = self
            .cluster
            .slot(key)
            .map_or(NodeId(1), |slot| slot.allocation.nodes[0].node);
        let report = FromSlot::Ended {
            report: self.reports,
            ends: vec![end],
        };
        self.run(Command::Report { node, key, report }).unwrap();
    }

    /// A node says that it has a slot and that nothing runs in it.
    fn present(&mut self, key: SlotKey, node: u32) {
        let queue = self.cluster.slot(key).map(|slot| slot.queue.clone());
        let report = FromSlot::Status {
            key,
            queue: queue.unwrap_or_default(),
            current: None,
        };
        self.report(key, node, report);
    }

    /// An agent finds a shepherd dead, and in its journal what it had been running.
    fn shepherd_killed(&mut self, key: SlotKey, node: u32) {
        let slot = self.cluster.slot(key);
        let begun = slot.filter(|slot| slot.begun);
        let position = begun.and_then(|slot| slot.queue.first());
        let end = |position| ElementEnd {
            state: JobState::NodeFail,
            reason: Reason::SystemFailure("killed".to_owned()),
            ..self.end(position, 0)
        };
        let report = FromSlot::Lost {
            positions: IndexSet::new(),
            ends: position.map(end).into_iter().collect(),
            certain: true,
        };
        self.report(key, node, report);
    }

    fn report(&mut self, key: SlotKey, node: u32, report: FromSlot) {
        let node = NodeId(node);
        self.run(Command::Report { node, key, report }).unwrap();
    }

    /// An array of a hundred short elements, three of which have ended: its slot has several ahead.
    fn stocked(&mut self) -> JobId {
        let job = self.submit(array("0-99"));
        for position in 0..3 {
            let (_, slot, _) = self.running()[0];
            self.report_end(job, slot.0, position, 0);
        }
        job
    }

    fn running(&self) -> Vec<(JobId, SlotId, Vec<u32>)> {
        self.cluster
            .jobs()
            .flat_map(|job| {
                job.slots
                    .iter()
                    .map(|slot| (job.id, slot.id, slot.queue.iter().collect()))
            })
            .collect()
    }

    fn running_key(&self, job: JobId) -> SlotKey {
        let slot = self.cluster.job(job).unwrap().slots[0].id;
        SlotKey { job, slot }
    }

    fn only(id: JobId) -> Filter {
        Filter {
            jobs: vec![Selector {
                job: id.0,
                indices: None,
            }],
            ..Filter::default()
        }
    }

    fn state(&self, id: JobId) -> Option<JobState> {
        self.ended
            .iter()
            .rfind(|(job, _)| *job == id)
            .map(|(_, state)| *state)
    }
}

#[test]
fn a_job_is_launched_at_once_and_its_end_frees_the_node() {
    let mut f = Fixture::new(&[("ws1", 2)]);
    let job = f.submit(spec());
    assert_eq!(f.launched.len(), 1);
    assert_eq!(f.launched[0].1.key.job, job);
    assert_eq!(
        f.launched[0].1.time_limit_s,
        Some(86_400),
        "the partition's limit is in force"
    );
    f.report_end(job, 0, 0, 7);
    assert_eq!(f.state(job), Some(JobState::Failed));
    assert!(
        f.told
            .iter()
            .any(|(_, order)| matches!(order, ToSlot::Close))
    );
    assert_eq!(f.cluster.nodes[&NodeId(1)].cpus_free.len(), 2);
    let changes = f.cluster.take_changes();
    assert_eq!(changes.ended.len(), 1);
    assert_eq!(changes.ended[0].exit.code, 7);
}

#[test]
fn the_first_that_does_not_fit_holds_those_behind_it_unless_they_end_in_time() {
    let mut f = Fixture::new(&[("ws1", 3)]);
    let job = |cpus, limit_s| JobSpec {
        request: Request {
            cpus_per_task: Some(cpus),
            ..Request::default()
        }
        .into(),
        time_limit_s: Some(limit_s),
        ..spec()
    };
    let first = f.submit(job(1, 3600));
    let second = f.submit(job(3, 3600));
    let long = f.submit(job(1, 3601));
    let short = f.submit(job(1, 3600));
    let running = |f: &Fixture| f.running().iter().map(|(job, ..)| *job).collect::<Vec<_>>();
    assert_eq!(running(&f), [first, short], "it fills the gap");
    let snapshot = f.cluster.snapshot();
    let reason = |id: JobId| views::pending_reason(&snapshot, &snapshot.jobs[&id]);
    assert_eq!(
        (reason(second), reason(long)),
        (Reason::Resources, Reason::Priority)
    );
    let latest = snapshot.blocked.kept[&second];
    assert_eq!(latest, f.now.plus_ms(3_600_000));
    f.report_end(first, 0, 0, 0);
    f.report_end(short, 0, 0, 0);
    assert_eq!(running(&f), [second]);
    f.report_end(second, 0, 0, 0);
    assert_eq!(running(&f), [long]);
    // Strictly in order nobody goes past.
    let mut f = Fixture::new(&[("ws1", 3)]);
    f.cluster.settings.policy.rule = crate::scheduler::Rule::Fcfs;
    let first = f.submit(job(1, 3600));
    f.submit(job(3, 3600));
    f.submit(job(1, 60));
    assert_eq!(running(&f), [first]);
}

#[test]
fn limits_hold_and_refuse_with_slurms_words() {
    use crate::model::rules::{Act, Noun, RuleChange};
    let mut f = Fixture::new(&[("ws1", 4)]);
    let settings = [("max-jobs-per-user", "1"), ("max-submit-per-user", "3")];
    let change = RuleChange {
        noun: Noun::Qos,
        act: Act::Set,
        name: "normal".into(),
        settings: settings
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
    };
    let who = user(1000);
    let refused = f
        .run(Command::ChangeRule {
            who,
            change: change.clone(),
        })
        .unwrap_err();
    assert_eq!(refused.code, Code::NotPermitted);
    let who = user(0);
    f.run(Command::ChangeRule { who, change }).unwrap();
    let first = f.submit(array("0-3"));
    let second = f.submit(spec());
    let third = f.submit(spec());
    let running = |f: &Fixture| f.running().iter().map(|(job, ..)| *job).collect::<Vec<_>>();
    assert_eq!(running(&f), [first; 4], "an array counts as one");
    let snapshot = f.cluster.snapshot();
    let reason = |id: JobId| views::pending_reason(&snapshot, &snapshot.jobs[&id]);
    let words = [second, third].map(|id| reason(id).word());
    assert_eq!(words, ["QOSMaxJobsPerUserLimit"; 2]);
    let fourth = f.submit_as(user(1000), spec()).unwrap_err();
    assert_eq!(fourth.code, Code::Limit);
    let said = "QOSMaxSubmitJobPerUserLimit: QOS normal sets max-submit-per-user=3: \
                3 in use, 1 more asked for";
    assert_eq!(fourth.what, said);
    // Another is not concerned: who is held keeps no place.
    let other = f.submit_as(user(1001), spec()).unwrap();
    f.report_end(first, 0, 0, 0);
    assert!(running(&f).contains(&other));
    assert!(!running(&f).contains(&second));
    for position in 1..4 {
        f.report_end(first, position, position, 0);
    }
    assert!(running(&f).contains(&second));
    assert!(!running(&f).contains(&third));
    assert!(f.submit_as(user(1000), spec()).is_ok(), "two are left");
}

#[test]
fn an_array_runs_through_slots_and_short_tasks_get_blocks() {
    let mut f = Fixture::new(&[("ws1", 2)]);
    let job = f.submit(array("0-99"));
    assert_eq!(f.running().len(), 2, "one slot for each cpu");
    let mut done = 0;
    let mut largest = 0;
    while f.cluster.job(job).is_some() {
        let (_, slot, queue) = f.running().into_iter().next().unwrap();
        largest = largest.max(queue.len());
        f.report_end(job, slot.0, queue[0], 0);
        done += 1;
        assert!(done <= 100, "no element ends twice");
    }
    assert_eq!(done, 100);
    assert!(
        largest > 4,
        "ten-millisecond tasks are given several at a time, at most {largest}"
    );
    assert_eq!(f.state(job), Some(JobState::Completed));
}

#[test]
fn a_throttle_bounds_the_slots() {
    let mut f = Fixture::new(&[("ws1", 8)]);
    f.submit(array("0-9%3"));
    assert_eq!(f.running().len(), 3);
}

#[test]
fn a_throttle_that_is_lowered_holds_for_what_follows() {
    use crate::wire::client::JobChange;
    let mut f = Fixture::new(&[("ws1", 8)]);
    let job = f.submit(array("0-9%2"));
    f.run(Command::Update {
        who: user(1000),
        filter: Fixture::only(job),
        changes: vec![JobChange::ArrayThrottle(1)],
        ended: vec![],
    })
    .unwrap();
    assert_eq!(f.running().len(), 2, "what runs goes on");
    f.report_end(job, 1, 1, 0);
    assert_eq!(f.running().len(), 1);
    f.report_end(job, 0, 0, 0);
    let running = f.running();
    assert_eq!(running.len(), 1, "{running:?}");
}

#[test]
fn what_is_an_operators_to_give_cannot_be_taken_at_submission() {
    let mut f = Fixture::new(&[("ws1", 1)]);
    let raised = JobSpec { nice: -5, ..spec() };
    let refusal = f.submit_as(user(1000), raised.clone()).unwrap_err();
    assert_eq!(refusal.code, crate::model::refusal::Code::NotPermitted);
    assert!(refusal.what.contains("-5"), "{refusal}");
    f.submit_as(user(0), raised).unwrap();
}

#[test]
fn one_element_is_not_held_in_place_of_all() {
    let mut f = Fixture::new(&[("ws1", 1)]);
    let job = f.submit(array("1-4"));
    let one = Filter {
        jobs: vec![Selector {
            job: job.0,
            indices: Some(ArraySpec::parse("3", 100).unwrap()),
        }],
        ..Filter::default()
    };
    let who = user(1000);
    let hold = Command::Hold { who, filter: one };
    assert!(f.run(hold).unwrap_err().what.contains("element"));
    assert_eq!(f.cluster.job(job).unwrap().hold, Hold::None);
}

#[test]
fn a_list_of_partitions_means_the_first_that_allows_the_time() {
    let mut f = Fixture::new(&[("ws1", 8)]);
    let listed = |partition: &str, time_limit_s| JobSpec {
        partition: partition.into(),
        time_limit_s,
        ..spec()
    };
    for (list, time, chosen) in [
        ("batch,interactive", None, "batch"),
        ("batch,interactive", Some(2 * 86_400), "interactive"),
        ("interactive,batch", Some(60), "interactive"),
    ] {
        let job = f.submit(listed(list, time));
        assert_eq!(f.cluster.job(job).unwrap().spec.partition, chosen);
    }
    for wrong in ["batch,nope", "batch,"] {
        f.submit_as(user(1000), listed(wrong, None)).unwrap_err();
    }
}

#[test]
fn a_gang_starts_on_all_its_nodes_or_not_at_all() {
    let mut f = Fixture::new(&[("a", 2), ("b", 2)]);
    let busy = f.submit(JobSpec {
        request: Request {
            nodelist: vec!["b".into()],
            cpus_per_task: Some(2),
            ..Request::default()
        }
        .into(),
        ..spec()
    });
    let gang = f.submit(JobSpec {
        request: Request {
            nodes_min: 2,
            nodes_max: Some(2),
            ntasks: Some(3),
            ..Request::default()
        }
        .into(),
        ..spec()
    });
    assert_eq!(f.running().len(), 1, "the gang waits for both nodes");
    f.report_end(busy, 0, 0, 0);
    let launches: Vec<_> = f
        .launched
        .iter()
        .filter(|(_, launch)| launch.key.job == gang)
        .collect();
    assert_eq!(launches.len(), 2);
    let shares: Vec<u32> = launches[0]
        .1
        .shares
        .iter()
        .map(|share| share.tasks)
        .collect();
    assert_eq!(shares, [2, 1], "the first node is filled");
}

#[test]
fn cancel_ends_what_waits_and_orders_the_end_of_what_runs() {
    let mut f = Fixture::new(&[("ws1", 2)]);
    let job = f.submit(array("0-9"));
    let reply = f
        .run(Command::Cancel {
            who: user(1000),
            filter: Fixture::only(job),
        })
        .unwrap();
    assert_eq!(
        reply,
        Reply::Touched {
            count: 10,
            notes: vec![]
        }
    );
    assert_eq!(
        f.told
            .iter()
            .filter(|(_, order)| matches!(order, ToSlot::Kill { .. }))
            .count(),
        2
    );
    assert!(f.cluster.job(job).unwrap().pending.is_empty());
    for (_, slot, queue) in f.running() {
        let mut end = f.end(queue[0], 0);
        (end.state, end.cancelled_by) = (JobState::Cancelled, Some(1000));
        f.reports += 1;
        let report = FromSlot::Ended {
            report: f.reports,
            ends: vec![end],
        };
        f.run(Command::Report {
            node: NodeId(1),
            key: SlotKey { job, slot },
            report,
        })
        .unwrap();
    }
    assert_eq!(f.state(job), Some(JobState::Cancelled));
}

#[test]
fn strangers_are_refused_by_name_and_bulk_verbs_pass_them_over() {
    let mut f = Fixture::new(&[("ws1", 2)]);
    let job = f.submit(spec());
    let verbs = |who: Principal, filter: Filter| {
        [
            Command::Cancel {
                who: who.clone(),
                filter: filter.clone(),
            },
            Command::Hold {
                who: who.clone(),
                filter: filter.clone(),
            },
            Command::Release {
                who: who.clone(),
                filter: filter.clone(),
            },
            Command::Requeue {
                who: who.clone(),
                filter: filter.clone(),
                hold: false,
            },
            Command::Suspend {
                who: who.clone(),
                filter: filter.clone(),
                stop: true,
            },
            Command::Signal {
                who: who.clone(),
                filter: filter.clone(),
                signal: 10,
                to: crate::wire::worker::SignalTarget::All,
            },
            Command::Update {
                who,
                filter,
                changes: vec![],
                ended: vec![],
            },
        ]
    };
    for command in verbs(user(2000), Fixture::only(job)) {
        let refusal = f.run(command).unwrap_err();
        assert_eq!(refusal.code, crate::model::refusal::Code::NotPermitted);
    }
    for command in verbs(user(2000), Filter::default()) {
        f.run(command).unwrap();
    }
    let slot = &f.cluster.job(job).unwrap().slots[0];
    assert!(
        slot.kills.is_empty() && !slot.suspended,
        "nothing was touched"
    );
    f.run(Command::Cancel {
        who: user(0),
        filter: Fixture::only(job),
    })
    .unwrap();
}

#[test]
fn what_can_never_run_is_refused_with_the_limit() {
    let mut f = Fixture::new(&[("ws1", 4)]);
    let with = |request: Request| JobSpec {
        request: request.into(),
        ..spec()
    };
    let cases = [
        (
            with(Request {
                cpus_per_task: Some(5),
                ..Request::default()
            }),
            "the largest node has 4",
        ),
        (
            with(Request {
                nodes_min: 2,
                nodes_max: Some(2),
                ..Request::default()
            }),
            "there are 1",
        ),
        (
            with(Request {
                memory: MemoryRequest::PerNode(999_999),
                ..Request::default()
            }),
            "4096 MiB",
        ),
        (
            with(Request {
                nodelist: vec!["nosuch".into()],
                ..Request::default()
            }),
            "`nosuch` does not exist",
        ),
        (
            with(Request {
                wishes: crate::model::wishes::Wishes {
                    constraint: Some("fast".into()),
                    ..Default::default()
                },
                ..Request::default()
            }),
            "`fast`",
        ),
        (
            JobSpec {
                partition: "nosuch".into(),
                ..spec()
            },
            "no partition `nosuch`",
        ),
        (
            JobSpec {
                qos: "gold".into(),
                ..spec()
            },
            "no QOS `gold`",
        ),
        (
            JobSpec {
                time_limit_s: Some(90_000),
                ..spec()
            },
            "allows 1-00:00:00",
        ),
        (
            JobSpec {
                dependency: Some(Box::new(Dependency::parse("afterok:99").unwrap())),
                ..spec()
            },
            "there is no job 99",
        ),
    ];
    for (spec, words) in cases {
        let refusal = f.submit_as(user(1000), spec).unwrap_err();
        assert!(refusal.what.contains(words), "{refusal} should say {words}");
    }
    assert_eq!(
        f.submit(spec()),
        JobId(1),
        "refused submissions take no number"
    );
}

#[test]
fn requeue_puts_back_only_what_asked_for_it_and_counts() {
    let mut f = Fixture::new(&[("ws1", 1)]);
    let stubborn = f.submit(spec());
    assert!(
        f.run(Command::Requeue {
            who: user(1000),
            filter: Fixture::only(stubborn),
            hold: false
        })
        .is_err()
    );
    f.report_end(stubborn, 0, 0, 0);
    let job = f.submit(JobSpec {
        requeue: true,
        ..spec()
    });
    f.run(Command::Requeue {
        who: user(1000),
        filter: Fixture::only(job),
        hold: false,
    })
    .unwrap();
    f.report_end(job, 0, 0, 1);
    let known = f.cluster.job(job).unwrap();
    assert_eq!(
        (known.restarts_of(0), known.slots.len(), known.slots[0].id),
        (1, 1, SlotId(1))
    );
    assert_eq!(f.launched.last().unwrap().1.restarts, [(0, 1)]);
    f.report_end(job, 0, 0, 0);
    assert!(
        f.cluster.job(job).is_some(),
        "an end of the old attempt is not taken for the new one's"
    );
    f.report_end(job, 1, 0, 0);
    assert_eq!(f.state(job), Some(JobState::Completed));
}

#[test]
fn a_stocked_slot_that_falls_silent_gives_back_what_has_not_started() {
    let mut f = Fixture::new(&[("ws1", 1)]);
    let job = f.stocked();
    let held = f.running()[0].2.clone();
    assert!(held.len() > 1);
    f.now = f.cluster.next_deadline().unwrap();
    f.run(Command::Tick).unwrap();
    assert!(
        f.told
            .iter()
            .any(|(_, order)| matches!(order, ToSlot::Retract { .. }))
    );
    let key = SlotKey {
        job,
        slot: f.running()[0].1,
    };
    let back: IndexSet = held[1..].iter().copied().collect();
    f.run(Command::Report {
        node: NodeId(1),
        key,
        report: FromSlot::Retracted {
            report: 900,
            positions: back,
        },
    })
    .unwrap();
    assert_eq!(f.running()[0].2, held[..1]);
}

#[test]
fn a_hold_keeps_a_job_and_an_operators_hold_is_an_operators_to_lift() {
    let mut f = Fixture::new(&[("ws1", 1)]);
    let job = f.submit(JobSpec {
        hold: true,
        ..spec()
    });
    assert!(f.running().is_empty());
    f.run(Command::Hold {
        who: user(0),
        filter: Fixture::only(job),
    })
    .unwrap();
    assert!(
        f.run(Command::Release {
            who: user(1000),
            filter: Fixture::only(job)
        })
        .is_err()
    );
    f.run(Command::Release {
        who: user(0),
        filter: Fixture::only(job),
    })
    .unwrap();
    assert_eq!(f.running().len(), 1);
}

#[test]
fn a_new_time_limit_reaches_what_runs_and_stays_within_the_partitions() {
    use crate::wire::client::JobChange;
    let mut f = Fixture::new(&[("ws1", 1)]);
    let job = f.submit(spec());
    let change = |limit| Command::Update {
        who: user(1000),
        filter: Fixture::only(job),
        changes: vec![JobChange::TimeLimit(Some(limit))],
        ended: vec![],
    };
    f.run(change(60)).unwrap();
    let told = f.told.last().map(|(_, order)| order.clone());
    assert_eq!(told, Some(ToSlot::Limit { seconds: Some(60) }));
    assert!(f.run(change(90_000)).is_err());
}

#[test]
fn a_million_elements_cost_a_run_and_are_cancelled_as_one_row() {
    let mut f = Fixture::new(&[("ws1", 1)]);
    f.submit(JobSpec {
        request: Request {
            cpus_per_task: Some(1),
            ..Request::default()
        }
        .into(),
        ..spec()
    });
    let job = f.submit(array("0-999999"));
    assert_eq!(f.cluster.job(job).unwrap().pending.runs().len(), 1);
    _ = f.cluster.take_changes();
    f.run(Command::Cancel {
        who: user(1000),
        filter: Fixture::only(job),
    })
    .unwrap();
    let changes = f.cluster.take_changes();
    assert_eq!((changes.rows.len(), changes.ended.len()), (1, 1));
    assert_eq!(f.state(job), Some(JobState::Cancelled));
}

mod copies;
mod dependencies;
mod fair;
mod flaky;
mod forecasts;
mod gangs;
mod leases;
mod lives;
mod nodes;
mod pace;
mod steps;
mod switches;
mod virtual_time;
