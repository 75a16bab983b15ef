//! A cell in use.

use std::sync::Arc;
use std::time::{Duration, Instant};

use flotilla_supervisor::frame;
use flotilla_supervisor::protocol::{self, File, Reply, Request, Run, safe_name};
use tokio::time::{sleep_until, timeout_at};

use crate::container::Container;
use crate::pool::{Lease, Pool};
use crate::report::{Exit, Reason, Report};
use crate::{RunLimits, SandboxError};

/// How long after its own limit the cell may tell of it, before the host ends the run.
const SLACK: Duration = Duration::from_millis(250);
/// How long a killed run may take to be reported, before the cell is removed.
const LAST: Duration = Duration::from_secs(2);
/// The most of a submission's files together, or of a run's input, in bytes.
const MOST_IN: usize = 16 << 20;
/// The most that [`RunLimits::stdout_bytes`] may be, in bytes (16 MiB); a run that asks for more is
/// [`SandboxError::Invalid`].
pub const MAX_STDOUT_BYTES: u64 = 16 << 20;
/// The most that [`RunLimits::stderr_bytes`] may be, in bytes (4 MiB); a run that asks for more is
/// [`SandboxError::Invalid`].
pub const MAX_STDERR_BYTES: u64 = 4 << 20;
/// Both travel in one frame, as base64, with a little around them.
const _: () = assert!(
    (MAX_STDOUT_BYTES + MAX_STDERR_BYTES).div_ceil(3) * 4 + 4_096 <= frame::MAX_FRAME as u64
);
/// The longest argument, in bytes; the kernel's own limit counts the NUL after it.
const LONGEST_ARGUMENT: u64 = (128 << 10) - 1;
/// The most of all arguments together, in bytes, a pointer to each included.
const MOST_ARGUMENTS: u64 = 1 << 20;
/// The longest run, in milliseconds.
const LONGEST: u64 = 60 * 60 * 1000;

/// A cell, held by one submission of one tenant. Give it back with [`Cell::finish`]; dropped
/// without that (a cancelled job, a panic), its container is killed and removed.
#[derive(Debug)]
pub struct Cell {
    pool: Arc<Pool>,
    container: Option<Container>,
    runs: u64,
    /// Something happened after which the cell is not used again.
    spent: bool,
    _lease: Lease,
}

impl Cell {
    pub(crate) fn new(pool: Arc<Pool>, container: Container, lease: Lease) -> Self {
        Self { pool, container: Some(container), runs: 0, spent: false, _lease: lease }
    }

    /// Gives the cell the files of a submission, in place of any before. Every run finds fresh
    /// copies of them in its working directory.
    ///
    /// # Errors
    /// [`SandboxError::Invalid`] for names that are not plain or more than 16 MiB together;
    /// otherwise the cell is lost, and another may do.
    pub async fn load(&mut self, files: &[File]) -> Result<(), SandboxError> {
        check_files(files)?;
        let request = Request::Load { files: files.to_vec() };
        let mut container = self.hold()?;
        container.submissions += 1;
        match container.ask(&request, "taking files").await? {
            Reply::Loaded => self.keep(container),
            other => Err(surprise(&other)),
        }
    }

    /// Runs a program to its end. The cell watches the limits; the host's own clock ends what the
    /// cell does not.
    ///
    /// A cell in which the kernel killed for want of memory serves its submission to the end, and
    /// is then removed.
    ///
    /// # Errors
    /// [`SandboxError::Invalid`] for a run that no cell takes. After any other error the cell is
    /// lost and removed; another may do.
    pub async fn run(&mut self, run: &Run) -> Result<Report, SandboxError> {
        check_run(run)?;
        self.runs += 1;
        let mut container = self.hold()?;
        let started = Instant::now();
        match exchange(&mut container, self.runs, run).await? {
            Some(told) => {
                check_told(&told, &run.limits)?;
                self.keep(container)?;
                self.spent |= told.oom_kills > 0 || told.exit == Exit::Vanished;
                Ok(report(told, started.elapsed()))
            }
            None => {
                tracing::warn!(cell = container.name(), "a cell did not end a run; it is removed");
                container.remove().await;
                Ok(overdue(started.elapsed()))
            }
        }
    }

    /// Gives the cell back. It serves the same tenant again, or is removed (before this returns).
    pub async fn finish(mut self) {
        match self.container.take() {
            Some(container) if self.spent => {
                container.remove().await;
                self.pool.refill.notify_one();
            }
            Some(container) => self.pool.give_back(container).await,
            None => self.pool.refill.notify_one(),
        }
    }

    /// Takes the container out for the time of one exchange: a future that is dropped in the middle
    /// of it drops the container with it, and what was not read cannot be taken for the next answer.
    fn hold(&mut self) -> Result<Container, SandboxError> {
        let gone = || SandboxError::CellDied {
            doing: "idle: it was lost in an earlier run",
            last_words: String::new(),
        };
        self.container.take().ok_or_else(gone)
    }

    fn keep(&mut self, container: Container) -> Result<(), SandboxError> {
        self.container = Some(container);
        Ok(())
    }
}

