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
//! a row in [`REFUSED`] instead: nothing is accepted and ignored.

use super::draft::Draft;
use super::exit::{Failure, Outcome};
use super::numbers::{count, whole};
use crate::model::array::{ArraySpec, MAX_INDEX};
use crate::model::dependency::Dependency;
use crate::model::directive;
use crate::model::export::ExportSpec;
use crate::model::gres;
use crate::model::hostlist;
use crate::model::job::OpenMode;
use crate::model::refusal::Code;
use crate::model::resource::{GpuCount, GpuRequest, MemoryRequest};
use crate::model::signal::SignalSpec;
use crate::model::size::parse_memory_mib;
use crate::model::time::{parse_begin, parse_time_limit};
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
const ALL: Takers = Takers(7);
const RUN_ALLOC: Takers = Takers(6);

impl Takers {
    fn include(self, other: Takers) -> bool {
        self.0 & other.0 != 0
    }
}

/// What follows an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Value {
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
    ("exclusive") Perhaps("user|mcs"), ALL, "EXCLUSIVE" => exclusive;
    /// Run on these nodes
    ("nodelist", 'w') Of("NODES"), ALL => |d, v| set_to(&mut d.request.nodelist, node_names(v)?);
    /// Never run on these nodes
    ("exclude", 'x') Of("NODES"), ALL => |d, v| set_to(&mut d.request.exclude, node_names(v)?);
    /// Features the nodes must have
    ("constraint", 'C') Of("FEATURES"), ALL, "CONSTRAINT" => |d, v| set(&mut d.request.constraint, some_text(v)?);

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
    /// Warn before the time limit: USR1@60 to the tasks, B:USR1@60 to the script
    ("signal") Of("[B:]SIG[@SECONDS]"), ALL, "SIGNAL" => |d, v| set(&mut d.signal, SignalSpec::parse(v).map_err(words)?);
    /// Seconds between SIGTERM and SIGKILL at a limit or cancel
    ("kill-wait") Of("SECONDS"), ALL, "KILL_WAIT" => |d, v| set(&mut d.kill_wait_s, number(v)?);
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
    /// Put the task's rank before each line
    ("label", 'l') No, RUN => |d, _| set_to(&mut d.label, true);
    /// Pass output on as it comes; it always is
    ("unbuffered", 'u') No, RUN => |_, _| Ok(());
};

/// An option of Slurm's that this version does not honour: refused by name, with a way out.
struct Refused {
    long: &'static str,
    short: Option<char>,
    value: Value,
    takers: Takers,
    hint: &'static str,
}

const fn refused(
    long: &'static str,
    short: Option<char>,
    value: Value,
    takers: Takers,
    hint: &'static str,
) -> Refused {
    Refused {
        long,
        short,
        value,
        takers,
        hint,
    }
}

const LATER: &str = "leave it out";
const MEMORY: &str = "say memory with --mem or --mem-per-cpu";
const PLACEMENT: &str = "cores are placed close together by themselves; leave it out, or ask for whole nodes with --exclusive";
const TASKS: &str = "say --ntasks, --cpus-per-task and --gpus-per-task";

