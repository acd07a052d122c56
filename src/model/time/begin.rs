//! Points in time as people write them: `16:00`, `01/31/26`, `2026-01-31T12:00`, `now+2hours`, `tomorrow`.
//!
//! What is left out of such a text is filled from now. `parse_begin` fills it so that the result lies ahead,
//! for starting jobs; `parse_when` keeps to today and this year, for asking about the past.

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;

use super::{DAY, HOUR, MAX_TEXT_BYTES, MINUTE, TimeError, Timestamp};
use crate::model::text::{excerpt, number};

/// Which way an incomplete time is completed when it has already passed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Roll {
    /// To the next day, or the next year.
    Forward,
    /// Not at all.
    Stay,
}

/// Reads when a job may begin: an hour or a day of the year that has passed means the next one.
pub fn parse_begin(text: &str, now: Timestamp, zone: &TimeZone) -> Result<Timestamp, TimeError> {
    parse(text, now, zone, Roll::Forward)
}

/// Reads a bound of a search in the past: an hour means today's and a day this year's, passed or not.
pub fn parse_when(text: &str, now: Timestamp, zone: &TimeZone) -> Result<Timestamp, TimeError> {
    parse(text, now, zone, Roll::Stay)
}

fn parse(text: &str, now: Timestamp, zone: &TimeZone, roll: Roll) -> Result<Timestamp, TimeError> {
    let failed = |fault| match fault {
        Fault::Spelling => TimeError::NotATime {
            text: excerpt(text),
        },
        Fault::Calendar => TimeError::NotInCalendar {
            text: excerpt(text),
        },
    };
    if text.len() > MAX_TEXT_BYTES {
        return Err(failed(Fault::Spelling));
    }
    let wanted = text.trim().to_ascii_lowercase();
    let point = match relative_to_now(&wanted, now) {
        Some(point) => point,
        None => civil(&wanted, now, zone, roll).and_then(|civil| to_timestamp(civil, zone)),
    };
    point.map_err(failed)
}

/// What is wrong with a text, before the text itself is put into the error.
#[derive(Debug)]
enum Fault {
    Spelling,
    Calendar,
}

fn to_timestamp(civil: DateTime, zone: &TimeZone) -> Result<Timestamp, Fault> {
    let point = zone.to_timestamp(civil).map_err(|_| Fault::Calendar)?;
    Ok(Timestamp(point.as_millisecond()))
}

/// `now`, `now+N[unit]`, `now-N[unit]` and `uts<seconds>`; none for every other spelling.
fn relative_to_now(wanted: &str, now: Timestamp) -> Option<Result<Timestamp, Fault>> {
    if let Some(seconds) = wanted.strip_prefix("uts") {
        let seconds =
            number::<i64>(seconds).filter(|&seconds| seconds <= jiff::Timestamp::MAX.as_second());
        return Some(seconds.map(Timestamp::from_seconds).ok_or(Fault::Spelling));
    }
    let offset = wanted.strip_prefix("now")?.trim();
    if offset.is_empty() {
        return Some(Ok(now));
    }
    let shifted = || {
        let (sign, span) = match offset.strip_prefix('+') {
            Some(span) => (1, span),
            None => (-1, offset.strip_prefix('-')?),
        };
        let span = span.trim();
        let unit_start = span
            .find(|character: char| !character.is_ascii_digit())
            .unwrap_or(span.len());
        let count: u64 = number(&span[..unit_start])?;
        let seconds = count.checked_mul(unit_seconds(span[unit_start..].trim())?)?;
        let ms = i64::try_from(seconds).ok()?.checked_mul(1000)?;
        now.0.checked_add(sign * ms).map(Timestamp)
    };
    Some(shifted().ok_or(Fault::Spelling))
}

/// The seconds of a unit, by any beginning of its name; no unit means seconds.
fn unit_seconds(unit: &str) -> Option<u64> {
    let units = [
        ("seconds", 1),
        ("minutes", MINUTE),
        ("hours", HOUR),
        ("days", DAY),
        ("weeks", 7 * DAY),
    ];
    units
        .into_iter()
        .find(|(name, _)| name.starts_with(unit))
        .map(|(_, seconds)| seconds)
}

