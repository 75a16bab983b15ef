//! Whether what a batch is to do is still wanted: it may have waited, or failed for minutes.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use flotilla_runtime::Failure;
use jiff::{SignedDuration, Timestamp};

use super::{Hands, outcome::skipped};
use crate::{
    audit::Entry,
    message::{Batch, UNDO},
    plan::{Action, wanted},
    rows::{Scheduling, Settings},
};

/// A batch that is older than this looks at its sources again: an override or a hand may have come
/// after its tick.
const PROMPT: Duration = Duration::from_secs(2);
/// A batch of no more sources looks at them whatever its age: that is a call for each.
const FEW: usize = 8;

impl Hands {
    /// The batch without what is not to be touched or not wanted any more, and the rows of that.
    ///
    /// # Errors
    /// Transient, when a table does not answer.
    pub(super) async fn still_wanted(
        &self,
        batch: &Batch,
        waited: Duration,
    ) -> Result<(Batch, Vec<Entry>), Failure> {
        let settings = self.store.settings().await?;
        let since = self.overtaken(batch, waited, &settings).await?;
        let (mut kept, mut left) = (Vec::new(), Vec::new());
        for item in &batch.items {
            let never = settings.never_touched(&item.target(batch), &item.id, &self.home.account);
            let why = match (never, since.get(item.source.as_str())) {
                (Some(entry), _) => {
                    ("never_touch", format!("it is on the never-touch list, as {entry:?}"))
                }
                (None, Some(why)) => ("superseded", why.clone()),
                (None, None) => {
                    kept.push(item.clone());
                    continue;
                }
            };
            left.push(skipped(batch, item, batch.action, "unknown", why.0, why.1));
        }
        Ok((Batch { items: kept, ..batch.clone() }, left))
    }

    /// The sources that want something else by now, and what.
    async fn overtaken<'a>(
        &self,
        batch: &'a Batch,
        waited: Duration,
        settings: &Settings,
    ) -> Result<HashMap<&'a str, String>, Failure> {
        let by_schedule = batch.actor == "schedule" && !batch.dry_run;
        if by_schedule && !settings.running {
            let why = || "by now the scheduler is stopped".to_owned();
            return Ok(batch.items.iter().map(|it| (it.source.as_str(), why())).collect());
        }
        let waited = match batch.actor.as_str() {
            "hand" => Timestamp::now().duration_since(batch.tick).max(SignedDuration::ZERO),
            _ => SignedDuration::try_from(waited).unwrap_or(SignedDuration::MAX),
        };
        // A later tick was planned since: what that says counts.
        let newest = Timestamp::from_second(settings.last_tick).unwrap_or_default();
        let later = by_schedule && settings.is_past(batch.tick, Timestamp::now());
        if !asks(batch, waited, later) {
            return Ok(HashMap::new());
        }
        let at = batch.at_after(waited);
        let at = if later { at.max(newest) } else { at };
        let mut found = HashMap::new();
        for item in &batch.items {
            let source = item.source.as_str();
            if found.contains_key(source) {
                continue;
            }
            let why = match self.scheduling(source).await {
                Ok(row) => otherwise(batch, row.as_ref(), at),
                // One that cannot be read keeps nobody else's from being done.
                Err(why @ Failure::Permanent(_)) => Some(format!("by now it is not known: {why}")),
                Err(why) => return Err(why),
            };
            found.insert(source, why);
        }
        Ok(found.into_iter().filter_map(|(source, why)| Some((source, why?))).collect())
    }

    async fn scheduling(&self, source: &str) -> Result<Option<Scheduling>, Failure> {
        Ok(match source.split_once('/') {
            Some(("context", id)) => self.store.context(id).await?.map(|it| it.scheduling),
            Some(("tag", key)) => self.store.tag(key).await?.map(|it| it.scheduling),
            _ => None,
        })
    }
}

