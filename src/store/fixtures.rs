//! Jobs, nodes and ends to store; shared by the unit tests, `tests/store_crash.rs` and `benches/store.rs`, which
//! name the library's modules as their own (`use hpc::{cluster, model, store}`).

#![allow(dead_code, reason = "each user of this page takes a part of it")]

use crate::cluster::changes::{Changes, Counters};
use crate::model::allocation::{Allocation, NodeShare};
use crate::model::history::{ElementRow, EndedJob, Granted, StepRow};
use crate::model::ids::{BlobId, JobId, NodeId, SlotId, StepId};
use crate::model::index_set::IndexSet;
use crate::model::job::{
    ElementEnd, EndSummary, ExitStatus, Hold, Job, JobSpec, JobState, Launch, Owner, Reason, Slot,
    Usage,
};
use crate::model::node::{Inventory, Link, Node, Serves};
use crate::model::step::{Mpi, StepOption, StepOptions};
use crate::model::time::Timestamp;
use crate::store::{Loaded, Reader, StoreError};
use crate::wire::worker::{StepLaunch, StepOrder};
use std::ops::ControlFlow;
use std::sync::Arc;

/// Some morning.
pub(crate) const START: i64 = 1_790_000_000_000;

/// Bytes and their name.
pub(crate) fn blob(text: &str) -> (BlobId, Arc<[u8]>) {
    (BlobId::of(text.as_bytes()), text.as_bytes().into())
}

/// An environment as a login shell has it.
pub(crate) fn environment(user: &str) -> String {
    let mut text = String::new();
    for (name, value) in [
        (
            "PATH",
            "/opt/conda/envs/torch/bin:/opt/conda/condabin:/usr/local/cuda/bin:/usr/local/bin:/usr/bin:/bin",
        ),
        (
            "LD_LIBRARY_PATH",
            "/usr/local/cuda/lib64:/opt/openmpi/lib:/opt/conda/envs/torch/lib",
        ),
        (
            "LS_COLORS",
            "rs=0:di=01;34:ln=01;36:mh=00:pi=40;33:so=01;35:do=01;35:bd=40;33;01:cd=40;33;01:or=40;31;01",
        ),
        ("SSH_CONNECTION", "10.1.4.22 51988 10.1.4.2 22"),
        (
            "XDG_DATA_DIRS",
            "/usr/local/share:/usr/share:/var/lib/snapd/desktop",
        ),
        (
            "MODULEPATH",
            "/opt/modulefiles:/usr/share/modules/modulefiles:/usr/share/modules/$MODULE_VERSION",
        ),
        ("LESSOPEN", "| /usr/bin/lesspipe %s"),
        ("DBUS_SESSION_BUS_ADDRESS", "unix:path=/run/user/1000/bus"),
    ] {
        text.push_str(&format!("{name}={value}\n"));
    }
    for i in 0..40 {
        text.push_str(&format!("LAB_TOOL_{i}_HOME=/opt/tools/{i}/{user}/share\n"));
    }
    text
}

/// What `user` asked for, with three blobs: `script`, `arguments` and `surroundings`.
pub(crate) fn spec(name: &str, array: Option<&str>) -> JobSpec {
    JobSpec {
        name: name.into(),
        partition: "batch".into(),
        account: "default".into(),
        qos: "normal".into(),
        launch: Launch::Script {
            script: blob("script").0,
            arguments: blob(name).0,
        },
        surroundings: blob("surroundings").0,
        command: format!("/home/ada/experiments/{name}.sh --seed 7").into(),
        request: Default::default(),
        array: array.map(|text| Box::new(text.to_owned().try_into().expect("a valid array"))),
        dependency: None,
        kill_on_invalid_dependency: false,
        begin: None,
        time_limit_s: Some(3600),
        hold: false,
        requeue: false,
        nice: 0,
        signal: None,
        work_dir: "/home/ada/experiments".into(),
        output: Some("/home/ada/experiments/logs/%j.out".into()),
        error: None,
        input: None,
        open_mode: Default::default(),
        kill_wait_s: 30,
        comment: None,
        submit_host: "ws1".into(),
    }
}

/// The blobs that [`spec`] names.
pub(crate) fn blobs(name: &str) -> Vec<(BlobId, Arc<[u8]>)> {
    vec![blob("script"), blob(name), blob("surroundings")]
}

