//! `hpc attach`: watch a job as if it had been started here.

use super::Verb;
use super::attached::Attachment;
use super::connection::Target;
use super::exit::{Failure, Outcome};
use super::logs;
use super::queue::collect;
use super::selection::selector;
use crate::model::ids::StepId;
use crate::wire::client::{OutputKind, Request, Selector};
use clap::Args;

/// Show the output of a job from its first byte and follow it; Ctrl-C leaves, the job goes on
///
/// Examples:
///   hpc attach 12
///   hpc attach --label 14.0
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Attach {
    /// The job, an element of an array, or a step: 12, 12_3, 12.0
    #[arg(value_name = "JOB")]
    job: String,
    /// Put the task's rank before each line
    #[arg(short, long)]
    label: bool,
}

impl Verb for Attach {
    fn run(self, target: &Target) -> Outcome {
        let (job, step) = match self.job.split_once('.') {
            Some((job, step)) => (job, Some(step_number(step)?)),
            None => (self.job.as_str(), None),
        };
        let selected = selector(job)?;
        if selected.indices.is_some()
            || (step.is_none() && has_output_file(target, selected.clone())?)
        {
            return logs::print(target, job, OutputKind::Stdout, true);
        }
        let attachment = Attachment {
            verb: "attach",
            job: selected.job,
            step: step.unwrap_or(StepId(0)),
            owner: false,
            inside: true,
            label: self.label.then_some(1),
            quiet: true,
        };
        attachment.follow(target)
    }
}

/// A batch job's output is in a file; that of `hpc run` is in the log of its step.
fn has_output_file(target: &Target, selector: Selector) -> Outcome<bool> {
    let jobs = collect(target.request(&Request::Job { selector })?)?;
    Ok(jobs.iter().any(|job| job.stdout_path.is_some()))
}

fn step_number(text: &str) -> Outcome<StepId> {
    if text == "batch" {
        return Ok(StepId::BATCH);
    }
    text.parse().map(StepId).map_err(|_| {
        Failure::Usage(format!(
            "\"{text}\" is not a step: write a number, as in 12.0"
        ))
    })
}
