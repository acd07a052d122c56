//! Cut off from the controller: the element ends with its lease, and not otherwise.

use super::*;

fn lease(until_ms: u64) -> ToSlot {
    ToSlot::Lease {
        until_ms: Some(until_ms),
        lease_ms: 10_000,
    }
}

fn with_kill_wait(seconds: u32) -> SlotLaunch {
    let mut launch = command();
    spec(&mut launch).kill_wait_s = seconds;
    launch
}

#[test]
fn a_lease_that_goes_on_ends_nothing_and_one_that_runs_out_ends_the_element() {
    let (mut slot, _) = Fixture::new(with_kill_wait(5));
    assert_eq!(slot.core.next_deadline(), None, "without a lease none ends");
    assert_eq!(
        slot.order(lease(10_000)),
        [Effect::Report(FromSlot::Leased {
            ends_after_ms: 15_000
        })]
    );
    slot.now = 8_000;
    slot.order(lease(17_000));
    // Said late, after a longer one.
    slot.order(lease(12_000));
    assert_eq!(slot.core.next_deadline(), Some(17_000));
    assert_eq!(slot.core.lease_deadline(), Some(17_000));
    assert_eq!(slot.core.lease_end(), Some(22_000));
    slot.now = 16_999;
    assert_eq!(slot.when(Input::Timer), []);
    let effects = slot.time_passes();
    assert!(
        matches!(
            &effects[0],
            Effect::Note {
                cause: KillCause::NodeLost,
                ..
            }
        ),
        "{effects:?}"
    );
    assert_eq!(signals(&effects)[0], (SIGTERM, &Recipients::Everything));
    assert_eq!(slot.core.lease_deadline(), Some(22_000));
    // It does not follow: nothing of it is left five seconds later.
    assert_eq!(slot.time_passes(), [Effect::Sweep]);
    assert_eq!(slot.now, 22_000);
    slot.exits(BATCH, 0, 9);
    let effects = slot.when(Input::Swept);
    assert_eq!(
        (ends(&effects)[0].state, &ends(&effects)[0].reason),
        (JobState::NodeFail, &Reason::NodeDown)
    );
    assert_eq!(slot.core.lease_deadline(), None);
    assert_eq!(slot.core.next_deadline(), None);
}

#[test]
fn one_that_wakes_too_late_asks_nobody_to_follow() {
    let (mut slot, _) = Fixture::new(with_kill_wait(5));
    slot.order(lease(10_000));
    // The shepherd, or its machine, was stopped meanwhile.
    slot.now = 15_000;
    let effects = slot.when(Input::Timer);
    assert_eq!(effects.last(), Some(&Effect::Sweep));
    assert_eq!(signals(&effects), []);
}

#[test]
fn an_end_that_is_under_way_takes_no_longer_than_the_lease() {
    let (mut slot, _) = Fixture::new(with_kill_wait(5));
    slot.order(lease(10_000));
    // The machine slept between the order and its end.
    slot.now = 9_000;
    slot.order(ToSlot::Kill {
        positions: IndexSet::from_range(0, 1),
        cause: KillCause::Cancel { by: 1000 },
        at_once: false,
    });
    assert_eq!(slot.core.next_deadline(), Some(14_000));
    slot.order(lease(8_000));
    slot.now = 15_000;
    assert_eq!(slot.when(Input::Timer), [Effect::Sweep]);
    slot.exits(BATCH, 0, 9);
    let effects = slot.when(Input::Swept);
    assert_eq!(ends(&effects)[0].state, JobState::Cancelled);
}

#[test]
fn elements_that_wait_do_so_until_the_lease_goes_on() {
    let (mut slot, _) = Fixture::new(array(3));
    slot.order(lease(10_000));
    slot.now = 10_000;
    slot.when(Input::Timer);
    slot.exits(BATCH, 0, 15);
    let effects = slot.when(Input::Swept);
    assert_eq!(spawned(&effects).len(), 0, "cut off, nothing starts");
    slot.now = 20_000;
    assert_eq!(spawned(&slot.when(Input::Timer)).len(), 0);
    assert_eq!(
        spawned(&slot.order(lease(19_999))).len(),
        0,
        "an old word is no new lease"
    );
    let effects = slot.order(lease(30_000));
    assert_eq!(
        variable(spawned(&effects)[0], "SLURM_ARRAY_TASK_ID"),
        Some("11")
    );
}

#[test]
fn an_allocation_that_runs_nothing_ends_at_once() {
    let mut launch = with_kill_wait(5);
    spec(&mut launch).launch = Launch::Hold;
    let (mut slot, _) = Fixture::new(launch);
    slot.order(lease(10_000));
    let effects = slot.time_passes();
    assert_eq!(effects.last(), Some(&Effect::Sweep));
    assert_eq!(ends(&slot.when(Input::Swept))[0].state, JobState::NodeFail);
}

#[test]
fn one_that_may_run_again_starts_when_it_is_known_how_long_it_may_go_on() {
    for none in [false, true] {
        let mut launch = command();
        spec(&mut launch).requeue = true;
        let (mut slot, effects) = Fixture::new(launch);
        assert_eq!(effects, []);
        let order = if none {
            ToSlot::Lease {
                until_ms: None,
                lease_ms: 0,
            }
        } else {
            lease(10_000)
        };
        assert_eq!(spawned(&slot.order(order)).len(), 1);
        assert_eq!(slot.core.lease_deadline(), (!none).then_some(10_000));
        // A controller of a later build; one of an earlier build lifts no lease.
        slot.order(lease(20_000));
        slot.order(ToSlot::Lease {
            until_ms: None,
            lease_ms: 0,
        });
        assert_eq!(slot.core.lease_deadline(), Some(20_000));
    }
}
