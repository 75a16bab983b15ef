//! A batch: observe, act on what differs, and write down why.

use std::collections::{BTreeSet, HashMap};

use aws_config::SdkConfig;
use aws_sdk_dynamodb::types::{AttributeValue as Attr, TransactWriteItem, Update};
use flotilla_runtime::{Completion, Failure, Lease, payload::hex};
use sha2::{Digest, Sha256};

use crate::{
    audit::{Audit, Entry, expiry},
    handlers::{AnyHandler, Handler, Refusal, Subject},
    message::{Batch, BatchItem},
    metrics as names,
    plan::{Action, Observed, Step, step},
    store::Store,
};

/// What a batch is worked off with.
#[derive(Debug, Clone)]
pub struct Hands {
    /// The tables.
    pub store: Store,
    /// The audit.
    pub audit: Audit,
    /// The SDK, for the services.
    pub sdk: SdkConfig,
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
    /// Works a batch off and completes its effect.
    ///
    /// # Errors
    /// Transient, when the service throttles or does not answer, or a table does not.
    pub async fn work(&self, batch: &Batch, lease: &Lease) -> Result<(), Failure> {
        let handler = AnyHandler::new(batch.service, &batch.region, &self.sdk);
        let ids: Vec<String> = batch.items.iter().map(|it| it.id.clone()).collect();
        let observed = match handler.observe(&ids).await {
            Ok(observed) => observed,
            Err(why) if why.passes() && !lease.is_last_attempt() => return Err(again(batch, &why)),
            Err(why) => {
                let failed = batch.items.iter().map(|it| failed(batch, it, "unknown", &why));
                self.audit.write(failed.collect()).await?;
                return lease.complete(Vec::new()).await.map(drop);
            }
        };
        let (entries, passing) = act(&handler, batch, &observed).await;
        self.audit.write(entries).await?;
        match passing {
            Some(why) if !lease.is_last_attempt() => Err(again(batch, &why)),
            _ => self.complete(batch, lease).await,
        }
    }

    /// The effect's end, and in the same transaction what contexts and tags tell of it.
    async fn complete(&self, batch: &Batch, lease: &Lease) -> Result<(), Failure> {
        let sources: BTreeSet<&str> = batch.items.iter().map(|it| it.source.as_str()).collect();
        let updates = sources.iter().filter_map(|source| self.acted(source, batch));
        let updates = updates.collect::<Result<Vec<_>, _>>()?;
        if lease.complete(updates).await? == Completion::Refused {
            // One of them was unregistered meanwhile: there is nothing to tell of it.
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

/// Acts on every difference; gives the rows, and a refusal that another attempt may not meet.
async fn act(
    handler: &AnyHandler,
    batch: &Batch,
    observed: &HashMap<String, Observed>,
) -> (Vec<Entry>, Option<Refusal>) {
    let seen = |id: &str| observed.get(id).unwrap_or(&Observed::Gone);
    let (mut entries, mut due) = (Vec::new(), Vec::new());
    for item in &batch.items {
        match step(batch.action, seen(&item.id), &item.reason) {
            Step::Act => due.push(Subject { id: item.id.clone(), attrib: item.attrib.clone() }),
            Step::Skip(kind, why) => {
                entries.push(skipped(batch, item, seen(&item.id).name(), kind, why));
            }
        }
    }
    let mut outcomes = HashMap::new();
    if !due.is_empty() {
        outcomes.extend(handler.act(batch.action, &due).await);
    }
    for item in &batch.items {
        match outcomes.get(&item.id) {
            Some(Ok(())) => entries.push(done(batch, item, seen(&item.id).name())),
            Some(Err(why)) => entries.push(failed(batch, item, seen(&item.id).name(), why)),
            None => {}
        }
    }
    let passing = outcomes.into_values().filter_map(Result::err).find(Refusal::passes);
    (entries, passing)
}

fn again(batch: &Batch, why: &Refusal) -> Failure {
    let (service, region, count) = (batch.service.name(), &batch.region, batch.items.len());
    let what = format!("{count} of {service} in {region}: {}", why.message);
    Failure::transient(why.kind, what)
}

fn done(batch: &Batch, item: &BatchItem, before: &str) -> Entry {
    let after = match batch.action {
        Action::Start => "running",
        Action::Stop => "stopped",
        Action::ModClass => &item.attrib,
    };
    let reason = match batch.occasion.starts_with("tick ") {
        true => format!("{}; it was found {before} since", item.reason),
        false => item.reason.clone(),
    };
    count(batch, "done");
    Entry {
        outcome: "done",
        kind: "acted",
        reason,
        after: after.to_owned(),
        ..entry(batch, item, before)
    }
}

fn failed(batch: &Batch, item: &BatchItem, before: &str, why: &Refusal) -> Entry {
    count(batch, "failed");
    let reason = format!("{} ({})", why.message, item.reason);
    Entry { outcome: "failed", kind: why.kind, reason, ..entry(batch, item, before) }
}

fn skipped(
    batch: &Batch,
    item: &BatchItem,
    before: &str,
    kind: &'static str,
    why: String,
) -> Entry {
    metrics::counter!(names::SKIPS, "kind" => kind).increment(1);
    let at = format!("{}#{}#{kind}", item.since, batch.action.name());
    Entry { at, outcome: "skipped", kind, reason: why, ..entry(batch, item, before) }
}

fn entry(batch: &Batch, item: &BatchItem, before: &str) -> Entry {
    Entry {
        resource: item.target(batch).key(),
        at: format!("{}#{}", batch.tick, batch.action.name()),
        tick: batch.tick.to_string(),
        source: item.source.clone(),
        actor: batch.actor.clone(),
        action: batch.action.name().to_owned(),
        outcome: "done",
        kind: "acted",
        reason: String::new(),
        before: before.to_owned(),
        after: before.to_owned(),
        expires_at: expiry(),
    }
}

fn count(batch: &Batch, outcome: &'static str) {
    let (service, action) = (batch.service.name(), batch.action.name());
    let counter = metrics::counter!(
        names::ACTIONS, "service" => service, "action" => action, "outcome" => outcome
    );
    counter.increment(1);
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
}
