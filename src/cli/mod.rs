//! THE COMMANDS. One file per verb; blocking, no runtime, nothing started that a command does not need.
//!
//! [`VERBS`] is the tree: a row per command. A verb is a struct whose doc comment is its help and whose fields
//! are its arguments ([`Verb`]). What verbs share: [`connection`] finds and asks the controller,
//! [`job_options`] is the table of job options, [`exit`] the table of exit codes, [`output`] draws tables
//! and JSON, [`paths`] knows where things live. Read [`submit`] first.
//!
//! To add a command: its file, one row here, and its output in `tests/golden/`.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a shell: it prints, reads files, the environment and the clock"
)]

mod account;
mod alloc;
mod attach;
mod attached;
mod audit;
mod backup;
mod bcast;
mod cancel;
mod completions;
mod connection;
mod cp;
mod descriptor;
mod down;
mod draft;
mod exit;
mod follow;
mod history;
mod hold;
mod invite;
mod job;
mod job_options;
mod join;
mod keeper;
mod launchers;
mod license;
mod limits;
mod logs;
mod man;
mod modes;
mod node;
mod nodes;
mod numbers;
mod output;
mod partition;
mod partitions;
mod paths;
mod placing;
mod process;
mod qos;
mod queue;
mod refused_options;
mod remote_shell;
mod requeue;
mod reserve;
mod rule;
mod rule_keys;
mod run;
mod script;
mod selection;
mod service;
mod share;
mod signal;
mod sim;
mod spawn_step;
mod status;
mod step_log;
mod step_variables;
mod streams;
mod submit;
mod suggest;
mod surroundings;
mod suspend;
mod timeline;
mod up;
mod update;
mod user;
mod version;
mod wait;
mod why;

use crate::model::time::Timestamp;
use crate::wire::spawner;
use clap::error::{ContextKind, ErrorKind};
use clap::{ArgMatches, Args, Command, FromArgMatches};
use connection::Target;
use exit::{Failure, Outcome};
use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

/// A command: its arguments, and what it does.
trait Verb: Args {
    /// Does it; the exit code, or why not.
    fn run(self, target: &Target) -> Outcome;
}

/// A row of the command tree.
struct Row {
    group: &'static str,
    name: &'static str,
    augment: fn(Command) -> Command,
    run: fn(&Target, &ArgMatches) -> Outcome,
}

const fn row<V: Verb>(group: &'static str, name: &'static str) -> Row {
    Row {
        group,
        name,
        augment: V::augment_args,
        run: run_verb::<V>,
    }
}

fn run_verb<V: Verb>(target: &Target, matches: &ArgMatches) -> Outcome {
    V::from_arg_matches(matches)
        .map_err(|error| Failure::Usage(brief(&error)))?
        .run(target)
}

/// Every command, in the order of the help.
const VERBS: &[Row] = &[
    row::<up::Up>("Cluster", "up"),
    row::<down::Down>("Cluster", "down"),
    row::<status::Status>("Cluster", "status"),
    row::<invite::Invite>("Cluster", "invite"),
    row::<join::Join>("Cluster", "join"),
    row::<join::Login>("Cluster", "login"),
    row::<submit::Submit>("Jobs", "submit"),
    row::<run::Run>("Jobs", "run"),
    row::<alloc::Alloc>("Jobs", "alloc"),
    row::<cancel::Cancel>("Jobs", "cancel"),
    row::<hold::Hold>("Jobs", "hold"),
    row::<hold::Release>("Jobs", "release"),
    row::<requeue::Requeue>("Jobs", "requeue"),
    row::<suspend::Suspend>("Jobs", "suspend"),
    row::<suspend::Resume>("Jobs", "resume"),
    row::<update::Update>("Jobs", "update"),
    row::<signal::Signal>("Jobs", "signal"),
    row::<wait::Wait>("Jobs", "wait"),
    row::<cp::Cp>("Jobs", "cp"),
    row::<queue::Queue>("Looking", "queue"),
    row::<job::Job>("Looking", "job"),
    row::<why::Why>("Looking", "why"),
    row::<logs::Logs>("Looking", "logs"),
    row::<attach::Attach>("Looking", "attach"),
    row::<history::History>("Looking", "history"),
    row::<nodes::Nodes>("Looking", "nodes"),
    row::<node::Node>("Looking", "node"),
    row::<partitions::Partitions>("Looking", "partitions"),
    row::<sim::Sim>("Looking", "sim"),
    row::<limits::Limits>("Looking", "limits"),
    row::<partition::Partition>("Admin", "partition"),
    row::<account::Account>("Admin", "account"),
    row::<user::User>("Admin", "user"),
    row::<qos::Qos>("Admin", "qos"),
    row::<license::License>("Admin", "license"),
    row::<reserve::Reserve>("Admin", "reserve"),
    row::<share::Share>("Admin", "share"),
    row::<audit::Audit>("Admin", "audit"),
    row::<backup::Backup>("Plumbing", "backup"),
    row::<completions::Completions>("Plumbing", "completions"),
    row::<man::Man>("Plumbing", "man"),
    row::<version::Version>("Plumbing", "version"),
    row::<modes::Controller>("", "controller"),
    row::<modes::Worker>("", "worker"),
];

