//! A cluster of real processes for a test: started in a directory of its own, killed and restarted at will, and
//! ended with everything of it when the test is over.
//!
//! Every process of it, also those of its jobs, has `IT_MARK` in its environment. So a test can say what is left,
//! and nothing outlives it. A cluster that goes out of scope in peace is stopped by `hpc down` and must leave
//! nothing behind; in a failing test its logs are printed.

use serde_json::Value;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Longest wait for one thing that is no work in itself.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// No command of a test runs longer.
const COMMAND_MAX: Duration = Duration::from_secs(100);
/// In the environment of every process of a test, with what tells the test from others.
pub(crate) const MARK: &str = "IT_MARK";

/// A controller and a worker, in a temporary directory.
pub(crate) struct Cluster {
    dir: Option<tempfile::TempDir>,
    state: PathBuf,
    /// Where commands run and outputs go.
    pub(crate) work: PathBuf,
    program: PathBuf,
    mark: String,
    machine: Vec<String>,
    user: Option<(u32, u32)>,
    /// Further agents and their state. They end when the jobs have: one that is killed leaves its shepherds behind.
    agents: Mutex<Vec<(Running, PathBuf)>>,
    /// Stops the cluster when the test is killed. Ended first of all when it is not.
    guard: Option<Running>,
}

impl Cluster {
    /// A running cluster of one node `n1` with this many declared cpus.
    pub(crate) fn up(cpus: u32) -> Self {
        let cluster = Cluster::prepared(cpus);
        cluster.start();
        cluster
    }

    /// The same with this configuration of its controller.
    pub(crate) fn configured(cpus: u32, config: &str) -> Self {
        let mut cluster = Cluster::prepared(cpus);
        let path = cluster.path("hpc.toml");
        fs::write(&path, config).unwrap();
        let words = ["--config".to_owned(), path.to_str().unwrap().to_owned()];
        cluster.machine.extend(words);
        cluster.start();
        cluster
    }

    /// One more agent of this machine, as another node; its state is kept from one to the next of its name. Its
    /// process.
    pub(crate) fn another_agent(&self, name: &str, cpus: u32) -> i32 {
        let (state, socket) = (self.path(name), self.socket());
        fs::create_dir_all(&state).unwrap();
        let mut command = self.hpc(&["worker", "--name", name, "--memory", "8G", "--cpus"]);
        command.arg(cpus.to_string());
        command.arg("--state-dir").arg(&state);
        command.arg("--socket").arg(socket);
        let agent = Running::start(&mut command);
        let pid = i32::try_from(agent.0.id()).unwrap();
        self.agents.lock().unwrap().push((agent, state));
        wait_until(&format!("{name} is there"), PATIENCE, || {
            let nodes = rows(&self.json(&["nodes"]));
            let responds = |node: &Value| node["name"] == name && node["responding"] == true;
            nodes.iter().any(responds)
        });
        pid
    }

