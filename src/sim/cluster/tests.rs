//! Small clusters whose fate can be told by hand.

use super::*;
use crate::model::job::JobState;
use crate::scheduler::Rule;
use crate::sim::outages::{Chance, Outage};
use crate::sim::outcome::Element;
use crate::sim::{cluster_file, jobs_file};

fn setup(text: &str) -> Setup {
    let read = cluster_file::parse(text).unwrap();
    Setup {
        settings: read.settings,
        rules: read.rules,
        nodes: read.nodes,
        outages: read.outages,
        reservations: read.reservations,
        check: true,
    }
}

fn nodes(count: u32, cpus: u32) -> Setup {
    setup(&format!(
        "[[node]]\nname = \"n[1-{count}]\"\ncpus = {cpus}\nmemory = \"{cpus}G\"\n"
    ))
}

fn run(setup: Setup, jobs: &str) -> Outcome {
    simulate(setup, &jobs_file::parse(jobs, 1).unwrap()).unwrap()
}

/// Start and end in seconds, how it ended, and where.
fn shown(outcome: &Outcome) -> Vec<(i64, i64, JobState, String)> {
    let show = |one: &Element| {
        let place = outcome.place_name(one.place);
        (one.started.seconds(), one.ended.seconds(), one.state, place)
    };
    outcome.elements.iter().map(show).collect()
}

/// When each element started; seconds.
fn starts(outcome: &Outcome) -> Vec<i64> {
    let elements = outcome.elements.iter();
    elements.map(|one| one.started.seconds()).collect()
}

#[test]
fn jobs_run_for_as_long_as_they_do_and_no_longer_than_they_may() {
    let jobs = "[[job]]\nrun = \"10m\"\nlimit = \"1h\"\ncpus = 2\n\
                [[job]]\nat = \"1m\"\nrun = \"2h\"\nlimit = \"30m\"\ncpus = 2\n";
    let outcome = run(nodes(1, 2), jobs);
    let place = || "n1".to_owned();
    assert_eq!(
        shown(&outcome),
        [
            (0, 600, JobState::Completed, place()),
            (600, 2400, JobState::Timeout, place())
        ]
    );
    assert_eq!(outcome.elements[1].wait_ms(), 540_000);
    assert_eq!(outcome.curve.total().cpus, 2 * 2_400_000);
    assert_eq!((outcome.left, outcome.never_ran), (0, 0));
}

#[test]
fn elements_of_an_array_run_one_after_another() {
    let jobs = "[[job]]\nrun = \"10m\"\nlimit = \"1h\"\narray = \"0-4\"\n";
    let outcome = run(nodes(1, 2), jobs);
    let starts = starts(&outcome);
    assert_eq!(starts, [0, 0, 600, 600, 1200]);
    // Ten thousand of a few milliseconds are given in blocks.
    let mut workload = jobs_file::parse(
        "[[job]]\nrun = \"1s\"\nlimit = \"1h\"\narray = \"0-2999\"\n",
        1,
    )
    .unwrap();
    workload.jobs[0].runs = crate::sim::workload::Runs::Same(7);
    let outcome = simulate(nodes(1, 2), &workload).unwrap();
    assert_eq!(outcome.elements.len(), 3000);
    assert_eq!(outcome.curve.total().cpus / 7, 3000);
}

#[test]
fn a_gang_begins_and_ends_together() {
    let jobs = "[[job]]\nrun = \"10m\"\nlimit = \"1h\"\ncpus = 2\n\
                [[job]]\nat = \"1m\"\nrun = \"5m\"\nlimit = \"30m\"\ncpus = 2\nnodes = 3\n";
    let outcome = run(nodes(3, 2), jobs);
    let state = JobState::Completed;
    assert_eq!(
        shown(&outcome),
        [
            (0, 600, state, "n1".to_owned()),
            (600, 900, state, "n[1-3]".to_owned())
        ]
    );
    assert_eq!(outcome.elements[1].cpus, 6);
}

