//! Nodes under several switches, in whole lives.

use super::cluster::setup;
use hpc::sim::outcome::{Element, Outcome};
use hpc::sim::{jobs_file, simulate};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::fmt::Write;

/// Racks of two, two and three nodes, all with two cpus, the last without a name.
const RACKS: &str = "[[node]]\nname = \"n[1-2]\"\ncpus = 2\nmemory = \"8G\"\nswitch = \"core/a\"\n\
    [[node]]\nname = \"n[3-4]\"\ncpus = 2\nmemory = \"8G\"\nswitch = \"core/b\"\n\
    [[node]]\nname = \"n[5-7]\"\ncpus = 2\nmemory = \"8G\"\n";

fn rack(node: u32) -> u32 {
    match node {
        0 | 1 => 0,
        2 | 3 => 1,
        _ => 2,
    }
}

fn run(jobs: &str) -> Outcome {
    simulate(setup(RACKS, true), &jobs_file::parse(jobs, 1).unwrap()).unwrap()
}

fn racks_of(outcome: &Outcome, one: &Element) -> usize {
    let nodes = outcome.places[one.place as usize].iter();
    nodes
        .map(|node| rack(*node))
        .collect::<BTreeSet<u32>>()
        .len()
}

fn starts(outcome: &Outcome) -> Vec<(i64, String)> {
    let elements = outcome.elements.iter();
    elements
        .map(|one| (one.started.seconds(), outcome.place_name(one.place)))
        .collect()
}

#[test]
fn wide_jobs_lie_close_together() {
    // Two and three nodes under the switches that have just so many, then two of what is left: the pair below core.
    let wide = |at: u32, nodes: u32, run: u32| {
        format!(
            "[[job]]\nat = \"{at}s\"\nrun = \"{run}m\"\nlimit = \"1h\"\ncpus = 2\nnodes = {nodes}\n"
        )
    };
    let jobs = [wide(0, 3, 50), wide(1, 2, 50), wide(2, 2, 50)].concat();
    let name = |at, name: &str| (at, name.to_owned());
    assert_eq!(
        starts(&run(&jobs)),
        [name(0, "n[5-7]"), name(1, "n[1-2]"), name(2, "n[3-4]")]
    );
    let jobs = [wide(0, 4, 50), wide(1, 2, 50)].concat();
    assert_eq!(starts(&run(&jobs)), [name(0, "n[1-4]"), name(1, "n[5-6]")]);
}

#[test]
fn who_accepts_few_switches_waits_for_them_and_then_takes_any() {
    // A node of each rack is taken for an hour, so that two under one switch are free in the last one only.
    let taken = |nodes: &str, at: u32, run: &str| {
        let mut jobs = String::new();
        for node in nodes.split(',') {
            let _ = write!(
                jobs,
                "[[job]]\nat = \"{at}s\"\nrun = \"{run}\"\nlimit = \"{run}\"\ncpus = 2\nconstraint = \"{node}\"\n"
            );
        }
        jobs
    };
    let racks = (1..=7).fold(String::new(), |text, id| {
        let switch = ["core/a", "core/b", "none"][rack(id - 1) as usize];
        text + &format!(
            "[[node]]\nname = \"n{id}\"\ncpus = 2\nmemory = \"8G\"\nswitch = \"{switch}\"\nfeatures = \"n{id}\"\n"
        )
    });
    let run =
        |jobs: &str| simulate(setup(&racks, true), &jobs_file::parse(jobs, 1).unwrap()).unwrap();
    let gang = |switches: &str| {
        format!(
            "[[job]]\nat = \"10s\"\nrun = \"10m\"\nlimit = \"10m\"\ncpus = 2\nnodes = 2\nswitches = \"{switches}\"\n"
        )
    };
    let started = |jobs: &str| {
        let outcome = run(jobs);
        let last = outcome.elements.iter().max_by_key(|one| one.job).unwrap();
        (last.started.seconds(), racks_of(&outcome, last))
    };
    let most = taken("n1,n3,n5,n6", 0, "1h");
    // Any two, after 5 minutes of waiting or as many as are said; or as soon as a rack is free, if that is sooner.
    assert_eq!(started(&(most.clone() + &gang("1"))), (310, 2));
    assert_eq!(started(&(most.clone() + &gang("1@20"))), (1210, 2));
    assert_eq!(started(&(most.clone() + &gang("1@0"))), (10, 2));
    assert_eq!(started(&(most.clone() + &gang("2@20"))), (10, 2));
    assert_eq!(started(&(most.clone() + &gang("1@90"))), (3600, 1));
    // Meanwhile others may have what is free, but not what it waits for.
    let other = "[[job]]\nat = \"20s\"\nrun = \"50m\"\nlimit = \"50m\"\ncpus = 2\n";
    let outcome = run(&(most + &gang("1@90") + other));
    assert_eq!(outcome.elements.last().unwrap().started.seconds(), 20);
}

