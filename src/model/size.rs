//! Amounts of memory as people write them: `2G`, `204MB`, `1048576K`, in whole MiB inside.
//!
//! What an amount of 0 means (all of the node) is for the option that holds it.

use super::text::{excerpt, number};

/// Why a text is not an amount of memory.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    /// Not a whole number with one of the known units.
    #[error(
        "\"{text}\" is not an amount of memory: write a whole number and K, M, G, T or P, such as 1536M or 2G"
    )]
    NotASize {
        /// The offending text.
        text: String,
    },
    /// A fraction, which would be rounded behind the user's back.
    #[error(
        "memory \"{text}\" has a fraction: write a whole number of a smaller unit, such as 1536M for 1.5G"
    )]
    Fraction {
        /// The offending text.
        text: String,
    },
    /// More MiB than 64 bits count.
    #[error(
        "memory \"{text}\" is more than {} MiB: write a smaller amount",
        u64::MAX
    )]
    TooLarge {
        /// The offending text.
        text: String,
    },
}

/// Reads an amount of memory as whole MiB; without a unit it is MiB, and parts of one round up.
pub fn parse_memory_mib(text: &str) -> Result<u64, SizeError> {
    let shown = || excerpt(text);
    let trimmed = text.trim();
    let unit_start = trimmed
        .find(|character: char| !character.is_ascii_digit())
        .unwrap_or(trimmed.len());
    let (digits, unit) = trimmed.split_at(unit_start);
    if !digits.is_empty() && unit.starts_with(['.', ',']) {
        return Err(SizeError::Fraction { text: shown() });
    }
    let unit = unit.to_ascii_uppercase();
    let mib_per_unit = match unit.as_str() {
        "K" | "KB" | "KIB" => None,
        "" | "M" | "MB" | "MIB" => Some(1),
        "G" | "GB" | "GIB" => Some(1 << 10),
        "T" | "TB" | "TIB" => Some(1 << 20),
        "P" | "PB" | "PIB" => Some(1_u64 << 30),
        _ => return Err(SizeError::NotASize { text: shown() }),
    };
    if digits.is_empty() {
        return Err(SizeError::NotASize { text: shown() });
    }
    let too_large = || SizeError::TooLarge { text: shown() };
    let amount: u64 = number(digits).ok_or_else(too_large)?;
    match mib_per_unit {
        None => Ok(amount.div_ceil(1 << 10)),
        Some(mib) => amount.checked_mul(mib).ok_or_else(too_large),
    }
}

/// Writes an amount of MiB in the largest unit that holds it exactly: `2G`, `204M`, `0`.
pub fn format_mib(mib: u64) -> String {
    if mib == 0 {
        return "0".to_string();
    }
    let mut amount = mib;
    let mut units = ["M", "G", "T", "P"].into_iter().peekable();
    while let Some(unit) = units.next() {
        if !amount.is_multiple_of(1024) || units.peek().is_none() {
            return format!("{amount}{unit}");
        }
        amount /= 1024;
    }
    format!("{mib}M")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_people_write() {
        let table = [
            ("0", 0),
            ("300", 300),
            ("300M", 300),
            ("204MB", 204),
            ("1g", 1024),
            ("2GB", 2048),
            ("2GiB", 2048),
            ("1048576K", 1024),
            ("1K", 1),
            ("1500K", 2),
            ("0K", 0),
            ("3t", 3 << 20),
            ("1P", 1 << 30),
            (" 5G\n", 5120),
        ];
        for (text, mib) in table {
            assert_eq!(parse_memory_mib(text), Ok(mib), "{text}");
        }
    }

    #[test]
    fn refuses_the_rest() {
        for text in [
            "",
            "G",
            "-1",
            "+1",
            "1.5G",
            "1,5G",
            ".5G",
            "1X",
            "1 G",
            "12B",
            "1GG",
            "1e3",
            "99999999999999999999",
            "17179869184P",
        ] {
            assert!(parse_memory_mib(text).is_err(), "{text}");
        }
        assert!(matches!(
            parse_memory_mib("1.5G"),
            Err(SizeError::Fraction { .. })
        ));
        assert!(matches!(
            parse_memory_mib("99999999999999999999"),
            Err(SizeError::TooLarge { .. })
        ));
    }

    #[test]
    fn writes_the_largest_exact_unit() {
        let table = [
            (0, "0"),
            (1, "1M"),
            (204, "204M"),
            (1536, "1536M"),
            (2048, "2G"),
            (1 << 20, "1T"),
            (1 << 40, "1024P"),
        ];
        for (mib, text) in table {
            assert_eq!(format_mib(mib), text);
        }
    }

    proptest! {
        #[test]
        fn round_trips(mib in any::<u64>(), shift in 0_u32..50) {
            let mib = mib >> shift << (shift / 2);
            prop_assert_eq!(parse_memory_mib(&format_mib(mib)), Ok(mib));
        }

        #[test]
        fn never_panics(text in any::<String>()) {
            let _ = parse_memory_mib(&text);
        }
    }
}
