//! The scheduler's settings, overrides, savings, the audit, and undo.

use std::collections::HashMap;

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post, put},
};
use jiff::{Timestamp, tz::TimeZone};
use schedule_executor::arn::Scope;
use serde_json::{Value, json};

use super::{Asked, At, Said, answer, fields, instant, is_dry, kind, nothing};
use crate::schedule::{
    Schedules,
    ops::{Done, Refused, Source, words},
    strict,
    tried::would_be,
};

/// `/v1/scheduler`, `…/override`, `…/savings`, `/v1/overrides`, `/v1/audit`, `/v1/undo`.
pub(in crate::schedule) fn router() -> Router<Schedules> {
    let resource = get(get_resource).put(put_resource).post(put_resource);
    let resource = resource.delete(delete_resource);
    Router::new()
        .route("/v1/scheduler", get(scheduler).put(put_scheduler))
        .route("/v1/scheduler/tick", post(tick))
        .route(
            "/v1/contexts/{id}/override",
            put(put_context).post(put_context).delete(delete_context),
        )
        .route("/v1/contexts/{id}/savings", get(savings_of))
        .route("/v1/tags/{key}/savings", get(savings_of_tag))
        .route("/v1/tags/{key}/resources", get(resources_of_tag))
        .route("/v1/savings", get(savings))
        .route("/v1/tags/{key}/override", put(put_tag).post(put_tag).delete(delete_tag))
        .route("/v1/overrides", get(overrides).delete(end_scope))
        .route("/v1/overrides/{service}/{*resource}", resource)
        .route("/v1/audit", get(audit))
        .route("/v1/undo", post(undo))
}

async fn scheduler(State(it): At) -> Response {
    answer(it.settings().await)
}

async fn put_scheduler(State(it): At, Query(query): Asked, Said(body): Said) -> Response {
    let done = async { it.change_settings(&body, is_dry(&query, &body)?).await };
    answer(done.await)
}

async fn tick(State(it): At, Query(query): Asked, body: Bytes) -> Response {
    let done = async {
        let fields = fields(&body)?;
        strict::only(&fields, "a tick", &strict::DRY)?;
        it.look_now(is_dry(&query, &fields)?).await
    };
    accepted(done.await.map(|()| None))
}

async fn put_context(
    State(it): At,
    Path(id): Path<String>,
    Query(query): Asked,
    Said(body): Said,
) -> Response {
    answer(it.overrides(Source::Context(id), &query, &body).await)
}

async fn delete_context(
    State(it): At,
    Path(id): Path<String>,
    Query(query): Asked,
    body: Bytes,
) -> Response {
    nothing(it.ends_override(Source::Context(id), &query, &body).await)
}

async fn put_tag(
    State(it): At,
    Path(key): Path<String>,
    Query(query): Asked,
    Said(body): Said,
) -> Response {
    answer(it.overrides(Source::Tag(key), &query, &body).await)
}

async fn delete_tag(
    State(it): At,
    Path(key): Path<String>,
    Query(query): Asked,
    body: Bytes,
) -> Response {
    nothing(it.ends_override(Source::Tag(key), &query, &body).await)
}

impl Schedules {
    async fn overrides(
        &self,
        source: Source,
        query: &HashMap<String, String>,
        body: &Value,
    ) -> Done<Value> {
        strict::only(body, "an override", &strict::OVERRIDE)?;
        self.set_override(&source, body, is_dry(query, body)?).await
    }

    async fn ends_override(
        &self,
        source: Source,
        query: &HashMap<String, String>,
        body: &Bytes,
    ) -> Done<()> {
        self.end_override(&source, ends(query, body)?).await
    }
}

async fn overrides(State(it): At, Query(query): Asked) -> Response {
    answer(it.all_overrides(query.get("scope").map(String::as_str)).await)
}

/// Whether the end of an override is a dry run; its body says nothing else.
fn ends(query: &HashMap<String, String>, body: &[u8]) -> Done<bool> {
    let fields = fields(body)?;
    strict::only(&fields, "the end of an override", &strict::DRY)?;
    is_dry(query, &fields)
}

async fn end_scope(State(it): At, Query(query): Asked, body: Bytes) -> Response {
    let done = async {
        let missing =
            || Refused::Bad("`scope` must name one, as GET /v1/overrides does".to_owned());
        let scope = it.scope(query.get("scope").ok_or_else(missing)?)?;
        it.end(&scope, ends(&query, &body)?).await
    };
    nothing(done.await)
}

type ResourcePath = Path<(String, String)>;

async fn get_resource(State(it): At, path: ResourcePath, Query(query): Asked) -> Response {
    let done = async { it.known(&scope(&it, &path, &query)?).await };
    answer(done.await)
}

async fn put_resource(
    State(it): At,
    path: ResourcePath,
    Query(query): Asked,
    Said(body): Said,
) -> Response {
    let done = async {
        let target = match scope(&it, &path, &query)? {
            Scope::Context(id) => return it.overrides(Source::Context(id), &query, &body).await,
            Scope::Tag(key) => return it.overrides(Source::Tag(key), &query, &body).await,
            Scope::Resource(target) => target,
        };
        let fields = [&strict::OVERRIDE[..], &["timeZone"]].concat();
        strict::only(&body, "an override of a resource", &fields)?;
        it.override_resource(target, &body, is_dry(&query, &body)?).await
    };
    answer(done.await)
}

