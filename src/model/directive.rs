//! Options inside a batch script: the lines that begin with `#SBATCH` or `#HPC`, and what a script must be.
//!
//! The words come out as a shell would have passed them, but nothing is ever expanded. Which options they
//! are is `cli/job_options.rs`'s matter.

use serde::{Deserialize, Serialize};

use super::text::excerpt;

/// The largest script that is accepted, in bytes.
pub const MAX_SCRIPT_BYTES: usize = 4 << 20;
/// The most words all directives of a script may have together.
pub const MAX_WORDS: usize = 10_000;

/// Why the directives of a script cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DirectiveError {
    /// A quote that no other one closes on its line.
    #[error(
        "line {line}: \"{directive}\" has an unmatched quote: close it on the same line, or write \\{quote} for the character"
    )]
    UnmatchedQuote {
        /// The line in the script, from 1.
        line: u32,
        /// The directive's text.
        directive: String,
        /// The quote that is open.
        quote: char,
    },
    /// A backslash with nothing behind it.
    #[error(
        "line {line}: \"{directive}\" ends in a backslash: directives do not go on in the next line, begin another one"
    )]
    TrailingBackslash {
        /// The line in the script, from 1.
        line: u32,
        /// The directive's text.
        directive: String,
    },
    /// Bytes that are no text.
    #[error("line {line}: \"{directive}\" is not UTF-8: save the script as UTF-8")]
    NotUtf8 {
        /// The line in the script, from 1.
        line: u32,
        /// The directive's text, as far as it can be shown.
        directive: String,
    },
    /// More words than are looked at.
    #[error("line {line}: the script's directives have more than {MAX_WORDS} words: use fewer")]
    TooManyWords {
        /// The line in the script, from 1.
        line: u32,
    },
}

/// Why a text is not a batch script.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScriptError {
    /// Nothing but blanks.
    #[error("batch script is empty: write #!/bin/sh and the commands to run")]
    Empty,
    /// The first line names no interpreter.
    #[error(
        "batch script begins with \"{first_line}\" instead of #! and an interpreter: put #!/bin/sh into its first line"
    )]
    NoInterpreter {
        /// The first line.
        first_line: String,
    },
    /// Lines that end as on DOS, which no interpreter on Linux understands.
    #[error(
        "batch script has a DOS line break (\\r\\n) in line {line}: convert it, for instance with dos2unix"
    )]
    DosLineBreaks {
        /// The first such line, from 1.
        line: u32,
    },
    /// More bytes than are accepted.
    #[error(
        "batch script has {bytes} bytes, more than {MAX_SCRIPT_BYTES}: keep data in files and read them from the script"
    )]
    TooLarge {
        /// The size that was given.
        bytes: usize,
    },
}

/// The options of one directive line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Directive {
    /// Its line in the script, from 1.
    pub line: u32,
    /// Its arguments, split and without their quotes; never empty.
    pub words: Vec<String>,
}

/// Collects the directives above a script's first command.
///
/// Scanning stops at the first line that is neither blank nor a comment.
pub fn scan(script: &[u8]) -> Result<Vec<Directive>, DirectiveError> {
    let mut directives: Vec<Directive> = Vec::new();
    let mut words_left = MAX_WORDS;
    for (line, text) in (1_u32..).zip(script.split(|&byte| byte == b'\n')) {
        if let Some(options) = directive_options(text) {
            let words = read_words(line, options)?;
            words_left = words_left
                .checked_sub(words.len())
                .ok_or(DirectiveError::TooManyWords { line })?;
            if !words.is_empty() {
                directives.push(Directive { line, words });
            }
        } else if !is_blank_or_comment(text) {
            break;
        }
    }
    Ok(directives)
}

/// What follows the marker in a directive line; none for every other line.
///
/// `#SBATCH--time=1` is one too, as it always was; `#SBATCHING` and `#HPCG` are comments.
fn directive_options(line: &[u8]) -> Option<&[u8]> {
    let (options, glued) = match line.strip_prefix(b"#SBATCH") {
        Some(options) => (options, options.starts_with(b"-")),
        None => (line.strip_prefix(b"#HPC")?, false),
    };
    let ends_here = options
        .first()
        .is_none_or(|byte| matches!(byte, b' ' | b'\t' | b'\r'));
    (ends_here || glued).then_some(options)
}

fn is_blank_or_comment(line: &[u8]) -> bool {
    matches!(line.trim_ascii_start().first(), None | Some(b'#'))
}

