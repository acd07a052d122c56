//! Random traces, and a simulator that is as plain as can be: everything is worked out anew at every instant.

use hpc::sim::replay::Rule;
use hpc::sim::swf::{Trace, TraceJob};
use proptest::prelude::*;

/// Every policy of the simulator.
pub(super) const RULES: [Rule; 6] = [
    Rule::Fcfs,
    Rule::Sjf,
    Rule::Easy,
    Rule::EasySjbf,
    Rule::EasyPredicted,
    Rule::Conservative,
];

/// By how much a prediction is raised, one step after the other.
const STEPS: [i64; 11] = [
    60, 300, 900, 1800, 3600, 7200, 18_000, 36_000, 72_000, 180_000, 360_000,
];

/// A few jobs that get into each other's way.
pub(super) fn traces() -> impl Strategy<Value = Trace> {
    // Bursts, and many narrow jobs beside few wide ones: only then several fit into one gap.
    let gap = prop_oneof![3 => Just(0i64), 2 => 0i64..6];
    let wide = prop_oneof![2 => 0u32..2, 1 => 0u32..64];
    let job = (gap, 1i64..13, 0i64..10, wide, 0i64..3);
    let jobs = prop::collection::vec(job, 1..18);
    // Long ones too, or no prediction is ever raised twice.
    let unit = prop_oneof![Just(1i64), Just(37), Just(400)];
    (1u32..9, jobs, unit).prop_map(|(processors, jobs, unit)| {
        let mut submit = 0;
        let jobs = jobs.into_iter().zip(1..);
        let jobs = jobs.map(|((gap, run, slack, wide, user), id)| {
            submit += gap * unit;
            TraceJob {
                id,
                submit,
                run: run * unit,
                limit: (run + slack) * unit,
                processors: 1 + wide % processors,
                user,
            }
        });
        Trace {
            jobs: jobs.collect(),
            processors,
            dropped: 0,
        }
    })
}

/// The same with every limit exact.
pub(super) fn exact_traces() -> impl Strategy<Value = Trace> {
    traces().prop_map(|mut trace| {
        for job in &mut trace.jobs {
            job.limit = job.run;
        }
        trace
    })
}

/// All instants at which something happens in a schedule.
pub(super) fn instants(trace: &Trace, starts: &[i64]) -> Vec<i64> {
    let jobs = trace.jobs.iter().zip(starts);
    let mut all: Vec<i64> = jobs
        .flat_map(|(job, start)| [job.submit, *start, start + job.run])
        .collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// A way to get EASY wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// None: it is right.
    None,
    /// It starts whatever fits now.
    IgnoresTheHead,
    /// It does not count what backfilled jobs take of what is left beside the head.
    ForgetsWhatIsLeft,
}

/// What the plain simulator found.
pub(super) struct Schedule {
    pub(super) starts: Vec<i64>,
    /// What each job was told when it was submitted; conservative backfill alone tells.
    pub(super) promises: Vec<i64>,
}

/// Replays a trace by the book. At each instant a second pass must start nothing.
pub(super) fn simulate(trace: &Trace, rule: Rule, fault: Fault) -> Schedule {
    let mut plain = Plain {
        trace,
        rule,
        fault,
        now: 0,
        waiting: Vec::new(),
        running: Vec::new(),
        ended: Vec::new(),
        starts: vec![0; trace.jobs.len()],
        first: vec![0; trace.jobs.len()],
        length: vec![0; trace.jobs.len()],
        reserved: vec![0; trace.jobs.len()],
        promises: vec![0; trace.jobs.len()],
    };
    plain.run();
    Schedule {
        starts: plain.starts,
        promises: plain.promises,
    }
}

struct Plain<'a> {
    trace: &'a Trace,
    rule: Rule,
    fault: Fault,
    now: i64,
    /// In the order of submission.
    waiting: Vec<usize>,
    /// In the order of their starts.
    running: Vec<usize>,
    /// In the order of their ends.
    ended: Vec<usize>,
    starts: Vec<i64>,
    /// How long each was first thought to run, and is now.
    first: Vec<i64>,
    length: Vec<i64>,
    /// Reserved starts.
    reserved: Vec<i64>,
    promises: Vec<i64>,
}

