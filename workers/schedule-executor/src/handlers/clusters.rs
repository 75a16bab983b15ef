//! Aurora clusters, and other clusters of RDS.

use std::collections::HashMap;

use aws_config::SdkConfig;
use aws_sdk_rds::{
    Client,
    primitives::DateTime,
    types::{DbCluster, Filter},
};
use futures::{StreamExt, stream};

use super::{
    Caller, Handler, Outcomes, Refusal, Seen, Subject,
    look::{self, Look},
    rds::{AT_ONCE, CALL, change_class, state},
};
use crate::plan::Action;

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

    async fn describe(&self, ids: &[String]) -> Result<Vec<DbCluster>, Refusal> {
        let filter = Filter::builder().name("db-cluster-id").set_values(Some(ids.to_vec())).build();
        let call = || {
            let call = self.client.describe_db_clusters().filters(filter.clone());
            call.into_paginator().items().send().collect::<Result<Vec<_>, _>>()
        };
        self.caller.call(call).await
    }

    async fn switch(&self, action: Action, subject: &Subject) -> Result<String, Refusal> {
        let id = &subject.id;
        match action {
            Action::Start => {
                let call = || self.client.start_db_cluster().db_cluster_identifier(id);
                self.caller.call(|| call().send()).await?;
            }
            Action::Stop => {
                let call = || self.client.stop_db_cluster().db_cluster_identifier(id);
                self.caller.call(|| call().send()).await?;
            }
            Action::ModClass => return self.change_class(id, &subject.attrib).await,
        }
        Ok(String::new())
    }

    /// Gives a cluster another class: its own, where it has one (Multi-AZ), else that of its instances.
    async fn change_class(&self, id: &str, class: &str) -> Result<String, Refusal> {
        let found = self.describe(&[id.to_owned()]).await?.into_iter().next();
        let cluster = found.ok_or_else(|| Refusal::new("gone", format!("cluster {id} is gone")))?;
        if cluster.db_cluster_instance_class().is_some() {
            let call = || self.client.modify_db_cluster().db_cluster_identifier(id);
            let call = || call().db_cluster_instance_class(class).apply_immediately(true);
            self.caller.call(|| call().send()).await?;
            return Ok(String::new());
        }
        let members = members(&cluster);
        if members.is_empty() {
            let why = format!("cluster {id} has no instances, whose class it would be");
            return Err(Refusal::new("refused", why));
        }
        for member in &members {
            let call = || change_class(&self.client, member, class);
            self.caller.call(|| call().send()).await.map_err(|why| Refusal {
                message: format!("its instance {member}: {}", why.message),
                ..why
            })?;
        }
        Ok(format!("of its instances {}", members.join(", ")))
    }
}

impl Look for Clusters {
    const CALL: usize = CALL;

    async fn look(&self, ids: &[String]) -> Result<HashMap<String, Seen>, Refusal> {
        let found = self.describe(ids).await?.into_iter();
        Ok(found.filter_map(|it| Some((it.db_cluster_identifier.clone()?, seen(&it)?))).collect())
    }
}

impl Handler for Clusters {
    async fn observe(&self, ids: &[String]) -> Result<HashMap<String, Seen>, Refusal> {
        look::each(self, ids).await
    }

    async fn act(&self, action: Action, subjects: &[Subject]) -> Outcomes {
        let call = async |subject: Subject| {
            let called = self.switch(action, &subject).await;
            (subject.id, called)
        };
        let calls = subjects.iter().cloned().map(call).collect::<Vec<_>>();
        stream::iter(calls).buffer_unordered(AT_ONCE).collect().await
    }
}

/// The instances of a cluster; the writer last, since its change of class is a failover.
fn members(cluster: &DbCluster) -> Vec<&str> {
    let mut all: Vec<_> = cluster.db_cluster_members().iter().collect();
    all.sort_by_key(|it| it.is_cluster_writer());
    all.into_iter().filter_map(|it| it.db_instance_identifier()).collect()
}

fn seen(cluster: &DbCluster) -> Option<Seen> {
    let class = cluster.db_cluster_instance_class().map(str::to_owned);
    let restarts = cluster.automatic_restart_time().map(DateTime::secs);
    Some(Seen { class, restarts, ..state(cluster.status()?).into() })
}
