//! `hpc man`: manual pages, from the same definitions.

use super::Verb;
use super::connection::Target;
use super::exit::{self, Outcome};
use anyhow::Context;
use clap::Args;
use std::fs;
use std::io::Write;
use std::path::PathBuf;

/// Print the manual page, or write one for every command to a directory
///
/// Examples:
///   hpc man | man -l -
///   hpc man ~/.local/share/man/man1
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Man {
    /// Write hpc.1, hpc-submit.1, ... here
    #[arg(value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl Verb for Man {
    fn run(self, _target: &Target) -> Outcome {
        let Some(dir) = self.dir else {
            let mut page = Vec::new();
            clap_mangen::Man::new(super::command()).render(&mut page)?;
            std::io::stdout().lock().write_all(&page)?;
            return Ok(exit::DONE);
        };
        fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        clap_mangen::generate_to(super::command(), &dir)
            .with_context(|| format!("cannot write manual pages to {}", dir.display()))?;
        Ok(exit::DONE)
    }
}
