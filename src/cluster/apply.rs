//! apply: the one `match event`; nothing else changes a [`Cluster`]. Every event applies: one that names a
//! job or slot that is gone changes nothing.

use super::effect::Effect;
use super::event::Event;
use super::snapshot::Blocked;
use super::{Cluster, launch};
use crate::model::history::{Granted, StepRow};
use crate::model::ids::{JobId, NodeId, SlotId, SlotKey};
use crate::model::index_set::IndexSet;
use crate::model::job::{ExitStatus, Job, KillCause, Reason, RunningStep, Slot};
use crate::model::node::{Link, Node};
use crate::model::stops::Stops;
use crate::model::time::Timestamp;
use crate::wire::worker::{StepOrder, ToSlot};
use std::sync::Arc;

impl Cluster {
    pub(super) fn apply(&mut self, event: Event, effects: &mut Vec<Effect>) {
        match event {
            Event::JobSubmitted(job) => {
                self.counters.job_next = job.id.0.saturating_add(job.spec.count());
                self.touched.counters = true;
                self.touched.jobs.insert(job.id);
                let mut job = *job;
                if let Some(spec) = Arc::get_mut(&mut job.spec) {
                    spec.share(&mut self.commons);
                }
                if !self.waits_like_others(&job) {
                    effects.push(Effect::Plan);
                }
                self.index_in(&job);
                self.jobs.insert(job.id, Arc::new(job));
            }
            Event::SpecChanged {
                job,
                spec,
                not_before,
                waits_for,
            } => {
                self.change(job, |job| {
                    job.spec = spec;
                    job.not_before = not_before;
                    job.waits_for = waits_for.into();
                    job.reason = Reason::None;
                });
                self.ends_move(job);
                self.say_limit(job, effects);
                effects.push(Effect::Plan);
            }
            Event::HoldChanged { job, hold } => {
                self.change(job, |job| job.hold = hold);
                effects.push(Effect::Plan);
            }
            Event::ReasonChanged { job, reason } => self.change(job, |job| job.reason = reason),
            Event::DependencyDecided {
                job,
                waits_for,
                not_before,
            } => {
                self.change(job, |job| {
                    job.waits_for = waits_for.into();
                    if not_before.is_some() {
                        job.not_before = job.not_before.max(not_before);
                    }
                });
                effects.push(Effect::Plan);
            }
            Event::CounterpartsEnded { job, positions } => {
                self.change(job, |job| {
                    job.waiting.subtract(&positions);
                    job.pending.union_with(&positions);
                });
                effects.push(Effect::Plan);
            }
            Event::TimeReached { job } => {
                self.change(job, |job| job.not_before = None);
                effects.push(Effect::Plan);
            }
            Event::SlotGranted {
                job,
                slot,
                allocation,
                positions,
                at,
            } => {
                self.grant(job, slot, allocation, positions, at, effects);
            }
            Event::SlotExtended {
                job,
                slot,
                positions,
            } => {
                self.change_slot(job, slot, |job, at| {
                    job.pending.subtract(&positions);
                    job.slots[at].queue.union_with(&positions);
                    job.slots[at].given.union_with(&positions);
                });
                self.tell(job, slot, effects, |job, _| ToSlot::Extend {
                    positions: positions.clone(),
                    restarts: restarts_among(job, &positions),
                });
            }
            Event::RetractOrdered { job, slot } => {
                self.change_quietly(job, slot, |slot| slot.retracting = true);
                self.tell(job, slot, effects, |_, slot| ToSlot::Retract {
                    positions: slot.queue.clone(),
                });
            }
            Event::PutBack {
                job,
                slot,
                positions,
                restarted,
                not_before,
            } => {
                self.change_slot(job, slot, |job, at| {
                    let slot = &mut job.slots[at];
                    slot.queue.subtract(&positions);
                    forget_kills(slot);
                    slot.retracting = false;
                    forget_parts(slot);
                    if slot
                        .current
                        .is_some_and(|current| positions.contains(current.position))
                    {
                        slot.current = None;
                        slot.stops.past_ms = 0;
                    }
                    job.pending.union_with(&positions);
                    if restarted {
                        positions
                            .iter()
                            .for_each(|position| count_restart(job, position));
                    }
                    if not_before.is_some() {
                        job.not_before = not_before;
                    }
                });
                effects.push(Effect::Plan);
            }
            Event::SlotConfirmed { job, slot, current } => {
                let first = self
                    .slot(SlotKey { job, slot })
                    .is_some_and(|slot| !slot.confirmed);
                self.change_quietly(job, slot, |slot| {
                    slot.confirmed = true;
                    slot.current = current.filter(|current| slot.queue.contains(current.position));
                });
                if first {
                    self.touched.jobs.insert(job);
                }
            }
            Event::NodePresent { job, slot, node } => {
                self.change_quietly(job, slot, |slot| {
                    if !slot.present.contains(&node) {
                        slot.present.push(node);
                    }
                });
            }
            Event::GangBegun { job, slot } => self.begin(job, slot, effects),
            Event::GoRepeated { job, slot, node } => effects.push(Effect::Tell {
                node,
                key: SlotKey { job, slot },
                order: ToSlot::Go,
            }),
            Event::ElementStarted { job, slot, current } => {
                let first = self
                    .slot(SlotKey { job, slot })
                    .is_some_and(|slot| !slot.confirmed);
                self.change_quietly(job, slot, |slot| {
                    slot.confirmed = true;
                    let is_new = match slot.current {
                        Some(known) => known.position != current.position,
                        None => slot.ended_count > 0,
                    };
                    if is_new {
                        slot.stops.forget(current.started);
                    }
                    slot.current = Some(current);
                });
                self.end_moves(job, slot);
                if first {
                    self.touched.jobs.insert(job);
                }
            }
            Event::ElementsEnded {
                job,
                slot,
                ends,
                at,
            } => self.elements_ended(job, slot, ends, at, effects),
            Event::NodePartEnded { job, slot, end } => {
                self.change_slot(job, slot, |job, at| {
                    let ends = &mut job.slots[at].node_ends;
                    // Said again by a node that has not heard that it was taken.
                    ends.retain(|known| {
                        known.node != end.node || known.end.position != end.end.position
                    });
                    ends.push(end);
                });
            }
            Event::WaitingEnded { job, ended } => self.waiting_ended(job, ended, effects),
            Event::KillOrdered {
                job,
                slot,
                kill,
                at_once,
                at,
            } => {
                let (positions, cause) = (kill.positions.clone(), kill.cause);
                self.change_slot(job, slot, |job, place| {
                    job.slots[place].kills.push(kill);
                    job.slots[place].told_to_end = at;
                });
                self.end_moves(job, slot);
                if let Some(cause) = cause.as_told() {
                    self.tell(job, slot, effects, |_, _| ToSlot::Kill {
                        positions: positions.clone(),
                        cause,
                        at_once,
                    });
                }
            }
            Event::Warned { job, slot, kill } => self.is_warned(job, slot, kill, effects),
            Event::Spared { job, slot } => self.spared(job, slot, effects),
            Event::SignalOrdered {
                job,
                slot,
                signal,
                to,
            } => {
                self.tell(job, slot, effects, |_, _| ToSlot::Signal { signal, to });
            }
            Event::SlotSuspended {
                job,
                slot,
                stop,
                at,
            } => self.suspended(job, slot, stop, at, effects),
            Event::SlotLends { job, slot, to, at } => {
                self.lends(job, slot, Some(to), at, effects);
            }
            Event::SlotGoesOn { job, slot, at } => self.lends(job, slot, None, at, effects),
            Event::SlotReleased { job, slot, code } => {
                self.change_slot(job, slot, |job, at| job.slots[at].released = Some(code));
                self.tell(job, slot, effects, |_, _| ToSlot::Release { code });
            }
            Event::SlotClosed { job, slot, at } => {
                self.forget_orders(SlotKey { job, slot });
                self.tell(job, slot, effects, |_, _| ToSlot::Close);
                let Some(closed) = self.slot(SlotKey { job, slot }).cloned() else {
                    return;
                };
                self.give_back(&closed.allocation);
                self.keep_lent(SlotKey { job, slot }, &closed.allocation.nodes);
                if let Some(known) = self.jobs.get(&job).cloned() {
                    self.vacate(&known, &closed, at);
                }
                let nodes = closed.allocation.nodes.iter().map(|share| share.node);
                self.closed.push_back(super::ClosedSlot {
                    key: SlotKey { job, slot },
                    nodes: nodes.collect(),
                    steps_begun: self.jobs.get(&job).map_or(0, |job| job.step_next),
                });
                if self.closed.len() > super::CLOSED_MAX {
                    self.closed.pop_front();
                }
                self.change(job, |job| job.slots.retain(|slot| slot.id != closed.id));
                effects.push(Effect::Plan);
            }
            Event::JobEnded(ended) => {
                let Some(job) = self.jobs.remove(&ended.id) else {
                    return;
                };
                self.index_out(&job);
                self.learn(&ended);
                self.touched.jobs.insert(job.id);
                self.remember(job.id, (&*ended).into());
                effects.push(Effect::JobEnded {
                    job: job.id,
                    state: ended.state,
                    exit: ended.exit,
                });
                effects.push(Effect::Plan);
                self.touched.changes.ended.push(*ended);
            }
            Event::StepStarted { job, slot, order } => {
                self.change(job, |job| {
                    job.step_next = job.step_next.max(order.launch.step.0 + 1)
                });
                self.step_started(job, slot, order, effects);
            }
            Event::StepEnded(row) => self.step_ended(row, effects),
            Event::StepFailed {
                node,
                job,
                step,
                text,
            } => effects.push(Effect::StepFailed {
                job,
                node,
                step,
                text,
            }),
            Event::ReportTaken {
                node,
                job,
                slot,
                report,
            } => {
                let key = SlotKey { job, slot };
                effects.push(Effect::Tell {
                    node,
                    key,
                    order: ToSlot::Acknowledge { report },
                });
            }
            Event::NodeRegistered(node) => self.register(*node, effects),
            Event::SlotRepeated {
                job,
                slot,
                node,
                launch,
            } => self.repeat(job, slot, node, launch, effects),
            Event::SlotUnknown { node, job, slot } => {
                self.change_quietly(job, slot, |slot| slot.gone = true);
                effects.push(Effect::Tell {
                    node,
                    key: SlotKey { job, slot },
                    order: ToSlot::Close,
                });
            }
            Event::LinkChanged { node, link } => {
                self.link_changed(node, link);
                effects.push(Effect::Plan);
            }
            Event::LeaseTaken {
                job,
                slot,
                node,
                ends_after_ms,
            } => {
                self.change_slot(job, slot, |job, at| {
                    let leases = &mut job.slots[at].leases;
                    leases.retain(|(known, _)| *known != node);
                    leases.push((node, ends_after_ms));
                });
            }
            Event::ClockStepped { by_ms } => {
                self.books.clock_stepped(by_ms);
                self.grace_steps(by_ms);
                self.queue.clock_stepped(by_ms);
                self.failures_step(by_ms);
                self.booked_until = Timestamp::default();
                effects.push(Effect::Plan);
                for since in self.cut_off.values_mut() {
                    *since = since.plus_ms(by_ms);
                }
                let ids: Vec<NodeId> = self.cut_off.keys().copied().collect();
                for id in ids {
                    if let Some(known) = self.nodes.get_mut(&id)
                        && let Link::Silent(since) = known.link
                    {
                        Arc::make_mut(known).link = Link::Silent(since.plus_ms(by_ms));
                        self.touched.nodes.insert(id);
                    }
                }
            }
            Event::LinkDropped { node, at } => {
                self.link_changed(node, Link::Silent(at));
                effects.push(Effect::DropLink { node });
                effects.push(Effect::Plan);
            }
            Event::DrainChanged { node, drain } => {
                if let Some(known) = self.nodes.get_mut(&node) {
                    Arc::make_mut(known).drain = drain;
                    self.touched.nodes.insert(node);
                }
                self.survey();
                effects.push(Effect::Plan);
            }
            Event::FailuresChanged { node, failures } => {
                self.failures_changed(node, failures);
                effects.push(Effect::Plan);
            }
            Event::NodeRemoved { node } => {
                self.nodes.remove(&node);
                self.survey();
                self.cut_off.remove(&node);
                self.touched.nodes.insert(node);
            }
            Event::InvitationMade { token, invitation } => {
                self.invitations.insert(token, Arc::new(*invitation));
                self.touched.invitations.insert(token);
            }
            Event::InvitationUsed { token } => {
                if let Some(invitation) = self.invitations.get_mut(&token) {
                    let invitation = Arc::make_mut(invitation);
                    invitation.uses_left = invitation.uses_left.saturating_sub(1);
                    self.touched.invitations.insert(token);
                }
            }
            Event::InvitationForgotten { token } => {
                self.invitations.remove(&token);
                self.touched.invitations.insert(token);
            }
            Event::KeyAdmitted { key, known } => {
                self.keys.insert(key, Arc::new(*known));
                self.touched.keys.insert(key);
            }
            Event::KeyRevoked { key } => {
                self.keys.remove(&key);
                self.touched.keys.insert(key);
                effects.push(Effect::Cut { key });
            }
            Event::RulesChanged(rules) => {
                self.rules_changed(*rules);
                effects.push(Effect::Plan);
            }
            Event::PlanDue => {
                self.plan_again = None;
                effects.push(Effect::Plan);
            }
            Event::Blocked {
                jobs,
                groups,
                kept,
                promised,
                again,
            } => {
                self.plan_again = again;
                self.promised = promised;
                let nothing = jobs.is_empty() && groups.is_empty();
                if !(nothing && self.blocked.is_empty()) {
                    self.blocked = Arc::new(Blocked {
                        jobs: jobs.into_iter().collect(),
                        groups: groups.into_iter().collect(),
                        kept: kept.into_iter().collect(),
                    });
                }
            }
        }
    }

