//! Who may speak with the cluster: keys, what they speak for, and the invitations that admit new ones.
//!
//! ```text
//!   invitation ──join──▶ known key ──two thirds of its certificate's life──▶ renewed
//!                          │                                                   │
//!                          └──── revoked, its node removed ────────────────────┴──▶ (unknown)
//! ```
//! A key is known by the hash of its public half. The certificate proves that this cluster knew it once; whether it
//! still does is looked up, so taking a key back needs no list that somebody must fetch.

use super::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What somebody may do; each includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Role {
    /// Look.
    Viewer,
    /// Submit jobs, and do with their own what they like.
    User,
    /// Act on everybody's jobs and on nodes.
    Operator,
    /// Also invite, revoke, and stop the controller.
    Admin,
}

impl Role {
    /// All of them, least first.
    pub const ALL: [Role; 4] = [Role::Viewer, Role::User, Role::Operator, Role::Admin];

    /// Its word on a command line.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::User => "user",
            Role::Operator => "operator",
            Role::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// What a key speaks for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Identity {
    /// The machine of this name, and nothing else.
    Node(String),
    /// A person.
    User {
        /// The user's name in this cluster.
        name: String,
        /// What they may do.
        role: Role,
    },
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Identity::Node(name) => write!(f, "node {name}"),
            Identity::User { name, role } => write!(f, "{role} {name}"),
        }
    }
}

/// A public key by the SHA-256 of its SubjectPublicKeyInfo (RFC 5280, 4.1.2.7).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyId(pub [u8; 32]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..8]
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

/// A key that the cluster knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownKey {
    /// What it speaks for.
    pub identity: Identity,
    /// When it was admitted.
    pub joined: Timestamp,
    /// When its newest certificate expires, by the controller's clock.
    pub expires: Timestamp,
    /// The address it was admitted from.
    pub from: String,
    /// Who made the invitation.
    pub invited_by: String,
}

/// What an invitation admits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Grant {
    /// A machine.
    Worker,
    /// A person of this name.
    User {
        /// The name.
        name: String,
        /// What they may do.
        role: Role,
    },
}

impl Grant {
    /// The word before the token of an invitation, so that people see what they hold.
    #[must_use]
    pub fn prefix(&self) -> &'static str {
        match self {
            Grant::Worker => "wkr",
            Grant::User { role, .. } => match role {
                Role::Viewer => "vwr",
                Role::User => "usr",
                Role::Operator => "opr",
                Role::Admin => "adm",
            },
        }
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Grant::Worker => f.write_str("worker"),
            Grant::User { name, role } => write!(f, "{role} {name}"),
        }
    }
}

/// The SHA-256 of an invitation's secret; the secret itself is stored nowhere.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TokenHash(pub [u8; 32]);

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(..)")
    }
}

/// An invitation as the cluster remembers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invitation {
    /// What it admits.
    pub grant: Grant,
    /// Who made it.
    pub by: String,
    /// When it ends.
    pub expires: Timestamp,
    /// How often it can still be used; 0 = used up.
    pub uses_left: u32,
}

/// Longest name of a user; bytes. `useradd` allows no more.
pub const USER_NAME_MAX: usize = 32;

/// Whether somebody may be called so: as `useradd` would have it, and never a number, which would be taken for a uid.
#[must_use]
pub fn is_user_name(name: &str) -> bool {
    let first = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    let other = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    name.len() <= USER_NAME_MAX && name.bytes().next().is_some_and(first) && name.bytes().all(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_named_as_accounts_are() {
        for name in ["alice", "_apt", "a.b-c", &"x".repeat(32)] {
            assert!(is_user_name(name), "{name}");
        }
        for name in [
            "",
            "7",
            "1000",
            "-x",
            ".x",
            "a b",
            "a/b",
            "é",
            &"x".repeat(33),
        ] {
            assert!(!is_user_name(name), "{name}");
        }
    }

    #[test]
    fn roles_include_those_below() {
        assert!(Role::Admin > Role::Operator && Role::Operator > Role::User);
        assert!(Role::User > Role::Viewer);
        assert_eq!(KeyId([0xab; 32]).to_string(), "abababababababab");
    }
}
