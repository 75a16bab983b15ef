//! What contexts and tags are told of a batch, in the transaction of its end.

use std::collections::BTreeMap;

use flotilla_runtime::{Completion, Failure, Lease};

use super::Hands;
use crate::message::Batch;

/// The most sources that are told of an end in its transaction; the others are told before.
const TOLD: usize = 90;

impl Hands {
    /// The effect's end, and in the same transaction what contexts and tags tell of it: when it
    /// was, and into which state they were put if they were.
    pub(super) async fn complete(
        &self,
        batch: &Batch,
        on: Option<bool>,
        lease: &Lease,
    ) -> Result<(), Failure> {
        let acted: Vec<(&str, i64)> = acted(batch).into_iter().collect();
        let (told, before) = acted.split_at(acted.len().min(TOLD));
        for (source, at) in before {
            self.store.acted(source, on, *at).await?;
        }
        let updates = told.iter().filter_map(|(source, at)| self.store.telling(source, on, *at));
        let updates = updates.collect::<Result<Vec<_>, _>>()?;
        if lease.complete(updates).await? == Completion::Refused {
            // One of them was unregistered meanwhile, or acted on later: each is told by itself.
            for (source, at) in told {
                self.store.acted(source, on, *at).await?;
            }
            lease.complete(Vec::new()).await?;
        }
        Ok(())
    }

    /// Tells the sources of a schedule's batch that it was acted on, whatever came of it: from the
    /// next tick on what differs is drift, which is mended under that tick's name.
    ///
    /// # Errors
    /// Transient, when a table does not answer.
    pub async fn looked_at(&self, batch: &Batch) -> Result<(), Failure> {
        if batch.dry_run || batch.actor != "schedule" {
            return Ok(());
        }
        for (source, at) in acted(batch) {
            self.store.acted(source, None, at).await?;
        }
        Ok(())
    }
}

/// When each source was acted on, in seconds since 1970: at the tick, or at the rule where a tick
/// that waited was planned for a later time than its own.
fn acted(batch: &Batch) -> BTreeMap<&str, i64> {
    let mut told = BTreeMap::new();
    for item in &batch.items {
        let at = batch.tick.max(item.since).as_second();
        let newest = told.entry(item.source.as_str()).or_insert(at);
        *newest = at.max(*newest);
    }
    told
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_late_tick_acted_on_is_the_rule_and_not_its_own_time() {
        let item = |source: &str, since: &str| json!({"id": "i", "source": source, "since": since, "reason": ""});
        let batch: Batch = serde_json::from_value(json!({
            "account": "", "region": "r", "service": "ec2:instance", "action": "START",
            "tick": "2026-06-01T08:55:00Z", "actor": "schedule", "occasion": "transition",
            "items": [
                item("context/a", "2026-06-01T09:00:00Z"), item("context/a", "2026-06-01T08:00:00Z"),
                item("context/b", "2026-06-01T08:00:00Z"),
            ],
        }))
        .unwrap();
        let second = |text: &str| text.parse::<jiff::Timestamp>().unwrap().as_second();
        let told = acted(&batch);
        assert_eq!(told["context/a"], second("2026-06-01T09:00:00Z"));
        assert_eq!(told["context/b"], second("2026-06-01T08:55:00Z"));
    }
}