/// Who asks.
pub(crate) fn owner() -> Owner {
    Owner {
        uid: 1000,
        gid: 1000,
        name: "ada".into(),
    }
}

/// A job that waits.
pub(crate) fn pending(id: u32, spec: JobSpec) -> Job {
    let count = spec.count();
    Job {
        id: JobId(id),
        spec: Arc::new(spec),
        owner: owner(),
        submitted: Timestamp(START + i64::from(id)),
        hold: Hold::None,
        reason: Reason::None,
        pending: IndexSet::from_range(0, count),
        waiting: IndexSet::new().into(),
        slots: Vec::new(),
        slot_next: 0,
        restarts: Vec::new().into(),
        ends: EndSummary::default().into(),
        granted: Arc::default(),
        row_next: 0,
        not_before: None,
        waits_for: Vec::new().into(),
        step_next: 0,
        unsuccessful: IndexSet::default().into(),
        pace_us: 0,
    }
}

/// The same job with all it had waiting given to one new slot.
pub(crate) fn started(job: &Job, node: u32) -> Job {
    let mut job = job.clone();
    let queue = std::mem::take(&mut job.pending);
    job.slots.push(Slot {
        id: SlotId(job.slot_next),
        allocation: Arc::new(Allocation {
            nodes: vec![NodeShare {
                node: NodeId(node),
                tasks: 1,
                cpus: [0_u16, 1].into_iter().collect(),
                memory_mib: 2048,
                gpus: vec![],
            }],
        }),
        granted: job.submitted.plus_ms(20),
        given: queue.clone(),
        queue,
        confirmed: false,
        current: None,
        kills: Vec::new(),
        suspended: false,
        stops: Default::default(),
        released: None,
        node_ends: Vec::new(),
        ended_count: 0,
        heard: Timestamp::default(),
        retracting: false,
        gone: false,
        leases: Vec::new(),
        begun: true,
        steps: Vec::new(),
        present: Vec::new(),
        told_to_end: Default::default(),
    });
    job.slot_next += 1;
    job
}

/// What the slot of [`started`] held.
pub(crate) fn granted() -> Arc<Granted> {
    Arc::new(Granted {
        nodes: vec!["ws1".into()],
        cpus: 2,
        memory_mib: 2048,
        gpus: 0,
        ntasks: 1,
    })
}

/// The end of a task that did nothing, or of one that failed.
pub(crate) fn end(position: u32, success: bool) -> ElementEnd {
    let started = START + 1000 + i64::from(position) * 3;
    ElementEnd {
        position,
        state: if success {
            JobState::Completed
        } else {
            JobState::Failed
        },
        reason: if success {
            Reason::None
        } else {
            Reason::NonZeroExitCode
        },
        exit: ExitStatus {
            code: u8::from(!success),
            signal: 0,
        },
        cancelled_by: None,
        started: Some(Timestamp(started)),
        ended: Timestamp(started + 2 + i64::from(position % 3)),
        usage: Usage {
            cpu_ms: 1 + u64::from(position % 2),
            max_rss_kib: 1500 + u64::from(position * 37 % 160),
            read_bytes: 0,
            write_bytes: 0,
        },
        restarts: 0,
    }
}

/// Ends of consecutive positions in one row; every `fails`-th fails (0 = none).
pub(crate) fn element_row(slot: u32, first: u32, count: u32, fails: u32) -> ElementRow {
    let success = |position: u32| fails == 0 || !position.is_multiple_of(fails);
    let ends = (first..first + count)
        .map(|position| end(position, success(position)))
        .collect();
    ElementRow {
        slot: Some(SlotId(slot)),
        granted: granted(),
        ends,
        never_started: None,
    }
}

/// The job's end, `rows` rows of elements behind it.
pub(crate) fn ended(job: &Job, at: i64, rows: u32) -> EndedJob {
    EndedJob {
        id: job.id,
        spec: job.spec.clone(),
        owner: job.owner.clone(),
        submitted: job.submitted,
        started: Some(job.submitted.plus_ms(20)),
        ended: Timestamp(START + at),
        state: JobState::Completed,
        reason: Reason::None,
        exit: ExitStatus::default(),
        cancelled_by: None,
        usage: Usage {
            cpu_ms: 3,
            max_rss_kib: 1620,
            read_bytes: 0,
            write_bytes: 0,
        },
        granted: granted(),
        slot: SlotId(job.slot_next.saturating_sub(1)),
        restarts: 0,
        completed: job.spec.count(),
        unsuccessful: 0,
        rows,
    }
}

