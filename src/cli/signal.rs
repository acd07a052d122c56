//! `hpc signal`: send a signal to running jobs.

use super::Verb;
use super::connection::Target;
use super::exit::{self, Failure, Outcome};
use super::selection::{StepOf, Which, change, part_steps};
use crate::model::ids::StepId;
use crate::wire::client::Request;
use crate::wire::worker::SignalTarget;
use clap::Args;
use nix::sys::signal::Signal as Known;

/// Send a signal to the tasks of running jobs; the jobs go on
///
/// Examples:
///   hpc signal USR1 12
///   hpc signal USR1 12.0
///   hpc signal --batch TERM 12_3
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Signal {
    /// Signal: USR1, SIGUSR1, 10
    #[arg(value_name = "SIGNAL")]
    signal: String,
    /// Jobs: 12, 12_3, 12_[1-4]; steps: 12.0, 12.batch
    #[arg(value_name = "JOBS")]
    jobs: Vec<String>,
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    whom: Whom,
}

/// Who gets a signal: tasks of steps when nothing is said.
#[derive(Debug, Args)]
pub(super) struct Whom {
    /// To the batch script alone
    #[arg(short = 'b', long, conflicts_with = "full")]
    batch: bool,
    /// To the batch script and every process of the job
    #[arg(short = 'f', long)]
    full: bool,
}

impl Whom {
    /// In the wire's words.
    pub(super) fn target(&self) -> SignalTarget {
        match (self.batch, self.full) {
            (true, _) => SignalTarget::Batch,
            (_, true) => SignalTarget::All,
            _ => SignalTarget::Steps,
        }
    }

    /// The order to signal one step.
    pub(super) fn to_step(&self, step: &StepOf, signal: i32) -> Outcome<Request> {
        if self.batch || self.full {
            return Err(Failure::Usage(
                "a step is named, so leave out --batch and --full".into(),
            ));
        }
        Ok(Request::Signal {
            filter: step.filter(),
            signal,
            to: match step.step {
                StepId::BATCH => SignalTarget::Batch,
                step => SignalTarget::Step(step),
            },
        })
    }
}

impl Verb for Signal {
    fn run(self, target: &Target) -> Outcome {
        let signal = number(&self.signal)?;
        let (jobs, steps) = part_steps(&self.jobs)?;
        for step in &steps {
            change(target, "signal", &self.whom.to_step(step, signal)?)?;
        }
        if !steps.is_empty() && jobs.is_empty() && !self.which.says_something() {
            return Ok(exit::DONE);
        }
        let filter = self.which.filter_for_change(&jobs)?;
        change(
            target,
            "signal",
            &Request::Signal {
                filter,
                signal,
                to: self.whom.target(),
            },
        )?;
        Ok(exit::DONE)
    }
}

/// The number of `USR1`, `SIGUSR1`, `usr1` or `10`.
pub(super) fn number(text: &str) -> Outcome<i32> {
    let upper = text.to_ascii_uppercase();
    let name = if upper.starts_with("SIG") {
        upper.clone()
    } else {
        format!("SIG{upper}")
    };
    let by_number = upper
        .parse::<i32>()
        .ok()
        .filter(|number| (1..=64).contains(number));
    by_number
        .or_else(|| name.parse::<Known>().ok().map(|signal| signal as i32))
        .ok_or_else(|| {
            Failure::Usage(format!(
                "\"{text}\" is not a signal: write a name such as USR1 or a number from 1 to 64"
            ))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_go_by_name_and_number() {
        for (text, expected) in [("USR1", 10), ("sigterm", 15), ("9", 9), ("64", 64)] {
            assert_eq!(number(text).unwrap(), expected, "{text}");
        }
        for text in ["", "0", "65", "NOSUCH", "-1"] {
            assert!(number(text).is_err(), "{text}");
        }
    }
}
