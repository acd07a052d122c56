//! Several machines on one, and faults between them: `packaging/machine.sh` makes them of namespaces, this module
//! starts, cuts off, switches off and ends them. The relay that loses and delays datagrams is in `relay`.
//!
//! ```text
//!   lab0, a bridge in a network of its own (10.77.0.1; relays live here)
//!    ├─ p1 ── eth0 of `ws1`, 10.77.0.2     own network, hostname, processes, /etc, /run, /tmp, /var/lib
//!    └─ p2 ── eth0 of `ws2`, 10.77.0.3     /mnt is one directory for all
//! ```
//!
//! Every machine lives as long as our end of a pipe, so nothing outlives a test, even a killed one. Addresses are the
//! same in each lab: no lab sees another, nor the network of the real machine.
//!
//! Where a test runs as an ordinary user, `Lab::new` runs it once more in a user namespace, where it is root over the
//! lab's namespaces and nothing else; in the machines one is that user again, as on machines that one has no root on.

use crate::relay::{Faults, Relay};
use crate::support::{
    Answer, MARK, PATIENCE, children, command_line, finish, is_alive, kill, marked, pids, rows,
    wait_until,
};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The bridge's own address, where relays listen.
pub(crate) const BRIDGE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 0, 1));
/// Where commands run in a machine, and their HOME; a disk.
pub(crate) const HOME: &str = "/tmp/home";
/// The directory that all machines of a lab have in common.
pub(crate) const SHARED: &str = "/mnt";

const MACHINE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/machine.sh");
const PATH: &str = "/run/lab/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const PROGRAMS: [&str; 9] = [
    "bash", "hostname", "ip", "mount", "nft", "nsenter", "setpriv", "unshare", "env",
];
const PRETEND_ROOT: [&str; 2] = ["--user", "--map-root-user"];
/// Set by `Lab::new` for the run of a test in a user namespace: whose it is.
const PRETENDED_UID: &str = "HPC_LAB_UID";
const PRETENDED_GID: &str = "HPC_LAB_GID";
/// Set where a lab must be had, as in CI: a test without one then fails instead of being skipped.
const REQUIRED: &str = "HPC_LAB_REQUIRED";

/// Machines on one bridge.
#[derive(Clone)]
pub(crate) struct Lab(Arc<Net>);

struct Net {
    bridge: Mutex<Held>,
    pid: u32,
    mark: String,
    machines: AtomicU16,
    /// The user that a pretended root is.
    pretended: Option<(u32, u32)>,
}

/// A machine, or how one of its users sees it. It is switched off when nobody holds it any more.
#[derive(Clone)]
pub(crate) struct Host {
    machine: Arc<Machine>,
    user: Option<(u32, u32)>,
}

struct Machine {
    net: Arc<Net>,
    name: String,
    number: u16,
    power: Mutex<Power>,
    wires: Mutex<Wires>,
}

struct Power {
    /// How many times it was switched on.
    boot: u32,
    on: Option<On>,
}

struct On {
    held: Held,
    /// Its first process, as we see it.
    init: i32,
}

/// What is wrong between a machine and the bridge. Stays so over a power failure.
#[derive(Default, PartialEq, Eq)]
struct Wires {
    pulled: bool,
    from: bool,
    to: bool,
    udp: bool,
    apart: BTreeSet<IpAddr>,
    detours: Vec<(SocketAddr, SocketAddr)>,
}

impl Lab {
    /// A lab without machines, or `None` where this machine cannot have one: that is said, with the test's name.
    /// Also `None` once the test was run, and passed, in a user namespace. Call it first of all in a test.
    pub(crate) fn new(test: &str) -> Option<Self> {
        match Lab::try_new() {
            Ok(lab) => lab,
            Err(why) => {
                assert!(
                    std::env::var_os(REQUIRED).is_none(),
                    "{REQUIRED} is set, and there is no lab: {why}"
                );
                println!("SKIPPED: {test} needs a lab of network namespaces: {why}");
                None
            }
        }
    }

