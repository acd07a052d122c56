//! `hpc sim --cluster --workload` and `hpc sim --history`: a whole cluster under the live controller's own rules.

use super::{Policy, curves, each_line, gantt, plot_file, refused_text};
use crate::cli::connection::{Target, unexpected};
use crate::cli::exit::{self, Failure, Outcome};
use crate::cli::output::table::{Table, elastic, right};
use crate::cli::output::{self, json};
use crate::cli::{nodes, now, queue, zone};
use crate::cluster::Settings;
use crate::model::refusal::Code;
use crate::model::rules::Rules;
use crate::model::time::{format_elapsed, parse_when};
use crate::sim::cluster::{Broken, Setup};
use crate::sim::cluster_file::{self, Description};
use crate::sim::figures::{Figures, UserFigures};
use crate::sim::foresight::{Foresight, foresee};
use crate::sim::recorded::{self, Change, Past, Recorder};
use crate::sim::swf::{LINE_MAX, Lines};
use crate::sim::workload::{JOBS_MAX, Workload};
use crate::sim::{FILE_MAX, jobs_file, outcome, simulate};
use crate::wire::client::{Filter, Request, ToClient};
use clap::Args;
use serde::Serialize;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Users shown in the table; JSON has them all.
const USERS_SHOWN: usize = 30;

/// What `hpc sim` takes for a whole cluster.
#[derive(Debug, Args)]
pub(super) struct Whole {
    /// A described cluster: nodes, partitions, QOS, accounts, users, policy, failures (TOML; examples/sim has one)
    #[arg(long, value_name = "FILE", requires = "workload", conflicts_with_all = ["trace", "procs", "gpu_nodes"])]
    cluster: Option<PathBuf>,
    /// What is submitted to it: FILE.toml (groups of jobs), FILE.swf, FILE.swf.gz, or `history` for what the running
    /// cluster has seen
    #[arg(long, value_name = "FILE", requires = "cluster")]
    workload: Option<String>,
    /// Replay what the running cluster has seen on its own nodes, and say who would have waited more and who less
    #[arg(long, conflicts_with_all = ["trace", "procs", "gpu_nodes", "cluster"])]
    history: bool,
    /// Of that only what ended after this time: 2026-01-31, 09:00, now-2days
    #[arg(short = 'S', long, value_name = "WHEN")]
    since: Option<String>,
    /// Partitions, QOS, accounts, users and policy to try instead (TOML)
    #[arg(long, value_name = "FILE", alias = "qos-file")]
    rules: Option<PathBuf>,
    /// Draw who ran where and when: FILE.svg
    #[arg(long, value_name = "FILE")]
    gantt: Option<PathBuf>,
    /// Ask one in N of the jobs that have to wait when it will start, as `hpc why` would say it, and say how often that was
    /// right
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    foretell: Option<u32>,
}

/// What stands beside these on the command line.
pub(super) struct Beside<'a> {
    pub(super) policy: Option<Policy>,
    pub(super) seed: u64,
    pub(super) plot: Option<&'a Path>,
    pub(super) is_json: bool,
}

#[derive(Serialize)]
struct Answer {
    seed: u64,
    jobs: usize,
    elements: usize,
    wait_s: super::Row,
    bounded_slowdown: super::Row,
    utilisation_cpus: f64,
    utilisation_gpus: Option<f64>,
    makespan_s: f64,
    states: Vec<State>,
    ended_without_start: u64,
    never_started: u64,
    refused: Vec<RefusedRow>,
    node_failures: u64,
    restarts: u64,
    lost_s: f64,
    users: Vec<User>,
    #[serde(skip_serializing_if = "Option::is_none")]
    changes: Option<Vec<ChangeRow>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    foresight: Option<ForesightRow>,
    fingerprint: String,
}

/// Starts that were foretold.
#[derive(Serialize)]
struct ForesightRow {
    asked: usize,
    as_told: usize,
    sooner: usize,
    later: usize,
    told_no_time: usize,
    coverage: f64,
    wait_s: super::Row,
    interval_s: super::Row,
    error_s: super::Row,
}

impl From<Foresight> for ForesightRow {
    fn from(seen: Foresight) -> Self {
        ForesightRow {
            coverage: seen.coverage(),
            asked: seen.asked,
            as_told: seen.inside,
            sooner: seen.before,
            later: seen.after,
            told_no_time: seen.untold,
            wait_s: seen.wait.into(),
            interval_s: seen.width.into(),
            error_s: seen.error.into(),
        }
    }
}

