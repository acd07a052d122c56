//! The agent's own socket on a machine that is not the controller's: it carries bytes to the controller and back, and
//! says nothing itself. Who somebody is the controller learns from the credential that a job shows, and that it came
//! from this node from our key.
//!
//! A credential is passed on only for the account that the job runs as here. That is a second fence: the file it is
//! kept in is readable by that account alone.

use super::{frames, membership};
use crate::model::refusal::{Code, Refusal};
use crate::net::Stream;
use crate::net::client::Route;
use crate::sys::files::bind_unix;
use crate::sys::identity::is_root;
use crate::wire::codec;
use crate::wire::hello::{HELLO_MAX, Hello, HelloReply, Role};
use crate::wire::join::Credential;
use crate::wire::shepherd::CREDENTIAL;
use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

/// Connections at once, of all and of one user.
const CONNECTIONS_MAX: usize = 400;
const OF_USER_MAX: usize = 64;
/// How long a connection waits for the controller to be reached, and a stranger may take for their hello.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the relay needs: a way of its own to the controller, so that nothing that jobs say or do not read can stand in
/// the way of orders and heartbeats.
pub(super) struct Relay {
    state_dir: PathBuf,
    slots_dir: PathBuf,
    route: tokio::sync::Mutex<Option<Arc<Route>>>,
    of_user: Mutex<BTreeMap<u32, usize>>,
}

impl Relay {
    pub(super) fn new(state_dir: &Path, slots_dir: &Path) -> Arc<Self> {
        Arc::new(Relay {
            state_dir: state_dir.to_owned(),
            slots_dir: slots_dir.to_owned(),
            route: tokio::sync::Mutex::new(None),
            of_user: Mutex::default(),
        })
    }

    /// A stream to the controller, over the connection that is there or a new one.
    async fn open(&self) -> Result<Box<dyn Stream>, String> {
        let mut route = self.route.lock().await;
        if let Some(known) = route.as_ref() {
            match known.open().await {
                Ok(stream) => return Ok(stream),
                Err(_) => *route = None,
            }
        }
        let found = membership::dial_as_node(&self.state_dir).await?;
        let stream = found.open().await.map_err(|error| error.to_string())?;
        *route = Some(Arc::new(found));
        Ok(stream)
    }

    /// A place for one more connection of this user.
    fn enter(self: &Arc<Self>, uid: u32) -> Option<Present> {
        let mut of_user = self.of_user.lock().unwrap_or_else(PoisonError::into_inner);
        let count = of_user.entry(uid).or_default();
        if *count >= OF_USER_MAX {
            return None;
        }
        *count += 1;
        Some(Present {
            relay: Arc::clone(self),
            uid,
        })
    }
}

/// Counted while it lives.
struct Present {
    relay: Arc<Relay>,
    uid: u32,
}

impl Drop for Present {
    fn drop(&mut self) {
        let mut of_user = self
            .relay
            .of_user
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = of_user.get_mut(&self.uid) {
            *count -= 1;
            if *count == 0 {
                of_user.remove(&self.uid);
            }
        }
    }
}

/// Binds the socket.
pub(super) fn bind(socket: &Path) -> std::io::Result<UnixListener> {
    let folder = socket.parent().unwrap_or(Path::new("/"));
    let name = socket.file_name().unwrap_or_default().to_string_lossy();
    std::fs::create_dir_all(folder)?;
    // We hold the lock of the state directory, so a socket left behind is our own.
    let _ = std::fs::remove_file(socket);
    let listener = bind_unix(folder, &name)?;
    let mode = if is_root() { 0o666 } else { 0o600 };
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(mode))?;
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

/// Relays until the runtime ends.
pub(super) async fn serve(listener: UnixListener, relay: Arc<Relay>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let relay = Arc::clone(&relay);
                tokio::spawn(async move {
                    if let Err(error) = carry(stream, &relay).await {
                        tracing::debug!(%error, "a relayed connection ended badly");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn refuse(near: &mut UnixStream, refusal: Refusal) -> std::io::Result<()> {
    frames::write(near, &HelloReply::Refused(refusal)).await
}

async fn carry(mut near: UnixStream, relay: &Arc<Relay>) -> std::io::Result<()> {
    let peer = near.peer_cred()?;
    let Some(_present) = relay.enter(peer.uid()) else {
        let refusal = Refusal::new(
            Code::TooMuch,
            format!("{OF_USER_MAX} commands of yours speak through this node now, the most"),
            "wait for some to end",
        );
        return refuse(&mut near, refusal).await;
    };
    let hello = tokio::time::timeout(PATIENCE, read_frame(&mut near)).await;
    let Ok(Ok(hello)) = hello else { return Ok(()) };
    let Ok(said) = codec::decode::<Hello>(&hello) else {
        return Ok(());
    };
    let elsewhere =
        "log in with a line from `hpc invite --role user --user NAME`, then `hpc login LINE`";
    let mut opening = codec::encode(&said);
    match said.role {
        Role::JobClient => {
            let credential = tokio::time::timeout(PATIENCE, read_frame(&mut near)).await;
            let Ok(Ok(credential)) = credential else {
                return Ok(());
            };
            if !may_show(&relay.slots_dir, &credential, peer.uid()) {
                let refusal = Refusal::new(
                    Code::NotPermitted,
                    "this is not a credential of one of your jobs on this machine",
                    "a job's credential is good for its own user, on its nodes, until it ends",
                );
                return refuse(&mut near, refusal).await;
            }
            opening.extend_from_slice(&u32::try_from(credential.len()).unwrap_or(0).to_le_bytes());
            opening.extend_from_slice(&credential);
        }
        Role::Client => {
            let refusal = Refusal::new(
                Code::NotPermitted,
                "this machine is a worker: its key speaks for the machine, not for people",
                elsewhere,
            );
            return refuse(&mut near, refusal).await;
        }
        _ => {
            let refusal = Refusal::new(
                Code::NotPermitted,
                "this socket is for commands of jobs on this machine",
                elsewhere,
            );
            return refuse(&mut near, refusal).await;
        }
    }
    let opened = tokio::time::timeout(PATIENCE, relay.open()).await;
    let mut far = match opened {
        Ok(Ok(far)) => far,
        Ok(Err(_)) | Err(_) => {
            let refusal = Refusal::new(
                Code::Failed,
                "this node does not reach its controller now",
                "try again in a while",
            );
            return refuse(&mut near, refusal).await;
        }
    };
    tokio::io::AsyncWriteExt::write_all(&mut far, &opening).await?;
    tokio::io::AsyncWriteExt::flush(&mut far).await?;
    tokio::io::copy_bidirectional(&mut near, &mut far).await?;
    Ok(())
}

/// Whether the credential is that of a slot here whose account this uid is.
fn may_show(slots_dir: &Path, credential: &[u8], uid: u32) -> bool {
    let Ok(credential) = codec::decode::<Credential>(credential) else {
        return false;
    };
    let path = slots_dir.join(credential.key.to_string()).join(CREDENTIAL);
    std::fs::symlink_metadata(path).is_ok_and(|data| data.uid() == uid || uid == 0)
}

/// One short frame's bytes.
async fn read_frame(stream: &mut UnixStream) -> std::io::Result<Vec<u8>> {
    let mut header = [0; 4];
    stream.read_exact(&mut header).await?;
    let length = codec::payload_length(header, HELLO_MAX).map_err(std::io::Error::other)?;
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload).await?;
    Ok(payload)
}
