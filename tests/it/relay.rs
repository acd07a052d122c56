//! A relay for datagrams that behaves like a bad network: it loses, delays, doubles and reorders, all from one seed.
//!
//! What becomes of a datagram depends on the seed, the direction, its client and its number there, and on nothing
//! else: the same conversation meets the same faults. Every client gets a port of its own towards the far end, as
//! behind a home router. Every queue has a bound; what does not fit is dropped and counted, as a router does.

use crate::support::Random;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{setsockopt, sockopt};
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Datagrams that wait at most, of all clients together.
const WAITING_MAX: usize = 8192;
/// Clients at most; a further one takes the place of the one that was quiet for longest.
const CLIENTS_MAX: usize = 512;
/// A datagram that is to come late waits for the next one of its way, but no longer than this.
const HELD_MAX: Duration = Duration::from_millis(50);
/// Datagrams taken from one socket before the others have their turn.
const TURN: usize = 64;
/// What the kernel is asked to hold for us while we are not scheduled.
const KERNEL_BUFFER: usize = 4 << 20;
const DATAGRAM_MAX: usize = 65_536;

/// What happens to datagrams, in both directions. Shares are of a thousand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Faults {
    pub(crate) seed: u64,
    pub(crate) loss: u32,
    /// Every datagram takes at least this long,
    pub(crate) delay: Duration,
    /// and up to this much longer. Datagrams that follow closer than this overtake one another.
    pub(crate) jitter: Duration,
    pub(crate) duplicate: u32,
    /// Comes after the datagram that was sent after it.
    pub(crate) reorder: u32,
}

impl Faults {
    /// None yet.
    pub(crate) fn seeded(seed: u64) -> Self {
        Faults {
            seed,
            loss: 0,
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            duplicate: 0,
            reorder: 0,
        }
    }
}

/// From a client to the far end, or back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Way {
    Forth,
    Back,
}

/// What has happened so far, in one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) received: u64,
    /// Copies counted.
    pub(crate) delivered: u64,
    pub(crate) lost: u64,
    pub(crate) duplicated: u64,
    pub(crate) reordered: u64,
    /// Did not fit, here or into a socket.
    pub(crate) overflowed: u64,
}

// ---- what becomes of a datagram -----------------------------------------------------------------------------

/// What becomes of one datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fate {
    lost: bool,
    duplicated: bool,
    reordered: bool,
    /// Of each copy.
    wait: [Duration; 2],
}

/// One client's datagrams in one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Line {
    client: u64,
    way: Way,
}

fn fate(faults: &Faults, line: Line, nth: u64) -> Fate {
    let way = match line.way {
        Way::Forth => 0,
        Way::Back => 1,
    };
    // Four sequences that have nothing in common but the seed, from each an unrelated number.
    let mut random = Random::of(faults.seed);
    for word in [line.client, way, nth] {
        random = Random::of(random.from(0, u64::MAX - 1) ^ word);
    }
    // All are drawn each time: one share changes nothing about the others' luck.
    let mut happens = |share: u32| random.from(0, 999) < u64::from(share);
    let (lost, duplicated, reordered) = (
        happens(faults.loss),
        happens(faults.duplicate),
        happens(faults.reorder),
    );
    let jitter = u64::try_from(faults.jitter.as_micros()).unwrap_or(u64::MAX - 1);
    let mut wait = || faults.delay + Duration::from_micros(random.from(0, jitter));
    Fate {
        lost,
        duplicated: duplicated && !lost,
        reordered: reordered && !lost,
        wait: [wait(), wait()],
    }
}

/// Datagrams on their way. Knows neither sockets nor clock.
#[derive(Default)]
struct Queue {
    waiting: BTreeMap<Due, Parcel>,
    /// Lines whose last datagram waits for another one to pass.
    held: HashMap<Line, Due>,
    numbers: HashMap<Line, u64>,
    pushed: u64,
    counts: [Counts; 2],
}

/// When, and for equal times which first.
type Due = (Instant, u64);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Parcel {
    line: Line,
    bytes: Vec<u8>,
}

