//! `hpc limits`: which limits hold for a job, and where each is set.

use super::Verb;
use super::connection::{Target, unexpected};
use super::exit::{self, Outcome};
use super::output::table::{Column, Table, left, right};
use super::output::{self, json};
use crate::wire::client::{Request, ToClient};
use crate::wire::view::{LimitView, LimitsView};
use clap::Args;
use serde::Serialize;

/// Show which limits hold for your jobs, and where each is set
///
/// What is not named is as for a job that does not name it. A limit of a group (group-...) is that of all jobs of its level
/// together, and holds at every level that sets one. `hpc qos set --help` says what each limit counts.
///
/// Examples:
///   hpc limits
///   hpc limits --qos urgent --partition gpu
///   hpc limits --user ann --account physics --json
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Limits {
    /// Of this person; others than oneself are for operators
    #[arg(short, long, value_name = "USER")]
    user: Option<String>,
    /// Of jobs of this account
    #[arg(short = 'A', long, value_name = "ACCOUNT")]
    account: Option<String>,
    /// Of jobs in this partition
    #[arg(short, long, value_name = "PARTITION")]
    partition: Option<String>,
    /// Of jobs with this QOS
    #[arg(short, long, value_name = "QOS")]
    qos: Option<String>,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

impl Verb for Limits {
    fn run(self, target: &Target) -> Outcome {
        let request = Request::Limits {
            user: self.user,
            account: self.account,
            partition: self.partition,
            qos: self.qos,
        };
        let view = match target.ask(&request)? {
            ToClient::Limits(view) => view,
            other => return Err(unexpected(&other)),
        };
        if self.json {
            json::object(&mut output::stdout(), &All::from(&*view))?;
            return Ok(exit::DONE);
        }
        let whose = format!(
            "Jobs of {} in account {}, partition {}, QOS {}",
            view.user, view.account, view.partition, view.qos
        );
        output::line(&output::clean(&whose))?;
        output::line("")?;
        table(&view).print()?;
        Ok(exit::DONE)
    }
}

#[derive(Serialize)]
struct All<'a> {
    user: &'a str,
    account: &'a str,
    partition: &'a str,
    qos: &'a str,
    limits: Vec<One>,
}

#[derive(Serialize)]
struct One {
    /// The key that sets it.
    limit: &'static str,
    /// In MiB or seconds where it is no count; null = there is none.
    value: Option<u64>,
    /// The same in words.
    text: Option<String>,
    level: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    used: Option<u64>,
}

impl<'a> From<&'a LimitsView> for All<'a> {
    fn from(view: &'a LimitsView) -> Self {
        All {
            user: &view.user,
            account: &view.account,
            partition: &view.partition,
            qos: &view.qos,
            limits: view.limits.iter().map(One::from).collect(),
        }
    }
}

impl From<&LimitView> for One {
    fn from(view: &LimitView) -> Self {
        One {
            limit: view.kind.word(),
            value: view.value,
            text: view.value.map(|value| view.kind.show(value)),
            level: view.level.as_ref().map(ToString::to_string),
            used: view.used,
        }
    }
}

/// All limits in a table; how much of each is in use where that is known of any.
fn table(view: &LimitsView) -> Table {
    let shows_use = view.limits.iter().any(|limit| limit.used.is_some());
    let mut heads: Vec<Column> = vec![left("LIMIT"), right("VALUE")];
    if shows_use {
        heads.push(right("USED"));
    }
    heads.push(left("SET BY"));
    let mut table = Table::new(&heads);
    for limit in &view.limits {
        let shown = |value: Option<u64>| {
            value.map_or_else(|| "-".to_owned(), |value| limit.kind.show(value))
        };
        table.add(limit.kind.word()).add(&shown(limit.value));
        if shows_use {
            table.add(&shown(limit.used));
        }
        let level = limit.level.as_ref();
        table.add(&level.map_or_else(|| "-".to_owned(), ToString::to_string));
    }
    table
}
