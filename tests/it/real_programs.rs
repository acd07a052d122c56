//! MPI programs of others, unmodified: HPC Challenge of the distribution over two machines, and part of what mpi4py tests
//! itself by, with each MPI that comes as wheels. What this machine has not is SKIPPED.

use crate::lab::{Lab, SHARED};
use crate::mpi::{cluster, succeeds, wheel};
use crate::support::{Cluster, finish};
use std::fs;
use std::path::Path;

/// Patterns of files that mpi4py has in `test`: communicators, messages and collectives of bytes and of objects, windows.
const MODULES: [&str; 7] = [
    r"test_comm\.py",
    r"test_cco_buf\.py",
    r"test_cco_obj\.py",
    r"test_p2p_buf\.py",
    r"test_p2p_obj\.py",
    r"test_rma\.py",
    r"test_win\.py",
];
/// So many tests they have at least: a pattern that names nothing would do well.
const TESTS_LEAST: u32 = 300;
/// The sizes of the example that comes with hpcc, and smaller ones.
const SMALLER: [(&str, &str); 3] = [
    ("1000         Ns", "200          Ns"),
    ("80           NBs", "32           NBs"),
    ("1200 10000 30000", "100 10000 30000"),
];

#[test]
fn hpc_challenge_computes_over_machines() {
    let test = "hpc_challenge_computes_over_machines";
    let example = Path::new("/usr/share/doc/hpcc/examples/_hpccinf.txt");
    if !Path::new("/usr/bin/hpcc").exists() || !example.exists() {
        println!("SKIPPED: {test}: no hpcc (packaging/setup.sh test installs it)");
        return;
    }
    let Some(lab) = Lab::new(test) else { return };
    let hosts = cluster(&lab, 2);
    let mut input = fs::read_to_string(example).unwrap();
    for (size, smaller) in SMALLER {
        assert!(input.contains(size), "{size}: {input}");
        input = input.replace(size, smaller);
    }
    fs::create_dir(lab.shared("hpcc")).unwrap();
    fs::write(lab.shared("hpcc/hpccinf.txt"), input).unwrap();
    let place = format!("{SHARED}/hpcc");
    let two_of_two = ["-N", "2", "--ntasks-per-node", "2"];
    succeeds(&hosts[0].run(&[&["run", "-D", &place], &two_of_two[..], &["hpcc"]].concat()));
    let said = fs::read_to_string(lab.shared("hpcc/hpccoutf.txt")).unwrap();
    let says = |words: &str| said.lines().filter(|line| line.contains(words)).count();
    assert_eq!((says("Success=1"), says("FAILED")), (1, 0), "{said}");
    assert!(says("PASSED") >= 5, "{said}");
    assert_eq!(says("CommWorldProcs=4"), 1, "{said}");
}

fn mpi4py_passes_its_tests(test: &str, name: &str) {
    let (place, source) = match (wheel(name), wheel("mpi4py-src")) {
        (Ok(place), Ok(source)) => (place, source),
        (Err(why), _) | (_, Err(why)) => {
            println!("SKIPPED: {test}: {why} (packaging/setup.sh test gets it)");
            return;
        }
    };
    let cluster = Cluster::up(4);
    let [python, script] = [place.join("bin/python"), source.join("test/main.py")];
    let mut command = cluster.hpc(&["run", "-n", "2"]);
    command.arg(python).arg(script);
    command.args(MODULES.iter().flat_map(|module| ["-i", module]));
    let answer = finish(&mut command, b"");
    succeeds(&answer);
    // Each rank says so, and that there is another one.
    let lines = |start: &str| {
        let lines = answer.err.lines();
        lines.filter(|line| line.starts_with(start)).count()
    };
    assert_eq!(lines("OK"), 2, "{answer:?}");
    assert!(lines("[0@") > 0 && lines("[1@") > 0, "{answer:?}");
    let ran = answer.err.lines().find_map(|line| {
        let (count, _) = line.strip_prefix("Ran ")?.split_once(" tests in ")?;
        count.parse::<u32>().ok()
    });
    assert!(ran.is_some_and(|ran| ran >= TESTS_LEAST), "{answer:?}");
}

#[test]
fn mpi4py_on_mpich_5_passes_its_tests() {
    mpi4py_passes_its_tests("mpi4py_on_mpich_5_passes_its_tests", "mpich");
}

#[test]
fn mpi4py_on_open_mpi_5_passes_its_tests() {
    mpi4py_passes_its_tests("mpi4py_on_open_mpi_5_passes_its_tests", "openmpi");
}

#[test]
fn mpi4py_on_intel_mpi_passes_its_tests() {
    mpi4py_passes_its_tests("mpi4py_on_intel_mpi_passes_its_tests", "impi");
}
