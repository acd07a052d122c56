//! `hpc sim --gpu-nodes --gpu-tasks`: how much of a GPU cluster each rule of packing gives out.

use super::plot;
use crate::cli::exit::{self, Failure, Outcome};
use crate::cli::output::table::{Table, left, right};
use crate::cli::output::{self, json};
use crate::model::refusal::Code;
use crate::scheduler::packing::Rule;
use crate::sim::gpu::{GpuLines, GpuTrace, GpuTraceError, LINE_MAX, NODES_HEADER, TASKS_HEADER};
use crate::sim::inflation::{Inflation, Point, inflate};
use clap::{Args, ValueEnum};
use serde::Serialize;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// What `hpc sim` takes for packing.
#[derive(Debug, Args)]
pub(super) struct Packing {
    /// Nodes of a GPU cluster, instead of a trace of jobs: FILE.csv or FILE.csv.gz
    #[arg(long, value_name = "FILE", requires = "gpu_tasks", conflicts_with_all = ["trace", "policy", "procs"])]
    gpu_nodes: Option<PathBuf>,
    /// Tasks of that cluster: FILE.csv or FILE.csv.gz
    #[arg(long, value_name = "FILE", requires = "gpu_nodes")]
    gpu_tasks: Option<PathBuf>,
    /// Which node and GPU a task is given
    #[arg(
        long,
        value_enum,
        default_value = "all",
        value_name = "RULE",
        requires = "gpu_nodes"
    )]
    placement: Placement,
}

/// Rules on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Placement {
    /// The first node that holds it
    FirstFit,
    /// The node with the least left
    BestFit,
    /// The node with the least left of what the task asks for much of
    DotProduct,
    /// The node and GPU that leave the least that usual tasks could not use
    Fragmentation,
    /// Each in turn
    All,
}

impl Placement {
    /// Rules with their names.
    fn rules(self) -> Vec<(&'static str, Rule)> {
        let first_fit = ("first-fit", Rule::FirstFit);
        let best_fit = ("best-fit", Rule::BestFit);
        let dot_product = ("dot-product", Rule::DotProduct);
        let fragmentation = ("fragmentation", Rule::Fragmentation);
        match self {
            Placement::FirstFit => vec![first_fit],
            Placement::BestFit => vec![best_fit],
            Placement::DotProduct => vec![dot_product],
            Placement::Fragmentation => vec![fragmentation],
            Placement::All => vec![first_fit, best_fit, dot_product, fragmentation],
        }
    }
}

/// A rule, and what it made of the cluster.
pub(super) struct Outline {
    pub(super) rule: &'static str,
    pub(super) inflation: Inflation,
}

#[derive(Serialize)]
struct Figures {
    seed: u64,
    nodes: usize,
    gpus: usize,
    tasks_in_trace: usize,
    rules: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    rule: &'static str,
    at_full_demand: Outcomes,
    at_end: Outcomes,
    /// For each hundredth of the GPUs that has been asked for.
    points: Vec<Moment>,
}

/// What is said of a moment when no less is asked for than there is.
#[derive(Serialize)]
struct Outcomes {
    #[serde(flatten)]
    moment: Moment,
    stranded_percent: f64,
}

#[derive(Serialize)]
struct Moment {
    arrived_percent: f64,
    allocated_percent: f64,
    tasks: u32,
    tasks_failed: u32,
}

impl Outcomes {
    fn of(inflation: &Inflation, point: Point) -> Self {
        Outcomes {
            moment: Moment::of(inflation, point),
            stranded_percent: inflation.percent(inflation.stranded(point)),
        }
    }
}

impl Moment {
    fn of(inflation: &Inflation, point: Point) -> Self {
        Moment {
            arrived_percent: inflation.percent(point.arrived),
            allocated_percent: inflation.percent(point.allocated),
            tasks: point.tasks,
            tasks_failed: point.failed,
        }
    }
}