/// Words of the contract that are not commands yet.
const LATER: &[&str] = &[
    "doctor", "shell", "eff", "topo", "gpus", "top", "sweep", "jupyter", "code", "ssh", "forward",
    "image", "bench", "slurm", "import",
];

/// Runs the command that these arguments mean; the first is the program's own name.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    // Shepherds start once for each job: they go past the command tree.
    if arguments.get(1).is_some_and(|word| word == "shepherd") {
        return ExitCode::from(modes::shepherd(&arguments[2..]));
    }
    if arguments.get(1).is_some_and(|word| word == modes::PMIX) {
        return ExitCode::from(modes::pmix_server());
    }
    if arguments.get(1).is_some_and(|word| word == spawner::WORD) {
        return ExitCode::from(spawn_step::run());
    }
    if arguments.get(1).is_some_and(|word| word == modes::EXEC) {
        return ExitCode::from(modes::exec(&arguments[2..]));
    }
    if let Some(words) = remote_shell::words(&arguments) {
        return ExitCode::from(remote_shell::run(words));
    }
    ExitCode::from(dispatch(&arguments))
}

/// Reads the options in a script's directives as `hpc submit` does, or says what is wrong with them; for those who
/// test it from outside (`tests/fuzz`).
#[doc(hidden)]
pub fn read_directives(script: &[u8]) -> Result<(), String> {
    let read = || {
        job_options::apply(
            &mut Default::default(),
            job_options::from_directives(script)?,
        )
    };
    read().map_err(|failure| failure.to_string())
}

fn dispatch(arguments: &[OsString]) -> u8 {
    let mut arguments = arguments.to_vec();
    let matches = loop {
        match command().try_get_matches_from(&arguments) {
            Ok(matches) => break matches,
            Err(error) if unglue(&error, &mut arguments) => {}
            Err(error) => return not_understood(&error, &arguments),
        }
    };
    let arguments = arguments.as_slice();
    let Some((name, inner)) = matches.subcommand() else {
        return exit::USAGE;
    };
    let Some(verb) = VERBS.iter().find(|verb| verb.name == name) else {
        return exit::USAGE;
    };
    let outcome = target(inner).and_then(|mut target| {
        target.typed = arguments.to_vec();
        (verb.run)(&target, inner)
    });
    let outcome = outcome.and_then(|code| {
        std::io::stdout()
            .flush()
            .map(|()| code)
            .map_err(Failure::from)
    });
    match outcome {
        Ok(code) => code,
        Err(failure) => {
            if !matches!(failure, Failure::PipeClosed) {
                complain(name, &failure);
            }
            failure.exit_code()
        }
    }
}

/// Writes `-K0` as `-K=0`, where that is what could not be parsed: a value that may be left out needs the sign there, and
/// getopt takes it without. Whether it was.
fn unglue(error: &clap::Error, arguments: &mut [OsString]) -> bool {
    let unknown = error.get(ContextKind::InvalidArg).map(ToString::to_string);
    let digit = match (error.kind(), unknown.as_deref()) {
        (ErrorKind::UnknownArgument, Some("-0")) => "0",
        (ErrorKind::UnknownArgument, Some("-1")) => "1",
        _ => return false,
    };
    let mut words = arguments.iter_mut();
    // The first is the one: what the program has of its own comes after.
    let found = words.find_map(|word| {
        let letters = word.to_str()?.strip_suffix(digit)?.to_owned();
        let glued =
            letters.ends_with('K') && letters.starts_with('-') && !letters.starts_with("--");
        glued.then_some((word, letters))
    });
    let Some((word, letters)) = found else {
        return false;
    };
    *word = format!("{letters}={digit}").into();
    true
}

/// Says on standard error why a command failed.
fn complain(name: &str, failure: &Failure) {
    let mut stderr = std::io::stderr().lock();
    // Nobody to tell it to: the exit code has to do.
    let _ = writeln!(stderr, "hpc {name}: error: {failure}");
}

/// The whole command tree; arguments of a verb are only built when it is used.
pub(super) fn command() -> Command {
    // The group of arguments has words of its own about itself, so ours come after.
    let base = Target::augment_args(Command::new("hpc"))
        .about("A cluster manager for small labs: one binary that queues, places, launches and accounts jobs")
        .after_help("Examples:\n  hpc up --detach\n  hpc submit --wait -- hostname")
        .version(env!("CARGO_PKG_VERSION"))
        .disable_help_subcommand(false)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .infer_long_args(true);
    VERBS.iter().fold(base, |base, verb| {
        let command = Command::new(verb.name)
            .defer(verb.augment)
            .infer_long_args(true)
            .hide(verb.group.is_empty());
        base.subcommand(command)
    })
}

