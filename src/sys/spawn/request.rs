//! What is asked of [`super::spawn`], and its translation into bytes the child can use without thinking.
//!
//! Everything that allocates, looks up or decides happens here, in the parent.
#![expect(unsafe_code, reason = "a plain C structure begins as zeroes")]

use std::cell::Cell;
use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::ptr;
use std::time::Instant;

use nix::errno::Errno;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};

use super::child::{ChildPlan, PidVariable, Report, Source};
use super::{SpawnError, SpawnStage};

/// How a file is opened for a standard stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileUse {
    /// For reading; it must exist.
    Read,
    /// For writing, created or emptied; each write goes to the end.
    Truncate,
    /// For writing at its end, created when missing.
    Append,
}

/// Where a standard stream leads.
#[derive(Debug, Clone, Copy)]
pub enum Stdio<'a> {
    /// `/dev/null`.
    Null,
    /// A descriptor of ours: a pipe, a socket, a terminal.
    Inherit(BorrowedFd<'a>),
    /// A file, opened as the user after entering the working directory; created with mode 0666 less the umask.
    File {
        /// Its path; a relative one is below the working directory.
        path: &'a CStr,
        /// How it is opened.
        usage: FileUse,
    },
    /// For the standard error only: wherever the standard output leads.
    SameAsStdout,
}

/// Whom the process runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// User id, real, effective and saved.
    pub uid: u32,
    /// Group id, real, effective and saved.
    pub gid: u32,
    /// All supplementary groups.
    pub groups: Vec<u32>,
}

/// One resource limit. Without privileges it is cut to the hard limit we have ourselves.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    /// Which resource.
    pub resource: Resource,
    /// The limit in force; `RLIM_INFINITY` for none.
    pub soft: u64,
    /// How far the user may raise it.
    pub hard: u64,
}

/// The cores a process may run on, as the kernel writes them: one bit each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CpuMask {
    words: Vec<u64>,
}

impl CpuMask {
    /// Exactly these logical cpus, by their numbers in the operating system.
    pub fn from_cpus(cpus: impl IntoIterator<Item = u32>) -> Self {
        let mut words = vec![0_u64; 16];
        for cpu in cpus {
            let word = (cpu / 64) as usize;
            if word >= words.len() {
                words.resize(word + 1, 0);
            }
            words[word] |= 1 << (cpu % 64);
        }
        Self { words }
    }

    /// As the kernel reads it.
    pub(in crate::sys) fn words(&self) -> &[u64] {
        &self.words
    }
}

/// A descriptor that stays open in the process.
#[derive(Debug, Clone, Copy)]
pub struct KeptFd<'a> {
    /// Ours.
    pub fd: BorrowedFd<'a>,
    /// Its number in the process, 3 or more.
    pub number: RawFd,
}

/// Everything about a process to be started. Begin with [`SpawnRequest::new`] and set what differs.
#[derive(Debug, Clone)]
pub struct SpawnRequest<'a> {
    /// The file to execute; see [`super::find_program`].
    pub program: &'a CStr,
    /// The arguments, the program's name first.
    pub arguments: &'a [CString],
    /// The whole environment, each `NAME=value`.
    pub environment: &'a [CString],
    /// Names of further variables that hold the process's own number, which nobody knows before it is there.
    pub pid_variables: &'a [&'a str],
    /// The working directory; ours when absent.
    pub directory: Option<&'a CStr>,
    /// Entered when the working directory cannot be.
    pub fallback_directory: Option<&'a CStr>,
    /// The standard input.
    pub stdin: Stdio<'a>,
    /// The standard output.
    pub stdout: Stdio<'a>,
    /// The standard error.
    pub stderr: Stdio<'a>,
    /// Whom to run as; ourselves when absent. Without privileges only our own user is possible, and groups stay.
    pub identity: Option<&'a Identity>,
    /// Resource limits to set; all others are ours.
    pub limits: &'a [Limit],
    /// The file creation mask; ours when absent.
    pub umask: Option<u32>,
    /// The cores to bind to. Cores that are offline or outside our cpuset are left out by the kernel; if none
    /// remains, the binding is not made.
    pub affinity: Option<&'a CpuMask>,
    /// Open `cgroup.procs` files of the groups to join.
    pub cgroups: &'a [BorrowedFd<'a>],
    /// Further descriptors that stay open; every other one is closed.
    pub kept: &'a [KeptFd<'a>],
    /// A terminal (the slave side) to be the controlling one. Standard streams are set separately.
    pub terminal: Option<BorrowedFd<'a>>,
    /// Set-user-id programs give no privileges to the process and its descendants.
    pub no_new_privs: bool,
    /// SIGKILL when the **thread** that calls `spawn` ends.
    pub die_with_parent: bool,
    /// The child is killed if it has not reached its program after so many milliseconds.
    pub deadline_ms: u32,
}

