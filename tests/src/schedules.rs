//! The scheduler and the gateway in a world.

use std::{net::TcpListener, time::Duration};

use aws_sdk_dynamodb::types::AttributeValue as Attr;
use serde_json::{Value, json};

use crate::{
    Moto, Worker, World,
    wait::{eventually, http},
    worker::WorkerBuilder,
};

/// A gateway that answers, at its address.
#[derive(Debug)]
pub struct Gateway {
    /// The process.
    pub process: Worker,
    addr: String,
}

/// A row of the audit, as text by field.
pub type AuditRow = std::collections::BTreeMap<String, String>;

impl World {
    /// A scheduler, not started yet, that switches what moto has.
    pub fn schedule_executor(&self, moto: &Moto) -> WorkerBuilder {
        let outputs = self.outputs();
        self.worker("schedule-executor")
            .env("FLOTILLA_QUEUE_URL", &outputs.schedule_queue_url)
            .env("FLOTILLA_CONTEXTS_TABLE", &outputs.contexts_table_name)
            .env("FLOTILLA_RESOURCES_TABLE", &outputs.resources_table_name)
            .env("FLOTILLA_TAGS_TABLE", &outputs.tags_table_name)
            .env("FLOTILLA_STATES_TABLE", &outputs.states_table_name)
            .env("FLOTILLA_AUDIT_TABLE", &outputs.audit_table_name)
            .env("FLOTILLA_ACCOUNT", "123456789012")
            .env("AWS_ENDPOINT_URL_AUTO_SCALING", moto.url())
            .env("AWS_ENDPOINT_URL_ECS", moto.url())
            .env("AWS_ENDPOINT_URL_STS", moto.url())
            .env("AWS_ENDPOINT_URL_EC2", moto.url())
            .env("AWS_ENDPOINT_URL_RDS", moto.url())
            .env("AWS_ENDPOINT_URL_RESOURCE_GROUPS_TAGGING_API", moto.url())
    }

    /// A gateway that answers, on this world's tables and the scheduler's queue.
    pub async fn gateway(&self, settings: &[(&str, &str)]) -> Gateway {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr());
        let addr = port.expect("a free port").to_string();
        let outputs = self.outputs();
        let builder = self
            .worker("gateway")
            .env("FLOTILLA_GATEWAY_ADDR", &addr)
            .env("FLOTILLA_ACCOUNT", "123456789012")
            .env("FLOTILLA_SCHEDULE_QUEUE_URL", &outputs.schedule_queue_url)
            .env("FLOTILLA_AUDIT_TABLE", &outputs.audit_table_name)
            .env("FLOTILLA_CONTEXTS_TABLE", &outputs.contexts_table_name)
            .env("FLOTILLA_RESOURCES_TABLE", &outputs.resources_table_name)
            .env("FLOTILLA_TAGS_TABLE", &outputs.tags_table_name)
            .env("FLOTILLA_STATES_TABLE", &outputs.states_table_name);
        let builder = settings.iter().fold(builder, |it, (name, value)| it.env(name, value));
        let gateway = Gateway { process: builder.start(), addr };
        eventually("the gateway", Duration::from_secs(30), async || {
            http("GET", &gateway.addr, "/healthz", &[], "").await
        })
        .await;
        gateway
    }

    /// Sends a message to the scheduler's queue.
    pub async fn schedule(&self, message: Value) {
        let call = self.aws.sqs.send_message().queue_url(&self.outputs().schedule_queue_url);
        call.message_body(message.to_string()).send().await.expect("SendMessage");
    }

    /// Sends a tick with this clock, and waits until all that follows of it is done.
    pub async fn tick(&self, time: &str) {
        self.schedule(json!({
            "version": "0", "id": "tick", "detail-type": "Scheduled Event",
            "source": "aws.events", "account": "123456789012", "time": time,
            "region": "us-east-1", "resources": [], "detail": {},
        }))
        .await;
        self.until_scheduled().await;
    }

    /// Waits until the scheduler's queue holds nothing. A plan sends its batches before it is
    /// deleted, so an empty queue is the end of all of it.
    pub async fn until_scheduled(&self) {
        eventually("an empty schedule queue", Duration::from_secs(120), async || {
            (self.left_on(&self.outputs().schedule_queue_url).await == 0).then_some(())
        })
        .await;
    }

    /// How many resources the audit has a row of with this outcome and action.
    pub async fn audited(&self, outcome: &str, action: &str) -> usize {
        let call = self.aws.dynamo.scan().table_name(&self.outputs().audit_table_name);
        let call = call.filter_expression("outcome = :o AND #a = :a AND NOT begins_with(#r, :b)");
        let call = call.expression_attribute_names("#a", "action");
        let call = call.expression_attribute_names("#r", "resource");
        let call = call.expression_attribute_values(":o", Attr::S(outcome.to_owned()));
        let call = call.expression_attribute_values(":a", Attr::S(action.to_owned()));
        let call = call.expression_attribute_values(":b", Attr::S("bulk/".to_owned()));
        let rows = call.into_paginator().items().send().collect::<Result<Vec<_>, _>>().await;
        let names = rows
            .expect("Scan")
            .into_iter()
            .filter_map(|row| row.get("resource")?.as_s().ok().cloned());
        names.collect::<std::collections::HashSet<_>>().len()
    }

    /// The audit's rows of a resource, in the order of their keys.
    pub async fn audit(&self, resource: &str) -> Vec<AuditRow> {
        let call = self.aws.dynamo.query().table_name(&self.outputs().audit_table_name);
        let call = call.key_condition_expression("#r = :r").consistent_read(true);
        let call = call.expression_attribute_names("#r", "resource");
        let call = call.expression_attribute_values(":r", Attr::S(resource.to_owned()));
        let items = call.send().await.expect("Query").items.unwrap_or_default();
        let text = |attr: Attr| match attr {
            Attr::S(text) | Attr::N(text) => text,
            other => format!("{other:?}"),
        };
        let rows = items.into_iter().map(|item| item.into_iter().map(|(k, v)| (k, text(v))));
        rows.map(Iterator::collect).collect()
    }
}

impl Gateway {
    /// Its host and port.
    pub fn addr(&self) -> &str {
        &self.addr
    }

    /// Status and JSON of a request's answer; null for an empty one.
    pub async fn ask(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let headers = [("Content-Type", "application/json")];
        let answer = http(method, &self.addr, path, &headers, &body).await.expect("an answer");
        (answer.0, serde_json::from_str(&answer.1).unwrap_or(Value::Null))
    }

    /// A request of the original: POST, and the `statusCode` and `body` of the answer.
    pub async fn post(&self, path: &str, data: Value) -> (u64, Value) {
        let (status, answer) = self.ask("POST", path, data).await;
        assert_eq!(answer["statusCode"], status, "{path}: {answer}");
        (u64::from(status), answer["body"].clone())
    }

    /// The head of an answer, lower case.
    pub async fn head(&self, method: &str, path: &str) -> String {
        crate::wait::http_text(method, &self.addr, path, &[], "")
            .await
            .and_then(|text| Some(text.split_once("\r\n\r\n")?.0.to_lowercase()))
            .expect("an answer")
    }
}
