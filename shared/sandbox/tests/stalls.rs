//! An engine that stops answering for a while is never held against a program.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod common;

use std::time::{Duration, Instant};

use common::proxy::Proxy;
use common::{Bed, config, limits, main_py, python, text};
use flotilla_sandbox::{Exit, Isolation, Report, RunLimits, SandboxConfig, SandboxError};
use tokio::time::sleep;

/// Well within its second on the clock.
const PROGRAM: &str = "import time; time.sleep(0.4); print('done')";
const LIMIT: Duration = Duration::from_secs(1);

/// A run of the program while the engine stands still from `from` to `to`; without an end, until
/// the run is over.
async fn run_through_a_stall(
    from: Duration,
    to: Option<Duration>,
) -> (Bed, Proxy, Result<Report, SandboxError>) {
    let proxy = Proxy::open(Proxy::new_path()).await;
    let docker_host = Some(proxy.address());
    let settings = SandboxConfig { docker_host, ..config(Isolation::Namespaces) };
    let mut bed = Bed::with(settings).await;
    let mut cell = bed.cell.take().unwrap();
    cell.load(&main_py(PROGRAM)).await.unwrap();
    let run = python(RunLimits { wall_ms: LIMIT.as_millis() as u64, ..limits() });
    let started = Instant::now();
    if from.is_zero() {
        proxy.hold(true);
    }
    let (report, ()) = tokio::join!(cell.run(&run), async {
        sleep(from).await;
        proxy.hold(true);
        if let Some(to) = to {
            sleep(to.saturating_sub(started.elapsed())).await;
            proxy.hold(false);
        }
    });
    proxy.hold(false);
    cell.finish().await;
    bed.cell = Some(bed.sandbox.cell("tenant").await.unwrap());
    (bed, proxy, report)
}

const A_LITTLE: Duration = Duration::from_millis(150);

#[tokio::test(flavor = "multi_thread")]
async fn a_stall_that_outlasts_all_patience_is_an_error_of_ours() {
    let (bed, proxy, report) = run_through_a_stall(A_LITTLE, None).await;
    let error = report.unwrap_err();
    assert!(matches!(error, SandboxError::EngineUnreachable { .. }), "{error}");
    assert!(error.is_transient());
    bed.close().await;
    proxy.cut().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_that_was_held_back_is_judged_by_the_time_in_the_cell() {
    // Before the host gives up, and while it asks whether the engine lives.
    for seconds in [2, 4] {
        let end = Some(Duration::from_secs(seconds));
        let (bed, proxy, report) = run_through_a_stall(A_LITTLE, end).await;
        let report = report.unwrap();
        assert_eq!((report.exit, text(&report).as_str()), (Exit::Exited(0), "done"));
        assert!(report.wall < LIMIT, "{:?}", report.wall);
        bed.close().await;
        proxy.cut().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_was_asked_to_start_and_to_end_at_once_is_not_judged() {
    let end = Some(Duration::from_secs(2));
    let (bed, proxy, report) = run_through_a_stall(Duration::ZERO, end).await;
    let error = report.unwrap_err();
    assert!(error.is_transient() && error.to_string().contains("of 1000 ms"), "{error}");
    bed.close().await;
    proxy.cut().await;
}
