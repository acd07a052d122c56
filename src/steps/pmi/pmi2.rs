//! PMI-2: frames in, frames out. A frame is its length in six decimal characters, then `cmd=NAME;key=value;...`.
//!
//! A `;` within a value is doubled by some clients and stands behind a backslash with others: both are read, and we
//! double. A thread that asked with `thrid` finds it in its answer.

use super::NameAnswer;
use super::NameRequest;
use super::ask::{
    Answer, Ask, NameKind, Tag, Words, abort_code, excerpt, name_word, number, one_line, verb,
};
use super::spawning::Spawning;
use std::borrow::Cow;

/// Characters in front of a frame.
pub(super) const LENGTH_WIDTH: usize = 6;

/// How long the frame is that these characters announce.
///
/// # Errors
/// When they are no length, or more than `most`.
pub(super) fn length(header: &[u8], most: usize) -> Result<usize, String> {
    let length = number::<usize>(header.trim_ascii()).filter(|length| *length > 0);
    let length = length.ok_or_else(|| format!("no length of a frame: {}", excerpt(header)))?;
    if length > most {
        return Err(format!("a frame of {length} bytes, the most is {most}"));
    }
    Ok(length)
}

/// What a frame asks for, and how it is to be answered.
///
/// # Errors
/// Why it is no request at all.
pub(super) fn read(frame: &[u8]) -> Result<(Ask<'_>, Tag), String> {
    let wrong = || format!("a frame without a command: {}", excerpt(frame));
    let mut rest = frame;
    let first = next_word(&mut rest).ok_or_else(wrong)?;
    let (b"cmd", command) = first.map_err(|()| wrong())? else {
        return Err(wrong());
    };
    let verb = verb(&command).ok_or_else(wrong)?;
    let mut words = Vec::new();
    let mut spawning = (verb == "spawn").then(Spawning::default);
    while let Some(word) = next_word(&mut rest) {
        let word = word.map_err(|()| format!("a word without '=' in {}", excerpt(frame)))?;
        let of_spawn = spawning.as_mut().is_some_and(|spawning| {
            // Those of a command follow its program.
            let (name, value) = &word;
            if *name == b"subcmd" && spawning.has_program() {
                spawning.end_command();
            }
            spawning.word(name, value)
        });
        if !of_spawn && words.len() < WORDS_MAX {
            words.push(word);
        }
    }
    let mut words = Found(words);
    let thread = words.take("thrid").map(Cow::into_owned);
    if let Some(mut spawning) = spawning {
        spawning.end_command();
        return Ok((Ask::Spawn(spawning.finish()), Tag::Frame { thread }));
    }
    let ask = ask(verb, &mut words);
    let ask = ask.unwrap_or_else(|| refused(verb, "a word is missing or invalid"));
    Ok((ask, Tag::Frame { thread }))
}

/// Words of a request that are looked at: far more than any that is served has.
const WORDS_MAX: usize = 16;

/// Words that were found in a frame.
struct Found<'a>(Vec<(&'a [u8], Words<'a>)>);

impl<'a> Found<'a> {
    fn take(&mut self, name: &str) -> Option<Words<'a>> {
        let found = self.0.iter_mut().find(|(key, _)| *key == name.as_bytes());
        found.map(|(_, value)| std::mem::take(value))
    }

    fn name(&mut self, name: &str) -> Option<String> {
        name_word(self.take(name).as_deref())
    }
}

