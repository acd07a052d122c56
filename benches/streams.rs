//! `cargo bench --bench streams`: output of a run over several nodes, all of them agents on this machine, to a client
//! that throws it away: bytes a second in total, and for each kind of process its peak of memory and its cpu time,
//! beside as many bare pipes.
//!
//! `HPC_BENCH_NODES` sets the number of nodes (4), `HPC_BENCH_MB` the megabytes from each (1000). The logs take that much
//! room in the temporary directory.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program that measures and prints"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const HPC: &str = env!("CARGO_BIN_EXE_hpc");
/// Between looks at the processes: they are read as often as what they do is to be known.
const LOOK: Duration = Duration::from_millis(20);

fn number(name: &str, default: u64) -> u64 {
    let text = std::env::var(name).ok();
    text.and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// What is known of one process: its peak, and what it has used.
#[derive(Debug, Clone, Copy, Default)]
struct Used {
    peak_kib: u64,
    cpu_ms: u64,
}

fn used(pid: u32) -> Option<Used> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Behind the name: the state, then numbers, of which the 11th and 12th are user and system time.
    let mut fields = stat.rsplit(')').next()?.split_whitespace().skip(11);
    let mut time = || fields.next()?.parse::<u64>().ok();
    Some(Used {
        peak_kib: peak.split_whitespace().next()?.parse().ok()?,
        cpu_ms: (time()? + time()?) * 10,
    })
}

fn children(parent: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{parent}/task"));
    let lists = tasks.into_iter().flatten().flatten();
    let lists = lists.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    let text: Vec<String> = lists.collect();
    let pids = text.iter().flat_map(|list| list.split_whitespace());
    pids.filter_map(|pid| pid.parse().ok()).collect()
}

/// The processes of a kind, those gone included.
#[derive(Default)]
struct Kind(BTreeMap<u32, Used>);

impl Kind {
    fn look(&mut self, pids: impl IntoIterator<Item = u32>) {
        for pid in pids {
            if let Some(used) = used(pid) {
                self.0.insert(pid, used);
            }
        }
    }

    fn line(&self, name: &str, bytes_moved: u64) {
        let peak = self.0.values().map(|used| used.peak_kib).max().unwrap_or(0);
        let cpu: u64 = self.0.values().map(|used| used.cpu_ms).sum();
        println!(
            "{name:<12} {:2}  peak {:7.1} MiB   cpu {:7.2} s, {:6.2} s a GB",
            self.0.len(),
            peak as f64 / 1024.0,
            cpu as f64 / 1000.0,
            cpu as f64 / 1000.0 / (bytes_moved as f64 / 1e9)
        );
    }
}

struct Cluster {
    scratch: PathBuf,
    controller: Child,
    agents: Vec<Child>,
}

impl Cluster {
    fn start(nodes: u64) -> Self {
        let scratch =
            std::env::temp_dir().join(format!("hpc-bench-streams-{}", std::process::id()));
        let state = scratch.join("state");
        std::fs::create_dir_all(&state).expect("a scratch directory");
        let quiet = |words: &[&str]| {
            let mut command = hpc(&state, words);
            command.stdout(Stdio::null()).stderr(Stdio::null());
            command.spawn().expect("hpc starts")
        };
        let controller = quiet(&["controller"]);
        let socket = state.join("hpc.sock");
        let agents = (1..=nodes).map(|at| {
            let (name, place) = (format!("n{at}"), scratch.join(format!("n{at}")));
            std::fs::create_dir_all(&place).expect("a scratch directory");
            let place = place.to_string_lossy().into_owned();
            let socket = socket.to_string_lossy().into_owned();
            let machine = ["--name", &name, "--cpus", "1", "--memory", "1G"];
            let words = ["worker", "--state-dir", &place, "--socket", &socket];
            quiet(&[&words[..], &machine].concat())
        });
        let agents = agents.collect();
        let begun = Instant::now();
        let words = format!("{nodes}");
        loop {
            let run = hpc(&state, &["run", "-N", &words, "true"]).output();
            if run.is_ok_and(|run| run.status.success()) {
                break;
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "no cluster");
            std::thread::sleep(LOOK);
        }
        Cluster {
            scratch,
            controller,
            agents,
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = hpc(&self.scratch.join("state"), &["down", "--yes"]).output();
        for child in self.agents.iter_mut().chain([&mut self.controller]) {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = std::fs::remove_dir_all(&self.scratch);
    }
}

fn hpc(state: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(HPC);
    command
        .args(words)
        .env("HPC_STATE_DIR", state)
        .stdin(Stdio::null());
    command
}

/// As many pipes into a `cat` as there are nodes: what the machine moves without us.
fn bare(nodes: u64, task: &str) -> Duration {
    let begun = Instant::now();
    let pipe = format!("{{ {task}; }} | cat > /dev/null");
    let pipes: Vec<Child> = (0..nodes)
        .map(|_| {
            Command::new("sh")
                .args(["-c", &pipe])
                .spawn()
                .expect("sh starts")
        })
        .collect();
    for mut child in pipes {
        let _ = child.wait();
    }
    begun.elapsed()
}

fn main() {
    let (nodes, mb) = (number("HPC_BENCH_NODES", 4), number("HPC_BENCH_MB", 1000));
    let task = format!("dd if=/dev/zero bs=100000 count={} status=none", mb * 10);
    let bytes = nodes * mb * 1_000_000;
    let rate = |took: Duration| bytes as f64 / 1e6 / took.as_secs_f64();
    println!("{nodes} nodes, {mb} MB from each");
    println!("bare pipes   {:8.0} MB/s", rate(bare(nodes, &task)));
    let cluster = Cluster::start(nodes);
    let state = cluster.scratch.join("state");
    let count = nodes.to_string();
    let begun = Instant::now();
    let mut client = hpc(&state, &["run", "-N", &count, "sh", "-c", &task])
        .stdout(Stdio::null())
        .spawn()
        .expect("a client starts");
    let [mut controllers, mut agents, mut shepherds, mut clients] =
        std::array::from_fn(|_| Kind::default());
    let mut heartbeat: Vec<f64> = Vec::new();
    let status = loop {
        clients.look([client.id()]);
        controllers.look([cluster.controller.id()]);
        agents.look(cluster.agents.iter().map(Child::id));
        let below: Vec<u32> = cluster
            .agents
            .iter()
            .flat_map(|agent| children(agent.id()))
            .collect();
        shepherds.look(below);
        if let Some(status) = client.try_wait().expect("our own child") {
            break status;
        }
        // Beside it others are served: how long a question takes.
        let asked = Instant::now();
        let answer = hpc(&state, &["nodes"]).output();
        assert!(answer.is_ok_and(|answer| answer.status.success()));
        heartbeat.push(asked.elapsed().as_secs_f64() * 1000.0);
        std::thread::sleep(LOOK);
    };
    let took = begun.elapsed();
    assert!(status.success(), "the run failed: {status}");
    println!(
        "hpc run      {:8.0} MB/s   {:.1} s",
        rate(took),
        took.as_secs_f64()
    );
    clients.line("client", bytes);
    controllers.line("controller", bytes);
    agents.line("agents", bytes);
    shepherds.line("shepherds", bytes);
    heartbeat.sort_by(f64::total_cmp);
    println!(
        "`hpc nodes` meanwhile: median {:.1} ms, worst {:.1} ms",
        heartbeat.get(heartbeat.len() / 2).copied().unwrap_or(0.0),
        heartbeat.last().copied().unwrap_or(0.0)
    );
}
