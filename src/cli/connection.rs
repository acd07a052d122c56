//! Finding the controller and speaking with it: one connect, one write with hello and request together, and
//! as many reads as there are answers. Blocking; no runtime is started for a command.

use super::exit::{Failure, Outcome};
use super::paths;
use crate::model::refusal::Code;
use crate::wire::client::{FromClient, Request, ToClient};
use crate::wire::codec::{self, CodecError, FRAME_MAX, REQUEST_MAX};
use crate::wire::hello::{Hello, HelloReply, Role};
use clap::Args;
use std::ffi::OsString;
use std::io::{self, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// How long a command that follows a job looks for a restarted controller.
pub(super) const RECONNECT: Duration = Duration::from_secs(60);

/// Before the first try after a broken connection.
pub(super) const AFTER_BREAK: Duration = Duration::from_millis(20);

/// Which cluster is meant.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct Target {
    /// Controller to speak to: unix:PATH [env: HPC_CONTROLLER, HPC_SOCKET]
    #[arg(
        long,
        value_name = "ADDRESS",
        global = true,
        help_heading = "Which cluster"
    )]
    pub(super) controller: Option<String>,
    /// State directory of the cluster on this machine [env: HPC_STATE_DIR]
    #[arg(
        long,
        value_name = "DIR",
        global = true,
        help_heading = "Which cluster"
    )]
    pub(super) state_dir: Option<PathBuf>,
    /// The whole command line as typed, for the little that clap does not tell.
    #[arg(skip)]
    pub(super) typed: Vec<OsString>,
}

impl Target {
    /// Sockets to try, in order. Something named explicitly is the only one.
    fn candidates(&self) -> Outcome<Vec<PathBuf>> {
        if let Some(address) = &self.controller {
            return Ok(vec![socket_of("--controller", address)?]);
        }
        if self.state_dir.is_none()
            && let Some(address) = paths::variable("HPC_CONTROLLER")
        {
            return Ok(vec![socket_of(
                "HPC_CONTROLLER",
                &address.to_string_lossy(),
            )?]);
        }
        let named =
            paths::variable("HPC_SOCKET").is_some() || paths::variable("HPC_STATE_DIR").is_some();
        if named || self.state_dir.is_some() {
            return Ok(vec![paths::places(self.state_dir.as_deref())?.socket]);
        }
        let mut sockets = vec![paths::default_socket()?];
        if !paths::is_root() {
            sockets.push(PathBuf::from(paths::SYSTEM_SOCKET));
        }
        Ok(sockets)
    }

    /// Sends a request to the controller.
    pub(super) fn request(&self, request: &Request) -> Outcome<Connection> {
        let sockets = self.candidates()?;
        let mut tried = Vec::new();
        for socket in &sockets {
            paths::check_length(socket)?;
            match UnixStream::connect(socket) {
                Ok(stream) => return Connection::open(stream, request),
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    return Err(Failure::refused(
                        Code::NotPermitted,
                        format!("{} belongs to another user", socket.display()),
                        "ask its owner, or start a cluster of your own with `hpc up`",
                    ));
                }
                Err(error) => tried.push(format!("{} ({})", socket.display(), words(&error))),
            }
        }
        Err(Failure::Unreachable(format!(
            "no controller is reachable; tried {}\n  start one with `hpc up`, or name it with --controller unix:PATH or HPC_CONTROLLER",
            tried.join(" and ")
        )))
    }

    /// As [`Target::request`], but looks for a restarted controller until the deadline.
    pub(super) fn request_patiently(
        &self,
        request: &Request,
        deadline: Instant,
    ) -> Outcome<Connection> {
        let mut pause = Duration::from_millis(20);
        loop {
            match self.request(request) {
                Err(failure @ (Failure::Unreachable(_) | Failure::Lost(_))) => {
                    if Instant::now() + pause > deadline {
                        return Err(failure);
                    }
                }
                other => return other,
            }
            thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(500));
        }
    }

    /// Asks again after a connection broke. The pause keeps a controller that breaks every one from being hammered.
    pub(super) fn request_again(&self, request: &Request) -> Outcome<Connection> {
        thread::sleep(AFTER_BREAK);
        self.request_patiently(request, Instant::now() + RECONNECT)
    }

    /// Sends a request and takes its one answer.
    pub(super) fn ask(&self, request: &Request) -> Outcome<ToClient> {
        self.request(request)?.answer()
    }

    /// Whether a controller answers there now.
    pub(super) fn is_up(&self) -> bool {
        self.ask(&Request::Status).is_ok()
    }

    /// The address of what the command line names, for commands that are started by this one.
    pub(super) fn address(&self) -> Outcome<Option<String>> {
        if self.controller.is_some() || self.state_dir.is_none() {
            return Ok(self.controller.clone());
        }
        let socket = paths::places(self.state_dir.as_deref())?.socket;
        Ok(Some(format!("unix:{}", socket.display())))
    }

    /// The target that means exactly this socket.
    pub(super) fn at(socket: &Path) -> Target {
        Target {
            controller: Some(format!("unix:{}", socket.display())),
            ..Target::default()
        }
    }
}

