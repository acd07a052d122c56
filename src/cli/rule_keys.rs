//! The keys of partitions, accounts, users and QOS in the help: what each holds, in which unit.

use crate::model::limits::LimitKind;
use crate::model::rules::Noun;

/// The keys of a noun, a line for each, its limits behind its own.
pub(super) fn help(noun: Noun) -> String {
    let own = noun.keys().iter().map(|key| (*key, own(noun, key)));
    let kinds = LimitKind::ALL.into_iter();
    let limits = kinds
        .filter(|kind| noun.has_limits() && !noun.keys().contains(&kind.word()))
        .map(|kind| (kind.word(), limit(kind)));
    let line = |(key, holds): (&str, &str)| format!("  {key:<26} {holds}\n");
    let (own, limits): (String, String) = (own.map(line).collect(), limits.map(line).collect());
    let whose = match noun {
        Noun::Partition => "of jobs there",
        Noun::Account => "of jobs there and in accounts below",
        Noun::User => "of this person's jobs",
        Noun::Qos => "of jobs with it",
        Noun::License | Noun::Node | Noun::Reservation => {
            return format!("Keys:\n{own}\nA list is a,b,c; `none` is the empty one.");
        }
    };
    format!(
        "Keys:\n{own}\n\
         Limits {whose}; `none` takes one away. Those of a group (group-...) hold at every level that says one. Of the \
         others the first level that says one decides: partition, QOS, user, account, the accounts above it.\n{limits}\n\
         A time is a number with d, h, m or s behind it, or as for --time: 90 (minutes), 2:00:00, 1-12. Memory is a \
         number with M, G or T behind it. A list is a,b,c; `all` or `none` is the empty one."
    )
}

/// What a key beside the limits holds.
fn own(noun: Noun, key: &str) -> &'static str {
    match (noun, key) {
        (Noun::Partition, "default") => "yes: for jobs that name none; it was another's before",
        (Noun::Partition, "max-time") => "longest run time of a job: a time, or none",
        (Noun::Partition, "default-time") => {
            "run time of jobs that name none: a time; none = the longest"
        }
        (Noun::Partition, "nodes") => "its nodes, such as ws[1-4]; all",
        (Noun::Partition, "state") => "up; down: its jobs wait",
        (Noun::Partition, "tier") => "jobs of a higher tier go first: a number, 1 unless set",
        (Noun::Partition, "preempt-mode") => {
            "for a higher tier its jobs requeue, cancel, suspend; off"
        }
        (Noun::Qos, "preempts") => "QOS whose jobs make room for its own: a list, or none",
        (Noun::Qos, "preempt-mode") => {
            "where others preempt it its jobs requeue, cancel, suspend; off"
        }
        (Noun::Partition | Noun::Qos, "grace-time") => {
            "from SIGTERM to SIGKILL of a job that makes room: a time"
        }
        (Noun::Partition | Noun::Qos, "exempt-time") => {
            "its jobs are left alone so long after their start: a time"
        }
        (Noun::Partition, "accounts") => "accounts that may use it: a list, or all",
        (Noun::Partition, "qos") => "QOS that may be used in it: a list, or all",
        (Noun::Partition | Noun::Qos, "priority") => "added to the priority of its jobs: a number",
        (Noun::Account, "parent") => "the account above it; root unless set",
        (Noun::Account, "shares") => "its part beside its siblings': a number, 1 unless set",
        (Noun::Account, "reserve-time") => {
            "its people may reserve for themselves so long: a time, off, none"
        }
        (Noun::Account, "qos") => "QOS that its people may use: a list, or all",
        (Noun::Account, "description") => "free text",
        (Noun::User, "account") => "the account of jobs that name none; default unless set",
        (Noun::User, "accounts") => "other accounts that may be named: a list, or none",
        (Noun::User, "shares") => "the part of each account beside other people's: a number",
        (Noun::User, "qos") => "QOS that may be used: a list; all = as the account says",
        (Noun::User, "default-qos") => "the QOS of jobs that name none; none = normal",
        (Noun::License, "count") => "how many there are: a number",
        (Noun::Node, "features") => "words that jobs may ask for with --constraint: a list",
        (Noun::Node, "switch") => "where its cable goes, from the top: rack1, core/rack1; none",
        (Noun::Reservation, "start") => "when it begins: as --begin, 2026-01-31T14:00, fri14:00",
        (Noun::Reservation, "end") => "when it ends: likewise, or +4h from its start",
        (Noun::Reservation, "repeat") => "once, daily or weekly",
        (Noun::Reservation, "zone") => {
            "by whose clocks it comes again: Europe/Berlin; none = by hours"
        }
        (Noun::Reservation, "nodes") => "these nodes, whole: ws[1-2]",
        (Noun::Reservation, "node-count") => "so many nodes, whole",
        (Noun::Reservation, "gpus") => "so many GPUs and their part of the node: 2, a100:2",
        (Noun::Reservation, "cpus") => "so many cpus and their part of the memory",
        (Noun::Reservation, "users") => "who may use it: a list",
        (Noun::Reservation, "accounts") => "whose people may use it: a list",
        (Noun::Reservation, "purpose") => "jobs, or maintenance: of nobody, around what runs",
        (Noun::Reservation, "description") => "free text",
        (Noun::Reservation, "on") => "where it is, as the cluster worked it out; not to be set",
        (Noun::Qos, "usage-factor") => "how much of what its jobs use counts: 1, 0.5, 0",
        _ => "",
    }
}

