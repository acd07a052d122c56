//! Who accepts few switches waits for them, and no longer than was said.

use super::*;
use crate::model::rules::{Act, Noun, RuleChange};
use crate::model::switches::SwitchWish;
use crate::model::wishes::Wishes;
use crate::scheduler::explain::{self, Experience};
use crate::scheduler::forecast::{Assume, forecast};

fn fixture() -> Fixture {
    let mut f = Fixture::new(&[("a", 1), ("b", 1), ("c", 1)]);
    for (name, switch) in [("a", "x"), ("b", "y"), ("c", "y")] {
        set(&mut f, name, switch);
    }
    f
}

fn set(f: &mut Fixture, name: &str, switch: &str) {
    let change = RuleChange {
        noun: Noun::Node,
        act: Act::Set,
        name: name.to_owned(),
        settings: vec![("switch".to_owned(), switch.to_owned())],
    };
    let who = user(0);
    f.run(Command::ChangeRule { who, change }).unwrap();
    invariants::check(&f.cluster).unwrap();
}

/// A job on so many nodes, or on this one.
fn asked(nodes: u32, on: &[&str], switches: Option<&str>) -> JobSpec {
    let switches = switches.map(|text| SwitchWish::parse(text).unwrap());
    let request = Request {
        nodes_min: nodes,
        nodes_max: Some(nodes),
        ntasks: Some(nodes),
        nodelist: on.iter().map(|name| (*name).to_owned()).collect(),
        wishes: Wishes {
            switches,
            ..Wishes::default()
        },
        ..Request::default()
    };
    JobSpec {
        request: request.into(),
        time_limit_s: Some(3600),
        ..spec()
    }
}

fn reason(f: &Fixture, job: JobId) -> Reason {
    let snapshot = f.cluster.snapshot();
    views::pending_reason(&snapshot, &snapshot.jobs[&job])
}

fn has_started(f: &Fixture, job: JobId) -> bool {
    !f.cluster.job(job).unwrap().slots.is_empty()
}

fn tick(f: &mut Fixture) {
    f.now = f.cluster.next_deadline().unwrap();
    f.run(Command::Tick).unwrap();
}

#[test]
fn the_end_of_the_wait_wakes_the_planner_and_is_foreseen() {
    let mut f = fixture();
    f.submit(asked(1, &["b"], None));
    let gang = f.submit(asked(2, &[], Some("1@10")));
    let due = f.now.plus_ms(600_000);
    let Reason::Switches(what) = reason(&f, gang) else {
        panic!("{:?}", reason(&f, gang))
    };
    assert!(
        what.starts_with("for nodes under at most 1 switch until 1970-")
            && what.ends_with("then for any"),
        "{what}"
    );
    let outlook = f.cluster.outlook();
    let seen = forecast(&outlook, f.now, Assume::LIMITS, None);
    assert_eq!(seen.starts[&gang], due);
    let why = explain::why(&outlook, f.now, Experience::default(), &outlook.jobs[&gang]);
    let options: Vec<&str> = why.suggestions.iter().map(|one| &*one.option).collect();
    assert!(options.contains(&"without --switches"), "{options:?}");
    assert_eq!(f.cluster.next_deadline(), Some(due));
    tick(&mut f);
    assert_eq!((f.now, has_started(&f, gang)), (due, true));
}

#[test]
fn the_wait_counts_from_when_the_job_may_start() {
    let mut f = fixture();
    f.submit(asked(1, &["b"], None));
    let held = f.submit(JobSpec {
        hold: true,
        ..asked(2, &[], Some("1"))
    });
    f.now = f.now.plus_ms(1_000_000);
    f.run(Command::Tick).unwrap();
    let (who, filter) = (user(1000), Fixture::only(held));
    f.run(Command::Release { who, filter }).unwrap();
    assert!(matches!(reason(&f, held), Reason::Switches(_)));
    let due = f.now.plus_ms(300_000);
    assert_eq!(f.cluster.next_deadline(), Some(due));
    tick(&mut f);
    assert!(has_started(&f, held));
}

#[test]
fn what_becomes_free_or_is_wired_anew_is_taken_at_once() {
    let mut f = fixture();
    f.submit(asked(1, &["b"], None));
    let first = f.submit(asked(2, &[], Some("1@1-0")));
    assert!(!has_started(&f, first));
    set(&mut f, "a", "y");
    assert!(has_started(&f, first), "both that are free are under y now");
}

#[test]
fn while_no_switch_could_hold_it_others_go_before() {
    let mut f = fixture();
    let drain = crate::wire::client::NodeChange::Drain {
        reason: "disk".to_owned(),
    };
    let gang = asked(2, &[], Some("1@10"));
    f.run(Command::ChangeNode {
        who: user(0),
        name: "c".to_owned(),
        change: drain,
    })
    .unwrap();
    let gang = f.submit(gang);
    assert!(matches!(reason(&f, gang), Reason::Switches(_)));
    let other = f.submit(asked(1, &[], None));
    assert!(has_started(&f, other), "its place is kept for nobody");
    f.run(Command::Tick).unwrap();
    f.report_end(other, 0, 0, 0);
    tick(&mut f);
    assert!(has_started(&f, gang), "{:?}", reason(&f, gang));
}
