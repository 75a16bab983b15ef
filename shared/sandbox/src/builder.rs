//! Containers of one use: a program with an input, a log and a result, and nothing left of it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bollard::container::{AttachContainerResults, LogOutput};
use futures::StreamExt;
use tokio::io::AsyncWriteExt;
use tokio::runtime::Handle;
use tokio::sync::{mpsc::UnboundedSender, watch};
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::engine::{Engine, Stopped};
use crate::{SandboxError, keeper, profile};

/// How often orphans are looked for.
const SWEEP: Duration = Duration::from_secs(30);
/// How often a removal is tried; after that the reaper finds the container by its deadline.
const REMOVALS: u32 = 20;
/// How long the streams of an ended container may stay open: engines forget to close them.
const DRAIN: Duration = Duration::from_secs(2);

/// What a build may use. Whatever it oversteps, all of it is killed.
#[derive(Debug, Clone, PartialEq)]
pub struct BuildLimits {
    /// Time on the clock.
    pub wall: Duration,
    /// Memory of everything in the container, its disk included, in bytes; there is no swap.
    pub memory_bytes: u64,
    /// Size of `/build`, in bytes.
    pub disk_bytes: u64,
    /// Processes and threads.
    pub pids: u32,
    /// Processors, as a fraction.
    pub cpus: f64,
    /// Standard error, in bytes.
    pub log_bytes: usize,
    /// Standard output, in bytes.
    pub result_bytes: usize,
}

impl Default for BuildLimits {
    fn default() -> Self {
        Self {
            wall: Duration::from_secs(600),
            memory_bytes: 2 << 30,
            disk_bytes: 1 << 30,
            pids: 256,
            cpus: 2.0,
            log_bytes: 8 << 20,
            result_bytes: 256 << 20,
        }
    }
}

/// Something to run in a container of its own, with the image's entry point.
#[derive(Debug, Clone, Default)]
pub struct Build {
    /// Arguments of the entry point.
    pub arguments: Vec<String>,
    /// What it reads from standard input, which stays open behind it: its end means that the
    /// worker is dead.
    pub input: Vec<u8>,
    /// What it may use.
    pub limits: BuildLimits,
    /// Gets what is kept of standard error, as it comes; no more than [`BuildLimits::log_bytes`].
    pub live: Option<UnboundedSender<Vec<u8>>>,
}

/// How a build came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// By itself, with this exit status.
    Exited(i64),
    /// For want of memory.
    OutOfMemory,
    /// Its time was over.
    TimedOut,
    /// It wrote more log than it may.
    LogOverflow,
    /// It wrote a larger result than it may.
    ResultOverflow,
}

/// What came of a build.
#[derive(Debug, Clone)]
pub struct Built {
    /// How it ended.
    pub ending: Ending,
    /// Its standard output.
    pub result: Vec<u8>,
    /// Its standard error.
    pub log: Vec<u8>,
    /// From its input to the end.
    pub wall: Duration,
    /// From the request for a container until it was started.
    pub started_after: Duration,
}

/// Makes containers of one use on a Docker engine. Clones share it.
#[derive(Debug, Clone)]
pub struct Builder {
    engine: Engine,
    image_id: String,
    labels: HashMap<String, String>,
    /// How many containers are being removed.
    removing: Arc<watch::Sender<usize>>,
    /// Ends the sweep with the last clone.
    _open: Arc<DropGuard>,
}

impl Builder {
    /// Connects to the engine (of `DOCKER_HOST`, else the local socket) and removes what dead
    /// workers left there, now and from time to time. `worker_id` becomes the label
    /// `flotilla.worker` of every container.
    ///
    /// # Errors
    /// [`SandboxError::EngineUnreachable`] or [`SandboxError::ImageMissing`].
    pub async fn connect(image: &str, worker_id: &str) -> Result<Self, SandboxError> {
        let engine = Engine::connect(None).await?;
        let image_id = engine.image_id(image).await?;
        keeper::remove_orphans(&engine).await?;
        let closed = CancellationToken::new();
        tokio::spawn(sweep(engine.clone(), closed.clone()));
        let labels = HashMap::from([(profile::WORKER.to_owned(), worker_id.to_owned())]);
        let (removing, open) = (Arc::new(watch::Sender::new(0)), Arc::new(closed.drop_guard()));
        Ok(Self { engine, image_id, labels, removing, _open: open })
    }

    /// Whether the engine answers, within 3 s.
    ///
    /// # Errors
    /// [`SandboxError::EngineUnreachable`] when it does not.
    pub async fn check(&self) -> Result<(), SandboxError> {
        self.engine.ping().await
    }

    /// The id of the image (a digest), for records.
    #[must_use]
    pub fn image_id(&self) -> &str {
        &self.image_id
    }

    /// Runs a build in a fresh container without network, capabilities or anything to write to
    /// but `/build` and `/tmp`. However this ends, and also when its future is dropped, the
    /// container is removed with every process in it.
    ///
    /// # Errors
    /// Those of the engine; all but a missing image are transient. Whatever the build does is
    /// told by [`Built::ending`].
    pub async fn run(&self, build: Build) -> Result<Built, SandboxError> {
        let built = match self.start(build.arguments, build.limits).await {
            Ok(started) => started.run(build.input, build.live).await,
            Err(failed) => Err(failed),
        };
        self.removed().await;
        built
    }

