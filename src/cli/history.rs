//! `hpc history`: jobs that have ended.

use super::connection::{Connection, Target};
use super::exit::{self, Failure, Outcome};
use super::numbers::argument;
use super::output::table::{Table, elastic, left, right};
use super::output::words;
use super::queue::{each_part, print_json};
use super::selection::Which;
use super::{Verb, now, zone};
use crate::model::time::{Timestamp, parse_when};
use crate::wire::client::Request;
use crate::wire::view::JobView;
use clap::Args;

/// Show jobs that have ended: the newest job first, the elements of an array by index
///
/// Examples:
///   hpc history
///   hpc history 12 13_4
///   hpc history -u alice -S now-1week -t FAILED,TIMEOUT --json
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct History {
    /// These jobs: 12, 12_3, 12_[1-4]
    #[arg(value_name = "JOBS")]
    operands: Vec<String>,
    /// These jobs, again
    #[arg(short = 'j', long = "jobs", value_name = "JOBS", alias = "job")]
    jobs: Vec<String>,
    #[command(flatten)]
    which: Which,
    /// Ended after this time: 2026-01-31, 09:00, now-2days
    #[arg(short = 'S', long, value_name = "WHEN", alias = "starttime")]
    since: Option<String>,
    /// Submitted before this time
    #[arg(short = 'E', long, value_name = "WHEN", alias = "endtime")]
    until: Option<String>,
    /// At most so many rows; 0 = all [default: 50 without JOBS or times, else all]
    #[arg(long, value_name = "N", value_parser = |text: &str| argument(text, 0, u32::MAX))]
    limit: Option<u32>,
    /// One row for every element of an array: so it always is
    #[arg(short = 'r', long = "array", hide = true)]
    _expand: bool,
    /// One JSON array of job objects
    #[arg(long)]
    json: bool,
}

/// Rows shown when nothing narrows the question.
const LIMIT: u32 = 50;

impl Verb for History {
    fn run(self, target: &Target) -> Outcome {
        let mut filter = self.which.filter(&[self.operands, self.jobs].concat())?;
        filter.since = self
            .since
            .as_deref()
            .map(|text| when("--since", text))
            .transpose()?;
        filter.until = self
            .until
            .as_deref()
            .map(|text| when("--until", text))
            .transpose()?;
        let open = filter.jobs.is_empty()
            && filter.since.is_none()
            && filter.until.is_none()
            && !self.json;
        let cut = self.limit.is_none() && open;
        // One more than is shown tells whether there is more.
        filter.limit = self.limit.unwrap_or(if cut { LIMIT + 1 } else { 0 });
        let answers = target.request(&Request::History(filter))?;
        if self.json {
            print_json(answers)?;
        } else {
            print_table(answers, if cut { LIMIT as usize } else { usize::MAX })?;
        }
        Ok(exit::DONE)
    }
}

fn when(option: &str, text: &str) -> Outcome<Timestamp> {
    parse_when(text, now(), &zone()).map_err(|error| Failure::Usage(format!("{option}: {error}")))
}

/// The table of `hpc history`, as its rows arrive; at most so many, with a word about others.
fn print_table(answers: Connection, most: usize) -> Outcome<()> {
    let mut table = table();
    let mut arrived = 0;
    each_part(answers, |jobs| {
        for job in jobs.iter().take(most.saturating_sub(arrived)) {
            add(&mut table, job);
        }
        arrived += jobs.len();
        Ok(table.print_if_long()?)
    })?;
    table.print()?;
    if arrived > most {
        eprintln!("hpc history: {most} rows are shown; --limit 0 shows all");
    }
    Ok(())
}

/// An empty one.
pub(super) fn table() -> Table {
    Table::new(&[
        right("JOBID"),
        elastic("NAME", 8),
        elastic("USER", 6),
        left("STATE"),
        right("EXIT"),
        left("ENDED"),
        right("TIME"),
        right("CPU"),
        right("MAXRSS"),
        elastic("NODES", 8),
    ])
}

/// Adds a job's row.
pub(super) fn add(table: &mut Table, job: &JobView) {
    let usage = job.usage.as_ref();
    table
        .add(&words::job_id(job))
        .add(&job.name)
        .add(&job.user)
        .add(&job.state)
        .add(&words::exit(job))
        .add(&words::local(job.end_time))
        .add(&words::elapsed(job, now()))
        .add(&usage.map_or_else(|| "-".into(), |usage| format!("{:.1}s", usage.cpu_s)))
        .add(&usage.map_or_else(
            || "-".into(),
            |usage| format!("{:.0}M", usage.max_rss_mib.ceil()),
        ))
        .add(&words::nodes(&job.nodes));
}