    /// The clock was set: the grace of who was warned is as long as it was.
    fn grace_steps(&mut self, by_ms: i64) {
        let keys: Vec<SlotKey> = self.warned.iter().map(|(_, key)| *key).collect();
        for key in keys {
            self.change_slot(key.job, key.slot, |job, at| {
                for kill in &mut job.slots[at].kills {
                    if let KillCause::Warned { until, .. } = &mut kill.cause {
                        *until = until.plus_ms(by_ms);
                    }
                }
            });
            self.end_moves(key.job, key.slot);
        }
    }

    fn link_changed(&mut self, node: NodeId, link: Link) {
        let Some(known) = self.nodes.get_mut(&node) else {
            return;
        };
        Arc::make_mut(known).link = link;
        self.survey();
        self.touched.nodes.insert(node);
        match link {
            Link::Up => _ = self.cut_off.remove(&node),
            Link::Silent(since) => _ = self.cut_off.insert(node, since),
            // It was silent before, and since then it counts.
            Link::Down(since) => _ = self.cut_off.entry(node).or_insert(since),
        }
    }

    /// Changes a job and keeps the indexes true. A job that is gone stays gone.
    pub(super) fn change(&mut self, id: JobId, change: impl FnOnce(&mut Job)) {
        let Some(before) = self.jobs.get(&id).cloned() else {
            return;
        };
        self.index_out(&before);
        let mut after = (*before).clone();
        drop(before);
        change(&mut after);
        self.index_in(&after);
        self.jobs.insert(id, Arc::new(after));
        self.touched.jobs.insert(id);
    }

