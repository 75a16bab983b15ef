//! The page of a project, and what it is known by when it is asked for again.

use std::fmt::Write;

use axum::{
    extract::{Path, State},
    http::{HeaderMap, HeaderName, StatusCode, header},
    response::{IntoResponse, Response},
};
use compile_worker::keys::sha256;
use jiff::{Timestamp, fmt::rfc2822};

use super::{Files, Mood, Shelf, package_of, unwell};

/// The page of a project.
pub(super) async fn page(
    State(files): State<Files>,
    Path(name): Path<String>,
    asked: HeaderMap,
) -> Response {
    if let Some(answer) = unwell(&files).await {
        return answer;
    }
    let mut shelf = files.lock().expect("no panic before");
    shelf.fetched.push(format!("simple/{name}"));
    let (lines, serial) = content(&shelf, &name);
    if lines.is_empty() {
        return StatusCode::NOT_FOUND.into_response();
    }
    let known = match shelf.mood {
        Mood::Unmarked => None,
        Mood::Dated => Some((header::LAST_MODIFIED, header::IF_MODIFIED_SINCE, date(serial))),
        _ => {
            Some((header::ETAG, header::IF_NONE_MATCH, format!("\"{}\"", sha256(lines.as_bytes()))))
        }
    };
    let same = |(_, condition, value): &(HeaderName, HeaderName, String)| {
        asked.get(condition).is_some_and(|has| has == value.as_str())
    };
    if known.as_ref().is_some_and(same) {
        shelf.unchanged.push(name);
        return StatusCode::NOT_MODIFIED.into_response();
    }
    let about = [
        (header::CONTENT_TYPE, "text/html".to_owned()),
        (HeaderName::from_static("x-pypi-last-serial"), serial.to_string()),
    ];
    let mut answer = (about, lines).into_response();
    if let Some((name, _, value)) = known {
        answer.headers_mut().insert(name, value.parse().expect("a header"));
    }
    answer
}

/// The lines of a page, and its serial.
fn content(shelf: &Shelf, name: &str) -> (String, usize) {
    let now = (&shelf.files, shelf.changes.len());
    let (all, changes) = shelf.old.as_ref().map_or(now, |(files, changes)| (files, *changes));
    let mut lines = String::new();
    for (filename, bytes) in all.iter().filter(|it| package_of(it.0).as_deref() == Some(name)) {
        let lie = shelf.lies.get(filename).cloned();
        let hash = lie.unwrap_or_else(|| sha256(bytes));
        let _ = writeln!(lines, "<a href=\"/files/{filename}#sha256={hash}\">{filename}</a>");
    }
    let last = shelf.changes[..changes].iter().rposition(|it| it == name);
    (lines, last.map_or(0, |at| at + 1))
}

/// The time of a change: long ago, and another one for each.
fn date(serial: usize) -> String {
    let seconds = 1_700_000_000 + i64::try_from(serial).unwrap_or_default();
    let at = Timestamp::from_second(seconds).expect("a time");
    rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&at).expect("a date")
}
