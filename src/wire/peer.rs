//! What the shepherds of one slot say to each other. Their agents and the controller pass it on and look at nothing but
//! where it goes.
//!
//! Any of it may be lost on the way: a link is cut, a queue is full. So each message has a number, is kept until the other
//! side has said that it took it, and is said again (see `steps/peers.rs`).

use super::hello::{VERSION_GROUPS, VERSION_PEERS, VERSION_SPAWN};
use super::pmix::{NameEntry, NameRequest, Names, Outcome, Purpose};
use crate::model::bounded;
use crate::model::ids::StepId;
use crate::model::job::ExitStatus;
use crate::model::time::Timestamp;
use serde::{Deserialize, Serialize};

/// Longest part of one node in a collective; bytes. A frame from a node is at most [`super::codec::REPORT_MAX`].
pub const PART_MAX: usize = 4 * 1024 * 1024;

/// One message and how far the other direction is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerFrame {
    /// Counts up from 1 between two nodes of a slot; 0 where there is no message.
    pub number: u64,
    /// All messages of the other side up to this one have come.
    pub taken: u64,
    /// The message.
    pub message: Option<PeerMessage>,
}

impl PeerFrame {
    /// The version that a node must speak to understand this, and what one of an earlier build cannot do.
    #[must_use]
    pub fn needs(&self) -> (u16, &'static str) {
        match &self.message {
            Some(
                PeerMessage::Enter { collective, .. } | PeerMessage::Complete { collective, .. },
            ) if matches!(collective.group, Group::PmixGroup { .. }) => (
                VERSION_GROUPS,
                "make groups of ranks (MPI_Comm_create_from_group)",
            ),
            Some(PeerMessage::Spawns { .. }) => {
                (VERSION_SPAWN, "start further processes (MPI_Comm_spawn)")
            }
            Some(PeerMessage::Name { request, .. }) if request.is_between_namespaces() => {
                (VERSION_SPAWN, "let ranks of several steps find each other")
            }
            _ => (VERSION_PEERS, "wire ranks over several nodes"),
        }
    }

    /// The first and only word of a node that cannot be spoken to, said for it by who knows that: the step has failed.
    /// `None` where nobody waits for an answer: programs that are no MPI programs go on.
    #[must_use]
    pub fn refused(&self, text: String) -> Option<PeerFrame> {
        let step = match self.message.as_ref()? {
            PeerMessage::Silent { .. } | PeerMessage::Failed { .. } => return None,
            message => message.step(),
        };
        let failure = StepFailure {
            exit: ExitStatus { code: 1, signal: 0 },
            text,
            at_once: false,
            at: Timestamp(0),
        };
        Some(PeerFrame {
            number: 1,
            taken: 0,
            message: Some(PeerMessage::Failed { step, failure }),
        })
    }
}

/// Who takes part in a collective.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Group {
    /// All ranks, by PMI-1 or PMI-2.
    Pmi,
    /// All ranks, by PMIx.
    Pmix {
        /// What for.
        purpose: Purpose,
    },
    /// Some ranks, by PMIx.
    PmixRanks {
        /// What for.
        purpose: Purpose,
        /// Which, in order.
        #[serde(deserialize_with = "bounded::list")]
        ranks: Vec<u32>,
    },
    /// Members of a group that has a name, by PMIx. Between builds of [`super::hello::VERSION_GROUPS`] or later.
    PmixGroup {
        /// Its name.
        name: String,
        /// It ends; otherwise it is made.
        ends: bool,
        /// Its members, in order; none = all ranks.
        #[serde(deserialize_with = "bounded::list")]
        ranks: Vec<u32>,
    },
}

/// One collective of a step: the ranks of a group put together what each node has.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Collective {
    /// Who.
    pub group: Group,
    /// Their collectives are counted from 0.
    pub epoch: u32,
}

/// What a node has to put in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The node, by its number in the slot.
    pub node: u32,
    /// Its bytes.
    #[serde(with = "super::bytes")]
    pub bytes: Vec<u8>,
}

/// Why a step is ended before its tasks have ended by themselves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepFailure {
    /// The step's status from now on.
    pub exit: ExitStatus,
    /// What happened, where and to which rank: one sentence for people.
    pub text: String,
    /// Skip SIGTERM.
    pub at_once: bool,
    /// When it happened, by the controller's clock: of several the first counts.
    pub at: Timestamp,
}