    pub(super) fn change_slot(
        &mut self,
        id: JobId,
        slot: SlotId,
        change: impl FnOnce(&mut Job, usize),
    ) {
        self.change(id, |job| {
            if let Some(at) = job.slots.iter().position(|known| known.id == slot) {
                change(job, at);
            }
        });
    }

    /// Changes of a slot that no index and no row depends on.
    fn change_quietly(&mut self, id: JobId, slot: SlotId, change: impl FnOnce(&mut Slot)) {
        if let Some(job) = self.jobs.get_mut(&id)
            && let Some(slot) = Arc::make_mut(job)
                .slots
                .iter_mut()
                .find(|known| known.id == slot)
        {
            change(slot);
        }
    }

    /// Tells what runs of a job the time limit in force.
    fn say_limit(&self, id: JobId, effects: &mut Vec<Effect>) {
        let Some(job) = self.jobs.get(&id) else {
            return;
        };
        let seconds = self.time_limit_s(job);
        for slot in &job.slots {
            self.tell(id, slot.id, effects, |_, _| ToSlot::Limit { seconds });
        }
    }

    /// Orders something of a slot on all its nodes.
    pub(super) fn tell(
        &self,
        job: JobId,
        slot: SlotId,
        effects: &mut Vec<Effect>,
        order: impl Fn(&Job, &Slot) -> ToSlot,
    ) {
        let key = SlotKey { job, slot };
        let Some(job) = self.jobs.get(&job) else {
            return;
        };
        let Some(slot) = job.slot(slot) else { return };
        for share in &slot.allocation.nodes {
            effects.push(Effect::Tell {
                node: share.node,
                key,
                order: order(job, slot),
            });
        }
    }

