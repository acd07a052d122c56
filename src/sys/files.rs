//! Files that need more than reading and writing: locks, private directories, sockets, network file systems.
//!
//! Socket paths may not exceed 107 bytes, and home directories are long; [`bind_unix`] and [`connect_unix`] go
//! through a descriptor of the directory instead.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::statfs::statfs;

/// A file or directory could not be made safe to use.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// Somebody else holds the lock.
    #[error("{} is in use{}", .path.display(), holder(.pid))]
    Held {
        /// The lock file.
        path: PathBuf,
        /// Who holds it, if the file says so.
        pid: Option<i32>,
    },
    /// The directory belongs to another user, who could exchange what is in it.
    #[error("{} belongs to user {owner}, not to us", .path.display())]
    NotOurs {
        /// The directory.
        path: PathBuf,
        /// Its owner.
        owner: u32,
    },
    /// Something else stands at the place of a directory; a symbolic link, perhaps.
    #[error("{} is not a directory", .path.display())]
    NotADirectory {
        /// The path.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("cannot {doing} {}", .path.display())]
    Io {
        /// What we did.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// Its reason.
        #[source]
        source: io::Error,
    },
}

/// The path of this program, also where an upgrade has put a new file in its place.
pub fn own_program() -> io::Result<PathBuf> {
    let path = std::env::current_exe()?;
    let gone = path
        .to_str()
        .and_then(|path| path.strip_suffix(" (deleted)"));
    Ok(gone.map_or(path.clone(), PathBuf::from))
}

/// An error of the system in words, for people: without its number.
pub fn in_words(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => nix::errno::Errno::from_raw(number).desc().to_lowercase(),
        None => error.to_string(),
    }
}

/// Whether the disk under this path is known to be full, for an ordinary user. A file system that does not answer within
/// a short time (a network one whose server is gone) is not.
pub fn is_on_full_disk(path: &Path) -> bool {
    let path = path.to_owned();
    let (told, heard) = std::sync::mpsc::channel();
    let look = move || {
        let full = nix::sys::statvfs::statvfs(&path)
            .is_ok_and(|disk| disk.blocks() > 0 && disk.blocks_available() == 0);
        let _ = told.send(full);
    };
    let looks = std::thread::Builder::new().spawn(look).is_ok();
    looks && heard.recv_timeout(Duration::from_millis(500)) == Ok(true)
}

fn holder(pid: &Option<i32>) -> String {
    pid.map_or(String::new(), |pid| format!(" by process {pid}"))
}

fn failed<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> FilesError + 'a {
    move |source| FilesError::Io {
        doing,
        path: path.to_owned(),
        source,
    }
}

/// A file that nobody else can lock while this lives; also a crash releases it.
#[derive(Debug)]
pub struct LockedFile {
    file: File,
    path: PathBuf,
}

/// How long a holder that is dying keeps its lock at most: the kernel closes its files after its threads have ended.
const DYING_MOST: Duration = Duration::from_secs(2);

/// Takes a lock on a file, creating it if missing. Waits for no living holder, but for one that was just killed.
pub fn flock_exclusive(path: &Path) -> Result<LockedFile, FilesError> {
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
        .map_err(failed("open the lock", path))?;
    let begun = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => {
                return Ok(LockedFile {
                    file,
                    path: path.to_owned(),
                });
            }
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(cause)) => return Err(failed("lock", path)(cause)),
        }
        let mut text = String::new();
        let _ = file.rewind();
        let _ = Read::by_ref(&mut file).take(32).read_to_string(&mut text);
        let pid = text.trim().parse().ok();
        if pid.is_none_or(is_running) || begun.elapsed() > DYING_MOST {
            return Err(FilesError::Held {
                path: path.to_owned(),
                pid,
            });
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Whether a process exists and is no zombie. One whose first thread has ended is a zombie already, while others
/// still hold its files.
fn is_running(pid: i32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return false;
    };
    let state = stat
        .rsplit(')')
        .next()
        .and_then(|rest| rest.trim_start().chars().next());
    !matches!(state, Some('Z' | 'X'))
}

