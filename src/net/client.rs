//! The way to a controller: QUIC where it goes, TCP where UDP is blocked, chosen by trying both.

use super::tls::{self, Trust};
use super::{Path, Stream, TETHER_LABEL, identity, server};
use crate::model::join_line::parse_address;
use crate::wire::codec::encode;
use crate::wire::hello::{Hello, Role};
use crate::wire::join::Tether;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{Endpoint, EndpointConfig, TokioRuntime, VarInt};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

/// How long QUIC alone is tried before TCP is tried beside it.
const HEAD_START: Duration = Duration::from_millis(700);
/// How long all of it may take.
const DIAL_MAX: Duration = Duration::from_secs(8);
/// How long QUIC is still preferred once TCP has answered.
const LAST_CHANCE: Duration = Duration::from_millis(500);
/// How long a tether may take to be tied.
const TETHER_MAX: Duration = Duration::from_secs(5);
/// The pause after a tether that could not be tied.
const TETHER_AGAIN: Duration = Duration::from_millis(500);
/// Addresses tried at once.
const TARGETS_MAX: usize = 16;

/// Why the controller was not reached.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// No address, or none that resolves.
    #[error("no address of the controller can be found: {0}")]
    Addresses(String),
    /// It is not the cluster that was meant.
    #[error("at {0} answers another cluster, or somebody who pretends to be this one")]
    Stranger(SocketAddr),
    /// Nobody answers.
    #[error("nobody answers at {tried}: {why}")]
    Silent {
        /// What was tried.
        tried: String,
        /// The last that went wrong.
        why: String,
    },
    /// TLS or a socket of our own.
    #[error("cannot connect: {0}")]
    Local(String),
}

/// What is shown, and who is trusted.
#[derive(Debug, Clone)]
pub struct Credentials(Arc<ClientConfig>);

impl Credentials {
    /// From a chain with its key, and whom to trust.
    ///
    /// # Errors
    /// A key that does not fit.
    pub fn new(pair: identity::Pair, trust: Trust) -> Result<Self, DialError> {
        tls::client(pair, trust)
            .map(|config| Credentials(Arc::new(config)))
            .map_err(|error| DialError::Local(error.to_string()))
    }

    /// A member's.
    ///
    /// # Errors
    /// A key that does not fit.
    pub fn of(member: &identity::Member) -> Result<Self, DialError> {
        let trust = Trust::Authority(member.authority().clone());
        Credentials::new(member.pair(), trust)
    }
}

/// A way to the controller over which streams can be opened.
#[derive(Debug)]
pub struct Route {
    address: SocketAddr,
    way: Way,
}

#[derive(Debug)]
enum Way {
    Quic {
        connection: quinn::Connection,
        endpoint: Endpoint,
        credentials: Credentials,
    },
    Tcp(Credentials),
}

impl Drop for Route {
    fn drop(&mut self) {
        if let Way::Quic { connection, .. } = &self.way {
            connection.close(VarInt::from_u32(0), b"done");
        }
    }
}

impl Route {
    /// Over what.
    #[must_use]
    pub fn path(&self) -> Path {
        match self.way {
            Way::Quic { .. } => Path::Quic,
            Way::Tcp(_) => Path::Tcp,
        }
    }

    /// To where.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Opens a stream. Over QUIC the other side hears of it with the first byte.
    ///
    /// # Errors
    /// When the way is gone.
    pub async fn open(&self) -> io::Result<Box<dyn Stream>> {
        match &self.way {
            Way::Quic { connection, .. } => {
                let (send, receive) = connection.open_bi().await.map_err(io::Error::other)?;
                Ok(Box::new(tokio::io::join(receive, send)))
            }
            Way::Tcp(credentials) => Ok(Box::new(
                tls_over_tcp(credentials, self.address)
                    .await
                    .map_err(io::Error::other)?,
            )),
        }
    }

    /// Ties the two ends together: returns once the process at the other end is gone, which its kernel tells us at once
    /// over TCP, where QUIC alone would have to wait in vain for a while. Where TCP does not get through it never
    /// returns. The other end notices our end the same way.
    pub async fn tethered(&self) {
        let Way::Quic {
            connection,
            credentials,
            ..
        } = &self.way
        else {
            return std::future::pending().await;
        };
        let mut label = [0; 32];
        if connection
            .export_keying_material(&mut label, TETHER_LABEL, b"")
            .is_err()
        {
            return std::future::pending().await;
        }
        let mut words = encode(&Hello::new(Role::Tether));
        words.extend(encode(&Tether { label }));
        let tied = async || {
            let mut stream = tls_over_tcp(credentials, self.address).await.ok()?;
            stream.write_all(&words).await.ok()?;
            stream.flush().await.ok()?;
            Some(stream)
        };
        // Refused where it gets through, the process is gone already. The one after it says so.
        let again = async {
            loop {
                if let Ok(Some(stream)) = tokio::time::timeout(TETHER_MAX, tied()).await {
                    return stream;
                }
                tokio::time::sleep(TETHER_AGAIN).await;
            }
        };
        let Ok(mut stream) = tokio::time::timeout(server::IDLE_MAX, again).await else {
            return std::future::pending().await;
        };
        let mut bytes = [0; 1024];
        let mut heard = 0;
        loop {
            match stream.read(&mut bytes).await {
                Ok(count) if count > 0 => heard += count,
                // Never welcome there: an end that says nothing about the other process.
                _ if heard == 0 => return std::future::pending().await,
                _ => return,
            }
        }
    }

