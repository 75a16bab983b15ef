//! Queues and their policies.

use std::collections::HashMap;

use aws_sdk_sqs::types::QueueAttributeName as Attribute;
use serde_json::{Value, json};

use super::{Found, present};
use crate::{
    aws::Clients,
    error::{Doing, Error},
};

/// Attributes that are numbers in a template.
const NUMBERS: [&str; 5] = [
    "VisibilityTimeout",
    "MessageRetentionPeriod",
    "ReceiveMessageWaitTimeSeconds",
    "DelaySeconds",
    "MaximumMessageSize",
];

/// A queue's properties; `None` where there is no queue of this name.
pub(super) async fn queue(clients: &Clients, name: &str) -> Result<Option<Found>, Error> {
    let Some(url) = url(clients, name).await? else {
        return Ok(None);
    };
    let attributes = attributes(clients, &url).await?;
    let mut found: Found = NUMBERS
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), number(attributes.get(*name)?)?)))
        .collect();
    found.insert("QueueName".to_owned(), json!(name));
    found.append(&mut present([
        (
            "SqsManagedSseEnabled",
            attributes.get("SqsManagedSseEnabled").map(|it| json!(it == "true")),
        ),
        ("RedrivePolicy", attributes.get("RedrivePolicy").and_then(|it| redrive(it))),
    ]));
    Ok(Some(found))
}

/// The policy that the named queues carry; `None` where one of them has none.
pub(super) async fn policy(clients: &Clients, wanted: &Found) -> Result<Option<Found>, Error> {
    let urls = wanted.get("Queues").and_then(Value::as_array).cloned().unwrap_or_default();
    let mut policy = None;
    for url in urls.iter().filter_map(Value::as_str) {
        let attributes = attributes(clients, url).await?;
        let Some(text) = attributes.get("Policy") else {
            return Ok(None);
        };
        let document: Value = serde_json::from_str(text).unwrap_or_else(|_| json!(text));
        // The first that is not as wanted is the one to report.
        if policy.is_none() || Some(&document) != wanted.get("PolicyDocument") {
            policy = Some(document);
        }
    }
    Ok(policy.map(|document| {
        present([("Queues", Some(json!(urls))), ("PolicyDocument", Some(document))])
    }))
}

async fn url(clients: &Clients, name: &str) -> Result<Option<String>, Error> {
    let answer = clients.sqs.get_queue_url().queue_name(name).send().await;
    match answer {
        Ok(answer) => Ok(answer.queue_url),
        Err(e) if e.as_service_error().is_some_and(|e| e.is_queue_does_not_exist()) => Ok(None),
        Err(e) => Err(Error::aws(format!("asking for the URL of queue {name}"), e)),
    }
}

async fn attributes(clients: &Clients, url: &str) -> Result<HashMap<String, String>, Error> {
    let request = clients.sqs.get_queue_attributes().queue_url(url);
    let answer = request.attribute_names(Attribute::All).send().await;
    let attributes = answer.doing(|| format!("describing queue {url}"))?.attributes;
    let attributes = attributes.unwrap_or_default().into_iter();
    Ok(attributes.map(|(name, value)| (name.as_str().to_owned(), value)).collect())
}

fn number(text: &str) -> Option<Value> {
    text.parse::<u64>().ok().map(Value::from)
}

/// A redrive policy with its count as a number: some services answer with text.
fn redrive(text: &str) -> Option<Value> {
    let mut policy: Value = serde_json::from_str(text).ok()?;
    if let Some(count) = policy["maxReceiveCount"].as_str().and_then(number) {
        policy["maxReceiveCount"] = count;
    }
    Some(policy)
}
