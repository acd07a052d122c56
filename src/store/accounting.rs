//! Reading outside the loop: history, ends of elements, steps and blobs.
//!
//! Each call sees one committed state. Longer walks read a section at a time and call back between sections, with
//! no transaction open: a slow receiver cannot keep the pages of an old state from being used again.

use super::backup;
use super::blob::decode_blob;
use super::columns::{decode_element_row, holds_position, reaches_into};
use super::error::{Fault, StoreError, row};
use super::load;
use super::record::{RecordError, decode_audit, decode_ended, decode_spec, decode_step};
use super::tables::{AUDIT, BLOBS, ELEMENT_ROWS, HISTORY, HISTORY_BY_END, SPECS, STEPS};
use crate::model::audit::AuditRecord;
use crate::model::history::{ElementRow, EndedJob, Granted, StepRow};
use crate::model::ids::{BlobId, JobId, SlotId};
use crate::model::index_set::IndexSet;
use crate::model::job::ElementEnd;
use crate::model::time::Timestamp;
use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTable};
use std::io::Write;
use std::ops::{ControlFlow, Range};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Rows read in one transaction.
const SECTION: usize = 256;
const DOING: &str = "reading";

/// Reads what is committed; cheap to clone, used from any thread. It keeps the store's file open and locked.
#[derive(Debug, Clone)]
pub struct Reader {
    database: Arc<Database>,
    path: PathBuf,
}

/// How and where one element ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ElementAt {
    /// Its slot; `None` = it never ran.
    pub slot: Option<SlotId>,
    /// What the slot held.
    pub granted: Arc<Granted>,
    /// Its end.
    pub end: ElementEnd,
}

impl Reader {
    pub(super) fn new(database: Arc<Database>, path: PathBuf) -> Self {
        Reader { database, path }
    }

    /// The bytes of a blob.
    pub fn blob(&self, id: BlobId) -> Result<Option<Vec<u8>>, StoreError> {
        self.read(|txn| {
            let table = txn.open_table(BLOBS)?;
            let bytes = table.get(&id.0)?;
            bytes
                .map(|bytes| decode_blob(bytes.value()).map_err(row("blobs", id)))
                .transpose()
        })
    }

    /// A job that has ended.
    pub fn ended(&self, id: JobId) -> Result<Option<EndedJob>, StoreError> {
        self.read(|txn| ended(txn, id))
    }

    /// The ended job that has this number, or an array an element of which has it as raw id.
    pub fn ended_around(&self, raw: JobId) -> Result<Option<EndedJob>, StoreError> {
        self.read(|txn| {
            let table = txn.open_table(HISTORY)?;
            let before = ReadableTable::range(&table, ..=raw.0)?
                .next_back()
                .transpose()?;
            let Some((id, _)) = before else {
                return Ok(None);
            };
            let found = ended(txn, JobId(id.value()))?;
            Ok(found.filter(|found| raw.0 - found.id.0 < found.spec.count()))
        })
    }

