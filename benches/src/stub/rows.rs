//! The part of DynamoDB that is about whole rows: they are put, and read.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value, json};

use super::{
    Refusal,
    dynamo::{Table, conditional},
    expression::Item,
};

/// The attributes that a table's keys are made of.
fn key_names(table: &str) -> Result<&'static [&'static str], Refusal> {
    match table {
        "devices" => Ok(&["id"]),
        "readings" => Ok(&["device", "reading"]),
        "edges" => Ok(&["edge"]),
        "problems" => Ok(&["problem_id", "opened"]),
        other => Err(Refusal::invalid(&format!("a table whose key is not known here: {other}"))),
    }
}

/// The key of an item among its table's: in order of its parts. Where it is not known what they
/// are, an item stands under all that is said of it.
fn key_of(table: &str, item: &Value) -> String {
    let Ok(names) = key_names(table) else { return item.to_string() };
    names.iter().map(|name| item[*name].to_string()).collect::<Vec<_>>().join(",")
}

fn table_of(request: &Value) -> &str {
    request["TableName"].as_str().unwrap_or_default()
}

/// The row that a request with a key, or with an item, is about; empty where there is none.
pub(super) fn row<'a>(tables: &'a mut HashMap<String, Table>, request: &Value) -> &'a mut Item {
    let table = table_of(request);
    let key = if request["Item"].is_null() { &request["Key"] } else { &request["Item"] };
    tables.entry(table.to_owned()).or_default().entry(key_of(table, key)).or_default()
}

/// A row that has anything in it.
fn found<'a>(tables: &'a HashMap<String, Table>, table: &str, key: &Value) -> Option<&'a Item> {
    let row = tables.get(table)?.get(&key_of(table, key))?;
    (!row.is_empty()).then_some(row)
}

pub(super) fn get(tables: &HashMap<String, Table>, request: &Value) -> String {
    match found(tables, table_of(request), &request["Key"]) {
        Some(row) => json!({ "Item": row }).to_string(),
        None => "{}".to_owned(),
    }
}

pub(super) fn batch_get(tables: &HashMap<String, Table>, request: &Value) -> String {
    let asked = request["RequestItems"].as_object().into_iter().flatten();
    let answers = asked.map(|(table, asked)| {
        let keys = asked["Keys"].as_array().into_iter().flatten();
        let rows: Vec<_> = keys.filter_map(|key| found(tables, table, key)).collect();
        (table.clone(), json!(rows))
    });
    let answers: serde_json::Map<_, _> = answers.collect();
    json!({ "Responses": answers, "UnprocessedKeys": {} }).to_string()
}

pub(super) fn scan(tables: &HashMap<String, Table>, request: &Value) -> String {
    let rows = tables.get(table_of(request)).into_iter().flat_map(BTreeMap::values);
    let rows: Vec<_> = rows.filter(|row| !row.is_empty()).collect();
    json!({ "Items": rows }).to_string()
}

pub(super) fn put(tables: &mut HashMap<String, Table>, request: &Value) -> Result<String, Refusal> {
    let row = row(tables, request);
    conditional(row, request)?;
    write(row, request);
    Ok("{}".to_owned())
}

/// Puts a request's item.
pub(super) fn write(row: &mut Item, request: &Value) {
    *row = request["Item"].as_object().cloned().unwrap_or_default();
}

pub(super) fn batch_write(tables: &mut HashMap<String, Table>, body: &Value) -> String {
    for (table, requests) in body["RequestItems"].as_object().into_iter().flatten() {
        for request in requests.as_array().into_iter().flatten() {
            let item = &request["PutRequest"]["Item"];
            let put = json!({ "TableName": table, "Item": item });
            write(row(tables, &put), &put);
        }
    }
    r#"{"UnprocessedItems":{}}"#.to_owned()
}

/// All rows of a partition, whatever else is asked: who asks here has written none before.
pub(super) fn query(
    tables: &mut HashMap<String, Table>,
    request: &Value,
) -> Result<String, Refusal> {
    let table = table_of(request);
    let first = key_names(table)?[0];
    let condition = request["KeyConditionExpression"].as_str().unwrap_or_default();
    let name = condition.split(" = ").nth(1).and_then(|it| it.split(' ').next());
    let wanted = &request["ExpressionAttributeValues"][name.unwrap_or_default()];
    let begin = format!("{wanted},");
    let rows = tables.entry(table.to_owned()).or_default().range(begin.clone()..);
    let rows = rows.take_while(|(key, _)| key.starts_with(&begin)).map(|it| it.1);
    let items: Vec<_> = rows.filter(|row| row.get(first) == Some(wanted)).collect();
    Ok(json!({ "Items": items, "Count": items.len(), "ScannedCount": items.len() }).to_string())
}
