//! Bytes of output for the controller: of a job's file, or of a step's log, by offset.
//!
//! No more than [`STREAM_WINDOW`] bytes are under way beyond what the reader has taken. A followed stream waits on
//! inotify, with a look each second for file systems that tell nothing (NFS), and ends when the element has ended
//! and the file's end is reached.

use super::accounts::Accounts;
use super::slots::Progress;
use crate::model::job::Owner;
use crate::sys::file_watch::FileWatch;
use crate::sys::identity::as_user;
use crate::wire::client::{PIECE_MAX, STREAM_WINDOW};
use crate::wire::shepherd::{LOG_LOST, step_log_name};
use crate::wire::worker::{FromWorker, OpenStream, StreamSource};
use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// Between looks where the kernel tells nothing.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// A stream being served.
pub(super) struct Serving {
    pub(super) open: OpenStream,
    /// The slot's directory, which may be long gone.
    pub(super) directory: PathBuf,
    /// How far the slot is; closed or absent when it is over.
    pub(super) progress: Option<watch::Receiver<Progress>>,
    /// What the reader has taken.
    pub(super) taken: watch::Receiver<u64>,
    pub(super) data: mpsc::Sender<FromWorker>,
    /// Whose file is whose.
    pub(super) accounts: Arc<Accounts>,
}

impl Serving {
    /// Serves to the end.
    pub(super) async fn run(mut self) {
        let stream = self.open.stream;
        let error = self.serve().await.err();
        let _ = self
            .data
            .send(FromWorker::StreamEnd { stream, error })
            .await;
    }

    async fn serve(&mut self) -> Result<(), String> {
        let (path, owner) = match &self.open.source {
            StreamSource::File(path) => (PathBuf::from(path), Some(self.open.owner.clone())),
            StreamSource::StepLog(step) => (self.directory.join(step_log_name(*step)), None),
        };
        let Some(file) = self.open_file(&path, owner).await? else {
            return Ok(());
        };
        let watch = self.open.follow.then(|| FileWatch::new(&file)).flatten();
        let file = Arc::new(file);
        let mut offset = self.open.offset;
        loop {
            if offset.saturating_sub(*self.taken.borrow_and_update()) >= STREAM_WINDOW {
                // Nobody takes any more: the session is over.
                if self.taken.changed().await.is_err() {
                    return Ok(());
                }
                continue;
            }
            // Asked before reading: what was written before the end is read after it.
            let over = self.is_over();
            let bytes = read(file.clone(), offset)
                .await
                .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
            if !bytes.is_empty() {
                let length = bytes.len() as u64;
                let message = FromWorker::StreamData {
                    stream: self.open.stream,
                    offset,
                    bytes,
                };
                if self.data.send(message).await.is_err() {
                    return Ok(());
                }
                offset += length;
            } else if over || !self.open.follow {
                return self.check_whole(&file, &path);
            } else {
                self.wait(watch.as_ref()).await;
            }
        }
    }

    /// A log whose shepherd had no room for the rest says so by its mode.
    fn check_whole(&self, file: &File, path: &Path) -> Result<(), String> {
        let mode = file.metadata().map_or(0, |data| data.mode() & 0o777);
        if matches!(self.open.source, StreamSource::StepLog(_)) && mode == LOG_LOST {
            let path = path.display();
            return Err(format!(
                "the rest of the output is lost: {path} could not be written, its disk was full"
            ));
        }
        Ok(())
    }

    /// Opens the file; one that is not there yet is waited for while the element may still make it.
    async fn open_file(
        &mut self,
        path: &Path,
        owner: Option<Owner>,
    ) -> Result<Option<File>, String> {
        loop {
            let over = self.is_over();
            let (name, owner) = (path.to_owned(), owner.clone());
            let accounts = Arc::clone(&self.accounts);
            let opened =
                tokio::task::spawn_blocking(move || open_as(&name, owner.as_ref(), &accounts))
                    .await;
            match opened.map_err(|error| error.to_string())? {
                Ok(file) => return Ok(Some(file)),
                Err(Failure::Missing) if self.open.follow && !over => self.wait(None).await,
                Err(Failure::Missing) => {
                    return Err(format!("there is no file {} on this node", path.display()));
                }
                Err(Failure::Other(text)) => return Err(text),
            }
            if self.data.is_closed() {
                return Ok(None);
            }
        }
    }

    fn is_over(&self) -> bool {
        let Some(progress) = &self.progress else {
            return true;
        };
        if progress.has_changed().is_err() {
            return true;
        }
        let progress = progress.borrow();
        let step_over = match &self.open.source {
            StreamSource::StepLog(step) => progress.steps_over.contains(step),
            StreamSource::File(_) => false,
        };
        step_over || (progress.known && !progress.queue.contains(self.open.position))
    }

    /// Until something may have happened.
    async fn wait(&mut self, watch: Option<&FileWatch>) {
        let written = async {
            match watch {
                Some(watch) => watch.changed().await,
                None => std::future::pending().await,
            }
        };
        let progressed = async {
            match &mut self.progress {
                Some(progress) => drop(progress.changed().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = written => {}
            () = progressed => {}
            () = tokio::time::sleep(LOOK_AGAIN) => {}
        }
    }
}

/// Why a file was not opened.
enum Failure {
    Missing,
    Other(String),
}

/// Opens a file for reading with its owner's rights; may take as long as a network file system does.
fn open_as(path: &Path, owner: Option<&Owner>, accounts: &Accounts) -> Result<File, Failure> {
    let other =
        |error: std::io::Error| Failure::Other(format!("cannot open {}: {error}", path.display()));
    let open = || {
        OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(path)
    };
    let opened = match owner {
        None => open(),
        Some(_) if !path.is_absolute() => {
            return Err(Failure::Other(format!(
                "{} is not an absolute path",
                path.display()
            )));
        }
        Some(owner) => match accounts.look_up(owner).map_err(Failure::Other)? {
            Some(account) => {
                as_user(account.uid, account.gid, &account.groups, open).map_err(other)?
            }
            None => open(),
        },
    };
    let file = opened.map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => Failure::Missing,
        _ => other(error),
    })?;
    if file.metadata().map_err(other)?.is_file() {
        Ok(file)
    } else {
        Err(Failure::Other(format!(
            "{} is not a regular file, so its output cannot be read back",
            path.display()
        )))
    }
}

async fn read(file: Arc<File>, offset: u64) -> std::io::Result<Vec<u8>> {
    let reading = tokio::task::spawn_blocking(move || {
        let mut bytes = vec![0; PIECE_MAX];
        let count = file.read_at(&mut bytes, offset)?;
        bytes.truncate(count);
        Ok(bytes)
    });
    reading.await.map_err(std::io::Error::other)?
}