#[derive(Serialize)]
struct State {
    state: &'static str,
    elements: u64,
}

#[derive(Serialize)]
struct RefusedRow {
    code: String,
    jobs: u64,
    first: String,
}

#[derive(Serialize)]
struct User {
    user: String,
    elements: u64,
    wait_mean_s: f64,
    cpu_s: f64,
    gpu_s: f64,
    share: f64,
}

#[derive(Serialize)]
struct ChangeRow {
    /// `null` = all together.
    user: Option<String>,
    elements: u64,
    wait_mean_before_s: f64,
    wait_mean_after_s: f64,
}

impl From<UserFigures> for User {
    fn from(user: UserFigures) -> Self {
        User {
            user: user.name,
            elements: user.elements,
            wait_mean_s: user.wait_mean_s,
            cpu_s: user.cpu_s,
            gpu_s: user.gpu_s,
            share: user.share,
        }
    }
}

impl From<&Change> for ChangeRow {
    fn from(change: &Change) -> Self {
        let (before, after) = change.means_ms();
        let seconds = |ms: i64| super::drawing::float(ms) / 1000.0;
        ChangeRow {
            user: change.user.clone(),
            elements: change.elements,
            wait_mean_before_s: seconds(before),
            wait_mean_after_s: seconds(after),
        }
    }
}

/// A cluster, what is submitted to it, and how that fared if it has happened.
struct Case {
    setup: Setup,
    workload: Workload,
    past: Option<Past>,
}

impl Whole {
    /// Whether a whole cluster is meant.
    pub(super) fn is_meant(&self) -> bool {
        self.cluster.is_some() || self.history
    }

