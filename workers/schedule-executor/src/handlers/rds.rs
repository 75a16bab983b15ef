//! RDS instances.

use std::collections::HashMap;

use aws_config::SdkConfig;
use aws_sdk_rds::{Client, types::Filter};
use futures::{StreamExt, stream};

use super::{Handler, Outcomes, Refusal, Subject};
use crate::{
    plan::{Action, Observed},
    schedule::Power,
};

/// RDS takes one id a call; so many calls at a time.
const AT_ONCE: usize = 4;

/// RDS instances of one region.
#[derive(Debug)]
pub struct Rds(Client);

impl Rds {
    /// The instances behind a configuration.
    pub fn new(sdk: &SdkConfig) -> Self {
        Self(Client::new(sdk))
    }

    async fn call(&self, action: Action, subject: &Subject) -> Result<(), Refusal> {
        let id = &subject.id;
        match action {
            Action::Start => {
                let call = self.0.start_db_instance().db_instance_identifier(id);
                call.send().await.map(drop).map_err(|e| Refusal::of(&e))
            }
            Action::Stop => {
                let call = self.0.stop_db_instance().db_instance_identifier(id);
                call.send().await.map(drop).map_err(|e| Refusal::of(&e))
            }
            Action::ModClass => {
                let call = self.0.modify_db_instance().db_instance_identifier(id);
                let call = call.db_instance_class(&subject.attrib).apply_immediately(true);
                call.send().await.map(drop).map_err(|e| Refusal::of(&e))
            }
        }
    }
}

impl Handler for Rds {
    async fn observe(&self, ids: &[String]) -> Result<HashMap<String, Observed>, Refusal> {
        let filter =
            Filter::builder().name("db-instance-id").set_values(Some(ids.to_vec())).build();

        let pages = self.0.describe_db_instances().filters(filter).into_paginator().items().send();
        let found = pages.collect::<Result<Vec<_>, _>>().await.map_err(|e| Refusal::of(&e))?;
        let states = found
            .into_iter()
            .filter_map(|it| Some((it.db_instance_identifier?, state(&it.db_instance_status?))));
        Ok(states.collect())
    }

    async fn act(&self, action: Action, subjects: &[Subject]) -> Outcomes {
        let call = async |subject: Subject| {
            let called = self.call(action, &subject).await;
            (subject.id, called)
        };
        let calls = subjects.iter().cloned().map(call).collect::<Vec<_>>();
        stream::iter(calls).buffer_unordered(AT_ONCE).collect().await
    }
}

fn state(status: &str) -> Observed {
    match status {
        "available" => Observed::On,
        "stopped" => Observed::Off,
        "stopping" => Observed::Towards(Power::Off, status.to_owned()),
        "failed" | "storage-full" | "deleting" | "restore-error" => {
            Observed::Stuck(status.to_owned())
        }
        _ if status.starts_with("incompatible-") || status.starts_with("inaccessible-") => {
            Observed::Stuck(status.to_owned())
        }
        // Starting, backing up, being modified: it runs or will, and cannot be stopped meanwhile.
        _ => Observed::Towards(Power::On, status.to_owned()),
    }
}
