//! MPI programs of others, unmodified: HPC Challenge of the distribution over two machines, and part of what mpi4py tests
//! itself by, with each MPI that comes as wheels; HPCG and the OSU programs where somebody has their sources. What this
//! machine has not is SKIPPED.

use crate::lab::{Lab, SHARED};
use crate::mpi::{cluster, succeeds, wheel};
use crate::support::{Cluster, finish};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Patterns of files that mpi4py has in `test`: communicators, also between groups and made of them, messages and
/// collectives of bytes and of objects, windows.
const MODULES: [&str; 9] = [
    r"test_comm\.py",
    r"test_comm_inter\.py",
    r"test_session\.py",
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

/// What is tested of mpi4py: so many ranks, these files, and how many tests they have at least.
struct Part {
    tasks: usize,
    modules: &'static [&'static str],
    least: u32,
    /// None of them may be left out.
    whole: bool,
}

/// Messages and all that goes with them.
const MESSAGES: Part = Part {
    tasks: 2,
    modules: &MODULES,
    least: TESTS_LEAST,
    whole: false,
};
/// Ranks that ask for others.
const SPAWNING: Part = Part {
    tasks: 4,
    modules: &[r"test_spawn\.py"],
    least: 40,
    whole: true,
};

fn mpi4py_passes_its_tests(test: &str, name: &str, part: &Part) {
    let (place, source) = match (wheel(name), wheel("mpi4py-src")) {
        (Ok(place), Ok(source)) => (place, source),
        (Err(why), _) | (_, Err(why)) => {
            println!("SKIPPED: {test}: {why} (packaging/setup.sh test gets it)");
            return;
        }
    };
    let cluster = Cluster::up(4);
    let [python, script] = [place.join("bin/python"), source.join("test/main.py")];
    // With labels lines of the two do not mix.
    let tasks = part.tasks.to_string();
    let mut command = cluster.hpc(&["run", "-l", "-n", &tasks]);
    command.arg(python).arg(script);
    command.args(part.modules.iter().flat_map(|module| ["-i", module]));
    let answer = finish(&mut command, b"");
    succeeds(&answer);
    // Each rank says so, and that there is another one.
    let lines = |start: &str| {
        let lines = answer.err.lines();
        lines.filter(|line| line.starts_with(start)).count()
    };
    for rank in 0..part.tasks {
        assert_eq!(lines(&format!("{rank}: OK")), 1, "{answer:?}");
        assert!(lines(&format!("{rank}: [{rank}@")) > 0, "{answer:?}");
        let left_out = lines(&format!("{rank}: OK ("));
        assert!(!part.whole || left_out == 0, "{answer:?}");
    }
    let ran = answer.err.lines().find_map(|line| {
        let (count, _) = line.strip_prefix("0: Ran ")?.split_once(" tests in ")?;
        count.parse::<u32>().ok()
    });
    assert!(ran.is_some_and(|ran| ran >= part.least), "{answer:?}");
}

#[test]
fn mpi4py_on_mpich_5_passes_its_tests() {
    mpi4py_passes_its_tests("mpi4py_on_mpich_5_passes_its_tests", "mpich", &MESSAGES);
}

#[test]
fn mpi4py_on_mpich_5_spawns() {
    mpi4py_passes_its_tests("mpi4py_on_mpich_5_spawns", "mpich", &SPAWNING);
}

#[test]
fn mpi4py_on_open_mpi_5_passes_its_tests() {
    mpi4py_passes_its_tests(
        "mpi4py_on_open_mpi_5_passes_its_tests",
        "openmpi",
        &MESSAGES,
    );
}

#[test]
fn mpi4py_on_open_mpi_5_spawns() {
    mpi4py_passes_its_tests("mpi4py_on_open_mpi_5_spawns", "openmpi", &SPAWNING);
}

#[test]
fn mpi4py_on_intel_mpi_passes_its_tests() {
    mpi4py_passes_its_tests("mpi4py_on_intel_mpi_passes_its_tests", "impi", &MESSAGES);
}

/// Where sources of programs are that no package brings: `hpcg`, `osu-micro-benchmarks`, as their projects publish them.
const SOURCES: &str = "HPC_TEST_SOURCES";

