//! What has really happened, as a workload: the history of a cluster, to be replayed under another policy, and a live run
//! whose decisions are to be compared with the simulator's.
//!
//! A history says less than a submission did. Requests are taken from what was asked and granted (GPUs of any kind, whole
//! nodes where more cpus were granted than asked for); a job that waited for others may start once those had ended as they
//! did; elements of an array that never ran are missing, and how many might run at once is not known. Jobs that never ran,
//! and copies (`hpc cp`), which take nothing, are left out. Everybody begins with no usage.

use super::cluster::{Broken, Setup, simulate_watched};
use super::cluster_file::Machine;
use super::outcome::Outcome;
use super::workload::{JOBS_MAX, People, Planned, Runs, Workload, blank_spec};
use crate::model::array::ArraySpec;
use crate::model::job::{JobSpec, Owner};
use crate::model::node::Inventory;
use crate::model::resource::{GpuCount, GpuRequest, MemoryRequest, Request};
use crate::model::rules::{Act, Noun, RuleChange, Rules};
use crate::model::shared::Text;
use crate::model::time::Timestamp;
use crate::wire::view::{JobView, NodeView, PartitionView};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// More than we would hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more than {JOBS_MAX} jobs have run, each element of an array counted")]
pub struct TooLong;

/// One job as its rows tell of it.
#[derive(Debug)]
struct Entry {
    is_array: bool,
    /// Raw number, start and end of each element that ran.
    elements: Vec<(u32, Timestamp, Timestamp)>,
    owner: u32,
    submitted: Timestamp,
    spec: JobSpec,
    after: Vec<u32>,
}

/// Gathers the rows of a history, in any order.
#[derive(Debug, Default)]
pub struct Recorder {
    jobs: BTreeMap<u32, Entry>,
    people: People,
    /// When each job had ended, for those that waited for it.
    ended: BTreeMap<u32, Timestamp>,
    texts: crate::model::job::Commons,
    elements: u64,
    /// Rows that are no part of the workload.
    left_out: u64,
}

impl Recorder {
    /// Takes a row.
    ///
    /// # Errors
    /// When there are too many.
    pub fn push(&mut self, row: &JobView) -> Result<(), TooLong> {
        if let Some(end) = row.end_time {
            let known = self.ended.entry(row.id).or_insert(end);
            *known = (*known).max(end);
        }
        let (Some(start), Some(end)) = (row.start_time, row.end_time) else {
            self.left_out += 1;
            return Ok(());
        };
        if row.cpus == 0 || row.cpus_per_task == 0 {
            self.left_out += 1;
            return Ok(());
        }
        self.elements += 1;
        if self.elements > JOBS_MAX {
            return Err(TooLong);
        }
        let owner = self.people.place(&row.user);
        let entry = self.jobs.entry(row.id).or_insert_with(|| {
            let mut spec = specification(row);
            spec.share(&mut self.texts);
            Entry {
                is_array: row.array_task.is_some(),
                elements: Vec::new(),
                owner,
                submitted: row.submit_time,
                spec,
                after: row.dependency.as_deref().map_or_else(Vec::new, numbers),
            }
        });
        entry.elements.push((row.raw_id, start, end));
        Ok(())
    }

    /// The workload, and how it fared.
    #[must_use]
    pub fn finish(self) -> Past {
        let mut workload = Workload {
            owners: self.people.list,
            ..Workload::default()
        };
        let mut entries: Vec<Entry> = self.jobs.into_values().collect();
        // Of one instant in the order of their numbers, which is that of the map.
        entries.sort_by_key(|entry| entry.submitted);
        let mut waits = Vec::with_capacity(entries.len());
        let mut specs: BTreeMap<String, u32> = BTreeMap::new();
        for mut entry in entries {
            entry.elements.sort_unstable();
            let over = entry.after.iter().filter_map(|id| self.ended.get(id));
            let begin = entry.spec.begin.max(over.max().copied());
            entry.spec.begin = begin.filter(|at| *at > entry.submitted);
            if entry.is_array {
                let last = entry.elements.len().saturating_sub(1);
                let last = u32::try_from(last).unwrap_or(u32::MAX);
                let array = ArraySpec::parse(&format!("0-{last}"), u32::MAX);
                entry.spec.array = array.ok().map(Box::new);
            }
            let spans = entry.elements.iter();
            let runs: Box<[i64]> = spans
                .map(|(_, start, end)| end.minus(*start).max(0))
                .collect();
            let starts = entry.elements.iter();
            waits.push(
                starts
                    .map(|(_, start, _)| start.minus(entry.submitted).max(0))
                    .collect(),
            );
            let next = u32::try_from(workload.specs.len()).unwrap_or(u32::MAX);
            // One with a time of its own is like no other.
            let spec = match entry.spec.begin {
                Some(_) => next,
                None => *specs.entry(format!("{:?}", entry.spec)).or_insert(next),
            };
            if spec == next {
                workload.specs.push(entry.spec);
            }
            workload.jobs.push(Planned {
                at: entry.submitted,
                owner: entry.owner,
                spec,
                runs: match *runs {
                    [only] => Runs::Same(only),
                    _ => Runs::Each(runs),
                },
            });
        }
        Past {
            workload,
            waits,
            left_out: self.left_out,
        }
    }
}

