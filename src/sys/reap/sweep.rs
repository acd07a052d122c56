//! Ending everything that a task, or a job, has left behind.
//!
//! ```text
//!     step: stop what is new ──> until a look finds nothing new ──> kill all ──> collect ──> gone? Done
//!                  ^                                                                 │
//!                  └──────────────── the next step, when SIGCHLD or a timer says so ─┘
//! ```
//!
//! Stopping before killing matters: processes that fork while we kill would always be one ahead, and a killed
//! parent's restart logic would run. A stopped process forks no more. Each step does a bounded amount of work, so
//! an event loop keeps its manners even against a fork bomb.
//!
//! A pid is signalled only while it surely names the process meant: our own children keep theirs until we collect
//! them; for others the start time is compared after a pidfd was opened.
#![expect(unsafe_code, reason = "nix has no pidfd_send_signal")]

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpid};

use super::process::{Family, ProcessStat, read_environ_marker};
use super::{Reaped, Waited, wait_any};

/// Which descendants of this process are to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SweepScope {
    /// All of them.
    Everything,
    /// All but these and their descendants: the tasks that still run.
    AllBut(BTreeSet<i32>),
    /// Those that some tasks left, while others run.
    Marked {
        /// The variable that every task has in its environment,
        name: String,
        /// and its values for the tasks in question.
        values: BTreeSet<String>,
        /// Sessions that are known to be those of the tasks; their own pids, usually.
        sessions: BTreeSet<i32>,
        /// Tasks that still run; neither they nor their descendants are looked at.
        spared: BTreeSet<i32>,
    },
}

/// How far a sweep has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SweepState {
    /// Call again when a child has ended, or after some milliseconds.
    Running,
    /// Nothing of it is left.
    Done,
    /// At the deadline these still existed: in an uninterruptible wait, or not ours to signal.
    Stuck(Vec<i32>),
}

/// Looks for new processes per step; a chain of processes that fork and exit is caught by being quick.
const LOOKS_PER_STEP: u32 = 64;

/// One sweep; see the module.
#[derive(Debug)]
pub struct KillSweep {
    scope: SweepScope,
    deadline_ms: u64,
    /// What was stopped already: pid and start time.
    stopped: BTreeMap<i32, u64>,
}

impl KillSweep {
    /// A sweep that gives up at a time of the clock whose present is told to each step.
    pub fn new(scope: SweepScope, deadline_ms: u64) -> Self {
        Self {
            scope,
            deadline_ms,
            stopped: BTreeMap::new(),
        }
    }

    /// Does a bounded part of the work. Every child that was collected meanwhile, swept or not, is added to
    /// `reaped`: among them may be a task whose end the caller waits for.
    pub fn step(&mut self, now_ms: u64, reaped: &mut Vec<Reaped>) -> SweepState {
        if collect(reaped) == Waited::NoChildren {
            return SweepState::Done;
        }
        let mut found = Vec::new();
        let mut quiet = 0;
        for _ in 0..LOOKS_PER_STEP {
            found = self.find();
            let news: Vec<&ProcessStat> = found.iter().filter(|stat| self.is_new(stat)).collect();
            quiet = if news.is_empty() { quiet + 1 } else { 0 };
            // One quiet look may have missed a process whose parent ended during it.
            if quiet == 2 {
                break;
            }
            let stopped: Vec<(i32, u64)> = news
                .into_iter()
                .map(|stat| {
                    signal(stat, Signal::SIGSTOP);
                    (stat.pid, stat.start_ticks)
                })
                .collect();
            self.stopped.extend(stopped);
        }
        if found.is_empty() && quiet == 2 {
            return SweepState::Done;
        }
        for stat in &found {
            signal(stat, Signal::SIGKILL);
        }
        if collect(reaped) == Waited::NoChildren {
            SweepState::Done
        } else if now_ms >= self.deadline_ms {
            SweepState::Stuck(found.iter().map(|stat| stat.pid).collect())
        } else {
            SweepState::Running
        }
    }

    fn is_new(&self, stat: &ProcessStat) -> bool {
        self.stopped.get(&stat.pid) != Some(&stat.start_ticks)
    }

    /// The processes in scope. Zombies are among them: they are to be collected, and one that looks dead may have
    /// threads that are not.
    fn find(&self) -> Vec<ProcessStat> {
        let family = Family::look();
        let nothing = BTreeSet::new();
        let spared = match &self.scope {
            SweepScope::Everything => &nothing,
            SweepScope::AllBut(spared) | SweepScope::Marked { spared, .. } => spared,
        };
        let mut found = Vec::new();
        let mut pending: Vec<(i32, bool)> = Vec::new();
        let add = |pending: &mut Vec<(i32, bool)>, parent: i32, inherited: bool| {
            let children = family.children(parent).into_iter();
            let children = children.filter(|child| !spared.contains(child));
            pending.extend(children.map(|child| (child, inherited)));
        };
        add(&mut pending, getpid().as_raw(), false);
        while let Some((pid, inherited)) = pending.pop() {
            let Some(stat) = ProcessStat::read(pid) else {
                continue;
            };
            let meant = inherited || self.is_meant(&stat);
            if meant {
                found.push(stat);
            }
            add(&mut pending, pid, meant);
        }
        found
    }

    fn is_meant(&self, stat: &ProcessStat) -> bool {
        match &self.scope {
            SweepScope::Everything | SweepScope::AllBut(_) => true,
            SweepScope::Marked {
                name,
                values,
                sessions,
                ..
            } => {
                !self.is_new(stat)
                    || sessions.contains(&stat.session)
                    || read_environ_marker(stat.pid, name)
                        .is_some_and(|value| values.contains(&value))
            }
        }
    }
}

/// Collects all that has ended; says whether any child remains.
fn collect(reaped: &mut Vec<Reaped>) -> Waited {
    loop {
        match wait_any() {
            Waited::Ended(one) => reaped.push(one),
            other => return other,
        }
    }
}

/// Signals exactly this process. Failures show as its still being there.
fn signal(stat: &ProcessStat, signal: Signal) {
    if stat.parent == getpid().as_raw() {
        let _ = kill(Pid::from_raw(stat.pid), signal);
        return;
    }
    let Ok(pidfd) = pidfd_open(stat.pid) else {
        return;
    };
    let same = ProcessStat::read(stat.pid).is_some_and(|now| now.start_ticks == stat.start_ticks);
    if same {
        let _ = pidfd_signal(&pidfd, signal);
    }
}

/// A descriptor that names a process for good, also after its id went to another.
fn pidfd_open(pid: i32) -> Result<OwnedFd, Errno> {
    // SAFETY: the call takes two integers.
    let fd = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    let fd = i32::try_from(fd).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn pidfd_signal(pidfd: &OwnedFd, signal: Signal) -> Result<(), Errno> {
    let none = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: a null siginfo asks the kernel to fill in its own.
    let done = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal as i32,
            none,
            0,
        )
    };
    Errno::result(done).map(drop)
}
