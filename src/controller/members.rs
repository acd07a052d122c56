//! Newcomers and renewals: the cluster decides, and once that is committed the authority signs.

use super::run::{Shared, now};
use super::session::{Incoming, Outgoing};
use crate::cluster::membership::Newcomer;
use crate::cluster::{Command, Principal, Reply};
use crate::model::identity::{Grant, Identity};
use crate::model::join_line::{JoinLine, Secret};
use crate::model::refusal::{Code, Refusal};
use crate::net::address;
use crate::net::identity::random;
use crate::net::server::Peer;
use crate::wire::client::ToClient;
use crate::wire::codec::CodecError;
use crate::wire::join::{JoinReply, JoinRequest, Membership};
use crate::wire::view::{InvitationView, KeyView, MembersView};
use std::sync::Arc;
use std::time::Duration;

/// How long somebody who is let in may take to say who they are.
const JOIN_TIMEOUT: Duration = Duration::from_secs(10);

fn failed(why: impl std::fmt::Display) -> Refusal {
    Refusal::new(
        Code::Failed,
        why.to_string(),
        "nothing was changed; try again",
    )
}

/// Makes an invitation and its line.
pub(super) async fn invite(
    shared: &Shared,
    who: Principal,
    grant: Grant,
    ttl_s: u32,
    uses: u32,
) -> Result<ToClient, Refusal> {
    let Some(listening) = shared.listening else {
        return Err(Refusal::new(
            Code::Unsupported,
            "this controller has no port: nobody could join",
            "start it without `--listen none`",
        ));
    };
    let secret = Secret(random().map_err(failed)?);
    let prefix = grant.prefix().to_owned();
    let command = Command::Invite {
        who,
        token: secret.hash(),
        grant,
        ttl_ms: i64::from(ttl_s) * 1000,
        uses,
    };
    let Reply::Invited { expires } = shared.ask(command).await? else {
        return Err(failed("an unexpected answer"));
    };
    let line = JoinLine {
        addresses: address::own(listening),
        prefix,
        secret,
        authority: shared.authority.fingerprint(),
    };
    Ok(ToClient::Invited {
        line: line.to_string(),
        expires,
    })
}

/// Serves somebody with an invitation.
pub(super) async fn join(
    shared: &Arc<Shared>,
    peer: &Peer,
    mut incoming: Incoming,
    mut outgoing: Outgoing,
) -> Result<(), CodecError> {
    let request = tokio::time::timeout(JOIN_TIMEOUT, incoming.next::<JoinRequest>()).await;
    let Ok(Ok(Some(request))) = request else {
        return Ok(());
    };
    let newcomer = Newcomer {
        token: Secret(request.secret).hash(),
        key: peer.key,
        name: request.name,
        from: peer.address.ip().to_string(),
    };
    let reply = admit(shared, peer, Command::Join(newcomer)).await;
    answer(reply, &mut outgoing, incoming).await
}

/// Serves a known key that wants a new certificate.
pub(super) async fn renew(
    shared: &Arc<Shared>,
    peer: &Peer,
    incoming: Incoming,
    mut outgoing: Outgoing,
) -> Result<(), CodecError> {
    let reply = admit(shared, peer, Command::Renew { key: peer.key }).await;
    answer(reply, &mut outgoing, incoming).await
}

async fn answer(
    reply: Result<Membership, Refusal>,
    outgoing: &mut Outgoing,
    mut incoming: Incoming,
) -> Result<(), CodecError> {
    let reply = match reply {
        Ok(membership) => JoinReply::Joined(Box::new(membership)),
        Err(refusal) => JoinReply::Refused(refusal),
    };
    outgoing.send(&reply).await?;
    // Closing first might overtake the answer.
    let _ = tokio::time::timeout(JOIN_TIMEOUT, incoming.next::<JoinRequest>()).await;
    Ok(())
}

async fn admit(shared: &Shared, peer: &Peer, command: Command) -> Result<Membership, Refusal> {
    let Reply::Joined { identity, expires } = shared.ask(command).await? else {
        return Err(failed("an unexpected answer"));
    };
    let at = now();
    let certificate = shared
        .authority
        .issue(&peer.public_key, &identity, at, expires)
        .map_err(failed)?;
    tracing::info!(key = %peer.key, %identity, address = %peer.address, "a key is known");
    Ok(Membership {
        cluster: shared.snapshot.load().name.clone(),
        identity,
        certificate,
        authority: shared.authority.certificate().to_vec(),
        addresses: shared.listening.map(address::own).unwrap_or_default(),
        now: at,
        expires,
    })
}

/// Who is known, and who may still come.
pub(super) fn list(shared: &Shared) -> ToClient {
    let snapshot = shared.snapshot.load();
    let at = now();
    let keys = snapshot.keys.iter().map(|(key, known)| {
        let (role, name) = match &known.identity {
            Identity::Node(name) => ("node", name),
            Identity::User { name, role } => (role.word(), name),
        };
        KeyView {
            key: key.to_string(),
            role: role.to_owned(),
            name: name.clone(),
            joined: known.joined,
            from: known.from.clone(),
            invited_by: known.invited_by.clone(),
            expires: known.expires,
        }
    });
    let open = snapshot
        .invitations
        .values()
        .filter(|invitation| invitation.uses_left > 0 && invitation.expires > at);
    let invitations = open.map(|invitation| InvitationView {
        admits: invitation.grant.to_string(),
        by: invitation.by.clone(),
        expires: invitation.expires,
        uses_left: invitation.uses_left,
    });
    ToClient::Members(Box::new(MembersView {
        keys: keys.collect(),
        invitations: invitations.collect(),
    }))
}
