//! Naming jobs on a command line: ids and lists, and the filters that listings and bulk verbs share.

use super::connection::{Target, unexpected};
use super::exit::{Failure, Outcome};
use crate::model::ids::StepId;
use crate::model::job::JobState;
use crate::model::job_ref;
use crate::wire::client::{Filter, Request, Selector, ToClient};
use clap::Args;

/// Reads operands such as `12`, `12_3`, `12_[1-4]`, `12,13`.
pub(super) fn selectors(operands: &[String]) -> Outcome<Vec<Selector>> {
    let mut found = Vec::new();
    for operand in operands {
        let list = job_ref::parse_list(operand).map_err(|error| {
            if let Some(number) = too_large(operand) {
                return Failure::Usage(format!(
                    "Invalid job id {number}: the largest is {}",
                    u32::MAX
                ));
            }
            Failure::Usage(format!(
                "Invalid job id {operand}: {:#}",
                anyhow::Error::from(error)
            ))
        })?;
        found.extend(list.into_iter().map(|one| Selector {
            job: one.job,
            indices: one.indices,
        }));
    }
    Ok(found)
}

/// A step that an operand names: `12.0`, `12_3.1`, `12.batch`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct StepOf {
    /// Its job or element.
    pub(super) selector: Selector,
    /// Which of its steps.
    pub(super) step: StepId,
}

impl StepOf {
    /// Its job alone.
    pub(super) fn filter(&self) -> Filter {
        Filter {
            jobs: vec![self.selector.clone()],
            ..Filter::default()
        }
    }
}

/// Parts operands that name steps from those that name jobs.
pub(super) fn part_steps(operands: &[String]) -> Outcome<(Vec<String>, Vec<StepOf>)> {
    let mut jobs = Vec::new();
    let mut steps = Vec::new();
    for operand in operands {
        if !operand.contains('.') {
            jobs.push(operand.clone());
            continue;
        }
        for word in operand.split(',') {
            let Some((job, step)) = word.split_once('.') else {
                jobs.push(word.to_owned());
                continue;
            };
            let number = || step.parse().ok().map(StepId);
            let step = if step == "batch" {
                Some(StepId::BATCH)
            } else {
                number()
            };
            let step = step.ok_or_else(|| {
                Failure::Usage(format!(
                    "\"{word}\" is not a step: write one as 12.0 or 12_3.0"
                ))
            })?;
            let selector = selector(job)?;
            steps.push(StepOf { selector, step });
        }
    }
    Ok((jobs, steps))
}

/// The number in a list of jobs that is too large for one, if that is what is wrong with it.
fn too_large(operand: &str) -> Option<&str> {
    operand
        .split(|character: char| !character.is_ascii_digit())
        .find(|digits| !digits.is_empty() && digits.parse::<u32>().is_err())
}

/// Reads the one operand of a command about a single job or element.
pub(super) fn selector(operand: &str) -> Outcome<Selector> {
    let mut found = selectors(&[operand.to_owned()])?;
    match (found.pop(), found.is_empty()) {
        (Some(selector), true) => Ok(selector),
        _ => Err(Failure::Usage(format!(
            "\"{operand}\" names several jobs: name one"
        ))),
    }
}

/// Reads states in either form and any letter case; `all` is every state, ended ones too.
pub(super) fn states(words: &[String]) -> Outcome<Vec<JobState>> {
    if words.iter().any(|word| word.eq_ignore_ascii_case("all")) {
        return Ok(JobState::ALL.to_vec());
    }
    let mut found = Vec::new();
    for word in words {
        let valid = JobState::ALL.map(JobState::word).join(",");
        let state = JobState::parse(word).ok_or_else(|| {
            Failure::Usage(format!(
                "Invalid job state specified: {word}\n  Valid job states include: {valid}"
            ))
        })?;
        found.push(state);
    }
    Ok(found)
}

/// Our own user, as a filter takes it.
pub(super) fn me() -> String {
    nix::unistd::getuid().to_string()
}

/// Jobs by what they are, not by number.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Which jobs")]
pub(super) struct Which {
    /// Of these users
    #[arg(
        short = 'u',
        long = "user",
        value_name = "USERS",
        value_delimiter = ','
    )]
    users: Vec<String>,
    /// Of mine
    #[arg(long)]
    me: bool,
    /// In these states: PENDING, RUNNING, PD, R, ..., or all
    #[arg(
        short = 't',
        long = "state",
        value_name = "STATES",
        value_delimiter = ',',
        alias = "states"
    )]
    states: Vec<String>,
    /// In these partitions
    #[arg(
        short = 'p',
        long = "partition",
        value_name = "NAMES",
        value_delimiter = ','
    )]
    partitions: Vec<String>,
    /// With these names
    #[arg(
        short = 'n',
        long = "name",
        value_name = "NAMES",
        value_delimiter = ','
    )]
    names: Vec<String>,
}

