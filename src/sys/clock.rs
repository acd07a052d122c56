//! Time: a clock that never jumps for measuring, the calendar's clock for showing, and a timer for event loops.
//!
//! Limits run on [`boottime_ms`], which also counts while the machine sleeps and ignores changes of the date.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{SigEvent, SigevNotify, Signal};
use nix::sys::timerfd::{
    ClockId as TimerClock, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags,
};
use nix::time::{ClockId, clock_gettime};

/// Milliseconds since this machine started, sleep included.
pub fn boottime_ms() -> u64 {
    read_ms(ClockId::CLOCK_BOOTTIME)
}

/// Milliseconds since 1970 by this machine's calendar clock, which somebody may set.
pub fn wall_ms() -> u64 {
    read_ms(ClockId::CLOCK_REALTIME)
}

fn read_ms(clock: ClockId) -> u64 {
    let time = clock_gettime(clock).expect("every Linux since 2.6.39 has this clock");
    let part = |value: i64| u64::try_from(value).unwrap_or(0);
    part(time.tv_sec()) * 1000 + part(time.tv_nsec()) / 1_000_000
}

/// A timer that an event loop waits for: readable once its time has come.
#[derive(Debug)]
pub struct Timer {
    fd: TimerFd,
}

impl Timer {
    /// A timer that is not set.
    pub fn new() -> io::Result<Self> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let fd = TimerFd::new(TimerClock::CLOCK_BOOTTIME, flags)?;
        Ok(Self { fd })
    }

    /// Sets it to a moment of [`boottime_ms`], at once if that has passed; replaces what was set.
    pub fn set_at(&self, boottime_ms: u64) -> io::Result<()> {
        // Zero would mean "not set" to the kernel.
        let moment = Duration::from_millis(boottime_ms.max(1));
        let once = Expiration::OneShot(moment.into());
        Ok(self.fd.set(once, TimerSetTimeFlags::TFD_TIMER_ABSTIME)?)
    }

    /// It will not go off.
    pub fn unset(&self) -> io::Result<()> {
        Ok(self.fd.unset()?)
    }

    /// Whether it went off since the last call; then it is no longer readable.
    pub fn take(&self) -> io::Result<bool> {
        match self.fd.wait() {
            Ok(()) => Ok(true),
            Err(Errno::EAGAIN) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Ends this process by SIGKILL after a while, unless that is put off: also where somebody has stopped it by then.
///
/// It runs on a clock that a sleeping machine stops, so that the process can act first when the machine wakes.
#[derive(Debug)]
pub struct LastResort {
    timer: nix::sys::timer::Timer,
}

impl LastResort {
    /// Nothing is set.
    pub fn new() -> io::Result<Self> {
        let kill = SigevNotify::SigevSignal {
            signal: Signal::SIGKILL,
            si_value: 0,
        };
        let timer = nix::sys::timer::Timer::new(ClockId::CLOCK_MONOTONIC, SigEvent::new(kill))?;
        Ok(Self { timer })
    }

    /// Sets it so many milliseconds ahead, or to never; replaces what was set.
    pub fn set(&mut self, ahead_ms: Option<u64>) -> io::Result<()> {
        // Zero means "not set" to the kernel.
        let ahead = Duration::from_millis(ahead_ms.map_or(0, |ms| ms.max(1)));
        let once = Expiration::OneShot(ahead.into());
        Ok(self.timer.set(once, TimerSetTimeFlags::empty())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    #[test]
    fn clocks_run_and_timers_go_off() {
        let before = boottime_ms();
        assert!(wall_ms() > 1_700_000_000_000);
        let timer = Timer::new().unwrap();
        assert!(!timer.take().unwrap());
        timer.set_at(before + 20).unwrap();
        let mut fds = [PollFd::new(timer.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut fds, PollTimeout::from(5000_u16)), Ok(1));
        assert!(boottime_ms() >= before + 20);
        assert!(timer.take().unwrap() && !timer.take().unwrap());
        timer.set_at(0).unwrap();
        assert_eq!(poll(&mut fds, PollTimeout::from(5000_u16)), Ok(1));
        timer.unset().unwrap();
        assert!(!timer.take().unwrap());
    }

    #[test]
    fn a_last_resort_that_is_put_off_or_unset_does_nothing() {
        // That it does something otherwise is seen where a shepherd is stopped (tests/it/silence.rs).
        let mut resort = LastResort::new().unwrap();
        resort.set(Some(50)).unwrap();
        resort.set(Some(3_600_000)).unwrap();
        resort.set(None).unwrap();
        let timer = Timer::new().unwrap();
        timer.set_at(boottime_ms() + 100).unwrap();
        let mut fds = [PollFd::new(timer.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut fds, PollTimeout::from(5000_u16)), Ok(1));
    }
}
