//! An emulated Auto Scaling group whose instances are processes of this machine.

use std::{collections::HashMap, time::Duration};

use aws_sdk_autoscaling::types::AutoScalingGroup;
use aws_sdk_cloudformation::types::{Capability, Parameter};
use aws_sdk_dynamodb::types::AttributeValue as Attr;
use base64::{Engine, engine::general_purpose::STANDARD};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::{
    Moto, Template, Worker, WorkerBuilder, World,
    template::{answered, query},
    wait::eventually,
};

const TEMPLATE: &str = include_str!("../../deploy/cfn/fleet.yaml");

/// A stack of `deploy/cfn/fleet.yaml` on moto.
#[derive(Debug)]
pub struct ScaledGroup {
    /// Calls to the group.
    pub calls: aws_sdk_autoscaling::Client,
    /// Its moto.
    pub moto: Moto,
    /// The name of the stack, and of its group.
    pub name: String,
}

impl ScaledGroup {
    /// Creates the stack, with parameters beyond those without a default.
    ///
    /// # Panics
    /// When moto refuses it.
    pub async fn create(parameters: &[(&str, &str)]) -> Self {
        let moto = Moto::start().await;
        let name = format!("fleet-{}", &uuid::Uuid::new_v4().simple().to_string()[..8]);
        let sdk = flotilla_runtime::aws::sdk_config_at(&moto.url()).await;
        let cfn = aws_sdk_cloudformation::Client::new(&sdk);
        let digest = "0".repeat(64);
        let (subnet, security) = (moto.subnet().await, moto.security_group().await);
        let own = [
            ("DataStack", "data"),
            ("ReleaseBucket", "releases"),
            ("ReleaseKey", "flotilla.tar.gz"),
            ("ReleaseSha256", digest.as_str()),
            ("ImageId", "ami-12345678"),
            ("Subnets", subnet.as_str()),
            ("SecurityGroups", security.as_str()),
        ];
        let all = own.iter().chain(parameters).map(|(key, value)| {
            Parameter::builder().parameter_key(*key).parameter_value(*value).build()
        });
        let call = cfn.create_stack().stack_name(&name).template_body(TEMPLATE);
        let call = call.capabilities(Capability::CapabilityIam);
        call.set_parameters(Some(all.collect())).send().await.expect("CreateStack");
        let calls = aws_sdk_autoscaling::Client::new(&sdk);
        let group = Self { calls, moto, name };
        eventually("the group", Duration::from_secs(30), async || group.find().await).await;
        group
    }

    async fn find(&self) -> Option<AutoScalingGroup> {
        self.named(&self.name).await
    }

    /// A group of this name beside it.
    pub async fn named(&self, name: &str) -> Option<AutoScalingGroup> {
        let call = self.calls.describe_auto_scaling_groups();
        let answer = call.auto_scaling_group_names(name).send().await;
        answer.expect("the groups").auto_scaling_groups.unwrap_or_default().into_iter().next()
    }

    /// The group as moto describes it.
    ///
    /// # Panics
    /// When there is none.
    pub async fn describe(&self) -> AutoScalingGroup {
        self.find().await.expect("the group of the stack")
    }

    /// Its launch template, as moto describes it.
    pub async fn launch_template(&self) -> String {
        let query = format!(
            "Action=DescribeLaunchTemplateVersions&Version=2016-11-15&LaunchTemplateName={}",
            self.name
        );
        self.moto.call("ec2", "us-east-1", &query).await
    }

    /// What an instance runs at its start.
    ///
    /// # Panics
    /// When the template has nothing of the kind.
    pub async fn user_data(&self) -> String {
        let answer = self.launch_template().await;
        let data = answer.split_once("<userData>").expect("user data").1;
        let data = data.split_once("</userData>").expect("its end").0;
        String::from_utf8(STANDARD.decode(data).expect("base64")).expect("text")
    }

