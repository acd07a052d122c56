//! The running element of a slot: its phase, its steps, its clock. [`super::SlotCore`] moves it.

use super::environment::ElementFacts;
use super::fates::Fates;
use super::launch_plan::LaunchPlan;
use super::spawns::Kin;
use super::vocabulary::{Effect, LaunchFailure, TaskId};
use super::wiring::Wiring;
use crate::model::ids::StepId;
use crate::model::job::{ElementEnd, ExitStatus, JobState, KillCause, Reason, Usage};
use crate::model::time::Timestamp;
use crate::wire::pmix::{PmixStart, ToPmix};
use crate::wire::worker::StepEnd;
use std::ffi::CString;
use std::sync::Arc;

/// Why an element ends, decided once and never changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Its main step ended by itself.
    Own,
    /// It was ended.
    Killed(KillCause),
    /// Its main step could not start.
    LaunchFailed(LaunchFailure),
    /// It ran nothing of its own and was let go with this code.
    Released(u8),
}

/// How far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Phase {
    /// Running, or stopped.
    Running,
    /// SIGTERM was sent; SIGKILL follows.
    Ending {
        /// Why.
        verdict: Verdict,
        /// When SIGKILL is due.
        kill_at: u64,
    },
    /// What is left is being killed and reaped.
    Sweeping {
        /// Why.
        verdict: Verdict,
    },
}

/// A clock that can be stopped; the time limit runs on it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stopwatch {
    before: u64,
    since: Option<u64>,
}

impl Stopwatch {
    pub(super) fn started(now: u64) -> Self {
        Stopwatch {
            before: 0,
            since: Some(now),
        }
    }

    pub(super) fn stop(&mut self, now: u64) {
        if let Some(since) = self.since.take() {
            self.before += now.saturating_sub(since);
        }
    }

    pub(super) fn resume(&mut self, now: u64) {
        self.since.get_or_insert(now);
    }

    /// When it will show `reading`; `None` while it is stopped.
    pub(super) fn shows_at(self, reading: u64) -> Option<u64> {
        self.since
            .map(|since| since.saturating_add(reading.saturating_sub(self.before)))
    }
}

/// One task.
#[derive(Debug, Clone)]
pub(super) struct Task {
    pub(super) rank: u32,
    /// How it ended, once it has.
    pub(super) exit: Option<ExitStatus>,
    /// It ended once the step had failed: its own status says nothing.
    pub(super) late: bool,
}

/// A step of the element.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) id: StepId,
    pub(super) name: String,
    pub(super) started: Timestamp,
    pub(super) tasks: Vec<Task>,
    pub(super) usage: Usage,
    pub(super) failure: Option<LaunchFailure>,
    /// There was no room for its output; a reason for a bad end.
    pub(super) output_lost: Option<String>,
    /// Ranks that are to be named for how they have ended.
    pub(super) fates: Fates,
    /// Its end was reported.
    pub(super) reported: bool,
    /// How its ranks find each other, where they do.
    pub(super) wiring: Option<Box<Wiring>>,
    /// Tasks that wait for the PMIx helper.
    pub(super) held: Held,
    /// It was ended for this, and SIGKILL follows then.
    pub(super) ending: Option<Ending>,
    /// When the tasks that are left are ended because others have ended long ago.
    pub(super) wait_until: Option<u64>,
    /// Which steps its ranks have asked for, and whose has asked for it.
    pub(super) kin: Kin,
}

/// Whether tasks of a step wait for its PMIx helper, or it for them.
///
/// ```text
///                    Ready
///    (--mpi=pmix) Until ──────────────────────────────────▶ Served
///                        the door       a rank          Ready  ▲
///    (--mpi=auto) Until ─────────▶ Door ──────▶ Called ────────┘
///                        is there       knocks
/// ```
#[derive(Debug, Clone, Default)]
pub(super) enum Held {
    /// There is none, or it has gone.
    #[default]
    No,
    /// They do, until then at most, or for the door at which they will find it.
    Until(u64, Vec<LaunchPlan>, Option<Box<Later>>),
    /// They run, and none has asked for it.
    Door(Box<Later>),
    /// One has; it must be there until then.
    Called(u64),
    /// It serves them.
    Served,
}

