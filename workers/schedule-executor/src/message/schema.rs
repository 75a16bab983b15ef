//! What others may send: ticks, orders and undos. Batches are the worker's own.

use serde_json::{Value, json};

/// The names of all kinds, short and long.
const KINDS: [&str; 15] = [
    "ec2",
    "ec2:instance",
    "rds",
    "rds:db",
    "rds:instance",
    "aurora",
    "rds:cluster",
    "asg",
    "autoscaling",
    "autoscaling:group",
    "autoscaling:autoScalingGroup",
    "ecs",
    "ecs:service",
    "appstream",
    "appstream:fleet",
];
/// Those of them that have a class.
const DATABASES: [&str; 5] = ["rds", "rds:db", "rds:instance", "aurora", "rds:cluster"];
/// An instant of RFC 3339.
const INSTANT: &str = "^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.][0-9]{1,9})?)?\
                       ([Zz]|[+-][0-9]{2}(:?[0-9]{2})?)$";

/// The JSON Schema (2020-12) of the messages.
pub fn schema() -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A message to the schedule executor",
        "oneOf": [tick(), order(), undo()],
    })
}

fn tick() -> Value {
    json!({
        "type": "object",
        "description": "Time to look: an event of EventBridge, of which only its time counts.",
        "required": ["time"],
        "not": { "anyOf": [{ "required": ["action"] }, { "required": ["batch"] }] },
        "properties": {
            "time": { "anyOf": [
                { "type": "string", "format": "date-time", "pattern": INSTANT },
                { "const": super::PLACEHOLDER },
            ]},
            "forced": flag(), "dry_run": flag(), "dryRun": flag(),
        },
    })
}

fn order() -> Value {
    let text = || json!({ "type": "string" });
    json!({
        "type": "object",
        "description": "Do this to the resources of a context, of a tag, or to those named.",
        "required": ["action"],
        "additionalProperties": false,
        "not": { "required": ["dry_run", "dryRun"] },
        "properties": {
            "action": { "enum": ["START", "STOP", "MODCLASS"] },
            "context": text(), "tag": text(), "reason": text(), "attrib": text(),
            "service": { "enum": KINDS },
            "ids": { "type": "array", "items": text() },
            "region": { "type": "string", "pattern": "^[a-z]{2,4}(-[a-z]+){1,2}-[0-9]{1,2}$" },
            "at": { "type": "string", "format": "date-time", "pattern": INSTANT },
            "dry_run": { "type": "boolean" }, "dryRun": { "type": "boolean" },
        },
        "oneOf": [
            { "required": ["context"] },
            { "required": ["tag"] },
            { "required": ["service", "ids"], "properties": { "ids": { "minItems": 1 } } },
        ],
        "if": { "properties": { "action": { "const": "MODCLASS" } } },
        "then": {
            "required": ["service", "ids", "attrib"],
            "properties": { "service": { "enum": DATABASES }, "attrib": { "minLength": 1 } },
        },
    })
}

fn undo() -> Value {
    json!({
        "type": "object",
        "description": "Bring back what a bulk action changed; the last one by default.",
        "required": ["action"],
        "additionalProperties": false,
        "properties": {
            "action": { "const": "UNDO" }, "bulk": { "type": ["string", "null"] },
            "dry_run": flag(), "dryRun": flag(),
        },
    })
}

fn flag() -> Value {
    json!({ "type": ["boolean", "null"] })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{message::Message, rows::Service};

    #[test]
    fn the_published_schema_admits_what_is_taken_and_refuses_what_is_not() {
        let schema = jsonschema::validator_for(&schema()).unwrap();
        let ids = json!(["i-1"]);
        for message in [
            json!({ "time": "2026-06-01T08:00:00Z", "source": "aws.events", "detail": {} }),
            json!({ "time": "2026-06-01T08:00:00.25+02:00", "forced": true, "dry_run": null }),
            json!({ "time": super::super::PLACEHOLDER }),
            json!({ "time": "soon" }),
            json!({ "time": 7 }),
            json!({ "time": "2026-06-01T08:00:00Z", "forced": "yes" }),
            json!({ "action": "START", "context": "web" }),
            json!({ "action": "STOP", "tag": "env", "reason": "a test", "dryRun": true }),
            json!({ "action": "STOP", "tag": "env", "at": "2026-06-01T08:00:00.5Z" }),
            json!({ "action": "STOP", "service": "ec2", "ids": ids, "region": "eu-west-1" }),
            json!({ "action": "MODCLASS", "service": "rds", "ids": ids, "attrib": "db.t3.large" }),
            json!({ "action": "MODCLASS", "service": "rds", "ids": ids }),
            json!({ "action": "MODCLASS", "service": "ec2", "ids": ids, "attrib": "m5.large" }),
            json!({ "action": "MODCLASS", "context": "web", "attrib": "db.t3.large" }),
            json!({ "action": "STOP" }),
            json!({ "action": "STOP", "service": "ec2", "ids": [] }),
            json!({ "action": "STOP", "service": "ec2", "ids": ids, "region": "mars-1" }),
            json!({ "action": "STOP", "service": "s3", "ids": ids }),
            json!({ "action": "STOP", "context": "web", "tag": "env" }),
            json!({ "action": "STOP", "context": "web", "at": "soon" }),
            json!({ "action": "STOP", "context": "web", "nobody": "reads" }),
            json!({ "action": "STOP", "context": 7 }),
            json!({ "action": "stop", "context": "web" }),
            json!({ "action": "UNDO" }),
            json!({ "action": "UNDO", "bulk": "tick 2026-06-01T08:00:00Z", "dry_run": true }),
            json!({ "action": "UNDO", "context": "web" }),
            json!({}),
            json!([]),
            json!(null),
        ] {
            let taken = Message::try_from(message.clone());
            assert_eq!(schema.is_valid(&message), taken.is_ok(), "{message}: {taken:?}");
        }
    }

    #[test]
    fn every_name_of_a_kind_is_published() {
        assert!(KINDS.iter().all(|name| Service::named(name).is_some()));
        assert!(Service::ALL.iter().all(|service| KINDS.contains(&service.name())));
        let databases = KINDS
            .iter()
            .filter(|name| matches!(Service::named(name), Some(Service::Rds | Service::Cluster)));
        assert!(databases.eq(&DATABASES));
    }
}
