//! Limits on what a job, a user or a group may hold, as they are written and looked up.
//!
//! A limit has a kind ([`LimitKind`]) and is set at a level: a partition, a QOS, a user or an account. Kinds of a job, a
//! user or an account: the first level that says one decides, in the order partition, QOS, user, account, the accounts
//! above it (as Slurm does, `scheduling.md` 3). Kinds of a group hold at every level that says one. Limits on submission
//! refuse a job; the others make it wait, and nobody else.

use super::size;
use super::time;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// What is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum LimitKind {
    /// Jobs of one user that run at once; an array counts once.
    MaxJobsPerUser,
    /// Jobs of one user that wait or run; an array counts once.
    MaxSubmitPerUser,
    /// Cpus that one user holds at once.
    MaxCpusPerUser,
    /// GPUs that one user holds at once.
    MaxGpusPerUser,
    /// Memory that one user holds at once; MiB.
    MaxMemoryPerUser,
    /// Nodes that one user holds at once, a node counted once for each job there.
    MaxNodesPerUser,
    /// Jobs of one account that run at once.
    MaxJobsPerAccount,
    /// Jobs of one account that wait or run.
    MaxSubmitPerAccount,
    /// Cpus that one account holds at once.
    MaxCpusPerAccount,
    /// GPUs that one account holds at once.
    MaxGpusPerAccount,
    /// Cpus of one job.
    MaxCpusPerJob,
    /// GPUs of one job.
    MaxGpusPerJob,
    /// Memory of one job; MiB.
    MaxMemoryPerJob,
    /// Nodes of one job.
    MaxNodesPerJob,
    /// Cpus times minutes of one job, by its time limit.
    MaxCpuMinutesPerJob,
    /// GPUs times minutes of one job, by its time limit.
    MaxGpuMinutesPerJob,
    /// Run time of one job; seconds.
    MaxTime,
    /// Fewest cpus of a job.
    MinCpusPerJob,
    /// Fewest GPUs of a job.
    MinGpusPerJob,
    /// Jobs that run at once, of all together.
    GroupJobs,
    /// Jobs that wait or run, of all together.
    GroupSubmit,
    /// Cpus held at once by all together.
    GroupCpus,
    /// GPUs held at once by all together.
    GroupGpus,
    /// Memory held at once by all together; MiB.
    GroupMemory,
    /// Nodes held at once by all together, a node counted once for each job there.
    GroupNodes,
    /// Cpus times minutes that all running jobs may still use together, by their time limits.
    GroupRunningCpuMinutes,
    /// GPUs times minutes that all running jobs may still use together, by their time limits.
    GroupRunningGpuMinutes,
}

/// What a limit does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// A submission beyond it is refused.
    Refuses,
    /// A job beyond it waits.
    Holds,
}

/// Whose use a kind of limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// The user's.
    User,
    /// The account's.
    Account,
    /// The job's own.
    Job,
    /// Everybody's.
    All,
}

/// How a limit's number is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Count,
    Mib,
    Seconds,
}

impl LimitKind {
    /// Every kind, in the order in which they are shown.
    pub const ALL: [LimitKind; 27] = [
        LimitKind::MaxJobsPerUser,
        LimitKind::MaxSubmitPerUser,
        LimitKind::MaxCpusPerUser,
        LimitKind::MaxGpusPerUser,
        LimitKind::MaxMemoryPerUser,
        LimitKind::MaxNodesPerUser,
        LimitKind::MaxJobsPerAccount,
        LimitKind::MaxSubmitPerAccount,
        LimitKind::MaxCpusPerAccount,
        LimitKind::MaxGpusPerAccount,
        LimitKind::MaxCpusPerJob,
        LimitKind::MaxGpusPerJob,
        LimitKind::MaxMemoryPerJob,
        LimitKind::MaxNodesPerJob,
        LimitKind::MaxCpuMinutesPerJob,
        LimitKind::MaxGpuMinutesPerJob,
        LimitKind::MaxTime,
        LimitKind::MinCpusPerJob,
        LimitKind::MinGpusPerJob,
        LimitKind::GroupJobs,
        LimitKind::GroupSubmit,
        LimitKind::GroupCpus,
        LimitKind::GroupGpus,
        LimitKind::GroupMemory,
        LimitKind::GroupNodes,
        LimitKind::GroupRunningCpuMinutes,
        LimitKind::GroupRunningGpuMinutes,
    ];

