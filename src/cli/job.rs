//! `hpc job ID`: everything about one job.

use super::connection::{Target, unexpected};
use super::exit::{self, Outcome};
use super::output::words::counted;
use super::output::{self, json, words};
use super::queue::collect;
use super::selection::selector;
use super::{Verb, now, placing};
use crate::model::time::{Timestamp, format_elapsed};
use crate::wire::client::{Request, ToClient};
use crate::wire::view::{JobView, StepPlaceView, StepView, UsageView};
use clap::Args;
use std::fmt::Write as _;
use std::io::Write as _;

/// Show everything about one job, waiting, running or ended
///
/// Examples:
///   hpc job 12
///   hpc job 12_3 --json
///   hpc job 12 --script
///   hpc job 12 --priority
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Job {
    /// The job, or an element of an array: 12, 12_3
    #[arg(value_name = "JOB")]
    id: String,
    /// One JSON object
    #[arg(long)]
    json: bool,
    /// The batch script, as it was submitted
    #[arg(long, conflicts_with = "json")]
    script: bool,
    /// What the priority of a waiting job is made of
    #[arg(long, conflicts_with = "script")]
    priority: bool,
}

impl Verb for Job {
    fn run(self, target: &Target) -> Outcome {
        let selector = selector(&self.id)?;
        if self.script {
            match target.ask(&Request::Script { job: selector.job })? {
                ToClient::Script(bytes) => std::io::stdout().lock().write_all(&bytes)?,
                other => return Err(unexpected(&other)),
            }
            return Ok(exit::DONE);
        }
        if self.priority {
            return priority(target, selector.job, self.json);
        }
        let jobs = collect(target.request(&Request::Job {
            selector: selector.clone(),
        })?)?;
        if self.json {
            let mut out = output::stdout();
            if let [job] = jobs.as_slice() {
                let runs = job.state == "RUNNING";
                let places = runs.then(|| placing::places(target, selector.job));
                let places = places.unwrap_or_default();
                json::object(&mut out, &json::Job::from(job).with_running(&places))?;
            } else {
                // The first row is the array as a whole, elements follow.
                json::object(
                    &mut out,
                    &jobs.iter().map(json::Job::from).collect::<Vec<_>>(),
                )?;
            }
            return Ok(exit::DONE);
        }
        let mut texts: Vec<String> = jobs.iter().map(|job| describe(job, now())).collect();
        if let ([job], [text]) = (jobs.as_slice(), texts.as_mut_slice())
            && job.state == "RUNNING"
        {
            text.push_str(&running_steps(&placing::places(target, selector.job)));
        }
        output::text(&texts.join("\n"))?;
        Ok(exit::DONE)
    }
}

/// Where the ranks of running steps are, a line for each of their nodes.
fn running_steps(places: &[StepPlaceView]) -> String {
    let mut text = String::new();
    for place in places {
        for node in &place.nodes {
            let line = format!(
                "{} {} on {}",
                place.step,
                place.name,
                placing::node_line(node)
            );
            let _ = writeln!(text, "{:<14}{}", "Running step:", output::clean(&line));
        }
    }
    text
}

/// The terms of a job's priority, a line each.
fn priority(target: &Target, job: u32, as_json: bool) -> Outcome {
    let view = match target.ask(&Request::Priority { job })? {
        ToClient::Priority(view) => view,
        other => return Err(unexpected(&other)),
    };
    if as_json {
        let mut all = serde_json::Map::new();
        all.insert("job".into(), view.job.into());
        for (word, points) in &view.terms {
            all.insert(word.replace(' ', "_").to_lowercase(), (*points).into());
        }
        all.insert("sum".into(), view.sum.into());
        all.insert("ahead".into(), view.ahead.into());
        json::object(&mut output::stdout(), &all)?;
        return Ok(exit::DONE);
    }
    let mut text = String::new();
    for (word, points) in &view.terms {
        // Writing to a text cannot fail.
        let _ = writeln!(text, "{:<14}{points:>10}", format!("{word}:"));
    }
    let _ = writeln!(text, "{:<14}{:>10}", "priority:", view.sum);
    let _ = writeln!(text, "{:<14}{:>10}", "jobs ahead:", view.ahead);
    output::text(&text)?;
    Ok(exit::DONE)
}

