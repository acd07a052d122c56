//! Every job option, once: its flag, its environment variable, its directive, its help and what it sets.
//!
//! `hpc submit`, `hpc run` and `hpc alloc` take these as arguments; `#SBATCH` and `#HPC` lines are read by the
//! same table; a variable `SBATCH_X` or `HPC_X` stands for the option whose row names `X`. The sources are
//! applied one after another, directives first, then variables, then the command line, so later ones win,
//! and within one source the last of a repeated option does. What the options mean together is for [`super::draft`].
//!
//! Inside a job the `HPC_*` variables describe that job, so they are not read as options there.
//!
//! To add an option: one row here, and a field in [`Draft`]. An option of Slurm's that is not honoured has
//! a row in [`super::refused_options`] instead: nothing is accepted and ignored.

use super::draft::Draft;
use super::exit::{Failure, Outcome};
use super::numbers::{count, whole};
use super::run::OF_A_STEP;
use super::{refused_options, suggest};
use crate::model::array::{ArraySpec, MAX_INDEX};
use crate::model::constraint::Constraint;
use crate::model::dependency::Dependency;
use crate::model::directive;
use crate::model::distribution::Distribution;
use crate::model::export::ExportSpec;
use crate::model::gres;
use crate::model::hostlist;
use crate::model::job::OpenMode;
use crate::model::resource::{GpuCount, GpuRequest, MemoryRequest};
use crate::model::rules::{Noun, Rules};
use crate::model::signal::SignalSpec;
use crate::model::size::parse_memory_mib;
use crate::model::step::{Mpi, StepOption};
use crate::model::switches::SwitchWish;
use crate::model::time::{parse_begin, parse_time_limit};
use crate::model::wishes::Wishes;
use clap::error::{ContextKind, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, Command};
use std::fmt;

/// Which commands take an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Takers(u8);

/// `hpc submit`.
pub(super) const SUBMIT: Takers = Takers(1);
/// `hpc run`.
pub(super) const RUN: Takers = Takers(2);
/// `hpc alloc`.
pub(super) const ALLOC: Takers = Takers(4);
/// All three.
pub(super) const ALL: Takers = Takers(7);
/// The two that start no tasks themselves.
pub(super) const SUBMIT_ALLOC: Takers = Takers(5);
/// The two that make an allocation and stay.
pub(super) const RUN_ALLOC: Takers = Takers(6);

impl Takers {
    /// Whether they share a command.
    pub(super) fn include(self, other: Takers) -> bool {
        self.0 & other.0 != 0
    }
}

