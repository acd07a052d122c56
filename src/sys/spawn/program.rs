//! Which file a program name means: the search through PATH that a shell would make.
//!
//! It runs in the parent, before the process exists. Whether the user may run the file is the kernel's to say,
//! at `execve`; here it only matters that a file exists and is executable by somebody. Where the agent is root
//! and homes are on NFS with root squash, call it through `sys::identity::as_user`.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::SpawnError;

/// Where programs are searched when the environment has no PATH.
pub const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin";

/// The absolute path of a program as the shell would find it: a name with a slash is a path below `cwd`, a bare
/// name is searched in the directories of `path_env`, whose empty and relative entries are below `cwd`.
pub fn find_program(
    name: &OsStr,
    path_env: Option<&OsStr>,
    cwd: &Path,
) -> Result<PathBuf, SpawnError> {
    if name.is_empty() {
        return Err(SpawnError::program(
            PathBuf::new(),
            Errno::ENOENT,
            Some("the name is empty"),
        ));
    }
    if name.as_bytes().contains(&b'/') {
        let path = cwd.join(name);
        return match judge(&path) {
            // What we may not look at, the user perhaps may: the kernel will tell.
            Verdict::Runnable | Verdict::Hidden => Ok(path),
            Verdict::Refused(errno, hint) => Err(SpawnError::program(path, errno, hint)),
        };
    }
    let path_env = path_env.unwrap_or(OsStr::new(DEFAULT_PATH));
    let mut refused = None;
    for directory in path_env.as_bytes().split(|&byte| byte == b':') {
        let path = cwd.join(OsStr::from_bytes(directory)).join(name);
        match judge(&path) {
            Verdict::Runnable => return Ok(path),
            Verdict::Refused(Errno::ENOENT, _) => {}
            Verdict::Refused(errno, hint) => {
                refused.get_or_insert(SpawnError::program(path, errno, hint));
            }
            Verdict::Hidden => {
                refused.get_or_insert(SpawnError::program(path, Errno::EACCES, None));
            }
        }
    }
    Err(refused.unwrap_or_else(|| {
        let hint = Some("not found in PATH on this node");
        SpawnError::program(name.into(), Errno::ENOENT, hint)
    }))
}

enum Verdict {
    Runnable,
    Hidden,
    Refused(Errno, Option<&'static str>),
}

fn judge(path: &Path) -> Verdict {
    match std::fs::metadata(path) {
        Ok(data) if data.is_dir() => {
            Verdict::Refused(Errno::EISDIR, Some("a directory is not a program"))
        }
        Ok(data) if data.permissions().mode() & 0o111 == 0 => Verdict::Refused(
            Errno::EACCES,
            Some("it is not executable; chmod +x makes it so"),
        ),
        Ok(_) => Verdict::Runnable,
        Err(cause) if cause.kind() == io::ErrorKind::PermissionDenied => Verdict::Hidden,
        // A path through a file (ENOTDIR) means "not here", as in the shell.
        Err(cause) => match Errno::from_raw(cause.raw_os_error().unwrap_or(libc::ENOENT)) {
            Errno::ENOTDIR => Verdict::Refused(Errno::ENOENT, None),
            errno => Verdict::Refused(errno, None),
        },
    }
}
