//! What happens between `clone` and `execve`, call by call.
//!
//! **Invariant:** this code runs in the parent's memory while the parent's thread waits. It allocates nothing,
//! takes no lock, cannot panic, and calls no libc function that does: only raw system calls, which concern the
//! new process alone. (glibc's `setuid` would signal every thread of the *parent* to change its user.)
#![expect(
    unsafe_code,
    reason = "raw system calls are the only safe ones between clone and execve"
)]

use std::cell::Cell;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, Ordering::Relaxed};
use std::time::Instant;

use libc::{c_char, c_int, c_long, c_void};

use super::SpawnStage;
use super::request::Identity;

/// What the child tells the parent, by writing into its memory.
#[derive(Default)]
pub(super) struct Report {
    /// The stage it has reached.
    pub(super) stage: AtomicU8,
    /// Why it went no further; 0 while nothing failed.
    pub(super) errno: AtomicI32,
    /// The fallback directory was entered.
    pub(super) used_fallback: AtomicBool,
}

/// Where a descriptor of the child's comes from.
pub(super) enum Source {
    /// `/dev/null`, opened anew: a shared description would share locks and flags between jobs.
    Null,
    /// A file to open.
    Open { path: *const c_char, flags: c_int },
    /// A descriptor that is there. One with the number of another's target is moved away first.
    Fd { fd: Cell<RawFd>, in_the_way: bool },
}

impl Source {
    /// A descriptor of ours that becomes `number` in the child.
    pub(super) fn inherit(fd: RawFd, number: RawFd, is_target: &impl Fn(RawFd) -> bool) -> Self {
        Self::Fd {
            fd: Cell::new(fd),
            in_the_way: fd != number && is_target(fd),
        }
    }
}

/// Everything the child needs, prepared by `request.rs`; pointers are to C strings and null-ended arrays.
pub(super) struct ChildPlan<'a> {
    pub(super) report: Report,
    pub(super) started: Instant,
    pub(super) deadline_ms: u32,
    pub(super) timer_event: &'a libc::sigevent,
    pub(super) timer: &'a libc::itimerspec,
    pub(super) terminal: Option<RawFd>,
    pub(super) cgroups: &'a [BorrowedFd<'a>],
    pub(super) affinity: Option<&'a [u64]>,
    pub(super) early_limits: &'a [(i32, libc::rlimit64)],
    pub(super) identity: Option<&'a Identity>,
    /// Room for as many groups as `identity` has.
    pub(super) groups_seen: *mut u32,
    pub(super) no_new_privs: bool,
    pub(super) die_with_parent: bool,
    pub(super) parent: i32,
    pub(super) umask: Option<u32>,
    pub(super) directory: Option<*const c_char>,
    pub(super) fallback_directory: Option<*const c_char>,
    pub(super) stdio: &'a [Source; 3],
    pub(super) kept: &'a [(Source, RawFd)],
    pub(super) free_from: RawFd,
    pub(super) close: &'a [(u32, u32)],
    pub(super) close_limit: u32,
    pub(super) late_limits: &'a [(i32, libc::rlimit64)],
    pub(super) program: *const c_char,
    pub(super) argv: *const *const c_char,
    pub(super) envp: *const *const c_char,
    /// Among those of `envp`.
    pub(super) pid_variables: &'a [PidVariable],
}

/// Digits of the largest process number.
const PID_DIGITS: usize = 10;

/// `NAME=`, and room for the child's number, which the child writes.
pub(super) struct PidVariable {
    text: Vec<AtomicU8>,
    digits_at: usize,
}

impl PidVariable {
    pub(super) fn new(name: &str) -> Self {
        let room = [0; PID_DIGITS + 1];
        let text = name.bytes().chain([b'=']).chain(room);
        PidVariable {
            text: text.map(AtomicU8::new).collect(),
            digits_at: name.len() + 1,
        }
    }

    /// As a C string, valid as long as this value.
    pub(super) fn as_ptr(&self) -> *const c_char {
        self.text.as_ptr().cast()
    }
}

impl ChildPlan<'_> {
    /// Whether the child's timer must have gone off; for the parent.
    pub(super) fn overdue(&self) -> bool {
        self.started.elapsed().as_millis() >= u128::from(self.deadline_ms)
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "request codes have 32 bits"
)]
const TIOCSCTTY: u32 = libc::TIOCSCTTY as u32;