#[test]
fn easy_fills_the_gap_and_strict_order_does_not() {
    let jobs = "[[job]]\nrun = \"1h\"\nlimit = \"1h\"\ncpus = 3\n\
                [[job]]\nat = \"1s\"\nrun = \"1h\"\nlimit = \"1h\"\ncpus = 4\n\
                [[job]]\nat = \"2s\"\nrun = \"50m\"\nlimit = \"50m\"\n";
    let starts = |rule| {
        let mut setup = nodes(1, 4);
        setup.settings.policy.rule = rule;
        let outcome = run(setup, jobs);
        let starts = outcome.elements.iter();
        starts.map(|one| one.started.seconds()).collect::<Vec<_>>()
    };
    assert_eq!(starts(Rule::Fcfs), [0, 3600, 7200]);
    assert_eq!(starts(Rule::Easy), [0, 3600, 2]);
    assert_eq!(starts(Rule::Conservative), [0, 3600, 2]);
}

#[test]
fn a_node_takes_its_jobs_with_it() {
    let mut setup = nodes(2, 2);
    setup.outages.planned.push(Outage {
        node: 0,
        at_ms: 600_000,
        for_ms: 3_600_000,
    });
    // The first and second are on n1 and n2; the third may run again and shares n1.
    let jobs = "[[job]]\nrun = \"1h\"\nlimit = \"2h\"\n\
                [[job]]\nrun = \"1h\"\nlimit = \"2h\"\nrequeue = true\n";
    let outcome = run(setup.clone(), jobs);
    let timeout_s = setup.settings.node_timeout_ms / 1000;
    let lost = (0, 600 + timeout_s, JobState::NodeFail, "n1".to_owned());
    assert_eq!(shown(&outcome)[0], lost);
    // After its lease, with the time between SIGTERM and SIGKILL, and what the controller adds: 1.2 * 630 + 5 seconds.
    let again = 600 + 761;
    assert_eq!(
        shown(&outcome)[1],
        (again, again + 3600, JobState::Completed, "n2".to_owned())
    );
    assert_eq!((outcome.restarts, outcome.failures), (1, 1));
    assert_eq!(outcome.lost_ms, 2 * 600_000);
    // One that is back before it is given up has lost them all the same.
    setup.outages.planned[0].for_ms = 60_000;
    let outcome = run(setup, jobs);
    assert_eq!(
        shown(&outcome)[0],
        (0, 660, JobState::NodeFail, "n1".to_owned())
    );
    assert_eq!(shown(&outcome)[1].0, 660);
}

#[test]
fn a_gang_that_loses_a_node_ends_everywhere() {
    let mut setup = nodes(3, 2);
    setup.outages.planned.push(Outage {
        node: 2,
        at_ms: 600_000,
        for_ms: 30_000_000,
    });
    let jobs = "[[job]]\nrun = \"1h\"\nlimit = \"2h\"\ncpus = 2\nnodes = 2\n\
                [[job]]\nrun = \"1h\"\nlimit = \"2h\"\ncpus = 2\n\
                [[job]]\nat = \"1m\"\nrun = \"1h\"\nlimit = \"2h\"\ncpus = 2\nnodes = 2\nrequeue = true\n";
    let outcome = run(setup, jobs);
    assert_eq!(outcome.elements.len(), 3);
    assert_eq!(outcome.left, 0);
    assert_eq!(outcome.failures, 1);
}

#[test]
fn what_can_never_start_is_left_and_ends_the_simulation() {
    let text =
        "[[node]]\nname = \"n1\"\ncpus = 2\nmemory = \"2G\"\n[partition.batch]\nstate = \"down\"\n";
    let mut closed = setup(text);
    closed.outages.chance = Some(Chance {
        mtbf_ms: 60_000,
        repair_ms: 30_000,
    });
    let outcome = run(closed, "[[job]]\ncount = 3\nrun = \"1m\"\nlimit = \"1h\"\n");
    assert_eq!((outcome.left, outcome.elements.len()), (3, 0));
}

