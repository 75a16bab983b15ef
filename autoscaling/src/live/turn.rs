//! The turns: look, decide, act, log.

use std::collections::{HashMap, HashSet};

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
    log::Log,
    look, metrics, now_ms,
    owner::Owner,
    queues::Queues,
    sightings::Sightings,
    watch::Watch,
};
use crate::{
    decide::decide,
    memory::Memory,
    observed::{Millis, Observed, QueueSeen},
    policy::Policy,
    record::{Done, Record},
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
    sightings: Sightings,
    log: Log,
}

impl Autoscaler {
    fn new(config: AutoscalerConfig, sdk: &SdkConfig) -> Result<Self, Failure> {
        let fleet = Fleet::new(sdk, &config.fleet_table, &config.group);
        Ok(Self {
            group: Group::new(sdk, &config.group),
            queues: Queues::new(sdk, &config),
            watch: Watch::new(sdk, &config),
            owner: Owner::new(fleet.clone(), &config.id, config.lease),
            sightings: Sightings::default(),
            log: Log::open(config.log.as_deref())?,
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
            metrics::stands_by();
            return Ok(());
        }
        let group = seen(self.group.describe().await);
        let mut rows = seen(self.fleet.rows().await);
        if let Some(rows) = &mut rows {
            self.sightings.see_ready(rows, now_ms());
        }
        let pooled = group.as_ref().is_some_and(|group| self.sightings.see_pool(group));
        if let (true, Some(group), Some(rows)) = (self.config.shadow, &group, &mut rows) {
            self.sightings.fill_in(group, rows, pooled, now_ms());
        }
        let mut record = self.decide(group.as_ref(), rows.as_ref()).await;
        let frozen = rows.as_ref().and_then(|rows| rows.frozen.clone());
        record.done.extend(self.why_nothing(frozen.as_deref()));
        // Before anything is done: an end of the process in between leaves no act without its inputs.
        self.log.write(&record);
        let acted = self.act(&record, group.as_ref().zip(rows.as_ref()), pooled).await;
        metrics::decided(&record, frozen.is_some());
        if self.config.shadow {
            self.shadow.note(&record.observed, &record.policy, record.now);
            metrics::shadow(&self.shadow.report());
        }
        self.memory = record.decision.memory;
        acted
    }

    /// Why nothing is done of a decision, whatever it is.
    fn why_nothing(&self, frozen: Option<&str>) -> Option<String> {
        match (self.config.shadow, frozen) {
            (true, _) => Some("nothing: it only watches (FLOTILLA_SHADOW)".to_owned()),
            (false, Some(why)) => Some(format!("nothing: frozen ({why})")),
            (false, None) => None,
        }
    }

    /// Whether it owns the group: from a turn before, or by the lease, which it takes with the memory
    /// that is in it.
    async fn owns(&mut self) -> Result<bool, Failure> {
        if self.owner.may_act() {
            return Ok(true);
        }
        let memory = self.memory.clone();
        let kept = self.hold(&memory).await?;
        let owned = kept.is_some();
        self.memory = kept.unwrap_or(memory);
        Ok(owned)
    }

    /// Takes or renews the lease, and writes down what is remembered.
    async fn hold(&mut self, memory: &Memory) -> Result<Option<Memory>, Failure> {
        let held = self.owner.hold(memory).await;
        metrics::owner(self.owner.may_act());
        held
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
        let spot_interruptions = self.sightings.newly_lost(look::lost(group, rows));
        let observed = Observed { capacity_errors, prices, spot_interruptions, ..observed };
        let policy = bounded(&self.config.policy, group.map(|group| (group.min, group.max)));
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

    /// Does what was decided, with a whole lease before it, and logs what was done.
    async fn act(
        &mut self,
        record: &Record,
        seen: Option<(&Described, &Rows)>,
        pooled: bool,
    ) -> Result<(), Failure> {
        if self.config.shadow {
            return Ok(());
        }
        let held = self.hold(&record.decision.memory).await;
        let done = match (&held, seen) {
            (Ok(None), _) => vec!["nothing: another autoscaler took over".to_owned()],
            (Ok(Some(_)), Some((group, rows))) => self.hands(record, group, rows, pooled).await,
            _ => Vec::new(),
        };
        if !done.is_empty() {
            let reason = &record.decision.reason;
            tracing::info!(reason, done = done.join(", "), "decided");
            self.log.write(&Done { group: record.group.clone(), now: record.now, done });
        }
        held.map(drop)
    }

    async fn hands(
        &mut self,
        record: &Record,
        group: &Described,
        rows: &Rows,
        pooled: bool,
    ) -> Vec<String> {
        let Self { owner, group: calls, fleet, config, hearing, sightings, .. } = self;
        let boot = record.decision.memory.boot_ms(&record.policy);
        let patience = Patience::new(config.silent, boot, config.count_lag);
        let hands = Hands { owner, group: calls, fleet, hearing, patience, pooled };
        let mut done = Vec::new();
        if rows.frozen.is_none() && !record.decision.hold {
            done = hands.act(&record.decision, group, rows).await;
            let drained = sightings.newly_drained(group, rows);
            let again = hands.release(drained, &config.hook, &mut done).await;
            sightings.not_released(&again);
        }
        hands.keep_rows(group, rows).await;
        done
    }
}

/// A policy within the sizes of its group, which itself ends none below its minimum and launches none
/// above its maximum.
fn bounded(policy: &Policy, sizes: Option<(u32, u32)>) -> Policy {
    let (least, most) = sizes.unwrap_or((0, u32::MAX));
    Policy { min: policy.min.max(least), max: policy.max.min(most), ..policy.clone() }
}

fn seen<T>(result: Result<T, Failure>) -> Option<T> {
    result.map_err(|failure| tracing::warn!(%failure, "cannot be seen now")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_groups_own_minimum_and_maximum_bound_the_policys() {
        let policy = Policy { min: 2, ..Policy::for_queue("q", 7) };
        let within = |sizes| {
            let Policy { min, max, .. } = bounded(&policy, sizes);
            (min, max)
        };
        assert_eq!(within(None), (2, 7));
        assert_eq!([within(Some((0, 9))), within(Some((3, 5)))], [(2, 7), (3, 5)]);
    }
}
