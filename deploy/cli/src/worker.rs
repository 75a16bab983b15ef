//! One worker process of a local fleet.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use tokio::process::Command;

use crate::{
    console::note,
    error::{Doing, Error},
    fleet::Options,
    http, ministack,
    process::{Process, find},
    stack::Outputs,
    stop::Stop,
};

const PROGRAM: &str = "grading-worker";
/// The first start may have to set up its cells.
const READY_PATIENCE: Duration = Duration::from_secs(120);
/// How long the engine may take to remove containers.
const REMOVAL_PATIENCE: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(100);
/// A worker ends its long poll and removes its cells after the grace.
const AFTER_GRACE: Duration = Duration::from_secs(15);
/// The long poll of local workers, in seconds: a stop waits for it, and it costs nothing here.
const LOCAL_WAIT: &str = "1";

/// A worker, running or just ended.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) id: String,
    /// Where its health pages listen, `127.0.0.1:PORT`.
    pub(crate) address: String,
    pub(crate) started: Instant,
    program: PathBuf,
    variables: Vec<(&'static str, String)>,
    echo: bool,
    process: Process,
}

impl Worker {
    /// Starts a grading worker on the queue, buckets and tables of a stack.
    pub(crate) fn start(
        id: String,
        outputs: &Outputs,
        mut variables: Vec<(&'static str, String)>,
        options: &Options,
    ) -> Result<Self, Error> {
        let program = find(PROGRAM).ok_or_else(|| Error::Missing {
            what: PROGRAM,
            path: std::env::current_exe().unwrap_or_default().with_file_name(PROGRAM),
            hint: "build it (`cargo build -p grading-worker`), or put it on PATH".to_owned(),
        })?;
        let address = format!("127.0.0.1:{}", ministack::free_port()?);
        variables.extend(settings(&id, &address, outputs, options.grace));
        let echo = options.echo;
        let process = Process::start(&id, &program, &variables, echo)?;
        Ok(Worker { id, address, started: Instant::now(), program, variables, echo, process })
    }

    /// Waits until the worker says that it is ready.
    pub(crate) async fn ready(&mut self, stop: &Stop) -> Result<(), Error> {
        let url = format!("http://{}/readyz", self.address);
        let why = tokio::select! {
            ready = answers(&url) => match ready {
                None => return Ok(()),
                Some(last) => {
                    let seconds = READY_PATIENCE.as_secs();
                    format!("is not ready after {seconds} s ({})", last.trim())
                }
            },
            how = self.process.ended() => format!("ended before it was ready: {how}"),
            () = stop.asked() => return Err(Error::Interrupted),
        };
        Err(Error::Fleet(format!("worker {} {why}{}", self.id, self.process.last_words())))
    }

    /// Waits for it to end by itself.
    pub(crate) async fn ended(&mut self) -> String {
        self.process.ended().await
    }

    /// Starts it again, with the same id and address.
    pub(crate) fn restart(&mut self) -> Result<(), Error> {
        self.process = Process::start(&self.id, &self.program, &self.variables, self.echo)?;
        self.started = Instant::now();
        Ok(())
    }

    /// Drains it: SIGTERM, then the grace. One that had to be killed could not remove its
    /// containers, which is done here.
    pub(crate) async fn stop(self, grace: Duration, stop: &Stop) -> Result<(), Error> {
        note(format!("draining {} …", self.id));
        if !self.process.stop(grace + AFTER_GRACE, stop).await {
            note(format!("{} did not end in time and was killed", self.id));
        }
        remove_containers(&self.id).await
    }
}

fn settings(
    id: &str,
    address: &str,
    outputs: &Outputs,
    grace: Duration,
) -> Vec<(&'static str, String)> {
    let mut settings = vec![
        ("FLOTILLA_QUEUE_URL", outputs.grading_queue_url.clone()),
        ("FLOTILLA_LEDGER_TABLE", outputs.ledger_table_name.clone()),
        ("FLOTILLA_PAYLOADS_BUCKET", outputs.payloads_bucket_name.clone()),
        ("FLOTILLA_SUBMISSIONS_BUCKET", outputs.submissions_bucket_name.clone()),
        ("FLOTILLA_SUBMISSIONS_TABLE", outputs.submissions_table_name.clone()),
        ("FLOTILLA_WORKER_ID", id.to_owned()),
        ("FLOTILLA_HTTP_ADDR", address.to_owned()),
        ("FLOTILLA_GRACE_SECONDS", grace.as_secs().to_string()),
    ];
    if std::env::var_os("FLOTILLA_WAIT_SECONDS").is_none() {
        settings.push(("FLOTILLA_WAIT_SECONDS", LOCAL_WAIT.to_owned()));
    }
    settings
}

/// `None` once ready, else what the worker said last.
async fn answers(url: &str) -> Option<String> {
    let start = Instant::now();
    let mut last = "it does not answer".to_owned();
    while start.elapsed() < READY_PATIENCE {
        match http::get(url, Duration::from_secs(5)).await {
            Some((200, _)) => return None,
            Some((_, said)) => last = said,
            None => {}
        }
        tokio::time::sleep(LOOK).await;
    }
    Some(last)
}

/// Removes what containers carry the worker's label, through the engine's own command: none,
/// after an orderly end. The engine may be at it already, so what counts is that none is left.
async fn remove_containers(worker: &str) -> Result<(), Error> {
    let Some(docker) = find("docker") else {
        return Ok(());
    };
    let filter = format!("label=flotilla.worker={worker}");
    let start = Instant::now();
    loop {
        let listed = docker_says(&docker, &["ps", "-aq", "--filter", &filter]).await?;
        let ids: Vec<&str> = listed.lines().collect();
        if ids.is_empty() {
            return Ok(());
        }
        if start.elapsed() > REMOVAL_PATIENCE {
            let ids = ids.join(", ");
            return Err(Error::Fleet(format!("containers of {worker} cannot be removed: {ids}")));
        }
        docker_says(&docker, &[&["rm", "-f"], ids.as_slice()].concat()).await?;
        tokio::time::sleep(LOOK).await;
    }
}

async fn docker_says(docker: &Path, arguments: &[&str]) -> Result<String, Error> {
    let said = Command::new(docker).args(arguments).output().await;
    let said = said.doing(|| format!("calling docker {}", arguments.join(" ")))?;
    Ok(String::from_utf8_lossy(&said.stdout).into_owned())
}