/// From one node of a slot to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PeerMessage {
    /// Parts of all nodes below this one, towards the first of the group.
    Enter {
        /// Which step.
        step: StepId,
        /// Which collective.
        collective: Collective,
        /// In the order of nodes.
        #[serde(deserialize_with = "bounded::list")]
        parts: Vec<Part>,
    },
    /// The parts of all, from the first of the group.
    Complete {
        /// Which step.
        step: StepId,
        /// Which collective.
        collective: Collective,
        /// In the order of nodes.
        #[serde(deserialize_with = "bounded::list")]
        parts: Vec<Part>,
    },
    /// The step has failed: it is ended on every node.
    Failed {
        /// Which step.
        step: StepId,
        /// Why.
        failure: StepFailure,
    },
    /// The first rank of the step here has begun to speak.
    Begun {
        /// Which step.
        step: StepId,
        /// When this is said, by the controller's clock as it is reckoned here: nodes whose reckoning lags behind catch up.
        at: Timestamp,
    },
    /// A rank of the step has ended here and never spoke.
    Silent {
        /// Which step.
        step: StepId,
        /// Which rank.
        rank: u32,
        /// How it ended.
        exit: ExitStatus,
    },
    /// What has this rank put? (PMIx, where a fence did not collect.)
    Modex {
        /// Which step.
        step: StepId,
        /// Echoed.
        ask: u64,
        /// Of which rank.
        rank: u32,
    },
    /// The answer.
    ModexFound {
        /// Which step.
        step: StepId,
        /// As sent.
        ask: u64,
        /// What was put, or PMIx's status.
        outcome: Outcome,
    },
    /// About published names; to the slot's first node, which keeps them.
    Name {
        /// Of a rank of which step.
        step: StepId,
        /// Echoed.
        ask: u64,
        /// Which rank.
        rank: u32,
        /// What.
        request: NameRequest,
    },
    /// The answer.
    Named {
        /// Of a rank of which step.
        step: StepId,
        /// As sent.
        ask: u64,
        /// For a lookup what was found, or PMIx's status.
        answer: Result<Names, i32>,
    },
    /// Ranks of the step there have asked for further steps (MPI_Comm_spawn), of which some are not over, or now all are.
    /// Between builds of [`super::hello::VERSION_SPAWN`] or later.
    Spawns {
        /// Which step.
        step: StepId,
        /// Some are not over.
        open: bool,
    },
}

impl PeerMessage {
    /// The step it is about.
    #[must_use]
    pub fn step(&self) -> StepId {
        match self {
            PeerMessage::Enter { step, .. }
            | PeerMessage::Complete { step, .. }
            | PeerMessage::Failed { step, .. }
            | PeerMessage::Begun { step, .. }
            | PeerMessage::Silent { step, .. }
            | PeerMessage::Modex { step, .. }
            | PeerMessage::ModexFound { step, .. }
            | PeerMessage::Name { step, .. }
            | PeerMessage::Named { step, .. }
            | PeerMessage::Spawns { step, .. } => *step,
        }
    }

    /// About how many bytes it has.
    #[must_use]
    pub fn weight(&self) -> usize {
        let variable = match self {
            PeerMessage::Enter { parts, .. } | PeerMessage::Complete { parts, .. } => {
                parts.iter().map(|part| part.bytes.len() + 8).sum()
            }
            PeerMessage::Failed { failure, .. } => failure.text.len(),
            PeerMessage::ModexFound { outcome, .. } => {
                outcome.as_ref().map_or(0, |blob| blob.0.len())
            }
            PeerMessage::Name { request, .. } => match request {
                NameRequest::Publish { entries, .. } => entries.iter().map(weight_of).sum(),
                NameRequest::Lookup { keys, .. } | NameRequest::Unpublish { keys, .. } => {
                    keys.iter().map(|key| key.len() + 24).sum()
                }
                NameRequest::Meet { members, .. } => {
                    let members = members.iter();
                    let members = members.map(|one| one.nspace.len() + 4 * one.ranks.len() + 64);
                    members.sum()
                }
                NameRequest::Bring { outcome } => outcome.as_ref().map_or(0, |blob| blob.0.len()),
                NameRequest::Fetch { nspace, .. } => nspace.len(),
            },
            PeerMessage::Named { answer, .. } => answer.as_ref().map_or(0, |names| {
                let found = names.found.iter();
                found
                    .map(|one| one.nspace.len() + weight_of(&one.entry))
                    .sum()
            }),
            PeerMessage::Begun { .. }
            | PeerMessage::Silent { .. }
            | PeerMessage::Modex { .. }
            | PeerMessage::Spawns { .. } => 0,
        };
        variable + 64
    }
}

fn weight_of(entry: &NameEntry) -> usize {
    entry.key.len() + entry.value.0.len() + 64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_later_builds_know_is_said_to_no_others() {
        let needs = |request| {
            let message = PeerMessage::Name {
                step: StepId(0),
                ask: 1,
                rank: 0,
                request,
            };
            let frame = PeerFrame {
                number: 1,
                taken: 0,
                message: Some(message),
            };
            frame.needs().0
        };
        let keys = Vec::new();
        assert_eq!(
            needs(NameRequest::Unpublish { keys, range: None }),
            VERSION_PEERS
        );
        let nspace = String::new();
        assert_eq!(needs(NameRequest::Fetch { nspace, rank: 0 }), VERSION_SPAWN);
        let outcome = Err(-1);
        assert_eq!(needs(NameRequest::Bring { outcome }), VERSION_SPAWN);
    }
}
