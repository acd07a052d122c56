//! A real agent and real shepherds, driven through the wire by a controller that the test plays.
#![allow(
    clippy::disallowed_methods,
    reason = "a test of processes touches files and time"
)]

mod failures;
mod fake;
mod life;
mod output;
mod silence;
mod speed;