/// Every spelling that names a day, an hour or both.
fn civil(wanted: &str, now: Timestamp, zone: &TimeZone, roll: Roll) -> Result<DateTime, Fault> {
    let here_and_now = zone.to_datetime(now.calendar());
    if let Some(clock) = parse_clock(wanted)? {
        let today = here_and_now.date().to_datetime(clock);
        return if roll == Roll::Forward && today < here_and_now {
            next_day(today)
        } else {
            Ok(today)
        };
    }
    for (end, separator) in date_ends(wanted) {
        let Some(date) = parse_date(&wanted[..end], here_and_now.date(), roll)? else {
            continue;
        };
        let clock = match separator {
            0 => Time::midnight(),
            length => parse_clock(wanted[end + length..].trim())?.ok_or(Fault::Spelling)?,
        };
        return Ok(date.to_datetime(clock));
    }
    Err(Fault::Spelling)
}

fn next_day(day: DateTime) -> Result<DateTime, Fault> {
    let date = day.date().tomorrow().map_err(|_| Fault::Calendar)?;
    Ok(date.to_datetime(day.time()))
}

/// Where the date may end, longest first, and how long the separator before the hour is (`t`, `-` or a blank).
fn date_ends(wanted: &str) -> impl Iterator<Item = (usize, usize)> {
    let separators = wanted
        .char_indices()
        .rev()
        .filter(|(_, character)| matches!(character, 't' | '-' | ' '));
    std::iter::once((wanted.len(), 0)).chain(separators.map(|(position, _)| (position, 1)))
}

/// `HH:MM[:SS]` or one of the hours that have a name; none where the text is something else.
fn parse_clock(text: &str) -> Result<Option<Time>, Fault> {
    let named = match text {
        "midnight" => Some(0),
        "noon" => Some(12),
        "teatime" => Some(16),
        _ => None,
    };
    if let Some(hour) = named {
        return clock(hour, 0, 0).map(Some);
    }
    let fields: Option<Vec<i8>> = text.split(':').map(short_number).collect();
    match fields.as_deref() {
        Some(&[hour, minute]) => clock(hour, minute, 0).map(Some),
        Some(&[hour, minute, second]) => clock(hour, minute, second).map(Some),
        _ => Ok(None),
    }
}

fn clock(hour: i8, minute: i8, second: i8) -> Result<Time, Fault> {
    Time::new(hour, minute, second, 0).map_err(|_| Fault::Calendar)
}

/// A number of one or two digits.
fn short_number(text: &str) -> Option<i8> {
    (text.len() <= 2).then(|| number(text)).flatten()
}

/// `today`, `tomorrow`, `YYYY-MM-DD`, `MM/DD[/YY]` or `MMDDYY`; none where the text is something else.
fn parse_date(text: &str, today: Date, roll: Roll) -> Result<Option<Date>, Fault> {
    let Some((year, month, day)) = date_fields(text, today)? else {
        return Ok(None);
    };
    let in_year = |year| Date::new(year, month, day).map_err(|_| Fault::Calendar);
    match year {
        Some(year) => in_year(year).map(Some),
        None => {
            let this_year = in_year(today.year())?;
            let passed = roll == Roll::Forward && this_year < today;
            if passed {
                in_year(today.year() + 1).map(Some)
            } else {
                Ok(Some(this_year))
            }
        }
    }
}

