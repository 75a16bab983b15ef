//! AppStream fleets.

use std::collections::HashMap;

use aws_config::SdkConfig;
use aws_sdk_appstream::{
    Client,
    types::{Fleet, FleetState},
};

use super::{Caller, Handler, Outcomes, Refusal, Seen, Subject, impossible};
use crate::{
    plan::{Action, Observed},
    rows::Service,
    schedule::Power,
};

/// The most names that a call takes.
const CALL: usize = 25;

/// AppStream fleets of one region.
#[derive(Debug)]
pub struct AppStream {
    client: Client,
    caller: Caller,
}

impl AppStream {
    /// The fleets behind a configuration.
    pub fn new(sdk: &SdkConfig, caller: Caller) -> Self {
        Self { client: Client::new(sdk), caller }
    }

    async fn describe(&self, names: &[String]) -> Result<Vec<Fleet>, Refusal> {
        let call = || self.client.describe_fleets().set_names(Some(names.to_vec())).send();
        Ok(self.caller.call(call).await?.fleets.unwrap_or_default())
    }

    /// One by one, where one of the names is not known: that fails the call for all of them.
    async fn describe_each(&self, names: &[String]) -> Result<Vec<Fleet>, Refusal> {
        let mut fleets = Vec::new();
        for name in names {
            match self.describe(std::slice::from_ref(name)).await {
                Ok(mut found) => fleets.append(&mut found),
                Err(refusal) if refusal.kind == "gone" => {}
                Err(refusal) => return Err(refusal),
            }
        }
        Ok(fleets)
    }

    async fn switch(&self, action: Action, name: &str) -> Result<String, Refusal> {
        match action {
            Action::Start => {
                self.caller.call(|| self.client.start_fleet().name(name).send()).await?;
            }
            Action::Stop => {
                self.caller.call(|| self.client.stop_fleet().name(name).send()).await?;
            }
            Action::ModClass => return Err(impossible(action, Service::AppStream)),
        }
        Ok(String::new())
    }
}

impl Handler for AppStream {
    async fn observe(&self, ids: &[String]) -> Result<HashMap<String, Seen>, Refusal> {
        let mut states = HashMap::new();
        for names in ids.chunks(CALL) {
            let fleets = match self.describe(names).await {
                Err(refusal) if refusal.kind == "gone" => self.describe_each(names).await?,
                described => described?,
            };
            let found = fleets.into_iter();
            states.extend(found.filter_map(|it| Some((it.name?, state(&it.state?).into()))));
        }
        Ok(states)
    }

    async fn act(&self, action: Action, subjects: &[Subject]) -> Outcomes {
        let mut outcomes = Outcomes::new();
        for subject in subjects {
            outcomes.push((subject.id.clone(), self.switch(action, &subject.id).await));
        }
        outcomes
    }
}

fn state(state: &FleetState) -> Observed {
    let name = || state.as_str().to_lowercase();
    match state {
        FleetState::Running => Observed::On,
        FleetState::Stopped => Observed::Off,
        FleetState::Starting => Observed::Towards(Power::On, name()),
        FleetState::Stopping => Observed::Towards(Power::Off, name()),
        _ => Observed::Stuck(name()),
    }
}
