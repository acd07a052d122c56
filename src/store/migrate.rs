//! From the schema a file has to the schema this release knows, one version at a time.
//!
//! A step rewrites what its version changed, in the transaction that also moves the version: a crash in between
//! leaves the old file. Most changes need no step, because a record carries a version of its own. A file from a
//! later release is refused by name. `tests/golden/` keeps one small store of every schema ever released.

use super::error::{Fault, StoreError};
use super::load::ClusterId;
use super::tables::{
    AUDIT, BLOB_REFS, BLOBS, CLUSTER, ELEMENT_ROWS, HISTORY, HISTORY_BY_END, INVITATIONS, JOBS,
    KEYS, MERGES, META, NODES, RULES, SCHEMA, SCHEMA_VERSION, SPECS, STEP_ORDERS, STEPS, USAGE,
};
use redb::{Database, ReadableDatabase, TableError, WriteTransaction};
use std::io::Read;
use std::path::Path;

/// Leads from one version to the next.
type Step = fn(&WriteTransaction) -> Result<(), Fault>;

/// The step at place `n` leads from schema `n + 1` to `n + 2`.
const STEPS_UP: [Step; SCHEMA_VERSION as usize - 1] = [members, rules, eviction, step_orders];

/// Machines and people from elsewhere, and the audit.
fn members(txn: &WriteTransaction) -> Result<(), Fault> {
    txn.open_table(KEYS)?;
    txn.open_table(INVITATIONS)?;
    txn.open_table(AUDIT)?;
    Ok(())
}

/// Partitions, accounts, users and QOS, and who has used how much. A release that knows nothing of them must not open the file: it would start jobs
/// past every limit, and its backups would leave the limits out.
fn rules(txn: &WriteTransaction) -> Result<(), Fault> {
    txn.open_table(RULES)?;
    txn.open_table(USAGE)?;
    Ok(())
}

/// Settings of preemption, and orders that come of it. A release that knows neither would read them as damage.
fn eviction(_: &WriteTransaction) -> Result<(), Fault> {
    Ok(())
}

/// Orders of steps that run. A release that knows nothing of them would leave behind those of steps that end meanwhile.
fn step_orders(txn: &WriteTransaction) -> Result<(), Fault> {
    txn.open_table(STEP_ORDERS)?;
    Ok(())
}

/// Makes a new file, or brings an older one up to date.
pub(super) fn prepare(database: &Database, path: &Path) -> Result<(), Fault> {
    match version(database)? {
        Some(SCHEMA_VERSION) => Ok(()),
        Some(older) => climb(database, path, older, &STEPS_UP),
        None => create(database, path),
    }
}

