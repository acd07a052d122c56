//! Frames over an asynchronous stream.

use crate::wire::codec::{self, CodecError, FrameBuffer};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Reads frames.
#[derive(Debug)]
pub(super) struct FrameReader<R> {
    stream: R,
    buffer: FrameBuffer,
    bytes: Box<[u8]>,
    most: usize,
    /// The stream has failed once nothing at all came for so many milliseconds.
    patience_ms: Option<Arc<AtomicU64>>,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub(super) fn new(stream: R, most: usize) -> Self {
        FrameReader {
            stream,
            buffer: FrameBuffer::default(),
            bytes: vec![0; 64 * 1024].into(),
            most,
            patience_ms: None,
        }
    }

    /// The other side has to say something, be it part of a frame, at least this often (in milliseconds).
    pub(super) fn with_patience(mut self, patience_ms: Arc<AtomicU64>) -> Self {
        self.patience_ms = Some(patience_ms);
        self
    }

    /// The next value; `None` at a clean end. Dropped half-way it loses nothing.
    pub(super) async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, CodecError> {
        loop {
            if let Some(value) = self.buffer.next(self.most)? {
                return Ok(Some(value));
            }
            let read = self.stream.read(&mut self.bytes);
            let count = match &self.patience_ms {
                None => read.await?,
                Some(patience_ms) => {
                    let patience = Duration::from_millis(patience_ms.load(Ordering::Relaxed));
                    tokio::time::timeout(patience, read)
                        .await
                        .map_err(std::io::Error::from)??
                }
            };
            match count {
                0 => return Ok(None),
                count => self.buffer.extend(&self.bytes[..count]),
            }
        }
    }
}

/// Writes one frame.
pub(super) async fn write<T: Serialize>(
    stream: &mut (impl AsyncWrite + Unpin),
    value: &T,
) -> std::io::Result<()> {
    stream.write_all(&codec::encode(value)).await
}

/// Writes several frames at once.
pub(super) async fn write_all<T: Serialize>(
    stream: &mut (impl AsyncWrite + Unpin),
    values: &[T],
) -> std::io::Result<()> {
    stream
        .write_all(&values.iter().flat_map(codec::encode).collect::<Vec<u8>>())
        .await
}
