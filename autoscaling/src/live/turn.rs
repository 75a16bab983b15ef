//! The turns: look, decide, act, log.

use std::{
    fs::File,
    io::{self, Write},
    path::Path,
};

use aws_config::SdkConfig;
use flotilla_runtime::{
    failure::Failure,
    health::{self, Health},
    metrics::install,
};
use tokio_util::sync::CancellationToken;

use super::{
    act::Hands,
    config::AutoscalerConfig,
    fleet::{Fleet, Rows},
    group::{Described, Group},
    look, metrics, now_ms,
    owner::Owner,
    queues::Queues,
};
use crate::{decide::decide, memory::Memory, policy::Policy, record::Record};

/// Sizes the group of `config` until `shutdown`.
///
/// # Errors
/// When it cannot start: the HTTP address is taken, or the decision log cannot be written to.
/// Everything else is tried again.
pub async fn run(
    config: AutoscalerConfig,
    sdk: &SdkConfig,
    shutdown: CancellationToken,
) -> Result<(), Failure> {
    let handle = install("autoscaler")
        .map_err(|e| Failure::permanent("metrics", "the metrics recorder").caused_by(e))?;
    metrics::begin();
    let (health, end) = (Health::new(config.every), CancellationToken::new());
    let _end = end.clone().drop_guard();
    health::serve(&config.http_addr, health.clone(), handle, end.clone()).await?;
    let mut scaler = Autoscaler::new(config, sdk)?;
    let mut failures = 0;
    while !shutdown.is_cancelled() {
        match scaler.turn().await {
            Ok(()) => {
                failures = 0;
                health.polled();
            }
            Err(failure) => {
                failures += 1;
                metrics::failed();
                health.failing(&failure, failures);
                tracing::warn!(%failure, failures, "nothing was decided");
            }
        }
        let _ = shutdown.run_until_cancelled(tokio::time::sleep(scaler.config.every)).await;
    }
    scaler.owner.let_go().await
}

struct Autoscaler {
    config: AutoscalerConfig,
    group: Group,
    fleet: Fleet,
    queues: Queues,
    owner: Owner,
    memory: Memory,
    log: Box<dyn Write + Send>,
}

impl Autoscaler {
    fn new(config: AutoscalerConfig, sdk: &SdkConfig) -> Result<Self, Failure> {
        let fleet = Fleet::new(sdk, &config.fleet_table, &config.group);
        Ok(Self {
            group: Group::new(sdk, &config.group),
            queues: Queues::new(sdk, &config),
            owner: Owner::new(fleet.clone(), &config.id, config.lease),
            log: open(config.log.as_deref())?,
            memory: Memory::default(),
            fleet,
            config,
        })
    }

    async fn turn(&mut self) -> Result<(), Failure> {
        let owned = self.owner.hold(&self.memory).await;
        metrics::owner(self.owner.may_act());
        let Some(memory) = owned? else {
            tracing::debug!("another autoscaler owns the group: standing by");
            return Ok(());
        };
        self.memory = memory;
        let group = seen(self.group.describe().await);
        let rows = seen(self.fleet.rows().await);
        let mut record = self.decide(group.as_ref(), rows.as_ref()).await;
        let frozen = rows.as_ref().and_then(|rows| rows.frozen.clone());
        record.done = self.act(&record, group.as_ref(), rows.as_ref(), frozen.as_deref()).await;
        metrics::decided(&record, frozen.is_some());
        self.write(&record);
        self.memory = record.decision.memory;
        Ok(())
    }

    async fn decide(&self, group: Option<&Described>, rows: Option<&Rows>) -> Record {
        let queues = self.queues.look().await;
        let now = now_ms();
        let observed = look::observed(group, rows, queues, now, self.config.silent);
        let limit = group.map_or(u32::MAX, |group| group.max);
        let policy =
            Policy { max: self.config.policy.max.min(limit), ..self.config.policy.clone() };
        let memory = self.memory.clone();
        let decision = decide(&observed, &policy, &memory, now);
        let group = self.config.group.clone();
        Record { group, now, observed, policy, memory, decision, done: Vec::new() }
    }

    async fn act(
        &self,
        record: &Record,
        group: Option<&Described>,
        rows: Option<&Rows>,
        frozen: Option<&str>,
    ) -> Vec<String> {
        if let Some(why) = frozen {
            return vec![format!("nothing: frozen ({why})")];
        }
        let Some((group, rows)) = group.zip(rows) else { return Vec::new() };
        let Self { owner, group: calls, fleet, config, .. } = self;
        let hands = Hands { owner, group: calls, fleet, silent: config.silent };
        hands.act(&record.decision, group, rows).await
    }

    /// A decision that cannot be logged is made all the same: the fleet matters more.
    fn write(&mut self, record: &Record) {
        let line = serde_json::to_string(record).map_err(io::Error::from);
        let written =
            line.and_then(|line| writeln!(self.log, "{line}").and_then(|()| self.log.flush()));
        if let Err(error) = written {
            tracing::error!(%error, "a decision was not logged");
        }
        let reason = &record.decision.reason;
        if !record.done.is_empty() {
            tracing::info!(reason, done = record.done.join(", "), "decided");
        }
    }
}

fn seen<T>(result: Result<T, Failure>) -> Option<T> {
    result.map_err(|failure| tracing::warn!(%failure, "cannot be seen: holding")).ok()
}

fn open(path: Option<&Path>) -> Result<Box<dyn Write + Send>, Failure> {
    let Some(path) = path else { return Ok(Box::new(io::stdout())) };
    let file = File::options().create(true).append(true).open(path).map_err(|e| {
        let what = format!("the decision log {} (FLOTILLA_DECISION_LOG)", path.display());
        Failure::permanent("log", what).caused_by(e)
    })?;
    Ok(Box::new(file))
}
