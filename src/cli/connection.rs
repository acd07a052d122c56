//! Finding the controller and speaking with it: one connect, one write with hello and request together, and
//! as many reads as there are answers. Blocking; no runtime is started for a command.

use super::exit::{self, Failure, Outcome};
use super::paths;
use crate::model::join_line;
use crate::model::refusal::Code;
use crate::net::bridge;
use crate::net::membership::is_expired;
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
    /// Controller to speak to: unix:PATH or quic://HOST:PORT [env: HPC_CONTROLLER, HPC_SOCKET]
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
    /// Where to try, in order. Something named explicitly is the only one.
    fn candidates(&self) -> Outcome<Vec<Way>> {
        if let Some(address) = &self.controller {
            return Ok(vec![self.way("--controller", address)?]);
        }
        if self.state_dir.is_none()
            && let Some(address) = paths::variable("HPC_CONTROLLER")
        {
            let way = self.way("HPC_CONTROLLER", &address.to_string_lossy())?;
            // Within a job on a machine that is not the controller's.
            return Ok(vec![match (way, paths::variable("HPC_CREDENTIAL")) {
                (Way::Socket(socket), Some(credential)) => Way::Job { socket, credential },
                (way, _) => way,
            }]);
        }
        let named =
            paths::variable("HPC_SOCKET").is_some() || paths::variable("HPC_STATE_DIR").is_some();
        let places = paths::places(self.state_dir.as_deref())?;
        let person = || bridge::Person::open(&places.state).map_err(anyhow::Error::from);
        if named || self.state_dir.is_some() {
            // A state directory that only somebody's login is in.
            return Ok(vec![match person()? {
                Some(person) if !places.controller_dir().exists() => {
                    Way::Far(Box::new(person), None)
                }
                _ => Way::Socket(places.socket),
            }]);
        }
        let mut ways = Vec::new();
        let socket = paths::default_socket()?;
        let person = person()?;
        // One of our own first, if there is one; a login before the system's, where we may be nobody.
        if person.is_none() || socket.exists() && !paths::is_root() {
            ways.push(Way::Socket(socket));
        }
        ways.extend(person.map(|person| Way::Far(Box::new(person), None)));
        if !paths::is_root() || ways.is_empty() {
            ways.push(Way::Socket(PathBuf::from(paths::SYSTEM_SOCKET)));
        }
        Ok(ways)
    }

    fn way(&self, source: &str, address: &str) -> Outcome<Way> {
        match parse_address(source, address)? {
            Address::Socket(path) => Ok(Way::Socket(path)),
            Address::Far(address) => {
                let places = paths::places(self.state_dir.as_deref())?;
                match bridge::Person::open(&places.state).map_err(anyhow::Error::from)? {
                    Some(person) => Ok(Way::Far(Box::new(person), Some(address))),
                    None => Err(Failure::refused(
                        Code::NotPermitted,
                        format!("{source} quic://{address}: nobody has logged in here"),
                        "have `hpc invite --role user --user NAME` print a line there, then `hpc login LINE` here",
                    )),
                }
            }
        }
    }

    /// Sends a request to the controller.
    pub(super) fn request(&self, request: &Request) -> Outcome<Connection> {
        let mut tried = Vec::new();
        for way in self.candidates()? {
            match way.connect() {
                Ok((stream, opening)) => {
                    let opened = Connection::open(stream, &opening, request);
                    let Err(Failure::Refused(refusal)) = &opened else {
                        return opened;
                    };
                    if !is_expired(refusal) || !way.renew()? {
                        return opened;
                    }
                    let (stream, opening) = way.connect()?;
                    return Connection::open(stream, &opening, request);
                }
                Err(Failure::Unreachable(why)) => tried.push(why),
                Err(failure) => return Err(failure),
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

/// A way to a controller.
enum Way {
    /// A socket of this machine.
    Socket(PathBuf),
    /// The socket of this machine's worker, for what runs within a job.
    Job {
        socket: PathBuf,
        credential: PathBuf,
    },
    /// The network, as somebody who has logged in; to this address, or where they did.
    Far(Box<bridge::Person>, Option<String>),
}

impl Way {
    /// A stream, and what is said on it first.
    fn connect(&self) -> Outcome<(UnixStream, Vec<u8>)> {
        match self {
            Way::Socket(socket) => Ok((connect(socket)?, codec::encode(&Hello::new(Role::Client)))),
            Way::Job { socket, credential } => {
                let stream = connect(socket)?;
                let proof = std::fs::read(credential).map_err(|error| {
                    Failure::refused(
                        Code::NotPermitted,
                        format!(
                            "the job's credential {} cannot be read: {}",
                            credential.display(),
                            exit::plain(&error)
                        ),
                        "it is there for the job's own user while the job runs",
                    )
                })?;
                let mut opening = codec::encode(&Hello::new(Role::JobClient));
                opening.extend(proof);
                Ok((stream, opening))
            }
            Way::Far(person, address) => {
                let shown = bridge::Person::open(&person.state_dir).map_err(anyhow::Error::from)?;
                let Some(person) = shown else {
                    return Err(Failure::Unreachable("nobody has logged in here".to_owned()));
                };
                let addresses = address.clone().map(|address| vec![address]);
                let stream = bridge::connect(person, addresses)
                    .map_err(|error| Failure::Unreachable(error.to_string()))?;
                Ok((stream, codec::encode(&Hello::new(Role::Client))))
            }
        }
    }

    /// Has an expired certificate made anew; whether there is one.
    fn renew(&self) -> Outcome<bool> {
        match self {
            Way::Far(person, _) => {
                bridge::renew(person)?;
                Ok(true)
            }
            Way::Socket(_) | Way::Job { .. } => Ok(false),
        }
    }
}

fn connect(socket: &Path) -> Outcome<UnixStream> {
    paths::check_length(socket)?;
    UnixStream::connect(socket).map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => Failure::refused(
            Code::NotPermitted,
            format!("{} belongs to another user", socket.display()),
            "ask its owner, or start a cluster of your own with `hpc up`",
        ),
        _ => Failure::Unreachable(format!("{} ({})", socket.display(), words(&error))),
    })
}

/// An address as it is written.
#[derive(Debug, PartialEq, Eq)]
enum Address {
    Socket(PathBuf),
    Far(String),
}

fn parse_address(source: &str, address: &str) -> Outcome<Address> {
    if let Some(far) = address.strip_prefix("quic://") {
        return match join_line::parse_address(far) {
            Ok(_) => Ok(Address::Far(far.to_owned())),
            Err(error) => Err(Failure::Usage(format!("{source} {address}: {error}"))),
        };
    }
    match address.strip_prefix("unix:") {
        Some(path) if !path.is_empty() => Ok(Address::Socket(PathBuf::from(path))),
        _ => Err(Failure::Usage(format!(
            "{source} {address}: not an address; write unix:PATH or quic://HOST:PORT"
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
    fn open(stream: UnixStream, opening: &[u8], request: &Request) -> Outcome<Self> {
        let mut bytes = opening.to_vec();
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
        let parse = |address| parse_address("--controller", address);
        assert_eq!(
            parse("unix:/a/b").unwrap(),
            Address::Socket(PathBuf::from("/a/b"))
        );
        assert_eq!(parse("quic://h:1").unwrap(), Address::Far("h:1".to_owned()));
        for bad in ["/a/b", "unix:", "quic://", "quic://h:x", "tcp://h:1"] {
            assert!(matches!(parse(bad), Err(Failure::Usage(_))), "{bad}");
        }
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
