//! `deploy/cfn/fleet.yaml` makes the group that it says.

use std::{collections::HashMap, io::Write, process::Command};

use aws_sdk_autoscaling::types::AutoScalingGroup;
use flotilla_tests::{ScaledGroup, Template, difference, evaluate};
use serde_json::{Value as Json, json};
use serde_norway::Value;

const TEMPLATE: &str = include_str!("../../deploy/cfn/fleet.yaml");

fn resource(name: &str) -> Value {
    let template: Value = serde_norway::from_str(TEMPLATE).unwrap();
    template["Resources"][name].clone()
}

/// The expression of a list of metrics, with the default of its parameter, for one queue or two.
fn expression(metrics: &Value, queues: usize) -> String {
    let metric = metrics.as_sequence().unwrap().iter().find_map(|it| it.get("Expression"));
    let choice = metric.unwrap().as_sequence_of("If");
    assert_eq!(choice[0], Value::from("TwoQueues"));
    let text = match &choice[if queues == 2 { 1 } else { 2 }] {
        Value::Tagged(sub) => sub.value.as_str().unwrap().to_owned(),
        plain => plain.as_str().unwrap().to_owned(),
    };
    text.replace("${BacklogPerInstance}", "10")
}

trait Tagged {
    /// What a function of CloudFormation is given.
    fn as_sequence_of(&self, function: &str) -> &[Value];
}

impl Tagged for Value {
    fn as_sequence_of(&self, function: &str) -> &[Value] {
        match self {
            Value::Tagged(call) if call.tag == function => call.value.as_sequence().unwrap(),
            other => panic!("{other:?} is no !{function}"),
        }
    }
}

