//! `hpc reserve`: nodes, or parts of them, that are kept for some people for some time.

use super::Verb;
use super::connection::Target;
use super::exit::{self, Failure, Outcome};
use super::output::table::{Table, elastic, left};
use super::output::{self, words};
use super::rule;
use super::selection::change;
use crate::model::booking::{self, Booking};
use crate::model::reservation::{KeptPart, Repeat, Reservation, parse_on};
use crate::model::rules::{Act as Change, Noun, RuleChange};
use crate::model::time::Timestamp;
use crate::wire::client::Request;
use crate::wire::view::RuleView;
use clap::{Args, Command, Subcommand};
use std::fmt::Write as _;

/// Keep nodes, GPUs or cpus for some people for some time; show and change such reservations
///
/// Say it in words: WHAT WHEN [daily|weekly] [for USER,...] [as NAME]. Without `for` it is for you. What is kept is
/// worked out at once, around what runs; jobs run inside with --reservation NAME, and nobody else's do.
///
/// Examples:
///   hpc reserve 2 gpus fri 14:00-18:00
///   hpc reserve ws[1-2] tomorrow 9:00 3h weekly for ann,bob as course
///   hpc submit --reservation course -t 1:00:00 train.sh
#[derive(Debug, Args)]
#[command(verbatim_doc_comment, mut_subcommands = help)]
pub(super) struct Reserve {
    #[command(subcommand)]
    act: Act,
}

#[derive(Debug, Subcommand)]
enum Act {
    #[command(flatten)]
    Rule(rule::Act),
    /// All as a calendar (iCalendar), for a feed
    ///
    /// Examples:
    ///   hpc reserve calendar > /srv/www/cluster.ics
    #[command(verbatim_doc_comment)]
    Calendar,
    /// In words
    #[command(external_subcommand)]
    Words(Vec<String>),
}

fn help(command: Command) -> Command {
    rule::help(Noun::Reservation)(command)
}

impl Verb for Reserve {
    fn run(self, target: &Target) -> Outcome {
        match self.act {
            Act::Rule(rule::Act::List { json: false }) => list(target)?,
            Act::Rule(rule::Act::Add { name, settings }) => {
                let act = Change::Add;
                decide(target, act, name, &settings)?;
            }
            Act::Rule(rule::Act::Set { name, settings }) => {
                let act = Change::Set;
                decide(target, act, name, &settings)?;
            }
            Act::Rule(other) => return other.run(target, Noun::Reservation),
            Act::Calendar => calendar(target)?,
            Act::Words(words) => book(target, &words)?,
        }
        Ok(exit::DONE)
    }
}

/// A point in time as settings have it.
fn written(at: Timestamp) -> String {
    at.to_rfc3339(&jiff::tz::TimeZone::UTC)
}

/// Times are written as people do, and sent as points.
fn decide(target: &Target, act: Change, name: String, settings: &[String]) -> Outcome<()> {
    let known = rule::all(target, Noun::Reservation)?;
    let known = known.iter().find(|view| view.name == name);
    let mut start = known
        .filter(|_| act == Change::Set)
        .map(|view| point(view, "start"));
    let mut sent = Vec::new();
    // Times are by the clocks that it goes by.
    let said = settings.iter().find_map(|text| text.strip_prefix("zone="));
    let named = said.and_then(|name| jiff::tz::TimeZone::get(name).ok());
    let zone = named.unwrap_or_else(super::zone);
    for text in settings {
        let (key, mut value) = rule::setting(text)?;
        if key == "start" || key == "end" {
            let at = booking::parse_point(&value, start, super::now(), &zone)
                .map_err(|why| Failure::Usage(format!("{key}={value}: {why}")))?;
            if key == "start" {
                start = Some(at);
            }
            value = written(at);
        }
        sent.push((key, value));
    }
    let says = |wanted: &str| sent.iter().any(|(key, _)| key == wanted);
    if says("repeat") && !says("zone") {
        sent.extend(own_zone());
    }
    let change_of = RuleChange {
        noun: Noun::Reservation,
        act,
        name: name.clone(),
        settings: sent,
    };
    change(target, "reserve", &Request::ChangeRule(change_of))?;
    placed(target, &name)
}

/// Says where a reservation is.
fn placed(target: &Target, name: &str) -> Outcome<()> {
    let views = rule::all(target, Noun::Reservation)?;
    let Some(view) = views.iter().find(|view| view.name == name) else {
        return Ok(());
    };
    let (from, to) = times(view);
    output::text(&format!(
        "reservation {name}: {} from {from} to {to}; jobs run inside with --reservation {name}\n",
        place(view)
    ))
}

