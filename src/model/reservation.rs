//! A reservation: nodes, or parts of them, that are kept for some people for some time.
//!
//! What is wanted is said in words (nodes, a number of nodes, GPUs, cpus); where that is, the cluster works out when the
//! reservation is made ([`Reservation::on`]), so that everybody can see what they will have.

use super::text::excerpt;
use super::time::Timestamp;
use jiff::tz::TimeZone;
use std::fmt;

/// Longest reservation; milliseconds.
pub const LENGTH_MAX_MS: i64 = 366 * DAY_MS;
const DAY_MS: i64 = 86_400_000;

/// How often it comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Repeat {
    /// Once.
    #[default]
    Once,
    /// Every day at the same time.
    Daily,
    /// Every week on the same day at the same time.
    Weekly,
}

impl Repeat {
    /// Every way.
    pub const ALL: [Repeat; 3] = [Repeat::Once, Repeat::Daily, Repeat::Weekly];

    /// Its word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Repeat::Once => "once",
            Repeat::Daily => "daily",
            Repeat::Weekly => "weekly",
        }
    }

    /// From one to the next, where no clock is changed; milliseconds.
    #[must_use]
    pub fn period_ms(self) -> Option<i64> {
        match self {
            Repeat::Once => None,
            Repeat::Daily => Some(DAY_MS),
            Repeat::Weekly => Some(7 * DAY_MS),
        }
    }
}

/// What for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Purpose {
    /// Jobs of some people.
    #[default]
    Jobs,
    /// Work on the machines: no job of anybody runs there, but what does already is left alone.
    Maintenance,
}

impl Purpose {
    /// Its word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Purpose::Jobs => "jobs",
            Purpose::Maintenance => "maintenance",
        }
    }
}

/// What is kept of one node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeptPart {
    /// The node's name.
    pub node: String,
    /// Cpus.
    pub cpus: u32,
    /// Memory; MiB.
    pub memory_mib: u64,
    /// GPUs by kind.
    pub gpus: Vec<(String, u32)>,
}

