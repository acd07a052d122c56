//! Reports on their way to the controller: numbered, gathered, kept until acknowledged.
//!
//! Ends may wait [`GATHER_MS`] to travel together, because one commit of the controller costs the same for one
//! end and for sixty. A start is said after the same delay, and not at all when its end is said before.

use crate::model::index_set::IndexSet;
use crate::model::job::ElementEnd;
use crate::model::time::Timestamp;
use crate::wire::worker::{FromSlot, StepEnd};
use std::collections::VecDeque;

/// Longest time an end waits for company; milliseconds.
pub const GATHER_MS: u64 = 10;
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
    /// A start not yet said.
    started: Option<(u32, Timestamp)>,
    /// When what was gathered must leave.
    flush_at: Option<u64>,
    /// Ends in acknowledged reports.
    ends_acknowledged: u64,
    /// A start was said before: later ones may wait.
    said_start: bool,
}

impl Outbox {
    /// An element has started.
    pub(super) fn started(
        &mut self,
        now: u64,
        position: u32,
        at: Timestamp,
        out: &mut Vec<FromSlot>,
    ) {
        if self.said_start {
            self.started = Some((position, at));
            self.flush_at.get_or_insert(now + GATHER_MS);
        } else {
            self.said_start = true;
            out.push(FromSlot::Started { position, at });
        }
    }

    /// An element has ended; `more` follow, so this one may wait.
    pub(super) fn ended(&mut self, now: u64, end: ElementEnd, more: bool, out: &mut Vec<FromSlot>) {
        if self
            .started
            .is_some_and(|(position, _)| position == end.position)
        {
            self.started = None;
        }
        self.gathered.push(end);
        if !more || self.gathered.len() >= GATHER_MOST {
            self.flush(out);
        } else {
            self.flush_at.get_or_insert(now + GATHER_MS);
        }
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
        if self.flush_at.is_some_and(|at| at <= now) {
            self.flush(out);
        }
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

    /// Makes reports of what was gathered.
    pub(super) fn flush(&mut self, out: &mut Vec<FromSlot>) {
        self.flush_at = None;
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
        if let Some((position, at)) = self.started.take() {
            out.push(FromSlot::Started { position, at });
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
