//! How a run went, as the host sees it.

use std::time::Duration;

pub use flotilla_supervisor::protocol::{Exit, Reason};

/// How one run went. Whatever it says, the run is over and nothing of it is left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// How the program ended. [`Exit::Vanished`] is a program that took its own surroundings down:
    /// judge it as a crash.
    pub exit: Exit,
    /// Standard output, at most the limit; what was written before a kill is here too.
    pub stdout: Vec<u8>,
    /// It wrote more to standard output than the limit (and was killed for it).
    pub stdout_truncated: bool,
    /// The first part of standard error, at most the limit.
    pub stderr: Vec<u8>,
    /// There was more standard error than is kept.
    pub stderr_truncated: bool,
    /// CPU time of all processes of the run. It is sampled, so that a program may end by itself a
    /// little over its limit: compare it.
    pub cpu: Duration,
    /// Time on the host's clock, from the request to the answer; where that is much longer than on
    /// the cell's own (the engine stalled), the cell's, from start to end of the program.
    pub wall: Duration,
    /// The largest resident set of one process, in bytes: of the program itself, or of any process
    /// that was alive just before a kill. 0 when nothing could be seen, as after
    /// [`Exit::Vanished`] or when the kernel killed everything.
    pub max_rss_bytes: u64,
    /// The kernel killed a process of the run for want of memory. Goes before the exit code: the
    /// process killed may have been a child of one that then exits 0.
    pub oom: bool,
}
