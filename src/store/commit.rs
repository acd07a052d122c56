//! The one write path: the rows a batch of events changed, in one transaction.
//!
//! Blobs are counted by the specs that name them: a job brings its references when it first appears, and takes
//! them away when it is purged from history rather than when it ends, so that `hpc job` can still show the script.

use super::columns::encode_element_row;
use super::error::{Fault, StoreError, row};
use super::record::{
    decode_ended_at, decode_spec, encode_ended, encode_into, encode_job, encode_node, encode_order,
    encode_rule, encode_step, rule_key, step_key,
};
use super::tables::{
    AUDIT, BLOB_REFS, BLOBS, COUNTERS, ELEMENT_ROWS, HISTORY, HISTORY_BY_END, INVITATIONS, JOBS,
    KEYS, MERGES, META, NODES, RULES, SPECS, STEP_ORDERS, STEPS, USAGE,
};
use super::{Store, blob, retention};
use crate::cluster::changes::Changes;
use crate::model::history::EndedJob;
use crate::model::ids::{BlobId, JobId};
use crate::model::job::JobSpec;
use redb::{ReadableTable, WriteTransaction};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const DOING: &str = "committing";
/// Lines of the audit that are kept; each new one puts out the oldest.
const AUDIT_LINES_MAX: u64 = 1_000_000;

impl Store {
    /// Stores the changed rows, and those of `blobs` that a stored job names and that are not there yet. When it
    /// returns, all of it survives a power loss. When it fails, all of it is there or nothing is; nothing more
    /// is accepted then, and the controller starts again from what the file holds.
    pub fn commit(
        &mut self,
        changes: &Changes,
        blobs: &[(BlobId, Arc<[u8]>)],
    ) -> Result<(), StoreError> {
        let buffer = std::mem::take(&mut self.buffer);
        self.write(false, |txn, specs| {
            let mut batch = Batch {
                txn,
                buffer,
                references: BTreeMap::new(),
            };
            batch.jobs(changes, specs)?;
            batch.ended(changes, specs)?;
            batch.gone(changes)?;
            batch.element_rows(changes)?;
            batch.steps(changes)?;
            batch.orders(changes)?;
            batch.nodes(changes)?;
            batch.counters(changes)?;
            batch.members(changes)?;
            batch.rules(changes)?;
            batch.usage(changes)?;
            batch.audit(changes)?;
            batch.blobs(blobs)?;
            Ok(batch.buffer)
        })
        .map(|buffer| self.buffer = buffer)?;
        for (id, job) in &changes.jobs {
            match job {
                Some(job) => self.specs.insert(*id, job.spec.clone()),
                None => self.specs.remove(id),
            };
        }
        Ok(())
    }

    /// Leaves the file so that the next open is quick even after SIGKILL; call it when nothing has been committed
    /// for a while. Does nothing when nothing changed since.
    ///
    /// Measured on two shared cores, release build, file in the page cache (`cargo bench --bench store -- loads`):
    ///
    /// ```text
    ///   file     open after a kill        commit of one row    the same and settled
    ///            settled    unsettled     wall     cpu         wall      cpu
    ///     4 MiB    25 ms       28 ms      350 us   210 us       800 us   470 us
    ///    68 MiB    50 ms      109 ms      340 us   210 us       770 us   470 us
    ///   272 MiB   124 ms      351 ms      280 us   160 us       670 us   360 us
    /// ```
    ///
    /// (The opens load 10,000 pending jobs and the last 10,000 ends; the files hold 0, 100,000 and 500,000 ended
    /// jobs.) So an unsettled open pays about 0.85 ms for each MiB, and settling every commit would double the
    /// syncs, which on a lab's disk of 5 ms means 10 ms before every answer.
    pub fn settle(&mut self) -> Result<(), StoreError> {
        if self.unsettled {
            self.write(true, |_, _| Ok(()))
        } else {
            Ok(())
        }
    }

    /// Runs `body` in one durable transaction; any error leaves the file as it was and this store refusing.
    pub(super) fn write<T>(
        &mut self,
        settle: bool,
        body: impl FnOnce(&WriteTransaction, &BTreeMap<JobId, Arc<JobSpec>>) -> Result<T, Fault>,
    ) -> Result<T, StoreError> {
        if self.failed {
            return Err(StoreError::Failed);
        }
        // Set first: an error at any point below, a panic too, means that memory and file may differ.
        self.failed = true;
        let attempt = || {
            let mut txn = self.database.begin_write()?;
            txn.set_quick_repair(settle);
            let value = body(&txn, &self.specs)?;
            txn.commit()?;
            Ok(value)
        };
        let value = attempt().map_err(|fault: Fault| fault.at(DOING, &self.path))?;
        self.failed = false;
        self.unsettled = !settle;
        Ok(value)
    }
}

/// What one commit carries from table to table.
struct Batch<'a> {
    txn: &'a WriteTransaction,
    buffer: Vec<u8>,
    /// How many more (or fewer) specs name each blob.
    references: BTreeMap<BlobId, i64>,
}