    /// Sets by calls what moto's CloudFormation drops of the group, from the template's own values.
    ///
    /// # Panics
    /// When moto refuses it.
    pub async fn fill(&self, template: &Template) {
        let group = template.properties("Group").expect("a group");
        let of = |kind: &str| group[kind].as_array().cloned().unwrap_or_default();
        for hook in of("LifecycleHookSpecificationList") {
            self.put("PutLifecycleHook", hook).await;
        }
        for metrics in of("MetricsCollection") {
            self.put("EnableMetricsCollection", metrics).await;
        }
        for name in ["BacklogTracking", "FirstInstance"] {
            if let Some(mut policy) = template.properties(name) {
                policy["PolicyName"] = json!(name);
                self.put("PutScalingPolicy", policy).await;
            }
        }
        if let Some(mut alarm) = template.properties("FirstMessage") {
            alarm["AlarmName"] = json!("FirstMessage");
            let query = query("PutMetricAlarm", "2010-08-01", &alarm);
            self.moto.call("monitoring", "us-east-1", &query).await;
        }
    }

    async fn put(&self, action: &str, mut what: Value) {
        what["AutoScalingGroupName"] = json!(self.name);
        self.moto.call("autoscaling", "us-east-1", &query(action, "2011-01-01", &what)).await;
    }

    /// A list that an action of Auto Scaling tells of the group.
    pub async fn told(&self, action: &str, list: &str) -> Value {
        let of = json!({ "AutoScalingGroupName": self.name });
        let query = query(action, "2011-01-01", &of);
        let answer = self.moto.call("autoscaling", "us-east-1", &query).await;
        if answer.contains(&format!("<{list}/>")) { json!([]) } else { answered(&answer, list) }
    }

    /// The alarms on the group's queue.
    pub async fn alarms(&self) -> Value {
        let query = "Action=DescribeAlarms&Version=2010-08-01";
        let answer = self.moto.call("monitoring", "us-east-1", query).await;
        let none = answer.contains("<MetricAlarms/>");
        if none { json!([]) } else { answered(&answer, "MetricAlarms") }
    }

    /// What an instance may do: the policy of its role, as JSON.
    ///
    /// # Panics
    /// When the stack has no such role.
    pub async fn policy(&self) -> String {
        let roles = self.moto.call("iam", "us-east-1", "Action=ListRoles&Version=2010-05-08").await;
        let role = roles.split_once("<RoleName>").expect("a role").1;
        let role = role.split_once("</RoleName>").expect("its end").0;
        let query =
            format!("Action=GetRolePolicy&Version=2010-05-08&RoleName={role}&PolicyName=worker");
        let answer = self.moto.call("iam", "us-east-1", &query).await;
        let policy = answer.split_once("<PolicyDocument>").expect("a policy").1;
        let policy = policy.split_once("</PolicyDocument>").expect("its end").0;
        // moto writes it as Python would.
        policy.replace('\'', "\"")
    }

    /// The ids of the instances in service.
    pub async fn instances(&self) -> Vec<String> {
        let instances = self.describe().await.instances.unwrap_or_default();
        instances.into_iter().filter_map(|it| it.instance_id).collect()
    }

    /// Sets the desired capacity, as an operator would.
    pub async fn set_desired(&self, desired: i32) {
        let call = self.calls.set_desired_capacity().auto_scaling_group_name(&self.name);
        call.desired_capacity(desired).send().await.expect("SetDesiredCapacity");
    }
}

/// The processes that stand for the instances of a group.
#[derive(Debug, Default)]
pub struct Machines {
    running: HashMap<String, Worker>,
    /// Instances on which no worker runs any more.
    dead: Vec<String>,
    /// The queues of the workers, where it is not the grading queue alone.
    queues: Option<String>,
    /// How many there were at a time, at most.
    pub most: usize,
    /// How many there were in all.
    pub started: usize,
}

impl Machines {
    /// Those whose workers serve these queues, their URLs with commas between.
    pub fn on(queues: &str) -> Self {
        Self { queues: Some(queues.to_owned()), ..Self::default() }
    }

