//! The messages: a plain reading, or the uplink envelope of a LoRaWAN network.
//!
//! Plain: `{"id", "filling", "at"?, "seq"?}`, with `filling` a number or a number's text, and
//! `at` in Unix seconds (below 10¹²), Unix milliseconds, or RFC 3339. Without `at` the time is
//! when the message was sent.
//!
//! LoRaWAN (The Things Stack, uplink message): the id is `end_device_ids.device_id`; the level is
//! `uplink_message.decoded_payload.filling` where the network decodes, else the text of the
//! base64 `uplink_message.frm_payload`, a number or `{"filling": …}`; `f_cnt` is the number, and
//! `uplink_message.received_at`, else `received_at`, the time.
//!
//! Other fields are ignored. One of these that is there twice is refused.

use std::time::Duration;

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use flotilla_runtime::once::{Fields, Once};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::reading::{ID_LIMIT, check_id};

/// From here on a number is a time in milliseconds: as milliseconds it is in 2001, as seconds
/// beyond any calendar.
const MILLISECONDS: f64 = 1e12;
/// Times have at most 15 digits.
const TIME_LIMIT: f64 = 1e15;
/// Payloads come padded, and from some bridges without.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
/// The lowest whole number that is not told from the next one as a floating-point number.
const INEXACT: f64 = 9_007_199_254_740_992.0;
/// More characters than any payload of a radio frame has.
const PAYLOAD_LIMIT: usize = 1024;

/// A reading, as it was sent.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "Once<Reading>")]
pub struct AnomalyMessage {
    /// The device.
    pub id: String,
    /// The level, finite.
    pub filling: f64,
    /// When it was measured, in Unix milliseconds.
    pub at: Option<i64>,
    /// The device's own number of it.
    pub seq: Option<u64>,
}

impl AnomalyMessage {
    /// Refuses a time further ahead of `now` (Unix milliseconds) than is allowed.
    ///
    /// # Errors
    /// Says how far ahead it is.
    pub fn check_ahead(&self, now: i64, allowed: Duration) -> Result<(), String> {
        let ahead = self.at.unwrap_or(now).saturating_sub(now);
        if ahead <= allowed.as_millis() as i64 {
            return Ok(());
        }
        Err(format!(
            "device {}: the reading is of {} s from now, and {} s are allowed \
             (FLOTILLA_FUTURE_SECONDS): set the device's clock",
            self.id,
            ahead / 1000,
            allowed.as_secs()
        ))
    }
}

/// The JSON Schema (2020-12) of the messages.
pub fn schema() -> Value {
    let number_text = r"^\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?\s*$";
    let filling = json!({ "anyOf": [
        { "type": "number" },
        { "type": "string", "pattern": number_text },
    ]});
    let decoded = json!({ "anyOf": [{ "type": "null" }, filling] });
    let id = json!({
        "type": "string", "minLength": 1, "maxLength": ID_LIMIT,
        "pattern": r"^[^/\u0000-\u001f\u007f-\u009f]+$", "not": { "enum": [".", ".."] },
    });
    let time = json!({ "type": ["string", "null"], "format": "date-time" });
    let seq = json!({ "type": ["integer", "null"], "minimum": 0 });
    let plain = json!({
        "type": "object",
        "description": "A reading; at in Unix seconds, Unix milliseconds or RFC 3339.",
        "required": ["id", "filling"],
        "properties": {
            "id": id, "filling": filling, "seq": seq,
            "at": { "anyOf": [{ "type": "number", "minimum": 0 }, time] },
        },
    });
    let uplink = json!({
        "type": "object",
        "description": "A LoRaWAN uplink message.",
        "required": ["end_device_ids", "uplink_message"],
        "properties": {
            "end_device_ids": {
                "type": "object", "required": ["device_id"], "properties": { "device_id": id },
            },
            "received_at": time,
            "uplink_message": {
                "type": "object",
                "properties": {
                    "frm_payload": { "type": ["string", "null"], "maxLength": PAYLOAD_LIMIT },
                    "decoded_payload": { "properties": { "filling": decoded } },
                    "f_cnt": seq, "received_at": time,
                },
                "anyOf": [
                    { "required": ["frm_payload"],
                      "properties": { "frm_payload": { "type": "string" } } },
                    { "properties": { "decoded_payload": {
                        "required": ["filling"], "properties": { "filling": filling } } },
                      "required": ["decoded_payload"] },
                ],
            },
        },
    });
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A message to the anomaly worker",
        "anyOf": [plain, uplink],
    })
}

