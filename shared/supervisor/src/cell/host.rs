//! The line to the host: frames in on standard input, frames out on standard output.

use std::io::Write as _;
use std::os::fd::{AsFd, BorrowedFd};

use flotilla_supervisor::frame::{self, FrameBuffer, FrameError};
use flotilla_supervisor::protocol::{Reply, Request};

/// The host, as seen from the cell.
#[derive(Default)]
pub(super) struct Host {
    buffer: FrameBuffer,
}

impl Host {
    /// What to poll for the host's next words.
    pub(super) fn fd() -> BorrowedFd<'static> {
        // The handle is a static of the standard library; only `as_fd` borrows it for less.
        static STDIN: std::sync::LazyLock<std::io::Stdin> =
            std::sync::LazyLock::new(std::io::stdin);
        STDIN.as_fd()
    }

    /// Waits for the next request.
    pub(super) fn request(&mut self) -> Result<Request, FrameError> {
        loop {
            if let Some(request) = self.pending()? {
                return Ok(request);
            }
            self.read();
        }
    }

    /// A request that is there already.
    pub(super) fn pending(&mut self) -> Result<Option<Request>, FrameError> {
        self.buffer.message()
    }

    /// Reads what there is, waiting for at least a byte. When the host is gone so is the reason to
    /// live: as PID 1 of the container, exiting takes everything along.
    pub(super) fn read(&mut self) {
        let mut chunk = [0; 64 << 10];
        match nix::unistd::read(Self::fd(), &mut chunk) {
            Ok(0) => std::process::exit(0),
            Ok(n) => self.buffer.push(&chunk[..n]),
            Err(nix::errno::Errno::EINTR | nix::errno::Errno::EAGAIN) => {}
            Err(errno) => {
                eprintln!("flotilla-supervisor: cannot read from the host: {errno}");
                std::process::exit(1);
            }
        }
    }

    /// Answers. A host that does not listen is gone.
    pub(super) fn send(&mut self, reply: &Reply) -> Result<(), FrameError> {
        let frame = frame::encode(reply)?;
        let mut stdout = std::io::stdout().lock();
        if stdout.write_all(&frame).and_then(|()| stdout.flush()).is_err() {
            std::process::exit(0);
        }
        Ok(())
    }
}
