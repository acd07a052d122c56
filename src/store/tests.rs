//! What was committed is read back, from a file, by the next process and by readers.

use super::fixtures::{
    self, START, blob, blobs, ended, pending, spec, started, with_end, with_job,
};
use super::{Purged, Reader, Store, StoreError, StoreOptions, tables};
use crate::cluster::changes::{Changes, Counters};
use crate::model::ids::{JobId, SlotId, SlotKey};
use crate::model::index_set::IndexSet;
use crate::model::job::{ExitStatus, Job, JobState, Reason};
use crate::model::rules::{Noun, Rules, Setting};
use crate::model::time::Timestamp;
use redb::backends::InMemoryBackend;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

fn memory() -> Store {
    Store::open_backend(InMemoryBackend::new()).unwrap().0
}

fn place() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("hpc.redb");
    (directory, path)
}

fn open(path: &Path) -> Result<(Store, super::Loaded), StoreError> {
    Store::open(path, StoreOptions::default())
}

fn commit(store: &mut Store, changes: &Changes) {
    store.commit(changes, &[]).unwrap();
}

fn history(reader: &Reader, since: i64, until: i64) -> Vec<u32> {
    let mut ids = Vec::new();
    reader
        .history(
            Timestamp(START + since),
            Timestamp(START + until),
            &mut |ended| {
                ids.push(ended.id.0);
                ControlFlow::Continue(())
            },
        )
        .unwrap();
    ids
}

#[test]
fn what_was_committed_is_loaded_by_the_next_process() {
    let (_directory, path) = place();
    let (mut store, loaded) = open(&path).unwrap();
    assert!(loaded.jobs.is_empty() && loaded.nodes.is_empty() && loaded.recent.is_empty());
    assert_eq!(loaded.counters, Counters::default());
    let cluster = loaded.cluster;

    let waiting = pending(1, spec("a", None));
    let mut running = started(&pending(2, spec("b", Some("0-9%3"))), 1);
    running.restarts = vec![(4, 2)].into();
    running.waits_for = vec![0, 2].into();
    running.reason = Reason::JobLaunchFailure("no such directory".into());
    let changes = Changes {
        jobs: vec![
            (JobId(1), Some(Arc::new(waiting.clone()))),
            (JobId(2), Some(Arc::new(running.clone()))),
        ],
        nodes: vec![
            (7, Some(Arc::new(fixtures::node(7)))),
            (8, Some(Arc::new(fixtures::node(8)))),
        ],
        counters: Some(Counters {
            job_next: 12,
            node_next: 9,
        }),
        ..Changes::default()
    };
    store.commit(&changes, &blobs("a")).unwrap();
    commit(
        &mut store,
        &Changes {
            nodes: vec![(8, None)],
            ..Changes::default()
        },
    );
    drop(store);

    let (_store, loaded) = open(&path).unwrap();
    assert_eq!(loaded.cluster, cluster);
    assert_eq!(
        loaded.counters,
        Counters {
            job_next: 12,
            node_next: 9
        }
    );
    assert_eq!(loaded.jobs, [Arc::new(waiting), Arc::new(running)]);
    assert_eq!(loaded.nodes, [Arc::new(fixtures::node(7))]);
    assert!(
        Arc::ptr_eq(&loaded.jobs[0].owner.name, &loaded.jobs[1].owner.name),
        "one copy of an owner's name"
    );
}

/// One of a noun, and its settings; `None` = removed.
type Said<'a> = (Noun, &'a str, Option<&'a [(&'a str, &'a str)]>);

