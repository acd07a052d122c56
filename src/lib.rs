//! `hpc`: one binary that turns lab machines into a cluster.
#![allow(clippy::needless_doctest_main)]
pub mod model;
pub mod sys;
