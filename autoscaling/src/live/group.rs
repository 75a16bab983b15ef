//! The Auto Scaling group.

use std::collections::HashSet;

use aws_config::SdkConfig;
use aws_sdk_autoscaling::{
    Client,
    error::ProvideErrorMetadata,
    types::{Activity, LifecycleState, ScalingActivityStatusCode as Status, WarmPoolConfiguration},
};
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
    pub(super) min: u32,
    pub(super) max: u32,
    pub(super) members: Vec<Member>,
    /// The warm pool, where there is one.
    pub(super) warm: Option<WarmPool>,
    /// Instances in it.
    pub(super) pooled: u32,
    /// Whether every instance is protected from scale-in, and each that comes will be: then AWS chooses
    /// none to end where the group is told to have fewer.
    pub(super) protects: bool,
}

impl Described {
    /// Whether the group can be told to have one fewer, after so many `before`: AWS refuses an end that
    /// would bring it below its minimum.
    pub(super) fn may_have_fewer(&self, before: u32) -> bool {
        self.desired.saturating_sub(before) > self.min
    }
}

/// What a warm pool is told to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WarmPool {
    /// Instances in the pool, at least.
    pub(super) least: u32,
    /// Instances in the pool and in service, at most.
    pub(super) prepared: u32,
}

/// What the message of an activity says that failed for want of capacity or of allowance
/// (EC2's error codes, and Auto Scaling's own words for them).
const NO_CAPACITY: [&str; 9] = [
    "InsufficientInstanceCapacity",
    "InsufficientHostCapacity",
    "InsufficientReservedInstanceCapacity",
    "InsufficientCapacity",
    "do not have sufficient",
    "UnfulfillableCapacity",
    "MaxSpotInstanceCountExceeded",
    "InstanceLimitExceeded",
    "VcpuLimitExceeded",
];

/// An instance of a group.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) id: String,
    pub(super) lifecycle: LifecycleState,
    pub(super) kind: String,
}

impl Member {
    /// Whether it is in the warm pool.
    pub(super) fn is_warm(&self) -> bool {
        self.lifecycle.as_str().starts_with("Warmed")
    }
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
        let instances = group.instances.unwrap_or_default();
        let protects = group.new_instances_protected_from_scale_in == Some(true)
            && instances.iter().all(|it| it.protected_from_scale_in == Some(true));
        let members = instances.into_iter().filter_map(|it| {
            Some(Member {
                id: it.instance_id?,
                lifecycle: it.lifecycle_state?,
                kind: it.instance_type.unwrap_or_default(),
            })
        });
        let size = |n: Option<i32>| u32::try_from(n.unwrap_or_default()).unwrap_or_default();
        let (desired, min) = (size(group.desired_capacity), size(group.min_size));
        let max = size(group.max_size);
        let warm = group.warm_pool_configuration.as_ref().map(warm_pool);
        let pooled = size(group.warm_pool_size);
        Ok(Described { desired, min, max, members: members.collect(), warm, pooled, protects })
    }

    /// How many more launches failed for want of capacity.
    pub(super) async fn capacity_errors(
        &self,
        failed: &mut FailedLaunches,
    ) -> Result<u32, Failure> {
        let call = self.client.describe_scaling_activities();
        let call = call.auto_scaling_group_name(&self.name).max_records(RECORDS);
        let answer = call.send().await.map_err(|e| self.failed("the activities of", &e))?;
        Ok(failed.more(answer.activities()))
    }

    /// Has the warm pool hold so many.
    pub(super) async fn set_warm(&self, pool: WarmPool) -> Result<(), Failure> {
        let size = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
        let call = self.client.put_warm_pool().auto_scaling_group_name(&self.name);
        let call = call.min_size(size(pool.least));
        let answer = call.max_group_prepared_capacity(size(pool.prepared)).send().await;
        answer.map(drop).map_err(|e| self.failed("sizing the warm pool of", &e))
    }

    pub(super) async fn set_desired(&self, desired: u32) -> Result<(), Failure> {
        let call = self.client.set_desired_capacity().auto_scaling_group_name(&self.name);
        let desired = i32::try_from(desired).unwrap_or(i32::MAX);
        let answer = call.desired_capacity(desired).honor_cooldown(false).send().await;
        answer.map(drop).map_err(|e| self.failed("setting the desired capacity of", &e))
    }

    /// Ends an instance; the group replaces it unless it is to have one `fewer`.
    pub(super) async fn end(&self, instance: &str, fewer: bool) -> Result<(), Failure> {
        let call = self.client.terminate_instance_in_auto_scaling_group().instance_id(instance);
        let answer = call.should_decrement_desired_capacity(fewer).send().await;
        let what = format!("ending instance {instance} of");
        answer.map(drop).map_err(|e| self.failed(&what, &e))
    }

    /// Has the group go on to end an instance that waits in its terminating `hook`.
    pub(super) async fn release(&self, instance: &str, hook: &str) -> Result<(), Failure> {
        let call = self.client.complete_lifecycle_action().auto_scaling_group_name(&self.name);
        let call = call.lifecycle_hook_name(hook).instance_id(instance);
        let answer = call.lifecycle_action_result("CONTINUE").send().await;
        answer.map(drop).map_err(|e| {
            let what = format!("completing hook {hook} of instance {instance} of");
            match e.code() {
                // There is no such hook, or it does not hold the instance any more.
                Some("ValidationError") => {
                    let why = format!("{what} group {}: {}", self.name, chain(&e));
                    Failure::permanent("group", why)
                }
                _ => self.failed(&what, &e),
            }
        })
    }

    fn failed<E: std::error::Error + 'static>(&self, what: &str, error: &E) -> Failure {
        Failure::transient("group", format!("{what} group {}: {}", self.name, chain(error)))
    }
}

