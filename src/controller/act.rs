//! act: effects become messages, after the commit.

use super::run::Shared;
use super::{credentials, queries};
use crate::cluster::Effect;
use crate::model::ids::{BlobId, JobId, NodeId, StepId};
use crate::model::job::{ExitStatus, JobState};
use crate::model::refusal::Refusal;
use crate::store::{Reader, StoreError};
use crate::wire::worker::{SlotLaunch, ToSlot, ToWorker};
use std::collections::BTreeMap;
use std::sync::Weak;
use tokio::sync::{Notify, mpsc};

/// What listeners of a job hear.
#[derive(Debug, Clone)]
pub(super) enum Notice {
    /// From now on everything is heard; what happened before has to be looked up.
    Watching,
    /// A slot was granted.
    Granted,
    /// An element ended.
    Element {
        position: u32,
        state: JobState,
        exit: ExitStatus,
    },
    /// A step ended on all its nodes.
    Step { step: StepId, exit: ExitStatus },
    /// A step could not start on a node.
    StepFailed {
        step: StepId,
        node: NodeId,
        text: String,
    },
    /// The job ended.
    Job { state: JobState, exit: ExitStatus },
}

/// Somebody who wants to hear of a job. What nobody has read yet is kept for them, so each hears only what concerns
/// them: of an array with short elements there is more to hear than anybody wants to keep.
#[derive(Debug, Clone)]
pub(super) enum Listener {
    /// Hears what happened, of elements and steps only this one.
    Notices {
        to: mpsc::UnboundedSender<Notice>,
        position: u32,
        step: StepId,
    },
    /// Is only woken and looks for itself: however much has happened, once.
    Wake {
        whom: Weak<Notify>,
        /// When an element has ended too.
        elements: bool,
    },
}

impl Listener {
    /// Whether anybody is left to hear it.
    pub(super) fn is_there(&self) -> bool {
        match self {
            Listener::Notices { to, .. } => !to.is_closed(),
            Listener::Wake { whom, .. } => whom.strong_count() > 0,
        }
    }

    /// Tells it; whether anybody is left to hear more.
    pub(super) fn tell(&self, notice: &Notice) -> bool {
        match self {
            Listener::Notices { to, position, step } => {
                let concerns = match notice {
                    Notice::Element { position: of, .. } => of == position,
                    Notice::Step { step: of, .. } | Notice::StepFailed { step: of, .. } => {
                        of == step
                    }
                    Notice::Watching | Notice::Granted | Notice::Job { .. } => true,
                };
                match concerns {
                    true => to.send(notice.clone()).is_ok(),
                    false => !to.is_closed(),
                }
            }
            Listener::Wake { whom, elements } => {
                let of_element = matches!(notice, Notice::Element { .. });
                let there = whom.upgrade();
                if let Some(whom) = there.as_ref().filter(|_| *elements || !of_element) {
                    whom.notify_one();
                }
                there.is_some()
            }
        }
    }
}

pub(super) type Watchers = BTreeMap<JobId, Vec<Listener>>;

/// Carries out the effects of one turn.
pub(super) fn act(shared: &Shared, watchers: &mut Watchers, effects: Vec<Effect>) {
    for effect in effects {
        match effect {
            Effect::Launch {
                node,
                mut launch,
                blobs,
            } => {
                // Their bytes are added when the order is written (`fill`): a worker that reads slowly has none of
                // them wait here.
                launch.blobs = blobs.into_iter().map(|id| (id, Vec::new())).collect();
                let key = launch.key;
                // A job on the controller's own machine is known by its uid.
                if let Some(Some(_)) = shared.links.reached(node) {
                    let credential = credentials::issue(shared.authority.jobs_key(), key, node);
                    shared.links.send(node, ToWorker::Credential(credential));
                }
                let order = ToSlot::Launch(launch);
                shared.links.send(node, ToWorker::Slot { key, order });
            }
            Effect::Tell { node, key, order } => {
                shared.links.send(node, ToWorker::Slot { key, order });
            }
            Effect::SlotGranted { key } => notify(watchers, key.job, &Notice::Granted),
            Effect::StepEnded { key, step, exit } => {
                notify(watchers, key.job, &Notice::Step { step, exit });
            }
            Effect::StepFailed {
                job,
                node,
                step,
                text,
            } => notify(watchers, job, &Notice::StepFailed { step, node, text }),
            Effect::DropLink { node } => shared.links.drop_node(node),
            Effect::ElementEnded {
                job,
                position,
                state,
                exit,
            } => {
                notify(
                    watchers,
                    job,
                    &Notice::Element {
                        position,
                        state,
                        exit,
                    },
                );
            }
            Effect::JobEnded { job, state, exit } => {
                notify(watchers, job, &Notice::Job { state, exit });
                watchers.remove(&job);
            }
            Effect::Cut { key } => shared.cutter.cut(key),
            Effect::Plan => {}
        }
    }
}

fn notify(watchers: &mut Watchers, job: JobId, notice: &Notice) {
    if let Some(listeners) = watchers.get_mut(&job) {
        listeners.retain(|listener| listener.tell(notice));
        if listeners.is_empty() {
            watchers.remove(&job);
        }
    }
}

/// Adds the bytes behind the blobs, and the age of the grant. They are in the store as long as a job has a slot.
pub(super) async fn fill(shared: &Shared, launch: &mut SlotLaunch) -> Result<(), Refusal> {
    let ids: Vec<BlobId> = launch.blobs.iter().map(|(id, _)| *id).collect();
    let read = move |reader: &Reader| {
        let read = ids.iter().map(|id| Ok((*id, reader.blob(*id)?)));
        read.collect::<Result<Vec<_>, StoreError>>()
    };
    let found = queries::blocking(shared, read).await?;
    let found = found.into_iter().map(|(id, bytes)| {
        let missing = || queries::unreadable(&format!("blob {id:?} is not there"));
        bytes.map(|bytes| (id, bytes)).ok_or_else(missing)
    });
    launch.blobs = found.collect::<Result<_, Refusal>>()?;
    launch.granted_age_ms = u64::try_from(super::run::now().minus(launch.granted)).unwrap_or(0);
    Ok(())
}
