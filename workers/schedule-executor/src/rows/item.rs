//! Rows as DynamoDB keeps them.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue as Attr;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Number, Value};

/// A DynamoDB item.
pub type Item = HashMap<String, Attr>;

/// A row as an item.
pub fn to_item(row: &impl Serialize) -> Item {
    match serde_json::to_value(row) {
        Ok(Value::Object(fields)) => {
            fields.iter().map(|(name, value)| (name.clone(), attribute(value))).collect()
        }
        _ => Item::new(),
    }
}

/// An item as a row; `None` where it is no such row.
pub fn from_item<T: DeserializeOwned>(item: &Item) -> Option<T> {
    serde_json::from_value(json(item)).ok()
}

/// An item as JSON.
pub fn json(item: &Item) -> Value {
    item.iter().map(|(name, attr)| (name.clone(), value(attr))).collect::<Map<_, _>>().into()
}

fn attribute(value: &Value) -> Attr {
    match value {
        Value::Null => Attr::Null(true),
        Value::Bool(it) => Attr::Bool(*it),
        Value::Number(it) => Attr::N(it.to_string()),
        Value::String(it) => Attr::S(it.clone()),
        Value::Array(it) => Attr::L(it.iter().map(attribute).collect()),
        Value::Object(it) => Attr::M(it.iter().map(|(k, v)| (k.clone(), attribute(v))).collect()),
    }
}

fn value(attr: &Attr) -> Value {
    match attr {
        Attr::Bool(it) => Value::Bool(*it),
        Attr::N(it) => it.parse::<Number>().map_or(Value::Null, Value::Number),
        Attr::S(it) => Value::String(it.clone()),
        Attr::L(it) => it.iter().map(value).collect(),
        Attr::Ss(it) => it.iter().cloned().map(Value::String).collect(),
        Attr::M(it) => it.iter().map(|(k, v)| (k.clone(), value(v))).collect(),
        _ => Value::Null,
    }
}
