//! The process that sizes a group, and its rows of the fleet table.

use std::{collections::HashMap, path::PathBuf, time::Duration};

use aws_sdk_dynamodb::types::AttributeValue as Attr;
use serde_json::Value;

use crate::{ScaledGroup, Worker, WorkerBuilder, World, wait::eventually};

/// An autoscaler's process, and its log of decisions.
#[derive(Debug)]
pub struct Autoscaler {
    /// The process.
    pub process: Worker,
    /// The file of its decisions.
    pub log: PathBuf,
}

impl Autoscaler {
    /// The decisions so far, each with what the line after it says was done of it.
    pub fn decisions(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        // The last line may be half written.
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut decisions: Vec<Value> = Vec::new();
        for line in lines {
            match decisions.last_mut().filter(|_| line.get("decision").is_none()) {
                Some(decision) => decision["done"] = line["done"].clone(),
                None => decisions.push(line),
            }
        }
        decisions
    }

    /// Whether it owns the group, as its metrics say.
    pub async fn owns(&self) -> bool {
        let page = self.process.page("/metrics").await.unwrap_or_default().1;
        let mut lines = page.lines().filter(|line| line.starts_with("flotilla_autoscaler_owner"));
        lines.next().is_some_and(|line| line.ends_with(" 1"))
    }

    /// Returns once it owns the group.
    pub async fn until_owner(&self) {
        let owns = async || self.owns().await.then_some(());
        eventually("the owner of the group", Duration::from_secs(30), owns).await;
    }
}

impl World {
    /// An autoscaler of this group on the grading queue, quick to decide; not started yet.
    pub fn autoscaler(&self, group: &ScaledGroup) -> (WorkerBuilder, PathBuf) {
        self.autoscaler_of(&group.name, &group.moto.url())
    }

    /// The same of the group of this name at this endpoint.
    pub fn autoscaler_of(&self, group: &str, url: &str) -> (WorkerBuilder, PathBuf) {
        let log = self.folder().join(format!("decisions-{}.jsonl", uuid::Uuid::new_v4().simple()));
        let builder = self
            .worker("autoscaler")
            .env("AWS_ENDPOINT_URL_AUTO_SCALING", url)
            .env("FLOTILLA_GROUP", group)
            .env("FLOTILLA_QUEUE_URLS", &self.outputs().grading_queue_url)
            .env("FLOTILLA_FLEET_TABLE", &self.outputs().fleet_table_name)
            .env("FLOTILLA_DECISION_LOG", &log)
            .env("FLOTILLA_MAX_INSTANCES", "3")
            .env("FLOTILLA_DECIDE_SECONDS", "0.3")
            .env("FLOTILLA_LEASE_SECONDS", "2")
            .env("FLOTILLA_SILENT_SECONDS", "10")
            .env("FLOTILLA_COUNT_LAG_SECONDS", "0")
            .env("FLOTILLA_BOOT_SECONDS", "2")
            .env("FLOTILLA_MINIMUM_BILLED_SECONDS", "1");
        (builder, log)
    }

    /// Starts an autoscaler of this group.
    pub fn autoscale(&self, group: &ScaledGroup) -> Autoscaler {
        let (builder, log) = self.autoscaler(group);
        Autoscaler { process: builder.start(), log }
    }

    /// What is written of an instance in the fleet table; nothing where it has no row.
    pub async fn fleet_row(&self, group: &str, instance: &str) -> HashMap<String, Attr> {
        let call = self.aws.dynamo.get_item().table_name(&self.outputs().fleet_table_name);
        let call = call.key("group", Attr::S(group.to_owned())).consistent_read(true);
        let call = call.key("instance", Attr::S(instance.to_owned()));
        call.send().await.expect("GetItem").item.unwrap_or_default()
    }

    /// Orders the worker of an instance to drain, as an autoscaler does.
    pub async fn order_to_drain(&self, group: &str, instance: &str) {
        let call = self.aws.dynamo.update_item().table_name(&self.outputs().fleet_table_name);
        let call = call.key("group", Attr::S(group.to_owned()));
        let call = call.key("instance", Attr::S(instance.to_owned()));
        let call = call.update_expression("SET #drain = :now");
        let call = call.expression_attribute_names("#drain", "drain");
        let call = call.expression_attribute_values(":now", Attr::N("1".to_owned()));
        call.send().await.expect("UpdateItem");
    }
}