fn book(target: &Target, words: &[String]) -> Outcome<()> {
    let said = booking::parse(words, super::now(), &super::zone()).map_err(Failure::Usage)?;
    let Booking {
        what,
        start,
        end,
        repeat,
        users,
        name,
    } = said;
    let name = match name {
        Some(name) => name,
        None => free_name(target)?,
    };
    let mut settings = vec![
        (what.0.to_owned(), what.1),
        ("start".to_owned(), written(start)),
        ("end".to_owned(), written(end)),
    ];
    if repeat != Repeat::Once {
        settings.push(("repeat".to_owned(), repeat.word().to_owned()));
        settings.extend(own_zone());
    }
    if !users.is_empty() {
        settings.push(("users".to_owned(), users.join(",")));
    }
    let change_of = RuleChange {
        noun: Noun::Reservation,
        act: Change::Add,
        name: name.clone(),
        settings,
    };
    change(target, "reserve", &Request::ChangeRule(change_of))?;
    placed(target, &name)
}

/// What comes again does so by the clocks of where it was said.
fn own_zone() -> Option<(String, String)> {
    let zone = super::zone();
    let name = zone.iana_name()?;
    Some(("zone".to_owned(), name.to_owned()))
}

/// A name that nobody has given yet.
fn free_name(target: &Target) -> Outcome<String> {
    let views = rule::all(target, Noun::Reservation)?;
    let taken = |name: &String| views.iter().any(|view| view.name == *name);
    let mut names = (1..).map(|number| format!("r{number}"));
    Ok(names.find(|name| !taken(name)).unwrap_or_default())
}

fn value<'v>(view: &'v RuleView, key: &str) -> &'v str {
    let found = view.settings.iter().find(|(known, _)| known == key);
    found.map_or("", |(_, value)| value.as_str())
}

fn point(view: &RuleView, key: &str) -> Timestamp {
    let at: Option<jiff::Timestamp> = value(view, key).parse().ok();
    Timestamp(at.map_or(0, |at| at.as_millisecond()))
}

/// When it is on now or next: of one that comes again not the first time.
fn next(view: &RuleView) -> (Timestamp, Timestamp) {
    let from_to = (point(view, "start"), point(view, "end"));
    let one = read(view);
    let mut times = one.times(super::now(), Timestamp(i64::MAX / 4), 1);
    times.next().unwrap_or(from_to)
}

/// When a reservation is, and how often.
fn read(view: &RuleView) -> Reservation {
    let mut all = Repeat::ALL.into_iter();
    let repeat = all.find(|repeat| repeat.word() == value(view, "repeat"));
    let zone = Some(value(view, "zone")).filter(|zone| !matches!(*zone, "" | "none"));
    Reservation {
        start: point(view, "start"),
        end: point(view, "end"),
        repeat: repeat.unwrap_or_default(),
        zone: zone.map(str::to_owned),
        ..Reservation::named(&view.name)
    }
}

fn times(view: &RuleView) -> (String, String) {
    let (start, end) = next(view);
    let zone = super::zone();
    let form = |at: Timestamp| {
        at.strftime(&zone, "%a %Y-%m-%d %H:%M")
            .unwrap_or_else(|_| at.to_local(&zone))
    };
    (form(start), form(end))
}

/// Where it is, for people.
fn place(view: &RuleView) -> String {
    let parts = parse_on(value(view, "on")).unwrap_or_default();
    let part = |part: &KeptPart| {
        let mut text = format!("{} ({}", part.node, words::counted(part.cpus, "cpu"));
        for (kind, count) in &part.gpus {
            // Writing to a text cannot fail.
            let _ = write!(text, ", {count} {kind}");
        }
        text + ")"
    };
    parts.iter().map(part).collect::<Vec<_>>().join(" ")
}

/// For whom, for people.
fn whose(view: &RuleView) -> String {
    if value(view, "purpose") == "maintenance" {
        return "maintenance".to_owned();
    }
    let lists = [value(view, "users"), value(view, "accounts")];
    let named = lists
        .into_iter()
        .filter(|list| !matches!(*list, "" | "none"));
    named.collect::<Vec<_>>().join(",")
}

