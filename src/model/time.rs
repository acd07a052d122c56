//! Points in time and spans of it, as the controller counts them and as Slurm's users write them.
//!
//! Nothing here reads a clock: whoever needs "now" or a time zone is given one.

mod begin;

use std::fmt;

use serde::{Deserialize, Serialize};

use super::text::{excerpt, number};
pub use begin::{parse_begin, parse_when};

/// The longest text that is looked at as a time.
const MAX_TEXT_BYTES: usize = 64;
/// The longest `strftime` format that is followed.
const MAX_FORMAT_BYTES: usize = 256;
const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// A point in time: milliseconds since 1970 by the controller's clock.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The point that lies so many whole seconds after 1970.
    pub fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1000))
    }

    /// The whole seconds since 1970, rounded down.
    pub fn seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// The point so many milliseconds later, or earlier where negative; it stops at the ends of the range.
    #[must_use]
    pub fn plus_ms(self, ms: i64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// The milliseconds from `earlier` to this point; negative where `earlier` is in fact later.
    pub fn minus(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    /// RFC 3339 in whole seconds with the zone's offset: `2026-01-31T12:00:00+01:00`.
    pub fn to_rfc3339(self, zone: &jiff::tz::TimeZone) -> String {
        self.strftime(zone, "%Y-%m-%dT%H:%M:%S%:z")
            .unwrap_or_else(|_| self.to_string())
    }

    /// The local time without an offset, as Slurm's tables show it: `2026-01-31T12:00:00`.
    pub fn to_local(self, zone: &jiff::tz::TimeZone) -> String {
        self.strftime(zone, "%Y-%m-%dT%H:%M:%S")
            .unwrap_or_else(|_| self.to_string())
    }

    /// The local time by a `strftime` format, as `SLURM_TIME_FORMAT` gives one.
    pub fn strftime(self, zone: &jiff::tz::TimeZone, format: &str) -> Result<String, TimeError> {
        let bad = || TimeError::BadFormat {
            format: excerpt(format),
        };
        if format.len() > MAX_FORMAT_BYTES {
            return Err(bad());
        }
        let local = self.calendar().to_zoned(zone.clone());
        jiff::fmt::strtime::format(format, &local).map_err(|_| bad())
    }

    /// The same whole second in the calendar's terms; years beyond 9999 become the calendar's end.
    fn calendar(self) -> jiff::Timestamp {
        let end = if self.0 < 0 {
            jiff::Timestamp::MIN
        } else {
            jiff::Timestamp::MAX
        };
        jiff::Timestamp::from_second(self.seconds()).unwrap_or(end)
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC and whole seconds: `2026-01-31T12:00:00Z`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:.0}", self.calendar())
    }
}

/// Why a text is not a time or a time limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TimeError {
    /// None of the spellings of a time limit.
    #[error(
        "\"{text}\" is not a time limit: write minutes, min:sec, h:m:s, d-h, d-h:m, d-h:m:s or UNLIMITED, such as 1:30:00"
    )]
    NotALimit {
        /// The offending text.
        text: String,
    },
    /// A time limit beyond what is counted.
    #[error(
        "time limit \"{text}\" is more than {} seconds: write less, or UNLIMITED",
        u32::MAX
    )]
    LimitTooLong {
        /// The offending text.
        text: String,
    },
    /// None of the spellings of a point in time.
    #[error(
        "\"{text}\" is not a time: write HH:MM, MM/DD/YY, YYYY-MM-DDTHH:MM:SS, now+2hours, midnight, noon, tomorrow or uts<seconds>"
    )]
    NotATime {
        /// The offending text.
        text: String,
    },
    /// Well written, but no such day or hour exists.
    #[error("time \"{text}\" is not in the calendar: check the month, the day and the hour")]
    NotInCalendar {
        /// The offending text.
        text: String,
    },
    /// A `strftime` format that cannot be followed.
    #[error(
        "time format \"{format}\" is not understood: use strftime conversions such as %Y-%m-%dT%H:%M:%S"
    )]
    BadFormat {
        /// The offending format.
        format: String,
    },
}

/// Reads a time limit in seconds; none means that there is no limit (`0`, `UNLIMITED`, `INFINITE`).
pub fn parse_time_limit(text: &str) -> Result<Option<u32>, TimeError> {
    let trimmed = text.trim();
    if trimmed.eq_ignore_ascii_case("UNLIMITED") || trimmed.eq_ignore_ascii_case("INFINITE") {
        return Ok(None);
    }
    let not_a_limit = || TimeError::NotALimit {
        text: excerpt(text),
    };
    if trimmed.len() > MAX_TEXT_BYTES {
        return Err(not_a_limit());
    }
    let (days, clock) = match trimmed.split_once('-') {
        Some((days, clock)) => (Some(days), clock),
        None => (None, trimmed),
    };
    let fields: Vec<&str> = clock.split(':').collect();
    // What the first field counts depends on whether days come before it and how many follow.
    let units: &[u64] = match (days.is_some(), fields.len()) {
        (false, 1) => &[MINUTE],
        (false, 2) => &[MINUTE, 1],
        (false | true, 3) => &[HOUR, MINUTE, 1],
        (true, 1) => &[HOUR],
        (true, 2) => &[HOUR, MINUTE],
        _ => return Err(not_a_limit()),
    };
    let mut seconds: u64 = 0;
    let amounts = days
        .map(|days| (days, DAY))
        .into_iter()
        .chain(fields.into_iter().zip(units.iter().copied()));
    for (field, unit) in amounts {
        let amount: u64 = number(field).ok_or_else(not_a_limit)?;
        seconds = seconds.saturating_add(amount.saturating_mul(unit));
    }
    let seconds = u32::try_from(seconds).map_err(|_| TimeError::LimitTooLong {
        text: excerpt(text),
    })?;
    Ok((seconds != 0).then_some(seconds))
}

