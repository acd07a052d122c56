//! One connection to the controller, from hello to its end.
//!
//! Two queues go out: what concerns control first, bytes of output after it, and those are bounded, so a reader
//! of a large log never delays a heartbeat or an end.

use super::frames::{self, FrameReader};
use super::heartbeat::Heartbeat;
use super::membership::{self, Reached};
use super::run::Event;
use crate::model::refusal::{Code, Refusal};
use crate::net::client::Route;
use crate::net::membership::read_one;
use crate::sys::files::connect_unix;
use crate::wire::codec::FRAME_MAX;
use crate::wire::hello::{Hello, HelloReply, Role, VERSION_BEATS};
use crate::wire::worker::{FromWorker, ToWorker};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::AsyncWrite;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

/// First and longest pause between attempts to connect.
const PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));
/// Pieces of output that may wait for the socket.
const DATA_QUEUE: usize = 4;

/// How long a controller that has welcomed us may take to register us: it may have a slow disk and much to do, and
/// asking again would not make it faster.
const REGISTER_MOST_MS: u64 = 60_000;

/// No controller lets us be silent for longer.
const SILENCE_MOST_MS: u64 = 86_400_000;

/// A connection over which the agent has been welcomed.
pub(super) struct Session {
    /// Distinguishes it from earlier ones.
    pub(super) number: u64,
    /// The version spoken.
    pub(super) version: u16,
    /// Orders, reports, heartbeats.
    pub(super) control: mpsc::UnboundedSender<FromWorker>,
    /// Bytes of output.
    pub(super) data: mpsc::Sender<FromWorker>,
    /// The controller has answered the registration.
    pub(super) registered: bool,
    /// The way to a controller elsewhere; gone with the session.
    _route: Option<Arc<Route>>,
    /// When the registration was sent, by the clock that leases run on.
    pub(super) asked_ms: u64,
    /// How long silence may last and how long a lease is; `None` while nothing was agreed.
    pub(super) terms: Option<(u64, u64)>,
    /// From the registration on, where terms were agreed.
    pub(super) heartbeat: Option<Heartbeat>,
    patience_ms: Arc<AtomicU64>,
    tasks: Vec<AbortHandle>,
}

impl Drop for Session {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Session {
    /// Begins to read and write, in the version of the protocol that was agreed.
    pub(super) fn start(found: Reached, number: u64, events: mpsc::Sender<Event>) -> Self {
        let version = found.version;
        let (reader, writer) = tokio::io::split(found.control);
        let data_writer = found.data;
        let (control, control_queue) = mpsc::unbounded_channel();
        let (data, data_queue) = mpsc::channel(DATA_QUEUE);
        let to_loop = events.clone();
        let patience_ms = Arc::new(AtomicU64::new(REGISTER_MOST_MS));
        let mut frames = FrameReader::new(reader, FRAME_MAX);
        if version >= VERSION_BEATS {
            frames = frames.with_patience(Arc::clone(&patience_ms));
        }
        let reading = tokio::spawn(async move {
            let why = loop {
                match frames.next::<ToWorker>().await {
                    Ok(Some(order)) => {
                        if to_loop
                            .send(Event::Controller(number, order))
                            .await
                            .is_err()
                        {
                            return;
                        }
                    }
                    Ok(None) => break "it closed the connection".to_owned(),
                    Err(error) => break error.to_string(),
                }
            };
            let _ = to_loop.send(Event::ControllerGone(number, why)).await;
        });
        let (to_loop, tied) = (events.clone(), found.route.clone());
        let tethering = tied.map(|route| {
            let watching = async move {
                route.tethered().await;
                let why = "its process is gone".to_owned();
                let _ = to_loop.send(Event::ControllerGone(number, why)).await;
            };
            tokio::spawn(watching).abort_handle()
        });
        let renewing = found.route.as_ref().map(|route| {
            let way = Arc::downgrade(route);
            tokio::spawn(membership::stay_known(way, found.state_dir)).abort_handle()
        });
        let writing = tokio::spawn(async move {
            let written = match data_writer {
                Some(data_writer) => {
                    // Apart, so that no end and no heartbeat waits behind output.
                    let none = mpsc::channel(1).1;
                    tokio::try_join!(
                        write_all(writer, control_queue, none),
                        write_all(data_writer, mpsc::unbounded_channel().1, data_queue),
                    )
                    .map(|_| ())
                }
                None => write_all(writer, control_queue, data_queue).await,
            };
            if let Err(error) = written {
                let _ = events
                    .send(Event::ControllerGone(number, error.to_string()))
                    .await;
            }
        });
        Session {
            number,
            version,
            control,
            data,
            registered: false,
            _route: found.route,
            asked_ms: 0,
            terms: None,
            heartbeat: None,
            patience_ms,
            tasks: [reading.abort_handle(), writing.abort_handle()]
                .into_iter()
                .chain(renewing)
                .chain(tethering)
                .collect(),
        }
    }