/// A step of a job.
pub(crate) fn step(job: u32, step: u32) -> StepRow {
    StepRow {
        job: JobId(job),
        slot: SlotId(0),
        node: NodeId(1),
        step: StepId(step),
        name: "mpi_program".into(),
        ntasks: 8,
        exit: ExitStatus { code: 0, signal: 9 },
        started: Timestamp(START),
        ended: Timestamp(START + 77),
        usage: Usage {
            cpu_ms: 5,
            ..Usage::default()
        },
    }
}

/// How a step was ordered.
pub(crate) fn order(step: u32) -> StepOrder {
    let mut options = StepOptions::default();
    options.say(StepOption::Mpi(Mpi::Pmi2));
    options.say(StepOption::Cpus(vec![(0, [1_u16].into_iter().collect())]));
    StepOrder {
        launch: StepLaunch {
            step: StepId(step),
            arguments: vec!["./mpi_program".into(), "-n".into()],
            environment: vec![(b"LANG".to_vec(), b"C.UTF-8".to_vec())],
            work_dir: "/data".into(),
            tasks: vec![8],
            cpus_per_task: 1,
        },
        options,
    }
}

/// A machine.
pub(crate) fn node(id: u32) -> Node {
    Node {
        serves: Serves::Everyone,
        id: NodeId(id),
        inventory: Arc::new(Inventory {
            name: format!("ws{id}"),
            topology: Default::default(),
            boot_id: "0f2d".into(),
            version: "0.1.0".into(),
            uid: 0,
            remarks: vec![],
        }),
        link: Link::Silent(Timestamp(START)),
        drain: Some("fan".into()),
        failures: Default::default(),
        cpus_free: Default::default(),
        memory_granted_mib: 0,
        gpus_free: vec![],
        gives_leases: false,
    }
}

/// Changes that bring or alter one job.
pub(crate) fn with_job(job: &Job) -> Changes {
    Changes {
        jobs: vec![(job.id, Some(Arc::new(job.clone())))],
        counters: Some(Counters {
            job_next: job.id.0 + 1,
            node_next: 2,
        }),
        ..Changes::default()
    }
}

/// Changes that end one job.
pub(crate) fn with_end(ended: EndedJob) -> Changes {
    Changes {
        jobs: vec![(ended.id, None)],
        ended: vec![ended],
        ..Changes::default()
    }
}

/// Everything a store holds, as its readers see it.
#[derive(Debug, PartialEq)]
pub(crate) struct Contents {
    pub(crate) loaded: Loaded,
    pub(crate) history: Vec<EndedJob>,
    pub(crate) rows: Vec<(JobId, u32, ElementRow)>,
    pub(crate) steps: Vec<StepRow>,
    pub(crate) blobs: Vec<(BlobId, Option<Vec<u8>>)>,
}

/// Reads it all; `blobs` are the names to look for.
pub(crate) fn contents(
    loaded: Loaded,
    reader: &Reader,
    blobs: &[BlobId],
) -> Result<Contents, StoreError> {
    let mut history = Vec::new();
    reader.history(Timestamp(i64::MIN), Timestamp(i64::MAX), &mut |ended| {
        history.push(ended);
        ControlFlow::Continue(())
    })?;
    let (mut rows, mut steps) = (Vec::new(), Vec::new());
    for id in 0..loaded.counters.job_next {
        let id = JobId(id);
        reader.element_rows(id, &mut |number, row| {
            rows.push((id, number, row));
            ControlFlow::Continue(())
        })?;
        steps.extend(reader.steps(id)?);
    }
    let blobs = blobs
        .iter()
        .map(|id| Ok((*id, reader.blob(*id)?)))
        .collect::<Result<_, StoreError>>()?;
    Ok(Contents {
        loaded,
        history,
        rows,
        steps,
        blobs,
    })
}
