//! The tables: contexts, resources, tags, and what is known of each resource.

mod states;

use std::collections::HashMap;

use aws_sdk_dynamodb::{
    Client,
    error::SdkError,
    operation::update_item::{UpdateItemError, UpdateItemOutput},
    types::AttributeValue as Attr,
};
use flotilla_runtime::{Failure, config::Reader, failure::chain};
use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::rows::{
    ALL, Context, Item, ResourceRow, Resources, Service, Settings, Tag, from_item, json, to_item,
};

/// How often a change is tried anew when another came between.
const ATTEMPTS: usize = 20;

/// The names of the tables.
#[derive(Debug, Clone)]
pub struct TableNames {
    /// `FLOTILLA_CONTEXTS_TABLE`.
    pub contexts: String,
    /// `FLOTILLA_RESOURCES_TABLE`.
    pub resources: String,
    /// `FLOTILLA_TAGS_TABLE`.
    pub tags: String,
    /// `FLOTILLA_STATES_TABLE`: what is known of each resource.
    pub states: String,
}

impl TableNames {
    /// Reads the settings.
    pub fn read(settings: &mut Reader) -> Self {
        Self {
            contexts: settings.required("FLOTILLA_CONTEXTS_TABLE"),
            resources: settings.required("FLOTILLA_RESOURCES_TABLE"),
            tags: settings.required("FLOTILLA_TAGS_TABLE"),
            states: settings.required("FLOTILLA_STATES_TABLE"),
        }
    }
}

/// The tables.
#[derive(Debug, Clone)]
pub struct Store {
    dynamo: Client,
    names: TableNames,
}

impl Store {
    /// The tables behind a client.
    pub fn new(dynamo: Client, names: TableNames) -> Self {
        Self { dynamo, names }
    }

    /// A context, if it is registered.
    ///
    /// # Errors
    /// Transient, when DynamoDB does not answer; so for every method here.
    pub async fn context(&self, id: &str) -> Result<Option<Context>, Failure> {
        let item = self.get(&self.names.contexts, "contextID", id).await?;
        Ok(item.as_ref().and_then(from_item))
    }

    /// All contexts, in the order of their names.
    pub async fn contexts(&self) -> Result<Vec<Context>, Failure> {
        let mut rows: Vec<Context> = self.all(&self.names.contexts).await?;
        rows.retain(|row| row.id != ALL);
        rows.sort_by(|left, right| left.id.cmp(&right.id));
        Ok(rows)
    }

    /// The resources of a context; none where it has no row.
    pub async fn resources(&self, context: &str) -> Result<ResourceRow, Failure> {
        let item = self.get(&self.names.resources, "contextID", context).await?;
        let row = item.and_then(|item| ResourceRow::from_json(context, &json(&item)));
        Ok(row.unwrap_or_else(|| ResourceRow { context: context.to_owned(), lists: Vec::new() }))
    }

    /// The resources of every context that has a row of them.
    pub async fn all_resources(&self) -> Result<Vec<Value>, Failure> {
        self.all(&self.names.resources).await
    }

    /// A tag, if it is registered.
    pub async fn tag(&self, key: &str) -> Result<Option<Tag>, Failure> {
        let item = self.get(&self.names.tags, "tagKey", key).await?;
        Ok(item.as_ref().and_then(from_item))
    }

    /// All tags, in the order of their keys.
    pub async fn tags(&self) -> Result<Vec<Tag>, Failure> {
        let mut rows: Vec<Tag> = self.all(&self.names.tags).await?;
        rows.sort_by(|left, right| left.key.cmp(&right.key));
        Ok(rows)
    }

    /// Registers a context, or changes it: what was done last is kept.
    pub async fn put_context(&self, context: &Context) -> Result<(), Failure> {
        self.upsert(&self.names.contexts, "contextID", to_item(context)).await
    }

    /// Registers a tag, or changes it: what was done last is kept.
    pub async fn put_tag(&self, tag: &Tag) -> Result<(), Failure> {
        self.upsert(&self.names.tags, "tagKey", to_item(tag)).await
    }

    /// Writes the resources of a context.
    pub async fn put_resources(&self, row: &ResourceRow) -> Result<(), Failure> {
        let (table, json) = (&self.names.resources, row.to_json());
        let call = self.dynamo.put_item().table_name(table).set_item(Some(to_item(&json)));
        call.send().await.map(drop).map_err(|e| unavailable("PutItem", table, &e))
    }

