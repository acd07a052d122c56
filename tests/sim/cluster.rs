//! A whole simulated cluster: its decisions are those of the live controller's own core, so what is promised of that must
//! be seen here.

use super::hpc;
use hpc::model::job::JobState;
use hpc::model::resource::GpuCount;
use hpc::scheduler::priority::{SizeRule, Weights};
use hpc::scheduler::{Policy, Rule};
use hpc::sim::cluster::Setup;
use hpc::sim::cluster_file::{self, Machine};
use hpc::sim::outcome::{Element, Outcome};
use hpc::sim::swf::Trace;
use hpc::sim::workload::Workload;
use hpc::sim::{self, jobs_file, simulate};
use proptest::prelude::*;
use std::fmt::Write;

pub(super) fn setup(text: &str, check: bool) -> Setup {
    let read = cluster_file::parse(text).unwrap();
    Setup {
        settings: read.settings,
        rules: read.rules,
        nodes: read.nodes,
        outages: read.outages,
        reservations: read.reservations,
        check,
    }
}

fn run(cluster: &str, jobs: &str, seed: u64) -> Outcome {
    simulate(setup(cluster, true), &jobs_file::parse(jobs, seed).unwrap()).unwrap()
}

const MIXED: &str = "[[job]]\ncount = 120\nuser = \"ann\"\nevery = { from = \"1m\", to = \"9m\" }\n\
    run = { from = \"5m\", to = \"2h\" }\nlimit = \"3h\"\ncpus = 3\nmemory = \"2G\"\n\
    [[job]]\ncount = 40\nuser = \"bob\"\nevery = \"20m\"\nrun = { from = \"5m\", to = \"4h\" }\nlimit = \"3h\"\n\
    cpus = 2\ngpus = 1\nrequeue = true\n\
    [[job]]\ncount = 15\nuser = \"cyn\"\nevery = \"1h\"\nrun = \"40m\"\nlimit = \"1h\"\ncpus = 4\nnodes = 3\n\
    [[job]]\ncount = 8\nuser = \"bob\"\nevery = \"90m\"\nrun = \"10m\"\nlimit = \"1h\"\narray = \"0-19%6\"\n";

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_another_schedule() {
    let cluster = "failures = { mtbf = \"1d\", repair = \"1h\" }\n\
        [[node]]\nname = \"n[1-6]\"\ncpus = 8\nnuma = 2\nmemory = \"32G\"\ngpus = \"a100:2\"\n";
    let bytes = |seed| {
        let outcome = run(cluster, MIXED, seed);
        assert_eq!(outcome.left, 0);
        assert_eq!(outcome.elements.len(), 120 + 40 + 15 + 8 * 20);
        (outcome.fingerprint(), format!("{outcome:?}"))
    };
    assert_eq!(bytes(1), bytes(1));
    assert_ne!(bytes(1).0, bytes(2).0);
}

/// No node's cpus and GPUs are held by more than it has, at any instant; whole cluster's memory is checked by the
/// cluster's own invariants meanwhile.
fn never_over_allocated(outcome: &Outcome, cpus: i64) {
    let mut moves: Vec<(i64, i64, u32)> = Vec::new();
    for one in &outcome.elements {
        let places = &outcome.places[one.place as usize];
        let each = i64::from(one.cpus) / i64::try_from(places.len()).unwrap();
        for node in places {
            moves.push((one.started.0, each, *node));
            moves.push((one.ended.0, -each, *node));
        }
    }
    // Ends of an instant before its starts.
    moves.sort_unstable();
    let mut held = vec![0; outcome.nodes.len()];
    for (_, by, node) in moves {
        held[node as usize] += by;
        assert!(held[node as usize] <= cpus);
    }
}

