//! `mpirun` inside a job: each MPI's own launcher, told by the job's environment alone, starts its daemons on the other
//! nodes by way of `hpc`. The MPIs and programs are those of `mpi.rs`; what this machine has not is SKIPPED.

use crate::lab::{Host, Lab, SHARED};
use crate::mpi::{Mpi, Wanted, cluster};
use crate::support::{PATIENCE, command_line, finish, rows, wait_child, wait_until};
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// From the end of a job until nothing of it is left.
const END_MAX: Duration = Duration::from_secs(10);
/// What daemons of launchers are called, and what starts them.
const DAEMONS: [&str; 5] = [
    "orted",
    "prted",
    "hydra_pmi_proxy",
    "hydra_bstrap_proxy",
    "remote-shell",
];
/// Open MPI's launchers do not run for root unless they are asked to.
const AS_ROOT: [&str; 4] = [
    "OMPI_ALLOW_RUN_AS_ROOT=1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1",
    "PRTE_ALLOW_RUN_AS_ROOT=1",
    "PRTE_ALLOW_RUN_AS_ROOT_CONFIRM=1",
];

/// A cluster of two machines, and an MPI.
struct Stage {
    lab: Lab,
    hosts: Vec<Host>,
    mpi: Mpi,
    /// `matrix.c`.
    program: String,
    /// Words for the launcher before the program, and how many ranks it has then on each of both machines.
    words: &'static [&'static str],
    per_node: u32,
    /// How a rank ends whose code the launcher passes on.
    fails: &'static str,
}

impl Stage {
    fn set(test: &str, wanted: Wanted) -> Option<Self> {
        let lab = Lab::new(test)?;
        let mpi = wanted.get(test)?;
        if !mpi.launcher.exists() {
            println!("SKIPPED: {test}: no {}", mpi.launcher.display());
            return None;
        }
        let hosts = cluster(&lab, 2);
        let program = mpi.compile(&lab, "matrix");
        // MPICH 4.0.2 over UCX does not always come through its own finalize once several ranks of several machines
        // have spoken with each other, whoever starts it; with one rank on each machine it does.
        let (words, per_node): (&[&str], _) = match wanted {
            Wanted::Mpich => (&["-n", "2", "-ppn", "1"], 1),
            _ => (&[], 2),
        };
        // Intel's ends the others once one has returned something, and its code is 255 where they had not come so far.
        let fails = match wanted {
            Wanted::Intel => "abort",
            _ => "exit-after-finalize",
        };
        Some(Stage {
            fails,
            lab,
            hosts,
            mpi,
            program,
            words,
            per_node,
        })
    }

    /// `hpc` of these words, as somebody calls it who has loaded this MPI.
    fn hpc(&self, words: &[&str]) -> Command {
        let place = self.mpi.launcher.parent().unwrap().display();
        let path = format!("PATH={place}:/run/lab/bin:/usr/bin:/bin");
        let mut all = vec!["env", &path];
        all.extend(AS_ROOT);
        all.extend(self.mpi.environment.iter().map(String::as_str));
        all.push("hpc");
        all.extend(words);
        self.hosts[0].command(&all)
    }

