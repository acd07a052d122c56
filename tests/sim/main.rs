//! `hpc sim` from the command line: known traces give known schedules.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test: it starts programs and reads files"
)]

mod cluster;
mod flaky;
mod foresight;
mod packing;
mod properties;
mod topology;

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A trace, and what is known of it under each policy: mean wait, mean bounded slowdown and its most, utilisation,
/// makespan and the schedule itself by its fingerprint. The figures are those of an independent simulator that
/// was held against published schedules.
struct Known {
    policy: &'static str,
    wait: f64,
    slowdown: (f64, f64),
    utilisation: f64,
    makespan: i64,
    fingerprint: &'static str,
}

const fn known(
    policy: &'static str,
    wait: f64,
    slowdown: (f64, f64),
    utilisation: f64,
    makespan: i64,
    fingerprint: &'static str,
) -> Known {
    Known {
        policy,
        wait,
        slowdown,
        utilisation,
        makespan,
        fingerprint,
    }
}

fn hpc(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hpc"))
        .args(words)
        .output()
        .unwrap()
}

fn figures(trace: &Path, policy: &str) -> Value {
    let answer = hpc(&[
        "sim",
        "--trace",
        trace.to_str().unwrap(),
        "--policy",
        policy,
        "--json",
    ]);
    assert!(answer.status.success(), "{answer:?}");
    serde_json::from_slice(&answer.stdout).unwrap()
}

fn check(trace: &Path, jobs: u64, table: &[Known]) {
    for known in table {
        let figures = figures(trace, known.policy);
        let number = |group: &str, name: &str| figures[group][name].as_f64().unwrap();
        let near = |value: f64, wanted: f64, most: f64| {
            assert!(
                (value - wanted).abs() <= most,
                "{}: {value}, not {wanted}: {figures}",
                known.policy
            );
        };
        assert_eq!(figures["fingerprint"], known.fingerprint, "{figures}");
        assert_eq!(figures["jobs"], jobs);
        assert_eq!(figures["makespan_s"], known.makespan);
        near(number("wait_s", "mean"), known.wait, 0.0006);
        near(number("bounded_slowdown", "mean"), known.slowdown.0, 6e-7);
        near(number("bounded_slowdown", "max"), known.slowdown.1, 0.06);
        near(
            figures["utilisation"].as_f64().unwrap(),
            known.utilisation,
            6e-7,
        );
    }
}

#[test]
fn the_log_of_a_real_machine_gives_the_known_schedules() {
    let trace =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/SDSC-SP2-1998-4.2-cln.swf.gz");
    check(
        &trace,
        54_034,
        &[
            known(
                "fcfs",
                1_536_403.104,
                (13_860.614_179, 518_632.0),
                0.759_582,
                68_412_579,
                "94a0f40912b50508",
            ),
            known(
                "sjf",
                177_023.263,
                (400.323_850, 296_796.8),
                0.791_069,
                65_689_558,
                "13e48ec73af47679",
            ),
            known(
                "easy",
                20_576.237,
                (88.541_082, 10_955.3),
                0.824_509,
                63_025_323,
                "c91cd39d75ed50a9",
            ),
            known(
                "easy-sjbf",
                20_404.993,
                (82.953_194, 8_788.9),
                0.824_543,
                63_022_769,
                "db7bde32bb97cc94",
            ),
            known(
                "easy++",
                24_659.459,
                (83.764_682, 13_442.7),
                0.824_324,
                63_039_448,
                "1a10e1f4da9480b1",
            ),
            known(
                "cons",
                24_746.194,
                (99.299_301, 8_765.4),
                0.824_175,
                63_050_860,
                "a4637016d64d62ba",
            ),
        ],
    );
}

