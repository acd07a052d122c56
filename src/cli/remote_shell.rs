//! `hpc remote-shell [OPTIONS] HOST COMMAND...`: what `mpirun` takes for ssh inside a job. Hidden from the help; each
//! allocation has a link of its own name to it (`model/mpirun.rs`), since some launchers want a program without arguments.
//!
//! The command runs on that node of the job as a step of one task, with all that the job has there, so what it starts is
//! counted, bounded and ended as everything else of the job. The host's options of ssh mean nothing here and are skipped.
//! As with ssh, words are joined by blanks and read by a shell there, and what goes wrong on our side is code 255.

use super::attached::{Attachment, Ends};
use super::connection::{Target, unexpected};
use super::exit::{Failure, Outcome};
use super::run::surrounding_job;
use super::{complain, draft, paths, surroundings};
use crate::model::hostlist;
use crate::model::mpirun;
use crate::model::refusal::Code;
use crate::model::step::{Mpi, StepOption, StepOptions};
use crate::wire::client::{Request, StepRequest, StepWish, ToClient};
use std::ffi::{OsStr, OsString};
use std::net::{IpAddr, ToSocketAddrs};
use std::path::Path;

/// Hidden word.
const WORD: &str = "remote-shell";
/// The code of ssh for failures of its own.
const OWN_FAILURE: u8 = 255;
/// Options of ssh that have a value, in the same word or in the next.
const WITH_VALUE: &str = "BbcDEeFIiJLlmOoPpQRSWw";

/// The words after the program's name, where it is called to be a remote shell.
pub(super) fn words(arguments: &[OsString]) -> Option<&[OsString]> {
    let (name, rest) = arguments.split_first()?;
    if Path::new(name).file_name() == Some(OsStr::new(mpirun::REMOTE_SHELL)) {
        return Some(rest);
    }
    rest.split_first()
        .filter(|(word, _)| *word == WORD)
        .map(|(_, rest)| rest)
}

/// Runs the command there; its code.
pub(super) fn run(words: &[OsString]) -> u8 {
    match asked(words).and_then(|asked| asked.run(&Target::default())) {
        Ok(code) => code,
        Err(failure) => {
            if !matches!(failure, Failure::PipeClosed) {
                complain(WORD, &failure);
            }
            OWN_FAILURE
        }
    }
}

/// What is to run where.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    host: String,
    command: String,
}

/// Reads the words as ssh does.
fn asked(words: &[OsString]) -> Outcome<Asked> {
    let mut texts = Vec::with_capacity(words.len());
    for word in words {
        let text = word.to_str().ok_or_else(|| {
            Failure::Usage(format!("{word:?} is no UTF-8, which a command has to be"))
        })?;
        texts.push(text);
    }
    let mut rest = texts.into_iter().peekable();
    let mut host = None;
    loop {
        match rest.peek().copied() {
            Some("--") => {
                rest.next();
                host = host.or_else(|| rest.next());
                break;
            }
            Some(word) if word.starts_with('-') && word.len() > 1 => {
                rest.next();
                if value_follows(&word[1..]) {
                    rest.next();
                }
            }
            // Options may stand on both sides of the host.
            Some(word) if host.is_none() => {
                rest.next();
                host = Some(word);
            }
            Some(_) | None => break,
        }
    }
    let host = host.ok_or_else(|| {
        Failure::Usage("no host: called by mpirun inside a job, as HOST COMMAND".to_owned())
    })?;
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    let command = rest.collect::<Vec<_>>().join(" ");
    if command.is_empty() {
        return Err(Failure::Usage(format!(
            "no command for {host}: there are no shells to type in this way"
        )));
    }
    Ok(Asked {
        host: host.to_owned(),
        command,
    })
}

/// Whether the value of these options, some letters of which the last may have one, is the next word.
fn value_follows(letters: &str) -> bool {
    let first = letters.find(|letter| WITH_VALUE.contains(letter));
    first.is_some_and(|at| at + 1 == letters.len())
}

