//! The audit: a row for every action and every skip, with its reason.

use std::time::Duration;

use aws_sdk_dynamodb::{
    Client,
    types::{PutRequest, WriteRequest},
};
use flotilla_runtime::{Failure, failure::chain};
use jiff::Timestamp;
use serde::Serialize;

use crate::rows::to_item;

/// How long a row is kept.
const ROW_LIFE: Duration = Duration::from_secs(90 * 24 * 3600);
/// The most rows that a call of DynamoDB takes.
const CALL: usize = 25;

/// A row of the audit.
#[derive(Debug, Clone, Serialize)]
pub struct Entry {
    /// What it is about: `ec2:instance/eu-west-1/i-1`, or `context/web` as a whole.
    pub resource: String,
    /// The sort key. An action stands under its tick. A skip stands under the transition that it
    /// leaves be, so that the same skip at every tick is one row, with the latest `tick`.
    pub at: String,
    /// The clock of the tick or order.
    pub tick: String,
    /// Whose resource it is: `context/web`, `tag/env` or `ids`.
    pub source: String,
    /// `schedule` or `hand`.
    pub actor: String,
    /// `START`, `STOP`, `MODCLASS`, or `NONE` where nothing was wanted.
    pub action: String,
    /// `done`, `failed` or `skipped`.
    pub outcome: &'static str,
    /// The bounded kind of the outcome's reason.
    pub kind: &'static str,
    /// Why, in words.
    pub reason: String,
    /// The state that was seen.
    pub before: String,
    /// The state that was asked for.
    pub after: String,
    /// When DynamoDB may drop the row, in seconds since 1970.
    pub expires_at: i64,
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
    /// twice.
    ///
    /// # Errors
    /// Transient, when DynamoDB does not take them all.
    pub async fn write(&self, mut entries: Vec<Entry>) -> Result<(), Failure> {
        // One call must not name a key twice: the last one counts.
        entries.reverse();
        let mut seen = std::collections::HashSet::new();
        entries.retain(|it| seen.insert((it.resource.clone(), it.at.clone())));
        for part in entries.chunks(CALL) {
            let puts = part.iter().map(|entry| {
                let put = PutRequest::builder().set_item(Some(to_item(entry))).build();
                put.map(|put| WriteRequest::builder().put_request(put).build())
            });
            let puts = puts.collect::<Result<Vec<_>, _>>();
            let puts =
                puts.map_err(|e| Failure::permanent("request", "an audit row").caused_by(e))?;
            self.put(puts).await?;
        }
        Ok(())
    }

    async fn put(&self, puts: Vec<WriteRequest>) -> Result<(), Failure> {
        let table = &self.table;
        let call = self.dynamo.batch_write_item().request_items(table, puts);
        let answer = call.send().await.map_err(|e| {
            Failure::transient("audit", format!("BatchWriteItem in table {table}: {}", chain(&e)))
        })?;
        match answer.unprocessed_items.is_none_or(|left| left.values().all(Vec::is_empty)) {
            true => Ok(()),
            false => Err(Failure::transient("audit", format!("table {table} left rows unwritten"))),
        }
    }
}
