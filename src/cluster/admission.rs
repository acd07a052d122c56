//! decide: may this job enter? Against bounds, partition, account and QOS; what cannot be is refused here
//! with the value, the limit and the way out, never queued to wait for ever.

use super::command::{Gone, Principal};
use super::{Cluster, Event, Reply, dependency, reservations};
use crate::model::history::Granted;
use crate::model::ids::JobId;
use crate::model::index_set::IndexSet;
use crate::model::job::{Hold, Job, JobSpec, Owner, Reason};
use crate::model::partition::Partition;
use crate::model::rare::Rare;
use crate::model::refusal::{Code, Refusal};
use crate::model::rules::{NORMAL, Noun};
use crate::model::shared::Text;
use crate::model::step::OPTIONS_BYTES_MAX;
use crate::model::time::Timestamp;
use crate::scheduler::feasible;
use crate::scheduler::limits::{Check, Held};
use crate::scheduler::queue::Class;
use std::sync::Arc;

/// Longest text a specification may hold in one field; bytes.
const TEXT_MAX: usize = 4096;
/// Most tasks and nodes of a job.
const TASKS_MAX: u32 = 1_000_000;
/// Most seconds between SIGTERM and SIGKILL.
const KILL_WAIT_MAX_S: u32 = 3600;

pub(super) fn submit(
    cluster: &Cluster,
    now: Timestamp,
    who: &Principal,
    mut spec: JobSpec,
    ended: &[Gone],
    dry_run: bool,
) -> Result<(Reply, Vec<Event>), Refusal> {
    check_root(cluster, who)?;
    check_bounds(cluster, &spec)?;
    fill_defaults(cluster, now, &who.owner, &mut spec)?;
    check_membership(cluster, &who.owner, &spec)?;
    check_time_limit(cluster, &spec)?;
    check_possible(cluster, &who.owner, &spec)?;
    reservations::check_asked(cluster, now, &who.owner, &spec)?;
    check_nice(who, &spec)?;
    check_limits(cluster, now, &who.owner, &spec)?;
    let id = JobId(cluster.counters.job_next);
    let mut job = new_job(id, now, who, spec);
    let mut events = Vec::new();
    if let Some(wanted) = job.spec.dependency.clone() {
        let start = dependency::begin(cluster, now, &job, &wanted, ended)?;
        job.waits_for = start.waits_for.into();
        job.not_before = job.not_before.max(start.not_before);
        if start.by_element {
            job.waiting = std::mem::take(&mut job.pending).into();
        }
        if start.never {
            events = dependency::never_met(now, &job);
        } else if !start.lost.is_empty() && !start.by_element {
            job.pending.subtract(&start.lost);
            job.waiting = start.lost.clone().into();
            events.push(dependency::counterparts_lost(now, &job, start.lost));
        }
    }
    if dry_run {
        let text = would_run(cluster, now, &job);
        let job = Cluster::is_eligible(&job).then(|| Box::new(job));
        return Ok((Reply::WouldRun { text, job }, Vec::new()));
    }
    events.insert(0, Event::JobSubmitted(Box::new(job)));
    Ok((Reply::Submitted(id), events))
}

fn new_job(id: JobId, now: Timestamp, who: &Principal, spec: JobSpec) -> Job {
    let hold = if spec.hold { Hold::User } else { Hold::None };
    Job {
        id,
        owner: who.owner.clone(),
        submitted: now,
        hold,
        reason: Reason::None,
        pending: IndexSet::from_range(0, spec.count()),
        waiting: Rare::default(),
        slots: Vec::new(),
        slot_next: 0,
        restarts: Rare::default(),
        ends: Rare::default(),
        granted: Granted::default().shared(),
        row_next: 0,
        not_before: spec.begin.filter(|begin| *begin > now),
        waits_for: Rare::default(),
        step_next: u32::from(spec.launch.is_step()),
        unsuccessful: Rare::default(),
        pace_us: 0,
        spec: Arc::new(spec),
    }
}

/// Jobs of root, where they are not wanted.
fn check_root(cluster: &Cluster, who: &Principal) -> Result<(), Refusal> {
    let root = who.owner.uid == 0 || *who.owner.name == *"root";
    if !root || cluster.settings.allow_root_jobs {
        return Ok(());
    }
    Err(Refusal::new(
        Code::NotPermitted,
        "jobs of root are not run here (allow_root_jobs = false)",
        "submit as an ordinary user",
    ))
}

fn invalid(what: impl Into<String>, hint: &str) -> Refusal {
    Refusal::new(Code::Invalid, what, hint)
}