#[test]
fn failures_lose_jobs_or_put_them_back_and_nothing_is_given_twice() {
    let cluster = "failures = { mtbf = \"8h\", repair = \"1h\" }\n\
        [[node]]\nname = \"n[1-6]\"\ncpus = 8\nmemory = \"32G\"\ngpus = 2\n";
    let workload = jobs_file::parse(MIXED, 3).unwrap();
    let outcome = run(cluster, MIXED, 3);
    never_over_allocated(&outcome, 8);
    assert!(outcome.failures > 10 && outcome.restarts > 0);
    let state = |one: &Element| {
        let spec = workload.jobs[one.job as usize].spec as usize;
        (workload.specs[spec].requeue, one.state)
    };
    let lost = outcome.elements.iter().map(state);
    let lost: Vec<bool> = lost
        .filter(|(_, state)| *state == JobState::NodeFail)
        .map(|(requeue, _)| requeue)
        .collect();
    assert!(!lost.is_empty(), "some were lost");
    assert!(!lost.contains(&true), "what may run again does");
    assert_eq!(outcome.elements.len(), 335);
}

#[test]
fn shares_of_two_to_one_are_used_two_to_one() {
    const WEEK_MS: i64 = 7 * 86_400_000;
    let cluster = "[[node]]\nname = \"n[1-4]\"\ncpus = 4\nmemory = \"16G\"\n\
        [user.ann]\nshares = 2\n[user.bob]\nshares = 1\n";
    // More than either could run in the week.
    let jobs = "[[job]]\ncount = 2800\nuser = \"ann\"\nrun = \"1h\"\nlimit = \"1h\"\n\
                [[job]]\ncount = 2800\nuser = \"bob\"\nrun = \"1h\"\nlimit = \"1h\"\n";
    let workload = jobs_file::parse(jobs, 1).unwrap();
    let outcome = simulate(setup(cluster, false), &workload).unwrap();
    let used = |user: &str| -> i64 {
        let its = outcome.elements.iter().filter(|one| {
            let owner = workload.jobs[one.job as usize].owner as usize;
            *workload.owners[owner].name == *user
        });
        its.map(|one| (one.ended.0.min(WEEK_MS) - one.started.0).max(0))
            .sum()
    };
    let (ann, bob) = (used("ann"), used("bob"));
    assert_eq!(ann + bob, 16 * WEEK_MS, "no cpu is ever idle");
    let ratio = f64::from(u32::try_from(ann / 1000).unwrap())
        / f64::from(u32::try_from(bob / 1000).unwrap());
    assert!((1.8..2.2).contains(&ratio), "{ratio}");
}

#[test]
fn limits_of_a_course_hold_at_every_instant() {
    let cluster = "[[node]]\nname = \"n[1-4]\"\ncpus = 8\nmemory = \"32G\"\n\
        [qos.normal]\nmax-jobs-per-user = 1\nmax-submit-per-user = 3\n";
    // Four at once of each of ten students, an array among them; later one more of each.
    let mut jobs = String::new();
    for student in 0..10 {
        for (array, at) in [
            ("array = \"0-3\"\n", 0),
            ("", 0),
            ("", 0),
            ("", 0),
            ("", 86_400),
        ] {
            writeln!(
                jobs,
                "[[job]]\nuser = \"s{student}\"\nat = \"{at}s\"\nrun = {{ from = \"10m\", to = \"50m\" }}\nlimit = \"1h\"\n{array}"
            )
            .unwrap();
        }
    }
    let outcome = run(cluster, &jobs, 1);
    let refused: Vec<_> = outcome.refused.iter().collect();
    let [((_, word), refused)] = refused.as_slice() else {
        panic!("{refused:?}")
    };
    assert_eq!(word, "QOSMaxSubmitJobPerUserLimit");
    assert_eq!(refused.count, 10, "the fourth of each is refused");
    assert_eq!(outcome.elements.len(), 10 * (4 + 2 + 1));
    // Of one student one job at a time; elements of an array are one job.
    let workload = jobs_file::parse(&jobs, 1).unwrap();
    let owner = |one: &Element| workload.jobs[one.job as usize].owner;
    for one in &outcome.elements {
        for other in &outcome.elements {
            let together = one.started < other.ended && other.started < one.ended;
            assert!(
                owner(one) != owner(other) || one.job == other.job || !together,
                "{one:?} {other:?}"
            );
        }
    }
}

/// Jobs in the order of their submission alone.
fn plain_order(rule: Rule) -> Policy {
    Policy {
        rule,
        weights: Weights {
            age: 0,
            fair_share: 0,
            size: 0,
            partition: 0,
            qos: 0,
            tres_cpu: 0,
            tres_gpu: 0,
            max_age_s: 1,
            size_rule: SizeRule::Large,
        },
    }
}