/// Activities that are looked at: the latest.
const RECORDS: i32 = 50;

fn warm_pool(told: &WarmPoolConfiguration) -> WarmPool {
    let size = |n: Option<i32>| u32::try_from(n.unwrap_or_default()).unwrap_or_default();
    WarmPool { least: size(told.min_size), prepared: size(told.max_group_prepared_capacity) }
}

/// Launches that failed for want of capacity, each counted once: one that is under way at a look
/// may fail after others that began later.
#[derive(Debug)]
pub(super) struct FailedLaunches {
    /// From when on they count, in seconds since 1970.
    since: i64,
    /// Those that were counted, as long as they are told.
    counted: HashSet<String>,
}

impl FailedLaunches {
    pub(super) fn since(since: i64) -> Self {
        Self { since, counted: HashSet::new() }
    }

    /// How many of these are new.
    fn more(&mut self, activities: &[Activity]) -> u32 {
        let lacked =
            activities.iter().filter(|it| self.lacked(it)).filter_map(|it| it.activity_id());
        let lacked: HashSet<String> = lacked.map(str::to_owned).collect();
        let new = lacked.difference(&self.counted).count() as u32;
        self.counted = lacked;
        new
    }

    fn lacked(&self, activity: &Activity) -> bool {
        let started = activity.start_time.as_ref().map_or(0, |at| at.secs());
        let message = activity.status_message.as_deref().unwrap_or_default();
        let failed = matches!(activity.status_code, Some(Status::Failed | Status::Cancelled));
        failed && started > self.since && NO_CAPACITY.iter().any(|code| message.contains(code))
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_autoscaling::primitives::DateTime;

    use super::*;

    fn activity(at: i64, status: Status, message: &str) -> Activity {
        let base = Activity::builder().activity_id(format!("a-{at}")).cause("c");
        let base = base.auto_scaling_group_name("g").status_code(status);
        base.start_time(DateTime::from_secs(at)).status_message(message).build()
    }

    const LACK: &str = "We currently do not have sufficient c7g.large capacity in the zone you \
                        requested. Launching EC2 instance failed.";

    #[test]
    fn launches_that_failed_for_want_of_capacity_count_once() {
        let all = [
            activity(100, Status::Failed, LACK),
            activity(130, Status::Failed, "Could not launch: MaxSpotInstanceCountExceeded"),
            activity(140, Status::Failed, "The image id 'ami-1' does not exist"),
            activity(150, Status::Successful, ""),
        ];
        let mut failed = FailedLaunches::since(0);
        assert_eq!((failed.more(&all), failed.more(&all)), (2, 0));
        assert_eq!(FailedLaunches::since(100).more(&all), 1);
        assert_eq!((failed.more(&[]), failed.more(&all[2..])), (0, 0));
    }

    #[test]
    fn a_group_at_its_minimum_is_told_to_have_no_fewer() {
        let group = |desired, min| {
            let (members, warm) = (Vec::new(), None);
            Described { desired, min, max: 9, members, warm, pooled: 0, protects: true }
        };
        assert!(!group(3, 3).may_have_fewer(0) && !group(0, 0).may_have_fewer(0));
        assert_eq!([0, 1, 2].map(|before| group(5, 3).may_have_fewer(before)), [true, true, false]);
    }

    #[test]
    fn a_launch_that_fails_after_later_ones_counts_too() {
        let mut failed = FailedLaunches::since(0);
        let under_way = activity(100, Status::InProgress, "");
        assert_eq!(failed.more(&[activity(120, Status::Failed, LACK), under_way]), 1);
        let then = [activity(120, Status::Failed, LACK), activity(100, Status::Failed, LACK)];
        assert_eq!(failed.more(&then), 1);
    }
}
