//! What ranks ask for and what they are answered, whichever dialect they speak.

use super::{NameAnswer, NameRequest, pmi1, pmi2};
use crate::model::spawn::SpawnRequest;
use std::borrow::Cow;

/// Bytes of a request, or what they stand for where they were escaped.
pub(super) type Words<'a> = Cow<'a, [u8]>;

/// Longest name of a service, and longest port, in bytes.
pub(super) const NAME_MAX: usize = 1024;
/// How much of the text of an abort is kept, in characters.
const TEXT_MAX: usize = 512;
/// How much of an offending request is repeated, in bytes.
const EXCERPT_MAX: usize = 60;

/// A request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ask<'a> {
    /// The first line, in both dialects.
    Init {
        version: u32,
        subversion: u32,
    },
    /// PMI-2: who am I.
    FullInit,
    Maxes,
    AppNumber,
    Universe,
    SpaceName,
    Put {
        space: Words<'a>,
        key: Words<'a>,
        value: Words<'a>,
    },
    Get {
        space: Words<'a>,
        key: Words<'a>,
    },
    /// PMI-2: what the launcher knows.
    JobAttribute {
        key: Words<'a>,
    },
    /// PMI-2: a pair for the ranks of this node.
    NodePut {
        key: Words<'a>,
        value: Words<'a>,
    },
    NodeGet {
        key: Words<'a>,
        wait: bool,
    },
    Fence,
    Finalise,
    Abort {
        code: i32,
        text: String,
    },
    Name(NameRequest),
    /// PMI-1: the first line of a spawn, whose others follow.
    SpawnBegins,
    /// A whole spawn, or why it cannot be.
    Spawn(Result<SpawnRequest, &'static str>),
    /// Something that is not served, or that lacks a word. `answer` is the name that its answer bears.
    Refused {
        answer: String,
        why: &'static str,
    },
}

/// An answer.
#[derive(Debug)]
pub(super) enum Answer<'a> {
    Init {
        version: u32,
        subversion: u32,
    },
    InitRefused,
    FullInit {
        rank: u32,
        size: u32,
        app_number: u32,
        spawner: Option<&'a str>,
    },
    Maxes,
    AppNumber(u32),
    Universe(u32),
    SpaceName(&'a str),
    Put(Result<(), &'a str>),
    Got(Option<&'a [u8]>),
    JobAttribute(Option<&'a [u8]>),
    NodePut(Result<(), &'a str>),
    NodeGot(Option<&'a [u8]>),
    Fence(Result<(), &'a str>),
    Finalise,
    Name(NameKind, &'a NameAnswer),
    /// The name of the new step, or why there is none.
    Spawned(Result<&'a str, &'a str>),
    Refused {
        answer: &'a str,
        why: &'a str,
    },
}

/// Which request about published names was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NameKind {
    Publish,
    Unpublish,
    Lookup,
}

impl NameRequest {
    pub(super) fn kind(&self) -> NameKind {
        match self {
            NameRequest::Publish { .. } => NameKind::Publish,
            NameRequest::Unpublish { .. } => NameKind::Unpublish,
            NameRequest::Lookup { .. } => NameKind::Lookup,
        }
    }
}

/// How a request is to be answered, now or later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Tag {
    /// By a line.
    Line,
    /// By a frame, which repeats the thread that asked.
    Frame { thread: Option<Vec<u8>> },
}

impl Tag {
    /// Whether it was asked by a line.
    pub(super) fn is_line(&self) -> bool {
        matches!(self, Tag::Line)
    }

    pub(super) fn write(&self, answer: &Answer<'_>) -> Vec<u8> {
        match self {
            Tag::Line => pmi1::write(answer),
            Tag::Frame { thread } => pmi2::write(thread.as_deref(), answer),
        }
    }
}

/// A verb that may be repeated in the name of an answer.
pub(super) fn verb(bytes: &[u8]) -> Option<&str> {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    let fits = (1..=32).contains(&bytes.len()) && bytes.iter().all(plain);
    fits.then(|| std::str::from_utf8(bytes).ok()).flatten()
}

/// A decimal number.
pub(super) fn number<T: std::str::FromStr>(bytes: &[u8]) -> Option<T> {
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

/// A request about names, if its words are ones that can be passed on.
pub(super) fn name_word(bytes: Option<&[u8]>) -> Option<String> {
    let fit = bytes.filter(|bytes| (1..=NAME_MAX).contains(&bytes.len()))?;
    let text = std::str::from_utf8(fit).ok()?;
    (!text.contains(['\n', '\0'])).then(|| text.to_owned())
}

/// The code of an abort. A client that gives none means a failure.
pub(super) fn abort_code(bytes: Option<&[u8]>) -> i32 {
    bytes.and_then(number).unwrap_or(1)
}

/// A client's text on one line and of bounded length.
pub(super) fn one_line(bytes: &[u8]) -> String {
    // No character has more than four bytes.
    let start = &bytes[..bytes.len().min(4 * TEXT_MAX)];
    let text = String::from_utf8_lossy(start);
    let tame = |letter: char| if letter.is_control() { ' ' } else { letter };
    text.trim().chars().take(TEXT_MAX).map(tame).collect()
}

/// The beginning of an offending request, as a message shows it.
pub(super) fn excerpt(bytes: &[u8]) -> String {
    let dots = if bytes.len() > EXCERPT_MAX { "..." } else { "" };
    let start = &bytes[..bytes.len().min(EXCERPT_MAX)];
    format!("\"{}{dots}\"", start.escape_ascii())
}
