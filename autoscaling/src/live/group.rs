//! The Auto Scaling group.

use aws_config::SdkConfig;
use aws_sdk_autoscaling::{Client, types::LifecycleState};
use flotilla_runtime::failure::{Failure, chain};

/// A group and the calls to it.
#[derive(Debug, Clone)]
pub(super) struct Group {
    client: Client,
    name: String,
}

/// A group as it is.
#[derive(Debug, Clone)]
pub(super) struct Described {
    pub(super) desired: u32,
    pub(super) max: u32,
    pub(super) members: Vec<Member>,
}

/// An instance of a group.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) id: String,
    pub(super) lifecycle: LifecycleState,
    pub(super) kind: String,
}

impl Group {
    pub(super) fn new(sdk: &SdkConfig, name: &str) -> Self {
        Self { client: Client::new(sdk), name: name.to_owned() }
    }

    pub(super) async fn describe(&self) -> Result<Described, Failure> {
        let call = self.client.describe_auto_scaling_groups();
        let answer = call.auto_scaling_group_names(&self.name).send().await;
        let answer = answer.map_err(|e| self.failed("describing", &e))?;
        let found = answer.auto_scaling_groups.unwrap_or_default().into_iter().next();
        let group = found.ok_or_else(|| {
            let what = format!("there is no group {}: create deploy/cfn/fleet.yaml", self.name);
            Failure::transient("group", what)
        })?;
        let members = group.instances.unwrap_or_default().into_iter().filter_map(|it| {
            Some(Member {
                id: it.instance_id?,
                lifecycle: it.lifecycle_state?,
                kind: it.instance_type.unwrap_or_default(),
            })
        });
        let size = |n: Option<i32>| u32::try_from(n.unwrap_or_default()).unwrap_or_default();
        let (desired, max) = (size(group.desired_capacity), size(group.max_size));
        Ok(Described { desired, max, members: members.collect() })
    }

    pub(super) async fn set_desired(&self, desired: u32) -> Result<(), Failure> {
        let call = self.client.set_desired_capacity().auto_scaling_group_name(&self.name);
        let desired = i32::try_from(desired).unwrap_or(i32::MAX);
        let answer = call.desired_capacity(desired).honor_cooldown(false).send().await;
        answer.map(drop).map_err(|e| self.failed("setting the desired capacity of", &e))
    }

    /// Ends an instance, and has the group not replace it.
    pub(super) async fn end(&self, instance: &str) -> Result<(), Failure> {
        let call = self.client.terminate_instance_in_auto_scaling_group().instance_id(instance);
        let answer = call.should_decrement_desired_capacity(true).send().await;
        let what = format!("ending instance {instance} of");
        answer.map(drop).map_err(|e| self.failed(&what, &e))
    }

    fn failed<E: std::error::Error + 'static>(&self, what: &str, error: &E) -> Failure {
        Failure::transient("group", format!("{what} group {}: {}", self.name, chain(error)))
    }
}
