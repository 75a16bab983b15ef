//! One run of one cell: the question, the answer, and whose fault it is when none comes in time.

use std::time::{Duration, Instant};

use flotilla_supervisor::protocol::{self, Reply, Request, Run};
use tokio::time::{sleep, timeout};

use crate::container::Container;
use crate::engine::Engine;
use crate::report::{Exit, Reason, Report};
use crate::{RunLimits, SandboxError};

/// How long after its own limit the cell may tell of it, before the host ends the run. Also how
/// much longer than in the cell a run may take on the host's clock to be believed.
const SLACK: Duration = Duration::from_millis(250);
/// How long a killed run may take to be reported, before the engine is asked whether it lives.
const LAST: Duration = Duration::from_secs(2);
/// An engine that takes longer than this for a ping may as well have held an answer back.
const PROMPT: Duration = Duration::from_secs(1);
/// For an answer that an engine held back until it was asked whether it lives.
const HELD_BACK: Duration = Duration::from_secs(1);

/// What came of a run.
pub(crate) enum Outcome {
    /// The cell told how it went, and whether it shall serve another submission.
    Told(Report, Fit),
    /// The engine answers and the cell does not. The run counts as ended by the clock.
    Stuck(Report),
}

/// Whether a cell is as good as before its last run.
pub(crate) struct Fit(pub(crate) bool);

/// Has a cell run a program.
///
/// # Errors
/// Any after which the program is not judged; the cell may or may not be alive.
pub(crate) async fn exchange(
    engine: &Engine,
    container: &mut Container,
    id: u64,
    run: &Run,
) -> Result<Outcome, SandboxError> {
    let started = Instant::now();
    match answer(engine, container, id, run).await? {
        Some(reply) => {
            let told = told(reply, id)?;
            check_told(&told, &run.limits)?;
            let fit = Fit(told.oom_kills == 0 && told.exit != Exit::Vanished);
            Ok(Outcome::Told(judged(told, &run.limits, started.elapsed())?, fit))
        }
        None => Ok(Outcome::Stuck(overdue(started.elapsed()))),
    }
}

/// The cell's answer, or none from a cell that is stuck. A run that is not heard of is blamed on
/// the program only while the engine, through which everything goes, is seen to work.
async fn answer(
    engine: &Engine,
    container: &mut Container,
    id: u64,
    run: &Run,
) -> Result<Option<Reply>, SandboxError> {
    container.link.send(&Request::Run { id, run: run.clone() }).await?;
    let limit = Duration::from_millis(run.limits.wall_ms) + SLACK;
    tokio::select! {
        biased;
        reply = container.link.receive("running a program") => return reply.map(Some),
        () = sleep(limit) => {}
    }
    container.link.send(&Request::Kill { id }).await?;
    if let Ok(reply) = timeout(LAST, container.link.receive("ending a program")).await {
        return reply.map(Some);
    }
    let works = works(engine).await;
    match timeout(HELD_BACK, container.link.receive("ending a program")).await {
        Ok(reply) => reply.map(Some),
        Err(_) => works.map(|()| None),
    }
}

/// Whether the engine answers, and promptly.
async fn works(engine: &Engine) -> Result<(), SandboxError> {
    let asked = Instant::now();
    engine.ping().await?;
    match asked.elapsed() {
        prompt if prompt <= PROMPT => Ok(()),
        late => Err(stalled(format!("it took {} ms for a ping", late.as_millis()))),
    }
}

fn stalled(why: String) -> SandboxError {
    SandboxError::EngineUnreachable { doing: "waiting for the end of a run", why }
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

/// A reply that is none to what was asked.
pub(crate) fn surprise(reply: &Reply) -> SandboxError {
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

/// The byte limits are the host's, whatever the cell thinks.
fn check_told(told: &protocol::Report, limits: &RunLimits) -> Result<(), SandboxError> {
    let within = told.stdout.len() as u64 <= limits.stdout_bytes
        && told.stderr.len() as u64 <= limits.stderr_bytes;
    let more = || SandboxError::Protocol("a report holds more output than was asked for".into());
    within.then_some(()).ok_or_else(more)
}

/// The cell's report as the host sees it. The cell's clock is the supervisor's, which no program
/// reaches; where the host's shows much more, the line between them was slow.
fn judged(
    told: protocol::Report,
    limits: &RunLimits,
    host: Duration,
) -> Result<Report, SandboxError> {
    let cell = Duration::from_micros(told.wall_us);
    let wall = if host > cell + SLACK { cell } else { host };
    Ok(Report {
        exit: exit(told.exit, cell, limits)?,
        stdout: told.stdout,
        stdout_truncated: told.stdout_truncated,
        stderr: told.stderr,
        stderr_truncated: told.stderr_truncated,
        cpu: Duration::from_micros(told.cpu_us),
        wall,
        max_rss_bytes: told.max_rss_bytes,
        oom: told.oom_kills > 0,
    })
}

/// The host asks for a kill only when its clock says so. A program whose time was not up in the
/// cell got the request to start too late, and is not to blame.
fn exit(told: Exit, cell: Duration, limits: &RunLimits) -> Result<Exit, SandboxError> {
    match told {
        Exit::Killed(Reason::Host) if cell < Duration::from_millis(limits.wall_ms) => {
            let (ran, limit) = (cell.as_millis(), limits.wall_ms);
            Err(stalled(format!("the program had run for {ran} of {limit} ms when it was ended")))
        }
        Exit::Killed(Reason::Host) => Ok(Exit::Killed(Reason::Wall)),
        other => Ok(other),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn told(exit: Exit, wall_ms: u64) -> protocol::Report {
        protocol::Report {
            exit,
            stdout: Vec::new(),
            stdout_truncated: false,
            stderr: Vec::new(),
            stderr_truncated: false,
            cpu_us: 0,
            wall_us: wall_ms * 1_000,
            max_rss_bytes: 0,
            oom_kills: 0,
        }
    }

    fn judge(exit: Exit, cell_ms: u64, host_ms: u64) -> Result<Report, SandboxError> {
        let limits = RunLimits { wall_ms: 1_000, ..RunLimits::default() };
        judged(told(exit, cell_ms), &limits, Duration::from_millis(host_ms))
    }

    #[test]
    fn a_program_ended_by_the_host_before_its_time_was_up_is_not_judged() {
        let early = judge(Exit::Killed(Reason::Host), 999, 3_000).unwrap_err();
        assert!(early.is_transient(), "{early}");
        let late = judge(Exit::Killed(Reason::Host), 1_000, 3_000).unwrap();
        assert_eq!(late.exit, Exit::Killed(Reason::Wall));
    }

    #[test]
    fn the_hosts_clock_counts_while_it_agrees_with_the_cells() {
        let wall = |host_ms| judge(Exit::Exited(0), 800, host_ms).unwrap().wall.as_millis();
        assert_eq!((wall(810), wall(1_050), wall(7_000)), (810, 1_050, 800));
    }
}