    fn try_new() -> Result<Option<Self>, String> {
        let missing: Vec<&str> = PROGRAMS
            .into_iter()
            .filter(|name| !is_in_path(name))
            .collect();
        if !missing.is_empty() {
            let missing = missing.join(", ");
            return Err(format!(
                "no {missing} (packaging/setup.sh test installs it)"
            ));
        }
        if !nix::unistd::geteuid().is_root() {
            run_as_pretended_root()?;
            return Ok(None);
        }
        let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let mark = format!("lab-{}-{}", std::process::id(), clock.as_nanos());
        let mut bridge = Command::new("unshare");
        bridge
            .args([
                "--net",
                "--mount",
                "--propagation",
                "private",
                MACHINE,
                "net",
            ])
            .env_clear()
            .env("PATH", PATH)
            .env(MARK, &mark);
        let bridge = Held::start(&mut bridge)?.ready()?;
        Ok(Some(Lab(Arc::new(Net {
            pid: bridge.0.id(),
            bridge: Mutex::new(bridge),
            mark,
            machines: AtomicU16::new(0),
            pretended: number(PRETENDED_UID).zip(number(PRETENDED_GID)),
        }))))
    }

    /// As [`Lab::new`], where its machines can have users of their own; `None` where that takes root.
    pub(crate) fn with_users(test: &str) -> Option<Self> {
        let lab = Lab::new(test)?;
        if lab.has_users() {
            return Some(lab);
        }
        println!("SKIPPED: {test} needs root");
        None
    }

    /// A machine of this name, switched on.
    pub(crate) fn host(&self, name: &str) -> Host {
        let [host] = self.hosts(&[name]).try_into().ok().unwrap();
        host
    }

    /// Machines of these names, started at once.
    pub(crate) fn hosts(&self, names: &[impl AsRef<str>]) -> Vec<Host> {
        let machine = |name: &str| Machine {
            net: self.0.clone(),
            name: name.to_owned(),
            number: self.0.machines.fetch_add(1, Ordering::Relaxed) + 1,
            power: Mutex::new(Power { boot: 0, on: None }),
            wires: Mutex::default(),
        };
        let machines: Vec<Machine> = names.iter().map(|name| machine(name.as_ref())).collect();
        let starting: Vec<Starting> = machines.iter().map(Machine::begin).collect();
        let switched_on = machines
            .into_iter()
            .zip(starting)
            .map(|(machine, starting)| {
                machine.finish(starting);
                let machine = Arc::new(machine);
                Host {
                    machine,
                    user: None,
                }
            });
        switched_on.collect()
    }

    /// The directory that every machine has as `/mnt`, from here.
    pub(crate) fn shared(&self, name: &str) -> PathBuf {
        self.0.disks().join("shared").join(name)
    }

    /// Whether the lab belongs to the machine's root. Else there is one user only.
    pub(crate) fn has_users(&self) -> bool {
        self.0.pretended.is_none()
    }

    // ---- faults

    /// Pulls the cable: the machine keeps its address, and nobody is told.
    pub(crate) fn cut(&self, host: &Host) {
        host.machine.change(|wires| wires.pulled = true);
    }

    /// What it sends is lost; what is sent to it arrives.
    pub(crate) fn cut_from(&self, host: &Host) {
        host.machine.change(|wires| wires.from = true);
    }

    /// What is sent to it is lost; what it sends arrives.
    pub(crate) fn cut_to(&self, host: &Host) {
        host.machine.change(|wires| wires.to = true);
    }

    /// UDP from and to it is lost, as behind a strict firewall; TCP is open.
    pub(crate) fn block_udp(&self, host: &Host) {
        host.machine.change(|wires| wires.udp = true);
    }

    /// These two do not reach each other; all others reach both.
    pub(crate) fn part(&self, one: &Host, other: &Host) {
        let address = other.ip();
        one.machine.change(|wires| {
            wires.apart.insert(address);
        });
    }

    /// Ends every fault that was set with this machine first.
    pub(crate) fn mend(&self, host: &Host) {
        host.machine.change(|wires| {
            let detours = std::mem::take(&mut wires.detours);
            *wires = Wires {
                detours,
                ..Wires::default()
            };
        });
    }

