//! Stop at every write, sync and change of length of a script of commits; reopen; nothing acknowledged is lost and
//! nothing is half there. `tests/store_crash.rs` runs a longer script with more seeds.

use super::crash_script::{crash_everywhere, script};
use super::power_loss::Disk;
use super::{Store, StoreError, fixtures};

#[test]
fn a_crash_at_any_point_loses_nothing_acknowledged() {
    let points = crash_everywhere(&script(2, 2), 1);
    eprintln!("{points} crash points, each as a kill and as a power loss");
}

#[test]
fn a_failed_commit_refuses_all_later_ones() {
    let disk = Disk::default();
    let (mut store, _) = Store::open_backend(disk.clone()).unwrap();
    let job = fixtures::pending(1, fixtures::spec("a", None));
    disk.fail_after(0);
    assert!(matches!(
        store.commit(&fixtures::with_job(&job), &[]),
        Err(StoreError::Io { .. })
    ));
    assert!(matches!(
        store.commit(&fixtures::with_job(&job), &[]),
        Err(StoreError::Failed)
    ));
}