    /// The controller has answered the registration.
    pub(super) fn register(&mut self) {
        self.registered = true;
        if let Some((silent_after_ms, lease_ms)) = self.terms {
            let silent_after_ms = silent_after_ms.clamp(1_000, SILENCE_MOST_MS);
            self.patience_ms.store(silent_after_ms, Ordering::Relaxed);
            self.heartbeat = Some(Heartbeat::new(silent_after_ms, lease_ms, self.asked_ms));
        }
    }

    /// Sends what must not wait.
    pub(super) fn say(&self, message: FromWorker) {
        // The other end is gone only when the session is about to be dropped.
        let _ = self.control.send(message);
    }
}

async fn write_all(
    mut writer: impl AsyncWrite + Unpin,
    mut control: mpsc::UnboundedReceiver<FromWorker>,
    mut data: mpsc::Receiver<FromWorker>,
) -> std::io::Result<()> {
    loop {
        let message = tokio::select! {
            biased;
            Some(message) = control.recv() => message,
            Some(message) = data.recv() => message,
            else => return Ok(()),
        };
        frames::write(&mut writer, &message).await?;
    }
}

/// Where the controller is looked for.
#[derive(Debug, Clone)]
pub(super) enum Place {
    /// At this socket.
    Here(PathBuf),
    /// As the membership in this state directory says.
    Elsewhere(PathBuf),
}

/// Looks for the controller until it welcomes or refuses us.
pub(super) async fn find(place: Place) -> Result<Reached, Refusal> {
    let mut pause = PAUSE.0;
    let mut said = String::new();
    loop {
        let attempt = match &place {
            Place::Here(socket) => attempt(socket).await,
            Place::Elsewhere(state_dir) => membership::attempt(state_dir).await,
        };
        match attempt {
            // It has too much to do for us now: no reason to go.
            Ok(Err(refusal)) if refusal.code == Code::TooMuch => {
                tracing::warn!(%refusal, "the controller has no room for this worker now; trying again");
            }
            Ok(answer) => return answer,
            // Said once a search: it may go on for days.
            Err(error) if error != said => {
                tracing::info!(%error, ?place, "no controller yet");
                said = error;
            }
            Err(_) => {}
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE.1);
    }
}

/// One attempt at the socket of a controller on this machine.
async fn attempt(socket: &Path) -> Result<Result<Reached, Refusal>, String> {
    let folder = socket.parent().unwrap_or(Path::new("."));
    let name = socket.file_name().unwrap_or_default().to_string_lossy();
    let connect = || -> std::io::Result<UnixStream> {
        let stream = connect_unix(folder, &name)?;
        stream.set_nonblocking(true)?;
        UnixStream::from_std(stream)
    };
    let mut stream = connect().map_err(|error| error.to_string())?;
    frames::write(&mut stream, &Hello::new(Role::Worker))
        .await
        .map_err(|error| error.to_string())?;
    let reply = read_one(&mut stream, 64 * 1024).await;
    match reply.map_err(|error| error.to_string())? {
        HelloReply::Welcome { version, .. } => Ok(Ok(Reached {
            control: Box::new(stream),
            data: None,
            route: None,
            state_dir: PathBuf::new(),
            version,
        })),
        HelloReply::Refused(refusal) => Ok(Err(refusal)),
    }
}
