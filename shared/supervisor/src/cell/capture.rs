//! Pipes of a run: what it writes is read up to a limit, what it reads is fed as it goes.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::unistd::{read, write};

/// One output stream of a run.
pub(super) struct Capture {
    pipe: Option<OwnedFd>,
    kept: Vec<u8>,
    seen: u64,
    limit: u64,
}

impl Capture {
    /// Keeps the first `limit` bytes of what comes out of a non-blocking pipe.
    pub(super) fn new(pipe: OwnedFd, limit: u64) -> Self {
        Self { pipe: Some(pipe), kept: Vec::new(), seen: 0, limit }
    }

    /// What to poll, until the end of the stream.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(OwnedFd::as_fd)
    }

    /// Reads once; `false` when there is nothing (more).
    pub(super) fn read(&mut self) -> bool {
        let Some(pipe) = &self.pipe else { return false };
        let mut chunk = [0; 64 << 10];
        match read(pipe, &mut chunk) {
            Ok(n) if n > 0 => {
                self.take(&chunk[..n]);
                true
            }
            Err(Errno::EINTR) => true,
            Err(Errno::EAGAIN) => false,
            _ => {
                self.pipe = None;
                false
            }
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        let room = self.limit.saturating_sub(self.seen).min(bytes.len() as u64) as usize;
        self.kept.extend_from_slice(&bytes[..room]);
        self.seen += bytes.len() as u64;
    }

    /// Reads what is left when every writer is dead. A pipe holds little, so this ends.
    pub(super) fn drain(&mut self) {
        while self.read() {}
    }

    /// More was written than `times` the limit.
    pub(super) fn is_over(&self, times: u64) -> bool {
        self.seen > self.limit.saturating_mul(times)
    }

    /// The bytes kept, and whether there were more.
    pub(super) fn finish(self) -> (Vec<u8>, bool) {
        (self.kept, self.seen > self.limit)
    }
}

/// The input stream of a run.
pub(super) struct Feed<'a> {
    pipe: Option<OwnedFd>,
    rest: &'a [u8],
}

impl<'a> Feed<'a> {
    /// Feeds `bytes` into a non-blocking pipe, then ends it.
    pub(super) fn new(pipe: OwnedFd, bytes: &'a [u8]) -> Self {
        let mut feed = Self { pipe: Some(pipe), rest: bytes };
        feed.write();
        feed
    }

    /// What to poll, while there is something to feed.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(OwnedFd::as_fd)
    }

    /// Writes what fits. A reader that is gone is no error: nobody has to read.
    pub(super) fn write(&mut self) {
        while let Some(pipe) = &self.pipe {
            match (self.rest.is_empty(), write(pipe, self.rest)) {
                (false, Ok(n)) => self.rest = &self.rest[n..],
                (false, Err(Errno::EAGAIN)) => return,
                (false, Err(Errno::EINTR)) => {}
                _ => self.pipe = None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::fcntl::OFlag;
    use nix::unistd::pipe2;

    fn pipe() -> (OwnedFd, OwnedFd) {
        pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).unwrap()
    }

    #[test]
    fn no_more_is_kept_than_the_limit_and_all_is_counted() {
        let (reader, writer) = pipe();
        let mut capture = Capture::new(reader, 3);
        write(&writer, b"abcd").unwrap();
        drop(writer);
        capture.drain();
        assert!(capture.is_over(1) && !capture.is_over(2));
        assert_eq!(capture.finish(), (b"abc".to_vec(), true));
    }

    #[test]
    fn input_larger_than_the_pipe_is_fed_in_parts_and_ended() {
        let bytes = vec![b'x'; 300_000];
        let (reader, writer) = pipe();
        let mut feed = Feed::new(writer, &bytes);
        let mut capture = Capture::new(reader, u64::MAX);
        while feed.fd().is_some() {
            capture.drain();
            feed.write();
        }
        capture.drain();
        assert!(capture.fd().is_none());
        assert_eq!(capture.finish().0.len(), bytes.len());
    }
}
