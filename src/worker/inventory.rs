//! What this machine is, as the controller is to know it.

use super::{WorkerError, WorkerOptions, discover};
use crate::model::identity::Identity;
use crate::model::node::Inventory;
use crate::model::topology::Declared;
use crate::net::identity::{Kind, Member};

/// The name under which this machine has joined.
pub(super) fn member_name(options: &WorkerOptions) -> Result<String, WorkerError> {
    let member = Member::open(&options.state_dir, Kind::Node).map_err(WorkerError::Membership)?;
    match member.map(|member| member.kept.identity) {
        Some(Identity::Node(name)) => Ok(name),
        _ => Err(WorkerError::NotJoined),
    }
}

/// What this machine is.
pub(super) fn inventory(options: &WorkerOptions, boot_id: &str) -> Result<Inventory, WorkerError> {
    let measured = discover::discover().map_err(WorkerError::Discover)?;
    let topology = measured.declared(&Declared {
        cpus: options.cpus,
        memory_mib: options.memory_mib,
        gpus: options.gpus.clone(),
    });
    let mut remarks =
        vec!["memory is granted but not limited: a job can use more than it asked for".to_owned()];
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
    Ok(Inventory {
        // The short name, as Slurm's.
        name: name.split('.').next().unwrap_or(&name).to_owned(),
        topology,
        boot_id: boot_id.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        uid: nix::unistd::geteuid().as_raw(),
        remarks,
    })
}
