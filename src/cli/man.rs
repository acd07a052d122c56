//! `hpc man`: manual pages, from the same definitions.

use super::Verb;
use super::connection::Target;
use super::exit::{self, Outcome};
use anyhow::Context;
use clap::{Args, Command};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

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
        let mut command = super::command().disable_help_subcommand(true);
        command.build();
        let Some(dir) = self.dir else {
            std::io::stdout().lock().write_all(&page(&command)?)?;
            return Ok(exit::DONE);
        };
        fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        write_all(&command, &dir)?;
        Ok(exit::DONE)
    }
}

/// Writes the page of a command and those of its subcommands.
fn write_all(command: &Command, dir: &Path) -> Outcome<()> {
    let name = command.get_display_name().unwrap_or(command.get_name());
    let file = dir.join(format!("{name}.1"));
    fs::write(&file, page(command)?).with_context(|| format!("cannot write {}", file.display()))?;
    command
        .get_subcommands()
        .filter(|command| !command.is_hide_set())
        .try_for_each(|command| write_all(command, dir))
}

/// A page: what the help says, its examples in a section of their own.
fn page(command: &Command) -> Outcome<Vec<u8>> {
    let about = command.get_long_about().or(command.get_about());
    let (about, of_about) = split(about.map(ToString::to_string));
    let (notes, of_notes) = split(command.get_after_help().map(ToString::to_string));
    let paragraphs = [about, notes].join("\n\n");
    let command = command
        .clone()
        .long_about(paragraphs.trim().to_owned())
        .after_help(None::<&str>);
    let (has_options, has_subcommands) = (
        command.get_arguments().any(|arg| !arg.is_hide_set()),
        command.get_subcommands().any(|inner| !inner.is_hide_set()),
    );
    let man = clap_mangen::Man::new(command).source(concat!("hpc ", env!("CARGO_PKG_VERSION")));
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    if has_options {
        man.render_options_section(&mut page)?;
    }
    if has_subcommands {
        man.render_subcommands_section(&mut page)?;
    }
    page.extend(examples(&[of_about, of_notes].concat()).into_bytes());
    Ok(page)
}

/// A text of the help before its examples, and the lines of these.
fn split(text: Option<String>) -> (String, Vec<String>) {
    let text = text.unwrap_or_default();
    let (before, examples) = text.split_once("Examples:").unwrap_or((&text, ""));
    let lines = examples.lines().map(str::trim);
    (
        before.trim().to_owned(),
        lines
            .filter(|line| !line.is_empty())
            .map(str::to_owned)
            .collect(),
    )
}

/// The section of examples in roff: lines as they are.
fn examples(lines: &[String]) -> String {
    if lines.is_empty() {
        return String::new();
    }
    let mut section = String::from(".SH EXAMPLES\n.nf\n");
    for line in lines {
        // Marked, so that none is taken for a request of roff's.
        section.push_str("\\&");
        section.push_str(
            &line
                .replace('\\', "\\e")
                .replace('-', "\\-")
                .replace('\'', "\\(aq"),
        );
        section.push('\n');
    }
    section.push_str(".fi\n");
    section
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_stand_under_their_own_heading() {
        let (before, lines) = split(Some("About.\n\nExamples:\n  hpc a -x\n  hpc b\n".into()));
        assert_eq!(before, "About.");
        assert_eq!(
            examples(&lines),
            ".SH EXAMPLES\n.nf\n\\&hpc a \\-x\n\\&hpc b\n.fi\n"
        );
        assert_eq!(examples(&[]), "");
    }
}
