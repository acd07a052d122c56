//! Frames: a little-endian u32 length, then that many bytes of postcard.
//!
//! The bound differs by who speaks: a client may send a script and an environment, a worker a batch of
//! ends; neither may make us allocate more.

use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{self, Read, Write};

/// Longest frame between any two of us.
pub const FRAME_MAX: usize = 64 * 1024 * 1024;
/// Longest frame a client may send: a 4 MiB script, an environment, arguments.
pub const REQUEST_MAX: usize = 16 * 1024 * 1024;
/// Longest frame a worker may send: the ends of all that a slot can hold, or what a large machine has.
pub const REPORT_MAX: usize = 8 * 1024 * 1024;

/// What can be wrong with incoming bytes.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The announced length is over the bound.
    #[error("a frame of {length} bytes was announced, the most is {most}")]
    TooLong {
        /// Announced.
        length: usize,
        /// Bound.
        most: usize,
    },
    /// The bytes are not what they should be.
    #[error("a frame of {length} bytes does not decode as {what}")]
    Malformed {
        /// Length of the frame.
        length: usize,
        /// Expected type.
        what: &'static str,
    },
    /// The stream ended within a frame or failed.
    #[error("the connection failed")]
    Io(#[from] io::Error),
}

/// One frame, header included.
///
/// # Panics
/// When a value of ours exceeds [`FRAME_MAX`]: senders cut their messages.
#[must_use]
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let mut frame = vec![0; 4];
    frame = postcard::to_extend(value, frame).expect("our own messages serialise");
    let length = frame.len() - 4;
    assert!(
        length <= FRAME_MAX,
        "a message of ours has {length} bytes, the most is {FRAME_MAX}"
    );
    let header = u32::try_from(length)
        .expect("FRAME_MAX fits u32")
        .to_le_bytes();
    frame[..4].copy_from_slice(&header);
    frame
}

/// A value from a frame's payload.
///
/// # Errors
/// [`CodecError::Malformed`].
pub fn decode<T: DeserializeOwned>(payload: &[u8]) -> Result<T, CodecError> {
    let malformed = || CodecError::Malformed {
        length: payload.len(),
        what: std::any::type_name::<T>(),
    };
    let (value, rest) = postcard::take_from_bytes(payload).map_err(|_| malformed())?;
    if rest.is_empty() {
        Ok(value)
    } else {
        Err(malformed())
    }
}

/// The payload length a header announces.
///
/// # Errors
/// [`CodecError::TooLong`].
pub fn payload_length(header: [u8; 4], most: usize) -> Result<usize, CodecError> {
    let length = u32::from_le_bytes(header) as usize;
    if length > most {
        Err(CodecError::TooLong { length, most })
    } else {
        Ok(length)
    }
}

