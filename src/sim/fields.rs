//! Tables of a description, key by key: what is wrong is said on one line with the table, the key and its value, and a key
//! that nobody asks for is refused.

use crate::model::limits::parse_seconds;
use crate::model::size::parse_memory_mib;
use toml::{Table, Value};

/// Longest file of a description; bytes.
pub const FILE_MAX: u64 = 64 << 20;
/// Most tables of one kind.
const TABLES_MAX: usize = 100_000;

/// What is wrong with a description.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Wrong(pub(super) String);

/// Reads a whole file.
pub(super) fn parse(text: &str) -> Result<Table, Wrong> {
    if text.len() as u64 > FILE_MAX {
        let length = text.len();
        return Err(Wrong(format!(
            "{length} bytes are too many, the most is {FILE_MAX}"
        )));
    }
    text.parse().map_err(|error: toml::de::Error| {
        let at = error.span().map_or(0, |span| span.start);
        let before = text.get(..at).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let message = error.message().replace('\n', " ");
        Wrong(format!("line {line}: {message}"))
    })
}

/// A table that is being read.
#[derive(Debug)]
pub(super) struct Fields<'t> {
    place: String,
    table: &'t Table,
    asked: Vec<&'static str>,
}

impl<'t> Fields<'t> {
    /// Of this table, which is called so.
    pub(super) fn new(place: impl Into<String>, table: &'t Table) -> Self {
        Fields {
            place: place.into(),
            table,
            asked: Vec::new(),
        }
    }

    /// Something is wrong with what stands at this key.
    pub(super) fn wrong(&self, key: &str, why: impl std::fmt::Display) -> Wrong {
        let value = self.table.get(key).map_or_else(String::new, show);
        Wrong(format!("{}: {key} = {value}: {why}", self.place))
    }

    /// Something is missing, or wrong with it as a whole.
    pub(super) fn fault(&self, why: impl std::fmt::Display) -> Wrong {
        Wrong(format!("{}: {why}", self.place))
    }