const REFUSED: &[Refused] = &[
    refused(
        "mail-type",
        None,
        Of("TYPE"),
        ALL,
        "wait for the job with `hpc wait` and send mail from there",
    ),
    refused(
        "mail-user",
        None,
        Of("USER"),
        ALL,
        "wait for the job with `hpc wait` and send mail from there",
    ),
    refused(
        "reservation",
        None,
        Of("NAME"),
        ALL,
        "there are no reservations in this version",
    ),
    refused(
        "licenses",
        Some('L'),
        Of("LIST"),
        ALL,
        "use a throttle (--array=...%N) or a dependency to take turns",
    ),
    refused("cpus-per-gpu", None, Of("N"), ALL, TASKS),
    refused("mem-per-gpu", None, Of("SIZE"), ALL, MEMORY),
    refused("ntasks-per-gpu", None, Of("N"), ALL, TASKS),
    refused("ntasks-per-core", None, Of("N"), ALL, PLACEMENT),
    refused("ntasks-per-socket", None, Of("N"), ALL, PLACEMENT),
    refused("gpus-per-socket", None, Of("N"), ALL, "say --gpus-per-node"),
    refused("sockets-per-node", None, Of("N"), ALL, PLACEMENT),
    refused("cores-per-socket", None, Of("N"), ALL, PLACEMENT),
    refused("threads-per-core", None, Of("N"), ALL, PLACEMENT),
    refused("extra-node-info", Some('B'), Of("S:C:T"), ALL, PLACEMENT),
    refused(
        "mincpus",
        None,
        Of("N"),
        ALL,
        "say --cpus-per-task or --ntasks-per-node",
    ),
    refused("hint", None, Of("TYPE"), ALL, PLACEMENT),
    refused("cpu-bind", None, Of("TYPE"), ALL, PLACEMENT),
    refused("mem-bind", None, Of("TYPE"), ALL, PLACEMENT),
    refused("gpu-bind", None, Of("TYPE"), ALL, PLACEMENT),
    refused("gpu-freq", None, Of("FREQ"), ALL, LATER),
    refused("cpu-freq", None, Of("FREQ"), ALL, LATER),
    refused("distribution", Some('m'), Of("METHOD"), ALL, PLACEMENT),
    refused("contiguous", None, No, ALL, PLACEMENT),
    refused("spread-job", None, No, ALL, PLACEMENT),
    refused("use-min-nodes", None, No, ALL, "say --nodes"),
    refused("core-spec", Some('S'), Of("N"), ALL, LATER),
    refused(
        "tres-per-task",
        None,
        Of("LIST"),
        ALL,
        "say --cpus-per-task and --gpus-per-task",
    ),
    refused(
        "tmp",
        None,
        Of("SIZE"),
        ALL,
        "disk space is not counted in this version",
    ),
    refused(
        "oversubscribe",
        Some('s'),
        No,
        ALL,
        "cores are never shared in this version",
    ),
    refused(
        "overcommit",
        Some('O'),
        No,
        ALL,
        "cores are never shared in this version",
    ),
    refused("priority", None, Of("N"), ALL, "say --nice"),
    refused("time-min", None, Of("TIME"), ALL, "say --time"),
    refused(
        "deadline",
        None,
        Of("TIME"),
        ALL,
        "say --time, and end the job with `hpc cancel`",
    ),
    refused("delay-boot", None, Of("MINUTES"), ALL, LATER),
    refused(
        "no-kill",
        Some('k'),
        No,
        ALL,
        "a job ends when one of its nodes is lost; --requeue runs it again",
    ),
    refused(
        "nodefile",
        Some('F'),
        Of("FILE"),
        ALL,
        "say --nodelist \"$(paste -sd, FILE)\"",
    ),
    refused(
        "clusters",
        Some('M'),
        Of("LIST"),
        ALL,
        "name the controller with --controller",
    ),
    refused("wckey", None, Of("KEY"), ALL, "say --comment"),
    refused(
        "get-user-env",
        None,
        Perhaps("SECONDS"),
        SUBMIT,
        "start the script with `#!/bin/bash -l`",
    ),
    refused(
        "export-file",
        None,
        Of("FILE"),
        SUBMIT,
        "say --export=NAME=value, or source the file in the script",
    ),
    refused(
        "propagate",
        None,
        Perhaps("LIMITS"),
        ALL,
        "soft limits are always passed on",
    ),
    refused(
        "profile",
        None,
        Of("TYPE"),
        ALL,
        "cpu time and peak memory are always recorded",
    ),
    refused(
        "acctg-freq",
        None,
        Of("TIME"),
        ALL,
        "cpu time and peak memory are always recorded",
    ),
    refused("ignore-pbs", None, No, SUBMIT, "#PBS lines are never read"),
    refused(
        "uid",
        None,
        Of("USER"),
        ALL,
        "submit as that user, for example by `sudo -u USER hpc submit`",
    ),
    refused(
        "gid",
        None,
        Of("GROUP"),
        ALL,
        "submit with that group, for example by `sg GROUP`",
    ),
    refused(
        "container",
        None,
        Of("PATH"),
        ALL,
        "start apptainer or podman in the script",
    ),
    refused("bb", None, Of("SPEC"), ALL, LATER),
    refused("bbf", None, Of("FILE"), ALL, LATER),
    refused("power", None, Of("FLAGS"), ALL, LATER),
    refused("network", None, Of("TYPE"), ALL, LATER),
    refused("mcs-label", None, Of("LABEL"), ALL, LATER),
    refused("switches", None, Of("COUNT"), ALL, LATER),
    refused("reboot", None, No, ALL, LATER),
    refused(
        "verbose",
        Some('v'),
        No,
        ALL,
        "--dry-run says what would happen",
    ),
    refused(
        "immediate",
        Some('I'),
        Perhaps("SECONDS"),
        RUN_ALLOC,
        "--dry-run says when the job would start",
    ),
    refused(
        "no-shell",
        None,
        No,
        ALLOC,
        "say `hpc submit --wrap 'sleep infinity'`",
    ),
    refused("kill-command", Some('K'), Perhaps("SIGNAL"), ALLOC, LATER),
    refused("bell", None, No, ALLOC, LATER),
    refused(
        "pty",
        None,
        Perhaps("FD"),
        RUN,
        "terminals for tasks come with `hpc shell`, which is not part of this version",
    ),
    refused(
        "mpi",
        None,
        Of("TYPE"),
        RUN,
        "MPI wiring is not part of this version; start mpirun in a job",
    ),
    refused(
        "multi-prog",
        None,
        No,
        RUN,
        "start a script that looks at SLURM_PROCID",
    ),
    refused("kill-on-bad-exit", None, Perhaps("0|1"), RUN, LATER),
    refused("overlap", None, No, RUN, LATER),
    refused("exact", None, No, RUN, LATER),
    refused("jobid", None, Of("ID"), RUN, "run it inside the job"),
    refused("relative", Some('r'), Of("N"), RUN, LATER),
    refused("threads", Some('T'), Of("N"), RUN, LATER),
    refused(
        "bcast",
        None,
        Perhaps("DEST"),
        RUN,
        "put the program where all nodes see it",
    ),
    refused("task-prolog", None, Of("PROGRAM"), RUN, LATER),
    refused("task-epilog", None, Of("PROGRAM"), RUN, LATER),
    refused("prolog", None, Of("PROGRAM"), RUN, LATER),
    refused("epilog", None, Of("PROGRAM"), RUN, LATER),
    refused(
        "output",
        Some('o'),
        Of("FILE"),
        RUN,
        "redirect the output of `hpc run`: > FILE",
    ),
    refused(
        "error",
        Some('e'),
        Of("FILE"),
        RUN,
        "redirect the output of `hpc run`: 2> FILE",
    ),
    refused(
        "input",
        Some('i'),
        Of("FILE"),
        RUN,
        "redirect the input of `hpc run`: < FILE",
    ),
    refused(
        "array",
        Some('a'),
        Of("INDICES"),
        RUN_ALLOC,
        "arrays are submitted with `hpc submit`",
    ),
];

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
            command.arg(
                argument(option.long, option.short, option.value)
                    .help(help)
                    .help_heading(option.heading),
            )
        });
    REFUSED
        .iter()
        .filter(|option| option.takers.include(takers))
        .fold(command, |command, option| {
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
    for option in REFUSED
        .iter()
        .filter(|option| option.takers.include(takers))
    {
        if indices(matches, option.long).is_some() {
            // Asking for no mail is granted.
            let values = matches.try_get_many::<String>(option.long).ok().flatten();
            if option.long == "mail-type"
                && values.is_some_and(|mut values| values.all(|value| value == "NONE"))
            {
                continue;
            }
            return Err(not_honoured(option));
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

fn not_honoured(option: &Refused) -> Failure {
    Failure::Usage(format!(
        "--{} is not part of this version [{}]\n  {}",
        option.long,
        Code::Unsupported,
        option.hint
    ))
}

/// The settings in the environment, given as a way to look a variable up.
pub(super) fn from_variables(
    takers: Takers,
    variable: impl Fn(&str) -> Option<String>,
) -> Vec<Setting> {
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
    found
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
            .map_err(|error| misread(line.line, &error))?;
        if let Some(word) = matches
            .get_many::<String>(LEFT_OVER)
            .and_then(|mut words| words.next())
        {
            return Err(invalid_directive(line.line, word));
        }
        found.extend(from_matches(&matches, SUBMIT, Source::Directive)?);
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

fn misread(line: u32, error: &clap::Error) -> Failure {
    match (
        error.kind(),
        error.get(clap::error::ContextKind::InvalidArg),
    ) {
        (clap::error::ErrorKind::UnknownArgument, Some(word)) => {
            invalid_directive(line, &word.to_string())
        }
        _ => Failure::Usage(format!(
            "in the directive of line {line}: {}",
            super::brief(error)
        )),
    }
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
        _ => Err(format!(
            "\"{text}\" is not part of this version: write --exclusive alone for whole nodes"
        )),
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