impl Asked {
    fn run(self, target: &Target) -> Outcome {
        let Some(raw_job) = surrounding_job()? else {
            return Err(Failure::Usage(
                "there is no job around: this is for mpirun inside one".to_owned(),
            ));
        };
        let mut options = StepOptions::default();
        options.say(StepOption::Mpi(Mpi::None));
        options.say(StepOption::RemoteShell(node(&self.host, raw_job)?));
        let mut environment = surroundings::environment();
        let is_rank = |(name, _): &(Vec<u8>, Vec<u8>)| name == b"PMI_RANK" || name == b"PMIX_RANK";
        if environment.iter().any(is_rank) {
            environment.retain(|(name, _)| !mpirun::is_of_a_rank(name));
        }
        let request = StepRequest {
            raw_job,
            arguments: vec!["/bin/sh".to_owned(), "-c".to_owned(), self.command],
            environment,
            work_dir: draft::current_dir()?.to_string_lossy().into_owned(),
            ntasks: Some(1),
            nodes: None,
            cpus_per_task: None,
        };
        let wish = StepWish { request, options };
        let step = match target.ask(&Request::StartStepAs(Box::new(wish)))? {
            ToClient::StepStarted { step } => step,
            other => return Err(unexpected(&other)),
        };
        Attachment {
            verb: WORD,
            job: raw_job,
            step,
            owner: true,
            inside: true,
            unattended: true,
            patient: false,
            label: None,
            quiet: true,
            verbose: false,
            follow: true,
            only: None,
            ends: Ends::default(),
        }
        .follow(target)
    }
}

/// The job's node that a launcher means by this host.
fn node(host: &str, raw_job: u32) -> Outcome<String> {
    let Some(nodes) = paths::job_nodes()? else {
        // The controller knows.
        return Ok(host.to_owned());
    };
    let address: Option<IpAddr> = host.parse().ok();
    let has_address = |node: &str| {
        let found = (node, 0).to_socket_addrs();
        found.is_ok_and(|mut all| all.any(|one| Some(one.ip()) == address))
    };
    match mpirun::node_named(host, &nodes, has_address) {
        Some(node) => Ok(node.clone()),
        None => Err(Failure::refused(
            Code::Impossible,
            format!("\"{host}\" is no node of job {raw_job}"),
            format!("its nodes are {}", hostlist::fold(&nodes)),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<(String, String), String> {
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let asked = asked(&words).map_err(|failure| failure.to_string())?;
        Ok((asked.host, asked.command))
    }

    #[test]
    fn options_of_ssh_are_skipped_with_their_values() {
        let right = Ok(("ws2".to_owned(), "prog -x \"a b\"".to_owned()));
        for line in [
            "ws2 prog -x \"a b\"",
            "-x ws2 prog -x \"a b\"",
            "-q -x -T ws2 prog -x \"a b\"",
            "-l me -p 22 -o StrictHostKeyChecking=no ws2 prog -x \"a b\"",
            "-p22 -xql me ws2 prog -x \"a b\"",
            "-i id -F none me@ws2 -x prog -x \"a b\"",
            "-x -- ws2 prog -x \"a b\"",
            "ws2 -- prog -x \"a b\"",
        ] {
            assert_eq!(read(line), right, "{line}");
        }
    }

    #[test]
    fn a_host_and_a_command_are_needed() {
        assert!(read("-x -p 22").unwrap_err().contains("no host"));
        assert!(read("-x ws2").unwrap_err().contains("no command for ws2"));
        assert!(read("--").unwrap_err().contains("no host"));
    }

    #[test]
    fn it_is_known_by_its_name_or_by_its_word() {
        let line = |line: &str| -> Vec<OsString> { line.split(' ').map(OsString::from).collect() };
        let found = |text: &str| words(&line(text)).map(<[OsString]>::len);
        assert_eq!(found("/var/slots/1.0/hpc-remote-shell ws2 true"), Some(2));
        assert_eq!(found("hpc remote-shell ws2 true"), Some(2));
        assert_eq!(found("hpc run remote-shell"), None);
        assert_eq!(found("hpc"), None);
    }
}
