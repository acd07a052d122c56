//! `hpc wait`: until jobs have ended, with their code.

use super::Verb;
use super::connection::{Target, unexpected};
use super::exit::{self, Failure, Outcome};
use super::selection::selectors;
use crate::wire::client::{Request, Selector, ToClient};
use clap::Args;

/// Wait until all of these jobs have ended; exit with the highest of their codes
///
/// An array has ended when its last element has, and its code is its worst element's.
///
/// Examples:
///   hpc wait 12
///   hpc wait 12 13_4 && echo fine
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Wait {
    /// Jobs: 12, 12_3, 12_[1-4]
    #[arg(value_name = "JOBS", required = true)]
    jobs: Vec<String>,
}

impl Verb for Wait {
    fn run(self, target: &Target) -> Outcome {
        wait(target, selectors(&self.jobs)?)
    }
}

/// Waits, also across restarts of the controller; the highest code.
///
/// The answer is one `Ended` for each selector, in any order.
pub(super) fn wait(target: &Target, selectors: Vec<Selector>) -> Outcome {
    let expected = selectors.len();
    let request = Request::Wait(selectors);
    let mut answers = target.request(&request)?;
    let mut codes = Vec::new();
    while codes.len() < expected {
        match answers.answer() {
            Ok(ToClient::Ended { code, .. }) => codes.push(code),
            Ok(ToClient::Done { .. }) => break,
            Ok(other) => return Err(unexpected(&other)),
            Err(Failure::Lost(_)) => {
                // Asked anew, so all answers come again.
                codes.clear();
                answers = target.request_again(&request)?;
            }
            Err(failure) => return Err(failure),
        }
    }
    Ok(codes.into_iter().max().unwrap_or(exit::DONE))
}