#[test]
fn what_no_set_of_switches_holds_is_refused() {
    let job = |nodes, switches| {
        format!(
            "[[job]]\nrun = \"1m\"\nlimit = \"1m\"\nnodes = {nodes}\nswitches = \"{switches}\"\n"
        )
    };
    let outcome = run(&(job(4, "1") + &job(6, "1@90") + &job(3, "1") + &job(5, "2")));
    let refused: u64 = outcome.refused.values().map(|one| one.count).sum();
    assert_eq!((refused, outcome.elements.len()), (2, 2));
    let first = outcome.refused.values().next().unwrap();
    let said = "nodes under at most 1 switch are asked for, it needs 2: write --switches=2";
    assert!(format!("{first:?}").contains(said), "{first:?}");
}

#[derive(Debug, Clone)]
struct Wish {
    gap: u32,
    run: u32,
    cpus: u32,
    nodes: u32,
    /// At most so many, and the minutes it waits for that.
    switches: Option<(u32, u32)>,
}

fn wish() -> impl Strategy<Value = Wish> {
    let switches = prop::option::of((1u32..3, 0u32..20));
    (0u32..400, 1u32..2000, 1u32..3, 1u32..5, switches).prop_map(
        |(gap, run, cpus, nodes, switches)| Wish {
            gap,
            run,
            cpus,
            nodes,
            // Four nodes are under no one switch.
            switches: switches.map(|(most, wait)| (if nodes > 3 { 2 } else { most }, wait)),
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Whoever started before its time of waiting was over has as few switches as it wanted; and everybody starts.
    #[test]
    fn group_2_few_switches_are_waited_for_no_longer_than_was_said(wishes in prop::collection::vec(wish(), 1..20)) {
        let mut at = 0;
        let mut jobs = String::new();
        for wish in &wishes {
            at += wish.gap;
            let switches = wish.switches.map_or_else(String::new, |(most, wait)| format!("switches = \"{most}@{wait}\"\n"));
            let _ = write!(
                jobs,
                "[[job]]\nat = \"{at}s\"\nrun = \"{}s\"\nlimit = \"40m\"\ncpus = {}\nnodes = {}\n{switches}",
                wish.run, wish.cpus, wish.nodes
            );
        }
        let outcome = run(&jobs);
        prop_assert_eq!(outcome.elements.len(), wishes.len());
        for one in &outcome.elements {
            let Some((most, wait)) = wishes[one.job as usize].switches else { continue };
            let waited = one.wait_ms() >= i64::from(wait) * 60_000;
            prop_assert!(waited || racks_of(&outcome, one) <= most as usize, "{one:?}");
        }
    }

    /// In an empty cluster nobody waits for what there is.
    #[test]
    fn group_5_nobody_waits_for_switches_that_are_free(wish in wish()) {
        let switches = wish.switches.map_or_else(String::new, |(most, wait)| format!("switches = \"{most}@{wait}\"\n"));
        let jobs = format!("[[job]]\nrun = \"1m\"\nlimit = \"1m\"\ncpus = {}\nnodes = {}\n{switches}", wish.cpus, wish.nodes);
        let outcome = run(&jobs);
        prop_assert_eq!(outcome.elements[0].wait_ms(), 0);
        prop_assert!(racks_of(&outcome, &outcome.elements[0]) <= 1 + usize::from(wish.nodes > 3));
    }
}
