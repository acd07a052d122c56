//! `hpc why JOB`: why a job waits, until when, and what would start it sooner.

use super::connection::{Target, unexpected};
use super::exit::{self, Outcome};
use super::output::words::counted;
use super::output::{self, json};
use super::selection::selector;
use super::{Verb, now};
use crate::model::time::Timestamp;
use crate::wire::client::{Request, ToClient};
use crate::wire::view::WhyView;
use clap::Args;
use serde::Serialize;
use std::fmt::Write as _;

/// Say why a job waits, when it will start, and what would start it sooner
///
/// The start is planned with what waits and runs now; what comes later may change it. The interval follows from how long
/// the last jobs ran of what they might. Each suggestion has been planned: with it the job starts by then at the latest,
/// unless others come before it.
///
/// Examples:
///   hpc why 12
///   hpc why 12_3 --json
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Why {
    /// The job, or an element of an array: 12, 12_3
    #[arg(value_name = "JOB")]
    id: String,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Start {
    expected: String,
    earliest: String,
    latest: String,
}

#[derive(Serialize)]
struct Ahead<'a> {
    job: u32,
    user: &'a str,
}

#[derive(Serialize)]
struct Holder<'a> {
    job: u32,
    user: &'a str,
    node: &'a str,
    until: Option<String>,
}

#[derive(Serialize)]
struct Suggestion<'a> {
    option: &'a str,
    starts: String,
}

#[derive(Serialize)]
struct All<'a> {
    job: u32,
    state: &'a str,
    reason: Option<&'a str>,
    reason_detail: Option<&'a str>,
    start: Option<Start>,
    ahead: Vec<Ahead<'a>>,
    ahead_count: u32,
    nodes: &'a [String],
    holders: Vec<Holder<'a>>,
    suggestions: Vec<Suggestion<'a>>,
}

impl<'a> From<&'a WhyView> for All<'a> {
    fn from(view: &'a WhyView) -> Self {
        let ahead = view.ahead.iter().map(|one| Ahead {
            job: one.job,
            user: &one.user,
        });
        let holders = view.holders.iter().map(|one| Holder {
            job: one.job,
            user: &one.user,
            node: &one.node,
            until: one.until.map(|at| at.to_string()),
        });
        let suggestions = view.suggestions.iter().map(|one| Suggestion {
            option: &one.option,
            starts: one.starts.to_string(),
        });
        All {
            job: view.job,
            state: &view.state,
            reason: view.reason.as_deref(),
            reason_detail: view.detail.as_deref(),
            start: view.start.as_ref().map(|start| Start {
                expected: start.expected.to_string(),
                earliest: start.earliest.to_string(),
                latest: start.latest.to_string(),
            }),
            ahead: ahead.collect(),
            ahead_count: view.ahead_count,
            nodes: &view.nodes,
            holders: holders.collect(),
            suggestions: suggestions.collect(),
        }
    }
}

impl Verb for Why {
    fn run(self, target: &Target) -> Outcome {
        let job = selector(&self.id)?.job;
        let view = match target.ask(&Request::Explain { job })? {
            ToClient::Explained(view) => view,
            other => return Err(unexpected(&other)),
        };
        if self.json {
            json::object(&mut output::stdout(), &All::from(&*view))?;
        } else {
            output::text(&describe(&view, now()))?;
        }
        Ok(exit::DONE)
    }
}

/// What a reason means, where the word alone does not tell.
fn meaning(word: &str) -> &'static str {
    match word {
        "Priority" => "others go first",
        "Resources" => "it is the next, and there is not enough room yet",
        "Dependency" => "for jobs that it depends on",
        "DependencyNeverSatisfied" => "for something that can no longer happen: cancel it",
        "BeginTime" => "until its begin time",
        "JobHeldUser" => "it is held; `hpc release` lets it go",
        "JobHeldAdmin" => "an operator holds it",
        "JobArrayTaskLimit" => "as many of its tasks run as its own throttle allows",
        "ReqNodeNotAvail" => "the nodes that could run it are down, silent or drained",
        "PartitionDown" => "its partition is down",
        _ => "",
    }
}

