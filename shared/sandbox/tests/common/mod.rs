//! A sandbox of a test's own, which fails the test if anything is left of it.
#![allow(dead_code, reason = "not every test binary uses all of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

pub(crate) mod proxy;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bollard::Docker;
use bollard::query_parameters::ListContainersOptionsBuilder;
use flotilla_sandbox::{
    Cell, Exit, File, Isolation, Report, Run, RunLimits, Sandbox, SandboxConfig,
};

/// The image under test; another one by FLOTILLA_SANDBOX_IMAGE.
pub(crate) fn image() -> String {
    std::env::var("FLOTILLA_SANDBOX_IMAGE").unwrap_or("flotilla-python3:latest".into())
}

pub(crate) fn config(isolation: Isolation) -> SandboxConfig {
    let worker_id = format!("test-{}", uuid::Uuid::new_v4());
    let image = image();
    SandboxConfig { image, isolation, worker_id, warm: 0, max_cells: 2, ..Default::default() }
}

/// Limits that a test does not have to wait long for.
pub(crate) fn limits() -> RunLimits {
    RunLimits { cpu_ms: 1_000, wall_ms: 10_000, ..RunLimits::default() }
}

pub(crate) fn python(limits: RunLimits) -> Run {
    let argv = ["/usr/bin/python3", "-I", "main.py"].map(String::from).to_vec();
    Run { argv, stdin: Vec::new(), limits }
}

pub(crate) fn main_py(source: &str) -> Vec<File> {
    vec![File { name: "main.py".into(), bytes: source.as_bytes().to_vec() }]
}

/// One sandbox, one cell.
pub(crate) struct Bed {
    pub(crate) sandbox: Sandbox,
    pub(crate) config: SandboxConfig,
    pub(crate) cell: Option<Cell>,
}

impl Bed {
    pub(crate) async fn new(isolation: Isolation) -> Self {
        Self::with(config(isolation)).await
    }

    pub(crate) async fn with(config: SandboxConfig) -> Self {
        let _again = tracing_subscriber::fmt()
            .with_env_filter("flotilla_sandbox=info")
            .with_test_writer()
            .try_init();
        let sandbox = Sandbox::connect(config.clone()).await.unwrap();
        let cell = Some(sandbox.cell("tenant").await.unwrap());
        Self { sandbox, config, cell }
    }

    /// Runs a program under the limits of tests.
    pub(crate) async fn judge(&mut self, source: &str) -> Report {
        self.judge_within(source, limits()).await
    }

    pub(crate) async fn judge_with_input(&mut self, source: &str, stdin: &[u8]) -> Report {
        self.submit(source, Run { stdin: stdin.to_vec(), ..python(limits()) }).await
    }

    pub(crate) async fn judge_within(&mut self, source: &str, limits: RunLimits) -> Report {
        self.submit(source, python(limits)).await
    }

    async fn submit(&mut self, source: &str, run: Run) -> Report {
        let cell = self.cell.as_mut().unwrap();
        cell.load(&main_py(source)).await.unwrap();
        let report = cell.run(&run).await.unwrap();
        let tail =
            String::from_utf8_lossy(&report.stderr[report.stderr.len().saturating_sub(300)..]);
        println!(
            "{:?} cpu {:?} wall {:?} rss {} oom {} stderr {tail}",
            report.exit, report.cpu, report.wall, report.max_rss_bytes, report.oom
        );
        report
    }

    /// Every hostile program is followed by a harmless one, which must not notice.
    pub(crate) async fn close(mut self) {
        let hello = self.judge("print('hello')").await;
        assert_eq!((hello.exit, hello.stdout.as_slice()), (Exit::Exited(0), &b"hello\n"[..]));
        // Far more than it takes, far less than any limit; the machine may be busy with other tests.
        assert!(!hello.oom && hello.wall < Duration::from_secs(2), "{:?}", hello.wall);
        self.abandon().await;
    }

    /// Ends without a harmless program.
    pub(crate) async fn abandon(mut self) {
        if let Some(cell) = self.cell.take() {
            cell.finish().await;
        }
        self.sandbox.shutdown().await;
        assert_none_left(&self.config.worker_id).await;
    }
}

/// What a program printed, without the white space around it.
pub(crate) fn text(report: &Report) -> String {
    String::from_utf8_lossy(&report.stdout).trim().to_owned()
}

/// The containers of a worker, running or not.
pub(crate) async fn containers(worker_id: &str) -> Vec<String> {
    let docker = Docker::connect_with_defaults().unwrap().negotiate_version().await.unwrap();
    let label = format!("flotilla.worker={worker_id}");
    let filters = HashMap::from([("label", vec![label])]);
    let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
    let found = docker.list_containers(Some(options)).await.unwrap();
    found.into_iter().filter_map(|container| container.id).collect()
}

/// Waits for the engine to have finished removing.
pub(crate) async fn assert_none_left(worker_id: &str) {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let left = containers(worker_id).await;
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < until, "containers of {worker_id} are left: {left:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
