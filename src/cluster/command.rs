//! What the controller can be asked: one enum. A shell turns requests, reports and timers into these.

use crate::model::array::ArraySpec;
use crate::model::history::EndedJob;
use crate::model::identity::{Grant, Identity, KeyId, Role, TokenHash};
use crate::model::ids::{JobId, NodeId, SlotKey};
use crate::model::index_set::IndexSet;
use crate::model::job::{ExitStatus, Job, JobSpec, JobState, Owner};
use crate::model::node::{Inventory, Serves};
use crate::model::rules::RuleChange;
use crate::model::step::StepOptions;
use crate::model::time::Timestamp;
use crate::scheduler::Plan;
use crate::wire::client::{Filter, JobChange, NodeChange, StepRequest};
use crate::wire::worker::{FromSlot, SignalTarget};
use std::sync::Arc;

/// Who asks: known from the kernel or a certificate, never from the message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// Who.
    pub owner: Owner,
    /// What they may do.
    pub role: Role,
    /// From where they ask, for the audit.
    pub from: Arc<str>,
}

impl Principal {
    /// May act on everybody's jobs and on nodes.
    #[must_use]
    pub fn is_operator(&self) -> bool {
        self.role >= Role::Operator
    }
}

/// What an ended job was like, for those that depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Its state.
    pub state: JobState,
    /// Its exit.
    pub exit: ExitStatus,
}

impl From<&EndedJob> for Outcome {
    fn from(ended: &EndedJob) -> Self {
        Outcome {
            state: ended.state,
            exit: ended.exit,
        }
    }
}

/// A job that a dependency names and that has ended, as found in the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gone {
    /// Its number.
    pub id: JobId,
    /// What became of it.
    pub outcome: Outcome,
    /// What became of its elements, where the dependency is about some of them.
    pub elements: Option<GoneElements>,
}

/// How the elements of an ended array ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoneElements {
    /// Which there were; `None` = it was no array.
    pub array: Option<ArraySpec>,
    /// Positions that ended otherwise than COMPLETED.
    pub unsuccessful: IndexSet,
}

impl GoneElements {
    /// Whether the element with this index ended well; `None` = there was none.
    #[must_use]
    pub fn ended_well(&self, index: u32) -> Option<bool> {
        let position = self.array.as_ref()?.position_of(index)?;
        Some(!self.unsuccessful.contains(position))
    }
}

/// A request, a report or the passing of time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Queue a job.
    Submit {
        /// Who.
        who: Principal,
        /// What.
        spec: Box<JobSpec>,
        /// Ended jobs its dependency names, as found in the history.
        ended: Vec<Gone>,
        /// Check only.
        dry_run: bool,
    },
    /// End jobs.
    Cancel {
        /// Who.
        who: Principal,
        /// Which.
        filter: Filter,
    },
    /// Send a signal.
    Signal {
        /// Who.
        who: Principal,
        /// Which.
        filter: Filter,
        /// Number.
        signal: i32,
        /// To whom.
        to: SignalTarget,
    },
    /// Hold.
    Hold {
        /// Who.
        who: Principal,
        /// Which.
        filter: Filter,
    },
    /// Let go.
    Release {
        /// Who.
        who: Principal,
        /// Which.
        filter: Filter,
    },
    /// Put back.
    Requeue {
        /// Who.
        who: Principal,
        /// Which.
        filter: Filter,
        /// And hold.
        hold: bool,
    },
    /// Stop or go on.
    Suspend {
        /// Who.
        who: Principal,
        /// Which.
        filter: Filter,
        /// Stop?
        stop: bool,
    },
    /// Change.
    Update {
        /// Who.
        who: Principal,
        /// Which.
        filter: Filter,
        /// How.
        changes: Vec<JobChange>,
        /// Ended jobs that a new dependency names.
        ended: Vec<Gone>,
    },
    /// A step inside a running job.
    StartStep {
        /// Who.
        who: Principal,
        /// What.
        request: Box<StepRequest>,
        /// What was said of it.
        options: StepOptions,
    },
    /// The client of an allocation is done with it.
    EndAllocation {
        /// Who.
        who: Principal,
        /// Which.
        job: JobId,
        /// With this code.
        code: u8,
    },
    /// The client of `hpc run` or `hpc alloc` has gone without a word.
    ClientGone {
        /// Its job.
        job: JobId,
    },
    /// Drain, resume, remove.
    ChangeNode {
        /// Who.
        who: Principal,
        /// Which.
        name: String,
        /// How.
        change: NodeChange,
    },
    /// A worker introduces its machine and the slots it found there.
    Register {
        /// The machine.
        inventory: Box<Inventory>,
        /// Whose jobs it runs.
        serves: Serves,
        /// Slots found.
        slots: Vec<SlotKey>,
        /// It gives leases.
        gives_leases: bool,
    },
    /// A worker's link is gone.
    LinkLost {
        /// Its node.
        node: NodeId,
    },
    /// A worker stops, and nothing of its slots is left.
    NodeLeaves {
        /// Its node.
        node: NodeId,
    },
    /// A worker reports of a slot.
    Report {
        /// Its node.
        node: NodeId,
        /// The slot.
        key: SlotKey,
        /// What.
        report: FromSlot,
    },
    /// What the planner proposes.
    Adopt(Plan),
    /// Slots that have nothing to do give their allocation back (said after each plan).
    CloseIdle,
    /// The controller's clock was set: what is counted in time since something happened must not notice.
    ClockStepped {
        /// How far forward (or back) it now is of where it would be; milliseconds.
        by_ms: i64,
    },
    /// Time has passed.
    Tick,
    /// Let somebody in who will show this secret.
    Invite {
        /// Who.
        who: Principal,
        /// Hash of the secret, drawn by the shell.
        token: TokenHash,
        /// What it admits.
        grant: Grant,
        /// How long it is good.
        ttl_ms: i64,
        /// How often.
        uses: u32,
    },
    /// Somebody shows an invitation.
    Join(super::membership::Newcomer),
    /// A known key wants a new certificate.
    Renew {
        /// Which.
        key: KeyId,
    },
    /// Take back the keys of a person.
    RevokeUser {
        /// Who.
        who: Principal,
        /// Whose.
        name: String,
    },
    /// Decide something of partitions, accounts, users and QOS.
    ChangeRule {
        /// Who.
        who: Principal,
        /// What.
        change: RuleChange,
    },
    /// Take back open invitations.
    Withdraw {
        /// Who.
        who: Principal,
        /// What they admit.
        grant: Grant,
    },
}

/// What a command answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Nothing to say.
    Done,
    /// This many jobs or elements were touched; why others were not.
    Touched {
        /// How many.
        count: u32,
        /// Why not.
        notes: Vec<String>,
    },
    /// Queued.
    Submitted(JobId),
    /// Would be queued.
    WouldRun {
        /// In words.
        text: String,
        /// As it would wait, if it could start at once: for a forecast.
        job: Option<Box<Job>>,
    },
    /// A step was started.
    StepStarted {
        /// Its slot.
        key: SlotKey,
        /// Its number.
        step: crate::model::ids::StepId,
    },
    /// A node was registered under this number.
    Registered(NodeId),
    /// The invitation is open until then.
    Invited {
        /// Its end.
        expires: Timestamp,
    },
    /// A key is known as this from now on.
    Joined {
        /// What it speaks for.
        identity: Identity,
        /// When its certificate expires.
        expires: Timestamp,
    },
}
