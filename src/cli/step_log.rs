//! The logs of a step, one from each of its nodes: sequences of [`LogChunk`] headers and bytes, taken apart as they
//! arrive, each piece going to our standard output or error, with the rank before each line where that is wanted. Pure
//! but for the two writers it is given.

use crate::wire::worker::LogChunk;
use std::collections::BTreeMap;
use std::io::{self, Write};

/// Of a labelled line so much is kept until its end; a longer one is shown in pieces.
const LINE_MAX: usize = 64 * 1024;

/// What is wrong with a log.
#[derive(Debug, thiserror::Error)]
pub(super) enum LogError {
    /// The bytes at a header's place are none.
    #[error("the step's log is damaged at byte {0}")]
    Damaged(u64),
    /// A writer failed.
    #[error("cannot pass the output on")]
    Io(#[from] io::Error),
}

/// One node's log, as far as it has arrived.
#[derive(Debug, Default)]
struct Arrived {
    /// The beginning of a piece that is not complete.
    held: Vec<u8>,
    /// Bytes taken in all.
    taken: u64,
}

/// Takes the logs of a step apart, one from each of its nodes.
#[derive(Debug, Default)]
pub(super) struct StepLogs {
    /// By the node's place.
    nodes: BTreeMap<u32, Arrived>,
    lines: Lines,
}

impl StepLogs {
    /// With `label`, lines begin with the rank in so many digits.
    pub(super) fn new(label: Option<usize>) -> Self {
        StepLogs {
            nodes: BTreeMap::new(),
            lines: Lines {
                label,
                ..Lines::default()
            },
        }
    }

    /// Of a node's log everything below this offset was taken.
    pub(super) fn taken(&self, node: u32) -> u64 {
        self.nodes.get(&node).map_or(0, |node| node.taken)
    }

    /// Where to go on after a break, by the node's place.
    pub(super) fn offsets(&self) -> Vec<u64> {
        let places = self.nodes.last_key_value().map_or(0, |(last, _)| last + 1);
        (0..places).map(|place| self.taken(place)).collect()
    }

    /// Takes more bytes of a node's log. A piece is passed on once it is whole, so that what a task wrote in one go
    /// stays in one.
    pub(super) fn feed(
        &mut self,
        node: u32,
        bytes: &[u8],
        out: &mut impl Write,
        err: &mut impl Write,
    ) -> Result<(), LogError> {
        let Arrived { held, taken } = self.nodes.entry(node).or_default();
        let begins = *taken - held.len() as u64;
        let mut rest = bytes;
        // First what completes the piece that was begun, then all that is here as it stands.
        while !held.is_empty() && !rest.is_empty() {
            let wanted = match length_at(held, begins)? {
                Some(length) => length,
                None => LogChunk::SIZE,
            };
            let (part, after) = rest.split_at(rest.len().min(wanted - held.len()));
            held.extend_from_slice(part);
            *taken += part.len() as u64;
            rest = after;
            if length_at(held, begins)? == Some(held.len()) {
                self.lines.piece(held, out, err)?;
                held.clear();
            }
        }
        while let Some(length) = length_at(rest, *taken)?
            && length <= rest.len()
        {
            let (piece, after) = rest.split_at(length);
            self.lines.piece(piece, out, err)?;
            *taken += length as u64;
            rest = after;
        }
        held.extend_from_slice(rest);
        *taken += rest.len() as u64;
        out.flush()?;
        err.flush()?;
        Ok(())
    }

    /// Lines of ours that have come with the output, for our own standard error.
    pub(super) fn own_words(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.lines.own)
    }

    /// The logs are over: lines without an end are shown with one.
    pub(super) fn end(&mut self, out: &mut impl Write, err: &mut impl Write) -> io::Result<()> {
        self.lines.end(out, err)
    }
}

/// The length of the piece at the beginning of these bytes, header included, where that is here.
fn length_at(bytes: &[u8], offset: u64) -> Result<Option<usize>, LogError> {
    let Some(header) = bytes.first_chunk::<{ LogChunk::SIZE }>() else {
        return Ok(None);
    };
    let chunk = LogChunk::decode(header).ok_or(LogError::Damaged(offset))?;
    Ok(Some(LogChunk::SIZE + chunk.length as usize))
}

