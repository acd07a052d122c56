//! Being the client of a running step: its output here, our standard input there, our signals passed on.
//!
//! One loop over three descriptors. Output is an offset-addressed log for each node, so after a restart of the
//! controller it goes on where it stopped, for up to [`RECONNECT`]; input is kept until all have taken it, and said again.
//!
//! ```text
//!   stdin ──▶ kept until taken ──▶ ┌────────────┐ ──▶ StepLogs ──▶ stdout, stderr
//!   signals ─────────────────────▶ │ controller │
//!            (first Ctrl-C warns)  └────────────┘ ──▶ Ended: the code
//! ```

use super::connection::{AFTER_BREAK, Connection, RECONNECT, Target, unexpected};
use super::descriptor::Descriptor;
use super::exit::{self, Failure, Outcome};
use super::follow::unseen;
use super::step_log::{LogError, StepLogs};
use crate::model::ids::StepId;
use crate::model::job::JobState;
use crate::model::refusal::Code;
use crate::wire::client::{FromClient, OutputKind, Request, STREAM_WINDOW, ToClient};
use crate::wire::codec::{self, CodecError, FRAME_MAX, FrameBuffer};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// Most bytes of standard input on their way.
const STDIN_WINDOW: usize = 256 * 1024;
/// Bytes read at once.
const READ: usize = 64 * 1024;
/// A second Ctrl-C within this time ends the job.
const AGAIN: Duration = Duration::from_secs(1);
/// A job that has not started by now is said to wait.
pub(super) const SAY_WAITING: Duration = Duration::from_millis(500);

/// How long tasks of a step that was told to end have to do so.
const STEP_PATIENCE: Duration = Duration::from_secs(2);

/// Longer than any machine is up.
const FOREVER: Duration = Duration::from_secs(1 << 32);

/// How a node begins to say that a step it looks for has left no log.
const NO_FILE: &str = "there is no file ";

/// The refusal of a step that the job does not have, or whose output has gone.
pub(super) fn no_step(job: u32, step: StepId) -> Failure {
    Failure::refused(
        Code::WrongState,
        format!("job {job} has no step {}", name_of(step)),
        format!("`hpc job {job}` shows its steps; `hpc logs {job}` the output of its script"),
    )
}

fn name_of(step: StepId) -> String {
    if step == StepId::BATCH {
        "batch".into()
    } else {
        step.to_string()
    }
}

/// What to be the client of.
pub(super) struct Attachment {
    /// Our command, for messages.
    pub(super) verb: &'static str,
    /// The job's raw id.
    pub(super) job: u32,
    /// Its step.
    pub(super) step: StepId,
    /// We provide standard input, pass signals on, and the job's life hangs on us.
    pub(super) owner: bool,
    /// It is a step of a job that goes on without us.
    pub(super) inside: bool,
    /// SIGINT is passed on like every other signal: nobody sits at our terminal.
    pub(super) unattended: bool,
    /// Looks for a controller as long as it takes: more hangs on it than what it shows.
    pub(super) patient: bool,
    /// Digits of ranks before lines.
    pub(super) label: Option<usize>,
    /// Say nothing but errors.
    pub(super) quiet: bool,
    /// Say where its ranks are.
    pub(super) verbose: bool,
    /// Stay until the end; else what is there now is shown.
    pub(super) follow: bool,
    /// Show this one of the two streams alone.
    pub(super) only: Option<OutputKind>,
    /// Where our input comes from and the tasks' output goes to, in place of our own standard streams.
    pub(super) ends: Ends,
}

/// What stands in for standard input and output.
#[derive(Default)]
pub(super) struct Ends {
    /// For standard input.
    pub(super) input: Option<OwnedFd>,
    /// For standard output.
    pub(super) output: Option<OwnedFd>,
    /// For standard error.
    pub(super) error: Option<OwnedFd>,
}

impl Attachment {
    /// What ends with it, in words.
    fn subject(&self) -> String {
        if self.inside {
            format!("step {}.{}", self.job, self.step)
        } else {
            format!("job {}", self.job)
        }
    }