/// The schema of the file; `None` = a new one.
fn version(database: &Database) -> Result<Option<u32>, Fault> {
    let txn = database.begin_read()?;
    let meta = match txn.open_table(META) {
        Ok(meta) => meta,
        Err(TableError::TableDoesNotExist(_)) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let version = meta
        .get(SCHEMA)?
        .and_then(|bytes| bytes.value().try_into().ok());
    Ok(version.map(u32::from_le_bytes))
}

fn create(database: &Database, path: &Path) -> Result<(), Fault> {
    let txn = database.begin_write()?;
    if txn.list_tables()?.next().is_some() {
        // Somebody else's redb file: it has tables, but none of ours.
        return Err(StoreError::NotAStore {
            path: path.to_owned(),
        }
        .into());
    }
    // All tables exist from the start, so that readers need no case for a missing one.
    txn.open_table(JOBS)?;
    txn.open_table(SPECS)?;
    txn.open_table(ELEMENT_ROWS)?;
    txn.open_table(HISTORY)?;
    txn.open_table(HISTORY_BY_END)?;
    txn.open_table(STEPS)?;
    txn.open_table(NODES)?;
    txn.open_table(BLOBS)?;
    txn.open_table(BLOB_REFS)?;
    txn.open_table(MERGES)?;
    members(&txn)?;
    rules(&txn)?;
    step_orders(&txn)?;
    txn.open_table(META)?
        .insert(CLUSTER, new_cluster()?.0.as_slice())?;
    set_version(&txn, SCHEMA_VERSION)?;
    txn.commit()?;
    Ok(())
}

fn set_version(txn: &WriteTransaction, version: u32) -> Result<(), Fault> {
    txn.open_table(META)?
        .insert(SCHEMA, version.to_le_bytes().as_slice())?;
    Ok(())
}

fn new_cluster() -> Result<ClusterId, Fault> {
    let mut bytes = [0; 16];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(|source| StoreError::Io {
            doing: "drawing a name for the cluster",
            source,
        })?;
    Ok(ClusterId(bytes))
}

/// Takes the steps from `from` on, each in a transaction of its own.
fn climb(database: &Database, path: &Path, from: u32, steps: &[Step]) -> Result<(), Fault> {
    let known = u32::try_from(steps.len()).expect("few schemas") + 1;
    let newer = || StoreError::Newer {
        path: path.to_owned(),
        found: from,
        known,
    };
    // Version 0 never was.
    let done = (from as usize)
        .checked_sub(1)
        .filter(|done| *done <= steps.len())
        .ok_or_else(newer)?;
    for (step, version) in steps[done..].iter().zip(from + 1..) {
        let txn = database.begin_write()?;
        step(&txn)?;
        set_version(&txn, version)?;
        txn.commit()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use redb::ReadableTable;
    use redb::backends::InMemoryBackend;

    fn store(version: u32) -> Database {
        let database = Database::builder()
            .create_with_backend(InMemoryBackend::new())
            .unwrap();
        create(&database, Path::new("x")).unwrap();
        let txn = database.begin_write().unwrap();
        set_version(&txn, version).unwrap();
        txn.commit().unwrap();
        database
    }

    fn note(txn: &WriteTransaction, step: u8) -> Result<(), Fault> {
        let mut meta = txn.open_table(META)?;
        let mut notes = meta
            .get("notes")?
            .map(|notes| notes.value().to_vec())
            .unwrap_or_default();
        notes.push(step);
        meta.insert("notes", notes.as_slice())?;
        Ok(())
    }

    const STEPS_OF_TEST: [Step; 3] = [|txn| note(txn, 1), |txn| note(txn, 2), |txn| note(txn, 3)];

    #[test]
    fn each_older_schema_takes_the_steps_it_lacks() {
        for (from, notes) in [(1, vec![1, 2, 3]), (2, vec![2, 3]), (3, vec![3])] {
            let database = store(from);
            climb(&database, Path::new("x"), from, &STEPS_OF_TEST).unwrap();
            assert_eq!(version(&database).unwrap(), Some(4));
            let txn = database.begin_read().unwrap();
            assert_eq!(
                txn.open_table(META)
                    .unwrap()
                    .get("notes")
                    .unwrap()
                    .unwrap()
                    .value(),
                notes
            );
        }
    }

    #[test]
    fn a_step_that_fails_leaves_the_version_before_it() {
        let steps: [Step; 2] = [
            |txn| note(txn, 1),
            |txn| {
                note(txn, 2)?;
                Err(StoreError::Failed.into())
            },
        ];
        let database = store(1);
        climb(&database, Path::new("x"), 1, &steps).unwrap_err();
        assert_eq!(version(&database).unwrap(), Some(2));
        let txn = database.begin_read().unwrap();
        assert_eq!(
            txn.open_table(META)
                .unwrap()
                .get("notes")
                .unwrap()
                .unwrap()
                .value(),
            [1]
        );
    }

    #[test]
    fn a_later_schema_is_refused_by_name() {
        for version in [SCHEMA_VERSION + 1, 0] {
            let error = prepare(&store(version), Path::new("/x/hpc.redb"))
                .unwrap_err()
                .at("opening", Path::new(""));
            assert!(
                matches!(error, StoreError::Newer { found, known: SCHEMA_VERSION, .. } if found == version)
            );
        }
    }

    #[test]
    fn all_tables_of_the_page_exist_from_the_start() {
        use redb::TableHandle;
        let database = store(1);
        let txn = database.begin_read().unwrap();
        let mut names: Vec<String> = txn
            .list_tables()
            .unwrap()
            .map(|table| table.name().to_owned())
            .collect();
        names.sort();
        assert_eq!(names, super::super::tables::names());
    }
}
