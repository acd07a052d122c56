//! The stores of released schemas still open, and say what they said when they were written.
//!
//! `tests/golden/store-v1.redb` is made by the ignored test here. Once a release has written schema 1, that file
//! is never made again: a later shape gets a file of its own, and this one shows that old stores are read.

use super::fixtures::{
    self, Contents, blob, blobs, contents, ended, pending, spec, started, with_end, with_job,
};
use super::{Store, StoreOptions};
use crate::cluster::changes::{Changes, Counters};
use crate::model::ids::JobId;
use crate::model::job::{Hold, Reason};
use crate::model::time::Timestamp;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/store-v1.redb")
}

/// One of everything.
fn fill(store: &mut Store) {
    let mut held = pending(1, spec("held", None));
    held.hold = Hold::Admin;
    held.reason = Reason::JobHeldAdmin;
    held.not_before = Some(Timestamp(fixtures::START + 99));
    store.commit(&with_job(&held), &blobs("held")).unwrap();
    let mut array = started(&pending(2, spec("array", Some("0-9%2"))), 1);
    array.row_next = 1;
    array.ends.completed = 3;
    array.ends.unsuccessful = 1;
    array.restarts = vec![(7, 2)].into();
    let mut changes = with_job(&array);
    changes.rows = vec![(JobId(2), 0, fixtures::element_row(0, 0, 4, 4))];
    changes.steps = vec![fixtures::step(2, 0)];
    changes.nodes = vec![(1, Some(Arc::new(fixtures::node(1))))];
    store.commit(&changes, &blobs("array")).unwrap();
    let done = pending(12, spec("done", None));
    store.commit(&with_job(&done), &blobs("done")).unwrap();
    store.commit(&with_end(ended(&done, 5, 0)), &[]).unwrap();
    let counters = Some(Counters {
        job_next: 13,
        node_next: 2,
    });
    store
        .commit(
            &Changes {
                counters,
                ..Changes::default()
            },
            &[],
        )
        .unwrap();
}

fn read(path: &Path) -> Contents {
    let (store, loaded) = Store::open(path, StoreOptions::default()).unwrap();
    let names = ["script", "surroundings", "held", "array", "done"].map(|text| blob(text).0);
    contents(loaded, &store.reader(), &names).unwrap()
}

#[test]
fn a_store_of_schema_1_says_what_it_said() {
    let directory = tempfile::tempdir().unwrap();
    let old = directory.path().join("old.redb");
    std::fs::copy(golden(), &old).unwrap();
    let old = read(&old);
    let new = directory.path().join("new.redb");
    fill(&mut Store::open(&new, StoreOptions::default()).unwrap().0);
    let mut new = read(&new);
    new.loaded.cluster = old.loaded.cluster;
    assert_eq!(old, new);
}

#[test]
#[ignore = "writes tests/golden/store-v1.redb; only until a release has written schema 1"]
fn write_the_golden_store_of_schema_1() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("hpc.redb");
    let (mut store, _) = Store::open(&path, StoreOptions::default()).unwrap();
    fill(&mut store);
    store
        .reader()
        .backup(directory.path(), &mut File::create(golden()).unwrap())
        .unwrap();
}
