//! How a command ends: the one table of exit codes, and the failures that lead to them.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | refused by the cluster, or the world failed |
//! | 2 | usage |
//! | 3 | no controller reachable |
//! | 4 | not permitted |
//! | other | `run`, `alloc`, `wait`, `submit --wait`: the job's own code, 128 + signal when a signal ended it |

use crate::model::refusal::{Code, Refusal};
use nix::sys::signal::Signal;
use std::fmt;
use std::io;

/// Done.
pub(super) const DONE: u8 = 0;
/// Refused, or the world failed.
pub(super) const REFUSED: u8 = 1;
/// The command line is wrong.
pub(super) const USAGE: u8 = 2;
/// No controller answers.
pub(super) const UNREACHABLE: u8 = 3;
/// Somebody else's, or for operators only.
pub(super) const NOT_PERMITTED: u8 = 4;
/// The reader of our output has gone: what a shell shows for SIGPIPE.
pub(super) const PIPE_CLOSED: u8 = 141;

/// What a shell shows for a process that a signal ended.
pub(super) fn of_signal(signal: Signal) -> u8 {
    u8::try_from(128 + signal as i32).unwrap_or(REFUSED)
}

/// An error of the system in words: without its number, beginning small.
pub(super) fn plain(error: &io::Error) -> String {
    let text = without_numbers(&error.to_string());
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| {
        first.to_lowercase().chain(characters).collect()
    })
}

/// Takes every ` (os error N)` out of a text.
fn without_numbers(text: &str) -> String {
    const MARK: &str = " (os error ";
    let mut shown = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(MARK) {
        shown.push_str(before);
        rest = after
            .split_once(')')
            .map_or(after, |(_number, behind)| behind);
    }
    shown.push_str(rest);
    shown
}

/// What a command leaves behind: its exit code, or why it failed.
pub(super) type Outcome<T = u8> = Result<T, Failure>;

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub(super) enum Failure {
    /// The command line, a variable or a directive is wrong.
    Usage(String),
    /// The cluster said no, or would.
    Refused(Refusal),
    /// Nobody answered where a controller should be.
    Unreachable(String),
    /// The connection was there and broke; worth another try where the request can be repeated.
    Lost(String),
    /// The world failed.
    Other(anyhow::Error),
    /// Standard output is closed; nothing more to say.
    PipeClosed,
}

impl Failure {
    /// The row of the table above.
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Failure::Usage(_) => USAGE,
            Failure::Refused(refusal)
                if matches!(refusal.code, Code::NotPermitted | Code::Revoked) =>
            {
                NOT_PERMITTED
            }
            Failure::Refused(_) | Failure::Other(_) => REFUSED,
            Failure::Unreachable(_) | Failure::Lost(_) => UNREACHABLE,
            Failure::PipeClosed => PIPE_CLOSED,
        }
    }

    /// A refusal said by the client itself because it can see it already.
    pub(super) fn refused(code: Code, what: impl Into<String>, hint: impl Into<String>) -> Self {
        Failure::Refused(Refusal::new(code, what, hint))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Usage(text) | Failure::Unreachable(text) | Failure::Lost(text) => {
                f.write_str(text)
            }
            Failure::Refused(refusal) => refusal.fmt(f),
            Failure::Other(error) => f.write_str(&without_numbers(&format!("{error:#}"))),
            Failure::PipeClosed => f.write_str("standard output is closed"),
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Failure::Refused(refusal)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        match error.downcast_ref::<io::Error>() {
            Some(cause) if cause.kind() == io::ErrorKind::BrokenPipe => Failure::PipeClosed,
            _ => Failure::Other(error),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::from(anyhow::Error::from(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_system_have_no_numbers() {
        let error = io::Error::from_raw_os_error(13);
        assert_eq!(plain(&error), "permission denied");
        let failure = Failure::from(anyhow::Error::from(error).context("cannot write /x"));
        assert_eq!(failure.to_string(), "cannot write /x: Permission denied");
    }

    #[test]
    fn each_failure_has_its_row() {
        let table = [
            (Failure::Usage(String::new()), 2),
            (Failure::refused(Code::UnknownJob, "no job 9", ""), 1),
            (
                Failure::refused(Code::NotPermitted, "job 9 is not yours", ""),
                4,
            ),
            (Failure::Unreachable(String::new()), 3),
            (Failure::Lost(String::new()), 3),
            (Failure::from(anyhow::anyhow!("disk")), 1),
            (
                Failure::from(io::Error::from(io::ErrorKind::BrokenPipe)),
                141,
            ),
        ];
        for (failure, code) in table {
            assert_eq!(failure.exit_code(), code, "{failure:?}");
        }
    }
}
