//! Becoming and staying a member: joining with an invitation, and certificates that do not grow old.
//!
//! A member's own clock may be days off. It renews after two thirds of the certificate's life as far as it can tell, and
//! in any case when the controller says that the certificate has expired.

use super::client::{Credentials, DialError, Route, dial};
use super::identity::{self, IdentityError, Kept, Kind, Member, to_pem};
use super::tls::Trust;
use super::{Path, Stream};
use crate::model::join_line::{ADDRESSES_MAX, JoinLine};
use crate::model::refusal::{Code, Refusal};
use crate::model::time::Timestamp;
use crate::wire::codec::{self, FRAME_MAX};
use crate::wire::hello::{Hello, HelloReply, Role};
use crate::wire::join::{JoinReply, JoinRequest, Membership};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::Path as FilePath;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

/// How long the controller may take to answer a hello or a newcomer.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Longest answer to a hello or a renewal.
const REPLY_MAX: usize = 64 * 1024;

/// Why something did not come about, apart from a refusal.
#[derive(Debug, thiserror::Error)]
pub enum MembershipError {
    /// The controller was not reached.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// Keys.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The conversation broke off.
    #[error("the controller does not answer: {0}")]
    Broken(String),
    /// The controller said no.
    #[error("{0}")]
    Refused(Refusal),
    /// This state directory belongs to another cluster.
    #[error(
        "this state directory has joined cluster {0}, which is another one: use another --state-dir"
    )]
    Other(String),
}

fn broken(error: impl std::fmt::Display) -> MembershipError {
    MembershipError::Broken(error.to_string())
}

/// The present, by this machine's clock.
fn now() -> Timestamp {
    Timestamp(i64::try_from(crate::sys::clock::wall_ms()).unwrap_or(0))
}

async fn in_time<T>(
    what: impl Future<Output = Result<T, MembershipError>>,
) -> Result<T, MembershipError> {
    tokio::time::timeout(ANSWER_MAX, what)
        .await
        .unwrap_or_else(|_| Err(broken("no answer in time")))
}

async fn write<T: Serialize>(
    stream: &mut Box<dyn Stream>,
    value: &T,
) -> Result<(), MembershipError> {
    stream
        .write_all(&codec::encode(value))
        .await
        .map_err(broken)?;
    stream.flush().await.map_err(broken)
}

/// Reads exactly one frame: what follows belongs to somebody else.
///
/// # Errors
/// When the stream ends, or says something else.
pub async fn read_one<T: DeserializeOwned>(
    stream: &mut (impl AsyncRead + Unpin),
    most: usize,
) -> Result<T, MembershipError> {
    let mut header = [0; 4];
    stream.read_exact(&mut header).await.map_err(broken)?;
    let length = codec::payload_length(header, most.min(FRAME_MAX)).map_err(broken)?;
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload).await.map_err(broken)?;
    codec::decode(&payload).map_err(broken)
}

/// Opens a stream and says hello on it: the stream and the version to speak.
///
/// # Errors
/// When it breaks, or we are not welcome.
pub async fn greet(route: &Route, role: Role) -> Result<(Box<dyn Stream>, u16), MembershipError> {
    in_time(async {
        let mut stream = route.open().await.map_err(broken)?;
        write(&mut stream, &Hello::new(role)).await?;
        match read_one(&mut stream, REPLY_MAX).await? {
            HelloReply::Welcome { version, .. } => Ok((stream, version)),
            HelloReply::Refused(refusal) => Err(MembershipError::Refused(refusal)),
        }
    })
    .await
}

/// Whether a refusal says that the certificate has expired: with a new one the next attempt goes through.
#[must_use]
pub fn is_expired(refusal: &Refusal) -> bool {
    refusal.code == Code::Conflict
}

async fn membership(stream: &mut Box<dyn Stream>) -> Result<Membership, MembershipError> {
    match in_time(read_one(stream, REPLY_MAX)).await? {
        JoinReply::Joined(membership) => Ok(*membership),
        JoinReply::Refused(refusal) => Err(MembershipError::Refused(refusal)),
    }
}

/// Has a new certificate made for a member's key, and keeps it.
///
/// # Errors
/// When the controller does not answer or says no, or nothing can be kept.
pub async fn renew(
    route: &Route,
    state_dir: &FilePath,
    old: &Kept,
    kind: Kind,
) -> Result<(), MembershipError> {
    let (mut stream, _) = greet(route, Role::Renew).await?;
    let membership = membership(&mut stream).await?;
    let kept = kept(
        membership,
        old.addresses.clone(),
        Some(old.authority.clone()),
    );
    Member::keep_renewed(state_dir, kind, &kept)?;
    Ok(())
}

/// What is kept of an answer. Where the controller was reached stays first; what it says of itself comes after.
fn kept(membership: Membership, mut addresses: Vec<String>, authority: Option<String>) -> Kept {
    for address in membership.addresses {
        if !addresses.contains(&address) && addresses.len() < ADDRESSES_MAX {
            addresses.push(address);
        }
    }
    Kept {
        cluster: membership.cluster,
        identity: membership.identity,
        addresses,
        certificate: to_pem(&membership.certificate),
        authority: authority.unwrap_or_else(|| to_pem(&membership.authority)),
        good_for_ms: membership.expires.minus(membership.now),
        received: now(),
    }
}

/// How long until a certificate should be renewed.
#[must_use]
pub fn due_in(kept: &Kept) -> Duration {
    let life = kept.good_for_ms.max(0) / 3 * 2;
    // A clock that has jumped back must not put it off for ever.
    let left = kept.received.plus_ms(life).minus(now()).clamp(0, life);
    Duration::from_millis(u64::try_from(left).unwrap_or(0))
}

/// Joins with an invitation and keeps the membership: as what, and how the controller was reached.
///
/// # Errors
/// When the controller is not reached, is another, or says no; when this state directory belongs elsewhere.
pub async fn join(
    line: &JoinLine,
    name: &str,
    state_dir: &FilePath,
    kind: Kind,
) -> Result<(Kept, Path), MembershipError> {
    let before = Member::open(state_dir, kind)?;
    let key = identity::new_key()?;
    let trust = Trust::Fingerprint(line.authority);
    let credentials = Credentials::new(identity::unvouched(&key)?, trust)?;
    let route = dial(&credentials, &line.addresses).await?;
    if let Some(before) = before
        && crate::model::join_line::Fingerprint::of(before.authority()) != line.authority
    {
        return Err(MembershipError::Other(before.kept.cluster));
    }
    let (mut stream, _) = greet(&route, Role::Join).await?;
    let request = JoinRequest {
        secret: line.secret.0,
        name: name.to_owned(),
    };
    write(&mut stream, &request).await?;
    let membership = membership(&mut stream).await?;
    let mut addresses = vec![route.address().to_string()];
    addresses.extend(
        line.addresses
            .iter()
            .filter(|address| **address != route.address().to_string())
            .cloned(),
    );
    addresses.truncate(ADDRESSES_MAX);
    // The fingerprint was checked against what the connection showed, and that is what is trusted from now on.
    if crate::model::join_line::Fingerprint::of(&membership.authority) != line.authority {
        return Err(broken(
            "the controller names another authority than it has shown",
        ));
    }
    let kept = kept(membership, addresses, None);
    let member = Member::new(kept, key, state_dir)?;
    member.save(state_dir, kind)?;
    let path = route.path();
    drop(stream);
    route.close().await;
    Ok((member.kept, path))
}
