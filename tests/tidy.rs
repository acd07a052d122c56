//! Holds the tree to its shape: which layer may use which, and what every file looks like.
//!
//! The rules read the sources as text, which is enough for the shapes in use and needs no compiler. Comments and
//! strings are blanked first, so words about code are not taken for code. Each rule is a function from a file to its
//! findings, and each has a test of its own with a bad sample, so that it can fail.
#![allow(
    clippy::disallowed_methods,
    reason = "reads the sources it holds to their shape"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The layers, highest first. A module may use any on a lower line; on its own line only what `SAME_LINE` allows.
const LAYERS: [&[&str]; 6] = [
    &[
        "cli",
        "controller",
        "worker",
        "shepherd",
        "pmix",
        "web",
        "sim",
    ],
    &["net", "store", "sys", "telemetry"],
    // Both cores speak in the words of `wire/`: its filters, orders and reports are their vocabulary.
    &["cluster", "steps"],
    &["wire"],
    &["scheduler"],
    &["model", "config"],
];

/// Who may use whom on the same line, and why. Keep it short: each entry is an arrow that the picture does not show.
const SAME_LINE: [(&str, &str, &str); 8] = [
    (
        "cli",
        "controller",
        "`hpc controller` is a command line that ends in the controller's one entry",
    ),
    ("cli", "worker", "`hpc worker`, the same"),
    (
        "cli",
        "shepherd",
        "the hidden mode that the agent starts, the same",
    ),
    (
        "cli",
        "pmix",
        "the hidden mode that a shepherd starts, the same",
    ),
    ("cli", "sim", "`hpc sim`, the same"),
    ("net", "sys", "peer credentials are a system call"),
    ("store", "sys", "a store asks what file system it is on"),
    (
        "config",
        "model",
        "a validated configuration is made of nouns",
    ),
];

/// Folders that may call clock, files and environment, and say so in their mod.rs.
const IMPURE: [&str; 11] = [
    "cli",
    "controller",
    "worker",
    "shepherd",
    "pmix",
    "web",
    "sim",
    "net",
    "store",
    "sys",
    "telemetry",
];

/// Lines of code before the tests of a file. A longer one hides a second noun.
const LINES_MAX: usize = 900;

// ---- the tree as it is --------------------------------------------------------------------------------------

/// One source file: its path below the repository, its text, and the text with comments and strings blanked.
struct Source {
    path: String,
    text: String,
    code: String,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        Self {
            path: path.into(),
            text: text.into(),
            code: blank_comments_and_strings(text),
        }
    }

    /// The top-level module of a file below src: `src/wire/codec.rs` and `src/wire.rs` are both `wire`.
    fn module(&self) -> Option<&str> {
        let below = self.path.strip_prefix("src/")?;
        let first = below.split('/').next()?;
        match first.strip_suffix(".rs").unwrap_or(first) {
            "main" | "lib" => None,
            module => Some(module),
        }
    }

    /// How many `super::` lead from the top of this file to the crate's root.
    fn depth(&self) -> usize {
        let parts = self.path.split('/').count() - 1;
        if self.path.ends_with("/mod.rs") {
            parts - 1
        } else {
            parts
        }
    }

    fn line_of(&self, offset: usize) -> usize {
        self.code[..offset].matches('\n').count() + 1
    }

    fn finding(&self, offset: usize, what: &str) -> String {
        format!("{}:{}: {what}", self.path, self.line_of(offset))
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.expect("a readable folder").path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else {
            files.push(path);
        }
    }
    files.sort();
    files
}

fn sources() -> Vec<Source> {
    let sources: Vec<Source> = files_below(&root().join("src"))
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .map(|path| {
            let text = fs::read_to_string(&path).expect("sources are UTF-8");
            let below = path.strip_prefix(root()).expect("below the root");
            Source::new(below.to_str().expect("UTF-8 names"), &text)
        })
        .collect();
    assert!(!sources.is_empty(), "no sources found");
    sources
}

