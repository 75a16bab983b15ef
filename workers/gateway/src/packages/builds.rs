//! `/v1/builds`: builds for programs, by their keys.

use std::{collections::BTreeSet, sync::Arc};

use axum::{
    Json,
    extract::{Path, Query, State as Shared, rejection::JsonRejection},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Redirect, Response},
};
use compile_worker::{
    builds::{Artifact, Keyed, Row, State},
    message::Wish,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Packages, answer::Refusal, artifact::artifact_url, live};

/// A log of so many bytes is handed out here; for a larger one the client is sent to the bucket.
const AT_ONCE: u64 = 16 << 20;

/// The query of `explain`.
#[derive(Debug, Deserialize)]
pub(super) struct Against {
    against: Option<String>,
}

/// `POST /v1/builds`: asks for a build, and says where it stands.
pub(super) async fn order(
    Shared(packages): Shared<Arc<Packages>>,
    headers: HeaderMap,
    body: Result<Json<Map<String, Value>>, JsonRejection>,
) -> Result<Response, Refusal> {
    let Json(wish) = body.map_err(|why| Refusal::Bad(why.body_text()))?;
    let wish = wish_of(wish).map_err(Refusal::Bad)?;
    let request = packages.wished(&wish).await?;
    let row = packages.ordered(&request).await?;
    standing(&packages, &headers, &row).await
}

/// A wish that says nothing else: a mistyped name would be a build that nobody asked for.
fn wish_of(fields: Map<String, Value>) -> Result<Wish, String> {
    let known = ["ecosystem", "package", "version", "options"];
    if let Some(other) = fields.keys().find(|it| !known.contains(&it.as_str())) {
        return Err(format!("there is no {other:?} in a wish; there are: {}", known.join(", ")));
    }
    let options = fields.get("options").is_none_or(|it| it.is_string() || it.is_object());
    if !options {
        return Err("`options` is a text, or an object of options by name".to_owned());
    }
    serde_json::from_value(Value::Object(fields)).map_err(|why| why.to_string())
}

