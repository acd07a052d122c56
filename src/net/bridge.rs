//! A stream to a far controller for a command, which blocks and has no runtime: a thread of its own carries the bytes
//! between that stream and one end of a socket pair, and the command has the other.

use super::client::{Credentials, DialError, Route, dial};
use super::identity::{IdentityError, Kept, Kind, Member};
use super::membership::{self, MembershipError, due_in};
use crate::model::join_line::JoinLine;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

/// A command that takes longer is tied to the controller by a connection that breaks when it is killed.
const TETHER_AFTER: Duration = Duration::from_millis(500);
/// Bytes carried at once.
const PIECE: usize = 256 * 1024;

fn local(error: io::Error) -> DialError {
    DialError::Local(error.to_string())
}

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}

/// A person's membership, and where it is kept.
#[derive(Debug)]
pub struct Person {
    /// The membership.
    pub member: Member,
    /// The state directory.
    pub state_dir: PathBuf,
}

impl Person {
    /// Somebody who has logged in; `None` = nobody has.
    ///
    /// # Errors
    /// When keys are damaged or cannot be read.
    pub fn open(state_dir: &Path) -> Result<Option<Self>, IdentityError> {
        let member = match Member::open(state_dir, Kind::User) {
            // Somebody else's state directory: whoever has logged in there, it was not us.
            Err(IdentityError::File { source, .. })
                if source.kind() == io::ErrorKind::PermissionDenied =>
            {
                None
            }
            other => other?,
        };
        Ok(member.map(|member| Person {
            member,
            state_dir: state_dir.to_owned(),
        }))
    }
}

/// Connects as this person; to these addresses, or where the membership says.
///
/// # Errors
/// When the controller is not reached.
pub fn connect(person: Person, addresses: Option<Vec<String>>) -> Result<UnixStream, DialError> {
    let credentials = Credentials::of(&person.member)?;
    let addresses = addresses.unwrap_or_else(|| person.member.kept.addresses.clone());
    let (ours, theirs) = UnixStream::pair().map_err(local)?;
    theirs.set_nonblocking(true).map_err(local)?;
    let (told, heard) = mpsc::channel();
    std::thread::Builder::new()
        .name("hpc-bridge".to_owned())
        .spawn(move || carry(&person, &credentials, &addresses, theirs, &told))
        .map_err(local)?;
    heard
        .recv()
        .map_err(|_| DialError::Local("the bridge has ended".to_owned()))??;
    Ok(ours)
}

/// Carries until one side has ended; says first whether there is a way at all.
fn carry(
    person: &Person,
    credentials: &Credentials,
    addresses: &[String],
    near: UnixStream,
    told: &mpsc::Sender<Result<(), DialError>>,
) {
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => return drop(told.send(Err(local(error)))),
    };
    runtime.block_on(async move {
        let opened = async {
            let route = dial(credentials, addresses).await?;
            let far = route.open().await.map_err(local)?;
            let near = tokio::net::UnixStream::from_std(near).map_err(local)?;
            Ok((route, far, near))
        };
        match opened.await {
            Ok((route, mut far, mut near)) => {
                let _ = told.send(Ok(()));
                let carried = async {
                    // Either side may go at any moment; the command notices by its own end.
                    let _ =
                        tokio::io::copy_bidirectional_with_sizes(&mut near, &mut far, PIECE, PIECE)
                            .await;
                };
                tokio::select! {
                    ((), ()) = async { tokio::join!(carried, renew_if_due(&route, person)) } => {}
                    // One that stays is noticed when it goes; most are over before.
                    () = async {
                        tokio::time::sleep(TETHER_AFTER).await;
                        route.tethered().await;
                    } => {}
                }
                drop(near);
                drop(far);
                route.close().await;
            }
            Err(error) => _ = told.send(Err(error)),
        }
    });
}

/// Beside what the command does; when it fails, the next command tries again.
async fn renew_if_due(route: &Route, person: &Person) {
    let kept = &person.member.kept;
    if due_in(kept).is_zero() {
        let _ = membership::renew(route, &person.state_dir, kept, Kind::User).await;
    }
}

/// Has an expired certificate made anew.
///
/// # Errors
/// When the controller is not reached, or says no.
pub fn renew(person: &Person) -> Result<(), MembershipError> {
    let credentials = Credentials::of(&person.member)?;
    runtime().map_err(local)?.block_on(async {
        let kept = &person.member.kept;
        let route = dial(&credentials, &kept.addresses).await?;
        membership::renew(&route, &person.state_dir, kept, Kind::User).await?;
        route.close().await;
        Ok(())
    })
}

/// Joins, or logs in, with an invitation; see [`membership::join`].
///
/// # Errors
/// As there.
pub fn join(
    line: &JoinLine,
    name: &str,
    state_dir: &Path,
    kind: Kind,
) -> Result<(Kept, super::Path), MembershipError> {
    runtime()
        .map_err(local)?
        .block_on(membership::join(line, name, state_dir, kind))
}
