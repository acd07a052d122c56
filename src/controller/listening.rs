//! The port for other machines: asked for, or the one of earlier starts, or the usual one, or any that is free.

use super::run::ControllerError;
use crate::model::join_line::PORT;
use crate::model::time::Timestamp;
use crate::net::identity::Authority;
use crate::net::server::{Server, ServerError};
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

/// Where other machines are heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Listen {
    /// On all addresses, at the port of earlier starts, else the usual one, else any that is free.
    #[default]
    Anywhere,
    /// There; port 0 = the port of earlier starts, else any.
    At(SocketAddr),
    /// Nowhere: this machine alone is the cluster.
    Nowhere,
}

impl std::str::FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Listen::Nowhere);
        }
        let bad = || {
            format!(
                "\"{text}\" is no address to listen on: write ADDR:PORT such as 0.0.0.0:{PORT}, or none"
            )
        };
        let address: SocketAddr = match text.strip_prefix(':') {
            Some(port) => (Ipv4Addr::UNSPECIFIED, port.parse().map_err(|_| bad())?).into(),
            None => text
                .parse()
                .or_else(|_| text.parse().map(|ip| SocketAddr::new(ip, PORT)))
                .map_err(|_| bad())?,
        };
        Ok(Listen::At(address))
    }
}

/// Listens; within a runtime.
pub(super) fn listen(
    wanted: Listen,
    directory: &Path,
    authority: &Authority,
    now: Timestamp,
) -> Result<Option<Server>, ControllerError> {
    let path = directory.join("listen");
    let earlier: Option<SocketAddr> = fs::read_to_string(&path)
        .ok()
        .and_then(|text| text.trim().parse().ok());
    let any = |port| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    // In this order; only the last failure counts.
    let candidates = match wanted {
        Listen::Nowhere => return Ok(None),
        Listen::At(address) if address.port() != 0 => vec![address],
        Listen::At(address) => {
            let earlier = earlier.filter(|earlier| earlier.ip() == address.ip());
            earlier.into_iter().chain([address]).collect()
        }
        Listen::Anywhere => match earlier {
            // Members come back to where it was.
            Some(earlier) => vec![earlier, any(0)],
            None => vec![any(PORT), any(0)],
        },
    };
    let mut failure = None;
    for address in candidates {
        match Server::bind(address, authority, now) {
            Ok(server) => {
                if earlier.is_some_and(|earlier| earlier.port() != server.address().port()) {
                    tracing::warn!(
                        address = %server.address(),
                        "another port than before: machines that have joined must be told (hpc join --address)"
                    );
                }
                if earlier != Some(server.address()) {
                    keep(&path, server.address());
                }
                return Ok(Some(server));
            }
            Err(error @ ServerError::Listen { .. }) => failure = Some(error),
            Err(error) => return Err(error.into()),
        }
    }
    match failure {
        Some(error) => Err(error.into()),
        None => Ok(None),
    }
}

fn keep(path: &Path, address: SocketAddr) {
    let new = path.with_extension("new");
    let kept = fs::write(&new, format!("{address}\n")).and_then(|()| fs::rename(&new, path));
    if let Err(error) = kept {
        tracing::warn!(%error, path = %path.display(), "the port cannot be kept for the next start");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_a_port_or_none() {
        let at = |text: &str| Listen::At(text.parse().unwrap());
        for (text, listen) in [
            ("none", Listen::Nowhere),
            (":99", at("0.0.0.0:99")),
            ("10.0.0.1:0", at("10.0.0.1:0")),
            ("10.0.0.1", at("10.0.0.1:7420")),
            ("[::]:99", at("[::]:99")),
        ] {
            assert_eq!(text.parse(), Ok(listen), "{text}");
        }
        for bad in ["", "here", "10.0.0.1:x", ":70000", "7420"] {
            assert!(bad.parse::<Listen>().is_err(), "{bad}");
        }
    }
}
