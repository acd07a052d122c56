//! Ends of elements in columns: what a million no-op tasks cost is decided here.
//!
//! ```text
//!   version 1 | slot + 1 or 0 | granted (postcard) | count
//!   positions   runs of rising positions: (zigzag step from the end of the last run, length)
//!   outcomes    runs of equal (state, reason, exit, cancelled_by, restarts, started?): (length, postcard)
//!   ended       zigzag step in ms from the one before
//!   run time    zigzag ended - started, of the elements that started
//!   usage       cpu | zigzag step of the peak | read | written
//! ```
//! All numbers are varints, so an element that did nothing much costs seven to nine bytes and a row about forty.
//! The order of the ends is kept. Every element has at least [`BYTES_MIN`] bytes of its own, which bounds what a
//! decoder allocates by what it was given.

use super::record::{RecordError, body, encode_into};
use crate::model::history::{ElementRow, Granted, NeverStarted};
use crate::model::ids::SlotId;
use crate::model::index_set::IndexSet;
use crate::model::job::{ElementEnd, ExitStatus, JobState, Reason, Usage};
use crate::model::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

const WHAT: &str = "element row";
/// The end, cpu, peak, read and written of an element take a byte each at least.
const BYTES_MIN: usize = 5;
/// Reasons may carry a text, which a run shares and its elements do not: bytes of text one row may unfold to.
const TEXT_MAX: usize = 64 << 20;

/// What neighbours usually have in common.
#[derive(Serialize, Deserialize, PartialEq)]
struct Outcome<'a> {
    state: JobState,
    reason: Cow<'a, Reason>,
    exit: ExitStatus,
    cancelled_by: Option<u32>,
    restarts: u32,
    started: bool,
}

impl<'a> Outcome<'a> {
    fn of(end: &'a ElementEnd) -> Self {
        Outcome {
            state: end.state,
            reason: Cow::Borrowed(&end.reason),
            exit: end.exit,
            cancelled_by: end.cancelled_by,
            restarts: end.restarts,
            started: end.started.is_some(),
        }
    }
}

/// Packs one row.
pub fn encode_element_row(buffer: &mut Vec<u8>, row: &ElementRow) {
    encode_into(buffer, &row.slot.map_or(0, |slot| u64::from(slot.0) + 1));
    put_postcard(buffer, &*row.granted);
    put_postcard(buffer, &row.never_started);
    put(buffer, row.ends.len() as u64);
    put_positions(buffer, &row.ends);
    for run in row.ends.chunk_by(|a, b| Outcome::of(a) == Outcome::of(b)) {
        put(buffer, run.len() as u64);
        put_postcard(buffer, &Outcome::of(&run[0]));
    }
    let mut before = 0;
    for end in &row.ends {
        put_step(buffer, &mut before, end.ended.0);
    }
    for end in &row.ends {
        if let Some(started) = end.started {
            put(buffer, zigzag(end.ended.0.wrapping_sub(started.0)));
        }
    }
    row.ends
        .iter()
        .for_each(|end| put(buffer, end.usage.cpu_ms));
    let mut before = 0;
    for end in &row.ends {
        put_step(buffer, &mut before, end.usage.max_rss_kib.cast_signed());
    }
    row.ends
        .iter()
        .for_each(|end| put(buffer, end.usage.read_bytes));
    row.ends
        .iter()
        .for_each(|end| put(buffer, end.usage.write_bytes));
}

fn put_positions(buffer: &mut Vec<u8>, ends: &[ElementEnd]) {
    let mut expected = 0_i64;
    for run in ends.chunk_by(|a, b| a.position.checked_add(1) == Some(b.position)) {
        let start = i64::from(run[0].position);
        put(buffer, zigzag(start - expected));
        put(buffer, run.len() as u64);
        expected = start + i64::try_from(run.len()).expect("a row fits into memory");
    }
}

