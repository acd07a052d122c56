//! A port for ranks that cannot inherit their PMI socket, because what starts them closes descriptors that it does not
//! know: containers do, and subprocesses of Python. Such a program is started without PMI_FD, and its MPI then takes
//! PMI_PORT and PMI_ID, which all ranks are told.
//!
//! The port is one of this machine, so strangers may come too. Only a process of the job's user counts, and only if it says
//! the number of a rank that has not spoken yet, which nobody can guess. From then on it is that rank, and its socket takes
//! the place of the one that was inherited.

use crate::steps::TaskId;
use crate::steps::pmi::{port_answer, port_hello};
use crate::sys::tcp_peer::user_of;
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use nix::sys::socket::{Backlog, listen};
use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

/// Visitors at once; others are sent away.
const VISITORS_MAX: usize = 1024;
/// Longest greeting.
const GREETING_MAX: usize = 128;
/// Tokens of visitors, beside that of the port.
const VISITORS: u64 = 1 << 40;

/// A rank that may come.
#[derive(Debug, Clone, Copy)]
struct Expected {
    task: TaskId,
    size: u32,
}

/// The port of a slot.
#[derive(Debug)]
struct Port {
    listener: TcpListener,
    number: u16,
    token: u64,
}

/// The port, once a rank has been told of it, and who may come there.
#[derive(Debug, Default)]
pub(super) struct PmiPort {
    port: Option<Port>,
    expected: BTreeMap<u32, Expected>,
    /// Who has come, and what they have said so far.
    visitors: BTreeMap<u64, (TcpStream, Vec<u8>)>,
    count: u64,
}

impl PmiPort {
    /// What tells a rank how to come; nothing where there can be no port.
    pub(super) fn expect(
        &mut self,
        task: TaskId,
        size: u32,
        token: u64,
        poll: &Epoll,
    ) -> Vec<CString> {
        match self.try_expect(task, size, token, poll) {
            Ok((port, id)) => {
                let lines = [format!("PMI_PORT=127.0.0.1:{port}"), format!("PMI_ID={id}")];
                lines
                    .into_iter()
                    .filter_map(|line| CString::new(line).ok())
                    .collect()
            }
            Err(error) => {
                tracing::warn!(%task.step, %error, "there is no port for PMI; ranks that do not inherit their socket run alone");
                Vec::new()
            }
        }
    }

