//! `hpc status`: the cluster at a glance.

use super::Verb;
use super::connection::{Target, unexpected};
use super::exit::{self, Outcome};
use super::output::{self, json, words};
use crate::model::time::format_elapsed;
use crate::wire::client::{Request, ToClient};
use crate::wire::view::StatusView;
use clap::Args;

/// Show the cluster at a glance
///
/// Examples:
///   hpc status
///   hpc status --json
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Status {
    /// One JSON object
    #[arg(long)]
    json: bool,
}

impl Verb for Status {
    fn run(self, target: &Target) -> Outcome {
        let status = ask(target)?;
        if self.json {
            json::object(&mut output::stdout(), &json::Status::from(&status))?;
        } else {
            output::text(&describe(&status))?;
        }
        Ok(exit::DONE)
    }
}

/// The controller's answer.
pub(super) fn ask(target: &Target) -> Outcome<StatusView> {
    match target.ask(&Request::Status)? {
        ToClient::Status(status) => Ok(*status),
        other => Err(unexpected(&other)),
    }
}

/// Status in lines.
pub(super) fn describe(status: &StatusView) -> String {
    let up = u64::try_from(status.now.minus(status.started) / 1000).unwrap_or(0);
    format!(
        "cluster {}: {} of {} nodes answer, {} of {} cpus free\n\
         jobs: {} running, {} pending ({}), next is {}\n\
         controller {} (process {}) up {} since {}\n\
         state in {}, socket unix:{}\n",
        status.cluster,
        status.nodes.1,
        status.nodes.0,
        status.cpus.1,
        status.cpus.0,
        status.jobs_running,
        status.jobs_pending,
        words::counted(status.elements_pending, "array element"),
        status.next_job,
        status.version,
        status.pid,
        format_elapsed(up),
        words::local(Some(status.started)),
        status.state_dir,
        status.socket
    )
}
