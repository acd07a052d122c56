//! Nodes that fail again and again, in whole lives.

use super::cluster::setup;
use hpc::model::job::JobState;
use hpc::sim::outcome::Outcome;
use hpc::sim::{jobs_file, simulate};
use proptest::prelude::*;
use std::fmt::Write;

/// Six nodes, of which two fail about every 20 hours for a month, each by its own clock.
fn cluster(remembers: bool) -> String {
    let mut text = format!(
        "[[node]]\nname = \"n[1-6]\"\ncpus = 4\nmemory = \"16G\"\n[partition.batch]\nmax-time = \"none\"\n[policy]\nforget-failures = {}\n",
        !remembers
    );
    for (node, every_h) in [(1, 19), (2, 23)] {
        for at in 0..30 {
            let at = 2 + node * 3 + at * every_h;
            let _ = write!(
                text,
                "[[failure]]\nnode = \"n{node}\"\nat = \"{at}h\"\nfor = \"20m\"\n"
            );
        }
    }
    text
}

fn run(cluster: &str, jobs: &str, seed: u64) -> Outcome {
    simulate(setup(cluster, true), &jobs_file::parse(jobs, seed).unwrap()).unwrap()
}

fn lost(outcome: &Outcome, limit_h: i64, workload: &[i64]) -> usize {
    let lost = outcome
        .elements
        .iter()
        .filter(|one| one.state == JobState::NodeFail);
    lost.filter(|one| workload[one.job as usize] == limit_h)
        .count()
}

#[test]
fn long_jobs_are_lost_less_often_where_failures_are_remembered() {
    // Long ones that take most of the cluster, and short ones in between.
    let jobs = "[[job]]\ncount = 100\nevery = \"6h\"\nrun = { from = \"18h\", to = \"30h\" }\nlimit = \"36h\"\ncpus = 4\n\
        [[job]]\ncount = 600\nevery = \"1h\"\nrun = \"30m\"\nlimit = \"1h\"\ncpus = 2\n";
    for seed in 1..4 {
        let workload = jobs_file::parse(jobs, seed).unwrap();
        let limit = |job: &hpc::sim::workload::Planned| {
            let spec = &workload.specs[job.spec as usize];
            i64::from(spec.time_limit_s.unwrap()) / 3600
        };
        let limits: Vec<i64> = workload.jobs.iter().map(limit).collect();
        let with = run(&cluster(true), jobs, seed);
        let without = run(&cluster(false), jobs, seed);
        assert_eq!((with.elements.len(), without.elements.len()), (700, 700));
        assert_eq!((with.left, without.left), (0, 0));
        let (kept, others) = (lost(&with, 36, &limits), lost(&without, 36, &limits));
        println!(
            "seed {seed}: {kept} of 100 long jobs are lost, {others} where failures are forgotten"
        );
        assert!(
            others >= 10 && kept * 3 < others,
            "seed {seed}: {kept} of 100, {others} without"
        );
        assert_eq!(
            run(&cluster(true), jobs, seed).fingerprint(),
            with.fingerprint()
        );
    }
}

#[test]
fn where_nothing_fails_it_makes_no_difference() {
    let jobs =
        "[[job]]\ncount = 60\nevery = \"1h\"\nrun = \"7h\"\nlimit = \"9h\"\ncpus = 3\nnodes = 2\n";
    let sound = |forget: bool| {
        let text =
            "[[node]]\nname = \"n[1-6]\"\ncpus = 4\nmemory = \"16G\"\n[policy]\nforget-failures = ";
        let outcome = run(&format!("{text}{forget}\n"), jobs, 1);
        format!("{outcome:?}")
    };
    assert_eq!(sound(true), sound(false));
}

#[derive(Debug, Clone)]
struct Wish {
    gap_min: u32,
    run_min: u32,
    limit_h: u32,
    cpus: u32,
    nodes: u32,
    requeue: bool,
}

fn wish() -> impl Strategy<Value = Wish> {
    let limit = prop::sample::select(vec![1u32, 12, 30, 100, 200]);
    (
        0u32..300,
        1u32..3000,
        limit,
        1u32..3,
        1u32..4,
        any::<bool>(),
    )
        .prop_map(|(gap_min, run_min, limit_h, cpus, nodes, requeue)| Wish {
            gap_min,
            run_min,
            limit_h,
            cpus,
            nodes,
            requeue,
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// However often which nodes fail, everybody starts some day.
    #[test]
    fn group_5_nobody_is_kept_off_for_ever(
        nodes in 1u32..5, failures in prop::collection::vec((0u32..4, 0u32..100), 0..30),
        wishes in prop::collection::vec(wish(), 1..15),
    ) {
        let mut text = format!("[[node]]\nname = \"n[1-{nodes}]\"\ncpus = 2\nmemory = \"4G\"\n[partition.batch]\nmax-time = \"none\"\n");
        for (node, at) in &failures {
            let _ = write!(text, "[[failure]]\nnode = \"n{}\"\nat = \"{at}h\"\nfor = \"10m\"\n", 1 + node % nodes);
        }
        let mut at = 0;
        let mut jobs = String::new();
        for wish in &wishes {
            at += wish.gap_min;
            let _ = write!(
                jobs,
                "[[job]]\nat = \"{at}m\"\nrun = \"{}m\"\nlimit = \"{}h\"\ncpus = {}\nnodes = {}\nrequeue = {}\n",
                wish.run_min, wish.limit_h, wish.cpus, wish.nodes.min(nodes), wish.requeue
            );
        }
        let outcome = run(&text, &jobs, 1);
        prop_assert_eq!((outcome.elements.len(), outcome.left), (wishes.len(), 0));
    }
}
