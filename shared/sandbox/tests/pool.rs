//! The life of cells: whose they are, when they end, and what happens when something else does.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod common;

use std::process::Stdio;
use std::time::{Duration, Instant};

use common::proxy::Proxy;
use common::{Bed, assert_none_left, config, containers, limits, main_py, python, text};
use flotilla_sandbox::{
    Exit, Isolation, MAX_STDERR_BYTES, MAX_STDOUT_BYTES, Reason, Run, RunLimits, Sandbox,
    SandboxConfig, SandboxError,
};
use tokio::io::{AsyncBufReadExt as _, BufReader};

const NAMESPACES: Isolation = Isolation::Namespaces;

async fn wait_until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !holds().await {
        assert!(Instant::now() < until, "still not: {what}");
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

fn sleeper() -> RunLimits {
    RunLimits { wall_ms: 60_000, ..limits() }
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_never_share_a_cell_and_one_tenant_gets_its_own_again() {
    let mut bed = Bed::new(NAMESPACES).await;
    bed.judge("print(1)").await;
    bed.cell.take().unwrap().finish().await;
    let first = containers(&bed.config.worker_id).await;
    let again = bed.sandbox.cell("tenant").await.unwrap();
    assert_eq!(containers(&bed.config.worker_id).await, first);
    again.finish().await;
    let other = bed.sandbox.cell("other").await.unwrap();
    assert_eq!(containers(&bed.config.worker_id).await.len(), 2);
    other.finish().await;
    bed.abandon().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn there_are_never_more_cells_than_allowed_and_whoever_waits_gets_one() {
    let bed = Bed::with(SandboxConfig { max_cells: 1, warm: 1, ..config(NAMESPACES) }).await;
    let worker = bed.config.worker_id.clone();
    let (sandbox, mut bed) = (bed.sandbox.clone(), bed);
    let waiting = tokio::spawn(async move { sandbox.cell("other").await.unwrap() });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!waiting.is_finished());
    assert_eq!(containers(&worker).await.len(), 1);
    bed.cell.take().unwrap().finish().await;
    let other = waiting.await.unwrap();
    assert_eq!(containers(&worker).await.len(), 1, "the idle cell made room");
    other.finish().await;
    bed.abandon().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cells_are_kept_warm_and_one_that_was_taken_is_replaced() {
    let bed = Bed::with(SandboxConfig { max_cells: 3, warm: 1, ..config(NAMESPACES) }).await;
    let worker = bed.config.worker_id.clone();
    wait_until("a second cell is warm", async || containers(&worker).await.len() == 2).await;
    bed.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cell_that_is_dropped_in_the_middle_of_a_run_is_removed() {
    let mut bed = Bed::new(NAMESPACES).await;
    let mut cell = bed.cell.take().unwrap();
    let job = tokio::spawn(async move {
        cell.load(&main_py("import time; time.sleep(1e6)")).await.unwrap();
        cell.run(&python(sleeper())).await
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(containers(&bed.config.worker_id).await.len(), 1);
    job.abort();
    assert_none_left(&bed.config.worker_id).await;
    bed.cell = Some(bed.sandbox.cell("tenant").await.unwrap());
    bed.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_given_up_takes_its_cell_along() {
    let mut bed = Bed::new(NAMESPACES).await;
    let cell = bed.cell.as_mut().unwrap();
    cell.load(&main_py("import time; time.sleep(1e6)")).await.unwrap();
    let run = python(sleeper());
    let given_up = tokio::time::timeout(Duration::from_millis(200), cell.run(&run)).await;
    assert!(given_up.is_err());
    let next = cell.run(&python(limits())).await.unwrap_err();
    assert!(matches!(next, SandboxError::CellDied { .. }) && next.is_transient());
    assert_none_left(&bed.config.worker_id).await;
    bed.abandon().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cell_is_retired_after_an_out_of_memory_kill_and_after_its_submissions() {
    let settings = SandboxConfig { max_submissions_per_cell: 3, ..config(NAMESPACES) };
    let mut bed = Bed::with(settings).await;
    bed.judge("print(1)").await;
    bed.cell.take().unwrap().finish().await;
    assert_eq!(containers(&bed.config.worker_id).await.len(), 1, "one submission is not too many");
    bed.cell = Some(bed.sandbox.cell("tenant").await.unwrap());
    assert!(bed.judge("b = bytearray(1 << 30)").await.oom);
    bed.cell.take().unwrap().finish().await;
    assert_none_left(&bed.config.worker_id).await;
    bed.cell = Some(bed.sandbox.cell("tenant").await.unwrap());
    for _ in 0..3 {
        bed.judge("print(1)").await;
    }
    bed.cell.take().unwrap().finish().await;
    assert_none_left(&bed.config.worker_id).await;
    bed.abandon().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_container_mode_a_cell_serves_one_submission() {
    let mut bed = Bed::new(Isolation::Container).await;
    bed.judge("print(1)").await;
    bed.cell.take().unwrap().finish().await;
    assert_none_left(&bed.config.worker_id).await;
    bed.abandon().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cell_killed_from_outside_is_an_error_of_ours_and_another_works() {
    let mut bed = Bed::new(NAMESPACES).await;
    let id = containers(&bed.config.worker_id).await.remove(0);
    let mut cell = bed.cell.take().unwrap();
    cell.load(&main_py("import time; time.sleep(1e6)")).await.unwrap();
    let run = python(sleeper());
    let (error, _) = tokio::join!(cell.run(&run), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let kill = tokio::process::Command::new("docker").args(["kill", &id]).output();
        assert!(kill.await.unwrap().status.success());
    });
    let error = error.unwrap_err();
    assert!(matches!(error, SandboxError::CellDied { .. }), "{error}");
    cell.finish().await;
    bed.cell = Some(bed.sandbox.cell("tenant").await.unwrap());
    bed.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_cell_takes_is_refused_before_it_is_sent() {
    let mut bed = Bed::new(NAMESPACES).await;
    let cell = bed.cell.as_mut().unwrap();
    let mut files = main_py("print(1)");
    for name in ["../main.py", "a/b", "new\nline", ""] {
        files[0].name = name.into();
        let error = cell.load(&files).await.unwrap_err();
        assert!(matches!(error, SandboxError::Invalid(_)) && !error.is_transient(), "{error}");
    }
    for (stdout, stderr) in [(MAX_STDOUT_BYTES + 1, 0), (0, MAX_STDERR_BYTES + 1)] {
        let much = RunLimits { stdout_bytes: stdout, stderr_bytes: stderr, ..limits() };
        assert!(matches!(cell.run(&python(much)).await.unwrap_err(), SandboxError::Invalid(_)));
    }
    let mut run = python(limits());
    for argv in [vec![], vec!["python3".into()], vec!["/bin/echo".into(), "a\0b".into()]] {
        run.argv = argv;
        assert!(matches!(cell.run(&run).await.unwrap_err(), SandboxError::Invalid(_)));
    }
    run.argv = vec!["/bin/echo".into(), "a".repeat(1 << 17)];
    assert!(matches!(cell.run(&run).await.unwrap_err(), SandboxError::Invalid(_)));
    run.argv[1].pop();
    assert_eq!(cell.run(&run).await.unwrap().stdout.len(), 1 << 17);
    bed.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_is_not_there_is_an_error_of_setup() {
    let mut bed = Bed::new(NAMESPACES).await;
    let mut run = python(limits());
    run.argv = vec!["/nowhere/python".into()];
    let error = bed.cell.as_mut().unwrap().run(&run).await.unwrap_err();
    assert!(
        matches!(&error, SandboxError::Setup { stage, errno: 2 } if stage == "execve"),
        "{error}"
    );
    bed.abandon().await;
}

#[tokio::test]
async fn a_missing_image_is_said_with_its_name() {
    let missing = SandboxConfig { image: "flotilla-no-such-image:1".into(), ..config(NAMESPACES) };
    let error = Sandbox::connect(missing).await.unwrap_err();
    assert!(matches!(error, SandboxError::ImageMissing { .. }) && !error.is_transient());
    assert!(error.to_string().contains("flotilla-no-such-image:1"));
}

#[tokio::test]
async fn an_engine_that_is_not_there_is_a_transient_error() {
    let docker_host = Some("unix:///nonexistent/docker.sock".into());
    let error = Sandbox::connect(SandboxConfig { docker_host, ..config(NAMESPACES) }).await;
    let error = error.unwrap_err();
    assert!(matches!(error, SandboxError::EngineUnreachable { .. }), "{error}");
    assert!(error.is_transient());
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_engine_comes_back_everything_works_again() {
    let proxy = Proxy::open(Proxy::new_path()).await;
    let docker_host = Some(proxy.address());
    let mut bed = Bed::with(SandboxConfig { docker_host, ..config(NAMESPACES) }).await;
    bed.judge("print(1)").await;
    bed.cell.take().unwrap().finish().await;

    let path = proxy.cut().await;
    let gone = bed.sandbox.check().await.unwrap_err();
    assert!(matches!(gone, SandboxError::EngineUnreachable { .. }));
    let error = bed.sandbox.cell("tenant").await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    // The cell noticed that nobody is there, and is gone by itself.
    assert_none_left(&bed.config.worker_id).await;

    let proxy = Proxy::open(path).await;
    bed.sandbox.check().await.unwrap();
    bed.cell = Some(bed.sandbox.cell("tenant").await.unwrap());
    bed.close().await;
    proxy.cut().await;
}

/// Not a test: what the next ones start as another process. Holds a cell in the middle of a run.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "started by other tests, as a process of its own"]
async fn holds_a_cell() {
    let Ok(worker_id) = std::env::var("HELD_WORKER_ID") else {
        return;
    };
    let sandbox =
        Sandbox::connect(SandboxConfig { worker_id, ..config(NAMESPACES) }).await.unwrap();
    let mut cell = sandbox.cell("tenant").await.unwrap();
    cell.load(&main_py("while 1: pass")).await.unwrap();
    println!("holding");
    let limits = RunLimits { cpu_ms: 60_000, ..sleeper() };
    let report = cell.run(&python(limits)).await.unwrap();
    panic!("nobody killed this: {:?}", report.exit);
}

async fn start_holder(worker_id: &str) -> tokio::process::Child {
    let mut holder = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "holds_a_cell", "--ignored", "--nocapture"])
        .env("HELD_WORKER_ID", worker_id)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(holder.stdout.take().unwrap()).lines();
    while let Some(line) = lines.next_line().await.unwrap() {
        if line.contains("holding") {
            return holder;
        }
    }
    panic!("the other process ended early");
}

#[tokio::test(flavor = "multi_thread")]
async fn when_a_worker_is_killed_its_cells_vanish_by_themselves() {
    let worker_id = format!("test-{}", uuid::Uuid::new_v4());
    let mut holder = start_holder(&worker_id).await;
    assert_eq!(containers(&worker_id).await.len(), 1);
    holder.kill().await.unwrap();
    assert_none_left(&worker_id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn orphans_of_dead_workers_are_removed_at_connect_and_live_ones_left_alone() {
    let (dead, alive) = (Bed::new(NAMESPACES).await, Bed::new(NAMESPACES).await);
    // A container as a worker leaves it that dies between creating and attaching.
    let orphan = format!("test-{}", uuid::Uuid::new_v4());
    let created = tokio::process::Command::new("docker")
        .args(["create", "--label", &format!("flotilla.worker={orphan}")])
        .args(["--label", "flotilla.owner=another-boot pid:[1] 1 1", &common::image()])
        .output();
    // From here on it may be gone at any time: whoever connects on this machine removes it.
    assert!(created.await.unwrap().status.success());
    dead.close().await;
    let reaping = Bed::new(NAMESPACES).await;
    assert_none_left(&orphan).await;
    assert_eq!(containers(&alive.config.worker_id).await.len(), 1);
    reaping.close().await;
    alive.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_removes_cells_in_use_and_makes_no_more() {
    let mut bed = Bed::new(NAMESPACES).await;
    bed.sandbox.shutdown().await;
    assert_none_left(&bed.config.worker_id).await;
    assert!(matches!(bed.sandbox.cell("tenant").await, Err(SandboxError::ShutDown)));
    drop(bed.cell.take());
    bed.abandon().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_supervisor_that_does_not_end_a_run_is_ended_by_the_host_and_the_next_run_works() {
    let mut bed = Bed::new(NAMESPACES).await;
    let id = containers(&bed.config.worker_id).await.remove(0);
    let cell = bed.cell.as_mut().unwrap();
    cell.load(&main_py("import time; time.sleep(float(input())); print('done')")).await.unwrap();
    let run = |input: &[u8]| Run {
        stdin: input.to_vec(),
        ..python(RunLimits { wall_ms: 500, ..limits() })
    };
    // A paused container stands for a supervisor that hangs.
    let long = run(b"1e6");
    let (report, _) = tokio::join!(cell.run(&long), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let pause = tokio::process::Command::new("docker").args(["pause", &id]).output();
        assert!(pause.await.unwrap().status.success());
    });
    let report = report.unwrap();
    assert_eq!(report.exit, Exit::Killed(Reason::Wall));
    assert!(report.wall < Duration::from_secs(6), "{:?}", report.wall);
    assert_eq!(text(&report), "");
    assert_none_left(&bed.config.worker_id).await;
    // The same submission goes on, with its files, in another container.
    let next = cell.run(&run(b"0")).await.unwrap();
    assert_eq!((next.exit, text(&next).as_str()), (Exit::Exited(0), "done"));
    bed.close().await;
}
