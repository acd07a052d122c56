//! `hpc partitions`: the named sets of nodes.

use super::Verb;
use super::connection::{Target, unexpected};
use super::exit::{self, Outcome};
use super::output::table::{Table, elastic, left, right};
use super::output::{self, json, words};
use crate::wire::client::{Request, ToClient};
use crate::wire::view::PartitionView;
use clap::Args;

/// Show the partitions; a star marks the default
///
/// Examples:
///   hpc partitions
///   hpc partitions --json
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Partitions {
    /// One JSON array of partition objects
    #[arg(long)]
    json: bool,
}

impl Verb for Partitions {
    fn run(self, target: &Target) -> Outcome {
        let partitions = match target.ask(&Request::Partitions)? {
            ToClient::Partitions(partitions) => partitions,
            other => return Err(unexpected(&other)),
        };
        if self.json {
            let mut array = json::Array::new(output::stdout());
            partitions
                .iter()
                .try_for_each(|partition| array.push(&json::Partition::from(partition)))?;
            array.end()?;
        } else {
            table(&partitions).print()?;
        }
        Ok(exit::DONE)
    }
}

/// The table of `hpc partitions`.
pub(super) fn table(partitions: &[PartitionView]) -> Table {
    let mut table = Table::new(&[
        left("PARTITION"),
        left("STATE"),
        right("TIMELIMIT"),
        right("NODES"),
        elastic("NODELIST", 12),
    ]);
    for partition in partitions {
        table
            .add(&format!(
                "{}{}",
                partition.name,
                if partition.default { "*" } else { "" }
            ))
            .add(&partition.state)
            .add(&words::limit(partition.max_time_s))
            .add(&partition.nodes.len().to_string())
            .add(&words::nodes(&partition.nodes));
    }
    table
}
