//! `hpc completions`: scripts that complete our commands in a shell, from the same definitions.

use super::Verb;
use super::connection::Target;
use super::exit::{self, Outcome};
use clap::Args;
use clap_complete::Shell;
use std::io::Write;

/// Print a completion script for a shell
///
/// Examples:
///   hpc completions bash > ~/.local/share/bash-completion/completions/hpc
///   hpc completions zsh > ~/.zfunc/_hpc
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Completions {
    /// Which shell
    shell: Shell,
}

impl Verb for Completions {
    fn run(self, _target: &Target) -> Outcome {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut super::command(), "hpc", &mut script);
        std::io::stdout().lock().write_all(&script)?;
        Ok(exit::DONE)
    }
}
