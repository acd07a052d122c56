//! `hpc user`: the people and machines that have a key, taking keys back, and what is said of people.

use super::Verb;
use super::connection::{Target, unexpected};
use super::exit::{self, Outcome};
use super::output::json;
use super::output::table::{Table, elastic, left, right};
use super::output::{self, words};
use super::rule;
use super::selection::change;
use crate::model::rules::Noun;
use crate::wire::client::{Request, ToClient};
use crate::wire::view::{MembersView, RuleView};
use clap::{Args, Command, Subcommand};
use serde::Serialize;

/// Show who has a key, and take keys back; say which account, QOS and limits people have
///
/// Nobody need be known: of whom nothing is said is in the account default, with one share and the QOS normal.
///
/// Examples:
///   hpc user list
///   hpc user set ann account=physics max-jobs-per-user=4
///   hpc user revoke alice
#[derive(Debug, Args)]
#[command(verbatim_doc_comment, mut_subcommands = help)]
pub(super) struct User {
    #[command(subcommand)]
    act: Act,
}

#[derive(Debug, Subcommand)]
enum Act {
    #[command(flatten)]
    Rule(rule::Act),
    /// Take back all keys of a person, and what invitations they have; their connections end at once
    ///
    /// Examples:
    ///   hpc user revoke alice
    #[command(verbatim_doc_comment)]
    Revoke {
        /// The person
        #[arg(value_name = "NAME")]
        name: String,
    },
}

/// The words of verbs that mean something else here than for the other nouns.
fn help(command: Command) -> Command {
    let command = rule::help(Noun::User)(command);
    match command.get_name() {
        "list" => command.about(
            "People and machines with a key, invitations that are open, and people of whom something is said",
        ),
        "show" => command.about("Show all that holds for a person, known or not"),
        "add" => command.about("Say something of a person of whom nothing is said"),
        "set" => command.about("Say something of a person, all of it or nothing; at once"),
        "remove" => command.about("Say nothing of a person any more; keys are taken back by revoke"),
        _ => command,
    }
}

impl Verb for User {
    fn run(self, target: &Target) -> Outcome {
        match self.act {
            Act::Rule(rule::Act::List { json }) => list(target, json)?,
            Act::Rule(other) => return other.run(target, Noun::User),
            Act::Revoke { name } => change(target, "user", &Request::RevokeUser { name })?,
        }
        Ok(exit::DONE)
    }
}

#[derive(Serialize)]
struct Key<'a> {
    role: &'a str,
    name: &'a str,
    key: &'a str,
    from: &'a str,
    invited_by: &'a str,
    joined: String,
    expires: String,
}

#[derive(Serialize)]
struct Open<'a> {
    admits: &'a str,
    by: &'a str,
    expires: String,
    uses_left: u32,
}

#[derive(Serialize)]
struct Members<'a> {
    keys: Vec<Key<'a>>,
    invitations: Vec<Open<'a>>,
    users: Vec<rule::Object<'a>>,
}

fn list(target: &Target, as_json: bool) -> Outcome<()> {
    let members = match target.ask(&Request::Members)? {
        ToClient::Members(members) => members,
        other => return Err(unexpected(&other)),
    };
    let users: Vec<RuleView> = rule::all(target, Noun::User)?;
    if as_json {
        let keys = members.keys.iter().map(|key| Key {
            role: &key.role,
            name: &key.name,
            key: &key.key,
            from: &key.from,
            invited_by: &key.invited_by,
            joined: key.joined.to_string(),
            expires: key.expires.to_string(),
        });
        let invitations = members.invitations.iter().map(|open| Open {
            admits: &open.admits,
            by: &open.by,
            expires: open.expires.to_string(),
            uses_left: open.uses_left,
        });
        return json::object(
            &mut output::stdout(),
            &Members {
                keys: keys.collect(),
                invitations: invitations.collect(),
                users: users.iter().map(rule::Object::from).collect(),
            },
        );
    }
    table(&members).print()?;
    if !members.invitations.is_empty() {
        output::line("")?;
        open(&members).print()?;
    }
    if !users.is_empty() {
        output::line("")?;
        rule::table(Noun::User, &users).print()?;
    }
    Ok(())
}

fn table(members: &MembersView) -> Table {
    let mut table = Table::new(&[
        left("ROLE"),
        left("NAME"),
        left("KEY"),
        left("FROM"),
        left("INVITED BY"),
        left("JOINED"),
        left("EXPIRES"),
    ]);
    for key in &members.keys {
        table
            .add(&key.role)
            .add(&key.name)
            .add(&key.key)
            .add(&key.from)
            .add(&key.invited_by)
            .add(&words::local(Some(key.joined)))
            .add(&words::local(Some(key.expires)));
    }
    table
}

fn open(members: &MembersView) -> Table {
    let mut table = Table::new(&[
        elastic("INVITATION", 12),
        left("BY"),
        right("USES"),
        left("EXPIRES"),
    ]);
    for open in &members.invitations {
        table
            .add(&open.admits)
            .add(&open.by)
            .add(&open.uses_left.to_string())
            .add(&words::local(Some(open.expires)));
    }
    table
}
