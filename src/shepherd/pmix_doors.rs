//! Where nobody serves PMIx to a step, a rank that looks for it would find that it is alone, and be content: Open MPI runs
//! as many worlds of one as there are ranks, and all of them succeed. So such ranks are shown a door at which nobody
//! answers. One that comes there asks for PMIx, and the step is ended with the reason.
//!
//! The door is a port of this machine, so a stranger may come too. Only who knows the step's secret name counts, which ranks
//! say when they come and which nobody else can see.

use crate::model::ids::StepId;
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::net::{Ipv4Addr, TcpListener, TcpStream};

/// Visitors at once, and bytes that one may say before the name has come.
const VISITORS_MAX: usize = 64;
const WORDS_MAX: usize = 4096;
/// Variables by which ranks of all versions find their server.
const PLACES: [&str; 6] = [
    "PMIX_SERVER_URI",
    "PMIX_SERVER_URI2",
    "PMIX_SERVER_URI21",
    "PMIX_SERVER_URI3",
    "PMIX_SERVER_URI4",
    "PMIX_SERVER_URI41",
];

/// Tokens of visitors, beside those of doors.
const VISITORS: u64 = 1 << 40;

/// The door of a step.
#[derive(Debug)]
struct Door {
    listener: TcpListener,
    token: u64,
    name: String,
    /// Who is there and what they have said, by token.
    visitors: BTreeMap<u64, (TcpStream, Vec<u8>)>,
}

/// The doors of all steps.
#[derive(Debug, Default)]
pub(super) struct PmixDoors {
    doors: BTreeMap<StepId, Door>,
    /// Visitors so far.
    count: u64,
}

impl PmixDoors {
    /// Makes a door for a step; what shows it to ranks, or nothing where it cannot be made.
    pub(super) fn open(&mut self, step: StepId, token: u64, poll: &Epoll) -> Vec<(String, String)> {
        let (listener, port, name) = match make() {
            Ok(made) => made,
            Err(error) => {
                tracing::warn!(%step, %error, "no door for PMIx can be made; a rank that asks for it runs alone");
                return Vec::new();
            }
        };
        let _ = poll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, token));
        let place = format!("{name}.0;tcp4://127.0.0.1:{port}");
        let places = PLACES.map(|variable| (variable.to_owned(), place.clone()));
        let others = [
            ("PMIX_NAMESPACE", name.as_str()),
            ("PMIX_SECURITY_MODE", "native"),
            ("PMIX_BFROP_BUFFER_TYPE", "PMIX_BFROP_BUFFER_NON_DESC"),
            ("PMIX_GDS_MODULE", "hash"),
        ];
        let others = others.map(|(variable, value)| (variable.to_owned(), value.to_owned()));
        let variables = places.into_iter().chain(others).collect();
        let visitors = BTreeMap::new();
        let door = Door {
            listener,
            token,
            name,
            visitors,
        };
        self.doors.insert(step, door);
        variables
    }

    /// Somebody comes to a door, or says something there; the step, if it is a rank of it.
    pub(super) fn ready(&mut self, token: u64, poll: &Epoll) -> Option<StepId> {
        let mut doors = self.doors.iter_mut();
        let owns = |door: &Door| door.token == token || door.visitors.contains_key(&token);
        let (step, door) = doors.find(|(_, door)| owns(door))?;
        let Some((stream, words)) = door.visitors.get_mut(&token) else {
            while let Ok((visitor, _)) = door.listener.accept() {
                self.count += 1;
                let serial = door.token + VISITORS + self.count;
                if door.visitors.len() < VISITORS_MAX && visitor.set_nonblocking(true).is_ok() {
                    let _ = poll.add(&visitor, EpollEvent::new(EpollFlags::EPOLLIN, serial));
                    door.visitors.insert(serial, (visitor, Vec::new()));
                }
            }
            return None;
        };
        let mut buffer = [0; 1024];
        let count = stream.read(&mut buffer).unwrap_or(0);
        words.extend_from_slice(&buffer[..count]);
        let name = door.name.as_bytes();
        let knows = words.windows(name.len()).any(|part| part == name);
        if count == 0 || knows || words.len() > WORDS_MAX {
            let _ = poll.delete(&*stream);
            door.visitors.remove(&token);
        }
        knows.then_some(*step)
    }

    /// A step is over.
    pub(super) fn close(&mut self, step: StepId, poll: &Epoll) {
        if let Some(door) = self.doors.remove(&step) {
            let _ = poll.delete(&door.listener);
            for (stream, _) in door.visitors.values() {
                let _ = poll.delete(stream);
            }
        }
    }
}

/// A port of this machine, and a name that nobody can guess.
fn make() -> std::io::Result<(TcpListener, u16, String)> {
    let mut secret = [0_u8; 16];
    File::open("/dev/urandom")?.read_exact(&mut secret)?;
    let letters: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let port = listener.local_addr()?.port();
    Ok((listener, port, format!("hpc-none-{letters}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::epoll::{EpollCreateFlags, EpollTimeout};
    use std::io::Write;

    #[test]
    fn who_knows_the_name_is_a_rank_and_a_stranger_is_not() {
        let poll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap();
        let mut doors = PmixDoors::default();
        let variables = doors.open(StepId(3), 7, &poll);
        let value = |name: &str| {
            let mut known = variables.iter().filter(|(known, _)| known == name);
            known.next().unwrap().1.clone()
        };
        let place = value("PMIX_SERVER_URI41");
        let address = place.rsplit_once("//").unwrap().1.to_owned();
        let mut next = || {
            let mut events = [EpollEvent::empty(); 1];
            let count = poll
                .wait(&mut events, EpollTimeout::from(5_000_u16))
                .unwrap();
            assert_eq!(count, 1, "nothing comes");
            doors.ready(events[0].data(), &poll)
        };
        let mut stranger = TcpStream::connect(&address).unwrap();
        assert_eq!(next(), None);
        stranger.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        assert_eq!(next(), None);
        drop(stranger);
        assert_eq!(next(), None);
        let mut rank = TcpStream::connect(&address).unwrap();
        assert_eq!(next(), None);
        let words = format!("..{}\0..", value("PMIX_NAMESPACE"));
        rank.write_all(words.as_bytes()).unwrap();
        assert_eq!(next(), Some(StepId(3)));
    }
}
