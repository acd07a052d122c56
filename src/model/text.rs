//! What every parser of this folder needs: bare decimal numbers, and offending text cut to fit one line.
//!
//! Kept inside `model/`: the rest of the program meets values, not their spelling.

use std::str::FromStr;

/// How much of an offending text an error message repeats, in characters.
const EXCERPT_CHARACTERS: usize = 60;

/// Reads a number made of ASCII digits alone, so no sign, blank or underscore slips through.
pub(super) fn number<T: FromStr>(text: &str) -> Option<T> {
    if text.is_empty() || text.len() > 20 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// The offending text as an error message shows it: on one line and of bounded length.
pub(super) fn excerpt(text: &str) -> String {
    let mut shown = String::new();
    for (position, character) in text.chars().enumerate() {
        if position == EXCERPT_CHARACTERS {
            shown.push_str("...");
            break;
        }
        if character.is_control() {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

/// Yields the parts of a comma list, where a comma inside square brackets does not separate.
///
/// Brackets are not checked here: a part with unbalanced ones is handed on for its parser to refuse.
pub(super) fn split_outside_brackets(text: &str) -> impl Iterator<Item = &str> {
    let mut inside = false;
    text.split(move |character| {
        match character {
            '[' => inside = true,
            ']' => inside = false,
            _ => {}
        }
        character == ',' && !inside
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_digits_alone() {
        assert_eq!(number::<u32>("007"), Some(7));
        for text in [
            "",
            "+1",
            "-1",
            " 1",
            "1_0",
            "4294967296",
            "٣",
            "000000000000000000001",
        ] {
            assert_eq!(number::<u32>(text), None, "{text:?}");
        }
    }

    #[test]
    fn excerpts_stay_on_one_short_line() {
        assert_eq!(excerpt("a\nb"), "a\\nb");
        assert_eq!(excerpt(&"x".repeat(1000)).len(), EXCERPT_CHARACTERS + 3);
    }

    #[test]
    fn commas_in_brackets_do_not_separate() {
        let parts: Vec<&str> = split_outside_brackets("a,b[1,2],,c[3").collect();
        assert_eq!(parts, ["a", "b[1,2]", "", "c[3"]);
    }
}
