//! Keys and certificates: the cluster's authority on the controller, a member's own on every other machine.
//!
//! ```text
//!   STATE/pki/authority.key, authority.crt     the controller: signs every certificate of this cluster
//!             jobs.key                         the controller: proves the credentials that jobs hold
//!             node.key, node.json              a machine that has joined
//!             user.key, user.json              a person who has logged in
//! ```
//! Keys are 0600 in a directory of 0700 and never leave their machine. The controller's own TLS key is drawn anew at
//! every start: members trust the authority.

use crate::model::identity::{Identity, KeyId};
use crate::model::join_line::Fingerprint;
use crate::model::time::Timestamp;
use crate::sys::files;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SubjectPublicKeyInfo,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use time::OffsetDateTime;

/// The name in the controller's certificate. Who answers at an address is told by the authority, not by DNS.
pub const CONTROLLER_NAME: &str = "controller.hpc.internal";
/// Years that an authority lasts; nobody but the controller would say that it has expired.
const AUTHORITY_DAYS: i64 = 36_500;
const DAY_MS: i64 = 86_400_000;

/// Why keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file.
    #[error("cannot {doing} {path}")]
    File {
        /// What was being done.
        doing: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The directory of keys is not private, or cannot be made.
    #[error("cannot keep keys here")]
    Directory(#[source] files::FilesError),
    /// A key or certificate that is none.
    #[error("{path} is damaged: {detail}")]
    Damaged {
        /// Which.
        path: PathBuf,
        /// How.
        detail: String,
    },
    /// A certificate could not be made.
    #[error("cannot make a certificate: {0}")]
    Certificate(String),
}

fn certificate_error(error: rcgen::Error) -> IdentityError {
    IdentityError::Certificate(error.to_string())
}

/// Where a state directory has its keys, for its owner alone.
#[must_use]
pub fn private_place(state_dir: &Path) -> PathBuf {
    state_dir.join("pki")
}

/// `STATE/pki`, made private.
///
/// # Errors
/// When it cannot be.
pub fn directory(state_dir: &Path) -> Result<PathBuf, IdentityError> {
    let directory = private_place(state_dir);
    files::private_dir(&directory, 0o700).map_err(IdentityError::Directory)?;
    Ok(directory)
}

/// Writes a file that only its owner can read, whole or not at all.
fn write_private(path: &Path, bytes: &[u8]) -> Result<(), IdentityError> {
    let failed = |doing| {
        move |source| IdentityError::File {
            doing,
            path: path.to_owned(),
            source,
        }
    };
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    let _ = fs::remove_file(&new);
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&new)
        .map_err(failed("make"))?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .map_err(failed("write"))?;
    fs::rename(&new, path).map_err(failed("write"))
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, IdentityError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(IdentityError::File {
            doing: "read",
            path: path.to_owned(),
            source,
        }),
    }
}

/// Random bytes from the kernel.
///
/// # Errors
/// When the kernel has none.
pub fn random<const N: usize>() -> Result<[u8; N], IdentityError> {
    let path = Path::new("/dev/urandom");
    let mut bytes = [0; N];
    fs::File::open(path)
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(|source| IdentityError::File {
            doing: "read",
            path: path.to_owned(),
            source,
        })?;
    Ok(bytes)
}

fn moment(at: Timestamp) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(at.0.div_euclid(1000)).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

/// A key of this machine's.
pub fn parse_key(path: &Path, text: &[u8]) -> Result<KeyPair, IdentityError> {
    let damaged = |detail: String| IdentityError::Damaged {
        path: path.to_owned(),
        detail,
    };
    let text = std::str::from_utf8(text).map_err(|error| damaged(error.to_string()))?;
    KeyPair::from_pem(text).map_err(|error| damaged(error.to_string()))
}

fn private(key: &KeyPair) -> PrivateKeyDer<'static> {
    PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()))
}

/// A chain and the key of its first certificate, as TLS wants them.
pub type Pair = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// The cluster's own authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    jobs_key: [u8; 32],
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authority(..)")
    }
}