    /// Jobs that ended from `since` to `until`, both included, newest first.
    pub fn history(
        &self,
        since: Timestamp,
        until: Timestamp,
        each: &mut dyn FnMut(EndedJob) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let mut behind = Some((until.0, u32::MAX));
        while let Some(last) = behind.filter(|last| *last >= (since.0, 0)) {
            let section = self.read(|txn| section_of_history(txn, (since.0, 0), last))?;
            behind = section
                .last()
                .and_then(|job| match job.id.0.checked_sub(1) {
                    Some(id) => Some((job.ended.0, id)),
                    None => Some((job.ended.0.checked_sub(1)?, u32::MAX)),
                });
            for job in section {
                if each(job).is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// The rows of element ends of a job, hot or ended, by row number.
    pub fn element_rows(
        &self,
        id: JobId,
        each: &mut dyn FnMut(u32, ElementRow) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.element_rows_within(id, 0..u32::MAX, each)
    }

    /// Those of them that hold an end of one of these positions, among others.
    pub fn element_rows_within(
        &self,
        id: JobId,
        positions: Range<u32>,
        each: &mut dyn FnMut(u32, ElementRow) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let mut from = Some(0);
        while let Some(first) = from {
            let mut section = Vec::new();
            from = self.read(|txn| {
                let table = txn.open_table(ELEMENT_ROWS)?;
                let rows = ReadableTable::range(&table, (id.0, first)..=(id.0, u32::MAX))?;
                let mut next = None;
                for entry in rows.take(SECTION) {
                    let (key, bytes) = entry?;
                    let key = key.value();
                    next = key.1.checked_add(1);
                    let fault = || row("element_rows", key);
                    if reaches_into(bytes.value(), &positions).map_err(fault())? {
                        let decoded = decode_element_row(bytes.value()).map_err(fault())?;
                        section.push((key.1, decoded));
                    }
                }
                Ok(next)
            })?;
            for (number, row) in section {
                if each(number, row).is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// How the element at this position ended. Reads the position columns of the job's rows.
    pub fn element_end(&self, id: JobId, position: u32) -> Result<Option<ElementAt>, StoreError> {
        self.read(|txn| {
            let table = txn.open_table(ELEMENT_ROWS)?;
            // The newest first: an element that was put back has its last end there.
            for entry in ReadableTable::range(&table, (id.0, 0)..=(id.0, u32::MAX))?.rev() {
                let (key, bytes) = entry?;
                let key = key.value();
                if holds_position(bytes.value(), position).map_err(row("element_rows", key))? {
                    let ElementRow {
                        slot,
                        granted,
                        ends,
                        never_started,
                    } = decode_element_row(bytes.value()).map_err(row("element_rows", key))?;
                    let never = never_started.filter(|never| never.positions.contains(position));
                    let end = ends.into_iter().rfind(|end| end.position == position);
                    let end = end.or_else(|| never.map(|never| never.end_at(position)));
                    return Ok(end.map(|end| ElementAt { slot, granted, end }));
                }
            }
            Ok(None)
        })
    }

    /// The positions of an array that ended otherwise than COMPLETED.
    pub fn unsuccessful(&self, id: JobId) -> Result<IndexSet, StoreError> {
        self.read(|txn| load::unsuccessful(&txn.open_table(ELEMENT_ROWS)?, id))
    }

    /// The ended steps of a job.
    pub fn steps(&self, id: JobId) -> Result<Vec<StepRow>, StoreError> {
        self.read(|txn| {
            let table = txn.open_table(STEPS)?;
            ReadableTable::range(
                &table,
                (id.0, 0, 0, 0)..=(id.0, u32::MAX, u32::MAX, u32::MAX),
            )?
            .map(|entry| {
                let (key, bytes) = entry?;
                decode_step(key.value(), bytes.value()).map_err(row("steps", key.value()))
            })
            .collect()
        })
    }

    /// The latest lines of the audit, oldest first.
    pub fn audit(&self, limit: usize) -> Result<Vec<AuditRecord>, StoreError> {
        self.read(|txn| {
            let table = txn.open_table(AUDIT)?;
            let mut lines = Vec::new();
            for entry in table.iter()?.rev().take(limit) {
                let (number, bytes) = entry?;
                lines.push(decode_audit(bytes.value()).map_err(row("audit", number.value()))?);
            }
            lines.reverse();
            Ok(lines)
        })
    }

    /// Writes a consistent copy of the store, taken while commits go on, and says how many bytes it has. The copy is
    /// laid out in a file without a name in `scratch` first; it opens as a store of its own.
    pub fn backup(&self, scratch: &Path, out: &mut dyn Write) -> Result<u64, StoreError> {
        let txn = self.begin()?;
        backup::backup(&txn, scratch, out)
    }

    fn begin(&self) -> Result<ReadTransaction, StoreError> {
        self.database
            .begin_read()
            .map_err(|e| Fault::from(e).at(DOING, &self.path))
    }

    fn read<T>(
        &self,
        body: impl FnOnce(&ReadTransaction) -> Result<T, Fault>,
    ) -> Result<T, StoreError> {
        body(&self.begin()?).map_err(|fault| fault.at(DOING, &self.path))
    }
}

fn ended(txn: &ReadTransaction, id: JobId) -> Result<Option<EndedJob>, Fault> {
    let history = txn.open_table(HISTORY)?;
    let Some(bytes) = history.get(id.0)? else {
        return Ok(None);
    };
    let specs = txn.open_table(SPECS)?;
    let spec = specs
        .get(id.0)?
        .ok_or(RecordError::Empty)
        .map_err(row("specs", id))?;
    let spec = decode_spec(spec.value()).map_err(row("specs", id))?;
    Ok(Some(
        decode_ended(id, bytes.value(), Arc::new(spec)).map_err(row("history", id))?,
    ))
}

/// Some of the newest ended jobs between two places of the index.
fn section_of_history(
    txn: &ReadTransaction,
    oldest: (i64, u32),
    newest: (i64, u32),
) -> Result<Vec<EndedJob>, Fault> {
    let by_end = txn.open_table(HISTORY_BY_END)?;
    ReadableTable::range(&by_end, oldest..=newest)?
        .rev()
        .take(SECTION)
        .map(|entry| {
            let id = JobId(entry?.0.value().1);
            ended(txn, id)?
                .ok_or(RecordError::Empty)
                .map_err(row("history", id))
        })
        .collect()
}
