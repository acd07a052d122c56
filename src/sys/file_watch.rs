//! The kernel's word that a file was written, for asynchronous waiting.
#![expect(
    unsafe_code,
    reason = "tokio asks its caller to vouch for the descriptor"
)]

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::PathBuf;
use tokio::io::unix::AsyncFd;

/// A watch on one open file. File systems on the network report only what this machine writes.
#[derive(Debug)]
pub struct FileWatch {
    /// `None` only while it is dropped.
    fd: Option<AsyncFd<Watched>>,
}

#[derive(Debug)]
struct Watched(Inotify);

impl AsRawFd for Watched {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl FileWatch {
    /// Watches an open file, whatever its name is now; `None` where the kernel has no more watches.
    pub fn new(file: &File) -> Option<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).ok()?;
        let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        inotify.add_watch(&path, AddWatchFlags::IN_MODIFY).ok()?;
        // SAFETY: the descriptor is open, is `inotify`'s alone, stays the same and lives as long as `Watched`.
        let fd = unsafe { AsyncFd::register(Watched(inotify)) }.ok()?;
        Some(FileWatch { fd: Some(fd) })
    }

    /// Until the file was written.
    pub async fn changed(&self) {
        let Some(fd) = &self.fd else { return };
        if let Ok(mut ready) = fd.readable().await {
            while fd.get_ref().0.read_events().is_ok() {}
            ready.clear_ready();
        }
    }
}

impl Drop for FileWatch {
    /// The kernel closes a watch only once nobody anywhere can be looking at it, which took 5 to 15 ms: not on a thread
    /// that others wait for.
    fn drop(&mut self) {
        let inotify = self.fd.take().map(AsyncFd::into_inner);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn_blocking(move || drop(inotify));
        }
    }
}
