//! Values in the words that tables use: ids, times, amounts.

use crate::model::hostlist;
use crate::model::size::format_mib;
use crate::model::time::{Timestamp, format_elapsed, format_time_limit};
use crate::wire::view::{JobView, NodeView};

/// `12`, `12_3`, or `12_[4-9%2]` for the pending rest of an array.
pub(in crate::cli) fn job_id(job: &JobView) -> String {
    element_id(job.id, job.array_task, job.array_tasks.as_deref())
}

/// As [`job_id`].
pub(in crate::cli) fn element_id(id: u32, element: Option<u32>, rest: Option<&str>) -> String {
    match (element, rest) {
        (Some(index), _) => format!("{id}_{index}"),
        (None, Some(rest)) => format!("{id}_[{rest}]"),
        (None, None) => id.to_string(),
    }
}

/// `1 cpu`, `2 cpus`.
pub(in crate::cli) fn counted(count: impl Into<u64>, word: &str) -> String {
    let count = count.into();
    format!("{count} {word}{}", if count == 1 { "" } else { "s" })
}

/// How long it ran, or runs: `2:03`.
pub(in crate::cli) fn elapsed(job: &JobView, now: Timestamp) -> String {
    let until = job.end_time.unwrap_or(now);
    let ms = job.start_time.map_or(0, |start| until.minus(start));
    format_elapsed(u64::try_from(ms / 1000).unwrap_or(0))
}

/// `1-00:00:00`, or `UNLIMITED`.
pub(in crate::cli) fn limit(seconds: Option<u32>) -> String {
    format_time_limit(seconds)
}

/// Local time, or `-`.
pub(in crate::cli) fn local(time: Option<Timestamp>) -> String {
    time.map_or_else(|| "-".into(), |time| time.to_local(&crate::cli::zone()))
}

/// `2G`.
pub(in crate::cli) fn memory(mib: u64) -> String {
    format_mib(mib)
}

/// Folded node names, or `-`.
pub(in crate::cli) fn nodes(names: &[String]) -> String {
    if names.is_empty() {
        "-".into()
    } else {
        hostlist::fold(names)
    }
}

/// `7`, or `9 (KILL)` style for signals: `0:9`.
pub(in crate::cli) fn exit(job: &JobView) -> String {
    match (job.exit_code, job.signal) {
        (None, None) => "-".into(),
        (code, signal) => format!("{}:{}", code.unwrap_or(0), signal.unwrap_or(0)),
    }
}

/// `2 x NVIDIA RTX 4090 24 GiB`, kinds joined with commas.
pub(in crate::cli) fn gpus(node: &NodeView) -> Option<String> {
    let mut kinds: Vec<(String, usize)> = Vec::new();
    for gpu in &node.gpus {
        let words = match gpu.memory_mib {
            0 => gpu.kind.clone(),
            known => format!("{} {}", gpu.kind, gibibytes(known)),
        };
        match kinds.iter_mut().find(|(kind, _)| *kind == words) {
            Some((_, count)) => *count += 1,
            None => kinds.push((words, 1)),
        }
    }
    let parts: Vec<String> = kinds
        .into_iter()
        .map(|(kind, count)| format!("{count} x {kind}"))
        .collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// `128 GiB`, rounded; `512 MiB` below one.
pub(in crate::cli) fn gibibytes(mib: u64) -> String {
    if mib < 1024 {
        format!("{mib} MiB")
    } else {
        format!("{} GiB", (mib + 512) / 1024)
    }
}

/// The line that `hpc up` prints: `node ws1: 32 cores in 2 NUMA nodes, 128 GiB, 2 x ...`.
pub(in crate::cli) fn node_line(node: &NodeView) -> String {
    let mut line = format!(
        "node {}: {} in {}, {}",
        node.name,
        counted(node.cpus, "core"),
        counted(node.numa_nodes, "NUMA node"),
        gibibytes(node.memory_mib)
    );
    if let Some(gpus) = gpus(node) {
        line.push_str(", ");
        line.push_str(&gpus);
    }
    line
}
