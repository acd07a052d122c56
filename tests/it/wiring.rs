//! Steps whose ranks count on each other, and what becomes of them when something fails: ranks that speak PMI by
//! themselves, on two nodes of one machine, so that no MPI is needed. Where a real one is there, also what it must not do:
//! run as so many worlds of one.

use crate::support::{
    Cluster, PATIENCE, code_of, command_line, kill_and_wait, parent, wait_child, wait_until,
    with_argument,
};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// From a fault until the client has ended.
const END_MAX: Duration = Duration::from_secs(5);

/// A rank in Python: `ask` says a line and has the answer.
pub(crate) const RANK: &str = r#"
import os, socket, sys, time
rank, size = int(os.environ["PMI_RANK"]), int(os.environ["PMI_SIZE"])
pmi = socket.socket(fileno=int(os.environ["PMI_FD"]))
lines = pmi.makefile("r")
def ask(line):
    pmi.sendall(line.encode() + b"\n")
    return lines.readline().strip()
def wait_for(name):
    while not os.path.exists(name):
        time.sleep(0.01)
def arrive():
    open("here.%d" % rank, "w").close()
ask("cmd=init pmi_version=1 pmi_subversion=1")
name = ask("cmd=get_my_kvsname").split("kvsname=")[1]
"#;

/// A cluster of two nodes, and the program of a rank with this rest.
fn two(rest: &str) -> (Cluster, String) {
    let cluster = Cluster::up(2);
    cluster.another_agent("n2", 2);
    let path = cluster.path("rank.py");
    fs::write(&path, format!("{RANK}{rest}")).unwrap();
    (cluster, path.to_str().unwrap().to_owned())
}

