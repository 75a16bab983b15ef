//! AppStream fleets.

use std::collections::HashMap;

use aws_config::SdkConfig;
use aws_sdk_appstream::{
    Client,
    types::{Fleet, FleetState},
};

use super::{
    Caller, Handler, Outcomes, Refusal, Seen, Subject, impossible,
    look::{self, Look},
};
use crate::{
    plan::{Action, Observed},
    rows::Service,
    schedule::Power,
};

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

    /// Page by page: what is left to the next one is not gone.
    async fn describe(&self, names: &[String]) -> Result<Vec<Fleet>, Refusal> {
        let (mut fleets, mut token) = (Vec::new(), None::<String>);
        loop {
            let call = || {
                let call = self.client.describe_fleets().set_names(Some(names.to_vec()));
                call.set_next_token(token.clone()).send()
            };
            let page = self.caller.call(call).await?;
            fleets.extend(page.fleets.unwrap_or_default());
            token = page.next_token.filter(|it| !it.is_empty());
            if token.is_none() {
                return Ok(fleets);
            }
        }
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

impl Look for AppStream {
    const CALL: usize = 25;

    async fn look(&self, names: &[String]) -> Result<HashMap<String, Seen>, Refusal> {
        let found = self.describe(names).await?.into_iter();
        Ok(found.filter_map(|it| Some((it.name?, state(&it.state?).into()))).collect())
    }
}

impl Handler for AppStream {
    async fn observe(&self, ids: &[String]) -> Result<HashMap<String, Seen>, Refusal> {
        look::each(self, ids).await
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
