//! Requests for devices: `gpu`, `gpu:2`, `gpu:a100:2`, and the `--gpus` forms that leave the name out.
//!
//! Whether a node has such a device is the scheduler's matter.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::text::{excerpt, number};

/// The most entries one request may have.
pub const MAX_ENTRIES: usize = 64;
/// The longest name of a device or of its kind, in bytes.
pub const MAX_NAME_BYTES: usize = 64;

/// Why a text is not a request for devices.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GresError {
    /// Not one of the forms of `--gres`.
    #[error(
        "\"{entry}\" is not a device request: write name, name:count or name:type:count, such as gpu:a100:2, or none"
    )]
    BadEntry {
        /// The offending entry.
        entry: String,
    },
    /// Not one of the forms of `--gpus`.
    #[error("\"{entry}\" is not a number of GPUs: write count or type:count, such as 2 or a100:2")]
    BadGpuEntry {
        /// The offending entry.
        entry: String,
    },
    /// The same device twice in one list.
    #[error("device \"{device}\" is asked for twice: write it once with the sum")]
    Repeated {
        /// The repeated device.
        device: String,
    },
    /// More entries than are looked at.
    #[error("device request \"{text}\" has more than {MAX_ENTRIES} entries: name fewer")]
    TooManyEntries {
        /// The beginning of the offending text.
        text: String,
    },
}

/// An amount of one kind of device.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct GresRequest {
    /// What it is, such as `gpu` or `shard`.
    pub name: String,
    /// Which model of it, where it matters.
    pub kind: Option<String>,
    /// How many, never 0.
    pub count: u32,
}

impl fmt::Display for GresRequest {
    /// As users write it: `gpu:a100:2`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Some(kind) => write!(formatter, "{}:{kind}:{}", self.name, self.count),
            None => write!(formatter, "{}:{}", self.name, self.count),
        }
    }
}

/// Reads a `--gres` list; `none`, and entries with a count of 0, ask for nothing.
pub fn parse_gres(text: &str) -> Result<Vec<GresRequest>, GresError> {
    if text.trim().eq_ignore_ascii_case("none") {
        return Ok(Vec::new());
    }
    parse_list(text, |entry| {
        parse_entry(entry).ok_or_else(|| GresError::BadEntry {
            entry: excerpt(entry),
        })
    })
}

/// Reads a `--gpus` list, which names no device because it is always `gpu`.
pub fn parse_gpus(text: &str) -> Result<Vec<GresRequest>, GresError> {
    parse_list(text, |entry| {
        parse_gpu_entry(entry).ok_or_else(|| GresError::BadGpuEntry {
            entry: excerpt(entry),
        })
    })
}

fn parse_list(
    text: &str,
    parse_entry: impl Fn(&str) -> Result<GresRequest, GresError>,
) -> Result<Vec<GresRequest>, GresError> {
    let mut requests: Vec<GresRequest> = Vec::new();
    for (place, entry) in text.trim().split(',').enumerate() {
        if place == MAX_ENTRIES {
            return Err(GresError::TooManyEntries {
                text: excerpt(text),
            });
        }
        let request = parse_entry(entry)?;
        if requests
            .iter()
            .any(|known| known.name == request.name && known.kind == request.kind)
        {
            let device = request.kind.map_or(request.name.clone(), |kind| {
                format!("{}:{kind}", request.name)
            });
            return Err(GresError::Repeated { device });
        }
        requests.push(request);
    }
    requests.retain(|request| request.count > 0);
    Ok(requests)
}

/// `name`, `name:count`, `name:kind` or `name:kind:count`, where a lone number is a count.
fn parse_entry(entry: &str) -> Option<GresRequest> {
    let entry = entry.strip_prefix("gres/").unwrap_or(entry);
    let (name, rest) = match entry.split_once(':') {
        Some((name, rest)) => (name, Some(rest)),
        None => (entry, None),
    };
    let (kind, count) = match rest {
        None => (None, 1),
        Some(rest) => parse_amount(rest)?,
    };
    Some(GresRequest {
        name: valid_name(name)?,
        kind,
        count,
    })
}