    /// An allocation as the history has it.
    pub(super) fn granted_by(&self, allocation: &crate::model::allocation::Allocation) -> Granted {
        Granted {
            nodes: allocation
                .nodes
                .iter()
                .filter_map(|share| self.nodes.get(&share.node))
                .map(|node| node.name().to_owned())
                .collect(),
            cpus: allocation.cpus(),
            memory_mib: allocation.memory_mib(),
            gpus: allocation.gpus(),
            ntasks: allocation.tasks(),
        }
    }

    fn grant(
        &mut self,
        id: JobId,
        slot: SlotId,
        allocation: Arc<crate::model::allocation::Allocation>,
        positions: IndexSet,
        at: Timestamp,
        effects: &mut Vec<Effect>,
    ) {
        if !self.jobs.contains_key(&id) {
            return;
        }
        self.take_off(&allocation);
        let alone = allocation.nodes.len() == 1;
        let granted = self.granted_by(&allocation);
        let gives = |node: &NodeId| self.nodes.get(node).is_some_and(|node| node.gives_leases);
        let nodes = allocation.nodes.iter().map(|share| share.node);
        let leasing: Vec<NodeId> = nodes.filter(gives).collect();
        let lease_ms = self.settings.lease_ms;
        let depth = self.depth_of(&allocation);
        self.change(id, |job| {
            let leases = match launch::lease_ms(lease_ms, &job.spec) {
                Some(ms) => leasing.iter().map(|node| (*node, ms)).collect(),
                None => Vec::new(),
            };
            job.pending.subtract(&positions);
            job.slot_next = job.slot_next.max(slot.0 + 1);
            job.granted = Arc::new(granted);
            job.slots.push(Slot {
                id: slot,
                allocation,
                granted: at,
                given: positions.clone(),
                queue: positions,
                confirmed: false,
                current: None,
                kills: Vec::new(),
                suspended: false,
                stops: Stops {
                    depth,
                    ..Stops::default()
                },
                released: None,
                node_ends: Vec::new(),
                ended_count: 0,
                heard: at,
                retracting: false,
                gone: false,
                leases,
                begun: alone,
                steps: Vec::new(),
                present: Vec::new(),
                told_to_end: at,
            });
        });
        if let Some(job) = self.jobs.get(&id).cloned()
            && let Some(granted) = job.slot(slot)
        {
            self.occupy(&job, granted, Some(at));
        }
        if alone {
            effects.push(Effect::SlotGranted {
                key: SlotKey { job: id, slot },
            });
        }
        self.repeat_launch(id, slot, None, effects);
    }