fn check_bounds(cluster: &Cluster, spec: &JobSpec) -> Result<(), Refusal> {
    let most = cluster.settings.jobs_max;
    if cluster.jobs.len() >= most {
        return Err(Refusal::new(
            Code::TooMuch,
            format!("{} jobs are queued, the most is {most}", cluster.jobs.len()),
            "wait for some to end, or submit them as one array",
        ));
    }
    let options = spec.launch.step_options();
    if options.spawned().is_some() {
        let what = "a job is asked for by nobody's rank";
        return Err(invalid(what, "only a step inside a job is"));
    }
    let said = options.weight();
    if said > OPTIONS_BYTES_MAX {
        let what =
            format!("what is said of the tasks has {said} bytes, the most is {OPTIONS_BYTES_MAX}");
        return Err(Refusal::new(Code::TooMuch, what, "say less of them"));
    }
    let texts = [
        ("name", Some(&spec.name)),
        ("partition", Some(&spec.partition)),
        ("account", Some(&spec.account)),
        ("qos", Some(&spec.qos)),
        ("command", Some(&spec.command)),
        ("work directory", Some(&spec.work_dir)),
        ("output", spec.output.as_ref()),
        ("error", spec.error.as_ref()),
        ("input", spec.input.as_ref()),
        ("comment", spec.comment.as_ref()),
        ("submit host", Some(&spec.submit_host)),
    ];
    for (what, text) in texts {
        let Some(text) = text else { continue };
        if text.len() > TEXT_MAX || text.contains('\0') {
            let hint = "shorten it and leave out zero bytes";
            return Err(invalid(
                format!(
                    "the {what} has {} bytes, the most is {TEXT_MAX}",
                    text.len()
                ),
                hint,
            ));
        }
    }
    let count = spec.count();
    if count == 0 {
        return Err(invalid(
            "the array has no indices",
            "give at least one, as in --array=0-9",
        ));
    }
    if let Some(array) = &spec.array
        && array.max() >= cluster.settings.array_max
    {
        return Err(invalid(
            format!(
                "array index {}, the largest is {}",
                array.max(),
                cluster.settings.array_max - 1
            ),
            "use smaller indices or several arrays",
        ));
    }
    if cluster.counters.job_next.checked_add(count).is_none() {
        return Err(Refusal::new(
            Code::TooMuch,
            format!(
                "job numbers are used up: {count} are wanted from {}",
                cluster.counters.job_next
            ),
            "start a new state directory",
        ));
    }
    if spec.array.is_some() && spec.launch.is_attached() {
        return Err(Refusal::new(
            Code::Unsupported,
            "an array cannot be attached to a terminal",
            "submit it with `hpc submit --array`",
        ));
    }
    let request = &spec.request;
    // It goes with its client: nothing that computes for long is worth that.
    let carries_files = request.takes_nothing() && spec.launch.is_step();
    let counts = [
        ("nodes", Some(request.nodes_min)),
        ("nodes", request.nodes_max),
        ("tasks", request.ntasks),
        ("tasks per node", request.ntasks_per_node),
        (
            "cpus per task",
            request.cpus_per_task.filter(|_| !carries_files),
        ),
    ];
    for (what, count) in counts {
        if count.is_some_and(|count| count == 0 || count > TASKS_MAX) {
            let what = format!(
                "{} {what} are asked for, it must be 1 to {TASKS_MAX}",
                count.unwrap_or(0)
            );
            return Err(invalid(what, "ask for at least one"));
        }
    }
    if request
        .nodes_max
        .is_some_and(|most| most < request.nodes_min)
    {
        let what = format!(
            "at most {} but at least {} nodes",
            request.nodes_max.unwrap_or(0),
            request.nodes_min
        );
        return Err(invalid(
            what,
            "write the smaller number first, as in -N 2-4",
        ));
    }
    if let (Some(tasks), nodes) = (request.ntasks, request.nodes_min)
        && tasks < nodes
    {
        let what = format!("{tasks} tasks cannot fill {nodes} nodes");
        return Err(invalid(what, "ask for at least as many tasks as nodes"));
    }
    if spec.kill_wait_s > KILL_WAIT_MAX_S {
        let what = format!(
            "a kill wait of {} s, the most is {KILL_WAIT_MAX_S} s",
            spec.kill_wait_s
        );
        return Err(invalid(
            what,
            "give the job a --signal warning before its limit instead",
        ));
    }
    Ok(())
}

