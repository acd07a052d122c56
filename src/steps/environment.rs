//! The environment of a job's processes: the submitter's, less what belonged to another job, plus Slurm's
//! variables, each also under `HPC_`.
//!
//! Most of it is the same for every element of a slot. So it is made once, as C strings behind an `Arc`, and
//! each element replaces only the tail; while nobody else holds the `Arc`, that copies nothing.

use super::launch_plan::{LaunchPlan, PMI_FD};
use super::placement::Placement;
use crate::model::amounts;
use crate::model::array::ArraySpec;
use crate::model::distribution::Distribution;
use crate::model::hostlist;
use crate::model::ids::StepId;
use crate::model::mpirun;
use crate::model::resource::{GpuCount, GpuRequest, MemoryRequest};
use crate::model::step::{Mpi, StepOptions};
use crate::wire::shepherd::Site;
use crate::wire::worker::{SlotLaunch, StepLaunch, element_raw_id};
use std::collections::BTreeMap;
use std::ffi::CString;
use std::fmt::Display;
use std::sync::Arc;

/// Variables of Slurm's that say something about a client or a site and not about a job: these stay.
const SLURM_KEPT: [&str; 4] = [
    "SLURM_CONF",
    "SLURM_TIME_FORMAT",
    "SLURM_CLUSTERS",
    "SLURM_EXPORT_ENV",
];
/// Beginnings of our own variables that say something about a job: these go.
const HPC_REMOVED: [&str; 21] = [
    "HPC_ARRAY_",
    "HPC_CLUSTER_NAME",
    "HPC_CPUS_",
    "HPC_CREDENTIAL",
    "HPC_GPUS",
    "HPC_GTIDS",
    "HPC_JOB",
    "HPC_LOCALID",
    "HPC_MEM_PER_",
    "HPC_NNODES",
    "HPC_NODEID",
    "HPC_NODELIST",
    "HPC_NPROCS",
    "HPC_NTASKS",
    "HPC_PROCID",
    "HPC_RESTART_COUNT",
    "HPC_SLOT",
    "HPC_STEP",
    "HPC_SUBMIT_",
    "HPC_TASKS_PER_NODE",
    "HPC_TASK_PID",
];
/// What tells a program which GPUs it may use, for each vendor's runtime.
const VISIBLE_DEVICES: [&str; 3] = [
    "CUDA_VISIBLE_DEVICES",
    "ROCR_VISIBLE_DEVICES",
    "ZE_AFFINITY_MASK",
];
/// Where programs are found when the submitter had no PATH.
const PATH_DEFAULT: &str = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin";

/// Whether a variable of the submitter's described the job it was submitted from.
fn belongs_to_a_job(name: &[u8]) -> bool {
    let starts = |prefix: &str| name.starts_with(prefix.as_bytes());
    if starts("SLURM_") || starts("SLURMD_") {
        return !SLURM_KEPT.iter().any(|kept| name == kept.as_bytes());
    }
    starts("PMI_") || starts("PMIX_") || HPC_REMOVED.iter().any(|prefix| starts(prefix))
}

