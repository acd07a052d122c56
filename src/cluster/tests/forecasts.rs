//! What is promised to those who wait is kept: the cluster itself is run on, and each job starts no later than was said.

use super::*;
use crate::model::resource::{GpuCount, GpuRequest};
use crate::scheduler::explain::{self, Experience};
use crate::scheduler::forecast::{Assume, forecast};
use crate::scheduler::priority::Weights;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// cpus, nodes, GPUs, limit in minutes.
type Wish = (u32, u32, u32, u32);

fn wish() -> impl Strategy<Value = Wish> {
    (1u32..7, 1u32..3, 0u32..2, 1u32..200)
}

fn asked(wish: Wish) -> JobSpec {
    let (cpus, nodes, gpus, minutes) = wish;
    JobSpec {
        request: Request {
            cpus_per_task: Some(cpus),
            nodes_min: nodes,
            nodes_max: Some(nodes),
            gpus: match gpus {
                0 => GpuRequest::None,
                count => GpuRequest::PerNode(GpuCount { kind: None, count }),
            },
            ..Request::default()
        }
        .into(),
        time_limit_s: Some(minutes * 60),
        ..spec()
    }
}

/// In order of submission: what moves the order meanwhile is not promised away.
fn settings() -> Settings {
    let weights = Weights {
        age: 0,
        fair_share: 0,
        size: 0,
        partition: 0,
        qos: 0,
        tres_cpu: 0,
        tres_gpu: 0,
        ..Weights::default()
    };
    Settings {
        policy: Policy {
            weights,
            ..Policy::default()
        },
        ..Settings::default()
    }
}

fn fixture(jobs: Vec<Arc<Job>>, nodes: Vec<Arc<Node>>, next: u32, now: Timestamp) -> Fixture {
    let counters = Counters {
        job_next: next,
        node_next: 10,
    };
    let cluster = Cluster::new(settings(), counters, jobs, nodes, vec![], now);
    Fixture {
        cluster,
        now,
        reports: 0,
        launched: vec![],
        told: vec![],
        ended: vec![],
    }
}

/// Runs a cluster on, each job until its limit, and says when each has started.
fn run_on(f: &mut Fixture) -> BTreeMap<JobId, Timestamp> {
    let mut starts = BTreeMap::new();
    loop {
        let running: Vec<(Timestamp, JobId, SlotId)> = f
            .cluster
            .jobs()
            .flat_map(|job| job.slots.iter().map(move |slot| (job, slot)))
            .map(|(job, slot)| {
                starts.entry(job.id).or_insert(slot.granted);
                let limit_s = i64::from(job.spec.time_limit_s.unwrap());
                (slot.granted.plus_ms(limit_s * 1000), job.id, slot.id)
            })
            .collect();
        let Some(now) = running.iter().map(|(ends, ..)| *ends).min() else {
            return starts;
        };
        f.now = now;
        // All ends of one instant before the next plan, as in one turn.
        for (_, job, slot) in running.iter().filter(|(ends, ..)| *ends == now) {
            let key = SlotKey {
                job: *job,
                slot: *slot,
            };
            let nodes = f.cluster.slot(key).unwrap().allocation.nodes.clone();
            for share in nodes {
                f.reports += 1;
                let end = f.end(0, 0);
                let report = FromSlot::Ended {
                    report: f.reports,
                    ends: vec![end],
                };
                let node = share.node;
                let told = Command::Report { node, key, report };
                f.cluster.handle(now, told).unwrap();
            }
        }
        f.cluster.schedule(now);
    }
}

