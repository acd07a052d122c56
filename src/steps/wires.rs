//! Steps whose ranks are wired, as a part of [`SlotCore`]: their beginning, what comes for them from ranks, helpers and
//! other nodes, and how one of them is ended as a whole.

use super::element::{Ending, Held, Later, Step};
use super::environment::{Machine, WireEnvironment, wire};
use super::names::Asker;
use super::peers::Outgoing;
use super::placement::Placement;
use super::pmix_libraries;
use super::spawns::Kin;
use super::wire_acts::WireAct;
use super::wire_facts::WireFacts;
use super::wiring::Wiring;
use super::{Effect, LaunchPlan, SIGCONT, SIGKILL, SIGTERM, SlotCore, TaskId, earliest, groups};
use crate::model::ids::StepId;
use crate::model::job::{ExitStatus, Usage};
use crate::model::step::{Mpi, StepOptions};
use crate::wire::peer::{PeerFrame, PeerMessage, StepFailure};
use crate::wire::pmix::{FromPmix, PmixNode, PmixStart, ToPmix};
use crate::wire::worker::FromSlot;

/// How long a step that is ended has between SIGTERM and SIGKILL.
pub(super) const STEP_KILL_MS: u64 = 2_000;
/// How long the PMIx helper may take before it counts as failed.
const HELPER_MS: u64 = 20_000;
/// The most answers that a PMIx helper may have to give, one to each rank here about each of the step, if it is to wait
/// until it is asked. Ranks that start before it are shown no memory of its, and put those questions to it one by one: with
/// 16 ranks that cost as much time as its start, with 64 ten times that.
const ANSWERS_MAX: usize = 512;
/// Messages for steps that have not begun here, and their bytes.
const EARLY_MAX: (usize, usize) = (1_024, 16 * 1024 * 1024);

/// Messages of other nodes for steps that have not begun here: nodes hear of a step at slightly different times.
#[derive(Debug, Default)]
pub(super) struct Early {
    messages: Vec<(u32, PeerMessage)>,
    weight: usize,
}

impl Early {
    fn has_room(&self) -> bool {
        self.messages.len() < EARLY_MAX.0 && self.weight < EARLY_MAX.1
    }

    fn push(&mut self, from: u32, message: PeerMessage) {
        self.weight += message.weight();
        self.messages.push((from, message));
    }

    /// Those for this step, in order.
    fn take(&mut self, step: StepId) -> Vec<(u32, PeerMessage)> {
        let all = std::mem::take(&mut self.messages);
        let (taken, left) = all
            .into_iter()
            .partition(|(_, message)| message.step() == step);
        self.messages = left;
        self.weight = self.messages.iter().map(|(_, one)| one.weight()).sum();
        taken
    }
}

impl SlotCore {
    /// Says what the machine has: more may have been declared, to try a large cluster on a small machine.
    pub fn set_machine(&mut self, machine: Machine) {
        self.machine = machine;
    }

    /// Starts the tasks of a step that is there already, wired as it asks for.
    pub(super) fn begin_step(
        &mut self,
        now: u64,
        id: StepId,
        placement: &Placement,
        options: StepOptions,
        mut plans: Vec<LaunchPlan>,
        out: &mut Vec<Effect>,
    ) {
        let mpi = options.mpi();
        // One task alone has nobody to find, unless somebody wants to see it served; but Open MPI 4, which sees the
        // variables of a Slurm step, insists on a server of PMIx all the same.
        let whole = options.remote_shell().is_some();
        let told = options.speaks_of_ends() || options.spawned().is_some();
        let alone = placement.size() <= 1 && (!told || whole);
        let carries_files = self.launch.spec.request.takes_nothing();
        let pmix = mpi.serves_pmix() && !carries_files && !whole;
        let kin = Kin::of(options.spawned());
        let facts = self.wire_facts(id, placement, options);
        let start = pmix.then(|| self.pmix_start(&facts, &plans));
        let wiring = Wiring::new(facts);
        // What a launcher's daemon starts is to find what the launcher has, and no threads for a task that has all cpus.
        if !whole {
            let sockets = !alone && wiring.has_sockets();
            self.set_environment(&mut plans, placement, mpi, (sockets, kin.parent.is_some()));
        }
        let Some(step) = self.element.as_mut().and_then(|e| e.step_mut(id)) else {
            return;
        };
        step.kin = kin;
        if !carries_files {
            step.wiring = Some(Box::new(wiring));
        }
        let until = now.saturating_add(HELPER_MS);
        let size = usize::try_from(placement.size()).unwrap_or(usize::MAX);
        let answers = plans.len().saturating_mul(size);
        let environment = plans.first().map(|plan| plan.environment.clone());
        let later = start.map(|start| Later {
            start,
            environment: environment.unwrap_or_default(),
            said: Vec::new(),
        });
        match later {
            Some(later) if mpi == Mpi::Pmix || answers > ANSWERS_MAX => {
                step.held = Held::Until(until, plans, None);
                later.begin(id, out);
            }
            Some(later) => {
                out.push(Effect::PmixDoor {
                    step: id,
                    promise: Some(Box::new(later.start.promise())),
                    sought: (placement.size() <= 1).then(|| later.environment.clone()),
                });
                step.held = Held::Until(until, plans, Some(Box::new(later)));
            }
            None if !alone && placement.size() > 1 && mpi != Mpi::None => {
                step.held = Held::Until(until, plans, None);
                out.push(closed_door(id));
            }
            None => spawn_all(plans, out),
        }
        for (from, message) in self.early.take(id) {
            self.on_peer(now, from, message, out);
        }
    }

