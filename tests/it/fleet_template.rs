//! `deploy/cfn/fleet.yaml` makes the group that it says.

mod scaler;
mod tracking;
mod worker;

use std::{io::Write, process::Command};

use aws_sdk_autoscaling::types::AutoScalingGroup;
use flotilla_tests::{ScaledGroup, Template, difference};
use serde_json::{Value as Json, json};
use serde_norway::Value;

const TEMPLATE: &str = include_str!("../../deploy/cfn/fleet.yaml");

fn resource(name: &str) -> Value {
    let template: Value = serde_norway::from_str(TEMPLATE).unwrap();
    template["Resources"][name].clone()
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