impl Batch<'_> {
    fn jobs(
        &mut self,
        changes: &Changes,
        specs: &BTreeMap<JobId, Arc<JobSpec>>,
    ) -> Result<(), Fault> {
        if changes.jobs.is_empty() {
            return Ok(());
        }
        let mut table = self.txn.open_table(JOBS)?;
        for (id, job) in &changes.jobs {
            let Some(job) = job else {
                table.remove(id.0)?;
                continue;
            };
            encode_job(&mut self.buffer, job);
            table.insert(id.0, self.buffer.as_slice())?;
            if specs
                .get(id)
                .is_none_or(|stored| !Arc::ptr_eq(stored, &job.spec))
            {
                self.spec(*id, &job.spec)?;
            }
        }
        Ok(())
    }

    /// Writes a spec and moves the references to its blobs.
    fn spec(&mut self, id: JobId, spec: &JobSpec) -> Result<(), Fault> {
        encode_into(&mut self.buffer, spec);
        let mut table = self.txn.open_table(SPECS)?;
        let before = table.insert(id.0, self.buffer.as_slice())?;
        if let Some(before) = before {
            count(
                &mut self.references,
                &decode_spec(before.value()).map_err(row("specs", id))?,
                -1,
            );
        }
        count(&mut self.references, spec, 1);
        Ok(())
    }

    fn ended(
        &mut self,
        changes: &Changes,
        specs: &BTreeMap<JobId, Arc<JobSpec>>,
    ) -> Result<(), Fault> {
        if changes.ended.is_empty() {
            return Ok(());
        }
        let mut history = self.txn.open_table(HISTORY)?;
        let mut by_end = self.txn.open_table(HISTORY_BY_END)?;
        let brought: BTreeMap<JobId, &Arc<JobSpec>> = changes
            .jobs
            .iter()
            .filter_map(|(id, job)| Some((*id, &job.as_ref()?.spec)))
            .collect();
        for ended in &changes.ended {
            let stored = brought
                .get(&ended.id)
                .copied()
                .or_else(|| specs.get(&ended.id));
            if stored.is_none_or(|stored| !Arc::ptr_eq(stored, &ended.spec)) {
                self.spec(ended.id, &ended.spec)?;
            }
            encode_ended(&mut self.buffer, ended);
            let before = history
                .insert(ended.id.0, self.buffer.as_slice())?
                .map(|before| decode_ended_at(before.value()).map_err(row("history", ended.id)))
                .transpose()?;
            if let Some(before) = before {
                // It had ended before and was put back: one entry in the index, at its last end.
                by_end.remove((before.0, ended.id.0))?;
            }
            encode_into(&mut self.buffer, &(ended.state, ended.exit));
            by_end.insert((ended.ended.0, ended.id.0), self.buffer.as_slice())?;
        }
        self.merges(&changes.ended)
    }

    /// Notes the jobs whose element rows are worth merging.
    fn merges(&self, ended: &[EndedJob]) -> Result<(), Fault> {
        if ended.iter().all(|ended| ended.rows < 2) {
            return Ok(());
        }
        let mut table = self.txn.open_table(MERGES)?;
        for ended in ended.iter().filter(|ended| ended.rows >= 2) {
            table.insert(ended.id.0, (0, 0))?;
        }
        Ok(())
    }

    /// A job that leaves the hot state without an end leaves altogether.
    fn gone(&mut self, changes: &Changes) -> Result<(), Fault> {
        let ended: BTreeSet<JobId> = changes.ended.iter().map(|ended| ended.id).collect();
        for (id, job) in &changes.jobs {
            if job.is_none() && !ended.contains(id) {
                let history = self.txn.open_table(HISTORY)?;
                let known = history.get(id.0)?.is_some();
                drop(history);
                if !known {
                    retention::forget(self.txn, *id, &mut self.references)?;
                }
            }
        }
        Ok(())
    }

    fn element_rows(&mut self, changes: &Changes) -> Result<(), Fault> {
        if changes.rows.is_empty() {
            return Ok(());
        }
        let mut table = self.txn.open_table(ELEMENT_ROWS)?;
        for (job, number, row) in &changes.rows {
            encode_element_row(&mut self.buffer, row);
            table.insert((job.0, *number), self.buffer.as_slice())?;
        }
        Ok(())
    }

    fn steps(&mut self, changes: &Changes) -> Result<(), Fault> {
        if changes.steps.is_empty() {
            return Ok(());
        }
        let mut table = self.txn.open_table(STEPS)?;
        for step in &changes.steps {
            encode_step(&mut self.buffer, step);
            table.insert(step_key(step), self.buffer.as_slice())?;
        }
        Ok(())
    }

    fn orders(&mut self, changes: &Changes) -> Result<(), Fault> {
        if changes.orders.is_empty() {
            return Ok(());
        }
        let mut table = self.txn.open_table(STEP_ORDERS)?;
        for (slot, step, order) in &changes.orders {
            let key = (slot.job.0, slot.slot.0, step.0);
            match order {
                Some(order) => {
                    encode_order(&mut self.buffer, order);
                    table.insert(key, self.buffer.as_slice())
                }
                None => table.remove(key),
            }?;
        }
        Ok(())
    }

    fn nodes(&mut self, changes: &Changes) -> Result<(), Fault> {
        if changes.nodes.is_empty() {
            return Ok(());
        }
        let mut table = self.txn.open_table(NODES)?;
        for (id, node) in &changes.nodes {
            match node {
                Some(node) => {
                    encode_node(&mut self.buffer, node);
                    table.insert(id, self.buffer.as_slice())
                }
                None => table.remove(id),
            }?;
        }
        Ok(())
    }

    fn counters(&mut self, changes: &Changes) -> Result<(), Fault> {
        let Some(counters) = &changes.counters else {
            return Ok(());
        };
        encode_into(&mut self.buffer, counters);
        let mut table = self.txn.open_table(META)?;
        table.insert(COUNTERS, self.buffer.as_slice())?;
        Ok(())
    }

    fn members(&mut self, changes: &Changes) -> Result<(), Fault> {
        if !changes.keys.is_empty() {
            let mut table = self.txn.open_table(KEYS)?;
            for (key, known) in &changes.keys {
                match known {
                    Some(known) => {
                        encode_into(&mut self.buffer, &**known);
                        table.insert(&key.0, self.buffer.as_slice())
                    }
                    None => table.remove(&key.0),
                }?;
            }
        }
        if !changes.invitations.is_empty() {
            let mut table = self.txn.open_table(INVITATIONS)?;
            for (token, invitation) in &changes.invitations {
                match invitation {
                    Some(invitation) => {
                        encode_into(&mut self.buffer, &**invitation);
                        table.insert(&token.0, self.buffer.as_slice())
                    }
                    None => table.remove(&token.0),
                }?;
            }
        }
        Ok(())
    }

    fn rules(&mut self, changes: &Changes) -> Result<(), Fault> {
        if changes.rules.is_empty() {
            return Ok(());
        }
        let mut table = self.txn.open_table(RULES)?;
        for (noun, name, settings) in &changes.rules {
            let key = rule_key(*noun, name);
            match settings {
                Some(settings) => {
                    encode_rule(&mut self.buffer, settings);
                    table.insert(key.as_str(), self.buffer.as_slice())
                }
                None => table.remove(key.as_str()),
            }?;
        }
        Ok(())
    }

    fn usage(&mut self, changes: &Changes) -> Result<(), Fault> {
        if changes.usage.is_empty() {
            return Ok(());
        }
        let mut table = self.txn.open_table(USAGE)?;
        for ((account, user), usage) in &changes.usage {
            encode_into(&mut self.buffer, usage);
            table.insert((account.as_str(), &**user), self.buffer.as_slice())?;
        }
        Ok(())
    }

    fn audit(&mut self, changes: &Changes) -> Result<(), Fault> {
        if changes.audit.is_empty() {
            return Ok(());
        }
        let mut table = self.txn.open_table(AUDIT)?;
        let last = table.last()?.map_or(0, |(number, _)| number.value());
        for (record, number) in changes.audit.iter().zip(last + 1..) {
            encode_into(&mut self.buffer, record);
            table.insert(number, self.buffer.as_slice())?;
            if number > AUDIT_LINES_MAX {
                table.remove(number - AUDIT_LINES_MAX)?;
            }
        }
        Ok(())
    }

    /// Settles the references, then stores the blobs that came along and are referred to.
    fn blobs(&mut self, blobs: &[(BlobId, Arc<[u8]>)]) -> Result<(), Fault> {
        settle_references(self.txn, &self.references)?;
        if blobs.is_empty() {
            return Ok(());
        }
        let references = self.txn.open_table(BLOB_REFS)?;
        let mut table = self.txn.open_table(BLOBS)?;
        for (id, bytes) in blobs {
            let wanted = references.get(&id.0)?.is_some();
            let there = table.get(&id.0)?.is_some();
            if wanted && !there {
                blob::encode_blob(&mut self.buffer, bytes);
                table.insert(&id.0, self.buffer.as_slice())?;
            }
        }
        Ok(())
    }
}

/// Counts a spec's blobs up or down.
pub(super) fn count(references: &mut BTreeMap<BlobId, i64>, spec: &JobSpec, by: i64) {
    for blob in spec.blobs() {
        *references.entry(blob).or_default() += by;
    }
}

/// Adds what was counted to the table; a blob that nobody names any more goes.
pub(super) fn settle_references(
    txn: &WriteTransaction,
    references: &BTreeMap<BlobId, i64>,
) -> Result<(), Fault> {
    if references.values().all(|by| *by == 0) {
        return Ok(());
    }
    let mut counts = txn.open_table(BLOB_REFS)?;
    let mut blobs = txn.open_table(BLOBS)?;
    for (id, by) in references.iter().filter(|(_, by)| **by != 0) {
        let before = counts.get(&id.0)?.map_or(0, |count| count.value());
        match before.saturating_add_signed(*by) {
            0 => {
                counts.remove(&id.0)?;
                blobs.remove(&id.0)?;
            }
            after => {
                counts.insert(&id.0, after)?;
            }
        }
    }
    Ok(())
}
