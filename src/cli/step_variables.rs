//! What variables say of a step inside a job. Most of those around it describe the job, and are no options; some stand for
//! options whatever the job has set, and the amounts do where they differ from what we have set them to.

use super::exit::Outcome;
use super::job_options::{self, RUN, Setting};
use crate::model::amounts::{self, AMOUNTS};

/// Options that a variable stands for, `SLURM_` or `HPC_` before the name in the table of options.
const SAID_BY_VARIABLES: &[&str] = &[
    "mpi",
    "kill-on-bad-exit",
    "wait",
    "distribution",
    "output",
    "error",
    "input",
    "open-mode",
    "overlap",
    "exact",
    "exclusive",
    "export",
    "ntasks",
    "cpus-per-task",
    "ntasks-per-node",
    "nodes",
];

/// The settings in the environment of a step's caller, given as a way to look a variable up.
pub(super) fn settings(variable: impl Fn(&str) -> Option<String>) -> Outcome<Vec<Setting>> {
    let said = job_options::from_variables(RUN, |name| match name.strip_prefix("HPC_") {
        Some("JOB_ID") | None => None,
        Some("DISTRIBUTION") => distribution_around(&variable),
        Some(rest) if AMOUNTS.contains(&rest) => amounts::said(rest, &variable),
        Some(rest) => variable(&format!("SLURM_{rest}")).or_else(|| variable(name)),
    })?;
    let said = said.into_iter();
    Ok(said
        .filter(|one| SAID_BY_VARIABLES.contains(&one.long()))
        .collect())
}

/// The distribution that the step around us has, or the user has set, in the words of the option.
fn distribution_around(variable: impl Fn(&str) -> Option<String>) -> Option<String> {
    let said = |name: &str| {
        variable(&format!("SLURM_{name}")).or_else(|| variable(&format!("HPC_{name}")))
    };
    match said("DISTRIBUTION")?.as_str() {
        "plane" => said("DIST_PLANESIZE").map(|size| format!("plane={size}")),
        // Hosts are those of the other step.
        "arbitrary" => None,
        word => Some(word.to_owned()),
    }
}

/// How many tasks the step has that we are a task of: one within it has as many, as srun has it.
pub(super) fn tasks_of_step_around(variable: impl Fn(&str) -> Option<String>) -> Option<u32> {
    ["HPC_STEP_ID", "SLURM_STEP_ID"]
        .iter()
        .find_map(|name| variable(name))?;
    amounts::ours("NTASKS", variable)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(set: &[(&str, &str)]) -> Vec<(&'static str, String)> {
        let found = settings(|name| {
            let found = set.iter().find(|(other, _)| *other == name);
            found.map(|(_, value)| (*value).to_owned())
        });
        let value = |one: &Setting| one.value_of(one.long()).unwrap_or_default().to_owned();
        found
            .unwrap()
            .iter()
            .map(|one| (one.long(), value(one)))
            .collect()
    }

    #[test]
    fn what_describes_the_job_is_no_option_and_what_the_user_sets_is() {
        let jobs = [
            ("HPC_JOB_ID", "7"),
            ("HPC_JOB_NAME", "job"),
            ("SLURM_NTASKS", "4"),
            ("HPC_NTASKS", "4"),
            ("HPC_NNODES", "2"),
            ("SLURM_NNODES", "2"),
            ("HPC_MEM_PER_NODE", "100"),
            (amounts::NOTE, "NTASKS=4,NNODES=2"),
        ];
        assert_eq!(told(&jobs), []);
        let users = [
            ("HPC_WAIT", "5"),
            ("SLURM_KILL_BAD_EXIT", "1"),
            ("HPC_CPUS_PER_TASK", "2"),
            ("SLURM_NTASKS_PER_NODE", "1"),
        ];
        let said = told(&[&users[..], &jobs].concat());
        let expected = [
            ("cpus-per-task", "2"),
            ("ntasks-per-node", "1"),
            ("kill-on-bad-exit", "1"),
            ("wait", "5"),
        ];
        assert_eq!(said, expected.map(|(long, value)| (long, value.to_owned())));
    }

    #[test]
    fn a_step_within_a_step_has_its_tasks() {
        let around = |set: &'static [(&str, &str)]| {
            tasks_of_step_around(|name| {
                let found = set.iter().find(|(other, _)| *other == name);
                found.map(|(_, value)| (*value).to_owned())
            })
        };
        assert_eq!(around(&[(amounts::NOTE, "NTASKS=4")]), None);
        let inner = &[("HPC_STEP_ID", "0"), (amounts::NOTE, "NTASKS=1")];
        assert_eq!(around(inner), Some(1));
    }
}
