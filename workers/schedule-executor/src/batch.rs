//! A batch: observe, act on what differs, and write down why.

mod outcome;
mod stages;

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use aws_sdk_dynamodb::types::{AttributeValue as Attr, TransactWriteItem, Update};
use flotilla_runtime::{Completion, Failure, Lease, payload::hex};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use self::outcome::{dry, failed, skipped};
use crate::{
    audit::{Audit, BULK, Entry},
    handlers::{AnyHandler, Handler, Limits, Places, Refusal, Seen, Subject},
    message::{Batch, BatchItem},
    plan::{Action, Asked, Observed, Step, reconcile},
    rows::Held,
    store::Store,
};

/// The most sources that are told of an end in its transaction; the others are told before.
const TOLD: usize = 90;

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
    /// How long a stage waits for those before it within one message.
    pub stage_wait: Duration,
    /// After how long a stage goes on whatever those before it are.
    pub stage_limit: Duration,
}

/// A resource of a batch, with what is known of it and what is to be done.
#[derive(Debug)]
struct Case<'a> {
    item: &'a BatchItem,
    key: String,
    seen: Seen,
    held: Option<&'a Held>,
    step: Step,
}

/// The name of a batch's effect: these resources, this action, this occasion.
pub fn effect_key(batch: &Batch) -> String {
    let mut parts =
        vec![batch.account.clone(), batch.action.name().to_owned(), batch.occasion.clone()];
    parts.extend(batch.items.iter().map(|it| format!("{} {} {}", it.source, it.id, it.since)));
    let hash = hex(&Sha256::digest(parts.join("\n")));
    format!("{}/{}/{hash}", batch.service.name(), batch.region)
}

impl Hands {
    /// Works a batch off and completes its effect; a dry run has none.
    ///
    /// # Errors
    /// Transient, when the service throttles or does not answer, or a table does not.
    pub async fn work(&self, batch: &Batch, lease: &Lease) -> Result<(), Failure> {
        if let Some(why) = self.gated(batch).await? {
            let entries = batch
                .items
                .iter()
                .map(|it| skipped(batch, it, batch.action, "unknown", "waiting", why.clone()));
            self.audit.write(entries.collect()).await?;
            return ended(lease, batch).await;
        }
        let handler = match self.handler(batch).await {
            Ok(handler) => handler,
            Err(why) => return self.refused(batch, &why, lease).await,
        };
        let ids: Vec<String> = batch.items.iter().map(|it| it.id.clone()).collect();
        let observed = match handler.observe(&ids).await {
            Ok(observed) => observed,
            Err(why) if why.passes() && !lease.is_last_attempt() => return Err(again(batch, &why)),
            Err(why) => return self.refused(batch, &why, lease).await,
        };
        let keys: Vec<String> = batch.items.iter().map(|it| it.target(batch).key()).collect();
        let held = self.store.held(&keys).await?;
        let cases: Vec<Case<'_>> = cases(batch, keys, &observed, &held);
        if batch.dry_run {
            let entries = dry(batch, &cases, &handler).await;
            return self.audit.write(entries).await;
        }
        let (mut entries, passing) = self.act(batch, &cases, &handler).await?;
        entries.append(&mut self.bulk(batch, &entries).await?);
        self.audit.write(entries).await?;
        match passing {
            Some(why) if !lease.is_last_attempt() => Err(again(batch, &why)),
            _ => self.complete(batch, lease).await,
        }
    }

    async fn handler(&self, batch: &Batch) -> Result<AnyHandler, Refusal> {
        let sdk = self.places.at(&batch.account, &batch.region).await?;
        let caller = self.limits.caller(&batch.account, &batch.region, batch.service);
        Ok(AnyHandler::new(batch.service, &sdk, caller))
    }

    /// None of it could be looked at.
    async fn refused(&self, batch: &Batch, why: &Refusal, lease: &Lease) -> Result<(), Failure> {
        let failed = batch.items.iter().map(|it| failed(batch, it, batch.action, "unknown", why));
        self.audit.write(failed.collect()).await?;
        ended(lease, batch).await
    }

