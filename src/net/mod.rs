//! THE NETWORK. An adapter: ordered byte streams between machines, and whose key is at the other end.
//!
//! Streams run over QUIC, and over TLS on TCP where UDP does not get through; both on the same port, both with
//! certificates on either side, always. What a key may do is not known here: a [`server::Arrival`] says which key it is
//! and whether this cluster's authority has vouched for it, and the controller looks up the rest.
//!
//! Nobody needs a right clock. A machine judges a certificate by who signed it; that one has expired is for the
//! controller to say, by its own clock ([`tls`]).
//!
//! Read [`identity`] (keys, certificates, what is kept on disk), then [`tls`], [`server`] (who shares its places by [`stock`]), [`client`]; [`membership`] is how
//! one becomes and stays known; [`bridge`] lets a
//! command without a runtime of its own use a stream.
#![allow(
    clippy::disallowed_methods,
    reason = "an adapter: it touches sockets, key files and the clock for the rest"
)]

pub mod address;
pub mod bridge;
pub mod client;
pub mod identity;
pub mod membership;
pub mod server;
pub mod stock;
pub mod tls;

use tokio::io::{AsyncRead, AsyncWrite};

/// An ordered stream of bytes both ways.
pub trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Stream for T {}

/// Names what both ends of a QUIC connection derive from its keys to recognise it (RFC 5705).
const TETHER_LABEL: &[u8] = b"hpc tether";

/// A TCP connection whose other end has lost power is noticed, and small frames leave at once.
fn prepare_tcp(stream: &tokio::net::TcpStream) {
    use nix::sys::socket::{setsockopt, sockopt};
    let _ = stream.set_nodelay(true);
    // Without them it works as well, only later.
    let _ = setsockopt(stream, sockopt::KeepAlive, &true);
    let _ = setsockopt(stream, sockopt::TcpKeepIdle, &10);
    let _ = setsockopt(stream, sockopt::TcpKeepInterval, &5);
    let _ = setsockopt(stream, sockopt::TcpKeepCount, &4);
    let _ = setsockopt(stream, sockopt::TcpUserTimeout, &30_000);
}

/// How two machines reach each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    /// QUIC over UDP.
    Quic,
    /// TLS over TCP, a connection for each stream.
    Tcp,
}

impl Path {
    /// Its word on screen.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Path::Quic => "quic",
            Path::Tcp => "tcp",
        }
    }
}
