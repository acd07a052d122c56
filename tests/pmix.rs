//! The server of PMIx with real programs of Open MPI: `hpc pmix-server` as it is, and this file in the shepherd's place.
//!
//! Needs Open MPI with its compiler (`libpmix2 openmpi-bin libopenmpi-dev`). `HPC_OPENMPI=PREFIX` has the tests look for
//! `PREFIX/bin/mpicc` first, and take `PREFIX/lib/openmpi/libpmix.so.2` where that is: an Open MPI 5 that brings its own.
//! Every program says how large it thinks the world is: Open MPI runs each rank alone where it finds no server, and
//! nothing else would show that.

#![allow(
    clippy::disallowed_methods,
    reason = "a test that starts processes and looks at their files"
)]
#![allow(clippy::print_stdout, reason = "a test that cannot run here says so")]

use hpc::wire::codec;
use hpc::wire::pmix::{
    Blob, FromPmix, NameEntry, NameFound, NameRequest, Names, PmixNode, PmixStart, Purpose, ToPmix,
    Variables, status,
};
use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Nothing here takes so long unless it hangs.
const PATIENCE: Duration = Duration::from_secs(40);

const PROGRAM: &str = r#"
#include <mpi.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    char port[MPI_MAX_PORT_NAME] = "";
    int rank, size, here, app = -1, found = 0, *value, sum = 0, mine;
    MPI_Comm node;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &node);
    MPI_Comm_size(node, &here);
    if (strcmp(what, "abort") == 0) {
        if (rank == size - 1)
            MPI_Abort(MPI_COMM_WORLD, 42);
        pause();
    }
    if (strcmp(what, "name") == 0) {
        if (rank == 0) {
            MPI_Open_port(MPI_INFO_NULL, port);
            MPI_Publish_name("ocean", MPI_INFO_NULL, port);
        }
        MPI_Barrier(MPI_COMM_WORLD);
        if (rank == size - 1)
            MPI_Lookup_name("ocean", MPI_INFO_NULL, port);
        MPI_Barrier(MPI_COMM_WORLD);
        if (rank == 0)
            MPI_Unpublish_name("ocean", MPI_INFO_NULL, port);
    }
    mine = rank + 1;
    MPI_Allreduce(&mine, &sum, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
    MPI_Comm_get_attr(MPI_COMM_WORLD, MPI_APPNUM, &value, &found);
    if (found)
        app = *value;
    printf("rank %d of %d, %d here, app %d, sum %d %s\n", rank, size, here, app, sum, port);
    fflush(stdout);
    MPI_Barrier(MPI_COMM_WORLD);
    MPI_Finalize();
    return 0;
}
"#;

/// Groups of ranks, without an MPI.
const GROUPS: &str = include_str!("mpi/pmix_group.c");

/// The compiled program, which goes with this value.
struct Program {
    path: PathBuf,
    _directory: TempDir,
}

impl std::ops::Deref for Program {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.path
    }
}

/// `None` = said that there is no Open MPI.
fn program(test: &str) -> Option<Program> {
    match build() {
        Ok(program) => Some(program),
        Err(why) => {
            println!("SKIPPED: {test} needs Open MPI and libpmix: {why}");
            None
        }
    }
}

fn prefix() -> Option<PathBuf> {
    std::env::var_os("HPC_OPENMPI").map(PathBuf::from)
}

/// The one without an MPI, against the distribution's library.
fn group_program(test: &str) -> Option<Program> {
    let include = format!(
        "/usr/lib/{}-linux-gnu/pmix2/include",
        std::env::consts::ARCH
    );
    if prefix().is_some() || !Path::new(&include).exists() {
        println!("SKIPPED: {test} needs libpmix-dev, and no other library beside it");
        return None;
    }
    let directory = TempDir::new().unwrap();
    let [source, path] = ["group.c", "group"].map(|name| directory.path().join(name));
    fs::write(&source, GROUPS).unwrap();
    let mut compiler = Command::new("cc");
    compiler
        .arg("-I")
        .arg(&include)
        .arg("-o")
        .arg(&path)
        .arg(&source)
        .arg("-lpmix");
    let output = compiler.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    usable(directory, path).ok()
}

