//! What this machine is, as the controller is to know it.

use super::{WorkerError, WorkerOptions, discover};
use crate::model::identity::Identity;
use crate::model::node::Inventory;
use crate::model::reserve::Kept;
use crate::net::identity::{Kind, Member};
use crate::sys::affinity::bind_this_thread;
use crate::sys::spawn::CpuMask;

/// The name under which this machine has joined.
pub(super) fn member_name(options: &WorkerOptions) -> Result<String, WorkerError> {
    let member = Member::open(&options.state_dir, Kind::Node).map_err(WorkerError::Membership)?;
    match member.map(|member| member.kept.identity) {
        Some(Identity::Node(name)) => Ok(name),
        _ => Err(WorkerError::NotJoined),
    }
}

/// What this machine is to its jobs, and what it keeps from them.
pub(super) fn inventory(
    options: &WorkerOptions,
    boot_id: &str,
) -> Result<(Inventory, Kept), WorkerError> {
    let measured = discover::discover().map_err(WorkerError::Discover)?;
    let declared = options.declared();
    let (left, kept) = measured
        .without(&options.reserve, &declared)
        .map_err(WorkerError::Reserve)?;
    let topology = left.declared(&declared);
    let mut remarks =
        vec!["memory is granted but not limited: a job can use more than it asked for".to_owned()];
    remarks.extend(kept.remark());
    if !topology.is_real() {
        remarks.push(
            "amounts are declared, not measured: jobs are not bound to cores that do not exist"
                .to_owned(),
        );
    }
    let host = || nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned());
    let name = match &options.name {
        Some(name) => name.clone(),
        None => host().map_err(WorkerError::system("read the host's name"))?,
    };
    let inventory = Inventory {
        // The short name, as Slurm's.
        name: name.split('.').next().unwrap_or(&name).to_owned(),
        topology,
        boot_id: boot_id.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        uid: nix::unistd::geteuid().as_raw(),
        remarks,
    };
    Ok((inventory, kept))
}

/// Moves the agent to the cpus that are kept from jobs. Where shepherds run then: on those of the jobs, so that a task
/// that cannot be bound to its own cpus has at least none of the kept ones.
pub(super) fn keep_to(kept: &Kept, inventory: &Inventory) -> Option<CpuMask> {
    if kept.cpus.is_empty() {
        return None;
    }
    let found = inventory.topology.cpus.iter().filter(|cpu| cpu.real);
    let jobs = CpuMask::from_cpus(found.map(|cpu| cpu.id));
    // The cpus of another machine (hwloc's variables) are not ours to run on: tried with those of jobs first, lest
    // shepherds be left on the kept ones.
    let bound = bind_this_thread(&jobs)
        .and_then(|()| bind_this_thread(&CpuMask::from_cpus(kept.cpus.iter().map(u32::from))));
    match bound {
        Ok(()) => Some(jobs),
        Err(error) => {
            tracing::warn!(%error, cpus = %kept.cpus, "the agent cannot run on the reserved cpus alone");
            None
        }
    }
}
