//! `hpc queue`: jobs that have not ended.

use super::Verb;
use super::connection::{Connection, Target, unexpected};
use super::exit::{self, Outcome};
use super::output::table::{Table, elastic, left, right};
use super::output::{self, json, words};
use super::selection::Which;
use super::timeline;
use crate::model::time::format_elapsed;
use crate::wire::client::{Request, ToClient};
use crate::wire::view::JobView;
use clap::Args;

/// Show jobs that have not ended; the pending part of an array is one row
///
/// Examples:
///   hpc queue
///   hpc queue -u alice,bob -t PENDING
///   hpc queue -j 12 -r --json
///   hpc queue --timeline
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
    /// The plan as a picture: when each runs, and when the others are expected to
    #[arg(long, conflicts_with = "json")]
    timeline: bool,
}

impl Verb for Queue {
    fn run(self, target: &Target) -> Outcome {
        let mut filter = self.which.filter(&[self.operands, self.jobs].concat())?;
        filter.expand_arrays = self.expand;
        if self.timeline {
            let jobs = collect(target.request(&Request::Queue(filter))?)?;
            let columns = output::table::window().unwrap_or(100);
            let text = timeline::draw(&jobs, super::now(), &super::zone(), columns);
            output::text(&text)?;
        } else if self.json {
            print_json(target.request(&Request::Queue(filter))?)?;
        } else {
            print_table(target.request(&Request::QueueLines(filter))?)?;
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

/// The table of `hpc queue`, as its lines arrive.
fn print_table(mut answers: Connection) -> Outcome<()> {
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
    loop {
        let (lines, last) = match answers.answer()? {
            ToClient::Lines { lines, last } => (lines, last),
            other => return Err(unexpected(&other)),
        };
        for job in &lines {
            table
                .add(&words::element_id(
                    job.id,
                    job.array_task,
                    job.array_tasks.as_deref(),
                ))
                .add(&job.partition)
                .add(&job.name)
                .add(&job.user)
                .add(job.state.word())
                .add(&format_elapsed(job.run_s.into()))
                .add(&words::limit(job.time_limit_s))
                .number(job.nodes)
                .number(job.cpus)
                .add(&job.place);
        }
        if last {
            return Ok(table.print()?);
        }
        table.print_if_long()?;
    }
}
