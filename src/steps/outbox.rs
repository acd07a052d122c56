//! Reports on their way to the controller: numbered, gathered, kept until acknowledged.
//!
//! Ends may wait to travel together, because each report wakes an agent and the controller, and costs them the same for one
//! end and for sixty. They wait as long as nobody gains by their haste: not at all when the slot has nothing more to run,
//! [`GATHER_MS`] when it will soon want more. Ends of a slot that has enough are wanted by those alone who look on: they
//! leave at the next *tick*, which all slots of a machine have at the same moment, so that their agent wakes once for all
//! of them, or once they are [`GATHER_MOST`].
//!
//! The first start of a slot is said at once, further ones after [`GATHER_MS`], and not at all when their element has ended
//! by then. Plans are made of what has started and when, so they wait no longer, but in a slot that was given several short
//! elements ahead: there the controller counts on them to follow each other, and a start waits for the tick after the next.

use crate::model::index_set::IndexSet;
use crate::model::job::ElementEnd;
use crate::model::time::Timestamp;
use crate::wire::worker::{FromSlot, StepEnd};
use std::collections::VecDeque;

/// Longest time an end waits for company where it is wanted soon; milliseconds.
pub const GATHER_MS: u64 = 10;
/// Between two ticks, at which leaves what is not; milliseconds.
pub const TICK_MS: u64 = 100;
/// A slot that will have nothing left to run by then must be given more soon.
const SOON_US: u64 = 50_000;
/// A slot that has so many elements left, each shorter than a tick, says starts at ticks.
const AHEAD: u32 = 3;
/// A longer run time says no more of how long the next takes.
const TOOK_MAX_MS: u64 = 1_000_000;
/// Ends that are sent without waiting further.
pub const GATHER_MOST: usize = 64;
/// Most ends in one report, when many positions end in one stroke.
const REPORT_MOST: usize = 4096;

/// Reports of one slot.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// Number of the last report made.
    last: u64,
    /// Reports not acknowledged: number, ends in it, report.
    kept: VecDeque<(u64, u64, FromSlot)>,
    /// Ends not yet in a report.
    gathered: Vec<ElementEnd>,
    /// When the first of them was gathered.
    since: u64,
    /// A start not yet said, and when it will be.
    started: Option<(u32, Timestamp)>,
    start_due: u64,
    /// When what was gathered must leave.
    flush_at: Option<u64>,
    /// Ends in acknowledged reports.
    ends_acknowledged: u64,
    /// A start was said before: later ones may wait.
    said_start: bool,
    /// How long elements take here: a decaying mean, because on a busy machine some wait long for a processor and others
    /// follow at once.
    pace_us: Option<u64>,
    /// When this machine's ticks are, after each full [`TICK_MS`] of its clock.
    phase_ms: u64,
}

impl Outbox {
    /// With the ticks of this machine, which not all machines should have at once.
    pub(super) fn new(machine: &str) -> Self {
        let mixed = machine.bytes().fold(0, |mixed: u64, byte| {
            mixed.wrapping_mul(31).wrapping_add(u64::from(byte))
        });
        Outbox {
            phase_ms: mixed % TICK_MS,
            ..Outbox::default()
        }
    }

    /// The first tick after this moment.
    fn tick_after(&self, now: u64) -> u64 {
        let into = (now + TICK_MS - self.phase_ms) % TICK_MS;
        now + TICK_MS - into
    }

    /// An element has started, and so many are left to run in its slot.
    pub(super) fn started(
        &mut self,
        now: u64,
        (position, at): (u32, Timestamp),
        left: u32,
        out: &mut Vec<FromSlot>,
    ) {
        if self.said_start {
            let short = self.pace_us.is_some_and(|pace| pace < TICK_MS * 1000);
            self.started = Some((position, at));
            self.start_due = if short && left >= AHEAD {
                self.tick_after(now + TICK_MS)
            } else {
                now + GATHER_MS
            };
            self.wake_by(self.start_due);
        } else {
            self.said_start = true;
            out.push(FromSlot::Started { position, at });
        }
    }

