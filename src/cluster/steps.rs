//! decide: a step started from inside a running job (`hpc run` in a script or an allocation).
//!
//! A step runs on the cpus of its job's allocation; steps of one job share them.

use super::command::Principal;
use super::{Cluster, Event, Reply, select};
use crate::model::ids::{SlotKey, StepId};
use crate::model::job::{Job, Slot};
use crate::model::refusal::{Code, Refusal};
use crate::wire::client::StepRequest;
use crate::wire::worker::StepLaunch;

pub(super) fn start(
    cluster: &Cluster,
    who: &Principal,
    request: StepRequest,
) -> Result<(Reply, Vec<Event>), Refusal> {
    let (job, slot) = running(cluster, request.raw_job)?;
    if !select::may(who, job) {
        let what = format!(
            "job {} belongs to {}, you are {}",
            job.id, job.owner.name, who.owner.name
        );
        return Err(Refusal::new(
            Code::NotPermitted,
            what,
            "only its owner may start steps in it",
        ));
    }
    if request.arguments.is_empty() {
        return Err(Refusal::new(
            Code::Invalid,
            "no program was named",
            "write it after the options",
        ));
    }
    let cpus_per_task = request
        .cpus_per_task
        .or(job.spec.request.cpus_per_task)
        .unwrap_or(1);
    let tasks = spread(slot, &request, cpus_per_task)?;
    let step = StepId(job.step_next);
    let launch = StepLaunch {
        step,
        arguments: request.arguments,
        environment: request.environment,
        work_dir: request.work_dir,
        tasks,
        cpus_per_task,
    };
    let key = SlotKey {
        job: job.id,
        slot: slot.id,
    };
    let event = Event::StepStarted {
        job: job.id,
        slot: slot.id,
        launch: Box::new(launch),
    };
    Ok((Reply::StepStarted { key, step }, vec![event]))
}

fn running(cluster: &Cluster, raw: u32) -> Result<(&Job, &Slot), Refusal> {
    let Some((job, position)) = cluster.by_raw_id(raw) else {
        return Err(select::unknown(raw));
    };
    let slot = job.slots.iter().find(|slot| match slot.current {
        Some(current) => current.position == position,
        None => slot.queue.contains(position),
    });
    match slot {
        Some(slot) => Ok((job, slot)),
        None => {
            let what = format!("job {raw} is not running");
            Err(Refusal::new(
                Code::WrongState,
                what,
                "steps start inside a running job",
            ))
        }
    }
}

/// Tasks on each node of the slot.
fn spread(slot: &Slot, request: &StepRequest, cpus_per_task: u32) -> Result<Vec<u32>, Refusal> {
    let shares = &slot.allocation.nodes;
    let nodes = request
        .nodes
        .unwrap_or_else(|| u32::try_from(shares.len()).unwrap_or(u32::MAX))
        as usize;
    if nodes == 0 || nodes > shares.len() {
        let what = format!("{nodes} nodes are asked for, the job has {}", shares.len());
        return Err(Refusal::new(
            Code::Impossible,
            what,
            "ask for no more nodes than the job has",
        ));
    }
    let room: Vec<u32> = shares
        .iter()
        .enumerate()
        .map(|(at, share)| {
            if at < nodes {
                share.cpus.len() / cpus_per_task.max(1)
            } else {
                0
            }
        })
        .collect();
    let most: u32 = room.iter().sum();
    // Not said: the job's own tasks, which need no look at cpus unless the step's are wider.
    let own: Vec<u32> = shares.iter().take(nodes).map(|share| share.tasks).collect();
    let wider = request.cpus_per_task.is_some();
    let wanted = match request.ntasks {
        Some(wanted) => wanted,
        None if wider && own.iter().zip(&room).any(|(own, room)| own > room) => own.iter().sum(),
        None => {
            let none = std::iter::repeat_n(0, shares.len() - nodes);
            return Ok(own.into_iter().chain(none).collect());
        }
    };
    if wanted == 0 || wanted > most {
        let cpus: u32 = shares
            .iter()
            .take(nodes)
            .map(|share| share.cpus.len())
            .sum();
        let what = format!(
            "{wanted} tasks of {cpus_per_task} cpus are asked for, the job has {cpus} cpus on {nodes} nodes"
        );
        return Err(Refusal::new(
            Code::Impossible,
            what,
            "ask for fewer, or submit the job with more",
        ));
    }
    // At least one on each node as far as there are tasks, then the first nodes are filled.
    let mut left = wanted;
    let mut tasks: Vec<u32> = room
        .iter()
        .map(|room| {
            let one = u32::from(*room > 0 && left > 0);
            left -= one;
            one
        })
        .collect();
    for (at, room) in room.iter().enumerate() {
        let more = left.min(room - tasks[at]);
        tasks[at] += more;
        left -= more;
    }
    Ok(tasks)
}