fn socket_of(source: &str, address: &str) -> Outcome<PathBuf> {
    if address.starts_with("quic://") {
        return Err(Failure::refused(
            Code::Unsupported,
            format!(
                "{source} {address}: controllers on other machines are not part of this version"
            ),
            "use unix:PATH on the controller's machine",
        ));
    }
    match address.strip_prefix("unix:") {
        Some(path) if !path.is_empty() => Ok(PathBuf::from(path)),
        _ => Err(Failure::Usage(format!(
            "{source} {address}: not an address; write unix:PATH"
        ))),
    }
}

/// An error of the system without its number.
pub(super) fn words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such socket".into(),
        io::ErrorKind::ConnectionRefused => "nobody listens".into(),
        _ => error.to_string(),
    }
}

/// A conversation about one request.
pub(super) struct Connection {
    reader: BufReader<UnixStream>,
}

impl Connection {
    fn open(stream: UnixStream, request: &Request) -> Outcome<Self> {
        let mut bytes = codec::encode(&Hello::new(Role::Client));
        bytes.extend(codec::encode(request));
        let length = bytes.len();
        if length > REQUEST_MAX {
            return Err(Failure::refused(
                Code::TooMuch,
                format!("the request has {length} bytes, the most is {REQUEST_MAX}"),
                "shorten the script, its arguments or the environment (--export=NONE)",
            ));
        }
        // A refusing controller may close before it has read everything; its answer says why, our error not.
        let written = (&stream).write_all(&bytes);
        let mut connection = Connection {
            reader: BufReader::with_capacity(64 * 1024, stream),
        };
        match connection.receive::<HelloReply>() {
            Ok(HelloReply::Welcome { .. }) => {}
            Ok(HelloReply::Refused(refusal)) => return Err(refusal.into()),
            Err(failure) => return Err(failure),
        }
        written.map_err(|error| lost(&error))?;
        Ok(connection)
    }

    fn receive<T: serde::de::DeserializeOwned>(&mut self) -> Outcome<T> {
        match codec::read(&mut self.reader, FRAME_MAX) {
            Ok(Some(value)) => Ok(value),
            Ok(None) => Err(Failure::Lost("the controller closed the connection".into())),
            Err(CodecError::Io(error)) => Err(lost(&error)),
            Err(error) => Err(Failure::Other(
                anyhow::Error::from(error).context("cannot understand the controller"),
            )),
        }
    }

    /// The next answer; a refusal is a failure.
    pub(super) fn answer(&mut self) -> Outcome<ToClient> {
        match self.receive()? {
            ToClient::Refused(refusal) => Err(refusal.into()),
            answer => Ok(answer),
        }
    }

    /// Says something within an open stream.
    pub(super) fn say(&mut self, message: &FromClient) -> Outcome<()> {
        codec::write(&mut self.reader.get_ref(), message).map_err(|error| lost(&error))
    }

    /// The socket and what was read from it already, for a caller with a loop of its own.
    pub(super) fn into_parts(self) -> (UnixStream, Vec<u8>) {
        let read = self.reader.buffer().to_vec();
        (self.reader.into_inner(), read)
    }
}

fn lost(error: &io::Error) -> Failure {
    Failure::Lost(format!("the connection to the controller broke: {error}"))
}

/// An answer that does not belong to the question.
pub(super) fn unexpected(answer: &ToClient) -> Failure {
    let text = format!("{answer:?}");
    let name = text
        .split([' ', '(', '{'])
        .next()
        .unwrap_or_default()
        .to_owned();
    Failure::Other(anyhow::anyhow!(
        "the controller answered with an unexpected message ({name}); is it another version?"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        assert_eq!(
            socket_of("--controller", "unix:/a/b").unwrap(),
            Path::new("/a/b")
        );
        let refused = socket_of("--controller", "quic://h:1")
            .unwrap_err()
            .to_string();
        assert!(refused.contains("not part of this version"), "{refused}");
        assert!(matches!(
            socket_of("HPC_CONTROLLER", "/a/b"),
            Err(Failure::Usage(_))
        ));
    }

    #[test]
    fn nobody_there_is_told_with_the_path() {
        let dir = tempfile::tempdir().unwrap();
        let target = Target::at(&dir.path().join("none.sock"));
        let failure = target.request(&Request::Status).err().unwrap();
        assert_eq!(failure.exit_code(), super::super::exit::UNREACHABLE);
        assert!(
            failure.to_string().contains("none.sock (no such socket)"),
            "{failure}"
        );
    }
}
