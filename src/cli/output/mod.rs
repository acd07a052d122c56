//! What commands print: tables for people, JSON for programs, and the words both use.

pub(super) mod json;
pub(super) mod table;
pub(super) mod words;

use crate::cli::exit::Outcome;
use std::io::{self, BufWriter, Write};

/// Standard output with a buffer; flush it before the command ends.
pub(super) fn stdout() -> BufWriter<io::StdoutLock<'static>> {
    BufWriter::with_capacity(64 * 1024, io::stdout().lock())
}

/// Prints one line.
pub(super) fn line(text: &str) -> Outcome<()> {
    Ok(writeln!(io::stdout().lock(), "{text}")?)
}

/// Prints a text that ends its own lines.
pub(super) fn text(text: &str) -> Outcome<()> {
    Ok(io::stdout().lock().write_all(text.as_bytes())?)
}
