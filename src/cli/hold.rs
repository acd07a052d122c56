//! `hpc hold` and `hpc release`: keep waiting jobs from starting, and let them go.

use super::Verb;
use super::connection::Target;
use super::exit::{self, Outcome};
use super::selection::{Which, change};
use crate::wire::client::Request;
use clap::Args;

/// Keep pending jobs from starting
///
/// Examples:
///   hpc hold 12 13
///   hpc hold --me --name sweep
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Hold {
    /// Jobs: 12, 12_3, 12_[1-4]
    #[arg(value_name = "JOBS")]
    jobs: Vec<String>,
    #[command(flatten)]
    which: Which,
}

/// Let held jobs go
///
/// Examples:
///   hpc release 12 13
///   hpc release --me
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Release {
    /// Jobs: 12, 12_3, 12_[1-4]
    #[arg(value_name = "JOBS")]
    jobs: Vec<String>,
    #[command(flatten)]
    which: Which,
}

impl Verb for Hold {
    fn run(self, target: &Target) -> Outcome {
        change(
            target,
            "hold",
            &Request::Hold(self.which.filter_for_change(&self.jobs)?),
        )?;
        Ok(exit::DONE)
    }
}

impl Verb for Release {
    fn run(self, target: &Target) -> Outcome {
        change(
            target,
            "release",
            &Request::Release(self.which.filter_for_change(&self.jobs)?),
        )?;
        Ok(exit::DONE)
    }
}
