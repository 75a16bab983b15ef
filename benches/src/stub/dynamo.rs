//! The part of DynamoDB that the workers use: conditional updates, transactions of them, and reads
//! by key or of a whole table, without pages.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::{
    Refusal,
    expression::{Item, holds, update},
};

/// Tables in memory, each made by its first row.
#[derive(Debug, Default)]
pub(super) struct Dynamo {
    tables: Mutex<HashMap<String, Table>>,
}

type Table = BTreeMap<String, Item>;

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
            "GetItem" => Ok(get_item(&tables, body)),
            "Scan" => Ok(scan(&tables, body)),
            "BatchGetItem" => Ok(batch_get(&tables, body)),
            "BatchWriteItem" => Ok(batch_put(&mut tables, body)),
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
    if !holds(row, request)? {
        let message = json!({ "message": "The conditional request failed", "Item": row });
        return Err(Refusal::new("ConditionalCheckFailedException", &message.to_string()));
    }
    change(row, request)?;
    Ok(match request["ReturnValues"].as_str() {
        Some("ALL_NEW") => json!({ "Attributes": row }).to_string(),
        _ => "{}".to_owned(),
    })
}

/// A row that has anything in it.
fn found<'a>(tables: &'a HashMap<String, Table>, table: &Value, key: &Value) -> Option<&'a Item> {
    let row = tables.get(table.as_str()?)?.get(&key.to_string())?;
    (!row.is_empty()).then_some(row)
}

fn get_item(tables: &HashMap<String, Table>, request: &Value) -> String {
    match found(tables, &request["TableName"], &request["Key"]) {
        Some(row) => json!({ "Item": row }).to_string(),
        None => "{}".to_owned(),
    }
}

fn scan(tables: &HashMap<String, Table>, request: &Value) -> String {
    let table = request["TableName"].as_str().and_then(|name| tables.get(name));
    let rows = table.into_iter().flat_map(BTreeMap::values).filter(|row| !row.is_empty());
    json!({ "Items": rows.collect::<Vec<_>>() }).to_string()
}

fn batch_get(tables: &HashMap<String, Table>, request: &Value) -> String {
    let asked = request["RequestItems"].as_object().into_iter().flatten();
    let answers = asked.map(|(table, asked)| {
        let keys = asked["Keys"].as_array().into_iter().flatten();
        let name = json!(table);
        let rows: Vec<_> = keys.filter_map(|key| found(tables, &name, key)).collect();
        (table.clone(), json!(rows))
    });
    let answers: serde_json::Map<_, _> = answers.collect();
    json!({ "Responses": answers, "UnprocessedKeys": {} }).to_string()
}

/// Puts alone. Nobody says what the key is, so each row stands under all of itself.
fn batch_put(tables: &mut HashMap<String, Table>, request: &Value) -> String {
    for (table, requests) in request["RequestItems"].as_object().into_iter().flatten() {
        let rows = tables.entry(table.clone()).or_default();
        let items = requests.as_array().into_iter().flatten();
        for item in items.map(|it| &it["PutRequest"]["Item"]) {
            let fields = item.as_object().into_iter().flatten();
            let row = fields.map(|(name, value)| (name.clone(), value.clone())).collect();
            rows.insert(item.to_string(), row);
        }
    }
    json!({ "UnprocessedItems": {} }).to_string()
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
            "ConditionCheck" => {}
            other => return Err(Refusal::invalid(&format!("{other} in a transaction"))),
        }
    }
    Ok("{}".to_owned())
}

fn only(item: &Value) -> Option<(&str, &Value)> {
    item.as_object()?.iter().next().map(|(kind, item)| (kind.as_str(), item))
}

/// The row of a request's key: empty, where there is none.
fn row<'a>(tables: &'a mut HashMap<String, Table>, request: &Value) -> &'a mut Item {
    let table = request["TableName"].as_str().unwrap_or_default();
    tables.entry(table.to_owned()).or_default().entry(request["Key"].to_string()).or_default()
}

fn change(row: &mut Item, request: &Value) -> Result<(), Refusal> {
    update(row, request)?;
    row.extend(
        request["Key"].as_object().into_iter().flatten().map(|(k, v)| (k.clone(), v.clone())),
    );
    Ok(())
}
