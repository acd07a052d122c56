//! Clusters of several machines, each with its own network, hostname and files, and everything that may go wrong between
//! them. Nothing is shared but `/mnt`, which a test uses to look on.

use crate::lab::{Host, Lab};
use crate::relay::{Faults, Way};
use crate::support::{PATIENCE, Running, rows, wait_until};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// Starts a cluster on the first machine and has the others join, each with one line.
fn cluster(hosts: &[Host], settings: &str) {
    up(&hosts[0], settings);
    for host in &hosts[1..] {
        join(&hosts[0], host, 2);
    }
}

fn up(host: &Host, settings: &str) {
    host.write("/tmp/hpc.toml", settings);
    let words = ["up", "--detach", "--config", "/tmp/hpc.toml"];
    host.ok(&[&words[..], &machine(2)].concat());
}

/// Little memory for each cpu is declared, so that jobs wait for cpus and never for memory.
fn machine(cpus: u32) -> [&'static str; 4] {
    let cpus = match cpus {
        1 => "1",
        2 => "2",
        _ => "8",
    };
    ["--memory", "64G", "--cpus", cpus]
}

fn join(head: &Host, host: &Host, cpus: u32) {
    let line = head.ok(&["invite", "--parsable"]);
    host.ok(&[&["join", "--detach"], &machine(cpus)[..], &[line.trim()]].concat());
    wait_until("it responds", PATIENCE, || {
        head.responding().contains(host.name())
    });
}

fn names(hosts: &[Host]) -> BTreeSet<String> {
    hosts.iter().map(|host| host.name().to_owned()).collect()
}

fn node(head: &Host, name: &str) -> serde_json::Value {
    head.json(&["node", name])
}

fn responds(head: &Host, name: &str) -> bool {
    node(head, name)["responding"] == true
}

fn wait_for(head: &Host, name: &str, responding: bool) {
    wait_until(
        &format!("{name} responding: {responding}"),
        PATIENCE,
        || responds(head, name) == responding,
    );
}

/// A job that says on the common disk that it runs, ends when told there, and says that it has ended.
fn watched(head: &Host, node: &str, name: &str, more: &[&str], code: u32) -> u32 {
    let script = format!(
        "exec 9> /mnt/{name}.lock; flock -n 9 || {{ echo $SLURMD_NODENAME >> /mnt/{name}.contended; exit 99; }}; \
         echo $SLURMD_NODENAME ${{SLURM_RESTART_COUNT:-0}} >> /mnt/{name}.starts; \
         while [ ! -e /mnt/{name}.go ]; do date +%s%N >> /mnt/{name}.lives.$SLURMD_NODENAME; sleep 0.05; done; exit {code}"
    );
    head.submit(
        &[
            &["-w", node, "--kill-wait", "1", "-o", "none.%j"],
            more,
            &["--wrap", &script],
        ]
        .concat(),
    )
}

