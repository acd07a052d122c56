//! What commands print: tables for people, JSON for programs, and the words both use.

pub(super) mod json;
pub(super) mod table;
pub(super) mod words;

use crate::cli::exit::Outcome;
use std::borrow::Cow;
use std::io::{self, BufWriter, Write};

/// The text with `?` for control characters: what somebody named a job must not reach the terminal as a command
/// to it, nor begin a line of its own.
pub(super) fn clean(text: &str) -> Cow<'_, str> {
    // Beyond ASCII stand the C1 controls, which a look at every character finds.
    if text.bytes().all(|byte| (b' '..0x7f).contains(&byte)) {
        return Cow::Borrowed(text);
    }
    if text.chars().any(char::is_control) {
        return Cow::Owned(text.replace(char::is_control, "?"));
    }
    Cow::Borrowed(text)
}

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