/// A copy of such a source to build in, and the compilers that are there; otherwise the test is skipped.
fn source(test: &str, name: &str, lab: &Lab) -> Option<(PathBuf, Vec<Compilers>)> {
    let found = std::env::var_os(SOURCES).map(|folder| Path::new(&folder).join(name));
    let Some(found) = found.filter(|path| path.exists()) else {
        println!("SKIPPED: {test}: no {name} in the folder that {SOURCES} names");
        return None;
    };
    let mut all = Vec::new();
    for mpi in ["mpich", "openmpi"] {
        let path = |word: &str| format!("/usr/bin/{word}.{mpi}");
        let (c, cpp) = (path("mpicc"), path("mpicxx"));
        if Path::new(&c).exists() && Path::new(&cpp).exists() {
            all.push(Compilers { mpi, c, cpp });
        }
    }
    if all.is_empty() {
        println!(
            "SKIPPED: {test}: no MPI of the distribution (packaging/setup.sh test installs them)"
        );
        return None;
    }
    let copy = lab.shared(name);
    succeeds(&finish(
        Command::new("cp").arg("-r").args([&found, &copy]),
        b"",
    ));
    Some((copy, all))
}

/// How programs are made for an MPI.
struct Compilers {
    mpi: &'static str,
    c: String,
    cpp: String,
}

#[test]
fn hpcg_computes_over_machines() {
    let test = "hpcg_computes_over_machines";
    let Some(lab) = Lab::new(test) else { return };
    let Some((folder, all)) = source(test, "hpcg", &lab) else {
        return;
    };
    let hosts = cluster(&lab, 2);
    for Compilers { mpi, cpp, .. } in all {
        let compile =
            format!("cd {SHARED}/hpcg/src && {cpp} -O2 -DHPCG_NO_OPENMP -o ../{mpi} *.cpp");
        succeeds(&hosts[0].call(&["sh", "-c", &compile]));
        let work = folder.join(format!("run-{mpi}"));
        fs::create_dir(&work).unwrap();
        let place = format!("{SHARED}/hpcg/run-{mpi}");
        let program = format!("../{mpi}");
        let words = ["run", "-D", &place, "-N", "2", "--ntasks-per-node", "2"];
        let small = ["--nx=16", "--ny=16", "--nz=16", "--rt=1"];
        succeeds(&hosts[0].run(&[&words[..], &[&program], &small].concat()));
        let files = fs::read_dir(&work)
            .unwrap()
            .map(|file| file.unwrap().path());
        let mut results = files.filter(|path| path.to_str().unwrap().contains("HPCG-Benchmark"));
        let said = fs::read_to_string(results.next().unwrap()).unwrap();
        let says = |words: &str| said.contains(words);
        assert!(says("Machine Summary::Distributed Processes=4"), "{said}");
        assert!(says("HPCG result is VALID"), "{said}");
    }
}

#[test]
fn the_osu_programs_run_over_machines() {
    let test = "the_osu_programs_run_over_machines";
    let Some(lab) = Lab::new(test) else { return };
    let Some((_, all)) = source(test, "osu-micro-benchmarks", &lab) else {
        return;
    };
    let hosts = cluster(&lab, 2);
    for Compilers { mpi, c, cpp } in all {
        let build = format!("{SHARED}/osu-micro-benchmarks/{mpi}");
        // A source that comes without its times would have itself made anew by tools that few have.
        let tools = "ACLOCAL=: AUTOCONF=: AUTOHEADER=: AUTOMAKE=:";
        let configure = format!("../configure CC={c} CXX={cpp} && make -j2 {tools}");
        let make = format!("mkdir {build} && cd {build} && {configure}");
        succeeds(&hosts[0].call(&["sh", "-c", &make]));
        // Ranks that turn while they wait share few processors: the thousands of messages of each size that these programs
        // send without being told otherwise take minutes here.
        let few: &[&str] = &["-i", "20", "-x", "2"];
        for (name, tasks, few, last) in [
            ("osu_init", "2", &[][..], "nprocs: 4"),
            ("osu_hello", "2", &[], ""),
            ("osu_latency", "1", few, "4194304"),
            ("osu_bw", "1", few, "4194304"),
            ("osu_allreduce", "2", few, "1048576"),
        ] {
            let find = ["find", &build, "-name", name, "-type", "f", "-perm", "-u+x"];
            let found = hosts[0].call(&find).out;
            let program = found.lines().next().unwrap_or_else(|| panic!("no {name}"));
            let words = ["run", "-N", "2", "--ntasks-per-node", tasks, program];
            let words = [&words[..], few].concat();
            // Longer than a command usually may.
            let output = hosts[0].hpc(&words).output().unwrap();
            let out = String::from_utf8_lossy(&output.stdout);
            // Older ones greet nobody.
            let right = output.status.success() && (last.is_empty() || out.contains(last));
            assert!(right, "{name}: {output:?}");
        }
    }
}
