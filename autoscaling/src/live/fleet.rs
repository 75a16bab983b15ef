//! The fleet table: what the workers tell, and what they are told.

use std::collections::HashMap;

use aws_config::SdkConfig;
use aws_sdk_dynamodb::{Client, types::AttributeValue as Attr};
use flotilla_runtime::{
    aws::dynamo_client,
    failure::{Failure, chain},
    tally,
};

use super::now_ms;
use crate::{FREEZE_ROW, observed::Millis};

/// Rows of the autoscaler's own begin with this, as no instance's id does.
const OWN: char = '#';
/// A row of an instance that never told of itself is removed after this.
const ROW_LIFE_S: u64 = 24 * 3600;

pub(super) type Item = HashMap<String, Attr>;

/// What each sender of a queue counted.
pub(super) type Senders = HashMap<String, u64>;

/// The rows of a group.
#[derive(Debug, Clone)]
pub(super) struct Fleet {
    pub(super) client: Client,
    pub(super) table: String,
    pub(super) group: String,
}

/// What is known of an instance.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Row {
    /// When the worker last told of itself; 0 for never.
    pub(super) at: Millis,
    pub(super) since: Millis,
    /// When it was first seen outside of the warm pool.
    pub(super) seen_at: Option<Millis>,
    /// Whether it may have come out of the warm pool.
    pub(super) pooled: bool,
    pub(super) started_at: Option<Millis>,
    pub(super) ready_at: Option<Millis>,
    /// When the first of its workers was ready.
    pub(super) first_ready_at: Option<Millis>,
    /// Whether it is a spot instance.
    pub(super) spot: bool,
    pub(super) slots: u32,
    pub(super) held: u32,
    pub(super) jobs: u64,
    pub(super) total_ms: Millis,
    pub(super) queue: String,
    /// Messages of each queue, by name, that its worker is done with.
    pub(super) gone: HashMap<String, u64>,
    pub(super) job: String,
    /// When it was ordered to drain.
    pub(super) drain: Option<Millis>,
    /// When it said that it is drained.
    pub(super) drained: Option<Millis>,
}

/// All rows of a group.
#[derive(Debug, Clone, Default)]
pub(super) struct Rows {
    pub(super) instances: HashMap<String, Row>,
    /// Why nothing may be done, where an operator says so.
    pub(super) frozen: Option<String>,
}

impl Fleet {
    pub(super) fn new(sdk: &SdkConfig, table: &str, group: &str) -> Self {
        let (table, group) = (table.to_owned(), group.to_owned());
        Self { client: dynamo_client(sdk), table, group }
    }

    pub(super) async fn rows(&self) -> Result<Rows, Failure> {
        let mut rows = Rows::default();
        self.read(&self.group, |item| rows.add(&item)).await?;
        Ok(rows)
    }

    /// What the senders of a queue say that they sent, each since its start.
    pub(super) async fn senders(&self, queue: &str) -> Result<Senders, Failure> {
        let mut senders = Senders::new();
        let add = |item: Item| senders.extend(words(&item, "instance").zip(numeral(&item, "sent")));
        self.read(&tally::group_of(queue), add).await?;
        Ok(senders)
    }

    /// One row of the group as it is; empty where there is none.
    pub(super) async fn row(&self, name: &str) -> Result<Item, Failure> {
        let call = self.client.query().table_name(&self.table).consistent_read(true);
        let call = call.key_condition_expression("#group = :group AND #row = :row");
        let call = call.expression_attribute_names("#group", "group");
        let call = call.expression_attribute_names("#row", "instance");
        let call = call.expression_attribute_values(":group", text(&self.group));
        let call = call.expression_attribute_values(":row", text(name));
        let answer = call.send().await.map_err(|e| self.failed("reading", &e))?;
        Ok(answer.items.unwrap_or_default().into_iter().next().unwrap_or_default())
    }

    async fn read(&self, group: &str, mut add: impl FnMut(Item)) -> Result<(), Failure> {
        let call = self.client.query().table_name(&self.table).consistent_read(true);
        let call = call.key_condition_expression("#group = :group");
        let call = call.expression_attribute_names("#group", "group");
        let call = call.expression_attribute_values(":group", text(group));
        let mut items = call.into_paginator().items().send();
        while let Some(item) = items.next().await {
            add(item.map_err(|e| self.failed("reading", &e))?);
        }
        Ok(())
    }

    /// Notes when an instance was first seen, and whether it may be `pooled`: out of the warm pool.
    pub(super) async fn see(&self, instance: &str, pooled: bool) -> Result<(), Failure> {
        let call = self.update(instance);
        let call = call.update_expression(format!(
            "SET seen_at = if_not_exists(seen_at, :now), \
             expires_at = if_not_exists(expires_at, :end){}",
            if pooled { ", pooled = :now" } else { "" }
        ));
        let call = call.expression_attribute_values(":now", number(now_ms()));
        let call = call.expression_attribute_values(":end", number(now_ms() / 1000 + ROW_LIFE_S));
        call.send().await.map(drop).map_err(|e| self.failed("writing to", &e))
    }

