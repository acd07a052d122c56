//! What an administrator decides: partitions, accounts, users and QOS, and changes of them.
//!
//! Each is a list of settings, `key=value`, on the command line, in the configuration file, on the wire and in the
//! store: [`Rules::settings`] writes it and [`Rules::change`] reads it, so there is one grammar. A change is checked
//! against all the rest before it holds: nothing can name what does not exist.

mod grammar;

use super::account::{Account, DEFAULT, ROOT, User};
use super::license::{License, NodeRule};
use super::limits::{Level, LimitKind, Limits};
use super::partition::Partition;
use super::qos::Qos;
use super::refusal::{Code, Refusal};
use super::reservation::Reservation;
use grammar::{
    of_account, of_license, of_node, of_partition, of_qos, of_reservation, of_user, parse_bool,
    set_account, set_license, set_node, set_partition, set_qos, set_reservation, set_user,
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The QOS of jobs that name none.
pub const NORMAL: &str = "normal";
/// Longest name and text; bytes.
const TEXT_MAX: usize = 256;
/// Most of each noun.
const MOST: usize = 10_000;
/// Most accounts above one another.
const DEPTH_MAX: usize = 32;
/// Longest time between the warning of a job that has to make room and its end; seconds.
const GRACE_MAX_S: u32 = 3600;

/// The nouns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Noun {
    /// A partition.
    Partition,
    /// An account.
    Account,
    /// A user.
    User,
    /// A QOS.
    Qos,
    /// A pool of licences.
    License,
    /// What is said of a node beside what it says itself.
    Node,
    /// A reservation.
    Reservation,
}

impl Noun {
    /// Every noun.
    pub const ALL: [Noun; 7] = [
        Noun::Partition,
        Noun::Account,
        Noun::User,
        Noun::Qos,
        Noun::License,
        Noun::Node,
        Noun::Reservation,
    ];

    /// Its word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Noun::Partition => "partition",
            Noun::Account => "account",
            Noun::User => "user",
            Noun::Qos => "qos",
            Noun::License => "license",
            Noun::Node => "node",
            Noun::Reservation => "reservation",
        }
    }

    /// The command that is about it.
    #[must_use]
    pub fn command(self) -> &'static str {
        match self {
            Noun::Reservation => "reserve",
            other => other.word(),
        }
    }

    /// Whether limits can be set there.
    #[must_use]
    pub fn has_limits(self) -> bool {
        matches!(
            self,
            Noun::Partition | Noun::Account | Noun::User | Noun::Qos
        )
    }

    /// Whether every name is known, as one of which nothing is said.
    #[must_use]
    pub fn knows_all(self) -> bool {
        matches!(self, Noun::User | Noun::Node)
    }

    /// The noun of this word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Noun> {
        Noun::ALL.into_iter().find(|noun| noun.word() == word)
    }

    /// What is said of one that does not exist.
    #[must_use]
    pub fn unknown(self) -> Code {
        match self {
            Noun::Partition => Code::UnknownPartition,
            Noun::Account => Code::UnknownAccount,
            Noun::User | Noun::License | Noun::Reservation => Code::Invalid,
            Noun::Node => Code::UnknownNode,
            Noun::Qos => Code::UnknownQos,
        }
    }

    /// Its keys beside the limits, and what they hold.
    #[must_use]
    pub fn keys(self) -> &'static [&'static str] {
        match self {
            Noun::Partition => &[
                "default",
                "max-time",
                "default-time",
                "nodes",
                "state",
                "priority",
                "tier",
                "preempt-mode",
                "grace-time",
                "exempt-time",
                "accounts",
                "qos",
            ],
            Noun::Account => &["parent", "shares", "qos", "reserve-time", "description"],
            Noun::User => &["account", "accounts", "shares", "qos", "default-qos"],
            Noun::Qos => &[
                "priority",
                "preempts",
                "preempt-mode",
                "grace-time",
                "exempt-time",
                "usage-factor",
            ],
            Noun::License => &["count"],
            Noun::Node => &["features", "switch"],
            Noun::Reservation => &[
                "start",
                "end",
                "repeat",
                "zone",
                "nodes",
                "node-count",
                "gpus",
                "cpus",
                "users",
                "accounts",
                "purpose",
                "description",
                "on",
            ],
        }
    }
}