/// Writes a time limit: `[D-]HH:MM:SS`, or `UNLIMITED` where there is none.
pub fn format_time_limit(limit_s: Option<u32>) -> String {
    limit_s.map_or_else(
        || "UNLIMITED".to_string(),
        |seconds| format_duration(u64::from(seconds)),
    )
}

/// Writes a span as `[D-]HH:MM:SS`.
pub fn format_duration(seconds: u64) -> String {
    let (days, hours, minutes, rest) = clock_fields(seconds);
    if days > 0 {
        format!("{days}-{hours:02}:{minutes:02}:{rest:02}")
    } else {
        format!("{hours:02}:{minutes:02}:{rest:02}")
    }
}

/// Writes a span as the queue does, as short as it can be: `0:00`, `1:02:03`, `1-02:03:04`.
pub fn format_elapsed(seconds: u64) -> String {
    let (days, hours, minutes, rest) = clock_fields(seconds);
    match (days, hours) {
        (0, 0) => format!("{minutes}:{rest:02}"),
        (0, _) => format!("{hours}:{minutes:02}:{rest:02}"),
        _ => format!("{days}-{hours:02}:{minutes:02}:{rest:02}"),
    }
}

fn clock_fields(seconds: u64) -> (u64, u64, u64, u64) {
    (
        seconds / DAY,
        seconds % DAY / HOUR,
        seconds % HOUR / MINUTE,
        seconds % MINUTE,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::tz::{Offset, TimeZone};
    use proptest::prelude::*;

    #[test]
    fn limits() {
        let table = [
            ("10", Some(600)),
            ("0:30", Some(30)),
            ("90:00", Some(5400)),
            ("0:5:0", Some(300)),
            ("2:00:00", Some(7200)),
            ("1-0", Some(86_400)),
            ("1-2", Some(93_600)),
            ("1-2:3", Some(93_780)),
            ("1-2:3:4", Some(93_784)),
            ("0-0:1", Some(60)),
            ("0", None),
            ("00:00:00", None),
            ("UNLIMITED", None),
            ("infinite", None),
            (" 5 ", Some(300)),
            ("71582788", Some(4_294_967_280)),
        ];
        for (text, seconds) in table {
            assert_eq!(parse_time_limit(text), Ok(seconds), "{text}");
        }
    }

    #[test]
    fn limits_that_are_none() {
        for text in [
            "",
            "-",
            "1-",
            "-1",
            "1:",
            ":1",
            "1:2:3:4",
            "1-2-3",
            "1-2:3:4:5",
            "1.5",
            "1h",
            "+1",
            "1 2",
        ] {
            assert!(
                matches!(parse_time_limit(text), Err(TimeError::NotALimit { .. })),
                "{text}"
            );
        }
        for text in [
            "71582789",
            "99999999999999999999",
            "49711-0",
            "18446744073709551615-0:0:1",
        ] {
            assert!(parse_time_limit(text).is_err(), "{text}");
        }
    }

    #[test]
    fn spans() {
        let table = [
            (0, "00:00:00", "0:00"),
            (59, "00:00:59", "0:59"),
            (725, "00:12:05", "12:05"),
            (3723, "01:02:03", "1:02:03"),
            (93_784, "1-02:03:04", "1-02:03:04"),
        ];
        for (seconds, duration, elapsed) in table {
            assert_eq!(format_duration(seconds), duration);
            assert_eq!(format_elapsed(seconds), elapsed);
        }
        assert_eq!(format_time_limit(None), "UNLIMITED");
    }

    #[test]
    fn points() {
        let noon = Timestamp(1_769_860_800_999);
        let zone = TimeZone::fixed(Offset::constant(1));
        assert_eq!(noon.to_string(), "2026-01-31T12:00:00Z");
        assert_eq!(noon.to_rfc3339(&zone), "2026-01-31T13:00:00+01:00");
        assert_eq!(noon.to_local(&zone), "2026-01-31T13:00:00");
        assert_eq!(noon.strftime(&zone, "%s").as_deref(), Ok("1769860800"));
        assert!(noon.strftime(&zone, "%").is_err());
        assert_eq!(Timestamp(-1).to_string(), "1969-12-31T23:59:59Z");
        assert_eq!(Timestamp(5).minus(Timestamp(7)), -2);
        assert_eq!(Timestamp(i64::MAX).plus_ms(1), Timestamp(i64::MAX));
    }

    proptest! {
        #[test]
        fn limits_round_trip(limit in prop::option::of(1_u32..)) {
            prop_assert_eq!(parse_time_limit(&format_time_limit(limit)), Ok(limit));
        }

        #[test]
        fn never_panics(text in any::<String>(), hostile in "[0-9:-]{0,30}", ms in any::<i64>(), other in any::<i64>()) {
            let _ = parse_time_limit(&text);
            let _ = parse_time_limit(&hostile);
            let zone = TimeZone::fixed(Offset::constant(14));
            let point = Timestamp(ms).plus_ms(other);
            let _ = (point.to_string(), point.to_rfc3339(&zone), point.to_local(&zone), point.minus(Timestamp(other)));
            let _ = point.strftime(&zone, &text);
        }
    }
}
