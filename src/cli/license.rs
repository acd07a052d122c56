//! `hpc license`: pools of licences that jobs hold while they run.

use super::Verb;
use super::connection::Target;
use super::exit::Outcome;
use super::rule;
use crate::model::rules::Noun;
use clap::Args;

/// Show pools of licences; add, change and remove them
///
/// A job asks for licences with --licenses and holds them while it runs; one for which there are none left waits.
///
/// Examples:
///   hpc license list
///   hpc license add matlab count=4
///   hpc submit --licenses matlab solve.sh
#[derive(Debug, Args)]
#[command(verbatim_doc_comment, mut_subcommands = rule::help(Noun::License))]
pub(super) struct License {
    #[command(subcommand)]
    act: rule::Act,
}

impl Verb for License {
    fn run(self, target: &Target) -> Outcome {
        self.act.run(target, Noun::License)
    }
}