/// Why a batch is not wanted any more by one of its sources, as that is at an instant; nothing where it is.
fn otherwise(batch: &Batch, row: Option<&Scheduling>, at: Timestamp) -> Option<String> {
    let hand = batch.actor == "hand";
    let Some(row) = row else {
        return (!hand).then(|| "by now its source is not registered".to_owned());
    };
    if row.dry_run {
        return Some("by now all of it is only tried (`dryRun`)".to_owned());
    }
    match wanted(row, at) {
        Ok(want) if Action::towards(want.power) == batch.action => None,
        Ok(want) => Some(format!("by now it is to be {}", want.reason)),
        // An order does not ask whether a schedule runs.
        Err(why) => (!hand).then(|| format!("by now nothing is wanted: {why}")),
    }
}

/// Whether the sources of a batch are asked again: it has waited, a later tick was planned since, or they
/// are few. What is undone is against the schedule until its next rule, by an override, and no
/// schedule says of which class anything is.
fn asks(batch: &Batch, waited: SignedDuration, later: bool) -> bool {
    let exempt = batch.dry_run || batch.action == Action::ModClass || batch.bulk.starts_with(UNDO);
    let prompt = SignedDuration::try_from(PROMPT).unwrap_or_default();
    !exempt && (waited > prompt || later || has_few(batch))
}

/// Whether a batch is of few sources.
fn has_few(batch: &Batch) -> bool {
    batch.items.iter().map(|it| &it.source).collect::<HashSet<_>>().len() <= FEW
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn batch(actor: &str, sources: usize) -> Batch {
        let items: Vec<Value> = (0..sources)
            .map(|n| json!({"id": "i", "source": format!("context/{n}"), "since": "2026-06-01T08:00:00Z", "reason": ""}))
            .collect();
        serde_json::from_value(json!({
            "account": "", "region": "r", "service": "ec2:instance", "action": "START",
            "tick": "2026-06-01T08:00:00Z", "actor": actor, "occasion": "o", "items": items,
        }))
        .unwrap()
    }

    #[test]
    fn a_batch_of_few_sources_asks_them_though_it_is_as_young_as_can_be() {
        assert!(has_few(&batch("schedule", 1)) && has_few(&batch("schedule", FEW)));
        assert!(!has_few(&batch("schedule", FEW + 1)), "it would be a call for each");
    }

    #[test]
    fn a_batch_of_many_sources_asks_them_once_it_has_waited_or_a_later_tick_was_planned() {
        let (many, ms) = (batch("schedule", FEW + 1), SignedDuration::from_millis);
        assert!(!asks(&many, ms(2_000), false));
        assert!(asks(&many, ms(2_001), false) && asks(&many, ms(0), true));
        let few = batch("schedule", 1);
        assert!(asks(&few, ms(0), false));
        for exempt in [
            Batch { dry_run: true, ..few.clone() },
            Batch { action: Action::ModClass, ..few.clone() },
            Batch { bulk: format!("{UNDO}7"), ..few },
        ] {
            assert!(!asks(&exempt, ms(60_000), true), "{exempt:?}");
        }
    }

    #[test]
    fn what_is_not_wanted_any_more_is_left_with_its_reason() {
        let at = "2026-06-01T08:00:01Z".parse().unwrap();
        let why = |actor: &str, fields: Option<Value>| {
            let row = fields.map(|fields| serde_json::from_value(fields).unwrap());
            otherwise(&batch(actor, 1), row.as_ref(), at)
        };
        let row = |name: &str, value: Value| {
            Some(json!({ "schedulingPeriod": "daily 08:00-19:00", name: value }))
        };
        let said = |fields, word: &str| {
            let why = why("schedule", fields).unwrap();
            assert!(why.contains(word), "{why}");
        };
        assert_eq!(why("schedule", row("mode", json!("enforce"))), None);
        said(row("dryRun", json!(true)), "dryRun");
        said(row("isScheduled", json!(false)), "stopped");
        let off = json!({"power": "OFF", "from": 1_780_300_000, "until": 1_780_400_000});
        said(row("override", off), "off by override");
        said(None, "not registered");
        // An order asks neither whether a schedule runs nor, of ids alone, for one.
        assert_eq!(why("hand", row("isScheduled", json!(false))), None);
        assert_eq!(why("hand", None), None);
    }
}
