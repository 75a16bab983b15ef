//! The audit: a row for every action and every skip, with its reason.

use std::time::Duration;

use aws_sdk_dynamodb::{
    Client,
    error::{ProvideErrorMetadata, SdkError},
    types::{AttributeValue as Attr, DeleteRequest, PutRequest, WriteRequest},
};
use flotilla_runtime::{Failure, failure::chain};
use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    arn::short,
    plan::Action,
    rows::{Item, from_item, to_item},
    store::is_invalid,
};

/// How long a row is kept.
const ROW_LIFE: Duration = Duration::from_secs(90 * 24 * 3600);
/// The most rows that a call of DynamoDB takes.
const CALL: usize = 25;
const AT_ONCE: usize = 4;
/// How often rows that a call left out are written again.
const TURNS: usize = 8;
/// How many rows of a resource are looked at for an act that was cut off.
const LAST: i32 = 50;
/// The outcome of an act before it is known.
pub const INTENDED: &str = "intended";
/// What the keys of the rows begin with that tell what a bulk action changed.
pub const BULK: &str = "bulk";

/// A row of the audit.
#[derive(Debug, Clone, Serialize)]
pub struct Entry {
    /// What it is about: `ec2:instance/eu-west-1/i-1`, or `context/web` as a whole.
    pub resource: String,
    /// The sort key. An action stands under its tick. A skip stands under the transition that it
    /// leaves be, so that the same skip at every tick is one row, with the latest `tick`; and so does
    /// what a tick is refused, with its kind: one row a day for each reason.
    pub at: String,
    /// The clock of the tick or order.
    pub tick: String,
    /// Whose resource it is: `context/web`, `tag/env` or `ids`.
    pub source: String,
    /// `schedule`, `hand` or `override`.
    pub actor: String,
    /// Who asked for the override, as they say.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub who: String,
    /// `START`, `STOP`, `MODCLASS`, or `NONE` where nothing was wanted.
    pub action: String,
    /// `done`, `failed`, `skipped`, or `dry_run` for what would have been done; `intended` while
    /// its service is asked.
    pub outcome: &'static str,
    /// The bounded kind of the outcome's reason.
    pub kind: &'static str,
    /// Why, in words.
    pub reason: String,
    /// The account of the resource; empty for the worker's own.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub account: String,
    /// The bulk action that it is a part of, by which it can be undone.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub bulk: String,
    /// The state that was seen; the class, where that is changed.
    pub before: String,
    /// The state that was asked for.
    pub after: String,
    /// When DynamoDB may drop the row, in seconds since 1970.
    pub expires_at: i64,
}

/// A resource that a bulk action changed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Changed {
    /// The key of the resource: `ec2:instance/eu-west-1/i-1`.
    #[serde(rename = "at")]
    pub key: String,
    /// Whose resource it was.
    pub source: String,
    /// What was done.
    pub action: Action,
    /// The account; empty for the worker's own.
    #[serde(default)]
    pub account: String,
    /// The state that was seen before, or the class where that was changed.
    #[serde(default)]
    pub before: String,
}

impl Changed {
    /// The class before, which its undo gives back: none of a cluster whose instances have theirs.
    pub fn class(&self) -> Option<&str> {
        let class = Some(self.before.as_str()).filter(|it| it.starts_with("db."));
        class.filter(|_| self.action == Action::ModClass)
    }
}

/// An act whose outcome was never written: its worker died at it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Intended {
    /// The sort key of its row.
    pub at: String,
    /// The clock of the tick or order.
    pub tick: String,
    /// The action.
    pub action: Action,
    /// Always `intended`.
    pub outcome: String,
    /// Why, in words.
    pub reason: String,
    /// The bulk action that it is a part of.
    #[serde(default)]
    pub bulk: String,
    /// The state that was seen before.
    pub before: String,
}

/// The audit's table.
#[derive(Debug, Clone)]
pub struct Audit {
    dynamo: Client,
    table: String,
}

/// When a row that is written now may go.
pub fn expiry() -> i64 {
    Timestamp::now().as_second() + ROW_LIFE.as_secs().cast_signed()
}

impl Audit {
    /// The audit in a table.
    pub fn new(dynamo: Client, table: String) -> Self {
        Self { dynamo, table }
    }

    /// Writes rows. A row of the same key is replaced, so that a repeated message writes none
    /// twice. One that DynamoDB takes for none is left out, and does not keep the others back.
    ///
    /// # Errors
    /// Transient, when DynamoDB does not take them all.
    pub async fn write(&self, mut entries: Vec<Entry>) -> Result<(), Failure> {
        // One call must not name a key twice: the last one counts.
        entries.reverse();
        let mut seen = std::collections::HashSet::new();
        entries.retain(|it| seen.insert((it.resource.clone(), it.at.clone())));
        let parts = entries.chunks(CALL).map(|part| self.put_each(part)).collect::<Vec<_>>();
        stream::iter(parts).buffer_unordered(AT_ONCE).try_collect().await
    }