/// None where a word is missing.
fn ask<'a>(verb: &str, words: &mut Found<'a>) -> Option<Ask<'a>> {
    Some(match verb {
        "fullinit" => Ask::FullInit,
        "job-getid" => Ask::SpaceName,
        "info-getjobattr" => Ask::JobAttribute {
            key: words.take("key")?,
        },
        "info-putnodeattr" => Ask::NodePut {
            key: words.take("key")?,
            value: words.take("value")?,
        },
        "info-getnodeattr" => Ask::NodeGet {
            key: words.take("key")?,
            wait: words.take("wait").as_deref() == Some(b"TRUE"),
        },
        "kvs-put" => Ask::Put {
            space: Cow::default(),
            key: words.take("key")?,
            value: words.take("value")?,
        },
        // `srcid` only says where the key was put, which matters to servers that have to go there.
        "kvs-get" => Ask::Get {
            space: words.take("jobid").unwrap_or_default(),
            key: words.take("key")?,
        },
        "kvs-fence" => Ask::Fence,
        "finalize" => Ask::Finalise,
        "abort" => {
            let text = words.take("msg").or_else(|| words.take("message"));
            Ask::Abort {
                code: abort_code(words.take("exitcode").as_deref()),
                text: one_line(&text.unwrap_or_default()),
            }
        }
        "name-publish" => Ask::Name(NameRequest::Publish {
            service: words.name("name")?,
            port: words.name("port")?,
        }),
        "name-unpublish" => Ask::Name(NameRequest::Unpublish {
            service: words.name("name")?,
        }),
        "name-lookup" => Ask::Name(NameRequest::Lookup {
            service: words.name("name")?,
        }),
        _ => refused(verb, "not supported"),
    })
}

fn refused<'a>(verb: &str, why: &'static str) -> Ask<'a> {
    let answer = format!("{verb}-response");
    Ask::Refused { answer, why }
}

/// The next `key=value;`, taken off the front.
fn next_word<'a>(rest: &mut &'a [u8]) -> Option<Result<(&'a [u8], Words<'a>), ()>> {
    let blanks = rest.iter().take_while(|byte| byte.is_ascii_whitespace());
    *rest = &rest[blanks.count()..];
    if rest.is_empty() {
        return None;
    }
    let name_end = rest.iter().position(|byte| matches!(byte, b'=' | b';'));
    let Some(equals) = name_end.filter(|end| rest[*end] == b'=') else {
        return Some(Err(()));
    };
    let (key, text) = (&rest[..equals], &rest[equals + 1..]);
    let mut value = Words::Borrowed(&[]);
    let mut from = 0;
    let mut at = 0;
    while let Some(found) = text[at..].iter().position(|byte| *byte == b';') {
        at += found;
        let doubled = text.get(at + 1) == Some(&b';');
        if doubled {
            value.to_mut().extend_from_slice(&text[from..at]);
            from = at + 1;
            at += 2;
        } else if at > from && text[at - 1] == b'\\' {
            value.to_mut().extend_from_slice(&text[from..at - 1]);
            from = at;
            at += 1;
        } else {
            break;
        }
    }
    // A last `;` that is missing is not missed.
    let end = if text.get(at) == Some(&b';') {
        at
    } else {
        text.len()
    };
    if value.is_empty() {
        value = Words::Borrowed(&text[from..end]);
    } else {
        value.to_mut().extend_from_slice(&text[from..end]);
    }
    *rest = text.get(end + 1..).unwrap_or_default();
    Some(Ok((key, value)))
}

/// A frame in the making.
struct Frame(Vec<u8>);

impl Frame {
    fn new(answer: &str, thread: Option<&[u8]>) -> Self {
        let mut frame = Frame(vec![b' '; LENGTH_WIDTH]);
        frame.word("cmd", answer.as_bytes());
        if let Some(thread) = thread {
            frame.word("thrid", thread);
        }
        frame
    }

    fn word(&mut self, key: &str, value: &[u8]) {
        self.0.extend_from_slice(key.as_bytes());
        self.0.push(b'=');
        for piece in value.split_inclusive(|byte| *byte == b';') {
            self.0.extend_from_slice(piece);
            if piece.ends_with(b";") {
                self.0.push(b';');
            }
        }
        self.0.push(b';');
    }

    fn number(&mut self, key: &str, value: u32) {
        self.word(key, value.to_string().as_bytes());
    }

    fn done(&mut self, result: Result<(), &str>) {
        match result {
            Ok(()) => self.word("rc", b"0"),
            Err(why) => {
                self.word("rc", b"1");
                self.word("errmsg", why.as_bytes());
            }
        }
    }

