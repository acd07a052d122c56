//! `hpc requeue`: put running jobs back to wait and run again.

use super::Verb;
use super::connection::Target;
use super::exit::{self, Outcome};
use super::selection::{Which, change};
use crate::wire::client::Request;
use clap::Args;

/// End running jobs and put them back in the queue under the same number
///
/// A job may call it about itself: the answer comes before the job is ended.
///
/// Examples:
///   hpc requeue 12
///   hpc requeue --hold 12_3
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Requeue {
    /// Jobs: 12, 12_3, 12_[1-4]
    #[arg(value_name = "JOBS")]
    jobs: Vec<String>,
    #[command(flatten)]
    which: Which,
    /// And hold them there
    #[arg(long)]
    hold: bool,
}

impl Verb for Requeue {
    fn run(self, target: &Target) -> Outcome {
        let filter = self.which.filter_for_change(&self.jobs)?;
        change(
            target,
            "requeue",
            &Request::Requeue {
                filter,
                hold: self.hold,
            },
        )?;
        Ok(exit::DONE)
    }
}
