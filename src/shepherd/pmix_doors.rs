//! Where ranks of a step find a server of PMIx they are shown a door, and the server is started once one of them knocks:
//! most programs that are run never do, and need not wait for it. Who has come is given to it with the door
//! ([`super::pmix_helpers`]), unread.
//!
//! Where nobody is to serve PMIx to a step, a rank that looks for it would find that it is alone, and be content: Open MPI
//! runs as many worlds of one as there are ranks, and all of them succeed. So there is a door too, at which nobody answers,
//! and the step is ended with the reason.
//!
//! The door is a port of this machine, so a stranger may come too. Only a process of the job's user counts, and only if it
//! knows the name of what it looks for, which ranks say when they come.

use crate::model::ids::StepId;
use crate::sys::tcp_peer::user_of;
use crate::wire::pmix::Promise;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use nix::sys::socket::{Backlog, MsgFlags, listen, recv};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// Visitors at once, and bytes that one may say before the name has come. Others wait outside.
const VISITORS_MAX: usize = 64;
const WORDS_MAX: usize = 4096;
/// For ranks of a version so old that none is served any more, but that should be noticed.
const OLDEST_PLACE: &str = "PMIX_SERVER_URI";

/// Tokens of visitors begin so far above that of the first door. They are counted over all doors: a step may begin, and be
/// visited, while others are at theirs.
const VISITORS: u64 = 1 << 40;

/// The door of a step.
#[derive(Debug)]
struct Door {
    listener: TcpListener,
    token: u64,
    /// What ranks say when they come.
    name: String,
    /// Whose they are.
    user: u32,
    /// Who is there, by token.
    visitors: BTreeMap<u64, TcpStream>,
    /// So many are there that others wait outside.
    full: bool,
}

/// A door that a helper takes over, and who has come to it.
#[derive(Debug)]
pub(super) struct Given {
    listener: TcpListener,
    visitors: Vec<TcpStream>,
}

impl Given {
    /// How many have come.
    pub(super) fn visitors(&self) -> u32 {
        u32::try_from(self.visitors.len()).unwrap_or(0)
    }

    /// The door's socket, then those of who has come.
    pub(super) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let visitors = self.visitors.iter().map(TcpStream::as_fd);
        std::iter::once(self.listener.as_fd()).chain(visitors)
    }
}

/// The doors of all steps.
#[derive(Debug, Default)]
pub(super) struct PmixDoors {
    doors: BTreeMap<StepId, Door>,
    /// Visitors so far.
    count: u64,
}

impl PmixDoors {
    /// Makes a door for a step of this user's; what shows it to ranks, or nothing where it cannot be made.
    pub(super) fn open(
        &mut self,
        step: StepId,
        promise: Option<&Promise>,
        user: u32,
        token: u64,
        poll: &Epoll,
    ) -> Vec<(String, String)> {
        let made = match promise {
            Some(promise) => make().map(|(listener, port)| (listener, promise.variables(port))),
            None => nobody(),
        };
        let (listener, variables) = match made {
            Ok(made) => made,
            Err(error) => {
                tracing::warn!(%step, %error, "no door for PMIx can be made; where it is not served, a rank that asks for it runs alone");
                return Vec::new();
            }
        };
        let mut names = variables
            .iter()
            .filter(|(variable, _)| variable == "PMIX_NAMESPACE");
        let name = names.next().map_or("", |(_, name)| name).to_owned();
        let _ = poll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, token));
        let door = Door {
            listener,
            token,
            name,
            user,
            visitors: BTreeMap::new(),
            full: false,
        };
        self.doors.insert(step, door);
        variables
    }

    /// Somebody comes to a door, or says something there; the step, if it is a rank of it.
    pub(super) fn ready(&mut self, token: u64, poll: &Epoll) -> Option<StepId> {
        let mut doors = self.doors.iter_mut();
        let owns = |door: &Door| door.token == token || door.visitors.contains_key(&token);
        let (step, door) = doors.find(|(_, door)| owns(door))?;
        let Some(stream) = door.visitors.get(&token) else {
            door.let_in(&mut self.count, poll);
            return None;
        };
        // Only looked at, and no more often than something comes: it is for the server.
        let mut words = [0; WORDS_MAX];
        let count = match recv(stream.as_raw_fd(), &mut words, MsgFlags::MSG_PEEK) {
            Err(Errno::EAGAIN | Errno::EINTR) => return None,
            looked => looked.unwrap_or(0),
        };
        let name = door.name.as_bytes();
        let knows = words[..count].windows(name.len()).any(|part| part == name);
        if knows {
            // It waits for an answer, or until it is ended.
            let _ = poll.delete(stream);
        } else if count == 0 || count == WORDS_MAX {
            let _ = poll.delete(stream);
            door.visitors.remove(&token);
            if std::mem::take(&mut door.full) {
                let event = EpollEvent::new(EpollFlags::EPOLLIN, door.token);
                let _ = poll.add(&door.listener, event);
            }
        }
        knows.then_some(*step)
    }

    /// Gives a door away.
    pub(super) fn give(&mut self, step: StepId, poll: &Epoll) -> Option<Given> {
        let door = self.doors.remove(&step)?;
        door.leave(poll);
        Some(Given {
            listener: door.listener,
            visitors: door.visitors.into_values().collect(),
        })
    }

    /// A step is over.
    pub(super) fn close(&mut self, step: StepId, poll: &Epoll) {
        if let Some(door) = self.doors.remove(&step) {
            door.leave(poll);
        }
    }
}

