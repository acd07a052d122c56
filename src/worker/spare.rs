//! Starting shepherds: one is kept ahead of need, so that a job does not wait for a start.

use super::{WorkerError, WorkerOptions};
use crate::sys::spawn::{CpuMask, FileUse, KeptFd, SpawnRequest, Stdio, c_strings, spawn};
use crate::wire::shepherd::AGENT_FD;
use std::ffi::CString;
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// A shepherd without a slot.
#[derive(Debug)]
pub(super) struct Spare {
    /// Our end of its socket pair.
    pub(super) stream: UnixStream,
    pub(super) pid: i32,
}

/// Starts a shepherd on these cpus, or where we run: in a session of its own, with nothing of ours but a log and its socket.
pub(super) fn start(
    options: &WorkerOptions,
    worker_dir: &Path,
    cpus: Option<&CpuMask>,
) -> Result<Spare, WorkerError> {
    let (ours, theirs) = UnixStream::pair().map_err(WorkerError::system("make a socket pair"))?;
    let program = CString::new(options.executable.as_os_str().as_bytes()).unwrap_or_default();
    let log = worker_dir.join("shepherd.log");
    let log = CString::new(log.into_os_string().into_vec()).unwrap_or_default();
    let arguments =
        c_strings(["hpc", "shepherd", "--spare", &AGENT_FD.to_string()]).unwrap_or_default();
    let variables = std::env::vars_os().map(|(name, value)| {
        let mut line = name.into_vec();
        line.push(b'=');
        line.extend(value.into_vec());
        CString::new(line).unwrap_or_default()
    });
    let environment: Vec<CString> = variables.collect();
    let kept = [KeptFd {
        fd: theirs.as_fd(),
        number: AGENT_FD,
    }];
    let mut request = SpawnRequest::new(&program, &arguments, &environment);
    request.directory = Some(c"/");
    request.stderr = Stdio::File {
        path: &log,
        usage: FileUse::Append,
    };
    request.kept = &kept;
    request.affinity = cpus;
    // 077 lest anything it makes be open to others by accident.
    request.umask = Some(0o077);
    let spawned = spawn(&request).map_err(|error| WorkerError::System {
        doing: "start a shepherd",
        source: std::io::Error::other(error),
    })?;
    Ok(Spare {
        stream: ours,
        pid: spawned.pid,
    })
}
