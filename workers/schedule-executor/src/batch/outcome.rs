//! The rows that tell what became of a resource of a batch.

use std::collections::HashMap;

use jiff::Timestamp;

use super::case::Case;
use crate::{
    audit::{BULK, Entry, INTENDED, Intended, expiry},
    handlers::{AnyHandler, Handler, Refusal},
    message::{Batch, BatchItem},
    metrics as names,
    plan::{Action, Step},
};

/// Who acts where an override says what is to be.
const OVERRIDE: &str = "override";
/// In seconds.
const DAY: i64 = 86_400;

impl Case<'_> {
    /// The rows of what was done or left; none where the service said nothing. The row under the
    /// bulk action is there since before the act, and written again where an order failed.
    pub(super) fn entries(
        &self,
        batch: &Batch,
        outcome: Option<&Result<String, Refusal>>,
    ) -> Vec<Entry> {
        let Some(row) = self.entry(batch, outcome).map(|row| self.signed(row)) else {
            return Vec::new();
        };
        let told = batch.actor == "hand";
        let failed = of_bulk(&row).filter(|it| told && it.outcome == "failed");
        failed.into_iter().chain([row]).collect()
    }

    /// A row as that of who asked for the override of the resource alone, where that decided.
    pub(super) fn signed(&self, row: Entry) -> Entry {
        match self.over {
            Some(over) => Entry { actor: OVERRIDE.to_owned(), who: over.who.clone(), ..row },
            None => row,
        }
    }

    /// The rows of what is about to be done: one of the resource, and a second one under the bulk
    /// action, so that it can be undone.
    pub(super) fn intention(&self, batch: &Batch) -> Vec<Entry> {
        let Step::Act(action, reason) = &self.step else { return Vec::new() };
        let row = Entry {
            outcome: INTENDED,
            reason: reason.clone(),
            ..self.signed(entry(batch, self.item, *action, self.before(*action)))
        };
        of_bulk(&row).into_iter().chain([row.clone()]).collect()
    }

    /// The row of what was done or left; none where the service said nothing.
    fn entry(&self, batch: &Batch, outcome: Option<&Result<String, Refusal>>) -> Option<Entry> {
        match (&self.step, outcome) {
            (Step::Act(action, reason), Some(Ok(note))) => {
                Some(done(batch, self.item, *action, self.before(*action), reason, note))
            }
            (Step::Act(action, _), Some(Err(why))) => {
                Some(failed(batch, self.item, *action, self.before(*action), why))
            }
            (Step::Act(..), None) => None,
            (Step::Skip(..), _) => self.left(batch),
        }
    }

    /// The row of what is left alone, or could not be looked at.
    pub(super) fn left(&self, batch: &Batch) -> Option<Entry> {
        let action = self.wanted(batch);
        if let Some(why) = &self.seen.refused {
            return Some(failed(batch, self.item, action, "unknown", why));
        }
        let Step::Skip(kind, why) = &self.step else { return None };
        Some(skipped(batch, self.item, action, self.before(action), kind, why.clone()))
    }
}

/// The row of an act a second time, under its bulk action; none of what is left.
fn of_bulk(row: &Entry) -> Option<Entry> {
    let acts = row.outcome != "skipped";
    let (resource, at) = (format!("{BULK}/{}", row.bulk), row.resource.clone());
    (acts && !row.bulk.is_empty()).then(|| Entry { resource, at, ..row.clone() })
}

/// The row of an act that an earlier attempt did, and died before it could say so.
pub(super) fn made_good(batch: &Batch, item: &BatchItem, intended: &Intended) -> Entry {
    let reason =
        format!("{}; the worker that did it ended before it could say so", intended.reason);
    count(batch, intended.action, "done", "acted");
    Entry {
        at: intended.at.clone(),
        tick: intended.tick.clone(),
        reason,
        after: after(item, intended.action).to_owned(),
        bulk: intended.bulk.clone(),
        ..entry(batch, item, intended.action, &intended.before)
    }
}

fn after(item: &BatchItem, action: Action) -> &str {
    match action {
        Action::Start => "running",
        Action::Stop => "stopped",
        Action::ModClass => &item.attrib,
    }
}

