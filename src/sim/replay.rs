//! Replays a trace: what would have started when, under another policy.
//!
//! At each instant at which something happens: first all ends, in the order of their starts, then all submissions, then
//! one pass of the policy, which knows limits and never run times. The machine is empty at first and nothing is left
//! out. The policies are those of [`crate::scheduler`], over processors without places.

use super::swf::{Trace, TraceJob};
use crate::scheduler::backfill::{Pass, Running};
use crate::scheduler::pool::{Pool, Processors};
use crate::scheduler::predict::{History, raised};
use crate::scheduler::timeline::Timeline;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

/// By which rule jobs start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// In order of submission; the first that does not fit stops those behind it.
    Fcfs,
    /// In order of limits, shortest first, as strictly.
    Sjf,
    /// EASY backfill in order of submission.
    Easy,
    /// The same, gaps filled with the shortest first.
    EasySjbf,
    /// The same, with run times predicted from those of the user's last two jobs.
    EasyPredicted,
    /// Conservative backfill: a reservation for each job.
    Conservative,
}

/// What became of a trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replay {
    /// When each job started, in the order of the trace.
    pub starts: Vec<i64>,
}

/// Replays it.
#[must_use]
pub fn replay(trace: &Trace, rule: Rule) -> Replay {
    match rule {
        Rule::Conservative => Booked::new(trace).run(),
        _ => Queued::new(trace, rule).run(),
    }
}

/// What has started: each ends at its time, those of one time in the order of their starts.
#[derive(Debug, Default)]
struct Ends {
    heap: BinaryHeap<Reverse<(i64, u64, u32)>>,
    started: u64,
}

impl Ends {
    fn start(&mut self, job: u32, ends: i64) {
        self.started += 1;
        self.heap.push(Reverse((ends, self.started, job)));
    }

    fn next_time(&self) -> Option<i64> {
        self.heap.peek().map(|Reverse((at, ..))| *at)
    }

    fn take(&mut self, now: i64) -> Option<u32> {
        if self.next_time()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse((.., job))| job)
    }
}

fn place(job: u32) -> usize {
    usize::try_from(job).unwrap_or(usize::MAX)
}

/// What runs, as the policy sees it.
#[derive(Debug, Clone, Copy)]
struct Planned {
    processors: u32,
    /// How long it was first thought to run.
    first: i64,
}

/// What waits, as the policy sees it.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    id: u32,
    processors: u32,
    /// How long it will run at most, or is thought to; seconds.
    length: i64,
}

/// Policies with a queue and no more than one reservation.
struct Queued<'a> {
    trace: &'a Trace,
    rule: Rule,
    pool: Processors,
    /// In order.
    queue: Vec<Waiting>,
    /// By the time at which they have ended at the latest, or are thought to.
    running: BTreeMap<(i64, u32), Planned>,
    /// Under which time each running job is entered.
    entered: Vec<i64>,
    ends: Ends,
    history: History,
    starts: Vec<i64>,
    /// The last pass, as long as nothing has ended since: who could not start then cannot now.
    standing: Option<Pass<Processors>>,
}

impl<'a> Queued<'a> {
    fn new(trace: &'a Trace, rule: Rule) -> Self {
        Queued {
            trace,
            rule,
            pool: Processors(trace.processors),
            queue: Vec::new(),
            running: BTreeMap::new(),
            entered: vec![0; trace.jobs.len()],
            ends: Ends::default(),
            history: History::default(),
            starts: vec![0; trace.jobs.len()],
            standing: None,
        }
    }

    fn run(mut self) -> Replay {
        let mut submitted = 0;
        loop {
            let submit = self.trace.jobs.get(submitted).map(|job| job.submit);
            let Some(now) = earliest(submit, self.ends.next_time()) else {
                break;
            };
            while let Some(job) = self.ends.take(now) {
                self.end(job);
                self.standing = None;
            }
            let before = self.queue.len();
            while let Some(job) = self.trace.jobs.get(submitted)
                && job.submit == now
            {
                self.submit(u32::try_from(submitted).unwrap_or(u32::MAX), job);
                submitted += 1;
            }
            if self.rule == Rule::EasyPredicted && self.raise(now) {
                self.standing = None;
            }
            match self.standing.take() {
                Some(pass) => self.only_new(now, before, pass),
                None => self.pass(now),
            }
        }
        Replay {
            starts: self.starts,
        }
    }

    fn submit(&mut self, id: u32, job: &TraceJob) {
        let length = match self.rule {
            Rule::EasyPredicted => self.history.predict(job.user, job.limit),
            _ => job.limit,
        };
        let waiting = Waiting {
            id,
            processors: job.processors,
            length,
        };
        let at = match self.rule {
            Rule::Sjf => self
                .queue
                .partition_point(|other| (other.length, other.id) < (length, id)),
            _ => self.queue.len(),
        };
        self.queue.insert(at, waiting);
    }

    fn end(&mut self, id: u32) {
        let job = &self.trace.jobs[place(id)];
        if let Some(planned) = self.running.remove(&(self.entered[place(id)], id)) {
            self.pool.give(&planned.processors);
        }
        self.history.ended(job.user, job.run);
    }

    /// A pass that need look at what has just come only.
    fn only_new(&mut self, now: i64, before: usize, mut pass: Pass<Processors>) {
        pass.goes_on(now);
        let mut order: Vec<usize> = (before..self.queue.len()).collect();
        if self.rule != Rule::Easy {
            order.sort_unstable_by_key(|at| (self.queue[*at].length, self.queue[*at].id));
        }
        self.fill(now, &order, pass);
    }