fn list(target: &Target) -> Outcome<()> {
    let views = rule::all(target, Noun::Reservation)?;
    let mut table = Table::new(&[
        left("RESERVATION"),
        left("STATE"),
        left("START"),
        left("END"),
        left("REPEAT"),
        left("FOR"),
        elastic("ON", 20),
    ]);
    let now = super::now();
    for view in &views {
        let (start, end) = next(view);
        let state = match (start <= now, end <= now) {
            (_, true) => "over",
            (true, false) => "on",
            (false, false) => "ahead",
        };
        let (from, to) = times(view);
        table.add(&view.name);
        table.add(state);
        table.add(&from);
        table.add(&to);
        table.add(value(view, "repeat"));
        table.add(&whose(view));
        table.add(&place(view));
    }
    table.print()?;
    Ok(())
}

/// A text as iCalendar has it (RFC 5545, 3.3.11).
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for one in text.chars() {
        match one {
            '\\' | ';' | ',' => escaped.extend(['\\', one]),
            '\n' => escaped.push_str("\\n"),
            one if one.is_control() => {}
            one => escaped.push(one),
        }
    }
    escaped
}

/// A line in pieces of at most 75 bytes (RFC 5545, 3.1).
fn folded(line: &str) -> String {
    let mut text = String::new();
    let mut room = 75;
    for one in line.chars() {
        if one.len_utf8() > room {
            text.push_str("\r\n ");
            room = 74;
        }
        room -= one.len_utf8();
        text.push(one);
    }
    text + "\r\n"
}

/// How often what comes again is said to.
const ICS_TIMES: usize = 60;

/// All as an iCalendar object.
fn ics(views: &[RuleView], now: Timestamp) -> String {
    let form = |at: Timestamp| {
        let zone = jiff::tz::TimeZone::UTC;
        at.strftime(&zone, "%Y%m%dT%H%M%SZ").unwrap_or_default()
    };
    let mut lines = vec![
        "BEGIN:VCALENDAR".to_owned(),
        "VERSION:2.0".to_owned(),
        "PRODID:-//hpc//reservations//EN".to_owned(),
    ];
    for view in views {
        let one = read(view);
        // Each time is said: a rule in one zone's time is off by an hour once clocks change in another.
        let far = Timestamp(i64::MAX / 4);
        let mut times = one.times(now, far, ICS_TIMES);
        let (start, end) = times.next().unwrap_or((one.start, one.end));
        let again: Vec<String> = times.map(|(start, _)| form(start)).collect();
        lines.extend([
            "BEGIN:VEVENT".to_owned(),
            format!("UID:{}@hpc", escaped(&view.name)),
            format!("DTSTAMP:{}", form(now)),
            format!("DTSTART:{}", form(start)),
            format!("DTEND:{}", form(end)),
        ]);
        if !again.is_empty() {
            lines.push(format!("RDATE:{}", again.join(",")));
        }
        let summary = format!("{} ({})", view.name, whose(view));
        lines.push(format!("SUMMARY:{}", escaped(&summary)));
        lines.push(format!("LOCATION:{}", escaped(&place(view))));
        lines.push(format!(
            "DESCRIPTION:{}",
            escaped(value(view, "description"))
        ));
        lines.push("END:VEVENT".to_owned());
    }
    lines.push("END:VCALENDAR".to_owned());
    lines.iter().map(|line| folded(line)).collect()
}

fn calendar(target: &Target) -> Outcome<()> {
    let views = rule::all(target, Noun::Reservation)?;
    output::text(&ics(&views, super::now()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_calendar_has_its_lines() {
        let setting = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let view = RuleView {
            noun: Noun::Reservation,
            name: "course".to_owned(),
            settings: vec![
                setting("start", "2026-12-04T13:00:00Z"),
                setting("end", "2026-12-04T17:00:00Z"),
                setting("repeat", "weekly"),
                setting("users", "ann,bob"),
                setting("on", "ws1:cpus=8:memory=1024:gpu.a100=2"),
                setting("description", &"long; ".repeat(20)),
            ],
        };
        let text = ics(&[view], Timestamp(0));
        for line in [
            "BEGIN:VCALENDAR",
            "DTSTAMP:19700101T000000Z",
            "DTSTART:20261204T130000Z",
            "DTEND:20261204T170000Z",
            "SUMMARY:course (ann\\,bob)",
            "LOCATION:ws1 (8 cpus\\, 2 a100)",
            "END:VEVENT",
        ] {
            assert!(text.split("\r\n").any(|one| one == line), "{line}: {text}");
        }
        assert!(text.split("\r\n").all(|line| line.len() <= 75), "{text}");
        let whole = text.replace("\r\n ", "");
        assert!(
            whole.contains("RDATE:20261211T130000Z,20261218T130000Z,"),
            "{whole}"
        );
        assert!(whole.contains(&"long\\; ".repeat(20)), "{whole}");
    }
}