impl fmt::Display for Noun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// What to do with one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Act {
    /// Make a new one.
    Add,
    /// Change settings of one that exists.
    Set,
    /// Take it away.
    Remove,
}

impl Act {
    /// Its word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Act::Add => "add",
            Act::Set => "set",
            Act::Remove => "remove",
        }
    }
}

/// A setting: its key and its value, as text.
pub type Setting = (String, String);

/// One of a noun, and what is said of it.
pub type Said = (Noun, String, Vec<Setting>);

/// A change of the rules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleChange {
    /// Of what.
    pub noun: Noun,
    /// What to do.
    pub act: Act,
    /// With which.
    pub name: String,
    /// Settings, in order.
    #[serde(deserialize_with = "super::bounded::few")]
    pub settings: Vec<Setting>,
}

impl fmt::Display for RuleChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.noun, self.act.word(), self.name)?;
        let mut settings = self.settings.iter();
        settings.try_for_each(|(key, value)| write!(f, " {key}={value}"))
    }
}

/// Something that is said elsewhere (in the configuration file) and is not so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Of what.
    pub noun: Noun,
    /// Of which.
    pub name: String,
    /// Which key; empty where there is none of this name.
    pub key: String,
    /// What is said there.
    pub says: String,
    /// What holds; `None` = there is none of this name.
    pub has: Option<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Difference {
            noun,
            name,
            key,
            says,
            has,
        } = self;
        let Some(has) = has else {
            write!(
                f,
                "{noun} {name}: the configuration has it, the cluster does not: "
            )?;
            return write!(f, "add it with `hpc {noun} add {name}{says}`");
        };
        write!(
            f,
            "{noun} {name} {key}: the configuration says {says}, the cluster has {has}: "
        )?;
        write!(f, "change it with `hpc {noun} set {name} {key}={says}`")
    }
}

/// All that is decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Partitions, by name.
    pub partitions: BTreeMap<String, Partition>,
    /// Accounts, by name.
    pub accounts: BTreeMap<String, Account>,
    /// People of whom something is said, by name.
    pub users: BTreeMap<String, User>,
    /// QOS, by name.
    pub qos: BTreeMap<String, Qos>,
    /// Pools of licences, by name.
    pub licenses: BTreeMap<String, License>,
    /// Nodes of which something is said, by name.
    pub nodes: BTreeMap<String, NodeRule>,
    /// Reservations, by name.
    pub reservations: BTreeMap<String, Reservation>,
}

impl Default for Rules {
    fn default() -> Self {
        Rules::initial()
    }
}

impl Rules {
    /// What holds before anything is decided.
    #[must_use]
    pub fn initial() -> Self {
        let partitions = Partition::initial();
        let accounts = [ROOT, DEFAULT].map(Account::named);
        Rules {
            partitions: partitions
                .into_iter()
                .map(|one| (one.name.clone(), one))
                .collect(),
            accounts: accounts
                .into_iter()
                .map(|one| (one.name.clone(), one))
                .collect(),
            users: BTreeMap::new(),
            qos: [(NORMAL.to_owned(), Qos::named(NORMAL))].into(),
            licenses: BTreeMap::new(),
            nodes: BTreeMap::new(),
            reservations: BTreeMap::new(),
        }
    }

    /// The partition of jobs that name none.
    #[must_use]
    pub fn default_partition(&self) -> Option<&Partition> {
        self.partitions.values().find(|known| known.default)
    }

    /// Whether a node has this feature: one that was said, or the kind of one of its GPUs.
    #[must_use]
    pub fn has_feature(&self, node: &super::node::Node, feature: &str) -> bool {
        let said = self.nodes.get(node.name()).map(|one| one.features.iter());
        let mut said = said.into_iter().flatten();
        let mut gpus = node.inventory.topology.gpus.iter();
        said.any(|one| one.eq_ignore_ascii_case(feature))
            || gpus.any(|gpu| gpu.kind.eq_ignore_ascii_case(feature))
    }

    /// What is said of a person, or what holds when nothing is.
    #[must_use]
    pub fn user(&self, name: &str) -> User {
        self.users
            .get(name)
            .cloned()
            .unwrap_or_else(|| User::named(name))
    }