    /// The first option that means nothing without one.
    pub(super) fn idle_option(&self) -> Option<&'static str> {
        let given = [
            ("--since", self.since.is_some()),
            ("--rules", self.rules.is_some()),
            ("--gantt", self.gantt.is_some()),
            ("--foretell", self.foretell.is_some()),
        ];
        let mut given = given.into_iter();
        given.find(|(_, given)| *given).map(|(name, _)| name)
    }

    pub(super) fn run(&self, target: &Target, beside: &Beside<'_>) -> Outcome {
        let of_history = self.history || self.workload.as_deref() == Some("history");
        if self.since.is_some() && !of_history {
            let why = "--since goes with --history or --workload history";
            return Err(Failure::Usage(why.to_owned()));
        }
        let mut case = match &self.cluster {
            Some(file) => self.described(file, target, beside.seed)?,
            None => self.live(target)?,
        };
        if let Some(file) = &self.rules {
            let rules = std::mem::take(&mut case.setup.rules);
            let read = cluster_file::parse_rules(&text_of(file)?, rules, &mut case.setup.settings);
            case.setup.rules = read.map_err(|error| wrong(file, &error, "TOML"))?;
        }
        if let Some(policy) = beside.policy {
            case.setup.settings.policy.rule = policy.live()?;
        }
        case.workload.seed = beside.seed;
        let (outcome, foresight) = match self.foretell {
            None => (simulate(case.setup, &case.workload).map_err(broken)?, None),
            Some(every) => {
                let seen = foresee(case.setup, &case.workload, every).map_err(broken)?;
                (seen.0, Some(Foresight::of(&seen.1)))
            }
        };
        self.draw(&case.workload, &outcome, beside)?;
        let changes = case
            .past
            .as_ref()
            .map(|past| recorded::compare(past, &outcome));
        let figures = Figures::of(&case.workload, &outcome);
        if let Some(past) = case.past.filter(|past| past.left_out > 0) {
            eprintln!(
                "hpc sim: rows of the history left out: {}, of jobs that never ran or only copied files",
                past.left_out
            );
        }
        if beside.is_json {
            let mut answer = answer(figures, changes.as_deref(), beside.seed);
            answer.foresight = foresight.map(ForesightRow::from);
            json::object(&mut output::stdout(), &answer)?;
            return Ok(exit::DONE);
        }
        if let Some(changes) = &changes {
            change_table(changes).print()?;
            output::line("")?;
        }
        output::text(&figures.text())?;
        if let Some(foresight) = &foresight {
            output::line("")?;
            output::text(&foresight.text())?;
        }
        if changes.is_none() {
            output::line("")?;
            user_table(&figures.users).print()?;
            let more = figures.users.len().saturating_sub(USERS_SHOWN);
            if more > 0 {
                eprintln!("hpc sim: {more} more users are in --json");
            }
        }
        Ok(exit::DONE)
    }

    fn described(&self, file: &Path, target: &Target, seed: u64) -> Outcome<Case> {
        let read = cluster_file::parse(&text_of(file)?);
        let described = read.map_err(|error| wrong(file, &error, "a cluster is TOML"))?;
        let Description {
            nodes,
            rules,
            settings,
            outages,
            reservations,
        } = described;
        let mut setup = Setup {
            settings,
            rules,
            nodes,
            outages,
            reservations,
            check: false,
        };
        let name = self.workload.as_deref().unwrap_or_default();
        if name == "history" {
            let past = self.past(target)?;
            setup.rules = recorded::rules(setup.rules, &[], &past);
            return Ok(Case {
                setup,
                workload: past.workload.clone(),
                past: Some(past),
            });
        }
        let path = Path::new(name);
        let workload = if name.ends_with(".toml") {
            let read = jobs_file::parse(&text_of(path)?, seed);
            read.map_err(|error| wrong(path, &error, "groups of jobs are TOML"))?
        } else if name.ends_with(".swf") || name.ends_with(".swf.gz") {
            trace(path, &setup)?
        } else {
            return Err(Failure::Usage(format!(
                "--workload {name}: name a FILE.toml, a FILE.swf or FILE.swf.gz, or say history"
            )));
        };
        Ok(Case {
            setup,
            workload,
            past: None,
        })
    }

    /// The running cluster's nodes, partitions and past.
    fn live(&self, target: &Target) -> Outcome<Case> {
        let past = self.past(target)?;
        let partitions = match target.ask(&Request::Partitions)? {
            ToClient::Partitions(partitions) => partitions,
            other => return Err(unexpected(&other)),
        };
        let setup = Setup {
            settings: Settings::default(),
            rules: recorded::rules(Rules::initial(), &partitions, &past),
            nodes: recorded::nodes(&nodes::all(target)?),
            ..Setup::default()
        };
        Ok(Case {
            setup,
            workload: past.workload.clone(),
            past: Some(past),
        })
    }

    fn past(&self, target: &Target) -> Outcome<Past> {
        let since = self.since.as_deref();
        let since = since.map(|text| {
            let read = parse_when(text, now(), &zone());
            read.map_err(|error| Failure::Usage(format!("--since: {error}")))
        });
        let filter = Filter {
            since: since.transpose()?,
            ..Filter::default()
        };
        let mut recorder = Recorder::default();
        queue::each_part(target.request(&Request::History(filter))?, |rows| {
            let mut rows = rows.iter();
            rows.try_for_each(|row| recorder.push(row))
                .map_err(|error| {
                    let hint = "narrow it with --since";
                    Failure::refused(Code::TooMuch, error.to_string(), hint)
                })
        })?;
        let past = recorder.finish();
        if past.workload.jobs.is_empty() {
            let hint = "`hpc history` shows what has ended; --since narrows it";
            return Err(Failure::refused(
                Code::Invalid,
                "the history has no job that ran",
                hint,
            ));
        }
        Ok(past)
    }

    fn draw(
        &self,
        workload: &Workload,
        outcome: &outcome::Outcome,
        beside: &Beside<'_>,
    ) -> Outcome<()> {
        if let Some(file) = &self.gantt {
            let drawn = gantt::chart(workload, outcome);
            plot_file(file, &drawn.svg)?;
            if let Some(cut) = drawn.cut {
                eprintln!("hpc sim: {}: {cut}", file.display());
            }
        }
        if let Some(file) = beside.plot {
            plot_file(file, &curves::chart(outcome))?;
        }
        Ok(())
    }
}

