//! The part of DynamoDB that the workers use: conditional writes, transactions of them, and reads
//! by key or of a whole table, without pages.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::{
    Refusal,
    expression::{Item, holds, update},
    rows::{self, row},
};

/// Tables in memory, each made by its first row.
#[derive(Debug, Default)]
pub(super) struct Dynamo {
    tables: Mutex<HashMap<String, Table>>,
}

pub(super) type Table = BTreeMap<String, Item>;

impl Dynamo {
    /// Answers an operation with a JSON text.
    ///
    /// # Errors
    /// A [`Refusal`] that the SDK knows: a condition that does not hold, or what is not
    /// understood here.
    pub(super) async fn answer(&self, operation: &str, body: &Value) -> Result<String, Refusal> {
        let mut tables = self.tables.lock().await;
        match operation {
            "UpdateItem" => update_item(&mut tables, body),
            "TransactWriteItems" => transact(&mut tables, body),
            "GetItem" => Ok(rows::get(&tables, body)),
            "BatchGetItem" => Ok(rows::batch_get(&tables, body)),
            "Scan" => Ok(rows::scan(&tables, body)),
            "PutItem" => rows::put(&mut tables, body),
            "BatchWriteItem" => Ok(rows::batch_write(&mut tables, body)),
            "Query" => rows::query(&mut tables, body),
            _ => Err(Refusal::unknown(operation)),
        }
    }

    /// How many rows a table has, and the sum of the numbers in one of their attributes.
    pub(super) async fn sum(&self, table: &str, attribute: &str) -> Value {
        let tables = self.tables.lock().await;
        let rows = || tables.get(table).into_iter().flat_map(BTreeMap::values);
        let number = |row: &Item| row.get(attribute)?["N"].as_str()?.parse::<u64>().ok();
        json!({ "rows": rows().count(), "sum": rows().filter_map(number).sum::<u64>() })
    }
}

fn update_item(tables: &mut HashMap<String, Table>, request: &Value) -> Result<String, Refusal> {
    let row = row(tables, request);
    conditional(row, request)?;
    change(row, request)?;
    Ok(match request["ReturnValues"].as_str() {
        Some("ALL_NEW") => json!({ "Attributes": row }).to_string(),
        _ => "{}".to_owned(),
    })
}

/// Refuses a request whose condition does not hold.
pub(super) fn conditional(row: &Item, request: &Value) -> Result<(), Refusal> {
    if holds(row, request)? {
        return Ok(());
    }
    let message = json!({ "message": "The conditional request failed", "Item": row });
    Err(Refusal::new("ConditionalCheckFailedException", &message.to_string()))
}

/// All or nothing: every condition is looked at before the first write.
fn transact(tables: &mut HashMap<String, Table>, body: &Value) -> Result<String, Refusal> {
    let items = || body["TransactItems"].as_array().into_iter().flatten().filter_map(only);
    let met: Vec<bool> =
        items().map(|(_, item)| holds(row(tables, item), item)).collect::<Result<_, _>>()?;
    if met.contains(&false) {
        let code = |met: &bool| if *met { "None" } else { "ConditionalCheckFailed" };
        let reasons: Vec<_> = met.iter().map(|met| json!({ "Code": code(met) })).collect();
        let message = json!({ "message": "Transaction cancelled", "CancellationReasons": reasons });
        return Err(Refusal::new("TransactionCanceledException", &message.to_string()));
    }
    for (kind, item) in items() {
        match kind {
            "Update" => change(row(tables, item), item)?,
            "Put" => rows::write(row(tables, item), item),
            "ConditionCheck" => {}
            other => return Err(Refusal::invalid(&format!("{other} in a transaction"))),
        }
    }
    Ok("{}".to_owned())
}

fn only(item: &Value) -> Option<(&str, &Value)> {
    item.as_object()?.iter().next().map(|(kind, item)| (kind.as_str(), item))
}

fn change(row: &mut Item, request: &Value) -> Result<(), Refusal> {
    update(row, request)?;
    row.extend(
        request["Key"].as_object().into_iter().flatten().map(|(k, v)| (k.clone(), v.clone())),
    );
    Ok(())
}
