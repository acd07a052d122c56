//! What became of a simulated workload: every element that ran, and what was refused, left or lost.

use super::curve::Curve;
use super::workload::Workload;
use crate::cluster::changes::Changes;
use crate::model::hostlist;
use crate::model::ids::JobId;
use crate::model::job::{ElementEnd, JobState};
use crate::model::node::Inventory;
use crate::model::refusal::{Code, Refusal};
use crate::model::time::Timestamp;
use std::collections::BTreeMap;
use std::fmt::Write;

/// An element that ran; a plain job is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Element {
    /// Its number in the simulated cluster.
    pub id: u32,
    /// Its job: a place in the workload.
    pub job: u32,
    /// Its position in its job.
    pub position: u32,
    /// When the job was submitted.
    pub submitted: Timestamp,
    /// Its last start.
    pub started: Timestamp,
    /// Its end.
    pub ended: Timestamp,
    /// How it ended.
    pub state: JobState,
    /// Where: one of [`Outcome::places`].
    pub place: u32,
    /// Cpus that it held.
    pub cpus: u32,
    /// GPUs that it held.
    pub gpus: u32,
}

impl Element {
    /// From submission to start; milliseconds.
    #[must_use]
    pub fn wait_ms(&self) -> i64 {
        self.started.minus(self.submitted).max(0)
    }

    /// From start to end; milliseconds.
    #[must_use]
    pub fn run_ms(&self) -> i64 {
        self.ended.minus(self.started).max(0)
    }
}

/// Submissions that were refused for one reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// How many.
    pub count: u64,
    /// What was said to the first.
    pub first: String,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What ran, by number.
    pub elements: Vec<Element>,
    /// Elements that ended without having run.
    pub never_ran: u64,
    /// Submissions that were refused, by code and word.
    pub refused: BTreeMap<(Code, String), Refused>,
    /// Elements that waited to the end and could not start.
    pub left: u64,
    /// How often something was put back after it had run.
    pub restarts: u64,
    /// What nodes had run when they failed; milliseconds of elements.
    pub lost_ms: i64,
    /// How often nodes failed.
    pub failures: u64,
    /// Sets of nodes that something ran on; places among the names.
    pub places: Vec<Box<[u32]>>,
    /// Names of the nodes.
    pub nodes: Vec<String>,
    /// Cpus of each node.
    pub node_cpus: Vec<u32>,
    /// Cpus of all nodes.
    pub cpus: u64,
    /// GPUs of all nodes.
    pub gpus: u64,
    /// Over time.
    pub curve: Curve,
    /// How often the planner was asked.
    pub passes: u64,
}

impl Outcome {
    /// Folded names of a set of nodes.
    #[must_use]
    pub fn place_name(&self, place: u32) -> String {
        let set = usize::try_from(place)
            .ok()
            .and_then(|at| self.places.get(at));
        let nodes = set.into_iter().flat_map(|nodes| nodes.iter());
        let name = |at: &u32| usize::try_from(*at).ok().and_then(|at| self.nodes.get(at));
        let names: Vec<&String> = nodes.filter_map(name).collect();
        hostlist::fold(&names)
    }

    /// By which two schedules are told apart: FNV-1a, 64 bits, over a line `ID START NODES` for each element in the order
    /// of their numbers; starts in seconds.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let names: Vec<String> = (0..)
            .take(self.places.len())
            .map(|at| self.place_name(at))
            .collect();
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        let mut line = String::new();
        for one in &self.elements {
            let place = usize::try_from(one.place).unwrap_or(usize::MAX);
            let name = names.get(place).map_or("", String::as_str);
            line.clear();
            // Writing to a text cannot fail.
            let _ = writeln!(line, "{} {} {name}", one.id, one.started.seconds());
            for byte in line.bytes() {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
        }
        hash
    }
}

/// Gathers an outcome while it comes about.
#[derive(Debug)]
pub(super) struct Gathering {
    pub(super) outcome: Outcome,
    /// Elements that were admitted and have not ended.
    pub(super) open: u64,
    node_places: BTreeMap<String, u32>,
    known_places: BTreeMap<Box<[u32]>, u32>,
}