/// An environment under construction: later settings win.
#[derive(Debug, Default)]
struct Builder {
    variables: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Builder {
    /// Sets one variable.
    fn set(&mut self, name: &str, value: impl Display) {
        self.variables
            .insert(name.as_bytes().to_vec(), value.to_string().into_bytes());
    }

    /// Sets one unless it is there.
    fn set_default(&mut self, name: &str, value: &str) {
        self.variables
            .entry(name.as_bytes().to_vec())
            .or_insert_with(|| value.as_bytes().to_vec());
    }

    /// Sets `SLURM_name` and `HPC_name`.
    fn job(&mut self, name: &str, value: impl Display) {
        let value = value.to_string();
        self.set(&format!("SLURM_{name}"), &value);
        self.set(&format!("HPC_{name}"), &value);
    }

    /// Notes what the amounts were set to, so that what a user sets them to is known to be said.
    fn note_amounts(&mut self) {
        let note = amounts::note(|name| {
            let value = self.variables.get(name.as_bytes())?;
            Some(String::from_utf8_lossy(value).into_owned())
        });
        self.set(amounts::NOTE, note);
    }

    /// Variables as `NAME=value`; what holds a zero byte or has no name cannot exist and is left out.
    fn strings(self) -> Vec<CString> {
        let lines = self
            .variables
            .into_iter()
            .filter(|(name, _)| !name.is_empty() && !name.contains(&b'='));
        lines
            .filter_map(|(name, value)| CString::new([name, value].join(&b'=')).ok())
            .collect()
    }
}

/// The environment of one slot's elements.
#[derive(Debug)]
pub(super) struct Environment {
    strings: Arc<Vec<CString>>,
    /// Strings up to here are the same for all.
    constant: usize,
}

/// What differs between elements.
#[derive(Debug, Clone, Copy)]
pub(super) struct ElementFacts {
    /// Its position.
    pub(super) position: u32,
    /// How often it was put back.
    pub(super) restarts: u32,
    /// Start; seconds since 1970.
    pub(super) started_s: i64,
}

/// What differs between the tasks of a step.
#[derive(Debug, Clone)]
pub(super) struct TaskFacts {
    /// Its rank in the step.
    pub(super) rank: u32,
    /// Its number among the step's tasks here.
    pub(super) local: u32,
    /// The node's number in the step.
    pub(super) node: u32,
    /// Ranks of the step that run here.
    pub(super) ranks: Arc<str>,
    /// The GPUs it may use, by index: those of its slot here, or its own part of them.
    pub(super) gpus: Arc<str>,
}

impl Environment {
    /// The part that is the same for every element of the slot.
    pub(super) fn of_slot(
        launch: &SlotLaunch,
        submitted: &[(Vec<u8>, Vec<u8>)],
        site: &Site,
    ) -> Self {
        let mut env = Builder::default();
        for (name, value) in submitted.iter().filter(|(name, _)| !belongs_to_a_job(name)) {
            env.variables.insert(name.clone(), value.clone());
        }
        of_account(&mut env, site);
        of_job(&mut env, launch, site);
        submitted_from(&mut env, submitted);
        of_place(&mut env, launch);
        of_launchers(&mut env, site);
        if launch.spec.launch.is_attached() {
            env.variables.remove(b"ENVIRONMENT".as_slice());
        } else {
            env.set("ENVIRONMENT", "BATCH");
        }
        env.note_amounts();
        let strings = env.strings();
        Environment {
            constant: strings.len(),
            strings: Arc::new(strings),
        }
    }

    /// The part that is the same for every task of an extra step: its caller's, with the step's own variables. What a remote
    /// shell would start speaks for all of the job here, as a batch script does.
    pub(super) fn of_step(
        launch: &SlotLaunch,
        step: &StepLaunch,
        options: &StepOptions,
        site: &Site,
    ) -> Self {
        let mut env = Builder::default();
        env.variables.extend(step.environment.iter().cloned());
        // The caller's own number, if it is a task.
        for name in [b"SLURM_TASK_PID".as_slice(), b"HPC_TASK_PID"] {
            env.variables.remove(name);
        }
        of_account(&mut env, site);
        of_job(&mut env, launch, site);
        submitted_from(&mut env, &step.environment);
        of_place(&mut env, launch);
        of_launchers(&mut env, site);
        if options.remote_shell().is_none() {
            step_names(&mut env, step.step, &launch.nodes, &step.tasks);
            distribution_names(&mut env, options);
            env.job("CPUS_PER_TASK", step.cpus_per_task.max(1));
            if let Some(tasks) = options.tasks_per_node() {
                env.job("NTASKS_PER_NODE", tasks);
            }
            if let Some(cpus) = options.cpus_on(launch.node_index) {
                env.job("CPUS_ON_NODE", cpus.len());
            }
        }
        env.note_amounts();
        let strings = env.strings();
        Environment {
            constant: strings.len(),
            strings: Arc::new(strings),
        }
    }

