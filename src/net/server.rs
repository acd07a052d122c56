//! The controller's ear: one port, QUIC on UDP and TLS on TCP, every stream with the key at its other end.
//!
//! Connections are bounded in number, a stranger's in streams and time too: until the controller says that it knows a
//! key ([`Peer::trust`]), its connection carries one stream.

use super::identity::{Authority, IdentityError, key_id};
use super::stock::{Share, Stock};
use super::tls::{self, Vouching};
use super::{Path, Stream, TETHER_LABEL};
use crate::model::identity::KeyId;
use crate::model::time::Timestamp;
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Endpoint, EndpointConfig, TokioRuntime, TransportConfig, VarInt};
use rustls::pki_types::CertificateDer;
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio_rustls::TlsAcceptor;

/// Connections at once, of each kind.
const CONNECTIONS_MAX: usize = 4096;
/// More than so many unfinished handshakes, and newcomers must show that their address is theirs.
const HANDSHAKES_CALM: usize = 64;
/// A handshake must be over by then.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// Strangers at once, by either way: whoever has not been told yet that they are known. Nobody, by their address, may be
/// more of them than are left for all others.
const STRANGERS_MAX: usize = 256;
/// Connections of one key at once.
const OF_KEY_MAX: usize = 256;
/// Bytes of one stream on their way to us, and of a connection.
const STREAM_WINDOW: u32 = 2 * 1024 * 1024;
const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;
/// The more connections a key has, the fewer bytes may be on their way to us over each further one; but no fewer than these.
const CONNECTION_WINDOW_LEAST: u32 = 128 * 1024;
/// Arrivals that may wait for the controller.
const ARRIVALS: usize = 1024;
/// QUIC's own look at whether the other side is there; the controller's heartbeat is stricter.
pub(super) const IDLE_MAX: Duration = Duration::from_secs(30);
/// So that a quiet connection stays known to whatever lies between.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Said to a connection that is cut.
const CUT: VarInt = VarInt::from_u32(1);

/// Who is at the other end.
#[derive(Debug)]
pub struct Peer {
    /// The key that it has shown.
    pub key: KeyId,
    /// The same, to be certified: SubjectPublicKeyInfo in DER.
    pub public_key: Vec<u8>,
    /// When the certificate expires that our authority has signed for this key; `None` = it has not.
    pub vouched_until: Option<Timestamp>,
    /// Where it is.
    pub address: SocketAddr,
    /// How it came.
    pub path: Path,
    cut: watch::Sender<bool>,
    quic: Option<quinn::Connection>,
    /// By which both ends recognise a QUIC connection.
    label: Option<[u8; 32]>,
    /// The controller knows it.
    trusted: AtomicBool,
    /// As long as it is a stranger it has one of their few places.
    place: Mutex<Option<Share<IpAddr>>>,
}

impl Peer {
    /// It is known: it may open so many streams, and takes no stranger's place any more.
    pub fn trust(&self, streams: u32) {
        self.trusted.store(true, Ordering::Relaxed);
        drop(
            self.place
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
        if let Some(quic) = &self.quic {
            quic.set_max_concurrent_bi_streams(VarInt::from_u32(streams));
        }
    }

    /// Returns once it is to be heard no more.
    pub async fn until_cut(&self) {
        let mut cut = self.cut.subscribe();
        // The sender lives as long as we do.
        let _ = cut.wait_for(|cut| *cut).await;
    }

    fn cut(&self, why: &str) {
        self.cut.send_replace(true);
        if let Some(quic) = &self.quic {
            quic.close(CUT, why.as_bytes());
        }
    }

    /// Returns once its QUIC connection is over, for whatever reason.
    pub async fn until_over(&self) {
        match &self.quic {
            Some(quic) => _ = quic.closed().await,
            None => self.until_cut().await,
        }
    }

    /// Its process is gone.
    pub fn gone(&self) {
        self.cut("its process is gone");
    }
}

/// A stream that somebody has opened.
pub struct Arrival {
    /// By whom.
    pub peer: Arc<Peer>,
    /// The stream.
    pub stream: Box<dyn Stream>,
}

impl std::fmt::Debug for Arrival {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Arrival({:?})", self.peer)
    }
}