impl Plain<'_> {
    fn job(&self, at: usize) -> &TraceJob {
        &self.trace.jobs[at]
    }

    fn run(&mut self) {
        let mut submitted = 0;
        loop {
            let ends = self.running.iter().map(|at| self.end(*at));
            let submits = self.trace.jobs[submitted..].iter().map(|job| job.submit);
            let due = self.waiting.iter().map(|at| self.reserved[*at]);
            let due = due.filter(|_| self.rule == Rule::Conservative);
            let Some(now) = ends.chain(submits).chain(due).min() else {
                return;
            };
            self.now = now;
            let mut over = self.running.clone();
            over.retain(|at| self.end(*at) == now);
            for at in over {
                self.running.retain(|other| *other != at);
                self.ended.push(at);
                if self.rule == Rule::Conservative && self.job(at).run < self.job(at).limit {
                    self.move_up();
                }
            }
            while submitted < self.trace.jobs.len() && self.job(submitted).submit == now {
                self.submit(submitted);
                submitted += 1;
            }
            self.pass();
            let (left, again) = (self.waiting.len(), self.pass());
            assert_eq!(again, left, "{:?}: a second pass starts more", self.rule);
        }
    }

    fn end(&self, at: usize) -> i64 {
        self.starts[at] + self.job(at).run
    }

    fn submit(&mut self, at: usize) {
        let job = *self.job(at);
        let mut runs = self.ended.iter().rev().map(|other| self.job(*other));
        let mut runs = runs.by_ref().filter(|other| other.user == job.user);
        let last = (runs.next(), runs.next());
        self.first[at] = match last {
            (Some(one), Some(other)) if self.rule == Rule::EasyPredicted => {
                ((one.run + other.run) / 2).min(job.limit).max(1)
            }
            _ => job.limit,
        };
        self.length[at] = self.first[at];
        if self.rule == Rule::Conservative {
            self.reserved[at] = self.earliest(at);
            self.promises[at] = self.reserved[at];
        }
        self.waiting.push(at);
    }

    /// Starts what may start; how many wait after it.
    fn pass(&mut self) -> usize {
        if self.rule == Rule::Conservative {
            let due = |at: &usize| self.reserved[*at] <= self.now;
            let mut due: Vec<usize> = self.waiting.iter().copied().filter(due).collect();
            due.sort_by_key(|at| (self.reserved[*at], *at));
            due.into_iter().for_each(|at| self.start(at));
            return self.waiting.len();
        }
        self.raise();
        let mut order = self.waiting.clone();
        if self.rule == Rule::Sjf {
            order.sort_by_key(|at| (self.job(*at).limit, *at));
        }
        while let Some(head) = order.first().copied()
            && self.job(head).processors <= self.free_at(self.now)
        {
            self.start(head);
            order.remove(0);
        }
        if matches!(self.rule, Rule::Fcfs | Rule::Sjf) || order.is_empty() {
            return self.waiting.len();
        }
        let head = order.remove(0);
        if self.rule != Rule::Easy {
            order.sort_by_key(|at| (self.length[*at], *at));
        }
        let wanted = self.job(head).processors;
        let mut ends: Vec<i64> = self.running.iter().map(|at| self.planned(*at)).collect();
        ends.sort_unstable();
        let mut ends = ends.into_iter();
        let shadow = ends.find(|at| self.free_at(*at) >= wanted).unwrap();
        let mut extra = self.free_at(shadow) - wanted;
        for at in order {
            let processors = self.job(at).processors;
            if processors > self.free_at(self.now) {
                continue;
            }
            let in_time = self.now + self.length[at] <= shadow;
            if in_time || processors <= extra || self.fault == Fault::IgnoresTheHead {
                self.start(at);
                if !in_time && self.fault == Fault::None {
                    extra -= processors;
                }
            }
        }
        self.waiting.len()
    }

    fn start(&mut self, at: usize) {
        self.waiting.retain(|other| *other != at);
        self.running.push(at);
        self.starts[at] = self.now;
    }

    fn planned(&self, at: usize) -> i64 {
        self.starts[at] + self.length[at]
    }

    /// What is free then, if nothing that waits starts and everything ends as planned.
    fn free_at(&self, time: i64) -> u32 {
        let there = |at: &&usize| self.planned(**at) > time;
        let held = self.running.iter().filter(there);
        let held: u32 = held.map(|at| self.job(*at).processors).sum();
        self.trace.processors - held
    }

    /// What outlives its prediction is thought to run longer.
    fn raise(&mut self) {
        for at in self.running.clone() {
            let (limit, age) = (self.job(at).limit, self.now - self.starts[at]);
            let mut longer = STEPS.iter().map(|step| (self.first[at] + step).min(limit));
            while self.length[at] <= age {
                self.length[at] = longer.next().unwrap_or(limit);
            }
        }
    }

    /// The earliest reservation that holds for the whole limit.
    fn earliest(&self, at: usize) -> i64 {
        let (processors, limit) = (self.job(at).processors, self.job(at).limit);
        let running = self
            .running
            .iter()
            .map(|other| (*other, self.starts[*other]));
        let booked = self
            .waiting
            .iter()
            .map(|other| (*other, self.reserved[*other]));
        let spans: Vec<(i64, i64, u32)> = running
            .chain(booked)
            .filter(|(other, _)| *other != at)
            .map(|(other, begin)| {
                let other = self.job(other);
                (begin, begin + other.limit, other.processors)
            })
            .collect();
        let free = |time: i64| {
            let there = spans
                .iter()
                .filter(|(begin, end, _)| (*begin..*end).contains(&time));
            self.trace.processors - there.map(|(.., held)| held).sum::<u32>()
        };
        let mut times: Vec<i64> = spans.iter().map(|(_, end, _)| *end).collect();
        times.push(self.now);
        times.retain(|time| *time >= self.now);
        times.sort_unstable();
        let fits = |from: &i64| {
            let begins = spans.iter().map(|(begin, ..)| *begin).chain([*from]);
            let mut within = begins.filter(|begin| (*from..from + limit).contains(begin));
            within.all(|time| free(time) >= processors)
        };
        times.into_iter().find(fits).unwrap()
    }

    /// Something has ended early: each in turn gets the earliest place there is now.
    fn move_up(&mut self) {
        let mut order = self.waiting.clone();
        order.sort_by_key(|at| (self.reserved[*at], *at));
        for at in order {
            self.reserved[at] = self.earliest(at);
        }
    }
}
