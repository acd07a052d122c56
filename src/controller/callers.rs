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
use super::{credentials, worker_session};
use crate::cluster::Principal;
use crate::cluster::membership::unknown_key;
use crate::model::identity::{Identity, Role as UserRole};
use crate::model::job::Owner;
use crate::model::refusal::{Code, Refusal};
use crate::net::server::{Arrival, Peer};
use crate::sys::identity;
use crate::wire::codec::{CodecError, REQUEST_MAX};
use crate::wire::hello::{HELLO_MAX, Hello, HelloReply, MAGIC, Role, VERSION, VERSION_OLDEST};
use crate::wire::join::{Credential, JOIN_MAX, Tether};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};

/// Connections at once; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 4096;
/// A stranger must say hello within this.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

/// Takes local connections until the runtime ends.
pub(super) async fn accept(shared: Arc<Shared>, listener: UnixListener) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let shared = Arc::clone(&shared);
                tokio::spawn(async move {
                    ended(local(&shared, stream).await);
                    drop(place);
                });
            }
            Err(error) => {
                // Out of descriptors: connections end, then there is room again.
                tracing::warn!(%error, "cannot accept");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Takes streams from elsewhere until the runtime ends.
pub(super) async fn accept_remote(shared: Arc<Shared>, mut arrivals: mpsc::Receiver<Arrival>) {
    while let Some(Arrival { peer, stream }) = arrivals.recv().await {
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let (read, write) = tokio::io::split(stream);
            let incoming = Incoming::new(Box::new(read), HELLO_MAX);
            let outgoing = Outgoing::new(Box::new(write));
            tokio::select! {
                result = remote(&shared, &peer, incoming, outgoing) => ended(result),
                () = peer.until_cut() => tracing::info!(key = %peer.key, "a connection was cut"),
            }
        });
    }
}

fn ended(result: Result<(), CodecError>) {
    if let Err(error) = result {
        tracing::debug!(
            error = &error as &dyn std::error::Error,
            "a connection ended badly"
        );
    }
}

/// Account names by uid, looked up once.
#[derive(Debug, Default)]
pub(super) struct Names(Mutex<BTreeMap<u32, (Arc<str>, u32)>>);

impl Names {
    fn owner(&self, uid: u32, gid: u32) -> Owner {
        let known = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&uid)
            .cloned();
        let (name, gid) = known.unwrap_or_else(|| {
            let account = identity::account_by_uid(uid).ok().flatten();
            let found = account.map_or_else(
                || (Arc::from(uid.to_string()), gid),
                |account| (Arc::from(account.name), account.gid),
            );
            self.0
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(uid, found.clone());
            found
        });
        Owner { uid, gid, name }
    }
}

/// A person with a certificate: with the uid of the account of that name here, if there is one. It grants nothing by
/// itself: agents look accounts up by name.
fn person(name: &str) -> Owner {
    let account = identity::account_by_name(name).ok().flatten();
    let (uid, gid) = account.map_or((Owner::NO_UID, Owner::NO_UID), |account| {
        (account.uid, account.gid)
    });
    Owner {
        uid,
        gid,
        name: name.into(),
    }
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

async fn local(shared: &Arc<Shared>, stream: UnixStream) -> Result<(), CodecError> {
    let peer = stream.peer_cred()?;
    let owner = shared.names.owner(peer.uid(), peer.gid());
    let (read, write) = stream.into_split();
    let mut incoming = Incoming::new(Box::new(read), HELLO_MAX);
    let mut outgoing = Outgoing::new(Box::new(write));
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
        (Some(known), Some(until)) if now() < until => Standing::Known(known.identity.clone()),
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
            tracing::info!(address = %peer.address, key = %peer.key, role = ?hello.role, %refusal, "refused");
            return Ok(outgoing.send(&HelloReply::Refused(refusal)).await?);
        }
    };
    outgoing.send(&welcome(version)).await?;
    match (hello.role, standing) {
        (Role::Join, _) => {
            incoming.allow(JOIN_MAX);
            members::join(shared, peer, incoming, outgoing).await
        }
        (Role::Renew, _) => members::renew(shared, peer, incoming, outgoing).await,
        (Role::Worker, Standing::Known(Identity::Node(name))) => {
            peer.trust();
            let from = worker_session::From {
                node: name,
                peer: Arc::clone(peer),
            };
            worker_session::serve(shared, Some(from), version, incoming, outgoing).await
        }
        (Role::Tether, _) => tether(shared, peer, incoming).await,
        (Role::WorkerData, Standing::Known(Identity::Node(name))) => {
            worker_session::data(shared, &name, incoming).await
        }
        (Role::Client, Standing::Known(Identity::User { name, role })) => {
            peer.trust();
            incoming.allow(REQUEST_MAX);
            let who = Principal {
                owner: person(&name),
                role,
                from: peer.address.ip().to_string().into(),
            };
            session::clients(shared, &who, None, incoming, outgoing).await
        }
        (Role::JobClient, Standing::Known(Identity::Node(name))) => {
            job_client(shared, &name, incoming, outgoing).await
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
    let tether = tokio::time::timeout(HELLO_TIMEOUT, incoming.next::<Tether>()).await;
    let Ok(Ok(Some(tether))) = tether else {
        return Ok(());
    };
    let Some(tied) = shared.cutter.tethered(peer.key, &tether.label) else {
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
    node: &str,
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
            let held = session::Held {
                node: node.to_owned(),
                credential,
            };
            session::clients(shared, &who, Some(held), incoming, outgoing).await
        }
        Err(refusal) => {
            tracing::info!(node, ?credential, "a job's credential was refused");
            let refusal = crate::wire::client::ToClient::Refused(refusal);
            Ok(outgoing.send(&refusal).await?)
        }
    }
}
