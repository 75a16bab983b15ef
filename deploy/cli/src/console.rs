//! Words for the operator. A reader who has gone (`flotilla … | head`, a closed terminal) is no
//! reason to fail, least of all in the middle of taking a fleet down; a full disk is, in the end.

use std::{
    fmt::Display,
    io::{ErrorKind, Write, stderr, stdout},
    sync::atomic::{AtomicBool, Ordering},
};

static LOST: AtomicBool = AtomicBool::new(false);

/// A line of result, on standard output.
pub(crate) fn out(line: impl Display) {
    let written = writeln!(stdout(), "{line}").and_then(|()| stdout().flush());
    if written.is_err_and(|error| error.kind() != ErrorKind::BrokenPipe) {
        LOST.store(true, Ordering::Relaxed);
    }
}

/// A line about what goes on, on standard error.
pub(crate) fn note(line: impl Display) {
    let _ = writeln!(stderr(), "{line}");
}

/// Whether a line of result could not be written, though somebody was there to read it.
pub(crate) fn lost() -> bool {
    LOST.load(Ordering::Relaxed)
}