    /// Deletes rows by resource and sort key: of acts that were refused, which another row tells.
    ///
    /// # Errors
    /// Transient, when DynamoDB does not take them all.
    pub async fn forget(&self, keys: &[(String, String)]) -> Result<(), Failure> {
        for part in keys.chunks(CALL) {
            let deletes = part.iter().map(|(resource, at)| {
                let request = DeleteRequest::builder().key("resource", Attr::S(resource.clone()));
                let request = request.key("at", Attr::S(at.clone())).build();
                request.map(|it| WriteRequest::builder().delete_request(it).build())
            });
            let deletes = deletes.collect::<Result<Vec<_>, _>>();
            let wrong = |e| Failure::permanent("request", "a key of the audit").caused_by(e);
            self.put(deletes.map_err(wrong)?).await?;
        }
        Ok(())
    }

    async fn put_each(&self, entries: &[Entry]) -> Result<(), Failure> {
        match self.put(requests(entries)?).await {
            Err(Failure::Permanent(_)) => {}
            written => return written,
        }
        for entry in entries {
            match self.put(requests(std::slice::from_ref(entry))?).await {
                Err(Failure::Permanent(why)) => {
                    tracing::error!(
                        resource = short(&entry.resource),
                        ?why,
                        "an audit row is lost"
                    );
                }
                written => written?,
            }
        }
        Ok(())
    }

    async fn put(&self, mut puts: Vec<WriteRequest>) -> Result<(), Failure> {
        let table = &self.table;
        for _ in 0..TURNS {
            let call = self.dynamo.batch_write_item().request_items(table, puts);
            let answer = call.send().await.map_err(|e| self.unavailable("BatchWriteItem", &e))?;
            puts = answer.unprocessed_items.unwrap_or_default().remove(table).unwrap_or_default();
            if puts.is_empty() {
                return Ok(());
            }
        }
        Err(Failure::transient("audit", format!("table {table} left rows unwritten")))
    }

    fn unavailable<E, R>(&self, what: &str, error: &SdkError<E, R>) -> Failure
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
        R: std::fmt::Debug + 'static,
    {
        let message = format!("{what} in table {}: {}", self.table, chain(error));
        match is_invalid(error) {
            true => Failure::permanent("audit", message),
            false => Failure::transient("audit", message),
        }
    }

    /// What a bulk action changed, as its rows tell: who is to have it back, and how it was.
    ///
    /// # Errors
    /// Transient, when DynamoDB does not answer.
    pub async fn bulk(&self, id: &str) -> Result<Vec<Changed>, Failure> {
        let call = self.dynamo.query().table_name(&self.table).consistent_read(true);
        let call =
            call.key_condition_expression("#r = :r").expression_attribute_names("#r", "resource");
        let call = call.expression_attribute_values(":r", Attr::S(format!("{BULK}/{id}")));
        let items = call.into_paginator().items().send().collect::<Result<Vec<_>, _>>().await;
        let items = items.map_err(|e| self.unavailable("Query", &e))?;
        let failed = |item: &&Item| item.get("outcome") == Some(&Attr::S("failed".to_owned()));
        Ok(items.iter().filter(|item| !failed(item)).filter_map(from_item).collect())
    }

    /// The newest act on a resource whose outcome was never written, if it is among its last rows.
    ///
    /// # Errors
    /// Transient, when DynamoDB does not answer.
    pub async fn intended(&self, key: &str) -> Result<Option<Intended>, Failure> {
        let call = self.dynamo.query().table_name(&self.table).consistent_read(true);
        let call = call.key_condition_expression("#r = :r").scan_index_forward(false);
        let call = call.expression_attribute_names("#r", "resource").limit(LAST);
        let call = call.expression_attribute_values(":r", Attr::S(key.to_owned()));
        let answer = call.send().await.map_err(|e| self.unavailable("Query", &e))?;
        let rows = answer.items().iter().filter_map(from_item::<Intended>);
        Ok(rows.into_iter().find(|row| row.outcome == INTENDED))
    }
}

fn requests(entries: &[Entry]) -> Result<Vec<WriteRequest>, Failure> {
    let puts = entries.iter().map(|entry| {
        let put = PutRequest::builder().set_item(Some(to_item(entry))).build();
        put.map(|put| WriteRequest::builder().put_request(put).build())
    });
    let puts = puts.collect::<Result<Vec<_>, _>>();
    puts.map_err(|e| Failure::permanent("request", "an audit row").caused_by(e))
}
