//! A live run is decided in the simulator as it was: the same starts, on the same nodes, after the same events.
//!
//! What comes to a controller from outside is submissions and ends, one after another. The test gives it one at a time, in an
//! order that a seed decides: jobs end when they are told to, and nothing new comes before all that the last event let start
//! has begun. So it sees after which event each start came. The simulator gets the rest from the store: nodes and rules,
//! submissions with their times, and what elements said of themselves: when they began and ended. It never hears after what
//! they were started, or where.
//!
//! The order of events is the test's own, since the store's times do not have it: an end is told by its shepherd's clock,
//! which is behind by as long as its launch was on the way, and a submission by the controller's. All jobs are of one user:
//! standings are drawn up every few seconds, and at which moments no record says. HPC_SEED gives another run; under seed 2
//! one in some fifteen is decided otherwise from event 55 on, and what makes the difference there is not known yet.

use crate::support::{Cluster, PATIENCE, rows, wait_until};
use hpc::cluster::Settings;
use hpc::model::time::Timestamp;
use hpc::sim::cluster::Setup;
use hpc::sim::draw::Draw;
use hpc::sim::recorded::{Start, Submission, decisions};
use hpc::store::{Store, StoreOptions};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::ControlFlow;

/// Jobs that are submitted.
const JOBS: usize = 30;
/// It says that it is there, and goes on when it is told to. A slot is given several elements of an array at once where they
/// take only a few milliseconds, whose number no two runs share: these take longer.
const SCRIPT: &str =
    "mkfifo go.$SLURM_JOB_ID && echo $SLURM_JOB_ID >> begun && sleep 0.03 && cat go.$SLURM_JOB_ID";

/// What a job asks for; `previous` is one to depend on.
fn request(draw: &mut Draw, previous: Option<u32>) -> Vec<String> {
    let one_of = |draw: &mut Draw, list: &[&str]| -> Vec<String> {
        let at = usize::try_from(draw.below(list.len() as u64)).unwrap();
        list[at].split_whitespace().map(str::to_owned).collect()
    };
    let sizes = [
        "-c 1",
        "-c 1",
        "-c 2",
        "-c 3",
        "-c 4",
        "-n 3",
        "-N 2 -c 2",
        "-N 3",
        "-N 4",
        "--exclusive",
        "-a 0-3",
        "-a 0-3%2",
        "-c 2 -a 1-3",
    ];
    // So far apart that the seconds of the test make no difference.
    let limits = ["-t 1", "-t 5", "-t 30", "-t 120", "-t 600"];
    let ranks = ["", "", "", "-q urgent", "--nice=5000"];
    let mut words = one_of(draw, &sizes);
    words.extend(one_of(draw, &limits));
    words.extend(one_of(draw, &ranks));
    if let Some(previous) = previous.filter(|_| draw.below(6) == 0) {
        words.extend(["-d".to_owned(), format!("afterok:{previous}")]);
    }
    words
}

/// Elements that run now, once all of them have begun and nothing is on its way.
fn running(cluster: &Cluster, ended: &BTreeSet<u64>) -> Vec<u64> {
    let mut found = BTreeSet::new();
    wait_until("what was started has begun", PATIENCE, || {
        let queue = rows(&cluster.json(&["queue"]));
        let active = queue.iter().filter(|row| row["state"] != "PENDING");
        found = active.map(|row| row["raw_id"].as_u64().unwrap()).collect();
        let text = fs::read_to_string(cluster.work.join("begun")).unwrap_or_default();
        let begun: BTreeSet<u64> = text.lines().map(|line| line.parse().unwrap()).collect();
        let open: BTreeSet<u64> = begun.difference(ended).copied().collect();
        open == found
    });
    found.into_iter().collect()
}

/// Lets an element end, and waits until the controller has heard of it.
fn finish(cluster: &Cluster, raw: u64) {
    fs::write(cluster.work.join(format!("go.{raw}")), "").unwrap();
    wait_until("it has ended", PATIENCE, || {
        let queue = rows(&cluster.json(&["queue"]));
        !queue
            .iter()
            .any(|row| row["state"] != "PENDING" && row["raw_id"] == raw)
    });
}

/// Something that came to the controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    /// The next job was submitted.
    Submitted,
    /// An element ended.
    Ended(u64),
}

/// A start: which element, after how many events, on which nodes.
type Decision = (u64, usize, Vec<String>);

/// What the store says of a run.
struct Record {
    setup: Setup,
    submissions: Vec<Submission>,
    /// First numbers of their elements.
    numbers: Vec<u64>,
    nodes: BTreeMap<u64, Vec<String>>,
}

impl Record {
    fn of(cluster: &Cluster) -> Self {
        let copy = cluster.path("record.redb");
        cluster.ok(&["backup", copy.to_str().unwrap()]);
        let (store, loaded) = Store::open(&copy, StoreOptions::default()).unwrap();
        let reader = store.reader();
        let mut jobs = Vec::new();
        let all = (Timestamp(0), Timestamp(i64::MAX));
        reader
            .history(all.0, all.1, &mut |job| {
                jobs.push(job);
                ControlFlow::Continue(())
            })
            .unwrap();
        jobs.sort_by_key(|job| job.id);
        let mut nodes = BTreeMap::new();
        let submissions = jobs.iter().map(|job| {
            let mut ran = Vec::new();
            if job.spec.array.is_none() {
                nodes.insert(u64::from(job.id.0), job.granted.nodes.clone());
                ran.push((job.started.unwrap(), job.ended));
            } else {
                for position in 0..job.spec.count() {
                    let one = reader.element_end(job.id, position).unwrap().unwrap();
                    let raw = u64::from(job.id.raw(position));
                    nodes.insert(raw, one.granted.nodes.clone());
                    ran.push((one.end.started.unwrap(), one.end.ended));
                }
            }
            Submission {
                at: job.submitted,
                owner: job.owner.clone(),
                spec: (*job.spec).clone(),
                ran,
            }
        });
        let submissions = submissions.collect();
        let machines = loaded.nodes.iter();
        Record {
            setup: Setup {
                settings: Settings::default(),
                rules: loaded.rules.unwrap(),
                nodes: machines.map(|node| (*node.inventory).clone()).collect(),
                check: true,
                ..Setup::default()
            },
            submissions,
            numbers: jobs.iter().map(|job| u64::from(job.id.0)).collect(),
            nodes,
        }
    }