    /// Ends a step whose tasks have not started yet; whether it is one.
    pub(super) fn end_unbegun(&mut self, now: u64, id: StepId, out: &mut Vec<Effect>) -> bool {
        let held = |step: &&mut Step| matches!(step.held, Held::Until(..));
        let unbegun = self.step_mut(id).filter(held).is_some();
        if unbegun {
            self.with_wiring(now, id, out, |wiring, acts| {
                let text = "it was told to end before its tasks had started";
                wiring.fail(1, text.to_owned(), true, acts);
            });
        }
        unbegun
    }

    fn wire_facts(&self, step: StepId, placement: &Placement, options: StepOptions) -> WireFacts {
        let launch = &self.launch;
        let room = launch.shares.iter().map(|share| share.tasks).sum::<u32>();
        WireFacts {
            step,
            me: launch.node_index,
            node: self.site.node.clone(),
            placement: placement.clone(),
            kvs_name: self.name_of(step),
            universe: room.max(placement.size()),
            spawner: options.spawned().map(|one| self.name_of(one.parent)),
            options,
            epoch: self.epoch,
        }
    }

    /// What a step's key space and its PMIx namespace are called: unique per step and attempt.
    ///
    /// Open MPI knows a namespace by 32 bits: 16 of a hash of what stands before the `@`, 16 of the number behind it.
    /// Without that number all 32 are the hash's 16, and among some dozens of steps that have met, two are the same to it
    /// sooner or later: it connects to ranks of the one, long gone, where it wants those of the other.
    pub(super) fn name_of(&self, step: StepId) -> String {
        let number = step.0;
        format!(
            "hpc-{:x}-{}@{number}",
            self.launch.granted.0, self.launch.key
        )
    }

    fn set_environment(
        &self,
        plans: &mut [LaunchPlan],
        placement: &Placement,
        mpi: Mpi,
        (sockets, spawned): (bool, bool),
    ) {
        let here = u32::try_from(plans.len()).unwrap_or(u32::MAX);
        let share = self.launch.shares.get(self.launch.node_index as usize);
        let cpus = share.map_or(1, |share| share.cpus.len());
        let gpus = share.is_some_and(|share| !share.gpus.is_empty());
        let steps = self.element.iter().flat_map(|element| &element.steps);
        // Those that were asked for have no cpus of their own.
        let others: usize = match spawned {
            true => steps.map(|step| step.running().count()).sum(),
            false => 0,
        };
        let all = here.max(u32::try_from(others).unwrap_or(u32::MAX));
        let width = self.launch.spec.request.cpus_per_task.unwrap_or(1);
        let facts = WireEnvironment {
            size: placement.size(),
            here,
            mpi,
            sockets,
            crowded: all > cpus.min(self.machine.cpus),
            machine_cpus: self.machine.cpus,
            hides_devices: self.machine.is_one_numa_node && !gpus,
            no_rdma: !self.machine.has_rdma,
            memory_is_ours: !self.machine.has_rdma && !gpus,
            spawned: spawned.then_some(width.max(1)),
        };
        for (plan, local) in plans.iter_mut().zip(0_u32..) {
            wire(plan, local, &facts);
        }
    }

