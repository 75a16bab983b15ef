//! Batch calls and lists of messages that are not quite what was asked for, or answered.

use axum::{
    body::{Body, to_bytes},
    http::header,
    response::Response,
};
use rand::{RngExt, rngs::StdRng};
use serde_json::{Value, json};

use super::LARGEST;
use crate::faults::Fault;

/// Takes some entries, one at least, out of a batch call, and says how each has failed.
pub(super) fn refused(fault: Fault, body: &mut Value, dice: &mut StdRng) -> Vec<Value> {
    let entries = body["Entries"].as_array().cloned().unwrap_or_default();
    let first = dice.random_range(0..entries.len().max(1));
    let struck = |index: usize| index >= first;
    let (code, ours) = match fault {
        Fault::Expired => ("ReceiptHandleIsInvalid", true),
        _ => ("InternalError", false),
    };
    let failed = entries.iter().skip(first).map(|entry| {
        json!({ "Id": entry["Id"], "Code": code, "SenderFault": ours, "Message": "as ordered" })
    });
    let failed = failed.collect();
    let kept = entries.iter().enumerate().filter(|(index, _)| !struck(*index));
    body["Entries"] = kept.map(|(_, entry)| entry.clone()).collect();
    failed
}

/// The answer, with more in one of its lists.
pub(super) async fn joined(answer: Response, list: &str, extra: Vec<Value>) -> Response {
    let (mut parts, body) = answer.into_parts();
    let bytes = to_bytes(body, LARGEST).await.unwrap_or_default();
    let Ok(mut value) = serde_json::from_slice::<Value>(&bytes) else {
        return Response::from_parts(parts, Body::from(bytes));
    };
    let mut all = value[list].as_array().cloned().unwrap_or_default();
    // A message that came by itself is not there twice: its newer handle counts.
    let known = |new: &Value| {
        list == "Messages" && all.iter().any(|old| old["MessageId"] == new["MessageId"])
    };
    let extra: Vec<_> = extra.into_iter().filter(|new| !known(new)).collect();
    all.extend(extra);
    value[list] = all.into();
    parts.headers.remove(header::CONTENT_LENGTH);
    parts
        .headers
        .insert(header::CONTENT_TYPE, "application/x-amz-json-1.0".parse().expect("a type"));
    Response::from_parts(parts, Body::from(value.to_string()))
}
