//! The objects of `--json`, field by field as the contract lists them. Fields are only ever added.
//!
//! They are spelled out here rather than derived from the wire's views, so that a change of the protocol
//! cannot change what programs read. Times are RFC 3339 in UTC.

use crate::cli::exit::Outcome;
use crate::model::job::JobState;
use crate::model::time::Timestamp;
use crate::wire::view::{
    ElementsView, GpuView, JobView, LinkView, NodeView, PartitionView, PlacementView, RuleView,
    StatusView, StepPlaceView, StepView, UsageView,
};
use serde::{Serialize, Serializer};
use std::borrow::Cow;
use std::io::Write;

/// A point in time as a text.
struct Time(Timestamp);

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// A job, an element, or the pending rest of an array.
#[derive(Serialize)]
pub(in crate::cli) struct Job<'a> {
    id: u32,
    array_task: Option<u32>,
    array_tasks: Option<&'a str>,
    raw_id: u32,
    name: &'a str,
    user: &'a str,
    uid: u32,
    account: &'a str,
    qos: &'a str,
    partition: &'a str,
    state: &'a str,
    reason: Option<&'a str>,
    reason_detail: Option<&'a str>,
    exit_code: Option<u8>,
    signal: Option<u8>,
    cancelled_by: Option<u32>,
    submit_time: Time,
    start_time: Option<Time>,
    end_time: Option<Time>,
    expected_start: Option<Time>,
    begin_time: Option<Time>,
    time_limit_s: Option<u32>,
    nodes: &'a [String],
    nodes_requested: u32,
    ntasks: u32,
    cpus: u32,
    cpus_per_task: u32,
    memory_mib: u64,
    gpus: u32,
    restarts: u32,
    dependency: Option<&'a str>,
    work_dir: &'a str,
    stdout_path: Option<&'a str>,
    stderr_path: Option<&'a str>,
    command: &'a str,
    comment: Option<&'a str>,
    priority: i64,
    elements: Option<Elements>,
    placement: Vec<Placement<'a>>,
    steps: Vec<Step<'a>>,
    usage: Option<Usage>,
}

#[derive(Serialize)]
struct Elements {
    total: u32,
    pending: u32,
    running: u32,
    completed: u32,
    unsuccessful: u32,
}

#[derive(Serialize)]
struct Placement<'a> {
    node: &'a str,
    cpus: &'a str,
    memory_mib: u64,
    gpus: &'a [u32],
    tasks: u32,
}

#[derive(Serialize)]
struct Step<'a> {
    id: Cow<'a, str>,
    name: &'a str,
    state: &'a str,
    exit_code: Option<u8>,
    signal: Option<u8>,
    ntasks: u32,
    start_time: Option<Time>,
    end_time: Option<Time>,
    usage: Option<Usage>,
    /// Of one that runs; null of one that has ended.
    nodes: Option<Vec<&'a str>>,
    cpus: Option<u32>,
    placement: Option<Vec<StepNode<'a>>>,
}

#[derive(Serialize)]
struct StepNode<'a> {
    node: &'a str,
    ranks: String,
    cpus: String,
}

#[derive(Serialize)]
struct Usage {
    cpu_s: f64,
    max_rss_mib: f64,
    energy_j: Option<f64>,
    read_bytes: u64,
    write_bytes: u64,
    wall_s: f64,
}

#[derive(Serialize)]
pub(in crate::cli) struct Node<'a> {
    name: &'a str,
    state: &'a str,
    responding: bool,
    reason: Option<&'a str>,
    cpus: u32,
    cpus_free: u32,
    memory_mib: u64,
    memory_free_mib: u64,
    gpus: Vec<Gpu<'a>>,
    numa_nodes: u32,
    jobs: &'a [String],
    version: &'a str,
    remarks: &'a [String],
    /// Words that `--constraint` may ask for.
    features: Vec<&'a str>,
    /// The path of the switch that its cable goes to; null where nothing is said.
    switch: Option<&'a str>,
    /// How often it was lost of late, each time half forgotten after a week.
    failures: f64,
    /// `unix`, `quic` or `tcp`; null while it is not connected.
    path: Option<&'a str>,
    address: Option<&'a str>,
}

#[derive(Serialize)]
struct Gpu<'a> {
    index: u32,
    kind: &'a str,
    uuid: &'a str,
    memory_mib: u64,
    free: bool,
}

