//! How a machine or a person becomes known: one request, one answer, over a connection whose client has shown that
//! it holds its key and nothing more. Only the controller decides what that key may speak for.

use crate::model::identity::Identity;
use crate::model::ids::SlotKey;
use crate::model::refusal::Refusal;
use crate::model::time::Timestamp;
use serde::{Deserialize, Serialize};

/// Longest frame of a newcomer.
pub const JOIN_MAX: usize = 4 * 1024;

/// From somebody with an invitation.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinRequest {
    /// The invitation's secret.
    pub secret: [u8; 16],
    /// The name that a machine would have; ignored for people, whose name is the invitation's.
    pub name: String,
}

impl std::fmt::Debug for JoinRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "JoinRequest({})", self.name)
    }
}

/// The answer, to a renewal too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum JoinReply {
    /// No.
    Refused(Refusal),
    /// Welcome.
    Joined(Box<Membership>),
}

/// What a member keeps besides its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// Name of the cluster, for people.
    pub cluster: String,
    /// As what the member is known.
    pub identity: Identity,
    /// Its certificate, in DER.
    pub certificate: Vec<u8>,
    /// The authority's certificate, in DER.
    pub authority: Vec<u8>,
    /// Where the controller may be reached; empty = where it was reached.
    pub addresses: Vec<String>,
    /// The controller's clock when it answered.
    pub now: Timestamp,
    /// When the certificate expires, by that clock.
    pub expires: Timestamp,
}

/// On a TCP connection that exists to break when a process does: which QUIC connection it belongs to.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tether {
    /// What both ends derive from that connection's keys.
    pub label: [u8; 32],
}

/// What a job holds, good for its owner, on its nodes, while it lives.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credential {
    /// The slot that it was issued for.
    pub key: SlotKey,
    /// Proof that the controller issued it for this slot on this node.
    pub proof: [u8; 32],
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credential({})", self.key)
    }
}