    /// The directories alone.
    pub(crate) fn prepared(cpus: u32) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("hpc-it-")
            .tempdir()
            .unwrap();
        let state = dir.path().join("state");
        Cluster::at(dir, state, cpus)
    }

    /// With its state in a directory of the test's choice, below `dir`.
    pub(crate) fn at(dir: tempfile::TempDir, state: PathBuf, cpus: u32) -> Self {
        let work = dir.path().join("work");
        fs::create_dir_all(&work).unwrap();
        Cluster {
            mark: dir.path().to_string_lossy().into_owned(),
            program: PathBuf::from(env!("CARGO_BIN_EXE_hpc")),
            // Little memory for each cpu is declared, so that jobs wait for cpus and never for memory.
            machine: [
                "--name",
                "n1",
                "--memory",
                "64G",
                "--cpus",
                &cpus.to_string(),
            ]
            .map(str::to_owned)
            .to_vec(),
            agents: Mutex::default(),
            guard: Some(guard(&state)),
            dir: Some(dir),
            state,
            work,
            user: None,
        }
    }

    /// Gives the controller a configuration file; before the start.
    pub(crate) fn configure(&mut self, text: &str) {
        let file = self.path("hpc.toml");
        fs::write(&file, text).unwrap();
        let file = file.to_str().unwrap().to_owned();
        self.machine.extend(["--config".to_owned(), file]);
    }

    /// Lets other users in: their way to the program, the socket and a directory to write to.
    pub(crate) fn open_to_all(&mut self) {
        let program = self.path("hpc");
        fs::copy(&self.program, &program).unwrap();
        self.program = program;
        for (path, mode) in [
            (self.path(""), 0o755),
            (self.work.clone(), 0o1777),
            (self.program.clone(), 0o755),
        ] {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
    }

    /// The same cluster as another user sees it.
    pub(crate) fn seen_by(&self, uid: u32, gid: u32) -> Self {
        Cluster {
            dir: None,
            state: self.state.clone(),
            work: self.work.clone(),
            program: self.program.clone(),
            mark: self.mark.clone(),
            machine: Vec::new(),
            user: Some((uid, gid)),
            agents: Mutex::default(),
            guard: None,
        }
    }

    /// A line for this, such as `--role user --user alice`.
    pub(crate) fn invite(&self, words: &[&str]) -> String {
        let line = self.ok(&[&["invite", "--parsable"], words].concat());
        line.trim().to_owned()
    }

    /// Another machine, as far as one machine can be two: a state directory of its own that joins over the network.
    pub(crate) fn member(&self, name: &str, cpus: u32) -> Member {
        let member = self.stranger(name);
        let line = self.invite(&[]);
        let answer = member.join(&line, cpus);
        assert_eq!(answer.code, 0, "hpc join: {answer:?}");
        wait_until("the new node is there", PATIENCE, || {
            let nodes = rows(&self.json(&["nodes"]));
            nodes
                .iter()
                .any(|node| node["name"] == name && node["responding"] == true)
        });
        member
    }

    /// One that has not joined yet.
    pub(crate) fn stranger(&self, name: &str) -> Member {
        Member {
            name: name.to_owned(),
            cluster: Cluster {
                dir: None,
                state: self.path(name),
                work: self.work.clone(),
                program: self.program.clone(),
                mark: self.mark.clone(),
                machine: Vec::new(),
                user: self.user,
                guard: None,
                agents: Default::default(),
            },
        }
    }

    /// Somebody on a third machine, who has logged in there.
    pub(crate) fn person(&self, user: &str, role: &str) -> Member {
        let person = self.stranger(&format!("of-{user}"));
        let line = self.invite(&["--role", role, "--user", user]);
        person.ok(&["login", &line]);
        person
    }

    /// A path in the test's directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.as_ref().expect("an owner").path().join(name)
    }

    pub(crate) fn state(&self) -> &Path {
        &self.state
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.state.join("hpc.sock")
    }

    /// `hpc` of this cluster, with a small environment that does not depend on where the test runs.
    pub(crate) fn hpc(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(words)
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
            .env("HOME", &self.work)
            .env("LANG", "C.UTF-8")
            .env("TZ", "UTC")
            .env("HPC_STATE_DIR", &self.state)
            .env(MARK, &self.mark)
            .current_dir(&self.work)
            .stdin(Stdio::null());
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, words: &[&str]) -> Answer {
        finish(&mut self.hpc(words), b"")
    }

    /// Runs a command with this on its standard input.
    pub(crate) fn run_with(&self, words: &[&str], input: &[u8]) -> Answer {
        finish(&mut self.hpc(words), input)
    }

    /// Runs a command that has to succeed; what it printed.
    pub(crate) fn ok(&self, words: &[&str]) -> String {
        let answer = self.run(words);
        assert_eq!(answer.code, 0, "hpc {words:?}: {answer:?}");
        answer.out
    }

    /// Runs a command that has to be refused with this exit code; what it said.
    pub(crate) fn refused(&self, code: i32, words: &[&str]) -> String {
        let answer = self.run(words);
        assert_eq!(answer.code, code, "hpc {words:?}: {answer:?}");
        answer.err
    }

    /// Submits a job that has to be accepted; its number.
    pub(crate) fn submit(&self, words: &[&str]) -> u32 {
        let all: Vec<&str> = ["submit", "--parsable"]
            .iter()
            .chain(words)
            .copied()
            .collect();
        self.ok(&all).trim().parse().unwrap()
    }

    pub(crate) fn json(&self, words: &[&str]) -> Value {
        let all: Vec<&str> = words.iter().copied().chain(["--json"]).collect();
        serde_json::from_str(&self.ok(&all)).unwrap()
    }

    /// A job as `hpc job` has it.
    pub(crate) fn job(&self, job: u32) -> Value {
        self.json(&["job", &job.to_string()])
    }

    pub(crate) fn state_of(&self, job: u32) -> String {
        let job = self.job(job);
        job["state"]
            .as_str()
            .unwrap_or_else(|| panic!("{job}"))
            .to_owned()
    }

    pub(crate) fn wait_for_state(&self, job: u32, state: &str) {
        let over = ["PENDING", "RUNNING", "SUSPENDED", "COMPLETING"];
        wait_until(&format!("job {job} is {state}"), PATIENCE, || {
            let view = self.job(job);
            let now = view["state"].as_str().unwrap();
            let waits = over.contains(&now) || view["array_tasks"].is_string();
            assert!(waits || now == state, "waiting for {state}: {view}");
            now == state
        });
    }

    /// Waits until nothing is queued or runs.
    pub(crate) fn wait_empty(&self, patience: Duration) {
        wait_until("the queue is empty", patience, || {
            rows(&self.json(&["queue"])).is_empty()
        });
    }

    /// Every ended job and array element.
    pub(crate) fn history(&self) -> Vec<Value> {
        rows(&self.json(&["history", "--array", "--limit", "0"]))
    }

    /// A file in the working directory.
    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.work.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    pub(crate) fn exists(&self, name: &str) -> bool {
        self.work.join(name).exists()
    }

    // ---- its processes

    /// `hpc up --detach`: starts what does not run.
    pub(crate) fn start(&self) {
        let answer = self.try_start();
        assert_eq!(answer.code, 0, "hpc up: {answer:?}");
    }

    pub(crate) fn try_start(&self) -> Answer {
        let machine: Vec<&str> = self.machine.iter().map(String::as_str).collect();
        let up = ["up", "--detach", "--listen", "127.0.0.1:0"];
        self.run(&[&up, &machine[..]].concat())
    }

    /// Another node: an agent of its own on this controller, in a state directory named after it.
    pub(crate) fn join(&self, name: &str, cpus: u32) -> Running {
        let (state, socket) = (self.path(name), self.socket());
        fs::create_dir_all(&state).unwrap();
        let cpus = cpus.to_string();
        let words = [
            "worker",
            "--state-dir",
            state.to_str().unwrap(),
            "--socket",
            socket.to_str().unwrap(),
        ];
        let machine = ["--name", name, "--cpus", &cpus, "--memory", "8G"];
        let agent = Running::start(&mut self.hpc(&[&words[..], &machine].concat()));
        wait_until(&format!("{name} is there"), PATIENCE, || {
            let nodes = rows(&self.json(&["nodes"]));
            let here = |node: &Value| node["name"] == name && node["responding"] == true;
            nodes.iter().any(here)
        });
        agent
    }

    pub(crate) fn controller(&self) -> i32 {
        pid_in(&self.state.join("controller/controller.pid"))
    }

    pub(crate) fn agent(&self) -> i32 {
        pid_in(&self.state.join("worker/agent.pid"))
    }

    /// Ends the controller as a crash does.
    pub(crate) fn kill_controller(&self) {
        kill_and_wait(self.controller());
    }

    /// Ends the agent as a crash does.
    pub(crate) fn kill_agent(&self) {
        kill_and_wait(self.agent());
    }

    /// Everything that belongs to this cluster and its jobs.
    pub(crate) fn processes(&self) -> Vec<i32> {
        marked(MARK, &self.mark)
    }

    /// `hpc down`, after which nothing of the cluster may be left.
    pub(crate) fn down(&self) {
        let answer = self.run(&["down", "--yes"]);
        assert_eq!(answer.code, 0, "hpc down: {answer:?}");
        wait_until(
            "hpc down has ended everything",
            Duration::from_secs(10),
            || self.processes().is_empty(),
        );
    }

    fn print_logs(&self) {
        for name in [
            "controller/controller.log",
            "worker/agent.log",
            "worker/shepherd.log",
        ] {
            let text = fs::read_to_string(self.state.join(name)).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            println!("---- {name}, its last lines");
            for line in &lines[lines.len().saturating_sub(60)..] {
                println!("{line}");
            }
        }
        for pid in self.processes() {
            println!("---- process {pid}: {}", command_line(pid));
        }
    }
}

