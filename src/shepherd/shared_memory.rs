//! What ranks that were ended leave in `/dev/shm`: an MPI makes files there and removes them itself, unless it is killed.
//!
//! A file is removed when it has a name that an MPI gives, belongs to the slot's user, is younger than the step, and no
//! process that we can see has it open or mapped. Whoever has just made one has it open, so no living job loses any.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Where they are.
const FOLDER: &str = "/dev/shm";
/// How their names begin: MPICH, Intel MPI, Open MPI 4 and 5, UCX, libfabric, PSM.
const NAMES: [&str; 11] = [
    "mpich_shar_tmp",
    "mpich_shm_",
    "Intel_MPI_",
    "shm-col-space-",
    "vader_segment.",
    "sm_segment.",
    "ucx_shm_",
    "fi_shm_",
    "psm2_shm.",
    "psm3_shm.",
    "osc_rdma",
];
/// Clocks of files are a little behind.
const SLACK_S: i64 = 1;

/// Removes what is left of a step that began at `since` and ran as `uid`; how many files.
pub(super) fn sweep(uid: u32, since: SystemTime) -> usize {
    sweep_in(Path::new(FOLDER), Path::new("/proc"), uid, since)
}

fn sweep_in(folder: &Path, proc: &Path, uid: u32, since: SystemTime) -> usize {
    let since_s = since
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(0));
    let mut left: BTreeSet<PathBuf> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| is_of_an_mpi(&entry.file_name()))
        .map(|entry| entry.path())
        .filter(|path| {
            fs::symlink_metadata(path).is_ok_and(|data| {
                data.is_file() && data.uid() == uid && data.ctime() >= since_s - SLACK_S
            })
        })
        .collect();
    // Most steps end well, and then nothing more is looked at.
    if left.is_empty() {
        return 0;
    }
    for used in used_files(proc, folder) {
        left.remove(&used);
    }
    left.iter()
        .filter(|path| fs::remove_file(path).is_ok())
        .count()
}

fn is_of_an_mpi(name: &OsString) -> bool {
    let name = name.as_bytes();
    NAMES.iter().any(|known| name.starts_with(known.as_bytes()))
}

/// Files below this folder that some process has open or mapped.
fn used_files(proc: &Path, folder: &Path) -> BTreeSet<PathBuf> {
    let mut used = BTreeSet::new();
    let processes = fs::read_dir(proc).into_iter().flatten().flatten();
    for process in processes {
        let is_number = |name: &OsString| name.as_bytes().iter().all(u8::is_ascii_digit);
        if !is_number(&process.file_name()) {
            continue;
        }
        let path = process.path();
        let links = fs::read_dir(path.join("fd")).into_iter().flatten();
        let files = links
            .flatten()
            .filter_map(|one| fs::read_link(one.path()).ok());
        used.extend(files.filter(|file| file.starts_with(folder)));
        let maps = fs::read_to_string(path.join("maps")).unwrap_or_default();
        let names = maps
            .lines()
            .filter_map(|line| Some(&line[line.find('/')?..]));
        let files = names.map(PathBuf::from);
        used.extend(files.filter(|file| file.starts_with(folder)));
    }
    used
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::time::Duration;

    #[test]
    fn what_nobody_uses_goes_and_all_else_stays() {
        let folder = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            let path = folder.path().join(name);
            let file = File::create(&path).unwrap();
            file.set_len(10).unwrap();
            (path, file)
        };
        let since = SystemTime::now();
        let (dead, file) = make("vader_segment.a.0.1");
        drop(file);
        let (open, _file) = make("mpich_shm_1_0");
        let (other, file) = make("my-own-data");
        drop(file);
        let uid = nix::unistd::geteuid().as_raw();
        let proc = Path::new("/proc");
        let later = since + Duration::from_secs(3600);
        assert_eq!(sweep_in(folder.path(), proc, uid, later), 0);
        assert_eq!(sweep_in(folder.path(), proc, uid + 1, since), 0);
        assert_eq!(sweep_in(folder.path(), proc, uid, since), 1);
        assert!(!dead.exists() && open.exists() && other.exists());
    }
}
