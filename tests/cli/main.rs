//! The command line against a controller that is played by a thread: what is asked, shown and returned.
//!
//! The binary is the real one; the controller's side of each conversation is written out in the test, so these
//! tests need no worker, no store and no root. Outputs are compared with `tests/golden/`; run with
//! `HPC_BLESS=1` to write them anew and look at the difference.
#![allow(
    clippy::disallowed_methods,
    reason = "starts processes, listens on a socket and reads golden files"
)]

mod attached;
mod fake;
mod looking;
mod submitting;
mod verbs;