    /// Its key in settings.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            LimitKind::MaxJobsPerUser => "max-jobs-per-user",
            LimitKind::MaxSubmitPerUser => "max-submit-per-user",
            LimitKind::MaxCpusPerUser => "max-cpus-per-user",
            LimitKind::MaxGpusPerUser => "max-gpus-per-user",
            LimitKind::MaxMemoryPerUser => "max-memory-per-user",
            LimitKind::MaxNodesPerUser => "max-nodes-per-user",
            LimitKind::MaxJobsPerAccount => "max-jobs-per-account",
            LimitKind::MaxSubmitPerAccount => "max-submit-per-account",
            LimitKind::MaxCpusPerAccount => "max-cpus-per-account",
            LimitKind::MaxGpusPerAccount => "max-gpus-per-account",
            LimitKind::MaxCpusPerJob => "max-cpus-per-job",
            LimitKind::MaxGpusPerJob => "max-gpus-per-job",
            LimitKind::MaxMemoryPerJob => "max-memory-per-job",
            LimitKind::MaxNodesPerJob => "max-nodes-per-job",
            LimitKind::MaxCpuMinutesPerJob => "max-cpu-minutes-per-job",
            LimitKind::MaxGpuMinutesPerJob => "max-gpu-minutes-per-job",
            LimitKind::MaxTime => "max-time",
            LimitKind::MinCpusPerJob => "min-cpus-per-job",
            LimitKind::MinGpusPerJob => "min-gpus-per-job",
            LimitKind::GroupJobs => "group-jobs",
            LimitKind::GroupSubmit => "group-submit",
            LimitKind::GroupCpus => "group-cpus",
            LimitKind::GroupGpus => "group-gpus",
            LimitKind::GroupMemory => "group-memory",
            LimitKind::GroupNodes => "group-nodes",
            LimitKind::GroupRunningCpuMinutes => "group-running-cpu-minutes",
            LimitKind::GroupRunningGpuMinutes => "group-running-gpu-minutes",
        }
    }

    /// The kind with this key.
    #[must_use]
    pub fn parse(word: &str) -> Option<LimitKind> {
        Self::ALL.into_iter().find(|kind| kind.word() == word)
    }

    /// Slurm's word for a job that is held or refused by it: of a partition or QOS, else of a user or account.
    #[must_use]
    pub fn reason_word(self, of_qos: bool) -> &'static str {
        let (qos, association) = match self {
            LimitKind::MaxJobsPerUser => ("QOSMaxJobsPerUserLimit", "AssocMaxJobsLimit"),
            LimitKind::MaxSubmitPerUser => {
                ("QOSMaxSubmitJobPerUserLimit", "AssocMaxSubmitJobLimit")
            }
            LimitKind::MaxCpusPerUser => ("QOSMaxCpuPerUserLimit", "AssocGrpCpuLimit"),
            LimitKind::MaxGpusPerUser => ("QOSMaxGRESPerUser", "AssocGrpGRES"),
            LimitKind::MaxMemoryPerUser => ("QOSMaxMemoryPerUser", "AssocGrpMemLimit"),
            LimitKind::MaxNodesPerUser => ("QOSMaxNodePerUserLimit", "AssocGrpNodeLimit"),
            LimitKind::MaxJobsPerAccount => ("MaxJobsPerAccount", "AssocGrpJobsLimit"),
            LimitKind::MaxSubmitPerAccount => {
                ("MaxSubmitJobsPerAccount", "AssocGrpSubmitJobsLimit")
            }
            LimitKind::MaxCpusPerAccount => ("MaxCpuPerAccount", "AssocGrpCpuLimit"),
            LimitKind::MaxGpusPerAccount => ("MaxGRESPerAccount", "AssocGrpGRES"),
            LimitKind::MaxCpusPerJob => ("QOSMaxCpuPerJobLimit", "AssocMaxCpuPerJobLimit"),
            LimitKind::MaxGpusPerJob => ("QOSMaxGRESPerJob", "AssocMaxGRESPerJob"),
            LimitKind::MaxMemoryPerJob => ("QOSMaxMemoryPerJob", "AssocMaxMemPerJob"),
            LimitKind::MaxNodesPerJob => ("QOSMaxNodePerJobLimit", "AssocMaxNodePerJobLimit"),
            LimitKind::MaxCpuMinutesPerJob => (
                "QOSMaxCpuMinutesPerJobLimit",
                "AssocMaxCpuMinutesPerJobLimit",
            ),
            LimitKind::MaxGpuMinutesPerJob => {
                ("QOSMaxGRESMinutesPerJob", "AssocMaxGRESMinutesPerJob")
            }
            LimitKind::MaxTime => (
                "QOSMaxWallDurationPerJobLimit",
                "AssocMaxWallDurationPerJobLimit",
            ),
            LimitKind::MinCpusPerJob => ("QOSMinCpuNotSatisfied", "QOSMinCpuNotSatisfied"),
            LimitKind::MinGpusPerJob => ("QOSMinGRES", "QOSMinGRES"),
            LimitKind::GroupJobs => ("QOSGrpJobsLimit", "AssocGrpJobsLimit"),
            LimitKind::GroupSubmit => ("QOSGrpSubmitJobsLimit", "AssocGrpSubmitJobsLimit"),
            LimitKind::GroupCpus => ("QOSGrpCpuLimit", "AssocGrpCpuLimit"),
            LimitKind::GroupGpus => ("QOSGrpGRES", "AssocGrpGRES"),
            LimitKind::GroupMemory => ("QOSGrpMemLimit", "AssocGrpMemLimit"),
            LimitKind::GroupNodes => ("QOSGrpNodeLimit", "AssocGrpNodeLimit"),
            LimitKind::GroupRunningCpuMinutes => {
                ("QOSGrpCPURunMinutesLimit", "AssocGrpCPURunMinutesLimit")
            }
            LimitKind::GroupRunningGpuMinutes => ("QOSGrpGRESRunMinutes", "AssocGrpGRESRunMinutes"),
        };
        if of_qos { qos } else { association }
    }

    /// What it does to a job beyond it. Whatever a job can never meet refuses it at once.
    #[must_use]
    pub fn effect(self) -> Effect {
        match self {
            LimitKind::MaxSubmitPerUser
            | LimitKind::MaxSubmitPerAccount
            | LimitKind::MaxCpusPerJob
            | LimitKind::MaxGpusPerJob
            | LimitKind::MaxMemoryPerJob
            | LimitKind::MaxNodesPerJob
            | LimitKind::MaxCpuMinutesPerJob
            | LimitKind::MaxGpuMinutesPerJob
            | LimitKind::MaxTime
            | LimitKind::MinCpusPerJob
            | LimitKind::MinGpusPerJob
            | LimitKind::GroupSubmit => Effect::Refuses,
            LimitKind::MaxJobsPerUser
            | LimitKind::MaxCpusPerUser
            | LimitKind::MaxGpusPerUser
            | LimitKind::MaxMemoryPerUser
            | LimitKind::MaxNodesPerUser
            | LimitKind::MaxJobsPerAccount
            | LimitKind::MaxCpusPerAccount
            | LimitKind::MaxGpusPerAccount
            | LimitKind::GroupJobs
            | LimitKind::GroupCpus
            | LimitKind::GroupGpus
            | LimitKind::GroupMemory
            | LimitKind::GroupNodes
            | LimitKind::GroupRunningCpuMinutes
            | LimitKind::GroupRunningGpuMinutes => Effect::Holds,
        }
    }

    /// Whose use it counts.
    #[must_use]
    pub fn whose(self) -> Whose {
        match self {
            LimitKind::MaxJobsPerUser
            | LimitKind::MaxSubmitPerUser
            | LimitKind::MaxCpusPerUser
            | LimitKind::MaxGpusPerUser
            | LimitKind::MaxMemoryPerUser
            | LimitKind::MaxNodesPerUser => Whose::User,
            LimitKind::MaxJobsPerAccount
            | LimitKind::MaxSubmitPerAccount
            | LimitKind::MaxCpusPerAccount
            | LimitKind::MaxGpusPerAccount => Whose::Account,
            LimitKind::MaxCpusPerJob
            | LimitKind::MaxGpusPerJob
            | LimitKind::MaxMemoryPerJob
            | LimitKind::MaxNodesPerJob
            | LimitKind::MaxCpuMinutesPerJob
            | LimitKind::MaxGpuMinutesPerJob
            | LimitKind::MaxTime
            | LimitKind::MinCpusPerJob
            | LimitKind::MinGpusPerJob => Whose::Job,
            LimitKind::GroupJobs
            | LimitKind::GroupSubmit
            | LimitKind::GroupCpus
            | LimitKind::GroupGpus
            | LimitKind::GroupMemory
            | LimitKind::GroupNodes
            | LimitKind::GroupRunningCpuMinutes
            | LimitKind::GroupRunningGpuMinutes => Whose::All,
        }
    }

    /// Whether it holds at every level that says it, rather than at the first.
    #[must_use]
    pub fn is_of_group(self) -> bool {
        self.whose() == Whose::All
    }

    /// Whether it counts jobs that run: one that runs already adds nothing to it.
    #[must_use]
    pub fn counts_jobs(self) -> bool {
        matches!(
            self,
            LimitKind::MaxJobsPerUser | LimitKind::MaxJobsPerAccount | LimitKind::GroupJobs
        )
    }

    /// Whether it counts what many jobs have together, so that some of it may be in use.
    #[must_use]
    pub fn is_of_many(self) -> bool {
        self.whose() != Whose::Job
    }

    fn unit(self) -> Unit {
        match self {
            LimitKind::MaxMemoryPerUser | LimitKind::MaxMemoryPerJob | LimitKind::GroupMemory => {
                Unit::Mib
            }
            LimitKind::MaxTime => Unit::Seconds,
            _ => Unit::Count,
        }
    }

    /// Reads a number of this kind; `None` = no limit (`none` or nothing).
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn parse_value(self, text: &str) -> Result<Option<u64>, String> {
        if matches!(text, "" | "none" | "unlimited" | "-1") {
            return Ok(None);
        }
        match self.unit() {
            Unit::Count => match text.parse::<u32>() {
                Ok(count) => Ok(Some(u64::from(count))),
                Err(_) => Err(format!(
                    "\"{text}\" is not a whole number from 0 to {}",
                    u32::MAX
                )),
            },
            Unit::Mib => size::parse_memory_mib(text)
                .map(Some)
                .map_err(|error| error.to_string()),
            Unit::Seconds => parse_seconds(text),
        }
    }

    /// A number of this kind as people write it.
    #[must_use]
    pub fn show(self, value: u64) -> String {
        match self.unit() {
            Unit::Count => value.to_string(),
            Unit::Mib => format!("{value}M"),
            Unit::Seconds => time::format_duration(value),
        }
    }
}

