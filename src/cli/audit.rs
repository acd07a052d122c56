//! `hpc audit`: who asked for what, when, from where.

use super::Verb;
use super::connection::{Target, unexpected};
use super::exit::{self, Outcome};
use super::numbers::argument;
use super::output::table::{Table, elastic, left};
use super::output::{self, json, words};
use crate::wire::client::{Request, ToClient};
use clap::Args;
use serde::Serialize;

/// Show who changed what, when and from where; the latest last
///
/// Examples:
///   hpc audit
///   hpc audit --limit 1000 --json
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Audit {
    /// Most lines
    #[arg(long, default_value = "50", value_name = "N", value_parser = |text: &str| argument(text, 1, 10_000))]
    limit: u32,
    /// One JSON array
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    who: &'a str,
    from: &'a str,
    what: &'a str,
    refused: Option<String>,
}

impl Verb for Audit {
    fn run(self, target: &Target) -> Outcome {
        let lines = match target.ask(&Request::Audit { limit: self.limit })? {
            ToClient::Audit(lines) => lines,
            other => return Err(unexpected(&other)),
        };
        if self.json {
            let mut array = json::Array::new(output::stdout());
            for line in &lines {
                array.push(&Line {
                    time: line.at.to_string(),
                    who: &line.who,
                    from: &line.from,
                    what: &line.what,
                    refused: line.refused.map(|code| code.to_string()),
                })?;
            }
            array.end()?;
            return Ok(exit::DONE);
        }
        let mut table = Table::new(&[
            left("TIME"),
            left("WHO"),
            left("FROM"),
            left("REFUSED"),
            elastic("WHAT", 20),
        ]);
        for line in &lines {
            table
                .add(&words::local(Some(line.at)))
                .add(&line.who)
                .add(&line.from)
                .add(
                    &line
                        .refused
                        .map_or_else(|| "-".to_owned(), |code| code.to_string()),
                )
                .add(&line.what);
        }
        table.print()?;
        Ok(exit::DONE)
    }
}
