//! Aurora clusters, and other clusters of RDS.

use std::collections::HashMap;

use aws_config::SdkConfig;
use aws_sdk_rds::{Client, types::Filter};
use futures::{StreamExt, stream};

use super::{
    Caller, Handler, Outcomes, Refusal, Seen, Subject, impossible,
    rds::{AT_ONCE, CALL, state},
};
use crate::{plan::Action, rows::Service};

/// Clusters of one region.
#[derive(Debug)]
pub struct Clusters {
    client: Client,
    caller: Caller,
}

impl Clusters {
    /// The clusters behind a configuration.
    pub fn new(sdk: &SdkConfig, caller: Caller) -> Self {
        Self { client: Client::new(sdk), caller }
    }

    async fn switch(&self, action: Action, id: &str) -> Result<String, Refusal> {
        match action {
            Action::Start => {
                let call = || self.client.start_db_cluster().db_cluster_identifier(id);
                self.caller.call(|| call().send()).await?;
            }
            Action::Stop => {
                let call = || self.client.stop_db_cluster().db_cluster_identifier(id);
                self.caller.call(|| call().send()).await?;
            }
            Action::ModClass => return Err(impossible(action, Service::Cluster)),
        }
        Ok(String::new())
    }
}

impl Handler for Clusters {
    async fn observe(&self, ids: &[String]) -> Result<HashMap<String, Seen>, Refusal> {
        let mut states = HashMap::new();
        for ids in ids.chunks(CALL) {
            let filter = Filter::builder().name("db-cluster-id").set_values(Some(ids.to_vec()));
            let filter = filter.build();
            let call = || {
                let call = self.client.describe_db_clusters().filters(filter.clone());
                call.into_paginator().items().send().collect::<Result<Vec<_>, _>>()
            };
            let found = self.caller.call(call).await?.into_iter();
            let seen =
                found.filter_map(|it| Some((it.db_cluster_identifier?, state(&it.status?).into())));
            states.extend(seen);
        }
        Ok(states)
    }

    async fn act(&self, action: Action, subjects: &[Subject]) -> Outcomes {
        let call = async |id: String| {
            let called = self.switch(action, &id).await;
            (id, called)
        };
        let calls = subjects.iter().map(|it| call(it.id.clone())).collect::<Vec<_>>();
        stream::iter(calls).buffer_unordered(AT_ONCE).collect().await
    }
}
