//! Logs: what a controller or an agent has to say goes to its standard error, a line each. `hpc up` and `hpc join` lead
//! that to a file in the state directory, systemd to its journal.
//!
//! Warnings and errors are written; `HPC_LOG` (`error`, `warn`, `info`, `debug`, `trace`) asks for more or less.

#![allow(
    clippy::disallowed_methods,
    reason = "an adapter: it reads one variable of the environment"
)]

use tracing_subscriber::filter::LevelFilter;

/// Writes what is logged from now on; once for each process.
pub fn to_standard_error() {
    let asked = std::env::var("HPC_LOG").ok();
    let level = asked.and_then(|word| word.parse().ok());
    let begun = tracing_subscriber::fmt()
        .with_max_level(level.unwrap_or(LevelFilter::WARN))
        .with_writer(std::io::stderr)
        .with_ansi(false)
        // A full disk must not end the process that would say so.
        .log_internal_errors(false)
        .try_init();
    // Begun already: then that is where it goes.
    _ = begun;
}