impl Queue {
    fn counts(&mut self, way: Way) -> &mut Counts {
        &mut self.counts[usize::from(way == Way::Back)]
    }

    fn push(&mut self, now: Instant, faults: &Faults, line: Line, bytes: &[u8]) {
        let number = self.numbers.entry(line).or_default();
        let fate = fate(faults, line, *number);
        *number += 1;
        self.counts(line.way).received += 1;
        if fate.lost {
            self.counts(line.way).lost += 1;
            return;
        }
        let copies = 1 + usize::from(fate.duplicated);
        if self.waiting.len() + copies > WAITING_MAX {
            self.counts(line.way).overflowed += 1;
            return;
        }
        self.counts(line.way).duplicated += u64::from(fate.duplicated);
        let passed = self.held.remove(&line);
        // One at a time: the one that would be held next lets the held one go instead.
        let holds = fate.reordered && passed.is_none();
        let mut last = now;
        for wait in &fate.wait[..copies] {
            let at = now + *wait + if holds { HELD_MAX } else { Duration::ZERO };
            last = last.max(at);
            let due = self.insert(at, line, bytes.to_vec());
            if holds {
                self.held.insert(line, due);
            }
        }
        if holds {
            self.counts(line.way).reordered += 1;
        }
        // The held one is let go right behind this one.
        if let Some(parcel) = passed.and_then(|due| self.waiting.remove(&due)) {
            self.insert(last, line, parcel.bytes);
        }
    }

    fn insert(&mut self, at: Instant, line: Line, bytes: Vec<u8>) -> Due {
        self.pushed += 1;
        let due = (at, self.pushed);
        self.waiting.insert(due, Parcel { line, bytes });
        due
    }

    fn next_due(&self) -> Option<Instant> {
        self.waiting.first_key_value().map(|((at, _), _)| *at)
    }

    fn pop(&mut self, now: Instant) -> Option<Parcel> {
        let entry = self.waiting.first_entry()?;
        if entry.key().0 > now {
            return None;
        }
        let (due, parcel) = entry.remove_entry();
        if self.held.get(&parcel.line) == Some(&due) {
            self.held.remove(&parcel.line);
        }
        Some(parcel)
    }

    fn forget(&mut self, client: u64) {
        self.waiting
            .retain(|_, parcel| parcel.line.client != client);
        self.held.retain(|line, _| line.client != client);
        self.numbers.retain(|line, _| line.client != client);
    }
}

// ---- the relay ----------------------------------------------------------------------------------------------

/// A running relay; it ends when it goes out of scope.
pub(crate) struct Relay {
    address: SocketAddr,
    to: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    faults: Mutex<Faults>,
    counts: Mutex<[Counts; 2]>,
    stop: AtomicBool,
}

