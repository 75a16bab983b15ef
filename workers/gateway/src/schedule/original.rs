//! The requests of the original system, in its shapes.
//!
//! All are POST, take `{"data": {…}}` (or the fields themselves), and answer
//! `{"statusCode", "body"}`: `"Success"` or what was asked for, or 500 with `"Bad data format"`
//! and the reason beside it. The requests that the original listed and never had go by the same
//! rules. What changes something is only tried with `dry_run` in its data, and the registration, whose
//! data has a field of that name, with `?dry_run=true`: it is checked, and nothing is written.

use std::collections::HashMap;

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::post,
};
use schedule_executor::{
    message,
    rows::{ALL, Service},
};
use serde_json::{Value, json};

use super::{
    Schedules,
    ops::{self, Done, Refused, Source, flag, is_dry},
    v1,
};

type Asked = Query<HashMap<String, String>>;

/// `POST /context-…`, `POST /tag-…`, `POST /scheduler-…`.
pub fn router() -> Router<Schedules> {
    Router::new()
        .route("/context-{request}", post(context))
        .route("/tag-{request}", post(tag))
        .route("/scheduler-{request}", post(scheduler))
}

async fn context(
    State(schedules): State<Schedules>,
    Path(request): Path<String>,
    Query(query): Asked,
    body: Bytes,
) -> Response {
    let done = fields(&body, async |data| {
        let dry = tries(&request, &query, data)?;
        schedules.context_request(&request, data, dry).await
    });
    reply(done.await)
}

async fn tag(
    State(schedules): State<Schedules>,
    Path(request): Path<String>,
    Query(query): Asked,
    body: Bytes,
) -> Response {
    let done = fields(&body, async |data| {
        let dry = tries(&request, &query, data)?;
        schedules.tag_request(&request, data, dry).await
    });
    reply(done.await)
}

async fn scheduler(
    State(schedules): State<Schedules>,
    Path(request): Path<String>,
    Query(query): Asked,
    body: Bytes,
) -> Response {
    let running = match request.as_str() {
        "start" => true,
        "stop" => false,
        _ => return unknown().into_response(),
    };
    let body = if body.iter().all(u8::is_ascii_whitespace) { "{}".as_bytes() } else { &body };
    let done =
        fields(body, async |data| schedules.run(running, tries(&request, &query, data)?).await);
    reply(done.await.map(|_| success()))
}

impl Schedules {
    async fn context_request(&self, request: &str, data: &Value, dry: bool) -> Done<Value> {
        if request == "register" {
            return self.register_context(data, dry).await.map(|_| success());
        }
        let id = text(data, "contextID")?;
        let source = || Source::Context(id.to_owned());
        match request {
            "get" => return self.context_get(id, data).await,
            "unregister" => self.unregister_context(id, dry).await.map(drop),
            "scheduler-start" => self.schedule(&source(), true, dry).await.map(drop),
            "scheduler-stop" => self.schedule(&source(), false, dry).await.map(drop),
            "power-on" => self.power(&source(), true, dry).await.map(drop),
            "power-off" => self.power(&source(), false, dry).await.map(drop),
            "override" => self.set_override(&source(), data, dry).await.map(drop),
            "override-end" => self.end_override(&source(), dry).await,
            "resource-add" => {
                let scheduled = flag(data, "isScheduled")?;
                let attrib = ops::text(data, "attrib")?;
                let (service, resource) = (service(data)?, text(data, "id")?);
                let added = (scheduled, attrib);
                self.add_resource(id, (service, resource), added, dry).await.map(drop)
            }
            "resource-sub" => {
                let which = (service(data)?, text(data, "id")?);
                self.remove_resource(id, which, dry).await.map(drop)
            }
            _ => return Err(unknown_request()),
        }?;
        Ok(success())
    }

    async fn context_get(&self, id: &str, data: &Value) -> Done<Value> {
        match (text(data, "type")?, id) {
            ("context", ALL) => Ok(json!(self.store.contexts().await?.0)),
            ("context", id) => Ok(json!(self.context(id).await?)),
            ("resource", ALL) => Ok(Value::Array(self.store.all_resources().await?)),
            ("resource", id) => Ok(self.resources(id).await?.to_json()),
            _ => Err(Refused::Bad("`type` is neither `context` nor `resource`".to_owned())),
        }
    }