    /// The whole environment of one task; a batch script's is that of rank 0.
    pub(super) fn of_task(
        &mut self,
        launch: &SlotLaunch,
        element: ElementFacts,
        task: &TaskFacts,
    ) -> Arc<Vec<CString>> {
        let raw = element_raw_id(launch.key.job, element.position);
        let strings = Arc::make_mut(&mut self.strings);
        strings.truncate(self.constant);
        let mut job = |name: &str, value: &dyn Display| {
            // Values of ours never hold a zero byte.
            strings.extend(CString::new(format!("SLURM_{name}={value}")));
            strings.extend(CString::new(format!("HPC_{name}={value}")));
        };
        job("JOB_ID", &raw);
        job("JOBID", &raw);
        job("JOB_START_TIME", &element.started_s);
        if let Some(limit) = launch.time_limit_s {
            job(
                "JOB_END_TIME",
                &element.started_s.saturating_add(i64::from(limit)),
            );
        }
        if let Some(array) = &launch.spec.array {
            job("ARRAY_TASK_ID", &array.index_at(element.position));
        }
        if element.restarts > 0 {
            job("RESTART_COUNT", &element.restarts);
        }
        job("PROCID", &task.rank);
        job("LOCALID", &task.local);
        job("NODEID", &task.node);
        job("GTIDS", &task.ranks);
        if !task.gpus.is_empty() {
            job("STEP_GPUS", &task.gpus);
            for name in VISIBLE_DEVICES {
                strings.extend(CString::new(format!("{name}={}", task.gpus)));
            }
        }
        self.strings.clone()
    }
}

/// What the variables of a wired task depend on, beside its number.
#[derive(Debug, Clone, Copy)]
pub(super) struct WireEnvironment {
    /// Ranks of the step.
    pub(super) size: u32,
    /// Ranks here.
    pub(super) here: u32,
    /// How they find each other.
    pub(super) mpi: Mpi,
    /// Each has a PMI socket.
    pub(super) sockets: bool,
    /// There are more ranks here than cpus.
    pub(super) crowded: bool,
    /// Cpus that the machine has.
    pub(super) machine_cpus: u32,
    /// Nobody needs to know where devices are.
    pub(super) hides_devices: bool,
    /// No device of a network reads the memory of ranks by itself,
    pub(super) no_rdma: bool,
    /// and no other does.
    pub(super) memory_is_ours: bool,
    /// Where a rank of another step has asked for this one, so that tasks share cpus: those for which each has threads.
    pub(super) spawned: Option<u32>,
}

/// What the machine is, as far as it matters for the environment of ranks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    /// Cpus that there really are.
    pub cpus: u32,
    /// It has one NUMA node: all its devices are as near to one cpu as to another.
    pub is_one_numa_node: bool,
    /// It has what reads and writes the memory of programs by itself: RDMA, or modules of the kernel of that kind.
    pub has_rdma: bool,
}

impl Default for Machine {
    fn default() -> Self {
        Machine {
            cpus: u32::MAX,
            is_one_numa_node: false,
            has_rdma: true,
        }
    }
}

/// Spares ranks the look at every device. hwloc does it in each of them to find which device is near to which cpu, which is
/// one answer where there is one NUMA node: of the start of a rank on a virtual machine of two cpus it was a third (28 ms of
/// processor time, 16 without, for MPICH 4.0; 85 and 55 for Open MPI 4.1), most of it in reads of PCI registers, for which
/// the kernel has one lock. The names that a build of hwloc does not know are nothing to it.
const NO_DEVICES: [(&str, &str); 2] = [
    (
        "HWLOC_COMPONENTS",
        "-linuxio,-pci,-opencl,-cuda,-nvml,-rsmi,-levelzero,-gl",
    ),
    // Those that are plugins would be loaded to be told so.
    ("HWLOC_PLUGINS_PATH", "/nonexistent"),
];

/// Spares ranks the watch over what they map and unmap, which UCX keeps by patching the C library: it is of use only where
/// devices know of the rank's memory. Of the start of a rank of MPICH 5 it was two thirds (63 ms of processor time, 22
/// without), most of it waiting in circles.
const NO_WATCH: [(&str, &str); 1] = [("UCX_MEM_EVENTS", "n")];
/// Has Open MPI leave alone what it would try and then put away, as there is nothing to use it with. When Open MPI 5 puts
/// away the first of these it sleeps for a second; the libraries of the second line measure their clocks for a tenth of a
/// second each as they are loaded. Two ranks took 1.2 s with Open MPI 5 and 0.12 s without, 0.34 s and 0.14 s with 4.1.
const NO_RDMA: [(&str, &str); 2] = [
    ("OMPI_MCA_btl", "^ofi,uct,openib,usnic"),
    ("OMPI_MCA_mtl", "^psm,psm2,ofi,portals4"),
];