fn build() -> Result<Program, String> {
    let directory = TempDir::new().map_err(|error| error.to_string())?;
    let source = directory.path().join("world.c");
    let program = directory.path().join("world");
    fs::write(&source, PROGRAM).map_err(|error| error.to_string())?;
    let own = prefix().map(|prefix| prefix.join("bin/mpicc"));
    let usual = ["mpicc.openmpi", "/usr/lib64/openmpi/bin/mpicc"].map(PathBuf::from);
    let mut why = String::new();
    for compiler in own.into_iter().chain(usual) {
        let built = Command::new(&compiler)
            .arg(&source)
            .arg("-o")
            .arg(&program)
            .output();
        match built {
            Ok(output) if output.status.success() => return usable(directory, program),
            Ok(output) => why = String::from_utf8_lossy(&output.stderr).into_owned(),
            Err(error) => why = format!("{}: {error}", compiler.display()),
        }
    }
    Err(why)
}

/// Open MPI may be here without a library that a server can use.
fn usable(directory: TempDir, path: PathBuf) -> Result<Program, String> {
    let mut node = Node::start(start_of(&[("here", &[0])], 0));
    match node.hear() {
        Some(FromPmix::Ready { .. }) => Ok(Program {
            path,
            _directory: directory,
        }),
        Some(FromPmix::Failed { text }) => Err(text),
        other => Err(format!("the helper said {other:?}")),
    }
}

// ---- one node -----------------------------------------------------------------------------------------------

/// A helper, and what its shepherd would have.
struct Node {
    helper: Child,
    socket: UnixStream,
    directory: TempDir,
    /// Of its own for each, as the nodes share a machine here and would find each other's.
    shared_memory: TempDir,
    /// What its ranks were told before the helper was started, where there is a door.
    promised: Vec<(String, String)>,
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.helper.kill();
        let _ = self.helper.wait();
    }
}

fn start_of(nodes: &[(&str, &[u32])], node_index: u32) -> PmixStart {
    let size: usize = nodes.iter().map(|(_, ranks)| ranks.len()).sum();
    PmixStart {
        nspace: format!("hpc-{}.{}", std::process::id(), line_of_life()),
        directory: String::new(),
        libraries: prefix()
            .map(|prefix| prefix.join("lib/openmpi/libpmix.so.2"))
            .filter(|library| library.exists())
            .map(|library| library.display().to_string())
            .into_iter()
            .collect(),
        only_these: false,
        node_index,
        nodes: nodes
            .iter()
            .map(|(name, ranks)| PmixNode {
                name: (*name).to_owned(),
                aliases: vec![format!("{name}.lab")],
                ranks: ranks.to_vec(),
            })
            .collect(),
        uid: nix::unistd::getuid().as_raw(),
        gid: nix::unistd::getgid().as_raw(),
        app_numbers: Vec::new(),
        universe: u32::try_from(size).unwrap(),
        cpusets: Vec::new(),
        visitors: None,
        parent: None,
    }
}

/// Threads run tests of one process, each in a world of its own.
fn line_of_life() -> String {
    format!("{:?}", thread::current().id()).replace(['(', ')'], "")
}

impl Node {
    fn start(mut start: PmixStart) -> Node {
        let directory = TempDir::new().unwrap();
        start.directory = directory.path().display().to_string();
        let (socket, theirs) = UnixStream::pair().unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let (mut promised, mut door) = (Vec::new(), Stdio::inherit());
        if start.visitors.is_some() {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = listener.local_addr().unwrap().port();
            promised = start.promise().variables(port);
            door = Stdio::from(OwnedFd::from(listener));
        }
        // A shell moves the sockets to where the helper looks for them.
        let helper = Command::new("sh")
            .args([
                "-c",
                "exec 3<&0 4>&1 </dev/null >&2 && exec \"$0\" pmix-server",
            ])
            .arg(env!("CARGO_BIN_EXE_hpc"))
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(door)
            .spawn()
            .unwrap();
        let mut node = Node {
            helper,
            socket,
            directory,
            shared_memory: TempDir::new().unwrap(),
            promised,
        };
        node.say(&ToPmix::Start(Box::new(start)));
        node
    }

