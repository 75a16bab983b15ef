//! The turns: look, decide, act, log.

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    path::Path,
};

use aws_config::SdkConfig;
use flotilla_runtime::{
    failure::Failure,
    health::{self, Health},
    metrics::install,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    act::Hands,
    books::Books,
    config::AutoscalerConfig,
    fleet::{Fleet, Rows, Senders},
    group::{Described, FailedLaunches, Group},
    hearing::{Hearing, Patience},
    look, metrics, now_ms,
    owner::Owner,
    queues::Queues,
    watch::Watch,
};
use crate::{
    decide::decide,
    memory::Memory,
    observed::{Millis, Observed, QueueSeen},
    policy::Policy,
    record::Record,
    shadow::Shadow,
};

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
    books: Books,
    watch: Watch,
    shadow: Shadow,
    hearing: Hearing,
    /// Launches of the group that failed.
    failed: FailedLaunches,
    log: Box<dyn Write + Send>,
}

impl Autoscaler {
    fn new(config: AutoscalerConfig, sdk: &SdkConfig) -> Result<Self, Failure> {
        let fleet = Fleet::new(sdk, &config.fleet_table, &config.group);
        Ok(Self {
            group: Group::new(sdk, &config.group),
            queues: Queues::new(sdk, &config),
            watch: Watch::new(sdk, &config),
            owner: Owner::new(fleet.clone(), &config.id, config.lease),
            log: open(config.log.as_deref())?,
            memory: Memory::default(),
            books: Books::default(),
            shadow: Shadow::default(),
            hearing: Hearing::default(),
            failed: FailedLaunches::since((now_ms() / 1000).cast_signed()),
            fleet,
            config,
        })
    }

    async fn turn(&mut self) -> Result<(), Failure> {
        // One that only watches owns nothing, and stands by for nobody.
        if !self.config.shadow && !self.owns().await? {
            tracing::debug!("another autoscaler owns the group: standing by");
            return Ok(());
        }
        let group = seen(self.group.describe().await);
        let rows = seen(self.fleet.rows().await);
        let mut record = self.decide(group.as_ref(), rows.as_ref()).await;
        let frozen = rows.as_ref().and_then(|rows| rows.frozen.clone());
        record.done = self.act(&record, group.as_ref(), rows.as_ref(), frozen.as_deref()).await;
        if self.config.shadow {
            self.shadow.note(&record.observed, &record.policy, record.now);
            metrics::shadow(&self.shadow.report());
        }
        metrics::decided(&record, frozen.is_some());
        self.write(&record);
        self.memory = record.decision.memory;
        Ok(())
    }

    /// Takes or renews the lease, with the memory that is in it.
    async fn owns(&mut self) -> Result<bool, Failure> {
        let owned = self.owner.hold(&self.memory).await;
        metrics::owner(self.owner.may_act());
        let Some(memory) = owned? else { return Ok(false) };
        self.memory = memory;
        Ok(true)
    }

    /// Launches that failed for want of capacity. Where that cannot be seen there are none: it would
    /// only have kept the group from growing.
    async fn capacity_errors(&mut self) -> u32 {
        seen(self.group.capacity_errors(&mut self.failed).await).unwrap_or_default()
    }

    /// What the senders of each queue counted, of those where all count.
    async fn senders(&self) -> HashMap<String, Option<Senders>> {
        let mut all = HashMap::new();
        for queue in self.config.policy.queues.iter().filter(|queue| queue.counted) {
            all.insert(queue.name.clone(), seen(self.fleet.senders(&queue.name).await));
        }
        all
    }

