//! Frames over an asynchronous stream.

use crate::wire::codec::{self, CodecError, FrameBuffer};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Reads frames.
#[derive(Debug)]
pub(super) struct FrameReader<R> {
    stream: R,
    buffer: FrameBuffer,
    bytes: Box<[u8]>,
    most: usize,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub(super) fn new(stream: R, most: usize) -> Self {
        FrameReader {
            stream,
            buffer: FrameBuffer::default(),
            bytes: vec![0; 64 * 1024].into(),
            most,
        }
    }

    /// The next value; `None` at a clean end. Dropped half-way it loses nothing.
    pub(super) async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, CodecError> {
        loop {
            if let Some(value) = self.buffer.next(self.most)? {
                return Ok(Some(value));
            }
            match self.stream.read(&mut self.bytes).await? {
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