/// A state directory that is no controller's. What runs in it ends with the test.
pub(crate) struct Member {
    name: String,
    cluster: Cluster,
}

impl Member {
    pub(crate) fn join(&self, line: &str, cpus: u32) -> Answer {
        let cpus = cpus.to_string();
        let machine = ["--name", &self.name, "--memory", "64G", "--cpus", &cpus];
        self.run(&[&["join", "--detach"], &machine[..], &[line]].concat())
    }
}

impl std::ops::Deref for Member {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        &self.cluster
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if thread::panicking() {
            self.cluster.print_logs();
        }
        finish(&mut self.cluster.hpc(&["down", "--yes"]), b"");
    }
}

/// A process that waits for our end and then stops the cluster: a test that is killed can drop nothing.
fn guard(state: &Path) -> Running {
    let mut command = Command::new("sh");
    command
        .args(["-c", "cat > /dev/null; exec \"$0\" down --yes"])
        .arg(env!("CARGO_BIN_EXE_hpc"))
        .env("HPC_STATE_DIR", state)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // Whoever ends a test ends its process group.
        .process_group(0);
    Running::start(&mut command)
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.dir.is_none() {
            return;
        }
        self.guard = None;
        let failing = thread::panicking();
        if failing {
            self.print_logs();
        }
        let answer = finish(&mut self.hpc(&["down", "--yes"]), b"");
        let begun = Instant::now();
        // `hpc down` ends their jobs and leaves the agents of other machines alone.
        let agents = std::mem::take(self.agents.get_mut().unwrap());
        let busy = |state: &Path| {
            let slots = fs::read_dir(state.join("worker/slots"))
                .into_iter()
                .flatten();
            slots
                .flatten()
                .any(|slot| slot.path().join("sock").exists())
        };
        while agents.iter().any(|(_, state)| busy(state))
            && begun.elapsed() < Duration::from_secs(5)
        {
            thread::sleep(Duration::from_millis(10));
        }
        drop(agents);
        while !self.processes().is_empty() && begun.elapsed() < Duration::from_secs(10) {
            thread::sleep(Duration::from_millis(10));
        }
        let left: Vec<String> = self
            .processes()
            .into_iter()
            .map(|pid| format!("{pid}: {}", command_line(pid)))
            .collect();
        for _ in 0..100 {
            let pids = self.processes();
            pids.iter()
                .for_each(|pid| kill(*pid, nix::sys::signal::Signal::SIGKILL));
            if pids.is_empty() {
                break;
            }
            thread::sleep(Duration::from_millis(10));
        }
        if !failing {
            assert_eq!(answer.code, 0, "hpc down: {answer:?}");
            assert!(left.is_empty(), "left after hpc down: {left:?}");
        }
    }
}