#[test]
fn what_is_refused_is_counted_by_its_reason() {
    let jobs = "[[job]]\ncount = 2\nrun = \"1m\"\nlimit = \"1h\"\ncpus = 9\n\
                [[job]]\nrun = \"1m\"\nlimit = \"2d\"\n[[job]]\nrun = \"1m\"\nlimit = \"1h\"\n";
    let outcome = run(nodes(1, 2), jobs);
    let refused: Vec<u64> = outcome.refused.values().map(|one| one.count).collect();
    assert_eq!(refused, [2, 1]);
    assert_eq!(outcome.elements.len(), 1);
}

#[test]
fn jobs_that_wait_for_time_get_it() {
    let mut workload = jobs_file::parse("[[job]]\nrun = \"1m\"\nlimit = \"1h\"\n", 1).unwrap();
    workload.specs[0].begin = Some(Timestamp::from_seconds(500));
    let outcome = simulate(nodes(1, 2), &workload).unwrap();
    assert_eq!(outcome.elements[0].started.seconds(), 500);
}

#[test]
fn failures_by_chance_lose_no_job_that_may_run_again() {
    let mut setup = nodes(6, 4);
    setup.outages.chance = Some(Chance {
        mtbf_ms: 20 * 3_600_000,
        repair_ms: 3_600_000,
    });
    let jobs = "[[job]]\ncount = 150\nevery = \"5m\"\nrun = { from = \"10m\", to = \"3h\" }\nlimit = \"4h\"\ncpus = 2\nrequeue = true\n\
                [[job]]\ncount = 20\nevery = \"30m\"\nrun = \"1h\"\nlimit = \"4h\"\ncpus = 3\nnodes = 3\nrequeue = true\n\
                [[job]]\nuser = \"ann\"\ncount = 10\nevery = \"1h\"\nrun = \"1h\"\nlimit = \"2h\"\narray = \"0-9\"\n";
    let outcome = run(setup.clone(), jobs);
    assert!(outcome.failures > 5, "{}", outcome.failures);
    assert!(outcome.restarts > 0);
    assert_eq!(outcome.elements.len(), 150 + 20 + 100);
    assert_eq!((outcome.left, outcome.never_ran), (0, 0));
    let workload = jobs_file::parse(jobs, 1).unwrap();
    for one in &outcome.elements {
        let spec = workload.jobs[one.job as usize].spec;
        let good = one.state == JobState::Completed;
        assert!(
            good || spec == 2 && one.state == JobState::NodeFail,
            "{one:?}"
        );
    }
    assert_eq!(run(setup, jobs), outcome, "the same seed, the same outcome");
}

/// One node of two cpus, an urgent QOS that preempts the normal one, and how that makes room.
fn urgent(yields: &str) -> Setup {
    setup(&format!(
        "[[node]]\nname = \"n1\"\ncpus = 2\nmemory = \"2G\"\n\
         [qos.normal]\n{yields}\n[qos.urgent]\npreempts = \"normal\"\n"
    ))
}

/// Two that fill the node for an hour, the second a minute younger, and an urgent one after ten minutes.
const CROWD: &str = "[[job]]\nrun = \"1h\"\nlimit = \"2h\"\nrequeue = true\n\
     [[job]]\nat = \"1m\"\nrun = \"1h\"\nlimit = \"2h\"\nrequeue = true\n\
     [[job]]\nat = \"10m\"\nrun = \"30m\"\nlimit = \"30m\"\nqos = \"urgent\"\n";

fn fates(outcome: &Outcome) -> Vec<(i64, i64, JobState)> {
    let fate = |one: &Element| (one.started.seconds(), one.ended.seconds(), one.state);
    outcome.elements.iter().map(fate).collect()
}

