//! The line to the supervisor in a cell.

use std::pin::Pin;
use std::time::Duration;

use bollard::container::{AttachContainerResults, LogOutput};
use bollard::errors::Error;
use flotilla_supervisor::frame::{self, FrameBuffer, FrameError};
use flotilla_supervisor::protocol::{Reply, Request};
use futures::{Stream, StreamExt as _};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::SandboxError;

/// How long a cell may take to read what it is sent.
const SEND: Duration = Duration::from_secs(10);
/// How much of the supervisor's own standard error is remembered, in bytes.
const LAST_WORDS: usize = 1024;

/// Frames to and from a cell. When it is dropped, the cell's standard input ends, and so does it.
pub(crate) struct Link {
    output: Pin<Box<dyn Stream<Item = Result<LogOutput, Error>> + Send>>,
    input: Pin<Box<dyn AsyncWrite + Send>>,
    buffer: FrameBuffer,
    last_words: Vec<u8>,
}

impl Link {
    pub(crate) fn new(streams: AttachContainerResults) -> Self {
        Self {
            output: streams.output,
            input: streams.input,
            buffer: FrameBuffer::default(),
            last_words: Vec::new(),
        }
    }

    /// Sends a request.
    pub(crate) async fn send(&mut self, request: &Request) -> Result<(), SandboxError> {
        let frame = frame::encode(request).map_err(|e| SandboxError::Invalid(e.to_string()))?;
        let write = async {
            self.input.write_all(&frame).await?;
            self.input.flush().await
        };
        match timeout(SEND, write).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(self.died("being sent a request")),
        }
    }

    /// Waits for the next reply. Nothing is lost when the future is dropped.
    pub(crate) async fn receive(&mut self, doing: &'static str) -> Result<Reply, SandboxError> {
        loop {
            if let Some(reply) = self.buffer.message().map_err(|e| confused(&e))? {
                return Ok(reply);
            }
            match self.output.next().await {
                Some(Ok(LogOutput::StdOut { message })) => self.buffer.push(&message),
                Some(Ok(LogOutput::StdErr { message })) => self.remember(&message),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(self.died(doing)),
            }
        }
    }

    /// The next reply, if it comes in time.
    pub(crate) async fn receive_within(
        &mut self,
        patience: Duration,
        doing: &'static str,
    ) -> Result<Reply, SandboxError> {
        match timeout(patience, self.receive(doing)).await {
            Ok(reply) => reply,
            Err(_) => Err(self.died(doing)),
        }
    }

    fn remember(&mut self, words: &[u8]) {
        let room = LAST_WORDS.saturating_sub(self.last_words.len()).min(words.len());
        self.last_words.extend_from_slice(&words[..room]);
    }

    fn died(&self, doing: &'static str) -> SandboxError {
        let last_words = String::from_utf8_lossy(&self.last_words).into_owned();
        SandboxError::CellDied { doing, last_words }
    }
}

fn confused(error: &FrameError) -> SandboxError {
    SandboxError::Protocol(error.to_string())
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Link")
    }
}
