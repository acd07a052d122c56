//! Logs of attached tasks after their job: kept an hour for readers that come back, and at most a GiB of them.

use super::slots::parse_key;
use crate::model::ids::SlotKey;
use crate::wire::shepherd::JOURNAL;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// How long.
const KEPT: Duration = Duration::from_secs(3600);
/// How much in all; bytes.
const KEPT_BYTES: u64 = 1024 * 1024 * 1024;

/// Removes logs that are too old or too many, oldest first; how long until the next is due, if any is left.
///
/// A slot in use is left alone: one that was just made is as empty as one whose logs are gone.
pub(super) fn prune(
    slots: &Path,
    in_use: impl Fn(&SlotKey) -> bool,
    now: SystemTime,
) -> Option<Duration> {
    let mut kept: Vec<(SystemTime, u64, PathBuf)> = std::fs::read_dir(slots)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| parse_key(path).is_some_and(|key| !in_use(&key)))
        .filter(|path| !path.join(JOURNAL).exists())
        .filter_map(|path| {
            let (modified, bytes) = extent(&path)?;
            Some((modified, bytes, path))
        })
        .collect();
    kept.sort();
    let mut total: u64 = kept.iter().map(|(_, bytes, _)| bytes).sum();
    let age = |modified: SystemTime| now.duration_since(modified).unwrap_or_default();
    for (modified, bytes, path) in kept {
        if age(modified) < KEPT && total <= KEPT_BYTES {
            return Some(KEPT - age(modified));
        }
        total -= bytes;
        if let Err(error) = std::fs::remove_dir_all(&path) {
            tracing::warn!(%error, path = %path.display(), "old logs cannot be removed");
        }
    }
    None
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
        let now = SystemTime::now();
        let in_use = |_: &SlotKey| false;
        assert!(prune(scratch.path(), in_use, now).is_some_and(|next| next <= KEPT));
        assert_eq!(prune(scratch.path(), in_use, now + KEPT * 2), None);
        assert_eq!(
            (begins.exists(), runs.exists(), ended.exists()),
            (true, true, false)
        );
    }
}