impl Relay {
    /// A relay that listens at `from` (port 0: any) and passes on to `to`, in this network or in the given one.
    pub(crate) fn start(
        network: Option<File>,
        from: SocketAddr,
        to: SocketAddr,
        faults: Faults,
    ) -> Self {
        let shared = Arc::new(Shared {
            faults: Mutex::new(faults),
            counts: Mutex::default(),
            stop: AtomicBool::new(false),
        });
        let (tell, told) = channel();
        let of_thread = shared.clone();
        let thread = thread::spawn(move || {
            if let Some(network) = network {
                // The thread's own network, for good: all its sockets are there.
                setns(network, CloneFlags::CLONE_NEWNET).unwrap();
            }
            carry(from, to, &of_thread, &tell);
        });
        let address = told.recv().expect("the relay's thread says why not");
        println!("relay {address} to {to}: {faults:?}");
        Relay {
            address,
            to,
            shared,
            thread: Some(thread),
        }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it leads.
    pub(crate) fn to(&self) -> SocketAddr {
        self.to
    }

    /// Other faults from now on. What is on its way stays as it is.
    pub(crate) fn set(&self, faults: Faults) {
        println!("relay {} to {}: now {faults:?}", self.address, self.to);
        *self.shared.faults.lock().unwrap() = faults;
    }

    pub(crate) fn counts(&self, way: Way) -> Counts {
        self.shared.counts.lock().unwrap()[usize::from(way == Way::Back)]
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().unwrap().join();
        if !thread::panicking() {
            ended.expect("the relay's thread");
        }
    }
}

/// A client's port towards the far end.
struct Client {
    address: SocketAddr,
    socket: UdpSocket,
    heard: Instant,
}

fn socket(at: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind(at).unwrap_or_else(|error| panic!("relay at {at}: {error}"));
    socket.set_nonblocking(true).unwrap();
    // As much as the kernel grants.
    let _ = setsockopt(&socket, sockopt::RcvBuf, &KERNEL_BUFFER);
    socket
}

fn carry(from: SocketAddr, to: SocketAddr, shared: &Shared, tell: &Sender<SocketAddr>) {
    let front = socket(from);
    tell.send(front.local_addr().unwrap()).unwrap();
    let mut clients: BTreeMap<u64, Client> = BTreeMap::new();
    let mut queue = Queue::default();
    let mut known = 0;
    let mut buffer = vec![0; DATAGRAM_MAX];
    while !shared.stop.load(Ordering::Relaxed) {
        wait(&front, &clients, queue.next_due());
        let now = Instant::now();
        let faults = *shared.faults.lock().unwrap();
        for _ in 0..TURN {
            let Some((length, address)) = received(front.recv_from(&mut buffer)) else {
                break;
            };
            let found = clients.iter().find(|(_, client)| client.address == address);
            let id = found.map(|(id, _)| *id).unwrap_or_else(|| {
                known += 1;
                known
            });
            if !clients.contains_key(&id) {
                make_room(&mut clients, &mut queue);
                let any = SocketAddr::new(from.ip(), 0);
                let socket = socket(any);
                socket.connect(to).unwrap();
                let heard = now;
                clients.insert(
                    id,
                    Client {
                        address,
                        socket,
                        heard,
                    },
                );
            }
            if let Some(client) = clients.get_mut(&id) {
                client.heard = now;
            }
            let line = Line {
                client: id,
                way: Way::Forth,
            };
            queue.push(now, &faults, line, &buffer[..length]);
        }
        for (id, client) in &mut clients {
            for _ in 0..TURN {
                let answer = client.socket.recv(&mut buffer);
                let Some((length, ())) = received(answer.map(|length| (length, ()))) else {
                    break;
                };
                client.heard = now;
                let line = Line {
                    client: *id,
                    way: Way::Back,
                };
                queue.push(now, &faults, line, &buffer[..length]);
            }
        }
        while let Some(parcel) = queue.pop(Instant::now()) {
            deliver(&front, &clients, &mut queue, &parcel);
        }
        *shared.counts.lock().unwrap() = queue.counts;
    }
}

/// Waits for a datagram, the next one due, or a while in which nobody asked us to stop.
fn wait(front: &UdpSocket, clients: &BTreeMap<u64, Client>, due: Option<Instant>) {
    let sockets = std::iter::once(front).chain(clients.values().map(|client| &client.socket));
    let mut all: Vec<PollFd<'_>> = sockets
        .map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN))
        .collect();
    let longest = Duration::from_millis(20);
    let until_due = due.map_or(longest, |due| due.saturating_duration_since(Instant::now()));
    let milliseconds = u16::try_from(until_due.min(longest).as_micros().div_ceil(1000)).unwrap();
    match poll(&mut all, PollTimeout::from(milliseconds)) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => {}
        Err(error) => panic!("relay: poll: {error}"),
    }
}

/// What was received. A refusal of the far end is not ours to act on: nobody listens there now.
fn received<T>(result: std::io::Result<T>) -> Option<T> {
    match result {
        Ok(received) => Some(received),
        Err(error) if is_of_the_network(&error) => None,
        Err(error) => panic!("relay: receive: {error}"),
    }
}

fn is_of_the_network(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock
            | ErrorKind::Interrupted
            | ErrorKind::ConnectionRefused
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
    )
}