    /// A gang begins: its nodes are told, and what was asked of it meanwhile.
    fn begin(&mut self, id: JobId, slot_id: SlotId, effects: &mut Vec<Effect>) {
        let key = SlotKey {
            job: id,
            slot: slot_id,
        };
        self.change_slot(id, slot_id, |job, at| {
            job.slots[at].begun = true;
            job.slots[at].present = Vec::new();
        });
        self.tell(id, slot_id, effects, |_, _| ToSlot::Go);
        for step in self.steps.get(&key).into_iter().flatten() {
            self.tell(id, slot_id, effects, |_, _| step.order());
        }
        if let Some(code) = self.slot(key).and_then(|slot| slot.released) {
            self.tell(id, slot_id, effects, |_, _| ToSlot::Release { code });
        }
        effects.push(Effect::SlotGranted { key });
    }

    /// Says the launch of a slot to one node or all.
    fn repeat_launch(
        &self,
        job: JobId,
        slot: SlotId,
        only: Option<NodeId>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(job) = self.jobs.get(&job) else {
            return;
        };
        let Some(slot) = job.slot(slot) else { return };
        for (index, share) in slot.allocation.nodes.iter().enumerate() {
            if only.is_none_or(|only| only == share.node) {
                let launch = launch::of(self, job, slot, index);
                effects.push(Effect::Launch {
                    node: share.node,
                    launch: Box::new(launch),
                    blobs: job.spec.blobs(),
                });
            }
        }
    }