    fn say(&mut self, message: &ToPmix) {
        codec::write(&mut self.socket, message).unwrap();
    }

    fn hear(&mut self) -> Option<FromPmix> {
        codec::read(&mut self.socket, codec::FRAME_MAX).unwrap()
    }

    /// Waits for the helper's end, and sees that it left nothing behind.
    fn ended_clean(mut self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.helper.try_wait().unwrap() {
                assert!(status.success(), "{status}");
                break;
            }
            assert!(Instant::now() < deadline, "the helper does not end");
            thread::yield_now();
        }
        let left: Vec<_> = fs::read_dir(self.directory.path()).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

// ---- a step -------------------------------------------------------------------------------------------------

/// What happens in a step.
enum Happened {
    Said(usize, FromPmix),
    Ended(u32, Option<i32>, String),
}

/// How a step went.
#[derive(Debug, Default)]
struct Outcome {
    /// By rank: exit code, and what it printed.
    ends: BTreeMap<u32, (Option<i32>, String)>,
    /// All that helpers said, by node.
    said: Vec<(usize, FromPmix)>,
}

impl Outcome {
    fn fences(&self) -> Vec<usize> {
        let bytes = self.said.iter().filter_map(|(_, message)| match message {
            FromPmix::Fence {
                purpose: Purpose::Fence,
                bytes,
                ..
            } => Some(bytes.0.len()),
            _ => None,
        });
        bytes.collect()
    }

    fn assert_one_world(&self, nodes: &[(&str, &[u32])]) {
        let size: usize = nodes.iter().map(|(_, ranks)| ranks.len()).sum();
        assert_eq!(self.ends.len(), size, "{self:#?}");
        let sum = size * (size + 1) / 2;
        for (_, ranks) in nodes {
            for rank in *ranks {
                let (code, text) = &self.ends[rank];
                let expected = format!("rank {rank} of {size}, {} here, app ", ranks.len());
                assert_eq!(*code, Some(0), "{self:#?}");
                assert!(text.contains(&expected), "{text}");
                assert!(text.contains(&format!("sum {sum} ")), "{text}");
            }
        }
        for told in [
            |rank| FromPmix::Connected { rank },
            |rank| FromPmix::Finalised { rank },
        ] {
            for rank in 0..u32::try_from(size).unwrap() {
                let times = self.said.iter().filter(|(_, said)| *said == told(rank));
                assert_eq!(times.count(), 1, "{self:#?}");
            }
        }
    }
}

/// Runs the program as a step on these nodes, all on this machine. What the shepherds of the nodes would do for each
/// other is done here.
fn step(
    program: &Path,
    argument: &str,
    nodes: &[(&str, &[u32])],
    change: fn(&mut PmixStart),
    variables: &[(&str, &str)],
) -> Outcome {
    let (happened, happenings) = mpsc::channel();
    let mut helpers = Vec::new();
    let mut children = Vec::new();
    for (index, (_, ranks)) in nodes.iter().enumerate() {
        let mut start = start_of(nodes, u32::try_from(index).unwrap());
        change(&mut start);
        let mut node = Node::start(start);
        let Some(FromPmix::Ready {
            version,
            environments,
        }) = node.hear()
        else {
            panic!("{index} is not ready")
        };
        assert!(version.contains("PMIx"), "{version}");
        let environments = if node.promised.is_empty() {
            environments
        } else {
            assert_eq!(environments, []);
            let own = ranks.iter().map(|rank| {
                let rank = ("PMIX_RANK".to_owned(), rank.to_string());
                let pairs = node.promised.iter().cloned().chain([rank]);
                Variables {
                    pairs: pairs.collect(),
                }
            });
            own.collect()
        };
        assert_eq!(environments.len(), ranks.len());
        helpers.push((node, environments));
    }
    for (index, (node, environments)) in helpers.iter().enumerate() {
        listen(index, node, &happened);
        for (environment, &rank) in environments.iter().zip(nodes[index].1) {
            let mut command = Command::new(program);
            command.arg(argument).env_clear();
            // Open MPI 5 does not begin without.
            command.env("HOME", node.shared_memory.path());
            for (name, value) in &environment.pairs {
                command.env(name, value);
            }
            for (name, value) in fixed_variables().iter().chain(variables) {
                command.env(name, value);
            }
            command
                .env(
                    "OMPI_MCA_btl_vader_backing_directory",
                    node.shared_memory.path(),
                )
                .env(
                    "OMPI_MCA_btl_sm_backing_directory",
                    node.shared_memory.path(),
                )
                .env("PMI_RANK", rank.to_string())
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::inherit());
            children.push(watch(rank, command.spawn().unwrap(), &happened));
        }
    }
    let mut nodes_up: Vec<Node> = helpers.into_iter().map(|(node, _)| node).collect();
    drop(happened);
    let mut outcome = Shepherds {
        nodes,
        up: &mut nodes_up,
        gathered: BTreeMap::new(),
        groups: BTreeMap::new(),
        asked: Vec::new(),
        names: BTreeMap::new(),
    }
    .run(&happenings, &children);
    for mut node in nodes_up {
        node.say(&ToPmix::Stop);
        node.ended_clean();
    }
    // What was written before the ranks ended, until those who read are through.
    outcome
        .said
        .extend(happenings.iter().filter_map(|last| match last {
            Happened::Said(node, message) => Some((node, message)),
            Happened::Ended(..) => None,
        }));
    outcome
}