#[test]
fn the_youngest_makes_room_and_runs_again() {
    let outcome = run(urgent("preempt-mode = \"requeue\""), CROWD);
    let done = JobState::Completed;
    // The second is put back at 600 and starts when the urgent one ends.
    assert_eq!(
        fates(&outcome),
        [(0, 3600, done), (2400, 6000, done), (600, 2400, done)]
    );
    assert_eq!(outcome.restarts, 1);
}

#[test]
fn what_may_not_run_twice_is_ended() {
    let jobs = CROWD.replace("requeue = true", "requeue = false");
    let expected = [
        (0, 3600, JobState::Completed),
        (60, 600, JobState::Preempted),
        (600, 2400, JobState::Completed),
    ];
    for mode in ["requeue", "cancel"] {
        let setup = urgent(&format!("preempt-mode = \"{mode}\""));
        assert_eq!(fates(&run(setup, &jobs)), expected, "{mode}");
    }
    // And what may, where the mode says so.
    let outcome = run(urgent("preempt-mode = \"cancel\""), CROWD);
    assert_eq!(fates(&outcome), expected);
}

#[test]
fn grace_and_exempt_time_are_kept() {
    let outcome = run(urgent("grace-time = \"2m\""), CROWD);
    assert_eq!(fates(&outcome)[2].0, 720, "two minutes after the warning");
    // The first has run for fifteen minutes at 900, the second at 960: whoever may be asked first goes.
    let outcome = run(urgent("exempt-time = \"15m\""), CROWD);
    assert_eq!(fates(&outcome)[2].0, 900);
    assert_eq!(fates(&outcome)[0].0, 2700, "it was put back");
    let outcome = run(urgent("preempt-mode = \"off\""), CROWD);
    assert_eq!(fates(&outcome)[2].0, 3600);
}

/// One node of four cpus on which normal jobs stand still for urgent ones.
fn still(yields: &str) -> Setup {
    setup(&format!(
        "[[node]]\nname = \"n1\"\ncpus = 4\nmemory = \"16G\"\n\
         [qos.normal]\npreempt-mode = \"suspend\"\n{yields}\n[qos.urgent]\npreempts = \"normal\"\n"
    ))
}

fn job(at: &str, run: &str, limit: &str, cpus: u32, more: &str) -> String {
    format!(
        "[[job]]\nat = \"{at}\"\nrun = \"{run}\"\nlimit = \"{limit}\"\ncpus = {cpus}\nmemory = \"2G\"\n{more}\n"
    )
}

const URGENT: &str = "qos = \"urgent\"";

#[test]
fn who_stands_still_goes_on_where_it_was() {
    let done = JobState::Completed;
    // Of two the younger one stands still from 600 to 2400. It runs for an hour all the same, beyond its limit by the clock.
    let jobs = job("0m", "1h", "65m", 2, "")
        + &job("1m", "1h", "65m", 2, "")
        + &job("10m", "30m", "30m", 1, URGENT);
    let outcome = run(still(""), &jobs);
    assert_eq!(
        fates(&outcome),
        [(0, 3600, done), (60, 5460, done), (600, 2400, done)]
    );
    assert_eq!(outcome.restarts, 0);
    // What it does not lend is kept for it against others, and given to those for whom it stands still anyway.
    let more =
        jobs.clone() + &job("11m", "10m", "10m", 1, "") + &job("12m", "10m", "10m", 1, URGENT);
    let outcome = run(still(""), &more);
    assert_eq!(
        fates(&outcome)[1..],
        [
            (60, 5460, done),
            (600, 2400, done),
            (3600, 4200, done),
            (720, 1320, done)
        ]
    );
    // One after the other: it goes on once the last has ended.
    let more = jobs + &job("20m", "30m", "30m", 2, URGENT);
    let outcome = run(still(""), &more);
    // One cpu of the younger job is left, which is not enough: the elder lends both, and the younger goes on at 2400.
    let fates = fates(&outcome);
    assert_eq!(fates[3], (1200, 3000, done));
    assert_eq!((fates[0].1, fates[1].1), (5400, 5460));
}

