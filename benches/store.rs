//! What the store costs: commits, starts, and bytes. `cargo bench --bench store`; HPC_BENCH_DIR says where the file lies.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a bench measures and prints"
)]

#[allow(unused_imports, reason = "the fixtures name these as their own")]
use hpc::{cluster, model, store, wire};

#[path = "../src/store/fixtures.rs"]
mod fixtures;

use hpc::cluster::changes::Changes;
use hpc::model::ids::JobId;
use hpc::store::{Store, StoreOptions};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

fn main() {
    let place = std::env::var_os("HPC_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let directory = tempfile::tempdir_in(place).expect("a place for the file");
    if std::env::args().any(|argument| argument == "loads") {
        return loads(directory.path());
    }
    commits(directory.path(), None);
    commits(directory.path(), Some(Duration::from_millis(5)));
    loads(directory.path());
    ends(directory.path());
    blobs(directory.path());
}

fn options(sync_delay: Option<Duration>) -> StoreOptions {
    StoreOptions {
        sync_delay,
        ..StoreOptions::default()
    }
}

fn cpu() -> Duration {
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_THREAD)
        .expect("getrusage");
    let of = |time: nix::sys::time::TimeVal| {
        Duration::from_micros((time.tv_sec() * 1_000_000 + time.tv_usec()) as u64)
    };
    of(usage.user_time()) + of(usage.system_time())
}

fn fresh(directory: &Path, name: &str, sync_delay: Option<Duration>) -> (PathBuf, Store) {
    let path = directory.join(name);
    let _ = std::fs::remove_file(&path);
    let (store, _) = Store::open(&path, options(sync_delay)).expect("a new store");
    (path, store)
}

/// From jobs to what is stored of them.
type Phase<'a> = &'a dyn Fn(&[model::job::Job]) -> Changes;