#[test]
fn a_made_up_workload_gives_the_known_schedules() {
    let trace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/traces/lublin_256.swf.gz");
    if !trace.exists() {
        println!(
            "SKIPPED: a_made_up_workload_gives_the_known_schedules: ../shared/traces/lublin_256.swf.gz is not here"
        );
        return;
    }
    check(
        &trace,
        10_000,
        &[
            known(
                "fcfs",
                2_388_443.760,
                (66_502.475_529, 475_997.9),
                0.654_908,
                12_482_549,
                "886af3953663cff8",
            ),
            known(
                "sjf",
                275_304.223,
                (53.543_485, 1_888.2),
                0.719_683,
                11_359_058,
                "2b572e5f3180f454",
            ),
            known(
                "easy",
                97_155.995,
                (590.053_777, 17_772.4),
                0.936_343,
                8_730_698,
                "60f82241fb3bd733",
            ),
            known(
                "easy-sjbf",
                73_394.375,
                (219.557_621, 11_422.7),
                0.897_669,
                9_106_839,
                "823778da33506905",
            ),
            known(
                "easy++",
                77_342.295,
                (233.081_160, 10_257.2),
                0.859_393,
                9_512_440,
                "51da34c45328ad6f",
            ),
            known(
                "cons",
                131_567.509,
                (489.201_322, 17_721.4),
                0.936_472,
                8_729_497,
                "9a199de16328686c",
            ),
        ],
    );
}

fn written(text: &str) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("jobs.swf");
    std::fs::write(&path, text).unwrap();
    (directory, path)
}

#[test]
fn a_small_trace_is_told_in_words() {
    // Two processors: the second job waits for the first, the third fits in beside it.
    let text =
        "1 0 -1 100 1 -1 -1 1 100\n2 10 -1 50 2 -1 -1 2 50\n3 20 -1 5 1 -1 -1 1 60\n4 0 -1 5 3\n";
    let (_directory, path) = written(text);
    let answer = hpc(&["sim", "--trace", path.to_str().unwrap(), "--procs", "2"]);
    let said = String::from_utf8(answer.stdout).unwrap();
    let value = |name: &str| {
        let line = said.lines().find(|line| line.starts_with(name)).unwrap();
        line[name.len()..].trim().to_owned()
    };
    assert_eq!(value("jobs"), "3");
    assert_eq!(value("wait, mean (s)"), "30.000");
    assert_eq!(value("wait, most (s)"), "90");
    assert_eq!(value("makespan (s)"), "150");
    let left_out = String::from_utf8(answer.stderr).unwrap();
    assert!(left_out.contains("1 job was left out"), "{left_out}");
}

#[test]
fn what_is_no_trace_is_refused_with_the_place_of_the_fault() {
    for (text, said) in [
        (
            "; MaxProcs: 4\n1 2 x 4 5\n",
            "line 2 is no job of a trace: `x` is no number",
        ),
        ("1 0 -1 5 1\n", "say so with --procs"),
        (
            "; MaxProcs: 4\n",
            "it has no job that could run on 4 processors",
        ),
        ("; MaxProcs: 0\n1 0 -1 5 1\n", "--procs"),
    ] {
        let (_directory, path) = written(text);
        let answer = hpc(&["sim", "--trace", path.to_str().unwrap()]);
        let error = String::from_utf8(answer.stderr).unwrap();
        assert_eq!(answer.status.code(), Some(1), "{error}");
        assert!(error.contains(said), "{error}");
    }
    let answer = hpc(&["sim", "--trace", "/no/such.swf"]);
    let error = String::from_utf8(answer.stderr).unwrap();
    assert!(error.contains("cannot read /no/such.swf"), "{error}");
    // A gzip file that ends too soon.
    let whole = std::fs::read(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/SDSC-SP2-1998-4.2-cln.swf.gz"),
    )
    .unwrap();
    let (directory, path) = written("");
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let answer = hpc(&["sim", "--trace", path.to_str().unwrap()]);
    assert_eq!(answer.status.code(), Some(1), "{answer:?}");
    drop(directory);
}
