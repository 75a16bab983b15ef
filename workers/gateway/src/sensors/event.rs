//! What a record of a stream tells: the original's broadcast, and the event of `/v1`.

use std::collections::HashMap;

use anomaly_worker::tables::{Problem, Row, Status, said_in};
use aws_sdk_dynamodb::types::AttributeValue as Value_;
use aws_sdk_dynamodbstreams::types::{AttributeValue as Attr, OperationType as Operation, Record};
use axum::extract::ws::Utf8Bytes;
use serde_json::{Value, json};

use super::{filter::About, view};

/// The place of the stream of problems in a position; that of readings comes after it.
const PROBLEMS: usize = 0;

type Image = HashMap<String, Attr>;

/// What happened.
#[derive(Debug)]
pub(super) struct Event {
    /// What the original service said of it, if anything.
    pub(super) original: Option<Utf8Bytes>,
    /// `problem` or `reading`.
    pub(super) what: &'static str,
    /// The event of `/v1`, without its position.
    body: Value,
    devices: Vec<String>,
    kind: String,
    status: Option<String>,
    opened: Option<i64>,
    /// The problem's row, where it is one.
    pub(super) row: Option<Row>,
}

impl Event {
    /// As a filter sees it.
    pub(super) fn about(&self) -> About<'_> {
        let Self { devices, kind, status, opened, .. } = self;
        About { devices, kind, status: status.as_deref(), opened: *opened }
    }

    /// The event of `/v1`, at this position.
    pub(super) fn text(&self, position: &str) -> String {
        let mut body = self.body.clone();
        body["position"] = json!(position);
        body.to_string()
    }

    /// What a record of the stream at this place of a position tells.
    pub(super) fn of(stream: usize, record: &Record) -> Option<Self> {
        match stream {
            PROBLEMS => problem(record),
            _ => reading(record),
        }
    }
}

/// A problem that opened, changed, or is gone. The original does not tell what only the evidence
/// and the acknowledgement say.
fn problem(record: &Record) -> Option<Event> {
    let change = record.dynamodb.as_ref()?;
    let (old, new) = (row(change.old_image.as_ref()), row(change.new_image.as_ref()));
    let is_gone = new.is_none();
    if old == new {
        return None;
    }
    let before = old.as_ref().and_then(Problem::from_row);
    let corrected = |row: &Option<Row>| row.as_ref()?.get("corrected_processed").cloned();
    let correction = match (corrected(&old), corrected(&new)) {
        _ if is_gone => Some("RETRACTED"),
        (before, Some(now)) if before.as_ref() != Some(&now) => Some("CORRECTED"),
        _ => None,
    };
    let mut row = new.or(old)?;
    if is_gone {
        let status = Value_::S(Status::Retracted.name().to_owned());
        row.insert("problem_status".to_owned(), status);
    }
    let problem = Problem::from_row(&row)?;
    let original = (before.as_ref() != Some(&problem)).then(|| json!(problem).to_string().into());
    Some(Event {
        original,
        what: "problem",
        body: json!({
            "event": "problem", "correction": correction, "problem": view::problem(&row),
        }),
        devices: view::devices_of(&row),
        kind: problem.problem,
        status: Some(problem.problem_status),
        opened: view::key(&row).map(|key| key.opened),
        row: Some(row),
    })
}

/// A reading that is OK, or has nothing to be compared with: what is wrong is a problem's to tell.
fn reading(record: &Record) -> Option<Event> {
    let new = record.dynamodb.as_ref()?.new_image.as_ref()?;
    let first = record.event_name == Some(Operation::Insert);
    let row = row(Some(new)).filter(|_| first)?;
    let said = said_in(row.get("said")?.as_s().ok()?)?.name();
    let device = row.get("device")?.as_s().ok()?.clone();
    let number = |name: &str| row.get(name).and_then(|it| it.as_n().ok()?.parse::<i64>().ok());
    let filling = row.get("filling")?.as_s().ok()?.parse::<f64>().ok()?;
    let reading = json!({ "at": number("at"), "filling": filling, "seq": number("seq") });
    Some(Event {
        original: Some(json!({ "message": said }).to_string().into()),
        what: "reading",
        body: json!({ "event": "reading", "device": device, "said": said, "reading": reading }),
        devices: vec![device],
        kind: said.to_owned(),
        status: None,
        opened: None,
        row: None,
    })
}

/// A stream's image as a row.
fn row(image: Option<&Image>) -> Option<Row> {
    Some(image?.iter().map(|(name, value)| (name.clone(), value_of(value))).collect())
}