/// A cluster with some that run and some that wait, as its store would have it.
fn crowded(sizes: &[u32], wishes: &[Wish]) -> (Vec<Arc<Job>>, Vec<Arc<Node>>, u32, Timestamp) {
    let mut f = fixture(vec![], vec![], 1, Timestamp(1_000_000));
    for (cpus, at) in sizes.iter().zip(1..) {
        let mut inventory = inventory(&format!("n{at}"), *cpus);
        inventory.topology.gpus = vec![crate::model::topology::Gpu {
            index: 0,
            kind: "a100".into(),
            uuid: String::new(),
            memory_mib: 1,
            numa: None,
            minor: None,
            real: true,
        }];
        f.run(Command::Register {
            inventory: Box::new(inventory),
            serves: Serves::Everyone,
            slots: vec![],
            gives_leases: false,
        })
        .unwrap();
    }
    for wish in wishes {
        f.now = f.now.plus_ms(1000);
        // What can never run is refused.
        let _ = f.submit_as(user(1000), asked(*wish));
    }
    let begun = |job: &Arc<Job>| {
        let mut job = Job::clone(job);
        for slot in &mut job.slots {
            slot.begun = true;
        }
        Arc::new(job)
    };
    let jobs = f.cluster.jobs().map(begun).collect();
    let nodes = f.cluster.nodes.values().cloned().collect();
    (jobs, nodes, f.cluster.counters.job_next, f.now)
}

/// The same, its nodes there again.
fn woken(jobs: Vec<Arc<Job>>, nodes: &[Arc<Node>], next: u32, now: Timestamp) -> Fixture {
    let mut f = fixture(jobs, nodes.to_vec(), next, now);
    for node in nodes {
        f.cluster
            .handle(
                now,
                Command::Register {
                    inventory: Box::new((*node.inventory).clone()),
                    serves: Serves::Everyone,
                    slots: f
                        .cluster
                        .jobs()
                        .flat_map(|job| slots_on(job, node.id))
                        .collect(),
                    gives_leases: false,
                },
            )
            .unwrap();
    }
    f
}

fn slots_on(job: &Job, node: NodeId) -> Vec<SlotKey> {
    let held = job.slots.iter();
    held.filter(|slot| slot.allocation.share(node).is_some())
        .map(|slot| SlotKey {
            job: job.id,
            slot: slot.id,
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// With what is suggested a job starts no later than was promised, when all run until their limits.
    #[test]
    fn each_suggestion_starts_the_job_by_the_time_promised(
        sizes in prop::collection::vec(2u32..8, 1..4),
        wishes in prop::collection::vec(wish(), 4..12),
        which in any::<prop::sample::Index>(),
    ) {
        let (jobs, nodes, next, now) = crowded(&sizes, &wishes);
        let waiting: Vec<Arc<Job>> = jobs.iter().filter(|job| job.slots.is_empty()).cloned().collect();
        prop_assume!(!waiting.is_empty());
        let job = &waiting[which.index(waiting.len())];
        let f = woken(jobs.clone(), &nodes, next, now);
        let outlook = f.cluster.outlook();
        prop_assert!(outlook.queue.has(job));
        let why = explain::why(&outlook, now, Experience::default(), job);
        prop_assert!(why.start.is_some(), "whatever was admitted starts some day");
        let seen = forecast(&outlook, now, Assume::LIMITS, None);
        for suggestion in &why.suggestions {
            prop_assert!(suggestion.starts < seen.starts[&job.id], "it is sooner");
            let changed: Vec<Arc<Job>> = jobs
                .iter()
                .map(|one| {
                    let mut one = Job::clone(one);
                    if one.id == job.id {
                        one.spec = Arc::clone(&suggestion.spec);
                    }
                    Arc::new(one)
                })
                .collect();
            let mut f = woken(changed, &nodes, next, now);
            f.cluster.schedule(now);
            let starts = run_on(&mut f);
            prop_assert!(
                starts[&job.id] <= suggestion.starts,
                "{}: promised {}, started {}",
                suggestion.option,
                suggestion.starts,
                starts[&job.id]
            );
        }
    }

    /// A forecast with limits is what happens, when all run until their limits.
    #[test]
    fn a_forecast_is_what_happens(
        sizes in prop::collection::vec(2u32..8, 1..4),
        wishes in prop::collection::vec(wish(), 4..16),
    ) {
        let (jobs, nodes, next, now) = crowded(&sizes, &wishes);
        let mut f = woken(jobs.clone(), &nodes, next, now);
        let seen = forecast(&f.cluster.outlook(), now, Assume::LIMITS, None);
        f.cluster.schedule(now);
        let starts = run_on(&mut f);
        for job in jobs.iter().filter(|job| job.slots.is_empty()) {
            prop_assert_eq!(starts.get(&job.id), seen.starts.get(&job.id), "job {}", job.id);
        }
    }
}