/// An errno of a raw system call.
struct Failed(c_int);

/// An argument as the register that the kernel reads: a variadic call would leave the upper half of an `i32` open.
trait Word {
    fn word(self) -> usize;
}

impl Word for c_int {
    fn word(self) -> usize {
        self as isize as usize
    }
}

impl Word for u32 {
    fn word(self) -> usize {
        self as usize
    }
}

impl Word for usize {
    fn word(self) -> usize {
        self
    }
}

impl<T> Word for *const T {
    fn word(self) -> usize {
        self.expose_provenance()
    }
}

impl<T> Word for *mut T {
    fn word(self) -> usize {
        self.expose_provenance()
    }
}

/// A raw system call; arguments are integers or addresses.
macro_rules! call {
    ($number:expr $(, $argument:expr)*) => {{
        // SAFETY: every caller in this file passes addresses out of the `ChildPlan` (alive while the parent
        // waits) or of its own stack, with the sizes that the call expects. The call changes this process only.
        // `errno` is written in the parent's thread-local storage, which nobody reads while that thread waits.
        let value = unsafe { libc::syscall($number $(, Word::word($argument))*) };
        if value == -1 {
            // SAFETY: glibc's address of this thread's errno; no lock, no allocation.
            Err(Failed(unsafe { *libc::__errno_location() }))
        } else {
            Ok(value)
        }
    }};
}

