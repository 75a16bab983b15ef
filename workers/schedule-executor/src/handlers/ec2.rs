//! EC2 instances.

use std::collections::HashMap;

use aws_config::SdkConfig;
use aws_sdk_ec2::{
    Client,
    types::{AttributeValue, Filter, Instance, InstanceStateName as State},
};

use super::{
    Caller, Handler, Outcomes, Refusal, Seen, Subject, impossible,
    look::{self, Look},
};
use crate::{
    message::BATCH,
    plan::{Action, Observed},
    rows::Service,
    schedule::Power,
};

/// After how many that are denied by themselves, while none is allowed, the others are not asked.
const DENIED: usize = 8;
/// The tag by which Auto Scaling marks the instances of its groups.
const GROUP: &str = "aws:autoscaling:groupName";
/// What a trial says where nothing can be tried.
const UNTRIED: &str = "only looked at: this endpoint does not know DryRun, so it cannot be tried";

/// EC2 instances of one region.
#[derive(Debug)]
pub struct Ec2 {
    client: Client,
    caller: Caller,
}

/// What a call does to all that it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Switch {
    Start,
    Stop { hibernate: bool },
}

/// Whether a call is made, or only asked for its permission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Do,
    Ask,
}

/// How many were denied by themselves before any was allowed: one that may not be switched is told from
/// an account that may switch nothing.
#[derive(Debug, Default)]
struct Denials {
    alone: usize,
    allowed: bool,
}

impl Denials {
    fn count(&mut self, called: &Result<(), Refusal>, ids: usize) {
        self.allowed |= called.is_ok();
        let denied = called.as_ref().is_err_and(|why| why.kind == "denied");
        self.alone += usize::from(denied && ids == 1);
    }

    fn are_all(&self) -> bool {
        !self.allowed && self.alone >= DENIED
    }
}

impl Ec2 {
    /// The instances behind a configuration.
    pub fn new(sdk: &SdkConfig, caller: Caller) -> Self {
        Self { client: Client::new(sdk), caller }
    }

    /// The permission first, then the call, for all ids at once.
    async fn switch(&self, switch: Switch, ids: &[String], way: Way) -> Result<(), Refusal> {
        permitted(self.once(switch, ids, true).await)?;
        match way {
            Way::Do => self.once(switch, ids, false).await,
            Way::Ask => Ok(()),
        }
    }

    async fn once(&self, switch: Switch, ids: &[String], dry: bool) -> Result<(), Refusal> {
        let ids = || Some(ids.to_vec());
        match switch {
            Switch::Start => {
                let call = || self.client.start_instances().set_instance_ids(ids());
                self.caller.call(|| call().dry_run(dry).send()).await.map(drop)
            }
            Switch::Stop { hibernate } => {
                let call = || self.client.stop_instances().set_instance_ids(ids());
                let call = || call().set_hibernate(hibernate.then_some(true)).dry_run(dry);
                self.caller.call(|| call().send()).await.map(drop)
            }
        }
    }

    /// All in one call; a refusal that may be about one of them is narrowed down by halves.
    async fn all(&self, switch: Switch, ids: Vec<String>, way: Way) -> Outcomes {
        let (mut outcomes, mut denials) = (Outcomes::new(), Denials::default());
        let mut parts = vec![ids];
        while let Some(mut part) = parts.pop() {
            let called = self.switch(switch, &part, way).await;
            denials.count(&called, part.len());
            let narrow = called.as_ref().is_err_and(|why| {
                why.may_be_about_one() && !(why.kind == "denied" && denials.are_all())
            });
            if part.len() > 1 && narrow {
                parts.push(part.split_off(part.len() / 2));
                parts.push(part);
                continue;
            }
            let called = called.map(|()| String::new());
            outcomes.extend(part.into_iter().map(|id| (id, called.clone())));
        }
        outcomes
    }

    async fn start(&self, subjects: &[Subject]) -> Outcomes {
        let ids = subjects.iter().map(|it| it.id.clone()).collect();
        let mut outcomes = self.all(Switch::Start, ids, Way::Do).await;
        for (id, outcome) in &mut outcomes {
            let Err(refusal) = outcome else { continue };
            let subject = subjects.iter().find(|it| it.id == *id && refusal.kind == "capacity");
            if let Some(types) = subject.and_then(|it| it.word("types")) {
                *outcome = self.start_as(id, types, refusal.clone()).await;
            }
        }
        outcomes
    }