impl Door {
    fn let_in(&mut self, count: &mut u64, poll: &Epoll) {
        while self.visitors.len() < VISITORS_MAX {
            let Ok((visitor, from)) = self.listener.accept() else {
                return;
            };
            if !self.is_ours(from) || visitor.set_nonblocking(true).is_err() {
                continue;
            }
            *count += 1;
            let serial = (self.token & !(VISITORS - 1)) + VISITORS + *count;
            let news = EpollFlags::EPOLLIN | EpollFlags::EPOLLET;
            let _ = poll.add(&visitor, EpollEvent::new(news, serial));
            self.visitors.insert(serial, visitor);
        }
        self.full = true;
        let _ = poll.delete(&self.listener);
    }

    /// Whether the job's user holds the other end. A kernel that does not tell leaves it to the name.
    fn is_ours(&self, from: SocketAddr) -> bool {
        match (from, self.listener.local_addr()) {
            (SocketAddr::V4(theirs), Ok(SocketAddr::V4(ours))) => {
                user_of(theirs, ours).map_or(true, |found| found == Some(self.user))
            }
            _ => false,
        }
    }

    /// The poll forgets it.
    fn leave(&self, poll: &Epoll) {
        let _ = poll.delete(&self.listener);
        for stream in self.visitors.values() {
            let _ = poll.delete(stream);
        }
    }
}

/// A port of this machine.
fn make() -> std::io::Result<(TcpListener, u16)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    // All ranks may come at once, and whoever does not find room tries again after a second.
    listen(&listener, Backlog::MAXCONN)?;
    listener.set_nonblocking(true)?;
    let port = listener.local_addr()?.port();
    Ok((listener, port))
}