    /// An account and those above it, the root last.
    pub fn lineage<'a>(&'a self, account: &str) -> impl Iterator<Item = &'a Account> {
        std::iter::successors(self.accounts.get(account), |one| {
            one.parent
                .as_ref()
                .and_then(|above| self.accounts.get(above))
        })
        .take(DEPTH_MAX + 1)
    }

    /// The levels whose limits hold for a job, in the order in which they decide.
    #[must_use]
    pub fn levels(
        &self,
        partition: &str,
        qos: &str,
        user: &str,
        account: &str,
    ) -> Vec<(Level, &Limits)> {
        let mut levels = Vec::new();
        if let Some(known) = self.partitions.get(partition) {
            levels.push((Level::Partition(known.name.clone()), &known.limits));
        }
        if let Some(known) = self.qos.get(qos) {
            levels.push((Level::Qos(known.name.clone()), &known.limits));
        }
        if let Some(known) = self.users.get(user) {
            levels.push((Level::User(known.name.clone()), &known.limits));
        }
        let above = self.lineage(account);
        levels.extend(above.map(|known| (Level::Account(known.name.clone()), &known.limits)));
        levels.retain(|(_, limits)| !limits.is_empty());
        levels
    }

    /// Names of all of a noun.
    #[must_use]
    pub fn names(&self, noun: Noun) -> Vec<&str> {
        match noun {
            Noun::Partition => self.partitions.keys().map(String::as_str).collect(),
            Noun::Account => self.accounts.keys().map(String::as_str).collect(),
            Noun::User => self.users.keys().map(String::as_str).collect(),
            Noun::Qos => self.qos.keys().map(String::as_str).collect(),
            Noun::License => self.licenses.keys().map(String::as_str).collect(),
            Noun::Node => self.nodes.keys().map(String::as_str).collect(),
            Noun::Reservation => self.reservations.keys().map(String::as_str).collect(),
        }
    }

    /// Whether there is one of this name.
    #[must_use]
    pub fn has(&self, noun: Noun, name: &str) -> bool {
        match noun {
            Noun::Partition => self.partitions.contains_key(name),
            Noun::Account => self.accounts.contains_key(name),
            Noun::User => self.users.contains_key(name),
            Noun::Qos => self.qos.contains_key(name),
            Noun::License => self.licenses.contains_key(name),
            Noun::Node => self.nodes.contains_key(name),
            Noun::Reservation => self.reservations.contains_key(name),
        }
    }

    /// What is said of one, in the grammar that [`Rules::change`] reads; `None` = there is none. What is as it was
    /// before anything was said is left out.
    #[must_use]
    pub fn settings(&self, noun: Noun, name: &str) -> Option<Vec<Setting>> {
        let blank = Rules::unsaid(noun, name);
        let all = self.all_settings(noun, name)?.into_iter();
        Some(all.filter(|setting| !blank.contains(setting)).collect())
    }

    /// What holds for one, also where nothing is said; `None` = there is none.
    #[must_use]
    pub fn all_settings(&self, noun: Noun, name: &str) -> Option<Vec<Setting>> {
        Some(match noun {
            Noun::Partition => of_partition(self.partitions.get(name)?),
            Noun::Account => of_account(self.accounts.get(name)?),
            Noun::User => of_user(self.users.get(name)?),
            Noun::Qos => of_qos(self.qos.get(name)?),
            Noun::License => of_license(self.licenses.get(name)?),
            Noun::Node => of_node(self.nodes.get(name)?),
            Noun::Reservation => of_reservation(self.reservations.get(name)?),
        })
    }

    /// What holds for one of which nothing is said.
    #[must_use]
    pub fn unsaid(noun: Noun, name: &str) -> Vec<Setting> {
        match noun {
            Noun::Partition => of_partition(&Partition::named(name)),
            Noun::Account => of_account(&Account::named(name)),
            Noun::User => of_user(&User::named(name)),
            Noun::Qos => of_qos(&Qos::named(name)),
            Noun::License => of_license(&License::named(name)),
            Noun::Node => of_node(&NodeRule::named(name)),
            Noun::Reservation => of_reservation(&Reservation::named(name)),
        }
    }

    /// The rules with this change.
    ///
    /// # Errors
    /// A refusal that names the value and what would work.
    pub fn change(&self, change: &RuleChange) -> Result<Rules, Refusal> {
        let RuleChange {
            noun, act, name, ..
        } = change;
        let (noun, act) = (*noun, *act);
        let known = self.has(noun, name);
        match act {
            Act::Add if known => {
                let what = format!("{noun} `{name}` exists already");
                let verb = noun.command();
                let hint = format!("change it with `hpc {verb} set {name} KEY=VALUE`");
                return Err(Refusal::new(Code::Conflict, what, hint));
            }
            Act::Add => check_name(noun, name)?,
            // Everybody is known already, as somebody of whom nothing is said.
            Act::Set if noun.knows_all() => check_name(noun, name)?,
            Act::Set | Act::Remove if !known => return Err(self.unknown(noun, name)),
            Act::Set | Act::Remove => {}
        }
        let mut after = self.clone();
        if act == Act::Remove {
            after.remove(noun, name);
            let what = |by: String| format!("{noun} `{name}` cannot be removed: {by} names it");
            let hint = "change that first";
            let in_use = |by| Refusal::new(Code::Conflict, what(by), hint);
            after
                .missing()
                .map_or(Ok(()), |(by, _, _)| Err(in_use(by)))?;
        } else {
            for (key, value) in &change.settings {
                let set = after.set(noun, name, key, value);
                set.map_err(|why| wrong_setting(noun, name, key, value, &why))?;
            }
            if change.settings.is_empty() {
                after.touch(noun, name);
            }
        }
        if after.names(noun).len() > MOST {
            let what = format!("{MOST} of {noun} exist, which is the most");
            return Err(Refusal::new(Code::TooMuch, what, "remove some first"));
        }
        after.check()?;
        Ok(after)
    }

    /// The rules that these settings make and nothing else; for what was stored.
    ///
    /// # Errors
    /// A refusal that names what does not fit.
    pub fn from_settings(all: &[Said]) -> Result<Rules, Refusal> {
        let nothing = Rules {
            partitions: BTreeMap::new(),
            accounts: BTreeMap::new(),
            users: BTreeMap::new(),
            qos: BTreeMap::new(),
            licenses: BTreeMap::new(),
            nodes: BTreeMap::new(),
            reservations: BTreeMap::new(),
        };
        nothing.with_settings(all)
    }

    /// These rules and what is said beside them; what is said may name what comes behind it.
    ///
    /// # Errors
    /// A refusal that names what does not fit.
    pub fn with_settings(&self, said: &[Said]) -> Result<Rules, Refusal> {
        let mut after = self.clone();
        for (noun, name, settings) in said {
            check_name(*noun, name)?;
            after.touch(*noun, name);
            for (key, value) in settings {
                let set = after.set(*noun, name, key, value);
                set.map_err(|why| wrong_setting(*noun, name, key, value, &why))?;
            }
        }
        after.check()?;
        Ok(after)
    }

    /// Whether one may have this name.
    ///
    /// # Errors
    /// A refusal that says what a name is.
    pub fn check_name(noun: Noun, name: &str) -> Result<(), Refusal> {
        check_name(noun, name)
    }

    /// Whether a key can have this value. Whether there is what it names depends on all the rest.
    ///
    /// # Errors
    /// What is wrong with key or value.
    pub fn check_setting(noun: Noun, name: &str, key: &str, value: &str) -> Result<(), String> {
        Rules::initial().set(noun, name, key, value)
    }

    /// What is said there and is not so here, by key; what is said has been checked.
    #[must_use]
    pub fn differences(&self, said: &[Said]) -> Vec<Difference> {
        let mut differences = Vec::new();
        for (noun, name, settings) in said {
            let mut wanted = self.clone();
            wanted.touch(*noun, name);
            for (key, value) in settings {
                // One that cannot be set is as it is.
                _ = wanted.set(*noun, name, key, value);
            }
            let key = |key: &str, says, has| Difference {
                noun: *noun,
                name: name.clone(),
                key: key.to_owned(),
                says,
                has,
            };
            if !self.has(*noun, name) {
                let says = settings
                    .iter()
                    .map(|(key, value)| format!(" {key}={value}"));
                differences.push(key("", says.collect(), None));
                continue;
            }
            for (said, _) in settings {
                let says = wanted.value(*noun, name, said);
                let has = self.value(*noun, name, said);
                if says != has {
                    differences.push(key(said, says, Some(has)));
                }
            }
        }
        differences
    }

    /// What a key of one is, in the words of its setting.
    fn value(&self, noun: Noun, name: &str, key: &str) -> String {
        let all = self.all_settings(noun, name).unwrap_or_default();
        let found = all.into_iter().find(|(known, _)| known == key);
        // Limits alone are not listed where there is none.
        found.map_or_else(|| "none".to_owned(), |(_, value)| value)
    }

    /// The refusal of a name that does not exist.
    #[must_use]
    pub fn unknown(&self, noun: Noun, name: &str) -> Refusal {
        let known = self.names(noun).join(", ");
        let word = match noun {
            Noun::Qos => "QOS",
            other => other.word(),
        };
        let what = format!("there is no {word} `{name}`");
        Refusal::new(noun.unknown(), what, format!("there are: {known}"))
    }

    fn touch(&mut self, noun: Noun, name: &str) {
        let owned = || name.to_owned();
        match noun {
            Noun::Partition => {
                let known = self.partitions.entry(owned());
                known.or_insert_with(|| Partition::named(name));
            }
            Noun::Account => {
                let known = self.accounts.entry(owned());
                known.or_insert_with(|| Account::named(name));
            }
            Noun::User => {
                let known = self.users.entry(owned());
                known.or_insert_with(|| User::named(name));
            }
            Noun::Qos => {
                let known = self.qos.entry(owned());
                known.or_insert_with(|| Qos::named(name));
            }
            Noun::License => {
                let known = self.licenses.entry(owned());
                known.or_insert_with(|| License::named(name));
            }
            Noun::Node => {
                let known = self.nodes.entry(owned());
                known.or_insert_with(|| NodeRule::named(name));
            }
            Noun::Reservation => {
                let known = self.reservations.entry(owned());
                known.or_insert_with(|| Reservation::named(name));
            }
        }
    }

    fn remove(&mut self, noun: Noun, name: &str) {
        match noun {
            Noun::Partition => _ = self.partitions.remove(name),
            Noun::Account => _ = self.accounts.remove(name),
            Noun::User => _ = self.users.remove(name),
            Noun::Qos => _ = self.qos.remove(name),
            Noun::License => _ = self.licenses.remove(name),
            Noun::Node => _ = self.nodes.remove(name),
            Noun::Reservation => _ = self.reservations.remove(name),
        }
    }

    fn set(&mut self, noun: Noun, name: &str, key: &str, value: &str) -> Result<(), String> {
        self.touch(noun, name);
        let missing = || Err(String::from("it is gone"));
        match noun {
            Noun::Partition => {
                if key == "default" && parse_bool(value)? {
                    for other in self.partitions.values_mut() {
                        other.default = false;
                    }
                }
                let Some(one) = self.partitions.get_mut(name) else {
                    return missing();
                };
                set_partition(one, key, value)
            }
            Noun::Account => match self.accounts.get_mut(name) {
                Some(one) => set_account(one, key, value),
                None => missing(),
            },
            Noun::User => match self.users.get_mut(name) {
                Some(one) => set_user(one, key, value),
                None => missing(),
            },
            Noun::Qos => match self.qos.get_mut(name) {
                Some(one) => set_qos(one, key, value),
                None => missing(),
            },
            Noun::License => match self.licenses.get_mut(name) {
                Some(one) => set_license(one, key, value),
                None => missing(),
            },
            Noun::Node => match self.nodes.get_mut(name) {
                Some(one) => set_node(one, key, value),
                None => missing(),
            },
            Noun::Reservation => match self.reservations.get_mut(name) {
                Some(one) => set_reservation(one, key, value),
                None => missing(),
            },
        }
    }

    /// Whether all names that are named exist, and what must exist does.
    fn check(&self) -> Result<(), Refusal> {
        for (noun, name) in [
            (Noun::Account, ROOT),
            (Noun::Account, DEFAULT),
            (Noun::Qos, NORMAL),
        ] {
            if !self.has(noun, name) {
                let what = format!("{noun} `{name}` cannot be removed");
                let hint = "jobs that name none belong to it";
                return Err(Refusal::new(Code::Conflict, what, hint));
            }
        }
        if self.default_partition().is_none() {
            let hint = "make another partition the default first, with `default=yes`";
            let what = "one partition must be the default";
            return Err(Refusal::new(Code::Conflict, what, hint));
        }
        if let Some((by, noun, name)) = self.missing() {
            let mut refusal = self.unknown(noun, name);
            refusal.what = format!("{by} names {noun} `{name}`, which does not exist");
            return Err(refusal);
        }
        for one in self.reservations.values() {
            one.check().map_err(|why| {
                let what = format!("reservation {}: {why}", one.name);
                let hint = "`hpc reserve add --help` lists the keys";
                Refusal::new(Code::Invalid, what, hint)
            })?;
        }
        if let Some(name) = self.preempts_itself() {
            let what = format!("QOS `{name}` would preempt itself, by itself or through others");
            let hint = "their jobs would take each other's places for ever";
            return Err(Refusal::new(Code::Invalid, what, hint));
        }
        for one in self.accounts.values() {
            let top = self.lineage(&one.name).last();
            if top.is_none_or(|top| top.name != ROOT) {
                let what = format!(
                    "account `{}` does not lie below `{ROOT}`, or more than {DEPTH_MAX} deep",
                    one.name
                );
                let hint = "give it a parent that does";
                return Err(Refusal::new(Code::Invalid, what, hint));
            }
        }
        Ok(())
    }

    /// A QOS from which preemption leads back to itself.
    fn preempts_itself(&self) -> Option<&str> {
        let reaches = |start: &str| {
            let mut seen = BTreeSet::from([start]);
            let mut left = vec![start];
            while let Some(name) = left.pop() {
                let below = self.qos.get(name).map(|one| one.preempts.iter());
                for next in below.into_iter().flatten() {
                    if next == start {
                        return true;
                    }
                    if seen.insert(next) {
                        left.push(next);
                    }
                }
            }
            false
        };
        let mut names = self.qos.keys().map(String::as_str);
        names.find(|name| reaches(name))
    }

    /// The first name that is named and does not exist: by what, and of which noun.
    fn missing(&self) -> Option<(String, Noun, &str)> {
        self.named()
            .find(|(_, noun, name)| !self.has(*noun, name))
            .map(|((by, one), noun, name)| (format!("{by} `{one}`"), noun, name))
    }

    /// All names that are named, and by what.
    fn named(&self) -> impl Iterator<Item = ((Noun, &str), Noun, &str)> {
        fn of<'a>(
            by: (Noun, &'a str),
            noun: Noun,
            names: impl IntoIterator<Item = &'a String>,
        ) -> impl Iterator<Item = ((Noun, &'a str), Noun, &'a str)> {
            let names = names.into_iter();
            names.map(move |name| (by, noun, name.as_str()))
        }
        let partitions = self.partitions.values().flat_map(|one| {
            let by = (Noun::Partition, one.name.as_str());
            let accounts = of(by, Noun::Account, &one.accounts);
            accounts.chain(of(by, Noun::Qos, &one.qos))
        });
        let users = self.users.values().flat_map(|one| {
            let by = (Noun::User, one.name.as_str());
            let accounts = std::iter::once(&one.account).chain(&one.accounts);
            let qos = one.qos.iter().chain(&one.default_qos);
            of(by, Noun::Account, accounts).chain(of(by, Noun::Qos, qos))
        });
        let accounts = self.accounts.values().flat_map(|one| {
            let by = (Noun::Account, one.name.as_str());
            of(by, Noun::Account, &one.parent).chain(of(by, Noun::Qos, &one.qos))
        });
        let qos = self.qos.values().flat_map(|one| {
            let by = (Noun::Qos, one.name.as_str());
            of(by, Noun::Qos, &one.preempts)
        });
        let reservations = self.reservations.values().flat_map(|one| {
            let by = (Noun::Reservation, one.name.as_str());
            of(by, Noun::Account, &one.accounts)
        });
        let nouns = partitions.chain(users).chain(accounts).chain(qos);
        nouns.chain(reservations)
    }
}