    async fn decide(&mut self, group: Option<&Described>, rows: Option<&Rows>) -> Record {
        let (mut queues, capacity_errors) =
            (self.queues.look().await, self.capacity_errors().await);
        let now = now_ms();
        let senders = self.senders().await;
        self.books.enter(rows, &senders, &mut queues, now);
        self.watch.look(&mut queues).await;
        let silent = self.listen(rows, &queues, now);
        let observed = look::observed(group, rows, queues, now, &silent);
        let prices = self.config.prices.clone();
        let observed = Observed { capacity_errors, prices, ..observed };
        let (least, most) = group.map_or((0, u32::MAX), |group| (group.min, group.max));
        let base = self.config.policy.clone();
        // The group itself ends none below its minimum and launches none above its maximum.
        let policy = Policy { min: base.min.max(least), max: base.max.min(most), ..base };
        let memory = self.memory.clone();
        let decision = decide(&observed, &policy, &memory, now);
        let group = self.config.group.clone();
        Record { group, now, observed, policy, memory, decision, done: Vec::new() }
    }

    /// Notes what is heard of the workers; gives those that are silent.
    fn listen(
        &mut self,
        rows: Option<&Rows>,
        queues: &[QueueSeen],
        wall: Millis,
    ) -> HashSet<String> {
        let (Some(rows), now) = (rows, Instant::now()) else { return HashSet::new() };
        self.hearing.listen(rows, now);
        let silent = self.hearing.silent(rows, self.config.silent, (now, wall));
        let heard = rows.instances.iter().filter(|(id, _)| !silent.contains(*id));
        let held = heard.map(|(_, row)| u64::from(row.held)).fold(0, u64::saturating_add);
        self.hearing.weigh(queues, held, now);
        silent
    }

    async fn act(
        &self,
        record: &Record,
        group: Option<&Described>,
        rows: Option<&Rows>,
        frozen: Option<&str>,
    ) -> Vec<String> {
        if self.config.shadow {
            return vec!["nothing: it only watches (FLOTILLA_SHADOW)".to_owned()];
        }
        let Some((group, rows)) = group.zip(rows) else { return Vec::new() };
        let Self { owner, group: calls, fleet, config, hearing, .. } = self;
        let boot = record.decision.memory.boot_ms(&record.policy);
        let patience = Patience::new(config.silent, boot, config.count_lag);
        let hands = Hands { owner, group: calls, fleet, hearing, patience };
        let done = match frozen {
            Some(why) => vec![format!("nothing: frozen ({why})")],
            None => hands.act(&record.decision, group, rows).await,
        };
        hands.keep_rows(group, rows).await;
        done
    }

    /// A decision that cannot be logged is made all the same: the fleet matters more.
    fn write(&mut self, record: &Record) {
        let line = serde_json::to_string(record).map_err(io::Error::from);
        // In one write: whoever ends the process between two leaves no half of a line without an end.
        let written = line.and_then(|line| {
            self.log.write_all(format!("{line}\n").as_bytes()).and_then(|()| self.log.flush())
        });
        if let Err(error) = written {
            tracing::error!(%error, "a decision was not logged");
        }
        let reason = &record.decision.reason;
        if !record.done.is_empty() && !self.config.shadow {
            tracing::info!(reason, done = record.done.join(", "), "decided");
        }
    }
}

fn seen<T>(result: Result<T, Failure>) -> Option<T> {
    result.map_err(|failure| tracing::warn!(%failure, "cannot be seen: holding")).ok()
}

fn open(path: Option<&Path>) -> Result<Box<dyn Write + Send>, Failure> {
    let Some(path) = path else { return Ok(Box::new(io::stdout())) };
    let file = appended(path).map_err(|e| {
        let what = format!("the decision log {} (FLOTILLA_DECISION_LOG)", path.display());
        Failure::permanent("log", what).caused_by(e)
    })?;
    Ok(Box::new(file))
}

/// A file at its end, on a line of its own: the last one may have been cut off.
fn appended(path: &Path) -> io::Result<File> {
    let mut file = File::options().create(true).read(true).append(true).open(path)?;
    if file.seek(SeekFrom::End(0))? > 0 {
        file.seek(SeekFrom::End(-1))?;
        let mut last = [0];
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
        }
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_was_cut_off_spoils_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("decisions");
        std::fs::write(&path, "{\"half").unwrap();
        open(Some(&path)).unwrap().write_all(b"{}\n").unwrap();
        open(Some(&path)).unwrap().write_all(b"[]\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"half\n{}\n[]\n");
    }
}