impl Gathering {
    pub(super) fn new(machines: &[Inventory], begin: Timestamp) -> Self {
        let nodes: Vec<String> = machines.iter().map(|node| node.name.clone()).collect();
        let cpus = machines.iter().map(|node| node.topology.cpus.len() as u64);
        let gpus = machines.iter().map(|node| node.topology.gpus.len() as u64);
        let places = nodes.iter().cloned().zip(0..);
        Gathering {
            node_places: places.collect(),
            known_places: BTreeMap::new(),
            open: 0,
            outcome: Outcome {
                elements: Vec::new(),
                never_ran: 0,
                refused: BTreeMap::new(),
                left: 0,
                restarts: 0,
                lost_ms: 0,
                failures: 0,
                places: Vec::new(),
                nodes,
                node_cpus: cpus
                    .clone()
                    .map(|count| u32::try_from(count).unwrap_or(u32::MAX))
                    .collect(),
                cpus: cpus.sum(),
                gpus: gpus.sum(),
                curve: Curve::new(begin),
                passes: 0,
            },
        }
    }

    pub(super) fn refuse(&mut self, refusal: Refusal) {
        let word = match refusal.code {
            Code::Limit => refusal.what.split(':').next().unwrap_or_default(),
            _ => "",
        };
        let key = (refusal.code, word.to_owned());
        let known = self.outcome.refused.entry(key).or_insert(Refused {
            count: 0,
            first: refusal.what,
        });
        known.count += 1;
    }

    /// Takes what a turn changed. `place` says where in the workload a job is, `gone` hears of those that have ended.
    pub(super) fn take(
        &mut self,
        changes: &Changes,
        workload: &Workload,
        place: impl Fn(JobId) -> Option<usize>,
        mut gone: impl FnMut(JobId),
    ) {
        for (id, _, row) in &changes.rows {
            let at = self.place(&row.granted.nodes);
            let what = (*id, place(*id), at, row.granted.cpus, row.granted.gpus);
            for end in &row.ends {
                self.ended(what, end.position, Span::of(end), workload);
                self.outcome.restarts += u64::from(end.restarts);
            }
            if let Some(never) = &row.never_started {
                let count = u64::from(never.positions.len());
                self.outcome.never_ran += count;
                self.open -= count;
            }
        }
        for job in &changes.ended {
            if job.spec.array.is_none() {
                let at = self.place(&job.granted.nodes);
                let what = (
                    job.id,
                    place(job.id),
                    at,
                    job.granted.cpus,
                    job.granted.gpus,
                );
                let span = Span {
                    started: job.started,
                    ended: job.ended,
                    state: job.state,
                };
                self.ended(what, 0, span, workload);
                self.outcome.restarts += u64::from(job.restarts);
            }
            gone(job.id);
        }
    }

    fn ended(
        &mut self,
        (id, job, place, cpus, gpus): (JobId, Option<usize>, u32, u32, u32),
        position: u32,
        span: Span,
        workload: &Workload,
    ) {
        self.open -= 1;
        let planned = job.and_then(|at| workload.jobs.get(at));
        let (Some(job), Some(planned), Some(started)) = (job, planned, span.started) else {
            self.outcome.never_ran += 1;
            return;
        };
        self.outcome.elements.push(Element {
            id: id.raw(position),
            job: u32::try_from(job).unwrap_or(u32::MAX),
            position,
            submitted: planned.at,
            started,
            ended: span.ended,
            state: span.state,
            place,
            cpus,
            gpus,
        });
    }

    /// The number of this set of nodes.
    fn place(&mut self, names: &[String]) -> u32 {
        let nodes: Box<[u32]> = names
            .iter()
            .filter_map(|name| self.node_places.get(name).copied())
            .collect();
        if let Some(known) = self.known_places.get(&nodes) {
            return *known;
        }
        let at = u32::try_from(self.outcome.places.len()).unwrap_or(u32::MAX);
        self.outcome.places.push(nodes.clone());
        self.known_places.insert(nodes, at);
        at
    }

    pub(super) fn finish(mut self) -> Outcome {
        self.outcome.left = self.open;
        self.outcome.elements.sort_by_key(|one| one.id);
        self.outcome
    }
}

/// When something ran, and how it ended.
#[derive(Debug, Clone, Copy)]
struct Span {
    started: Option<Timestamp>,
    ended: Timestamp,
    state: JobState,
}

impl Span {
    fn of(end: &ElementEnd) -> Self {
        Span {
            started: end.started,
            ended: end.ended,
            state: end.state,
        }
    }
}
