//! From records to what people and scripts see ([`crate::wire::view`]). Pure.

use super::snapshot::Snapshot;
use crate::model::allocation::Allocation;
use crate::model::array::ArraySpec;
use crate::model::filename::{self, ArrayElement, FilenameContext};
use crate::model::history::{ElementRow, EndedJob, Granted, StepRow};
use crate::model::hostlist;
use crate::model::index_set::IndexSet;
use crate::model::job::{
    ElementEnd, ExitStatus, Hold, Job, JobSpec, JobState, Owner, Reason, Slot, Usage,
};
use crate::model::node::{Link, Node};
use crate::model::partition::Partition;
use crate::model::resource::MemoryRequest;
use crate::model::rules::Rules;
use crate::model::time::Timestamp;
use crate::wire::view::{
    ElementsView, GpuView, JobLine, JobView, NodeView, PartitionView, PlacementView, StepView,
    UsageView,
};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

/// Default output names.
const OUTPUT: &str = "slurm-%j.out";
const OUTPUT_ARRAY: &str = "slurm-%A_%a.out";

/// The run time limit in force: the job's own, else its partition's.
#[must_use]
pub fn time_limit_s(rules: &Rules, job: &Job) -> Option<u32> {
    job.spec.time_limit_s.or_else(|| {
        let named = rules.partitions.get(job.spec.partition.as_str());
        named.and_then(|partition| partition.max_time_s)
    })
}

/// The output pattern of a specification.
#[must_use]
pub fn output_pattern(spec: &JobSpec, error: bool) -> Option<&str> {
    if spec.launch.is_attached() {
        return if error {
            spec.error.as_deref()
        } else {
            spec.output.as_deref()
        };
    }
    let default = if spec.array.is_some() {
        OUTPUT_ARRAY
    } else {
        OUTPUT
    };
    let output = spec.output.as_deref().unwrap_or(default);
    Some(if error {
        spec.error.as_deref().unwrap_or(output)
    } else {
        output
    })
}

/// The path of an element's output, patterns filled in; `None` when it goes to the client.
#[must_use]
pub fn output_path(
    spec: &JobSpec,
    id: u32,
    position: u32,
    restarts: u32,
    node: &str,
    user: &str,
    error: bool,
) -> Option<String> {
    let pattern = output_pattern(spec, error)?;
    let context = FilenameContext {
        job: id.saturating_add(position),
        array: spec.array.as_ref().map(|array| ArrayElement {
            array_job: id,
            index: array.index_at(position),
        }),
        step: None,
        node_name: node.to_owned(),
        node_index: 0,
        task_rank: 0,
        user: user.to_owned(),
        job_name: spec.name.to_string(),
        restart_count: restarts,
    };
    let path = filename::expand(pattern, &context).ok()?;
    Some(below(&spec.work_dir, path))
}

/// A path as a process in this directory understands it.
fn below(directory: &str, path: String) -> String {
    if path.starts_with('/') {
        path
    } else {
        format!("{}/{path}", directory.trim_end_matches('/'))
    }
}

/// What a waiting job will be given when it asked for no amount of its own, as far as that can be told before it is
/// placed: by the first node that has enough cpus.
fn expected_memory_mib(snapshot: &Snapshot, job: &Job) -> u64 {
    let request = &job.spec.request;
    let cpus = request.cpus_total();
    let nodes = u64::from(request.nodes_min.max(1));
    let mut large = snapshot
        .nodes
        .values()
        .filter(|node| u64::from(node.cpus_total()) * nodes >= u64::from(cpus));
    let Some(node) = large.next() else { return 0 };
    match request.memory {
        MemoryRequest::Default => {
            node.memory_total_mib() * u64::from(cpus) / u64::from(node.cpus_total().max(1))
        }
        // 0: all of the node's.
        MemoryRequest::PerNode(_) => node.memory_total_mib() * nodes,
        MemoryRequest::PerCpu(_) => 0,
    }
}

/// Indices at these positions in the array grammar, such as `3-9`; of a contiguous run at the cost of one.
#[must_use]
pub fn index_text(array: &ArraySpec, positions: &IndexSet) -> String {
    array.describe(positions)
}

