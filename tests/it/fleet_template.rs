//! `deploy/cfn/fleet.yaml` makes the group that it says.

use std::{collections::HashMap, io::Write, process::Command};

use aws_sdk_autoscaling::types::AutoScalingGroup;
use base64::{Engine, engine::general_purpose::STANDARD};
use flotilla_tests::{ScaledGroup, evaluate};
use serde_norway::Value;

const TEMPLATE: &str = include_str!("../../deploy/cfn/fleet.yaml");

fn resource(name: &str) -> Value {
    let template: Value = serde_norway::from_str(TEMPLATE).unwrap();
    template["Resources"][name].clone()
}

/// An expression of a list of metrics, with the default of its parameter.
fn expression(metrics: &Value) -> String {
    let metric = metrics.as_sequence().unwrap().iter().find_map(|it| it.get("Expression"));
    let text = match metric.unwrap() {
        Value::Tagged(sub) => sub.value.as_str().unwrap().to_owned(),
        plain => plain.as_str().unwrap().to_owned(),
    };
    text.replace("${BacklogPerInstance}", "10")
}

fn tracked(visible: Option<f64>, held: Option<f64>, instances: Option<f64>) -> Option<f64> {
    let policy = resource("BacklogTracking");
    let tracking = &policy["Properties"]["TargetTrackingConfiguration"];
    let text = expression(&tracking["CustomizedMetricSpecification"]["Metrics"]);
    let metrics = [("visible", visible), ("held", held), ("instances", instances)];
    evaluate(&text, &HashMap::from(metrics))
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
    let text = expression(&alarm["Properties"]["Metrics"]);
    let waiting = |visible, instances| {
        evaluate(&text, &HashMap::from([("visible", visible), ("instances", instances)]))
    };
    assert_eq!(waiting(Some(1.0), Some(0.0)), Some(1.0));
    assert_eq!(waiting(Some(1.0), None), Some(1.0));
    assert_eq!(waiting(Some(1.0), Some(1.0)), Some(0.0));
    assert_eq!(waiting(None, Some(0.0)), Some(0.0));
    assert_eq!(alarm["Properties"]["Threshold"], Value::from(1));
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
    }
}

#[tokio::test]
async fn the_launch_template_installs_and_starts_the_worker() {
    let group = ScaledGroup::create(&[("Worker", "compile-worker"), ("Queue", "compile")]).await;
    let query = format!(
        "Action=DescribeLaunchTemplateVersions&Version=2016-11-15&LaunchTemplateName={}",
        group.name
    );
    let answer = group.moto.call("ec2", "us-east-1", &query).await;
    for said in [
        "<httpTokens>required</httpTokens>",
        "<httpPutResponseHopLimit>1</httpPutResponseHopLimit>",
        "<imageId>ami-12345678</imageId>",
    ] {
        assert!(answer.contains(said), "{said} is not in {answer}");
    }
    let data = answer.split_once("<userData>").unwrap().1.split_once("</userData>").unwrap().0;
    let script = String::from_utf8(STANDARD.decode(data).unwrap()).unwrap();
    for said in ["ExecStart=/opt/flotilla/bin/compile-worker", "--queue-name 'data-compile'"] {
        assert!(script.contains(said), "{said} is not in {script}");
    }
    assert!(script.contains(&format!("FLOTILLA_GROUP={}", group.name)));
    parses(&script);
    let ready = script.split_once("in-service <<'END'\n").unwrap().1;
    parses(ready.split_once("\nEND\n").unwrap().0);
    assert!(script.contains("FLOTILLA_TERMINATING_HOOK=drain"));
}

/// Fails on a script that bash does not parse.
fn parses(script: &str) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(script.as_bytes()).unwrap();
    let output = Command::new("bash").arg("-n").arg(file.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
