//! `hpc run`: start tasks and stay with them. Outside a job it makes an allocation, inside one a step.

use super::alloc::Held;
use super::attached::{Attachment, Ends};
use super::bcast;
use super::connection::{RECONNECT, Target, unexpected};
use super::draft::{Draft, Program};
use super::exit::{Failure, Outcome};
use super::job_options::{self, RUN, Setting};
use super::script::title_of;
use super::step_log::digits;
use super::submit::{augment, queue, settings, would_run};
use super::{Verb, placing, step_variables, submit, surroundings};
use crate::model::distribution::Distribution;
use crate::model::export::ExportSpec;
use crate::model::ids::StepId;
use crate::model::job::OpenMode;
use crate::model::step::{BUSY, StepOption};
use crate::wire::client::{Filter, Request, Selector, StepRequest, StepWish, ToClient};
use crate::wire::worker::SignalTarget;
use clap::{ArgMatches, Args, Command, FromArgMatches};
use nix::sys::signal::Signal;
use std::env;
use std::time::{Duration, Instant};

/// Options that a step inside a job honours.
pub(super) const OF_A_STEP: &[&str] = &[
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
    "nodelist",
    "exclude",
    "ntasks-per-node",
    "relative",
    "distribution",
    "multi-prog",
    "output",
    "error",
    "input",
    "open-mode",
    "overlap",
    "exact",
    "exclusive",
    "verbose",
];
/// A step that finds no free cpus asks again after this, and after twice as long each time.
const BUSY_FIRST: Duration = Duration::from_millis(20);
/// The longest such pause.
const BUSY_MOST: Duration = Duration::from_secs(1);
/// A step for which no controller is there asks again after this.
const AWAY: Duration = Duration::from_millis(200);

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
        if given.step.relative().is_some() {
            return Err(Failure::Usage(
                "--relative is for a step inside a job: it counts the job's nodes".into(),
            ));
        }
        let listed = given.list_hosts()?;
        given.room_for_hosts();
        let tasks = listed.unwrap_or_else(|| given.request.ntasks_or_default());
        given.read_programs(&self.words, Some(tasks))?;
        let title = title_of(&self.words[0]);
        let command = self.words.join(" ");
        if let Some(to) = &given.bcast
            && !(given.dry_run || given.test_only)
        {
            if given.multi_prog {
                return Err(Failure::Usage(
                    "--bcast copies one program: leave out --multi-prog".into(),
                ));
            }
            bcast::program(&self.words[0], &given.directory()?)?;
            let (spec, blobs) = given.build(Program::Hold, &title, &command)?;
            let step = within(to, &given, self.words);
            return Held::of_run(target, &given, spec, blobs)?.run_step(&step, &given);
        }
        let files = given.streams(Some(tasks))?;
        given.say_unlabelled();
        let (spec, blobs) = given.build(Program::Tasks(self.words), &title, &command)?;
        if given.dry_run || given.test_only {
            return would_run(target, "run", &given, spec, blobs);
        }
        let name = spec.name.to_string();
        let job = queue(target, spec, blobs)?;
        let ends = match files.open(job, StepId(0), &name) {
            Ok(ends) => ends,
            Err(failure) => {
                // Nobody will be there for it.
                let filter = only(job);
                let _ = target.ask(&Request::Cancel { filter });
                return Err(failure);
            }
        };
        Attachment {
            inside: false,
            ends,
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
        let look = |name: &str| env::var(name).ok();
        let mut settings = step_variables::settings(look)?;
        settings.extend(self.settings);
        let says = |long: &str| settings.iter().any(|setting| setting.long() == long);
        let asked_nodes = says("nodes");
        let shaped = asked_nodes || says("ntasks-per-node");
        let mut given = Draft::default();
        job_options::apply(&mut given, settings)?;
        let listed = given.list_hosts()?;
        if given.request.ntasks.is_none() && listed.is_none() && !shaped {
            given.request.ntasks = step_variables::tasks_of_step_around(look);
        }
        given.choose_nodes(asked_nodes)?;
        let known = listed.or(given.request.ntasks);
        given.read_programs(&self.words, known)?;
        let files = given.streams(known)?;
        given.say_unlabelled();
        let environment = surroundings::environment();
        let mut words = self.words;
        let sent = match &given.bcast {
            Some(_) if given.multi_prog => {
                return Err(Failure::Usage(
                    "--bcast copies one program: leave out --multi-prog".into(),
                ));
            }
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
        let step = match created(target, &request, raw_job, given.quiet) {
            Ok(step) => step,
            Err(failure) => {
                if let Some(sent) = sent {
                    sent.remove(target);
                }
                return Err(failure);
            }
        };
        let name = env::var("SLURM_JOB_NAME").unwrap_or_default();
        let tasks = known
            .or_else(|| env::var("SLURM_NTASKS").ok()?.parse().ok())
            .unwrap_or(1);
        let outcome = match files.open(raw_job, step, &name) {
            Ok(ends) => {
                let attachment = Attachment {
                    ends,
                    ..attachment(raw_job, step, &given, tasks)
                };
                attachment.follow(target)
            }
            Err(failure) => {
                // It would wait for its input, and hold cpus, as long as the job lives.
                end_step(target, raw_job, step);
                Err(failure)
            }
        };
        if let Some(sent) = sent {
            sent.remove(target);
        }
        outcome
    }
}