/// The child's first function: goes through the steps and, if one fails, says so and ends.
pub(super) extern "C" fn child_main(argument: *mut c_void) -> c_int {
    // SAFETY: `clone_and_wait` passes a `ChildPlan` that lives until this process has left the parent's memory.
    let plan = unsafe { &*argument.cast::<ChildPlan<'_>>() };
    let Failed(errno) = steps(plan);
    plan.report.errno.store(errno, Relaxed);
    loop {
        let _ = call!(libc::SYS_exit_group, 127);
    }
}

/// The steps, in the one order that is right. Returns only when one failed.
fn steps(plan: &ChildPlan<'_>) -> Failed {
    let at = |stage: SpawnStage| plan.report.stage.store(stage as u8, Relaxed);
    let result = (|| {
        at(SpawnStage::Session);
        arm_timer(plan);
        reset_signal_handlers();
        call!(libc::SYS_setsid)?;
        if let Some(fd) = plan.terminal {
            at(SpawnStage::Terminal);
            call!(libc::SYS_ioctl, fd, TIOCSCTTY, 0)?;
        }
        at(SpawnStage::Cgroup);
        for group in plan.cgroups {
            call!(libc::SYS_write, group.as_raw_fd(), c"0".as_ptr(), 1)?;
        }
        at(SpawnStage::Affinity);
        bind_to_cores(plan)?;
        at(SpawnStage::Limits);
        set_limits(plan.early_limits)?;
        at(SpawnStage::Identity);
        if let Some(identity) = plan.identity {
            become_user(identity, plan.groups_seen)?;
        }
        at(SpawnStage::Safeguards);
        safeguards(plan)?;
        // From here on the kernel judges file access by the user's rights.
        at(SpawnStage::Directory);
        if let Some(mask) = plan.umask {
            call!(libc::SYS_umask, mask)?;
        }
        enter_directory(plan)?;
        at(SpawnStage::Descriptors);
        move_out_of_the_way(plan)?;
        let [stdin, stdout, stderr] = plan.stdio;
        at(SpawnStage::Stdin);
        place(stdin, 0, libc::O_RDONLY)?;
        at(SpawnStage::Stdout);
        place(stdout, 1, libc::O_WRONLY)?;
        at(SpawnStage::Stderr);
        place(stderr, 2, libc::O_WRONLY)?;
        at(SpawnStage::Descriptors);
        for (source, number) in plan.kept {
            place(source, *number, libc::O_RDWR)?;
        }
        close_all_others(plan);
        at(SpawnStage::Limits);
        set_limits(plan.late_limits)?;
        at(SpawnStage::Exec);
        write_pid(plan)?;
        // Handlers are gone, so a signal now does to this process what it would do to the program.
        let none = 0_u64;
        call!(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const none,
            ptr::null_mut::<u64>(),
            size_of::<u64>()
        )?;
        call!(libc::SYS_execve, plan.program, plan.argv, plan.envp)
    })();
    match result {
        Ok(_) => Failed(libc::ENOSYS),
        Err(failed) => failed,
    }
}

/// Says in its environment which process this is.
fn write_pid(plan: &ChildPlan<'_>) -> Result<(), Failed> {
    if plan.pid_variables.is_empty() {
        return Ok(());
    }
    let mut rest = call!(libc::SYS_getpid)?;
    let mut digits = [b'0'; PID_DIGITS];
    let mut count = 0;
    for digit in digits.iter_mut().rev() {
        *digit = b"0123456789"[usize::try_from(rest % 10).unwrap_or(0)];
        rest /= 10;
        count += 1;
        if rest == 0 {
            break;
        }
    }
    for variable in plan.pid_variables {
        let room = variable.text.iter().skip(variable.digits_at);
        for (place, digit) in room.zip(digits.iter().skip(PID_DIGITS - count)) {
            place.store(*digit, Relaxed);
        }
    }
    Ok(())
}

/// Best effort: without the timer a slow file system merely holds us longer.
fn arm_timer(plan: &ChildPlan<'_>) {
    let mut id: c_int = 0;
    let event = ptr::from_ref(plan.timer_event);
    let made = call!(
        libc::SYS_timer_create,
        libc::CLOCK_MONOTONIC,
        event,
        &raw mut id
    );
    if made.is_ok() {
        let old = ptr::null_mut::<libc::itimerspec>();
        let _ = call!(
            libc::SYS_timer_settime,
            id,
            0,
            ptr::from_ref(plan.timer),
            old
        );
    }
}

/// All to the default, ignored ones too: programs expect SIGPIPE to end them.
fn reset_signal_handlers() {
    // The kernel's sigaction is at most four words; zeroes are SIG_DFL, no flags, empty mask.
    let default = [0_u64; 4];
    for signal in 1..=64 {
        // SIGKILL and SIGSTOP answer EINVAL.
        let _ = call!(
            libc::SYS_rt_sigaction,
            signal,
            default.as_ptr(),
            ptr::null_mut::<u64>(),
            size_of::<u64>()
        );
    }
}

fn bind_to_cores(plan: &ChildPlan<'_>) -> Result<(), Failed> {
    let Some(words) = plan.affinity else {
        return Ok(());
    };
    let bytes = size_of_val(words);
    match call!(libc::SYS_sched_setaffinity, 0, bytes, words.as_ptr()) {
        // None of these cores is ours to use (a container, an offline core): better unbound than not at all.
        Ok(_) | Err(Failed(libc::EINVAL)) => Ok(()),
        Err(failed) => Err(failed),
    }
}

fn set_limits(limits: &[(i32, libc::rlimit64)]) -> Result<(), Failed> {
    for (resource, limit) in limits {
        let old = ptr::null_mut::<libc::rlimit64>();
        call!(libc::SYS_prlimit64, 0, *resource, ptr::from_ref(limit), old)?;
    }
    Ok(())
}

/// Groups first, then group, then user, since each needs the privilege that the last gives up; then the proof.
fn become_user(identity: &Identity, groups_seen: *mut u32) -> Result<(), Failed> {
    let Identity { uid, gid, groups } = identity;
    call!(libc::SYS_setgroups, groups.len(), groups.as_ptr())?;
    call!(libc::SYS_setresgid, *gid, *gid, *gid)?;
    call!(libc::SYS_setresuid, *uid, *uid, *uid)?;
    // We still run in the memory of root: the user must not trace or dump it. (Where the user changes, the kernel
    // sets fs.suid_dumpable, which an administrator may have raised.)
    call!(libc::SYS_prctl, libc::PR_SET_DUMPABLE, 0, 0, 0, 0)?;

    let (mut users, mut groups_of_three) = ([0_u32; 3], [0_u32; 3]);
    let [real, effective, saved] = &mut users;
    call!(
        libc::SYS_getresuid,
        ptr::from_mut(real),
        ptr::from_mut(effective),
        ptr::from_mut(saved)
    )?;
    let [real, effective, saved] = &mut groups_of_three;
    call!(
        libc::SYS_getresgid,
        ptr::from_mut(real),
        ptr::from_mut(effective),
        ptr::from_mut(saved)
    )?;
    let count = call!(libc::SYS_getgroups, groups.len(), groups_seen)?;
    // SAFETY: `groups_seen` has room for as many groups as we asked for, initialised by the parent.
    let seen = unsafe { std::slice::from_raw_parts(groups_seen, groups.len()) };
    let right = users.iter().all(|user| user == uid)
        && groups_of_three.iter().all(|group| group == gid)
        && count == c_long::try_from(groups.len()).unwrap_or(-1)
        && seen.iter().eq(groups.iter());
    let way_back = *uid != 0 && call!(libc::SYS_setresuid, 0, 0, 0).is_ok();
    if right && !way_back {
        Ok(())
    } else {
        Err(Failed(libc::EPERM))
    }
}

fn safeguards(plan: &ChildPlan<'_>) -> Result<(), Failed> {
    if plan.no_new_privs {
        call!(libc::SYS_prctl, libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)?;
    }
    if plan.die_with_parent {
        // After the change of user, which clears it. The parent may have died before: then nobody sends it.
        call!(
            libc::SYS_prctl,
            libc::PR_SET_PDEATHSIG,
            libc::SIGKILL,
            0,
            0,
            0
        )?;
        if call!(libc::SYS_getppid)? != c_long::from(plan.parent) {
            return Err(Failed(libc::ESRCH));
        }
    }
    Ok(())
}

fn enter_directory(plan: &ChildPlan<'_>) -> Result<(), Failed> {
    let Some(directory) = plan.directory else {
        return Ok(());
    };
    let Err(failed) = call!(libc::SYS_chdir, directory) else {
        return Ok(());
    };
    match plan.fallback_directory {
        Some(fallback) if call!(libc::SYS_chdir, fallback).is_ok() => {
            plan.report.used_fallback.store(true, Relaxed);
            Ok(())
        }
        _ => Err(failed),
    }
}

/// Lifts every descriptor that stands where another one belongs above all targets.
fn move_out_of_the_way(plan: &ChildPlan<'_>) -> Result<(), Failed> {
    for source in plan
        .stdio
        .iter()
        .chain(plan.kept.iter().map(|(source, _)| source))
    {
        if let Source::Fd {
            fd,
            in_the_way: true,
        } = source
        {
            let moved = call!(
                libc::SYS_fcntl,
                fd.get(),
                libc::F_DUPFD_CLOEXEC,
                plan.free_from
            )?;
            fd.set(c_int::try_from(moved).unwrap_or(-1));
        }
    }
    Ok(())
}

/// Makes `number` lead where the source says, open across `execve`.
fn place(source: &Source, number: RawFd, null_flags: c_int) -> Result<(), Failed> {
    let opened = match source {
        Source::Fd { fd, .. } if fd.get() == number => {
            call!(libc::SYS_fcntl, number, libc::F_SETFD, 0)?;
            return Ok(());
        }
        Source::Fd { fd, .. } => {
            call!(libc::SYS_dup3, fd.get(), number, 0)?;
            return Ok(());
        }
        Source::Null => open(c"/dev/null".as_ptr(), null_flags)?,
        Source::Open { path, flags } => {
            // A named pipe without a peer would hold us, and with us the parent.
            let opened = open(*path, *flags | libc::O_NONBLOCK | libc::O_NOCTTY)?;
            let kept_flags = *flags & libc::O_APPEND;
            call!(libc::SYS_fcntl, opened, libc::F_SETFL, kept_flags)?;
            opened
        }
    };
    if opened != number {
        call!(libc::SYS_dup3, opened, number, 0)?;
        call!(libc::SYS_close, opened)?;
    }
    Ok(())
}

fn open(path: *const c_char, flags: c_int) -> Result<RawFd, Failed> {
    let fd = call!(libc::SYS_openat, libc::AT_FDCWD, path, flags, 0o666)?;
    Ok(c_int::try_from(fd).unwrap_or(-1))
}

fn close_all_others(plan: &ChildPlan<'_>) {
    for &(first, last) in plan.close {
        if call!(libc::SYS_close_range, first, last, 0).is_err() {
            // A kernel before 5.9.
            for fd in first..=last.min(plan.close_limit) {
                let _ = call!(libc::SYS_close, fd);
            }
        }
    }
}
