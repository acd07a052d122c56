//! What `hpc partition`, `account`, `user` and `qos` have in common: each is a list of settings that everybody may see
//! and an administrator changes.

use super::connection::{Target, unexpected};
use super::exit::{self, Failure, Outcome};
use super::output::table::{Column, Table, elastic, left, right};
use super::output::{self, json};
use super::rule_keys;
use super::selection::change;
use crate::model::rules::{Act as Change, Noun, RuleChange, Rules, Setting};
use crate::wire::client::{Request, ToClient};
use crate::wire::view::RuleView;
use clap::{Command, Subcommand};
use serde::{Serialize, Serializer};
use std::fmt::Write as _;

/// What can be done with any of the four. [`help`] adds keys and examples.
#[derive(Debug, Subcommand)]
pub(super) enum Act {
    /// Show all, with what is said of each
    List {
        /// One JSON array
        #[arg(long)]
        json: bool,
    },
    /// Show all that holds for one
    Show {
        /// Which
        #[arg(value_name = "NAME")]
        name: String,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
    /// Make a new one; at once, for jobs that are submitted from now on
    Add {
        /// Its name
        #[arg(value_name = "NAME")]
        name: String,
        /// Settings; the keys are below
        #[arg(value_name = "KEY=VALUE")]
        settings: Vec<String>,
    },
    /// Change settings of one, all of them or none; at once
    Set {
        /// Which
        #[arg(value_name = "NAME")]
        name: String,
        /// Settings; the keys are below
        #[arg(value_name = "KEY=VALUE", required = true)]
        settings: Vec<String>,
    },
    /// Take one away that no job needs
    Remove {
        /// Which
        #[arg(value_name = "NAME")]
        name: String,
    },
}

/// Gives each of these verbs its example, and those that take settings the list of keys.
pub(super) fn help(noun: Noun) -> impl FnMut(Command) -> Command {
    move |command| {
        let verb = command.get_name().to_owned();
        let Some(example) = example(noun, &verb) else {
            return command;
        };
        let command_of = noun.command();
        let example = format!("Examples:\n  hpc {command_of} {verb}{example}");
        match verb.as_str() {
            "add" | "set" => command.after_help(format!("{}\n\n{example}", rule_keys::help(noun))),
            _ => command.after_help(example),
        }
    }
}

fn example(noun: Noun, verb: &str) -> Option<&'static str> {
    Some(match (verb, noun) {
        ("list", _) => " --json",
        ("show", Noun::Partition) => " batch",
        ("show", Noun::Account) => " physics --json",
        ("show", Noun::User) => " ann",
        ("show", Noun::Qos) => " normal",
        ("add", Noun::Partition) => " gpu nodes=ws[1-4] max-time=12h accounts=physics,default",
        ("add", Noun::Account) => {
            " optics parent=physics shares=3 description=\"light and lenses\""
        }
        ("add", Noun::User) => " ann account=physics accounts=default",
        ("add", Noun::Qos) => " urgent priority=10 max-jobs-per-user=1 max-time=1h",
        ("set", Noun::Partition) => " batch max-time=2d default-time=1h",
        ("set", Noun::Account) => " physics shares=5 max-cpus-per-user=64 group-gpus=4",
        ("set", Noun::User) => " ann account=physics default-qos=urgent",
        ("set", Noun::Qos) => " normal max-jobs-per-user=4 max-submit-per-user=none",
        ("show", Noun::License) => " matlab",
        ("add", Noun::License) => " matlab count=4",
        ("set", Noun::License) => " matlab count=6",
        ("remove", Noun::License) => " matlab",
        ("show", Noun::Reservation) => " course",
        ("add", Noun::Reservation) => {
            " course start=fri14:00 end=fri18:00 gpus=2 users=ann,bob repeat=weekly"
        }
        ("set", Noun::Reservation) => " course users=ann,bob,eve",
        ("remove", Noun::Reservation) => " course",
        ("set", Noun::Node) => " ws[1-4] features=fast,infiniband",
        ("remove", Noun::Partition) => " gpu",
        ("remove", Noun::Account) => " optics",
        ("remove", Noun::User) => " ann",
        ("remove", Noun::Qos) => " urgent",
        _ => return None,
    })
}

impl Act {
    /// Does it.
    pub(super) fn run(self, target: &Target, noun: Noun) -> Outcome {
        match self {
            Act::List { json } => list(target, noun, json)?,
            Act::Show { name, json } => show(target, noun, &name, json)?,
            Act::Add { name, settings } => decide(target, noun, Change::Add, name, &settings)?,
            Act::Set { name, settings } => decide(target, noun, Change::Set, name, &settings)?,
            Act::Remove { name } => decide(target, noun, Change::Remove, name, &[])?,
        }
        Ok(exit::DONE)
    }
}

fn decide(
    target: &Target,
    noun: Noun,
    act: Change,
    name: String,
    settings: &[String],
) -> Outcome<()> {
    let settings = settings.iter().map(|text| setting(text));
    let change_of = RuleChange {
        noun,
        act,
        name,
        settings: settings.collect::<Outcome<_>>()?,
    };
    change(target, noun.word(), &Request::ChangeRule(change_of))
}

/// A setting as it is written.
pub(super) fn setting(text: &str) -> Outcome<Setting> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(Failure::Usage(format!(
            "\"{text}\" is no setting: write KEY=VALUE"
        ))),
    }
}

/// All of a noun.
pub(super) fn all(target: &Target, noun: Noun) -> Outcome<Vec<RuleView>> {
    match target.ask(&Request::Rules { noun: Some(noun) })? {
        ToClient::Rules(mut views) => {
            views.retain(|view| view.noun == noun);
            Ok(views)
        }
        other => Err(unexpected(&other)),
    }
}

