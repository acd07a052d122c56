//! `hpc run`: start tasks and stay with them. Outside a job it makes an allocation, inside one a step.

use super::alloc::Held;
use super::attached::{Attachment, Ends};
use super::bcast;
use super::connection::{Target, unexpected};
use super::draft::{Draft, Program};
use super::exit::{Failure, Outcome};
use super::job_options::{self, RUN, Setting};
use super::script::title_of;
use super::step_log::digits;
use super::submit::{augment, queue, settings, would_run};
use super::{Verb, submit, surroundings};
use crate::model::export::ExportSpec;
use crate::model::ids::StepId;
use crate::wire::client::{Request, StepRequest, StepWish, ToClient};
use clap::{ArgMatches, Args, Command, FromArgMatches};
use std::env;

/// Options that a step inside a job honours.
const OF_A_STEP: &[&str] = &[
    "ntasks",
    "cpus-per-task",
    "nodes",
    "chdir",
    "export",
    "label",
    "quiet",
    "unbuffered",
    "bcast",
    "mpi",
    "kill-on-bad-exit",
    "wait",
];
/// Options of a step that variables stand for as well, `SLURM_` or `HPC_` before the name in the table.
const SAID_BY_VARIABLES: &[&str] = &["mpi", "kill-on-bad-exit", "wait"];

/// Arguments of `hpc run`: the table of job options, then a program.
#[derive(Debug)]
pub(super) struct Run {
    settings: Vec<Setting>,
    words: Vec<String>,
}

impl Verb for Run {
    fn run(self, target: &Target) -> Outcome {
        if self.words.is_empty() {
            return Err(Failure::Usage(
                "no program to run: name it after the options".into(),
            ));
        }
        match surrounding_job()? {
            Some(raw_job) => self.step(target, raw_job),
            None => self.job(target),
        }
    }
}

impl Run {
    /// A job of its own.
    fn job(self, target: &Target) -> Outcome {
        let mut given = Draft::default();
        job_options::apply(
            &mut given,
            job_options::from_variables(RUN, |name| env::var(name).ok())?,
        )?;
        job_options::apply(&mut given, self.settings)?;
        let title = title_of(&self.words[0]);
        let command = self.words.join(" ");
        if let Some(to) = &given.bcast
            && !(given.dry_run || given.test_only)
        {
            bcast::program(&self.words[0], &given.directory()?)?;
            let (spec, blobs) = given.build(Program::Hold, &title, &command)?;
            let step = within(to, &given, self.words);
            return Held::of_run(target, &given, spec, blobs)?.run_step(&step, &given);
        }
        let (spec, blobs) = given.build(Program::Tasks(self.words), &title, &command)?;
        if given.dry_run || given.test_only {
            return would_run(target, "run", &given, spec, blobs);
        }
        let tasks = spec.request.ntasks_or_default();
        let job = queue(target, spec, blobs)?;
        Attachment {
            inside: false,
            ..attachment(job, StepId(0), &given, tasks)
        }
        .follow(target)
    }