impl Packing {
    /// Whether this is what was asked for; does it then.
    pub(super) fn run(&self, seed: u64, plot: Option<&Path>, is_json: bool) -> Option<Outcome> {
        let (nodes, tasks) = self.gpu_nodes.as_ref().zip(self.gpu_tasks.as_ref())?;
        Some(self.pack(nodes, tasks, seed, plot, is_json))
    }

    fn pack(
        &self,
        nodes: &Path,
        tasks: &Path,
        seed: u64,
        plot: Option<&Path>,
        is_json: bool,
    ) -> Outcome {
        let trace = load(nodes, tasks)?;
        let outlines = self
            .placement
            .rules()
            .into_iter()
            .map(|(rule, which)| {
                let inflation = inflate(&trace, which, seed)
                    .map_err(|error| refused(tasks, &error, "name another file of tasks"))?;
                Ok(Outline { rule, inflation })
            })
            .collect::<Outcome<Vec<_>>>()?;
        if let Some(file) = plot {
            super::plot_file(file, &plot::chart(&outlines))?;
        }
        if is_json {
            json::object(&mut output::stdout(), &figures(&trace, &outlines, seed))?;
        } else {
            table(&outlines).print()?;
        }
        Ok(exit::DONE)
    }
}

fn figures(trace: &GpuTrace, outlines: &[Outline], seed: u64) -> Figures {
    let row = |Outline { rule, inflation }: &Outline| {
        let points = inflation.points.iter();
        Row {
            rule,
            at_full_demand: Outcomes::of(inflation, inflation.full()),
            at_end: Outcomes::of(inflation, inflation.end()),
            points: points.map(|point| Moment::of(inflation, *point)).collect(),
        }
    };
    Figures {
        seed,
        nodes: trace.nodes.len(),
        gpus: trace.nodes.iter().map(|node| node.gpus.len()).sum(),
        tasks_in_trace: trace.tasks.len(),
        rules: outlines.iter().map(row).collect(),
    }
}

/// In hundredths of all GPUs, when as much has been asked for as there is, and at the end.
fn table(outlines: &[Outline]) -> Table {
    let mut table = Table::new(&[
        left("RULE"),
        right("ALLOCATED %"),
        right("STRANDED %"),
        right("FAILED"),
        right("AT END: ALLOCATED %"),
        right("STRANDED %"),
        right("FAILED"),
        right("OF TASKS"),
    ]);
    for Outline { rule, inflation } in outlines {
        table.add(rule);
        for point in [inflation.full(), inflation.end()] {
            for part in [point.allocated, inflation.stranded(point)] {
                table.cell(|cell| {
                    // Writing to a text cannot fail.
                    let _ = write!(cell, "{:.2}", inflation.percent(part));
                });
            }
            table.number(point.failed);
        }
        table.number(inflation.end().tasks);
    }
    table
}

fn refused(path: &Path, error: &dyn std::error::Error, hint: &str) -> Failure {
    Failure::refused(Code::Invalid, format!("{}: {error}", path.display()), hint)
}

fn load(nodes: &Path, tasks: &Path) -> Outcome<GpuTrace> {
    let mut lines = GpuLines::default();
    let format = |header| format!("the file begins with a line `{header}`");
    let bad_node = |error: GpuTraceError| refused(nodes, &error, &format(NODES_HEADER));
    let bad_task = |error: GpuTraceError| refused(tasks, &error, &format(TASKS_HEADER));
    super::each_line(nodes, LINE_MAX, "--gpu-nodes FILE.csv", |line| {
        lines.push_node(line).map_err(bad_node)
    })?;
    super::each_line(tasks, LINE_MAX, "--gpu-tasks FILE.csv", |line| {
        lines.push_task(line).map_err(bad_task)
    })?;
    lines.finish().map_err(|error| match error {
        GpuTraceError::NoDemand => bad_task(error),
        _ => bad_node(error),
    })
}