fn blank(id: u32, position: u32, spec: &JobSpec, owner: &Owner, submitted: Timestamp) -> JobView {
    JobView {
        id,
        array_task: spec.array.as_ref().map(|array| array.index_at(position)),
        array_tasks: None,
        raw_id: id.saturating_add(position),
        name: spec.name.to_string(),
        user: owner.name.to_string(),
        uid: owner.uid,
        gid: owner.gid,
        account: spec.account.to_string(),
        qos: spec.qos.to_string(),
        partition: spec.partition.to_string(),
        state: String::new(),
        reason: None,
        reason_detail: None,
        exit_code: None,
        signal: None,
        cancelled_by: None,
        submit_time: submitted,
        start_time: None,
        end_time: None,
        expected_start: None,
        begin_time: spec.begin,
        time_limit_s: spec.time_limit_s,
        nodes: Vec::new(),
        nodes_requested: spec.request.nodes_min,
        ntasks: spec.request.ntasks_or_default(),
        cpus: spec.request.cpus_total(),
        cpus_per_task: spec.request.cpus_per_task_or_default(),
        memory_mib: match spec.request.memory {
            MemoryRequest::Default => 0,
            MemoryRequest::PerNode(mib) => mib.saturating_mul(u64::from(spec.request.nodes_min)),
            MemoryRequest::PerCpu(mib) => mib.saturating_mul(u64::from(spec.request.cpus_total())),
        },
        gpus: spec.request.gpus_total(),
        restarts: 0,
        dependency: spec.dependency.as_ref().map(ToString::to_string),
        work_dir: spec.work_dir.to_string(),
        stdout_path: None,
        stderr_path: None,
        command: spec.command.to_string(),
        comment: spec.comment.as_ref().map(ToString::to_string),
        priority: -i64::from(spec.nice),
        elements: None,
        placement: Vec::new(),
        steps: Vec::new(),
        usage: None,
    }
}

fn say_reason(view: &mut JobView, reason: &Reason) {
    view.reason = (*reason != Reason::None).then(|| reason.word().to_owned());
    view.reason_detail = reason.detail();
}

fn set_paths(view: &mut JobView, spec: &JobSpec, position: u32, node: &str) {
    let path = |error| {
        output_path(
            spec,
            view.id,
            position,
            view.restarts,
            node,
            &view.user,
            error,
        )
    };
    (view.stdout_path, view.stderr_path) = (path(false), path(true));
}

/// Why the pending part of a job waits.
#[must_use]
pub fn pending_reason(snapshot: &Snapshot, job: &Job) -> Reason {
    match &job.reason {
        Reason::None => {}
        // Said of an array some of whose elements wait for counterparts that did not end well; the others go on.
        Reason::Dependency if job.waiting.is_empty() => {}
        Reason::Dependency if job.pending.is_empty() => return Reason::DependencyNeverSatisfied,
        reason => return reason.clone(),
    }
    match job.hold {
        Hold::User => return Reason::JobHeldUser,
        Hold::Admin => return Reason::JobHeldAdmin,
        Hold::None => {}
    }
    if !job.waits_for.is_empty() || (job.pending.is_empty() && !job.waiting.is_empty()) {
        return Reason::Dependency;
    }
    if job.not_before.is_some() {
        return Reason::BeginTime;
    }
    snapshot
        .blocked
        .reason(job)
        .cloned()
        .unwrap_or(Reason::Priority)
}

/// What is said of an element that was warned, or stands still for others.
#[must_use]
pub fn warning(slot: &Slot, position: u32) -> Option<String> {
    if slot.is_stopped() {
        let by_hand = slot
            .suspended
            .then_some("suspended by hand, `hpc resume` lets it go on");
        let lent = slot.stops.lent_to.map(|to| {
            let goes = if slot.suspended {
                ""
            } else {
                ", goes on when its cpus are free again"
            };
            format!("stands still for job {to}{goes}")
        });
        let by_hand = by_hand.map(str::to_owned);
        let both: Vec<String> = lent.into_iter().chain(by_hand).collect();
        return Some(both.join("; "));
    }
    let mut warned = slot.warned();
    let (_, until, again, by) = warned.find(|(positions, ..)| positions.contains(position))?;
    let then = if again {
        "then waits and runs again"
    } else {
        "then is over"
    };
    let at = until.to_rfc3339(&jiff::tz::TimeZone::UTC);
    Some(format!("makes room for job {by} by {at}, {then}"))
}