/// `hpc run` with these words, in the background.
fn start(cluster: &Cluster, words: &[&str]) -> Child {
    let mut command = cluster.hpc(&[&["run"], words].concat());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

fn arrived(cluster: &Cluster, ranks: &[u32]) {
    wait_until("the ranks are there", PATIENCE, || {
        ranks
            .iter()
            .all(|rank| cluster.exists(&format!("here.{rank}")))
    });
}

/// The client's code and what it said, which must be there soon after this.
fn ended(mut client: Child, begun: Instant) -> (i32, String) {
    let status = wait_child(&mut client, END_MAX.saturating_sub(begun.elapsed()));
    let Some(code) = status.map(code_of) else {
        let _ = client.kill();
        panic!("the step goes on {END_MAX:?} after the fault");
    };
    let output = client.wait_with_output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (code, String::from_utf8(text).unwrap())
}

fn the_shepherd_of(cluster: &Cluster, rank: u32) -> i32 {
    let pid = cluster.read(&format!("pid.{rank}"));
    let shepherd = parent(pid.trim().parse().unwrap());
    assert!(command_line(shepherd).contains("shepherd"));
    shepherd
}

#[test]
fn ranks_find_each_other_though_the_controller_is_killed_meanwhile() {
    let rest = r#"
ask("cmd=put kvsname=%s key=k%d value=from-%d" % (name, rank, rank))
arrive()
if rank == 3:
    wait_for("go")
open("entered.%d" % rank, "w").close()
print(ask("cmd=barrier_in"), flush=True)
other = (rank + 2) % size
print(ask("cmd=get kvsname=%s key=k%d" % (name, other)), flush=True)
ask("cmd=barrier_in")
ask("cmd=finalize")
"#;
    let (cluster, rank) = two(rest);
    let words = [
        "-N",
        "2",
        "--ntasks-per-node",
        "2",
        "--label",
        "python3",
        &rank,
    ];
    let client = start(&cluster, &words);
    arrived(&cluster, &[0, 1, 2, 3]);
    cluster.kill_controller();
    fs::write(cluster.work.join("go"), "").unwrap();
    wait_until("the last one has entered", PATIENCE, || {
        cluster.exists("entered.3")
    });
    cluster.start();
    let (code, said) = ended(client, Instant::now() + PATIENCE);
    assert_eq!(code, 0, "{said}");
    for rank in 0..4 {
        let line = format!(
            "{rank}: cmd=get_result rc=0 msg=success value=from-{}",
            (rank + 2) % 4
        );
        assert!(said.contains(&line), "{line}: {said}");
    }
}

#[test]
fn nonsense_of_one_rank_ends_the_step_and_names_it() {
    let rest = r#"
arrive()
if rank == 2:
    wait_for("go")
    pmi.sendall(b"x" * 100000)
time.sleep(86400.0061)
"#;
    let (cluster, rank) = two(rest);
    let client = start(&cluster, &["-N", "2", "-n", "3", "python3", &rank]);
    arrived(&cluster, &[0, 1, 2]);
    let begun = Instant::now();
    fs::write(cluster.work.join("go"), "").unwrap();
    let (code, said) = ended(client, begun);
    assert_eq!(code, 1, "{said}");
    assert!(
        said.contains("rank 2 on node n2 spoke nonsense over PMI"),
        "{said}"
    );
    cluster.wait_empty(PATIENCE);
}

#[test]
fn a_rank_that_ends_or_is_killed_ends_the_others_with_its_code() {
    let rest = r#"
open("pid.%d" % rank, "w").write(str(os.getpid()))
arrive()
wait_for("go")
if rank == 1 and sys.argv[1] == "exit":
    os._exit(int(sys.argv[2]))
if rank == 1 and sys.argv[1] == "kill":
    os.kill(os.getpid(), 9)
ask("cmd=barrier_in")
"#;
    for (how, number, code, words) in [
        ("exit", "7", 7, "exited with code 7"),
        ("exit", "0", 1, "exited with code 0"),
        ("kill", "0", 137, "was ended by SIGKILL"),
    ] {
        let (cluster, rank) = two(rest);
        let client = start(
            &cluster,
            &["-N", "2", "-n", "3", "python3", &rank, how, number],
        );
        arrived(&cluster, &[0, 1, 2]);
        let begun = Instant::now();
        fs::write(cluster.work.join("go"), "").unwrap();
        let (ended_with, said) = ended(client, begun);
        assert_eq!(ended_with, code, "{how} {number}: {said}");
        assert!(
            said.contains("rank 1 on node n1") && said.contains(words),
            "{said}"
        );
        let job = cluster.history()[0].clone();
        assert_eq!(job["state"], "FAILED", "{job}");
        cluster.wait_empty(PATIENCE);
    }
}

#[test]
fn a_rank_that_never_begins_is_not_waited_for() {
    let rest = r#"
arrive()
ask("cmd=barrier_in")
"#;
    let (cluster, rank) = two(rest);
    let words = format!("[ $SLURM_PROCID = 2 ] && exit 5; exec python3 {rank}");
    let begun = Instant::now();
    let client = start(&cluster, &["-N", "2", "-n", "3", "sh", "-c", &words]);
    let (code, said) = ended(client, begun + PATIENCE);
    assert_eq!(code, 5, "{said}");
    assert!(
        said.contains("rank 2 exited with code 5 without MPI_Init"),
        "{said}"
    );
}

#[test]
fn what_is_no_mpi_program_ends_task_by_task_unless_it_is_told_to_end_as_one() {
    let cluster = Cluster::up(2);
    let tasks = "[ $SLURM_PROCID = 0 ] && exit 3; sleep 0.3; echo done";
    let answer = cluster.run(&["run", "-n", "2", "sh", "-c", tasks]);
    assert_eq!((answer.code, answer.out.trim()), (3, "done"), "{answer:?}");
    let tasks = "[ $SLURM_PROCID = 0 ] && exit 3; exec sleep 86400.0062";
    let answer = cluster.run(&["run", "-K", "-n", "2", "sh", "-c", tasks]);
    assert_eq!(answer.code, 3, "{answer:?}");
    assert!(
        answer.err.contains("rank 0 on node n1 exited with code 3"),
        "{answer:?}"
    );
    let answer = cluster.run(&["run", "--wait=1", "-n", "2", "sh", "-c", tasks]);
    assert_eq!(answer.code, 1, "{answer:?}");
    assert!(answer.err.contains("--wait"), "{answer:?}");
}

#[test]
fn a_step_inside_a_job_ends_as_one_and_the_job_goes_on() {
    let rest = r#"
arrive()
if rank == 1:
    os._exit(9)
ask("cmd=barrier_in")
"#;
    let (cluster, rank) = two(rest);
    let hpc = env!("CARGO_BIN_EXE_hpc");
    let script = format!("{hpc} run python3 {rank}; echo code $?; {hpc} run -n 2 hostname | wc -l");
    let words = ["-N", "2", "-n", "4", "-o", "out", "--wrap", &script];
    let job = cluster.submit(&words);
    cluster.wait_for_state(job, "COMPLETED");
    let said = cluster.read("out");
    assert!(
        said.contains("rank 1 on node n1 exited with code 9"),
        "{said}"
    );
    assert!(said.ends_with("code 9\n2\n"), "{said}");
}

#[test]
fn a_part_of_a_step_whose_shepherd_is_killed_ends_the_rest() {
    let rest = r#"
open("pid.%d" % rank, "w").write(str(os.getpid()))
arrive()
ask("cmd=barrier_in")
"#;
    let (cluster, rank) = two(&format!("{rest}wait_for('never')\n"));
    // The last one never enters, so that all wait.
    let words = format!(
        "[ $SLURM_PROCID = 3 ] && touch here.3 && exec sleep 86400.0063; exec python3 {rank}"
    );
    let client = start(&cluster, &["-N", "2", "-n", "4", "sh", "-c", &words]);
    arrived(&cluster, &[0, 1, 2, 3]);
    let begun = Instant::now();
    kill_and_wait(the_shepherd_of(&cluster, 2));
    let (code, said) = ended(client, begun);
    assert_ne!(code, 0, "{said}");
    let job = cluster.history()[0].clone();
    assert_eq!(job["state"], "NODE_FAIL", "{job}");
    cluster.wait_empty(PATIENCE);
    let left = with_argument(&rank);
    assert_eq!(left, Vec::<i32>::new());
}

/// Processes that serve PMIx to steps of this cluster.
fn pmix_servers(cluster: &Cluster) -> Vec<i32> {
    let servers = with_argument("pmix-server").into_iter();
    let ours = servers.filter(|pid| cluster.processes().contains(&parent(*pid)));
    ours.collect()
}

#[test]
fn a_server_of_pmix_is_started_for_whoever_asks_and_for_nobody_else() {
    if !hpc::sys::pmix::is_there(&[], false) {
        return println!("SKIPPED: a_server_of_pmix_is_started: no libpmix.so.2");
    }
    // Ranks of PMI that also knock where ranks of PMIx do: one as a stranger, and one that says by and by who it is.
    let rest = r#"
arrive()
wait_for("go")
host, port = os.environ["PMIX_SERVER_URI41"].split("//")[1].split(":")
if rank == 1:
    pmix = socket.create_connection((host, int(port)))
    pmix.sendall(b"\0\0" + os.environ["PMIX_NAMESPACE"][:9].encode())
    open("half", "w").close()
    wait_for("on")
    pmix.sendall(os.environ["PMIX_NAMESPACE"][9:].encode() + b"\0")
if rank == 0:
    socket.create_connection((host, int(port))).sendall(b"GET / HTTP/1.1\r\n\r\n")
ask("cmd=finalize")
open("gone.%d" % rank, "w").close()
wait_for("over")
"#;
    let (cluster, rank) = two(rest);
    let client = start(&cluster, &["-N", "2", "-n", "2", "python3", &rank]);
    arrived(&cluster, &[0, 1]);
    assert_eq!(pmix_servers(&cluster), [] as [i32; 0]);
    fs::write(cluster.work.join("go"), "").unwrap();
    wait_until(
        "one is finished, and one has begun to speak",
        PATIENCE,
        || cluster.exists("gone.0") && cluster.exists("half"),
    );
    assert_eq!(pmix_servers(&cluster), [] as [i32; 0]);
    fs::write(cluster.work.join("on"), "").unwrap();
    wait_until("it is finished too", PATIENCE, || cluster.exists("gone.1"));
    wait_until("its node has a server", PATIENCE, || {
        pmix_servers(&cluster).len() == 1
    });
    fs::write(cluster.work.join("over"), "").unwrap();
    let (code, said) = ended(client, Instant::now() + PATIENCE);
    assert_eq!(code, 0, "{said}");
    cluster.wait_empty(PATIENCE);
}

// ---- with an MPI of the distribution

fn compiled(cluster: &Cluster, test: &str, names: &[&str]) -> Option<PathBuf> {
    let Some(compiler) = names.iter().find(|name| Path::new(name).exists()) else {
        println!(
            "SKIPPED: {test}: no {} (packaging/setup.sh test gets it)",
            names[0]
        );
        return None;
    };
    let program = cluster.path("matrix");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/mpi/matrix.c");
    let mut command = Command::new(compiler);
    let made = command
        .arg("-o")
        .arg(&program)
        .arg(source)
        .status()
        .unwrap();
    assert!(made.success());
    Some(program)
}

const OPEN_MPI: [&str; 2] = ["/usr/bin/mpicc.openmpi", "/usr/lib64/openmpi/bin/mpicc"];
const MPICH: [&str; 2] = ["/usr/bin/mpicc.mpich", "/usr/lib64/mpich/bin/mpicc"];

#[test]
fn ranks_that_do_not_inherit_their_socket_come_by_the_port() {
    let test = "ranks_that_do_not_inherit_their_socket_come_by_the_port";
    let cluster = Cluster::up(2);
    let Some(program) = compiled(&cluster, test, &MPICH) else {
        return;
    };
    // As Python starts programs: with none of its own descriptors.
    let script = r#"
import os, subprocess, sys
del os.environ["PMI_FD"]
sys.exit(subprocess.run(sys.argv[1:]).returncode)
"#;
    let words = ["run", "-n", "2", "python3", "-c", script];
    let program = program.to_str().unwrap();
    for mpi in ["--mpi=auto", "--mpi=pmi2"] {
        let words = [
            &words[..1],
            &[mpi],
            &words[1..],
            &[program, "check", "2", "2"],
        ]
        .concat();
        let answer = cluster.run(&words);
        let right = answer
            .out
            .starts_with("MATRIX OK size=2 nodes=1 per_node=2");
        assert!(answer.code == 0 && right, "{answer:?}");
    }
    // Who ends too early is missed as any other.
    let end = [program, "exit", "1", "7"];
    let answer = cluster.run(&[&words[..], &end].concat());
    assert!(
        answer.code == 7 && answer.err.contains("rank 1"),
        "{answer:?}"
    );
}

#[test]
fn what_is_not_wired_does_not_run_alone() {
    let test = "what_is_not_wired_does_not_run_alone";
    let cluster = Cluster::up(2);
    for (names, mpi, words) in [
        (OPEN_MPI, "--mpi=pmi1", "asks for PMIx, as Open MPI does"),
        (
            MPICH,
            "--mpi=pmix",
            "asks for PMI, which --mpi=pmix does not serve",
        ),
    ] {
        let Some(program) = compiled(&cluster, test, &names) else {
            continue;
        };
        let begun = Instant::now();
        let program = program.to_str().unwrap();
        let client = start(&cluster, &[mpi, "-n", "2", program, "check", "1", "1"]);
        let (code, said) = ended(client, begun);
        assert_eq!(code, 1, "{said}");
        assert!(
            said.contains(words) && said.contains("would run alone"),
            "{said}"
        );
        assert!(!said.contains("MATRIX OK"), "{said}");
    }
}

#[test]
fn a_library_that_cannot_be_used_is_named_before_any_rank_starts() {
    let cluster = Cluster::up(2);
    let library = cluster.path("libpmix.so.2");
    fs::write(&library, "no library").unwrap();
    let begun = Instant::now();
    let mut command = cluster.hpc(&["run", "--mpi=pmix", "-n", "2", "touch", "started"]);
    command.env("HPC_PMIX_LIBRARY", &library);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let (code, said) = ended(command.spawn().unwrap(), begun);
    assert_eq!(code, 1, "{said}");
    let named = said.contains(library.to_str().unwrap()) && said.contains("PMIx");
    assert!(named && !said.contains(".log"), "{said}");
    assert!(!cluster.exists("started"), "{said}");
}

#[test]
fn a_pmix_server_that_dies_ends_the_step_with_the_reason() {
    let test = "a_pmix_server_that_dies_ends_the_step_with_the_reason";
    let cluster = Cluster::up(2);
    let Some(program) = compiled(&cluster, test, &OPEN_MPI) else {
        return;
    };
    let ready = cluster.work.join("ready");
    let flag = format!("ready={}", ready.display());
    let words = ["-n", "2", program.to_str().unwrap(), "hang", "0", &flag];
    let client = start(&cluster, &words);
    wait_until("both are there", PATIENCE, || {
        let said = fs::read_to_string(&ready).unwrap_or_default();
        said.lines().count() == 2
    });
    let servers = pmix_servers(&cluster);
    let [server] = servers[..] else {
        panic!("{servers:?}");
    };
    let begun = Instant::now();
    kill_and_wait(server);
    let (code, said) = ended(client, begun);
    assert_eq!(code, 1, "{said}");
    let words = "the process that serves PMIx to the step on node n1 ended unexpectedly";
    assert!(said.contains(words), "{said}");
    cluster.wait_empty(PATIENCE);
}
