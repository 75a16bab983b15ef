//! The autoscaler of a group: how it comes onto its instance, and what it may do.

use flotilla_tests::ScaledGroup;
use serde_json::Value as Json;
use serde_norway::Value;

use super::{TEMPLATE, parses, queue_urls, resource, template};

#[tokio::test]
async fn where_the_autoscaler_sizes_the_group_it_is_installed_and_may_do_what_it_needs() {
    let sizes = [("MinSize", "2"), ("MaxSize", "7")];
    let given = [&[("ScaledBy", "autoscaler"), ("OtherQueue", "urgent")][..], &sizes].concat();
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
        "FLOTILLA_MIN_INSTANCES=2\n",
        "FLOTILLA_TERMINATING_HOOK=drain\n",
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
        "autoscaling:CompleteLifecycleAction",
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
fn where_aws_sizes_the_group_there_is_no_autoscaler() {
    let template = template("fleet", &[]);
    for name in ["Scaler", "ScalerTemplate", "ScalerProfile", "ScalerRole"] {
        assert_eq!(template.properties(name), None, "{name}");
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
