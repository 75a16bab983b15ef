//! EC2 instances.

use std::collections::HashMap;

use aws_config::SdkConfig;
use aws_sdk_ec2::{
    Client,
    error::{ProvideErrorMetadata, SdkError},
    types::{Filter, InstanceStateName as State},
};

use super::{Handler, Outcomes, Refusal, Subject, impossible};
use crate::{
    plan::{Action, Observed},
    rows::Service,
    schedule::Power,
};

/// EC2 instances of one region.
#[derive(Debug)]
pub struct Ec2(Client);

impl Ec2 {
    /// The instances behind a configuration.
    pub fn new(sdk: &SdkConfig) -> Self {
        Self(Client::new(sdk))
    }

    /// The permission first, then the call, for all ids at once.
    async fn call(&self, action: Action, ids: &[String]) -> Result<(), Refusal> {
        permitted(self.once(action, ids, true).await)?;
        self.once(action, ids, false).await.map_err(|(_, refusal)| refusal)
    }

    async fn once(
        &self,
        action: Action,
        ids: &[String],
        dry: bool,
    ) -> Result<(), (String, Refusal)> {
        let ids = Some(ids.to_vec());
        match action {
            Action::Start => {
                let call = self.0.start_instances().set_instance_ids(ids).dry_run(dry);
                call.send().await.map(drop).map_err(|e| refused(&e))
            }
            Action::Stop => {
                let call = self.0.stop_instances().set_instance_ids(ids).dry_run(dry);
                call.send().await.map(drop).map_err(|e| refused(&e))
            }
            Action::ModClass => Err((String::new(), impossible(action, Service::Ec2))),
        }
    }
}

fn refused<E, R>(error: &SdkError<E, R>) -> (String, Refusal)
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    R: std::fmt::Debug + 'static,
{
    let code = error.as_service_error().and_then(ProvideErrorMetadata::code);
    (code.unwrap_or_default().to_owned(), Refusal::of(error))
}

/// A dry run that would have succeeded is an error of its own.
fn permitted(dry: Result<(), (String, Refusal)>) -> Result<(), Refusal> {
    match dry {
        Err((code, refusal)) if code != "DryRunOperation" => Err(refusal),
        _ => Ok(()),
    }
}

impl Handler for Ec2 {
    /// By a filter: ids that are named outright would fail the call if one of them is gone.
    async fn observe(&self, ids: &[String]) -> Result<HashMap<String, Observed>, Refusal> {
        let filter = Filter::builder().name("instance-id").set_values(Some(ids.to_vec())).build();
        let pages = self.0.describe_instances().filters(filter).into_paginator().items().send();
        let found = pages.collect::<Result<Vec<_>, _>>().await.map_err(|e| Refusal::of(&e))?;
        let instances = found.into_iter().flat_map(|it| it.instances.unwrap_or_default());
        let states = instances.filter_map(|it| Some((it.instance_id?, state(it.state?.name?))));
        Ok(states.collect())
    }

    /// All in one call; a refusal that may be about one of them is narrowed down by halves.
    async fn act(&self, action: Action, subjects: &[Subject]) -> Outcomes {
        let mut outcomes = Outcomes::new();
        let mut parts = vec![subjects.iter().map(|it| it.id.clone()).collect::<Vec<_>>()];
        while let Some(mut part) = parts.pop() {
            let called = self.call(action, &part).await;
            if part.len() > 1 && called.as_ref().is_err_and(Refusal::may_be_about_one) {
                parts.push(part.split_off(part.len() / 2));
                parts.push(part);
                continue;
            }
            outcomes.extend(part.into_iter().map(|id| (id, called.clone())));
        }
        outcomes
    }
}

fn state(name: State) -> Observed {
    match name {
        State::Running => Observed::On,
        State::Stopped => Observed::Off,
        State::Pending => Observed::Towards(Power::On, "pending".to_owned()),
        State::Stopping => Observed::Towards(Power::Off, "stopping".to_owned()),
        State::ShuttingDown | State::Terminated => Observed::Gone,
        other => Observed::Stuck(other.as_str().to_owned()),
    }
}