/// What a command left.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    /// 128 + signal where one ended it.
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Runs a command to its end, or ends it when that takes too long.
pub(crate) fn finish(command: &mut Command, input: &[u8]) -> Answer {
    if !input.is_empty() {
        command.stdin(Stdio::piped());
    }
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let out = collect(child.stdout.take().unwrap());
    let err = collect(child.stderr.take().unwrap());
    if let Some(mut stdin) = child.stdin.take() {
        // Read beside it: a command that passes much on stops taking when nobody takes from it.
        stdin.write_all(input).unwrap();
    }
    let status =
        wait_child(&mut child, COMMAND_MAX).unwrap_or_else(|| panic!("does not end: {command:?}"));
    Answer {
        code: code_of(status),
        out: out.join().unwrap(),
        err: err.join().unwrap(),
    }
}

fn collect(mut pipe: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // What came before an error is worth showing.
        let _ = pipe.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Waits for a child; `None`, and its end, when it takes too long.
pub(crate) fn wait_child(child: &mut Child, patience: Duration) -> Option<ExitStatus> {
    let begun = Instant::now();
    let mut pause = Duration::from_micros(200);
    while begun.elapsed() < patience {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(10));
    }
    let _ = child.kill();
    let _ = child.wait();
    None
}

/// The exit code, or 128 + signal.
pub(crate) fn code_of(status: ExitStatus) -> i32 {
    status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// A child that ends with the test.
pub(crate) struct Running(pub(crate) Child);

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        Running(command.spawn().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until something is true.
pub(crate) fn wait_until(what: &str, patience: Duration, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    let mut pause = Duration::from_millis(2);
    while !condition() {
        assert!(
            begun.elapsed() < patience,
            "not within {patience:?}: {what}"
        );
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

/// The rows of a listing.
pub(crate) fn rows(listing: &Value) -> Vec<Value> {
    listing
        .as_array()
        .unwrap_or_else(|| panic!("not an array: {listing}"))
        .clone()
}

fn pid_in(file: &Path) -> i32 {
    let text =
        fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    text.trim()
        .parse()
        .unwrap_or_else(|_| panic!("{}: {text:?}", file.display()))
}

pub(crate) fn kill(pid: i32, signal: nix::sys::signal::Signal) {
    // Gone already is as good.
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal);
}

/// The most memory a process has had so far, in KiB.
pub(crate) fn peak_kib(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap()
}

/// SIGKILL, and until it has worked.
pub(crate) fn kill_and_wait(pid: i32) {
    kill(pid, nix::sys::signal::Signal::SIGKILL);
    wait_until(&format!("process {pid} is gone"), PATIENCE, || {
        !is_alive(pid)
    });
}

/// There, and more than a zombie that nobody has collected.
pub(crate) fn is_alive(pid: i32) -> bool {
    stat(pid).is_some_and(|(state, _)| state != 'Z' && state != 'X')
}

/// A process's state and parent.
fn stat(pid: i32) -> Option<(char, i32)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut words = text[text.rfind(')')? + 1..].split_whitespace();
    Some((words.next()?.chars().next()?, words.next()?.parse().ok()?))
}

pub(crate) fn parent(pid: i32) -> i32 {
    stat(pid)
        .unwrap_or_else(|| panic!("process {pid} is gone"))
        .1
}

pub(crate) fn command_line(pid: i32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes)
        .replace('\0', " ")
        .trim_end()
        .to_owned()
}

pub(crate) fn pids() -> Vec<i32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// Living processes with this variable in their environment.
pub(crate) fn marked(name: &str, value: &str) -> Vec<i32> {
    let line = format!("{name}={value}");
    let has = |pid: &i32| {
        let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environ
            .split(|byte| *byte == 0)
            .any(|entry| entry == line.as_bytes())
    };
    pids()
        .into_iter()
        .filter(has)
        .filter(|pid| is_alive(*pid))
        .collect()
}

/// Living processes with this word on their command line.
pub(crate) fn with_argument(word: &str) -> Vec<i32> {
    let has = |pid: &i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0)
            .any(|argument| argument == word.as_bytes())
    };
    pids()
        .into_iter()
        .filter(has)
        .filter(|pid| is_alive(*pid))
        .collect()
}