impl TryFrom<Once<Reading>> for AnomalyMessage {
    type Error = String;

    fn try_from(message: Once<Reading>) -> Result<Self, String> {
        message.value.try_into()
    }
}

/// The fields of a reading and of its envelope. What else a network sends may be as it likes.
struct Reading;

impl Fields for Reading {
    fn is_read(name: &str) -> bool {
        READ.contains(&name)
    }
}

const READ: [&str; 11] = [
    "id",
    "filling",
    "at",
    "seq",
    "end_device_ids",
    "device_id",
    "uplink_message",
    "decoded_payload",
    "frm_payload",
    "f_cnt",
    "received_at",
];

impl TryFrom<Value> for AnomalyMessage {
    type Error = String;

    fn try_from(message: Value) -> Result<Self, String> {
        if let Some(uplink) = message.get("uplink_message").filter(|it| !it.is_null()) {
            return from_uplink(&message, uplink);
        }
        let id = message
            .get("id")
            .ok_or("it is neither {\"id\": …, \"filling\": …} nor a LoRaWAN uplink message")?;
        let filling = message.get("filling").ok_or("filling is missing")?;
        Ok(Self {
            id: device(id)?,
            filling: level(filling)?,
            at: optional(&message["at"], time)?,
            seq: optional(&message["seq"], number)?,
        })
    }
}

fn from_uplink(message: &Value, uplink: &Value) -> Result<AnomalyMessage, String> {
    let id = message.pointer("/end_device_ids/device_id");
    let decoded = uplink.pointer("/decoded_payload/filling").filter(|it| !it.is_null());
    let filling = match decoded {
        Some(decoded) => level(decoded)?,
        None => payload(&uplink["frm_payload"])?,
    };
    let received = uplink.get("received_at").filter(|it| !it.is_null());
    Ok(AnomalyMessage {
        id: device(id.ok_or("end_device_ids.device_id is missing")?)?,
        filling,
        at: optional(received.unwrap_or(&message["received_at"]), time)?,
        seq: optional(&uplink["f_cnt"], number)?,
    })
}

fn optional<T>(value: &Value, read: fn(&Value) -> Result<T, String>) -> Result<Option<T>, String> {
    if value.is_null() { Ok(None) } else { read(value).map(Some) }
}

fn device(id: &Value) -> Result<String, String> {
    let id = id.as_str().ok_or("the id is not a string")?;
    check_id(id).map(|()| id.to_owned())
}

