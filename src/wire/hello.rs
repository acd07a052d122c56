//! The first frame each way: who speaks, and in which version.
//!
//! N and N-1 understand each other: each side names the range it speaks and the highest common one is used.

use crate::model::refusal::Refusal;
use serde::{Deserialize, Serialize};

/// The version this build speaks.
pub const VERSION: u16 = 5;
/// From this version on the nodes of a gang wait for [`super::worker::ToSlot::Go`], and a controller says it.
pub const VERSION_GANGS: u16 = 2;
/// From this version on the nodes of a slot speak with each other ([`super::peer`]), and steps have options.
pub const VERSION_PEERS: u16 = 3;
/// From this version on steps say where their ranks and streams go, and which cpus are theirs.
pub const VERSION_PLACES: u16 = 4;
/// From this version on nodes of a slot know of groups that PMIx makes of ranks ([`super::peer::Group::PmixGroup`]).
pub const VERSION_GROUPS: u16 = 4;
/// From this version on nodes know of steps that ranks of others ask for (MPI_Comm_spawn), and of the order to end one
/// step.
pub const VERSION_SPAWN: u16 = 5;
/// The oldest it still understands.
pub const VERSION_OLDEST: u16 = 1;
/// From this version on an agent sends heartbeats and its controller answers them.
pub const VERSION_BEATS: u16 = 2;
/// Opens every hello, so that a stranger on the socket is told apart at once.
pub const MAGIC: [u8; 4] = *b"hpc1";

/// Longest hello; who it is from is not known yet, so no more than this is kept for them.
pub const HELLO_MAX: usize = 1024;

/// As what somebody connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// A person's command.
    Client,
    /// The agent of a machine.
    Worker,
    /// The agent of a machine, for bytes of output alone: the second stream of a node that has introduced itself.
    WorkerData,
    /// A command from inside a job on another machine, passed on by that machine's agent: a
    /// [`super::join::Credential`] follows, then requests as from a [`Role::Client`].
    JobClient,
    /// Somebody with an invitation: a [`super::join::JoinRequest`] follows.
    Join,
    /// A known key whose certificate is to be made anew: answered by a [`super::join::JoinReply`].
    Renew,
    /// A connection that exists to break when its process does: a [`super::join::Tether`] follows.
    Tether,
}

/// From the connecting side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`MAGIC`].
    pub magic: [u8; 4],
    /// Oldest and newest version spoken.
    pub versions: (u16, u16),
    /// As what.
    pub role: Role,
}

impl Hello {
    /// Ours.
    #[must_use]
    pub fn new(role: Role) -> Self {
        Hello {
            magic: MAGIC,
            versions: (VERSION_OLDEST, VERSION),
            role,
        }
    }

    /// The version to speak, or `None` when there is none in common or the magic is wrong.
    #[must_use]
    pub fn agree(&self) -> Option<u16> {
        let highest = self.versions.1.min(VERSION);
        (self.magic == MAGIC && highest >= VERSION_OLDEST && highest >= self.versions.0)
            .then_some(highest)
    }
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum HelloReply {
    /// Go on.
    Welcome {
        /// Version to speak.
        version: u16,
        /// The server's program version, for people.
        server: String,
    },
    /// No.
    Refused(Refusal),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_build_before_this_one_is_understood() {
        let mut hello = Hello::new(Role::Worker);
        hello.versions = (1, 1);
        assert_eq!(hello.agree(), Some(1));
    }

    #[test]
    fn the_highest_common_version_is_spoken_and_strangers_are_not() {
        let mut hello = Hello::new(Role::Client);
        assert_eq!(hello.agree(), Some(VERSION));
        hello.versions = (VERSION, VERSION + 5);
        assert_eq!(hello.agree(), Some(VERSION));
        hello.versions = (VERSION + 1, VERSION + 5);
        assert_eq!(hello.agree(), None);
        hello = Hello::new(Role::Worker);
        hello.magic = *b"http";
        assert_eq!(hello.agree(), None);
    }
}