impl LockedFile {
    /// Writes our process id into it, for [`FilesError::Held`] to name.
    pub fn write_pid(&mut self) -> Result<(), FilesError> {
        let mut write = || {
            self.file.set_len(0)?;
            self.file.rewind()?;
            writeln!(self.file, "{}", std::process::id())
        };
        write().map_err(failed("write", &self.path))
    }

    /// Empties it, so that nobody takes our number for that of a running process. At a clean end.
    pub fn clear_pid(&mut self) -> Result<(), FilesError> {
        self.file.set_len(0).map_err(failed("write", &self.path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl AsFd for LockedFile {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// The kind of network file system that holds a path, or `None` for a local one.
///
/// FUSE counts as local: what is behind it cannot be told.
pub fn is_network_filesystem(path: &Path) -> io::Result<Option<&'static str>> {
    let magic = statfs(path)?.filesystem_type().0;
    // Some kernels sign-extend what is a 32-bit number.
    Ok(match magic & 0xFFFF_FFFF {
        0x6969 => Some("nfs"),
        0x517B | 0xFF53_4D42 | 0xFE53_4D42 => Some("smb"),
        0x0BD0_0BD0 => Some("lustre"),
        0x4750_4653 => Some("gpfs"),
        0x0102_1997 => Some("9p"),
        0x00C3_6400 => Some("ceph"),
        0x1983_0326 => Some("beegfs"),
        0x2003_0528 => Some("orangefs"),
        0x5346_414F | 0x6B41_4653 => Some("afs"),
        0x7375_7245 => Some("coda"),
        0x564C => Some("ncp"),
        _ => None,
    })
}

/// Makes a directory that only we can use, or checks that an existing one is ours and takes rights off it that
/// exceed `mode`. Missing parents are made with the same mode.
pub fn private_dir(path: &Path, mode: u32) -> Result<(), FilesError> {
    let mut builder = DirBuilder::new();
    builder
        .recursive(true)
        .mode(mode)
        .create(path)
        .or_else(|cause| match fs::symlink_metadata(path) {
            // Judged below, by what it is.
            Ok(_) => Ok(()),
            Err(_) => Err(cause),
        })
        .map_err(failed("create", path))?;
    let data = fs::symlink_metadata(path).map_err(failed("look at", path))?;
    if !data.is_dir() {
        return Err(FilesError::NotADirectory {
            path: path.to_owned(),
        });
    }
    if data.uid() != nix::unistd::geteuid().as_raw() {
        return Err(FilesError::NotOurs {
            path: path.to_owned(),
            owner: data.uid(),
        });
    }
    let have = data.permissions().mode() & 0o7777;
    if have & !mode != 0 {
        let tightened = fs::Permissions::from_mode(have & mode);
        fs::set_permissions(path, tightened).map_err(failed("close to others", path))?;
    }
    Ok(())
}

/// A listening socket `dir/name`, however long that path is. A socket that nobody listens at any more is replaced.
pub fn bind_unix(dir: &Path, name: &str) -> io::Result<UnixListener> {
    let directory = File::open(dir)?;
    let short = through(&directory, name);
    match UnixListener::bind(&short) {
        Err(cause) if cause.kind() == io::ErrorKind::AddrInUse => {
            let is_socket = fs::symlink_metadata(&short)?.file_type().is_socket();
            let refused = UnixStream::connect(&short)
                .is_err_and(|cause| cause.kind() == io::ErrorKind::ConnectionRefused);
            if !(is_socket && refused) {
                return Err(cause);
            }
            fs::remove_file(&short)?;
            UnixListener::bind(&short)
        }
        outcome => outcome,
    }
}

/// Connects to the socket `dir/name`, however long that path is.
pub fn connect_unix(dir: &Path, name: &str) -> io::Result<UnixStream> {
    let directory = File::open(dir)?;
    UnixStream::connect(through(&directory, name))
}

fn through(directory: &File, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{name}", directory.as_raw_fd()))
}

/// The identity of this installation of the operating system; machines cloned carelessly share it.
pub fn machine_id() -> io::Result<String> {
    fs::read_to_string("/etc/machine-id")
        .or_else(|_| fs::read_to_string("/var/lib/dbus/machine-id"))
        .map(|text| text.trim().to_owned())
}

/// Changes with every start of the machine: processes noted under another one are gone.
pub fn boot_id() -> io::Result<String> {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|text| text.trim().to_owned())
}

#[cfg(test)]
#[allow(clippy::print_stderr, reason = "a test that cannot run here says so")]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_held_once_and_names_its_holder() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("lock");
        let mut first = flock_exclusive(&path).unwrap();
        let message = |outcome: Result<LockedFile, FilesError>| outcome.unwrap_err().to_string();
        let plain = format!("{} is in use", path.display());
        assert_eq!(message(flock_exclusive(&path)), plain);
        first.write_pid().unwrap();
        first.write_pid().unwrap();
        let named = format!("{plain} by process {}", std::process::id());
        assert_eq!(message(flock_exclusive(&path)), named);
        assert_eq!(first.path(), path);
        drop(first);
        flock_exclusive(&path).unwrap();
        let missing = flock_exclusive(&scratch.path().join("no/lock"));
        assert!(matches!(missing, Err(FilesError::Io { .. })));
        let link = scratch.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(flock_exclusive(&link).is_err());
    }

    #[test]
    fn local_file_systems_are_not_network_ones() {
        assert_eq!(is_network_filesystem(Path::new("/proc")).unwrap(), None);
        assert_eq!(is_network_filesystem(Path::new("/dev")).unwrap(), None);
        assert!(is_network_filesystem(Path::new("/no/such")).is_err());
    }

    #[test]
    fn a_private_directory_is_made_tightened_and_refused() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("a/b");
        let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        private_dir(&path, 0o700).unwrap();
        assert_eq!(mode(), 0o700);
        fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        private_dir(&path, 0o700).unwrap();
        assert_eq!(mode(), 0o700);
        let link = scratch.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let refused = private_dir(&link, 0o700);
        assert!(matches!(refused, Err(FilesError::NotADirectory { .. })));
    }