    /// Later clients look for `found`, early ones for `flag`.
    fn found(&mut self, value: Option<&[u8]>) {
        let flag: &[u8] = if value.is_some() { b"TRUE" } else { b"FALSE" };
        self.word("rc", b"0");
        self.word("found", flag);
        self.word("flag", flag);
        if let Some(value) = value {
            self.word("value", value);
        }
    }

    fn finish(mut self) -> Vec<u8> {
        let length = self.0.len() - LENGTH_WIDTH;
        let header = format!("{length:LENGTH_WIDTH$}");
        self.0[..LENGTH_WIDTH].copy_from_slice(&header.as_bytes()[..LENGTH_WIDTH]);
        self.0
    }
}

/// The frame that answers.
pub(super) fn write(thread: Option<&[u8]>, answer: &Answer<'_>) -> Vec<u8> {
    let new = |name: &str| Frame::new(name, thread);
    let frame = match *answer {
        Answer::FullInit {
            rank,
            size,
            app_number,
            spawner,
        } => {
            let mut frame = new("fullinit-response");
            frame.done(Ok(()));
            frame.number("pmi-version", 2);
            frame.number("pmi-subversion", 0);
            frame.number("rank", rank);
            frame.number("size", size);
            frame.number("appnum", app_number);
            if let Some(spawner) = spawner {
                frame.word("spawner-jobid", spawner.as_bytes());
            }
            frame.word("debugged", b"FALSE");
            frame.word("pmiverbose", b"FALSE");
            frame
        }
        Answer::SpaceName(name) => {
            let mut frame = new("job-getid-response");
            frame.done(Ok(()));
            frame.word("jobid", name.as_bytes());
            frame
        }
        Answer::Got(value) => {
            let mut frame = new("kvs-get-response");
            frame.found(value);
            frame
        }
        Answer::JobAttribute(value) => {
            let mut frame = new("info-getjobattr-response");
            frame.found(value);
            frame
        }
        Answer::NodeGot(value) => {
            let mut frame = new("info-getnodeattr-response");
            frame.found(value);
            frame
        }
        Answer::Name(kind, answer) => named(new, kind, answer),
        Answer::Spawned(Ok(name)) => {
            let mut frame = done(new("spawn-response"), Ok(()));
            frame.word("jobid", name.as_bytes());
            frame.number("nerrs", 0);
            frame
        }
        Answer::Spawned(Err(why)) => done(new("spawn-response"), Err(why)),
        Answer::Put(result) => done(new("kvs-put-response"), result),
        Answer::NodePut(result) => done(new("info-putnodeattr-response"), result),
        Answer::Fence(result) => done(new("kvs-fence-response"), result),
        Answer::Finalise => done(new("finalize-response"), Ok(())),
        Answer::Refused { answer, why } => done(new(answer), Err(why)),
        // PMI-1 alone asks for these; the first line of PMI-2 is one of PMI-1.
        Answer::Init { .. }
        | Answer::InitRefused
        | Answer::Maxes
        | Answer::AppNumber(_)
        | Answer::Universe(_) => done(new("init-response"), Err("not supported")),
    };
    frame.finish()
}

fn done(mut frame: Frame, result: Result<(), &str>) -> Frame {
    frame.done(result);
    frame
}