/// Why there is no listening.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The keys.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// TLS does not take them.
    #[error("cannot prepare TLS")]
    Tls(#[from] rustls::Error),
    /// The port.
    #[error("cannot listen on {address}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Who is connected, by key.
#[derive(Debug, Default)]
struct Connected {
    peers: Mutex<BTreeMap<(KeyId, u64), Arc<Peer>>>,
    next: AtomicU64,
}

impl Connected {
    /// Enters it in the list; `None` when its key has connections enough.
    fn enter(self: &Arc<Self>, peer: &Arc<Peer>) -> Option<Present> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let place = (peer.key, number);
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let of_key = peers.range((peer.key, 0)..=(peer.key, u64::MAX)).count();
        if of_key >= OF_KEY_MAX {
            return None;
        }
        if let Some(quic) = &peer.quic {
            let others = u32::try_from(of_key).unwrap_or(u32::MAX);
            let window = CONNECTION_WINDOW / others.saturating_add(1);
            quic.set_receive_window(VarInt::from_u32(window.max(CONNECTION_WINDOW_LEAST)));
        }
        peers.insert(place, Arc::clone(peer));
        Some(Present {
            connected: Arc::clone(self),
            place,
        })
    }
}

/// In the list while it lives.
struct Present {
    connected: Arc<Connected>,
    place: (KeyId, u64),
}

impl Drop for Present {
    fn drop(&mut self) {
        self.connected
            .peers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.place);
    }
}

/// A TCP stream that is in the list of those connected as long as it is open.
struct Held<S> {
    stream: S,
    _present: Present,
    _place: OwnedSemaphorePermit,
}

/// The listening port.
#[derive(Debug)]
pub struct Server {
    endpoint: Endpoint,
    tcp: TcpListener,
    acceptor: TlsAcceptorConfig,
    vouching: Arc<Vouching>,
    connected: Arc<Connected>,
    address: SocketAddr,
}

#[derive(Clone)]
struct TlsAcceptorConfig(Arc<rustls::ServerConfig>);

impl std::fmt::Debug for TlsAcceptorConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TlsAcceptorConfig")
    }
}

/// Cuts connections; may be kept apart from the server.
#[derive(Debug, Clone, Default)]
pub struct Cutter(Arc<Connected>);

impl Cutter {
    /// The connection of this key that a tether belongs to.
    #[must_use]
    pub fn tethered(&self, key: KeyId, label: &[u8; 32]) -> Option<Arc<Peer>> {
        let peers = self.0.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let mut of_key = peers.range((key, 0)..=(key, u64::MAX));
        of_key
            .find(|(_, peer)| peer.label.as_ref() == Some(label))
            .map(|(_, peer)| Arc::clone(peer))
    }

    /// Ends all connections of this key.
    pub fn cut(&self, key: KeyId) {
        let peers: Vec<Arc<Peer>> = {
            let peers = self.0.peers.lock().unwrap_or_else(PoisonError::into_inner);
            let of_key = peers.range((key, 0)..=(key, u64::MAX));
            of_key.map(|(_, peer)| Arc::clone(peer)).collect()
        };
        for peer in peers {
            peer.cut("this key is not known any more");
        }
    }
}

/// What both ends of a QUIC connection agree to do.
pub(super) fn transport() -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .max_idle_timeout(IDLE_MAX.try_into().ok())
        .keep_alive_interval(Some(KEEP_ALIVE))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW))
        .send_window(u64::from(CONNECTION_WINDOW))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None);
    transport
}