#[test]
fn memory_stays_with_who_stands_still() {
    let done = JobState::Completed;
    let jobs = "[[job]]\nrun = \"1h\"\nlimit = \"2h\"\ncpus = 4\nmemory = \"15G\"\n".to_owned()
        + &job("10m", "30m", "30m", 1, URGENT);
    let outcome = run(still(""), &jobs);
    assert_eq!(fates(&outcome), [(0, 3600, done), (3600, 5400, done)]);
}

#[test]
fn whole_machines_stand_still_together_and_exempt_time_is_kept() {
    let done = JobState::Completed;
    let text = "[[node]]\nname = \"n[1-2]\"\ncpus = 2\nmemory = \"16G\"\n\
                [partition.batch]\npreempt-mode = \"suspend\"\nexempt-time = \"15m\"\n\
                [partition.fast]\ntier = 2\n[partition.faster]\ntier = 3\n";
    let fast = "partition = \"fast\"";
    let jobs = job("0m", "1h", "61m", 2, "nodes = 2") + &job("10m", "30m", "30m", 1, fast);
    let outcome = run(setup(text), &jobs);
    assert_eq!(fates(&outcome), [(0, 5400, done), (900, 2700, done)]);
    // A third tier takes the cpus of both, and of a lender's lender.
    let text = text.replace(
        "[partition.fast]\n",
        "[partition.fast]\npreempt-mode = \"suspend\"\n",
    );
    let faster = "partition = \"faster\"\nnodes = 2";
    let jobs = job("0m", "1h", "61m", 2, "nodes = 2")
        + &job("20m", "30m", "30m", 2, fast)
        + &job("30m", "10m", "10m", 2, faster);
    let outcome = run(setup(&text), &jobs);
    // From 1200 to 1800 the fast one runs, then the faster one until 2400, then the fast one again until 3600.
    assert_eq!(
        fates(&outcome),
        [(0, 6000, done), (1200, 3600, done), (1800, 2400, done)]
    );
}

#[test]
fn nobody_who_waits_is_held_up_by_who_stands_still() {
    let done = JobState::Completed;
    let first = "[qos.first]\npriority = 1000000\n";
    // The one that waits for the whole node has its place at 3600: only who ends before may stand still.
    let jobs = job("0m", "1h", "1h", 4, "")
        + &job("5m", "1h", "1h", 4, "qos = \"first\"")
        + &job("10m", "10m", "10m", 1, URGENT);
    let outcome = run(still(first), &jobs);
    assert_eq!(
        fates(&outcome),
        [(0, 3600, done), (3600, 7200, done), (7200, 7800, done)]
    );
}

#[test]
fn a_higher_tier_takes_the_place_of_a_lower() {
    let text = "[[node]]\nname = \"n[1-2]\"\ncpus = 2\nmemory = \"2G\"\n\
                [partition.batch]\npreempt-mode = \"requeue\"\n\
                [partition.fast]\ntier = 2\n";
    let jobs = "[[job]]\nrun = \"1h\"\nlimit = \"2h\"\narray = \"0-3\"\nrequeue = true\n\
                [[job]]\nat = \"10m\"\nrun = \"30m\"\nlimit = \"30m\"\nnodes = 2\ncpus = 2\npartition = \"fast\"\n";
    let outcome = run(setup(text), jobs);
    let starts = starts(&outcome);
    // All four elements go, on both nodes, and run anew afterwards.
    assert_eq!(starts, [2400, 2400, 2400, 2400, 600]);
    assert_eq!(outcome.restarts, 4);
    // Within a tier nobody does.
    let jobs = jobs.replace("partition = \"fast\"\n", "");
    let outcome = run(setup(text), &jobs);
    assert_eq!(outcome.restarts, 0);
}