    /// A step of the job around us.
    fn step(self, target: &Target, raw_job: u32) -> Outcome {
        if let Some(setting) = self
            .settings
            .iter()
            .find(|setting| !OF_A_STEP.contains(&setting.long()))
        {
            return Err(Failure::Usage(format!(
                "--{} cannot be set for a step inside a job in this version\n  a step takes --{}",
                setting.long(),
                OF_A_STEP.join(", --")
            )));
        }
        let asked_nodes = self
            .settings
            .iter()
            .any(|setting| setting.long() == "nodes");
        let mut given = Draft::default();
        // Those of the job around us speak of that job; these do not.
        let variables = job_options::from_variables(RUN, |name| match name.strip_prefix("HPC_") {
            Some("JOB_ID") | None => None,
            Some(rest) => env::var(format!("SLURM_{rest}"))
                .or_else(|_| env::var(name))
                .ok(),
        })?;
        let variables = variables.into_iter();
        let variables = variables.filter(|one| SAID_BY_VARIABLES.contains(&one.long()));
        job_options::apply(&mut given, variables)?;
        job_options::apply(&mut given, self.settings)?;
        let environment = surroundings::environment();
        let mut words = self.words;
        let sent = match &given.bcast {
            Some(to) => Some(bcast::send(target, to, &mut words[0], &given)?),
            None => None,
        };
        let request = StepRequest {
            raw_job,
            arguments: words,
            environment: match given.export.clone().or(exported()?) {
                Some(export) => export.apply(environment),
                None => environment,
            },
            work_dir: given.directory()?,
            ntasks: given.request.ntasks,
            nodes: asked_nodes.then_some(given.request.nodes_min),
            cpus_per_task: given.request.cpus_per_task,
        };
        let options = given.step.clone();
        let request = if options.is_empty() {
            Request::StartStep(Box::new(request))
        } else {
            Request::StartStepAs(Box::new(StepWish { request, options }))
        };
        let step = match target.ask(&request)? {
            ToClient::StepStarted { step } => step,
            other => return Err(unexpected(&other)),
        };
        let tasks = given
            .request
            .ntasks
            .or_else(|| env::var("SLURM_NTASKS").ok()?.parse().ok())
            .unwrap_or(1);
        let outcome = attachment(raw_job, step, &given, tasks).follow(target);
        if let Some(sent) = sent {
            sent.remove(target);
        }
        outcome
    }
}

/// The step that a run with `--bcast` is, within the allocation made for it.
fn within(bcast: &str, given: &Draft, words: Vec<String>) -> Vec<String> {
    let mut step = vec!["/proc/self/exe".to_owned(), "run".to_owned()];
    step.push(format!("--bcast={bcast}"));
    step.extend(given.label.then(|| "--label".to_owned()));
    step.extend(given.quiet.then(|| "--quiet".to_owned()));
    let options = &given.step;
    if !options.is_empty() {
        step.push(format!("--mpi={}", options.mpi()));
        step.extend(
            options
                .kill_on_bad_exit()
                .map(|kill| format!("--kill-on-bad-exit={}", u8::from(kill))),
        );
        step.extend(options.wait_s().map(|wait| format!("--wait={wait}")));
    }
    step.push("--".to_owned());
    step.extend(words);
    step
}

/// What the job's own `--export` said, for its steps.
fn exported() -> Outcome<Option<ExportSpec>> {
    let Ok(text) = env::var(surroundings::EXPORT) else {
        return Ok(None);
    };
    match ExportSpec::parse(&text) {
        Ok(export) => Ok(Some(export)),
        Err(error) => Err(Failure::Usage(format!("{}: {error}", surroundings::EXPORT))),
    }
}

fn attachment(job: u32, step: StepId, given: &Draft, tasks: u32) -> Attachment {
    Attachment {
        verb: "run",
        job,
        step,
        owner: true,
        inside: true,
        unattended: false,
        label: given.label.then(|| digits(tasks)),
        quiet: given.quiet,
        follow: true,
        only: None,
        ends: Ends::default(),
    }
}

/// The raw id of the job we run in.
pub(super) fn surrounding_job() -> Outcome<Option<u32>> {
    let Some((name, value)) = ["HPC_JOB_ID", "SLURM_JOB_ID"]
        .into_iter()
        .find_map(|name| Some((name, env::var(name).ok()?)))
    else {
        return Ok(None);
    };
    value.parse().map(Some).map_err(|_| {
        Failure::Usage(format!(
            "{name}={value} is not a job id: unset it to run outside a job"
        ))
    })
}

impl FromArgMatches for Run {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Run {
            settings: settings(matches, RUN)?,
            words: submit::words(matches),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for Run {
    fn augment_args(command: Command) -> Command {
        let command = command.about("Run a program on allocated nodes and stay with it; inside a job, as a step of it").after_help(
            "Standard input goes to every task; output of all tasks comes back. The exit code is the highest \
             of the tasks', 128 + signal when one ended it. The first Ctrl-C warns, a second within 1 s ends the job; \
             other signals are passed on.\n\n\
             Examples:\n  hpc run -n 4 --label hostname\n  hpc run -N 2 --ntasks-per-node 4 ./solver input.dat < data > result",
        );
        augment(command, RUN, "PROGRAM [ARGS]", "Program and its arguments")
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}
