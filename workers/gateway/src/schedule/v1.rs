//! Contexts, tags and the scheduler as resources.

pub(super) mod more;
mod said;

use std::collections::HashMap;

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, Query, State},
    http::{HeaderValue, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, post, put},
};
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use schedule_executor::{
    rows::{Service, attrib},
    schedule::zone,
};
use serde_json::{Value, json};

pub(super) use self::said::{Said, fields, instant, is_dry, parameters, tries};
use super::{
    Schedules,
    ops::{Done, Refused, Source, flag, text},
    strict,
    tried::{Came, would_be},
};

pub(super) type At = State<Schedules>;
/// What the address asks for.
pub(super) type Asked = Query<HashMap<String, String>>;

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

async fn order_all(
    State(it): At,
    Path(order): Path<String>,
    Query(query): Asked,
    body: Bytes,
) -> Response {
    let running = match order.as_str() {
        "start" => true,
        "stop" => false,
        _ => return answer(Err(unknown())),
    };
    let done = async { it.run(running, tries(&query, &body)?).await };
    match done.await {
        Ok(None) => answer(Ok(json!({ "running": running }))),
        tried => came(tried),
    }
}

async fn contexts(State(it): At) -> Response {
    answer(it.store.contexts().await.map(|all| list("contexts", all)).map_err(Refused::from))
}

async fn context(State(it): At, Path(id): Path<String>) -> Response {
    answer(it.context(&id).await.map(row))
}

/// `dry_run` in the body is the context's own field: to try the request alone is asked for in the address.
async fn put_context(
    State(it): At,
    Path(id): Path<String>,
    Query(query): Asked,
    Said(body): Said,
) -> Response {
    let request = keyed(body, "contextID", id.clone());
    let done = async {
        let dry = is_dry(&query, &Value::Null)?;
        strict::context(&request)?;
        it.told_override(&Source::Context(id), &request).await?;
        it.register_context(&request, dry).await.map(|it| registered(it, dry))
    };
    answer(done.await)
}

async fn delete_context(
    State(it): At,
    Path(id): Path<String>,
    Query(query): Asked,
    body: Bytes,
) -> Response {
    let done = async { it.unregister_context(&id, tries(&query, &body)?).await };
    came(done.await)
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
    Query(query): Asked,
    body: Bytes,
) -> Response {
    let done = async {
        let service = kind(&service)?;
        let fields = fields(&body)?;
        strict::only(&fields, "a resource of a context", &strict::RESOURCE)?;
        let (scheduled, attrib) = (flag(&fields, "isScheduled")?, text(&fields, "attrib")?);
        attrib::check(service, attrib.unwrap_or_default()).map_err(Refused::Bad)?;
        let dry = is_dry(&query, &fields)?;
        it.add_resource(&id, (service, &resource), (scheduled, attrib), dry).await
    };
    came(done.await)
}

async fn delete_resource(
    State(it): At,
    Path((id, service, resource)): ResourcePath,
    Query(query): Asked,
    body: Bytes,
) -> Response {
    let done = async {
        let dry = tries(&query, &body)?;
        it.remove_resource(&id, (kind(&service)?, &resource), dry).await
    };
    came(done.await)
}

async fn tags(State(it): At) -> Response {
    answer(it.store.tags().await.map(|all| list("tags", all)).map_err(Refused::from))
}

async fn tag(State(it): At, Path(key): Path<String>) -> Response {
    answer(it.tag(&key).await.map(row))
}

async fn put_tag(
    State(it): At,
    Path(key): Path<String>,
    Query(query): Asked,
    Said(body): Said,
) -> Response {
    let request = keyed(body, "tagKey", key.clone());
    let done = async {
        let dry = is_dry(&query, &Value::Null)?;
        strict::tag(&request)?;
        it.told_override(&Source::Tag(key), &request).await?;
        it.register_tag(&request, dry).await.map(|it| registered(it, dry))
    };
    answer(done.await)
}

async fn delete_tag(
    State(it): At,
    Path(key): Path<String>,
    Query(query): Asked,
    body: Bytes,
) -> Response {
    let done = async { it.unregister_tag(&key, tries(&query, &body)?).await };
    came(done.await)
}

type ValuePath = Path<(String, String)>;

async fn put_value(
    State(it): At,
    Path((key, value)): ValuePath,
    Query(query): Asked,
    body: Bytes,
) -> Response {
    let done = async { it.add_value(&key, &value, tries(&query, &body)?).await };
    came(done.await)
}

async fn delete_value(
    State(it): At,
    Path((key, value)): ValuePath,
    Query(query): Asked,
    body: Bytes,
) -> Response {
    let done = async { it.remove_value(&key, &value, tries(&query, &body)?).await };
    came(done.await)
}

type OrderPath = Path<(String, String, String)>;

async fn order_context(
    State(it): At,
    Path((id, what, order)): OrderPath,
    Query(query): Asked,
    body: Bytes,
) -> Response {
    it.ordered(Source::Context(id), (&what, &order), &query, &body).await
}

async fn order_tag(
    State(it): At,
    Path((key, what, order)): OrderPath,
    Query(query): Asked,
    body: Bytes,
) -> Response {
    it.ordered(Source::Tag(key), (&what, &order), &query, &body).await
}

async fn preview_context(State(it): At, Path(id): Path<String>, Query(query): Asked) -> Response {
    answer(it.asked_preview(Source::Context(id), &query).await)
}

async fn preview_tag(State(it): At, Path(key): Path<String>, Query(query): Asked) -> Response {
    answer(it.asked_preview(Source::Tag(key), &query).await)
}

