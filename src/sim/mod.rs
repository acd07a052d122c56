//! The simulator: the live controller and its scheduler under virtual time.
//!
//! A whole cluster, with nodes, limits and failures, under the controller's own core: read [`cluster`] (what happens),
//! [`cluster_file`] and [`jobs_file`] (what comes in), [`outcome`] and [`figures`] (what is said of it), [`foresight`] (how
//! well the starts of jobs were foretold).
//!
//! It also replays traces of batch jobs over processors without places: read [`swf`] (what comes in), [`replay()`] (what
//! happens), [`report`] (what is said of it). And it fills clusters of GPUs under the rules for packing them: read [`gpu`]
//! (what comes in) and [`inflation`] (what happens).

pub mod cluster;
pub mod cluster_file;
pub mod curve;
pub mod draw;
mod fields;
pub mod figures;
pub mod foresight;
pub mod gpu;
pub mod inflation;
pub mod jobs_file;
pub mod outages;
pub mod outcome;
pub mod recorded;
pub mod replay;
pub mod report;
mod shepherds;
pub mod swf;
pub mod workload;

pub use cluster::simulate;
pub use fields::{FILE_MAX, Wrong};
pub use replay::{Rule, replay};
