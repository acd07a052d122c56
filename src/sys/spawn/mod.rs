//! The one function which starts every user process.
//!
//! [`spawn`] behaves like `vfork`: the child runs in our memory, on a small stack of its own, while the calling
//! thread waits until the child has called `execve` or ended. Its cost therefore does not grow with our memory,
//! and a failure is reported through memory, without a pipe. The price is that the child may do nothing but raw
//! system calls: `request.rs` prepares every byte beforehand, and `child.rs` is the list of calls, worth reading
//! from top to bottom. Finding a bare program name in PATH is `program.rs`.
//!
//! Safe in a process with threads: only the calling thread waits, every signal is blocked around the call, the
//! stack belongs to the thread, and the child takes no lock and allocates nothing.
//!
//! A user can delay `open`, `chdir` and `execve` (a named pipe, a FUSE mount of his own, a stopped child), and we
//! would wait with him. So a timer of the child's own kills it after [`SpawnRequest::deadline_ms`].
#![expect(
    unsafe_code,
    reason = "clone with a stack of our own has no safe wrapper"
)]

mod child;
mod error;
mod program;
mod request;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::atomic::Ordering::Relaxed;
use std::{io, ptr};

use nix::errno::Errno;

pub use error::{SpawnError, SpawnStage};
pub use program::{DEFAULT_PATH, find_program};
pub use request::{CpuMask, FileUse, Identity, KeptFd, Limit, SpawnRequest, Stdio, c_strings};

use child::{ChildPlan, child_main};
use request::Prepared;

/// A process that has reached its program.
#[derive(Debug)]
pub struct Spawned {
    /// Its process id, which is also its session and process group.
    pub pid: i32,
    /// Becomes readable when the process has ended; close-on-exec.
    pub pidfd: OwnedFd,
    /// The directory asked for could not be entered and the fallback was used.
    pub used_fallback_directory: bool,
}

/// Bytes of stack for the child, beside its guard page. It needs about two thousand.
const STACK_BYTES: usize = 64 * 1024;

/// A stack for one child at a time, with a page below it that cannot be touched.
struct ChildStack {
    base: *mut libc::c_void,
    length: usize,
}

