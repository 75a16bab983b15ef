//! Contexts, tags and the scheduler as resources.

pub(super) mod more;

use std::collections::HashMap;

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post, put},
};
use jiff::Timestamp;
use schedule_executor::rows::Service;
use serde_json::{Value, json};

use super::{
    Schedules,
    ops::{Done, Refused, Source},
};

pub(super) type At = State<Schedules>;

/// Contexts, tags, and the orders to them and to the scheduler.
pub fn router() -> Router<Schedules> {
    let context = get(context).put(put_context).delete(delete_context);
    let tag = get(tag).put(put_tag).delete(delete_tag);
    let resource = put(put_resource).delete(delete_resource);
    Router::new()
        .route("/v1/scheduler/{order}", post(order_all))
        .route("/v1/contexts", get(contexts))
        .route("/v1/contexts/{id}", context)
        .route("/v1/contexts/{id}/resources", get(resources))
        .route("/v1/contexts/{id}/resources/{service}/{*resource}", resource)
        .route("/v1/contexts/{id}/preview", get(preview_context))
        .route("/v1/contexts/{id}/{what}/{order}", post(order_context))
        .route("/v1/tags", get(tags))
        .route("/v1/tags/{key}", tag)
        .route("/v1/tags/{key}/values/{value}", put(put_value).delete(delete_value))
        .route("/v1/tags/{key}/preview", get(preview_tag))
        .route("/v1/tags/{key}/{what}/{order}", post(order_tag))
}

async fn order_all(State(it): At, Path(order): Path<String>) -> Response {
    let running = match order.as_str() {
        "start" => true,
        "stop" => false,
        _ => return answer(Err(unknown())),
    };
    let done = it.store.set_running(running).await;
    answer(done.map(|()| json!({ "running": running })).map_err(Refused::from))
}

async fn contexts(State(it): At) -> Response {
    answer(it.store.contexts().await.map(|all| json!({ "contexts": all })).map_err(Refused::from))
}

async fn context(State(it): At, Path(id): Path<String>) -> Response {
    answer(it.context(&id).await.map(|context| json!(context)))
}

async fn put_context(State(it): At, Path(id): Path<String>, body: Json<Value>) -> Response {
    let request = keyed(body, "contextID", id);
    answer(it.register_context(&request).await.map(|context| json!(context)))
}

async fn delete_context(State(it): At, Path(id): Path<String>) -> Response {
    nothing(it.unregister_context(&id).await)
}

async fn resources(State(it): At, Path(id): Path<String>) -> Response {
    let lists = it.resources(&id).await.map(|row| {
        let lists = row.lists.iter().map(|(service, list)| (service.name(), list));
        json!({ "contextID": row.context, "resources": lists.collect::<HashMap<_, _>>() })
    });
    answer(lists)
}

type ResourcePath = Path<(String, String, String)>;

async fn put_resource(
    State(it): At,
    Path((id, service, resource)): ResourcePath,
    body: Bytes,
) -> Response {
    // The body may be left out, and so may each field in it.
    let fields: Value = serde_json::from_slice(&body).unwrap_or_default();
    let scheduled = fields["isScheduled"].as_bool().unwrap_or(true);
    let attrib = fields["attrib"].as_str().unwrap_or_default();
    let done = match Service::named(&service) {
        Some(service) => it.add_resource(&id, service, &resource, scheduled, attrib).await,
        None => Err(unknown()),
    };
    nothing(done)
}

async fn delete_resource(State(it): At, Path((id, service, resource)): ResourcePath) -> Response {
    let done = match Service::named(&service) {
        Some(service) => it.remove_resource(&id, service, &resource).await,
        None => Err(unknown()),
    };
    nothing(done)
}

async fn tags(State(it): At) -> Response {
    answer(it.store.tags().await.map(|all| json!({ "tags": all })).map_err(Refused::from))
}

async fn tag(State(it): At, Path(key): Path<String>) -> Response {
    answer(it.tag(&key).await.map(|tag| json!(tag)))
}

