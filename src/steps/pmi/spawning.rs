//! A spawn request in the making: both dialects say the same words of it, under slightly different names.
//!
//! What cannot be done is remembered and told once the request is whole: a client that is in the middle of one cannot be
//! answered.

use super::ask::number;
use super::kvs;
use crate::model::spawn::{BYTES_MAX, COMMANDS_MAX, SpawnCommand, SpawnPair, SpawnRequest};
use std::collections::BTreeMap;

/// A name and a value, of which one may not have been said yet.
type Halves = (Vec<u8>, Vec<u8>);

/// What was said so far.
#[derive(Debug, Default)]
pub(super) struct Spawning {
    request: SpawnRequest,
    pairs: BTreeMap<u32, Halves>,
    /// The command whose words come, by their numbers.
    program: Option<String>,
    ranks: u32,
    arguments: BTreeMap<u32, String>,
    info: BTreeMap<u32, Halves>,
    bytes: usize,
    trouble: Option<&'static str>,
}

impl Spawning {
    /// Takes a word that belongs to a command or to the whole; whether it is known.
    pub(super) fn word(&mut self, name: &[u8], value: &[u8]) -> bool {
        let digits = name.iter().rev().take_while(|byte| byte.is_ascii_digit());
        let (stem, index) = name.split_at(name.len() - digits.count());
        let index: Option<u32> = number(index);
        self.bytes = self.bytes.saturating_add(name.len() + value.len());
        if self.bytes > BYTES_MAX {
            self.trouble("too much is said of it");
            return true;
        }
        match (stem, index) {
            (b"execname" | b"subcmd", None) => self.program = self.text(value),
            (b"nprocs" | b"maxprocs", None) => match number(value) {
                Some(ranks) if ranks > 0 => self.ranks = ranks,
                _ => self.trouble("it asks for no process"),
            },
            (b"arg" | b"argv", Some(index)) => {
                if let Some(text) = self.text(value) {
                    self.arguments.insert(index, text);
                }
            }
            (b"preput_key_" | b"ppkey", Some(index)) => {
                self.pairs.entry(index).or_default().0 = value.to_vec();
            }
            (b"preput_val_" | b"ppval", Some(index)) => {
                self.pairs.entry(index).or_default().1 = value.to_vec();
            }
            (b"info_key_" | b"infokey", Some(index)) => {
                self.info.entry(index).or_default().0 = value.to_vec();
            }
            (b"info_val_" | b"infoval", Some(index)) => {
                self.info.entry(index).or_default().1 = value.to_vec();
            }
            _ => return false,
        }
        true
    }

    /// Whether a command has begun.
    pub(super) fn has_program(&self) -> bool {
        self.program.is_some()
    }

    /// The words of one command have come.
    pub(super) fn end_command(&mut self) {
        let Some(program) = self.program.take().filter(|program| !program.is_empty()) else {
            self.trouble("it names no program");
            return;
        };
        if self.request.commands.len() >= COMMANDS_MAX {
            self.trouble("it has too many commands");
            return;
        }
        let arguments = std::mem::take(&mut self.arguments).into_values();
        let mut command = SpawnCommand {
            ranks: std::mem::take(&mut self.ranks),
            arguments: std::iter::once(program).chain(arguments).collect(),
            ..SpawnCommand::default()
        };
        if command.ranks == 0 {
            self.trouble("it asks for no process");
        }
        for (key, value) in std::mem::take(&mut self.info).into_values() {
            let value = self.text(&value).unwrap_or_default();
            match key.as_slice() {
                b"wdir" => command.directory = Some(value),
                b"host" | b"hosts" => {
                    let hosts = value.split([',', ' ']).filter(|host| !host.is_empty());
                    command.hosts = hosts.map(str::to_owned).collect();
                }
                // An implementation takes of these what it knows.
                _ => {}
            }
        }
        self.request.commands.push(command);
    }

    /// The whole, or why it cannot be.
    pub(super) fn finish(mut self) -> Result<SpawnRequest, &'static str> {
        if self.request.commands.is_empty() {
            self.trouble("it names no program");
        }
        let pairs: Vec<SpawnPair> = self.pairs.into_values().collect();
        for (key, value) in &pairs {
            kvs::check(key, value)?;
        }
        self.request.pairs = pairs;
        match self.trouble {
            Some(why) => Err(why),
            None => Ok(self.request),
        }
    }

    fn text(&mut self, value: &[u8]) -> Option<String> {
        let text = std::str::from_utf8(value).ok();
        let text = text.filter(|text| !text.contains('\0'));
        if text.is_none() {
            self.trouble("a word of it is no UTF-8");
        }
        text.map(str::to_owned)
    }

    /// The first that is wrong is told.
    fn trouble(&mut self, why: &'static str) {
        self.trouble.get_or_insert(why);
    }
}
