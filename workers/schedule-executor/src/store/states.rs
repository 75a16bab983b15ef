//! What is known of each resource: its override, what was done last, the size to be restored.

use std::collections::{BTreeSet, HashMap};

use aws_sdk_dynamodb::{
    operation::transact_write_items::TransactWriteItemsError,
    types::{AttributeValue as Attr, KeysAndAttributes, TransactWriteItem, Update},
};
use flotilla_runtime::Failure;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{ALWAYS, Store, assignments, unavailable};
use crate::{
    message::UNDO,
    rows::{Held, from_item},
};

/// The most rows that a call of DynamoDB gives, and that a transaction takes.
const CALL: usize = 100;
/// How often rows that a call left out are asked for again.
const TURNS: usize = 8;
pub(super) const KEY: &str = "resource";
/// The row that names the last bulk action; no key of a resource is like it.
const LAST_BULK: &str = "bulk/last";
/// The same of what a hand did.
const LAST_BY_HAND: &str = "bulk/last-by-hand";
/// The same of what a hand asked for last, whether or not it was worked.
pub(super) const LAST_ASKED: &str = "bulk/asked";
/// How long the last bulk action of a hand is what an undo means.
pub(super) const LATELY: SignedDuration = SignedDuration::from_hours(24);
/// What a tick does so soon after a hand is not what whoever undoes it means.
const ABOUT: SignedDuration = SignedDuration::from_mins(5);

/// A bulk action by its name, and when it was.
pub(super) type Noted = (String, Timestamp);

impl Store {
    /// What is known of these resources, by key; those that nothing is known of are left out.
    ///
    /// # Errors
    /// Transient, when DynamoDB does not give them all.
    pub async fn held(&self, keys: &[String]) -> Result<HashMap<String, Held>, Failure> {
        let mut found = HashMap::new();
        let unique: Vec<&String> = keys.iter().collect::<BTreeSet<_>>().into_iter().collect();
        for part in unique.chunks(CALL) {
            let keys =
                part.iter().map(|key| HashMap::from([(KEY.to_owned(), Attr::S((*key).clone()))]));
            let mut left = keys.collect::<Vec<_>>();
            for _ in 0..TURNS {
                left = self.page(left, &mut found).await?;
                if left.is_empty() {
                    break;
                }
            }
            if !left.is_empty() {
                let what =
                    format!("table {} gives only a part of what was asked", self.names.states);
                return Err(Failure::transient("schedule_tables", what));
            }
        }
        Ok(found)
    }

    async fn page(
        &self,
        keys: Vec<HashMap<String, Attr>>,
        found: &mut HashMap<String, Held>,
    ) -> Result<Vec<HashMap<String, Attr>>, Failure> {
        let table = &self.names.states;
        let asked = KeysAndAttributes::builder().set_keys(Some(keys)).consistent_read(true).build();
        let asked =
            asked.map_err(|e| Failure::permanent("request", "keys of states").caused_by(e))?;
        let call = self.dynamo.batch_get_item().request_items(table, asked);
        let answer = call.send().await.map_err(|e| unavailable("BatchGetItem", table, &e))?;
        let items = answer.responses.unwrap_or_default().remove(table).unwrap_or_default();
        let rows = items.iter().filter_map(from_item::<Held>);
        found.extend(rows.map(|held| (held.resource.clone(), held)));
        let left = answer.unprocessed_keys.unwrap_or_default().remove(table);
        Ok(left.map(|it| it.keys).unwrap_or_default())
    }

    /// Sets fields of what is known of a resource, by the names that they have in the row.
    ///
    /// # Errors
    /// Transient, when DynamoDB does not answer.
    pub async fn hold(&self, key: &str, fields: &Value) -> Result<(), Failure> {
        self.set(&self.names.states, (KEY, key), fields, ALWAYS).await.map(drop)
    }

    /// The same of many resources, each named once, a hundred to a call.
    ///
    /// # Errors
    /// As [`hold`](Self::hold); some of them may be written then.
    pub async fn hold_all(&self, rows: &[(&str, Value)]) -> Result<(), Failure> {
        for part in rows.chunks(CALL) {
            let writes = part.iter().map(|(key, fields)| self.write(key, fields));
            let writes = writes.collect::<Result<Vec<_>, _>>()?;
            let call = self.dynamo.transact_write_items().set_transact_items(Some(writes));
            match call.send().await {
                Ok(_) => {}
                // Somebody writes one of them at this moment, an override for example.
                Err(e)
                    if e.as_service_error().is_some_and(
                        TransactWriteItemsError::is_transaction_canceled_exception,
                    ) =>
                {
                    for (key, fields) in part {
                        self.hold(key, fields).await?;
                    }
                }
                Err(e) => return Err(unavailable("TransactWriteItems", &self.names.states, &e)),
            }
        }
        Ok(())
    }