/// What a slot shows: its element, running or about to.
fn slot_view(snapshot: &Snapshot, job: &Job, held: &Held<'_>) -> JobView {
    let (slot, position) = (held.slot, held.position);
    let mut view = blank(job.id.0, position, &job.spec, &job.owner, job.submitted);
    held.state().word().clone_into(&mut view.state);
    view.start_time = Some(held.started());
    view.time_limit_s = time_limit_s(&snapshot.rules, job);
    view.restarts = job.restarts_of(position);
    view.reason_detail = warning(slot, position);
    view.nodes = slot
        .allocation
        .nodes
        .iter()
        .map(|share| snapshot.node_name(share.node))
        .collect();
    set_allocation(&mut view, snapshot, &slot.allocation);
    let leader = view.nodes.first().cloned().unwrap_or_default();
    set_paths(&mut view, &job.spec, position, &leader);
    view
}

fn set_allocation(view: &mut JobView, snapshot: &Snapshot, allocation: &Allocation) {
    view.ntasks = allocation.tasks();
    view.cpus = allocation.cpus();
    view.memory_mib = allocation.memory_mib();
    view.gpus = allocation.gpus();
    view.placement = allocation
        .nodes
        .iter()
        .map(|share| PlacementView {
            node: snapshot.node_name(share.node),
            cpus: share.cpus.to_string(),
            memory_mib: share.memory_mib,
            gpus: share.gpus.clone(),
            tasks: share.tasks,
        })
        .collect();
}

fn elements(job: &Job) -> Option<ElementsView> {
    job.spec.array.as_ref()?;
    let running = u32::try_from(
        job.slots
            .iter()
            .filter(|slot| !slot.queue.is_empty())
            .count(),
    )
    .unwrap_or(u32::MAX);
    let ended = job.ends.completed + job.ends.unsuccessful;
    Some(ElementsView {
        total: job.spec.count(),
        pending: job.spec.count() - ended - running,
        running,
        completed: job.ends.completed,
        unsuccessful: job.ends.unsuccessful,
    })
}

/// A slot that holds elements, and the one it shows.
struct Held<'a> {
    slot: &'a Slot,
    position: u32,
}

impl Held<'_> {
    fn state(&self) -> JobState {
        let kills = &self.slot.kills;
        if kills
            .iter()
            .any(|kill| kill.is_told() && kill.positions.contains(self.position))
        {
            JobState::Completing
        } else if self.slot.is_stopped() {
            JobState::Suspended
        } else {
            JobState::Running
        }
    }

    /// How long it has run, without the time in which it stood still.
    fn ran_ms(&self, now: Timestamp) -> i64 {
        let stops = &self.slot.stops;
        let until = stops.since.map_or(now, |since| since.min(now));
        until.minus(self.started()) - stops.past_ms
    }

    fn started(&self) -> Timestamp {
        self.slot
            .current
            .map_or(self.slot.granted, |current| current.started)
    }
}

/// What of a hot job is shown, of the positions that are meant: the waiting rest, and what slots hold.
fn hot_parts<'a>(job: &'a Job, meant: Option<&IndexSet>) -> (Cow<'a, IndexSet>, Vec<Held<'a>>) {
    if job.slots.is_empty() && job.waiting.is_empty() && meant.is_none() {
        // As nearly all of a long queue.
        return (Cow::Borrowed(&job.pending), Vec::new());
    }
    let mut rest = job.pending.clone();
    rest.union_with(&job.waiting);
    let mut held = Vec::new();
    for slot in &job.slots {
        let Some(position) = slot
            .current
            .map(|current| current.position)
            .or_else(|| slot.queue.first())
        else {
            continue;
        };
        let mut others = slot.queue.clone();
        others.remove(position);
        rest.union_with(&others);
        if meant.is_none_or(|meant| meant.contains(position)) {
            held.push(Held { slot, position });
        }
    }
    if let Some(meant) = meant {
        rest.intersect(meant);
    }
    (Cow::Owned(rest), held)
}

/// The pending rest of an array, as `3-9%2`.
fn rest_text(array: &ArraySpec, rest: &IndexSet) -> String {
    let throttle = array
        .throttle
        .map_or_else(String::new, |most| format!("%{most}"));
    format!("{}{throttle}", index_text(array, rest))
}

/// Which parts of a hot job are shown.
#[derive(Debug, Clone, Copy)]
pub struct Which<'a> {
    /// A row for every element of the pending rest, instead of one for all.
    pub expand: bool,
    /// Positions, when not all are meant.
    pub meant: Option<&'a IndexSet>,
    /// Only those in one of these states; all when empty.
    pub states: &'a [JobState],
}

