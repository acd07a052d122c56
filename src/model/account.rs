//! Who shares the cluster with whom: accounts in a tree, and people in them.

use super::limits::Limits;

/// The account above all others.
pub const ROOT: &str = "root";
/// The account of people of whom nothing else is said.
pub const DEFAULT: &str = "default";

/// An account: a group, a project, a course.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its name.
    pub name: String,
    /// The one above it; none for [`ROOT`] alone.
    pub parent: Option<String>,
    /// Its part of the cluster, beside its siblings'.
    pub shares: u32,
    /// QOS that its people may use; none = all.
    pub qos: Vec<String>,
    /// How long its people may reserve something for themselves; seconds. `None` = what the account above it says.
    pub reserve_time_s: Option<u32>,
    /// Limits of its jobs.
    pub limits: Limits,
    /// Free text.
    pub description: String,
}

impl Account {
    /// One directly below the root, with one share.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Account {
            name: name.to_owned(),
            parent: (name != ROOT).then(|| ROOT.to_owned()),
            shares: 1,
            qos: Vec::new(),
            reserve_time_s: None,
            limits: Limits::default(),
            description: String::new(),
        }
    }
}

/// What is said of a person. Nobody need be known: who is not has one share of the account [`DEFAULT`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The name.
    pub name: String,
    /// The account of jobs that name none.
    pub account: String,
    /// Other accounts that may be named.
    pub accounts: Vec<String>,
    /// The part of each of these accounts, beside other people's.
    pub shares: u32,
    /// QOS that may be used; none = what the account says.
    pub qos: Vec<String>,
    /// The QOS of jobs that name none; none = `normal`.
    pub default_qos: Option<String>,
    /// Limits of all jobs of this person.
    pub limits: Limits,
}

impl User {
    /// Somebody of whom nothing is said.
    #[must_use]
    pub fn named(name: &str) -> Self {
        User {
            name: name.to_owned(),
            account: DEFAULT.to_owned(),
            accounts: Vec::new(),
            shares: 1,
            qos: Vec::new(),
            default_qos: None,
            limits: Limits::default(),
        }
    }
}