fn fill_defaults(
    cluster: &Cluster,
    now: Timestamp,
    owner: &Owner,
    spec: &mut JobSpec,
) -> Result<(), Refusal> {
    let rules = &cluster.rules;
    if spec.name.is_empty() {
        spec.name = "job".into();
    }
    if spec.partition.is_empty() {
        let default = rules.default_partition();
        spec.partition = default.map_or_else(Text::default, |known| Text::from(&known.name));
    }
    choose_partition(cluster, spec)?;
    if spec.time_limit_s.is_none() {
        // As Slurm does: the limit is the job's from now on, whatever becomes of the partition's.
        let known = partition(cluster, &spec.partition);
        let most = known.and_then(|known| known.time_unasked_s());
        let inside = reservations::time_unasked_s(cluster, now, spec);
        spec.time_limit_s = match (most, inside) {
            (Some(most), Some(inside)) => Some(most.min(inside)),
            (most, inside) => inside.or(most),
        };
    }
    let user = rules.user(&owner.name);
    if spec.account.is_empty() {
        spec.account = Text::from(&user.account);
    }
    if spec.qos.is_empty() {
        spec.qos = user.default_qos.as_deref().unwrap_or(NORMAL).into();
    }
    Ok(())
}

/// Refuses an account or QOS that does not exist, or that this user may not use, there or at all.
fn check_membership(cluster: &Cluster, owner: &Owner, spec: &JobSpec) -> Result<(), Refusal> {
    let rules = &cluster.rules;
    let (account, qos) = (spec.account.as_str(), spec.qos.as_str());
    if !rules.accounts.contains_key(account) {
        return Err(rules.unknown(Noun::Account, account));
    }
    if !rules.qos.contains_key(qos) {
        return Err(rules.unknown(Noun::Qos, qos));
    }
    let user = rules.user(&owner.name);
    let own: Vec<&str> = [&user.account]
        .into_iter()
        .chain(&user.accounts)
        .map(String::as_str)
        .collect();
    if !own.contains(&account) {
        let what = format!("{} does not belong to account `{account}`", owner.name);
        let hint = format!("{} belongs to: {}", owner.name, own.join(", "));
        return Err(Refusal::new(Code::UnknownAccount, what, hint));
    }
    // The first that says which QOS there are: the person, then the account and those above it.
    let above = rules.lineage(account).map(|known| &known.qos);
    let mut said = std::iter::once(&user.qos).chain(above);
    let allowed = said.find(|list| !list.is_empty());
    if let Some(allowed) = allowed.filter(|list| !list.iter().any(|name| name == qos)) {
        let what = format!(
            "{} may not use QOS `{qos}` in account `{account}`",
            owner.name
        );
        let hint = format!("there may be used: {}", allowed.join(", "));
        return Err(Refusal::new(Code::UnknownQos, what, hint));
    }
    let Some(partition) = partition(cluster, &spec.partition) else {
        return Ok(());
    };
    let refused = |what: String, list: &[String]| {
        let hint = format!("partition `{}` is for: {}", partition.name, list.join(", "));
        Err(Refusal::new(Code::NotPermitted, what, hint))
    };
    let is_outside =
        |list: &[String], one: &str| !list.is_empty() && !list.iter().any(|name| name == one);
    if is_outside(&partition.accounts, account) {
        let what = format!(
            "account `{account}` may not use partition `{}`",
            partition.name
        );
        return refused(what, &partition.accounts);
    }
    if is_outside(&partition.qos, qos) {
        let what = format!(
            "QOS `{qos}` may not be used in partition `{}`",
            partition.name
        );
        return refused(what, &partition.qos);
    }
    Ok(())
}

fn partition<'a>(cluster: &'a Cluster, name: &str) -> Option<&'a Partition> {
    cluster.rules.partitions.get(name)
}

/// Of a list of partitions the first that allows the time asked for, or, when none does, the first, which will be
/// refused. All must exist; all of ours have the same nodes, so none can offer an earlier start.
fn choose_partition(cluster: &Cluster, spec: &mut JobSpec) -> Result<(), Refusal> {
    let list = spec.partition.clone();
    for name in list.split(',') {
        spec.partition = name.into();
        check_partition(cluster, spec)?;
    }
    let allows = |name: &&str| {
        let most = partition(cluster, name).and_then(|known| known.max_time_s);
        spec.time_limit_s <= most || most.is_none()
    };
    let chosen = list.split(',').find(allows);
    spec.partition = chosen.or(list.split(',').next()).unwrap_or_default().into();
    Ok(())
}

/// Refuses a partition that does not exist.
pub(super) fn check_partition(cluster: &Cluster, spec: &JobSpec) -> Result<(), Refusal> {
    if partition(cluster, &spec.partition).is_some() {
        return Ok(());
    }
    Err(cluster.rules.unknown(Noun::Partition, &spec.partition))
}