/// What is shown, of all nodes together: ranks are theirs in common.
#[derive(Debug, Default)]
struct Lines {
    /// Digits of the largest rank, if lines are labelled.
    label: Option<usize>,
    /// Beginnings of lines, by stream and rank.
    begun: BTreeMap<(u8, u32), Vec<u8>>,
    /// Lines of ours.
    own: Vec<u8>,
    /// Whose line was shown in part, by stream: what follows of it needs no label.
    open: BTreeMap<u8, u32>,
}

impl Lines {
    /// Shows one whole piece.
    fn piece(
        &mut self,
        bytes: &[u8],
        out: &mut impl Write,
        err: &mut impl Write,
    ) -> io::Result<()> {
        let header = bytes.first_chunk::<{ LogChunk::SIZE }>();
        match header.and_then(LogChunk::decode) {
            Some(chunk) if chunk.rank == LogChunk::NO_RANK => {
                self.own.extend_from_slice(&bytes[LogChunk::SIZE..]);
                Ok(())
            }
            Some(chunk) if chunk.stream == 1 => self.pass(chunk, &bytes[LogChunk::SIZE..], out),
            Some(chunk) => self.pass(chunk, &bytes[LogChunk::SIZE..], err),
            None => Ok(()),
        }
    }

    fn pass(&mut self, chunk: LogChunk, mut bytes: &[u8], to: &mut impl Write) -> io::Result<()> {
        let Some(digits) = self.label else {
            return to.write_all(bytes);
        };
        let line = (chunk.stream, chunk.rank);
        while !bytes.is_empty() {
            let end = bytes
                .iter()
                .position(|byte| *byte == b'\n')
                .map_or(bytes.len(), |newline| newline + 1);
            let (part, rest) = bytes.split_at(end.min(LINE_MAX));
            let begun = self.begun.entry(line).or_default();
            begun.extend_from_slice(part);
            bytes = rest;
            if begun.ends_with(b"\n") || begun.len() >= LINE_MAX {
                let text = std::mem::take(begun);
                self.show(line, &text, digits, to)?;
            }
        }
        Ok(())
    }

    /// Shows the whole of a line or the next piece of it; the label stands at its beginning alone.
    fn show(
        &mut self,
        (stream, rank): (u8, u32),
        text: &[u8],
        digits: usize,
        to: &mut dyn Write,
    ) -> io::Result<()> {
        let open = self.open.remove(&stream);
        if open != Some(rank) {
            if open.is_some() {
                // Another rank's line stands there in part, and goes on in a line of its own.
                to.write_all(b"\n")?;
            }
            write!(to, "{rank:>digits$}: ")?;
        }
        to.write_all(text)?;
        if !text.ends_with(b"\n") {
            self.open.insert(stream, rank);
        }
        Ok(())
    }

    fn end(&mut self, out: &mut impl Write, err: &mut impl Write) -> io::Result<()> {
        let digits = self.label.unwrap_or(0);
        let mut begun: Vec<_> = std::mem::take(&mut self.begun).into_iter().collect();
        // What goes on in the line that stands there comes before it is broken.
        begun.sort_by_key(|((stream, rank), _)| self.open.get(stream) != Some(rank));
        for (line, text) in begun {
            if !text.is_empty() {
                let to: &mut dyn Write = if line.0 == 1 { out } else { err };
                self.show(line, &text, digits, to)?;
            }
        }
        for stream in std::mem::take(&mut self.open).into_keys() {
            let to: &mut dyn Write = if stream == 1 { out } else { err };
            to.write_all(b"\n")?;
        }
        out.flush()?;
        err.flush()
    }
}