/// What follows an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value {
    /// Nothing.
    No,
    /// A value, named so in the help.
    Of(&'static str),
    /// Perhaps a value, after `=`.
    Perhaps(&'static str),
}
use Value::{No, Of, Perhaps};

type Setter = fn(&mut Draft, &str) -> Result<(), String>;

/// One row of the table.
pub(super) struct JobOption {
    heading: &'static str,
    doc: &'static str,
    long: &'static str,
    short: Option<char>,
    value: Value,
    variable: Option<&'static str>,
    takers: Takers,
    set: Setter,
}

macro_rules! options {
    ($( [$heading:literal] $(
        $(#[doc = $doc:literal])+
        ($long:literal $(, $short:literal)?) $value:expr, $takers:expr $(, $variable:literal)? => $set:expr;
    )+ )+) => {
        &[$($(JobOption {
            heading: $heading,
            doc: concat!($($doc, "\n"),+),
            long: $long,
            short: options!(@maybe $($short)?),
            value: $value,
            variable: options!(@maybe $($variable)?),
            takers: $takers,
            set: $set,
        }),+),+]
    };
    (@maybe) => { None };
    (@maybe $value:literal) => { Some($value) };
}

/// All of them.
pub(super) const OPTIONS: &[JobOption] = options! {
    ["Resources"]
    /// Tasks in all (processes that `hpc run` starts)
    ("ntasks", 'n') Of("N"), ALL, "NTASKS" => |d, v| set(&mut d.request.ntasks, at_least_one(v)?);
    /// Cpus of each task
    ("cpus-per-task", 'c') Of("N"), ALL, "CPUS_PER_TASK" => |d, v| set(&mut d.request.cpus_per_task, at_least_one(v)?);
    /// Nodes: as many, or from MIN to MAX
    ("nodes", 'N') Of("MIN[-MAX]"), ALL, "NNODES" => nodes;
    /// Tasks on each node
    ("ntasks-per-node") Of("N"), ALL, "NTASKS_PER_NODE" => |d, v| set(&mut d.request.ntasks_per_node, at_least_one(v)?);
    /// Memory on each node, such as 2G or 500M; 0 = all of it
    ("mem") Of("SIZE"), ALL, "MEM_PER_NODE" => |d, v| d.memory("mem", MemoryRequest::PerNode(memory(v)?));
    /// Memory for each cpu
    ("mem-per-cpu") Of("SIZE"), ALL, "MEM_PER_CPU" => |d, v| d.memory("mem-per-cpu", MemoryRequest::PerCpu(memory(v)?));
    /// GPUs of the whole job, of any kind or of one: 2, a100:2
    ("gpus", 'G') Of("[KIND:]N"), ALL, "GPUS" => |d, v| d.gpus("gpus", gpus(v, GpuRequest::Total)?);
    /// GPUs on each node
    ("gpus-per-node") Of("[KIND:]N"), ALL, "GPUS_PER_NODE" => |d, v| d.gpus("gpus-per-node", gpus(v, GpuRequest::PerNode)?);
    /// GPUs of each task
    ("gpus-per-task") Of("[KIND:]N"), ALL, "GPUS_PER_TASK" => |d, v| d.gpus("gpus-per-task", gpus(v, GpuRequest::PerTask)?);
    /// Generic resources on each node: gpu, gpu:2, gpu:a100:2
    ("gres") Of("LIST"), ALL, "GRES" => gres;
    /// Whole nodes, shared with nobody
    ("exclusive") No, ALL, "EXCLUSIVE" => exclusive;
    /// Run on these nodes
    ("nodelist", 'w') Of("NODES"), ALL => |d, v| set_to(&mut d.request.nodelist, node_names(v)?);
    /// Never run on these nodes
    ("exclude", 'x') Of("NODES"), ALL => |d, v| set_to(&mut d.request.exclude, node_names(v)?);
    /// Features the nodes must have: fast, "fast&(a100|h100)"; `hpc node NAME` shows them
    ("constraint", 'C') Of("FEATURES"), ALL, "CONSTRAINT" => |d, v| set(&mut d.request.wishes.constraint, constraint(v)?);
    /// Licences held while the job runs: matlab, matlab:2,comsol
    ("licenses", 'L') Of("LIST"), ALL => |d, v| set_to(&mut d.request.wishes.licenses, Wishes::parse_licenses(v)?);
    /// Run inside a reservation; `hpc reserve list` shows them
    ("reservation") Of("NAME"), ALL, "RESERVATION" => |d, v| set(&mut d.request.wishes.reservation, reservation(v)?);
    /// Nodes under at most N lowest switches; under any once it has waited TIME for that, 5 minutes when not said
    ("switches") Of("N[@TIME]"), ALL, "REQ_SWITCH" => |d, v| set(&mut d.request.wishes.switches, SwitchWish::parse(v)?);

    ["Queue"]
    /// Name of the job
    ("job-name", 'J') Of("NAME"), ALL, "JOB_NAME" => |d, v| set(&mut d.name, some_text(v)?);
    /// Partition
    ("partition", 'p') Of("NAME"), ALL, "PARTITION" => partition;
    /// Account to charge
    ("account", 'A') Of("NAME"), ALL, "ACCOUNT" => |d, v| set(&mut d.account, some_text(v)?);
    /// Quality of service
    ("qos", 'q') Of("NAME"), ALL, "QOS" => |d, v| set(&mut d.qos, some_text(v)?);
    /// Time limit: minutes, h:m:s, d-h; UNLIMITED = the partition's
    ("time", 't') Of("TIME"), ALL, "TIMELIMIT" => |d, v| set_to(&mut d.time_limit_s, parse_time_limit(v).map_err(words)?);
    /// Start no earlier: HH:MM, 2026-01-31T12:00, now+1hour, tomorrow
    ("begin", 'b') Of("WHEN"), ALL => |d, v| set(&mut d.begin, parse_begin(v, super::now(), &super::zone()).map_err(words)?);
    /// Wait for other jobs: afterok:12:13, afterany:12, singleton
    ("dependency", 'd') Of("LIST"), ALL, "DEPENDENCY" => |d, v| set(&mut d.dependency, Dependency::parse(v).map_err(words)?);
    /// End the job if its dependency can never be met (yes), or leave it pending (no)
    ("kill-on-invalid-dep") Of("yes|no"), ALL => |d, v| set_to(&mut d.kill_on_invalid_dependency, yes_or_no(v)?);
    /// Run once for each index: 0-9, 1,3,5-7:2, 0-99%4 (at most 4 at once)
    ("array", 'a') Of("INDICES"), SUBMIT, "ARRAY_INX" => |d, v| set(&mut d.array, ArraySpec::parse(v, MAX_INDEX).map_err(words)?);
    /// Submit held; `hpc release` lets it go
    ("hold", 'H') No, ALL => |d, _| set_to(&mut d.hold, true);
    /// Go behind others of yours by N (100 when not said)
    ("nice") Perhaps("N"), ALL => nice;
    /// Put the job back and run it again when its node is lost, or on `hpc requeue`
    ("requeue") No, SUBMIT, "REQUEUE" => |d, _| set_to(&mut d.requeue, true);
    /// Never run it a second time
    ("no-requeue") No, SUBMIT, "NO_REQUEUE" => |d, _| set_to(&mut d.requeue, false);
    /// Free text, shown by `hpc job`
    ("comment") Of("TEXT"), ALL, "COMMENT" => |d, v| set(&mut d.comment, v.to_owned());

    ["Processes"]
    /// Directory to run in; the present one when not said
    ("chdir", 'D') Of("DIR"), ALL => |d, v| set(&mut d.work_dir, some_text(v)?);
    /// Variables to pass on: ALL, NONE, or NAME,NAME=value
    ("export") Of("LIST"), ALL, "EXPORT" => |d, v| set(&mut d.export, ExportSpec::parse(v).map_err(words)?);
    /// File for standard output; %j job, %A array, %a index, %x name, %u user, %N node
    ("output", 'o') Of("FILE"), SUBMIT, "OUTPUT" => |d, v| set(&mut d.output, some_text(v)?);
    /// File for standard error; with standard output when not said
    ("error", 'e') Of("FILE"), SUBMIT, "ERROR" => |d, v| set(&mut d.error, some_text(v)?);
    /// File for standard input
    ("input", 'i') Of("FILE"), SUBMIT, "INPUT" => |d, v| set(&mut d.input, some_text(v)?);
    /// Start output files anew or append to them
    ("open-mode") Of("append|truncate"), SUBMIT, "OPEN_MODE" => open_mode;
    /// File for standard output: one for all tasks; with %t (rank), %N or %n (node) one for each; all, none or a rank
    ("output", 'o') Of("FILE"), RUN, "STDOUTMODE" => |d, v| set(&mut d.streams.output, some_text(v)?);
    /// File for standard error, likewise; with standard output when not said
    ("error", 'e') Of("FILE"), RUN, "STDERRMODE" => |d, v| set(&mut d.streams.error, some_text(v)?);
    /// File for standard input, likewise; a rank is the one that gets it
    ("input", 'i') Of("FILE"), RUN, "STDINMODE" => |d, v| set(&mut d.streams.input, some_text(v)?);
    /// Start output files anew or append to them
    ("open-mode") Of("append|truncate"), RUN, "OPEN_MODE" => open_mode;
    /// Warn before the time limit: USR1@60 to the tasks, B:USR1@60 to the script
    ("signal") Of("[B:]SIG[@SECONDS]"), ALL, "SIGNAL" => |d, v| set(&mut d.signal, SignalSpec::parse(v).map_err(words)?);
    /// Seconds between SIGTERM and SIGKILL at a limit or cancel
    ("kill-wait") Of("SECONDS"), ALL, "KILL_WAIT" => |d, v| set(&mut d.kill_wait_s, number(v)?);
    /// How ranks go to nodes: block, cyclic, plane=SIZE, or arbitrary, a host for each in the file SLURM_HOSTFILE
    ("distribution", 'm') Of("HOW"), RUN, "DISTRIBUTION" => distribution;
    /// The program is a file of lines `RANKS PROGRAM ARGS`: 0, 1-3, 4,6 or * for the rest; %t = rank, %o = its place there
    ("multi-prog") No, RUN => |d, _| set_to(&mut d.multi_prog, true);
    /// Inside a job: on its nodes from this one on, counted from 0
    ("relative", 'r') Of("N"), RUN => |d, v| say(d, StepOption::Relative(number(v)?));
    /// Inside a job: share cpus with its other steps instead of waiting for free ones
    ("overlap") No, RUN, "OVERLAP" => |d, _| say(d, StepOption::Overlap);
    /// Inside a job: use no more cpus than the tasks ask for; it never does
    ("exact") No, RUN, "EXACT" => |_, _| Ok(());
    /// How MPI ranks find each other: auto, pmi1, pmi2, pmix, none; a single rank that spawns others needs one named
    ("mpi") Of("TYPE"), RUN, "MPI_TYPE" => |d, v| say(d, StepOption::Mpi(Mpi::parse(v)?));
    /// End the step once one task ends badly; with 0 not even when others wait for it
    ("kill-on-bad-exit", 'K') Perhaps("0|1"), RUN, "KILL_BAD_EXIT" => |d, v| say(d, StepOption::KillOnBadExit(zero_or_one(v)?));
    /// End the step so many seconds after its first task has ended; 0 = when the last has
    ("wait", 'W') Of("SECONDS"), RUN, "WAIT" => |d, v| say(d, StepOption::Wait(number(v)?));
    /// Run this shell command instead of a script
    ("wrap") Of("COMMAND"), SUBMIT => |d, v| set(&mut d.wrap, some_text(v)?);

    ["This command"]
    /// Print the job's number alone
    ("parsable") No, SUBMIT => |d, _| set_to(&mut d.parsable, true);
    /// Wait for the job to end and exit with its code
    ("wait", 'W') No, SUBMIT, "WAIT" => |d, _| set_to(&mut d.wait, true);
    /// Check the request and say what would happen, on standard error; submit nothing
    ("test-only") No, ALL => |d, _| set_to(&mut d.test_only, true);
    /// Check the request and say what would happen; submit nothing
    ("dry-run") No, ALL => |d, _| set_to(&mut d.dry_run, true);
    /// Say nothing but errors
    ("quiet", 'Q') No, ALL => |d, _| set_to(&mut d.quiet, true);
    /// Say on standard error which ranks are where
    ("verbose", 'v') No, RUN => |d, _| set_to(&mut d.verbose, true);
    /// Put the task's rank before each line
    ("label", 'l') No, RUN => |d, _| set_to(&mut d.label, true);
    /// Copy the program to the nodes first: to DEST there, or to a place that is removed when the tasks have ended
    ("bcast") Perhaps("DEST"), RUN => |d, v| set(&mut d.bcast, v.to_owned());
    /// Pass output on as it comes; it always is
    ("unbuffered", 'u') No, RUN => |_, _| Ok(());
};

/// Where a setting was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// A line of the script.
    Directive,
    /// An environment variable.
    Variable,
    /// The command line.
    CommandLine,
}

/// One option with its value and where it was said.
pub(super) struct Setting {
    option: &'static JobOption,
    value: String,
    source: Source,
    /// As the user wrote it, for errors.
    said: String,
}

impl Setting {
    /// The option's name.
    pub(super) fn long(&self) -> &'static str {
        self.option.long
    }

    /// The value, if it is of this option.
    pub(super) fn value_of(&self, long: &str) -> Option<&str> {
        (self.option.long == long).then_some(self.value.as_str())
    }
}