/// The rows of a dry run: what would be done, and whether it would be permitted.
pub(super) async fn dry(batch: &Batch, cases: &[Case<'_>], handler: &AnyHandler) -> Vec<Entry> {
    let mut entries: Vec<Entry> =
        cases.iter().filter_map(|it| Some(it.signed(it.left(batch)?))).collect();
    for action in [Action::Start, Action::Stop, Action::ModClass] {
        let due = cases.iter().filter_map(|it| match &it.step {
            Step::Act(found, reason) if *found == action => Some((it, reason)),
            _ => None,
        });
        let due: Vec<_> = due.collect();
        let ids: Vec<String> = due.iter().map(|(it, _)| it.item.id.clone()).collect();
        if ids.is_empty() {
            continue;
        }
        let permitted: HashMap<_, _> = handler.permitted(action, &ids).await.into_iter().collect();
        let rows = due.iter().map(|(case, reason)| {
            let before = case.before(action);
            case.signed(match permitted.get(&case.item.id) {
                Some(Err(why)) => failed(batch, case.item, action, before, why),
                Some(Ok(note)) if !note.is_empty() => {
                    let reason = format!("{reason}; {note}");
                    would_be_done(batch, case.item, action, before, &reason)
                }
                _ => would_be_done(batch, case.item, action, before, reason),
            })
        });
        entries.extend(rows);
    }
    // Beside the rows of what happened, never in their place.
    entries.iter_mut().for_each(|it| it.at.push_str("#dry"));
    entries
}

fn would_be_done(
    batch: &Batch,
    item: &BatchItem,
    action: Action,
    before: &str,
    reason: &str,
) -> Entry {
    let row = entry(batch, item, action, before);
    let at = lasting(batch, item, action, "dry_run").unwrap_or_else(|| row.at.clone());
    let kind = "dry_run";
    Entry { at, outcome: kind, kind, reason: reason.to_owned(), ..row }
}

fn done(
    batch: &Batch,
    item: &BatchItem,
    action: Action,
    before: &str,
    reason: &str,
    note: &str,
) -> Entry {
    let found = match batch.occasion.starts_with("tick ") {
        true => format!("; it was found {before} since"),
        false => String::new(),
    };
    let note = if note.is_empty() { String::new() } else { format!("; {note}") };
    count(batch, action, "done", "acted");
    Entry {
        reason: format!("{reason}{found}{note}"),
        after: after(item, action).to_owned(),
        ..entry(batch, item, action, before)
    }
}

pub(super) fn failed(
    batch: &Batch,
    item: &BatchItem,
    action: Action,
    before: &str,
    why: &Refusal,
) -> Entry {
    count(batch, action, "failed", why.kind);
    metrics::counter!(names::REFUSED, "kind" => why.kind).increment(1);
    let reason = format!("{} ({})", why.message, item.reason);
    let row = entry(batch, item, action, before);
    let at = lasting(batch, item, action, why.kind).unwrap_or_else(|| row.at.clone());
    Entry { at, outcome: "failed", kind: why.kind, reason, ..row }
}

/// Where what lasts stands: each tick meets it again, and it is told when it begins, when its reason
/// becomes another, and once a day. An order meets it once.
fn lasting(batch: &Batch, item: &BatchItem, action: Action, kind: &str) -> Option<String> {
    let day = Timestamp::from_second(batch.tick.as_second().div_euclid(DAY) * DAY).ok()?;
    let since = item.since.max(day);
    (batch.actor != "hand").then(|| format!("{since}#{}#{kind}", action.name()))
}

/// The rows that said what was about to be done, where it was refused and that is told elsewhere.
pub(super) fn unmade(row: &Entry) -> Vec<(String, String)> {
    let intended = format!("{}#{}", row.tick, row.action);
    if row.outcome != "failed" || row.at == intended || row.resource.starts_with(BULK) {
        return Vec::new();
    }
    let bulk = (format!("{BULK}/{}", row.bulk), row.resource.clone());
    let bulk = Some(bulk).filter(|_| !row.bulk.is_empty());
    bulk.into_iter().chain([(row.resource.clone(), intended)]).collect()
}

pub(super) fn skipped(
    batch: &Batch,
    item: &BatchItem,
    action: Action,
    before: &str,
    kind: &'static str,
    why: String,
) -> Entry {
    metrics::counter!(names::SKIPS, "kind" => kind).increment(1);
    let at = format!("{}#{}#{kind}", item.since, action.name());
    Entry { at, outcome: "skipped", kind, reason: why, ..entry(batch, item, action, before) }
}

fn entry(batch: &Batch, item: &BatchItem, action: Action, before: &str) -> Entry {
    Entry {
        resource: item.target(batch).key(),
        at: format!("{}#{}", batch.tick, action.name()),
        tick: batch.tick.to_string(),
        source: item.source.clone(),
        actor: item.who.as_ref().map_or(batch.actor.as_str(), |_| OVERRIDE).to_owned(),
        who: item.who.clone().unwrap_or_default(),
        action: action.name().to_owned(),
        outcome: "done",
        kind: "acted",
        reason: String::new(),
        account: batch.account.clone(),
        bulk: batch.bulk.clone(),
        before: before.to_owned(),
        after: before.to_owned(),
        expires_at: expiry(),
    }
}

fn count(batch: &Batch, action: Action, outcome: &'static str, kind: &'static str) {
    let (service, action) = (batch.service.name(), action.name());
    let counter = metrics::counter!(
        names::ACTIONS, "service" => service, "action" => action, "outcome" => outcome, "kind" => kind
    );
    counter.increment(1);
}

#[cfg(test)]
mod tests;