    /// A relay on the bridge: datagrams to it go on to `to`, with these faults.
    pub(crate) fn relay(&self, to: SocketAddr, faults: Faults) -> Relay {
        let network = network_of(self.0.pid);
        Relay::start(Some(network), SocketAddr::new(BRIDGE, 0), to, faults)
    }

    /// From now on the machine's datagrams to where the relay leads take the way over the relay, unknown to it.
    pub(crate) fn send_through(&self, host: &Host, relay: &Relay) {
        let detour = (relay.to(), relay.address());
        host.machine.change(|wires| wires.detours.push(detour));
    }

    /// What every process of it has in its environment, as `IT_MARK`.
    pub(crate) fn mark(&self) -> &str {
        &self.0.mark
    }

    /// Everything that lives in it.
    pub(crate) fn processes(&self) -> Vec<i32> {
        marked(MARK, &self.0.mark)
    }
}

impl Net {
    /// All disks, as they are seen from here: they are in the namespace of the bridge.
    fn disks(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root/mnt", self.pid))
    }

    fn ip(&self, words: &[&str]) -> Answer {
        finish(enter(self.pid, &["--net"]).arg("ip").args(words), b"")
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        self.bridge.lock().unwrap().end();
        let left = || marked(MARK, &self.mark);
        let begun = Instant::now();
        while !left().is_empty() && begun.elapsed() < Duration::from_secs(10) {
            thread::sleep(Duration::from_millis(5));
        }
        let left = left();
        let lines: Vec<String> = left.iter().map(|pid| command_line(*pid)).collect();
        left.iter().for_each(|pid| kill(*pid, Signal::SIGKILL));
        if !thread::panicking() {
            assert!(left.is_empty(), "left of a lab: {left:?} {lines:?}");
        }
    }
}

// ---- a machine ----------------------------------------------------------------------------------------------

struct Starting {
    held: Held,
    boot: u32,
}

impl Machine {
    fn ip(&self) -> IpAddr {
        let low = u32::from(self.number) + 1;
        let IpAddr::V4(bridge) = BRIDGE else {
            unreachable!("written above")
        };
        IpAddr::V4(Ipv4Addr::from_bits((bridge.to_bits() & 0xffff_0000) + low))
    }

    /// The bridge's end of its cable.
    fn port(&self, boot: u32) -> String {
        format!("p{}.{boot}", self.number)
    }

