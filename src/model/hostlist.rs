//! Lists of host names and their folded spelling, `n[1-3,7],rack[1-2]node[01-16]`.
//!
//! `parse` unfolds any number of brackets per name; `fold` writes one bracket on the last number of a name,
//! because that is what the parsers in the field read. Whether such a node exists is for others to say.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::text::{excerpt, number, split_outside_brackets};

/// The most names one list may unfold to.
pub const MAX_NAMES: usize = 65_536;
/// The longest name in bytes, a little more than DNS allows.
pub const MAX_NAME_BYTES: usize = 255;
/// The longest text of a list in bytes.
pub const MAX_TEXT_BYTES: usize = 4 << 20;
/// The most digits that are treated as a number; anything longer is plain text.
const MAX_DIGITS: usize = 18;

/// Why a text is not a list of hosts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostlistError {
    /// The text as a whole is too long to look at.
    #[error("host list of {bytes} bytes is longer than {MAX_TEXT_BYTES}: name fewer hosts")]
    TextTooLong {
        /// The length that was given.
        bytes: usize,
    },
    /// The list unfolds to too many names.
    #[error(
        "host list item \"{item}\" brings the list beyond {MAX_NAMES} names: use narrower ranges"
    )]
    TooManyNames {
        /// The item at which the bound was passed.
        item: String,
    },
    /// One unfolded name is too long to be a host name.
    #[error("host list item \"{item}\" gives names longer than {MAX_NAME_BYTES} bytes: shorten it")]
    NameTooLong {
        /// The offending item.
        item: String,
    },
    /// A bracket does not close, does not open, or stands inside another.
    #[error("host list item \"{item}\" has unbalanced brackets: write them in pairs, as in n[1-3]")]
    UnbalancedBrackets {
        /// The offending item.
        item: String,
    },
    /// A bracket holds something that is not a number or a rising range.
    #[error(
        "\"{range}\" in a host list is not a number or a rising range: write it as 3, 3-5 or 01-16"
    )]
    BadRange {
        /// The offending range.
        range: String,
    },
    /// A character that no host name has.
    #[error(
        "host name \"{item}\" has the character {character:?}: use letters, digits, '-', '_' and '.'"
    )]
    BadCharacter {
        /// The offending item.
        item: String,
        /// The character that is not allowed.
        character: char,
    },
}

/// One piece of an item: fixed text, or the numbers of one bracket.
enum Segment<'a> {
    Text(&'a str),
    Numbers(Vec<NumberRange>),
}

/// An inclusive range of numbers, written with at least `width` digits.
struct NumberRange {
    low: u64,
    high: u64,
    width: usize,
}

impl NumberRange {
    fn count(&self) -> u64 {
        self.high - self.low + 1
    }
}

/// Unfolds a list of hosts, in the order written and with repetitions kept; empty items are skipped.
pub fn parse(text: &str) -> Result<Vec<String>, HostlistError> {
    if text.len() > MAX_TEXT_BYTES {
        return Err(HostlistError::TextTooLong { bytes: text.len() });
    }
    let mut names = Vec::new();
    for item in split_outside_brackets(text.trim()) {
        if item.is_empty() {
            continue;
        }
        let segments = parse_item(item)?;
        check_bounds(item, &segments, MAX_NAMES - names.len())?;
        unfold(&segments, &mut names);
    }
    Ok(names)
}

/// Splits one item into fixed text and brackets.
fn parse_item(item: &str) -> Result<Vec<Segment<'_>>, HostlistError> {
    let unbalanced = || HostlistError::UnbalancedBrackets {
        item: excerpt(item),
    };
    let mut segments = Vec::new();
    let mut rest = item;
    while !rest.is_empty() {
        let (fixed, after) = match rest.split_once('[') {
            Some((fixed, after)) => (fixed, Some(after)),
            None => (rest, None),
        };
        check_characters(item, fixed)?;
        if !fixed.is_empty() {
            segments.push(Segment::Text(fixed));
        }
        let Some(after) = after else { break };
        let (inside, behind) = after.split_once(']').ok_or_else(unbalanced)?;
        if inside.contains('[') {
            return Err(unbalanced());
        }
        segments.push(Segment::Numbers(
            inside
                .split(',')
                .map(parse_range)
                .collect::<Result<_, _>>()?,
        ));
        rest = behind;
    }
    Ok(segments)
}

