//! `hpc user`: the people and machines that have a key, and taking keys back.

use super::Verb;
use super::connection::{Target, unexpected};
use super::exit::{self, Outcome};
use super::output::json;
use super::output::table::{Table, elastic, left, right};
use super::output::{self, words};
use super::selection::change;
use crate::wire::client::{Request, ToClient};
use crate::wire::view::MembersView;
use clap::{Args, Subcommand};
use serde::Serialize;

/// Show who has a key, and take keys back
///
/// Examples:
///   hpc user list
///   hpc user revoke alice
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct User {
    #[command(subcommand)]
    act: Act,
}

#[derive(Debug, Subcommand)]
enum Act {
    /// People and machines with a key, and invitations that are open
    ///
    /// Examples:
    ///   hpc user list
    #[command(verbatim_doc_comment)]
    List {
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
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

impl Verb for User {
    fn run(self, target: &Target) -> Outcome {
        match self.act {
            Act::List { json } => list(target, json)?,
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
}

fn list(target: &Target, as_json: bool) -> Outcome<()> {
    let members = match target.ask(&Request::Members)? {
        ToClient::Members(members) => members,
        other => return Err(unexpected(&other)),
    };
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
            },
        );
    }
    table(&members).print()?;
    if !members.invitations.is_empty() {
        output::line("")?;
        open(&members).print()?;
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