    /// An element has ended, and so many are left to run in its slot.
    pub(super) fn ended(&mut self, now: u64, end: ElementEnd, left: u32, out: &mut Vec<FromSlot>) {
        if self
            .started
            .is_some_and(|(position, _)| position == end.position)
        {
            self.started = None;
        }
        let left_us = u64::from(left) * self.note_pace(&end);
        if self.gathered.is_empty() {
            self.since = now;
        }
        self.gathered.push(end);
        let at = match left {
            0 => now,
            _ if left_us <= SOON_US => self.since + GATHER_MS,
            _ => self.tick_after(self.since),
        };
        if at <= now || self.gathered.len() >= GATHER_MOST {
            self.flush(out);
        } else {
            self.wake_by(at);
        }
    }

    fn wake_by(&mut self, at: u64) {
        self.flush_at = Some(self.flush_at.map_or(at, |other| other.min(at)));
    }

    /// How long elements take, this one included; microseconds.
    fn note_pace(&mut self, end: &ElementEnd) -> u64 {
        let took_ms = end.started.map_or(0, |started| end.ended.minus(started));
        let took_ms = u64::try_from(took_ms).unwrap_or(0).min(TOOK_MAX_MS);
        let pace_us = match self.pace_us {
            Some(pace_us) => (pace_us * 7 + took_ms * 1000) / 8,
            None => took_ms * 1000,
        };
        self.pace_us = Some(pace_us);
        pace_us.max(1000)
    }

    /// Many elements ended in one stroke.
    pub(super) fn ended_together(&mut self, ends: Vec<ElementEnd>, out: &mut Vec<FromSlot>) {
        self.gathered.extend(ends);
        self.flush(out);
    }

    /// Positions were given back.
    pub(super) fn retracted(&mut self, positions: IndexSet, out: &mut Vec<FromSlot>) {
        // Ends first: the controller sees them in the order in which they happened.
        self.flush(out);
        let report = self.number();
        self.keep(report, 0, FromSlot::Retracted { report, positions }, out);
    }

    /// A step has ended.
    pub(super) fn step_ended(&mut self, end: StepEnd, out: &mut Vec<FromSlot>) {
        let report = self.number();
        self.keep(report, 0, FromSlot::StepEnded { report, end }, out);
    }

    /// Sends what is due.
    pub(super) fn on_time(&mut self, now: u64, out: &mut Vec<FromSlot>) {
        if self.flush_at.is_none_or(|at| at > now) {
            return;
        }
        if self.started.is_none() || self.start_due <= now {
            return self.flush(out);
        }
        self.say_ends(out);
        self.flush_at = Some(self.start_due);
    }

    /// When something will be due.
    pub(super) fn next_deadline(&self) -> Option<u64> {
        self.flush_at
    }

    /// The controller has everything up to `report`; the ends that are safe now, if that is news.
    pub(super) fn acknowledge(&mut self, report: u64) -> Option<u64> {
        let before = self.kept.len();
        while self
            .kept
            .front()
            .is_some_and(|(number, _, _)| *number <= report)
        {
            self.ends_acknowledged += self.kept.pop_front().map_or(0, |(_, ends, _)| ends);
        }
        (self.kept.len() < before).then_some(self.ends_acknowledged)
    }

    /// Everything unacknowledged, for a new connection.
    pub(super) fn unacknowledged(&self) -> impl Iterator<Item = &FromSlot> {
        self.kept.iter().map(|(_, _, report)| report)
    }

    /// Says all that was gathered.
    pub(super) fn flush(&mut self, out: &mut Vec<FromSlot>) {
        self.flush_at = None;
        self.say_ends(out);
        if let Some((position, at)) = self.started.take() {
            out.push(FromSlot::Started { position, at });
        }
    }

    /// Makes reports of the ends that were gathered.
    fn say_ends(&mut self, out: &mut Vec<FromSlot>) {
        let mut gathered = std::mem::take(&mut self.gathered);
        while !gathered.is_empty() {
            let rest = gathered.split_off(gathered.len().min(REPORT_MOST));
            let ends = std::mem::replace(&mut gathered, rest);
            let report = self.number();
            self.keep(
                report,
                ends.len() as u64,
                FromSlot::Ended { report, ends },
                out,
            );
        }
    }

    fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    fn keep(&mut self, number: u64, ends: u64, report: FromSlot, out: &mut Vec<FromSlot>) {
        out.push(report.clone());
        self.kept.push_back((number, ends, report));
    }
}