impl Which<'_> {
    fn wants(&self, state: JobState) -> bool {
        self.states.is_empty() || self.states.contains(&state)
    }

    /// Whether the pending `rest` of an array is shown element by element.
    fn one_by_one(&self, rest: &IndexSet) -> bool {
        self.expand || (self.meant.is_some() && rest.len() == 1)
    }
}

/// The rows of a hot job: the pending rest of it (one row, or one for each element), then what runs.
pub fn hot_rows(
    snapshot: &Snapshot,
    job: &Job,
    which: Which<'_>,
    each: &mut dyn FnMut(JobView) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let (rest, held) = hot_parts(job, which.meant);
    if !rest.is_empty() && which.wants(JobState::Pending) {
        let reason = pending_reason(snapshot, job);
        let first = rest.first().unwrap_or(0);
        let mut view = blank(job.id.0, first, &job.spec, &job.owner, job.submitted);
        JobState::Pending.word().clone_into(&mut view.state);
        say_reason(&mut view, &reason);
        view.time_limit_s = time_limit_s(&snapshot.rules, job);
        view.restarts = job.restarts_of(first);
        view.begin_time = job.not_before.or(job.spec.begin);
        view.expected_start = snapshot.forecast.starts.get(&job.id).copied();
        view.elements = elements(job);
        if view.memory_mib == 0 {
            view.memory_mib = expected_memory_mib(snapshot, job);
        }
        match &job.spec.array {
            None => {
                set_paths(&mut view, &job.spec, 0, "");
                each(view)?;
            }
            Some(array) if which.one_by_one(&rest) => {
                for position in rest.iter() {
                    let mut row = view.clone();
                    row.array_task = Some(array.index_at(position));
                    row.raw_id = job.id.raw(position);
                    row.restarts = job.restarts_of(position);
                    set_paths(&mut row, &job.spec, position, "");
                    each(row)?;
                }
            }
            Some(array) => {
                view.array_tasks = Some(rest_text(array, &rest));
                view.array_task = None;
                view.raw_id = job.id.0;
                // No path yet, since there is one for each element: the patterns, where they lead.
                let pattern = |error| {
                    let pattern = output_pattern(&job.spec, error)?;
                    Some(below(&job.spec.work_dir, pattern.to_owned()))
                };
                (view.stdout_path, view.stderr_path) = (pattern(false), pattern(true));
                each(view)?;
            }
        }
    }
    for held in held.iter().filter(|held| which.wants(held.state())) {
        let mut view = slot_view(snapshot, job, held);
        view.elements = elements(job);
        each(view)?;
    }
    ControlFlow::Continue(())
}

/// The same as [`hot_rows`], for a table.
pub fn hot_lines(
    snapshot: &Snapshot,
    now: Timestamp,
    job: &Job,
    which: Which<'_>,
    each: &mut dyn FnMut(JobLine) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let (rest, held) = hot_parts(job, which.meant);
    let blank = || JobLine {
        id: job.id.0,
        array_task: None,
        array_tasks: None,
        partition: job.spec.partition.clone(),
        name: job.spec.name.clone(),
        user: job.owner.name.to_string(),
        state: JobState::Pending,
        run_s: 0,
        time_limit_s: time_limit_s(&snapshot.rules, job),
        nodes: job.spec.request.nodes_min,
        cpus: job.spec.request.cpus_total(),
        place: String::new(),
    };
    if !rest.is_empty() && which.wants(JobState::Pending) {
        let reason = pending_reason(snapshot, job);
        let mut line = blank();
        line.place = format!("({})", reason.word());
        match &job.spec.array {
            None => each(line)?,
            Some(array) if which.one_by_one(&rest) => {
                for position in rest.iter() {
                    each(JobLine {
                        array_task: Some(array.index_at(position)),
                        ..line.clone()
                    })?;
                }
            }
            Some(array) => {
                line.array_tasks = Some(rest_text(array, &rest));
                each(line)?;
            }
        }
    }
    for held in held.iter().filter(|held| which.wants(held.state())) {
        let allocation = &held.slot.allocation;
        let names: Vec<String> = allocation
            .nodes
            .iter()
            .map(|share| snapshot.node_name(share.node))
            .collect();
        let array = job.spec.array.as_ref();
        each(JobLine {
            array_task: array.map(|array| array.index_at(held.position)),
            state: held.state(),
            run_s: u32::try_from(held.ran_ms(now) / 1000).unwrap_or(0),
            nodes: u32::try_from(names.len()).unwrap_or(u32::MAX),
            cpus: allocation.cpus(),
            place: hostlist::fold(&names),
            ..blank()
        })?;
    }
    ControlFlow::Continue(())
}

