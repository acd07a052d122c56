//! Keeping the file small: old history goes, short element rows become long ones, free pages go back to the disk.
//!
//! Each call is one transaction of bounded work, so that the loop can put it between two commits. redb uses freed
//! pages again, so purging alone bounds the file; compaction matters after a time of unusual load.

use super::Store;
use super::columns::{decode_element_row, encode_element_row};
use super::commit::{count, settle_references};
use super::error::{Fault, StoreError, row};
use super::record::{decode_ended, decode_ended_at, decode_spec, encode_ended};
use super::tables::{
    COMPACTED_BYTES, ELEMENT_ROWS, HISTORY, HISTORY_BY_END, JOBS, MERGES, META, SPECS, STEPS,
};
use crate::model::history::{ElementRow, Granted};
use crate::model::ids::{BlobId, JobId, SlotId};
use crate::model::time::Timestamp;
use redb::{Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, WriteTransaction};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A merged row has at most this many ends: some tens of kilobytes.
const ENDS_MAX: usize = 4096;
/// A smaller file is never compacted.
const COMPACT_FILE_MIN: u64 = 64 << 20;
/// What is in use must be less than this for an open to wait for compaction (about a second; see benches).
const COMPACT_USED_MAX: u64 = 256 << 20;

/// What one call of [`Store::purge`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Purged {
    /// Jobs that are gone from history.
    pub jobs: usize,
    /// Whether there is more to do: call again, after other work.
    pub more: bool,
}

impl Store {
    /// Removes from history the jobs that ended before `before`, and the oldest beyond `keep_at_most`, with their
    /// specs, element rows, steps and blobs; at most about `batch` rows in one call.
    pub fn purge(
        &mut self,
        before: Timestamp,
        keep_at_most: u64,
        batch: usize,
    ) -> Result<Purged, StoreError> {
        if !self.has_old(before, keep_at_most)? {
            return Ok(Purged::default());
        }
        self.write(false, |txn, _| purge(txn, before, keep_at_most, batch))
    }

    /// Rewrites up to `budget` short element rows of ended arrays into long ones; says whether there is more to do.
    pub fn merge_rows(&mut self, budget: usize) -> Result<bool, StoreError> {
        let waiting = self.look(|txn| Ok(!txn.open_table(MERGES)?.is_empty()?))?;
        if waiting {
            self.write(false, |txn, _| merge_rows(txn, budget.max(2)))
        } else {
            Ok(false)
        }
    }

    /// Whether a purge would find something: no transaction is written for nothing.
    fn has_old(&self, before: Timestamp, keep_at_most: u64) -> Result<bool, StoreError> {
        self.look(|txn| {
            let by_end = txn.open_table(HISTORY_BY_END)?;
            let oldest = by_end.first()?.map(|(key, _)| key.value().0);
            Ok(oldest.is_some_and(|end| end < before.0) || by_end.len()? > keep_at_most)
        })
    }

    fn look<T>(
        &self,
        body: impl FnOnce(&redb::ReadTransaction) -> Result<T, Fault>,
    ) -> Result<T, StoreError> {
        let attempt = || body(&self.database.begin_read()?);
        attempt().map_err(|fault: Fault| fault.at("looking for old rows", &self.path))
    }
}

fn purge(
    txn: &WriteTransaction,
    before: Timestamp,
    keep_at_most: u64,
    batch: usize,
) -> Result<Purged, Fault> {
    let mut by_end = txn.open_table(HISTORY_BY_END)?;
    let mut purged = Purged::default();
    let mut references = BTreeMap::new();
    let mut budget = batch.max(1);
    loop {
        let oldest = by_end.first()?.map(|(key, _)| key.value());
        let Some((end, id)) = oldest else {
            break;
        };
        if end >= before.0 && by_end.len()? <= keep_at_most {
            break;
        }
        // A job put back after its end is hot again: only its entry in history is old, the rest is in use.
        let hot = txn.open_table(JOBS)?.get(id)?.is_some();
        if budget == 0 || (!hot && !forget_rows(txn, JobId(id), &mut budget)?) {
            purged.more = true;
            break;
        }
        by_end.remove((end, id))?;
        txn.open_table(HISTORY)?.remove(id)?;
        txn.open_table(MERGES)?.remove(id)?;
        if !hot {
            forget(txn, JobId(id), &mut references)?;
        }
        purged.jobs += 1;
        budget = budget.saturating_sub(1);
    }
    settle_references(txn, &references)?;
    Ok(purged)
}

/// Removes element rows and steps while the budget lasts; whether none are left.
fn forget_rows(txn: &WriteTransaction, id: JobId, budget: &mut usize) -> Result<bool, Fault> {
    let mut rows = txn.open_table(ELEMENT_ROWS)?;
    let mut gone = 0;
    for entry in rows
        .extract_from_if((id.0, 0)..=(id.0, u32::MAX), |_, _| true)?
        .take(*budget)
    {
        entry?;
        gone += 1;
    }
    *budget -= gone;
    let mut steps = txn.open_table(STEPS)?;
    let mut gone = 0;
    let all = (id.0, 0, 0, 0)..=(id.0, u32::MAX, u32::MAX, u32::MAX);
    for entry in steps.extract_from_if(all, |_, _| true)?.take(*budget) {
        entry?;
        gone += 1;
    }
    *budget -= gone;
    // With budget left both walks came to their end; without, the next call looks again.
    Ok(*budget > 0)
}

