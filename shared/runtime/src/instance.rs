//! The EC2 instance under a worker: notices that it must go, and its Auto Scaling group.
//!
//! Off unless `FLOTILLA_INSTANCE_METADATA` is `true`, which the launch template sets. Two notices
//! are looked for in the instance metadata (IMDSv2, every five seconds as AWS recommends):
//! `spot/instance-action`, and `autoscaling/target-lifecycle-state`, which is `Terminated` while the
//! instance is in `Terminating:Wait` (`Warmed:Terminated` where it ends out of a warm pool). Each begins the drain; while it lasts the lifecycle hook is
//! heartbeated, and after it the hook is completed, so that the instance ends at once.
//!
//! While the state that the instance is wanted in is one of the warm pool (`Warmed:…`), nothing is
//! received: what a worker took would be stopped with it.
//!
//! Where `FLOTILLA_GROUP` names the group, the instance is protected from scale-in while it has
//! messages in hand, and neither after an orderly stop nor at a start.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use aws_config::{SdkConfig, imds, provider_config::ProviderConfig};
use aws_sdk_autoscaling::Client;
use aws_smithy_types::date_time::{DateTime, Format};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    config::Reader,
    drain::Drain,
    failure::{Failure, chain},
    retry::RetryPolicy,
};

/// How often the notices are looked for.
const LOOK: Duration = Duration::from_secs(5);
/// How often it is looked for whether an instance of a warm pool is to serve.
const WARM_LOOK: Duration = Duration::from_secs(1);
/// The states that are wanted of an instance which is to end.
const ENDS: [&str; 2] = ["Terminated", "Warmed:Terminated"];
/// What is left for the end of the process when a spot instance is taken away.
const LAST: Duration = Duration::from_secs(10);
/// At every so manieth look the hook is told that its instance still drains. That extends the wait
/// by the hook's own timeout: an hour unless told otherwise, half a minute at least.
const BEAT: u32 = 3;
/// How long the end of a worker waits for the protection to be off.
const OFF: Duration = Duration::from_secs(5);

/// What a worker knows of the instance under it.
#[derive(Debug, Clone)]
pub struct InstanceConfig {
    /// `FLOTILLA_INSTANCE_METADATA`: whether to look at the metadata service (default `false`).
    /// `AWS_EC2_METADATA_SERVICE_ENDPOINT` says where it is.
    pub metadata: bool,
    /// `FLOTILLA_GROUP`: the Auto Scaling group that the instance is in.
    pub group: Option<String>,
    /// `FLOTILLA_TERMINATING_HOOK`: the group's lifecycle hook (default `terminating`).
    pub hook: String,
    /// `FLOTILLA_PROTECT`: whether to protect the instance from scale-in while it is busy (default
    /// `true`). Where an autoscaler ends instances by name there is nothing to protect from.
    pub protect: bool,
    /// `FLOTILLA_UNPROTECT_SECONDS`: how long a worker is idle before its instance is no longer
    /// protected from scale-in (default 30 s).
    pub unprotect_after: Duration,
}

impl InstanceConfig {
    /// Reads the settings.
    pub fn read(settings: &mut Reader) -> Self {
        Self {
            metadata: settings.parsed("FLOTILLA_INSTANCE_METADATA", false),
            group: settings.optional("FLOTILLA_GROUP"),
            hook: settings
                .optional("FLOTILLA_TERMINATING_HOOK")
                .unwrap_or_else(|| "terminating".to_owned()),
            protect: settings.parsed("FLOTILLA_PROTECT", true),
            unprotect_after: settings.seconds("FLOTILLA_UNPROTECT_SECONDS", 30.0, (0.0, 3600.0)),
        }
    }
}

/// The instance, its metadata and its group.
#[derive(Debug)]
pub(crate) struct Instance {
    config: InstanceConfig,
    id: String,
    metadata: imds::Client,
    groups: Client,
}

