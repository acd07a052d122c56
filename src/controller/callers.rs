//! Who is there, and what they may be: by the kernel on the local socket, by their key on the network.
//!
//! ```text
//!   local socket ── uid ───────────────────▶ admin (root, our own user) or user       client, worker
//!   network ─────── key ── known, a person ─▶ the role it was invited with            client
//!                     ├─── known, a machine ▶ that node, and nothing else             worker, relayed jobs
//!                     ├─── known, expired ──▶                                         renewal
//!                     └─── unknown ─────────▶                                         join
//! ```

use super::members;
use super::run::{Shared, now};
use super::session::{self, Incoming, Outgoing};
use super::shares::{Holder, Share};
use super::{credentials, worker_session};
use crate::cluster::Principal;
use crate::cluster::membership::unknown_key;
use crate::model::identity::{Identity, KeyId, Role as UserRole};
use crate::model::job::Owner;
use crate::model::refusal::{Code, Refusal};
use crate::net::server::{Arrival, Peer};
use crate::sys::identity;
use crate::wire::codec::{CodecError, REQUEST_MAX};
use crate::wire::hello::{HELLO_MAX, Hello, HelloReply, MAGIC, Role, VERSION, VERSION_OLDEST};
use crate::wire::join::{Credential, JOIN_MAX, Tether};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::UnixListener;
use tokio::sync::mpsc;

/// Streams of a worker's connection: orders, output, a renewal.
const WORKER_STREAMS: u32 = 8;
/// Streams over which a worker passes on what jobs say; they have a connection of their own.
const RELAYED_STREAMS: u32 = 512;
/// Streams of a person's connection: a request, a renewal.
const CLIENT_STREAMS: u32 = 8;
/// A stranger must say hello within this.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

/// With much to do, we may hear of a connection only after its tether: the other end has its keys before we do.
const LATE_MAX: Duration = Duration::from_secs(2);
const LATE_LOOK: Duration = Duration::from_millis(50);

