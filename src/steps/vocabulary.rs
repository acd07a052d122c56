//! What the core is told ([`Input`]) and what it wants done ([`Effect`]): one enum each.
//!
//! Effects are to be carried out in their order; a later one may rely on an earlier one (a journal entry before
//! the spawn it announces).

use super::launch_plan::LaunchPlan;
use crate::model::ids::StepId;
use crate::model::index_set::IndexSet;
use crate::model::job::{ElementEnd, ExitStatus, KillCause, Usage};
use crate::model::time::Timestamp;
use crate::wire::pmix::{FromPmix, PmixStart, Promise, ToPmix};
use crate::wire::spawner::{FromSpawner, SpawnOrder};
use crate::wire::worker::{FromSlot, ToSlot};
use serde::{Deserialize, Serialize};
use std::ffi::CString;
use std::sync::Arc;

/// One process that was started for a step of the running element.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId {
    /// Its step.
    pub step: StepId,
    /// Its rank within the step.
    pub rank: u32,
}

/// Why a task could not be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaunchFailure {
    /// The code a shell would give: 127 not found, 126 not executable, 1 otherwise.
    pub code: u8,
    /// What, with the path and the kernel's answer.
    pub text: String,
}

/// What the core is told.
#[derive(Debug)]
pub enum Input {
    /// Begin with the positions of the launch.
    Begin,
    /// An order from the controller.
    Order(ToSlot),
    /// A task could not be started.
    SpawnFailed {
        /// Which.
        task: TaskId,
        /// Why.
        failure: LaunchFailure,
    },
    /// There was no room for what a task wrote to its output file, which may be why it ends badly; said before that.
    OutputLost {
        /// Which.
        task: TaskId,
        /// What happened.
        text: String,
    },
    /// A task has ended and was reaped.
    TaskExited {
        /// Which.
        task: TaskId,
        /// How.
        exit: ExitStatus,
        /// What it and the children it waited for consumed.
        usage: Usage,
    },
    /// A process that had lost its parent was reaped.
    OrphanReaped {
        /// What it consumed.
        usage: Usage,
    },
    /// The sweep is done: no process of the element is left, all its tasks were reported.
    Swept,
    /// A task has written to its PMI socket.
    PmiSaid {
        /// Which.
        task: TaskId,
        /// What.
        bytes: Vec<u8>,
    },
    /// A task's PMI socket is closed at its end.
    PmiClosed {
        /// Which.
        task: TaskId,
    },
    /// The PMIx helper of a step says something.
    PmixSaid {
        /// Which step.
        step: StepId,
        /// What.
        message: FromPmix,
    },
    /// The PMIx helper of a step is gone, or could not be started; why, where that is known.
    PmixGone {
        /// Which step.
        step: StepId,
        /// Why.
        text: Option<String>,
    },
    /// The door of a step is there, or could not be made; what shows it to ranks.
    PmixDoor {
        /// Which step's.
        step: StepId,
        /// Names and values for every rank.
        variables: Vec<(String, String)>,
    },
    /// A rank of a step has come to its door: it asks for PMIx.
    PmixKnocked {
        /// Which step.
        step: StepId,
    },
    /// A spawner says something.
    SpawnerSaid {
        /// Which.
        serial: u64,
        /// What.
        said: FromSpawner,
    },
    /// A spawner has ended, or could not be started.
    SpawnerGone {
        /// Which.
        serial: u64,
        /// As its step.
        exit: ExitStatus,
        /// Why it could not be started.
        text: Option<String>,
    },
    /// There is a new way to the controller: what was said over the old one may be lost.
    Relinked,
    /// The time of [`super::SlotCore::next_deadline`] has come.
    Timer,
}

/// Who receives a signal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recipients {
    /// Every descendant of the shepherd.
    Everything,
    /// The process groups of these tasks.
    Groups(Vec<TaskId>),
    /// One process alone, not its group.
    Process(TaskId),
}