/// What a limit counts.
fn limit(kind: LimitKind) -> &'static str {
    match kind {
        LimitKind::MaxJobsPerUser => "jobs of one user that run at once; an array counts once",
        LimitKind::MaxSubmitPerUser => "jobs of one user that wait or run; an array counts once",
        LimitKind::MaxCpusPerUser => "cpus that one user holds at once",
        LimitKind::MaxGpusPerUser => "GPUs that one user holds at once",
        LimitKind::MaxMemoryPerUser => "memory that one user holds at once: 64G",
        LimitKind::MaxNodesPerUser => "nodes that one user holds at once, counted for each job",
        LimitKind::MaxJobsPerAccount => "jobs of one account that run at once",
        LimitKind::MaxSubmitPerAccount => "jobs of one account that wait or run",
        LimitKind::MaxCpusPerAccount => "cpus that one account holds at once",
        LimitKind::MaxGpusPerAccount => "GPUs that one account holds at once",
        LimitKind::MaxCpusPerJob => "cpus of one job",
        LimitKind::MaxGpusPerJob => "GPUs of one job",
        LimitKind::MaxMemoryPerJob => "memory of one job: 64G",
        LimitKind::MaxNodesPerJob => "nodes of one job",
        LimitKind::MaxCpuMinutesPerJob => "cpus times minutes of one job, by its time limit",
        LimitKind::MaxGpuMinutesPerJob => "GPUs times minutes of one job, by its time limit",
        LimitKind::MaxTime => "run time of one job: a time",
        LimitKind::MinCpusPerJob => "fewest cpus of a job",
        LimitKind::MinGpusPerJob => "fewest GPUs of a job",
        LimitKind::GroupJobs => "jobs of all together that run at once",
        LimitKind::GroupSubmit => "jobs of all together that wait or run",
        LimitKind::GroupCpus => "cpus that all together hold at once",
        LimitKind::GroupGpus => "GPUs that all together hold at once",
        LimitKind::GroupMemory => "memory that all together hold at once: 64G",
        LimitKind::GroupNodes => "nodes that all together hold at once, counted for each job",
        LimitKind::GroupRunningCpuMinutes => "cpus times minutes that running jobs may still use",
        LimitKind::GroupRunningGpuMinutes => "GPUs times minutes that running jobs may still use",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_explained_and_fits_a_terminal() {
        for noun in Noun::ALL {
            let help = help(noun);
            let kinds = LimitKind::ALL.map(LimitKind::word);
            let limits = kinds.iter().filter(|_| noun.has_limits());
            for key in noun.keys().iter().chain(limits) {
                let line = help.lines().find_map(|line| {
                    let (word, holds) = line.trim_start().split_once(' ')?;
                    (word == *key).then(|| holds.trim())
                });
                assert!(line.is_some_and(|holds| !holds.is_empty()), "{noun} {key}");
            }
            for line in help.lines().filter(|line| line.starts_with("  ")) {
                assert!(line.len() <= 100, "{}: {line}", line.len());
            }
        }
    }
}
