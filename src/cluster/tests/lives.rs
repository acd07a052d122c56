//! Random lives of a cluster: the invariants after every step, every end counted once, reloads included.

use super::*;
use proptest::prelude::*;

/// One step of a random life.
#[derive(Debug, Clone)]
enum Step {
    Submit {
        cpus: u32,
        nodes: u32,
        elements: u32,
        requeue: bool,
        after: Option<u8>,
    },
    End {
        pick: u8,
        code: u8,
    },
    /// A node of a gang says that it has its slot.
    Present {
        pick: u8,
        node: u32,
    },
    ShepherdKilled {
        pick: u8,
        node: u32,
    },
    EndAgain {
        pick: u8,
    },
    Cancel {
        pick: u8,
    },
    Requeue {
        pick: u8,
    },
    HoldOrRelease {
        pick: u8,
        hold: bool,
    },
    Leased {
        pick: u8,
    },
    Lose,
    Return,
    Deadline,
    Tick {
        ms: i64,
    },
    Reload,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u32..4, 1u32..3, 1u32..30, any::<bool>(), prop::option::of(any::<u8>()))
            .prop_map(|(cpus, nodes, elements, requeue, after)| Step::Submit { cpus, nodes, elements, requeue, after }),
        8 => (any::<u8>(), 1u32..3).prop_map(|(pick, node)| Step::Present { pick, node }),
        2 => (any::<u8>(), 1u32..3).prop_map(|(pick, node)| Step::ShepherdKilled { pick, node }),
        12 => (any::<u8>(), 0u8..2).prop_map(|(pick, code)| Step::End { pick, code }),
        2 => any::<u8>().prop_map(|pick| Step::EndAgain { pick }),
        1 => any::<u8>().prop_map(|pick| Step::Cancel { pick }),
        1 => any::<u8>().prop_map(|pick| Step::Requeue { pick }),
        1 => (any::<u8>(), any::<bool>()).prop_map(|(pick, hold)| Step::HoldOrRelease { pick, hold }),
        2 => any::<u8>().prop_map(|pick| Step::Leased { pick }),
        1 => Just(Step::Lose),
        1 => Just(Step::Deadline),
        2 => Just(Step::Return),
        2 => (0i64..1000).prop_map(|ms| Step::Tick { ms }),
        1 => Just(Step::Reload),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever happens: nothing is granted twice, every position is in one place, every end is counted
    /// once, and what the store would hold makes the same cluster again.
    #[test]
    fn any_life_keeps_the_invariants(steps in prop::collection::vec(step(), 1..120)) {
        let mut f = Fixture::new(&[("a", 3), ("b", 2)]);
        let mut stored: BTreeMap<JobId, Arc<Job>> = BTreeMap::new();
        let mut nodes: BTreeMap<u32, Arc<Node>> = BTreeMap::new();
        let mut ends: BTreeMap<(JobId, u32), u32> = BTreeMap::new();
        let mut expected: BTreeMap<JobId, u32> = BTreeMap::new();
        let mut counters = Counters::default();
        let mut old: Vec<(JobId, u32, u32)> = Vec::new();
        for step in steps {
            f.now = f.now.plus_ms(1);
            let jobs: Vec<JobId> = f.cluster.jobs().map(|job| job.id).collect();
            let some = |pick: u8| (!jobs.is_empty()).then(|| jobs[usize::from(pick) % jobs.len()]);
            match step {
                Step::Submit { cpus, nodes, elements, requeue, after } => {
                    let mut wanted = if elements == 1 { spec() } else { array(&format!("0-{}%5", elements - 1)) };
                    // No cpus: it carries files.
                    let cpus = if elements > 1 { cpus.max(1) } else { cpus };
                    if cpus == 0 {
                        wanted.launch = Launch::Tasks { arguments: BlobId([1; 32]) };
                    }
                    let request = Arc::make_mut(&mut wanted.request);
                    // The second node has two cpus.
                    request.cpus_per_task = Some(if nodes > 1 { cpus.min(2) } else { cpus });
                    // One that was loaded before anything was stored knows no machine.
                    let nodes = nodes.min(u32::try_from(f.cluster.nodes.len()).unwrap()).max(1);
                    (request.nodes_min, request.ntasks) = (nodes, Some(nodes));
                    wanted.requeue = requeue;
                    wanted.dependency = after.and_then(some).map(|id| Box::new(Dependency::parse(&format!("afterany:{id}")).unwrap()));
                    let count = wanted.count();
                    let id = f.submit(wanted);
                    expected.insert(id, count);
                }
                Step::End { pick, code } => {
                    let running = f.running();
                    if !running.is_empty() {
                        let (job, slot, queue) = &running[usize::from(pick) % running.len()];
                        let key = SlotKey { job: *job, slot: *slot };
                        if !f.cluster.slot(key).is_some_and(|slot| slot.begun) {
                            // Nothing of it can end: nothing of it has begun.
                            continue;
                        }
                        old.push((*job, slot.0, queue[0]));
                        f.report_end(*job, slot.0, queue[0], code);
                    }
                }
                Step::Present { pick, node } => {
                    let running = f.running();
                    if !running.is_empty() {
                        let (job, slot, _) = running[usize::from(pick) % running.len()];
                        f.present(SlotKey { job, slot }, node);
                    }
                }
                Step::ShepherdKilled { pick, node } => {
                    let running = f.running();
                    if !running.is_empty() {
                        let (job, slot, _) = running[usize::from(pick) % running.len()];
                        f.shepherd_killed(SlotKey { job, slot }, node);
                    }
                }
                Step::EndAgain { pick } => if !old.is_empty() {
                    let (job, slot, position) = old[usize::from(pick) % old.len()];
                    // Said again by a shepherd that was not acknowledged, or very late.
                    let held = f.cluster.slot(SlotKey { job, slot: SlotId(slot) }).is_some_and(|slot| slot.queue.contains(position));
                    if !held {
                        f.report_end(job, slot, position, 0);
                    }
                },
                Step::Cancel { pick } => if let Some(id) = some(pick) {
                    f.run(Command::Cancel { who: user(0), filter: Fixture::only(id) }).unwrap();
                },
                Step::Requeue { pick } => if let Some(id) = some(pick) {
                    _ = f.run(Command::Requeue { who: user(0), filter: Fixture::only(id), hold: false });
                },
                Step::HoldOrRelease { pick, hold } => if let Some(id) = some(pick) {
                    let (who, filter) = (user(0), Fixture::only(id));
                    _ = f.run(if hold { Command::Hold { who, filter } } else { Command::Release { who, filter } });
                },
                Step::Leased { pick } => {
                    let running = f.running();
                    if !running.is_empty() {
                        let (job, slot, _) = &running[usize::from(pick) % running.len()];
                        let key = SlotKey { job: *job, slot: *slot };
                        let node = f.cluster.slot(key).unwrap().allocation.nodes[0].node;
                        let report = FromSlot::Leased { ends_after_ms: 1_000 };
                        f.run(Command::Report { node, key, report }).unwrap();
                    }
                }
                Step::Deadline => if let Some(at) = f.cluster.next_deadline() {
                    f.now = f.now.max(at);
                    f.run(Command::Tick).unwrap();
                    // What was due is done, or the controller would turn for ever.
                    prop_assert!(f.cluster.next_deadline() > Some(at) || f.cluster.next_deadline().is_none());
                },
                Step::Lose => _ = f.run(Command::LinkLost { node: NodeId(1) }),
                Step::Return => {
                    let there = f.cluster.jobs().flat_map(|job| job.slots.iter().map(move |slot| (job.id, slot)))
                        .filter(|(_, slot)| slot.allocation.share(NodeId(1)).is_some())
                        .map(|(job, slot)| SlotKey { job, slot: slot.id }).collect();
                    f.run(Command::Register { inventory: Box::new(inventory("a", 3)), serves: Serves::Everyone, slots: there, gives_leases: f.now.0 % 2 == 0 }).unwrap();
                }
                Step::Tick { ms } => {
                    f.now = f.now.plus_ms(ms);
                    f.run(Command::Tick).unwrap();
                }
                Step::Reload => {
                    f.cluster = Cluster::new(
                        Settings::default(), counters.clone(),
                        stored.values().map(|job| {
                            let mut job = (**job).clone();
                            for slot in &mut job.slots {
                                (slot.current, slot.retracting, slot.ended_count) = (None, false, 0);
                                slot.present.clear();
                            }
                            Arc::new(job)
                        }).collect(),
                        nodes.values().cloned().collect(), vec![], f.now,
                    );
                    invariants::check(&f.cluster).unwrap();
                }
            }
            let changes = f.cluster.take_changes();
            for (id, job) in changes.jobs {
                match job {
                    Some(job) => _ = stored.insert(id, job),
                    None => _ = stored.remove(&id),
                }
            }
            for (id, node) in changes.nodes {
                match node {
                    Some(node) => _ = nodes.insert(id, node),
                    None => _ = nodes.remove(&id),
                }
            }
            counters = changes.counters.unwrap_or(counters);
            for (id, _, row) in changes.rows {
                let never = row.never_started.iter().flat_map(|never| never.positions.iter().collect::<Vec<_>>());
                for position in row.ends.iter().map(|end| end.position).chain(never) {
                    *ends.entry((id, position)).or_default() += 1;
                }
            }
            for ended in changes.ended {
                prop_assert_eq!(ended.completed + ended.unsuccessful, expected[&ended.id]);
            }
        }
        for ((job, position), times) in ends {
            prop_assert_eq!(times, 1, "job {} position {}", job, position);
        }
    }
}
