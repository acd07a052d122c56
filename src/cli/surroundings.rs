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

/// Ours, with the variables that `--export` lets through.
pub(super) fn capture(export: Option<&ExportSpec>) -> Surroundings {
    Surroundings {
        // Variables that describe a job around us stay behind: the new job has its own.
        environment: export.unwrap_or(&ExportSpec::All).apply(environment()),
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
