//! `hpc account`: the groups that share the cluster.

use super::Verb;
use super::connection::Target;
use super::exit::Outcome;
use super::rule;
use crate::model::rules::Noun;
use clap::Args;

/// Show accounts; add, change and remove them
///
/// Accounts form a tree below root: groups, projects, courses. Jobs belong to one, and people to some.
///
/// Examples:
///   hpc account list
///   hpc account add optics parent=physics shares=3
///   hpc account set physics group-gpus=4
#[derive(Debug, Args)]
#[command(verbatim_doc_comment, mut_subcommands = rule::help(Noun::Account))]
pub(super) struct Account {
    #[command(subcommand)]
    act: rule::Act,
}

impl Verb for Account {
    fn run(self, target: &Target) -> Outcome {
        self.act.run(target, Noun::Account)
    }
}
