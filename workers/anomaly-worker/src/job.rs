//! The job: readings stored, what they change compared, problems told.
//!
//! While the worker has the tables to itself it goes by what it remembers (`memory`); beside others
//! it reads whatever it compares (`shared`). The `crew` tells which.

mod link;
mod memory;
mod shared;

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
    time::{Duration, Instant, UNIX_EPOCH},
};

use aws_config::SdkConfig;
use flotilla_runtime::{BatchJob, Delivery, Failure, aws, retry::RetryPolicy};
use futures::future::{join_all, try_join_all};
use serde::Serialize;

use self::memory::Memory;
use crate::{
    config::AnomalyConfig,
    crew::{Crew, Mode},
    engine::{Change, Machine, Review},
    message::AnomalyMessage,
    metrics,
    plans::Plans,
    reading::Reading,
    tables::{Devices, Edges, Problems, Readings, Subject, Topologies, now_ms},
    turns::Turns,
};

/// With more known devices than this, all are looked up again.
const KNOWN: usize = 100_000;
/// How often a row is looked at again when others write it at the same time.
const CONFLICTS: u32 = 30;
/// How long to wait after such a write, at first and at most.
const PAUSE: RetryPolicy = RetryPolicy::new(Duration::from_millis(5), Duration::from_millis(500));
/// How long a worker waits to be let in before it says that it cannot work.
const LET_IN: Duration = Duration::from_secs(10);
/// How often to look for another version of the topologies.
const LOOK: Duration = Duration::from_secs(2);
/// For how long what waits on the queue is told by what came from it last.
const LAG: Duration = Duration::from_secs(30);

/// Compares neighbouring sensors.
#[derive(Debug)]
pub struct Anomaly {
    worker: Arc<Worker>,
}

/// What the job and what goes on beside it share.
#[derive(Debug)]
struct Worker {
    config: AnomalyConfig,
    devices: Devices,
    readings: Readings,
    edges: Edges,
    problems: Problems,
    plans: Plans,
    crew: Crew,
    known: Mutex<HashSet<String>>,
    memory: Mutex<Memory>,
    /// Held by whoever reads what is to be remembered.
    reading: tokio::sync::Mutex<()>,
    turns: Turns,
    began: Instant,
    /// How long the last message had waited, and when that was since `began`, in milliseconds.
    waited: [AtomicI64; 2],
}

/// A reading with its device.
#[derive(Debug)]
struct Measured {
    device: String,
    reading: Reading,
    sent: i64,
}

impl Anomaly {
    /// The job, on the SDK's endpoint; must be made within a Tokio runtime.
    pub fn new(config: AnomalyConfig, sdk: &SdkConfig) -> Self {
        let dynamo = aws::dynamo_client(sdk);
        let edges = Edges::new(dynamo.clone(), &config.edges_table);
        let topologies = Topologies::new(dynamo.clone(), &config.edges_table);
        let worker = Arc::new(Worker {
            devices: Devices::new(dynamo.clone(), &config.devices_table),
            readings: Readings::new(dynamo.clone(), &config.readings_table),
            problems: Problems::new(dynamo, &config.problems_table),
            plans: Plans::new(topologies, config.rule),
            crew: Crew::new(edges.clone(), config.worker.clone()),
            known: Mutex::default(),
            memory: Mutex::new(Memory::new(config.limits)),
            reading: tokio::sync::Mutex::default(),
            turns: Turns::default(),
            began: Instant::now(),
            waited: Default::default(),
            edges,
            config,
        });
        tokio::spawn(keep_beating(Arc::downgrade(&worker)));
        Self { worker }
    }
}

