//! What contexts and tags are told: when they were acted on, and that a hand switched them.

use aws_sdk_dynamodb::types::{AttributeValue as Attr, TransactWriteItem, Update};
use flotilla_runtime::Failure;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Store, When, assignments};

impl Store {
    /// The table and key of a context or tag (`context/web`, `tag/env`).
    fn row_of<'a>(&'a self, source: &'a str) -> Option<(&'a str, &'static str, &'a str)> {
        match source.split_once('/')? {
            ("context", id) => Some((&self.names.contexts, "contextID", id)),
            ("tag", key) => Some((&self.names.tags, "tagKey", key)),
            _ => None,
        }
    }

    /// Tells a context or tag when it was acted on, and in which state it is where it was put into
    /// one. One that was unregistered meanwhile, or was acted on later, is not told.
    ///
    /// # Errors
    /// Transient, when DynamoDB does not answer.
    pub async fn acted(&self, source: &str, on: Option<bool>, at: i64) -> Result<(), Failure> {
        let Some((table, key, name)) = self.row_of(source) else { return Ok(()) };
        self.set(table, (key, name), &telling(on, at), newer("lastScheduling", at)).await.map(drop)
    }

    /// The same as a part of a transaction, which is refused where it is not told; none for what is
    /// no context and no tag.
    ///
    /// # Errors
    /// Permanent, when there is no such update.
    pub fn telling(
        &self,
        source: &str,
        on: Option<bool>,
        at: i64,
    ) -> Option<Result<TransactWriteItem, Failure>> {
        let (table, key, name) = self.row_of(source)?;
        let (expression, mut names, mut values) = assignments(&telling(on, at));
        let condition = newer("lastScheduling", at).condition(key, &mut names, &mut values);
        let update = Update::builder()
            .table_name(table)
            .key(key, Attr::S(name.to_owned()))
            .update_expression(expression)
            .set_condition_expression(condition)
            .set_expression_attribute_names(Some(names))
            .set_expression_attribute_values(Some(values))
            .build();
        let update = update.map(|it| TransactWriteItem::builder().update(it).build());
        Some(update.map_err(|e| Failure::permanent("request", "a source's row").caused_by(e)))
    }

    /// Notes that a context or tag was switched by hand at an instant; `ends` says whether that
    /// ends its override. False when there is none, or a hand switched it later.
    ///
    /// # Errors
    /// Transient, when DynamoDB does not answer.
    pub async fn by_hand(
        &self,
        source: &str,
        on: bool,
        at: Timestamp,
        ends: bool,
    ) -> Result<bool, Failure> {
        let Some((table, key, name)) = self.row_of(source) else { return Ok(false) };
        let (second, exact) = (at.as_second(), at.as_millisecond());
        let mut fields = json!({
            "powerState": on, "powerByHand": on, "lastByHand": second, "handAt": exact,
        });
        if ends {
            fields["override"] = Value::Null;
        }
        self.set(table, (key, name), &fields, newer("handAt", exact)).await
    }
}

fn newer(field: &str, at: i64) -> When<'_> {
    When { present: true, newer: Some((field, at)) }
}

fn telling(on: Option<bool>, at: i64) -> Value {
    let mut fields = json!({ "lastScheduling": at });
    if let Some(on) = on {
        fields["powerState"] = json!(on);
    }
    fields
}