/// The numbers of the jobs that a dependency names.
fn numbers(dependency: &str) -> Vec<u32> {
    let parts = dependency.split([':', ',', '?']);
    let numbers = parts.filter_map(|part| {
        let digits = part.split(['_', '+']).next().unwrap_or_default();
        digits.parse().ok()
    });
    numbers.collect()
}

fn specification(row: &JobView) -> JobSpec {
    let nodes = u32::try_from(row.nodes.len()).unwrap_or(u32::MAX).max(1);
    let nodes_min = row.nodes_requested.clamp(1, nodes);
    let tasks = row.ntasks.max(nodes_min);
    let request = Request {
        nodes_min,
        ntasks: Some(tasks),
        cpus_per_task: Some(row.cpus_per_task.max(1)),
        memory: MemoryRequest::PerNode((row.memory_mib / u64::from(nodes)).max(1)),
        gpus: match row.gpus {
            0 => GpuRequest::None,
            count => GpuRequest::Total(GpuCount { kind: None, count }),
        },
        exclusive: row.cpus > tasks.saturating_mul(row.cpus_per_task.max(1)),
        ..Request::default()
    };
    JobSpec {
        request: Arc::new(request),
        time_limit_s: row.time_limit_s,
        partition: Text::from(&row.partition),
        account: Text::from(&row.account),
        qos: Text::from(&row.qos),
        begin: row.begin_time,
        // As the history shows it; below zero only an operator had it, and there is none here.
        nice: i32::try_from(-row.priority).unwrap_or(0).max(0),
        ..blank_spec()
    }
}

/// What has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Past {
    /// The jobs.
    pub workload: Workload,
    /// How long each element of each of them waited; milliseconds.
    pub waits: Vec<Vec<i64>>,
    /// Rows that are no part of it.
    pub left_out: u64,
}

/// Nodes as they are known now, as machines.
#[must_use]
pub fn nodes(known: &[NodeView]) -> Vec<Inventory> {
    let machine = |node: &NodeView| {
        let mut gpus: BTreeMap<&str, u32> = BTreeMap::new();
        for gpu in &node.gpus {
            *gpus.entry(&gpu.kind).or_default() += 1;
        }
        let gpus = gpus.into_iter().map(|(kind, count)| GpuCount {
            kind: Some(kind.to_owned()),
            count,
        });
        let machine = Machine {
            cpus: node.cpus,
            numa: node.numa_nodes,
            memory_mib: node.memory_mib,
            gpus: gpus.collect(),
        };
        machine.inventory(&node.name)
    };
    known.iter().map(machine).collect()
}

/// These rules with what the past needs of them: its partitions as they are now, and its people in their accounts.
#[must_use]
pub fn rules(mut rules: Rules, partitions: &[PartitionView], past: &Past) -> Rules {
    let mut change = |noun: Noun, name: &str, settings: Vec<(&str, String)>| {
        let known = noun == Noun::User || rules.names(noun).contains(&name);
        let settings = settings.into_iter();
        let change = RuleChange {
            noun,
            act: if known { Act::Set } else { Act::Add },
            name: name.to_owned(),
            settings: settings
                .map(|(key, value)| (key.to_owned(), value))
                .collect(),
        };
        // What was a name once is one.
        if let Ok(after) = rules.change(&change) {
            rules = after;
        }
    };
    for one in partitions {
        let limit = one
            .max_time_s
            .map_or("none".to_owned(), |s| format!("{s}s"));
        let mut settings = vec![("max-time", limit)];
        if one.default {
            settings.push(("default", "yes".to_owned()));
        }
        change(Noun::Partition, &one.name, settings);
    }
    let workload = &past.workload;
    let mut people: BTreeMap<u32, BTreeSet<&str>> = BTreeMap::new();
    let mut named: BTreeSet<(Noun, &str)> = BTreeSet::new();
    for job in &workload.jobs {
        let at = usize::try_from(job.spec).unwrap_or(usize::MAX);
        let Some(spec) = workload.specs.get(at) else {
            continue;
        };
        people.entry(job.owner).or_default().insert(&spec.account);
        named.extend([
            (Noun::Partition, spec.partition.as_str()),
            (Noun::Account, spec.account.as_str()),
            (Noun::Qos, spec.qos.as_str()),
        ]);
    }
    let known: BTreeSet<&str> = partitions.iter().map(|one| one.name.as_str()).collect();
    for (noun, name) in named {
        // One that is gone limits nothing.
        let is_gone = noun == Noun::Partition && !known.contains(name);
        let settings = is_gone.then(|| ("max-time", "none".to_owned()));
        change(noun, name, settings.into_iter().collect());
    }
    for (owner, accounts) in people {
        let at = usize::try_from(owner).unwrap_or(usize::MAX);
        let Some(owner) = workload.owners.get(at) else {
            continue;
        };
        let mut accounts = accounts.into_iter();
        let first = accounts.next().unwrap_or_default().to_owned();
        let others: Vec<&str> = accounts.collect();
        let settings = vec![("account", first), ("accounts", others.join(","))];
        change(Noun::User, &owner.name, settings);
    }
    rules
}

