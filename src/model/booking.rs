//! Reservations as people say them: `2 gpus fri 14:00-18:00`, `ws[1-2] tomorrow 9:00 3h weekly for ann,bob as course`.
//!
//! ```text
//!   WHAT WHEN [daily|weekly] [for USER,...] [as NAME]
//!   WHAT  2 gpus, 2 a100 gpus, 16 cpus, 3 nodes, ws[1-2]
//!   WHEN  [DAY] 14:00-18:00, [DAY] 14:00 4h, now 2h        DAY  today, tomorrow, fri, 2026-01-31
//! ```
//! A weekday is the next one at whose time the start still lies ahead; an end before its start is on the day after.

use super::hostlist;
use super::reservation::Repeat;
use super::text::excerpt;
use super::time::{Timestamp, parse_begin};
use jiff::civil::{Date, Time, Weekday};
use jiff::tz::TimeZone;

/// A reservation as it was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Booking {
    /// What is kept, as a setting of a reservation: key and value.
    pub what: (&'static str, String),
    /// When it begins.
    pub start: Timestamp,
    /// When it ends.
    pub end: Timestamp,
    /// How often it comes.
    pub repeat: Repeat,
    /// For whom; empty = for who says it.
    pub users: Vec<String>,
    /// Its name; `None` = nobody said one.
    pub name: Option<String>,
}

/// How it is said.
const FORM: &str =
    "say it as in: 2 gpus fri 14:00-18:00, ws[1-2] tomorrow 9:00 3h weekly for ann,bob as course";

/// Reads one.
///
/// # Errors
/// What is wrong with it.
pub fn parse(words: &[String], now: Timestamp, zone: &TimeZone) -> Result<Booking, String> {
    let mut words = words
        .iter()
        .flat_map(|word| word.split_whitespace())
        .peekable();
    let mut next = |what: &str| {
        words
            .next()
            .ok_or_else(|| format!("{what} is missing: {FORM}"))
    };
    let first = next("what is to be kept")?;
    let what = match first.parse::<u32>() {
        Ok(0) => return Err(format!("0 of something: {FORM}")),
        Ok(count) => {
            let unit = next("what it is so many of")?;
            match unit {
                "gpu" | "gpus" => ("gpus", count.to_string()),
                "cpu" | "cpus" | "cores" => ("cpus", count.to_string()),
                "node" | "nodes" => ("node-count", count.to_string()),
                kind => match next("gpus, behind their kind,")? {
                    "gpu" | "gpus" => ("gpus", format!("{kind}:{count}")),
                    _ => return Err(format!("{count} of what? {FORM}")),
                },
            }
        }
        Err(_) => {
            if matches!(first, "ls" | "rm" | "delete" | "del" | "create" | "cancel") {
                let there = "list, show, add, set, remove and calendar";
                return Err(format!("there is no `{first}`: there are {there}"));
            }
            hostlist::parse(first).map_err(|error| format!("{error}: {FORM}"))?;
            ("nodes", first.to_owned())
        }
    };
    let mut word = next("when it begins")?;
    let day = match Day::parse(word) {
        Some(day) => {
            word = next("at what time it begins")?;
            day
        }
        None => Day::Soon,
    };
    let (start, end) = if word == "now" {
        let length = length(next("for how long")?)?;
        (now, now.plus_ms(length))
    } else if let Some((from, to)) = word.split_once('-') {
        let start = day.at(clock(from)?, now, zone)?;
        let to = clock(to)?;
        let end = on_day_of(start, 0, to, zone)?;
        // Past midnight.
        let end = if end > start {
            end
        } else {
            on_day_of(start, 1, to, zone)?
        };
        (start, end)
    } else {
        let start = day.at(clock(word)?, now, zone)?;
        let word = next("for how long, or until when")?;
        if word.contains(':') {
            let word = excerpt(word);
            return Err(format!(
                "`{word}`: write an end as 14:00-{word}, a length as 4h"
            ));
        }
        (start, start.plus_ms(length(word)?))
    };
    let mut booking = Booking {
        what,
        start,
        end,
        repeat: Repeat::Once,
        users: Vec::new(),
        name: None,
    };
    while let Some(word) = words.next() {
        let mut value = || {
            words
                .next()
                .ok_or_else(|| format!("`{word}` of what? {FORM}"))
        };
        match word {
            "daily" => booking.repeat = Repeat::Daily,
            "weekly" => booking.repeat = Repeat::Weekly,
            "for" => {
                let users = value()?.split(',').filter(|user| !user.is_empty());
                booking.users.extend(users.map(str::to_owned));
            }
            "as" => booking.name = Some(value()?.to_owned()),
            other => return Err(format!("`{}` is not expected: {FORM}", excerpt(other))),
        }
    }
    Ok(booking)
}

