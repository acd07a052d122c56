//! One connection to the controller, from hello to its end.
//!
//! Two queues go out: what concerns control first, bytes of output after it, and those are bounded, so a reader
//! of a large log never delays a heartbeat or an end.

use super::frames::{self, FrameReader};
use super::run::Event;
use crate::model::refusal::Refusal;
use crate::sys::files::connect_unix;
use crate::wire::codec::FRAME_MAX;
use crate::wire::hello::{Hello, HelloReply, Role};
use crate::wire::worker::{FromWorker, ToWorker};
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

/// First and longest pause between attempts to connect.
const PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));
/// Pieces of output that may wait for the socket.
const DATA_QUEUE: usize = 4;

/// A byte stream to the controller; a QUIC stream will be another.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl Stream for UnixStream {}

/// A connection over which the agent has been welcomed.
pub(super) struct Session {
    /// Distinguishes it from earlier ones.
    pub(super) number: u64,
    /// Orders, reports, heartbeats.
    pub(super) control: mpsc::UnboundedSender<FromWorker>,
    /// Bytes of output.
    pub(super) data: mpsc::Sender<FromWorker>,
    /// The controller has answered the registration.
    pub(super) registered: bool,
    tasks: [AbortHandle; 2],
}

impl Drop for Session {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Session {
    /// Begins to read and write.
    pub(super) fn start(stream: Box<dyn Stream>, number: u64, events: mpsc::Sender<Event>) -> Self {
        let (reader, writer) = tokio::io::split(stream);
        let (control, control_queue) = mpsc::unbounded_channel();
        let (data, data_queue) = mpsc::channel(DATA_QUEUE);
        let to_loop = events.clone();
        let reading = tokio::spawn(async move {
            let mut frames = FrameReader::new(reader, FRAME_MAX);
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
        let writing = tokio::spawn(async move {
            if let Err(error) = write_all(writer, control_queue, data_queue).await {
                let _ = events
                    .send(Event::ControllerGone(number, error.to_string()))
                    .await;
            }
        });
        Session {
            number,
            control,
            data,
            registered: false,
            tasks: [reading.abort_handle(), writing.abort_handle()],
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

/// Looks for the controller until it welcomes or refuses us.
pub(super) async fn find(socket: std::path::PathBuf) -> Result<Box<dyn Stream>, Refusal> {
    let mut pause = PAUSE.0;
    let mut said = false;
    loop {
        match attempt(&socket).await {
            Ok(answer) => return answer,
            // Said once a search: it may go on for days.
            Err(error) if !said => {
                tracing::info!(%error, socket = %socket.display(), "no controller yet");
                said = true;
            }
            Err(_) => {}
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE.1);
    }
}

/// One attempt: the controller's answer, or why there was none.
async fn attempt(socket: &Path) -> Result<Result<Box<dyn Stream>, Refusal>, String> {
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
    match read_reply(&mut stream).await? {
        HelloReply::Welcome { .. } => Ok(Ok(Box::new(stream))),
        HelloReply::Refused(refusal) => Ok(Err(refusal)),
    }
}

/// Reads exactly one frame: what follows belongs to the session.
async fn read_reply(stream: &mut UnixStream) -> Result<HelloReply, String> {
    use tokio::io::AsyncReadExt;
    let mut header = [0; 4];
    stream
        .read_exact(&mut header)
        .await
        .map_err(|error| error.to_string())?;
    let length =
        crate::wire::codec::payload_length(header, 64 * 1024).map_err(|error| error.to_string())?;
    let mut payload = vec![0; length];
    stream
        .read_exact(&mut payload)
        .await
        .map_err(|error| error.to_string())?;
    crate::wire::codec::decode(&payload).map_err(|error| error.to_string())
}
