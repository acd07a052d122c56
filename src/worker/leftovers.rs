//! Slot directories found without a connection: is the shepherd alive, done, or dead, and what did it leave?
//!
//! A shepherd locks its journal for life, so a journal that can be locked has no shepherd. Its tasks die with it
//! (they ask the kernel for that); what those had started is found by `HPC_SLOT` in its environment and killed.
//! **Limit:** a process that wiped its environment, left its parents *and* lost its shepherd to SIGKILL is not
//! found without cgroups.

use super::slots::parse_key;
use crate::model::mpirun;
use crate::steps::journal::{Record, Replay, encode};
use crate::sys::clock::boottime_ms;
use crate::sys::reap::read_environ_marker;
use crate::wire::shepherd::{CREDENTIAL, JOURNAL, LEASED, SCRIPT, SOCKET, WORDS};
use crate::wire::worker::FromSlot;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::time::Duration;

/// Beginning of the name of a directory that is being put away.
pub(super) const ASIDE: &str = "aside-";

/// What a slot's directory says.
#[derive(Debug)]
pub(super) enum Found {
    /// A shepherd lives.
    Alive,
    /// It was closed and is gone.
    Closed,
    /// It is dead, and nothing of it runs any more. The lock keeps a late starter out.
    Dead { replay: Box<Replay>, lock: File },
    /// No journal: nothing ever started here.
    Nothing,
    /// It is dead, and its journal has no whole beginning: the machine lost its power, or the disk was full. What ran
    /// is not known; nothing of it runs any more.
    Unreadable { lock: File },
}

/// Looks, and ends what a dead shepherd has left behind. Takes its time; not for the loop.
pub(super) fn look(directory: &Path, boot_id: &str, state_id: &str) -> Found {
    let Ok(mut journal) = File::open(directory.join(JOURNAL)) else {
        return Found::Nothing;
    };
    match journal.try_lock() {
        Ok(()) => {}
        Err(std::fs::TryLockError::WouldBlock) => return Found::Alive,
        Err(std::fs::TryLockError::Error(error)) => {
            tracing::error!(%error, path = %directory.display(), "a journal cannot be locked");
            return Found::Alive;
        }
    }
    let mut bytes = Vec::new();
    if let Err(error) = journal.read_to_end(&mut bytes) {
        tracing::error!(%error, path = %directory.display(), "a journal cannot be read to its end");
    }
    let Some(replay) = Replay::of(&bytes) else {
        if let Some(key) = parse_key(directory) {
            end_marked(&format!("{state_id}:{key}"));
        }
        return Found::Unreadable { lock: journal };
    };
    if replay.opened.boot_id == boot_id {
        end_marked(&replay.opened.mark);
    }
    if replay.closed {
        Found::Closed
    } else {
        Found::Dead {
            replay: Box::new(replay),
            lock: journal,
        }
    }
}

/// Ends every process with this mark in its environment; looks until a look finds none.
fn end_marked(mark: &str) {
    // What cannot be killed (an uninterruptible wait) must not hold the node back for ever.
    for round in 0..200 {
        let marked: Vec<i32> = processes()
            .filter(|pid| read_environ_marker(*pid, "HPC_SLOT").as_deref() == Some(mark))
            .collect();
        if marked.is_empty() {
            return;
        }
        for pid in marked {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        std::thread::sleep(Duration::from_millis(if round < 20 { 1 } else { 20 }));
    }
    tracing::error!(mark, "processes of a dead shepherd cannot be ended");
}

fn processes() -> impl Iterator<Item = i32> {
    let own = std::process::id();
    let names = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    names
        .filter_map(|entry| {
            entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok())
        })
        .filter(move |pid: &i32| u32::try_from(*pid) != Ok(own))
}

/// Removes a finished slot's directory; one with logs keeps them (see `kept_logs.rs`). Whether logs were kept.
pub(super) fn clean(directory: &Path) -> bool {
    // What a shepherd that was killed could not take away: folders of its steps' PMIx servers.
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_name().as_encoded_bytes().starts_with(b"pmix."))
    {
        let _ = std::fs::remove_dir_all(entry.path());
    }
    let of_launchers = [
        mpirun::REMOTE_SHELL,
        mpirun::HOSTS_WITH_SLOTS,
        mpirun::HOSTS,
    ];
    let ours = [SOCKET, SCRIPT, LEASED, WORDS, CREDENTIAL, JOURNAL];
    for name in of_launchers.into_iter().chain(ours) {
        let _ = std::fs::remove_file(directory.join(name));
    }
    std::fs::remove_dir(directory).is_err() && directory.exists()
}

/// Puts away a directory in which nothing ever started, unless a spare shepherd is just about to begin there: the
/// rename keeps it from finding its directory, and if it was faster its journal is there and it goes on.
pub(super) fn put_away(directory: &Path) -> bool {
    let name = directory.file_name().unwrap_or_default().to_string_lossy();
    let aside = directory.with_file_name(format!("{ASIDE}{name}"));
    if std::fs::rename(directory, &aside).is_err() {
        return true;
    }
    if aside.join(JOURNAL).exists() {
        let _ = std::fs::rename(&aside, directory);
        return false;
    }
    let _ = std::fs::remove_dir_all(&aside);
    true
}

/// Reports about a dead shepherd, dated by the clock that it measured by, as far as that still runs.
pub(super) fn dead_reports(replay: &Replay, boot_id: &str) -> Vec<FromSlot> {
    let (then, mark) = replay.opened.epoch;
    let elapsed = boottime_ms().saturating_sub(mark);
    let whole = replay.opened.boot_id == boot_id;
    replay.reports(then.plus_ms(i64::try_from(elapsed).unwrap_or(0)), whole)
}

/// Notes in a dead shepherd's journal that its ends are safe, so that the next agent does not say them again.
pub(super) fn note_acknowledged(directory: &Path, report: u64) {
    let path = directory.join(JOURNAL);
    let Some(replay) = std::fs::read(&path)
        .ok()
        .and_then(|bytes| Replay::of(&bytes))
    else {
        return;
    };
    let mut bytes = Vec::new();
    encode(&Record::Entry(replay.acknowledge_all(report)), &mut bytes);
    let appended = std::fs::OpenOptions::new()
        .append(true)
        .open(&path)
        .and_then(|mut file| file.write_all(&bytes));
    if let Err(error) = appended {
        tracing::warn!(%error, path = %path.display(), "an acknowledgement cannot be noted; the ends will be said again");
    }
}

pub(super) fn has_logs(directory: &Path) -> bool {
    let names = std::fs::read_dir(directory).into_iter().flatten().flatten();
    names
        .into_iter()
        .any(|entry| entry.file_name().to_string_lossy().ends_with(".log"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_without_a_beginning_is_not_taken_for_none() {
        let state = tempfile::tempdir().unwrap();
        let slot = state.path().join("7.0");
        std::fs::create_dir(&slot).unwrap();
        assert!(matches!(look(&slot, "boot", "x"), Found::Nothing));
        for bytes in [&b""[..], &[0; 512], &[1, 2, 3]] {
            std::fs::write(slot.join(JOURNAL), bytes).unwrap();
            assert!(matches!(look(&slot, "boot", "x"), Found::Unreadable { .. }));
        }
        let held = File::open(slot.join(JOURNAL)).unwrap();
        held.lock().unwrap();
        assert!(matches!(look(&slot, "boot", "x"), Found::Alive));
    }
}
