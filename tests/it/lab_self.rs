//! The lab itself: that its machines are several, that its faults are what they say, and that nothing of it is left.

use crate::lab::{BRIDGE, HOME, Host, Lab, SHARED, user_namespaces};
use crate::relay::{Faults, Way};
use crate::support::{
    MARK, PATIENCE, Running, amount, finish, is_alive, is_root, kill, kill_and_wait, marked,
    wait_until,
};
use nix::sys::signal::Signal;
use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long nothing may come for "nothing comes". A datagram takes a tenth of a millisecond here.
const SILENCE: Duration = Duration::from_millis(300);

fn udp(host: &Host) -> UdpSocket {
    let socket = host.inside(|| UdpSocket::bind("0.0.0.0:0")).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_millis(20)))
        .unwrap();
    socket
}

fn address_of(socket: &UdpSocket, host: &Host) -> SocketAddr {
    host.address(socket.local_addr().unwrap().port())
}

/// Whether datagrams come through, of which one is sent every 20 ms.
fn udp_arrives(from: &Host, to: &Host, patience: Duration) -> bool {
    let (sender, receiver) = (udp(from), udp(to));
    let begun = Instant::now();
    let mut buffer = [0; 10];
    while begun.elapsed() < patience {
        sender.send_to(b"x", address_of(&receiver, to)).unwrap();
        if receiver.recv(&mut buffer).is_ok() {
            return true;
        }
    }
    false
}

fn tcp_connects(from: &Host, to: &Host, patience: Duration) -> bool {
    let listener = to.inside(|| TcpListener::bind("0.0.0.0:0")).unwrap();
    let address = to.address(listener.local_addr().unwrap().port());
    from.inside(|| TcpStream::connect_timeout(&address, patience))
        .is_ok()
}

fn said(host: &Host, words: &[&str]) -> String {
    let answer = host.call(words);
    assert_eq!(answer.code, 0, "{words:?}: {answer:?}");
    answer.out.trim().to_owned()
}

#[test]
fn two_machines_are_two_and_reach_each_other() {
    let Some(lab) = Lab::new("two_machines_are_two_and_reach_each_other") else {
        return;
    };
    let (one, two) = (lab.host("ws1"), lab.host("ws2"));
    assert!(udp_arrives(&one, &two, PATIENCE) && udp_arrives(&two, &one, PATIENCE));
    assert!(tcp_connects(&one, &two, PATIENCE) && tcp_connects(&two, &one, PATIENCE));
    assert_eq!(
        (said(&one, &["hostname"]), said(&two, &["hostname"])),
        ("ws1".into(), "ws2".into())
    );
    for file in [
        "/etc/machine-id",
        "/etc/hostname",
        "/proc/sys/kernel/random/boot_id",
    ] {
        let both = (said(&one, &["cat", file]), said(&two, &["cat", file]));
        assert_ne!(both.0, both.1, "{file}");
    }
    assert!(said(&one, &["getent", "hosts", "ws2"]).starts_with(&two.ip().to_string()));
    // Each sees its own processes, and its own files, but for the common ones.
    assert_eq!(said(&one, &["cat", "/proc/1/comm"]), "bash");
    assert!(fs::read_dir("/proc").unwrap().count() > said(&one, &["ls", "/proc"]).lines().count());
    for place in ["/tmp", "/run", "/var/lib", "/etc", "/dev/shm", HOME] {
        let file = format!("{place}/of-one");
        // Root's directories are root's in there as well.
        if one.call(&["touch", &file]).code == 0 {
            assert_ne!(two.call(&["ls", &file]).code, 0, "{file}");
            assert!(!std::path::Path::new(&file).exists(), "{file}");
        } else {
            assert!(!lab.has_users(), "{file}");
        }
    }
    let common = format!("{SHARED}/note");
    assert_eq!(
        one.call(&["sh", "-c", &format!("echo seen > {common}")])
            .code,
        0
    );
    assert_eq!(said(&two, &["cat", &common]), "seen");
    assert_eq!(fs::read_to_string(lab.shared("note")).unwrap(), "seen\n");
    assert_eq!(two.read(&common), "seen\n");
    // What a machine has of its own, seen from here and in there.
    one.write("/etc/hpc/hpc.toml", "# of one\n");
    assert_eq!(said(&one, &["cat", "/etc/hpc/hpc.toml"]), "# of one");
    assert_ne!(two.call(&["ls", "/etc/hpc/hpc.toml"]).code, 0);
    assert_eq!(
        said(&one, &["id", "-u"]),
        if lab.has_users() {
            "0".to_owned()
        } else {
            number("HPC_LAB_UID")
        }
    );
}

