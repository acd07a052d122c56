//! Real clusters of real processes: the binary as a person uses it, killed, restarted and filled up.
//!
//! One module for each feature; `support` starts a cluster and ends everything of it. Nothing here looks inside the
//! library but `earlier_client`, which speaks as another build does, and `recorded`, which reads the store: what the others
//! see is what a user sees. The long ones do a short turn by default and the full one on request:
//!
//!     HPC_STORM=50 HPC_SURVIVORS=1000 cargo nextest run --profile ci --test it
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test of processes touches files, clock and environment"
)]

mod agent_killed;
mod attached;
mod bounds;
mod control;
mod copies;
mod crash_storm;
mod disk_full;
mod earlier_client;
mod first_job;
mod foreign_users;
mod gangs;
mod joining;
mod lab;
mod lab_cluster;
mod lab_disk;
mod lab_scheduling;
mod lab_self;
mod lab_storm;
mod limits;
mod listings;
mod mpi;
mod mpirun;
mod preemption;
mod real_programs;
mod recorded;
mod relay;
mod reservations;
mod reserve;
mod rules;
mod scheduling;
mod shepherd_killed;
mod silence;
mod spawn;
mod steps;
mod store_files;
mod support;
mod survivors;
mod systemd_vm;
mod trust;
mod two_nodes;
mod upgrade;
mod wiring;
