//! A batch: observe, act on what differs, and write down why.

mod case;
mod claims;
mod intent;
mod outcome;
mod recheck;
mod stages;
mod told;

use std::{collections::HashMap, sync::Arc, time::Duration};

use flotilla_runtime::{Failure, Lease, payload::hex};
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use self::{
    case::{Case, cases},
    outcome::{dry, failed, skipped, unmade},
};
use crate::{
    arn::Home,
    audit::{Audit, Entry},
    handlers::{AnyHandler, Handler, Limits, Places, Refusal, Subject},
    message::Batch,
    plan::{Action, Step},
    rows::Settings,
    store::Store,
};

/// After how long an order whose stage has to wait is looked at again.
const AGAIN: Duration = Duration::from_secs(5);
/// Ticks that are so many seconds apart look soon enough at a stage that has to wait.
const OFTEN: i64 = 60;

/// What a batch is worked off with.
#[derive(Debug, Clone)]
pub struct Hands {
    /// The tables.
    pub store: Store,
    /// The audit.
    pub audit: Audit,
    /// Accounts and regions.
    pub places: Places,
    /// The rates of all services.
    pub limits: Arc<Limits>,
    /// Where ids are that are no ARNs.
    pub home: Home,
    /// How long a stage waits for those before it within one message.
    pub stage_wait: Duration,
    /// After how long a stage goes on whatever those before it are.
    pub stage_limit: Duration,
    /// How many stages may wait at a time, each in a slot.
    pub seats: Arc<Semaphore>,
}

/// The name of a batch's effect: these resources, this action, this occasion.
pub fn effect_key(batch: &Batch) -> String {
    let mut parts =
        vec![batch.account.clone(), batch.action.name().to_owned(), batch.occasion.clone()];
    parts.extend(batch.items.iter().map(|it| format!("{} {} {}", it.source, it.id, it.since)));
    if batch.turn > 0 {
        parts.push(format!("turn {}", batch.turn));
    }
    let hash = hex(&Sha256::digest(parts.join("\n")));
    format!("{}/{}/{hash}", batch.service.name(), batch.region)
}

impl Hands {
    /// Works a batch off and completes its effect; a dry run has none.
    ///
    /// # Errors
    /// Transient, when the service throttles or does not answer, or a table does not.
    pub async fn work(&self, batch: &Batch, lease: &Lease) -> Result<(), Failure> {
        let by = effect_key(batch);
        let Some(batch) = &self.let_in(batch, lease).await? else { return Ok(()) };
        let handler = match self.handler(batch).await {
            Ok(handler) => handler,
            Err(why) => return self.refused(batch, &why, lease).await,
        };
        let ids: Vec<String> = batch.items.iter().map(|it| it.id.clone()).collect();
        let keys: Vec<String> = batch.items.iter().map(|it| it.target(batch).key()).collect();
        // Before the look: whoever acts after it changes what is known, and so is noticed.
        let held = self.store.held(&keys).await?;
        let observed = match handler.observe(&ids).await {
            Ok(observed) => observed,
            Err(why) if why.passes() && !lease.is_last_attempt() => return Err(again(batch, &why)),
            Err(why) => return self.refused(batch, &why, lease).await,
        };
        let cases: Vec<Case<'_>> = cases(batch, keys, &observed, &held);
        if batch.dry_run {
            let entries = dry(batch, &cases, &handler).await;
            return self.audit.write(entries).await;
        }
        self.switch((batch, &by), cases, &handler, lease).await
    }

    /// What of a batch is to be done now; nothing where none of it is wanted any more, or its stage has
    /// to wait. Then it is over.
    async fn let_in(&self, batch: &Batch, lease: &Lease) -> Result<Option<Batch>, Failure> {
        let batch = self.narrowed(batch, lease).await?;
        if !batch.items.is_empty()
            && let Some(why) = self.gated(&batch).await?
        {
            self.waits(&batch, &why, lease).await?;
            return Ok(None);
        }
        // While its stage waited here, somebody may have asked for something else.
        let batch = match &batch.gate {
            Some(_) if !batch.items.is_empty() => self.narrowed(&batch, lease).await?,
            _ => batch,
        };
        if batch.items.is_empty() {
            self.unchanged(&batch).await?;
            ended(lease, &batch).await?;
            return Ok(None);
        }
        Ok(Some(batch))
    }

    /// The batch without what is not wanted any more, which is written down.
    async fn narrowed(&self, batch: &Batch, lease: &Lease) -> Result<Batch, Failure> {
        let (batch, left) = self.still_wanted(batch, lease.delivery().age()).await?;
        self.audit.write(left).await?;
        Ok(batch)
    }

