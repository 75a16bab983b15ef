//! The original service's answers.

use std::sync::Arc;

use anomaly_worker::reading::{Reading, check_id};
use axum::{
    Json,
    extract::State,
    http::{StatusCode, header::ACCESS_CONTROL_ALLOW_ORIGIN},
    response::{IntoResponse, Response},
};
use flotilla_runtime::Failure;
use futures::{StreamExt, TryStreamExt, stream};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Sensors,
    ask::{DeviceId, Params, ProblemId, Refused, check_problem_id},
};

/// The newest readings of a device in an answer of its own, and in a list.
const MEASUREMENTS: usize = 100;
const LISTED_MEASUREMENTS: usize = 10;
/// Rows of a page.
const PAGE: i32 = 1000;
/// Devices whose readings are asked for at a time.
const AT_A_TIME: usize = 16;

/// Where a page begins.
#[derive(Debug, Deserialize)]
pub(super) struct Page {
    /// The id at the end of the page before.
    after: Option<String>,
}

impl Page {
    fn checked(self, check: fn(&str) -> Result<(), String>) -> Result<Self, Refused> {
        let checked = self.after.as_deref().map_or(Ok(()), check);
        checked.map(|()| self).map_err(Refused::Bad)
    }
}

type Shared = State<Arc<Sensors>>;
type Asked = Result<Params<Page>, Refused>;

/// `GET /device/{id}`.
pub(super) async fn device(State(sensors): Shared, id: Result<DeviceId, Refused>) -> Response {
    match id {
        Ok(DeviceId(id)) => answer(item(sensors.device(&id, MEASUREMENTS).await)),
        Err(why) => refuse(why),
    }
}

/// `GET /device/scan`: all devices, by pages.
pub(super) async fn devices(State(sensors): Shared, page: Asked) -> Response {
    match page.and_then(|Params(page)| page.checked(check_id)) {
        Ok(page) => answer(sensors.all_devices(page).await),
        Err(why) => refuse(why),
    }
}

/// `GET /problem/{id}`: the latest episode.
pub(super) async fn problem(State(sensors): Shared, id: Result<ProblemId, Refused>) -> Response {
    let ProblemId(id) = match id {
        Ok(id) => id,
        Err(why) => return refuse(why),
    };
    let problem = sensors.problems.latest(&id).await;
    answer(item(problem.map(|it| it.map(|it| json!(it)))))
}

/// `GET /problem/scan`: the latest episode of every problem, by pages.
pub(super) async fn problems(State(sensors): Shared, page: Asked) -> Response {
    let page = match page.and_then(|Params(page)| page.checked(check_problem_id)) {
        Ok(page) => page,
        Err(why) => return refuse(why),
    };
    let found = sensors.problems.page(page.after.as_deref(), PAGE).await;
    answer(found.map(|(problems, last)| {
        let last = last.map(|id| json!({ "problem_id": id }));
        (StatusCode::OK, items(problems.into_iter().map(|it| json!(it)).collect(), last))
    }))
}

impl Sensors {
    async fn device(&self, id: &str, limit: usize) -> Result<Option<Value>, Failure> {
        let readings = self.readings.newest(id, limit, self.config.lateness).await?;
        Ok(shape(id, &readings))
    }

    async fn all_devices(&self, page: Page) -> Result<(StatusCode, Value), Failure> {
        let (ids, last) = self.devices.page(page.after.as_deref(), PAGE).await?;
        let rows: Vec<_> = ids.iter().map(|id| self.device(id, LISTED_MEASUREMENTS)).collect();
        let rows: Vec<_> = stream::iter(rows).buffered(AT_A_TIME).try_collect().await?;
        // A device is registered a moment before its first reading is stored.
        let rows = rows.into_iter().flatten().collect();
        Ok((StatusCode::OK, items(rows, last.map(|id| json!({ "id": id })))))
    }
}

/// A device with its readings, the newest last; none without readings.
fn shape(id: &str, readings: &[Reading]) -> Option<Value> {
    let last = readings.last()?;
    let measurement =
        |it: &Reading| json!({ "filling": it.filling.to_string(), "dt": it.at / 1000 });
    Some(json!({
        "id": id,
        "last_value": last.filling.to_string(),
        "last_update": last.at / 1000,
        "measurements": readings.iter().map(measurement).collect::<Vec<_>>(),
    }))
}

fn item(found: Result<Option<Value>, Failure>) -> Result<(StatusCode, Value), Failure> {
    Ok(match found? {
        Some(item) => (StatusCode::OK, json!({ "Item": item })),
        None => (StatusCode::NOT_FOUND, json!({})),
    })
}

fn items(items: Vec<Value>, last: Option<Value>) -> Value {
    let count = items.len();
    let mut answer = json!({ "Items": items, "Count": count, "ScannedCount": count });
    if let Some(last) = last {
        answer["LastEvaluatedKey"] = last;
    }
    answer
}

/// What cannot be asked, beside the original's `status`.
fn refuse(why: Refused) -> Response {
    let Refused::Bad(why) = why else { return why.into_response() };
    let body = json!({ "status": false, "error": why });
    (StatusCode::BAD_REQUEST, [(ACCESS_CONTROL_ALLOW_ORIGIN, "*")], Json(body)).into_response()
}

fn answer(found: Result<(StatusCode, Value), Failure>) -> Response {
    let (status, body) = found.unwrap_or_else(|failure| {
        tracing::error!(kind = failure.kind(), "{failure}");
        (StatusCode::INTERNAL_SERVER_ERROR, json!({ "status": false }))
    });
    (status, [(ACCESS_CONTROL_ALLOW_ORIGIN, "*")], Json(body)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_has_the_shape_of_the_original() {
        let reading = |at, filling| Reading { at, filling, seq: None };
        let shape =
            shape("01", &[reading(1_658_274_939_000, 100.0), reading(1_658_274_999_999, 37.5)]);
        let wanted = r#"{"id":"01","last_update":1658274999,"last_value":"37.5","measurements":[
            {"dt":1658274939,"filling":"100"},{"dt":1658274999,"filling":"37.5"}]}"#;
        assert_eq!(shape, serde_json::from_str(wanted).unwrap());
    }
}