/// A door at which nobody will answer, under a name that nobody can guess.
fn nobody() -> std::io::Result<(TcpListener, Vec<(String, String)>)> {
    let mut secret = [0_u8; 16];
    File::open("/dev/urandom")?.read_exact(&mut secret)?;
    let letters: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let (listener, port) = make()?;
    let promise = Promise::of_nobody(format!("hpc-none-{letters}"));
    let mut variables = promise.variables(port);
    let place = format!("{}.0;tcp4://127.0.0.1:{port}", promise.nspace());
    variables.push((OLDEST_PLACE.to_owned(), place));
    Ok((listener, variables))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::epoll::{EpollCreateFlags, EpollTimeout};
    use std::io::Write;

    const STEP: StepId = StepId(3);

    fn opened(promise: Option<&Promise>) -> (PmixDoors, Epoll, BTreeMap<String, String>) {
        let poll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap();
        let mut doors = PmixDoors::default();
        let user = nix::unistd::geteuid().as_raw();
        let variables = doors.open(STEP, promise, user, 7, &poll);
        (doors, poll, variables.into_iter().collect())
    }

    fn next(doors: &mut PmixDoors, poll: &Epoll) -> Option<StepId> {
        let mut events = [EpollEvent::empty(); 1];
        let patience = EpollTimeout::from(5_000_u16);
        let count = poll.wait(&mut events, patience).unwrap();
        assert_eq!(count, 1, "nothing comes");
        doors.ready(events[0].data(), poll)
    }

    fn visit(variables: &BTreeMap<String, String>) -> TcpStream {
        let place = &variables["PMIX_SERVER_URI41"];
        TcpStream::connect(place.rsplit_once("//").unwrap().1).unwrap()
    }

    #[test]
    fn who_knows_the_name_is_a_rank_and_a_stranger_is_not() {
        let (mut doors, poll, variables) = opened(None);
        let mut next = || next(&mut doors, &poll);
        let mut stranger = visit(&variables);
        assert_eq!(next(), None);
        stranger.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        assert_eq!(next(), None);
        drop(stranger);
        assert_eq!(next(), None);
        let mut rank = visit(&variables);
        assert_eq!(next(), None);
        let words = format!("..{}\0..", variables["PMIX_NAMESPACE"]);
        rank.write_all(words.as_bytes()).unwrap();
        assert_eq!(next(), Some(STEP));
    }

    #[test]
    fn what_a_rank_has_said_is_there_for_the_server() {
        let promise = Promise::of_nobody("hpc-1-2.3".to_owned());
        let (mut doors, poll, variables) = opened(Some(&promise));
        let mut rank = visit(&variables);
        assert_eq!(next(&mut doors, &poll), None);
        for (words, knocked) in [(&b"it is hpc-1"[..], None), (b"-2.3, 0", Some(STEP))] {
            rank.write_all(words).unwrap();
            assert_eq!(next(&mut doors, &poll), knocked);
        }
        let another = visit(&variables);
        let given = doors.give(STEP, &poll).unwrap();
        assert_eq!((given.visitors(), given.fds().count()), (1, 2));
        let mut words = [0; 18];
        (&given.visitors[0]).read_exact(&mut words).unwrap();
        assert_eq!(&words, b"it is hpc-1-2.3, 0");
        let (_, from) = given.listener.accept().unwrap();
        assert_eq!(from, another.local_addr().unwrap());
        assert!(doors.give(STEP, &poll).is_none());
    }

    #[test]
    fn visitors_of_several_doors_are_told_apart() {
        let poll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap();
        let mut doors = PmixDoors::default();
        let user = nix::unistd::geteuid().as_raw();
        let mut open = |step, name: &str, token| {
            let promise = Promise::of_nobody(name.to_owned());
            let shown = doors.open(StepId(step), Some(&promise), user, token, &poll);
            shown.into_iter().collect::<BTreeMap<_, _>>()
        };
        let shown = [open(1, "hpc-one", 7), open(2, "hpc-two", 8)];
        // The door that was opened first is visited last.
        let ranks = shown.iter().rev().map(|one| {
            let rank = visit(one);
            assert_eq!(next(&mut doors, &poll), None);
            (rank, &one["PMIX_NAMESPACE"])
        });
        let ranks: Vec<_> = ranks.collect();
        for ((mut rank, name), step) in ranks.into_iter().zip([2, 1]) {
            rank.write_all(name.as_bytes()).unwrap();
            assert_eq!(next(&mut doors, &poll), Some(StepId(step)));
        }
    }

    #[test]
    fn who_finds_no_room_waits_until_another_has_gone() {
        let promise = Promise::of_nobody("hpc-1-2.3".to_owned());
        let (mut doors, poll, variables) = opened(Some(&promise));
        let mut strangers: Vec<TcpStream> = (0..VISITORS_MAX).map(|_| visit(&variables)).collect();
        let mut rank = visit(&variables);
        rank.write_all(b"hpc-1-2.3").unwrap();
        while doors.doors[&STEP].visitors.len() < VISITORS_MAX {
            assert_eq!(next(&mut doors, &poll), None);
        }
        drop(strangers.pop());
        while next(&mut doors, &poll).is_none() {}
    }

    #[test]
    fn another_user_does_not_count_whatever_is_known() {
        let (mut doors, poll, variables) = opened(None);
        let door = doors.doors.get_mut(&STEP).unwrap();
        door.user = door.user.wrapping_add(1);
        let mut stranger = visit(&variables);
        stranger
            .write_all(variables["PMIX_NAMESPACE"].as_bytes())
            .unwrap();
        let theirs = stranger.local_addr().unwrap();
        let (SocketAddr::V4(theirs), Ok(SocketAddr::V4(ours))) = (theirs, stranger.peer_addr())
        else {
            unreachable!();
        };
        if let Err(errno) = user_of(theirs, ours) {
            return println!("SKIPPED: this kernel does not tell: {errno}");
        }
        assert_eq!(next(&mut doors, &poll), None);
        assert!(doors.doors[&STEP].visitors.is_empty());
    }
}
