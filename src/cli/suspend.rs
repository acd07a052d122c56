//! `hpc suspend` and `hpc resume`: stop running jobs where they are, and let them go on.

use super::Verb;
use super::connection::Target;
use super::exit::{self, Outcome};
use super::selection::{Which, change};
use crate::wire::client::Request;
use clap::Args;

/// Stop running jobs where they are; they keep their cores and memory
///
/// Examples:
///   hpc suspend 12
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Suspend {
    /// Jobs: 12, 12_3, 12_[1-4]
    #[arg(value_name = "JOBS")]
    jobs: Vec<String>,
    #[command(flatten)]
    which: Which,
}

/// Let suspended jobs go on
///
/// Examples:
///   hpc resume 12
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Resume {
    /// Jobs: 12, 12_3, 12_[1-4]
    #[arg(value_name = "JOBS")]
    jobs: Vec<String>,
    #[command(flatten)]
    which: Which,
}

impl Verb for Suspend {
    fn run(self, target: &Target) -> Outcome {
        change(
            target,
            "suspend",
            &Request::Suspend {
                filter: self.which.filter_for_change(&self.jobs)?,
                stop: true,
            },
        )?;
        Ok(exit::DONE)
    }
}

impl Verb for Resume {
    fn run(self, target: &Target) -> Outcome {
        change(
            target,
            "resume",
            &Request::Suspend {
                filter: self.which.filter_for_change(&self.jobs)?,
                stop: false,
            },
        )?;
        Ok(exit::DONE)
    }
}