/// What every rank needs besides what the library sets: Open MPI 4.1 takes itself for a single process otherwise. The
/// variables of PMI-1 are there to be overlooked, as a step that offers both has them.
fn fixed_variables() -> [(&'static str, &'static str); 9] {
    [
        ("OMPI_MCA_schizo", "^orte"),
        ("OMPI_MCA_orte_externally_bound", "1"),
        ("OMPI_MCA_hwloc_base_binding_policy", "none"),
        ("OMPI_MCA_mpi_yield_when_idle", "1"),
        // Nodes on one machine have its loopback in common.
        ("OMPI_MCA_btl_tcp_if_include", "lo"),
        ("OMPI_MCA_pml", "ob1"),
        ("PMI_FD", "99"),
        ("PMI_SIZE", "64"),
        ("MPIR_CVAR_PMI_VERSION", "1"),
    ]
}

fn listen(index: usize, node: &Node, happened: &Sender<Happened>) {
    let mut socket = node.socket.try_clone().unwrap();
    let happened = happened.clone();
    thread::spawn(move || {
        while let Ok(Some(message)) = codec::read(&mut socket, codec::FRAME_MAX) {
            if happened.send(Happened::Said(index, message)).is_err() {
                return;
            }
        }
    });
}

/// The process's id; its end is told with what it printed.
fn watch(rank: u32, mut child: Child, happened: &Sender<Happened>) -> i32 {
    let happened = happened.clone();
    let pid = i32::try_from(child.id()).unwrap();
    thread::spawn(move || {
        let mut text = String::new();
        let _ = child.stdout.take().unwrap().read_to_string(&mut text);
        let code = child.wait().unwrap().code();
        let _ = happened.send(Happened::Ended(rank, code, text));
    });
    pid
}

/// What one node brought to a fence: its number there, and bytes.
type Brought = VecDeque<(u64, Vec<u8>)>;

/// A group by its name, whether it ends, and its members.
type Named = (String, bool, Vec<u32>);
/// What one node brought to a group: its number there, the group's number, and bytes.
type Proposed = (u64, Option<u64>, Vec<u8>);

struct Shepherds<'a> {
    nodes: &'a [(&'a str, &'a [u32])],
    up: &'a mut Vec<Node>,
    gathered: BTreeMap<(Purpose, Vec<u32>), BTreeMap<usize, Brought>>,
    groups: BTreeMap<Named, BTreeMap<usize, Proposed>>,
    /// Questions between nodes: who asked, under which number there.
    asked: Vec<(usize, u64)>,
    names: BTreeMap<String, (u32, NameEntry)>,
}

