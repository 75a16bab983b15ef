//! Cancels of jobs that no worker has begun with.
//!
//! What such a job's effect is called, only a worker finds out, which looks its message up. So the cancel
//! waits by the id that an operator knows: in the row `control/cancelled/<kind>`, which workers read with
//! their orders, and compare with each claim that they win or renew. Whoever finds his claim there moves
//! the cancel to the effect's own row: it is for one job, and a redrive is not cancelled once more.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
    time::Duration,
};

use aws_sdk_dynamodb::types::{AttributeValue as Attr, TransactWriteItem, Update};

use crate::{
    control::{Control, now_ms},
    failure::{Failure, shortened},
    ledger::{Claim, Ledger, ROW_LIFE, Written},
};

/// For so long a cancel waits: no message is on its queue for longer.
const LIFE: Duration = Duration::from_secs(14 * 24 * 3600);
/// What the names of the row's attributes begin with that are ids.
const ID: &str = "id:";

pub(crate) type Row = HashMap<String, Attr>;

/// The name of the row of a kind of worker, below `control/`.
pub(crate) fn row_name(kind: &str) -> String {
    format!("cancelled/{kind}")
}

/// The key of the row of a kind of worker.
fn key(kind: &str) -> Attr {
    Attr::S(format!("control/{}", row_name(kind)))
}

/// The attribute of an id.
fn attribute(id: &str) -> String {
    format!("{ID}{id}")
}

/// The value of an attribute: the reason, and until when it counts.
fn entry(reason: &str) -> Attr {
    let until = now_ms() / 1000 + LIFE.as_secs();
    Attr::M(HashMap::from([
        ("why".to_owned(), Attr::S(shortened(reason))),
        ("until".to_owned(), Attr::N(until.to_string())),
    ]))
}

/// The attributes of a row whose time is over.
fn outdated(row: &Row) -> impl Iterator<Item = &String> {
    let ids = row.iter().filter(|(name, _)| name.starts_with(ID));
    ids.filter(|(_, entry)| standing(entry).is_none()).map(|(name, _)| name)
}

/// The reason of an entry that counts.
fn standing(entry: &Attr) -> Option<&String> {
    let entry = entry.as_m().ok()?;
    let until: u64 = entry.get("until")?.as_n().ok()?.parse().ok()?;
    entry.get("why")?.as_s().ok().filter(|_| until > now_ms() / 1000)
}

impl Control {
    /// Cancels the first job of a kind of worker that is known by this id (its effect's key, a part of
    /// that between slashes, or the id of its message) and that a worker claims in the next two weeks. Its
    /// message is then dead-lettered with the reason.
    ///
    /// # Errors
    /// Transient, when DynamoDB does not answer.
    pub async fn cancel_in_advance(
        &self,
        kind: &str,
        id: &str,
        reason: &str,
    ) -> Result<(), Failure> {
        let own = attribute(id);
        let over = self.over(kind).await?.into_iter().filter(|name| *name != own);
        let over: Vec<_> = over.enumerate().map(|(n, name)| (format!("#over{n}"), name)).collect();
        let names: Vec<_> = over.iter().map(|(short, _)| short.as_str()).collect();
        let remove = if names.is_empty() { "" } else { " REMOVE " };
        let ttl = now_ms() / 1000 + ROW_LIFE.as_secs();
        let call = self.client.update_item().table_name(&self.table).key("effect", key(kind));
        let call = call
            .update_expression(format!(
                "SET #id = :entry, expires_at = :ttl{remove}{}",
                names.join(", ")
            ))
            .expression_attribute_names("#id", own)
            .expression_attribute_values(":entry", entry(reason))
            .expression_attribute_values(":ttl", Attr::N(ttl.to_string()));
        let named = over.into_iter();
        let call =
            named.fold(call, |call, (short, name)| call.expression_attribute_names(short, name));
        call.send().await.map(drop).map_err(|e| self.unavailable("UpdateItem", &e))
    }

    /// Some of the row's attributes whose time is over: it has room for a few thousand.
    async fn over(&self, kind: &str) -> Result<Vec<String>, Failure> {
        let call = self.client.get_item().table_name(&self.table).key("effect", key(kind));
        let row = call.consistent_read(true).send().await;
        let row = row.map_err(|e| self.unavailable("GetItem", &e))?.item.unwrap_or_default();
        Ok(outdated(&row).take(50).cloned().collect())
    }
}

/// The cancels that wait for jobs of a worker's kind, as of its last look.
#[derive(Debug)]
pub(crate) struct InAdvance {
    kind: &'static str,
    /// The reasons, by id.
    wanted: RwLock<HashMap<String, String>>,
}

impl InAdvance {
    pub(crate) fn new(kind: &'static str) -> Self {
        Self { kind, wanted: RwLock::default() }
    }

    /// Notes what the row says now.
    pub(crate) fn learn(&self, row: Option<&Row>) {
        let one = |(name, entry): (&String, &Attr)| {
            Some((name.strip_prefix(ID)?.to_owned(), standing(entry)?.clone()))
        };
        let wanted = row.into_iter().flatten().filter_map(one).collect();
        *self.wanted.write().unwrap_or_else(PoisonError::into_inner) = wanted;
    }