fn tracked_with(queues: usize, metrics: &[(&'static str, Option<f64>)]) -> Option<f64> {
    let policy = resource("BacklogTracking");
    let tracking = &policy["Properties"]["TargetTrackingConfiguration"];
    let text = expression(&tracking["CustomizedMetricSpecification"]["Metrics"], queues);
    evaluate(&text, &metrics.iter().copied().collect())
}

fn tracked(visible: Option<f64>, held: Option<f64>, instances: Option<f64>) -> Option<f64> {
    tracked_with(1, &[("visible", visible), ("held", held), ("instances", instances)])
}

#[test]
fn what_waits_on_a_second_queue_counts_like_the_first() {
    let n = Some;
    let all = |visible, held, instances| {
        let other = [("othervisible", n(20.0)), ("otherheld", None)];
        let own = [("visible", visible), ("held", held), ("instances", instances)];
        tracked_with(2, &[&other[..], &own[..]].concat())
    };
    assert_eq!(all(n(30.0), n(10.0), n(4.0)), n(15.0));
    assert_eq!(all(None, None, n(2.0)), n(10.0));
    assert_eq!(all(None, None, n(0.0)), n(220.0), "it launches the first instance too");
    let text = expression(&resource("FirstMessage")["Properties"]["Metrics"], 2);
    let metrics = [("visible", n(0.0)), ("othervisible", n(1.0)), ("instances", None)];
    assert_eq!(evaluate(&text, &HashMap::from(metrics)), n(1.0));
}

#[test]
fn the_backlog_per_instance_of_worked_examples() {
    let n = Some;
    // 1500 messages on 10 instances are 150 each; a target of 10 asks for 15 times as many.
    assert_eq!(tracked(n(1450.0), n(50.0), n(10.0)), n(150.0));
    assert_eq!(tracked(n(30.0), n(10.0), n(4.0)), n(10.0));
    assert_eq!(tracked(n(0.0), n(0.0), n(3.0)), n(0.0));
    // Work in hand keeps its instance.
    assert_eq!(tracked(n(0.0), n(6.0), n(2.0)), n(3.0));
    // A queue that was silent for hours has no numbers.
    assert_eq!(tracked(None, None, n(2.0)), n(0.0));
}

#[test]
fn without_an_instance_one_message_is_more_than_the_target_and_none_is_nothing() {
    for none in [Some(0.0), None] {
        assert_eq!(tracked(Some(1.0), Some(0.0), none), Some(11.0));
        assert_eq!(tracked(Some(200.0), None, none), Some(2200.0));
        assert_eq!(tracked(Some(0.0), Some(0.0), none), Some(0.0));
        assert_eq!(tracked(None, None, none), Some(0.0));
    }
}

#[test]
fn the_first_message_alarms_only_while_there_is_no_instance() {
    let alarm = resource("FirstMessage");
    let text = expression(&alarm["Properties"]["Metrics"], 1);
    let waiting = |visible, instances| {
        evaluate(&text, &HashMap::from([("visible", visible), ("instances", instances)]))
    };
    assert_eq!(waiting(Some(1.0), Some(0.0)), Some(1.0));
    assert_eq!(waiting(Some(1.0), None), Some(1.0));
    assert_eq!(waiting(Some(1.0), Some(1.0)), Some(0.0));
    assert_eq!(waiting(None, Some(0.0)), Some(0.0));
    assert_eq!(alarm["Properties"]["Threshold"], Value::from(1));
}

#[tokio::test]
async fn where_the_autoscaler_sizes_the_group_it_is_installed_and_may_do_what_it_needs() {
    let given = [("ScaledBy", "autoscaler"), ("MaxSize", "7"), ("OtherQueue", "urgent")];
    let group = ScaledGroup::create(&given).await;
    let own = group.named(&format!("{}-autoscaler", group.name)).await.unwrap();
    assert_eq!((own.min_size(), own.instances().len()), (Some(1), 1));
    let template = template(&group.name, &given);
    let data = &template.properties("ScalerTemplate").unwrap()["LaunchTemplateData"];
    let script = data["UserData"]["Fn::Base64"].as_str().unwrap();
    parses(script);
    for said in [
        "ExecStart=/opt/flotilla/bin/autoscaler",
        &format!("FLOTILLA_GROUP={}\n", group.name),
        "FLOTILLA_FLEET_TABLE=data-fleet\n",
        "FLOTILLA_MAX_INSTANCES=7\n",
    ] {
        assert!(script.contains(said), "{said} is not in {script}");
    }
    assert_eq!(queue_urls(script), "http://sqs/data-grading,http://sqs/data-urgent");
    let role = template.properties("ScalerRole").unwrap();
    let statements = role["Policies"][0]["PolicyDocument"]["Statement"].as_array().unwrap();
    let actions = statements.iter().flat_map(|it| match &it["Action"] {
        Json::Array(all) => all.clone(),
        one => vec![one.clone()],
    });
    let actions: Vec<String> = actions.map(|it| it.as_str().unwrap().to_owned()).collect();
    for needed in [
        "sqs:GetQueueAttributes",
        "cloudwatch:GetMetricData",
        "dynamodb:Query",
        "dynamodb:UpdateItem",
        "dynamodb:DeleteItem",
        "autoscaling:DescribeAutoScalingGroups",
        "autoscaling:DescribeScalingActivities",
        "autoscaling:SetDesiredCapacity",
        "autoscaling:TerminateInstanceInAutoScalingGroup",
        "autoscaling:PutWarmPool",
    ] {
        assert!(actions.iter().any(|it| it == needed), "{needed} is not in {actions:?}");
    }
}

#[test]
fn a_changed_parameter_reaches_the_autoscaler_by_another_instance() {
    let rolling = &resource("Scaler")["UpdatePolicy"]["AutoScalingRollingUpdate"];
    assert_eq!(rolling["MinInstancesInService"], Value::from(1), "there is one meanwhile");
    let most = &resource("Scaler")["Properties"]["MaxSize"];
    assert_eq!(most.as_str(), Some("2"), "the next begins before the last ends");
}

#[test]
fn a_type_that_is_given_as_the_other_one_too_is_named_once() {
    for (other, types) in [("c7a.large", 1), ("c6a.large", 2)] {
        let template = template("fleet", &[("OtherInstanceType", other)]);
        let group = template.properties("Group").unwrap();
        let named = &group["MixedInstancesPolicy"]["LaunchTemplate"]["Overrides"];
        let all = [json!({ "InstanceType": "c7a.large" }), json!({ "InstanceType": "c6a.large" })];
        assert_eq!(named, &json!(all[..types]));
    }
}

#[test]
fn where_aws_sizes_the_group_there_is_no_autoscaler() {
    let template = template("fleet", &[]);
    for name in ["Scaler", "ScalerTemplate", "ScalerProfile", "ScalerRole"] {
        assert_eq!(template.properties(name), None, "{name}");
    }
}

#[test]
fn a_worker_may_delete_artifacts_and_no_other_objects() {
    let statements = resource("Role")["Properties"]["Policies"][0]["PolicyDocument"]["Statement"]
        .as_sequence()
        .unwrap()
        .clone();
    let deletes = |it: &&Value| match &it["Action"] {
        Value::Sequence(actions) => actions.contains(&Value::from("s3:DeleteObject")),
        action => action.as_str() == Some("s3:DeleteObject"),
    };
    let found: Vec<_> = statements.iter().filter(deletes).collect();
    assert_eq!(found.len(), 1, "what is forgotten is deleted");
    let Value::Tagged(sub) = &found[0]["Resource"] else { panic!("{:?}", found[0]) };
    assert!(sub.value.as_str().unwrap().contains(":::${DataStack}-artifacts-"), "{sub:?}");
}

/// IAM takes a batch for an action of its own: who may get an item may not get several.
#[test]
fn a_worker_may_read_its_orders_and_write_in_batches() {
    let statements = &resource("Role")["Properties"]["Policies"][0]["PolicyDocument"]["Statement"];
    let mut statements = statements.as_sequence().unwrap().iter();
    let rows = statements.find(|it| it["Sid"].as_str() == Some("Rows")).unwrap();
    let actions = rows["Action"].as_sequence().unwrap();
    for action in ["BatchGetItem", "BatchWriteItem", "GetItem", "UpdateItem"] {
        assert!(actions.contains(&Value::from(format!("dynamodb:{action}"))), "{action}");
    }
}

#[test]
fn whoever_else_would_change_the_capacity_is_there_only_where_the_autoscaler_is_not() {
    let template: Value = serde_norway::from_str(TEMPLATE).unwrap();
    let resources = template["Resources"].as_mapping().unwrap();
    let scales = ["AWS::AutoScaling::ScalingPolicy", "AWS::CloudWatch::Alarm"];
    let mut found = 0;
    for (name, resource) in resources {
        let kind = resource["Type"].as_str().unwrap();
        if scales.contains(&kind) || kind == "AWS::AutoScaling::ScheduledAction" {
            assert_eq!(resource["Condition"], Value::from("Tracked"), "{name:?}");
            found += 1;
        }
    }
    assert_eq!(found, 3);
}

/// What moto drops of the group: a gap that vanished fails as one that is new does.
async fn gaps(group: &ScaledGroup, described: &AutoScalingGroup) -> Vec<&'static str> {
    let hooks = group.calls.describe_lifecycle_hooks().auto_scaling_group_name(&group.name);
    let hooks = hooks.send().await.unwrap().lifecycle_hooks.unwrap_or_default();
    let policies = group.calls.describe_policies().auto_scaling_group_name(&group.name);
    let policies = policies.send().await.unwrap().scaling_policies.unwrap_or_default();
    let missing = [
        ("LifecycleHookSpecificationList", hooks.is_empty()),
        ("MetricsCollection", described.enabled_metrics().is_empty()),
        ("ScalingPolicy", policies.is_empty()),
    ];
    missing.into_iter().filter(|(_, missing)| *missing).map(|(name, _)| name).collect()
}

#[tokio::test]
async fn the_group_on_moto_is_what_the_template_says() {
    let forms = [
        ("target-tracking", "on-demand", 100),
        ("target-tracking", "spot", 0),
        ("autoscaler", "on-demand", 100),
        ("autoscaler", "spot", 0),
    ];
    for (scaled_by, capacity, share) in forms {
        let own = [("ScaledBy", scaled_by), ("Capacity", capacity)];
        let parameters = [own[0], own[1], ("MaxSize", "7"), ("MinSize", "1")];
        let group = ScaledGroup::create(&parameters).await;
        let found = group.describe().await;
        assert_eq!((found.min_size(), found.max_size()), (Some(1), Some(7)));
        assert_eq!(found.new_instances_protected_from_scale_in(), Some(true));
        assert_eq!(found.health_check_type(), Some("EC2"));
        let mixed = found.mixed_instances_policy().unwrap();
        let shares = mixed.instances_distribution().unwrap();
        assert_eq!(shares.on_demand_percentage_above_base_capacity(), Some(share));
        assert_eq!(shares.spot_allocation_strategy(), Some("price-capacity-optimized"));
        let launch = mixed.launch_template().unwrap();
        let kinds = launch.overrides().iter().filter_map(|it| it.instance_type());
        assert_eq!(kinds.collect::<Vec<_>>(), ["c7a.large", "c6a.large"]);
        let version = launch.launch_template_specification().unwrap().version();
        assert_eq!(version, Some("1"), "a numbered version can be gone back to");
        let one = &found.instances()[0];
        assert_eq!(one.protected_from_scale_in(), Some(true));
        let gaps = gaps(&group, &found).await;
        assert_eq!(gaps, ["LifecycleHookSpecificationList", "MetricsCollection", "ScalingPolicy"]);
        let template = template(&group.name, &parameters);
        group.fill(&template).await;
        compare(&group, &template).await;
    }
}

/// Compares what moto tells, once it was filled, with the template. `CapacityRebalance` it neither takes
/// from a template nor sets later: that is looked for in the template alone.
async fn compare(group: &ScaledGroup, template: &Template) {
    let wanted = template.properties("Group").unwrap();
    let hooks = group.told("DescribeLifecycleHooks", "LifecycleHooks").await;
    assert_eq!(difference(&wanted["LifecycleHookSpecificationList"], &hooks), None, "{hooks}");
    let found = group.describe().await;
    let metrics: Vec<_> = found.enabled_metrics().iter().map(|it| it.metric()).collect();
    assert_eq!(metrics, [wanted["MetricsCollection"][0]["Metrics"][0].as_str()]);
    let resources = |names: &[&str]| -> Vec<Json> {
        names.iter().filter_map(|name| template.properties(name)).collect()
    };
    let policies = group.told("DescribePolicies", "ScalingPolicies").await;
    let wanted = Json::Array(resources(&["BacklogTracking", "FirstInstance"]));
    assert_eq!(difference(&wanted, &policies), None, "{policies}");
    let alarms = group.alarms().await;
    assert_eq!(difference(&Json::Array(resources(&["FirstMessage"])), &alarms), None, "{alarms}");
}

/// The template of a stack of this name.
fn template(name: &str, parameters: &[(&str, &str)]) -> Template {
    let own = [("AWS::StackName", name), ("Group", name), ("DataStack", "data")];
    Template::new(TEMPLATE, &[&own[..], parameters].concat())
}

#[test]
fn what_scales_the_group_looks_at_its_own_queue_and_its_own_instances() {
    let tracked = template("fleet", &[("Queue", "compile"), ("BacklogPerInstance", "7")]);
    let policy = tracked.properties("BacklogTracking").unwrap();
    let tracking = &policy["TargetTrackingConfiguration"];
    assert_eq!(
        (&tracking["TargetValue"], &policy["PolicyType"]),
        (&json!("7"), &json!("TargetTrackingScaling"))
    );
    let metric = |space: &str, name: &str, stat: &str, of: (&str, &str)| {
        let dimensions = json!([{ "Name": of.0, "Value": of.1 }]);
        json!({ "MetricStat": { "Stat": stat, "Metric": {
            "Namespace": space, "MetricName": name, "Dimensions": dimensions } } })
    };
    let of_queue = |name, stat| metric("AWS/SQS", name, stat, ("QueueName", "data-compile"));
    let instances = metric(
        "AWS/AutoScaling",
        "GroupInServiceInstances",
        "Average",
        ("AutoScalingGroupName", "fleet"),
    );
    let last = json!({ "Id": "backlog", "ReturnData": "true" });
    let wanted = json!([
        of_queue("ApproximateNumberOfMessagesVisible", "Average"),
        of_queue("ApproximateNumberOfMessagesNotVisible", "Average"),
        instances,
        last
    ]);
    let found = &tracking["CustomizedMetricSpecification"]["Metrics"];
    assert_eq!(difference(&wanted, found), None, "{found}");
    let alarm = tracked.properties("FirstMessage").unwrap();
    let last = json!({ "Id": "waiting", "ReturnData": "true" });
    let wanted =
        json!([of_queue("ApproximateNumberOfMessagesVisible", "Maximum"), instances, last]);
    assert_eq!(difference(&wanted, &alarm["Metrics"]), None, "{alarm}");
    assert_eq!(alarm["AlarmActions"], json!(["FirstInstance"]));
    let first = tracked.properties("FirstInstance").unwrap();
    let one = json!([{ "MetricIntervalLowerBound": "0", "ScalingAdjustment": "1" }]);
    assert_eq!(
        (&first["StepAdjustments"], &first["AdjustmentType"]),
        (&one, &json!("ChangeInCapacity"))
    );
}

#[test]
fn an_instance_is_waited_for_at_both_ends_and_a_spot_instance_replaced_before_it_goes() {
    for (capacity, rebalance) in [("spot", "true"), ("on-demand", "false")] {
        let given = [("Capacity", capacity), ("BootSeconds", "300"), ("ScaledBy", "autoscaler")];
        let template = template("fleet", &given);
        let group = template.properties("Group").unwrap();
        assert_eq!(group["CapacityRebalance"], rebalance);
        let hook = |name: &str, transition: &str, timeout: &str, result: &str| {
            json!({ "LifecycleHookName": name, "HeartbeatTimeout": timeout, "DefaultResult": result,
                "LifecycleTransition": format!("autoscaling:EC2_INSTANCE_{transition}") })
        };
        let hooks = [
            hook("boot", "LAUNCHING", "300", "ABANDON"),
            hook("drain", "TERMINATING", "120", "CONTINUE"),
        ];
        assert_eq!(group["LifecycleHookSpecificationList"], json!(hooks));
        for name in ["BacklogTracking", "FirstInstance", "FirstMessage"] {
            assert_eq!(template.properties(name), None, "the autoscaler alone sizes it");
        }
    }
}

#[tokio::test]
async fn the_launch_template_installs_and_starts_the_worker() {
    let group = ScaledGroup::create(&[("Worker", "compile-worker"), ("Queue", "compile")]).await;
    let answer = group.launch_template().await;
    for said in [
        "<httpTokens>required</httpTokens>",
        "<httpPutResponseHopLimit>1</httpPutResponseHopLimit>",
        "<imageId>ami-12345678</imageId>",
    ] {
        assert!(answer.contains(said), "{said} is not in {answer}");
    }
    let script = group.user_data().await;
    for said in ["ExecStart=/opt/flotilla/bin/compile-worker", "url 'data-compile'"] {
        assert!(script.contains(said), "{said} is not in {script}");
    }
    assert_eq!(queue_urls(&script), "http://sqs/data-compile*1");
    assert!(!group.policy().await.contains("urgent"));
    assert!(script.contains(&format!("FLOTILLA_GROUP={}", group.name)));
    parses(&script);
    let ready = script.split_once("in-service <<'END'\n").unwrap().1;
    parses(ready.split_once("\nEND\n").unwrap().0);
    assert!(script.contains("FLOTILLA_TERMINATING_HOOK=drain"));
}

#[test]
fn an_instance_of_a_warm_pool_is_prepared_though_its_worker_receives_nothing() {
    // The metadata, a worker that is not ready, and an `aws` that tells what it is asked.
    let with = |state: &str, ready: &str| {
        format!(
            r#"curl() {{ case "${{@: -1}}" in
                 */readyz) return {ready} ;;
                 */api/token) echo t ;;
                 */target-lifecycle-state) echo {state} ;;
               esac; }}
               aws() {{ echo "$2 $4"; }}
               sleep() {{ exit 7; }}
               {}"#,
            in_service()
        )
    };
    for (state, ready, code, said) in [
        ("Warmed:Stopped", "1", 0, "complete-lifecycle-action boot"),
        ("InService", "1", 7, ""),
        ("InService", "0", 0, "complete-lifecycle-action boot"),
    ] {
        let script = with(state, ready);
        let output = Command::new("bash").args(["-c", &script, "in-service", "i-1"]).output();
        let output = output.unwrap();
        let told = String::from_utf8_lossy(&output.stdout);
        assert_eq!((output.status.code(), told.trim()), (Some(code), said), "{state}, {ready}");
    }
}