    fn pmix_start(&self, facts: &WireFacts, plans: &[LaunchPlan]) -> PmixStart {
        let name = |node: &u32| self.launch.nodes.get(*node as usize).cloned();
        let nodes = facts.placement.nodes().iter().map(|node| PmixNode {
            name: name(node).unwrap_or_default(),
            aliases: Vec::new(),
            ranks: facts.placement.ranks_on(*node),
        });
        PmixStart {
            nspace: facts.kvs_name.clone(),
            directory: String::new(),
            libraries: plans
                .first()
                .map(pmix_libraries::likely)
                .unwrap_or_default(),
            only_these: false,
            node_index: facts.placement.number_of(facts.me),
            nodes: nodes.collect(),
            uid: 0,
            gid: 0,
            app_numbers: facts.app_numbers(),
            universe: facts.universe,
            cpusets: plans
                .iter()
                .map(|plan| Some(plan.cpus.to_string()))
                .collect(),
            visitors: None,
            parent: facts
                .spawner
                .clone()
                .zip(facts.options.spawned().map(|one| one.rank)),
        }
    }

    // ---- what comes

    pub(super) fn pmi_said(&mut self, now: u64, task: TaskId, bytes: &[u8], out: &mut Vec<Effect>) {
        self.with_wiring(now, task.step, out, |wiring, acts| {
            wiring.pmi_said(task.rank, bytes, acts);
        });
    }

    pub(super) fn pmi_closed(&mut self, now: u64, task: TaskId, out: &mut Vec<Effect>) {
        self.with_wiring(now, task.step, out, |wiring, acts| {
            wiring.pmi_closed(task.rank, acts);
        });
    }

    pub(super) fn pmix_said(
        &mut self,
        now: u64,
        id: StepId,
        message: FromPmix,
        out: &mut Vec<Effect>,
    ) {
        match message {
            FromPmix::Ready { environments, .. } => {
                let Some(step) = self.step_mut(id) else {
                    return;
                };
                let held = std::mem::replace(&mut step.held, Held::Served);
                let Held::Until(_, mut plans, _) = held else {
                    return;
                };
                for (plan, variables) in plans.iter_mut().zip(environments) {
                    super::environment::add_pmix(plan, &variables.pairs);
                }
                spawn_all(plans, out);
            }
            FromPmix::Failed { text } => self.pmix_gone(now, id, Some(text), out),
            message => self.with_wiring(now, id, out, |wiring, acts| {
                wiring.pmix_said(message, acts);
            }),
        }
    }

    pub(super) fn pmix_gone(
        &mut self,
        now: u64,
        id: StepId,
        text: Option<String>,
        out: &mut Vec<Effect>,
    ) {
        let Some(step) = self.step_mut(id) else {
            return;
        };
        let unserved = "the process that serves PMIx ended before it could serve";
        let text = text.unwrap_or_else(|| unserved.to_owned());
        match std::mem::take(&mut step.held) {
            Held::No => {}
            door @ Held::Door(_) => step.held = door,
            Held::Served => self.with_wiring(now, id, out, Wiring::pmix_gone),
            Held::Called(_) => self.with_wiring(now, id, out, |wiring, acts| {
                wiring.without_pmix(text, acts);
                wiring.asked_for_pmix(acts);
            }),
            Held::Until(until, plans, _) => {
                let wanted = step
                    .wiring
                    .as_ref()
                    .is_some_and(|wiring| wiring.needs_pmix());
                if wanted {
                    step.held = Held::Until(until, plans, None);
                    self.with_wiring(now, id, out, |wiring, acts| {
                        wiring.fail(1, text, false, acts);
                    });
                } else {
                    let alone = step.wiring.as_ref().is_none_or(|wiring| wiring.is_alone());
                    if alone {
                        spawn_all(plans, out);
                    } else {
                        step.held = Held::Until(until, plans, None);
                        out.push(closed_door(id));
                    }
                    self.with_wiring(now, id, out, |wiring, acts| {
                        wiring.without_pmix(text, acts);
                    });
                }
            }
        }
    }