/// Ranks of Intel MPI on one node tell each other where they are by memory alone, and not once more over a network that they
/// do not need: 16 ranks on two cpus start in 2.08 s and not in 2.17, 64 in 7.8 s and not in 8.5.
const BY_MEMORY: [(&str, &str); 1] = [("I_MPI_STARTUP_MODE", "pmi_shm")];

/// Names the number of threads that we have chosen, so that a step within does not take it for the user's choice.
const OUR_THREADS: &str = "HPC_OMP_NUM_THREADS";

/// Gives a task of a step what it needs to find its peers, and to use its cpus and no others. What the user has set for
/// an MPI or for OpenMP stays.
pub(super) fn wire(plan: &mut LaunchPlan, local: u32, facts: &WireEnvironment) {
    let strings = Arc::make_mut(&mut plan.environment);
    let value = |strings: &[CString], name: &str| {
        let line = |line: &CString| {
            let rest = line.as_bytes().strip_prefix(name.as_bytes())?;
            rest.strip_prefix(b"=").map(<[u8]>::to_vec)
        };
        strings.iter().find_map(line)
    };
    let ours = value(strings, OUR_THREADS);
    let threads_are_ours = ours.is_some() && ours == value(strings, "OMP_NUM_THREADS");
    strings.retain(|line| {
        let line = line.as_bytes();
        let of_threads = line.starts_with(b"OMP_NUM_THREADS=") && threads_are_ours;
        let name = line.split(|byte| *byte == b'=').next().unwrap_or_default();
        // What a rank of an outer step was told.
        !of_threads && !mpirun::tells_a_rank(name) && !spares_a_rank(line)
    });
    let set = |strings: &mut Vec<CString>, name: &str, value: &str| {
        strings.extend(CString::new(format!("{name}={value}")));
    };
    let threads = facts.spawned.unwrap_or(plan.cpus.len()).max(1);
    if value(strings, "OMP_NUM_THREADS").is_none() {
        let threads = threads.to_string();
        strings.retain(|line| !line.as_bytes().starts_with(OUR_THREADS.as_bytes()));
        set(strings, "OMP_NUM_THREADS", &threads);
        set(strings, OUR_THREADS, &threads);
    }
    let mut defaults: Vec<(&str, &str)> = Vec::new();
    // Where cpus were only declared, tasks are not bound, and threads would crowd the first of those there are.
    let real = plan
        .cpus
        .iter()
        .all(|cpu| u32::from(cpu) < facts.machine_cpus);
    if real && threads > 1 && facts.spawned.is_none() {
        defaults.extend([("OMP_PROC_BIND", "close"), ("OMP_PLACES", "threads")]);
    }
    if facts.sockets {
        let rank = plan.task.rank.to_string();
        for (name, value) in [
            ("PMI_FD", PMI_FD.to_string()),
            ("PMI_RANK", rank),
            ("PMI_SIZE", facts.size.to_string()),
            ("PMI_SPAWNED", u8::from(facts.spawned.is_some()).to_string()),
            ("MPI_LOCALRANKID", local.to_string()),
            ("MPI_LOCALNRANKS", facts.here.to_string()),
        ] {
            set(strings, name, &value);
        }
        plan.pmi = true;
        // An MPICH that finds PMI and PMIx side by side calls that ambiguous unless it is told.
        defaults.push(match facts.mpi {
            Mpi::Pmi2 => ("MPIR_CVAR_PMI_VERSION", "2"),
            Mpi::Pmix => ("MPIR_CVAR_PMI_VERSION", "x"),
            Mpi::Auto | Mpi::Pmi1 | Mpi::None => ("MPIR_CVAR_PMI_VERSION", "1"),
        });
        // Open MPI 4 would call itself alone, and be content with that; and ranks are bound already.
        defaults.extend([
            ("OMPI_MCA_schizo", "^orte"),
            ("OMPI_MCA_orte_externally_bound", "1"),
            ("OMPI_MCA_hwloc_base_binding_policy", "none"),
        ]);
        let says_much = |line: &CString| line.as_bytes().starts_with(b"HWLOC_");
        if facts.hides_devices && !strings.iter().any(says_much) {
            defaults.extend(NO_DEVICES);
        }
        let says_much = |line: &CString| line.as_bytes().starts_with(b"UCX_MEM_");
        if facts.memory_is_ours && !strings.iter().any(says_much) {
            defaults.extend(NO_WATCH);
        }
        if facts.no_rdma {
            defaults.extend(NO_RDMA);
        }
        if facts.here == facts.size && facts.spawned.is_none() {
            defaults.extend(BY_MEMORY);
        }
        if facts.crowded {
            // Ranks that share a cpu let each other on while they wait. Those of Intel MPI took half the time with it.
            defaults.extend([
                ("OMPI_MCA_mpi_yield_when_idle", "1"),
                ("I_MPI_THREAD_YIELD", "2"),
            ]);
        }
    }
    for (name, default) in defaults {
        if value(strings, name).is_none() {
            set(strings, name, default);
        }
    }
}