    fn power(&self) -> MutexGuard<'_, Power> {
        // A test that fails while it holds this is to be cleaned up as well.
        self.power
            .lock()
            .unwrap_or_else(|poison| poison.into_inner())
    }

    fn wires(&self) -> MutexGuard<'_, Wires> {
        self.wires
            .lock()
            .unwrap_or_else(|poison| poison.into_inner())
    }

    fn begin(&self) -> Starting {
        let mut power = self.power();
        assert!(power.on.is_none(), "{} is on", self.name);
        power.boot += 1;
        let mut command = enter(self.net.pid, &["--net", "--mount"]);
        command.args(["unshare", "--net", "--mount", "--uts", "--ipc", "--pid"]);
        command.args(["--fork", "--kill-child", "--propagation", "private"]);
        command.args([MACHINE, "host", &self.name]);
        command.args([&self.ip().to_string(), &self.number.to_string()]);
        command
            .arg(power.boot.to_string())
            .env("LAB_NET", self.net.pid.to_string())
            .env("LAB_PROGRAM", env!("CARGO_BIN_EXE_hpc"))
            .env(MARK, &self.net.mark);
        if let Some(mpi) = of_build("mpi") {
            command.env("LAB_KEEP", mpi);
        }
        if let Some((uid, gid)) = self.net.pretended {
            command.env("LAB_UID", uid.to_string());
            command.env("LAB_GID", gid.to_string());
        }
        Starting {
            held: Held::start(&mut command).unwrap_or_else(|why| panic!("{}: {why}", self.name)),
            boot: power.boot,
        }
    }

    fn finish(&self, starting: Starting) {
        let held = starting.held.ready();
        let held = held.unwrap_or_else(|why| panic!("{} does not start: {why}", self.name));
        let [init] = children(i32::try_from(held.0.id()).unwrap())[..] else {
            panic!("{} has no first process", self.name);
        };
        let mut power = self.power();
        assert_eq!(power.boot, starting.boot);
        power.on = Some(On { held, init });
        drop(power);
        // A new cable is as good as one can be.
        let faulty = *self.wires() != Wires::default();
        if faulty {
            self.change(|_| ());
        }
    }

    fn init(&self) -> i32 {
        let power = self.power();
        let on = power.on.as_ref();
        on.unwrap_or_else(|| panic!("{} is off", self.name)).init
    }

    /// Its living processes but the first, which is no part of what it pretends to be.
    fn processes(&self) -> Vec<i32> {
        let space = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let init = self.init();
        let own = space(init);
        let mut all = pids();
        all.retain(|pid| *pid != init && space(*pid) == own && is_alive(*pid));
        all
    }

    fn power_off(&self) {
        let mut power = self.power();
        let Some(mut on) = power.on.take() else {
            return;
        };
        // First the cable: the kernel would say goodbye for every socket of a killed process, which no machine
        // does that loses its power.
        let port = self.port(power.boot);
        self.net.ip(&["link", "set", &port, "down"]);
        kill(on.init, Signal::SIGKILL);
        on.held.end();
        // The kernel removes a network some time after its last process; the port may be gone already.
        self.net.ip(&["link", "delete", &port]);
    }

    /// Changes what is wrong with its cable, and makes it so if the machine is on.
    fn change(&self, change: impl FnOnce(&mut Wires)) {
        let mut wires = self.wires();
        change(&mut wires);
        let power = self.power();
        let Some(on) = &power.on else {
            return;
        };
        let port = self.port(power.boot);
        let init = u32::try_from(on.init).unwrap();
        let (lab_side, own_side) = wires.rules(&port, self.number);
        for (process, rules) in [(self.net.pid, lab_side), (init, own_side)] {
            let answer = finish(
                enter(process, &["--net"]).args(["nft", "-f", "-"]),
                rules.as_bytes(),
            );
            assert_eq!(answer.code, 0, "nft: {answer:?}\n{rules}");
        }
        let state = if wires.pulled { "down" } else { "up" };
        let answer = self.net.ip(&["link", "set", &port, state]);
        assert_eq!(answer.code, 0, "{answer:?}");
    }

    fn print_logs(&self) {
        let disk = self.net.disks().join("disks").join(&self.name);
        let mut directories = vec![disk.join("lib/hpc")];
        let of_user = disk.join("tmp/home/.local/state/hpc");
        let below = fs::read_dir(&of_user).into_iter().flatten().flatten();
        directories.push(of_user);
        directories.extend(below.map(|entry| entry.path()));
        for directory in directories {
            for name in [
                "controller/controller.log",
                "worker/agent.log",
                "worker/shepherd.log",
            ] {
                let Ok(text) = fs::read_to_string(directory.join(name)) else {
                    continue;
                };
                let lines: Vec<&str> = text.lines().collect();
                println!("---- {}: {name}, its last lines", self.name);
                for line in &lines[lines.len().saturating_sub(60)..] {
                    println!("{line}");
                }
            }
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if thread::panicking() {
            self.print_logs();
        }
        self.power_off();
    }
}

impl Wires {
    /// What filters at the bridge's end what it sends, and at its own end what is sent to it: dropped on arrival, so
    /// that no sender is told.
    fn rules(&self, port: &str, number: u16) -> (String, String) {
        let udp = "meta l4proto udp drop\n".to_owned();
        let (mut from, mut to) = (String::new(), String::new());
        if self.from {
            from += "drop\n";
        }
        if self.to {
            to += "drop\n";
        }
        if self.udp {
            from += &udp;
            to += &udp;
        }
        for address in &self.apart {
            writeln!(from, "ip daddr {address} drop").unwrap();
            writeln!(to, "ip saddr {address} drop").unwrap();
        }
        let detours: String = self
            .detours
            .iter()
            .fold(String::new(), |mut text, (to, over)| {
                let (ip, udp_port) = (to.ip(), to.port());
                writeln!(text, "ip daddr {ip} udp dport {udp_port} dnat to {over}").unwrap();
                text
            });
        let own = table(
            "netdev lab",
            "filter hook ingress device \"eth0\" priority 0",
            &to,
        ) + &table("ip lab_detours", "nat hook output priority -100", &detours);
        let hook = format!("filter hook ingress device \"{port}\" priority 0");
        (table(&format!("netdev lab{number}"), &hook, &from), own)
    }
}

