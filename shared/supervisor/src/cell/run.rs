//! Supervises one run: moves its bytes, counts what it uses, and ends it.

use std::time::{Duration, Instant};

use flotilla_supervisor::frame::FrameError;
use flotilla_supervisor::protocol::{
    Exit, File, Limits, Reason, Reply, Report, Request, Run, STDERR_FLOOD,
};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use super::capture::{Capture, Feed};
use super::cgroup::Cgroup;
use super::filter::Filter;
use super::host::Host;
use super::spawn::{Spawned, Status, spawn};
use super::surroundings::Owner;
use super::{Failed, Isolation, memory, wipe};

/// How often CPU time is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// What stays from run to run.
pub(super) struct Cell {
    pub(super) isolation: Isolation,
    pub(super) cgroup: Cgroup,
    pub(super) files: Vec<File>,
    filter: Filter,
    owner: Owner,
}

/// The answer to one run: a report, or why it did not start. The outer error of the functions below
/// is the host's fault.
pub(super) type Answer = Result<Report, Failed>;

impl Cell {
    /// Opens the counters and compiles the filter.
    pub(super) fn new(isolation: Isolation) -> Result<Self, Failed> {
        let filter = Filter::compile();
        let (cgroup, owner) = (Cgroup::open()?, Owner::current());
        Ok(Self { isolation, cgroup, files: Vec::new(), filter, owner })
    }

    /// Runs a program to its end, whatever that is.
    pub(super) fn run(&self, host: &mut Host, id: u64, run: &Run) -> Result<Answer, FrameError> {
        let before = (self.cgroup.cpu_us(), self.cgroup.oom_kills());
        let started = Instant::now();
        let spawned = spawn(self.isolation, self.owner, &self.filter, &self.files, run);
        let mut watch = match spawned {
            Ok(spawned) => Watch::new(spawned, id, run, started),
            Err(failed) => return Ok(Err(failed)),
        };
        while watch.goes_on() {
            watch.step(host, &self.cgroup, before.0)?;
        }
        watch.measure();
        end(self.isolation, watch.init);
        let wall_us = micros(started.elapsed());
        let used = (self.cgroup.cpu_us() - before.0, self.cgroup.oom_kills() - before.1);
        let answer = watch.finish(used.0, wall_us, used.1);
        Ok(wipe::after_run(self.isolation).and(answer))
    }
}

/// Kills what is left of a run, and comes back when there is nothing.
fn end(isolation: Isolation, init: Pid) {
    match isolation {
        Isolation::Namespaces => {
            // It may have exited by itself; its pid is ours until we have waited for it.
            let _ = kill(init, Signal::SIGKILL);
            while waitpid(init, None) == Err(Errno::EINTR) {}
        }
        Isolation::Container => {
            while kill(Pid::from_raw(-1), Signal::SIGKILL) != Err(Errno::ESRCH) {
                let _ = waitpid(None, None);
            }
        }
    }
}

/// A run while it lasts.
struct Watch<'a> {
    id: u64,
    limits: &'a Limits,
    started: Instant,
    looked: Instant,
    init: Pid,
    status: Capture,
    stdin: Feed<'a>,
    stdout: Capture,
    stderr: Capture,
    killed: Option<Reason>,
    /// The largest resident set that was seen, in bytes.
    largest: u64,
}

impl<'a> Watch<'a> {
    fn new(spawned: Spawned, id: u64, run: &'a Run, started: Instant) -> Self {
        Self {
            id,
            limits: &run.limits,
            started,
            looked: started,
            init: spawned.init,
            status: Capture::new(spawned.status, 4096),
            stdin: Feed::new(spawned.stdin, &run.stdin),
            stdout: Capture::new(spawned.stdout, run.limits.stdout_bytes),
            stderr: Capture::new(spawned.stderr, run.limits.stderr_bytes),
            killed: None,
            largest: 0,
        }
    }

    /// The first process of the run holds the status pipe until it exits.
    fn goes_on(&self) -> bool {
        self.killed.is_none() && self.status.fd().is_some()
    }

    /// Waits a little for something to happen, and deals with it.
    fn step(
        &mut self,
        host: &mut Host,
        cgroup: &Cgroup,
        cpu_before: u64,
    ) -> Result<(), FrameError> {
        if self.wait() {
            host.read();
        }
        self.hear(host)?;
        self.stdin.write();
        self.stdout.read();
        self.stderr.read();
        self.status.read();
        self.look(|| cgroup.cpu_us() - cpu_before);
        Ok(())
    }

    /// Whether the host said something. The others are simply tried: they do not block.
    fn wait(&self) -> bool {
        let readers = [Some(Host::fd()), self.status.fd(), self.stdout.fd(), self.stderr.fd()];
        let readable = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let mut fds: Vec<_> = readers.into_iter().flatten().map(readable).collect();
        fds.extend(self.stdin.fd().map(|fd| PollFd::new(fd, PollFlags::POLLOUT)));
        let timeout = PollTimeout::try_from(LOOK).unwrap_or(PollTimeout::ZERO);
        poll(&mut fds, timeout).is_ok_and(|n| n > 0) && fds[0].any().unwrap_or(true)
    }

