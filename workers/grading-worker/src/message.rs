//! The three shapes of a grading message.

use flotilla_runtime::once::Once;
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde_json::{Value, json};

/// What a message asks to grade.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Once")]
pub enum GradingMessage {
    /// `{"subdata": "<subid>.json"}`: the folder is to be found.
    Id(String),
    /// `{"subdata": "<full key>"}`, or an S3 event for that key.
    Key {
        /// The object's key.
        key: String,
        /// The version that the event is about.
        version: Option<String>,
        /// The bucket that the event is of.
        bucket: Option<String>,
    },
    /// An S3 event of several records: each becomes a message of its own.
    Several(Vec<Value>),
    /// What S3 sends when a notification is set up (`s3:TestEvent`), and events that are about no
    /// new object: nothing to do.
    Nothing,
}

/// The JSON Schema (2020-12) of a grading message. What it admits may still be refused for the
/// names in a key.
pub fn schema() -> Value {
    let subdata = json!({
        "type": "object",
        "description": "A submission by the name of its json, or by that object's full key.",
        "required": ["subdata"],
        "properties": {
            "subdata": { "anyOf": [
                { "type": "string", "pattern": r"^/?[A-Za-z0-9_][A-Za-z0-9._-]{0,89}\.json$" },
                { "type": "string", "pattern": "./" },
            ]},
        },
    });
    let event = json!({
        "type": "object",
        "description": "An S3 event notification.",
        "required": ["Records"],
        "properties": {
            "Records": { "type": "array", "minItems": 1, "items": { "type": "object" } },
        },
    });
    let test = json!({
        "type": "object",
        "description": "What S3 sends when a notification is set up: nothing to do.",
        "required": ["Event"],
        "properties": { "Event": { "const": "s3:TestEvent" } },
    });
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A message to the grading worker",
        "anyOf": [subdata, event, test],
    })
}

impl TryFrom<Once> for GradingMessage {
    type Error = String;

    fn try_from(message: Once) -> Result<Self, String> {
        message.value.try_into()
    }
}

impl TryFrom<Value> for GradingMessage {
    type Error = String;

    fn try_from(message: Value) -> Result<Self, String> {
        if let Some(subdata) = message.get("subdata") {
            return from_subdata(subdata.as_str().ok_or("subdata is not a string")?);
        }
        if message.get("Event").and_then(Value::as_str) == Some("s3:TestEvent") {
            return Ok(Self::Nothing);
        }
        let shapes = "{\"subdata\": …} or an S3 event notification";
        let records = message.get("Records").ok_or(format!("it is neither {shapes}"))?;
        match records.as_array().ok_or("Records is not a list")?.as_slice() {
            [] => Err("Records is empty".to_owned()),
            [record] => from_record(record),
            records => Ok(Self::Several(records.to_vec())),
        }
    }
}

impl GradingMessage {
    /// Who gives the event that a submission is for, where the message names its key: the tenant of
    /// messages that S3 sends, which have no group.
    pub fn admin(&self) -> Option<String> {
        let Self::Key { key, .. } = self else { return None };
        Some(crate::names::Submission::from_key(key).ok()?.problem.admin)
    }
}

fn from_subdata(subdata: &str) -> Result<GradingMessage, String> {
    let subdata = subdata.strip_prefix('/').unwrap_or(subdata);
    if subdata.contains('/') {
        let key = subdata.to_owned();
        return Ok(GradingMessage::Key { key, version: None, bucket: None });
    }
    let subid = subdata.strip_suffix(".json");
    let subid = subid.ok_or(format!("subdata {subdata:?} does not end with .json"))?;
    crate::names::check_subid(subid)?;
    Ok(GradingMessage::Id(subid.to_owned()))
}

fn from_record(record: &Value) -> Result<GradingMessage, String> {
    let text = |pointer: &str| record.pointer(pointer).and_then(Value::as_str);
    let name = text("/eventName").ok_or("Records[0].eventName is not a string")?;
    let created = name.trim_start_matches("s3:").starts_with("ObjectCreated:");
    if !created {
        return Ok(GradingMessage::Nothing);
    }
    let key = text("/s3/object/key").ok_or("Records[0].s3.object.key is not a string")?;
    let version = text("/s3/object/versionId").filter(|v| !v.is_empty() && *v != "null");
    let (version, bucket) =
        (version.map(str::to_owned), text("/s3/bucket/name").map(str::to_owned));
    Ok(GradingMessage::Key { key: decoded(key)?, version, bucket })
}