    /// Starts an instance as the first of other types that has capacity; as it was, if none has,
    /// or anything else goes wrong on the way.
    async fn start_as(&self, id: &str, types: &str, first: Refusal) -> Result<String, Refusal> {
        let before = self.kind(id).await.map_err(|why| told(&first, &why.message))?;
        let mut others = Vec::new();
        for kind in types.split(',').filter(|it| !it.is_empty() && *it != before) {
            match self.try_as(id, kind).await {
                Ok(()) => return Ok(format!("as {kind}, since there is no capacity for {before}")),
                Err(refusal) => {
                    others.push(format!("as {kind}: {}", refusal.message));
                    if refusal.passes() || refusal.kind == "denied" {
                        break;
                    }
                }
            }
        }
        if let Err(why) = self.become_kind(id, &before).await {
            others.push(format!("it could not be made {before} again: {}", why.message));
        }
        Err(told(&first, &others.join("; ")))
    }

    async fn try_as(&self, id: &str, kind: &str) -> Result<(), Refusal> {
        self.become_kind(id, kind).await?;
        self.once(Switch::Start, &[id.to_owned()], false).await
    }

    async fn become_kind(&self, id: &str, kind: &str) -> Result<(), Refusal> {
        let value = AttributeValue::builder().value(kind).build();
        let call = || self.client.modify_instance_attribute().instance_id(id);
        self.caller.call(|| call().instance_type(value.clone()).send()).await.map(drop)
    }

    async fn kind(&self, id: &str) -> Result<String, Refusal> {
        let found = self.describe(&[id.to_owned()]).await?;
        let kind = found.first().and_then(|it| Some(it.instance_type()?.as_str().to_owned()));
        kind.ok_or_else(|| Refusal::new("gone", format!("instance {id} is gone")))
    }

    /// Those that are to hibernate first; what cannot is stopped like the others.
    async fn stop(&self, subjects: &[Subject]) -> Outcomes {
        let asleep = |it: &&Subject| it.attrib.split_whitespace().any(|word| word == "hibernate");
        let (asleep, mut off): (Vec<&Subject>, Vec<&Subject>) = subjects.iter().partition(asleep);
        let mut outcomes = Outcomes::new();
        if !asleep.is_empty() {
            let ids = asleep.iter().map(|it| it.id.clone()).collect();
            let slept = self.all(Switch::Stop { hibernate: true }, ids, Way::Do).await;
            for (id, outcome) in slept {
                match outcome {
                    Err(refusal) if refusal.code.contains("Hibernat") => {
                        off.extend(asleep.iter().filter(|it| it.id == id));
                    }
                    Ok(_) => outcomes.push((id, Ok("it hibernates".to_owned()))),
                    refused => outcomes.push((id, refused)),
                }
            }
        }
        if !off.is_empty() {
            let ids = off.iter().map(|it| it.id.clone()).collect();
            outcomes.extend(self.all(Switch::Stop { hibernate: false }, ids, Way::Do).await);
        }
        outcomes
    }

    /// Whether the endpoint knows `DryRun`, by a call that changes nothing either way: one that does not
    /// know it would start or stop what is only to be tried.
    async fn knows_dry_run(&self, ids: &[String]) -> Result<bool, Refusal> {
        let filter = Filter::builder().name("instance-id").set_values(Some(ids.to_vec())).build();
        let call = || self.client.describe_instances().filters(filter.clone());
        knows(self.caller.call(|| call().dry_run(true).send()).await.map(drop))
    }

    /// By a filter: ids that are named outright would fail the call if one of them is gone.
    async fn describe(&self, ids: &[String]) -> Result<Vec<Instance>, Refusal> {
        let filter = Filter::builder().name("instance-id").set_values(Some(ids.to_vec())).build();
        let call = || {
            let call = self.client.describe_instances().filters(filter.clone());
            call.into_paginator().items().send().collect::<Result<Vec<_>, _>>()
        };
        let found = self.caller.call(call).await?;
        Ok(found.into_iter().flat_map(|it| it.instances.unwrap_or_default()).collect())
    }
}