/// The script that has the group count an instance as in service.
fn in_service() -> String {
    let script = TEMPLATE.split_once("in-service <<'END'\n").unwrap().1;
    let script = script.split_once("\n            END\n").unwrap().0;
    script.replace("${AWS::Region}", "eu-west-1").replace("${AWS::StackName}", "g")
}

#[tokio::test]
async fn a_second_queue_is_consumed_by_its_weight_and_its_role_may_do_so() {
    let group = ScaledGroup::create(&[
        ("Queue", "compile"),
        ("OtherQueue", "urgent"),
        ("OtherQueueWeight", "8"),
    ])
    .await;
    let script = group.user_data().await;
    assert_eq!(queue_urls(&script), "http://sqs/data-compile*1,http://sqs/data-urgent*8");
    parses(&script);
    let policy = group.policy().await;
    for queue in ["compile", "compile-dead", "urgent", "urgent-dead"] {
        assert!(policy.contains(&format!(":data-{queue}\"")), "{queue} is not in {policy}");
    }
}

/// What the script makes of the names of its queues, with an `aws` that knows every name.
fn queue_urls(script: &str) -> String {
    let start = script.find("url() {").unwrap();
    let lines: Vec<_> = script[start..].lines().take(3).collect();
    let aws = r#"aws() { echo "http://sqs/$4"; }"#;
    let text = format!("set -euo pipefail\n{aws}\n{}\necho \"$queues\"", lines.join("\n"));
    let output = Command::new("bash").args(["-c", &text]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Fails on a script that bash does not parse.
fn parses(script: &str) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(script.as_bytes()).unwrap();
    let output = Command::new("bash").arg("-n").arg(file.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
