//! `hpc qos`: limits and standing that a job chooses.

use super::Verb;
use super::connection::Target;
use super::exit::Outcome;
use super::rule;
use crate::model::rules::Noun;
use clap::Args;

/// Show QOS (qualities of service); add, change and remove them
///
/// A QOS is a set of limits and a standing that a job chooses with --qos.
///
/// Examples:
///   hpc qos list
///   hpc qos set normal max-jobs-per-user=4 max-submit-per-user=100
///   hpc qos add urgent priority=10 max-jobs-per-user=1
#[derive(Debug, Args)]
#[command(verbatim_doc_comment, mut_subcommands = rule::help(Noun::Qos))]
pub(super) struct Qos {
    #[command(subcommand)]
    act: rule::Act,
}

impl Verb for Qos {
    fn run(self, target: &Target) -> Outcome {
        self.act.run(target, Noun::Qos)
    }
}
