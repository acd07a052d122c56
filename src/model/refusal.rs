//! What the cluster answers when it does not grant a request: a stable code, one line with what, which
//! value and which limit, and what to do instead. It travels over the wire and prints as it is.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The kinds of refusal; the number is part of the contract and never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Code {
    /// A value that does not parse or is out of range.
    Invalid,
    /// No such job.
    UnknownJob,
    /// Not yours.
    NotPermitted,
    /// No node could ever run it.
    Impossible,
    /// No such partition.
    UnknownPartition,
    /// No such account.
    UnknownAccount,
    /// No such QOS.
    UnknownQos,
    /// Beyond a time limit.
    TimeLimit,
    /// An unknown or impossible dependency.
    Dependency,
    /// Wrong state for this request.
    WrongState,
    /// No such node.
    UnknownNode,
    /// A path that cannot be used.
    Path,
    /// More than the controller takes (queue, frame, script).
    TooMuch,
    /// Asked for something that this version does not do.
    Unsupported,
    /// Two things that exclude each other, or are already so.
    Conflict,
    /// The store or a machine failed; nothing was changed.
    Failed,
    /// A key that the cluster does not know, or no longer.
    Revoked,
    /// Beyond a limit that an administrator set.
    Limit,
}

impl Code {
    /// `HPC-E0001` and so on.
    #[must_use]
    pub fn number(self) -> u16 {
        match self {
            Code::Invalid => 1,
            Code::UnknownJob => 2,
            Code::NotPermitted => 3,
            Code::Impossible => 4,
            Code::UnknownPartition => 5,
            Code::UnknownAccount => 6,
            Code::UnknownQos => 7,
            Code::TimeLimit => 8,
            Code::Dependency => 9,
            Code::WrongState => 10,
            Code::UnknownNode => 11,
            Code::Path => 12,
            Code::TooMuch => 13,
            Code::Unsupported => 14,
            Code::Conflict => 15,
            Code::Failed => 16,
            Code::Revoked => 17,
            Code::Limit => 18,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HPC-E{:04}", self.number())
    }
}

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Its kind.
    pub code: Code,
    /// What was refused, with the value and the limit.
    pub what: String,
    /// What would work.
    pub hint: String,
}

impl Refusal {
    /// A refusal with a way out.
    pub fn new(code: Code, what: impl Into<String>, hint: impl Into<String>) -> Self {
        Refusal {
            code,
            what: what.into(),
            hint: hint.into(),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}]", self.what, self.code)?;
        if !self.hint.is_empty() {
            write!(f, "\n  {}", self.hint)?;
        }
        Ok(())
    }
}

impl std::error::Error for Refusal {}