fn read_words(line: u32, options: &[u8]) -> Result<Vec<String>, DirectiveError> {
    let shown = |text: &str| excerpt(text.trim());
    let options = options.strip_suffix(b"\r").unwrap_or(options);
    let text = std::str::from_utf8(options).map_err(|_| DirectiveError::NotUtf8 {
        line,
        directive: shown(&String::from_utf8_lossy(options)),
    })?;
    split_words(text).map_err(|fault| match fault {
        Fault::Quote(quote) => DirectiveError::UnmatchedQuote {
            line,
            directive: shown(text),
            quote,
        },
        Fault::Backslash => DirectiveError::TrailingBackslash {
            line,
            directive: shown(text),
        },
    })
}

/// What keeps a line from being split.
enum Fault {
    Quote(char),
    Backslash,
}

/// Splits at blanks and tabs; quotes group, a backslash keeps the next character, a bare `#` ends the line.
fn split_words(text: &str) -> Result<Vec<String>, Fault> {
    let mut words = Vec::new();
    // None between words, so that a word of two quotes and nothing else still counts.
    let mut word: Option<String> = None;
    let mut open_quote: Option<char> = None;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match (character, open_quote) {
            ('\\', _) => word
                .get_or_insert_default()
                .push(characters.next().ok_or(Fault::Backslash)?),
            (_, Some(quote)) if character == quote => open_quote = None,
            (_, Some(_)) => word.get_or_insert_default().push(character),
            ('\'' | '"', None) => {
                open_quote = Some(character);
                word.get_or_insert_default();
            }
            (' ' | '\t', None) => words.extend(word.take()),
            ('#', None) => break,
            (_, None) => word.get_or_insert_default().push(character),
        }
    }
    match open_quote {
        Some(quote) => Err(Fault::Quote(quote)),
        None => {
            words.extend(word);
            Ok(words)
        }
    }
}