/// A PMIx helper that is started once a rank asks for it.
#[derive(Debug, Clone)]
pub(super) struct Later {
    /// What it serves.
    pub(super) start: PmixStart,
    /// Of the step's tasks.
    pub(super) environment: Arc<Vec<CString>>,
    /// What is to be said to it first: other nodes have asked already. Bounded by the questions that [`Wiring`] keeps.
    pub(super) said: Vec<ToPmix>,
}

impl Held {
    /// When what is waited for counts as failed.
    pub(super) fn until(&self) -> Option<u64> {
        match self {
            Held::Until(at, ..) | Held::Called(at) => Some(*at),
            Held::No | Held::Door(_) | Held::Served => None,
        }
    }
}

impl Later {
    /// Starts it.
    pub(super) fn begin(self, step: StepId, out: &mut Vec<Effect>) {
        out.push(Effect::PmixStart {
            step,
            start: Box::new(self.start),
            environment: self.environment,
        });
        let said = self.said.into_iter();
        out.extend(said.map(|message| Effect::PmixSay { step, message }));
    }
}

/// A step that is ended before its tasks end by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ending {
    /// The status that counts for it and for the tasks that it is ended with.
    pub(super) exit: ExitStatus,
    /// When SIGKILL is due, while it is.
    pub(super) kill_at: Option<u64>,
}

impl Step {
    /// Whether all its tasks have ended, the steps that they have asked for too, and it is known how the whole did.
    pub(super) fn is_over(&self) -> bool {
        let undecided = self
            .wiring
            .as_ref()
            .is_some_and(|wiring| wiring.is_undecided());
        !undecided && !self.kin.keeps() && self.tasks.iter().all(|task| task.exit.is_some())
    }

    /// Whether it has failed as a whole, so that the status of what ends now says nothing.
    pub(super) fn has_failed(&self) -> bool {
        let failing = self
            .wiring
            .as_ref()
            .is_some_and(|wiring| wiring.has_failed());
        failing || self.ending.is_some()
    }

    /// The highest status of its tasks; those that are missing count as killed.
    pub(super) fn exit(&self) -> ExitStatus {
        let killed = ExitStatus { code: 0, signal: 9 };
        let exits = self.tasks.iter().map(|task| task.exit.unwrap_or(killed));
        let worst = exits.max_by_key(|exit| exit.shell_code());
        self.ending
            .map_or(worst.unwrap_or_default(), |ending| ending.exit)
    }

    /// Ids of tasks that run.
    pub(super) fn running(&self) -> impl Iterator<Item = TaskId> + '_ {
        let running = self.tasks.iter().filter(|task| task.exit.is_none());
        running.map(|task| TaskId {
            step: self.id,
            rank: task.rank,
        })
    }

    /// Its end, for the report.
    pub(super) fn end(&self, ended: Timestamp) -> StepEnd {
        let killed = ExitStatus { code: 0, signal: 9 };
        let status = |task: &Task| match self.ending {
            Some(ending) if task.late => ending.exit,
            _ => task.exit.unwrap_or(killed),
        };
        StepEnd {
            step: self.id,
            tasks: self
                .tasks
                .iter()
                .map(|task| (task.rank, status(task)))
                .collect(),
            name: self.name.clone(),
            started: self.started,
            ended,
            usage: self.usage,
            failure: self.failure.as_ref().map(|failure| failure.text.clone()),
        }
    }
}

/// The running element.
#[derive(Debug)]
pub(super) struct Element {
    pub(super) facts: ElementFacts,
    pub(super) started: Timestamp,
    pub(super) phase: Phase,
    pub(super) clock: Stopwatch,
    /// The step whose end is the element's end; `None` = it runs nothing of its own.
    pub(super) main: Option<StepId>,
    pub(super) steps: Vec<Step>,
    /// Of processes that belong to no step any more.
    pub(super) usage: Usage,
    pub(super) warned: bool,
}