/// `count` or `kind:count`.
fn parse_gpu_entry(entry: &str) -> Option<GresRequest> {
    let (kind, count) = parse_amount(entry)?;
    Some(GresRequest {
        name: "gpu".to_string(),
        kind,
        count,
    })
}

/// `count`, `kind` or `kind:count`.
fn parse_amount(text: &str) -> Option<(Option<String>, u32)> {
    match text.split_once(':') {
        Some((kind, count)) => Some((Some(valid_name(kind)?), number(count)?)),
        None if text.bytes().all(|byte| byte.is_ascii_digit()) => Some((None, number(text)?)),
        None => Some((Some(valid_name(text)?), 1)),
    }
}

/// The name where it is made of letters, digits, `_`, `-` and `.`, and begins with one of the first two.
fn valid_name(name: &str) -> Option<String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    let begins_well = name
        .bytes()
        .next()
        .is_some_and(|byte| byte.is_ascii_alphanumeric());
    let valid = begins_well && name.len() <= MAX_NAME_BYTES && name.bytes().all(allowed);
    valid.then(|| name.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(requests: Result<Vec<GresRequest>, GresError>) -> Option<String> {
        Some(
            requests
                .ok()?
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(","),
        )
    }

    #[test]
    fn reads_gres() {
        let table = [
            ("gpu", Some("gpu:1")),
            ("gpu:2", Some("gpu:2")),
            ("gpu:a100", Some("gpu:a100:1")),
            ("gpu:a100:2", Some("gpu:a100:2")),
            ("gpu:4090:1", Some("gpu:4090:1")),
            ("gres/gpu:2", Some("gpu:2")),
            ("gpu:1,shard:2", Some("gpu:1,shard:2")),
            (
                "gpu:a100:1,gpu:rtx_3090.x-1:1",
                Some("gpu:a100:1,gpu:rtx_3090.x-1:1"),
            ),
            ("none", Some("")),
            ("NONE", Some("")),
            ("gpu:0", Some("")),
            ("", None),
            (",", None),
            ("gpu:", None),
            ("gpu::2", None),
            ("gpu:a100:", None),
            ("gpu:a100:x", None),
            ("gpu:a100:2:3", None),
            ("gpu:-1", None),
            ("gpu:4294967296", None),
            ("gpu,gpu:2", None),
            ("g pu", None),
            ("gpu:é", None),
        ];
        for (text, expected) in table {
            assert_eq!(shown(parse_gres(text)).as_deref(), expected, "{text}");
        }
        assert!(matches!(
            parse_gres(&"a,".repeat(1000)),
            Err(GresError::Repeated { .. })
        ));
        let many: Vec<String> = (0..=MAX_ENTRIES).map(|place| format!("a{place}")).collect();
        assert!(matches!(
            parse_gres(&many.join(",")),
            Err(GresError::TooManyEntries { .. })
        ));
    }

    #[test]
    fn reads_gpus() {
        let table = [
            ("2", Some("gpu:2")),
            ("a100:2", Some("gpu:a100:2")),
            ("a100:1,v100:3", Some("gpu:a100:1,gpu:v100:3")),
            ("a100", Some("gpu:a100:1")),
            ("0", Some("")),
            ("", None),
            ("1,2", None),
            ("gpu:a100:2", None),
            (":2", None),
        ];
        for (text, expected) in table {
            assert_eq!(shown(parse_gpus(text)).as_deref(), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn round_trips(name in "[a-z][a-z0-9_.-]{0,10}", kind in prop::option::of("[a-z0-9][a-z0-9_.-]{0,9}"), count in 1_u32..) {
            let request = GresRequest { name, kind, count };
            prop_assert_eq!(parse_gres(&request.to_string()), Ok(vec![request]));
        }

        #[test]
        fn never_panics(text in any::<String>(), hostile in "[a0-9,:/]{0,30}") {
            for text in [text, hostile] {
                let _ = parse_gres(&text);
                let _ = parse_gpus(&text);
            }
        }
    }
}