/// Its living children.
pub(crate) fn children(pid: i32) -> Vec<i32> {
    let of_it = |child: &i32| stat(*child).is_some_and(|(_, parent)| parent == pid);
    pids().into_iter().filter(of_it).collect()
}

/// Writes an executable script.
pub(crate) fn script(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// How much of a long test to do: the environment's number, or the default.
pub(crate) fn amount(variable: &str, default: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{variable}={text}: not a number")),
        Err(_) => default,
    }
}

/// Whether we are root; says on the output that a test was not run where we are not.
pub(crate) fn is_root(test: &str) -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        println!("SKIPPED: {test} needs root");
    }
    root
}

/// Small random numbers from a seed that is printed, so that a failure can be repeated.
#[derive(Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn seeded(test: &str) -> Self {
        let clock = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_nanos();
        let seed = amount("HPC_SEED", u64::try_from(clock & 0xffff_ffff).unwrap());
        println!("seed {seed}; again with: HPC_SEED={seed} cargo nextest run --test it {test}");
        Random(seed)
    }

    /// The sequence of a seed that somebody else prints.
    pub(crate) fn of(seed: u64) -> Self {
        Random(seed)
    }

    /// Another sequence, for another thread.
    pub(crate) fn fork(&mut self) -> Self {
        Random(self.next())
    }

    /// SplitMix64 (Steele, Lea, Flood 2014).
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From `least` to `most`.
    pub(crate) fn from(&mut self, least: u64, most: u64) -> u64 {
        least + self.next() % (most - least + 1)
    }

    /// A random while. The one thing that tests sleep for.
    pub(crate) fn sleep(&mut self, least_ms: u64, most_ms: u64) {
        thread::sleep(Duration::from_millis(self.from(least_ms, most_ms)));
    }
}