fn check_name(noun: Noun, name: &str) -> Result<(), Refusal> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.@".contains(&byte);
    // In a list they stand for every one and for no one.
    let is_word = noun != Noun::User && matches!(name, "all" | "none");
    let fits = (1..=64).contains(&name.len()) && name.bytes().all(allowed);
    if fits && !name.starts_with('-') && !is_word {
        return Ok(());
    }
    let what = format!("`{}` is no name for a {noun}", super::text::excerpt(name));
    let hint = "use 1 to 64 letters, digits, '-', '_', '.' and '@'";
    Err(Refusal::new(Code::Invalid, what, hint))
}

fn wrong_setting(noun: Noun, name: &str, key: &str, value: &str, why: &str) -> Refusal {
    let (key, value) = (super::text::excerpt(key), super::text::excerpt(value));
    let what = format!("{noun} {name}: {key}={value}: {why}");
    let hint = format!("`hpc {} set --help` lists the keys", noun.command());
    Refusal::new(Code::Invalid, what, hint)
}

fn unknown_key(noun: Noun) -> String {
    let mut keys: Vec<&str> = noun.keys().to_vec();
    let limits = LimitKind::ALL.map(LimitKind::word).into_iter();
    keys.extend(limits.filter(|word| noun.has_limits() && !noun.keys().contains(word)));
    format!("no such key; there are: {}", keys.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(
        rules: &Rules,
        act: Act,
        noun: Noun,
        name: &str,
        text: &str,
    ) -> Result<Rules, String> {
        let settings = text
            .split_whitespace()
            .filter_map(|one| one.split_once('='));
        let settings = settings.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let change = RuleChange {
            noun,
            act,
            name: name.to_owned(),
            settings: settings.collect(),
        };
        rules.change(&change).map_err(|refusal| refusal.to_string())
    }

    fn all(rules: &Rules) -> Vec<(Noun, String, Vec<Setting>)> {
        let mut all = Vec::new();
        for noun in Noun::ALL {
            for name in rules.names(noun) {
                let settings = rules.settings(noun, name).unwrap();
                all.push((noun, name.to_owned(), settings));
            }
        }
        all
    }

    #[test]
    fn what_is_written_is_read_again() {
        let mut rules = Rules::initial();
        assert_eq!(Rules::from_settings(&all(&rules)).unwrap(), rules);
        let steps = [
            (Act::Add, Noun::Qos, "scavenger", "usage-factor=0.25"),
            (Act::Add, Noun::Qos, "high", "priority=10"),
            (
                Act::Add,
                Noun::Account,
                "physics",
                "shares=3 max-jobs-per-user=4",
            ),
            (
                Act::Add,
                Noun::Account,
                "optics",
                "parent=physics group-memory=2G description=light",
            ),
            (
                Act::Set,
                Noun::User,
                "ann",
                "account=optics accounts=physics shares=2 default-qos=high",
            ),
            (
                Act::Set,
                Noun::Partition,
                "batch",
                "max-time=2d nodes=n[1-3,7] accounts=physics,optics",
            ),
            (
                Act::Add,
                Noun::Partition,
                "gpu",
                "default=yes tier=2 state=down default-time=1h",
            ),
            (
                Act::Set,
                Noun::Qos,
                "normal",
                "max-jobs-per-user=1 max-submit-per-user=3",
            ),
        ];
        for (act, noun, name, text) in steps {
            rules = change(&rules, act, noun, name, text).unwrap();
            assert_eq!(Rules::from_settings(&all(&rules)).unwrap(), rules, "{text}");
        }
        assert_eq!(rules.default_partition().unwrap().name, "gpu");
        let levels = rules.levels("batch", "normal", "ann", "optics");
        let levels: Vec<String> = levels.iter().map(|(level, _)| level.to_string()).collect();
        assert_eq!(levels, ["QOS normal", "account optics", "account physics"]);
        // Taken back, it is as before.
        rules = change(
            &rules,
            Act::Set,
            Noun::Qos,
            "normal",
            "max-jobs-per-user=none",
        )
        .unwrap();
        assert_eq!(
            rules.settings(Noun::Qos, "normal").unwrap(),
            [("max-submit-per-user".to_owned(), "3".to_owned())]
        );
    }

    #[test]
    fn mistakes_are_named_and_change_nothing() {
        let mut rules = Rules::initial();
        rules = change(&rules, Act::Add, Noun::Account, "physics", "").unwrap();
        rules = change(&rules, Act::Add, Noun::Account, "optics", "parent=physics").unwrap();
        let cases = [
            (Act::Set, Noun::Qos, "fast", "", "there is no QOS `fast`"),
            (Act::Add, Noun::Qos, "normal", "", "exists already"),
            (Act::Remove, Noun::Qos, "normal", "", "cannot be removed"),
            (Act::Remove, Noun::Account, "root", "", "cannot be removed"),
            (
                Act::Remove,
                Noun::Partition,
                "batch",
                "",
                "one partition must be the default",
            ),
            (Act::Add, Noun::Account, "a b", "", "is no name"),
            (Act::Add, Noun::Qos, "none", "", "is no name"),
            (
                Act::Add,
                Noun::Account,
                "a",
                "parent=b",
                "names account `b`",
            ),
            (
                Act::Set,
                Noun::Account,
                "default",
                "parent=default",
                "does not lie below `root`",
            ),
            (Act::Set, Noun::Qos, "normal", "max-jobs=1", "no such key"),
            (
                Act::Set,
                Noun::Qos,
                "normal",
                "max-jobs-per-user=-3",
                "not a whole number",
            ),
            (
                Act::Set,
                Noun::Qos,
                "normal",
                "usage-factor=0.1234",
                "write a number",
            ),
            (
                Act::Set,
                Noun::Partition,
                "batch",
                "state=open",
                "up or down",
            ),
            (
                Act::Set,
                Noun::User,
                "ann",
                "account=none",
                "names account `none`",
            ),
            (
                Act::Remove,
                Noun::Account,
                "physics",
                "",
                "cannot be removed: account `optics` names it",
            ),
        ];
        for (act, noun, name, text, named) in cases {
            let error = change(&rules, act, noun, name, text).unwrap_err();
            assert!(error.contains(named), "{text}: {error}");
        }
    }

    #[test]
    fn what_is_said_elsewhere_is_compared_key_by_key() {
        let said = |noun, name: &str, settings: &[(&str, &str)]| -> Said {
            let settings = settings.iter();
            let settings = settings.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
            (noun, name.to_owned(), settings.collect())
        };
        let here = [
            // Named before it is there.
            said(Noun::User, "ann", &[("account", "physics")]),
            said(Noun::Account, "physics", &[("shares", "3")]),
            said(Noun::Partition, "batch", &[("max-time", "24h")]),
            said(Noun::Qos, "normal", &[("max-jobs-per-user", "1")]),
        ];
        let rules = Rules::initial().with_settings(&here).unwrap();
        assert_eq!(rules.differences(&here), []);
        let there = [
            said(
                Noun::Partition,
                "batch",
                &[("max-time", "1-0"), ("default", "true")],
            ),
            said(Noun::Partition, "interactive", &[("default", "1")]),
            said(Noun::Qos, "normal", &[("max-jobs-per-user", "none")]),
            said(Noun::Qos, "normal", &[("group-cpus", "4")]),
            said(Noun::Account, "optics", &[("parent", "physics")]),
            said(Noun::User, "bob", &[]),
        ];
        let differences = rules.differences(&there);
        let differences: Vec<String> = differences.iter().map(ToString::to_string).collect();
        assert_eq!(
            differences,
            [
                "partition interactive default: the configuration says yes, the cluster has no: change it with `hpc partition set interactive default=yes`",
                "qos normal max-jobs-per-user: the configuration says none, the cluster has 1: change it with `hpc qos set normal max-jobs-per-user=none`",
                "qos normal group-cpus: the configuration says 4, the cluster has none: change it with `hpc qos set normal group-cpus=4`",
                "account optics: the configuration has it, the cluster does not: add it with `hpc account add optics parent=physics`",
                "user bob: the configuration has it, the cluster does not: add it with `hpc user add bob`",
            ]
        );
        let error = rules.with_settings(&[said(Noun::User, "bob", &[("qos", "fast")])]);
        let error = error.unwrap_err().to_string();
        assert!(error.contains("user `bob` names qos `fast`"), "{error}");
        assert!(
            rules
                .with_settings(&[said(Noun::User, "a b", &[])])
                .is_err()
        );
    }
}