    /// Acts on every difference; gives the rows, and a refusal that another attempt may not meet.
    async fn act(
        &self,
        batch: &Batch,
        cases: &[Case<'_>],
        handler: &AnyHandler,
    ) -> Result<(Vec<Entry>, Option<Refusal>), Failure> {
        self.keep_sizes(cases).await?;
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
            let fields = case.note(batch, outcomes.get(&case.item.id))?;
            Some((case.key.as_str(), fields))
        });
        self.store.hold_all(&notes.collect::<Vec<_>>()).await?;
        let entries = cases.iter().filter_map(|it| it.entry(batch, outcomes.get(&it.item.id)));
        let entries = entries.collect();
        let passing = outcomes.into_values().filter_map(Result::err).find(Refusal::passes);
        Ok((entries, passing))
    }

    /// The sizes that stops will lose, before they do.
    async fn keep_sizes(&self, cases: &[Case<'_>]) -> Result<(), Failure> {
        let stops = cases.iter().filter(|it| matches!(it.step, Step::Act(Action::Stop, _)));
        let sizes = stops
            .filter_map(|it| Some((it.key.as_str(), json!({ "size": it.seen.size.as_ref()? }))));
        self.store.hold_all(&sizes.collect::<Vec<_>>()).await
    }

    /// What was done, a second time under its bulk action, so that it can be undone.
    async fn bulk(&self, batch: &Batch, entries: &[Entry]) -> Result<Vec<Entry>, Failure> {
        let done = entries.iter().filter(|it| it.outcome == "done" && it.action != "MODCLASS");
        let rows = done.map(|it| Entry {
            resource: format!("{BULK}/{}", batch.bulk),
            at: it.resource.clone(),
            ..it.clone()
        });
        let rows: Vec<Entry> = rows.collect();
        if !rows.is_empty() && !batch.bulk.is_empty() {
            self.store.note_bulk(&batch.bulk, batch.tick).await?;
            return Ok(rows);
        }
        Ok(Vec::new())
    }

    /// The effect's end, and in the same transaction what contexts and tags tell of it.
    async fn complete(&self, batch: &Batch, lease: &Lease) -> Result<(), Failure> {
        let sources: BTreeSet<&str> = batch.items.iter().map(|it| it.source.as_str()).collect();
        let sources: Vec<&str> = sources.into_iter().collect();
        let (told, before) = sources.split_at(sources.len().min(TOLD));
        for source in before {
            self.store.acted(source, batch.action == Action::Start, batch.tick).await?;
        }
        let updates = told.iter().filter_map(|source| self.acted(source, batch));
        let updates = updates.collect::<Result<Vec<_>, _>>()?;
        if lease.complete(updates).await? == Completion::Refused {
            // One of them was unregistered meanwhile: each is told by itself.
            for source in told {
                self.store.acted(source, batch.action == Action::Start, batch.tick).await?;
            }
            lease.complete(Vec::new()).await?;
        }
        Ok(())
    }

    /// What a context or tag is told: in which state it is, and when it was acted on last.
    fn acted(&self, source: &str, batch: &Batch) -> Option<Result<TransactWriteItem, Failure>> {
        let (kind, name) = source.split_once('/')?;
        let names = self.store.parts().1;
        let (table, key) = match kind {
            "context" => (&names.contexts, "contextID"),
            _ => (&names.tags, "tagKey"),
        };
        let update = Update::builder()
            .table_name(table)
            .key(key, Attr::S(name.to_owned()))
            .update_expression("SET powerState = :power, lastScheduling = :now")
            .condition_expression("attribute_exists(#key)")
            .expression_attribute_names("#key", key)
            .expression_attribute_values(":power", Attr::Bool(batch.action == Action::Start))
            .expression_attribute_values(":now", Attr::N(batch.tick.as_second().to_string()))
            .build();
        let update = update.map(|it| TransactWriteItem::builder().update(it).build());
        Some(update.map_err(|e| Failure::permanent("request", "a source's row").caused_by(e)))
    }
}

async fn ended(lease: &Lease, batch: &Batch) -> Result<(), Failure> {
    if batch.dry_run {
        return Ok(());
    }
    lease.complete(Vec::new()).await.map(drop)
}

