//! What has happened, with every choice already made. Every event applies.

use crate::model::allocation::Allocation;
use crate::model::fading::Fading;
use crate::model::history::{EndedJob, NeverStarted, StepRow};
use crate::model::identity::{Invitation, KeyId, KnownKey, TokenHash};
use crate::model::ids::{JobId, NodeId, SlotId, StepId};
use crate::model::index_set::IndexSet;
use crate::model::job::{Current, ElementEnd, Hold, Job, JobSpec, Kill, NodeEnd, Reason};
use crate::model::node::{Link, Node};
use crate::model::rules::Rules;
use crate::model::time::Timestamp;
use crate::scheduler::plan::Promise;
use crate::scheduler::queue::GroupKey;
use crate::wire::worker::{SignalTarget, StepOrder};
use std::sync::Arc;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A job was admitted.
    JobSubmitted(Box<Job>),
    /// A job is asked for differently.
    SpecChanged {
        /// Which.
        job: JobId,
        /// As it is now asked for.
        spec: Arc<JobSpec>,
        /// Not before.
        not_before: Option<Timestamp>,
        /// Dependency terms undecided.
        waits_for: Vec<u32>,
    },
    /// Held or let go.
    HoldChanged {
        /// Which.
        job: JobId,
        /// By whom.
        hold: Hold,
    },
    /// Why a job waits has changed.
    ReasonChanged {
        /// Which.
        job: JobId,
        /// Why.
        reason: Reason,
    },
    /// A dependency came closer: what is still undecided.
    DependencyDecided {
        /// Which.
        job: JobId,
        /// Terms undecided.
        waits_for: Vec<u32>,
        /// Not before (`after` with a delay).
        not_before: Option<Timestamp>,
    },
    /// Elements whose counterpart ended well may start.
    CounterpartsEnded {
        /// Which.
        job: JobId,
        /// Its positions.
        positions: IndexSet,
    },
    /// The begin time has come.
    TimeReached {
        /// Which.
        job: JobId,
    },
    /// An allocation was granted.
    SlotGranted {
        /// To whom.
        job: JobId,
        /// Its number.
        slot: SlotId,
        /// What.
        allocation: Arc<Allocation>,
        /// Positions to run.
        positions: IndexSet,
        /// When.
        at: Timestamp,
    },
    /// A slot was given more.
    SlotExtended {
        /// Whose.
        job: JobId,
        /// Which.
        slot: SlotId,
        /// Positions to run.
        positions: IndexSet,
    },
    /// A slot is asked to give back what has not started.
    RetractOrdered {
        /// Whose.
        job: JobId,
        /// Which.
        slot: SlotId,
    },
    /// Positions went back from a slot to the queue.
    PutBack {
        /// Whose.
        job: JobId,
        /// Which slot.
        slot: SlotId,
        /// Positions.
        positions: IndexSet,
        /// They had started: count a restart.
        restarted: bool,
        /// Not before.
        not_before: Option<Timestamp>,
    },
    /// The worker has the slot.
    SlotConfirmed {
        /// Whose.
        job: JobId,
        /// Which.
        slot: SlotId,
        /// What runs there.
        current: Option<Current>,
    },
    /// A node of a gang has the slot and waits for the word to begin.
    NodePresent {
        /// Whose.
        job: JobId,
        /// Which.
        slot: SlotId,
        /// Which node.
        node: NodeId,
    },
    /// All nodes of a gang have the slot: it begins.
    GangBegun {
        /// Whose.
        job: JobId,
        /// Which.
        slot: SlotId,
    },
    /// A node of a gang that has begun may not have heard so.
    GoRepeated {
        /// Whose.
        job: JobId,
        /// Which.
        slot: SlotId,
        /// Which node.
        node: NodeId,
    },
    /// An element started.
    ElementStarted {
        /// Whose.
        job: JobId,
        /// Where.
        slot: SlotId,
        /// Which, and when.
        current: Current,
    },
    /// Elements of a slot ended.
    ElementsEnded {
        /// Whose.
        job: JobId,
        /// Where.
        slot: SlotId,
        /// How.
        ends: Vec<ElementEnd>,
        /// When this was heard.
        at: Timestamp,
    },
    /// One node's part of a gang ended.
    NodePartEnded {
        /// Whose.
        job: JobId,
        /// Where.
        slot: SlotId,
        /// How.
        end: NodeEnd,
    },
    /// Positions ended that never started.
    WaitingEnded {
        /// Whose.
        job: JobId,
        /// Which and how.
        ended: NeverStarted,
    },
    /// Elements of a slot are to end.
    KillOrdered {
        /// Whose.
        job: JobId,
        /// Where.
        slot: SlotId,
        /// Which and why.
        kill: Kill,
        /// Without SIGTERM.
        at_once: bool,
        /// When.
        at: Timestamp,
    },
    /// Nobody needs the place any more of which a slot was warned: what is in it goes on.
    Spared {
        /// Whose.
        job: JobId,
        /// Where.
        slot: SlotId,
    },
    /// Elements of a slot are warned that they will have to make room.
    Warned {
        /// Whose.
        job: JobId,
        /// Where.
        slot: SlotId,
        /// Which, and until when.
        kill: Kill,
    },
    /// A signal is to be sent.
    SignalOrdered {
        /// Whose.
        job: JobId,
        /// Where.
        slot: SlotId,
        /// Number.
        signal: i32,
        /// To whom.
        to: SignalTarget,
    },
    /// Stopped, or going on.
    SlotSuspended {
        /// Whose.
        job: JobId,
        /// Which.
        slot: SlotId,
        /// Stopped?
        stop: bool,
        /// When.
        at: Timestamp,
    },
    /// A slot is stopped and its cpus are lent.
    SlotLends {
        /// Whose.
        job: JobId,
        /// Which.
        slot: SlotId,
        /// For whom.
        to: JobId,
        /// When.
        at: Timestamp,
    },
    /// A slot has its cpus again and goes on.
    SlotGoesOn {
        /// Whose.
        job: JobId,
        /// Which.
        slot: SlotId,
        /// When.
        at: Timestamp,
    },
    /// An allocation's client is done.
    SlotReleased {
        /// Whose.
        job: JobId,
        /// Which.
        slot: SlotId,
        /// With this code.
        code: u8,
    },
    /// A slot gave its allocation back.
    SlotClosed {
        /// Whose.
        job: JobId,
        /// Which.
        slot: SlotId,
        /// When.
        at: Timestamp,
    },
    /// A job has ended and leaves the hot state.
    JobEnded(Box<EndedJob>),
    /// A step was started.
    StepStarted {
        /// Whose.
        job: JobId,
        /// Where.
        slot: SlotId,
        /// What.
        order: Arc<StepOrder>,
    },
    /// A step ended on a node.
    StepEnded(StepRow),
    /// A step could not start on a node.
    StepFailed {
        /// Which node.
        node: NodeId,
        /// Whose.
        job: JobId,
        /// Its number.
        step: StepId,
        /// Why.
        text: String,
    },
    /// A report is safe with us.
    ReportTaken {
        /// From which node.
        node: NodeId,
        /// Of whose slot.
        job: JobId,
        /// Which.
        slot: SlotId,
        /// Its number.
        report: u64,
    },
    /// A machine introduced itself.
    NodeRegistered(Box<Node>),
    /// A slot must be said again to its worker, because the worker may not have heard.
    SlotRepeated {
        /// Whose.
        job: JobId,
        /// Which.
        slot: SlotId,
        /// To which node.
        node: NodeId,
        /// As a launch, or only what it should have.
        launch: bool,
    },
    /// A worker holds a slot that is none of ours any more.
    SlotUnknown {
        /// On which node.
        node: NodeId,
        /// Whose.
        job: JobId,
        /// Which.
        slot: SlotId,
    },
    /// A node's link changed.
    LinkChanged {
        /// Which.
        node: NodeId,
        /// How it is.
        link: Link,
    },
    /// A node's shepherd ends the elements of a slot when it is cut off for so long.
    LeaseTaken {
        /// Whose.
        job: JobId,
        /// Which.
        slot: SlotId,
        /// On which node.
        node: NodeId,
        /// Milliseconds.
        ends_after_ms: u64,
    },
    /// The controller's clock was set.
    ClockStepped {
        /// By so many milliseconds.
        by_ms: i64,
    },
    /// A node does not answer over a link that stands: it must register again.
    LinkDropped {
        /// Which.
        node: NodeId,
        /// When.
        at: Timestamp,
    },
    /// Drained, or not any more.
    DrainChanged {
        /// Which.
        node: NodeId,
        /// Why.
        drain: Option<String>,
    },
    /// It was lost once more, or that is forgotten.
    FailuresChanged {
        /// Which.
        node: NodeId,
        /// How often of late.
        failures: Fading,
    },
    /// Forgotten.
    NodeRemoved {
        /// Which.
        node: NodeId,
    },
    /// An invitation was made.
    InvitationMade {
        /// Hash of its secret.
        token: TokenHash,
        /// What it is.
        invitation: Box<Invitation>,
    },
    /// Somebody used it.
    InvitationUsed {
        /// Which.
        token: TokenHash,
    },
    /// It is over, and nobody need hear why any more.
    InvitationForgotten {
        /// Which.
        token: TokenHash,
    },
    /// A key is known, or known for longer.
    KeyAdmitted {
        /// Which.
        key: KeyId,
        /// As what.
        known: Box<KnownKey>,
    },
    /// A key is known no more.
    KeyRevoked {
        /// Which.
        key: KeyId,
    },
    /// Partitions, accounts, users and QOS are as these rules say from now on.
    RulesChanged(Box<Rules>),
    /// The planner said who could not go on, and why.
    Blocked {
        /// Jobs by themselves.
        jobs: Vec<(JobId, Reason)>,
        /// All jobs of these groups.
        groups: Vec<(GroupKey, Reason)>,
        /// Jobs that are kept a place, and when they start at the latest.
        kept: Vec<(JobId, Timestamp)>,
        /// For whom others make room.
        promised: Vec<Promise>,
        /// When it is to be asked again.
        again: Option<Timestamp>,
    },
    /// The planner wanted to be asked again by now.
    PlanDue,
}