fn hold(rule: impl Fn(&Source) -> Vec<String>) {
    let findings: Vec<String> = sources().iter().flat_map(rule).collect();
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}

#[test]
fn arrows_point_down() {
    hold(arrows);
}

#[test]
fn every_file_opens_with_a_header() {
    hold(header);
}

#[test]
fn unsafe_stays_in_sys() {
    hold(unsafe_outside_sys);
}

#[test]
fn files_are_short() {
    hold(too_long);
}

#[test]
fn pure_folders_stay_pure() {
    hold(opts_out_of_purity);
}

#[test]
fn examples_can_be_run() {
    let findings: Vec<String> = files_below(&root().join("examples"))
        .into_iter()
        .filter_map(|path| {
            let text = fs::read_to_string(&path).ok()?;
            let mode = fs::metadata(&path).ok()?.permissions().mode();
            example(path.to_str()?, &text, mode)
        })
        .collect();
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}

// ---- the rules ----------------------------------------------------------------------------------------------

fn layer_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

fn arrows(source: &Source) -> Vec<String> {
    let Some(from) = source.module() else {
        return Vec::new();
    };
    let Some(from_layer) = layer_of(from) else {
        return vec![format!(
            "{}:1: `{from}` is in no layer; give it one in tests/tidy.rs",
            source.path
        )];
    };
    let mut findings = Vec::new();
    for (offset, to) in uses(source) {
        let Some(to_layer) = layer_of(&to) else {
            continue;
        };
        let allowed = from == to
            || from_layer < to_layer
            || SAME_LINE
                .iter()
                .any(|&(a, b, _)| (a, b) == (from, to.as_str()));
        if !allowed {
            let where_ = if from_layer == to_layer {
                "beside"
            } else {
                "above"
            };
            findings.push(source.finding(
                offset,
                &format!("`{from}` uses `{to}`, which is {where_} it"),
            ));
        }
    }
    findings
}

fn header(source: &Source) -> Vec<String> {
    if source.text.starts_with("//!") {
        return Vec::new();
    }
    vec![format!(
        "{}:1: a file opens with `//!`: what it is for, what it leaves to others",
        source.path
    )]
}

fn unsafe_outside_sys(source: &Source) -> Vec<String> {
    if source.module() == Some("sys") {
        return Vec::new();
    }
    words(&source.code)
        .filter(|&(_, word)| word == "unsafe")
        .map(|(offset, _)| source.finding(offset, "`unsafe` outside src/sys"))
        .collect()
}

fn too_long(source: &Source) -> Vec<String> {
    let lines = source
        .code
        .lines()
        .take_while(|line| !line.starts_with("#[cfg(test)]"))
        .count();
    if lines <= LINES_MAX {
        return Vec::new();
    }
    vec![format!(
        "{}:{LINES_MAX}: {lines} lines before the tests, more than {LINES_MAX}; which second noun is in it?",
        source.path
    )]
}

fn opts_out_of_purity(source: &Source) -> Vec<String> {
    if source
        .module()
        .is_none_or(|module| IMPURE.contains(&module))
    {
        return Vec::new();
    }
    let tests = source
        .code
        .find("#[cfg(test)]")
        .unwrap_or(source.code.len());
    words(&source.code[..tests])
        .filter(|&(_, word)| word == "disallowed_methods")
        .map(|(offset, _)| source.finding(offset, "a pure folder may not opt out of purity"))
        .collect()
}

/// A file that is to be run: a job script. Others (data, notes) may lie beside it.
fn example(path: &str, text: &str, mode: u32) -> Option<String> {
    let directive = |line: &str| line.starts_with("#SBATCH") || line.starts_with("#HPC");
    let is_script = path.ends_with(".sh") || path.ends_with(".py") || text.lines().any(directive);
    if !is_script {
        return None;
    }
    if !text.starts_with("#!") {
        return Some(format!("{path}:1: a job script begins with `#!`"));
    }
    (mode & 0o111 != 0o111).then(|| format!("{path}:1: a job script is executable"))
}