/// Checks that a text can be run as a batch script; it need not be UTF-8.
pub fn check_script(script: &[u8]) -> Result<(), ScriptError> {
    if script.len() > MAX_SCRIPT_BYTES {
        return Err(ScriptError::TooLarge {
            bytes: script.len(),
        });
    }
    if script.trim_ascii().is_empty() {
        return Err(ScriptError::Empty);
    }
    let first_line = script
        .split(|&byte| byte == b'\n')
        .next()
        .unwrap_or_default();
    if !first_line.starts_with(b"#!") {
        let first_line = &first_line[..first_line.len().min(256)];
        return Err(ScriptError::NoInterpreter {
            first_line: excerpt(&String::from_utf8_lossy(first_line)),
        });
    }
    // The text behind the last line break is no finished line, so it cannot end in a DOS one.
    let lines = script.split_inclusive(|&byte| byte == b'\n');
    match (1_u32..)
        .zip(lines)
        .find(|(_, line)| line.ends_with(b"\r\n"))
    {
        Some((line, _)) => Err(ScriptError::DosLineBreaks { line }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(line: &str) -> Option<Vec<String>> {
        let directives = scan(line.as_bytes()).ok()?;
        Some(
            directives
                .into_iter()
                .flat_map(|directive| directive.words)
                .collect(),
        )
    }

    #[test]
    fn splits_lines() {
        let table: &[(&str, &[&str])] = &[
            ("#SBATCH -n 4 -t 10", &["-n", "4", "-t", "10"]),
            ("#SBATCH\t--job-name          x", &["--job-name", "x"]),
            ("#SBATCH --comment=\"a b\"", &["--comment=a b"]),
            ("#SBATCH --comment='a b'", &["--comment=a b"]),
            ("#SBATCH --comment=a' 'b\" \"c", &["--comment=a b c"]),
            ("#SBATCH --comment=\"it's\" -n1", &["--comment=it's", "-n1"]),
            ("#SBATCH --comment=\\\"a\\ b\\\\", &["--comment=\"a b\\"]),
            ("#SBATCH --comment=\"a\\\"b\"", &["--comment=a\"b"]),
            ("#SBATCH -n 4 # four", &["-n", "4"]),
            ("#SBATCH -J a#b -n 4", &["-J", "a"]),
            ("#SBATCH -J 'a#b' c\\#d", &["-J", "a#b", "c#d"]),
            ("#SBATCH --comment ''", &["--comment", ""]),
            ("#SBATCH -o $HOME/~/%j `x`", &["-o", "$HOME/~/%j", "`x`"]),
            ("#SBATCH -J é\r", &["-J", "é"]),
            ("#SBATCH--time=1", &["--time=1"]),
            ("#HPC --gpus 2", &["--gpus", "2"]),
            ("#SBATCH", &[]),
            ("#HPC", &[]),
            (" #SBATCH -n 4", &[]),
            ("##SBATCH -n 4", &[]),
            ("# SBATCH -n 4", &[]),
            ("#sbatch -n 4", &[]),
            ("#SBATCHING -n 4", &[]),
            ("#HPCG -n 4", &[]),
            ("#HPC-notes", &[]),
        ];
        for (line, expected) in table {
            assert_eq!(words(line).unwrap(), *expected, "{line}");
        }
    }

    #[test]
    fn stops_at_the_first_command() {
        let script = b"#!/bin/bash\n\n# a comment\n#SBATCH -n 1\n \t\n#HPC -n 2\n  # more\n#SBATCH -n 3\nset -e\n#SBATCH -n 4\n";
        let lines: Vec<u32> = scan(script)
            .unwrap()
            .iter()
            .map(|directive| directive.line)
            .collect();
        assert_eq!(lines, [4, 6, 8]);
        assert_eq!(scan(b"").unwrap(), []);
        assert_eq!(scan(b"echo\n#SBATCH 'x\n").unwrap(), []);
    }

    #[test]
    fn says_what_is_wrong() {
        let table: &[(&[u8], &str)] = &[
            (
                b"#!/bin/sh\n#SBATCH --comment='a b\n",
                "line 2: \"--comment='a b\" has an unmatched quote",
            ),
            (b"#SBATCH \"", "unmatched quote"),
            (b"#SBATCH -n 4 \\\n", "ends in a backslash"),
            (b"#SBATCH -J \xff\n", "not UTF-8"),
        ];
        for (script, text) in table {
            let error = scan(script).unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        }
        assert!(scan(b"#!/bin/sh\n# \xff\n#SBATCH -n 1\n\xff\n").is_ok());
        let many = "#SBATCH a\n".repeat(MAX_WORDS + 1);
        assert!(matches!(
            scan(many.as_bytes()),
            Err(DirectiveError::TooManyWords { .. })
        ));
    }

    #[test]
    fn checks_scripts() {
        let too_large = [b"#!/bin/sh\n".as_slice(), &vec![b'#'; MAX_SCRIPT_BYTES]].concat();
        let bytes = too_large.len();
        let table: &[(&[u8], Result<(), ScriptError>)] = &[
            (b"#!/bin/sh\n", Ok(())),
            (b"#!/bin/sh\necho \xff \r x\n", Ok(())),
            (b"#!/bin/sh\necho\r", Ok(())),
            (b"", Err(ScriptError::Empty)),
            (b" \n\n", Err(ScriptError::Empty)),
            (
                b"echo hi\n",
                Err(ScriptError::NoInterpreter {
                    first_line: "echo hi".to_string(),
                }),
            ),
            (
                b"\n#!/bin/sh\n",
                Err(ScriptError::NoInterpreter {
                    first_line: String::new(),
                }),
            ),
            (
                b"#!/bin/sh\r\necho\r\n",
                Err(ScriptError::DosLineBreaks { line: 1 }),
            ),
            (
                b"#!/bin/sh\necho\r\n",
                Err(ScriptError::DosLineBreaks { line: 2 }),
            ),
            (&too_large, Err(ScriptError::TooLarge { bytes })),
        ];
        for (script, verdict) in table {
            assert_eq!(&check_script(script), verdict);
        }
    }

    proptest! {
        #[test]
        fn quoted_words_come_back(words in prop::collection::vec("[^\\n\\r]{0,8}", 1..6)) {
            let escape = |word: &String| format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\""));
            let line = format!("#SBATCH {}\n", words.iter().map(escape).collect::<Vec<_>>().join(" "));
            prop_assert_eq!(scan(line.as_bytes()), Ok(vec![Directive { line: 1, words }]));
        }

        #[test]
        fn never_panics(script in any::<Vec<u8>>(), text in any::<String>(), hostile in "(#SBATCH[ a'\"\\\\#\n\r]{0,10}){0,5}") {
            for script in [script, format!("#SBATCH {text}").into_bytes(), hostile.into_bytes()] {
                let _ = scan(&script);
                let _ = check_script(&script);
            }
        }
    }
}