    /// The tasks of a step start, with what shows them its door.
    pub(super) fn pmix_door(
        &mut self,
        now: u64,
        id: StepId,
        variables: &[(String, String)],
        out: &mut Vec<Effect>,
    ) {
        let Some(step) = self.step_mut(id) else {
            return;
        };
        let Held::Until(until, mut plans, later) = std::mem::take(&mut step.held) else {
            return;
        };
        let alone = step.wiring.as_ref().is_none_or(|wiring| wiring.is_alone());
        let later = match later.filter(|_| !(alone && variables.is_empty())) {
            // There is no door for it: it starts first.
            Some(later) if variables.is_empty() => {
                step.held = Held::Until(until, plans, None);
                return later.begin(id, out);
            }
            later => later,
        };
        for plan in &mut plans {
            if !variables.is_empty() {
                super::environment::add_pmix(plan, variables);
                let rank = ("PMIX_RANK".to_owned(), plan.task.rank.to_string());
                super::environment::add(plan, &[rank]);
            }
        }
        spawn_all(plans, out);
        if let Some(later) = later {
            let called = !later.said.is_empty();
            step.held = Held::Door(later);
            if called {
                self.call_helper(now, id, out);
            }
        }
    }

    pub(super) fn pmix_knocked(&mut self, now: u64, id: StepId, out: &mut Vec<Effect>) {
        match self.step_mut(id).map(|step| &step.held) {
            Some(Held::Door(_)) => self.call_helper(now, id, out),
            Some(Held::No) => self.with_wiring(now, id, out, Wiring::asked_for_pmix),
            _ => {}
        }
    }

    /// Starts the helper for which ranks wait at the door.
    fn call_helper(&mut self, now: u64, id: StepId, out: &mut Vec<Effect>) {
        if let Some(step) = self.step_mut(id)
            && let Held::Door(later) = std::mem::take(&mut step.held)
        {
            step.held = Held::Called(now.saturating_add(HELPER_MS));
            later.begin(id, out);
        }
    }

    pub(super) fn rank_over(
        &mut self,
        now: u64,
        task: TaskId,
        exit: ExitStatus,
        out: &mut Vec<Effect>,
    ) {
        if let Some(step) = self.step_mut(task.step)
            && let Some(wait_s) = step.wiring.as_ref().and_then(|wiring| wiring.wait_s())
        {
            let until = now.saturating_add(u64::from(wait_s) * 1000);
            step.wait_until.get_or_insert(until);
        }
        self.with_wiring(now, task.step, out, |wiring, acts| {
            wiring.rank_over(task.rank, exit, acts);
        });
    }

    pub(super) fn peer_said(
        &mut self,
        now: u64,
        from: u32,
        frame: PeerFrame,
        out: &mut Vec<Effect>,
    ) {
        let room = self.early.has_room();
        if let Some(message) = self.peers.receive(now, from, frame, room) {
            self.on_peer(now, from, message, out);
        }
    }

    fn on_peer(&mut self, now: u64, from: u32, message: PeerMessage, out: &mut Vec<Effect>) {
        let id = message.step();
        if let PeerMessage::Name {
            step,
            ask,
            rank,
            request,
        } = message
        {
            let asker = Asker {
                node: from,
                step,
                ask,
            };
            let nspace = self.name_of(step);
            let mut answers = Vec::new();
            self.names.ask(asker, &nspace, rank, request, &mut answers);
            for (Asker { node, step, ask }, answer) in answers {
                let message = PeerMessage::Named { step, ask, answer };
                self.say_to_peer(now, node, message, out);
            }
        } else if let (PeerMessage::Spawns { open, .. }, Some(_)) = (&message, self.step_mut(id)) {
            self.spawns_elsewhere(now, from, (id, *open), out);
        } else if self.step_mut(id).is_some() {
            self.with_wiring(now, id, out, |wiring, acts| {
                wiring.peer_said(from, message, acts);
            });
        } else if !self.has_begun(id) {
            self.early.push(from, message);
        }
    }

    /// Whether a step was started here, however it ended.
    fn has_begun(&self, id: StepId) -> bool {
        if id == StepId(0) && self.launch.spec.launch.is_step() {
            return self.element.is_some() || self.waiting.is_empty();
        }
        self.steps_seen.contains(&id)
    }

    pub(super) fn relinked(&mut self, now: u64, out: &mut Vec<Effect>) {
        let mut frames = Vec::new();
        self.peers.over_new_link(now, &mut frames);
        report(frames, out);
    }

    // ---- time