async fn delete_resource(
    State(it): At,
    path: ResourcePath,
    Query(query): Asked,
    body: Bytes,
) -> Response {
    let done = async {
        let dry = ends(&query, &body)?;
        it.end(&scope(&it, &path, &query)?, dry).await
    };
    nothing(done.await)
}

/// What an override is of: `/context/web`, `/ec2/i-1?region=`, or the key of a resource as lists tell it.
fn scope(it: &Schedules, path: &ResourcePath, query: &HashMap<String, String>) -> Done<Scope> {
    let (name, rest) = (&path.0.0, &path.0.1);
    let region = query.get("region").map(String::as_str);
    if matches!(name.as_str(), "context" | "tag") {
        return match region {
            None => it.scope(&format!("{name}/{rest}")),
            Some(_) => Err(Refused::Bad("`region` is of resources alone".to_owned())),
        };
    }
    let target = it.home.resource(kind(name)?, rest, region);
    target.map(Scope::Resource).map_err(Refused::Bad)
}

async fn savings_of(State(it): At, Path(id): Path<String>, Query(query): Asked) -> Response {
    let done = async {
        let (from, to) = span(&query, &it.clock(&Source::Context(id.clone())).await?)?;
        it.savings_of(&id, from, to).await
    };
    answer(done.await)
}

async fn savings_of_tag(State(it): At, Path(key): Path<String>, Query(query): Asked) -> Response {
    let done = async {
        let (from, to) = span(&query, &it.clock(&Source::Tag(key.clone())).await?)?;
        it.savings_of_tag(&key, from, to).await
    };
    answer(done.await)
}

async fn resources_of_tag(State(it): At, Path(key): Path<String>) -> Response {
    answer(it.resources_of_tag(&key).await)
}

async fn savings(State(it): At, Query(query): Asked) -> Response {
    let done = async {
        let (from, to) = span(&query, &TimeZone::UTC)?;
        it.savings(from, to).await
    };
    answer(done.await)
}

/// From when to when is added up; dates are those of a zone.
fn span(query: &HashMap<String, String>, zone: &TimeZone) -> Done<(Timestamp, Timestamp)> {
    let said = |name| {
        let missing = || Refused::Bad(format!("`{name}` must say from when to when"));
        instant(query, name, zone)?.ok_or_else(missing)
    };
    Ok((said("from")?, said("to")?))
}

async fn audit(State(it): At, Query(query): Asked) -> Response {
    let done = async {
        let wrong = || Refused::Bad("`limit` must be a whole number from 1 to 1000".to_owned());
        let limit = query.get("limit").map(|it| limit(it).ok_or_else(wrong)).transpose()?;
        it.reasons(query.get("resource").map(String::as_str), limit.unwrap_or(100)).await
    };
    answer(done.await)
}

fn limit(text: &str) -> Option<i32> {
    text.parse().ok().filter(|limit| (1..=1000).contains(limit))
}

async fn undo(State(it): At, Query(query): Asked, body: Bytes) -> Response {
    let done = async {
        let fields = fields(&body)?;
        strict::only(&fields, "an undo", &strict::UNDO)?;
        let dry = is_dry(&query, &fields)?;
        let bulk = Some(words(&fields, "bulk")?).filter(|bulk| !bulk.is_empty());
        Ok(undone(&it.undo(bulk, dry).await?, dry))
    };
    accepted(done.await.map(Some))
}

/// The bulk action that is undone, or would be.
fn undone(bulk: &str, dry: bool) -> Value {
    let told = json!({ "bulk": bulk });
    if dry { would_be(told) } else { told }
}

/// What follows of it comes by the queue; the bulk action that it is about is told.
fn accepted(done: Done<Option<Value>>) -> Response {
    match done {
        Ok(None) => StatusCode::ACCEPTED.into_response(),
        Ok(Some(told)) => (StatusCode::ACCEPTED, Json(told)).into_response(),
        Err(refused) => answer(Err(refused)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_undo_that_is_only_tried_is_told_from_one_that_is_done() {
        assert_eq!(undone("tick 1", false), json!({ "bulk": "tick 1" }));
        let tried = json!({ "dryRun": true, "wouldBe": { "bulk": "tick 1" } });
        assert_eq!(undone("tick 1", true), tried);
    }

    #[test]
    fn the_end_of_an_override_says_nothing_but_that_it_is_a_dry_run() {
        let none = HashMap::new();
        assert!(!ends(&none, b"").unwrap() && ends(&none, br#"{"dry_run": true}"#).unwrap());
        for bad in [&br#"{"dryrun": true}"#[..], br#"{"scope": "tag/env"}"#] {
            assert!(matches!(ends(&none, bad), Err(Refused::Bad(_))));
        }
    }

    #[test]
    fn a_limit_that_is_out_of_its_range_is_refused() {
        assert_eq!((limit("1"), limit("1000")), (Some(1), Some(1000)));
        assert_eq!(["0", "-1", "1001", "many", ""].map(limit), [None; 5]);
    }
}
