//! The kept corpus of the fuzz targets, run through the same checks by an ordinary test: what a fuzzer once found
//! stays found, with no fuzzer at hand. `make fuzz` looks for more.
//!
//! After a message or a record has changed, write the seeds anew:
//! `cargo test --test fuzz_corpus -- --ignored write_the_seeds`.

#![allow(
    clippy::disallowed_methods,
    reason = "reads and writes the corpus below tests/fuzz"
)]

#[allow(unused_imports, reason = "the shared pages name these as their own")]
use hpc::{cluster, model, store, wire};

#[path = "fuzz/checks.rs"]
#[allow(unreachable_pub, reason = "a library of its own for the fuzzer")]
mod checks;
#[path = "../src/store/fixtures.rs"]
mod fixtures;
#[path = "fuzz/seeds.rs"]
mod seeds;

use std::fs;
use std::path::{Path, PathBuf};

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fuzz/corpus")
        .join(target)
}

fn check(target: &str) -> checks::Check {
    let found = checks::TARGETS.iter().find(|(name, _)| *name == target);
    found.expect("a target of this name").1
}

#[test]
fn the_kept_corpus_passes() {
    for (target, check) in checks::TARGETS {
        let files = fs::read_dir(corpus(target)).expect("each target has a corpus");
        let mut files: Vec<PathBuf> = files.map(|file| file.expect("readable").path()).collect();
        files.sort();
        assert!(!files.is_empty(), "{target} has no corpus");
        let mut understood = 0;
        for file in &files {
            let bytes = fs::read(file).expect("readable");
            // The panic that follows does not say on which of the files it was.
            let answer = std::panic::catch_unwind(|| check(&bytes));
            let answer = answer.unwrap_or_else(|_| panic!("see above: {}", file.display()));
            understood += usize::from(answer);
        }
        println!("{target}: {understood} of {} understood", files.len());
        assert!(
            understood > 0,
            "{target}: nothing in the corpus is understood"
        );
    }
}

#[test]
fn every_seed_is_understood() {
    for (target, seed) in seeds::all() {
        let text = String::from_utf8_lossy(&seed);
        assert!(check(target)(&seed), "{target}: {text:?} ({seed:?})");
    }
}

#[test]
fn every_seed_may_be_cut_anywhere() {
    for (target, seed) in seeds::all() {
        for end in 0..seed.len() {
            let _ = check(target)(&seed[..end]);
        }
    }
}

#[test]
fn every_target_is_a_program_of_the_fuzz_package() {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/Cargo.toml");
    let manifest: toml::Table = fs::read_to_string(manifest).unwrap().parse().unwrap();
    let programs = manifest["bin"].as_array().unwrap().iter();
    let programs: Vec<&str> = programs.map(|bin| bin["name"].as_str().unwrap()).collect();
    assert_eq!(programs, checks::TARGETS.map(|(name, _)| name));
}

#[test]
#[ignore = "writes tests/fuzz/corpus/*/seed-*; for when a message or a record has changed"]
fn write_the_seeds() {
    for (target, _) in checks::TARGETS {
        let folder = corpus(target);
        fs::create_dir_all(&folder).unwrap();
        for file in fs::read_dir(&folder).unwrap() {
            let file = file.unwrap();
            if file.file_name().to_string_lossy().starts_with("seed-") {
                fs::remove_file(file.path()).unwrap();
            }
        }
        let mine = seeds::all().into_iter().filter(|(of, _)| *of == target);
        for (number, (_, seed)) in mine.enumerate() {
            fs::write(folder.join(format!("seed-{number:02}")), seed).unwrap();
        }
    }
}
