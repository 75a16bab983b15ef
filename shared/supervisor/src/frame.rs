//! Frames: a little-endian `u32` length, then that many bytes of JSON.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The largest frame either side accepts, in bytes of JSON. Requests carry a submission's files or
/// its standard input, reports its output; base64 makes each a third longer.
pub const MAX_FRAME: usize = 32 << 20;

/// Bytes of the length in front of every frame.
const HEADER: usize = 4;

/// Why bytes are not a frame. None of these can be recovered from: the stream is out of step.
#[derive(Debug, PartialEq, Eq)]
pub enum FrameError {
    /// The length says more than [`MAX_FRAME`].
    TooLong(usize),
    /// The content is not the JSON that was expected; the text says where it went wrong.
    Json(String),
}

impl std::fmt::Display for FrameError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TooLong(n) => write!(f, "a frame of {n} bytes is over the limit of {MAX_FRAME}"),
            Self::Json(why) => write!(f, "a frame does not hold the expected JSON: {why}"),
        }
    }
}

impl std::error::Error for FrameError {}

/// One message as the bytes of a frame.
///
/// # Errors
/// [`FrameError::TooLong`] when the JSON is over [`MAX_FRAME`].
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, FrameError> {
    let mut out = vec![0; HEADER];
    serde_json::to_writer(&mut out, message).map_err(|e| FrameError::Json(e.to_string()))?;
    let len = out.len() - HEADER;
    let header = u32::try_from(len).ok().filter(|_| len <= MAX_FRAME);
    let header = header.ok_or(FrameError::TooLong(len))?;
    out[..HEADER].copy_from_slice(&header.to_le_bytes());
    Ok(out)
}

/// Collects bytes as they come and gives out whole messages. Holds at most one frame beyond what
/// one `push` brought.
#[derive(Debug, Default)]
pub struct FrameBuffer {
    bytes: Vec<u8>,
}

impl FrameBuffer {
    /// Adds bytes that were read.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next message, or `None` while it is incomplete.
    ///
    /// # Errors
    /// [`FrameError`] for a frame that is too long (noticed at its header, before its content is
    /// there) or does not parse.
    pub fn message<T: DeserializeOwned>(&mut self) -> Result<Option<T>, FrameError> {
        let Some(header) = self.bytes.first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let len = u32::from_le_bytes(*header) as usize;
        if len > MAX_FRAME {
            return Err(FrameError::TooLong(len));
        }
        let Some(content) = self.bytes.get(HEADER..HEADER + len) else {
            return Ok(None);
        };
        let message = serde_json::from_slice(content);
        self.bytes.drain(..HEADER + len);
        if self.bytes.is_empty() {
            // A large frame must not be remembered as capacity for the life of the cell.
            self.bytes.shrink_to(64 << 10);
        }
        message.map(Some).map_err(|e| FrameError::Json(e.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_survives_any_split_of_its_frame() {
        let frame = encode(&vec!["a", "b"]).unwrap();
        for cut in 0..=frame.len() {
            let mut buffer = FrameBuffer::default();
            buffer.push(&frame[..cut]);
            let early: Option<Vec<String>> = buffer.message().unwrap();
            assert_eq!(early.is_some(), cut == frame.len());
            buffer.push(&frame[cut..]);
            let late: Option<Vec<String>> = buffer.message().unwrap();
            assert_eq!(early.or(late).unwrap(), ["a", "b"]);
        }
    }

    #[test]
    fn a_frame_over_the_limit_is_refused_at_its_header() {
        let mut buffer = FrameBuffer::default();
        buffer.push(&u32::MAX.to_le_bytes());
        let message: Result<Option<()>, _> = buffer.message();
        assert_eq!(message, Err(FrameError::TooLong(u32::MAX as usize)));
        assert!(matches!(encode(&"x".repeat(MAX_FRAME)), Err(FrameError::TooLong(_))));
    }

    #[test]
    fn two_frames_in_one_read_are_two_messages() {
        let mut buffer = FrameBuffer::default();
        buffer.push(&[encode(&1).unwrap(), encode(&2).unwrap()].concat());
        assert_eq!(buffer.message().unwrap(), Some(1));
        assert_eq!(buffer.message().unwrap(), Some(2));
        assert_eq!(buffer.message::<i32>().unwrap(), None);
    }

    #[test]
    fn what_is_not_json_is_an_error() {
        let mut buffer = FrameBuffer::default();
        buffer.push(&[3, 0, 0, 0, b'{', b'{', b'{']);
        assert!(matches!(buffer.message::<()>(), Err(FrameError::Json(_))));
    }
}
