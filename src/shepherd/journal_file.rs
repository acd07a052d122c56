//! The journal as a file: opened once, locked for life, appended to before what it announces happens.

use super::ShepherdError;
use crate::steps::journal::{Record, encode};
use crate::wire::shepherd::JOURNAL;
use nix::fcntl::{Flock, FlockArg};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// An open journal.
#[derive(Debug)]
pub(super) struct JournalFile {
    file: Flock<File>,
    /// Bytes not written yet; kept while the disk is full.
    pending: Vec<u8>,
    /// Why they are not written.
    failed: Option<std::io::Error>,
}

impl JournalFile {
    /// Makes and locks the journal of a slot. Where there is one, the slot has a shepherd:
    /// [`ShepherdError::Taken`].
    pub(super) fn create(directory: &Path) -> Result<Self, ShepherdError> {
        let path = directory.join(JOURNAL);
        let fail = |doing: &'static str, source: std::io::Error| ShepherdError::File {
            doing,
            path: path.clone(),
            source,
        };
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .mode(0o600)
            .open(&path);
        let file = file.map_err(|source| match source.kind() {
            std::io::ErrorKind::AlreadyExists => ShepherdError::Taken,
            _ => fail("create", source),
        })?;
        // Waits: an agent that looks into the slot holds it for a moment.
        let lock = Flock::lock(file, FlockArg::LockExclusive);
        let file = lock.map_err(|(_, errno)| fail("lock", errno.into()))?;
        Ok(JournalFile {
            file,
            pending: Vec::new(),
            failed: None,
        })
    }

    /// Queues a record.
    pub(super) fn push(&mut self, record: &Record) {
        encode(record, &mut self.pending);
    }

    /// Writes what is queued. A full disk loses nothing while the shepherd lives: it keeps the bytes and tries
    /// again with the next record. What must not happen without its record asks for [`JournalFile::failed`] after that.
    pub(super) fn flush(&mut self) {
        while !self.pending.is_empty() {
            match (&*self.file).write(&self.pending) {
                Ok(count) => drop(self.pending.drain(..count)),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => {
                    if self.failed.is_none() {
                        tracing::error!(%error, "the journal cannot be written; its records wait in memory");
                    }
                    self.failed = Some(error);
                    return;
                }
            }
        }
        self.failed = None;
    }

    /// Why the last records are not written.
    pub(super) fn failed(&self) -> Option<std::io::Error> {
        let error = self.failed.as_ref()?;
        Some(match error.raw_os_error() {
            Some(number) => std::io::Error::from_raw_os_error(number),
            None => error.kind().into(),
        })
    }
}