    /// Forgets a context and its resources. False when there was none.
    pub async fn drop_context(&self, id: &str) -> Result<bool, Failure> {
        self.delete(&self.names.resources, "contextID", id).await?;
        self.delete(&self.names.contexts, "contextID", id).await
    }

    /// Forgets a tag. False when there was none.
    pub async fn drop_tag(&self, key: &str) -> Result<bool, Failure> {
        self.delete(&self.names.tags, "tagKey", key).await
    }

    /// Sets fields of a context. False when there is none.
    pub async fn set_context(&self, id: &str, fields: &Value) -> Result<bool, Failure> {
        self.set(&self.names.contexts, ("contextID", id), fields, true).await
    }

    /// Sets fields of a tag. False when there is none.
    pub async fn set_tag(&self, key: &str, fields: &Value) -> Result<bool, Failure> {
        self.set(&self.names.tags, ("tagKey", key), fields, true).await
    }

    /// Changes the list of one kind of a context's resources; what others change meanwhile is
    /// not lost. `change` says whether it changed anything, which is the answer.
    pub async fn change_resources(
        &self,
        context: &str,
        service: Service,
        change: impl Fn(&mut Resources) -> bool,
    ) -> Result<bool, Failure> {
        let (table, name) = (&self.names.resources, service.name());
        for _ in 0..ATTEMPTS {
            let item = self.get(table, "contextID", context).await?.unwrap_or_default();
            let old = item.get(name).cloned();
            let text = old.as_ref().and_then(|it| it.as_s().ok()).map(String::as_str);
            let list = text.and_then(|text| Resources::from_json(&Value::from(text)));
            let mut list = list.unwrap_or_default();
            if !change(&mut list) {
                return Ok(false);
            }
            let new = Attr::S(serde_json::to_string(&list).unwrap_or_default());
            if self.swap(table, ("contextID", context), name, old, new).await? {
                return Ok(true);
            }
        }
        Err(Failure::transient("busy", format!("the resources of {context} are changed by many")))
    }

    /// Changes the values of a tag, as [`change_resources`](Self::change_resources) does.
    pub async fn change_values(
        &self,
        key: &str,
        change: impl Fn(&mut Vec<String>) -> bool,
    ) -> Result<bool, Failure> {
        for _ in 0..ATTEMPTS {
            let item = self.get(&self.names.tags, "tagKey", key).await?.unwrap_or_default();
            let mut values = from_item::<Tag>(&item).map(|tag| tag.values).unwrap_or_default();
            if !change(&mut values) {
                return Ok(false);
            }
            let new = Attr::L(values.into_iter().map(Attr::S).collect());
            let old = item.get("tagValues").cloned();
            if self.swap(&self.names.tags, ("tagKey", key), "tagValues", old, new).await? {
                return Ok(true);
            }
        }
        Err(Failure::transient("busy", format!("the values of {key} are changed by many")))
    }

    /// Replaces one field, if it is still what it was.
    async fn swap(
        &self,
        table: &str,
        (key, value): (&str, &str),
        field: &str,
        old: Option<Attr>,
        new: Attr,
    ) -> Result<bool, Failure> {
        let condition = if old.is_some() { "#f = :old" } else { "attribute_not_exists(#f)" };
        let call = self.dynamo.update_item().table_name(table).key(key, Attr::S(value.to_owned()));
        let call = call.update_expression("SET #f = :new").condition_expression(condition);
        let call = call.expression_attribute_names("#f", field);
        let mut call = call.expression_attribute_values(":new", new);
        if let Some(old) = old {
            call = call.expression_attribute_values(":old", old);
        }
        settled(call.send().await, table)
    }

    /// Notes that a context was switched by hand. False when there is none.
    pub async fn context_by_hand(
        &self,
        id: &str,
        on: bool,
        at: Timestamp,
    ) -> Result<bool, Failure> {
        self.set_context(id, &by_hand(on, at)).await
    }

    /// Notes that a tag was switched by hand. False when there is none.
    pub async fn tag_by_hand(&self, key: &str, on: bool, at: Timestamp) -> Result<bool, Failure> {
        self.set_tag(key, &by_hand(on, at)).await
    }

    /// The client and the names of the tables, for writes inside a transaction.
    pub fn parts(&self) -> (&Client, &TableNames) {
        (&self.dynamo, &self.names)
    }

    /// Starts or stops the scheduler as a whole.
    pub async fn set_running(&self, running: bool) -> Result<(), Failure> {
        self.set_settings(&serde_json::json!({ "isScheduled": running })).await
    }