fn number(variable: &str) -> String {
    std::env::var(variable).unwrap()
}

#[test]
fn a_pulled_cable_is_silent_and_can_be_put_back() {
    let Some(lab) = Lab::new("a_pulled_cable_is_silent_and_can_be_put_back") else {
        return;
    };
    let [one, two, three] = lab.hosts(&["ws1", "ws2", "ws3"]).try_into().ok().unwrap();
    assert!(udp_arrives(&one, &two, PATIENCE));
    let address = said(&one, &["ip", "-br", "-4", "address", "show", "eth0"]);
    assert!(address.contains(&one.ip().to_string()), "{address}");
    lab.cut(&one);
    assert!(!udp_arrives(&one, &two, SILENCE) && !udp_arrives(&two, &one, SILENCE));
    assert!(!tcp_connects(&two, &one, SILENCE));
    assert!(udp_arrives(&two, &three, PATIENCE));
    assert!(
        said(&one, &["ip", "-br", "-4", "address", "show", "eth0"]).contains(&one.ip().to_string())
    );
    lab.mend(&one);
    assert!(udp_arrives(&one, &two, PATIENCE) && udp_arrives(&two, &one, PATIENCE));
    assert!(tcp_connects(&two, &one, PATIENCE));
}

#[test]
fn one_way_two_ways_and_udp_alone() {
    let Some(lab) = Lab::new("one_way_two_ways_and_udp_alone") else {
        return;
    };
    let [one, two, three] = lab.hosts(&["ws1", "ws2", "ws3"]).try_into().ok().unwrap();
    // All have heard of each other: what is tested is not how they find each other.
    for host in [&two, &three] {
        assert!(udp_arrives(&one, host, PATIENCE) && udp_arrives(host, &one, PATIENCE));
    }
    lab.cut_from(&one);
    assert!(!udp_arrives(&one, &two, SILENCE));
    assert!(udp_arrives(&two, &one, PATIENCE));
    assert!(!tcp_connects(&two, &one, SILENCE));
    lab.mend(&one);
    lab.cut_to(&one);
    assert!(!udp_arrives(&two, &one, SILENCE));
    assert!(udp_arrives(&one, &two, PATIENCE));
    lab.mend(&one);
    lab.block_udp(&one);
    assert!(!udp_arrives(&one, &two, SILENCE) && !udp_arrives(&two, &one, SILENCE));
    assert!(tcp_connects(&one, &two, PATIENCE) && tcp_connects(&two, &one, PATIENCE));
    lab.mend(&one);
    lab.part(&one, &two);
    assert!(!udp_arrives(&one, &two, SILENCE) && !udp_arrives(&two, &one, SILENCE));
    assert!(!tcp_connects(&one, &two, SILENCE));
    for host in [&one, &two] {
        assert!(udp_arrives(host, &three, PATIENCE) && udp_arrives(&three, host, PATIENCE));
    }
    lab.mend(&one);
    assert!(udp_arrives(&one, &two, PATIENCE) && udp_arrives(&two, &one, PATIENCE));
}

