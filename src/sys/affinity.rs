//! Which cpus the calling thread runs on. Tasks are bound by [`super::spawn`] as they start.
#![expect(unsafe_code, reason = "nix's set of cpus ends at 1024")]

use super::spawn::CpuMask;
use nix::libc;
use std::io;

/// Binds this thread, and what it starts from now on, to these cpus; those that do not exist do not count.
///
/// # Errors
/// EINVAL when none of them may be used.
pub fn bind_this_thread(cpus: &CpuMask) -> io::Result<()> {
    let words = cpus.words();
    // SAFETY: the kernel reads so many bytes of a mask that is borrowed for the whole call, and writes nothing.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_sched_setaffinity,
            0,
            size_of_val(words),
            words.as_ptr(),
        )
    };
    if answer < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed() -> String {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        line.unwrap().trim().to_owned()
    }

    #[test]
    fn a_thread_is_bound_and_cpus_that_do_not_exist_change_nothing() {
        let bound = std::thread::spawn(|| {
            let all = crate::model::cpu_set::CpuSet::parse(&allowed()).unwrap();
            let first = all.first().map(u32::from).unwrap();
            assert!(bind_this_thread(&CpuMask::from_cpus([60_000])).is_err());
            assert_eq!(allowed(), all.to_string());
            bind_this_thread(&CpuMask::from_cpus([first, 60_000])).unwrap();
            assert_eq!(allowed(), first.to_string());
        });
        bound.join().unwrap();
    }
}