impl Which {
    /// The filter for these operands and options.
    pub(super) fn filter(&self, operands: &[String]) -> Outcome<Filter> {
        let mut users = self.users.clone();
        if self.me {
            users.push(me());
        }
        Ok(Filter {
            jobs: selectors(operands)?,
            users,
            states: states(&self.states)?,
            partitions: self.partitions.clone(),
            names: self.names.clone(),
            ..Filter::default()
        })
    }

    /// Whether it narrows down which jobs are meant.
    pub(super) fn says_something(&self) -> bool {
        let lists = [&self.users, &self.states, &self.partitions, &self.names];
        self.me || lists.iter().any(|list| !list.is_empty())
    }

    /// As [`Which::filter`], refused when it would mean every job there is.
    pub(super) fn filter_for_change(&self, operands: &[String]) -> Outcome<Filter> {
        if operands.is_empty() && !self.says_something() {
            return Err(Failure::Usage(
                "No job identification provided: name job ids, --me, --user, --name ...".into(),
            ));
        }
        self.filter(operands)
    }
}

/// Sends a bulk verb, with a word on standard error when a filter found no job.
pub(super) fn change(target: &Target, verb: &str, request: &Request) -> Outcome<()> {
    if !change_quietly(target, request)? && is_filtered(request) {
        eprintln!("hpc {verb}: no job matches");
    }
    Ok(())
}

/// Sends a bulk verb; notes about jobs it left alone go to standard error. Whether it met any job.
pub(super) fn change_quietly(target: &Target, request: &Request) -> Outcome<bool> {
    match target.ask(request)? {
        ToClient::Done { count, notes } => {
            for note in &notes {
                eprintln!("{note}");
            }
            Ok(count > 0 || !notes.is_empty())
        }
        other => Err(unexpected(&other)),
    }
}

/// Whether it is about jobs by what they are; those named by number are missed by the controller itself.
fn is_filtered(request: &Request) -> bool {
    let (Request::Cancel { filter }
    | Request::Signal { filter, .. }
    | Request::Hold(filter)
    | Request::Release(filter)
    | Request::Requeue { filter, .. }
    | Request::Suspend { filter, .. }) = request
    else {
        return false;
    };
    !(filter.users.is_empty()
        && filter.states.is_empty()
        && filter.partitions.is_empty()
        && filter.names.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operands_are_ids_elements_and_lists() {
        let found = selectors(&["12,13_4".into(), "14_[1-3]".into()]).unwrap();
        let shown: Vec<(u32, Option<String>)> = found
            .iter()
            .map(|one| (one.job, one.indices.as_ref().map(ToString::to_string)))
            .collect();
        assert_eq!(
            shown,
            [(12, None), (13, Some("4".into())), (14, Some("1-3".into()))]
        );
        let failure = selectors(&["abc".into()]).unwrap_err();
        assert!(
            failure.to_string().starts_with("Invalid job id abc"),
            "{failure}"
        );
        assert!(selector("1,2").is_err());
        let large = selectors(&["99999999999999999999".into()]).unwrap_err();
        assert_eq!(
            large.to_string(),
            "Invalid job id 99999999999999999999: the largest is 4294967295"
        );
    }

    #[test]
    fn steps_are_named_by_their_job_and_number() {
        let words =
            |words: &[&str]| -> Vec<String> { words.iter().map(|one| (*one).into()).collect() };
        let (jobs, steps) = part_steps(&words(&["12", "13.0,14", "15_3.2", "16.batch"])).unwrap();
        assert_eq!(jobs, ["12", "14"]);
        let shown: Vec<(u32, bool, StepId)> = steps
            .iter()
            .map(|one| (one.selector.job, one.selector.indices.is_some(), one.step))
            .collect();
        let expected = [
            (13, false, StepId(0)),
            (15, true, StepId(2)),
            (16, false, StepId::BATCH),
        ];
        assert_eq!(shown, expected);
        for wrong in ["12.", "12.x", ".0", "12.0.1", "x.0"] {
            assert!(part_steps(&words(&[wrong])).is_err(), "{wrong}");
        }
    }

    #[test]
    fn states_take_either_form() {
        assert_eq!(
            states(&["pd".into(), "RUNNING".into()]).unwrap(),
            [JobState::Pending, JobState::Running]
        );
        assert_eq!(states(&["All".into()]).unwrap(), JobState::ALL);
        assert!(
            states(&["XX".into()])
                .unwrap_err()
                .to_string()
                .contains("Valid job states include: PENDING,")
        );
    }

    #[test]
    fn a_change_never_means_every_job_by_accident() {
        assert!(Which::default().filter_for_change(&[]).is_err());
        assert!(
            Which {
                me: true,
                ..Which::default()
            }
            .filter_for_change(&[])
            .is_ok()
        );
    }
}
