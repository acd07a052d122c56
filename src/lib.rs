//! `hpc`: one binary that turns lab machines into a cluster. The map, in reading order.
//!
//! Two deterministic cores in thin shells. [`cluster`] is the controller's brain, [`steps`] the worker's: state,
//! time and a command go in, events and effects come out. The shells around them touch the world and decide
//! nothing. Every top-level folder is either pure or touches the world, never both; `tests/tidy.rs` and
//! `clippy.toml` hold that.
//!
//! - [`model`]: the nouns, with their grammars. Start at [`model::job`].
//! - [`config`]: a configuration text becomes a validated value.
//! - [`scheduler`]: `plan(&View, now, Policy) -> Plan`, the same for the live cluster and a simulation.
//! - [`wire`]: messages and frames between client, controller, agent and shepherd.
//! - [`cluster`]: decide, apply, and what follows. Read `command`, `event`, `effect`, then `apply`.
//! - [`steps`]: the life of one slot on one node.
//! - [`store`]: the redb file: one write path, readers beside it.
//! - [`net`]: streams between machines over QUIC or TLS, and whose key is at the other end.
//! - [`telemetry`]: where logs go.
//! - [`sys`]: the kernel; the only folder with `unsafe`, and the one function that starts user processes.
//! - [`controller`]: the loop around [`cluster`]: take, decide, apply, plan, commit, publish, act.
//! - [`worker`]: the agent of a machine: discovery, the link to the controller, routes to shepherds.
//! - [`shepherd`]: one process for each slot and node, parent of its tasks, which outlives the agent.
//! - [`pmix`]: one process for each step and node that wants PMIx, around a library opened at run time.
//! - [`sim`]: [`cluster`] under virtual time, and what a policy would have made of a trace, of jobs or of GPU tasks.
//! - [`cli`]: one file for each command.

pub mod cli;
pub mod cluster;
pub mod config;
pub mod controller;
pub mod model;
pub mod net;
pub mod pmix;
pub mod scheduler;
pub mod shepherd;
pub mod sim;
pub mod steps;
pub mod store;
pub mod sys;
pub mod telemetry;
pub mod wire;
pub mod worker;
