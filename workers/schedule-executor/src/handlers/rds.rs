//! RDS instances.

use std::collections::HashMap;

use aws_config::SdkConfig;
use aws_sdk_rds::{
    Client,
    operation::modify_db_instance::builders::ModifyDBInstanceFluentBuilder,
    primitives::DateTime,
    types::{DbInstance, Filter},
};
use futures::{StreamExt, stream};

use super::{
    Caller, Handler, Outcomes, Refusal, Seen, Subject,
    look::{self, Look},
};
use crate::{
    plan::{Action, Observed},
    schedule::Power,
};

/// RDS takes one id a call; so many calls at a time.
pub(super) const AT_ONCE: usize = 4;
/// The most values that a filter takes.
pub(super) const CALL: usize = 100;

/// RDS instances of one region.
#[derive(Debug)]
pub struct Rds {
    client: Client,
    caller: Caller,
}

impl Rds {
    /// The instances behind a configuration.
    pub fn new(sdk: &SdkConfig, caller: Caller) -> Self {
        Self { client: Client::new(sdk), caller }
    }

    async fn switch(&self, action: Action, subject: &Subject) -> Result<String, Refusal> {
        let id = &subject.id;
        match action {
            Action::Start => {
                let call = || self.client.start_db_instance().db_instance_identifier(id);
                self.caller.call(|| call().send()).await?;
            }
            Action::Stop => {
                let call = || self.client.stop_db_instance().db_instance_identifier(id);
                self.caller.call(|| call().send()).await?;
            }
            Action::ModClass => {
                let call = || change_class(&self.client, id, &subject.attrib);
                self.caller.call(|| call().send()).await?;
            }
        }
        Ok(String::new())
    }
}

/// The call for another class of an instance: now, and not in its next maintenance window.
pub(super) fn change_class(
    client: &Client,
    id: &str,
    class: &str,
) -> ModifyDBInstanceFluentBuilder {
    let call = client.modify_db_instance().db_instance_identifier(id);
    call.db_instance_class(class).apply_immediately(true)
}

impl Look for Rds {
    const CALL: usize = CALL;

    async fn look(&self, ids: &[String]) -> Result<HashMap<String, Seen>, Refusal> {
        let filter =
            Filter::builder().name("db-instance-id").set_values(Some(ids.to_vec())).build();
        let call = || {
            let call = self.client.describe_db_instances().filters(filter.clone());
            call.into_paginator().items().send().collect::<Result<Vec<_>, _>>()
        };
        let found = self.caller.call(call).await?.into_iter();
        Ok(found.filter_map(|it| Some((it.db_instance_identifier.clone()?, seen(&it)?))).collect())
    }
}

impl Handler for Rds {
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

fn seen(instance: &DbInstance) -> Option<Seen> {
    let state = match instance.db_cluster_identifier() {
        Some(cluster) => Observed::Owned(format!("cluster {cluster}")),
        None => state(instance.db_instance_status()?),
    };
    let pending = instance.pending_modified_values().and_then(|it| it.db_instance_class());
    let class = pending.or(instance.db_instance_class()).map(str::to_owned);
    let restarts = instance.automatic_restart_time().map(DateTime::secs);
    Some(Seen { class, restarts, ..state.into() })
}

/// The state behind the status of an instance or a cluster.
pub(super) fn state(status: &str) -> Observed {
    match status {
        "available" => Observed::On,
        "stopped" => Observed::Off,
        "stopping" => Observed::Towards(Power::Off, status.to_owned()),
        "failed"
        | "storage-full"
        | "deleting"
        | "delete-precheck"
        | "restore-error"
        | "insufficient-capacity" => Observed::Stuck(status.to_owned()),
        _ if status.starts_with("incompatible-") || status.starts_with("inaccessible-") => {
            Observed::Stuck(status.to_owned())
        }
        // Starting, backing up, being modified: it runs or will, and cannot be stopped meanwhile.
        _ => Observed::Towards(Power::On, status.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_rds::types::PendingModifiedValues;

    use super::*;

    #[test]
    fn an_instance_of_a_cluster_is_switched_by_that_and_its_class_is_the_one_that_it_will_have() {
        let alone = DbInstance::builder().db_instance_status("available");
        let told = seen(&alone.clone().db_instance_class("db.t3.micro").build()).unwrap();
        assert_eq!((told.state, told.class.as_deref()), (Observed::On, Some("db.t3.micro")));
        let member = seen(&alone.clone().db_cluster_identifier("sales").build()).unwrap();
        assert_eq!(member.state, Observed::Owned("cluster sales".to_owned()));
        let pending = PendingModifiedValues::builder().db_instance_class("db.t3.large").build();
        let changing = alone.db_instance_class("db.t3.micro").pending_modified_values(pending);
        assert_eq!(seen(&changing.build()).unwrap().class.as_deref(), Some("db.t3.large"));
    }

    #[test]
    fn a_class_is_changed_now_and_not_in_the_next_maintenance_window() {
        let config = aws_sdk_rds::Config::builder().behavior_version_latest().build();
        let call = change_class(&Client::from_conf(config), "orders", "db.t3.large");
        let asked = call.as_input();
        assert_eq!(asked.get_apply_immediately(), &Some(true));
        assert_eq!(asked.get_db_instance_class().as_deref(), Some("db.t3.large"));
    }

    #[test]
    fn what_leads_nowhere_by_itself_is_stuck_and_not_on_its_way() {
        for status in ["insufficient-capacity", "delete-precheck", "incompatible-network", "failed"]
        {
            assert_eq!(state(status), Observed::Stuck(status.to_owned()));
        }
        for status in ["starting", "backing-up", "modifying"] {
            assert_eq!(state(status), Observed::Towards(Power::On, status.to_owned()));
        }
    }
}