/// A span as `--time` takes it, or a number with `d`, `h`, `m` or `s` behind it; `None` = no limit.
///
/// # Errors
/// What is wrong with the text.
pub fn parse_seconds(text: &str) -> Result<Option<u64>, String> {
    let units = [('d', 86_400), ('h', 3600), ('m', 60), ('s', 1)];
    for (unit, seconds) in units {
        if let Some(number) = text.strip_suffix(unit)
            && let Ok(number) = number.parse::<u32>()
        {
            let span = u64::from(number) * seconds;
            return match u32::try_from(span) {
                // As without a unit: no time at all is no limit.
                Ok(0) => Ok(None),
                Ok(_) => Ok(Some(span)),
                Err(_) => Err(format!("\"{text}\" is longer than {} s", u32::MAX)),
            };
        }
    }
    time::parse_time_limit(text)
        .map(|limit| limit.map(u64::from))
        .map_err(|error| error.to_string())
}

impl fmt::Display for LimitKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// The limits of one level.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Limits(BTreeMap<LimitKind, u64>);

impl Limits {
    /// The number that is said of this kind.
    #[must_use]
    pub fn get(&self, kind: LimitKind) -> Option<u64> {
        self.0.get(&kind).copied()
    }

    /// Says a number, or nothing any more.
    pub fn set(&mut self, kind: LimitKind, value: Option<u64>) {
        match value {
            Some(value) => _ = self.0.insert(kind, value),
            None => _ = self.0.remove(&kind),
        }
    }