    /// Sets fields of the scheduler's settings, by the names that they have in the row.
    pub async fn set_settings(&self, fields: &Value) -> Result<(), Failure> {
        self.set(&self.names.contexts, ("contextID", ALL), fields, false).await.map(drop)
    }

    /// The scheduler's settings, with their defaults where nothing was ever set.
    pub async fn settings(&self) -> Result<Settings, Failure> {
        let item = self.get(&self.names.contexts, "contextID", ALL).await?.unwrap_or_default();
        from_item(&item).ok_or_else(|| {
            let table = &self.names.contexts;
            let what = format!("the row {ALL} of table {table} is no row of settings: mend it");
            Failure::transient("settings", what)
        })
    }

    async fn get(&self, table: &str, key: &str, value: &str) -> Result<Option<Item>, Failure> {
        let call = self.dynamo.get_item().table_name(table).key(key, Attr::S(value.to_owned()));
        let answer = call.consistent_read(true).send().await;
        Ok(answer.map_err(|e| unavailable("GetItem", table, &e))?.item)
    }

    async fn all<T: serde::de::DeserializeOwned>(&self, table: &str) -> Result<Vec<T>, Failure> {
        let pages = self.dynamo.scan().table_name(table).consistent_read(true);
        let items = pages.into_paginator().items().send().collect::<Result<Vec<_>, _>>().await;
        let items = items.map_err(|e| unavailable("Scan", table, &e))?;
        Ok(items.iter().filter_map(from_item).collect())
    }

    async fn delete(&self, table: &str, key: &str, value: &str) -> Result<bool, Failure> {
        let call = self.dynamo.delete_item().table_name(table).key(key, Attr::S(value.to_owned()));
        let answer = call.return_values(aws_sdk_dynamodb::types::ReturnValue::AllOld).send().await;
        let old = answer.map_err(|e| unavailable("DeleteItem", table, &e))?.attributes;
        Ok(old.is_some_and(|old| !old.is_empty()))
    }

    async fn upsert(&self, table: &str, key: &str, mut item: Item) -> Result<(), Failure> {
        item.remove("lastScheduling");
        item.remove("lastByHand");
        item.remove("powerByHand");
        item.remove("override");
        item.remove("leadSeconds");
        // A schedule of rules after one of a period, say: what is not said is not kept.
        let text = || Attr::S(String::new());
        let unsaid = [
            ("schedulingPeriod", text()),
            ("holidays", text()),
            ("mode", Attr::S("enforce".to_owned())),
            ("dryRun", Attr::Bool(false)),
            ("readyBy", Attr::Bool(false)),
        ];
        for (field, value) in unsaid {
            item.entry(field.to_owned()).or_insert(value);
        }
        if key == "contextID" {
            item.entry("stages".to_owned()).or_insert_with(|| Attr::L(Vec::new()));
        }
        let name = item.remove(key).unwrap_or(Attr::S(String::new()));
        let fields = json(&item);
        let name = name.as_s().map(String::as_str).unwrap_or_default();
        self.set(table, (key, name), &fields, false).await.map(drop)
    }

    /// Sets fields of a row; with `present` only where there is one.
    async fn set(
        &self,
        table: &str,
        (key, value): (&str, &str),
        fields: &Value,
        present: bool,
    ) -> Result<bool, Failure> {
        let (expression, names, values) = assignments(fields);
        let call = self.dynamo.update_item().table_name(table).update_expression(expression);
        let mut call = call
            .key(key, Attr::S(value.to_owned()))
            .set_expression_attribute_names(Some(names))
            .set_expression_attribute_values(Some(values));
        if present {
            call = call.condition_expression("attribute_exists(#key)");
            call = call.expression_attribute_names("#key", key);
        }
        settled(call.send().await, table)
    }
}

/// An update expression that sets these fields, with the names and values that it uses.
fn assignments(fields: &Value) -> (String, HashMap<String, String>, Item) {
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
fn settled(
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

fn by_hand(on: bool, at: Timestamp) -> Value {
    let (now, none) = (at.as_second(), Value::Null);
    serde_json::json!({ "powerState": on, "powerByHand": on, "lastByHand": now, "override": none })
}

fn unavailable(what: &str, table: &str, error: &(dyn std::error::Error + 'static)) -> Failure {
    Failure::transient("schedule_tables", format!("{what} in table {table}: {}", chain(error)))
}