/// Reads one value from a blocking stream; `None` at a clean end.
///
/// # Errors
/// As [`CodecError`] says.
pub fn read<T: DeserializeOwned>(
    stream: &mut impl Read,
    most: usize,
) -> Result<Option<T>, CodecError> {
    let mut header = [0; 4];
    let mut filled = 0;
    while filled < 4 {
        match stream.read(&mut header[filled..]) {
            Ok(0) if filled == 0 => return Ok(None),
            Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    let length = payload_length(header, most)?;
    let mut payload = Vec::new();
    // Grown as bytes arrive, so an announced length alone costs nothing.
    stream.take(length as u64).read_to_end(&mut payload)?;
    if payload.len() < length {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    decode(&payload).map(Some)
}

/// Writes one value to a blocking stream.
///
/// # Errors
/// When the stream fails.
pub fn write<T: Serialize>(stream: &mut impl Write, value: &T) -> io::Result<()> {
    stream.write_all(&encode(value))
}

/// Gathers bytes from a non-blocking stream and gives out whole frames.
#[derive(Debug, Default)]
pub struct FrameBuffer {
    bytes: Vec<u8>,
    taken: usize,
}

/// Bytes that were given out may stay in a buffer up to here, as moving the rest costs more.
const TAKEN_MAX: usize = 64 * 1024;
/// Room that a buffer keeps for the next frame: enough for pieces of output, which come one after another.
const ROOM_KEPT: usize = 512 * 1024;

impl FrameBuffer {
    /// Adds what was read.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole frame's value, if it is here.
    ///
    /// # Errors
    /// Too long, or malformed; the stream is then of no further use.
    pub fn next<T: DeserializeOwned>(&mut self, most: usize) -> Result<Option<T>, CodecError> {
        let Some(length) = self.announced(most)? else {
            self.tidy();
            return Ok(None);
        };
        let here = &self.bytes[self.taken..];
        let Some(payload) = here.get(4..4 + length) else {
            self.tidy();
            return Ok(None);
        };
        let value = decode(payload)?;
        self.taken += 4 + length;
        Ok(Some(value))
    }

    /// How long the frame is that comes next, once its header is here.
    ///
    /// # Errors
    /// Too long.
    pub fn announced(&self, most: usize) -> Result<Option<usize>, CodecError> {
        let header = self.bytes[self.taken..].first_chunk::<4>();
        header
            .map(|header| payload_length(*header, most))
            .transpose()
    }

    /// Forgets what was given out: whatever the other side cuts its frames into, no more is kept than the frame that
    /// has begun, and the room of a long one goes with it.
    fn tidy(&mut self) {
        if self.taken > TAKEN_MAX || self.taken == self.bytes.len() {
            self.bytes.drain(..self.taken);
            self.taken = 0;
        }
        if self.bytes.len() <= TAKEN_MAX && self.bytes.capacity() > ROOM_KEPT {
            self.bytes.shrink_to(TAKEN_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_value_comes_back_through_a_stream_and_a_clean_end_is_none() {
        let mut bytes = Vec::new();
        write(&mut bytes, &("job", 42u32)).unwrap();
        let mut stream = bytes.as_slice();
        assert_eq!(
            read::<(String, u32)>(&mut stream, 100).unwrap(),
            Some(("job".to_owned(), 42))
        );
        assert_eq!(read::<(String, u32)>(&mut stream, 100).unwrap(), None);
    }

    #[test]
    fn a_long_announcement_is_refused_before_anything_is_read() {
        let mut stream: &[u8] = &[255, 255, 255, 255];
        assert!(matches!(
            read::<u32>(&mut stream, 1000),
            Err(CodecError::TooLong { most: 1000, .. })
        ));
    }

    #[test]
    fn a_cut_frame_and_left_over_bytes_are_errors() {
        let whole = encode(&"hello");
        let mut cut = &whole[..whole.len() - 1];
        assert!(matches!(
            read::<String>(&mut cut, 100),
            Err(CodecError::Io(_))
        ));
        assert!(matches!(
            decode::<u8>(&[1, 2]),
            Err(CodecError::Malformed { .. })
        ));
    }

    #[test]
    fn a_buffer_keeps_no_more_than_the_frame_that_has_begun() {
        // Every piece ends within a header.
        let frame = encode(&vec![7u8; 100_000]);
        let stream: Vec<u8> = frame.repeat(50);
        let mut buffer = FrameBuffer::default();
        buffer.extend(&stream[..2]);
        for piece in stream[2..].chunks(frame.len()) {
            buffer.extend(piece);
            while buffer.next::<Vec<u8>>(FRAME_MAX).unwrap().is_some() {}
            assert!(buffer.bytes.len() < 2 * frame.len());
        }
        buffer.extend(&encode(&vec![7u8; 1_000_000]));
        assert!(buffer.next::<Vec<u8>>(FRAME_MAX).unwrap().is_some());
        assert_eq!(buffer.next::<Vec<u8>>(FRAME_MAX).unwrap(), None);
        assert!(buffer.bytes.capacity() <= ROOM_KEPT, "nor its room");
    }

    proptest! {
        #[test]
        fn frames_survive_any_cutting(values in prop::collection::vec(any::<Vec<u8>>(), 1..20), cut in 1usize..50) {
            let stream: Vec<u8> = values.iter().flat_map(encode).collect();
            let mut buffer = FrameBuffer::default();
            let mut seen = Vec::new();
            for piece in stream.chunks(cut) {
                buffer.extend(piece);
                while let Some(value) = buffer.next::<Vec<u8>>(FRAME_MAX).unwrap() {
                    seen.push(value);
                }
            }
            prop_assert_eq!(seen, values);
        }
    }
}
