//! What waits for what, and what comes of it when that ends well, badly or never.

use super::*;
use crate::cluster::command::{Gone, GoneElements};

fn depends(text: String) -> JobSpec {
    JobSpec {
        dependency: Some(Box::new(Dependency::parse(&text).unwrap())),
        ..spec()
    }
}

#[test]
fn dependencies_of_every_kind_are_met_or_can_never_be() {
    for (kind, code, starts) in [
        ("afterok", 0, true),
        ("afterok", 1, false),
        ("afternotok", 0, false),
        ("afternotok", 1, true),
        ("afterany", 1, true),
    ] {
        let mut f = Fixture::new(&[("ws1", 4)]);
        let first = f.submit(spec());
        let second = f.submit(depends(format!("{kind}:{first}")));
        assert_eq!(f.running().len(), 1);
        f.report_end(first, 0, 0, code);
        assert_eq!(f.running().len() == 1, starts, "{kind} after exit {code}");
        if !starts {
            assert_eq!(
                f.cluster.job(second).unwrap().reason,
                Reason::DependencyNeverSatisfied
            );
        }
    }
}

#[test]
fn a_dependency_on_an_ended_job_is_judged_at_once() {
    let mut f = Fixture::new(&[("ws1", 4)]);
    let first = f.submit(spec());
    f.report_end(first, 0, 0, 0);
    f.submit(depends(format!("afterok:{first}")));
    assert_eq!(f.running().len(), 1);
    let never = JobSpec {
        kill_on_invalid_dependency: true,
        ..depends(format!("afternotok:{first}"))
    };
    let never = f.submit(never);
    assert_eq!(f.state(never), Some(JobState::Cancelled));
}

#[test]
fn any_needs_one_and_all_needs_each() {
    let mut f = Fixture::new(&[("ws1", 8)]);
    let (a, b) = (f.submit(spec()), f.submit(spec()));
    let any = f.submit(depends(format!("afterok:{a}?afterok:{b}")));
    let all = f.submit(depends(format!("afterok:{a},afterok:{b}")));
    f.report_end(a, 0, 0, 1);
    assert!(f.cluster.job(any).unwrap().slots.is_empty());
    assert_eq!(
        f.cluster.job(all).unwrap().reason,
        Reason::DependencyNeverSatisfied
    );
    f.report_end(b, 0, 0, 0);
    assert_eq!(f.cluster.job(any).unwrap().slots.len(), 1);
}

#[test]
fn aftercorr_starts_each_element_with_its_counterpart() {
    let mut f = Fixture::new(&[("ws1", 8)]);
    let first = f.submit(array("1-3"));
    let second = f.submit(JobSpec {
        array: Some(Box::new(ArraySpec::parse("1-3", 100).unwrap())),
        ..depends(format!("aftercorr:{first}"))
    });
    assert_eq!(f.running().len(), 3);
    f.report_end(first, 1, 1, 0);
    let running: Vec<_> = f
        .running()
        .into_iter()
        .filter(|(job, ..)| *job == second)
        .collect();
    assert_eq!(running.len(), 1);
    assert_eq!(running[0].2, [1], "the element whose counterpart ended");
}

#[test]
fn aftercorr_goes_on_where_counterparts_ended_well_and_says_where_they_did_not() {
    let mut f = Fixture::new(&[("ws1", 16)]);
    let first = f.submit(array("1-3"));
    let waits = |kill: bool| JobSpec {
        kill_on_invalid_dependency: kill,
        array: Some(Box::new(ArraySpec::parse("1-4", 100).unwrap())),
        ..depends(format!("aftercorr:{first}"))
    };
    let (patient, strict) = (f.submit(waits(false)), f.submit(waits(true)));
    f.report_end(first, 0, 0, 0);
    f.report_end(first, 1, 1, 1);
    // The last end of the array is also the array's own.
    f.report_end(first, 2, 2, 0);
    assert_eq!(f.state(first), Some(JobState::Failed));
    for job in [patient, strict] {
        let mut ran: Vec<u32> = f
            .running()
            .into_iter()
            .filter(|(other, ..)| *other == job)
            .flat_map(|(_, _, positions)| positions)
            .collect();
        ran.sort_unstable();
        assert_eq!(ran, [0, 2], "those whose counterparts ended well");
    }
    for (slot, position) in [(0, 0), (1, 2)] {
        f.report_end(patient, slot, position, 0);
        f.report_end(strict, slot, position, 0);
    }
    let job = f.cluster.job(patient).expect("two of it wait for ever");
    assert_eq!(job.waiting.runs(), [(1, 2), (3, 4)]);
    assert_eq!(
        views::pending_reason(&f.cluster.snapshot(), job),
        Reason::DependencyNeverSatisfied
    );
    assert_eq!(f.state(strict), Some(JobState::Cancelled));
}

