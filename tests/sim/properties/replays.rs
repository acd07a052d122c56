//! The six policies of the simulator, on random traces.

use super::quiet;
use super::traces::{Fault, RULES, exact_traces, instants, simulate, traces};
use hpc::sim::replay::{Rule, replay};
use hpc::sim::report::Report;
use hpc::sim::swf::{Trace, TraceJob};
use proptest::prelude::*;
use std::fmt::Write;

fn starts(trace: &Trace, rule: Rule) -> Vec<i64> {
    replay(trace, rule).starts
}

/// Held at this instant, by those that have not ended by then.
fn held(trace: &Trace, starts: &[i64], now: i64) -> u32 {
    let jobs = trace.jobs.iter().zip(starts);
    let there = jobs.filter(|(job, start)| (**start..*start + job.run).contains(&now));
    there.map(|(job, _)| job.processors).sum()
}

/// EASY's promise: whoever is first in the queue and has to wait starts no later than when everything that runs then
/// would have ended in time at its limit.
fn heads_keep_their_times(trace: &Trace, starts: &[i64]) -> Result<(), String> {
    let mut promised: Vec<Option<i64>> = vec![None; starts.len()];
    for now in instants(trace, starts) {
        let mut jobs = trace.jobs.iter().zip(starts);
        let head = jobs.position(|(job, start)| job.submit <= now && *start > now);
        let Some(head) = head.filter(|head| promised[*head].is_none()) else {
            continue;
        };
        let jobs = trace.jobs.iter().zip(starts).enumerate();
        let running = jobs.filter(|(at, (job, start))| {
            // Who was put into a gap at this very instant came after the promise.
            let fills = *at > head && **start == now;
            !fills && (**start..*start + job.run).contains(&now)
        });
        let mut ends: Vec<(i64, u32)> = running
            .map(|(_, (job, start))| (start + job.limit, job.processors))
            .collect();
        ends.sort_unstable();
        let mut free = trace.processors - ends.iter().map(|(_, held)| held).sum::<u32>();
        for (end, processors) in ends {
            free += processors;
            if free >= trace.jobs[head].processors {
                promised[head] = Some(end);
                break;
            }
        }
    }
    for ((job, start), promised) in trace.jobs.iter().zip(starts).zip(promised) {
        if promised.is_some_and(|promised| *start > promised) {
            return Err(format!(
                "job {} starts at {start}, first in the queue it was promised {promised:?}",
                job.id
            ));
        }
    }
    Ok(())
}

