//! REDB. The one file that outlives the controller: hot jobs, nodes and counters, and the history.
//!
//! Rows are the truth at start-up. The controller's loop owns the [`Store`] and changes it through one
//! [`Store::commit`] per turn; an answer leaves only after that returned. Everyone else reads through a
//! [`Reader`], outside the loop. The store reads no clock and decides nothing: what to store comes as
//! [`Changes`](crate::cluster::changes::Changes), times come as arguments.
//!
//! Read `tables.rs` for what lies where, `record.rs` and `columns.rs` for the bytes, then `commit.rs`.
//!
//! **One sync per commit.** A commit writes its pages and one of two header slots, then syncs once; checksums
//! tell after a crash whether the newest slot is whole. redb's quick repair would make the open after a crash
//! cheap at once, but costs a second sync and the allocator's state in every commit. [`Store::settle`] takes the
//! price once, when the controller has nothing else to do: a controller killed while idle opens at once, one
//! killed in the middle of a storm checks its file first. Measured numbers stand at [`Store::settle`].

#![allow(
    clippy::disallowed_methods,
    reason = "this adapter exists to read and write one file"
)]

mod accounting;
mod backend;
mod backup;
mod blob;
mod columns;
mod commit;
mod error;
mod load;
mod migrate;
mod record;
mod retention;
mod tables;

pub use accounting::{ElementAt, Reader};
pub use blob::decode_blob;
pub use columns::decode_element_row;
pub use error::StoreError;
pub use load::{ClusterId, Ended, Loaded, RECENT_MAX};
pub use record::{
    RecordError, decode_audit, decode_counters, decode_ended, decode_invitation, decode_job,
    decode_key, decode_node, decode_order, decode_outcome, decode_rule, decode_spec, decode_step,
    decode_usage,
};
pub use retention::Purged;

/// The bytes of records for those who test them from outside (`tests/fuzz`); everyone else uses [`Store`].
#[doc(hidden)]
pub mod bytes {
    pub use super::blob::encode_blob;
    pub use super::columns::{collect_unsuccessful, encode_element_row, holds_position};
    pub use super::record::{
        decode_ended_at, encode_ended, encode_job, encode_node, encode_order, encode_rule,
        encode_step,
    };
}

use self::error::Fault;
use crate::model::ids::JobId;
use crate::model::job::JobSpec;
use redb::backends::FileBackend;
use redb::{Builder, Database, StorageBackend};
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const OPENING: &str = "opening the store";

/// How to open a store.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// Bytes of pages kept in memory; the rest is the kernel's page cache.
    pub cache_bytes: usize,
    /// Make every sync this much slower, as on a lab's disk. For benches.
    pub sync_delay: Option<Duration>,
}

impl Default for StoreOptions {
    fn default() -> Self {
        StoreOptions {
            cache_bytes: 32 << 20,
            sync_delay: None,
        }
    }
}

/// The open store; one per controller.
#[derive(Debug)]
pub struct Store {
    database: Arc<Database>,
    path: PathBuf,
    /// The specs of hot jobs as stored, shared with the hot state: an unchanged pointer need not be written again.
    specs: BTreeMap<JobId, Arc<JobSpec>>,
    /// A commit has failed; nothing more is written.
    failed: bool,
    /// Commits since the last that left the file quick to open.
    unsettled: bool,
    /// Kept from record to record.
    buffer: Vec<u8>,
}

impl Store {
    /// Opens or creates the file at `path` (mode 0600) and reads the hot state.
    pub fn open(path: &Path, options: StoreOptions) -> Result<(Store, Loaded), StoreError> {
        let file = match OpenOptions::new().read(true).write(true).open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                create(path)?;
                OpenOptions::new().read(true).write(true).open(path)
            }
            found => found,
        };
        let file = file.map_err(|source| StoreError::Io {
            doing: OPENING,
            source,
        })?;
        let file = FileBackend::new(file).map_err(|e| Fault::from(e).at(OPENING, path))?;
        match options.sync_delay {
            Some(delay) => Self::open_at(path, backend::SlowSync::new(file, delay), &options),
            None => Self::open_at(path, file, &options),
        }
    }

    /// Opens a store in any place that keeps bytes; for tests.
    pub fn open_backend(backend: impl StorageBackend) -> Result<(Store, Loaded), StoreError> {
        Self::open_at(Path::new("(memory)"), backend, &StoreOptions::default())
    }

    fn open_at(
        path: &Path,
        backend: impl StorageBackend,
        options: &StoreOptions,
    ) -> Result<(Store, Loaded), StoreError> {
        // redb trusts pages that it has once verified and panics where one was altered behind its back; here
        // that is a damaged file with a way out, not our mistake.
        let opened = catch_unwind(AssertUnwindSafe(|| {
            let file_bytes = backend.len().map_err(redb::StorageError::Io)?;
            let mut database = Builder::new()
                .set_cache_size(options.cache_bytes)
                .create_with_backend(backend)?;
            migrate::prepare(&database, path)?;
            retention::compact_when_worthwhile(&mut database, file_bytes)?;
            let loaded = load::load(&database)?;
            Ok((database, loaded))
        }));
        let (database, loaded) = opened
            .unwrap_or_else(|_| {
                Err(Fault::Known(StoreError::Corrupt {
                    path: path.to_owned(),
                    detail: "a page was altered".into(),
                }))
            })
            .map_err(|fault| fault.at(OPENING, path))?;
        let store = Store {
            database: Arc::new(database),
            path: path.to_owned(),
            specs: loaded
                .jobs
                .iter()
                .map(|job| (job.id, job.spec.clone()))
                .collect(),
            failed: false,
            unsettled: false,
            buffer: Vec::new(),
        };
        Ok((store, loaded))
    }

    /// A handle for reading outside the loop. It keeps the file open, so drop all before opening it again.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader::new(self.database.clone(), self.path.clone())
    }
}

/// Makes a new store beside `path` and gives it its name only when it is whole: a controller killed meanwhile leaves
/// no half store. The link fails where a store has appeared in between, which is then the one to open.
fn create(path: &Path) -> Result<(), StoreError> {
    let io_error = |source| StoreError::Io {
        doing: "making the store",
        source,
    };
    let draft = path.with_extension(format!("new-{}", std::process::id()));
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&draft);
    let whole = || -> Result<(), Fault> {
        let backend = FileBackend::new(file.map_err(io_error)?)?;
        let database = Builder::new().create_with_backend(backend)?;
        migrate::prepare(&database, path)?;
        Ok(database.close()?)
    };
    whole().map_err(|fault| fault.at("making the store", path))?;
    match std::fs::hard_link(&draft, path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(io_error(error)),
        _ => std::fs::remove_file(&draft).map_err(io_error)?,
    }
    // The name itself must survive a power loss.
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    std::fs::File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(io_error)
}

#[cfg(test)]
mod crash_script;
#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod golden_tests;
#[cfg(test)]
mod power_loss;
#[cfg(test)]
mod tests;