/// A point in time: a weekday with its time (`fri14:00`), `+4h` after the start of something, or as for `--begin`.
///
/// # Errors
/// What is wrong with it.
pub fn parse_point(
    text: &str,
    start: Option<Timestamp>,
    now: Timestamp,
    zone: &TimeZone,
) -> Result<Timestamp, String> {
    if let Ok(point) = text.parse::<jiff::Timestamp>() {
        return Ok(Timestamp(point.as_millisecond()));
    }
    if let Some(span) = text.strip_prefix('+') {
        let length = length(span)?;
        return Ok(start.unwrap_or(now).plus_ms(length));
    }
    let letters = text.find(|one: char| !one.is_ascii_alphabetic());
    let (name, rest) = text.split_at(letters.unwrap_or(text.len()));
    if let (Some(day), false) = (weekday(name), rest.is_empty()) {
        return Day::Week(day).at(clock(rest.trim())?, now, zone);
    }
    parse_begin(text, now, zone).map_err(|error| error.to_string())
}

/// Milliseconds of `90m`, `4h`, `2d` or `1h30m`.
fn length(text: &str) -> Result<i64, String> {
    let wrong = || {
        format!(
            "`{}` is no length: write 30m, 4h, 1h30m or 2d",
            excerpt(text)
        )
    };
    let (mut rest, mut sum) = (text, 0u64);
    while !rest.is_empty() {
        let unit = rest
            .find(|one: char| !one.is_ascii_digit())
            .ok_or_else(wrong)?;
        let number: u32 = rest[..unit].parse().map_err(|_| wrong())?;
        let seconds = match rest.as_bytes()[unit] {
            b'd' => 86_400,
            b'h' => 3600,
            b'm' => 60,
            _ => return Err(wrong()),
        };
        sum += u64::from(number) * seconds;
        rest = &rest[unit + 1..];
    }
    match sum {
        0 => Err(wrong()),
        sum if sum > 31_622_400 => Err(format!("`{}` is longer than 366 days", excerpt(text))),
        sum => Ok(i64::try_from(sum).unwrap_or(0) * 1000),
    }
}

fn clock(text: &str) -> Result<Time, String> {
    let wrong = || format!("`{}` is no time of day: write 14:00", excerpt(text));
    let (hour, minute) = text.split_once(':').unwrap_or((text, "0"));
    let number = |text: &str| text.parse::<i8>().map_err(|_| wrong());
    Time::new(number(hour)?, number(minute)?, 0, 0).map_err(|_| wrong())
}

fn weekday(word: &str) -> Option<Weekday> {
    let days = [
        ("monday", Weekday::Monday),
        ("tuesday", Weekday::Tuesday),
        ("wednesday", Weekday::Wednesday),
        ("thursday", Weekday::Thursday),
        ("friday", Weekday::Friday),
        ("saturday", Weekday::Saturday),
        ("sunday", Weekday::Sunday),
    ];
    let word = word.to_ascii_lowercase();
    let fits = |name: &str| word == name || (word.len() == 3 && name.starts_with(&word));
    days.into_iter()
        .find(|(name, _)| fits(name))
        .map(|(_, day)| day)
}

/// Which day.
enum Day {
    /// The next at which the time lies ahead.
    Soon,
    Today,
    Tomorrow,
    Week(Weekday),
    On(Date),
}

impl Day {
    fn parse(word: &str) -> Option<Day> {
        match word {
            "today" => Some(Day::Today),
            "tomorrow" => Some(Day::Tomorrow),
            word => {
                let date = || word.parse::<Date>().ok().map(Day::On);
                weekday(word).map(Day::Week).or_else(date)
            }
        }
    }

    fn at(&self, time: Time, now: Timestamp, zone: &TimeZone) -> Result<Timestamp, String> {
        let from_today = |days| on_day_of(now, days, time, zone);
        match self {
            Day::Today => from_today(0),
            Day::Tomorrow => from_today(1),
            Day::Soon => {
                let today = from_today(0)?;
                if today >= now {
                    Ok(today)
                } else {
                    from_today(1)
                }
            }
            Day::Week(wanted) => {
                let today = date_of(now, zone).weekday();
                let days = i64::from(today.until(*wanted));
                let soon = from_today(days)?;
                if soon >= now {
                    Ok(soon)
                } else {
                    from_today(days + 7)
                }
            }
            Day::On(date) => point(*date, time, zone),
        }
    }
}

fn date_of(at: Timestamp, zone: &TimeZone) -> Date {
    let at = jiff::Timestamp::from_millisecond(at.0).unwrap_or_default();
    zone.to_datetime(at).date()
}

/// This time of the day that is so many days behind the day of a point in time.
fn on_day_of(at: Timestamp, days: i64, time: Time, zone: &TimeZone) -> Result<Timestamp, String> {
    let date = date_of(at, zone).checked_add(jiff::Span::new().days(days));
    point(date.map_err(|error| error.to_string())?, time, zone)
}