impl<'a> SpawnRequest<'a> {
    /// A process with no standard streams that is otherwise as we are.
    pub fn new(
        program: &'a CStr,
        arguments: &'a [CString],
        environment: &'a [CString],
    ) -> SpawnRequest<'a> {
        SpawnRequest {
            program,
            arguments,
            environment,
            pid_variables: &[],
            directory: None,
            fallback_directory: None,
            stdin: Stdio::Null,
            stdout: Stdio::Null,
            stderr: Stdio::Null,
            identity: None,
            limits: &[],
            umask: None,
            affinity: None,
            cgroups: &[],
            kept: &[],
            terminal: None,
            no_new_privs: false,
            die_with_parent: false,
            deadline_ms: 20_000,
        }
    }
}

/// Texts as C strings; `None` when one of them contains a zero byte.
pub fn c_strings<S: AsRef<std::ffi::OsStr>>(
    texts: impl IntoIterator<Item = S>,
) -> Option<Vec<CString>> {
    texts
        .into_iter()
        .map(|text| CString::new(text.as_ref().as_bytes()).ok())
        .collect()
}

/// The owned half of a [`ChildPlan`]: arrays that the child reads.
pub(super) struct Prepared<'a> {
    request: &'a SpawnRequest<'a>,
    argv: Vec<*const libc::c_char>,
    envp: Vec<*const libc::c_char>,
    pid_variables: Vec<PidVariable>,
    identity: Option<Identity>,
    groups_seen: Vec<u32>,
    early_limits: Vec<(i32, libc::rlimit64)>,
    late_limits: Vec<(i32, libc::rlimit64)>,
    stdio: [Source; 3],
    kept: Vec<(Source, RawFd)>,
    /// Numbers at and above this are no target of any descriptor.
    free_from: RawFd,
    close: Vec<(u32, u32)>,
    close_limit: u32,
    timer: libc::itimerspec,
    timer_event: libc::sigevent,
}

impl<'a> Prepared<'a> {
    pub(super) fn new(request: &'a SpawnRequest<'a>) -> Result<Self, SpawnError> {
        let fail = |stage, errno| SpawnError::new(request, stage, errno);
        if request.arguments.is_empty() {
            return Err(fail(SpawnStage::Exec, Errno::EINVAL));
        }
        for (stage, stdio) in [
            (SpawnStage::Stdin, &request.stdin),
            (SpawnStage::Stdout, &request.stdout),
        ] {
            if matches!(stdio, Stdio::SameAsStdout) {
                return Err(fail(stage, Errno::EINVAL));
            }
        }
        let identity =
            identity_to_take(request.identity).map_err(|e| fail(SpawnStage::Identity, e))?;
        let groups = identity
            .as_ref()
            .map_or(0, |identity| identity.groups.len());
        let numbers = kept_numbers(request.kept).map_err(|e| fail(SpawnStage::Descriptors, e))?;
        let (early_limits, late_limits) =
            limits(request.limits).map_err(|e| fail(SpawnStage::Limits, e))?;

        let is_target = |fd: RawFd| (0..3).contains(&fd) || numbers.contains(&fd);
        let source = |stdio: &Stdio<'_>, number: RawFd| match *stdio {
            Stdio::Null => Source::Null,
            Stdio::File { path, usage } => Source::Open {
                path: path.as_ptr(),
                flags: open_flags(usage),
            },
            Stdio::Inherit(fd) => Source::inherit(fd.as_raw_fd(), number, &is_target),
            Stdio::SameAsStdout => Source::Fd {
                fd: Cell::new(1),
                in_the_way: false,
            },
        };
        let kept = request
            .kept
            .iter()
            .map(|kept| {
                let source = Source::inherit(kept.fd.as_raw_fd(), kept.number, &is_target);
                (source, kept.number)
            })
            .collect();

        let (timer_event, timer) = timer(request.deadline_ms);
        let pid_variables: Vec<PidVariable> = request
            .pid_variables
            .iter()
            .map(|name| PidVariable::new(name))
            .collect();
        let mut envp = pointers(request.environment);
        let end = envp.pop();
        envp.extend(pid_variables.iter().map(PidVariable::as_ptr).chain(end));
        Ok(Self {
            request,
            argv: pointers(request.arguments),
            envp,
            pid_variables,
            identity,
            groups_seen: vec![0; groups],
            early_limits,
            late_limits,
            stdio: [
                source(&request.stdin, 0),
                source(&request.stdout, 1),
                source(&request.stderr, 2),
            ],
            kept,
            free_from: numbers.last().map_or(3, |last| last + 1),
            close: gaps(&numbers),
            close_limit: descriptor_limit(),
            timer,
            timer_event,
        })
    }

    pub(super) fn plan(&self) -> ChildPlan<'_> {
        let request = self.request;
        ChildPlan {
            report: Report::default(),
            started: Instant::now(),
            deadline_ms: request.deadline_ms,
            timer_event: &self.timer_event,
            timer: &self.timer,
            terminal: request.terminal.map(|fd| fd.as_raw_fd()),
            cgroups: request.cgroups,
            affinity: request.affinity.map(CpuMask::words),
            early_limits: &self.early_limits,
            identity: self.identity.as_ref(),
            groups_seen: self.groups_seen.as_ptr().cast_mut(),
            no_new_privs: request.no_new_privs,
            die_with_parent: request.die_with_parent,
            parent: nix::unistd::getpid().as_raw(),
            umask: request.umask,
            directory: request.directory.map(CStr::as_ptr),
            fallback_directory: request.fallback_directory.map(CStr::as_ptr),
            stdio: &self.stdio,
            kept: &self.kept,
            free_from: self.free_from,
            close: &self.close,
            close_limit: self.close_limit,
            late_limits: &self.late_limits,
            program: request.program.as_ptr(),
            argv: self.argv.as_ptr(),
            envp: self.envp.as_ptr(),
            pid_variables: &self.pid_variables,
        }
    }
}

