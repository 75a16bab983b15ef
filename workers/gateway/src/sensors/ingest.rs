//! `POST /v1/readings`: readings by HTTP, on to the queue.

use std::{collections::HashMap, sync::Arc, time::Duration};

use anomaly_worker::{message::AnomalyMessage, tables::now_ms};
use aws_sdk_sqs::types::SendMessageBatchRequestEntry as Entry;
use axum::{
    Json,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use flotilla_runtime::{failure::chain, retry::RetryPolicy, tally, trace};
use futures::{StreamExt, stream};
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

use super::{Sensors, ask::Refused};

/// The largest body, in bytes.
pub(super) const BODY: usize = 4 * 1024 * 1024;
/// The most readings of a request.
const READINGS: usize = 10_000;
/// The largest reading, in bytes: an uplink message of a network has about two thousand.
const READING: usize = 16 * 1024;
/// The most messages of a call.
const BATCH: usize = 10;
/// Calls on their way at a time.
const AT_A_TIME: usize = 8;
/// How often the queue is asked to take what it did not, and how long to wait between.
const TRIES: u32 = 5;
const PAUSE: RetryPolicy = RetryPolicy::new(Duration::from_millis(50), Duration::from_secs(2));

/// A reading on its way: its place in the request, and its message.
#[derive(Debug, Clone)]
struct Letter {
    index: usize,
    body: String,
}

/// What came of letters.
#[derive(Debug, Default)]
struct Posted {
    accepted: usize,
    refused: Vec<Value>,
    /// Not on the queue, as far as is known.
    failed: Vec<usize>,
}

/// Takes readings: one, a list, or `{"readings": […]}` in JSON, or one a line (NDJSON), in any
/// shape that the queue takes. Each is looked at for itself, as the worker would.
///
/// 202: what is not refused is on the queue. 200: there was none. 400: all are refused. 503: what is listed as failed
/// may not be on the queue; sent again, it counts once if it has a time of its own.
pub(super) async fn readings(
    State(sensors): State<Arc<Sensors>>,
    headers: HeaderMap,
    body: Result<Bytes, axum::extract::rejection::BytesRejection>,
) -> Response {
    match body {
        Ok(body) => match split(&headers, &body) {
            Ok(readings) => sensors.take(&readings).await,
            Err(why) => why.into_response(),
        },
        Err(why) => {
            Refused::Other(why.status(), json!({ "error": why.body_text() })).into_response()
        }
    }
}

/// The texts of the readings.
fn split<'b>(headers: &HeaderMap, body: &'b [u8]) -> Result<Vec<&'b str>, Refused> {
    let kind = headers.get(CONTENT_TYPE).and_then(|it| it.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let text = std::str::from_utf8(body).map_err(|e| Refused::Bad(format!("the body: {e}")))?;
    let readings = match kind.as_str() {
        "application/x-ndjson" | "application/ndjson" | "application/jsonl" => {
            text.lines().map(str::trim).filter(|line| !line.is_empty()).collect()
        }
        _ if kind == "application/json" || kind.ends_with("+json") => list(text)?,
        _ => {
            let why = "say what it is: content-type application/json or application/x-ndjson";
            let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return Err(Refused::Other(status, json!({ "error": why })));
        }
    };
    match readings.len() {
        count if count > READINGS => {
            let why = format!("{count} readings are more than {READINGS}: send them in parts");
            Err(Refused::Other(StatusCode::PAYLOAD_TOO_LARGE, json!({ "error": why })))
        }
        _ => Ok(readings),
    }
}

#[derive(Debug, Deserialize)]
struct Wrapped<'b> {
    #[serde(borrow)]
    readings: Vec<&'b RawValue>,
}

fn list(text: &str) -> Result<Vec<&str>, Refused> {
    let read = match text.trim_start().chars().next() {
        Some('[') => serde_json::from_str::<Vec<&RawValue>>(text),
        _ => match serde_json::from_str::<Wrapped<'_>>(text) {
            Ok(Wrapped { readings }) => Ok(readings),
            Err(_) => serde_json::from_str::<&RawValue>(text).map(|one| vec![one]),
        },
    };
    let read = read.map_err(|e| Refused::Bad(format!("the body is not JSON: {e}")))?;
    Ok(read.into_iter().map(RawValue::get).collect())
}

