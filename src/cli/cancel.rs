//! `hpc cancel`: end jobs, or send them a signal.

use super::Verb;
use super::connection::Target;
use super::exit::{self, Outcome};
use super::selection::{Which, change, change_quietly};
use super::signal::{self, Whom};
use crate::wire::client::Request;
use clap::Args;

/// End jobs: SIGTERM, and SIGKILL to what is left after the kill wait
///
/// With --signal the jobs get that signal instead and go on.
///
/// Examples:
///   hpc cancel 12 13_4 14_[1-3]
///   hpc cancel --me --state PENDING
///   hpc cancel --signal USR1 --batch 12
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Cancel {
    /// Jobs: 12, 12_3, 12_[1-4]
    #[arg(value_name = "JOBS")]
    jobs: Vec<String>,
    #[command(flatten)]
    which: Which,
    /// Send this signal instead: USR1, SIGUSR1, 10
    #[arg(short = 's', long, value_name = "SIGNAL")]
    signal: Option<String>,
    #[command(flatten)]
    whom: Whom,
    /// Say nothing but errors
    #[arg(short = 'Q', long)]
    quiet: bool,
}

impl Verb for Cancel {
    fn run(self, target: &Target) -> Outcome {
        let filter = self.which.filter_for_change(&self.jobs)?;
        let request = match &self.signal {
            Some(signal) => Request::Signal {
                filter,
                signal: signal::number(signal)?,
                to: self.whom.target(),
            },
            None => Request::Cancel { filter },
        };
        if self.quiet {
            change_quietly(target, &request)?;
        } else {
            change(target, "cancel", &request)?;
        }
        Ok(exit::DONE)
    }
}