impl fmt::Debug for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={} ({})", self.option.long, self.value, self.said)
    }
}

/// Adds the options of a command to its arguments.
pub(super) fn augment(command: Command, takers: Takers) -> Command {
    let command = OPTIONS
        .iter()
        .filter(|option| option.takers.include(takers))
        .fold(command, |command, option| {
            let mut help = option.doc.trim().to_owned();
            if let Some(variable) = option.variable {
                let prefix = if takers == SUBMIT { "SBATCH_" } else { "HPC_" };
                help.push_str(&format!(" [env: {prefix}{variable}]"));
            }
            if takers == RUN && !OF_A_STEP.contains(&option.long) {
                help.push_str(" [not for steps]");
            }
            command.arg(
                argument(option.long, option.short, option.value)
                    .help(help)
                    .help_heading(option.heading),
            )
        });
    refused_options::of(takers).fold(command, |command, option| {
        command.arg(argument(option.long, option.short, option.value).hide(true))
    })
}

fn argument(long: &'static str, short: Option<char>, value: Value) -> Arg {
    let arg = Arg::new(long).long(long);
    let arg = short.into_iter().fold(arg, Arg::short);
    match value {
        No => arg.action(ArgAction::SetTrue).overrides_with(long),
        // As getopt: what follows is the value, whatever it looks like.
        Of(name) => arg
            .action(ArgAction::Append)
            .value_name(name)
            .allow_hyphen_values(true),
        Perhaps(name) => arg
            .action(ArgAction::Append)
            .value_name(name)
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value(""),
    }
}