impl Sensors {
    async fn take(&self, readings: &[&str]) -> Response {
        let now = now_ms();
        let (mut letters, mut posted) = (Vec::new(), Posted::default());
        let mut times = Times { now, future: self.config.future, given: HashMap::new() };
        for (index, reading) in readings.iter().enumerate() {
            match letter(reading, &mut times) {
                Ok(body) => letters.push(Letter { index, body }),
                Err(why) => posted.refused.push(refusal(index, &why)),
            }
        }
        let calls: Vec<_> = letters.chunks(BATCH).map(|letters| self.send(letters)).collect();
        let calls: Vec<Posted> = stream::iter(calls).buffered(AT_A_TIME).collect().await;
        for call in calls {
            posted.accepted += call.accepted;
            posted.refused.extend(call.refused);
            posted.failed.extend(call.failed);
        }
        posted.into_response()
    }

    /// Sends letters until the queue has each, or refuses it, or has not taken it too often.
    async fn send(&self, letters: &[Letter]) -> Posted {
        let mut posted = Posted::default();
        let mut left = letters.to_vec();
        for attempt in 1..=TRIES {
            left = self.send_once(left, &mut posted).await;
            if left.is_empty() || attempt == TRIES {
                break;
            }
            tokio::time::sleep(PAUSE.delay(attempt)).await;
        }
        posted.failed.extend(left.iter().map(|letter| letter.index));
        posted
    }

    /// Gives what is to be sent again.
    async fn send_once(&self, letters: Vec<Letter>, posted: &mut Posted) -> Vec<Letter> {
        let url = &self.config.queue_url;
        let entry = |(number, letter): (usize, &Letter)| {
            let entry = Entry::builder().id(number.to_string()).message_body(&letter.body);
            entry.set_message_attributes(trace::attributes()).build().ok()
        };
        let entries = letters.iter().enumerate().filter_map(entry).collect();
        let call = self.sqs.send_message_batch().queue_url(url).set_entries(Some(entries));
        let answer = match call.send().await {
            Ok(answer) => answer,
            Err(e) => {
                tracing::warn!("SendMessageBatch to {url}: {}", chain(&e));
                return letters;
            }
        };
        posted.accepted += answer.successful().len();
        tally::sent(url, answer.successful().len() as u64);
        let mut again = Vec::new();
        for failed in answer.failed() {
            let why = failed.message().unwrap_or(failed.code());
            let number = failed.id().parse::<usize>().ok();
            let Some(letter) = number.and_then(|it| letters.get(it)) else { continue };
            match failed.sender_fault() {
                true => posted.refused.push(refusal(letter.index, why)),
                false => {
                    tracing::warn!("SendMessageBatch to {url}: an entry failed: {why}");
                    again.push(letter.clone());
                }
            }
        }
        again
    }
}

fn refusal(index: usize, why: &str) -> Value {
    json!({ "index": index, "error": why })
}

/// The times of readings that have none of their own.
struct Times {
    /// In Unix milliseconds.
    now: i64,
    future: Duration,
    /// How many each device was given.
    given: HashMap<String, i64>,
}

impl Times {
    /// Now, and for each further reading of a device a millisecond more: of those of one request the
    /// later in the list is the later.
    fn give(&mut self, device: &str) -> i64 {
        let given = self.given.entry(device.to_owned()).or_default();
        *given += 1;
        self.now + *given - 1
    }
}

/// The message of a reading: plain, of its own time, and in ASCII alone, since the queue refuses
/// some characters.
fn letter(reading: &str, times: &mut Times) -> Result<String, String> {
    if reading.len() > READING {
        return Err(format!("it has {} bytes, and {READING} are allowed", reading.len()));
    }
    let it: AnomalyMessage = serde_json::from_str(reading).map_err(|e| e.to_string())?;
    it.check_ahead(times.now, times.future)?;
    let at = it.at.unwrap_or_else(|| times.give(&it.id));
    let mut plain = json!({ "id": it.id, "filling": it.filling.to_string(), "at": at });
    if at < MILLISECONDS {
        // As a number it would be read as seconds.
        plain["at"] = json!(jiff::Timestamp::from_millisecond(at).ok());
    }
    if let Some(seq) = it.seq {
        plain["seq"] = json!(seq);
    }
    Ok(ascii(&plain.to_string()))
}

/// From here on a number is read as a time in milliseconds.
const MILLISECONDS: i64 = 1_000_000_000_000;

/// JSON with every character beyond ASCII written as its escape: such are in strings alone.
fn ascii(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        match c.is_ascii() {
            true => text.push(c),
            false => {
                c.encode_utf16(&mut [0; 2])
                    .iter()
                    .for_each(|unit| text.push_str(&format!("\\u{unit:04x}")));
            }
        }
    }
    text
}