#[test]
fn nobody_makes_room_who_would_be_gone_before_the_grace_is_over() {
    let jobs = "[[job]]\nrun = \"11m\"\nlimit = \"11m\"\ncpus = 2\n\
                [[job]]\nat = \"10m\"\nrun = \"30m\"\nlimit = \"30m\"\nqos = \"urgent\"\n";
    let outcome = run(urgent("grace-time = \"2m\""), jobs);
    let done = JobState::Completed;
    assert_eq!(fates(&outcome), [(0, 660, done), (660, 2460, done)]);
}

#[test]
fn as_many_run_as_there_are_licences() {
    let text = "[[node]]\nname = \"n1\"\ncpus = 4\nmemory = \"4G\"\n[license.matlab]\ncount = 2\n";
    let jobs = "[[job]]\ncount = 3\nrun = \"1h\"\nlimit = \"1h\"\nlicenses = \"matlab\"\n\
                [[job]]\nat = \"1s\"\nrun = \"30m\"\nlimit = \"30m\"\n\
                [[job]]\nat = \"1s\"\nrun = \"2h\"\nlimit = \"2h\"\ncpus = 2\n\
                [[job]]\nat = \"2s\"\nrun = \"1h\"\nlimit = \"1h\"\nlicenses = \"matlab:3\"\n";
    let outcome = run(setup(text), jobs);
    let starts = starts(&outcome);
    // The third waits for a licence and is kept a place, which nobody else needs.
    assert_eq!(starts, [0, 0, 3600, 1, 1801]);
    let refused: Vec<&str> = outcome.refused.values().map(|one| &*one.first).collect();
    assert!(
        refused[0].contains("3 of license matlab are asked for, there are 2"),
        "{refused:?}"
    );
}

#[test]
fn features_say_where() {
    let text = "[[node]]\nname = \"n1\"\ncpus = 1\nmemory = \"1G\"\nfeatures = \"slow,big\"\n\
                [[node]]\nname = \"n2\"\ncpus = 1\nmemory = \"1G\"\nfeatures = \"fast\"\n\
                [[node]]\nname = \"n3\"\ncpus = 1\nmemory = \"1G\"\ngpus = \"a100:1\"\n";
    let job = |features: &str| {
        format!("[[job]]\nrun = \"1h\"\nlimit = \"1h\"\nconstraint = \"{features}\"\n")
    };
    let jobs = [
        job("fast"),
        job("big&slow"),
        job("fast|A100"),
        job("fast&big"),
        job("new"),
    ];
    let outcome = run(setup(text), &jobs.concat());
    let places: Vec<String> = shown(&outcome).into_iter().map(|one| one.3).collect();
    assert_eq!(places, ["n2", "n1", "n3"]);
    let refused: String = outcome.refused.values().map(|one| &*one.first).collect();
    assert!(refused.contains("no node has"), "{refused}");
    assert_eq!(
        outcome.refused.values().map(|one| one.count).sum::<u64>(),
        2
    );
}

/// Two nodes of two cpus, the first hour of ann's course an hour from the beginning.
const COURSE: &str = "[[node]]\nname = \"n[1-2]\"\ncpus = 2\nmemory = \"2G\"\n\
     [[reservation]]\nname = \"course\"\nat = \"1h\"\nfor = \"1h\"\nusers = \"ann\"\n";

