//! A consistent copy of a live store.
//!
//! The copy reads one committed state while commits go on, writes its rows in order into a fresh database (so it is
//! as small as it can be) in a file that already has no name, and sends that file's bytes on. A backup cut short
//! therefore leaves nothing behind. While it runs, pages that commits replace cannot be used again: the live file
//! grows by what changes meanwhile.

use super::error::{Fault, StoreError};
use super::tables::{
    AUDIT, BLOB_REFS, BLOBS, ELEMENT_ROWS, HISTORY, HISTORY_BY_END, INVITATIONS, JOBS, KEYS,
    MERGES, META, NODES, RULES, SPECS, STEP_ORDERS, STEPS, USAGE,
};
use redb::backends::FileBackend;
use redb::{
    Database, Key, ReadTransaction, ReadableTable, TableDefinition, Value, WriteTransaction,
};
use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

const DOING: &str = "copying the store";
/// Rows are copied in order, so few pages are in work at a time.
const CACHE_BYTES: usize = 8 << 20;

/// See [`super::Reader::backup`].
pub(super) fn backup(
    from: &ReadTransaction,
    scratch: &Path,
    out: &mut dyn Write,
) -> Result<u64, StoreError> {
    let io_error = |source: io::Error| match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            StoreError::DiskFull { doing: DOING }
        }
        _ => StoreError::Io {
            doing: DOING,
            source,
        },
    };
    let mut file = nameless(scratch).map_err(io_error)?;
    let copy = file.try_clone().map_err(io_error)?;
    copy_tables(from, copy).map_err(|fault| fault.at(DOING, scratch))?;
    file.seek(SeekFrom::Start(0)).map_err(io_error)?;
    let bytes = io::copy(&mut file, out).map_err(io_error)?;
    out.flush().map_err(io_error)?;
    Ok(bytes)
}

/// A file that nobody else can open and that is gone when closed.
fn nameless(directory: &Path) -> io::Result<File> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!(
        ".backup-{}-{}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    );
    let path = directory.join(name);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

fn copy_tables(from: &ReadTransaction, into: File) -> Result<(), Fault> {
    let database = Database::builder()
        .set_cache_size(CACHE_BYTES)
        .create_with_backend(FileBackend::new(into)?)?;
    let txn = database.begin_write()?;
    copy_table(from, &txn, META)?;
    copy_table(from, &txn, JOBS)?;
    copy_table(from, &txn, SPECS)?;
    copy_table(from, &txn, ELEMENT_ROWS)?;
    copy_table(from, &txn, HISTORY)?;
    copy_table(from, &txn, HISTORY_BY_END)?;
    copy_table(from, &txn, STEPS)?;
    copy_table(from, &txn, STEP_ORDERS)?;
    copy_table(from, &txn, NODES)?;
    copy_table(from, &txn, BLOBS)?;
    copy_table(from, &txn, BLOB_REFS)?;
    copy_table(from, &txn, MERGES)?;
    copy_table(from, &txn, KEYS)?;
    copy_table(from, &txn, INVITATIONS)?;
    copy_table(from, &txn, AUDIT)?;
    copy_table(from, &txn, RULES)?;
    copy_table(from, &txn, USAGE)?;
    txn.commit()?;
    database.close()?;
    Ok(())
}

fn copy_table<K: Key + 'static, V: Value + 'static>(
    from: &ReadTransaction,
    txn: &WriteTransaction,
    table: TableDefinition<'_, K, V>,
) -> Result<(), Fault> {
    let from = from.open_table(table)?;
    let mut into = txn.open_table(table)?;
    for entry in from.iter()? {
        let (key, value) = entry?;
        into.insert(key.value(), value.value())?;
    }
    Ok(())
}