/// An nft table of one chain, in place of the one that was there.
fn table(name: &str, hook: &str, rules: &str) -> String {
    let empty = format!("table {name}\ndelete table {name}\n");
    if rules.is_empty() {
        return empty;
    }
    format!("{empty}table {name} {{\nchain in {{\ntype {hook}; policy accept;\n{rules}}}\n}}\n")
}

impl Host {
    pub(crate) fn name(&self) -> &str {
        &self.machine.name
    }

    pub(crate) fn ip(&self) -> IpAddr {
        self.machine.ip()
    }

    pub(crate) fn address(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.ip(), port)
    }

    /// The same machine as another user sees it, with a home of its own. Needs `Lab::has_users`.
    pub(crate) fn seen_by(&self, uid: u32, gid: u32) -> Self {
        assert!(self.machine.net.pretended.is_none(), "one user only");
        let home = self.path(&home_of(uid));
        fs::create_dir_all(&home).unwrap();
        std::os::unix::fs::chown(&home, Some(uid), Some(gid)).unwrap();
        Host {
            machine: self.machine.clone(),
            user: Some((uid, gid)),
        }
    }

    // ---- commands

    /// A program with its arguments, in the machine; it ends when the test does. What is started is the program that
    /// enters, with ours as its only child: see `inner`.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let init = u32::try_from(self.machine.init()).unwrap();
        let mut command = enter(init, &["--net", "--mount", "--uts", "--ipc", "--pid"]);
        if self.machine.net.pretended.is_some() {
            command.args(["--user", "--preserve-credentials"]);
        }
        command.args(["setpriv", "--pdeathsig", "KILL"]);
        let mut home = HOME.to_owned();
        if let Some((uid, gid)) = self.user {
            command
                .arg(format!("--reuid={uid}"))
                .arg(format!("--regid={gid}"));
            let named = self
                .call_as_root(&["getent", "passwd", &uid.to_string()])
                .code
                == 0;
            command.arg(if named {
                "--init-groups"
            } else {
                "--clear-groups"
            });
            home = home_of(uid);
        }
        command
            .args(["env", "-C", &home])
            .args(words)
            .env("HOME", &home)
            .env("LANG", "C.UTF-8")
            .env("TZ", "UTC")
            .env(MARK, &self.machine.net.mark)
            .stdin(Stdio::null());
        command
    }

    fn call_as_root(&self, words: &[&str]) -> Answer {
        let root = Host {
            machine: self.machine.clone(),
            user: None,
        };
        root.call(words)
    }

    /// The process in the machine that a started `command` is, as we see it.
    pub(crate) fn inner(child: &Child) -> i32 {
        let outer = i32::try_from(child.id()).unwrap();
        let mut inner = None;
        wait_until("the command has begun", PATIENCE, || {
            inner = children(outer).first().copied();
            inner.is_some()
        });
        inner.unwrap()
    }

    /// Runs a program to its end.
    pub(crate) fn call(&self, words: &[&str]) -> Answer {
        finish(&mut self.command(words), b"")
    }

    /// `hpc` with these words.
    pub(crate) fn hpc(&self, words: &[&str]) -> Command {
        self.command(&[&["hpc"], words].concat())
    }

    /// Runs `hpc` with these words to its end.
    pub(crate) fn run(&self, words: &[&str]) -> Answer {
        finish(&mut self.hpc(words), b"")
    }

    /// Runs `hpc` with this on its standard input.
    pub(crate) fn run_with(&self, words: &[&str], input: &[u8]) -> Answer {
        finish(&mut self.hpc(words), input)
    }

    /// Runs `hpc`, which has to succeed; what it printed.
    pub(crate) fn ok(&self, words: &[&str]) -> String {
        let answer = self.run(words);
        assert_eq!(answer.code, 0, "{}: hpc {words:?}: {answer:?}", self.name());
        answer.out
    }

    pub(crate) fn json(&self, words: &[&str]) -> Value {
        serde_json::from_str(&self.ok(&[words, &["--json"]].concat())).unwrap()
    }

    /// Submits a job that has to be accepted; its number.
    pub(crate) fn submit(&self, words: &[&str]) -> u32 {
        let number = self.ok(&[&["submit", "--parsable"], words].concat());
        number.trim().parse().unwrap()
    }

    pub(crate) fn state_of(&self, job: u32) -> String {
        let job = self.json(&["job", &job.to_string()]);
        let state = job["state"].as_str();
        state.unwrap_or_else(|| panic!("{job}")).to_owned()
    }

    pub(crate) fn wait_for_state(&self, job: u32, state: &str) {
        wait_until(&format!("job {job} is {state}"), PATIENCE, || {
            self.state_of(job) == state
        });
    }

    /// Names of the nodes that respond.
    pub(crate) fn responding(&self) -> BTreeSet<String> {
        let nodes = rows(&self.json(&["nodes"]));
        let responding = nodes.iter().filter(|node| node["responding"] == true);
        responding
            .map(|node| {
                node["name"]
                    .as_str()
                    .unwrap_or_else(|| panic!("{node}"))
                    .to_owned()
            })
            .collect()
    }

    // ---- its network

    /// Does this in the machine's network: a socket made there stays there, wherever it is used.
    pub(crate) fn inside<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        let init = u32::try_from(self.machine.init()).unwrap();
        in_network(network_of(init), act)
    }

    // ---- its disks

    /// A path of the machine, from here: below /etc, /tmp, /var/lib or /mnt. Also while it is off.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        let disks = self.machine.net.disks();
        let own = disks.join("disks").join(self.name());
        let places = [
            ("/etc", own.join("etc")),
            ("/tmp", own.join("tmp")),
            ("/var/lib", own.join("lib")),
            (SHARED, disks.join("shared")),
        ];
        let found = places.into_iter().find_map(|(prefix, place)| {
            let below = Path::new(path).strip_prefix(prefix).ok()?;
            Some(place.join(below))
        });
        found.unwrap_or_else(|| panic!("{path}: not on a disk of a machine of the lab"))
    }

    /// Puts an empty disk of this many MiB at a path of the machine; until it is switched off.
    pub(crate) fn small_disk(&self, path: &str, mib: u32) {
        fs::create_dir_all(self.path(path)).unwrap();
        let init = u32::try_from(self.machine.init()).unwrap();
        let options = format!("mode=755,size={mib}m");
        let mut mount = enter(init, &["--mount"]);
        mount.args(["mount", "-t", "tmpfs", "-o", &options, "small", path]);
        let answer = finish(&mut mount, b"");
        assert_eq!(answer.code, 0, "mount: {answer:?}");
    }

    pub(crate) fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// Writes a file of the machine, for example its own /etc/passwd in place of the real machine's.
    pub(crate) fn write(&self, path: &str, text: &str) {
        let place = self.path(path);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        // A link into the real machine is replaced, never followed.
        let _ = fs::remove_file(&place);
        fs::write(place, text).unwrap();
    }

    // ---- its power

    /// Stops every process in it, as a machine that hangs: its kernel still answers, nobody else does.
    pub(crate) fn freeze(&self) {
        // What was started meanwhile by one not yet stopped is found in the next round.
        let mut stopped = BTreeSet::new();
        loop {
            let all: BTreeSet<i32> = self.machine.processes().into_iter().collect();
            if all.is_subset(&stopped) {
                return;
            }
            all.iter().for_each(|pid| kill(*pid, Signal::SIGSTOP));
            stopped = all;
        }
    }

    /// Lets it go on after `freeze`.
    pub(crate) fn thaw(&self) {
        for pid in self.machine.processes() {
            kill(pid, Signal::SIGCONT);
        }
    }

    /// Everything in it ends at once and says nothing more; its disks stay, /run and /dev/shm do not.
    pub(crate) fn power_off(&self) {
        self.machine.power_off();
    }

    /// Starts it again, with a new boot id. Nothing runs in it but what is started then.
    pub(crate) fn power_on(&self) {
        let starting = self.machine.begin();
        self.machine.finish(starting);
    }

    pub(crate) fn is_on(&self) -> bool {
        let power = self.machine.power();
        power.on.as_ref().is_some_and(|on| is_alive(on.init))
    }
}

