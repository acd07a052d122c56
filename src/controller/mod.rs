//! THE CONTROLLER: a thin shell around [`crate::cluster`]. It reads the clock, the socket and the store, and
//! decides nothing.
//!
//! One task ([`run`]) owns the cluster. Each turn it takes all commands that have arrived, decides and
//! applies them, plans once, commits once, publishes a snapshot, and only then acts: replies leave, workers
//! are told. Who is there [`callers`] finds out, and sessions ([`session`]) turn bytes into commands; queries ([`queries`]) read the published
//! snapshot and the store and never wait for the loop; streams ([`streams`]) pass by it altogether.
#![allow(
    clippy::disallowed_methods,
    reason = "this shell touches files and the clock for the core"
)]

mod act;
mod ahead;
mod allocation;
mod attach;
mod audit;
mod callers;
mod clock;
mod credentials;
mod links;
mod listening;
mod listing;
mod members;
mod output;
mod queries;
mod relays;
mod rules;
mod run;
mod safe_reports;
mod session;
mod shares;
mod step_logs;
mod step_turns;
mod worker_session;

pub use listening::Listen;
pub use run::{ControllerError, ControllerOptions, run};
