//! One worker process of a local fleet.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use crate::{
    console::note,
    containers,
    error::Error,
    fleet::Options,
    http,
    kind::Kind,
    ministack,
    process::{End, Process, find},
    stack::Outputs,
    stop::Stop,
};

/// The first start may have to set up its cells.
const READY_PATIENCE: Duration = Duration::from_secs(120);
/// A worker that is not ready by then is asked why, aloud.
const UNREMARKABLE: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_millis(100);
/// A worker ends its long poll and removes its cells after the grace.
const AFTER_GRACE: Duration = Duration::from_secs(15);

/// A worker, running or just ended.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) id: String,
    pub(crate) kind: Kind,
    /// Where its health pages listen, `127.0.0.1:PORT`.
    pub(crate) address: String,
    pub(crate) started: Instant,
    program: PathBuf,
    variables: Vec<(&'static str, String)>,
    echo: bool,
    process: Process,
}

impl Worker {
    /// Starts a program of a fleet on the queues, buckets and tables of a stack, listening on
    /// this port (0 for any).
    pub(crate) fn start(
        kind: Kind,
        id: String,
        port: u16,
        outputs: &Outputs,
        mut variables: Vec<(&'static str, String)>,
        options: &Options,
    ) -> Result<Self, Error> {
        let name = kind.program();
        let program = find(name).ok_or_else(|| Error::Missing {
            what: name,
            path: std::env::current_exe().unwrap_or_default().with_file_name(name),
            hint: format!("build it (`cargo build -p {name}`), or put it on PATH"),
        })?;
        let port = if port == 0 { ministack::free_port()? } else { port };
        let address = format!("127.0.0.1:{port}");
        variables.extend(kind.settings(&id, &address, outputs, options.grace));
        let echo = options.echo;
        let process = Process::start(&id, &program, &variables, echo)?;
        let started = Instant::now();
        Ok(Worker { id, kind, address, started, program, variables, echo, process })
    }

    /// Waits until the worker says that it is ready.
    pub(crate) async fn ready(&mut self, stop: &Stop) -> Result<(), Error> {
        let why = tokio::select! {
            ready = answers(&self.id, &self.address) => match ready {
                None => return Ok(()),
                Some(last) => {
                    let seconds = READY_PATIENCE.as_secs();
                    format!("is not ready after {seconds} s ({last})")
                }
            },
            end = self.process.ended() => format!("ended before it was ready: {}", end.how),
            () = stop.asked() => return Err(Error::Interrupted),
        };
        Err(Error::Fleet(format!("worker {} {why}{}", self.id, self.process.last_words())))
    }

    /// Waits for it to end by itself.
    pub(crate) async fn ended(&mut self) -> End {
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
        let in_time = self.process.stop(grace + AFTER_GRACE, stop).await;
        if !in_time {
            note(format!("{} did not end in time and was killed", self.id));
        }
        containers::remove(&self.id, in_time, stop).await
    }
}

/// `None` once ready, else what the worker said last. The operator is told what it waits for.
async fn answers(id: &str, address: &str) -> Option<String> {
    let (url, start) = (format!("http://{address}/readyz"), Instant::now());
    let (mut last, mut told) = ("it does not answer".to_owned(), String::new());
    while start.elapsed() < READY_PATIENCE {
        match http::get(&url, Duration::from_secs(5)).await {
            Some((200, _)) => return None,
            Some((_, said)) => last = said.trim().to_owned(),
            None => {}
        }
        if start.elapsed() > UNREMARKABLE && told != last {
            told.clone_from(&last);
            note(format!("{id} is not ready: {last}"));
        }
        tokio::time::sleep(LOOK).await;
    }
    Some(last)
}