/// What the core wants done.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Append to the journal before anything that follows.
    Journal(Entry),
    /// Start a task; answered by `SpawnFailed`, or later by `TaskExited`.
    Spawn(Box<LaunchPlan>),
    /// Send a signal.
    Signal {
        /// Its number.
        signal: i32,
        /// To whom.
        to: Recipients,
    },
    /// End every process that is left with SIGKILL, reap all; answered by `Swept`.
    Sweep,
    /// Write a line to the element's standard error: it is being ended, and why.
    Note {
        /// The raw id of the element.
        raw_job: u32,
        /// Why.
        cause: KillCause,
        /// When.
        at: Timestamp,
    },
    /// Send to the agent, if there is one.
    Report(FromSlot),
    /// Write to a task's PMI socket.
    PmiWrite {
        /// Which.
        task: TaskId,
        /// What.
        bytes: Vec<u8>,
    },
    /// Close a task's PMI socket.
    PmiClose(TaskId),
    /// Start the process that serves PMIx to a step, at its door if it has one; answered by [`Input::PmixSaid`] or
    /// [`Input::PmixGone`]. Directory, user, libraries and other names of this machine are the shell's to fill in.
    PmixStart {
        /// Which step.
        step: StepId,
        /// What it serves.
        start: Box<PmixStart>,
        /// The environment of the step's tasks, where the library may be named.
        environment: Arc<Vec<CString>>,
    },
    /// Make a place for a step at which ranks look for PMIx. One that comes there is noticed, and does not run alone.
    /// Answered by [`Input::PmixDoor`].
    PmixDoor {
        /// Which step.
        step: StepId,
        /// What ranks are told of their server, which is started once one of them comes; `None` where PMIx is not served.
        promise: Option<Box<Promise>>,
        /// Only where the library is found with this environment of the task's, which is alone and can do without: at a
        /// door that stays closed it fares worse, as Open MPI 5.0 crashes when it ends.
        sought: Option<Arc<Vec<CString>>>,
    },
    /// Say something to it.
    PmixSay {
        /// Which step's.
        step: StepId,
        /// What.
        message: ToPmix,
    },
    /// Write into a task's output what its library has to say there.
    Words {
        /// Which.
        task: TaskId,
        /// Into standard error.
        error: bool,
        /// What.
        text: String,
    },
    /// Write a line of ours among a step's standard error.
    StepNote {
        /// Which.
        step: StepId,
        /// What.
        text: String,
    },
    /// Start the process that starts a step for a rank, with that rank's output as its own; answered by
    /// [`Input::SpawnerSaid`] and [`Input::SpawnerGone`].
    Spawner {
        /// Its number.
        serial: u64,
        /// Who asks.
        asker: TaskId,
        /// What it is to do.
        order: Box<SpawnOrder>,
    },
    /// Send a signal to a spawner: SIGINT has it end its step.
    EndSpawner {
        /// Which.
        serial: u64,
        /// The signal's number.
        signal: i32,
    },
    /// Say these lines to whoever looks on at a step, beside its output.
    OwnWords {
        /// Which step.
        step: StepId,
        /// What.
        text: String,
    },
    /// End with SIGKILL what the tasks of a step have left behind. All of them have ended; other steps go on.
    SweepStep(StepId),
    /// A step has ended: its standard input can be closed, its PMIx helper ended.
    StepOver(StepId),
    /// The slot is closed and nothing is left: clean up and go.
    Exit,
}

/// A line of the journal, written by the core's order. What happened to a slot can be told from these alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Entry {
    /// More positions were given.
    Extended {
        /// Which.
        positions: IndexSet,
        /// (position, restarts), only those above 0.
        restarts: Vec<(u32, u32)>,
    },
    /// An element is about to start.
    Started {
        /// Its position.
        position: u32,
        /// When.
        at: Timestamp,
    },
    /// An element has ended.
    Ended(ElementEnd),
    /// Positions were given back under this report number.
    Retracted {
        /// Which.
        positions: IndexSet,
    },
    /// The controller has all reports up to this one.
    Acknowledged {
        /// The report.
        report: u64,
        /// Ends contained in all of them together: that many `Ended` entries, in order, are safe.
        ends: u64,
    },
    /// The slot was closed.
    Closed,
}
