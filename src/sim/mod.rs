//! The simulator: functions of [`crate::scheduler`] under virtual time.
//!
//! So far it replays traces of batch jobs over processors without places. Read [`swf`] (what comes in), [`replay()`] (what
//! happens), [`report`] (what is said of it).

pub mod replay;
pub mod report;
pub mod swf;

pub use replay::{Rule, replay};