fn moment(at: Timestamp, now: Timestamp) -> String {
    let zone = jiff::tz::TimeZone::system();
    let seconds = at.minus(now) / 1000;
    if seconds <= 1 {
        return "now".to_owned();
    }
    let span = crate::model::time::format_elapsed(u64::try_from(seconds).unwrap_or(0));
    format!("{} (in {span})", at.to_local(&zone))
}

fn describe(view: &WhyView, now: Timestamp) -> String {
    let mut text = String::new();
    // Writing to a text cannot fail.
    let Some(reason) = &view.reason else {
        let detail = view.detail.as_deref().unwrap_or_default();
        let and = if detail.is_empty() { "" } else { ", and " };
        let _ = writeln!(
            text,
            "Job {} does not wait: it is {}{and}{}",
            view.job,
            view.state,
            output::clean(detail)
        );
        return text;
    };
    let _ = write!(text, "Job {} waits: {reason}", view.job);
    let meant = output::clean(view.detail.as_deref().unwrap_or_else(|| meaning(reason)));
    if !meant.is_empty() {
        let _ = write!(text, ", {meant}");
    }
    text.push('\n');
    if view.ahead_count > 0 && reason == "Priority" {
        let named: Vec<String> = view
            .ahead
            .iter()
            .map(|one| format!("{} ({})", one.job, output::clean(&one.user)))
            .collect();
        let more = view.ahead_count as usize > named.len();
        let more = if more { ", ..." } else { "" };
        let jobs = counted(u64::from(view.ahead_count), "job");
        let _ = writeln!(
            text,
            "  {jobs} will start before it: {}{more}",
            named.join(", ")
        );
    }
    if !view.holders.is_empty() {
        let nodes = crate::model::hostlist::fold(&view.nodes);
        let _ = writeln!(
            text,
            "  Were it alone, it would get {nodes} first, once these have ended:"
        );
        for one in &view.holders {
            let until = one.until.map_or_else(
                || "without limit".to_owned(),
                |until| format!("until {} at the latest", moment(until, now)),
            );
            let _ = writeln!(
                text,
                "    job {} of {} on {}, {until}",
                one.job, one.user, one.node
            );
        }
    }
    match &view.start {
        Some(start) => {
            let _ = writeln!(text, "  Expected start: {}", moment(start.expected, now));
            let (from, to) = (moment(start.earliest, now), moment(start.latest, now));
            if from != to {
                let _ = writeln!(text, "    in nine of ten cases from {from} to {to}");
            }
        }
        None => {
            let _ = writeln!(text, "  Expected start: not known");
        }
    }
    if !view.suggestions.is_empty() {
        let _ = writeln!(text, "  It would start sooner with");
        for one in &view.suggestions {
            let at = moment(one.starts, now);
            let _ = writeln!(
                text,
                "    {:<28} {at} at the latest",
                output::clean(&one.option)
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::view::{HolderView, JobOfView, StartView, SuggestionView};

    #[test]
    fn all_is_said_in_a_few_lines() {
        let at = |seconds: i64| Timestamp(seconds * 1000);
        let view = WhyView {
            job: 12,
            state: "PENDING".into(),
            reason: Some("Priority".into()),
            detail: None,
            start: Some(StartView {
                expected: at(100),
                earliest: at(0),
                latest: at(3700),
            }),
            ahead: vec![JobOfView {
                job: 7,
                user: "ann".into(),
            }],
            ahead_count: 2,
            nodes: vec!["n1".into(), "n2".into()],
            holders: vec![HolderView {
                job: 3,
                user: "bob".into(),
                node: "n1".into(),
                until: None,
            }],
            suggestions: vec![SuggestionView {
                option: "--time=0:30:00".into(),
                starts: at(0),
            }],
        };
        let text = describe(&view, at(0));
        for expected in [
            "Job 12 waits: Priority, others go first",
            "2 jobs will start before it: 7 (ann), ...",
            "n[1-2]",
            "job 3 of bob on n1, without limit",
            "(in 1:40)",
            "from now to",
            "--time=0:30:00",
            "now at the latest",
        ] {
            assert!(text.contains(expected), "{expected}: {text}");
        }
    }
}