fn home_of(uid: u32) -> String {
    format!("{HOME}/{uid}")
}

// ---- processes and namespaces -------------------------------------------------------------------------------

/// A process that lives as long as our end of its standard input.
struct Held(Child);

impl Held {
    fn start(command: &mut Command) -> Result<Self, String> {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let child = command
            .spawn()
            .map_err(|error| format!("{command:?}: {error}"))?;
        Ok(Held(child))
    }

    /// Waits until it says that it is ready; or what it says instead.
    fn ready(mut self) -> Result<Self, String> {
        let mut line = String::new();
        let mut out = BufReader::new(self.0.stdout.take().unwrap());
        let mut err = self.0.stderr.take().unwrap();
        out.read_line(&mut line)
            .map_err(|error| error.to_string())?;
        if line == "ready\n" {
            return Ok(self);
        }
        self.end();
        let mut why = String::new();
        err.read_to_string(&mut why)
            .map_err(|error| error.to_string())?;
        Err(why.trim().to_owned())
    }

    fn end(&mut self) {
        drop(self.0.stdin.take());
        // It ends by itself now.
        let _ = self.0.wait();
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.end();
    }
}

/// What an earlier step of the build left in its directory, which may be below one that a machine has for itself.
fn of_build(name: &str) -> Option<PathBuf> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent()?;
    let path = target.join(name);
    path.is_dir().then_some(path)
}