#[test]
fn a_power_failure_ends_all_at_once_and_says_nothing() {
    let Some(lab) = Lab::new("a_power_failure_ends_all_at_once_and_says_nothing") else {
        return;
    };
    let (one, two) = (lab.host("ws1"), lab.host("ws2"));
    let bystander = Running::start(&mut two.command(&["sleep", "1000"]));
    let listener = two.inside(|| TcpListener::bind("0.0.0.0:0")).unwrap();
    let address = two.address(listener.local_addr().unwrap().port());
    let script = format!(
        "echo kept > kept; : > /dev/shm/gone; (setsid sleep 1001 &); exec 3<>/dev/tcp/{}/{}; echo up >&3; sleep 1002",
        address.ip(),
        address.port()
    );
    let mut child = one.command(&["bash", "-c", &script]).spawn().unwrap();
    let (mut stream, _) = listener.accept().unwrap();
    let mut word = [0; 3];
    stream.read_exact(&mut word).unwrap();
    assert_eq!(&word, b"up\n");
    let ids = (
        said(&one, &["cat", "/etc/machine-id"]),
        said(&one, &["cat", "/proc/sys/kernel/random/boot_id"]),
    );
    let before = lab.processes();
    let inner = Host::inner(&child);
    assert!(before.contains(&inner) && one.is_on());

    one.power_off();
    assert!(!one.is_on() && !is_alive(inner));
    assert!(!child.wait().unwrap().success());
    // Of what lived in it nothing does; the other machine's two processes and the bridge's are there.
    let bystander_inner = Host::inner(&bystander.0);
    assert!(is_alive(bystander_inner));
    let left: Vec<i32> = lab.processes();
    assert!(
        left.len() < before.len() && left.contains(&bystander_inner),
        "{before:?} {left:?}"
    );
    for number in ["1001", "1002"] {
        assert_eq!(crate::support::with_argument(number), Vec::<i32>::new());
    }
    // Its connection neither ends nor breaks: the other side has to find out by itself.
    stream.set_read_timeout(Some(SILENCE)).unwrap();
    let error = stream.read(&mut word).unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        "{error}"
    );
    // The disk can be read while it is off.
    assert_eq!(one.read(&format!("{HOME}/kept")), "kept\n");

    one.power_on();
    assert_eq!(said(&one, &["cat", "kept"]), "kept");
    assert_ne!(one.call(&["ls", "/dev/shm/gone"]).code, 0);
    let now = (
        said(&one, &["cat", "/etc/machine-id"]),
        said(&one, &["cat", "/proc/sys/kernel/random/boot_id"]),
    );
    assert!(now.0 == ids.0 && now.1 != ids.1, "{ids:?} {now:?}");
    assert!(udp_arrives(&one, &two, PATIENCE) && udp_arrives(&two, &one, PATIENCE));
    // A cable that is out stays out.
    lab.cut(&one);
    one.power_off();
    one.power_on();
    assert!(!udp_arrives(&two, &one, SILENCE));
    lab.mend(&one);
    assert!(udp_arrives(&two, &one, PATIENCE));
}

#[test]
fn a_command_ends_with_who_started_it() {
    let Some(lab) = Lab::new("a_command_ends_with_who_started_it") else {
        return;
    };
    let one = lab.host("ws1");
    assert_eq!(one.call(&["sh", "-c", "exit 7"]).code, 7);
    assert_eq!(one.call(&["sh", "-c", "kill -TERM $$"]).code, 128 + 15);
    // Orphans are collected: a daemon that has ended must not look as if it lived.
    said(&one, &["sh", "-c", "(sleep 0.01 &); (setsid sleep 0.02 &)"]);
    wait_until("no zombies are there", PATIENCE, || {
        !said(&one, &["ps", "-A", "-o", "stat="])
            .lines()
            .any(|line| line.starts_with('Z'))
    });
    let running = Running::start(&mut one.command(&["sleep", "1003"]));
    let inner = Host::inner(&running.0);
    wait_until("it sleeps", PATIENCE, || {
        crate::support::command_line(inner) == "sleep 1003"
    });
    drop(running);
    wait_until("it has ended as well", PATIENCE, || !is_alive(inner));
}

#[test]
fn a_relay_in_the_way_does_what_it_says() {
    let test = "a_relay_in_the_way_does_what_it_says";
    let Some(lab) = Lab::new(test) else {
        return;
    };
    let (one, two) = (lab.host("ws1"), lab.host("ws2"));
    let far = udp(&two);
    let to = address_of(&far, &two);
    let faults = Faults {
        loss: 200,
        delay: Duration::from_millis(10),
        jitter: Duration::from_millis(5),
        duplicate: 100,
        reorder: 100,
        seed: amount("HPC_SEED", 11),
    };
    let relay = lab.relay(to, faults);
    assert_eq!((relay.address().ip(), relay.to()), (BRIDGE, to));
    // It is unknown to both ends: the one sends to the other's address, and hears from that.
    lab.send_through(&one, &relay);
    let near = udp(&one);
    near.connect(to).unwrap();
    let begun = Instant::now();
    let mut buffer = [0; 10];
    let (mut came, mut peer) = (Vec::new(), None);
    let mut take = |patience: Duration| {
        far.set_read_timeout(Some(patience)).unwrap();
        while let Ok((length, from)) = far.recv_from(&mut buffer) {
            came.push(u32::from_le_bytes(buffer[..length].try_into().unwrap()));
            peer = Some(from);
        }
    };
    for number in 0..1000_u32 {
        near.send(&number.to_le_bytes()).unwrap();
        if number % 100 == 99 {
            take(Duration::from_millis(1));
        }
    }
    take(SILENCE);
    assert!(begun.elapsed() > faults.delay);
    let counts = relay.counts(Way::Forth);
    assert_eq!(
        (counts.received, counts.overflowed),
        (1000, 0),
        "{counts:?}"
    );
    assert!((130..270).contains(&counts.lost), "{counts:?}");
    assert!((40..130).contains(&counts.duplicated), "{counts:?}");
    assert!((40..130).contains(&counts.reordered), "{counts:?}");
    assert_eq!(came.len(), usize::try_from(counts.delivered).unwrap());
    assert_eq!(counts.delivered, 1000 - counts.lost + counts.duplicated);
    let distinct: BTreeSet<u32> = came.iter().copied().collect();
    assert_eq!(distinct.len(), usize::try_from(1000 - counts.lost).unwrap());
    assert!(!came.is_sorted());
    // And back.
    assert_eq!(peer.unwrap().ip(), BRIDGE);
    relay.set(Faults::seeded(faults.seed));
    far.send_to(b"back", peer.unwrap()).unwrap();
    near.set_read_timeout(Some(PATIENCE)).unwrap();
    let length = near.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"back");
}