/// A cluster of so many nodes of so many cpus, without limits.
pub(super) fn bare(nodes: u32, cpus: u32, rule: Rule) -> Setup {
    let text = format!(
        "[[node]]\nname = \"n[1-{nodes}]\"\ncpus = {cpus}\nmemory = \"{cpus}G\"\n[partition.batch]\nmax-time = \"none\"\n"
    );
    let mut setup = setup(&text, false);
    setup.settings.policy = plain_order(rule);
    setup
}

fn starts_agree(trace: &Trace, nodes: u32, cpus: u32) {
    let rules = [
        (Rule::Fcfs, sim::Rule::Fcfs),
        (Rule::Easy, sim::Rule::Easy),
        (Rule::EasySjbf, sim::Rule::EasySjbf),
    ];
    for (live, scalar) in rules {
        let outcome = simulate(bare(nodes, cpus, live), &Workload::of_trace(trace)).unwrap();
        assert_eq!(outcome.elements.len(), trace.jobs.len());
        let starts: Vec<i64> = outcome
            .elements
            .iter()
            .map(|one| one.started.seconds())
            .collect();
        let waited = outcome.elements.iter().filter(|one| one.wait_ms() > 0);
        assert!(
            waited.count() * 5 > starts.len(),
            "there is something to decide"
        );
        let known = sim::replay(trace, scalar).starts;
        let differs = starts.iter().zip(&known).position(|(one, two)| one != two);
        assert_eq!(
            differs.map(|at| (at, trace.jobs[at], starts[at], known[at])),
            None,
            "{live:?} on {nodes} nodes of {cpus} cpus"
        );
    }
}

/// The first jobs of a real log, so many times closer together that they wait.
pub(super) fn beginning(jobs: usize, processors: u32, closer: i64) -> Trace {
    let packed = std::fs::read(
        std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/data/SDSC-SP2-1998-4.2-cln.swf.gz"),
    )
    .unwrap();
    let mut text = String::new();
    let mut reader = flate2::read::MultiGzDecoder::new(&packed[..]);
    std::io::Read::read_to_string(&mut reader, &mut text).unwrap();
    let mut trace = Trace::parse(&text, None).unwrap();
    trace.jobs.truncate(jobs);
    for job in &mut trace.jobs {
        job.submit /= closer;
        job.processors = job.processors.min(processors);
    }
    trace.processors = processors;
    trace
}

#[test]
fn live_code_and_the_replay_of_traces_start_the_same_jobs_at_the_same_time() {
    // One machine with as many cpus as the trace's.
    starts_agree(&beginning(700, 128, 4), 1, 128);
    // As many machines as processors: wide jobs are gangs.
    starts_agree(&beginning(120, 32, 4), 32, 1);
    // Jobs of one processor, wherever they go.
    let mut narrow = beginning(600, 128, 4);
    for job in &mut narrow.jobs {
        job.processors = 1;
    }
    narrow.processors = 12;
    starts_agree(&narrow, 12, 1);
    starts_agree(&narrow, 3, 4);
}

/// The head waits for three of four nodes, of which two are free and two are busy. If its place is kept on both free ones,
/// nothing long may start there, though the head could do with the two busy ones and one of the free: over processors
/// without places EASY lets the last job start.
#[test]
fn a_kept_place_leaves_free_nodes_to_others() {
    let text = "1 0 -1 10 1 -1 -1 1 10\n2 0 -1 10 1 -1 -1 1 10\n3 0 -1 1000 1 -1 -1 1 1000\n\
                4 0 -1 1000 1 -1 -1 1 1000\n5 20 -1 100 3 -1 -1 3 1000\n6 21 -1 5000 1 -1 -1 1 5000\n";
    let trace = Trace::parse(text, Some(4)).unwrap();
    let outcome = simulate(bare(4, 1, Rule::Easy), &Workload::of_trace(&trace)).unwrap();
    let starts = outcome.elements.iter().map(|one| one.started.seconds());
    let known = sim::replay(&trace, sim::Rule::Easy).starts;
    assert_eq!(known, [0, 0, 0, 0, 1000, 21]);
    assert_eq!(starts.collect::<Vec<_>>(), known);
}