    async fn tag_request(&self, request: &str, data: &Value, dry: bool) -> Done<Value> {
        if request == "register" {
            return self.register_tag(data, dry).await.map(|_| success());
        }
        let key = text(data, "tagKey")?;
        let source = || Source::Tag(key.to_owned());
        match request {
            "get" if key == ALL => return Ok(json!(self.store.tags().await?.0)),
            "get" => return Ok(json!(self.tag(key).await?)),
            "unregister" => self.unregister_tag(key, dry).await.map(drop),
            "scheduler-start" => self.schedule(&source(), true, dry).await.map(drop),
            "scheduler-stop" => self.schedule(&source(), false, dry).await.map(drop),
            "power-on" => self.power(&source(), true, dry).await.map(drop),
            "power-off" => self.power(&source(), false, dry).await.map(drop),
            "override" => self.set_override(&source(), data, dry).await.map(drop),
            "override-end" => self.end_override(&source(), dry).await,
            "value-add" => self.add_value(key, text(data, "tagValue")?, dry).await.map(drop),
            "value-sub" => self.remove_value(key, text(data, "tagValue")?, dry).await.map(drop),
            _ => return Err(unknown_request()),
        }?;
        Ok(success())
    }
}

/// Reads the fields of a request: below `data`, or at the top.
async fn fields<T>(body: &[u8], answer: impl AsyncFnOnce(&Value) -> Done<T>) -> Done<T> {
    let request: Value =
        serde_json::from_slice(body).map_err(|why| Refused::Bad(why.to_string()))?;
    let data = request.get("data").unwrap_or(&request);
    // Beside the data, too: nobody says it there in vain.
    for fields in [&request, data] {
        message::misspelt(fields).map_err(Refused::Bad)?;
    }
    if !std::ptr::eq(data, &raw const request) && is_dry(&request)? {
        return Err(Refused::Bad("`dry_run` is to be told in `data`".to_owned()));
    }
    answer(data).await
}

/// Whether a request is only tried. In the data of a registration that is a field of what is registered,
/// all of which is only tried then.
fn tries(request: &str, query: &HashMap<String, String>, data: &Value) -> Done<bool> {
    let own = request != "register" && is_dry(data)?;
    Ok(v1::is_dry(query, &Value::Null)? | own)
}

fn text<'a>(data: &'a Value, field: &str) -> Done<&'a str> {
    let text = data.get(field).and_then(Value::as_str).filter(|text| !text.is_empty());
    text.ok_or_else(|| Refused::Bad(format!("`{field}` is missing, or no text")))
}

fn service(data: &Value) -> Done<Service> {
    let name = text(data, "resource")?;
    let known = Service::ALL.map(Service::name).join(", ");
    let wrong = format!("`resource`: {name:?} is no kind of resource: the kinds are {known}");
    Service::named(name).ok_or(Refused::Bad(wrong))
}

fn success() -> Value {
    json!("Success")
}

fn unknown_request() -> Refused {
    Refused::Missing("there is no such request".to_owned())
}

fn unknown() -> (StatusCode, Json<Value>) {
    let body = json!({ "statusCode": 404, "body": "there is no such request" });
    (StatusCode::NOT_FOUND, Json(body))
}

fn reply(done: Done<Value>) -> Response {
    let (status, body) = match done {
        Ok(body) => (StatusCode::OK, json!({ "statusCode": 200, "body": body })),
        Err(Refused::Bad(why)) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            json!({ "statusCode": 500, "body": "Bad data format", "reason": why }),
        ),
        Err(Refused::Missing(why)) => {
            (StatusCode::NOT_FOUND, json!({ "statusCode": 404, "body": why }))
        }
        Err(Refused::Down(why)) => {
            tracing::error!("{why}");
            let body = json!({ "statusCode": 503, "body": "a table or queue does not answer" });
            (StatusCode::SERVICE_UNAVAILABLE, body)
        }
    };
    (status, Json(body)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_dry_run_is_one_wherever_the_original_says_it_and_is_refused_if_misspelt() {
        let query = HashMap::new();
        let read = async |request: &str, body: &str| {
            let read = async |data: &Value| tries(request, &query, data);
            fields(body.as_bytes(), read).await.map_err(|_| ())
        };
        assert_eq!(read("stop", r#"{"data": {"contextID": "a", "note": "x"}}"#).await, Ok(false));
        for said in [r#"{"data": {"dry_run": true}}"#, r#"{"dryRun": true}"#] {
            assert_eq!(read("stop", said).await, Ok(true), "{said}");
            assert_eq!(read("register", said).await, Ok(false), "that is a field of a context");
        }
        for wrong in [
            r#"{"data": {}, "dry_run": true}"#,
            r#"{"data": {"dryrun": true}}"#,
            r#"{"dry-run": true, "data": {}}"#,
            r#"{"data": {"dry_run": "true"}}"#,
        ] {
            assert_eq!(read("stop", wrong).await, Err(()), "{wrong}");
        }
    }
}