fn value_of(value: &Attr) -> Value_ {
    match value {
        Attr::S(text) => Value_::S(text.clone()),
        Attr::N(number) => Value_::N(number.clone()),
        Attr::Bool(it) => Value_::Bool(*it),
        Attr::L(items) => Value_::L(items.iter().map(value_of).collect()),
        Attr::M(fields) => {
            Value_::M(fields.iter().map(|(name, it)| (name.clone(), value_of(it))).collect())
        }
        Attr::Ss(items) => Value_::Ss(items.clone()),
        Attr::Ns(items) => Value_::Ns(items.clone()),
        _ => Value_::Null(true),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use aws_sdk_dynamodbstreams::types::StreamRecord;

    use super::*;

    const READINGS: usize = 1;

    fn image(fields: &[(&str, &str)]) -> Image {
        let value = |name: &str, text: &str| match name {
            "at" | "opened" | "problem_time" | "corrected_processed" => Attr::N(text.to_owned()),
            _ => Attr::S(text.to_owned()),
        };
        fields.iter().map(|(name, text)| ((*name).to_owned(), value(name, text))).collect()
    }

    /// A record of a row that was so, and is so.
    fn record(of: Operation, old: Option<Image>, new: Option<Image>) -> Record {
        let change = StreamRecord::builder().set_old_image(old).set_new_image(new);
        Record::builder().event_name(of).dynamodb(change.build()).build()
    }

    /// A reading of a device that nothing is wrong with.
    pub(in super::super) fn heard(device: &str) -> Event {
        let new = image(&[("device", device), ("said", "OK"), ("at", "5"), ("filling", "50")]);
        Event::of(READINGS, &record(Operation::Insert, None, Some(new))).unwrap()
    }

    #[test]
    fn a_reading_is_told_when_it_comes_and_not_when_it_is_marked_late() {
        let whole = |late: &[(&str, &str)]| {
            let plain = [("device", "01"), ("said", "OK"), ("at", "5"), ("filling", "50")];
            image(&[&plain[..], late].concat())
        };
        let told = |of, old, new| Event::of(READINGS, &record(of, old, Some(new)));
        let event = told(Operation::Insert, None, whole(&[])).unwrap();
        assert_eq!(event.original.as_deref(), Some("{\"message\":\"OK\"}"));
        assert!(told(Operation::Modify, Some(whole(&[])), whole(&[("late", "0102")])).is_none());
    }

    #[test]
    fn the_original_is_told_of_the_problem_and_of_nothing_else_in_its_row() {
        let row = |status: &str, more: &[(&str, &str)]| {
            let plain = [
                ("problem", "PROBLEM"),
                ("problem_id", "0102"),
                ("problem_time", "5"),
                ("problem_status", status),
                ("opened", "5000"),
                ("current", "a"),
                ("following", "b"),
            ];
            Some(image(&[&plain[..], more].concat()))
        };
        let told = |of, old, new| Event::of(PROBLEMS, &record(of, old, new));
        let of = |status: &str| {
            let (id, kind) = ("0102", "PROBLEM");
            json!({ "problem_id": id, "problem": kind, "problem_time": 5, "problem_status": status })
        };
        let open = || row("UNRESOLVED", &[]);
        let original = |event: &Event| -> Option<Value> {
            event.original.as_deref().map(|it| serde_json::from_str(it).unwrap())
        };
        let opened = told(Operation::Insert, None, open()).unwrap();
        assert_eq!(
            (original(&opened), &opened.body["correction"]),
            (Some(of("UNRESOLVED")), &Value::Null)
        );
        let ended = told(Operation::Modify, open(), row("RESOLVED", &[])).unwrap();
        assert_eq!(original(&ended), Some(of("RESOLVED")));
        // Other evidence: told to subscribers alone, and as a correction where it is one.
        let other =
            told(Operation::Modify, open(), row("UNRESOLVED", &[("opening", "{}")])).unwrap();
        assert_eq!((original(&other), &other.body["correction"]), (None, &Value::Null));
        let put_right = row("UNRESOLVED", &[("corrected_processed", "9")]);
        let corrected = told(Operation::Modify, open(), put_right.clone()).unwrap();
        assert_eq!(
            (original(&corrected), &corrected.body["correction"]),
            (None, &json!("CORRECTED"))
        );
        assert!(told(Operation::Modify, put_right.clone(), put_right).is_none());
        let gone = told(Operation::Remove, open(), None).unwrap();
        assert_eq!(
            (original(&gone), &gone.body["correction"]),
            (Some(of("RETRACTED")), &json!("RETRACTED"))
        );
    }
}