/// The settings in what clap found, in the order they were written.
pub(super) fn from_matches(
    matches: &ArgMatches,
    takers: Takers,
    source: Source,
) -> Outcome<Vec<Setting>> {
    for option in refused_options::of(takers) {
        if indices(matches, option.long).is_some() {
            // Asking for no mail is granted.
            let values = matches.try_get_many::<String>(option.long).ok().flatten();
            if option.long == "mail-type"
                && values.is_some_and(|mut all| all.all(|one| one.eq_ignore_ascii_case("none")))
            {
                continue;
            }
            return Err(option.refusal(&format!("--{}", option.long)));
        }
    }
    let mut found = Vec::new();
    for option in OPTIONS
        .iter()
        .filter(|option| option.takers.include(takers))
    {
        let Some(indices) = indices(matches, option.long) else {
            continue;
        };
        let said = match source {
            Source::Directive => format!("directive --{}", option.long),
            _ => format!("--{}", option.long),
        };
        let setting = |value: &str| Setting {
            option,
            value: value.to_owned(),
            source,
            said: said.clone(),
        };
        if option.value == No {
            found.push((indices.last().copied().unwrap_or(0), setting("")));
        } else if let Some(values) = matches.get_many::<String>(option.long) {
            found.extend(indices.into_iter().zip(values.map(|value| setting(value))));
        }
    }
    found.sort_by_key(|(index, _)| *index);
    Ok(found.into_iter().map(|(_, setting)| setting).collect())
}

