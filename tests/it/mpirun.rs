//! `mpirun` inside a job: each MPI's own launcher, told by the job's environment alone, starts its daemons on the other
//! nodes by way of `hpc`. The MPIs and programs are those of `mpi.rs`; what this machine has not is SKIPPED.

use crate::lab::{Host, Lab, SHARED};
use crate::mpi::{Mpi, Wanted, cluster};
use crate::support::{Answer, PATIENCE, code_of, command_line, finish, wait_child, wait_until};
use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

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
    program: String,
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
        Some(Stage {
            lab,
            hosts,
            mpi,
            program,
        })
    }

    /// `hpc` of these words, as somebody calls it who has loaded this MPI.
    fn hpc(&self, words: &[&str]) -> Command {
        let place = self.mpi.launcher.parent().unwrap().display();
        let path = format!("PATH={place}:/run/lab/bin:/usr/bin:/bin");
        let mut all = vec!["env", &path];
        all.extend(AS_ROOT);
        all.extend(self.mpi.environment.as_deref());
        all.push("hpc");
        all.extend(words);
        self.hosts[0].command(&all)
    }

    fn launcher(&self) -> &str {
        self.mpi.launcher.to_str().unwrap()
    }

    /// `hpc alloc` of two nodes with two tasks each, for these words after the launcher.
    fn alloc(&self, words: &[&str]) -> Answer {
        let alloc = ["alloc", "-N", "2", "--ntasks-per-node", "2", self.launcher()];
        finish(&mut self.hpc(&[&alloc, words].concat()), b"")
    }

    /// Submits a script of this body, for two nodes with two tasks each; its number and where its output goes.
    fn submit(&self, name: &str, body: &str) -> (u32, std::path::PathBuf) {
        let file = format!("{name}-{}", std::process::id());
        let text = format!("#!/bin/sh\n#SBATCH -N 2 --ntasks-per-node=2\n{body}\n");
        fs::write(self.lab.shared(&file), text).unwrap();
        let out = self.lab.shared(&format!("{file}.out"));
        let words = ["submit", "--parsable", "-D", SHARED, "-o"];
        let names = [format!("{SHARED}/{file}.out"), format!("{SHARED}/{file}")];
        let words = [&words[..], &[&names[0], &names[1]]].concat();
        let answer = finish(&mut self.hpc(&words), b"");
        assert_eq!(answer.code, 0, "{answer:?}");
        (answer.out.trim().parse().unwrap(), out)
    }

    fn check(&self, out: &str, err: &str) {
        let line = format!(
            "MATRIX OK size=4 nodes=2 per_node=2 library={}",
            self.mpi.says
        );
        assert!(out.lines().any(|said| said.starts_with(&line)), "{out}\n{err}");
    }

    /// No rank and no daemon is left anywhere.
    fn nothing_is_left(&self) {
        let left = || -> Vec<String> {
            let lines = self.lab.processes().into_iter().map(command_line);
            lines
                .filter(|line| {
                    line.contains(&self.program) || DAEMONS.iter().any(|name| line.contains(name))
                })
                .collect()
        };
        let begun = std::time::Instant::now();
        while !left().is_empty() && begun.elapsed() < END_MAX {
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(left().is_empty(), "{:?}", left());
    }
}

fn launches(test: &str, wanted: Wanted) {
    let Some(stage) = Stage::set(test, wanted) else {
        return;
    };
    let begun = std::time::Instant::now();
    let answer = stage.alloc(&[&stage.program, "check", "4", "2"]);
    println!("{:?} {answer:?}", begun.elapsed());
    stage.check(&answer.out, &answer.err);
    assert_eq!(answer.code, 0, "{answer:?}");
    stage.nothing_is_left();
}

#[test]
fn open_mpi_4() {
    launches("open_mpi_4", Wanted::OpenMpi);
}

#[test]
fn open_mpi_5() {
    launches("open_mpi_5", Wanted::OpenMpi5);
}

#[test]
fn mpich_4() {
    launches("mpich_4", Wanted::Mpich);
}

#[test]
fn mpich_5() {
    launches("mpich_5", Wanted::Mpich5);
}

#[test]
fn intel() {
    launches("intel", Wanted::Intel);
}
