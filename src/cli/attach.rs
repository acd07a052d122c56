//! `hpc attach`: watch a job as if it had been started here.

use super::attached::{Attachment, Ends, no_step};
use super::connection::Target;
use super::exit::{Failure, Outcome};
use super::output;
use super::queue::collect;
use super::selection::selector;
use super::{Verb, logs};
use crate::model::ids::StepId;
use crate::model::refusal::Code;
use crate::wire::client::{OutputKind, Request, Selector};
use crate::wire::view::JobView;
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
        let is_element = selected.indices.is_some();
        let number = match step {
            None | Some(StepId::BATCH) => {
                let found = find(target, selected.clone())?;
                let of_a_file = found.iter().find(|found| found.stdout_path.is_some());
                if let Some(note) = of_a_file.and_then(|found| other_file(job, found)) {
                    eprintln!("hpc attach: {note}");
                }
                if is_element || of_a_file.is_some() {
                    return logs::print(target, job, OutputKind::Stdout, true);
                }
                if step.is_some() {
                    return Err(no_step(selected.job, StepId::BATCH));
                }
                refuse_allocation(target, selected.clone())?;
                selected.job
            }
            Some(_) if is_element => own_number(job, &find(target, selected)?)?,
            Some(_) => selected.job,
        };
        let attachment = Attachment {
            verb: "attach",
            job: number,
            step: step.unwrap_or(StepId(0)),
            owner: false,
            inside: true,
            unattended: false,
            patient: false,
            label: self.label.then_some(1),
            verbose: false,
            quiet: true,
            follow: true,
            only: None,
            ends: Ends::default(),
        };
        attachment.follow(target)
    }
}

/// The number under which an element's steps are known.
fn own_number(job: &str, found: &[JobView]) -> Outcome<u32> {
    match found {
        [one] if one.array_task.is_some() => Ok(one.raw_id),
        _ => Err(Failure::refused(
            Code::WrongState,
            format!("{job} is not one element that has started"),
            format!("`hpc job {job}` shows what there is"),
        )),
    }
}

/// A batch job's output is in a file; that of `hpc run` is in the log of its step.
fn find(target: &Target, selector: Selector) -> Outcome<Vec<JobView>> {
    collect(target.request(&Request::Job { selector })?)
}

/// Where the standard error is that is not shown here.
fn other_file(job: &str, view: &JobView) -> Option<String> {
    let errors = view.stderr_path.as_deref()?;
    (view.stdout_path.as_deref() != Some(errors)).then(|| {
        format!(
            "standard error goes to {}; `hpc logs -f --stderr {job}` shows it",
            output::clean(errors)
        )
    })
}

/// A job of `hpc alloc` has no output, and attaching would wait for ever. Whether it is one the controller alone
/// knows, and says when asked for the output.
fn refuse_allocation(target: &Target, selector: Selector) -> Outcome<()> {
    let probe = Request::Output {
        selector,
        kind: OutputKind::Stdout,
        offset: 0,
        follow: false,
    };
    match target.ask(&probe) {
        Err(Failure::Refused(refusal))
            if refusal.code == Code::WrongState && refusal.what.contains("allocation") =>
        {
            Err(refusal.into())
        }
        // Whatever else is wrong, attaching finds out and says it better.
        _ => Ok(()),
    }
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