impl Instance {
    /// Asks the metadata service for the instance's id. `None` where the worker is not told to.
    ///
    /// # Errors
    /// Permanent, when the service does not answer: then this is no instance, or one that hides
    /// its metadata, and a worker that cannot see its end must not start.
    pub(crate) async fn find(
        config: InstanceConfig,
        sdk: &SdkConfig,
    ) -> Result<Option<Arc<Self>>, Failure> {
        if !config.metadata {
            return Ok(None);
        }
        let provider = match sdk.http_client() {
            Some(http) => ProviderConfig::without_region().with_http_client(http),
            None => ProviderConfig::without_region(),
        };
        // It bounds its calls itself, whatever it is configured with.
        let metadata = imds::Client::builder().configure(&provider).build();
        let id = metadata.get("/latest/meta-data/instance-id").await.map_err(|e| {
            let what = "FLOTILLA_INSTANCE_METADATA is true, but the metadata service does not \
                        answer: allow IMDSv2 in the launch template, or set it to false";
            Failure::permanent("instance_metadata", what).caused_by(chain(&e))
        })?;
        let id = id.as_ref().to_owned();
        let groups = crate::aws::groups_client(sdk);
        Ok(Some(Arc::new(Self { config, id, metadata, groups })))
    }

    /// Looks for notices until the token is cancelled, and heartbeats the hook from when the group
    /// waits for this instance. Then completes the hook. Whether the group waited.
    pub(crate) async fn watch(self: Arc<Self>, drain: Arc<Drain>, end: CancellationToken) -> bool {
        let mut waited_for: Option<u32> = None;
        while !end.is_cancelled() {
            if let Some(left) = self.spot_notice().await {
                drain.begin("a spot interruption", Some(left.saturating_sub(LAST)));
            }
            match &mut waited_for {
                None if self.is_terminating().await => {
                    waited_for = Some(0);
                    drain.begin("the Auto Scaling group ends this instance", None);
                    self.heartbeat().await;
                }
                None => {}
                Some(looks) => {
                    *looks += 1;
                    if *looks % BEAT == 0 {
                        self.heartbeat().await;
                    }
                }
            }
            let _ = tokio::time::timeout(LOOK, end.cancelled()).await;
        }
        let waits = waited_for.is_some() || self.is_terminating().await;
        if waits {
            self.complete().await;
        }
        waits
    }

    /// How long a spot instance has yet to live, once it is told.
    async fn spot_notice(&self) -> Option<Duration> {
        let text = self.metadata("spot/instance-action").await?;
        let notice: serde_json::Value = serde_json::from_str(&text).ok()?;
        let time = DateTime::from_str(notice["time"].as_str()?, Format::DateTime).ok()?;
        let time = SystemTime::try_from(time).ok()?;
        Some(time.duration_since(SystemTime::now()).unwrap_or_default())
    }

    /// Waits for as long as the group prepares the instance for its warm pool, keeps it there, or ends it
    /// out of it: then the drain begins.
    pub(crate) async fn in_service(&self) {
        let mut told = false;
        while self.wanted().await.is_some_and(|state| state.starts_with("Warmed")) {
            if !std::mem::replace(&mut told, true) {
                tracing::info!(
                    "in the warm pool: nothing is received before this instance is to serve"
                );
            }
            tokio::time::sleep(WARM_LOOK).await;
        }
    }

    async fn is_terminating(&self) -> bool {
        self.wanted().await.is_some_and(|state| ENDS.contains(&state.as_str()))
    }

    /// The state that the group wants the instance in.
    async fn wanted(&self) -> Option<String> {
        let state = self.metadata("autoscaling/target-lifecycle-state").await;
        state.map(|state| state.trim().to_owned())
    }

    /// A value of the metadata; `None` where there is none, or no answer now.
    async fn metadata(&self, path: &str) -> Option<String> {
        let found = self.metadata.get(format!("/latest/meta-data/{path}")).await;
        found.ok().map(|text| text.as_ref().to_owned())
    }