    fn hear(&mut self, host: &mut Host) -> Result<(), FrameError> {
        while let Some(request) = host.pending()? {
            match request {
                Request::Kill { id } if id == self.id => self.killed = Some(Reason::Host),
                Request::Kill { .. } => {}
                Request::Ping => host.send(&Reply::Pong)?,
                Request::Load { .. } | Request::Run { .. } => {
                    return Err(FrameError::Json("a request in the middle of a run".into()));
                }
            }
        }
        Ok(())
    }

    /// Compares what is used with what may be.
    fn look(&mut self, cpu_us: impl Fn() -> u64) {
        let now = Instant::now();
        if self.stdout.is_over(1) || self.stderr.is_over(STDERR_FLOOD) {
            self.killed.get_or_insert(Reason::Output);
        }
        if now - self.started >= Duration::from_millis(self.limits.wall_ms) {
            self.killed.get_or_insert(Reason::Wall);
        }
        if now - self.looked >= LOOK {
            self.looked = now;
            if cpu_us() >= self.limits.cpu_ms.saturating_mul(1_000) {
                self.killed.get_or_insert(Reason::Cpu);
            }
        }
    }

    /// Looks at the memory of a run that is about to be killed.
    fn measure(&mut self) {
        if self.killed.is_some() {
            self.largest = memory::largest(self.init);
        }
    }

    /// The report, when every process of the run is dead.
    fn finish(mut self, cpu_us: u64, wall_us: u64, oom_kills: u64) -> Answer {
        for stream in [&mut self.status, &mut self.stdout, &mut self.stderr] {
            stream.drain();
        }
        let over = self.stdout.is_over(1).then_some(Reason::Output);
        let (exit, max_rss_bytes) = told(&self.status.finish().0)?;
        let max_rss_bytes = max_rss_bytes.max(self.largest);
        let exit = match (self.killed.or(over), exit) {
            (Some(reason), _) => Exit::Killed(reason),
            (None, exit) => cpu_limit(exit, cpu_us, self.limits),
        };
        let (stdout, stdout_truncated) = self.stdout.finish();
        let (stderr, stderr_truncated) = self.stderr.finish();
        let outputs = (stdout, stdout_truncated, stderr, stderr_truncated);
        Ok(report(exit, outputs, cpu_us, wall_us, max_rss_bytes, oom_kills))
    }
}

fn report(
    exit: Exit,
    (stdout, stdout_truncated, stderr, stderr_truncated): (Vec<u8>, bool, Vec<u8>, bool),
    cpu_us: u64,
    wall_us: u64,
    max_rss_bytes: u64,
    oom_kills: u64,
) -> Report {
    Report {
        exit,
        stdout,
        stdout_truncated,
        stderr,
        stderr_truncated,
        cpu_us,
        wall_us,
        max_rss_bytes,
        oom_kills,
    }
}

/// What the run's first process said: the end of the program and its resident set.
fn told(status: &[u8]) -> Result<(Exit, u64), Failed> {
    let line = status.split(|byte| *byte == b'\n').next().unwrap_or_default();
    match serde_json::from_slice(line) {
        Ok(Status::Ended { status, max_rss_bytes }) => Ok((exit(status), max_rss_bytes)),
        Ok(Status::Failed(failed)) => Err(failed),
        Err(_) => Ok((Exit::Vanished, 0)),
    }
}

fn exit(status: i32) -> Exit {
    if libc::WIFSIGNALED(status) {
        Exit::Signaled(libc::WTERMSIG(status))
    } else {
        Exit::Exited(libc::WEXITSTATUS(status))
    }
}

/// The kernel's own CPU limit ends a program by a signal; that is the same as being killed for it.
fn cpu_limit(exit: Exit, cpu_us: u64, limits: &Limits) -> Exit {
    let used_up = cpu_us >= limits.cpu_ms.saturating_mul(1_000);
    match exit {
        Exit::Signaled(libc::SIGXCPU | libc::SIGKILL) if used_up => Exit::Killed(Reason::Cpu),
        other => other,
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_of_the_status_counts() {
        let failed = r#"{"Failed":{"stage":"execve","errno":2}}"#;
        let ended = r#"{"Ended":{"status":256,"max_rss_bytes":7}}"#;
        let both = format!("{failed}\n{ended}\n");
        assert_eq!(told(both.as_bytes()).unwrap_err().errno, 2);
        assert_eq!(told(ended.as_bytes()), Ok((Exit::Exited(1), 7)));
        assert_eq!(told(b""), Ok((Exit::Vanished, 0)));
    }

    #[test]
    fn a_kill_signal_is_the_cpu_limit_only_when_the_time_is_used_up() {
        let limits = Limits { cpu_ms: 1, ..Limits::default() };
        let killed = Exit::Signaled(libc::SIGKILL);
        assert_eq!(cpu_limit(killed, 999, &limits), killed);
        assert_eq!(cpu_limit(killed, 1_000, &limits), Exit::Killed(Reason::Cpu));
        assert_eq!(cpu_limit(Exit::Exited(0), 9_999, &limits), Exit::Exited(0));
    }
}
