//! Why a process did not start: the stage, the kernel's answer, the path, and what to do about it.
//!
//! Users read these lines in their output file and in `hpc history`, so they name the file and the way out.

use std::ffi::CStr;
use std::fmt;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::request::{SpawnRequest, Stdio};

/// What the child was doing; in the order in which it does it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum SpawnStage {
    /// The process could not be created at all.
    Clone,
    /// A new session and process group.
    Session,
    /// The controlling terminal.
    Terminal,
    /// Joining its cgroups.
    Cgroup,
    /// The cores it may run on.
    Affinity,
    /// Its resource limits.
    Limits,
    /// Becoming the user, and the proof of it.
    Identity,
    /// `no_new_privs` and dying with the parent.
    Safeguards,
    /// Entering the working directory.
    Directory,
    /// Making room for descriptors that stay open.
    Descriptors,
    /// Opening the standard input.
    Stdin,
    /// Opening the standard output.
    Stdout,
    /// Opening the standard error.
    Stderr,
    /// Running the program.
    Exec,
}

impl SpawnStage {
    const ALL: [Self; 14] = [
        Self::Clone,
        Self::Session,
        Self::Terminal,
        Self::Cgroup,
        Self::Affinity,
        Self::Limits,
        Self::Identity,
        Self::Safeguards,
        Self::Directory,
        Self::Descriptors,
        Self::Stdin,
        Self::Stdout,
        Self::Stderr,
        Self::Exec,
    ];

    pub(super) fn from_raw(raw: u8) -> Self {
        Self::ALL
            .get(usize::from(raw))
            .copied()
            .unwrap_or(Self::Clone)
    }

    fn doing(self) -> &'static str {
        match self {
            Self::Clone => "create a process",
            Self::Session => "start a session",
            Self::Terminal => "take the terminal",
            Self::Cgroup => "join the cgroup",
            Self::Affinity => "bind to cores",
            Self::Limits => "set resource limits",
            Self::Identity => "become the user",
            Self::Safeguards => "give up privileges",
            Self::Directory => "enter the directory",
            Self::Descriptors => "pass on descriptors",
            Self::Stdin => "open the standard input",
            Self::Stdout => "open the standard output",
            Self::Stderr => "open the standard error",
            Self::Exec => "run",
        }
    }
}

/// A process did not start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct SpawnError {
    /// What it was doing.
    pub stage: SpawnStage,
    /// What the kernel answered; `ETIMEDOUT` after the deadline, `EINTR` when something killed it on its way.
    pub errno: Errno,
    /// The file or directory concerned, where the stage has one.
    pub path: Option<PathBuf>,
    /// The way out, where we know it.
    pub hint: Option<&'static str>,
}

impl SpawnError {
    /// An error at a stage of this request, with the path that the stage was about.
    pub(super) fn new(request: &SpawnRequest<'_>, stage: SpawnStage, errno: Errno) -> Self {
        let path = match stage {
            SpawnStage::Directory => request.directory.map(to_path),
            SpawnStage::Stdin => stdio_path(&request.stdin),
            SpawnStage::Stdout => stdio_path(&request.stdout),
            SpawnStage::Stderr => stdio_path(&request.stderr),
            SpawnStage::Exec => Some(to_path(request.program)),
            _ => None,
        };
        let hint = hint(stage, errno, path.as_deref(), request.directory);
        Self {
            stage,
            errno,
            path,
            hint,
        }
    }

    /// An error about the program itself, found before any process was made.
    pub(super) fn program(path: PathBuf, errno: Errno, hint: Option<&'static str>) -> Self {
        Self {
            stage: SpawnStage::Exec,
            errno,
            path: Some(path),
            hint,
        }
    }
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}", self.stage.doing())?;
        if let Some(path) = &self.path {
            write!(f, " {}", path.display())?;
        }
        match self.errno {
            Errno::ETIMEDOUT => write!(f, ": took too long")?,
            Errno::EINTR => write!(f, ": killed on the way")?,
            errno => write!(f, ": {}", errno.desc())?,
        }
        match self.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

fn to_path(text: &CStr) -> PathBuf {
    PathBuf::from(std::ffi::OsStr::from_bytes(text.to_bytes()))
}

fn stdio_path(stdio: &Stdio<'_>) -> Option<PathBuf> {
    match stdio {
        Stdio::Null => Some(PathBuf::from("/dev/null")),
        Stdio::File { path, .. } => Some(to_path(path)),
        Stdio::Inherit(_) | Stdio::SameAsStdout => None,
    }
}

fn hint(
    stage: SpawnStage,
    errno: Errno,
    path: Option<&Path>,
    directory: Option<&CStr>,
) -> Option<&'static str> {
    match (stage, errno) {
        (SpawnStage::Exec, Errno::ENOEXEC) => {
            Some("neither a script that begins with #! nor a program for this machine's processor")
        }
        (SpawnStage::Exec, Errno::ENOENT) => missing_interpreter(path?, directory),
        (SpawnStage::Exec, Errno::EACCES) => {
            Some("is it executable by you, and its file system not mounted noexec?")
        }
        (SpawnStage::Exec, Errno::E2BIG) => Some("the arguments and environment are too long"),
        (SpawnStage::Exec | SpawnStage::Clone, Errno::EAGAIN) => {
            Some("the limit of processes of this user or machine is reached")
        }
        (SpawnStage::Stdout | SpawnStage::Stderr, Errno::ENOENT) => {
            Some("does its directory exist on this node?")
        }
        (SpawnStage::Stdout | SpawnStage::Stderr, Errno::ENXIO) => {
            Some("a named pipe that nobody reads")
        }
        (_, Errno::ETIMEDOUT) => Some("is the file system reachable?"),
        _ => None,
    }
}

/// `execve` says "no such file" also of a file that is there when the program named after its `#!` is not.
fn missing_interpreter(path: &Path, directory: Option<&CStr>) -> Option<&'static str> {
    let path = match directory {
        Some(directory) => to_path(directory).join(path),
        None => path.to_owned(),
    };
    if !std::fs::metadata(&path).ok()?.is_file() {
        return None;
    }
    let mut head = [0_u8; 256];
    let count = std::fs::File::open(&path).ok()?.read(&mut head).ok()?;
    let line = head[..count].split(|&byte| byte == b'\n').next()?;
    match (line.starts_with(b"#!"), line.ends_with(b"\r")) {
        (true, true) => Some("its #! line ends in a DOS line end; convert it with dos2unix"),
        (true, false) => Some("the program named in its #! line does not exist on this node"),
        (false, _) => Some("the loader it was linked with does not exist on this node"),
    }
}
