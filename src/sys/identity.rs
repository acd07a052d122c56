//! Who somebody is, and acting as somebody for a moment.
//!
//! Whom a request comes from is what the kernel says of the socket's other end, never what a message claims.
//! [`as_user`] opens a user's file with the user's own rights while we are root; whole processes become a user
//! in [`super::spawn`].
#![expect(
    unsafe_code,
    reason = "credentials of one thread can only be set by raw system calls"
)]

use std::ffi::CString;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::{Gid, Uid, User};

/// The process at the other end of a Unix socket, as it was when it connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerCredentials {
    /// Its effective user.
    pub uid: u32,
    /// Its effective group.
    pub gid: u32,
    /// Its process id; by now it may be another's.
    pub pid: i32,
}

/// A user account of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The login name.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Home directory.
    pub home: PathBuf,
    /// Login shell.
    pub shell: PathBuf,
}

/// Who is at the other end of a connected Unix socket.
pub fn peer_credentials(socket: impl AsFd) -> io::Result<PeerCredentials> {
    let peer = getsockopt(&socket, sockopt::PeerCredentials)?;
    Ok(PeerCredentials {
        uid: peer.uid(),
        gid: peer.gid(),
        pid: peer.pid(),
    })
}

/// Whether this process acts as root.
pub fn is_root() -> bool {
    Uid::effective().is_root()
}

/// The account with this id. May ask the network (LDAP), so it is not for event loops that must not wait.
pub fn account_by_uid(uid: u32) -> io::Result<Option<Account>> {
    Ok(User::from_uid(Uid::from_raw(uid))?.map(account))
}

/// The account with this name; may ask the network like [`account_by_uid`].
pub fn account_by_name(name: &str) -> io::Result<Option<Account>> {
    Ok(User::from_name(name)?.map(account))
}

fn account(user: User) -> Account {
    Account {
        name: user.name,
        uid: user.uid.as_raw(),
        gid: user.gid.as_raw(),
        home: user.dir,
        shell: user.shell,
    }
}

/// All groups of a user, the given primary one among them; may ask the network.
pub fn groups_of(name: &str, gid: u32) -> io::Result<Vec<u32>> {
    let name = CString::new(name)?;
    let groups = nix::unistd::getgrouplist(&name, Gid::from_raw(gid))?;
    Ok(groups.into_iter().map(Gid::as_raw).collect())
}

/// Runs `f` with the file access rights of a user, on a thread of its own; for opening the user's files.
///
/// Only what decides about files changes (the "file system" ids, the groups, and the capabilities that go with
/// them), and only for that thread. The real ids stay root's on purpose: had the thread the user's, the user could
/// signal it and with it end this whole process. So `f` must not start programs or use `access(2)`.
///
/// Without root it runs `f` in place if we are that user already, and fails with EPERM otherwise.
pub fn as_user<T: Send>(
    uid: u32,
    gid: u32,
    groups: &[u32],
    f: impl FnOnce() -> T + Send,
) -> io::Result<T> {
    if Uid::effective().as_raw() == uid {
        return Ok(f());
    }
    if !is_root() {
        return Err(Errno::EPERM.into());
    }
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("as-user".to_owned());
        let handle = thread.spawn_scoped(scope, || {
            take_file_identity(uid, gid, groups)?;
            Ok(f())
        })?;
        match handle.join() {
            Ok(outcome) => outcome,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Gives this thread the user's file access rights, and proves it.
fn take_file_identity(uid: u32, gid: u32, groups: &[u32]) -> io::Result<()> {
    // Not glibc's setgroups, which would signal all threads to follow.
    // SAFETY: the kernel reads `groups.len()` ids from the slice.
    let set = unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) };
    Errno::result(set)?;
    // The group first: with the user go the capabilities.
    set_file_id(libc::SYS_setfsgid, gid);
    set_file_id(libc::SYS_setfsuid, uid);
    // These calls never fail but answer with the id before; an impossible id changes nothing and so asks for it.
    let took = (
        set_file_id(libc::SYS_setfsuid, u32::MAX),
        set_file_id(libc::SYS_setfsgid, u32::MAX),
    );
    if took != (i64::from(uid), i64::from(gid)) {
        return Err(Errno::EPERM.into());
    }
    Ok(())
}

fn set_file_id(call: libc::c_long, id: u32) -> i64 {
    // SAFETY: takes one integer and concerns this thread only.
    unsafe { libc::syscall(call, id) }
}

#[cfg(test)]
#[allow(clippy::print_stderr, reason = "a test that cannot run here says so")]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::os::unix::net::UnixStream;

    const NOBODY: u32 = 65534;

    #[test]
    fn a_socket_knows_its_peer() {
        let (one, _other) = UnixStream::pair().unwrap();
        let peer = peer_credentials(&one).unwrap();
        assert_eq!(peer.uid, Uid::effective().as_raw());
        assert_eq!(peer.gid, Gid::effective().as_raw());
        assert_eq!(peer.pid, nix::unistd::getpid().as_raw());
        assert!(peer_credentials(std::io::stdin()).is_err());
    }

    #[test]
    fn accounts_are_found() {
        let root = account_by_uid(0).unwrap().unwrap();
        assert_eq!((root.name.as_str(), root.gid), ("root", 0));
        assert_eq!(account_by_name("root").unwrap(), Some(root));
        assert_eq!(account_by_name("no-such-user-here").unwrap(), None);
        assert!(groups_of("root", 0).unwrap().contains(&0));
    }

    #[test]
    fn as_oneself_runs_in_place() {
        let thread = std::thread::current().id();
        let own = Uid::effective().as_raw();
        let seen = as_user(own, 0, &[], || std::thread::current().id()).unwrap();
        assert_eq!(seen, thread);
        if !is_root() {
            let refused = as_user(own + 1, 0, &[], || ()).unwrap_err();
            assert_eq!(refused.raw_os_error(), Some(libc::EPERM));
        }
    }

    #[test]
    fn files_are_opened_with_the_users_rights_needs_root() {
        if !is_root() {
            eprintln!("SKIPPED files_are_opened_with_the_users_rights_needs_root: needs root");
            return;
        }
        let scratch = tempfile::tempdir().unwrap();
        std::fs::set_permissions(scratch.path(), PermissionsExt::from_mode(0o777)).unwrap();
        let secret = scratch.path().join("secret");
        std::fs::write(&secret, "root's").unwrap();
        std::fs::set_permissions(&secret, PermissionsExt::from_mode(0o600)).unwrap();
        let made = scratch.path().join("made");
        let status = as_user(NOBODY, NOBODY, &[NOBODY, 4242], || {
            let refused = std::fs::read(&secret).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
            std::fs::write(&made, "the user's").unwrap();
            std::fs::read_to_string("/proc/thread-self/status").unwrap()
        })
        .unwrap();
        assert_eq!(std::fs::metadata(&made).unwrap().uid(), NOBODY);
        assert_eq!(std::fs::metadata(&made).unwrap().gid(), NOBODY);
        let line = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace()
                .skip(1)
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        // Real, effective and saved stay root's: no signal of the user's reaches us.
        assert_eq!(line("Uid:"), ["0", "0", "0", "65534"]);
        assert_eq!(line("Groups:"), ["4242", "65534"]);
        // Only that thread changed.
        assert_eq!(std::fs::read_to_string(&secret).unwrap(), "root's");
        let refused = as_user(u32::MAX, NOBODY, &[], || ()).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EPERM));
    }
}
