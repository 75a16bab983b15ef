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
        let prompt = SignedDuration::try_from(PROMPT).unwrap_or_default();
        // What is undone is against the schedule until its next rule, by an override.
        let undoes = batch.bulk.starts_with(UNDO);
        // A later tick was planned since: what that says counts.
        let newest = Timestamp::from_second(settings.last_tick).unwrap_or_default();
        let later = by_schedule && settings.is_past(batch.tick, Timestamp::now());
        let asks = waited > prompt || later || has_few(batch);
        if !asks || batch.dry_run || batch.action == Action::ModClass || undoes {
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
            let row = self.scheduling(source).await?;
            let why = match row.as_ref().map(|row| wanted(row, at)) {
                _ if row.as_ref().is_some_and(|row| row.dry_run) => {
                    Some("by now all of it is only tried (`dryRun`)".to_owned())
                }
                Some(Ok(want)) if Action::towards(want.power) == batch.action => None,
                Some(Ok(want)) => Some(format!("by now it is to be {}", want.reason)),
                // An order does not ask whether a schedule runs.
                _ if batch.actor == "hand" => None,
                Some(Err(why)) => Some(format!("by now nothing is wanted: {why}")),
                None => Some("by now its source is not registered".to_owned()),
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

/// Whether a batch is of few sources.
fn has_few(batch: &Batch) -> bool {
    batch.items.iter().map(|it| &it.source).collect::<HashSet<_>>().len() <= FEW
}