    /// Stays until the step has ended; its code.
    pub(super) fn follow(self, target: &Target) -> Outcome {
        // Blocked before the first byte is shown, so that no signal finds us half attached.
        let signals = if self.owner { Some(signals()?) } else { None };
        let request = self.request(Vec::new());
        let connection = if self.patient {
            target.request_patiently(&request, Instant::now() + FOREVER)?
        } else {
            target.request(&request)?
        };
        let mut session = Session {
            logs: StepLogs::new(self.label),
            input: Input {
                end: !self.owner,
                ..Input::default()
            },
            about: self,
            target,
            signals,
            begun: Instant::now(),
            started: false,
            heard: false,
            said_waiting: false,
            interrupted: None,
            cancelled: None,
            kill_at: None,
            acknowledged: BTreeMap::new(),
            nodes_seen: 0,
            without_log: Vec::new(),
        };
        session.run(connection)
    }

    fn request(&self, offsets: Vec<u64>) -> Request {
        Request::AttachNodes {
            job: self.job,
            step: self.step,
            offsets,
            owner: self.owner,
            follow: self.follow,
        }
    }
}

impl Attachment {
    /// Where standard output and error of the tasks go.
    fn outputs(&self) -> (Descriptor<'_>, Descriptor<'_>) {
        let shown = |kind| self.only.is_none_or(|only| only == kind);
        (
            match &self.ends.output {
                Some(output) => Descriptor::other(output.as_fd()),
                None => Descriptor::output(shown(OutputKind::Stdout)),
            },
            // What is asked for alone is the output of the command that asks.
            match self.only {
                Some(OutputKind::Stderr) => Descriptor::output(true),
                _ => match &self.ends.error {
                    Some(error) => Descriptor::other(error.as_fd()),
                    None => Descriptor::error(shown(OutputKind::Stderr)),
                },
            },
        )
    }
}

/// Blocks the signals that an attached client passes on, in this thread and in those that it starts after this.
pub(super) fn block_signals() -> Outcome<SigSet> {
    let mut set = SigSet::empty();
    for signal in PASSED_ON {
        set.add(signal);
    }
    set.thread_block().map_err(io::Error::from)?;
    Ok(set)
}

fn signals() -> Outcome<SignalFd> {
    let set = block_signals()?;
    Ok(
        SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
            .map_err(io::Error::from)?,
    )
}

const PASSED_ON: [Signal; 6] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
];

/// Standard input that was read and not yet taken at the other end.
#[derive(Default)]
struct Input {
    /// Bytes from `base` on.
    kept: Vec<u8>,
    /// Offset of the first kept byte.
    base: u64,
    /// Nothing more is to be read.
    end: bool,
    /// Nobody reads any more.
    closed: bool,
}

impl Input {
    fn wants_more(&self) -> bool {
        !self.end && !self.closed && self.kept.len() < STDIN_WINDOW
    }

    fn taken(&mut self, offset: u64) {
        let gone = usize::try_from(offset.saturating_sub(self.base))
            .unwrap_or(usize::MAX)
            .min(self.kept.len());
        self.kept.drain(..gone);
        self.base += gone as u64;
    }
}

struct Session<'a> {
    about: Attachment,
    target: &'a Target,
    signals: Option<SignalFd>,
    logs: StepLogs,
    /// By the node's place.
    acknowledged: BTreeMap<u32, u64>,
    input: Input,
    begun: Instant,
    /// The job has started.
    started: bool,
    /// And this connection's controller has said so.
    heard: bool,
    said_waiting: bool,
    interrupted: Option<Instant>,
    /// The signal on which we asked for the end.
    cancelled: Option<Signal>,
    /// When tasks of a step that was told to end are made to.
    kill_at: Option<Instant>,
    /// Nodes whose log there was.
    nodes_seen: usize,
    /// Nodes that have no log. What never started has none: then the reason, which comes later, says more.
    without_log: Vec<String>,
}

/// What became of one connection.
enum Broken {
    /// It was lost; another may go on.
    Lost,
    /// The command is over.
    Failed(Failure),
}