/// One of them as an object: its name, and all that holds for it by key, in the words that `set` takes.
#[derive(Serialize)]
pub(super) struct Object<'a> {
    name: &'a str,
    #[serde(serialize_with = "by_key")]
    settings: &'a [Setting],
}

fn by_key<S: Serializer>(settings: &[Setting], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(settings.iter().map(|(key, value)| (key, value)))
}

impl<'a> From<&'a RuleView> for Object<'a> {
    fn from(view: &'a RuleView) -> Self {
        Object {
            name: &view.name,
            settings: &view.settings,
        }
    }
}

fn list(target: &Target, noun: Noun, as_json: bool) -> Outcome<()> {
    let views = all(target, noun)?;
    if as_json {
        let mut array = json::Array::new(output::stdout());
        views
            .iter()
            .try_for_each(|view| array.push(&Object::from(view)))?;
        array.end()?;
    } else {
        table(noun, &views).print()?;
    }
    Ok(())
}

/// A key with a column of its own.
type Own = (&'static str, Column);

const OF_PARTITION: &[Own] = &[
    ("state", left("STATE")),
    ("max-time", right("MAX-TIME")),
    ("nodes", elastic("NODES", 12)),
];
const OF_ACCOUNT: &[Own] = &[("parent", left("PARENT")), ("shares", right("SHARES"))];
const OF_USER: &[Own] = &[("account", left("ACCOUNT")), ("shares", right("SHARES"))];
const OF_QOS: &[Own] = &[("priority", right("PRIORITY"))];
const OF_LICENSE: &[Own] = &[("count", right("COUNT"))];
const OF_NODE: &[Own] = &[
    ("features", elastic("FEATURES", 12)),
    ("switch", elastic("SWITCH", 12)),
];
const OF_RESERVATION: &[Own] = &[
    ("start", left("START")),
    ("end", left("END")),
    ("repeat", left("REPEAT")),
];

/// The head of the names, and keys with columns of their own.
fn columns(noun: Noun) -> (&'static str, &'static [Own]) {
    match noun {
        Noun::Partition => ("PARTITION", OF_PARTITION),
        Noun::Account => ("ACCOUNT", OF_ACCOUNT),
        Noun::User => ("USER", OF_USER),
        Noun::Qos => ("QOS", OF_QOS),
        Noun::License => ("LICENSE", OF_LICENSE),
        Noun::Node => ("NODE", OF_NODE),
        Noun::Reservation => ("RESERVATION", OF_RESERVATION),
    }
}

/// All of a noun in a table; a star marks the default partition.
pub(super) fn table(noun: Noun, views: &[RuleView]) -> Table {
    let (title, own) = columns(noun);
    let mut heads: Vec<Column> = vec![left(title)];
    heads.extend(own.iter().map(|(_, head)| *head));
    heads.push(elastic("SETTINGS", 20));
    let mut table = Table::new(&heads);
    for view in views {
        let value = |key: &str| {
            let mut settings = view.settings.iter();
            let found = settings.find(|(known, _)| known == key);
            found.map_or("", |(_, value)| value.as_str())
        };
        let is_default = noun == Noun::Partition && value("default") == "yes";
        table.add(&format!(
            "{}{}",
            view.name,
            if is_default { "*" } else { "" }
        ));
        for (key, _) in own {
            table.add(match value(key) {
                "" => "-",
                value => value,
            });
        }
        let unsaid = Rules::unsaid(noun, &view.name);
        let has_column = |key: &str| own.iter().any(|(known, _)| *known == key);
        let said = view.settings.iter().filter(|setting| {
            let is_star = is_default && setting.0 == "default";
            !unsaid.contains(setting) && !has_column(&setting.0) && !is_star
        });
        let said: Vec<String> = said.map(|(key, value)| format!("{key}={value}")).collect();
        table.add(&if said.is_empty() {
            "-".to_owned()
        } else {
            said.join(" ")
        });
    }
    table
}

fn show(target: &Target, noun: Noun, name: &str, as_json: bool) -> Outcome<()> {
    let views = all(target, noun)?;
    let found = views.iter().find(|view| view.name == name);
    let unsaid = RuleView {
        noun,
        name: name.to_owned(),
        settings: Rules::unsaid(noun, name),
    };
    let view = match found {
        Some(view) => view,
        // Everybody is known, as somebody of whom nothing is said.
        None if noun.knows_all() => &unsaid,
        None => {
            let word = match noun {
                Noun::Qos => "QOS",
                other => other.word(),
            };
            let what = format!("there is no {word} `{name}`");
            let known: Vec<&str> = views.iter().map(|view| view.name.as_str()).collect();
            let hint = format!("there are: {}", known.join(", "));
            return Err(Failure::refused(noun.unknown(), what, hint));
        }
    };
    if as_json {
        return json::object(&mut output::stdout(), &Object::from(view));
    }
    output::text(&described(view))
}

/// One of them in lines of `key: value`.
fn described(view: &RuleView) -> String {
    let mut text = String::new();
    let longest = view.settings.iter().map(|(key, _)| key.len()).max();
    let width = longest.unwrap_or(0).max(view.noun.word().len()) + 2;
    let name = (view.noun.word(), view.name.as_str());
    let settings = view.settings.iter();
    let settings = settings.map(|(key, value)| (key.as_str(), value.as_str()));
    for (key, value) in std::iter::once(name).chain(settings) {
        let value = if value.is_empty() { "-" } else { value };
        let line = format!("{:<width$}{value}", format!("{key}:"));
        // Writing to a text cannot fail.
        let _ = writeln!(text, "{}", output::clean(&line));
    }
    text
}
