//! What a job inherits from the process that submits it: environment, umask, soft limits.

use crate::model::export::ExportSpec;
use crate::model::job::Surroundings;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
use nix::sys::stat::{Mode, umask};
use std::env;
use std::os::unix::ffi::OsStringExt;

const LIMITS: &[Resource] = &[
    Resource::RLIMIT_CPU,
    Resource::RLIMIT_FSIZE,
    Resource::RLIMIT_DATA,
    Resource::RLIMIT_STACK,
    Resource::RLIMIT_CORE,
    Resource::RLIMIT_RSS,
    Resource::RLIMIT_NPROC,
    Resource::RLIMIT_NOFILE,
    Resource::RLIMIT_MEMLOCK,
    Resource::RLIMIT_AS,
];

/// What `--export` said where the job was submitted.
pub(super) const EXPORT: &str = "SLURM_EXPORT_ENV";

/// Ours, with the variables that `--export` lets through.
pub(super) fn capture(export: Option<&ExportSpec>) -> Surroundings {
    // Variables that describe a job around us stay behind: the new job has its own.
    let mut passed = export.unwrap_or(&ExportSpec::All).apply(environment());
    // It is about the steps of the job around us.
    passed.retain(|(name, _)| name != EXPORT.as_bytes());
    let mut say = |name: &str, value: Vec<u8>| {
        passed.retain(|(known, _)| known != name.as_bytes());
        passed.push((name.as_bytes().to_vec(), value));
    };
    if let Some(export) = export {
        // `hpc run` in the job passes on as much.
        say(EXPORT, export.to_string().into_bytes());
    }
    if let Ok(directory) = super::draft::current_dir() {
        say("SLURM_SUBMIT_DIR", directory.into_os_string().into_vec());
    }
    Surroundings {
        environment: passed,
        umask: current_umask(),
        limits: LIMITS
            .iter()
            .filter_map(|limit| soft_limit(*limit))
            .collect(),
    }
}

/// Our environment, byte for byte.
pub(super) fn environment() -> Vec<(Vec<u8>, Vec<u8>)> {
    env::vars_os()
        .map(|(name, value)| (name.into_vec(), value.into_vec()))
        .collect()
}

fn current_umask() -> u32 {
    // It can only be read by setting it; no other thread runs yet.
    let mask = umask(Mode::empty());
    umask(mask);
    mask.bits()
}

fn soft_limit(limit: Resource) -> Option<(u32, u64)> {
    let (soft, _) = getrlimit(limit).ok()?;
    Some((
        limit as u32,
        if soft == RLIM_INFINITY {
            u64::MAX
        } else {
            soft
        },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_and_umask_are_ours() {
        let found = capture(None);
        assert_eq!(found.limits.len(), LIMITS.len());
        assert_eq!(found.umask, current_umask());
    }
}