impl Authority {
    /// Opens the authority of a state directory; makes it at the first start.
    ///
    /// # Errors
    /// When files cannot be read or written, or are damaged. A damaged authority is never replaced: members trust it.
    pub fn open(state_dir: &Path, cluster: &str, now: Timestamp) -> Result<Self, IdentityError> {
        let directory = directory(state_dir)?;
        let (key_path, path) = (
            directory.join("authority.key"),
            directory.join("authority.crt"),
        );
        let (key, certificate) = match (read(&key_path)?, read(&path)?) {
            (Some(key), Some(certificate)) => {
                let damaged = |error: pem::PemError| IdentityError::Damaged {
                    path: path.clone(),
                    detail: error.to_string(),
                };
                let certificate = pem::parse(&certificate).map_err(damaged)?;
                (
                    parse_key(&key_path, &key)?,
                    CertificateDer::from(certificate.into_contents()),
                )
            }
            (None, Some(_)) => {
                return Err(IdentityError::Damaged {
                    path: key_path,
                    detail: "it is missing, and its certificate is there".to_owned(),
                });
            }
            // A key without a certificate: nobody has trusted it yet.
            (key, None) => {
                let key = match key {
                    Some(text) => parse_key(&key_path, &text)?,
                    None => {
                        let key = KeyPair::generate().map_err(certificate_error)?;
                        write_private(&key_path, key.serialize_pem().as_bytes())?;
                        key
                    }
                };
                let made = authority_params(cluster, now)
                    .self_signed(&key)
                    .map_err(certificate_error)?;
                write_private(&path, made.pem().as_bytes())?;
                (key, made.der().clone())
            }
        };
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(|error| {
            IdentityError::Damaged {
                path,
                detail: error.to_string(),
            }
        })?;
        Ok(Authority {
            issuer,
            certificate,
            jobs_key: jobs_key(&directory)?,
        })
    }

    /// Its certificate, in DER.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// What an invitation says of it.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.certificate)
    }

    /// The key behind the credentials of jobs.
    #[must_use]
    pub fn jobs_key(&self) -> &[u8; 32] {
        &self.jobs_key
    }

    /// A fresh key for the controller, and its certificate.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn controller(&self, now: Timestamp) -> Result<Pair, IdentityError> {
        let key = KeyPair::generate().map_err(certificate_error)?;
        let mut params =
            CertificateParams::new(vec![CONTROLLER_NAME.to_owned()]).map_err(certificate_error)?;
        params
            .distinguished_name
            .push(DnType::CommonName, "hpc controller");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let until = now.plus_ms(AUTHORITY_DAYS * DAY_MS);
        (params.not_before, params.not_after) = (moment(now), moment(until));
        let made = params
            .signed_by(&key, &self.issuer)
            .map_err(certificate_error)?;
        Ok((
            vec![made.der().clone(), self.certificate.clone()],
            private(&key),
        ))
    }

    /// A certificate for a member's key, in DER.
    ///
    /// # Errors
    /// When the key is none, or nothing can be signed.
    pub fn issue(
        &self,
        public_key: &[u8],
        identity: &Identity,
        now: Timestamp,
        expires: Timestamp,
    ) -> Result<Vec<u8>, IdentityError> {
        let key = SubjectPublicKeyInfo::from_der(public_key).map_err(certificate_error)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        // For people who look at it; what counts is the key, looked up each time.
        params
            .distinguished_name
            .push(DnType::CommonName, identity.to_string());
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        (params.not_before, params.not_after) = (moment(now), moment(expires));
        let made = params
            .signed_by(&key, &self.issuer)
            .map_err(certificate_error)?;
        Ok(made.der().to_vec())
    }
}

fn authority_params(cluster: &str, now: Timestamp) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, format!("hpc authority of {cluster}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let until = now.plus_ms(AUTHORITY_DAYS * DAY_MS);
    (params.not_before, params.not_after) = (moment(now), moment(until));
    params
}

