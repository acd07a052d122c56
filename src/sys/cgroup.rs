//! Control groups: for now to count a job's processes and to end all of them with one write.
//!
//! [`find_rung`] says how much this machine lets us do; without any cgroup, [`super::reap::KillSweep`] ends what
//! is left. On a machine with v1 controllers (or both kinds) the v2 tree still counts and kills, only limits are
//! missing there. Limits on memory and cores will join [`Group`], one method per file of the kernel's.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{AccessFlags, Pid, access};

/// What control groups can do for us here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CgroupRung {
    /// Groups of version 2 below `base`.
    V2 {
        /// Our own group, in which we may make others.
        base: PathBuf,
        /// Version 1 holds the controllers, so there are no limits in this tree.
        hybrid: bool,
        /// The kernel ends a group by one write (5.14 and later).
        has_kill: bool,
    },
    /// None.
    None {
        /// In words for the administrator.
        why: String,
    },
}

impl fmt::Display for CgroupRung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V2 {
                base,
                hybrid,
                has_kill,
            } => {
                write!(f, "cgroup v2 at {}", base.display())?;
                if *hybrid {
                    write!(f, ", beside v1: no limits")?;
                }
                if !has_kill {
                    write!(f, ", without cgroup.kill")?;
                }
                Ok(())
            }
            Self::None { why } => write!(f, "no cgroups: {why}"),
        }
    }
}

/// Looks for a group in which this process may make others, and tries it.
pub fn find_rung() -> CgroupRung {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    match locate(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup")) {
        Ok((base, hybrid)) => try_out(base, hybrid),
        Err(why) => CgroupRung::None {
            why: why.to_owned(),
        },
    }
}

/// The directory of our own v2 group, and whether v1 is mounted too.
fn locate(mountinfo: &str, own_groups: &str) -> Result<(PathBuf, bool), &'static str> {
    let mut unified = None;
    let mut hybrid = false;
    for line in mountinfo.lines() {
        let Some((left, right)) = line.split_once(" - ") else {
            continue;
        };
        let mut left = left.split(' ').skip(3);
        match (right.split(' ').next(), left.next(), left.next()) {
            (Some("cgroup2"), Some(root), Some(point)) => {
                unified.get_or_insert((unescape(root), unescape(point)));
            }
            (Some("cgroup"), ..) => hybrid = true,
            _ => {}
        }
    }
    let (root, point) = unified.ok_or("version 2 is not mounted")?;
    let own = own_groups
        .lines()
        .find_map(|line| line.strip_prefix("0::"))
        .ok_or("this process is in no group of version 2")?;
    // In a container the mount may show only a part of the tree.
    let below = Path::new(own)
        .strip_prefix(&root)
        .map_err(|_| "our own group is not visible here")?;
    Ok((Path::new(&point).join(below), hybrid))
}

/// Mount tables write blanks and the like as `\040`.
fn unescape(text: &str) -> String {
    text.replace("\\040", " ")
        .replace("\\011", "\t")
        .replace("\\012", "\n")
        .replace("\\134", "\\")
}

fn try_out(base: PathBuf, hybrid: bool) -> CgroupRung {
    let none = |why: String| CgroupRung::None { why };
    // To move a process from our group into one below, the kernel wants write access to both lists and to that of
    // their common ancestor, our own.
    if let Err(errno) = access(&base.join("cgroup.procs"), AccessFlags::W_OK) {
        return none(format!(
            "{} is not ours to change ({})",
            base.display(),
            errno.desc()
        ));
    }
    let name = format!("hpc-probe-{}", std::process::id());
    match Group::create(&base, &name) {
        Ok(probe) => {
            let has_kill = probe.path.join("cgroup.kill").exists();
            let _ = probe.remove();
            CgroupRung::V2 {
                base,
                hybrid,
                has_kill,
            }
        }
        Err(cause) => none(format!(
            "cannot make a group in {}: {cause}",
            base.display()
        )),
    }
}

/// One group of ours. Dropping the value leaves the group alone: it outlives the process that made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    path: PathBuf,
}

impl Group {
    /// Makes the group `name`, which must begin with `hpc-`; one left over from before is used again.
    pub fn create(base: &Path, name: &str) -> io::Result<Self> {
        assert!(
            name.starts_with("hpc-") && !name.contains('/'),
            "cgroups of ours are direct children and recognisable: {name}"
        );
        let path = base.join(name);
        match fs::create_dir(&path) {
            Err(cause) if cause.kind() != ErrorKind::AlreadyExists => Err(cause),
            _ => Ok(Self { path }),
        }
    }