impl Element {
    pub(super) fn step_mut(&mut self, id: StepId) -> Option<&mut Step> {
        self.steps.iter_mut().find(|step| step.id == id)
    }

    pub(super) fn main_step(&self) -> Option<&Step> {
        let main = self.main?;
        self.steps.iter().find(|step| step.id == main)
    }

    /// The batch shell, while it runs.
    pub(super) fn batch_shell(&self) -> Option<TaskId> {
        let batch = self.steps.iter().find(|step| step.id == StepId::BATCH)?;
        batch.running().next()
    }

    /// Running tasks of steps, without the batch shell.
    pub(super) fn step_tasks(&self) -> Vec<TaskId> {
        let steps = self.steps.iter().filter(|step| step.id != StepId::BATCH);
        steps.flat_map(Step::running).collect()
    }

    /// Its end, by the verdict.
    pub(super) fn end(&self, verdict: Verdict, ended: Timestamp) -> ElementEnd {
        let own = self
            .main_step()
            .map_or_else(ExitStatus::default, Step::exit);
        let output_lost = self.main_step().and_then(|step| step.output_lost.clone());
        let by_exit = |exit: ExitStatus| {
            let state = if exit.is_success() {
                JobState::Completed
            } else {
                JobState::Failed
            };
            let reason = match &output_lost {
                _ if exit.is_success() => Reason::None,
                Some(text) => Reason::SystemFailure(text.clone()),
                None => Reason::NonZeroExitCode,
            };
            (state, reason, exit)
        };
        let (state, reason, exit) = match &verdict {
            Verdict::Own => by_exit(own),
            Verdict::Released(code) => by_exit(ExitStatus {
                code: *code,
                signal: 0,
            }),
            Verdict::LaunchFailed(failure) => {
                let exit = ExitStatus {
                    code: failure.code,
                    signal: 0,
                };
                (
                    JobState::Failed,
                    Reason::JobLaunchFailure(failure.text.clone()),
                    exit,
                )
            }
            Verdict::Killed(cause) => {
                let (state, reason) = killed(*cause);
                (state, reason, own)
            }
        };
        let steps = self.steps.iter().map(|step| step.usage);
        ElementEnd {
            position: self.facts.position,
            state,
            reason,
            exit,
            cancelled_by: canceller(&verdict),
            started: Some(self.started),
            ended,
            usage: steps.fold(self.usage, Usage::plus),
            restarts: self.facts.restarts,
        }
    }
}

/// State and reason of what was ended for this cause. A requeue is CANCELLED here; the controller, which asked
/// for it, puts the element back.
pub(super) fn killed(cause: KillCause) -> (JobState, Reason) {
    match cause {
        KillCause::Cancel { .. } | KillCause::Requeue | KillCause::ClientGone => {
            (JobState::Cancelled, Reason::None)
        }
        KillCause::TimeLimit => (JobState::Timeout, Reason::TimeLimit),
        KillCause::Preempt | KillCause::PreemptAgain | KillCause::Warned { .. } => {
            (JobState::Preempted, Reason::None)
        }
        KillCause::NodeLost => (JobState::NodeFail, Reason::NodeDown),
    }
}

fn canceller(verdict: &Verdict) -> Option<u32> {
    match verdict {
        Verdict::Killed(KillCause::Cancel { by }) => Some(*by),
        _ => None,
    }
}

/// The end of an element that was ended before it started.
pub(super) fn never_started(
    position: u32,
    restarts: u32,
    cause: KillCause,
    now: Timestamp,
) -> ElementEnd {
    let (state, reason) = killed(cause);
    ElementEnd {
        position,
        state,
        reason,
        exit: ExitStatus::default(),
        cancelled_by: canceller(&Verdict::Killed(cause)),
        started: None,
        ended: now,
        usage: Usage::default(),
        restarts,
    }
}