/// A job in lines of `Word: value`; what has nothing to say is left out.
pub(super) fn describe(job: &JobView, now: Timestamp) -> String {
    let mut text = String::new();
    let nodes = match job.nodes.len() {
        0 => job.nodes_requested,
        held => u32::try_from(held).unwrap_or(u32::MAX),
    };
    let mut line = |word: &str, value: String| {
        if !value.is_empty() {
            // Writing to a text cannot fail.
            let value = output::clean(&value);
            let _ = writeln!(text, "{:<14}{value}", format!("{word}:"));
        }
    };
    line("Job", words::job_id(job));
    line("Name", job.name.clone());
    line("User", format!("{} ({})", job.user, job.uid));
    line(
        "Account",
        format!(
            "{}, QOS {}, partition {}",
            job.account, job.qos, job.partition
        ),
    );
    line("State", state(job));
    line("Reason", reason(job));
    if job.exit_code.is_some() || job.signal.is_some() {
        line("Exit", words::exit(job));
    }
    line("Submitted", words::local(Some(job.submit_time)));
    line(
        "Not before",
        job.begin_time
            .map_or_else(String::new, |time| words::local(Some(time))),
    );
    line(
        "Expected",
        job.expected_start
            .map_or_else(String::new, |time| words::local(Some(time))),
    );
    line(
        "Started",
        job.start_time
            .map_or_else(String::new, |time| words::local(Some(time))),
    );
    line(
        "Ended",
        job.end_time
            .map_or_else(String::new, |time| words::local(Some(time))),
    );
    line(
        "Time",
        format!(
            "{} of {}",
            words::elapsed(job, now),
            job.time_limit_s
                .map_or_else(|| words::limit(None), |limit| format_elapsed(limit.into()))
        ),
    );
    line(
        "Resources",
        format!(
            "{}, {} ({} each), {}, {}, {}",
            counted(job.ntasks, "task"),
            counted(job.cpus, "cpu"),
            job.cpus_per_task,
            memory_of(job),
            counted(job.gpus, "GPU"),
            counted(nodes, "node")
        ),
    );
    if let Some(elements) = &job.elements {
        line(
            "Elements",
            format!(
                "{}: {} pending, {} running, {} completed, {} unsuccessful",
                elements.total,
                elements.pending,
                elements.running,
                elements.completed,
                elements.unsuccessful
            ),
        );
    }
    line("Dependency", job.dependency.clone().unwrap_or_default());
    if job.restarts > 0 {
        line("Restarts", job.restarts.to_string());
    }
    line("Command", job.command.clone());
    line("Directory", job.work_dir.clone());
    line("Stdout", job.stdout_path.clone().unwrap_or_default());
    if job.stderr_path != job.stdout_path {
        line("Stderr", job.stderr_path.clone().unwrap_or_default());
    }
    line("Comment", job.comment.clone().unwrap_or_default());
    for place in &job.placement {
        let gpus: Vec<String> = place.gpus.iter().map(ToString::to_string).collect();
        let gpus = if gpus.is_empty() {
            String::new()
        } else {
            format!(", GPUs {}", gpus.join(","))
        };
        line(
            "On",
            format!(
                "{}: {}, cpus {}, {}{gpus}",
                place.node,
                counted(place.tasks, "task"),
                place.cpus,
                words::memory(place.memory_mib)
            ),
        );
    }
    for one in &job.steps {
        line("Step", step(one));
    }
    line("Used", job.usage.as_ref().map_or_else(String::new, used));
    text
}

/// 0 = by its share of a node, known when it is placed.
fn memory_of(job: &JobView) -> String {
    match job.memory_mib {
        0 => "memory by cpus".to_owned(),
        mib => words::memory(mib),
    }
}

fn state(job: &JobView) -> String {
    match job.cancelled_by {
        Some(uid) => format!("{} by {uid}", job.state),
        None => job.state.clone(),
    }
}

fn reason(job: &JobView) -> String {
    match (&job.reason, &job.reason_detail) {
        (Some(word), Some(detail)) => format!("{word}: {detail}"),
        (Some(word), None) => word.clone(),
        (None, detail) => detail.clone().unwrap_or_default(),
    }
}

fn step(step: &StepView) -> String {
    let mut text = format!(
        "{} {} {}, {}",
        step.id,
        step.name,
        step.state,
        counted(step.ntasks, "task")
    );
    if step.exit_code.is_some() || step.signal.is_some() {
        let _ = write!(
            text,
            ", exit {}:{}",
            step.exit_code.unwrap_or(0),
            step.signal.unwrap_or(0)
        );
    }
    if let Some(usage) = &step.usage {
        let _ = write!(text, ", {}", used(usage));
    }
    text
}

fn used(usage: &UsageView) -> String {
    let energy = usage
        .energy_j
        .map_or_else(String::new, |joules| format!(", {joules:.0} J"));
    format!(
        "{:.2} s cpu in {:.2} s, at most {:.1} MiB{energy}",
        usage.cpu_s, usage.wall_s, usage.max_rss_mib
    )
}
