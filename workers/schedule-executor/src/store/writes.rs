//! Writes of some fields of a row, under a condition, and what became of them.

use std::collections::HashMap;

use aws_sdk_dynamodb::{
    error::{ProvideErrorMetadata, SdkError},
    operation::update_item::{UpdateItemError, UpdateItemOutput},
    types::AttributeValue as Attr,
};
use flotilla_runtime::{Failure, failure::chain};
use serde_json::{Map, Value};

use crate::rows::{Item, to_item};

/// What a registration names of that which requests of their own change, too: what is not named stays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Said {
    /// `powerState`: whether it is on.
    pub power: bool,
    /// `isScheduled`: whether its scheduler runs.
    pub scheduled: bool,
    /// `tagValues`: the values of a tag that count.
    pub values: bool,
}

impl Said {
    /// What a request names.
    pub fn of(request: &Value) -> Self {
        let [power, scheduled, values] =
            ["powerState", "isScheduled", "tagValues"].map(|field| request.get(field).is_some());
        Self { power, scheduled, values }
    }
}

/// When fields of a row are set.
#[derive(Debug, Clone, Copy)]
pub(super) struct When<'a> {
    /// Only where there is the row.
    pub(super) present: bool,
    /// Only where this field holds no greater number than this one.
    pub(super) newer: Option<(&'a str, i64)>,
}

pub(super) const ALWAYS: When<'_> = When { present: false, newer: None };
pub(super) const PRESENT: When<'_> = When { present: true, newer: None };

impl When<'_> {
    /// The condition of a write, with the names and values that it uses.
    pub(super) fn condition(
        self,
        key: &str,
        names: &mut HashMap<String, String>,
        values: &mut Item,
    ) -> Option<String> {
        let mut parts = Vec::new();
        if self.present {
            names.insert("#key".to_owned(), key.to_owned());
            parts.push("attribute_exists(#key)");
        }
        if let Some((field, number)) = self.newer {
            names.insert("#newer".to_owned(), field.to_owned());
            values.insert(":next".to_owned(), Attr::N(number.saturating_add(1).to_string()));
            parts.push("(attribute_not_exists(#newer) OR #newer < :next)");
        }
        (!parts.is_empty()).then(|| parts.join(" AND "))
    }
}

/// An update expression that sets these fields, with the names and values that it uses.
pub(super) fn assignments(fields: &Value) -> (String, HashMap<String, String>, Item) {
    let none = Map::new();
    let fields = fields.as_object().unwrap_or(&none);
    let (mut sets, mut names, mut values) = (Vec::new(), HashMap::new(), Item::new());
    for (index, (name, attr)) in to_item(fields).into_iter().enumerate() {
        sets.push(format!("#f{index} = :v{index}"));
        names.insert(format!("#f{index}"), name);
        values.insert(format!(":v{index}"), attr);
    }
    (format!("SET {}", sets.join(", ")), names, values)
}

/// Whether a conditional update took place.
pub(super) fn settled(
    answer: Result<UpdateItemOutput, SdkError<UpdateItemError>>,
    table: &str,
) -> Result<bool, Failure> {
    match answer {
        Ok(_) => Ok(true),
        Err(e)
            if matches!(
                e.as_service_error(),
                Some(UpdateItemError::ConditionalCheckFailedException(_))
            ) =>
        {
            Ok(false)
        }
        Err(e) => Err(unavailable("UpdateItem", table, &e)),
    }
}

pub(super) fn unreadable(table: &str, key: &str) -> Failure {
    let what = format!("the row {key:?} of table {table} cannot be read: register it anew");
    Failure::permanent("unreadable", what)
}

/// A call that a table did not take: for good, where it is the call that is wrong.
pub(super) fn unavailable<E, R>(what: &str, table: &str, error: &SdkError<E, R>) -> Failure
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    R: std::fmt::Debug + 'static,
{
    let message = format!("{what} in table {table}: {}", chain(error));
    match is_invalid(error) {
        true => Failure::permanent("schedule_tables", message),
        false => Failure::transient("schedule_tables", message),
    }
}

/// Whether it is the call itself that DynamoDB does not take: a key or a row that is too long.
pub(crate) fn is_invalid<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> bool {
    error.as_service_error().and_then(|it| it.meta().code()) == Some("ValidationException")
}