#[test]
fn forty_machines_are_quick() {
    let Some(lab) = Lab::new("forty_machines_are_quick") else {
        return;
    };
    let names: Vec<String> = (1..=40).map(|number| format!("ws{number}")).collect();
    let begun = Instant::now();
    let hosts = lab.hosts(&names);
    println!("40 machines in {:?}", begun.elapsed());
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "{:?}",
        begun.elapsed()
    );
    for host in &hosts[1..] {
        assert!(udp_arrives(host, &hosts[0], PATIENCE), "{}", host.name());
    }
    assert_eq!(said(&hosts[39], &["hostname"]), "ws40");
}

/// What of this machine a lab could have changed: its mounts, interfaces and named networks.
fn outside() -> String {
    let list = |directory: &str| -> BTreeSet<String> {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        entries
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect()
    };
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mounts: BTreeSet<&str> = mounts.lines().filter(|line| line.contains("lab")).collect();
    format!(
        "{mounts:?} {:?} {:?}",
        list("/sys/class/net"),
        list("/run/netns")
    )
}

#[test]
fn nothing_of_a_lab_is_left() {
    let before = outside();
    let Some(lab) = Lab::new("nothing_of_a_lab_is_left") else {
        return;
    };
    let mark = lab.mark().to_owned();
    let hosts = lab.hosts(&["ws1", "ws2", "ws3"]);
    lab.cut(&hosts[2]);
    hosts[1].power_off();
    said(
        &hosts[0],
        &[
            "sh",
            "-c",
            "trap '' TERM HUP; (setsid sleep 1004 >&- 2>&- &)",
        ],
    );
    assert_eq!(outside(), before);
    assert!(!lab.processes().is_empty());
    drop(hosts);
    drop(lab);
    assert_eq!(marked(MARK, &mark), Vec::<i32>::new());
    assert_eq!(outside(), before);
}