async fn put_tag(State(it): At, Path(key): Path<String>, body: Json<Value>) -> Response {
    let request = keyed(body, "tagKey", key);
    answer(it.register_tag(&request).await.map(|tag| json!(tag)))
}

async fn delete_tag(State(it): At, Path(key): Path<String>) -> Response {
    nothing(it.unregister_tag(&key).await)
}

async fn put_value(State(it): At, Path((key, value)): Path<(String, String)>) -> Response {
    nothing(it.add_value(&key, &value).await)
}

async fn delete_value(State(it): At, Path((key, value)): Path<(String, String)>) -> Response {
    nothing(it.remove_value(&key, &value).await)
}

async fn order_context(
    State(it): At,
    Path((id, what, order)): Path<(String, String, String)>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    nothing(it.order(Source::Context(id), &what, &order, is_dry(&query)).await)
}

async fn order_tag(
    State(it): At,
    Path((key, what, order)): Path<(String, String, String)>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    nothing(it.order(Source::Tag(key), &what, &order, is_dry(&query)).await)
}

async fn preview_context(
    State(it): At,
    Path(id): Path<String>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    answer(it.asked_preview(Source::Context(id), &query).await)
}

async fn preview_tag(
    State(it): At,
    Path(key): Path<String>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    answer(it.asked_preview(Source::Tag(key), &query).await)
}

impl Schedules {
    async fn order(&self, source: Source, what: &str, order: &str, dry: bool) -> Done<()> {
        match (what, order) {
            ("scheduler", _) if dry => Err(Refused::Bad("only `power` has a dry run".to_owned())),
            ("scheduler", "start") => self.schedule(&source, true).await,
            ("scheduler", "stop") => self.schedule(&source, false).await,
            ("power", "on") => self.power(&source, true, dry).await,
            ("power", "off") => self.power(&source, false, dry).await,
            _ => Err(unknown()),
        }
    }

    async fn asked_preview(&self, source: Source, query: &HashMap<String, String>) -> Done<Value> {
        let (from, to) = (instant(query, "from")?, instant(query, "to")?);
        self.preview(&source, from, to).await
    }
}

/// Whether `?dry_run=true` is asked for.
pub(super) fn is_dry(query: &HashMap<String, String>) -> bool {
    query.get("dry_run").is_some_and(|it| matches!(it.as_str(), "true" | "1" | ""))
}

/// `2026-06-01T08:00:00Z`, with any offset.
pub(super) fn instant(query: &HashMap<String, String>, name: &str) -> Done<Timestamp> {
    let text = query.get(name).map(String::as_str).unwrap_or_default();
    // An unescaped plus arrives as a space.
    let text = text.replace(' ', "+");
    text.parse().map_err(|_| {
        let what = format!("`{name}` must be an instant such as 2026-06-01T08:00:00Z");
        Refused::Bad(what)
    })
}

fn keyed(Json(mut body): Json<Value>, key: &str, value: String) -> Value {
    if let Some(fields) = body.as_object_mut() {
        fields.insert(key.to_owned(), Value::String(value));
    }
    body
}

pub(super) fn unknown() -> Refused {
    Refused::Missing("there is no such resource or order".to_owned())
}

pub(super) fn nothing(done: Done<()>) -> Response {
    match done {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(refused) => answer(Err(refused)),
    }
}

pub(super) fn answer(done: Done<Value>) -> Response {
    let (status, why) = match done {
        Ok(body) => return Json(body).into_response(),
        Err(Refused::Bad(why)) => (StatusCode::BAD_REQUEST, why),
        Err(Refused::Missing(why)) => (StatusCode::NOT_FOUND, why),
        Err(Refused::Down(why)) => {
            tracing::error!("{why}");
            (StatusCode::SERVICE_UNAVAILABLE, "a table or queue does not answer".to_owned())
        }
    };
    (status, Json(json!({ "error": why }))).into_response()
}
