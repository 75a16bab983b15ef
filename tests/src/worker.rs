//! Real worker processes.

use std::{
    fs::File,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::wait::{eventually, http_get};

/// A binary of this build, beside the tests' own.
///
/// # Panics
/// When it was not built: `cargo build --workspace --bins` does.
pub fn binary(name: &str) -> PathBuf {
    let path = outputs().join(name);
    assert!(path.exists(), "{} is missing: run `make test`", path.display());
    path
}

/// The folder of this build's outputs.
pub(crate) fn outputs() -> PathBuf {
    let tests = std::env::current_exe().expect("the path of this test");
    let folder = tests.parent().and_then(Path::parent);
    folder.expect("target/<profile>/deps").to_owned()
}

/// A worker to be started.
#[derive(Debug)]
pub struct WorkerBuilder {
    command: Command,
    id: String,
    addr: String,
    log: PathBuf,
}

impl WorkerBuilder {
    pub(crate) fn new(name: &str, id: String, log: PathBuf) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
        let addr = port.expect("a free port").to_string();
        let mut command = Command::new(binary(name));
        command
            .env("FLOTILLA_WORKER_ID", &id)
            .env("FLOTILLA_HTTP_ADDR", &addr)
            .env("FLOTILLA_LOG_FORMAT", "text")
            .env("FLOTILLA_LOG", "info,flotilla_runtime=debug,grading_worker=debug,compile_worker=debug,schedule_executor=debug,anomaly_worker=debug,gateway=debug")
            .stdin(Stdio::null());
        Self { command, id, addr, log }
    }

    /// Where its pages will be, `127.0.0.1:PORT`.
    pub(crate) fn addr(&self) -> String {
        self.addr.clone()
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Starts it.
    pub fn start(mut self) -> Worker {
        let log = File::options().create(true).append(true).open(&self.log).expect("a log file");
        self.command.stdout(log.try_clone().expect("a file")).stderr(log);
        let child = self.command.spawn().expect("the worker starts");
        Worker { child, id: self.id, addr: self.addr, log: self.log, ended: false }
    }

    /// Starts it, and waits until it receives.
    pub async fn ready(self) -> Worker {
        let worker = self.start();
        worker.until_ready().await;
        worker
    }
}

/// A running worker. Ended with the test, at the latest.
#[derive(Debug)]
pub struct Worker {
    child: Child,
    id: String,
    addr: String,
    log: PathBuf,
    ended: bool,
}

impl Worker {
    /// Its id: the label of its containers.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Where its pages listen, `127.0.0.1:PORT`.
    pub fn addr(&self) -> &str {
        &self.addr
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Status and body of one of its pages: `/healthz`, `/readyz`, `/metrics`.
    pub async fn page(&self, path: &str) -> Option<(u16, String)> {
        http_get(&self.addr, path).await
    }

    /// Its resident memory.
    pub fn resident_mib(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).expect("a live worker");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") / 1024
    }

    /// Waits until `/readyz` says so.
    pub async fn until_ready(&self) {
        eventually("a ready worker", Duration::from_secs(60), async || {
            self.page("/readyz").await.filter(|(status, _)| *status == 200).map(drop)
        })
        .await;
    }

    /// Asks it to stop, and waits for its end.
    pub async fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.end().await
    }

    /// Kills it with SIGKILL, as a lost host would end it.
    pub async fn kill(&mut self) -> ExitStatus {
        self.signal(Signal::SIGKILL);
        self.end().await
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).expect("the worker lives");
    }

    /// Waits for its end.
    pub async fn end(&mut self) -> ExitStatus {
        let status = eventually("the end of the worker", Duration::from_secs(60), async || {
            self.child.try_wait().expect("a child")
        })
        .await;
        self.ended = true;
        status
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log of {} ---\n{}", self.id, self.log());
        }
        if !self.ended {
            let _ = self.child.kill();
            let _ = self.child.wait();
            assert!(std::thread::panicking(), "worker {} was not stopped by its test", self.id);
        }
    }
}
