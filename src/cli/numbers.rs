//! Whole numbers on a command line: what is wrong with one is said with the value and the range.

use std::ops::RangeInclusive;

/// Reads a number of this range; the error names value and range.
pub(super) fn whole(text: &str, range: RangeInclusive<i64>) -> Result<i64, String> {
    read(text, &range).ok_or_else(|| {
        let (least, most) = range.into_inner();
        format!("\"{text}\" is not a whole number from {least} to {most}")
    })
}

/// As [`whole`], of numbers that are never negative.
pub(super) fn count(text: &str, least: u32, most: u32) -> Result<u32, String> {
    whole(text, least.into()..=most.into()).map(|number| u32::try_from(number).unwrap_or(most))
}

/// As [`count`], for clap, which has named the value already.
pub(super) fn argument(text: &str, least: u32, most: u32) -> Result<u32, String> {
    count(text, least, most).map_err(|_| format!("write a whole number from {least} to {most}"))
}

fn read(text: &str, range: &RangeInclusive<i64>) -> Option<i64> {
    let number = text.trim().parse().ok()?;
    range.contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_number_is_told_with_the_range() {
        assert_eq!(count(" 4 ", 1, 9), Ok(4));
        assert_eq!(whole("-3", -5..=5), Ok(-3));
        for text in ["", "abc", "-1", "0", "10", "99999999999999999999", "1.5"] {
            assert_eq!(
                count(text, 1, 9),
                Err(format!("\"{text}\" is not a whole number from 1 to 9"))
            );
        }
    }
}