fn point(date: Date, time: Time, zone: &TimeZone) -> Result<Timestamp, String> {
    let point = zone.to_timestamp(date.to_datetime(time));
    let point = point.map_err(|_| format!("{date} {time} is not in the calendar"))?;
    Ok(Timestamp(point.as_millisecond()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A Sunday, 13:00.
    fn now() -> Timestamp {
        let now: jiff::Timestamp = "2026-11-29T12:00:00Z".parse().unwrap();
        Timestamp(now.as_millisecond())
    }

    fn zone() -> TimeZone {
        TimeZone::fixed(jiff::tz::offset(1))
    }

    fn said(text: &str) -> Result<Booking, String> {
        let words: Vec<String> = text.split(' ').map(str::to_owned).collect();
        parse(&words, now(), &zone())
    }

    fn times(text: &str) -> (String, String) {
        let booking = said(text).unwrap();
        let show = |at: Timestamp| at.strftime(&zone(), "%m-%d %H:%M").unwrap();
        (show(booking.start), show(booking.end))
    }

    #[test]
    fn it_is_said_as_people_do() {
        let booking = said("2 gpus fri 14:00-18:00").unwrap();
        assert_eq!(booking.what, ("gpus", "2".to_owned()));
        assert_eq!((booking.repeat, booking.name), (Repeat::Once, None));
        let booking = said("ws[1-2] tomorrow 9:00 3h weekly for ann,bob as course").unwrap();
        assert_eq!(booking.what, ("nodes", "ws[1-2]".to_owned()));
        assert_eq!(booking.users, ["ann", "bob"]);
        assert_eq!(booking.name.as_deref(), Some("course"));
        assert_eq!(booking.repeat, Repeat::Weekly);
        assert_eq!(
            said("2 a100 gpus now 2h").unwrap().what,
            ("gpus", "a100:2".to_owned())
        );
        assert_eq!(
            said("16 cpus now 2h").unwrap().what,
            ("cpus", "16".to_owned())
        );
        assert_eq!(
            said("3 nodes now 2h").unwrap().what,
            ("node-count", "3".to_owned())
        );
    }

    #[test]
    fn days_and_hours_lie_ahead() {
        let is = |text: &str, start: &str, end: &str| {
            assert_eq!(times(text), (start.to_owned(), end.to_owned()), "{text}");
        };
        is("1 gpu fri 14:00-18:00", "12-04 14:00", "12-04 18:00");
        is("1 gpu sunday 14:00-18:00", "11-29 14:00", "11-29 18:00");
        is("1 gpu sun 12:00-18:00", "12-06 12:00", "12-06 18:00");
        is("1 gpu 14:00-18:00", "11-29 14:00", "11-29 18:00");
        is("1 gpu 9:00-10", "11-30 09:00", "11-30 10:00");
        is("1 gpu tomorrow 22:00-6:00", "11-30 22:00", "12-01 06:00");
        is("1 gpu 2026-12-24 0:00 2d", "12-24 00:00", "12-26 00:00");
        is("1 gpu now 90m", "11-29 13:00", "11-29 14:30");
        is("1 gpu now 1h30m", "11-29 13:00", "11-29 14:30");
        is("1 gpu today 12:00-15:00", "11-29 12:00", "11-29 15:00");
    }

    #[test]
    fn points_are_said_alone() {
        let at = |text: &str, start| {
            let point = parse_point(text, start, now(), &zone()).unwrap();
            point.strftime(&zone(), "%m-%d %H:%M").unwrap()
        };
        assert_eq!(at("fri14:00", None), "12-04 14:00");
        assert_eq!(at("+4h", Some(now())), "11-29 17:00");
        assert_eq!(at("2026-12-01T08:00", None), "12-01 08:00");
        assert_eq!(at("2026-12-01T08:00:00Z", None), "12-01 09:00");
        assert!(parse_point("some day", None, now(), &zone()).is_err());
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, why) in [
            ("", "missing"),
            ("2", "missing"),
            ("0 gpus now 1h", "0 of something"),
            ("2 gpus", "when it begins"),
            ("2 gpus fri", "at what time"),
            ("2 gpus fri 14:00", "for how long"),
            ("2 gpus fri 25:00-26:00", "no time of day"),
            ("2 gpus now 0h", "no length"),
            ("2 gpus now 400d", "366 days"),
            ("2 gpus wed 14:00 18:00", "14:00-18:00"),
            ("rm course", "there is no `rm`"),
            ("2 gpus now 1h hourly", "not expected"),
            ("2 gpus now 1h for", "of what"),
        ] {
            let error = said(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_words_are_read_or_refused(words in prop::collection::vec("\\PC{0,12}", 0..8)) {
            let _ = parse(&words, now(), &zone());
        }

        #[test]
        fn what_is_read_ends_after_it_begins(
            day in prop::sample::select(vec!["", "mon ", "fri ", "tomorrow ", "2027-02-28 "]),
            from in 0u32..24, to in 0u32..24,
        ) {
            let booking = said(&format!("1 gpu {day}{from}:30-{to}:00")).unwrap();
            prop_assert!(booking.end > booking.start && booking.start >= now());
            prop_assert!(booking.end.minus(booking.start) <= 86_400_000);
        }
    }
}