    /// The launcher and the program, with these words.
    fn mpirun<'a>(&'a self, words: &[&'a str]) -> Vec<&'a str> {
        let launcher = [self.mpi.launcher.to_str().unwrap()];
        [&launcher[..], self.words, &[&self.program], words].concat()
    }

    /// The program's words for a check of everything.
    fn check(&self) -> [String; 3] {
        let size = 2 * self.per_node;
        let [size, per_node] = [size, self.per_node].map(|number| number.to_string());
        ["check".to_owned(), size, per_node]
    }

    /// The line that a check says.
    fn right(&self) -> String {
        let per_node = self.per_node;
        let says = self.mpi.says;
        let size = 2 * per_node;
        format!("MATRIX OK size={size} nodes=2 per_node={per_node} library={says}")
    }

    /// `hpc alloc` of two nodes with two tasks each.
    fn alloc(&self, words: &[&str]) -> Command {
        let alloc = ["alloc", "-N", "2", "--ntasks-per-node", "2"];
        self.hpc(&[&alloc, words].concat())
    }

    /// Submits a script of this body, for two nodes with two tasks each; its number and where its output goes.
    fn submit(&self, name: &str, body: &str) -> (u32, PathBuf) {
        let file = format!("{name}-{}", std::process::id());
        let text = format!("#!/bin/sh\n#SBATCH -N 2 --ntasks-per-node=2\n{body}\n");
        fs::write(self.lab.shared(&file), text).unwrap();
        let out = self.lab.shared(&format!("{file}.out"));
        let names = [format!("{SHARED}/{file}.out"), format!("{SHARED}/{file}")];
        let words = ["submit", "--parsable", "-D", SHARED, "-o"];
        let words = [&words[..], &[&names[0], &names[1]]].concat();
        let answer = finish(&mut self.hpc(&words), b"");
        assert_eq!(answer.code, 0, "{answer:?}");
        (answer.out.trim().parse().unwrap(), out)
    }

    /// What the program makes once all ranks wait for each other, as a word of its command line.
    fn flag(&self) -> String {
        let _ = fs::remove_file(self.lab.shared("ready"));
        format!("ready={SHARED}/ready")
    }

    fn wait_for_ranks(&self) {
        let ready = self.lab.shared("ready");
        wait_until("all ranks are there", PATIENCE, || {
            let ready = fs::read_to_string(&ready).unwrap_or_default();
            ready.lines().count() == 2 * self.per_node as usize
        });
    }

    /// Soon no rank and no daemon is left anywhere.
    fn nothing_is_left(&self) {
        let names = DAEMONS.iter().copied().chain([self.program.as_str()]);
        let names: Vec<&str> = names.collect();
        let begun = Instant::now();
        let mut left = vec![String::new()];
        while !left.is_empty() && begun.elapsed() < END_MAX {
            let processes = self.lab.processes().into_iter();
            left = processes
                .map(|pid| format!("{pid}: {}", command_line(pid)))
                .filter(|line| names.iter().any(|name| line.contains(name)))
                .collect();
            thread::sleep(Duration::from_millis(20));
        }
        assert!(
            left.is_empty(),
            "after {END_MAX:?} there still are {left:#?}"
        );
    }

    /// Nor any of their shared memory.
    fn nothing_at_all_is_left(&self) {
        self.nothing_is_left();
        for host in &self.hosts {
            wait_until("its /dev/shm is empty", END_MAX, || {
                let listed = host.call(&["ls", "-A", "/dev/shm"]);
                assert_eq!(listed.code, 0, "{listed:?}");
                listed.out.is_empty()
            });
        }
    }
}

fn launches(test: &str, wanted: Wanted) {
    let Some(stage) = Stage::set(test, wanted) else {
        return;
    };
    let check = stage.check();
    let check: Vec<&str> = check.iter().map(String::as_str).collect();
    let is_right = |out: &str| out.lines().any(|line| line.starts_with(&stage.right()));

    // On the machine of the client, which is one of the job's here.
    let answer = finish(&mut stage.alloc(&stage.mpirun(&check)), b"");
    assert!(answer.code == 0 && is_right(&answer.out), "{answer:?}");
    stage.nothing_at_all_is_left();

    // In a script; and its code is that of the program.
    let line = stage.mpirun(&check).join(" ");
    let fails = stage.mpirun(&[stage.fails, "1", "7"]).join(" ");
    let (job, out) = stage.submit("script", &format!("{line}\n{fails}"));
    stage.hosts[0].wait_for_state(job, "FAILED");
    let said = fs::read_to_string(out).unwrap();
    assert!(is_right(&said), "{said}");
    let row = stage.hosts[0].json(&["job", &job.to_string()]);
    assert_eq!(row["exit_code"], 7, "{row} {said}");
    stage.nothing_at_all_is_left();

    // Within a step, which has to have as many cpus as there are ranks on its node.
    let run = ["hpc", "run", "-n", "1", "-c", "2"];
    let answer = finish(
        &mut stage.alloc(&[&run[..], &stage.mpirun(&check)].concat()),
        b"",
    );
    assert!(answer.code == 0 && is_right(&answer.out), "{answer:?}");
    stage.nothing_at_all_is_left();
}

fn ends_with_its_job(test: &str, wanted: Wanted) {
    let Some(stage) = Stage::set(test, wanted) else {
        return;
    };
    let flag = stage.flag();
    let hang = stage.mpirun(&["hang", "1", &flag]).join(" ");
    let (job, _) = stage.submit("hangs", &hang);
    stage.wait_for_ranks();
    let number = job.to_string();
    stage.hosts[0].ok(&["cancel", &number]);
    stage.hosts[0].wait_for_state(job, "CANCELLED");
    stage.nothing_at_all_is_left();

    // A rank that is killed takes the rest along, and the launcher's code is not 0.
    let flag = stage.flag();
    let kill = stage.mpirun(&["kill", "1", &flag]);
    let answer = finish(&mut stage.alloc(&kill), b"");
    assert!(answer.code != 0, "{answer:?}");
    stage.nothing_at_all_is_left();

    // The allocation is taken away in the middle.
    let flag = stage.flag();
    let hang = stage.mpirun(&["hang", "1", &flag]);
    let mut command = stage.alloc(&hang);
    let mut client = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    stage.wait_for_ranks();
    let job = rows(&stage.hosts[0].json(&["queue"]))[0]["id"].to_string();
    stage.hosts[0].ok(&["cancel", &job]);
    // What code its launcher then ends with is its own affair, and ranks here are beside the job: those that the launcher
    // leaves behind end by SIGHUP, and what they leave in shared memory nobody sees.
    assert!(wait_child(&mut client, PATIENCE).is_some());
    stage.nothing_is_left();
}

#[test]
fn open_mpi_of_the_distribution_launches() {
    launches("open_mpi_of_the_distribution_launches", Wanted::OpenMpi);
}

#[test]
fn open_mpi_of_the_distribution_ends_with_its_job() {
    ends_with_its_job(
        "open_mpi_of_the_distribution_ends_with_its_job",
        Wanted::OpenMpi,
    );
}

#[test]
fn open_mpi_5_launches() {
    launches("open_mpi_5_launches", Wanted::OpenMpi5);
}

#[test]
fn open_mpi_5_ends_with_its_job() {
    ends_with_its_job("open_mpi_5_ends_with_its_job", Wanted::OpenMpi5);
}

#[test]
fn mpich_of_the_distribution_launches() {
    launches("mpich_of_the_distribution_launches", Wanted::Mpich);
}

#[test]
fn mpich_of_the_distribution_ends_with_its_job() {
    ends_with_its_job("mpich_of_the_distribution_ends_with_its_job", Wanted::Mpich);
}

#[test]
fn mpich_5_launches() {
    launches("mpich_5_launches", Wanted::Mpich5);
}

#[test]
fn mpich_5_ends_with_its_job() {
    ends_with_its_job("mpich_5_ends_with_its_job", Wanted::Mpich5);
}

#[test]
fn intel_mpi_launches() {
    launches("intel_mpi_launches", Wanted::Intel);
}

#[test]
fn intel_mpi_ends_with_its_job() {
    ends_with_its_job("intel_mpi_ends_with_its_job", Wanted::Intel);
}