    /// A place among the submissions, and a position.
    fn place(&self, raw: u64) -> (usize, usize) {
        let job = self.numbers.partition_point(|first| *first <= raw) - 1;
        (job, usize::try_from(raw - self.numbers[job]).unwrap())
    }

    /// Moves times by as little as it takes for events to come one after another as they did, each after what the one before
    /// let begin; these times.
    fn in_order(&mut self, events: &[Event], begun: &BTreeMap<u64, usize>) -> Vec<Timestamp> {
        let mut submitted = 0;
        let mut last = Timestamp(0);
        let times = events.iter().zip(0..).map(|(event, before)| {
            for (raw, _) in begun.iter().filter(|(_, after)| **after == before) {
                let (job, position) = self.place(*raw);
                last = last.max(self.submissions[job].ran[position].0);
            }
            let known = match event {
                Event::Submitted => {
                    submitted += 1;
                    &mut self.submissions[submitted - 1].at
                }
                Event::Ended(raw) => {
                    let (job, position) = self.place(*raw);
                    &mut self.submissions[job].ran[position].1
                }
            };
            *known = (*known).max(last.plus_ms(1));
            last = *known;
            last
        });
        times.collect()
    }

    /// What the simulator makes of it.
    fn decided(self, times: &[Timestamp]) -> Vec<Decision> {
        let decide = |start: Start| {
            let raw = self.numbers[start.job] + u64::from(start.position);
            let after = times.partition_point(|at| *at <= start.at);
            (raw, after, start.nodes)
        };
        let starts = decisions(self.setup, self.submissions).unwrap();
        let mut all: Vec<Decision> = starts.into_iter().map(decide).collect();
        all.sort();
        all
    }
}

#[test]
fn a_live_run_is_decided_again_as_it_was_by_the_simulator() {
    let seed = std::env::var("HPC_SEED").map_or(1, |seed| seed.parse().unwrap());
    println!("HPC_SEED={seed}");
    let mut draw = Draw::new(seed);
    let cluster = Cluster::up(4);
    for (name, cpus) in [("n2", 4), ("n3", 2), ("n4", 2)] {
        cluster.another_agent(name, cpus);
    }
    cluster.ok(&["qos", "add", "urgent", "priority=10"]);
    let (mut events, mut ended) = (Vec::new(), BTreeSet::new());
    let mut begun: BTreeMap<u64, usize> = BTreeMap::new();
    let mut submitted: Vec<u32> = Vec::new();
    loop {
        let open = running(&cluster, &ended);
        println!("  running: {open:?}");
        for raw in &open {
            begun.entry(*raw).or_insert(events.len());
        }
        // Mostly more comes than there is room for; in the end all goes.
        if submitted.len() < JOBS && (open.is_empty() || draw.below(5) < 3) {
            let words = request(&mut draw, submitted.last().copied());
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let rest = ["-o", "/dev/null", "--wrap", SCRIPT];
            submitted.push(cluster.submit(&[&words[..], &rest].concat()));
            println!("{}: {:?} {words:?}", events.len() + 1, submitted.last());
            events.push(Event::Submitted);
        } else if open.is_empty() {
            break;
        } else {
            let at = usize::try_from(draw.below(open.len() as u64)).unwrap();
            finish(&cluster, open[at]);
            println!("{}: end of {}", events.len() + 1, open[at]);
            ended.insert(open[at]);
            events.push(Event::Ended(open[at]));
        }
    }
    cluster.wait_empty(PATIENCE);
    let mut record = Record::of(&cluster);
    assert_eq!(record.submissions.len(), JOBS);
    let of_store = |(raw, after): (&u64, &usize)| (*raw, *after, record.nodes[raw].clone());
    let live: Vec<Decision> = begun.iter().map(of_store).collect();
    let times = record.in_order(&events, &begun);
    let again = record.decided(&times);
    for one in live.iter().filter(|one| !again.contains(one)) {
        println!("live alone: element, after how many events, nodes: {one:?}");
    }
    for one in again.iter().filter(|one| !live.contains(one)) {
        println!("simulator alone: {one:?}");
    }
    assert!(live == again, "decided otherwise: the lines above say what");
    // There was something to decide: many waited, and some went before others that waited.
    let came = |raw: u64| {
        let job = submitted.partition_point(|first| u64::from(*first) <= raw);
        let mut jobs = 0;
        let is_it = |event: &Event| {
            jobs += usize::from(*event == Event::Submitted);
            jobs == job
        };
        events.iter().position(is_it).unwrap() + 1
    };
    let waited = live.iter().filter(|(raw, after, _)| came(*raw) < *after);
    assert!(waited.count() * 3 > live.len(), "{live:?}");
    let overtaken = live.windows(2).filter(|two| two[0].1 > two[1].1);
    assert!(overtaken.count() >= 3, "{live:?}");
}
