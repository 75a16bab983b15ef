//! A stage waits until those before it are ready.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use flotilla_runtime::Failure;
use jiff::Timestamp;

use super::Hands;
use crate::{
    arn::Target,
    handlers::{AnyHandler, Handler},
    message::Batch,
    plan::Action,
    rows::{Service, stage_of},
    schedule::Power,
};

/// The pause between two looks: it doubles from the first up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);

impl Hands {
    /// Waits for the stages before that of a batch: databases before what uses them, and the other
    /// way around for a stop. Gives what it waits for still, in words; nothing where it may go on.
    ///
    /// # Errors
    /// Transient, when a table does not answer.
    pub(super) async fn gated(&self, batch: &Batch) -> Result<Option<String>, Failure> {
        let power = match (batch.dry_run, batch.action) {
            (true, _) | (_, Action::ModClass) => return Ok(None),
            (_, Action::Start) => Power::On,
            (_, Action::Stop) => Power::Off,
        };
        let first = self.before(batch).await?;
        let since = batch.items.iter().map(|it| it.since).min().unwrap_or(batch.tick);
        // An order is older than its clock tells: it comes again until its stage may go on.
        let clock = if batch.actor == "hand" { Timestamp::now() } else { batch.tick };
        let waited = clock.as_second() - since.as_second();
        let limit = i64::try_from(self.stage_limit.as_secs()).unwrap_or(i64::MAX);
        if first.is_empty() || waited >= limit {
            return Ok(None);
        }
        let (start, mut pause) = (Instant::now(), FIRST_PAUSE);
        loop {
            let left = self.not_yet(&first, power).await;
            if left.is_none() || start.elapsed() + pause > self.stage_wait {
                return Ok(left);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// The resources of the stages that come first.
    async fn before(&self, batch: &Batch) -> Result<Vec<Target>, Failure> {
        let Some(gate) = &batch.gate else { return Ok(Vec::new()) };
        let Some(context) = self.store.context(&gate.context).await? else {
            return Ok(Vec::new());
        };
        let row = self.store.resources(&gate.context).await?;
        let changed = match &gate.undone {
            Some(bulk) => Some(self.audit.bulk(bulk).await?),
            None => None,
        };
        let counts = |target: &Target| {
            changed.as_ref().is_none_or(|all| all.iter().any(|it| it.key == target.key()))
        };
        let mut first = Vec::new();
        for (service, list) in &row.lists {
            for (id, scheduled) in list.id.iter().zip(&list.scheduled) {
                let Ok(target) = self.home.target(*service, id) else { continue };
                let stage = stage_of(&context.stages, *service, id);
                let earlier = match batch.action {
                    Action::Start => stage < gate.stage,
                    _ => stage > gate.stage,
                };
                if *scheduled && earlier && counts(&target) {
                    first.push(target);
                }
            }
        }
        Ok(first)
    }

    /// The first of them that is not in a state yet. What cannot be looked at is not waited for:
    /// its own batch tells why.
    async fn not_yet(&self, targets: &[Target], power: Power) -> Option<String> {
        let mut places = BTreeMap::<(&str, &str, Service), Vec<&Target>>::new();
        for target in targets {
            let place = (target.account.as_str(), target.region.as_str(), target.service);
            places.entry(place).or_default().push(target);
        }
        for ((account, region, service), targets) in places {
            let Ok(sdk) = self.places.at(account, region).await else { continue };
            let caller = self.limits.caller(account, region, service);
            let handler = AnyHandler::new(service, &sdk, caller);
            for targets in targets.chunks(crate::message::BATCH) {
                let ids: Vec<String> = targets.iter().map(|it| it.id.clone()).collect();
                let Ok(seen) = handler.observe(&ids).await else { continue };
                let late = targets.iter().find_map(|target| {
                    let state = &seen.get(&target.id)?.state;
                    (!state.settled(power)).then(|| (target.key(), state.name().to_owned()))
                });
                if let Some((key, state)) = late {
                    return Some(format!("it waits for {key}, which is {state}"));
                }
            }
        }
        None
    }
}