fn set_end(
    view: &mut JobView,
    state: JobState,
    reason: &Reason,
    exit: ExitStatus,
    by: Option<u32>,
    usage: Usage,
) {
    state.word().clone_into(&mut view.state);
    say_reason(view, reason);
    view.exit_code = (exit.signal == 0).then_some(exit.code);
    view.signal = (exit.signal != 0).then_some(exit.signal);
    view.cancelled_by = by;
    let wall_s = match (view.start_time, view.end_time) {
        (Some(start), Some(end)) => seconds(end.minus(start)),
        _ => 0.0,
    };
    view.usage = Some(usage_view(usage, wall_s));
}

#[allow(
    clippy::cast_precision_loss,
    reason = "milliseconds and KiB of one job stay far below 2^52"
)]
fn seconds(ms: i64) -> f64 {
    ms.max(0) as f64 / 1000.0
}

#[allow(
    clippy::cast_precision_loss,
    reason = "milliseconds and KiB of one job stay far below 2^52"
)]
fn usage_view(usage: Usage, wall_s: f64) -> UsageView {
    UsageView {
        cpu_s: usage.cpu_ms as f64 / 1000.0,
        max_rss_mib: usage.max_rss_kib as f64 / 1024.0,
        energy_j: None,
        read_bytes: usage.read_bytes,
        write_bytes: usage.write_bytes,
        wall_s,
    }
}

fn set_granted(view: &mut JobView, granted: &Granted) {
    if granted.nodes.is_empty() {
        return;
    }
    view.nodes.clone_from(&granted.nodes);
    view.cpus = granted.cpus;
    view.memory_mib = granted.memory_mib;
    view.gpus = granted.gpus;
    view.ntasks = granted.ntasks;
}

/// An ended job as a whole.
#[must_use]
pub fn ended_view(ended: &EndedJob) -> JobView {
    let mut view = blank(ended.id.0, 0, &ended.spec, &ended.owner, ended.submitted);
    view.start_time = ended.started;
    view.end_time = Some(ended.ended);
    view.restarts = ended.restarts;
    set_granted(&mut view, &ended.granted);
    set_end(
        &mut view,
        ended.state,
        &ended.reason,
        ended.exit,
        ended.cancelled_by,
        ended.usage,
    );
    if ended.spec.array.is_some() {
        view.array_task = None;
        view.array_tasks = ended.spec.array.as_ref().map(ToString::to_string);
        view.elements = Some(ElementsView {
            total: ended.spec.count(),
            pending: 0,
            running: 0,
            completed: ended.completed,
            unsuccessful: ended.unsuccessful,
        });
    } else {
        let leader = view.nodes.first().cloned().unwrap_or_default();
        set_paths(&mut view, &ended.spec, 0, &leader);
    }
    view
}

/// What is common to the elements of a job, hot or ended.
#[derive(Debug, Clone, Copy)]
pub struct ElementOf<'a> {
    /// The array's number.
    pub id: u32,
    /// What was asked.
    pub spec: &'a JobSpec,
    /// Whose.
    pub owner: &'a Owner,
    /// When admitted.
    pub submitted: Timestamp,
}

/// The ended elements of one row that are meant.
#[must_use]
pub fn element_views(of: ElementOf<'_>, row: &ElementRow, meant: &IndexSet) -> Vec<JobView> {
    let mut views: Vec<JobView> = row
        .ends
        .iter()
        .filter(|end| meant.contains(end.position))
        .map(|end| element_view(of, &row.granted, end))
        .collect();
    if let Some(never) = &row.never_started {
        let mut positions = never.positions.clone();
        positions.intersect(meant);
        for position in positions.iter() {
            views.push(element_view(of, &row.granted, &never.end_at(position)));
        }
    }
    views
}

