//! The tables: contexts, resources, tags, and what is known of each resource.

mod asked;
#[cfg(feature = "handlers")]
mod claims;
mod members;
mod overrides;
mod sources;
mod states;
mod switched;
mod waiting;
mod writes;

use aws_sdk_dynamodb::{Client, types::AttributeValue as Attr};
use flotilla_runtime::{Failure, config::Reader};
use jiff::Timestamp;
use serde_json::Value;

#[cfg(feature = "handlers")]
pub use self::claims::Claiming;
pub(crate) use self::writes::is_invalid;
use self::writes::{ALWAYS, PRESENT, When, assignments, settled, unavailable, unreadable};
pub use self::{
    asked::Progress, members::Members, overrides::Overridden, switched::SwitchedBy,
    waiting::Waiting, writes::Said,
};
use crate::{
    rows::{
        ALL, Context, Item, ResourceRow, Resources, Service, Settings, Tag, from_item, json,
        to_item,
    },
    schedule::ClockChange,
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
        let table = &self.names.contexts;
        if id == ALL {
            return Ok(None);
        }
        let item = self.get(table, "contextID", id).await?;
        item.map(|item| from_item(&item).ok_or_else(|| unreadable(table, id))).transpose()
    }

    /// All contexts, in the order of their names, and the names of those whose rows are none.
    pub async fn contexts(&self) -> Result<(Vec<Context>, Vec<String>), Failure> {
        let (mut rows, mut broken) = self.all::<Context>(&self.names.contexts, "contextID").await?;
        rows.retain(|row| row.id != ALL);
        broken.retain(|id| id != ALL);
        rows.sort_by(|left, right| left.id.cmp(&right.id));
        Ok((rows, broken))
    }

    /// The resources of a context; none where it has no row.
    pub async fn resources(&self, context: &str) -> Result<ResourceRow, Failure> {
        let table = &self.names.resources;
        let Some(item) = self.get(table, "contextID", context).await? else {
            return Ok(ResourceRow { context: context.to_owned(), lists: Vec::new() });
        };
        let row = ResourceRow::from_json(context, &json(&item));
        row.ok_or_else(|| unreadable(table, context))
    }

    /// The resources of every context that has a row of them.
    pub async fn all_resources(&self) -> Result<Vec<Value>, Failure> {
        Ok(self.all(&self.names.resources, "contextID").await?.0)
    }

    /// A tag, if it is registered.
    pub async fn tag(&self, key: &str) -> Result<Option<Tag>, Failure> {
        let table = &self.names.tags;
        let item = self.get(table, "tagKey", key).await?;
        item.map(|item| from_item(&item).ok_or_else(|| unreadable(table, key))).transpose()
    }

    /// All tags, in the order of their keys, and the keys of those whose rows are none.
    pub async fn tags(&self) -> Result<(Vec<Tag>, Vec<String>), Failure> {
        let (mut rows, broken) = self.all::<Tag>(&self.names.tags, "tagKey").await?;
        rows.sort_by(|left, right| left.key.cmp(&right.key));
        Ok((rows, broken))
    }

    /// Registers a context, or changes it: what was done last is kept, and so is of `said` what the
    /// request does not name.
    pub async fn put_context(&self, context: &Context, said: Said) -> Result<(), Failure> {
        self.upsert(&self.names.contexts, "contextID", to_item(context), said).await
    }

    /// Registers a tag, or changes it, as [`put_context`](Self::put_context) does.
    pub async fn put_tag(&self, tag: &Tag, said: Said) -> Result<(), Failure> {
        self.upsert(&self.names.tags, "tagKey", to_item(tag), said).await
    }

    /// Writes the resources of a context.
    pub async fn put_resources(&self, row: &ResourceRow) -> Result<(), Failure> {
        let (table, json) = (&self.names.resources, row.to_json());
        let call = self.dynamo.put_item().table_name(table).set_item(Some(to_item(&json)));
        call.send().await.map(drop).map_err(|e| unavailable("PutItem", table, &e))
    }

    /// Forgets a context and its resources. False when there was none; the row of the scheduler's
    /// settings is none.
    pub async fn drop_context(&self, id: &str) -> Result<bool, Failure> {
        if id == ALL {
            return Ok(false);
        }
        self.delete(&self.names.resources, "contextID", id).await?;
        self.delete(&self.names.contexts, "contextID", id).await
    }

    /// Forgets a tag. False when there was none.
    pub async fn drop_tag(&self, key: &str) -> Result<bool, Failure> {
        self.forget_members(key).await?;
        self.delete(&self.names.tags, "tagKey", key).await
    }

    /// Sets fields of a context. False when there is none.
    pub async fn set_context(&self, id: &str, fields: &Value) -> Result<bool, Failure> {
        self.set(&self.names.contexts, ("contextID", id), fields, PRESENT).await
    }

    /// Sets fields of a tag. False when there is none.
    pub async fn set_tag(&self, key: &str, fields: &Value) -> Result<bool, Failure> {
        self.set(&self.names.tags, ("tagKey", key), fields, PRESENT).await
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
        self.set(&self.names.contexts, ("contextID", ALL), fields, ALWAYS).await.map(drop)
    }

    /// Notes that a tick was worked, unless a newer one is noted.
    pub async fn note_tick(&self, tick: Timestamp) -> Result<(), Failure> {
        let at = tick.as_second();
        let when = When { present: false, newer: Some(("lastTick", at)) };
        let fields = serde_json::json!({ "lastTick": at });
        self.set(&self.names.contexts, ("contextID", ALL), &fields, when).await.map(drop)
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

    /// The rows of a table, and the keys of those that cannot be read.
    async fn all<T: serde::de::DeserializeOwned>(
        &self,
        table: &str,
        key: &str,
    ) -> Result<(Vec<T>, Vec<String>), Failure> {
        let pages = self.dynamo.scan().table_name(table).consistent_read(true);
        let items = pages.into_paginator().items().send().collect::<Result<Vec<_>, _>>().await;
        let items = items.map_err(|e| unavailable("Scan", table, &e))?;
        let (mut rows, mut broken) = (Vec::new(), Vec::new());
        for item in &items {
            match from_item(item) {
                Some(row) => rows.push(row),
                None => broken.extend(item.get(key).and_then(|it| it.as_s().ok()).cloned()),
            }
        }
        Ok((rows, broken))
    }

    async fn delete(&self, table: &str, key: &str, value: &str) -> Result<bool, Failure> {
        let call = self.dynamo.delete_item().table_name(table).key(key, Attr::S(value.to_owned()));
        let answer = call.return_values(aws_sdk_dynamodb::types::ReturnValue::AllOld).send().await;
        let old = answer.map_err(|e| unavailable("DeleteItem", table, &e))?.attributes;
        Ok(old.is_some_and(|old| !old.is_empty()))
    }

    async fn upsert(
        &self,
        table: &str,
        key: &str,
        mut item: Item,
        said: Said,
    ) -> Result<(), Failure> {
        if !said.power {
            item.remove("powerState");
        }
        if !said.scheduled {
            item.remove("isScheduled");
        }
        if !said.values {
            item.remove("tagValues");
        }
        item.remove("lastScheduling");
        item.remove("lastByHand");
        item.remove("handAt");
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
            ("clockChange", Attr::M(to_item(&ClockChange::default()))),
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
        self.set(table, (key, name), &fields, ALWAYS).await.map(drop)
    }

    /// Sets fields of a row, where the condition is met; says whether it was.
    async fn set(
        &self,
        table: &str,
        (key, value): (&str, &str),
        fields: &Value,
        when: When<'_>,
    ) -> Result<bool, Failure> {
        let (expression, mut names, mut values) = assignments(fields);
        let condition = when.condition(key, &mut names, &mut values);
        let call = self.dynamo.update_item().table_name(table).update_expression(expression);
        let call = call
            .key(key, Attr::S(value.to_owned()))
            .set_condition_expression(condition)
            .set_expression_attribute_names(Some(names))
            .set_expression_attribute_values(Some(values));
        settled(call.send().await, table)
    }
}
