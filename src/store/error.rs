//! What can go wrong with the store, told apart by the way out.

use super::record::RecordError;
use std::io;
use std::path::{Path, PathBuf};

/// The store failed. `Display` says what and how to go on.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has it open.
    #[error(
        "the store {} is in use by another hpc controller: stop that one first (`hpc down`), or give this one another --state-dir",
        path.display()
    )]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// Something else lies at its place.
    #[error("{} is not an hpc store: move it away, or give another --state-dir", path.display())]
    NotAStore {
        /// The file.
        path: PathBuf,
    },
    /// The file is damaged.
    #[error(
        "the store {0} is damaged ({detail}): move it away and restore the last backup (`cp BACKUP {0}`), then start the controller again",
        path.display()
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// A record is damaged or from a later release.
    #[error("cannot read {table} row {key}: restore the last backup if the file is damaged")]
    Record {
        /// The table.
        table: &'static str,
        /// The row.
        key: String,
        /// What is wrong.
        #[source]
        source: RecordError,
    },
    /// Written by a later release.
    #[error(
        "the store {} has schema {found}, and this hpc knows schemas up to {known}: use the release that wrote it, or a later one",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: u32,
        /// The newest that is understood.
        known: u32,
    },
    /// No space left.
    #[error(
        "no space left on the disk while {doing}: free some, then start the controller again; nothing acknowledged is lost"
    )]
    DiskFull {
        /// What we were doing.
        doing: &'static str,
    },
    /// A file could not be used.
    #[error("input or output failed while {doing}")]
    Io {
        /// What we were doing.
        doing: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A commit failed earlier, so what memory and file hold may differ.
    #[error("an earlier commit failed: start again from what the store holds")]
    Failed,
    /// The database refused.
    #[error("the database failed while {doing}")]
    Database {
        /// What we were doing.
        doing: &'static str,
        /// Why.
        #[source]
        source: Box<redb::Error>,
    },
}

/// What failed within the store, before the boundary adds where and while doing what.
#[derive(Debug)]
pub(super) enum Fault {
    /// The database.
    Database(redb::Error),
    /// A row.
    Row {
        table: &'static str,
        key: String,
        source: RecordError,
    },
    /// Known already for what it is.
    Known(StoreError),
}

macro_rules! fault_from {
    ($($error:ident),*) => {
        $(impl From<redb::$error> for Fault {
            fn from(error: redb::$error) -> Self {
                Fault::Database(error.into())
            }
        })*
    };
}
fault_from!(
    StorageError,
    TableError,
    TransactionError,
    CommitError,
    CompactionError,
    DatabaseError
);

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Fault::Known(error)
    }
}

impl Fault {
    /// Sorts the fault by its way out. `path` is for people, so a store in memory may say so there.
    pub(super) fn at(self, doing: &'static str, path: &Path) -> StoreError {
        let path = path.to_owned();
        let error = match self {
            Fault::Known(error) => return error,
            Fault::Row { table, key, source } => return StoreError::Record { table, key, source },
            Fault::Database(error) => error,
        };
        match error {
            redb::Error::DatabaseAlreadyOpen => StoreError::Locked { path },
            redb::Error::Corrupted(detail) => StoreError::Corrupt { path, detail },
            redb::Error::RepairAborted => StoreError::Corrupt {
                path,
                detail: "repair given up".into(),
            },
            redb::Error::UpgradeRequired(version) => StoreError::Corrupt {
                path,
                detail: format!("file format {version}"),
            },
            redb::Error::Io(source) => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    StoreError::DiskFull { doing }
                }
                io::ErrorKind::InvalidData => StoreError::NotAStore { path },
                io::ErrorKind::UnexpectedEof => StoreError::Corrupt {
                    path,
                    detail: "the file is shorter than it says".into(),
                },
                _ => StoreError::Io { doing, source },
            },
            source => StoreError::Database {
                doing,
                source: Box::new(source),
            },
        }
    }
}

/// Names the row that a record error is about.
pub(super) fn row<K: std::fmt::Debug>(
    table: &'static str,
    key: K,
) -> impl FnOnce(RecordError) -> Fault {
    move |source| Fault::Row {
        table,
        key: format!("{key:?}"),
        source,
    }
}
