//! The job: a reading stored, its edges compared, problems told.

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
    time::{Duration, UNIX_EPOCH},
};

use aws_config::SdkConfig;
use flotilla_runtime::{Delivery, Effect, Failure, Job, Lease, aws, retry::RetryPolicy};
use futures::future::try_join_all;

use crate::{
    config::AnomalyConfig,
    engine::{Change, Review},
    message::AnomalyMessage,
    metrics,
    reading::Reading,
    tables::{Devices, Edges, Name, Problems, Readings, Said, now_ms},
    topology,
    turns::Turns,
};

/// With more known devices than this, all are looked up again.
const KNOWN: usize = 100_000;
/// How often an edge is looked at again when others write it at the same time.
const CONFLICTS: u32 = 30;
/// How long to wait after such a write, at first and at most.
const PAUSE: RetryPolicy = RetryPolicy::new(Duration::from_millis(5), Duration::from_millis(500));

/// Compares neighbouring sensors.
#[derive(Debug)]
pub struct Anomaly {
    config: AnomalyConfig,
    devices: Devices,
    readings: Readings,
    edges: Edges,
    problems: Problems,
    known: Mutex<HashSet<String>>,
    turns: Turns,
}

/// A reading with its device.
#[derive(Debug)]
pub struct Measured {
    device: String,
    reading: Reading,
}

impl Anomaly {
    /// The job, on the SDK's endpoint.
    pub fn new(config: AnomalyConfig, sdk: &SdkConfig) -> Self {
        let dynamo = aws::dynamo_client(sdk);
        Self {
            devices: Devices::new(dynamo.clone(), &config.devices_table),
            readings: Readings::new(dynamo.clone(), &config.readings_table),
            edges: Edges::new(dynamo.clone(), &config.edges_table),
            problems: Problems::new(dynamo, &config.problems_table),
            known: Mutex::default(),
            turns: Turns::default(),
            config,
        }
    }

    /// Stores a reading after its device is registered: whoever stores one of a neighbour and does
    /// not find this device yet is followed by this device's own comparison.
    async fn store(&self, device: &str, reading: &Reading) -> Result<bool, Failure> {
        if !self.knows(device) {
            self.devices.register(device, now_ms()).await?;
            self.note(device);
        }
        let said = self.said(device, reading).await?;
        self.readings.store(device, reading, said, self.config.retention).await
    }

    async fn said(&self, device: &str, reading: &Reading) -> Result<Said, Failure> {
        let newest = match topology::following(device) {
            Some(next) if self.is_registered(&next).await? => {
                self.readings.newest(&next, 1).await?
            }
            _ => Vec::new(),
        };
        Ok(Said::of(&self.config.rule, reading.filling, newest.last()))
    }

    /// The edges of a device whose other end was ever heard.
    async fn edges_of(&self, device: &str) -> Result<Vec<Name>, Failure> {
        let mut edges = Vec::new();
        for before in topology::preceding(device) {
            if self.is_registered(&before).await? {
                edges.push(Name { current: before, following: device.to_owned() });
            }
        }
        if let Some(next) = topology::following(device)
            && self.is_registered(&next).await?
        {
            edges.push(Name { current: device.to_owned(), following: next });
        }
        Ok(edges)
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

    /// Looks at an edge until its problems are what its readings say.
    ///
    /// The row is read before the readings, and what was written is looked at once more: so of two
    /// workers at one edge, the one that read before the other's reading was stored either finds
    /// the row changed, or is the one who looks again.
    async fn compare(&self, edge: &Name) -> Result<(), Failure> {
        let (rule, limits) = (&self.config.rule, &self.config.limits);
        let mut conflicts = 0;
        while conflicts < CONFLICTS {
            let (version, state) = self.edges.load(edge).await?;
            let after = state.needs_after(limits);
            let ends = [&edge.current, &edge.following].map(|id| self.readings.after(id, after));
            let [current, following] = <[_; 2]>::try_from(try_join_all(ends).await?)
                .unwrap_or_else(|_| [Vec::new(), Vec::new()]);
            let review = state.review(rule, limits, current, following);
            if review.next == state {
                return Ok(());
            }
            if self.edges.write(&self.problems, edge, version, &review).await? {
                tell(edge, &review);
                continue;
            }
            conflicts += 1;
            ::metrics::counter!(metrics::CONFLICTS).increment(1);
            tokio::time::sleep(PAUSE.delay(conflicts)).await;
        }
        let what = format!("edge {}: others wrote it {CONFLICTS} times meanwhile", edge.key());
        Err(Failure::transient("edge_conflict", what))
    }

    /// Whether a reading came too late for an edge.
    async fn is_late(&self, edges: &[Name], reading: &Reading) -> Result<bool, Failure> {
        let edges = try_join_all(edges.iter().map(|edge| self.edges.load(edge))).await?;
        Ok(edges.iter().any(|(_, edge)| reading.at <= edge.settled_until()))
    }
}

impl Job for Anomaly {
    const NAME: &'static str = "anomaly";
    type Message = AnomalyMessage;
    type Work = Measured;

    fn describe_metrics(&self) {
        metrics::describe();
    }

    async fn prepare(
        &self,
        message: AnomalyMessage,
        delivery: &Delivery,
    ) -> Result<(Effect, Measured), Failure> {
        let sent = delivery.sent_at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let at = message.at.unwrap_or(sent.as_millis() as i64);
        message
            .check_ahead(now_ms(), self.config.future)
            .map_err(|why| Failure::permanent("future", why))?;
        let reading = Reading { at, filling: message.filling, seq: message.seq };
        Ok((Effect::Idempotent, Measured { device: message.id, reading }))
    }

    async fn run(&self, work: Measured, _: &Lease) -> Result<(), Failure> {
        let Measured { device, reading } = &work;
        let new = self.store(device, reading).await?;
        let edges = self.edges_of(device).await?;
        let late = new && self.is_late(&edges, reading).await?;
        for edge in &edges {
            self.turns.after_now(&edge.key(), async || self.compare(edge).await).await?;
        }
        if late {
            self.readings.mark_late(device, reading).await?;
        }
        let what = if late {
            "late"
        } else if new {
            "stored"
        } else {
            "duplicate"
        };
        ::metrics::counter!(metrics::READINGS, "what" => what).increment(1);
        let delay = now_ms().saturating_sub(reading.at).max(0).unsigned_abs();
        ::metrics::histogram!(metrics::DELAY).record(Duration::from_millis(delay));
        Ok(())
    }
}

fn tell(edge: &Name, review: &Review) {
    let id = edge.problem_id();
    for change in &review.changes {
        let what = match change {
            Change::Tell(episode) if episode.resolved.is_some() => "resolved",
            Change::Tell(_) => "opened",
            Change::Retract(_) => "retracted",
        };
        tracing::info!(problem = id, what, ?change, "a problem changed");
        ::metrics::counter!(metrics::PROBLEMS, "what" => what).increment(1);
    }
}