fn is_in_path(program: &str) -> bool {
    PATH.split(':')
        .any(|directory| Path::new(directory).join(program).is_file())
}

fn number(variable: &str) -> Option<u32> {
    std::env::var(variable).ok()?.parse().ok()
}

/// `nsenter` into these namespaces of a process, with the small environment that everything in a lab has.
fn enter(process: u32, namespaces: &[&str]) -> Command {
    let mut command = Command::new("nsenter");
    command
        .args(["--target", &process.to_string()])
        .args(namespaces)
        .env_clear()
        .env("PATH", PATH);
    command
}

fn network_of(process: u32) -> File {
    File::open(format!("/proc/{process}/ns/net")).unwrap()
}

/// Does this on a thread in another network.
pub(crate) fn in_network<T: Send>(network: File, act: impl FnOnce() -> T + Send) -> T {
    let there = move || {
        setns(network, CloneFlags::CLONE_NEWNET).unwrap();
        act()
    };
    thread::scope(|scope| scope.spawn(there).join())
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Whether an ordinary user may make a user namespace here; or why not.
pub(crate) fn user_namespaces() -> Result<(), String> {
    let probe = finish(Command::new("unshare").args(PRETEND_ROOT).arg("true"), b"");
    if probe.code != 0 {
        return Err(format!("user namespaces are shut: {}", probe.err.trim()));
    }
    Ok(())
}

/// Runs this test once more, as root of a user namespace of its own, and to the end.
fn run_as_pretended_root() -> Result<(), String> {
    user_namespaces()?;
    let thread = thread::current();
    let test = thread.name().expect("the harness names its threads");
    let (uid, gid) = (nix::unistd::getuid(), nix::unistd::getgid());
    let output = Command::new("unshare")
        .args(PRETEND_ROOT)
        .args(["setpriv", "--pdeathsig", "KILL"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(PRETENDED_UID, uid.to_string())
        .env(PRETENDED_GID, gid.to_string())
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    let out = String::from_utf8_lossy(&output.stdout);
    println!("{test} in a user namespace:\n{out}");
    // Also that it was this one test, and not none.
    assert!(
        output.status.success() && out.contains(" 1 passed"),
        "{test} in a user namespace"
    );
    Ok(())
}
