//! What is submitted to a simulated cluster: by whom, when, and how long it will really run.
//!
//! Jobs are kept small, since there may be millions: what many have in common is kept once. Where a workload comes from is
//! said in [`super::jobs_file`], [`super::swf`] and [`super::recorded`].

use super::draw::Draw;
use super::swf::Trace;
use crate::model::ids::BlobId;
use crate::model::job::{JobSpec, Launch, Owner};
use crate::model::resource::Request;
use crate::model::time::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Most jobs of a workload; each element of an array counts.
pub const JOBS_MAX: u64 = 2_000_000;
/// The uid of the first user.
const UID_FIRST: u32 = 1_000;

/// How long the elements of a job really run; milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Runs {
    /// Each so long.
    Same(i64),
    /// Each as the seed has it, from the first to the second.
    Between(i64, i64),
    /// As it was, by position.
    Each(Box<[i64]>),
    /// When each began and ended in a live run, by position: one that is started says that it began then, or now if that is
    /// later, and ends when it did.
    Was(Box<[(Timestamp, Timestamp)]>),
}

/// A job to be submitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// When.
    pub at: Timestamp,
    /// By whom: a place among the owners.
    pub owner: u32,
    /// What is asked for: a place among the specifications.
    pub spec: u32,
    /// How long it really runs.
    pub runs: Runs,
}

/// Everything that is submitted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Workload {
    /// Who submits.
    pub owners: Vec<Owner>,
    /// What jobs ask for.
    pub specs: Vec<JobSpec>,
    /// By submission; of one instant in the order in which they come.
    pub jobs: Vec<Planned>,
    /// Decides what is left to chance.
    pub seed: u64,
}

impl Workload {
    /// How long this element of this job runs if it starts now; milliseconds.
    #[must_use]
    pub fn run_ms(&self, job: usize, position: u32, now: Timestamp) -> i64 {
        let Some(planned) = self.jobs.get(job) else {
            return 0;
        };
        match &planned.runs {
            Runs::Same(ms) => *ms,
            Runs::Between(least, most) => {
                let stream = ((job as u64) << 32) | u64::from(position);
                Draw::stream(self.seed, stream).between(*least, *most)
            }
            Runs::Each(spans) => {
                let at = usize::try_from(position).unwrap_or(usize::MAX);
                spans.get(at).or(spans.last()).copied().unwrap_or(0)
            }
            Runs::Was(spans) => {
                let at = usize::try_from(position).unwrap_or(usize::MAX);
                spans.get(at).map_or(0, |(_, end)| end.minus(now).max(0))
            }
        }
    }

    /// When this element of this job says that it began if it is started now.
    #[must_use]
    pub fn began(&self, job: usize, position: u32, now: Timestamp) -> Timestamp {
        let runs = self.jobs.get(job).map(|planned| &planned.runs);
        let Some(Runs::Was(spans)) = runs else {
            return now;
        };
        let at = usize::try_from(position).unwrap_or(usize::MAX);
        spans.get(at).map_or(now, |(began, _)| now.max(*began))
    }

    /// The jobs of a trace: one task for each processor, wherever there is room; users are `u7` and so on.
    #[must_use]
    pub fn of_trace(trace: &Trace) -> Self {
        let mut workload = Workload::default();
        let mut people = People::default();
        let mut owners: BTreeMap<i64, u32> = BTreeMap::new();
        let mut specs: BTreeMap<(u32, u32), u32> = BTreeMap::new();
        for job in &trace.jobs {
            let limit_s = u32::try_from(job.limit.max(1)).unwrap_or(u32::MAX);
            let next = u32::try_from(workload.specs.len()).unwrap_or(u32::MAX);
            let spec = *specs.entry((job.processors, limit_s)).or_insert(next);
            if spec == next {
                let request = Request {
                    ntasks: Some(job.processors),
                    cpus_per_task: Some(1),
                    ..Request::default()
                };
                workload.specs.push(JobSpec {
                    request: request.into(),
                    time_limit_s: Some(limit_s),
                    ..blank_spec()
                });
            }
            let name = || format!("u{}", job.user);
            let owner = *owners
                .entry(job.user)
                .or_insert_with(|| people.place(&name()));
            workload.jobs.push(Planned {
                at: Timestamp::from_seconds(job.submit),
                owner,
                spec,
                runs: Runs::Same(job.run.saturating_mul(1000)),
            });
        }
        workload.owners = people.list;
        workload
    }
}

/// People, as they turn up.
#[derive(Debug, Default)]
pub(super) struct People {
    /// All of them.
    pub(super) list: Vec<Owner>,
    places: BTreeMap<Arc<str>, u32>,
}

impl People {
    /// The place of a person with this name, who is new or known.
    pub(super) fn place(&mut self, name: &str) -> u32 {
        if let Some(known) = self.places.get(name) {
            return *known;
        }
        let at = u32::try_from(self.list.len()).unwrap_or(u32::MAX);
        let uid = UID_FIRST.saturating_add(at);
        let owner = Owner {
            uid,
            gid: uid,
            name: name.into(),
        };
        self.places.insert(Arc::clone(&owner.name), at);
        self.list.push(owner);
        at
    }
}

/// A job that asks for nothing but a cpu.
#[must_use]
pub fn blank_spec() -> JobSpec {
    JobSpec {
        name: "job".into(),
        partition: Default::default(),
        account: Default::default(),
        qos: Default::default(),
        launch: Launch::Command {
            arguments: BlobId([0; 32]),
        },
        surroundings: BlobId([0; 32]),
        command: Default::default(),
        request: Default::default(),
        array: None,
        dependency: None,
        kill_on_invalid_dependency: false,
        begin: None,
        time_limit_s: None,
        hold: false,
        requeue: false,
        nice: 0,
        signal: None,
        work_dir: "/".into(),
        output: None,
        error: None,
        input: None,
        open_mode: Default::default(),
        kill_wait_s: 30,
        comment: None,
        submit_host: "sim".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_a_workload_that_shares_what_is_alike() {
        let text = "1 5 -1 100 2 -1 -1 2 200 -1 1 7\n2 6 -1 50 2 -1 -1 2 200 -1 1 7\n\
                    3 6 -1 50 1 -1 -1 1 200 -1 1 8\n";
        let trace = Trace::parse(text, Some(4)).unwrap();
        let workload = Workload::of_trace(&trace);
        assert_eq!((workload.owners.len(), workload.specs.len()), (2, 2));
        assert_eq!(&*workload.owners[1].name, "u8");
        let shown: Vec<_> = workload
            .jobs
            .iter()
            .map(|job| (job.at.0, job.owner, job.spec))
            .collect();
        assert_eq!(shown, [(5_000, 0, 0), (6_000, 0, 0), (6_000, 1, 1)]);
        assert_eq!(workload.run_ms(1, 0, Timestamp(0)), 50_000);
        assert_eq!(workload.specs[0].request.cpus_total(), 2);
    }

    #[test]
    fn what_is_left_to_chance_follows_the_seed() {
        let workload = |seed| Workload {
            jobs: vec![Planned {
                at: Timestamp(0),
                owner: 0,
                spec: 0,
                runs: Runs::Between(10, 1_000_000),
            }],
            seed,
            ..Workload::default()
        };
        let spans = |seed| -> Vec<i64> {
            let workload = workload(seed);
            (0..50)
                .map(|at| workload.run_ms(0, at, Timestamp(0)))
                .collect()
        };
        assert_eq!(spans(1), spans(1));
        assert_ne!(spans(1), spans(2));
        assert!(spans(1).iter().all(|ms| (10..=1_000_000).contains(ms)));
    }
}
