//! `hpc logs`: the output of a job, from anywhere.

use super::Verb;
use super::attached::{Attachment, Ends};
use super::connection::Target;
use super::exit::{self, Outcome};
use super::follow;
use super::selection::selector;
use crate::model::ids::StepId;
use crate::wire::client::{OutputKind, Request};
use clap::Args;
use std::io::{self, Write};

/// Print the output of a job or of an array element, also while it runs
///
/// Examples:
///   hpc logs 12
///   hpc logs -f 12_3
///   hpc logs --stderr 12
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Logs {
    /// The job, or an element of an array: 12, 12_3
    #[arg(value_name = "JOB")]
    job: String,
    /// Go on until the job ends or is put back to run again; then ask again
    #[arg(short, long)]
    follow: bool,
    /// Standard error, where it has a file of its own
    #[arg(short = 'e', long)]
    stderr: bool,
}

impl Verb for Logs {
    fn run(self, target: &Target) -> Outcome {
        let kind = if self.stderr {
            OutputKind::Stderr
        } else {
            OutputKind::Stdout
        };
        print(target, &self.job, kind, self.follow)
    }
}

/// Streams an output to ours.
pub(super) fn print(target: &Target, job: &str, kind: OutputKind, follow: bool) -> Outcome {
    let selector = selector(job)?;
    let request = |offset| Request::Output {
        selector: selector.clone(),
        kind,
        offset,
        follow,
    };
    let mut out = io::stdout().lock();
    let end = follow::stream(target, request, |bytes| {
        out.write_all(bytes)?;
        Ok(out.flush()?)
    })?;
    drop(out);
    match end {
        follow::End::Complete => Ok(exit::DONE),
        follow::End::OnNodes { raw_job } => on_nodes(target, raw_job, kind, follow),
    }
}

/// The output of a job of `hpc run` over several nodes: a log from each.
fn on_nodes(target: &Target, raw_job: u32, kind: OutputKind, follow: bool) -> Outcome {
    let attachment = Attachment {
        verb: "logs",
        job: raw_job,
        step: StepId(0),
        owner: false,
        inside: true,
        unattended: false,
        patient: false,
        label: None,
        verbose: false,
        quiet: true,
        follow,
        only: Some(kind),
        ends: Ends::default(),
    };
    // How the job ended is not what was asked.
    attachment.follow(target).map(|_| exit::DONE)
}
