//! decide: a step started from inside a running job (`hpc run` in a script or an allocation).
//!
//! A step runs on the cpus of its job's allocation; steps of one job share them.

use super::command::Principal;
use super::{Cluster, Event, Reply, select};
use crate::model::hostlist;
use crate::model::ids::{SlotKey, StepId};
use crate::model::job::{Job, Slot};
use crate::model::refusal::{Code, Refusal};
use crate::model::step::StepOptions;
use crate::wire::client::StepRequest;
use crate::wire::worker::{StepLaunch, StepOrder};
use std::sync::Arc;

/// Steps of one job, as Slurm's MaxStepCount has it: each leaves a row in the history.
const STEPS_MAX: u32 = 40_000;
/// Bytes that the running steps of one slot start with. They are kept to be said again to a node that returns.
const RUNNING_BYTES_MAX: usize = 32 * 1024 * 1024;

/// About how many bytes a step starts with.
fn size(step: &StepLaunch) -> usize {
    let arguments = step.arguments.iter().map(|text| text.len() + 24);
    let variables = step.environment.iter();
    let variables = variables.map(|(name, value)| name.len() + value.len() + 48);
    arguments.chain(variables).sum::<usize>() + step.work_dir.len() + 256
}

pub(super) fn start(
    cluster: &Cluster,
    who: &Principal,
    request: StepRequest,
    options: StepOptions,
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
    if slot.is_stopped() {
        let what = match slot.stops.lent_to {
            Some(to) => format!("job {} stands still for job {to}", job.id),
            None => format!("job {} is suspended", job.id),
        };
        let hint = "start the step once the job goes on";
        return Err(Refusal::new(Code::WrongState, what, hint));
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
    let tasks = match options.remote_shell() {
        Some(name) => one_on(cluster, job, slot, name)?,
        None => spread(slot, &request, cpus_per_task)?,
    };
    if job.step_next >= STEPS_MAX {
        let what = format!(
            "job {} has begun {} steps, the most is {STEPS_MAX}",
            job.id, job.step_next
        );
        let hint = "start several programs in one step, or use an array";
        return Err(Refusal::new(Code::TooMuch, what, hint));
    }
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
    let running = cluster.steps.get(&key).into_iter().flatten();
    let kept: usize = running.map(|step| size(&step.launch)).sum();
    let own = size(&launch);
    if kept.saturating_add(own) > RUNNING_BYTES_MAX {
        let what = format!(
            "arguments and environment of this step have {own} bytes and those of the job's other running steps {kept}, \
             the most together is {RUNNING_BYTES_MAX}"
        );
        let hint = "wait for steps to end, or export less to them (--export=NONE)";
        return Err(Refusal::new(Code::TooMuch, what, hint));
    }
    let event = Event::StepStarted {
        job: job.id,
        slot: slot.id,
        order: Arc::new(StepOrder { launch, options }),
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

/// One task on the node of this name, none on the others.
fn one_on(cluster: &Cluster, job: &Job, slot: &Slot, name: &str) -> Result<Vec<u32>, Refusal> {
    let shares = slot.allocation.nodes.iter();
    let names: Vec<&str> = shares
        .map(|share| {
            cluster
                .nodes
                .get(&share.node)
                .map_or("", |node| node.name())
        })
        .collect();
    let tasks: Vec<u32> = names
        .iter()
        .map(|other| u32::from(*other == name))
        .collect();
    if tasks.iter().sum::<u32>() == 1 {
        return Ok(tasks);
    }
    let what = format!("job {} has no node \"{name}\"", job.id);
    let hint = format!("its nodes are {}", hostlist::fold(&names));
    Err(Refusal::new(Code::Impossible, what, hint))
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