/// Unpacks one row.
pub fn decode_element_row(bytes: &[u8]) -> Result<ElementRow, RecordError> {
    let mut reader = Reader(body(bytes)?);
    let Head {
        slot,
        granted,
        never_started,
        count,
    } = head(&mut reader)?;
    let mut ends: Vec<ElementEnd> = Vec::with_capacity(count);
    let mut positions = Vec::new();
    position_runs(&mut reader, count, |start, length| {
        positions.push((start, length))
    })?;
    let mut positions = positions
        .into_iter()
        .flat_map(|(start, length)| (0..length).map(move |i| start + i));
    outcome_runs(&mut reader, count, |outcome, length| {
        for position in positions.by_ref().take(length) {
            ends.push(ElementEnd {
                position,
                state: outcome.state,
                reason: outcome.reason.as_ref().clone(),
                exit: outcome.exit,
                cancelled_by: outcome.cancelled_by,
                started: outcome.started.then_some(Timestamp(0)),
                ended: Timestamp(0),
                usage: Usage::default(),
                restarts: outcome.restarts,
            });
        }
    })?;
    let mut before = 0;
    for end in &mut ends {
        end.ended = Timestamp(reader.step(&mut before)?);
    }
    for end in &mut ends {
        if end.started.is_some() {
            end.started = Some(Timestamp(
                end.ended.0.wrapping_sub(unzigzag(reader.number()?)),
            ));
        }
    }
    for end in &mut ends {
        end.usage.cpu_ms = reader.number()?;
    }
    let mut before = 0;
    for end in &mut ends {
        end.usage.max_rss_kib = reader.step(&mut before)?.cast_unsigned();
    }
    for end in &mut ends {
        end.usage.read_bytes = reader.number()?;
    }
    for end in &mut ends {
        end.usage.write_bytes = reader.number()?;
    }
    if reader.0.is_empty() {
        Ok(ElementRow {
            slot,
            granted: Arc::new(granted),
            ends,
            never_started,
        })
    } else {
        Err(RecordError::malformed(WHAT, "bytes behind its end"))
    }
}

/// Whether the row holds the end of this position; reads the first column only.
pub fn holds_position(bytes: &[u8], position: u32) -> Result<bool, RecordError> {
    reaches_into(bytes, &(position..position.saturating_add(1)))
}

/// Whether the row holds the end of one of these positions; reads the first column only.
pub(super) fn reaches_into(bytes: &[u8], positions: &Range<u32>) -> Result<bool, RecordError> {
    let mut reader = Reader(body(bytes)?);
    let Head {
        never_started,
        count,
        ..
    } = head(&mut reader)?;
    let overlaps = |start: u32, end: u32| start < positions.end && positions.start < end;
    let mut found = never_started.is_some_and(|never| {
        let runs = never.positions.runs();
        runs.iter().any(|(start, end)| overlaps(*start, *end))
    });
    position_runs(&mut reader, count, |start, length| {
        found |= overlaps(start, start.saturating_add(length));
    })?;
    Ok(found)
}

/// Adds the positions that ended otherwise than COMPLETED; reads the first two columns only.
pub fn collect_unsuccessful(bytes: &[u8], into: &mut IndexSet) -> Result<(), RecordError> {
    let mut reader = Reader(body(bytes)?);
    let Head {
        never_started,
        count,
        ..
    } = head(&mut reader)?;
    if let Some(never) = never_started {
        into.union_with(&never.positions);
    }
    let mut runs = Vec::new();
    position_runs(&mut reader, count, |start, length| {
        runs.push((start, length))
    })?;
    let mut runs = runs.into_iter();
    let (mut start, mut left) = (0, 0);
    outcome_runs(&mut reader, count, |outcome, mut length| {
        while length > 0 {
            if left == 0 {
                (start, left) = runs
                    .next()
                    .expect("both columns were checked to hold `count` elements");
            }
            let part = left.min(u32::try_from(length).unwrap_or(u32::MAX));
            if outcome.state != JobState::Completed {
                into.insert_range(start, start + part);
            }
            start += part;
            left -= part;
            length -= part as usize;
        }
    })
}

/// What stands before the columns.
struct Head {
    slot: Option<SlotId>,
    granted: Granted,
    never_started: Option<NeverStarted>,
    count: usize,
}