    pub(super) fn get(&mut self, key: &'static str) -> Option<&'t Value> {
        self.asked.push(key);
        self.table.get(key)
    }

    pub(super) fn text(&mut self, key: &'static str) -> Result<Option<&'t str>, Wrong> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.wrong(key, "write a text in quotes")),
        }
    }

    /// A text that must be there.
    pub(super) fn name(&mut self, key: &'static str) -> Result<&'t str, Wrong> {
        let text = self.text(key)?;
        text.ok_or_else(|| self.fault(format!("`{key}` is missing")))
    }

    pub(super) fn truth(&mut self, key: &'static str) -> Result<bool, Wrong> {
        match self.get(key) {
            None => Ok(false),
            Some(Value::Boolean(value)) => Ok(*value),
            Some(_) => Err(self.wrong(key, "write true or false")),
        }
    }

    /// A whole number from `least` to `most`.
    pub(super) fn count(
        &mut self,
        key: &'static str,
        least: u32,
        most: u32,
    ) -> Result<Option<u32>, Wrong> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let number = value
            .as_integer()
            .and_then(|number| u32::try_from(number).ok());
        match number.filter(|number| (least..=most).contains(number)) {
            Some(number) => Ok(Some(number)),
            None => Err(self.wrong(key, format!("write a whole number from {least} to {most}"))),
        }
    }

    /// An amount of memory; MiB.
    pub(super) fn memory(&mut self, key: &'static str) -> Result<Option<u64>, Wrong> {
        let Some(text) = self.text(key)? else {
            return Ok(None);
        };
        let read = parse_memory_mib(text).map_err(|error| self.wrong(key, error))?;
        if read > 1 << 40 {
            return Err(self.wrong(key, "that is more than 1 EiB"));
        }
        Ok(Some(read))
    }

    /// A span; milliseconds.
    pub(super) fn span(&mut self, key: &'static str) -> Result<Option<i64>, Wrong> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => match span_ms(text) {
                Ok(ms) => Ok(Some(ms)),
                Err(why) => Err(self.wrong(key, why)),
            },
            Some(_) => Err(self.wrong(key, SPAN)),
        }
    }

    /// A span, or any between two; milliseconds.
    pub(super) fn spread(&mut self, key: &'static str) -> Result<Option<(i64, i64)>, Wrong> {
        let Some(Value::Table(table)) = self.table.get(key) else {
            return Ok(self.span(key)?.map(|span| (span, span)));
        };
        self.asked.push(key);
        let mut inner = Fields::new(format!("{}: {key}", self.place), table);
        let (from, to) = (inner.span("from")?, inner.span("to")?);
        inner.finish()?;
        match (from, to) {
            (Some(from), Some(to)) if from <= to => Ok(Some((from, to))),
            _ => Err(self.wrong(key, "write { from = \"5m\", to = \"15m\" }")),
        }
    }

    /// A table within it.
    pub(super) fn table(&mut self, key: &'static str) -> Result<Option<Fields<'t>>, Wrong> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Table(table)) => Ok(Some(Fields::new(format!("[{key}]"), table))),
            Some(_) => Err(self.wrong(key, format!("write it as a table, [{key}]"))),
        }
    }

    /// The tables of a list.
    pub(super) fn tables(&mut self, key: &'static str) -> Result<Vec<Fields<'t>>, Wrong> {
        let said = format!("write it as a list of tables, [[{key}]]");
        let list = match self.get(key) {
            None => return Ok(Vec::new()),
            Some(Value::Array(list)) => list,
            Some(_) => return Err(self.wrong(key, said)),
        };
        if list.len() > TABLES_MAX {
            let count = list.len();
            return Err(Wrong(format!(
                "{count} of [[{key}]] are too many, the most is {TABLES_MAX}"
            )));
        }
        let read = list.iter().zip(1..).map(|(value, number)| match value {
            Value::Table(table) => Ok(Fields::new(format!("[[{key}]] {number}"), table)),
            _ => Err(self.wrong(key, &said)),
        });
        read.collect()
    }

    /// The keys that nobody has asked for.
    pub(super) fn rest(&self) -> impl Iterator<Item = (&'t String, &'t Value)> {
        let asked = &self.asked;
        let rest = self.table.iter();
        rest.filter(move |(key, _)| !asked.contains(&key.as_str()))
    }

    /// All that may be there was asked for.
    pub(super) fn finish(self) -> Result<(), Wrong> {
        let Some((key, _)) = self.rest().next() else {
            return Ok(());
        };
        let known = self.asked.join(", ");
        let why = format!("no such key; there are: {known}");
        Err(self.wrong(key, why))
    }
}

const SPAN: &str = "write a span such as \"90s\", \"10m\", \"2h\", \"7d\" or \"1:30:00\"";

fn span_ms(text: &str) -> Result<i64, String> {
    // Where a limit is read, no time at all is no limit; here it is the beginning.
    if matches!(text, "0" | "0s" | "0m" | "0h" | "0d") {
        return Ok(0);
    }
    match parse_seconds(text) {
        Ok(Some(seconds)) => Ok(i64::try_from(seconds)
            .unwrap_or(i64::MAX)
            .saturating_mul(1000)),
        Ok(None) | Err(_) => Err(SPAN.to_owned()),
    }
}

/// So much of a text is repeated in a message.
const SHOWN_MAX: usize = 60;

/// A text on one line, cut where it is long.
pub(super) fn excerpt(text: &str) -> String {
    let mut shown: String = text.escape_debug().take(SHOWN_MAX).collect();
    if text.escape_debug().nth(SHOWN_MAX).is_some() {
        shown.push_str("...");
    }
    shown
}

/// A value on one line, cut where it is long.
pub(super) fn show(value: &Value) -> String {
    match value {
        Value::String(text) => format!("\"{}\"", excerpt(text)),
        Value::Table(_) => "{ .. }".to_owned(),
        Value::Array(_) => "[ .. ]".to_owned(),
        other => excerpt(&other.to_string()),
    }
}