fn jobs_key(directory: &Path) -> Result<[u8; 32], IdentityError> {
    let path = directory.join("jobs.key");
    match read(&path)? {
        Some(bytes) => bytes.try_into().map_err(|_| IdentityError::Damaged {
            path,
            detail: "it should have 32 bytes; without it jobs that run cannot submit".to_owned(),
        }),
        None => {
            let key = random()?;
            write_private(&path, &key)?;
            Ok(key)
        }
    }
}

/// The name of a public key, from a certificate's SubjectPublicKeyInfo.
#[must_use]
pub fn key_id(public_key: &[u8]) -> KeyId {
    KeyId(Sha256::digest(public_key).into())
}

/// As what a state directory is a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A machine.
    Node,
    /// A person.
    User,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Kind::Node => "node",
            Kind::User => "user",
        }
    }
}

/// What a member keeps besides its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The cluster's name.
    pub cluster: String,
    /// As what it is known.
    pub identity: Identity,
    /// Where the controller was or may be reached.
    pub addresses: Vec<String>,
    /// Its certificate, PEM.
    pub certificate: String,
    /// The authority's, PEM.
    pub authority: String,
    /// How long the certificate is good, and for how long it was when it was received; milliseconds. Counted by this
    /// machine's own clock from `received`.
    pub good_for_ms: i64,
    /// This machine's clock when it was received.
    pub received: Timestamp,
}

/// A member: its key and what it keeps.
pub struct Member {
    /// What it keeps.
    pub kept: Kept,
    key: KeyPair,
    authority: CertificateDer<'static>,
    certificate: CertificateDer<'static>,
}

impl std::fmt::Debug for Member {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Member")
            .field("identity", &self.kept.identity)
            .finish_non_exhaustive()
    }
}

impl Member {
    /// The member that a state directory is; `None` when it has not joined.
    ///
    /// # Errors
    /// When files cannot be read, or are damaged.
    pub fn open(state_dir: &Path, kind: Kind) -> Result<Option<Self>, IdentityError> {
        let directory = private_place(state_dir);
        let path = directory.join(format!("{}.json", kind.word()));
        let Some(text) = read(&path)? else {
            return Ok(None);
        };
        let kept: Kept = serde_json::from_slice(&text).map_err(|error| IdentityError::Damaged {
            path: path.clone(),
            detail: error.to_string(),
        })?;
        let key_path = directory.join(format!("{}.key", kind.word()));
        let Some(text) = read(&key_path)? else {
            return Err(IdentityError::Damaged {
                path: key_path,
                detail: "it is missing; join again with a new invitation".to_owned(),
            });
        };
        let key = parse_key(&key_path, &text)?;
        Member::new(kept, key, &path).map(Some)
    }

    /// From what was received.
    ///
    /// # Errors
    /// Certificates that are none.
    pub fn new(kept: Kept, key: KeyPair, path: &Path) -> Result<Self, IdentityError> {
        let parse = |text: &str| {
            pem::parse(text)
                .map(|found| CertificateDer::from(found.into_contents()))
                .map_err(|error| IdentityError::Damaged {
                    path: path.to_owned(),
                    detail: error.to_string(),
                })
        };
        Ok(Member {
            certificate: parse(&kept.certificate)?,
            authority: parse(&kept.authority)?,
            key,
            kept,
        })
    }

    /// Keeps it in a state directory, the key first.
    ///
    /// # Errors
    /// When files cannot be written.
    pub fn save(&self, state_dir: &Path, kind: Kind) -> Result<(), IdentityError> {
        let directory = directory(state_dir)?;
        let key = directory.join(format!("{}.key", kind.word()));
        write_private(&key, self.key.serialize_pem().as_bytes())?;
        Member::keep_renewed(state_dir, kind, &self.kept)
    }

