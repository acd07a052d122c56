//! Names of output, error and input files with `%` patterns: `slurm-%A_%a.out`, `log/%x-%4j.txt`.
//!
//! Only the name is made here; the default names, the directory they lie in and opening them are for others.

use std::borrow::Cow;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::text::{excerpt, number};

/// The longest pattern, and the longest name it may give, in bytes: Linux's limit for a path.
pub const MAX_PATH_BYTES: usize = 4096;
/// What `%a` gives in a job that is no array element.
pub const NO_ARRAY_INDEX: u32 = u32::MAX - 1;
/// The most digits a number is padded to.
const MAX_WIDTH: usize = 10;
/// The letters that stand for something.
const LETTERS: &str = "AabJjNnstuxr";

/// Why a pattern does not name a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilenameError {
    /// No name at all.
    #[error("file name is empty: write a path, or /dev/null for none")]
    Empty,
    /// A zero byte, which no path can hold.
    #[error("file name \"{pattern}\" holds a zero byte: leave it out")]
    ZeroByte {
        /// The offending pattern.
        pattern: String,
    },
    /// A percent sign before something that stands for nothing.
    #[error(
        "\"{pattern}\" in a file name stands for nothing: use % with one of {LETTERS}, or %% for a percent sign"
    )]
    UnknownPattern {
        /// The percent sign and what follows it.
        pattern: String,
    },
    /// Longer than a path can be.
    #[error("file name \"{pattern}\" is longer than {MAX_PATH_BYTES} bytes: shorten it")]
    TooLong {
        /// The beginning of the offending pattern.
        pattern: String,
    },
}

/// Which element of which array a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArrayElement {
    /// The id of the whole array.
    pub array_job: u32,
    /// The element's index in it.
    pub index: u32,
}

/// Everything a pattern may stand for. In a batch script's own files, node index and rank are 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilenameContext {
    /// The job's own id, also for an array element.
    pub job: u32,
    /// Which element it is; none for a job that is no array.
    pub array: Option<ArrayElement>,
    /// The step's number; none for the batch script.
    pub step: Option<u32>,
    /// The node's name; what follows the first dot is left out.
    pub node_name: String,
    /// The node's place in the job, from 0.
    pub node_index: u32,
    /// The task's rank, from 0.
    pub task_rank: u32,
    /// The owner's name.
    pub user: String,
    /// The job's name.
    pub job_name: String,
    /// How often the job was started again.
    pub restart_count: u32,
}

/// A piece of a pattern: fixed text, or a letter with the width it asks for.
enum Piece<'a> {
    Text(Cow<'a, str>),
    Value { letter: char, width: usize },
}

/// Replaces the patterns by their values.
///
/// A backslash anywhere switches patterns off; it is removed and the character behind it is kept as it is.
pub fn expand(pattern: &str, context: &FilenameContext) -> Result<String, FilenameError> {
    let mut name = String::new();
    for piece in pieces(pattern)? {
        match piece {
            Piece::Text(text) => name.push_str(&text),
            Piece::Value { letter, width } => push_value(&mut name, letter, width, context),
        }
        // Here and not behind the loop: two thousand times the job's name would be megabytes.
        if name.len() > MAX_PATH_BYTES {
            return Err(FilenameError::TooLong {
                pattern: excerpt(pattern),
            });
        }
    }
    if name.contains('\0') {
        return Err(FilenameError::ZeroByte {
            pattern: excerpt(&name),
        });
    }
    Ok(name)
}

/// Checks that a pattern can be expanded, so that a mistake is refused at submission.
pub fn validate(pattern: &str) -> Result<(), FilenameError> {
    pieces(pattern).map(|_| ())
}

/// Whether the pattern gives each task or node a file of its own (`%t`, `%n` or `%N`).
pub fn has_task_pattern(pattern: &str) -> bool {
    let per_task = |piece: &Piece<'_>| {
        matches!(
            piece,
            Piece::Value {
                letter: 't' | 'n' | 'N',
                ..
            }
        )
    };
    pieces(pattern).is_ok_and(|pieces| pieces.iter().any(per_task))
}

fn pieces(pattern: &str) -> Result<Vec<Piece<'_>>, FilenameError> {
    if pattern.is_empty() {
        return Err(FilenameError::Empty);
    }
    if pattern.len() > MAX_PATH_BYTES {
        return Err(FilenameError::TooLong {
            pattern: excerpt(pattern),
        });
    }
    if pattern.contains('\0') {
        return Err(FilenameError::ZeroByte {
            pattern: excerpt(pattern),
        });
    }
    if pattern.contains('\\') {
        return Ok(vec![Piece::Text(without_backslashes(pattern).into())]);
    }
    let mut pieces = Vec::new();
    let mut rest = pattern;
    while let Some((fixed, behind)) = rest.split_once('%') {
        pieces.push(Piece::Text(fixed.into()));
        let letter_start = behind
            .find(|character: char| !character.is_ascii_digit())
            .unwrap_or(behind.len());
        let width = match &behind[..letter_start] {
            "" => 0,
            digits => number(digits).unwrap_or(MAX_WIDTH).min(MAX_WIDTH),
        };
        match behind[letter_start..].chars().next() {
            Some('%') => pieces.push(Piece::Text("%".into())),
            Some(letter) if LETTERS.contains(letter) => pieces.push(Piece::Value { letter, width }),
            other => {
                let unknown = format!(
                    "%{}{}",
                    &behind[..letter_start],
                    other.map(String::from).unwrap_or_default()
                );
                return Err(FilenameError::UnknownPattern {
                    pattern: excerpt(&unknown),
                });
            }
        }
        // Every letter, and the percent sign, is one byte.
        rest = &behind[letter_start + 1..];
    }
    pieces.push(Piece::Text(rest.into()));
    Ok(pieces)
}