#[test]
fn nothing_is_left_when_the_test_is_killed() {
    const OWNER: &str = "HPC_LAB_OWNER";
    let test = "nothing_is_left_when_the_test_is_killed";
    if std::env::var_os(OWNER).is_some() {
        let lab = Lab::new(test).expect("the other process had one");
        let hosts = lab.hosts(&["ws1", "ws2"]);
        said(
            &hosts[0],
            &[
                "sh",
                "-c",
                "trap '' TERM HUP; (setsid sleep 1005 >&- 2>&- &)",
            ],
        );
        let _running = Running::start(&mut hosts[1].command(&["sleep", "1006"]));
        println!("\nMARK {}", lab.mark());
        loop {
            std::thread::park();
        }
    }
    let before = outside();
    if Lab::new(test).is_none() {
        return;
    }
    let path = concat!(module_path!(), "::nothing_is_left_when_the_test_is_killed");
    let (_, path) = path.split_once("::").unwrap();
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", path, "--nocapture"])
        .env(OWNER, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(owner.stdout.take().unwrap()).lines();
    let mark = lines
        .map_while(Result::ok)
        .find_map(|line| line.strip_prefix("MARK ").map(str::to_owned))
        .expect("it says its mark");
    wait_until("all of it is there", PATIENCE, || {
        ["1005", "1006"]
            .iter()
            .all(|number| !crate::support::with_argument(number).is_empty())
    });
    kill_and_wait(i32::try_from(owner.id()).unwrap());
    owner.wait().unwrap();
    wait_until("nothing is left", PATIENCE, || {
        marked(MARK, &mark).is_empty()
    });
    assert_eq!(outside(), before);
}

#[test]
fn each_machine_can_have_its_own_cluster() {
    let Some(lab) = Lab::new("each_machine_can_have_its_own_cluster") else {
        return;
    };
    let hosts = lab.hosts(&["ws1", "ws2"]);
    for host in &hosts {
        host.ok(&["up", "--detach", "--cpus", "2"]);
    }
    for host in &hosts {
        assert_eq!(host.responding(), BTreeSet::from([host.name().to_owned()]));
        let out = format!("{HOME}/out");
        host.ok(&["submit", "--wait", "-o", &out, "--", "hostname"]);
        assert_eq!(host.read(&out).trim(), host.name());
        let job = host.submit(&["-o", "/dev/null", "--wrap", "exit 3"]);
        host.wait_for_state(job, "FAILED");
        assert_eq!(host.run_with(&["run", "cat"], b"hello").out, "hello");
    }
    // A power failure in the middle of a job, and the cluster comes back with what it knew.
    let one = &hosts[0];
    let job = one.submit(&["-o", "/dev/null", "--wrap", "touch begun; sleep 1007"]);
    wait_until("it runs", PATIENCE, || {
        one.path(&format!("{HOME}/begun")).exists()
    });
    one.power_off();
    one.power_on();
    one.ok(&["up", "--detach", "--cpus", "2"]);
    wait_until("its node is back", PATIENCE, || one.responding().len() == 1);
    wait_until("it is known that the job is over", PATIENCE, || {
        !["RUNNING", "COMPLETING"].contains(&one.state_of(job).as_str())
    });
    println!("after a power failure the job is {}", one.state_of(job));
    one.ok(&["cancel", "--me"]);
    for host in &hosts {
        host.ok(&["down", "--yes"]);
    }
}

#[test]
fn machines_can_disagree_about_users_needs_root() {
    let test = "machines_can_disagree_about_users_needs_root";
    if !is_root(test) {
        return;
    }
    let Some(lab) = Lab::with_users(test) else {
        return;
    };
    let hosts = lab.hosts(&["ws1", "ws2"]);
    for (host, uid) in hosts.iter().zip([4001, 4002]) {
        let line = format!("ada:x:{uid}:{uid}::{HOME}/{uid}:/bin/bash\n");
        host.write(
            "/etc/passwd",
            &format!("root:x:0:0:root:/root:/bin/bash\n{line}"),
        );
        host.write(
            "/etc/group",
            &format!("root:x:0:\nada:x:{uid}:\nlab:x:5000:ada\n"),
        );
        let ada = host.seen_by(uid, uid);
        assert_eq!(said(&ada, &["id", "-un"]), "ada");
        assert_eq!(said(&ada, &["id", "-G"]), format!("{uid} 5000"));
        assert_eq!(
            said(&ada, &["sh", "-c", "cd; touch mine; stat -c %U mine"]),
            "ada"
        );
        assert_eq!(said(host, &["id", "-u", "ada"]), uid.to_string());
        let gone = Running::start(&mut ada.command(&["sleep", "1008"]));
        let inner = Host::inner(&gone.0);
        wait_until("it sleeps", PATIENCE, || {
            crate::support::command_line(inner) == "sleep 1008"
        });
        drop(gone);
        wait_until("it has ended as well", PATIENCE, || !is_alive(inner));
    }
    // One without an account there has a number only.
    let stranger = hosts[1].seen_by(4001, 4001);
    assert_eq!(said(&stranger, &["id", "-u"]), "4001");
    assert_ne!(stranger.call(&["id", "-un"]).code, 0);
    assert_ne!(hosts[0].call(&["getent", "passwd", "4002"]).code, 0);
}

/// What the demo does with its further machines: each has a cluster, and reaches the first one.
const DEMO: &str = r#"
    set -euo pipefail
    cd "$REPOSITORY"
    source packaging/demo-hosts.sh
    trap hosts_stop EXIT
    trap 'exit 130' INT
    hosts_start 2
    for number in 1 2; do
        on_host $number hpc up --detach --cpus 1 </dev/null >/dev/null
        on_host $number hpc run sh -c 'hostname; pwd'
    done
    on_host 2 bash -c ": </dev/tcp/$(hosts_address 1)/9" || true
    if [ "$1" = stay ]; then
        on_host 1 sleep 1009
    fi
"#;

fn demo(words: &[&str], what: &str, mark: &str) -> Command {
    let (first, rest) = words.split_first().unwrap();
    let mut command = Command::new(first);
    command
        .args(rest)
        .args(["bash", "-c", DEMO, "demo", what])
        .env("REPOSITORY", env!("CARGO_MANIFEST_DIR"))
        .env("HPC", env!("CARGO_BIN_EXE_hpc"))
        .env(MARK, mark);
    command
}

fn passes(mut demo: Command) {
    let answer = finish(&mut demo, b"");
    assert_eq!(answer.code, 0, "{answer:?}");
    let here = env!("CARGO_MANIFEST_DIR");
    assert_eq!(answer.out, format!("ws1\n{here}\nws2\n{here}\n"));
    // Refused by the machine there, which is to say reached.
    assert!(answer.err.contains("Connection refused"), "{answer:?}");
}

#[test]
fn the_demos_machines_go_with_it() {
    let test = "the_demos_machines_go_with_it";
    // As whoever we are: it pretends for itself.
    if nix::unistd::geteuid().is_root() {
        if Lab::new(test).is_none() {
            return;
        }
    } else if let Err(why) = user_namespaces() {
        println!("SKIPPED: {test}: {why}");
        return;
    }
    let before = outside();
    let mark = format!("lab-{}-demo", std::process::id());
    passes(demo(&["env"], "end", &mark));
    assert_eq!(marked(MARK, &mark), Vec::<i32>::new());
    // Ctrl-C, which all in the foreground get, and an end without a word.
    for signal in [Signal::SIGINT, Signal::SIGKILL] {
        let mut command = demo(&["env"], "stay", &mark);
        let mut child = command
            .process_group(0)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        wait_until("it stays", PATIENCE, || {
            !crate::support::with_argument("1009").is_empty()
        });
        let pid = i32::try_from(child.id()).unwrap();
        kill(if signal == Signal::SIGINT { -pid } else { pid }, signal);
        let status = child.wait().unwrap();
        assert!(!status.success(), "{status}");
        wait_until("nothing is left", PATIENCE, || {
            marked(MARK, &mark).is_empty()
        });
    }
    assert_eq!(outside(), before);
}

#[test]
fn an_ordinary_user_has_a_lab_as_well_needs_root() {
    let test = "an_ordinary_user_has_a_lab_as_well_needs_root";
    if !is_root(test) {
        return;
    }
    let program = std::env::current_exe().unwrap();
    let as_nobody = || {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        command
    };
    let reachable = finish(as_nobody().args(["test", "-x"]).arg(&program), b"").code == 0;
    let possible = finish(as_nobody().args(["unshare", "--user", "true"]), b"").code == 0;
    if !reachable || !possible {
        println!("SKIPPED: {test} needs user namespaces, and a build that others can reach");
        return;
    }
    for name in [
        "two_machines_are_two_and_reach_each_other",
        "each_machine_can_have_its_own_cluster",
    ] {
        let path = format!("{}::{name}", module_path!().split_once("::").unwrap().1);
        let answer = finish(
            as_nobody()
                .arg(&program)
                .args(["--exact", &path, "--nocapture"])
                .env("HPC_LAB_REQUIRED", "1"),
            b"",
        );
        assert_eq!(answer.code, 0, "{answer:?}");
        assert!(answer.out.contains("in a user namespace"), "{answer:?}");
    }
    passes(demo(
        &[
            "setpriv",
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
        ],
        "end",
        &format!("lab-{}-demo", std::process::id()),
    ));
}

#[test]
fn a_hung_machine_does_nothing_until_it_goes_on() {
    let Some(lab) = Lab::new("a_hung_machine_does_nothing_until_it_goes_on") else {
        return;
    };
    let (one, two) = (lab.host("ws1"), lab.host("ws2"));
    let ticks = |host: &Host| {
        let path = host.path(&format!("{HOME}/ticks"));
        fs::metadata(path).map_or(0, |file| file.len())
    };
    let ticking = ["sh", "-c", "while echo >> ticks; do sleep 0.01; done"];
    let _running = [&one, &two].map(|host| Running::start(&mut host.command(&ticking)));
    let goes_on = |host: &Host| {
        let before = ticks(host);
        wait_until("it goes on", PATIENCE, || ticks(host) > before);
    };
    goes_on(&one);
    one.freeze();
    let before = ticks(&one);
    goes_on(&two);
    goes_on(&two);
    assert_eq!(ticks(&one), before);
    one.thaw();
    goes_on(&one);
}
