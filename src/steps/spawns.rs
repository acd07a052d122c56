//! Steps that ranks of a step ask for (MPI_Comm_spawn), as a part of [`SlotCore`]. Each is started by a process of its own
//! beside the rank that asks, the *spawner*, which is the client of the new step and ends with it.
//!
//! The asking step, the *parent*, is over on no node before the steps that its ranks have asked for are, on whichever node.
//! Where one of these fails, the parent fails; where the parent is ended, they are.

use super::wire_acts::Asked;
use super::wires::STEP_KILL_MS;
use super::wiring::Wiring;
use super::{Effect, Phase, SIGKILL, SlotCore, TaskId, element_raw_id};
use crate::model::ids::StepId;
use crate::model::job::ExitStatus;
use crate::model::spawn::{SpawnRequest, Spawned};
use crate::wire::peer::{PeerMessage, StepFailure};
use crate::wire::spawner::{FromSpawner, SpawnOrder};
use std::collections::{BTreeMap, BTreeSet};

/// Steps that ranks of one node have asked for and that are not over: each has a process and a connection.
const OPEN_MAX: usize = 1_024;
/// How long a spawner has to end its step, once the parent is ended, before it is ended itself.
const END_MS: u64 = 3 * STEP_KILL_MS;
const SIGINT: i32 = 2;

/// Those that are not over.
#[derive(Debug, Default)]
pub(super) struct Spawns {
    next: u64,
    open: BTreeMap<u64, Spawn>,
}

/// One of them.
#[derive(Debug)]
struct Spawn {
    /// Who asked.
    asker: TaskId,
    /// By which number, until it is answered.
    ask: Option<Asked>,
    /// The step, once there is one.
    child: Option<StepId>,
    /// When its spawner is ended with SIGKILL.
    kill_at: Option<u64>,
}

/// What a step has to do with others.
#[derive(Debug, Default)]
pub(super) struct Kin {
    /// The step whose rank has asked for this one, and the rank.
    pub(super) parent: Option<(StepId, u32)>,
    /// So many steps that its ranks here have asked for are not over.
    open: usize,
    /// Nodes on which that is so.
    elsewhere: BTreeSet<u32>,
}

impl Kin {
    pub(super) fn of(spawned: Option<&Spawned>) -> Self {
        Kin {
            parent: spawned.map(|spawned| (spawned.parent, spawned.rank)),
            ..Kin::default()
        }
    }

    /// Whether steps are not over that it has to wait for.
    pub(super) fn keeps(&self) -> bool {
        self.open > 0 || !self.elsewhere.is_empty()
    }
}

impl SlotCore {
    /// A rank asks for a step.
    pub(super) fn spawn(
        &mut self,
        now: u64,
        asker: TaskId,
        ask: Asked,
        request: SpawnRequest,
        out: &mut Vec<Effect>,
    ) {
        let room = self.spawns.open.len() < OPEN_MAX;
        let mpi = self.step_mut(asker.step).and_then(|step| {
            let wiring = step.wiring.as_ref()?;
            step.kin.open += usize::from(room);
            Some(wiring.mpi())
        });
        let Some(mpi) = mpi else { return };
        if !room {
            let text = format!("the most that are not over at once is {OPEN_MAX}");
            return self.not_spawned(now, asker, ask, &request.programs(), &text, out);
        }
        let serial = self.spawns.next;
        self.spawns.next += 1;
        let spawn = Spawn {
            asker,
            ask: Some(ask),
            child: None,
            kill_at: None,
        };
        self.spawns.open.insert(serial, spawn);
        self.tell_of_spawns(now, asker.step, 1, out);
        let order = SpawnOrder {
            mpi,
            spawned: Spawned {
                parent: asker.step,
                rank: asker.rank,
                request,
            },
        };
        out.push(Effect::Spawner {
            serial,
            asker,
            order: Box::new(order),
        });
    }

    /// What a spawner says.
    pub(super) fn spawner_said(
        &mut self,
        now: u64,
        serial: u64,
        said: FromSpawner,
        out: &mut Vec<Effect>,
    ) {
        let Some(spawn) = self.spawns.open.get_mut(&serial) else {
            return;
        };
        let asker = spawn.asker;
        let Some(ask) = spawn.ask.take() else { return };
        match said {
            FromSpawner::Started { step } => {
                spawn.child = Some(step);
                let name = self.name_of(step);
                self.with_wiring(now, asker.step, out, |wiring, acts| {
                    wiring.spawned(ask, Ok(&name), acts);
                });
            }
            FromSpawner::Refused { text } => {
                self.not_spawned(now, asker, ask, "further processes", &text, out);
            }
        }
    }