#[test]
fn gpus_are_counted_by_kind() {
    let machine = Machine {
        cpus: 8,
        numa: 2,
        memory_mib: 8192,
        gpus: vec![GpuCount {
            kind: Some("a100".to_owned()),
            count: 2,
        }],
    };
    let mut setup = bare(1, 8, Rule::Easy);
    setup.nodes = vec![machine.inventory("g1")];
    let jobs = "[[job]]\ncount = 3\nrun = \"10m\"\nlimit = \"1h\"\ngpus = \"a100:1\"\n\
                [[job]]\nrun = \"10m\"\nlimit = \"1h\"\ngpus = \"t4:1\"\n";
    let outcome = simulate(setup, &jobs_file::parse(jobs, 1).unwrap()).unwrap();
    let starts: Vec<i64> = outcome
        .elements
        .iter()
        .map(|one| one.started.seconds())
        .collect();
    assert_eq!(starts, [0, 0, 600]);
    assert_eq!(outcome.curve.total().gpus, 3 * 600_000);
    assert_eq!(outcome.refused.len(), 1);
}

/// The example in the repository, under other words of the command line.
fn example(more: &[&str]) -> std::process::Output {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/sim");
    let file = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let (cluster, jobs) = (file("cluster.toml"), file("jobs.toml"));
    let words = ["sim", "--cluster", &cluster, "--workload", &jobs];
    hpc(&[&words, more].concat())
}

#[test]
fn the_example_runs_and_the_same_seed_prints_the_same_bytes() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let bytes = |seed: &str, name: &str| {
        let (gantt, plot) = (
            path(&format!("{name}-g.svg")),
            path(&format!("{name}-p.svg")),
        );
        let drawn = [
            "--gantt",
            gantt.to_str().unwrap(),
            "--plot",
            plot.to_str().unwrap(),
        ];
        let answer = example(&[&["--seed", seed], &drawn[..]].concat());
        assert!(answer.status.success(), "{answer:?}");
        let read = |path| std::fs::read_to_string(path).unwrap();
        (
            String::from_utf8(answer.stdout).unwrap(),
            read(gantt),
            read(plot),
        )
    };
    let one = bytes("1", "a");
    assert_eq!(one, bytes("1", "b"));
    assert_ne!(one.0, bytes("2", "c").0);
    for said in [
        "QOSMaxSubmitJobPerUserLimit [HPC-E0018]",
        "utilisation of GPUs",
        "failures of nodes",
        "OF CPU HOURS",
    ] {
        assert!(one.0.contains(said), "{}", one.0);
    }
    assert!(one.1.contains("ws8") && one.1.matches("<rect").count() > 1_500);
    assert!(one.2.contains("GPUs in use, of 16"));
    let figures = |more: &[&str]| -> serde_json::Value {
        let answer = example(&[&["--json"], more].concat());
        serde_json::from_slice(&answer.stdout).unwrap()
    };
    let known = figures(&[]);
    assert_eq!(known["jobs"], 450 + 8 + 30 + 7 + 40);
    let mean = |figures: &serde_json::Value| figures["wait_s"]["mean"].as_f64().unwrap();
    assert!(mean(&figures(&["--policy", "fcfs"])) > mean(&known));
    assert!(one.0.contains(known["fingerprint"].as_str().unwrap()));
}

#[test]
fn other_rules_are_laid_over_those_of_the_cluster() {
    let directory = tempfile::tempdir().unwrap();
    let rules = directory.path().join("new.toml");
    std::fs::write(&rules, "[qos.course]\nmax-submit-per-user = \"none\"\n").unwrap();
    let answer = example(&["--qos-file", rules.to_str().unwrap(), "--json"]);
    let figures: serde_json::Value = serde_json::from_slice(&answer.stdout).unwrap();
    assert_eq!(figures["refused"].as_array().unwrap().len(), 0, "{figures}");
    std::fs::write(&rules, "[qos.course]\nmax-jobs = 4\n").unwrap();
    let answer = example(&["--rules", rules.to_str().unwrap()]);
    let error = String::from_utf8(answer.stderr).unwrap();
    assert_eq!(answer.status.code(), Some(1));
    assert!(
        error.contains("[qos.course]: qos course: max-jobs=4: no such key"),
        "{error}"
    );
}