/// A refusal, and what was tried after it: its kind stays what it was.
fn told(first: &Refusal, then: &str) -> Refusal {
    Refusal { message: format!("{}; {then}", first.message), ..first.clone() }
}

/// A dry run that would have succeeded is an error of its own.
fn permitted(dry: Result<(), Refusal>) -> Result<(), Refusal> {
    match dry {
        Err(refusal) if refusal.code != "DryRunOperation" => Err(refusal),
        _ => Ok(()),
    }
}

/// What the dry run of a call that only looks says of its endpoint: one that knows it refuses it.
fn knows(dry: Result<(), Refusal>) -> Result<bool, Refusal> {
    match dry {
        Ok(()) => Ok(false),
        Err(why) if matches!(&*why.code, "DryRunOperation" | "UnauthorizedOperation") => Ok(true),
        Err(why) => Err(why),
    }
}

impl Look for Ec2 {
    const CALL: usize = BATCH;

    async fn look(&self, ids: &[String]) -> Result<HashMap<String, Seen>, Refusal> {
        let found = self.describe(ids).await?.into_iter();
        Ok(found.filter_map(|it| Some((it.instance_id.clone()?, seen(&it)?.into()))).collect())
    }
}

impl Handler for Ec2 {
    async fn observe(&self, ids: &[String]) -> Result<HashMap<String, Seen>, Refusal> {
        look::each(self, ids).await
    }

    async fn act(&self, action: Action, subjects: &[Subject]) -> Outcomes {
        match action {
            Action::Start => self.start(subjects).await,
            Action::Stop => self.stop(subjects).await,
            Action::ModClass => {
                let refused = |it: &Subject| (it.id.clone(), Err(impossible(action, Service::Ec2)));
                subjects.iter().map(refused).collect()
            }
        }
    }

    async fn permitted(&self, action: Action, ids: &[String]) -> Outcomes {
        let switch = match action {
            Action::Start => Switch::Start,
            Action::Stop => Switch::Stop { hibernate: false },
            Action::ModClass => {
                let refused = |id: &String| (id.clone(), Err(impossible(action, Service::Ec2)));
                return ids.iter().map(refused).collect();
            }
        };
        let each = |outcome: Result<String, Refusal>| {
            ids.iter().map(|id| (id.clone(), outcome.clone())).collect()
        };
        match self.knows_dry_run(ids).await {
            Ok(true) => self.all(switch, ids.to_vec(), Way::Ask).await,
            Ok(false) => each(Ok(UNTRIED.to_owned())),
            Err(why) => each(Err(why)),
        }
    }
}

fn seen(instance: &Instance) -> Option<Observed> {
    let state = state(instance.state()?.name()?.clone());
    let group = instance.tags().iter().find(|tag| tag.key() == Some(GROUP));
    match (group.and_then(|tag| tag.value()), &state) {
        (Some(group), it) if *it != Observed::Gone => {
            Some(Observed::Owned(format!("Auto Scaling group {group}")))
        }
        _ => Some(state),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_whose_dry_run_succeeds_does_not_know_it() {
        let refused = |code: &str| {
            let why = Refusal::new("refused", String::new());
            Err(Refusal { code: code.to_owned(), ..why })
        };
        assert_eq!(knows(Ok(())), Ok(false), "it did what was only to be tried");
        assert_eq!(knows(refused("DryRunOperation")), Ok(true));
        assert_eq!(knows(refused("UnauthorizedOperation")), Ok(true));
        assert!(knows(refused("InternalError")).is_err(), "it is not known, so nothing is tried");
    }

    #[test]
    fn an_account_that_may_switch_nothing_is_not_asked_for_each_of_many() {
        let denied = || Err(Refusal::new("denied", "you may not".to_owned()));
        let mut denials = Denials::default();
        denials.count(&denied(), 200);
        (1..DENIED).for_each(|_| denials.count(&denied(), 1));
        assert!(!denials.are_all(), "one of many may be the only one that is allowed");
        denials.count(&denied(), 1);
        assert!(denials.are_all());
        denials.count(&Ok(()), 1);
        assert!(!denials.are_all(), "some are allowed, so each is worth its call");
    }
}
