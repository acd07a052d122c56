//! `hpc`: one binary that turns lab machines into a cluster. The map, in reading order.
//!
//! Two deterministic cores in thin shells. [`cluster`] is the controller's brain, [`steps`] the worker's: state,
//! time and a command go in, events and effects come out. The shells around them touch the world and decide
//! nothing. Every top-level folder is either pure or touches the world, never both; `tests/tidy.rs` and
//! `clippy.toml` hold that.
//!
//! - [`model`]: the nouns, with their grammars. Start at [`model::job`].

pub mod cluster;
pub mod config;
pub mod controller;
pub mod model;
pub mod scheduler;
pub mod shepherd;
pub mod steps;
pub mod store;
pub mod sys;
pub mod wire;
pub mod worker;