    /// All that is said, in the order of kinds.
    pub fn iter(&self) -> impl Iterator<Item = (LimitKind, u64)> {
        self.0.iter().map(|(kind, value)| (*kind, *value))
    }

    /// Whether nothing is said.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Where a limit is set.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Level {
    /// At a partition.
    Partition(String),
    /// At a QOS.
    Qos(String),
    /// At a user.
    User(String),
    /// At an account.
    Account(String),
}

impl Level {
    /// Whether Slurm's words for a QOS are right for it.
    #[must_use]
    pub fn is_of_qos(&self) -> bool {
        matches!(self, Level::Partition(_) | Level::Qos(_))
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Level::Partition(name) => write!(f, "partition {name}"),
            Level::Qos(name) => write!(f, "QOS {name}"),
            Level::User(name) => write!(f, "user {name}"),
            Level::Account(name) => write!(f, "account {name}"),
        }
    }
}

/// A limit that a job has met.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitHit {
    /// Where it is set.
    pub level: Level,
    /// What it limits.
    pub kind: LimitKind,
    /// The limit.
    pub limit: u64,
    /// What is used of it already.
    pub used: u64,
    /// What the job would add.
    pub wanted: u64,
}

impl LimitHit {
    /// Slurm's word.
    #[must_use]
    pub fn word(&self) -> &'static str {
        self.kind.reason_word(self.level.is_of_qos())
    }
}