impl Server {
    /// Listens on UDP and TCP alike. With port 0 a port is found that both have free. Within a runtime.
    ///
    /// # Errors
    /// When keys or port cannot be had.
    pub fn bind(
        address: SocketAddr,
        authority: &Authority,
        now: Timestamp,
    ) -> Result<Self, ServerError> {
        let tls = Arc::new(tls::server(authority.controller(now)?)?);
        let (udp, tcp) =
            bind_both(address).map_err(|source| ServerError::Listen { address, source })?;
        let listen = |source| ServerError::Listen { address, source };
        let bound = udp.local_addr().map_err(listen)?;
        let quic = QuicServerConfig::try_from(Arc::clone(&tls))
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        let mut config = quinn::ServerConfig::with_crypto(Arc::new(quic));
        let mut transport = transport();
        // One until it is known, and few bytes until we have seen how many connections its key has.
        transport
            .max_concurrent_bidi_streams(VarInt::from_u32(1))
            .receive_window(VarInt::from_u32(CONNECTION_WINDOW_LEAST));
        config
            .transport_config(Arc::new(transport))
            .max_incoming(CONNECTIONS_MAX)
            .migration(true);
        let endpoint = Endpoint::new(
            EndpointConfig::default(),
            Some(config),
            udp,
            Arc::new(TokioRuntime),
        )
        .map_err(listen)?;
        Ok(Server {
            endpoint,
            tcp,
            acceptor: TlsAcceptorConfig(tls),
            vouching: Arc::new(Vouching::new(authority.certificate())?),
            connected: Arc::default(),
            address: bound,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What ends connections.
    #[must_use]
    pub fn cutter(&self) -> Cutter {
        Cutter(Arc::clone(&self.connected))
    }

    /// Listens until the runtime ends; streams come over the channel.
    #[must_use]
    pub fn start(self) -> mpsc::Receiver<Arrival> {
        let (sender, arrivals) = mpsc::channel(ARRIVALS);
        let Server {
            endpoint,
            tcp,
            acceptor,
            vouching,
            connected,
            ..
        } = self;
        let ear = Ear {
            arrivals: sender,
            vouching,
            connected,
            strangers: Stock::new("unknown connections", STRANGERS_MAX),
        };
        tokio::spawn(accept_quic(endpoint, ear.clone()));
        tokio::spawn(accept_tcp(tcp, acceptor, ear));
        arrivals
    }
}

/// Both sockets on one port.
fn bind_both(address: SocketAddr) -> io::Result<(UdpSocket, TcpListener)> {
    let mut last = io::Error::other("no port");
    // With a given port the first attempt decides.
    let attempts = if address.port() == 0 { 64 } else { 1 };
    for _ in 0..attempts {
        let tcp = match TcpListener::bind(address) {
            Ok(tcp) => tcp,
            Err(error) => {
                last = error;
                continue;
            }
        };
        let mut both = address;
        both.set_port(tcp.local_addr()?.port());
        match UdpSocket::bind(both) {
            Ok(udp) => {
                tcp.set_nonblocking(true)?;
                return Ok((udp, tcp));
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// What both ways of arriving need.
#[derive(Clone)]
struct Ear {
    arrivals: mpsc::Sender<Arrival>,
    vouching: Arc<Vouching>,
    connected: Arc<Connected>,
    strangers: Arc<Stock<IpAddr>>,
}

impl Ear {
    fn peer(
        &self,
        certificates: &[CertificateDer<'_>],
        address: SocketAddr,
        path: Path,
        quic: Option<quinn::Connection>,
        place: Share<IpAddr>,
    ) -> Option<Arc<Peer>> {
        let certificate = certificates.first()?;
        let (public_key, expires) = tls::parts_of(certificate)?;
        let mut label = [0; 32];
        let label = quic
            .as_ref()
            .and_then(|quic| {
                quic.export_keying_material(&mut label, TETHER_LABEL, b"")
                    .ok()
            })
            .map(|()| label);
        Some(Arc::new(Peer {
            key: key_id(&public_key),
            public_key,
            vouched_until: self.vouching.vouches(certificate).then_some(expires),
            address,
            path,
            cut: watch::Sender::new(false),
            quic,
            label,
            trusted: AtomicBool::new(false),
            place: Mutex::new(Some(place)),
        }))
    }
}

/// Who is counted as one before they have shown a key: an address, or all of a network in which a machine has as many
/// addresses as it likes.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = u128::from(address) & (u128::MAX << 64);
            IpAddr::V6(network.into())
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

async fn accept_quic(endpoint: Endpoint, ear: Ear) {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES_CALM));
    while let Some(incoming) = endpoint.accept().await {
        if endpoint.open_connections() > CONNECTIONS_MAX {
            incoming.refuse();
            continue;
        }
        let calm = Arc::clone(&handshakes).try_acquire_owned().ok();
        if calm.is_none() && incoming.may_retry() && !incoming.remote_address_validated() {
            // Many at once: those that made up their address will not answer.
            let _ = incoming.retry();
            continue;
        }
        let from = network_of(incoming.remote_address().ip());
        let Ok(stranger) = ear.strangers.try_take(&from, 1) else {
            incoming.refuse();
            continue;
        };
        let ear = ear.clone();
        tokio::spawn(async move {
            let Ok(connecting) = incoming.accept() else {
                return;
            };
            let Ok(Ok(connection)) = tokio::time::timeout(HANDSHAKE_MAX, connecting).await else {
                return;
            };
            drop(calm);
            serve_quic(connection, &ear, stranger).await;
        });
    }
}

async fn serve_quic(connection: quinn::Connection, ear: &Ear, stranger: Share<IpAddr>) {
    let shown = connection
        .peer_identity()
        .and_then(|identity| identity.downcast::<Vec<CertificateDer<'static>>>().ok());
    let address = connection.remote_address();
    let Some(peer) = shown.and_then(|shown| {
        ear.peer(
            &shown,
            address,
            Path::Quic,
            Some(connection.clone()),
            stranger,
        )
    }) else {
        return connection.close(CUT, b"no certificate was shown");
    };
    let Some(_present) = ear.connected.enter(&peer) else {
        return connection.close(CUT, b"this key has connections enough");
    };
    loop {
        // A stranger that says nothing at all goes too.
        let stream = match peer.trusted.load(Ordering::Relaxed) {
            true => connection.accept_bi().await.ok(),
            false => match tokio::time::timeout(HANDSHAKE_MAX, connection.accept_bi()).await {
                Ok(stream) => stream.ok(),
                // It has been heard meanwhile on the stream before, and need not open another.
                Err(_) if peer.trusted.load(Ordering::Relaxed) => continue,
                Err(_) => None,
            },
        };
        let Some((send, receive)) = stream else {
            if connection.close_reason().is_none() {
                connection.close(CUT, b"nothing was said");
            }
            return;
        };
        let arrival = Arrival {
            peer: Arc::clone(&peer),
            stream: Box::new(tokio::io::join(receive, send)),
        };
        if ear.arrivals.send(arrival).await.is_err() {
            return;
        }
    }
}

async fn accept_tcp(listener: TcpListener, acceptor: TlsAcceptorConfig, ear: Ear) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else {
        return;
    };
    let acceptor = TlsAcceptor::from(acceptor.0);
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept over TCP");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        // Whoever has too many is closed without a word: nobody has been told yet who we are.
        let Ok(stranger) = ear.strangers.try_take(&network_of(address.ip()), 1) else {
            continue;
        };
        let (ear, acceptor) = (ear.clone(), acceptor.clone());
        tokio::spawn(async move {
            super::prepare_tcp(&stream);
            let shaken = tokio::time::timeout(HANDSHAKE_MAX, acceptor.accept(stream)).await;
            let Ok(Ok(stream)) = shaken else { return };
            let shown = stream.get_ref().1.peer_certificates().unwrap_or_default();
            let Some(peer) = ear.peer(shown, address, Path::Tcp, None, stranger) else {
                return;
            };
            let Some(present) = ear.connected.enter(&peer) else {
                return;
            };
            let held = Held {
                _present: present,
                _place: place,
                stream,
            };
            let arrival = Arrival {
                peer,
                stream: Box::new(held),
            };
            let _ = ear.arrivals.send(arrival).await;
        });
    }
}

impl<S: tokio::io::AsyncRead + Unpin> tokio::io::AsyncRead for Held<S> {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: tokio::io::AsyncWrite + Unpin> tokio::io::AsyncWrite for Held<S> {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> std::task::Poll<io::Result<usize>> {
        std::pin::Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