/// The trace in its own format.
fn written<'a>(jobs: impl Iterator<Item = &'a TraceJob>) -> String {
    let mut text = String::new();
    for job in jobs {
        let TraceJob {
            id,
            submit,
            run,
            limit,
            processors,
            user,
        } = job;
        writeln!(
            text,
            "{id} {submit} -1 {run} -1 -1 -1 {processors} {limit} -1 1 {user}"
        )
        .unwrap();
    }
    text
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn group_1_no_more_runs_than_there_is(trace in traces()) {
        for rule in RULES {
            let starts = starts(&trace, rule);
            for now in instants(&trace, &starts) {
                prop_assert!(held(&trace, &starts, now) <= trace.processors, "{rule:?} at {now}");
            }
        }
    }

    /// What a user asks for is what counts: who runs over the limit is killed there.
    #[test]
    fn group_2_each_job_starts_once_after_its_submission_and_ends_at_its_limit(
        trace in traces(), longer in prop::collection::vec(0i64..20, 18),
    ) {
        let mut long = trace.clone();
        for (job, more) in long.jobs.iter_mut().zip(longer) {
            job.run += more;
        }
        let read = Trace::parse(&written(long.jobs.iter()), Some(trace.processors)).unwrap();
        for (job, long) in read.jobs.iter().zip(&long.jobs) {
            prop_assert_eq!(job.run, long.run.min(long.limit));
        }
        for rule in RULES {
            let replay = replay(&read, rule);
            prop_assert_eq!(replay.starts.len(), read.jobs.len());
            let jobs = || read.jobs.iter().zip(&replay.starts);
            prop_assert!(jobs().all(|(job, start)| *start >= job.submit), "{:?}", rule);
            let last = jobs().map(|(job, start)| start + job.run).max().unwrap();
            prop_assert_eq!(Report::of(&read, &replay).makespan, last - read.jobs[0].submit);
        }
    }

    /// Nobody who waits is passed by somebody behind.
    #[test]
    fn group_3_strict_policies_keep_their_order(trace in traces()) {
        for rule in [Rule::Fcfs, Rule::Sjf] {
            let starts = starts(&trace, rule);
            let key = |at: usize| (if rule == Rule::Sjf { trace.jobs[at].limit } else { 0 }, at);
            for first in 0..starts.len() {
                for second in 0..starts.len() {
                    let at = starts[second];
                    let waits = trace.jobs[first].submit <= at && at < starts[first];
                    prop_assert!(!(waits && key(first) < key(second)), "{rule:?}: {first} {second}");
                }
            }
        }
    }

    #[test]
    fn group_3_easy_starts_the_head_by_its_shadow_time(trace in traces()) {
        for rule in [Rule::Easy, Rule::EasySjbf] {
            let kept = heads_keep_their_times(&trace, &starts(&trace, rule));
            prop_assert!(kept.is_ok(), "{rule:?}: {kept:?}");
        }
    }

    /// Where limits are exact, whoever is first while another is put into a gap starts at the same time without it.
    #[test]
    fn group_3_the_head_starts_no_sooner_without_a_backfilled_job(trace in exact_traces()) {
        for rule in [Rule::Easy, Rule::EasySjbf] {
            let with = starts(&trace, rule);
            for filler in 0..with.len() {
                let waits = |at: &usize| trace.jobs[*at].submit <= with[filler] && with[filler] < with[*at];
                let Some(head) = (0..filler).find(waits) else { continue };
                let mut less = trace.clone();
                less.jobs.remove(filler);
                prop_assert_eq!(starts(&less, rule)[head], with[head], "{:?} without {}", rule, filler);
            }
        }
    }

    /// What a job was told when it was submitted is when it would start if from then on nobody came and everything ran
    /// for its whole limit.
    #[test]
    fn group_4_conservative_backfill_keeps_every_promise(trace in traces()) {
        let with = starts(&trace, Rule::Conservative);
        for (at, start) in with.iter().enumerate() {
            let mut told = trace.clone();
            told.jobs.truncate(at + 1);
            let now = trace.jobs[at].submit;
            for (job, start) in told.jobs.iter_mut().zip(&with) {
                if start + job.run > now {
                    job.run = job.limit;
                }
            }
            let promise = starts(&told, Rule::Conservative)[at];
            prop_assert!(*start <= promise, "job {}: {start}, promised {promise}", at + 1);
        }
        let plain = simulate(&trace, Rule::Conservative, Fault::None);
        prop_assert!(with.iter().zip(&plain.promises).all(|(start, promise)| start <= promise));
    }

    /// The first who waits does not fit, and an empty machine leaves nobody waiting. That no pass leaves anybody who may
    /// start is seen in the plain simulator, which makes each twice, and then gives the same schedule (group 8).
    #[test]
    fn group_5_nobody_waits_without_need(trace in traces()) {
        for rule in RULES {
            let starts = starts(&trace, rule);
            for now in instants(&trace, &starts) {
                let waits = |at: &usize| trace.jobs[*at].submit <= now && now < starts[*at];
                let mut waiting: Vec<usize> = (0..starts.len()).filter(waits).collect();
                if rule == Rule::Sjf {
                    waiting.sort_by_key(|at| trace.jobs[*at].limit);
                }
                let Some(head) = waiting.first() else { continue };
                let free = trace.processors - held(&trace, &starts, now);
                prop_assert!(free < trace.processors, "{rule:?} at {now}");
                if rule != Rule::Conservative {
                    prop_assert!(free < trace.jobs[*head].processors, "{rule:?} at {now}");
                }
            }
        }
    }

    #[test]
    fn group_6_narrow_jobs_with_exact_limits_are_list_scheduled(trace in exact_traces()) {
        let mut trace = trace;
        trace.jobs.iter_mut().for_each(|job| job.processors = 1);
        let mut free_from = vec![0; trace.processors as usize];
        let mut listed = Vec::new();
        for job in &trace.jobs {
            let soonest = free_from.iter_mut().min().unwrap();
            let start = job.submit.max(*soonest);
            *soonest = start + job.run;
            listed.push(start);
        }
        for rule in [Rule::Fcfs, Rule::Easy, Rule::EasySjbf, Rule::EasyPredicted, Rule::Conservative] {
            prop_assert_eq!(&starts(&trace, rule), &listed, "{:?}", rule);
        }
    }

    /// Lines of different seconds may come in any order; of one second their order in the file decides.
    #[test]
    fn group_7_the_same_jobs_give_the_same_schedule(trace in traces(), keys in prop::collection::vec(any::<u32>(), 18)) {
        let mut lines: Vec<(u32, &TraceJob)> = keys.into_iter().zip(&trace.jobs).collect();
        lines.sort_by_key(|(key, _)| *key);
        // Those of one second take each other's places, in order.
        let mut of_second: Vec<&TraceJob> = Vec::new();
        for (_, job) in &lines {
            let same = trace.jobs.iter().filter(|other| other.submit == job.submit);
            let done = of_second.iter().filter(|other| other.submit == job.submit).count();
            of_second.push(same.clone().nth(done).unwrap());
        }
        let read = Trace::parse(&written(of_second.into_iter()), Some(trace.processors)).unwrap();
        prop_assert_eq!(&read.jobs, &trace.jobs);
        for rule in RULES {
            let (one, other) = (replay(&trace, rule), replay(&read, rule));
            prop_assert_eq!(Report::of(&trace, &one), Report::of(&read, &other));
            prop_assert_eq!(one, other, "{:?}", rule);
        }
    }

    #[test]
    fn group_8_a_shifted_trace_gives_a_shifted_schedule(trace in traces(), by in 1i64..1_000_000_000) {
        let mut later = trace.clone();
        later.jobs.iter_mut().for_each(|job| job.submit += by);
        for rule in RULES {
            let shifted: Vec<i64> = starts(&trace, rule).iter().map(|start| start + by).collect();
            prop_assert_eq!(starts(&later, rule), shifted, "{:?}", rule);
        }
    }

    #[test]
    fn group_8_a_machine_and_jobs_many_times_as_large_give_the_same_schedule(trace in traces(), times in 2u32..1000) {
        let mut large = trace.clone();
        large.processors *= times;
        large.jobs.iter_mut().for_each(|job| job.processors *= times);
        for rule in RULES {
            prop_assert_eq!(starts(&large, rule), starts(&trace, rule), "{:?}", rule);
        }
    }

    #[test]
    fn group_8_a_job_after_the_last_end_changes_nothing_before(
        trace in traces(), run in 1i64..20, wide in any::<u32>(),
    ) {
        for rule in RULES {
            let before = starts(&trace, rule);
            let submit = *instants(&trace, &before).last().unwrap();
            let mut longer = trace.clone();
            let processors = 1 + wide % trace.processors;
            longer.jobs.push(TraceJob { id: 99, submit, run, limit: run + 5, processors, user: 0 });
            let mut wanted = before;
            wanted.push(submit);
            prop_assert_eq!(starts(&longer, rule), wanted, "{:?}", rule);
        }
    }

    #[test]
    fn group_8_the_plainest_simulator_gives_the_same_schedule(trace in traces()) {
        for rule in RULES {
            prop_assert_eq!(starts(&trace, rule), simulate(&trace, rule, Fault::None).starts, "{:?}", rule);
        }
    }
}

/// The check of EASY's promise is one that can fail.
#[test]
fn group_3_a_broken_easy_is_caught() {
    for fault in [Fault::IgnoresTheHead, Fault::ForgetsWhatIsLeft] {
        for rule in [Rule::Easy, Rule::EasySjbf] {
            let found = quiet().run(&traces(), |trace| {
                let kept = heads_keep_their_times(&trace, &simulate(&trace, rule, fault).starts);
                kept.map_err(TestCaseError::fail)
            });
            assert!(found.is_err(), "{fault:?} of {rule:?} was not noticed");
        }
    }
}
