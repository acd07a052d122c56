//! The time limit of an element, and the warning before it.

use super::*;

#[test]
fn the_limit_ends_it_as_timeout_whatever_the_script_says() {
    let mut launch = command();
    launch.time_limit_s = Some(2);
    spec(&mut launch).kill_wait_s = 5;
    let (mut slot, _) = Fixture::new(launch);
    assert_eq!(slot.core.next_deadline(), Some(2000));
    let effects = slot.time_passes();
    assert!(matches!(
        effects[0],
        Effect::Note {
            cause: KillCause::TimeLimit,
            ..
        }
    ));
    assert_eq!(signals(&effects)[0], (SIGTERM, &Recipients::Everything));
    assert_eq!(slot.core.next_deadline(), Some(7000));
    slot.exits(BATCH, 0, 0);
    let effects = slot.when(Input::Swept);
    let end = ends(&effects)[0];
    assert_eq!(
        (end.state, &end.reason, end.exit.code),
        (JobState::Timeout, &Reason::TimeLimit, 0)
    );
}

#[test]
fn the_limit_can_be_moved_while_it_runs() {
    let mut launch = command();
    launch.time_limit_s = Some(10);
    let (mut slot, _) = Fixture::new(launch);
    slot.order(ToSlot::Limit { seconds: Some(20) });
    assert_eq!(slot.core.next_deadline(), Some(20_000));
    slot.order(ToSlot::Limit { seconds: None });
    assert_eq!(slot.core.next_deadline(), None);
    slot.now = 5000;
    slot.order(ToSlot::Limit { seconds: Some(1) });
    let effects = slot.time_passes();
    assert_eq!(signals(&effects)[0], (SIGTERM, &Recipients::Everything));
}

#[test]
fn the_limit_does_not_run_while_stopped() {
    let mut launch = command();
    launch.time_limit_s = Some(10);
    let (mut slot, _) = Fixture::new(launch);
    slot.now = 4000;
    let effects = slot.order(ToSlot::Suspend { stop: true });
    assert_eq!(signals(&effects), [(SIGSTOP, &Recipients::Everything)]);
    assert_eq!(slot.core.next_deadline(), None);
    slot.now = 100_000;
    let effects = slot.order(ToSlot::Suspend { stop: false });
    assert_eq!(signals(&effects), [(SIGCONT, &Recipients::Everything)]);
    assert_eq!(slot.core.next_deadline(), Some(106_000));
}

#[test]
fn the_warning_goes_to_the_shell_if_asked_else_to_steps_and_soon_when_late() {
    let mut launch = command();
    launch.time_limit_s = Some(100);
    spec(&mut launch).signal = Some(SignalSpec::parse("B:USR1@30").unwrap());
    let (mut slot, _) = Fixture::new(launch.clone());
    assert_eq!(slot.core.next_deadline(), Some(70_000));
    assert_eq!(
        signals(&slot.time_passes()),
        [(10, &Recipients::Process(BATCH))]
    );
    assert_eq!(slot.core.next_deadline(), Some(100_000));
    spec(&mut launch).signal = Some(SignalSpec::parse("USR1@30").unwrap());
    let (mut slot, _) = Fixture::new(launch.clone());
    assert_eq!(slot.time_passes(), [], "no steps, nobody to warn");
    launch.time_limit_s = Some(10);
    let (mut slot, _) = Fixture::new(launch);
    slot.order(ToSlot::StartStep(std::sync::Arc::new(step(1))));
    assert_eq!(
        slot.core.next_deadline(),
        Some(1000),
        "a script has come as far as its trap"
    );
    let task = TaskId {
        step: StepId(1),
        rank: 0,
    };
    assert_eq!(
        signals(&slot.time_passes()),
        [(10, &Recipients::Groups(vec![task]))]
    );
}