    /// A spawner has ended, with the code of its step, or could not be started.
    pub(super) fn spawner_gone(
        &mut self,
        now: u64,
        serial: u64,
        exit: ExitStatus,
        text: Option<String>,
        out: &mut Vec<Effect>,
    ) {
        let Some(Spawn {
            asker, ask, child, ..
        }) = self.spawns.open.remove(&serial)
        else {
            return;
        };
        if let Some(ask) = ask {
            let own = || "the process that was to start them ended before it could".to_owned();
            let text = text.unwrap_or_else(own);
            self.not_spawned(now, asker, ask, "further processes", &text, out);
        }
        let raw = self.raw_job();
        let running = self.element.as_ref().map(|element| &element.phase) == Some(&Phase::Running);
        if let Some(child) = child.filter(|_| running && !exit.is_success()) {
            let how = super::wiring::how(exit);
            let text = format!(
                "step {raw}.{child}, which rank {} spawned, {how}",
                asker.rank
            );
            self.with_wiring(now, asker.step, out, |wiring, acts| {
                wiring.child_failed(exit, text, false, acts);
            });
        }
        if let Some(step) = self.step_mut(asker.step) {
            step.kin.open = step.kin.open.saturating_sub(1);
        }
        self.tell_of_spawns(now, asker.step, 0, out);
        self.step_over(now, asker.step, out);
    }

    /// Another node says whether ranks of a step there wait for steps.
    pub(super) fn spawns_elsewhere(
        &mut self,
        now: u64,
        from: u32,
        (id, open): (StepId, bool),
        out: &mut Vec<Effect>,
    ) {
        if let Some(step) = self.step_mut(id) {
            if open {
                step.kin.elsewhere.insert(from);
            } else {
                step.kin.elsewhere.remove(&from);
            }
            self.step_over(now, id, out);
        }
    }

    /// A step is ended here for this: what it has to do with others is.
    pub(super) fn end_kin(
        &mut self,
        now: u64,
        id: StepId,
        failure: &StepFailure,
        ours: bool,
        out: &mut Vec<Effect>,
    ) {
        let raw = self.raw_job();
        let parent = self.step_mut(id).and_then(|step| step.kin.parent);
        if let Some((parent, rank)) = parent.filter(|_| ours) {
            // Where it happened on a node that the parent is not on, the spawner's end tells of it.
            let text = format!(
                "step {raw}.{id}, which rank {rank} spawned, is ended: {}",
                failure.text
            );
            self.with_wiring(now, parent, out, |wiring, acts| {
                wiring.child_failed(failure.exit, text, failure.at_once, acts);
            });
        }
        let steps = self.element.iter().flat_map(|element| &element.steps);
        let is_child = |step: &&super::Step| {
            step.kin.parent.is_some_and(|(parent, _)| parent == id) && !step.is_over()
        };
        let here: Vec<StepId> = steps.filter(is_child).map(|step| step.id).collect();
        for child in &here {
            let text = format!("step {raw}.{id}, a rank of which spawned it, is ended");
            self.with_wiring(now, *child, out, |wiring, acts| {
                wiring.fail_with(failure.exit, text, failure.at_once, acts);
            });
        }
        let spawns = self.spawns.open.iter_mut();
        for (serial, spawn) in spawns.filter(|(_, spawn)| spawn.asker.step == id) {
            spawn.kill_at = Some(now.saturating_add(END_MS));
            if spawn.child.is_none_or(|child| !here.contains(&child)) {
                // It ends its step on the other nodes.
                out.push(Effect::EndSpawner {
                    serial: *serial,
                    signal: SIGINT,
                });
            }
        }
    }

    pub(super) fn spawns_deadline(&self) -> Option<u64> {
        let open = self.spawns.open.values();
        open.filter_map(|spawn| spawn.kill_at).min()
    }

    pub(super) fn spawns_on_time(&mut self, now: u64, out: &mut Vec<Effect>) {
        for (serial, spawn) in &mut self.spawns.open {
            if spawn.kill_at.take_if(|at| *at <= now).is_some() {
                out.push(Effect::EndSpawner {
                    serial: *serial,
                    signal: SIGKILL,
                });
            }
        }
    }

    /// Answers that there are none, and says why where people see it.
    fn not_spawned(
        &mut self,
        now: u64,
        asker: TaskId,
        ask: Asked,
        what: &str,
        why: &str,
        out: &mut Vec<Effect>,
    ) {
        let rank = asker.rank;
        out.push(Effect::StepNote {
            step: asker.step,
            text: format!("rank {rank} could not spawn {what}: {why}"),
        });
        self.with_wiring(now, asker.step, out, |wiring: &mut Wiring, acts| {
            wiring.spawned(ask, Err(why), acts);
        });
    }

    /// Tells the other nodes of a step whether some are not over, where that has just changed: `first` is how many there
    /// are when it has.
    fn tell_of_spawns(&mut self, now: u64, id: StepId, first: usize, out: &mut Vec<Effect>) {
        let others = self.step_mut(id).filter(|step| step.kin.open == first);
        let others = others.and_then(|step| Some(step.wiring.as_ref()?.other_nodes()));
        for to in others.unwrap_or_default() {
            let message = PeerMessage::Spawns {
                step: id,
                open: first > 0,
            };
            self.say_to_peer(now, to, message, out);
        }
    }

    /// The raw id of the element that runs.
    pub(super) fn raw_job(&self) -> u32 {
        self.element.as_ref().map_or(0, |element| {
            element_raw_id(self.launch.key.job, element.facts.position)
        })
    }
}