/// Early clients look for `value`, later ones for `port`.
fn named(new: impl FnOnce(&str) -> Frame, kind: NameKind, answer: &NameAnswer) -> Frame {
    let mut frame = new(match kind {
        NameKind::Publish => "name-publish-response",
        NameKind::Unpublish => "name-unpublish-response",
        NameKind::Lookup => "name-lookup-response",
    });
    match answer {
        NameAnswer::Done => frame.done(Ok(())),
        NameAnswer::Found(port) => {
            frame.done(Ok(()));
            frame.word("value", port.as_bytes());
            frame.word("port", port.as_bytes());
        }
        NameAnswer::NotFound => frame.done(Err("not found")),
        NameAnswer::Refused(why) => frame.done(Err(why)),
    }
    frame
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn asked(frame: &str) -> Ask<'_> {
        read(frame.as_bytes()).unwrap().0
    }

    #[test]
    fn frames_are_read() {
        let bytes = |text: &'static str| Cow::Borrowed(text.as_bytes());
        for (frame, ask) in [
            ("cmd=fullinit;pmirank=1;threaded=FALSE;", Ask::FullInit),
            ("cmd=kvs-fence;", Ask::Fence),
            ("cmd=kvs-fence", Ask::Fence),
            (
                "cmd=kvs-put;key=a;value=x;;y\\;z;;;;;",
                Ask::Put {
                    space: bytes(""),
                    key: bytes("a"),
                    value: bytes("x;y;z;;"),
                },
            ),
            (
                "cmd=kvs-put;key=a;value=;thrid=7;",
                Ask::Put {
                    space: bytes(""),
                    key: bytes("a"),
                    value: bytes(""),
                },
            ),
            (
                "cmd=kvs-get;jobid=k;srcid=-1;key=a=b\\c;",
                Ask::Get {
                    space: bytes("k"),
                    key: bytes("a=b\\c"),
                },
            ),
            (
                "cmd=info-getnodeattr;key=k;wait=TRUE;",
                Ask::NodeGet {
                    key: bytes("k"),
                    wait: true,
                },
            ),
            (
                "cmd=abort;isworld=TRUE;msg=so;; what\n;",
                Ask::Abort {
                    code: 1,
                    text: "so; what".to_owned(),
                },
            ),
            ("cmd=spawn;ncmds=1;", Ask::Spawn(Err("it names no program"))),
            (
                "cmd=kvs-get;jobid=k;",
                Ask::Refused {
                    answer: "kvs-get-response".to_owned(),
                    why: "a word is missing or invalid",
                },
            ),
        ] {
            assert_eq!(asked(frame), ask, "{frame}");
        }
        for frame in [
            "",
            ";",
            "cmd",
            "cmd;",
            "key=1;cmd=kvs-fence;",
            "cmd=a b;",
            "cmd=kvs-fence;x;",
        ] {
            assert!(read(frame.as_bytes()).is_err(), "{frame}");
        }
    }

    #[test]
    fn lengths_are_decimal_and_bounded() {
        for (header, length_read) in [
            ("    14", 14),
            ("14    ", 14),
            ("000014", 14),
            ("999999", 999_999),
        ] {
            assert_eq!(length(header.as_bytes(), 999_999), Ok(length_read));
        }
        for header in ["      ", "     0", "    -1", "1 4   ", "cmd=in", "    15"] {
            assert!(length(header.as_bytes(), 14).is_err(), "{header}");
        }
    }

    #[test]
    fn a_thread_finds_its_answer() {
        let (ask, tag) = read(b"cmd=kvs-get;thrid=0x7f;key=a;").unwrap();
        assert!(matches!(ask, Ask::Get { .. }));
        let answer = tag.write(&Answer::Got(Some(b"x;y")));
        let text = "cmd=kvs-get-response;thrid=0x7f;rc=0;found=TRUE;flag=TRUE;value=x;;y;";
        assert_eq!(answer, format!("{:6}{text}", text.len()).into_bytes());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(value in proptest::collection::vec(any::<u8>(), 0..40)) {
            // A backslash at the end of a value cannot be told from an escape.
            let value: Vec<u8> = value.into_iter().filter(|byte| *byte != b'\\').collect();
            let mut frame = Frame::new("kvs-put", None);
            frame.word("key", b"k");
            frame.word("value", &value);
            frame.word("after", b"it");
            let frame = frame.finish();
            let (header, body) = frame.split_at(LENGTH_WIDTH);
            prop_assert_eq!(length(header, 10_000), Ok(body.len()));
            let (ask, _) = read(body).unwrap();
            prop_assert_eq!(ask, Ask::Put {
                space: Cow::default(),
                key: Cow::Borrowed(b"k"),
                value: Cow::Owned(value),
            });
        }
    }
}