impl Shepherds<'_> {
    fn run(mut self, happenings: &Receiver<Happened>, children: &[i32]) -> Outcome {
        let deadline = Instant::now() + PATIENCE;
        let mut outcome = Outcome::default();
        let kill_all = || {
            for &pid in children {
                let pid = nix::unistd::Pid::from_raw(pid);
                let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
            }
        };
        while outcome.ends.len() < children.len() {
            let left = deadline.saturating_duration_since(Instant::now());
            match happenings.recv_timeout(left) {
                Ok(Happened::Said(node, message)) => {
                    self.answer(node, &message);
                    let is_abort = matches!(message, FromPmix::Abort { .. });
                    outcome.said.push((node, message));
                    if is_abort {
                        kill_all();
                    }
                }
                Ok(Happened::Ended(rank, code, text)) => {
                    if code != Some(0) {
                        for node in self.up.iter_mut() {
                            node.say(&ToPmix::RankGone { rank });
                        }
                    }
                    outcome.ends.insert(rank, (code, text));
                }
                Err(RecvTimeoutError::Timeout) => {
                    kill_all();
                    panic!("the step hangs: {outcome:#?}");
                }
                Err(RecvTimeoutError::Disconnected) => panic!("nobody is left"),
            }
        }
        outcome
    }

    fn answer(&mut self, node: usize, message: &FromPmix) {
        match message {
            FromPmix::Fence {
                ask,
                purpose,
                everyone,
                ranks,
                bytes,
                ..
            } => {
                let ranks = if *everyone { Vec::new() } else { ranks.clone() };
                let key = (*purpose, ranks);
                let gathered = self.gathered.entry(key.clone()).or_default();
                let brought = gathered.entry(node).or_default();
                brought.push_back((*ask, bytes.0.clone()));
                self.fence_when_all_are_in(&key);
            }
            FromPmix::Group {
                ask,
                name,
                ends,
                ranks,
                context,
                bytes,
                ..
            } => {
                let group = (name.clone(), *ends, ranks.clone());
                let proposed = (*ask, *context, bytes.0.clone());
                self.group_when_all_are_in(node, group, proposed);
            }
            FromPmix::Modex { ask, rank, .. } => {
                let number = u64::try_from(self.asked.len()).unwrap();
                self.asked.push((node, *ask));
                let has = |(_, ranks): &(&str, &[u32])| ranks.contains(rank);
                let other = self.nodes.iter().position(has).unwrap();
                self.up[other].say(&ToPmix::ModexWanted {
                    ask: number,
                    rank: *rank,
                });
            }
            FromPmix::ModexFound { ask, outcome } => {
                let (node, ask) = self.asked[usize::try_from(*ask).unwrap()];
                let outcome = outcome.clone();
                self.up[node].say(&ToPmix::Modexed { ask, outcome });
            }
            FromPmix::Name { ask, rank, request } => {
                let answer = self.name(*rank, request);
                self.up[node].say(&ToPmix::Named { ask: *ask, answer });
            }
            _ => {}
        }
    }

    /// The nodes of these ranks; none = of all.
    fn nodes_of(&self, members: &[u32]) -> Vec<usize> {
        let takes_part =
            |ranks: &[u32]| members.is_empty() || ranks.iter().any(|rank| members.contains(rank));
        (0..self.nodes.len())
            .filter(|&node| takes_part(self.nodes[node].1))
            .collect()
    }

    fn group_when_all_are_in(&mut self, node: usize, group: Named, proposed: Proposed) {
        let nodes = self.nodes_of(&group.2);
        let brought = self.groups.entry(group.clone()).or_default();
        assert!(brought.insert(node, proposed).is_none(), "{group:?} twice");
        if brought.len() < nodes.len() {
            return;
        }
        let brought = self.groups.remove(&group).unwrap();
        let context = brought.values().find_map(|(_, context, _)| *context);
        let all: Vec<u8> = brought
            .values()
            .flat_map(|(.., bytes)| bytes.clone())
            .collect();
        for (node, (ask, ..)) in brought {
            self.up[node].say(&ToPmix::Grouped {
                ask,
                context,
                outcome: Ok(Blob(all.clone())),
            });
        }
    }

    fn fence_when_all_are_in(&mut self, key: &(Purpose, Vec<u32>)) {
        let parts = self.nodes_of(&key.1);
        let gathered = self.gathered.get_mut(key).unwrap();
        let is_in = |node: &usize| {
            gathered
                .get(node)
                .is_some_and(|brought| !brought.is_empty())
        };
        if !parts.iter().all(is_in) {
            return;
        }
        let first: Vec<(usize, u64, Vec<u8>)> = parts
            .iter()
            .map(|&node| {
                let (ask, bytes) = gathered.get_mut(&node).unwrap().pop_front().unwrap();
                (node, ask, bytes)
            })
            .collect();
        let all: Vec<u8> = first
            .iter()
            .flat_map(|(_, _, bytes)| bytes.clone())
            .collect();
        for (node, ask, _) in first {
            let outcome = Ok(Blob(all.clone()));
            self.up[node].say(&ToPmix::Fenced { ask, outcome });
        }
    }

    fn name(&mut self, rank: u32, request: &NameRequest) -> Result<Names, i32> {
        match request {
            NameRequest::Publish { entries, .. } => {
                for entry in entries {
                    self.names.insert(entry.key.clone(), (rank, entry.clone()));
                }
            }
            NameRequest::Unpublish { keys, .. } => {
                for key in keys {
                    self.names.remove(key).ok_or(status::NOT_FOUND)?;
                }
            }
            NameRequest::Lookup { keys, .. } => {
                let found = keys.iter().map(|key| {
                    let (rank, entry) = self.names.get(key).ok_or(status::NOT_FOUND)?;
                    Ok(NameFound {
                        nspace: "elsewhere".to_owned(),
                        rank: *rank,
                        entry: entry.clone(),
                    })
                });
                return Ok(Names {
                    found: found.collect::<Result<_, i32>>()?,
                });
            }
            // There is one namespace here.
            NameRequest::Meet { .. } | NameRequest::Bring { .. } | NameRequest::Fetch { .. } => {
                return Err(status::NOT_SUPPORTED);
            }
        }
        Ok(Names::default())
    }
}

