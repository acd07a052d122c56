//! decide: a step started from inside a running job (`hpc run` in a script or an allocation).
//!
//! A step runs on cpus of its job's allocation; which ones is for [`super::spread`], which is told what steps hold
//! that run.

use super::command::Principal;
use super::spread::{self, Place, Room, is_called};
use super::{Cluster, Event, Reply, select, step_within};
use crate::model::cpu_set::CpuSet;
use crate::model::hostlist;
use crate::model::ids::{SlotKey, StepId};
use crate::model::job::{Job, Slot};
use crate::model::refusal::{Code, Refusal};
use crate::model::step::{BUSY, OPTIONS_BYTES_MAX, StepOption, StepOptions};
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
    if options.weight() > OPTIONS_BYTES_MAX {
        let what = format!(
            "what is said of the step has {} bytes, the most is {OPTIONS_BYTES_MAX}",
            options.weight()
        );
        return Err(Refusal::new(Code::TooMuch, what, "say less of it"));
    }
    let key = SlotKey {
        job: job.id,
        slot: slot.id,
    };
    let shares = &slot.allocation.nodes;
    let names: Vec<String> = shares
        .iter()
        .map(|share| match cluster.nodes.get(&share.node) {
            Some(node) => node.name().to_owned(),
            None => format!("node-{}", share.node),
        })
        .collect();
    if let Some(name) = options.excluded().iter().find(|name| {
        let known = cluster.nodes.values().map(|node| node.name());
        !names
            .iter()
            .map(String::as_str)
            .chain(known)
            .any(|node| is_called(node, name))
    }) {
        let what = format!("node {name}, which is to be left out, does not exist");
        let hint = format!("the job has {}", hostlist::fold(&names));
        return Err(Refusal::new(Code::Impossible, what, hint));
    }
    let Place { tasks, cpus } = match options.remote_shell() {
        Some(name) => one_on(job, &names, name)?,
        None => {
            let held = held(cluster, key, slot);
            let room = Room {
                shares,
                names: &names,
                held: &held,
            };
            let placed = spread::place(&room, &request, &options, cpus_per_task);
            placed.map_err(|refusal| {
                let asked = (&request, &options);
                let is_busy = refusal.code == BUSY;
                let never = || step_within::never(cluster, key, slot, &room, asked, cpus_per_task);
                is_busy.then(never).flatten().unwrap_or(refusal)
            })?
        }
    };
    if let Some(programs) = options.programs() {
        let checked = programs.check(tasks.iter().sum());
        checked.map_err(|what| {
            let hint = "each rank of the step needs one line";
            Refusal::new(Code::Invalid, format!("--multi-prog: {what}"), hint)
        })?;
    }
    if let Some(spawned) = options.spawned()
        && request.ntasks != Some(spawned.request.size())
    {
        let what = "the tasks that are asked for are not those of the spawned commands";
        return Err(Refusal::new(Code::Invalid, what, "hpc says both alike"));
    }
    let mut options = options;
    // Whoever asks for a step does not choose its cpus.
    options.forget_cpus();
    if !cpus.is_empty() {
        options.say(StepOption::Cpus(cpus));
    }
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
    let running = cluster.steps.get(&key).into_iter().flatten();
    let kept: usize = running
        .map(|step| size(&step.launch) + step.options.weight())
        .sum();
    let own = size(&launch) + options.weight();
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

/// One task on the node of this name, none on the others, with all that the job has there.
fn one_on(job: &Job, names: &[String], name: &str) -> Result<Place, Refusal> {
    let tasks: Vec<u32> = names.iter().map(|other| u32::from(other == name)).collect();
    if tasks.iter().sum::<u32>() == 1 {
        let cpus = Vec::new();
        return Ok(Place { tasks, cpus });
    }
    let what = format!("job {} has no node \"{name}\"", job.id);
    let hint = format!("its nodes are {}", hostlist::fold(names));
    Err(Refusal::new(Code::Impossible, what, hint))
}

/// What steps that run hold of each node of their slot: of those nodes on which they have not ended.
fn held(cluster: &Cluster, key: SlotKey, slot: &Slot) -> Vec<CpuSet> {
    let mut held = vec![CpuSet::new(); slot.allocation.nodes.len()];
    let orders = cluster.steps.get(&key).into_iter().flatten();
    for order in orders.filter(|order| !order.options.overlaps()) {
        let running = slot.steps.iter();
        let mut running = running.filter(|step| step.step == order.launch.step);
        for place in running.next().into_iter().flat_map(|step| &step.left) {
            let at = *place as usize;
            if let (Some(held), Some(share)) = (held.get_mut(at), slot.allocation.nodes.get(at)) {
                let cpus = order.options.cpus_on(*place).unwrap_or(&share.cpus);
                *held = held.union(cpus);
            }
        }
    }
    held
}
