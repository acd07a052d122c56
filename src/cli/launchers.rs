//! The directory of an allocation that `mpirun` is told to use (`model/mpirun.rs`), where the command of `hpc alloc` runs:
//! that may be on no node of the job, so there is no slot's directory. It is the user's alone, and goes with the command.

use crate::model::{hostlist, mpirun};
use crate::sys::files;
use anyhow::{Context, anyhow};
use std::env;
use std::ffi::OsStr;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::PathBuf;
use std::process::{self, Command};

/// Names that are tried for the directory, where others are taken.
const TRIES: u32 = 100;

/// The directory, until it is dropped.
#[derive(Debug)]
pub(super) struct Files(PathBuf);

impl Drop for Files {
    fn drop(&mut self) {
        // What cannot be removed is small, private and in a temporary directory.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Makes the directory of a granted allocation, known by its variables, and tells the command of it.
pub(super) fn prepare(
    job: u32,
    granted: &[(String, String)],
    command: &mut Command,
) -> anyhow::Result<Files> {
    let value = |name: &str| {
        let found = granted.iter().find(|(other, _)| other == name);
        found.map_or("", |(_, value)| value.as_str())
    };
    let nodes = hostlist::parse(value("HPC_JOB_NODELIST")).context("cannot read its nodes")?;
    let tasks = unfolded(value("HPC_TASKS_PER_NODE"))
        .filter(|tasks| tasks.len() == nodes.len())
        .ok_or_else(|| anyhow!("cannot read its tasks"))?;
    let files = Files(create(job).context("cannot make a temporary directory")?);
    let directory = &files.0;
    symlink(files::own_program()?, directory.join(mpirun::REMOTE_SHELL))?;
    for (name, text) in mpirun::host_lists(&nodes, &tasks) {
        fs::write(directory.join(name), text)?;
    }
    let directory = directory.to_string_lossy().into_owned();
    let known = |name: &str| {
        let mut set = command.get_envs();
        let found = set.find(|(other, _)| *other == OsStr::new(name));
        found.and_then(|(_, value)| Some(value?.as_bytes().to_vec()))
    };
    let variables = mpirun::variables(&directory, known);
    command.envs(variables);
    Ok(files)
}

fn create(job: u32) -> io::Result<PathBuf> {
    let base = env::temp_dir();
    let mut tried = 0;
    loop {
        let name = format!("hpc-alloc-{job}-{}-{tried}", process::id());
        let path = base.join(name);
        match DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && tried < TRIES => {
                tried += 1;
            }
            other => return other.map(|()| path),
        }
    }
}

/// The counts that `2(x3),1` means; at most as many as a list of nodes may have.
fn unfolded(text: &str) -> Option<Vec<u32>> {
    let mut counts = Vec::new();
    for word in text.split(',') {
        let (count, times) = match word.split_once("(x") {
            Some((count, times)) => (count, times.strip_suffix(')')?.parse().ok()?),
            None => (word, 1),
        };
        let count: u32 = count.parse().ok()?;
        if times > crate::model::bounded::ITEMS_MAX - counts.len() {
            return None;
        }
        counts.extend(std::iter::repeat_n(count, times));
    }
    Some(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_as_they_are_written() {
        assert_eq!(unfolded("4"), Some(vec![4]));
        assert_eq!(unfolded("2(x3),1"), Some(vec![2, 2, 2, 1]));
        for bad in ["", "x", "2(x", "2(x3", "1(x99999999)"] {
            assert_eq!(unfolded(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_directory_goes_with_the_command() {
        let granted = [
            ("HPC_JOB_NODELIST".to_owned(), "ws[1-2]".to_owned()),
            ("HPC_TASKS_PER_NODE".to_owned(), "2,3".to_owned()),
        ];
        let mut command = Command::new("true");
        command.env_clear().env("HYDRA_RMK", "slurm");
        let files = prepare(7, &granted, &mut command).unwrap();
        let value = |name: &str| {
            let mut set = command.get_envs();
            let found = set.find(|(other, _)| *other == OsStr::new(name));
            found.and_then(|(_, value)| value.map(OsStr::to_os_string))
        };
        assert_eq!(value("HYDRA_RMK").unwrap(), "slurm");
        let hosts = PathBuf::from(value("HYDRA_HOST_FILE").unwrap());
        assert_eq!(fs::read_to_string(&hosts).unwrap(), "ws1:2\nws2:3\n");
        let shell = PathBuf::from(value("HYDRA_LAUNCHER_EXEC").unwrap());
        assert!(shell.exists());
        drop(files);
        assert!(!hosts.exists());
    }
}