#[test]
fn what_is_reserved_is_left_alone_before_and_kept_for_those_it_is_for() {
    let jobs = "[[job]]\nuser = \"bob\"\nrun = \"90m\"\nlimit = \"90m\"\ncount = 5\n\
                [[job]]\nat = \"1s\"\nuser = \"bob\"\nrun = \"30m\"\nlimit = \"30m\"\n\
                [[job]]\nat = \"2s\"\nuser = \"ann\"\nrun = \"20m\"\nlimit = \"30m\"\nreservation = \"course\"\ncount = 3\n\
                [[job]]\nat = \"100m\"\nuser = \"ann\"\nrun = \"20m\"\nlimit = \"30m\"\nreservation = \"course\"\n";
    let text = format!("{COURSE}nodes = \"n1\"\n");
    let outcome = run(setup(&text), jobs);
    let is = |at: usize, start_min: i64, place: &str| {
        let (start, _, _, on) = &shown(&outcome)[at];
        assert_eq!((start / 60, on.as_str()), (start_min, place), "job {at}");
    };
    // Long ones go beside it and behind it, a short one ends before it begins.
    is(0, 0, "n2");
    is(1, 0, "n2");
    is(2, 90, "n2");
    is(3, 90, "n2");
    is(4, 120, "n1");
    is(5, 0, "n1");
    // Two fit into it at once; the last can still end before it does.
    is(6, 60, "n1");
    is(7, 60, "n1");
    is(8, 80, "n1");
    // This one could not, and was told so.
    assert_eq!(outcome.elements.len(), 9);
    let refused: Vec<&str> = outcome.refused.values().map(|one| &*one.first).collect();
    assert!(
        refused[0].contains("00:20:00 are left of it"),
        "{refused:?}"
    );
}

#[test]
fn parts_of_nodes_are_reserved_by_count_and_again_each_day() {
    let text = "[[node]]\nname = \"n[1-2]\"\ncpus = 4\nmemory = \"4G\"\ngpus = \"a100:2\"\n\
                [[reservation]]\nname = \"daily\"\nat = \"1h\"\nfor = \"1h\"\nusers = \"ann\"\ngpus = 1\nrepeat = \"daily\"\n";
    let gpu = |user: &str, at: &str, more: &str| {
        format!(
            "[[job]]\nuser = \"{user}\"\nat = \"{at}\"\nrun = \"1h\"\nlimit = \"1h\"\ngpus = 1\n{more}"
        )
    };
    let inside = "reservation = \"daily\"\n";
    let jobs = [
        "[[job]]\nrun = \"1m\"\nlimit = \"1m\"\n".to_owned(),
        // All four GPUs are wanted while one is reserved.
        gpu("bob", "65m", "count = 4\n"),
        gpu("ann", "60m", inside),
        gpu("ann", "70m", inside),
    ];
    let outcome = run(setup(text), &jobs.concat());
    let mut starts: Vec<(i64, u32)> = outcome
        .elements
        .iter()
        .map(|one| (one.started.seconds() / 60, one.job))
        .collect();
    starts.sort_unstable();
    // Ann's second waits for the next day's.
    let starts: Vec<i64> = starts.into_iter().map(|(start, _)| start).collect();
    assert_eq!(starts, [0, 60, 65, 65, 65, 120, 1500]);
}

#[test]
fn maintenance_is_around_what_runs_and_of_nobody() {
    let text = "[[node]]\nname = \"n1\"\ncpus = 2\nmemory = \"2G\"\n\
                [[reservation]]\nname = \"disk\"\nat = \"1h\"\nfor = \"1h\"\nnodes = \"n1\"\npurpose = \"maintenance\"\n";
    let jobs = "[[job]]\nrun = \"1h\"\nlimit = \"61m\"\n[[job]]\nrun = \"1h\"\nlimit = \"1h\"\n\
                [[job]]\nrun = \"1h\"\nlimit = \"1h\"\nreservation = \"disk\"\n";
    let outcome = run(setup(text), jobs);
    let starts = starts(&outcome);
    assert_eq!(starts, [7200, 0]);
    let refused: String = outcome.refused.values().map(|one| &*one.first).collect();
    assert!(
        refused.contains("work on the machines") || refused.contains("is not for"),
        "{refused}"
    );
}

