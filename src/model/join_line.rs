//! The line that `hpc invite` prints and `hpc join` or `hpc login` takes: `ADDRESS[,ADDRESS]#ROLE_TOKEN`.
//!
//! The token is base32 of 16 bytes of secret, 16 bytes of the authority's fingerprint and 2 bytes of check sum. The
//! fingerprint lets the newcomer know that it speaks with this cluster before it tells the secret; the check sum
//! tells a line that was not copied whole from one that is not valid.

use super::identity::TokenHash;
use data_encoding::{Encoding, Specification};
use sha2::{Digest, Sha256};
use std::fmt;
use std::sync::LazyLock;

/// The port where nothing else is said.
pub const PORT: u16 = 7420;
/// Most addresses in a line.
pub const ADDRESSES_MAX: usize = 8;
/// Longest line; bytes.
const LINE_MAX: usize = 2048;
/// Bytes of secret, and of fingerprint.
const PART: usize = 16;

/// RFC 4648 base32 in small letters, without padding.
static BASE32: LazyLock<Encoding> = LazyLock::new(|| {
    let mut specification = Specification::new();
    specification
        .symbols
        .push_str("abcdefghijklmnopqrstuvwxyz234567");
    specification.translate.from = "ABCDEFGHIJKLMNOPQRSTUVWXYZ".to_owned();
    specification.translate.to = "abcdefghijklmnopqrstuvwxyz".to_owned();
    specification.encoding().expect("32 distinct symbols")
});

/// The secret of an invitation. It prints nothing of itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub [u8; PART]);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Secret {
    /// What is remembered of it.
    #[must_use]
    pub fn hash(&self) -> TokenHash {
        TokenHash(Sha256::digest(self.0).into())
    }
}

/// The beginning of the SHA-256 of an authority's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(pub [u8; PART]);

impl Fingerprint {
    /// Of a certificate in DER.
    #[must_use]
    pub fn of(certificate: &[u8]) -> Self {
        let hash: [u8; 32] = Sha256::digest(certificate).into();
        let mut part = [0; PART];
        part.copy_from_slice(&hash[..PART]);
        Fingerprint(part)
    }
}

/// An invitation as it is pasted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinLine {
    /// Where the controller may be reached, likeliest first: `HOST:PORT`.
    pub addresses: Vec<String>,
    /// What it is for, for people: `wkr`, `usr` and so on. The controller goes by what it remembers.
    pub prefix: String,
    /// The secret.
    pub secret: Secret,
    /// Whom to trust.
    pub authority: Fingerprint,
}

/// Why a text is no such line. It never repeats the line, which holds a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JoinLineError {
    /// No `#`, no `_`, or far too long.
    #[error(
        "this is no invitation: paste the whole of `ADDRESS:PORT#..._...` as `hpc invite` printed it"
    )]
    Shape,
    /// An address that cannot be one.
    #[error("\"{0}\" is no address: an invitation begins with HOST:PORT")]
    Address(String),
    /// The token does not hold together.
    #[error("the invitation is not whole: its token was cut or changed on the way; copy it again")]
    Token,
}

fn check_sum(body: &[u8]) -> [u8; 2] {
    let hash = Sha256::digest(body);
    [hash[0], hash[1]]
}

/// Splits `HOST:PORT`, `[V6]:PORT` or a host alone.
///
/// # Errors
/// What cannot be an address.
pub fn parse_address(text: &str) -> Result<(String, u16), JoinLineError> {
    let bad =
        || JoinLineError::Address(text.chars().filter(|c| !c.is_control()).take(100).collect());
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or_else(bad)?;
            host.parse::<std::net::Ipv6Addr>().map_err(|_| bad())?;
            match port.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if port.is_empty() => (host, None),
                None => return Err(bad()),
            }
        }
        None => match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = match port {
        Some(port) => port
            .parse()
            .ok()
            .filter(|port| *port != 0)
            .ok_or_else(bad)?,
        None => PORT,
    };
    let allowed =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':');
    let v6 = text.starts_with('[');
    if host.is_empty()
        || host.len() > 253
        || !host.bytes().all(allowed)
        || (!v6 && host.contains(':'))
    {
        return Err(bad());
    }
    Ok((host.to_owned(), port))
}