fn rules(said: &[Said<'_>]) -> Changes {
    let settings = |list: &[(&str, &str)]| -> Vec<Setting> {
        let list = list.iter();
        list.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    };
    let said = said.iter();
    Changes {
        rules: said
            .map(|(noun, name, list)| (*noun, (*name).to_owned(), list.map(settings)))
            .collect(),
        ..Changes::default()
    }
}

/// What a controller begins with.
fn initial_rules() -> Changes {
    let rules = Rules::initial();
    let all = Noun::ALL.into_iter().flat_map(|noun| {
        let names = rules.names(noun).into_iter();
        names.map(move |name| (noun, name.to_owned()))
    });
    Changes {
        rules: all
            .map(|(noun, name)| {
                let settings = rules.settings(noun, &name);
                (noun, name, settings)
            })
            .collect(),
        ..Changes::default()
    }
}

#[test]
fn rules_are_read_back_changed_and_removed() {
    let (directory, path) = place();
    let (mut store, loaded) = open(&path).unwrap();
    assert_eq!(loaded.rules, None, "nothing was ever said");
    commit(&mut store, &initial_rules());
    commit(
        &mut store,
        &rules(&[
            (Noun::Qos, "normal", Some(&[("max-jobs-per-user", "1")])),
            (Noun::Account, "physics", Some(&[("shares", "3")])),
            (Noun::Account, "optics", Some(&[("parent", "physics")])),
            // All that is said of her is her name.
            (Noun::User, "ann", Some(&[])),
        ]),
    );
    drop(store);
    let (mut store, loaded) = open(&path).unwrap();
    let held = loaded.rules.unwrap();
    assert_eq!(held.accounts["physics"].shares, 3);
    assert_eq!(held.settings(Noun::Qos, "normal").unwrap().len(), 1);
    assert!(held.has(Noun::User, "ann") && held.has(Noun::Partition, "interactive"));
    commit(
        &mut store,
        &rules(&[
            (Noun::Account, "optics", None),
            (Noun::Qos, "normal", Some(&[])),
        ]),
    );
    let copy = directory.path().join("copy");
    let mut file = std::fs::File::create(&copy).unwrap();
    store.reader().backup(directory.path(), &mut file).unwrap();
    drop(store);
    for path in [path, copy] {
        let held = open(&path).unwrap().1.rules.unwrap();
        assert!(held.has(Noun::Account, "physics") && !held.has(Noun::Account, "optics"));
        assert_eq!(held.settings(Noun::Qos, "normal"), Some(Vec::new()));
    }
}

#[test]
fn a_row_that_makes_no_rules_is_named() {
    for (said, named) in [
        (
            (
                Noun::Qos,
                "normal",
                Some(&[("max-jobs-per-user", "many")][..]),
            ),
            "qos/normal",
        ),
        (
            (Noun::User, "ann", Some(&[("colour", "red")][..])),
            "no such key",
        ),
        (
            (Noun::User, "ann", Some(&[("account", "gone")][..])),
            "user `ann` names account `gone`",
        ),
        ((Noun::Account, "default", None), "account `default`"),
    ] {
        let disk = super::power_loss::Disk::default();
        let (mut store, _) = Store::open_backend(disk.clone()).unwrap();
        commit(&mut store, &initial_rules());
        commit(&mut store, &rules(&[said]));
        drop(store);
        let error = Store::open_backend(disk).unwrap_err();
        let StoreError::Record { table, key, source } = &error else {
            panic!("{error}");
        };
        let text = format!("{table} {key}: {source}");
        assert!(text.contains(named), "{text}");
    }
}

#[test]
fn unsuccessful_positions_are_rebuilt_from_the_rows() {
    let disk = super::power_loss::Disk::default();
    let (mut store, _) = Store::open_backend(disk.clone()).unwrap();
    let mut array = pending(1, spec("a", Some("0-99")));
    array.ends.unsuccessful = 25;
    let mut changes = with_job(&array);
    changes.rows = (0..10)
        .map(|n| (JobId(1), n, fixtures::element_row(n % 3, n * 10, 10, 4)))
        .collect();
    // Another job's rows next to it are another job's.
    let mut other = pending(200, spec("b", Some("0-9")));
    other.ends.completed = 10;
    changes.jobs.push((JobId(200), Some(Arc::new(other))));
    changes
        .rows
        .push((JobId(200), 0, fixtures::element_row(0, 0, 10, 1)));
    commit(&mut store, &changes);
    let expected: IndexSet = (0..100).filter(|position| position % 4 == 0).collect();
    assert_eq!(store.reader().unsuccessful(JobId(1)).unwrap(), expected);
    drop(store);
    let (_store, loaded) = Store::open_backend(disk).unwrap();
    assert_eq!(*loaded.jobs[0].unsuccessful, expected);
    assert!(
        loaded.jobs[1].unsuccessful.is_empty(),
        "nothing is read where the job counts no failure"
    );
}

#[test]
fn an_ended_job_leaves_the_hot_state_and_stays_in_history() {
    let (_directory, path) = place();
    let (mut store, _) = open(&path).unwrap();
    let job = pending(1, spec("a", None));
    commit(&mut store, &with_job(&job));
    let mut end = ended(&job, 50, 0);
    (end.state, end.exit) = (JobState::Failed, ExitStatus { code: 3, signal: 0 });
    let mut changes = with_end(end.clone());
    changes.steps = vec![
        fixtures::step(1, 0),
        fixtures::step(1, 1),
        fixtures::step(2, 0),
    ];
    commit(&mut store, &changes);
    let reader = store.reader();
    assert_eq!(reader.ended(JobId(1)).unwrap(), Some(end));
    assert_eq!(reader.ended(JobId(2)).unwrap(), None);
    assert_eq!(
        reader.steps(JobId(1)).unwrap(),
        [fixtures::step(1, 0), fixtures::step(1, 1)]
    );
    drop((store, reader));
    let (_store, loaded) = open(&path).unwrap();
    assert!(loaded.jobs.is_empty());
    let expected = (
        JobId(1),
        JobState::Failed,
        ExitStatus { code: 3, signal: 0 },
        Timestamp(START + 50),
    );
    assert_eq!(loaded.recent, [expected]);
}

#[test]
fn orders_of_steps_are_kept_while_they_run() {
    let (_directory, path) = place();
    let (mut store, _) = open(&path).unwrap();
    let job = started(&pending(1, spec("a", None)), 1);
    let key = SlotKey {
        job: job.id,
        slot: job.slots[0].id,
    };
    let orders = [0, 1].map(|step| Arc::new(fixtures::order(step)));
    let mut changes = with_job(&job);
    changes.orders = orders
        .iter()
        .map(|order| (key, order.launch.step, Some(Arc::clone(order))))
        .collect();
    commit(&mut store, &changes);
    drop(store);
    let (mut store, loaded) = open(&path).unwrap();
    let expected = orders.clone().map(|order| (key, order));
    assert_eq!(loaded.orders, expected);
    let over = Changes {
        orders: vec![(key, orders[0].launch.step, None)],
        ..Changes::default()
    };
    assert!(!over.is_empty());
    commit(&mut store, &over);
    drop(store);
    let (_store, loaded) = open(&path).unwrap();
    assert_eq!(loaded.orders, expected[1..]);
}

#[test]
fn a_job_that_comes_and_ends_in_one_commit_keeps_its_spec() {
    let mut store = memory();
    let job = pending(1, spec("a", None));
    store
        .commit(&with_end(ended(&job, 1, 0)), &blobs("a"))
        .unwrap();
    assert_eq!(
        store.reader().ended(JobId(1)).unwrap(),
        Some(ended(&job, 1, 0))
    );
    assert!(store.reader().blob(blob("a").0).unwrap().is_some());
}

#[test]
fn a_job_that_ends_twice_is_in_history_once() {
    let mut store = memory();
    let job = pending(1, spec("a", None));
    commit(&mut store, &with_job(&job));
    commit(&mut store, &with_end(ended(&job, 10, 0)));
    commit(&mut store, &with_job(&job));
    // Hot again, its old end may be purged without taking the spec away.
    commit(&mut store, &with_end(ended(&job, 20, 0)));
    assert_eq!(history(&store.reader(), 0, 100), [1]);
    assert_eq!(history(&store.reader(), 0, 19), [0; 0]);
}

#[test]
fn purging_the_old_end_of_a_hot_job_leaves_the_job() {
    let disk = super::power_loss::Disk::default();
    let (mut store, _) = Store::open_backend(disk.clone()).unwrap();
    let job = pending(1, spec("a", None));
    store.commit(&with_job(&job), &blobs("a")).unwrap();
    commit(&mut store, &with_end(ended(&job, 10, 0)));
    commit(&mut store, &with_job(&job));
    assert_eq!(
        store.purge(Timestamp(START + 11), 0, 100).unwrap(),
        Purged {
            jobs: 1,
            more: false
        }
    );
    assert!(store.reader().blob(blob("a").0).unwrap().is_some());
    drop(store);
    let (_store, loaded) = Store::open_backend(disk).unwrap();
    assert_eq!(loaded.jobs, [Arc::new(job)]);
}

#[test]
fn history_is_newest_first_between_two_times() {
    let mut store = memory();
    let ends: Vec<_> = (1..=1000)
        .map(|id| ended(&pending(id, spec("a", None)), i64::from(id / 2), 0))
        .collect();
    commit(
        &mut store,
        &Changes {
            ended: ends,
            ..Changes::default()
        },
    );
    let reader = store.reader();
    assert_eq!(
        history(&reader, 0, 1000),
        (1..=1000).rev().collect::<Vec<_>>()
    );
    assert_eq!(history(&reader, 100, 101), [203, 202, 201, 200]);
    assert_eq!(history(&reader, 101, 100), [0; 0]);
    let mut first = Vec::new();
    reader
        .history(Timestamp(i64::MIN), Timestamp(i64::MAX), &mut |ended| {
            first.push(ended.id.0);
            if first.len() == 300 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })
        .unwrap();
    assert_eq!(first, (701..=1000).rev().collect::<Vec<_>>());
}

#[test]
fn one_element_is_found_among_many_rows() {
    let mut store = memory();
    let rows = (0..600)
        .map(|n| (JobId(1), n, fixtures::element_row(n % 7, n * 8, 8, 5)))
        .collect();
    commit(
        &mut store,
        &Changes {
            rows,
            ..Changes::default()
        },
    );
    let reader = store.reader();
    let at = reader.element_end(JobId(1), 4321).unwrap().unwrap();
    assert_eq!(
        (at.slot, at.end),
        (Some(SlotId(540 % 7)), fixtures::end(4321, true))
    );
    assert_eq!(reader.element_end(JobId(1), 4800).unwrap(), None);
    let mut numbers = Vec::new();
    reader
        .element_rows(JobId(1), &mut |number, _| {
            numbers.push(number);
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(numbers, (0..600).collect::<Vec<_>>());
}

#[test]
fn equal_blobs_are_stored_once_and_live_until_the_last_job_is_purged() {
    let mut store = memory();
    let jobs: Vec<Job> = (1..=2)
        .map(|id| pending(id, spec(&format!("own{id}"), None)))
        .collect();
    for job in &jobs {
        store
            .commit(&with_job(job), &blobs(&job.spec.name))
            .unwrap();
    }
    let stray = blob("nobody names this");
    store
        .commit(&Changes::default(), std::slice::from_ref(&stray))
        .unwrap();
    let reader = store.reader();
    let there = |text: &str| {
        reader
            .blob(blob(text).0)
            .unwrap()
            .map(|bytes| String::from_utf8(bytes).unwrap())
    };
    assert_eq!(there("script").as_deref(), Some("script"));
    assert_eq!(
        there("nobody names this"),
        None,
        "a blob that no job names would stay for ever"
    );
    for (n, job) in jobs.iter().enumerate() {
        commit(&mut store, &with_job(&started(job, 1)));
        commit(&mut store, &with_end(ended(job, n as i64, 0)));
    }
    assert!(there("own1").is_some(), "ended jobs keep their blobs");
    store.purge(Timestamp(START + 1), u64::MAX, 100).unwrap();
    assert_eq!((there("own1"), there("script").is_some()), (None, true));
    store.purge(Timestamp(START + 2), u64::MAX, 100).unwrap();
    assert_eq!((there("own2"), there("script")), (None, None));
    assert_eq!(everything_else(&store), 0);
}

/// Rows left in the tables of jobs.
fn everything_else(store: &Store) -> u64 {
    use redb::{ReadableDatabase, ReadableTableMetadata};
    let txn = store.database.begin_read().unwrap();
    txn.open_table(tables::SPECS).unwrap().len().unwrap()
        + txn.open_table(tables::JOBS).unwrap().len().unwrap()
        + txn.open_table(tables::HISTORY).unwrap().len().unwrap()
        + txn
            .open_table(tables::HISTORY_BY_END)
            .unwrap()
            .len()
            .unwrap()
        + txn.open_table(tables::ELEMENT_ROWS).unwrap().len().unwrap()
        + txn.open_table(tables::STEPS).unwrap().len().unwrap()
        + txn.open_table(tables::BLOBS).unwrap().len().unwrap()
        + txn.open_table(tables::BLOB_REFS).unwrap().len().unwrap()
        + txn.open_table(tables::MERGES).unwrap().len().unwrap()
}

#[test]
fn an_updated_spec_moves_its_references() {
    let mut store = memory();
    let mut job = pending(1, spec("before", None));
    store.commit(&with_job(&job), &blobs("before")).unwrap();
    job.spec = Arc::new(spec("after", None));
    store.commit(&with_job(&job), &blobs("after")).unwrap();
    let reader = store.reader();
    assert!(reader.blob(blob("before").0).unwrap().is_none());
    assert!(reader.blob(blob("after").0).unwrap().is_some());
    assert!(reader.blob(blob("script").0).unwrap().is_some());
    // Gone without an end, it is gone altogether.
    commit(
        &mut store,
        &Changes {
            jobs: vec![(JobId(1), None)],
            ..Changes::default()
        },
    );
    assert_eq!(everything_else(&store), 0);
}

#[test]
fn blobs_come_back_as_they_were_packed_or_not() {
    let mut store = memory();
    let mut random = super::power_loss::Random::new(1);
    let noise: String = (0..3000)
        .map(|_| char::from(33 + random.byte() % 90))
        .collect();
    for (id, text) in [
        (1, fixtures::environment("ada")),
        (2, noise),
        (3, "short".into()),
        (4, String::new()),
    ] {
        let (name, bytes) = blob(&text);
        let mut spec = spec("a", None);
        spec.surroundings = name;
        store
            .commit(&with_job(&pending(id, spec)), &[(name, bytes.clone())])
            .unwrap();
        assert_eq!(store.reader().blob(name).unwrap().as_deref(), Some(&*bytes));
    }
}

#[test]
fn purging_goes_by_age_and_by_number_in_bounded_steps() {
    let mut store = memory();
    let ends: Vec<_> = (1..=100)
        .map(|id| ended(&pending(id, spec("a", None)), i64::from(id), 0))
        .collect();
    commit(
        &mut store,
        &Changes {
            ended: ends,
            ..Changes::default()
        },
    );
    assert_eq!(
        store.purge(Timestamp(START), 100, 10).unwrap(),
        Purged::default()
    );
    assert_eq!(
        store.purge(Timestamp(START + 31), 100, 20).unwrap(),
        Purged {
            jobs: 20,
            more: true
        }
    );
    assert_eq!(
        store.purge(Timestamp(START + 31), 100, 20).unwrap(),
        Purged {
            jobs: 10,
            more: false
        }
    );
    assert_eq!(
        store.purge(Timestamp(START), 60, 20).unwrap(),
        Purged {
            jobs: 10,
            more: false
        }
    );
    assert_eq!(
        history(&store.reader(), 0, 100),
        (41..=100).rev().collect::<Vec<_>>()
    );
}

#[test]
fn a_large_array_is_purged_over_several_calls() {
    let mut store = memory();
    let array = pending(1, spec("a", Some("0-999")));
    let rows = (0..100)
        .map(|n| (JobId(1), n, fixtures::element_row(0, n * 10, 10, 0)))
        .collect();
    commit(
        &mut store,
        &Changes {
            rows,
            ended: vec![ended(&array, 1, 100)],
            ..Changes::default()
        },
    );
    let mut calls = 1;
    while store
        .purge(Timestamp(START + 2), u64::MAX, 30)
        .unwrap()
        .more
    {
        calls += 1;
    }
    assert_eq!((calls, everything_else(&store)), (4, 0));
}

#[test]
fn merging_keeps_every_end_in_fewer_rows() {
    let mut store = memory();
    let array = pending(1, spec("a", Some("0-9999")));
    let rows = (0..1250)
        .map(|n| (JobId(1), n, fixtures::element_row(n % 4, n * 8, 8, 9)))
        .collect();
    commit(
        &mut store,
        &Changes {
            rows,
            ended: vec![ended(&array, 1, 1250)],
            ..Changes::default()
        },
    );
    let ends = |store: &Store| {
        let (mut rows, mut ends) = (0, Vec::new());
        store
            .reader()
            .element_rows(JobId(1), &mut |_, row| {
                rows += 1;
                ends.extend(row.ends.into_iter().map(|end| (row.slot, end)));
                ControlFlow::Continue(())
            })
            .unwrap();
        ends.sort_by_key(|(_, end)| end.position);
        (rows, ends)
    };
    let (rows_before, before) = ends(&store);
    let mut calls = 1;
    while store.merge_rows(300).unwrap() {
        assert_eq!(ends(&store).1, before, "nothing is missing in between");
        calls += 1;
    }
    let (rows_after, after) = ends(&store);
    assert_eq!((rows_before, rows_after, calls), (1250, 20, 5));
    assert_eq!(after, before);
    assert_eq!(store.reader().ended(JobId(1)).unwrap().unwrap().rows, 20);
    assert!(!store.merge_rows(300).unwrap());
}

#[test]
fn fifty_thousand_jobs_leave_a_small_file() {
    let (_directory, path) = place();
    let (mut store, _) = open(&path).unwrap();
    let mut largest = 0;
    for first in (1..50_000).step_by(500) {
        let jobs: Vec<_> = (first..first + 500)
            .map(|id| pending(id, spec(&format!("job{id}"), None)))
            .collect();
        let hot = jobs
            .iter()
            .map(|job| (job.id, Some(Arc::new(job.clone()))))
            .collect();
        let blobs: Vec<_> = jobs.iter().flat_map(|job| blobs(&job.spec.name)).collect();
        store
            .commit(
                &Changes {
                    jobs: hot,
                    ..Changes::default()
                },
                &blobs,
            )
            .unwrap();
        let gone = jobs.iter().map(|job| (job.id, None)).collect();
        let ends = jobs
            .iter()
            .map(|job| ended(job, i64::from(job.id.0), 0))
            .collect();
        commit(
            &mut store,
            &Changes {
                jobs: gone,
                ended: ends,
                ..Changes::default()
            },
        );
        while store.purge(Timestamp(START), 2_000, 200).unwrap().more {}
        largest = largest.max(path.metadata().unwrap().len());
    }
    assert_eq!(
        history(&store.reader(), 0, i64::from(u32::MAX)).len(),
        2_000
    );
    assert!(
        largest < 8 << 20,
        "2,000 jobs kept of 50,000 took {largest} bytes"
    );
}

#[test]
fn a_file_that_was_large_is_compacted_when_opened() {
    let (_directory, path) = place();
    let (mut store, _) = open(&path).unwrap();
    for n in 0..40_u32 {
        let mut random = super::power_loss::Random::new(u64::from(n));
        let noise: Vec<u8> = (0..2 << 20).map(|_| random.byte()).collect();
        let name = crate::model::ids::BlobId::of(&noise);
        let mut spec = spec("a", None);
        spec.surroundings = name;
        store
            .commit(
                &with_end(ended(&pending(n, spec), i64::from(n), 0)),
                &[(name, noise.into())],
            )
            .unwrap();
    }
    store.purge(Timestamp(START + 39), u64::MAX, 1000).unwrap();
    // As after a kill: a clean end gives the free tail back by itself.
    let killed = path.with_extension("killed");
    std::fs::copy(&path, &killed).unwrap();
    assert!(killed.metadata().unwrap().len() > 64 << 20);
    let (store, _) = open(&killed).unwrap();
    assert_eq!(history(&store.reader(), 0, 100), [39]);
    let left = killed.metadata().unwrap().len();
    assert!(left < 16 << 20, "{left} bytes left");
}

#[test]
fn a_backup_taken_under_commits_opens_as_a_store() {
    let (directory, path) = place();
    let (mut store, _) = open(&path).unwrap();
    // Jobs 2n and 2n+1 always change together, and the n-th commit brings both.
    let both = |n: u32| {
        let pair =
            [2 * n, 2 * n + 1].map(|id| (JobId(id), Some(Arc::new(pending(id, spec("a", None))))));
        Changes {
            jobs: pair.to_vec(),
            counters: Some(Counters {
                job_next: 2 * n + 2,
                node_next: 1,
            }),
            ..Changes::default()
        }
    };
    store.commit(&both(0), &blobs("a")).unwrap();
    let reader = store.reader();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 1.. {
                store.commit(&both(n), &[]).unwrap();
                if stop.load(Ordering::Relaxed) && n > 20 {
                    break;
                }
            }
        });
        for n in 0..5 {
            let copy = directory.path().join(format!("backup{n}"));
            let mut file = std::fs::File::create(&copy).unwrap();
            let bytes = reader.backup(directory.path(), &mut file).unwrap();
            assert_eq!(bytes, copy.metadata().unwrap().len());
            let (mut store, loaded) = open(&copy).unwrap();
            let ids: Vec<u32> = loaded.jobs.iter().map(|job| job.id.0).collect();
            assert_eq!(
                ids,
                (0..loaded.counters.job_next).collect::<Vec<_>>(),
                "half a commit in the copy"
            );
            assert!(store.reader().blob(blob("a").0).unwrap().is_some());
            commit(&mut store, &with_job(&pending(9_999_999, spec("b", None))));
        }
        stop.store(true, Ordering::Relaxed);
    });
    let left = std::fs::read_dir(directory.path()).unwrap().count();
    assert_eq!(left, 6, "nothing but the store and its five copies");
}

