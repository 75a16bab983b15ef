//! What a request says: in its address and in its body.

use std::collections::HashMap;

use axum::{
    Json,
    extract::{FromRequest, Query, Request, rejection::JsonRejection},
    middleware::Next,
    response::{IntoResponse, Response},
};
use jiff::{Timestamp, tz::TimeZone};
use schedule_executor::schedule;
use serde_json::{Value, json};

use super::answer;
use crate::schedule::{
    ops::{self, Done, Refused},
    strict,
};

/// Nothing is done by one who misspells that it is only to be tried, or says anything twice.
pub(in crate::schedule) async fn parameters(
    Query(pairs): Query<Vec<(String, String)>>,
    request: Request,
    next: Next,
) -> Response {
    let (path, asks) = (request.uri().path(), request.method().is_safe());
    let done = || {
        let query = strict::once(pairs)?;
        strict::parameters(path, asks, &query)?;
        is_dry(&query, &Value::Null).map(drop)
    };
    match done() {
        Err(refused) => answer(Err(refused)),
        Ok(()) => next.run(request).await,
    }
}

/// The JSON of a request. What is none is refused in the form that all refusals have.
pub(in crate::schedule) struct Said(pub(in crate::schedule) Value);

impl<S: Send + Sync> FromRequest<S> for Said {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        let read = Json::<Value>::from_request(request, state).await;
        let told = |why: JsonRejection| {
            (why.status(), Json(json!({ "error": why.body_text() }))).into_response()
        };
        read.map(|Json(value)| Self(value)).map_err(told)
    }
}

/// Whether a request whose body says nothing else is a dry run. Nothing is done for who misspells that.
pub(in crate::schedule) fn tries(query: &HashMap<String, String>, body: &[u8]) -> Done<bool> {
    let fields = fields(body)?;
    strict::only(&fields, "this request", &strict::DRY)?;
    is_dry(query, &fields)
}

/// The fields of a request, whose body may be left out.
pub(in crate::schedule) fn fields(body: &[u8]) -> Done<Value> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(json!({}));
    }
    let fields: Value =
        serde_json::from_slice(body).map_err(|why| Refused::Bad(format!("the body: {why}")))?;
    let wrong = || Refused::Bad("the body must be an object".to_owned());
    (fields.is_object() || fields.is_null()).then_some(fields).ok_or_else(wrong)
}

/// Whether `?dry_run=true` is asked for, or the same in the body. What is neither yes nor no is a
/// mistake, and not a no.
pub(in crate::schedule) fn is_dry(query: &HashMap<String, String>, fields: &Value) -> Done<bool> {
    let mut dry = ops::is_dry(fields)?;
    for (name, text) in query.iter().filter(|(name, _)| matches!(&***name, "dry_run" | "dryRun")) {
        dry |= match text.to_ascii_lowercase().as_str() {
            "" | "1" | "true" | "yes" => true,
            "0" | "false" | "no" => false,
            _ => return Err(Refused::Bad(format!("`{name}` must be true or false"))),
        };
    }
    Ok(dry)
}

/// `2026-06-01T08:00:00Z` with any offset, or a date of a zone, with its time of day or from its
/// beginning.
pub(in crate::schedule) fn instant(
    query: &HashMap<String, String>,
    name: &str,
    zone: &TimeZone,
) -> Done<Option<Timestamp>> {
    let text = query.get(name).filter(|text| !text.trim().is_empty());
    let Some(text) = text else { return Ok(None) };
    // An unescaped plus arrives as a space.
    let found = schedule::said(&format!("`{name}`"), &text.replace(' ', "+"), zone);
    found.map(Some).map_err(|why| Refused::Bad(why.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_that_says_nothing_else_says_whether_it_is_a_dry_run_and_is_refused_if_misspelt() {
        let said = |body: &str| tries(&HashMap::new(), body.as_bytes());
        for nothing in ["", " ", "null", "{}", r#"{"dry_run": false}"#] {
            assert!(!said(nothing).unwrap(), "{nothing}");
        }
        assert!(said(r#"{"dry_run": true}"#).unwrap() && said(r#"{"dryRun": true}"#).unwrap());
        for wrong in [r#"{"dryrun": true}"#, r#"{"dry_run": "true"}"#, "[1]"] {
            assert!(matches!(said(wrong), Err(Refused::Bad(_))), "{wrong}");
        }
    }

    #[test]
    fn a_dry_run_is_asked_for_in_every_way_and_never_missed() {
        let asked = |query: &[(&str, &str)], body: &str| {
            let query = query.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            is_dry(&query, &fields(body.as_bytes())?)
        };
        for yes in ["true", "True", "1", "", "yes"] {
            assert!(asked(&[("dry_run", yes)], "").unwrap(), "{yes:?}");
        }
        assert!(asked(&[("dryRun", "true")], "").unwrap());
        assert!(asked(&[], r#"{"dry_run": true}"#).unwrap());
        assert!(!asked(&[("dry_run", "false")], "null").unwrap() && !asked(&[], "").unwrap());
        for (query, body) in
            [("maybe", ""), ("false", "{"), ("false", r#"{"dry_run": "true"}"#), ("false", "[1]")]
        {
            assert!(matches!(asked(&[("dry_run", query)], body), Err(Refused::Bad(_))), "{body}");
        }
    }
}