fn starts(lab: &Lab, name: &str) -> Vec<String> {
    let text = fs::read_to_string(lab.shared(&format!("{name}.starts"))).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn wait_started(lab: &Lab, name: &str) {
    wait_until(&format!("{name} has started"), PATIENCE, || {
        !starts(lab, name).is_empty()
    });
}

/// Whether no process of it is left anywhere.
fn is_over(lab: &Lab, name: &str) -> bool {
    let lock = fs::File::open(lab.shared(&format!("{name}.lock"))).unwrap();
    lock.try_lock().is_ok()
}

fn go(lab: &Lab, name: &str) {
    fs::write(lab.shared(&format!("{name}.go")), "").unwrap();
}

fn was_alone(lab: &Lab, name: &str) {
    let path = lab.shared(&format!("{name}.contended"));
    assert!(!Path::new(&path).exists(), "two copies at once");
}

/// It ended once, like this.
fn ended(head: &Host, job: u32, state: &str, code: u64, restarts: u64) {
    let history = rows(&head.json(&["history", "--limit", "0"]));
    let of_job: Vec<_> = history.iter().filter(|row| row["id"] == job).collect();
    assert_eq!(of_job.len(), 1, "{history:?}");
    let row = of_job[0];
    assert_eq!(
        (
            row["state"].as_str(),
            row["exit_code"].as_u64(),
            row["restarts"].as_u64()
        ),
        (Some(state), Some(code), Some(restarts)),
        "{row}"
    );
}

#[test]
fn four_machines_with_nothing_in_common_run_an_array_a_gang_and_streams() {
    let Some(lab) =
        Lab::new("four_machines_with_nothing_in_common_run_an_array_a_gang_and_streams")
    else {
        return;
    };
    let hosts = lab.hosts(&["ws1", "ws2", "ws3", "ws4"]);
    cluster(&hosts, "");
    let head = &hosts[0];
    assert_eq!(head.responding(), names(&hosts));
    // Submitted on one machine, spread over all.
    let array = head.submit(&[
        "--array",
        "0-15",
        "-o",
        "out.%a",
        "--wrap",
        "hostname; sleep 0.2",
    ]);
    assert_eq!(head.run(&["wait", &array.to_string()]).code, 0);
    let history = rows(&head.json(&["history", "--array", "--limit", "0"]));
    let used: BTreeSet<String> = history
        .iter()
        .filter(|row| row["id"] == array)
        .map(|row| row["nodes"][0].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(used, names(&hosts), "every machine had some of it");
    // Its output lies where it ran, and is read from here.
    for index in [0, 15] {
        let row = history
            .iter()
            .find(|row| row["id"] == array && row["array_task"] == index)
            .unwrap();
        let text = head.ok(&["logs", &format!("{array}_{index}")]);
        assert_eq!(text.trim(), row["nodes"][0].as_str().unwrap());
    }
    // A gang: both streams of all ranks, the worst code.
    let script = "read word; echo $(hostname) $word; echo oops >&2; exit $SLURM_PROCID";
    let answer = head.run_with(&["run", "-N", "4", "sh", "-c", script], b"hello\n");
    assert_eq!(answer.code, 3, "{answer:?}");
    let lines: BTreeSet<&str> = answer.out.lines().collect();
    let wanted: BTreeSet<String> = hosts
        .iter()
        .map(|host| format!("{} hello", host.name()))
        .collect();
    assert_eq!(lines, wanted.iter().map(String::as_str).collect());
    assert_eq!(answer.err.matches("oops").count(), 4, "{answer:?}");
    // A step over all machines from a script on one that is not the controller's.
    let script = "hpc run sh -c 'echo $SLURM_PROCID $(hostname)'";
    let job = head.submit(&["-N", "3", "-x", "ws1", "-o", "steps", "--wrap", script]);
    assert_eq!(
        head.run(&["wait", &job.to_string()]).code,
        0,
        "{}",
        head.ok(&["logs", &job.to_string()])
    );
    let text = head.ok(&["logs", &job.to_string()]);
    let lines: BTreeSet<&str> = text.lines().collect();
    assert_eq!(lines, ["0 ws2", "1 ws3", "2 ws4"].into_iter().collect());
    // A person at a third machine.
    let user = head.call(&["id", "-un"]).out.trim().to_owned();
    if user != "root" {
        let line = head.ok(&["invite", "--role", "user", "--user", &user, "--parsable"]);
        hosts[3].ok(&["login", "--state-dir", "/tmp/home/me", line.trim()]);
        let words = [
            "run",
            "--state-dir",
            "/tmp/home/me",
            "-w",
            "ws2",
            "hostname",
        ];
        assert_eq!(hosts[3].ok(&words), "ws2\n");
    }
}

#[test]
fn a_cut_link_leaves_jobs_alone_and_what_ends_meanwhile_is_reported() {
    let Some(lab) = Lab::new("a_cut_link_leaves_jobs_alone_and_what_ends_meanwhile_is_reported")
    else {
        return;
    };
    let hosts = lab.hosts(&["ws1", "ws2"]);
    cluster(&hosts, "node_silent_after_s = 1\n");
    let (head, far) = (&hosts[0], &hosts[1]);
    for (round, cut) in [Lab::cut, Lab::cut_from, Lab::cut_to]
        .into_iter()
        .enumerate()
    {
        let (stays, ends) = (format!("stays{round}"), format!("ends{round}"));
        let one = watched(head, "ws2", &stays, &[], 4);
        let two = watched(head, "ws2", &ends, &["--requeue"], 5);
        wait_started(&lab, &stays);
        wait_started(&lab, &ends);
        cut(&lab, far);
        wait_for(head, "ws2", false);
        assert_eq!(node(head, "ws2")["state"], "ALLOCATED", "it keeps its jobs");
        go(&lab, &ends);
        wait_until("it has ended where nobody hears it", PATIENCE, || {
            is_over(&lab, &ends)
        });
        assert_eq!(head.state_of(two), "RUNNING");
        lab.mend(far);
        wait_for(head, "ws2", true);
        head.wait_for_state(two, "FAILED");
        assert_eq!(head.state_of(one), "RUNNING");
        go(&lab, &stays);
        head.wait_for_state(one, "FAILED");
        ended(head, one, "FAILED", 4, 0);
        ended(head, two, "FAILED", 5, 0);
        assert_eq!(starts(&lab, &stays).len() + starts(&lab, &ends).len(), 2);
    }
}

#[test]
fn beyond_the_limit_a_node_is_down_and_no_job_runs_twice_at_once() {
    let Some(lab) = Lab::new("beyond_the_limit_a_node_is_down_and_no_job_runs_twice_at_once")
    else {
        return;
    };
    let hosts = lab.hosts(&["ws1", "ws2", "ws3"]);
    cluster(
        &hosts,
        "node_silent_after_s = 1\nnode_timeout_s = 5\nlease_s = 2\n",
    );
    let (head, far) = (&hosts[0], &hosts[1]);
    let plain = watched(head, "ws2", "plain", &[], 4);
    // It may go elsewhere, later.
    let again = watched(head, "ws2", "again", &["--requeue"], 6);
    wait_started(&lab, "plain");
    wait_started(&lab, "again");
    lab.cut(far);
    head.wait_for_state(plain, "NODE_FAIL");
    assert_eq!(node(head, "ws2")["state"], "DOWN");
    assert!(!is_over(&lab, "plain"), "nobody can end it there");
    // Its lease ends the other one, with nobody's word.
    wait_until("the first copy has gone", PATIENCE, || {
        is_over(&lab, "again")
    });
    head.wait_for_state(again, "PENDING");
    assert_eq!(starts(&lab, "again"), ["ws2 0"]);
    lab.mend(far);
    wait_for(head, "ws2", true);
    wait_until("the lost job's copy is ended", PATIENCE, || {
        is_over(&lab, "plain")
    });
    wait_until("it has started again", PATIENCE, || {
        starts(&lab, "again").len() == 2
    });
    go(&lab, "again");
    head.wait_for_state(again, "FAILED");
    ended(head, again, "FAILED", 6, 1);
    let history = rows(&head.json(&["history", "--limit", "0"]));
    assert_eq!(history.iter().filter(|row| row["id"] == plain).count(), 1);
    was_alone(&lab, "again");
    was_alone(&lab, "plain");
}

#[test]
fn where_udp_is_blocked_tcp_serves_and_is_shown() {
    let Some(lab) = Lab::new("where_udp_is_blocked_tcp_serves_and_is_shown") else {
        return;
    };
    let hosts = lab.hosts(&["ws1", "ws2", "ws3"]);
    up(&hosts[0], "node_silent_after_s = 2\n");
    let (head, blocked, later) = (&hosts[0], &hosts[1], &hosts[2]);
    lab.block_udp(blocked);
    join(head, blocked, 2);
    join(head, later, 2);
    assert_eq!(node(head, "ws2")["path"], "tcp");
    assert_eq!(node(head, "ws3")["path"], "quic");
    assert!(head.ok(&["node", "ws2"]).contains("over tcp, at 10.77."));
    let answer = head.run_with(
        &["run", "-w", "ws2", "sh", "-c", "cat; exit 7"],
        b"through tcp\n",
    );
    assert_eq!(
        (answer.code, answer.out.as_str()),
        (7, "through tcp\n"),
        "{answer:?}"
    );
    let inside = head.submit(&[
        "-w",
        "ws2",
        "-o",
        "out",
        "--wrap",
        "hpc queue | tail -n +2 | wc -l; hpc run hostname",
    ]);
    assert_eq!(head.run(&["wait", &inside.to_string()]).code, 0);
    assert_eq!(head.ok(&["logs", &inside.to_string()]), "1\nws2\n");
    // A firewall that comes up while a job runs.
    let job = watched(head, "ws3", "goes-on", &[], 3);
    wait_started(&lab, "goes-on");
    lab.block_udp(later);
    wait_until("it has found the other way", PATIENCE, || {
        node(head, "ws3")["path"] == "tcp"
    });
    go(&lab, "goes-on");
    head.wait_for_state(job, "FAILED");
    ended(head, job, "FAILED", 3, 0);
}

#[test]
fn a_bad_network_loses_delays_repeats_and_mixes_and_every_task_runs_once() {
    let Some(lab) =
        Lab::new("a_bad_network_loses_delays_repeats_and_mixes_and_every_task_runs_once")
    else {
        return;
    };
    let hosts = lab.hosts(&["ws1", "ws2"]);
    up(&hosts[0], "");
    let (head, far) = (&hosts[0], &hosts[1]);
    let port = head.path("/var/lib/hpc/controller/listen");
    let listen = [
        "/var/lib/hpc/controller/listen",
        "/tmp/home/.local/state/hpc",
    ];
    let port: u16 = fs::read_to_string(&port)
        .ok()
        .and_then(|text| text.trim().rsplit_once(':')?.1.parse().ok())
        .unwrap_or_else(|| {
            let text = head
                .call(&[
                    "sh",
                    "-c",
                    &format!("cat {}/*/controller/listen", listen[1]),
                ])
                .out;
            text.trim().rsplit_once(':').unwrap().1.parse().unwrap()
        });
    let relay = lab.relay(
        head.address(port),
        Faults {
            loss: 50,
            delay: Duration::from_millis(10),
            jitter: Duration::from_millis(20),
            duplicate: 50,
            reorder: 100,
            ..Faults::seeded(crate::support::amount("HPC_SEED", 20_261_125))
        },
    );
    lab.send_through(far, &relay);
    join(head, far, 2);
    assert_eq!(node(head, "ws2")["path"], "quic");
    let array = head.submit(&[
        "-w",
        "ws2",
        "--array",
        "0-99",
        "-o",
        "none",
        "--wrap",
        "echo $SLURM_ARRAY_TASK_ID >> /mnt/ran; exit $((SLURM_ARRAY_TASK_ID % 3))",
    ]);
    assert_ne!(head.run(&["wait", &array.to_string()]).code, 0);
    let text = fs::read_to_string(lab.shared("ran")).unwrap();
    let mut ran: Vec<u32> = text.lines().map(|line| line.parse().unwrap()).collect();
    ran.sort_unstable();
    assert_eq!(ran, (0..100).collect::<Vec<u32>>());
    let history = rows(&head.json(&["history", "--array", "--limit", "0"]));
    for row in history.iter().filter(|row| row["id"] == array) {
        assert_eq!(
            row["exit_code"].as_u64().unwrap(),
            row["array_task"].as_u64().unwrap() % 3,
            "{row}"
        );
    }
    // A stream of a megabyte arrives whole.
    let answer = head.run(&["run", "-w", "ws2", "sh", "-c", "seq 200000 | tee /mnt/sent"]);
    assert_eq!(answer.code, 0, "{answer:?}");
    assert_eq!(answer.out, fs::read_to_string(lab.shared("sent")).unwrap());
    let counts = relay.counts(Way::Forth);
    println!("{counts:?}");
    assert!(counts.lost > 0 && counts.duplicated > 0, "{counts:?}");
}

#[test]
fn a_frozen_machine_is_noticed_and_a_killed_agent_at_once() {
    let Some(lab) = Lab::new("a_frozen_machine_is_noticed_and_a_killed_agent_at_once") else {
        return;
    };
    let hosts = lab.hosts(&["ws1", "ws2"]);
    // The default: ten seconds of silence.
    cluster(&hosts, "");
    let (head, far) = (&hosts[0], &hosts[1]);
    let job = watched(head, "ws2", "job", &[], 2);
    wait_started(&lab, "job");
    let begun = Instant::now();
    far.freeze();
    wait_for(head, "ws2", false);
    assert!(
        begun.elapsed() <= Duration::from_millis(11_000),
        "{:?}",
        begun.elapsed()
    );
    far.thaw();
    wait_for(head, "ws2", true);
    assert_eq!(head.state_of(job), "RUNNING");
    let begun = Instant::now();
    assert_eq!(
        far.call(&["sh", "-c", "pkill -KILL -f '^[^ ]*hpc worker'"])
            .code,
        0
    );
    wait_for(head, "ws2", false);
    assert!(
        begun.elapsed() < Duration::from_secs(3),
        "{:?}",
        begun.elapsed()
    );
    // Its jobs go on, and the next agent finds them.
    let mut agent = far.hpc(&[&["worker"], &machine(2)[..]].concat());
    let _agent = Running::start(&mut agent);
    wait_for(head, "ws2", true);
    go(&lab, "job");
    head.wait_for_state(job, "FAILED");
    ended(head, job, "FAILED", 2, 0);
}

#[test]
fn a_machine_that_loses_power_comes_back_as_the_same_node_and_its_jobs_end_as_they_asked() {
    let Some(lab) = Lab::new(
        "a_machine_that_loses_power_comes_back_as_the_same_node_and_its_jobs_end_as_they_asked",
    ) else {
        return;
    };
    let hosts = lab.hosts(&["ws1", "ws2", "ws3"]);
    cluster(&hosts, "node_silent_after_s = 1\n");
    let (head, far) = (&hosts[0], &hosts[1]);
    let plain = watched(head, "ws2", "plain", &[], 4);
    let again = watched(head, "ws2", "again", &["--requeue"], 5);
    let script = "echo $SLURM_PROCID >> /mnt/gang; exec sleep 1000";
    let gang = head
        .hpc(&["run", "-N", "2", "-x", "ws1", "sh", "-c", script])
        .stderr(std::process::Stdio::null())
        .spawn();
    wait_started(&lab, "plain");
    wait_started(&lab, "again");
    drop(gang);
    far.power_off();
    wait_for(head, "ws2", false);
    far.power_on();
    let mut agent = far.hpc(&[&["worker"], &machine(2)[..]].concat());
    let _agent = Running::start(&mut agent);
    wait_for(head, "ws2", true);
    head.wait_for_state(plain, "NODE_FAIL");
    wait_until("the other runs again", PATIENCE, || {
        starts(&lab, "again").len() == 2
    });
    go(&lab, "again");
    head.wait_for_state(again, "FAILED");
    ended(head, again, "FAILED", 5, 1);
    was_alone(&lab, "again");
    assert_eq!(rows(&head.json(&["nodes"])).len(), 3);
}

#[test]
fn while_the_controllers_machine_is_gone_jobs_go_on_and_are_reported_when_it_is_back() {
    let Some(lab) = Lab::new(
        "while_the_controllers_machine_is_gone_jobs_go_on_and_are_reported_when_it_is_back",
    ) else {
        return;
    };
    let hosts = lab.hosts(&["ws1", "ws2"]);
    cluster(&hosts, "node_silent_after_s = 1\nlease_s = 600\n");
    let (head, _) = (&hosts[0], &hosts[1]);
    let ends = watched(head, "ws2", "ends", &["--requeue"], 6);
    let stays = watched(head, "ws2", "stays", &[], 7);
    let waits = head.submit(&[
        "-w",
        "ws2",
        "-n",
        "2",
        "-o",
        "none",
        "--wrap",
        "hostname >> /mnt/waits",
    ]);
    wait_started(&lab, "ends");
    wait_started(&lab, "stays");
    head.power_off();
    go(&lab, "ends");
    wait_until("it has ended", PATIENCE, || is_over(&lab, "ends"));
    head.power_on();
    up(head, "node_silent_after_s = 1\nlease_s = 600\n");
    wait_for(head, "ws2", true);
    head.wait_for_state(ends, "FAILED");
    ended(head, ends, "FAILED", 6, 0);
    assert_eq!(head.state_of(stays), "RUNNING");
    assert_eq!(head.state_of(waits), "PENDING");
    go(&lab, "stays");
    head.wait_for_state(waits, "COMPLETED");
    ended(head, stays, "FAILED", 7, 0);
    assert_eq!(fs::read_to_string(lab.shared("waits")).unwrap(), "ws2\n");
}

#[test]
fn clocks_that_are_days_off_or_jump_change_nothing() {
    let Some(lab) = Lab::new("clocks_that_are_days_off_or_jump_change_nothing") else {
        return;
    };
    // Debian's places, then Fedora's.
    let places = [
        "lib/x86_64-linux-gnu",
        "lib/aarch64-linux-gnu",
        "lib64",
        "lib",
    ];
    let libraries = places.map(|place| format!("/usr/{place}/faketime/libfaketime.so.1"));
    let Some(library) = libraries.iter().find(|path| Path::new(path).exists()) else {
        println!(
            "SKIPPED: clocks_that_are_days_off_or_jump_change_nothing needs libfaketime.so.1: packaging/setup.sh test"
        );
        return;
    };
    let hosts = lab.hosts(&["ws1", "behind", "ahead", "jumps"]);
    up(&hosts[0], "");
    let head = &hosts[0];
    fs::write(lab.shared("clock"), "+0").unwrap();
    let offset = |host: &Host| match host.name() {
        "behind" => "FAKETIME=-7d",
        "ahead" => "FAKETIME=+7d",
        _ => "FAKETIME_TIMESTAMP_FILE=/mnt/clock",
    };
    let skewed = |host: &Host, words: &[&str]| {
        let preload = format!("LD_PRELOAD={library}");
        let set = [
            &preload,
            offset(host),
            "FAKETIME_DONT_FAKE_MONOTONIC=1",
            "FAKETIME_NO_CACHE=1",
        ];
        let all = [&["env"], &set[..], words].concat();
        let answer = host.call(&all);
        assert_eq!(answer.code, 0, "{answer:?}");
        answer.out
    };
    for host in &hosts[1..] {
        let line = head.ok(&["invite", "--parsable"]);
        skewed(
            host,
            &[
                &["hpc", "join", "--detach"],
                &machine(2)[..],
                &[line.trim()],
            ]
            .concat(),
        );
        wait_until("it responds", PATIENCE, || {
            head.responding().contains(host.name())
        });
        let days = skewed(host, &["date", "+%s"])
            .trim()
            .parse::<i64>()
            .unwrap();
        let ours = i64::try_from(
            std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .unwrap()
                .as_secs(),
        )
        .unwrap();
        match host.name() {
            "behind" => assert!(
                (days - ours + 604_800).abs() < 60,
                "the clock is not behind"
            ),
            "ahead" => assert!((days - ours - 604_800).abs() < 60, "the clock is not ahead"),
            _ => {}
        }
    }
    let mut jobs = Vec::new();
    for host in &hosts[1..] {
        let name = host.name();
        jobs.push((
            name,
            head.submit(&[
                "-w",
                name,
                "-t",
                "0:02",
                "--kill-wait",
                "1",
                "-o",
                "none",
                "--wrap",
                "touch /mnt/$SLURMD_NODENAME; exec sleep 100",
            ]),
        ));
        jobs.push((
            name,
            head.submit(&["-w", name, "-o", "none", "--wrap", "sleep 1"]),
        ));
    }
    wait_until("the limit runs", PATIENCE, || lab.shared("jumps").exists());
    for jump in ["+3d", "-5d", "+0"] {
        fs::write(lab.shared("clock"), jump).unwrap();
        let answer = head.run(&["run", "-w", "jumps", "hostname"]);
        assert_eq!(
            (answer.code, answer.out.as_str()),
            (0, "jumps\n"),
            "{jump}: {answer:?}"
        );
    }
    for (name, job) in &jobs {
        wait_until(&format!("job {job} on {name} has ended"), PATIENCE, || {
            !matches!(
                head.state_of(*job).as_str(),
                "PENDING" | "RUNNING" | "COMPLETING"
            )
        });
        let view = head.json(&["job", &job.to_string()]);
        let time =
            |field: &str| -> jiff::Timestamp { view[field].as_str().unwrap().parse().unwrap() };
        let took = time("end_time")
            .duration_since(time("start_time"))
            .as_secs_f64();
        let waited = time("start_time")
            .duration_since(time("submit_time"))
            .as_secs_f64();
        assert!((0.0..20.0).contains(&waited), "{name}: {view}");
        if view["state"] == "TIMEOUT" {
            assert!(
                (2.0..3.0).contains(&took),
                "{name}: limit of 2 s, {took}: {view}"
            );
        } else {
            assert_eq!(view["state"], "COMPLETED", "{name}: {view}");
            assert!(
                (0.9..3.0).contains(&took),
                "{name}: one second, {took}: {view}"
            );
        }
        assert!(view["usage"]["cpu_s"].as_f64().unwrap() >= 0.0, "{view}");
    }
    assert_eq!(head.responding().len(), 4);
    for host in &hosts[1..] {
        host.ok(&["down"]);
    }
}

#[test]
fn needs_root_a_user_has_the_account_of_their_name_on_every_machine_whatever_its_uid() {
    let Some(lab) = Lab::with_users(
        "needs_root_a_user_has_the_account_of_their_name_on_every_machine_whatever_its_uid",
    ) else {
        return;
    };
    let hosts = lab.hosts(&["ws1", "ws2", "ws3"]);
    let accounts = |lines: &str| format!("root:x:0:0:root:/root:/bin/sh\n{lines}");
    let alice = |name: &str, uid: u32| format!("{name}:x:{uid}:{uid}::/tmp:/bin/sh\n");
    hosts[0].write("/etc/passwd", &accounts(&alice("alice", 2001)));
    hosts[1].write(
        "/etc/passwd",
        &accounts(&(alice("bob", 2001) + &alice("alice", 3001))),
    );
    hosts[2].write(
        "/etc/passwd",
        &accounts(&(alice("alice", 4001) + &alice("asmith", 4002))),
    );
    for host in &hosts {
        host.write("/etc/group", "root:x:0:\nusers:x:2001:\nothers:x:3001:\n");
    }
    up(&hosts[0], "allow_root_jobs = false\n");
    let head = &hosts[0];
    hosts[1].write("/tmp/hpc.toml", "allow_root_jobs = false\n");
    // There alice is asmith, and the account alice is somebody else's.
    hosts[2].write("/tmp/hpc.toml", "users = { alice = \"asmith\" }\n");
    for host in &hosts[1..] {
        let line = head.ok(&["invite", "--parsable"]);
        let words = ["join", "--detach", "--config", "/tmp/hpc.toml"];
        host.ok(&[&words, &machine(2)[..], &[line.trim()]].concat());
    }
    wait_until("all respond", PATIENCE, || head.responding().len() == 3);
    let person = head.seen_by(2001, 2001);
    for (name, uid) in [("ws1", "2001"), ("ws2", "3001"), ("ws3", "4002")] {
        let answer = person.run(&[
            "run",
            "-D",
            "/tmp",
            "-w",
            name,
            "sh",
            "-c",
            "id -u; echo $SLURM_JOB_UID",
        ]);
        assert_eq!(
            (answer.code, answer.out),
            (0, format!("{uid}\n{uid}\n")),
            "{name}: {}",
            answer.err
        );
    }
    let answer = head.run(&["submit", "--wrap", "true"]);
    assert_eq!(answer.code, 4, "{answer:?}");
    assert!(answer.err.contains("allow_root_jobs = false"), "{answer:?}");
    // A user of the cluster without an account on a machine.
    let line = head.ok(&["invite", "--role", "user", "--user", "carol", "--parsable"]);
    hosts[1].ok(&["login", "--state-dir", "/tmp/carol", line.trim()]);
    let words = [
        "run",
        "--state-dir",
        "/tmp/carol",
        "-D",
        "/tmp",
        "-w",
        "ws2",
        "id",
    ];
    let answer = hosts[1].run(&words);
    assert_ne!(answer.code, 0, "{answer:?}");
    assert!(
        answer
            .err
            .contains("carol has no account carol on this node"),
        "{answer:?}"
    );
}