    pub(super) fn wires_deadline(&self) -> Option<u64> {
        let steps = self.element.iter().flat_map(|element| &element.steps);
        let of_steps = steps.flat_map(|step| {
            let held = step.held.until();
            let wiring = step
                .wiring
                .as_ref()
                .and_then(|wiring| wiring.next_deadline());
            let kill = step.ending.and_then(|ending| ending.kill_at);
            [held, wiring, kill, step.wait_until]
        });
        let of_steps = of_steps.flatten().chain(self.spawns_deadline());
        earliest(of_steps.min(), self.peers.next_deadline())
    }

    pub(super) fn wires_on_time(&mut self, now: u64, out: &mut Vec<Effect>) {
        let mut frames = Vec::new();
        self.peers.on_time(now, &mut frames);
        report(frames, out);
        self.spawns_on_time(now, out);
        let steps = self.element.iter().flat_map(|element| &element.steps);
        let due: Vec<StepId> = steps
            .filter(|step| step.wiring.is_some() && !step.is_over())
            .map(|step| step.id)
            .collect();
        for id in due {
            let Some(step) = self.step_mut(id) else {
                continue;
            };
            if let Some(ending) = &mut step.ending
                && ending.kill_at.is_some_and(|at| at <= now)
            {
                ending.kill_at = None;
                let left = groups(step.running().collect());
                let signal = SIGKILL;
                out.extend(left.map(|to| Effect::Signal { signal, to }));
            }
            if step.wait_until.is_some_and(|at| at <= now) {
                step.wait_until = None;
                self.with_wiring(now, id, out, |wiring, acts| wiring.waited(acts));
            }
            let held = self.step_mut(id).map(|step| &step.held);
            if held
                .and_then(|held| held.until())
                .is_some_and(|at| at <= now)
            {
                let seconds = HELPER_MS / 1000;
                let text = format!("the process that serves PMIx was not ready within {seconds} s");
                self.pmix_gone(now, id, Some(text), out);
            }
            self.with_wiring(now, id, out, |wiring, acts| wiring.on_time(acts));
        }
    }

    // ---- what is done

    pub(super) fn step_mut(&mut self, id: StepId) -> Option<&mut Step> {
        self.element.as_mut()?.step_mut(id)
    }

    /// Lets a step's wiring act, and carries out what it wants.
    pub(super) fn with_wiring(
        &mut self,
        now: u64,
        id: StepId,
        out: &mut Vec<Effect>,
        act: impl FnOnce(&mut Wiring, &mut Vec<WireAct>),
    ) {
        let mut acts = Vec::new();
        if let Some(wiring) = self.step_mut(id).and_then(|step| step.wiring.as_mut()) {
            act(wiring.at(now), &mut acts);
        }
        for act in acts {
            match act {
                WireAct::Peer { to, message } => self.say_to_peer(now, to, message, out),
                WireAct::Pmi { rank, bytes } => {
                    let task = TaskId { step: id, rank };
                    out.push(Effect::PmiWrite { task, bytes });
                }
                WireAct::ClosePmi { rank } => {
                    out.push(Effect::PmiClose(TaskId { step: id, rank }));
                }
                WireAct::Words { rank, error, text } => {
                    let task = TaskId { step: id, rank };
                    out.push(Effect::Words { task, error, text });
                }
                WireAct::Pmix(message) => self.say_to_helper(now, id, message, out),
                WireAct::Spawn { rank, ask, request } => {
                    let asker = TaskId { step: id, rank };
                    self.spawn(now, asker, ask, *request, out);
                }
                WireAct::End { failure, ours } => {
                    self.end_step(now, id, &failure, (ours, STEP_KILL_MS), out);
                }
            }
        }
    }

    fn say_to_helper(&mut self, now: u64, id: StepId, message: ToPmix, out: &mut Vec<Effect>) {
        let asks = matches!(message, ToPmix::ModexWanted { .. });
        match self.step_mut(id).map(|step| &mut step.held) {
            // Started first, it may be about to serve, and hears it then.
            Some(Held::Served | Held::Called(_) | Held::Until(_, _, None)) => {
                out.push(Effect::PmixSay { step: id, message });
            }
            // The program of a rank elsewhere asks for PMIx, and so will the same program here.
            Some(Held::Until(_, _, Some(later))) if asks => later.said.push(message),
            Some(Held::Door(later)) if asks => {
                later.said.push(message);
                self.call_helper(now, id, out);
            }
            _ => {
                // Nobody here can answer.
                if let ToPmix::ModexWanted { ask, .. } = message {
                    let outcome = Err(crate::wire::pmix::status::NOT_FOUND);
                    self.with_wiring(now, id, out, |wiring, acts| {
                        wiring.pmix_said(FromPmix::ModexFound { ask, outcome }, acts);
                    });
                }
            }
        }
    }