/// Counts up the worker's beat, looks for topologies and, where this worker leads, for silent
/// devices, until the worker is gone.
async fn keep_beating(worker: Weak<Worker>) {
    let (mut looked, mut swept) = (Instant::now(), Instant::now());
    while let Some(worker) = worker.upgrade() {
        let (leads, next) = worker.crew.beat().await.unwrap_or_else(|failure| {
            tracing::warn!("the worker cannot say that it is there: {failure}");
            (false, Duration::from_millis(500))
        });
        if looked.elapsed() > LOOK {
            looked = Instant::now();
            if let Err(failure) = worker.plans.look().await {
                tracing::warn!("the topologies stay as they are known: {failure}");
            }
        }
        if leads && swept.elapsed() > worker.config.sweep {
            swept = Instant::now();
            // Beside the beat, which must not wait for it.
            tokio::spawn(worker.clone().sweep());
        }
        drop(worker);
        tokio::time::sleep(next).await;
    }
}

impl Worker {
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers devices before their first reading is stored: whoever stores one of a neighbour
    /// and does not find this device yet is followed by this device's own comparison.
    async fn register(&self, ids: &[&str]) -> Result<(), Failure> {
        let new: HashSet<&str> = ids.iter().copied().filter(|id| !self.knows(id)).collect();
        let now = now_ms();
        try_join_all(new.iter().map(|id| self.devices.register(id, now))).await?;
        new.into_iter().for_each(|id| self.note(id));
        Ok(())
    }

    async fn is_registered(&self, device: &str) -> Result<bool, Failure> {
        if self.knows(device) {
            return Ok(true);
        }
        let found = self.devices.first_seen(device).await?.is_some();
        if found {
            self.note(device);
        }
        Ok(found)
    }

    fn knows(&self, device: &str) -> bool {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).contains(device)
    }

    fn note(&self, device: &str) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KNOWN {
            known.clear();
        }
        known.insert(device.to_owned());
    }

    /// Writes what a review led to, and links what was told before; `false` where another write
    /// came before.
    async fn write<M: Machine + Serialize>(
        &self,
        subject: &Subject,
        version: u64,
        review: &Review<M>,
    ) -> Result<bool, Failure> {
        if review.link {
            self.link(subject).await?;
        }
        let written = self.edges.write(&self.problems, subject, version, review).await?;
        if written {
            tell(subject, &review.changes);
        }
        Ok(written)
    }

    async fn outrun(&self, conflicts: u32) {
        ::metrics::counter!(metrics::CONFLICTS).increment(1);
        tokio::time::sleep(PAUSE.delay(conflicts)).await;
    }

    /// What was decided from memory counts only as long as nobody else works.
    fn still(&self, epoch: u64) -> Result<(), Failure> {
        match self.crew.mode() == Mode::Sole(epoch) {
            true => Ok(()),
            false => Err(Failure::transient("crew", "another worker came: it is compared again")),
        }
    }

    /// How long what is on the queue may have waited, in milliseconds.
    fn lag(&self) -> i64 {
        let [lag, noted] = self.waited.each_ref().map(|it| it.load(Relaxed));
        let since = self.began.elapsed().as_millis() as i64 - noted;
        if since > LAG.as_millis() as i64 { 0 } else { lag }
    }

    fn note_lag(&self, sent: i64) {
        let [lag, noted] = &self.waited;
        lag.store(now_ms().saturating_sub(sent).max(0), Relaxed);
        noted.store(self.began.elapsed().as_millis() as i64, Relaxed);
    }

    async fn sweep(self: Arc<Self>) {
        let _gate = self.crew.under_way().await;
        let swept = match self.crew.mode() {
            Mode::Waiting => return,
            Mode::Sole(epoch) => self.sweep_sole(epoch, self.clock()).await,
            Mode::Shared => self.sweep_shared(self.clock()).await,
        };
        if let Err(failure) = swept {
            tracing::warn!("silent devices are looked for again later: {failure}");
        }
    }

    fn check(&self, message: AnomalyMessage, delivery: &Delivery) -> Result<Measured, Failure> {
        let sent = delivery.sent_at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let sent = sent.as_millis() as i64;
        message
            .check_ahead(now_ms(), self.config.future)
            .map_err(|why| Failure::permanent("future", why))?;
        let at = message.at.unwrap_or(sent);
        let reading = Reading { at, filling: message.filling, seq: message.seq };
        Ok(Measured { device: message.id, reading, sent })
    }

    /// What came of each reading.
    async fn take(&self, work: &[&Measured]) -> Vec<Result<&'static str, Failure>> {
        let _gate = self.crew.under_way().await;
        match self.crew.mode() {
            Mode::Sole(epoch) => match self.take_sole(epoch, work).await {
                Ok(told) => told.into_iter().map(Ok).collect(),
                Err(failure) => work.iter().map(|_| Err(again(&failure))).collect(),
            },
            Mode::Shared => {
                let taken = join_all(work.iter().map(|work| self.take_shared(work))).await;
                let out = self.crew.mode() == Mode::Waiting;
                let check = |it| if out { Err(not_let_in()) } else { it };
                taken.into_iter().map(check).collect()
            }
            Mode::Waiting => work.iter().map(|_| Err(not_let_in())).collect(),
        }
    }
}

