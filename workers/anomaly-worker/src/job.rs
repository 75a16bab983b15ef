//! The job: readings stored, what they change compared, problems told.
//!
//! While the worker has the tables to itself it goes by what it remembers (`memory`); beside others
//! it reads whatever it compares (`shared`). The `crew` tells which.

mod dropped;
mod lag;
mod link;
mod memory;
mod quiet;
mod shared;

use std::{
    collections::{BTreeSet, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant, UNIX_EPOCH},
};

use aws_config::SdkConfig;
use flotilla_runtime::{BatchJob, Delivery, Failure, aws, retry::RetryPolicy};
use futures::future::{join_all, try_join_all};
use serde::Serialize;

use self::{dropped::Dropped, lag::Lag, memory::Memory, quiet::Quiet};
use crate::{
    config::AnomalyConfig,
    crew::{Crew, Mode},
    engine::{Change, Machine, Review},
    message::AnomalyMessage,
    metrics,
    plans::Plans,
    reading::Reading,
    tables::{Devices, Edges, Problems, Readings, Subject, Topologies, now_ms},
    topology::Plan,
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
/// How often one comparison may write, which is at most a part of what there is to tell each time.
const WRITES: u32 = 2000;
/// Readings that are taken at a time beside other workers: each makes a dozen calls to DynamoDB, and the
/// beat must not wait behind them.
const BESIDE: usize = 16;
/// Of so many machines of a device the rows are written with a reading that is nearly too late: a
/// transaction of DynamoDB takes 100 items.
const MACHINES: usize = 90;
/// How often the list of devices is read, where all are expected.
const LISTED: Duration = Duration::from_secs(30);
/// Rows of a page of it.
const PAGE: i32 = 1000;

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
    /// Held by each reading that is taken beside other workers.
    shared: tokio::sync::Semaphore,
    lag: Lag,
    dropped: Dropped,
    quiet: Quiet,
    /// Held while silent devices are looked for.
    sweeping: tokio::sync::Mutex<()>,
    /// All devices, as they were listed last.
    listed: Mutex<Option<(Instant, Arc<Vec<String>>)>>,
    /// What is to be linked.
    unlinked: Mutex<BTreeSet<(Subject, i64)>>,
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
            // The beat has a client of its own.
            crew: Crew::new(
                Edges::new(aws::dynamo_client(sdk), &config.edges_table),
                config.worker.clone(),
            ),
            known: Mutex::default(),
            memory: Mutex::new(Memory::new(config.limits)),
            reading: tokio::sync::Mutex::default(),
            turns: Turns::default(),
            shared: tokio::sync::Semaphore::new(BESIDE),
            lag: Lag::new(aws::sqs_client(sdk), config.queues.clone()),
            dropped: Dropped::default(),
            quiet: Quiet::default(),
            sweeping: tokio::sync::Mutex::default(),
            listed: Mutex::default(),
            unlinked: Mutex::default(),
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
            if leads {
                tokio::spawn(worker.clone().close_dropped());
            }
        }
        if leads && swept.elapsed() > worker.config.sweep {
            swept = Instant::now();
            // Beside the beat, which must not wait for it.
            tokio::spawn(worker.clone().sweep());
            tokio::spawn(worker.clone().close_quiet());
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
        if let Some(since) = review.link {
            self.link(subject, since).await?;
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
            false => Err(Failure::transient("crew", self.crew.why_not_sole())),
        }
    }

    /// Looks for devices that are silent, unless somebody still does.
    async fn sweep(self: Arc<Self>) {
        let Ok(_alone) = self.sweeping.try_lock() else { return };
        let _gate = self.crew.under_way().await;
        let swept = match self.crew.mode() {
            Mode::Waiting => return,
            mode => self.sweep_as(mode).await,
        };
        if let Err(failure) = swept {
            tracing::warn!("silent devices are looked for again later: {failure}");
        }
    }

    async fn sweep_as(&self, mode: Mode) -> Result<(), Failure> {
        let known = self.plans.get().await?;
        let ids = self.expected(&known.plan).await?;
        if ids.is_empty() {
            return Ok(());
        }
        // As far as what waits on the queue may still tell of them, not further.
        let clock = now_ms().saturating_sub(self.lag.now().await?);
        match mode {
            Mode::Sole(epoch) => self.sweep_sole(epoch, &known, &ids, clock).await,
            _ => self.sweep_shared(&known, &ids, clock).await,
        }
    }

    /// The devices that are silent after a while: those that a topology names, and where it expects
    /// all, those that were ever heard.
    async fn expected(&self, plan: &Plan) -> Result<Vec<String>, Failure> {
        let mut ids: Vec<String> = plan.expected().map(str::to_owned).collect();
        if plan.expects_all() {
            let listed = self.listed().await?;
            ids.extend(listed.iter().filter(|id| !plan.is_named(id)).cloned());
        }
        Ok(ids)
    }

    async fn listed(&self) -> Result<Arc<Vec<String>>, Failure> {
        let known = || self.listed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, listed)) = known().clone()
            && at.elapsed() < LISTED
        {
            return Ok(listed);
        }
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let (page, last) = self.devices.page(after.as_deref(), PAGE).await?;
            all.extend(page);
            after = last;
            if after.is_none() {
                break;
            }
        }
        let all = Arc::new(all);
        *known() = Some((Instant::now(), all.clone()));
        Ok(all)
    }

    fn check(&self, message: &AnomalyMessage, delivery: &Delivery) -> Result<Measured, Failure> {
        let sent = delivery.sent_at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let sent = sent.as_millis() as i64;
        message
            .check_ahead(now_ms(), self.config.future)
            .map_err(|why| Failure::permanent("future", why))?;
        let at = message.at.unwrap_or(sent);
        let reading = Reading { at, filling: message.filling, seq: message.seq };
        Ok(Measured { device: message.id.clone(), reading, sent })
    }

    async fn take_alone(&self, epoch: u64, work: &Measured) -> Result<&'static str, Failure> {
        let told = self.take_sole(epoch, &[work]).await?;
        told.into_iter().next().ok_or_else(|| self.not_let_in())
    }

    /// What came of each reading.
    async fn take(&self, work: &[&Measured]) -> Vec<Result<&'static str, Failure>> {
        let gate = self.crew.under_way().await;
        match self.crew.mode() {
            Mode::Sole(epoch) => match self.take_sole(epoch, work).await {
                Ok(told) => told.into_iter().map(Ok).collect(),
                // What one machine cannot do is no reason to refuse the readings of others.
                Err(_) if work.len() > 1 => {
                    join_all(work.iter().map(|work| self.take_alone(epoch, work))).await
                }
                Err(failure) => vec![Err(failure)],
            },
            Mode::Shared => {
                // Each for itself: the beat that changes the mode waits for what is under way.
                drop(gate);
                join_all(work.iter().map(|work| self.take_beside(work))).await
            }
            Mode::Waiting => work.iter().map(|_| Err(self.not_let_in())).collect(),
        }
    }

    /// Takes a reading beside other workers, with few others at a time. What is done while the own
    /// beat holds is done.
    async fn take_beside(&self, work: &Measured) -> Result<&'static str, Failure> {
        let _turn = self.shared.acquire().await;
        let _gate = self.crew.under_way().await;
        match self.crew.mode() {
            Mode::Shared => {}
            Mode::Sole(epoch) => return self.take_alone(epoch, work).await,
            Mode::Waiting => return Err(self.not_let_in()),
        }
        let told = self.take_shared(work).await;
        if self.crew.mode() == Mode::Waiting { Err(self.not_let_in()) } else { told }
    }

    fn not_let_in(&self) -> Failure {
        Failure::retry_after("crew", self.crew.why_waiting(), Duration::from_secs(1))
    }
}

