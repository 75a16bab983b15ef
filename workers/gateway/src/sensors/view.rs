//! Rows as `/v1` shows them: all that is known, times in Unix milliseconds.

use anomaly_worker::tables::{Acknowledgement, EpisodeKey, Row};
use aws_sdk_dynamodb::types::AttributeValue as Attr;
use serde_json::{Map, Number, Value, json};

use super::{filter::About, zones::Zones};

/// The attributes that hold JSON.
const EVIDENCE: [&str; 2] = ["opening", "resolution"];

/// A problem with all that its row holds; the acknowledgement as one object, or null.
pub(super) fn problem(row: &Row) -> Value {
    let mut shown = fields(row, |name| !name.starts_with("acknowledged"));
    let seen = Acknowledgement::of(row);
    let seen = seen.map(|it| json!({ "at": it.at, "by": it.by, "note": it.note }));
    shown.insert("acknowledgement".to_owned(), json!(seen));
    Value::Object(shown)
}

/// A device with all that its row holds, and its zone.
pub(super) fn device(row: &Row, zones: &Zones) -> Map<String, Value> {
    let mut shown = fields(row, |_| true);
    let zone = id(row).and_then(|id| zones.of(id));
    shown.insert("zone".to_owned(), json!(zone));
    shown
}

fn fields(row: &Row, shown: impl Fn(&str) -> bool) -> Map<String, Value> {
    let row = row.iter().filter(|(name, _)| shown(name));
    let value = |name: &str, value: &Attr| match value {
        Attr::S(text) if EVIDENCE.contains(&name) => {
            serde_json::from_str(text).unwrap_or_else(|_| json!(text))
        }
        other => of(other),
    };
    row.map(|(name, it)| (name.clone(), value(name, it))).collect()
}

/// A value; every text as it is: an id may look like JSON.
fn of(value: &Attr) -> Value {
    match value {
        Attr::S(text) => json!(text),
        Attr::N(number) => number.parse::<Number>().map_or(json!(number), Value::Number),
        Attr::Bool(it) => json!(it),
        Attr::L(items) => items.iter().map(of).collect(),
        Attr::M(fields) => {
            Value::Object(fields.iter().map(|(name, value)| (name.clone(), of(value))).collect())
        }
        Attr::Ss(items) => json!(items),
        _ => Value::Null,
    }
}

/// The id of a device's row.
pub(super) fn id(row: &Row) -> Option<&str> {
    text(row, "id")
}

/// The key of a problem's row.
pub(super) fn key(row: &Row) -> Option<EpisodeKey> {
    let opened = row.get("opened")?.as_n().ok()?.parse().ok()?;
    Some(EpisodeKey { problem_id: text(row, "problem_id")?.to_owned(), opened })
}

/// The devices that a problem is about.
pub(super) fn devices_of(row: &Row) -> Vec<String> {
    let ends = ["current", "following", "device"].into_iter().filter_map(|name| text(row, name));
    ends.map(str::to_owned).collect()
}

/// A problem's row, with its devices, as a filter sees it.
pub(super) fn about<'a>(row: &'a Row, devices: &'a [String]) -> About<'a> {
    About {
        devices,
        kind: text(row, "problem").unwrap_or_default(),
        status: text(row, "problem_status"),
        opened: key(row).map(|key| key.opened),
    }
}

fn text<'r>(row: &'r Row, name: &str) -> Option<&'r str> {
    row.get(name)?.as_s().ok().map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_looks_like_json_is_shown_as_it_is_and_evidence_as_what_it_holds() {
        let row = [("current", "[1]"), ("following", "{}"), ("opening", r#"{"current":null}"#)];
        let row = row.map(|(name, it)| (name.to_owned(), Attr::S(it.to_owned())));
        let shown = problem(&Row::from(row));
        assert_eq!((&shown["current"], &shown["following"]), (&json!("[1]"), &json!("{}")));
        assert!(shown["opening"].is_object(), "{shown}");
    }
}
