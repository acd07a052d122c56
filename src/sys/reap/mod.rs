//! The end of processes: collecting them with what they used, and leaving none behind.
//!
//! A shepherd is a *child subreaper*: whatever its tasks leave behind (double forks, daemons in sessions of their
//! own) becomes its own child when its parent ends. So [`KillSweep`] can end all of it without cgroups, and
//! "`wait4` knows no child" proves that nothing is left. Reading `/proc` is `process.rs`.
#![expect(unsafe_code, reason = "nix has no wait4, which alone tells the usage")]

mod process;
mod sweep;
#[cfg(test)]
mod tests;

use std::ptr;

use nix::errno::Errno;

pub use process::{ProcessStat, descendants, read_environ_marker};
pub use sweep::{KillSweep, SweepScope, SweepState};

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatusRaw {
    /// By itself.
    Exited {
        /// Its exit code, 0 to 255.
        code: i32,
    },
    /// By a signal.
    Signaled {
        /// The signal's number.
        signal: i32,
        /// It left a core dump.
        core: bool,
    },
}

/// What a process and its waited-for children used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ResourceUsage {
    /// Processor time in user mode, microseconds.
    pub utime_us: u64,
    /// Processor time in the kernel, microseconds.
    pub stime_us: u64,
    /// The largest resident set of any one process among them.
    pub max_rss_kib: u64,
    /// Blocks of 512 bytes read from devices.
    pub in_block: u64,
    /// Blocks of 512 bytes written to devices.
    pub out_block: u64,
}

/// A process that was collected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reaped {
    /// Its id, which may be used anew from now on.
    pub pid: i32,
    /// How it ended.
    pub status: ExitStatusRaw,
    /// What it used.
    pub usage: ResourceUsage,
}

/// What there was to collect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waited {
    /// An ended process.
    Ended(Reaped),
    /// All children still run.
    NoneEnded,
    /// There is no child at all, alive or ended: the proof that everything is gone.
    NoChildren,
}

/// Makes orphaned descendants of this process its own children, rather than those of pid 1.
pub fn set_child_subreaper() -> std::io::Result<()> {
    Ok(nix::sys::prctl::set_child_subreaper(true)?)
}

/// Collects one ended child of any kind, if there is one.
pub fn wait_any_nohang() -> Option<Reaped> {
    match wait_any() {
        Waited::Ended(reaped) => Some(reaped),
        Waited::NoneEnded | Waited::NoChildren => None,
    }
}

/// Collects one ended child of any kind, or says why there is none; never waits.
pub fn wait_any() -> Waited {
    match wait4(-1, libc::WNOHANG | libc::__WALL) {
        Ok(Some(reaped)) => Waited::Ended(reaped),
        Ok(None) => Waited::NoneEnded,
        Err(_) => Waited::NoChildren,
    }
}

/// Waits for one child of ours to end; `None` when it is not (or no longer) our child.
pub fn wait_for(pid: i32) -> Option<Reaped> {
    wait4(pid, libc::__WALL).ok().flatten()
}

fn wait4(pid: i32, options: i32) -> Result<Option<Reaped>, Errno> {
    loop {
        let mut status = 0;
        // SAFETY: an rusage is plain C data, for which zeroes are a value.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: both pointers are to locals of the types that the call fills.
        let found =
            unsafe { libc::wait4(pid, ptr::from_mut(&mut status), options, &raw mut usage) };
        match found {
            0 => return Ok(None),
            -1 if Errno::last() == Errno::EINTR => {}
            -1 => return Err(Errno::last()),
            pid => {
                return Ok(Some(Reaped {
                    pid,
                    status: exit_status(status),
                    usage: resource_usage(&usage),
                }));
            }
        }
    }
}

fn exit_status(status: i32) -> ExitStatusRaw {
    if libc::WIFSIGNALED(status) {
        ExitStatusRaw::Signaled {
            signal: libc::WTERMSIG(status),
            core: libc::WCOREDUMP(status),
        }
    } else {
        ExitStatusRaw::Exited {
            code: libc::WEXITSTATUS(status),
        }
    }
}

fn resource_usage(usage: &libc::rusage) -> ResourceUsage {
    let count = |value: i64| u64::try_from(value).unwrap_or(0);
    let microseconds = |time: libc::timeval| count(time.tv_sec) * 1_000_000 + count(time.tv_usec);
    ResourceUsage {
        utime_us: microseconds(usage.ru_utime),
        stime_us: microseconds(usage.ru_stime),
        max_rss_kib: count(usage.ru_maxrss),
        in_block: count(usage.ru_inblock),
        out_block: count(usage.ru_oublock),
    }
}