    /// Starts the container of a build, which then waits for its input. It is removed in the
    /// background, when the build has ended or this is dropped.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub async fn start(
        &self,
        arguments: Vec<String>,
        limits: BuildLimits,
    ) -> Result<Started, SandboxError> {
        let start = Instant::now();
        let name = format!("flotilla-build-{}", uuid::Uuid::new_v4().simple());
        let body = profile::build(&self.image_id, &self.labels, arguments, &limits);
        let removal = Removal {
            engine: self.engine.clone(),
            name,
            runtime: Handle::current(),
            removing: Arc::clone(&self.removing),
        };
        let streams = self.engine.start(&removal.name, body).await?;
        Ok(Started { removal, streams, limits, after: start.elapsed() })
    }

    /// Waits until no container is being removed any more.
    pub async fn removed(&self) {
        // Its sender is ours, so it cannot be gone.
        let _ = self.removing.subscribe().wait_for(|count| *count == 0).await;
    }
}

/// A container that runs and waits for its input.
pub struct Started {
    removal: Removal,
    streams: AttachContainerResults,
    limits: BuildLimits,
    after: Duration,
}

impl std::fmt::Debug for Started {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Started").field("name", &self.removal.name).finish_non_exhaustive()
    }
}

impl Started {
    /// Hands it its input and waits for its end; from now on its time is counted. `live` is told what
    /// it says, as in [`Build::live`].
    ///
    /// # Errors
    /// As [`Builder::run`].
    pub async fn run(
        self,
        input: Vec<u8>,
        live: Option<UnboundedSender<Vec<u8>>>,
    ) -> Result<Built, SandboxError> {
        let start = Instant::now();
        let Self { removal, streams, limits, after } = self;
        let mut taken = Taken { live, ..Taken::default() };
        let stopped = removal.engine.stopped(&removal.name);
        let pumped = taken.pump(streams, input, &limits, stopped);
        let ending = match timeout(limits.wall, pumped).await {
            Err(_) => Ending::TimedOut,
            Ok(stopped) => stopped?,
        };
        let Taken { result, log, .. } = taken;
        Ok(Built { ending, result, log, wall: start.elapsed(), started_after: after })
    }
}

/// What was read of a container so far.
#[derive(Debug, Default)]
struct Taken {
    result: Vec<u8>,
    log: Vec<u8>,
    live: Option<UnboundedSender<Vec<u8>>>,
}

impl Taken {
    /// Feeds the container and reads it until it ends or oversteps a limit.
    async fn pump(
        &mut self,
        streams: AttachContainerResults,
        input: Vec<u8>,
        limits: &BuildLimits,
        stopped: impl Future<Output = Result<Stopped, SandboxError>>,
    ) -> Result<Ending, SandboxError> {
        let AttachContainerResults { mut output, input: mut stdin } = streams;
        // Held open behind its content, for as long as this runs.
        let feed = async {
            // One that ends early reads nothing more; its end says why.
            let _ = stdin.write_all(&input).await;
            let _ = stdin.flush().await;
            std::future::pending().await
        };
        let read = async {
            while let Some(Ok(piece)) = output.next().await {
                if let Some(overflow) = self.take(piece, limits) {
                    return Some(overflow);
                }
            }
            None
        };
        tokio::pin!(feed, read, stopped);
        tokio::select! {
            never = &mut feed => never,
            overflow = &mut read => match overflow {
                Some(overflow) => Ok(overflow),
                None => Ok(ending(&stopped.await?)),
            },
            stopped = &mut stopped => {
                let stopped = stopped?;
                // What it said last may still be on its way.
                let late = timeout(DRAIN, read).await.ok().flatten();
                Ok(late.unwrap_or_else(|| ending(&stopped)))
            }
        }
    }

    fn take(&mut self, piece: LogOutput, limits: &BuildLimits) -> Option<Ending> {
        let (kept, limit, overflow, live) = match &piece {
            LogOutput::StdErr { .. } => {
                (&mut self.log, limits.log_bytes, Ending::LogOverflow, self.live.as_ref())
            }
            _ => (&mut self.result, limits.result_bytes, Ending::ResultOverflow, None),
        };
        let bytes = piece.into_bytes();
        let room = limit.saturating_sub(kept.len());
        let taken = &bytes[..bytes.len().min(room)];
        kept.extend_from_slice(taken);
        if let Some(live) = live {
            // Nobody may listen any more; what is kept is whole all the same.
            let _ = live.send(taken.to_vec());
        }
        (bytes.len() > room).then_some(overflow)
    }
}

fn ending(stopped: &Stopped) -> Ending {
    match stopped.out_of_memory {
        // A child was killed for it, and what waited for the child gave up.
        true if stopped.status != 0 => Ending::OutOfMemory,
        _ => Ending::Exited(stopped.status),
    }
}

/// A container to be removed when this is dropped.
#[derive(Debug)]
struct Removal {
    engine: Engine,
    name: String,
    runtime: Handle,
    removing: Arc<watch::Sender<usize>>,
}

impl Drop for Removal {
    fn drop(&mut self) {
        let (engine, name) = (self.engine.clone(), std::mem::take(&mut self.name));
        let removing = Arc::clone(&self.removing);
        removing.send_modify(|count| *count += 1);
        self.runtime.spawn(async move {
            remove(&engine, &name).await;
            removing.send_modify(|count| *count = count.saturating_sub(1));
        });
    }
}

/// Tries again for a while: an engine that is slow to kill hundreds of processes gets there.
async fn remove(engine: &Engine, name: &str) {
    for _ in 0..REMOVALS {
        match engine.remove(name).await {
            Ok(()) => return,
            Err(error) => tracing::warn!(build = name, %error, "a build could not be removed yet"),
        }
        tokio::time::sleep(DRAIN).await;
    }
}

async fn sweep(engine: Engine, closed: CancellationToken) {
    while closed.run_until_cancelled(tokio::time::sleep(SWEEP)).await.is_some() {
        if let Err(error) = keeper::remove_orphans(&engine).await {
            tracing::warn!(%error, "orphaned containers could not be looked for");
        }
    }
}