/// A level: finite, and zero without a sign.
fn level(filling: &Value) -> Result<f64, String> {
    let value = match filling {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    match value {
        Some(value) if value.is_finite() => Ok(value + 0.0),
        Some(_) => Err(format!("filling {} is not finite", shown(filling))),
        None => Err(format!("filling {} is not a number", shown(filling))),
    }
}

fn payload(payload: &Value) -> Result<f64, String> {
    let text = payload.as_str().ok_or("uplink_message.frm_payload is not a string")?;
    if text.len() > PAYLOAD_LIMIT {
        return Err(format!("uplink_message.frm_payload is over {PAYLOAD_LIMIT} characters"));
    }
    let bytes = BASE64.decode(text).map_err(|e| format!("frm_payload is not base64: {e}"))?;
    let text = String::from_utf8(bytes).map_err(
        |_| "frm_payload is not text: have the network decode it, to decoded_payload.filling",
    )?;
    match serde_json::from_str(&text).map(|it: Once<Reading>| it.value) {
        Ok(Value::Object(fields)) => {
            level(fields.get("filling").ok_or("frm_payload is JSON without filling")?)
        }
        _ => level(&Value::String(text)),
    }
}

/// A time in Unix milliseconds, from Unix seconds, Unix milliseconds or RFC 3339.
///
/// # Errors
/// Says why it is none.
pub fn time(at: &Value) -> Result<i64, String> {
    let refused = |why: &str| format!("at {} {why}", shown(at));
    let ms = match at {
        Value::Number(number) => match number.as_f64().unwrap_or(f64::NAN) {
            seconds if seconds < MILLISECONDS => (seconds * 1000.0).round(),
            ms => ms.round(),
        },
        Value::String(text) => match text.parse::<Timestamp>() {
            Ok(time) => time.as_millisecond() as f64,
            Err(e) => return Err(refused(&format!("is no time of RFC 3339 in reach: {e}"))),
        },
        _ => return Err(refused("is neither a number nor a string")),
    };
    if (0.0..TIME_LIMIT).contains(&ms) { Ok(ms as i64) } else { Err(refused("is out of range")) }
}

fn number(seq: &Value) -> Result<u64, String> {
    let whole = |it: &f64| it.fract() == 0.0 && (0.0..INEXACT).contains(it);
    // 7.0 is the number 7.
    let number = seq.as_u64().or_else(|| seq.as_f64().filter(whole).map(|it| it as u64));
    number.ok_or_else(|| format!("seq {} is not a whole number from 0", shown(seq)))
}

/// A value in an error, shortened.
fn shown(value: &Value) -> String {
    value.to_string().chars().take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<AnomalyMessage, String> {
        serde_json::from_str(text).map_err(|e| e.to_string())
    }

    fn reading(id: &str, filling: f64, at: Option<i64>, seq: Option<u64>) -> AnomalyMessage {
        AnomalyMessage { id: id.to_owned(), filling, at, seq }
    }

    fn uplink(message: Value) -> Value {
        json!({ "end_device_ids": { "device_id": "a01" }, "uplink_message": message })
    }

    #[test]
    fn a_plain_reading_is_read_in_every_spelling() {
        let at = Some(1_658_274_939_000);
        for (text, wanted) in [
            (r#"{"id":"01","filling":"50"}"#, reading("01", 50.0, None, None)),
            (r#"{"id":"01","filling":37.5,"at":null,"x":[]}"#, reading("01", 37.5, None, None)),
            (r#"{"id":"01","filling":1,"at":1658274939,"seq":7}"#, reading("01", 1.0, at, Some(7))),
            (r#"{"id":"01","filling":1,"at":1658274939000}"#, reading("01", 1.0, at, None)),
            (r#"{"id":"01","filling":1,"seq":7.0}"#, reading("01", 1.0, None, Some(7))),
            (
                r#"{"id":"01","filling":1,"at":"2022-07-20T01:55:39+02:00"}"#,
                reading("01", 1.0, at, None),
            ),
            (r#"{"id":"01","filling":-0.0,"at":1.5}"#, reading("01", 0.0, Some(1500), None)),
        ] {
            let read = parse(text).unwrap();
            assert_eq!(read, wanted, "{text}");
            assert!(read.filling != 0.0 || read.filling.is_sign_positive());
        }
    }

    #[test]
    fn an_uplink_is_read_from_its_payload_or_what_the_network_made_of_it() {
        let whole =
            json!({ "frm_payload": "NTA=", "f_cnt": 3, "received_at": "1970-01-01T00:00:01Z" });
        assert_eq!(uplink(whole).try_into(), Ok(reading("a01", 50.0, Some(1000), Some(3))));
        let unpadded = json!({ "frm_payload": "NTA" });
        assert_eq!(uplink(unpadded).try_into(), Ok(reading("a01", 50.0, None, None)));
        // {"filling":"12.5"}
        let json_inside = json!({ "frm_payload": "eyJmaWxsaW5nIjoiMTIuNSJ9" });
        assert_eq!(uplink(json_inside).try_into(), Ok(reading("a01", 12.5, None, None)));
        let decoded = json!({ "frm_payload": "/w==", "decoded_payload": { "filling": 100 } });
        assert_eq!(uplink(decoded).try_into(), Ok(reading("a01", 100.0, None, None)));
        let null = json!({ "frm_payload": "NTA=", "decoded_payload": { "filling": null } });
        assert_eq!(parse(&uplink(null).to_string()).unwrap().filling, 50.0);
        let mut outside = uplink(json!({ "frm_payload": "NTA=" }));
        outside["received_at"] = json!("1970-01-01T00:00:02Z");
        assert_eq!(outside.try_into(), Ok(reading("a01", 50.0, Some(2000), None)));
    }

    #[test]
    fn anything_else_is_refused_with_the_reason() {
        for (message, reason) in [
            ("{}", "neither"),
            ("7", "neither"),
            (r#"{"id":1,"filling":1}"#, "id is not a string"),
            (r#"{"id":"a/b","filling":1}"#, "slash"),
            (r#"{"id":"a\u0000b","filling":1}"#, "control"),
            (r#"{"id":"01"}"#, "filling is missing"),
            (r#"{"id":"01","filling":null}"#, "not a number"),
            (r#"{"id":"01","filling":true}"#, "not a number"),
            (r#"{"id":"01","filling":"high"}"#, "not a number"),
            (r#"{"id":"01","filling":"NaN"}"#, "not finite"),
            (r#"{"id":"01","filling":"-inf"}"#, "not finite"),
            (r#"{"id":"01","filling":"1e400"}"#, "not finite"),
            (r#"{"id":"01","filling":1e400}"#, "out of range"),
            (r#"{"id":"01","filling":NaN}"#, "expected"),
            (r#"{"id":"01","filling":1,"at":-1}"#, "out of range"),
            (r#"{"id":"01","filling":1,"at":1e300}"#, "out of range"),
            (r#"{"id":"01","filling":1,"at":"yesterday"}"#, "RFC 3339"),
            (r#"{"id":"01","filling":1,"at":"1969-12-31T23:59:59Z"}"#, "out of range"),
            (r#"{"id":"01","filling":1,"at":{}}"#, "neither a number"),
            (r#"{"id":"01","filling":1,"seq":-1}"#, "whole number"),
            (r#"{"id":"01","filling":1,"seq":"1"}"#, "whole number"),
            (r#"{"id":"01","filling":1,"at":"1658274939"}"#, "RFC 3339"),
            (r#"{"id":"01","filling":1,"at":1e15}"#, "out of range"),
            (r#"{"id":"01","filling":1,"id":"02"}"#, "twice"),
        ] {
            let why = parse(message).unwrap_err();
            assert!(why.contains(reason), "{message}: {why}");
        }
        for (message, reason) in [
            (json!({}), "not a string"),
            (json!({ "frm_payload": "?" }), "not base64"),
            (json!({ "frm_payload": "NTA=NTA=" }), "not base64"),
            (json!({ "frm_payload": "NTAx5" }), "not base64"),
            (json!({ "frm_payload": "" }), "not a number"),
            (json!({ "frm_payload": "TmFO" }), "not finite"),
            (json!({ "frm_payload": "/w==" }), "not text"),
            (json!({ "frm_payload": "e30=" }), "without filling"),
            (json!({ "frm_payload": "A".repeat(1025) }), "1024"),
            (json!({ "frm_payload": "NTA=", "f_cnt": 1.5 }), "whole number"),
        ] {
            let why = AnomalyMessage::try_from(uplink(message.clone())).unwrap_err();
            assert!(why.contains(reason), "{message}: {why}");
        }
    }

    #[test]
    fn the_published_schema_admits_what_is_taken_and_refuses_what_is_not() {
        let schema = jsonschema::validator_for(&schema()).unwrap();
        for message in [
            json!({ "id": "01", "filling": "50" }),
            json!({ "id": "01", "filling": " .5e1 ", "at": null, "seq": null, "more": 1 }),
            json!({ "id": "01", "filling": -3, "at": 1_658_274_939 }),
            json!({ "id": "01", "filling": 1, "at": "2022-07-20T01:55:39Z", "seq": 3 }),
            json!({ "id": "..", "filling": 1 }),
            json!({ "id": "a/b", "filling": 1 }),
            json!({ "id": "a\u{9f}", "filling": 1 }),
            json!({ "id": "", "filling": 1 }),
            json!({ "id": 1, "filling": 1 }),
            json!({ "id": "01", "filling": [] }),
            json!({ "id": "01", "filling": "NaN" }),
            json!({ "id": "01", "filling": "" }),
            json!({ "id": "01", "filling": 1, "at": -5 }),
            json!({ "id": "01", "filling": 1, "seq": 1.0 }),
            json!({ "id": "01", "filling": 1, "seq": 1.5 }),
            json!({ "id": "01", "filling": 1, "seq": "1" }),
            json!({ "id": "01" }),
            uplink(json!({ "frm_payload": "NTA=" })),
            uplink(json!({ "decoded_payload": { "filling": 5 }, "f_cnt": 0 })),
            uplink(json!({ "decoded_payload": { "filling": 5 }, "frm_payload": null })),
            uplink(json!({ "decoded_payload": {}, "frm_payload": null })),
            json!({ "id": "01", "filling": 1, "uplink_message": null }),
            uplink(json!({ "decoded_payload": {} })),
            uplink(json!({ "decoded_payload": { "filling": null } })),
            uplink(json!({ "frm_payload": "NTA=", "decoded_payload": { "filling": null } })),
            uplink(json!({})),
            json!({ "uplink_message": { "frm_payload": "NTA=" } }),
            json!([]),
            json!(null),
        ] {
            let taken = AnomalyMessage::try_from(message.clone());
            assert_eq!(schema.is_valid(&message), taken.is_ok(), "{message}: {taken:?}");
        }
    }
}
