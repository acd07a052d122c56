//! `hpc partition`: named sets of nodes, and what holds for jobs there.

use super::Verb;
use super::connection::Target;
use super::exit::Outcome;
use super::rule;
use crate::model::rules::Noun;
use clap::Args;

/// Show partitions; add, change and remove them
///
/// A partition is a named set of nodes with what holds for jobs there; `hpc partitions` shows which nodes those are.
///
/// Examples:
///   hpc partition list
///   hpc partition add gpu nodes=ws[1-4] max-time=12h
///   hpc partition set batch max-time=2d
#[derive(Debug, Args)]
#[command(verbatim_doc_comment, mut_subcommands = rule::help(Noun::Partition))]
pub(super) struct Partition {
    #[command(subcommand)]
    act: rule::Act,
}

impl Verb for Partition {
    fn run(self, target: &Target) -> Outcome {
        self.act.run(target, Noun::Partition)
    }
}
