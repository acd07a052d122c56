//! For ranks that were started before this process, and knew only where it would be: each of their connections is passed on
//! to the library, which listens at a place of its own choice. The library cannot be given a socket that listens already,
//! and to close ours and have it listen there would turn ranks away meanwhile.
//!
//! A thread of its own, which holds a few bytes of each connection at most: who does not read makes the other side wait.

use crate::sys::inherited;
use crate::sys::tcp_peer::user_of;
use crate::wire::pmix::DOOR_FD;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::thread;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};

/// How long no more are let in where there is no room for one, say of descriptors.
const PAUSE: Duration = Duration::from_millis(50);

/// Where ranks knock, and who has come already.
#[derive(Debug)]
pub(super) struct Door {
    listener: std::net::TcpListener,
    visitors: Vec<std::net::TcpStream>,
}

impl Door {
    /// Takes the descriptors that the shepherd left open, those of so many visitors among them.
    pub(super) fn take(visitors: u32) -> io::Result<Door> {
        let listener = take(DOOR_FD)?.into();
        let numbers = (DOOR_FD + 1..).zip(0..visitors);
        let visitors = numbers.map(|(number, _)| Ok(take(number)?.into()));
        Ok(Door {
            listener,
            visitors: visitors.collect::<io::Result<_>>()?,
        })
    }

    /// Passes everybody of this user on, now and from now on.
    pub(super) fn open(self, library: SocketAddr, user: u32) -> io::Result<()> {
        // Three descriptors for each rank, in all.
        if let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) {
            let _ = setrlimit(Resource::RLIMIT_NOFILE, most, most);
        }
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (listener, visitors) = self.entered(&runtime)?;
        let work = async move {
            for visitor in visitors {
                tokio::spawn(pass_on(visitor, library, user));
            }
            loop {
                match listener.accept().await {
                    Ok((visitor, _)) => drop(tokio::spawn(pass_on(visitor, library, user))),
                    Err(_) => tokio::time::sleep(PAUSE).await,
                }
            }
        };
        thread::Builder::new()
            .name("relay".to_owned())
            .spawn(move || runtime.block_on(work))?;
        Ok(())
    }

    fn entered(self, runtime: &Runtime) -> io::Result<(TcpListener, Vec<TcpStream>)> {
        let _inside = runtime.enter();
        self.listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(self.listener)?;
        let visitors = self.visitors.into_iter().map(|visitor| {
            visitor.set_nonblocking(true)?;
            TcpStream::from_std(visitor)
        });
        Ok((listener, visitors.collect::<io::Result<_>>()?))
    }
}

/// A descriptor of ours, which programs that the library starts do not get.
fn take(number: i32) -> io::Result<OwnedFd> {
    let fd = inherited::take(number)?;
    fcntl(fd.as_fd(), FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    Ok(fd)
}

/// Both ways, until both sides have said all.
async fn pass_on(mut visitor: TcpStream, library: SocketAddr, user: u32) -> io::Result<()> {
    if !may_enter(&visitor, user)? {
        return Ok(());
    }
    let mut library = TcpStream::connect(library).await?;
    visitor.set_nodelay(true)?;
    library.set_nodelay(true)?;
    tokio::io::copy_bidirectional(&mut visitor, &mut library).await?;
    Ok(())
}

/// A stranger may not. The library believes what its clients say that they are.
fn may_enter(visitor: &TcpStream, user: u32) -> io::Result<bool> {
    match (visitor.peer_addr()?, visitor.local_addr()?) {
        // A kernel that does not tell leaves it to the library.
        (SocketAddr::V4(theirs), SocketAddr::V4(ours)) => {
            Ok(user_of(theirs, ours).map_or(true, |found| found == Some(user)))
        }
        _ => Ok(false),
    }
}
