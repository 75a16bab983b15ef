//! What has AWS size the group: its expressions on worked examples.

use std::collections::HashMap;

use flotilla_tests::{difference, evaluate};
use serde_json::json;
use serde_norway::Value;

use super::{resource, template};

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
    let says = &alarm["Properties"];
    assert_eq!(says["Threshold"], Value::from(1));
    assert_eq!(says["ComparisonOperator"].as_str(), Some("GreaterThanOrEqualToThreshold"));
    assert_eq!(says["EvaluationPeriods"], Value::from(1), "one minute is enough");
    assert_eq!(says["TreatMissingData"].as_str(), Some("notBreaching"));
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