/// The cell's report, or none within the time that it has for it.
async fn exchange(
    container: &mut Container,
    id: u64,
    run: &Run,
) -> Result<Option<protocol::Report>, SandboxError> {
    let request = Request::Run { id, run: run.clone() };
    let end = tokio::time::Instant::now() + Duration::from_millis(run.limits.wall_ms) + SLACK;
    container.link.send(&request).await?;
    tokio::select! {
        reply = container.link.receive("running a program") => return told(reply?, id).map(Some),
        () = sleep_until(end) => {}
    }
    container.link.send(&Request::Kill { id }).await?;
    match timeout_at(end + LAST, container.link.receive("ending a program")).await {
        Ok(reply) => told(reply?, id).map(Some),
        Err(_) => Ok(None),
    }
}

fn told(reply: Reply, expected: u64) -> Result<protocol::Report, SandboxError> {
    match reply {
        Reply::Report { id, report } if id == expected => Ok(report),
        Reply::SetupFailed { id, stage, errno } if id == expected => {
            Err(SandboxError::Setup { stage, errno })
        }
        other => Err(surprise(&other)),
    }
}

fn surprise(reply: &Reply) -> SandboxError {
    let name = match reply {
        Reply::Ready { .. } => "Ready",
        Reply::Unsupported { .. } => "Unsupported",
        Reply::Loaded => "Loaded",
        Reply::Pong => "Pong",
        Reply::Report { .. } => "Report",
        Reply::SetupFailed { .. } => "SetupFailed",
    };
    SandboxError::Protocol(format!("{name} is no answer to what was asked"))
}

fn report(told: protocol::Report, wall: Duration) -> Report {
    let exit = match told.exit {
        // The host asks for a kill only when its clock says so.
        Exit::Killed(Reason::Host) => Exit::Killed(Reason::Wall),
        other => other,
    };
    Report {
        exit,
        stdout: told.stdout,
        stdout_truncated: told.stdout_truncated,
        stderr: told.stderr,
        stderr_truncated: told.stderr_truncated,
        cpu: Duration::from_micros(told.cpu_us),
        wall,
        max_rss_bytes: told.max_rss_bytes,
        oom: told.oom_kills > 0,
    }
}

/// The report of a run that never came to an end of its own.
fn overdue(wall: Duration) -> Report {
    Report {
        exit: Exit::Killed(Reason::Wall),
        stdout: Vec::new(),
        stdout_truncated: false,
        stderr: Vec::new(),
        stderr_truncated: false,
        cpu: Duration::ZERO,
        wall,
        max_rss_bytes: 0,
        oom: false,
    }
}

fn check_files(files: &[File]) -> Result<(), SandboxError> {
    if let Some(file) = files.iter().find(|file| !safe_name(&file.name)) {
        return Err(SandboxError::Invalid(format!("{:?} is not a plain file name", file.name)));
    }
    let total: usize = files.iter().map(|file| file.bytes.len()).sum();
    at_most("the files together", total as u64, MOST_IN as u64)
}

fn check_run(run: &Run) -> Result<(), SandboxError> {
    let absolute = run.argv.first().is_some_and(|program| program.starts_with('/'));
    if !absolute || run.argv.iter().any(|argument| argument.contains('\0')) {
        let argv = run.argv.first();
        return Err(SandboxError::Invalid(format!(
            "the program must be an absolute path, its arguments without NUL bytes: {argv:?}"
        )));
    }
    let RunLimits { cpu_ms, wall_ms, stdout_bytes, stderr_bytes, .. } = run.limits;
    check_sizes(&run.argv)?;
    at_most("the input", run.stdin.len() as u64, MOST_IN as u64)?;
    at_most("the limit of the output", stdout_bytes, MAX_STDOUT_BYTES)?;
    at_most("the limit of the error output", stderr_bytes, MAX_STDERR_BYTES)?;
    at_most("the limit of the time, in ms,", cpu_ms.max(wall_ms), LONGEST)
}

/// The kernel takes no longer argument, and the lot must fit beside the stack.
fn check_sizes(argv: &[String]) -> Result<(), SandboxError> {
    let longest = argv.iter().map(String::len).max().unwrap_or(0) as u64;
    at_most("the longest argument", longest, LONGEST_ARGUMENT)?;
    at_most("the arguments together", argv.iter().map(|a| a.len() as u64 + 9).sum(), MOST_ARGUMENTS)
}

/// The byte limits are the host's, whatever the cell thinks.
fn check_told(told: &protocol::Report, limits: &RunLimits) -> Result<(), SandboxError> {
    let within = told.stdout.len() as u64 <= limits.stdout_bytes
        && told.stderr.len() as u64 <= limits.stderr_bytes;
    let more = || SandboxError::Protocol("a report holds more output than was asked for".into());
    within.then_some(()).ok_or_else(more)
}

fn at_most(what: &str, value: u64, most: u64) -> Result<(), SandboxError> {
    match value <= most {
        true => Ok(()),
        false => Err(SandboxError::Invalid(format!("{what} is {value}, at most {most} are taken"))),
    }
}