impl Draft {
    /// Says which nodes of its job a step is to have.
    fn choose_nodes(&mut self, asked_nodes: bool) -> Outcome<()> {
        let list = std::mem::take(&mut self.request.nodelist);
        let exclude = std::mem::take(&mut self.request.exclude);
        let per_node = self.request.ntasks_per_node;
        let chosen = !list.is_empty() || !exclude.is_empty();
        if self.step.relative().is_some() && chosen {
            return Err(Failure::Usage(
                "--relative counts the job's nodes: leave out --nodelist and --exclude".into(),
            ));
        }
        if matches!(self.step.distribution(), Some(Distribution::Arbitrary(_))) {
            if chosen || asked_nodes || per_node.is_some() || self.step.relative().is_some() {
                return Err(Failure::Usage(
                    "with --distribution=arbitrary the hosts that are listed say which nodes: leave out --nodes, \
                     --ntasks-per-node, --exclude and --relative"
                        .into(),
                ));
            }
            return Ok(());
        }
        if !list.is_empty() {
            self.step.say(StepOption::NodeList(list));
        }
        if !exclude.is_empty() {
            self.step.say(StepOption::Exclude(exclude));
        }
        if let Some(tasks) = per_node {
            self.step.say(StepOption::TasksPerNode(tasks));
        }
        Ok(())
    }
}

/// Has a step started; while other steps have the cpus, waits for them.
pub(super) fn created(
    target: &Target,
    request: &Request,
    raw_job: u32,
    quiet: bool,
) -> Outcome<StepId> {
    let mut pause = BUSY_FIRST;
    let mut said = quiet;
    let mut gone = None;
    loop {
        match target.ask(request) {
            Ok(ToClient::StepStarted { step }) => return Ok(step),
            Ok(other) => return Err(unexpected(&other)),
            Err(Failure::Refused(refusal)) if refusal.code == BUSY => {}
            // It never heard of the step, and may be back soon.
            Err(failure @ Failure::Unreachable(_)) => {
                let until = *gone.get_or_insert_with(|| Instant::now() + RECONNECT);
                if Instant::now() >= until {
                    return Err(failure);
                }
                std::thread::sleep(AWAY);
                continue;
            }
            Err(failure) => return Err(failure),
        }
        if !std::mem::replace(&mut said, true) {
            eprintln!(
                "hpc run: job {raw_job} step creation temporarily disabled, retrying (Requested nodes are busy)"
            );
            if let Some(holders) = placing::holders(target, raw_job) {
                eprintln!("hpc run: it waits for cpus of {holders}");
            }
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(BUSY_MOST);
    }
}

/// The step that a run with `--bcast` is, within the allocation made for it.
fn within(bcast: &str, given: &Draft, words: Vec<String>) -> Vec<String> {
    let mut step = vec!["/proc/self/exe".to_owned(), "run".to_owned()];
    step.push(format!("--bcast={bcast}"));
    step.extend(given.label.then(|| "--label".to_owned()));
    step.extend(given.quiet.then(|| "--quiet".to_owned()));
    step.extend(given.verbose.then(|| "--verbose".to_owned()));
    let streams = &given.streams;
    for (word, value) in [
        ("output", &streams.output),
        ("error", &streams.error),
        ("input", &streams.input),
    ] {
        step.extend(value.iter().map(|value| format!("--{word}={value}")));
    }
    step.extend((given.open_mode == OpenMode::Append).then(|| "--open-mode=append".to_owned()));
    let options = &given.step;
    if let Some(distribution) = options.distribution() {
        step.push(format!("--distribution={distribution}"));
        if matches!(distribution, Distribution::Arbitrary(_))
            && env::var_os("SLURM_HOSTFILE").is_none()
        {
            step.push(format!(
                "--nodelist={}",
                distribution.hosts_in_order().join(",")
            ));
        }
    }
    if options.speaks_of_ends() {
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

fn only(job: u32) -> Filter {
    let jobs = vec![Selector { job, indices: None }];
    Filter {
        jobs,
        ..Filter::default()
    }
}

/// Ends a step that this command cannot stay with.
fn end_step(target: &Target, job: u32, step: StepId) {
    let end = Request::Signal {
        filter: only(job),
        signal: Signal::SIGKILL as i32,
        to: SignalTarget::Step(step),
    };
    if let Err(failure) = target.ask(&end) {
        eprintln!("hpc run: error: step {job}.{step} could not be ended: {failure}");
    }
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
        patient: false,
        label: given.label.then(|| digits(tasks)),
        quiet: given.quiet,
        verbose: given.verbose,
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
             Inside a job a program runs as a step of it; what is marked as not for steps was decided with the job.\n\n\
             Examples:\n  hpc run -n 4 --label hostname\n  hpc run -N 2 --ntasks-per-node 4 ./solver input.dat < data > result",
        );
        augment(command, RUN, "PROGRAM [ARGS]", "Program and its arguments")
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}