pub(super) fn check_time_limit(cluster: &Cluster, spec: &JobSpec) -> Result<(), Refusal> {
    let most = partition(cluster, &spec.partition).and_then(|known| known.max_time_s);
    match (spec.time_limit_s, most) {
        (Some(asked), Some(most)) if asked > most => Err(Refusal::new(
            Code::TimeLimit,
            format!(
                "a time limit of {} is asked for, partition `{}` allows {}",
                crate::model::time::format_duration(u64::from(asked)),
                spec.partition,
                crate::model::time::format_duration(u64::from(most)),
            ),
            "ask for less time, or for another partition (`hpc partitions`)",
        )),
        _ => Ok(()),
    }
}

/// Lowering one's own priority is everybody's; raising it is not.
fn check_nice(who: &Principal, spec: &JobSpec) -> Result<(), Refusal> {
    if spec.nice >= 0 || who.is_operator() {
        return Ok(());
    }
    Err(Refusal::new(
        Code::NotPermitted,
        format!(
            "nice {} is below 0, the least for {}",
            spec.nice, who.owner.name
        ),
        "only an operator may raise a job; leave --nice out",
    ))
}

/// Refuses what a limit on submission does not allow, and what could never run within a limit.
fn check_limits(
    cluster: &Cluster,
    now: Timestamp,
    owner: &Owner,
    spec: &JobSpec,
) -> Result<(), Refusal> {
    let class = Class {
        partition: spec.partition.clone(),
        account: spec.account.clone(),
        qos: spec.qos.clone(),
        user: Arc::clone(&owner.name),
        uid: owner.uid,
    };
    let length_ms = spec
        .time_limit_s
        .map_or(0, |seconds| i64::from(seconds) * 1000);
    let more = Held::by_request(&spec.request, now.plus_ms(length_ms)).with_job(true, true);
    let check = Check {
        rules: &cluster.rules,
        tally: &cluster.tally,
        now,
    };
    let Some(hit) = check.refuses(&class, &more, spec.time_limit_s) else {
        return Ok(());
    };
    let hint = match (hit.used, hit.wanted > hit.limit) {
        (_, true) | (0, _) => {
            format!(
                "ask for what the limit allows; an administrator of {} set it (`hpc limits`)",
                hit.level
            )
        }
        _ => format!(
            "a job of {} has to end first, or be cancelled; an administrator set this at {} (`hpc limits`)",
            owner.name, hit.level
        ),
    };
    Err(Refusal::new(
        Code::Limit,
        format!("{}: {hit}", hit.word()),
        hint,
    ))
}

fn check_possible(cluster: &Cluster, owner: &Owner, spec: &JobSpec) -> Result<(), Refusal> {
    let partition = partition(cluster, &spec.partition);
    if feasible::surely(&spec.request, partition, &cluster.emptied) {
        return Ok(());
    }
    let nodes: Vec<_> = cluster.nodes.values().map(|node| &**node).collect();
    let rules = (&*cluster.rules, &*spec.partition);
    match feasible::never(&spec.request, owner, rules, &nodes, &cluster.emptied) {
        Some(why) => {
            let code = if why.starts_with("node `") {
                Code::UnknownNode
            } else {
                Code::Impossible
            };
            Err(Refusal::new(code, why, "see `hpc nodes` for what there is"))
        }
        None => Ok(()),
    }
}

fn would_run(cluster: &Cluster, now: Timestamp, job: &Job) -> String {
    let processors = job.spec.request.cpus_total();
    let partition = &job.spec.partition;
    let view = cluster.view();
    let ahead = crate::scheduler::jobs_ahead(&view, cluster.policy().weights, job, now);
    let place = || crate::scheduler::would_place(&view, job, now, cluster.policy());
    match Cluster::is_eligible(job).then(place).flatten() {
        Some(allocation) => {
            let names: Vec<String> = allocation
                .nodes
                .iter()
                .filter_map(|share| cluster.nodes.get(&share.node))
                .map(|node| node.name().to_owned())
                .collect();
            let nodes = crate::model::hostlist::fold(&names);
            format!(
                "would start now using {processors} processors on nodes {nodes} in partition {partition}"
            )
        }
        _ if !Cluster::is_eligible(job) => {
            let why = if job.hold != Hold::None {
                "until it is released".to_owned()
            } else if let Some(at) = job.not_before {
                format!("until its begin time, {at}")
            } else {
                "for the jobs it depends on".to_owned()
            };
            format!("would wait {why}, then use {processors} processors in partition {partition}")
        }
        _ => format!(
            "would wait in partition {partition} for {processors} processors behind {ahead} jobs"
        ),
    }
}