impl std::str::FromStr for JoinLine {
    type Err = JoinLineError;

    fn from_str(text: &str) -> Result<Self, JoinLineError> {
        let text = text.trim();
        if text.len() > LINE_MAX {
            return Err(JoinLineError::Shape);
        }
        let (addresses, token) = text.split_once('#').ok_or(JoinLineError::Shape)?;
        let (prefix, token) = token.split_once('_').ok_or(JoinLineError::Shape)?;
        if prefix.len() != 3 || !prefix.bytes().all(|byte| byte.is_ascii_lowercase()) {
            return Err(JoinLineError::Shape);
        }
        let addresses: Vec<String> = addresses.split(',').map(str::to_owned).collect();
        if addresses.len() > ADDRESSES_MAX {
            return Err(JoinLineError::Shape);
        }
        for address in &addresses {
            parse_address(address)?;
        }
        let bytes = BASE32
            .decode(token.as_bytes())
            .map_err(|_| JoinLineError::Token)?;
        let whole: [u8; 2 * PART + 2] = bytes.try_into().map_err(|_| JoinLineError::Token)?;
        let (body, sum) = whole.split_at(2 * PART);
        if check_sum(body) != sum {
            return Err(JoinLineError::Token);
        }
        let mut secret = [0; PART];
        let mut authority = [0; PART];
        secret.copy_from_slice(&body[..PART]);
        authority.copy_from_slice(&body[PART..]);
        Ok(JoinLine {
            addresses,
            prefix: prefix.to_owned(),
            secret: Secret(secret),
            authority: Fingerprint(authority),
        })
    }
}

impl fmt::Display for JoinLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = [&self.secret.0[..], &self.authority.0[..]].concat();
        let sum = check_sum(&bytes);
        bytes.extend_from_slice(&sum);
        write!(
            f,
            "{}#{}_{}",
            self.addresses.join(","),
            self.prefix,
            BASE32.encode(&bytes)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line() -> JoinLine {
        JoinLine {
            addresses: vec!["10.0.0.5:7420".into(), "[fd00::5]:7420".into()],
            prefix: "wkr".into(),
            secret: Secret([7; 16]),
            authority: Fingerprint([9; 16]),
        }
    }

    #[test]
    fn a_line_comes_back_and_every_change_of_its_token_is_noticed() {
        let text = line().to_string();
        assert_eq!(text.parse(), Ok(line()));
        let start = text.find('_').unwrap() + 1;
        for at in start..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] = if changed[at] == b'x' { b'y' } else { b'x' };
            let changed = String::from_utf8(changed).unwrap();
            assert_eq!(
                changed.parse::<JoinLine>(),
                Err(JoinLineError::Token),
                "{at}"
            );
        }
        assert_eq!(
            text[..text.len() - 1].parse::<JoinLine>(),
            Err(JoinLineError::Token)
        );
        assert_eq!(
            text.to_uppercase().parse::<JoinLine>(),
            Err(JoinLineError::Shape)
        );
    }

    #[test]
    fn addresses_are_checked() {
        assert_eq!(parse_address("ws1"), Ok(("ws1".into(), PORT)));
        assert_eq!(parse_address("10.0.0.5:99"), Ok(("10.0.0.5".into(), 99)));
        assert_eq!(parse_address("[::1]:99"), Ok(("::1".into(), 99)));
        for bad in [
            "", ":99", "a:0", "a:70000", "a b:1", "::1:99", "[::1", "[x]:1", "a\n:1",
        ] {
            assert!(parse_address(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_line_or_an_error(text in "\\PC{0,200}") {
            let _ = text.parse::<JoinLine>();
        }
    }

    #[test]
    fn nothing_prints_the_secret() {
        let text = format!("{:?}", line());
        assert!(
            text.contains("Secret(..)") && !text.contains("7, 7"),
            "{text}"
        );
    }
}