/// The year, where it is written, the month and the day.
fn date_fields(text: &str, today: Date) -> Result<Option<(Option<i16>, i8, i8)>, Fault> {
    let of_date = |date: Date| Some((Some(date.year()), date.month(), date.day()));
    match text {
        "today" => return Ok(of_date(today)),
        "tomorrow" => return today.tomorrow().map(of_date).map_err(|_| Fault::Calendar),
        _ => {}
    }
    let fields = || {
        if text.len() == 6 && text.is_ascii() {
            let (month, day, year) = (&text[..2], &text[2..4], &text[4..]);
            if let (Some(month), Some(day), Some(year)) =
                (short_number(month), short_number(day), short_number(year))
            {
                return Some((Some(2000 + i16::from(year)), month, day));
            }
        }
        if let Some((month, rest)) = text.split_once('/') {
            let (day, year) = rest
                .split_once('/')
                .map_or((rest, None), |(day, year)| (day, Some(year)));
            let year = match year {
                Some(year) if year.len() == 4 => Some(number(year)?),
                Some(year) => Some(2000 + i16::from(short_number(year)?)),
                None => None,
            };
            return Some((year, short_number(month)?, short_number(day)?));
        }
        let (year, rest) = text.split_once('-')?;
        let (month, day) = rest.split_once('-')?;
        let year = (year.len() == 4).then(|| number(year)).flatten()?;
        Some((Some(year), short_number(month)?, short_number(day)?))
    };
    Ok(fields())
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::tz::Offset;
    use proptest::prelude::*;

    /// Saturday 2026-01-31, 12:00:00 in a zone one hour ahead of UTC.
    const NOW: Timestamp = Timestamp(1_769_857_200_000);

    fn zone() -> TimeZone {
        TimeZone::fixed(Offset::constant(1))
    }

    #[test]
    fn begins() {
        let table = [
            ("now", "2026-01-31T12:00:00"),
            ("now+3", "2026-01-31T12:00:03"),
            ("now + 10min", "2026-01-31T12:10:00"),
            ("NOW+1hour", "2026-01-31T13:00:00"),
            ("now+2days", "2026-02-02T12:00:00"),
            ("now+1week", "2026-02-07T12:00:00"),
            ("now-90seconds", "2026-01-31T11:58:30"),
            ("16:00", "2026-01-31T16:00:00"),
            ("9:5", "2026-02-01T09:05:00"),
            ("12:00:00", "2026-01-31T12:00:00"),
            ("11:59:59", "2026-02-01T11:59:59"),
            ("midnight", "2026-02-01T00:00:00"),
            ("noon", "2026-01-31T12:00:00"),
            ("teatime", "2026-01-31T16:00:00"),
            ("today", "2026-01-31T00:00:00"),
            ("tomorrow", "2026-02-01T00:00:00"),
            ("tomorrow noon", "2026-02-01T12:00:00"),
            ("tomorrowT08:30", "2026-02-01T08:30:00"),
            ("020326", "2026-02-03T00:00:00"),
            ("02/03", "2026-02-03T00:00:00"),
            ("1/30", "2027-01-30T00:00:00"),
            ("1/31", "2026-01-31T00:00:00"),
            ("1/30/26", "2026-01-30T00:00:00"),
            ("1/30/2026-08:00", "2026-01-30T08:00:00"),
            ("2026-02-03", "2026-02-03T00:00:00"),
            ("2026-02-03T10:00", "2026-02-03T10:00:00"),
            ("2026-02-03 10:00:01", "2026-02-03T10:00:01"),
            ("1970-01-01-00:00:01", "1970-01-01T00:00:01"),
            ("uts1769857200", "2026-01-31T12:00:00"),
        ];
        for (text, local) in table {
            let point = parse_begin(text, NOW, &zone()).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(point.to_local(&zone()), local, "{text}");
        }
    }

    #[test]
    fn searches_stay_in_today_and_this_year() {
        let table = [
            ("9:05", "2026-01-31T09:05:00"),
            ("1/30", "2026-01-30T00:00:00"),
            ("midnight", "2026-01-31T00:00:00"),
        ];
        for (text, local) in table {
            assert_eq!(
                parse_when(text, NOW, &zone()).unwrap().to_local(&zone()),
                local,
                "{text}"
            );
        }
    }

    #[test]
    fn not_times() {
        for text in [
            "",
            "soon",
            "now+",
            "now+1fortnight",
            "now*3",
            "now+-3",
            "10",
            "10:",
            "1:2:3:4",
            "2026-02",
            "26-02-03",
            "2026-02-03T",
            "2026-02-03T10",
            "uts",
            "uts-1",
            "now+99999999999999999999",
            "now+9223372036854775807weeks",
            "100:00",
            "é2/03/26",
            "uts99999999999999",
        ] {
            assert!(
                matches!(
                    parse_begin(text, NOW, &zone()),
                    Err(TimeError::NotATime { .. })
                ),
                "{text}"
            );
        }
        for text in ["24:00", "12:60", "2026-02-30", "13/01", "0/1", "023026"] {
            assert!(
                matches!(
                    parse_begin(text, NOW, &zone()),
                    Err(TimeError::NotInCalendar { .. })
                ),
                "{text}"
            );
        }
    }

    proptest! {
        #[test]
        fn never_panics(
            text in any::<String>(),
            hostile in "(now|uts|to|tomorrow|midnight)?[0-9tT:/ +-]{0,20}",
            now in any::<i64>(),
        ) {
            for text in [text, hostile] {
                let _ = parse_begin(&text, Timestamp(now), &zone());
                let _ = parse_when(&text, NOW, &zone());
            }
        }

        #[test]
        fn reads_back_its_own_local_time(seconds in 0_i64..10_000_000_000) {
            let point = Timestamp::from_seconds(seconds);
            prop_assert_eq!(parse_begin(&point.to_local(&zone()), NOW, &zone()), Ok(point));
        }
    }
}