/// Keys in S3 events are encoded as in a form: `+` is a space.
fn decoded(key: &str) -> Result<String, String> {
    let spaced = key.replace('+', " ");
    let bytes = percent_decode_str(&spaced).decode_utf8();
    bytes.map(|key| key.into_owned()).map_err(|_| format!("the key {key:?} is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<GradingMessage, String> {
        serde_json::from_str(text).map_err(|e| e.to_string())
    }

    #[test]
    fn the_three_shapes_are_told_apart() {
        assert_eq!(parse(r#"{"subdata":"abc.json","x":1}"#), Ok(GradingMessage::Id("abc".into())));
        let key = "submissions/a/e/p/s/s.json".to_owned();
        let full = parse(r#"{"subdata":"submissions/a/e/p/s/s.json"}"#);
        assert_eq!(full, Ok(GradingMessage::Key { key: key.clone(), version: None, bucket: None }));
        let event = r#"{"Records":[{"eventName":"ObjectCreated:Put","s3":{"bucket":{"name":"b"},
            "object":{"key":"submissions/a/e/p/s/s.json","versionId":"v1"}}}]}"#;
        let (version, bucket) = (Some("v1".into()), Some("b".into()));
        assert_eq!(parse(event), Ok(GradingMessage::Key { key, version, bucket }));
    }

    #[test]
    fn a_field_that_is_there_twice_is_refused() {
        for text in [
            r#"{"subdata":"a.json","subdata":"b.json"}"#,
            r#"{"Records":[{"s3":{"object":{"key":"a","key":"b"}}}]}"#,
        ] {
            assert!(parse(text).unwrap_err().contains("is there twice"), "{text}");
        }
    }

    #[test]
    fn the_published_schema_admits_what_is_taken_and_refuses_what_is_not() {
        let schema = jsonschema::validator_for(&schema()).unwrap();
        for message in [
            json!({ "subdata": "abc.json" }),
            json!({ "subdata": "submissions/a/e/p/s/s.json", "more": 1 }),
            json!({ "Records": [{ "eventName": "ObjectRemoved:Delete", "s3": {} }] }),
            json!({ "Records": [{}, {}] }),
            json!({ "Event": "s3:TestEvent" }),
            json!({ "Event": "other" }),
            json!({ "subdata": "/abc.json" }),
            json!({ "subdata": "-c.json" }),
            json!({ "subdata": 7 }),
            json!({ "subdata": "abc.txt" }),
            json!({ "subdata": ".hidden.json" }),
            json!({ "Records": [] }),
            json!({ "Records": {} }),
            json!({}),
            json!([]),
            json!(null),
        ] {
            let taken = GradingMessage::try_from(message.clone());
            assert_eq!(schema.is_valid(&message), taken.is_ok(), "{message}: {taken:?}");
        }
    }

    #[test]
    fn keys_of_events_are_decoded() {
        let event = r#"{"Records":[{"eventName":"s3:ObjectCreated:Put",
            "s3":{"object":{"key":"submissions/m+s/%C3%9Cbung/p/s/s.json"}}}]}"#;
        let key = "submissions/m s/Übung/p/s/s.json".to_owned();
        assert_eq!(parse(event), Ok(GradingMessage::Key { key, version: None, bucket: None }));
    }

    #[test]
    fn what_s3_says_of_itself_is_nothing_to_do() {
        let test = r#"{"Service":"Amazon S3","Event":"s3:TestEvent","Bucket":"b"}"#;
        assert_eq!(parse(test), Ok(GradingMessage::Nothing));
        let removed = r#"{"Records":[{"eventName":"ObjectRemoved:Delete","s3":{}}]}"#;
        assert_eq!(parse(removed), Ok(GradingMessage::Nothing));
    }

    #[test]
    fn an_event_of_several_records_is_several_messages() {
        let event = r#"{"Records":[{"a":1},{"b":2}]}"#;
        assert!(matches!(parse(event), Ok(GradingMessage::Several(records)) if records.len() == 2));
    }

    #[test]
    fn anything_else_is_refused_with_the_reason() {
        for (message, reason) in [
            ("{}", "neither"),
            ("[]", "neither"),
            ("7", "neither"),
            (r#"{"subdata":7}"#, "not a string"),
            (r#"{"subdata":"abc.txt"}"#, ".json"),
            (r#"{"subdata":"...json"}"#, "submission id"),
            (r#"{"Records":{}}"#, "not a list"),
            (r#"{"Records":[]}"#, "empty"),
            (r#"{"Records":[{"eventName":"ObjectCreated:Put"}]}"#, "key"),
        ] {
            let why = parse(message).unwrap_err();
            assert!(why.contains(reason), "{message}: {why}");
        }
    }
}