/// Whether this is a line of [`NO_DEVICES`] and its like: it was said to a rank of an outer step.
fn spares_a_rank(line: &[u8]) -> bool {
    NO_DEVICES
        .iter()
        .chain(&NO_WATCH)
        .chain(&NO_RDMA)
        .chain(&BY_MEMORY)
        .any(|(name, value)| {
            let rest = line.strip_prefix(name.as_bytes());
            rest.and_then(|rest| rest.strip_prefix(b"=")) == Some(value.as_bytes())
        })
}

/// Adds what a task needs to find its server of PMIx.
pub(super) fn add_pmix(plan: &mut LaunchPlan, variables: &[(String, String)]) {
    add(plan, variables);
    // An MPICH, or one that is started by a launcher in here, must not take it for meant for itself.
    let said = b"MPIR_CVAR_PMI_VERSION=";
    if !plan
        .environment
        .iter()
        .any(|line| line.as_bytes().starts_with(said))
    {
        let version = ("MPIR_CVAR_PMI_VERSION".to_owned(), "1".to_owned());
        add(plan, &[version]);
    }
}

/// Adds variables, which replace what has their names.
pub(super) fn add(plan: &mut LaunchPlan, variables: &[(String, String)]) {
    let strings = Arc::make_mut(&mut plan.environment);
    for (name, value) in variables {
        let start = format!("{name}=");
        strings.retain(|line| !line.as_bytes().starts_with(start.as_bytes()));
        strings.extend(CString::new(format!("{start}{value}")));
    }
}

/// What a login would give, where the submitter's environment does not say.
fn of_account(env: &mut Builder, site: &Site) {
    if let Some(account) = &site.account {
        env.set_default("HOME", &account.home);
        env.set_default("SHELL", &account.shell);
        env.set_default("USER", &account.name);
        env.set_default("LOGNAME", &account.name);
    }
    env.set_default("PATH", PATH_DEFAULT);
    env.set_default("TMPDIR", "/tmp");
}

/// Who and what the job is.
fn of_job(env: &mut Builder, launch: &SlotLaunch, site: &Site) {
    let spec = &launch.spec;
    env.job("JOB_NAME", &spec.name);
    env.job("JOB_PARTITION", &spec.partition);
    env.job("JOB_ACCOUNT", &spec.account);
    env.job("JOB_QOS", &spec.qos);
    let wishes = &spec.request.wishes;
    if let Some(reservation) = &wishes.reservation {
        env.job("JOB_RESERVATION", reservation);
    }
    if !wishes.licenses.is_empty() {
        env.job("JOB_LICENSES", wishes.show_licenses());
    }
    env.job("JOB_USER", &launch.owner.name);
    // As they are on this machine, where that is known.
    let account = site.account.as_ref();
    env.job(
        "JOB_UID",
        account.map_or(launch.owner.uid, |account| account.uid),
    );
    env.job(
        "JOB_GID",
        account.map_or(launch.owner.gid, |account| account.gid),
    );
    env.job("CLUSTER_NAME", &launch.cluster);
    env.job("SUBMIT_DIR", &spec.work_dir);
    if let Some(dependency) = &spec.dependency {
        env.job("JOB_DEPENDENCY", dependency);
    }
    env.job("SUBMIT_HOST", &spec.submit_host);
    if let Some(array) = &spec.array {
        of_array(env, launch, array);
    }
    env.set("HPC_SLOT", format_args!("{}:{}", site.state_id, launch.key));
    env.set("SLURMD_NODENAME", &site.node);
    env.set("HPC_NODENAME", &site.node);
    env.set("HOSTNAME", &site.node);
    for (name, value) in &site.variables {
        env.set(name, value);
    }
}

