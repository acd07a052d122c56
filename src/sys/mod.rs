//! Every `unsafe` block and FFI call, behind safe functions.
//!
//! This is the only folder where `unsafe` may appear. What it offers is mechanism: which process to start
//! and when to end it is decided by `steps/` and carried out by `shepherd/`. Begin with [`spawn`], through
//! which every user process of `hpc` starts, then [`reap`], which sees to it that nothing of it stays behind.
//! `nix`'s `Epoll` is safe and thin already, so event loops use it as it is.
//!
//! The rest of the crate is denied `unsafe`; a file here that needs it opens with `#![expect(unsafe_code)]` and a
//! reason, and each block stands under a `// SAFETY:` sentence.
#![allow(
    clippy::disallowed_methods,
    reason = "an adapter: talking to the kernel is what it is for"
)]

pub mod affinity;
pub mod cgroup;
pub mod clock;
pub mod file_watch;
pub mod files;
pub mod identity;
pub mod inherited;
pub mod notify;
pub mod pmix;
pub mod reap;
pub mod signals;
pub mod spawn;
pub mod tcp_peer;
pub mod terminal;

mod udev_absent;
