//! `deploy/cfn/iot.yaml` sends what comes on a topic to the queue of `data.yaml`, and may do no more.

use serde_norway::Value;

const IOT: &str = include_str!("../../deploy/cfn/iot.yaml");
const DATA: &str = include_str!("../../deploy/cfn/data.yaml");

fn resource(template: &str, name: &str) -> Value {
    let template: Value = serde_norway::from_str(template).unwrap();
    template["Resources"][name]["Properties"].clone()
}

/// The text of a `!Sub`.
fn sub(value: &Value) -> &str {
    match value {
        Value::Tagged(sub) => sub.value.as_str().unwrap(),
        plain => plain.as_str().unwrap(),
    }
}

#[test]
fn the_rule_sends_readings_as_they_are_to_the_queue_of_the_data_stack() {
    let payload = resource(IOT, "ReadingsRule")["TopicRulePayload"].clone();
    assert_eq!(sub(&payload["Sql"]), "SELECT * FROM '${Topic}'");
    let action = &payload["Actions"][0]["Sqs"];
    assert_eq!(action["UseBase64"], Value::Bool(false));
    let queue = resource(DATA, "AnomalyQueue");
    let name = sub(&queue["QueueName"]).replace("${AWS::StackName}", "${DataStack}");
    let url = sub(&action["QueueUrl"]).to_owned();
    assert!(url.ends_with(&format!("/${{AWS::AccountId}}/{name}")), "{url}: {name}");
    assert!(payload["ErrorAction"]["CloudwatchLogs"]["LogGroupName"] != Value::Null);
}

#[test]
fn the_rule_may_send_to_that_queue_and_write_its_errors_alone() {
    let role = resource(IOT, "ReadingsRole");
    let trusted = &role["AssumeRolePolicyDocument"]["Statement"][0];
    assert_eq!(trusted["Principal"]["Service"], Value::from("iot.amazonaws.com"));
    assert!(sub(&trusted["Condition"]["ArnEquals"]["aws:SourceArn"]).ends_with("rule/${RuleName}"));
    let statements = role["Policies"][0]["PolicyDocument"]["Statement"].as_sequence().unwrap();
    assert_eq!(statements.len(), 2);
    assert_eq!(statements[0]["Action"], Value::from("sqs:SendMessage"));
    assert!(sub(&statements[0]["Resource"]).ends_with(":${DataStack}-anomaly"));
    let logs = statements[1]["Action"].as_sequence().unwrap();
    assert!(logs.iter().all(|it| it.as_str().unwrap().starts_with("logs:")));
}