fn cases<'a>(
    batch: &'a Batch,
    keys: Vec<String>,
    observed: &HashMap<String, Seen>,
    held: &'a HashMap<String, Held>,
) -> Vec<Case<'a>> {
    let case = |(item, key): (&'a BatchItem, String)| {
        let seen = observed.get(&item.id).cloned().unwrap_or_else(|| Observed::Gone.into());
        let held = held.get(&key);
        let asked = Asked {
            action: batch.action,
            service: batch.service,
            mode: batch.mode,
            hand: batch.actor == "hand",
            reason: &item.reason,
        };
        let step = reconcile(asked, held, &seen.state, batch.tick);
        Case { item, key, seen, held, step }
    };
    batch.items.iter().zip(keys).map(case).collect()
}

impl Case<'_> {
    fn subject(&self) -> Subject {
        let size = self.held.and_then(|held| held.size.clone());
        Subject { id: self.item.id.clone(), attrib: self.item.attrib.clone(), size }
    }

    /// What is to be kept of it: what was done last, by whom, and how long a start took.
    fn note(&self, batch: &Batch, outcome: Option<&Result<String, Refusal>>) -> Option<Value> {
        let now = batch.tick.as_second();
        let held = self.held;
        match (&self.step, outcome) {
            (Step::Act(Action::ModClass, _), _) => None,
            (Step::Act(action, _), Some(Ok(_))) => Some(json!({
                "acted": action, "actedAt": now, "starting": *action == Action::Start, "byHand": false,
            })),
            (Step::Skip("by_hand", _), _) => {
                held.is_some_and(|it| !it.by_hand).then(|| json!({ "byHand": true }))
            }
            (Step::Skip("already" | "on_its_way", _), _) => {
                let on = self.seen.state == Observed::On;
                if let Some(held) = held.filter(|it| it.starting && on) {
                    let lead = learned(held.lead, now - held.acted_at);
                    return Some(json!({ "starting": false, "leadSeconds": lead }));
                }
                // Somebody else brought it there: from now on it is as if the schedule had.
                let action = if on { Action::Start } else { Action::Stop };
                let settled = matches!(self.seen.state, Observed::On | Observed::Off);
                let new = settled && held.and_then(|it| it.acted) != Some(action);
                new.then(|| json!({ "acted": action, "actedAt": now, "byHand": false }))
            }
            _ => None,
        }
    }
}

/// A longer start counts at once, a shorter one by a quarter: to be ready late costs more than to
/// be ready early.
fn learned(before: i64, now: i64) -> i64 {
    if now >= before { now } else { before - (before - now) / 4 }
}

fn again(batch: &Batch, why: &Refusal) -> Failure {
    let (service, region, count) = (batch.service.name(), &batch.region, batch.items.len());
    let what = format!("{count} of {service} in {region}: {}", why.message);
    Failure::transient(why.kind, what)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_effect_is_named_by_its_resources_and_occasion_and_not_by_its_tick() {
        let batch = |id: &str, tick: &str, occasion: &str| -> Batch {
            serde_json::from_value(json!({
                "account": "", "region": "r", "service": "ec2:instance", "action": "START",
                "tick": tick, "actor": "schedule", "occasion": occasion,
                "items": [{"id": id, "source": "context/a", "since": "2026-01-01T08:00:00Z", "reason": tick}],
            })).unwrap()
        };
        let first = effect_key(&batch("i-1", "2026-01-01T08:00:00Z", "transition"));
        assert_eq!(first, effect_key(&batch("i-1", "2026-01-01T08:01:00Z", "transition")));
        assert_ne!(first, effect_key(&batch("i-2", "2026-01-01T08:00:00Z", "transition")));
        assert_ne!(first, effect_key(&batch("i-1", "2026-01-01T08:00:00Z", "tick 1")));
    }

    #[test]
    fn a_longer_start_is_learned_at_once_and_a_shorter_one_by_and_by() {
        assert_eq!(learned(0, 240), 240);
        assert_eq!(learned(240, 300), 300);
        assert_eq!(learned(240, 120), 210);
    }
}