    fn write(&self, key: &str, fields: &Value) -> Result<TransactWriteItem, Failure> {
        let (expression, names, values) = assignments(fields);
        let update = Update::builder().table_name(&self.names.states);
        let update = update.key(KEY, Attr::S(key.to_owned())).update_expression(expression);
        let update = update
            .set_expression_attribute_names(Some(names))
            .set_expression_attribute_values(Some(values));
        let update = update.build().map(|it| TransactWriteItem::builder().update(it).build());
        update.map_err(|e| Failure::permanent("request", "a row of states").caused_by(e))
    }

    /// Notes the last bulk action; that of a hand by itself.
    ///
    /// # Errors
    /// As [`hold`](Self::hold).
    pub async fn note_bulk(&self, id: &str, hand: bool, at: Timestamp) -> Result<(), Failure> {
        let key = if hand { LAST_BY_HAND } else { LAST_BULK };
        self.hold(key, &json!({ "bulk": id, "at": at.to_string() })).await
    }

    /// The last bulk action: that of a hand, if one acted or was asked for within a day of `now`, and
    /// no tick has done another since but at about the same time. Nobody who asks for an undo means
    /// what was before what was just asked for, though that is still to be worked.
    ///
    /// # Errors
    /// Transient, when DynamoDB does not answer.
    pub async fn last_bulk(&self, now: Timestamp) -> Result<Option<String>, Failure> {
        let acted = self.noted_bulk(LAST_BY_HAND).await?;
        let by_hand = later(self.last_asked(now).await?, acted);
        Ok(last(by_hand, self.noted_bulk(LAST_BULK).await?, now))
    }

    pub(super) async fn noted_bulk(&self, key: &str) -> Result<Option<Noted>, Failure> {
        let item = self.get(&self.names.states, KEY, key).await?;
        let noted = item.and_then(|item| {
            let text = |name: &str| item.get(name)?.as_s().ok();
            Some((text("bulk")?.clone(), text("at")?.parse().ok()?))
        });
        Ok(noted)
    }
}

/// Of a hand and a tick, who did the last bulk action.
fn last(by_hand: Option<Noted>, by_tick: Option<Noted>, now: Timestamp) -> Option<String> {
    let counts = |hand: &Noted| {
        let later = by_tick.as_ref().is_some_and(|tick| tick.1.duration_since(hand.1) > ABOUT);
        now.duration_since(hand.1) <= LATELY && !later
    };
    let hand = by_hand.as_ref().filter(|it| counts(it));
    hand.or(by_tick.as_ref()).or(by_hand.as_ref()).map(|it| it.0.clone())
}

/// What a hand asked for, unless a hand acted after it. Acts are noted under the whole second of their
/// order: in that second an undo is of what was asked, and anything else is what was asked itself.
fn later(asked: Option<Noted>, acted: Option<Noted>) -> Option<Noted> {
    let (Some(asked), Some(acted)) = (&asked, &acted) else { return asked.or(acted) };
    let (wish, act) = (asked.1.as_second(), acted.1.as_second());
    let is_act = act > wish || (act == wish && acted.0.starts_with(UNDO));
    Some(if is_act { acted } else { asked }.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_tick_did_after_a_hand_is_the_last_bulk_action_unless_it_was_at_about_the_same_time() {
        let at = |time: &str| format!("2026-06-02T{time}:00Z").parse::<Timestamp>().unwrap();
        let row = |name: &str, time: &str| Some((name.to_owned(), at(time)));
        let of = |hand, tick, now| last(hand, tick, at(now)).unwrap();
        assert_eq!(of(row("hand", "18:00"), row("tick", "19:00"), "19:01"), "tick");
        assert_eq!(of(row("hand", "18:56"), row("tick", "19:00"), "19:10"), "hand");
        assert_eq!(of(row("hand", "19:01"), row("tick", "19:00"), "19:10"), "hand");
        let yesterday = Some(("hand".to_owned(), "2026-06-01T08:00:00Z".parse().unwrap()));
        assert_eq!(of(yesterday.clone(), row("tick", "08:00"), "19:00"), "tick");
        assert_eq!(of(yesterday, None, "19:00"), "hand");
    }

    #[test]
    fn the_last_bulk_action_is_what_was_just_asked_for_though_nothing_of_it_is_done_yet() {
        let row = |name: &str, at: &str| Some((name.to_owned(), at.parse::<Timestamp>().unwrap()));
        let of = |asked, acted| later(asked, acted).map(|it| it.0).unwrap_or_default();
        let (old, new) = ("2026-06-01T08:00:00Z", "2026-06-01T09:00:00.750Z");
        assert_eq!(of(row("STOP new", new), row("STOP old", old)), "STOP new");
        assert_eq!(of(row("STOP old", old), row("undo 7", new)), "undo 7");
        assert_eq!(of(row("STOP new", new), row("undo 7", "2026-06-01T09:00:00Z")), "undo 7");
        assert_eq!(of(row("STOP new", new), row("STOP 1", "2026-06-01T09:00:00Z")), "STOP new");
        assert_eq!(
            (of(None, row("a", old)).as_str(), of(row("b", old), None).as_str()),
            ("a", "b")
        );
    }
}
