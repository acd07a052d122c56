//! `hpc version`.

use super::connection::Target;
use super::exit::{self, Outcome};
use super::{Verb, output};
use clap::Args;

/// Print the version
///
/// Examples:
///   hpc version
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Version {}

impl Verb for Version {
    fn run(self, _target: &Target) -> Outcome {
        output::line(concat!("hpc ", env!("CARGO_PKG_VERSION")))?;
        Ok(exit::DONE)
    }
}