impl fmt::Display for LimitHit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LimitHit {
            level,
            kind,
            limit,
            used,
            wanted,
        } = self;
        let show = |value: &u64| kind.show(*value);
        write!(f, "{level} sets {kind}={}: ", show(limit))?;
        write!(f, "{} in use, {} more asked for", show(used), show(wanted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_reads_what_it_shows() {
        for kind in LimitKind::ALL {
            assert_eq!(LimitKind::parse(kind.word()), Some(kind));
            assert_eq!(kind.parse_value("none"), Ok(None));
            for value in [1, 59, 3600, 90_061] {
                assert_eq!(
                    kind.parse_value(&kind.show(value)),
                    Ok(Some(value)),
                    "{kind}"
                );
            }
            assert!(kind.parse_value("many").is_err());
        }
        assert_eq!(LimitKind::MaxTime.parse_value("7-0"), Ok(Some(604_800)));
        assert_eq!(LimitKind::MaxTime.parse_value("24h"), Ok(Some(86_400)));
        assert!(LimitKind::MaxTime.parse_value("99999d").is_err());
        for nothing in ["0", "0s", "0-0"] {
            assert_eq!(LimitKind::MaxTime.parse_value(nothing), Ok(None));
        }
        assert_eq!(LimitKind::GroupMemory.parse_value("2G"), Ok(Some(2048)));
    }

    #[test]
    fn slurms_words_are_those_of_the_level() {
        let hit = LimitHit {
            level: Level::Qos("normal".into()),
            kind: LimitKind::MaxSubmitPerUser,
            limit: 3,
            used: 3,
            wanted: 1,
        };
        assert_eq!(hit.word(), "QOSMaxSubmitJobPerUserLimit");
        let text = "QOS normal sets max-submit-per-user=3: 3 in use, 1 more asked for";
        assert_eq!(hit.to_string(), text);
    }
}