impl IntoResponse for Posted {
    fn into_response(mut self) -> Response {
        self.refused.sort_by_key(|it| it["index"].as_u64());
        let mut answer = json!({ "accepted": self.accepted, "refused": self.refused });
        let status = match (self.accepted, self.failed.is_empty()) {
            (_, false) => {
                answer["failed"] = json!(self.failed);
                answer["error"] =
                    json!("the queue did not take those that failed: send them again");
                StatusCode::SERVICE_UNAVAILABLE
            }
            (0, true) if self.refused.is_empty() => StatusCode::OK,
            (0, true) => {
                answer["error"] = json!("no reading was accepted");
                StatusCode::BAD_REQUEST
            }
            _ => StatusCode::ACCEPTED,
        };
        (status, Json(answer)).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(reading: &str, now: i64) -> Result<String, String> {
        let future = Duration::from_secs(3600);
        super::letter(reading, &mut Times { now, future, given: HashMap::new() })
    }

    #[test]
    fn of_readings_without_a_time_the_later_in_the_list_is_the_later() {
        let (now, future) = (1_700_000_000_000, Duration::from_secs(3600));
        let mut times = Times { now, future, given: HashMap::new() };
        let mut at = |text: &str| {
            let body = super::letter(text, &mut times).unwrap();
            serde_json::from_str::<AnomalyMessage>(&body).unwrap().at.unwrap() - now
        };
        assert_eq!(at(r#"{"id":"01","filling":1}"#), 0);
        assert_eq!(at(r#"{"id":"01","filling":2,"at":1700000000}"#), 0);
        assert_eq!(at(r#"{"id":"02","filling":1}"#), 0);
        assert_eq!(at(r#"{"id":"01","filling":1}"#), 1);
        assert_eq!(at(r#"{"id":"01","filling":1}"#), 2);
    }

    #[test]
    fn what_is_queued_is_read_as_what_was_sent() {
        let now = 1_700_000_000_000;
        for text in [
            r#"{"id":"kanál-\uffff😀","filling":"37.5","at":5,"seq":7}"#,
            r#"{"id":"01","filling":1e300,"at":"2023-11-14T22:13:20.5Z"}"#,
            r#"{"id":"01","filling":-0.1,"x":["ignored"]}"#,
            r#"{"end_device_ids":{"device_id":"a1"},"uplink_message":{"frm_payload":"NTA=","f_cnt":3}}"#,
        ] {
            let sent: AnomalyMessage = serde_json::from_str(text).unwrap();
            let body = letter(text, now).unwrap();
            assert!(body.is_ascii(), "{body}");
            let queued: AnomalyMessage = serde_json::from_str(&body).unwrap();
            assert_eq!(
                queued,
                AnomalyMessage { at: Some(sent.at.unwrap_or(now)), ..sent },
                "{body}"
            );
        }
        let ahead = r#"{"id":"01","filling":1,"at":1700003601}"#;
        assert!(letter(ahead, now).unwrap_err().contains("from now"));
        let deep = format!(r#"{{"id":"01","filling":{}"#, "[".repeat(10_000));
        assert!(letter(&deep, now).unwrap_err().contains("recursion"));
        let huge = format!(r#"{{"id":"01","filling":1,"x":"{}"}}"#, "y".repeat(READING));
        assert!(letter(&huge, now).unwrap_err().contains("are allowed"));
    }

    #[test]
    fn a_list_is_split_where_only_one_of_it_is_bad() {
        let texts = list(r#" [{"id":"01","filling":1e400}, 7, {"a":[1]}] "#).unwrap();
        assert_eq!(texts, [r#"{"id":"01","filling":1e400}"#, "7", r#"{"a":[1]}"#]);
        assert_eq!(list(r#"{"readings":[1,2]}"#).unwrap(), ["1", "2"]);
        assert_eq!(list(r#"{"id":"01"}"#).unwrap(), [r#"{"id":"01"}"#]);
        assert!(list("[{").is_err() && list("").is_err());
    }

    #[test]
    fn no_readings_are_no_mistake() {
        assert_eq!(Posted::default().into_response().status(), StatusCode::OK);
        let refused = Posted { refused: vec![refusal(0, "no")], ..Posted::default() };
        assert_eq!(refused.into_response().status(), StatusCode::BAD_REQUEST);
    }
}