#[test]
fn what_does_not_go_together_is_refused() {
    let cases: [(&[&str], &str); 5] = [
        (&["sim"], "say what to simulate: --cluster FILE"),
        (
            &["sim", "--gantt", "x.svg"],
            "--gantt goes with --cluster or --history",
        ),
        (
            &["sim", "--history", "--cluster", "x"],
            "cannot be used with",
        ),
        (&["sim", "--cluster", "x"], "--workload <FILE>"),
        (
            &["sim", "--trace", "x.swf", "--seed", "3"],
            "cannot be used with",
        ),
    ];
    for (words, said) in cases {
        let answer = hpc(words);
        let error = String::from_utf8(answer.stderr).unwrap();
        assert_eq!(answer.status.code(), Some(2), "{words:?}: {error}");
        assert!(error.contains(said), "{words:?}: {error}");
    }
    for (more, said) in [
        (&["--policy", "sjf"][..], "sjf and easy++ are for traces"),
        (&["--since", "now-1day"], "--since goes with --history"),
    ] {
        let error = String::from_utf8(example(more).stderr).unwrap();
        assert!(error.contains(said), "{error}");
    }
    let answer = hpc(&[
        "sim",
        "--cluster",
        "/no/such.toml",
        "--workload",
        "jobs.toml",
    ]);
    let error = String::from_utf8(answer.stderr).unwrap();
    assert!(error.contains("cannot read /no/such.toml"), "{error}");
}

/// A life with a reservation and with urgent jobs.
#[derive(Debug, Clone)]
struct Story {
    nodes: u32,
    cpus: u32,
    /// When it begins, and how long it is.
    reserved: (u32, u32),
    daily: bool,
    jobs: Vec<Wish>,
    /// Others stand still for the urgent ones.
    still: bool,
    grace: u32,
    exempt: u32,
    rule: Rule,
}

#[derive(Debug, Clone)]
struct Wish {
    gap: u32,
    run: u32,
    limit: u32,
    cpus: u32,
    nodes: u32,
    /// Ann may use the reservation.
    ann: bool,
    inside: bool,
    urgent: bool,
    requeue: bool,
}

fn story() -> impl Strategy<Value = Story> {
    let wish = (
        0u32..60,
        1u32..200,
        prop::sample::select(vec![30u32, 60, 120, 240]),
        1u32..3,
        prop_oneof![3 => Just(1u32), 1 => Just(2)],
        any::<[bool; 4]>(),
    )
        .prop_map(
            |(gap, run, limit, cpus, nodes, [ann, inside, urgent, requeue])| Wish {
                gap,
                run,
                limit,
                cpus,
                nodes,
                ann,
                inside: ann && inside,
                urgent,
                requeue,
            },
        );
    let rules = vec![Rule::Fcfs, Rule::Easy, Rule::EasySjbf, Rule::Conservative];
    (
        2u32..4,
        2u32..5,
        (0u32..400, 60u32..400),
        any::<bool>(),
        prop::collection::vec(wish, 1..14),
        any::<bool>(),
        prop_oneof![Just(0u32), 1u32..60],
        prop_oneof![Just(0u32), 1u32..100],
        prop::sample::select(rules),
    )
        .prop_map(
            |(nodes, cpus, reserved, daily, jobs, still, grace, exempt, rule)| Story {
                nodes,
                cpus,
                reserved,
                daily,
                jobs,
                still,
                grace,
                exempt,
                rule,
            },
        )
}