fn check_characters(item: &str, fixed: &str) -> Result<(), HostlistError> {
    let allowed =
        |character: char| character.is_ascii_alphanumeric() || matches!(character, '-' | '_' | '.');
    match fixed.chars().find(|&character| !allowed(character)) {
        None => Ok(()),
        Some(']') => Err(HostlistError::UnbalancedBrackets {
            item: excerpt(item),
        }),
        Some(character) => Err(HostlistError::BadCharacter {
            item: excerpt(item),
            character,
        }),
    }
}

fn parse_range(text: &str) -> Result<NumberRange, HostlistError> {
    let bad = || HostlistError::BadRange {
        range: excerpt(text),
    };
    let (low_text, high_text) = text.split_once('-').unwrap_or((text, text));
    if low_text.len() > MAX_DIGITS || high_text.len() > MAX_DIGITS {
        return Err(bad());
    }
    let low = number::<u64>(low_text).ok_or_else(bad)?;
    let high = number::<u64>(high_text).ok_or_else(bad)?;
    let high_is_padded = padded_width(high_text) > 0;
    if high < low || (high_is_padded && high_text.len() != low_text.len()) {
        return Err(bad());
    }
    Ok(NumberRange {
        low,
        high,
        width: padded_width(low_text),
    })
}

/// The width that leading zeros ask for; 0 where there are none.
fn padded_width(digits: &str) -> usize {
    if digits.len() > 1 && digits.starts_with('0') {
        digits.len()
    } else {
        0
    }
}

/// Refuses an item before it costs memory: by the number of its names, then by their length.
fn check_bounds(
    item: &str,
    segments: &[Segment<'_>],
    names_left: usize,
) -> Result<(), HostlistError> {
    let mut names: u64 = 1;
    let mut longest: usize = 0;
    for segment in segments {
        match segment {
            Segment::Text(fixed) => longest += fixed.len(),
            Segment::Numbers(ranges) => {
                let count = ranges
                    .iter()
                    .fold(0_u64, |sum, range| sum.saturating_add(range.count()));
                names = names.saturating_mul(count);
                longest += ranges
                    .iter()
                    .map(|range| range.width.max(digits_of(range.high)))
                    .max()
                    .unwrap_or(0);
            }
        }
    }
    if names > names_left as u64 {
        return Err(HostlistError::TooManyNames {
            item: excerpt(item),
        });
    }
    if longest > MAX_NAME_BYTES {
        return Err(HostlistError::NameTooLong {
            item: excerpt(item),
        });
    }
    Ok(())
}

fn digits_of(value: u64) -> usize {
    value.checked_ilog10().map_or(1, |log| log as usize + 1)
}

/// Appends every name of an item; the last bracket varies fastest.
fn unfold(segments: &[Segment<'_>], names: &mut Vec<String>) {
    let mut partial = vec![String::new()];
    for segment in segments {
        match segment {
            Segment::Text(fixed) => partial.iter_mut().for_each(|name| name.push_str(fixed)),
            Segment::Numbers(ranges) => {
                let mut longer = Vec::new();
                for prefix in &partial {
                    for range in ranges {
                        let width = range.width;
                        longer.extend(
                            (range.low..=range.high)
                                .map(|value| format!("{prefix}{value:0width$}")),
                        );
                    }
                }
                partial = longer;
            }
        }
    }
    names.append(&mut partial);
}

/// Names that differ in their last number alone.
struct Family<'a> {
    prefix: &'a str,
    suffix: &'a str,
    /// The numbers as written, in natural order.
    digits: Vec<&'a str>,
}

/// Folds host names into one text: sorted naturally, repetitions removed, a bracket on the last number only.
pub fn fold(names: &[impl AsRef<str>]) -> String {
    let mut sorted: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    sorted.sort_by(|left, right| natural_cmp(left, right));
    sorted.dedup();

    let mut families: Vec<Family<'_>> = Vec::new();
    let mut known: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for name in sorted {
        match split_last_number(name) {
            Some((prefix, digits, suffix)) => {
                let place = *known.entry((prefix, suffix)).or_insert(families.len());
                if place == families.len() {
                    families.push(Family {
                        prefix,
                        suffix,
                        digits: Vec::new(),
                    });
                }
                families[place].digits.push(digits);
            }
            None => families.push(Family {
                prefix: name,
                suffix: "",
                digits: Vec::new(),
            }),
        }
    }
    families
        .iter()
        .map(Family::fold)
        .collect::<Vec<_>>()
        .join(",")
}

impl Family<'_> {
    fn fold(&self) -> String {
        let numbers = match self.digits.as_slice() {
            [] => String::new(),
            [only] => (*only).to_string(),
            many => format!("[{}]", fold_numbers(many)),
        };
        format!("{}{numbers}{}", self.prefix, self.suffix)
    }
}

