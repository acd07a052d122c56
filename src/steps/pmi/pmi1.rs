//! PMI-1: lines in, lines out. A line is `cmd=VERB` and further `key=value` words, ended by a line end.
//!
//! The last word of a put, of an abort and of a request about names runs to the end of the line. Old clients take no
//! answer that has a word without `=`, so what we say in our own words has no blanks.

use super::ask::{Answer, Ask, NameKind, abort_code, excerpt, name_word, number, verb};
use super::kvs::{KEY_MAX, VALUE_MAX};
use super::spawning::Spawning;
use super::{NameAnswer, NameRequest};
use std::borrow::Cow;

/// Longest name of a key space that is offered.
const SPACE_NAME_MAX: usize = 256;

/// What a line asks for.
///
/// # Errors
/// Why it is no request at all.
pub(super) fn read(line: &[u8]) -> Result<Ask<'_>, String> {
    if line.contains(&0) {
        return Err(format!("a zero byte in {}", excerpt(line)));
    }
    let [several, one] = words(line, ["mcmd", "cmd"], false);
    if several == Some(b"spawn") {
        return Ok(Ask::SpawnBegins);
    }
    let verb = one
        .and_then(verb)
        .ok_or_else(|| format!("a line without a command: {}", excerpt(line)))?;
    Ok(ask(verb, line).unwrap_or_else(|| refused(verb, "a word is missing or invalid")))
}

/// None where a word is missing.
fn ask<'a>(verb: &str, line: &'a [u8]) -> Option<Ask<'a>> {
    Some(match verb {
        "init" => {
            let [version, subversion] = words(line, ["pmi_version", "pmi_subversion"], false);
            Ask::Init {
                version: version.and_then(number).unwrap_or(0),
                subversion: subversion.and_then(number).unwrap_or(0),
            }
        }
        "get_maxes" => Ask::Maxes,
        "get_appnum" => Ask::AppNumber,
        "get_my_kvsname" => Ask::SpaceName,
        "get_universe_size" => Ask::Universe,
        "put" => {
            let [space, key, value] = words(line, ["kvsname", "key", "value"], true);
            Ask::Put {
                space: Cow::Borrowed(space.unwrap_or_default()),
                key: Cow::Borrowed(key?),
                value: Cow::Borrowed(value?),
            }
        }
        "get" => {
            let [space, key] = words(line, ["kvsname", "key"], false);
            Ask::Get {
                space: Cow::Borrowed(space.unwrap_or_default()),
                key: Cow::Borrowed(key?),
            }
        }
        "barrier_in" => Ask::Fence,
        "finalize" => Ask::Finalise,
        "abort" => {
            let [code, text] = words(line, ["exitcode", "message"], true);
            Ask::Abort {
                code: abort_code(code),
                text: super::ask::one_line(text.unwrap_or_default()),
            }
        }
        "publish_name" => {
            let [service, port] = words(line, ["service", "port"], true);
            Ask::Name(NameRequest::Publish {
                service: name_word(service)?,
                port: name_word(port)?,
            })
        }
        "unpublish_name" => {
            let [service] = words(line, ["service"], true);
            let service = name_word(service)?;
            Ask::Name(NameRequest::Unpublish { service })
        }
        "lookup_name" => {
            let [service] = words(line, ["service"], true);
            let service = name_word(service)?;
            Ask::Name(NameRequest::Lookup { service })
        }
        _ => refused(verb, "not supported"),
    })
}

fn refused<'a>(verb: &str, why: &'static str) -> Ask<'a> {
    let answer = match verb {
        "publish_name" | "unpublish_name" | "lookup_name" => verb.replace("_name", "_result"),
        // What clients of MPICH 1 asked for.
        "create_kvs" => "newkvs".to_owned(),
        "destroy_kvs" => "kvs_destroyed".to_owned(),
        "getbyidx" => "getbyidx_results".to_owned(),
        _ => format!("{verb}_result"),
    };
    Ask::Refused { answer, why }
}

/// The values of the words of these names, in one walk. Where the last is `open`, its value runs to the end of the line.
fn words<'a, const N: usize>(
    line: &'a [u8],
    names: [&str; N],
    open: bool,
) -> [Option<&'a [u8]>; N] {
    let mut found = [None; N];
    let mut rest = line;
    loop {
        let blanks = rest.iter().take_while(|byte| **byte == b' ').count();
        rest = &rest[blanks..];
        if rest.is_empty() {
            return found;
        }
        let end = rest.iter().position(|byte| *byte == b' ');
        let word = &rest[..end.unwrap_or(rest.len())];
        if let Some(equals) = word.iter().position(|byte| *byte == b'=') {
            let (name, value) = (&word[..equals], &word[equals + 1..]);
            let wanted = names.iter().position(|wanted| wanted.as_bytes() == name);
            if let Some(at) = wanted
                && found[at].is_none()
            {
                if open && at == N - 1 {
                    found[at] = Some(&rest[equals + 1..]);
                    return found;
                }
                found[at] = Some(value);
            }
        }
        rest = &rest[word.len()..];
    }
}

