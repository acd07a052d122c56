//! Where the ranks of a job's running steps are, for those who ask.

use super::select::unknown;
use super::snapshot::Snapshot;
use crate::model::cpu_set::CpuSet;
use crate::model::distribution::Distribution;
use crate::model::ids::{SlotKey, StepId};
use crate::model::index_set::IndexSet;
use crate::model::job::Slot;
use crate::model::refusal::Refusal;
use crate::model::step::StepOptions;
use crate::wire::view::{StepNodeView, StepPlaceView};

/// The steps that run in a job or element, by its raw id; none where it does not run.
///
/// # Errors
/// There is no such job.
pub fn running(snapshot: &Snapshot, raw: u32) -> Result<Vec<StepPlaceView>, Refusal> {
    let Some((job, position)) = snapshot.by_raw_id(raw) else {
        if raw == 0 || raw >= snapshot.job_next {
            return Err(unknown(raw));
        }
        return Ok(Vec::new());
    };
    let runs = |slot: &&Slot| match &slot.current {
        Some(current) => current.position == position,
        None => slot.queue.contains(position),
    };
    let Some(slot) = job.slots.iter().find(runs) else {
        return Ok(Vec::new());
    };
    let names: Vec<String> = slot
        .allocation
        .nodes
        .iter()
        .map(|share| snapshot.node_name(share.node))
        .collect();
    let mut places = Vec::new();
    if job.spec.launch.is_step() {
        let shares = slot.allocation.nodes.iter();
        let tasks: Vec<u32> = shares.map(|share| share.tasks).collect();
        let options = job.spec.launch.step_options();
        let name = job.spec.name.to_string();
        places.extend(place(slot, &names, StepId(0), name, &tasks, &options));
    }
    let key = SlotKey {
        job: job.id,
        slot: slot.id,
    };
    for order in snapshot.steps.get(&key).into_iter().flatten() {
        let launch = &order.launch;
        let name = launch.arguments.first().cloned().unwrap_or_default();
        let tasks = &launch.tasks;
        places.extend(place(
            slot,
            &names,
            launch.step,
            name,
            tasks,
            &order.options,
        ));
    }
    Ok(places)
}

fn place(
    slot: &Slot,
    names: &[String],
    step: StepId,
    name: String,
    tasks: &[u32],
    options: &StepOptions,
) -> Option<StepPlaceView> {
    let block = Distribution::Block;
    let distribution = options.distribution().unwrap_or(&block);
    let node_of_rank = distribution.deal(tasks, names).ok()?;
    let mut ranks = vec![IndexSet::new(); names.len()];
    for (node, rank) in node_of_rank.iter().zip(0_u32..) {
        if let Some(here) = ranks.get_mut(*node as usize) {
            here.insert(rank);
        }
    }
    let shares = (0_u32..).zip(&slot.allocation.nodes);
    let nodes = shares.zip(names).zip(ranks);
    let nodes = nodes.filter(|(_, ranks)| !ranks.is_empty());
    let nodes = nodes.map(|(((at, share), name), ranks)| {
        let cpus: &CpuSet = options.cpus_on(at).unwrap_or(&share.cpus);
        StepNodeView {
            node: name.clone(),
            ranks,
            cpus: cpus.clone(),
        }
    });
    Some(StepPlaceView {
        step,
        name,
        distribution: distribution.to_string(),
        nodes: nodes.collect(),
    })
}
