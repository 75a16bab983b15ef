//! Auto Scaling groups: off is a size of none, and the size before is restored.

use std::{collections::HashMap, str::FromStr};

use aws_config::SdkConfig;
use aws_sdk_autoscaling::{
    Client,
    types::{AutoScalingGroup, Filter, LifecycleState},
};
use futures::{StreamExt, stream};

use super::{
    Caller, Handler, Outcomes, Refusal, Seen, Subject, impossible,
    look::{self, Look},
};
use crate::{
    plan::{Action, Observed},
    rows::Service,
    schedule::Power,
};

const AT_ONCE: usize = 4;

/// Groups of one region.
#[derive(Debug)]
pub struct Groups {
    client: Client,
    caller: Caller,
}

/// `min/max/desired`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Size {
    min: i32,
    max: i32,
    desired: i32,
}

impl FromStr for Size {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let numbers =
            text.split('/').map(str::parse).collect::<Result<Vec<i32>, _>>().map_err(drop)?;
        match numbers[..] {
            [min, max, desired] if 0 <= min && min <= desired && desired <= max => {
                Ok(Self { min, max, desired })
            }
            _ => Err(()),
        }
    }
}

impl Groups {
    /// The groups behind a configuration.
    pub fn new(sdk: &SdkConfig, caller: Caller) -> Self {
        Self { client: Client::new(sdk), caller }
    }

    /// Adds the ARNs of the groups that carry a tag with one of its values, page by page: the
    /// tagging service does not know groups.
    pub(super) async fn tagged(
        &self,
        (key, values): (&str, &[String]),
        arns: &mut Vec<String>,
    ) -> Result<(), Refusal> {
        let name = format!("tag:{key}");
        let filter = Filter::builder().name(name).set_values(Some(values.to_vec())).build();
        let mut token = None::<String>;
        loop {
            let call = || {
                let call = self.client.describe_auto_scaling_groups().filters(filter.clone());
                call.set_next_token(token.clone()).send()
            };
            let page = self.caller.call(call).await?;
            let found = page.auto_scaling_groups.unwrap_or_default().into_iter();
            arns.extend(found.filter_map(|it| it.auto_scaling_group_arn));
            token = page.next_token.filter(|it| !it.is_empty());
            if token.is_none() {
                return Ok(());
            }
        }
    }

    async fn switch(&self, action: Action, subject: &Subject) -> Result<String, Refusal> {
        let size = match action {
            Action::Stop => Size { min: 0, max: -1, desired: 0 },
            Action::Start => restored(subject)?,
            Action::ModClass => return Err(impossible(action, Service::Group)),
        };
        let call = || {
            let call = self.client.update_auto_scaling_group().auto_scaling_group_name(&subject.id);
            let call = call.min_size(size.min).desired_capacity(size.desired);
            // What may be the most stays as it is where only a stop is asked for.
            if size.max >= 0 { call.max_size(size.max) } else { call }
        };
        self.caller.call(|| call().send()).await?;
        match action {
            Action::Start => Ok(format!("{} instances, as before", size.desired)),
            _ => Ok(String::new()),
        }
    }
}

/// The size to be restored: the one that was saved, else the one that is told.
fn restored(subject: &Subject) -> Result<Size, Refusal> {
    let size = subject.size.as_deref().or_else(|| subject.word("size"));
    size.and_then(|it| it.parse().ok()).ok_or_else(|| unknown_size(&subject.id))
}

fn unknown_size(id: &str) -> Refusal {
    let why = format!(
        "the size of {id} before it was stopped is not known: say `size=min/max/desired` as its attrib"
    );
    Refusal::new("refused", why)
}

impl Look for Groups {
    const CALL: usize = 50;

    async fn look(&self, names: &[String]) -> Result<HashMap<String, Seen>, Refusal> {
        let call = || {
            let call = self.client.describe_auto_scaling_groups();
            let call = call.set_auto_scaling_group_names(Some(names.to_vec()));
            call.into_paginator().items().send().collect::<Result<Vec<_>, _>>()
        };
        let found = self.caller.call(call).await?.into_iter();
        Ok(found.filter_map(|it| Some((it.auto_scaling_group_name.clone()?, seen(&it)))).collect())
    }
}

impl Handler for Groups {
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

fn seen(group: &AutoScalingGroup) -> Seen {
    let desired = group.desired_capacity().unwrap_or_default();
    let (min, max) = (group.min_size().unwrap_or_default(), group.max_size().unwrap_or_default());
    let ready = |it: &&aws_sdk_autoscaling::types::Instance| {
        it.lifecycle_state() == Some(&LifecycleState::InService)
    };
    let ready = i32::try_from(group.instances().iter().filter(ready).count()).unwrap_or(i32::MAX);
    let state = match (desired, group.instances().is_empty()) {
        _ if group.status().is_some() => Observed::Stuck("being deleted".to_owned()),
        (0, true) => Observed::Off,
        (0, false) => Observed::Towards(Power::Off, "scaling in".to_owned()),
        _ if ready >= desired => Observed::On,
        _ => Observed::Towards(Power::On, "scaling out".to_owned()),
    };
    let size = (desired > 0).then(|| format!("{min}/{max}/{desired}"));
    Seen { size, ..state.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_runs_once_all_that_it_wants_serve_and_is_off_once_none_is_left() {
        let instance = |state: LifecycleState| {
            let one = aws_sdk_autoscaling::types::Instance::builder().lifecycle_state(state);
            let one = one.instance_id("i-1").availability_zone("a").health_status("Healthy");
            one.protected_from_scale_in(false).build()
        };
        let serves = || instance(LifecycleState::InService);
        let told = |desired: i32, instances: Vec<_>, status: Option<&str>| {
            let group = AutoScalingGroup::builder().min_size(1).max_size(4);
            let group = group.desired_capacity(desired).set_instances(Some(instances));
            let it = seen(&group.set_status(status.map(str::to_owned)).build());
            (it.state, it.size)
        };
        let size = |text: &str| Some(text.to_owned());
        let way = |power, words: &str| Observed::Towards(power, words.to_owned());
        assert_eq!(told(0, vec![], None), (Observed::Off, None));
        assert_eq!(told(0, vec![serves()], None), (way(Power::Off, "scaling in"), None));
        assert_eq!(told(2, vec![serves(), serves()], None), (Observed::On, size("1/4/2")));
        for rest in [vec![], vec![instance(LifecycleState::PendingWait)]] {
            let all = [vec![serves()], rest].concat();
            assert_eq!(told(2, all, None), (way(Power::On, "scaling out"), size("1/4/2")));
        }
        assert!(matches!(told(2, vec![], Some("Delete in progress")).0, Observed::Stuck(_)));
    }

    #[test]
    fn the_size_that_was_saved_goes_before_the_one_that_its_context_says() {
        let size = |saved: Option<&str>, attrib: &str| {
            let (id, size) = ("g".to_owned(), saved.map(str::to_owned));
            restored(&Subject { id, attrib: attrib.to_owned(), size }).ok().map(|it| it.desired)
        };
        assert_eq!(size(Some("1/4/2"), "size=0/9/7"), Some(2));
        assert_eq!((size(None, "size=0/9/7"), size(None, "")), (Some(7), None));
    }

    #[test]
    fn a_size_is_three_numbers_in_order() {
        assert_eq!("1/4/2".parse(), Ok(Size { min: 1, max: 4, desired: 2 }));
        for bad in ["", "1/4", "3/4/2", "1/4/5", "-1/4/2", "1/4/2/3", "a/b/c"] {
            assert!(bad.parse::<Size>().is_err(), "{bad}");
        }
    }
}
