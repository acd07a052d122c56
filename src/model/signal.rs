//! Signals by name and number, and the `--signal` option: which one to send how long before the time limit.
//!
//! The numbers are Linux's on x86-64 and arm64, which agree, so the table needs no system header.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::text::{excerpt, number};

/// How long before the limit a signal is sent where nothing else was asked, in seconds.
pub const DEFAULT_BEFORE_LIMIT_S: u32 = 60;
/// The first real-time signal that programs may use; the C library keeps 32 and 33.
const RT_MIN: i32 = 34;
/// The largest signal number.
const RT_MAX: i32 = 64;

/// The names of signals 1 to 31, in order.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// Why a text does not say which signal to send when.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignalError {
    /// Neither the name nor the number of a signal.
    #[error(
        "\"{text}\" is not a signal: write a name such as TERM or SIGUSR1, or a number from 1 to {RT_MAX}"
    )]
    UnknownSignal {
        /// The offending text.
        text: String,
    },
    /// The letters before the colon are not `R` and `B`.
    #[error(
        "\"{flags}\" before the colon of a signal is not R, B or both: write B:USR1@60 for the batch shell"
    )]
    BadFlags {
        /// The offending letters.
        flags: String,
    },
    /// The time before the limit is not a number.
    #[error(
        "\"{seconds}\" is not a number of seconds before the time limit: write the signal as USR1@60"
    )]
    BadSeconds {
        /// The offending text.
        seconds: String,
    },
}

/// A signal to send once, some time before the job's time limit; it travels and is stored as its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SignalSpec {
    /// Whether it goes to the batch shell alone instead of to the tasks of the steps.
    pub batch_only: bool,
    /// Whether the job may reach into a reservation because of it.
    pub reservation: bool,
    /// The signal's number, 1 to 64.
    pub signal: u8,
    /// How long before the limit it is sent.
    pub before_limit_s: u32,
}

impl SignalSpec {
    /// Reads `[R][B]:sig[@sec]`, where the flags and their colon may be missing.
    pub fn parse(text: &str) -> Result<Self, SignalError> {
        let text = text.trim();
        let (flags, rest) = match text.split_once(':') {
            Some((flags, rest)) => (Some(flags), rest),
            None => (None, text),
        };
        let (reservation, batch_only) = match flags.map(str::to_ascii_uppercase).as_deref() {
            None => (false, false),
            Some("B") => (false, true),
            Some("R") => (true, false),
            Some("RB" | "BR") => (true, true),
            Some(_) => {
                return Err(SignalError::BadFlags {
                    flags: excerpt(flags.unwrap_or_default()),
                });
            }
        };
        let (signal, before_limit_s) = match rest.split_once('@') {
            Some((signal, seconds)) => (
                signal,
                number(seconds).ok_or_else(|| SignalError::BadSeconds {
                    seconds: excerpt(seconds),
                })?,
            ),
            None => (rest, DEFAULT_BEFORE_LIMIT_S),
        };
        Ok(Self {
            batch_only,
            reservation,
            signal: u8::try_from(parse_signal_name(signal)?).unwrap_or(u8::MAX),
            before_limit_s,
        })
    }
}

impl fmt::Display for SignalSpec {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = match (self.reservation, self.batch_only) {
            (false, false) => "",
            (false, true) => "B:",
            (true, false) => "R:",
            (true, true) => "RB:",
        };
        write!(
            formatter,
            "{flags}{}@{}",
            signal_name(self.signal.into()),
            self.before_limit_s
        )
    }
}

impl TryFrom<String> for SignalSpec {
    type Error = SignalError;

    fn try_from(text: String) -> Result<Self, SignalError> {
        Self::parse(&text)
    }
}

impl From<SignalSpec> for String {
    fn from(spec: SignalSpec) -> Self {
        spec.to_string()
    }
}