#[derive(Serialize)]
pub(in crate::cli) struct Partition<'a> {
    name: &'a str,
    default: bool,
    state: &'a str,
    max_time_s: Option<u32>,
    nodes: &'a [String],
}

#[derive(Serialize)]
pub(in crate::cli) struct Status<'a> {
    cluster: &'a str,
    version: &'a str,
    pid: u32,
    state_dir: &'a str,
    socket: &'a str,
    started: Time,
    now: Time,
    nodes: u32,
    nodes_responding: u32,
    cpus: u32,
    cpus_free: u32,
    jobs_pending: u64,
    jobs_running: u64,
    elements_pending: u64,
}

impl<'a> From<&'a JobView> for Job<'a> {
    fn from(view: &'a JobView) -> Self {
        Job {
            id: view.id,
            array_task: view.array_task,
            array_tasks: view.array_tasks.as_deref(),
            raw_id: view.raw_id,
            name: &view.name,
            user: &view.user,
            uid: view.uid,
            account: &view.account,
            qos: &view.qos,
            partition: &view.partition,
            state: &view.state,
            reason: view.reason.as_deref(),
            reason_detail: view.reason_detail.as_deref(),
            exit_code: view.exit_code,
            signal: view.signal,
            cancelled_by: view.cancelled_by,
            submit_time: Time(view.submit_time),
            start_time: view.start_time.map(Time),
            end_time: view.end_time.map(Time),
            expected_start: view.expected_start.map(Time),
            begin_time: view.begin_time.map(Time),
            time_limit_s: view.time_limit_s,
            nodes: &view.nodes,
            nodes_requested: view.nodes_requested,
            ntasks: view.ntasks,
            cpus: view.cpus,
            cpus_per_task: view.cpus_per_task,
            memory_mib: view.memory_mib,
            gpus: view.gpus,
            restarts: view.restarts,
            dependency: view.dependency.as_deref(),
            work_dir: &view.work_dir,
            stdout_path: view.stdout_path.as_deref(),
            stderr_path: view.stderr_path.as_deref(),
            command: &view.command,
            comment: view.comment.as_deref(),
            priority: view.priority,
            elements: view.elements.as_ref().map(Elements::from),
            placement: view.placement.iter().map(Placement::from).collect(),
            steps: view.steps.iter().map(Step::from).collect(),
            usage: view.usage.as_ref().map(Usage::from),
        }
    }
}

impl From<&ElementsView> for Elements {
    fn from(view: &ElementsView) -> Self {
        Elements {
            total: view.total,
            pending: view.pending,
            running: view.running,
            completed: view.completed,
            unsuccessful: view.unsuccessful,
        }
    }
}

impl<'a> From<&'a PlacementView> for Placement<'a> {
    fn from(view: &'a PlacementView) -> Self {
        Placement {
            node: &view.node,
            cpus: &view.cpus,
            memory_mib: view.memory_mib,
            gpus: &view.gpus,
            tasks: view.tasks,
        }
    }
}

impl<'a> From<&'a StepView> for Step<'a> {
    fn from(view: &'a StepView) -> Self {
        Step {
            id: Cow::Borrowed(&view.id),
            name: &view.name,
            state: &view.state,
            exit_code: view.exit_code,
            signal: view.signal,
            ntasks: view.ntasks,
            start_time: view.start_time.map(Time),
            end_time: view.end_time.map(Time),
            usage: view.usage.as_ref().map(Usage::from),
            nodes: None,
            cpus: None,
            placement: None,
        }
    }
}

impl<'a> From<&'a StepPlaceView> for Step<'a> {
    fn from(view: &'a StepPlaceView) -> Self {
        let nodes = || view.nodes.iter();
        let placement = nodes().map(|node| StepNode {
            node: &node.node,
            ranks: node.ranks.to_string(),
            cpus: node.cpus.to_string(),
        });
        Step {
            id: Cow::Owned(view.step.to_string()),
            name: &view.name,
            state: JobState::Running.word(),
            exit_code: None,
            signal: None,
            ntasks: nodes().map(|node| node.ranks.len()).sum(),
            start_time: None,
            end_time: None,
            usage: None,
            nodes: Some(nodes().map(|node| node.node.as_str()).collect()),
            cpus: Some(nodes().map(|node| node.cpus.len()).sum()),
            placement: Some(placement.collect()),
        }
    }
}