fn lived(story: &Story) -> (Setup, String) {
    let (at, length) = story.reserved;
    let repeat = if story.daily { "daily" } else { "once" };
    let mode = if story.still { "suspend" } else { "requeue" };
    let text = format!(
        "[[node]]\nname = \"n[1-{}]\"\ncpus = {}\nmemory = \"{}G\"\n\
         [qos.normal]\npreempt-mode = \"{mode}\"\ngrace-time = \"{}s\"\nexempt-time = \"{}s\"\n\
         [qos.urgent]\npreempts = \"normal\"\n\
         [[reservation]]\nname = \"course\"\nat = \"{at}s\"\nfor = \"{length}s\"\nrepeat = \"{repeat}\"\n\
         nodes = \"n1\"\nusers = \"ann\"\n",
        story.nodes,
        story.cpus,
        // Enough for some that stand still.
        story.cpus * if story.still { 3 } else { 1 },
        story.grace,
        story.exempt,
    );
    let mut at = 0;
    let jobs = story.jobs.iter().map(|wish| {
        at += wish.gap;
        let inside = if wish.inside { "reservation = \"course\"\n" } else { "" };
        format!(
            "[[job]]\nuser = \"{}\"\nat = \"{at}s\"\nrun = \"{}s\"\nlimit = \"{}s\"\ncpus = {}\nnodes = {}\n\
             memory = \"1G\"\nqos = \"{}\"\nrequeue = {}\n{inside}",
            if wish.ann { "ann" } else { "bob" },
            wish.run,
            wish.limit,
            wish.cpus,
            if wish.inside { 1 } else { wish.nodes },
            if wish.urgent { "urgent" } else { "normal" },
            wish.requeue,
        )
    });
    let jobs: String = jobs.collect();
    let mut setup = setup(&text, true);
    setup.settings.policy.rule = story.rule;
    (setup, jobs)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// Nobody but ann is on the reserved node while it is reserved, and who runs inside does so there and then. Who is not
    /// reserved always starts some day, urgent jobs are never evicted, and others only as often as somebody urgent came.
    #[test]
    fn group_11_and_reservations_in_whole_lives(story in story()) {
        let (setup, jobs) = lived(&story);
        let workload = jobs_file::parse(&jobs, 1).unwrap();
        let begin = workload.jobs[0].at;
        let outcome = simulate(setup, &workload).unwrap();
        let (from, length) = story.reserved;
        let (from, length) = (i64::from(from), i64::from(length));
        let mut ran = 0;
        for one in &outcome.elements {
            let wish = &story.jobs[one.job as usize];
            let since = |at: hpc::model::time::Timestamp| at.minus(begin) / 1000;
            let (started, ended) = (since(one.started), since(one.ended));
            let place = outcome.place_name(one.place);
            let there = place == "n1" || place.starts_with("n[1");
            let day = if story.daily { 86_400 } else { i64::MAX / 4 };
            // In the time of which day it began.
            let by = started - (started - from).rem_euclid(day);
            if wish.inside {
                prop_assert!(place == "n1" && started >= by && ended <= by + length, "{one:?}");
            } else {
                ran += 1;
                if there {
                    prop_assert!(started >= by + length || started < from, "{one:?} begins while it is reserved");
                    let next = if started < from { from } else { by.saturating_add(day) };
                    prop_assert!(ended <= next, "{one:?} is there when it begins");
                }
            }
            prop_assert!(!wish.urgent || one.state != JobState::Preempted, "{one:?}");
            if story.still && !wish.inside {
                let expected = if wish.run > wish.limit { JobState::Timeout } else { JobState::Completed };
                prop_assert_eq!(one.state, expected, "{:?}", one);
                let ran = i64::from(wish.run.min(wish.limit));
                let stood = ended - started - ran;
                prop_assert!(stood == 0 || stood > 0 && !wish.urgent, "{one:?} stood still for {stood} s");
            }
            let must_run = wish.requeue && !wish.inside && one.state == JobState::Preempted;
            prop_assert!(!must_run, "{one:?} was to run again");
        }
        let outside = story.jobs.iter().filter(|wish| !wish.inside).count();
        prop_assert_eq!(ran, outside, "somebody never ran");
        let urgent = story.jobs.iter().filter(|wish| wish.urgent).count() as u64;
        let others = story.jobs.iter().filter(|wish| !wish.urgent).count() as u64;
        prop_assert!(outcome.restarts <= urgent * others);
    }
}

/// When it comes, how long it runs and might, its cpus, nodes, and its tier, the lowest 0.
type Borrower = (u32, u32, u32, u32, u32, usize);

const TIERS: [&str; 3] = ["batch", "fast", "faster"];

