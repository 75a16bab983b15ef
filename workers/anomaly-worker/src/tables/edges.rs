//! The table of edges: where each stands, under a version.

use aws_sdk_dynamodb::{
    Client,
    operation::transact_write_items::TransactWriteItemsError,
    types::{Put, TransactWriteItem},
};
use flotilla_runtime::{Failure, failure::chain};

use super::{Problems, now_ms, number, number_of, text, text_of, unavailable, unbuilt};
use crate::engine::{Edge, Review};

/// The table of edges. Clones share the client.
#[derive(Debug, Clone)]
pub struct Edges {
    client: Client,
    table: String,
}

/// The two sensors of an edge.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Name {
    /// The sensor that it leads from.
    pub current: String,
    /// The sensor that it leads to.
    pub following: String,
}

impl Name {
    /// The key of the edge. Ids have no slash.
    pub fn key(&self) -> String {
        format!("{}/{}", self.current, self.following)
    }

    /// The id of the edge's problems, as in the original service.
    pub fn problem_id(&self) -> String {
        format!("{}{}", self.current, self.following)
    }
}

impl Edges {
    /// The table of this name.
    pub fn new(client: Client, table: &str) -> Self {
        Self { client, table: table.to_owned() }
    }

    /// An edge and its version; version 0 where there is no row.
    ///
    /// # Errors
    /// Transient when DynamoDB does not answer; permanent for a row that cannot be read.
    pub async fn load(&self, edge: &Name) -> Result<(u64, Edge), Failure> {
        let name = edge.key();
        let call = self.client.get_item().table_name(&self.table).consistent_read(true);
        let answer = call.key("edge", text(&name)).send().await;
        let answer = answer.map_err(|e| unavailable("GetItem", &name, &self.table, chain(&e)))?;
        let Some(row) = answer.item else { return Ok((0, Edge::default())) };
        let bad = |why: &str| {
            let what = format!("the row of edge {name} in table {}: {why}", self.table);
            Failure::permanent("edge_row", what)
        };
        let state = text_of(&row, "state").ok_or_else(|| bad("it has no state"))?;
        let edge = serde_json::from_str(&state).map_err(|e| bad(&e.to_string()))?;
        Ok((number_of(&row, "version").ok_or_else(|| bad("it has no version"))?, edge))
    }

    /// Writes what a review led to, unless the edge was written since this version: then `false`,
    /// and nothing is written.
    ///
    /// # Errors
    /// Transient, when DynamoDB does not take it.
    pub async fn write(
        &self,
        problems: &Problems,
        edge: &Name,
        version: u64,
        review: &Review,
    ) -> Result<bool, Failure> {
        let now = now_ms();
        let mut items = vec![self.item(edge, version, &review.next)?];
        items.extend(problems.items(edge, &review.changes, now).await?);
        let call = self.client.transact_write_items().set_transact_items(Some(items));
        match call.send().await {
            Ok(_) => Ok(true),
            Err(e) if e.as_service_error().is_some_and(outrun) => Ok(false),
            Err(e) => Err(unavailable("TransactWriteItems", &edge.key(), &self.table, chain(&e))),
        }
    }

    fn item(&self, name: &Name, version: u64, edge: &Edge) -> Result<TransactWriteItem, Failure> {
        let state = serde_json::to_string(edge).map_err(|e| unbuilt("a row of edges", e))?;
        let put = Put::builder()
            .table_name(&self.table)
            .item("edge", text(name.key()))
            .item("version", number(version + 1))
            .item("state", text(state));
        let put = match version {
            0 => put.condition_expression("attribute_not_exists(edge)"),
            version => put
                .condition_expression("version = :version")
                .expression_attribute_values(":version", number(version)),
        };
        let put = put.build().map_err(|e| unbuilt("a row of edges", e))?;
        Ok(TransactWriteItem::builder().put(put).build())
    }
}

/// Whether another write came before, or is at the same rows.
fn outrun(error: &TransactWriteItemsError) -> bool {
    match error {
        TransactWriteItemsError::TransactionCanceledException(e) => {
            let codes = e.cancellation_reasons().iter().filter_map(|reason| reason.code());
            codes
                .into_iter()
                .any(|it| matches!(it, "ConditionalCheckFailed" | "TransactionConflict"))
        }
        TransactWriteItemsError::TransactionInProgressException(_) => true,
        _ => false,
    }
}
