//! `hpc cancel`: end jobs, or send them a signal.

use super::Verb;
use super::connection::Target;
use super::exit::{self, Failure, Outcome};
use super::selection::{StepOf, Which, change, change_quietly, part_steps};
use super::signal::{self, Whom};
use crate::model::ids::StepId;
use crate::wire::client::Request;
use crate::wire::worker::SignalTarget;
use clap::Args;
use nix::sys::signal::Signal as Known;

/// End jobs: SIGTERM, and SIGKILL to what is left after the kill wait
///
/// With --signal the jobs get that signal instead and go on. 12.0 is step 0 of job 12, which goes on.
///
/// Examples:
///   hpc cancel 12 13_4 14_[1-3]
///   hpc cancel 12.0
///   hpc cancel --me --state PENDING
///   hpc cancel --signal USR1 --batch 12
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Cancel {
    /// Jobs: 12, 12_3, 12_[1-4]; steps: 12.0
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
        let (jobs, steps) = part_steps(&self.jobs)?;
        let signal = self.signal.as_deref().map(signal::number).transpose()?;
        for step in &steps {
            let request = match signal {
                Some(number) => self.whom.to_step(step, number)?,
                None => ending(step)?,
            };
            self.send(target, &request)?;
        }
        if !steps.is_empty() && jobs.is_empty() && !self.which.says_something() {
            return Ok(exit::DONE);
        }
        let filter = self.which.filter_for_change(&jobs)?;
        let request = match signal {
            Some(signal) => Request::Signal {
                filter,
                signal,
                to: self.whom.target(),
            },
            None => Request::Cancel { filter },
        };
        self.send(target, &request)?;
        Ok(exit::DONE)
    }
}

impl Cancel {
    fn send(&self, target: &Target, request: &Request) -> Outcome<()> {
        if self.quiet {
            change_quietly(target, request).map(drop)
        } else {
            change(target, "cancel", request)
        }
    }
}

/// The order that a step is to end.
fn ending(step: &StepOf) -> Outcome<Request> {
    if step.step == StepId::BATCH {
        return Err(Failure::Usage(
            "the batch step is the job's script: to end it, cancel the job".into(),
        ));
    }
    Ok(Request::Signal {
        filter: step.filter(),
        signal: Known::SIGTERM as i32,
        to: SignalTarget::EndStep(step.step),
    })
}