    /// The id and the reason by which a job is cancelled, if it is: by its effect's key or the first parts
    /// of that, with or without the kind of worker, by another part, or by the id of its message.
    fn found(&self, key: &str, message_id: &str) -> Option<(String, String)> {
        let wanted = self.wanted.read().unwrap_or_else(PoisonError::into_inner);
        if wanted.is_empty() {
            return None;
        }
        let own = key.split_once('/').map_or(key, |(_, own)| own);
        // From the first part on, with the kind of worker and without.
        let heads = key.match_indices('/').skip(1).map(|(end, _)| &key[..end]);
        let own_heads = own.match_indices('/').map(|(end, _)| &own[..end]);
        let ids = [message_id, key, own].into_iter().chain(heads).chain(own_heads);
        let mut ids = ids.chain(own.split('/'));
        ids.find_map(|id| Some((id.to_owned(), wanted.get(id)?.clone())))
    }

    /// Why the job of a claim is cancelled, where it is. From now on its own row says so.
    ///
    /// # Errors
    /// Transient, when DynamoDB does not answer.
    pub(crate) async fn take(
        &self,
        ledger: &Ledger,
        claim: &Claim,
        message_id: &str,
    ) -> Result<Option<String>, Failure> {
        match self.found(&claim.key, message_id) {
            Some(found) => Box::pin(self.moved(ledger, claim, found)).await,
            None => Ok(None),
        }
    }

    async fn moved(
        &self,
        ledger: &Ledger,
        claim: &Claim,
        (id, why): (String, String),
    ) -> Result<Option<String>, Failure> {
        let taken = Update::builder()
            .table_name(ledger.table())
            .key("effect", key(self.kind))
            .update_expression("REMOVE #id")
            .condition_expression("attribute_exists(#id)")
            .expression_attribute_names("#id", attribute(&id))
            .build()
            .map_err(|e| Failure::permanent("request", "a cancel").caused_by(e))?;
        let taken = TransactWriteItem::builder().update(taken).build();
        let written = ledger.cancel_under(claim, &why, vec![taken]).await?;
        // What another has taken since the last look is not there any more.
        self.wanted.write().unwrap_or_else(PoisonError::into_inner).remove(&id);
        Ok((written == Written::Committed).then_some(why))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::fake::FakeAws;

    fn waiting(ids: &[&str]) -> InAdvance {
        let advance = InAdvance::new("grading");
        let row = ids.iter().map(|id| (attribute(id), entry("not wanted"))).collect();
        advance.learn(Some(&row));
        advance
    }

    #[test]
    fn a_job_is_cancelled_in_advance_by_its_key_a_part_of_it_or_its_messages_id() {
        let known =
            ["grading/ada/abc/7", "grading/ada/abc", "ada/abc/7", "ada/abc", "ada", "7", "m-1"];
        for id in known {
            let found = waiting(&[id]).found("grading/ada/abc/7", "m-1");
            assert_eq!(found, Some((id.to_owned(), "not wanted".to_owned())));
        }
        for id in ["grading", "ad", "ada/ab", "abc/7", "m-2", ""] {
            assert_eq!(waiting(&[id]).found("grading/ada/abc/7", "m-1"), None, "{id}");
        }
        assert_eq!(waiting(&[]).found("grading/ada/abc/7", "m-1"), None);
    }

    #[test]
    fn a_cancel_in_advance_does_not_wait_for_longer_than_a_message_can() {
        let over = Attr::M(HashMap::from([
            ("why".to_owned(), Attr::S("old".to_owned())),
            ("until".to_owned(), Attr::N("1".to_owned())),
        ]));
        let row = Row::from([(attribute("old"), over), (attribute("new"), entry("why"))]);
        assert_eq!(outdated(&row).collect::<Vec<_>>(), [&attribute("old")]);
        let advance = InAdvance::new("grading");
        advance.learn(Some(&row));
        assert!(advance.found("grading/old", "m").is_none());
        assert!(advance.found("grading/new", "m").is_some());
    }

    #[tokio::test]
    async fn a_cancel_in_advance_is_for_one_job_though_two_workers_have_read_it() {
        for taken in [false, true] {
            let fake = FakeAws::new(move |_, _| match taken {
                false => json!({}),
                true => json!({
                    "__status": 400,
                    "__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
                    "CancellationReasons": [
                        { "Code": "None" }, { "Code": "ConditionalCheckFailed" },
                    ],
                }),
            });
            let ledger = Ledger::new(fake.dynamo(), "ledger", "me", Duration::from_secs(60));
            let key = "grading/ada/abc".to_owned();
            let claim =
                Claim { key, generation: 7, attempt: 1, last_failure: None, cancelled: None };
            let advance = waiting(&["ada"]);
            let why = advance.take(&ledger, &claim, "m").await.unwrap();
            assert_eq!(why.is_none(), taken, "{why:?}");
            assert_eq!(advance.take(&ledger, &claim, "m").await.unwrap(), None, "it is used up");
            let items = fake.calls()[0].1["TransactItems"].clone();
            let condition = items[0]["Update"]["ConditionExpression"].as_str().unwrap();
            assert!(condition.contains("generation = :generation"), "{condition}");
            assert_eq!(items[1]["Update"]["Key"]["effect"]["S"], "control/cancelled/grading");
            assert_eq!(items[1]["Update"]["ExpressionAttributeNames"]["#id"], "id:ada");
        }
    }
}