/// Writes numbers as ranges, joining only those that the first one's padding reproduces.
fn fold_numbers(digits: &[&str]) -> String {
    let mut ranges: Vec<(&str, &str)> = Vec::new();
    for &text in digits {
        if let Some((low, high)) = ranges.last_mut() {
            let width = padded_width(low);
            let follows = number::<u64>(high).map(|value| format!("{:0width$}", value + 1));
            if follows.as_deref() == Some(text) {
                *high = text;
                continue;
            }
        }
        ranges.push((text, text));
    }
    let written = ranges.iter().map(|(low, high)| {
        if low == high {
            (*low).to_string()
        } else {
            format!("{low}-{high}")
        }
    });
    written.collect::<Vec<_>>().join(",")
}

/// Cuts a name around its last run of digits; none where it has no digits or too many to be a number.
fn split_last_number(name: &str) -> Option<(&str, &str, &str)> {
    let end = name.rfind(|character: char| character.is_ascii_digit())? + 1;
    let start = name[..end]
        .rfind(|character: char| !character.is_ascii_digit())
        .map_or(0, |position| {
            position + name[position..].chars().next().map_or(1, char::len_utf8)
        });
    (end - start <= MAX_DIGITS).then(|| (&name[..start], &name[start..end], &name[end..]))
}

/// Orders names as people do: runs of digits by their value, so that `n2` comes before `n10`.
pub fn natural_cmp(left: &str, right: &str) -> Ordering {
    let (mut left_rest, mut right_rest) = (left.as_bytes(), right.as_bytes());
    while let (Some(&left_byte), Some(&right_byte)) = (left_rest.first(), right_rest.first()) {
        let order = if left_byte.is_ascii_digit() && right_byte.is_ascii_digit() {
            let (left_digits, right_digits) =
                (take_digits(&mut left_rest), take_digits(&mut right_rest));
            left_digits
                .len()
                .cmp(&right_digits.len())
                .then_with(|| left_digits.cmp(right_digits))
        } else {
            left_rest = &left_rest[1..];
            right_rest = &right_rest[1..];
            left_byte.cmp(&right_byte)
        };
        if order != Ordering::Equal {
            return order;
        }
    }
    // Equal but for leading zeros, or one is the beginning of the other.
    left_rest
        .len()
        .cmp(&right_rest.len())
        .then_with(|| left.cmp(right))
}

