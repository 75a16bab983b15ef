//! Runs a submission against its tests, in a cell of its admin's.

use flotilla_runtime::Failure;
use flotilla_sandbox::{File, Run, RunLimits, Sandbox, SandboxError};

use crate::{
    cases::Case,
    locate::Program,
    names::Submission,
    problem::{Limits, Tests},
    result::TestResult,
    verdict::Verdict,
};

/// Why a submission could not be run to its end.
#[derive(Debug)]
pub enum Stopped {
    /// The sandbox failed: ours, and worth another try.
    Ours(Failure),
    /// It cannot be run as it is, whoever tries; this says why.
    Unrunnable(String),
}

impl From<SandboxError> for Stopped {
    fn from(error: SandboxError) -> Self {
        match error {
            SandboxError::Invalid(why) => Self::Unrunnable(why),
            // An image that is missing or a host that forbids namespaces is no reason to give up
            // on a submission: another worker, or this one mended, can grade it.
            error => Self::Ours(sandbox_failure(error)),
        }
    }
}

/// A sandbox's error as the loop's.
pub fn sandbox_failure(error: SandboxError) -> Failure {
    Failure::transient(error.kind(), error.to_string())
}

/// Runs every test. Expected answers stay on this side.
///
/// # Errors
/// [`Stopped`] says whose fault it was.
pub async fn grade(
    sandbox: &Sandbox,
    submission: &Submission,
    program: &Program,
    tests: &Tests,
) -> Result<Vec<TestResult>, Stopped> {
    let mut cell = sandbox.cell(&submission.problem.admin).await?;
    let name = format!("{}.py", submission.subid);
    cell.load(&[File { name: name.clone(), bytes: program.bytes.clone() }]).await?;
    let mut results = Vec::with_capacity(tests.cases.len());
    for (index, case) in tests.cases.iter().enumerate() {
        let report = cell.run(&run_of(&name, case, tests.limits)).await?;
        let verdict = Verdict::of(&report, &case.expected, tests.limits.cpu);
        metrics::counter!(crate::metrics::TESTS, "verdict" => verdict.name()).increment(1);
        results.push(TestResult::new(index + 1, case, verdict, &report));
    }
    cell.finish().await;
    Ok(results)
}

fn run_of(name: &str, case: &Case, limits: Limits) -> Run {
    let command = ["/usr/bin/python3", name].into_iter().chain(case.arguments());
    Run {
        argv: command.map(str::to_owned).collect(),
        stdin: Vec::new(),
        limits: RunLimits {
            cpu_ms: limits.cpu.as_millis() as u64,
            wall_ms: limits.wall.as_millis() as u64,
            stdout_bytes: limits.output,
            ..RunLimits::default()
        },
    }
}
