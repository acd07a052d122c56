//! When ends and starts are said: soon where somebody waits for them, else together.

use super::*;

/// Ends the running element after it ran for so long; what that leads to.
fn runs(slot: &mut Fixture, ms: u64) -> Vec<Effect> {
    slot.now += ms;
    slot.exits(BATCH, 0, 0);
    slot.when(Input::Swept)
}

/// Lets time pass until ends are said; how many.
fn said(slot: &mut Fixture) -> usize {
    loop {
        let effects = slot.time_passes();
        if !ends(&effects).is_empty() {
            return ends(&effects).len();
        }
    }
}

#[test]
fn ends_of_slots_with_enough_to_run_leave_a_machine_together_and_in_time() {
    let mut when = Vec::new();
    for late_ms in [0, 15, 22] {
        let (mut slot, _) = Fixture::new(array(10));
        slot.now = late_ms;
        assert_eq!(ends(&runs(&mut slot, 30)).len(), 0);
        let first = slot.now;
        assert_eq!(ends(&runs(&mut slot, 30)).len(), 0);
        assert_eq!(said(&mut slot), 2);
        assert!(slot.now <= first + TICK_MS, "{} {first}", slot.now);
        when.push(slot.now);
    }
    when.dedup();
    assert_eq!(when.len(), 1, "their agent wakes once: {when:?}");
}

#[test]
fn a_slot_that_will_soon_have_nothing_to_run_says_so() {
    let (mut slot, _) = Fixture::new(array(4));
    assert_eq!(ends(&runs(&mut slot, 30)).len(), 0);
    let second = runs(&mut slot, 30);
    assert_eq!(ends(&second).len(), 0);
    let third = runs(&mut slot, 30);
    let said_by_then = ends(&second).len() + ends(&third).len();
    if said_by_then == 0 {
        let ended = slot.now;
        assert_eq!(said(&mut slot), 3);
        assert!(slot.now <= ended + GATHER_MS);
    }
    assert_eq!(
        ends(&runs(&mut slot, 1)).len(),
        1,
        "with nothing left it says so at once"
    );
}

#[test]
fn many_short_elements_do_not_wait_for_a_tick() {
    let mut launch = array(1000);
    spec(&mut launch).array = Some(Box::new(ArraySpec::parse("1-1000", 1000).unwrap()));
    let (mut slot, _) = Fixture::new(launch);
    let mut together = Vec::new();
    for _ in 0..500 {
        let said = ends(&runs(&mut slot, 1)).len();
        together.extend((said > 0).then_some(said));
    }
    let most = together.iter().max();
    assert_eq!(most, Some(&GATHER_MOST), "{together:?}");
    assert!(together.len() >= 7, "{together:?}");
}

#[test]
fn what_is_ended_for_others_is_said_at_once_with_all_before() {
    let (mut slot, _) = Fixture::new(array(10));
    assert_eq!(ends(&runs(&mut slot, 30)).len(), 0);
    let effects = slot.order(ToSlot::Kill {
        positions: IndexSet::from_range(5, 10),
        cause: KillCause::Cancel { by: 1 },
        at_once: false,
    });
    assert_eq!(ends(&effects).len(), 6);
}

/// How long the start of what now runs is kept back.
fn start_kept_ms(slot: &mut Fixture) -> u64 {
    let from = slot.now;
    let is_start = |effect: &Effect| matches!(effect, Effect::Report(FromSlot::Started { .. }));
    while !slot.time_passes().iter().any(is_start) {}
    slot.now - from
}

#[test]
fn starts_wait_only_where_short_elements_were_given_ahead() {
    for (elements, took_ms, waits) in [(10, 30, true), (4, 30, false), (10, 1_000, false)] {
        let (mut slot, _) = Fixture::new(array(elements));
        for _ in 0..2 {
            runs(&mut slot, took_ms);
        }
        let kept = start_kept_ms(&mut slot);
        let expected = if waits {
            TICK_MS..=2 * TICK_MS
        } else {
            0..=GATHER_MS
        };
        assert!(
            expected.contains(&kept),
            "{elements} of {took_ms} ms: {kept} ms"
        );
    }
}