// ---- reading the text ---------------------------------------------------------------------------------------

/// Every top-level module that the file names by a path from the root: `crate::a`, `hpc::a`, `use crate::{a, b::c}`,
/// and `super::super::a` where that many lead to the root.
fn uses(source: &Source) -> Vec<(usize, String)> {
    let code = &source.code;
    let mut found = Vec::new();
    let mut after_super: Option<(usize, usize)> = None; // where a chain of supers ends, and how many they are
    for (offset, word) in words(code) {
        let end = offset + word.len();
        match word {
            "crate" | "hpc" => {
                if let Some(rest) = path_goes_on(code, end) {
                    found.extend(names_at(code, rest));
                }
            }
            "super" => {
                let count = match after_super {
                    Some((at, count)) if at == offset => count + 1,
                    _ => 1,
                };
                let Some(rest) = path_goes_on(code, end) else {
                    continue;
                };
                after_super = Some((rest, count));
                if count >= source.depth() {
                    found.extend(
                        names_at(code, rest)
                            .into_iter()
                            .filter(|(_, name)| name != "super"),
                    );
                }
            }
            _ => {}
        }
    }
    found
}

/// The offset after `::`, where that follows.
fn path_goes_on(code: &str, at: usize) -> Option<usize> {
    let rest = code[at..].trim_start();
    let rest = rest.strip_prefix("::")?.trim_start();
    Some(code.len() - rest.len())
}

/// The name at this offset, or the first names of a group in braces.
fn names_at(code: &str, at: usize) -> Vec<(usize, String)> {
    if !code[at..].starts_with('{') {
        return word_at(code, at).into_iter().collect();
    }
    let mut names = Vec::new();
    let mut depth = 0;
    for (offset, letter) in code[at..].char_indices() {
        let here = at + offset;
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            break;
        }
        if depth == 1 && (letter == '{' || letter == ',') {
            let next = code[here + 1..].trim_start();
            names.extend(word_at(code, code.len() - next.len()));
        }
    }
    names
}

fn is_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

fn word_at(code: &str, at: usize) -> Option<(usize, String)> {
    let word: String = code[at..]
        .chars()
        .take_while(|&letter| is_word(letter))
        .collect();
    (!word.is_empty()).then_some((at, word))
}

/// The words of the code and where they begin.
fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    code.split(|letter| !is_word(letter))
        .filter(|word| !word.is_empty())
        .map(move |word| (word.as_ptr() as usize - code.as_ptr() as usize, word))
}

/// The same text with every comment, string and character blanked, and line ends kept, so that offsets stay.
fn blank_comments_and_strings(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes[at..].starts_with(b"//") => line_end(bytes, at),
            b'/' if bytes[at..].starts_with(b"/*") => block_end(bytes, at),
            b'"' => string_end(bytes, at + 1),
            b'r' if !follows_word(bytes, at) => raw_string_end(bytes, at).unwrap_or(at),
            b'\'' => char_end(text, at).unwrap_or(at),
            _ => at,
        };
        for byte in &mut code[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end.max(at + 1);
    }
    String::from_utf8(code).expect("whole characters were blanked")
}

/// An `r` inside a word does not begin a raw string; the `b` and `c` of `br""` and `cr""` are no such word.
fn follows_word(bytes: &[u8], at: usize) -> bool {
    let mut before = bytes[..at].iter().rev().copied();
    let is_part = |byte: Option<u8>| byte.is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
    match before.next() {
        Some(b'b' | b'c') => is_part(before.next()),
        other => is_part(other),
    }
}

fn line_end(bytes: &[u8], at: usize) -> usize {
    let length = bytes[at..].iter().position(|&byte| byte == b'\n');
    length.map_or(bytes.len(), |length| at + length)
}

/// Block comments nest.
fn block_end(bytes: &[u8], at: usize) -> usize {
    let (mut depth, mut here) = (0, at);
    while here < bytes.len() {
        if bytes[here..].starts_with(b"/*") {
            depth += 1;
            here += 2;
        } else if bytes[here..].starts_with(b"*/") {
            depth -= 1;
            here += 2;
            if depth == 0 {
                return here;
            }
        } else {
            here += 1;
        }
    }
    bytes.len()
}