    #[test]
    fn a_directory_of_another_is_refused_needs_root() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("SKIPPED a_directory_of_another_is_refused_needs_root: needs root");
            return;
        }
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("theirs");
        fs::create_dir(&path).unwrap();
        std::os::unix::fs::chown(&path, Some(65534), None).unwrap();
        let refused = private_dir(&path, 0o700);
        assert!(matches!(
            refused,
            Err(FilesError::NotOurs { owner: 65534, .. })
        ));
    }

    #[test]
    fn sockets_work_below_long_paths() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path().join("d".repeat(150)).join("e".repeat(100));
        fs::create_dir_all(&dir).unwrap();
        let listener = bind_unix(&dir, "socket").unwrap();
        let mut client = connect_unix(&dir, "socket").unwrap();
        let (mut server, _) = listener.accept().unwrap();
        client.write_all(b"hello").unwrap();
        let mut text = [0; 5];
        server.read_exact(&mut text).unwrap();
        assert_eq!(&text, b"hello");
        let taken = bind_unix(&dir, "socket").unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
        // Left behind by a crash.
        drop(listener);
        bind_unix(&dir, "socket").unwrap();
        // What is no socket is never removed.
        fs::write(dir.join("file"), "precious").unwrap();
        assert!(bind_unix(&dir, "file").is_err());
        assert_eq!(fs::read_to_string(dir.join("file")).unwrap(), "precious");
        assert!(connect_unix(&dir, "nothing").is_err());
    }

    #[test]
    fn this_machine_and_boot_have_names() {
        assert_eq!(boot_id().unwrap().len(), 36);
        assert_eq!(boot_id().unwrap(), boot_id().unwrap());
        match machine_id() {
            Ok(id) => assert_eq!(id.len(), 32),
            Err(cause) => eprintln!("SKIPPED: no machine id here: {cause}"),
        }
    }
}