fn without_backslashes(pattern: &str) -> String {
    let mut kept = String::new();
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => kept.extend(characters.next()),
            _ => kept.push(character),
        }
    }
    kept
}

fn push_value(name: &mut String, letter: char, width: usize, context: &FilenameContext) {
    let array_index = context
        .array
        .map_or(NO_ARRAY_INDEX, |element| element.index);
    let number = match letter {
        'A' => context
            .array
            .map_or(context.job, |element| element.array_job),
        'a' => array_index,
        'b' => array_index % 10,
        'J' | 'j' => context.job,
        'n' => context.node_index,
        't' => context.task_rank,
        'r' => context.restart_count,
        's' => match context.step {
            Some(step) => step,
            None => return name.push_str("batch"),
        },
        'N' => return name.push_str(context.node_name.split('.').next().unwrap_or_default()),
        'u' => return name.push_str(&context.user),
        _ => return name.push_str(&context.job_name),
    };
    let _ = write!(name, "{number:0width$}");
    if let ('J', Some(step)) = (letter, context.step) {
        let _ = write!(name, ".{step}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn batch() -> FilenameContext {
        FilenameContext {
            job: 42,
            array: None,
            step: None,
            node_name: "n3.lab.example".to_string(),
            node_index: 0,
            task_rank: 0,
            user: "ada".to_string(),
            job_name: "train (v2)".to_string(),
            restart_count: 1,
        }
    }

    #[test]
    fn expands_in_the_batch_script() {
        let table = [
            ("slurm-%j.out", "slurm-42.out"),
            ("%A_%a", "42_4294967294"),
            ("%J", "42"),
            ("%4j-%04j-%2j", "0042-0042-42"),
            ("%99j", "0000000042"),
            ("%99999999999999999999999999j", "0000000042"),
            ("%N-%n-%t-%s", "n3-0-0-batch"),
            ("%u/%x.%r", "ada/train (v2).1"),
            ("%4x", "train (v2)"),
            ("100%%j", "100%j"),
            ("%%%j", "%42"),
            ("\\%j", "%j"),
            ("a\\\\b%j\\", "a\\b%j"),
            ("/dev/null", "/dev/null"),
        ];
        for (pattern, name) in table {
            assert_eq!(expand(pattern, &batch()).as_deref(), Ok(name), "{pattern}");
        }
    }

    #[test]
    fn expands_in_a_step_of_an_array_element() {
        let array = Some(ArrayElement {
            array_job: 40,
            index: 17,
        });
        let context = FilenameContext {
            array,
            step: Some(3),
            node_index: 1,
            task_rank: 5,
            ..batch()
        };
        let table = [
            ("%A_%a", "40_17"),
            ("%b", "7"),
            ("%J", "42.3"),
            ("%5J", "00042.3"),
            ("%s", "3"),
            ("%j_%t_log.out", "42_5_log.out"),
            ("%2n", "01"),
        ];
        for (pattern, name) in table {
            assert_eq!(expand(pattern, &context).as_deref(), Ok(name), "{pattern}");
        }
    }

    #[test]
    fn refuses_what_names_no_file() {
        for pattern in ["", "50%", "50%.txt", "%q", "%4", "%é", "a\0b"] {
            assert!(validate(pattern).is_err(), "{pattern}");
            assert!(expand(pattern, &batch()).is_err(), "{pattern}");
        }
        assert!(validate(&"a".repeat(MAX_PATH_BYTES + 1)).is_err());
        let long_name = FilenameContext {
            job_name: "x".repeat(200),
            ..batch()
        };
        assert!(matches!(
            expand(&"%x".repeat(100), &long_name),
            Err(FilenameError::TooLong { .. })
        ));
    }

    #[test]
    fn knows_files_per_task() {
        for (pattern, per_task) in [
            ("%j_%t.out", true),
            ("%N", true),
            ("%3n", true),
            ("%j", false),
            ("%%t", false),
            ("\\%t", false),
            ("%q%t", false),
        ] {
            assert_eq!(has_task_pattern(pattern), per_task, "{pattern}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in any::<String>(), hostile in "[%0-9jxN\\\\é]{0,30}") {
            for pattern in [text, hostile] {
                prop_assert_eq!(validate(&pattern).is_ok(), expand(&pattern, &batch()).is_ok());
                let _ = has_task_pattern(&pattern);
            }
        }

        #[test]
        fn doubled_percent_signs_are_plain(text in "[^\\x00\\\\]{1,30}") {
            prop_assert_eq!(expand(&text.replace('%', "%%"), &batch()), Ok(text));
        }
    }
}
