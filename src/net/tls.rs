//! TLS settings: certificates on both sides, always, and no clock but the controller's.
//!
//! The controller takes any certificate whose holder shows the key: whether the authority has signed it is noted, not
//! demanded, because a newcomer has nothing but a key yet. Whoever is not vouched for may join and nothing else
//! (`controller/` sees to that). A member demands the authority's signature on the controller's certificate; a newcomer
//! demands an authority with the fingerprint of its invitation.
//!
//! All judge the validity of a certificate at a moment within it: machines of a lab have clocks that are days off, and
//! expiry is told by the controller (see `decisions` in ARCHITECTURE.md).

use super::identity::{CONTROLLER_NAME, Pair};
use crate::model::join_line::Fingerprint;
use crate::model::time::Timestamp;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    ServerConfig, SignatureScheme,
};
use std::sync::Arc;
use std::time::Duration;
use x509_parser::prelude::{FromDer, X509Certificate};

/// The protocol's name within TLS.
pub const ALPN: &[u8] = b"hpc";

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn roots(authority: &CertificateDer<'static>) -> Result<Arc<RootCertStore>, Error> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone())?;
    Ok(Arc::new(roots))
}

/// The public key of a certificate, as SubjectPublicKeyInfo in DER, and when it expires.
#[must_use]
pub fn parts_of(certificate: &[u8]) -> Option<(Vec<u8>, Timestamp)> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let expires = parsed.validity().not_after.timestamp();
    Some((
        parsed.public_key().raw.to_vec(),
        Timestamp(expires.saturating_mul(1000)),
    ))
}

/// A moment at which the certificate is valid, whatever the clock says.
fn within(certificate: &CertificateDer<'_>) -> Result<UnixTime, Error> {
    let bad = || Error::InvalidCertificate(CertificateError::BadEncoding);
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| bad())?;
    let start = u64::try_from(parsed.validity().not_before.timestamp()).map_err(|_| bad())?;
    Ok(UnixTime::since_unix_epoch(Duration::from_secs(start)))
}

/// Whether the authority has signed a member's certificate.
#[derive(Debug)]
pub struct Vouching(Arc<dyn ClientCertVerifier>);

impl Vouching {
    /// By this authority.
    ///
    /// # Errors
    /// When its certificate is none.
    pub fn new(authority: &CertificateDer<'static>) -> Result<Self, Error> {
        WebPkiClientVerifier::builder_with_provider(roots(authority)?, provider())
            .build()
            .map(Vouching)
            .map_err(|error| Error::General(error.to_string()))
    }

    /// Does it?
    #[must_use]
    pub fn vouches(&self, certificate: &CertificateDer<'_>) -> bool {
        within(certificate)
            .and_then(|now| self.0.verify_client_cert(certificate, &[], now))
            .is_ok()
    }
}

/// Takes every certificate whose key its holder shows.
#[derive(Debug)]
struct AnyKey {
    schemes: Vec<SignatureScheme>,
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for AnyKey {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        parts_of(end_entity)
            .map(|_| ClientCertVerified::assertion())
            .ok_or(Error::InvalidCertificate(CertificateError::BadEncoding))
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.3 only".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.clone()
    }
}

/// For the controller.
///
/// # Errors
/// When the key does not fit its certificate.
pub fn server((chain, key): Pair) -> Result<ServerConfig, Error> {
    let provider = provider();
    let verifier = AnyKey {
        schemes: provider
            .signature_verification_algorithms
            .supported_schemes(),
        provider: provider.clone(),
    };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    // Every connection shows its key anew: a revoked one must not come back by a ticket.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    Ok(config)
}

/// Whom a client trusts.
#[derive(Debug, Clone)]
pub enum Trust {
    /// This authority.
    Authority(CertificateDer<'static>),
    /// The authority with this fingerprint, which the controller will show.
    Fingerprint(Fingerprint),
}

#[derive(Debug)]
struct Controller {
    trust: Trust,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Controller {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let authority = match &self.trust {
            Trust::Authority(authority) => authority.clone(),
            Trust::Fingerprint(wanted) => intermediates
                .iter()
                .find(|shown| Fingerprint::of(shown) == *wanted)
                .ok_or(Error::InvalidCertificate(CertificateError::UnknownIssuer))?
                .clone()
                .into_owned(),
        };
        let verifier =
            WebPkiServerVerifier::builder_with_provider(roots(&authority)?, self.provider.clone())
                .build()
                .map_err(|error| Error::General(error.to_string()))?;
        let name = ServerName::try_from(CONTROLLER_NAME)
            .map_err(|error| Error::General(error.to_string()))?;
        verifier.verify_server_cert(end_entity, &[], &name, ocsp_response, within(end_entity)?)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.3 only".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// For a member or a newcomer.
///
/// # Errors
/// When the key does not fit its certificate.
pub fn client((chain, key): Pair, trust: Trust) -> Result<ClientConfig, Error> {
    let provider = provider();
    let verifier = Controller {
        trust,
        provider: provider.clone(),
    };
    let signer = provider.key_provider.load_private_key(key)?;
    let certified = rustls::sign::CertifiedKey::new(chain, signer);
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_cert_resolver(Arc::new(Always(Arc::new(certified))));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

/// Shows the one certificate there is, whatever issuers the other side hints at.
#[derive(Debug)]
struct Always(Arc<rustls::sign::CertifiedKey>);

impl ResolvesClientCert for Always {
    fn resolve(
        &self,
        _root_hint_subjects: &[&[u8]],
        _sigschemes: &[SignatureScheme],
    ) -> Option<Arc<rustls::sign::CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}