fn as_it_is(_: &mut PmixStart) {}

// ---- the tests ----------------------------------------------------------------------------------------------

#[test]
fn ranks_of_one_node_are_one_world() {
    let Some(program) = program("ranks_of_one_node_are_one_world") else {
        return;
    };
    let nodes: [(&str, &[u32]); 1] = [("alpha", &[0, 1, 2])];
    let outcome = step(&program, "", &nodes, as_it_is, &[]);
    outcome.assert_one_world(&nodes);
    assert!(outcome.fences().is_empty(), "nobody else is needed");
}

#[test]
fn ranks_of_two_nodes_are_one_world_and_know_who_is_near() {
    let Some(program) = program("ranks_of_two_nodes_are_one_world_and_know_who_is_near") else {
        return;
    };
    // Placed in turn, and unevenly.
    let nodes: [(&str, &[u32]); 2] = [("alpha", &[0, 2, 4]), ("beta", &[1, 3])];
    let outcome = step(&program, "", &nodes, as_it_is, &[]);
    outcome.assert_one_world(&nodes);
    let fences = outcome.fences();
    assert!(fences.iter().any(|&bytes| bytes > 0), "{fences:?}");
    assert!(
        fences.len() >= 4 && fences.len().is_multiple_of(2),
        "{fences:?}"
    );
}

#[test]
fn what_no_fence_has_brought_is_asked_of_the_other_node() {
    let Some(program) = program("what_no_fence_has_brought_is_asked_of_the_other_node") else {
        return;
    };
    let nodes: [(&str, &[u32]); 2] = [("alpha", &[0, 1]), ("beta", &[2, 3])];
    let variables = [("OMPI_MCA_pmix_base_collect_data", "0")];
    let outcome = step(&program, "", &nodes, as_it_is, &variables);
    outcome.assert_one_world(&nodes);
    let asked = |(_, said): &&(usize, FromPmix)| matches!(said, FromPmix::Modex { .. });
    assert!(outcome.said.iter().filter(asked).count() >= 2);
    assert!(outcome.fences().iter().all(|&bytes| bytes == 0));
}