/// Digits of the largest of so many ranks.
pub(super) fn digits(tasks: u32) -> usize {
    tasks
        .saturating_sub(1)
        .checked_ilog10()
        .map_or(1, |log| log as usize + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn log(pieces: &[(u32, u8, &str)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (rank, stream, text) in pieces {
            let length = u32::try_from(text.len()).unwrap();
            bytes.extend(
                LogChunk {
                    rank: *rank,
                    stream: *stream,
                    length,
                }
                .encode(),
            );
            bytes.extend(text.as_bytes());
        }
        bytes
    }

    fn shown(bytes: &[u8], cut: usize, label: Option<usize>) -> (String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut reader = StepLogs::new(label);
        for part in bytes.chunks(cut) {
            reader.feed(2, part, &mut out, &mut err).unwrap();
        }
        reader.end(&mut out, &mut err).unwrap();
        let offsets = match bytes.len() as u64 {
            0 => Vec::new(),
            length => vec![0, 0, length],
        };
        assert_eq!(reader.offsets(), offsets);
        (
            String::from_utf8(out).unwrap(),
            String::from_utf8(err).unwrap(),
        )
    }

    #[test]
    fn ranks_are_labelled_line_by_line() {
        let bytes = log(&[
            (0, 1, "he"),
            (11, 1, "you\n"),
            (0, 1, "llo\nbye"),
            (3, 2, "oops\n"),
            (0, 1, ""),
        ]);
        let (out, err) = shown(&bytes, 5, Some(digits(12)));
        assert_eq!(out, "11: you\n 0: hello\n 0: bye\n");
        assert_eq!(err, " 3: oops\n");
        let (out, err) = shown(&bytes, 1000, None);
        assert_eq!((out.as_str(), err.as_str()), ("heyou\nllo\nbye", "oops\n"));
    }

    #[test]
    fn a_long_line_has_one_label_unless_another_comes_between() {
        let piece = (0, 1, &*"x".repeat(LINE_MAX));
        let long = piece.2.repeat(3);
        let bytes = log(&[piece, piece, piece, (0, 1, "end\n"), (0, 1, "next\n")]);
        let (out, _) = shown(&bytes, 4096, Some(1));
        assert!(out == format!("0: {long}end\n0: next\n"), "{}", out.len());
        let between = [(1, 1, "mine\n"), (0, 1, "end\n"), piece];
        let bytes = log(&[[piece, piece, piece], between].concat());
        let (out, _) = shown(&bytes, 4096, Some(1));
        let piece = piece.2;
        assert!(out == format!("0: {long}\n1: mine\n0: end\n0: {piece}\n"));
    }

    #[test]
    fn our_own_words_are_no_output() {
        let bytes = log(&[(1, 2, "theirs\n"), (LogChunk::NO_RANK, 2, "ours\n")]);
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut reader = StepLogs::new(Some(1));
        reader.feed(0, &bytes, &mut out, &mut err).unwrap();
        assert_eq!(
            (out.as_slice(), err.as_slice()),
            (&b""[..], &b"1: theirs\n"[..])
        );
        assert_eq!(reader.own_words(), b"ours\n");
        assert!(reader.own_words().is_empty());
    }

    #[test]
    fn digits_of_ranks() {
        assert_eq!([0, 1, 10, 11, 100, 101].map(digits), [1, 1, 1, 2, 2, 3]);
    }

    #[test]
    fn damage_is_told_with_its_place() {
        let mut bytes = log(&[(0, 1, "x")]);
        bytes.extend([0xff; 12]);
        for cut in [1, 5, 100] {
            let mut reader = StepLogs::new(None);
            let mut parts = bytes.chunks(cut);
            let error = parts
                .find_map(|part| reader.feed(0, part, &mut Vec::new(), &mut Vec::new()).err())
                .unwrap();
            assert!(matches!(error, LogError::Damaged(13)), "{cut}: {error}");
        }
    }

    #[test]
    fn what_was_written_in_one_go_is_not_torn_by_another_node() {
        let (one, two) = (log(&[(0, 1, "one line\n")]), log(&[(1, 1, "another\n")]));
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut reader = StepLogs::new(None);
        reader.feed(0, &one[..15], &mut out, &mut err).unwrap();
        reader.feed(1, &two, &mut out, &mut err).unwrap();
        reader.feed(0, &one[15..], &mut out, &mut err).unwrap();
        assert_eq!(out, b"another\none line\n");
        assert_eq!(reader.offsets(), [one.len() as u64, two.len() as u64]);
    }

    proptest! {
        #[test]
        fn any_cutting_shows_the_same(texts in prop::collection::vec((0u32..3, 1u8..3, "[a-c\n]{0,9}"), 0..9), cut in 1usize..20) {
            let pieces: Vec<(u32, u8, &str)> = texts.iter().map(|(rank, stream, text)| (*rank, *stream, text.as_str())).collect();
            let bytes = log(&pieces);
            prop_assert_eq!(shown(&bytes, cut, Some(1)), shown(&bytes, 4096, Some(1)));
            prop_assert_eq!(shown(&bytes, cut, None), shown(&bytes, 4096, None));
        }
    }
}
