//! The batch script: where it comes from, and whether it can be one.

use super::draft::Program;
use super::exit::{self, Failure, Outcome};
use crate::model::directive;
use crate::model::refusal::Code;
use anyhow::Context;
use std::fs;
use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};

/// Longest script; bytes.
const SCRIPT_MAX: u64 = 4 * 1024 * 1024;

/// How the file of a program begins.
const ELF: &[u8] = b"\x7fELF";

/// A program to submit, and how people will know it.
#[derive(Debug)]
pub(super) struct Found {
    /// What to start.
    pub(super) program: Program,
    /// Name of the job when none is given.
    pub(super) title: String,
    /// What the user typed.
    pub(super) command: String,
}

/// The script that `--wrap` stands for.
pub(super) fn wrapped(command: &str) -> Found {
    let bytes = format!("#!/bin/sh\n# Made by hpc submit --wrap.\n\n{command}\n").into_bytes();
    Found {
        program: Program::Script {
            bytes,
            arguments: Vec::new(),
        },
        title: "wrap".into(),
        // It is the whole script, which only its owner may read; what a job was started with everybody sees.
        command: "--wrap".into(),
    }
}

/// A command after `--`.
pub(super) fn command(arguments: Vec<String>) -> Found {
    Found {
        title: title_of(&arguments[0]),
        command: arguments.join(" "),
        program: Program::Command(arguments),
    }
}

/// The name a job takes from its program.
pub(super) fn title_of(program: &str) -> String {
    Path::new(program).file_name().map_or_else(
        || program.to_owned(),
        |name| name.to_string_lossy().into_owned(),
    )
}

/// A script file with arguments, or standard input.
pub(super) fn file_or_stdin(mut words: Vec<String>) -> Outcome<Found> {
    if words.is_empty() {
        if io::stdin().is_terminal() {
            return Err(Failure::Usage(
                "no script: name a file, say --wrap COMMAND or -- COMMAND, or send a script to standard input".into(),
            ));
        }
        let bytes = read_all(io::stdin().lock(), "standard input")?;
        check("standard input", &bytes)?;
        return Ok(Found {
            program: Program::Script {
                bytes,
                arguments: words,
            },
            title: "stdin".into(),
            command: "(standard input)".into(),
        });
    }
    let name = words.remove(0);
    let path = find(&name)?;
    let file = fs::File::open(&path).map_err(|error| unreadable(&name, &error))?;
    if file.metadata().is_ok_and(|found| found.is_dir()) {
        let error = io::Error::from(io::ErrorKind::IsADirectory);
        return Err(unreadable(&name, &error));
    }
    let mut head = Vec::new();
    (&file)
        .take(ELF.len() as u64)
        .read_to_end(&mut head)
        .map_err(|error| unreadable(&name, &error))?;
    if head == ELF {
        return Err(is_program(&name, &words));
    }
    // It may be a pipe, which cannot be rewound.
    let bytes = read_all(head.as_slice().chain(file), &name)?;
    check(&name, &bytes)?;
    let full = super::draft::current_dir()?.join(&path);
    let command = std::iter::once(full.to_string_lossy().into_owned()).chain(words.iter().cloned());
    Ok(Found {
        title: title_of(&name),
        command: command.collect::<Vec<_>>().join(" "),
        program: Program::Script {
            bytes,
            arguments: words,
        },
    })
}

fn is_program(name: &str, arguments: &[String]) -> Failure {
    let words = std::iter::once(name).chain(arguments.iter().map(String::as_str));
    let command: Vec<String> = words.map(quoted).collect();
    Failure::refused(
        Code::Invalid,
        format!("{name} is a program, not a script"),
        format!("to run it as a job: hpc submit -- {}", command.join(" ")),
    )
}

/// A word as a shell has to be given it.
pub(super) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./=:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// As given, then in PATH if it has no slash.
fn find(name: &str) -> Outcome<PathBuf> {
    let given = PathBuf::from(name);
    if given.exists() || name.contains('/') {
        return Ok(given);
    }
    let path = super::paths::variable("PATH").unwrap_or_default();
    std::env::split_paths(path.as_os_str())
        .map(|dir| dir.join(name))
        .find(|candidate| candidate.is_file())
        .ok_or_else(|| unreadable(name, &io::Error::from(io::ErrorKind::NotFound)))
}

fn unreadable(name: &str, error: &io::Error) -> Failure {
    let why = match error.kind() {
        io::ErrorKind::NotFound => "it does not exist".to_owned(),
        io::ErrorKind::PermissionDenied => "you may not read it".to_owned(),
        io::ErrorKind::IsADirectory => "it is a directory".to_owned(),
        _ => exit::plain(error),
    };
    Failure::refused(
        Code::Path,
        format!("Unable to open file {name}: {why}"),
        "name a script file; to run a command, write -- before it",
    )
}

fn read_all(source: impl Read, name: &str) -> Outcome<Vec<u8>> {
    let mut bytes = Vec::new();
    source
        .take(SCRIPT_MAX + 1)
        .read_to_end(&mut bytes)
        .with_context(|| format!("cannot read {name}"))?;
    if bytes.len() as u64 > SCRIPT_MAX {
        return Err(Failure::refused(
            Code::TooMuch,
            format!("script {name} is longer than {SCRIPT_MAX} bytes"),
            "keep data in files of their own and read them from the script",
        ));
    }
    Ok(bytes)
}

fn check(name: &str, bytes: &[u8]) -> Outcome<()> {
    directive::check_script(bytes)
        .map_err(|error| Failure::refused(Code::Invalid, format!("{name}: {error}"), String::new()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(bytes: &[u8]) -> String {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), bytes).unwrap();
        let failure = file_or_stdin(vec![file.path().to_str().unwrap().to_owned()]).unwrap_err();
        assert_eq!(failure.exit_code(), 1);
        failure.to_string()
    }

    #[test]
    fn what_is_no_script_is_refused_by_name() {
        assert!(refused(b"").contains("empty"));
        assert!(refused(b"echo hello\n").contains("#!"));
        assert!(refused(b"#!/bin/sh\r\necho\r\n").contains("DOS line break"));
        assert!(refused(&vec![b'#'; 5 << 20]).contains("longer than"));
        let program = refused(b"\x7fELF\x02\x01\x01");
        assert!(
            program.contains("is a program, not a script") && program.contains("hpc submit -- /"),
            "{program}"
        );
        let directory = file_or_stdin(vec!["/".into()]).unwrap_err().to_string();
        assert!(
            directory.starts_with("Unable to open file /: it is a directory"),
            "{directory}"
        );
        let missing = file_or_stdin(vec!["/no/such/script".into()]).unwrap_err();
        assert!(
            missing
                .to_string()
                .starts_with("Unable to open file /no/such/script"),
            "{missing}"
        );
    }

    #[test]
    fn a_script_keeps_its_arguments_and_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("train.sh");
        fs::write(&path, "#!/bin/sh\n").unwrap();
        let path = path.to_str().unwrap().to_owned();
        let found = file_or_stdin(vec![path.clone(), "--lr".into(), "3".into()]).unwrap();
        assert_eq!(found.title, "train.sh");
        assert_eq!(found.command, format!("{path} --lr 3"));
        assert!(
            matches!(found.program, Program::Script { arguments, .. } if arguments == ["--lr", "3"])
        );
    }
}
