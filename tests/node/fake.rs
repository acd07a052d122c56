//! A controller that says what the test wants and hears everything, and a real agent beside it.

use hpc::model::allocation::NodeShare;
use hpc::model::array::ArraySpec;
use hpc::model::ids::{BlobId, JobId, NodeId, SlotId, SlotKey};
use hpc::model::index_set::IndexSet;
use hpc::model::job::{ElementEnd, JobSpec, KillCause, Launch, Owner, Surroundings};
use hpc::model::time::Timestamp;
use hpc::wire::codec::{self, FRAME_MAX};
use hpc::wire::hello::{Hello, HelloReply, VERSION};
use hpc::wire::worker::{FromSlot, FromWorker, SlotLaunch, ToSlot, ToWorker};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// Longest wait for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A node under test: directory, agent, and the controller's end.
pub(crate) struct Node {
    pub(crate) dir: tempfile::TempDir,
    listener: UnixListener,
    agent: Option<Child>,
    stream: Option<UnixStream>,
    incoming: Option<Receiver<FromWorker>>,
    /// Slots this controller knows.
    pub(crate) known: Vec<SlotKey>,
    /// Acknowledge what must be acknowledged.
    pub(crate) acknowledge: bool,
    /// Slots that the last registration named.
    pub(crate) registered: Vec<SlotKey>,
    /// Agree on heartbeats: how long silence may last and how long a lease is, in milliseconds. Otherwise it is a
    /// controller of the build before them.
    pub(crate) terms: Option<(u64, u64)>,
}