#[test]
fn after_waits_for_the_start_and_singleton_for_the_namesakes() {
    let mut f = Fixture::new(&[("ws1", 1)]);
    let first = f.submit(JobSpec {
        begin: Some(f.now.plus_ms(5000)),
        ..spec()
    });
    let after = f.submit(depends(format!("after:{first}")));
    let single = f.submit(depends("singleton".to_owned()));
    assert!(f.running().is_empty());
    f.now = f.now.plus_ms(5000);
    assert_eq!(f.cluster.next_deadline(), Some(f.now));
    f.run(Command::Tick).unwrap();
    assert_eq!(f.running().len(), 1);
    assert!(f.cluster.job(after).unwrap().waits_for.is_empty());
    assert!(!f.cluster.job(single).unwrap().waits_for.is_empty());
    f.report_end(first, 0, 0, 0);
    f.report_end(after, 0, 0, 0);
    assert_eq!(f.cluster.job(single).unwrap().slots.len(), 1);
}

#[test]
fn a_dependency_names_elements_that_exist() {
    let mut f = Fixture::new(&[("ws1", 8)]);
    let (first, plain) = (f.submit(array("1-3")), f.submit(spec()));
    for (term, said) in [
        (format!("afterok:{first}_9"), "its indices are 1-3"),
        (format!("afterok:{plain}_1"), "not an array"),
    ] {
        let refusal = f.submit_as(user(1000), depends(term)).unwrap_err();
        assert!(refusal.to_string().contains(said), "{refusal}");
    }
    f.submit(depends(format!("afterok:{first}_3")));
}

#[test]
fn elements_of_an_array_that_has_ended_are_judged_one_by_one() {
    let mut f = Fixture::new(&[("ws1", 16)]);
    let first = f.submit(array("1-3"));
    for (slot, code) in [(0, 0), (1, 1), (2, 0)] {
        f.report_end(first, slot, slot, code);
    }
    assert_eq!(f.state(first), Some(JobState::Failed));
    let gone = Gone {
        id: first,
        outcome: f.cluster.recent[&first],
        elements: Some(GoneElements {
            array: Some(ArraySpec::parse("1-3", 100).unwrap()),
            unsuccessful: IndexSet::from_range(1, 2),
        }),
    };
    let mut submit = |spec: JobSpec| {
        f.run(Command::Submit {
            who: user(1000),
            spec: Box::new(spec),
            ended: vec![gone.clone()],
            dry_run: false,
        })
    };
    let waits = JobSpec {
        array: Some(Box::new(ArraySpec::parse("1-4", 100).unwrap())),
        ..depends(format!("aftercorr:{first}"))
    };
    let Ok(Reply::Submitted(second)) = submit(waits) else {
        panic!("refused")
    };
    let Ok(Reply::Submitted(third)) = submit(depends(format!("afterok:{first}_3"))) else {
        panic!("refused")
    };
    let refusal = submit(depends(format!("afterok:{first}_9"))).unwrap_err();
    assert!(refusal.hint.contains("1-3"), "{refusal}");
    let started = |job: JobId| {
        let slots = &f.cluster.job(job).unwrap().slots;
        let positions = slots.iter().flat_map(|slot| slot.queue.iter());
        positions.collect::<Vec<u32>>()
    };
    assert_eq!(started(second), [0, 2]);
    assert_eq!(started(third), [0]);
    assert_eq!(
        f.cluster.job(second).unwrap().waiting.runs(),
        [(1, 2), (3, 4)]
    );
}