/// The lines of a spawn request: each a name and a value that runs to its end. They come once for each command.
#[derive(Debug, Default)]
pub(super) struct SpawnLines {
    commands: u32,
    so_far: u32,
    said: Spawning,
}

impl SpawnLines {
    /// Whether this line is the last.
    pub(super) fn take(&mut self, line: &[u8]) -> bool {
        let end = line.iter().position(|byte| *byte == b'=');
        let Some((name, value)) = end.map(|end| (&line[..end], &line[end + 1..])) else {
            if line == b"endcmd" {
                self.said.end_command();
                return self.so_far >= self.commands;
            }
            return false;
        };
        match name {
            b"totspawns" => self.commands = number(value).unwrap_or(0),
            b"spawnssofar" => self.so_far = number(value).unwrap_or(0),
            _ => _ = self.said.word(name, value),
        }
        false
    }

    /// What they ask for.
    pub(super) fn ask(self) -> Ask<'static> {
        Ask::Spawn(self.said.finish())
    }
}

/// The line that answers.
pub(super) fn write(answer: &Answer<'_>) -> Vec<u8> {
    let text = match *answer {
        Answer::Init {
            version,
            subversion,
        } => format!("response_to_init pmi_version={version} pmi_subversion={subversion} rc=0"),
        Answer::InitRefused => "response_to_init pmi_version=1 pmi_subversion=1 rc=-1".to_owned(),
        Answer::Maxes => format!(
            "maxes kvsname_max={SPACE_NAME_MAX} keylen_max={KEY_MAX} vallen_max={VALUE_MAX} rc=0"
        ),
        Answer::AppNumber(number) => format!("appnum appnum={number} rc=0"),
        Answer::Universe(size) => format!("universe_size size={size} rc=0"),
        Answer::SpaceName(name) => format!("my_kvsname kvsname={name} rc=0"),
        Answer::Put(Ok(())) => "put_result rc=0 msg=success".to_owned(),
        Answer::Put(Err(why)) => failed("put_result", why),
        // PMI-2 alone asks for the others.
        Answer::Got(value) | Answer::JobAttribute(value) | Answer::NodeGot(value) => {
            return got(value);
        }
        Answer::Fence(Ok(())) => "barrier_out rc=0".to_owned(),
        Answer::Fence(Err(why)) => failed("barrier_out", why),
        Answer::Finalise => "finalize_ack rc=0".to_owned(),
        Answer::Name(kind, answer) => named(kind, answer),
        Answer::Spawned(Ok(_)) => "spawn_result rc=0".to_owned(),
        Answer::Spawned(Err(why)) => failed("spawn_result", why),
        Answer::NodePut(Ok(())) => "info_result rc=0".to_owned(),
        Answer::NodePut(Err(why)) => failed("info_result", why),
        Answer::FullInit { .. } => failed("fullinit_result", "not supported"),
        Answer::Refused { answer, why } => failed(answer, why),
    };
    format!("cmd={text}\n").into_bytes()
}

fn got(value: Option<&[u8]>) -> Vec<u8> {
    let Some(value) = value else {
        return b"cmd=get_result rc=-1 msg=key_not_found value=unknown\n".to_vec();
    };
    [b"cmd=get_result rc=0 msg=success value=", value, b"\n"].concat()
}

/// Old clients look for `info`, later ones for `rc`.
fn named(kind: NameKind, answer: &NameAnswer) -> String {
    let name = match kind {
        NameKind::Publish => "publish_result",
        NameKind::Unpublish => "unpublish_result",
        NameKind::Lookup => "lookup_result",
    };
    let why = match answer {
        NameAnswer::Done => return format!("{name} info=ok rc=0 msg=success"),
        NameAnswer::Found(port) => return format!("{name} info=ok rc=0 msg=success port={port}"),
        NameAnswer::NotFound => "not found",
        NameAnswer::Refused(why) => why,
    };
    format!("{name} info={0} rc=-1 msg={0}", unblanked(why))
}

fn failed(answer: &str, why: &str) -> String {
    let why = unblanked(why);
    if answer == "getbyidx_results" {
        return format!("{answer} rc=-1 reason={why}");
    }
    format!("{answer} rc=-1 msg={why}")
}

fn unblanked(text: &str) -> String {
    let joined = |letter: char| match letter {
        letter if letter.is_whitespace() || letter.is_control() => '_',
        '=' => '_',
        letter => letter,
    };
    text.chars().map(joined).collect()
}

/// The first line of a rank that came over `PMI_PORT`: the number by which it says who it is (`PMI_ID`).
///
/// # Errors
/// Why the line is no such greeting.
pub fn port_hello(line: &[u8]) -> Result<u32, String> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let [command, id] = words(line, ["cmd", "pmiid"], false);
    if command != Some(b"initack") {
        return Err(format!(
            "a rank greets with cmd=initack, not {}",
            excerpt(line)
        ));
    }
    id.and_then(number::<u32>)
        .ok_or_else(|| format!("no number in {}", excerpt(line)))
}