#[test]
fn scavengers_fill_what_nobody_needs_and_it_costs_them_nothing() {
    let text = "[[node]]\nname = \"n1\"\ncpus = 2\nmemory = \"2G\"\n\
                [qos.scavenger]\nusage-factor = 0\n\
                [qos.normal]\npriority = 1\npreempts = \"scavenger\"\n";
    let jobs = "[[job]]\nuser = \"ann\"\nrun = \"1h\"\nlimit = \"1h\"\ncount = 4\nrequeue = true\nqos = \"scavenger\"\n\
                [[job]]\nuser = \"bob\"\nat = \"30m\"\nrun = \"10m\"\nlimit = \"10m\"\ncpus = 2\n\
                [[job]]\nuser = \"ann\"\nat = \"31m\"\nrun = \"10m\"\nlimit = \"10m\"\ncpus = 2\n\
                [[job]]\nuser = \"bob\"\nat = \"31m\"\nrun = \"10m\"\nlimit = \"10m\"\ncpus = 2\n";
    let outcome = run(setup(text), jobs);
    let starts: Vec<i64> = outcome
        .elements
        .iter()
        .map(|one| one.started.seconds() / 60)
        .collect();
    // Ann goes before bob's second: half an hour of two cpus was not charged to her, ten minutes were to him.
    assert_eq!(starts, [60, 60, 120, 120, 30, 40, 50]);
    assert_eq!(outcome.restarts, 2);
}

#[test]
fn nobody_makes_room_for_whom_a_limit_would_hold_then() {
    // One cpu is asked for and the whole node would be had: beyond the limit.
    let text = "[[node]]\nname = \"n1\"\ncpus = 4\nmemory = \"4G\"\n\
                [qos.urgent]\npreempts = \"normal\"\nmax-cpus-per-user = 2\n";
    let jobs = "[[job]]\nuser = \"ann\"\nrun = \"1h\"\nlimit = \"1h\"\ncpus = 4\nrequeue = true\n\
                [[job]]\nuser = \"bob\"\nat = \"1m\"\nrun = \"1m\"\nlimit = \"1m\"\nexclusive = true\nqos = \"urgent\"\n";
    let outcome = run(setup(text), jobs);
    assert_eq!(outcome.restarts, 0);
    assert_eq!(fates(&outcome), [(0, 3600, JobState::Completed)]);
    assert_eq!(outcome.left, 1);
}

#[test]
fn nobody_makes_room_on_what_is_reserved() {
    // What runs into the maintenance leaves its place to that: it would help nobody.
    let text = "[[node]]\nname = \"n1\"\ncpus = 2\nmemory = \"2G\"\n[qos.urgent]\npreempts = \"normal\"\n\
                [[reservation]]\nname = \"disk\"\nat = \"1h\"\nfor = \"1h\"\nnodes = \"n1\"\npurpose = \"maintenance\"\n";
    let jobs = "[[job]]\nrun = \"10m\"\nlimit = \"10m\"\n\
                [[job]]\nat = \"1s\"\nrun = \"10m\"\nlimit = \"10m\"\n\
                [[job]]\nat = \"50m\"\nrun = \"30m\"\nlimit = \"30m\"\nqos = \"urgent\"\n";
    let outcome = run(setup(text), jobs);
    assert_eq!(outcome.restarts, 0);
    assert_eq!(fates(&outcome)[2].0, 7200, "after it");
    // A place that is kept before it would be over is no reason to evict either.
    let jobs = "[[job]]\nrun = \"58m\"\nlimit = \"58m\"\ncpus = 2\nrequeue = true\n\
                [[job]]\nat = \"45m\"\nrun = \"14m\"\nlimit = \"14m\"\nqos = \"urgent\"\n";
    let text = text.replace(
        "[qos.urgent]",
        "[qos.normal]\ngrace-time = \"2m\"\n[qos.urgent]",
    );
    let outcome = run(setup(&text), jobs);
    assert_eq!(
        outcome.restarts, 0,
        "after the grace it would not end in time"
    );
    assert_eq!(fates(&outcome)[0], (0, 3480, JobState::Completed));
}