/// `GET /v1/builds/{key}`: where a build stands.
pub(super) async fn build(
    Shared(packages): Shared<Arc<Packages>>,
    Path(key): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Value>, Refusal> {
    let row = row(&packages, &key).await?;
    Ok(Json(describe(&packages, &headers, &row).await?))
}

/// `POST /v1/builds/{key}/retry`: builds what has ended again, with what its requirements are now.
pub(super) async fn retry(
    Shared(packages): Shared<Arc<Packages>>,
    Path(key): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let row = row(&packages, &key).await?;
    let gone = || Refusal::Impossible(format!("the options {} are no more", row.options));
    packages.check_builder(&row).await?;
    let row = packages.retried(&row.request().ok_or_else(gone)?).await?;
    standing(&packages, &headers, &row).await
}

/// `POST /v1/builds/{key}/build-twice`: builds an artifact a second time, and compares.
pub(super) async fn twice(
    Shared(packages): Shared<Arc<Packages>>,
    Path(key): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let row = row(&packages, &key).await?;
    let (State::Done(_), Some(request)) = (&row.state, row.request()) else {
        let (package, state) = (&row.package, row.state.name());
        return Err(Refusal::Impossible(format!(
            "{package} is {state}; only what is built is compared"
        )));
    };
    if let Some(by) = &row.overtaken_by {
        return Err(Refusal::Impossible(format!(
            "{} was built anew since; have {by} compared",
            row.package
        )));
    }
    packages.check_builder(&row).await?;
    packages.twice(&request, row.epoch).await?;
    let body = describe(&packages, &headers, &row).await?;
    Ok((StatusCode::ACCEPTED, [(header::LOCATION, place(&row.request))], Json(body))
        .into_response())
}

/// `GET /v1/builds/{key}/explain?against=KEY`: which components of two builds differ.
pub(super) async fn explain(
    Shared(packages): Shared<Arc<Packages>>,
    Path(key): Path<String>,
    Query(Against { against }): Query<Against>,
) -> Result<Json<Value>, Refusal> {
    let against =
        against.ok_or_else(|| Refusal::Bad("the parameter against is missing".to_owned()))?;
    let (this, that) = (row(&packages, &key).await?, row(&packages, &against).await?);
    let of_request = differences(&parts(&this), &parts(&that));
    let (same, of_artifact) = match (&this.state, &that.state) {
        (State::Done(this), State::Done(that)) => {
            let all = |it: &Artifact| it.parts.clone().into_iter().collect();
            (this.artifact == that.artifact, json!(differences(&all(this), &all(that))))
        }
        _ => (
            (&this.request, &this.overtaken_by) == (&that.request, &that.overtaken_by),
            Value::Null,
        ),
    };
    Ok(Json(json!({
        "key": this.request, "against": that.request, "same": same, "request": of_request,
        "artifact": of_artifact,
    })))
}

/// `GET /v1/builds/{key}/log`: what a build said, or says; live as server-sent events for those
/// who accept these.
pub(super) async fn log(
    Shared(packages): Shared<Arc<Packages>>,
    Path(key): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let row = row(&packages, &key).await?;
    let accept = headers.get(header::ACCEPT).and_then(|it| it.to_str().ok()).unwrap_or_default();
    if accept.contains("text/event-stream") {
        return Ok(live::follow(packages, row, &headers).into_response());
    }
    if row.state == State::Ordered {
        return Ok(plain(live::so_far(&packages, &row).await?));
    }
    let key = log_key(&row).ok_or_else(|| {
        Refusal::Absent(format!("{} {} was not begun, so it has no log", row.package, row.version))
    })?;
    match packages.object(key, AT_ONCE).await {
        Ok(said) => Ok(plain(said)),
        Err(Refusal::Impossible(_)) => {
            Ok(Redirect::temporary(&packages.url(key).await?).into_response())
        }
        Err(why) => Err(why),
    }
}

/// What a build said, which is nothing but text, whatever it looks like.
fn plain(said: Vec<u8>) -> Response {
    let about = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (about, said).into_response()
}

/// The key of the log of a build that has ended.
pub(super) fn log_key(row: &Row) -> Option<&str> {
    match &row.state {
        State::Done(artifact) => Some(&artifact.log),
        State::Failed(failed) => failed.log.as_deref(),
        State::Ordered => None,
    }
}

/// The row of a key: of a request as it stands, of an artifact as it was built.
pub(super) async fn row(packages: &Packages, key: &str) -> Result<Row, Refusal> {
    match packages.by_key(key).await? {
        Some(Keyed::Row(row)) => Ok(*row),
        Some(Keyed::Overtaken(by)) => {
            let what = format!("what was built under the key {key} is not known any more");
            Err(Refusal::Absent(format!("{what}; in its place there is {by}")))
        }
        None => Err(Refusal::Absent(format!("there is no build with the key {key:?}"))),
    }
}

fn parts(row: &Row) -> Map<String, Value> {
    row.parts.as_object().cloned().unwrap_or_default()
}

/// The components that differ, with both values; of those that have parts, the parts.
fn differences(this: &Map<String, Value>, that: &Map<String, Value>) -> Map<String, Value> {
    let names: BTreeSet<&String> = this.keys().chain(that.keys()).collect();
    let differ = names.into_iter().filter(|name| this.get(*name) != that.get(*name));
    let told = differ.map(|name| {
        let (this, that) = (this.get(name), that.get(name));
        let told = match (this.and_then(Value::as_object), that.and_then(Value::as_object)) {
            (Some(this), Some(that)) => json!(differences(this, that)),
            _ => json!({ "this": this, "that": that }),
        };
        (name.clone(), told)
    });
    told.collect()
}

async fn standing(
    packages: &Packages,
    headers: &HeaderMap,
    row: &Row,
) -> Result<Response, Refusal> {
    let status = match row.state {
        State::Ordered => StatusCode::ACCEPTED,
        _ => StatusCode::OK,
    };
    let place = [(header::LOCATION, place(&row.request))];
    let body = describe(packages, headers, row).await?;
    Ok((status, place, Json(body)).into_response())
}

/// A row for programs, with an address for the artifact and the log.
pub(super) async fn describe(
    packages: &Packages,
    headers: &HeaderMap,
    row: &Row,
) -> Result<Value, Refusal> {
    let (ecosystem, name) = row.named();
    let mut told = json!({
        "ecosystem": ecosystem, "package": name, "version": row.version, "options": row.options,
        "key": row.request, "epoch": row.epoch, "build": row.state, "locked": row.lock,
        "verdict": row.verdict,
        "log": log_url(headers, &row.request),
    });
    if let (Some(by), State::Done(artifact)) = (&row.overtaken_by, &row.state) {
        told["overtaken_by"] = json!(by);
        told["log"] = json!(log_url(headers, &artifact.artifact));
    }
    if let State::Done(artifact) = &row.state
        && (row.overtaken_by.is_none() || packages.is_there(artifact).await?)
    {
        told["url"] = json!(artifact_url(headers, artifact));
    }
    Ok(told)
}

fn place(key: &str) -> String {
    format!("/v1/builds/{key}")
}

/// The path of a request's log.
pub(super) fn log_path(key: &str) -> String {
    format!("{}/log", place(key))
}

/// The address of the log of a request, or of an artifact.
pub(super) fn log_url(headers: &HeaderMap, key: &str) -> String {
    format!("{}{}", base(headers), log_path(key))
}

/// This gateway, as the client called it; what stands before it says whether that was over TLS.
pub(super) fn base(headers: &HeaderMap) -> String {
    let text = |name: &str| headers.get(name).and_then(|it| it.to_str().ok());
    let said = text("x-forwarded-proto").and_then(|it| it.split(',').next()).map(str::trim);
    let scheme =
        if said.is_some_and(|it| it.eq_ignore_ascii_case("https")) { "https" } else { "http" };
    text("host").map(|host| format!("{scheme}://{host}")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_with_a_mistyped_field_is_refused_with_the_fields_there_are() {
        let wish = |value: Value| wish_of(value.as_object().unwrap().clone());
        assert!(wish(json!({"package": "a", "version": "1", "options": {"lto": true}})).is_ok());
        assert!(wish(json!({"package": "a", "version": "1", "options": "+lto"})).is_ok());
        let why = wish(json!({"package": "a", "version": "1", "option": {"lto": true}}));
        let why = why.unwrap_err();
        assert!(why.contains("\"option\"") && why.contains("options"), "{why}");
        let why = wish(json!({"package": "a", "version": "1", "options": ["lto"]})).unwrap_err();
        assert!(why.contains("by name"), "{why}");
    }

    #[test]
    fn addresses_begin_as_the_client_called_the_gateway() {
        let called = |proto: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            headers.insert("host", "h:8080".parse().unwrap());
            proto.map(|it| headers.insert("x-forwarded-proto", it.parse().unwrap()));
            log_url(&headers, "k")
        };
        for plain in [None, Some("http"), Some("http, https"), Some("javascript")] {
            assert_eq!(called(plain), "http://h:8080/v1/builds/k/log", "{plain:?}");
        }
        for tls in ["https", "HTTPS, http"] {
            assert_eq!(called(Some(tls)), "https://h:8080/v1/builds/k/log", "{tls}");
        }
        assert_eq!(log_url(&HeaderMap::new(), "k"), "/v1/builds/k/log");
    }

    #[test]
    fn only_what_differs_is_told_down_to_the_part() {
        let map = |value: Value| value.as_object().cloned().unwrap();
        let this = map(
            json!({"abi": "cp311", "options": "opt=3", "build_requires": {"a": "1", "b": "2"}}),
        );
        let that = map(
            json!({"abi": "cp311", "options": "lto=yes", "build_requires": {"a": "1", "b": "3"}, "x": 1}),
        );
        let told = json!(differences(&this, &that));
        assert_eq!(
            told,
            json!({
                "options": {"this": "opt=3", "that": "lto=yes"},
                "build_requires": {"b": {"this": "2", "that": "3"}},
                "x": {"this": null, "that": 1},
            })
        );
        assert!(differences(&this, &this).is_empty());
    }
}
