//! Logs of attached tasks after their job: kept an hour for readers that come back, and at most a GiB of them.

use super::slots::parse_key;
use crate::model::ids::SlotKey;
use crate::wire::shepherd::JOURNAL;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// How long.
const KEPT: Duration = Duration::from_secs(3600);
/// How much in all; bytes.
const KEPT_BYTES: u64 = 1024 * 1024 * 1024;

/// Since when logs are kept, by a clock that nobody sets: that of the machine may jump by days.
pub(super) type Since = BTreeMap<SlotKey, Duration>;

/// Removes logs that are too old or too many, oldest first; how long until the next is due, if any is left. `now` is the
/// time since the machine's boot. What an earlier agent had kept is kept as long again.
///
/// A slot in use is left alone: one that was just made is as empty as one whose logs are gone.
pub(super) fn prune(
    slots: &Path,
    in_use: impl Fn(&SlotKey) -> bool,
    since: &mut Since,
    now: Duration,
) -> Option<Duration> {
    let mut kept: Vec<(Duration, SystemTime, u64, SlotKey, PathBuf)> = std::fs::read_dir(slots)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter_map(|path| Some((parse_key(&path).filter(|key| !in_use(key))?, path)))
        .filter(|(_, path)| !path.join(JOURNAL).exists())
        .filter_map(|(key, path)| {
            let (modified, bytes) = extent(&path)?;
            let first = *since.entry(key).or_insert(now);
            Some((first, modified, bytes, key, path))
        })
        .collect();
    kept.sort();
    let mut total: u64 = kept.iter().map(|(_, _, bytes, ..)| bytes).sum();
    let mut next = None;
    let mut left = Since::new();
    for (first, _, bytes, key, path) in kept {
        let age = now.saturating_sub(first);
        if age < KEPT && total <= KEPT_BYTES {
            next.get_or_insert(KEPT - age);
            left.insert(key, first);
            continue;
        }
        total -= bytes;
        if let Err(error) = std::fs::remove_dir_all(&path) {
            tracing::warn!(%error, path = %path.display(), "old logs cannot be removed");
        }
    }
    *since = left;
    next
}

/// When a directory's logs were written last, and how large they are together; `None` when it has none.
fn extent(directory: &Path) -> Option<(SystemTime, u64)> {
    let files = std::fs::read_dir(directory).into_iter().flatten().flatten();
    files
        .filter(|file| file.file_name().to_string_lossy().ends_with(".log"))
        .filter_map(|file| file.metadata().ok())
        .filter_map(|data| Some((data.modified().ok()?, data.len())))
        .reduce(|(latest, bytes), (modified, more)| (latest.max(modified), bytes + more))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_logs_go_and_a_slot_that_is_about_to_begin_stays() {
        let scratch = tempfile::tempdir().unwrap();
        let slot = |name: &str| {
            let path = scratch.path().join(name);
            std::fs::create_dir(&path).unwrap();
            path
        };
        let (begins, runs, ended) = (slot("1.0"), slot("2.0"), slot("3.0"));
        std::fs::write(runs.join(JOURNAL), "").unwrap();
        std::fs::write(ended.join("step.0.log"), "words").unwrap();
        let (now, mut since) = (Duration::from_secs(100), Since::new());
        let in_use = |_: &SlotKey| false;
        assert_eq!(prune(scratch.path(), in_use, &mut since, now), Some(KEPT));
        let later = now + KEPT / 4;
        let next = prune(scratch.path(), in_use, &mut since, later);
        assert_eq!(next, Some(KEPT / 4 * 3));
        assert!(ended.exists());
        let late = now + KEPT * 2;
        assert_eq!(prune(scratch.path(), in_use, &mut since, late), None);
        assert_eq!(
            (begins.exists(), runs.exists(), ended.exists()),
            (true, true, false)
        );
    }
}