    fn try_expect(
        &mut self,
        task: TaskId,
        size: u32,
        token: u64,
        poll: &Epoll,
    ) -> std::io::Result<(u16, u32)> {
        let number = match &self.port {
            Some(port) => port.number,
            None => {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
                // All ranks may come at once.
                listen(&listener, Backlog::MAXCONN)?;
                listener.set_nonblocking(true)?;
                let number = listener.local_addr()?.port();
                poll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, token))?;
                self.port = Some(Port {
                    listener,
                    number,
                    token,
                });
                number
            }
        };
        let mut random = File::open("/dev/urandom")?;
        loop {
            let mut bytes = [0; 4];
            random.read_exact(&mut bytes)?;
            // Libraries read it as a signed number.
            let id = u32::from_le_bytes(bytes) >> 1;
            if id > 0 && !self.expected.contains_key(&id) {
                self.expected.insert(id, Expected { task, size });
                return Ok((number, id));
            }
        }
    }

    /// Somebody comes, or says something; the rank that has come, and its connection.
    pub(super) fn ready(
        &mut self,
        token: u64,
        user: u32,
        may_come: impl Fn(TaskId) -> bool,
        poll: &Epoll,
    ) -> Option<(TaskId, TcpStream)> {
        if self.port.as_ref()?.token == token {
            self.let_in(user, poll);
            return None;
        }
        let (stream, said) = self.visitors.get_mut(&token)?;
        let mut buffer = [0; GREETING_MAX];
        let count = match stream.read(&mut buffer) {
            Ok(count) => count,
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) =>
            {
                return None;
            }
            Err(_) => 0,
        };
        said.extend_from_slice(&buffer[..count]);
        let whole = said.ends_with(b"\n");
        if count > 0 && !whole && said.len() < GREETING_MAX {
            return None;
        }
        let (mut stream, said) = self.visitors.remove(&token)?;
        let _ = poll.delete(&stream);
        let id = port_hello(&said).ok().filter(|_| whole)?;
        let expected = *self.expected.get(&id)?;
        if !may_come(expected.task) {
            return None;
        }
        self.expected.remove(&id);
        let answer = port_answer(expected.size, expected.task.rank);
        // It is new, so there is room for this.
        stream.write_all(answer.as_bytes()).ok()?;
        Some((expected.task, stream))
    }

    fn let_in(&mut self, user: u32, poll: &Epoll) {
        let Some(port) = &self.port else { return };
        while let Ok((visitor, from)) = port.listener.accept() {
            let ours = match (from, port.listener.local_addr()) {
                (SocketAddr::V4(theirs), Ok(SocketAddr::V4(ours))) => {
                    // A kernel that does not tell leaves it to the number.
                    user_of(theirs, ours).map_or(true, |found| found == Some(user))
                }
                _ => false,
            };
            let ready = visitor.set_nonblocking(true).is_ok() && visitor.set_nodelay(true).is_ok();
            if !ours || !ready || self.visitors.len() >= VISITORS_MAX {
                continue;
            }
            self.count += 1;
            let serial = port.token + VISITORS + self.count;
            let _ = poll.add(&visitor, EpollEvent::new(EpollFlags::EPOLLIN, serial));
            self.visitors.insert(serial, (visitor, Vec::new()));
        }
    }

    /// A rank has ended.
    pub(super) fn forget(&mut self, task: TaskId) {
        self.expected.retain(|_, expected| expected.task != task);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::StepId;
    use nix::sys::epoll::{EpollCreateFlags, EpollTimeout};

    struct Stage {
        port: PmiPort,
        poll: Epoll,
        address: String,
        id: String,
    }

    const RANK: TaskId = TaskId {
        step: StepId(0),
        rank: 3,
    };

    fn stage() -> Stage {
        let poll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap();
        let mut port = PmiPort::default();
        let lines = port.expect(RANK, 4, 7, &poll);
        let value = |at: usize| {
            let line = lines[at].to_str().unwrap();
            line.split_once('=').unwrap().1.to_owned()
        };
        let (address, id) = (value(0), value(1));
        Stage {
            port,
            poll,
            address,
            id,
        }
    }

    impl Stage {
        /// Says this at the port; who has come by it.
        fn says(&mut self, user: u32, may: bool, line: &str) -> (TcpStream, Option<TaskId>) {
            let mut client = TcpStream::connect(&self.address).unwrap();
            client.write_all(line.as_bytes()).unwrap();
            for _ in 0..2 {
                let mut events = [EpollEvent::empty(); 1];
                let patience = EpollTimeout::from(100_u16);
                if self.poll.wait(&mut events, patience).unwrap() == 0 {
                    break;
                }
                let token = events[0].data();
                let come = self.port.ready(token, user, |_| may, &self.poll);
                if let Some((task, _stream)) = come {
                    return (client, Some(task));
                }
            }
            (client, None)
        }
    }

    #[test]
    fn who_says_the_number_is_the_rank_and_only_once() {
        let mut stage = stage();
        let own = nix::unistd::getuid().as_raw();
        let right = format!("cmd=initack pmiid={}\n", stage.id);
        assert_eq!(stage.says(own, true, "cmd=initack pmiid=3\n").1, None);
        assert_eq!(stage.says(own, true, "GET / HTTP/1.1\r\n\r\n").1, None);
        assert_eq!(stage.says(own, false, &right).1, None);
        // Another user's job would not be spoken with.
        assert_eq!(stage.says(own + 1, true, &right).1, None);
        let (mut client, come) = stage.says(own, true, &right);
        assert_eq!(come, Some(RANK));
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, port_answer(4, 3));
        assert_eq!(stage.says(own, true, &right).1, None);
    }

    #[test]
    fn a_rank_that_has_ended_does_not_come() {
        let mut stage = stage();
        stage.port.forget(RANK);
        let right = format!("cmd=initack pmiid={}\n", stage.id);
        let own = nix::unistd::getuid().as_raw();
        assert_eq!(stage.says(own, true, &right).1, None);
    }
}
