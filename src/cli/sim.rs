//! `hpc sim`: what a policy would have made of a trace.

mod curves;
mod drawing;
mod gantt;
mod packing;
mod plot;
mod whole;

use super::Verb;
use super::connection::Target;
use super::exit::{self, Failure, Outcome};
use super::output::{self, json};
use crate::model::refusal::Code;
use crate::scheduler;
use crate::sim::report::{Report, Spread};
use crate::sim::swf::{LINE_MAX, Lines, Trace, TraceError};
use crate::sim::{Rule, replay};
use anyhow::Context;
use clap::{Args, ValueEnum};
use flate2::read::MultiGzDecoder;
use packing::Packing;
use serde::Serialize;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use whole::{Beside, Whole};

/// Say how jobs would fare: on a described cluster, under another policy, or in a trace
///
/// With --cluster and --workload a whole cluster is simulated: nodes, limits, fair share and failures, decided by the same
/// code as a live one. With --history it is the running cluster's own nodes and past, and a table says who would have waited
/// more and who less. Nothing is started. The same seed gives the same answer.
///
/// With --trace a trace in the Standard Workload Format (SWF), plain or gzip, is replayed on processors of which one is as
/// good as any other; no controller is asked.
///
/// With a trace of a GPU cluster (CSV, as Alibaba publishes them) the cluster is filled instead: tasks are drawn from the
/// trace, come one by one and never leave, until 130 % of its GPUs have been asked for. Of each rule is said how much it
/// has given out when 100 % have been asked for, and at the end; the rest is stranded.
///
/// Examples:
///   hpc sim --cluster cluster.toml --workload jobs.toml --gantt jobs.svg --plot load.svg
///   hpc sim --history --policy easy --qos-file new.toml
///   hpc sim --cluster cluster.toml --workload history --since now-4weeks --json
///   hpc sim --trace SDSC-SP2-1998-4.2-cln.swf.gz --policy easy
///   hpc sim --trace jobs.swf --policy fcfs --procs 128 --json
///   hpc sim --gpu-nodes nodes.csv.gz --gpu-tasks tasks.csv.gz --plot packing.svg
///   hpc sim --gpu-nodes nodes.csv --gpu-tasks tasks.csv --placement fragmentation --seed 7 --json
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Sim {
    #[command(flatten)]
    whole: Whole,
    /// A trace alone: FILE.swf or FILE.swf.gz
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Which jobs start when [default: as the cluster's description says, else easy]
    #[arg(long, value_enum, value_name = "POLICY")]
    policy: Option<Policy>,
    /// Processors of the machine [default: as the trace says]
    #[arg(long, value_name = "P")]
    procs: Option<u32>,
    #[command(flatten)]
    packing: Packing,
    /// What is left to chance: another number gives other run times, failures and GPU tasks [default: 1]
    #[arg(long, value_name = "N", conflicts_with = "trace")]
    seed: Option<u64>,
    /// Draw how many wait and what is in use over time, or what GPUs are given out as more is asked for: FILE.svg
    #[arg(long, value_name = "FILE", conflicts_with = "trace")]
    plot: Option<PathBuf>,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// Policies on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Policy {
    /// In order of submission; the first that does not fit stops the others
    Fcfs,
    /// The shortest limit first, as strictly
    Sjf,
    /// EASY backfill: others may start in the gaps before the first that waits
    Easy,
    /// The same, the shortest of them first
    EasySjbf,
    /// The same, with run times predicted from the user's last two jobs
    #[value(name = "easy++")]
    EasyPredicted,
    /// Conservative backfill: a reservation for each job
    #[value(alias = "conservative")]
    Cons,
}

impl Policy {
    fn rule(self) -> Rule {
        match self {
            Policy::Fcfs => Rule::Fcfs,
            Policy::Sjf => Rule::Sjf,
            Policy::Easy => Rule::Easy,
            Policy::EasySjbf => Rule::EasySjbf,
            Policy::EasyPredicted => Rule::EasyPredicted,
            Policy::Cons => Rule::Conservative,
        }
    }

    /// The rule of the live planner.
    fn live(self) -> Outcome<scheduler::Rule> {
        match self {
            Policy::Fcfs => Ok(scheduler::Rule::Fcfs),
            Policy::Easy => Ok(scheduler::Rule::Easy),
            Policy::EasySjbf => Ok(scheduler::Rule::EasySjbf),
            Policy::Cons => Ok(scheduler::Rule::Conservative),
            Policy::Sjf | Policy::EasyPredicted => Err(Failure::Usage(
                "a cluster starts jobs by fcfs, easy, easy-sjbf or conservative; sjf and easy++ are for traces"
                    .to_owned(),
            )),
        }
    }
}

#[derive(Serialize)]
struct Row {
    mean: f64,
    median: f64,
    p95: f64,
    max: f64,
}

impl From<Spread> for Row {
    fn from(spread: Spread) -> Self {
        Row {
            mean: spread.mean,
            median: spread.median,
            p95: spread.p95,
            max: spread.max,
        }
    }
}

#[derive(Serialize)]
struct Figures {
    policy: String,
    processors: u32,
    jobs: usize,
    jobs_dropped: usize,
    wait_s: Row,
    bounded_slowdown: Row,
    utilisation: f64,
    makespan_s: i64,
    fingerprint: String,
}

impl Verb for Sim {
    fn run(self, target: &Target) -> Outcome {
        let seed = self.seed.unwrap_or(1);
        if self.whole.is_meant() {
            let beside = Beside {
                policy: self.policy,
                seed,
                plot: self.plot.as_deref(),
                is_json: self.json,
            };
            return self.whole.run(target, &beside);
        }
        if let Some(option) = self.whole.idle_option() {
            return Err(Failure::Usage(format!(
                "{option} goes with --cluster or --history"
            )));
        }
        let plot = self.plot.as_deref();
        if let Some(outcome) = self.packing.run(seed, plot, self.json) {
            return outcome;
        }
        let Some(path) = &self.trace else {
            return Err(Failure::Usage(
                "say what to simulate: --cluster FILE and --workload FILE, --history, --trace FILE, or --gpu-nodes FILE and --gpu-tasks FILE"
                    .to_owned(),
            ));
        };
        let trace = load(path, self.procs)?;
        let policy = self.policy.unwrap_or(Policy::Easy);
        let report = Report::of(&trace, &replay(&trace, policy.rule()));
        if !self.json {
            output::text(&report.text())?;
            if trace.dropped > 0 {
                let (count, were) = match trace.dropped {
                    1 => ("1 job was".to_owned(), "it"),
                    count => (format!("{count} jobs were"), "they"),
                };
                eprintln!(
                    "hpc sim: {count} left out: {were} never ran, or fit on no {} processors",
                    trace.processors
                );
            }
            return Ok(exit::DONE);
        }
        let policy = policy.to_possible_value();
        let figures = Figures {
            policy: policy
                .map(|value| value.get_name().to_owned())
                .unwrap_or_default(),
            processors: trace.processors,
            jobs: report.jobs,
            jobs_dropped: trace.dropped,
            wait_s: report.wait.into(),
            bounded_slowdown: report.slowdown.into(),
            utilisation: report.utilisation,
            makespan_s: report.makespan,
            fingerprint: format!("{:016x}", report.fingerprint),
        };
        json::object(&mut output::stdout(), &figures)?;
        Ok(exit::DONE)
    }
}

/// Writes a drawing.
fn plot_file(path: &Path, drawing: &str) -> Outcome<()> {
    std::fs::write(path, drawing)
        .with_context(|| format!("cannot write {}", path.display()))
        .map_err(Failure::from)
}

/// A file that is to be read whole cannot be.
fn refused_text(path: &Path, error: &std::io::Error) -> Failure {
    Failure::refused(
        Code::Path,
        format!("cannot read {}: {}", path.display(), exit::plain(error)),
        "name a file of text",
    )
}

fn load(path: &Path, processors: Option<u32>) -> Outcome<Trace> {
    let refused = |error: TraceError| {
        Failure::refused(
            Code::Invalid,
            format!("{}: {error}", path.display()),
            "a trace is in the Standard Workload Format: 18 numbers a line, `;` before comments",
        )
    };
    let mut lines = Lines::default();
    each_line(path, LINE_MAX, "--trace FILE.swf or FILE.swf.gz", |line| {
        lines.push(line).map_err(refused)
    })?;
    lines.finish(processors).map_err(refused)
}

/// Reads a file, unpacked if it is gzip; line by line, so that it is never there as a whole. `option` is what names it.
fn each_line(
    path: &Path,
    most: usize,
    option: &str,
    mut each: impl FnMut(&str) -> Outcome<()>,
) -> Outcome<()> {
    let failed = |error: std::io::Error| {
        Failure::refused(
            Code::Path,
            format!("cannot read {}: {}", path.display(), exit::plain(&error)),
            format!("name a trace with {option}"),
        )
    };
    let mut file = BufReader::new(File::open(path).map_err(failed)?);
    let is_packed = file.fill_buf().map_err(failed)?.starts_with(&[0x1f, 0x8b]);
    let mut file: Box<dyn BufRead> = if is_packed {
        Box::new(BufReader::new(MultiGzDecoder::new(file)))
    } else {
        Box::new(file)
    };
    let mut line = Vec::new();
    loop {
        line.clear();
        // One byte more than a line may have, so that a longer one is told by its length.
        let mut part = file.by_ref().take(most as u64 + 1);
        if part.read_until(b'\n', &mut line).map_err(failed)? == 0 {
            return Ok(());
        }
        // Names in comments may be in any encoding.
        each(&String::from_utf8_lossy(&line))?;
    }
}