/// Submit, start and end jobs in batches; each is one row or two of about 120 bytes and, at submission, a spec.
fn commits(directory: &Path, sync_delay: Option<Duration>) {
    println!(
        "commits, {} injected into every sync",
        sync_delay.map_or("nothing".to_owned(), |d| format!("{d:?}"))
    );
    println!(
        "{:>8} {:>6} {:>12} {:>12} {:>12}",
        "", "batch", "commits/s", "items/s", "cpu us/item"
    );
    for batch in [1_u32, 8, 64, 512] {
        let (_path, mut store) = fresh(directory, "commits.redb", sync_delay);
        let commits = if sync_delay.is_some() {
            60
        } else {
            (20_000 / batch).clamp(100, 3000)
        };
        let jobs: Vec<_> = (1..=commits * batch)
            .map(|id| fixtures::pending(id, fixtures::spec(&format!("job{}", id % 100), None)))
            .collect();
        let submit = |jobs: &[model::job::Job]| Changes {
            jobs: jobs
                .iter()
                .map(|job| (job.id, Some(Arc::new(job.clone()))))
                .collect(),
            ..Changes::default()
        };
        let start = |jobs: &[model::job::Job]| Changes {
            jobs: jobs
                .iter()
                .map(|job| (job.id, Some(Arc::new(fixtures::started(job, 1)))))
                .collect(),
            ..Changes::default()
        };
        let end = |jobs: &[model::job::Job]| Changes {
            jobs: jobs.iter().map(|job| (job.id, None)).collect(),
            ended: jobs
                .iter()
                .map(|job| fixtures::ended(job, i64::from(job.id.0), 0))
                .collect(),
            ..Changes::default()
        };
        let phases: [(&str, Phase<'_>); 3] =
            [("submit", &submit), ("start", &start), ("end", &end)];
        for (name, changes) in phases {
            let all: Vec<Changes> = jobs.chunks(batch as usize).map(changes).collect();
            let blobs = if name == "submit" {
                fixtures::blobs("job1")
            } else {
                vec![]
            };
            measure(name, batch, &mut store, &all, &blobs);
        }
    }
    for batch in [64_u32, 512] {
        let (_path, mut store) = fresh(directory, "commits.redb", sync_delay);
        let commits = if sync_delay.is_some() {
            60
        } else {
            20_000 / batch
        };
        let job = fixtures::pending(1, fixtures::spec("array", Some("0-999999")));
        let all: Vec<Changes> = (0..commits)
            .map(|n| {
                let mut changes = fixtures::with_job(&fixtures::started(&job, 1));
                changes.rows = vec![(JobId(1), n, fixtures::element_row(0, n * batch, batch, 0))];
                changes
            })
            .collect();
        measure("elements", batch, &mut store, &all, &[]);
    }
    println!();
}

fn measure(
    name: &str,
    batch: u32,
    store: &mut Store,
    all: &[Changes],
    blobs: &[(model::ids::BlobId, Arc<[u8]>)],
) {
    let (started, busy) = (Instant::now(), cpu());
    for changes in all {
        store.commit(changes, blobs).expect("a commit");
    }
    let (took, busy) = (started.elapsed().as_secs_f64(), cpu() - busy);
    let (commits, items) = (all.len() as f64, all.len() as f64 * f64::from(batch));
    println!(
        "{name:>8} {batch:>6} {:>12.0} {:>12.0} {:>12.2}",
        commits / took,
        items / took,
        busy.as_secs_f64() * 1e6 / items
    );
}

/// Opens after a clean end, after a kill when settled, and after a kill in the middle of a storm.
fn loads(directory: &Path) {
    println!(
        "{:>8} {:>9} {:>8} {:>9} {:>14} {:>14} {:>14} {:>14} {:>14}",
        "open",
        "pending",
        "ended",
        "file MiB",
        "clean ms",
        "settled ms",
        "storm ms",
        "commit us",
        "and settle us"
    );
    for (pending, ended) in [
        (10_000, 0),
        (100_000, 0),
        (10_000, 100_000),
        (10_000, 500_000),
    ] {
        let (path, mut store) = fresh(directory, "loads.redb", None);
        fill(&mut store, 1, pending, false);
        fill(&mut store, pending + 1, ended, true);
        // What earlier rounds left to write back is not this round's.
        nix::unistd::sync();
        let (alone, settled_each) = (
            batches_of_one(&mut store, false),
            batches_of_one(&mut store, true),
        );
        commit_one(&mut store);
        let storm = copy(&path, "storm.redb");
        store.settle().expect("settled");
        let settled = copy(&path, "settled.redb");
        drop(store);
        println!(
            "{:>8} {pending:>9} {ended:>8} {:>9} {:>14.1} {:>14.1} {:>14.1} {alone:>14} {settled_each:>14}",
            "",
            path.metadata().expect("a file").len() >> 20,
            open(&path),
            open(&settled),
            open(&storm)
        );
    }
    println!();
}

/// Microseconds, in all and of cpu, for a commit of one row, without or with settling the file each time.
fn batches_of_one(store: &mut Store, settle: bool) -> String {
    let (started, busy) = (Instant::now(), cpu());
    for _ in 0..200 {
        commit_one(store);
        if settle {
            store.settle().expect("settled");
        }
    }
    let each = |time: Duration| time.as_secs_f64() * 1e6 / 200.0;
    format!("{:.0} ({:.0})", each(started.elapsed()), each(cpu() - busy))
}

fn commit_one(store: &mut Store) {
    store
        .commit(
            &fixtures::with_job(&fixtures::pending(1, fixtures::spec("job1", None))),
            &[],
        )
        .expect("a commit");
}

fn fill(store: &mut Store, first: u32, count: u32, ended: bool) {
    let jobs: Vec<_> = (first..first + count)
        .map(|id| fixtures::pending(id, fixtures::spec(&format!("job{id}"), None)))
        .collect();
    for jobs in jobs.chunks(512) {
        let hot = jobs
            .iter()
            .map(|job| (job.id, Some(Arc::new(job.clone()))))
            .collect();
        store
            .commit(
                &Changes {
                    jobs: hot,
                    ..Changes::default()
                },
                &[],
            )
            .expect("a commit");
        if ended {
            let gone = jobs.iter().map(|job| (job.id, None)).collect();
            let ended = jobs
                .iter()
                .map(|job| fixtures::ended(job, i64::from(job.id.0), 0))
                .collect();
            store
                .commit(
                    &Changes {
                        jobs: gone,
                        ended,
                        ..Changes::default()
                    },
                    &[],
                )
                .expect("a commit");
        }
    }
}

/// What a new process finds after SIGKILL: the pages as the kernel has them.
fn copy(path: &Path, name: &str) -> PathBuf {
    let to = path.with_file_name(name);
    std::fs::copy(path, &to).expect("a copy");
    to
}

fn open(path: &Path) -> f64 {
    let started = Instant::now();
    let opened = Store::open(path, options(None)).expect("it opens");
    let took = started.elapsed();
    drop(opened);
    took.as_secs_f64() * 1e3
}

/// Bytes for each end of a task that does nothing, as appended and when merged.
fn ends(directory: &Path) {
    println!(
        "{:>8} {:>6} {:>16} {:>16} {:>10}",
        "ends", "row", "file B/end", "merged B/end", "merge us/row"
    );
    for batch in [8_u32, 64, 512] {
        let (path, mut store) = fresh(directory, "ends.redb", None);
        let count = 500_000 / batch;
        let job = fixtures::pending(1, fixtures::spec("array", Some("0-999999")));
        store
            .commit(&fixtures::with_job(&job), &[])
            .expect("a commit");
        let empty = path.metadata().expect("a file").len();
        for n in (0..count).step_by(64) {
            let rows = (n..(n + 64).min(count)).map(|n| {
                (
                    JobId(1),
                    n,
                    fixtures::element_row(n % 4, n * batch, batch, 0),
                )
            });
            store
                .commit(
                    &Changes {
                        rows: rows.collect(),
                        ..Changes::default()
                    },
                    &[],
                )
                .expect("a commit");
        }
        store
            .commit(&fixtures::with_end(fixtures::ended(&job, 1, count)), &[])
            .expect("a commit");
        let stored = |store: &Store| {
            let mut file = Vec::new();
            store.reader().backup(directory, &mut file).expect("a copy");
            file.len() as u64
        };
        let before = stored(&store);
        let started = Instant::now();
        while store.merge_rows(1000).expect("merged") {}
        let took = started.elapsed();
        let after = stored(&store);
        let per_end =
            |bytes: u64| bytes.saturating_sub(empty.min(bytes)) as f64 / f64::from(count * batch);
        println!(
            "{:>8} {batch:>6} {:>16.1} {:>16.1} {:>10.1}",
            "",
            per_end(before),
            per_end(after),
            took.as_secs_f64() * 1e6 / f64::from(count)
        );
    }
    println!();
}

/// Whether packing blobs pays: each job with an environment of its own.
fn blobs(directory: &Path) {
    let (_path, mut store) = fresh(directory, "blobs.redb", None);
    let text = fixtures::environment("ada");
    let busy = cpu();
    for id in 1..=2000 {
        let mut spec = fixtures::spec("same", None);
        let own = fixtures::blob(&format!("SSH_AGENT_PID={id}\n{text}"));
        spec.surroundings = own.0;
        store
            .commit(&fixtures::with_job(&fixtures::pending(id, spec)), &[own])
            .expect("a commit");
    }
    let busy = cpu() - busy;
    let mut file = Vec::new();
    store.reader().backup(directory, &mut file).expect("a copy");
    println!(
        "2000 environments of {} B: {} B each in the file with their jobs, {:.1} us of cpu each alone in a commit",
        text.len(),
        file.len() / 2000,
        busy.as_secs_f64() * 1e6 / 2000.0
    );
}