    pub(super) fn say_to_peer(
        &mut self,
        now: u64,
        to: u32,
        message: PeerMessage,
        out: &mut Vec<Effect>,
    ) {
        if to == self.launch.node_index {
            return self.on_peer(now, to, message, out);
        }
        let id = message.step();
        let mut frames = Vec::new();
        let sent = self.peers.send(now, to, message, &mut frames);
        report(frames, out);
        if !sent {
            let node = self.launch.nodes.get(to as usize).cloned();
            let text = format!(
                "too much waits to be sent to node {}, which does not answer",
                node.unwrap_or_default()
            );
            self.with_wiring(now, id, out, |wiring, acts| {
                wiring.fail(1, text, false, acts);
            });
        }
    }

    /// Ends a step because somebody wants it, each node its own part. Its tasks have as long for it as those of a job.
    pub(super) fn cancel_step(&mut self, now: u64, id: StepId, out: &mut Vec<Effect>) {
        let kill_ms = self.kill_wait_ms();
        let step = self.step_mut(id);
        let Some(step) = step.filter(|step| !step.is_over()) else {
            return;
        };
        let wiring = step.wiring.as_ref();
        let first = wiring.is_none_or(|wiring| wiring.is_on_first_node());
        let failure = StepFailure {
            exit: ExitStatus {
                code: 0,
                signal: u8::try_from(SIGTERM).unwrap_or(u8::MAX),
            },
            text: "it was cancelled".to_owned(),
            at_once: kill_ms == 0,
            at: self.controller_time(now),
        };
        self.end_step(now, id, &failure, (first, kill_ms), out);
    }

    /// Ends what runs of a step: SIGTERM and a time to follow it, or SIGKILL at once. This node says why if that is `ours`.
    fn end_step(
        &mut self,
        now: u64,
        id: StepId,
        failure: &StepFailure,
        (ours, kill_ms): (bool, u64),
        out: &mut Vec<Effect>,
    ) {
        let raw_job = self.raw_job();
        let Some(step) = self.step_mut(id) else {
            return;
        };
        if step.ending.is_some() {
            return;
        }
        step.wait_until = None;
        let at_once = failure.at_once;
        step.ending = Some(Ending {
            exit: failure.exit,
            kill_at: (!at_once).then(|| now.saturating_add(kill_ms)),
        });
        if ours {
            let text = format!("step {raw_job}.{id} is ended: {}", failure.text);
            out.push(Effect::StepNote { step: id, text });
        }
        let held = match std::mem::take(&mut step.held) {
            Held::Until(_, plans, _) => plans,
            // Who asks for it now is ended with the others.
            Held::No | Held::Door(_) => Vec::new(),
            other @ (Held::Called(_) | Held::Served) => {
                step.held = other;
                Vec::new()
            }
        };
        let running: Vec<TaskId> = step
            .running()
            .filter(|task| held.iter().all(|plan| plan.task != *task))
            .collect();
        let signal = if at_once { SIGKILL } else { SIGTERM };
        if let Some(to) = groups(running) {
            out.push(Effect::Signal {
                signal,
                to: to.clone(),
            });
            if !at_once {
                // Stopped processes act on SIGTERM only once they go on.
                let signal = SIGCONT;
                out.push(Effect::Signal { signal, to });
            }
        }
        for plan in held {
            self.task_exited(now, plan.task, failure.exit, Usage::default(), out);
        }
        self.end_kin(now, id, failure, ours, out);
        // All of them may have ended while it was settled why.
        self.step_over(now, id, out);
    }
}

/// A door at which nobody is to answer.
fn closed_door(step: StepId) -> Effect {
    Effect::PmixDoor {
        step,
        promise: None,
        sought: None,
    }
}

fn report(frames: Vec<Outgoing>, out: &mut Vec<Effect>) {
    out.extend(
        frames
            .into_iter()
            .map(|(to, frame)| Effect::Report(FromSlot::Peer { to, frame })),
    );
}

/// Starts all of these.
pub(super) fn spawn_all(plans: Vec<LaunchPlan>, out: &mut Vec<Effect>) {
    out.extend(plans.into_iter().map(|plan| Effect::Spawn(Box::new(plan))));
}