/// Removes a job's spec and whatever else is left of it, and counts its blobs down.
pub(super) fn forget(
    txn: &WriteTransaction,
    id: JobId,
    references: &mut BTreeMap<BlobId, i64>,
) -> Result<(), Fault> {
    let mut specs = txn.open_table(SPECS)?;
    if let Some(spec) = specs.remove(id.0)? {
        count(
            references,
            &decode_spec(spec.value()).map_err(row("specs", id))?,
            -1,
        );
    }
    forget_rows(txn, id, &mut usize::MAX.clone())?;
    Ok(())
}

/// One section of the first job that waits.
fn merge_rows(txn: &WriteTransaction, budget: usize) -> Result<bool, Fault> {
    let mut merges = txn.open_table(MERGES)?;
    let Some((id, from, to)) = merges
        .first()?
        .map(|(id, place)| (id.value(), place.value().0, place.value().1))
    else {
        return Ok(false);
    };
    let mut rows = txn.open_table(ELEMENT_ROWS)?;
    let mut section = Vec::new();
    for entry in rows.range((id, from)..=(id, u32::MAX))?.take(budget) {
        let (key, bytes) = entry?;
        section.push((
            key.value().1,
            decode_element_row(bytes.value()).map_err(row("element_rows", key.value()))?,
        ));
    }
    let finished = section.len() < budget;
    let next = section
        .last()
        .map_or(from, |(number, _)| number.saturating_add(1));
    for (number, _) in &section {
        rows.remove((id, *number))?;
    }
    let mut buffer = Vec::new();
    let mut place = to;
    for merged in merge(section.into_iter().map(|(_, row)| row)) {
        encode_element_row(&mut buffer, &merged);
        rows.insert((id, place), buffer.as_slice())?;
        place += 1;
    }
    if finished {
        merges.remove(id)?;
        set_rows(txn, JobId(id), place)?;
    } else {
        merges.insert(id, (next, place))?;
    }
    Ok(!merges.is_empty()?)
}

/// Joins rows of one slot and one grant, never more of them than there were, in order of their first.
fn merge(rows: impl Iterator<Item = ElementRow>) -> Vec<ElementRow> {
    let mut merged: Vec<ElementRow> = Vec::new();
    let mut open: BTreeMap<Option<SlotId>, usize> = BTreeMap::new();
    for row in rows {
        if row.never_started.is_some() {
            merged.push(row);
            continue;
        }
        let fits = |into: &ElementRow| {
            same_grant(&into.granted, &row.granted) && into.ends.len() + row.ends.len() <= ENDS_MAX
        };
        match open.get(&row.slot).copied().filter(|at| fits(&merged[*at])) {
            Some(at) => merged[at].ends.extend(row.ends),
            None => {
                open.insert(row.slot, merged.len());
                merged.push(row);
            }
        }
    }
    merged
}

fn same_grant(a: &Arc<Granted>, b: &Arc<Granted>) -> bool {
    Arc::ptr_eq(a, b) || a == b
}

/// The number of rows that the merged job has now.
fn set_rows(txn: &WriteTransaction, id: JobId, number: u32) -> Result<(), Fault> {
    let mut history = txn.open_table(HISTORY)?;
    let specs = txn.open_table(SPECS)?;
    let (Some(spec), Some(bytes)) = (
        specs.get(id.0)?,
        history.get(id.0)?.map(|bytes| bytes.value().to_vec()),
    ) else {
        return Ok(());
    };
    let spec = decode_spec(spec.value()).map_err(row("specs", id))?;
    let mut ended = decode_ended(id, &bytes, Arc::new(spec)).map_err(row("history", id))?;
    ended.rows = number;
    let mut buffer = Vec::new();
    encode_ended(&mut buffer, &ended);
    debug_assert_eq!(
        decode_ended_at(&buffer),
        Ok(ended.ended),
        "the index is found by the record's first field"
    );
    history.insert(id.0, buffer.as_slice())?;
    Ok(())
}

/// Gives free pages back to the disk when the file is large, has doubled since the last look, is mostly empty, and
/// what is in use is little enough that nobody waits long for the controller.
pub(super) fn compact_when_worthwhile(
    database: &mut Database,
    file_bytes: u64,
) -> Result<(), Fault> {
    if file_bytes < COMPACT_FILE_MIN || file_bytes / 2 < looked_at(database)? {
        return Ok(());
    }
    // A commit frees the pages that the one before it replaced: only then are they counted as free.
    database.begin_write()?.commit()?;
    let txn = database.begin_write()?;
    let stats = txn.stats()?;
    txn.abort()?;
    let used = stats.allocated_pages() * stats.page_size() as u64;
    if used > COMPACT_USED_MAX || used > file_bytes / 2 {
        return look_again_beyond(database, file_bytes);
    }
    database.compact()?;
    look_again_beyond(database, used)
}

/// The length at which the file was last looked at.
fn looked_at(database: &Database) -> Result<u64, Fault> {
    let meta = database.begin_read()?.open_table(META)?;
    let bytes = meta
        .get(COMPACTED_BYTES)?
        .and_then(|bytes| bytes.value().try_into().ok());
    Ok(bytes.map_or(0, u64::from_le_bytes))
}

fn look_again_beyond(database: &Database, bytes: u64) -> Result<(), Fault> {
    let txn = database.begin_write()?;
    txn.open_table(META)?
        .insert(COMPACTED_BYTES, bytes.to_le_bytes().as_slice())?;
    txn.commit()?;
    Ok(())
}
