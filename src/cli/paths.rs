//! Where things live: state directory, socket, config file, log files and process ids.
//!
//! The table is in the manual (`hpc help up`). A plain user's default state directory ends in the machine's
//! id because homes may be shared between machines, and a store may not.

use super::exit::{self, Failure, Outcome};
use crate::model::hostlist;
use crate::model::refusal::Code;
use anyhow::Context;
use std::env;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

/// Longest socket path the kernel takes (`sun_path` less its closing zero).
pub(super) const SOCKET_PATH_MAX: usize = 107;
/// The system service's socket.
pub(super) const SYSTEM_SOCKET: &str = "/run/hpc/hpc.sock";
/// The system service's state.
const SYSTEM_STATE: &str = "/var/lib/hpc";
/// The system service's config.
const SYSTEM_CONFIG: &str = "/etc/hpc/hpc.toml";

/// The places of one cluster on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Places {
    /// State directory, absolute.
    pub(super) state: PathBuf,
    /// Socket, absolute.
    pub(super) socket: PathBuf,
}

/// A set environment variable that is not empty.
pub(super) fn variable(name: &str) -> Option<PathBuf> {
    env::var_os(name)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}

/// The nodes of the job around us, where its variables say them.
pub(super) fn job_nodes() -> Outcome<Option<Vec<String>>> {
    let names = ["HPC_JOB_NODELIST", "SLURM_JOB_NODELIST"].into_iter();
    let mut said = names.filter_map(|name| Some((name, env::var(name).ok()?)));
    let nodes = said.next().map(|(name, list)| {
        let wrong = |error| Failure::Usage(format!("{name}={list}: {error}"));
        hostlist::parse(&list).map_err(wrong)
    });
    nodes.transpose()
}

/// Whether we are root, whose cluster is the system's.
pub(super) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// The cluster that `--state-dir` and the environment mean.
pub(super) fn places(state_dir: Option<&Path>) -> Outcome<Places> {
    let chosen = state_dir
        .map(Path::to_path_buf)
        .or_else(|| variable("HPC_STATE_DIR"));
    let state = absolute(&chosen.clone().map_or_else(default_state, Ok)?)?;
    let socket = match (variable("HPC_SOCKET"), &chosen) {
        (Some(socket), _) => socket,
        (None, Some(_)) => state.join("hpc.sock"),
        (None, None) => default_socket()?,
    };
    let socket = absolute(&socket)?;
    check_length(&socket)?;
    Ok(Places { state, socket })
}

impl Places {
    /// Whether these are the places of the system's service.
    pub(super) fn is_system(&self) -> bool {
        self.state == Path::new(SYSTEM_STATE) && self.socket == Path::new(SYSTEM_SOCKET)
    }

    pub(super) fn controller_dir(&self) -> PathBuf {
        self.state.join("controller")
    }

    pub(super) fn worker_dir(&self) -> PathBuf {
        self.state.join("worker")
    }

    /// Where the controller keeps the address at which other machines reach it.
    pub(super) fn listening(&self) -> PathBuf {
        self.controller_dir().join("listen")
    }

    pub(super) fn controller_log(&self) -> PathBuf {
        self.controller_dir().join("controller.log")
    }

    pub(super) fn worker_log(&self) -> PathBuf {
        self.worker_dir().join("agent.log")
    }

    pub(super) fn controller_pid(&self) -> PathBuf {
        self.controller_dir().join("controller.pid")
    }

    pub(super) fn worker_pid(&self) -> PathBuf {
        self.worker_dir().join("agent.pid")
    }

    /// Makes the state directory alone.
    pub(super) fn create_state(&self) -> Outcome<()> {
        make_dir(&self.state, if is_root() { 0o755 } else { 0o700 })
    }

    /// Makes the directories: 0755 with private parts under root, all private under a user.
    pub(super) fn create(&self) -> Outcome<()> {
        let open_to_all = if is_root() { 0o755 } else { 0o700 };
        make_dir(&self.state, open_to_all)?;
        make_dir(&self.controller_dir(), 0o700)?;
        make_dir(&self.worker_dir(), open_to_all)?;
        if let Some(parent) = self.socket.parent()
            && parent != self.state
        {
            make_dir(parent, open_to_all)?;
        }
        Ok(())
    }
}

/// The config file to read: as given, or the default one if it exists.
pub(super) fn config_file(given: Option<&Path>) -> Option<PathBuf> {
    if let Some(path) = given
        .map(Path::to_path_buf)
        .or_else(|| variable("HPC_CONFIG"))
    {
        return Some(path);
    }
    let default = if is_root() {
        PathBuf::from(SYSTEM_CONFIG)
    } else {
        variable("XDG_CONFIG_HOME")
            .or_else(|| Some(variable("HOME")?.join(".config")))?
            .join("hpc/hpc.toml")
    };
    default.exists().then_some(default)
}

/// The socket of this user's own cluster.
pub(super) fn default_socket() -> Outcome<PathBuf> {
    if is_root() {
        return Ok(PathBuf::from(SYSTEM_SOCKET));
    }
    match variable("XDG_RUNTIME_DIR") {
        Some(runtime) => Ok(runtime.join("hpc/hpc.sock")),
        None => Ok(private_temporary()?.join("hpc.sock")),
    }
}

pub(super) fn default_state() -> Outcome<PathBuf> {
    if is_root() {
        return Ok(PathBuf::from(SYSTEM_STATE));
    }
    let base = match (variable("XDG_STATE_HOME"), variable("HOME")) {
        (Some(state), _) => state,
        (None, Some(home)) => home.join(".local/state"),
        (None, None) => {
            return Err(Failure::Usage(
                "neither XDG_STATE_HOME nor HOME is set: say where the state goes with --state-dir DIR".into(),
            ));
        }
    };
    Ok(base.join("hpc").join(machine_id()))
}