    /// A launch is said again, to an agent that gives leases or not.
    fn lease_of_launch(&mut self, id: JobId, slot_id: SlotId, node: NodeId) {
        let gives = self.nodes.get(&node).is_some_and(|node| node.gives_leases);
        let lease_ms = self.settings.lease_ms;
        self.change_slot(id, slot_id, |job, at| {
            let ms = launch::lease_ms(lease_ms, &job.spec).filter(|_| gives);
            let leases = &mut job.slots[at].leases;
            leases.retain(|(known, _)| *known != node);
            leases.extend(ms.map(|ms| (node, ms)));
        });
    }

    /// Says again what a worker may have missed.
    fn repeat(
        &mut self,
        id: JobId,
        slot_id: SlotId,
        node: NodeId,
        launch: bool,
        effects: &mut Vec<Effect>,
    ) {
        let key = SlotKey {
            job: id,
            slot: slot_id,
        };
        if launch {
            self.lease_of_launch(id, slot_id, node);
            self.repeat_launch(id, slot_id, Some(node), effects);
        }
        let Some(job) = self.jobs.get(&id) else {
            return;
        };
        let Some(slot) = job.slot(slot_id) else {
            return;
        };
        let seconds = self.time_limit_s(job);
        let mut tell = |order| effects.push(Effect::Tell { node, key, order });
        if !launch {
            tell(ToSlot::Limit { seconds });
            tell(ToSlot::Extend {
                positions: slot.queue.clone(),
                restarts: restarts_among(job, &slot.queue),
            });
        }
        for kill in &slot.kills {
            tell(match kill.cause.as_told() {
                Some(cause) => ToSlot::Kill {
                    positions: kill.positions.clone(),
                    cause,
                    at_once: false,
                },
                None => super::lending::WARNING,
            });
        }
        // Either way: the one that was missed may have been to go on.
        tell(ToSlot::Suspend {
            stop: slot.is_stopped(),
        });
        // What runs in an element, or ends it, is said once there is one.
        let steps = self.steps.get(&key).filter(|_| slot.begun);
        for step in steps.into_iter().flatten() {
            tell(step.order());
        }
        if let Some(code) = slot.released.filter(|_| slot.begun) {
            tell(ToSlot::Release { code });
        }
        self.change_quietly(id, slot_id, |slot| slot.retracting = false);
    }

    fn step_started(
        &mut self,
        job: JobId,
        slot: SlotId,
        order: Arc<StepOrder>,
        effects: &mut Vec<Effect>,
    ) {
        let counts = order.launch.tasks.iter().zip(0u32..);
        let nodes: Vec<u32> = counts
            .filter(|(tasks, _)| **tasks > 0)
            .map(|(_, at)| at)
            .collect();
        self.change_slot(job, slot, |job, at| {
            job.slots[at].steps.push(RunningStep {
                step: order.launch.step,
                left: nodes.clone(),
                nodes,
                worst: ExitStatus::default(),
            });
        });
        let key = SlotKey { job, slot };
        if self.slot(key).is_some_and(|slot| slot.begun) {
            self.tell(job, slot, effects, |_, _| order.order());
        }
        self.touched.orders.insert((key, order.launch.step));
        self.steps.entry(key).or_default().push(order);
    }

