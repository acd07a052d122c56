//! The simulator: functions of [`crate::scheduler`] under virtual time.
//!
//! It replays traces of batch jobs over processors without places: read [`swf`] (what comes in), [`replay()`] (what
//! happens), [`report`] (what is said of it). And it fills clusters of GPUs under the rules for packing them: read [`gpu`]
//! (what comes in) and [`inflation`] (what happens).

pub mod gpu;
pub mod inflation;
pub mod replay;
pub mod report;
pub mod swf;

pub use replay::{Rule, replay};