impl Schedules {
    async fn ordered(
        &self,
        source: Source,
        order: (&str, &str),
        query: &HashMap<String, String>,
        body: &Bytes,
    ) -> Response {
        let done = async {
            let fields = fields(body)?;
            strict::only(&fields, "an order", &strict::DRY)?;
            self.order(source, order, is_dry(query, &fields)?).await
        };
        done.await.unwrap_or_else(|refused| nothing(Err(refused)))
    }

    async fn order(&self, source: Source, order: (&str, &str), dry: bool) -> Done<Response> {
        match order {
            ("scheduler", "start") => {
                self.schedule(&source, true, dry).await.map(|it| came(Ok(it)))
            }
            ("scheduler", "stop") => {
                self.schedule(&source, false, dry).await.map(|it| came(Ok(it)))
            }
            ("power", "on") => self.power(&source, true, dry).await.map(|it| switched(&it, dry)),
            ("power", "off") => self.power(&source, false, dry).await.map(|it| switched(&it, dry)),
            (what, _) => Err(unknown_of(what)),
        }
    }

    /// From now on for a week, where the request does not tell; dates are those of its zone.
    async fn asked_preview(&self, source: Source, query: &HashMap<String, String>) -> Done<Value> {
        let zone = self.clock(&source).await?;
        let from = instant(query, "from", &zone)?.unwrap_or_else(Timestamp::now);
        let week =
            || from.checked_add(SignedDuration::from_hours(7 * 24)).unwrap_or(Timestamp::MAX);
        let to = instant(query, "to", &zone)?.unwrap_or_else(week);
        self.preview(&source, from, to).await
    }

    /// The zone of a context or tag.
    pub(super) async fn clock(&self, source: &Source) -> Done<TimeZone> {
        let name = self.scheduling(source).await?.zone;
        zone(&name).map_err(|why| Refused::Bad(why.to_string()))
    }
}

/// A context or a tag that was registered, or would be.
fn registered(it: impl serde::Serialize, dry: bool) -> Value {
    if dry { would_be(row(it)) } else { row(it) }
}

/// What was switched by hand, or would be: the audit tells what is only tried under the same name.
fn switched(bulk: &str, dry: bool) -> Response {
    if dry { answer(Ok(would_be(json!({ "bulk": bulk })))) } else { named(bulk) }
}

/// The name of a bulk action in a header: there is nothing else to tell.
fn named(bulk: &str) -> Response {
    let mut response = nothing(Ok(()));
    if let Ok(bulk) = HeaderValue::from_str(bulk) {
        response.headers_mut().insert("flotilla-bulk", bulk);
    }
    response
}

/// A context or a tag as it is told: without an override that is over.
fn row(it: impl serde::Serialize) -> Value {
    let mut row = json!(it);
    let until = row["override"]["until"].as_i64();
    if let (Some(fields), Some(until)) = (row.as_object_mut(), until)
        && until <= Timestamp::now().as_second()
    {
        fields.remove("override");
    }
    row
}

/// Rows, and the names of those that cannot be read where there are any.
fn list(name: &str, (rows, unreadable): (impl serde::Serialize, Vec<String>)) -> Value {
    match unreadable.is_empty() {
        true => json!({ name: rows }),
        false => json!({ name: rows, "unreadable": unreadable }),
    }
}

fn keyed(mut body: Value, key: &str, value: String) -> Value {
    if let Some(fields) = body.as_object_mut() {
        fields.insert(key.to_owned(), Value::String(value));
    }
    body
}

/// A kind of resource by its name in a path.
pub(super) fn kind(name: &str) -> Done<Service> {
    Service::named(name).ok_or_else(|| {
        let known = Service::ALL.map(Service::name).join(", ");
        Refused::Missing(format!("{name:?} is no kind of resource: the kinds are {known}"))
    })
}

pub(super) fn unknown() -> Refused {
    Refused::Missing("there is no such resource or order".to_owned())
}

/// An order that there is not, of those that there are.
fn unknown_of(what: &str) -> Refused {
    match what {
        "power" => Refused::Missing("there is no such order: power is on or off".to_owned()),
        "scheduler" => {
            Refused::Missing("there is no such order: scheduler is start or stop".to_owned())
        }
        _ => unknown(),
    }
}

pub(super) fn nothing(done: Done<()>) -> Response {
    match done {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(refused) => answer(Err(refused)),
    }
}

/// Nothing, or what would be.
pub(super) fn came(done: Done<Came>) -> Response {
    match done {
        Ok(Some(row)) => answer(Ok(would_be(row))),
        other => nothing(other.map(drop)),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_that_there_is_not_is_refused_with_those_that_there_are() {
        for (what, words) in [("power", "on or off"), ("scheduler", "start or stop")] {
            let Refused::Missing(said) = unknown_of(what) else { panic!("it is missing") };
            assert!(said.contains(words), "{said}");
        }
    }

    #[tokio::test]
    async fn what_is_switched_by_hand_is_told_from_what_would_be() {
        let done = switched("STOP context/web 1", false);
        assert_eq!(done.status(), StatusCode::NO_CONTENT);
        let tried = switched("STOP context/web 1", true);
        assert_eq!(tried.status(), StatusCode::OK);
        let body = axum::body::to_bytes(tried.into_body(), 1000).await.unwrap();
        let told: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(told, json!({"dryRun": true, "wouldBe": {"bulk": "STOP context/web 1"}}));
    }

    #[test]
    fn an_override_that_is_over_is_not_told() {
        let told = |until: i64| row(json!({"override": {"until": until}}))["override"].clone();
        assert_eq!((told(1), told(i64::MAX).is_null()), (Value::Null, false));
    }
}