/// The client says with the environment where it was called: `--chdir` may have sent the job elsewhere.
fn submitted_from(env: &mut Builder, submitted: &[(Vec<u8>, Vec<u8>)]) {
    let said = |name: &[u8]| submitted.iter().find(|(other, _)| other == name);
    if let Some((_, directory)) = said(b"SLURM_SUBMIT_DIR") {
        for name in ["SLURM_SUBMIT_DIR", "HPC_SUBMIT_DIR"] {
            env.variables
                .insert(name.as_bytes().to_vec(), directory.clone());
        }
    }
}

fn of_array(env: &mut Builder, launch: &SlotLaunch, array: &ArraySpec) {
    env.job("ARRAY_JOB_ID", launch.key.job);
    env.job("ARRAY_TASK_COUNT", array.count());
    env.job("ARRAY_TASK_MIN", array.min());
    env.job("ARRAY_TASK_MAX", array.max());
    env.job("ARRAY_TASK_STEP", array.step());
}

/// Where it runs and with how much.
fn of_place(env: &mut Builder, launch: &SlotLaunch) {
    let request = &launch.spec.request;
    let nodes = hostlist::fold(&launch.nodes);
    let tasks = tasks_of(launch);
    let cpus: Vec<u32> = launch.shares.iter().map(|share| share.cpus.len()).collect();
    let total: u32 = tasks.iter().sum();
    for name in ["JOB_NODELIST", "NODELIST"] {
        env.job(name, &nodes);
    }
    for name in ["JOB_NUM_NODES", "NNODES"] {
        env.job(name, launch.nodes.len());
    }
    env.job("TASKS_PER_NODE", repeated(&tasks));
    env.job("JOB_CPUS_PER_NODE", repeated(&cpus));
    let tasks_launch = launch.spec.launch.is_step();
    if request.ntasks.is_some() || request.ntasks_per_node.is_some() || tasks_launch {
        env.job("NTASKS", total);
        env.job("NPROCS", total);
    }
    if let Some(per_node) = request.ntasks_per_node {
        env.job("NTASKS_PER_NODE", per_node);
    }
    if let Some(cpus) = request.cpus_per_task {
        env.job("CPUS_PER_TASK", cpus);
    }
    if tasks_launch {
        step_names(env, StepId(0), &launch.nodes, &tasks);
        distribution_names(env, &launch.spec.launch.step_options());
    }
    let Some(share) = launch.shares.get(launch.node_index as usize) else {
        return;
    };
    env.job("CPUS_ON_NODE", share.cpus.len());
    match request.memory {
        MemoryRequest::PerCpu(mib) => env.job("MEM_PER_CPU", mib),
        MemoryRequest::PerNode(_) => env.job("MEM_PER_NODE", share.memory_mib),
        MemoryRequest::Default => {}
    }
    if !share.gpus.is_empty() {
        let list = share
            .gpus
            .iter()
            .map(u32::to_string)
            .collect::<Vec<_>>()
            .join(",");
        env.job("GPUS_ON_NODE", share.gpus.len());
        env.job("JOB_GPUS", &list);
        // The driver counts by bus, CUDA by speed unless told otherwise.
        env.set("CUDA_DEVICE_ORDER", "PCI_BUS_ID");
        // Each task says for itself which of them it sees; what the submitter had set must not stand beside that.
        for name in VISIBLE_DEVICES {
            env.variables.remove(name.as_bytes());
        }
    }
    let amount = |count: &GpuCount| match &count.kind {
        Some(kind) => format!("{kind}:{}", count.count),
        None => count.count.to_string(),
    };
    match &request.gpus {
        GpuRequest::None => {}
        GpuRequest::Total(count) => env.job("GPUS", amount(count)),
        GpuRequest::PerNode(count) => env.job("GPUS_PER_NODE", amount(count)),
        GpuRequest::PerTask(count) => {
            env.job("GPUS_PER_TASK", amount(count));
            env.job("GPUS", request.gpus_total());
        }
    }
}