    async fn heartbeat(&self) {
        let Some(group) = &self.config.group else { return };
        let call = self.groups.record_lifecycle_action_heartbeat().instance_id(&self.id);
        let call = call.auto_scaling_group_name(group).lifecycle_hook_name(&self.config.hook);
        if let Err(error) = call.send().await {
            let error = chain(&error);
            tracing::warn!(
                error,
                hook = self.config.hook,
                "the lifecycle hook was not heartbeated"
            );
        }
    }

    async fn complete(&self) {
        let Some(group) = &self.config.group else { return };
        let call = self.groups.complete_lifecycle_action().instance_id(&self.id);
        let call = call.auto_scaling_group_name(group).lifecycle_hook_name(&self.config.hook);
        match call.lifecycle_action_result("CONTINUE").send().await {
            Ok(_) => tracing::info!(hook = self.config.hook, "drained: the group may go on"),
            Err(error) => {
                let error = chain(&error);
                tracing::warn!(error, hook = self.config.hook, "the hook was not completed");
            }
        }
    }

    /// Keeps the instance protected from scale-in while messages are in hand, until the token is
    /// cancelled. It stays protected for a while when the last one ends, for another may follow.
    /// Whether it is protected at the end, as far as is known.
    pub(crate) async fn protect(
        self: Arc<Self>,
        mut in_hand: watch::Receiver<usize>,
        end: CancellationToken,
    ) -> bool {
        let Some(group) = self.config.group.clone().filter(|_| self.config.protect) else {
            return false;
        };
        // An earlier worker of this instance may have been killed at its work, and have left it on.
        let mut on = true;
        let keep = async {
            loop {
                on = !self.protected(&group, false, &mut in_hand).await;
                if in_hand.wait_for(|count| *count > 0).await.is_err() {
                    return;
                }
                on = true;
                self.protected(&group, true, &mut in_hand).await;
                self.idle(&mut in_hand).await;
            }
        };
        tokio::select! {
            () = keep => {}
            () = end.cancelled() => {}
        }
        on
    }

    /// Takes the protection off once, if that does not take long: nobody works here any more.
    pub(crate) async fn unprotect(&self) {
        let Some(group) = &self.config.group else { return };
        if tokio::time::timeout(OFF, self.protection(group, false)).await.is_err() {
            tracing::warn!(group, "the scale-in protection was not taken off in time");
        }
    }

    /// Waits until nothing has been in hand for a while.
    async fn idle(&self, in_hand: &mut watch::Receiver<usize>) {
        loop {
            if in_hand.wait_for(|count| *count == 0).await.is_err() {
                return;
            }
            let busy = in_hand.wait_for(|count| *count > 0);
            if tokio::time::timeout(self.config.unprotect_after, busy).await.is_err() {
                return;
            }
        }
    }

    /// Sets the protection, for as long as it takes: an instance that stays protected by mistake
    /// is never scaled in, and one that is not may be killed at work. False where it is not taken off
    /// since there is work again.
    async fn protected(&self, group: &str, on: bool, in_hand: &mut watch::Receiver<usize>) -> bool {
        let mut failures = 0;
        while !self.protection(group, on).await {
            failures += 1;
            let pause = tokio::time::sleep(RetryPolicy::CALL.delay(failures));
            tokio::select! {
                () = pause => {}
                Ok(_) = in_hand.wait_for(|count| !on && *count > 0) => return false,
            }
        }
        true
    }

    /// Sets the protection; false where that failed.
    async fn protection(&self, group: &str, on: bool) -> bool {
        let call = self.groups.set_instance_protection().auto_scaling_group_name(group);
        let set = call.instance_ids(&self.id).protected_from_scale_in(on).send().await;
        if let Err(error) = &set {
            let error = chain(error);
            tracing::warn!(error, on, group, "the scale-in protection was not set");
        }
        set.is_ok()
    }
}

#[cfg(test)]
mod tests;