    /// Acts on what differs and is claimed, writes down what came of it, and completes the effect.
    async fn switch(
        &self,
        (batch, by): (&Batch, &str),
        mut cases: Vec<Case<'_>>,
        handler: &AnyHandler,
        lease: &Lease,
    ) -> Result<(), Failure> {
        let barred = self.claim((batch, by), &mut cases).await?;
        let (mut entries, passing) = self.act((batch, by), &cases, handler).await?;
        if lease.attempt() > 1 {
            self.made_good(batch, &cases, &mut entries).await?;
        }
        let failed: Vec<(String, String)> = entries.iter().flat_map(unmade).collect();
        self.audit.write(entries).await?;
        self.audit.forget(&failed).await?;
        match passing.or(barred) {
            Some(why) if !lease.is_last_attempt() => Err(again(batch, &why)),
            _ => self.complete(batch, Some(batch.action == Action::Start), lease).await,
        }
    }

    /// Writes down that nobody works a batch off, and why.
    ///
    /// # Errors
    /// Transient, when the audit's table does not answer.
    pub async fn left(&self, batch: &Batch, kind: &'static str, why: &str) -> Result<(), Failure> {
        let row = |it| {
            skipped(batch, it, batch.action, "unknown", kind, format!("{why} ({})", it.reason))
        };
        self.audit.write(batch.items.iter().map(row).collect()).await
    }

    async fn handler(&self, batch: &Batch) -> Result<AnyHandler, Refusal> {
        let sdk = self.places.at(&batch.account, &batch.region).await?;
        let caller = self.limits.caller(&batch.account, &batch.region, batch.service);
        Ok(AnyHandler::new(batch.service, &sdk, caller))
    }

    /// Its stage has to wait. The next tick sends it again; an order, which no tick knows of, is
    /// sent again here, and so is what the next tick is far from.
    async fn waits(&self, batch: &Batch, why: &str, lease: &Lease) -> Result<(), Failure> {
        let entries = batch
            .items
            .iter()
            .map(|it| skipped(batch, it, batch.action, "unknown", "waiting", why.to_owned()));
        self.audit.write(entries.collect()).await?;
        if batch.actor == "hand" || is_far(batch, &self.store.settings().await?) {
            let later = later(batch, lease.delivery().age());
            lease.send_after(&json!({ "batch": later }).to_string(), AGAIN).await?;
        }
        ended(lease, batch).await
    }

    /// None of it could be looked at. That is an act all the same: what is mended by its operator
    /// is done by the next tick, and not at the next rule.
    async fn refused(&self, batch: &Batch, why: &Refusal, lease: &Lease) -> Result<(), Failure> {
        let mark = if batch.dry_run { "#dry" } else { "" };
        let failed = batch.items.iter().map(|it| {
            let mut row = failed(batch, it, batch.action, "unknown", why);
            row.at.push_str(mark);
            row
        });
        self.audit.write(failed.collect()).await?;
        if batch.dry_run {
            return Ok(());
        }
        self.unchanged(batch).await?;
        self.complete(batch, None, lease).await
    }

    /// Acts on every difference; gives the rows, and a refusal that another attempt may not meet.
    async fn act(
        &self,
        (batch, by): (&Batch, &str),
        cases: &[Case<'_>],
        handler: &AnyHandler,
    ) -> Result<(Vec<Entry>, Option<Refusal>), Failure> {
        self.intend(batch, cases).await?;
        let mut outcomes = HashMap::new();
        for action in [Action::Start, Action::Stop, Action::ModClass] {
            let due =
                cases.iter().filter(|it| matches!(it.step, Step::Act(due, _) if due == action));
            let due: Vec<Subject> = due.map(Case::subject).collect();
            if !due.is_empty() {
                outcomes.extend(handler.act(action, &due).await);
            }
        }
        let notes = cases.iter().filter_map(|case| {
            let fields = case.note((batch, by), outcomes.get(&case.item.id))?;
            Some((case.key.as_str(), fields))
        });
        self.store.hold_all(&notes.collect::<Vec<_>>()).await?;
        let entries = cases.iter().flat_map(|it| it.entries(batch, outcomes.get(&it.item.id)));
        let entries = entries.collect();
        let passing = outcomes.into_values().filter_map(Result::err).find(Refusal::passes);
        Ok((entries, passing))
    }
}

/// Whether the next tick is far from a batch, and has not come yet.
fn is_far(batch: &Batch, settings: &Settings) -> bool {
    let seldom = settings.period.is_some_and(|period| period > OFTEN);
    seldom && settings.last_tick <= batch.tick.as_second()
}

/// A batch as it is sent again, of an age. An order goes by the clock, and not by how long it waited.
fn later(batch: &Batch, age: Duration) -> Batch {
    let waited = match batch.actor.as_str() {
        "hand" => 0,
        _ => u32::try_from(age.as_secs()).unwrap_or(u32::MAX),
    };
    let waited = batch.waited.saturating_add(waited);
    Batch { turn: batch.turn.saturating_add(1), waited, ..batch.clone() }
}

async fn ended(lease: &Lease, batch: &Batch) -> Result<(), Failure> {
    if batch.dry_run {
        return Ok(());
    }
    lease.complete(Vec::new()).await.map(drop)
}

fn again(batch: &Batch, why: &Refusal) -> Failure {
    let (service, region, count) = (batch.service.name(), &batch.region, batch.items.len());
    let what = format!("{count} of {service} in {region}: {}", why.message);
    Failure::transient(why.kind, what)
}

#[cfg(test)]
mod tests;