    /// Orders the worker of an instance to drain, unless it has begun to work since the look;
    /// false then.
    pub(super) async fn order_drain(&self, instance: &str) -> Result<bool, Failure> {
        self.drain_where(instance, "held = :seen", 0).await
    }

    /// Orders an instance to drain whose worker was last heard of at `at` (0 for never), unless it
    /// has told of itself since the look; false then.
    pub(super) async fn order_silent(&self, instance: &str, at: Millis) -> Result<bool, Failure> {
        match at {
            0 => self.drain_where(instance, "attribute_not_exists(#at) OR #at = :seen", 0).await,
            _ => self.drain_where(instance, "#at = :seen", at).await,
        }
    }

    async fn drain_where(&self, instance: &str, so: &str, seen: u64) -> Result<bool, Failure> {
        let call = self.update(instance).update_expression("SET #drain = :now");
        let call = call.condition_expression(so).expression_attribute_names("#drain", "drain");
        let call = match so.contains("#at") {
            true => call.expression_attribute_names("#at", "at"),
            false => call,
        };
        let call = call.expression_attribute_values(":now", number(now_ms()));
        let call = call.expression_attribute_values(":seen", number(seen));
        match call.send().await {
            Ok(_) => Ok(true),
            Err(e)
                if e.as_service_error()
                    .is_some_and(|e| e.is_conditional_check_failed_exception()) =>
            {
                Ok(false)
            }
            Err(e) => Err(self.failed("writing to", &e)),
        }
    }

    /// Forgets an instance that is gone.
    pub(super) async fn forget(&self, instance: &str) -> Result<(), Failure> {
        let call = self.client.delete_item().table_name(&self.table);
        let call = call.key("group", text(&self.group)).key("instance", text(instance));
        call.send().await.map(drop).map_err(|e| self.failed("deleting from", &e))
    }

    pub(super) fn update(
        &self,
        instance: &str,
    ) -> aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder {
        let call = self.client.update_item().table_name(&self.table);
        call.key("group", text(&self.group)).key("instance", text(instance))
    }

    pub(super) fn failed<E: std::error::Error + 'static>(&self, what: &str, error: &E) -> Failure {
        let Self { table, group, .. } = self;
        let why = chain(error);
        Failure::transient("fleet_table", format!("{what} table {table} for group {group}: {why}"))
    }
}

impl Rows {
    fn add(&mut self, item: &Item) {
        let name = words(item, "instance").unwrap_or_default();
        if name == FREEZE_ROW {
            self.frozen = Some(words(item, "why").unwrap_or_else(|| "no reason given".to_owned()));
        }
        if !name.starts_with(OWN) {
            self.instances.insert(name, Row::of(item));
        }
    }
}

impl Row {
    fn of(item: &Item) -> Self {
        let count = |name| numeral(item, name).unwrap_or_default();
        let small = |name| u32::try_from(count(name)).unwrap_or(u32::MAX);
        Self {
            at: count("at"),
            since: count("since"),
            seen_at: numeral(item, "seen_at"),
            pooled: numeral(item, "pooled").is_some(),
            started_at: numeral(item, "started_at"),
            ready_at: numeral(item, "ready_at"),
            first_ready_at: numeral(item, "first_ready_at"),
            spot: words(item, "life_cycle").is_some_and(|it| it == "spot"),
            slots: small("slots"),
            held: small("held"),
            jobs: count("jobs"),
            total_ms: count("total_ms"),
            queue: words(item, "queue").unwrap_or_default(),
            gone: numerals(item, "gone"),
            job: words(item, "job").unwrap_or_default(),
            drain: numeral(item, "drain"),
            drained: numeral(item, "drained"),
        }
    }
}

pub(super) fn text(value: &str) -> Attr {
    Attr::S(value.to_owned())
}

pub(super) fn number(value: u64) -> Attr {
    Attr::N(value.to_string())
}

pub(super) fn words(item: &Item, name: &str) -> Option<String> {
    item.get(name)?.as_s().ok().cloned()
}

pub(super) fn numeral(item: &Item, name: &str) -> Option<u64> {
    item.get(name)?.as_n().ok()?.parse().ok()
}

fn numerals(item: &Item, name: &str) -> HashMap<String, u64> {
    let map = item.get(name).and_then(|it| it.as_m().ok());
    let names = map.into_iter().flat_map(Item::keys);
    names.filter_map(|key| Some((key.clone(), numeral(map?, key)?))).collect()
}
