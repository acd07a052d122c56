//! THE NOUNS. Plain data, parsing and display; knows nothing else of the tree.
//!
//! Read [`job`] first: what was asked, what is known, how elements move. Then [`node`], [`allocation`] and
//! [`resource`]; the rest are values with a grammar of their own.

pub mod account;
pub mod allocation;
pub mod amounts;
pub mod array;
pub mod audit;
pub mod booking;
pub mod bounded;
pub mod constraint;
pub mod cpu_set;
pub mod dependency;
pub mod directive;
pub mod distribution;
pub mod export;
pub mod fading;
pub mod filename;
pub mod gres;
pub mod history;
pub mod hostlist;
pub mod identity;
pub mod ids;
pub mod index_set;
pub mod job;
pub mod job_ref;
pub mod join_line;
pub mod launch;
pub mod license;
pub mod limits;
pub mod mpirun;
pub mod node;
pub mod partition;
pub mod preempt;
pub mod programs;
pub mod qos;
pub mod rare;
pub mod refusal;
pub mod reservation;
pub mod reserve;
pub mod resource;
pub mod rules;
pub mod shared;
pub mod signal;
pub mod size;
pub mod spawn;
pub mod step;
pub mod stops;
pub mod switches;
mod text;
pub mod time;
pub mod topology;
pub mod user_map;
pub mod wishes;