fn head(reader: &mut Reader<'_>) -> Result<Head, RecordError> {
    let slot = match reader.number()? {
        0 => None,
        n => {
            Some(SlotId(u32::try_from(n - 1).map_err(|_| {
                RecordError::malformed(WHAT, "slot out of range")
            })?))
        }
    };
    let granted = reader.postcard()?;
    let never_started = reader.postcard()?;
    let count = reader.number()?;
    match usize::try_from(count) {
        Ok(count) if count <= reader.0.len() / BYTES_MIN => Ok(Head {
            slot,
            granted,
            never_started,
            count,
        }),
        _ => Err(RecordError::malformed(
            WHAT,
            format_args!("{count} ends in {} bytes", reader.0.len()),
        )),
    }
}

/// Calls with (start, length) of each run; together they are exactly `count` positions below `u32::MAX`.
fn position_runs(
    reader: &mut Reader<'_>,
    count: usize,
    mut each: impl FnMut(u32, u32),
) -> Result<(), RecordError> {
    let (mut expected, mut left) = (0_i64, count as u64);
    while left > 0 {
        let start = expected.wrapping_add(unzigzag(reader.number()?));
        let length = reader.number()?;
        let first = u32::try_from(start)
            .map_err(|_| RecordError::malformed(WHAT, "position out of range"))?;
        let fits = u32::try_from(length)
            .ok()
            .filter(|length| first.checked_add(*length).is_some());
        match fits {
            Some(run) if run > 0 && length <= left => each(first, run),
            _ => {
                return Err(RecordError::malformed(
                    WHAT,
                    "run of positions out of range",
                ));
            }
        }
        left -= length;
        expected = start + i64::from(fits.unwrap_or(0));
    }
    Ok(())
}

/// Calls with each run of equal outcomes; together they are exactly `count`.
fn outcome_runs(
    reader: &mut Reader<'_>,
    count: usize,
    mut each: impl FnMut(Outcome<'static>, usize),
) -> Result<(), RecordError> {
    let (mut left, mut text) = (count, 0_usize);
    while left > 0 {
        let length = usize::try_from(reader.number()?).unwrap_or(usize::MAX);
        if length == 0 || length > left {
            return Err(RecordError::malformed(WHAT, "run of outcomes out of range"));
        }
        let outcome: Outcome<'static> = reader.postcard()?;
        text = text.saturating_add(
            outcome
                .reason
                .detail()
                .map_or(0, |text| text.len())
                .saturating_mul(length),
        );
        if text > TEXT_MAX {
            return Err(RecordError::malformed(
                WHAT,
                "reasons unfold to too much text",
            ));
        }
        each(outcome, length);
        left -= length;
    }
    Ok(())
}

fn put(buffer: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        buffer.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    buffer.push(number.to_le_bytes()[0]);
}

fn put_step(buffer: &mut Vec<u8>, before: &mut i64, value: i64) {
    put(buffer, zigzag(value.wrapping_sub(*before)));
    *before = value;
}

fn put_postcard<T: Serialize>(buffer: &mut Vec<u8>, value: &T) {
    let taken = std::mem::take(buffer);
    *buffer = postcard::to_extend(value, taken).expect("writing into memory cannot fail");
}

fn zigzag(n: i64) -> u64 {
    ((n << 1) ^ (n >> 63)).cast_unsigned()
}

fn unzigzag(n: u64) -> i64 {
    (n >> 1).cast_signed() ^ -(n & 1).cast_signed()
}

/// What is left to read.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn number(&mut self) -> Result<u64, RecordError> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self
                .0
                .split_first()
                .ok_or_else(|| RecordError::malformed(WHAT, "cut short"))?;
            self.0 = rest;
            if shift == 63 && byte > 1 {
                break;
            }
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(RecordError::malformed(WHAT, "number out of range"))
    }

    fn step(&mut self, before: &mut i64) -> Result<i64, RecordError> {
        *before = before.wrapping_add(unzigzag(self.number()?));
        Ok(*before)
    }

    fn postcard<T: serde::de::DeserializeOwned>(&mut self) -> Result<T, RecordError> {
        let (value, rest) =
            postcard::take_from_bytes(self.0).map_err(|e| RecordError::malformed(WHAT, e))?;
        self.0 = rest;
        Ok(value)
    }
}

#[cfg(test)]
mod tests;