#[test]
fn an_abort_tells_its_code_and_who() {
    let Some(program) = program("an_abort_tells_its_code_and_who") else {
        return;
    };
    let nodes: [(&str, &[u32]); 2] = [("alpha", &[0, 1]), ("beta", &[2])];
    let outcome = step(&program, "abort", &nodes, as_it_is, &[]);
    let aborts: Vec<_> = outcome
        .said
        .iter()
        .filter_map(|(node, said)| match said {
            FromPmix::Abort { rank, status, .. } => Some((*node, *rank, *status)),
            _ => None,
        })
        .collect();
    assert_eq!(aborts, [(1, 2, 42)], "{outcome:#?}");
}

#[test]
fn programs_of_one_step_know_which_they_are() {
    let Some(program) = program("programs_of_one_step_know_which_they_are") else {
        return;
    };
    let nodes: [(&str, &[u32]); 1] = [("alpha", &[0, 1, 2])];
    let two_programs = |start: &mut PmixStart| {
        start.app_numbers = vec![0, 1, 1];
        start.cpusets = vec![Some("0".to_owned()), None, Some("0".to_owned())];
    };
    let outcome = step(&program, "", &nodes, two_programs, &[]);
    outcome.assert_one_world(&nodes);
    for (rank, app) in [(0, 0), (1, 1), (2, 1)] {
        let text = &outcome.ends[&rank].1;
        assert!(text.contains(&format!("app {app},")), "{text}");
    }
}

#[test]
fn a_published_name_is_found_on_another_node() {
    let Some(program) = program("a_published_name_is_found_on_another_node") else {
        return;
    };
    let nodes: [(&str, &[u32]); 2] = [("alpha", &[0]), ("beta", &[1])];
    let outcome = step(&program, "name", &nodes, as_it_is, &[]);
    outcome.assert_one_world(&nodes);
    let port = |rank: u32| {
        let text = &outcome.ends[&rank].1;
        let words: Vec<&str> = text.trim().split("sum 3 ").collect();
        words.get(1).unwrap_or_else(|| panic!("{text}")).to_string()
    };
    assert_eq!(port(0), port(1), "{outcome:#?}");
}

fn at_a_door(start: &mut PmixStart) {
    start.visitors = Some(0);
}

#[test]
fn ranks_at_a_door_are_the_same_one_world() {
    let Some(program) = program("ranks_at_a_door_are_the_same_one_world") else {
        return;
    };
    let nodes: [(&str, &[u32]); 2] = [("alpha", &[0, 2, 4]), ("beta", &[1, 3])];
    step(&program, "", &nodes, at_a_door, &[]).assert_one_world(&nodes);
    let variables = [("OMPI_MCA_pmix_base_collect_data", "0")];
    let outcome = step(&program, "", &nodes, at_a_door, &variables);
    outcome.assert_one_world(&nodes);
    let asked = |(_, said): &&(usize, FromPmix)| matches!(said, FromPmix::Modex { .. });
    assert!(outcome.said.iter().filter(asked).count() >= 2);
}

#[test]
fn nobody_but_the_steps_user_is_let_in_at_a_door() {
    if program("nobody_but_the_steps_user_is_let_in_at_a_door").is_none() {
        return;
    }
    let mut start = start_of(&[("alpha", &[0, 1])], 0);
    at_a_door(&mut start);
    // Whoever we are, we are not.
    start.uid += 1;
    let mut node = Node::start(start);
    let place = node.promised[0].1.clone();
    let mut stranger = TcpStream::connect(place.rsplit_once("//").unwrap().1).unwrap();
    stranger.set_read_timeout(Some(PATIENCE)).unwrap();
    let ours = (
        stranger.peer_addr().unwrap(),
        stranger.local_addr().unwrap(),
    );
    let (std::net::SocketAddr::V4(theirs), std::net::SocketAddr::V4(own)) = ours else {
        unreachable!();
    };
    if let Err(errno) = hpc::sys::tcp_peer::user_of(own, theirs) {
        return println!("SKIPPED: this kernel does not tell whose a socket is: {errno}");
    }
    let _ = stranger.write_all(b"hello");
    assert!(matches!(node.hear(), Some(FromPmix::Ready { .. })));
    // Turned away, by an end or a reset.
    assert_eq!(stranger.read(&mut [0; 64]).unwrap_or(0), 0);
}