impl KeptPart {
    /// Reads `ws1:cpus=8:memory=1024:gpu.a100=2`.
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{}`: write NODE:cpus=N:memory=MIB:gpu.KIND=N",
                excerpt(text)
            )
        };
        let mut words = text.split(':');
        let mut part = KeptPart {
            node: words.next().unwrap_or_default().to_owned(),
            ..KeptPart::default()
        };
        for word in words {
            let (key, value) = word.split_once('=').ok_or_else(wrong)?;
            match (key, key.strip_prefix("gpu.")) {
                ("cpus", _) => part.cpus = value.parse().map_err(|_| wrong())?,
                ("memory", _) => part.memory_mib = value.parse().map_err(|_| wrong())?,
                (_, Some(kind)) => {
                    let count = value.parse().map_err(|_| wrong())?;
                    part.gpus.push((kind.to_owned(), count));
                }
                _ => return Err(wrong()),
            }
        }
        match part.node.is_empty() {
            true => Err(wrong()),
            false => Ok(part),
        }
    }
}

impl fmt::Display for KeptPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}:cpus={}:memory={}",
            self.node, self.cpus, self.memory_mib
        )?;
        let mut gpus = self.gpus.iter();
        gpus.try_for_each(|(kind, count)| write!(f, ":gpu.{kind}={count}"))
    }
}

/// Most nodes of one.
const NODES_MAX: usize = 4096;

/// Reads what is kept, node by node.
///
/// # Errors
/// What is wrong with it.
pub fn parse_on(text: &str) -> Result<Vec<KeptPart>, String> {
    if text.is_empty() || text == "none" {
        return Ok(Vec::new());
    }
    let parts: Result<Vec<KeptPart>, String> = text.split(',').map(KeptPart::parse).collect();
    parts.and_then(|parts| match parts.len() <= NODES_MAX {
        true => Ok(parts),
        false => Err(format!("at most {NODES_MAX} nodes")),
    })
}

/// What is kept, as [`parse_on`] reads it.
#[must_use]
pub fn show_on(parts: &[KeptPart]) -> String {
    match parts {
        [] => "none".to_owned(),
        parts => parts
            .iter()
            .map(KeptPart::to_string)
            .collect::<Vec<_>>()
            .join(","),
    }
}

/// A reservation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    /// Its name.
    pub name: String,
    /// When it begins, the first time.
    pub start: Timestamp,
    /// When it ends, the first time.
    pub end: Timestamp,
    /// How often it comes.
    pub repeat: Repeat,
    /// By whose clocks it comes again: a time zone's name; `None` = by hours.
    pub zone: Option<String>,
    /// What for.
    pub purpose: Purpose,
    /// These nodes, whole.
    pub nodes: Vec<String>,
    /// So many nodes, whole; 0 = none are asked for so.
    pub node_count: u32,
    /// So many GPUs, with their part of the cpus and memory beside them; 0 = none are asked for so.
    pub gpus: u32,
    /// Of this kind only.
    pub gpu_kind: Option<String>,
    /// So many cpus, with their part of the memory; 0 = none are asked for so.
    pub cpus: u32,
    /// What it has, node by node.
    pub on: Vec<KeptPart>,
    /// Who may use it.
    pub users: Vec<String>,
    /// Whose people may use it.
    pub accounts: Vec<String>,
    /// For people.
    pub description: String,
}

impl Reservation {
    /// One of which nothing is said.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Reservation {
            name: name.to_owned(),
            start: Timestamp(0),
            end: Timestamp(0),
            repeat: Repeat::Once,
            zone: None,
            purpose: Purpose::Jobs,
            nodes: Vec::new(),
            node_count: 0,
            gpus: 0,
            gpu_kind: None,
            cpus: 0,
            on: Vec::new(),
            users: Vec::new(),
            accounts: Vec::new(),
            description: String::new(),
        }
    }

    /// Whether a person may use it through this account.
    #[must_use]
    pub fn admits(&self, user: &str, account: &str) -> bool {
        let named = |list: &[String], name: &str| list.iter().any(|one| one == name);
        self.purpose == Purpose::Jobs
            && (named(&self.users, user) || named(&self.accounts, account))
    }

    /// What does not fit together in it.
    ///
    /// # Errors
    /// In words.
    pub fn check(&self) -> Result<(), String> {
        let length_ms = self.end.minus(self.start);
        // A simulation begins at 0.
        if self.end == Timestamp(0) || (self.start == Timestamp(0) && length_ms > LENGTH_MAX_MS) {
            return Err("say when by start= and end=".to_owned());
        }
        if length_ms <= 0 {
            return Err("it must end after its start: give start= and end=".to_owned());
        }
        if length_ms > LENGTH_MAX_MS {
            return Err("it lasts more than 366 days".to_owned());
        }
        if self
            .repeat
            .period_ms()
            .is_some_and(|period| length_ms > period)
        {
            return Err(format!(
                "it lasts longer than {} allows",
                self.repeat.word()
            ));
        }
        let asked = [
            !self.nodes.is_empty(),
            self.node_count > 0,
            self.gpus > 0,
            self.cpus > 0,
        ];
        if asked.into_iter().filter(|asked| *asked).count() != 1 {
            let what = "say what is kept by just one of nodes=, node-count=, gpus= and cpus=";
            return Err(format!("{what} (the others 0 or none)"));
        }
        let nobody = self.users.is_empty() && self.accounts.is_empty();
        if self.purpose == Purpose::Jobs && nobody {
            return Err("say for whom by users= or accounts=".to_owned());
        }
        Ok(())
    }

    /// The times at which it is on, from the one that ends after `now`, up to `most` of them that begin before `until`.
    pub fn times(
        &self,
        now: Timestamp,
        until: Timestamp,
        most: usize,
    ) -> impl Iterator<Item = (Timestamp, Timestamp)> {
        let period = self.repeat.period_ms();
        let ended_ms = now.minus(self.end);
        // One that may not have ended: clocks may have been changed since.
        let first = period
            .filter(|_| ended_ms >= 0)
            .map_or(0, |period| ended_ms / period);
        let (tried, count) = if period.is_some() {
            (most.saturating_add(2), most)
        } else {
            (1, 1)
        };
        let (start, end) = (self.start, self.end);
        let zone = self
            .zone
            .as_deref()
            .and_then(|name| TimeZone::get(name).ok());
        let times = (first..).take(tried).map(move |at| {
            let by = at.saturating_mul(period.unwrap_or(0));
            let later = |point: Timestamp| by_clock(point, by, zone.as_ref());
            (later(start), later(end))
        });
        times
            .filter(move |(_, end)| *end > now)
            .take(count)
            .take_while(move |(start, _)| *start < until)
    }
}

/// So many whole days later, at the same time by the clocks there.
fn by_clock(point: Timestamp, by_ms: i64, zone: Option<&TimeZone>) -> Timestamp {
    let later = || {
        let zoned = jiff::Timestamp::from_millisecond(point.0).ok()?;
        let zoned = zoned.to_zoned(zone?.clone());
        let days = jiff::Span::new().try_days(by_ms / DAY_MS).ok()?;
        let later = zoned.checked_add(days).ok()?;
        Some(Timestamp(later.timestamp().as_millisecond()))
    };
    later().unwrap_or_else(|| point.plus_ms(by_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_read_as_they_are_written() {
        let part = KeptPart {
            node: "ws1".to_owned(),
            cpus: 8,
            memory_mib: 1024,
            gpus: vec![("a100".to_owned(), 2)],
        };
        let parts = vec![
            part.clone(),
            KeptPart {
                node: "ws2".to_owned(),
                gpus: vec![],
                ..part
            },
        ];
        let text = show_on(&parts);
        assert_eq!(
            text,
            "ws1:cpus=8:memory=1024:gpu.a100=2,ws2:cpus=8:memory=1024"
        );
        assert_eq!(parse_on(&text), Ok(parts));
        assert_eq!(parse_on(&show_on(&[])), Ok(Vec::new()));
        for text in ["ws1:8", ":cpus=1", "ws1:cpus=x", "ws1:disk=1"] {
            assert!(parse_on(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_repeats_goes_by_the_clocks_of_a_zone() {
        let at = |text: &str| {
            let at: jiff::Timestamp = text.parse().unwrap();
            Timestamp(at.as_millisecond())
        };
        // Clocks were put forward on 2027-03-28.
        let mut one = Reservation {
            start: at("2027-03-22T09:00:00+01:00"),
            end: at("2027-03-22T12:00:00+01:00"),
            repeat: Repeat::Weekly,
            zone: Some("Europe/Berlin".to_owned()),
            ..Reservation::named("course")
        };
        let far = Timestamp(i64::MAX / 4);
        let times = |one: &Reservation, now: &str| one.times(at(now), far, 2).collect::<Vec<_>>();
        let second = (
            at("2027-03-29T09:00:00+02:00"),
            at("2027-03-29T12:00:00+02:00"),
        );
        assert_eq!(times(&one, "2027-03-23T00:00:00Z")[0], second);
        // At eleven by Greenwich's clock it was over, had it gone by hours.
        assert_eq!(times(&one, "2027-03-29T09:59:59Z")[0], second);
        assert_eq!(times(&one, "2027-03-29T10:00:00Z").len(), 2);
        // Back in autumn: it begins an hour later by hours.
        let third = at("2027-11-01T09:00:00+01:00");
        assert_eq!(times(&one, "2027-10-31T12:00:00Z")[0].0, third);
        one.zone = None;
        let hours = at("2027-03-29T10:00:00+02:00");
        assert_eq!(times(&one, "2027-03-23T00:00:00Z")[0].0, hours);
    }

    #[test]
    fn what_repeats_comes_again_until_it_is_removed() {
        let hour = 3_600_000;
        let mut one = Reservation {
            start: Timestamp(10 * hour),
            end: Timestamp(12 * hour),
            ..Reservation::named("x")
        };
        let starts = |one: &Reservation, now: i64, until: i64| {
            let times = one.times(Timestamp(now * hour), Timestamp(until * hour), 5);
            times.map(|(start, _)| start.0 / hour).collect::<Vec<_>>()
        };
        assert_eq!(starts(&one, 0, 100), [10]);
        assert_eq!(starts(&one, 11, 100), [10], "it is on");
        assert!(starts(&one, 12, 100).is_empty(), "it is over");
        assert!(starts(&one, 0, 10).is_empty());
        one.repeat = Repeat::Daily;
        assert_eq!(starts(&one, 0, 100), [10, 34, 58, 82]);
        assert_eq!(starts(&one, 36, 100), [58, 82], "the second is over");
        assert_eq!(starts(&one, 35, 100), [34, 58, 82]);
        assert_eq!(starts(&one, 24 * 1000, i64::MAX / hour).len(), 5);
    }
}
