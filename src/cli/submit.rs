//! `hpc submit`: queue a batch job.

use super::connection::{Target, unexpected};
use super::draft::{Blobs, Draft};
use super::exit::{self, Failure, Outcome};
use super::job_options::{self, SUBMIT, Source, Takers};
use super::script::{self, Found};
use super::{Verb, output, wait};
use crate::model::job::JobSpec;
use crate::wire::client::{Request, Selector, ToClient};
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};
use std::env;

/// Arguments of `hpc submit`: the table of job options, then a script or a command.
#[derive(Debug)]
pub(super) struct Submit {
    settings: Vec<job_options::Setting>,
    words: Vec<String>,
}

impl Verb for Submit {
    fn run(self, target: &Target) -> Outcome {
        let mut given = Draft::default();
        let mut settings = job_options::from_variables(SUBMIT, |name| env::var(name).ok())?;
        settings.extend(self.settings);
        // What to start is only in the options; what the script itself asks for goes below them.
        let wrap = settings
            .iter()
            .rev()
            .find_map(|setting| setting.value_of("wrap").map(str::to_owned));
        let is_command = after_dashes(&self.words, &target.typed);
        let found = find(wrap, self.words, is_command)?;
        if let super::draft::Program::Script { bytes, .. } = &found.program {
            job_options::apply(&mut given, job_options::from_directives(bytes)?)?;
        }
        job_options::apply(&mut given, settings)?;
        let (spec, blobs) = given.build(found.program, &found.title, &found.command)?;
        if given.dry_run || given.test_only {
            return would_run(target, "submit", &given, spec, blobs);
        }
        let job = queue(target, spec, blobs)?;
        if given.parsable {
            output::line(&job.to_string())?;
        } else if !given.quiet {
            output::line(&format!("Submitted batch job {job}"))?;
        }
        if given.wait {
            wait::wait(target, vec![Selector { job, indices: None }])
        } else {
            Ok(exit::DONE)
        }
    }
}

fn find(wrap: Option<String>, words: Vec<String>, is_command: bool) -> Outcome<Found> {
    match wrap {
        Some(_) if !words.is_empty() => Err(Failure::Usage(
            "--wrap is the whole script: leave the other words out, or quote them into it".into(),
        )),
        Some(command) => Ok(script::wrapped(&command)),
        None if is_command && words.is_empty() => Err(Failure::Usage("no command after --".into())),
        None if is_command => Ok(script::command(words)),
        None => script::file_or_stdin(words),
    }
}

/// Queues a job; its number.
pub(super) fn queue(target: &Target, spec: JobSpec, blobs: Blobs) -> Outcome<u32> {
    match target.ask(&Request::Submit {
        spec: Box::new(spec),
        blobs,
        dry_run: false,
    })? {
        ToClient::Submitted { job } => Ok(job),
        other => Err(unexpected(&other)),
    }
}

/// Has the cluster check a job, and says what it answers: to standard error for `--test-only`, as Slurm does.
pub(super) fn would_run(
    target: &Target,
    verb: &str,
    given: &Draft,
    spec: JobSpec,
    blobs: Blobs,
) -> Outcome {
    match target.ask(&Request::Submit {
        spec: Box::new(spec),
        blobs,
        dry_run: true,
    })? {
        ToClient::WouldRun { text } if given.test_only => eprintln!("hpc {verb}: {text}"),
        ToClient::WouldRun { text } => output::line(&text)?,
        other => return Err(unexpected(&other)),
    }
    Ok(exit::DONE)
}

/// Adds the table's options and the words after them; parsing stops at the first word.
pub(super) fn augment(
    command: Command,
    takers: Takers,
    value_name: &'static str,
    help: &'static str,
) -> Command {
    // sbatch, srun and salloc have -V.
    let command = command.version(env!("CARGO_PKG_VERSION"));
    job_options::augment(command, takers).arg(
        Arg::new("words")
            .value_name(value_name)
            .help(help)
            .num_args(0..)
            .trailing_var_arg(true),
    )
}

/// The words after the options.
pub(super) fn words(matches: &ArgMatches) -> Vec<String> {
    matches
        .get_many::<String>("words")
        .map(|words| words.cloned().collect())
        .unwrap_or_default()
}

/// Whether `--` stands right before the words: clap takes it away, so the process's own arguments are asked.
fn after_dashes(words: &[String], arguments: &[std::ffi::OsString]) -> bool {
    let before = arguments.len().checked_sub(words.len() + 1);
    before
        .and_then(|position| arguments.get(position))
        .is_some_and(|word| word == "--")
}

impl FromArgMatches for Submit {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Submit {
            settings: settings(matches, SUBMIT)?,
            words: words(matches),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// The settings of the command line, for clap's signature.
pub(super) fn settings(
    matches: &ArgMatches,
    takers: Takers,
) -> Result<Vec<job_options::Setting>, clap::Error> {
    job_options::from_matches(matches, takers, Source::CommandLine)
        .map_err(|failure| clap::Error::raw(clap::error::ErrorKind::ValueValidation, failure))
}

impl Args for Submit {
    fn augment_args(command: Command) -> Command {
        let command = command
            .about("Queue a job: a script, a command after --, or a script on standard input")
            .after_help(
                "Directive lines `#SBATCH ...` and `#HPC ...` at the head of a script take the same options. \
                 The command line wins over SBATCH_* and HPC_* variables, those over directives.\n\n\
                 Examples:\n  hpc submit --gpus 1 -t 2:00:00 train.sh --epochs 10\n  hpc submit -c 4 --mem 8G -- make -j4\n  \
                 hpc submit -a 0-99%8 --wrap './sweep $SLURM_ARRAY_TASK_ID'",
            );
        augment(
            command,
            SUBMIT,
            "SCRIPT [ARGS] | -- COMMAND",
            "Script with its arguments, or after -- a command with its own; none = read standard input",
        )
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsString;

    #[test]
    fn a_command_is_told_from_a_script_by_the_dashes() {
        let told = |line: &str, words: &[&str]| {
            let arguments: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            let words: Vec<String> = words.iter().map(ToString::to_string).collect();
            after_dashes(&words, &arguments)
        };
        assert!(told("hpc submit -n 2 -- hostname -f", &["hostname", "-f"]));
        assert!(!told("hpc submit -n 2 job.sh -- x", &["job.sh", "--", "x"]));
        assert!(!told("hpc submit", &[]));
        assert!(told("hpc submit --", &[]));
    }
}
