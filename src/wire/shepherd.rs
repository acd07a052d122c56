//! Between an agent and the shepherds of its node.
//!
//! A spare shepherd is told once which slot it serves ([`Assignment`]); from then on the two speak the words
//! of [`super::worker`]. An agent may meet shepherds started by an older binary, so variants and fields are
//! appended, never changed, for a whole major version.

use super::worker::{FromSlot, SlotLaunch, ToSlot};
use crate::model::ids::StepId;
use serde::{Deserialize, Serialize};

/// The descriptor on which a spare shepherd finds its agent.
pub const AGENT_FD: i32 = 3;
/// Name of the socket in a slot's directory.
pub const SOCKET: &str = "sock";
/// Name of the journal in a slot's directory.
pub const JOURNAL: &str = "journal";
/// Name of the spooled script in a slot's directory.
pub const SCRIPT: &str = "script";
/// Name of the empty file in a slot's directory by which its shepherd says that it takes [`ToSlot::Lease`]. A file,
/// because shepherds and agents of an earlier build know no word for it.
pub const LEASED: &str = "leased";

/// Name of the link in a slot's directory whose target is the version of the words that its shepherd knows,
/// [`super::hello::VERSION`]: a link, which has room on a full disk. Who has none is told nothing that is newer than
/// [`super::hello::VERSION_GANGS`].
pub const WORDS: &str = "words";

/// Name of the file in a slot's directory that lets the job speak with the controller from here.
pub const CREDENTIAL: &str = "credential";

/// Name of a step's log in a slot's directory.
#[must_use]
pub fn step_log_name(step: StepId) -> String {
    format!("step.{}.log", step.label())
}

/// Mode of a step's log whose shepherd could not write the rest: the one word that fits on a full disk.
pub const LOG_LOST: u32 = 0o400;

/// What a shepherd must know of the machine and the account; the agent looks it up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Site {
    /// This node's name.
    pub node: String,
    /// Tells this state directory's processes from another's: `HPC_SLOT` begins with it.
    pub state_id: String,
    /// The spooled script.
    pub script: String,
    /// The owner's account on this machine, where it has one.
    pub account: Option<Account>,
    /// Further variables: how a client inside the job finds its controller.
    pub variables: Vec<(String, String)>,
    /// Nothing may start here, and why (an unknown uid).
    pub refusal: Option<String>,
}

/// An account of this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Its name.
    pub name: String,
    /// Home directory.
    pub home: String,
    /// Login shell.
    pub shell: String,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// All supplementary groups.
    pub groups: Vec<u32>,
}

/// The slot that a spare shepherd is to serve.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// The slot's directory; it exists and is empty.
    pub directory: String,
    /// The machine's boot.
    pub boot_id: String,
    /// Machine and account.
    pub site: Site,
    /// Take on the account's identity for the job's processes (the agent is root).
    pub become_owner: bool,
    /// The order.
    pub launch: SlotLaunch,
}

/// Agent to shepherd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToShepherd {
    /// Serve this slot.
    Assign(Box<Assignment>),
    /// An order.
    Slot(ToSlot),
    /// Say how the slot stands and every report not acknowledged, as on a new connection: the controller may not
    /// have heard them.
    Repeat,
}

/// Shepherd to agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromShepherd {
    /// A report.
    Slot(FromSlot),
    /// The assignment could not be taken (the directory is gone, the disk is full); the shepherd ends.
    Failed(String),
}