    /// A slot's steps are over with it.
    fn forget_orders(&mut self, key: SlotKey) {
        let orders = self.steps.remove(&key).unwrap_or_default();
        let steps = orders.iter().map(|order| (key, order.launch.step));
        self.touched.orders.extend(steps);
    }

    /// A step ended on one node; it is over when it has on all.
    fn step_ended(&mut self, row: StepRow, effects: &mut Vec<Effect>) {
        let key = SlotKey {
            job: row.job,
            slot: row.slot,
        };
        // Of one that is not known (the order of an earlier build) this is all there is.
        let mut over = Some(row.exit);
        let known = self.slot(key).and_then(|slot| {
            let step = slot.steps.iter().find(|step| step.step == row.step)?;
            Some((step.clone(), slot.place_of(row.node)))
        });
        if let Some((mut step, place)) = known {
            step.left.retain(|left| Some(*left) != place);
            if row.exit.shell_code() > step.worst.shell_code() {
                step.worst = row.exit;
            }
            over = step.left.is_empty().then_some(step.worst);
            self.change_slot(row.job, row.slot, |job, at| {
                let steps = &mut job.slots[at].steps;
                steps.retain(|known| known.step != step.step);
                if !step.left.is_empty() {
                    steps.push(step);
                }
            });
        }
        if let Some(exit) = over {
            if let Some(steps) = self.steps.get_mut(&key) {
                steps.retain(|step| step.launch.step != row.step);
            }
            self.touched.orders.insert((key, row.step));
            effects.push(Effect::StepEnded {
                key,
                step: row.step,
                exit,
            });
        }
        self.touched.changes.steps.push(row);
    }

    fn register(&mut self, node: Node, effects: &mut Vec<Effect>) {
        let id = node.id;
        self.counters.node_next = self.counters.node_next.max(id.0 + 1);
        self.touched.counters = true;
        self.touched.nodes.insert(id);
        self.cut_off.remove(&id);
        self.nodes.insert(id, Arc::new(node));
        let held: Vec<_> = self
            .jobs
            .values()
            .flat_map(|job| &job.slots)
            .filter(|slot| slot.allocation.share(id).is_some())
            .map(|slot| Arc::clone(&slot.allocation))
            .collect();
        for allocation in held {
            for share in allocation.nodes.iter().filter(|share| share.node == id) {
                self.take_off(&crate::model::allocation::Allocation {
                    nodes: vec![share.clone()],
                });
            }
        }
        self.survey();
        effects.push(Effect::Plan);
    }
}

/// Orders whose positions have all left the slot are carried out.
pub(super) fn forget_kills(slot: &mut Slot) {
    slot.kills.retain(|kill| {
        let mut left = kill.positions.clone();
        left.intersect(&slot.queue);
        !left.is_empty()
    });
}

/// Parts of positions that have left the slot add up to nothing any more.
pub(super) fn forget_parts(slot: &mut Slot) {
    let queue = &slot.queue;
    slot.node_ends
        .retain(|known| queue.contains(known.end.position));
}

/// (position, restarts) of those among `positions` that were put back before.
pub(super) fn restarts_among(job: &Job, positions: &IndexSet) -> Vec<(u32, u32)> {
    job.restarts
        .iter()
        .copied()
        .filter(|(position, _)| positions.contains(*position))
        .collect()
}

fn count_restart(job: &mut Job, position: u32) {
    match job
        .restarts
        .binary_search_by_key(&position, |(position, _)| *position)
    {
        Ok(found) => job.restarts[found].1 += 1,
        Err(at) => job.restarts.insert(at, (position, 1)),
    }
}