#[test]
fn a_second_controller_is_told_who_holds_the_store() {
    let (_directory, path) = place();
    let (store, _) = open(&path).unwrap();
    let error = open(&path).unwrap_err();
    assert!(matches!(&error, StoreError::Locked { path: at } if *at == path));
    assert!(
        error
            .to_string()
            .contains("in use by another hpc controller")
    );
    drop(store);
    open(&path).unwrap();
}

#[test]
fn what_is_no_store_is_refused_and_left_alone() {
    let (directory, path) = place();
    for bytes in [
        b"#!/bin/sh\necho this is a script, and a longer one than a page header\n".repeat(99),
        vec![0; 9999],
    ] {
        std::fs::write(&path, &bytes).unwrap();
        assert!(matches!(open(&path), Err(StoreError::NotAStore { .. })));
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
    }
    let other = directory.path().join("other.redb");
    let database = redb::Database::create(&other).unwrap();
    let txn = database.begin_write().unwrap();
    txn.open_table(redb::TableDefinition::<u32, u32>::new("pigeons"))
        .unwrap()
        .insert(1, 2)
        .unwrap();
    txn.commit().unwrap();
    drop(database);
    assert!(matches!(open(&other), Err(StoreError::NotAStore { .. })));
    assert!(matches!(
        open(&directory.path().join("no/such/place")),
        Err(StoreError::Io { .. })
    ));
}