/// What `mpirun` needs to know: its files are in the slot's directory, where the script would be.
fn of_launchers(env: &mut Builder, site: &Site) {
    let Some((directory, _)) = site.script.rsplit_once('/') else {
        return;
    };
    let known = |name: &str| env.variables.get(name.as_bytes()).cloned();
    for (name, value) in mpirun::variables(directory, known) {
        env.set(name, value);
    }
}

/// Tasks of the job on each node: a list of hosts may place fewer than there is room for.
fn tasks_of(launch: &SlotLaunch) -> Vec<u32> {
    let listed = launch.spec.launch.step_options();
    match (listed.distribution(), Placement::main(launch)) {
        (Some(Distribution::Arbitrary(_)), Ok(placement)) => placement.counts(launch.nodes.len()),
        _ => launch.shares.iter().map(|share| share.tasks).collect(),
    }
}

/// How ranks are dealt to nodes, where that was said.
fn distribution_names(env: &mut Builder, options: &StepOptions) {
    let Some(distribution) = options.distribution() else {
        return;
    };
    env.job("DISTRIBUTION", distribution.word());
    if let Distribution::Plane(size) = distribution {
        env.job("DIST_PLANESIZE", size);
    }
}

/// What `srun` adds for a step. Names that begin with JOB_ go on to speak of the job, those without are the step's.
fn step_names(env: &mut Builder, step: StepId, nodes: &[String], tasks: &[u32]) {
    let total: u32 = tasks.iter().sum();
    let here = nodes.iter().zip(tasks).filter(|(_, tasks)| **tasks > 0);
    let (names, counts): (Vec<&String>, Vec<u32>) =
        here.map(|(name, tasks)| (name, *tasks)).unzip();
    let folded = hostlist::fold(&names);
    for name in ["STEP_ID", "STEPID"] {
        env.job(name, step);
    }
    for name in ["STEP_NODELIST", "NODELIST"] {
        env.job(name, &folded);
    }
    for name in ["STEP_NUM_NODES", "NNODES"] {
        env.job(name, names.len());
    }
    for name in ["STEP_NUM_TASKS", "NTASKS", "NPROCS"] {
        env.job(name, total);
    }
    for name in ["STEP_TASKS_PER_NODE", "TASKS_PER_NODE"] {
        env.job(name, repeated(&counts));
    }
}

/// Slurm's short form of a list of counts: `8(x2),4`.
fn repeated(counts: &[u32]) -> String {
    let runs = counts.chunk_by(|left, right| left == right);
    let words = runs.map(|run| match run {
        [one] => one.to_string(),
        run => format!("{}(x{})", run[0], run.len()),
    });
    words.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_written_as_slurm_writes_them() {
        assert_eq!(repeated(&[4]), "4");
        assert_eq!(repeated(&[2, 2, 2, 1]), "2(x3),1");
        assert_eq!(repeated(&[]), "");
    }

    #[test]
    fn variables_of_the_submitting_job_are_known() {
        for name in [
            "SLURM_ARRAY_TASK_ID",
            "SLURM_JOB_ID",
            "PMI_RANK",
            "HPC_JOB_ID",
            "HPC_STEP_ID",
            "HPC_CREDENTIAL",
            "SLURMD_NODENAME",
        ] {
            assert!(belongs_to_a_job(name.as_bytes()), "{name}");
        }
        for name in [
            "SLURM_CONF",
            "HPC_SOCKET",
            "HPC_CONTROLLER",
            "HPC_STATE_DIR",
            "PATH",
            "BASH_FUNC_module%%",
            "HPC_X_ROOT",
        ] {
            assert!(!belongs_to_a_job(name.as_bytes()), "{name}");
        }
    }
}