impl From<Failure> for Broken {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Lost(_) => Broken::Lost,
            other => Broken::Failed(other),
        }
    }
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Broken::Failed(error.into())
    }
}

impl Session<'_> {
    fn run(&mut self, mut connection: Connection) -> Outcome {
        loop {
            match self.converse(connection) {
                Ok(code) => return Ok(code),
                Err(Broken::Failed(failure)) => return Err(failure),
                Err(Broken::Lost) => connection = self.reconnect()?,
            }
        }
    }

    fn say_to_user(&self, text: &str) {
        if !self.about.quiet {
            eprintln!("hpc {}: {text}", self.about.verb);
        }
    }

    /// Looks for the restarted controller; Ctrl-C leaves.
    fn reconnect(&mut self) -> Outcome<Connection> {
        self.say_to_user("the controller went away; looking for it for 60 s, the job goes on");
        let patience = if self.about.patient {
            FOREVER
        } else {
            RECONNECT
        };
        let deadline = Instant::now() + patience;
        std::thread::sleep(AFTER_BREAK);
        let mut pause = AFTER_BREAK;
        loop {
            match self
                .target
                .request(&self.about.request(self.logs.offsets()))
            {
                Err(failure @ (Failure::Unreachable(_) | Failure::Lost(_)))
                    if Instant::now() >= deadline =>
                {
                    return Err(failure);
                }
                Err(Failure::Unreachable(_) | Failure::Lost(_)) => {}
                other => return other,
            }
            let mut waiting: Vec<PollFd<'_>> = self
                .signals
                .iter()
                .map(|signals| PollFd::new(signals.as_fd(), PollFlags::POLLIN))
                .collect();
            // Interrupted or not, the loop goes on.
            let _ = poll(
                &mut waiting,
                PollTimeout::try_from(pause).unwrap_or(PollTimeout::MAX),
            );
            while let Some(signal) = self.next_signal() {
                if matches!(
                    signal,
                    Signal::SIGINT | Signal::SIGTERM | Signal::SIGHUP | Signal::SIGQUIT
                ) {
                    let text = format!(
                        "stopped while no controller was reachable; job {} may go on",
                        self.about.job
                    );
                    return Err(Failure::Unreachable(text));
                }
            }
            pause = (pause * 2).min(Duration::from_millis(500));
        }
    }

    fn next_signal(&self) -> Option<Signal> {
        let info = self.signals.as_ref()?.read_signal().ok()??;
        Signal::try_from(i32::try_from(info.ssi_signo).ok()?).ok()
    }

    /// Goes on over this connection until the end or its loss.
    fn converse(&mut self, connection: Connection) -> Result<u8, Broken> {
        let (stream, read) = connection.into_parts();
        let mut peer = Peer::new(stream)?;
        let mut frames = FrameBuffer::default();
        frames.extend(&read);
        self.heard = false;
        if self.cancelled.is_some() {
            self.say_end(Signal::SIGTERM, &mut peer);
        }
        let mut buffer = vec![0; READ];
        loop {
            while let Some(message) = frames.next::<ToClient>(FRAME_MAX).map_err(not_understood)? {
                if let Some(code) = self.take(message, &mut peer)? {
                    return Ok(code);
                }
            }
            let ready = self.wait(&peer)?;
            if ready.signal {
                self.pass_signals(&mut peer)?;
            }
            if ready.input {
                self.read_input(&mut peer)?;
            }
            if ready.answer {
                peer.flush();
                match peer.stream.read(&mut buffer) {
                    Ok(0) => return Err(Broken::Lost),
                    Ok(length) => frames.extend(&buffer[..length]),
                    Err(error) if is_for_later(&error) => {}
                    Err(_) => return Err(Broken::Lost),
                }
            }
            if self.kill_at.is_some_and(|at| at <= Instant::now()) {
                self.kill_at = None;
                peer.say(&FromClient::Signal(Signal::SIGKILL as i32));
            }
            if !self.started && !self.said_waiting && self.begun.elapsed() >= SAY_WAITING {
                self.said_waiting = true;
                self.say_to_user(&format!(
                    "job {} queued and waiting for resources",
                    self.about.job
                ));
            }
        }
    }

    fn wait(&self, peer: &Peer) -> Result<Ready, Broken> {
        let stdin = io::stdin();
        let from = self
            .about
            .ends
            .input
            .as_ref()
            .map_or_else(|| stdin.as_fd(), AsFd::as_fd);
        let mut wanted = PollFlags::POLLIN;
        wanted.set(PollFlags::POLLOUT, !peer.unsent.is_empty());
        let mut waiting = vec![PollFd::new(peer.stream.as_fd(), wanted)];
        // Before the start nobody is there to take it.
        let wants = self.heard && peer.unsent.is_empty() && self.input.wants_more();
        let input = wants.then(|| {
            waiting.push(PollFd::new(from, PollFlags::POLLIN));
            waiting.len() - 1
        });
        let signal = self.signals.as_ref().map(|signals| {
            waiting.push(PollFd::new(signals.as_fd(), PollFlags::POLLIN));
            waiting.len() - 1
        });
        let timeout = if let Some(at) = self.kill_at {
            let left = at.saturating_duration_since(Instant::now());
            PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::NONE)
        } else if self.started || self.said_waiting {
            PollTimeout::NONE
        } else {
            PollTimeout::try_from(SAY_WAITING).unwrap_or(PollTimeout::NONE)
        };
        match poll(&mut waiting, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(io::Error::from(error).into()),
        }
        let is_ready =
            |place: Option<usize>| place.is_some_and(|place| waiting[place].any().unwrap_or(false));
        Ok(Ready {
            answer: is_ready(Some(0)),
            input: is_ready(input),
            signal: is_ready(signal),
        })
    }

    /// What the controller said; the code when that is the end.
    fn take(&mut self, message: ToClient, peer: &mut Peer) -> Result<Option<u8>, Broken> {
        match message {
            ToClient::Refused(refusal) => match self.cancelled_while_waiting() {
                // What was cancelled before it ran has nothing to attach to.
                Some(code) => return Ok(Some(code)),
                None => return Err(Broken::Failed(refusal.into())),
            },
            ToClient::Started { .. } => {
                if self.about.verbose && !self.started {
                    super::placing::show(self.target, self.about.job, self.about.step);
                }
                self.started = true;
                self.heard = true;
                self.resume_input(peer);
                if std::mem::take(&mut self.said_waiting) {
                    self.say_to_user(&format!(
                        "job {} has been allocated resources",
                        self.about.job
                    ));
                }
            }
            ToClient::NodeData {
                node,
                offset,
                bytes,
            } => self.show(node, offset, &bytes, peer)?,
            ToClient::StdinTaken { offset, closed } => {
                self.input.taken(offset);
                self.input.closed |= closed;
            }
            ToClient::NodeEnd { name, error, .. } => match error {
                Some(error) => self.output_failed(&name, error)?,
                None => self.nodes_seen += 1,
            },
            ToClient::DataEnd { .. } => {
                if !self.about.follow {
                    self.end_lines()?;
                    return Ok(Some(exit::DONE));
                }
            }
            ToClient::Why { text } => {
                self.without_log.clear();
                eprintln!("hpc {}: error: {text}", self.about.verb);
            }
            ToClient::Ended { state, code, .. } => {
                if state == JobState::Cancelled
                    && let Some(code) = self.cancelled_while_waiting()
                {
                    return Ok(Some(code));
                }
                self.end_lines()?;
                if matches!(state, JobState::Completed | JobState::Failed) {
                    for error in &self.without_log {
                        eprintln!("hpc {}: error: {error}", self.about.verb);
                    }
                } else {
                    self.say_to_user(&format!("job {} ended {state}", self.about.job));
                }
                return Ok(Some(code));
            }
            ToClient::StepStarted { .. } | ToClient::Done { .. } => {}
            other => return Err(Broken::Failed(unexpected(&other))),
        }
        Ok(None)
    }

    /// The output of one node cannot be had. The client of a job still waits for its code; one that looks on has
    /// nothing to see.
    fn output_failed(&mut self, node: &str, error: String) -> Outcome<()> {
        if self.about.owner && error.starts_with(NO_FILE) {
            self.without_log.push(format!("{node}: {error}"));
            return Ok(());
        }
        if self.about.owner || self.nodes_seen > 0 {
            eprintln!("hpc {}: error: {node}: {error}", self.about.verb);
            return Ok(());
        }
        if error.starts_with(NO_FILE) {
            return Err(no_step(self.about.job, self.about.step));
        }
        Err(Failure::Other(anyhow::anyhow!("{node}: {error}")))
    }

    fn end_lines(&mut self) -> io::Result<()> {
        let (mut out, mut err) = self.about.outputs();
        self.logs.end(&mut out, &mut err)
    }

    /// The code, when the job never started because we were told to end; says so.
    fn cancelled_while_waiting(&self) -> Option<u8> {
        let signal = self
            .cancelled
            .filter(|_| !self.started && !self.about.inside)?;
        self.say_to_user(&format!("job {} cancelled", self.about.job));
        Some(exit::of_signal(signal))
    }

    fn show(
        &mut self,
        node: u32,
        offset: u64,
        bytes: &[u8],
        peer: &mut Peer,
    ) -> Result<(), Broken> {
        let fresh = unseen(self.logs.taken(node), offset, bytes)?;
        let (mut out, mut err) = self.about.outputs();
        match self.logs.feed(node, fresh, &mut out, &mut err) {
            Ok(()) => self.show_own_words(),
            Err(error) => {
                // As a program in a pipe: when nobody reads, it ends. Where it cannot be written, it is lost from here on,
                // and its step would hold cpus that nobody knows of.
                if self.about.owner {
                    self.say_end(Signal::SIGKILL, peer);
                    peer.flush();
                }
                let closed = matches!(&error, LogError::Io(error) if error.kind() == io::ErrorKind::BrokenPipe);
                return Err(Broken::Failed(if closed {
                    Failure::PipeClosed
                } else {
                    anyhow::Error::from(error).into()
                }));
            }
        }
        let offset = self.logs.taken(node);
        let acknowledged = self.acknowledged.entry(node).or_default();
        if offset - *acknowledged >= STREAM_WINDOW / 4 {
            *acknowledged = offset;
            peer.say(&FromClient::NodeTaken { node, offset });
        }
        Ok(())
    }

    /// What the step's nodes say of it goes to our own standard error, wherever that of its tasks does.
    fn show_own_words(&mut self) {
        let words = self.logs.own_words();
        if !words.is_empty() && self.about.only != Some(OutputKind::Stdout) {
            // Nobody may be there to read it; the step goes on.
            let _ = io::stderr().write_all(&words);
        }
    }

    fn read_input(&mut self, peer: &mut Peer) -> Result<(), Broken> {
        let mut buffer = vec![0; READ];
        // Not through std's buffer: poll knows nothing of it.
        let read = match &self.about.ends.input {
            Some(input) => nix::unistd::read(input, &mut buffer),
            None => nix::unistd::read(io::stdin().as_fd(), &mut buffer),
        };
        let length = match read {
            Ok(length) => length,
            Err(nix::errno::Errno::EINTR | nix::errno::Errno::EAGAIN) => return Ok(()),
            // A terminal that took us to the background, or a directory: nothing to read.
            Err(_) => 0,
        };
        let offset = self.input.base + self.input.kept.len() as u64;
        self.input.kept.extend_from_slice(&buffer[..length]);
        self.input.end |= length == 0;
        peer.say(&FromClient::Stdin {
            offset,
            bytes: buffer[..length].to_vec(),
            end: self.input.end,
        });
        Ok(())
    }

    /// At the start, and again on a new connection: says what may not have arrived.
    fn resume_input(&mut self, peer: &mut Peer) {
        let end = self.about.owner && self.input.end;
        if self.input.closed || (self.input.kept.is_empty() && !end) {
            return;
        }
        peer.say(&FromClient::Stdin {
            offset: self.input.base,
            bytes: self.input.kept.clone(),
            end,
        });
    }

    fn pass_signals(&mut self, peer: &mut Peer) -> Result<(), Broken> {
        while let Some(signal) = self.next_signal() {
            match signal {
                Signal::SIGINT if !self.about.unattended => self.interrupt(peer)?,
                // Nothing runs yet that could take it.
                Signal::SIGINT | Signal::SIGTERM | Signal::SIGHUP | Signal::SIGQUIT
                    if !self.started =>
                {
                    self.cancel(signal, peer)
                }
                other => peer.say(&FromClient::Signal(other as i32)),
            }
        }
        Ok(())
    }

    fn interrupt(&mut self, peer: &mut Peer) -> Result<(), Broken> {
        let again = self
            .interrupted
            .is_some_and(|before| before.elapsed() <= AGAIN);
        self.interrupted = Some(Instant::now());
        match (again, self.cancelled.is_some()) {
            (true, true) => {
                if self.about.inside {
                    peer.say(&FromClient::Signal(Signal::SIGKILL as i32));
                    peer.flush();
                }
                let text = format!("left {} while it was being ended", self.about.subject());
                return Err(Broken::Failed(Failure::Other(anyhow::anyhow!(text))));
            }
            (true, false) => self.cancel(Signal::SIGINT, peer),
            // Where the tasks' streams are not the user's, there is nothing that a second thought could save.
            (false, _) if !self.started || self.about.ends.input.is_some() => {
                self.cancel(Signal::SIGINT, peer);
            }
            (false, _) => {
                eprintln!(
                    "hpc {}: interrupt (one more within 1 s ends {})",
                    self.about.verb,
                    self.about.subject()
                );
            }
        }
        Ok(())
    }

    fn cancel(&mut self, signal: Signal, peer: &mut Peer) {
        self.cancelled = Some(signal);
        if self.started {
            eprintln!("hpc {}: ending {}", self.about.verb, self.about.subject());
        }
        if self.about.inside {
            self.kill_at = Some(Instant::now() + STEP_PATIENCE);
        }
        self.say_end(Signal::SIGTERM, peer);
    }

    /// A job of `hpc run` ends with it; a step inside a job, which gets this signal, must not take that job along.
    fn say_end(&self, signal: Signal, peer: &mut Peer) {
        let end = if self.about.inside {
            FromClient::Signal(signal as i32)
        } else {
            FromClient::Cancel
        };
        peer.say(&end);
    }
}

