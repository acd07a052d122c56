//! `hpc update`: change jobs that have not ended.

use super::Verb;
use super::connection::Target;
use super::exit::{self, Failure, Outcome};
use super::job_options::nice_value;
use super::numbers::count;
use super::selection::{change, selectors};
use super::{now, zone};
use crate::model::dependency::Dependency;
use crate::model::time::{parse_begin, parse_time_limit};
use crate::wire::client::{Filter, JobChange, Request};
use clap::Args;

/// Change jobs that have not ended
///
/// Keys: time=LIMIT or time=+LIMIT, name, partition, comment, nice, begin=WHEN, dependency=LIST (empty: none),
/// throttle=N (elements of an array at once; 0: as many as fit). Slurm's spellings (TimeLimit, StartTime,
/// ArrayTaskThrottle, ...) are understood too.
///
/// Examples:
///   hpc update 12 time=+30 comment="one more epoch"
///   hpc update 14 throttle=8
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Update {
    /// Jobs: 12, 12_3, 12_[1-4]
    #[arg(value_name = "JOBS")]
    jobs: String,
    /// What to change: KEY=VALUE
    #[arg(value_name = "KEY=VALUE", required = true)]
    changes: Vec<String>,
}

impl Verb for Update {
    fn run(self, target: &Target) -> Outcome {
        let filter = Filter {
            jobs: selectors(&[self.jobs])?,
            ..Filter::default()
        };
        let changes = self
            .changes
            .iter()
            .map(|text| parse(text))
            .collect::<Outcome<_>>()?;
        change(target, "update", &Request::Update { filter, changes })?;
        Ok(exit::DONE)
    }
}

fn parse(text: &str) -> Outcome<JobChange> {
    let Some((key, value)) = text.split_once('=') else {
        return Err(Failure::Usage(format!("\"{text}\" is not KEY=VALUE")));
    };
    let wrong = |error: &dyn std::fmt::Display| Failure::Usage(format!("{key}: {error}"));
    let folded: String = key
        .chars()
        .filter(|c| !matches!(c, '-' | '_'))
        .collect::<String>()
        .to_ascii_lowercase();
    Ok(match folded.as_str() {
        "time" | "timelimit" => match value.split_at_checked(1) {
            Some((sign @ ("+" | "-"), amount)) => {
                let seconds = parse_time_limit(amount)
                    .map_err(|error| wrong(&error))?
                    .map_or(0, i64::from);
                JobChange::TimeLimitBy(if sign == "+" { seconds } else { -seconds })
            }
            _ => JobChange::TimeLimit(parse_time_limit(value).map_err(|error| wrong(&error))?),
        },
        "name" | "jobname" => JobChange::Name(value.to_owned()),
        "partition" => JobChange::Partition(value.to_owned()),
        "comment" => JobChange::Comment(value.to_owned()),
        "nice" => JobChange::Nice(nice_value(value).map_err(|error| wrong(&error))?),
        "begin" | "starttime" => {
            JobChange::Begin(parse_begin(value, now(), &zone()).map_err(|error| wrong(&error))?)
        }
        "dependency" if value.is_empty() => JobChange::Dependency(None),
        "dependency" => JobChange::Dependency(Some(
            Dependency::parse(value).map_err(|error| wrong(&error))?,
        )),
        "throttle" | "arraytaskthrottle" | "arraythrottle" => {
            JobChange::ArrayThrottle(count(value, 0, u32::MAX).map_err(|error| wrong(&error))?)
        }
        _ => {
            return Err(Failure::Usage(format!(
                "\"{key}\" cannot be changed: the keys are time, name, partition, comment, nice, begin, dependency, throttle"
            )));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_in_our_words_and_slurms() {
        let table = [
            ("time=1:00:00", JobChange::TimeLimit(Some(3600))),
            ("TimeLimit=+30", JobChange::TimeLimitBy(1800)),
            ("time=-5", JobChange::TimeLimitBy(-300)),
            ("time=UNLIMITED", JobChange::TimeLimit(None)),
            ("JobName=a=b", JobChange::Name("a=b".into())),
            ("nice=-3", JobChange::Nice(-3)),
            ("ArrayTaskThrottle=4", JobChange::ArrayThrottle(4)),
            ("dependency=", JobChange::Dependency(None)),
        ];
        for (text, expected) in table {
            assert_eq!(parse(text).unwrap(), expected, "{text}");
        }
        for text in ["time", "time=x", "nice=", "color=red", "throttle=-1"] {
            assert!(matches!(parse(text), Err(Failure::Usage(_))), "{text}");
        }
    }
}
