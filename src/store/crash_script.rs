//! A script of commits, and the check of what is found after a crash at each operation of the disk.
//!
//! Shared by the unit test beside it and the longer run of `tests/store_crash.rs`.

use super::fixtures::{self, Contents, contents};
use super::power_loss::{Disk, Random};
use crate::cluster::changes::Changes;
use crate::model::ids::{BlobId, SlotKey, StepId};
use crate::model::time::Timestamp;
use crate::store::{Store, StoreError};
use std::collections::BTreeSet;
use std::sync::Arc;

/// One acknowledged operation of the script.
pub(crate) enum Act {
    Commit(Box<Changes>, Vec<(BlobId, Arc<[u8]>)>),
    Settle,
    Purge(i64),
    Merge,
}

/// Jobs come, start, end in pieces, are put back and purged: `rounds` times, `width` jobs at a time.
pub(crate) fn script(rounds: u32, width: u32) -> Vec<Act> {
    let mut acts = vec![Act::Commit(
        Box::new(Changes {
            nodes: vec![(1, Some(Arc::new(fixtures::node(1))))],
            ..Changes::default()
        }),
        vec![],
    )];
    for round in 0..rounds {
        let first = 1 + round * (width + 8);
        let plain: Vec<_> = (first + 7..first + 7 + width)
            .map(|id| fixtures::pending(id, fixtures::spec(&format!("job{}", id % 5), None)))
            .collect();
        let array = fixtures::pending(first, fixtures::spec("array", Some("0-5")));
        for job in plain.iter().chain([&array]) {
            acts.push(Act::Commit(
                fixtures::with_job(job).into(),
                fixtures::blobs(&job.spec.name),
            ));
        }
        let mut running = fixtures::started(&array, 1);
        running.row_next = 1;
        running.ends.completed = 1;
        running.ends.unsuccessful = 1;
        let mut changes = fixtures::with_job(&running);
        changes.rows = vec![(array.id, 0, fixtures::element_row(0, 0, 2, 2))];
        let slot = SlotKey {
            job: array.id,
            slot: running.slots[0].id,
        };
        let steps = (0..3).map(fixtures::order);
        let steps = steps.map(|order| (slot, order.launch.step, Some(Arc::new(order))));
        changes.orders = steps.collect();
        acts.push(Act::Commit(changes.into(), vec![]));
        acts.push(Act::Settle);
        for (n, job) in plain.iter().enumerate() {
            let mut changes = fixtures::with_end(fixtures::ended(
                job,
                i64::from(round) * 10 + n as i64 % 3,
                0,
            ));
            changes.steps = vec![fixtures::step(job.id.0, 0)];
            acts.push(Act::Commit(changes.into(), vec![]));
        }
        let mut changes =
            fixtures::with_end(fixtures::ended(&running, i64::from(round) * 10 + 5, 2));
        changes.rows = vec![(array.id, 1, fixtures::element_row(0, 2, 4, 0))];
        changes.orders = vec![(slot, StepId(0), None), (slot, StepId(2), None)];
        changes.nodes = vec![(1, None), (2, Some(Arc::new(fixtures::node(2))))];
        acts.push(Act::Commit(changes.into(), vec![]));
        acts.push(Act::Merge);
        acts.push(Act::Purge(i64::from(round) * 10 - 6));
    }
    acts
}

fn act(store: &mut Store, act: &Act) -> Result<(), StoreError> {
    match act {
        Act::Commit(changes, blobs) => store.commit(changes, blobs),
        Act::Settle => store.settle(),
        Act::Purge(before) => store
            .purge(Timestamp(fixtures::START + before), u64::MAX, 100)
            .map(|purged| assert!(!purged.more)),
        Act::Merge => store.merge_rows(100).map(|more| assert!(!more)),
    }
}

fn read(disk: Vec<u8>, acts: &[Act]) -> Result<Contents, StoreError> {
    let blobs: BTreeSet<BlobId> = acts
        .iter()
        .filter_map(|act| {
            if let Act::Commit(_, blobs) = act {
                Some(blobs)
            } else {
                None
            }
        })
        .flatten()
        .map(|blob| blob.0)
        .collect();
    let (store, loaded) = Store::open_backend(Disk::holding(disk))?;
    contents(
        loaded,
        &store.reader(),
        &blobs.into_iter().collect::<Vec<_>>(),
    )
}

/// Runs the script once for each operation of the disk, which fails there. Returns how many there were.
pub(crate) fn crash_everywhere(acts: &[Act], seed: u64) -> u64 {
    // What the store holds after each act, from a disk that does not fail; all start from the same new store.
    let empty = Disk::default();
    drop(Store::open_backend(empty.clone()).expect("a new store"));
    let empty = empty.after_kill();
    let healthy = Disk::holding(empty.clone());
    let (mut store, _) = Store::open_backend(healthy.clone()).expect("a new store");
    let mut expected = vec![read(empty.clone(), acts).expect("an empty store")];
    for one in acts {
        act(&mut store, one).expect("nothing fails yet");
        expected.push(read(healthy.after_kill(), acts).expect("a copy of a healthy store"));
    }
    drop(store);
    let points = healthy.done();
    for k in 0..points {
        let disk = Disk::holding(empty.clone());
        disk.fail_after(k);
        let mut acknowledged = 0;
        if let Ok((mut store, _)) = Store::open_backend(disk.clone()) {
            acknowledged = acts
                .iter()
                .take_while(|one| act(&mut store, one).is_ok())
                .count();
            // Not dropped cleanly: a process that is gone writes nothing more. (The disk refuses anyway.)
        }
        let mut random = Random::new(seed.wrapping_mul(1_000_003).wrapping_add(k));
        let found = [
            ("kill", disk.after_kill()),
            ("power loss", disk.after_power_loss(&mut random)),
        ];
        for (how, bytes) in found {
            let place =
                format!("{how} at operation {k}, seed {seed}, {acknowledged} acts acknowledged");
            let held = read(bytes.clone(), acts)
                .unwrap_or_else(|error| panic!("{place}: does not open: {error:?}"));
            // The act in progress is there in full or not at all.
            let whole = expected[acknowledged..]
                .iter()
                .take(2)
                .position(|expected| *expected == held);
            assert!(
                whole.is_some(),
                "{place}: neither the state before nor after:\n{held:#?}"
            );
            // And life goes on from there.
            let (mut store, _) = Store::open_backend(Disk::holding(bytes)).expect("it opened once");
            for one in acts.iter().skip(acknowledged + whole.unwrap_or(0)) {
                act(&mut store, one)
                    .unwrap_or_else(|error| panic!("{place}: cannot go on: {error:?}"));
            }
        }
    }
    points
}