impl BatchJob for Anomaly {
    const NAME: &'static str = "anomaly";
    /// What one call to DynamoDB stores.
    const AT_ONCE: usize = 25;
    type Message = AnomalyMessage;

    async fn ready(&self) -> Result<(), Failure> {
        self.worker.plans.get().await?;
        if self.worker.crew.ready(LET_IN).await { Ok(()) } else { Err(not_let_in()) }
    }

    fn describe_metrics(&self) {
        metrics::describe();
    }

    async fn end(&self) {
        self.worker.crew.leave().await;
    }

    async fn run(&self, batch: Vec<(AnomalyMessage, Delivery)>) -> Vec<Result<(), Failure>> {
        let worker = &self.worker;
        let checked: Vec<_> =
            batch.into_iter().map(|(message, delivery)| worker.check(message, &delivery)).collect();
        let good: Vec<&Measured> = checked.iter().flatten().collect();
        if let Some(oldest) = good.iter().map(|it| it.sent).min() {
            worker.note_lag(oldest);
        }
        let mut taken = worker.take(&good).await.into_iter();
        let outcome = |checked: Result<Measured, Failure>| {
            let Measured { reading, .. } = checked?;
            let what = taken.next().unwrap_or_else(|| Err(not_let_in()))?;
            ::metrics::counter!(metrics::READINGS, "what" => what).increment(1);
            let delay = now_ms().saturating_sub(reading.at).max(0).unsigned_abs();
            ::metrics::histogram!(metrics::DELAY).record(Duration::from_millis(delay));
            Ok(())
        };
        checked.into_iter().map(outcome).collect()
    }
}

fn not_let_in() -> Failure {
    let what = "another worker has these tables to itself, and has not let go yet";
    Failure::retry_after("crew", what, Duration::from_secs(1))
}

fn conflict(subject: &Subject) -> Failure {
    let what = format!("{}: others wrote it {CONFLICTS} times meanwhile", subject.key());
    Failure::transient("edge_conflict", what)
}

/// The same failure for another message of its batch.
fn again(failure: &Failure) -> Failure {
    match failure {
        Failure::Permanent(_) => Failure::permanent(failure.kind(), failure.to_string()),
        Failure::Transient { .. } => Failure::transient(failure.kind(), failure.to_string()),
    }
}

fn tell(subject: &Subject, changes: &[Change]) {
    for change in changes {
        let episode = change.episode();
        let (id, kind) = (subject.problem_id(episode.kind), episode.kind.name());
        let what = match change {
            Change::Tell(episode) if episode.settled => "settled",
            Change::Tell(episode) if episode.resolved.is_some() => "resolved",
            Change::Tell(_) => "opened",
            Change::Retract(_) => "retracted",
        };
        tracing::info!(problem = id, what, ?change, "a problem changed");
        ::metrics::counter!(metrics::PROBLEMS, "what" => what, "kind" => kind).increment(1);
    }
}
