//! Words for the operator. A reader who has gone (`flotilla … | head`, a closed terminal) is no
//! reason to fail, least of all in the middle of taking a fleet down.

use std::{
    fmt::Display,
    io::{Write, stderr, stdout},
};

/// A line of result, on standard output.
pub(crate) fn out(line: impl Display) {
    let _ = writeln!(stdout(), "{line}");
}

/// A line about what goes on, on standard error.
pub(crate) fn note(line: impl Display) {
    let _ = writeln!(stderr(), "{line}");
}