#[test]
fn a_damaged_store_is_an_error_with_a_way_out() {
    let (directory, path) = place();
    let (mut store, _) = open(&path).unwrap();
    for id in 1..200 {
        store
            .commit(&with_job(&pending(id, spec("a", None))), &blobs("a"))
            .unwrap();
    }
    drop(store);
    let whole = std::fs::read(&path).unwrap();
    let damaged = directory.path().join("damaged.redb");
    let mut refused = 0;
    for page in 0..whole.len() / 4096 {
        let mut bytes = whole.clone();
        bytes[page * 4096..(page + 1) * 4096]
            .iter_mut()
            .for_each(|byte| *byte = !*byte);
        std::fs::write(&damaged, &bytes).unwrap();
        // Some pages are free; no damage brings the process down.
        refused += u32::from(open(&damaged).is_err());
    }
    assert!(
        refused > 5,
        "{refused} of {} damaged pages were noticed",
        whole.len() / 4096
    );
    std::fs::write(&damaged, &whole[..whole.len() / 2]).unwrap();
    let error = open(&damaged).unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
    assert!(
        error.to_string().contains("restore the last backup"),
        "{error}"
    );
}

#[test]
fn a_full_disk_is_named() {
    let Ok(mut full) = std::fs::OpenOptions::new().write(true).open("/dev/full") else {
        eprintln!("no /dev/full here: not run");
        return;
    };
    let (directory, path) = place();
    let (store, _) = open(&path).unwrap();
    let mut unbuffered = std::io::LineWriter::with_capacity(1, &mut full);
    let error = store
        .reader()
        .backup(directory.path(), &mut unbuffered as &mut dyn Write)
        .unwrap_err();
    assert!(matches!(error, StoreError::DiskFull { .. }), "{error:?}");
}

#[test]
fn the_file_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let (directory, path) = place();
    let _store = open(&path).unwrap();
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(
        std::fs::read_dir(directory.path()).unwrap().count(),
        1,
        "the draft is gone"
    );
}