/// Reads the name of a signal, with or without `SIG` and in any letter case, or its number.
pub fn parse_signal_name(text: &str) -> Result<i32, SignalError> {
    let unknown = || SignalError::UnknownSignal {
        text: excerpt(text),
    };
    if let Some(signal) = number::<i32>(text) {
        return if (1..=RT_MAX).contains(&signal) {
            Ok(signal)
        } else {
            Err(unknown())
        };
    }
    if text.len() > 16 {
        return Err(unknown());
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let standard = (1_i32..)
        .zip(NAMES)
        .find(|(_, known)| *known == name)
        .map(|(signal, _)| signal);
    standard.or_else(|| other_name(name)).ok_or_else(unknown)
}

/// Second names of standard signals, and the real-time signals counted from either end.
fn other_name(name: &str) -> Option<i32> {
    match name {
        "IOT" => return Some(6),
        "CLD" => return Some(17),
        "POLL" => return Some(29),
        "RTMIN" => return Some(RT_MIN),
        "RTMAX" => return Some(RT_MAX),
        _ => {}
    }
    let signal = match (name.strip_prefix("RTMIN+"), name.strip_prefix("RTMAX-")) {
        (Some(offset), _) => RT_MIN.checked_add(number(offset)?)?,
        (_, Some(offset)) => RT_MAX.checked_sub(number(offset)?)?,
        _ => return None,
    };
    (RT_MIN..=RT_MAX).contains(&signal).then_some(signal)
}

/// The name of a signal without `SIG`; a number that has no name is written as it is.
pub fn signal_name(signal: i32) -> String {
    let standard = usize::try_from(signal.saturating_sub(1))
        .ok()
        .and_then(|place| NAMES.get(place));
    match (standard, signal) {
        (Some(name), _) => (*name).to_string(),
        (None, RT_MIN) => "RTMIN".to_string(),
        (None, _) if (RT_MIN..=RT_MAX).contains(&signal) => format!("RTMIN+{}", signal - RT_MIN),
        (None, _) => signal.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_and_numbers() {
        let table = [
            ("TERM", 15),
            ("SIGTERM", 15),
            ("sigusr2", 12),
            ("15", 15),
            ("KILL", 9),
            ("SYS", 31),
            ("IOT", 6),
            ("RTMIN", 34),
            ("SIGRTMIN+1", 35),
            ("RTMAX-1", 63),
            ("64", 64),
        ];
        for (text, signal) in table {
            assert_eq!(parse_signal_name(text), Ok(signal), "{text}");
        }
        for text in [
            "",
            "0",
            "65",
            "-9",
            "SIG",
            "FOO",
            "SIGSIGTERM",
            "RTMIN+31",
            "RTMAX-31",
            "RTMIN+-1",
            "TERM ",
            "99999999999",
        ] {
            assert!(parse_signal_name(text).is_err(), "{text}");
        }
        assert_eq!(
            (signal_name(15), signal_name(64), signal_name(32)),
            ("TERM".into(), "RTMIN+30".into(), "32".into())
        );
        assert_eq!((signal_name(0), signal_name(-1)), ("0".into(), "-1".into()));
    }

    #[test]
    fn reads_the_option() {
        let table = [
            ("USR2@90", false, false, 12, 90),
            ("B:USR2@30", true, false, 12, 30),
            ("B:INT@30", true, false, 2, 30),
            ("SIGTERM@60", false, false, 15, 60),
            ("12@5", false, false, 12, 5),
            ("10", false, false, 10, 60),
            ("R:HUP", false, true, 1, 60),
            ("rb:USR1@0", true, true, 10, 0),
        ];
        for (text, batch_only, reservation, signal, before_limit_s) in table {
            assert_eq!(
                SignalSpec::parse(text),
                Ok(SignalSpec {
                    batch_only,
                    reservation,
                    signal,
                    before_limit_s
                }),
                "{text}"
            );
        }
        for text in [
            "",
            "@60",
            "B:",
            "B:@60",
            ":USR1",
            "BB:USR1",
            "X:USR1",
            "B:R:USR1",
            "USR1@",
            "USR1@x",
            "USR1@-1",
            "USR1@60@60",
            "B@30",
        ] {
            assert!(SignalSpec::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn round_trips(batch_only: bool, reservation: bool, signal in 1..=RT_MAX, before_limit_s: u32) {
            let spec = SignalSpec { batch_only, reservation, signal: signal.try_into().unwrap(), before_limit_s };
            prop_assert_eq!(SignalSpec::parse(&spec.to_string()), Ok(spec));
        }

        #[test]
        fn never_panics(text in any::<String>(), hostile in "[BR]?:?(SIG)?[A-Z0-9+@-]{0,12}", signal in -100..100) {
            let _ = SignalSpec::parse(&text);
            let _ = SignalSpec::parse(&hostile);
            let _ = parse_signal_name(&hostile);
            let _ = signal_name(signal);
        }
    }
}