fn deliver(front: &UdpSocket, clients: &BTreeMap<u64, Client>, queue: &mut Queue, parcel: &Parcel) {
    let Line { client, way } = parcel.line;
    // Its client had to make room meanwhile.
    let Some(client) = clients.get(&client) else {
        return;
    };
    let sent = match way {
        Way::Forth => client.socket.send(&parcel.bytes),
        Way::Back => front.send_to(&parcel.bytes, client.address),
    };
    match sent {
        Ok(_) => queue.counts(way).delivered += 1,
        Err(error) if error.kind() == ErrorKind::WouldBlock => queue.counts(way).overflowed += 1,
        Err(error) if is_of_the_network(&error) => queue.counts(way).lost += 1,
        Err(error) => panic!("relay: send: {error}"),
    }
}

fn make_room(clients: &mut BTreeMap<u64, Client>, queue: &mut Queue) {
    if clients.len() < CLIENTS_MAX {
        return;
    }
    let quiet = clients.iter().min_by_key(|(_, client)| client.heard);
    let quiet = quiet.map(|(id, _)| *id).expect("it is full");
    clients.remove(&quiet);
    queue.forget(quiet);
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: Line = Line {
        client: 1,
        way: Way::Forth,
    };
    const MS: Duration = Duration::from_millis(1);

    fn all_faults(seed: u64) -> Faults {
        Faults {
            loss: 100,
            delay: 5 * MS,
            jitter: 3 * MS,
            duplicate: 200,
            reorder: 300,
            ..Faults::seeded(seed)
        }
    }

    /// Sends this many numbered datagrams, one each millisecond, and takes them as they are due: when, and which.
    fn play(faults: &Faults, line: Line, count: u32) -> (Vec<(Duration, u32)>, Counts) {
        let start = Instant::now();
        let mut queue = Queue::default();
        let mut out = Vec::new();
        for step in 0..count + 1000 {
            let now = start + step * MS;
            if step < count {
                queue.push(now, faults, line, &step.to_le_bytes());
            }
            while let Some(parcel) = queue.pop(now) {
                let number = u32::from_le_bytes(parcel.bytes.try_into().unwrap());
                out.push((step * MS, number));
            }
        }
        assert!(queue.waiting.is_empty() && queue.held.is_empty());
        let counts = *queue.counts(line.way);
        (out, counts)
    }

    #[test]
    fn without_faults_all_come_at_once_and_in_order() {
        let (out, counts) = play(&Faults::seeded(7), LINE, 100);
        let expected: Vec<(Duration, u32)> = (0..100).map(|step| (step * MS, step)).collect();
        assert_eq!(out, expected);
        let received = Counts {
            received: 100,
            ..Counts::default()
        };
        assert_eq!(counts, received);
    }

    #[test]
    fn the_seed_decides_and_nothing_else() {
        let faults = all_faults(42);
        let first = play(&faults, LINE, 1000);
        assert_eq!(play(&faults, LINE, 1000), first);
        assert_ne!(play(&all_faults(43), LINE, 1000).0, first.0);
        let back = Line {
            way: Way::Back,
            ..LINE
        };
        let other = Line { client: 2, ..LINE };
        assert_ne!(play(&faults, back, 1000).0, first.0);
        assert_ne!(play(&faults, other, 1000).0, first.0);
    }

    #[test]
    fn every_fault_is_as_frequent_as_asked() {
        for seed in 0..20 {
            let (out, counts) = play(&all_faults(seed), LINE, 10_000);
            let within = |count: u64, least: u64, most: u64| (least..=most).contains(&count);
            assert!(within(counts.lost, 850, 1150), "{counts:?}");
            // A lost one is neither doubled nor late.
            assert!(within(counts.duplicated, 1600, 2000), "{counts:?}");
            // One that would be late after a late one lets that one go: 0.27 / 1.3.
            assert!(within(counts.reordered, 1850, 2350), "{counts:?}");
            let copies = u64::try_from(out.len()).unwrap();
            assert_eq!(copies, 10_000 - counts.lost + counts.duplicated);
            for (at, number) in out {
                let took = at - number * MS;
                assert!(
                    took >= 5 * MS && took <= 8 * MS + HELD_MAX,
                    "{number}: {took:?}"
                );
            }
        }
    }

    #[test]
    fn one_share_changes_nothing_about_the_others_luck() {
        let lossy = Faults {
            loss: 300,
            ..Faults::seeded(5)
        };
        let more = Faults {
            duplicate: 500,
            ..lossy
        };
        for nth in 0..1000 {
            assert_eq!(fate(&lossy, LINE, nth).lost, fate(&more, LINE, nth).lost);
        }
    }

    #[test]
    fn a_late_one_comes_right_behind_the_next_or_after_a_while() {
        let always = Faults {
            reorder: 1000,
            ..Faults::seeded(1)
        };
        let order: Vec<u32> = play(&always, LINE, 6)
            .0
            .into_iter()
            .map(|(_, n)| n)
            .collect();
        assert_eq!(order, [1, 0, 3, 2, 5, 4]);
        assert_eq!(play(&always, LINE, 1).0, [(HELD_MAX, 0)]);
    }

    #[test]
    fn what_does_not_fit_is_dropped_and_counted() {
        let faults = Faults {
            delay: 1000 * MS,
            ..Faults::seeded(1)
        };
        let (now, mut queue) = (Instant::now(), Queue::default());
        for _ in 0..WAITING_MAX + 10 {
            queue.push(now, &faults, LINE, b"x");
        }
        assert_eq!(queue.waiting.len(), WAITING_MAX);
        assert_eq!(queue.counts(Way::Forth).overflowed, 10);
    }

    /// A far end that sends back whatever comes, until it hears `end`.
    fn echo() -> (SocketAddr, JoinHandle<()>) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let serve = move || {
            let mut buffer = [0; 100];
            loop {
                let (length, from) = socket.recv_from(&mut buffer).unwrap();
                if &buffer[..length] == b"end" {
                    return;
                }
                socket.send_to(&buffer[..length], from).unwrap();
            }
        };
        (address, thread::spawn(serve))
    }

    #[test]
    fn many_clients_each_get_their_own_answers() {
        let (far, server) = echo();
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let relay = Relay::start(None, listen, far, Faults::seeded(3));
        let clients: Vec<UdpSocket> = (0..100)
            .map(|_| {
                let client = UdpSocket::bind("127.0.0.1:0").unwrap();
                client
                    .set_read_timeout(Some(Duration::from_secs(10)))
                    .unwrap();
                client.connect(relay.address()).unwrap();
                client
            })
            .collect();
        let words: Vec<String> = (0..clients.len())
            .map(|number| format!("client {number}"))
            .collect();
        for (client, word) in clients.iter().zip(&words) {
            client.send(word.as_bytes()).unwrap();
        }
        for (client, word) in clients.iter().zip(&words) {
            let mut buffer = [0; 100];
            let length = client.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], word.as_bytes());
        }
        crate::support::wait_until("all are counted", Duration::from_secs(10), || {
            relay.counts(Way::Back).delivered == 100
        });
        assert_eq!(relay.counts(Way::Forth).delivered, 100);
        clients[0].send(b"end").unwrap();
        server.join().unwrap();
        // Nobody is there any more: the relay hears that, and goes on.
        clients[1].send(b"one").unwrap();
        clients[1].send(b"two").unwrap();
        crate::support::wait_until("both are through", Duration::from_secs(10), || {
            relay.counts(Way::Forth).received == 103
        });
    }

    #[test]
    fn other_faults_hold_from_when_they_are_set() {
        let (far, server) = echo();
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let relay = Relay::start(
            None,
            listen,
            far,
            Faults {
                loss: 1000,
                ..Faults::seeded(3)
            },
        );
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect(relay.address()).unwrap();
        client
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        client.send(b"lost").unwrap();
        crate::support::wait_until("it is lost", Duration::from_secs(10), || {
            relay.counts(Way::Forth).lost == 1
        });
        relay.set(Faults::seeded(3));
        client.send(b"kept").unwrap();
        let mut buffer = [0; 100];
        let length = client.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"kept");
        client.send(b"end").unwrap();
        server.join().unwrap();
    }
}
