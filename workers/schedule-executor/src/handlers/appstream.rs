//! AppStream fleets.

use std::collections::HashMap;

use aws_config::SdkConfig;
use aws_sdk_appstream::{
    Client,
    types::{Fleet, FleetState},
};

use super::{Handler, Outcomes, Refusal, Subject, impossible};
use crate::{
    plan::{Action, Observed},
    rows::Service,
    schedule::Power,
};

/// AppStream fleets of one region.
#[derive(Debug)]
pub struct AppStream(Client);

impl AppStream {
    /// The fleets behind a configuration.
    pub fn new(sdk: &SdkConfig) -> Self {
        Self(Client::new(sdk))
    }

    async fn describe(&self, names: &[String]) -> Result<Vec<Fleet>, Refusal> {
        let call = self.0.describe_fleets().set_names(Some(names.to_vec()));
        let answer = call.send().await.map_err(|e| Refusal::of(&e))?;
        Ok(answer.fleets.unwrap_or_default())
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

    async fn call(&self, action: Action, name: &str) -> Result<(), Refusal> {
        match action {
            Action::Start => {
                let answer = self.0.start_fleet().name(name).send().await;
                answer.map(drop).map_err(|e| Refusal::of(&e))
            }
            Action::Stop => {
                let answer = self.0.stop_fleet().name(name).send().await;
                answer.map(drop).map_err(|e| Refusal::of(&e))
            }
            Action::ModClass => Err(impossible(action, Service::AppStream)),
        }
    }
}

impl Handler for AppStream {
    async fn observe(&self, ids: &[String]) -> Result<HashMap<String, Observed>, Refusal> {
        let mut states = HashMap::new();
        // A call names at most 25 fleets.
        for names in ids.chunks(25) {
            let fleets = match self.describe(names).await {
                Err(refusal) if refusal.kind == "gone" => self.describe_each(names).await?,
                described => described?,
            };
            states.extend(fleets.into_iter().filter_map(|it| Some((it.name?, state(&it.state?)))));
        }
        Ok(states)
    }

    async fn act(&self, action: Action, subjects: &[Subject]) -> Outcomes {
        let mut outcomes = Outcomes::new();
        for subject in subjects {
            outcomes.push((subject.id.clone(), self.call(action, &subject.id).await));
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