fn pointers(texts: &[CString]) -> Vec<*const libc::c_char> {
    let texts = texts.iter().map(|text| text.as_ptr());
    texts.chain([ptr::null()]).collect()
}

fn open_flags(usage: FileUse) -> i32 {
    match usage {
        FileUse::Read => libc::O_RDONLY,
        // Appending, as Slurm does: several tasks and our own notes share a file and overwrite nothing.
        FileUse::Truncate => libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC | libc::O_APPEND,
        FileUse::Append => libc::O_WRONLY | libc::O_CREAT | libc::O_APPEND,
    }
}

/// Root takes on the identity that is asked for; everyone else can only be asked to stay as they are.
fn identity_to_take(asked: Option<&Identity>) -> Result<Option<Identity>, Errno> {
    let Some(asked) = asked else { return Ok(None) };
    let own = nix::unistd::geteuid();
    if !own.is_root() {
        let same = own.as_raw() == asked.uid && nix::unistd::getuid() == own;
        return if same { Ok(None) } else { Err(Errno::EPERM) };
    }
    // Sorted as the kernel will sort them, so that the child can compare.
    let mut groups = asked.groups.clone();
    groups.sort_unstable();
    groups.dedup();
    Ok(Some(Identity {
        uid: asked.uid,
        gid: asked.gid,
        groups,
    }))
}

/// The numbers of the descriptors that stay open, in order.
fn kept_numbers(kept: &[KeptFd<'_>]) -> Result<Vec<RawFd>, Errno> {
    let mut numbers: Vec<RawFd> = kept.iter().map(|kept| kept.number).collect();
    numbers.sort_unstable();
    let distinct = numbers.windows(2).all(|pair| pair[0] != pair[1]);
    match numbers.first() {
        Some(&first) if first < 3 || !distinct => Err(Errno::EBADF),
        _ => Ok(numbers),
    }
}

/// The ranges of numbers from 3 on that are not in the sorted list.
fn gaps(numbers: &[RawFd]) -> Vec<(u32, u32)> {
    let mut gaps = Vec::with_capacity(numbers.len() + 1);
    let mut next = 3_u32;
    for &number in numbers {
        let number = number.unsigned_abs();
        if number > next {
            gaps.push((next, number - 1));
        }
        next = number + 1;
    }
    gaps.push((next, u32::MAX));
    gaps
}

/// How far to close one by one where the kernel has no `close_range`.
fn descriptor_limit() -> u32 {
    let soft = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft);
    u32::try_from(soft).unwrap_or(u32::MAX).min(65_536)
}

type RawLimits = Vec<(i32, libc::rlimit64)>;

/// Limits to set while still privileged, and the one that must wait: with few descriptors allowed, files could
/// not be opened any more.
fn limits(asked: &[Limit]) -> Result<(RawLimits, RawLimits), Errno> {
    let (mut early, mut late) = (Vec::with_capacity(asked.len()), Vec::new());
    let privileged = nix::unistd::geteuid().is_root();
    for limit in asked {
        let (own_soft, own_hard) = getrlimit(limit.resource)?;
        let hard = if privileged {
            limit.hard
        } else {
            limit.hard.min(own_hard)
        };
        let wanted = libc::rlimit64 {
            rlim_cur: limit.soft.min(hard),
            rlim_max: hard,
        };
        let number = limit.resource as i32;
        if limit.resource == Resource::RLIMIT_NOFILE {
            let roomy = libc::rlimit64 {
                rlim_cur: wanted.rlim_cur.max(own_soft),
                rlim_max: wanted.rlim_max.max(own_hard),
            };
            early.push((number, roomy));
            late.push((number, wanted));
        } else {
            early.push((number, wanted));
        }
    }
    const { assert!(RLIM_INFINITY == u64::MAX) };
    Ok((early, late))
}

/// A timer that ends the child; the kernel deletes it at `execve`.
fn timer(deadline_ms: u32) -> (libc::sigevent, libc::itimerspec) {
    // SAFETY: a sigevent is plain C data, for which zeroes are a value.
    let mut event: libc::sigevent = unsafe { std::mem::zeroed() };
    event.sigev_notify = libc::SIGEV_SIGNAL;
    event.sigev_signo = libc::SIGKILL;
    let timer = libc::itimerspec {
        it_interval: libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        },
        it_value: libc::timespec {
            tv_sec: i64::from(deadline_ms / 1000),
            tv_nsec: i64::from(deadline_ms % 1000) * 1_000_000,
        },
    };
    (event, timer)
}