/// Where an option stands on the command line; none where it does not.
fn indices(matches: &ArgMatches, long: &str) -> Option<Vec<usize>> {
    if matches.value_source(long) != Some(clap::parser::ValueSource::CommandLine) {
        return None;
    }
    Some(matches.indices_of(long)?.collect())
}

/// The settings in the environment, given as a way to look a variable up.
pub(super) fn from_variables(
    takers: Takers,
    variable: impl Fn(&str) -> Option<String>,
) -> Outcome<Vec<Setting>> {
    if takers == SUBMIT {
        refused_options::check_variables(&variable)?;
    }
    let in_job = variable("HPC_JOB_ID").is_some();
    let mut found = Vec::new();
    for prefix in ["SBATCH_", "HPC_"] {
        if (prefix == "SBATCH_" && takers != SUBMIT) || (prefix == "HPC_" && in_job) {
            continue;
        }
        for option in OPTIONS
            .iter()
            .filter(|option| option.takers.include(takers))
        {
            let Some(name) = option.variable.map(|name| format!("{prefix}{name}")) else {
                continue;
            };
            if let Some(value) = variable(&name) {
                found.push(Setting {
                    option,
                    value,
                    source: Source::Variable,
                    said: name,
                });
            }
        }
    }
    Ok(found)
}