    /// A group that another process of ours made.
    pub fn open(path: PathBuf) -> Self {
        Self { path }
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The list that a process joins by writing `0` to it; for `SpawnRequest::cgroups`.
    pub fn joining_fd(&self) -> io::Result<OwnedFd> {
        let list = OpenOptions::new()
            .write(true)
            .open(self.path.join("cgroup.procs"))?;
        Ok(list.into())
    }

    /// The processes in it, those of groups below it not included.
    pub fn processes(&self) -> io::Result<Vec<i32>> {
        let list = fs::read_to_string(self.path.join("cgroup.procs"))?;
        Ok(list.lines().flat_map(str::parse).collect())
    }

    /// Whether any process is in it or below it; `false` when the group is gone.
    pub fn is_populated(&self) -> bool {
        let events = fs::read_to_string(self.path.join("cgroup.events")).unwrap_or_default();
        value_of(&events, "populated") == Some(1)
    }

    /// Sends SIGKILL to all processes in it and below it. Where the kernel has no `cgroup.kill`, processes that
    /// fork meanwhile may be missed: repeat while [`Group::is_populated`].
    pub fn kill(&self) -> io::Result<()> {
        match fs::write(self.path.join("cgroup.kill"), "1") {
            // Creating a file is refused in this file system, as EPERM or EACCES.
            Err(cause)
                if matches!(
                    cause.kind(),
                    ErrorKind::NotFound | ErrorKind::PermissionDenied
                ) =>
            {
                self.kill_each()
            }
            outcome => outcome,
        }
    }

    fn kill_each(&self) -> io::Result<()> {
        for below in self.below()? {
            below.kill_each()?;
        }
        for pid in self.processes()? {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        Ok(())
    }

    /// Removes it and the groups below it. Fails with EBUSY while processes are left, zombies aside.
    pub fn remove(&self) -> io::Result<()> {
        for below in self.below()? {
            below.remove()?;
        }
        match fs::remove_dir(&self.path) {
            Err(cause) if cause.kind() == ErrorKind::NotFound => Ok(()),
            outcome => outcome,
        }
    }

    fn below(&self) -> io::Result<Vec<Self>> {
        let entries = match fs::read_dir(&self.path) {
            Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            outcome => outcome?,
        };
        let mut groups = Vec::new();
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                groups.push(Self { path: entry.path() });
            }
        }
        Ok(groups)
    }

    /// Processor time that its processes have used, microseconds.
    pub fn cpu_usage_us(&self) -> Option<u64> {
        let stat = fs::read_to_string(self.path.join("cpu.stat")).ok()?;
        value_of(&stat, "usage_usec")
    }

    /// The most memory it has held, bytes; where the memory controller is on and the kernel counts it (5.19).
    pub fn memory_peak(&self) -> Option<u64> {
        let text = fs::read_to_string(self.path.join("memory.peak")).ok()?;
        text.trim().parse().ok()
    }
}

/// A number in a file of `name value` lines.
fn value_of(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(' ')?;
        (key == name).then(|| value.parse().ok())?
    })
}

#[cfg(test)]
#[allow(clippy::print_stderr, reason = "a test that cannot run here says so")]
mod tests {
    use super::*;
    use crate::sys::reap::{ExitStatusRaw, wait_for};
    use crate::sys::spawn::{SpawnRequest, c_strings, spawn};
    use std::os::fd::AsFd;

    #[test]
    fn our_group_is_located_in_recorded_tables() {
        let v1 = "36 31 0:33 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n";
        let mixed = "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let pure = "30 23 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        let part = "30 23 0:26 /box /my\\040cg rw - cgroup2 cgroup2 rw\n";
        let hybrid = format!("{v1}{mixed}");
        for (mounts, own, expected) in [
            (pure, "0::/a/b\n", Ok(("/sys/fs/cgroup/a/b", false))),
            (
                hybrid.as_str(),
                "1:cpu:/x\n0::/\n",
                Ok(("/sys/fs/cgroup/unified/", true)),
            ),
            (part, "0::/box/in\n", Ok(("/my cg/in", false))),
            (part, "0::/else\n", Err("our own group is not visible here")),
            (v1, "1:cpu:/x\n", Err("version 2 is not mounted")),
            (
                pure,
                "1:cpu:/x\n",
                Err("this process is in no group of version 2"),
            ),
            ("", "", Err("version 2 is not mounted")),
        ] {
            let located = locate(mounts, own);
            let expected = expected.map(|(path, hybrid)| (PathBuf::from(path), hybrid));
            assert_eq!(located, expected, "{mounts}");
        }
    }

    #[test]
    fn a_group_counts_and_ends_its_processes_needs_root() {
        let rung = find_rung();
        let CgroupRung::V2 { base, .. } = &rung else {
            eprintln!("SKIPPED a_group_counts_and_ends_its_processes_needs_root: {rung}");
            return;
        };
        for by_hand in [false, true] {
            let name = format!("hpc-test-{}", std::process::id());
            let group = Group::create(base, &name).unwrap();
            assert!(!group.is_populated());
            let arguments = c_strings(["sh", "-c", "setsid sleep 100 & wait"]).unwrap();
            let mut request = SpawnRequest::new(c"/bin/sh", &arguments, &[]);
            let list = group.joining_fd().unwrap();
            let lists = [list.as_fd()];
            request.cgroups = &lists;
            let pid = spawn(&request).unwrap().pid;
            while group.processes().unwrap().len() < 2 {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            assert!(group.is_populated());
            assert!(group.processes().unwrap().contains(&pid));
            assert_eq!(group.remove().unwrap_err().kind(), ErrorKind::ResourceBusy);
            if by_hand {
                group.kill_each().unwrap();
            } else {
                group.kill().unwrap();
            }
            let status = wait_for(pid).unwrap().status;
            assert_eq!(
                status,
                ExitStatusRaw::Signaled {
                    signal: 9,
                    core: false
                }
            );
            while group.is_populated() {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            assert!(group.cpu_usage_us().is_some());
            if let Some(peak) = group.memory_peak() {
                assert!(peak > 0);
            }
            group.remove().unwrap();
            group.remove().unwrap();
            assert!(!group.path().exists());
        }
    }

    #[test]
    fn the_rung_says_what_is_missing() {
        let rung = CgroupRung::V2 {
            base: PathBuf::from("/g"),
            hybrid: true,
            has_kill: false,
        };
        let text = "cgroup v2 at /g, beside v1: no limits, without cgroup.kill";
        assert_eq!(rung.to_string(), text);
        let rung = try_out(PathBuf::from("/no/such"), false);
        let text = "no cgroups: /no/such is not ours to change (No such file or directory)";
        assert_eq!(rung.to_string(), text);
    }
}
