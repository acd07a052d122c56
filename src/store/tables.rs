//! Every table of the store, on one page. Keys sort as numbers do, so a range of keys is a range of jobs or of time.
//!
//! Values are records of `record.rs` (first byte = version) except where a plain number says it all. A job's
//! spec never changes after admission and is by far its largest part, so it has a table of its own: a start or
//! an end rewrites about a hundred bytes, and the history shares the spec with the job that it was.
//!
//! ```text
//!   hot:      jobs ──┐                                nodes        meta
//!                    ├─▶ specs ─▶ blob_refs, blobs
//!   ended: history ──┘      history_by_end (the index)             element_rows, steps (both)
//!   running steps of hot jobs: step_orders
//!   members: keys, invitations       audit       rules
//! ```

use redb::TableDefinition;

/// Name -> bytes: [`SCHEMA`], [`CLUSTER`], [`COUNTERS`], [`COMPACTED_BYTES`].
pub(super) const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
/// Job -> its hot record, without the spec. Only jobs that have not ended.
pub(super) const JOBS: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("jobs");
/// Job -> what was asked; of hot and of ended jobs.
pub(super) const SPECS: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("specs");
/// (job, row) -> ends of elements, packed in columns. Appended; merged into longer rows after the job's end.
pub(super) const ELEMENT_ROWS: TableDefinition<'_, (u32, u32), &[u8]> =
    TableDefinition::new("element_rows");
/// Job -> how it ended, without the spec.
pub(super) const HISTORY: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("history");
/// (end in ms, job) -> state and exit, so that a start reads the recent ends from the index alone.
pub(super) const HISTORY_BY_END: TableDefinition<'_, (i64, u32), &[u8]> =
    TableDefinition::new("history_by_end");
/// (job, slot, node, step) -> a step that has ended.
pub(super) const STEPS: TableDefinition<'_, (u32, u32, u32, u32), &[u8]> =
    TableDefinition::new("steps");
/// (job, slot, step) -> how a step that runs was ordered: to be said again, and to know which cpus it holds.
pub(super) const STEP_ORDERS: TableDefinition<'_, (u32, u32, u32), &[u8]> =
    TableDefinition::new("step_orders");
/// Node -> its record.
pub(super) const NODES: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("nodes");
/// SHA-256 -> bytes, compressed where that pays.
pub(super) const BLOBS: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("blobs");
/// SHA-256 -> how many specs name it.
pub(super) const BLOB_REFS: TableDefinition<'_, &[u8; 32], u64> = TableDefinition::new("blob_refs");
/// Ended job -> (next row to read, next row to write): element rows that still are to be merged.
pub(super) const MERGES: TableDefinition<'_, u32, (u32, u32)> = TableDefinition::new("merges");

/// SHA-256 of a public key -> what it speaks for.
pub(super) const KEYS: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("keys");
/// SHA-256 of a secret -> the invitation that it is of.
pub(super) const INVITATIONS: TableDefinition<'_, &[u8; 32], &[u8]> =
    TableDefinition::new("invitations");
/// Number, in order of time -> who asked for what.
pub(super) const AUDIT: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("audit");

/// `NOUN/NAME`, such as `qos/normal` -> what is said of it. Empty in a store that no controller has begun with.
pub(super) const RULES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("rules");
/// (account, user) -> what they have used, and when it was that much.
pub(super) const USAGE: TableDefinition<'_, (&str, &str), &[u8]> = TableDefinition::new("usage");

/// In [`META`]: the schema version, a little-endian `u32`.
pub(super) const SCHEMA: &str = "schema";
/// In [`META`]: 16 random bytes that name this cluster.
pub(super) const CLUSTER: &str = "cluster";
/// In [`META`]: the counters' record.
pub(super) const COUNTERS: &str = "counters";
/// In [`META`]: the file's length after its last compaction, a little-endian `u64`.
pub(super) const COMPACTED_BYTES: &str = "compacted_bytes";

/// The version of the layout on this page; `migrate.rs` leads older files here.
pub(super) const SCHEMA_VERSION: u32 = 5;

/// The names of all tables, for the test that a backup forgets none.
#[cfg(test)]
pub(super) fn names() -> Vec<String> {
    use redb::TableHandle;
    let mut names: Vec<String> = [
        META.name(),
        JOBS.name(),
        SPECS.name(),
        ELEMENT_ROWS.name(),
        HISTORY.name(),
        HISTORY_BY_END.name(),
        STEPS.name(),
        STEP_ORDERS.name(),
        NODES.name(),
        BLOBS.name(),
        BLOB_REFS.name(),
        MERGES.name(),
        KEYS.name(),
        INVITATIONS.name(),
        AUDIT.name(),
        RULES.name(),
        USAGE.name(),
    ]
    .map(str::to_owned)
    .to_vec();
    names.sort();
    names
}
