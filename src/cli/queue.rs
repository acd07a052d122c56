//! `hpc queue`: jobs that have not ended.

use super::connection::{Connection, Target, unexpected};
use super::exit::{self, Outcome};
use super::output::table::{Table, elastic, left, right};
use super::output::{self, json, words};
use super::selection::Which;
use super::{Verb, now};
use crate::model::time::Timestamp;
use crate::wire::client::{Request, ToClient};
use crate::wire::view::JobView;
use clap::Args;

/// Show jobs that have not ended; the pending part of an array is one row
///
/// Examples:
///   hpc queue
///   hpc queue -u alice,bob -t PENDING
///   hpc queue -j 12 -r --json
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Queue {
    /// These jobs: 12, 12_3, 12_[1-4]
    #[arg(value_name = "JOBS")]
    operands: Vec<String>,
    /// These jobs, again
    #[arg(short = 'j', long = "jobs", value_name = "JOBS", alias = "job")]
    jobs: Vec<String>,
    #[command(flatten)]
    which: Which,
    /// One row for every element of an array
    #[arg(short = 'r', long = "array")]
    expand: bool,
    /// One JSON array of job objects
    #[arg(long)]
    json: bool,
}

impl Verb for Queue {
    fn run(self, target: &Target) -> Outcome {
        let mut filter = self.which.filter(&[self.operands, self.jobs].concat())?;
        filter.expand_arrays = self.expand;
        let answers = target.request(&Request::Queue(filter))?;
        if self.json {
            print_json(answers)?;
        } else {
            table(&collect(answers)?, now()).print()?;
        }
        Ok(exit::DONE)
    }
}

/// The rows of a listing, part by part as they arrive.
pub(super) fn each_part(
    mut answers: Connection,
    mut take: impl FnMut(Vec<JobView>) -> Outcome<()>,
) -> Outcome<()> {
    loop {
        match answers.answer()? {
            ToClient::Jobs { jobs, last } => {
                take(jobs)?;
                if last {
                    return Ok(());
                }
            }
            other => return Err(unexpected(&other)),
        }
    }
}

/// All rows of a listing.
pub(super) fn collect(answers: Connection) -> Outcome<Vec<JobView>> {
    let mut rows = Vec::new();
    each_part(answers, |mut part| {
        rows.append(&mut part);
        Ok(())
    })?;
    Ok(rows)
}

/// Writes a listing as one JSON array.
pub(super) fn print_json(answers: Connection) -> Outcome<()> {
    let mut array = json::Array::new(output::stdout());
    each_part(answers, |part| {
        part.iter()
            .try_for_each(|job| array.push(&json::Job::from(job)))
    })?;
    array.end()?;
    Ok(())
}

/// The table of `hpc queue`.
pub(super) fn table(jobs: &[JobView], now: Timestamp) -> Table {
    let mut table = Table::new(&[
        right("JOBID"),
        elastic("PARTITION", 5),
        elastic("NAME", 8),
        elastic("USER", 6),
        left("STATE"),
        right("TIME"),
        right("LIMIT"),
        right("NODES"),
        right("CPUS"),
        elastic("NODELIST(REASON)", 12),
    ]);
    for job in jobs {
        let nodes = u32::try_from(job.nodes.len()).unwrap_or(u32::MAX);
        table
            .add(&words::job_id(job))
            .add(&job.partition)
            .add(&job.name)
            .add(&job.user)
            .add(&job.state)
            .add(&words::elapsed(job, now))
            .add(&words::limit(job.time_limit_s))
            .number(if nodes == 0 {
                job.nodes_requested
            } else {
                nodes
            })
            .number(job.cpus)
            .add(&words::place_or_reason(job));
    }
    table
}