/// What a rank is told that came over `PMI_PORT`, before it speaks as all others.
#[must_use]
pub fn port_answer(size: u32, rank: u32) -> String {
    format!("cmd=initack\ncmd=set size={size}\ncmd=set rank={rank}\ncmd=set debug=0\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read() {
        let bytes = |text: &'static str| Cow::Borrowed(text.as_bytes());
        for (line, ask) in [
            (
                "cmd=init pmi_version=1 pmi_subversion=2",
                Ask::Init {
                    version: 1,
                    subversion: 2,
                },
            ),
            ("cmd=get_maxes ", Ask::Maxes),
            ("  cmd=barrier_in", Ask::Fence),
            (
                "cmd=put kvsname=k key=a value=b c=d value=e",
                Ask::Put {
                    space: bytes("k"),
                    key: bytes("a"),
                    value: bytes("b c=d value=e"),
                },
            ),
            (
                "cmd=put kvsname=k key=a value=",
                Ask::Put {
                    space: bytes("k"),
                    key: bytes("a"),
                    value: bytes(""),
                },
            ),
            (
                "cmd=get key=a kvsname=other",
                Ask::Get {
                    space: bytes("other"),
                    key: bytes("a"),
                },
            ),
            (
                "cmd=abort exitcode=-3 message=out of luck",
                Ask::Abort {
                    code: -3,
                    text: "out of luck".to_owned(),
                },
            ),
            (
                "cmd=abort",
                Ask::Abort {
                    code: 1,
                    text: String::new(),
                },
            ),
            (
                "cmd=publish_name service=s port=a b",
                Ask::Name(NameRequest::Publish {
                    service: "s".to_owned(),
                    port: "a b".to_owned(),
                }),
            ),
            (
                "cmd=lookup_name service=my service",
                Ask::Name(NameRequest::Lookup {
                    service: "my service".to_owned(),
                }),
            ),
            (
                "cmd=unpublish_name service=",
                Ask::Refused {
                    answer: "unpublish_result".to_owned(),
                    why: "a word is missing or invalid",
                },
            ),
            (
                "cmd=dance now",
                Ask::Refused {
                    answer: "dance_result".to_owned(),
                    why: "not supported",
                },
            ),
            ("mcmd=spawn", Ask::SpawnBegins),
        ] {
            assert_eq!(read(line.as_bytes()), Ok(ask), "{line}");
        }
        for line in ["", "hello", "cmd", "cmd=", "cmd=a\0b", "mcmd=x", "cmd=a/b"] {
            assert!(read(line.as_bytes()).is_err(), "{line}");
        }
    }

    #[test]
    fn what_is_refused_is_said_in_words_that_old_clients_take() {
        for (line, answer) in [
            ("cmd=create_kvs", "cmd=newkvs rc=-1 msg=not_supported\n"),
            (
                "cmd=getbyidx kvsname=k idx=0",
                "cmd=getbyidx_results rc=-1 reason=not_supported\n",
            ),
            (
                "cmd=destroy_kvs kvsname=k",
                "cmd=kvs_destroyed rc=-1 msg=not_supported\n",
            ),
            (
                "cmd=put kvsname=k",
                "cmd=put_result rc=-1 msg=a_word_is_missing_or_invalid\n",
            ),
        ] {
            let Ok(Ask::Refused { answer: name, why }) = read(line.as_bytes()) else {
                panic!("{line} is taken");
            };
            let refused = Answer::Refused { answer: &name, why };
            assert_eq!(write(&refused), answer.as_bytes());
        }
        let refused = NameAnswer::Refused("no = more\nroom".to_owned());
        let line = write(&Answer::Name(NameKind::Publish, &refused));
        let line = String::from_utf8(line).unwrap();
        assert_eq!(line.matches('\n').count(), 1);
        let words: Vec<&str> = line.split_whitespace().collect();
        assert!(
            words.iter().all(|word| word.matches('=').count() == 1),
            "{line}"
        );
    }

    #[test]
    fn a_spawn_ends_with_its_last_command() {
        let mut spawn = SpawnLines::default();
        let lines = "nprocs=2\ntotspawns=2\nspawnssofar=1\narg1=endcmd\nendcmd\n\
                     mcmd=spawn\ntotspawns=2\nspawnssofar=2\nendcmd";
        let ends: Vec<bool> = lines
            .lines()
            .map(|line| spawn.take(line.as_bytes()))
            .collect();
        assert_eq!(ends.iter().position(|end| *end), Some(ends.len() - 1));
    }

    #[test]
    fn a_rank_that_comes_by_the_port_says_who_it_is() {
        assert_eq!(port_hello(b"cmd=initack pmiid=3\n"), Ok(3));
        assert_eq!(
            port_answer(4, 3),
            "cmd=initack\ncmd=set size=4\ncmd=set rank=3\ncmd=set debug=0\n"
        );
        for line in ["cmd=initack", "cmd=init", "", "cmd=initack pmiid=-1"] {
            assert!(port_hello(line.as_bytes()).is_err(), "{line}");
        }
    }
}