    /// Says good-bye and waits, a little, until it is heard.
    pub async fn close(self) {
        if let Way::Quic {
            connection,
            endpoint,
            ..
        } = &self.way
        {
            connection.close(VarInt::from_u32(0), b"done");
            let _ = tokio::time::timeout(Duration::from_millis(300), endpoint.wait_idle()).await;
        }
    }
}

fn socket_for(address: SocketAddr) -> io::Result<Endpoint> {
    let any: IpAddr = match address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let udp = UdpSocket::bind((any, 0))?;
    Endpoint::new(EndpointConfig::default(), None, udp, Arc::new(TokioRuntime))
}

async fn quic(credentials: Credentials, address: SocketAddr) -> Result<Route, Failed> {
    let crypto = QuicClientConfig::try_from(Arc::clone(&credentials.0)).map_err(Failed::other)?;
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    config.transport_config(Arc::new(server::transport()));
    let endpoint = socket_for(address).map_err(Failed::other)?;
    let connecting = endpoint
        .connect_with(config, address, identity::CONTROLLER_NAME)
        .map_err(Failed::other)?;
    match connecting.await {
        Ok(connection) => Ok(Route {
            address,
            way: Way::Quic {
                connection,
                endpoint,
                credentials,
            },
        }),
        Err(quinn::ConnectionError::TransportError(error)) => {
            Err(Failed::of(error.to_string(), is_certificate(&error.reason)))
        }
        Err(error) => Err(Failed::other(error)),
    }
}

async fn tls_over_tcp(
    credentials: &Credentials,
    address: SocketAddr,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, Failed> {
    let stream = TcpStream::connect(address).await.map_err(Failed::other)?;
    super::prepare_tcp(&stream);
    let name = ServerName::try_from(identity::CONTROLLER_NAME).map_err(Failed::other)?;
    TlsConnector::from(Arc::clone(&credentials.0))
        .connect(name, stream)
        .await
        .map_err(|error| Failed::of(error.to_string(), is_certificate(&error.to_string())))
}

/// Whether a handshake failed because the other side is not who it should be.
fn is_certificate(reason: &str) -> bool {
    reason.contains("invalid peer certificate")
}

/// Why one attempt failed.
#[derive(Debug)]
struct Failed {
    why: String,
    stranger: bool,
}

impl Failed {
    fn of(why: String, stranger: bool) -> Self {
        Failed { why, stranger }
    }

    fn other(error: impl std::fmt::Display) -> Self {
        Failed::of(error.to_string(), false)
    }
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.why)
    }
}

impl std::error::Error for Failed {}

async fn resolve(addresses: &[String]) -> Result<Vec<SocketAddr>, DialError> {
    let mut found: Vec<SocketAddr> = Vec::new();
    let mut why = "none was given".to_owned();
    for text in addresses {
        let (host, port) = match parse_address(text) {
            Ok(parsed) => parsed,
            Err(error) => {
                why = error.to_string();
                continue;
            }
        };
        let looked = tokio::time::timeout(
            Duration::from_secs(5),
            tokio::net::lookup_host((host.as_str(), port)),
        )
        .await;
        match looked {
            Ok(Ok(addresses)) => {
                for address in addresses {
                    if !found.contains(&address) && found.len() < TARGETS_MAX {
                        found.push(address);
                    }
                }
            }
            Ok(Err(error)) => why = format!("{host}: {error}"),
            Err(_) => why = format!("{host}: the name service does not answer"),
        }
    }
    if found.is_empty() {
        return Err(DialError::Addresses(why));
    }
    Ok(found)
}

/// Finds a way: QUIC to all addresses at once, a little later TCP beside it; what answers first serves, QUIC before TCP.
///
/// # Errors
/// When nobody answers, or somebody else.
pub async fn dial(credentials: &Credentials, addresses: &[String]) -> Result<Route, DialError> {
    let targets = resolve(addresses).await?;
    let mut attempts: JoinSet<Result<Route, (SocketAddr, Failed)>> = JoinSet::new();
    for target in targets.iter().copied() {
        let shown = credentials.clone();
        attempts.spawn(async move { quic(shown, target).await.map_err(|why| (target, why)) });
        let shown = credentials.clone();
        attempts.spawn(async move {
            tokio::time::sleep(HEAD_START).await;
            // This stream only shows that the way is open.
            tls_over_tcp(&shown, target)
                .await
                .map_err(|why| (target, why))?;
            Ok(Route {
                address: target,
                way: Way::Tcp(shown),
            })
        });
    }
    let mut until = Instant::now() + DIAL_MAX;
    let mut second_best = None;
    let mut stranger = None;
    let mut why = "no answer in time".to_owned();
    while let Ok(Some(attempt)) = tokio::time::timeout_at(until, attempts.join_next()).await {
        match attempt {
            Ok(Ok(route)) if route.path() == Path::Quic => return Ok(route),
            Ok(Ok(route)) => {
                until = until.min(Instant::now() + LAST_CHANCE);
                second_best.get_or_insert(route);
            }
            Ok(Err((at, failed))) if failed.stranger => _ = stranger.get_or_insert(at),
            Ok(Err((_, failed))) => why = failed.why,
            Err(_) => {}
        }
    }
    match (second_best, stranger) {
        (Some(route), _) => Ok(route),
        (None, Some(at)) => Err(DialError::Stranger(at)),
        (None, None) => Err(DialError::Silent {
            tried: addresses.join(", "),
            why,
        }),
    }
}
