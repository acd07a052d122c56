//! Whose the other end of a connection is that stays on this machine. The kernel tells for Unix sockets; of a TCP socket it
//! tells whoever asks for the socket by its addresses (`sock_diag`).

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};
use std::net::SocketAddrV4;
use std::os::fd::AsRawFd;

/// Of a message: its own head, then which sockets are asked for, or what one is like.
const HEAD: usize = 16;
const ASKED: usize = 56;
const SOCKET_OF_FAMILY: u16 = 20;
const ERROR: u16 = 2;
const IS_QUESTION: u16 = 1;
const TCP: u8 = 6;
const INTERNET: u8 = 2;
const CONNECTED: u8 = 1;
/// In an answer: where the state and the user are.
const STATE: usize = HEAD + 1;
const USER: usize = HEAD + 64;

/// Who holds the socket that is connected from `theirs` to `ours`; `None` when nobody does any more.
///
/// # Errors
/// When this kernel does not tell.
pub fn user_of(theirs: SocketAddrV4, ours: SocketAddrV4) -> Result<Option<u32>, Errno> {
    let (family, kind) = (AddressFamily::Netlink, SockType::Datagram);
    let flags = SockFlag::SOCK_CLOEXEC;
    let kernel = socket(family, kind, flags, SockProtocol::NetlinkSockDiag)?;
    let fd = kernel.as_raw_fd();
    let question = question(theirs, ours);
    sendto(
        fd,
        &question,
        &NetlinkAddr::new(0, 0),
        MsgFlags::MSG_DONTWAIT,
    )?;
    let mut answer = [0; 1024];
    // It is there before the question returns.
    let count = recv(fd, &mut answer, MsgFlags::MSG_DONTWAIT)?;
    understand(&answer[..count])
}

fn question(theirs: SocketAddrV4, ours: SocketAddrV4) -> Vec<u8> {
    let length = u32::try_from(HEAD + ASKED).unwrap_or(0);
    let mut bytes = Vec::with_capacity(HEAD + ASKED);
    bytes.extend(length.to_ne_bytes());
    bytes.extend(SOCKET_OF_FAMILY.to_ne_bytes());
    bytes.extend(IS_QUESTION.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend([INTERNET, TCP, 0, 0]);
    // In any state.
    bytes.extend(u32::MAX.to_ne_bytes());
    bytes.extend(theirs.port().to_be_bytes());
    bytes.extend(ours.port().to_be_bytes());
    for address in [theirs, ours] {
        bytes.extend(address.ip().octets());
        bytes.extend([0; 12]);
    }
    // Over any interface, and whichever socket it is.
    bytes.extend([0; 4]);
    bytes.extend([u8::MAX; 8]);
    bytes
}

fn understand(answer: &[u8]) -> Result<Option<u32>, Errno> {
    let word = |at: usize| {
        let bytes = answer.get(at..at + 4).ok_or(Errno::EBADMSG)?;
        Ok(<[u8; 4]>::try_from(bytes).unwrap_or_default())
    };
    let kind = word(4)?;
    match u16::from_ne_bytes([kind[0], kind[1]]) {
        SOCKET_OF_FAMILY => {
            // One that is closed is nobody's, and is said to be root's.
            let state = answer.get(STATE).copied();
            let user = u32::from_ne_bytes(word(USER)?);
            Ok((state == Some(CONNECTED)).then_some(user))
        }
        ERROR => match Errno::from_raw(i32::from_ne_bytes(word(HEAD)?).wrapping_neg()) {
            Errno::ENOENT => Ok(None),
            errno => Err(errno),
        },
        _ => Err(Errno::EBADMSG),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{SocketAddr, TcpListener, TcpStream};

    fn address(address: std::io::Result<SocketAddr>) -> SocketAddrV4 {
        match address.unwrap() {
            SocketAddr::V4(address) => address,
            SocketAddr::V6(address) => panic!("{address}"),
        }
    }

    #[test]
    fn the_other_end_is_ours_until_it_is_closed() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = address(listener.local_addr());
        let visitor = TcpStream::connect(ours).unwrap();
        let theirs = address(visitor.local_addr());
        let user = match user_of(theirs, ours) {
            Err(errno) => return println!("SKIPPED: this kernel does not tell: {errno}"),
            Ok(user) => user,
        };
        assert_eq!(user, Some(nix::unistd::geteuid().as_raw()));
        drop(visitor);
        assert_eq!(user_of(theirs, ours), Ok(None));
        let nobody = SocketAddrV4::new([127, 0, 0, 1].into(), 1);
        assert_eq!(user_of(nobody, ours), Ok(None));
    }

    #[test]
    fn an_answer_that_makes_no_sense_is_an_error() {
        for length in [0, 5, 17, 40] {
            assert!(understand(&vec![0; length]).is_err(), "{length}");
        }
        let mut short = vec![0; 40];
        short[4..6].copy_from_slice(&SOCKET_OF_FAMILY.to_ne_bytes());
        assert_eq!(understand(&short), Err(Errno::EBADMSG));
    }
}
