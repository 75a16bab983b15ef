//! The table of devices: a row for each that was ever heard.

use aws_sdk_dynamodb::Client;
use flotilla_runtime::{Failure, failure::chain};

use super::{Row, number, number_of, text, text_of, unavailable};

/// The table of devices. Clones share the client.
#[derive(Debug, Clone)]
pub struct Devices {
    client: Client,
    table: String,
}

impl Devices {
    /// The table of this name.
    pub fn new(client: Client, table: &str) -> Self {
        Self { client, table: table.to_owned() }
    }

    /// Registers a device, unless it is registered. `now` is in Unix milliseconds.
    ///
    /// # Errors
    /// Transient, when DynamoDB does not answer.
    pub async fn register(&self, id: &str, now: i64) -> Result<(), Failure> {
        let call = self.client.put_item().table_name(&self.table).item("id", text(id));
        let call = call.item("first_seen", number(now));
        let sent = call.condition_expression("attribute_not_exists(id)").send().await;
        match sent {
            Ok(_) => Ok(()),
            Err(e)
                if e.as_service_error()
                    .is_some_and(|e| e.is_conditional_check_failed_exception()) =>
            {
                Ok(())
            }
            Err(e) => Err(unavailable("PutItem", id, &self.table, chain(&e))),
        }
    }

    /// Since when a device is registered, in Unix milliseconds, if it is.
    ///
    /// # Errors
    /// Transient, when DynamoDB does not answer.
    pub async fn first_seen(&self, id: &str) -> Result<Option<i64>, Failure> {
        Ok(self.row(id).await?.and_then(|row| number_of(&row, "first_seen")))
    }

    /// A device's row, if it is registered.
    ///
    /// # Errors
    /// Transient, when DynamoDB does not answer.
    pub async fn row(&self, id: &str) -> Result<Option<Row>, Failure> {
        let call = self.client.get_item().table_name(&self.table).key("id", text(id));
        let answer = call.consistent_read(true).send().await;
        let answer = answer.map_err(|e| unavailable("GetItem", id, &self.table, chain(&e)))?;
        Ok(answer.item)
    }

    /// Ids of at most `limit` devices, from after this one; and the last one, where there may be
    /// more.
    ///
    /// # Errors
    /// Transient, when DynamoDB does not answer.
    pub async fn page(
        &self,
        after: Option<&str>,
        limit: i32,
    ) -> Result<(Vec<String>, Option<String>), Failure> {
        let (rows, last) = self.rows(after, limit).await?;
        Ok((rows.iter().filter_map(|row| text_of(row, "id")).collect(), last))
    }

    /// The rows of [`page`](Self::page).
    ///
    /// # Errors
    /// Transient, when DynamoDB does not answer.
    pub async fn rows(
        &self,
        after: Option<&str>,
        limit: i32,
    ) -> Result<(Vec<Row>, Option<String>), Failure> {
        let start = after.map(|id| Row::from([("id".to_owned(), text(id))]));
        let call = self.client.scan().table_name(&self.table).limit(limit);
        let answer = call.set_exclusive_start_key(start).send().await;
        let answer = answer.map_err(|e| unavailable("Scan", "devices", &self.table, chain(&e)))?;
        let last = answer.last_evaluated_key.and_then(|key| text_of(&key, "id"));
        Ok((answer.items.unwrap_or_default(), last))
    }
}