/// How one user fared, and would have fared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The name; `None` = all together.
    pub user: Option<String>,
    /// Elements that ran both times.
    pub elements: u64,
    /// What they waited, together; milliseconds.
    pub before_ms: i128,
    /// What they would have waited.
    pub after_ms: i128,
}

impl Change {
    /// Mean waits before and after; milliseconds.
    #[must_use]
    pub fn means_ms(&self) -> (i64, i64) {
        let count = i128::from(self.elements.max(1));
        let mean = |sum: i128| i64::try_from(sum / count).unwrap_or(i64::MAX);
        (mean(self.before_ms), mean(self.after_ms))
    }
}

/// Who would have waited more and who less: all together, then each user, those who lose most first.
#[must_use]
pub fn compare(past: &Past, outcome: &Outcome) -> Vec<Change> {
    let blank = |user: Option<&Owner>| Change {
        user: user.map(|owner| owner.name.to_string()),
        elements: 0,
        before_ms: 0,
        after_ms: 0,
    };
    let owners = &past.workload.owners;
    let mut all = blank(None);
    let mut users: Vec<Change> = owners.iter().map(|owner| blank(Some(owner))).collect();
    let place = |at: u32| usize::try_from(at).unwrap_or(usize::MAX);
    for one in &outcome.elements {
        let waits = past.waits.get(place(one.job));
        let before = waits.and_then(|waits| waits.get(place(one.position)));
        let job = past.workload.jobs.get(place(one.job));
        let user = job.and_then(|job| users.get_mut(place(job.owner)));
        if let (Some(before), Some(user)) = (before, user) {
            for change in [&mut all, user] {
                change.elements += 1;
                change.before_ms += i128::from(*before);
                change.after_ms += i128::from(one.wait_ms());
            }
        }
    }
    users.retain(|user| user.elements > 0);
    users.sort_by_key(|user| {
        let (before, after) = user.means_ms();
        (before - after, user.user.clone())
    });
    std::iter::once(all).chain(users).collect()
}

/// A submission of a live run, and what nodes said of what it led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submission {
    /// When it was admitted.
    pub at: Timestamp,
    /// By whom.
    pub owner: Owner,
    /// What was asked for.
    pub spec: JobSpec,
    /// When each element began and ended, by position.
    pub ran: Vec<(Timestamp, Timestamp)>,
}

/// A decision: something is to start.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Start {
    /// Of which submission: a place in the list.
    pub job: usize,
    /// Which element.
    pub position: u32,
    /// When that was decided.
    pub at: Timestamp,
    /// On which nodes, leader first.
    pub nodes: Vec<String>,
}

/// What the simulator decides when submissions come and nodes speak as they did in a live run. The list is in the order in
/// which they were admitted. Decisions in the order of submissions and positions.
///
/// What is started here says of itself what the live one did: it began some milliseconds after it was told to, and of two
/// that were told together that can decide which is expected to make room first. It ends when the live one ended, however
/// long that is: if the milliseconds before it began and after its end were left out of every run, ends would come ever
/// earlier, and soon in another order. The times that a store has are those of shepherds, which lag behind by as long as
/// their launch was on its way: of ends so close to each other no row says which was heard of first, but who saw it.
///
/// # Errors
/// When the cluster breaks a rule of its own.
pub fn decisions(setup: Setup, list: Vec<Submission>) -> Result<Vec<Start>, Broken> {
    let mut workload = Workload::default();
    for (submission, at) in list.into_iter().zip(0..) {
        workload.owners.push(submission.owner);
        workload.specs.push(submission.spec);
        workload.jobs.push(Planned {
            at: submission.at,
            owner: at,
            spec: at,
            runs: Runs::Was(submission.ran.into()),
        });
    }
    let mut granted: BTreeMap<u32, Timestamp> = BTreeMap::new();
    let outcome = simulate_watched(setup, &workload, &mut |moment| {
        for job in moment.cluster.jobs() {
            for position in job.slots.iter().flat_map(|slot| slot.queue.iter()) {
                granted.entry(job.id.raw(position)).or_insert(moment.now);
            }
        }
    })?;
    let place = |at: u32| usize::try_from(at).unwrap_or(usize::MAX);
    let nodes = |at: u32| -> Vec<String> {
        let set = outcome.places.get(place(at)).into_iter();
        let set = set.flat_map(|set| set.iter());
        let name = |at: &u32| outcome.nodes.get(place(*at));
        set.filter_map(name).cloned().collect()
    };
    let mut starts: Vec<Start> = outcome
        .elements
        .iter()
        .map(|one| Start {
            job: place(one.job),
            position: one.position,
            at: granted.get(&one.id).copied().unwrap_or(one.started),
            nodes: nodes(one.place),
        })
        .collect();
    starts.sort();
    Ok(starts)
}

#[cfg(test)]
mod tests;
