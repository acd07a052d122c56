//! Lines of ours in a job's standard error, in the shape that Slurm's users and scripts look for.

use crate::model::job::KillCause;
use crate::model::time::Timestamp;
use crate::steps::{LaunchPlan, Output};
use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The line that says an element is being ended.
pub(super) fn ended_line(raw_job: u32, node: &str, cause: KillCause, at: Timestamp) -> String {
    let zone = jiff::tz::TimeZone::system();
    let because = match cause {
        KillCause::Cancel { .. } | KillCause::ClientGone => "",
        KillCause::TimeLimit => " DUE TO TIME LIMIT",
        KillCause::Preempt | KillCause::PreemptAgain | KillCause::Warned { .. } => {
            " DUE TO PREEMPTION"
        }
        KillCause::Requeue => " DUE TO JOB REQUEUE",
        KillCause::NodeLost => " DUE TO NODE FAILURE",
    };
    format!(
        "slurmstepd: error: *** JOB {raw_job} ON {node} CANCELLED AT {}{because} ***\n",
        at.to_local(&zone)
    )
}

/// The line that says the working directory was not there.
pub(super) fn directory_line(directory: &[u8]) -> String {
    let directory = String::from_utf8_lossy(directory);
    format!("slurmstepd: error: couldn't chdir to `{directory}': going to /tmp instead\n")
}

/// The line that says why a task could not be started.
pub(super) fn launch_line(text: &str) -> String {
    format!("slurmstepd: error: {text}\n")
}

/// Where such lines go for the element that runs.
#[derive(Debug, Clone)]
pub(super) enum Target {
    /// A file.
    File(PathBuf),
    /// The log of this step.
    Log(crate::model::ids::StepId),
}

/// The file a pattern leads to, below the directory the task started in.
pub(super) fn file_in(directory: &[u8], path: &[u8]) -> PathBuf {
    Path::new(OsStr::from_bytes(directory)).join(OsStr::from_bytes(path))
}

/// Appends to a file, which is made when the task could not even begin; called as its owner. What is no plain file is
/// left alone: a pipe could hold us.
pub(super) fn append(path: &Path, line: &str) -> std::io::Result<()> {
    let mut file = OpenOptions::new()
        .append(true)
        .create(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)?;
    if file.metadata()?.is_file() {
        file.write_all(line.as_bytes())?;
    }
    Ok(())
}

/// Where notes go for an element whose first task this is.
pub(super) fn target(plan: &LaunchPlan) -> Option<Target> {
    let file = |path: &std::ffi::CString| {
        Some(Target::File(file_in(
            plan.directory.as_bytes(),
            path.as_bytes(),
        )))
    };
    match (&plan.stderr, &plan.stdout) {
        (Output::File { path, .. }, _) | (Output::SameAsStdout, Output::File { path, .. }) => {
            file(path)
        }
        (Output::Log, _) | (Output::SameAsStdout, Output::Log) => Some(Target::Log(plan.task.step)),
        (Output::SameAsStdout, Output::SameAsStdout) => None,
    }
}
