//! ECS services: off is a count of none, and the count before is restored.

use std::collections::{BTreeMap, HashMap};

use aws_config::SdkConfig;
use aws_sdk_ecs::{Client, types::Service as EcsService};

use super::{
    Caller, Handler, Outcomes, Refusal, Seen, Subject, impossible,
    look::{self, Look},
};
use crate::{
    plan::{Action, Observed},
    rows::Service,
    schedule::Power,
};

/// Services of one region.
#[derive(Debug)]
pub struct Ecs {
    client: Client,
    caller: Caller,
}

impl Ecs {
    /// The services behind a configuration.
    pub fn new(sdk: &SdkConfig, caller: Caller) -> Self {
        Self { client: Client::new(sdk), caller }
    }

    async fn describe(&self, cluster: &str, names: &[&str]) -> Result<Vec<EcsService>, Refusal> {
        let names: Vec<String> = names.iter().map(|it| (*it).to_owned()).collect();
        let call = || {
            let call = self.client.describe_services().cluster(cluster);
            call.set_services(Some(names.clone())).send()
        };
        match self.caller.call(call).await {
            Ok(answer) => Ok(answer.services.unwrap_or_default()),
            // The cluster is gone, and all of its services with it.
            Err(refusal) if refusal.kind == "gone" => Ok(Vec::new()),
            Err(refusal) => Err(refusal),
        }
    }

    async fn switch(&self, action: Action, subject: &Subject) -> Result<String, Refusal> {
        let (cluster, name) = parts(&subject.id);
        let count = match action {
            Action::Stop => 0,
            Action::Start => {
                let count = subject.size.as_deref().or_else(|| subject.word("count"));
                let count = count.and_then(|it| it.parse().ok()).filter(|it: &i32| *it > 0);
                count.ok_or_else(|| unknown_count(&subject.id))?
            }
            Action::ModClass => return Err(impossible(action, Service::Ecs)),
        };
        let call = || {
            let call = self.client.update_service().cluster(cluster).service(name);
            call.desired_count(count).send()
        };
        self.caller.call(call).await?;
        match action {
            Action::Start => Ok(format!("{count} tasks, as before")),
            _ => Ok(String::new()),
        }
    }
}

/// Cluster and service of `cluster/service`; one without a cluster is in the default one.
fn parts(id: &str) -> (&str, &str) {
    id.split_once('/').unwrap_or(("default", id))
}

fn unknown_count(id: &str) -> Refusal {
    let why = format!(
        "the count of {id} before it was stopped is not known: say `count=N` as its attrib"
    );
    Refusal::new("refused", why)
}

/// The services of one cluster, which a call names.
struct InCluster<'a> {
    ecs: &'a Ecs,
    cluster: &'a str,
}

impl Look for InCluster<'_> {
    const CALL: usize = 10;

    async fn look(&self, ids: &[String]) -> Result<HashMap<String, Seen>, Refusal> {
        let names: Vec<&str> = ids.iter().map(|id| parts(id).1).collect();
        let found = self.ecs.describe(self.cluster, &names).await?;
        let named = found.iter().flat_map(|service| {
            let ids = ids.iter().filter(move |id| service.service_name() == Some(parts(id).1));
            ids.map(move |id| (id.clone(), seen(service)))
        });
        Ok(named.collect())
    }
}

impl Handler for Ecs {
    async fn observe(&self, ids: &[String]) -> Result<HashMap<String, Seen>, Refusal> {
        let mut clusters = BTreeMap::<&str, Vec<String>>::new();
        for id in ids {
            clusters.entry(parts(id).0).or_default().push(id.clone());
        }
        let mut states = HashMap::new();
        for (cluster, ids) in clusters {
            match look::each(&InCluster { ecs: self, cluster }, &ids).await {
                Ok(found) => states.extend(found),
                Err(why) if why.passes() => return Err(why),
                // Of this cluster alone: the others can be looked at.
                Err(why) => {
                    states.extend(ids.into_iter().map(|id| (id, Seen::refused(why.clone()))))
                }
            }
        }
        Ok(states)
    }

    async fn act(&self, action: Action, subjects: &[Subject]) -> Outcomes {
        let mut outcomes = Outcomes::new();
        for subject in subjects {
            outcomes.push((subject.id.clone(), self.switch(action, subject).await));
        }
        outcomes
    }
}

fn seen(service: &EcsService) -> Seen {
    let (desired, running) = (service.desired_count(), service.running_count());
    let state = match service.status() {
        Some("INACTIVE") => Observed::Gone,
        Some("DRAINING") => Observed::Stuck("being deleted".to_owned()),
        _ if desired == 0 && running == 0 => Observed::Off,
        _ if desired == 0 => Observed::Towards(Power::Off, "draining tasks".to_owned()),
        _ if running >= desired => Observed::On,
        _ => Observed::Towards(Power::On, "starting tasks".to_owned()),
    };
    Seen { size: (desired > 0).then(|| desired.to_string()), ..state.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_runs_once_all_of_its_tasks_do_and_is_off_once_none_does() {
        let told = |desired, running, status: &str| {
            let service = EcsService::builder().desired_count(desired).running_count(running);
            let it = seen(&service.status(status).build());
            (it.state, it.size)
        };
        let way = |power, words: &str| Observed::Towards(power, words.to_owned());
        let two = || Some("2".to_owned());
        assert_eq!(told(2, 2, "ACTIVE"), (Observed::On, two()));
        assert_eq!(told(2, 1, "ACTIVE"), (way(Power::On, "starting tasks"), two()));
        assert_eq!(told(0, 1, "ACTIVE"), (way(Power::Off, "draining tasks"), None));
        assert_eq!(told(0, 0, "ACTIVE"), (Observed::Off, None));
        assert_eq!(told(2, 2, "INACTIVE").0, Observed::Gone);
        assert!(matches!(told(2, 2, "DRAINING").0, Observed::Stuck(_)));
    }
}