/// The settings in a script's directive lines.
pub(super) fn from_directives(script: &[u8]) -> Outcome<Vec<Setting>> {
    let directives = directive::scan(script).map_err(|error| Failure::Usage(error.to_string()))?;
    if directives.is_empty() {
        return Ok(Vec::new());
    }
    let command = augment(Command::new("directives"), SUBMIT)
        .no_binary_name(true)
        .infer_long_args(true)
        .disable_help_flag(true)
        .arg(Arg::new(LEFT_OVER).num_args(0..).action(ArgAction::Append));
    let mut found = Vec::new();
    for line in &directives {
        let matches = command
            .clone()
            .try_get_matches_from(&line.words)
            .map_err(|error| misread(line.line, &command, &error))?;
        if let Some(word) = matches
            .get_many::<String>(LEFT_OVER)
            .and_then(|mut words| words.next())
        {
            return Err(refused_options::word(line.line, word)
                .unwrap_or_else(|| invalid_directive(line.line, word)));
        }
        let settings = from_matches(&matches, SUBMIT, Source::Directive)?;
        if settings.iter().any(|setting| setting.long() == "wrap") {
            return Err(Failure::Usage(format!(
                "--wrap is for the command line: a script is there already (line {})",
                line.line
            )));
        }
        found.extend(settings);
    }
    Ok(found)
}

/// Words of a directive that belong to no option.
const LEFT_OVER: &str = "left-over";

fn invalid_directive(line: u32, word: &str) -> Failure {
    Failure::Usage(format!(
        "Invalid directive found in batch script: {word} (line {line})"
    ))
}

fn misread(line: u32, command: &Command, error: &clap::Error) -> Failure {
    let word = error.get(ContextKind::InvalidArg).map(ToString::to_string);
    match (error.kind(), word) {
        (ErrorKind::UnknownArgument, Some(word)) => match suggest::ambiguous(command, &word) {
            Some(said) => Failure::Usage(format!("in the directive of line {line}: {said}")),
            None => invalid_directive(line, &word),
        },
        _ => Failure::Usage(format!(
            "in the directive of line {line}: {}",
            explained(error).unwrap_or_else(|| super::brief(error))
        )),
    }
}

/// Better words than clap's for a value of `--exclusive`, which takes none here.
pub(super) fn explained(error: &clap::Error) -> Option<String> {
    let told = |kind| error.get(kind).map(ToString::to_string);
    let option = told(ContextKind::InvalidArg)?;
    let is_ours = error.kind() == ErrorKind::TooManyValues && option.starts_with("--exclusive");
    let value = told(ContextKind::InvalidValue).filter(|_| is_ours)?;
    Some(format!("--exclusive: {}", not_exclusive(&value)))
}

fn not_exclusive(value: &str) -> String {
    format!("\"{value}\" is not part of this version: write --exclusive alone for whole nodes")
}

/// Applies settings, weakest source first.
pub(super) fn apply(draft: &mut Draft, settings: impl IntoIterator<Item = Setting>) -> Outcome<()> {
    for setting in settings {
        draft.source = Some(setting.source);
        (setting.option.set)(draft, &setting.value)
            .map_err(|error| Failure::Usage(format!("{}: {error}", setting.said)))?;
    }
    Ok(())
}

// What follows reads single values; errors say what would have been right.

fn words(error: impl std::error::Error + Send + Sync + 'static) -> String {
    format!("{:#}", anyhow::Error::from(error))
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "every setter of the table has one type"
)]
fn set<T>(field: &mut Option<T>, value: T) -> Result<(), String> {
    *field = Some(value);
    Ok(())
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "every setter of the table has one type"
)]
fn say(draft: &mut Draft, option: StepOption) -> Result<(), String> {
    draft.step.say(option);
    Ok(())
}

/// Whether a switch is on, which it is when nothing follows it.
fn zero_or_one(text: &str) -> Result<bool, String> {
    match text {
        "" | "1" => Ok(true),
        "0" => Ok(false),
        _ => Err(format!("`{text}`: write 0 or 1")),
    }
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "every setter of the table has one type"
)]
fn set_to<T>(field: &mut T, value: T) -> Result<(), String> {
    *field = value;
    Ok(())
}

fn number(text: &str) -> Result<u32, String> {
    count(text, 0, u32::MAX)
}