#[test]
fn a_group_has_a_number_and_all_that_its_members_say_of_themselves() {
    let test = "a_group_has_a_number_and_all_that_its_members_say_of_themselves";
    let Some(program) = group_program(test) else {
        return;
    };
    let alone: [(&str, &[u32]); 1] = [("alpha", &[0, 1, 2, 3])];
    let apart: [(&str, &[u32]); 3] = [("alpha", &[0, 2]), ("beta", &[1, 4]), ("gamma", &[3])];
    for nodes in [&alone[..], &apart[..]] {
        let outcome = step(&program, "", nodes, as_it_is, &[]);
        let numbers = |rank: u32| -> Vec<u64> {
            let (code, text) = &outcome.ends[&rank];
            assert_eq!(*code, Some(0), "{outcome:#?}");
            let words = text.split([' ', ',', '\n']);
            words.filter_map(|word| word.parse().ok()).collect()
        };
        let [of_all, even, again] = numbers(0)[..] else {
            panic!("{outcome:#?}")
        };
        let odd = numbers(1)[1];
        let distinct = std::collections::BTreeSet::from([of_all, even, odd, again, 0]);
        assert_eq!(distinct.len(), 5, "{outcome:#?}");
        for rank in 0..u32::try_from(outcome.ends.len()).unwrap() {
            let parity = if rank % 2 == 0 { even } else { odd };
            assert_eq!(numbers(rank), [of_all, parity, again], "{outcome:#?}");
        }
        // Nobody else is asked where nobody else is a member.
        let asked = |(_, said): &&(usize, FromPmix)| matches!(said, FromPmix::Group { .. });
        let asked = outcome.said.iter().filter(asked).count();
        assert_eq!(asked, if nodes.len() == 1 { 0 } else { 20 }, "{outcome:#?}");
    }
}

#[test]
fn sixteen_ranks_are_one_world() {
    let Some(program) = program("sixteen_ranks_are_one_world") else {
        return;
    };
    let ranks: Vec<u32> = (0..16).collect();
    let nodes: [(&str, &[u32]); 1] = [("alpha", &ranks)];
    step(&program, "", &nodes, as_it_is, &[]).assert_one_world(&nodes);
}

#[test]
fn a_helper_whose_shepherd_goes_cleans_up_and_goes_too() {
    if program("a_helper_whose_shepherd_goes_cleans_up_and_goes_too").is_none() {
        return;
    }
    let mut node = Node::start(start_of(&[("alpha", &[0, 1])], 0));
    assert!(matches!(node.hear(), Some(FromPmix::Ready { .. })));
    assert!(fs::read_dir(node.directory.path()).unwrap().count() > 0);
    node.socket.shutdown(std::net::Shutdown::Both).unwrap();
    node.ended_clean();
}

#[test]
fn a_step_that_makes_no_sense_is_refused_in_words() {
    let mut start = start_of(&[("alpha", &[0, 1])], 0);
    start.nodes[0].ranks = vec![0, 2];
    let mut node = Node::start(start);
    let Some(FromPmix::Failed { text }) = node.hear() else {
        panic!("a refusal")
    };
    assert!(text.contains("rank 2"), "{text}");
    node.ended_clean();
}

#[test]
fn a_helper_started_by_hand_says_so() {
    let output = Command::new(env!("CARGO_BIN_EXE_hpc"))
        .arg("pmix-server")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("cannot find the shepherd"), "{said}");
}
