//! The played controller, the way to call the binary, and golden files.

use hpc::wire::client::{FromClient, Request, ToClient};
use hpc::wire::codec::{self, FRAME_MAX, REQUEST_MAX};
use hpc::wire::hello::{Hello, HelloReply, VERSION};
use std::fs;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// A controller that answers as the test says.
pub(crate) struct Fake {
    dir: tempfile::TempDir,
    seen: Arc<Mutex<Vec<Request>>>,
}

/// One conversation with a client.
pub(crate) struct Talk {
    stream: UnixStream,
    /// Counted from 0 over all connections.
    pub(crate) number: usize,
}

impl Talk {
    pub(crate) fn say(&mut self, message: &ToClient) {
        // A client that left early is seen in what it printed.
        let _ = codec::write(&mut self.stream, message);
    }

    /// What the client says next; `None` when it has gone.
    pub(crate) fn hear(&mut self) -> Option<FromClient> {
        codec::read(&mut self.stream, FRAME_MAX).unwrap_or(None)
    }
}

impl Fake {
    /// Listens and has `answer` serve each request.
    pub(crate) fn new(answer: impl Fn(Request, &mut Talk) + Send + Sync + 'static) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("hpc.sock")).unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (record, answer, next) = (Arc::clone(&seen), Arc::new(answer), AtomicUsize::new(0));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let number = next.fetch_add(1, Ordering::SeqCst);
                let (record, answer) = (Arc::clone(&record), Arc::clone(&answer));
                thread::spawn(move || {
                    let mut talk = Talk { stream, number };
                    let hello = codec::read::<Hello>(&mut talk.stream, REQUEST_MAX)
                        .unwrap()
                        .unwrap();
                    assert_eq!(hello.agree(), Some(VERSION));
                    let welcome = HelloReply::Welcome {
                        version: VERSION,
                        server: "fake".into(),
                    };
                    codec::write(&mut talk.stream, &welcome).unwrap();
                    if let Ok(Some(request)) = codec::read::<Request>(&mut talk.stream, REQUEST_MAX)
                    {
                        record.lock().unwrap().push(request.clone());
                        answer(request, &mut talk);
                    }
                });
            }
        });
        Fake { dir, seen }
    }

    /// Always gives this answer.
    pub(crate) fn answering(answer: ToClient) -> Self {
        Self::new(move |_, talk| talk.say(&answer))
    }

    /// The requests so far.
    pub(crate) fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// `hpc` with these arguments, speaking to us, with nothing of the caller's environment that matters.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = bare(arguments);
        command
            .env("HPC_SOCKET", self.dir.path().join("hpc.sock"))
            .current_dir(self.dir.path());
        command
    }

    /// Runs it to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        Ran::from(
            self.command(arguments)
                .stdin(Stdio::null())
                .output()
                .unwrap(),
        )
    }
}

/// `hpc` with these arguments and a clean environment.
pub(crate) fn bare(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hpc"));
    command
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", "/nonexistent")
        .env("TZ", "UTC");
    command
}

/// What a run left.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Ran {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Ran {
    /// It did what it should; what it printed.
    pub(crate) fn ok(self) -> String {
        assert_eq!((self.code, self.err.as_str()), (0, ""), "{self:?}");
        self.out
    }
}

/// Compares with `tests/golden/NAME`.
pub(crate) fn golden(name: &str, text: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    if std::env::var_os("HPC_BLESS").is_some() {
        fs::write(&path, text).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        text == expected,
        "{name} differs; HPC_BLESS=1 writes it anew\n--- expected\n{expected}\n--- found\n{text}"
    );
}

/// Waits until something holds.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}