/// Which descriptors have something.
struct Ready {
    answer: bool,
    input: bool,
    signal: bool,
}

/// The connection, never waited for when it is written to: a controller that waits until we read must not find us waiting
/// until it does.
struct Peer {
    stream: UnixStream,
    /// What did not fit yet.
    unsent: Vec<u8>,
}

impl Peer {
    fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        let unsent = Vec::new();
        Ok(Peer { stream, unsent })
    }

    fn say(&mut self, message: &FromClient) {
        self.unsent.extend_from_slice(&codec::encode(message));
        self.flush();
    }

    /// Writes what fits now.
    fn flush(&mut self) {
        let mut sent = 0;
        while sent < self.unsent.len() {
            match self.stream.write(&self.unsent[sent..]) {
                Ok(count) if count > 0 => sent += count,
                Err(error) if is_for_later(&error) => break,
                // A controller that has gone may have left output to be read: only reading finds the end.
                Ok(_) | Err(_) => sent = self.unsent.len(),
            }
        }
        self.unsent.drain(..sent);
    }
}

fn is_for_later(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

fn not_understood(error: CodecError) -> Broken {
    Broken::Failed(Failure::Other(
        anyhow::Error::from(error).context("cannot understand the controller"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_is_kept_until_taken() {
        let mut input = Input {
            kept: b"abcdef".to_vec(),
            base: 10,
            ..Input::default()
        };
        input.taken(5);
        assert_eq!(
            (input.base, input.kept.as_slice()),
            (10, b"abcdef".as_slice())
        );
        input.taken(13);
        assert_eq!((input.base, input.kept.as_slice()), (13, b"def".as_slice()));
        input.taken(99);
        assert_eq!((input.base, input.kept.len()), (16, 0));
        assert!(input.wants_more());
    }
}
