//! Options of Slurm's that this version does not honour: each has a row with a way out, and is refused by name on
//! the command line, in a directive and in a variable. Those that are honoured are in [`super::job_options`].

use super::exit::Failure;
use super::job_options::Value::{self, No, Of, Perhaps};
use super::job_options::{ALL, ALLOC, RUN, RUN_ALLOC, SUBMIT, SUBMIT_ALLOC, Takers};
use crate::model::refusal::Code;

/// An option of Slurm's that this version does not honour: refused by name, with a way out.
pub(super) struct Refused {
    /// Its long name.
    pub(super) long: &'static str,
    /// Its letter.
    pub(super) short: Option<char>,
    /// What follows it.
    pub(super) value: Value,
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

const HETEROGENEOUS: &str = "submit a job for each kind of node, joined by --dependency";
const BATCH_ONLY: &str =
    "its client holds the job, which is never put back; say `hpc submit --requeue`";
const REDIRECT: &str = "the command runs here: redirect it in your shell";

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
    refused(
        "distribution",
        Some('m'),
        Of("METHOD"),
        SUBMIT_ALLOC,
        "say it to `hpc run` inside the job",
    ),
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
    refused("reboot", None, No, ALL, LATER),
    refused(
        "verbose",
        Some('v'),
        No,
        SUBMIT_ALLOC,
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
    refused("jobid", None, Of("ID"), RUN, "run it inside the job"),
    refused("threads", Some('T'), Of("N"), RUN, LATER),
    refused("task-prolog", None, Of("PROGRAM"), RUN, LATER),
    refused("task-epilog", None, Of("PROGRAM"), RUN, LATER),
    refused("prolog", None, Of("PROGRAM"), RUN, LATER),
    refused("epilog", None, Of("PROGRAM"), RUN, LATER),
    refused(
        "disable-status",
        Some('X'),
        No,
        RUN,
        "the first Ctrl-C warns, a second within 1 s ends the job",
    ),
    refused("no-allocate", Some('Z'), No, RUN, LATER),
    refused("het-group", None, Of("GROUPS"), RUN, HETEROGENEOUS),
    refused("requeue", None, No, RUN_ALLOC, BATCH_ONLY),
    refused("no-requeue", None, No, RUN_ALLOC, BATCH_ONLY),
    refused("output", Some('o'), Of("FILE"), ALLOC, REDIRECT),
    refused("error", Some('e'), Of("FILE"), ALLOC, REDIRECT),
    refused("input", Some('i'), Of("FILE"), ALLOC, REDIRECT),
    refused("open-mode", None, Of("append|truncate"), ALLOC, REDIRECT),
    refused(
        "array",
        Some('a'),
        Of("INDICES"),
        RUN_ALLOC,
        "arrays are submitted with `hpc submit`",
    ),
];

/// Rows that sbatch also reads from a variable: `SBATCH_WCKEY` for `--wckey`.
const BY_VARIABLE: &[&str] = &[
    "acctg-freq",
    "clusters",
    "core-spec",
    "cpus-per-gpu",
    "delay-boot",
    "distribution",
    "get-user-env",
    "gpu-bind",
    "gpu-freq",
    "hint",
    "mem-bind",
    "mem-per-gpu",
    "network",
    "no-kill",
    "overcommit",
    "power",
    "profile",
    "spread-job",
    "threads-per-core",
    "use-min-nodes",
    "wckey",
];

impl Refused {
    /// Why it is refused, called as the user did.
    pub(super) fn refusal(&self, said: &str) -> Failure {
        unsupported(said, self.hint)
    }
}

/// The rows for these commands.
pub(super) fn of(takers: Takers) -> impl Iterator<Item = &'static Refused> {
    REFUSED
        .iter()
        .filter(move |option| option.takers.include(takers))
}

/// Refuses variables that stand for such options; an empty one asks for nothing.
pub(super) fn check_variables(variable: &impl Fn(&str) -> Option<String>) -> Result<(), Failure> {
    for option in of(SUBMIT).filter(|option| BY_VARIABLE.contains(&option.long)) {
        let name = format!(
            "SBATCH_{}",
            option.long.replace('-', "_").to_ascii_uppercase()
        );
        if variable(&name).is_some_and(|value| !value.is_empty()) {
            return Err(option.refusal(&name));
        }
    }
    Ok(())
}

/// The refusal of a word that stands alone in a directive, where it means something to Slurm.
pub(super) fn word(line: u32, word: &str) -> Option<Failure> {
    matches!(word, "hetjob" | "packjob").then(|| {
        unsupported(
            &format!("a heterogeneous job ({word}, line {line})"),
            HETEROGENEOUS,
        )
    })
}

fn unsupported(said: &str, hint: &str) -> Failure {
    Failure::Usage(format!(
        "{said} is not part of this version [{}]\n  {hint}",
        Code::Unsupported
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_variable_has_its_row() {
        for name in BY_VARIABLE {
            assert!(of(SUBMIT).any(|option| option.long == *name), "{name}");
        }
    }
}
