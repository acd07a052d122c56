//! Steps that a task of another step asks for: one that needs what that step holds would wait for itself.

use super::Cluster;
use super::spread::{self, Room};
use crate::model::cpu_set::CpuSet;
use crate::model::ids::{SlotKey, StepId};
use crate::model::job::Slot;
use crate::model::refusal::{Code, Refusal};
use crate::model::step::StepOptions;
use crate::wire::client::StepRequest;

/// What the environment says of the step whose task asks, where one does.
#[must_use]
pub fn caller(request: &StepRequest) -> Option<&[u8]> {
    let names: [&[u8]; 2] = [b"HPC_STEP_ID", b"SLURM_STEP_ID"];
    let mut variables = request.environment.iter();
    let (_, value) = variables.find(|(name, _)| names.contains(&name.as_slice()))?;
    Some(value)
}

/// Why a step that has no room now never will, where that is for the step around it.
pub(super) fn never(
    cluster: &Cluster,
    key: SlotKey,
    slot: &Slot,
    room: &Room<'_>,
    (request, options): (&StepRequest, &StepOptions),
    cpus_per_task: u32,
) -> Option<Refusal> {
    let caller = std::str::from_utf8(caller(request)?).ok()?;
    let caller = StepId(caller.parse().ok()?);
    let mut orders = cluster.steps.get(&key)?.iter();
    let order = orders.find(|order| order.launch.step == caller)?;
    let running = slot.steps.iter().find(|step| step.step == caller)?;
    if order.options.overlaps() {
        return None;
    }
    let shares = (0_u32..).zip(room.shares);
    let held = shares.map(|(at, share)| match running.left.contains(&at) {
        true => order.options.cpus_on(at).unwrap_or(&share.cpus).clone(),
        false => CpuSet::new(),
    });
    let held: Vec<CpuSet> = held.collect();
    let alone = Room {
        shares: room.shares,
        names: room.names,
        held: &held,
    };
    spread::place(&alone, request, options, cpus_per_task).err()?;
    let what = format!(
        "step {caller}, inside which this one is asked for, has the cpus that it would need"
    );
    let hint = "ask for fewer tasks, share cpus by --overlap, or give the job more";
    Some(Refusal::new(Code::Impossible, what, hint))
}