/// Takes a run of digits off the front and returns it without its leading zeros.
fn take_digits<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    let end = rest
        .iter()
        .position(|byte| !byte.is_ascii_digit())
        .unwrap_or(rest.len());
    let (digits, behind) = rest.split_at(end);
    *rest = behind;
    let zeros = digits.iter().take_while(|&&byte| byte == b'0').count();
    &digits[zeros..]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn unfolds() {
        let table: &[(&str, &[&str])] = &[
            ("", &[]),
            ("n1", &["n1"]),
            ("n1,n[3-5,9]", &["n1", "n3", "n4", "n5", "n9"]),
            ("n[08-11]", &["n08", "n09", "n10", "n11"]),
            ("r[1-2]n[01-02]", &["r1n01", "r1n02", "r2n01", "r2n02"]),
            ("n[1-2]-ib", &["n1-ib", "n2-ib"]),
            ("[1-2]", &["1", "2"]),
            ("a,,b,\n", &["a", "b"]),
            ("n[2,1,2]", &["n2", "n1", "n2"]),
        ];
        for (text, names) in table {
            assert_eq!(parse(text).unwrap(), *names, "{text}");
        }
        assert_eq!(parse("rack[1-2]node[01-16]").unwrap().len(), 32);
        assert_eq!(parse("n[0-65535]").unwrap().len(), MAX_NAMES);
    }

    #[test]
    fn refuses() {
        for text in [
            "n[",
            "n]",
            "n[]",
            "n[1",
            "n[[1]]",
            "n[1-]",
            "n[-1]",
            "n[3-1]",
            "n[1-010]",
            "n[a]",
            "n 1",
            "n1;n2",
            "é",
            "n[0-65536]",
            "n[1-300],m[1-300][1-300]",
            "n[1-999999999999999999]",
            "n[1-2][1-2][1-99999]",
            "n[1234567890123456789]",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        let many_brackets = format!("n[1-60000]{}", "[1]".repeat(1000));
        assert!(matches!(
            parse(&many_brackets),
            Err(HostlistError::NameTooLong { .. })
        ));
        assert!(matches!(
            parse(&"a,".repeat(MAX_TEXT_BYTES)),
            Err(HostlistError::TextTooLong { .. })
        ));
    }

    #[test]
    fn folds() {
        let table: &[(&[&str], &str)] = &[
            (&[], ""),
            (&["n1"], "n1"),
            (&["login", "n2", "n1"], "login,n[1-2]"),
            (&["n10", "n9", "n1", "n9"], "n[1,9-10]"),
            (&["n0", "n1", "n3", "m01", "m02"], "m[01-02],n[0-1,3]"),
            (&["r1n1", "r1n2", "r2n1", "r2n2"], "r1n[1-2],r2n[1-2]"),
            (&["n08", "n09", "n10", "n11"], "n[08-11]"),
            (&["n99", "n100"], "n[99-100]"),
            (&["n099", "n100"], "n[099-100]"),
            (&["n1-a", "n1-b", "n2-a", "n2-b"], "n[1-2]-a,n[1-2]-b"),
            (&["n01", "n1", "n2"], "n[01,1-2]"),
        ];
        for (names, text) in table {
            assert_eq!(fold(names), *text, "{names:?}");
        }
        assert_eq!(
            fold(&parse("rack[1-2]node[01-16]").unwrap()),
            "rack1node[01-16],rack2node[01-16]"
        );
    }

    proptest! {
        #[test]
        fn folding_keeps_the_set(names in prop::collection::vec("[a-c]{0,2}[0-9]{1,3}(-?[a-b][0-9]{0,20})?", 0..40)) {
            let mut expected = names.clone();
            expected.sort_by(|left, right| natural_cmp(left, right));
            expected.dedup();
            let folded = fold(&names);
            let mut unfolded = parse(&folded).unwrap();
            unfolded.sort_by(|left, right| natural_cmp(left, right));
            prop_assert_eq!(&unfolded, &expected);
            prop_assert_eq!(fold(&unfolded), folded);
        }

        #[test]
        fn never_panics(text in any::<String>(), hostile in "[n0-9,\\[\\]-]{0,40}") {
            let _ = parse(&text);
            let _ = parse(&hostile);
            let _ = fold(&[text, hostile]);
        }

        #[test]
        fn natural_order_is_an_order(names in prop::collection::vec("[a-b0-2]{0,5}", 3)) {
            let [a, b, c] = [&names[0], &names[1], &names[2]];
            prop_assert_eq!(natural_cmp(a, b), natural_cmp(b, a).reverse());
            if natural_cmp(a, b).is_le() && natural_cmp(b, c).is_le() {
                prop_assert!(natural_cmp(a, c).is_le());
            }
        }
    }
}
