//! `hpc run --bcast`: the program goes to the nodes of the job before its tasks start.

use super::connection::Target;
use super::cp::{Copy, Where, name_of};
use super::draft::Draft;
use super::exit::{Failure, Outcome};
use super::paths;
use crate::model::refusal::Code;
use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process;
use std::time::{SystemTime, UNIX_EPOCH};

/// What was sent, and where it is.
pub(super) struct Sent {
    nodes: Vec<String>,
    /// A directory that is ours alone, to be removed.
    private: Option<String>,
    quiet: bool,
}

impl Sent {
    /// Removes what is to go with the step.
    pub(super) fn remove(self, target: &Target) {
        let Some(directory) = &self.private else {
            return;
        };
        let copy = Copy {
            target,
            verb: "run",
            deep: false,
            quiet: true,
        };
        if let Err(failure) = copy.remove(&self.nodes, directory)
            && !self.quiet
        {
            eprintln!("hpc run: {directory} is left on the nodes: {failure}");
        }
    }
}

/// Sends a program to the nodes of the job around us; `word`, its name, becomes that of the copy.
pub(super) fn send(target: &Target, to: &str, word: &mut String, given: &Draft) -> Outcome<Sent> {
    let work_dir = given.directory()?;
    let program = program(word, &work_dir)?;
    let name = name_of(&program)?.to_string_lossy().into_owned();
    let nodes = nodes()?;
    let private = to.is_empty().then(|| {
        // Made by `mkdir`, which takes no directory that is there: no secret is needed.
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |since| since.as_micros());
        format!("/tmp/hpc-bcast-{}-{now}", process::id())
    });
    let path = match &private {
        Some(directory) => format!("{directory}/{name}"),
        None => {
            let path = Path::new(&work_dir).join(to).to_string_lossy().into_owned();
            if to.ends_with('/') {
                format!("{path}{name}")
            } else {
                path
            }
        }
    };
    let copy = Copy {
        target,
        verb: "run",
        deep: false,
        quiet: given.quiet,
    };
    let wanted = match private {
        Some(_) => Where::Private,
        None => Where::File,
    };
    let outcome = copy.put(&nodes, &[program], &path, wanted);
    let sent = Sent {
        nodes,
        private,
        quiet: given.quiet,
    };
    if let Err(failure) = outcome {
        sent.remove(target);
        return Err(failure);
    }
    *word = path;
    Ok(sent)
}

/// The nodes of the job around us.
fn nodes() -> Outcome<Vec<String>> {
    paths::job_nodes()?.ok_or_else(|| {
        let what = "--bcast needs HPC_JOB_NODELIST, which jobs have: it says where to";
        Failure::Usage(what.to_owned())
    })
}

/// The file that a program's name stands for here.
pub(super) fn program(word: &str, work_dir: &str) -> Outcome<PathBuf> {
    let candidates: Vec<PathBuf> = if word.contains('/') {
        vec![Path::new(work_dir).join(word)]
    } else {
        let path = env::var_os("PATH").unwrap_or_default();
        env::split_paths(&path)
            .map(|directory| directory.join(word))
            .collect()
    };
    let is_program = |path: &&PathBuf| {
        fs::metadata(path)
            .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    match candidates.iter().find(is_program) {
        Some(path) => Ok(path.clone()),
        None => Err(Failure::refused(
            Code::Path,
            format!("--bcast: {word} is no program that is here"),
            "name a file that may be executed, or leave out --bcast if the nodes have it",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_as_a_shell_does() {
        assert!(program("sh", "/").unwrap().ends_with("sh"));
        assert_eq!(program("bin/sh", "/").unwrap(), Path::new("/bin/sh"));
        for none in ["no-such-program", "./etc/passwd", "/etc", "/etc/passwd"] {
            let said = program(none, "/").unwrap_err().to_string();
            assert!(said.contains(none), "{said}");
        }
    }
}