/// The first screen: commands by group, with their first lines.
fn overview() -> String {
    let mut text = String::from(
        "A cluster manager for small labs: one binary that queues, places, launches and accounts jobs.\n\n\
         Usage: hpc [--controller ADDRESS | --state-dir DIR] COMMAND ...\n",
    );
    let mut group = "";
    for verb in VERBS.iter().filter(|verb| !verb.group.is_empty()) {
        if verb.group != group {
            group = verb.group;
            text.push_str(&format!("\n{group}:\n"));
        }
        let about = (verb.augment)(Command::new(verb.name))
            .get_about()
            .map(ToString::to_string);
        text.push_str(&format!(
            "  {:<12} {}\n",
            verb.name,
            about.unwrap_or_default()
        ));
    }
    text.push_str(
        "\n`hpc COMMAND --help` shows options and an example. To begin:\n  hpc up --detach && hpc submit --wait -- hostname\n",
    );
    text
}

/// Where the deepest command of a line says the cluster is; options before the verb reach it too.
fn target(matches: &ArgMatches) -> Outcome<Target> {
    let mut deepest = matches;
    while let Some((_, inner)) = deepest.subcommand() {
        deepest = inner;
    }
    Target::from_arg_matches(deepest).map_err(|error| Failure::Usage(brief(&error)))
}

/// Help, version, or a usage error in the words that Slurm's users know.
fn not_understood(error: &clap::Error, arguments: &[OsString]) -> u8 {
    let verb = arguments.iter().skip(1).filter_map(|word| word.to_str());
    let verb = verb
        .into_iter()
        .find(|word| VERBS.iter().any(|verb| verb.name == *word));
    match (error.kind(), verb) {
        (ErrorKind::DisplayHelp, None) => {
            print!("{}", overview());
            return exit::DONE;
        }
        (ErrorKind::DisplayVersion, _) => {
            println!("hpc {}", env!("CARGO_PKG_VERSION"));
            return exit::DONE;
        }
        (ErrorKind::DisplayHelp, _) => {
            // A closed pipe is the reader's choice.
            let _ = error.print();
            return exit::DONE;
        }
        (ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand, None) => {
            eprint!("{}", overview());
            return exit::USAGE;
        }
        _ => {}
    }
    let called = verb.map_or_else(|| "hpc".to_owned(), |verb| format!("hpc {verb}"));
    let invalid = |kind| error.get(kind).map(ToString::to_string);
    match error.kind() {
        ErrorKind::UnknownArgument => {
            let option = invalid(ContextKind::InvalidArg).unwrap_or_default();
            let known = options_of(arguments);
            match suggest::ambiguous(&known, &option) {
                Some(said) => eprintln!("{called}: {said}"),
                None if option.starts_with('-') => {
                    eprintln!("{called}: unrecognized option '{option}'");
                    if let Some(similar) = suggest::option(&known, &option) {
                        eprintln!("Did you mean {similar}?");
                    }
                }
                None => eprintln!("{called}: unexpected argument '{option}'"),
            }
        }
        ErrorKind::InvalidSubcommand => {
            let word = invalid(ContextKind::InvalidSubcommand).unwrap_or_default();
            if LATER.contains(&word.as_str()) {
                eprintln!("`hpc {word}` is not part of this version");
                return exit::USAGE;
            }
            eprintln!("{called}: '{word}' is no command");
            let verbs = VERBS.iter().filter(|verb| !verb.group.is_empty());
            if let Some(similar) = suggest::nearest(&word, verbs.map(|verb| verb.name)) {
                eprintln!("Did you mean {similar}?");
            }
        }
        _ => eprintln!(
            "{called}: {}",
            job_options::explained(error).unwrap_or_else(|| brief(error))
        ),
    }
    eprintln!("Try \"{called} --help\" for more information");
    exit::USAGE
}

/// The command that a line means, with the options that may be typed there.
fn options_of(arguments: &[OsString]) -> Command {
    let mut command = Target::augment_args(Command::new("hpc"));
    let mut words = arguments.iter().skip(1).filter_map(|word| word.to_str());
    let verb = words.find_map(|word| VERBS.iter().find(|row| row.name == word));
    if let Some(verb) = verb {
        command = (verb.augment)(command);
    }
    match words.find_map(|word| command.find_subcommand(word).cloned()) {
        Some(inner) => Target::augment_args(inner),
        None => command,
    }
}

/// What clap has to say, without its pointer to the help.
fn brief(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    text.split("\n\n")
        .next()
        .unwrap_or(text)
        .trim_end()
        .to_owned()
}

/// The present, by this machine's clock.
fn now() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// The local time zone; read from the system when first needed, since most commands print no time.
fn zone() -> jiff::tz::TimeZone {
    static ZONE: std::sync::OnceLock<jiff::tz::TimeZone> = std::sync::OnceLock::new();
    ZONE.get_or_init(jiff::tz::TimeZone::system).clone()
}

/// This machine's name up to the first dot.
fn host_name() -> String {
    let name = nix::unistd::gethostname()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let short = name.split('.').next().unwrap_or_default();
    if short.is_empty() {
        "localhost".to_owned()
    } else {
        short.to_owned()
    }
}