    /// Starts a worker for each instance that has none, and lets go of those that are gone.
    ///
    /// # Panics
    /// When an instance was ended whose worker had not ended by itself before.
    pub async fn follow(&mut self, world: &World, group: &ScaledGroup) {
        let instances = group.instances().await;
        let served = |id: &&String| self.running.contains_key(*id) || self.dead.contains(*id);
        for id in instances.iter().filter(|id| !served(id)).collect::<Vec<_>>() {
            self.started += 1;
            let mut worker = world.sleeper(&group.name, id);
            if let Some(queues) = &self.queues {
                worker = worker.env("FLOTILLA_QUEUE_URL", queues);
            }
            self.running.insert(id.clone(), worker.start());
        }
        self.most = self.most.max(instances.len());
        let gone: Vec<String> =
            self.running.keys().filter(|id| !instances.contains(id)).cloned().collect();
        for id in gone {
            let mut worker = self.running.remove(&id).expect("it runs");
            let log = worker.log();
            assert!(log.contains("drained: nothing is in flight"), "{id} was killed");
            // What is handed back is killed, too.
            let cut = |line: &&str| line.contains("the grace is over") && !line.contains("jobs=0");
            assert_eq!(log.lines().find(cut), None, "{id} was killed at work");
            assert!(worker.end().await.success(), "{id} did not end well");
        }
    }

    /// Takes an instance away with its worker at work, as EC2 takes a spot instance back whose
    /// notice was not heeded. The group replaces it, for as long as its capacity says so.
    ///
    /// # Panics
    /// When there is none.
    pub async fn lose_any(&mut self, group: &ScaledGroup) {
        let place = uuid::Uuid::new_v4().as_u128() as usize % self.running.len();
        let id = self.running.keys().nth(place).expect("a running instance").clone();
        let mut worker = self.running.remove(&id).expect("it runs");
        worker.kill().await;
        let call = group.calls.terminate_instance_in_auto_scaling_group().instance_id(&id);
        call.should_decrement_desired_capacity(false).send().await.expect("the end of an instance");
    }

    /// Waits until every worker consumes.
    pub async fn until_all_consume(&self) {
        eventually("workers that consume", Duration::from_secs(60), async || {
            self.running.values().all(|worker| worker.log().contains("consuming")).then_some(())
        })
        .await;
    }

    /// Asks every worker to stop; nothing starts one there again.
    pub fn stop_all(&self) {
        self.running.values().for_each(|worker| worker.signal(Signal::SIGTERM));
    }

    /// Ends every worker at once, and leaves the instances; nothing starts one there again.
    pub async fn forget_all(&mut self) {
        for (id, mut worker) in self.running.drain() {
            worker.kill().await;
            self.dead.push(id);
        }
    }

    /// Follows the group until it has `count` instances.
    pub async fn until(&mut self, count: usize, world: &World, group: &ScaledGroup) {
        let what = format!("{count} instances");
        eventually(&what, Duration::from_secs(90), async || {
            self.follow(world, group).await;
            (group.instances().await.len() == count && self.running.len() == count).then_some(())
        })
        .await;
    }
}

impl World {
    /// A worker that sleeps, on the grading queue, as an instance of a group.
    pub fn sleeper(&self, group: &str, instance: &str) -> WorkerBuilder {
        self.worker("sleeper")
            .env("FLOTILLA_QUEUE_URL", &self.outputs().grading_queue_url)
            .env("FLOTILLA_FLEET_TABLE", &self.outputs().fleet_table_name)
            .env("FLOTILLA_GROUP", group)
            .env("FLOTILLA_INSTANCE_ID", instance)
            .env("FLOTILLA_PRESENCE_SECONDS", "0.5")
            .env("FLOTILLA_WAIT_SECONDS", "1")
            .env("FLOTILLA_SLOTS", "1")
    }

    /// Sends a message that takes a sleeper so long.
    pub async fn nap(&self, id: &str, ms: u64) {
        self.send(&json!({ "id": id, "ms": ms }).to_string()).await;
    }

    /// How many effects the ledger has as done, each at its first attempt.
    pub async fn done_at_once(&self) -> usize {
        let first = Attr::N("1".to_owned());
        self.done().await.iter().filter(|row| row.get("generation") == Some(&first)).count()
    }

    /// The effects that the ledger has as done: a row each, however often it was attempted.
    pub async fn done(&self) -> Vec<HashMap<String, Attr>> {
        let call = self.aws.dynamo.scan().table_name(&self.outputs().ledger_table_name);
        let rows = call.send().await.expect("Scan").items.unwrap_or_default();
        let done = Attr::S("done".to_owned());
        rows.into_iter().filter(|row| row.get("state") == Some(&done)).collect()
    }
}