impl<'a> Job<'a> {
    /// The same with its running steps, after those that have ended.
    pub(in crate::cli) fn with_running(mut self, places: &'a [StepPlaceView]) -> Self {
        let running = places.iter().map(Step::from);
        // One may have ended between the two questions.
        let running: Vec<Step<'a>> = running
            .filter(|step| self.steps.iter().all(|ended| ended.id != step.id))
            .collect();
        self.steps.extend(running);
        self
    }
}

impl From<&UsageView> for Usage {
    fn from(view: &UsageView) -> Self {
        Usage {
            cpu_s: view.cpu_s,
            max_rss_mib: view.max_rss_mib,
            energy_j: view.energy_j,
            read_bytes: view.read_bytes,
            write_bytes: view.write_bytes,
            wall_s: view.wall_s,
        }
    }
}

impl<'a> Node<'a> {
    /// A node, and how it is reached.
    pub(in crate::cli) fn new(
        view: &'a NodeView,
        links: &'a [LinkView],
        said: &'a [RuleView],
    ) -> Self {
        let link = links.iter().find(|link| link.node == view.name);
        Node {
            path: link
                .map(|link| link.path.as_str())
                .filter(|path| !path.is_empty()),
            address: link.and_then(|link| link.address.as_deref()),
            name: &view.name,
            state: &view.state,
            responding: view.responding,
            reason: view.reason.as_deref(),
            cpus: view.cpus,
            cpus_free: view.cpus_free,
            memory_mib: view.memory_mib,
            memory_free_mib: view.memory_free_mib,
            gpus: view.gpus.iter().map(Gpu::from).collect(),
            numa_nodes: view.numa_nodes,
            jobs: &view.jobs,
            version: &view.version,
            remarks: &view.remarks,
            features: crate::cli::nodes::features(view, said),
            switch: crate::cli::nodes::setting(view, said, "switch"),
            failures: crate::cli::nodes::setting(view, said, "failures")
                .and_then(|count| count.parse().ok())
                .unwrap_or(0.0),
        }
    }
}

impl<'a> From<&'a GpuView> for Gpu<'a> {
    fn from(view: &'a GpuView) -> Self {
        Gpu {
            index: view.index,
            kind: &view.kind,
            uuid: &view.uuid,
            memory_mib: view.memory_mib,
            free: view.free,
        }
    }
}

impl<'a> From<&'a PartitionView> for Partition<'a> {
    fn from(view: &'a PartitionView) -> Self {
        Partition {
            name: &view.name,
            default: view.default,
            state: &view.state,
            max_time_s: view.max_time_s,
            nodes: &view.nodes,
        }
    }
}

impl<'a> From<&'a StatusView> for Status<'a> {
    fn from(view: &'a StatusView) -> Self {
        Status {
            cluster: &view.cluster,
            version: &view.version,
            pid: view.pid,
            state_dir: &view.state_dir,
            socket: &view.socket,
            started: Time(view.started),
            now: Time(view.now),
            nodes: view.nodes.0,
            nodes_responding: view.nodes.1,
            cpus: view.cpus.0,
            cpus_free: view.cpus.1,
            jobs_pending: view.jobs_pending,
            jobs_running: view.jobs_running,
            elements_pending: view.elements_pending,
        }
    }
}

/// Writes one object and ends the line.
pub(in crate::cli) fn object<T: Serialize>(out: &mut impl Write, value: &T) -> Outcome<()> {
    serde_json::to_writer_pretty(&mut *out, value).map_err(std::io::Error::from)?;
    writeln!(out)?;
    Ok(out.flush()?)
}

/// An array that is written as its items arrive, one on each line.
pub(in crate::cli) struct Array<W: Write> {
    out: W,
    begun: bool,
}

impl<W: Write> Array<W> {
    /// Nothing in it yet.
    pub(in crate::cli) fn new(out: W) -> Self {
        Array { out, begun: false }
    }

    /// Writes an item.
    pub(in crate::cli) fn push<T: Serialize>(&mut self, item: &T) -> Outcome<()> {
        self.out
            .write_all(if self.begun { b",\n" } else { b"[\n" })?;
        self.begun = true;
        serde_json::to_writer(&mut self.out, item).map_err(std::io::Error::from)?;
        Ok(())
    }

    /// Writes the end.
    pub(in crate::cli) fn end(mut self) -> Outcome<W> {
        self.out
            .write_all(if self.begun { b"\n]\n" } else { b"[]\n" })?;
        self.out.flush()?;
        Ok(self.out)
    }
}
