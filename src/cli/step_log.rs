//! The log of a step: a sequence of [`LogChunk`] headers and bytes, taken apart as it arrives, each piece
//! going to our standard output or error, with the rank before each line where that is wanted. Pure but for
//! the two writers it is given.

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

/// Takes a log apart.
#[derive(Debug, Default)]
pub(super) struct StepLog {
    /// Bytes of a header that is not complete.
    header: Vec<u8>,
    /// The piece being passed on and how much of it is missing.
    piece: Option<(LogChunk, usize)>,
    /// Bytes taken in all.
    taken: u64,
    /// Digits of the largest rank, if lines are labelled.
    label: Option<usize>,
    /// Beginnings of lines, by stream and rank.
    begun: BTreeMap<(u8, u32), Vec<u8>>,
    /// Whose line was shown in part, by stream: what follows of it needs no label.
    open: BTreeMap<u8, u32>,
}

impl StepLog {
    /// With `label`, lines begin with the rank in so many digits.
    pub(super) fn new(label: Option<usize>) -> Self {
        StepLog {
            label,
            ..StepLog::default()
        }
    }

    /// Everything below this offset was taken; where to go on after a break.
    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    /// Takes more bytes.
    pub(super) fn feed(
        &mut self,
        mut bytes: &[u8],
        out: &mut impl Write,
        err: &mut impl Write,
    ) -> Result<(), LogError> {
        while !bytes.is_empty() {
            let Some((chunk, missing)) = self.piece else {
                let (part, rest) =
                    bytes.split_at(bytes.len().min(LogChunk::SIZE - self.header.len()));
                self.header.extend_from_slice(part);
                self.taken += part.len() as u64;
                bytes = rest;
                if let Ok(header) = <&[u8; LogChunk::SIZE]>::try_from(self.header.as_slice()) {
                    let chunk = LogChunk::decode(header)
                        .ok_or(LogError::Damaged(self.taken - LogChunk::SIZE as u64))?;
                    self.header.clear();
                    self.piece = (chunk.length > 0).then_some((chunk, chunk.length as usize));
                }
                continue;
            };
            let (part, rest) = bytes.split_at(bytes.len().min(missing));
            self.piece = (missing > part.len()).then_some((chunk, missing - part.len()));
            self.taken += part.len() as u64;
            bytes = rest;
            if chunk.stream == 1 {
                self.pass(chunk, part, out)?
            } else {
                self.pass(chunk, part, err)?
            }
        }
        out.flush()?;
        err.flush()?;
        Ok(())
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

    /// The log is over: lines without an end are shown with one.
    pub(super) fn end(&mut self, out: &mut impl Write, err: &mut impl Write) -> io::Result<()> {
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
        let mut reader = StepLog::new(label);
        for part in bytes.chunks(cut) {
            reader.feed(part, &mut out, &mut err).unwrap();
        }
        reader.end(&mut out, &mut err).unwrap();
        assert_eq!(reader.taken(), bytes.len() as u64);
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
    fn digits_of_ranks() {
        assert_eq!([0, 1, 10, 11, 100, 101].map(digits), [1, 1, 1, 2, 2, 3]);
    }

    #[test]
    fn damage_is_told_with_its_place() {
        let mut bytes = log(&[(0, 1, "x")]);
        bytes.extend([0xff; 12]);
        let error = StepLog::new(None)
            .feed(&bytes, &mut Vec::new(), &mut Vec::new())
            .unwrap_err();
        assert!(matches!(error, LogError::Damaged(13)), "{error}");
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