impl BatchJob for Anomaly {
    const NAME: &'static str = "anomaly";
    /// What one call to DynamoDB stores.
    const AT_ONCE: usize = 25;
    type Message = AnomalyMessage;

    async fn ready(&self) -> Result<(), Failure> {
        self.worker.plans.get().await?;
        match self.worker.crew.ready(LET_IN).await {
            true => Ok(()),
            false => Err(self.worker.not_let_in()),
        }
    }

    fn describe_metrics(&self) {
        metrics::describe();
    }

    async fn end(&self) {
        self.worker.crew.leave().await;
    }

    async fn run(&self, batch: &[(AnomalyMessage, Delivery)]) -> Vec<Result<(), Failure>> {
        let worker = &self.worker;
        let checked: Vec<_> =
            batch.iter().map(|(message, delivery)| worker.check(message, delivery)).collect();
        let good: Vec<&Measured> = checked.iter().flatten().collect();
        if let Some(oldest) = good.iter().map(|it| it.sent).min() {
            worker.lag.note(now_ms().saturating_sub(oldest));
        }
        let mut taken = worker.take(&good).await.into_iter();
        let outcome = |checked: Result<Measured, Failure>| {
            let Measured { reading, .. } = checked?;
            let what = taken.next().unwrap_or_else(|| Err(worker.not_let_in()))?;
            ::metrics::counter!(metrics::READINGS, "what" => what).increment(1);
            let delay = now_ms().saturating_sub(reading.at).max(0).unsigned_abs();
            ::metrics::histogram!(metrics::DELAY).record(Duration::from_millis(delay));
            Ok(())
        };
        checked.into_iter().map(outcome).collect()
    }
}

fn conflict(subject: &Subject) -> Failure {
    let what = format!("{}: others wrote it {CONFLICTS} times meanwhile", subject.key());
    Failure::transient("edge_conflict", what)
}

/// A comparison that never comes to rest would hold its readings for ever.
fn restless(subject: &Subject) -> Failure {
    let what = format!(
        "{}: it was written {WRITES} times, and there is still something to write",
        subject.key()
    );
    Failure::transient("restless", what)
}

fn tell(subject: &Subject, changes: &[Change]) {
    for change in changes {
        let (id, kind) = (subject.problem_id(change.kind()), change.kind().name());
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