    fn pass(&mut self, now: i64) {
        let mut pass = Pass::new(now, self.pool);
        let first = self
            .queue
            .iter()
            .take_while(|waiting| pass.start(&waiting.processors, waiting.length).is_some())
            .count();
        self.pool = pass.free;
        let first: Vec<_> = self.queue.drain(..first).collect();
        first.iter().for_each(|waiting| self.begin(waiting, now));
        let order: Vec<usize> = match self.rule {
            Rule::Fcfs | Rule::Sjf => return,
            _ if self.queue.len() < 2 || self.pool.0 == 0 => return,
            Rule::Easy | Rule::Conservative => (1..self.queue.len()).collect(),
            Rule::EasySjbf | Rule::EasyPredicted => {
                let mut order: Vec<usize> = (1..self.queue.len()).collect();
                order.sort_unstable_by_key(|at| (self.queue[*at].length, self.queue[*at].id));
                order
            }
        };
        let running = self.running.iter().map(|((ends, _), planned)| Running {
            ends: *ends,
            share: &planned.processors,
        });
        let mut pass = Pass::new(now, self.pool);
        let head = self.queue[0];
        pass.reserve(&head.processors, head.length, running);
        self.fill(now, &order, pass);
    }

    /// Starts in the gaps before the head those of these that fit, in their order.
    fn fill(&mut self, now: i64, order: &[usize], mut pass: Pass<Processors>) {
        let mut started: Vec<usize> = order
            .iter()
            .copied()
            .filter(|at| {
                let waiting = self.queue[*at];
                pass.free.0 > 0 && pass.start(&waiting.processors, waiting.length).is_some()
            })
            .collect();
        self.pool = pass.free;
        self.standing = Some(pass);
        for at in &started {
            let waiting = self.queue[*at];
            self.begin(&waiting, now);
        }
        started.sort_unstable();
        for at in started.into_iter().rev() {
            self.queue.remove(at);
        }
    }

    fn begin(&mut self, waiting: &Waiting, now: i64) {
        let id = waiting.id;
        self.starts[place(id)] = now;
        self.ends.start(id, now + self.trace.jobs[place(id)].run);
        let planned = Planned {
            processors: waiting.processors,
            first: waiting.length,
        };
        self.enter(id, now + waiting.length, planned);
    }

    fn enter(&mut self, id: u32, ends: i64, planned: Planned) {
        self.entered[place(id)] = ends;
        self.running.insert((ends, id), planned);
    }

    /// What outlives its prediction is thought to run longer; whether anything did.
    fn raise(&mut self, now: i64) -> bool {
        let mut any = false;
        while let Some(((ends, id), planned)) = self.running.first_key_value() {
            if *ends > now {
                return any;
            }
            any = true;
            let (id, planned) = (*id, *planned);
            self.running.pop_first();
            let (start, limit) = (self.starts[place(id)], self.trace.jobs[place(id)].limit);
            let ends = start + raised(planned.first, now - start, limit);
            self.enter(id, ends, planned);
            if ends <= now {
                return any;
            }
        }
        any
    }
}

fn earliest(one: Option<i64>, other: Option<i64>) -> Option<i64> {
    one.into_iter().chain(other).min()
}

/// Conservative backfill.
struct Booked<'a> {
    trace: &'a Trace,
    timeline: Timeline,
    /// Reserved starts of what waits, with the job.
    booked: BTreeSet<(i64, u32)>,
    ends: Ends,
    starts: Vec<i64>,
}

impl<'a> Booked<'a> {
    fn new(trace: &'a Trace) -> Self {
        let first = trace.jobs.first().map_or(0, |job| job.submit);
        Booked {
            trace,
            timeline: Timeline::new(first, trace.processors),
            booked: BTreeSet::new(),
            ends: Ends::default(),
            starts: vec![0; trace.jobs.len()],
        }
    }

    fn run(mut self) -> Replay {
        let mut submitted = 0;
        loop {
            let submit = self.trace.jobs.get(submitted).map(|job| job.submit);
            let due = self.booked.first().map(|(at, _)| *at);
            let Some(now) = earliest(earliest(submit, self.ends.next_time()), due) else {
                break;
            };
            self.timeline.forget_before(now);
            while let Some(id) = self.ends.take(now) {
                let job = &self.trace.jobs[place(id)];
                let latest = self.starts[place(id)] + job.limit;
                if latest > now {
                    self.timeline.take(now, latest, -i64::from(job.processors));
                    self.move_up(now);
                }
            }
            while let Some(job) = self.trace.jobs.get(submitted)
                && job.submit == now
            {
                self.book(now, u32::try_from(submitted).unwrap_or(u32::MAX));
                submitted += 1;
            }
            while let Some((at, id)) = self.booked.first().copied()
                && at <= now
            {
                self.booked.pop_first();
                self.starts[place(id)] = now;
                self.ends.start(id, now + self.trace.jobs[place(id)].run);
            }
        }
        Replay {
            starts: self.starts,
        }
    }

    /// Gives a job the earliest place that holds it for its whole limit.
    fn book(&mut self, now: i64, id: u32) {
        let job = &self.trace.jobs[place(id)];
        // There is always one: no job is larger than the machine.
        let Some(at) = self.timeline.earliest(now, job.processors, job.limit) else {
            return;
        };
        self.timeline
            .take(at, at + job.limit, i64::from(job.processors));
        self.booked.insert((at, id));
    }

    /// Something has ended early: each in turn gets the earliest place that there is now, never a later one.
    fn move_up(&mut self, now: i64) {
        let order: Vec<(i64, u32)> = self.booked.iter().copied().collect();
        for (at, id) in order {
            let job = &self.trace.jobs[place(id)];
            self.timeline
                .take(at, at + job.limit, -i64::from(job.processors));
            self.booked.remove(&(at, id));
            self.book(now, id);
        }
    }
}