fn element_view(of: ElementOf<'_>, granted: &Granted, end: &ElementEnd) -> JobView {
    let mut view = blank(of.id, end.position, of.spec, of.owner, of.submitted);
    view.start_time = end.started;
    view.end_time = Some(end.ended);
    view.restarts = end.restarts;
    set_granted(&mut view, granted);
    set_end(
        &mut view,
        end.state,
        &end.reason,
        end.exit,
        end.cancelled_by,
        end.usage,
    );
    let leader = view.nodes.first().cloned().unwrap_or_default();
    set_paths(&mut view, of.spec, end.position, &leader);
    view
}

/// A step that ended, its rows of all nodes together.
#[must_use]
pub fn step_views(rows: &[StepRow]) -> Vec<StepView> {
    let mut views: BTreeMap<u32, StepView> = BTreeMap::new();
    for row in rows {
        let wall_s = seconds(row.ended.minus(row.started));
        let state = if row.exit.is_success() {
            JobState::Completed
        } else {
            JobState::Failed
        };
        let view = StepView {
            id: row.step.label(),
            name: row.name.clone(),
            state: state.word().to_owned(),
            exit_code: (row.exit.signal == 0).then_some(row.exit.code),
            signal: (row.exit.signal != 0).then_some(row.exit.signal),
            ntasks: row.ntasks,
            start_time: Some(row.started),
            end_time: Some(row.ended),
            usage: Some(usage_view(row.usage, wall_s)),
        };
        match views.get_mut(&row.step.0) {
            Some(known) => {
                known.ntasks = known.ntasks.saturating_add(view.ntasks);
                if !row.exit.is_success() {
                    (known.state, known.exit_code, known.signal) =
                        (view.state, view.exit_code, view.signal);
                }
            }
            None => _ = views.insert(row.step.0, view),
        }
    }
    views.into_values().collect()
}

/// A node.
#[must_use]
pub fn node_view(snapshot: &Snapshot, node: &Node) -> NodeView {
    let mut jobs = Vec::new();
    for job in snapshot.jobs.values() {
        for slot in job
            .slots
            .iter()
            .filter(|slot| slot.allocation.share(node.id).is_some())
        {
            let position = slot
                .current
                .map(|current| current.position)
                .or_else(|| slot.queue.first());
            let index = position.and_then(|position| job.index_of(position));
            jobs.push(
                index.map_or_else(|| job.id.to_string(), |index| format!("{}_{index}", job.id)),
            );
        }
    }
    let topology = &node.inventory.topology;
    let reason = match (&node.drain, node.link) {
        (Some(drain), _) => Some(drain.clone()),
        (None, Link::Silent(_)) => Some("Not responding".to_owned()),
        (None, Link::Down(_)) => Some("Not responding, declared lost".to_owned()),
        (None, Link::Up) => None,
    };
    NodeView {
        name: node.name().to_owned(),
        state: node.state().word().to_owned(),
        responding: node.link == Link::Up,
        reason,
        cpus: node.cpus_total(),
        cpus_free: node.cpus_free.len(),
        memory_mib: node.memory_total_mib(),
        memory_free_mib: node.memory_free_mib(),
        gpus: topology
            .gpus
            .iter()
            .map(|gpu| GpuView {
                index: gpu.index,
                kind: gpu.kind.clone(),
                uuid: gpu.uuid.clone(),
                memory_mib: gpu.memory_mib,
                free: node.gpus_free.contains(&gpu.index),
            })
            .collect(),
        numa_nodes: u32::try_from(topology.numa_nodes.len()).unwrap_or(u32::MAX),
        jobs,
        version: node.inventory.version.clone(),
        uid: node.inventory.uid,
        remarks: node.inventory.remarks.clone(),
    }
}

/// A partition: all nodes are in every partition so far.
#[must_use]
pub fn partition_view(snapshot: &Snapshot, partition: &Partition) -> PartitionView {
    PartitionView {
        name: partition.name.clone(),
        default: partition.default,
        state: if partition.up { "UP" } else { "DOWN" }.to_owned(),
        max_time_s: partition.max_time_s,
        nodes: snapshot
            .nodes
            .values()
            .map(|node| node.name())
            .filter(|name| partition.has_node(name))
            .map(str::to_owned)
            .collect(),
    }
}

/// Whether output goes to a client's stream rather than to files.
#[must_use]
pub fn streams_to_client(spec: &JobSpec) -> bool {
    spec.launch.is_step() && spec.output.is_none()
}