/// Tells this machine from others that mount the same home.
fn machine_id() -> String {
    let id = fs::read_to_string("/etc/machine-id").unwrap_or_default();
    match id.trim() {
        "" => super::host_name(),
        id => id.to_owned(),
    }
}

/// Without XDG_RUNTIME_DIR: a directory under the temporary directory that is ours alone. Others may write
/// beside it, so one that is not ours is refused rather than trusted.
fn private_temporary() -> Outcome<PathBuf> {
    let uid = nix::unistd::geteuid().as_raw();
    let dir = env::temp_dir().join(format!("hpc-{uid}"));
    match fs::symlink_metadata(&dir) {
        Ok(found) if !found.is_dir() || found.uid() != uid || found.mode() & 0o077 != 0 => {
            Err(Failure::refused(
                Code::Path,
                format!(
                    "{} exists and is not a private directory of yours",
                    dir.display()
                ),
                "set XDG_RUNTIME_DIR or HPC_SOCKET to a place of your own",
            ))
        }
        _ => Ok(dir),
    }
}

fn make_dir(dir: &Path, mode: u32) -> Outcome<()> {
    if let Some(parent) = dir.parent() {
        fs::create_dir_all(parent).map_err(|error| unusable(parent, "create", &error))?;
    }
    match fs::DirBuilder::new().mode(mode).create(dir) {
        // The umask may have taken bits away that other users need.
        Ok(()) => fs::set_permissions(dir, fs::Permissions::from_mode(mode)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
    .map_err(|error| unusable(dir, "create", &error))
}

/// What is wrong with a place of the cluster's, and what to do.
pub(super) fn unusable(path: &Path, doing: &str, error: &io::Error) -> Failure {
    let what = format!("cannot {doing} {}: {}", path.display(), exit::plain(error));
    match error.kind() {
        io::ErrorKind::PermissionDenied => Failure::refused(
            Code::Path,
            what,
            "it belongs to another user: choose a place of your own with --state-dir DIR, or HPC_STATE_DIR and HPC_SOCKET",
        ),
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => Failure::refused(
            Code::Path,
            what,
            "a file stands where a directory should be: choose another place with --state-dir DIR",
        ),
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::StorageFull => Failure::refused(
            Code::Path,
            what,
            "choose a place that can be written to with --state-dir DIR",
        ),
        _ => Failure::Other(anyhow::anyhow!(what)),
    }
}

/// The path from the root on, in one spelling: processes of a state directory are told by it. So `..` is resolved as the
/// kernel would, through links; the rest stays as it is written.
fn absolute(path: &Path) -> Outcome<PathBuf> {
    let whole = std::path::absolute(path)
        .with_context(|| format!("cannot make {} absolute", path.display()))?;
    let parts: Vec<Component<'_>> = whole.components().collect();
    let Some(last) = parts.iter().rposition(|part| *part == Component::ParentDir) else {
        return Ok(whole);
    };
    let (above, below) = parts.split_at(last + 1);
    let above: PathBuf = above.iter().collect();
    let above = above
        .canonicalize()
        .with_context(|| format!("cannot find {}", above.display()))?;
    Ok(above.join(below.iter().collect::<PathBuf>()))
}

/// Refuses a socket path that the kernel would not take.
pub(super) fn check_length(socket: &Path) -> Outcome<()> {
    let length = socket.as_os_str().len();
    if length <= SOCKET_PATH_MAX {
        return Ok(());
    }
    Err(Failure::refused(
        Code::Path,
        format!(
            "the socket path {} has {length} bytes, the most is {SOCKET_PATH_MAX}",
            socket.display()
        ),
        "put the socket elsewhere with HPC_SOCKET=/tmp/.../hpc.sock, or use a shorter --state-dir",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_with_dots_is_the_place_that_it_leads_to() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap();
        std::fs::create_dir_all(real.join("a/b")).unwrap();
        std::os::unix::fs::symlink("a/b", real.join("link")).unwrap();
        let place = |words: &str| absolute(&real.join(words)).unwrap();
        assert_eq!(place("a/b/../state"), real.join("a/state"));
        assert_eq!(place("a/../a/./b"), real.join("a/b"));
        assert_eq!(place("link/../state"), real.join("a/state"));
        // One that is a link itself keeps its name.
        assert_eq!(place("a/../link"), real.join("link"));
        assert!(absolute(&real.join("none/../state")).is_err());
    }

    #[test]
    fn a_state_directory_brings_its_own_socket() {
        let found = places(Some(Path::new("/srv/lab"))).unwrap();
        assert_eq!(found.state, Path::new("/srv/lab"));
        if variable("HPC_SOCKET").is_none() {
            assert_eq!(found.socket, Path::new("/srv/lab/hpc.sock"));
        }
    }

    #[test]
    fn a_long_socket_path_is_refused_with_its_length() {
        let long = PathBuf::from(format!("/{}", "x".repeat(120)));
        let text = check_length(&long).unwrap_err().to_string();
        assert!(
            text.contains("121 bytes") && text.contains("107") && text.contains("HPC_SOCKET"),
            "{text}"
        );
        assert!(check_length(Path::new("/run/hpc/hpc.sock")).is_ok());
    }

    #[test]
    fn directories_are_made_private() {
        let base = tempfile::tempdir().unwrap();
        let state = base.path().join("a/b");
        let places = Places {
            socket: state.join("hpc.sock"),
            state,
        };
        places.create().unwrap();
        places.create().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!(mode(&places.controller_dir()), 0o700);
        assert_eq!(
            mode(&places.worker_dir()),
            if is_root() { 0o755 } else { 0o700 }
        );
    }
}