fn at_least_one(text: &str) -> Result<u32, String> {
    count(text, 1, u32::MAX)
}

fn some_text(text: &str) -> Result<String, String> {
    if text.is_empty() {
        Err("it is empty: give a value or leave the option out".into())
    } else {
        Ok(text.to_owned())
    }
}

fn constraint(text: &str) -> Result<String, String> {
    Constraint::parse(text).map(|constraint| constraint.to_string())
}

fn reservation(text: &str) -> Result<String, String> {
    Rules::check_name(Noun::Reservation, text).map_err(|refusal| refusal.what)?;
    Ok(text.to_owned())
}

fn yes_or_no(text: &str) -> Result<bool, String> {
    match text {
        "yes" => Ok(true),
        "no" => Ok(false),
        _ => Err(format!("\"{text}\" is neither yes nor no")),
    }
}

fn memory(text: &str) -> Result<u64, String> {
    parse_memory_mib(text).map_err(words)
}

fn distribution(draft: &mut Draft, text: &str) -> Result<(), String> {
    match Distribution::parse(text)? {
        Some(distribution) => say(draft, StepOption::Distribution(distribution)),
        None => Ok(()),
    }
}

fn nodes(draft: &mut Draft, text: &str) -> Result<(), String> {
    let (least, most) = match text.split_once('-') {
        Some((least, most)) => (at_least_one(least)?, at_least_one(most)?),
        None => (at_least_one(text)?, at_least_one(text)?),
    };
    if most < least {
        return Err(format!("\"{text}\" falls: write the smaller number first"));
    }
    draft.request.nodes_min = least;
    draft.request.nodes_max = Some(most);
    Ok(())
}

fn node_names(text: &str) -> Result<Vec<String>, String> {
    some_text(text)?;
    if text.contains('/') {
        return Err(format!(
            "\"{text}\" names a file: write the nodes, for example \"$(paste -sd, {text})\""
        ));
    }
    hostlist::parse(text).map_err(words)
}

fn gpus(text: &str, per: fn(GpuCount) -> GpuRequest) -> Result<GpuRequest, String> {
    match gres::parse_gpus(text).map_err(words)?.as_slice() {
        [] => Ok(GpuRequest::None),
        [wanted] => Ok(per(GpuCount::from(wanted))),
        _ => Err(format!("\"{text}\" names several kinds: ask for one")),
    }
}

fn gres(draft: &mut Draft, text: &str) -> Result<(), String> {
    let mut wanted = GpuRequest::None;
    for resource in gres::parse_gres(text).map_err(words)? {
        if resource.name != "gpu" {
            return Err(format!(
                "generic resource \"{}\" is unknown: this version counts gpu alone",
                resource.name
            ));
        }
        if wanted != GpuRequest::None {
            return Err(format!("\"{text}\" names several kinds: ask for one"));
        }
        wanted = GpuRequest::PerNode(GpuCount::from(&resource));
    }
    draft.gpus("gres", wanted)
}

fn exclusive(draft: &mut Draft, text: &str) -> Result<(), String> {
    match text {
        "" => set_to(&mut draft.request.exclusive, true),
        _ => Err(not_exclusive(text)),
    }
}

fn partition(draft: &mut Draft, text: &str) -> Result<(), String> {
    set(&mut draft.partition, some_text(text)?)
}

/// A `nice` as a user may write it.
pub(super) fn nice_value(text: &str) -> Result<i32, String> {
    let value = whole(text, -1_000_000..=1_000_000)?;
    i32::try_from(value).map_err(|error| error.to_string())
}

fn nice(draft: &mut Draft, text: &str) -> Result<(), String> {
    if text.is_empty() {
        return set(&mut draft.nice, 100);
    }
    set(&mut draft.nice, nice_value(text)?)
}

fn open_mode(draft: &mut Draft, text: &str) -> Result<(), String> {
    match text {
        "a" | "append" => set_to(&mut draft.open_mode, OpenMode::Append),
        "t" | "truncate" => set_to(&mut draft.open_mode, OpenMode::Truncate),
        _ => Err(format!("\"{text}\" is neither append nor truncate")),
    }
}