/// A trace, for a cluster with so many cpus.
fn trace(path: &Path, setup: &Setup) -> Outcome<Workload> {
    let cpus: usize = setup
        .nodes
        .iter()
        .map(|node| node.topology.cpus.len())
        .sum();
    let mut lines = Lines::default();
    let hint = "a trace is in the Standard Workload Format: 18 numbers a line, `;` before comments";
    let option = "--workload FILE.swf or FILE.swf.gz";
    each_line(path, LINE_MAX, option, |line| {
        lines.push(line).map_err(|error| wrong(path, &error, hint))
    })?;
    let read = lines.finish(Some(u32::try_from(cpus).unwrap_or(u32::MAX)));
    let trace = read.map_err(|error| wrong(path, &error, hint))?;
    if trace.jobs.len() as u64 > JOBS_MAX {
        let what = format!(
            "{} jobs are too many, the most is {JOBS_MAX}",
            trace.jobs.len()
        );
        return Err(wrong(
            path,
            &what,
            "cut the trace, or replay it with --trace",
        ));
    }
    if trace.dropped > 0 {
        eprintln!(
            "hpc sim: jobs left out: {}, which never ran or are larger than the cluster's {cpus} cpus",
            trace.dropped
        );
    }
    Ok(Workload::of_trace(&trace))
}

fn wrong(path: &Path, error: &dyn std::fmt::Display, hint: &str) -> Failure {
    Failure::refused(Code::Invalid, format!("{}: {error}", path.display()), hint)
}

/// A mistake of ours that ends the simulation.
fn broken(broken: Broken) -> Failure {
    Failure::Other(anyhow::Error::from(broken).context("the simulated cluster broke"))
}

/// A whole file, if it is not too long.
fn text_of(path: &Path) -> Outcome<String> {
    let failed = |error: std::io::Error| refused_text(path, &error);
    let mut text = String::new();
    let file = File::open(path).map_err(failed)?;
    // One byte more than it may have tells that it has more.
    file.take(FILE_MAX + 1)
        .read_to_string(&mut text)
        .map_err(failed)?;
    Ok(text)
}

fn answer(figures: Figures, changes: Option<&[Change]>, seed: u64) -> Answer {
    let states = figures.states.into_iter();
    let refused = figures.refused.into_iter();
    Answer {
        seed,
        jobs: figures.jobs,
        elements: figures.elements,
        wait_s: figures.wait.into(),
        bounded_slowdown: figures.slowdown.into(),
        utilisation_cpus: figures.cpus,
        utilisation_gpus: figures.gpus,
        makespan_s: figures.makespan_s,
        states: states
            .map(|(state, elements)| State {
                state: state.word(),
                elements,
            })
            .collect(),
        ended_without_start: figures.never_ran,
        never_started: figures.left,
        refused: refused
            .map(|((code, _), refused)| RefusedRow {
                code: code.to_string(),
                jobs: refused.count,
                first: refused.first,
            })
            .collect(),
        node_failures: figures.failures,
        restarts: figures.restarts,
        lost_s: figures.lost_s,
        users: figures.users.into_iter().map(User::from).collect(),
        changes: changes.map(|changes| changes.iter().map(ChangeRow::from).collect()),
        foresight: None,
        fingerprint: format!("{:016x}", figures.fingerprint),
    }
}

/// Who had how much, the most first.
fn user_table(users: &[UserFigures]) -> Table {
    let mut table = Table::new(&[
        elastic("USER", 6),
        right("ELEMENTS"),
        right("MEAN WAIT (S)"),
        right("CPU HOURS"),
        right("GPU HOURS"),
        right("OF CPU HOURS"),
    ]);
    for user in users.iter().take(USERS_SHOWN) {
        table
            .add(&user.name)
            .number(user.elements)
            .add(&format!("{:.0}", user.wait_mean_s))
            .add(&format!("{:.1}", user.cpu_s / 3600.0))
            .add(&format!("{:.1}", user.gpu_s / 3600.0))
            .add(&format!("{:.1} %", user.share * 100.0));
    }
    table
}

/// Who would have waited more and who less.
fn change_table(changes: &[Change]) -> Table {
    let mut table = Table::new(&[
        elastic("USER", 6),
        right("ELEMENTS"),
        right("WAIT BEFORE"),
        right("WAIT AFTER"),
        right("CHANGE"),
    ]);
    let shown = |ms: i64| format_elapsed(u64::try_from(ms / 1000).unwrap_or(0));
    for change in changes {
        let (before, after) = change.means_ms();
        let word = match after / 1000 - before / 1000 {
            0 => "same".to_owned(),
            more @ 1.. => format!("{} more", shown(more * 1000)),
            less => format!("{} less", shown(-less * 1000)),
        };
        table
            .add(change.user.as_deref().unwrap_or("(all)"))
            .number(change.elements)
            .add(&shown(before))
            .add(&shown(after))
            .add(&word);
    }
    table
}