fn string_end(bytes: &[u8], mut at: usize) -> usize {
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// `r"..."`, `r#"..."#` and so on; `None` where this `r` begins no string (`r#type`, a name).
fn raw_string_end(bytes: &[u8], at: usize) -> Option<usize> {
    let hashes = bytes[at + 1..]
        .iter()
        .take_while(|&&byte| byte == b'#')
        .count();
    let open = at + 1 + hashes;
    if bytes.get(open) != Some(&b'"') {
        return None;
    }
    let mut close = vec![b'"'];
    close.resize(1 + hashes, b'#');
    let length = bytes[open + 1..]
        .windows(close.len())
        .position(|window| window == close);
    Some(length.map_or(bytes.len(), |length| open + 1 + length + close.len()))
}

/// `'x'` or `'\n'`; `None` for a lifetime.
fn char_end(text: &str, at: usize) -> Option<usize> {
    let mut letters = text[at + 1..].char_indices();
    let (_, first) = letters.next()?;
    if first == '\\' {
        let (_, _escaped) = letters.next()?;
        let (close, _) = letters.find(|&(_, letter)| letter == '\'')?;
        return Some(at + 1 + close + 1);
    }
    let (close, second) = letters.next()?;
    (second == '\'').then_some(at + 1 + close + 1)
}

// ---- the rules can fail -------------------------------------------------------------------------------------

#[cfg(test)]
mod self_tests {
    use super::*;

    fn used(path: &str, text: &str) -> Vec<String> {
        uses(&Source::new(path, text))
            .into_iter()
            .map(|(_, name)| name)
            .collect()
    }

    #[test]
    fn an_arrow_that_points_up_is_found() {
        let bad = "//! x\nuse std::fs;\n\nfn f() { crate::controller::run(); }\n";
        assert_eq!(
            arrows(&Source::new("src/scheduler/plan.rs", bad)),
            ["src/scheduler/plan.rs:4: `scheduler` uses `controller`, which is above it"]
        );
    }

    #[test]
    fn an_arrow_to_the_same_line_is_found_unless_allowed() {
        let beside = Source::new("src/cluster/mod.rs", "use crate::steps::Step;\n");
        assert_eq!(
            arrows(&beside),
            ["src/cluster/mod.rs:1: `cluster` uses `steps`, which is beside it"]
        );
        let allowed = Source::new("src/net/client.rs", "use crate::sys::peer;\n");
        assert!(arrows(&allowed).is_empty());
        let not_back = Source::new("src/sys/peer.rs", "use crate::net::client;\n");
        assert_eq!(arrows(&not_back).len(), 1);
    }

    #[test]
    fn arrows_down_and_to_itself_are_fine() {
        let good = "use crate::{model::ids, scheduler, cluster::command::Command};\n";
        assert!(arrows(&Source::new("src/cluster/mod.rs", good)).is_empty());
    }

    #[test]
    fn a_module_without_a_layer_is_found() {
        assert_eq!(arrows(&Source::new("src/utils.rs", "")).len(), 1);
        assert!(arrows(&Source::new("src/main.rs", "use hpc::cli;\n")).is_empty());
    }

    #[test]
    fn every_way_of_naming_a_module_is_seen() {
        let cases: [(&str, &[&str]); 8] = [
            ("use crate::net;", &["net"]),
            ("let x = crate :: net :: X;", &["net"]),
            (
                "use crate::{\n    net::{a, b},\n    store as s,\n};",
                &["net", "store"],
            ),
            ("use hpc::cli::run;", &["cli"]),
            ("macro_rules! m { () => { $crate::web::X } }", &["web"]),
            ("pub(in crate::sim) fn f() {}", &["sim"]),
            ("use super::super::store::X;", &["store"]),
            ("pub(crate) fn f(crate_: u8) {}", &[]),
        ];
        for (text, expected) in cases {
            assert_eq!(used("src/scheduler/plan.rs", text), expected, "{text}");
        }
        assert_eq!(used("src/scheduler/mod.rs", "use super::web;"), ["web"]);
        assert!(used("src/scheduler/plan.rs", "use super::web;").is_empty());
    }

    #[test]
    fn comments_and_strings_name_nothing() {
        for text in [
            "// crate::web\n",
            "//! [`crate::web`]\n",
            "/* a /* crate::web */ crate::web */",
            "let x = \"crate::web \\\" crate::web\";",
            "let x = r#\"crate::web \" crate::web\"#;",
            "let x = br\"crate::web\";",
        ] {
            assert!(used("src/model/ids.rs", text).is_empty(), "{text}");
        }
        for text in [
            "let quote = '\"'; crate::web::x(); let other = '\"';",
            "fn f<'a>(x: &'a str) { crate::web::x('\\'', '\\u{1F600}') }",
            "let r = 1; let for_r = \"r\"; crate::web::x(r\"\");",
        ] {
            assert_eq!(used("src/model/ids.rs", text), ["web"], "{text}");
        }
    }

    #[test]
    fn a_file_without_header_is_found() {
        assert_eq!(
            header(&Source::new("src/model/ids.rs", "use x;\n")).len(),
            1
        );
        assert!(header(&Source::new("src/model/ids.rs", "//! Ids.\n")).is_empty());
    }

    #[test]
    fn unsafe_is_found_outside_sys() {
        let bad = "//! x\n// unsafe\nfn f() {\n    unsafe { g() }\n}\n";
        assert_eq!(
            unsafe_outside_sys(&Source::new("src/net/mod.rs", bad)),
            ["src/net/mod.rs:4: `unsafe` outside src/sys"]
        );
        assert!(unsafe_outside_sys(&Source::new("src/sys/mod.rs", bad)).is_empty());
        let lint = "#![deny(unsafe_code)]";
        assert!(unsafe_outside_sys(&Source::new("src/lib.rs", lint)).is_empty());
    }

    #[test]
    fn a_long_file_is_found_and_tests_do_not_count() {
        let long = "x\n".repeat(LINES_MAX + 1);
        assert_eq!(too_long(&Source::new("src/model/ids.rs", &long)).len(), 1);
        let tested = format!("{}#[cfg(test)]\n{long}", "x\n".repeat(LINES_MAX));
        assert!(too_long(&Source::new("src/model/ids.rs", &tested)).is_empty());
    }

    #[test]
    fn opting_out_of_purity_is_found() {
        let bad = "//! x\n#![allow(clippy::disallowed_methods)]\n";
        assert_eq!(
            opts_out_of_purity(&Source::new("src/cluster/mod.rs", bad)).len(),
            1
        );
        assert!(opts_out_of_purity(&Source::new("src/store/mod.rs", bad)).is_empty());
        let in_tests = format!("//! x\n#[cfg(test)]\nmod tests {{\n{bad}}}\n");
        assert!(opts_out_of_purity(&Source::new("src/cluster/mod.rs", &in_tests)).is_empty());
    }

    #[test]
    fn an_example_that_cannot_be_run_is_found() {
        let script = "#!/bin/bash\n#SBATCH -n 1\n";
        assert_eq!(example("examples/a.sh", script, 0o755), None);
        assert!(example("examples/a.sh", script, 0o644).is_some());
        assert!(example("examples/a", "#SBATCH -n 1\n", 0o755).is_some());
        assert_eq!(example("examples/notes.md", "words", 0o644), None);
    }

    #[test]
    fn the_tables_agree() {
        for (from, to, why) in SAME_LINE {
            assert_eq!(
                layer_of(from),
                layer_of(to),
                "{from} and {to} are not on one line"
            );
            assert!(layer_of(from).is_some() && !why.is_empty());
        }
        for module in IMPURE {
            assert!(layer_of(module).is_some_and(|layer| layer < 2), "{module}");
        }
    }
}
