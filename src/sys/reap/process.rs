//! What `/proc` says about processes: parents, sessions, children, and the marker in an environment.
//!
//! All of it is a moment's view: a process may be gone, or its id belong to another, when the answer is used.
//! `start_ticks` tells two bearers of one id apart.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;

/// One line of `/proc/PID/stat`, as far as we need it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessStat {
    /// The process.
    pub pid: i32,
    /// Its parent.
    pub parent: i32,
    /// Its session.
    pub session: i32,
    /// `R`, `S`, `D`, `T`, `Z` and so on.
    pub state: char,
    /// When it started, in clock ticks since boot; with the pid it names the process for good.
    pub start_ticks: u64,
}

impl ProcessStat {
    /// Of a process that exists; `None` otherwise.
    pub fn read(pid: i32) -> Option<Self> {
        let line = fs::read(format!("/proc/{pid}/stat")).ok()?;
        Self::parse(pid, &line)
    }

    /// Ended, and waiting for its parent to collect it.
    pub fn is_zombie(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }

    fn parse(pid: i32, line: &[u8]) -> Option<Self> {
        // The name, in parentheses, may contain anything, parentheses and line ends too.
        let name_end = line.iter().rposition(|&byte| byte == b')')?;
        let rest = std::str::from_utf8(&line[name_end + 1..]).ok()?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        Some(Self {
            pid,
            state: fields.first()?.chars().next()?,
            parent: fields.get(1)?.parse().ok()?,
            session: fields.get(3)?.parse().ok()?,
            start_ticks: fields.get(19)?.parse().ok()?,
        })
    }
}

/// The children of every process asked about, from whichever source this kernel offers.
pub(super) struct Family {
    /// Parent to children, of the whole machine; where the kernel does not list children.
    scanned: Option<BTreeMap<i32, Vec<i32>>>,
}

impl Family {
    /// A fresh view.
    pub(super) fn look() -> Self {
        let listed = Path::new("/proc/thread-self/children").exists();
        Self {
            scanned: (!listed).then(scan),
        }
    }

    /// A fresh view by reading every process; for kernels without CONFIG_PROC_CHILDREN.
    #[cfg(test)]
    pub(super) fn look_by_scanning() -> Self {
        Self {
            scanned: Some(scan()),
        }
    }

    pub(super) fn children(&self, pid: i32) -> Vec<i32> {
        match &self.scanned {
            Some(scanned) => scanned.get(&pid).cloned().unwrap_or_default(),
            None => listed_children(pid),
        }
    }

    pub(super) fn descendants(&self, pid: i32) -> Vec<i32> {
        let mut found = self.children(pid);
        let mut next = 0;
        while let Some(&pid) = found.get(next) {
            found.extend(self.children(pid));
            next += 1;
        }
        found
    }
}

fn listed_children(pid: i32) -> Vec<i32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    let mut children = Vec::new();
    for thread in threads.flatten() {
        let list = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        children.extend(list.split_ascii_whitespace().flat_map(str::parse::<i32>));
    }
    children
}

fn scan() -> BTreeMap<i32, Vec<i32>> {
    let mut family: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        if let Some(stat) = pid.and_then(ProcessStat::read) {
            family.entry(stat.parent).or_default().push(stat.pid);
        }
    }
    family
}

/// All descendants of a process at this moment, parents before their children; zombies too.
pub fn descendants(pid: i32) -> Vec<i32> {
    Family::look().descendants(pid)
}

/// The value of a variable in the environment with which a process was started.
///
/// `None` when it has no such variable, is gone, or may not be looked into. A process can wipe its environment,
/// so this attributes honest leftovers to their task; it is no barrier.
pub fn read_environ_marker(pid: i32, name: &str) -> Option<String> {
    let environ = File::open(format!("/proc/{pid}/environ")).ok()?;
    for variable in BufReader::new(environ).split(0) {
        let variable = variable.ok()?;
        let value = variable.strip_prefix(name.as_bytes());
        if let Some(value) = value.and_then(|rest| rest.strip_prefix(b"=")) {
            return String::from_utf8(value.to_vec()).ok();
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_confuse() {
        let line = b"12 (a) b (c) S 7 12 9 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 1 2";
        let stat = ProcessStat::parse(12, line).unwrap();
        assert_eq!(
            (stat.parent, stat.session, stat.state, stat.start_ticks),
            (7, 9, 'S', 4711)
        );
        assert_eq!(ProcessStat::parse(12, b"12 (short) S 7"), None);
        assert_eq!(ProcessStat::parse(12, b""), None);
    }
}
