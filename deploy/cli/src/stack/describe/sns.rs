//! Topics.

use serde_json::json;

use super::{Found, present};
use crate::{
    aws::Clients,
    error::{Doing, Error},
};

/// A topic's properties; `None` where there is no topic of this name.
pub(super) async fn topic(clients: &Clients, name: &str) -> Result<Option<Found>, Error> {
    let mut pages = clients.sns.list_topics().into_paginator().items().send();
    while let Some(topic) = pages.next().await {
        let topic = topic.doing(|| format!("looking for topic {name}"))?;
        if topic.topic_arn().and_then(|arn| arn.rsplit(':').next()) == Some(name) {
            return Ok(Some(present([("TopicName", Some(json!(name)))])));
        }
    }
    Ok(None)
}