/// Takes local connections until the runtime ends.
pub(super) async fn accept(shared: Arc<Shared>, listener: UnixListener) {
    loop {
        let (stream, uid, gid) = match listener.accept().await {
            Ok((stream, _)) => match stream.peer_cred() {
                Ok(peer) => (stream, peer.uid(), peer.gid()),
                Err(_) => continue,
            },
            Err(error) => {
                // Out of descriptors: connections end, then there is room again.
                tracing::warn!(%error, "cannot accept");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let holder = shared.names.holder(uid);
        let (read, write) = stream.into_split();
        let mut outgoing = Outgoing::new(Box::new(write));
        match shared.shares.connections.try_take(&holder, 1) {
            Ok(place) => {
                let incoming = Incoming::new(Box::new(read), HELLO_MAX, holder, &shared.shares);
                let shared = Arc::clone(&shared);
                tokio::spawn(async move {
                    ended(local(&shared, (uid, gid), place, incoming, outgoing).await);
                });
            }
            Err(refusal) => {
                tracing::debug!(uid, %refusal, "refused");
                turn_away(&mut outgoing, refusal).await;
            }
        }
    }
}

/// Takes streams from elsewhere until the runtime ends.
pub(super) async fn accept_remote(shared: Arc<Shared>, mut arrivals: mpsc::Receiver<Arrival>) {
    while let Some(Arrival { peer, stream }) = arrivals.recv().await {
        let holder = Holder::Key(peer.key);
        let (read, write) = tokio::io::split(stream);
        let mut outgoing = Outgoing::new(Box::new(write));
        match shared.shares.streams.try_take(&holder, 1) {
            Ok(place) => {
                let incoming = Incoming::new(Box::new(read), HELLO_MAX, holder, &shared.shares);
                let shared = Arc::clone(&shared);
                tokio::spawn(async move {
                    ended(remote(&shared, &peer, incoming, outgoing).await);
                    drop(place);
                });
            }
            Err(refusal) => {
                tracing::debug!(address = %peer.address, key = %peer.key, %refusal, "refused");
                turn_away(&mut outgoing, refusal).await;
            }
        }
    }
}

/// Says why, if that takes no time: whoever has too many connections must not keep even this one waiting.
async fn turn_away(outgoing: &mut Outgoing, refusal: Refusal) {
    let refusal = HelloReply::Refused(refusal);
    _ = tokio::time::timeout(Duration::ZERO, outgoing.send(&refusal)).await;
}

fn ended(result: Result<(), CodecError>) {
    if let Err(error) = result {
        tracing::debug!(
            error = &error as &dyn std::error::Error,
            "a connection ended badly"
        );
    }
}

/// How long an answer about an account is good: a uid may come to be another's.
const NAMES_KEPT: Duration = Duration::from_secs(300);

/// Accounts of this machine, by uid and by name. Looked up on threads that may wait for a name service; what that could
/// not say is asked again.
#[derive(Debug, Default)]
pub(super) struct Names {
    by_uid: Mutex<BTreeMap<u32, (Owner, Instant)>>,
    by_name: Mutex<BTreeMap<String, (Owner, Instant)>>,
}

impl Names {
    /// Who is counted as one: an account, once it is known to be one. As long as that is being looked up, those who come
    /// for the first time are one: no crowd of the nameless keeps them out.
    fn holder(&self, uid: u32) -> Holder {
        let known = self.by_uid.lock().unwrap_or_else(PoisonError::into_inner);
        // No account is named by a number alone.
        let named = |owner: &Owner| owner.name.parse::<u32>().is_err();
        match known.get(&uid) {
            Some((owner, _)) if named(owner) => Holder::Account(uid),
            Some(_) => Holder::Nameless,
            None => Holder::Newcomers,
        }
    }

    /// Who is at the other end of the local socket.
    async fn owner(&self, uid: u32, gid: u32) -> Owner {
        if let Some(known) = fresh(&self.by_uid, &uid) {
            return known;
        }
        let found = tokio::task::spawn_blocking(move || identity::account_by_uid(uid)).await;
        let unnamed = Owner {
            uid,
            gid,
            name: Arc::from(uid.to_string()),
        };
        match found {
            Ok(Ok(account)) => {
                let owner = account.map_or(unnamed, |account| Owner {
                    uid,
                    gid: account.gid,
                    name: Arc::from(account.name),
                });
                keep(&self.by_uid, uid, &owner);
                owner
            }
            _ => unnamed,
        }
    }

    /// A person with a certificate: with the uid of the account of that name here, if there is one. It grants nothing by
    /// itself: agents look accounts up by name.
    async fn person(&self, name: &str) -> Owner {
        if let Some(known) = fresh(&self.by_name, &name.to_owned()) {
            return known;
        }
        let asked = name.to_owned();
        let found = tokio::task::spawn_blocking(move || identity::account_by_name(&asked)).await;
        let owner = |uid, gid| Owner {
            uid,
            gid,
            name: name.into(),
        };
        match found {
            Ok(Ok(account)) => {
                let owner = account.map_or(owner(Owner::NO_UID, Owner::NO_UID), |account| {
                    owner(account.uid, account.gid)
                });
                keep(&self.by_name, name.to_owned(), &owner);
                owner
            }
            _ => owner(Owner::NO_UID, Owner::NO_UID),
        }
    }
}

fn fresh<K: Ord>(known: &Mutex<BTreeMap<K, (Owner, Instant)>>, key: &K) -> Option<Owner> {
    let known = known.lock().unwrap_or_else(PoisonError::into_inner);
    let (owner, at) = known.get(key)?;
    (at.elapsed() < NAMES_KEPT).then(|| owner.clone())
}

fn keep<K: Ord>(known: &Mutex<BTreeMap<K, (Owner, Instant)>>, key: K, owner: &Owner) {
    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
    known.insert(key, (owner.clone(), Instant::now()));
}

/// Reads the hello; `None` when there is none worth an answer.
async fn greet(incoming: &mut Incoming) -> Option<Hello> {
    let hello = tokio::time::timeout(HELLO_TIMEOUT, incoming.next::<Hello>()).await;
    hello.ok()?.ok()?
}

/// The version to speak.
fn agree(hello: &Hello) -> Result<u16, Refusal> {
    hello
        .agree()
        .filter(|_| hello.magic == MAGIC)
        .ok_or_else(|| {
            Refusal::new(
                Code::Unsupported,
                format!("this controller speaks versions {VERSION_OLDEST} to {VERSION}"),
                "use the same release of hpc on both sides",
            )
        })
}

fn not_permitted(what: impl Into<String>, hint: &str) -> Refusal {
    Refusal::new(Code::NotPermitted, what, hint)
}

async fn local(
    shared: &Arc<Shared>,
    (uid, gid): (u32, u32),
    mut place: Share,
    mut incoming: Incoming,
    mut outgoing: Outgoing,
) -> Result<(), CodecError> {
    let owner = shared.names.owner(uid, gid).await;
    let holder = match shared.names.holder(uid) {
        // The name service has failed.
        Holder::Newcomers => Holder::Nameless,
        known => known,
    };
    if holder != *incoming.holder() {
        // Looked up: from now on it is counted as who it is.
        place = match shared.shares.connections.try_take(&holder, 1) {
            Ok(place) => place,
            Err(refusal) => {
                turn_away(&mut outgoing, refusal).await;
                return Ok(());
            }
        };
        incoming.speaks_for(holder);
    }
    let _place = place;
    let Some(hello) = greet(&mut incoming).await else {
        return Ok(());
    };
    let version = match agree(&hello).and_then(|version| {
        admit_local(shared, &owner, hello.role)?;
        Ok(version)
    }) {
        Ok(version) => version,
        Err(refusal) => return Ok(outgoing.send(&HelloReply::Refused(refusal)).await?),
    };
    outgoing.hold(&welcome(version));
    if hello.role == Role::Worker {
        outgoing.flush().await?;
        return worker_session::serve(shared, None, version, incoming, outgoing).await;
    }
    incoming.allow(REQUEST_MAX);
    let ours = owner.uid == 0 || owner.uid == shared.uid;
    let who = Principal {
        owner,
        role: if ours {
            UserRole::Admin
        } else {
            UserRole::User
        },
        from: "local".into(),
    };
    session::clients(shared, &who, None, incoming, outgoing).await
}

fn welcome(version: u16) -> HelloReply {
    HelloReply::Welcome {
        version,
        server: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

fn admit_local(shared: &Shared, owner: &Owner, role: Role) -> Result<(), Refusal> {
    let ours = owner.uid == 0 || owner.uid == shared.uid;
    match role {
        Role::Worker if !ours => Err(not_permitted(
            format!("{} may not be a worker of this controller", owner.name),
            "run the worker as the user of the controller",
        )),
        Role::Client | Role::Worker if !ours && shared.uid != 0 => Err(not_permitted(
            format!(
                "this controller belongs to another user (uid {})",
                shared.uid
            ),
            "start your own with `hpc up`",
        )),
        Role::Client | Role::Worker => Ok(()),
        Role::WorkerData | Role::JobClient | Role::Join | Role::Renew | Role::Tether => {
            Err(not_permitted(
                "this socket is for commands and the worker of this machine",
                "other machines come over the network",
            ))
        }
    }
}

/// What a key is to the cluster now.
enum Standing {
    /// Nothing.
    Stranger,
    /// Known, but its certificate is none of ours or has expired: it may have a new one.
    Stale,
    /// Known.
    Known(Identity),
}

fn standing(shared: &Shared, peer: &Peer) -> Standing {
    let snapshot = shared.snapshot.load();
    match (snapshot.keys.get(&peer.key), peer.vouched_until) {
        (None, _) => Standing::Stranger,
        // Once vouched for, the newest certificate counts: it may have been made over this very connection.
        (Some(known), Some(_)) if now() < known.expires => Standing::Known(known.identity.clone()),
        (Some(_), _) => Standing::Stale,
    }
}

async fn remote(
    shared: &Arc<Shared>,
    peer: &Arc<Peer>,
    mut incoming: Incoming,
    mut outgoing: Outgoing,
) -> Result<(), CodecError> {
    let Some(hello) = greet(&mut incoming).await else {
        return Ok(());
    };
    let standing = standing(shared, peer);
    let version = match agree(&hello).and_then(|version| {
        admit_remote(&standing, hello.role)?;
        Ok(version)
    }) {
        Ok(version) => version,
        Err(refusal) => {
            tracing::debug!(address = %peer.address, key = %peer.key, role = ?hello.role, %refusal, "refused");
            return Ok(outgoing.send(&HelloReply::Refused(refusal)).await?);
        }
    };
    outgoing.send(&welcome(version)).await?;
    if let (Role::Worker, Standing::Known(Identity::Node(name))) = (hello.role, &standing) {
        peer.trust(WORKER_STREAMS);
        let from = worker_session::From {
            node: name.clone(),
            peer: Arc::clone(peer),
        };
        // It looks after a cut itself: whoever ends it must still hear that the link is gone.
        return worker_session::serve(shared, Some(from), version, incoming, outgoing).await;
    }
    tokio::select! {
        result = serve(shared, peer, (hello.role, standing), incoming, outgoing) => result,
        () = peer.until_cut() => Ok(()),
    }
}

async fn serve(
    shared: &Arc<Shared>,
    peer: &Arc<Peer>,
    (role, standing): (Role, Standing),
    mut incoming: Incoming,
    outgoing: Outgoing,
) -> Result<(), CodecError> {
    match (role, standing) {
        (Role::Join, _) => {
            incoming.allow(JOIN_MAX);
            members::join(shared, peer, incoming, outgoing).await
        }
        (Role::Renew, _) => members::renew(shared, peer, incoming, outgoing).await,
        (Role::Tether, _) => tether(shared, peer, incoming).await,
        (Role::WorkerData, Standing::Known(Identity::Node(name))) => {
            worker_session::data(shared, &name, incoming).await
        }
        (Role::Client, Standing::Known(Identity::User { name, role })) => {
            peer.trust(CLIENT_STREAMS);
            incoming.allow(REQUEST_MAX);
            let who = Principal {
                owner: shared.names.person(&name).await,
                role,
                from: peer.address.ip().to_string().into(),
            };
            session::clients(shared, &who, None, incoming, outgoing).await
        }
        (Role::JobClient, Standing::Known(Identity::Node(name))) => {
            peer.trust(RELAYED_STREAMS);
            job_client(shared, (peer.key, &name), incoming, outgoing).await
        }
        _ => Ok(()),
    }
}

fn admit_remote(standing: &Standing, role: Role) -> Result<(), Refusal> {
    match (role, standing) {
        (Role::Join, _) => Ok(()),
        (_, Standing::Stranger) => Err(unknown_key()),
        (Role::Renew | Role::Tether, _) => Ok(()),
        (_, Standing::Stale) => Err(Refusal::new(
            Code::Conflict,
            "the certificate has expired",
            "it is renewed with the next connection",
        )),
        (Role::Worker | Role::WorkerData | Role::JobClient, Standing::Known(Identity::Node(_)))
        | (Role::Client, Standing::Known(Identity::User { .. })) => Ok(()),
        (Role::Client, Standing::Known(Identity::Node(name))) => Err(not_permitted(
            format!("{name} is a worker: its key speaks for that machine, not for people"),
            "log in with a line from `hpc invite --role user --user NAME`, then `hpc login LINE`",
        )),
        (_, Standing::Known(Identity::User { name, .. })) => Err(not_permitted(
            format!("this key is {name}'s and speaks for no machine"),
            "let the machine join with a line from `hpc invite`",
        )),
    }
}

/// Waits until the process at the other end is gone, and ends its QUIC connection then: a killed agent or command is
/// noticed at once. When only this connection breaks, whoever is there connects again.
async fn tether(
    shared: &Arc<Shared>,
    peer: &Arc<Peer>,
    mut incoming: Incoming,
) -> Result<(), CodecError> {
    // It lasts as long as the connection it belongs to, and must not keep strangers out meanwhile.
    peer.trust(0);
    let tether = tokio::time::timeout(HELLO_TIMEOUT, incoming.next::<Tether>()).await;
    let Ok(Ok(Some(tether))) = tether else {
        // To end it would say that this process, or the one before it, is gone.
        let _ = incoming.next::<Tether>().await;
        return Ok(());
    };
    let found = async {
        loop {
            match shared.cutter.tethered(peer.key, &tether.label) {
                Some(tied) => return tied,
                None => tokio::time::sleep(LATE_LOOK).await,
            }
        }
    };
    let Ok(tied) = tokio::time::timeout(LATE_MAX, found).await else {
        // It is over, or was one of the controller before this one.
        tracing::debug!(address = %peer.address, key = %peer.key, "a tether to no connection");
        return Ok(());
    };
    tokio::select! {
        // Nothing more is to be said here.
        _ = incoming.next::<Tether>() => tied.gone(),
        () = tied.until_over() => {}
    }
    Ok(())
}

/// A command from inside a job, brought by the agent of its node.
async fn job_client(
    shared: &Arc<Shared>,
    (key, node): (KeyId, &str),
    mut incoming: Incoming,
    mut outgoing: Outgoing,
) -> Result<(), CodecError> {
    let credential = tokio::time::timeout(HELLO_TIMEOUT, incoming.next::<Credential>()).await;
    let Ok(Ok(Some(credential))) = credential else {
        return Ok(());
    };
    match credentials::principal(shared, node, &credential) {
        Ok(who) => {
            incoming.allow(REQUEST_MAX);
            incoming.speaks_for(Holder::JobsOf(key, Arc::clone(&who.owner.name)));
            let kept = credential.clone();
            let held = session::Held {
                node: node.to_owned(),
                credential,
            };
            tokio::select! {
                result = session::clients(shared, &who, Some(held), incoming, outgoing) => result,
                // What is open when the job ends ends too.
                () = credentials::until_over(shared, node, &kept) => Ok(()),
            }
        }
        Err(refusal) => {
            tracing::info!(node, ?credential, "a job's credential was refused");
            let refusal = crate::wire::client::ToClient::Refused(refusal);
            Ok(outgoing.send(&refusal).await?)
        }
    }
}