    /// Keeps a certificate that was made anew; the key stays.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn keep_renewed(state_dir: &Path, kind: Kind, kept: &Kept) -> Result<(), IdentityError> {
        let path = directory(state_dir)?.join(format!("{}.json", kind.word()));
        let text = serde_json::to_vec_pretty(kept)
            .map_err(|error| IdentityError::Certificate(error.to_string()))?;
        write_private(&path, &text)
    }

    /// Its chain and key, as TLS wants them.
    #[must_use]
    pub fn pair(&self) -> Pair {
        (vec![self.certificate.clone()], private(&self.key))
    }

    /// Whom it trusts.
    #[must_use]
    pub fn authority(&self) -> &CertificateDer<'static> {
        &self.authority
    }

    /// Its key.
    #[must_use]
    pub fn key(&self) -> &KeyPair {
        &self.key
    }
}

/// A fresh key for a newcomer.
///
/// # Errors
/// When none can be made.
pub fn new_key() -> Result<KeyPair, IdentityError> {
    KeyPair::generate().map_err(certificate_error)
}

/// A key with a certificate that says nothing but whose it is not yet: what a newcomer shows.
///
/// # Errors
/// When it cannot be signed.
pub fn unvouched(key: &KeyPair) -> Result<Pair, IdentityError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, "hpc newcomer");
    let made = params.self_signed(key).map_err(certificate_error)?;
    Ok((vec![made.der().clone()], private(key)))
}

/// A certificate as text.
#[must_use]
pub fn to_pem(certificate: &[u8]) -> String {
    pem::encode(&pem::Pem::new("CERTIFICATE", certificate))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    #[test]
    fn an_authority_is_made_once_and_its_keys_are_private() {
        let dir = tempfile::tempdir().unwrap();
        let first = Authority::open(dir.path(), "lab", NOW).unwrap();
        let again = Authority::open(dir.path(), "other", NOW).unwrap();
        assert_eq!(first.certificate(), again.certificate());
        assert_eq!(first.jobs_key(), again.jobs_key());
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(&dir.path().join("pki")), 0o700);
        for name in ["authority.key", "jobs.key"] {
            assert_eq!(mode(&dir.path().join("pki").join(name)), 0o600, "{name}");
        }
    }

    #[test]
    fn a_damaged_authority_is_said_and_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        Authority::open(dir.path(), "lab", NOW).unwrap();
        let key = dir.path().join("pki/authority.key");
        fs::write(&key, "garbage").unwrap();
        let error = Authority::open(dir.path(), "lab", NOW).unwrap_err();
        assert!(
            error.to_string().contains("authority.key is damaged"),
            "{error}"
        );
        fs::remove_file(&key).unwrap();
        let error = Authority::open(dir.path(), "lab", NOW).unwrap_err();
        assert!(error.to_string().contains("missing"), "{error}");
    }

    #[test]
    fn a_member_is_kept_and_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::open(dir.path(), "lab", NOW).unwrap();
        assert!(Member::open(dir.path(), Kind::Node).unwrap().is_none());
        let key = new_key().unwrap();
        let identity = Identity::Node("ws1".to_owned());
        let public = rcgen::PublicKeyData::subject_public_key_info(&key);
        let certificate = authority
            .issue(&public, &identity, NOW, NOW.plus_ms(DAY_MS))
            .unwrap();
        let kept = Kept {
            cluster: "lab".to_owned(),
            identity,
            addresses: vec!["10.0.0.5:7420".to_owned()],
            certificate: to_pem(&certificate),
            authority: to_pem(authority.certificate()),
            good_for_ms: DAY_MS,
            received: NOW,
        };
        let member = Member::new(kept, key, dir.path()).unwrap();
        member.save(dir.path(), Kind::Node).unwrap();
        let found = Member::open(dir.path(), Kind::Node).unwrap().unwrap();
        assert_eq!(found.kept, member.kept);
        assert_eq!(found.authority(), authority.certificate());
        let mode = fs::metadata(dir.path().join("pki/node.key"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o7777, 0o600);
    }
}
