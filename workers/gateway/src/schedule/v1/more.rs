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
use schedule_executor::rows::Service;
use serde_json::{Value, json};

use super::{At, answer, fields, instant, is_dry, kind, nothing};
use crate::schedule::{
    Schedules,
    ops::{Done, Refused, Source, words},
    strict,
};

type Asked = Query<HashMap<String, String>>;

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

async fn put_scheduler(State(it): At, Json(body): Json<Value>) -> Response {
    answer(it.change_settings(&body).await)
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
    Json(body): Json<Value>,
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
    Json(body): Json<Value>,
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
        self.end_override(&source, is_dry(query, &fields(body)?)?).await
    }
}

async fn overrides(State(it): At, Query(query): Asked) -> Response {
    answer(it.all_overrides(query.get("scope").map(String::as_str)).await)
}

async fn end_scope(State(it): At, Query(query): Asked, body: Bytes) -> Response {
    let done = async {
        let missing =
            || Refused::Bad("`scope` must name one, as GET /v1/overrides does".to_owned());
        let scope = query.get("scope").ok_or_else(missing)?;
        it.end_scope(scope, is_dry(&query, &fields(&body)?)?).await
    };
    nothing(done.await)
}

type ResourcePath = Path<(String, String)>;

async fn get_resource(State(it): At, path: ResourcePath, Query(query): Asked) -> Response {
    answer(it.known(service(&path), &path.0.1, query.get("region")).await)
}

async fn put_resource(
    State(it): At,
    path: ResourcePath,
    Query(query): Asked,
    Json(body): Json<Value>,
) -> Response {
    let done = async {
        let fields = [&strict::OVERRIDE[..], &["timeZone"]].concat();
        strict::only(&body, "an override of a resource", &fields)?;
        let target = it.target(service(&path)?, &path.0.1, query.get("region"))?;
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
        let dry = is_dry(&query, &fields(&body)?)?;
        // By the name of its scope, or by its id.
        let scope = format!("{}/{}", path.0.0, path.0.1);
        let named = it.end_scope(&scope, dry).await;
        if matches!(path.0.0.as_str(), "context" | "tag")
            || !matches!(named, Err(Refused::Missing(_)))
        {
            return named;
        }
        let target = it.target(service(&path)?, &path.0.1, query.get("region"))?;
        it.end_resource_override(target, dry).await
    };
    nothing(done.await)
}

fn service(path: &ResourcePath) -> Done<Service> {
    kind(&path.0.0)
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
        let wrong = |_| Refused::Bad("`limit` must be a whole number from 1 to 1000".to_owned());
        let limit = query.get("limit").map(|it| it.parse::<i32>().map_err(wrong)).transpose()?;
        it.reasons(query.get("resource").map(String::as_str), limit.unwrap_or(100)).await
    };
    answer(done.await)
}

async fn undo(State(it): At, Query(query): Asked, body: Bytes) -> Response {
    let done = async {
        let fields = fields(&body)?;
        strict::only(&fields, "an undo", &strict::UNDO)?;
        let dry = is_dry(&query, &fields)?;
        let bulk = Some(words(&fields, "bulk")?).filter(|bulk| !bulk.is_empty());
        it.undo(bulk, dry).await
    };
    accepted(done.await.map(Some))
}

/// What follows of it comes by the queue; the bulk action that it is about is told.
fn accepted(done: Done<Option<String>>) -> Response {
    match done {
        Ok(None) => StatusCode::ACCEPTED.into_response(),
        Ok(Some(bulk)) => (StatusCode::ACCEPTED, Json(json!({ "bulk": bulk }))).into_response(),
        Err(refused) => answer(Err(refused)),
    }
}