impl ChildStack {
    fn new() -> io::Result<Self> {
        // SAFETY: sysconf only reads a constant of the system.
        let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(65536);
        let length = STACK_BYTES + page;
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice touches no memory of ours.
        let base = unsafe {
            libc::mmap(
                ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let stack = Self { base, length };
        // SAFETY: the first page of the mapping just made; nothing lives there yet.
        if unsafe { libc::mprotect(base, page, libc::PROT_NONE) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(stack)
    }

    /// The end of the mapping, where a downward growing stack begins; page aligned.
    fn top(&self) -> *mut libc::c_void {
        self.base.wrapping_byte_add(self.length)
    }
}

impl Drop for ChildStack {
    fn drop(&mut self) {
        // SAFETY: base and length are those of our own mapping, and no child uses it: `spawn` returns after it left.
        unsafe { libc::munmap(self.base, self.length) };
    }
}

thread_local! {
    static STACK: RefCell<Option<ChildStack>> = const { RefCell::new(None) };
}

/// Starts a process and returns once it runs its program, or says at which stage it failed and why.
///
/// The child that failed is reaped here. `SIGCHLD` tells the parent when a started one has ended.
pub fn spawn(request: &SpawnRequest<'_>) -> Result<Spawned, SpawnError> {
    let prepared = Prepared::new(request)?;
    let plan = prepared.plan();
    let (pid, pidfd) = STACK
        .with_borrow_mut(|slot| {
            if slot.is_none() {
                *slot = Some(ChildStack::new()?);
            }
            let top = slot.as_ref().map_or(ptr::null_mut(), ChildStack::top);
            clone_and_wait(top, &plan)
        })
        .map_err(|cause| {
            let errno = Errno::from_raw(cause.raw_os_error().unwrap_or(libc::ENOMEM));
            SpawnError::new(request, SpawnStage::Clone, errno)
        })?;

    let stage = SpawnStage::from_raw(plan.report.stage.load(Relaxed));
    let errno = match plan.report.errno.load(Relaxed) {
        0 if stage == SpawnStage::Exec && !plan.overdue() => None,
        0 => killed_before_exec(&pidfd, stage, plan.overdue()),
        errno => Some(Errno::from_raw(errno)),
    };
    if let Some(errno) = errno {
        reap_failed(pid);
        return Err(SpawnError::new(request, stage, errno));
    }
    Ok(Spawned {
        pid,
        pidfd,
        used_fallback_directory: plan.report.used_fallback.load(Relaxed),
    })
}

/// Starts the child and comes back when it no longer uses our memory.
fn clone_and_wait(
    stack_top: *mut libc::c_void,
    plan: &ChildPlan<'_>,
) -> io::Result<(i32, OwnedFd)> {
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD;
    let mut pidfd: libc::c_int = -1;
    // All 64, also the two that glibc keeps for itself: no handler of ours may ever run in the child.
    let every_signal = u64::MAX;
    let mut before = 0_u64;
    set_signal_mask(&every_signal, &mut before);
    // SAFETY: `stack_top` ends a live mapping that only this thread uses. `plan` outlives the child's use of it,
    // because CLONE_VFORK holds this thread until the child has left our memory. `child_main` makes raw system
    // calls only. glibc's clone takes no lock; its fifth argument receives the pidfd.
    let pid = unsafe {
        libc::clone(
            child_main,
            stack_top,
            flags,
            ptr::from_ref(plan).cast_mut().cast(),
            &raw mut pidfd,
        )
    };
    let outcome = if pid < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    };
    let mut during = 0_u64;
    set_signal_mask(&before, &mut during);
    outcome?;
    if pidfd < 0 {
        // A kernel before 5.2 ignores CLONE_PIDFD.
        // SAFETY: kill touches no memory; the pid is our own unreaped child.
        unsafe { libc::kill(pid, libc::SIGKILL) };
        reap_failed(pid);
        return Err(io::Error::from_raw_os_error(libc::ENOSYS));
    }
    // SAFETY: the kernel has just made this descriptor for us and nobody else knows it.
    Ok((pid, unsafe { OwnedFd::from_raw_fd(pidfd) }))
}

fn set_signal_mask(new: &u64, old: &mut u64) {
    // SAFETY: both pointers are to 64-bit masks, the size that the call is told.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            ptr::from_ref(new),
            ptr::from_mut(old),
            size_of::<u64>(),
        );
    }
}

/// The child reported nothing: was it killed on its way, and was that our timer?
///
/// A dying process leaves our memory a moment before it can be waited for. Before the last stage it is surely
/// dying; in the last one, and overdue, it may as well have reached its program in the end.
fn killed_before_exec(pidfd: &OwnedFd, stage: SpawnStage, overdue: bool) -> Option<Errno> {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use nix::sys::signal::Signal;
    use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
    use std::os::fd::AsFd;
    let surely_dying = stage != SpawnStage::Exec;
    let patience = if surely_dying {
        PollTimeout::NONE
    } else {
        PollTimeout::from(20_u8)
    };
    let mut ended = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    while poll(&mut ended, patience) == Err(Errno::EINTR) {}
    let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    let status = waitid(Id::PIDFd(pidfd.as_fd()), look);
    let killed = matches!(status, Ok(WaitStatus::Signaled(_, Signal::SIGKILL, _)));
    if killed && overdue {
        Some(Errno::ETIMEDOUT)
    } else {
        surely_dying.then_some(Errno::EINTR)
    }
}

/// Waits for a child which is known to be ending.
fn reap_failed(pid: i32) {
    let pid = nix::unistd::Pid::from_raw(pid);
    while nix::sys::wait::waitpid(pid, None) == Err(Errno::EINTR) {}
}