fn borrowers() -> impl Strategy<Value = Vec<Borrower>> {
    let one = (
        0u32..40,
        1u32..150,
        prop::sample::select(vec![30u32, 60, 120, 300]),
        1u32..5,
        prop_oneof![3 => Just(1u32), 1 => Just(2)],
        0usize..3,
    );
    prop::collection::vec(one, 1..16)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// Three tiers of which each stands still for the higher ones: everybody runs for as long as it does or may, only the
    /// lower ones ever stand still, and nobody of the highest waits for others than its own. After every command the
    /// invariants hold: what runs has cpus of its own.
    #[test]
    fn group_11_who_stands_still_loses_nothing(
        wishes in borrowers(),
        nodes in 2u32..4,
        rule in prop::sample::select(vec![Rule::Fcfs, Rule::Easy, Rule::EasySjbf, Rule::Conservative]),
    ) {
        let text = format!(
            "[[node]]\nname = \"n[1-{nodes}]\"\ncpus = 4\nmemory = \"900G\"\n\
             [partition.batch]\npreempt-mode = \"suspend\"\n\
             [partition.fast]\ntier = 2\npreempt-mode = \"suspend\"\n\
             [partition.faster]\ntier = 3\n"
        );
        let mut at = 0;
        let jobs = wishes.iter().map(|(gap, run, limit, cpus, nodes, tier)| {
            at += gap;
            let partition = TIERS[*tier];
            format!(
                "[[job]]\nat = \"{at}s\"\nrun = \"{run}s\"\nlimit = \"{limit}s\"\ncpus = {cpus}\n\
                 nodes = {nodes}\nmemory = \"1G\"\npartition = \"{partition}\"\n"
            )
        });
        let mut setup = setup(&text, true);
        setup.settings.policy.rule = rule;
        let jobs: String = jobs.collect();
        let outcome = simulate(setup, &jobs_file::parse(&jobs, 1).unwrap()).unwrap();
        prop_assert_eq!(outcome.elements.len(), wishes.len());
        prop_assert_eq!(outcome.restarts, 0);
        for one in &outcome.elements {
            let (_, run, limit, .., tier) = wishes[one.job as usize];
            let expected = if run > limit { JobState::Timeout } else { JobState::Completed };
            prop_assert_eq!(one.state, expected, "{:?}", one);
            let stood_ms = one.ended.minus(one.started) - i64::from(run.min(limit)) * 1000;
            prop_assert!(stood_ms == 0 || stood_ms > 0 && tier < 2, "{one:?} stood still for {stood_ms} ms");
            // The highest among themselves fill the nodes as if nobody else were there.
            if tier == 2 {
                let wait_ms = one.wait_ms();
                let others = outcome.elements.iter().filter(|other| wishes[other.job as usize].5 == 2);
                let there = others.filter(|other| other.id != one.id && other.submitted <= one.started
                    && other.ended > one.submitted);
                prop_assert!(wait_ms == 0 || there.count() > 0, "{one:?} waits for lower ones");
            }
        }
    }
}

#[test]
fn strict_order_reservations_and_grace_leave_nobody_waiting_for_ever() {
    let wish = |gap, run, limit, cpus, nodes, urgent, requeue| Wish {
        gap,
        run,
        limit,
        cpus,
        nodes,
        ann: false,
        inside: false,
        urgent,
        requeue,
    };
    let story = Story {
        nodes: 2,
        cpus: 3,
        reserved: (159, 60),
        daily: false,
        jobs: vec![
            wish(0, 142, 240, 1, 1, false, false),
            wish(0, 120, 240, 1, 1, false, false),
            wish(0, 1, 30, 1, 1, false, false),
            wish(50, 61, 60, 1, 2, false, true),
            wish(59, 1, 60, 2, 1, true, false),
        ],
        still: false,
        grace: 34,
        exempt: 0,
        rule: Rule::Fcfs,
    };
    let (setup, jobs) = lived(&story);
    let outcome = simulate(setup, &jobs_file::parse(&jobs, 1).unwrap()).unwrap();
    assert_eq!(
        outcome.elements.len(),
        story.jobs.len(),
        "{:?}",
        outcome.elements
    );
}
