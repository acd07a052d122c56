//! `hpc backup`: a consistent copy of the store of a live controller.

use super::Verb;
use super::connection::{Target, unexpected};
use super::exit::{self, Failure, Outcome};
use super::follow::unseen;
use crate::model::refusal::Code;
use crate::wire::client::{Request, ToClient};
use anyhow::Context;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Write a consistent copy of queue, accounting and history to a file, while everything runs
///
/// An existing file is never overwritten, and an incomplete copy never has the file's name.
///
/// Examples:
///   hpc backup /srv/backup/hpc-$(date +%F).redb
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Backup {
    /// The file to write
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

impl Verb for Backup {
    fn run(self, target: &Target) -> Outcome {
        refuse_existing(&self.file)?;
        let mut name = self.file.clone().into_os_string();
        name.push(".partial");
        let partial = PathBuf::from(name);
        let written = receive(target, &partial).and_then(|()| publish(&partial, &self.file));
        if written.is_err() {
            // What is left of a failed copy serves nobody.
            let _ = fs::remove_file(&partial);
        }
        written.map(|()| exit::DONE)
    }
}

fn refuse_existing(file: &Path) -> Outcome<()> {
    if file.symlink_metadata().is_ok() {
        return Err(Failure::refused(
            Code::Path,
            format!("{} exists and is not overwritten", file.display()),
            "name another file, or remove that one first",
        ));
    }
    Ok(())
}

fn receive(target: &Target, partial: &Path) -> Outcome<()> {
    // Jobs' environments are in it: for its owner alone.
    let mut file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(partial)
        .map_err(|error| not_created(partial, &error))?;
    let progress = progress();
    let mut answers = target.request(&Request::Backup)?;
    let mut taken: u64 = 0;
    loop {
        match answers.answer()? {
            ToClient::Data { offset, bytes } => {
                let fresh = unseen(taken, offset, &bytes)?;
                file.write_all(fresh)
                    .with_context(|| format!("cannot write {}", partial.display()))?;
                taken += fresh.len() as u64;
                progress.set_position(taken);
            }
            ToClient::DataEnd { error: None } => break,
            ToClient::DataEnd { error: Some(error) } => {
                return Err(Failure::Other(anyhow::anyhow!(error)));
            }
            other => return Err(unexpected(&other)),
        }
    }
    progress.finish_and_clear();
    file.sync_all()
        .with_context(|| format!("cannot write {}", partial.display()))?;
    Ok(())
}

fn not_created(partial: &Path, error: &io::Error) -> Failure {
    let directory = match partial.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let (why, hint) = match error.kind() {
        io::ErrorKind::NotFound => (
            format!("directory {} does not exist", directory.display()),
            "create it first, or name a file elsewhere",
        ),
        io::ErrorKind::PermissionDenied => (
            format!("you may not write to directory {}", directory.display()),
            "name a file elsewhere",
        ),
        _ => (exit::plain(error), "name a file elsewhere"),
    };
    Failure::refused(
        Code::Path,
        format!("cannot create {}: {why}", partial.display()),
        hint,
    )
}

/// Gives the complete copy its name.
fn publish(partial: &Path, file: &Path) -> Outcome<()> {
    refuse_existing(file)?;
    fs::rename(partial, file).with_context(|| format!("cannot name {}", file.display()))?;
    Ok(())
}

/// Shown on a terminal alone.
fn progress() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {bytes} {bytes_per_sec}") {
        bar.set_style(style);
    }
    bar
}