impl Node {
    /// A directory with a listening controller and no agent yet.
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("controller.sock")).unwrap();
        std::fs::create_dir(dir.path().join("work")).unwrap();
        Node {
            dir,
            listener,
            agent: None,
            stream: None,
            incoming: None,
            known: Vec::new(),
            acknowledge: true,
            registered: Vec::new(),
            terms: None,
        }
    }

    /// With a registered agent.
    pub(crate) fn up() -> Self {
        let mut node = Node::new();
        node.start_agent();
        node.welcome();
        node
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    pub(crate) fn work(&self) -> PathBuf {
        self.dir.path().join("work")
    }

    pub(crate) fn start_agent(&mut self) {
        std::fs::create_dir_all(self.state()).unwrap();
        let agent = Command::new(env!("CARGO_BIN_EXE_hpc"))
            .arg("worker")
            .args(["--name", "n1", "--state-dir"])
            .arg(self.state())
            .arg("--socket")
            .arg(self.dir.path().join("controller.sock"))
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        self.agent = Some(agent);
    }

    /// Ends the agent as a crash does.
    pub(crate) fn kill_agent(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            agent.kill().unwrap();
            agent.wait().unwrap();
        }
        self.hang_up();
    }

    /// Tells the agent to leave, as `hpc down` does, and waits until it has; the controller has gone.
    pub(crate) fn dismiss_agent(&mut self) {
        self.hang_up();
        if let Some(mut agent) = self.agent.take() {
            let pid = nix::unistd::Pid::from_raw(i32::try_from(agent.id()).unwrap());
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGUSR1).unwrap();
            agent.wait().unwrap();
        }
    }

    /// Drops the connection, as a controller that dies.
    pub(crate) fn hang_up(&mut self) {
        if let Some(stream) = self.stream.take() {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
        self.incoming = None;
    }

    /// Takes the agent's connection and registers it.
    pub(crate) fn welcome(&mut self) {
        self.welcome_as(VERSION);
    }

    /// The same by a controller that speaks this version.
    pub(crate) fn welcome_as(&mut self, version: u16) {
        let (mut stream, _) = self.listener.accept().unwrap();
        let hello: Hello = codec::read(&mut stream, FRAME_MAX).unwrap().unwrap();
        assert_eq!(hello.agree(), Some(VERSION));
        codec::write(
            &mut stream,
            &HelloReply::Welcome {
                version,
                server: "test".into(),
            },
        )
        .unwrap();
        let first: FromWorker = codec::read(&mut stream, FRAME_MAX).unwrap().unwrap();
        let FromWorker::Register { inventory, slots } = first else {
            panic!("{first:?}")
        };
        assert_eq!(inventory.name, "n1");
        self.registered = slots;
        let (to_test, incoming) = channel();
        let mut reader = stream.try_clone().unwrap();
        std::thread::spawn(move || {
            while let Ok(Some(message)) = codec::read::<FromWorker>(&mut reader, FRAME_MAX) {
                if to_test.send(message).is_err() {
                    return;
                }
            }
        });
        self.stream = Some(stream);
        self.incoming = Some(incoming);
        if let Some((silent_after_ms, lease_ms)) = self.terms {
            self.send(ToWorker::Terms {
                silent_after_ms,
                lease_ms,
            });
        }
        let slots = self.known.clone();
        self.send(ToWorker::Registered { slots });
    }

    pub(crate) fn send(&mut self, message: ToWorker) {
        codec::write(self.stream.as_mut().unwrap(), &message).unwrap();
    }

    pub(crate) fn order(&mut self, key: SlotKey, order: ToSlot) {
        self.send(ToWorker::Slot { key, order });
    }

    pub(crate) fn launch(&mut self, launch: SlotLaunch) -> SlotKey {
        let key = launch.key;
        self.known.push(key);
        self.order(key, ToSlot::Launch(Box::new(launch)));
        key
    }

    pub(crate) fn kill(&mut self, key: SlotKey, start: u32, end: u32, cause: KillCause) {
        let positions = IndexSet::from_range(start, end);
        self.order(
            key,
            ToSlot::Kill {
                positions,
                cause,
                at_once: false,
            },
        );
    }

    /// The next message, acknowledged if it asks for that; `None` when the connection is over.
    pub(crate) fn next(&mut self) -> Option<FromWorker> {
        let message = match self.incoming.as_ref().unwrap().recv_timeout(PATIENCE) {
            Ok(message) => message,
            Err(RecvTimeoutError::Disconnected) => return None,
            Err(RecvTimeoutError::Timeout) => panic!("nothing came for {PATIENCE:?}"),
        };
        if let FromWorker::Slot { key, report } = &message
            && self.acknowledge
        {
            let report = match report {
                FromSlot::Ended { report, .. }
                | FromSlot::Retracted { report, .. }
                | FromSlot::StepEnded { report, .. } => Some(*report),
                _ => None,
            };
            if let Some(report) = report {
                self.order(*key, ToSlot::Acknowledge { report });
            }
        }
        Some(message)
    }

    /// The next message that the test wants.
    pub(crate) fn until<T>(&mut self, mut want: impl FnMut(&FromWorker) -> Option<T>) -> T {
        loop {
            let message = self.next().expect("the agent is connected");
            if let Some(found) = want(&message) {
                return found;
            }
        }
    }

    /// Ends until there are as many as this.
    pub(crate) fn ends(&mut self, count: usize) -> Vec<ElementEnd> {
        let mut all = Vec::new();
        while all.len() < count {
            all.extend(self.until(|message| match message {
                FromWorker::Slot {
                    report: FromSlot::Ended { ends, .. },
                    ..
                } => Some(ends.clone()),
                FromWorker::Slot {
                    report: FromSlot::Lost { ends, .. },
                    ..
                } => Some(ends.clone()),
                _ => None,
            }));
        }
        all
    }

    pub(crate) fn end(&mut self) -> ElementEnd {
        let mut ends = self.ends(1);
        assert_eq!(ends.len(), 1);
        ends.remove(0)
    }

    pub(crate) fn started(&mut self) {
        self.until(|message| {
            matches!(
                message,
                FromWorker::Slot {
                    report: FromSlot::Started { .. },
                    ..
                }
            )
            .then_some(())
        });
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.work().join(name))
            .unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    pub(crate) fn slot_dir(&self, key: SlotKey) -> PathBuf {
        self.state().join("worker/slots").join(key.to_string())
    }

    /// Process ids of shepherds that hold a slot of this node or are spare.
    pub(crate) fn shepherd_of(&self, key: SlotKey) -> i32 {
        let journal = self.slot_dir(key).join("journal").canonicalize().unwrap();
        pids()
            .into_iter()
            .find(|pid| holds(*pid, &journal))
            .expect("a shepherd")
    }

    /// Processes of this node's jobs.
    pub(crate) fn processes(&self) -> Vec<i32> {
        let place = std::os::unix::fs::MetadataExt::dev(
            &std::fs::metadata(self.state().join("worker")).unwrap(),
        );
        let inode = std::os::unix::fs::MetadataExt::ino(
            &std::fs::metadata(self.state().join("worker")).unwrap(),
        );
        let mark = format!("HPC_SLOT={place:x}-{inode:x}:");
        let marked = |pid: &i32| {
            let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environ
                .split(|byte| *byte == 0)
                .any(|line| line.starts_with(mark.as_bytes()))
        };
        pids().into_iter().filter(marked).collect()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(stream) = &mut self.stream {
            let _ = codec::write(stream, &ToWorker::Shutdown { keep_jobs: false });
        }
        if let Some(mut agent) = self.agent.take() {
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_secs(5) {
                if let Ok(Some(_)) = agent.try_wait() {
                    return;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            let _ = agent.kill();
            let _ = agent.wait();
        }
    }
}

fn pids() -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

fn holds(pid: i32, file: &Path) -> bool {
    let fds = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten()
        .flatten();
    fds.into_iter()
        .any(|fd| std::fs::read_link(fd.path()).is_ok_and(|target| target == file))
}

fn blob<T: serde::Serialize>(value: &T) -> (BlobId, Vec<u8>) {
    let bytes = postcard::to_allocvec(value).unwrap();
    (BlobId::of(&bytes), bytes)
}

/// A launch under construction.
pub(crate) struct Order {
    pub(crate) launch: SlotLaunch,
}

impl Order {
    fn new(
        node: &Node,
        job: u32,
        kind: impl FnOnce(&mut Vec<(BlobId, Vec<u8>)>) -> Launch,
    ) -> Self {
        let mut blobs = Vec::new();
        let launch = kind(&mut blobs);
        let around = blob(&Surroundings {
            environment: vec![
                (b"PATH".to_vec(), b"/usr/bin:/bin".to_vec()),
                (b"HOME".to_vec(), b"/tmp".to_vec()),
            ],
            umask: 0o22,
            limits: Vec::new(),
        });
        let spec = JobSpec {
            name: "test".into(),
            partition: "batch".into(),
            account: "default".into(),
            qos: "normal".into(),
            launch,
            surroundings: around.0,
            command: Default::default(),
            request: Default::default(),
            array: None,
            dependency: None,
            kill_on_invalid_dependency: false,
            begin: None,
            time_limit_s: None,
            hold: false,
            requeue: false,
            nice: 0,
            signal: None,
            work_dir: node.work().to_string_lossy().into_owned().into(),
            output: None,
            error: None,
            input: None,
            open_mode: Default::default(),
            kill_wait_s: 30,
            comment: None,
            submit_host: "here".into(),
        };
        blobs.push(around);
        let share = NodeShare {
            node: NodeId(1),
            tasks: 1,
            cpus: (0..1u16).collect(),
            memory_mib: 100,
            gpus: Vec::new(),
        };
        let user = nix::unistd::User::from_uid(nix::unistd::geteuid())
            .unwrap()
            .unwrap();
        let launch = SlotLaunch {
            key: SlotKey {
                job: JobId(job),
                slot: SlotId(0),
            },
            spec: Arc::new(spec),
            owner: Owner {
                uid: user.uid.as_raw(),
                gid: user.gid.as_raw(),
                name: user.name.into(),
            },
            cluster: "lab".into(),
            granted: Timestamp(1_000_000),
            granted_age_ms: 0,
            nodes: vec!["n1".into()],
            shares: vec![share],
            node_index: 0,
            time_limit_s: None,
            blobs,
            positions: IndexSet::from_range(0, 1),
            restarts: Vec::new(),
        };
        Order { launch }
    }

    /// A batch script.
    pub(crate) fn script(node: &Node, job: u32, text: &str) -> Self {
        Self::new(node, job, |blobs| {
            let arguments = blob(&Vec::<String>::new());
            let text = format!("#!/bin/bash\n{text}\n").into_bytes();
            let script = (BlobId::of(&text), text);
            let launch = Launch::Script {
                script: script.0,
                arguments: arguments.0,
            };
            blobs.extend([arguments, script]);
            launch
        })
    }

    /// A command without a shell.
    pub(crate) fn command(node: &Node, job: u32, words: &[&str]) -> Self {
        Self::new(node, job, |blobs| {
            let arguments = blob(
                &words
                    .iter()
                    .map(|word| (*word).to_owned())
                    .collect::<Vec<String>>(),
            );
            let launch = Launch::Command {
                arguments: arguments.0,
            };
            blobs.push(arguments);
            launch
        })
    }

    /// Attached tasks.
    pub(crate) fn tasks(node: &Node, job: u32, tasks: u32, words: &[&str]) -> Self {
        let mut order = Self::command(node, job, words);
        let Launch::Command { arguments } = order.spec().launch else {
            unreachable!()
        };
        order.spec().launch = Launch::Tasks { arguments };
        order.launch.shares[0].tasks = tasks;
        order
    }

    /// As an array with this many positions given.
    pub(crate) fn array(mut self, given: u32) -> Self {
        self.spec().array = Some(Box::new(ArraySpec::parse("0-999999", 2_000_000).unwrap()));
        self.launch.positions = IndexSet::from_range(0, given);
        self
    }

    pub(crate) fn spec(&mut self) -> &mut JobSpec {
        Arc::make_mut(&mut self.launch.spec)
    }
}

/// Waits until something is true.
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
