//! The files of a slot that `mpirun` and its like are told to use (`model/mpirun.rs`): a program that they take for ssh,
//! which is this one under another name, and the job's hosts. Everybody may read them.

use super::ShepherdError;
use crate::model::mpirun;
use crate::sys::files;
use crate::wire::worker::SlotLaunch;
use std::fs::{OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::Path;

/// Makes them in the slot's directory.
pub(super) fn prepare(directory: &Path, launch: &SlotLaunch) -> Result<(), ShepherdError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        |source| ShepherdError::File {
            doing: "write",
            path,
            source,
        }
    };
    let shell = directory.join(mpirun::REMOTE_SHELL);
    let link = files::own_program().and_then(|program| symlink(program, &shell));
    link.map_err(failed(&shell))?;
    let tasks: Vec<u32> = launch.shares.iter().map(|share| share.tasks).collect();
    for (name, text) in mpirun::host_lists(&launch.nodes, &tasks) {
        let path = directory.join(name);
        write(&path, text.as_bytes()).map_err(failed(&path))?;
    }
    Ok(())
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o444)
        .open(path)?;
    file.write_all(bytes)?;
    // The umask has taken what others need.
    file.set_permissions(Permissions::from_mode(0o444))
}
