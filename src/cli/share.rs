//! `hpc share`: who has used how much of their share, and who goes first.

use super::Verb;
use super::connection::{Target, unexpected};
use super::exit::{self, Outcome};
use super::output::table::{Table, left, right};
use super::output::{self, json};
use crate::wire::client::{Request, ToClient};
use crate::wire::view::ShareView;
use clap::Args;
use serde::Serialize;

/// Show how much of their shares accounts and people have used
///
/// Usage is in cpu hours; it counts half after a week (usage_half_life_s). A LEVEL above 1 means less than its share was
/// used, below 1 more. RANK is what a person's fair share adds to the priority of their jobs: 1 is first.
///
/// Examples:
///   hpc share
///   hpc share --json
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Share {
    /// One JSON array
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Row<'a> {
    account: &'a str,
    user: Option<&'a str>,
    shares: u32,
    share: f64,
    usage_cpu_s: f64,
    usage: f64,
    level_fair_share: Option<f64>,
    factor: Option<f64>,
}

impl Verb for Share {
    fn run(self, target: &Target) -> Outcome {
        let rows = match target.ask(&Request::Shares)? {
            ToClient::Shares(rows) => rows,
            other => return Err(unexpected(&other)),
        };
        if self.json {
            let rows: Vec<Row<'_>> = rows
                .iter()
                .map(|row| Row {
                    account: &row.account,
                    user: row.user.as_deref(),
                    shares: row.shares,
                    share: row.share_norm,
                    usage_cpu_s: row.usage_cpu_s,
                    usage: row.usage_norm,
                    level_fair_share: row.level_fair_share,
                    factor: row.factor,
                })
                .collect();
            json::object(&mut output::stdout(), &rows)?;
            return Ok(exit::DONE);
        }
        table(&rows).print()?;
        Ok(exit::DONE)
    }
}

fn table(rows: &[ShareView]) -> Table {
    let mut table = Table::new(&[
        left("ACCOUNT"),
        left("USER"),
        right("SHARES"),
        right("SHARE"),
        right("CPU-HOURS"),
        right("USED"),
        right("LEVEL"),
        right("RANK"),
    ]);
    for row in rows {
        let indent = "  ".repeat(row.depth as usize);
        let (account, user) = match &row.user {
            None => (format!("{indent}{}", row.account), String::new()),
            Some(user) => (indent, user.clone()),
        };
        let percent = |part: f64| format!("{:.1}%", part * 100.0);
        let level = row.level_fair_share;
        let rank = row
            .factor
            .map_or_else(String::new, |factor| format!("{factor:.3}"));
        table
            .add(&account)
            .add(&user)
            .number(row.shares)
            .add(&percent(row.share_norm))
            .add(&format!("{:.2}", row.usage_cpu_s / 3600.0))
            .add(&percent(row.usage_norm))
            .add(&level.map_or_else(|| "-".to_owned(), |level| format!("{level:.2}")))
            .add(&rank);
    }
    table
}
